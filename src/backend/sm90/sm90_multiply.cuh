// SPDX-License-Identifier: MIT
// sm90_multiply.cuh - the ring of slots in shared memory, and a math group's way through it: what the tiled
// kernels of sm90_fp8_gemm.cu and sm90_fp8_gemm_grouped.cu have in common, down to the names that the former
// lists as its parameters.
//
// A tile's rows come in pieces of 64.  A math group has HALVES of them, MATH_GROUPS pieces apart, so that a
// tile whose last rows are none keeps all groups busy as long as it can:
//
//     rows 0-63   group 0    64-127  group 1    128-191  group 0    192-255  group 1
#ifndef DG_SM90_MULTIPLY_CUH
#define DG_SM90_MULTIPLY_CUH

#define DG_WARP_N DG_BLOCK_N // columns of a math warp
#ifndef DG_SCALE_WARPS
#define DG_SCALE_WARPS 3
#endif
#include "sm90_ring.cuh"
#include "sm90_scales.cuh"
#include "sm90_store.cuh"

enum {
    BLOCK_K = 128,
    HALVES = DG_BLOCK_M / (64 * DG_MATH_GROUPS), // m64 pieces of a math group
    CLUSTER = DG_CLUSTER_M * DG_CLUSTER_N,
    SHARERS = DG_CLUSTER_M + DG_CLUSTER_N - 1,   // CTAs whose loads land in one CTA, itself included
    THREADS = 128 * (DG_MATH_GROUPS + 1),
    // One lane speaks for its warp, as it does for the memory model; but where the scale warps write by ordinary
    // copies over what the lanes have read, racecheck follows only lanes that speak for themselves.
    ALL_LANES_RELEASE = DG_ALL_LANES && CLUSTER == 1,
    // Shared memory: [A slots][B slots][D buffers][scale slots: A's, then B's per-column][barriers]
    A_BYTES = DG_BLOCK_M * BLOCK_K,
    B_BYTES = DG_BLOCK_N * BLOCK_K,
    SFA_BYTES = DG_BLOCK_M * 4,
    SFB_BYTES = DG_SFB_BLOCK_N == 1 ? DG_BLOCK_N * 4 : SFB_COUNT * 16, // TMA moves no less than 16 bytes
    SCALE_BYTES = SFA_BYTES + (SFB_BYTES + 127) / 128 * 128,
    B_AT = DG_NUM_STAGES * A_BYTES,
    D_AT = B_AT + DG_NUM_STAGES * B_BYTES,
    SCALE_AT = D_AT + DG_MATH_GROUPS * 4 * DG_D_BUFFERS * 2048,
    FULL_AT = SCALE_AT + DG_NUM_STAGES * SCALE_BYTES,
    EMPTY_AT = FULL_AT + DG_NUM_STAGES * 8,
    // Rows of B by which a box may begin early: what wgmma then reads behind the last slot must be shared memory too.
    MOST_OVERHANG = (EMPTY_AT + DG_NUM_STAGES * 8 - D_AT) / BLOCK_K,
    // Where the scale of B changes in a tile depends on where the tile begins in its first 128-column block of B:
    // at one of 128 / OFFSET_STEP places.  A choice at run time for each OFFSET_STEP columns would cost a tenth of
    // the time, a loop for each place most of the compiler's; so there is a loop for each GRAIN columns, and the
    // OFFSET_STEP columns before a change, which this leaves open, have a scale that is read for them.
    GRAIN = OFFSET_STEP < 32 ? 2 * OFFSET_STEP : OFFSET_STEP,
    OPEN_COUNT = GRAIN > OFFSET_STEP ? SFB_COUNT - 1 : 0,
    // A math group that is alone has nobody who multiplies while it promotes, so it has its next products under way.
    // Narrower tiles win nothing: they wait for slots, and give them back later so.
    IS_ALONE = DG_BLOCK_M == 64 && DG_BLOCK_N == 128 && DG_SFB_BLOCK_N == 128,
    // Where the next slot's operands lie is worked out under the products; the widest tiles have no registers for that.
    OPERANDS_AHEAD = DG_BLOCK_N <= 192,
};

