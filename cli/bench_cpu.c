// SPDX-License-Identifier: MIT
// bench_cpu.c - timing on a CPU: one row for each problem, instruction set and number of threads, put
// in proportion by a probe of the machine taken in the same moment.
#include "bench.h"
#include "backend/cpu/cpu_probe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 256, MAX_CALLS = 2000, SLICES = 5 };

enum column {
    PROBLEM,
    BACKEND,
    ISA,
    THREADS,
    ROWS_CHECKED,
    ERROR,
    BEST_US,
    MEDIAN_US,
    GFLOPS,
    GBS,
    PEAK_GFLOPS,
    PEAK_RATIO,
    SCRATCH_BYTES,
    RESIDENT_BYTES,
    MEGABYTES,
    STATUS,
    NUM_COLUMNS
};

static const struct cli_column columns[NUM_COLUMNS] = {
    [PROBLEM] = {"problem", "problem", -46, NULL},
    [BACKEND] = {"backend", "backend", -7, NULL},
    [ISA] = {"isa", "isa", 6, NULL},
    [THREADS] = {"threads", "thr", 3, "%.0f"},
    [ROWS_CHECKED] = {"rows_checked", NULL, 0, NULL},
    [ERROR] = {"relative_error", "error", 8, "%.1e"},
    [BEST_US] = {"best_us", "best us", 10, "%.1f"},
    [MEDIAN_US] = {"median_us", "median us", 10, "%.1f"},
    [GFLOPS] = {"gflops", "GFLOP/s", 8, "%.1f"},
    [GBS] = {"gbs", "GB/s", 6, "%.1f"},
    [PEAK_GFLOPS] = {"fma_peak_gflops", NULL, 0, NULL},
    [PEAK_RATIO] = {"fma_peak_ratio", "of peak", 7, "%.2f"},
    [SCRATCH_BYTES] = {"scratch_bytes", NULL, 0, NULL},
    [RESIDENT_BYTES] = {"resident_bytes", NULL, 0, NULL},
    [MEGABYTES] = {"memory_mb", "MB", 6, "%.1f"},
    [STATUS] = {"check", "check", -6, NULL},
};

// ---- the machine --------------------------------------------------------------------------------

struct probe {
    const char *isa;
    double gflops;
};

static void *probe_main(void *argument)
{
    struct probe *probe = argument;
    probe->gflops = dg_cpu_fma_peak_gflops(probe->isa, 0.005);
    return NULL;
}

// The multiply-add peak of `count` threads at the same time.
static double probe_peak(const char *isa, int count)
{
    pthread_t threads[MAX_THREADS];
    struct probe probes[MAX_THREADS];
    int started = 0;
    for (; started < count - 1 && started < MAX_THREADS - 1; started++) {
        probes[started] = (struct probe){isa, 0};
        if (pthread_create(&threads[started], NULL, probe_main, &probes[started]) != 0)
            break;
    }
    struct probe own = {isa, 0};
    probe_main(&own);
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        own.gflops += probes[i].gflops;
    }
    return own.gflops;
}

// A line of /proc/self/status in bytes; NAN where there is none.
static double process_bytes(const char *key)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    double bytes = NAN;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0)
            bytes = 1024 * strtod(line + strlen(key), NULL);
    if (file)
        fclose(file);
    return bytes;
}

// Makes the peak of resident memory count from now on.
static bool forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    return file && (fputs("5", file) >= 0) & (fclose(file) == 0);
}

// ---- one row ------------------------------------------------------------------------------------

struct row {
    struct cli_check check;
    double best_us, median_us, peak_gflops, peak_ratio, resident_bytes;
};

static dg_status first_call(struct bench *bench, dg_context *context, struct cli_data *data,
                            const struct cli_operands *operands, struct row *row)
{
    cli_data_reset(data);
    const bool is_measured = forget_peak();
    const double before = process_bytes("VmRSS:");
    dg_status status = cli_call(context, &data->problem, operands, NULL, NULL);
    row->resident_bytes = is_measured ? fmax(0, process_bytes("VmHWM:") - before) : NAN;
    if (status == DG_OK)
        status = cli_check(data, bench->oracle, false, bench_check_products, &row->check);
    return status;
}

