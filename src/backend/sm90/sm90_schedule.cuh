// SPDX-License-Identifier: MIT
// sm90_schedule.cuh - which tiles of a grouped problem a CTA works on, found from the layout in device memory
// while the kernel runs: nothing is prepared, and at most one number is shared in memory.
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
// CTAs do not end together all the same.  So units from groups.first_counted on, if the host says so, go to whoever asks
// first (next_number): numbers that only grow, so that a walk still never goes back.
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

// BY_INDEX: entries that a lane reads at a time, and a warp.
enum { LANE_ROWS = 8, WINDOW = 32 * LANE_ROWS };

struct walk {
    int units, is_idle;     // of the section; idle: rows of no group, or a group without k
    int number, place;      // of this CTA's unit: in all that are not idle, in its round
    int next, next_idle;    // this CTA's next unit of each sort, counted from where the section begins
    int group, first, rows; // group -1: rows of no group; BY_INDEX: any other is in the layout
    int base;               // BY_ENDS: where the groups before the last 32 that were read end
    // BY_INDEX; base: first row of the window that the bits are of
    u32 edge;               // twice the row where the next section begins, and whether that is idle
    u32 firsts, idles;
    int last;               // the group of the last of them
    int ahead[LANE_ROWS];   // entries of the window behind
};

// So that the next reads of `count` integers at `at` find them in the L1 cache.
DG_DEVICE void touch(const int *at, int count)
{
    const int i = threadIdx.x % 32 * 32;
    if (i < count)
        dg_prefetch_l1(at + i);
}

// ---- an entry for each row ----

// Rows of the layout that count.
DG_DEVICE int rows_in_use(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups)
{
    return groups->num_rows ? (int)min(max(*groups->num_rows, 0), args->m) : args->m;
}

DG_DEVICE int group_or_none(const struct dg_sm90_group_args *groups, int group)
{
    return (u32)group < (u32)groups->groups ? group : -1;
}

// While tiles are loaded and multiplied, each read takes a walker hundreds of clocks.  So it reads a window of rows ahead,
// and keeps two bits for each row of the window that it is in:
//
//     rows        5 5 5 5 5 5 7 7 7 - - - - - - - 2 2 2 2 2 2 2 2       -: of no group
//     firsts      x . . . . . x . . x . . . . . . x . . . . . . .       a section begins
//     idles       . . . . . . . . . x x x x x x x . . . . . . . .
//     lane        0               1               2                     each has LANE_ROWS, side by side
DG_DEVICE void read_ahead(const struct dg_sm90_group_args *groups, struct walk *walk, int window, int limit)
{
    const int first = window + threadIdx.x % 32 * LANE_ROWS;
    const int *at = groups->layout + first;
    if (first < limit - 4 * WINDOW)
        dg_prefetch_l1(at + 4 * WINDOW);
    if ((u64)groups->layout % 16 == 0 && first <= limit - LANE_ROWS) {
#pragma unroll
        for (int i = 0; i < LANE_ROWS; i += 4) {
            const uint4 four = *(const uint4 *)(at + i);
            walk->ahead[i] = (int)four.x;
            walk->ahead[i + 1] = (int)four.y;
            walk->ahead[i + 2] = (int)four.z;
            walk->ahead[i + 3] = (int)four.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < LANE_ROWS; i++)
            walk->ahead[i] = first < limit - i ? at[i] : -1;
    }
}

// Makes the bits of the window that was read ahead, and reads the next.
DG_DEVICE void next_window(const struct dg_sm90_group_args *groups, struct walk *walk, int limit)
{
    int before = group_or_none(groups, walk->ahead[LANE_ROWS - 1]);
    const int others = __shfl_up_sync(~0u, before, 1), last = __shfl_sync(~0u, before, 31);
    before = threadIdx.x % 32 ? others : walk->last;
    walk->last = last;
    walk->firsts = walk->idles = 0;
#pragma unroll
    for (int i = 0; i < LANE_ROWS; i++) {
        const int group = group_or_none(groups, walk->ahead[i]);
        walk->firsts |= (u32)(group != before) << i;
        walk->idles |= (u32)(group < 0) << i;
        before = group;
    }
    walk->base += WINDOW;
    read_ahead(groups, walk, walk->base + WINDOW, limit);
}

// Where the next section behind `row` begins, or `limit`.
DG_DEVICE void find_edge(const struct dg_sm90_group_args *groups, struct walk *walk, int row, int limit)
{
    u32 found;
    for (;; next_window(groups, walk, limit)) {
        const int own = walk->base + threadIdx.x % 32 * LANE_ROWS, over = max(row + 1 - own, 0);
        const u32 left = over < LANE_ROWS ? walk->firsts & ~0u << over : 0;
        const int i = __ffs(left) - 1;
        found = __reduce_min_sync(~0u, left ? (u32)(own + i) * 2 + (walk->idles >> i & 1) : ~0u);
        if (found != ~0u || walk->base + WINDOW >= limit)
            break;
    }
    walk->edge = min(found, (u32)limit * 2);
}

