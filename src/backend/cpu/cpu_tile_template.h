// SPDX-License-Identifier: MIT
// cpu_tile_template.h - the multiplication of decoded activations with a decoded panel, written once
// for every vector instruction set.  A kernel file defines the names below and includes this file once.
//
//   TARGET                 function attribute that enables the instruction set, or nothing
//   V, LANES               a vector of LANES floats; a panel has 2 * LANES columns
//   TILE_ROWS              6 with 16 vector registers, 12 with 32
//   V_LOAD V_STORE V_SET1 V_ADD V_MUL
//   V_FUSED(a, b, c)         a * b + c with one rounding
//   V_ACCUMULATE(sum, a, b)  sum = a * b + sum, fused or not: used where a * b is exact
//
// It provides `multiply` and `spin_fma` for the table of kernels.
//
// Layout: activations are rows of 128 floats; a panel is [k][2 * LANES] floats, so that one row of it
// times one broadcast activation extends 2 * LANES sums.
//
// The contract (cpu_kernels.h) asks for separate sums over even and odd k.  Few rows keep both in
// registers, which also gives the FMA units enough independent chains; many rows take all registers
// for one parity, so the even sums of a chunk wait in memory (in L1) until the odd ones are there.
// Macros stand for the unrolled rows because the sums must be named variables to stay in registers.
#include "backend/cpu/cpu_kernels.h"

#define PANEL (2 * LANES)
#define NOINLINE __attribute__((noinline))

#define REPEAT_1(X) X(0)
#define REPEAT_2(X) REPEAT_1(X) X(1)
#define REPEAT_3(X) REPEAT_2(X) X(2)
#define REPEAT_4(X) REPEAT_3(X) X(3)
#define REPEAT_5(X) REPEAT_4(X) X(4)
#define REPEAT_6(X) REPEAT_5(X) X(5)
#define REPEAT_7(X) REPEAT_6(X) X(6)
#define REPEAT_8(X) REPEAT_7(X) X(7)
#define REPEAT_9(X) REPEAT_8(X) X(8)
#define REPEAT_10(X) REPEAT_9(X) X(9)
#define REPEAT_11(X) REPEAT_10(X) X(10)
#define REPEAT_12(X) REPEAT_11(X) X(11)

// A sum starts with its first product instead of 0 + product: they differ in the sign of a zero only,
// which adding the sum to `part` removes, because part starts from +0.
#define DECLARE(r, sum) V sum##_##r##_0, sum##_##r##_1;
#define START(r, sum)                                                                              \
    x = V_SET1(a[(r)*CPU_BLOCK_K]);                                                                \
    sum##_##r##_0 = V_MUL(x, b_0);                                                                 \
    sum##_##r##_1 = V_MUL(x, b_1);
