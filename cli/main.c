// SPDX-License-Identifier: MIT
// main.c - the command `deepgemm`: finds the command of that name and runs it.
#include "cli.h"

#include <string.h>

extern const struct cli_command cli_info, cli_run, cli_bench, cli_plan, cli_linear, cli_quantize,
    cli_compile;

static const struct cli_command *const commands[] = {
    &cli_info, &cli_run, &cli_bench, &cli_plan, &cli_linear, &cli_quantize, &cli_compile,
};
enum { NUM_COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *file)
{
    fprintf(file,
            "deepgemm %s - FP8 matrix multiplication with fine-grained scales\n\n"
            "usage: deepgemm COMMAND [options] [arguments]\n\ncommands:\n",
            dg_version());
    for (int i = 0; i < NUM_COMMANDS; i++)
        fprintf(file, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(file, "  %-10s %s\n", "version", "print the version");
    fprintf(file, "\n'deepgemm COMMAND --help' says more about one.\n"
                  "A problem is one line of text:  fp8_gemm_nt m=64 n=2112 k=7168 out=bf16\n");
}

static const struct cli_command *find(const char *name)
{
    for (int i = 0; i < NUM_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

// Output that did not reach its file is a failure, however well the command went.
static int flushed(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "deepgemm: standard output could not be written\n");
    return status == CLI_OK ? CLI_FAILED : status;
}

static int run_help(int argc, char **argv)
{
    if (argc < 3) {
        print_usage(stdout);
        return CLI_OK;
    }
    const struct cli_command *command = find(argv[2]);
    char *arguments[] = {argv[2], (char[]){"--help"}, NULL};
    if (command)
        return command->main(command, 2, arguments);
    fprintf(stderr, "deepgemm: unknown command '%s'\n", argv[2]);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return flushed(run_help(argc, argv));
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("deepgemm %s\n", dg_version());
        return flushed(CLI_OK);
    }
    const struct cli_command *command = find(name);
    if (command)
        return flushed(command->main(command, argc - 1, argv + 1));
    fprintf(stderr, "deepgemm: unknown command '%s'; 'deepgemm help' lists them\n", name);
    return CLI_USAGE;
}