// The first row of one of a math group's pieces.
DG_DEVICE int piece_row(int group, int half)
{
    return (half * DG_MATH_GROUPS + group) * 64;
}

// This CTA's place in its cluster.
DG_DEVICE u32 cluster_rank(void)
{
    return CLUSTER > 1 ? dg_cluster_ctarank() : 0;
}

// ---- multiplying ----

// What product i of a thread is multiplied with where each of its columns, 8i + 2 * (lane % 4) and the next, has a scale.
DG_DEVICE float column_factor(const float *sfa, const float *sfb, int i)
{
    return sfa[i / 2 % 2] * sfb[i / 4 * 2 + i % 2];
}

DG_DEVICE void promote_columns(float *total, const float *part, const float *sfa, const float *sfb)
{
#pragma unroll
    for (int i = 0; i < ACC; i++)
        total[i] = fmaf(column_factor(sfa, sfb, i), part[i], total[i]);
}

// Tells the loaders of every CTA that writes into this slot that the calling warp is done with it.
DG_DEVICE void release_slot(u32 empty)
{
    const u32 lane = threadIdx.x % 32;
    const u32 share_m = cluster_rank() % DG_CLUSTER_M, share_n = cluster_rank() / DG_CLUSTER_M;
    __syncwarp(); // all lanes have read their scales
    if (CLUSTER == 1 && (lane == 0 || ALL_LANES_RELEASE))
        dg_mbarrier_arrive(empty);
    if (CLUSTER > 1 && lane < SHARERS)
        dg_mbarrier_arrive_cluster(empty, lane < DG_CLUSTER_N ? lane * DG_CLUSTER_M + share_m
                                                              : share_n * DG_CLUSTER_M + (share_m ^ 1));
}

// The scales of a k-block that one thread needs: A's for its two rows of each m64 piece, and B's.
struct scales {
    float a[HALVES][2], b[SFB_COUNT], open[OPEN_COUNT + 1];
};

// Reads B's scales of the tile's 128-column blocks and of the columns that are open, or of this thread's columns,
// which come in pairs.
DG_DEVICE void read_scales_b(u32 at, int block, int shift, struct scales *scales)
{
    at += SFA_BYTES + (DG_SFB_BLOCK_N == 1 ? threadIdx.x % 4 * 8 : (DG_SF_PACKED ? block / 4 : block) % 4 * 4);
#pragma unroll
    for (int i = 0; i < SFB_COUNT; i++) {
        float pair[2];
        if (DG_SFB_BLOCK_N == 128) {
            scales->b[i] = scale_of(dg_ld_shared(at + i * 16), block);
        } else if (i % 2 == 0) {
            dg_ld_shared_v2(at + i * 16, pair);
            scales->b[i] = scale_of(__float_as_uint(pair[0]), block);
            scales->b[i + 1] = scale_of(__float_as_uint(pair[1]), block);
        }
    }
#pragma unroll
    for (int i = 0; i < OPEN_COUNT; i++)
        scales->open[i] = scale_of(dg_ld_shared(at + (i + shift) * 16), block);
}

// Waits for a slot and reads its scales, but leaves B's per-column ones, too many to keep, for later.  `zero`: 0, or
// dg_lane_zero.
DG_DEVICE void enter_slot(u32 smem, struct slot slot, int block, int shift, int halves, u32 zero, struct scales *scales)
{
    const u32 row = threadIdx.x / 128 * 64 + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    const u32 at = smem + SCALE_AT + slot.index * SCALE_BYTES;
    dg_mbarrier_wait(smem + FULL_AT + slot.index * 8, slot.parity);
#pragma unroll
    for (int i = 0; i < 2 * halves; i++)
        scales->a[i / 2][i % 2] =
            scale_of(dg_ld_shared(at + row * 4 + i / 2 * (DG_MATH_GROUPS * 256) + i % 2 * 32), block);
    if (DG_SFB_BLOCK_N == 128)
        read_scales_b(at + zero, block, shift, scales);
}