#define EXTEND(r, sum)                                                                             \
    x = V_SET1(a[(r)*CPU_BLOCK_K]);                                                                \
    V_ACCUMULATE(sum##_##r##_0, x, b_0);                                                           \
    V_ACCUMULATE(sum##_##r##_1, x, b_1);
#define KEEP(r, sum)                                                                               \
    V_STORE(even[r], sum##_##r##_0);                                                               \
    V_STORE(even[r] + LANES, sum##_##r##_1);
#define FOLD(r, even_0, even_1, sum)                                                               \
    V_STORE(part[r], V_ADD(V_LOAD(part[r]), V_ADD(even_0, sum##_##r##_0)));                        \
    V_STORE(part[r] + LANES, V_ADD(V_LOAD(part[r] + LANES), V_ADD(even_1, sum##_##r##_1)));

// One k: a row of the panel times one activation per row.  `distance` leads to the next k of interest.
#define STEP(REPEAT, WHAT, distance)                                                               \
    b_0 = V_LOAD(b);                                                                               \
    b_1 = V_LOAD(b + LANES);                                                                       \
    REPEAT(WHAT)                                                                                   \
    a += distance;                                                                                 \
    b += (distance)*PANEL;

#define DECLARE_EVEN(r) DECLARE(r, even)
#define DECLARE_ODD(r) DECLARE(r, odd)
#define START_EVEN(r) START(r, even)
#define START_ODD(r) START(r, odd)
#define EXTEND_EVEN(r) EXTEND(r, even)
#define EXTEND_ODD(r) EXTEND(r, odd)
#define FOLD_BOTH(r) FOLD(r, even_##r##_0, even_##r##_1, odd)
// part[ROWS] += the sums of one chunk, even and odd k at a time.
#define DEFINE_SMALL_CHUNK(ROWS)                                                                   \
    TARGET static void chunk_##ROWS(const float *a, const float *b, float(*part)[PANEL])           \
    {                                                                                              \
        V x, b_0, b_1;                                                                             \
        REPEAT_##ROWS(DECLARE_EVEN) REPEAT_##ROWS(DECLARE_ODD) STEP(REPEAT_##ROWS, START_EVEN, 1)  \
            STEP(REPEAT_##ROWS, START_ODD,                                                         \
                 1) for (int step = 0; step < CPU_CHUNK_K / 2 - 1;                                 \
                         step++){STEP(REPEAT_##ROWS, EXTEND_EVEN, 1)                               \
                                     STEP(REPEAT_##ROWS, EXTEND_ODD, 1)} REPEAT_##ROWS(FOLD_BOTH)  \
    }

#define DECLARE_SUM(r) DECLARE(r, sum)
#define START_SUM(r) START(r, sum)
#define EXTEND_SUM(r) EXTEND(r, sum)
#define KEEP_SUM(r) KEEP(r, sum)
#define FOLD_SUM(r) FOLD(r, V_LOAD(even[r]), V_LOAD(even[r] + LANES), sum)
// The 16 values of one parity: one product, then 5 * 3 more.
#define SUM_PARITY(REPEAT)                                                                         \
    V x, b_0, b_1;                                                                                 \
    REPEAT(DECLARE_SUM)                                                                            \
    STEP(REPEAT, START_SUM, 2)                                                                     \
    for (int step = 0; step < 5; step++) {                                                         \
        STEP(REPEAT, EXTEND_SUM, 2)                                                                \
        STEP(REPEAT, EXTEND_SUM, 2)                                                                \
        STEP(REPEAT, EXTEND_SUM, 2)                                                                \
    }
// The same in two passes.  They stay functions of their own: compilers that see both in one spill sums
// inside the loops.
#define DEFINE_LARGE_CHUNK(ROWS)                                                                   \
    TARGET static NOINLINE void even_##ROWS(const float *a, const float *b, float(*even)[PANEL]){  \
        SUM_PARITY(REPEAT_##ROWS)                                                                  \
            REPEAT_##ROWS(KEEP_SUM)} TARGET static NOINLINE void odd_##ROWS(const float *a,        \
                                                                            const float *b,        \
                                                                            float(*even)[PANEL],   \
                                                                            float(*part)[PANEL]){  \
        SUM_PARITY(REPEAT_##ROWS)                                                                  \
            REPEAT_##ROWS(FOLD_SUM)} TARGET static void chunk_##ROWS(const float *a,               \
                                                                     const float *b,               \
                                                                     float(*part)[PANEL])          \
    {                                                                                              \
        _Alignas(64) float even[ROWS][PANEL];                                                      \
        even_##ROWS(a, b, even);                                                                   \
        odd_##ROWS(a + 1, b + PANEL, even, part);                                                  \
    }

DEFINE_SMALL_CHUNK(1)
DEFINE_SMALL_CHUNK(2)
DEFINE_SMALL_CHUNK(3)
#if TILE_ROWS == 6
DEFINE_LARGE_CHUNK(4)
DEFINE_LARGE_CHUNK(5)
DEFINE_LARGE_CHUNK(6)
#define CHUNKS_OF_MORE_ROWS
#elif TILE_ROWS == 12
DEFINE_SMALL_CHUNK(4)
DEFINE_SMALL_CHUNK(5)
DEFINE_SMALL_CHUNK(6)
DEFINE_LARGE_CHUNK(7)
DEFINE_LARGE_CHUNK(8)
DEFINE_LARGE_CHUNK(9)
DEFINE_LARGE_CHUNK(10)
DEFINE_LARGE_CHUNK(11)
DEFINE_LARGE_CHUNK(12)
#define CHUNKS_OF_MORE_ROWS , chunk_7, chunk_8, chunk_9, chunk_10, chunk_11, chunk_12
#else
#error "TILE_ROWS: 6 with 16 vector registers, 12 with 32"
#endif
static void (*const chunks[TILE_ROWS])(const float *, const float *, float (*)[PANEL]) = {
    chunk_1, chunk_2, chunk_3, chunk_4, chunk_5, chunk_6 CHUNKS_OF_MORE_ROWS};

// Up to TILE_ROWS rows from `row` on, times the panel.
TARGET static void multiply_tile(const struct dg_cpu_multiply *work, int32_t row, int32_t rows)
{
    const float *a = (const float *)work->packed + (int64_t)row * CPU_BLOCK_K, *b = work->panel;
    float *total = (float *)work->total + (int64_t)row * PANEL;
    _Alignas(64) float part[TILE_ROWS][PANEL];
    for (int i = 0; i < rows; i++) {
        V_STORE(part[i], V_SET1(0.0f));
        V_STORE(part[i] + LANES, V_SET1(0.0f));
    }
    for (int32_t chunk = 0; chunk < work->num_chunks; chunk++)
        chunks[rows - 1](a + chunk * CPU_CHUNK_K, b + chunk * CPU_CHUNK_K * PANEL, part);

    const V sfb_0 = V_LOAD(work->sfb), sfb_1 = V_LOAD(work->sfb + LANES);
    for (int i = 0; i < rows; i++, total += PANEL) {
        const V sfa = V_SET1(work->sfa[row + i]);
        V_STORE(total, V_FUSED(V_MUL(sfa, sfb_0), V_LOAD(part[i]), V_LOAD(total)));
        V_STORE(total + LANES,
                V_FUSED(V_MUL(sfa, sfb_1), V_LOAD(part[i] + LANES), V_LOAD(total + LANES)));
    }
}

// Rows are dealt out evenly, so that no tile is left with one or two rows when there are many.
static void multiply(const struct dg_cpu_multiply *work)
{
    int32_t num_tiles = (work->rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int32_t row = 0, rows; row < work->rows; row += rows, num_tiles--) {
        rows = (work->rows - row + num_tiles - 1) / num_tiles;
        multiply_tile(work, row, rows);
    }
}

#define SPIN_START(r)                                                                              \
    sum_##r##_0 = V_SET1((float)(r));                                                              \
    sum_##r##_1 = V_SET1(-(float)(r)-1);
#define SPIN_EXTEND(r)                                                                             \
    V_ACCUMULATE(sum_##r##_0, sum_##r##_0, y);                                                     \
    V_ACCUMULATE(sum_##r##_1, sum_##r##_1, y);
#define SPIN_JOIN(r) x = V_ADD(x, V_ADD(sum_##r##_0, sum_##r##_1));
#define SPIN_REPEAT_(rows) REPEAT_##rows
#define SPIN_REPEAT(rows) SPIN_REPEAT_(rows)

TARGET static double spin_fma(int64_t rounds, float *sink)
{
    V x = V_SET1(sink[0]), y = V_SET1(sink[1]);
    SPIN_REPEAT(TILE_ROWS)
    (DECLARE_SUM) SPIN_REPEAT(TILE_ROWS)(SPIN_START) for (int64_t i = 0; i < rounds; i++){
        SPIN_REPEAT(TILE_ROWS)(SPIN_EXTEND) SPIN_REPEAT(TILE_ROWS)(
            SPIN_EXTEND)} SPIN_REPEAT(TILE_ROWS)(SPIN_JOIN) float joined[LANES];
    V_STORE(joined, x);
    sink[2] = joined[0];
    return (double)rounds * 2 * TILE_ROWS * 2 * LANES * 2;
}
