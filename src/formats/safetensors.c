// SPDX-License-Identifier: MIT
// safetensors.c - opening a checkpoint: find its files, map them, check their headers, and build
// the table of names.
#include "formats/safetensors.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// ---- One file

static dg_status open_file(struct dg_safetensors_file *file, const char *path)
{
    DG_TRY(dg_file_open(&file->file, path));
    const char *slash = strrchr(file->file.path, '/');
    file->name = slash ? slash + 1 : file->file.path;
    dg_status status =
        dg_safetensors_parse_header(file->file.bytes, file->file.size, &file->header);
    return status == DG_OK ? DG_OK : dg_fail_context(status, "%s", path);
}

// Opens one more file of a checkpoint; `files` has room for it.
static dg_status add_file(struct dg_safetensors *checkpoint, const char *path)
{
    uint32_t which =
        checkpoint->file_count++; // counted at once, so that closing frees what there is
    struct dg_safetensors_file *file = &checkpoint->files[which];
    DG_TRY(open_file(file, path));
    for (uint32_t i = 0; i < file->header.count; i++)
        file->header.tensors[i].file = which;
    return DG_OK;
}

// ---- The table of names

static int compare_names(const void *left, const void *right)
{
    const struct dg_safetensors_tensor *a = *(const struct dg_safetensors_tensor *const *)left;
    const struct dg_safetensors_tensor *b = *(const struct dg_safetensors_tensor *const *)right;
    int order = strcmp(a->name, b->name);
    return order ? order : (a->file > b->file) - (a->file < b->file);
}

// Every tensor of every file, sorted by name, then file.
static dg_status list_tensors(struct dg_safetensors *checkpoint)
{
    size_t total = 0;
    for (uint32_t i = 0; i < checkpoint->file_count; i++)
        total += checkpoint->files[i].header.count;
    checkpoint->tensors =
        total > UINT32_MAX ? NULL : calloc(total + 1, sizeof *checkpoint->tensors);
    if (!checkpoint->tensors)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %zu tensors", total);
    for (uint32_t i = 0; i < checkpoint->file_count; i++)
        for (uint32_t j = 0; j < checkpoint->files[i].header.count; j++)
            checkpoint->tensors[checkpoint->count++] = &checkpoint->files[i].header.tensors[j];
    qsort(checkpoint->tensors, checkpoint->count, sizeof *checkpoint->tensors, compare_names);
    return DG_OK;
}

static const struct dg_safetensors_tensor *find_in_file(const struct dg_safetensors *checkpoint,
                                                        const char *name, uint32_t file)
{
    struct dg_safetensors_tensor wanted = {.name = name, .file = file};
    const struct dg_safetensors_tensor *key = &wanted,
                                       **found =
                                           bsearch(&key, checkpoint->tensors, checkpoint->count,
                                                   sizeof *checkpoint->tensors, compare_names);
    return found ? *found : NULL;
}

// ---- A single file

static dg_status open_single(struct dg_safetensors *checkpoint, const char *path)
{
    checkpoint->files = calloc(1, sizeof *checkpoint->files);
    if (!checkpoint->files)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for the list of files");
    DG_TRY(add_file(checkpoint, path));
    return list_tensors(checkpoint);
}

// ---- Files with an index

