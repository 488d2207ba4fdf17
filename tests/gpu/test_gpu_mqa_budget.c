// SPDX-License-Identifier: MIT
// test_gpu_mqa_budget.c - MQA logits of 4,096 queries over 128 K keys within a budget of device memory that the
// caller sets: as many rows at a time as it allows, in the same place; the library takes nothing beside it.
#include "device.h"

#include "../random_mqa.h"

enum {
    ROWS = 4096,
    KEYS = 1 << 17,
    HEADS = 64,
    DEPTH = 128,
    BUDGET_BYTES = 256 << 20, // the logits of all rows are 2 GB
    GRANULE_BYTES = 2 << 20,  // the driver hands out whole ones
    SAMPLES = 40              // of a chunk
};

enum operand { Q, KV, SCALES, WEIGHTS, STARTS, ENDS, OPERANDS };

struct operands {
    int64_t rows, keys;
    void *host[OPERANDS];
    CUdeviceptr device[OPERANDS];
};

static size_t bytes_of(const struct operands *o, int i)
{
    const int64_t bytes[OPERANDS] = {o->rows * HEADS * DEPTH, o->keys * DEPTH, o->keys * 4,
                                     o->rows * HEADS * 4,     o->rows * 4,     o->rows * 4};
    return (size_t)bytes[i];
}

// ---- operands ---------------------------------------------------------------------------------------

static void fill(struct operands *o)
{
    uint64_t state = 7;
    for (size_t i = 0; i < bytes_of(o, Q); i++)
        ((uint8_t *)o->host[Q])[i] = random_code(&state, 1);
    for (size_t i = 0; i < bytes_of(o, KV); i++)
        ((uint8_t *)o->host[KV])[i] = random_code(&state, 1);
    for (int64_t i = 0; i < o->keys; i++)
        ((float *)o->host[SCALES])[i] = mqa_float(&state, -6, -2);
    for (int64_t i = 0; i < o->rows * HEADS; i++)
        ((float *)o->host[WEIGHTS])[i] = mqa_float(&state, -4, 0);
    for (int64_t i = 0; i < o->rows; i++) {
        ((int32_t *)o->host[STARTS])[i] = 0;
        ((int32_t *)o->host[ENDS])[i] = (int32_t)(o->keys - o->rows + i + 1);
    }
}

static bool make_operands(struct lane *lane, struct operands *o)
{
    for (int i = 0; i < OPERANDS; i++) {
        o->host[i] = malloc(bytes_of(o, i));
        if (!o->host[i] ||
            lane->gpu.cuda->cuMemAlloc(&o->device[i], bytes_of(o, i)) != CUDA_SUCCESS)
            return lane_fail(lane, "no memory for %zu bytes", bytes_of(o, i));
    }
    fill(o);
    for (int i = 0; i < OPERANDS; i++)
        if (!lane_copy_in(lane, o->device[i], o->host[i], bytes_of(o, i)))
            return false;
    return true;
}

static void free_operands(struct lane *lane, struct operands *o)
{
    for (int i = 0; i < OPERANDS; i++) {
        free(o->host[i]);
        if (o->device[i])
            lane->gpu.cuda->cuMemFree(o->device[i]);
    }
}

// ---- chunks -----------------------------------------------------------------------------------------

static void *at(CUdeviceptr base, int64_t bytes)
{
    return (void *)(uintptr_t)(base + (CUdeviceptr)bytes);
}

static bool call(struct lane *lane, const struct operands *o, int64_t first, int64_t count,
                 CUdeviceptr logits)
{
    const struct dg_tensor q =
        mqa_tensor(at(o->device[Q], first * HEADS * DEPTH), DG_E4M3, 3, count, HEADS, DEPTH, 0);
    const struct dg_tensor kv = dg_matrix(at(o->device[KV], 0), DG_E4M3, o->keys, DEPTH);
    const struct dg_tensor scales =
        mqa_tensor(at(o->device[SCALES], 0), DG_F32, 1, o->keys, 0, 0, 0);
    const struct dg_tensor weights =
        dg_matrix(at(o->device[WEIGHTS], first * HEADS * 4), DG_F32, count, HEADS);
    const struct dg_tensor starts =
        mqa_tensor(at(o->device[STARTS], first * 4), DG_I32, 1, count, 0, 0, 0);
    const struct dg_tensor ends =
        mqa_tensor(at(o->device[ENDS], first * 4), DG_I32, 1, count, 0, 0, 0);
    const struct dg_tensor d = dg_matrix(at(logits, 0), DG_F32, count, o->keys);
    struct dg_mqa_options options = DG_MQA_OPTIONS;
    options.flags = DG_MQA_CLEAN;
    return dg_fp8_mqa_logits(lane->context, &q, &kv, &scales, &weights, &starts, &ends, &d,
                             &options, lane->gpu.stream) == DG_OK ||
           lane_fail(lane, "%s", dg_last_error());
}

