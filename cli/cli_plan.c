// SPDX-License-Identifier: MIT
// cli_plan.c - `deepgemm plan`: what would run for a problem, and why.
#include "grouped.h"
#include "mqa.h"

struct plan_settings {
    struct cli_context_settings context;
    int json;
};

static const struct cli_option options[] = {
    CLI_CONTEXT_OPTIONS(struct plan_settings, context),
    {"json", CLI_FLAG, offsetof(struct plan_settings, json), NULL, "print JSON"},
    {0},
};

static int plan_main(const struct cli_command *command, int argc, char **argv)
{
    struct plan_settings settings = {.context = CLI_CONTEXT_SETTINGS};
    int first, status;
    if (!cli_parse(command, argc, argv, &settings, &first, &status))
        return status;
    if (argc - first != 1)
        return cli_error(command, CLI_USAGE, "one problem is wanted, %d given", argc - first);
    if (cli_mqa_is_line(argv[first]))
        return cli_mqa_plan(command, &settings.context, settings.json, argv[first]);
    struct dg_problem problem;
    if (cli_problem_parse(argv[first], &problem) != DG_OK)
        return cli_error(command, CLI_USAGE, "%s", dg_last_error());

    dg_context *context;
    if (cli_context_create(&context, &settings.context) != DG_OK)
        return cli_library_error(command);
    struct cli_facts facts = {0};
    if (dg_explain(context, &problem, cli_facts_add, &facts) != DG_OK)
        status = cli_library_error(command);
    else if (facts.failed)
        status = cli_error(command, CLI_FAILED, "out of memory");
    else {
        (settings.json ? cli_facts_json : cli_facts_print)(&facts, stdout);
        status = CLI_OK;
    }
    cli_facts_free(&facts);
    dg_context_destroy(context);
    return status;
}

const struct cli_command cli_plan = {
    .name = "plan",
    .arguments = "'PROBLEM'",
    .summary = "what would run for a problem, and why",
    .options = options,
    .main = plan_main,
};
