// SPDX-License-Identifier: MIT
// bench_sweep.c - `deepgemm bench --sweep`: the time of a product over a range of m, to see that it has no
// cliffs.
//
// The operands are made once, for the last m; every point uses their first rows.  All points are replayed in turn,
// several rounds, and a step is the median of the rounds' ratios: two neighbours are read within a millisecond.  The
// ratio of their medians would show a step wherever a change of the device's clock falls between two of them.
#include "bench_gpu.h"

#include <stdlib.h>

enum { MAX_POINTS = 4096 };
static const double check_products = 1e8;

struct range {
    int64_t first, last, step;
};

struct point {
    struct bench_entry *entry;
    struct dg_problem problem;
    char kernel[160];
};

struct sweep {
    struct bench_gpu *all;
    struct range range;
    struct bench_entry entry;
    struct point *points;
    struct bench_lap *laps; // of the points
    size_t count;
    struct cli_check check; // of the last m, rounded up
};

// ---- points -------------------------------------------------------------------------------------

static dg_status launch_point(void *user, int index, CUstream stream)
{
    const struct point *point = user;
    const struct bench_entry *entry = point->entry;
    struct cli_operands operands = entry->sets[index % entry->num_sets].operands;
    operands.a.values.shape[0] = point->problem.m;
    operands.a.scales.shape[0] = point->problem.m;
    operands.d.shape[0] = operands.c.shape[0] = point->problem.m;
    return cli_call(entry->all->context, &point->problem, &operands, &entry->options, stream);
}

static dg_status record_point(struct point *point, struct bench_lap *lap)
{
    struct bench_gpu *all = point->entry->all;
    struct cli_facts facts = {0};
    DG_TRY(dg_explain(all->context, &point->problem, cli_facts_add, &facts));
    const char *kernel = cli_facts_find(&facts, "kernel_key");
    snprintf(point->kernel, sizeof point->kernel, "%s", kernel ? kernel : "");
    cli_facts_free(&facts);
    DG_TRY(dg_prepare(all->context, &point->problem));
    return cli_gpu_record(&all->gpu, launch_point, point, lap->num_launches, &lap->graph);
}

static dg_status record_points(struct sweep *sweep)
{
    const struct range *range = &sweep->range;
    for (int64_t m = range->first; m <= range->last; m += range->step) {
        struct bench_lap *lap = &sweep->laps[sweep->count];
        struct point *point = &sweep->points[sweep->count++];
        *point = (struct point){.entry = &sweep->entry, .problem = *sweep->entry.problem};
        point->problem.m = m;
        lap->num_launches = sweep->entry.num_launches;
        DG_TRY(record_point(point, lap));
    }
    return DG_OK;
}

static dg_status measure(struct sweep *sweep, struct cli_data *data)
{
    DG_TRY(bench_entry_open(&sweep->entry, sweep->all, data));
    DG_TRY(bench_entry_prepare(&sweep->entry));
    DG_TRY(bench_entry_check(&sweep->entry, bench_entry_launch, &sweep->entry, data, check_products,
                             &sweep->check));
    DG_TRY(record_points(sweep));
    return bench_laps_replay(&sweep->all->gpu, sweep->laps, sweep->count, BENCH_ROUNDS);
}

static void sweep_close(struct sweep *sweep)
{
    bench_laps_free(&sweep->all->gpu, sweep->laps, sweep->count);
    free(sweep->points);
    free(sweep->laps);
    bench_entry_close(&sweep->entry);
}

// The time of a point over that of the one before.
static double step_ratio(const struct sweep *sweep, size_t i)
{
    return i ? bench_lap_ratio(&sweep->laps[i], &sweep->laps[i - 1]) : NAN;
}

// ---- rows ---------------------------------------------------------------------------------------

enum column {
    PROBLEM,
    DEVICE,
    M,
    N,
    K,
    CHECK,
    US,
    STEP,
    TFLOPS,
    GBS,
    FLOOR_US,
    FLOOR_SHARE,
    DEEPGEMM_US,
    KERNEL,
    NUM_COLUMNS
};
static const struct cli_column columns[NUM_COLUMNS] = {
    [PROBLEM] = {"problem", "problem", -40, NULL},
    [DEVICE] = {"device", NULL, 0, NULL},
    [M] = {"m", NULL, 0, "%.0f"},
    [N] = {"n", NULL, 0, "%.0f"},
    [K] = {"k", NULL, 0, "%.0f"},
    [CHECK] = {"check", "check", -6, NULL},
    [US] = {"us", "us", 8, "%.2f"},
    [STEP] = {"step_ratio", "step", 6, "%.3f"},
    [TFLOPS] = {"tflops", "TFLOPS", 6, "%.0f"},
    [GBS] = {"gbs", "GB/s", 5, "%.0f"},
    [FLOOR_US] = {"floor_us", NULL, 0, "%.3f"},
    [FLOOR_SHARE] = {"floor_share", "floor", 5, "%.2f"},
    [DEEPGEMM_US] = {"deepgemm_us", NULL, 0, NULL},
    [KERNEL] = {"kernel", "kernel", -1, NULL},
};

