// SPDX-License-Identifier: MIT
// gpu.c - a problem's operands in device memory, and the time of what is queued to a stream.
#include "gpu.h"

#include <string.h>

dg_status cli_gpu_open(struct cli_gpu *gpu, int64_t device)
{
    struct dg_strbuf why_not = {0};
    *gpu = (struct cli_gpu){.cuda = dg_cuda_driver(&why_not)};
    if (!gpu->cuda)
        dg_fail(DG_NO_DEVICE, "no CUDA driver: %s", dg_strbuf_text(&why_not));
    dg_strbuf_free(&why_not);
    if (!gpu->cuda)
        return DG_NO_DEVICE;
    DG_TRY(dg_cuda_context_open(&gpu->context, gpu->cuda, (int)device));
    DG_TRY(dg_cuda_enter(&gpu->context, &gpu->scope));
    DG_CUDA_TRY(gpu->cuda->cuStreamCreate(&gpu->stream, CU_STREAM_NON_BLOCKING), "making a stream");
    DG_CUDA_TRY(gpu->cuda->cuEventCreate(&gpu->begin, CU_EVENT_DEFAULT), "making an event");
    DG_CUDA_TRY(gpu->cuda->cuEventCreate(&gpu->end, CU_EVENT_DEFAULT), "making an event");
    return DG_OK;
}

void cli_gpu_close(struct cli_gpu *gpu)
{
    if (!gpu->cuda)
        return;
    if (gpu->end)
        gpu->cuda->cuEventDestroy(gpu->end);
    if (gpu->begin)
        gpu->cuda->cuEventDestroy(gpu->begin);
    if (gpu->stream)
        gpu->cuda->cuStreamDestroy(gpu->stream);
    if (gpu->scope.pushed)
        dg_cuda_leave(&gpu->context, &gpu->scope);
    dg_cuda_context_close(&gpu->context);
    *gpu = (struct cli_gpu){0};
}

// ---- memory -------------------------------------------------------------------------------------

static size_t buffer_bytes(const struct cli_data *data, int buffer)
{
    return data->bytes[buffer] + (buffer == CLI_D ? 2 * CLI_GUARD_BYTES : 0);
}

// CUDA has no memory of 0 bytes, and an operand without elements still has an address.
static dg_status allocate(const struct cli_gpu *gpu, CUdeviceptr *pointer, size_t bytes)
{
    DG_CUDA_TRY(gpu->cuda->cuMemAlloc(pointer, bytes ? bytes : 1), "allocating %zu bytes", bytes);
    return DG_OK;
}

static dg_status allocate_all(const struct cli_gpu *gpu, const struct cli_data *data,
                              struct cli_gpu_data *copy)
{
    void *base[CLI_BUFFERS] = {NULL};
    *copy = (struct cli_gpu_data){.buffer = {0}};
    for (int i = 0; i < CLI_BUFFERS; i++) {
        if (!data->buffer[i])
            continue;
        DG_TRY(allocate(gpu, &copy->buffer[i], buffer_bytes(data, i)));
        base[i] = (void *)(uintptr_t)(copy->buffer[i] + (i == CLI_D ? CLI_GUARD_BYTES : 0));
    }
    cli_data_describe(&data->problem, base, &copy->operands);
    return DG_OK;
}

static dg_status upload(const struct cli_gpu *gpu, const struct cli_data *data,
                        struct cli_gpu_data *copy)
{
    DG_TRY(allocate_all(gpu, data, copy));
    for (int i = 0; i < CLI_BUFFERS; i++)
        if (copy->buffer[i] && buffer_bytes(data, i))
            DG_CUDA_TRY(
                gpu->cuda->cuMemcpyHtoD(copy->buffer[i], data->buffer[i], buffer_bytes(data, i)),
                "copying to the device");
    return DG_OK;
}

static dg_status duplicate(const struct cli_gpu *gpu, const struct cli_data *data,
                           const struct cli_gpu_data *from, struct cli_gpu_data *copy)
{
    DG_TRY(allocate_all(gpu, data, copy));
    for (int i = 0; i < CLI_BUFFERS; i++)
        if (copy->buffer[i] && buffer_bytes(data, i))
            DG_CUDA_TRY(gpu->cuda->cuMemcpyDtoDAsync(copy->buffer[i], from->buffer[i],
                                                     buffer_bytes(data, i), gpu->stream),
                        "copying on the device");
    return DG_OK;
}

dg_status cli_gpu_upload(const struct cli_gpu *gpu, const struct cli_data *data,
                         struct cli_gpu_data *copy)
{
    const dg_status status = upload(gpu, data, copy);
    if (status != DG_OK)
        cli_gpu_data_free(gpu, copy);
    return status;
}

