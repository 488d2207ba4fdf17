// SPDX-License-Identifier: MIT
// sm90_fp8_gemm_grouped.cu - grouped products D = C + A * B^T for FP8 values with scales every 128 of k: the
// tiled kernel of sm90_fp8_gemm.cu, whose roles, ring and parameters it shares, on tiles that the device finds
// in a layout.
//
// Who follows the schedule (sm90_schedule.cuh) may take longer for it than what is in the ring lasts.  So a warp of
// its own, the walker, does, and tells the loader, which is one lane whose warp has no other, and the scale warps where
// there are any, up to TILE_SLOTS tiles ahead.
//
// The math groups do not walk: the loader writes into a tile's first slot what they have to know of it.
//
//     walker       tile 7 | tile 139 | ...
//     loader       tile 7: block 0 + note | block 1 | ... | tile 139: block 0 + note | ...       slots of the ring
//
// A note takes its turn with the slot, so it needs no barrier of its own.  A tile without k-blocks takes a slot
// for its note alone; so does the end of the work.
//
// Rows of a tile that are not its group's cost little: pieces of 64 rows without any are neither loaded nor
// multiplied, and of others' rows none is written: 16 rows of which only some are the group's leave a warp by
// ordinary stores, not by TMA.
#define DG_SCALE_WARPS 2       // beside the loader and the walker
#include "sm90_multiply.cuh"
#include "sm90_schedule.cuh"
static_assert(CLUSTER == 1, "the CTAs of a cluster would have to find the same tiles");

enum {
    NOTE_BYTES = 32, // a struct tile
    TILE_SLOTS = 2,
    GUESSED_BLOCKS = 96 * 1024 / (A_BYTES + B_BYTES), // asked for before the first tile is known
    LAST_BLOCKS = 16, // of a tile: as long as they are loaded, the walker may look for another
    NOTES_AT = EMPTY_AT + DG_NUM_STAGES * 8,
    TILES_AT = NOTES_AT + DG_NUM_STAGES * NOTE_BYTES,
    TILE_FULL_AT = TILES_AT + TILE_SLOTS * NOTE_BYTES,
    TILE_EMPTY_AT = TILE_FULL_AT + TILE_SLOTS * 8,
    ZEROS_AT = TILE_EMPTY_AT + TILE_SLOTS * 8,
    TILE_TAKERS = 1 + (DG_SCALES_TMA ? 0 : ALL_LANES_RELEASE ? SCALE_THREADS : DG_SCALE_WARPS),
    // Who follows the schedule needs more registers than DG_LOAD_REGISTERS; the math groups do with fewer.
    MATH_REGISTERS = DG_MATH_GROUPS == 1 ? DG_MATH_REGISTERS : 216,
    LOAD_REGISTERS = DG_MATH_GROUPS == 1 ? 88 : 504 - 2 * MATH_REGISTERS,
};

static_assert(GUESSED_BLOCKS > 0 && GUESSED_BLOCKS < DG_NUM_STAGES, "a guess never comes round to its first slot");

// ---- notes ----

DG_DEVICE void write_tile(u32 at, const struct tile *tile)
{
    dg_st_shared_word(at, tile->group);
    dg_st_shared_word(at + 4, tile->m0);
    dg_st_shared_word(at + 8, tile->rows);
    dg_st_shared_word(at + 12, tile->n0);
    dg_st_shared_word(at + 16, tile->num_blocks);
    dg_st_shared_word(at + 20, tile->skip);
    dg_st_shared_word(at + 24, tile->first_block);
    dg_st_shared_word(at + 28, tile->place);
}

// A reduction tells the compiler that all lanes have the same.  Loops and branches that hang on it, and the slot that
// they lead to, are then the same too, so its addresses stay in uniform registers, and nothing comes between the
// wgmma of a block.
DG_DEVICE int read_word(u32 at)
{
    return __reduce_or_sync(~0u, dg_ld_shared(at));
}

