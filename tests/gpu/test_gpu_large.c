// SPDX-License-Identifier: MIT
// test_gpu_large.c - grouped products whose matrices are larger than 32 bits count: D, A or B in turn.
//
// All values of a group are the same power of two, so that its results are known without a reference, and exact:
// group g has values 2^(g % 4) in A and 2^(g / 4 % 4) in B, all scales are 1, and k is a power of two.
#include "device.h"

#include <math.h>

enum {
    POISON = 0x5a,
    ONE = 0x38,
    BINADE = 8,
    LAST = 3
}; // codes of E4M3: 1, and from 2^i to 2^(i + 1)

struct large {
    struct lane *lane;
    int64_t groups, rows, n, k; // rows: of each group, or of all of them
    int is_masked;
    CUdeviceptr a, b, sfa, sfb, d, layout;
};

static bool take(struct large *l, CUdeviceptr *at, int64_t bytes, int value)
{
    const struct dg_cuda *cuda = l->lane->gpu.cuda;
    if (cuda->cuMemAlloc(at, (size_t)bytes) != CUDA_SUCCESS)
        return *at = 0, false;
    return cuda->cuMemsetD8Async(*at, (unsigned char)value, (size_t)bytes, l->lane->gpu.stream) ==
           CUDA_SUCCESS;
}

static int64_t stacked(const struct large *l)
{
    return l->is_masked ? l->groups : 1;
}

static int64_t scales_of(const struct large *l, int64_t rows)
{
    return rows * (l->k / 128);
}

static bool take_all(struct large *l, const int32_t *layout, int64_t entries)
{
    const struct dg_cuda *cuda = l->lane->gpu.cuda;
    const CUstream stream = l->lane->gpu.stream;
    const int64_t rows_a = stacked(l) * l->rows, num_sfa = scales_of(l, rows_a);
    const int64_t num_sfb = l->groups * scales_of(l, l->n / 128);
    const unsigned one = 0x3f800000;
    return take(l, &l->a, rows_a * l->k, ONE) && take(l, &l->b, l->groups * l->n * l->k, ONE) &&
           take(l, &l->d, rows_a * l->n * 2, POISON) && take(l, &l->sfa, num_sfa * 4, 0) &&
           take(l, &l->sfb, num_sfb * 4, 0) && take(l, &l->layout, entries * 4, 0) &&
           cuda->cuMemsetD32Async(l->sfa, one, (size_t)num_sfa, stream) == CUDA_SUCCESS &&
           cuda->cuMemsetD32Async(l->sfb, one, (size_t)num_sfb, stream) == CUDA_SUCCESS &&
           lane_copy_in(l->lane, l->layout, layout, (size_t)entries * 4);
}

static void give_back(struct large *l)
{
    const CUdeviceptr all[] = {l->a, l->b, l->sfa, l->sfb, l->d, l->layout};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            l->lane->gpu.cuda->cuMemFree(all[i]);
}

// The values of `rows` rows of A from `row` on, and of B, for group `group`.
static bool set_values(const struct large *l, int64_t group, int64_t row, int64_t rows)
{
    const struct cli_gpu *gpu = &l->lane->gpu;
    const unsigned char a = (unsigned char)(ONE + BINADE * (group % 4));
    const unsigned char b = (unsigned char)(ONE + BINADE * (group / 4 % 4));
    const int64_t size_b = l->n * l->k;
    return gpu->cuda->cuMemsetD8Async(l->a + (CUdeviceptr)(row * l->k), a, (size_t)(rows * l->k),
                                      gpu->stream) == CUDA_SUCCESS &&
           gpu->cuda->cuMemsetD8Async(l->b + (CUdeviceptr)(group * size_b), b, (size_t)size_b,
                                      gpu->stream) == CUDA_SUCCESS;
}

// Row `row` of D, counted over all groups: `group`'s, or -1: zeros, or -2: as it was.
static bool check_row(const struct large *l, int64_t row, int64_t group)
{
    const size_t bytes = (size_t)l->n * 2;
    const float value = ldexpf((float)l->k, (int)(group % 4 + group / 4 % 4));
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    const uint16_t want = group == -1   ? 0
                          : group == -2 ? POISON << 8 | POISON
                                        : (uint16_t)(word >> 16);
    uint16_t *got = malloc(bytes);
    bool is_right = got && lane_copy_out(l->lane, got, l->d + (CUdeviceptr)row * bytes, bytes);
    for (int64_t i = 0; is_right && i < l->n; i++)
        is_right =
            got[i] == want || lane_fail(l->lane, "row %lld, column %lld of D is %04x, not %04x",
                                        (long long)row, (long long)i, got[i], want);
    free(got);
    return is_right;
}

static void *pointer(CUdeviceptr at)
{
    return (void *)(uintptr_t)at;
}

