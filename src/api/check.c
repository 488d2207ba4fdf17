// SPDX-License-Identifier: MIT
// check.c - the rules that tensors and scales must keep.
//
// The checks run on every call, so the ways out of a failure are kept out of line.
#include "api/check.h"

#include "base/overflow.h"
#include "plan/problem.h"

#include <stdio.h>

#define COLD __attribute__((cold, noinline))
#define LL(x) ((long long)(x))

// --- texts ---

COLD static dg_status fail_type(const char *name, dg_type type, unsigned types)
{
    char known[96] = "";
    size_t length = 0;
    for (unsigned t = 0; t < 32; t++)
        if (types & DG_TYPE_BIT(t))
            length += (size_t)snprintf(known + length, sizeof known - length, "%s%s",
                                       length ? " or " : "", dg_type_name((dg_type)t));
    return dg_fail(DG_INVALID_ARGUMENT, "%s.type = %s (%d): must be %s", name, dg_type_name(type),
                   (int)type, known);
}

COLD static dg_status fail_negative(const char *name, const char *what, int index, int64_t value)
{
    return dg_fail(DG_INVALID_ARGUMENT, "%s.%s[%d] = %lld: must not be negative", name, what, index,
                   LL(value));
}

COLD static dg_status fail_extent(const char *name, const struct dg_tensor *tensor)
{
    return dg_fail(DG_INVALID_ARGUMENT,
                   "%s: shape [%lld, %lld] with stride [%lld, %lld] does not fit 64-bit addresses",
                   name, LL(tensor->shape[0]), LL(tensor->shape[1]), LL(tensor->stride[0]),
                   LL(tensor->stride[1]));
}

COLD static dg_status fail_data(const char *name, const struct dg_tensor *tensor)
{
    if (!tensor->data)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.data is NULL, but shape [%lld, %lld] has elements",
                       name, LL(tensor->shape[0]), LL(tensor->shape[1]));
    return dg_fail(DG_INVALID_ARGUMENT, "%s.data = %p: must be a multiple of %zu bytes for %s",
                   name, tensor->data, dg_type_bytes(tensor->type), dg_type_name(tensor->type));
}

COLD static dg_status fail_stride(const struct dg_checked *matrix, const char *rule)
{
    const int64_t *shape = matrix->tensor->shape, *stride = matrix->tensor->stride;
    return dg_fail(DG_INVALID_ARGUMENT, "%s.stride = [%lld, %lld] with shape [%lld, %lld]: %s",
                   matrix->name, LL(stride[0]), LL(stride[1]), LL(shape[0]), LL(shape[1]), rule);
}

// --- matrices ---

static dg_status check_extent(const char *name, const struct dg_tensor *tensor,
                              const struct dg_checked *c)
{
    int64_t bytes, elements, element = (int64_t)dg_type_bytes(c->type);
    uintptr_t end;
    if (!dg_multiply_fits(c->rows, c->columns, &elements) ||
        !dg_extent_fits(c->rows, c->columns, c->row_stride, c->column_stride, element, &bytes))
        return fail_extent(name, tensor);
    if (bytes == 0)
        return DG_OK;
    if (!c->data || (uintptr_t)c->data & (uintptr_t)(element - 1))
        return fail_data(name, tensor);
    if (__builtin_add_overflow((uintptr_t)c->data, (uintptr_t)bytes, &end))
        return fail_extent(name, tensor);
    return DG_OK;
}

