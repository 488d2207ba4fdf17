// SPDX-License-Identifier: MIT
// fp8_gemm.c - dense FP8 GEMM: check the arguments, turn them into NT orientation, plan, run.
//
// Nothing is written, allocated or queued before every argument was checked.
#include "api/check.h"
#include "api/context.h"
#include "base/overflow.h"
#include "plan/problem.h"

#include <string.h>

#define LL(x) ((long long)(x))

// The operands of a call in NT orientation: a [m, k], b [n, k], c and d [m, n].
struct operands {
    struct dg_checked a, b, sfa, sfb, c, d;
    int32_t sfb_block_n;
};

static dg_status check_values(const struct dg_op_facts *op, const struct dg_scaled *a,
                              const struct dg_scaled *b, struct operands *o)
{
    if (!a || !b)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", a ? "b" : "a");
    const unsigned e4m3 = DG_TYPE_BIT(DG_E4M3);
    DG_TRY(dg_check_matrix("a.values", &a->values, e4m3, op->a_transposed, &o->a));
    DG_TRY(dg_check_unit_stride(&o->a));
    DG_TRY(dg_check_matrix("b.values", &b->values, e4m3, op->b_transposed, &o->b));
    DG_TRY(dg_check_unit_stride(&o->b));
    if (o->a.columns != o->b.columns)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "b.values.shape = [%lld, %lld] (%s) has k = %lld, but a.values.shape = "
                       "[%lld, %lld] (%s) has k = %lld",
                       LL(b->values.shape[0]), LL(b->values.shape[1]),
                       op->b_transposed ? "[k, n]" : "[n, k]", LL(o->b.columns),
                       LL(a->values.shape[0]), LL(a->values.shape[1]),
                       op->a_transposed ? "[k, m]" : "[m, k]", LL(o->a.columns));
    return DG_OK;
}

static dg_status fail_block(const char *name, const struct dg_scaled *scaled, bool transposed,
                            const char *rule)
{
    return dg_fail(DG_INVALID_ARGUMENT,
                   "%s.block_rows x %s.block_columns = %d x %d: must be %s, as %s.values is %s",
                   name, name, (int)scaled->block_rows, (int)scaled->block_columns, rule, name,
                   transposed ? "transposed (k first)" : "k last");
}

static dg_status check_scales(const struct dg_op_facts *op, const struct dg_scaled *a,
                              const struct dg_scaled *b, struct operands *o)
{
    bool at = op->a_transposed, bt = op->b_transposed;
    int32_t a_m = at ? a->block_columns : a->block_rows,
            a_k = at ? a->block_rows : a->block_columns;
    int32_t b_n = bt ? b->block_columns : b->block_rows,
            b_k = bt ? b->block_rows : b->block_columns;
    if (a_m != 1 || a_k != DG_SCALE_K)
        return fail_block("a", a, at, at ? "128 x 1" : "1 x 128");
    if ((b_n != 128 && b_n != 1) || b_k != DG_SCALE_K)
        return fail_block("b", b, bt, bt ? "128 x 128 or 128 x 1" : "128 x 128 or 1 x 128");
    const struct dg_scale_rule a_rule = {&o->a, 1, DG_SCALE_K, false};
    const struct dg_scale_rule b_rule = {&o->b, b_n, DG_SCALE_K, false};
    DG_TRY(dg_check_scales("a.scales", &a->scales, &a_rule, &o->sfa));
    DG_TRY(dg_check_scales("b.scales", &b->scales, &b_rule, &o->sfb));
    if (o->sfa.type != o->sfb.type)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "b.scales.type = %s, but a.scales.type = %s: must be equal",
                       dg_type_name(o->sfb.type), dg_type_name(o->sfa.type));
    o->sfb_block_n = b_n;
    return DG_OK;
}

static dg_status check_output(const struct dg_tensor *d, struct operands *o)
{
    const unsigned types = DG_TYPE_BIT(DG_BF16) | DG_TYPE_BIT(DG_F32) | DG_TYPE_BIT(DG_F64);
    DG_TRY(dg_check_matrix("d", d, types, false, &o->d));
    DG_TRY(dg_check_shape(&o->d, o->a.rows, o->b.rows, "m of a.values and n of b.values"));
    return dg_check_row_major_output(&o->d);
}

static dg_status check_addend(const struct dg_tensor *c, const struct dg_tensor *d,
                              struct operands *o, dg_c_mode *mode)
{
    *mode = DG_C_NONE;
    o->c.data = NULL;
    if (!c)
        return DG_OK;
    const unsigned types = DG_TYPE_BIT(DG_BF16) | DG_TYPE_BIT(DG_F32) | DG_TYPE_BIT(DG_F64);
    DG_TRY(dg_check_matrix("c", c, types, false, &o->c));
    if (c->type != d->type)
        return dg_fail(DG_INVALID_ARGUMENT, "c.type = %s, but d.type = %s: must be equal",
                       dg_type_name(c->type), dg_type_name(d->type));
    DG_TRY(dg_check_shape(&o->c, o->d.rows, o->d.columns, "the shape of d"));
    *mode = c->data == d->data ? DG_C_IN_PLACE : DG_C_SEPARATE;
    if (*mode == DG_C_IN_PLACE &&
        (o->c.row_stride != o->d.row_stride || o->c.column_stride != o->d.column_stride))
        return dg_fail(
            DG_INVALID_ARGUMENT,
            "c.stride = [%lld, %lld], but d.stride = [%lld, %lld]: must be equal, as c and d "
            "are the same memory",
            LL(c->stride[0]), LL(c->stride[1]), LL(d->stride[0]), LL(d->stride[1]));
    return DG_OK;
}

