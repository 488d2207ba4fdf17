// SPDX-License-Identifier: MIT
// cpu_oracle.c - the backend that checks the others: sums in double, one rounding at the end.
//
// A product of two E4M3 values is a multiple of 2^-18 below 2^18, so 128 of them add up exactly in a
// double, in any order.  Only the scales and the sum over blocks round, at 2^-53.  It shares nothing
// with the cpu backend but the table of E4M3 values and the threads.
#include "backend/cpu/cpu_gemm.h"
#include "backend/cpu/cpu_pieces.h"

#include "backend/cpu/cpu_mqa.h"
#include "base/overflow.h"

#include <stdio.h>
#include <string.h>

enum { TASK_ROWS = 64, TASK_COLUMNS = 32, LANES = 4 };

typedef double four_doubles __attribute__((vector_size(LANES * sizeof(double))));

struct scratch {
    _Alignas(64) double b[CPU_BLOCK_K][TASK_COLUMNS];
    _Alignas(64) double a[CPU_BLOCK_K];
    _Alignas(64) double sums[TASK_COLUMNS];
    double scales[TASK_COLUMNS];
    double totals[TASK_ROWS][TASK_COLUMNS];
};

struct oracle {
    const struct dg_problem *problem;
    const struct dg_gemm_args *args;
    int64_t num_row_tasks;
    void (*sum_block)(struct scratch *scratch, int64_t num_k);
};

// sums[j] = sum over k of a[k] * b[k][j].
static inline __attribute__((always_inline)) void sum_block_inline(struct scratch *scratch,
                                                                   int64_t num_k)
{
    four_doubles s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0}, s6 = {0}, s7 = {0};
    for (int64_t k = 0; k < num_k; k++) {
        const four_doubles *b = (const four_doubles *)scratch->b[k];
        const double x = scratch->a[k];
        s0 += b[0] * x, s1 += b[1] * x, s2 += b[2] * x, s3 += b[3] * x;
        s4 += b[4] * x, s5 += b[5] * x, s6 += b[6] * x, s7 += b[7] * x;
    }
    four_doubles *sums = (four_doubles *)scratch->sums;
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
}

static void sum_block(struct scratch *scratch, int64_t num_k)
{
    sum_block_inline(scratch, num_k);
}

#if defined(__x86_64__)
#include "backend/cpu/cpu_features.h"

__attribute__((target("avx2,fma"))) static void sum_block_avx2(struct scratch *scratch,
                                                               int64_t num_k)
{
    sum_block_inline(scratch, num_k);
}
#endif

static void (*choose_sum_block(void))(struct scratch *, int64_t)
{
#if defined(__x86_64__)
    if (dg_cpu_features()->avx2)
        return sum_block_avx2;
#endif
    return sum_block;
}

static double load_code(const struct dg_matrix_view *view, int64_t row, int64_t k)
{
    const uint8_t *codes = view->data;
    return dg_cpu_e4m3_values[codes[row * view->row_stride + k * view->column_stride]];
}

// One 128-block: columns of B in the panel, then row by row of A.
static void add_block(const struct oracle *oracle, struct scratch *scratch, int64_t k, int64_t row,
                      int64_t rows, int64_t column, int64_t columns)
{
    const struct dg_problem *problem = oracle->problem;
    const struct dg_gemm_args *args = oracle->args;
    const int64_t num_k = problem->k - k < CPU_BLOCK_K ? problem->k - k : CPU_BLOCK_K;
    const int64_t block = k / CPU_BLOCK_K;
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < num_k; i++)
            scratch->b[i][j] = load_code(&args->b, column + j, k + i);
        scratch->scales[j] = dg_cpu_load_scale(&args->sfb, problem->sf_type,
                                               (column + j) / problem->sfb_block_n, block);
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < num_k; j++)
            scratch->a[j] = load_code(&args->a, row + i, k + j);
        const double scale = dg_cpu_load_scale(&args->sfa, problem->sf_type, row + i, block);
        oracle->sum_block(scratch, num_k);
        for (int64_t j = 0; j < columns; j++)
            scratch->totals[i][j] += scale * scratch->scales[j] * scratch->sums[j];
    }
}

static double load_output(const void *data, dg_type type, int64_t offset)
{
    return type == DG_F64 ? ((const double *)data)[offset] : cpu_load_number(data, type, offset);
}

// One rounding from double: first cut off below FP32 with a mark in the last bit that something was
// lost, which is enough for BF16 to round as if it saw all of the double.
static uint16_t round_to_bf16(double value)
{
    const float nearest = (float)value;
    uint32_t bits = cpu_float_bits(nearest);
    if (value == value && nearest != value) {
        const double magnitude = value < 0 ? -value : value;
        if ((nearest < 0 ? -(double)nearest : (double)nearest) > magnitude)
            bits--;
        bits |= 1;
    }
    return cpu_to_bf16(cpu_bits_float(bits));
}

