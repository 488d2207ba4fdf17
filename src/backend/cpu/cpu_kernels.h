// SPDX-License-Identifier: MIT
// cpu_kernels.h - what an instruction set provides: one table of functions.  The loops around them,
// edges, strides and threads are in cpu_gemm.c and know no instruction set.
//
// The numeric contract, which every table keeps to the bit, per output and for each 128 of k:
//
//     part = +0
//     for each 32 of k:  even = +0 + a0*b0 + a2*b2 + ... ; odd = +0 + a1*b1 + a3*b3 + ...
//                        part = part + (even + odd)
//     total = fma(sf_a * sf_b, part, total)
//
// in FP32, k ascending, k padded with zeros to 32.  Products of two E4M3 values are exact in FP32, so
// fused or separate multiply-adds are the same.  This is the order in which the tile unit of x86
// (TDPBF16PS) adds, so a table for it can join.  At the end C is added, NaNs become one NaN (0x7fc00000),
// and BF16 is rounded to nearest even.
#ifndef DG_CPU_KERNELS_H
#define DG_CPU_KERNELS_H

#include "deepgemm.h"

#include <stdint.h>

enum {
    CPU_BLOCK_K = 128,      // values of k that share a scale
    CPU_CHUNK_K = 32,       // values of k that share an even and an odd sum
    CPU_PACK_ROWS = 16,     // most rows of one pack_rows call
    CPU_PANEL_COLUMNS = 32, // most columns of a panel
};

// One panel of weights times some rows of activations over one 128-block.
struct dg_cpu_multiply {
    const void *packed; // activations, as pack_rows left them
    const void *panel;  // weights, as decode_panel left them
    const float *sfa;   // one scale per row
    const float *sfb;   // one scale per column of the panel
    void *total;        // FP32 sums so far, [rows][panel_columns] or as the table likes
    int32_t rows;
    int32_t num_chunks; // 1 to 4
};

// Sums of one panel on their way to D.
struct dg_cpu_finish {
    const void *total;
    int32_t rows, columns; // columns <= panel_columns
    dg_type type;          // of C and D
    void *d;
    const void *c; // NULL: none
    int64_t d_stride, c_row_stride, c_column_stride;
};

// Panels, packed activations and totals are laid out as a table likes, in at most the bytes that FP32
// takes: 512 for a row of 128 k, 4 for a total.  Here tables keep them as [k][panel_columns],
// [row][128] and [row][panel_columns]; a tile unit would take BF16 weights as its first operand.
struct dg_cpu_kernels {
    const char *isa;
    int32_t tile_rows, panel_columns;

    // rows[panel_columns] point to 128 bytes of k each.
    void (*decode_panel)(void *panel, const uint8_t *const *rows);
    // The same from MN-major weights: panel_columns bytes at each of num_k places k_stride apart;
    // num_k is a multiple of 32.
    void (*decode_panel_mn)(void *panel, const uint8_t *weights, int64_t k_stride, int32_t num_k);
    // Packs rows first_row.. of an activation chunk; `count` <= 16 pointers to 128 bytes of k each.
    void (*pack_rows)(void *packed, int32_t first_row, const uint8_t *const *rows, int32_t count);
    void (*multiply)(const struct dg_cpu_multiply *work);
    void (*finish)(const struct dg_cpu_finish *work);

    // The largest magnitude; NaN is passed over.
    float (*find_amax)(const float *x, int32_t count);
    // q[i] = E4M3 of x[i] * factor.
    void (*encode)(uint8_t *q, const float *x, float factor, int32_t count);

    // Runs `rounds` of independent multiply-adds and returns how many floating-point operations that
    // was; *sink keeps the compiler from dropping them.
    double (*spin_fma)(int64_t rounds, float *sink);
};

extern const struct dg_cpu_kernels dg_cpu_kernels_c;
#if defined(__x86_64__)
extern const struct dg_cpu_kernels dg_cpu_kernels_avx2, dg_cpu_kernels_avx512;
#endif

// The best table this CPU can run, or the one that is named; NULL: unknown name or not runnable here.
const struct dg_cpu_kernels *dg_cpu_find_kernels(const char *isa);
// The table of that name whether or not this CPU can run it; NULL: unknown.
const struct dg_cpu_kernels *dg_cpu_describe_kernels(const char *isa);

// The plain C versions that other tables use for edges: columns from first_column on, of sums whose
// rows are total_stride apart.
void dg_cpu_finish_edge(const struct dg_cpu_finish *work, int32_t first_column,
                        int32_t total_stride);
float dg_cpu_find_amax_c(const float *x, int32_t count);
void dg_cpu_encode_c(uint8_t *q, const float *x, float factor, int32_t count);
#if defined(__x86_64__)
// AVX2 versions that AVX-512 shares.
void dg_cpu_finish_avx2(const struct dg_cpu_finish *work, int32_t total_stride);
float dg_cpu_find_amax_avx2(const float *x, int32_t count);
void dg_cpu_encode_avx2(uint8_t *q, const float *x, float factor, int32_t count);
#endif

#endif
