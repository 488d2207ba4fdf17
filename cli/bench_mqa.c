// SPDX-License-Identifier: MIT
// bench_mqa.c - times MQA logits: on a GPU as GEMMs are timed (bench_gpu_measure.c), rotating over inputs that
// make 120 MB, and once more on one set of inputs, which stays in the L2 cache if it fits; on a CPU as calls
// on inputs that stay in memory.
//
// DeepGEMM cleans in a pass of its own, which the peers' times leave out.  Where we clean, a memset of as many bytes
// as that pass writes is timed too: it can't be faster than that, so the ratio of these rows is a lower bound.
#include "bench_gpu.h"
#include "mqa.h"

#include <stdlib.h>
#include <string.h>

enum column {
    PROBLEM,
    BACKEND,
    DEVICE,
    ROWS_CHECKED,
    ERROR,
    CHECK,
    US,
    WARM_US,
    TFLOPS,
    GBS,
    FLOOR_US,
    FLOOR_SHARE,
    CLEAN_PASS_US,
    DEEPGEMM_US,
    DEEPGEMM_RATIO,
    DEEPGEMM_WARM_RATIO,
    NUM_SETS,
    NUM_COLUMNS
};

static const struct cli_column columns[NUM_COLUMNS] = {
    [PROBLEM] = {"problem", "problem", -60, NULL},
    [BACKEND] = {"backend", "backend", -7, NULL},
    [DEVICE] = {"device", NULL, 0, NULL},
    [ROWS_CHECKED] = {"rows_checked", NULL, 0, NULL},
    [ERROR] = {"difference", "error", 7, "%.1e"},
    [CHECK] = {"check", "check", -6, NULL},
    [US] = {"us", "us", 8, "%.2f"},
    [WARM_US] = {"warm_us", "warm us", 8, "%.2f"},
    [TFLOPS] = {"tflops", "TFLOPS", 6, "%.0f"},
    [GBS] = {"gbs", "GB/s", 5, "%.0f"},
    [FLOOR_US] = {"floor_us", NULL, 0, NULL},
    [FLOOR_SHARE] = {"floor_share", "floor", 5, "%.2f"},
    [CLEAN_PASS_US] = {"clean_pass_us", "memset", 6, "%.2f"},
    [DEEPGEMM_US] = {"deepgemm_us", "DeepGEMM", 8, "%.2f"},
    [DEEPGEMM_RATIO] = {"deepgemm_ratio", "/ours", 5, "%.2f"},
    [DEEPGEMM_WARM_RATIO] = {"deepgemm_warm_ratio", "/warm", 5, "%.2f"},
    [NUM_SETS] = {"input_sets", NULL, 0, NULL},
};

struct figures {
    struct cli_mqa_check check;
    double us, warm_us;
    double clean_pass_us; // NAN: nothing was cleaned
    int num_sets;
};

// Geometric means of DeepGEMM's time over ours.
struct mean {
    double log_sum, worst;
    int count;
};
struct summary {
    struct mean plain, cleaned, paged, paged_warm;
};

// ---- on a GPU -----------------------------------------------------------------------------------

struct entry {
    dg_context *context;
    struct cli_gpu *gpu;
    struct cli_mqa_data *data;
    struct cli_mqa_copy copies[BENCH_MAX_SETS];
    int num_sets, num_used; // num_used: sets that launches rotate over
};

static dg_status launch(void *user, int index, CUstream stream)
{
    struct entry *entry = user;
    return cli_mqa_call(entry->context, entry->data, entry->copies[index % entry->num_used].base,
                        stream);
}

static bool is_cleaned(const struct cli_mqa *mqa)
{
    return mqa->flags & DG_MQA_CLEAN;
}

