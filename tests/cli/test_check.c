// SPDX-License-Identifier: MIT
// test_check.c - the check that `run --check` and `bench` rely on: a right result passes, and each kind of
// wrong one is found and named.  Compiled together with the two files it tests.
#include "../../cli/data.c"
#include "../../cli/check.c"

#include "../harness.h"

static dg_context *cpu, *oracle;

static struct cli_data data;
static struct cli_check result;

// Runs a problem as the command does; true when all went well up to the check.
static bool run_problem(const char *line)
{
    struct dg_problem problem;
    struct cli_operands operands;
    cli_data_free(&data);
    if (dg_problem_parse(line, &problem) != DG_OK ||
        cli_data_create(&data, &problem, 7, cpu) != DG_OK)
        return false;
    cli_data_operands(&data, &operands);
    return cli_call(cpu, &problem, &operands, NULL, NULL) == DG_OK;
}

static bool check_passes(double max_products)
{
    return cli_check(&data, oracle, false, max_products, &result) == DG_OK &&
           result.failure[0] == 0;
}

static char *output(void)
{
    return (char *)data.buffer[CLI_D] + CLI_GUARD_BYTES;
}

static void test_right_results_pass(void)
{
    static const char *const lines[] = {
        "fp8_gemm_nt m=37 n=41 k=300",
        "fp8_gemm_nt m=37 n=41 k=300 out=fp32",
        "fp8_gemm_nn m=37 n=41 k=300 out=fp32 c=inplace ldd=50",
        "fp8_gemm_tn m=37 n=41 k=300 c=separate sfb=1 sf=ue8m0 sfb_layout=mn",
        "fp8_gemm_tt m=37 n=41 k=300 lda=60 sfa_layout=mn",
        "fp8_gemm_nt m=1 n=1 k=128 out=fp32",
        "fp8_gemm_nt m=0 n=3 k=128",
        "fp8_gemm_nt m=3 n=3 k=0 c=separate",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CHECK(run_problem(lines[i]), "%s: %s", lines[i], dg_last_error());
        CHECK(check_passes(1e10), "%s: %s", lines[i], result.failure);
        CHECK(check_passes(1), "%s, sampled: %s", lines[i], result.failure);
    }
}

static void test_one_wrong_fp32_element_is_found(void)
{
    CHECK(run_problem("fp8_gemm_nt m=20 n=30 k=256 out=fp32"), "%s", dg_last_error());
    float *d = (float *)output();
    d[7 * 30 + 11] += 1e-3f; // about 6e-5 of an element
    CHECK(!check_passes(1e10), "passed with relative error %g, row error %g", result.relative,
          result.row);
    CHECK(strncmp(result.failure, "element [7, 11] is ", 19) == 0, "%s", result.failure);
}

static void test_two_bf16_roundings_are_too_many(void)
{
    CHECK(run_problem("fp8_gemm_nt m=20 n=30 k=256"), "%s", dg_last_error());
    CHECK(check_passes(1e10), "%s", result.failure);
    CHECK(result.rounding > 0.9, "the worst of 600 roundings is only %g", result.rounding);
    uint16_t *d = (uint16_t *)output();
    d[3 * 30 + 29] ^= 2; // two steps away from a value that was rounded once
    CHECK(!check_passes(1e10), "passed with rounding %g", result.rounding);
    CHECK(strncmp(result.failure, "element [3, 29] is ", 19) == 0, "%s", result.failure);
}

static void test_small_errors_everywhere_are_found(void)
{
    CHECK(run_problem("fp8_gemm_nt m=20 n=30 k=256 out=fp32"), "%s", dg_last_error());
    float *d = (float *)output();
    for (int i = 0; i < 600; i++)
        d[i] *= 1 + 1.2e-6f;
    CHECK(!check_passes(1e10), "passed");
    CHECK(strstr(result.failure, "relative error 1."), "%s", result.failure);
}

static void test_c_left_out_is_found(void)
{
    CHECK(run_problem("fp8_gemm_nt m=20 n=30 k=256 c=inplace"), "%s", dg_last_error());
    CHECK(check_passes(1e10), "%s", result.failure);
    data.problem.c_mode = DG_C_NONE; // what a kernel that forgets C would do
    struct cli_operands operands;
    cli_data_operands(&data, &operands);
    CHECK(cli_call(cpu, &data.problem, &operands, NULL, NULL) == DG_OK, "%s", dg_last_error());
    data.problem.c_mode = DG_C_IN_PLACE;
    CHECK(!check_passes(1e10), "passed");
}

