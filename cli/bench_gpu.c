// SPDX-License-Identifier: MIT
// bench_gpu.c - benchmarks on a GPU: one row for each problem, set against the floor, cuBLASLt timed in
// the same run, and DeepGEMM through cuBLASLt's time beside it on another day.
#include "bench_gpu.h"
#include "grouped.h"

#include <stdlib.h>
#include <string.h>

// An H100 copies at 0.91 of its memory's nominal rate, and reaches 1600 TFLOPS on its 132 SMs.
static const double copy_share = 0.91, sm_tflops = 1600.0 / 132;

enum column {
    PROBLEM,
    BACKEND,
    DEVICE,
    M,
    N,
    K,
    ROWS_CHECKED,
    ERROR,
    CHECK,
    US,
    TFLOPS,
    GBS,
    FLOOR_US,
    FLOOR_SHARE,
    CUBLASLT_US,
    CUBLASLT_RATIO,
    BLOCK_US,
    BLOCK_RATIO,
    DEEPGEMM_US,
    DEEPGEMM_TIME_RATIO,
    DEEPGEMM_RATIO,
    HOST_US,
    PREPARE_MS,
    WORKSPACE,
    NUM_SETS,
    KERNEL,
    NUM_COLUMNS
};

static const struct cli_column columns[NUM_COLUMNS] = {
    [PROBLEM] = {"problem", "problem", -40, NULL},
    [BACKEND] = {"backend", "backend", -7, NULL},
    [DEVICE] = {"device", NULL, 0, NULL},
    [M] = {"m", NULL, 0, NULL},
    [N] = {"n", NULL, 0, NULL},
    [K] = {"k", NULL, 0, NULL},
    [ROWS_CHECKED] = {"rows_checked", NULL, 0, NULL},
    [ERROR] = {"relative_error", "error", 7, "%.1e"},
    [CHECK] = {"check", "check", -6, NULL},
    [US] = {"us", "us", 8, "%.2f"},
    [TFLOPS] = {"tflops", "TFLOPS", 6, "%.0f"},
    [GBS] = {"gbs", "GB/s", 5, "%.0f"},
    [FLOOR_US] = {"floor_us", NULL, 0, NULL},
    [FLOOR_SHARE] = {"floor_share", "floor", 5, "%.2f"},
    [CUBLASLT_US] = {"cublaslt_us", "cuBLASLt", 8, "%.2f"},
    [CUBLASLT_RATIO] = {"cublaslt_ratio", "/ours", 5, "%.2f"},
    [BLOCK_US] = {"cublaslt_block_us", "block", 8, "%.2f"},
    [BLOCK_RATIO] = {"cublaslt_block_ratio", "/ours", 5, "%.2f"},
    [DEEPGEMM_US] = {"deepgemm_us", NULL, 0, NULL},
    [DEEPGEMM_TIME_RATIO] = {"deepgemm_time_ratio", NULL, 0, NULL},
    [DEEPGEMM_RATIO] = {"deepgemm_ratio", "DeepGEMM", 8, "%.2f"},
    [HOST_US] = {"host_us", "host us", 7, "%.2f"},
    [PREPARE_MS] = {"prepare_ms", "ready ms", 8, "%.0f"},
    [WORKSPACE] = {"workspace_bytes", NULL, 0, NULL},
    [NUM_SETS] = {"input_sets", NULL, 0, NULL},
    [KERNEL] = {"kernel", NULL, 0, NULL},
};

// ---- closing figures ----------------------------------------------------------------------------

struct mean {
    double log_sum;
    int64_t count;
};

// Ratios of a peer's time to ours, over ranges of m.
static const struct {
    const char *key, *title;
    int64_t first, last; // m
} ranges[] = {
    {"m_from_512", "M >= 512", 512, INT64_MAX},
    {"m_to_256", "M <= 256", 0, 256},
    {"all", "all", 0, INT64_MAX},
};
enum { NUM_RANGES = sizeof ranges / sizeof *ranges };

static const struct {
    enum column column;
    const char *title;
} summarised[] = {
    {CUBLASLT_RATIO, "cuBLASLt / ours"},
    {BLOCK_RATIO, "cuBLASLt block / ours"},
    {DEEPGEMM_RATIO, "DeepGEMM / ours, through cuBLASLt"},
    {DEEPGEMM_TIME_RATIO, "DeepGEMM / ours, by time"},
};
enum { NUM_SUMMARISED = sizeof summarised / sizeof *summarised };

struct summary {
    struct {
        struct mean means[NUM_RANGES];
        double worst;
        char worst_problem[256];
    } of[NUM_SUMMARISED];
};

static void summary_add(struct summary *summary, const struct dg_problem *problem,
                        const struct cli_value values[NUM_COLUMNS])
{
    for (int i = 0; i < NUM_SUMMARISED; i++) {
        const double ratio = values[summarised[i].column].number;
        if (!(ratio > 0))
            continue;
        for (int range = 0; range < NUM_RANGES; range++)
            if (problem->m >= ranges[range].first && problem->m <= ranges[range].last) {
                summary->of[i].means[range].log_sum += log(ratio);
                summary->of[i].means[range].count++;
            }
        if (summary->of[i].worst_problem[0] && summary->of[i].worst <= ratio)
            continue;
        summary->of[i].worst = ratio;
        snprintf(summary->of[i].worst_problem, sizeof summary->of[i].worst_problem, "%s",
                 values[PROBLEM].text);
    }
}

