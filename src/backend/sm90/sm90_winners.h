// SPDX-License-Identifier: MIT
// sm90_winners.h - tiles that measured faster than the cost model's choice.
#ifndef DG_SM90_WINNERS_H
#define DG_SM90_WINNERS_H

#include "deepgemm.h"
#include "plan/device.h"

// For m in [first_m, last_m] of one n and k.
struct dg_sm90_winner {
    int32_t sfb_block_n;
    int32_t n, k, first_m, last_m;
    int32_t block_m, block_n, num_stages, cluster_n, split; // as in struct dg_sm90_config
    int32_t has_panels;                                     // dg_sm90_has_panels
};

// NULL when nothing was measured for this problem on this kind of device.
const struct dg_sm90_winner *dg_sm90_winner(const struct dg_problem *problem,
                                            const struct dg_device *device);

#endif
