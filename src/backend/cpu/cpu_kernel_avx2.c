// SPDX-License-Identifier: MIT
// cpu_kernel_avx2.c - the table for AVX2 with FMA and F16C: 16 registers of 8 lanes, tiles of 6 rows x
// 16 columns.  The instruction set is enabled per function, so the file needs no compiler flags.
#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define V __m256
#define LANES 8
#define TILE_ROWS 6
#define V_LOAD(from) _mm256_loadu_ps(from)
#define V_STORE(to, value) _mm256_storeu_ps(to, value)
#define V_SET1(x) _mm256_set1_ps(x)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_MUL(a, b) _mm256_mul_ps(a, b)
#define V_FUSED(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_ACCUMULATE(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#include "backend/cpu/cpu_tile_template.h"

#define STORE_16(out, halves, factor) store_16(out, halves, factor)

TARGET static inline void store_16(float *out, __m256i halves, float factor)
{
    __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
    __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
    if (factor != 1.0f) {
        low = _mm256_mul_ps(low, _mm256_set1_ps(factor));
        high = _mm256_mul_ps(high, _mm256_set1_ps(factor));
    }
    _mm256_storeu_ps(out, low);
    _mm256_storeu_ps(out + 8, high);
}

#include "backend/cpu/cpu_decode_x86.h"

// Where a lane is NaN, the one NaN that every table gives.
TARGET static inline __m256 one_nan(__m256 value)
{
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    return _mm256_blendv_ps(value, nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
}

// Rounds to nearest even; NaN lanes hold 0x7fc00000, which stays a NaN here.
TARGET static inline __m128i to_bf16(__m256 value)
{
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i upper = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
}

TARGET static inline void finish_8(const struct dg_cpu_finish *work, const float *total,
                                   int64_t d_offset, int64_t c_offset)
{
    __m256 value = _mm256_loadu_ps(total);
    if (work->type == DG_BF16) {
        if (work->c) {
            const uint16_t *c = (const uint16_t *)work->c + c_offset;
            const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)c));
            value = _mm256_add_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
        }
        uint16_t *d = (uint16_t *)work->d + d_offset;
        _mm_storeu_si128((__m128i *)d, to_bf16(one_nan(value)));
    } else {
        if (work->c)
            value = _mm256_add_ps(value, _mm256_loadu_ps((const float *)work->c + c_offset));
        _mm256_storeu_ps((float *)work->d + d_offset, one_nan(value));
    }
}

TARGET void dg_cpu_finish_avx2(const struct dg_cpu_finish *work, int32_t total_stride)
{
    const int32_t full = work->c && work->c_column_stride != 1 ? 0 : work->columns & ~7;
    for (int32_t row = 0; row < work->rows; row++) {
        const float *total = (const float *)work->total + (int64_t)row * total_stride;
        const int64_t d_row = row * work->d_stride, c_row = row * work->c_row_stride;
        for (int32_t column = 0; column < full; column += 8)
            finish_8(work, total + column, d_row + column, c_row + column);
    }
    if (full < work->columns)
        dg_cpu_finish_edge(work, full, total_stride);
}

static void finish(const struct dg_cpu_finish *work)
{
    dg_cpu_finish_avx2(work, PANEL);
}

TARGET float dg_cpu_find_amax_avx2(const float *x, int32_t count)
{
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 amax = _mm256_setzero_ps();
    int32_t i = 0;
    // With a NaN in its first operand the maximum is the second one: NaN is passed over.
    for (; i + 8 <= count; i += 8)
        amax = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), magnitude), amax);
    float lanes[8];
    _mm256_storeu_ps(lanes, amax);
    const float rest = dg_cpu_find_amax_c(x + i, count - i), best = dg_cpu_find_amax_c(lanes, 8);
    return rest > best ? rest : best;
}

// cpu_to_e4m3() on 8 lanes; every lane ends below 256.
TARGET static inline __m256i encode_8(__m256 value)
{
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
    const __m256i rebiased = _mm256_sub_epi32(magnitude, _mm256_set1_epi32(120 << 23));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(rebiased, 20), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff));
    const __m256i normal = _mm256_srli_epi32(_mm256_add_epi32(rebiased, bias), 20);
    const __m256 shifted = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p14f));
    const __m256i subnormal =
        _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x46800000));
    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c800000), magnitude);
    const __m256i is_large = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x43efffff));
    __m256i code = _mm256_blendv_epi8(normal, subnormal, is_small);
    code = _mm256_blendv_epi8(code, _mm256_set1_epi32(0x7f), is_large);
    return _mm256_or_si256(code, sign);
}

TARGET void dg_cpu_encode_avx2(uint8_t *q, const float *x, float factor, int32_t count)
{
    const __m256 factors = _mm256_set1_ps(factor);
    int32_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m256i low = encode_8(_mm256_mul_ps(_mm256_loadu_ps(x + i), factors));
        const __m256i high = encode_8(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8), factors));
        // Packing works within lanes: 0-3 8-11 | 4-7 12-15, put in order by the permutation.
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
        const __m128i bytes =
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((__m128i *)(q + i), bytes);
    }
    dg_cpu_encode_c(q + i, x + i, factor, count - i);
}

const struct dg_cpu_kernels dg_cpu_kernels_avx2 = {
    .isa = "avx2",
    .tile_rows = TILE_ROWS,
    .panel_columns = PANEL,
    .decode_panel = decode_panel,
    .decode_panel_mn = decode_panel_mn,
    .pack_rows = pack_rows,
    .multiply = multiply,
    .finish = finish,
    .find_amax = dg_cpu_find_amax_avx2,
    .encode = dg_cpu_encode_avx2,
    .spin_fma = spin_fma,
};
#endif
