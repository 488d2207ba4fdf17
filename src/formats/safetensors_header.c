// SPDX-License-Identifier: MIT
// safetensors_header.c - from the bytes of a header or an index to tables whose every number was
// checked.  Works on memory only, so that it can be fuzzed; the caller adds the name of the file.
#include "formats/safetensors.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

static const struct dtype {
    const char *name;
    uint32_t bits;
    dg_type type;
} dtypes[] = {
    {"BOOL", 8, DG_TYPE_NONE},    {"U8", 8, DG_TYPE_NONE},      {"I8", 8, DG_TYPE_NONE},
    {"F8_E5M2", 8, DG_TYPE_NONE}, {"F8_E4M3", 8, DG_E4M3},      {"F8_E8M0", 8, DG_TYPE_NONE},
    {"I16", 16, DG_TYPE_NONE},    {"U16", 16, DG_TYPE_NONE},    {"F16", 16, DG_F16},
    {"BF16", 16, DG_BF16},        {"I32", 32, DG_TYPE_NONE},    {"U32", 32, DG_TYPE_NONE},
    {"F32", 32, DG_F32},          {"F64", 64, DG_TYPE_NONE},    {"I64", 64, DG_TYPE_NONE},
    {"U64", 64, DG_TYPE_NONE},    {"C64", 64, DG_TYPE_NONE},    {"F4", 4, DG_TYPE_NONE},
    {"F6_E2M3", 6, DG_TYPE_NONE}, {"F6_E3M2", 6, DG_TYPE_NONE},
};

static const struct dtype *find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return &dtypes[i];
    return NULL;
}

dg_status dg_safetensors_tensor_bytes(const struct dg_safetensors_tensor *tensor, uint64_t *bytes)
{
    const struct dtype *dtype = find_dtype(tensor->dtype);
    if (!dtype)
        return dg_fail(DG_IO_ERROR, "unknown dtype \"%s\"", DG_JSON_SHOW(tensor->dtype));
    uint64_t bits = dtype->bits;
    for (int32_t i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(bits, (uint64_t)tensor->shape[i], &bits))
            return dg_fail(DG_IO_ERROR, "the size of its shape overflows 64 bits");
    if (bits % 8 != 0)
        return dg_fail(DG_IO_ERROR, "%llu bits of %s are not whole bytes", (unsigned long long)bits,
                       dtype->name);
    *bytes = bits / 8;
    return DG_OK;
}

// ---- One tensor

static dg_status require(const struct dg_json_value *value, enum dg_json_type type,
                         const char *what)
{
    if (!value)
        return dg_fail(DG_IO_ERROR, "%s is missing", what);
    if (value->type != type)
        return dg_fail(DG_IO_ERROR, "%s is %s: must be %s", what, dg_json_type_name(value->type),
                       dg_json_type_name(type));
    return DG_OK;
}

static dg_status read_shape(const struct dg_json_value *value, struct dg_safetensors_tensor *tensor)
{
    DG_TRY(require(value, DG_JSON_ARRAY, "shape"));
    if (value->count > DG_SAFETENSORS_MAX_RANK)
        return dg_fail(DG_IO_ERROR, "shape has %u dimensions: at most %d are read", value->count,
                       DG_SAFETENSORS_MAX_RANK);
    tensor->rank = (int32_t)value->count;
    const struct dg_json_value *element = value + 1;
    for (uint32_t i = 0; i < value->count; i++, element = dg_json_next(element)) {
        if (element->type != DG_JSON_NUMBER || !element->is_integer || element->integer > INT64_MAX)
            return dg_fail(DG_IO_ERROR, "shape[%u] is not an integer from 0 to 2^63 - 1", i);
        tensor->shape[i] = (int64_t)element->integer;
    }
    return DG_OK;
}

static dg_status read_offsets(const struct dg_json_value *value, uint64_t data_bytes,
                              struct dg_safetensors_tensor *tensor)
{
    DG_TRY(require(value, DG_JSON_ARRAY, "data_offsets"));
    const struct dg_json_value *begin = value + 1, *end = value + 2;
    if (value->count != 2 || begin->type != DG_JSON_NUMBER || end->type != DG_JSON_NUMBER ||
        !begin->is_integer || !end->is_integer)
        return dg_fail(DG_IO_ERROR, "data_offsets must be two integers from 0 to 2^64 - 1");
    if (begin->integer > end->integer)
        return dg_fail(DG_IO_ERROR, "data_offsets [%llu, %llu] end before they begin",
                       (unsigned long long)begin->integer, (unsigned long long)end->integer);
    if (end->integer > data_bytes)
        return dg_fail(DG_IO_ERROR,
                       "data_offsets [%llu, %llu] reach beyond the %llu bytes of data in the file",
                       (unsigned long long)begin->integer, (unsigned long long)end->integer,
                       (unsigned long long)data_bytes);
    tensor->begin = begin->integer;
    tensor->bytes = end->integer - begin->integer;
    return DG_OK;
}

