// SPDX-License-Identifier: MIT
// sm90_plan.c - the choice of a tile for a problem: a list of tiles, a cost model in SM clocks, and a
// table of winners where a measurement knows better.
//
// A launch takes `waves` rounds of tiles.  A round takes, for each k-block, the longest of what the tensor
// cores, one warpgroup's chain of multiply and promote, and the L2 cache need, and once the time to fill the
// ring and to send a tile off.  docs/TUNING.md tells where the constants come from.
#include "backend/sm90/sm90_plan.h"

#include "backend/sm90/sm90_winners.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CEIL_DIV(a, b) (((a) + (b)-1) / (b))

// Every tile that a plan can name: block m, n, stages, math groups, cluster m, n, D buffers.
static const struct dg_sm90_config tiles_1d2d[] = {
    {256, 128, 4, 2, 1, 1, 1}, {256, 128, 4, 2, 1, 2, 1}, {256, 64, 5, 2, 1, 1, 1},
    {128, 224, 4, 2, 1, 1, 2}, {128, 192, 5, 2, 1, 1, 1}, {128, 176, 5, 2, 1, 1, 1},
    {128, 144, 6, 2, 1, 1, 1}, {128, 128, 6, 2, 1, 1, 1}, {128, 64, 8, 2, 1, 1, 1},
    {64, 144, 7, 1, 1, 1, 2},  {64, 128, 8, 1, 1, 1, 2},  {64, 72, 11, 1, 1, 1, 2},
    {64, 64, 12, 1, 1, 1, 1},  {64, 32, 16, 1, 1, 1, 1},  {64, 16, 16, 1, 1, 1, 1},
};
static const struct dg_sm90_config tiles_1d1d[] = {
    {256, 96, 4, 2, 1, 1, 1}, {128, 144, 5, 2, 1, 1, 1}, {128, 128, 5, 2, 1, 1, 1},
    {128, 64, 8, 2, 1, 1, 1}, {64, 64, 11, 1, 1, 1, 1},  {64, 32, 15, 1, 1, 1, 1},
};

struct tiles {
    const struct dg_sm90_config *list;
    int count;
};

static struct tiles tiles_for(int32_t sfb_block_n)
{
    if (sfb_block_n == 1)
        return (struct tiles){tiles_1d1d, sizeof tiles_1d1d / sizeof *tiles_1d1d};
    return (struct tiles){tiles_1d2d, sizeof tiles_1d2d / sizeof *tiles_1d2d};
}

// The widest tiles leave the scale warps too few registers.
static int fits_scales(const struct dg_sm90_config *tile, int scales_tma)
{
    return scales_tma || tile->block_n <= 192;
}

static int scales_by_tma(const struct dg_problem *p)
{
    return p->sfa_major == DG_MN_MAJOR && (p->sfb_block_n == 128 || p->sfb_major == DG_MN_MAJOR);
}

dg_status dg_sm90_enumerate(dg_sm90_visit visit, void *user)
{
    for (int sfb = 128; sfb >= 1; sfb -= 127) {
        const struct tiles tiles = tiles_for(sfb);
        for (int i = 0; i < tiles.count; i++)
            for (int variant = 0; variant < 8; variant++) {
                const struct dg_sm90_kernel kernel = {tiles.list[i], sfb, variant & 1,
                                                      variant >> 1 & 1, variant >> 2};
                if (fits_scales(&kernel.config, kernel.scales_tma))
                    DG_TRY(visit(user, &kernel));
            }
    }
    return DG_OK;
}

// ---- cost ----

struct grid {
    int64_t units_m, units_n, num_ctas, waves;
    int32_t band;
};

