// SPDX-License-Identifier: MIT
// sm90_plan.c - the choice of a tile for a problem: a list of tiles, the cost model (sm90_cost.c), and
// a table of winners where a measurement knows better.
#include "backend/sm90/sm90_plan.h"

#include "backend/sm90/sm90_cost.h"
#include "backend/sm90/sm90_winners.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CEIL_DIV(a, b) (((a) + (b)-1) / (b))

// Every tile that a plan can name: block m, n, stages, math groups, cluster m, n, D buffers; and of the split
// kernel: CTAs that divide k, and k-blocks of a stage.
static const struct dg_sm90_config tiles_1d2d[] = {
    {256, 128, 4, 2, 1, 1, 1, 0, 0}, {256, 128, 4, 2, 1, 2, 1, 0, 0},
    {256, 64, 5, 2, 1, 1, 1, 0, 0},  {128, 224, 4, 2, 1, 1, 2, 0, 0},
    {128, 192, 5, 2, 1, 1, 1, 0, 0}, {128, 176, 5, 2, 1, 1, 1, 0, 0},
    {128, 144, 6, 2, 1, 1, 1, 0, 0}, {128, 128, 6, 2, 1, 1, 1, 0, 0},
    {128, 112, 6, 2, 1, 1, 1, 0, 0}, {128, 96, 7, 2, 1, 1, 1, 0, 0},
    {64, 128, 8, 1, 1, 1, 2, 0, 0},  {128, 64, 8, 2, 1, 1, 1, 0, 0},
    {64, 144, 7, 1, 1, 1, 2, 0, 0},  {64, 72, 11, 1, 1, 1, 2, 0, 0},
    {64, 64, 12, 1, 1, 1, 1, 0, 0},  {64, 32, 16, 1, 1, 1, 1, 0, 0},
    {64, 16, 16, 1, 1, 1, 1, 0, 0},  {128, 64, 7, 2, 1, 1, 1, 2, 1},
    {128, 64, 7, 2, 1, 1, 1, 3, 1},  {64, 64, 6, 1, 1, 1, 1, 1, 2},
    {64, 64, 6, 1, 1, 1, 1, 2, 2},   {64, 56, 6, 1, 1, 1, 1, 1, 2},
    {64, 48, 6, 1, 1, 1, 1, 1, 2},   {64, 48, 6, 1, 1, 1, 1, 2, 2},
    {64, 32, 8, 1, 1, 1, 1, 1, 2},   {64, 32, 8, 1, 1, 1, 1, 2, 2},
    {64, 32, 8, 1, 1, 1, 1, 3, 2},   {64, 32, 8, 1, 1, 1, 1, 5, 2},
    {64, 128, 6, 3, 1, 1, 2, 0, 0},  {64, 128, 8, 3, 1, 1, 1, 0, 0}, // panels, for short k
};
static const struct dg_sm90_config tiles_1d1d[] = {
    {256, 96, 4, 2, 1, 1, 2, 0, 0},  {128, 176, 4, 2, 1, 1, 4, 0, 0},
    {128, 144, 5, 2, 1, 1, 1, 0, 0}, {128, 128, 5, 2, 1, 1, 2, 0, 0},
    {128, 64, 8, 2, 1, 1, 1, 0, 0},  {64, 64, 11, 1, 1, 1, 1, 0, 0},
    {64, 32, 15, 1, 1, 1, 1, 0, 0},
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

// FP32 output, packed scales, and scales that TMA does not read have no more tiles than these: kernels are few,
// and the predicted times 1 to 2 % longer.
static const struct {
    int32_t block_m, block_n, num_stages, split;
} tiles_of_all[] = {
    {256, 128, 4, 0}, {128, 192, 5, 0}, {128, 128, 6, 0}, {128, 96, 7, 0}, {64, 128, 8, 0},
    {64, 64, 6, 1},   {64, 64, 6, 2},   {64, 32, 8, 2},   {64, 32, 8, 5},
};

static int is_of_all(const struct dg_sm90_config *c)
{
    for (size_t i = 0; i < sizeof tiles_of_all / sizeof *tiles_of_all; i++)
        if (c->block_m == tiles_of_all[i].block_m && c->block_n == tiles_of_all[i].block_n &&
            c->num_stages == tiles_of_all[i].num_stages && c->split == tiles_of_all[i].split)
            return c->cluster_n == 1;
    return 0;
}

// Is there such a kernel?  The widest tiles leave the scale warps too few registers; the split kernel has no use
// for TMA there.
static int exists(const struct dg_sm90_kernel *kernel)
{
    const struct dg_sm90_config *c = &kernel->config;
    if (kernel->scales_tma ? c->split : c->block_n > 192)
        return 0;
    if (kernel->reads_c ? dg_sm90_has_panels(c) : dg_sm90_keeps_c_code(c, kernel->sfb_block_n))
        return 0;
    const int is_usual = !kernel->sf_packed && !kernel->d_fp32 && (kernel->scales_tma || c->split);
    return kernel->sfb_block_n == 1 || is_usual || (is_of_all(c) && !dg_sm90_has_panels(c));
}

static int scales_by_tma(const struct dg_problem *p)
{
    return p->sfa_major == DG_MN_MAJOR && (p->sfb_block_n == 128 || p->sfb_major == DG_MN_MAJOR);
}

// Whether the kernel of a plan is one that reads scales by TMA.
static int hopes_for_tma(const struct dg_problem *problem, const struct dg_plan *plan)
{
    return scales_by_tma(problem) || plan->copies_scales;
}

dg_status dg_sm90_enumerate(dg_sm90_visit visit, void *user)
{
    for (int sfb = 128; sfb >= 1; sfb -= 127) {
        const struct tiles tiles = tiles_for(sfb);
        for (int i = 0; i < tiles.count; i++)
            for (int variant = 0; variant < 16; variant++) {
                const struct dg_sm90_kernel kernel = {tiles.list[i],    sfb,
                                                      variant & 1,      variant >> 1 & 1,
                                                      variant >> 2 & 1, variant >> 3};
                if (exists(&kernel))
                    DG_TRY(visit(user, &kernel));
            }
    }
    return DG_OK;
}

// ---- choice ----

int dg_sm90_is_repacked(dg_major major, int64_t rows, int64_t ld)
{
    return major == DG_MN_MAJOR || (rows > 1 && ld % 16 != 0);
}

static int64_t repacked_bytes(int64_t rows, int64_t k)
{
    return CEIL_DIV(rows * CEIL_DIV(k, 128) * 128, 256) * 256;
}

dg_status dg_sm90_check_sizes(const struct dg_problem *p)
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

struct dg_sm90_scale_places dg_sm90_scale_places(const struct dg_problem *p, int64_t begin)
{
    const int64_t blocks = CEIL_DIV(p->k, 128), groups = p->groups > 1 ? p->groups : 1;
    const int64_t of_b = p->sfb_block_n == 1 ? CEIL_DIV(p->n, 4) * 4 * blocks
                                             : CEIL_DIV(p->n, 128) * CEIL_DIV(blocks, 4) * 4;
    struct dg_sm90_scale_places at = {.sfa = CEIL_DIV(begin, 256) * 256};
    at.sfb = at.sfa + CEIL_DIV(CEIL_DIV(p->m, 4) * 4 * blocks * 4, 256) * 256;
    at.end = at.sfb + groups * of_b * 4;
    return at;
}

// C is added to in memory if that is FP32, in place, and TMA can write it.
static int reads_c(const struct dg_problem *p)
{
    return p->c_mode != DG_C_NONE &&
           !(dg_sm90_adds_in_memory(p) && p->ldd * 4 % 16 == 0 && p->n * 4 % 16 == 0);
}

static struct dg_sm90_kernel kernel_with(const struct dg_problem *problem,
                                         const struct dg_sm90_config *tile, int by_tma)
{
    const struct dg_sm90_kernel kernel = {
        .config = *tile,
        .sfb_block_n = problem->sfb_block_n,
        .sf_packed = problem->sf_type == DG_UE8M0X4,
        .d_fp32 = problem->d_type == DG_F32,
        .reads_c = reads_c(problem) || dg_sm90_keeps_c_code(tile, problem->sfb_block_n),
        .scales_tma = !tile->split && by_tma,
    };
    return kernel;
}

static int is_usable(const struct dg_sm90_config *tile, const struct dg_problem *problem,
                     const struct dg_device *device, int by_tma)
{
    const struct dg_sm90_kernel kernel = kernel_with(problem, tile, by_tma);
    if (!exists(&kernel))
        return 0;
    if (tile->split)
        return dg_sm90_grid_of(tile, problem, device).waves == 1 &&
               (!problem->invariant || tile->split == 1);
    if (dg_sm90_has_panels(tile) && CEIL_DIV(problem->k, 128) > tile->num_stages)
        return 0;
    return tile->cluster_m * tile->cluster_n <= device->num_sms;
}

static void fill_plan(const struct dg_sm90_config *tile, const struct dg_problem *problem,
                      const struct dg_device *device, const char *reason, struct dg_plan *plan)
{
    const struct dg_sm90_grid grid = dg_sm90_grid_of(tile, problem, device);
    plan->kernel = DG_KERNEL_SM90_GEMM;
    plan->sm90 = *tile;
    plan->num_ctas = (int32_t)grid.num_ctas;
    plan->band = grid.band;
    plan->num_sms = device->num_sms;
    plan->predicted_us = dg_sm90_cost(tile, problem, device);
    plan->repack_a = dg_sm90_is_repacked(problem->a_major, problem->m, problem->lda);
    plan->repack_b = dg_sm90_is_repacked(problem->b_major, problem->n, problem->ldb);
    plan->workspace_bytes = (plan->repack_a ? repacked_bytes(problem->m, problem->k) : 0) +
                            (plan->repack_b ? repacked_bytes(problem->n, problem->k) : 0);
    snprintf(plan->why, sizeof plan->why, "%s of %d tiles, %lld wave%s on %d SMs", reason,
             tiles_for(problem->sfb_block_n).count, (long long)grid.waves,
             grid.waves == 1 ? "" : "s", device->num_sms);
}

static dg_status plan_for(const struct dg_problem *problem, const struct dg_device *device,
                          int by_tma, struct dg_plan *plan)
{
    const struct tiles tiles = tiles_for(problem->sfb_block_n);
    const struct dg_sm90_winner *winner = dg_sm90_winner(problem, device);
    const struct dg_sm90_config *best = NULL;
    double least = INFINITY;
    int is_measured = 0;
    DG_TRY(dg_sm90_check_sizes(problem));
    for (int i = 0; i < tiles.count && !is_measured; i++) {
        const struct dg_sm90_config *tile = &tiles.list[i];
        if (!is_usable(tile, problem, device, by_tma))
            continue;
        is_measured = winner && tile->block_m == winner->block_m &&
                      tile->block_n == winner->block_n && tile->num_stages == winner->num_stages &&
                      tile->cluster_n == winner->cluster_n && tile->split == winner->split &&
                      dg_sm90_has_panels(tile) == winner->has_panels;
        const double us = dg_sm90_cost(tile, problem, device);
        if (us < least || is_measured)
            least = us, best = tile;
    }
    fill_plan(best, problem, device, is_measured ? "measured winner" : "least predicted time",
              plan);
    return DG_OK;
}

// Scales that TMA does not take are copied where that makes up for its 2 us.  Else warps read them for each tile, which a
// tile of 1D1D waits for longest, and few rows not at all.  For short k in 1D2D it is not worth it, nor for B's blocks
// alone, with which scales_by_tma() holds.
static int may_copy(const struct dg_problem *p)
{
    return p->sf_type == DG_F32 && !scales_by_tma(p) && p->m >= 256 &&
           (p->sfb_block_n == 1 || p->k >= 1024);
}

static int is_worth_copying(const struct dg_problem *p, const struct dg_plan *in_place,
                            const struct dg_plan *copied)
{
    const double share = in_place->sm90.split ? 1 : p->sfb_block_n == 1 ? 1.2 : 1.05;
    return share * in_place->predicted_us > copied->predicted_us + 2;
}

static void ask_for_copies(const struct dg_problem *problem, struct dg_plan *plan)
{
    plan->copies_scales = 1;
    plan->spare_bytes =
        dg_sm90_scale_places(problem, plan->workspace_bytes).end - plan->workspace_bytes;
}

dg_status dg_sm90_plan(const struct dg_problem *problem, const struct dg_device *device,
                       struct dg_plan *plan)
{
    struct dg_plan copied = {.kernel = DG_KERNEL_NONE};
    DG_TRY(plan_for(problem, device, scales_by_tma(problem), plan));
    if (!may_copy(problem))
        return DG_OK;
    DG_TRY(plan_for(problem, device, 1, &copied));
    if (is_worth_copying(problem, plan, &copied)) {
        *plan = copied;
        ask_for_copies(problem, plan);
    }
    return DG_OK;
}

dg_status dg_sm90_plan_any_layout(const struct dg_problem *problem, const struct dg_device *device,
                                  struct dg_plan *plan)
{
    return plan_for(problem, device, 0, plan);
}

dg_status dg_sm90_plan_each(const struct dg_problem *problem, const struct dg_device *device,
                            dg_sm90_visit_plan visit, void *user)
{
    const struct tiles tiles = tiles_for(problem->sfb_block_n);
    struct dg_plan choice = {.kernel = DG_KERNEL_NONE};
    DG_TRY(dg_sm90_plan(problem, device, &choice));
    for (int i = 0; i < tiles.count; i++) {
        struct dg_plan plan = {.kernel = DG_KERNEL_NONE};
        if (!is_usable(&tiles.list[i], problem, device, hopes_for_tma(problem, &choice)))
            continue;
        fill_plan(&tiles.list[i], problem, device, "one", &plan);
        if (choice.copies_scales)
            ask_for_copies(problem, &plan);
        DG_TRY(visit(user, &plan));
    }
    return DG_OK;
}

// ---- words ----

struct dg_sm90_kernel dg_sm90_kernel_of(const struct dg_problem *problem,
                                        const struct dg_plan *plan)
{
    return kernel_with(problem, &plan->sm90, hopes_for_tma(problem, plan));
}

void dg_sm90_explain_launch(const struct dg_plan *plan, int32_t smem_bytes, int scales_tma,
                            dg_fact_callback callback, void *user)
{
    dg_tell(callback, user, "plan", "predicted_us", "%.1f", plan->predicted_us);
    dg_tell(callback, user, "plan", "shared_memory_bytes", "%d", smem_bytes);
    dg_tell(callback, user, "plan", "scales", "%s",
            plan->copies_scales ? "by TMA, copied if there is workspace"
            : scales_tma        ? "by TMA"
                                : "by scale warps, in the layout given");
    if (plan->repack_a || plan->repack_b)
        dg_tell(callback, user, "plan", "repacked", "%s%s%s", plan->repack_a ? "a" : "",
                plan->repack_a && plan->repack_b ? " and " : "", plan->repack_b ? "b" : "");
}

void dg_sm90_explain(const struct dg_problem *problem, const struct dg_device *device,
                     const struct dg_plan *plan, dg_fact_callback callback, void *user)
{
    const struct dg_sm90_kernel kernel = dg_sm90_kernel_of(problem, plan);
    const struct dg_sm90_grid grid = dg_sm90_grid_of(&plan->sm90, problem, device);
    char text[160];
    dg_sm90_kernel_text(&kernel, text, sizeof text);
    dg_tell(callback, user, "plan", "kernel_key", "%s", text);
    dg_sm90_config_text(&plan->sm90, text, sizeof text);
    dg_tell(callback, user, "plan", "candidate", "%s", text);
    dg_tell(callback, user, "plan", "tiles", "%lld x %lld of %d x %d, %lld wave%s of %d CTAs",
            (long long)CEIL_DIV(problem->m, grid.tile_rows),
            (long long)CEIL_DIV(problem->n, plan->sm90.block_n), grid.tile_rows, plan->sm90.block_n,
            (long long)grid.waves, grid.waves == 1 ? "" : "s", plan->num_ctas);
    if (plan->sm90.split > 1)
        dg_tell(callback, user, "plan", "k", "divided among %d CTAs", plan->sm90.split);
    dg_sm90_explain_launch(plan, dg_sm90_smem_bytes(&kernel), kernel.scales_tma, callback, user);
}
