// SPDX-License-Identifier: MIT
// driver.c - a libcuda.so.1 of our own, whose one H100 is this process: device memory is host memory, and a
// launch computes what the sm90 kernel of that name is meant to compute, from its arguments and tensor
// maps.  So the tests in tests/gpu run the host side of the backend (checks, plans, identities, maps,
// workspaces, graphs) on any machine; of the kernels themselves they say nothing here.
//
// A "cubin" is the kernel's text as it went to the compiler (nvcc.sh copies it): the identity is read from
// its #define lines.  Everything happens at once, in the order of the calls, except under capture.
#include "cuda/cuda_abi.h"

#include "grouped.h"
#include "kernels.h"
#include "mqa.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default"))) CUresult
#define NOTHING(name, ...)                                                                         \
    EXPORT name(__VA_ARGS__);                                                                      \
    EXPORT name(__VA_ARGS__)                                                                       \
    {                                                                                              \
        return CUDA_SUCCESS;                                                                       \
    }
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

// ---- device ---------------------------------------------------------------------------------------

NOTHING(cuInit, unsigned int flags)
NOTHING(cuDevicePrimaryCtxRelease_v2, CUdevice device)
NOTHING(cuCtxSynchronize, void)

EXPORT cuDriverGetVersion(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS;
}

EXPORT cuGetErrorName(CUresult result, const char **name)
{
    *name = "CUDA_ERROR_EMULATED";
    return CUDA_SUCCESS;
}

EXPORT cuGetErrorString(CUresult result, const char **text)
{
    *text = "refused by the emulated driver";
    return CUDA_SUCCESS;
}

EXPORT cuDeviceGet(CUdevice *device, int ordinal)
{
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT cuDeviceGetCount(int *count)
{
    *count = 1;
    return CUDA_SUCCESS;
}

EXPORT cuDeviceGetName(char *name, int capacity, CUdevice device)
{
    snprintf(name, (size_t)capacity, "emulated H100");
    return CUDA_SUCCESS;
}

EXPORT cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
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

EXPORT cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    *bytes = (size_t)80 << 30;
    return CUDA_SUCCESS;
}

EXPORT cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = *total_bytes = (size_t)80 << 30;
    return CUDA_SUCCESS;
}

// ---- contexts: a stack for each thread ------------------------------------------------------------

static _Thread_local CUcontext stack[16];
static _Thread_local int depth;
static char primary;

EXPORT cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    *context = (CUcontext)(void *)&primary;
    return CUDA_SUCCESS;
}

