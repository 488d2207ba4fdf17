// SPDX-License-Identifier: MIT
// log.c - where messages go.  A message of several lines is delivered line by line, so that a sink
// never meets a newline.
#include "base/log.h"

#include "base/env.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {
    [DG_LOG_ERROR] = "error",
    [DG_LOG_WARNING] = "warning",
    [DG_LOG_INFO] = "info",
    [DG_LOG_DEBUG] = "debug",
};

static void write_standard_error(void *user, dg_log_level level, const char *text)
{
    fprintf(stderr, "deepgemm %s: %s\n", level_names[level], text);
}

// Variables of DeepGEMM that print when they are set.
static dg_log_level level_of_debug_variables(void)
{
    static const enum dg_env printing[] = {
        DG_ENV_PRINT_CONFIGS,
        DG_ENV_JIT_PRINT_COMPILER_COMMAND,
        DG_ENV_JIT_PTXAS_VERBOSE,
        DG_ENV_JIT_PRINT_LOAD_TIME,
    };
    if (dg_env_number(DG_ENV_JIT_DEBUG, 0))
        return DG_LOG_DEBUG;
    for (size_t i = 0; i < sizeof printing / sizeof *printing; i++)
        if (dg_env_number(printing[i], 0))
            return DG_LOG_INFO;
    return (dg_log_level)0;
}

// Variables that ask for something: whoever sets one wants to know when nothing comes of it.
static dg_log_level level_of_wishes(void)
{
    static const enum dg_env wishes[] = {
        DG_ENV_TUNING_FILE,
        DG_ENV_JIT_DUMP_ASM,
        DG_ENV_JIT_DUMP_PTX,
        DG_ENV_JIT_DUMP_SASS,
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        if (dg_env_text(wishes[i]))
            return DG_LOG_WARNING;
    return (dg_log_level)0;
}

// 0 when $DG_LOG is unset or no level.
static dg_log_level level_of_environment(void)
{
    const char *text = dg_env_text(DG_ENV_LOG);
    for (int level = DG_LOG_ERROR; text && level <= DG_LOG_DEBUG; level++)
        if (!strcmp(text, level_names[level]))
            return (dg_log_level)level;
    return (dg_log_level)0;
}

static struct dg_log standard_error(void)
{
    dg_log_level asked = level_of_environment(), debug = level_of_debug_variables();
    struct dg_log log = {write_standard_error, NULL, asked > debug ? asked : debug};
    const char *text = dg_env_text(DG_ENV_LOG);
    if (text && !asked) {
        log.level = debug > DG_LOG_WARNING ? debug : DG_LOG_WARNING;
        dg_log_write(&log, DG_LOG_WARNING,
                     "$DG_LOG = `%s`: must be error, warning, info or debug; taken as warning",
                     text);
    }
    if (!log.level)
        log.level = level_of_wishes();
    return log.level ? log : (struct dg_log){0};
}

struct dg_log dg_log_open(const struct dg_context_options *options)
{
    if (!options->log)
        return standard_error();
    dg_log_level level = options->log_level ? options->log_level : DG_LOG_WARNING;
    return (struct dg_log){options->log, options->log_user, level};
}

static void deliver_lines(const struct dg_log *log, dg_log_level level, char *text)
{
    while (*text) {
        char *end = text + strcspn(text, "\n");
        char *next = *end ? end + 1 : end;
        *end = 0;
        if (end > text)
            log->callback(log->user, level, text);
        text = next;
    }
}

void dg_log_write(const struct dg_log *log, dg_log_level level, const char *format, ...)
{
    if (!log || !log->callback || level > log->level)
        return;
    char fixed[1024], *text = fixed;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(fixed, sizeof fixed, format, arguments);
    // Without memory for a long message its beginning still arrives.
    if (length >= (int)sizeof fixed && (text = malloc((size_t)length + 1)))
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    if (length >= 0)
        deliver_lines(log, level, text ? text : fixed);
    if (text != fixed)
        free(text);
}
