// SPDX-License-Identifier: MIT
// context.h - which CUDA context a call works in: the caller's current one if it belongs to our device,
// else the device's primary context, made current for the length of the call and then taken away again.
//
//     struct dg_cuda_scope scope;
//     DG_TRY(dg_cuda_enter(&context, &scope));
//     ... no early return ...
//     dg_cuda_leave(&context, &scope);
#ifndef DG_CUDA_CONTEXT_H
#define DG_CUDA_CONTEXT_H

#include "cuda/driver.h"

#include <pthread.h>

struct dg_cuda_context {
    const struct dg_cuda *cuda;
    CUdevice device;
    int ordinal;
    CUcontext primary; // retained at the first need: a caller with its own context pays nothing
    pthread_mutex_t lock;
};

struct dg_cuda_scope {
    int pushed;
};

// ordinal -1: the device of the calling thread's current context, else 0.
dg_status dg_cuda_context_open(struct dg_cuda_context *context, const struct dg_cuda *cuda,
                               int ordinal);
// Gives the primary context back.  A zeroed struct is allowed.
void dg_cuda_context_close(struct dg_cuda_context *context);

dg_status dg_cuda_enter(struct dg_cuda_context *context, struct dg_cuda_scope *scope);
void dg_cuda_leave(struct dg_cuda_context *context, const struct dg_cuda_scope *scope);

// DG_INVALID_ARGUMENT unless `pointer` is memory of this device (or managed memory).  `name` is the
// argument's name for the text.  Needs no current context; costs about a tenth of a microsecond.
dg_status dg_cuda_check_pointer(const struct dg_cuda_context *context, const void *pointer,
                                const char *name);

#endif
