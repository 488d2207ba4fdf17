// SPDX-License-Identifier: MIT
// mqa_run.c - `deepgemm run` and `deepgemm plan` of MQA logits.
#include "mqa.h"

static const double max_products = 1e10; // of the check

struct target {
    dg_context *context, *cpu, *oracle;
    struct cli_mqa_data data;
    struct cli_gpu gpu; // closed on a CPU
    struct cli_mqa_copy copy;
    void *base[CLI_MQA_BUFFERS];
};

struct result {
    double first_us, best_us; // best_us: NAN without repeats
    struct cli_mqa_check check;
};

static dg_status open_contexts(struct target *target, const struct cli_context_settings *settings)
{
    const struct cli_context_settings cpu = {.backend = "cpu", .device = -1},
                                      oracle = {.backend = "oracle", .device = -1};
    DG_TRY(cli_context_create(&target->context, settings));
    DG_TRY(cli_context_create(&target->cpu, &cpu));
    return cli_context_create(&target->oracle, &oracle);
}

static dg_status open_data(struct target *target, const struct cli_mqa_run *settings,
                           const struct cli_mqa *mqa)
{
    const bool is_gpu = cli_context_is_gpu(target->context);
    DG_TRY(cli_mqa_data_create(&target->data, mqa, (uint64_t)settings->seed,
                               is_gpu ? dg_context_num_sms(target->context) : 0, target->cpu));
    cli_mqa_data_base(&target->data, target->base);
    if (!is_gpu)
        return DG_OK;
    DG_TRY(cli_gpu_open(&target->gpu, settings->context.device));
    DG_TRY(cli_mqa_upload(&target->gpu, &target->data, &target->copy));
    for (int i = 0; i < CLI_MQA_BUFFERS; i++)
        target->base[i] = target->copy.base[i];
    return cli_mqa_schedule(target->context, &target->data, target->base, target->gpu.stream);
}

static void close_target(struct target *target)
{
    if (target->gpu.cuda)
        cli_mqa_copy_free(&target->gpu, &target->copy);
    cli_gpu_close(&target->gpu);
    cli_mqa_data_free(&target->data);
    dg_context_destroy(target->context);
    dg_context_destroy(target->cpu);
    dg_context_destroy(target->oracle);
}

static dg_status launch(void *user, int index, CUstream stream)
{
    struct target *target = user;
    return cli_mqa_call(target->context, &target->data, target->base, stream);
}

// Further calls are timed by the device where there is one, the first by the clock on the wall.
static dg_status call(struct target *target, bool is_first, double *us)
{
    const double start = cli_seconds();
    const dg_status status = target->gpu.cuda ? cli_gpu_time(&target->gpu, launch, target, 0, us)
                                              : launch(target, 0, NULL);
    if (is_first || !target->gpu.cuda)
        *us = 1e6 * (cli_seconds() - start);
    return status;
}

static dg_status run(struct target *target, const struct cli_mqa_run *settings,
                     const struct cli_mqa *mqa, struct result *result)
{
    DG_TRY(open_contexts(target, &settings->context));
    DG_TRY(open_data(target, settings, mqa));
    DG_TRY(call(target, true, &result->first_us));
    if (settings->check && target->gpu.cuda)
        DG_TRY(cli_mqa_fetch(&target->gpu, &target->data, &target->copy));
    if (settings->check)
        DG_TRY(cli_mqa_compare(&target->data, target->oracle, max_products, &result->check));
    for (int64_t i = 0; i < settings->repeats; i++) {
        double us = NAN;
        DG_TRY(call(target, false, &us));
        result->best_us = fmin(result->best_us, us); // fmin ignores the NaN
    }
    return DG_OK;
}

static void print_json(const struct target *target, const struct cli_mqa_run *settings,
                       const char *line, const struct result *result)
{
    printf("{\"problem\": ");
    cli_json_string(stdout, line);
    printf(", \"backend\": ");
    cli_json_string(stdout, dg_context_backend(target->context));
    printf(", \"first_us\": ");
    cli_json_number(stdout, result->first_us);
    printf(", \"best_us\": ");
    cli_json_number(stdout, result->best_us);
    printf(", \"gflops\": ");
    cli_json_number(stdout, 1e-3 * cli_mqa_operations(&target->data) / result->best_us);
    if (settings->check) {
        printf(", \"check\": {\"ok\": %s, \"rows\": %lld, \"difference\": ",
               result->check.failure[0] ? "false" : "true", (long long)result->check.rows);
        cli_json_number(stdout, result->check.difference);
        printf(", \"failure\": ");
        cli_json_string(stdout, result->check.failure);
        printf("}");
    }
    printf("}\n");
}

static void print_text(const struct target *target, const struct cli_mqa_run *settings,
                       const char *line, const struct result *result)
{
    const struct cli_mqa_check *check = &result->check;
    printf("problem  %s\nbackend  %s\ntime     first call %.1f us", line,
           dg_context_backend(target->context), result->first_us);
    if (!isnan(result->best_us))
        printf(", best of %lld further %.1f us", (long long)settings->repeats, result->best_us);
    if (result->best_us > 0)
        printf(", %.1f GFLOP/s, %.1f GB/s",
               1e-3 * cli_mqa_operations(&target->data) / result->best_us,
               1e-3 * cli_mqa_bytes(&target->data) / result->best_us);
    printf("\n");
    if (!settings->check)
        return;
    printf("check    %s, %lld of %lld rows\n", check->failure[0] ? "FAILED" : "ok",
           (long long)check->rows, (long long)target->data.mqa.rows);
    if (check->failure[0])
        printf("         %s\n", check->failure);
    printf("error    %.3g of the oracle's scores (%.3g allowed)\n", check->difference,
           check->limit);
}

int cli_mqa_run(const struct cli_command *command, const struct cli_mqa_run *settings,
                const char *line)
{
    struct cli_mqa mqa;
    struct target target = {.context = NULL};
    struct result result = {.best_us = NAN};
    char text[512];
    if (cli_mqa_parse(line, &mqa) != DG_OK)
        return cli_error(command, CLI_USAGE, "%s", dg_last_error());
    int status = CLI_OK;
    if (run(&target, settings, &mqa, &result) != DG_OK)
        status = cli_library_error(command);
    if (status == CLI_OK) {
        cli_mqa_format(&mqa, text, sizeof text);
        (settings->json ? print_json : print_text)(&target, settings, text, &result);
        status = result.check.failure[0] ? CLI_FAILED : CLI_OK;
    }
    close_target(&target);
    return status;
}

int cli_mqa_plan(const struct cli_command *command, const struct cli_context_settings *settings,
                 bool json, const char *line)
{
    struct cli_mqa mqa;
    struct cli_facts facts = {0};
    dg_context *context;
    char text[512];
    if (cli_mqa_parse(line, &mqa) != DG_OK)
        return cli_error(command, CLI_USAGE, "%s", dg_last_error());
    if (cli_context_create(&context, settings) != DG_OK)
        return cli_library_error(command);
    int status = CLI_OK;
    const struct dg_mqa_problem problem = cli_mqa_problem(&mqa);
    cli_mqa_format(&mqa, text, sizeof text);
    cli_facts_add(&facts, "problem", "line", text);
    if (dg_mqa_explain(context, &problem, cli_facts_add, &facts) != DG_OK)
        status = cli_library_error(command);
    else if (facts.failed)
        status = cli_error(command, CLI_FAILED, "out of memory");
    else
        (json ? cli_facts_json : cli_facts_print)(&facts, stdout);
    cli_facts_free(&facts);
    dg_context_destroy(context);
    return status;
}
