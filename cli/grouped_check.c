// SPDX-License-Identifier: MIT
// grouped_check.c - the result of a grouped call against the oracle's dense products, group by group.
//
// The grouped code of the library plays no part in what is expected: rows of each group are gathered into a
// dense problem, and every row of D that no group owns must be as it was, or zero where the layout says so.
#include "grouped.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct checker {
    const struct cli_data *data;
    struct cli_operands operands; // in the data's buffers
    struct cli_group *groups;
    struct cli_check *check;
    double error, norm; // squares
};

__attribute__((format(printf, 2, 3))) static void fail(struct checker *checker, const char *format,
                                                       ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!checker->check->failure[0])
        vsnprintf(checker->check->failure, sizeof checker->check->failure, format, arguments);
    va_end(arguments);
}

static bool is_zero(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

// What may be in a row that is not multiplied: what was there, or C, or zeros.
static void check_idle_row(struct checker *checker, int64_t row, int64_t group)
{
    const struct dg_problem *p = &checker->data->problem;
    const size_t element = dg_type_bytes(p->d_type), bytes = (size_t)p->n * element;
    const size_t at = (size_t)(row * p->ldd) * element;
    const char *d = (const char *)checker->data->buffer[CLI_D] + CLI_GUARD_BYTES + at;
    const char *c = (const char *)checker->data->buffer[CLI_C] + (p->c_mode ? at : 0);
    const bool is_kept = group == CLI_ROW_UNTOUCHED;
    if (p->c_mode == DG_C_IN_PLACE || (p->c_mode && !is_kept)) {
        if (memcmp(d, c, bytes) != 0)
            fail(checker, "row %lld, of no group, is not C", (long long)row);
    } else if (is_kept ? !cli_is_poison(d, bytes) : !is_zero(d, bytes)) {
        fail(checker, "row %lld, of no group, %s", (long long)row,
             is_kept ? "was written" : "is not zero");
    }
}

static void check_writes(struct checker *checker)
{
    const struct dg_problem *p = &checker->data->problem;
    const size_t element = dg_type_bytes(p->d_type);
    const int64_t rows = cli_output_rows(p);
    const char *guard = checker->data->buffer[CLI_D], *d = guard + CLI_GUARD_BYTES;
    if (!cli_is_poison(guard, CLI_GUARD_BYTES) ||
        !cli_is_poison(d + checker->data->bytes[CLI_D], CLI_GUARD_BYTES))
        fail(checker, "bytes outside D were written");
    for (int64_t row = 0; row < rows; row++) {
        const int64_t group = cli_row_group(p, checker->groups, row);
        const char *at = d + (size_t)(row * p->ldd) * element;
        if (row + 1 < rows &&
            !cli_is_poison(at + (size_t)p->n * element, (size_t)(p->ldd - p->n) * element))
            fail(checker, "the gap behind row %lld was written", (long long)row);
        if (group < 0) {
            check_idle_row(checker, row, group);
            continue;
        }
        for (int64_t j = 0; j < p->n; j++)
            if (cli_is_poison(at + (size_t)j * element, element))
                fail(checker, "element [%lld, %lld] (group %lld) was not written, or is NaN",
                     (long long)row, (long long)j, (long long)group);
    }
}

// ---- values -------------------------------------------------------------------------------------

static double half_spacing(double value)
{
    int exponent;
    frexp(value, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 9);
}

static void compare_row(struct checker *checker, int64_t row, int64_t group, int64_t k,
                        const double *expected)
{
    const struct dg_problem *p = &checker->data->problem;
    struct cli_check *check = checker->check;
    const char *d = (const char *)checker->data->buffer[CLI_D] + CLI_GUARD_BYTES;
    double norm = 0;
    for (int64_t j = 0; j < p->n; j++)
        norm += expected[j] * expected[j];
    const double least = sqrt((double)(k > 0 ? k : 1));
    const double rms = fmax(sqrt(norm / (double)p->n), least);
    for (int64_t j = 0; j < p->n; j++) {
        const double got = cli_element(d, p->d_type, row * p->ldd + j),
                     error = fabs(got - expected[j]);
        const double spacing = half_spacing(fmax(fabs(got), fabs(expected[j])));
        const double rounding = fmax(0, error - check->limit_row * rms) / spacing;
        checker->error += error * error;
        check->row = fmax(check->row, error / rms);
        check->rounding = fmax(check->rounding, rounding);
        if (p->d_type == DG_BF16 ? !(rounding <= 1) : !(error <= check->limit_row * rms))
            fail(checker, "element [%lld, %lld] (group %lld) is %.9g instead of %.9g",
                 (long long)row, (long long)j, (long long)group, got, expected[j]);
    }
    checker->norm += fmax(norm, least * least * (double)p->n);
}

// Rows of a matrix that lie `step` apart, as a matrix without gaps.
static struct dg_tensor gather(const struct dg_tensor *from, int64_t step, int64_t count,
                               void *memory)
{
    const struct dg_tensor to = dg_matrix(memory, from->type, count, from->shape[1]);
    const size_t bytes = dg_type_bytes(from->type);
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < to.shape[1]; j++)
            memcpy((char *)memory + (size_t)(i * to.shape[1] + j) * bytes,
                   (const char *)from->data +
                       (size_t)(i * step * from->stride[0] + j * from->stride[1]) * bytes,
                   bytes);
    return to;
}

