// SPDX-License-Identifier: MIT
// overflow.h - size arithmetic that notices when it leaves 64 bits.  Each returns true when the
// exact result fits and was stored.
#ifndef DG_BASE_OVERFLOW_H
#define DG_BASE_OVERFLOW_H

#include <stdbool.h>
#include <stdint.h>

static inline bool dg_add_fits(int64_t x, int64_t y, int64_t *sum)
{
    return !__builtin_add_overflow(x, y, sum);
}

static inline bool dg_multiply_fits(int64_t x, int64_t y, int64_t *product)
{
    return !__builtin_mul_overflow(x, y, product);
}

// Bytes from the first byte to the last one of a matrix; 0 when it has no elements.  Sizes and
// strides must not be negative.
static inline bool dg_extent_fits(int64_t rows, int64_t columns, int64_t row_stride,
                                  int64_t column_stride, int64_t element_bytes, int64_t *bytes)
{
    int64_t down, right, elements;
    *bytes = 0;
    if (rows == 0 || columns == 0)
        return true;
    return dg_multiply_fits(rows - 1, row_stride, &down) &&
           dg_multiply_fits(columns - 1, column_stride, &right) &&
           dg_add_fits(down, right, &elements) && dg_add_fits(elements, 1, &elements) &&
           dg_multiply_fits(elements, element_bytes, bytes);
}

// x / y rounded up, for x >= 0 and y > 0, without overflow.
static inline int64_t dg_ceil_div(int64_t x, int64_t y)
{
    return x / y + (x % y != 0);
}

#endif
