// SPDX-License-Identifier: MIT
// sm90_winners.c - the table of measured winners, read on an H100 SXM (132 SMs).
#include "backend/sm90/sm90_winners.h"

#include <stddef.h>

// Few rows are a matter of memory, so their winners hold only where it is not much faster than an H100's.
enum { FEW_ROWS = 256, MOST_GBS = 3700 };

static const struct dg_sm90_winner winners[] = {
    {128, 2112, 7168, 1, 64, 64, 32, 8, 1, 2, 0},
    {128, 4096, 7168, 193, 256, 128, 64, 8, 1, 0, 0},
    {128, 4096, 7168, 385, 512, 128, 128, 6, 1, 0, 0},
    {128, 7168, 2048, 1, 64, 64, 64, 6, 1, 1, 0},
    {128, 7168, 2048, 65, 128, 64, 128, 8, 1, 0, 0},
    {128, 7168, 2048, 1921, 2048, 128, 176, 5, 1, 0, 0},
    {128, 7168, 2048, 2049, INT32_MAX, 128, 224, 4, 1, 0, 0},
    {128, 7168, 16384, 2049, INT32_MAX, 128, 224, 4, 1, 0, 0},
    {128, 24576, 1536, 17, 64, 64, 64, 12, 1, 0, 0},
    {128, 24576, 1536, 65, 128, 64, 128, 8, 1, 0, 0},
    {128, 24576, 1536, 449, 1024, 128, 192, 5, 1, 0, 0},
    {128, 24576, 1536, 3841, INT32_MAX, 128, 192, 5, 1, 0, 0},
    {128, 32768, 512, 65, 192, 64, 128, 8, 1, 0, 0},
    {128, 32768, 512, 193, 256, 128, 176, 5, 1, 0, 0},
    {128, 32768, 512, 257, 896, 256, 128, 4, 1, 0, 0},
    {128, 32768, 512, 897, 1088, 64, 128, 8, 1, 0, 1},
    {128, 32768, 512, 1089, INT32_MAX, 64, 128, 6, 1, 0, 1},
    {1, 7168, 8192, 1921, 2048, 256, 96, 4, 1, 0, 0},
    {1, 24576, 4096, 1409, 1536, 256, 96, 4, 1, 0, 0},
};

const struct dg_sm90_winner *dg_sm90_winner(const struct dg_problem *problem,
                                            const struct dg_device *device)
{
    if (device->num_sms != 132)
        return NULL;
    for (size_t i = 0; i < sizeof winners / sizeof *winners; i++) {
        const struct dg_sm90_winner *w = &winners[i];
        // With C, which they were measured without, or the gradients with D, most of the time is another.
        const dg_c_mode measured = w->sfb_block_n == 1 ? DG_C_IN_PLACE : DG_C_NONE;
        if (w->last_m <= FEW_ROWS && device->memory_gbs > MOST_GBS)
            continue;
        if (problem->c_mode == measured && w->sfb_block_n == problem->sfb_block_n &&
            w->n == problem->n && w->k == problem->k && problem->m >= w->first_m &&
            problem->m <= w->last_m)
            return w;
    }
    return NULL;
}
