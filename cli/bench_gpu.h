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
    // What cuBLASLt was timed on, with its time in the file of peers; NULL: the problem itself.
    const struct bench_peer *reference;
    double prepare_ms; // compiling or loading the kernel; about 0 when that was done before
    double host_us;    // of one queued call; NAN: not wanted
    int num_sets;
    size_t workspace_bytes;
    char kernel[160];
};

dg_status bench_gpu_measure(struct bench_gpu *all, struct cli_data *data,
                            struct bench_gpu_result *result);

// The longer of what `bytes` take at the rate at which an H100 copies, and `operations` at what its tensor cores
// reach, both scaled to the device.
double bench_gpu_roof_us(const struct dg_device *device, double bytes, double operations);
// A kernel's floor: that of each operand once and all operations; of groups, their sum.
double bench_gpu_floor_us(const struct bench_gpu *all, const struct dg_problem *problem);

// ---- one problem on the device ------------------------------------------------------------------

enum { BENCH_ROUNDS = 7, BENCH_MAX_SETS = 24 };

// Copies of `bytes` of operands that make 120 MB together, at most BENCH_MAX_SETS; launches of a graph.
int bench_num_sets(double bytes);
int bench_num_launches(double operations);

// bench_num_sets copies of its operands, for launches that rotate over them.
struct bench_entry {
    struct bench_gpu *all;
    const struct dg_problem *problem;
    struct cli_gpu_data sets[BENCH_MAX_SETS];
    int num_sets, num_launches; // launches of a graph
    struct dg_gemm_options options;
};

// Uploads; close also what a failed open left behind.
dg_status bench_entry_open(struct bench_entry *entry, struct bench_gpu *all,
                           const struct cli_data *data);
void bench_entry_close(struct bench_entry *entry);

// A cli_gpu_launch of our library; `entry` is a struct bench_entry.
dg_status bench_entry_launch(void *entry, int index, CUstream stream);

// Launches once on poisoned output and compares with the oracle.
dg_status bench_entry_check(struct bench_entry *entry, cli_gpu_launch launch, void *user,
                            struct cli_data *data, double max_products, struct cli_check *result);

// Makes the kernel of the plan in force ready, and no less workspace than it needs.
dg_status bench_entry_prepare(struct bench_entry *entry);

// ---- bench_laps.c ---------------------------------------------------------------------------------

// A graph of launches and its times.
struct bench_lap {
    CUgraphExec graph; // NULL: takes no part
    int num_launches;
    double rounds[BENCH_ROUNDS]; // us of a launch
};

// Replays the graphs in turn: a round that warms up, then `rounds`, at most BENCH_ROUNDS, that count.
dg_status bench_laps_replay(const struct cli_gpu *gpu, struct bench_lap *laps, size_t count,
                            int rounds);
// The median of the rounds; NAN without a graph.
double bench_lap_us(const struct bench_lap *lap, int rounds);
// The median of the ratios of two graphs' times in each of BENCH_ROUNDS rounds.
double bench_lap_ratio(const struct bench_lap *lap, const struct bench_lap *to);
void bench_laps_free(const struct cli_gpu *gpu, struct bench_lap *laps, size_t count);

// ---- other things to do with problems -----------------------------------------------------------

// bench_tune.c: every candidate of every problem; writes a tuning table to settings->tune.
int bench_gpu_tune(struct bench_gpu *all);
// bench_sweep.c: the time of each shape over a range of m, settings->sweep.
int bench_gpu_sweep(struct bench_gpu *all);
// bench_chain.c: all problems in a chain, launched plainly and early.
int bench_gpu_chain(struct bench_gpu *all);
// bench_turn.c: all problems against the first, replayed in turn.
int bench_gpu_in_turn(struct bench_gpu *all);

#endif
