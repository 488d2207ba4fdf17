// SPDX-License-Identifier: MIT
// check_cuda_abi.c - is our cuda_abi.h still NVIDIA's cuda.h?  Compiled twice and linked with itself:
//
//     cc -Isrc -Iinclude -c tools/check_cuda_abi.c -o ours.o
//     cc -Isrc -Iinclude -I/usr/local/cuda/include -DDG_CUDA_ABI_REAL -c tools/check_cuda_abi.c -o real.o
//     cc ours.o real.o
//
// Each half lists values and layouts as its header has them; main compares.  The second half also holds
// every prototype of our table against the real one.  tests/unit/test_cuda_abi.py runs it.
#include "cuda/driver.h"

#include <stdio.h>
#include <string.h>

struct row {
    const char *what;
    long long value;
};

#define VALUE(name) {#name, (long long)(name)},
#define SIZE(type) {"sizeof(" #type ")", (long long)sizeof(type)},
#define PLACE(type, member) {#type "." #member, (long long)offsetof(type, member)},

#ifdef DG_CUDA_ABI_REAL
#define ROWS real_rows
#define NUM_ROWS num_real_rows
#else
#define ROWS our_rows
#define NUM_ROWS num_our_rows
#endif

extern const struct row our_rows[], real_rows[];
extern const int num_our_rows, num_real_rows;

