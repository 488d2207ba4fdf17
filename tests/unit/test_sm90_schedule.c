// SPDX-License-Identifier: MIT
// test_sm90_schedule.c - the walk over groups that the grouped kernels make on the device, run here: the lanes
// of its warp are coroutines (lanes.h).
//
//     test_sm90_schedule [COUNT [FIRST_SEED]]     400 random layouts, seeds from 1
//
// Over all CTAs the tiles must cover each row of each group once, and nothing else; no CTA may have two tiles more
// than another, unless it asks for them, and the count of those may have no owner left.  Rows of no group are covered
// too, or cleared, or left alone.
#include "../harness.h"
#include "../random_problem.h"

#include "backend/sm90/sm90_gemm.h"

#include <limits.h>

#define DG_BLOCK_M 128
#define DG_BLOCK_N 64
#define LANES_ROW_BYTES 128
#define LANES_COLUMNS DG_BLOCK_N
#include "../lanes_async.h"

#include "backend/sm90/sm90_schedule.cuh"

enum { COUNT = 400 };

// ---- a problem --------------------------------------------------------------------------------------

static struct dg_sm90_gemm_args args;
static struct dg_sm90_group_args groups;
static struct dg_sm90_k_group list[64];
static struct dg_sm90_count given; // of the units that are asked for
static uint64_t state, holding;    // what it held before
static int room_for_layout[8192 + 4] __attribute__((aligned(16))), *layout, num_rows;
static unsigned char *seen;               // how often each tile's width of each row was met
static int tiles[2], num_tiles;           // of this CTA: those with work, and idle ones; of all
static int fewest[2], most[2], num_wrong; // over the CTAs

static int draw(int count)
{
    return (int)(random_next(&state) % (uint64_t)count);
}

// Entries of every kind: empty groups, single rows, negative counts, more rows than there are.
static void draw_counts(int room)
{
    args.m = 1 + draw(room);
    for (int i = 0; i < groups.groups; i++)
        layout[i] = draw(4) ? draw(args.m + 3) - 1 : 0;
}

static void draw_ends(int room)
{
    int end = 0;
    groups.alignment = draw(2) ? 1 << draw(8) : 1 + draw(200);
    groups.per_alignment = dg_sm90_divide_by(groups.alignment);
    for (int i = 0; i < groups.groups; i++) {
        end = (end + groups.alignment - 1) / groups.alignment * groups.alignment;
        layout[i] = end += draw(3) ? draw(room) : 0;
    }
    args.m = end + 1 + draw(50);
}

// Ids out of range are rows of no group.
static void draw_rows(int room)
{
    args.m = 1 + draw(5 * room);
    for (int row = 0, left = 0, group = -1; row < args.m; row++, left--) {
        if (left == 0) {
            left = 1 + draw(room);
            group = draw(3) ? draw(groups.groups) : draw(2) ? -1 : groups.groups + draw(9);
        }
        layout[row] = group;
    }
}

static void draw_list(int room)
{
    args.m = 1 + draw(room);
    groups.groups = 1 + draw((int)(sizeof list / sizeof *list));
    for (int i = 0; i < groups.groups; i++)
        list[i] = (struct dg_sm90_k_group){.group = groups.groups - 1 - i, .num_blocks = draw(3)};
}

// Whatever the memory holds, a count that was not cleared included.
static void draw_count(void)
{
    groups.first_counted = draw(2) ? INT_MAX : (int)gridDim.x * (1 + draw(3));
    groups.count = &given;
    groups.owner = random_next(&state);
    holding = draw(2) ? random_next(&state) : draw(2) ? 0 : groups.owner - 1;
    given = (struct dg_sm90_count){holding, (u32)random_next(&state)};
}

