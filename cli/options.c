// SPDX-License-Identifier: MIT
// options.c - the command line of one command, read with libc's getopt_long from its table of
// options; the same table makes the help.
#define DG_CLI_OPTIONS_C
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 32, HELP_OPTION = 256 };

static void print_help(const struct cli_command *command)
{
    printf("usage: deepgemm %s [options]%s%s\n\n%s\n", command->name,
           *command->arguments ? " " : "", command->arguments, command->summary);
    if (command->details)
        printf("\n%s\n", command->details);
    printf("\noptions:\n");
    for (const struct cli_option *option = command->options; option->name; option++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        printf("  %-22s %s\n", left, option->help);
    }
    printf("  %-22s %s\n", "--help", "this text");
}

static bool store_one_more(const struct cli_command *command, const struct cli_option *option,
                           const char *text, struct cli_texts *texts)
{
    const int most = (int)(sizeof texts->list / sizeof *texts->list);
    if (texts->count == most)
        cli_error(command, CLI_USAGE, "--%s %s: at most %d of them", option->name, text, most);
    else
        texts->list[texts->count++] = text;
    return texts->count < most || texts->list[most - 1] == text;
}

static bool store(const struct cli_command *command, const struct cli_option *option,
                  const char *text, char *settings)
{
    char *variable = settings + option->offset;
    switch (option->kind) {
    case CLI_FLAG:
        *(int *)variable = 1;
        return true;
    case CLI_TEXT:
        *(const char **)variable = text;
        return true;
    case CLI_TEXTS:
        return store_one_more(command, option, text, (struct cli_texts *)(void *)variable);
    case CLI_DEVICE:
        if (text[0] < '0' || text[0] > '9') {
            ((struct cli_context_settings *)(void *)variable)->profile = text;
            return true;
        }
        variable += offsetof(struct cli_context_settings, device);
        break;
    case CLI_NUMBER:
        break;
    }
    char *end;
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    if (errno || end == text || *end || number < 0) {
        cli_error(command, CLI_USAGE, "--%s %s: a whole number of at least 0 is wanted",
                  option->name, text);
        return false;
    }
    *(int64_t *)variable = number;
    return true;
}

bool cli_parse(const struct cli_command *command, int argc, char **argv, void *settings, int *first,
               int *status)
{
    struct option table[MAX_OPTIONS + 2] = {{0}};
    int count = 0;
    for (const struct cli_option *option = command->options; option->name && count < MAX_OPTIONS;
         option++, count++)
        table[count] = (struct option){option->name,
                                       option->kind == CLI_FLAG ? no_argument : required_argument,
                                       NULL, HELP_OPTION + 1 + count};
    table[count] = (struct option){"help", no_argument, NULL, HELP_OPTION};

    char program[64]; // getopt_long puts it before its messages
    snprintf(program, sizeof program, "deepgemm %s", command->name);
    argv[0] = program;
    *status = CLI_USAGE;
    optind = 1;
    for (int found; (found = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (found == HELP_OPTION || found == 'h') {
            print_help(command);
            *status = CLI_OK;
            return false;
        }
        if (found <= HELP_OPTION) {
            fprintf(stderr, "'%s --help' lists the options\n", program);
            return false;
        }
        if (!store(command, &command->options[found - HELP_OPTION - 1], optarg, settings))
            return false;
    }
    *first = optind;
    return true;
}

int cli_error(const struct cli_command *command, int status, const char *format, ...)
{
    cli_progress_clear();
    fprintf(stderr, "deepgemm %s: ", command->name);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    return status;
}

int cli_library_error(const struct cli_command *command)
{
    return cli_error(command, CLI_FAILED, "%s", dg_last_error());
}

int cli_status_error(const struct cli_command *command, dg_status status)
{
    if (status == DG_OUT_OF_MEMORY)
        return cli_error(command, CLI_FAILED, "out of memory");
    return cli_library_error(command);
}

dg_status cli_context_create(dg_context **context, const struct cli_context_settings *settings)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.backend = settings->backend;
    options.cpu_isa = settings->isa;
    options.device_profile = settings->profile;
    // Beyond int32 the library refuses the value all the same.
    options.num_threads = settings->threads > INT32_MAX ? INT32_MAX : (int32_t)settings->threads;
    options.num_sms = settings->num_sms > INT32_MAX ? INT32_MAX : (int32_t)settings->num_sms;
    options.device = settings->device > INT32_MAX ? INT32_MAX : (int32_t)settings->device;
    return dg_context_create(context, &options);
}

bool cli_context_is_gpu(const dg_context *context)
{
    const char *backend = dg_context_backend(context);
    return strcmp(backend, "cpu") != 0 && strcmp(backend, "oracle") != 0;
}

bool cli_list_item(const char *list, int n, char *item, size_t capacity)
{
    for (; n > 0 && list; n--) {
        list = strchr(list, ',');
        list = list ? list + 1 : NULL;
    }
    if (!list)
        return false;
    const size_t length = strcspn(list, ",");
    if (length >= capacity)
        return false;
    memcpy(item, list, length);
    item[length] = 0;
    return true;
}
