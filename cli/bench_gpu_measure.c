// SPDX-License-Identifier: MIT
// bench_gpu_measure.c - the time of one problem on a GPU, taken so that the figures of two runs compare.
//
// Each implementation is captured as one graph of launches that rotate over as many sets of inputs as
// make 120 MB, so that weights come from memory and not from L2.  The graphs of the implementations are
// replayed in turn, several rounds; the figure is the median replay divided by its launches.
#include "bench_gpu.h"

#include <string.h>

enum { HOST_BATCHES = 50, HOST_CALLS = 20 };

// One problem and its contestants.  cuBLASLt has no grouped products: beside one it is timed on a dense product
// that the file of peers has.
struct contest {
    struct bench_entry entry, reference;
    struct cli_data reference_data;
    bool has_reference;
    struct cli_cublaslt_plan plans[BENCH_CONTESTANTS]; // of the cuBLASLt ones
    struct bench_lap laps[BENCH_CONTESTANTS];          // no graph: cannot do it
};

// ---- contestants ----------------------------------------------------------------------------------

static dg_status launch_lt(struct contest *contest, enum bench_contestant which, int index,
                           CUstream stream)
{
    const struct bench_entry *entry =
        contest->has_reference ? &contest->reference : &contest->entry;
    return cli_cublaslt_launch(&entry->all->lt, &contest->plans[which],
                               &entry->sets[index % entry->num_sets].operands, stream);
}

