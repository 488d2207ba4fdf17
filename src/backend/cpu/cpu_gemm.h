// SPDX-License-Identifier: MIT
// cpu_gemm.h - an open CPU executor, and how a product is cut into tasks.
#ifndef DG_CPU_GEMM_H
#define DG_CPU_GEMM_H

#include "backend/backend.h"
#include "backend/cpu/cpu_convert.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_threads.h"

enum { CPU_MIN_SCRATCH_BYTES = 1 << 17 }; // what any job may count on

struct dg_cpu_state {
    const struct dg_cpu_kernels *kernels;
    struct dg_cpu_pool *pool;
    int32_t num_threads;
};

// Rows and columns of D that one task computes, for all of k.  It changes the speed, never the bits.
struct dg_cpu_blocking {
    int64_t task_rows, task_columns;
    int64_t num_row_tasks, num_column_tasks;
    int32_t num_threads;
};

void dg_cpu_choose_blocking(const struct dg_problem *problem, const struct dg_cpu_kernels *kernels,
                            int32_t num_threads, struct dg_cpu_blocking *blocking);
// Bytes one thread needs, whatever the problem.
size_t dg_cpu_scratch_bytes(void);

dg_status dg_cpu_gemm(const struct dg_cpu_state *state, const struct dg_problem *problem,
                      const struct dg_gemm_args *args);
// One of the num_row_tasks * num_column_tasks tasks of a blocking; scratch of dg_cpu_scratch_bytes().
void dg_cpu_gemm_task(const struct dg_cpu_kernels *kernels, const struct dg_problem *problem,
                      const struct dg_gemm_args *args, const struct dg_cpu_blocking *blocking,
                      void *scratch, int64_t task);
dg_status dg_cpu_grouped(const struct dg_cpu_state *state, const struct dg_problem *problem,
                         const struct dg_grouped_args *args);
// D = C, or zeros without C.
void dg_cpu_fill(const struct dg_problem *problem, const struct dg_gemm_args *args);

// Rounds once to a DG_F32 or DG_BF16 element (DG_F64: not at all).
void dg_cpu_store_double(void *data, dg_type type, int64_t offset, double value);

dg_status dg_cpu_quantize(void *state, const struct dg_quantize_args *args);
dg_status dg_cpu_dequantize(void *state, const struct dg_quantize_args *args);

// Shared by the rows of the backend table: the executor behind "cpu" and "oracle".
dg_status dg_cpu_open(const struct dg_context_options *options, const struct dg_log *log,
                      struct dg_device *device, void **state);
void dg_cpu_close(void *state);

// One scale of a matrix of scales; packed ones are packed along columns.
static inline float dg_cpu_load_scale(const struct dg_matrix_view *scales, dg_type type,
                                      int64_t row, int64_t column)
{
    if (type == DG_F32)
        return (
            (const float *)scales->data)[row * scales->row_stride + column * scales->column_stride];
    const int64_t word = row * scales->row_stride + column / 4 * scales->column_stride;
    return cpu_from_ue8m0(
        (uint8_t)(((const uint32_t *)scales->data)[word] >> 8 * (unsigned)(column % 4)));
}

#endif
