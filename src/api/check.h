// SPDX-License-Identifier: MIT
// check.h - the rules that tensors and scales must keep, each refused with a text that names the
// argument, its value and the rule.  Checks read descriptors only, never the data behind them.
#ifndef DG_API_CHECK_H
#define DG_API_CHECK_H

#include "backend/backend.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

// A matrix that passed dg_check_matrix: strides that no element uses are normalised (problem.h).
struct dg_checked {
    const char *name; // "a.values"; with the next two for texts
    const struct dg_tensor *tensor;
    bool transposed;
    void *data;
    dg_type type;
    int64_t rows, columns;
    int64_t row_stride, column_stride;
};

#define DG_TYPE_BIT(type) (1u << (type))

// Type (one of the DG_TYPE_BITs), rank 2, sizes, strides, data pointer and its alignment, 64-bit
// extent. `transposed`: the tensor is written as [columns, rows]; *checked is turned back.
dg_status dg_check_matrix(const char *name, const struct dg_tensor *tensor, unsigned types,
                          bool transposed, struct dg_checked *checked);

// Stride 1 along one of the two dimensions.
dg_status dg_check_unit_stride(const struct dg_checked *matrix);
// Of an output: no element is written twice.
dg_status dg_check_distinct(const struct dg_checked *matrix);
// Of an output: columns have stride 1 and rows do not overlap.
dg_status dg_check_row_major_output(const struct dg_checked *matrix);
// These sizes; `rule` says where they come from.
dg_status dg_check_shape(const struct dg_checked *matrix, int64_t rows, int64_t columns,
                         const char *rule);
// No byte in common.  `other` has stride 1 along one dimension.
dg_status dg_check_apart(const struct dg_checked *matrix, const struct dg_checked *other);

// The scales of `values` in blocks of block_rows x block_columns; packed words lie along columns,
// or along rows if pack_rows.  All of it as `values` was turned back; the tensor is written as
// values is.
struct dg_scale_rule {
    const struct dg_checked *values;
    int64_t block_rows, block_columns;
    bool pack_rows;
};
dg_status dg_check_scales(const char *name, const struct dg_tensor *tensor,
                          const struct dg_scale_rule *rule, struct dg_checked *scales);

static inline struct dg_matrix_view dg_view(const struct dg_checked *matrix)
{
    return (struct dg_matrix_view){matrix->data, matrix->row_stride, matrix->column_stride};
}

#endif
