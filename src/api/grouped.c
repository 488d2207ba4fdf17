// SPDX-License-Identifier: MIT
// grouped.c - grouped FP8 GEMM: check the arguments, turn them into NT orientation, plan, run.
//
// What the layout says is known to the device only; the backends hold to it in whatever state it is.  The
// debugging check reads it back and names the entry that breaks a rule.
#include "api/check.h"
#include "api/context.h"
#include "api/grouped_layout.h"
#include "base/overflow.h"
#include "plan/problem.h"

#include <stdlib.h>
#include <string.h>

#define LL(x) ((long long)(x))

enum {
    ALL_FLAGS =
        DG_GEMM_PDL | DG_GEMM_PDL_PREFETCH_B | DG_GEMM_BATCH_INVARIANT | DG_GROUPED_CHECK_LAYOUT,
    OUTPUTS = DG_TYPE_BIT(DG_BF16) | DG_TYPE_BIT(DG_F32) | DG_TYPE_BIT(DG_F64),
};

// Matrices of one shape at equal distances; one of them without groups.
struct stack {
    struct dg_tensor tensor; // the first
    struct dg_checked first;
    int64_t groups, stride;
};

struct operands {
    struct stack a, b, sfa, sfb, c, d;
    struct dg_checked layout;
    int32_t sfb_block_n;
    int64_t scale_columns;
};

// ---- stacks ----

static dg_status check_rank(const char *name, const struct dg_tensor *tensor, int rank,
                            const char *shape)
{
    if (!tensor)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", name);
    if (tensor->rank != rank)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.rank = %d: must be %d, for %s", name,
                       (int)tensor->rank, rank, shape);
    return DG_OK;
}

// The first of a stack, to be checked like any matrix, and the rules that the others add.
static dg_status begin_stack(const char *name, const struct dg_tensor *tensor, const char *shape,
                             struct stack *stack)
{
    DG_TRY(check_rank(name, tensor, 3, shape));
    stack->groups = tensor->shape[0];
    stack->stride = tensor->shape[0] > 1 ? tensor->stride[0] : 0;
    if (stack->groups < 0 || stack->stride < 0)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.%s[0] = %lld: must not be negative", name,
                       stack->groups < 0 ? "shape" : "stride",
                       LL(stack->groups < 0 ? stack->groups : stack->stride));
    stack->tensor = dg_matrix_strided(tensor->data, tensor->type, tensor->shape[1],
                                      tensor->shape[2], tensor->stride[1]);
    stack->tensor.stride[1] = tensor->stride[2];
    if (stack->groups == 0)
        stack->tensor.shape[0] = 0; // no data is asked for
    return DG_OK;
}

// After the first was checked: the last one fits 64-bit addresses too.
static dg_status end_stack(struct stack *stack)
{
    const struct dg_checked *c = &stack->first;
    int64_t extent, bytes;
    const int64_t element = (int64_t)dg_type_bytes(c->type);
    dg_extent_fits(c->rows, c->columns, c->row_stride, c->column_stride, element, &extent);
    if (stack->groups > 1 &&
        !dg_extent_fits(stack->groups, extent, stack->stride * element, 1, 1, &bytes))
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s.stride[0] = %lld: too large for %lld groups and 64-bit addresses",
                       c->name, LL(stack->stride), LL(stack->groups));
    return DG_OK;
}

static dg_status check_stack(const char *name, const struct dg_tensor *tensor, unsigned types,
                             bool transposed, const char *shape, struct stack *stack)
{
    DG_TRY(begin_stack(name, tensor, shape, stack));
    DG_TRY(dg_check_matrix(name, &stack->tensor, types, transposed, &stack->first));
    return end_stack(stack);
}

static dg_status check_matrix(const char *name, const struct dg_tensor *tensor, unsigned types,
                              bool transposed, const char *shape, struct stack *stack)
{
    DG_TRY(check_rank(name, tensor, 2, shape));
    stack->tensor = *tensor;
    stack->groups = 1, stack->stride = 0;
    return dg_check_matrix(name, &stack->tensor, types, transposed, &stack->first);
}

