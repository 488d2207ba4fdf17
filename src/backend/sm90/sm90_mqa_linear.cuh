// SPDX-License-Identifier: MIT
// sm90_mqa_linear.cuh - the weighted sum over heads without a relu, for the plain MQA kernel.
//
// A relu costs as much as the multiplication after it.  But
//
//     sum over h of w[h] relu(q[h] . k)  =  sum over h of w[h]/2 |q[h] . k|  +  (sum over h of w[h]/2 q[h]) . k
//
// where the absolute value is free, an operand's modifier, and the last bracket is one vector for each query.
// A math group makes it and writes it as four E4M3 vectors (parts), each 16 times finer than the one before, which are
// multiplied with the keys as if they were heads.  Together they have 17 bits, more than the tensor cores keep.
//
// The queries of a quad in shared memory, as columns of its two products:
//
//     [parts 0 and 1, eight columns] [heads of piece 0] [heads of piece 1] [parts 2 and 3, eight columns]
//     \________________ first product ________________/ \_______________ second product _______________/
//
// Column 2l + b of eight is part b (or 2 + b) of query l, so that a query's parts meet its heads in one thread.
// Needs sm90_mqa.cuh with DG_LINEAR_ROWS == 1.
#ifndef DG_SM90_MQA_LINEAR_CUH
#define DG_SM90_MQA_LINEAR_CUH

#include "sm90_mqa.cuh"

static_assert(DG_PIECES == 2 && DG_LANES == 1, "the first product has two parts, the last one the other two");

enum {
    LINEAR_PARTS = 4,
    STEPS = HEAD_ROWS / 2, // of four heads
    WORDS = DG_DEPTH / 32, // of four values, of an eighth of a head
};

// ---- the vectors ----

// Byte `byte` of row `row` of eight: TMA has swizzled them.
DG_DEVICE u32 swizzled(u32 row, u32 byte)
{
    const u32 offset = row * DG_DEPTH + byte;
    return offset ^ (offset >> 3 & (DG_DEPTH - 16));
}

// The exponent field of the largest of all lanes' values; 255 where one is not finite.
DG_DEVICE u32 largest_exponent(const float *values)
{
    float most = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        most = dg_max_nan(most, fabsf(values[i]));
    return __reduce_max_sync(~0u, __float_as_uint(most)) >> 23;
}

DG_DEVICE float power_of_two(u32 exponent)
{
    return __uint_as_float(exponent << 23);
}

// WORDS words at a multiple of as many.
DG_DEVICE void ld_shared_words(u32 *words, u32 at)
{
    float four[4];
    if (WORDS == 4)
        dg_ld_shared_v4(at, four);
#pragma unroll
    for (int i = 0; i < WORDS; i++)
        words[i] = WORDS == 4 ? __float_as_uint(four[i]) : dg_ld_shared(at + i * 4);
}

// Adds the values of two lanes up, of which each wants to have half, or all where `is_shared`.
DG_DEVICE float exchange(float first, float second, int is_second, int is_shared, int distance)
{
    const float own = is_second && !is_shared ? second : first, other = is_second || is_shared ? first : second;
    return own + __shfl_xor_sync(~0u, other, distance);
}

// Sums over a query's heads of weight times value.  A step reads four heads; lane 8r + g has the g-th eighth of the r-th
// one, and in the end the sums of the eighth's word r % WORDS.
DG_DEVICE void sum_heads(float *sums, u32 heads, u32 weights, u32 query)
{
    const u32 g = threadIdx.x % 8, r = threadIdx.x % 32 / 8;
    const u32 at = heads + r / 2 * LINEAR_BYTES + swizzled(2 * query + r % 2, g * (4 * WORDS));
    float words[4][4]; // WORDS of them
#pragma unroll
    for (int i = 0; i < 16; i++)
        words[i / 4][i % 4] = 0;
#pragma unroll 4
    for (int step = 0; step < STEPS; step++) {
        const float weight = __uint_as_float(dg_ld_shared(weights + (4 * step + r) * 4));
        u32 packed[WORDS];
        ld_shared_words(packed, at + step * 2 * LINEAR_BYTES);
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            float values[4];
            dg_cvt_f32_e4m3x4(values, packed[i]);
#pragma unroll
            for (int j = 0; j < 4; j++)
                words[i][j] = fmaf(weight, values[j], words[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float lower = exchange(words[0][i], words[1][i], r % 2, WORDS == 1, 8);
        const float upper = exchange(words[2][i], words[3][i], r % 2, 0, 8);
        sums[i] = exchange(lower, upper, r / 2, WORDS < 4, 16);
    }
}

// The parts of a query's vector, and behind its weights what the product of the first one is to be multiplied by.
// `q`: of the quad; `weights`: of the query.
DG_DEVICE void write_linear(u32 q, u32 weights, u32 query)
{
    const u32 lane = threadIdx.x % 32, byte = lane % 8 * (4 * WORDS) + lane / 8 * 4, nan = 0x7fffffffu;
    float sums[4];
    sum_heads(sums, q + LINEAR_BYTES, weights, query);
    const u32 exponent = max(largest_exponent(sums), 8u);
    if (lane == 0)
        dg_st_shared(weights + 2 * HEAD_ROWS * 4, exponent == 255 ? __uint_as_float(nan) : power_of_two(exponent - 7));
#pragma unroll
    for (int i = 0; i < 4; i++)
        sums[i] *= power_of_two(261 - exponent); // the largest one is now 128 to 256
#pragma unroll
    for (int part = 0; part < LINEAR_PARTS; part++) {
        const u32 packed = dg_cvt_e4m3x4_f32(sums);
        float values[4];
        dg_cvt_f32_e4m3x4(values, packed);
        if (lane / 8 < WORDS)
            dg_st_shared_word(q + part / 2 * (LINEAR_BYTES + HEADS_BYTES) + swizzled(2 * query + part % 2, byte), packed);
#pragma unroll
        for (int i = 0; i < 4; i++)
            sums[i] = (sums[i] - values[i]) * 16;
    }
}

// ---- the sum ----

// sums[2 * row + b] += the heads' halved weights times the absolute values of their products.  NaN stays NaN.
DG_DEVICE void add_heads(float *sums, const float *acc, const float *weights)
{
#pragma unroll
    for (int i = 0; i < DG_HEAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            sums[j] = fmaf(fabsf(acc[4 * i + j]), weights[2 * i + j % 2], sums[j]);
}

// Adds the products of two parts; `scale`: of the first one.
DG_DEVICE void add_parts(float *sums, const float *acc, float scale)
{
#pragma unroll
    for (int row = 0; row < 2; row++)
        sums[2 * row] = fmaf(fmaf(acc[2 * row + 1], 1.0f / 16, acc[2 * row]), scale, sums[2 * row]);
}

#endif