// Waits for a tile's first slot.
DG_DEVICE void read_note(u32 smem, struct slot slot, struct tile *tile)
{
    const u32 at = smem + NOTES_AT + slot.index * NOTE_BYTES;
    dg_mbarrier_wait(smem + FULL_AT + slot.index * 8, slot.parity);
    tile->group = read_word(at);
    tile->m0 = read_word(at + 4);
    tile->rows = read_word(at + 8);
    tile->n0 = read_word(at + 12);
    tile->num_blocks = read_word(at + 16);
    tile->skip = read_word(at + 20);
}

// ---- walker ----

DG_DEVICE void make_tile_slots(u32 smem)
{
    for (int i = 0; i < TILE_SLOTS; i++) {
        dg_mbarrier_init(smem + TILE_FULL_AT + i * 8, 1);
        dg_mbarrier_init(smem + TILE_EMPTY_AT + i * 8, TILE_TAKERS);
    }
}

DG_DEVICE void next_tile_slot(struct slot *slot)
{
    slot->index = (slot->index + 1) % TILE_SLOTS;
    slot->parity ^= slot->index == 0;
}

DG_DEVICE void run_walker(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, u32 smem)
{
    struct slot slot = {0, 0};
    struct walk walk;
    struct tile tile;
    start_walk(args, groups, &walk);
    do {
        find_tile(args, groups, &walk, &tile);
        dg_mbarrier_wait(smem + TILE_EMPTY_AT + slot.index * 8, slot.parity ^ 1);
        __syncwarp(); // who comes to the barrier after the loader has the tile would wait for the one after
        if (threadIdx.x % 32 == 0) {
            write_tile(smem + TILES_AT + slot.index * NOTE_BYTES, &tile);
            dg_mbarrier_arrive(smem + TILE_FULL_AT + slot.index * 8);
        }
        __syncwarp();
        if (tile.num_blocks > 0) {
            if (will_ask(groups, &walk)) // not long before the tile is needed: others may be free earlier
                dg_mbarrier_wait(smem + TILE_EMPTY_AT + slot.index * 8, slot.parity);
            next_number(groups, &walk);
        }
        next_tile_slot(&slot);
    } while (tile.num_blocks >= 0);
}

// The next tile from the walker, for the loader's lane, which gives the slot back by itself, or a scale warp.
DG_DEVICE void take_tile(u32 smem, struct slot *slot, struct tile *tile, int is_warp)
{
    const u32 at = smem + TILES_AT + slot->index * NOTE_BYTES;
    dg_mbarrier_wait(smem + TILE_FULL_AT + slot->index * 8, slot->parity);
    tile->group = dg_ld_shared(at);
    tile->m0 = dg_ld_shared(at + 4);
    tile->rows = dg_ld_shared(at + 8);
    tile->n0 = dg_ld_shared(at + 12);
    tile->num_blocks = dg_ld_shared(at + 16);
    tile->skip = dg_ld_shared(at + 20);
    tile->first_block = dg_ld_shared(at + 24);
    tile->place = dg_ld_shared(at + 28);
    if (is_warp) {
        __syncwarp();
        if (threadIdx.x % 32 == 0 || ALL_LANES_RELEASE)
            dg_mbarrier_arrive(smem + TILE_EMPTY_AT + slot->index * 8);
    }
    next_tile_slot(slot);
}

// ---- loader warp ----

// In one box where the tile has rows in all of its pieces, or few rows, as those below them would be memory to read; else in
// one for each piece that has some.
DG_DEVICE void load_a(u32 smem, const struct dg_sm90_group_maps *maps, const struct dg_sm90_value_maps *values, u32 full,
                      int x, const struct tile *tile, int index, int is_few)
{
    const int in_pieces = !is_few && tile->rows <= DG_BLOCK_M - 64, step = in_pieces ? 64 : DG_BLOCK_M;
    const struct dg_tensor_map *map = is_few ? &maps->a_few : &values->a + in_pieces;
#pragma unroll 1
    for (int row = 0; row < tile->rows; row += step)
        dg_tma_load_3d(smem + row * BLOCK_K, map, full, x, tile->m0 + row, index);
}