void dg_cpu_store_double(void *data, dg_type type, int64_t offset, double value)
{
    if (type == DG_F64)
        ((double *)data)[offset] = value;
    else if (type == DG_F32)
        ((float *)data)[offset] = (float)value;
    else
        ((uint16_t *)data)[offset] = round_to_bf16(value);
}

static void run_task(const void *argument, void *memory, int64_t index)
{
    const struct oracle *oracle = argument;
    const struct dg_problem *problem = oracle->problem;
    const struct dg_matrix_view *c = &oracle->args->c, *d = &oracle->args->d;
    struct scratch *scratch = memory;
    const int64_t row = index % oracle->num_row_tasks * TASK_ROWS;
    const int64_t column = index / oracle->num_row_tasks * TASK_COLUMNS;
    const int64_t rows = problem->m - row < TASK_ROWS ? problem->m - row : TASK_ROWS;
    const int64_t columns = problem->n - column < TASK_COLUMNS ? problem->n - column : TASK_COLUMNS;
    memset(scratch, 0, sizeof *scratch);
    for (int64_t k = 0; k < problem->k; k += CPU_BLOCK_K)
        add_block(oracle, scratch, k, row, rows, column, columns);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const int64_t c_offset = (row + i) * c->row_stride + (column + j) * c->column_stride;
            double value = scratch->totals[i][j];
            if (c->data)
                value += load_output(c->data, problem->d_type, c_offset);
            dg_cpu_store_double(d->data, problem->d_type, (row + i) * d->row_stride + column + j,
                                value);
        }
}

static dg_status gemm(void *state, const struct dg_problem *problem, const struct dg_plan *plan,
                      const struct dg_gemm_args *args)
{
    if (plan->kernel == DG_KERNEL_FILL)
        dg_cpu_fill(problem, args);
    if (plan->kernel != DG_KERNEL_ORACLE)
        return DG_OK;
    _Static_assert(sizeof(struct scratch) <= CPU_MIN_SCRATCH_BYTES,
                   "the pool's scratch is for all");
    const struct dg_cpu_state *cpu = state;
    const struct oracle oracle = {
        .problem = problem,
        .args = args,
        .num_row_tasks = dg_ceil_div(problem->m, TASK_ROWS),
        .sum_block = choose_sum_block(),
    };
    const struct dg_cpu_job job = {
        .run = run_task,
        .argument = &oracle,
        .num_tasks = oracle.num_row_tasks * dg_ceil_div(problem->n, TASK_COLUMNS),
        .max_threads = cpu->num_threads,
    };
    return dg_cpu_pool_run(cpu->pool, &job);
}

// Piece by piece.
static dg_status grouped(void *state, const struct dg_problem *problem, const struct dg_plan *plan,
                         const struct dg_grouped_args *args)
{
    struct dg_cpu_pieces pieces;
    DG_TRY(dg_cpu_pieces_list(problem, args, &pieces));
    dg_status status = DG_OK;
    for (int64_t i = 0; i < pieces.count && status == DG_OK; i++) {
        struct dg_problem dense;
        struct dg_gemm_args operands;
        dg_cpu_piece_describe(problem, args, &pieces.list[i], &dense, &operands);
        const struct dg_plan one = {.kernel = dense.k > 0                     ? DG_KERNEL_ORACLE
                                              : dense.c_mode == DG_C_IN_PLACE ? DG_KERNEL_NONE
                                                                              : DG_KERNEL_FILL};
        status = gemm(state, &dense, &one, &operands);
    }
    dg_cpu_pieces_free(&pieces);
    return status;
}

static dg_status plan(const struct dg_problem *problem, const struct dg_device *device,
                      struct dg_plan *plan)
{
    if (device->kind != DG_DEVICE_CPU)
        return dg_fail(DG_UNSUPPORTED, "the oracle does not run on %s", device->name);
    memset(plan, 0, sizeof *plan);
    plan->kernel = !problem->m || !problem->n ? DG_KERNEL_NONE
                   : !problem->k              ? DG_KERNEL_FILL
                                              : DG_KERNEL_ORACLE;
    snprintf(plan->why, sizeof plan->why, "asked for by name");
    return DG_OK;
}

static void explain(const struct dg_problem *problem, const struct dg_device *device,
                    const struct dg_plan *plan, dg_fact_callback callback, void *user)
{
    callback(user, "plan", "kernel", "oracle: sums in double");
}

static int is_available(const struct dg_context_options *options, struct dg_strbuf *why_not)
{
    return 1;
}

extern const struct dg_backend dg_oracle_backend;
const struct dg_backend dg_oracle_backend = {
    .name = "oracle",
    .is_default = 0,
    .available = is_available,
    .open = dg_cpu_open,
    .close = dg_cpu_close,
    .plan = plan,
    .explain = explain,
    .gemm = gemm,
    .grouped = grouped,
    .quantize = dg_cpu_quantize,
    .dequantize = dg_cpu_dequantize,
    .mqa_logits = dg_cpu_mqa_oracle,
    .mqa_schedule = dg_cpu_mqa_schedule,
};
