// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_grouped.c - the grouped kernel, run here with its threads as coroutines (lanes_async.h): random
// layouts by index, by ends and by counts against sums in double; rows of no group, gaps and other groups'
// rows included.  This is the kernel whose scales come by TMA, with a warp that walks; another one includes this file.
#ifndef DG_BLOCK_M
#define DG_BLOCK_M 256
#define DG_BLOCK_N 128
#define DG_NUM_STAGES 4
#define DG_SCALES_TMA 1
#define DG_D_BUFFERS 1
#endif
#define DG_MATH_GROUPS 2
#define DG_SFB_BLOCK_N 128
#define DG_SF_PACKED 0
#define DG_D_FP32 0
#include "../lanes_gemm.h"

#include <limits.h>

#include "backend/sm90/sm90_fp8_gemm_grouped.cu"

// ---- a problem --------------------------------------------------------------------------------------

enum {
    MOST_ROWS = 700,
    MOST_N = 264,
    MOST_K = 300,
    MOST_BLOCKS = 4,
    MOST_GROUPS = 6,
    PITCH_K = 384,
    GAP = 16
};
enum { D_ELEMENTS = MOST_ROWS * (MOST_N + GAP) };
static char a[MOST_ROWS * PITCH_K], b[MOST_GROUPS * MOST_N * PITCH_K];
static float sfa[MOST_ROWS * MOST_BLOCKS], sfb[MOST_GROUPS * 4 * MOST_BLOCKS];
static unsigned short c[D_ELEMENTS], d[D_ELEMENTS], before[D_ELEMENTS];
static int layout[MOST_ROWS], num_rows;
static struct dg_sm90_gemm_args args;
static struct dg_sm90_group_args groups;
static struct dg_sm90_group_maps maps;
static struct dg_sm90_count given;
static int k;

static void fill(void)
{
    const int style = draw(0, 2);
    draw_values(a, sizeof a, style);
    draw_values(b, sizeof b, style);
    draw_scales(sfa, sizeof sfa / 4);
    draw_scales(sfb, sizeof sfb / 4);
    for (int i = 0; i < D_ELEMENTS; i++)
        c[i] = (unsigned short)(__float_as_uint(draw_addend()) >> 16);
    memset(d, 0xff, sizeof d);
}

// Runs of rows with an id, some of none.
static void draw_rows(void)
{
    args.m = draw(1, MOST_ROWS);
    for (int row = 0, left = 0, group = -1; row < args.m; row++, left--) {
        if (left == 0) {
            left = draw(1, draw(0, 1) ? 300 : 40);
            group = draw(0, 3) ? draw(0, groups.groups - 1) : draw(0, 1) ? -1 : groups.groups + 3;
        }
        layout[row] = group;
    }
}

static void draw_ends(void)
{
    int end = 0;
    groups.alignment = 1 << draw(0, 7);
    groups.per_alignment = dg_sm90_divide_by(groups.alignment);
    for (int i = 0; i < groups.groups; i++) {
        const int begin = (end + groups.alignment - 1) / groups.alignment * groups.alignment;
        end = begin + (draw(0, 3) ? draw(0, 140) : 0);
        end = end < MOST_ROWS ? end : end == MOST_ROWS ? end : begin < MOST_ROWS ? MOST_ROWS : end;
        layout[i] = end = (int)min(end, MOST_ROWS);
    }
    args.m = (int)min(end + draw(1, 50), MOST_ROWS);
}

// Masked groups: 0, or the tiles of one group's columns, of which the guess is one less.  Tile 2 of two is then of another
// column, tile 3 of three at another row, and all else is the same.
static int column_tiles;

static void draw_counts(void)
{
    if (column_tiles) {
        args.m = MOST_ROWS;
        layout[0] = draw((column_tiles - 1) * DG_BLOCK_M + 1,
                         (int)min(column_tiles * DG_BLOCK_M, MOST_ROWS));
        return;
    }
    args.m = draw(1, MOST_ROWS / groups.groups);
    for (int i = 0; i < groups.groups; i++)
        layout[i] = draw(0, 3) ? draw(-1, args.m + 2) : i && draw(0, 1) ? layout[0] : 0;
}

// The rows of one of the groups, which may be those of all, or any.
static void draw_guess(void)
{
    const int rows = column_tiles ? (column_tiles - 1) * DG_BLOCK_M - draw(0, 63)
                     : draw(0, 2) ? layout[draw(0, groups.groups - 1)]
                                  : draw(0, args.m);
    groups.guessed_rows = (int)min(max(rows, 0), args.m);
    groups.per_guess =
        dg_sm90_divide_by((i64)(groups.guessed_rows + DG_BLOCK_M - 1) / DG_BLOCK_M * args.units_n);
}

static bool has_own_rows(void)
{
    return groups.kind == DG_SM90_BY_COUNTS;
}