DG_DEVICE void load_sfb(u32 smem, const struct dg_sm90_group_maps *maps, u32 full, int column, const struct tile *tile,
                        int index)
{
    if (DG_SFB_BLOCK_N == 1)
        dg_tma_load_3d(smem, &maps->sfb, full, tile->n0, column, index);
    else // 16 aligned bytes of each row: column % 4 is the one that is needed
        dg_tma_load_3d(smem, &maps->sfb, full, column & ~3, tile->n0 / 128, index);
}

// Asks for the rows of D that a large tile will be added to, half a tile ahead of the math groups; not where the stores of
// the tile before would wait for it.
DG_DEVICE void prefetch_tile(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                             const struct dg_sm90_group_maps *maps, const struct tile *tile)
{
    if (DG_D_FP32 && args->c_mode == DG_SM90_C_REDUCE && !prefetches_c(args) && tile->num_blocks >= 8)
        dg_tma_prefetch_2d(&maps->d_tile, tile->n0, tile->m0 + (groups->own_d ? tile->group : 0) * groups->rows_of_map_d);
}

DG_DEVICE int has_few_rows(const struct dg_sm90_group_args *groups, const struct tile *tile)
{
    return tile->rows <= groups->few_rows;
}

// Rows of A that a tile's boxes bring.
DG_DEVICE int rows_of_boxes(const struct dg_sm90_group_args *groups, const struct tile *tile)
{
    return has_few_rows(groups, tile) ? groups->few_rows : (tile->rows + 63) / 64 * 64;
}

// One k-block into a free slot, by one lane.  Rows beyond the matrix and columns beyond k arrive as zeros.
// is_guess: the slot is not full before the lane arrives at it.
DG_DEVICE void load_block(const struct dg_sm90_group_args *groups, const struct dg_sm90_group_maps *maps,
                          const struct dg_sm90_value_maps *values, u32 smem, const struct tile *tile, int block,
                          u32 index, int is_guess)
{
    const int index_a = groups->own_a ? tile->group : 0, index_b = groups->own_b ? tile->group : 0;
    const u32 full = smem + FULL_AT + index * 8;
    const u32 bytes = (rows_of_boxes(groups, tile) + DG_BLOCK_N) * BLOCK_K + (DG_SCALES_TMA ? SFA_BYTES + SFB_BYTES : 0);
    if (is_guess)
        dg_mbarrier_expect_tx(full, bytes);
    else
        dg_mbarrier_arrive_expect_tx(full, bytes);
    load_a(smem + index * A_BYTES, maps, values, full, block * BLOCK_K, tile, index_a, has_few_rows(groups, tile));
    dg_tma_load_3d(smem + B_AT + index * B_BYTES, &values->b, full, block * BLOCK_K, tile->n0, index_b);
    if (DG_SCALES_TMA) {
        const u32 scales = smem + SCALE_AT + index * SCALE_BYTES;
        const int column = DG_SF_PACKED ? block / 4 : tile->first_block + block;
        dg_tma_load_3d(scales, &maps->sfa, full, tile->m0, column, index_a);
        load_sfb(scales + SFA_BYTES, maps, full, column, tile, index_b);
    }
}

DG_DEVICE void load_tile(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                         const struct dg_sm90_group_maps *maps, const struct dg_sm90_value_maps *values, u32 smem,
                         const struct tile *tile, int first, u32 tile_empty, struct slot *slot)
{
    const int is_empty = tile->num_blocks <= 0;
    for (int block = first; block < max(tile->num_blocks, 1); block++, next_slot(slot, DG_NUM_STAGES)) {
        if (block == max(tile->num_blocks - LAST_BLOCKS, first))
            dg_mbarrier_arrive(tile_empty);
        dg_mbarrier_wait(smem + EMPTY_AT + slot->index * 8, slot->parity ^ 1);
        if (block == 0)
            write_tile(smem + NOTES_AT + slot->index * NOTE_BYTES, tile);
        if (is_empty)
            dg_mbarrier_arrive(smem + FULL_AT + slot->index * 8);
        else
            load_block(groups, maps, values, smem, tile, block, slot->index, 0);
        if (!is_empty && block == tile->num_blocks / 2)
            prefetch_tile(args, groups, maps, tile);
    }
}