dg_status dg_check_matrix(const char *name, const struct dg_tensor *tensor, unsigned types,
                          bool transposed, struct dg_checked *checked)
{
    if (!tensor)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", name);
    unsigned type = (unsigned)tensor->type;
    if (type >= 32 || !(types & DG_TYPE_BIT(type)))
        return fail_type(name, tensor->type, types);
    if (tensor->rank != 2)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.rank = %d: must be 2", name, (int)tensor->rank);
    for (int i = 0; i < 2; i++) {
        if (tensor->shape[i] < 0)
            return fail_negative(name, "shape", i, tensor->shape[i]);
        if (tensor->shape[i] > 1 && tensor->stride[i] < 0)
            return fail_negative(name, "stride", i, tensor->stride[i]);
    }
    int row = transposed, column = !transposed;
    struct dg_checked c = {
        .name = name,
        .tensor = tensor,
        .transposed = transposed,
        .data = tensor->data,
        .type = tensor->type,
        .rows = tensor->shape[row],
        .columns = tensor->shape[column],
        .row_stride = tensor->stride[row],
        .column_stride = tensor->stride[column],
    };
    dg_layout_normalise(c.rows, c.columns, &c.row_stride, &c.column_stride);
    *checked = c;
    return check_extent(name, tensor, &c);
}

dg_status dg_check_unit_stride(const struct dg_checked *matrix)
{
    if (matrix->row_stride != 1 && matrix->column_stride != 1)
        return fail_stride(matrix, "one of the two strides must be 1");
    return DG_OK;
}

dg_status dg_check_distinct(const struct dg_checked *matrix)
{
    int64_t inner = matrix->column_stride, inner_size = matrix->columns;
    int64_t outer = matrix->row_stride, outer_size = matrix->rows, end;
    if (inner_size == 0 || outer_size == 0)
        return DG_OK;
    if (outer_size > 1 && (inner_size == 1 || outer < inner)) {
        inner = matrix->row_stride, inner_size = matrix->rows;
        outer = matrix->column_stride, outer_size = matrix->columns;
    }
    if (inner_size > 1 && inner == 0)
        return fail_stride(matrix, "elements of an output must not overlap; a stride is 0");
    if (outer_size > 1 && (!dg_multiply_fits(inner_size - 1, inner, &end) || outer <= end))
        return fail_stride(matrix, "elements of an output must not overlap; the larger stride must "
                                   "exceed the extent of the other dimension");
    return DG_OK;
}

dg_status dg_check_row_major_output(const struct dg_checked *matrix)
{
    if (matrix->column_stride != 1)
        return fail_stride(matrix, "the last stride of an output must be 1");
    if (matrix->rows > 1 && matrix->row_stride < matrix->columns)
        return fail_stride(matrix,
                           "rows of an output must not overlap; the first stride must be at "
                           "least the length of a row");
    return DG_OK;
}

COLD static dg_status fail_shape(const struct dg_checked *matrix, int64_t rows, int64_t columns,
                                 const char *rule)
{
    const int64_t *shape = matrix->tensor->shape;
    return dg_fail(DG_INVALID_ARGUMENT, "%s.shape = [%lld, %lld]: must be [%lld, %lld]: %s",
                   matrix->name, LL(shape[0]), LL(shape[1]),
                   LL(matrix->transposed ? columns : rows), LL(matrix->transposed ? rows : columns),
                   rule);
}

dg_status dg_check_shape(const struct dg_checked *matrix, int64_t rows, int64_t columns,
                         const char *rule)
{
    if (matrix->rows != rows || matrix->columns != columns)
        return fail_shape(matrix, rows, columns, rule);
    return DG_OK;
}

// --- scales ---

COLD static dg_status fail_scale_shape(const struct dg_checked *scales,
                                       const struct dg_scale_rule *rule, int64_t rows,
                                       int64_t columns)
{
    const struct dg_checked *values = rule->values;
    bool turn = values->transposed;
    bool packed = scales->type == DG_UE8M0X4;
    char text[192];
    snprintf(text, sizeof text, "%s has shape [%lld, %lld] in blocks of %lld x %lld%s%s",
             values->name, LL(values->tensor->shape[0]), LL(values->tensor->shape[1]),
             LL(turn ? rule->block_columns : rule->block_rows),
             LL(turn ? rule->block_rows : rule->block_columns),
             packed ? ", and a ue8m0x4 word holds four scales along the " : "",
             !packed                   ? ""
             : rule->pack_rows != turn ? "first dimension"
                                       : "second dimension");
    return fail_shape(scales, rows, columns, text);
}

