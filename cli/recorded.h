// SPDX-License-Identifier: MIT
// recorded.h - files of recorded sizes of groups.  A file that was read has a number, and lives as long as the program.
#ifndef DG_CLI_RECORDED_H
#define DG_CLI_RECORDED_H

#include <deepgemm.h>

// Whole numbers apart by blanks, commas or line ends; `#` begins a comment.  DG_INVALID_ARGUMENT names the line.
dg_status cli_recorded_read(const char *path, int32_t *file);

const char *
cli_recorded_path(int32_t file); // NULL: no such file was read; the others are for those that were
int64_t cli_recorded_count(int32_t file);
int64_t cli_recorded_size(int32_t file, int64_t group); // from the first again behind the last

#endif
