// SPDX-License-Identifier: MIT
// bench_gpu_measure.c - the time of one problem on a GPU, taken so that the figures of two runs compare.
//
// Each implementation is captured as one graph of launches that rotate over as many sets of inputs as
// make 120 MB, so that weights come from memory and not from L2.  The graphs of the implementations are
// replayed in turn, several rounds; the figure is the median replay divided by its launches.
#include "bench_gpu.h"

#include <string.h>

enum {
    ROUNDS = 7,
    LAUNCHES = 24,
    LAUNCHES_OF_LARGE = 8,
    MAX_SETS = LAUNCHES,
    HOST_BATCHES = 50,
    HOST_CALLS = 20,
};
static const double large_operations = 2e11, rotated_bytes = 120e6;

// One problem on the device.
struct entry {
    struct bench_gpu *all;
    const struct dg_problem *problem;
    struct cli_gpu_data sets[MAX_SETS];
    int num_sets, num_launches;
    struct dg_gemm_options options;
    struct cli_cublaslt_plan plans[BENCH_CONTESTANTS]; // of the cuBLASLt ones
    CUgraphExec graphs[BENCH_CONTESTANTS];             // NULL: cannot do it
};

// ---- launches -----------------------------------------------------------------------------------

static dg_status launch_ours(void *user, int index, CUstream stream)
{
    struct entry *entry = user;
    return cli_call(entry->all->context, entry->problem,
                    &entry->sets[index % entry->num_sets].operands, &entry->options, stream);
}

static dg_status launch_lt(struct entry *entry, enum bench_contestant which, int index,
                           CUstream stream)
{
    return cli_cublaslt_launch(&entry->all->lt, &entry->plans[which],
                               &entry->sets[index % entry->num_sets].operands, stream);
}

static dg_status launch_cublaslt(void *user, int index, CUstream stream)
{
    return launch_lt(user, BENCH_CUBLASLT, index, stream);
}

static dg_status launch_cublaslt_block(void *user, int index, CUstream stream)
{
    return launch_lt(user, BENCH_CUBLASLT_BLOCK, index, stream);
}

static const struct {
    cli_gpu_launch launch;
    enum cli_cublaslt_scales scales;
} contestants[BENCH_CONTESTANTS] = {
    [BENCH_OURS] = {launch_ours, CLI_CUBLASLT_NO_SCALES},
    [BENCH_CUBLASLT] = {launch_cublaslt, CLI_CUBLASLT_NO_SCALES},
    [BENCH_CUBLASLT_BLOCK] = {launch_cublaslt_block, CLI_CUBLASLT_BLOCK_SCALES},
};

// ---- one problem --------------------------------------------------------------------------------

static void entry_free(struct entry *entry)
{
    struct bench_gpu *all = entry->all;
    for (int i = 0; i < BENCH_CONTESTANTS; i++) {
        if (entry->graphs[i])
            all->gpu.cuda->cuGraphExecDestroy(entry->graphs[i]);
        if (i != BENCH_OURS)
            cli_cublaslt_plan_free(&all->lt, &all->gpu, &entry->plans[i]);
    }
    for (int i = 0; i < entry->num_sets; i++)
        cli_gpu_data_free(&all->gpu, &entry->sets[i]);
    cli_gpu_workspace_free(&all->gpu, &entry->options);
}

static int sets_for(const struct cli_data *data)
{
    double bytes = 1;
    for (int i = CLI_A; i <= CLI_SFB; i++)
        bytes += (double)data->bytes[i];
    return (int)fmin(MAX_SETS, ceil(rotated_bytes / bytes));
}

static dg_status upload_sets(struct entry *entry, const struct cli_data *data)
{
    const struct cli_gpu *gpu = &entry->all->gpu;
    const int wanted = sets_for(data);
    DG_TRY(cli_gpu_upload(gpu, data, &entry->sets[0]));
    for (entry->num_sets = 1; entry->num_sets < wanted; entry->num_sets++)
        DG_TRY(cli_gpu_duplicate(gpu, data, &entry->sets[0], &entry->sets[entry->num_sets]));
    return DG_OK;
}

// Runs a contestant once on poisoned output and compares with the oracle.
static dg_status check(struct entry *entry, enum bench_contestant which, struct cli_data *data,
                       double max_products, struct cli_check *result)
{
    const struct cli_gpu *gpu = &entry->all->gpu;
    double us;
    cli_data_reset(data);
    DG_TRY(cli_gpu_send_d(gpu, data, &entry->sets[0]));
    DG_TRY(cli_gpu_time(gpu, contestants[which].launch, entry, 0, &us));
    DG_TRY(cli_gpu_fetch_d(gpu, data, &entry->sets[0]));
    return cli_check(data, entry->all->bench->oracle, true, max_products, result);
}

