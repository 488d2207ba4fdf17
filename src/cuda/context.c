// SPDX-License-Identifier: MIT
// context.c - current and primary contexts, and whose memory a pointer is.
#include "cuda/context.h"

#include <stdio.h>

// The device of this thread's current context; 0 when there is none.
static int device_of_current(const struct dg_cuda *cuda, CUdevice *device)
{
    CUcontext current = NULL;
    return cuda->cuCtxGetCurrent(&current) == CUDA_SUCCESS && current &&
           cuda->cuCtxGetDevice(device) == CUDA_SUCCESS;
}

// Handles of devices are ordinals in every driver so far, but the API does not promise it.
static int ordinal_of(const struct dg_cuda *cuda, CUdevice device)
{
    for (int ordinal = 0; ordinal < cuda->num_devices; ordinal++) {
        CUdevice handle;
        if (cuda->cuDeviceGet(&handle, ordinal) == CUDA_SUCCESS && handle == device)
            return ordinal;
    }
    return 0;
}

dg_status dg_cuda_context_open(struct dg_cuda_context *context, const struct dg_cuda *cuda,
                               int ordinal)
{
    CUdevice device;
    if (ordinal == -1)
        ordinal = device_of_current(cuda, &device) ? ordinal_of(cuda, device) : 0;
    if (ordinal < 0 || ordinal >= cuda->num_devices)
        return dg_fail(DG_INVALID_ARGUMENT, "device = %d: must be -1 or 0 to %d", ordinal,
                       cuda->num_devices - 1);
    DG_CUDA_TRY(cuda->cuDeviceGet(&device, ordinal), "opening CUDA device %d", ordinal);
    *context = (struct dg_cuda_context){
        .cuda = cuda, .device = device, .ordinal = ordinal, .lock = PTHREAD_MUTEX_INITIALIZER};
    return DG_OK;
}

void dg_cuda_context_close(struct dg_cuda_context *context)
{
    if (!context->cuda)
        return;
    if (context->primary)
        context->cuda->cuDevicePrimaryCtxRelease(context->device);
    pthread_mutex_destroy(&context->lock);
    *context = (struct dg_cuda_context){0};
}

static CUresult retain_primary(struct dg_cuda_context *context, CUcontext *primary)
{
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&context->lock);
    if (!context->primary)
        result = context->cuda->cuDevicePrimaryCtxRetain(&context->primary, context->device);
    *primary = context->primary;
    pthread_mutex_unlock(&context->lock);
    return result;
}

dg_status dg_cuda_enter(struct dg_cuda_context *context, struct dg_cuda_scope *scope)
{
    CUdevice device;
    scope->pushed = 0;
    if (device_of_current(context->cuda, &device) && device == context->device)
        return DG_OK;
    CUcontext primary;
    DG_CUDA_TRY(retain_primary(context, &primary), "taking the primary context of CUDA device %d",
                context->ordinal);
    DG_CUDA_TRY(context->cuda->cuCtxPushCurrent(primary),
                "making the primary context of CUDA device %d current", context->ordinal);
    scope->pushed = 1;
    return DG_OK;
}

void dg_cuda_leave(struct dg_cuda_context *context, const struct dg_cuda_scope *scope)
{
    CUcontext popped;
    if (scope->pushed)
        context->cuda->cuCtxPopCurrent(&popped);
}

dg_status dg_cuda_check_pointer(const struct dg_cuda_context *context, const void *pointer,
                                const char *name)
{
    if (!pointer)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.data = NULL: must be memory of CUDA device %d",
                       name, context->ordinal);
    unsigned int memory_type = 0, is_managed = 0;
    int ordinal = -1;
    CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                        CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    void *values[] = {&memory_type, &is_managed, &ordinal};
    DG_CUDA_TRY(context->cuda->cuPointerGetAttributes(3, attributes, values,
                                                      (CUdeviceptr)(uintptr_t)pointer),
                "%s.data = %p: asking whose memory it is", name, pointer);
    if (is_managed || (memory_type == CU_MEMORYTYPE_DEVICE && ordinal == context->ordinal))
        return DG_OK;
    if (memory_type == CU_MEMORYTYPE_DEVICE)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s.data = %p: lies on CUDA device %d, but the context works on device %d",
                       name, pointer, ordinal, context->ordinal);
    return dg_fail(DG_INVALID_ARGUMENT,
                   "%s.data = %p: is host memory; must be memory of CUDA device %d (a context with "
                   "backend \"cpu\" takes host memory)",
                   name, pointer, context->ordinal);
}