// The walker takes thousands of clocks to find the first tile, as its layout comes from memory, and for as long the ring
// would be empty.  So the loader begins with the tile that it would be if the hint were right:
//
//     loader    guess: block 0 | 1     found: the same tile     2 | 3 | ...
//                                      another: a tile of two blocks and no rows     block 0 | 1 | 2 | ...
//
// No slot is full before the tile is known, so math groups see nothing of it but tiles of no rows, which they skip.
DG_DEVICE int load_guess(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                         const struct dg_sm90_group_maps *maps, u32 smem, struct tile *guess)
{
    const int count = min((int)GUESSED_BLOCKS, args->num_k_blocks - 1);
    if (!DG_SCALES_TMA || !guess_tile(args, groups, guess))
        return 0;
#pragma unroll 1
    for (int block = 0; block < count; block++)
        load_block(groups, maps, &maps->values, smem, guess, block, block, 1);
    return max(count, 0);
}

// Gives the slots of `count` blocks of a guess away, as the first of `tile` where that is it.  Returns how many of its
// blocks are so done.
DG_DEVICE int end_guess(const struct dg_sm90_group_args *groups, u32 smem, const struct tile *tile, struct tile *guess,
                        int count, struct slot *slot)
{
    const int is_right = tile->num_blocks > 0 && tile->group == guess->group && tile->m0 == guess->m0 &&
                         tile->n0 == guess->n0 && rows_of_boxes(groups, tile) == rows_of_boxes(groups, guess);
    guess->rows = 0;
    guess->num_blocks = count;
    if (is_right)
        write_tile(smem + NOTES_AT, tile);
    else
        write_tile(smem + NOTES_AT, guess);
    for (; (int)slot->index < count; slot->index++)
        dg_mbarrier_arrive(smem + FULL_AT + slot->index * 8);
    return is_right ? count : 0;
}

DG_DEVICE void run_loader(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                          const struct dg_sm90_group_maps *maps, u32 smem)
{
    const struct dg_sm90_value_maps *values = &maps->values;
    struct slot slot = {0, 0}, tile_slot = {0, 0};
    struct tile tile, guess;
    int guessed = load_guess(args, groups, maps, smem, &guess);
    do {
        const u32 tile_empty = smem + TILE_EMPTY_AT + tile_slot.index * 8;
        take_tile(smem, &tile_slot, &tile, 0);
        const int done = guessed ? end_guess(groups, smem, &tile, &guess, guessed, &slot) : 0;
        guessed = 0;
        if (groups->kind == DG_SM90_ALONG_K && tile.num_blocks > 0 && values != &groups->list[tile.place].values) {
            values = &groups->list[tile.place].values;
            dg_fence_proxy_tensormap(&values->a);
            dg_fence_proxy_tensormap(&values->a_piece);
            dg_fence_proxy_tensormap(&values->b);
        }
        load_tile(args, groups, maps, values, smem, &tile, done, tile_empty, &slot);
    } while (tile.num_blocks >= 0);
}

// ---- scale warps ----

