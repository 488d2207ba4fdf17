// SPDX-License-Identifier: MIT
// check.c - the result of one call against the oracle, which sums in double.
//
// The rows to compare are gathered into a compact problem of their own, so that a large m costs no more
// than a budget; what can be looked at without the oracle is looked at everywhere.
#include "grouped.h"

#include <stdlib.h>
#include <string.h>

// What the sums may be off by.  A CPU adds in FP32; the tensor cores of a GPU keep about 14 bits of
// each product aligned to the largest of its 32, which leaves 1.3e-4 on random data.
static const struct limits {
    double relative, row;
} cpu_limits = {1e-6, 5e-6}, gpu_limits = {5e-4, 2e-3};

static double element(const struct dg_tensor *t, int64_t row, int64_t column)
{
    return cli_element(t->data, t->type, row * t->stride[0] + column * t->stride[1]);
}

// ---- what needs no oracle -----------------------------------------------------------------------

// Guard bands and the gaps between rows keep their poison; with no C, no element does.
static void check_writes(const struct cli_data *data, struct cli_check *check)
{
    const struct dg_problem *p = &data->problem;
    const size_t element_bytes = dg_type_bytes(p->d_type);
    const char *guard = data->buffer[CLI_D], *d = guard + CLI_GUARD_BYTES;
    if (!cli_is_poison(guard, CLI_GUARD_BYTES) ||
        !cli_is_poison(d + data->bytes[CLI_D], CLI_GUARD_BYTES)) {
        snprintf(check->failure, sizeof check->failure, "bytes outside D were written");
        return;
    }
    for (int64_t i = 0; i < p->m && p->n > 0; i++) {
        const char *row = d + (size_t)(i * p->ldd) * element_bytes;
        const char *gap = row + (size_t)p->n * element_bytes;
        if (i + 1 < p->m && !cli_is_poison(gap, (size_t)(p->ldd - p->n) * element_bytes)) {
            snprintf(check->failure, sizeof check->failure, "the gap behind row %lld was written",
                     (long long)i);
            return;
        }
        for (int64_t j = 0; j < p->n; j++)
            if (cli_is_poison(row + (size_t)j * element_bytes, element_bytes)) {
                snprintf(check->failure, sizeof check->failure,
                         "element [%lld, %lld] was not written, or is NaN", (long long)i,
                         (long long)j);
                return;
            }
    }
}

// ---- the rows to compare ------------------------------------------------------------------------

// One row from each of `count` equal parts of m, the first and the last row among them.
static void choose_rows(int64_t m, int64_t *rows, int64_t count, uint64_t seed)
{
    for (int64_t i = 0; i < count; i++) {
        const int64_t begin = i * m / count, end = (i + 1) * m / count;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        rows[i] = begin + (int64_t)((seed >> 33) % (uint64_t)(end - begin));
    }
    if (count > 0)
        rows[count - 1] = m - 1;
    if (count > 1)
        rows[0] = 0;
}

static int64_t number_of_rows(const struct dg_problem *p, double max_products)
{
    enum { FEWEST = 4 };
    const double wanted = max_products / fmax(1, (double)p->n * (double)p->k);
    const int64_t rows = wanted < FEWEST ? FEWEST : wanted > 1e9 ? 1000000000 : (int64_t)wanted;
    return rows < p->m ? rows : p->m;
}

// The compact problem: chosen rows of A and C in new memory, B as it is, D in double.
struct subset {
    struct dg_problem problem;
    int64_t *rows;
    void *base[CLI_BUFFERS];
};

static void subset_free(struct subset *subset)
{
    free(subset->rows);
    free(subset->base[CLI_A]);
    free(subset->base[CLI_SFA]);
    free(subset->base[CLI_C]);
    free(subset->base[CLI_D]);
}

static void copy_rows(const struct dg_tensor *from, const struct dg_tensor *to, const int64_t *rows)
{
    const size_t bytes = dg_type_bytes(from->type);
    for (int64_t i = 0; i < to->shape[0]; i++) {
        char *out = (char *)to->data + (size_t)(i * to->stride[0]) * bytes;
        const char *in = (const char *)from->data + (size_t)(rows[i] * from->stride[0]) * bytes;
        for (int64_t j = 0; j < to->shape[1]; j++)
            memcpy(out + (size_t)j * bytes, in + (size_t)(j * from->stride[1]) * bytes, bytes);
    }
}

static bool subset_allocate(struct subset *subset, const struct dg_problem *p, int64_t count)
{
    const int64_t blocks = (p->k + 127) / 128;
    const size_t rows = (size_t)count;
    subset->rows = calloc(rows + 1, sizeof *subset->rows);
    subset->base[CLI_A] = malloc(rows * (size_t)p->k + 1);
    subset->base[CLI_SFA] = malloc(rows * (size_t)blocks * 4 + 1);
    subset->base[CLI_C] = malloc(rows * (size_t)p->n * sizeof(double) + 1);
    subset->base[CLI_D] = malloc(rows * (size_t)p->n * sizeof(double) + 1);
    return subset->rows && subset->base[CLI_A] && subset->base[CLI_SFA] && subset->base[CLI_C] &&
           subset->base[CLI_D];
}

