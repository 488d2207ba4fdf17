// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_grouped_k.c - the grouped kernel on groups along k (gradients of weights: 1D1D, FP32), run here with
// its threads as coroutines (lanes_async.h): random sizes, empty groups and C of all sorts against sums in double.
// test_sm90_fp8_gemm_grouped.c has groups of rows.
#define DG_BLOCK_M 256
#define DG_BLOCK_N 96
#define DG_NUM_STAGES 4
#define DG_SCALES_TMA 1
#define DG_D_BUFFERS 2
#define DG_SF_PACKED 0
#define DG_MATH_GROUPS 2
#define DG_SFB_BLOCK_N 1
#define DG_D_FP32 1
#include "../lanes_gemm.h"

#include <limits.h>

#include "backend/sm90/sm90_fp8_gemm_grouped.cu"

// ---- a problem --------------------------------------------------------------------------------------

enum { MOST_M = 300, MOST_N = 200, MOST_K = 1024, MOST_GROUPS = 4, GAP = 16 };
enum {
    MOST_BLOCKS = MOST_GROUPS * MOST_K / 128,
    D_ELEMENTS = MOST_GROUPS * MOST_M * (MOST_N + GAP)
};
static char a[MOST_GROUPS * MOST_M * MOST_K], b[MOST_GROUPS * MOST_N * MOST_K];
static float sfa[MOST_M * MOST_BLOCKS], sfb[MOST_N * MOST_BLOCKS];
static float c[D_ELEMENTS], d[D_ELEMENTS], before[D_ELEMENTS], result[D_ELEMENTS];
static int size[MOST_GROUPS], first_block[MOST_GROUPS]; // k, and the first block of the scales
static struct dg_sm90_k_group list[MOST_GROUPS];
static struct dg_sm90_gemm_args args;
static struct dg_sm90_group_args groups;
static struct dg_sm90_group_maps maps;
static int num_blocks; // of all groups
static unsigned ctas;

static void fill(void)
{
    const int style = draw(0, 2);
    draw_values(a, sizeof a, style);
    draw_values(b, sizeof b, style);
    draw_scales(sfa, sizeof sfa / 4);
    draw_scales(sfb, sizeof sfb / 4);
    for (int i = 0; i < D_ELEMENTS; i++)
        c[i] = draw_addend();
    memset(d, 0xff, sizeof d);
}

// The matrix of a group, with rows of MOST_K.
static struct dg_tensor_map values_of(const char *data, int group, int rows, int box)
{
    return lanes_encode(&(struct lanes_map){.data = (char *)data + (i64)group * rows * MOST_K,
                                            .stride = {1, MOST_K, 0},
                                            .shape = {size[group], rows, 1},
                                            .box = {128, box, 1},
                                            .swizzle = 128});
}

// In any order: the kernel has no need of the longest first.
static void draw_groups(void)
{
    const int shift = draw(0, MOST_GROUPS - 1);
    num_blocks = 0;
    for (int i = 0; i < groups.groups; i++) {
        size[i] = draw(0, 3) ? 32 * draw(1, draw(0, 1) ? MOST_K / 32 : 8) : 0;
        first_block[i] = num_blocks;
        num_blocks += (size[i] + 127) / 128;
    }
    for (int place = 0; place < groups.groups; place++) {
        const int i = (place + shift) % groups.groups;
        list[place].group = i;
        list[place].num_blocks = (size[i] + 127) / 128;
        list[place].first_block = first_block[i];
        list[place].values.a = values_of(a, i, args.m, DG_BLOCK_M);
        list[place].values.a_piece = values_of(a, i, args.m, 64);
        list[place].values.b = values_of(b, i, args.n, DG_BLOCK_N);
    }
}

// As sm90_grouped.c chooses.
static void draw_output(void)
{
    args.d_tma = draw(0, 3) != 0;
    args.d_row_stride =
        args.d_tma ? (args.n + 3) / 4 * 4 + draw(0, GAP / 4 - 1) * 4 : args.n + draw(0, GAP);
    args.d_tma &= args.n % 4 == 0;
    args.c_row_stride = args.d_row_stride;
    args.c_column_stride = 1;
    args.d = d, args.c = c;
    args.c_mode = draw(0, 1) ? DG_SM90_C_NONE : DG_SM90_C_READ;
    groups.idle = DG_SM90_IDLE_TILES;
    if (draw(0, 1)) {
        args.c_mode = args.d_tma ? DG_SM90_C_REDUCE : DG_SM90_C_READ;
        groups.idle = DG_SM90_IDLE_KEPT;
        args.c = d;
        memcpy(d, c, sizeof d);
    }
    memcpy(before, d, sizeof d);
}

