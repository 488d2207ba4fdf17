// SPDX-License-Identifier: MIT
// sm90_cost.c - the cost model, in SM clocks.
//
// A launch takes `waves` rounds of tiles.  A round takes, for each k-block, the longest of what the tensor
// cores, one warpgroup's chain of multiply and promote, and the way from the L2 cache need, and once the time to
// fill the ring and to send a tile off; all of it no less than the bytes take from memory.  The figures were
// fitted to 3,600 timings on an H100 under load: docs/TUNING.md.
#include "backend/sm90/sm90_cost.h"

#include "backend/sm90/sm90_kernel.h"

#include <math.h>

#define CEIL_DIV(a, b) (((a) + (b)-1) / (b))

// ---- grids ----

// CTAs that run at once in clusters of a size.  SMs are grouped unevenly: pairs reach all of an even count, larger
// clusters do not (an H100's 132 SMs take 39 clusters of 3, 30 of 4, 22 of 5).
static int64_t usable_ctas(const struct dg_device *device, int32_t cluster)
{
    const int32_t sms = cluster > 4   ? device->num_sms * 5 / 6
                        : cluster > 2 ? device->num_sms * 8 / 9
                                      : device->num_sms;
    return sms / cluster * cluster;
}

// The band of m that makes the tiles in flight read the fewest rows of A and B.
static int32_t best_band(int64_t units_m, double units_in_flight, int32_t rows_m, int32_t rows_n)
{
    int32_t best = 1;
    double least = INFINITY;
    for (int32_t band = 1; band <= 32 && band <= units_m; band++) {
        const double rows = band * rows_m + fmax(1, units_in_flight / band) * rows_n;
        if (rows < least)
            least = rows, best = band;
    }
    return best;
}

int32_t dg_sm90_tile_rows(const struct dg_sm90_config *c, int64_t m)
{
    const int64_t tiles = CEIL_DIV(m, c->block_m);
    if (c->cluster_m * c->cluster_n > 1)
        return c->block_m;
    return (int32_t)(tiles == 1 ? CEIL_DIV(m, 8) * 8 : CEIL_DIV(CEIL_DIV(m, tiles), 16) * 16);
}

struct dg_sm90_grid dg_sm90_grid_of(const struct dg_sm90_config *c, const struct dg_problem *p,
                                    const struct dg_device *device)
{
    const int32_t cluster = c->split ? c->split : c->cluster_m * c->cluster_n;
    const int64_t clusters = usable_ctas(device, cluster) / cluster;
    const int32_t rows = dg_sm90_tile_rows(c, p->m);
    struct dg_sm90_grid grid = {
        .units_m = CEIL_DIV(CEIL_DIV(p->m, rows), c->cluster_m),
        .units_n = CEIL_DIV(CEIL_DIV(p->n, c->block_n), c->cluster_n),
        .tile_rows = rows,
        .band = 1,
    };
    const int64_t units = grid.units_m * grid.units_n;
    const int32_t at_once = dg_sm90_has_panels(c) ? c->math_groups : 1; // tiles of a CTA
    grid.num_ctas = (c->split || units < clusters ? units : clusters) * cluster;
    grid.waves = clusters ? CEIL_DIV(units, clusters * at_once) : INT64_MAX;
    if (!c->split && !dg_sm90_has_panels(c))
        grid.band = best_band(grid.units_m, (double)(grid.num_ctas / cluster),
                              c->block_m * c->cluster_m, c->block_n * c->cluster_n);
    return grid;
}

// ---- time ----