// Scales lie in groups where their values do.
static dg_status check_scales(const char *name, const struct dg_tensor *tensor,
                              const struct stack *values, int32_t block_rows, struct stack *stack)
{
    const struct dg_scale_rule rule = {&values->first, block_rows, DG_SCALE_K, false};
    if (values->groups == 1 && tensor->rank == 2) {
        stack->tensor = *tensor;
        stack->groups = 1, stack->stride = 0;
        return dg_check_scales(name, &stack->tensor, &rule, &stack->first);
    }
    DG_TRY(begin_stack(name, tensor, "[groups, rows, blocks]", stack));
    DG_TRY(dg_check_scales(name, &stack->tensor, &rule, &stack->first));
    if (stack->groups != values->groups)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.shape[0] = %lld: must be %lld, as that of %s", name,
                       LL(stack->groups), LL(values->groups), values->first.name);
    return end_stack(stack);
}

// ---- operands ----

static dg_status fail_block(const char *name, const struct dg_scaled *scaled, const char *rule)
{
    return dg_fail(DG_INVALID_ARGUMENT, "%s.block_rows x %s.block_columns = %d x %d: must be %s",
                   name, name, (int)scaled->block_rows, (int)scaled->block_columns, rule);
}

static dg_status check_blocks(const struct dg_op_facts *op, const struct dg_scaled *a,
                              const struct dg_scaled *b, struct operands *o)
{
    const bool at = op->a_transposed, bt = op->b_transposed;
    const int32_t a_m = at ? a->block_columns : a->block_rows,
                  a_k = at ? a->block_rows : a->block_columns;
    const int32_t b_n = bt ? b->block_columns : b->block_rows,
                  b_k = bt ? b->block_rows : b->block_columns;
    if (a_m != 1 || a_k != DG_SCALE_K)
        return fail_block("a", a, at ? "128 x 1" : "1 x 128");
    if (op->kind == DG_KIND_K_GROUPED && (b_n != 1 || b_k != DG_SCALE_K))
        return fail_block("b", b, bt ? "128 x 1" : "1 x 128");
    if ((b_n != 128 && b_n != 1) || b_k != DG_SCALE_K)
        return fail_block("b", b, bt ? "128 x 128 or 128 x 1" : "128 x 128 or 1 x 128");
    o->sfb_block_n = b_n;
    return DG_OK;
}

static dg_status check_scale_types(const struct operands *o)
{
    if (o->sfa.first.type != o->sfb.first.type)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "b.scales.type = %s, but a.scales.type = %s: must be equal",
                       dg_type_name(o->sfb.first.type), dg_type_name(o->sfa.first.type));
    return DG_OK;
}

static dg_status check_m_grouped(const struct dg_op_facts *op, const struct dg_scaled *a,
                                 const struct dg_scaled *b, struct operands *o)
{
    const unsigned e4m3 = DG_TYPE_BIT(DG_E4M3);
    const bool is_masked = op->kind == DG_KIND_MASKED;
    const char *const shape_a = is_masked ? "[groups, max_m, k]" : "[m, k]";
    DG_TRY((is_masked ? check_stack : check_matrix)("a.values", &a->values, e4m3, false, shape_a,
                                                    &o->a));
    DG_TRY(dg_check_unit_stride(&o->a.first));
    DG_TRY(check_stack("b.values", &b->values, e4m3, op->b_transposed,
                       op->b_transposed ? "[groups, k, n]" : "[groups, n, k]", &o->b));
    DG_TRY(dg_check_unit_stride(&o->b.first));
    if (o->a.first.columns != o->b.first.columns)
        return dg_fail(DG_INVALID_ARGUMENT, "b.values has k = %lld, but a.values has k = %lld",
                       LL(o->b.first.columns), LL(o->a.first.columns));
    if (is_masked && o->a.groups != o->b.groups)
        return dg_fail(DG_INVALID_ARGUMENT, "a.values has %lld groups, but b.values has %lld",
                       LL(o->a.groups), LL(o->b.groups));
    DG_TRY(check_scales("a.scales", &a->scales, &o->a, 1, &o->sfa));
    DG_TRY(check_scales("b.scales", &b->scales, &o->b, o->sfb_block_n, &o->sfb));
    return check_scale_types(o);
}

