// SPDX-License-Identifier: MIT
// sm90_cost.h - how a tile would cover a problem, and how long that would take.  Pure: numbers in, numbers out.
#ifndef DG_SM90_COST_H
#define DG_SM90_COST_H

#include "plan/plan.h"

// A larger D does not stay in an L2 cache of 50 MB until the next launch.
enum { DG_SM90_D_STAYS_BYTES = 16 << 20 };

// Rows of a tile that hold anything, at most block_m: sm90_args.h.
int32_t dg_sm90_tile_rows(const struct dg_sm90_config *config, int64_t m);

// Tiles in units of a cluster (tiled kernel) or alone (split kernel).
struct dg_sm90_grid {
    int64_t units_m, units_n, num_ctas, waves;
    int32_t tile_rows;
    int32_t band; // units of m that are walked together
};

struct dg_sm90_grid dg_sm90_grid_of(const struct dg_sm90_config *config,
                                    const struct dg_problem *problem,
                                    const struct dg_device *device);

// Is D added to in place by the L2 cache?  Any other C is read by the math warps.
int dg_sm90_adds_in_memory(const struct dg_problem *problem);

// Clocks in which the math warps read the C of one tile of so many rows, if they do.  `edges`: how large a share of the
// tiles takes as long as those that reach beyond n; 1 where all of a wave wait for these.
double dg_sm90_reading_clocks(const struct dg_sm90_config *config, const struct dg_problem *problem,
                              double rows, double edges);

// Microseconds from one launch to the next.
double dg_sm90_cost(const struct dg_sm90_config *config, const struct dg_problem *problem,
                    const struct dg_device *device);

#endif