DG_DEVICE void load_scales(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, u32 smem,
                           const struct tile *tile, struct slot *slot)
{
    const int thread = threadIdx.x - (THREADS - SCALE_THREADS);
    const int row_b = DG_SFB_BLOCK_N == 1 ? tile->n0 : tile->n0 / 128;
    const u32 *sfa = (const u32 *)args->sfa + tile->group * groups->sfa_group +
                     (tile->m0 + thread) * args->sfa_row_stride + tile->first_block * args->sfa_k_stride;
    const u32 *sfb = (const u32 *)args->sfb + tile->group * groups->sfb_group +
                     (row_b + thread) * args->sfb_row_stride + tile->first_block * args->sfb_k_stride;
    if (tile->num_blocks <= 0) {
        dg_mbarrier_wait(smem + EMPTY_AT + slot->index * 8, slot->parity ^ 1);
        dg_mbarrier_arrive(smem + FULL_AT + slot->index * 8);
        next_slot(slot, DG_NUM_STAGES);
    }
#pragma unroll 1 // these warps have few registers
    for (int block = 0; block < tile->num_blocks; block++, next_slot(slot, DG_NUM_STAGES)) {
        const u32 scales = smem + SCALE_AT + slot->index * SCALE_BYTES;
        dg_mbarrier_wait(smem + EMPTY_AT + slot->index * 8, slot->parity ^ 1);
        load_column(scales, 4, sfa, args->sfa_row_stride, DG_BLOCK_M, tile->rows, thread);
        if (DG_SFB_BLOCK_N == 1)
            load_column(scales + SFA_BYTES, 4, sfb, args->sfb_row_stride, DG_BLOCK_N, args->sfb_rows - row_b, thread);
        else
            load_column(scales + SFA_BYTES + (DG_SF_PACKED ? block / 4 : block) % 4 * 4, 16, sfb, args->sfb_row_stride,
                        SFB_COUNT, args->sfb_rows - row_b, thread);
        dg_cp_async_mbarrier_arrive(smem + FULL_AT + slot->index * 8);
        if (!DG_SF_PACKED || block % 4 == 3) { // a packed word holds four blocks
            sfa += args->sfa_k_stride;
            sfb += args->sfb_k_stride;
        }
    }
}

DG_DEVICE void run_scales(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, u32 smem)
{
    struct slot slot = {0, 0}, tile_slot = {0, 0};
    struct tile tile;
    do {
        take_tile(smem, &tile_slot, &tile, 1);
        load_scales(args, groups, smem, &tile, &slot);
    } while (tile.num_blocks >= 0);
}

// ---- math groups ----

// The k-blocks of a tile in which the group has no rows.
DG_DEVICE void skip_tile(u32 smem, struct slot *slot, int num_blocks)
{
    for (int block = 0; block < num_blocks; block++, next_slot(slot, DG_NUM_STAGES)) {
        dg_mbarrier_wait(smem + FULL_AT + slot->index * 8, slot->parity);
        release_slot(smem + EMPTY_AT + slot->index * 8);
    }
}

DG_DEVICE void multiply_live(u32 smem, struct slot *slot, u32 group, const struct tile *tile, float (*total)[ACC])
{
    const int live = tile->rows <= piece_row(group, 0) ? 0 : HALVES == 1 || tile->rows <= piece_row(group, 1) ? 1 : 2;
    if (live == 0)
        skip_tile(smem, slot, tile->num_blocks);
    if (live == HALVES)
        multiply_at(smem, slot, group, tile->n0, 0, 0, HALVES, tile->num_blocks, total);
    else if (live == 1)
        multiply_at(smem, slot, group, tile->n0, 0, 0, 1, tile->num_blocks, total);
}

// Of the warp's rows in a piece those that are the tile's.
DG_DEVICE void store_live(float *total, const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                          const struct dg_tensor_map *map, u32 smem, int warp, int half, const struct tile *tile)
{
    const u32 buffers = smem + D_AT + warp * (DG_D_BUFFERS * D_BUFFER_BYTES);
    const int row = tile->m0 + piece_row(warp / 4, half) + warp % 4 * 16;
    const int begin = tile->m0 + tile->skip, end = tile->m0 + tile->rows;
    const int is_whole = row >= begin && row + 16 <= end, index = groups->own_d ? tile->group : 0;
    struct dg_sm90_gemm_args own = *args; // of this tile's part of D and C
    own.m = end;
    own.d = (char *)args->d + index * groups->d_group * D_ELEMENT;
    own.c = (const char *)args->c + index * groups->c_group * D_ELEMENT;
    if (args->c_mode == DG_SM90_C_REDUCE && !is_whole)
        own.c_mode = DG_SM90_C_READ;
    if (row < end)
        store_strip(total, &own, map, buffers, half, row, tile->n0, row + index * groups->rows_of_map_d,
                    max(begin - row, 0), is_whole);
}

