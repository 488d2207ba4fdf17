// SPDX-License-Identifier: MIT
// sm90_fp8_gemm_split.cu - D = C + A * B^T for FP8 values with scales, where the tiles of a problem do not
// outnumber the SMs: each CTA has one tile, or a share of one.
//
// What such a problem waits for is its bytes, the latency of the chain from load to promotion, and SMs
// without work.  So
//  - a slot of the ring holds DG_STAGE_BLOCKS k-blocks: one box of TMA each for A and B, one barrier, one
//    wait for all their products;
//  - a math group starts the products of its next slot before it promotes those of the last;
//  - the DG_SPLIT CTAs of a cluster have a part of k each.
// At the end each strip of 16 rows is gathered by one of them, in the order of their parts, through distributed
// shared memory:
//
//     CTA 0   rows 0-15 keep   16-31 -> 1   32-47 keep   48-63 -> 1
//     CTA 1   rows 0-15 -> 0   16-31 keep   32-47 -> 0   48-63 keep
//
// Needs the names that sm90_fp8_gemm.cu lists, of which DG_NUM_STAGES counts slots, and:
#ifndef DG_STAGE_BLOCKS
#error "DG_STAGE_BLOCKS: k-blocks of a slot: 1, 2 or 4"
#endif
#ifndef DG_SPLIT
#error "DG_SPLIT: CTAs of a cluster, which divide k: 1 to 8"
#endif

#define DG_WARP_N DG_BLOCK_N
#define DG_SCALE_WARPS 2
#include "sm90_scales.cuh"
#include "sm90_store.cuh"

enum {
    BLOCK_K = 128,
    THREADS = 128 * (DG_MATH_GROUPS + 1),
    // A tile is STRIPS strips of 16 rows, each one warp's in every CTA; a CTA gathers up to MOST_GATHERED of them.
    STRIPS = 4 * DG_MATH_GROUPS,
    MOST_GATHERED = (STRIPS + DG_SPLIT - 1) / DG_SPLIT,
    SPOKEN_FOR = DG_ALL_LANES ? 1 : 32, // threads for which an arrival stands: sm90_multiply.cuh
    SUMS_BYTES = ACC * 4 * 32, // what a warp sends: [accumulators / 4][lane][4]
    // A group holds a slot until it has seen its next one, which the scale warps tell of this many fillings late.
    SCALE_LAG = DG_NUM_STAGES > 4 ? 3 : DG_NUM_STAGES - 2,
    // Shared memory: [A slots][B slots][D buffers][sums of other CTAs][scale slots][barriers]
    A_BYTES = DG_BLOCK_M * BLOCK_K,
    B_BYTES = DG_BLOCK_N * BLOCK_K,
    SFA_BYTES = DG_BLOCK_M * 4,
    SCALE_BYTES = SFA_BYTES + SFB_COUNT * 4,
    B_AT = DG_NUM_STAGES * DG_STAGE_BLOCKS * A_BYTES,
    D_AT = B_AT + DG_NUM_STAGES * DG_STAGE_BLOCKS * B_BYTES,
    SUMS_AT = D_AT + DG_MATH_GROUPS * 4 * DG_D_BUFFERS * D_BUFFER_BYTES,
    SCALE_AT = SUMS_AT + MOST_GATHERED * (DG_SPLIT - 1) * SUMS_BYTES,
    FULL_AT = (SCALE_AT + DG_NUM_STAGES * DG_STAGE_BLOCKS * SCALE_BYTES + 7) & ~7,
    EMPTY_AT = FULL_AT + DG_NUM_STAGES * 8,
    GATHERED_AT = EMPTY_AT + DG_NUM_STAGES * 8,
};
static_assert(DG_BLOCK_M == 64 * DG_MATH_GROUPS, "a group has 64 rows");
static_assert(FULL_AT - D_AT >= DG_BLOCK_N * BLOCK_K, "wgmma may read a tile of B behind the last slot");
static_assert(DG_NUM_STAGES > 1, "a group holds a slot until it has seen its next one");

// What a CTA works on: a tile of `rows` rows, and `count` fillings of a slot with its k-blocks from `first_block`.
// Tiles are as high as they need to be; what the products read below one is nobody's row.
struct work {
    int m0, n0, rows, first_block, count;
    int over_m, over_n; // dg_overhang of its boxes
};

