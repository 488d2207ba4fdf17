// SPDX-License-Identifier: MIT
// json.h - a strict, bounded JSON reader for the headers of safetensors files and their index.
//
// A packaged library (json-c, jansson, cJSON) would do, but the shared library links nothing beyond
// libc, libm, libdl and libpthread, so that it drops into any process; hence these few functions.
//
// A document is a flat array of values in reading order: a container is followed by its members,
// and `span` says how many values it covers, itself included.  For the member of an object its key,
// a string, comes first:
//
//     {"a": [1, 2], "b": 3}    object span 7 | "a" | array span 3 | 1 | 2 | "b" | 3
//
// Refused: more than JSON (comments, trailing commas, NaN), text that is not UTF-8, strings with a
// zero byte, a key twice in one object, nesting deeper than DG_JSON_MAX_DEPTH, too long documents.
#ifndef DG_FORMATS_JSON_H
#define DG_FORMATS_JSON_H

#include "base/strbuf.h"
#include "deepgemm.h"

#include <stdbool.h>

#define DG_JSON_MAX_DEPTH 16
#define DG_JSON_MAX_BYTES 100000000u
#define DG_JSON_MAX_VALUES (1u << 22)

enum dg_json_type {
    DG_JSON_NULL,
    DG_JSON_FALSE,
    DG_JSON_TRUE,
    DG_JSON_NUMBER,
    DG_JSON_STRING,
    DG_JSON_ARRAY,
    DG_JSON_OBJECT
};

struct dg_json_value {
    enum dg_json_type type;
    bool is_integer; // of a number: it is written as an integer from 0 to 2^64 - 1
    uint32_t span;   // values covered, itself included
    uint32_t count;  // elements of an array, members of an object
    uint32_t length; // bytes of a string
    union {
        uint64_t integer;
        const char *text; // decoded, ended with 0; owned by the document
    };
};

struct dg_json {
    struct dg_json_value *values; // values[0] is the whole document
    uint32_t count, capacity;
    char *strings;
};

// Reads a document; on failure (DG_IO_ERROR with the byte and the rule) nothing is kept.
dg_status dg_json_parse(const char *text, size_t length, struct dg_json *json);
void dg_json_free(struct dg_json *json);

// The value that follows this one and all it covers.
const struct dg_json_value *dg_json_next(const struct dg_json_value *value);
// The member of an object; NULL when there is none.
const struct dg_json_value *dg_json_member(const struct dg_json_value *object, const char *key);
// "a string", "an array", ...: for messages.
const char *dg_json_type_name(enum dg_json_type type);

// True when these bytes are UTF-8 (no surrogates, no overlong forms).
bool dg_json_is_utf8(const char *bytes, size_t length);
// Text for a message: control characters replaced, cut to fit.  Returns `shown`.
const char *dg_json_show(const char *text, char *shown, size_t capacity);
#define DG_JSON_SHOW(text) dg_json_show((text), (char[168]){0}, 168)

// Appends a string in quotes, escaped.
void dg_json_add_string(struct dg_strbuf *out, const char *text);

#endif
