// SPDX-License-Identifier: MIT
// npy.c - numpy's array files.  The header is a Python literal; what is read of Python is exactly
// the dictionary that numpy writes, and nothing is evaluated.
#include "formats/npy.h"

#include "base/error.h"
#include "base/strbuf.h"
#include "formats/file.h"
#include "formats/half.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 65536, ALIGNMENT = 64, MAGIC_BYTES = 6 };

static const unsigned char magic[MAGIC_BYTES] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

// The first row of a type is how it is written.
static const struct descr {
    const char *name;
    dg_type type;
} descrs[] = {
    {"<f4", DG_F32},  {"<f2", DG_F16},  {"<f8", DG_F64},  {"<V2", DG_BF16},
    {"|V2", DG_BF16}, {"|u1", DG_E4M3}, {"<V1", DG_E4M3}, {"|V1", DG_E4M3},
};

// ---- The header's text

struct reader {
    const char *text;
    size_t length, at;
};

static dg_status refuse(const struct reader *reader, const char *rule)
{
    return dg_fail(DG_IO_ERROR, "npy header, character %zu: %s", reader->at, rule);
}

static void skip_spaces(struct reader *reader)
{
    while (reader->at < reader->length && reader->text[reader->at] == ' ')
        reader->at++;
}

static bool accept(struct reader *reader, char c)
{
    skip_spaces(reader);
    if (reader->at >= reader->length || reader->text[reader->at] != c)
        return false;
    reader->at++;
    return true;
}

// A string in either kind of quotes, without escapes; it points into the header.
static dg_status read_string(struct reader *reader, const char **text, size_t *length)
{
    char quote = accept(reader, '\'') ? '\'' : accept(reader, '"') ? '"' : 0;
    if (!quote)
        return refuse(reader, "a string in quotes must stand here");
    *text = reader->text + reader->at;
    for (*length = 0; reader->at < reader->length; reader->at++, ++*length) {
        char c = reader->text[reader->at];
        if (c == quote) {
            reader->at++;
            return DG_OK;
        }
        if (c < 0x20 || c > 0x7e || c == '\\')
            return refuse(reader, "a string must be plain ASCII without escapes");
    }
    return refuse(reader, "the header ends inside a string");
}

static dg_status read_descr(struct reader *reader, struct dg_tensor *tensor)
{
    const char *text;
    size_t length;
    if (accept(reader, '['))
        return refuse(reader, "arrays of records (a list as descr) are not read");
    DG_TRY(read_string(reader, &text, &length));
    for (size_t i = 0; i < sizeof descrs / sizeof *descrs; i++)
        if (strlen(descrs[i].name) == length && memcmp(descrs[i].name, text, length) == 0) {
            tensor->type = descrs[i].type;
            return DG_OK;
        }
    int shown = length < 32 ? (int)length : 32;
    if (length && text[0] == '>')
        return dg_fail(DG_IO_ERROR,
                       "npy: descr '%.*s' is big-endian: only little-endian arrays are read", shown,
                       text);
    return dg_fail(DG_IO_ERROR,
                   "npy: descr '%.*s' is not read: must be <f4, <f2, <f8, <V2 (BF16) or |u1 (E4M3)",
                   shown, text);
}

static dg_status read_word(struct reader *reader, bool *is_true)
{
    skip_spaces(reader);
    static const char *const words[] = {"False", "True"};
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(words[i]);
        if (reader->length - reader->at >= length &&
            memcmp(reader->text + reader->at, words[i], length) == 0) {
            reader->at += length;
            *is_true = i == 1;
            return DG_OK;
        }
    }
    return refuse(reader, "fortran_order must be True or False");
}

static dg_status read_integer(struct reader *reader, int64_t *value)
{
    *value = 0;
    size_t start = reader->at;
    for (; reader->at < reader->length; reader->at++) {
        int digit = reader->text[reader->at] - '0';
        if (digit < 0 || digit > 9)
            break;
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, digit, value))
            return refuse(reader, "a size in shape is beyond 2^63 - 1");
    }
    return reader->at > start ? DG_OK
                              : refuse(reader, "a size in shape must be a non-negative integer");
}

// "()", "(3,)", "(3, 4)", "(3, 4,)"; "(3)" is no tuple.
static dg_status read_shape(struct reader *reader, struct dg_tensor *tensor)
{
    if (!accept(reader, '('))
        return refuse(reader, "shape must be a tuple");
    bool had_comma = true;
    while (!accept(reader, ')')) {
        if (!had_comma)
            return refuse(reader, "',' or ')' must follow a size in shape");
        if (tensor->rank == DG_MAX_RANK)
            return dg_fail(DG_IO_ERROR, "npy: more than %d dimensions", DG_MAX_RANK);
        DG_TRY(read_integer(reader, &tensor->shape[tensor->rank]));
        tensor->rank++;
        had_comma = accept(reader, ',');
    }
    if (tensor->rank == 1 && !had_comma)
        return refuse(reader, "a shape of one size needs a comma, as in (3,)");
    return DG_OK;
}

