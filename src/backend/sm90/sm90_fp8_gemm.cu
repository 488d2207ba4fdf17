// SPDX-License-Identifier: MIT
// sm90_fp8_gemm.cu - D = C + A * B^T for FP8 values with scales every 128 of k: the tiled kernel.
//
// A persistent CTA works on tiles of DG_BLOCK_M x DG_BLOCK_N.  Its warps have three roles, tied by a
// ring of DG_NUM_STAGES slots, each one k-block of 128 bytes per row:
//
//     loader warp     waits empty[s]   TMA boxes of A and B into slot s        -> full[s]
//     scale warps     wait  empty[s]   cp.async of the scales into slot s      -> full[s]
//     math groups     wait  full[s]    4 wgmma into `part`, then                -> empty[s]
//                                      total += (sf_a * sf_b) * part
//
// A math group owns 64 rows (or two times 64) of the tile and shares nothing with the others but the
// ring: no barrier joins them, so one group's promotion and stores run under another's wgmma.  A warp
// turns its results into whole lines in 2 KB of its own and stores them without waiting for anyone.
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
#ifndef DG_SF_PACKED
#error "DG_SF_PACKED: 1 when scales are packed UE8M0"
#endif
#ifndef DG_D_FP32
#error "DG_D_FP32: 1 when D and C are FP32, 0 for BF16"
#endif
#ifndef DG_K_UNROLL
#error "DG_K_UNROLL: k-blocks per trip of the main loop"
#endif
#ifndef DG_ENTRY
#error "DG_ENTRY: the kernel's name"
#endif

#include "sm90_args.h"
#include "sm90_ptx.cuh"

enum {
    BLOCK_K = 128,
    HALVES = DG_BLOCK_M / (64 * DG_MATH_GROUPS), // m64 pieces of a math group
    CLUSTER = DG_CLUSTER_M * DG_CLUSTER_N,
    SHARERS = DG_CLUSTER_M + DG_CLUSTER_N - 1,   // CTAs whose loads land in one CTA, itself included
    ACC = DG_BLOCK_N / 2,                        // accumulators of a thread for one m64 piece
    K_UNROLL = DG_K_UNROLL,
    THREADS = 128 * (DG_MATH_GROUPS + 1),
    SCALE_THREADS = 96, // all of the last warpgroup but the loader warp
    // A tile's first column lies at a multiple of this inside a 128-column block of B's scales; 128 when
    // no tile crosses a boundary at a place that depends on the tile
    OFFSET_STEP = DG_BLOCK_N % 128 == 0 || 128 % DG_BLOCK_N == 0 ? 128
                  : DG_BLOCK_N % 64 == 0                         ? 64
                  : DG_BLOCK_N % 32 == 0                         ? 32
                  : DG_BLOCK_N % 16 == 0                         ? 16
                                                                 : 8,
    // B scales of a slot: one per column, or one per 128-column block that a tile can touch
    SFB_COUNT = DG_SFB_BLOCK_N == 1 ? DG_BLOCK_N : (128 - OFFSET_STEP + DG_BLOCK_N - 1) / 128 + 1,
    // Shared memory: [A slots][B slots][D: 2 KB a math warp][scale slots][full, empty barriers]
    A_BYTES = DG_BLOCK_M * BLOCK_K,
    B_BYTES = DG_BLOCK_N * BLOCK_K,
    SFB_READ = DG_SFB_BLOCK_N == 1 ? DG_BLOCK_N / 4 : SFB_COUNT, // those that one thread needs
    SCALE_COUNT = DG_BLOCK_M + SFB_COUNT,
    SCALE_BYTES = (SCALE_COUNT * 4 + 15) / 16 * 16,
    B_AT = DG_NUM_STAGES * A_BYTES,
    D_AT = B_AT + DG_NUM_STAGES * B_BYTES,
    SCALE_AT = D_AT + DG_MATH_GROUPS * 4 * 2048,
    FULL_AT = SCALE_AT + DG_NUM_STAGES * SCALE_BYTES,
    EMPTY_AT = FULL_AT + DG_NUM_STAGES * 8,
};

struct tile {
    int m0, n0;
};

// Position in the ring; the parity flips each time round.
struct slot {
    u32 index, parity;
};

// This CTA's place in its cluster.
DG_DEVICE u32 cluster_rank(void)
{
    return CLUSTER > 1 ? dg_cluster_ctarank() : 0;
}

DG_DEVICE void next_slot(struct slot *slot)
{
    if (++slot->index == DG_NUM_STAGES) {
        slot->index = 0;
        slot->parity ^= 1;
    }
}