static dg_status launch_ours(void *user, int index, CUstream stream)
{
    return bench_entry_launch(&((struct contest *)user)->entry, index, stream);
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

static void contest_close(struct contest *contest)
{
    struct bench_gpu *all = contest->entry.all;
    bench_laps_free(&all->gpu, contest->laps, BENCH_CONTESTANTS);
    for (int i = 0; i < BENCH_CONTESTANTS; i++)
        if (i != BENCH_OURS)
            cli_cublaslt_plan_free(&all->lt, &all->gpu, &contest->plans[i]);
    bench_entry_close(&contest->entry);
    if (contest->has_reference)
        bench_entry_close(&contest->reference);
    cli_data_free(&contest->reference_data);
}

// The dense product of a peer's row, for cuBLASLt.
static dg_status open_reference(struct contest *contest, const struct bench_peer *peer)
{
    struct bench_gpu *all = contest->entry.all;
    struct dg_problem problem;
    char line[128];
    snprintf(line, sizeof line, "fp8_gemm_nt m=%lld n=%lld k=%lld sfa_layout=mn",
             (long long)peer->m, (long long)peer->n, (long long)peer->k);
    DG_TRY(dg_problem_parse(line, &problem));
    DG_TRY(cli_data_create(&contest->reference_data, &problem, (uint64_t)all->bench->settings->seed,
                           all->bench->cpu));
    contest->has_reference = true;
    return bench_entry_open(&contest->reference, all, &contest->reference_data);
}

static dg_status check(struct contest *contest, enum bench_contestant which, struct cli_data *data,
                       double max_products, struct cli_check *result)
{
    return bench_entry_check(&contest->entry, contestants[which].launch, contest, data,
                             max_products, result);
}

// A peer that refuses a problem leaves its column empty.  The one with scales must also be right, in the
// few rows that are looked at: else we would be compared with a call that we got wrong.
static bool can_do(struct contest *contest, enum bench_contestant which, struct cli_data *data)
{
    struct bench_gpu *all = contest->entry.all;
    struct cli_check result;
    if (which == BENCH_OURS)
        return true;
    if (data->problem.groups && (!contest->has_reference || which != BENCH_CUBLASLT))
        return false;
    if (cli_cublaslt_plan(&all->lt, &all->gpu,
                          contest->has_reference ? &contest->reference_data : data,
                          contestants[which].scales, &contest->plans[which]) != DG_OK)
        return false;
    if (contestants[which].scales == CLI_CUBLASLT_NO_SCALES)
        return true;
    if (check(contest, which, data, 1, &result) != DG_OK)
        snprintf(result.failure, sizeof result.failure, "%s", dg_last_error());
    if (result.failure[0])
        cli_error(all->bench->command, CLI_FAILED, "cuBLASLt with block scales is not timed: %s",
                  result.failure);
    return !result.failure[0];
}

static int num_launches(const struct contest *contest, int which)
{
    return which != BENCH_OURS && contest->has_reference ? contest->reference.num_launches
                                                         : contest->entry.num_launches;
}

static dg_status record_graphs(struct contest *contest, struct cli_data *data)
{
    struct bench_gpu *all = contest->entry.all;
    for (int i = 0; i < BENCH_CONTESTANTS; i++) {
        if (!all->is_wanted[i] || !can_do(contest, (enum bench_contestant)i, data))
            continue;
        struct bench_lap *lap = &contest->laps[i];
        lap->num_launches = num_launches(contest, i);
        const dg_status status = cli_gpu_record(&all->gpu, contestants[i].launch, contest,
                                                lap->num_launches, &lap->graph);
        if (status != DG_OK && i == BENCH_OURS)
            return status;
    }
    return DG_OK;
}

// What a call costs the caller: batches short enough never to wait for the queue.
static dg_status time_host(struct contest *contest, struct bench_gpu_result *result)
{
    const struct cli_gpu *gpu = &contest->entry.all->gpu;
    double us[HOST_BATCHES];
    for (int batch = 0; batch < HOST_BATCHES; batch++) {
        DG_CUDA_TRY(gpu->cuda->cuStreamSynchronize(gpu->stream), "waiting for the device");
        const double start = cli_seconds();
        for (int i = 0; i < HOST_CALLS; i++)
            DG_TRY(launch_ours(contest, i, gpu->stream));
        us[batch] = 1e6 * (cli_seconds() - start) / HOST_CALLS;
    }
    DG_CUDA_TRY(gpu->cuda->cuStreamSynchronize(gpu->stream), "waiting for the device");
    result->host_us = bench_median(us, HOST_BATCHES);
    return DG_OK;
}

static dg_status measure(struct contest *contest, struct bench_gpu *all, struct cli_data *data,
                         struct bench_gpu_result *result)
{
    struct cli_facts facts = {0};
    DG_TRY(dg_explain(all->context, &data->problem, cli_facts_add, &facts));
    const char *kernel = cli_facts_find(&facts, "kernel_key");
    snprintf(result->kernel, sizeof result->kernel, "%s", kernel ? kernel : "");
    cli_facts_free(&facts);
    DG_TRY(bench_entry_open(&contest->entry, all, data));
    const double start = cli_seconds();
    DG_TRY(bench_entry_prepare(&contest->entry));
    result->prepare_ms = 1e3 * (cli_seconds() - start);
    DG_TRY(check(contest, BENCH_OURS, data, bench_check_products, &result->check));
    if (result->reference)
        DG_TRY(open_reference(contest, result->reference));
    DG_TRY(record_graphs(contest, data));
    DG_TRY(bench_laps_replay(&all->gpu, contest->laps, BENCH_CONTESTANTS, BENCH_ROUNDS));
    for (int i = 0; i < BENCH_CONTESTANTS; i++)
        result->us[i] = bench_lap_us(&contest->laps[i], BENCH_ROUNDS);
    return all->bench->settings->host ? time_host(contest, result) : DG_OK;
}

dg_status bench_gpu_measure(struct bench_gpu *all, struct cli_data *data,
                            struct bench_gpu_result *result)
{
    struct contest contest = {.entry = {.all = all}, .has_reference = false};
    const struct bench_peer *peer = bench_find_peer(&all->peers, &data->problem);
    *result = (struct bench_gpu_result){.host_us = NAN};
    if (data->problem.groups && peer && all->is_wanted[BENCH_CUBLASLT])
        result->reference = bench_find_reference(&all->peers, peer);
    const dg_status status = measure(&contest, all, data, result);
    result->num_sets = contest.entry.num_sets;
    result->workspace_bytes = contest.entry.options.workspace_bytes;
    contest_close(&contest);
    return status;
}