// As sm90_grouped.c chooses.
static void draw_output(void)
{
    args.d_tma = draw(0, 3) != 0;
    args.n = args.d_tma ? 8 * draw(1, MOST_N / 8) : draw(1, MOST_N);
    args.n = column_tiles ? MOST_N : args.n;
    args.d_row_stride = args.n + (args.d_tma ? draw(0, GAP / 8) * 8 : draw(0, GAP));
    args.c_row_stride = args.d_row_stride;
    args.c_column_stride = 1;
    args.d = d, args.c = c;
    args.c_mode = draw(0, 1) ? DG_SM90_C_NONE : DG_SM90_C_READ;
    groups.idle = DG_SM90_IDLE_TILES;
    if (args.c_mode == DG_SM90_C_NONE && groups.kind == DG_SM90_BY_INDEX && args.d_tma &&
        DG_SCALES_TMA && draw(0, 1))
        groups.idle = DG_SM90_IDLE_CLEARED;
    if (args.c_mode == DG_SM90_C_READ && draw(0, 1)) {
        groups.idle = DG_SM90_IDLE_KEPT;
        args.c = d;
        memcpy(d, c, sizeof d);
    }
    if (has_own_rows())
        groups.idle = DG_SM90_IDLE_KEPT;
    memcpy(before, d, sizeof d);
}

static void set_strides(void)
{
    const int rows = has_own_rows() ? args.m * groups.groups : args.m, own = has_own_rows();
    const int by_columns = DG_SCALES_TMA || draw(0, 1);
    args.num_k_blocks = (k + 127) / 128;
    args.sfb_rows = (args.n + 127) / 128;
    args.units_n = (args.n + DG_BLOCK_N - 1) / DG_BLOCK_N;
    args.band = column_tiles ? column_tiles : draw(1, 4);
    args.per_band = dg_sm90_divide_by((int64_t)args.band * args.units_n);
    args.per_column = dg_sm90_divide_by(args.band);
    args.sfa = sfa, args.sfb = sfb;
    args.sfa_row_stride = by_columns ? 1 : args.num_k_blocks;
    args.sfa_k_stride = by_columns ? rows : 1;
    args.sfb_row_stride = args.num_k_blocks;
    args.sfb_k_stride = 1;
    groups.sfa_group = own ? args.m * args.sfa_row_stride : 0;
    groups.sfb_group = (i64)args.sfb_rows * args.num_k_blocks;
    groups.d_group = groups.c_group = own ? args.m * args.d_row_stride : 0;
    args.c_in_pairs = draw_c_in_pairs(&args, groups.c_group);
    groups.own_a = groups.own_d = own && groups.groups > 1;
    groups.own_b = groups.groups > 1;
    groups.rows_of_map_d = groups.own_d ? args.m : 0;
    if (has_own_rows())
        draw_guess();
}

static void set_maps(void)
{
    const int own = has_own_rows(), sets = own ? groups.groups : 1, rows = args.m * sets;
    struct lanes_map map = {.data = a,
                            .stride = {1, PITCH_K, (i64)args.m * PITCH_K},
                            .shape = {k, args.m, sets},
                            .box = {128, DG_BLOCK_M, 1},
                            .swizzle = 128};
    maps.values.a = lanes_encode(&map);
    map.box[1] = 64;
    maps.values.a_piece = lanes_encode(&map);
    map.box[1] = groups.few_rows = draw(0, 8) * 8;
    maps.a_few = lanes_encode(&map);
    maps.values.b = lanes_encode(&(struct lanes_map){.data = b,
                                                     .stride = {1, PITCH_K, (i64)MOST_N * PITCH_K},
                                                     .shape = {k, args.n, groups.groups},
                                                     .box = {128, DG_BLOCK_N, 1},
                                                     .swizzle = 128});
    maps.d = lanes_encode(&(struct lanes_map){.data = (char *)d,
                                              .stride = {2, args.d_row_stride * 2},
                                              .shape = {args.n, rows},
                                              .box = {D_COLUMNS, 16},
                                              .element = 2,
                                              .swizzle = D_ROW_BYTES});
    maps.sfa =
        lanes_encode(&(struct lanes_map){.data = (char *)sfa,
                                         .stride = {4, args.sfa_k_stride * 4, groups.sfa_group * 4},
                                         .shape = {args.m, args.num_k_blocks, sets},
                                         .box = {DG_BLOCK_M, 1, 1},
                                         .element = 4});
    maps.sfb = lanes_encode(
        &(struct lanes_map){.data = (char *)sfb,
                            .stride = {4, args.sfb_row_stride * 4, groups.sfb_group * 4},
                            .shape = {args.num_k_blocks, args.sfb_rows, groups.groups},
                            .box = {4, SFB_COUNT, 1},
                            .element = 4});
}