// [rows * sum of k] as it is in memory; k is what its length says.
static dg_status check_flat(const char *name, const struct dg_tensor *tensor, int64_t rows,
                            struct stack *stack)
{
    DG_TRY(check_rank(name, tensor, 1, "one group after the other"));
    if (rows > 0 && tensor->shape[0] % rows)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s.shape[0] = %lld: must be a multiple of %lld, the rows of each group",
                       name, LL(tensor->shape[0]), LL(rows));
    if (tensor->shape[0] > 1 && tensor->stride[0] != 1)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.stride[0] = %lld: must be 1", name,
                       LL(tensor->stride[0]));
    stack->tensor = dg_matrix(tensor->data, tensor->type, rows, rows ? tensor->shape[0] / rows : 0);
    stack->groups = 1, stack->stride = 0;
    return dg_check_matrix(name, &stack->tensor, DG_TYPE_BIT(DG_E4M3), false, &stack->first);
}

// Scales of groups along k: as many columns as the groups have blocks, which the host does not know.
static dg_status check_k_scales(const char *name, const struct dg_tensor *tensor,
                                const struct stack *values, int64_t groups, bool transposed,
                                struct stack *stack)
{
    const int64_t blocks = dg_ceil_div(values->first.columns, DG_SCALE_K);
    DG_TRY(check_rank(name, tensor, 2, transposed ? "[blocks, rows]" : "[rows, blocks]"));
    stack->tensor = *tensor;
    stack->groups = 1, stack->stride = 0;
    DG_TRY(dg_check_matrix(name, &stack->tensor, DG_TYPE_BIT(DG_F32), transposed, &stack->first));
    if (stack->first.rows != values->first.rows || stack->first.columns < blocks ||
        stack->first.columns > blocks + groups)
        return dg_fail(
            DG_INVALID_ARGUMENT,
            "%s has %lld rows and %lld blocks: must be %lld rows, as %s has, and %lld to "
            "%lld blocks of 128 (each group begins with a new one)",
            name, LL(stack->first.rows), LL(stack->first.columns), LL(values->first.rows),
            values->first.name, LL(blocks), LL(blocks + groups));
    return DG_OK;
}

static dg_status check_k_grouped(const struct dg_op_facts *op, const struct dg_scaled *a,
                                 const struct dg_scaled *b, const struct dg_tensor *d,
                                 struct operands *o)
{
    const unsigned e4m3 = DG_TYPE_BIT(DG_E4M3);
    DG_TRY(check_rank("d", d, 3, "[groups, m, n]"));
    if (op->a_transposed) {
        DG_TRY(check_matrix("a.values", &a->values, e4m3, true, "[sum of k, m]", &o->a));
        DG_TRY(check_matrix("b.values", &b->values, e4m3, true, "[sum of k, n]", &o->b));
        DG_TRY(dg_check_unit_stride(&o->a.first));
        DG_TRY(dg_check_unit_stride(&o->b.first));
    } else {
        DG_TRY(check_flat("a.values", &a->values, d->shape[1], &o->a));
        DG_TRY(check_flat("b.values", &b->values, d->shape[2], &o->b));
    }
    if (o->a.first.columns != o->b.first.columns)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "b.values has %lld values of k in all groups, but a.values has %lld",
                       LL(o->b.first.columns), LL(o->a.first.columns));
    DG_TRY(check_k_scales("a.scales", &a->scales, &o->a, d->shape[0], op->a_transposed, &o->sfa));
    DG_TRY(check_k_scales("b.scales", &b->scales, &o->b, d->shape[0], op->b_transposed, &o->sfb));
    if (o->sfa.first.columns != o->sfb.first.columns)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "b.scales has %lld blocks of k, but a.scales has %lld: must be equal",
                       LL(o->sfb.first.columns), LL(o->sfa.first.columns));
    o->scale_columns = o->sfa.first.columns;
    return DG_OK;
}

