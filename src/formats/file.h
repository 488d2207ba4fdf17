// SPDX-License-Identifier: MIT
// file.h - reading a whole file through a map, and writing one that appears complete or not at all.
#ifndef DG_FORMATS_FILE_H
#define DG_FORMATS_FILE_H

#include "deepgemm.h"

#include <stdbool.h>

// ---- A regular file, mapped read-only

struct dg_file {
    char *path;
    int fd;
    uint64_t size;
    const unsigned char *bytes;
};

// Fails with DG_IO_ERROR for what is missing, empty, or not a regular file.
dg_status dg_file_open(struct dg_file *file, const char *path);
// Fails when the file no longer has the size it had when it was opened: reading the map beyond the
// new end would end the process.
dg_status dg_file_check_size(const struct dg_file *file);
// Lets the system drop these bytes from memory; they are read again when needed.
void dg_file_forget(const struct dg_file *file, uint64_t start, uint64_t length);
void dg_file_close(struct dg_file *file);

// ---- A file written aside and renamed into place

struct dg_aside {
    char *path;      // where the file will appear
    char *temporary; // its name until then; NULL while it has none
    int fd;
};

// The file has no name while it is written where the system allows that (O_TMPFILE), so that not
// even a killed process leaves a part behind; elsewhere it is "<path>.<process>-<number>.part".
dg_status dg_aside_open(struct dg_aside *aside, const char *path);
dg_status dg_aside_write(struct dg_aside *aside, uint64_t offset, const void *bytes,
                         uint64_t length);
// Waits until the bytes are on the disk, then puts the file in place of what was there.
dg_status dg_aside_commit(struct dg_aside *aside);
// Gives up what was not committed; does nothing after a commit.
void dg_aside_discard(struct dg_aside *aside);

// "directory/name", from malloc; NULL when there is no memory.
char *dg_path_join(const char *directory, const char *name);
// The directory part of a path ("." when it has none), from malloc; NULL when there is no memory.
char *dg_path_directory(const char *path);

#endif
