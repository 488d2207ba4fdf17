// SPDX-License-Identifier: MIT
// contexts.h - opening a context in a test.
#ifndef DG_TESTS_CONTEXTS_H
#define DG_TESTS_CONTEXTS_H

#include "deepgemm.h"

// isa NULL: the best one; 0 threads: as many as there are.  NULL: dg_last_error() says why not.
static inline dg_context *open_context(const char *backend, const char *isa, int threads)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.backend = backend;
    options.cpu_isa = isa;
    options.num_threads = threads;
    dg_context *context;
    return dg_context_create(&context, &options) ? NULL : context;
}

#endif
