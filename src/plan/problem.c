// SPDX-License-Identifier: MIT
// problem.c - what a problem must fulfil, and its defaults.
#include "plan/problem.h"

#include "base/error.h"
#include "base/overflow.h"

#include <string.h>

#define LL(x) ((long long)(x))

static const struct dg_op_facts ops[] = {
    [DG_OP_FP8_GEMM_NT] = {"fp8_gemm_nt", false, false, DG_KIND_DENSE, NULL},
    [DG_OP_FP8_GEMM_NN] = {"fp8_gemm_nn", false, true, DG_KIND_DENSE, NULL},
    [DG_OP_FP8_GEMM_TN] = {"fp8_gemm_tn", true, true, DG_KIND_DENSE, NULL},
    [DG_OP_FP8_GEMM_TT] = {"fp8_gemm_tt", true, false, DG_KIND_DENSE, NULL},
    [DG_OP_FP8_M_GROUPED_CONTIGUOUS] = {"fp8_m_grouped_contiguous", false, false,
                                        DG_KIND_CONTIGUOUS, "m_grouped_fp8_gemm_nt_contiguous"},
    [DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN] = {"fp8_m_grouped_contiguous_nn", false, true,
                                           DG_KIND_CONTIGUOUS, "m_grouped_fp8_gemm_nn_contiguous"},
    [DG_OP_FP8_M_GROUPED_MASKED] = {"fp8_m_grouped_masked", false, false, DG_KIND_MASKED,
                                    "m_grouped_fp8_gemm_nt_masked"},
    [DG_OP_FP8_K_GROUPED] = {"fp8_k_grouped", false, false, DG_KIND_K_GROUPED,
                             "k_grouped_fp8_gemm_nt_contiguous"},
    [DG_OP_FP8_K_GROUPED_TN] = {"fp8_k_grouped_tn", true, true, DG_KIND_K_GROUPED,
                                "k_grouped_fp8_gemm_tn_contiguous"},
};

const struct dg_op_facts *dg_problem_op(dg_op op)
{
    unsigned index = (unsigned)op;
    return index < sizeof ops / sizeof *ops && ops[index].name ? &ops[index] : NULL;
}

static dg_status check_sizes(const struct dg_problem *p)
{
    const struct {
        const char *name;
        int64_t size;
    } sizes[] = {{"m", p->m}, {"n", p->n}, {"k", p->k}};
    const struct {
        const char *name;
        int64_t x, y;
    } products[] = {{"m * k", p->m, p->k}, {"n * k", p->n, p->k}, {"m * n", p->m, p->n}};
    for (int i = 0; i < 3; i++)
        if (sizes[i].size < 0)
            return dg_fail(DG_INVALID_ARGUMENT, "%s = %lld: must not be negative", sizes[i].name,
                           LL(sizes[i].size));
    for (int i = 0; i < 3; i++) {
        int64_t bytes; // of DG_F64, the largest type
        if (!dg_multiply_fits(products[i].x, products[i].y, &bytes) ||
            !dg_multiply_fits(bytes, 8, &bytes))
            return dg_fail(DG_INVALID_ARGUMENT, "%s = %lld * %lld: too large for 64-bit sizes",
                           products[i].name, LL(products[i].x), LL(products[i].y));
    }
    return DG_OK;
}

static dg_status check_choices(const struct dg_problem *p)
{
    if (p->d_type != DG_BF16 && p->d_type != DG_F32 && p->d_type != DG_F64)
        return dg_fail(DG_INVALID_ARGUMENT, "d_type = %s: must be bf16, f32 or f64",
                       dg_type_name(p->d_type));
    if ((unsigned)p->c_mode > DG_C_IN_PLACE)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "c_mode = %d: must be DG_C_NONE, DG_C_SEPARATE or DG_C_IN_PLACE",
                       (int)p->c_mode);
    if (p->invariant != 0 && p->invariant != 1)
        return dg_fail(DG_INVALID_ARGUMENT, "invariant = %d: must be 0 or 1", (int)p->invariant);
    if (p->sf_type != DG_F32 && p->sf_type != DG_UE8M0X4)
        return dg_fail(DG_INVALID_ARGUMENT, "sf_type = %s: must be f32 or ue8m0x4",
                       dg_type_name(p->sf_type));
    if (p->sfb_block_n != 128 && p->sfb_block_n != 1)
        return dg_fail(DG_INVALID_ARGUMENT, "sfb_block_n = %d: must be 128 or 1",
                       (int)p->sfb_block_n);
    if (((unsigned)p->a_major | (unsigned)p->b_major | (unsigned)p->sfa_major |
         (unsigned)p->sfb_major) > DG_MN_MAJOR)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "a_major, b_major, sfa_major, sfb_major = %d, %d, %d, %d: each must be "
                       "DG_K_MAJOR or DG_MN_MAJOR",
                       (int)p->a_major, (int)p->b_major, (int)p->sfa_major, (int)p->sfb_major);
    return DG_OK;
}

