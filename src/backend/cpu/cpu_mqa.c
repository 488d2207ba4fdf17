// SPDX-License-Identifier: MIT
// cpu_mqa.c - MQA logits of the cpu backend, from the GEMM's kernels: keys are a panel of weights, the
// heads of one query the rows of activations.
//
// A task is up to 1024 columns of one row.  32 heads at a time are decoded and packed once for it; panel
// after panel of keys gives FP32 dot products, whose weighted relu is added to one sum per column, heads
// ascending.  Dot products follow the numeric contract of cpu_kernels.h with scales of 1, so the bits
// depend neither on the instruction set nor on where a task begins.
#include "backend/cpu/cpu_mqa.h"

#include "base/overflow.h"

#include <string.h>

enum { HEADS = 32, MAX_BLOCKS = CPU_MQA_MAX_DEPTH / CPU_BLOCK_K, LANES = 8 };

typedef float floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t ints __attribute__((vector_size(LANES * sizeof(int32_t))));

struct scratch {
    _Alignas(64) float packed[MAX_BLOCKS][HEADS * CPU_BLOCK_K];
    _Alignas(64) float panel[CPU_PANEL_COLUMNS * CPU_BLOCK_K];
    _Alignas(64) float totals[HEADS * CPU_PANEL_COLUMNS];
    _Alignas(64) float sums[CPU_MQA_TASK_COLUMNS + CPU_PANEL_COLUMNS];
    _Alignas(64) float scales[CPU_MQA_TASK_COLUMNS + CPU_PANEL_COLUMNS];
    uint8_t tail[CPU_PANEL_COLUMNS][CPU_BLOCK_K]; // blocks that a row ends in, filled up with zeros
};
_Static_assert(sizeof(struct scratch) <= CPU_MIN_SCRATCH_BYTES, "the pool's scratch is for all");

struct work {
    const struct dg_mqa_args *args;
    const struct dg_cpu_kernels *kernels;
    struct scratch *scratch;
    int64_t row;
    struct dg_cpu_mqa_row columns;
};

static const float ones[CPU_PANEL_COLUMNS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                              1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

static int32_t smaller(int64_t a, int64_t b)
{
    return (int32_t)(a < b ? a : b);
}

// 128 bytes of a vector from `k` on; what is behind its end counts as zeros.
static const uint8_t *block_of(const struct work *work, const uint8_t *vector, int32_t k,
                               int32_t slot)
{
    const int32_t rest = work->args->depth - k;
    if (rest >= CPU_BLOCK_K)
        return vector + k;
    uint8_t *tail = work->scratch->tail[slot];
    memcpy(tail, vector + k, (size_t)rest);
    memset(tail + rest, 0, (size_t)(CPU_BLOCK_K - rest));
    return tail;
}

static void pack_heads(const struct work *work, int32_t head, int32_t heads)
{
    const struct dg_mqa_args *args = work->args;
    const uint8_t *q = args->q + work->row * args->q_row_stride;
    for (int32_t k = 0; k < args->depth; k += CPU_BLOCK_K)
        for (int32_t first = 0; first < heads; first += CPU_PACK_ROWS) {
            const uint8_t *pointers[CPU_PACK_ROWS];
            const int32_t count = smaller(heads - first, CPU_PACK_ROWS);
            for (int32_t i = 0; i < count; i++)
                pointers[i] = block_of(work, q + (head + first + i) * args->q_head_stride, k, i);
            work->kernels->pack_rows(work->scratch->packed[k / CPU_BLOCK_K], first, pointers,
                                     count);
        }
}

// Dot products of `heads` packed heads with the keys of one panel's columns.
static void multiply(const struct work *work, int64_t column, int32_t heads)
{
    const struct dg_mqa_args *args = work->args;
    struct scratch *scratch = work->scratch;
    const int32_t width = work->kernels->panel_columns;
    const int32_t count = smaller(work->columns.end - column, width);
    const uint8_t *keys[CPU_PANEL_COLUMNS], *pointers[CPU_PANEL_COLUMNS];
    for (int32_t i = 0; i < width; i++) // the last key stands in for those that are missing
        keys[i] = i == 0 || i < count
                      ? dg_cpu_mqa_key(args, work->row, column + i + work->columns.shift,
                                       &scratch->scales[column - work->columns.begin + i])
                      : keys[i - 1];
    memset(scratch->totals, 0, sizeof(float) * (size_t)(heads * width));
    for (int32_t k = 0; k < args->depth; k += CPU_BLOCK_K) {
        for (int32_t i = 0; i < width; i++)
            pointers[i] = block_of(work, keys[i], k, i);
        work->kernels->decode_panel(scratch->panel, pointers);
        const struct dg_cpu_multiply product = {
            .packed = scratch->packed[k / CPU_BLOCK_K],
            .panel = scratch->panel,
            .sfa = ones,
            .sfb = ones,
            .total = scratch->totals,
            .rows = heads,
            .num_chunks = (smaller(args->depth - k, CPU_BLOCK_K) + CPU_CHUNK_K - 1) / CPU_CHUNK_K,
        };
        work->kernels->multiply(&product);
    }
}

// sums += relu(totals) * weights; NaN stays NaN.
static void reduce(const struct work *work, int64_t column, int32_t head, int32_t heads)
{
    const struct dg_mqa_args *args = work->args;
    const int32_t width = work->kernels->panel_columns;
    float *sums = work->scratch->sums + (column - work->columns.begin);
    for (int32_t h = 0; h < heads; h++) {
        const float weight = cpu_load_number(args->weights, args->weights_type,
                                             work->row * args->weights_row_stride + head + h);
        for (int32_t i = 0; i < width; i += LANES) {
            floats x, sum;
            memcpy(&x, work->scratch->totals + h * width + i, sizeof x);
            memcpy(&sum, sums + i, sizeof sum);
            const ints is_negative = x < 0;
            x = (floats)((ints)x & ~is_negative);
            sum += x * weight;
            memcpy(sums + i, &sum, sizeof sum);
        }
    }
}

static void run_task(const void *argument, void *memory, int64_t index)
{
    struct work work = *(const struct work *)argument;
    const struct dg_mqa_args *args = work.args;
    work.scratch = memory;
    dg_cpu_mqa_task(args, index, &work.columns, &work.row);
    const struct dg_cpu_mqa_row *columns = &work.columns;
    if (columns->begin == columns->end)
        return;
    memset(work.scratch->sums, 0, sizeof work.scratch->sums);
    for (int32_t head = 0; head < args->heads; head += HEADS) {
        const int32_t heads = smaller(args->heads - head, HEADS);
        pack_heads(&work, head, heads);
        for (int64_t column = columns->begin; column < columns->end;
             column += work.kernels->panel_columns) {
            multiply(&work, column, heads);
            reduce(&work, column, head, heads);
        }
    }
    for (int64_t i = 0; i < columns->end - columns->begin; i++) {
        const float logit = work.scratch->sums[i] * work.scratch->scales[i];
        dg_cpu_mqa_store(args, work.row, columns->begin + i, (double)logit);
    }
}

dg_status dg_cpu_mqa_logits(void *state, int32_t num_sms, const struct dg_mqa_args *args)
{
    const struct dg_cpu_state *cpu = state;
    DG_TRY(dg_cpu_mqa_check(args));
    const struct work work = {.args = args, .kernels = cpu->kernels};
    const struct dg_cpu_job job = {
        .run = run_task,
        .argument = &work,
        .num_tasks = dg_cpu_mqa_num_tasks(args),
        .max_threads = cpu->num_threads,
    };
    return dg_cpu_pool_run(cpu->pool, &job);
}
