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
    struct dg_device device; // as opened; the bound on SMs is num_sms below
    _Atomic int32_t num_sms;
    struct dg_log log;
    struct dg_memo *memo;
};

// A context on this very backend, whatever the environment says.  `options` is complete.
dg_status dg_context_open(dg_context **context, const struct dg_backend *backend,
                          const struct dg_context_options *options);

// The plan of a complete problem (plan/problem.h).
dg_status dg_context_plan(dg_context *context, const struct dg_problem *problem,
                          struct dg_plan *plan);

// Copies a caller's options struct over `defaults`, whichever version of the header it was built
// with: fields it lacks keep their default, fields that we lack must be 0.  Both structs begin with
// their size.
dg_status dg_options_read(const char *name, const void *options, void *defaults, size_t size);

#endif
