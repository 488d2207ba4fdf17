// SPDX-License-Identifier: MIT
// sm90_mqa_linear.cuh - the weighted sum over heads without a relu, for the plain MQA kernel.
//
// A relu costs as much as the multiplication after it.  But
//
//     sum over h of w[h] relu(q[h] . k)  =  sum over h of w[h]/2 |q[h] . k|  +  (sum over h of w[h]/2 q[h]) . k
//
// where the absolute value is free, an operand's modifier, and the last bracket is one vector for each query.
// Two warps make it and write it as four E4M3 vectors (parts), each 16 times finer than the one before, which are
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
    STEPS = HEAD_ROWS / 4, // of eight heads
    TILES = DG_DEPTH / 32, // of 32 values: two rows of a product for each four lanes
};

// ---- instructions that only this needs: conversions (PTX ISA 9.7.9.22), mma (9.7.15.5) ----

// Two E4M3 values, the one at the lower address first, as FP16.
DG_DEVICE u32 dg_cvt_f16x2_e4m3x2(u32 packed)
{
    u32 values;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.rn.f16x2.e4m3x2 %0, low;}" : "=r"(values) : "r"(packed));
    return values;
}

DG_DEVICE u32 dg_cvt_f16x2_f32(float low, float high)
{
    u32 packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

// The FP16 number in the lower half.
DG_DEVICE float dg_cvt_f32_f16(u32 value)
{
    float wide;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low;}" : "=f"(wide) : "r"(value));
    return wide;
}

DG_DEVICE u32 dg_cvt_e4m3x4_f32(const float *values)
{
    u32 packed;
    asm("{.reg .b16 low, high;"
        " cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3; mov.b32 %0, {low, high};}"
        : "=r"(packed)
        : "f"(values[0]), "f"(values[1]), "f"(values[2]), "f"(values[3]));
    return packed;
}

// d += A * B for 16 x 16 and 16 x 8 values.  Lane 4g + j has of A rows g and g + 8 at k = 2j, 2j + 1 (a0, a1) and eight
// further on (a2, a3); of B column g at the same k; of D rows g and g + 8 at columns 2j, 2j + 1.
DG_DEVICE void dg_mma_f16(float *d, u32 a0, u32 a1, u32 a2, u32 a3, const u32 *b)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b[0]), "r"(b[1]));
}

// ---- the vectors: two warps ----

// Byte `byte` of row `row` of eight: TMA has swizzled them.
DG_DEVICE u32 swizzled(u32 row, u32 byte)
{
    const u32 offset = row * DG_DEPTH + byte;
    return offset ^ (offset >> 3 & (DG_DEPTH - 16));
}

// The exponent field of the largest of all lanes' values; 255 where one is not finite.
DG_DEVICE u32 largest_exponent(const float *values, int count)
{
    float most = 0;
#pragma unroll
    for (int i = 0; i < count; i++)
        most = dg_max_nan(most, fabsf(values[i]));
    return __reduce_max_sync(~0u, __float_as_uint(most)) >> 23;
}

DG_DEVICE float power_of_two(u32 exponent)
{
    return __uint_as_float(exponent << 23);
}

// B of sum_heads' products: of the eight heads of a step at k = 2 * head + b.  A weight, scaled to at most 512, is the
// sum of two FP16 numbers: columns 0, 1, 4, 5 have the first and the others the second, even ones at b = 0 and odd ones
// at b = 1.  The exponent field of the scale.
DG_DEVICE u32 spread_weights(u32 (*b)[2], u32 weights)
{
    const u32 lane = threadIdx.x % 32, is_second = lane / 8 % 2;
    const u32 select = lane / 4 % 2 ? 0x1044 : 0x4410; // half of a word, and zero in the other half
    float own[2 * STEPS];
#pragma unroll
    for (int i = 0; i < 2 * STEPS; i++)
        own[i] = __uint_as_float(dg_ld_shared(weights + (4 * i + lane % 4) * 4));
    const u32 scale = 262 - max(largest_exponent(own, 2 * STEPS), 9u);
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        const float low = own[2 * i] * power_of_two(scale), high = own[2 * i + 1] * power_of_two(scale);
        const u32 first = dg_cvt_f16x2_f32(low, high);
        const u32 second = dg_cvt_f16x2_f32(low - dg_cvt_f32_f16(first), high - dg_cvt_f32_f16(first >> 16));
        b[i][0] = __byte_perm(is_second ? second : first, 0, select);
        b[i][1] = __byte_perm(is_second ? second : first, 0, select == 0x1044 ? 0x3244 : 0x4432);
    }
    return scale;
}

