// SPDX-License-Identifier: MIT
// file.c - whole small files.
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static dg_status fail(const char *verb, const char *path, int error)
{
    char words[128];
    return dg_fail(DG_IO_ERROR, "%s: cannot %s: %s", path, verb,
                   strerror_r(error, words, sizeof words));
}

dg_status dg_file_read(const char *path, struct dg_strbuf *bytes)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return fail("open", path, errno);
    char chunk[16384];
    ssize_t length;
    while ((length = read(file, chunk, sizeof chunk)) > 0 || (length < 0 && errno == EINTR))
        if (length > 0)
            dg_strbuf_add_bytes(bytes, chunk, (size_t)length);
    const int error = length < 0 ? errno : 0;
    close(file);
    if (error)
        return fail("read", path, error);
    return bytes->failed ? dg_fail(DG_OUT_OF_MEMORY, "%s: too large for host memory", path) : DG_OK;
}

// 0, or errno.
static int write_all(int file, const char *bytes, size_t length)
{
    while (length) {
        const ssize_t written = write(file, bytes, length);
        if (written < 0 && errno != EINTR)
            return errno;
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        }
    }
    return fsync(file) ? errno : 0;
}

dg_status dg_file_write(const char *path, const void *bytes, size_t length)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0)
        return fail("create", path, errno);
    int error = write_all(file, bytes, length);
    if (close(file) && !error)
        error = errno;
    return error ? fail("write", path, error) : DG_OK;
}

dg_status dg_folder_make(const char *path)
{
    char prefix[4096];
    const size_t length = strlen(path);
    if (length >= sizeof prefix)
        return fail("create", path, ENAMETOOLONG);
    memcpy(prefix, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        prefix[i] = 0;
        if (mkdir(prefix, 0777) && errno != EEXIST)
            return fail("create", prefix, errno);
        prefix[i] = path[i];
    }
    struct stat facts;
    if (stat(path, &facts) || !S_ISDIR(facts.st_mode))
        return fail("create", path, ENOTDIR);
    return DG_OK;
}

void dg_folder_remove(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return;
    for (struct dirent *item; (item = readdir(folder));)
        if (strcmp(item->d_name, ".") && strcmp(item->d_name, ".."))
            unlinkat(dirfd(folder), item->d_name, 0);
    closedir(folder);
    rmdir(path);
}

void dg_folder_sync(const char *path)
{
    const int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return;
    fsync(folder);
    close(folder);
}
