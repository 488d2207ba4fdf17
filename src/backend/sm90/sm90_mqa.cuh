// SPDX-License-Identifier: MIT
// sm90_mqa.cuh - what the two MQA kernels share: queries, products, stores, minus infinity.
//
// A product has 64 positions as its rows and, as its columns, the heads of up to four queries, in the order
// in which TMA lays q down:
//
//     column 8i + 2l + b  =  query l / LANES, head i + ((l % LANES) * 2 + b) * head_step,   l = 0 .. 3
//
// The thread with lane % 4 == l holds exactly those columns (of rows lane / 4 and lane / 4 + 8), so with
// LANES == 1 it owns all heads of one query, and the sum over heads never leaves its registers.  Decoding
// has fewer queries: then LANES = 2 or 4 lanes share one and add up at the end.
#ifndef DG_DEPTH
#error "DG_DEPTH: bytes of a key in shared memory: 32, 64 or 128"
#endif
#ifndef DG_HEAD_ROWS
#error "DG_HEAD_ROWS: groups of eight columns in a product, 4, 8 or 16"
#endif
#ifndef DG_PIECES
#error "DG_PIECES: products that share the heads of a query: 1, 2 or 4"
#endif
#ifndef DG_LINEAR_ROWS
#error "DG_LINEAR_ROWS: groups of eight columns of a product beside the heads: 0, or 1 (sm90_mqa_linear.cuh)"
#endif
#ifndef DG_LANES
#error "DG_LANES: lanes that share a query: 1, 2 or 4"
#endif
#ifndef DG_LOGITS_BF16
#error "DG_LOGITS_BF16: 1 when logits are BF16, 0 for FP32"
#endif
#ifndef DG_MATH_GROUPS
#error "DG_MATH_GROUPS: warpgroups that multiply"
#endif
#ifndef DG_MATH_REGISTERS
#error "DG_MATH_REGISTERS, DG_LOAD_REGISTERS: of a thread after setmaxnreg"
#endif
#ifndef DG_NUM_STAGES
#error "DG_NUM_STAGES: slots of the ring of keys"
#endif
#ifndef DG_Q_SLOTS
#error "DG_Q_SLOTS: slots for queries, 1 to 3"
#endif
#ifndef DG_ENTRY
#error "DG_ENTRY: the kernel's name"
#endif

#ifndef DG_SM90_MQA_CUH
#define DG_SM90_MQA_CUH

#include "sm90_mqa_args.h"
#include "sm90_mqa_ptx.cuh"
#include "sm90_ring.cuh"

enum {
    THREADS = 128 * (DG_MATH_GROUPS + 1),
    ACC = 4 * (DG_HEAD_ROWS + DG_LINEAR_ROWS), // accumulators of a thread
    HEAD_ROWS = DG_HEAD_ROWS * DG_PIECES,
    QUERIES = 4 / DG_LANES, // of a product
    LANE_HEADS = (2 * DG_LANES * HEAD_ROWS + 31) / 32, // of a query, where the lanes of a warp divide them
    PIECE_BYTES = 8 * DG_HEAD_ROWS * DG_DEPTH,
    LINEAR_BYTES = 8 * DG_DEPTH, // a group of eight columns
    HEADS_BYTES = DG_PIECES * PIECE_BYTES, // the heads of QUERIES queries
    // Halved weights of one lane of the four: [HEAD_ROWS][2]; the four floats behind them keep the lanes in
    // different banks
    LANE_WEIGHTS = 2 * HEAD_ROWS + 4,
    WEIGHT_BYTES = 4 * LANE_WEIGHTS * 4,
    LOGIT_BYTES = DG_LOGITS_BF16 ? 2 : 4,
    FILL_BYTES = 2048,
    FILL_COLUMNS = FILL_BYTES / LOGIT_BYTES,
};

// ---- rings ----

