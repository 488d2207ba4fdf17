// SPDX-License-Identifier: MIT
// cli_run.c - `deepgemm run`: one problem on random data, timed, and compared with the oracle.
#include "gpu.h"
#include "grouped.h"
#include "mqa.h"

#include <string.h>

struct run_settings {
    struct cli_context_settings context;
    int check, json;
    int64_t seed, repeats;
};

static const struct cli_option options[] = {
    {"check", CLI_FLAG, offsetof(struct run_settings, check), NULL,
     "compare with the oracle; exit 1 if the result is wrong"},
    {"json", CLI_FLAG, offsetof(struct run_settings, json), NULL, "print JSON"},
    {"seed", CLI_NUMBER, offsetof(struct run_settings, seed), "N", "of the random data (1)"},
    {"repeats", CLI_NUMBER, offsetof(struct run_settings, repeats), "N",
     "timed calls after the first (3)"},
    CLI_CONTEXT_OPTIONS(struct run_settings, context),
    {0},
};

struct run_result {
    double first_us, best_us; // best_us: NAN without repeats
    struct cli_check check;
};

// Up to about 20 s of double sums on a small machine; beyond that, rows are sampled.
static const double max_products = 1e10;

// Where a problem runs: on a CPU in the data's own buffers, on a GPU in copies of them.
struct target {
    dg_context *context;
    struct cli_data *data;
    struct cli_operands operands;
    struct dg_gemm_options options;
    struct cli_gpu gpu; // closed on a CPU
    struct cli_gpu_data copy;
};

static dg_status target_open(struct target *target, const struct run_settings *settings)
{
    target->options = DG_GEMM_OPTIONS;
    cli_data_operands(target->data, &target->operands);
    if (!cli_context_is_gpu(target->context))
        return DG_OK;
    dg_status status = cli_gpu_open(&target->gpu, settings->context.device);
    if (status == DG_OK)
        status = cli_gpu_upload(&target->gpu, target->data, &target->copy);
    if (status == DG_OK)
        status = cli_gpu_workspace(&target->gpu, target->context, &target->data->problem,
                                   &target->options);
    target->operands = target->copy.operands;
    return status;
}

static void target_close(struct target *target)
{
    if (target->gpu.cuda) {
        cli_gpu_workspace_free(&target->gpu, &target->options);
        cli_gpu_data_free(&target->gpu, &target->copy);
    }
    cli_gpu_close(&target->gpu);
}

static dg_status launch(void *user, int index, CUstream stream)
{
    struct target *target = user;
    return cli_call(target->context, &target->data->problem, &target->operands, &target->options,
                    stream);
}

// Further calls are timed by the device where there is one, the first by the clock on the wall.
static dg_status call(struct target *target, bool is_first, double *us)
{
    const double start = cli_seconds();
    dg_status status;
    if (target->gpu.cuda)
        status = cli_gpu_time(&target->gpu, launch, target, 0, us);
    else
        status = launch(target, 0, NULL);
    if (is_first || !target->gpu.cuda)
        *us = 1e6 * (cli_seconds() - start);
    return status;
}

static dg_status check(struct target *target, dg_context *oracle, struct run_result *result)
{
    const bool is_gpu = target->gpu.cuda != NULL;
    const dg_status status =
        is_gpu ? cli_gpu_fetch_d(&target->gpu, target->data, &target->copy) : DG_OK;
    return status != DG_OK ? status
                           : cli_check(target->data, oracle, is_gpu, max_products, &result->check);
}

static dg_status run(struct target *target, dg_context *oracle, const struct run_settings *settings,
                     struct run_result *result)
{
    dg_status status = target_open(target, settings);
    result->best_us = NAN;
    if (status == DG_OK)
        status = call(target, true, &result->first_us);
    // Only the first call may be compared: with C in place each further one adds again.
    if (status == DG_OK && settings->check)
        status = check(target, oracle, result);
    for (int64_t i = 0; i < settings->repeats && status == DG_OK; i++) {
        double us = NAN;
        status = call(target, false, &us);
        result->best_us = fmin(result->best_us, us); // fmin ignores the NaN
    }
    target_close(target);
    return status;
}

static void print_json(const struct run_settings *settings, const struct dg_problem *problem,
                       const char *line, const char *backend, const struct run_result *result)
{
    printf("{\"problem\": ");
    cli_json_string(stdout, line);
    printf(", \"backend\": ");
    cli_json_string(stdout, backend);
    printf(", \"first_us\": ");
    cli_json_number(stdout, result->first_us);
    printf(", \"best_us\": ");
    cli_json_number(stdout, result->best_us);
    printf(", \"gflops\": ");
    cli_json_number(stdout, 1e-3 * cli_operations(problem) / result->best_us);
    if (settings->check) {
        const struct cli_check *check = &result->check;
        printf(", \"check\": {\"ok\": %s, \"rows\": %lld, \"relative_error\": ",
               check->failure[0] ? "false" : "true", (long long)check->rows);
        cli_json_number(stdout, check->relative);
        printf(", \"row_error\": ");
        cli_json_number(stdout, check->row);
        printf(", \"rounding\": ");
        cli_json_number(stdout, problem->d_type == DG_BF16 ? check->rounding : NAN);
        printf(", \"failure\": ");
        cli_json_string(stdout, check->failure);
        printf("}");
    }
    printf("}\n");
}

