// SPDX-License-Identifier: MIT
// cpu_mqa.h - MQA logits on a CPU: which positions a row has and where their keys lie, for the cpu
// backend and the oracle.
#ifndef DG_CPU_MQA_H
#define DG_CPU_MQA_H

#include "backend/cpu/cpu_gemm.h"

enum { CPU_MQA_MAX_DEPTH = 512, CPU_MQA_TASK_COLUMNS = 1024 };

// Columns [begin, end) of a row are scores; column c is position c + shift.
struct dg_cpu_mqa_row {
    int64_t begin, end, shift;
};

struct dg_cpu_mqa_row dg_cpu_mqa_row(const struct dg_mqa_args *args, int64_t row);

// The key at a position of the row, and its scale.
const uint8_t *dg_cpu_mqa_key(const struct dg_mqa_args *args, int64_t row, int64_t position,
                              float *scale);

// Sizes this backend can do.
dg_status dg_cpu_mqa_check(const struct dg_mqa_args *args);

// One task: some columns of one row.  Columns [*first, *last) of it are scores; the others were left as
// they are, or set to minus infinity.
void dg_cpu_mqa_task(const struct dg_mqa_args *args, int64_t task, struct dg_cpu_mqa_row *row,
                     int64_t *row_index);
int64_t dg_cpu_mqa_num_tasks(const struct dg_mqa_args *args);

// value rounded once to the type of logits; any NaN becomes one NaN.
void dg_cpu_mqa_store(const struct dg_mqa_args *args, int64_t row, int64_t column, double value);

dg_status dg_cpu_mqa_logits(void *state, int32_t num_sms, const struct dg_mqa_args *args);
dg_status dg_cpu_mqa_oracle(void *state, int32_t num_sms, const struct dg_mqa_args *args);
dg_status dg_cpu_mqa_schedule(void *state, const struct dg_mqa_schedule_args *args);

#endif