// TILES words at a multiple of as many.
DG_DEVICE void ld_shared_words(u32 *words, u32 at)
{
    float four[4];
    if (TILES == 4)
        dg_ld_shared_v4(at, four);
#pragma unroll
    for (int i = 0; i < TILES; i++)
        words[i] = TILES == 4 ? __float_as_uint(four[i]) : dg_ld_shared(at + i * 4);
}

// Sums over a query's heads of weight times value.  Lane 4g + j gets values 4j ... 4j + 3 of the g-th eighth of the
// vector (j < TILES).  A is pairs of neighbouring values, its rows, of the eight heads of a step.
DG_DEVICE void sum_heads(float *sums, u32 heads, u32 query, const u32 (*b)[2])
{
    const u32 j = threadIdx.x % 4;
    const u32 at = heads + j / 2 * LINEAR_BYTES + swizzled(2 * query + j % 2, threadIdx.x % 32 / 4 * (4 * TILES));
    float tiles[TILES][4];
#pragma unroll
    for (int i = 0; i < TILES * 4; i++)
        tiles[i / 4][i % 4] = 0;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        u32 near[TILES], far[TILES];
        ld_shared_words(near, at + step * 4 * LINEAR_BYTES);
        ld_shared_words(far, at + (step * 4 + 2) * LINEAR_BYTES);
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
            dg_mma_f16(tiles[tile], dg_cvt_f16x2_e4m3x2(near[tile]), dg_cvt_f16x2_e4m3x2(near[tile] >> 16),
                       dg_cvt_f16x2_e4m3x2(far[tile]), dg_cvt_f16x2_e4m3x2(far[tile] >> 16), b[step]);
    }
    // Neighbours have the sums of the first and the second numbers of the same values; each keeps one of two tiles.
    const u32 is_odd = j % 2 && TILES > 1, is_upper = j / 2 && TILES == 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float even = is_upper ? tiles[2 % TILES][i] : tiles[0][i];
        const float odd = is_upper ? tiles[TILES - 1][i] : tiles[1 % TILES][i];
        sums[i] = (is_odd ? odd : even) + __shfl_xor_sync(~0u, is_odd || TILES == 1 ? even : odd, 1);
    }
}

// The parts of a query's vector, and behind its weights what the product of the first one is to be multiplied by.
// `q`: of the quad; `weights`: of the query.
DG_DEVICE void write_linear(u32 q, u32 weights, u32 query)
{
    const u32 lane = threadIdx.x % 32, byte = lane / 4 * (4 * TILES) + lane % 4 * 4, nan = 0x7fffffffu;
    u32 b[STEPS][2];
    float sums[4];
    const u32 scale = spread_weights(b, weights);
    sum_heads(sums, q + LINEAR_BYTES, query, b);
    const u32 exponent = max(largest_exponent(sums, 4), 8u);
    if (lane == 0)
        dg_st_shared(weights + 2 * HEAD_ROWS * 4,
                     exponent == 255 ? __uint_as_float(nan) : power_of_two(exponent - 7) * power_of_two(254 - scale));
#pragma unroll
    for (int i = 0; i < 4; i++)
        sums[i] *= power_of_two(261 - exponent); // the largest one is now 128 to 256
#pragma unroll
    for (int part = 0; part < LINEAR_PARTS; part++) {
        const u32 packed = dg_cvt_e4m3x4_f32(sums);
        if (lane % 4 < TILES)
            dg_st_shared_u32(q + part / 2 * (LINEAR_BYTES + HEADS_BYTES) + swizzled(2 * query + part % 2, byte), packed);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const u32 pair = dg_cvt_f16x2_e4m3x2(packed >> i / 2 * 16);
            sums[i] = (sums[i] - dg_cvt_f32_f16(pair >> i % 2 * 16)) * 16;
        }
    }
}

// ---- the sum: math groups ----

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