// Units (clusters of tiles) are numbered down bands of args.band units of m, so that the tiles in flight
// cover a compact block of D and share rows of A and B in the L2 cache.
DG_DEVICE struct tile locate(const struct dg_sm90_gemm_args *args, int unit)
{
    int per_band = args->band * args->units_n, first = unit / per_band * args->band;
    int height = min(args->band, args->units_m - first), inside = unit % per_band;
    struct tile tile;
    tile.m0 = ((first + inside % height) * DG_CLUSTER_M + (int)cluster_rank() % DG_CLUSTER_M) * DG_BLOCK_M;
    tile.n0 = (inside / height * DG_CLUSTER_N + (int)cluster_rank() / DG_CLUSTER_M) * DG_BLOCK_N;
    return tile;
}

// ---- loader warp ----

// One lane fills the ring with A and B.  Rows beyond m or n and columns beyond k arrive as zeros.
DG_DEVICE void load_tile(const struct dg_sm90_gemm_args *args, const struct dg_tensor_map *map_a,
                         const struct dg_tensor_map *map_b, u32 smem, struct tile tile,
                         struct slot *slot)
{
    const u32 share_m = cluster_rank() % DG_CLUSTER_M, share_n = cluster_rank() / DG_CLUSTER_M;
    for (int block = 0; block < args->num_k_blocks; block++, next_slot(slot)) {
        const u32 full = smem + FULL_AT + slot->index * 8, empty = smem + EMPTY_AT + slot->index * 8;
        dg_mbarrier_wait(empty, slot->parity ^ 1);
        dg_mbarrier_arrive_expect_tx(full, A_BYTES + B_BYTES);
        u32 a = smem + slot->index * A_BYTES, b = smem + B_AT + slot->index * B_BYTES;
        if (DG_CLUSTER_N > 1) // the CTAs with my share_m need the same A: one part each
            dg_tma_load_2d_multicast(a + share_n * (A_BYTES / DG_CLUSTER_N), map_a, full, block * BLOCK_K,
                                     tile.m0 + share_n * (DG_BLOCK_M / DG_CLUSTER_N),
                                     ((1u << DG_CLUSTER_M) | 1u) << share_m);
        else
            dg_tma_load_2d(a, map_a, full, block * BLOCK_K, tile.m0);
        if (DG_CLUSTER_M > 1)
            dg_tma_load_2d_multicast(b + share_m * (B_BYTES / DG_CLUSTER_M), map_b, full, block * BLOCK_K,
                                     tile.n0 + share_m * (DG_BLOCK_N / DG_CLUSTER_M),
                                     3u << (share_n * DG_CLUSTER_M));
        else
            dg_tma_load_2d(b, map_b, full, block * BLOCK_K, tile.n0);
    }
}

// ---- scale warps ----

// One column of scales, in whatever layout they have: this thread's entries of `count`, `stride` words
// apart.  Rows outside the problem are not read and give 0.
DG_DEVICE void load_column(u32 smem, const u32 *at, i64 stride, int count, int valid_rows)
{
    const int thread = threadIdx.x - (THREADS - SCALE_THREADS);
#pragma unroll
    for (int i = 0; i < count; i += SCALE_THREADS, at += SCALE_THREADS * stride)
        if (i + SCALE_THREADS <= count || i + thread < count)
            dg_cp_async_4(smem + (i + thread) * 4, at, i + thread < valid_rows);
}

DG_DEVICE void load_scales(const struct dg_sm90_gemm_args *args, u32 smem, struct tile tile, struct slot *slot)
{
    const int thread = threadIdx.x - (THREADS - SCALE_THREADS);
    const int row_b = DG_SFB_BLOCK_N == 1 ? tile.n0 : tile.n0 / 128;
    const u32 *sfa = (const u32 *)args->sfa + (tile.m0 + thread) * args->sfa_row_stride;
    const u32 *sfb = (const u32 *)args->sfb + (row_b + thread) * args->sfb_row_stride;
    for (int block = 0; block < args->num_k_blocks; block++, next_slot(slot)) {
        const u32 full = smem + FULL_AT + slot->index * 8, empty = smem + EMPTY_AT + slot->index * 8;
        const u32 scales = smem + SCALE_AT + slot->index * SCALE_BYTES;
        dg_mbarrier_wait(empty, slot->parity ^ 1);
        load_column(scales, sfa, args->sfa_row_stride, DG_BLOCK_M, args->m - tile.m0);
        load_column(scales + DG_BLOCK_M * 4, sfb, args->sfb_row_stride, SFB_COUNT, args->sfb_rows - row_b);
        dg_cp_async_mbarrier_arrive(full);
        if (!DG_SF_PACKED || block % 4 == 3) { // a packed word holds four blocks
            sfa += args->sfa_k_stride;
            sfb += args->sfb_k_stride;
        }
    }
}

