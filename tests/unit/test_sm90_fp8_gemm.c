// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm.c - the tiled dense kernel, run here with its threads as coroutines (lanes_async.h): random
// problems against sums in double, C, gaps and tails included.  This is 1D2D with scales in any layout and columns
// that are no power of two; others define their kernel and include this file.
#ifndef DG_BLOCK_M
#define DG_BLOCK_M 128
#define DG_BLOCK_N 112
#define DG_NUM_STAGES 6
#define DG_MATH_GROUPS 2
#define DG_SFB_BLOCK_N 128
#define DG_SCALES_TMA 0
#define DG_SF_PACKED 0
#define DG_D_FP32 0
#define DG_D_BUFFERS 2
#endif
#include "../lanes_gemm.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#ifdef DG_SPLIT // one tile to a CTA
#include "backend/sm90/sm90_fp8_gemm_split.cu"
enum { IS_SPLIT = 1 };
#else
#if DG_BLOCK_M < 64 * DG_MATH_GROUPS
#include "backend/sm90/sm90_fp8_gemm_panel.cu"
#else
#include "backend/sm90/sm90_fp8_gemm.cu"
#endif
#define DG_STAGE_BLOCKS 1
enum { IS_SPLIT = 0 };
#endif

// ---- a problem --------------------------------------------------------------------------------------

enum {
    MOST_M = 600,
    MOST_N = 400,
    MOST_K = IS_SPLIT || DG_D_FP32 ? 1000 : 600,
    MOST_BLOCKS = 8,
    GAP = 16,
    PITCH_K = 1024
};
static char a[MOST_M * PITCH_K], b[MOST_N * PITCH_K];
static float sfa[MOST_M * MOST_BLOCKS], sfb[MOST_N * MOST_BLOCKS];
static char c[MOST_M * (MOST_N + GAP) * 4], d[MOST_M * (MOST_N + GAP) * 4], before[sizeof d];
static struct dg_sm90_gemm_args args;
static struct dg_sm90_maps maps;
static int k;
static unsigned ctas;

static void fill(void)
{
    const int style = draw(0, 2);
    draw_values(a, sizeof a, style);
    draw_values(b, sizeof b, style);
    draw_scales(sfa, MOST_M * MOST_BLOCKS);
    draw_scales(sfb, MOST_N * MOST_BLOCKS);
    for (size_t i = 0; i < sizeof c; i += 4) {
        const float value = ldexpf((float)draw(-255, 255), draw(-4, 8));
        memcpy(c + i, (char *)&value + (DG_D_FP32 ? 0 : 2), DG_D_FP32 ? 4 : 2);
        memcpy(c + i + 2, (char *)&value + 2, 2);
    }
    memset(d, 0xff, sizeof d);
}

// As sm90_gemm.c makes them: the tiles as high as they need to be, in bands.
static void set_tiles(void)
{
    const int units_m = (args.m + DG_BLOCK_M - 1) / DG_BLOCK_M,
              rows = (args.m + units_m - 1) / units_m;
    args.tile_rows = units_m > 1 ? (rows + 15) & ~15 : (rows + 7) & ~7;
    args.units_m = (args.m + args.tile_rows - 1) / args.tile_rows;
    args.units_n = (args.n + DG_BLOCK_N - 1) / DG_BLOCK_N;
    args.band = IS_SPLIT ? args.units_m : draw(1, args.units_m);
    args.flags = IS_SPLIT && k % 128 == 0 ? DG_SM90_WHOLE_BLOCKS : 0;
    args.per_band = dg_sm90_divide_by((int64_t)args.band * args.units_n);
    args.per_column = dg_sm90_divide_by(args.band);
    args.per_last = dg_sm90_divide_by(args.units_m % args.band);
}

static void set_maps(void)
{
    const int blocks = args.num_k_blocks, columns = DG_SF_PACKED ? (blocks + 3) / 4 : blocks,
              element = DG_D_FP32 ? 4 : 2;
    struct lanes_map values = {
        .data = a, .stride = {1, PITCH_K, 128}, .swizzle = 128, .box = {128, args.tile_rows}};
    values.shape[0] = args.flags ? 128 : k, values.shape[1] = args.m;
    if (args.flags) // whole k-blocks, several to a box
        values.shape[2] = blocks, values.box[2] = DG_STAGE_BLOCKS;
    maps.a = lanes_encode(&values);
    values.data = b, values.shape[1] = args.n, values.box[1] = DG_BLOCK_N;
    maps.b = lanes_encode(&values);
    maps.d = lanes_encode(&(struct lanes_map){.data = d,
                                              .stride = {element, args.d_row_stride * element},
                                              .shape = {args.n, args.m},
                                              .box = {D_COLUMNS, 16},
                                              .element = element,
                                              .swizzle = D_ROW_BYTES});
    if (DG_SCALES_TMA) { // columns of scales lie behind one another, but for the few rows of B's blocks
        maps.sfa = lanes_encode(&(struct lanes_map){.data = (char *)sfa,
                                                    .stride = {4, args.sfa_k_stride * 4},
                                                    .shape = {args.m, columns},
                                                    .box = {args.tile_rows, 1},
                                                    .element = 4});
        maps.sfb = lanes_encode(DG_SFB_BLOCK_N == 1
                                    ? &(struct lanes_map){.data = (char *)sfb,
                                                          .stride = {4, args.sfb_k_stride * 4},
                                                          .shape = {args.sfb_rows, columns},
                                                          .box = {DG_BLOCK_N, 1},
                                                          .element = 4}
                                    : &(struct lanes_map){.data = (char *)sfb,
                                                          .stride = {4, args.sfb_row_stride * 4},
                                                          .shape = {columns, args.sfb_rows},
                                                          .box = {4, SFB_COUNT},
                                                          .element = 4});
    }
}

