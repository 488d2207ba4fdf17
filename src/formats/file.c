// SPDX-License-Identifier: MIT
// file.c - reading a whole file through a map.
#include "formats/file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static dg_status map_file(struct dg_file *file)
{
    struct stat facts;
    if (fstat(file->fd, &facts) != 0)
        return dg_fail(DG_IO_ERROR, "%s: %s", file->path, strerror(errno));
    if (S_ISDIR(facts.st_mode))
        return dg_fail(DG_IO_ERROR, "%s: is a directory, not a file", file->path);
    if (!S_ISREG(facts.st_mode))
        return dg_fail(DG_IO_ERROR, "%s: not a regular file", file->path);
    if (facts.st_size == 0)
        return dg_fail(DG_IO_ERROR, "%s: the file is empty", file->path);
    file->size = (uint64_t)facts.st_size;
    void *map = mmap(NULL, (size_t)file->size, PROT_READ, MAP_PRIVATE, file->fd, 0);
    if (map == MAP_FAILED)
        return dg_fail(DG_IO_ERROR, "%s: cannot be mapped: %s", file->path, strerror(errno));
    file->bytes = map;
    return DG_OK;
}

dg_status dg_file_open(struct dg_file *file, const char *path)
{
    *file = (struct dg_file){.fd = -1, .path = strdup(path)};
    if (!file->path)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a path");
    // Without O_NONBLOCK the opening of a pipe would wait for its other end.
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    dg_status status =
        file->fd < 0 ? dg_fail(DG_IO_ERROR, "%s: %s", path, strerror(errno)) : map_file(file);
    if (status != DG_OK)
        dg_file_close(file);
    return status;
}

dg_status dg_file_check_size(const struct dg_file *file)
{
    struct stat facts;
    if (fstat(file->fd, &facts) != 0)
        return dg_fail(DG_IO_ERROR, "%s: %s", file->path, strerror(errno));
    if ((uint64_t)facts.st_size != file->size)
        return dg_fail(
            DG_IO_ERROR, "%s: the file had %llu bytes when it was opened and has %llu now",
            file->path, (unsigned long long)file->size, (unsigned long long)facts.st_size);
    return DG_OK;
}

void dg_file_forget(const struct dg_file *file, uint64_t start, uint64_t length)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t first = start / page * page;
    if (length)
        madvise((void *)(uintptr_t)(file->bytes + first), (size_t)(start + length - first),
                MADV_DONTNEED);
}

void dg_file_close(struct dg_file *file)
{
    if (file->bytes)
        munmap((void *)(uintptr_t)file->bytes, (size_t)file->size);
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    *file = (struct dg_file){.fd = -1};
}

char *dg_path_join(const char *directory, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

char *dg_path_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}
