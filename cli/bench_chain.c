// SPDX-License-Identifier: MIT
// bench_chain.c - `deepgemm bench --chain`: the problems of the list one after the other, again and again,
// in a CUDA graph; launched plainly, with programmatic dependent launch, and with that and B fetched early.
//
// The three graphs are replayed in turn.  What the early launch gains is the part of a kernel's start that
// runs beside the end of the one before it.
#include "bench_gpu.h"

#include <stdlib.h>
#include <string.h>

static const double check_products = 1e8;

static const struct {
    const char *name;
    uint32_t flags;
} modes[] = {
    {"plain", 0},
    {"pdl", DG_GEMM_PDL},
    {"pdl, B early", DG_GEMM_PDL | DG_GEMM_PDL_PREFETCH_B},
};
enum { NUM_MODES = sizeof modes / sizeof *modes };

struct link {
    struct cli_data data;
    struct bench_entry entry;
    struct cli_check check;
};

struct chain {
    struct bench_gpu *all;
    struct link *links;
    int count, num_rounds;            // times that a graph goes through the chain
    struct bench_lap laps[NUM_MODES]; // a launch is one chain
};

// ---- measuring ----------------------------------------------------------------------------------

static dg_status launch_link(void *user, int index, CUstream stream)
{
    struct chain *chain = user;
    return bench_entry_launch(&chain->links[index % chain->count].entry, index / chain->count,
                              stream);
}

static dg_status open_link(struct chain *chain, const struct dg_problem *problem, struct link *link)
{
    const struct bench *bench = chain->all->bench;
    const uint64_t seed = (uint64_t)bench->settings->seed;
    link->entry.all = chain->all; // for close
    DG_TRY(cli_data_create(&link->data, problem, seed, bench->cpu));
    DG_TRY(bench_entry_open(&link->entry, chain->all, &link->data));
    DG_TRY(bench_entry_prepare(&link->entry));
    if (chain->num_rounds == 0 || link->entry.num_launches < chain->num_rounds)
        chain->num_rounds = link->entry.num_launches;
    return DG_OK;
}

// The last mode is the one that is checked: a launch on its own, though, cannot show a race.
static dg_status record(struct chain *chain)
{
    for (int mode = 0; mode < NUM_MODES; mode++) {
        for (int i = 0; i < chain->count; i++)
            chain->links[i].entry.options.flags = modes[mode].flags;
        chain->laps[mode].num_launches = chain->num_rounds;
        DG_TRY(cli_gpu_record(&chain->all->gpu, launch_link, chain,
                              chain->count * chain->num_rounds, &chain->laps[mode].graph));
    }
    for (int i = 0; i < chain->count; i++) {
        struct link *link = &chain->links[i];
        DG_TRY(bench_entry_check(&link->entry, bench_entry_launch, &link->entry, &link->data,
                                 check_products, &link->check));
    }
    return DG_OK;
}

static dg_status measure(struct chain *chain)
{
    const struct bench *bench = chain->all->bench;
    for (size_t i = 0; i < bench->num_problems; i++) {
        cli_progress_show("chain", (double)i, (double)bench->num_problems);
        DG_TRY(open_link(chain, &bench->problems[i], &chain->links[chain->count++]));
    }
    DG_TRY(record(chain));
    return bench_laps_replay(&chain->all->gpu, chain->laps, NUM_MODES, BENCH_ROUNDS);
}

static void chain_close(struct chain *chain)
{
    bench_laps_free(&chain->all->gpu, chain->laps, NUM_MODES);
    for (int i = 0; i < chain->count; i++) {
        bench_entry_close(&chain->links[i].entry);
        cli_data_free(&chain->links[i].data);
    }
    free(chain->links);
}

// ---- rows ---------------------------------------------------------------------------------------

enum column { LAUNCH, DEVICE, CALLS, CHECK, US, US_PER_CALL, GAIN_US, GAIN, NUM_COLUMNS };
static const struct cli_column columns[NUM_COLUMNS] = {
    [LAUNCH] = {"launch", "launch", -40, NULL},
    [DEVICE] = {"device", NULL, 0, NULL},
    [CALLS] = {"calls", "calls", 5, "%.0f"},
    [CHECK] = {"check", "check", -6, NULL},
    [US] = {"us", "us", 8, "%.2f"},
    [US_PER_CALL] = {"us_per_call", "a call", 8, "%.2f"},
    [GAIN_US] = {"gain_us_per_call", "gain us", 8, "%.2f"},
    [GAIN] = {"gain", "plain/", 6, "%.3f"},
};

static void add_rows(const struct chain *chain, const char *failure)
{
    for (int mode = 0; mode < NUM_MODES; mode++) {
        const double us = bench_lap_us(&chain->laps[mode], BENCH_ROUNDS);
        const double plain = bench_lap_us(&chain->laps[0], BENCH_ROUNDS);
        const struct cli_value values[NUM_COLUMNS] = {
            [LAUNCH] = CLI_TEXT_VALUE(modes[mode].name),
            [DEVICE] = CLI_TEXT_VALUE(chain->all->device.name),
            [CALLS] = CLI_NUMBER_VALUE(chain->count),
            [CHECK] = CLI_TEXT_VALUE(failure[0] ? "FAILED" : "ok"),
            [US] = CLI_NUMBER_VALUE(us),
            [US_PER_CALL] = CLI_NUMBER_VALUE(us / chain->count),
            [GAIN_US] = CLI_NUMBER_VALUE((plain - us) / chain->count),
            [GAIN] = CLI_NUMBER_VALUE(plain / us),
        };
        cli_table_row(&chain->all->bench->table, values);
    }
}

static int report(const struct chain *chain)
{
    struct bench *bench = chain->all->bench;
    const char *failure = "";
    for (int i = 0; i < chain->count; i++)
        if (chain->links[i].check.failure[0])
            failure = chain->links[i].check.failure;
    bench_begin(bench, columns, NUM_COLUMNS);
    add_rows(chain, failure);
    cli_table_end(&bench->table);
    if (bench->table.json)
        printf("}\n");
    return failure[0] ? cli_error(bench->command, CLI_FAILED, "%s", failure) : CLI_OK;
}

int bench_gpu_chain(struct bench_gpu *all)
{
    struct bench *bench = all->bench;
    struct chain chain = {.all = all, .links = calloc(bench->num_problems, sizeof *chain.links)};
    dg_status status = chain.links ? measure(&chain) : DG_OUT_OF_MEMORY;
    cli_progress_clear();
    const int result = status == DG_OK ? report(&chain) : cli_status_error(bench->command, status);
    chain_close(&chain);
    return result;
}
