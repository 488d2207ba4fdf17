// SPDX-License-Identifier: MIT
// test_linear_check.c - the check of `deepgemm linear`: it passes a right result, and a single wrong
// element, a wrong row or a misplaced NaN fail it.  Compiled together with the files it tests.
#include "../../cli/options.c"
#include "../../cli/output.c"

#include "../../cli/cli_linear.c"

#include "../harness.h"

enum { M = 5, N = 260, K = 520, ROW_BLOCKS = 3, BLOCKS = 5 };

static struct linear linear;
static uint8_t weight[N * K];
static float scales[ROW_BLOCKS * BLOCKS];
static uint64_t state = 7;

static float uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(state >> 40) * 0x1p-23f - 1;
}

// A layer and activations of random values, multiplied by the command's own step.
static bool prepare(const char *out)
{
    release(&linear);
    linear = (struct linear){.command = &cli_linear,
                             .settings = {.out = out, .context = {.backend = "cpu", .device = -1}}};
    for (int i = 0; i < N * K; i++)
        weight[i] = (uint8_t)(state = state * 6364136223846793005u + 1, (state >> 56) % 120);
    for (int i = 0; i < ROW_BLOCKS * BLOCKS; i++)
        scales[i] = 0.01f + 0.01f * fabsf(uniform());
    linear.layer.scaled =
        (struct dg_scaled){.values = dg_matrix(weight, DG_E4M3, N, K),
                           .scales = dg_matrix(scales, DG_F32, ROW_BLOCKS, BLOCKS),
                           .block_rows = 128,
                           .block_columns = 128};
    linear.x = allocate(DG_F32, M, K);
    for (int i = 0; linear.x.data && i < M * K; i++)
        ((float *)linear.x.data)[i] = uniform();
    return linear.x.data && make_context(&linear) == CLI_OK && multiply(&linear) == CLI_OK;
}

static void test_a_right_result_passes(void)
{
    static const char *const types[] = {"fp32", "bf16"};
    for (int i = 0; i < 2; i++) {
        CHECK(prepare(types[i]), "%s", dg_last_error());
        CHECK(check(&linear) == CLI_OK, "%s was refused", types[i]);
    }
}

static void test_one_wrong_element_fails(void)
{
    CHECK(prepare("fp32"), "%s", dg_last_error());
    float *y = linear.y.data;
    y[3 * N + 17] *= 1.001f;
    CHECK(check(&linear) == CLI_FAILED, "FP32 passed");
    CHECK(prepare("bf16"), "%s", dg_last_error());
    ((uint16_t *)linear.y.data)[M * N - 1] ^= 2; // two units in the last place
    CHECK(check(&linear) == CLI_FAILED, "BF16 passed");
}

static void test_a_small_error_everywhere_fails(void)
{
    CHECK(prepare("fp32"), "%s", dg_last_error());
    for (int i = 0; i < M * N; i++)
        ((float *)linear.y.data)[i] *= 1.000004f;
    CHECK(check(&linear) == CLI_FAILED, "passed");
}

static void test_a_misplaced_nan_fails(void)
{
    CHECK(prepare("fp32"), "%s", dg_last_error());
    ((float *)linear.y.data)[N] = NAN;
    CHECK(check(&linear) == CLI_FAILED, "passed with NaN in the result only");
    CHECK(prepare("fp32"), "%s", dg_last_error());
    ((uint8_t *)linear.a.values.data)[2 * K] = 0x7f; // after the product was taken
    CHECK(check(&linear) == CLI_FAILED, "passed with NaN in the reference only");
}

static void test_products_that_cancel_out_pass(void)
{
    CHECK(prepare("fp32"), "%s", dg_last_error());
    float *x = linear.x.data;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < K; j++)
            weight[i * K + j] = j < K / 2 ? 0x38 : 0xb8; // 1 and -1
    for (int i = 0; i < M * K; i++)
        x[i] = i % K < K / 2 ? x[i] : x[i - K / 2];
    for (int i = 0; i < ROW_BLOCKS * BLOCKS; i++)
        scales[i] = 0.3f;
    free(linear.a.values.data);
    free(linear.a.scales.data);
    free(linear.y.data);
    CHECK(multiply(&linear) == CLI_OK && check(&linear) == CLI_OK, "refused");
}

int main(void)
{
    RUN(test_a_right_result_passes);
    RUN(test_one_wrong_element_fails);
    RUN(test_a_small_error_everywhere_fails);
    RUN(test_a_misplaced_nan_fails);
    RUN(test_products_that_cancel_out_pass);
    release(&linear);
    return harness_end();
}
