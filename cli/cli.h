// SPDX-License-Identifier: MIT
// cli.h - what the commands of `deepgemm` share: a table of commands with their options, results as
// a table on the terminal, CSV or JSON, a progress bar, and contexts made from options.
//
// A command is one file with one `struct cli_command`; main.c lists them.  Results go to standard
// output, everything else to standard error.  Exit status: CLI_OK, CLI_FAILED, CLI_USAGE.
#ifndef DG_CLI_CLI_H
#define DG_CLI_CLI_H

#include "deepgemm.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    CLI_OK = 0,
    CLI_FAILED = 1, // it was tried and went wrong: an error of the library, a failed check
    CLI_USAGE = 2,  // the command line is wrong: unknown command, option, problem key
};

// ---- options.c: the command line ----------------------------------------------------------------

enum cli_option_kind {
    CLI_FLAG,   // int, set to 1
    CLI_TEXT,   // const char *
    CLI_NUMBER, // int64_t, not negative
    CLI_TEXTS,  // struct cli_texts: may be given more than once
    CLI_DEVICE, // struct cli_context_settings: a number is its device, a name its profile
};

struct cli_texts {
    const char *list[16];
    int count;
};

struct cli_option {
    const char *name; // without the two hyphens; NULL ends a table
    enum cli_option_kind kind;
    size_t offset;     // of the variable, in the command's settings struct
    const char *value; // how the help calls the value; NULL for flags
    const char *help;
};

struct cli_command {
    const char *name;
    const char *arguments; // positional ones, for the usage line
    const char *summary;   // one line
    const char *details;   // more lines for the command's own help; may be NULL
    const struct cli_option *options;
    int (*main)(const struct cli_command *command, int argc, char **argv); // argv[0]: the command
};

// Reads options into `settings` wherever they stand; --help and -h are understood by every command.
// True: go on, the positional arguments are argv[*first] to argv[argc - 1].  False: return *status.
bool cli_parse(const struct cli_command *command, int argc, char **argv, void *settings, int *first,
               int *status);

// Prints "deepgemm COMMAND: text" on standard error; returns `status`, for `return cli_error(...)`.
__attribute__((format(printf, 3, 4))) int cli_error(const struct cli_command *command, int status,
                                                    const char *format, ...);
// The same with the library's last error; CLI_FAILED.
int cli_library_error(const struct cli_command *command);
// The same for a function that may run out of memory before it reaches the library.
int cli_status_error(const struct cli_command *command, dg_status status);

// Static analysis sees one file at a time; this tells it that a failure is never CLI_OK.
#if defined(__clang_analyzer__) && !defined(DG_CLI_OPTIONS_C)
#define cli_error(command, status, ...) ((void)cli_error(command, status, __VA_ARGS__), (status))
#define cli_library_error(command) ((void)cli_library_error(command), CLI_FAILED)
#define cli_status_error(command, status) ((void)cli_status_error(command, status), CLI_FAILED)
#endif

// Options that choose and shape a context, for the settings of any command that makes one.
struct cli_context_settings {
    const char *backend, *isa;
    const char *profile; // of a device that need not be there; NULL: one of this machine
    int64_t threads, device, num_sms;
};
// clang-format off
#define CLI_CONTEXT_SETTINGS {.device = -1}
#define CLI_CONTEXT_OPTIONS(settings, member)                                                     \
    {"backend", CLI_TEXT, offsetof(settings, member.backend), "NAME", "sm90, cpu or oracle"},     \
    {"isa", CLI_TEXT, offsetof(settings, member.isa), "NAME", "CPU kernels: c, avx2 or avx512"},  \
    {"threads", CLI_NUMBER, offsetof(settings, member.threads), "N", "CPU threads"},              \
    {"device", CLI_DEVICE, offsetof(settings, member), "N|NAME",                                  \
     "CUDA device, or plan for one of: h100-sxm, h100-pcie, h200, h20"},                          \
    {"num-sms", CLI_NUMBER, offsetof(settings, member.num_sms), "N", "SMs a GPU call may occupy"}
// clang-format on
dg_status cli_context_create(dg_context **context, const struct cli_context_settings *settings);
bool cli_context_is_gpu(const dg_context *context);

// The n-th item of a comma-separated list, copied; false behind the last one or when it is too
// long.
bool cli_list_item(const char *list, int n, char *item, size_t capacity);

// ---- output.c: results --------------------------------------------------------------------------

struct cli_value {
    const char *text; // NULL: a number
    double number;    // NAN with text == NULL: empty
};
#define CLI_TEXT_VALUE(string) ((struct cli_value){(string), 0})
#define CLI_NUMBER_VALUE(value) ((struct cli_value){NULL, (value)})
#define CLI_EMPTY_VALUE ((struct cli_value){NULL, (double)NAN})

struct cli_column {
    const char *key;    // in CSV and JSON; with its unit
    const char *title;  // on the terminal; NULL: not shown there
    int width;          // on the terminal; negative: flush left
    const char *format; // for numbers, one double: "%.1f"
};

// Rows appear as they are made.  `terminal`, `csv` and `json` may each be NULL; JSON is an array of
// objects.
struct cli_table {
    const struct cli_column *columns;
    int num_columns;
    FILE *terminal, *csv, *json;
    int first_width; // 0: the first column's own
    int64_t num_rows;
};
void cli_table_begin(struct cli_table *table);
void cli_table_row(struct cli_table *table, const struct cli_value *values);
void cli_table_end(struct cli_table *table);

// A string in quotes with JSON's escapes; bytes that are not UTF-8 are written as U+FFFD.
void cli_json_string(FILE *file, const char *text);
// A number; null for NaN and infinities.
void cli_json_number(FILE *file, double number);

// Facts from dg_info and dg_explain, grouped by section in order of appearance.
struct cli_facts {
    struct cli_fact {
        char *section, *key, *value;
    } * list;
    size_t count, capacity;
    bool failed; // memory ran out
};
void cli_facts_add(void *facts, const char *section, const char *key, const char *value);
const char *cli_facts_find(const struct cli_facts *facts, const char *key); // NULL: not there
void cli_facts_print(const struct cli_facts *facts, FILE *file);
// {"section": {"key": "value", ...}, ...}
void cli_facts_json(const struct cli_facts *facts, FILE *file);
void cli_facts_free(struct cli_facts *facts);

// A bar on standard error while it is a terminal, nothing otherwise.  Clear it before printing a
// row.
void cli_progress_show(const char *what, double done, double total);
void cli_progress_clear(void);

// Seconds of a clock that only goes forward.
double cli_seconds(void);

#endif
