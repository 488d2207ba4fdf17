// SPDX-License-Identifier: MIT
// bench_turn.c - `deepgemm bench --in-turn`: the problems of the list against its first one.
//
// A list timed row by row compares a cool card with a hot one.  Here the operands of all problems are on the device
// at once and their graphs are replayed in turn, so each round has one reading of each; what is told is the median of
// the rounds' ratios.
#include "bench_gpu.h"

#include <stdlib.h>

static const double check_products = 1e8;

struct runner {
    struct cli_data data;
    struct bench_entry entry;
    struct cli_check check;
};

struct turns {
    struct bench_gpu *all;
    struct runner *runners;
    struct bench_lap *laps; // of the runners
    size_t count;
};

// ---- measuring ----------------------------------------------------------------------------------

static dg_status open_runner(struct turns *turns, const struct dg_problem *problem,
                             struct runner *runner, struct bench_lap *lap)
{
    const struct bench *bench = turns->all->bench;
    struct bench_entry *entry = &runner->entry;
    entry->all = turns->all; // for close
    DG_TRY(cli_data_create(&runner->data, problem, (uint64_t)bench->settings->seed, bench->cpu));
    DG_TRY(bench_entry_open(entry, turns->all, &runner->data));
    DG_TRY(bench_entry_prepare(entry));
    DG_TRY(bench_entry_check(entry, bench_entry_launch, entry, &runner->data, check_products,
                             &runner->check));
    lap->num_launches = entry->num_launches;
    return cli_gpu_record(&turns->all->gpu, bench_entry_launch, entry, lap->num_launches,
                          &lap->graph);
}

static dg_status measure(struct turns *turns)
{
    const struct bench *bench = turns->all->bench;
    for (size_t i = 0; i < bench->num_problems; i++) {
        char line[512];
        cli_problem_format(&bench->problems[i], line, sizeof line);
        cli_progress_show(line, (double)i, (double)bench->num_problems);
        turns->count++;
        DG_TRY(open_runner(turns, &bench->problems[i], &turns->runners[i], &turns->laps[i]));
    }
    return bench_laps_replay(&turns->all->gpu, turns->laps, turns->count, BENCH_ROUNDS);
}

static void turns_close(struct turns *turns)
{
    bench_laps_free(&turns->all->gpu, turns->laps, turns->count);
    for (size_t i = 0; i < turns->count; i++) {
        bench_entry_close(&turns->runners[i].entry);
        cli_data_free(&turns->runners[i].data);
    }
    free(turns->runners);
    free(turns->laps);
}

// ---- rows ---------------------------------------------------------------------------------------

enum column { PROBLEM, DEVICE, CHECK, US, TFLOPS, FLOOR_US, FLOOR_SHARE, TIME, RATE, NUM_COLUMNS };
static const struct cli_column columns[NUM_COLUMNS] = {
    [PROBLEM] = {"problem", "problem", -90, NULL},
    [DEVICE] = {"device", NULL, 0, NULL},
    [CHECK] = {"check", "check", -6, NULL},
    [US] = {"us", "us", 8, "%.2f"},
    [TFLOPS] = {"tflops", "TFLOPS", 6, "%.0f"},
    [FLOOR_US] = {"floor_us", NULL, 0, NULL},
    [FLOOR_SHARE] = {"floor_share", "floor", 5, "%.2f"},
    [TIME] = {"time_to_first", "time", 6, "%.3f"},
    [RATE] = {"rate_to_first", "rate", 6, "%.3f"},
};

static void add_row(const struct turns *turns, size_t i)
{
    char line[512];
    const struct runner *runner = &turns->runners[i];
    const struct dg_problem *p = &runner->data.problem;
    const double us = bench_lap_us(&turns->laps[i], BENCH_ROUNDS);
    const double ratio = bench_lap_ratio(&turns->laps[i], &turns->laps[0]);
    const double floor = bench_gpu_floor_us(turns->all, p), operations = cli_operations(p);
    cli_problem_format(p, line, sizeof line);
    const struct cli_value values[NUM_COLUMNS] = {
        [PROBLEM] = CLI_TEXT_VALUE(line),
        [DEVICE] = CLI_TEXT_VALUE(turns->all->device.name),
        [CHECK] = CLI_TEXT_VALUE(runner->check.failure[0] ? "FAILED" : "ok"),
        [US] = CLI_NUMBER_VALUE(us),
        [TFLOPS] = CLI_NUMBER_VALUE(1e-6 * operations / us),
        [FLOOR_US] = CLI_NUMBER_VALUE(floor),
        [FLOOR_SHARE] = CLI_NUMBER_VALUE(floor / us),
        [TIME] = CLI_NUMBER_VALUE(ratio),
        [RATE] =
            CLI_NUMBER_VALUE(operations / cli_operations(&turns->runners[0].data.problem) / ratio),
    };
    cli_table_row(&turns->all->bench->table, values);
    if (runner->check.failure[0]) {
        cli_error(turns->all->bench->command, CLI_FAILED, "%s: %s", line, runner->check.failure);
        turns->all->bench->num_failures++;
    }
}

static int report(const struct turns *turns)
{
    struct bench *bench = turns->all->bench;
    bench_begin(bench, columns, NUM_COLUMNS);
    for (size_t i = 0; i < turns->count; i++)
        add_row(turns, i);
    cli_table_end(&bench->table);
    if (bench->table.json)
        printf("}\n");
    return bench->num_failures ? CLI_FAILED : CLI_OK;
}

int bench_gpu_in_turn(struct bench_gpu *all)
{
    struct bench *bench = all->bench;
    struct turns turns = {.all = all,
                          .runners = calloc(bench->num_problems, sizeof *turns.runners),
                          .laps = calloc(bench->num_problems, sizeof *turns.laps)};
    dg_status status = turns.runners && turns.laps ? measure(&turns) : DG_OUT_OF_MEMORY;
    cli_progress_clear();
    const int result = status == DG_OK ? report(&turns) : cli_status_error(bench->command, status);
    turns_close(&turns);
    return result;
}