// As many bytes as the scores outside of the ranges have.
static dg_status launch_memset(void *user, int index, CUstream stream)
{
    const struct entry *entry = user;
    const struct cli_mqa_data *data = entry->data;
    const int64_t count = data->mqa.rows * data->mqa.columns - data->num_scores;
    const size_t words = (size_t)count / (data->mqa.logits_type == DG_F32 ? 1 : 2);
    const CUdeviceptr logits = entry->copies[index % entry->num_used].buffer[CLI_MQA_LOGITS];
    DG_CUDA_TRY(entry->gpu->cuda->cuMemsetD32Async(logits, 0xff800000u, words, stream), "a memset");
    return DG_OK;
}

static dg_status time_sets(struct entry *entry, cli_gpu_launch launch_one, int num_used, double *us)
{
    struct bench_lap lap = {.num_launches = bench_num_launches(cli_mqa_operations(entry->data))};
    entry->num_used = num_used;
    DG_TRY(cli_gpu_record(entry->gpu, launch_one, entry, lap.num_launches, &lap.graph));
    const dg_status status = bench_laps_replay(entry->gpu, &lap, 1, BENCH_ROUNDS);
    *us = bench_lap_us(&lap, BENCH_ROUNDS);
    bench_laps_free(entry->gpu, &lap, 1);
    return status;
}

static dg_status add_set(struct entry *entry)
{
    struct cli_mqa_copy *copy = &entry->copies[entry->num_sets];
    DG_TRY(cli_mqa_upload(entry->gpu, entry->data, copy));
    entry->num_sets++;
    return cli_mqa_schedule(entry->context, entry->data, copy->base, entry->gpu->stream);
}

static dg_status measure_entry(struct bench *bench, struct entry *entry, struct figures *figures)
{
    const int num_sets = bench_num_sets(cli_mqa_bytes(entry->data));
    DG_TRY(add_set(entry));
    entry->num_used = 1;
    DG_TRY(launch(entry, 0, entry->gpu->stream));
    DG_TRY(cli_mqa_fetch(entry->gpu, entry->data, &entry->copies[0]));
    DG_TRY(cli_mqa_compare(entry->data, bench->oracle, bench_check_products, &figures->check));
    while (entry->num_sets < num_sets)
        DG_TRY(add_set(entry));
    figures->num_sets = entry->num_sets;
    DG_TRY(time_sets(entry, launch, 1, &figures->warm_us));
    DG_TRY(time_sets(entry, launch, entry->num_sets, &figures->us));
    if (is_cleaned(&entry->data->mqa))
        DG_TRY(time_sets(entry, launch_memset, entry->num_sets, &figures->clean_pass_us));
    return DG_OK;
}

static dg_status measure_gpu(struct bench *bench, dg_context *context, struct cli_gpu *gpu,
                             struct cli_mqa_data *data, struct figures *figures)
{
    struct entry entry = {.context = context, .gpu = gpu, .data = data};
    const dg_status status = measure_entry(bench, &entry, figures);
    for (int i = 0; i < BENCH_MAX_SETS; i++)
        cli_mqa_copy_free(gpu, &entry.copies[i]);
    return status;
}

// ---- on a CPU -----------------------------------------------------------------------------------

static dg_status measure_cpu(struct bench *bench, dg_context *context, struct cli_mqa_data *data,
                             struct figures *figures)
{
    enum { MOST_CALLS = 1000 };
    static double us[MOST_CALLS];
    void *base[CLI_MQA_BUFFERS];
    const double begin = cli_seconds();
    size_t count = 0;
    cli_mqa_data_base(data, base);
    do {
        const double start = cli_seconds();
        DG_TRY(cli_mqa_call(context, data, base, NULL));
        us[count++] = 1e6 * (cli_seconds() - start);
    } while (count < MOST_CALLS &&
             1e3 * (cli_seconds() - begin) < (double)bench->settings->time_ms);
    figures->us = bench_median(us, count);
    return cli_mqa_compare(data, bench->oracle, bench_check_products, &figures->check);
}

// ---- rows ---------------------------------------------------------------------------------------