static double geometric(const struct mean *mean)
{
    return mean->count ? exp(mean->log_sum / (double)mean->count) : NAN;
}

static void summary_print(const struct summary *summary)
{
    for (int i = 0; i < NUM_SUMMARISED; i++) {
        if (!summary->of[i].worst_problem[0])
            continue;
        printf("\n%s, geometric mean:", summarised[i].title);
        for (int range = 0; range < NUM_RANGES; range++) {
            const struct mean *mean = &summary->of[i].means[range];
            if (mean->count)
                printf("  %s %.3f (%lld rows)", ranges[range].title, geometric(mean),
                       (long long)mean->count);
        }
        printf("\n  worst row %.3f: %s\n", summary->of[i].worst, summary->of[i].worst_problem);
    }
}

static void summary_json(const struct summary *summary)
{
    for (int i = 0; i < NUM_SUMMARISED; i++) {
        printf("%s\n  \"%s\": {", i ? "," : "", columns[summarised[i].column].key);
        for (int range = 0; range < NUM_RANGES; range++) {
            printf("\"%s\": ", ranges[range].key);
            cli_json_number(stdout, geometric(&summary->of[i].means[range]));
            printf(", ");
        }
        printf("\"worst\": ");
        cli_json_number(stdout, summary->of[i].worst_problem[0] ? summary->of[i].worst : NAN);
        printf(", \"worst_problem\": ");
        cli_json_string(stdout, summary->of[i].worst_problem);
        printf("}");
    }
}

// ---- rows ---------------------------------------------------------------------------------------

static double bytes_per_us(const struct dg_device *device)
{
    return 1e3 * copy_share * device->memory_gbs;
}

static double operations_per_us(const struct dg_device *device)
{
    return 1e6 * sm_tflops * device->all_sms;
}

double bench_gpu_roof_us(const struct dg_device *device, double bytes, double operations)
{
    return fmax(bytes / bytes_per_us(device), operations / operations_per_us(device));
}

double bench_gpu_floor_us(const struct bench_gpu *all, const struct dg_problem *problem)
{
    const struct dg_device *device = &all->device;
    if (problem->groups) // of each group by itself
        return cli_grouped_us(problem, bytes_per_us(device), operations_per_us(device));
    return bench_gpu_roof_us(device, cli_bytes(problem), cli_operations(problem));
}

static void add_row(const struct bench_gpu *all, const struct dg_problem *problem,
                    const struct bench_gpu_result *result, struct summary *summary)
{
    char line[512];
    cli_problem_format(problem, line, sizeof line);
    const struct bench_peer *peer = bench_find_peer(&all->peers, problem);
    const double us = result->us[BENCH_OURS], lt = result->us[BENCH_CUBLASLT];
    const double block = result->us[BENCH_CUBLASLT_BLOCK], floor = bench_gpu_floor_us(all, problem);
    const double deepgemm = peer ? peer->deepgemm_us : NAN;
    const struct bench_peer *same = result->reference ? result->reference : peer;
    const double deepgemm_to_lt = peer ? deepgemm / same->cublaslt_us : NAN;
    const struct cli_value values[NUM_COLUMNS] = {
        [PROBLEM] = CLI_TEXT_VALUE(line),
        [BACKEND] = CLI_TEXT_VALUE(dg_context_backend(all->context)),
        [DEVICE] = CLI_TEXT_VALUE(all->device.name),
        [M] = CLI_NUMBER_VALUE((double)problem->m),
        [N] = CLI_NUMBER_VALUE((double)problem->n),
        [K] = CLI_NUMBER_VALUE((double)problem->k),
        [ROWS_CHECKED] = CLI_NUMBER_VALUE((double)result->check.rows),
        [ERROR] = CLI_NUMBER_VALUE(result->check.relative),
        [CHECK] = CLI_TEXT_VALUE(result->check.failure[0] ? "FAILED" : "ok"),
        [US] = CLI_NUMBER_VALUE(us),
        [TFLOPS] = CLI_NUMBER_VALUE(1e-6 * cli_operations(problem) / us),
        [GBS] = CLI_NUMBER_VALUE(1e-3 * cli_bytes(problem) / us),
        [FLOOR_US] = CLI_NUMBER_VALUE(floor),
        [FLOOR_SHARE] = CLI_NUMBER_VALUE(floor / us),
        [CUBLASLT_US] = CLI_NUMBER_VALUE(lt),
        [CUBLASLT_RATIO] = CLI_NUMBER_VALUE(result->reference ? NAN : lt / us),
        [BLOCK_US] = CLI_NUMBER_VALUE(block),
        [BLOCK_RATIO] = CLI_NUMBER_VALUE(block / us),
        [DEEPGEMM_US] = CLI_NUMBER_VALUE(deepgemm),
        [DEEPGEMM_TIME_RATIO] = CLI_NUMBER_VALUE(deepgemm / us),
        [DEEPGEMM_RATIO] = CLI_NUMBER_VALUE(deepgemm_to_lt / (us / lt)),
        [HOST_US] = CLI_NUMBER_VALUE(result->host_us),
        [PREPARE_MS] = CLI_NUMBER_VALUE(result->prepare_ms),
        [WORKSPACE] = CLI_NUMBER_VALUE((double)result->workspace_bytes),
        [NUM_SETS] = CLI_NUMBER_VALUE(result->num_sets),
        [KERNEL] = CLI_TEXT_VALUE(result->kernel),
    };
    cli_table_row(&all->bench->table, values);
    summary_add(summary, problem, values);
    if (result->check.failure[0]) {
        cli_error(all->bench->command, CLI_FAILED, "%s: %s", line, result->check.failure);
        all->bench->num_failures++;
    }
}

