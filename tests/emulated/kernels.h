// SPDX-License-Identifier: MIT
// kernels.h - what the sm90 kernels are meant to compute, element by element, from the arguments and tensor
// maps of a launch.  A map is here what the emulated driver (driver.c) makes of one: the address, columns,
// rows and bytes from row to row.
#ifndef DG_TESTS_EMULATED_KERNELS_H
#define DG_TESTS_EMULATED_KERNELS_H

#include "backend/sm90/sm90_args.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AT(pointer) ((void *)(uintptr_t)(pointer))

struct kernel {
    char name[64];
    int sfb_block_n, sf_packed, d_fp32;
    int sfa_tma, sfb_tma; // scales come by TMA
    int reads_c;
};

// Where element [y][x] of `bytes` is; NULL outside, where TMA reads zeros.
static const void *map_at(const struct dg_tensor_map *map, int64_t x, int64_t y, int bytes)
{
    const unsigned long long *word = map->words;
    const int is_inside = (uint64_t)x < word[1] && (uint64_t)y < word[2];
    return is_inside ? (const char *)AT(word[0]) + (uint64_t)y * word[3] + x * bytes : NULL;
}

static float decode(unsigned char code)
{
    const int exponent = code >> 3 & 15, fraction = code & 7;
    const float magnitude = (code & 0x7f) == 0x7f ? NAN
                            : exponent            ? ldexpf(8 + fraction, exponent - 10)
                                                  : ldexpf(fraction, -9);
    return code & 0x80 ? -magnitude : magnitude;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The value of an operand; its map is [row][k], or [k block][row][128].
static const unsigned char *value_at(const struct dg_tensor_map *map, int64_t k, int64_t row)
{
    const unsigned long long *word = map->words;
    if (word[4] == 0)
        return map_at(map, k, row, 1);
    const char *at = (uint64_t)(k / 128) < word[4] ? map_at(map, k % 128, row, 1) : NULL;
    return (const unsigned char *)(at ? at + (uint64_t)(k / 128) * word[5] : NULL);
}

// An operand decoded, rows of num_k_blocks * 128, zeros where the map ends.
static float *decode_rows(const struct dg_tensor_map *map, int rows, int num_k_blocks)
{
    const int columns = num_k_blocks * 128;
    float table[256], *out = calloc((size_t)rows * (size_t)columns, sizeof *out);
    for (int code = 0; code < 256; code++)
        table[code] = decode((unsigned char)code);
    for (int i = 0; out && i < rows; i++)
        for (int k = 0; k < columns; k++) {
            const unsigned char *at = value_at(map, k, i);
            if (at)
                out[(size_t)i * (size_t)columns + (size_t)k] = table[*at];
        }
    return out;
}

static float dot(const float *a, const float *b)
{
    float sums[8] = {0}, sum = 0;
    for (int k = 0; k < 128; k += 8)
        for (int i = 0; i < 8; i++)
            sums[i] += a[k + i] * b[k + i];
    for (int i = 0; i < 8; i++)
        sum += sums[i];
    return sum;
}

static float scale_at(const struct kernel *kernel, int by_tma, const struct dg_tensor_map *map,
                      int is_mn_map, const void *data, int64_t row_stride, int64_t k_stride,
                      int64_t row, int block)
{
    const int64_t word = kernel->sf_packed ? block / 4 : block;
    const void *at = !by_tma     ? (const char *)data + 4 * (row * row_stride + word * k_stride)
                     : is_mn_map ? map_at(map, row, word, 4)
                                 : map_at(map, word, row, 4);
    uint32_t bits = 0;
    if (at)
        memcpy(&bits, at, 4);
    if (!kernel->sf_packed)
        return from_bits(bits);
    const int exponent = bits >> block % 4 * 8 & 255;
    return exponent == 255 ? NAN : ldexpf(1, exponent - 127);
}

static float load_output(const struct kernel *kernel, const void *data, int64_t at)
{
    uint16_t half;
    if (kernel->d_fp32)
        return ((const float *)data)[at];
    memcpy(&half, (const char *)data + 2 * at, 2);
    return from_bits((uint32_t)half << 16);
}

static void store_output(const struct kernel *kernel, void *data, int64_t at, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t half =
        isnan(value) ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    if (kernel->d_fp32)
        ((float *)data)[at] = value;
    else
        memcpy((char *)data + 2 * at, &half, 2);
}

static float sum_element(const struct kernel *kernel, const struct dg_sm90_gemm_args *args,
                         const struct dg_sm90_maps *maps, const float *a, const float *b, int i,
                         int j)
{
    const int row_b = j / kernel->sfb_block_n;
    float total = 0;
    for (int block = 0; block < args->num_k_blocks; block++) {
        const float sfa = scale_at(kernel, kernel->sfa_tma, &maps->sfa, 1, args->sfa,
                                   args->sfa_row_stride, args->sfa_k_stride, i, block);
        const float sfb =
            scale_at(kernel, kernel->sfb_tma, &maps->sfb, kernel->sfb_block_n == 1, args->sfb,
                     args->sfb_row_stride, args->sfb_k_stride, row_b, block);
        total = fmaf(sfa * sfb, dot(a + block * 128, b + block * 128), total);
    }
    if (kernel->reads_c && args->c_mode == DG_SM90_C_READ)
        total += load_output(kernel, args->c, i * args->c_row_stride + j * args->c_column_stride);
    return total;
}

static void run_gemm(const struct kernel *kernel, const struct dg_sm90_gemm_args *args,
                     const struct dg_sm90_maps *maps)
{
    const size_t k = (size_t)args->num_k_blocks * 128;
    const int64_t element = kernel->d_fp32 ? 4 : 2;
    float *a = decode_rows(&maps->a, args->m, args->num_k_blocks);
    float *b = decode_rows(&maps->b, args->n, args->num_k_blocks);
    void *d = args->d_tma ? AT(maps->d.words[0]) : args->d;
    const int64_t stride = args->d_tma ? (int64_t)maps->d.words[3] / element : args->d_row_stride;
    for (int i = 0; i < args->m; i++)
        for (int j = 0; j < args->n; j++) {
            const int64_t at = i * stride + j;
            float value =
                sum_element(kernel, args, maps, a + (size_t)i * k, b + (size_t)j * k, i, j);
            if (args->c_mode == DG_SM90_C_REDUCE)
                value += load_output(kernel, d, at);
            store_output(kernel, d, at, value);
        }
    free(a);
    free(b);
}

// The y size of the grid: matrices.
static void run_repack(const struct dg_sm90_repack_args *args, unsigned matrices)
{
    for (unsigned z = 0; z < matrices; z++) {
        const unsigned char *source = args->source + z * args->source_matrix;
        unsigned char *target = args->target + z * args->target_matrix;
        for (int64_t i = 0; i < args->rows; i++)
            for (int64_t k = 0; k < args->pitch; k++)
                target[i * args->pitch + k] =
                    k < args->k ? source[i * args->row_stride + k * args->k_stride] : 0;
    }
}

// A CTA has 128 rows and 8 columns.
static void copy_scales(const struct dg_sm90_scales *scales, unsigned ctas)
{
    const unsigned tiles =
        (unsigned)((scales->rows + 127) / 128) * (unsigned)((scales->columns + 7) / 8);
    for (unsigned z = 0; tiles && z < ctas / tiles; z++) {
        const unsigned *source = scales->source + z * scales->source_matrix;
        unsigned *target = scales->target + z * scales->target_matrix;
        for (int64_t column = 0; column < scales->columns; column++)
            for (int64_t row = 0; row < scales->rows; row++)
                target[column * scales->pitch + row] =
                    source[row * scales->row_stride + column * scales->column_stride];
    }
}

static void run_scales_repack(const struct dg_sm90_scales_repack_args *args, unsigned ctas)
{
    copy_scales(&args->a, (unsigned)args->ctas_a);
    copy_scales(&args->b, ctas - (unsigned)args->ctas_a);
}

static void run_fill(const struct dg_sm90_fill_args *args)
{
    const size_t bytes = (size_t)args->element_bytes;
    for (int64_t i = 0; i < args->m; i++)
        for (int64_t j = 0; j < args->n; j++) {
            char *d = (char *)args->d + (i * args->d_row_stride + j) * args->element_bytes;
            const int64_t c = i * args->c_row_stride + j * args->c_column_stride;
            if (args->c)
                memcpy(d, (const char *)args->c + c * args->element_bytes, bytes);
            else
                memset(d, 0, bytes);
        }
}

#endif
