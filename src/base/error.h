// SPDX-License-Identifier: MIT
// error.h - the one way to fail and the one way to forward a failure.
//
//     return dg_fail(DG_INVALID_ARGUMENT, "k = %lld: must not be negative", (long long)k);
//     DG_TRY(dg_check_matrix(...));
#ifndef DG_BASE_ERROR_H
#define DG_BASE_ERROR_H

#include "deepgemm.h"

#include <stdarg.h>
#include <stdbool.h>

// Stores the text for dg_last_error() of this thread and returns `status`.
__attribute__((format(printf, 2, 3))) dg_status dg_fail(dg_status status, const char *format, ...);

// Puts "prefix: " before the text of the failure that is being forwarded; returns `status`.
__attribute__((format(printf, 2, 3))) dg_status dg_fail_context(dg_status status,
                                                                const char *format, ...);

// While true, failures of this thread leave the last text alone: for trials that are expected to fail.
void dg_error_keep(bool keep);

// Static analysis sees one file at a time; this tells it that a failure is never DG_OK.
#if defined(__clang_analyzer__) && !defined(DG_BASE_ERROR_C)
#define dg_fail(status, ...) ((void)dg_fail(status, __VA_ARGS__), (status))
#define dg_fail_context(status, ...) ((void)dg_fail_context(status, __VA_ARGS__), (status))
#endif

#define DG_TRY(call)                                                                               \
    do {                                                                                           \
        dg_status dg_try_status_ = (call);                                                         \
        if (dg_try_status_ != DG_OK)                                                               \
            return dg_try_status_;                                                                 \
    } while (0)

#endif