static dg_status check_output(const struct dg_op_facts *op, const struct dg_tensor *d,
                              struct operands *o)
{
    const bool is_stack = op->kind != DG_KIND_CONTIGUOUS;
    DG_TRY((is_stack ? check_stack : check_matrix)("d", d, OUTPUTS, false,
                                                   is_stack ? "[groups, m, n]" : "[m, n]", &o->d));
    const int64_t groups = op->kind == DG_KIND_MASKED ? o->b.groups : o->d.groups;
    if (o->d.groups != groups)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "d.shape[0] = %lld: must be %lld, the groups of b.values", LL(o->d.groups),
                       LL(groups));
    DG_TRY(dg_check_shape(&o->d.first, o->a.first.rows, o->b.first.rows,
                          "m of a.values and n of b.values"));
    DG_TRY(dg_check_row_major_output(&o->d.first));
    const struct dg_checked *first = &o->d.first;
    if (o->d.groups > 1 && first->rows > 0 && first->columns > 0 &&
        o->d.stride < (first->rows - 1) * first->row_stride + first->columns)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "d.stride[0] = %lld: groups of an output must not overlap; at least %lld",
                       LL(o->d.stride), LL((first->rows - 1) * first->row_stride + first->columns));
    return DG_OK;
}

static dg_status check_addend(const struct dg_op_facts *op, const struct dg_tensor *c,
                              struct operands *o, dg_c_mode *mode)
{
    *mode = DG_C_NONE;
    o->c.first.data = NULL;
    if (!c)
        return DG_OK;
    const bool is_stack = op->kind != DG_KIND_CONTIGUOUS;
    DG_TRY((is_stack ? check_stack : check_matrix)("c", c, OUTPUTS, false,
                                                   is_stack ? "[groups, m, n]" : "[m, n]", &o->c));
    const struct dg_checked *d = &o->d.first, *addend = &o->c.first;
    if (c->type != d->type)
        return dg_fail(DG_INVALID_ARGUMENT, "c.type = %s, but d.type = %s: must be equal",
                       dg_type_name(c->type), dg_type_name(d->type));
    if (o->c.groups != o->d.groups)
        return dg_fail(DG_INVALID_ARGUMENT, "c.shape[0] = %lld: must be %lld, as that of d",
                       LL(o->c.groups), LL(o->d.groups));
    DG_TRY(dg_check_shape(addend, d->rows, d->columns, "the shape of d"));
    *mode = addend->data == d->data ? DG_C_IN_PLACE : DG_C_SEPARATE;
    if (*mode == DG_C_IN_PLACE &&
        (addend->row_stride != d->row_stride || addend->column_stride != d->column_stride ||
         o->c.stride != o->d.stride))
        return dg_fail(DG_INVALID_ARGUMENT,
                       "c.stride differs from d.stride: must be equal, as c and d are the same "
                       "memory");
    return DG_OK;
}

static dg_status check_layout_tensor(const struct dg_tensor *layout, int64_t length,
                                     const char *what, struct dg_checked *checked)
{
    DG_TRY(check_rank("layout", layout, 1, what));
    if (layout->shape[0] != length)
        return dg_fail(DG_INVALID_ARGUMENT, "layout.shape[0] = %lld: must be %lld, for %s",
                       LL(layout->shape[0]), LL(length), what);
    if (length > 1 && layout->stride[0] != 1)
        return dg_fail(DG_INVALID_ARGUMENT, "layout.stride[0] = %lld: must be 1",
                       LL(layout->stride[0]));
    const struct dg_tensor matrix = dg_matrix(layout->data, layout->type, 1, layout->shape[0]);
    return dg_check_matrix("layout", &matrix, DG_TYPE_BIT(DG_I32), false, checked);
}

static dg_status check_options(const struct dg_op_facts *op, const struct dg_grouped_options *given,
                               struct dg_grouped_options *options)
{
    if (given)
        DG_TRY(dg_options_read("options", given, options, sizeof *options));
    if (options->flags & ~(uint32_t)ALL_FLAGS)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "options.flags = 0x%x: only the bits 0x%x (DG_GEMM_..., DG_GROUPED_...) are "
                       "defined",
                       (unsigned)options->flags, (unsigned)ALL_FLAGS);
    if ((uintptr_t)options->workspace % 256)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "options.workspace = %p: must be a multiple of 256 bytes",
                       options->workspace);
    if (options->workspace_bytes && !options->workspace)
        return dg_fail(DG_INVALID_ARGUMENT, "options.workspace is NULL, but workspace_bytes = %zu",
                       options->workspace_bytes);
    if ((unsigned)options->layout > DG_GROUP_ENDS)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "options.layout = %d: must be DG_GROUP_INDEX or DG_GROUP_ENDS",
                       (int)options->layout);
    if (op->kind != DG_KIND_CONTIGUOUS && (options->layout || options->num_rows))
        return dg_fail(DG_INVALID_ARGUMENT, "options.%s: only for m_grouped_contiguous",
                       options->layout ? "layout" : "num_rows");
    if ((uintptr_t)options->num_rows % 4)
        return dg_fail(DG_INVALID_ARGUMENT, "options.num_rows = %p: must be a multiple of 4 bytes",
                       (const void *)options->num_rows);
    if (options->alignment < 0 || options->expected_m < 0)
        return dg_fail(DG_INVALID_ARGUMENT, "options.%s = %lld: must not be negative",
                       options->alignment < 0 ? "alignment" : "expected_m",
                       options->alignment < 0 ? LL(options->alignment) : LL(options->expected_m));
    return DG_OK;
}

