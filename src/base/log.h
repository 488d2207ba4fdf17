// SPDX-License-Identifier: MIT
// log.h - messages for the caller's log callback.  Silent unless a sink is given: the library itself
// never prints, except to standard error when $DG_LOG or a DeepGEMM debug variable asks for it.
#ifndef DG_BASE_LOG_H
#define DG_BASE_LOG_H

#include "deepgemm.h"

struct dg_log {
    dg_log_callback callback; // NULL: nothing is delivered
    void *user;
    dg_log_level level;
};

// The sink for a context: its own callback, else standard error at $DG_LOG's level, else none.
struct dg_log dg_log_open(const struct dg_context_options *options);

__attribute__((format(printf, 3, 4))) void
dg_log_write(const struct dg_log *log, dg_log_level level, const char *format, ...);

#endif