DG_DEVICE struct work find_work(const struct dg_sm90_gemm_args *args)
{
    const int tile = blockIdx.x / DG_SPLIT, rank = blockIdx.x % DG_SPLIT;
    const int slots = (args->num_k_blocks + DG_STAGE_BLOCKS - 1) / DG_STAGE_BLOCKS;
    const int first = slots * rank / DG_SPLIT, column = dg_divide(tile, args->per_column);
    struct work work = {(tile - column * args->units_m) * args->tile_rows, column * DG_BLOCK_N, args->tile_rows,
                        first * DG_STAGE_BLOCKS, slots * (rank + 1) / DG_SPLIT - first};
    work.over_m = dg_overhang(work.m0, work.rows, args->m, DG_BLOCK_M);
    work.over_n = dg_overhang(work.n0, DG_BLOCK_N, args->n, DG_BLOCK_N);
    return work;
}

// The slot and parity of the i-th filling.
DG_DEVICE u32 slot_of(int i)
{
    return (u32)i % DG_NUM_STAGES;
}

DG_DEVICE u32 parity_of(int i)
{
    return (u32)i / DG_NUM_STAGES & 1;
}

// ---- loader warps ----

// The k-blocks of one slot and `rows` rows, in one box where k is whole blocks.
DG_DEVICE void load_blocks(u32 smem, const struct dg_tensor_map *map, u32 full, int rows, int row, int block, int flags)
{
    if (flags & DG_SM90_WHOLE_BLOCKS)
        dg_tma_load_3d(smem, map, full, 0, row, block);
    else
#pragma unroll
        for (int j = 0; j < DG_STAGE_BLOCKS; j++)
            dg_tma_load_2d(smem + j * rows * BLOCK_K, map, full, (block + j) * BLOCK_K, row);
}

DG_DEVICE void load_a(u32 smem, const struct dg_sm90_maps *maps, const struct work *work, int i, int flags)
{
    load_blocks(smem + slot_of(i) * DG_STAGE_BLOCKS * A_BYTES, &maps->a, smem + FULL_AT + slot_of(i) * 8, work->rows,
                work->m0 - work->over_m, work->first_block + i * DG_STAGE_BLOCKS, flags);
}

DG_DEVICE void load_b(u32 smem, const struct dg_sm90_maps *maps, const struct work *work, int i, int flags)
{
    dg_mbarrier_arrive_expect_tx(smem + FULL_AT + slot_of(i) * 8, DG_STAGE_BLOCKS * (work->rows * BLOCK_K + B_BYTES));
    load_blocks(smem + B_AT + slot_of(i) * DG_STAGE_BLOCKS * B_BYTES, &maps->b, smem + FULL_AT + slot_of(i) * 8,
                DG_BLOCK_N, work->n0 - work->over_n, work->first_block + i * DG_STAGE_BLOCKS, flags);
}

// Each operand has a warp of its own: A's few rows lie in the L2 cache and must not queue behind a ring full of B.
// B may be asked for before the kernel that this one depends on has ended, where the caller allows it.
DG_DEVICE void load_operand(u32 smem, const struct dg_sm90_maps *maps, const struct work *work, int is_b, int flags)
{
    if (!is_b || !(flags & DG_SM90_PDL_PREFETCH_B))
        dg_griddepcontrol_wait();
    for (int i = 0; i < work->count; i++) {
        dg_mbarrier_wait(smem + EMPTY_AT + slot_of(i) * 8, parity_of(i) ^ 1);
        if (dg_elect()) {
            if (is_b)
                load_b(smem, maps, work, i, flags);
            else
                load_a(smem, maps, work, i, flags);
        }
        __syncwarp();
    }
}

// ---- scale warps ----

