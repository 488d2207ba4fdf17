// SPDX-License-Identifier: MIT
// lanes_gemm.h - what the tests that run a GEMM kernel as coroutines have in common: the kernel's parameters that none of
// them varies, random values and scales, and sums in double.  To be included before the kernel, after those of
// its parameters that a test does vary.
#ifndef DG_TESTS_LANES_GEMM_H
#define DG_TESTS_LANES_GEMM_H

#ifndef DG_READS_C
#define DG_READS_C 1
#endif
#define DG_CLUSTER_M 1
#define DG_CLUSTER_N 1
#define DG_ALL_LANES 0
#define DG_LOAD_REGISTERS 40
#define DG_MATH_REGISTERS 232
#define DG_ENTRY run_kernel
#define LANES_ROW_BYTES 128
#define LANES_COLUMNS DG_BLOCK_N

#include "harness.h"
#include "random_problem.h"

#include "backend/sm90/sm90_gemm.h"

#include <assert.h>

#include "lanes_async.h"

#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"

// ---- random problems --------------------------------------------------------------------------------

static uint64_t state;

static int draw(int least, int most)
{
    return (int)random_range(&state, least, most);
}

static void draw_values(char *values, size_t count, int style)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (char)random_code(&state, style);
}

// An element of C, -0 at times: it stays so where nothing is added.
static float draw_addend(void)
{
    return draw(0, 15) ? ldexpf((float)draw(-255, 255), draw(-4, 8)) : -0.0f;
}

// As dg_sm90_operand_args has it; at times C is read element by element all the same.
static int draw_c_in_pairs(const struct dg_sm90_gemm_args *args, i64 group)
{
    return args->c_column_stride == 1 && args->c_row_stride % 2 == 0 && group % 2 == 0 &&
           (uintptr_t)args->c % (DG_D_FP32 ? 8 : 4) == 0 && draw(0, 3);
}

// FP32, or the exponents of four blocks.
static void draw_scales(float *scales, int count)
{
    for (int i = 0; i < count; i++) {
        u32 word = 0;
        for (int j = 0; DG_SF_PACKED && j < 4; j++)
            word |= (u32)draw(121, 133) << 8 * j;
        scales[i] = DG_SF_PACKED ? __uint_as_float(word)
                                 : ldexpf(1 + (float)draw(0, 255) / 256, draw(-6, 6));
    }
}

// ---- sums in double ---------------------------------------------------------------------------------

// The scale of a k-block; `scales`: of a row.
static double scale_at(const float *scales, int block, i64 k_stride)
{
    const float *word = scales + (DG_SF_PACKED ? block / 4 : block) * k_stride;
    return DG_SF_PACKED ? ldexp(1, (int)(__float_as_uint(*word) >> block % 4 * 8 & 255) - 127)
                        : *word;
}

// A row of A by one of B, with their scales; *terms grows by the magnitudes.
static double scaled_dot(const char *a, const char *b, int k, const float *sfa, i64 sfa_k_stride,
                         const float *sfb, i64 sfb_k_stride, double *terms)
{
    double sum = 0;
    for (int from = 0; from < k; from += 128) {
        const double scale =
            scale_at(sfa, from / 128, sfa_k_stride) * scale_at(sfb, from / 128, sfb_k_stride);
        double size = 0;
        sum += lanes_dot(a + from, b + from, k - from < 128 ? k - from : 128, &size) * scale;
        *terms += size * scale;
    }
    return sum;
}

#endif
