// SPDX-License-Identifier: MIT
// gpu.h - a problem's operands in device memory, and the time of what is queued to a stream.
#ifndef DG_CLI_GPU_H
#define DG_CLI_GPU_H

#include "data.h"

#include "cuda/context.h"
#include "cuda/driver.h"

// A device made current for the calling thread, from open to close.
struct cli_gpu {
    const struct dg_cuda *cuda; // NULL: not open
    struct dg_cuda_context context;
    struct dg_cuda_scope scope;
    CUstream stream;
    CUevent begin, end;
};

// device -1: the current one, else 0.
dg_status cli_gpu_open(struct cli_gpu *gpu, int64_t device);
void cli_gpu_close(struct cli_gpu *gpu); // a zeroed struct is allowed

// Device copies of a cli_data's buffers; D's with its guard bands.
struct cli_gpu_data {
    CUdeviceptr buffer[CLI_BUFFERS];
    struct cli_operands operands;
};
dg_status cli_gpu_upload(const struct cli_gpu *gpu, const struct cli_data *data,
                         struct cli_gpu_data *copy);
// A copy of a copy, for inputs that should not be found in a cache.
dg_status cli_gpu_duplicate(const struct cli_gpu *gpu, const struct cli_data *data,
                            const struct cli_gpu_data *from, struct cli_gpu_data *copy);
void cli_gpu_data_free(const struct cli_gpu *gpu, struct cli_gpu_data *copy);

// The host's D, poison and guard bands, to the device; and back.
dg_status cli_gpu_send_d(const struct cli_gpu *gpu, const struct cli_data *data,
                         const struct cli_gpu_data *copy);
dg_status cli_gpu_fetch_d(const struct cli_gpu *gpu, const struct cli_data *data,
                          const struct cli_gpu_data *copy);

// Workspace for a problem on this context, described in `options`; 0 bytes for most.
dg_status cli_gpu_workspace(const struct cli_gpu *gpu, dg_context *context,
                            const struct dg_problem *problem, struct dg_gemm_options *options);
void cli_gpu_workspace_free(const struct cli_gpu *gpu, struct dg_gemm_options *options);

// One launch of something, number `index` of a sequence.
typedef dg_status (*cli_gpu_launch)(void *user, int index, CUstream stream);

// `count` launches captured as one graph.
dg_status cli_gpu_record(const struct cli_gpu *gpu, cli_gpu_launch launch, void *user, int count,
                         CUgraphExec *graph);
// Replays it and waits; the microseconds between events before and behind it on the stream.
dg_status cli_gpu_replay(const struct cli_gpu *gpu, CUgraphExec graph, double *us);
// Launches once and waits; likewise.
dg_status cli_gpu_time(const struct cli_gpu *gpu, cli_gpu_launch launch, void *user, int index,
                       double *us);

#endif