// ---- groups ----

// Sizes that must fit 64 bits with all groups; `stacked`: a factor that stands for each group.
static dg_status check_group_sizes(const struct dg_problem *p, enum dg_op_kind kind)
{
    const int64_t stack_a = kind == DG_KIND_MASKED ? p->groups : 1;
    const int64_t stack_b = kind == DG_KIND_K_GROUPED ? 1 : p->groups;
    const int64_t stack_d = kind == DG_KIND_CONTIGUOUS ? 1 : p->groups;
    const int64_t products[][3] = {
        {stack_a, p->m, p->k}, {stack_b, p->n, p->k}, {stack_d, p->m, p->n}};
    for (int i = 0; i < 3; i++) {
        int64_t bytes;
        if (!dg_multiply_fits(products[i][0], products[i][1], &bytes) ||
            !dg_multiply_fits(bytes, products[i][2], &bytes) || !dg_multiply_fits(bytes, 8, &bytes))
            return dg_fail(DG_INVALID_ARGUMENT,
                           "groups = %lld with m, n, k = %lld, %lld, %lld: too large for 64-bit "
                           "sizes",
                           LL(p->groups), LL(p->m), LL(p->n), LL(p->k));
    }
    return DG_OK;
}

static dg_status check_groups(const struct dg_problem *p, enum dg_op_kind kind)
{
    if (p->groups < 1 || p->groups > DG_MAX_GROUPS)
        return dg_fail(DG_INVALID_ARGUMENT, "groups = %lld: must be 1 to %d", LL(p->groups),
                       DG_MAX_GROUPS);
    if (p->n == 0 || (p->k == 0 && kind != DG_KIND_K_GROUPED))
        return dg_fail(DG_INVALID_ARGUMENT, "%s = 0: must be at least 1 in a grouped problem",
                       p->n == 0 ? "n" : "k");
    if ((unsigned)p->layout > DG_GROUP_ENDS || (p->layout && kind != DG_KIND_CONTIGUOUS))
        return dg_fail(DG_INVALID_ARGUMENT,
                       "layout = %d: must be DG_GROUP_INDEX or, for m_grouped_contiguous, "
                       "DG_GROUP_ENDS",
                       (int)p->layout);
    if (p->alignment < 1)
        return dg_fail(DG_INVALID_ARGUMENT, "alignment = %d: must not be negative",
                       (int)p->alignment);
    if (kind == DG_KIND_K_GROUPED && p->sfb_block_n != 1)
        return dg_fail(DG_INVALID_ARGUMENT, "sfb_block_n = %d: must be 1, as groups are along k",
                       (int)p->sfb_block_n);
    if (kind == DG_KIND_K_GROUPED && p->sf_type != DG_F32)
        return dg_fail(DG_INVALID_ARGUMENT, "sf_type = %s: must be f32, as groups are along k",
                       dg_type_name(p->sf_type));
    if (p->rows < 0 || p->expected_m < 0)
        return dg_fail(DG_INVALID_ARGUMENT, "%s = %lld: must not be negative",
                       p->rows < 0 ? "rows" : "expected_m",
                       LL(p->rows < 0 ? p->rows : p->expected_m));
    if ((unsigned)p->spread > DG_ROWS_GIVEN || p->rows_low < 0 || p->rows_high < p->rows_low)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "spread, rows_low, rows_high = %d, %d, %d: must be one of DG_ROWS_... and a "
                       "range",
                       (int)p->spread, (int)p->rows_low, (int)p->rows_high);
    return check_group_sizes(p, kind);
}

// A problem that is not grouped has zeros here.
static dg_status complete_groups(const struct dg_problem *given, enum dg_op_kind kind,
                                 struct dg_problem *p)
{
    if (kind == DG_KIND_DENSE)
        return DG_OK;
    p->groups = given->groups;
    p->layout = given->layout;
    p->alignment = given->alignment;
    if (!p->alignment)
        p->alignment = kind == DG_KIND_K_GROUPED ? DG_GROUP_ALIGNMENT_K : DG_GROUP_ALIGNMENT;
    p->spread = given->spread;
    if (p->spread == DG_ROWS_UNIFORM || p->spread == DG_ROWS_GIVEN)
        p->rows_low = given->rows_low, p->rows_high = given->rows_high;
    p->rows = given->rows, p->expected_m = given->expected_m;
    DG_TRY(check_groups(p, kind));
    const int64_t room = kind == DG_KIND_K_GROUPED ? p->k : p->m;
    const int64_t share = kind == DG_KIND_MASKED ? room : dg_ceil_div(room, p->groups);
    if (p->expected_m == 0)
        p->expected_m = p->rows ? p->rows : share;
    if (p->rows == 0 || p->spread != DG_ROWS_EQUAL)
        p->rows = p->expected_m;
    return DG_OK;
}