// What was fitted for a kernel.
struct rates {
    double start_us, ghz;
    double tensor, tensor_start; // clocks for 32 elements of D and k-block, and for a k-block
    double chain, chain_start,
        chain_least;   // clocks for a column and k-block of a warpgroup's 64 rows, ...
    double tile_start; // clocks from the last product of a tile to the next one's first
    double l2;         // bytes of a clock that the L2 cache has for an SM when all ask
    double sm;         // those that an SM takes in
};
static const struct rates tiled_1d2d = {3.05, 1.532, 0.94, 131, 1.887, 141, 189, 668, 61, 64};
// IS_ALONE in sm90_multiply.cuh: the next products are under way, so the chain is hidden.
static const struct rates alone_1d2d = {3.32, 1.532, 0.94, 131, 0, 0, 0, 250, 61, 63};
static const struct rates tiled_1d1d = {3.26, 1.65, 1.6, 30, 4.2, 94, 255, 1160, 61, 64};
static const struct rates split_1d2d = {1.53, 1.534, 1.24, 83, 0.57, 123, 0, 0, 62.4, 64.2};
// CTAs at different places of k ask for different lines, which nothing merges on the way.
static const double divided_l2 = 41.2;

static double element_bytes(const struct dg_problem *p)
{
    return (double)dg_type_bytes(p->d_type);
}

int dg_sm90_adds_in_memory(const struct dg_problem *p)
{
    return p->c_mode == DG_C_IN_PLACE && p->d_type == DG_F32;
}

// In pairs, or in pieces (add_c in sm90_store.cuh), as in tiles that reach beyond n.
double dg_sm90_reading_clocks(const struct dg_sm90_config *c, const struct dg_problem *p,
                              double rows, double edges)
{
    if (p->c_mode == DG_C_NONE || dg_sm90_adds_in_memory(p))
        return 0;
    const int has_pairs = c->block_n <= 192 && (p->sfb_block_n == 128 || c->block_n != 128);
    const double in_pieces = !has_pairs ? 1 : p->n % c->block_n ? edges : 0;
    const double bytes = rows * c->block_n * element_bytes(p);
    return in_pieces * bytes / 3.4 + (1 - in_pieces) * bytes / 12;
}

// Of the memory's rate.  What is added to is read and written in turns; most tiles do not ask for it ahead (prefetches_c
// in sm90_store.cuh).
static double memory_share(const struct dg_sm90_config *c, const struct dg_problem *p)
{
    if (!dg_sm90_adds_in_memory(p) || (double)p->m * (double)p->n * 4 <= DG_SM90_D_STAYS_BYTES)
        return 0.869;
    return c->block_m * c->block_n <= 8192 ? 0.75 : 0.58;
}

static double memory_us(const struct dg_sm90_config *c, const struct dg_problem *p,
                        const struct dg_device *device)
{
    const double bytes = (double)p->m * p->k + (double)p->n * p->k +
                         (double)p->m * p->n * element_bytes(p) * (p->c_mode ? 2 : 1);
    return bytes / (device->memory_gbs * memory_share(c, p)) / 1e3 + 2.83;
}

// Clocks of a k-block's way into one SM while the others have theirs.
static double load_clocks(const struct dg_sm90_config *c, const struct rates *r,
                          const struct dg_sm90_grid *grid, const struct dg_device *device)
{
    const double bytes =
        128.0 * ((double)grid->tile_rows / c->cluster_n + (double)c->block_n / c->cluster_m);
    const double busy = fmin(1, (double)grid->num_ctas / device->all_sms);
    return bytes * fmax(busy / (c->split > 1 ? divided_l2 : r->l2), 1 / r->sm);
}

// The longer of two times, or more where they are close and get in each other's way.
static double both(double x, double y)
{
    const double longer = fmax(x, y), share = fmin(x, y) / longer;
    return longer * pow(1 + pow(share, 8), 1 / 8.0);
}

// Rows of B's scales that lie behind one another are no multiple of 16 bytes apart where k is no multiple of 512, so that
// warps fetch them: the shorter k, the more that costs.
static double gap_in_scales(const struct dg_problem *p)
{
    const int64_t blocks = CEIL_DIV(p->k, 128);
    return p->sfb_block_n == 128 && blocks < 8 && blocks % 4 ? 1.08 : 1;
}

