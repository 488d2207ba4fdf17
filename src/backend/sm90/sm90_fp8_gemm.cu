// SPDX-License-Identifier: MIT
// sm90_fp8_gemm.cu - D = C + A * B^T for FP8 values with scales every 128 of k: the tiled kernel.
//
// A persistent CTA works on tiles of DG_BLOCK_M x DG_BLOCK_N.  Its warps have three roles, tied by a
// ring of DG_NUM_STAGES slots, each one k-block of 128 bytes per row:
//
//     loader warp     waits empty[s]   TMA boxes of A, B and their scales into slot s  -> full[s]
//     scale warps     wait  empty[s]   cp.async of scales that TMA cannot take         -> full[s]
//     math groups     wait  full[s]    4 wgmma into `part`, then                       -> empty[s]
//                                      total += (sf_a * sf_b) * part
//
// A math group owns 64 rows (or two times 64) of the tile and shares nothing with the others but the
// ring (and in one tile the tensor cores, by turns: sm90_turns.cuh): no barrier joins them, so one
// group's promotion and stores run under another's wgmma.  Each warp
// sends its results to D through shared memory of its own, by TMA, and goes on to the next tile.
// docs/KERNELS.md draws the pipeline.
//
// In a cluster each CTA loads its share of the operand that its neighbours need too, and multicasts it.
//
// Compile-time parameters (the kernel's identity); all sizes are run-time arguments:
#ifndef DG_BLOCK_M
#error "DG_BLOCK_M: rows of a tile: 64 * DG_MATH_GROUPS or 128 * DG_MATH_GROUPS"
#endif
#ifndef DG_BLOCK_N
#error "DG_BLOCK_N: columns of a tile, a multiple of 8 up to 256"
#endif
#ifndef DG_NUM_STAGES
#error "DG_NUM_STAGES: slots of the ring, at least 2"
#endif
#ifndef DG_MATH_GROUPS
#error "DG_MATH_GROUPS: math warpgroups, 1 to 3"
#endif
#ifndef DG_CLUSTER_M
#error "DG_CLUSTER_M: CTAs of a cluster along m, which share B: 1 or 2"
#endif
#ifndef DG_CLUSTER_N
#error "DG_CLUSTER_N: CTAs of a cluster along n, which share A: 1 or 2"
#endif
#ifndef DG_SFB_BLOCK_N
#error "DG_SFB_BLOCK_N: rows of B per scale, 128 (1D2D) or 1 (1D1D)"
#endif
#ifndef DG_SCALES_TMA
#error "DG_SCALES_TMA: 1 when per-row scales are MN-major and aligned for TMA, 0 for any layout"
#endif
#ifndef DG_SF_PACKED
#error "DG_SF_PACKED: 1 when scales are packed UE8M0"
#endif
#ifndef DG_D_FP32
#error "DG_D_FP32: 1 when D and C are FP32, 0 for BF16"
#endif
#ifndef DG_READS_C
#error "DG_READS_C: 1 when math warps may have to read C, 0 when there is none or it is added to in memory"
#endif
#ifndef DG_D_BUFFERS
#error "DG_D_BUFFERS: 2 KB buffers of a math warp on the way to D, 1 to 8"
#endif
#ifndef DG_ALL_LANES
#error "DG_ALL_LANES: 1 when racecheck shall follow the barriers"
#endif
#ifndef DG_ENTRY
#error "DG_ENTRY: the kernel's name"
#endif

#define DG_D_IN_TURNS 1 // see sm90_store.cuh
#include "sm90_multiply.cuh"
#include "sm90_turns.cuh"

// over_m, over_n: dg_overhang of its boxes; none where CTAs share them.
struct tile {
    int m0, n0, over_m, over_n;
};

