// SPDX-License-Identifier: MIT
// cli_info.c - `deepgemm info`: what the library found on this machine.
#include "cli.h"

struct info_settings {
    int json;
};

static const struct cli_option options[] = {
    {"json", CLI_FLAG, offsetof(struct info_settings, json), NULL, "print JSON"},
    {0},
};

static int info_main(const struct cli_command *command, int argc, char **argv)
{
    struct info_settings settings = {0};
    int first, status;
    if (!cli_parse(command, argc, argv, &settings, &first, &status))
        return status;
    if (first < argc)
        return cli_error(command, CLI_USAGE, "'%s': takes no arguments", argv[first]);

    struct cli_facts facts = {0};
    if (dg_info(cli_facts_add, &facts) != DG_OK)
        status = cli_library_error(command);
    else if (facts.failed)
        status = cli_error(command, CLI_FAILED, "out of memory");
    else {
        status = CLI_OK;
        (settings.json ? cli_facts_json : cli_facts_print)(&facts, stdout);
    }
    cli_facts_free(&facts);
    return status;
}

const struct cli_command cli_info = {
    .name = "info",
    .arguments = "",
    .summary = "what was found on this machine: backends, devices, compilers, settings",
    .options = options,
    .main = info_main,
};