static dg_status read_tensor(const struct dg_json_value *object, uint64_t data_bytes,
                             struct dg_safetensors_tensor *tensor)
{
    DG_TRY(require(object, DG_JSON_OBJECT, "its entry"));
    const struct dg_json_value *dtype = dg_json_member(object, "dtype");
    DG_TRY(require(dtype, DG_JSON_STRING, "dtype"));
    tensor->dtype = dtype->text;
    DG_TRY(read_shape(dg_json_member(object, "shape"), tensor));
    DG_TRY(read_offsets(dg_json_member(object, "data_offsets"), data_bytes, tensor));
    if (object->count != 3)
        return dg_fail(DG_IO_ERROR,
                       "its entry has %u members: must be dtype, shape and data_offsets",
                       object->count);
    uint64_t bytes;
    DG_TRY(dg_safetensors_tensor_bytes(tensor, &bytes));
    if (bytes != tensor->bytes)
        return dg_fail(DG_IO_ERROR, "dtype and shape need %llu bytes, data_offsets give %llu",
                       (unsigned long long)bytes, (unsigned long long)tensor->bytes);
    tensor->type = find_dtype(tensor->dtype)->type;
    return DG_OK;
}

static dg_status check_name(const struct dg_json_value *key)
{
    if (key->length == 0)
        return dg_fail(DG_IO_ERROR, "a tensor's name is empty");
    for (uint32_t i = 0; i < key->length; i++)
        if ((unsigned char)key->text[i] < 0x20 || key->text[i] == 0x7f)
            return dg_fail(DG_IO_ERROR, "a tensor's name holds a control character: \"%s\"",
                           DG_JSON_SHOW(key->text));
    return DG_OK;
}

// ---- The whole header

static dg_status read_metadata(const struct dg_json_value *object,
                               struct dg_safetensors_header *header)
{
    DG_TRY(require(object, DG_JSON_OBJECT, "__metadata__"));
    header->metadata = calloc(object->count + 1, sizeof *header->metadata);
    if (!header->metadata)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %u metadata entries", object->count);
    const struct dg_json_value *key = object + 1;
    for (uint32_t i = 0; i < object->count; i++, key = dg_json_next(key + 1)) {
        if (key[1].type != DG_JSON_STRING)
            return dg_fail(DG_IO_ERROR, "__metadata__ \"%s\" is %s: must be a string",
                           DG_JSON_SHOW(key->text), dg_json_type_name(key[1].type));
        header->metadata[header->metadata_count++] =
            (struct dg_safetensors_pair){key->text, key[1].text};
    }
    return DG_OK;
}

static int compare_offsets(const void *left, const void *right)
{
    const struct dg_safetensors_tensor *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->bytes != b->bytes ? (a->bytes < b->bytes ? -1 : 1) : strcmp(a->name, b->name);
}

// The tensors must cover the data section, each byte once.
static dg_status check_cover(const struct dg_safetensors_header *header, uint64_t data_bytes)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < header->count; i++) {
        const struct dg_safetensors_tensor *tensor = &header->tensors[i];
        if (tensor->begin < end)
            return dg_fail(DG_IO_ERROR,
                           "tensor \"%s\": its bytes from %llu overlap those of \"%s\" up to %llu",
                           DG_JSON_SHOW(tensor->name), (unsigned long long)tensor->begin,
                           DG_JSON_SHOW(tensor[-1].name), (unsigned long long)end);
        if (tensor->begin > end)
            return dg_fail(DG_IO_ERROR,
                           "tensor \"%s\": a gap before it, bytes %llu to %llu belong to no tensor",
                           DG_JSON_SHOW(tensor->name), (unsigned long long)end,
                           (unsigned long long)tensor->begin);
        end = tensor->begin + tensor->bytes;
    }
    if (end != data_bytes)
        return dg_fail(DG_IO_ERROR, "the tensors end at byte %llu of the data, the file at %llu",
                       (unsigned long long)end, (unsigned long long)data_bytes);
    return DG_OK;
}

static dg_status read_header(const struct dg_json_value *root, uint64_t data_bytes,
                             struct dg_safetensors_header *header)
{
    DG_TRY(require(root, DG_JSON_OBJECT, "the header"));
    header->tensors = calloc(root->count + 1, sizeof *header->tensors);
    if (!header->tensors)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %u tensors", root->count);
    const struct dg_json_value *key = root + 1;
    for (uint32_t i = 0; i < root->count; i++, key = dg_json_next(key + 1)) {
        if (strcmp(key->text, "__metadata__") == 0) {
            DG_TRY(read_metadata(key + 1, header));
            continue;
        }
        DG_TRY(check_name(key));
        struct dg_safetensors_tensor *tensor = &header->tensors[header->count++];
        tensor->name = key->text;
        dg_status status = read_tensor(key + 1, data_bytes, tensor);
        if (status != DG_OK)
            return dg_fail_context(status, "tensor \"%s\"", DG_JSON_SHOW(key->text));
    }
    qsort(header->tensors, header->count, sizeof *header->tensors, compare_offsets);
    return check_cover(header, data_bytes);
}

