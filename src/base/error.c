// SPDX-License-Identifier: MIT
// error.c - the thread-local text of the last failure.
#define DG_BASE_ERROR_C
#include "base/error.h"

#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[4096];
static _Thread_local bool is_kept;

void dg_error_keep(bool keep)
{
    is_kept = keep;
}

const char *dg_last_error(void)
{
    return last_error;
}

dg_status dg_fail(dg_status status, const char *format, ...)
{
    if (is_kept)
        return status;
    // Formatted aside: an argument may be the last error itself.
    char text[sizeof last_error];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(last_error, text, strlen(text) + 1);
    return status;
}

dg_status dg_fail_context(dg_status status, const char *format, ...)
{
    char prefix[1024], text[sizeof last_error];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    memcpy(text, last_error, sizeof text);
    return dg_fail(status, "%s: %s", prefix, text);
}

const char *dg_status_name(dg_status status)
{
    static const char *const names[] = {
        [DG_OK] = "DG_OK",
        [DG_INVALID_ARGUMENT] = "DG_INVALID_ARGUMENT",
        [DG_UNSUPPORTED] = "DG_UNSUPPORTED",
        [DG_NO_DEVICE] = "DG_NO_DEVICE",
        [DG_OUT_OF_MEMORY] = "DG_OUT_OF_MEMORY",
        [DG_COMPILE_FAILED] = "DG_COMPILE_FAILED",
        [DG_CUDA_ERROR] = "DG_CUDA_ERROR",
        [DG_IO_ERROR] = "DG_IO_ERROR",
        [DG_INTERNAL] = "DG_INTERNAL",
    };
    unsigned index = (unsigned)status;
    return index < sizeof names / sizeof *names ? names[index] : "unknown status";
}
