// SPDX-License-Identifier: MIT
// context.h - an executor with its settings, and the plan of a problem on it.
#ifndef DG_API_CONTEXT_H
#define DG_API_CONTEXT_H

#include "api/plan_memo.h"
#include "backend/backend.h"

#include <stdatomic.h>

struct dg_context {
    const struct dg_backend *backend;
    void *state;
    struct dg_device device; // as opened; the bound on SMs and the tuning table are below
    _Atomic int32_t num_sms;
    _Atomic(struct dg_tuning_link *) tuning; // tuning.c
    uint32_t gemm_flags;
    bool checks_layouts; // $DG_DEBUG_LAYOUTS
    struct dg_log log;
    struct dg_memo *memo;
};

// A context on this very backend, whatever the environment says.  `options` is complete.
dg_status dg_context_open(dg_context **context, const struct dg_backend *backend,
                          const struct dg_context_options *options);

// The device as plans see it now.
struct dg_device dg_context_device(dg_context *context);

// The plan of a complete problem (plan/problem.h).
dg_status dg_context_plan(dg_context *context, const struct dg_problem *problem,
                          struct dg_plan *plan);
// Whether options.workspace_bytes is as much as the plan needs.
dg_status dg_context_check_workspace(const struct dg_plan *plan, size_t workspace_bytes);

// tuning.c: the table in use, NULL without one; the one that the options ask for; the end of all.
const struct dg_tuning *dg_context_tuning(dg_context *context);
dg_status dg_context_load_tuning(dg_context *context, const struct dg_context_options *options);
void dg_context_forget_tuning(dg_context *context);

// DG_INVALID_ARGUMENT for DG_GEMM_... bits that do not exist or miss another; `name` is the argument's.
dg_status dg_check_gemm_flags(const char *name, uint32_t flags);

// Copies a caller's options struct over `defaults`, whichever version of the header it was built
// with: fields it lacks keep their default, fields that we lack must be 0.  Both structs begin with
// their size.
dg_status dg_options_read(const char *name, const void *options, void *defaults, size_t size);

#endif