// ---- math groups ----

// A scale in shared memory; `block` picks the byte of a packed word.
DG_DEVICE float scale_at(u32 address, int block)
{
#if DG_SF_PACKED
    const u32 exponent = dg_ld_shared_u32(address) >> (block % 4 * 8) & 255;
    // 2^-127 is subnormal and 255 is NaN; all others are an exponent field
    return __uint_as_float(exponent == 0 ? 0x400000u : exponent == 255 ? 0x7fc00000u : exponent << 23);
#else
    return dg_ld_shared(address);
#endif
}

// total += (sf_a * sf_b) * part where the tile starts `offset` columns into a 128-column block of B's
// scales; with a constant offset the choice of the scale costs nothing.
DG_DEVICE void promote_at(float *total, const float *part, const float *sfa, const float *sfb, int offset)
{
    float scale[2];
#pragma unroll
    for (int column = 0; column < DG_BLOCK_N; column += 8) {
        if (column == 0 || (offset + column) % 128 == 0) {
            scale[0] = sfa[0] * sfb[(offset + column) / 128];
            scale[1] = sfa[1] * sfb[(offset + column) / 128];
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            total[column / 2 + i] = fmaf(scale[i / 2], part[column / 2 + i], total[column / 2 + i]);
    }
}

DG_DEVICE void promote(float *total, const float *part, const float *sfa, const float *sfb, int offset)
{
#pragma unroll
    for (int start = 0; start < 128; start += OFFSET_STEP)
        if (offset == start)
            promote_at(total, part, sfa, sfb, start);
}

// The same with a scale for each of this thread's columns, 8i + 2 * (lane % 4) and the next.
DG_DEVICE void promote_columns(float *total, const float *part, const float *sfa, const float *sfb)
{
#pragma unroll
    for (int i = 0; i < ACC; i++)
        total[i] = fmaf(sfa[i / 2 % 2] * sfb[i / 4 * 2 + i % 2], part[i], total[i]);
}

// Tells the loaders of every CTA that writes into this slot that the calling warp is done with it.
DG_DEVICE void release_slot(u32 empty)
{
    const u32 lane = threadIdx.x % 32;
    const u32 share_m = cluster_rank() % DG_CLUSTER_M, share_n = cluster_rank() / DG_CLUSTER_M;
    if (CLUSTER == 1 && lane == 0)
        dg_mbarrier_arrive(empty);
    if (CLUSTER > 1 && lane < SHARERS)
        dg_mbarrier_arrive_cluster(empty, lane < DG_CLUSTER_N ? lane * DG_CLUSTER_M + share_m
                                                              : share_n * DG_CLUSTER_M + (share_m ^ 1));
}

// Reads the scales of the slot: sfa of rows lane / 4 and + 8, sfb of the blocks or columns of the tile.
DG_DEVICE void read_scales(u32 scales, u32 first_row, int block, float *sfa, float *sfb)
{
    sfa[0] = scale_at(scales + first_row * 4, block);
    sfa[1] = scale_at(scales + first_row * 4 + 32, block);
    const u32 at = scales + DG_BLOCK_M * 4 + (DG_SFB_BLOCK_N == 1 ? threadIdx.x % 4 * 8 : 0);
#pragma unroll
    for (int i = 0; i < SFB_READ; i++)
        sfb[i] = scale_at(at + (DG_SFB_BLOCK_N == 1 ? i / 2 * 32 + i % 2 * 4 : i * 4), block);
}

// One k-block of one math group: the products of each m64 piece, then their promotion.  What does not need
// the products is done while the tensor cores make them: between two wgmma groups of one warpgroup
// nothing should stand but the promotion.
DG_DEVICE void multiply_block(float (*total)[ACC], u32 smem, struct slot slot, u32 group, int offset, int block)
{
    const u32 full = smem + FULL_AT + slot.index * 8, empty = smem + EMPTY_AT + slot.index * 8;
    const u32 a = smem + slot.index * A_BYTES + group * (HALVES * 64 * BLOCK_K);
    const u32 b = smem + B_AT + slot.index * B_BYTES;
    const u32 scales = smem + SCALE_AT + slot.index * SCALE_BYTES;
    const u32 row = threadIdx.x / 128 * (HALVES * 64) + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;

    dg_mbarrier_wait(full, slot.parity);
#pragma unroll
    for (int half = 0; half < HALVES; half++) {
        float part[ACC], sfa[2], sfb[SFB_READ];
        dg_wgmma_fence();
#pragma unroll
        for (int k = 0; k < BLOCK_K / 32; k++)
            dg_wgmma(part, a + half * 64 * BLOCK_K + k * 32, b + k * 32, k != 0);
        dg_wgmma_commit_group();
        read_scales(scales, row + half * 64, block, sfa, sfb);
        dg_wgmma_wait(part);
        if (half == HALVES - 1)
            release_slot(empty);
        if (DG_SFB_BLOCK_N == 128)
            promote(total[half], part, sfa, sfb, offset);
        else
            promote_columns(total[half], part, sfa, sfb);
    }
}

// ---- results ----
//
// A thread's accumulators 4i .. 4i + 3 are columns 8i + 2q and the next, q = lane % 4, of row lane / 4 and
// of row lane / 4 + 8 of its warp's 16 rows.

// total += C, in C's own layout.
DG_DEVICE void add_c(float *total, const struct dg_sm90_gemm_args *args, int row, int column)
{
#pragma unroll
    for (int lower = 0; lower < 2; lower++, row += 8) {
        i64 at = row * args->c_row_stride + column * args->c_column_stride;
        const i64 next = args->c_column_stride, next_group = 7 * next;
        const int columns = row < args->m ? args->n - column : 0;
#pragma unroll
        for (int i = 0; i < ACC / 2; i++, at += i % 2 ? next : next_group)
            if (i / 2 * 8 + i % 2 < columns)
                total[i / 2 * 4 + lower * 2 + i % 2] +=
                    DG_D_FP32 ? ((const float *)args->c)[at]
                              : __uint_as_float((u32)((const unsigned short *)args->c)[at] << 16);
    }
}

// One element at a time, for a D whose rows are not made of whole aligned 16-byte pieces.
DG_DEVICE void store_elements(const float *total, const struct dg_sm90_gemm_args *args, int row, int column)
{
#pragma unroll
    for (int lower = 0; lower < 2; lower++, row += 8) {
        const i64 at = row * args->d_row_stride + column;
        const int columns = row < args->m ? args->n - column : 0;
#pragma unroll
        for (int i = 0; i < ACC / 2; i++) {
            const float value = total[i / 2 * 4 + lower * 2 + i % 2];
            if (i / 2 * 8 + i % 2 >= columns)
                continue;
            if (DG_D_FP32)
                ((float *)args->d)[at + i / 2 * 8 + i % 2] = value;
            else
                ((unsigned short *)args->d)[at + i / 2 * 8 + i % 2] = (unsigned short)dg_cvt_bf16x2(value, 0);
        }
    }
}

// Through the warp's own 2 KB of shared memory, 16 rows of 128 bytes at a time, so that whole lines of D
// are written.  The 16-byte pieces of row r are permuted by r % 8: neither the fragments' way in nor the
// rows' way out meets a bank twice.
DG_DEVICE void store_lines(const float *total, const struct dg_sm90_gemm_args *args, u32 smem, int row0, int column0)
{
    enum { COLUMNS = DG_D_FP32 ? 32 : 64, PIECE = DG_D_FP32 ? 4 : 8 }; // of a 128-byte line, of 16 bytes
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, buffer = smem + D_AT + warp * 2048;
    const u32 in_row = DG_D_FP32 ? lane / 4 : lane % 16, in_piece = DG_D_FP32 ? lane % 4 / 2 : lane / 16;
    const u32 in = buffer + in_row * 128 + ((in_piece ^ in_row % 8) << 4) + (DG_D_FP32 ? lane % 2 * 8 : 0);
    const u32 out = buffer + lane / 8 * 128 + ((lane % 8 ^ lane / 8) << 4);
    const int row = row0 + warp % 4 * 16 + lane / 8, column = column0 + lane % 8 * PIECE;
    char *line = (char *)args->d + (row * args->d_row_stride + column) * (16 / PIECE);
#pragma unroll
    for (int start = 0; start < DG_BLOCK_N; start += COLUMNS) {
        const float *part = total + start / 2;
#pragma unroll
        for (int i = 0; i < 4 && start + i * (COLUMNS / 4) < DG_BLOCK_N; i++, part += COLUMNS / 8) {
            if (DG_D_FP32) { // 8 columns: two pieces of rows lane / 4 and lane / 4 + 8
                dg_st_shared_v2(in ^ i << 5, part[0], part[1]);
                dg_st_shared_v2((in ^ i << 5) + 8 * 128, part[2], part[3]);
            } else { // 16 columns: four 8x8 matrices
                const int whole = start + i * 16 + 8 < DG_BLOCK_N;
                dg_stmatrix_x4(in ^ i << 5, dg_cvt_bf16x2(part[0], part[1]), dg_cvt_bf16x2(part[2], part[3]),
                               whole ? dg_cvt_bf16x2(part[4], part[5]) : 0, whole ? dg_cvt_bf16x2(part[6], part[7]) : 0);
            }
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 4; i++) { // four lines at a time: rows lane / 8 + 4i
            u32 word[4];
            dg_ld_shared_v4((out ^ (i % 2 << 6)) + i * 512, word);
            if (row + i * 4 >= args->m || column + start >= args->n || start + lane % 8 * PIECE >= DG_BLOCK_N)
                continue;
            char *at = line + (i * 4 * args->d_row_stride + start) * (16 / PIECE);
            if (DG_D_FP32 && args->c_mode == DG_SM90_C_REDUCE)
                dg_red_global_v4(at, word);
            else
                dg_st_global_v4(at, word);
        }
        __syncwarp();
    }
}

// Stores a group's 64 rows of the tile.
DG_DEVICE void store_rows(float *total, const struct dg_sm90_gemm_args *args, u32 smem, int row0, int column0)
{
    const int lane = threadIdx.x % 32, row = row0 + threadIdx.x / 32 % 4 * 16 + lane / 4;
    if (args->c_mode == DG_SM90_C_READ)
        add_c(total, args, row, column0 + lane % 4 * 2);
    if (args->d_vector)
        store_lines(total, args, smem, row0, column0);
    else
        store_elements(total, args, row, column0 + lane % 4 * 2);
}

// ---- the kernel ----

DG_DEVICE void init_barriers(u32 smem)
{
    if (threadIdx.x == 0) {
        for (int i = 0; i < DG_NUM_STAGES; i++) {
            dg_mbarrier_init(smem + FULL_AT + i * 8, 1 + SCALE_THREADS); // the loader's lane is the 1
            dg_mbarrier_init(smem + EMPTY_AT + i * 8, 4 * DG_MATH_GROUPS * SHARERS);
        }
        dg_fence_mbarrier_init();
    }
    if (CLUSTER > 1) {
        dg_barrier_cluster_arrive();
        dg_barrier_cluster_wait();
    } else {
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_gemm_args args, const __grid_constant__ struct dg_tensor_map map_a,
             const __grid_constant__ struct dg_tensor_map map_b)
{
    extern __shared__ __align__(1024) char shared[];
    const u32 smem = dg_smem_address(shared);
    const u32 warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    const int num_units = args.units_m * args.units_n;
    struct slot slot = {0, 0};

    init_barriers(smem);
    dg_griddepcontrol_wait();
    if (warp >= 4 * DG_MATH_GROUPS) {
        DG_SETMAXNREG_DEC(DG_LOAD_REGISTERS);
        if (warp == 4 * DG_MATH_GROUPS && threadIdx.x % 32 == 0) {
            for (int unit = blockIdx.x / CLUSTER; unit < num_units; unit += gridDim.x / CLUSTER)
                load_tile(&args, &map_a, &map_b, smem, locate(&args, unit), &slot);
            dg_griddepcontrol_launch_dependents();
        } else if (warp > 4 * DG_MATH_GROUPS) {
            for (int unit = blockIdx.x / CLUSTER; unit < num_units; unit += gridDim.x / CLUSTER)
                load_scales(&args, smem, locate(&args, unit), &slot);
        }
    } else {
        DG_SETMAXNREG_INC(DG_MATH_REGISTERS);
        for (int unit = blockIdx.x / CLUSTER; unit < num_units; unit += gridDim.x / CLUSTER) {
            const struct tile tile = locate(&args, unit);
            float total[HALVES][ACC] = {};
#pragma unroll K_UNROLL
            for (int block = 0; block < args.num_k_blocks; block++, next_slot(&slot))
                multiply_block(total, smem, slot, warp / 4, OFFSET_STEP == 128 ? 0 : tile.n0 % 128, block);
#pragma unroll
            for (int half = 0; half < HALVES; half++)
                store_rows(total[half], &args, smem, tile.m0 + (warp / 4 * HALVES + half) * 64, tile.n0);
        }
    }
    if (CLUSTER > 1) { // a neighbour may still write into this CTA's shared memory
        __syncwarp();
        dg_barrier_cluster_arrive();
        dg_barrier_cluster_wait();
    }
}