static void set_strides(void)
{
    const int own = groups.groups > 1;
    args.sfb_rows = args.n;
    args.units_n = (args.n + DG_BLOCK_N - 1) / DG_BLOCK_N;
    args.band = draw(1, 4);
    args.per_band = dg_sm90_divide_by((int64_t)args.band * args.units_n);
    args.per_column = dg_sm90_divide_by(args.band);
    args.sfa = sfa, args.sfb = sfb;
    args.sfa_row_stride = args.sfb_row_stride = 1;
    args.sfa_k_stride = args.m;
    args.sfb_k_stride = args.n;
    groups.d_group = groups.c_group = own ? args.m * args.d_row_stride : 0;
    args.c_in_pairs = draw_c_in_pairs(&args, groups.c_group);
    groups.own_d = own;
    groups.rows_of_map_d = own ? args.m : 0;
}

static struct dg_tensor_map map_of_scales(float *scales, int rows, int box)
{
    return lanes_encode(&(struct lanes_map){.data = (char *)scales,
                                            .stride = {4, rows * 4, 0},
                                            .shape = {rows, num_blocks, 1},
                                            .box = {box, 1, 1},
                                            .element = 4});
}

static void draw_problem(uint64_t seed)
{
    state = seed * 2 + 1;
    memset(&args, 0, sizeof args);
    memset(&groups, 0, sizeof groups);
    groups.kind = DG_SM90_ALONG_K;
    groups.first_counted = INT_MAX;
    groups.groups = draw(1, MOST_GROUPS);
    groups.list = list;
    args.m = draw(1, MOST_M);
    args.n = draw(0, 3) ? 4 * draw(1, MOST_N / 4) : draw(1, MOST_N);
    ctas = 1 + (unsigned)draw(0, 3);
    draw_groups();
    fill();
    draw_output();
    set_strides();
    maps.sfa = map_of_scales(sfa, args.m, DG_BLOCK_M);
    maps.sfb = map_of_scales(sfb, args.n, DG_BLOCK_N);
    maps.d = lanes_encode(&(struct lanes_map){.data = (char *)d,
                                              .stride = {4, args.d_row_stride * 4},
                                              .shape = {args.n, args.m * groups.groups},
                                              .box = {D_COLUMNS, 16},
                                              .element = 4,
                                              .swizzle = D_ROW_BYTES});
}

// ---- judging ----------------------------------------------------------------------------------------

static double product(int group, int row, int column, double *terms)
{
    const i64 block = first_block[group];
    return scaled_dot(
        a + (i64)(group * args.m + row) * MOST_K, b + (i64)(group * args.n + column) * MOST_K,
        size[group], sfa + row * args.sfa_row_stride + block * args.sfa_k_stride, args.sfa_k_stride,
        sfb + column * args.sfb_row_stride + block * args.sfb_k_stride, args.sfb_k_stride, terms);
}

static bool is_right(int group, int row, int column, i64 at)
{
    const double added = args.c_mode == DG_SM90_C_NONE ? 0 : args.c == d ? before[at] : c[at];
    double terms = fabs(added);
    if (size[group] == 0) // C itself, -0 included
        return d[at] == (float)added && !signbit(d[at]) == !signbit(added);
    const double want = added + product(group, row, column, &terms);
    return fabs(d[at] - want) <= terms * 1e-6;
}

// The first element that is wrong, or -1; a sample of the products, all others.
static i64 find_wrong(void)
{
    for (i64 i = 0; i < D_ELEMENTS; i++) {
        const i64 row = i / args.d_row_stride, column = i % args.d_row_stride;
        const bool is_outside = row >= args.m * groups.groups || column >= args.n;
        if (is_outside ? memcmp(&d[i], &before[i], sizeof *d) != 0
                       : random_next(&state) % 8 == 0 &&
                             !is_right((int)(row / args.m), (int)(row % args.m), (int)column, i))
            return i;
    }
    return -1;
}

static void run_thread(void)
{
    run_kernel(args, groups, maps);
}

// No bit hangs on which CTA has a tile, and so none on the groups before it.
static bool is_same_on(unsigned other_ctas)
{
    memcpy(result, d, sizeof d);
    memcpy(d, before, sizeof d);
    return lanes_run_grid(other_ctas, THREADS, run_thread) && !memcmp(d, result, sizeof d);
}

static void test_random_sizes(void)
{
    const int count = harness_scaled(30);
    for (int seed = 1; seed <= count; seed++) {
        draw_problem((uint64_t)seed);
        CHECK(lanes_run_grid(ctas, THREADS, run_thread),
              "seed %d: lanes went apart, or wait alone or for ever", seed);
        const i64 wrong = find_wrong();
        CHECK(wrong < 0,
              "seed %d: groups=%d m=%d n=%d c=%d idle=%d tma=%d: element %lld of row %lld", seed,
              groups.groups, args.m, args.n, args.c_mode, groups.idle, args.d_tma,
              wrong % args.d_row_stride, wrong / args.d_row_stride);
        CHECK(is_same_on(1 + ctas % 4), "seed %d: other bits on another number of CTAs", seed);
    }
}

int main(void)
{
    RUN(test_random_sizes);
    return harness_end();
}