dg_status cli_gpu_duplicate(const struct cli_gpu *gpu, const struct cli_data *data,
                            const struct cli_gpu_data *from, struct cli_gpu_data *copy)
{
    const dg_status status = duplicate(gpu, data, from, copy);
    if (status != DG_OK)
        cli_gpu_data_free(gpu, copy);
    return status;
}

void cli_gpu_data_free(const struct cli_gpu *gpu, struct cli_gpu_data *copy)
{
    for (int i = 0; i < CLI_BUFFERS; i++)
        if (copy->buffer[i])
            gpu->cuda->cuMemFree(copy->buffer[i]);
    *copy = (struct cli_gpu_data){.buffer = {0}};
}

dg_status cli_gpu_send_d(const struct cli_gpu *gpu, const struct cli_data *data,
                         const struct cli_gpu_data *copy)
{
    DG_CUDA_TRY(gpu->cuda->cuMemcpyHtoD(copy->buffer[CLI_D], data->buffer[CLI_D],
                                        buffer_bytes(data, CLI_D)),
                "copying D to the device");
    return DG_OK;
}

dg_status cli_gpu_fetch_d(const struct cli_gpu *gpu, const struct cli_data *data,
                          const struct cli_gpu_data *copy)
{
    DG_CUDA_TRY(gpu->cuda->cuMemcpyDtoH(data->buffer[CLI_D], copy->buffer[CLI_D],
                                        buffer_bytes(data, CLI_D)),
                "copying D from the device");
    return DG_OK;
}

dg_status cli_gpu_workspace(const struct cli_gpu *gpu, dg_context *context,
                            const struct dg_problem *problem, struct dg_gemm_options *options)
{
    *options = DG_GEMM_OPTIONS;
    DG_TRY(dg_workspace_bytes(context, problem, &options->workspace_bytes));
    if (options->workspace_bytes == 0)
        return DG_OK;
    CUdeviceptr pointer;
    DG_TRY(allocate(gpu, &pointer, options->workspace_bytes));
    options->workspace = (void *)(uintptr_t)pointer;
    return DG_OK;
}

void cli_gpu_workspace_free(const struct cli_gpu *gpu, struct dg_gemm_options *options)
{
    if (options->workspace)
        gpu->cuda->cuMemFree((CUdeviceptr)(uintptr_t)options->workspace);
    options->workspace = NULL;
}

// ---- time ---------------------------------------------------------------------------------------

dg_status cli_gpu_record(const struct cli_gpu *gpu, cli_gpu_launch launch, void *user, int count,
                         CUgraphExec *graph)
{
    const struct dg_cuda *cuda = gpu->cuda;
    CUgraph captured = NULL;
    dg_status status = DG_OK;
    DG_CUDA_TRY(cuda->cuStreamBeginCapture(gpu->stream, CU_STREAM_CAPTURE_MODE_RELAXED),
                "beginning a capture");
    for (int i = 0; i < count && status == DG_OK; i++)
        status = launch(user, i, gpu->stream);
    const CUresult ended = cuda->cuStreamEndCapture(gpu->stream, &captured);
    if (status == DG_OK && ended != CUDA_SUCCESS)
        status = dg_cuda_fail(ended, "ending a capture");
    if (status == DG_OK) {
        const CUresult made = cuda->cuGraphInstantiateWithFlags(graph, captured, 0);
        if (made != CUDA_SUCCESS)
            status = dg_cuda_fail(made, "making a graph of %d launches", count);
    }
    if (captured)
        cuda->cuGraphDestroy(captured);
    return status;
}

static dg_status elapsed(const struct cli_gpu *gpu, double *us)
{
    float milliseconds;
    DG_CUDA_TRY(gpu->cuda->cuEventSynchronize(gpu->end), "waiting for the device");
    DG_CUDA_TRY(gpu->cuda->cuEventElapsedTime(&milliseconds, gpu->begin, gpu->end),
                "reading the time");
    *us = 1e3 * milliseconds;
    return DG_OK;
}

dg_status cli_gpu_replay(const struct cli_gpu *gpu, CUgraphExec graph, double *us)
{
    DG_CUDA_TRY(gpu->cuda->cuEventRecord(gpu->begin, gpu->stream), "recording an event");
    DG_CUDA_TRY(gpu->cuda->cuGraphLaunch(graph, gpu->stream), "launching a graph");
    DG_CUDA_TRY(gpu->cuda->cuEventRecord(gpu->end, gpu->stream), "recording an event");
    return elapsed(gpu, us);
}

dg_status cli_gpu_time(const struct cli_gpu *gpu, cli_gpu_launch launch, void *user, int index,
                       double *us)
{
    DG_CUDA_TRY(gpu->cuda->cuEventRecord(gpu->begin, gpu->stream), "recording an event");
    DG_TRY(launch(user, index, gpu->stream));
    DG_CUDA_TRY(gpu->cuda->cuEventRecord(gpu->end, gpu->stream), "recording an event");
    return elapsed(gpu, us);
}