// Units (clusters of tiles) are numbered down bands of args.band units of m, so that the tiles in flight
// cover a compact block of D and share rows of A and B in the L2 cache.
DG_DEVICE struct tile locate(const struct dg_sm90_gemm_args *args, int unit)
{
    const int before = dg_divide(unit, args->per_band), first = before * args->band;
    const int height = min(args->band, args->units_m - first), inside = unit - first * args->units_n;
    const int column = dg_divide(inside, height < args->band ? args->per_last : args->per_column);
    struct tile tile;
    tile.m0 = ((first + inside - column * height) * DG_CLUSTER_M + (int)cluster_rank() % DG_CLUSTER_M) * args->tile_rows;
    tile.n0 = (column * DG_CLUSTER_N + (int)cluster_rank() / DG_CLUSTER_M) * DG_BLOCK_N;
    tile.over_m = CLUSTER == 1 ? dg_overhang(tile.m0, args->tile_rows, args->m, DG_BLOCK_M) : 0;
    tile.over_n = CLUSTER == 1 ? dg_overhang(tile.n0, DG_BLOCK_N, args->n, MOST_OVERHANG) : 0;
    return tile;
}

// ---- work ----

// What a CTA does one after the other: k-blocks of units.
//
// A tile that is added to D (DG_SM90_C_REDUCE) keeps the L2 cache busy for as long as the products of some k-blocks
// take, and CTAs in step would all wait for it at the same time.  So each begins its first unit at another k-block,
// and does what that lacks at the end:
//
//     CTA 0    unit 0 ---------|unit 3 ---------|unit 6 ---------|
//     CTA 1    unit 1 ----|unit 4 ---------|unit 7 ---------|1 --|
//     CTA 2    2 --|unit 5 ---------|unit 8 ---------|unit 2 ----|
struct work {
    int unit, begin, end;
};

enum { MAY_STAGGER = DG_SFB_BLOCK_N == 1 && DG_D_FP32 && CLUSTER == 1 };

// In fours, as packed scales are.
DG_DEVICE int first_begin(const struct dg_sm90_gemm_args *args)
{
    return MAY_STAGGER ? (int)((u64)args->num_k_blocks * (blockIdx.x * args->stagger) >> 16) & ~3 : 0;
}

DG_DEVICE struct work first_work(const struct dg_sm90_gemm_args *args)
{
    const struct work work = {(int)blockIdx.x / CLUSTER, first_begin(args), args->num_k_blocks};
    return work;
}

// What the first unit lacked.
DG_DEVICE int is_rest(const struct dg_sm90_gemm_args *args, const struct work *work)
{
    return MAY_STAGGER && work->end < args->num_k_blocks;
}

// The k-blocks; for kernels that do not stagger without a look at `work`, so that theirs is the code of a loop over all.
DG_DEVICE int begin_of(const struct work *work)
{
    return MAY_STAGGER ? work->begin : 0;
}

DG_DEVICE int end_of(const struct dg_sm90_gemm_args *args, const struct work *work)
{
    return MAY_STAGGER ? work->end : args->num_k_blocks;
}

DG_DEVICE void next_work(const struct dg_sm90_gemm_args *args, int num_units, struct work *work)
{
    work->begin = 0;
    if (is_rest(args, work)) {
        work->unit = num_units;
        return;
    }
    work->unit += gridDim.x / CLUSTER;
    if (MAY_STAGGER && work->unit >= num_units && first_begin(args) > 0) {
        work->unit = blockIdx.x;
        work->end = first_begin(args);
    }
}

// ---- loader warp ----

