// SPDX-License-Identifier: MIT
// sm90_grouped_plan.c - the choice of a tile for a grouped problem.
//
// The sizes of the groups are not known here, only the rows that one usually has, and a kernel copes with any
// sizes: pieces of 64 rows that a tile does not have cost next to nothing.  So the model weighs a tile on groups
// of the usual size, and a wrong guess costs the difference of two tiles that are both good at the real one.
#include "backend/sm90/sm90_grouped.h"

#include "backend/sm90/sm90_args.h"
#include "backend/sm90/sm90_cost.h"
#include "backend/sm90/sm90_plan.h"
#include "plan/problem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CEIL_DIV(a, b) (((a) + (b)-1) / (b))

// Block m, n, stages, math groups, cluster m, n, D buffers.  Where memory is the limit many are as good, and the first
// is taken.
static const struct dg_sm90_config tiles_1d2d[] = {
    {128, 128, 6, 2, 1, 1, 1, 0, 0}, {256, 128, 4, 2, 1, 1, 1, 0, 0},
    {256, 112, 4, 2, 1, 1, 2, 0, 0}, {128, 192, 5, 2, 1, 1, 1, 0, 0},
    {128, 64, 8, 2, 1, 1, 1, 0, 0},  {64, 128, 8, 1, 1, 1, 2, 0, 0},
    {64, 64, 12, 1, 1, 1, 1, 0, 0},
};
// FP32 leaves fastest in pieces of 32 columns, which divide all of these widths but 144.
static const struct dg_sm90_config tiles_1d1d[] = {
    {256, 96, 4, 2, 1, 1, 2, 0, 0},  {128, 160, 5, 2, 1, 1, 2, 0, 0},
    {128, 144, 5, 2, 1, 1, 3, 0, 0}, {128, 128, 5, 2, 1, 1, 3, 0, 0},
    {128, 64, 8, 2, 1, 1, 1, 0, 0},  {64, 64, 11, 1, 1, 1, 1, 0, 0},
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

dg_status dg_sm90_grouped_enumerate(dg_sm90_grouped_visit visit, void *user)
{
    for (int sfb = 128; sfb >= 1; sfb -= 127) {
        const struct tiles tiles = tiles_for(sfb);
        for (int i = 0; i < tiles.count; i++)
            for (int variant = 0; variant < 16; variant++) {
                const struct dg_sm90_grouped_kernel kernel = {{tiles.list[i], sfb, variant & 1,
                                                               variant >> 1 & 1, variant >> 2 & 1,
                                                               variant >> 3},
                                                              1};
                DG_TRY(visit(user, &kernel));
            }
    }
    return DG_OK;
}

// ---- the usual sizes ----

struct usual {
    int64_t groups, rows, k; // rows and k of each group
};

static struct usual usual_sizes(const struct dg_problem *p)
{
    const enum dg_op_kind kind = dg_problem_kind(p);
    const int64_t expected = p->expected_m > 0 ? p->expected_m : 1;
    struct usual usual = {p->groups, expected < p->m ? expected : p->m, p->k};
    if (kind == DG_KIND_K_GROUPED)
        usual.rows = p->m, usual.k = expected < p->k ? expected : p->k;
    if (kind == DG_KIND_CONTIGUOUS && usual.groups > CEIL_DIV(p->m, usual.rows))
        usual.groups = CEIL_DIV(p->m, usual.rows);
    return usual;
}

// ---- cost ----

// What D takes after the k-blocks, as the next tile's begin meanwhile.  Adding wide tiles takes more than its share; the C of
// small ones, read as soon as it was asked for, half of it.
static double store_clocks(const struct dg_sm90_config *c, const struct dg_problem *p, int64_t rows,
                           double halves)
{
    const double kb = (double)rows * c->block_n * (double)dg_type_bytes(p->d_type) / 1024;
    if (dg_sm90_adds_in_memory(p))
        return fmax(450, 110 * (kb - 26));
    const double edges = 1 / (double)CEIL_DIV(p->n, c->block_n);
    return 1160 + 39 * kb + 550 * (halves - 1) +
           dg_sm90_reading_clocks(c, p, (double)rows, edges) * (kb > 32 ? 1 : 0.5);
}

// Clocks that the tensor cores need for a k-block of so many pieces of 64 rows.
static double tensor_clocks(const struct dg_sm90_config *c, const struct dg_problem *p,
                            double pieces)
{
    const double ideal = pieces * 2 * c->block_n;
    if (p->sfb_block_n != 1)
        return (c->block_n % 64 ? 1.15 : 1.108) * (ideal + 30);
    // BF16 leaves 64 columns at a time; why whole tiles that leave half of that at the end take longer is not known.
    const int leaves_half = c->block_n % 64 == 32 && 64 * pieces == c->block_m &&
                            p->d_type == DG_BF16 && dg_problem_kind(p) != DG_KIND_K_GROUPED;
    if (c->block_m > 64 * c->math_groups)
        return (leaves_half ? 1.68 : 1.45) * (ideal + 310);
    return (leaves_half ? 2.14 : 1.95) * (ideal + 110);
}

// Clocks of one tile of `rows` rows, fitted to an H100: the longest of what the tensor cores, one warpgroup's chain of
// products and promotion, and the way from the L2 cache need for each k-block; and the tile's own.
static double tile_clocks(const struct dg_sm90_config *c, const struct dg_problem *p, int64_t k,
                          int64_t rows)
{
    const double pieces = (double)CEIL_DIV(rows, 64), halves = ceil(pieces / c->math_groups);
    const double tensor = tensor_clocks(c, p, pieces);
    const double chain = fmax(halves * (2.3 * c->block_n + 94), 400);
    const double loaded = 128.0 * (pieces * 64 + c->block_n) / 48;
    return (double)CEIL_DIV(k, 128) * fmax(tensor, fmax(chain, loaded)) +
           store_clocks(c, p, rows, halves);
}

// What the last tiles add: CTAs do not end together, and the few that a last round has do not fill the memory's way.
// `tile_us` is a tile's time where nothing else runs, `moving` its share of the memory's.  Tall tiles have fewer slots.
static double ending_us(const struct dg_sm90_config *c, double tiles, double num_sms,
                        double tile_us, double moving)
{
    const double last = fmod(tiles, num_sms), longest = (c->block_m > 128 ? 1.5 : 1.2) * tile_us;
    const double alone = last > 0 ? fmax(0, longest - last * moving) : 0;
    return 0.5 * alone + 0.06 * fmax(tile_us, fmin(tiles, num_sms) * moving);
}

// Microseconds: of the SMs or of the memory, whichever is longer; where the two are alike, adding to D takes longer than
// either, and as the memory reads and writes in turns, it does three quarters of what else it can.
static double cost(const struct dg_sm90_config *c, const struct dg_problem *p,
                   const struct usual *u, const struct dg_device *device, int with_ending)
{
    const int64_t whole = u->rows / c->block_m, rest = u->rows % c->block_m;
    const double columns = (double)CEIL_DIV(p->n, c->block_n) * (double)u->groups;
    const double tiles = columns * (double)(whole + (rest > 0));
    const double work = columns * ((double)whole * tile_clocks(c, p, u->k, c->block_m) +
                                   (rest ? tile_clocks(c, p, u->k, rest) : 0));
    const double ghz = 1.65, waves = ceil(tiles / device->num_sms);
    const double clocks = 5380 + waves * work / tiles;
    const double element = (double)dg_type_bytes(p->d_type) * (p->c_mode == DG_C_NONE ? 1 : 2);
    const double bytes = (double)u->groups * ((double)(u->rows + p->n) * (double)u->k +
                                              (double)u->rows * (double)p->n * element);
    const double busy = clocks / ghz / 1e3, moving = bytes / device->memory_gbs / 1e3;
    if (dg_sm90_adds_in_memory(p))
        return pow(pow(busy, 4) + pow(moving / 0.7, 4), 0.25);
    const double alone = work / tiles / ghz / 1e3, share = moving / 0.9 / tiles;
    const double ending = with_ending ? ending_us(c, tiles, device->num_sms, alone, share) : 0;
    return fmax(busy, moving / 0.9 + 2 + ending);
}

// The band, in tiles, that makes the tiles in flight read the fewest rows of A and B; lower groups have lower ones.
static int32_t best_band(const struct dg_sm90_config *c, int32_t num_ctas)
{
    int32_t band = 1;
    while (band < 32 && (double)band * (band + 1) * c->block_m < (double)num_ctas * c->block_n)
        band++;
    return band;
}

// ---- choice ----

// As a rule memory is the limit, and the choice is one of how the last tiles end.
static int has_small_groups(const struct usual *usual)
{
    return usual->rows <= 128;
}

// Groups one after the other have no strides but those of their own k, which the device knows.
static int is_flat(const struct dg_problem *p)
{
    return p->op == DG_OP_FP8_K_GROUPED;
}

static int64_t round_up(int64_t a, int64_t b)
{
    return CEIL_DIV(a, b) * b;
}

struct dg_sm90_grouped_workspace dg_sm90_grouped_workspace(const struct dg_problem *p, int repack_a,
                                                           int repack_b)
{
    const enum dg_op_kind kind = dg_problem_kind(p);
    const int64_t pitch = round_up(p->k, 128);
    const int64_t stack_a = kind == DG_KIND_MASKED ? p->groups : 1;
    const int64_t stack_b = kind == DG_KIND_K_GROUPED ? 1 : p->groups;
    struct dg_sm90_grouped_workspace at = {.a = 0};
    at.b = repack_a ? round_up(stack_a * p->m * pitch, 256) : 0;
    at.list = at.b + (repack_b ? round_up(stack_b * p->n * pitch, 256) : 0);
    at.size = at.list +
              (kind == DG_KIND_K_GROUPED ? p->groups * (int64_t)sizeof(struct dg_sm90_k_group) : 0);
    at.count = round_up(at.size, 256);
    at.count_end = at.count + (int64_t)sizeof(struct dg_sm90_count);
    at.scales = dg_sm90_scale_places(p, at.count_end);
    return at;
}

static dg_status check_sizes(const struct dg_problem *p)
{
    const enum dg_op_kind kind = dg_problem_kind(p);
    DG_TRY(dg_sm90_check_sizes(p));
    // At worst each row of a contiguous layout is a group of its own.
    const int64_t tall = kind != DG_KIND_CONTIGUOUS   ? p->groups * CEIL_DIV(p->m, 64)
                         : p->layout == DG_GROUP_ENDS ? 2 * p->groups + CEIL_DIV(p->m, 64)
                                                      : p->m;
    if (tall > (INT32_MAX - 65536) / CEIL_DIV(p->n, 64))
        return dg_fail(DG_UNSUPPORTED,
                       "groups = %lld with m, n = %lld, %lld: too many tiles for a GPU",
                       (long long)p->groups, (long long)p->m, (long long)p->n);
    return DG_OK;
}

// Whether scales that TMA does not take are worth copying: A's by rows; B's that do not lie as the tile reads them, along
// k for 128 columns of B, else along n.  Without a copy warps read them for each tile, as they do for small problems.
static int copies_scales(const struct dg_problem *p, double predicted_us)
{
    const int odd_b = p->sfb_block_n == 1 ? !p->sfb_major : p->sfb_major || CEIL_DIV(p->k, 128) % 4;
    return dg_problem_kind(p) == DG_KIND_CONTIGUOUS && p->sf_type == DG_F32 && predicted_us >= 40 &&
           (!p->sfa_major || odd_b);
}

static int64_t usual_tiles(const struct dg_problem *p, const struct dg_sm90_config *tile,
                           const struct usual *usual)
{
    return usual->groups * CEIL_DIV(usual->rows, tile->block_m) * CEIL_DIV(p->n, tile->block_n);
}

// Half of the rounds that there may be: enough for the tiles of a column to come at the same time, and for CTAs that are
// late to be helped.  None for groups along k, of which the longest come first, for few tiles, and for tiles that take no
// longer than finding another does.
static int32_t own_rounds(const struct dg_problem *p, const struct dg_sm90_config *tile,
                          const struct usual *usual, int32_t num_ctas)
{
    enum { LEAST_BLOCKS = 16, LEAST_ROUNDS = 4 };
    const int64_t rounds = usual_tiles(p, tile, usual) / num_ctas;
    const int is_long = CEIL_DIV(p->k, 128) >= LEAST_BLOCKS && rounds >= LEAST_ROUNDS;
    return dg_problem_kind(p) != DG_KIND_K_GROUPED && is_long ? (int32_t)(rounds / 2) : 0;
}

// Those of the hint.  A group of a contiguous layout begins behind all groups before it, so a guess would seldom be right.
static int32_t guessed_rows(const struct dg_problem *p, const struct usual *usual)
{
    return dg_problem_kind(p) == DG_KIND_MASKED && p->expected_m > 0 ? (int32_t)usual->rows : 0;
}

static void fill_plan(const struct dg_sm90_config *tile, const struct dg_problem *problem,
                      const struct dg_device *device, const char *reason, struct dg_plan *plan)
{
    const struct usual usual = usual_sizes(problem);
    plan->kernel = DG_KERNEL_SM90_GROUPED;
    plan->sm90 = *tile;
    plan->num_ctas = plan->num_sms = device->num_sms;
    plan->band = best_band(tile, device->num_sms);
    plan->predicted_us = cost(tile, problem, &usual, device, has_small_groups(&usual));
    plan->repack_a =
        !is_flat(problem) && dg_sm90_is_repacked(problem->a_major, problem->m, problem->lda);
    plan->repack_b =
        !is_flat(problem) && dg_sm90_is_repacked(problem->b_major, problem->n, problem->ldb);
    const struct dg_sm90_grouped_workspace at =
        dg_sm90_grouped_workspace(problem, plan->repack_a, plan->repack_b);
    plan->workspace_bytes = at.size;
    plan->copies_scales = copies_scales(problem, plan->predicted_us);
    plan->own_rounds = own_rounds(problem, tile, &usual, plan->num_ctas);
    plan->guessed_rows = guessed_rows(problem, &usual);
    plan->spare_bytes = plan->copies_scales ? at.scales.end - at.size
                        : plan->own_rounds  ? at.count_end - at.size
                                            : 0;
    snprintf(plan->why, sizeof plan->why, "%s of %d tiles for %lld groups of %lld rows", reason,
             tiles_for(problem->sfb_block_n).count, (long long)usual.groups, (long long)usual.rows);
}

// The first of those that take least.
static const struct dg_sm90_config *choose(const struct dg_problem *p, const struct usual *usual,
                                           const struct dg_device *device)
{
    const struct tiles tiles = tiles_for(p->sfb_block_n);
    const struct dg_sm90_config *best = NULL;
    double least = INFINITY;
    for (int i = 0; i < tiles.count; i++) {
        const double us = cost(&tiles.list[i], p, usual, device, 0);
        if (us < least)
            least = us, best = &tiles.list[i];
    }
    return best;
}

// For small groups another than `first` where its last tiles end clearly earlier; and as the usual size may be a wrong
// hint, no one that would be slower with four times the rows.
static const struct dg_sm90_config *choose_by_ending(const struct dg_sm90_config *first,
                                                     const struct dg_problem *p,
                                                     const struct usual *usual,
                                                     const struct dg_device *device)
{
    const struct tiles tiles = tiles_for(p->sfb_block_n);
    const int64_t rows = 4 * usual->rows < p->m ? 4 * usual->rows : p->m;
    const struct usual more = {usual->groups, rows, usual->k};
    const double most = 1.02 * cost(first, p, &more, device, 0);
    const struct dg_sm90_config *best = first;
    double least = cost(first, p, usual, device, 1);
    for (int i = 0; i < tiles.count; i++) {
        const double us = cost(&tiles.list[i], p, usual, device, 1);
        if (us < 0.997 * least && cost(&tiles.list[i], p, &more, device, 0) <= most)
            least = us, best = &tiles.list[i];
    }
    return best;
}

dg_status dg_sm90_grouped_plan(const struct dg_problem *problem, const struct dg_device *device,
                               struct dg_plan *plan)
{
    const struct usual usual = usual_sizes(problem);
    DG_TRY(check_sizes(problem));
    const struct dg_sm90_config *tile = choose(problem, &usual, device);
    if (has_small_groups(&usual))
        tile = choose_by_ending(tile, problem, &usual, device);
    fill_plan(tile, problem, device, "least predicted time", plan);
    return DG_OK;
}

dg_status dg_sm90_grouped_plan_each(const struct dg_problem *problem,
                                    const struct dg_device *device, dg_sm90_visit_plan visit,
                                    void *user)
{
    const struct tiles tiles = tiles_for(problem->sfb_block_n);
    DG_TRY(check_sizes(problem));
    for (int i = 0; i < tiles.count; i++) {
        struct dg_plan plan = {.kernel = DG_KERNEL_NONE};
        fill_plan(&tiles.list[i], problem, device, "one", &plan);
        DG_TRY(visit(user, &plan));
    }
    return DG_OK;
}

// ---- words ----

struct dg_sm90_grouped_kernel dg_sm90_grouped_kernel_of(const struct dg_problem *problem,
                                                        const struct dg_plan *plan)
{
    struct dg_sm90_grouped_kernel kernel = {dg_sm90_kernel_of(problem, plan), 1};
    kernel.tile.reads_c = problem->c_mode != DG_C_NONE; // if only at the edges of groups
    return kernel;
}

void dg_sm90_grouped_explain(const struct dg_problem *problem, const struct dg_device *device,
                             const struct dg_plan *plan, dg_fact_callback callback, void *user)
{
    const struct dg_sm90_grouped_kernel kernel = dg_sm90_grouped_kernel_of(problem, plan);
    const struct usual usual = usual_sizes(problem);
    const int64_t tiles = usual_tiles(problem, &plan->sm90, &usual);
    char text[192];
    dg_sm90_grouped_text(&kernel, text, sizeof text);
    dg_tell(callback, user, "plan", "kernel_key", "%s", text);
    dg_sm90_config_text(&plan->sm90, text, sizeof text);
    dg_tell(callback, user, "plan", "candidate", "%s", text);
    dg_tell(callback, user, "plan", "tiles",
            "about %lld of %d x %d on %d CTAs; the device counts them", (long long)tiles,
            plan->sm90.block_m, plan->sm90.block_n, plan->num_ctas);
    if (plan->own_rounds)
        dg_tell(callback, user, "plan", "own_rounds",
                "%d of each CTA; if there is workspace, the rest is for those that are free",
                plan->own_rounds);
    if (plan->guessed_rows && kernel.tile.scales_tma)
        dg_tell(callback, user, "plan", "guessed_rows",
                "%d of each group, until a CTA knows its first tile", plan->guessed_rows);
    dg_sm90_explain_launch(plan, dg_sm90_grouped_smem_bytes(&kernel), kernel.tile.scales_tma,
                           callback, user);
}
