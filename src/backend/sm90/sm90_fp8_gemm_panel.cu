// SPDX-License-Identifier: MIT
// sm90_fp8_gemm_panel.cu - D = A * B^T where k is short and there are many tiles: the panel kernel.
//
// Storing a tile takes half as long as multiplying it when k is 512, and math groups that share a ring do both at the
// same time, so that the tensor cores stand still a third of it.  Here they share only B: a CTA keeps a panel of it,
// DG_BLOCK_N columns by all of k, in shared memory, and walks down D.  Each math group has its own tiles of 64 rows, its
// own ring for A and its own loader, and so stores while others multiply:
//
//     B        panel p: filled once for all tiles below each other                   | panel p + 1 as slots come free
//     group 0  tile 0 multiply ---------- store ----  tile 3 multiply ---------- store ----
//     group 1     tile 1 multiply ---------- store ----  tile 4 multiply ----------
//     group 2        tile 2 multiply ---------- store ----  tile 5 multiply ----------
//
// CTAs take equal runs of tiles, which are numbered down the panels, so each reads few panels, and A comes from the L2
// cache.  1D2D only, without C, with FP32 scales, those of A as TMA takes them; k at most DG_NUM_STAGES * 128.
// docs/decisions/0025-panels-for-short-k.md has what it is worth and what was tried.
//
// Parameters: those of sm90_fp8_gemm.cu; DG_NUM_STAGES are the slots of B.
#if DG_BLOCK_M != 64 || DG_MATH_GROUPS != 3 || DG_CLUSTER_M * DG_CLUSTER_N != 1
#error "three math groups, each with 64 rows, and no cluster"
#endif
#if DG_BLOCK_N != 128 || DG_SFB_BLOCK_N != 128 || DG_SF_PACKED || !DG_SCALES_TMA || DG_READS_C
#error "128 columns with one FP32 scale of B for a k-block, A's scales by TMA, no C"
#endif

#define DG_WARP_N DG_BLOCK_N // columns of a math warp
#define DG_SCALE_WARPS 1     // none: no scales are copied
#include "sm90_ring.cuh"
#include "sm90_scales.cuh"
#include "sm90_store.cuh"

enum {
    BLOCK_K = 128,
    GROUPS = DG_MATH_GROUPS,
    THREADS = 128 * (GROUPS + 1),
    SPEAKERS = DG_ALL_LANES ? 128 : 4, // of a math group
    A_SLOTS = 3,                       // of each group
    B_SLOTS = DG_NUM_STAGES,
    // Shared memory: [A slots of each group][B slots][D buffers][A's scales][B's scales][barriers]
    A_BYTES = DG_BLOCK_M * BLOCK_K,
    B_BYTES = DG_BLOCK_N * BLOCK_K,
    SFA_BYTES = DG_BLOCK_M * 4,
    SFB_BYTES = 8, // one scale, and nothing
    B_AT = GROUPS * A_SLOTS * A_BYTES,
    D_AT = B_AT + B_SLOTS * B_BYTES,
    SFA_AT = D_AT + GROUPS * 4 * DG_D_BUFFERS * D_BUFFER_BYTES,
    SFB_AT = SFA_AT + GROUPS * A_SLOTS * SFA_BYTES,
    A_FULL_AT = SFB_AT + B_SLOTS * SFB_BYTES,
    A_EMPTY_AT = A_FULL_AT + GROUPS * A_SLOTS * 8,
    B_FULL_AT = A_EMPTY_AT + GROUPS * A_SLOTS * 8,
    B_EMPTY_AT = B_FULL_AT + B_SLOTS * 8,
};

// ---- work ----

// The tiles of this CTA.  Tile t is the t % units_m-th of panel t / units_m; group g has the first + g-th and every
// GROUPS-th on.
struct tiles {
    int first, end;
};

DG_DEVICE struct tiles my_tiles(const struct dg_sm90_gemm_args *args)
{
    const i64 all = (i64)args->units_m * args->units_n;
    const struct tiles tiles = {(int)(all * blockIdx.x / gridDim.x), (int)(all * (blockIdx.x + 1) / gridDim.x)};
    return tiles;
}

// The first row of the i-th tile of a panel, and those by which its box of A begins early.
struct rows {
    int first, over;
};

DG_DEVICE struct rows rows_of(const struct dg_sm90_gemm_args *args, int i)
{
    const int first = i * args->tile_rows;
    const struct rows rows = {first, dg_overhang(first, args->tile_rows, args->m, DG_BLOCK_M)};
    return rows;
}

// ---- loader warps: one for each group's A, and one for B ----