// The copies of a filling and the scale barrier's news of it are SCALE_LAG fillings apart, so that a warp arrives
// once: an arrival of each thread would keep the barrier busy for as long as a slot takes.
DG_DEVICE void load_scales(const struct dg_sm90_gemm_args *args, u32 smem, const struct work *work)
{
    const int thread = threadIdx.x - (THREADS - SCALE_THREADS);
    const u32 *sfa = (const u32 *)args->sfa + (work->m0 + thread) * args->sfa_row_stride;
    const u32 *sfb = (const u32 *)args->sfb + (work->n0 / 128 + thread) * args->sfb_row_stride;
    for (int i = 0; i < work->count + SCALE_LAG; i++) {
        if (i < work->count)
            dg_mbarrier_wait(smem + EMPTY_AT + slot_of(i) * 8, parity_of(i) ^ 1);
#pragma unroll
        for (int j = 0; j < DG_STAGE_BLOCKS; j++) {
            const u32 scales = smem + SCALE_AT + (slot_of(i) * DG_STAGE_BLOCKS + j) * SCALE_BYTES;
            const int block = work->first_block + i * DG_STAGE_BLOCKS + j, column = DG_SF_PACKED ? block / 4 : block;
            const int is_inside = block < args->num_k_blocks;
            if (i >= work->count)
                break;
            load_column(scales, 4, sfa + column * args->sfa_k_stride, args->sfa_row_stride, DG_BLOCK_M,
                        is_inside ? args->m - work->m0 : 0, thread);
            load_column(scales + SFA_BYTES, 4, sfb + column * args->sfb_k_stride, args->sfb_row_stride, SFB_COUNT,
                        is_inside ? args->sfb_rows - work->n0 / 128 : 0, thread);
        }
        dg_cp_async_commit_group();
        dg_cp_async_wait_group(SCALE_LAG);
        __syncwarp();
        if (i >= SCALE_LAG && (thread % 32 == 0 || DG_ALL_LANES))
            dg_mbarrier_arrive(smem + FULL_AT + slot_of(i - SCALE_LAG) * 8);
    }
}

// ---- math groups ----

// The scales of one k-block that a thread needs: for its two rows, and each 128-column block of B's scales that a
// strip can touch.  They are multiplied where they are used: right after they are read, the compiler would put that
// between two wgmma, of which the second would wait for shared memory too.
struct scales {
    float a[2], b[SFB_COUNT];
};

DG_DEVICE struct scales read_scales(u32 sfa, u32 sfb, int block)
{
    struct scales scales;
#pragma unroll
    for (int i = 0; i < 2; i++)
        scales.a[i] = scale_of(dg_ld_shared(sfa + i * 32), block);
#pragma unroll
    for (int i = 0; i < SFB_COUNT; i++)
        scales.b[i] = scale_of(dg_ld_shared(sfb + i * 4), block);
    return scales;
}

// total += scale * part where the strip starts `offset` columns into a 128-column block of B's scales.
DG_DEVICE void promote(float *total, const float *part, const struct scales *scales, int offset)
{
    float of[SFB_COUNT][2], scale[2];
#pragma unroll
    for (int i = 0; i < SFB_COUNT; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            of[i][half] = scales->a[half] * scales->b[i];
#pragma unroll
    for (int column = 0; column < DG_BLOCK_N; column += 8) {
        if (column % OFFSET_STEP == 0)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                scale[half] = of[0][half];
#pragma unroll
                for (int i = 1; i < SFB_COUNT; i++)
                    if ((OFFSET_STEP == 128 ? 0 : offset) + column >= i * 128)
                        scale[half] = of[i][half];
            }
#pragma unroll
        for (int i = 0; i < 4; i++)
            total[column / 2 + i] = fmaf(scale[i / 2], part[column / 2 + i], total[column / 2 + i]);
    }
}

// A filling of a slot: the products of its k-blocks, and the scales to promote them with.
struct filling {
    float part[DG_STAGE_BLOCKS][ACC];
    struct scales scales[DG_STAGE_BLOCKS];
};

