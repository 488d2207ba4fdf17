// SPDX-License-Identifier: MIT
// process.h - runs a program and collects what it says.  No shell is involved anywhere.
#ifndef DG_BASE_PROCESS_H
#define DG_BASE_PROCESS_H

#include "base/error.h"
#include "base/strbuf.h"

// argv[0] is the program's path; argv ends with NULL.  Standard output and error are added to `output`,
// standard input is empty.  *exit_code: its exit status, or 128 + the signal that ended it.
// DG_IO_ERROR when it could not be started.
dg_status dg_process_run(const char *const *argv, struct dg_strbuf *output, int *exit_code);

// The program `name` on $PATH as a path; false when there is none.
bool dg_process_find(const char *name, char *path, size_t capacity);

#endif