// Asks for what is added to the warp's rows.
DG_DEVICE void prefetch_live(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups, int warp,
                             const struct tile *tile)
{
    const void *c = (const char *)args->c + (groups->own_d ? tile->group : 0) * groups->c_group * D_ELEMENT;
    for (int half = 0; half < HALVES; half++)
        prefetch_c(args, c, tile->m0 + piece_row(warp / 4, half) + warp % 4 * 16, tile->m0 + tile->rows, tile->n0);
}

// What leaves C as it is, -0 included.
DG_DEVICE void total_of_nothing(float (*total)[ACC])
{
#pragma unroll
    for (int i = 0; i < HALVES * ACC; i++)
        total[i / ACC][i % ACC] = -0.0f;
}

DG_DEVICE void run_math(const struct dg_sm90_gemm_args *args, const struct dg_sm90_group_args *groups,
                        const struct dg_sm90_group_maps *maps, u32 smem, int warp)
{
    struct slot slot = {0, 0};
    struct tile tile;
    read_note(smem, slot, &tile);
    while (tile.num_blocks >= 0) {
        float total[HALVES][ACC] = {};
        if (tile.num_blocks > 0 && prefetches_c(args))
            prefetch_live(args, groups, warp, &tile);
        if (tile.num_blocks > 0) {
            multiply_live(smem, &slot, warp / 4, &tile, total);
        } else {
            release_slot(smem + EMPTY_AT + slot.index * 8);
            next_slot(&slot, DG_NUM_STAGES);
            if (args->c_mode != DG_SM90_C_NONE)
                total_of_nothing(total);
        }
        store_live(total[0], args, groups, &maps->d, smem, warp, 0, &tile);
        if (HALVES == 2)
            store_live(total[HALVES - 1], args, groups, &maps->d, smem, warp, 1, &tile);
        read_note(smem, slot, &tile);
    }
    dg_bulk_wait_group_read(0); // the buffers must outlive their stores
}

// ---- the kernel ----

// The copy engine's first use of a descriptor would wait for it.
DG_DEVICE void prefetch_maps(const struct dg_sm90_group_maps *maps)
{
    dg_prefetch_tensormap(&maps->values.a);
    dg_prefetch_tensormap(&maps->values.a_piece);
    dg_prefetch_tensormap(&maps->a_few);
    dg_prefetch_tensormap(&maps->values.b);
    if (DG_SCALES_TMA) {
        dg_prefetch_tensormap(&maps->sfa);
        dg_prefetch_tensormap(&maps->sfb);
    }
    dg_prefetch_tensormap(&maps->d);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_gemm_args args,
             const __grid_constant__ struct dg_sm90_group_args groups,
             const __grid_constant__ struct dg_sm90_group_maps maps)
{
    DG_DYNAMIC_SHARED(shared);
    const u32 smem = dg_smem_address(shared);
    const u32 warp = __shfl_sync(~0u, threadIdx.x / 32, 0);

    if (threadIdx.x == 128 * DG_MATH_GROUPS) {
        prefetch_maps(&maps);
        make_tile_slots(smem); // start_ring makes them known
    }
    start_ring(smem);
    dg_griddepcontrol_wait();
    if (warp >= 4 * DG_MATH_GROUPS) {
        DG_SETMAXNREG_DEC((int)LOAD_REGISTERS);
        if (threadIdx.x == 128 * DG_MATH_GROUPS) {
            run_loader(&args, &groups, &maps, smem);
            dg_griddepcontrol_launch_dependents();
        } else if (warp == 4 * DG_MATH_GROUPS + 1) {
            run_walker(&args, &groups, smem);
        } else if (warp > 4 * DG_MATH_GROUPS && !DG_SCALES_TMA) {
            run_scales(&args, &groups, smem);
        } else if (warp == 4 * DG_MATH_GROUPS + 2 && groups.idle == DG_SM90_IDLE_CLEARED) {
            clear_rows(&args, &groups, smem + ZEROS_AT, D_ELEMENT);
        }
    } else {
        DG_SETMAXNREG_INC((int)MATH_REGISTERS);
        run_math(&args, &groups, &maps, smem, warp);
    }
}