EXPORT cuCtxPushCurrent_v2(CUcontext context)
{
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

EXPORT cuCtxPopCurrent_v2(CUcontext *context)
{
    *context = stack[--depth];
    return CUDA_SUCCESS;
}

EXPORT cuCtxGetCurrent(CUcontext *context)
{
    *context = depth ? stack[depth - 1] : NULL;
    return CUDA_SUCCESS;
}

EXPORT cuCtxSetCurrent(CUcontext context)
{
    depth -= depth > 0;
    return context ? cuCtxPushCurrent_v2(context) : CUDA_SUCCESS;
}

EXPORT cuCtxGetDevice(CUdevice *device)
{
    *device = 0;
    return depth ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

EXPORT cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
    *context = malloc(1);
    return cuCtxPushCurrent_v2(*context);
}

EXPORT cuCtxDestroy_v2(CUcontext context)
{
    depth -= depth && stack[depth - 1] == context;
    free(context);
    return CUDA_SUCCESS;
}

// ---- memory ---------------------------------------------------------------------------------------

static struct block {
    CUdeviceptr begin, end;
    struct block *next;
} * blocks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_device_memory(CUdeviceptr pointer)
{
    pthread_mutex_lock(&lock);
    const struct block *block = blocks;
    while (block && !(pointer >= block->begin && pointer < block->end))
        block = block->next;
    pthread_mutex_unlock(&lock);
    return block != NULL;
}

EXPORT cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes)
{
    struct block *block = malloc(sizeof *block);
    void *memory = aligned_alloc(512, (bytes + 511) / 512 * 512);
    if (!block || !memory)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *pointer = (CUdeviceptr)(uintptr_t)memory;
    pthread_mutex_lock(&lock);
    *block = (struct block){*pointer, *pointer + bytes, blocks};
    blocks = block;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

EXPORT cuMemFree_v2(CUdeviceptr pointer)
{
    pthread_mutex_lock(&lock);
    struct block **at = &blocks;
    while (*at && (*at)->begin != pointer)
        at = &(*at)->next;
    struct block *block = *at;
    if (block)
        *at = block->next;
    pthread_mutex_unlock(&lock);
    free(block);
    free((void *)(uintptr_t)pointer);
    return block ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT cuMemAllocHost_v2(void **pointer, size_t bytes)
{
    *pointer = malloc(bytes);
    return *pointer ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT cuMemFreeHost(void *pointer)
{
    free(pointer);
    return CUDA_SUCCESS;
}

EXPORT cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **values,
                              CUdeviceptr pointer)
{
    const int is_ours = is_device_memory(pointer);
    for (unsigned i = 0; i < count; i++) {
        const int value = attributes[i] == CU_POINTER_ATTRIBUTE_MEMORY_TYPE
                              ? is_ours * CU_MEMORYTYPE_DEVICE
                          : attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL ? is_ours - 1
                                                                                 : 0;
        memcpy(values[i], &value, sizeof value);
    }
    return CUDA_SUCCESS;
}

EXPORT cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr pointer)
{
    return cuPointerGetAttributes(1, &attribute, &value, pointer);
}

static CUresult copy(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return CUDA_SUCCESS;
}

#define COPY(name, to_type, from_type, to, from)                                                   \
    EXPORT name##_v2(to_type to, from_type from, size_t bytes)                                     \
    {                                                                                              \
        return copy(AT(to), AT(from), bytes);                                                      \
    }                                                                                              \
    EXPORT name##Async_v2(to_type to, from_type from, size_t bytes, CUstream stream)               \
    {                                                                                              \
        return copy(AT(to), AT(from), bytes);                                                      \
    }
COPY(cuMemcpyHtoD, CUdeviceptr, const void *, to, from)
COPY(cuMemcpyDtoH, void *, CUdeviceptr, to, from)
COPY(cuMemcpyDtoD, CUdeviceptr, CUdeviceptr, to, from)

EXPORT cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream)
{
    memset(AT(to), value, count);
    return CUDA_SUCCESS;
}

EXPORT cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream)
{
    for (size_t i = 0; i < count; i++)
        memcpy((char *)AT(to) + 4 * i, &value, 4);
    return CUDA_SUCCESS;
}

// ---- tensor maps: address, shape and pitch as they were given -------------------------------------

EXPORT cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank,
                              void *address, const uint64_t *shape, const uint64_t *strides,
                              const uint32_t *box, const uint32_t *element_strides,
                              CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                              CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
    if (rank < 2 || rank > 4 || (uintptr_t)address % 16)
        return CUDA_ERROR_INVALID_VALUE;
    for (uint32_t i = 0; i < rank; i++)
        if (box[i] > 256 || shape[i] < 1 || (i && (strides[i - 1] % 16 || strides[i - 1] >> 40)))
            return CUDA_ERROR_INVALID_VALUE;
    memset(map, 0, sizeof *map);
    map->opaque[0] = (uintptr_t)address;
    map->opaque[1] = shape[0];
    map->opaque[2] = shape[1];
    map->opaque[3] = strides[0];
    for (uint32_t i = 2; i < rank; i++) {
        map->opaque[2 * i] = shape[i];
        map->opaque[2 * i + 1] = strides[i - 1];
    }
    return CUDA_SUCCESS;
}

// ---- kernels: their identity ----------------------------------------------------------------------

static int defined_as(const char *text, const char *name)
{
    char line[64];
    snprintf(line, sizeof line, "#define %s ", name);
    const char *at = strstr(text, line);
    return at ? atoi(at + strlen(line)) : 0;
}

EXPORT cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jit_options,
                         void **jit_values, unsigned int num_jit_options, CUlibraryOption *options,
                         void **values, unsigned int num_options)
{
    struct kernel *kernel = calloc(1, sizeof *kernel);
    if (!kernel || strncmp(code, "#define DG_ENTRY", 16))
        return kernel ? CUDA_ERROR_INVALID_IMAGE : CUDA_ERROR_OUT_OF_MEMORY;
    kernel->sfb_block_n = defined_as(code, "DG_SFB_BLOCK_N");
    kernel->sf_packed = defined_as(code, "DG_SF_PACKED");
    kernel->d_fp32 = defined_as(code, "DG_D_FP32");
    kernel->reads_c = defined_as(code, "DG_READS_C");
    kernel->sfa_tma = kernel->sfb_tma = defined_as(code, "DG_SCALES_TMA");
    if (defined_as(code, "DG_BLOCK_M") < 64 * defined_as(code, "DG_MATH_GROUPS"))
        kernel->sfb_tma = 0; // the panel kernel
    if (strstr(code, "#define DG_LOGITS_BF16"))
        kernel->d_fp32 = !defined_as(code, "DG_LOGITS_BF16");
    *library = (CUlibrary)kernel;
    return CUDA_SUCCESS;
}