// With one lane.
DG_DEVICE void load_a(const struct dg_sm90_gemm_args *args, const struct dg_sm90_maps *maps, u32 smem, int group)
{
    const struct tiles tiles = my_tiles(args);
    struct slot slot = {0, 0};
    for (int tile = tiles.first + group; tile < tiles.end; tile += GROUPS) {
        const struct rows rows = rows_of(args, tile % args->units_m);
        for (int block = 0; block < args->num_k_blocks; block++, next_slot(&slot, A_SLOTS)) {
            const u32 i = group * A_SLOTS + slot.index, full = smem + A_FULL_AT + i * 8;
            dg_mbarrier_wait(smem + A_EMPTY_AT + i * 8, slot.parity ^ 1);
            dg_mbarrier_arrive_expect_tx(full, args->tile_rows * (BLOCK_K + 4));
            dg_tma_load_2d(smem + i * A_BYTES, &maps->a, full, block * BLOCK_K, rows.first - rows.over);
            dg_tma_load_2d(smem + SFA_AT + i * SFA_BYTES, &maps->sfa, full, rows.first, block);
        }
    }
}

// With all lanes: each has the scale of one k-block ready.
DG_DEVICE void load_b(const struct dg_sm90_gemm_args *args, const struct dg_sm90_maps *maps, u32 smem)
{
    const struct tiles tiles = my_tiles(args);
    const int lane = threadIdx.x % 32;
    struct slot slot = {0, 0};
    for (int panel = tiles.first / args->units_m; panel * args->units_m < tiles.end; panel++) {
        const int n0 = panel * DG_BLOCK_N;
        const u32 *scales = (const u32 *)args->sfb + n0 / 128 * args->sfb_row_stride;
        const u32 scale = lane < args->num_k_blocks ? scales[lane * args->sfb_k_stride] : 0;
        for (int block = 0; block < args->num_k_blocks; block++, next_slot(&slot, B_SLOTS)) {
            const u32 full = smem + B_FULL_AT + slot.index * 8;
            dg_mbarrier_wait(smem + B_EMPTY_AT + slot.index * 8, slot.parity ^ 1);
            __syncwarp(); // a lane that is late would wait for a later filling
            if (lane == block) {
                dg_st_shared_word(smem + SFB_AT + slot.index * SFB_BYTES, scale);
                dg_mbarrier_arrive_expect_tx(full, B_BYTES);
                dg_tma_load_2d(smem + B_AT + slot.index * B_BYTES, &maps->b, full, block * BLOCK_K, n0);
            }
        }
    }
}

// ---- math groups ----

// One lane gives slots back; where racecheck looks on, each for itself.
DG_DEVICE int speaks_for_warp(void)
{
    return DG_ALL_LANES || threadIdx.x % 32 == 0;
}

// Where a group is in the two rings.
struct place {
    struct slot a, b;
};

// Where wgmma finds the operands of a place, in units of 16 bytes.
struct operands {
    u32 a, b;
};

DG_DEVICE struct operands operands_at(u32 smem, int group, const struct place *at, u32 over_m)
{
    const struct operands operands = {(smem + (group * A_SLOTS + at->a.index) * A_BYTES + over_m * BLOCK_K) / 16,
                                      (smem + B_AT + at->b.index * B_BYTES) / 16};
    return operands;
}

// A's scales for a thread's two rows, and B's.
struct scales {
    float a[2], b;
};

// Waits for both slots, and reads the scales of k-block `block`.
DG_DEVICE void enter(u32 smem, int group, const struct place *at, int block, struct scales *scales)
{
    const u32 i = group * A_SLOTS + at->a.index;
    const u32 sfa = smem + SFA_AT + i * SFA_BYTES + (threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4) * 4;
    dg_mbarrier_wait(smem + B_FULL_AT + at->b.index * 8, at->b.parity);
    dg_mbarrier_wait(smem + A_FULL_AT + i * 8, at->a.parity);
    scales->a[0] = scale_of(dg_ld_shared(sfa), block);
    scales->a[1] = scale_of(dg_ld_shared(sfa + 32), block);
    // Not in a uniform register, for which a warp would wait before it waits for its products.
    scales->b = scale_of(dg_ld_shared(smem + SFB_AT + at->b.index * SFB_BYTES + dg_lane_zero()), block);
}