static dg_status subset_create(struct subset *subset, const struct cli_data *data, int64_t count)
{
    if (!subset_allocate(subset, &data->problem, count))
        return DG_OUT_OF_MEMORY;
    struct dg_problem whole = data->problem;
    whole.op = DG_OP_FP8_GEMM_NT; // the same memory, seen in NT orientation
    struct dg_problem *p = &subset->problem;
    *p = whole;
    p->m = count;
    p->a_major = p->sfa_major = DG_K_MAJOR;
    p->lda = p->k;
    p->ldd = p->n;
    p->d_type = DG_F64;
    p->c_mode = whole.c_mode == DG_C_NONE ? DG_C_NONE : DG_C_SEPARATE;
    subset->base[CLI_B] = data->buffer[CLI_B];
    subset->base[CLI_SFB] = data->buffer[CLI_SFB];
    choose_rows(whole.m, subset->rows, count, data->seed);

    struct cli_operands from, to;
    cli_data_describe(&whole, data->buffer, &from);
    cli_data_describe(p, subset->base, &to);
    copy_rows(&from.a.values, &to.a.values, subset->rows);
    copy_rows(&from.a.scales, &to.a.scales, subset->rows);
    if (p->c_mode != DG_C_NONE) {
        from.d.data = data->buffer[CLI_C];
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < p->n; j++)
                ((double *)to.c.data)[i * p->n + j] = element(&from.d, subset->rows[i], j);
    }
    return DG_OK;
}

// ---- comparing ----------------------------------------------------------------------------------

// Half the distance of BF16 neighbours at a value.
static double half_spacing(double value)
{
    int exponent;
    frexp(value, &exponent); // value in [2^(exponent - 1), 2^exponent)
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 9);
}

struct sums {
    double error, norm; // squares
};

static void compare_row(const struct dg_tensor *d, int64_t row, const double *expected,
                        double least_rms, struct sums *sums, struct cli_check *check)
{
    const int64_t n = d->shape[1];
    double norm = 0;
    for (int64_t j = 0; j < n; j++)
        norm += expected[j] * expected[j];
    const double rms = fmax(sqrt(norm / (double)n), least_rms);
    for (int64_t j = 0; j < n; j++) {
        const double got = element(d, row, j), error = fabs(got - expected[j]);
        const double spacing = half_spacing(fmax(fabs(got), fabs(expected[j])));
        const double rounding = fmax(0, error - check->limit_row * rms) / spacing;
        sums->error += error * error;
        check->row = fmax(check->row, error / rms);
        check->rounding = fmax(check->rounding, rounding);
        const bool is_wrong =
            d->type == DG_BF16 ? !(rounding <= 1) : !(error <= check->limit_row * rms);
        if (is_wrong && !check->failure[0])
            snprintf(check->failure, sizeof check->failure,
                     "element [%lld, %lld] is %.9g instead of %.9g", (long long)row, (long long)j,
                     got, expected[j]);
    }
    sums->norm += fmax(norm, least_rms * least_rms * (double)n);
}

static void compare(const struct cli_data *data, const struct subset *subset,
                    struct cli_check *check)
{
    struct cli_operands operands;
    cli_data_operands(data, &operands);
    const int64_t n = data->problem.n;
    const double least_rms = sqrt((double)data->problem.k);
    struct sums sums = {0};
    for (int64_t i = 0; i < subset->problem.m && n > 0; i++)
        compare_row(&operands.d, subset->rows[i], (const double *)subset->base[CLI_D] + i * n,
                    least_rms, &sums, check);
    check->relative = sums.error == 0 ? 0 : sqrt(sums.error / sums.norm);
    if (check->failure[0] == 0 && !(check->relative <= check->limit_relative))
        snprintf(check->failure, sizeof check->failure, "relative error %.3g, %.3g is allowed",
                 check->relative, check->limit_relative);
}

dg_status cli_check(const struct cli_data *data, dg_context *oracle, bool is_gpu,
                    double max_products, struct cli_check *check)
{
    const struct dg_problem *p = &data->problem;
    const struct limits *limits = is_gpu ? &gpu_limits : &cpu_limits;
    const double half_ulp = 1.0 / 512; // of a BF16 value, relative, at most
    *check = (struct cli_check){
        .rows = number_of_rows(p, max_products),
        .limit_relative = limits->relative + (p->d_type == DG_BF16 ? half_ulp : 0),
        .limit_row = limits->row,
    };
    if (cli_kind(p) != CLI_DENSE)
        return cli_grouped_check(data, oracle, max_products, check);
    check_writes(data, check);

    struct subset subset = {0};
    dg_status status = subset_create(&subset, data, check->rows);
    if (status == DG_OK) {
        struct cli_operands operands;
        cli_data_describe(&subset.problem, subset.base, &operands);
        status = cli_call(oracle, &subset.problem, &operands, NULL, NULL);
    }
    if (status == DG_OK)
        compare(data, &subset, check);
    subset_free(&subset);
    return status;
}