// Fills in and normalises one stride and major.
static dg_status complete_layout(const char *name, int64_t rows, int64_t columns, int64_t bytes,
                                 int64_t *ld, dg_major *major)
{
    int64_t inner = *major == DG_K_MAJOR ? columns : rows;
    int64_t outer = *major == DG_K_MAJOR ? rows : columns;
    int64_t stride = *ld ? *ld : inner, extent;
    if (stride < 0 || (outer > 1 && stride < inner))
        return dg_fail(DG_INVALID_ARGUMENT, "%s = %lld: must be at least %lld, or 0 for no gap",
                       name, LL(*ld), LL(inner));
    if (outer > 1 && !dg_extent_fits(outer, inner, stride, 1, bytes, &extent))
        return dg_fail(DG_INVALID_ARGUMENT, "%s = %lld: too large for %lld rows and 64-bit sizes",
                       name, LL(*ld), LL(outer));
    int64_t row_stride = *major == DG_K_MAJOR ? stride : 1;
    int64_t column_stride = *major == DG_K_MAJOR ? 1 : stride;
    dg_layout_normalise(rows, columns, &row_stride, &column_stride);
    *major = dg_layout_major(column_stride);
    *ld = *major == DG_K_MAJOR ? row_stride : column_stride;
    return DG_OK;
}

// Scales have no stride in a problem: the major only matters when both sizes exceed 1.
static dg_major complete_scale_major(dg_major major, int64_t rows, int64_t columns)
{
    return rows > 1 && columns > 1 ? major : DG_K_MAJOR;
}

dg_status dg_problem_complete(const struct dg_problem *problem, struct dg_problem *complete)
{
    struct dg_problem p;
    memset(&p, 0, sizeof p);
    if (!dg_problem_op(problem->op))
        return dg_fail(DG_INVALID_ARGUMENT, "op = %d: must be one of the DG_OP_... operations",
                       (int)problem->op);
    p.op = problem->op;
    p.m = problem->m, p.n = problem->n, p.k = problem->k;
    p.lda = problem->lda, p.ldb = problem->ldb, p.ldd = problem->ldd;
    const enum dg_op_kind kind = dg_problem_kind(problem);
    const bool along_k = kind == DG_KIND_K_GROUPED;
    p.d_type = problem->d_type ? problem->d_type : along_k ? DG_F32 : DG_BF16;
    p.sf_type = problem->sf_type ? problem->sf_type : DG_F32;
    p.sfb_block_n = problem->sfb_block_n ? problem->sfb_block_n : along_k ? 1 : 128;
    p.c_mode = problem->c_mode;
    p.a_major = problem->a_major, p.b_major = problem->b_major;
    DG_TRY(check_sizes(&p));
    p.sfa_major = problem->sfa_major, p.sfb_major = problem->sfb_major;
    p.invariant = problem->invariant;
    DG_TRY(check_choices(&p));
    DG_TRY(complete_groups(problem, kind, &p));
    if (problem->op == DG_OP_FP8_K_GROUPED &&
        (p.a_major || p.b_major || (p.lda && p.lda != p.k) || (p.ldb && p.ldb != p.k)))
        return dg_fail(
            DG_INVALID_ARGUMENT,
            "a_major, b_major, lda, ldb = %d, %d, %lld, %lld: groups along k have no gaps "
            "(0 or DG_K_MAJOR)",
            (int)p.a_major, (int)p.b_major, LL(p.lda), LL(p.ldb));

    dg_major d_major = DG_K_MAJOR;
    DG_TRY(complete_layout("lda", p.m, p.k, 1, &p.lda, &p.a_major));
    DG_TRY(complete_layout("ldb", p.n, p.k, 1, &p.ldb, &p.b_major));
    DG_TRY(complete_layout("ldd", p.m, p.n, (int64_t)dg_type_bytes(p.d_type), &p.ldd, &d_major));
    int64_t scales_k = dg_ceil_div(p.k, DG_SCALE_K);
    if (p.sf_type == DG_UE8M0X4)
        scales_k = dg_ceil_div(scales_k, 4);
    p.sfa_major = complete_scale_major(p.sfa_major, p.m, scales_k);
    p.sfb_major = complete_scale_major(p.sfb_major, dg_ceil_div(p.n, p.sfb_block_n), scales_k);
    memcpy(complete, &p, sizeof p); // its padding too
    return DG_OK;
}