EXPORT cuLibraryUnload(CUlibrary library)
{
    free(library);
    return CUDA_SUCCESS;
}

EXPORT cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name)
{
    struct kernel *found = (struct kernel *)library;
    snprintf(found->name, sizeof found->name, "%s", name);
    *kernel = (CUkernel)found;
    return CUDA_SUCCESS;
}

EXPORT cuKernelGetFunction(CUfunction *function, CUkernel kernel)
{
    *function = (CUfunction)(void *)kernel;
    return CUDA_SUCCESS;
}

EXPORT cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel,
                            CUdevice device)
{
    return value > 232448 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

EXPORT cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel,
                            CUdevice device)
{
    *value = 0;
    return CUDA_SUCCESS;
}

EXPORT cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
    *value = 0;
    return CUDA_SUCCESS;
}

NOTHING(cuFuncSetAttribute, CUfunction function, CUfunction_attribute attribute, int value)

EXPORT cuOccupancyMaxActiveClusters(int *clusters, CUfunction function,
                                    const CUlaunchConfig *config)
{
    *clusters = 1;
    return CUDA_SUCCESS;
}

// ---- launches, streams and graphs -----------------------------------------------------------------

struct launch {
    struct kernel kernel;
    union {
        struct dg_sm90_gemm_args gemm;
        struct dg_sm90_repack_args repack;
        struct dg_sm90_scales_repack_args scales;
        struct dg_sm90_fill_args fill;
        struct dg_sm90_mqa_args mqa;
        struct dg_sm90_mqa_schedule_args schedule;
        struct dg_sm90_k_groups_args k_groups;
    } args;
    struct dg_sm90_group_args groups;
    union {
        struct dg_sm90_maps gemm;
        struct dg_sm90_mqa_maps mqa;
        struct dg_sm90_group_maps grouped;
    } maps;
    unsigned num_ctas, grid_y;
    struct launch *next;
};

// What launches take: 1 us and 0.1 for each CTA, so that plans differ.
static double elapsed_us;

struct CUstream_st {
    int is_capturing;
    struct CUgraph_st *graph;
};

struct CUgraph_st {
    struct launch *first, **end;
    int num_owners; // the graph and what was made executable from it
};

static void run(const struct launch *launch)
{
    elapsed_us += 1 + 0.1 * launch->num_ctas;
    if (strstr(launch->kernel.name, "gemm_grouped"))
        run_grouped(&launch->kernel, &launch->args.gemm, &launch->groups, &launch->maps.grouped);
    else if (strstr(launch->kernel.name, "k_groups"))
        run_k_groups(&launch->args.k_groups);
    else if (strstr(launch->kernel.name, "gemm"))
        run_gemm(&launch->kernel, &launch->args.gemm, &launch->maps.gemm);
    else if (strstr(launch->kernel.name, "logits"))
        run_mqa(&launch->kernel, &launch->args.mqa, &launch->maps.mqa);
    else if (strstr(launch->kernel.name, "schedule"))
        run_schedule(&launch->args.schedule);
    else if (strstr(launch->kernel.name, "scales_repack"))
        run_scales_repack(&launch->args.scales, launch->num_ctas);
    else if (strstr(launch->kernel.name, "repack"))
        run_repack(&launch->args.repack, launch->grid_y);
    else
        run_fill(&launch->args.fill);
}

