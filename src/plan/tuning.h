// SPDX-License-Identifier: MIT
// tuning.h - measured winners for problems on devices, read from text:
//
//     deepgemm-tuning 1
//     NVIDIA H100 80GB HBM3, 132 SMs | fp8_gemm_nt m=64 n=2112 k=7168 | 64x16 stages=16 ... | 8.1 us, ...
//
// Device and its SMs in use, problem, name of the candidate; what follows is for people.  `m=65..128` in
// a problem stands for each of these m.  `#` begins a comment.  Of two lines for a problem the later counts.
#ifndef DG_PLAN_TUNING_H
#define DG_PLAN_TUNING_H

#include "deepgemm.h"
#include "plan/device.h"

struct dg_tuning;

// Reads a table.  `source` is named in errors, which give the line: "tuned.txt:3: ...".
dg_status dg_tuning_parse(const char *source, const char *text, struct dg_tuning **tuning);
void dg_tuning_destroy(struct dg_tuning *tuning); // NULL is allowed

// The name of the candidate to run a complete problem, borrowed from the table; NULL when the device's table
// (which may be NULL) has none.
const char *dg_tuning_find(const struct dg_device *device, const struct dg_problem *problem);

#endif
