// SPDX-License-Identifier: MIT
// safetensors_writer.c - writing one file of a checkpoint.  Sizes are known before the first byte,
// so the header goes first and tensors follow at their places in whatever order and pieces they
// come.
#include "formats/safetensors.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 8 }; // of the data section in the file

// Elements' bytes, as a rank for the layout; sub-byte types go last.
static uint64_t element_bytes(const struct dg_safetensors_tensor *tensor)
{
    struct dg_safetensors_tensor one = {.dtype = tensor->dtype};
    uint64_t bytes;
    return dg_safetensors_tensor_bytes(&one, &bytes) == DG_OK ? bytes : 0;
}

// Gives every tensor its place, larger elements first, otherwise in the caller's order.
static dg_status lay_out(struct dg_safetensors_writer *writer)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < writer->count; i++) {
        dg_status status =
            dg_safetensors_tensor_bytes(&writer->tensors[i], &writer->tensors[i].bytes);
        if (status != DG_OK)
            return dg_fail_context(status, "tensor \"%s\"", DG_JSON_SHOW(writer->tensors[i].name));
    }
    for (int size = 8; size >= 0; size--)
        for (uint32_t i = 0; i < writer->count; i++) {
            struct dg_safetensors_tensor *tensor = &writer->tensors[i];
            if (element_bytes(tensor) != (uint64_t)size)
                continue;
            tensor->begin = at;
            if (__builtin_add_overflow(at, tensor->bytes, &at) || at > INT64_MAX / 2)
                return dg_fail(DG_IO_ERROR, "the file would be larger than 2^62 bytes");
        }
    return DG_OK;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static dg_status check_names_differ(const struct dg_safetensors_writer *writer)
{
    const char **names = calloc((size_t)writer->count + 1, sizeof *names);
    if (!names)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %u names", writer->count);
    for (uint32_t i = 0; i < writer->count; i++)
        names[i] = writer->tensors[i].name;
    qsort(names, writer->count, sizeof *names, compare_names);
    dg_status status = DG_OK;
    for (uint32_t i = 1; i < writer->count && status == DG_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = dg_fail(DG_IO_ERROR, "two tensors are named \"%s\"", DG_JSON_SHOW(names[i]));
    free(names);
    return status;
}

static void format_tensor(struct dg_strbuf *text, const struct dg_safetensors_tensor *tensor)
{
    dg_json_add_string(text, tensor->name);
    dg_strbuf_add(text, ":{\"dtype\":\"%s\",\"shape\":[", tensor->dtype);
    for (int32_t i = 0; i < tensor->rank; i++)
        dg_strbuf_add(text, "%s%lld", i ? "," : "", (long long)tensor->shape[i]);
    dg_strbuf_add(text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)tensor->begin,
                  (unsigned long long)(tensor->begin + tensor->bytes));
}

static void format_metadata(struct dg_strbuf *text, const struct dg_safetensors_pair *metadata,
                            uint32_t count)
{
    dg_strbuf_add(text, "\"__metadata__\":{");
    for (uint32_t i = 0; i < count; i++) {
        dg_strbuf_add(text, "%s", i ? "," : "");
        dg_json_add_string(text, metadata[i].key);
        dg_strbuf_add(text, ":");
        dg_json_add_string(text, metadata[i].value);
    }
    dg_strbuf_add(text, "}");
}

static dg_status write_header(struct dg_safetensors_writer *writer,
                              const struct dg_safetensors_pair *metadata, uint32_t metadata_count)
{
    struct dg_strbuf text = {0};
    dg_strbuf_add(&text, "{");
    if (metadata_count)
        format_metadata(&text, metadata, metadata_count);
    for (uint32_t i = 0; i < writer->count; i++) {
        dg_strbuf_add(&text, "%s", i || metadata_count ? "," : "");
        format_tensor(&text, &writer->tensors[i]);
    }
    dg_strbuf_add(&text, "}");
    while (!text.failed && text.length % ALIGNMENT)
        dg_strbuf_add(&text, " ");
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)text.length >> 8 * i);
    writer->data_start = 8 + text.length;
    dg_status status = text.failed ? dg_fail(DG_OUT_OF_MEMORY, "no memory for the header") : DG_OK;
    if (status == DG_OK && text.length > DG_SAFETENSORS_MAX_HEADER)
        status = dg_fail(DG_IO_ERROR, "a header of %zu bytes: at most %u are allowed", text.length,
                         DG_SAFETENSORS_MAX_HEADER);
    if (status == DG_OK)
        status = dg_aside_write(&writer->aside, 0, length, sizeof length);
    if (status == DG_OK)
        status = dg_aside_write(&writer->aside, sizeof length, dg_strbuf_text(&text), text.length);
    dg_strbuf_free(&text);
    return status;
}