// Scales of A lie along m, where TMA reads them, or along k.
static bool call(const struct large *l, int64_t entries, bool is_mn_major)
{
    const int64_t blocks = l->k / 128, columns = l->n / 128;
    struct dg_tensor sfa = dg_matrix(pointer(l->sfa), DG_F32, l->rows, blocks);
    if (is_mn_major)
        sfa.stride[0] = 1, sfa.stride[1] = l->rows;
    struct dg_scaled a = {dg_matrix(pointer(l->a), DG_E4M3, l->rows, l->k), sfa, 1, 128};
    struct dg_tensor d = dg_matrix(pointer(l->d), DG_BF16, l->rows, l->n);
    const struct dg_scaled b = {
        dg_stack(dg_matrix(pointer(l->b), DG_E4M3, l->n, l->k), l->groups, l->n * l->k),
        dg_stack(dg_matrix(pointer(l->sfb), DG_F32, columns, blocks), l->groups, columns * blocks),
        128, 128};
    const struct dg_tensor layout = {pointer(l->layout), DG_I32, 1, {entries}, {1}};
    void *stream = l->lane->gpu.stream;
    if (l->is_masked) {
        a.values = dg_stack(a.values, l->groups, l->rows * l->k);
        a.scales = dg_stack(a.scales, l->groups, l->rows * blocks);
        d = dg_stack(d, l->groups, l->rows * l->n);
    }
    const dg_status status = l->is_masked
                                 ? dg_m_grouped_fp8_gemm_nt_masked(l->lane->context, &a, &b, &d,
                                                                   NULL, &layout, NULL, stream)
                                 : dg_m_grouped_fp8_gemm_nt_contiguous(l->lane->context, &a, &b, &d,
                                                                       NULL, &layout, NULL, stream);
    return status == DG_OK || lane_fail(l->lane, "%s", dg_last_error());
}

typedef bool (*trial)(const struct large *l, const int32_t *layout);

// `layout` is given to this function.
static void run(struct large l, int32_t *layout, int64_t entries, trial try)
{
    struct lane lane;
    const bool is_open = lane_open(&lane, NULL);
    l.lane = &lane;
    const bool has_memory = is_open && layout && take_all(&l, layout, entries);
    const bool is_right = has_memory && try(&l, layout);
    give_back(&l);
    lane_close(&lane);
    free(layout);
    CHECK(is_open, "%s", lane.failure);
    if (!has_memory)
        SKIP("the device has not memory enough");
    CHECK(is_right, "%s", lane.failure);
}

// Each group has a few rows of its room; the one behind them stays as it was.
static bool try_masked(const struct large *l, const int32_t *counts)
{
    for (int64_t g = 0; g < l->groups; g++)
        if (counts[g] && !set_values(l, g, g * l->rows, l->rows))
            return lane_fail(l->lane, "values of group %lld", (long long)g);
    bool is_right = call(l, l->groups, true);
    for (int64_t g = 0; g < l->groups; g++)
        for (int64_t row = 0; is_right && row <= counts[g]; row++)
            is_right = check_row(l, g * l->rows + row, row < counts[g] ? g : -2);
    return is_right;
}

static void run_masked(int64_t groups, int64_t room, int64_t n, int64_t k)
{
    const struct large l = {.groups = groups, .rows = room, .n = n, .k = k, .is_masked = 1};
    int32_t *counts = calloc((size_t)groups, sizeof *counts);
    for (int64_t g = 0; counts && g < groups; g++)
        counts[g] = g == 0 || g >= groups - LAST ? (int32_t)(g % 3 + 1) : 0;
    run(l, counts, groups, try_masked);
}

static void test_d_beyond_32_bits(void)
{
    run_masked(5, 20000, 65536, 128);
}

static void test_b_beyond_32_bits(void)
{
    run_masked(66, 8, 4096, 16384);
}

// Three rows at the beginning and three at the end, the others nobody's.
static bool try_both_ends(const struct large *l, const int32_t *layout)
{
    const int64_t end = l->rows;
    bool is_right = set_values(l, layout[0], 0, LAST) &&
                    set_values(l, layout[end - 1], end - LAST, LAST) && call(l, end, false);
    for (int64_t i = 0; is_right && i < LAST; i++)
        is_right = check_row(l, i, layout[i]) && check_row(l, LAST + i, -1) &&
                   check_row(l, end - 2 * LAST + i, -1) &&
                   check_row(l, end - LAST + i, layout[end - 1]);
    return is_right;
}

static void test_a_beyond_32_bits(void)
{
    enum { ROWS = 1 << 18, K = 1 << 14 };
    const struct large l = {.groups = 7, .rows = ROWS, .n = 128, .k = K};
    int32_t *layout = malloc(sizeof *layout * ROWS);
    for (int64_t row = 0; layout && row < ROWS; row++)
        layout[row] = row < LAST ? 1 : row >= ROWS - LAST ? 6 : -1;
    run(l, layout, ROWS, try_both_ends);
}

int main(void)
{
    need_gpu();
    RUN(test_d_beyond_32_bits);
    RUN(test_a_beyond_32_bits);
    RUN(test_b_beyond_32_bits);
    return harness_end();
}
