// SPDX-License-Identifier: MIT
// cpu_decode_x86.h - E4M3 to FP32 for the x86 tables, 256 codes at a time.  Included by a kernel file
// after cpu_tile_template.h, with one more name defined:
//
//   STORE_16(out, halves, factor)   16 FP16 in a __m256i, as FP32 times a power of two, to 16 floats
//
// The idea: s.eeee.mmm moved to the places of FP16's sign, low exponent and high mantissa bits is an
// FP16 number 2^-8 times as large, subnormals included, and the processor converts FP16 to FP32
// exactly.  Weights stay 2^-8 too small and activations are made 2^8 too large, so that products are
// right and only the few activations pay for a multiplication.  NaN codes would become 480 * 2^-8:
// blocks that hold one are found by a comparison and corrected afterwards, code by code.
#include "backend/cpu/cpu_convert.h"

#include <immintrin.h>
#include <stdbool.h>

#define WEIGHT_FACTOR 1.0f        // decoded weights are 2^-8 times their value
#define ACTIVATION_FACTOR 0x1p16f // decoded activations are 2^8 times theirs

// Bytes in the upper half of each 16-bit lane to FP16.
TARGET static inline __m256i halves_from_upper_bytes(__m256i upper)
{
    return _mm256_and_si256(_mm256_srai_epi16(upper, 1), _mm256_set1_epi16((short)0xbfff));
}

TARGET static inline __m256i nan_codes(__m256i codes)
{
    const __m256i magnitude = _mm256_set1_epi8(0x7f);
    return _mm256_cmpeq_epi8(_mm256_and_si256(codes, magnitude), magnitude);
}

