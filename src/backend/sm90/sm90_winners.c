// SPDX-License-Identifier: MIT
// sm90_winners.c - the table of measured winners, read on an H100 SXM (132 SMs).
#include "backend/sm90/sm90_winners.h"

#include <stddef.h>

static const struct dg_sm90_winner winners[] = {
    {128, 32768, 512, 257, INT32_MAX, 256, 128, 1, 0},
};

const struct dg_sm90_winner *dg_sm90_winner(const struct dg_problem *problem,
                                            const struct dg_device *device)
{
    if (device->num_sms != 132)
        return NULL;
    for (size_t i = 0; i < sizeof winners / sizeof *winners; i++) {
        const struct dg_sm90_winner *w = &winners[i];
        if (w->sfb_block_n == problem->sfb_block_n && w->n == problem->n && w->k == problem->k &&
            problem->m >= w->first_m && problem->m <= w->last_m)
            return w;
    }
    return NULL;
}
