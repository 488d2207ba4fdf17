// SPDX-License-Identifier: MIT
// test_gpu_gemm.c - the sm90 backend against the oracle: random problems over all layouts, types, strides,
// ways to add C, scales, tails and bounds on SMs, on as many threads as there are CPUs.
//
//     test_gpu_gemm [COUNT [FIRST_SEED]]     2000 problems, seeds from 1; $DG_TEST_SCALE makes it fewer
//
// A problem follows from its seed alone: `test_gpu_gemm 1 SEED` repeats what failed.
#include "crowd.h"

enum { COUNT = 2000 };

static int64_t count = COUNT, first_seed = 1;

// ---- which problem --------------------------------------------------------------------------------

static int64_t draw_size(uint64_t *state)
{
    return random_next(state) % 12 ? random_size(state, 700) : random_range(state, 1, 3000);
}

// At least `inner`; mostly what TMA takes.
static int64_t draw_stride(uint64_t *state, int64_t inner)
{
    switch (random_next(state) % 8) {
    case 0:
        return inner;
    case 1:
        return inner + random_range(state, 1, 40);
    default:
        return (inner + 15) / 16 * 16 + random_range(state, 0, 2) * 16;
    }
}

static struct dg_problem draw_problem(uint64_t seed)
{
    const int64_t max_work = seed % 16 ? 1 << 26 : 1 << 28, max_outputs = 1 << 21;
    uint64_t state = seed * 2 + 7;
    struct dg_problem p = random_problem_draw(seed, 1 << 20); // sizes and strides are drawn again
    do {
        p.m = draw_size(&state), p.n = draw_size(&state), p.k = draw_size(&state);
    } while (p.m * p.n * p.k > max_work || p.m * p.n > max_outputs);
    if (random_next(&state) % 2) // no operand needs a workspace for its major
        p.a_major = p.b_major = DG_K_MAJOR;
    p.lda = draw_stride(&state, p.a_major == DG_K_MAJOR ? p.k : p.m);
    p.ldb = draw_stride(&state, p.b_major == DG_K_MAJOR ? p.k : p.n);
    p.ldd = draw_stride(&state, p.n);
    if (random_next(&state) % 2) // the layouts of scales that TMA takes
        p.sfa_major = DG_MN_MAJOR, p.sfb_major = p.sfb_block_n == 1 ? DG_MN_MAJOR : DG_K_MAJOR;
    return p;
}

// Half of the problems may use all SMs, the others any number.
static int32_t draw_num_sms(uint64_t seed, dg_context *context)
{
    uint64_t state = seed * 2 + 9;
    dg_context_set_num_sms(context, 0);
    const int32_t all = dg_context_num_sms(context);
    return random_next(&state) % 2   ? 0
           : random_next(&state) % 2 ? (int32_t)random_range(&state, 1, all)
                                     : (int32_t)random_range(&state, 1, 8);
}

static bool try_seed(struct lane *lane, uint64_t seed)
{
    const struct dg_problem problem = draw_problem(seed);
    const int32_t num_sms = draw_num_sms(seed, lane->context);
    if (dg_context_set_num_sms(lane->context, num_sms) != DG_OK)
        return lane_fail(lane, "%d SMs: %s", num_sms, dg_last_error());
    if (lane_try(lane, &problem, seed, seed / 2 % 4 ? RANDOM_PADDED_SCALES : 0))
        return true;
    const size_t length = strlen(lane->failure);
    snprintf(lane->failure + length, sizeof lane->failure - length, " [num_sms=%d]", num_sms);
    return false;
}

static bool try_index(struct lane *lane, int64_t index)
{
    return try_seed(lane, (uint64_t)(first_seed + index));
}

static void test_random_problems(void)
{
    const double begin = cli_seconds();
    const int64_t right = crowd_run(try_index, count, 0, NULL);
    printf("# %lld problems, seeds %lld to %lld, %.1f s\n", (long long)right, (long long)first_seed,
           (long long)(first_seed + count - 1), cli_seconds() - begin);
    CHECK(right == count, "%lld of %lld problems are right", (long long)right, (long long)count);
}

// ---- nothing to multiply --------------------------------------------------------------------------

static void test_empty_problems_touch_nothing_or_fill(void)
{
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (uint64_t seed = 1; seed <= 90 && is_right; seed++) {
        struct dg_problem problem = random_problem_draw(seed, 1 << 18);
        *(seed % 3 == 0 ? &problem.m : seed % 3 == 1 ? &problem.n : &problem.k) = 0;
        is_right = lane_try(&lane, &problem, seed, 0);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// Tensors without elements need no memory.
static void test_null_pointers_for_no_elements(void)
{
    static const int64_t sizes[][3] = {{0, 5, 130}, {5, 0, 130}, {0, 0, 0}};
    dg_context *context = open_context("sm90", NULL, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2], blocks = (k + 127) / 128;
        uint8_t *const any = (uint8_t *)4096; // never read: the other operand has no elements
        const struct dg_scaled a = {dg_matrix(m && k ? any : NULL, DG_E4M3, m, k),
                                    dg_matrix(m && k ? any : NULL, DG_F32, m, blocks), 1, 128};
        const struct dg_scaled b = {dg_matrix(n && k ? any : NULL, DG_E4M3, n, k),
                                    dg_matrix(n && k ? any : NULL, DG_F32, (n + 127) / 128, blocks),
                                    128, 128};
        const struct dg_tensor d = dg_matrix(NULL, DG_BF16, m, n);
        CHECK(dg_fp8_gemm_nt(context, &a, &b, &d, NULL, NULL, NULL) == DG_OK, "%s",
              dg_last_error());
    }
    dg_context_destroy(context);
}

int main(int argc, char **argv)
{
    need_gpu();
    count = argc > 1 ? atoll(argv[1]) : harness_scaled(COUNT);
    first_seed = argc > 2 ? atoll(argv[2]) : 1;
    RUN(test_random_problems);
    RUN(test_empty_problems_touch_nothing_or_fill);
    RUN(test_null_pointers_for_no_elements);
    return harness_end();
}