// 16 bytes of row i in the lower lane, of row i + 8 in the upper one.
TARGET static inline __m256i load_row_pair(const uint8_t *const *rows, int row, int k)
{
    const __m128i low = _mm_loadu_si128((const __m128i *)(rows[row] + k));
    const __m128i high = _mm_loadu_si128((const __m128i *)(rows[row + 8] + k));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// `pair` holds two k: 8 rows each in the lower lane, the 8 rows after them in the upper lane.
TARGET static inline void store_two_k(float *out, __m256i pair)
{
    const __m256i zero = _mm256_setzero_si256();
    STORE_16(out, halves_from_upper_bytes(_mm256_unpacklo_epi8(zero, pair)), WEIGHT_FACTOR);
    STORE_16(out + PANEL, halves_from_upper_bytes(_mm256_unpackhi_epi8(zero, pair)), WEIGHT_FACTOR);
}

// 16 rows x 16 k, transposed on the way: three rounds of interleaving put 8 rows of one k side by side.
TARGET static inline __m256i decode_16x16(float *out, const uint8_t *const *rows, int k)
{
    const __m256i r0 = load_row_pair(rows, 0, k), r1 = load_row_pair(rows, 1, k);
    const __m256i r2 = load_row_pair(rows, 2, k), r3 = load_row_pair(rows, 3, k);
    const __m256i r4 = load_row_pair(rows, 4, k), r5 = load_row_pair(rows, 5, k);
    const __m256i r6 = load_row_pair(rows, 6, k), r7 = load_row_pair(rows, 7, k);
    const __m256i nan_0123 = _mm256_or_si256(_mm256_or_si256(nan_codes(r0), nan_codes(r1)),
                                             _mm256_or_si256(nan_codes(r2), nan_codes(r3)));
    const __m256i nan_4567 = _mm256_or_si256(_mm256_or_si256(nan_codes(r4), nan_codes(r5)),
                                             _mm256_or_si256(nan_codes(r6), nan_codes(r7)));

    const __m256i r01_low = _mm256_unpacklo_epi8(r0, r1), r01_high = _mm256_unpackhi_epi8(r0, r1);
    const __m256i r23_low = _mm256_unpacklo_epi8(r2, r3), r23_high = _mm256_unpackhi_epi8(r2, r3);
    const __m256i r45_low = _mm256_unpacklo_epi8(r4, r5), r45_high = _mm256_unpackhi_epi8(r4, r5);
    const __m256i r67_low = _mm256_unpacklo_epi8(r6, r7), r67_high = _mm256_unpackhi_epi8(r6, r7);

    const __m256i r03_k0 = _mm256_unpacklo_epi16(r01_low, r23_low);
    const __m256i r47_k0 = _mm256_unpacklo_epi16(r45_low, r67_low);
    const __m256i r03_k4 = _mm256_unpackhi_epi16(r01_low, r23_low);
    const __m256i r47_k4 = _mm256_unpackhi_epi16(r45_low, r67_low);
    const __m256i r03_k8 = _mm256_unpacklo_epi16(r01_high, r23_high);
    const __m256i r47_k8 = _mm256_unpacklo_epi16(r45_high, r67_high);
    const __m256i r03_k12 = _mm256_unpackhi_epi16(r01_high, r23_high);
    const __m256i r47_k12 = _mm256_unpackhi_epi16(r45_high, r67_high);

    store_two_k(out, _mm256_unpacklo_epi32(r03_k0, r47_k0));
    store_two_k(out + 2 * PANEL, _mm256_unpackhi_epi32(r03_k0, r47_k0));
    store_two_k(out + 4 * PANEL, _mm256_unpacklo_epi32(r03_k4, r47_k4));
    store_two_k(out + 6 * PANEL, _mm256_unpackhi_epi32(r03_k4, r47_k4));
    store_two_k(out + 8 * PANEL, _mm256_unpacklo_epi32(r03_k8, r47_k8));
    store_two_k(out + 10 * PANEL, _mm256_unpackhi_epi32(r03_k8, r47_k8));
    store_two_k(out + 12 * PANEL, _mm256_unpacklo_epi32(r03_k12, r47_k12));
    store_two_k(out + 14 * PANEL, _mm256_unpackhi_epi32(r03_k12, r47_k12));
    return _mm256_or_si256(nan_0123, nan_4567);
}

static void put_nans(float *panel, const uint8_t *const *rows)
{
    for (int column = 0; column < PANEL; column++)
        for (int k = 0; k < CPU_BLOCK_K; k++)
            if ((rows[column][k] & 0x7f) == 0x7f)
                panel[k * PANEL + column] = dg_cpu_e4m3_values[0x7f];
}

TARGET static void decode_panel(void *panel, const uint8_t *const *rows)
{
    __m256i nans = _mm256_setzero_si256();
    for (int group = 0; group < PANEL; group += 16)
        for (int k = 0; k < CPU_BLOCK_K; k += 16)
            nans = _mm256_or_si256(
                nans, decode_16x16((float *)panel + k * PANEL + group, rows + group, k));
    if (!_mm256_testz_si256(nans, nans))
        put_nans(panel, rows);
}

// 16 codes that follow one another, as FP32 times a factor; sets *has_nan if one is NaN.
TARGET static inline void decode_16(float *out, const uint8_t *codes, float factor, bool *has_nan)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)codes);
    const __m256i upper = _mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 8);
    const __m256i nans = nan_codes(_mm256_castsi128_si256(bytes));
    STORE_16(out, halves_from_upper_bytes(upper), factor);
    *has_nan |= !_mm_testz_si128(_mm256_castsi256_si128(nans), _mm256_castsi256_si128(nans));
}

static void put_nans_16(float *out, const uint8_t *codes)
{
    for (int i = 0; i < 16; i++)
        if ((codes[i] & 0x7f) == 0x7f)
            out[i] = dg_cpu_e4m3_values[0x7f];
}

TARGET static void decode_panel_mn(void *panel, const uint8_t *weights, int64_t k_stride,
                                   int32_t num_k)
{
    float *out = panel;
    for (int32_t k = 0; k < num_k; k++, weights += k_stride)
        for (int group = 0; group < PANEL; group += 16, out += 16) {
            bool has_nan = false;
            decode_16(out, weights + group, WEIGHT_FACTOR, &has_nan);
            if (has_nan)
                put_nans_16(out, weights + group);
        }
}

TARGET static void pack_rows(void *packed, int32_t first_row, const uint8_t *const *rows,
                             int32_t count)
{
    float *out = (float *)packed + (int64_t)first_row * CPU_BLOCK_K;
    for (int32_t row = 0; row < count; row++)
        for (int k = 0; k < CPU_BLOCK_K; k += 16, out += 16) {
            bool has_nan = false;
            decode_16(out, rows[row] + k, ACTIVATION_FACTOR, &has_nan);
            if (has_nan)
                put_nans_16(out, rows[row] + k);
        }
}