static double expected(const struct operands *o, int64_t row, int64_t key)
{
    const uint8_t *q = (const uint8_t *)o->host[Q] + row * HEADS * DEPTH;
    const uint8_t *k = (const uint8_t *)o->host[KV] + key * DEPTH;
    double sum = 0;
    if (key >= ((const int32_t *)o->host[ENDS])[row])
        return -INFINITY;
    for (int h = 0; h < HEADS; h++) {
        double dot = 0;
        for (int i = 0; i < DEPTH; i++)
            dot += random_value(q[h * DEPTH + i]) * random_value(k[i]);
        sum += (dot > 0 ? dot : 0) * ((const float *)o->host[WEIGHTS])[row * HEADS + h];
    }
    return sum * ((const float *)o->host[SCALES])[key];
}

static bool compare(struct lane *lane, const struct operands *o, int64_t first, int64_t count,
                    CUdeviceptr logits)
{
    uint64_t state = (uint64_t)first + 1;
    for (int i = 0; i < SAMPLES; i++) {
        const int64_t row = i ? random_range(&state, 0, count - 1) : count - 1;
        const int64_t key = i % 4 ? random_range(&state, 0, o->keys - 1) : o->keys - 1 - i;
        const double right = expected(o, first + row, key);
        float got;
        if (!lane_copy_out(lane, &got, logits + (CUdeviceptr)((row * o->keys + key) * 4), 4))
            return false;
        if (!(right == got || fabs(got - right) <= 2e-3 * fabs(right) + 1e-3))
            return lane_fail(lane, "logits[%lld][%lld] = %g instead of %g",
                             (long long)(first + row), (long long)key, got, right);
    }
    return true;
}

static size_t free_bytes(struct lane *lane)
{
    size_t free_memory = 0, total = 0;
    lane->gpu.cuda->cuMemGetInfo(&free_memory, &total);
    return free_memory;
}

static bool run_chunks(struct lane *lane, const struct operands *o, size_t budget)
{
    const size_t before = free_bytes(lane);
    const int64_t at_a_time = (int64_t)(budget / (size_t)(o->keys * 4));
    size_t least = before;
    CUdeviceptr logits = 0;
    bool is_right =
        lane->gpu.cuda->cuMemAlloc(&logits, (size_t)(at_a_time * o->keys * 4)) == CUDA_SUCCESS;
    for (int64_t first = 0; first < o->rows && is_right; first += at_a_time) {
        const int64_t count = o->rows - first < at_a_time ? o->rows - first : at_a_time;
        is_right = call(lane, o, first, count, logits);
        least = free_bytes(lane) < least ? free_bytes(lane) : least;
        is_right = is_right && compare(lane, o, first, count, logits);
        least = free_bytes(lane) < least ? free_bytes(lane) : least;
    }
    if (logits)
        lane->gpu.cuda->cuMemFree(logits);
    printf("# %lld rows at a time; %zu bytes of device memory of %zu\n", (long long)at_a_time,
           before - least, budget);
    return is_right &&
           (before - least <= budget ||
            lane_fail(lane, "%zu bytes were taken, %zu allowed", before - least, budget));
}

static void test_chunks_stay_within_a_budget(void)
{
    struct operands o = {.rows = harness_scaled(ROWS), .keys = harness_scaled(KEYS)};
    struct lane lane;
    const struct dg_mqa_problem problem = {.struct_size = sizeof problem,
                                           .rows = o.rows,
                                           .columns = o.keys,
                                           .num_kv = o.keys,
                                           .heads = HEADS,
                                           .depth = DEPTH,
                                           .flags = DG_MQA_CLEAN};
    struct dg_mqa_problem typed = problem;
    typed.weights_type = typed.logits_type = DG_F32;
    const double share = (double)o.rows / ROWS * (double)o.keys / KEYS;
    const size_t granules = (size_t)ceil(BUDGET_BYTES * share / GRANULE_BYTES);
    const size_t budget = granules * GRANULE_BYTES;
    const bool is_right = lane_open(&lane, NULL) && dg_mqa_prepare(lane.context, &typed) == DG_OK &&
                          make_operands(&lane, &o) && run_chunks(&lane, &o, budget);
    free_operands(&lane, &o);
    lane_close(&lane);
    CHECK(is_right, "%s %s", lane.failure, dg_last_error());
}

int main(void)
{
    need_gpu();
    RUN(test_chunks_stay_within_a_budget);
    return harness_end();
}