// The peer's row for the same sizes, which is not cleaned.
static double deepgemm_us(const struct bench_peers *peers, const struct cli_mqa *mqa)
{
    char wanted[512], line[512], found[512];
    struct cli_mqa plain = *mqa, peer;
    plain.flags &= ~(uint32_t)DG_MQA_CLEAN;
    cli_mqa_format(&plain, wanted, sizeof wanted);
    for (size_t i = 0; i < peers->count; i++) {
        const struct bench_peer *row = &peers->list[i];
        snprintf(line, sizeof line, "%s %s", row->op, row->detail);
        if (!cli_mqa_is_line(line) || cli_mqa_parse(line, &peer) != DG_OK)
            continue;
        cli_mqa_format(&peer, found, sizeof found);
        if (!strcmp(found, wanted))
            return row->deepgemm_us;
    }
    return NAN;
}

static void mean_add(struct mean *mean, double ratio)
{
    if (!(ratio > 0))
        return;
    mean->log_sum += log(ratio);
    mean->worst = mean->count++ && mean->worst < ratio ? mean->worst : ratio;
}

static double floor_us(const struct dg_device *device, const struct cli_mqa_data *data)
{
    return bench_gpu_roof_us(device, cli_mqa_bytes(data), cli_mqa_operations(data));
}

static void add_row(struct bench *bench, dg_context *context, const struct dg_device *device,
                    const struct bench_peers *peers, const struct cli_mqa_data *data,
                    const struct figures *figures, struct summary *summary)
{
    char line[512];
    const struct cli_mqa *mqa = &data->mqa;
    const double us = figures->us, warm = figures->warm_us;
    const double deepgemm = deepgemm_us(peers, mqa);
    const double peer = deepgemm + (is_cleaned(mqa) ? figures->clean_pass_us : 0);
    const double floor = device ? floor_us(device, data) : NAN;
    cli_mqa_format(mqa, line, sizeof line);
    const struct cli_value values[NUM_COLUMNS] = {
        [PROBLEM] = CLI_TEXT_VALUE(line),
        [BACKEND] = CLI_TEXT_VALUE(dg_context_backend(context)),
        [DEVICE] = CLI_TEXT_VALUE(device ? device->name : ""),
        [ROWS_CHECKED] = CLI_NUMBER_VALUE((double)figures->check.rows),
        [ERROR] = CLI_NUMBER_VALUE(figures->check.difference),
        [CHECK] = CLI_TEXT_VALUE(figures->check.failure[0] ? "FAILED" : "ok"),
        [US] = CLI_NUMBER_VALUE(us),
        [WARM_US] = CLI_NUMBER_VALUE(warm),
        [TFLOPS] = CLI_NUMBER_VALUE(1e-6 * cli_mqa_operations(data) / us),
        [GBS] = CLI_NUMBER_VALUE(1e-3 * cli_mqa_bytes(data) / us),
        [FLOOR_US] = CLI_NUMBER_VALUE(floor),
        [FLOOR_SHARE] = CLI_NUMBER_VALUE(floor / us),
        [CLEAN_PASS_US] = CLI_NUMBER_VALUE(figures->clean_pass_us),
        [DEEPGEMM_US] = CLI_NUMBER_VALUE(deepgemm),
        [DEEPGEMM_RATIO] = CLI_NUMBER_VALUE(peer / us),
        [DEEPGEMM_WARM_RATIO] = CLI_NUMBER_VALUE(mqa->is_paged ? peer / warm : NAN),
        [NUM_SETS] = CLI_NUMBER_VALUE(figures->num_sets),
    };
    cli_table_row(&bench->table, values);
    mean_add(mqa->is_paged     ? &summary->paged
             : is_cleaned(mqa) ? &summary->cleaned
                               : &summary->plain,
             peer / us);
    if (mqa->is_paged)
        mean_add(&summary->paged_warm, peer / warm);
    if (figures->check.failure[0]) {
        cli_error(bench->command, CLI_FAILED, "%s: %s", line, figures->check.failure);
        bench->num_failures++;
    }
}