struct times {
    double us[MAX_CALLS], probes[SLICES + 1];
    double slice_best_us[SLICES];
    size_t count;
};

static dg_status time_slice(const struct bench *bench, dg_context *context,
                            const struct cli_data *data, const struct cli_operands *operands,
                            struct times *times, double *best_us)
{
    size_t calls = 0;
    *best_us = INFINITY;
    const double end = cli_seconds() + 1e-3 / SLICES * (double)bench->settings->time_ms;
    for (double now = cli_seconds(); calls < MAX_CALLS / SLICES && (now < end || calls == 0);
         calls++) {
        const dg_status status = cli_call(context, &data->problem, operands, NULL, NULL);
        if (status != DG_OK)
            return status;
        const double after = cli_seconds();
        times->us[times->count++] = 1e6 * (after - now);
        *best_us = fmin(*best_us, 1e6 * (after - now));
        now = after;
    }
    return DG_OK;
}

// Calls in slices with a probe before and behind each, so that what else the machine does meets both:
// the ratio is the median over the slices of the best call over its two probes.
static void summarise(struct times *times, const struct dg_problem *problem, struct row *row)
{
    double ratios[SLICES];
    row->peak_gflops = NAN;
    for (int i = 0; i < SLICES; i++) {
        const double gflops = 1e-3 * cli_operations(problem) / times->slice_best_us[i];
        ratios[i] = gflops / (0.5 * (times->probes[i] + times->probes[i + 1]));
    }
    for (int i = 0; i <= SLICES; i++)
        row->peak_gflops = fmax(row->peak_gflops, times->probes[i]);
    row->peak_ratio = row->peak_gflops > 0 ? bench_median(ratios, SLICES) : NAN;
    row->median_us = bench_median(times->us, times->count);
    row->best_us = times->us[0]; // sorted by now
}

static dg_status measure(struct bench *bench, dg_context *context, struct cli_data *data,
                         const char *isa, int num_threads, struct row *row)
{
    struct cli_operands operands;
    struct times times = {.count = 0};
    cli_data_operands(data, &operands);
    dg_status status = first_call(bench, context, data, &operands, row);
    const bool with_peak =
        isa && (!bench->settings->vs || bench_list_has(bench->settings->vs, "fma-peak"));
    times.probes[0] = with_peak ? probe_peak(isa, num_threads) : NAN;
    for (int i = 0; i < SLICES && status == DG_OK; i++) {
        status = time_slice(bench, context, data, &operands, &times, &times.slice_best_us[i]);
        times.probes[i + 1] = with_peak ? probe_peak(isa, num_threads) : NAN;
    }
    if (status == DG_OK)
        summarise(&times, &data->problem, row);
    return status;
}

static void print_row(struct bench *bench, const struct dg_problem *problem, const char *backend,
                      const char *isa, int num_threads, const char *scratch, const struct row *row)
{
    char line[512];
    cli_problem_format(problem, line, sizeof line);
    const double gflops = 1e-3 * cli_operations(problem) / row->best_us;
    const struct cli_value values[NUM_COLUMNS] = {
        [PROBLEM] = CLI_TEXT_VALUE(line),
        [BACKEND] = CLI_TEXT_VALUE(backend),
        [ISA] = CLI_TEXT_VALUE(isa ? isa : ""),
        [THREADS] = CLI_NUMBER_VALUE(num_threads),
        [ROWS_CHECKED] = CLI_NUMBER_VALUE((double)row->check.rows),
        [ERROR] = CLI_NUMBER_VALUE(row->check.relative),
        [BEST_US] = CLI_NUMBER_VALUE(row->best_us),
        [MEDIAN_US] = CLI_NUMBER_VALUE(row->median_us),
        [GFLOPS] = CLI_NUMBER_VALUE(gflops),
        [GBS] = CLI_NUMBER_VALUE(1e-3 * cli_bytes(problem) / row->best_us),
        [PEAK_GFLOPS] = CLI_NUMBER_VALUE(row->peak_gflops),
        [PEAK_RATIO] = CLI_NUMBER_VALUE(row->peak_ratio),
        [SCRATCH_BYTES] = scratch ? CLI_NUMBER_VALUE(strtod(scratch, NULL)) : CLI_EMPTY_VALUE,
        [RESIDENT_BYTES] = CLI_NUMBER_VALUE(row->resident_bytes),
        [MEGABYTES] = CLI_NUMBER_VALUE(row->resident_bytes / 1e6),
        [STATUS] = CLI_TEXT_VALUE(row->check.failure[0] ? "FAILED" : "ok"),
    };
    cli_table_row(&bench->table, values);
    if (row->check.failure[0])
        cli_error(bench->command, CLI_FAILED, "%s: %s", line, row->check.failure);
}