static dg_status prepare(struct entry *entry, struct bench_gpu_result *result)
{
    struct bench_gpu *all = entry->all;
    const double start = cli_seconds();
    DG_TRY(dg_prepare(all->context, entry->problem));
    result->prepare_ms = 1e3 * (cli_seconds() - start);
    return cli_gpu_workspace(&all->gpu, all->context, entry->problem, &entry->options);
}

// A peer that refuses a problem leaves its column empty.  The one with scales must also be right, in the
// few rows that are looked at: else we would be compared with a call that we got wrong.
static bool can_do(struct entry *entry, enum bench_contestant which, struct cli_data *data)
{
    struct bench_gpu *all = entry->all;
    struct cli_check result;
    if (which == BENCH_OURS)
        return true;
    if (cli_cublaslt_plan(&all->lt, &all->gpu, data, contestants[which].scales,
                          &entry->plans[which]) != DG_OK)
        return false;
    if (contestants[which].scales == CLI_CUBLASLT_NO_SCALES)
        return true;
    if (check(entry, which, data, 1, &result) != DG_OK)
        snprintf(result.failure, sizeof result.failure, "%s", dg_last_error());
    if (result.failure[0])
        cli_error(all->bench->command, CLI_FAILED, "cuBLASLt with block scales is not timed: %s",
                  result.failure);
    return !result.failure[0];
}

static dg_status record_graphs(struct entry *entry, struct cli_data *data)
{
    struct bench_gpu *all = entry->all;
    for (int i = 0; i < BENCH_CONTESTANTS; i++) {
        if (!all->is_wanted[i] || !can_do(entry, (enum bench_contestant)i, data))
            continue;
        const dg_status status = cli_gpu_record(&all->gpu, contestants[i].launch, entry,
                                                entry->num_launches, &entry->graphs[i]);
        if (status != DG_OK && i == BENCH_OURS)
            return status;
    }
    return DG_OK;
}

static dg_status replay_in_turn(struct entry *entry, struct bench_gpu_result *result)
{
    double us[BENCH_CONTESTANTS][ROUNDS];
    for (int round = -1; round < ROUNDS; round++) // the first one warms up
        for (int i = 0; i < BENCH_CONTESTANTS; i++) {
            double time;
            if (!entry->graphs[i])
                continue;
            DG_TRY(cli_gpu_replay(&entry->all->gpu, entry->graphs[i], &time));
            if (round >= 0)
                us[i][round] = time / entry->num_launches;
        }
    for (int i = 0; i < BENCH_CONTESTANTS; i++)
        result->us[i] = entry->graphs[i] ? bench_median(us[i], ROUNDS) : NAN;
    return DG_OK;
}

// What a call costs the caller: batches short enough never to wait for the queue.
static dg_status time_host(struct entry *entry, struct bench_gpu_result *result)
{
    const struct cli_gpu *gpu = &entry->all->gpu;
    double us[HOST_BATCHES];
    for (int batch = 0; batch < HOST_BATCHES; batch++) {
        DG_CUDA_TRY(gpu->cuda->cuStreamSynchronize(gpu->stream), "waiting for the device");
        const double start = cli_seconds();
        for (int i = 0; i < HOST_CALLS; i++)
            DG_TRY(launch_ours(entry, i, gpu->stream));
        us[batch] = 1e6 * (cli_seconds() - start) / HOST_CALLS;
    }
    DG_CUDA_TRY(gpu->cuda->cuStreamSynchronize(gpu->stream), "waiting for the device");
    result->host_us = bench_median(us, HOST_BATCHES);
    return DG_OK;
}

static dg_status measure_entry(struct entry *entry, struct cli_data *data,
                               struct bench_gpu_result *result)
{
    struct cli_facts facts = {0};
    DG_TRY(dg_explain(entry->all->context, entry->problem, cli_facts_add, &facts));
    const char *kernel = cli_facts_find(&facts, "kernel_key");
    snprintf(result->kernel, sizeof result->kernel, "%s", kernel ? kernel : "");
    cli_facts_free(&facts);
    DG_TRY(upload_sets(entry, data));
    DG_TRY(prepare(entry, result));
    DG_TRY(check(entry, BENCH_OURS, data, bench_check_products, &result->check));
    DG_TRY(record_graphs(entry, data));
    DG_TRY(replay_in_turn(entry, result));
    return entry->all->bench->settings->host ? time_host(entry, result) : DG_OK;
}

dg_status bench_gpu_measure(struct bench_gpu *all, struct cli_data *data,
                            struct bench_gpu_result *result)
{
    const bool is_large = cli_operations(&data->problem) > large_operations;
    struct entry entry = {.all = all,
                          .problem = &data->problem,
                          .num_launches = is_large ? LAUNCHES_OF_LARGE : LAUNCHES};
    *result = (struct bench_gpu_result){.host_us = NAN};
    const dg_status status = measure_entry(&entry, data, result);
    result->num_sets = entry.num_sets;
    result->workspace_bytes = entry.options.workspace_bytes;
    entry_free(&entry);
    return status;
}
