// SPDX-License-Identifier: MIT
// driver.h - the CUDA driver as a table of functions, found with dlopen at first use, so that nothing
// links against it and machines without a GPU run the rest of the library.  Members carry the driver's
// own names; the second column is the exported symbol, which fixes the version of the interface.
//
//     struct dg_strbuf why_not = {0};
//     const struct dg_cuda *cuda = dg_cuda_driver(&why_not);
//     if (!cuda) ... dg_strbuf_text(&why_not) says why ...
//     DG_CUDA_TRY(cuda->cuMemAlloc(&pointer, bytes), "allocating %zu bytes", bytes);
#ifndef DG_CUDA_DRIVER_H
#define DG_CUDA_DRIVER_H

#include "base/error.h"
#include "base/strbuf.h"
#include "cuda/cuda_abi.h"

// clang-format off
#define DG_CUDA_FUNCTIONS(X) \
    X(cuInit, "cuInit", (unsigned int flags)) \
    X(cuDriverGetVersion, "cuDriverGetVersion", (int *version)) \
    X(cuGetErrorName, "cuGetErrorName", (CUresult result, const char **name)) \
    X(cuGetErrorString, "cuGetErrorString", (CUresult result, const char **text)) \
    X(cuDeviceGet, "cuDeviceGet", (CUdevice *device, int ordinal)) \
    X(cuDeviceGetCount, "cuDeviceGetCount", (int *count)) \
    X(cuDeviceGetName, "cuDeviceGetName", (char *name, int capacity, CUdevice device)) \
    X(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int *value, CUdevice_attribute attribute, CUdevice device)) \
    X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t *bytes, CUdevice device)) \
    X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (CUcontext *context, CUdevice device)) \
    X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (CUdevice device)) \
    X(cuCtxGetCurrent, "cuCtxGetCurrent", (CUcontext *context)) \
    X(cuCtxSetCurrent, "cuCtxSetCurrent", (CUcontext context)) \
    X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (CUcontext context)) \
    X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (CUcontext *context)) \
    X(cuCtxGetDevice, "cuCtxGetDevice", (CUdevice *device)) \
    X(cuCtxSynchronize, "cuCtxSynchronize", (void)) \
    X(cuLibraryLoadData, "cuLibraryLoadData", (CUlibrary *library, const void *code, \
        CUjit_option *jit_options, void **jit_values, unsigned int num_jit_options, \
        CUlibraryOption *options, void **values, unsigned int num_options)) \
    X(cuLibraryUnload, "cuLibraryUnload", (CUlibrary library)) \
    X(cuLibraryGetKernel, "cuLibraryGetKernel", (CUkernel *kernel, CUlibrary library, const char *name)) \
    X(cuKernelGetFunction, "cuKernelGetFunction", (CUfunction *function, CUkernel kernel)) \
    X(cuKernelGetAttribute, "cuKernelGetAttribute", (int *value, CUfunction_attribute attribute, \
        CUkernel kernel, CUdevice device)) \
    X(cuKernelSetAttribute, "cuKernelSetAttribute", (CUfunction_attribute attribute, int value, \
        CUkernel kernel, CUdevice device)) \
    X(cuFuncGetAttribute, "cuFuncGetAttribute", (int *value, CUfunction_attribute attribute, CUfunction function)) \
    X(cuFuncSetAttribute, "cuFuncSetAttribute", (CUfunction function, CUfunction_attribute attribute, int value)) \
    X(cuLaunchKernelEx, "cuLaunchKernelEx", (const CUlaunchConfig *config, CUfunction function, \
        void **parameters, void **extra)) \
    X(cuOccupancyMaxActiveClusters, "cuOccupancyMaxActiveClusters", (int *clusters, CUfunction function, \
        const CUlaunchConfig *config)) \
    X(cuTensorMapEncodeTiled, "cuTensorMapEncodeTiled", (CUtensorMap *map, CUtensorMapDataType type, \
        uint32_t rank, void *address, const uint64_t *shape, const uint64_t *strides, const uint32_t *box, \
        const uint32_t *element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, \
        CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)) \
    X(cuPointerGetAttribute, "cuPointerGetAttribute", (void *value, CUpointer_attribute attribute, \
        CUdeviceptr pointer)) \
    X(cuPointerGetAttributes, "cuPointerGetAttributes", (unsigned int count, CUpointer_attribute *attributes, \
        void **values, CUdeviceptr pointer)) \
    X(cuMemGetInfo, "cuMemGetInfo_v2", (size_t *free_bytes, size_t *total_bytes)) \
    X(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr *pointer, size_t bytes)) \
    X(cuMemFree, "cuMemFree_v2", (CUdeviceptr pointer)) \
    X(cuMemAllocHost, "cuMemAllocHost_v2", (void **pointer, size_t bytes)) \
    X(cuMemFreeHost, "cuMemFreeHost", (void *pointer)) \
    X(cuMemcpyHtoD, "cuMemcpyHtoD_v2", (CUdeviceptr to, const void *from, size_t bytes)) \
    X(cuMemcpyDtoH, "cuMemcpyDtoH_v2", (void *to, CUdeviceptr from, size_t bytes)) \
    X(cuMemcpyDtoD, "cuMemcpyDtoD_v2", (CUdeviceptr to, CUdeviceptr from, size_t bytes)) \
    X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", (CUdeviceptr to, const void *from, size_t bytes, CUstream stream)) \
    X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void *to, CUdeviceptr from, size_t bytes, CUstream stream)) \
    X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2", (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)) \
    X(cuMemsetD8Async, "cuMemsetD8Async", (CUdeviceptr to, unsigned char value, size_t count, CUstream stream)) \
    X(cuMemsetD32Async, "cuMemsetD32Async", (CUdeviceptr to, unsigned int value, size_t count, CUstream stream)) \
    X(cuStreamCreate, "cuStreamCreate", (CUstream *stream, unsigned int flags)) \
    X(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream stream)) \
    X(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream)) \
    X(cuStreamWaitEvent, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned int flags)) \
    X(cuStreamIsCapturing, "cuStreamIsCapturing", (CUstream stream, CUstreamCaptureStatus *status)) \
    X(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (CUstream stream, CUstreamCaptureMode mode)) \
    X(cuStreamEndCapture, "cuStreamEndCapture", (CUstream stream, CUgraph *graph)) \
    X(cuThreadExchangeStreamCaptureMode, "cuThreadExchangeStreamCaptureMode", (CUstreamCaptureMode *mode)) \
    X(cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags", (CUgraphExec *exec, CUgraph graph, \
        unsigned long long flags)) \
    X(cuGraphLaunch, "cuGraphLaunch", (CUgraphExec exec, CUstream stream)) \
    X(cuGraphUpload, "cuGraphUpload", (CUgraphExec exec, CUstream stream)) \
    X(cuGraphExecDestroy, "cuGraphExecDestroy", (CUgraphExec exec)) \
    X(cuGraphDestroy, "cuGraphDestroy", (CUgraph graph)) \
    X(cuEventCreate, "cuEventCreate", (CUevent *event, unsigned int flags)) \
    X(cuEventDestroy, "cuEventDestroy_v2", (CUevent event)) \
    X(cuEventRecord, "cuEventRecord", (CUevent event, CUstream stream)) \
    X(cuEventSynchronize, "cuEventSynchronize", (CUevent event)) \
    X(cuEventElapsedTime, "cuEventElapsedTime", (float *milliseconds, CUevent begin, CUevent end))
// clang-format on

struct dg_cuda {
#define DG_CUDA_MEMBER(member, symbol, parameters) CUresult(*member) parameters;
    DG_CUDA_FUNCTIONS(DG_CUDA_MEMBER)
#undef DG_CUDA_MEMBER
    int driver_version; // 12040: the newest CUDA that the driver supports is 12.4
    int num_devices;    // at least 1
};

// The initialised driver, or NULL with the reason added to why_not (which may be NULL).  Decided once
// per process, thread-safe; creates no context.
const struct dg_cuda *dg_cuda_driver(struct dg_strbuf *why_not);

// 12040 for a driver that supports CUDA 12.4, 0 without one.  Does not initialise the driver, so that a
// process may compile first and fork later.
int dg_cuda_driver_version(void);

// Stores "<what>: CUDA_ERROR_...: <driver's words>" as this thread's error and returns the status that
// fits: DG_OUT_OF_MEMORY, DG_NO_DEVICE or DG_CUDA_ERROR.  DG_OK for CUDA_SUCCESS.
__attribute__((format(printf, 2, 3))) dg_status dg_cuda_fail(CUresult result, const char *what,
                                                             ...);

#define DG_CUDA_TRY(call, ...)                                                                     \
    do {                                                                                           \
        CUresult dg_cuda_result_ = (call);                                                         \
        if (dg_cuda_result_ != CUDA_SUCCESS)                                                       \
            return dg_cuda_fail(dg_cuda_result_, __VA_ARGS__);                                     \
    } while (0)

#endif
