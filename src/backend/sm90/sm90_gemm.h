// SPDX-License-Identifier: MIT
// sm90_gemm.h - launching a planned GEMM, and the state that it needs.
#ifndef DG_SM90_GEMM_H
#define DG_SM90_GEMM_H

#include "backend/backend.h"
#include "backend/sm90/sm90_kernel.h"
#include "base/memo.h"
#include "cuda/context.h"
#include "cuda/tensor_map.h"

#include <stdatomic.h>

enum { DG_SM90_KNOWN_POINTERS = 512 };

// One open device.  Any number of threads may use it.
struct dg_sm90_state {
    struct dg_cuda_context context;
    struct dg_device device;
    struct dg_jit *jit;
    struct dg_tensor_map_cache *maps;
    struct dg_memo *launches; // complete calls and what was launched for them
    struct dg_log log;
    // Pointers that were seen to be memory of this device; asking the driver costs 0.2 us each.
    _Atomic uintptr_t known[DG_SM90_KNOWN_POINTERS];
};

// Both want the device's context current (dg_cuda_enter).
dg_status dg_sm90_prepare(struct dg_sm90_state *state, const struct dg_problem *problem,
                          const struct dg_plan *plan);
dg_status dg_sm90_gemm(struct dg_sm90_state *state, const struct dg_problem *problem,
                       const struct dg_plan *plan, const struct dg_gemm_args *args);
// k == 0: D = C or zeros.
dg_status dg_sm90_fill(struct dg_sm90_state *state, const struct dg_problem *problem,
                       const struct dg_gemm_args *args);

// For open and close: the memory of launches; NULL when there is no memory.
struct dg_memo *dg_sm90_launches_create(void);

#endif
