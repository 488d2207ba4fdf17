// SPDX-License-Identifier: MIT
// bench_gpu.h - what the two halves of timing on a GPU share: measuring (bench_gpu_measure.c) and what
// becomes of the figures (bench_gpu.c).
#ifndef DG_CLI_BENCH_GPU_H
#define DG_CLI_BENCH_GPU_H

#include "bench.h"
#include "cublaslt.h"

#include "cuda/device.h"

enum bench_contestant { BENCH_OURS, BENCH_CUBLASLT, BENCH_CUBLASLT_BLOCK, BENCH_CONTESTANTS };

struct bench_gpu {
    struct bench *bench;
    dg_context *context;
    struct cli_gpu gpu;
    struct dg_device device;
    struct cli_cublaslt lt;
    bool is_wanted[BENCH_CONTESTANTS];
    struct bench_peers peers;
};

struct bench_gpu_result {
    struct cli_check check;
    double us[BENCH_CONTESTANTS]; // NAN: not wanted, or refused
    double prepare_ms; // compiling or loading the kernel; about 0 when that was done before
    double host_us;    // of one queued call; NAN: not wanted
    int num_sets;
    size_t workspace_bytes;
    char kernel[160];
};

dg_status bench_gpu_measure(struct bench_gpu *all, struct cli_data *data,
                            struct bench_gpu_result *result);

#endif
