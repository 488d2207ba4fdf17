// SPDX-License-Identifier: MIT
// test_gpu_rows.c - every m from 1 to 512 at the shapes of DeepSeek-V3, where the plan goes through most of its kernels.
//
//     test_gpu_rows [LAST_M [N K]]     LAST_M 512; $DG_TEST_SCALE makes it fewer
//
// A row of D does not depend on m but for the order of FP32 sums.  So D of the last m, compared with the oracle, is what
// every element of every other D is compared with; rows behind the last one must stay as they were.
#include "crowd.h"

#include <math.h>

enum { LAST_M = 512, ROWS_BEHIND = 16 };

struct shape {
    int64_t n, k;
};
static const struct shape all_shapes[] = {{2112, 7168},  {576, 7168},  {24576, 1536}, {32768, 512},
                                          {7168, 16384}, {4096, 7168}, {7168, 2048}};

static int64_t last_m = LAST_M;
static struct shape only; // n 0: all of them

// The shape under test, for all lanes.
static struct {
    struct dg_problem problem; // of the last m
    struct cli_data data;      // D: the reference, between its guard bands
    struct cli_gpu_data copy;
} test;

// ---- one m --------------------------------------------------------------------------------------

static const uint16_t *reference(void)
{
    return (const uint16_t *)((const char *)test.data.buffer[CLI_D] + CLI_GUARD_BYTES);
}

static bool call(struct lane *lane, int64_t m, CUdeviceptr d)
{
    struct dg_problem problem = test.problem;
    struct cli_operands operands = test.copy.operands;
    problem.m = m;
    operands.a.values.shape[0] = operands.a.scales.shape[0] = operands.d.shape[0] = m;
    operands.d.data = (void *)(uintptr_t)d;
    return cli_call(lane->context, &problem, &operands, NULL, lane->gpu.stream) == DG_OK ||
           lane_fail(lane, "m = %lld: %s", (long long)m, dg_last_error());
}

// Sums in another order differ by much less than the allowance, so by one rounding to BF16.
static bool compare(struct lane *lane, int64_t m, const uint16_t *d)
{
    const int64_t n = test.problem.n;
    const uint16_t *r = reference();
    const double allowance = 1e-5 * sqrt((double)test.problem.k);
    for (int64_t i = 0; i < m * n; i++) {
        if (d[i] == r[i])
            continue;
        const double got = cli_element(d, DG_BF16, i), want = cli_element(r, DG_BF16, i);
        if (!(fabs(got - want) <= fabs(want) / 128 + allowance))
            return lane_fail(lane,
                             "m = %lld, n = %lld, k = %lld: row %lld, column %lld is %g, not %g",
                             (long long)m, (long long)n, (long long)test.problem.k,
                             (long long)(i / n), (long long)(i % n), got, want);
    }
    return cli_is_poison((const char *)(d + m * n), (size_t)(ROWS_BEHIND * n) * 2) ||
           lane_fail(lane, "m = %lld: written behind the last row", (long long)m);
}

static bool try_m(struct lane *lane, int64_t index)
{
    const int64_t m = index + 1, n = test.problem.n;
    const size_t bytes = (size_t)((m + ROWS_BEHIND) * n) * 2;
    lane->used = 0;
    const CUdeviceptr d = lane_take(lane, bytes, 0);
    uint16_t *const host = malloc(bytes);
    const bool is_right =
        d && host &&
        (lane->gpu.cuda->cuMemsetD8Async(d, CLI_POISON, bytes, lane->gpu.stream) == CUDA_SUCCESS ||
         lane_fail(lane, "poisoning %zu bytes", bytes)) &&
        call(lane, m, d) && lane_copy_out(lane, host, d, bytes) && compare(lane, m, host);
    free(host);
    return is_right || lane_fail(lane, "no memory for %zu bytes", bytes);
}

// ---- a shape ------------------------------------------------------------------------------------

// Makes the reference and holds it against the oracle.
static bool make_reference(struct lane *lane, struct cli_check *check)
{
    const struct cli_gpu *gpu = &lane->gpu;
    return cli_gpu_upload(gpu, &test.data, &test.copy) == DG_OK &&
           cli_call(lane->context, &test.problem, &test.copy.operands, NULL, gpu->stream) ==
               DG_OK &&
           gpu->cuda->cuStreamSynchronize(gpu->stream) == CUDA_SUCCESS &&
           cli_gpu_fetch_d(gpu, &test.data, &test.copy) == DG_OK &&
           cli_check(&test.data, lane->oracle, true, 1e9, check) == DG_OK;
}

static void try_shape(const struct shape *shape)
{
    struct lane lane;
    struct cli_check check = {.failure = ""};
    char line[128];
    snprintf(line, sizeof line, "fp8_gemm_nt m=%lld n=%lld k=%lld sfa_layout=mn", (long long)last_m,
             (long long)shape->n, (long long)shape->k);
    dg_context *cpu = open_context("cpu", NULL, 0);
    const bool is_made = lane_open(&lane, NULL) && dg_problem_parse(line, &test.problem) == DG_OK &&
                         cli_data_create(&test.data, &test.problem, 1, cpu) == DG_OK;
    const bool is_checked = is_made && make_reference(&lane, &check);
    CHECK(is_checked && !check.failure[0], "%s: %s", line,
          is_checked        ? check.failure
          : lane.failure[0] ? lane.failure
                            : dg_last_error());
    const int64_t right = is_checked ? crowd_run(try_m, last_m, 0, NULL) : 0;
    CHECK(right == last_m, "%s: %lld of %lld m are right", line, (long long)right,
          (long long)last_m);
    if (is_made) {
        cli_gpu_data_free(&lane.gpu, &test.copy);
        cli_data_free(&test.data);
    }
    lane_close(&lane);
    dg_context_destroy(cpu);
}

static void test_every_m(void)
{
    const double begin = cli_seconds();
    const size_t count = only.n ? 1 : sizeof all_shapes / sizeof *all_shapes;
    for (size_t i = 0; i < count; i++)
        try_shape(only.n ? &only : &all_shapes[i]);
    printf("# m = 1 to %lld at %zu shapes, %.1f s\n", (long long)last_m, count,
           cli_seconds() - begin);
}

int main(int argc, char **argv)
{
    need_gpu();
    last_m = argc > 1 ? atoll(argv[1]) : harness_scaled(LAST_M);
    if (argc > 3)
        only = (struct shape){atoll(argv[2]), atoll(argv[3])};
    RUN(test_every_m);
    return harness_end();
}
