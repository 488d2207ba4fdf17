// SPDX-License-Identifier: MIT
// aside.c - writing a file that appears complete or not at all.
#include "formats/file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DESCRIPTOR_PATH_BYTES = 32 };

static void descriptor_path(int fd, char path[DESCRIPTOR_PATH_BYTES])
{
    snprintf(path, DESCRIPTOR_PATH_BYTES, "/proc/self/fd/%d", fd);
}

static char *temporary_name(const char *path)
{
    static atomic_uint number;
    char *name = NULL;
    if (asprintf(&name, "%s.%ld-%u.part", path, (long)getpid(), atomic_fetch_add(&number, 1)) < 0)
        return NULL;
    return name;
}

// A file without a name, if the file system has them and /proc is there to name it later.
static int open_nameless(const char *path)
{
    char *directory = dg_path_directory(path), descriptor[DESCRIPTOR_PATH_BYTES];
    if (!directory)
        return -1;
    int fd = open(directory, O_WRONLY | O_CLOEXEC | O_TMPFILE, 0666);
    free(directory);
    if (fd < 0)
        return -1;
    descriptor_path(fd, descriptor);
    struct stat facts;
    if (lstat(descriptor, &facts) == 0)
        return fd;
    close(fd);
    return -1;
}

static dg_status open_named(struct dg_aside *aside)
{
    aside->temporary = temporary_name(aside->path);
    if (!aside->temporary)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a path");
    aside->fd = open(aside->temporary, O_WRONLY | O_CLOEXEC | O_CREAT | O_EXCL, 0666);
    if (aside->fd >= 0)
        return DG_OK;
    dg_status status =
        dg_fail(DG_IO_ERROR, "%s: cannot be written: %s", aside->path, strerror(errno));
    free(aside->temporary); // not ours: it must not be removed
    aside->temporary = NULL;
    return status;
}

dg_status dg_aside_open(struct dg_aside *aside, const char *path)
{
    *aside = (struct dg_aside){.fd = -1};
    struct stat facts;
    if (stat(path, &facts) == 0 && !S_ISREG(facts.st_mode))
        return dg_fail(DG_IO_ERROR, "%s: %s, so no file can be put in its place", path,
                       S_ISDIR(facts.st_mode) ? "is a directory" : "not a regular file");
    aside->path = strdup(path);
    if (!aside->path)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a path");
    aside->fd = open_nameless(path);
    dg_status status = aside->fd >= 0 ? DG_OK : open_named(aside);
    if (status != DG_OK)
        dg_aside_discard(aside);
    return status;
}

dg_status dg_aside_write(struct dg_aside *aside, uint64_t offset, const void *bytes,
                         uint64_t length)
{
    enum { CHUNK = 1 << 30 };
    const char *from = bytes;
    while (length > 0) {
        ssize_t written =
            pwrite(aside->fd, from, length < CHUNK ? (size_t)length : CHUNK, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return dg_fail(DG_IO_ERROR, "%s: cannot be written: %s", aside->path,
                           written < 0 ? strerror(errno) : "the device takes no bytes");
        from += written;
        offset += (uint64_t)written;
        length -= (uint64_t)written;
    }
    return DG_OK;
}

// Gives a nameless file a name in the same directory.
static dg_status name_file(struct dg_aside *aside)
{
    char descriptor[DESCRIPTOR_PATH_BYTES];
    descriptor_path(aside->fd, descriptor);
    char *name = temporary_name(aside->path);
    if (!name)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a path");
    if (linkat(AT_FDCWD, descriptor, AT_FDCWD, name, AT_SYMLINK_FOLLOW) != 0) {
        free(name);
        return dg_fail(DG_IO_ERROR, "%s: cannot be written: %s", aside->path, strerror(errno));
    }
    aside->temporary = name;
    return DG_OK;
}

// So that the new name survives a crash too.  Some file systems refuse it; the file is whole
// anyway.
static void sync_directory(const char *path)
{
    char *directory = dg_path_directory(path);
    int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(directory);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

static dg_status publish(struct dg_aside *aside)
{
    if (fsync(aside->fd) != 0)
        return dg_fail(DG_IO_ERROR, "%s: cannot be written: %s", aside->path, strerror(errno));
    if (!aside->temporary)
        DG_TRY(name_file(aside));
    if (rename(aside->temporary, aside->path) != 0)
        return dg_fail(DG_IO_ERROR, "%s: cannot be put in place: %s", aside->path, strerror(errno));
    free(aside->temporary);
    aside->temporary = NULL;
    sync_directory(aside->path);
    return DG_OK;
}

dg_status dg_aside_commit(struct dg_aside *aside)
{
    dg_status status = publish(aside);
    dg_aside_discard(aside);
    return status;
}

void dg_aside_discard(struct dg_aside *aside)
{
    if (aside->fd >= 0)
        close(aside->fd);
    if (aside->temporary)
        unlink(aside->temporary);
    free(aside->temporary);
    free(aside->path);
    *aside = (struct dg_aside){.fd = -1};
}