// Waits for filling i, reads its scales and starts its products.
DG_DEVICE void start_filling(u32 smem, const struct work *work, int i, int strip, struct filling *filling)
{
    const u32 a = (smem + slot_of(i) * DG_STAGE_BLOCKS * A_BYTES + (strip / 4 * 64 + work->over_m) * BLOCK_K) / 16;
    const u32 b = (smem + B_AT + slot_of(i) * DG_STAGE_BLOCKS * B_BYTES + work->over_n * BLOCK_K) / 16;
    const u32 scales = smem + SCALE_AT + slot_of(i) * DG_STAGE_BLOCKS * SCALE_BYTES;
    const u32 row = strip * 16 + threadIdx.x % 32 / 4;
    dg_mbarrier_wait(smem + FULL_AT + slot_of(i) * 8, parity_of(i));
#pragma unroll
    for (int j = 0; j < DG_STAGE_BLOCKS; j++)
        filling->scales[j] = read_scales(scales + j * SCALE_BYTES + row * 4, scales + j * SCALE_BYTES + SFA_BYTES,
                                         work->first_block + i * DG_STAGE_BLOCKS + j);
    dg_wgmma_fence();
#pragma unroll
    for (int j = 0; j < DG_STAGE_BLOCKS; j++)
#pragma unroll
        for (int k = 0; k < BLOCK_K / 32; k++)
            dg_wgmma(filling->part[j], a + j * work->rows * (BLOCK_K / 16) + k * 2, b + j * (B_BYTES / 16) + k * 2, k != 0);
    dg_wgmma_commit_group();
}

// With the products of filling i made: gives its slot back and promotes them.
DG_DEVICE void finish_filling(u32 smem, const struct work *work, int i, const struct filling *filling, float *total)
{
    __syncwarp(); // all lanes have read their scales
    if (threadIdx.x % 32 == 0 || DG_ALL_LANES)
        dg_mbarrier_arrive(smem + EMPTY_AT + slot_of(i) * 8);
#pragma unroll
    for (int j = 0; j < DG_STAGE_BLOCKS; j++)
        promote(total, filling->part[j], &filling->scales[j], work->n0 % 128);
}

// With filling i under way in `now`: starts the next one in `next`, then finishes i.  0: i was the last.
// The two ways are apart because ptxas would not keep products under way where they meet.
DG_DEVICE int multiply_step(u32 smem, const struct work *work, int i, int strip, struct filling *now,
                            struct filling *next, float *total)
{
    if (i + 1 == work->count) {
#pragma unroll
        for (int j = 0; j < DG_STAGE_BLOCKS; j++)
            dg_wgmma_wait(now->part[j]);
        finish_filling(smem, work, i, now, total);
        return 0;
    }
    start_filling(smem, work, i + 1, strip, next);
#pragma unroll
    for (int j = 0; j < DG_STAGE_BLOCKS; j++)
        dg_wgmma_wait_1(now->part[j]);
    finish_filling(smem, work, i, now, total);
    return 1;
}

// The sums of strip `strip` over all fillings.
DG_DEVICE void multiply(u32 smem, const struct work *work, int strip, float *total)
{
    struct filling even, odd;
    if (work->count == 0)
        return;
    start_filling(smem, work, 0, strip, &even);
#pragma unroll 1
    for (int i = 0; multiply_step(smem, work, i, strip, &even, &odd, total) &&
                    multiply_step(smem, work, i + 1, strip, &odd, &even, total);
         i += 2)
        ;
}

// ---- gathering the sums ----

// Where CTA `rank` puts its sums of a strip in the CTA that gathers them.
DG_DEVICE u32 sums_at(u32 smem, int strip, int rank)
{
    const int owner = strip % DG_SPLIT, turn = strip / DG_SPLIT;
    return smem + SUMS_AT + (turn * (DG_SPLIT - 1) + (rank > owner ? rank - 1 : rank)) * SUMS_BYTES +
           threadIdx.x % 32 * 16;
}

// Bytes that the others send to CTA `rank`.  Nobody sends strips below the tile: their owner may have left.
DG_DEVICE u32 expected_bytes(int rank, int rows)
{
    u32 bytes = 0;
    for (int strip = rank; strip < STRIPS; strip += DG_SPLIT)
        if (strip * 16 < rows)
            bytes += (DG_SPLIT - 1) * SUMS_BYTES;
    return bytes;
}

DG_DEVICE void send_sums(u32 smem, int strip, int rank, const float *total)
{
    const u32 to = dg_mapa(sums_at(smem, strip, rank), strip % DG_SPLIT);
    const u32 barrier = dg_mapa(smem + GATHERED_AT, strip % DG_SPLIT);
#pragma unroll
    for (int i = 0; i < ACC; i += 4)
        dg_st_async_v4(to + i * 128, total + i, barrier);
}