dg_status dg_safetensors_create(struct dg_safetensors_writer *writer, const char *path,
                                const struct dg_safetensors_tensor *tensors, uint32_t count,
                                const struct dg_safetensors_pair *metadata, uint32_t metadata_count)
{
    *writer = (struct dg_safetensors_writer){.aside.fd = -1, .count = count};
    writer->tensors = calloc((size_t)count + 1, sizeof *tensors);
    writer->written = calloc((size_t)count + 1, sizeof *writer->written);
    dg_status status = DG_OK;
    if (!writer->tensors || !writer->written)
        status = dg_fail(DG_OUT_OF_MEMORY, "no memory for %u tensors", count);
    else if (count)
        memcpy(writer->tensors, tensors, count * sizeof *tensors);
    if (status == DG_OK)
        status = check_names_differ(writer);
    if (status == DG_OK)
        status = lay_out(writer);
    if (status != DG_OK)
        dg_fail_context(status, "%s", path);
    else if ((status = dg_aside_open(&writer->aside, path)) == DG_OK)
        status = write_header(writer, metadata, metadata_count);
    if (status != DG_OK)
        dg_safetensors_discard(writer);
    return status;
}

dg_status dg_safetensors_append(struct dg_safetensors_writer *writer, uint32_t which,
                                const void *bytes, uint64_t length)
{
    const struct dg_safetensors_tensor *tensor = &writer->tensors[which];
    if (length > tensor->bytes - writer->written[which])
        return dg_fail(DG_INTERNAL, "%s: tensor \"%s\": %llu bytes too many", writer->aside.path,
                       DG_JSON_SHOW(tensor->name),
                       (unsigned long long)(length - (tensor->bytes - writer->written[which])));
    DG_TRY(dg_aside_write(&writer->aside,
                          writer->data_start + tensor->begin + writer->written[which], bytes,
                          length));
    writer->written[which] += length;
    return DG_OK;
}

dg_status dg_safetensors_commit(struct dg_safetensors_writer *writer)
{
    dg_status status = DG_OK;
    for (uint32_t i = 0; i < writer->count && status == DG_OK; i++)
        if (writer->written[i] != writer->tensors[i].bytes)
            status = dg_fail(DG_INTERNAL, "%s: tensor \"%s\": %llu of %llu bytes were written",
                             writer->aside.path, DG_JSON_SHOW(writer->tensors[i].name),
                             (unsigned long long)writer->written[i],
                             (unsigned long long)writer->tensors[i].bytes);
    if (status == DG_OK)
        status = dg_aside_commit(&writer->aside);
    dg_safetensors_discard(writer);
    return status;
}

void dg_safetensors_discard(struct dg_safetensors_writer *writer)
{
    dg_aside_discard(&writer->aside);
    free(writer->tensors);
    free(writer->written);
    *writer = (struct dg_safetensors_writer){.aside.fd = -1};
}

// ---- The index

void dg_safetensors_index_add(struct dg_strbuf *list, const char *tensor, const char *file)
{
    dg_strbuf_add(list, list->length ? ",\n    " : "    ");
    dg_json_add_string(list, tensor);
    dg_strbuf_add(list, ": ");
    dg_json_add_string(list, file);
}

static dg_status write_text(const char *path, const struct dg_strbuf *text)
{
    if (text->failed)
        return dg_fail(DG_OUT_OF_MEMORY, "%s: no memory for the index", path);
    struct dg_aside aside;
    DG_TRY(dg_aside_open(&aside, path));
    const dg_status status = dg_aside_write(&aside, 0, dg_strbuf_text(text), text->length);
    if (status == DG_OK)
        return dg_aside_commit(&aside);
    dg_aside_discard(&aside);
    return status;
}

dg_status dg_safetensors_write_index(const char *path, const struct dg_strbuf *list,
                                     uint64_t total_bytes)
{
    struct dg_strbuf text = {.failed = list->failed};
    dg_strbuf_add(&text, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {\n",
                  (unsigned long long)total_bytes);
    dg_strbuf_add_bytes(&text, dg_strbuf_text(list), list->length);
    dg_strbuf_add(&text, "\n  }\n}\n");
    const dg_status status = write_text(path, &text);
    dg_strbuf_free(&text);
    return status;
}
