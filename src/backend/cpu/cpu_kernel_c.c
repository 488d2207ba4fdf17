// SPDX-License-Identifier: MIT
// cpu_kernel_c.c - the table for any processor: conversions byte by byte through a table, and the
// shared tile code over the compiler's own four-lane vectors.
#include "backend/cpu/cpu_convert.h"

#include <math.h>

typedef float four_floats __attribute__((vector_size(16)));

static inline four_floats load(const float *from)
{
    four_floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void store(float *to, four_floats value)
{
    memcpy(to, &value, sizeof value);
}

static inline four_floats fused(four_floats a, four_floats b, four_floats c)
{
    for (int i = 0; i < 4; i++)
        c[i] = fmaf(a[i], b[i], c[i]);
    return c;
}

#define TARGET
#define V four_floats
#define LANES 4
#define TILE_ROWS 6
#define V_LOAD(from) load(from)
#define V_STORE(to, value) store(to, value)
#define V_SET1(x) ((four_floats){x, x, x, x})
#define V_ADD(a, b) ((a) + (b))
#define V_MUL(a, b) ((a) * (b))
#define V_FUSED(a, b, c) fused(a, b, c)
#define V_ACCUMULATE(sum, a, b) (sum) = (sum) + (a) * (b)
#include "backend/cpu/cpu_tile_template.h"

// Codes count in steps of 2^-9 up to 2^-6, then the exponent takes over.
#define MAGNITUDE(code)                                                                            \
    ((code) == 0x7f ? NAN                                                                          \
     : (code) < 8   ? (float)(code) / 512                                                          \
                    : (float)(8 + ((code)&7)) * (float)(1 << ((code) >> 3)) / 1024)
#define ROW_OF_8(sign, code)                                                                       \
    sign MAGNITUDE(code), sign MAGNITUDE(code + 1), sign MAGNITUDE(code + 2),                      \
        sign MAGNITUDE(code + 3), sign MAGNITUDE(code + 4), sign MAGNITUDE(code + 5),              \
        sign MAGNITUDE(code + 6), sign MAGNITUDE(code + 7)
#define ROW_OF_64(sign, code)                                                                      \
    ROW_OF_8(sign, code), ROW_OF_8(sign, code + 8), ROW_OF_8(sign, code + 16),                     \
        ROW_OF_8(sign, code + 24), ROW_OF_8(sign, code + 32), ROW_OF_8(sign, code + 40),           \
        ROW_OF_8(sign, code + 48), ROW_OF_8(sign, code + 56)

const float dg_cpu_e4m3_values[256] = {
    ROW_OF_64(+, 0),
    ROW_OF_64(+, 64),
    ROW_OF_64(-, 0),
    ROW_OF_64(-, 64),
};

static void decode_panel(void *panel, const uint8_t *const *rows)
{
    float *out = panel;
    for (int column = 0; column < PANEL; column++)
        for (int k = 0; k < CPU_BLOCK_K; k++)
            out[k * PANEL + column] = dg_cpu_e4m3_values[rows[column][k]];
}

static void decode_panel_mn(void *panel, const uint8_t *weights, int64_t k_stride, int32_t num_k)
{
    float *out = panel;
    for (int32_t k = 0; k < num_k; k++)
        for (int column = 0; column < PANEL; column++)
            out[k * PANEL + column] = dg_cpu_e4m3_values[weights[k * k_stride + column]];
}

static void pack_rows(void *packed, int32_t first_row, const uint8_t *const *rows, int32_t count)
{
    float *out = (float *)packed + (int64_t)first_row * CPU_BLOCK_K;
    for (int32_t row = 0; row < count; row++, out += CPU_BLOCK_K)
        for (int k = 0; k < CPU_BLOCK_K; k++)
            out[k] = dg_cpu_e4m3_values[rows[row][k]];
}

static inline float finish_number(float value, const void *c, dg_type type, int64_t offset)
{
    if (c)
        value += cpu_load_number(c, type, offset);
    return value == value ? value : cpu_bits_float(0x7fc00000);
}

void dg_cpu_finish_edge(const struct dg_cpu_finish *work, int32_t first_column,
                        int32_t total_stride)
{
    for (int32_t row = 0; row < work->rows; row++) {
        const float *total = (const float *)work->total + (int64_t)row * total_stride;
        const int64_t d_row = row * work->d_stride, c_row = row * work->c_row_stride;
        for (int32_t column = first_column; column < work->columns; column++) {
            const int64_t c_offset = c_row + column * work->c_column_stride;
            const float value = finish_number(total[column], work->c, work->type, c_offset);
            if (work->type == DG_BF16)
                ((uint16_t *)work->d)[d_row + column] = cpu_to_bf16(value);
            else
                ((float *)work->d)[d_row + column] = value;
        }
    }
}

static void finish(const struct dg_cpu_finish *work)
{
    dg_cpu_finish_edge(work, 0, PANEL);
}

float dg_cpu_find_amax_c(const float *x, int32_t count)
{
    float amax = 0;
    for (int32_t i = 0; i < count; i++) {
        const float magnitude = fabsf(x[i]);
        amax = magnitude > amax ? magnitude : amax; // false for NaN
    }
    return amax;
}

void dg_cpu_encode_c(uint8_t *q, const float *x, float factor, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        q[i] = cpu_to_e4m3(x[i] * factor);
}

const struct dg_cpu_kernels dg_cpu_kernels_c = {
    .isa = "c",
    .tile_rows = TILE_ROWS,
    .panel_columns = PANEL,
    .decode_panel = decode_panel,
    .decode_panel_mn = decode_panel_mn,
    .pack_rows = pack_rows,
    .multiply = multiply,
    .finish = finish,
    .find_amax = dg_cpu_find_amax_c,
    .encode = dg_cpu_encode_c,
    .spin_fma = spin_fma,
};