static dg_status check_options(const struct dg_gemm_options *given, struct dg_gemm_options *options)
{
    DG_TRY(dg_options_read("options", given, options, sizeof *options));
    DG_TRY(dg_check_gemm_flags("options.flags", options->flags));
    if ((uintptr_t)options->workspace % 256)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "options.workspace = %p: must be a multiple of 256 bytes",
                       options->workspace);
    if (options->workspace_bytes && !options->workspace)
        return dg_fail(DG_INVALID_ARGUMENT, "options.workspace is NULL, but workspace_bytes = %zu",
                       options->workspace_bytes);
    return DG_OK;
}

static dg_major scale_major(const struct dg_checked *scales)
{
    bool has_both = scales->rows > 1 && scales->columns > 1;
    return has_both ? dg_layout_major(scales->column_stride) : DG_K_MAJOR;
}

static int64_t values_stride(const struct dg_checked *values)
{
    return values->column_stride == 1 ? values->row_stride : values->column_stride;
}

// The complete problem (problem.h) of operands that were checked.
static void describe(dg_op op, const struct operands *o, dg_c_mode c_mode, struct dg_problem *p)
{
    memset(p, 0, sizeof *p);
    p->op = op;
    p->d_type = o->d.type;
    p->m = o->a.rows, p->n = o->b.rows, p->k = o->a.columns;
    p->lda = values_stride(&o->a), p->ldb = values_stride(&o->b), p->ldd = o->d.row_stride;
    p->c_mode = c_mode;
    p->sf_type = o->sfa.type;
    p->sfb_block_n = o->sfb_block_n;
    p->a_major = dg_layout_major(o->a.column_stride);
    p->b_major = dg_layout_major(o->b.column_stride);
    p->sfa_major = scale_major(&o->sfa), p->sfb_major = scale_major(&o->sfb);
}

static dg_status run(dg_context *context, const struct dg_problem *problem,
                     const struct operands *o, const struct dg_gemm_options *options, void *stream)
{
    struct dg_plan plan;
    DG_TRY(dg_context_plan(context, problem, &plan));
    if (plan.kernel == DG_KERNEL_NONE ||
        (plan.kernel == DG_KERNEL_FILL && problem->c_mode == DG_C_IN_PLACE))
        return DG_OK;
    DG_TRY(dg_context_check_workspace(&plan, options->workspace_bytes));
    const struct dg_gemm_args args = {
        .a = dg_view(&o->a),
        .b = dg_view(&o->b),
        .sfa = dg_view(&o->sfa),
        .sfb = dg_view(&o->sfb),
        .c = problem->c_mode ? dg_view(&o->c) : (struct dg_matrix_view){NULL, 0, 0},
        .d = dg_view(&o->d),
        .workspace = options->workspace,
        .workspace_bytes = options->workspace_bytes,
        .flags = options->flags | context->gemm_flags,
        .stream = stream,
    };
    return context->backend->gemm(context->state, problem, &plan, &args);
}

static dg_status gemm(dg_op op, dg_context *context, const struct dg_scaled *a,
                      const struct dg_scaled *b, const struct dg_tensor *d,
                      const struct dg_tensor *c, const struct dg_gemm_options *given, void *stream)
{
    struct dg_gemm_options options = DG_GEMM_OPTIONS;
    const struct dg_op_facts *facts = dg_problem_op(op);
    struct operands operands;
    struct dg_problem problem;
    dg_c_mode c_mode;
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    if (given)
        DG_TRY(check_options(given, &options));
    DG_TRY(check_values(facts, a, b, &operands));
    DG_TRY(check_scales(facts, a, b, &operands));
    DG_TRY(check_output(d, &operands));
    DG_TRY(check_addend(c, d, &operands, &c_mode));
    describe(op, &operands, c_mode, &problem);
    problem.invariant = ((options.flags | context->gemm_flags) & DG_GEMM_BATCH_INVARIANT) != 0;
    return run(context, &problem, &operands, &options, stream);
}

// The name of the function is put before the text of every failure.
static dg_status named_gemm(dg_op op, dg_context *context, const struct dg_scaled *a,
                            const struct dg_scaled *b, const struct dg_tensor *d,
                            const struct dg_tensor *c, const struct dg_gemm_options *options,
                            void *stream)
{
    dg_status status = gemm(op, context, a, b, d, c, options, stream);
    if (__builtin_expect(status != DG_OK, 0))
        return dg_fail_context(status, "dg_%s", dg_problem_op(op)->name);
    return DG_OK;
}

#define DEFINE_GEMM(function, op)                                                                  \
    dg_status function(dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,  \
                       const struct dg_tensor *d, const struct dg_tensor *c,                       \
                       const struct dg_gemm_options *options, void *stream)                        \
    {                                                                                              \
        return named_gemm(op, context, a, b, d, c, options, stream);                               \
    }

DEFINE_GEMM(dg_fp8_gemm_nt, DG_OP_FP8_GEMM_NT)
DEFINE_GEMM(dg_fp8_gemm_nn, DG_OP_FP8_GEMM_NN)
DEFINE_GEMM(dg_fp8_gemm_tn, DG_OP_FP8_GEMM_TN)
DEFINE_GEMM(dg_fp8_gemm_tt, DG_OP_FP8_GEMM_TT)