// The next section: rows of the same group up to `limit`, but no more than a band.
DG_DEVICE int next_run(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, struct walk *walk,
                       int limit)
{
    const int first = walk->first + walk->rows;
    if (first >= limit)
        return 0;
    if (first == (int)(walk->edge / 2)) {
        walk->group = -(int)(walk->edge % 2);
        find_edge(groups, walk, first, limit);
    }
    walk->first = first;
    walk->rows = min((int)(walk->edge / 2) - first, args->band * DG_BLOCK_M - first % 4);
    return 1;
}

// D = 0 in rows of no group, by one warp of each CTA: BY_INDEX, rows of 16 aligned bytes.  That takes neither the tensor
// cores nor the ring, so it runs beside the products instead of after them: by the copy engine, as a warp's own stores
// would wait behind the math groups' reads of shared memory; as many in each CTA, and two at a time, unless there is little
// else to do: CTAs that fall behind would read from memory the weights that the others had.  `zeros`: ZERO_BYTES of
// shared memory.
enum { ZERO_BYTES = 2048 };

DG_DEVICE void clear_rows(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, u32 zeros,
                          int element)
{
    const int lane = threadIdx.x % 32, limit = rows_in_use(args, groups), bytes = args->n * element;
    for (int i = lane * 4; i < ZERO_BYTES; i += 32 * 4)
        dg_st_shared_word(zeros + i, 0);
    dg_fence_proxy_async();
    __syncwarp();
    for (int first = blockIdx.x; first < limit; first += gridDim.x * 32) {
        const i64 row = first + (i64)lane * gridDim.x;
        u32 todo = __ballot_sync(~0u, row < limit && group_or_none(groups, groups->layout[row]) < 0);
        const int has_few_tiles = __popc(todo) > 24;
        for (; todo; todo &= todo - 1) {
            char *at = (char *)args->d + (first + (__ffs(todo) - 1) * gridDim.x) * args->d_row_stride * element;
            for (int i = lane * ZERO_BYTES; i < bytes; i += 32 * ZERO_BYTES)
                dg_bulk_store(at + i, zeros, min(bytes - i, ZERO_BYTES));
            dg_bulk_commit_group();
            if (has_few_tiles)
                dg_bulk_wait_group_written(7);
            else
                dg_bulk_wait_group_written(1);
        }
    }
    dg_bulk_wait_group_written(0); // the zeros must outlive their copies
}

// ---- an entry for each group ----

// BY_ENDS: from the ends of 32 groups, one in each lane, to the first row and the rows of this lane's.  Returns
// where all of them end.
DG_DEVICE int rows_between_ends(const struct dg_sm90_group_args *groups, int end, int until, int *first, int *rows)
{
    const int lane = threadIdx.x % 32;
    int last = max(end, until); // the largest up to this lane
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, last, step);
        last = lane >= step ? max(last, other) : last;
    }
    const int others = __shfl_up_sync(~0u, last, 1), before = lane ? others : until;
    const int over = before - dg_divide(before, groups->per_alignment) * groups->alignment;
    *first = before + min(over ? groups->alignment - over : 0, 0x7fffffff - before);
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
            until = rows_between_ends(groups, rows, walk->base, &first, &rows);
        const u32 found = __ballot_sync(~0u, rows > 0 && group > walk->group);
        if (found) {
            const int owner = __ffs(found) - 1;
            walk->group = window + owner;
            walk->first = __shfl_sync(~0u, first, owner);
            walk->rows = __shfl_sync(~0u, rows, owner);
            return 1;
        }
        walk->base = until;
    }
    return 0;
}

// ---- tiles ----

DG_DEVICE void start_walk(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                          struct walk *walk)
{
    walk->units = walk->is_idle = walk->first = walk->rows = walk->base = 0;
    walk->next = walk->number = walk->place = blockIdx.x;
    walk->next_idle = gridDim.x - 1 - blockIdx.x;
    walk->group = -1;
    if (groups->kind == DG_SM90_BY_INDEX) {
        walk->base = -WINDOW;
        walk->last = -2; // nobody's, so row 0 begins a section
        walk->firsts = walk->idles = 0;
        read_ahead(groups, walk, 0, rows_in_use(args, groups));
        find_edge(groups, walk, -1, rows_in_use(args, groups));
    }
}

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

