// SPDX-License-Identifier: MIT
// bench_laps.c - graphs of launches, replayed in turn: how every mode of the benchmark takes time on a GPU.
//
// What is compared is read within one round, so that a card whose clock falls does not favour the first of a list.
#include "bench_gpu.h"

#include <string.h>

dg_status bench_laps_replay(const struct cli_gpu *gpu, struct bench_lap *laps, size_t count,
                            int rounds)
{
    for (int round = -1; round < rounds; round++) // the first one warms up
        for (size_t i = 0; i < count; i++) {
            double us;
            if (!laps[i].graph)
                continue;
            DG_TRY(cli_gpu_replay(gpu, laps[i].graph, &us));
            if (round >= 0)
                laps[i].rounds[round] = us / laps[i].num_launches;
        }
    return DG_OK;
}

double bench_lap_us(const struct bench_lap *lap, int rounds)
{
    double sorted[BENCH_ROUNDS];
    memcpy(sorted, lap->rounds, sizeof sorted);
    return lap->graph ? bench_median(sorted, (size_t)rounds) : NAN;
}

double bench_lap_ratio(const struct bench_lap *lap, const struct bench_lap *to)
{
    double ratios[BENCH_ROUNDS];
    for (int round = 0; round < BENCH_ROUNDS; round++)
        ratios[round] = lap->rounds[round] / to->rounds[round];
    return bench_median(ratios, BENCH_ROUNDS);
}

void bench_laps_free(const struct cli_gpu *gpu, struct bench_lap *laps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (laps[i].graph)
            gpu->cuda->cuGraphExecDestroy(laps[i].graph);
        laps[i].graph = NULL;
    }
}