// ---- all of it ----------------------------------------------------------------------------------

static int read_contestants(struct bench_gpu *all)
{
    static const char *const names[BENCH_CONTESTANTS] = {[BENCH_OURS] = "",
                                                         [BENCH_CUBLASLT] = "cublaslt",
                                                         [BENCH_CUBLASLT_BLOCK] = "cublaslt_block"};
    const char *list = all->bench->settings->vs;
    char name[64];
    all->is_wanted[BENCH_OURS] = true;
    for (int i = 0; list && cli_list_item(list, i, name, sizeof name); i++) {
        int which = BENCH_CUBLASLT;
        while (which < BENCH_CONTESTANTS && strcmp(name, names[which]) != 0)
            which++;
        if (which < BENCH_CONTESTANTS)
            all->is_wanted[which] = true;
        else
            return cli_error(all->bench->command, CLI_USAGE,
                             "--vs %s: a GPU is compared with cublaslt and cublaslt_block", name);
    }
    return CLI_OK;
}

static int open_all(struct bench_gpu *all)
{
    const struct bench_settings *settings = all->bench->settings;
    int status = read_contestants(all);
    if (status == CLI_OK && settings->peers)
        status = bench_read_peers(all->bench->command, settings->peers, &all->peers);
    if (status != CLI_OK)
        return status;
    if (cli_gpu_open(&all->gpu, settings->device) != DG_OK ||
        dg_cuda_device_facts(all->gpu.cuda, all->gpu.context.ordinal, &all->device) != DG_OK)
        return cli_library_error(all->bench->command);
    const bool with_lt = all->is_wanted[BENCH_CUBLASLT] || all->is_wanted[BENCH_CUBLASLT_BLOCK];
    if (with_lt && cli_cublaslt_open(&all->lt, &all->gpu) != DG_OK)
        return cli_library_error(all->bench->command);
    if (with_lt)
        fprintf(stderr, "cuBLASLt %zu: %s\n", all->lt.version, all->lt.path);
    return CLI_OK;
}

static int bench_problem(struct bench_gpu *all, const struct dg_problem *problem,
                         struct summary *summary)
{
    struct bench *bench = all->bench;
    struct cli_data data;
    struct bench_gpu_result result;
    dg_status status = cli_data_create(&data, problem, (uint64_t)bench->settings->seed, bench->cpu);
    if (status == DG_OK)
        status = bench_gpu_measure(all, &data, &result);
    cli_data_free(&data);
    if (status != DG_OK)
        return cli_status_error(bench->command, status);
    add_row(all, problem, &result, summary);
    return CLI_OK;
}

static int bench_all(struct bench_gpu *all)
{
    struct bench *bench = all->bench;
    struct summary summary = {.of = {{.worst = NAN}}};
    int status = CLI_OK;
    bench_begin(bench, columns, NUM_COLUMNS);
    for (size_t i = 0; i < bench->num_problems && status == CLI_OK; i++) {
        char line[512];
        cli_problem_format(&bench->problems[i], line, sizeof line);
        cli_progress_show(line, (double)i, (double)bench->num_problems);
        status = bench_problem(all, &bench->problems[i], &summary);
    }
    cli_progress_clear();
    cli_table_end(&bench->table);
    if (bench->table.json) {
        printf(", \"summary\": {");
        summary_json(&summary);
        printf("\n}}\n");
    } else {
        summary_print(&summary);
    }
    return status == CLI_OK && bench->num_failures ? CLI_FAILED : status;
}

int bench_run_gpu(struct bench *bench, dg_context *context)
{
    struct bench_gpu all = {.bench = bench, .context = context};
    int status = open_all(&all);
    if (status == CLI_OK)
        status = bench->settings->tune      ? bench_gpu_tune(&all)
                 : bench->settings->sweep   ? bench_gpu_sweep(&all)
                 : bench->settings->chain   ? bench_gpu_chain(&all)
                 : bench->settings->in_turn ? bench_gpu_in_turn(&all)
                                            : bench_all(&all);
    if (all.gpu.cuda) {
        cli_cublaslt_close(&all.lt, &all.gpu);
        cli_gpu_close(&all.gpu);
    }
    free(all.peers.list);
    return status;
}