const struct row ROWS[] = {
    // clang-format off
    VALUE(CUDA_SUCCESS) VALUE(CUDA_ERROR_INVALID_VALUE) VALUE(CUDA_ERROR_OUT_OF_MEMORY)
    VALUE(CUDA_ERROR_NOT_INITIALIZED) VALUE(CUDA_ERROR_DEINITIALIZED) VALUE(CUDA_ERROR_STUB_LIBRARY)
    VALUE(CUDA_ERROR_DEVICE_UNAVAILABLE) VALUE(CUDA_ERROR_NO_DEVICE) VALUE(CUDA_ERROR_INVALID_DEVICE)
    VALUE(CUDA_ERROR_INVALID_IMAGE) VALUE(CUDA_ERROR_INVALID_CONTEXT)
    VALUE(CUDA_ERROR_NO_BINARY_FOR_GPU) VALUE(CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
    VALUE(CUDA_ERROR_INVALID_HANDLE) VALUE(CUDA_ERROR_NOT_FOUND) VALUE(CUDA_ERROR_NOT_READY)
    VALUE(CUDA_ERROR_ILLEGAL_ADDRESS) VALUE(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
    VALUE(CUDA_ERROR_CONTEXT_IS_DESTROYED) VALUE(CUDA_ERROR_LAUNCH_FAILED)
    VALUE(CUDA_ERROR_NOT_SUPPORTED) VALUE(CUDA_ERROR_SYSTEM_NOT_READY)
    VALUE(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH) VALUE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
    VALUE(CUDA_ERROR_INVALID_CLUSTER_SIZE) VALUE(CUDA_ERROR_UNKNOWN)

    VALUE(CU_DEVICE_ATTRIBUTE_CLOCK_RATE) VALUE(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
    VALUE(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) VALUE(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)
    VALUE(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE) VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
    VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
    VALUE(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)

    VALUE(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK) VALUE(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
    VALUE(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES) VALUE(CU_FUNC_ATTRIBUTE_NUM_REGS)
    VALUE(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
    VALUE(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED)

    VALUE(CU_POINTER_ATTRIBUTE_CONTEXT) VALUE(CU_POINTER_ATTRIBUTE_MEMORY_TYPE)
    VALUE(CU_POINTER_ATTRIBUTE_IS_MANAGED) VALUE(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
    VALUE(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR) VALUE(CU_POINTER_ATTRIBUTE_RANGE_SIZE)
    VALUE(CU_MEMORYTYPE_HOST) VALUE(CU_MEMORYTYPE_DEVICE) VALUE(CU_MEMORYTYPE_ARRAY)
    VALUE(CU_MEMORYTYPE_UNIFIED)

    VALUE(CU_STREAM_DEFAULT) VALUE(CU_STREAM_NON_BLOCKING)
    VALUE(CU_EVENT_DEFAULT) VALUE(CU_EVENT_BLOCKING_SYNC) VALUE(CU_EVENT_DISABLE_TIMING)
    VALUE(CU_STREAM_CAPTURE_STATUS_NONE) VALUE(CU_STREAM_CAPTURE_STATUS_ACTIVE)
    VALUE(CU_STREAM_CAPTURE_STATUS_INVALIDATED)
    VALUE(CU_STREAM_CAPTURE_MODE_GLOBAL) VALUE(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
    VALUE(CU_STREAM_CAPTURE_MODE_RELAXED)
    VALUE(CU_JIT_MAX_REGISTERS) VALUE(CU_LIBRARY_BINARY_IS_PRESERVED)
    VALUE(CU_LAUNCH_ATTRIBUTE_IGNORE) VALUE(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
    VALUE(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION)

    VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT8) VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT16)
    VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT32) VALUE(CU_TENSOR_MAP_DATA_TYPE_INT32)
    VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT16) VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT32)
    VALUE(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16)
    VALUE(CU_TENSOR_MAP_INTERLEAVE_NONE)
    VALUE(CU_TENSOR_MAP_SWIZZLE_NONE) VALUE(CU_TENSOR_MAP_SWIZZLE_32B)
    VALUE(CU_TENSOR_MAP_SWIZZLE_64B) VALUE(CU_TENSOR_MAP_SWIZZLE_128B)
    VALUE(CU_TENSOR_MAP_L2_PROMOTION_NONE) VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_64B)
    VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_128B) VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
    VALUE(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)

    SIZE(CUresult) SIZE(CUdevice) SIZE(CUdeviceptr) SIZE(CUdevice_attribute) SIZE(CUfunction_attribute)
    SIZE(CUpointer_attribute) SIZE(CUmemorytype) SIZE(CUstreamCaptureStatus) SIZE(CUstreamCaptureMode)
    SIZE(CUjit_option) SIZE(CUlibraryOption) SIZE(CUlaunchAttributeID) SIZE(CUtensorMapDataType)
    SIZE(CUtensorMapSwizzle) SIZE(CUtensorMapL2promotion) SIZE(CUtensorMap)
    SIZE(CUlaunchAttributeValue) SIZE(CUlaunchAttribute) SIZE(CUlaunchConfig)
    PLACE(CUlaunchAttribute, id) PLACE(CUlaunchAttribute, value)
    PLACE(CUlaunchAttributeValue, clusterDim.x) PLACE(CUlaunchAttributeValue, clusterDim.y)
    PLACE(CUlaunchAttributeValue, clusterDim.z)
    PLACE(CUlaunchAttributeValue, programmaticStreamSerializationAllowed)
    PLACE(CUlaunchConfig, gridDimX) PLACE(CUlaunchConfig, gridDimY) PLACE(CUlaunchConfig, gridDimZ)
    PLACE(CUlaunchConfig, blockDimX) PLACE(CUlaunchConfig, blockDimY) PLACE(CUlaunchConfig, blockDimZ)
    PLACE(CUlaunchConfig, sharedMemBytes) PLACE(CUlaunchConfig, hStream) PLACE(CUlaunchConfig, attrs)
    PLACE(CUlaunchConfig, numAttrs)
    // clang-format on
};
const int NUM_ROWS = sizeof ROWS / sizeof *ROWS;

#ifdef DG_CUDA_ABI_REAL

// Only declarations are used: nothing is linked with the driver.
#define CHECK_PROTOTYPE(member, symbol, parameters)                                                \
    _Static_assert(__builtin_types_compatible_p(__typeof__(&member), CUresult(*) parameters),      \
                   "cuda.h declares another prototype for " symbol);
DG_CUDA_FUNCTIONS(CHECK_PROTOTYPE)

#else

int main(void)
{
    int num_wrong = num_our_rows != num_real_rows;
    for (int i = 0; i < num_our_rows && i < num_real_rows; i++)
        if (our_rows[i].value != real_rows[i].value) {
            printf("%s: %lld here, %lld in cuda.h\n", our_rows[i].what, our_rows[i].value,
                   real_rows[i].value);
            num_wrong++;
        }
    printf("cuda abi: %d values and layouts compared, %d differ\n", num_our_rows, num_wrong);
    return num_wrong != 0;
}

#endif