static void print_mean(const char *title, const struct mean *mean)
{
    if (mean->count)
        printf("DeepGEMM / ours, by time, geometric mean: %s %.3f (%d rows, worst %.3f)\n", title,
               exp(mean->log_sum / mean->count), mean->count, mean->worst);
}

static void json_mean(const char *key, const struct mean *mean)
{
    printf("%s: ", key);
    cli_json_number(stdout, mean->count ? exp(mean->log_sum / mean->count) : NAN);
}

static void print_summary(const struct bench *bench, const struct summary *summary)
{
    if (bench->table.json) {
        json_mean(", \"summary\": {\"plain\"", &summary->plain);
        json_mean(", \"cleaned\"", &summary->cleaned);
        json_mean(", \"paged\"", &summary->paged);
        json_mean(", \"paged_warm\"", &summary->paged_warm);
        printf("}}\n");
        return;
    }
    print_mean("plain", &summary->plain);
    print_mean("cleaned, DeepGEMM + memset", &summary->cleaned);
    print_mean("paged", &summary->paged);
    print_mean("paged, one set of inputs", &summary->paged_warm);
}

// ---- all of it ----------------------------------------------------------------------------------

struct all {
    struct bench *bench;
    dg_context *context;
    struct cli_gpu gpu; // closed on a CPU
    struct dg_device device;
    struct bench_peers peers;
    struct summary summary;
};

static int bench_one(struct all *all, const struct cli_mqa *mqa)
{
    struct bench *bench = all->bench;
    struct cli_mqa_data data;
    struct figures figures = {.us = NAN, .warm_us = NAN, .clean_pass_us = NAN};
    const bool is_gpu = all->gpu.cuda;
    dg_status status =
        cli_mqa_data_create(&data, mqa, (uint64_t)bench->settings->seed,
                            is_gpu ? dg_context_num_sms(all->context) : 0, bench->cpu);
    if (status != DG_OK)
        return cli_status_error(bench->command, status);
    status = is_gpu ? measure_gpu(bench, all->context, &all->gpu, &data, &figures)
                    : measure_cpu(bench, all->context, &data, &figures);
    if (status == DG_OK)
        add_row(bench, all->context, is_gpu ? &all->device : NULL, &all->peers, &data, &figures,
                &all->summary);
    cli_mqa_data_free(&data);
    return status == DG_OK ? CLI_OK : cli_status_error(bench->command, status);
}

static int open_all(struct all *all)
{
    const struct bench_settings *settings = all->bench->settings;
    if (settings->tune || settings->sweep || settings->chain || settings->in_turn || settings->vs)
        return cli_error(all->bench->command, CLI_USAGE,
                         "--tune, --sweep, --chain, --in-turn and --vs are not for MQA logits");
    if (settings->peers) {
        const int status = bench_read_peers(all->bench->command, settings->peers, &all->peers);
        if (status != CLI_OK)
            return status;
    }
    if (!cli_context_is_gpu(all->context))
        return CLI_OK;
    if (cli_gpu_open(&all->gpu, settings->device) != DG_OK ||
        dg_cuda_device_facts(all->gpu.cuda, all->gpu.context.ordinal, &all->device) != DG_OK)
        return cli_library_error(all->bench->command);
    return CLI_OK;
}

int bench_run_mqa(struct bench *bench, dg_context *context)
{
    struct all all = {.bench = bench, .context = context};
    int status = open_all(&all);
    if (status == CLI_OK) {
        bench->table.columns = columns;
        bench->table.num_columns = NUM_COLUMNS;
        if (bench->table.json)
            fprintf(bench->table.json, "{\"version\": \"%s\", \"rows\": ", dg_version());
        cli_table_begin(&bench->table);
        for (size_t i = 0; i < bench->num_mqa && status == CLI_OK; i++)
            status = bench_one(&all, &bench->mqa[i]);
        cli_table_end(&bench->table);
        print_summary(bench, &all.summary);
    }
    cli_gpu_close(&all.gpu);
    free(all.peers.list);
    return status == CLI_OK && bench->num_failures ? CLI_FAILED : status;
}
