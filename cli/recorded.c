// SPDX-License-Identifier: MIT
// recorded.c - files of recorded sizes of groups.
#include "recorded.h"

#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct recorded {
    char *path;
    int64_t *sizes;
    int64_t count;
} * files;
static int32_t num_files;

static dg_status add_size(struct recorded *to, int64_t size)
{
    int64_t *sizes = realloc(to->sizes, (size_t)(to->count + 1) * sizeof *sizes);
    if (!sizes)
        return dg_fail(DG_OUT_OF_MEMORY, "rows=file:%s: out of memory", to->path);
    to->sizes = sizes;
    to->sizes[to->count++] = size;
    return DG_OK;
}

static dg_status read_line(char *line, int number, struct recorded *to)
{
    line[strcspn(line, "#")] = 0;
    for (char *word = strtok(line, " ,\t\r\n"); word; word = strtok(NULL, " ,\t\r\n")) {
        char *end;
        errno = 0;
        const long long size = strtoll(word, &end, 10);
        if (*end || errno || size < 0 || size > INT32_MAX)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "rows=file:%s:%d: `%.40s`: a whole number from 0 to %d is wanted",
                           to->path, number, word, INT32_MAX);
        DG_TRY(add_size(to, size));
    }
    return DG_OK;
}

static dg_status read_lines(FILE *stream, struct recorded *to)
{
    char *line = NULL;
    size_t capacity = 0;
    dg_status status = DG_OK;
    for (int number = 1; status == DG_OK && getline(&line, &capacity, stream) >= 0; number++)
        status = read_line(line, number, to);
    free(line);
    if (status == DG_OK && ferror(stream))
        return dg_fail(DG_INVALID_ARGUMENT, "rows=file:%s: %s", to->path, strerror(errno));
    if (status == DG_OK && to->count == 0)
        return dg_fail(DG_INVALID_ARGUMENT, "rows=file:%s: no numbers in it", to->path);
    return status;
}

static dg_status read_file(struct recorded *to)
{
    FILE *stream = fopen(to->path, "r");
    if (!stream)
        return dg_fail(DG_INVALID_ARGUMENT, "rows=file:%s: %s", to->path, strerror(errno));
    const dg_status status = read_lines(stream, to);
    fclose(stream);
    return status;
}

static dg_status add_file(const char *path)
{
    struct recorded *list = realloc(files, (size_t)(num_files + 1) * sizeof *list);
    char *copy = strdup(path);
    if (list)
        files = list;
    if (!list || !copy) {
        free(copy);
        return dg_fail(DG_OUT_OF_MEMORY, "rows=file:%s: out of memory", path);
    }
    files[num_files++] = (struct recorded){.path = copy};
    const dg_status status = read_file(&files[num_files - 1]);
    if (status != DG_OK) {
        num_files--;
        free(files[num_files].sizes);
        free(copy);
    }
    return status;
}

dg_status cli_recorded_read(const char *path, int32_t *file)
{
    for (*file = 0; *file < num_files; ++*file)
        if (!strcmp(files[*file].path, path))
            return DG_OK;
    return add_file(path);
}

const char *cli_recorded_path(int32_t file)
{
    return file >= 0 && file < num_files ? files[file].path : NULL;
}

int64_t cli_recorded_count(int32_t file)
{
    return files[file].count;
}

int64_t cli_recorded_size(int32_t file, int64_t group)
{
    return files[file].sizes[group % files[file].count];
}