// Clusters of 4 do not reach all SMs, as these are grouped unevenly; pairs do on an even count.
static int64_t usable_ctas(const struct dg_device *device, int32_t cluster)
{
    return device->num_sms / cluster * cluster;
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

static struct grid grid_of(const struct dg_sm90_config *c, const struct dg_problem *p,
                           const struct dg_device *device)
{
    const int32_t cluster = c->cluster_m * c->cluster_n;
    const int64_t clusters = usable_ctas(device, cluster) / cluster;
    struct grid grid = {.units_m = CEIL_DIV(CEIL_DIV(p->m, c->block_m), c->cluster_m),
                        .units_n = CEIL_DIV(CEIL_DIV(p->n, c->block_n), c->cluster_n)};
    const int64_t units = grid.units_m * grid.units_n;
    grid.num_ctas = (units < clusters ? units : clusters) * cluster;
    grid.waves = clusters ? CEIL_DIV(units, clusters) : INT64_MAX;
    grid.band = best_band(grid.units_m, (double)(grid.num_ctas / cluster),
                          c->block_m * c->cluster_m, c->block_n * c->cluster_n);
    return grid;
}

// Microseconds.  The clocks were fitted to an H100 under load (1.65 GHz): docs/TUNING.md.
static double cost(const struct dg_sm90_config *c, const struct dg_problem *p,
                   const struct dg_device *device)
{
    const struct grid grid = grid_of(c, p, device);
    const double ghz = 1.65, blocks = (double)CEIL_DIV(p->k, 128);
    const double busy = (double)grid.num_ctas / device->all_sms;
    const int per_column = p->sfb_block_n == 1;
    const double halves = c->block_m / (64.0 * c->math_groups);
    const double tensor = (per_column ? 1.6 : 1.108) * (c->block_m * c->block_n / 32.0 + 30);
    const double chain = fmax(halves * ((per_column ? 4.2 : 2.3) * c->block_n + 94), 255);
    const double loaded =
        128.0 * ((double)c->block_m / c->cluster_n + (double)c->block_n / c->cluster_m);
    const double pairs = c->cluster_m * c->cluster_n > 1 ? 1.02 : 1;
    const double block = pairs * fmax(tensor, fmax(chain, loaded * busy / 61));
    const double element = p->d_type == DG_F32 ? 4 : 2;
    const double tile = 1160 + c->block_m * c->block_n * element / 26 + 550 * (halves - 1);
    const double clocks = 5380 + (double)grid.waves * (blocks * block + tile);
    const double bytes = (double)p->m * p->k + (double)p->n * p->k +
                         (double)p->m * p->n * element * (p->c_mode ? 2 : 1);
    const double memory = bytes / (device->memory_gbs * 0.9) / 1e3 + 2;
    return fmax(clocks / ghz / 1e3, memory);
}

// ---- choice ----

// One row is contiguous whatever its stride.
static int is_repacked(dg_major major, int64_t rows, int64_t ld)
{
    return major == DG_MN_MAJOR || (rows > 1 && ld % 16 != 0);
}

static int64_t repacked_bytes(int64_t rows, int64_t k)
{
    return CEIL_DIV(rows * CEIL_DIV(k, 128) * 128, 256) * 256;
}

static dg_status check_sizes(const struct dg_problem *p)
{
    const struct {
        const char *name;
        int64_t value;
    } sizes[] = {{"m", p->m}, {"n", p->n}, {"k", p->k}};
    for (int i = 0; i < 3; i++)
        if (sizes[i].value > INT32_MAX - 512)
            return dg_fail(DG_UNSUPPORTED, "%s = %lld: must be at most %d on a GPU", sizes[i].name,
                           (long long)sizes[i].value, INT32_MAX - 512);
    return DG_OK;
}

static int is_usable(const struct dg_sm90_config *tile, const struct dg_problem *problem,
                     const struct dg_device *device)
{
    return tile->cluster_m * tile->cluster_n <= device->num_sms &&
           fits_scales(tile, scales_by_tma(problem));
}

static void fill_plan(const struct dg_sm90_config *tile, const struct dg_problem *problem,
                      const struct dg_device *device, const char *reason, struct dg_plan *plan)
{
    const struct grid grid = grid_of(tile, problem, device);
    plan->kernel = DG_KERNEL_SM90_GEMM;
    plan->sm90 = *tile;
    plan->num_ctas = (int32_t)grid.num_ctas;
    plan->band = grid.band;
    plan->num_sms = device->num_sms;
    plan->predicted_us = cost(tile, problem, device);
    plan->repack_a = is_repacked(problem->a_major, problem->m, problem->lda);
    plan->repack_b = is_repacked(problem->b_major, problem->n, problem->ldb);
    plan->workspace_bytes = (plan->repack_a ? repacked_bytes(problem->m, problem->k) : 0) +
                            (plan->repack_b ? repacked_bytes(problem->n, problem->k) : 0);
    snprintf(plan->why, sizeof plan->why, "%s of %d tiles, %lld wave%s on %d SMs", reason,
             tiles_for(problem->sfb_block_n).count, (long long)grid.waves,
             grid.waves == 1 ? "" : "s", device->num_sms);
}

dg_status dg_sm90_plan(const struct dg_problem *problem, const struct dg_device *device,
                       struct dg_plan *plan)
{
    const struct tiles tiles = tiles_for(problem->sfb_block_n);
    const struct dg_sm90_winner *winner = dg_sm90_winner(problem, device);
    const struct dg_sm90_config *best = NULL;
    double least = INFINITY;
    int is_measured = 0;
    DG_TRY(check_sizes(problem));
    for (int i = 0; i < tiles.count && !is_measured; i++) {
        const struct dg_sm90_config *tile = &tiles.list[i];
        if (!is_usable(tile, problem, device))
            continue;
        is_measured = winner && tile->block_m == winner->block_m &&
                      tile->block_n == winner->block_n && tile->cluster_m == winner->cluster_m &&
                      tile->cluster_n == winner->cluster_n;
        const double us = cost(tile, problem, device);
        if (us < least || is_measured)
            least = us, best = tile;
    }
    fill_plan(best, problem, device, is_measured ? "measured winner" : "least predicted time",
              plan);
    return DG_OK;
}

dg_status dg_sm90_plan_each(const struct dg_problem *problem, const struct dg_device *device,
                            dg_sm90_visit_plan visit, void *user)
{
    const struct tiles tiles = tiles_for(problem->sfb_block_n);
    DG_TRY(check_sizes(problem));
    for (int i = 0; i < tiles.count; i++) {
        struct dg_plan plan = {.kernel = DG_KERNEL_NONE};
        if (!is_usable(&tiles.list[i], problem, device))
            continue;
        fill_plan(&tiles.list[i], problem, device, "one", &plan);
        DG_TRY(visit(user, &plan));
    }
    return DG_OK;
}

// ---- words ----

struct dg_sm90_kernel dg_sm90_kernel_of(const struct dg_problem *problem,
                                        const struct dg_plan *plan)
{
    const struct dg_sm90_kernel kernel = {
        .config = plan->sm90,
        .sfb_block_n = problem->sfb_block_n,
        .sf_packed = problem->sf_type == DG_UE8M0X4,
        .d_fp32 = problem->d_type == DG_F32,
        .scales_tma = scales_by_tma(problem),
    };
    return kernel;
}

__attribute__((format(printf, 4, 5))) static void tell(dg_fact_callback callback, void *user,
                                                       const char *key, const char *format, ...)
{
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    callback(user, "plan", key, text);
}

void dg_sm90_explain(const struct dg_problem *problem, const struct dg_device *device,
                     const struct dg_plan *plan, dg_fact_callback callback, void *user)
{
    const struct dg_sm90_kernel kernel = dg_sm90_kernel_of(problem, plan);
    const struct grid grid = grid_of(&plan->sm90, problem, device);
    char text[160];
    dg_sm90_kernel_text(&kernel, text, sizeof text);
    tell(callback, user, "kernel_key", "%s", text);
    dg_sm90_config_text(&plan->sm90, text, sizeof text);
    tell(callback, user, "candidate", "%s", text);
    tell(callback, user, "tiles", "%lld x %lld of %d x %d, %lld waves of %d CTAs",
         (long long)CEIL_DIV(problem->m, plan->sm90.block_m),
         (long long)CEIL_DIV(problem->n, plan->sm90.block_n), plan->sm90.block_m,
         plan->sm90.block_n, (long long)grid.waves, plan->num_ctas);
    tell(callback, user, "predicted_us", "%.1f", plan->predicted_us);
    tell(callback, user, "shared_memory_bytes", "%d", dg_sm90_smem_bytes(&kernel));
    tell(callback, user, "scales", "%s",
         kernel.scales_tma ? "by TMA" : "by scale warps, in the layout given");
    if (plan->repack_a || plan->repack_b)
        tell(callback, user, "repacked", "%s%s%s", plan->repack_a ? "a" : "",
             plan->repack_a && plan->repack_b ? " and " : "", plan->repack_b ? "b" : "");
}