static int compare_texts(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static dg_status add_shard(struct dg_safetensors *checkpoint, const char *directory,
                           const char *name)
{
    char *path = dg_path_join(directory, name);
    dg_status status =
        path ? add_file(checkpoint, path) : dg_fail(DG_OUT_OF_MEMORY, "no memory for a path");
    free(path);
    return status;
}

// Opens each file once; `names` receives their names, sorted.
static dg_status open_shards(struct dg_safetensors *checkpoint, const char *directory,
                             const struct dg_safetensors_index *index, const char **names)
{
    for (uint32_t i = 0; i < index->count; i++)
        names[i] = index->map[i].value;
    qsort(names, index->count, sizeof *names, compare_texts);
    uint32_t count = 0;
    for (uint32_t i = 0; i < index->count; i++)
        if (i == 0 || strcmp(names[i], names[count - 1]) != 0)
            names[count++] = names[i];
    checkpoint->files = calloc(count, sizeof *checkpoint->files);
    if (!checkpoint->files)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %u files", count);
    for (uint32_t i = 0; i < count; i++)
        DG_TRY(add_shard(checkpoint, directory, names[i]));
    return DG_OK;
}

// Replaces the list of all tensors by those that the index names, each from the file it names.
static dg_status apply_index(struct dg_safetensors *checkpoint,
                             const struct dg_safetensors_index *index, const char **names)
{
    const struct dg_safetensors_tensor **chosen = calloc(index->count, sizeof *chosen);
    if (!chosen)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %u tensors", index->count);
    for (uint32_t i = 0; i < index->count; i++) {
        const char *shard = index->map[i].value;
        const char **name =
            bsearch(&shard, names, checkpoint->file_count, sizeof *names, compare_texts);
        chosen[i] = find_in_file(checkpoint, index->map[i].key, (uint32_t)(name - names));
        if (!chosen[i]) {
            free(chosen);
            return dg_fail(DG_IO_ERROR,
                           "tensor \"%s\": the index says it is in %s, which does not hold it",
                           DG_JSON_SHOW(index->map[i].key), DG_JSON_SHOW(shard));
        }
    }
    free(checkpoint->tensors);
    checkpoint->tensors = chosen;
    checkpoint->count = index->count;
    return DG_OK;
}

static dg_status open_indexed(struct dg_safetensors *checkpoint, const char *directory,
                              const struct dg_safetensors_index *index)
{
    checkpoint->is_sharded = true;
    const char **names = calloc(index->count, sizeof *names);
    if (!names)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for the list of files");
    dg_status status = open_shards(checkpoint, directory, index, names);
    if (status == DG_OK)
        status = list_tensors(checkpoint);
    if (status == DG_OK)
        status = apply_index(checkpoint, index, names);
    free(names);
    return status;
}

static dg_status read_index(struct dg_safetensors_index *index, const char *path)
{
    struct dg_file file;
    DG_TRY(dg_file_open(&file, path));
    dg_status status =
        dg_safetensors_parse_index((const char *)file.bytes, (size_t)file.size, index);
    dg_file_close(&file);
    return status == DG_OK ? DG_OK : dg_fail_context(status, "%s", path);
}

static dg_status open_index(struct dg_safetensors *checkpoint, const char *path)
{
    struct dg_safetensors_index index;
    DG_TRY(read_index(&index, path));
    char *directory = dg_path_directory(path);
    dg_status status = directory ? open_indexed(checkpoint, directory, &index)
                                 : dg_fail(DG_OUT_OF_MEMORY, "no memory for a path");
    free(directory);
    dg_safetensors_free_index(&index);
    return status == DG_OK ? DG_OK : dg_fail_context(status, "%s", path);
}

// ---- Any path

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static dg_status open_path(struct dg_safetensors *checkpoint, const char *path)
{
    return ends_with(path, ".json") ? open_index(checkpoint, path) : open_single(checkpoint, path);
}

static dg_status open_directory(struct dg_safetensors *checkpoint, const char *directory)
{
    static const char *const names[] = {"model.safetensors.index.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = dg_path_join(directory, names[i]);
        if (!path)
            return dg_fail(DG_OUT_OF_MEMORY, "no memory for a path");
        struct stat facts;
        bool exists = stat(path, &facts) == 0;
        dg_status status = exists ? open_path(checkpoint, path) : DG_OK;
        free(path);
        if (exists)
            return status;
    }
    return dg_fail(DG_IO_ERROR, "%s: the directory holds neither %s nor %s", directory, names[0],
                   names[1]);
}

static dg_status open_any(struct dg_safetensors *checkpoint, const char *path)
{
    struct stat facts;
    bool is_directory = stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
    return is_directory ? open_directory(checkpoint, path) : open_path(checkpoint, path);
}

dg_status dg_safetensors_open(struct dg_safetensors *checkpoint, const char *path)
{
    *checkpoint = (struct dg_safetensors){0};
    dg_status status = open_any(checkpoint, path);
    if (status != DG_OK)
        dg_safetensors_close(checkpoint);
    return status;
}

void dg_safetensors_close(struct dg_safetensors *checkpoint)
{
    for (uint32_t i = 0; i < checkpoint->file_count; i++) {
        dg_safetensors_free_header(&checkpoint->files[i].header);
        dg_file_close(&checkpoint->files[i].file);
    }
    free(checkpoint->files);
    free(checkpoint->tensors);
    *checkpoint = (struct dg_safetensors){0};
}

const struct dg_safetensors_tensor *dg_safetensors_find(const struct dg_safetensors *checkpoint,
                                                        const char *name)
{
    uint32_t low = 0, high = checkpoint->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(name, checkpoint->tensors[middle]->name);
        if (order == 0)
            return checkpoint->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

dg_status dg_safetensors_view(const struct dg_safetensors *checkpoint,
                              const struct dg_safetensors_tensor *tensor,
                              struct dg_safetensors_view *view)
{
    const struct dg_safetensors_file *file = &checkpoint->files[tensor->file];
    *view = (struct dg_safetensors_view){.file = &file->file,
                                         .start = file->header.data_start + tensor->begin,
                                         .bytes = tensor->bytes};
    DG_TRY(dg_file_check_size(&file->file));
    view->data = file->file.bytes + view->start;
    size_t alignment = dg_type_bytes(tensor->type);
    if (alignment < 2 || (uintptr_t)view->data % alignment == 0)
        return DG_OK;
    view->copy = malloc(tensor->bytes ? (size_t)tensor->bytes : 1);
    if (!view->copy)
        return dg_fail(DG_OUT_OF_MEMORY, "%s: tensor \"%s\": no memory for %llu bytes",
                       file->file.path, DG_JSON_SHOW(tensor->name),
                       (unsigned long long)tensor->bytes);
    memcpy(view->copy, view->data, (size_t)tensor->bytes);
    view->data = view->copy;
    return DG_OK;
}

void dg_safetensors_release(struct dg_safetensors_view *view)
{
    free(view->copy);
    if (view->file)
        dg_file_forget(view->file, view->start, view->bytes);
    *view = (struct dg_safetensors_view){0};
}