// ---- all rows -----------------------------------------------------------------------------------

// The backend says "2 of 4": what this problem uses, of what there is.
static int pool_threads(const char *fact)
{
    const char *of = fact ? strstr(fact, "of ") : NULL;
    const int count = of ? atoi(of + 3) : fact ? atoi(fact) : 1;
    return count > 0 ? count : 1;
}

static int bench_one(struct bench *bench, struct cli_data *data, const char *isa, int64_t threads)
{
    const struct cli_context_settings settings = {
        .backend = bench->settings->backend, .isa = isa, .threads = threads, .device = -1};
    dg_context *context;
    if (cli_context_create(&context, &settings) != DG_OK)
        return cli_library_error(bench->command);
    struct cli_facts facts = {0};
    struct row row = {0};
    dg_status status = dg_explain(context, &data->problem, cli_facts_add, &facts);
    const char *isa_in_use = cli_facts_find(&facts, "isa");
    const int num_threads = pool_threads(cli_facts_find(&facts, "threads"));
    if (status == DG_OK)
        status = measure(bench, context, data, isa_in_use, num_threads, &row);
    if (status == DG_OK) {
        print_row(bench, &data->problem, dg_context_backend(context), isa_in_use, num_threads,
                  cli_facts_find(&facts, "scratch bytes"), &row);
        bench->num_failures += row.check.failure[0] != 0;
    }
    cli_facts_free(&facts);
    dg_context_destroy(context);
    return status == DG_OK ? CLI_OK : cli_status_error(bench->command, status);
}

static int bench_variants(struct bench *bench, struct cli_data *data)
{
    char isa[64] = "", threads[64] = "";
    const char *isas = bench->settings->isa, *counts = bench->settings->threads;
    int status = CLI_OK;
    for (int i = 0; status == CLI_OK && (isas ? cli_list_item(isas, i, isa, sizeof isa) : i == 0);
         i++)
        for (int j = 0; status == CLI_OK &&
                        (counts ? cli_list_item(counts, j, threads, sizeof threads) : j == 0);
             j++) {
            char *end = threads;
            const long long count = counts ? strtoll(threads, &end, 10) : 0;
            if (*end || count < 0 || (counts && end == threads))
                return cli_error(bench->command, CLI_USAGE, "--threads %s: numbers are wanted",
                                 counts);
            status = bench_one(bench, data, isas ? isa : NULL, count);
        }
    return status;
}

static int check_peers(const struct bench *bench)
{
    char peer[64];
    for (int i = 0; bench->settings->vs && cli_list_item(bench->settings->vs, i, peer, sizeof peer);
         i++)
        if (strcmp(peer, "fma-peak") != 0)
            return cli_error(bench->command, CLI_USAGE, "--vs %s: a CPU is compared with fma-peak",
                             peer);
    return CLI_OK;
}

int bench_run_cpu(struct bench *bench)
{
    int status = check_peers(bench);
    if (status != CLI_OK)
        return status;
    bench_begin(bench, columns, NUM_COLUMNS);
    for (size_t i = 0; i < bench->num_problems && status == CLI_OK; i++) {
        char line[512];
        cli_problem_format(&bench->problems[i], line, sizeof line);
        cli_progress_show(line, (double)i, (double)bench->num_problems);
        struct cli_data data;
        const dg_status made = cli_data_create(&data, &bench->problems[i],
                                               (uint64_t)bench->settings->seed, bench->cpu);
        status =
            made == DG_OK ? bench_variants(bench, &data) : cli_status_error(bench->command, made);
        cli_data_free(&data);
    }
    cli_table_end(&bench->table);
    if (bench->table.json)
        printf("}\n");
    return status == CLI_OK && bench->num_failures ? CLI_FAILED : status;
}