static void record(struct launch *launch, const struct kernel *kernel, void **parameters)
{
    memset(launch, 0, sizeof *launch);
    launch->kernel = *kernel;
    if (strstr(kernel->name, "gemm_grouped")) {
        memcpy(&launch->args.gemm, parameters[0], sizeof launch->args.gemm);
        memcpy(&launch->groups, parameters[1], sizeof launch->groups);
        memcpy(&launch->maps.grouped, parameters[2], sizeof launch->maps.grouped);
    } else if (strstr(kernel->name, "k_groups")) {
        memcpy(&launch->args.k_groups, parameters[0], sizeof launch->args.k_groups);
    } else if (strstr(kernel->name, "gemm")) {
        memcpy(&launch->args.gemm, parameters[0], sizeof launch->args.gemm);
        memcpy(&launch->maps.gemm, parameters[1], sizeof launch->maps.gemm);
    } else if (strstr(kernel->name, "logits")) {
        memcpy(&launch->args.mqa, parameters[0], sizeof launch->args.mqa);
        memcpy(&launch->maps.mqa, parameters[1], sizeof launch->maps.mqa);
    } else if (strstr(kernel->name, "schedule")) {
        memcpy(&launch->args.schedule, parameters[0], sizeof launch->args.schedule);
    } else if (strstr(kernel->name, "scales_repack")) {
        memcpy(&launch->args.scales, parameters[0], sizeof launch->args.scales);
    } else if (strstr(kernel->name, "repack")) {
        memcpy(&launch->args.repack, parameters[0], sizeof launch->args.repack);
    } else {
        memcpy(&launch->args.fill, parameters[0], sizeof launch->args.fill);
    }
}

static int is_launchable(const CUlaunchConfig *config)
{
    unsigned cluster = 1;
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
            cluster = config->attrs[i].value.clusterDim.x;
    return config->gridDimX && config->gridDimX % cluster == 0 && config->blockDimX <= 1024 &&
           config->sharedMemBytes <= 232448;
}

EXPORT cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters,
                        void **extra)
{
    struct launch *launch = aligned_alloc(64, (sizeof *launch + 63) / 64 * 64);
    const struct CUstream_st *stream = config->hStream;
    if (!launch || !is_launchable(config)) {
        free(launch);
        return CUDA_ERROR_INVALID_VALUE;
    }
    record(launch, (const struct kernel *)(void *)function, parameters);
    launch->num_ctas = config->gridDimX;
    launch->grid_y = config->gridDimY;
    if (stream && stream->is_capturing) {
        *stream->graph->end = launch;
        stream->graph->end = &launch->next;
        return CUDA_SUCCESS;
    }
    run(launch);
    free(launch);
    return CUDA_SUCCESS;
}

EXPORT cuStreamCreate(CUstream *stream, unsigned int flags)
{
    *stream = calloc(1, sizeof **stream);
    return *stream ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT cuStreamDestroy_v2(CUstream stream)
{
    free(stream);
    return CUDA_SUCCESS;
}

NOTHING(cuStreamSynchronize, CUstream stream)
NOTHING(cuStreamWaitEvent, CUstream stream, CUevent event, unsigned int flags)
NOTHING(cuThreadExchangeStreamCaptureMode, CUstreamCaptureMode *mode)

EXPORT cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
    *status = stream && stream->is_capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                             : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

EXPORT cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    stream->graph = calloc(1, sizeof *stream->graph);
    if (!stream->graph)
        return CUDA_ERROR_OUT_OF_MEMORY;
    stream->graph->end = &stream->graph->first;
    stream->graph->num_owners = 1;
    stream->is_capturing = 1;
    return CUDA_SUCCESS;
}

EXPORT cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    stream->is_capturing = 0;
    *graph = stream->graph;
    return CUDA_SUCCESS;
}

EXPORT cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    graph->num_owners++;
    *exec = (CUgraphExec)(void *)graph;
    return CUDA_SUCCESS;
}

EXPORT cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    for (const struct launch *launch = ((CUgraph)(void *)exec)->first; launch;
         launch = launch->next)
        run(launch);
    return CUDA_SUCCESS;
}

EXPORT cuGraphDestroy(CUgraph graph)
{
    if (--graph->num_owners)
        return CUDA_SUCCESS;
    for (struct launch *launch = graph->first, *next; launch; launch = next) {
        next = launch->next;
        free(launch);
    }
    free(graph);
    return CUDA_SUCCESS;
}

EXPORT cuGraphExecDestroy(CUgraphExec exec)
{
    return cuGraphDestroy((CUgraph)(void *)exec);
}

NOTHING(cuGraphUpload, CUgraphExec exec, CUstream stream)

// ---- events ---------------------------------------------------------------------------------------

EXPORT cuEventCreate(CUevent *event, unsigned int flags)
{
    *event = (CUevent)(void *)&primary;
    return CUDA_SUCCESS;
}

NOTHING(cuEventDestroy_v2, CUevent event)
NOTHING(cuEventRecord, CUevent event, CUstream stream)
NOTHING(cuEventSynchronize, CUevent event)

EXPORT cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end)
{
    *milliseconds = (float)(elapsed_us / 1e3);
    elapsed_us = 0;
    return CUDA_SUCCESS;
}