static void draw_problem(uint64_t seed)
{
    static void (*const draws[])(int) = {draw_rows, draw_ends, draw_counts, draw_list};
    state = seed * 2 + 1;
    layout = room_for_layout + (draw(2) ? 0 : draw(4)); // in most cases at a multiple of 16 bytes
    args =
        (struct dg_sm90_gemm_args){.units_n = 1 + draw(6), .band = 1 + draw(9), .num_k_blocks = 3};
    groups = (struct dg_sm90_group_args){.kind = draw(4), .groups = 1 + draw(draw(3) ? 9 : 150)};
    draws[groups.kind](draw(2) ? 700 : 60);
    args.per_band = dg_sm90_divide_by((int64_t)args.band * args.units_n);
    args.per_column = dg_sm90_divide_by(args.band);
    groups.layout = layout;
    groups.list = list;
    groups.idle = draw(groups.kind == DG_SM90_BY_INDEX ? 3 : 2);
    num_rows = draw(args.m + 5) - 2;
    if (draw(3) == 0 && groups.kind <= DG_SM90_BY_ENDS)
        groups.num_rows = &num_rows;
    gridDim.x = 1 + (unsigned)draw(20);
    draw_count();
}

// ---- walking ----------------------------------------------------------------------------------------

static bool has_own_rows(void)
{
    return groups.kind == DG_SM90_BY_COUNTS || groups.kind == DG_SM90_ALONG_K;
}

// BY_INDEX: the group of a row, or -1.
static int group_at(int row)
{
    return (u32)layout[row] < (u32)groups.groups ? layout[row] : -1;
}

static void mark(const struct tile *tile)
{
    const int column = tile->n0 / DG_BLOCK_N, matrix = has_own_rows() ? tile->group : 0;
    tiles[tile->num_blocks == 0]++;
    if (tile->n0 % DG_BLOCK_N || column < 0 || column >= args.units_n || tile->m0 < 0 ||
        tile->skip < 0 || tile->skip > 3 || tile->rows <= tile->skip || tile->rows > DG_BLOCK_M ||
        tile->m0 + tile->rows > args.m || matrix < 0 || matrix >= groups.groups) {
        num_wrong++;
        return;
    }
    for (int row = tile->m0 + tile->skip; row < tile->m0 + tile->rows; row++) {
        seen[((int64_t)matrix * args.m + row) * args.units_n + column]++;
        if (groups.kind == DG_SM90_BY_INDEX)
            num_wrong += tile->group != group_at(row);
    }
}

static void walk_as_lane(void)
{
    struct walk walk;
    struct tile tile;
    start_walk(&args, &groups, &walk);
    for (;;) {
        find_tile(&args, &groups, &walk, &tile);
        if (tile.num_blocks < 0)
            break;
        if (threadIdx.x == 0)
            mark(&tile);
        if (tile.num_blocks > 0)
            next_number(&groups, &walk);
    }
}

static void walk_as_cta(unsigned cta)
{
    blockIdx.x = cta;
    tiles[0] = tiles[1] = 0;
    num_wrong += !lanes_run(32, walk_as_lane);
    num_tiles += tiles[0];
    for (int i = 0; i < 2; i++) {
        fewest[i] = (int)min(fewest[i], tiles[i]);
        most[i] = (int)max(most[i], tiles[i]);
    }
}

// ---- clearing ---------------------------------------------------------------------------------------

enum { ELEMENT = 2 };

static void clear_as_lane(void)
{
    DG_DYNAMIC_SHARED(shared);
    clear_rows(&args, &groups, dg_smem_address(shared), ELEMENT);
}

// Bytes of D that are wrong after all CTAs have cleared: rows of no group that count are zeros, all else is as it was.
static int64_t count_uncleared(int limit)
{
    int64_t wrong = 0;
    args.n = 8 * (1 + draw(80));
    args.d_row_stride = args.n + 8 * draw(3);
    const int64_t row_bytes = args.d_row_stride * ELEMENT;
    unsigned char *d = malloc((size_t)(args.m * row_bytes));
    if (!d)
        return -1;
    memset(d, 0xa5, (size_t)(args.m * row_bytes));
    args.d = d;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
        wrong += !lanes_run(32, clear_as_lane);
    for (int64_t i = 0; i < args.m * row_bytes; i++) {
        const int row = (int)(i / row_bytes);
        const bool is_clear = row < limit && group_at(row) < 0 && i % row_bytes < args.n * ELEMENT;
        wrong += d[i] != (is_clear ? 0 : 0xa5);
    }
    free(d);
    return wrong;
}