// D of `count` rows of a group in double, `step` rows apart; C is added here.
static dg_status expect(struct checker *checker, dg_context *oracle, const struct dg_scaled *a,
                        const struct dg_scaled *b, int64_t step, int64_t count, double *expected)
{
    const size_t rows = (size_t)count;
    void *values = malloc(rows * (size_t)a->values.shape[1] + 1);
    void *scales = malloc(rows * (size_t)a->scales.shape[1] * 4 + 1);
    dg_status status = DG_OUT_OF_MEMORY;
    if (values && scales) {
        struct dg_scaled few = *a;
        few.values = gather(&a->values, step, count, values);
        few.scales = gather(&a->scales, step, count, scales);
        const struct dg_tensor d = dg_matrix(expected, DG_F64, count, checker->data->problem.n);
        status = dg_fp8_gemm_nt(oracle, &few, b, &d, NULL, NULL, NULL);
    }
    free(values);
    free(scales);
    return status;
}

static dg_status check_group(struct checker *checker, dg_context *oracle, int64_t group,
                             int64_t wanted)
{
    const struct dg_problem *p = &checker->data->problem;
    const bool along_k = cli_kind(p) == CLI_K_GROUPED;
    const struct cli_group *own = &checker->groups[group];
    const int64_t rows = along_k ? p->m : own->size, first = along_k ? group * p->m : own->first;
    const int64_t count = rows < wanted ? rows : wanted;
    const int64_t step = count > 1 ? (rows - 1) / (count - 1) : 1;
    struct dg_scaled a, b;
    if (count == 0)
        return DG_OK;
    cli_group_operands(p, &checker->operands, checker->groups, group, &a, &b);
    double *expected = malloc((size_t)count * (size_t)p->n * sizeof *expected + 1);
    if (!expected)
        return DG_OUT_OF_MEMORY;
    const dg_status status = expect(checker, oracle, &a, &b, step, count, expected);
    for (int64_t i = 0; i < count && status == DG_OK; i++) {
        const int64_t row = first + i * step;
        for (int64_t j = 0; p->c_mode && j < p->n; j++)
            expected[i * p->n + j] +=
                cli_element(checker->data->buffer[CLI_C], p->d_type, row * p->ldd + j);
        compare_row(checker, row, group, a.values.shape[1], expected + i * p->n);
    }
    checker->check->rows += count;
    free(expected);
    return status;
}

// As many groups as the budget allows, evenly spread, and rows of each.
static dg_status check_values(struct checker *checker, dg_context *oracle, double max_products)
{
    const struct dg_problem *p = &checker->data->problem;
    const double k = (double)(cli_kind(p) == CLI_K_GROUPED ? p->expected_m : p->k);
    const double budget = max_products / fmax(1, (double)p->n * fmax(1, k));
    const int64_t rows = budget < 4 ? 4 : budget > 1e9 ? 1000000000 : (int64_t)budget;
    const int64_t num_groups = rows < p->groups ? rows : p->groups;
    const int64_t each = rows / num_groups;
    for (int64_t i = 0; i < num_groups; i++) {
        const dg_status status =
            check_group(checker, oracle, i * p->groups / num_groups, each < 2 ? 2 : each);
        if (status != DG_OK)
            return status;
    }
    return DG_OK;
}

dg_status cli_grouped_check(const struct cli_data *data, dg_context *oracle, double max_products,
                            struct cli_check *check)
{
    struct checker checker = {.data = data, .check = check, .groups = cli_groups(&data->problem)};
    if (!checker.groups)
        return DG_OUT_OF_MEMORY;
    check->rows = 0;
    cli_data_operands(data, &checker.operands);
    check_writes(&checker);
    const dg_status status = check_values(&checker, oracle, max_products);
    check->relative = checker.error == 0 ? 0 : sqrt(checker.error / checker.norm);
    if (!(check->relative <= check->limit_relative))
        fail(&checker, "relative error %.3g, %.3g is allowed", check->relative,
             check->limit_relative);
    free(checker.groups);
    return status;
}