static void draw_problem(uint64_t seed)
{
    state = seed * 2 + 1;
    memset(&args, 0, sizeof args);
    args.m = draw(1, draw(0, 1) ? 300 : MOST_M);
    args.n = draw(1, MOST_N);
    k = draw(0, 3) ? draw(1, MOST_K) : 128 * draw(1, MOST_K / 128);
    ctas = 1 + (unsigned)seed % 3;
    const int is_staggered = DG_D_FP32 && draw(0, 2) == 0;
    if (is_staggered) { // as sm90_gemm.c has it, with k-blocks enough for two CTAs to begin at the fifth
        k = draw(900, MOST_K);
        ctas = 4;
        args.stagger = 65536 / 4;
    }
    args.num_k_blocks = (k + 127) / 128;
    fill();
    memcpy(before, d, sizeof d);
    const int by_columns = DG_SCALES_TMA || draw(0, 1);
    const int b_by_columns = DG_SFB_BLOCK_N == 1 ? by_columns : !DG_SCALES_TMA && by_columns;
    args.d_tma = is_staggered || draw(0, 1);
    if (args.d_tma)
        args.n = args.n < 8 ? 8 : args.n & ~7;
    args.sfb_rows = DG_SFB_BLOCK_N == 1 ? args.n : (args.n + 127) / 128;
    const int columns = DG_SF_PACKED ? (args.num_k_blocks + 3) / 4 : args.num_k_blocks;
    args.sfa = sfa, args.sfb = sfb;
    args.sfa_row_stride = by_columns ? 1 : columns;
    args.sfa_k_stride = by_columns ? args.m : 1;
    args.sfb_row_stride = b_by_columns ? 1 : columns;
    args.sfb_k_stride = b_by_columns ? args.sfb_rows : 1;
    args.d = d, args.c = c;
    args.d_row_stride = args.n + (args.d_tma ? draw(0, GAP / 8) * 8 : draw(0, GAP));
    args.c_row_stride = args.n + draw(0, GAP);
    args.c_column_stride = 1;
    args.c_mode = !DG_READS_C || draw(0, 2) ? DG_SM90_C_NONE : DG_SM90_C_READ;
    if (is_staggered || (DG_D_FP32 && args.d_tma && draw(0, 1))) {
        args.c_mode = DG_SM90_C_REDUCE;
        args.c = d, args.c_row_stride = args.d_row_stride;
        memcpy(d, c, sizeof d);
        memcpy(before, d, sizeof d);
    }
    args.c_in_pairs = draw_c_in_pairs(&args, 0);
    set_tiles();
    set_maps();
}

static double element_of(const char *matrix, i64 at)
{
    float value;
    if (DG_D_FP32)
        memcpy(&value, matrix + at * 4, 4);
    else
        value = __uint_as_float((u32)(uint8_t)matrix[at * 2] << 16 |
                                (u32)(uint8_t)matrix[at * 2 + 1] << 24);
    return value;
}

static double expected(int row, int column, double *terms)
{
    const int row_b = DG_SFB_BLOCK_N == 1 ? column : column / 128;
    *terms = 0;
    double sum =
        scaled_dot(a + row * PITCH_K, b + column * PITCH_K, k, sfa + row * args.sfa_row_stride,
                   args.sfa_k_stride, sfb + row_b * args.sfb_row_stride, args.sfb_k_stride, terms);
    if (args.c_mode != DG_SM90_C_NONE) {
        const double value = element_of(args.c_mode == DG_SM90_C_READ ? c : before,
                                        row * args.c_row_stride + column);
        sum += value;
        *terms += fabs(value);
    }
    return sum;
}

// The first element that is wrong, or -1: some of D against sums in double, and what is not D as before.
static i64 find_wrong(void)
{
    const i64 size = DG_D_FP32 ? 4 : 2, pitch = args.d_row_stride;
    for (i64 i = 0; i < (i64)sizeof d / size; i++) {
        const i64 row = i / pitch, column = i % pitch;
        double terms;
        if (row >= args.m || column >= args.n) {
            if (memcmp(d + i * size, before + i * size, (size_t)size) != 0)
                return i;
        } else if (random_next(&state) % 8 == 0) {
            const double want = expected((int)row, (int)column, &terms), got = element_of(d, i);
            const double allowed = terms * (DG_D_FP32 ? 1e-6 : 1e-6 + 0x1p-8);
            if (!(fabs(got - want) <= allowed))
                return i;
        }
    }
    return -1;
}

static void run_thread(void)
{
    run_kernel(args, maps);
}

static void test_random_problems(void)
{
    const int count = harness_scaled(40);
    for (int seed = 1; seed <= count; seed++) {
        draw_problem((uint64_t)seed);
        if (IS_SPLIT)
            ctas = (unsigned)(args.units_m * args.units_n);
        CHECK(lanes_run_grid(ctas, THREADS, run_thread),
              "seed %d: lanes went apart, or wait alone or for ever", seed);
        const i64 wrong = find_wrong();
        CHECK(wrong < 0, "seed %d: m=%d n=%d k=%d c=%d tma=%d: element %lld of row %lld", seed,
              args.m, args.n, k, args.c_mode, args.d_tma, wrong % args.d_row_stride,
              wrong / args.d_row_stride);
    }
}

int main(void)
{
    RUN(test_random_problems);
    return harness_end();
}