// ---- judging ----------------------------------------------------------------------------------------

// Whether `row` has to be met in matrix `matrix`; not by ends.
static bool is_wanted(int matrix, int row, int limit)
{
    if (groups.kind == DG_SM90_BY_COUNTS)
        return row < layout[matrix];
    if (groups.kind == DG_SM90_ALONG_K)
        return groups.idle == DG_SM90_IDLE_TILES || list[groups.groups - 1 - matrix].num_blocks > 0;
    return row < limit && (groups.idle == DG_SM90_IDLE_TILES || group_at(row) >= 0);
}

static bool is_in_a_gap(int row, int limit)
{
    int end = 0;
    for (int i = 0; i < groups.groups; i++) {
        const int first = (end + groups.alignment - 1) / groups.alignment * groups.alignment;
        end = (int)max(end, min(layout[i], limit));
        if (row >= first && row < min(layout[i], limit))
            return false;
    }
    return true;
}

static int64_t count_wrong(void)
{
    const int limit = groups.num_rows ? (int)min(max(num_rows, 0), args.m) : args.m;
    int64_t wrong = num_wrong;
    for (int matrix = 0; matrix < (has_own_rows() ? groups.groups : 1); matrix++)
        for (int row = 0; row < args.m; row++) {
            const int wanted = groups.kind == DG_SM90_BY_ENDS ? !is_in_a_gap(row, limit)
                                                              : is_wanted(matrix, row, limit);
            for (int i = 0; i < args.units_n; i++)
                wrong += seen[((int64_t)matrix * args.m + row) * args.units_n + i] != wanted;
        }
    // One after the other here, so the first CTA is given all that are asked for.
    const bool asks = num_tiles > groups.first_counted - (int)gridDim.x;
    wrong += given.owner != (asks ? 0 : holding);
    for (int i = asks; i < 2; i++)
        wrong += most[i] > fewest[i] + 1;
    if (groups.idle == DG_SM90_IDLE_CLEARED)
        wrong += count_uncleared(limit);
    return wrong;
}

static bool try_seed(uint64_t seed)
{
    draw_problem(seed);
    const int64_t matrices = has_own_rows() ? groups.groups : 1;
    seen = calloc((size_t)(matrices * args.m * args.units_n), 1);
    num_wrong = num_tiles = most[0] = most[1] = 0;
    fewest[0] = fewest[1] = INT32_MAX;
    for (unsigned cta = 0; seen && cta < gridDim.x; cta++)
        walk_as_cta(cta);
    const int64_t wrong = seen ? count_wrong() : -1;
    free(seen);
    if (wrong)
        printf(
            "# seed %llu: kind %d, %d groups, m = %d, %d columns, band %d, %u CTAs: %lld wrong\n",
            (unsigned long long)seed, groups.kind, groups.groups, args.m, args.units_n, args.band,
            gridDim.x, (long long)wrong);
    return wrong == 0;
}

static int count = COUNT, first_seed = 1;

static void test_every_row_is_met_once(void)
{
    int failed = 0;
    for (int i = 0; i < count; i++)
        failed += !try_seed((uint64_t)(first_seed + i));
    CHECK(failed == 0, "%d of %d walks are wrong", failed, count);
}

int main(int argc, char **argv)
{
    count = argc > 1 ? atoi(argv[1]) : harness_scaled(COUNT);
    first_seed = argc > 2 ? atoi(argv[2]) : 1;
    RUN(test_every_row_is_met_once);
    return harness_end();
}
