// SPDX-License-Identifier: MIT
// files.h - a scratch directory for tests of file formats, and safetensors files of any content.
#ifndef DG_TESTS_FILES_H
#define DG_TESTS_FILES_H

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char files_directory[256];

static int files_remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts, (void)kind, (void)place;
    return remove(path);
}

__attribute__((unused)) static void files_remove(void)
{
    if (*files_directory)
        nftw(files_directory, files_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

// A path in the scratch directory, which is made at first use.  Good until four calls later.
__attribute__((unused)) static const char *files_path(const char *name)
{
    static char paths[4][512];
    static int next;
    if (!*files_directory) {
        const char *parent = getenv("TMPDIR");
        snprintf(files_directory, sizeof files_directory, "%s/deepgemm-test-XXXXXX",
                 parent ? parent : "/tmp");
        if (!mkdtemp(files_directory)) {
            perror(files_directory);
            exit(99);
        }
        atexit(files_remove);
    }
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", files_directory, name);
    return path;
}

// Removes a file or folder of the scratch directory with all that it holds.
__attribute__((unused)) static void files_remove_below(const char *name)
{
    nftw(files_path(name), files_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

__attribute__((unused)) static const char *files_write(const char *name, const void *bytes,
                                                       size_t length)
{
    const char *path = files_path(name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, length, file) != length || fclose(file) != 0) {
        perror(path);
        exit(99);
    }
    return path;
}

// The whole file, from malloc; NULL when there is none.
__attribute__((unused)) static unsigned char *files_read(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*length + 1);
    if (!bytes || fread(bytes, 1, *length, file) != *length)
        exit(99);
    fclose(file);
    return bytes;
}

// Length, header, and `data_bytes` bytes of data that count up from 0.
__attribute__((unused)) static const char *
files_write_safetensors(const char *name, const char *header, size_t data_bytes)
{
    const size_t length = strlen(header);
    unsigned char *bytes = malloc(8 + length + data_bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (unsigned char)i;
    const char *path = files_write(name, bytes, 8 + length + data_bytes);
    free(bytes);
    return path;
}

#endif