static void draw_problem(uint64_t seed)
{
    static void (*const draws[])(void) = {draw_rows, draw_ends, draw_counts};
    state = seed * 2 + 1;
    memset(&args, 0, sizeof args);
    memset(&groups, 0, sizeof groups);
    groups.kind = (int)(seed % 3);
    groups.groups = column_tiles ? 1 : draw(1, MOST_GROUPS);
    groups.alignment = 1;
    groups.per_alignment = dg_sm90_divide_by(1);
    groups.layout = layout;
    k = draw(column_tiles ? 129 : 1, MOST_K);
    draws[groups.kind]();
    num_rows = draw(0, args.m + 2);
    if (!has_own_rows() && draw(0, 2) == 0)
        groups.num_rows = &num_rows;
    fill();
    draw_output();
    set_strides();
    set_maps();
}

// ---- judging ----------------------------------------------------------------------------------------

// The group of row `row` of D's matrix `matrix`; -1: of none, -2: not to be touched.
static int group_of(int matrix, int row)
{
    if (has_own_rows())
        return row < layout[matrix] ? matrix : -2;
    if (groups.num_rows && row >= num_rows)
        return -2;
    if (groups.kind == DG_SM90_BY_INDEX)
        return (u32)layout[row] < (u32)groups.groups ? layout[row] : -1;
    for (int i = 0, begin = 0; i < groups.groups; i++) {
        if (row >= begin && row < layout[i])
            return i;
        begin = (layout[i] + groups.alignment - 1) / groups.alignment * groups.alignment;
    }
    return -2;
}

static double bf16(unsigned short bits)
{
    return __uint_as_float((u32)bits << 16);
}

// `row`: of all matrices.
static double product(int group, int row, int column, double *terms)
{
    const i64 row_b = group * groups.sfb_group + column / 128 * args.sfb_row_stride;
    return scaled_dot(a + row * PITCH_K, b + (group * MOST_N + column) * PITCH_K, k,
                      sfa + row * args.sfa_row_stride, args.sfa_k_stride, sfb + row_b,
                      args.sfb_k_stride, terms);
}

static bool is_right(int row, int column, i64 at)
{
    const int matrix = has_own_rows() ? row / args.m : 0,
              group = group_of(matrix, row - matrix * args.m);
    const unsigned short *with = args.c == d ? before : c;
    const double added = args.c_mode == DG_SM90_C_NONE ? 0 : bf16(with[at]);
    double terms = fabs(added);
    if (group == -2 || (group == -1 && groups.idle == DG_SM90_IDLE_KEPT))
        return d[at] == before[at];
    if (group == -1)
        return args.c_mode == DG_SM90_C_NONE ? d[at] == 0 : d[at] == with[at];
    const double want = added + product(group, row, column, &terms);
    return fabs(bf16(d[at]) - want) <= terms * (1e-6 + 0x1p-8);
}

// The first element that is wrong, or -1; a sample of those that are products, all others.
static i64 find_wrong(void)
{
    const int rows = has_own_rows() ? args.m * groups.groups : args.m;
    for (i64 i = 0; i < D_ELEMENTS; i++) {
        const i64 row = i / args.d_row_stride, column = i % args.d_row_stride;
        const bool is_outside = row >= rows || column >= args.n;
        if (is_outside ? d[i] != before[i]
                       : random_next(&state) % 8 == 0 && !is_right((int)row, (int)column, i))
            return i;
    }
    return -1;
}

// Tiles from some round on are asked for, or none.
static void draw_count(unsigned ctas)
{
    groups.first_counted = draw(0, 1) ? INT_MAX : (int)ctas * draw(1, 2);
    groups.count = &given;
    groups.owner = random_next(&state);
    given = (struct dg_sm90_count){random_next(&state), (u32)random_next(&state)};
}

static void run_thread(void)
{
    run_kernel(args, groups, maps);
}

static void try_seed(int seed, unsigned least_ctas)
{
    draw_problem((uint64_t)seed);
    const unsigned ctas = least_ctas + (unsigned)draw(0, 3);
    draw_count(ctas);
    CHECK(lanes_run_grid(ctas, THREADS, run_thread),
          "seed %d: lanes went apart, or wait alone or for ever", seed);
    const i64 wrong = find_wrong();
    CHECK(given.owner != groups.owner, "seed %d: the count has an owner left", seed);
    CHECK(wrong < 0,
          "seed %d: kind=%d groups=%d m=%d n=%d k=%d c=%d idle=%d tma=%d: element %lld of row "
          "%lld",
          seed, groups.kind, groups.groups, args.m, args.n, k, args.c_mode, groups.idle, args.d_tma,
          wrong % args.d_row_stride, wrong / args.d_row_stride);
}

static void test_random_layouts(void)
{
    const int count = harness_scaled(60);
    for (int seed = 1; seed <= count; seed++)
        try_seed(seed, 1);
}

static void test_guesses_that_are_nearly_right(void)
{
    for (int seed = 2; seed <= 11; seed += 3) { // masked
        column_tiles = 2 + seed % 2;
        try_seed(seed, 4);
    }
    column_tiles = 0;
}

int main(void)
{
    RUN(test_random_layouts);
    RUN(test_guesses_that_are_nearly_right);
    return harness_end();
}