// Whoever comes first makes the count the launch's own; the others wait for that.  By one lane.
DG_DEVICE void begin_to_ask(struct dg_sm90_count *count, u64 owner)
{
    const u64 at_work = ~owner;
    for (u64 seen; (seen = dg_ld_acquire(&count->owner)) != owner;)
        if (seen != at_work && dg_atomic_cas(&count->owner, seen, at_work) == seen) {
            count->given = 0;
            dg_st_release(&count->owner, owner);
        }
}

// Whether the CTA's next unit is one to ask for.
DG_DEVICE int will_ask(const struct dg_sm90_group_args *groups, const struct walk *walk)
{
    return walk->number >= groups->first_counted - (int)gridDim.x;
}

// To the CTA's next unit, behind one that is not idle.
DG_DEVICE void next_number(const struct dg_sm90_group_args *groups, struct walk *walk)
{
    const int is_last = walk->place + 1 == (int)gridDim.x;
    int step = is_last ? 1 : gridDim.x + 1;
    walk->place = is_last ? 0 : walk->place + 1;
    if (will_ask(groups, walk)) {
        u32 given = 0;
        if (threadIdx.x % 32 == 0) {
            if (walk->number < groups->first_counted)
                begin_to_ask(groups->count, groups->owner);
            given = dg_atomic_add(&groups->count->given, 1);
        }
        step = groups->first_counted + (int)__shfl_sync(~0u, given, 0) - walk->number;
    }
    walk->number += step;
    walk->next += step;
}

// At the end each CTA asks for a unit that there is not; who asks for the last of these, gridDim.x - 1 behind the first,
// leaves the count nobody's, as a graph may launch the same owner again.
DG_DEVICE void stop_asking(const struct dg_sm90_group_args *groups, const struct walk *walk)
{
    if (walk->number >= groups->first_counted && walk->next == (int)gridDim.x - 1 && threadIdx.x % 32 == 0)
        dg_st_release(&groups->count->owner, 0);
}

// This CTA's next unit, counted in its section; negative: there is none.
DG_DEVICE int next_unit(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, struct walk *walk)
{
    while ((walk->is_idle ? walk->next_idle : walk->next) >= walk->units) {
        walk->next_idle -= walk->is_idle ? walk->units : 0;
        walk->next -= walk->is_idle ? 0 : walk->units;
        if (!next_section(args, groups, walk)) {
            stop_asking(groups, walk);
            return -1;
        }
    }
    const int unit = walk->is_idle ? walk->next_idle : walk->next;
    if (walk->is_idle)
        walk->next_idle += gridDim.x;
    return unit;
}

// Where a unit of the walk's section lies.
DG_DEVICE void place_tile(const struct dg_sm90_gemm_args *args, const struct walk *walk, int unit, struct tile *tile)
{
    const int tiles_m = tiles_of(walk), first = dg_divide(unit, args->per_band) * args->band;
    const int height = min(args->band, tiles_m - first), inside = unit - first * args->units_n;
    const int column = height == args->band ? dg_divide(inside, args->per_column) : height == 1 ? inside : inside / height;
    const int m = (first + inside - column * height) * DG_BLOCK_M;
    tile->skip = m == 0 ? walk->first % 4 : 0;
    tile->m0 = (walk->first & ~3) + m;
    tile->rows = min(walk->first % 4 + walk->rows - m, DG_BLOCK_M);
    tile->n0 = column * DG_BLOCK_N;
    tile->group = tile->place = walk->group;
    tile->first_block = 0;
}

// Finds this CTA's next tile.  All lanes call and get the same.
DG_DEVICE void find_tile(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, struct walk *walk,
                         struct tile *tile)
{
    const int unit = next_unit(args, groups, walk);
    tile->num_blocks = -1;
    if (unit < 0)
        return;
    place_tile(args, walk, unit, tile);
    if (groups->kind == DG_SM90_BY_INDEX && walk->group >= 0)
        tile->group = group_or_none(groups, groups->layout[walk->first]);
    tile->num_blocks = walk->group < 0 ? 0 : args->num_k_blocks;
    if (groups->kind == DG_SM90_ALONG_K) {
        tile->group = groups->list[walk->group].group;
        tile->num_blocks = groups->list[walk->group].num_blocks;
        tile->first_block = groups->list[walk->group].first_block;
    }
}

// This CTA's first tile if all groups have the rows that are guessed, by any lane.  0: it has none.
DG_DEVICE int guess_tile(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, struct tile *tile)
{
    struct walk walk;
    walk.group = dg_divide(blockIdx.x, groups->per_guess);
    walk.first = 0;
    walk.rows = groups->guessed_rows;
    if (walk.rows == 0 || walk.group >= groups->groups)
        return 0;
    place_tile(args, &walk, blockIdx.x - walk.group * tiles_of(&walk) * args->units_n, tile);
    tile->num_blocks = args->num_k_blocks;
    return 1;
}

#endif