static dg_status read_length(const unsigned char *bytes, uint64_t size, uint64_t *length)
{
    if (size < 8)
        return dg_fail(DG_IO_ERROR,
                       "%llu bytes are too short for a safetensors file, which starts with "
                       "8 bytes of header length",
                       (unsigned long long)size);
    *length = 0;
    for (int i = 7; i >= 0; i--)
        *length = *length << 8 | bytes[i];
    if (*length > DG_SAFETENSORS_MAX_HEADER)
        return dg_fail(DG_IO_ERROR,
                       "header length %llu: at most %u bytes are read (not a safetensors file?)",
                       (unsigned long long)*length, DG_SAFETENSORS_MAX_HEADER);
    if (*length > size - 8)
        return dg_fail(DG_IO_ERROR,
                       "header length %llu, but only %llu bytes follow it: the file is truncated",
                       (unsigned long long)*length, (unsigned long long)(size - 8));
    if (*length == 0 || bytes[8] != '{')
        return dg_fail(DG_IO_ERROR, "the header does not start with '{': not a safetensors file");
    return DG_OK;
}

dg_status dg_safetensors_parse_header(const void *bytes, uint64_t size,
                                      struct dg_safetensors_header *header)
{
    *header = (struct dg_safetensors_header){0};
    uint64_t length = 0;
    DG_TRY(read_length(bytes, size, &length));
    DG_TRY(dg_json_parse((const char *)bytes + 8, (size_t)length, &header->json));
    header->data_start = 8 + length;
    dg_status status = read_header(header->json.values, size - header->data_start, header);
    if (status != DG_OK) {
        dg_safetensors_free_header(header);
        return status;
    }
    free(header->json.values); // the strings are all that is still needed
    header->json.values = NULL;
    return DG_OK;
}

void dg_safetensors_free_header(struct dg_safetensors_header *header)
{
    free(header->tensors);
    free(header->metadata);
    dg_json_free(&header->json);
    *header = (struct dg_safetensors_header){0};
}

// ---- The index

// A shard lies beside its index.  Anything else ("../x", "/x", "a/b") is refused: a downloaded
// index must not decide which files of the machine are opened.
static dg_status check_shard_name(const char *name)
{
    if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return dg_fail(DG_IO_ERROR, "shard \"%s\": must be the name of a file beside the index",
                       DG_JSON_SHOW(name));
    return DG_OK;
}

static int compare_pairs(const void *left, const void *right)
{
    return strcmp(((const struct dg_safetensors_pair *)left)->key,
                  ((const struct dg_safetensors_pair *)right)->key);
}

static dg_status read_index(const struct dg_json_value *root, struct dg_safetensors_index *index)
{
    DG_TRY(require(root, DG_JSON_OBJECT, "the index"));
    const struct dg_json_value *map = dg_json_member(root, "weight_map");
    DG_TRY(require(map, DG_JSON_OBJECT, "weight_map"));
    if (map->count == 0)
        return dg_fail(DG_IO_ERROR, "weight_map is empty");
    index->map = calloc(map->count, sizeof *index->map);
    if (!index->map)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %u tensors", map->count);
    const struct dg_json_value *key = map + 1;
    for (uint32_t i = 0; i < map->count; i++, key = dg_json_next(key + 1)) {
        DG_TRY(check_name(key));
        if (key[1].type != DG_JSON_STRING)
            return dg_fail(DG_IO_ERROR, "weight_map \"%s\" is %s: must be the name of a file",
                           DG_JSON_SHOW(key->text), dg_json_type_name(key[1].type));
        DG_TRY(check_shard_name(key[1].text));
        index->map[index->count++] = (struct dg_safetensors_pair){key->text, key[1].text};
    }
    qsort(index->map, index->count, sizeof *index->map, compare_pairs);
    return DG_OK;
}

dg_status dg_safetensors_parse_index(const char *text, size_t length,
                                     struct dg_safetensors_index *index)
{
    *index = (struct dg_safetensors_index){0};
    DG_TRY(dg_json_parse(text, length, &index->json));
    dg_status status = read_index(index->json.values, index);
    if (status != DG_OK) {
        dg_safetensors_free_index(index);
        return status;
    }
    free(index->json.values);
    index->json.values = NULL;
    return DG_OK;
}

void dg_safetensors_free_index(struct dg_safetensors_index *index)
{
    free(index->map);
    dg_json_free(&index->json);
    *index = (struct dg_safetensors_index){0};
}