// ---- from operands to a call ----

static int64_t values_stride(const struct dg_checked *values)
{
    return values->column_stride == 1 ? values->row_stride : values->column_stride;
}

static dg_status describe(dg_op op, const struct operands *o,
                          const struct dg_grouped_options *options, dg_c_mode c_mode,
                          struct dg_problem *p)
{
    const enum dg_op_kind kind = dg_problem_op(op)->kind;
    const struct dg_checked *a = &o->a.first, *b = &o->b.first;
    *p = (struct dg_problem){
        .op = op,
        .d_type = o->d.first.type,
        .m = a->rows,
        .n = b->rows,
        .k = a->columns,
        .ldd = o->d.first.row_stride,
        .c_mode = c_mode,
        .sf_type = o->sfa.first.type,
        .sfb_block_n = o->sfb_block_n,
        .sfa_major = o->sfa.first.column_stride == 1 ? DG_K_MAJOR : DG_MN_MAJOR,
        .sfb_major = o->sfb.first.column_stride == 1 ? DG_K_MAJOR : DG_MN_MAJOR,
        .groups = kind == DG_KIND_K_GROUPED ? o->d.groups : o->b.groups,
        .layout = options->layout,
        .alignment = kind == DG_KIND_MASKED ? 0 : options->alignment,
        .expected_m = options->expected_m,
    };
    if (op != DG_OP_FP8_K_GROUPED) {
        p->lda = values_stride(a), p->ldb = values_stride(b);
        p->a_major = dg_layout_major(a->column_stride);
        p->b_major = dg_layout_major(b->column_stride);
    }
    return dg_problem_complete(p, p);
}

static dg_status fetch(dg_context *context, void *to, const void *from, size_t bytes, void *stream)
{
    if (context->backend->fetch)
        return context->backend->fetch(context->state, to, from, bytes, stream);
    memcpy(to, from, bytes);
    return DG_OK;
}

static dg_status check_layout(dg_context *context, const struct dg_problem *problem,
                              const struct dg_grouped_args *args, int64_t length)
{
    int32_t num_rows = problem->m > INT32_MAX ? INT32_MAX : (int32_t)problem->m;
    if (args->num_rows)
        DG_TRY(fetch(context, &num_rows, args->num_rows, sizeof num_rows, args->gemm.stream));
    int32_t *copy = malloc((size_t)length * sizeof *copy + 1);
    if (!copy)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a copy of the layout");
    dg_status status = length ? fetch(context, copy, args->layout, (size_t)length * sizeof *copy,
                                      args->gemm.stream)
                              : DG_OK;
    if (status == DG_OK)
        status = dg_layout_check(problem, copy, num_rows, args->scale_columns);
    free(copy);
    return status;
}

