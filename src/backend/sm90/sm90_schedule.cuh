// SPDX-License-Identifier: MIT
// sm90_schedule.cuh - which tiles of a grouped problem a CTA works on, found from the layout in device memory
// while the kernel runs: nothing is prepared and nothing is counted in memory.
//
// A section is rows of one group that lie together.  Its units, tiles of DG_BLOCK_M x DG_BLOCK_N, are numbered
// behind those of the sections before it, so no tile mixes groups:
//
//     section     0: rows 0-299     1: 300-301   2: 384-...         DG_BLOCK_M = 256
//     units       0 1 .. 2n-1       2n .. 3n-1   3n ..              n = args.units_n
//
// Tiles begin at multiples of 4 rows, as the copy engine takes scales from multiples of 16 bytes only; so up to three
// rows before a section are in its first tile too, where they are multiplied, but not stored.
//
// Each round of gridDim units gives each CTA one, its place moving on by one from round to round; so each warp that
// follows the schedule walks the sections once, in order, and all of them meet the same tiles.
//
//     CTA         0   1   2   3   0   1   2   3
//     units       0   1   2   3   5   6   7   4      whole tiles: 0, 2, 4, 6; small ones: 1, 3, 5, 7
//
// With places that stay, groups of a whole tile and a small one would give whole tiles to even CTAs only.  The odd ones
// would run ahead, and the weights that both need come from memory twice.
//
// In a section units go down bands of args.band tiles of rows.  Idle sections, in which there is nothing to multiply,
// are no units where D stays as it is or a warp beside the walk clears them (clear_rows).  Else they are dealt out by a
// count of their own, from the last CTA on: one count for both would leave all multiplying to some CTAs where tiles of
// the two sorts alternate.
#ifndef DG_SM90_SCHEDULE_CUH
#define DG_SM90_SCHEDULE_CUH

#include "sm90_ptx.cuh"

// num_blocks 0: rows of no group, or a group without k: D = C or zeros; negative: there are no more tiles.
struct tile {
    int group;
    int m0, rows, n0;            // m0: in the group's matrix, or in that of all groups
    int skip;                    // so many of the rows, at most 3, are still another's
    int num_blocks, first_block; // first_block: k-block of the scales
    int place;                   // ALONG_K: in the list of groups
};

struct walk {
    int units, is_idle;     // of the section; idle: rows of no group, or a group without k
    int place;              // of this CTA in its round
    int next, next_idle;    // this CTA's next unit of each sort, counted from where the section begins
    int group, first, rows; // group -1: rows of no group
    int until;              // BY_ENDS: where the groups before the last 32 that were read end
};

DG_DEVICE void start_walk(struct walk *walk)
{
    walk->units = walk->is_idle = walk->first = walk->rows = walk->until = 0;
    walk->next = walk->place = blockIdx.x;
    walk->next_idle = gridDim.x - 1 - blockIdx.x;
    walk->group = -1;
}

// So that the next reads of `count` integers at `at` find them in the L1 cache.
DG_DEVICE void touch(const int *at, int count)
{
    const int i = threadIdx.x % 32 * 32;
    if (i < count)
        dg_prefetch_l1(at + i);
}

// ---- an entry for each row ----

enum { GLANCE = 128 }; // rows that a warp reads at a time

// Rows of the layout that count.
DG_DEVICE int rows_in_use(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups)
{
    return groups->num_rows ? (int)min(max(*groups->num_rows, 0), args->m) : args->m;
}

DG_DEVICE int group_of_row(const struct dg_sm90_group_args *groups, int row)
{
    const int group = groups->layout[row];
    return (u32)group < (u32)groups->groups ? group : -1;
}

// The next section: rows of the same group up to `limit`, but no more than a band.
DG_DEVICE int next_run(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, struct walk *walk,
                       int limit)
{
    const int lane = threadIdx.x % 32, first = walk->first + walk->rows;
    if (first >= limit)
        return 0;
    const int most = min(limit - first, args->band * DG_BLOCK_M - first % 4);
    walk->first = first;
    walk->group = group_of_row(groups, first);
    for (int row = lane, done = 0; !done; row += GLANCE) {
        int other = most; // the first row of this lane that is another group's
#pragma unroll
        for (int i = GLANCE / 32 - 1; i >= 0; i--)
            if (row + i * 32 < most && group_of_row(groups, first + row + i * 32) != walk->group)
                other = row + i * 32;
        walk->rows = __reduce_min_sync(~0u, other);
        done = walk->rows < most || row - lane + GLANCE >= most;
    }
    touch(groups->layout + first + walk->rows, limit - first - walk->rows);
    return 1;
}

// D = 0 in rows of no group, by one warp of each CTA: BY_INDEX, rows of 16 aligned bytes.  These stores need neither
// the tensor cores nor the ring, so they run beside the products instead of after them.
DG_DEVICE void clear_rows(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, int element)
{
    const int lane = threadIdx.x % 32, limit = rows_in_use(args, groups), chunks = args->n * element / 16;
    for (int first = blockIdx.x * 32; first < limit; first += gridDim.x * 32) {
        const int row = first + lane;
        for (u32 todo = __ballot_sync(~0u, row < limit && group_of_row(groups, row) < 0); todo; todo &= todo - 1) {
            uint4 *at = (uint4 *)((char *)args->d + (first + __ffs(todo) - 1) * args->d_row_stride * element);
            for (int i = lane; i < chunks; i += 32)
                at[i] = make_uint4(0, 0, 0, 0);
        }
    }
}