static dg_status read_entry(struct reader *reader, struct dg_tensor *tensor, bool *is_fortran,
                            unsigned *seen)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    const char *key;
    size_t length;
    DG_TRY(read_string(reader, &key, &length));
    unsigned which = 0;
    while (which < 3 && (strlen(keys[which]) != length || memcmp(keys[which], key, length) != 0))
        which++;
    if (which == 3)
        return refuse(reader, "the keys must be descr, fortran_order and shape");
    if (*seen & 1u << which)
        return refuse(reader, "a key stands twice");
    *seen |= 1u << which;
    if (!accept(reader, ':'))
        return refuse(reader, "':' must follow a key");
    return which == 0   ? read_descr(reader, tensor)
           : which == 1 ? read_word(reader, is_fortran)
                        : read_shape(reader, tensor);
}

static dg_status read_dictionary(struct reader *reader, struct dg_tensor *tensor, bool *is_fortran)
{
    unsigned seen = 0;
    bool had_comma = true;
    if (!accept(reader, '{'))
        return refuse(reader, "must start with '{'");
    while (!accept(reader, '}')) {
        if (!had_comma)
            return refuse(reader, "',' or '}' must follow an entry");
        DG_TRY(read_entry(reader, tensor, is_fortran, &seen));
        had_comma = accept(reader, ',');
    }
    if (seen != 7)
        return refuse(reader, "descr, fortran_order and shape must all be there");
    skip_spaces(reader);
    if (reader->at + 1 != reader->length || reader->text[reader->at] != '\n')
        return refuse(reader, "must end with spaces and one line feed");
    return DG_OK;
}

// ---- The whole file

// Where the header's text lies in the file.
static dg_status find_header(const unsigned char *bytes, uint64_t size, uint64_t *start,
                             uint64_t *length)
{
    if (size < MAGIC_BYTES + 2 || memcmp(bytes, magic, MAGIC_BYTES) != 0)
        return dg_fail(DG_IO_ERROR, "not an npy file: it does not start with \\x93NUMPY");
    unsigned major = bytes[MAGIC_BYTES], minor = bytes[MAGIC_BYTES + 1];
    if (major < 1 || major > 3 || minor != 0)
        return dg_fail(DG_IO_ERROR, "npy version %u.%u: only 1.0, 2.0 and 3.0 are read", major,
                       minor);
    unsigned length_bytes = major == 1 ? 2 : 4;
    *start = MAGIC_BYTES + 2 + length_bytes;
    if (size < *start)
        return dg_fail(DG_IO_ERROR, "npy: the file ends before its header");
    *length = 0;
    for (unsigned i = length_bytes; i-- > 0;)
        *length = *length << 8 | bytes[MAGIC_BYTES + 2 + i];
    if (*length > MAX_HEADER_BYTES)
        return dg_fail(DG_IO_ERROR, "npy: header length %llu: at most %d bytes are read",
                       (unsigned long long)*length, MAX_HEADER_BYTES);
    if (*length > size - *start)
        return dg_fail(DG_IO_ERROR, "npy: header length %llu, but only %llu bytes follow it",
                       (unsigned long long)*length, (unsigned long long)(size - *start));
    return DG_OK;
}

static dg_status count_bytes(const struct dg_tensor *tensor, uint64_t *bytes)
{
    *bytes = dg_type_bytes(tensor->type);
    for (int32_t i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(*bytes, (uint64_t)tensor->shape[i], bytes))
            return dg_fail(DG_IO_ERROR, "npy: the size of the shape overflows 64 bits");
    return DG_OK;
}

static void set_strides(struct dg_tensor *tensor, bool is_fortran)
{
    int64_t stride = 1;
    for (int32_t i = 0; i < tensor->rank; i++) {
        int32_t dimension = is_fortran ? i : tensor->rank - 1 - i;
        tensor->stride[dimension] = stride;
        // A product that overflows belongs to an array without elements; it is never used.
        if (__builtin_mul_overflow(stride, tensor->shape[dimension], &stride))
            stride = 0;
    }
}

dg_status dg_npy_parse(const void *bytes, uint64_t size, struct dg_npy_header *header)
{
    *header = (struct dg_npy_header){0};
    uint64_t start = 0, length = 0;
    DG_TRY(find_header(bytes, size, &start, &length));
    struct reader reader = {(const char *)bytes + start, (size_t)length, 0};
    bool is_fortran = false;
    DG_TRY(read_dictionary(&reader, &header->tensor, &is_fortran));
    DG_TRY(count_bytes(&header->tensor, &header->data_bytes));
    header->data_start = start + length;
    if (header->data_bytes != size - header->data_start)
        return dg_fail(DG_IO_ERROR,
                       "npy: shape and descr need %llu bytes of data, the file has %llu",
                       (unsigned long long)header->data_bytes,
                       (unsigned long long)(size - header->data_start));
    set_strides(&header->tensor, is_fortran);
    return DG_OK;
}