// One lane fills the ring with A and B.  Rows beyond m or n and columns beyond k arrive as zeros.
DG_DEVICE void load_tile(const struct dg_sm90_gemm_args *args, const struct dg_sm90_maps *maps, u32 smem,
                         struct tile tile, struct work work, struct slot *slot)
{
    const u32 share_m = cluster_rank() % DG_CLUSTER_M, share_n = cluster_rank() / DG_CLUSTER_M;
    for (int block = begin_of(&work); block < end_of(args, &work); block++, next_slot(slot, DG_NUM_STAGES)) {
        const u32 full = smem + FULL_AT + slot->index * 8, empty = smem + EMPTY_AT + slot->index * 8;
        dg_mbarrier_wait(empty, slot->parity ^ 1);
        dg_mbarrier_arrive_expect_tx(full, args->tile_rows * (BLOCK_K + 4 * DG_SCALES_TMA) + B_BYTES + SFB_BYTES * DG_SCALES_TMA);
        u32 a = smem + slot->index * A_BYTES, b = smem + B_AT + slot->index * B_BYTES;
        if (DG_CLUSTER_N > 1) // the CTAs with my share_m need the same A: one part each
            dg_tma_load_2d_multicast(a + share_n * (A_BYTES / DG_CLUSTER_N), &maps->a, full, block * BLOCK_K,
                                     tile.m0 + share_n * (DG_BLOCK_M / DG_CLUSTER_N),
                                     ((1u << DG_CLUSTER_M) | 1u) << share_m);
        else
            dg_tma_load_2d(a, &maps->a, full, block * BLOCK_K, tile.m0 - tile.over_m);
        if (DG_CLUSTER_M > 1)
            dg_tma_load_2d_multicast(b + share_m * (B_BYTES / DG_CLUSTER_M), &maps->b, full, block * BLOCK_K,
                                     tile.n0 + share_m * (DG_BLOCK_N / DG_CLUSTER_M),
                                     3u << (share_n * DG_CLUSTER_M));
        else
            dg_tma_load_2d(b, &maps->b, full, block * BLOCK_K, tile.n0 - tile.over_n);
        if (DG_SCALES_TMA) {
            const u32 scales = smem + SCALE_AT + slot->index * SCALE_BYTES;
            const int column = DG_SF_PACKED ? block / 4 : block;
            dg_tma_load_2d(scales, &maps->sfa, full, tile.m0, column);
            if (DG_SFB_BLOCK_N == 1)
                dg_tma_load_2d(scales + SFA_BYTES, &maps->sfb, full, tile.n0, column);
            else // 16 aligned bytes of each row: column % 4 is the one that is needed
                dg_tma_load_2d(scales + SFA_BYTES, &maps->sfb, full, column & ~3, tile.n0 / 128);
        }
    }
}

// ---- scale warps ----

DG_DEVICE void load_scales(const struct dg_sm90_gemm_args *args, u32 smem, struct tile tile, struct work work,
                           struct slot *slot)
{
    const int word = DG_SF_PACKED ? begin_of(&work) / 4 : begin_of(&work); // of those along k
    const int thread = threadIdx.x - (THREADS - SCALE_THREADS);
    const u32 *sfa = (const u32 *)args->sfa + (tile.m0 + thread) * args->sfa_row_stride + word * args->sfa_k_stride;
    const int row_b = DG_SFB_BLOCK_N == 1 ? tile.n0 : tile.n0 / 128;
    const u32 *sfb = (const u32 *)args->sfb + (row_b + thread) * args->sfb_row_stride + word * args->sfb_k_stride;
#pragma unroll 1 // these warps have few registers
    for (int block = begin_of(&work); block < end_of(args, &work); block++, next_slot(slot, DG_NUM_STAGES)) {
        const u32 full = smem + FULL_AT + slot->index * 8, empty = smem + EMPTY_AT + slot->index * 8;
        const u32 scales = smem + SCALE_AT + slot->index * SCALE_BYTES;
        dg_mbarrier_wait(empty, slot->parity ^ 1);
        load_column(scales, 4, sfa, args->sfa_row_stride, DG_BLOCK_M, args->m - tile.m0, thread);
        if (DG_SFB_BLOCK_N == 1)
            load_column(scales + SFA_BYTES, 4, sfb, args->sfb_row_stride, DG_BLOCK_N, args->sfb_rows - row_b, thread);
        else
            load_column(scales + SFA_BYTES + (DG_SF_PACKED ? block / 4 : block) % 4 * 4, 16, sfb, args->sfb_row_stride, SFB_COUNT, args->sfb_rows - row_b, thread);
        dg_cp_async_mbarrier_arrive(full);
        if (!DG_SF_PACKED || block % 4 == 3) { // a packed word holds four blocks
            sfa += args->sfa_k_stride;
            sfb += args->sfb_k_stride;
        }
    }
}