// ---- an entry for each group ----

// BY_ENDS: from the ends of 32 groups, one in each lane, to the first row and the rows of this lane's.  Returns
// where all of them end.
DG_DEVICE int rows_between_ends(int end, int until, int alignment, int *first, int *rows)
{
    const int lane = threadIdx.x % 32;
    int last = max(end, until); // the largest up to this lane
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, last, step);
        last = lane >= step ? max(last, other) : last;
    }
    const int before = __shfl_up_sync(~0u, last, 1);
    const i64 aligned = ((i64)(lane ? before : until) + alignment - 1) / alignment * alignment;
    *first = (int)min(aligned, (i64)0x7fffffff);
    *rows = end - *first;
    return __shfl_sync(~0u, last, 31);
}

// The next group that has rows.  The entries of 32 groups are read at a time, one by each lane; again for each
// section, as they stay in the L1 cache.
DG_DEVICE int next_group(const struct dg_sm90_group_args *groups, struct walk *walk, int limit)
{
    const int lane = threadIdx.x % 32;
    for (int window = max(walk->group, 0) & ~31; window < groups->groups; window += 32) {
        const int group = window + lane;
        int rows = group < groups->groups ? min(max(groups->layout[group], 0), limit) : 0, first = 0, until = 0;
        if (window % 1024 == 0 && walk->group < 0)
            touch(groups->layout + window, groups->groups - window);
        if (groups->kind == DG_SM90_BY_ENDS)
            until = rows_between_ends(rows, walk->until, groups->alignment, &first, &rows);
        const u32 found = __ballot_sync(~0u, rows > 0 && group > walk->group);
        if (found) {
            const int owner = __ffs(found) - 1;
            walk->group = window + owner;
            walk->first = __shfl_sync(~0u, first, owner);
            walk->rows = __shfl_sync(~0u, rows, owner);
            return 1;
        }
        walk->until = until;
    }
    return 0;
}

// ---- tiles ----

DG_DEVICE int tiles_of(const struct walk *walk)
{
    return (walk->first % 4 + walk->rows + DG_BLOCK_M - 1) / DG_BLOCK_M;
}

DG_DEVICE int next_section(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                           struct walk *walk)
{
    const int limit = rows_in_use(args, groups);
    if (groups->kind == DG_SM90_BY_INDEX) {
        if (!next_run(args, groups, walk, limit))
            return 0;
    } else if (groups->kind != DG_SM90_ALONG_K) {
        if (!next_group(groups, walk, limit))
            return 0;
    } else {
        walk->group++; // a place in the list
        walk->rows = limit;
        if (walk->group >= groups->groups)
            return 0;
    }
    walk->is_idle = groups->kind == DG_SM90_ALONG_K ? groups->list[walk->group].num_blocks == 0 : walk->group < 0;
    walk->units = walk->is_idle && groups->idle != DG_SM90_IDLE_TILES ? 0 : tiles_of(walk) * args->units_n;
    return 1;
}

// This CTA's next unit, counted in its section; negative: there is none.
DG_DEVICE int next_unit(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, struct walk *walk)
{
    while ((walk->is_idle ? walk->next_idle : walk->next) >= walk->units) {
        walk->next_idle -= walk->is_idle ? walk->units : 0;
        walk->next -= walk->is_idle ? 0 : walk->units;
        if (!next_section(args, groups, walk))
            return -1;
    }
    const int unit = walk->is_idle ? walk->next_idle : walk->next;
    if (walk->is_idle) {
        walk->next_idle += gridDim.x;
    } else {
        const int is_last = walk->place + 1 == (int)gridDim.x;
        walk->place = is_last ? 0 : walk->place + 1;
        walk->next += is_last ? 1 : gridDim.x + 1;
    }
    return unit;
}

// Finds this CTA's next tile.  All lanes call and get the same.
DG_DEVICE void find_tile(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, struct walk *walk,
                         struct tile *tile)
{
    const int unit = next_unit(args, groups, walk);
    tile->num_blocks = -1;
    if (unit < 0)
        return;
    const int tiles_m = tiles_of(walk), first = dg_divide(unit, args->per_band) * args->band;
    const int height = min(args->band, tiles_m - first), inside = unit - first * args->units_n;
    const int column = height == args->band ? dg_divide(inside, args->per_column) : height == 1 ? inside : inside / height;
    const int m = (first + inside - column * height) * DG_BLOCK_M;
    tile->skip = m == 0 ? walk->first % 4 : 0;
    tile->m0 = (walk->first & ~3) + m;
    tile->rows = min(walk->first % 4 + walk->rows - m, DG_BLOCK_M);
    tile->n0 = column * DG_BLOCK_N;
    tile->group = tile->place = walk->group;
    tile->num_blocks = walk->group < 0 ? 0 : args->num_k_blocks;
    tile->first_block = 0;
    if (groups->kind == DG_SM90_ALONG_K) {
        tile->group = groups->list[walk->group].group;
        tile->num_blocks = groups->list[walk->group].num_blocks;
        tile->first_block = groups->list[walk->group].first_block;
    }
}

#endif