static void print_check(const struct dg_problem *problem, const struct cli_check *check)
{
    printf("check    %s", check->failure[0] ? "FAILED" : "ok");
    printf(", %lld of %lld rows\n", (long long)check->rows, (long long)cli_output_rows(problem));
    if (check->failure[0])
        printf("         %s\n", check->failure);
    printf("error    %.3g of the norm (%.3g allowed), at most %.3g of a row's root mean square",
           check->relative, check->limit_relative, check->row);
    if (problem->d_type == DG_BF16)
        printf(", %.3f of one BF16 rounding\n", check->rounding);
    else
        printf(" (%.3g allowed)\n", check->limit_row);
}

static void print_text(const struct run_settings *settings, const struct dg_problem *problem,
                       const char *line, const char *backend, const struct run_result *result)
{
    printf("problem  %s\nbackend  %s\ntime     first call %.1f us", line, backend,
           result->first_us);
    if (!isnan(result->best_us))
        printf(", best of %lld further %.1f us", (long long)settings->repeats, result->best_us);
    if (result->best_us > 0)
        printf(", %.1f GFLOP/s, %.1f GB/s", 1e-3 * cli_operations(problem) / result->best_us,
               1e-3 * cli_bytes(problem) / result->best_us);
    printf("\n");
    if (settings->check)
        print_check(problem, &result->check);
}

static int run_problem(const struct cli_command *command, const struct run_settings *settings,
                       const struct dg_problem *problem, dg_context *contexts[3])
{
    dg_context *const context = contexts[0], *const cpu = contexts[1], *const oracle = contexts[2];
    struct cli_data data;
    dg_status status = cli_data_create(&data, problem, (uint64_t)settings->seed, cpu);
    struct target target = {.context = context, .data = &data};
    struct run_result result = {0};
    if (status == DG_OK)
        status = run(&target, oracle, settings, &result);
    cli_data_free(&data);
    if (status != DG_OK)
        return cli_status_error(command, status);

    char line[512];
    cli_problem_format(problem, line, sizeof line);
    (settings->json ? print_json : print_text)(settings, problem, line, dg_context_backend(context),
                                               &result);
    return result.check.failure[0] ? CLI_FAILED : CLI_OK;
}

static int run_main(const struct cli_command *command, int argc, char **argv)
{
    struct run_settings settings = {.context = CLI_CONTEXT_SETTINGS, .seed = 1, .repeats = 3};
    int first, status;
    if (!cli_parse(command, argc, argv, &settings, &first, &status))
        return status;
    if (argc - first != 1)
        return cli_error(command, CLI_USAGE, "one problem is wanted, %d given", argc - first);
    if (cli_mqa_is_line(argv[first])) {
        const struct cli_mqa_run mqa = {.context = settings.context,
                                        .check = settings.check,
                                        .json = settings.json,
                                        .seed = settings.seed,
                                        .repeats = settings.repeats};
        return cli_mqa_run(command, &mqa, argv[first]);
    }
    struct dg_problem problem;
    if (cli_problem_parse(argv[first], &problem) != DG_OK)
        return cli_error(command, CLI_USAGE, "%s", dg_last_error());

    dg_context *contexts[3] = {NULL};
    const struct cli_context_settings cpu = {.backend = "cpu", .device = -1},
                                      oracle = {.backend = "oracle", .device = -1};
    if (cli_context_create(&contexts[0], &settings.context) != DG_OK ||
        cli_context_create(&contexts[1], &cpu) != DG_OK ||
        cli_context_create(&contexts[2], &oracle) != DG_OK)
        status = cli_library_error(command);
    else
        status = run_problem(command, &settings, &problem, contexts);
    for (int i = 0; i < 3; i++)
        dg_context_destroy(contexts[i]);
    return status;
}

const struct cli_command cli_run = {
    .name = "run",
    .arguments = "'PROBLEM'",
    .summary = "run one problem on random data; with --check, compare with the oracle",
    .details =
        "A problem is an operation with its sizes; deepgemm.h has all keys, at "
        "dg_problem_parse.\n\n"
        "  fp8_gemm_nt m=4096 n=7168 k=2048 out=fp32\n"
        "  fp8_m_grouped_masked groups=32 max_m=256 n=4096 k=7168 rows=20\n"
        "  fp8_k_grouped groups=4 m=4096 n=7168 k=32768 c=inplace\n"
        "  fp8_mqa_logits s=128 skv=4096 h=64 d=128\n\n"
        "rows= says how many rows (or values of k) the groups have: a number, uniform:LOW-HIGH\n"
        "(times expected_m), zipf, hot, or file:PATH: recorded numbers, one for each group.",
    .options = options,
    .main = run_main,
};