// total += (sf_a * sf_b) * part where the tile begins in the GRAIN columns from `grain` of a block of B, a constant.
DG_DEVICE void promote(float *total, const float *part, const struct scales *scales, int half, int grain)
{
    float scale[2];
#pragma unroll
    for (int column = 0; column < DG_BLOCK_N; column += 8) {
        if (column % OFFSET_STEP == 0) {
            const int block = (grain + column) / 128, is_open = (grain + column + OFFSET_STEP) % 128 == 0;
            float b = scales->b[0];
#pragma unroll
            for (int i = 1; i < SFB_COUNT; i++) // no index that the compiler could take for a variable
                if (block == i)
                    b = scales->b[i];
#pragma unroll
            for (int i = 0; i < OPEN_COUNT; i++)
                if (is_open && block == i)
                    b = scales->open[i];
            scale[0] = scales->a[half][0] * b;
            scale[1] = scales->a[half][1] * b;
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            total[column / 2 + i] = fmaf(scale[i / 2], part[column / 2 + i], total[column / 2 + i]);
    }
}

// How far into any slot a math group's rows of A and the tile's of B begin, in bytes.
struct offsets {
    u32 a, b;
};

// over_m, over_n: dg_overhang of the tile's boxes.
DG_DEVICE struct offsets offsets_of(u32 group, int over_m, int over_n)
{
    // Through a shuffle, so that the compiler sees that all lanes have the same: descriptors are uniform registers.
    const struct offsets offsets = {(group * 64 + __shfl_sync(~0u, over_m, 0)) * BLOCK_K,
                                    __shfl_sync(~0u, over_n, 0) * BLOCK_K};
    return offsets;
}

// Where they begin in a slot, in units of 16 bytes, as wgmma has them.
struct operands {
    u32 a, b;
};

DG_DEVICE struct operands operands_in(u32 smem, struct slot slot, struct offsets offsets)
{
    const struct operands at = {(smem + slot.index * A_BYTES + offsets.a) / 16,
                                (smem + B_AT + slot.index * B_BYTES + offsets.b) / 16};
    return at;
}

// Starts the products of m64 piece `half` of a math group: four steps of 32 along k.  With is_apart, the first step can
// be waited for alone.
DG_DEVICE void start_products(float *part, struct operands at, int half, int is_apart)
{
    dg_wgmma_fence();
#pragma unroll
    for (int k = 0; k < BLOCK_K / 32; k++) {
        dg_wgmma(part, at.a + half * (DG_MATH_GROUPS * 64 * BLOCK_K / 16) + k * 2, at.b + k * 2, k != 0);
        if (is_apart && k == 0)
            dg_wgmma_commit_group();
    }
    dg_wgmma_commit_group();
}

// The k loop of one math group.  All that does not need the products is done while the tensor cores make
// them, the next slot's wait, scales and addresses too: between two wgmma groups nothing stands but the promotion.
// `grain` and `halves`, how many of the group's pieces have rows, are constants.
DG_DEVICE void multiply_tile(u32 smem, struct slot *slot, struct offsets offsets, int grain, int shift, int halves,
                             int num_blocks, float (*total)[ACC])
{
    // All lanes read the same scales of B.  Where ptxas knows, it may move them to uniform registers, for which a warp
    // waits before it waits for its products.
    const u32 zero = HALVES == 2 ? dg_lane_zero() : 0;
    struct scales now, next;
    enter_slot(smem, *slot, 0, shift, halves, zero, &now);
    struct operands at = operands_in(smem, *slot, offsets);
#pragma unroll 1
    for (int block = 0; block < num_blocks; block++, now = next) {
        u32 empty = smem + EMPTY_AT + slot->index * 8;
        const u32 scales = smem + SCALE_AT + slot->index * SCALE_BYTES;
        if (DG_SFB_BLOCK_N == 128)
            dg_compute_here(&empty); // not while it promotes
        if (!OPERANDS_AHEAD)
            at = operands_in(smem, *slot, offsets);
#pragma unroll
        for (int half = 0; half < halves; half++) {
            float part[ACC];
            start_products(part, at, half, 0);
            if (half == 0 && DG_SFB_BLOCK_N == 1)
                read_scales_b(scales, block, 0, &now);
            if (half == halves - 1) {
                next = now; // or ptxas gives both registers of their own, and copies them while nothing multiplies
                next_slot(slot, DG_NUM_STAGES);
                if (OPERANDS_AHEAD) {
                    at = operands_in(smem, *slot, offsets);
                    dg_compute_here(&at.a);
                    dg_compute_here(&at.b);
                }
                if (block + 1 < num_blocks)
                    enter_slot(smem, *slot, block + 1, shift, halves, zero, &next);
            }
            dg_wgmma_wait(part);
            if (half == halves - 1)
                release_slot(empty);
            if (DG_SFB_BLOCK_N == 128)
                promote(total[half], part, &now, half, grain);
            else
                promote_columns(total[half], part, now.a[half], now.b);
        }
    }
}

// The products of a k-block, and the scales to promote them with.
struct block {
    float part[ACC];
    struct scales scales;
};

DG_DEVICE void start_block(u32 smem, struct slot slot, struct offsets offsets, int index, struct block *block)
{
    enter_slot(smem, slot, index, 0, 1, 0, &block->scales);
    start_products(block->part, operands_in(smem, slot, offsets), 0, 0);
}

// With block `index` under way in `now`: starts the next one in `next`, then finishes it.  0: it was the last.
// The two ways are apart because ptxas would not keep products under way where they meet.
DG_DEVICE int multiply_step(u32 smem, struct slot *slot, struct offsets offsets, int index, int num_blocks,
                            struct block *now, struct block *next, float *total)
{
    const u32 empty = smem + EMPTY_AT + slot->index * 8;
    next_slot(slot, DG_NUM_STAGES);
    if (index + 1 == num_blocks) {
        dg_wgmma_wait(now->part);
        release_slot(empty);
        promote(total, now->part, &now->scales, 0, 0);
        return 0;
    }
    start_block(smem, *slot, offsets, index + 1, next);
    dg_wgmma_wait_1(now->part);
    release_slot(empty);
    promote(total, now->part, &now->scales, 0, 0);
    return 1;
}

// The k loop of a math group that is alone.
DG_DEVICE void multiply_alone(u32 smem, struct slot *slot, struct offsets offsets, int num_blocks, float *total)
{
    struct block even, odd;
    start_block(smem, *slot, offsets, 0, &even);
#pragma unroll 1
    for (int i = 0; multiply_step(smem, slot, offsets, i, num_blocks, &even, &odd, total) &&
                    multiply_step(smem, slot, offsets, i + 1, num_blocks, &odd, &even, total);
         i += 2)
        ;
}

// Either for a tile whose first column is n0; over_m, over_n: see offsets_of.
DG_DEVICE void multiply_at(u32 smem, struct slot *slot, u32 group, int n0, int over_m, int over_n, int halves,
                           int num_blocks, float (*total)[ACC])
{
    const int shift = n0 % GRAIN / OFFSET_STEP, place = n0 % 128 - n0 % GRAIN;
    const struct offsets offsets = offsets_of(group, over_m, over_n);
#pragma unroll
    for (int grain = 0; grain < 128; grain += GRAIN)
        if (IS_ALONE)
            multiply_alone(smem, slot, offsets, num_blocks, total[0]);
        else if (GRAIN == 128 || place == grain)
            multiply_tile(smem, slot, offsets, grain, shift, halves, num_blocks, total);
}

// ---- barriers ----

// The loader warp makes the barriers.  It waits for nobody, as its first loads need nobody, but for the cluster.
DG_DEVICE void start_ring(u32 smem)
{
    const u32 warp = threadIdx.x / 32;
    if (threadIdx.x == 128 * DG_MATH_GROUPS) {
        for (int i = 0; i < DG_NUM_STAGES; i++) {
            dg_mbarrier_init(smem + FULL_AT + i * 8, DG_SCALES_TMA ? 1 : 1 + SCALE_THREADS);
            dg_mbarrier_init(smem + EMPTY_AT + i * 8,
                             ALL_LANES_RELEASE ? 128 * DG_MATH_GROUPS : 4 * DG_MATH_GROUPS * SHARERS);
        }
        dg_fence_mbarrier_init();
    }
    __syncwarp();
    if (CLUSTER > 1) {
        dg_barrier_cluster_arrive();
        dg_barrier_cluster_wait();
    } else if (warp == 4 * DG_MATH_GROUPS) {
        dg_barrier_arrive(0, THREADS);
    } else {
        dg_barrier_sync(0, THREADS);
    }
}

#endif