static dg_status copy_data(const struct dg_file *file, struct dg_tensor *tensor)
{
    struct dg_npy_header header;
    DG_TRY(dg_npy_parse(file->bytes, file->size, &header));
    *tensor = header.tensor;
    tensor->data = malloc(header.data_bytes ? (size_t)header.data_bytes : 1);
    if (!tensor->data)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %llu bytes",
                       (unsigned long long)header.data_bytes);
    memcpy(tensor->data, file->bytes + header.data_start, (size_t)header.data_bytes);
    return DG_OK;
}

dg_status dg_npy_read(const char *path, struct dg_tensor *tensor)
{
    *tensor = (struct dg_tensor){0};
    struct dg_file file;
    DG_TRY(dg_file_open(&file, path));
    dg_status status = copy_data(&file, tensor);
    dg_file_close(&file);
    return status == DG_OK ? DG_OK : dg_fail_context(status, "%s", path);
}

// ---- Writing

static const char *descr_name(dg_type type)
{
    for (size_t i = 0; i < sizeof descrs / sizeof *descrs; i++)
        if (descrs[i].type == type)
            return descrs[i].name;
    return NULL;
}

static void format_header(struct dg_strbuf *text, const struct dg_tensor *tensor)
{
    dg_strbuf_add(text, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                  descr_name(tensor->type));
    for (int32_t i = 0; i < tensor->rank; i++)
        dg_strbuf_add(text, "%s%lld", i ? ", " : "", (long long)tensor->shape[i]);
    dg_strbuf_add(text, "%s), }", tensor->rank == 1 ? "," : "");
    const size_t before = MAGIC_BYTES + 4;
    while (!text->failed && (before + text->length + 1) % ALIGNMENT)
        dg_strbuf_add(text, " ");
    dg_strbuf_add(text, "\n");
}

static dg_status write_array(struct dg_aside *aside, const struct dg_tensor *tensor, uint64_t bytes)
{
    struct dg_strbuf text = {0};
    format_header(&text, tensor);
    unsigned char start[MAGIC_BYTES + 4] = {[MAGIC_BYTES] = 1};
    memcpy(start, magic, MAGIC_BYTES);
    start[MAGIC_BYTES + 2] = (unsigned char)text.length;
    start[MAGIC_BYTES + 3] = (unsigned char)(text.length >> 8);
    dg_status status = text.failed ? dg_fail(DG_OUT_OF_MEMORY, "no memory for the header") : DG_OK;
    if (status == DG_OK)
        status = dg_aside_write(aside, 0, start, sizeof start);
    if (status == DG_OK)
        status = dg_aside_write(aside, sizeof start, dg_strbuf_text(&text), text.length);
    if (status == DG_OK)
        status = dg_aside_write(aside, sizeof start + text.length, tensor->data, bytes);
    dg_strbuf_free(&text);
    return status;
}

dg_status dg_npy_write(const char *path, const struct dg_tensor *tensor)
{
    if (!descr_name(tensor->type))
        return dg_fail(DG_INVALID_ARGUMENT, "%s: numpy has no form of %s", path,
                       dg_type_name(tensor->type));
    uint64_t bytes = 0;
    DG_TRY(count_bytes(tensor, &bytes));
    struct dg_aside aside;
    DG_TRY(dg_aside_open(&aside, path));
    dg_status status = write_array(&aside, tensor, bytes);
    if (status == DG_OK)
        return dg_aside_commit(&aside);
    dg_aside_discard(&aside);
    return status;
}

// ---- Conversion

static float element_to_float(dg_type type, const void *data, int64_t index)
{
    if (type == DG_F32)
        return ((const float *)data)[index];
    if (type == DG_F64)
        return (float)((const double *)data)[index];
    const uint16_t bits = ((const uint16_t *)data)[index];
    return type == DG_F16 ? dg_formats_half_to_float(bits) : dg_formats_bf16_to_float(bits);
}

dg_status dg_npy_to_f32(const struct dg_tensor *from, struct dg_tensor *to)
{
    *to = *from;
    to->data = NULL;
    to->type = DG_F32;
    set_strides(to, false);
    if (from->type != DG_F32 && from->type != DG_F64 && from->type != DG_F16 &&
        from->type != DG_BF16)
        return dg_fail(DG_INVALID_ARGUMENT, "%s elements: must be f32, f64, f16 or bf16",
                       dg_type_name(from->type));
    uint64_t bytes = 0;
    DG_TRY(count_bytes(to, &bytes));
    float *out = malloc(bytes ? (size_t)bytes : 1);
    if (!out)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %llu bytes", (unsigned long long)bytes);
    int64_t index[DG_MAX_RANK] = {0};
    for (uint64_t i = 0; i < bytes / sizeof *out; i++) {
        int64_t at = 0;
        for (int32_t j = 0; j < from->rank; j++)
            at += index[j] * from->stride[j];
        out[i] = element_to_float(from->type, from->data, at);
        for (int32_t j = from->rank - 1; j >= 0 && ++index[j] == from->shape[j]; j--)
            index[j] = 0;
    }
    to->data = out;
    return DG_OK;
}