// total = the sum over all k-blocks.  The next block is entered under the products, so that between two wgmma groups
// nothing stands but the promotion.  over_m: rows by which A's boxes begin early.  is_last: of the group's tiles in this
// panel, whose slots it gives back.
DG_DEVICE void multiply(u32 smem, int group, struct place *at, u32 over_m, int num_blocks, int is_last, float *total)
{
    struct scales now, next;
    enter(smem, group, at, 0, &now);
    next = now;
    struct operands from = operands_at(smem, group, at, over_m);
#pragma unroll 1
    for (int block = 0; block < num_blocks; block++, now = next) {
        float part[ACC];
        const u32 a_empty = smem + A_EMPTY_AT + (group * A_SLOTS + at->a.index) * 8;
        const u32 b_empty = smem + B_EMPTY_AT + at->b.index * 8;
        dg_wgmma_fence();
#pragma unroll
        for (int k = 0; k < BLOCK_K / 32; k++)
            dg_wgmma(part, from.a + k * 2, from.b + k * 2, k != 0);
        dg_wgmma_commit_group();
        next_slot(&at->a, A_SLOTS);
        next_slot(&at->b, B_SLOTS);
        from = operands_at(smem, group, at, over_m);
        dg_compute_here(&from.a);
        dg_compute_here(&from.b);
        if (block + 1 < num_blocks)
            enter(smem, group, at, block + 1, &next);
        dg_wgmma_wait(part);
        __syncwarp(); // all lanes have read their scales
        if (speaks_for_warp()) {
            dg_mbarrier_arrive(a_empty);
            if (is_last)
                dg_mbarrier_arrive(b_empty);
        }
        const float scale[2] = {now.a[0] * now.b, now.a[1] * now.b};
#pragma unroll
        for (int i = 0; i < ACC; i++)
            total[i] = fmaf(scale[i / 2 % 2], part[i], total[i]);
    }
}

// Gives back a panel in which the group has no tile.
DG_DEVICE void skip_panel(u32 smem, struct slot *slot, int num_blocks)
{
    for (int block = 0; block < num_blocks; block++, next_slot(slot, B_SLOTS)) {
        dg_mbarrier_wait(smem + B_FULL_AT + slot->index * 8, slot->parity);
        __syncwarp(); // as above
        if (speaks_for_warp())
            dg_mbarrier_arrive(smem + B_EMPTY_AT + slot->index * 8);
    }
}

// `warp`: through a shuffle, so that the compiler sees that all lanes go the same way; descriptors are uniform registers.
DG_DEVICE void work(const struct dg_sm90_gemm_args *args, const struct dg_sm90_maps *maps, u32 smem, u32 warp)
{
    const struct tiles tiles = my_tiles(args);
    const u32 group = warp / 4, strip = warp % 4 * 16, buffers = smem + D_AT + warp * (DG_D_BUFFERS * D_BUFFER_BYTES);
    struct place at = {{0, 0}, {0, 0}};
    int tile = tiles.first + group;
    for (int panel = tiles.first / args->units_m; panel * args->units_m < tiles.end; panel++) {
        const int begin = panel * args->units_m, end = min(tiles.end, begin + args->units_m);
        const struct slot first = at.b;
        if (tile >= end)
            skip_panel(smem, &at.b, args->num_k_blocks);
        for (; tile < end; tile += GROUPS) {
            const struct rows rows = rows_of(args, tile - begin);
            float total[ACC] = {};
            at.b = first;
            multiply(smem, group, &at, __shfl_sync(~0u, rows.over, 0), args->num_k_blocks, tile + GROUPS >= end, total);
            if (strip < args->tile_rows)
                store_rows(total, args, &maps->d, buffers, 0, rows.first + strip, panel * DG_BLOCK_N);
        }
    }
    dg_bulk_wait_group_read(0); // the buffers must outlive their stores
}

// ---- the kernel ----

DG_DEVICE void start_rings(const struct dg_sm90_maps *maps, u32 smem)
{
    if (threadIdx.x == 128 * GROUPS) {
        // The copy engine's first use of a descriptor would wait for it.
        dg_prefetch_tensormap(&maps->a);
        dg_prefetch_tensormap(&maps->b);
        dg_prefetch_tensormap(&maps->sfa);
        dg_prefetch_tensormap(&maps->d);
        for (int i = 0; i < GROUPS * A_SLOTS; i++) {
            dg_mbarrier_init(smem + A_FULL_AT + i * 8, 1);
            dg_mbarrier_init(smem + A_EMPTY_AT + i * 8, SPEAKERS);
        }
        for (int i = 0; i < B_SLOTS; i++) {
            dg_mbarrier_init(smem + B_FULL_AT + i * 8, 1);
            dg_mbarrier_init(smem + B_EMPTY_AT + i * 8, SPEAKERS * GROUPS);
        }
        dg_fence_mbarrier_init();
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_gemm_args args, const __grid_constant__ struct dg_sm90_maps maps)
{
    DG_DYNAMIC_SHARED(shared);
    const u32 smem = dg_smem_address(shared);
    const u32 warp = __shfl_sync(~0u, threadIdx.x / 32, 0), loader = warp - 4 * GROUPS;
    start_rings(&maps, smem);
    dg_griddepcontrol_wait();
    if (warp < 4 * GROUPS) {
        DG_SETMAXNREG_INC(DG_MATH_REGISTERS);
        work(&args, &maps, smem, warp);
    } else {
        DG_SETMAXNREG_DEC(DG_LOAD_REGISTERS);
        if (loader == GROUPS)
            load_b(&args, &maps, smem);
        else if (threadIdx.x % 32 == 0)
            load_a(&args, &maps, smem, loader);
    }
}