// Adds the sums in the order of their parts of k, so that the bits do not depend on who was first.
DG_DEVICE void gather_sums(u32 smem, int strip, float *total)
{
    dg_mbarrier_wait(smem + GATHERED_AT, 0);
#pragma unroll
    for (int i = 0; i < ACC; i += 4) {
        float sum[4] = {0, 0, 0, 0};
#pragma unroll
        for (int rank = 0; rank < DG_SPLIT; rank++) {
            float value[4];
            if (rank == strip % DG_SPLIT) {
#pragma unroll
                for (int l = 0; l < 4; l++)
                    value[l] = total[i + l];
            } else {
                dg_ld_shared_v4(sums_at(smem, strip, rank) + i * 128, value);
            }
#pragma unroll
            for (int l = 0; l < 4; l++)
                sum[l] += value[l];
        }
#pragma unroll
        for (int l = 0; l < 4; l++)
            total[i + l] = sum[l];
    }
}

// ---- the kernel ----

DG_DEVICE void init_barriers(u32 smem, int rank, int rows)
{
    if (threadIdx.x == 0) {
        for (int i = 0; i < DG_NUM_STAGES; i++) {
            dg_mbarrier_init(smem + FULL_AT + i * 8, 1 + SCALE_THREADS / SPOKEN_FOR);
            dg_mbarrier_init(smem + EMPTY_AT + i * 8, 128 * DG_MATH_GROUPS / SPOKEN_FOR);
        }
        dg_mbarrier_init(smem + GATHERED_AT, 1);
        dg_fence_mbarrier_init();
        if (DG_SPLIT > 1)
            dg_mbarrier_arrive_expect_tx(smem + GATHERED_AT, expected_bytes(rank, rows));
    }
    __syncthreads();
    if (DG_SPLIT > 1)
        dg_barrier_cluster_arrive_relaxed(); // waited for before the first sums are sent
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_gemm_args args, const __grid_constant__ struct dg_sm90_maps maps)
{
    DG_DYNAMIC_SHARED(shared);
    const u32 smem = dg_smem_address(shared);
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), rank = blockIdx.x % DG_SPLIT;
    const struct work work = find_work(&args);

    if (threadIdx.x == THREADS - 128) {
        dg_prefetch_tensormap(&maps.a);
        dg_prefetch_tensormap(&maps.b);
        dg_prefetch_tensormap(&maps.d);
    }
    init_barriers(smem, rank, work.rows);
    if (args.units_m == 1) // else CTAs that share B should lie side by side, as they do when all start at once
        dg_griddepcontrol_launch_dependents();
    if (warp >= STRIPS) {
        DG_SETMAXNREG_DEC(DG_LOAD_REGISTERS);
        if (warp >= STRIPS + 2) {
            dg_griddepcontrol_wait();
            load_scales(&args, smem, &work);
        } else {
            load_operand(smem, &maps, &work, warp == STRIPS, args.flags);
        }
        if (DG_SPLIT > 1)
            dg_barrier_cluster_wait();
    } else {
        DG_SETMAXNREG_INC(DG_MATH_REGISTERS);
        const int strip = warp, owner = strip % DG_SPLIT, is_wanted = strip * 16 < work.rows;
        if (is_wanted && rank == owner && prefetches_c(&args))
            prefetch_c(&args, args.c, work.m0 + strip * 16, args.m, work.n0);
        float total[ACC] = {};
        multiply(smem, &work, strip, total);
        if (DG_SPLIT > 1)
            dg_barrier_cluster_wait(); // all CTAs of the cluster have started
        if (is_wanted && rank != owner)
            send_sums(smem, strip, rank, total);
        if (is_wanted && rank == owner) {
            if (DG_SPLIT > 1)
                gather_sums(smem, strip, total);
            dg_griddepcontrol_wait();
            store_rows(total, &args, &maps.d, smem + D_AT + warp * (DG_D_BUFFERS * D_BUFFER_BYTES), 0,
                       work.m0 + strip * 16, work.n0);
            dg_bulk_wait_group_read(0); // the buffers must outlive their stores
        }
    }
}