dg_status dg_check_scales(const char *name, const struct dg_tensor *tensor,
                          const struct dg_scale_rule *rule, struct dg_checked *scales)
{
    const struct dg_checked *values = rule->values;
    DG_TRY(dg_check_matrix(name, tensor, DG_TYPE_BIT(DG_F32) | DG_TYPE_BIT(DG_UE8M0X4),
                           values->transposed, scales));
    int64_t rows = dg_ceil_div(values->rows, rule->block_rows);
    int64_t columns = dg_ceil_div(values->columns, rule->block_columns);
    if (scales->type == DG_UE8M0X4 && rule->pack_rows)
        rows = dg_ceil_div(rows, 4);
    else if (scales->type == DG_UE8M0X4)
        columns = dg_ceil_div(columns, 4);
    if (scales->rows != rows || scales->columns != columns)
        return fail_scale_shape(scales, rule, rows, columns);
    return DG_OK;
}

// --- separation ---

// Addresses and extents may each take 63 bits, their sums more.
typedef __int128 wide;

static wide address_of(const struct dg_checked *matrix)
{
    return (uintptr_t)matrix->data;
}

// Equal runs of bytes at equal distances.
struct runs {
    wide start, length, count, step;
};

// Runs along the dimension with stride 1; `matrix` has one.
static struct runs runs_of(const struct dg_checked *matrix)
{
    wide bytes = dg_type_bytes(matrix->type);
    bool along_row = matrix->column_stride == 1;
    return (struct runs){
        .start = address_of(matrix),
        .length = bytes * (along_row ? matrix->columns : matrix->rows),
        .count = along_row ? matrix->rows : matrix->columns,
        .step = bytes * (along_row ? matrix->row_stride : matrix->column_stride),
    };
}

// Does some run share a byte with [start, start + length)?
static bool meets(const struct runs *runs, wide start, wide length)
{
    wide after = start + length - runs->start;        // a run that begins before this offset
    wide before = start - runs->start - runs->length; // and after this one
    if (after <= 0)
        return false;
    if (runs->count == 1 || runs->step == 0)
        return before < 0;
    wide first = before < 0 ? 0 : before / runs->step + 1;
    wide last = (after - 1) / runs->step;
    return first <= last && first < runs->count;
}

static bool matrices_meet(const struct dg_checked *matrix, const struct runs *runs)
{
    wide element = dg_type_bytes(matrix->type), start = address_of(matrix);
    bool in_rows = matrix->column_stride == 1;
    int64_t pieces = in_rows ? 1 : matrix->columns;
    wide length = element * (in_rows ? matrix->columns : 1);
    for (int64_t r = 0; r < matrix->rows; r++)
        for (int64_t c = 0; c < pieces; c++)
            if (meets(runs,
                      start + ((wide)r * matrix->row_stride + (wide)c * matrix->column_stride) *
                                  element,
                      length))
                return true;
    return false;
}

dg_status dg_check_apart(const struct dg_checked *matrix, const struct dg_checked *other)
{
    int64_t bytes;
    if (matrix->rows == 0 || matrix->columns == 0 || other->rows == 0 || other->columns == 0)
        return DG_OK;
    struct runs runs = runs_of(other);
    wide start = address_of(matrix);
    dg_extent_fits(matrix->rows, matrix->columns, matrix->row_stride, matrix->column_stride,
                   (int64_t)dg_type_bytes(matrix->type), &bytes);
    // The usual case is decided by the address ranges; only interleaved ones are walked.
    wide other_end = runs.start + (runs.count - 1) * runs.step + runs.length;
    if (start >= other_end || runs.start >= start + bytes || !matrices_meet(matrix, &runs))
        return DG_OK;
    return dg_fail(DG_INVALID_ARGUMENT, "%s.data = %p and %s.data = %p: must not overlap",
                   matrix->name, matrix->data, other->name, other->data);
}
