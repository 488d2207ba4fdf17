// SPDX-License-Identifier: MIT
// cpu_mqa_oracle.c - MQA logits of the oracle: everything in double, one rounding at the end.
#include "backend/cpu/cpu_mqa.h"

// Products of two E4M3 values are multiples of 2^-18 below 2^18: up to 512 of them add up exactly.
static double dot(const uint8_t *q, const uint8_t *key, int32_t depth)
{
    double sum = 0;
    for (int32_t k = 0; k < depth; k++)
        sum += (double)dg_cpu_e4m3_values[q[k]] * dg_cpu_e4m3_values[key[k]];
    return sum;
}

static double score(const struct dg_mqa_args *args, int64_t row, int64_t position)
{
    float scale;
    const uint8_t *key = dg_cpu_mqa_key(args, row, position, &scale);
    double sum = 0;
    for (int32_t h = 0; h < args->heads; h++) {
        const double x =
            dot(args->q + row * args->q_row_stride + h * args->q_head_stride, key, args->depth);
        const int64_t weight = row * args->weights_row_stride + h;
        sum += (x < 0 ? 0 : x) * cpu_load_number(args->weights, args->weights_type, weight);
    }
    return sum * scale;
}

static void run_task(const void *argument, void *scratch, int64_t index)
{
    const struct dg_mqa_args *args = argument;
    struct dg_cpu_mqa_row columns;
    int64_t row;
    dg_cpu_mqa_task(args, index, &columns, &row);
    for (int64_t column = columns.begin; column < columns.end; column++)
        dg_cpu_mqa_store(args, row, column, score(args, row, column + columns.shift));
}

dg_status dg_cpu_mqa_oracle(void *state, int32_t num_sms, const struct dg_mqa_args *args)
{
    const struct dg_cpu_state *cpu = state;
    DG_TRY(dg_cpu_mqa_check(args));
    const struct dg_cpu_job job = {
        .run = run_task,
        .argument = args,
        .num_tasks = dg_cpu_mqa_num_tasks(args),
        .max_threads = cpu->num_threads,
    };
    return dg_cpu_pool_run(cpu->pool, &job);
}