static double tiled_us(const struct dg_sm90_config *c, const struct dg_problem *p,
                       const struct dg_device *device)
{
    const int is_alone = c->math_groups == 1 && c->block_n == 128;
    const struct rates *r = p->sfb_block_n == 1 ? &tiled_1d1d
                            : is_alone          ? &alone_1d2d
                                                : &tiled_1d2d;
    const struct dg_sm90_grid grid = dg_sm90_grid_of(c, p, device);
    const double blocks = (double)CEIL_DIV(p->k, 128);
    const double halves = c->block_m / (64.0 * c->math_groups);
    const double tensor = r->tensor * (c->block_m * c->block_n / 32.0 + r->tensor_start);
    const double chain = fmax(halves * (r->chain * c->block_n + r->chain_start), r->chain_least);
    const double pairs = c->cluster_m * c->cluster_n > 1 ? 1.096 : 1;
    const double block = pairs * fmax(tensor, fmax(chain, load_clocks(c, r, &grid, device)));
    const double tile = r->tile_start + grid.tile_rows * c->block_n * element_bytes(p) / 32 +
                        dg_sm90_reading_clocks(c, p, grid.tile_rows, 1);
    const double us = r->start_us + (double)grid.waves * (blocks * block + tile) / r->ghz / 1e3;
    return both(us, memory_us(c, p, device)) * gap_in_scales(p);
}

// Groups with tiles of their own do not wait for each other: what counts is how many tiles a CTA has.  All CTAs ask the
// memory for their first panel of B at once.
static double panel_us(const struct dg_sm90_config *c, const struct dg_problem *p,
                       const struct dg_device *device)
{
    const struct dg_sm90_grid grid = dg_sm90_grid_of(c, p, device);
    const double blocks = (double)CEIL_DIV(p->k, 128);
    const double panels = fmin((double)grid.units_n, (double)grid.num_ctas);
    const double first_us =
        panels * c->block_n * (double)p->k / (device->memory_gbs * memory_share(c, p)) / 1e3;
    const double tiles = ceil((double)(grid.units_m * grid.units_n) / (double)grid.num_ctas) + 1;
    const double waits = c->d_buffers > 1 ? 1 : 1.03; // for half a strip of D to leave
    const double tile = waits * (740 * blocks + 1600) / c->math_groups;
    const double us = 3.4 + first_us + tiles * tile / tiled_1d2d.ghz / 1e3;
    return both(us, memory_us(c, p, device));
}

static double split_us(const struct dg_sm90_config *c, const struct dg_problem *p,
                       const struct dg_device *device)
{
    const struct rates *r = &split_1d2d;
    const struct dg_sm90_grid grid = dg_sm90_grid_of(c, p, device);
    const int64_t fillings = CEIL_DIV(CEIL_DIV(CEIL_DIV(p->k, 128), c->stage_blocks), c->split);
    const double blocks = (double)(fillings * c->stage_blocks);
    const double tensor = r->tensor * (c->block_m * c->block_n / 32.0 + r->tensor_start);
    const double chain = r->chain_start / c->stage_blocks + r->chain * c->block_n;
    const double block = fmax(tensor, fmax(chain, load_clocks(c, r, &grid, device)));
    double gather = 0;
    if (c->split > 1)
        gather = 0.242 + 0.292 * (c->block_n / 32.0) * (c->block_m / 64.0) * (1 + 0.19 * c->split);
    const double us = r->start_us + gather + (double)grid.waves * blocks * block / r->ghz / 1e3;
    return both(us, memory_us(c, p, device) + gather / 2);
}

double dg_sm90_cost(const struct dg_sm90_config *config, const struct dg_problem *problem,
                    const struct dg_device *device)
{
    return config->split                ? split_us(config, problem, device)
           : dg_sm90_has_panels(config) ? panel_us(config, problem, device)
                                        : tiled_us(config, problem, device);
}