// The barriers of both rings, full[], empty[], q_full[], q_empty[], and zeros for weights that no head has.
// Weights and what is known of a unit are written and read by ordinary instructions, so every lane arrives at
// q_full and q_empty, which racecheck can follow.
DG_DEVICE void prepare_shared(u32 barriers, u32 weights, u32 weight_bytes)
{
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2 * DG_NUM_STAGES; i++)
            dg_mbarrier_init(barriers + i * 8, i < DG_NUM_STAGES ? 1 : 4);
        for (int i = 0; i < 2 * DG_Q_SLOTS; i++)
            dg_mbarrier_init(barriers + (2 * DG_NUM_STAGES + i) * 8,
                             i < DG_Q_SLOTS ? 32 : 128 * DG_MATH_GROUPS);
        dg_fence_mbarrier_init();
    }
    for (u32 i = threadIdx.x * 4; i < weight_bytes; i += THREADS * 4)
        dg_st_shared(weights + i, 0);
    __syncthreads();
}

// The same for one who takes every step-th slot.
DG_DEVICE void skip_slots(struct slot *slot, u32 step)
{
    slot->index += step;
    if (slot->index >= DG_NUM_STAGES) {
        slot->index -= DG_NUM_STAGES;
        slot->parity ^= 1;
    }
}

// A math group takes every DG_MATH_GROUPS-th stage, whichever unit it belongs to.  `stage`: its next one, counted
// from the beginning of a unit of `stages`; the same, counted in the next unit.
DG_DEVICE int stage_in_next(int stage, int stages)
{
    stage -= stages;
    return stage < 0 ? (stage % DG_MATH_GROUPS + DG_MATH_GROUPS) % DG_MATH_GROUPS : stage;
}

// ---- queries ----

DG_DEVICE float read_weight(const struct dg_sm90_mqa_args *args, int row, int head)
{
    const i64 at = row * args->weights_row_stride + head;
    return args->weights_bf16 ? __uint_as_float((u32)((const unsigned short *)args->weights)[at] << 16)
                              : ((const float *)args->weights)[at];
}

// The weights of `count` queries from row `row` of the matrix on, on their way to shared memory in a warp's registers.
struct weights {
    float of[LANE_HEADS][QUERIES];
};

DG_DEVICE struct weights fetch_weights(const struct dg_sm90_mqa_args *args, int row, int count)
{
    struct weights weights;
#pragma unroll
    for (int i = 0; i < LANE_HEADS; i++)
#pragma unroll
        for (int j = 0; j < QUERIES; j++) {
            const int head = i * 32 + threadIdx.x % 32;
            weights.of[i][j] = head < args->heads && j < count ? read_weight(args, row + j, head) : 0;
        }
    return weights;
}

// Writes halves of them; places that no head has keep their zeros.
DG_DEVICE void store_weights(u32 smem, const struct dg_sm90_mqa_args *args, const struct weights *weights)
{
#pragma unroll
    for (int i = 0; i < LANE_HEADS; i++) {
        const int head = i * 32 + threadIdx.x % 32;
        int part = 0, index = head;
        if (DG_LANES > 1) {
            part = head / args->head_step;
            index = head % args->head_step;
        } else if (head >= args->head_rows) {
            part = 1;
            index = head - args->head_step;
        }
#pragma unroll
        for (int j = 0; j < QUERIES; j++)
            if (head < args->heads)
                dg_st_shared(smem + ((j * DG_LANES + part / 2) * LANE_WEIGHTS + index * 2 + part % 2) * 4,
                             0.5f * weights->of[i][j]);
    }
}

// A lane's weights of one product.
DG_DEVICE void read_weights(float *weights, u32 at)
{
#pragma unroll
    for (int i = 0; i < 2 * DG_HEAD_ROWS; i += 4)
        dg_ld_shared_v4(at + i * 4, weights + i);
}

// The heads of QUERIES rows from `row` on, in the order of the columns.
DG_DEVICE void load_queries(u32 smem, const struct dg_tensor_map *map, u32 full, int row)
{
    dg_tma_load_4d(smem, map, full, 0, 0, row, 0);
}

// ---- products and sums ----

DG_DEVICE void start_product(float *acc, u32 keys, u32 queries)
{
    dg_wgmma_fence();
#pragma unroll
    for (int k = 0; k < DG_DEPTH / 32; k++)
        dg_wgmma(acc, (keys + k * 32) / 16, (queries + k * 32) / 16, k != 0);
    dg_wgmma_commit_group();
}

