// SPDX-License-Identifier: MIT
// fake_cuda.h - a CUDA driver of our own for tests: two H100s, contexts as numbers, and counters of what
// was asked of it.  State is per program; tests reset it.
#ifndef DG_TESTS_FAKE_CUDA_H
#define DG_TESTS_FAKE_CUDA_H

#include "cuda/driver.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct {
    CUcontext current; // of the one thread that uses contexts
    CUcontext pushed;  // what stood below
    int num_pushes, num_pops, num_retains, num_releases;
    atomic_int num_encodes, num_loads, num_unloads, num_launches;
    CUlaunchConfig launch;
    CUlaunchAttribute attributes[4];
    CUresult load_result, launch_result;
    atomic_int smem_bytes; // last set for a kernel
    atomic_int mode_at_load;
    int memory_type, is_managed, ordinal; // what the next pointer is
} fake;

static _Thread_local CUstreamCaptureMode fake_mode;

// Context 0x10 + d belongs to device d; the primary one is 0x20 + d.
static CUcontext fake_context(int kind, int device)
{
    return (CUcontext)(uintptr_t)(16 * kind + device);
}

static CUresult fake_error_name(CUresult result, const char **name)
{
    *name = result == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
    return CUDA_SUCCESS;
}

static CUresult fake_error_string(CUresult result, const char **text)
{
    *text = "words of the driver";
    return CUDA_SUCCESS;
}

static CUresult fake_device_get(CUdevice *device, int ordinal)
{
    *device = ordinal;
    return ordinal < 2 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult fake_device_name(char *name, int capacity, CUdevice device)
{
    snprintf(name, (size_t)capacity, "NVIDIA H100 80GB HBM3");
    return CUDA_SUCCESS;
}

static CUresult fake_device_attribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    static const int values[128] = {
        [CU_DEVICE_ATTRIBUTE_CLOCK_RATE] = 1980000,
        [CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT] = 132,
        [CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE] = 2619000,
        [CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH] = 5120,
        [CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE] = 52428800,
        [CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR] = 9,
        [CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN] = 232448,
    };
    *value = values[attribute];
    return CUDA_SUCCESS;
}

static CUresult fake_retain(CUcontext *context, CUdevice device)
{
    fake.num_retains++;
    *context = fake_context(2, device);
    return CUDA_SUCCESS;
}

static CUresult fake_release(CUdevice device)
{
    fake.num_releases++;
    return CUDA_SUCCESS;
}

static CUresult fake_get_current(CUcontext *context)
{
    *context = fake.current;
    return CUDA_SUCCESS;
}

static CUresult fake_current_device(CUdevice *device)
{
    *device = (int)((uintptr_t)fake.current % 16);
    return fake.current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult fake_push(CUcontext context)
{
    fake.num_pushes++;
    fake.pushed = fake.current;
    fake.current = context;
    return CUDA_SUCCESS;
}

static CUresult fake_pop(CUcontext *context)
{
    fake.num_pops++;
    *context = fake.current;
    fake.current = fake.pushed;
    return CUDA_SUCCESS;
}

static CUresult fake_pointer(unsigned int count, CUpointer_attribute *attributes, void **values,
                             CUdeviceptr pointer)
{
    for (unsigned i = 0; i < count; i++) {
        const int value = attributes[i] == CU_POINTER_ATTRIBUTE_MEMORY_TYPE  ? fake.memory_type
                          : attributes[i] == CU_POINTER_ATTRIBUTE_IS_MANAGED ? fake.is_managed
                                                                             : fake.ordinal;
        memcpy(values[i], &value, sizeof value);
    }
    return CUDA_SUCCESS;
}

// The descriptor says what it was made of, so that a mixed-up cache entry shows.
static CUresult fake_encode(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank,
                            void *address, const uint64_t *shape, const uint64_t *strides,
                            const uint32_t *box, const uint32_t *element_strides,
                            CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                            CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
    fake.num_encodes++;
    memset(map, 0, sizeof *map);
    map->opaque[0] = (uintptr_t)address;
    map->opaque[1] = shape[0];
    map->opaque[2] = rank > 1 ? strides[0] : 0;
    map->opaque[3] = (uint64_t)box[0] << 32 | swizzle;
    return CUDA_SUCCESS;
}

static CUresult fake_load(CUlibrary *library, const void *code, CUjit_option *jit_options,
                          void **jit_values, unsigned int num_jit_options, CUlibraryOption *options,
                          void **values, unsigned int num_options)
{
    fake.mode_at_load = (int)fake_mode;
    if (fake.load_result)
        return fake.load_result;
    *library = (CUlibrary)(uintptr_t)(0x100 + fake.num_loads++);
    return CUDA_SUCCESS;
}

static CUresult fake_unload(CUlibrary library)
{
    fake.num_unloads++;
    return CUDA_SUCCESS;
}

static CUresult fake_get_kernel(CUkernel *kernel, CUlibrary library, const char *name)
{
    *kernel = (CUkernel)(void *)library;
    return strcmp(name, "missing") ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

static CUresult fake_get_function(CUfunction *function, CUkernel kernel)
{
    *function = (CUfunction)(void *)kernel;
    return CUDA_SUCCESS;
}

static CUresult fake_kernel_get(int *value, CUfunction_attribute attribute, CUkernel kernel,
                                CUdevice device)
{
    *value = attribute == CU_FUNC_ATTRIBUTE_NUM_REGS ? 168 : 0;
    return CUDA_SUCCESS;
}

static CUresult fake_kernel_set(CUfunction_attribute attribute, int value, CUkernel kernel,
                                CUdevice device)
{
    fake.smem_bytes = value;
    return value > 232448 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static CUresult fake_exchange_mode(CUstreamCaptureMode *mode)
{
    const CUstreamCaptureMode before = fake_mode;
    fake_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

static CUresult fake_launch(const CUlaunchConfig *config, CUfunction function, void **parameters,
                            void **extra)
{
    fake.num_launches++;
    fake.launch = *config;
    memcpy(fake.attributes, config->attrs, config->numAttrs * sizeof *config->attrs);
    return fake.launch_result;
}

static const struct dg_cuda fake_cuda = {
    .cuGetErrorName = fake_error_name,
    .cuGetErrorString = fake_error_string,
    .cuDeviceGet = fake_device_get,
    .cuDeviceGetName = fake_device_name,
    .cuDeviceGetAttribute = fake_device_attribute,
    .cuDevicePrimaryCtxRetain = fake_retain,
    .cuDevicePrimaryCtxRelease = fake_release,
    .cuCtxGetCurrent = fake_get_current,
    .cuCtxGetDevice = fake_current_device,
    .cuCtxPushCurrent = fake_push,
    .cuCtxPopCurrent = fake_pop,
    .cuPointerGetAttributes = fake_pointer,
    .cuTensorMapEncodeTiled = fake_encode,
    .cuLibraryLoadData = fake_load,
    .cuLibraryUnload = fake_unload,
    .cuLibraryGetKernel = fake_get_kernel,
    .cuKernelGetFunction = fake_get_function,
    .cuKernelGetAttribute = fake_kernel_get,
    .cuKernelSetAttribute = fake_kernel_set,
    .cuThreadExchangeStreamCaptureMode = fake_exchange_mode,
    .cuLaunchKernelEx = fake_launch,
    .driver_version = 12040,
    .num_devices = 2,
};

#endif
