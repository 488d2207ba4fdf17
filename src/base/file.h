// SPDX-License-Identifier: MIT
// file.h - whole small files: read, and written so that they survive a crash.
#ifndef DG_BASE_FILE_H
#define DG_BASE_FILE_H

#include "base/error.h"
#include "base/strbuf.h"

// Adds the file's bytes to the buffer.  DG_IO_ERROR names the path and the reason.
dg_status dg_file_read(const char *path, struct dg_strbuf *bytes);
// Creates or replaces, and waits until the bytes are on the disk.
dg_status dg_file_write(const char *path, const void *bytes, size_t length);
// Makes the folder and those above it; an existing one is fine.
dg_status dg_folder_make(const char *path);
// Removes the folder and the plain files in it; silent, for what is only in the way.
void dg_folder_remove(const char *path);
// Waits until the names in the folder are on the disk; silent where the file system cannot.
void dg_folder_sync(const char *path);

#endif