// Adds half of weight * relu(product) to sums[2 * row], and all of it to sums[2 * row + 1]; `weights` are halves.
// Half of the relus are made by the unit for FP32 arithmetic (x + |x| is 2 relu(x), exactly), half by the one for
// comparisons, which has half the rate: alone either would be the bottleneck.  Both keep NaN.
DG_DEVICE void add_relus(float *sums, const float *acc, const float *weights)
{
#pragma unroll
    for (int i = 0; i < DG_HEAD_ROWS; i++)
#pragma unroll
        for (int row = 0; row < 2; row++) {
            const float odd = acc[4 * i + 2 * row + 1];
            sums[2 * row] =
                fmaf(dg_max_nan(acc[4 * i + 2 * row], 0.0f), weights[2 * i], sums[2 * row]);
            sums[2 * row + 1] = fmaf(odd + fabsf(odd), weights[2 * i + 1], sums[2 * row + 1]);
        }
}

// ---- stores ----

DG_DEVICE void store_logit(char *at, float value)
{
    if (DG_LOGITS_BF16)
        *(unsigned short *)at = (unsigned short)dg_cvt_bf16x2(value, value);
    else
        *(float *)at = value;
}

DG_DEVICE char *logits_row(const struct dg_sm90_mqa_args *args, int row)
{
    return (char *)args->logits + row * args->logits_row_stride * LOGIT_BYTES;
}

// The columns of a row that hold scores.
struct columns {
    int begin, end;
};
DG_DEVICE struct columns columns_of(const struct dg_sm90_mqa_args *args, int row);

// ---- columns without scores ----

// Elements [from, to) of a row: single ones up to multiples of 16 bytes, a copy between them.
DG_DEVICE void fill_columns(char *row, int from, int to, u32 source, float value)
{
    char *at = row + (i64)from * LOGIT_BYTES, *const end = row + (i64)to * LOGIT_BYTES;
    for (; at < end && (u64)at % 16; at += LOGIT_BYTES)
        store_logit(at, value);
    const i64 bytes = at < end ? (end - at) & ~15 : 0;
    if (bytes)
        dg_bulk_store(at, source, (u32)bytes);
    for (at += bytes; at < end; at += LOGIT_BYTES)
        store_logit(at, value);
}

// `value` into all columns that hold no scores, or into all columns, by one warp of each CTA.  A piece is FILL_COLUMNS
// columns of a row; each lane takes one and copies to it from FILL_BYTES of shared memory, `source`.
DG_DEVICE void fill_rows(const struct dg_sm90_mqa_args *args, u32 source, float value, int whole_rows)
{
    const u32 lane = threadIdx.x % 32, per_row = ((u32)args->columns + FILL_COLUMNS - 1) / FILL_COLUMNS;
    const float word = DG_LOGITS_BF16 ? __uint_as_float(dg_cvt_bf16x2(value, value)) : value;
    for (u32 i = lane * 4; i < FILL_BYTES; i += 32 * 4)
        dg_st_shared(source + i, word);
    dg_fence_proxy_async();
    __syncwarp();
    for (u32 piece = blockIdx.x * 32 + lane; piece < (u32)args->rows * per_row; piece += gridDim.x * 32) {
        const int row = (int)(piece / per_row), begin = (int)(piece % per_row) * FILL_COLUMNS;
        const int end = min(args->columns - begin, (int)FILL_COLUMNS) + begin;
        struct columns scores = {begin, begin};
        if (!whole_rows)
            scores = columns_of(args, row);
        // An empty range may lie anywhere: [begin, begin) leaves the whole piece.
        const int left = scores.end > scores.begin ? max(min(scores.begin, end), begin) : begin;
        const int right = scores.end > scores.begin ? min(max(scores.end, left), end) : begin;
        fill_columns(logits_row(args, row), begin, left, source, value);
        fill_columns(logits_row(args, row), right, end, source, value);
    }
    dg_bulk_commit_group();
    dg_bulk_wait_group_read(0); // the source must outlive the copies
}

#endif