static void add_row(const struct sweep *sweep, size_t i)
{
    const struct point *point = &sweep->points[i];
    const struct dg_problem *p = &point->problem;
    const struct bench_peer *peer = bench_find_peer(&sweep->all->peers, p);
    const double floor = bench_gpu_floor_us(sweep->all, p);
    const double us = bench_lap_us(&sweep->laps[i], BENCH_ROUNDS);
    char line[512];
    cli_problem_format(p, line, sizeof line);
    const struct cli_value values[NUM_COLUMNS] = {
        [PROBLEM] = CLI_TEXT_VALUE(line),
        [DEVICE] = CLI_TEXT_VALUE(sweep->all->device.name),
        [M] = CLI_NUMBER_VALUE((double)p->m),
        [N] = CLI_NUMBER_VALUE((double)p->n),
        [K] = CLI_NUMBER_VALUE((double)p->k),
        [CHECK] = CLI_TEXT_VALUE(sweep->check.failure[0] ? "FAILED" : "ok"),
        [US] = CLI_NUMBER_VALUE(us),
        [STEP] = CLI_NUMBER_VALUE(step_ratio(sweep, i)),
        [TFLOPS] = CLI_NUMBER_VALUE(1e-6 * cli_operations(p) / us),
        [GBS] = CLI_NUMBER_VALUE(1e-3 * cli_bytes(p) / us),
        [FLOOR_US] = CLI_NUMBER_VALUE(floor),
        [FLOOR_SHARE] = CLI_NUMBER_VALUE(floor / us),
        [DEEPGEMM_US] = CLI_NUMBER_VALUE(peer ? peer->deepgemm_us : NAN),
        [KERNEL] = CLI_TEXT_VALUE(point->kernel),
    };
    cli_table_row(&sweep->all->bench->table, values);
}

// The largest steps of the time from one point to the next.  Before a fall, too much was paid.
struct steps {
    int64_t n, k, fall_at, rise_at; // the m after the step; 0: there is none
    double fall, rise;
};

static struct steps steps_of(const struct sweep *sweep)
{
    struct steps steps = {.n = sweep->entry.problem->n, .k = sweep->entry.problem->k};
    for (size_t i = 1; i < sweep->count; i++) {
        const double ratio = step_ratio(sweep, i);
        if (ratio - 1 > steps.rise)
            steps.rise = ratio - 1, steps.rise_at = sweep->points[i].problem.m;
        if (1 - ratio > steps.fall)
            steps.fall = 1 - ratio, steps.fall_at = sweep->points[i].problem.m;
    }
    return steps;
}

static void print_steps(const struct steps *steps, size_t count, bool is_json)
{
    if (is_json)
        printf(", \"steps\": [");
    for (size_t i = 0; i < count; i++, steps++)
        if (is_json)
            printf("%s\n  {\"n\": %lld, \"k\": %lld, \"largest_fall\": %.4f, \"fall_at_m\": %lld, "
                   "\"largest_rise\": %.4f, \"rise_at_m\": %lld}",
                   i ? "," : "", (long long)steps->n, (long long)steps->k, steps->fall,
                   (long long)steps->fall_at, steps->rise, (long long)steps->rise_at);
        else
            printf("%sn = %lld, k = %lld: from one m to the next the time falls by at most %.1f %% "
                   "(m = %lld) and rises by at most %.1f %% (m = %lld)\n",
                   i ? "" : "\n", (long long)steps->n, (long long)steps->k, 100 * steps->fall,
                   (long long)steps->fall_at, 100 * steps->rise, (long long)steps->rise_at);
    if (is_json)
        printf("\n]}\n");
}

// ---- all of it ----------------------------------------------------------------------------------