// ---- the kernel ----

// The copy engine's first use of a descriptor would wait for it.
DG_DEVICE void prefetch_maps(const struct dg_sm90_maps *maps)
{
    dg_prefetch_tensormap(&maps->a);
    dg_prefetch_tensormap(&maps->b);
    if (DG_SCALES_TMA) {
        dg_prefetch_tensormap(&maps->sfa);
        dg_prefetch_tensormap(&maps->sfb);
    }
    dg_prefetch_tensormap(&maps->d);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_gemm_args args, const __grid_constant__ struct dg_sm90_maps maps)
{
    DG_DYNAMIC_SHARED(shared);
    const u32 smem = dg_smem_address(shared);
    const u32 warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    const int num_units = args.units_m * args.units_n;
    struct slot slot = {0, 0};

    if (threadIdx.x == 128 * DG_MATH_GROUPS)
        prefetch_maps(&maps);
    start_ring(smem);
    dg_griddepcontrol_wait();
    if (warp >= 4 * DG_MATH_GROUPS) {
        DG_SETMAXNREG_DEC(DG_LOAD_REGISTERS);
        if (warp == 4 * DG_MATH_GROUPS && threadIdx.x % 32 == 0) {
            for (struct work work = first_work(&args); work.unit < num_units; next_work(&args, num_units, &work))
                load_tile(&args, &maps, smem, locate(&args, work.unit), work, &slot);
        } else if (!DG_SCALES_TMA && warp > 4 * DG_MATH_GROUPS) {
            for (struct work work = first_work(&args); work.unit < num_units; next_work(&args, num_units, &work))
                load_scales(&args, smem, locate(&args, work.unit), work, &slot);
        }
    } else {
        DG_SETMAXNREG_INC(DG_MATH_REGISTERS);
        start_turns(warp / 4);
        for (struct work work = first_work(&args); work.unit < num_units; next_work(&args, num_units, &work)) {
            const struct tile tile = locate(&args, work.unit);
            for (int half = 0; half < HALVES && prefetches_c(&args); half++)
                prefetch_c(&args, args.c, tile.m0 + piece_row(warp / 4, half) + warp % 4 * 16,
                           min(tile.m0 + args.tile_rows, args.m), tile.n0);
            float total[HALVES][ACC] = {};
            const int num_blocks = end_of(&args, &work) - begin_of(&work);
            if (TAKES_TURNS)
                multiply_in_turn(smem, &slot, warp / 4, tile.over_m, tile.over_n, num_blocks, total[0]);
            else
                multiply_at(smem, &slot, warp / 4, tile.n0, tile.over_m, tile.over_n, HALVES, num_blocks, total);
            if (is_rest(&args, &work)) // behind what was added of this unit before: the same bits each time
                dg_bulk_wait_group_written(0);
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                const int row = piece_row(warp / 4, half) + warp % 4 * 16;
                if (row < args.tile_rows)
                    store_rows(total[half], &args, &maps.d, smem + D_AT + warp * (DG_D_BUFFERS * D_BUFFER_BYTES), half,
                               tile.m0 + row, tile.n0);
            }
        }
        end_turns(warp / 4);
        dg_bulk_wait_group_read(0); // the buffers must outlive their stores
        // A neighbour may still write into this CTA's shared memory or arrive on its barriers.
        if (CLUSTER > 1) {
            __syncwarp();
            dg_barrier_cluster_arrive();
            dg_barrier_cluster_wait();
        }
    }
}