static void test_elements_not_written_are_found_even_in_rows_not_compared(void)
{
    CHECK(run_problem("fp8_gemm_nt m=400 n=8 k=128"), "%s", dg_last_error());
    CHECK(check_passes(1), "%s", result.failure);
    CHECK(result.rows == 4, "%lld rows were compared", (long long)result.rows);
    memset(output() + (250 * 8 + 5) * 2, CLI_POISON, 2);
    CHECK(!check_passes(1), "passed");
    CHECK(strstr(result.failure, "element [250, 5] was not written"), "%s", result.failure);
}

static void test_writes_outside_are_found(void)
{
    CHECK(run_problem("fp8_gemm_nt m=9 n=8 k=128 out=fp32 ldd=12"), "%s", dg_last_error());
    const size_t bytes = data.bytes[CLI_D];
    CHECK(bytes == (8 * 12 + 8) * sizeof(float), "%zu bytes", bytes);
    const struct {
        char *where;
        const char *text;
    } writes[] = {
        {output() - 1, "outside D"},
        {output() + bytes, "outside D"},
        {output() + bytes + CLI_GUARD_BYTES - 1, "outside D"},
        {output() + (4 * 12 + 8) * 4, "the gap behind row 4"},
        {output() + 5 * 12 * 4 - 1, "the gap behind row 4"},
    };
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
        const char saved = *writes[i].where;
        *writes[i].where = 0;
        CHECK(!check_passes(1e10) && strstr(result.failure, writes[i].text), "write %zu: `%s`", i,
              result.failure);
        *writes[i].where = saved;
    }
    CHECK(check_passes(1e10), "%s", result.failure);
}

static void test_the_same_seed_gives_the_same_operands(void)
{
    struct dg_problem problem;
    struct cli_data other;
    CHECK(dg_problem_parse("fp8_gemm_nt m=300 n=40 k=1000 out=fp32 c=separate", &problem) == DG_OK,
          "%s", dg_last_error());
    for (uint64_t seed = 1; seed <= 2; seed++) {
        cli_data_free(&data);
        CHECK(cli_data_create(&data, &problem, 1, cpu) == DG_OK, "%s", dg_last_error());
        CHECK(cli_data_create(&other, &problem, seed, cpu) == DG_OK, "%s", dg_last_error());
        for (int i = 0; i < CLI_D; i++) {
            CHECK(data.bytes[i] == other.bytes[i] && data.bytes[i] > 0, "buffer %d", i);
            const bool is_equal = memcmp(data.buffer[i], other.buffer[i], data.bytes[i]) == 0;
            CHECK(is_equal == (seed == 1), "seed %d, buffer %d", (int)seed, i);
        }
        cli_data_free(&other);
    }
}

static void test_values_are_normal_and_use_the_range(void)
{
    double sum = 0, squares = 0, cubes = 0, fourths = 0;
    const int count = 1000000;
    for (int i = 0; i < count; i++) {
        const double x = normal(mix((uint64_t)i));
        sum += x, squares += x * x, cubes += x * x * x, fourths += x * x * x * x;
    }
    CHECK(fabs(sum / count) < 0.005 && fabs(squares / count - 1) < 0.005, "%g %g", sum, squares);
    CHECK(fabs(cubes / count) < 0.02 && fabs(fourths / count - 2.85) < 0.05, "%g %g", cubes,
          fourths);
    CHECK(run_problem("fp8_gemm_nt m=64 n=128 k=512"), "%s", dg_last_error());
    int histogram[256] = {0};
    for (size_t i = 0; i < data.bytes[CLI_A]; i++)
        histogram[((unsigned char *)data.buffer[CLI_A])[i]]++;
    CHECK(histogram[0x7e] + histogram[0xfe] >= 64 * 4, "one of each 128 is the largest, 448");
    CHECK(histogram[0x7f] + histogram[0xff] == 0, "no NaN");
}

int main(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.backend = "cpu";
    if (dg_context_create(&cpu, &options) != DG_OK)
        return printf("not ok 1 - a CPU context: %s\n", dg_last_error()), 1;
    options.backend = "oracle";
    if (dg_context_create(&oracle, &options) != DG_OK)
        return printf("not ok 1 - an oracle context: %s\n", dg_last_error()), 1;
    RUN(test_right_results_pass);
    RUN(test_one_wrong_fp32_element_is_found);
    RUN(test_two_bf16_roundings_are_too_many);
    RUN(test_small_errors_everywhere_are_found);
    RUN(test_c_left_out_is_found);
    RUN(test_elements_not_written_are_found_even_in_rows_not_compared);
    RUN(test_writes_outside_are_found);
    RUN(test_the_same_seed_gives_the_same_operands);
    RUN(test_values_are_normal_and_use_the_range);
    cli_data_free(&data);
    dg_context_destroy(oracle);
    dg_context_destroy(cpu);
    return harness_end();
}