static int read_range(const struct bench *bench, struct range *range)
{
    const char *text = bench->settings->sweep;
    long long first = 0, last = 0, step = 1;
    int length = 0;
    if (sscanf(text, "m=%lld..%lld%n:%lld%n", &first, &last, &length, &step, &length) < 2 ||
        text[length] || first < 1 || last < first || step < 1 || last > INT32_MAX)
        return cli_error(bench->command, CLI_USAGE,
                         "--sweep %s: m=FIRST..LAST or m=FIRST..LAST:STEP", text);
    *range = (struct range){first, last, step};
    if ((last - first) / step >= MAX_POINTS)
        return cli_error(bench->command, CLI_USAGE, "--sweep %s: more than %d points", text,
                         MAX_POINTS);
    return CLI_OK;
}

static dg_status sweep_problem(struct sweep *sweep, struct cli_data *data)
{
    const struct range *range = &sweep->range;
    const size_t most = (size_t)((range->last - range->first) / range->step + 1);
    sweep->points = calloc(most, sizeof *sweep->points);
    sweep->laps = calloc(most, sizeof *sweep->laps);
    return sweep->points && sweep->laps ? measure(sweep, data) : DG_OUT_OF_MEMORY;
}

static int report(const struct sweep *sweep)
{
    struct bench *bench = sweep->all->bench;
    cli_progress_clear();
    for (size_t i = 0; i < sweep->count; i++)
        add_row(sweep, i);
    if (!sweep->check.failure[0])
        return CLI_OK;
    bench->num_failures++;
    return cli_error(bench->command, CLI_FAILED, "m = %lld: %s", (long long)sweep->entry.problem->m,
                     sweep->check.failure);
}

static int sweep_shape(struct bench_gpu *all, const struct range *range,
                       const struct dg_problem *shape, struct steps *steps)
{
    struct bench *bench = all->bench;
    struct sweep sweep = {.all = all, .range = *range, .entry = {.all = all}};
    struct dg_problem problem = *shape;
    struct cli_data data;
    problem.m = (range->last + 3) / 4 * 4; // MN-major scales then suit TMA
    dg_status status =
        cli_data_create(&data, &problem, (uint64_t)bench->settings->seed, bench->cpu);
    if (status == DG_OK)
        status = sweep_problem(&sweep, &data);
    const int result = status == DG_OK ? report(&sweep) : cli_status_error(bench->command, status);
    if (status == DG_OK)
        *steps = steps_of(&sweep);
    sweep_close(&sweep);
    cli_data_free(&data);
    return result;
}

// The problem of most rows stands for all of its n and k: with one row it would have no layouts of A.
static bool is_repeated(const struct bench *bench, size_t index)
{
    const struct dg_problem *problem = &bench->problems[index];
    for (size_t i = 0; i < bench->num_problems; i++) {
        const struct dg_problem *other = &bench->problems[i];
        if (other->n == problem->n && other->k == problem->k &&
            (other->m > problem->m || (other->m == problem->m && i < index)))
            return true;
    }
    return false;
}

static int check_problems(const struct bench *bench)
{
    for (size_t i = 0; i < bench->num_problems; i++)
        if (bench->problems[i].op != DG_OP_FP8_GEMM_NT)
            return cli_error(bench->command, CLI_USAGE,
                             "--sweep: only fp8_gemm_nt has rows of A to cut");
    return CLI_OK;
}

static int sweep_all(struct bench_gpu *all, const struct range *range, struct steps *steps)
{
    struct bench *bench = all->bench;
    size_t count = 0;
    int status = CLI_OK;
    bench_begin(bench, columns, NUM_COLUMNS);
    for (size_t i = 0; i < bench->num_problems && status == CLI_OK; i++) {
        if (is_repeated(bench, i))
            continue;
        cli_progress_show("sweep", (double)i, (double)bench->num_problems);
        status = sweep_shape(all, range, &bench->problems[i], &steps[count]);
        count += status == CLI_OK;
    }
    cli_progress_clear();
    cli_table_end(&bench->table);
    print_steps(steps, count, bench->table.json != NULL);
    return status;
}

int bench_gpu_sweep(struct bench_gpu *all)
{
    struct bench *bench = all->bench;
    struct range range;
    int status = check_problems(bench);
    if (status == CLI_OK)
        status = read_range(bench, &range);
    if (status != CLI_OK)
        return status;
    struct steps *steps = calloc(bench->num_problems, sizeof *steps);
    if (!steps)
        return cli_error(bench->command, CLI_FAILED, "out of memory");
    status = sweep_all(all, &range, steps);
    free(steps);
    return status;
}