static dg_status run(dg_context *context, const struct dg_problem *problem,
                     const struct operands *o, const struct dg_grouped_options *options,
                     void *stream)
{
    struct dg_plan plan;
    if (!context->backend->grouped)
        return dg_fail(DG_UNSUPPORTED, "the backend %s has no grouped GEMM",
                       context->backend->name);
    DG_TRY(dg_context_plan(context, problem, &plan));
    if (plan.kernel == DG_KERNEL_NONE)
        return DG_OK;
    DG_TRY(dg_context_check_workspace(&plan, options->workspace_bytes));
    const struct dg_grouped_args args = {
        .gemm = {.a = dg_view(&o->a.first),
                 .b = dg_view(&o->b.first),
                 .sfa = dg_view(&o->sfa.first),
                 .sfb = dg_view(&o->sfb.first),
                 .c = problem->c_mode ? dg_view(&o->c.first) : (struct dg_matrix_view){NULL, 0, 0},
                 .d = dg_view(&o->d.first),
                 .workspace = options->workspace,
                 .workspace_bytes = options->workspace_bytes,
                 .flags = options->flags | context->gemm_flags,
                 .stream = stream},
        .a_group = o->a.stride,
        .sfa_group = o->sfa.stride,
        .b_group = o->b.stride,
        .sfb_group = o->sfb.stride,
        .c_group = problem->c_mode ? o->c.stride : 0,
        .d_group = o->d.stride,
        .layout = o->layout.data,
        .num_rows = options->num_rows,
        .scale_columns = o->scale_columns,
        .is_flat = problem->op == DG_OP_FP8_K_GROUPED,
    };
    if (context->checks_layouts || options->flags & DG_GROUPED_CHECK_LAYOUT)
        DG_TRY(check_layout(context, problem, &args, o->layout.columns));
    return context->backend->grouped(context->state, problem, &plan, &args);
}

// The arguments of every grouped function, to hand on.
#define PARAMETERS                                                                                 \
    dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,                     \
        const struct dg_tensor *d, const struct dg_tensor *c, const struct dg_tensor *layout,      \
        const struct dg_grouped_options *given, void *stream

static dg_status grouped(dg_op op, PARAMETERS)
{
    const struct dg_op_facts *facts = dg_problem_op(op);
    struct dg_grouped_options options = DG_GROUPED_OPTIONS;
    struct operands o = {.scale_columns = 0};
    struct dg_problem problem;
    dg_c_mode c_mode;
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    if (!a || !b)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", a ? "b" : "a");
    DG_TRY(check_options(facts, given, &options));
    DG_TRY(check_blocks(facts, a, b, &o));
    if (facts->kind == DG_KIND_K_GROUPED)
        DG_TRY(check_k_grouped(facts, a, b, d, &o));
    else
        DG_TRY(check_m_grouped(facts, a, b, &o));
    DG_TRY(check_output(facts, d, &o));
    DG_TRY(check_addend(facts, c, &o, &c_mode));
    const bool by_row = facts->kind == DG_KIND_CONTIGUOUS && options.layout == DG_GROUP_INDEX;
    const int64_t groups = facts->kind == DG_KIND_K_GROUPED ? o.d.groups : o.b.groups;
    DG_TRY(check_layout_tensor(layout, by_row ? o.a.first.rows : groups,
                               by_row ? "one group index for each row of a" : "one for each group",
                               &o.layout));
    DG_TRY(describe(op, &o, &options, c_mode, &problem));
    return run(context, &problem, &o, &options, stream);
}

// The name of the function is put before the text of every failure.
static dg_status named_grouped(dg_op op, PARAMETERS)
{
    const dg_status status = grouped(op, context, a, b, d, c, layout, given, stream);
    if (__builtin_expect(status != DG_OK, 0))
        return dg_fail_context(status, "dg_%s", dg_problem_op(op)->function);
    return DG_OK;
}

#define DEFINE_GROUPED(function, op)                                                               \
    dg_status function(PARAMETERS)                                                                 \
    {                                                                                              \
        return named_grouped(op, context, a, b, d, c, layout, given, stream);                      \
    }

DEFINE_GROUPED(dg_m_grouped_fp8_gemm_nt_contiguous, DG_OP_FP8_M_GROUPED_CONTIGUOUS)
DEFINE_GROUPED(dg_m_grouped_fp8_gemm_nn_contiguous, DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN)
DEFINE_GROUPED(dg_m_grouped_fp8_gemm_nt_masked, DG_OP_FP8_M_GROUPED_MASKED)
DEFINE_GROUPED(dg_k_grouped_fp8_gemm_nt_contiguous, DG_OP_FP8_K_GROUPED)
DEFINE_GROUPED(dg_k_grouped_fp8_gemm_tn_contiguous, DG_OP_FP8_K_GROUPED_TN)
