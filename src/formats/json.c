// SPDX-License-Identifier: MIT
// json.c - recursive descent over the text, once, into a flat array.  Memory is bounded by the
// limits in the header whatever the text says: no length or count in it is trusted.
#include "formats/json.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

struct reader {
    const char *text;
    size_t length, at;
    struct dg_json *json;
    size_t strings_used;
    int depth;
};

static dg_status read_value(struct reader *reader);

static dg_status refuse(const struct reader *reader, const char *rule)
{
    return dg_fail(DG_IO_ERROR, "JSON, byte %zu: %s", reader->at, rule);
}

// ---- Bytes

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

// Bytes of the UTF-8 sequence at `bytes`; 0 when it is not one.
static size_t utf8_length(const unsigned char *bytes, size_t left)
{
    unsigned char first = bytes[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if (!is_continuation(bytes[i]))
            return 0;
    bool overlong = (first == 0xe0 && bytes[1] < 0xa0) || (first == 0xf0 && bytes[1] < 0x90);
    bool surrogate = first == 0xed && bytes[1] > 0x9f;
    bool beyond = first == 0xf4 && bytes[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : length;
}

bool dg_json_is_utf8(const char *bytes, size_t length)
{
    for (size_t at = 0, step; at < length; at += step) {
        step = utf8_length((const unsigned char *)bytes + at, length - at);
        if (step == 0)
            return false;
    }
    return true;
}

static size_t encode_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(lead[length] | code);
    return length;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->length && strchr(" \t\r\n", reader->text[reader->at]) &&
           reader->text[reader->at])
        reader->at++;
}

static char peek(const struct reader *reader)
{
    return reader->at < reader->length ? reader->text[reader->at] : 0;
}

static bool accept(struct reader *reader, char c)
{
    if (reader->at >= reader->length || reader->text[reader->at] != c)
        return false;
    reader->at++;
    return true;
}

// ---- Values

static dg_status add_value(struct reader *reader, enum dg_json_type type, uint32_t *index)
{
    struct dg_json *json = reader->json;
    if (json->count == json->capacity) {
        if (json->capacity == DG_JSON_MAX_VALUES) // a power of two, as every capacity
            return dg_fail(DG_IO_ERROR, "JSON: more than %u values", DG_JSON_MAX_VALUES);
        uint32_t capacity = json->capacity ? json->capacity * 2 : 64;
        struct dg_json_value *values = realloc(json->values, capacity * sizeof *values);
        if (!values)
            return dg_fail(DG_OUT_OF_MEMORY, "JSON: no memory for %u values", capacity);
        json->values = values;
        json->capacity = capacity;
    }
    json->values[json->count] = (struct dg_json_value){.type = type, .span = 1};
    *index = json->count++;
    return DG_OK;
}

static int hex_value(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool read_hex4(struct reader *reader, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        int digit = hex_value(peek(reader));
        if (digit < 0)
            return false;
        *code = *code << 4 | (uint32_t)digit;
    }
    return true;
}

// After "\u": one code point, which may be two escapes (a surrogate pair).
static dg_status read_unicode_escape(struct reader *reader, uint32_t *code)
{
    if (!read_hex4(reader, code))
        return refuse(reader, "\\u needs four hexadecimal digits");
    if (*code >= 0xdc00 && *code < 0xe000)
        return refuse(reader, "a low surrogate without the high one before it");
    if (*code >= 0xd800 && *code < 0xdc00) {
        uint32_t low;
        if (!accept(reader, '\\') || !accept(reader, 'u') || !read_hex4(reader, &low) ||
            low < 0xdc00 || low >= 0xe000)
            return refuse(reader, "a high surrogate without the low one after it");
        *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    }
    return *code ? DG_OK : refuse(reader, "a string must not hold a zero byte");
}

static dg_status read_escape(struct reader *reader, char *out, size_t *written)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char c = peek(reader);
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter) {
        reader->at++;
        *out = meanings[letter - letters];
        *written = 1;
        return DG_OK;
    }
    if (!accept(reader, 'u'))
        return refuse(reader, "unknown escape in a string");
    uint32_t code;
    DG_TRY(read_unicode_escape(reader, &code));
    *written = encode_utf8(code, out);
    return DG_OK;
}

// Decoded text is never longer than its source with the quotes, so `strings`, as long as the whole
// document, holds every string with its final 0.
static dg_status read_string(struct reader *reader)
{
    uint32_t index;
    DG_TRY(add_value(reader, DG_JSON_STRING, &index));
    char *start = reader->json->strings + reader->strings_used, *out = start;
    reader->at++;
    while (!accept(reader, '"')) {
        if (reader->at >= reader->length)
            return refuse(reader, "the text ends inside a string");
        unsigned char c = (unsigned char)reader->text[reader->at];
        if (c < 0x20)
            return refuse(reader, "a control character inside a string");
        size_t length = 0;
        if (c == '\\') {
            reader->at++;
            DG_TRY(read_escape(reader, out, &length));
        } else {
            length = utf8_length((const unsigned char *)reader->text + reader->at,
                                 reader->length - reader->at);
            if (length == 0)
                return refuse(reader, "a string is not UTF-8");
            memcpy(out, reader->text + reader->at, length);
            reader->at += length;
        }
        out += length;
    }
    *out = 0;
    reader->strings_used += (size_t)(out - start) + 1;
    reader->json->values[index].text = start;
    reader->json->values[index].length = (uint32_t)(out - start);
    return DG_OK;
}

static bool skip_digits(struct reader *reader)
{
    size_t start = reader->at;
    while (is_digit(peek(reader)))
        reader->at++;
    return reader->at > start;
}

static bool parse_integer(const char *digits, size_t length, uint64_t *integer)
{
    *integer = 0;
    for (size_t i = 0; i < length; i++) {
        uint64_t digit = (uint64_t)(digits[i] - '0');
        if (*integer > (UINT64_MAX - digit) / 10)
            return false;
        *integer = *integer * 10 + digit;
    }
    return true;
}

static dg_status read_number(struct reader *reader)
{
    uint32_t index;
    DG_TRY(add_value(reader, DG_JSON_NUMBER, &index));
    bool is_negative = accept(reader, '-'), is_plain = true;
    size_t start = reader->at;
    if (!accept(reader, '0') && !skip_digits(reader))
        return refuse(reader, "a value must start here");
    size_t length = reader->at - start;
    if (is_digit(peek(reader)))
        return refuse(reader, "a number must not start with 0");
    if (accept(reader, '.')) {
        is_plain = false;
        if (!skip_digits(reader))
            return refuse(reader, "digits must follow the decimal point");
    }
    if (accept(reader, 'e') || accept(reader, 'E')) {
        is_plain = false;
        if (!accept(reader, '+'))
            accept(reader, '-');
        if (!skip_digits(reader))
            return refuse(reader, "digits must follow the exponent sign");
    }
    struct dg_json_value *value = &reader->json->values[index];
    value->is_integer =
        is_plain && !is_negative && parse_integer(reader->text + start, length, &value->integer);
    return DG_OK;
}

static dg_status read_word(struct reader *reader)
{
    static const struct {
        const char *word;
        enum dg_json_type type;
    } words[] = {{"null", DG_JSON_NULL}, {"false", DG_JSON_FALSE}, {"true", DG_JSON_TRUE}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i].word);
        if (reader->length - reader->at < length ||
            memcmp(reader->text + reader->at, words[i].word, length) != 0)
            continue;
        reader->at += length;
        uint32_t index;
        return add_value(reader, words[i].type, &index);
    }
    return refuse(reader,
                  reader->at < reader->length ? "a value must start here" : "the text ends early");
}

// ---- Containers

static int compare_keys(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

// Sorting finds twins in n log n whatever the keys are.
static dg_status check_keys_differ(const struct dg_json_value *object)
{
    if (object->count < 2)
        return DG_OK;
    const char **keys = malloc(object->count * sizeof *keys);
    if (!keys)
        return dg_fail(DG_OUT_OF_MEMORY, "JSON: no memory for %u keys", object->count);
    const struct dg_json_value *key = object + 1;
    for (uint32_t i = 0; i < object->count; i++, key = dg_json_next(key + 1))
        keys[i] = key->text;
    qsort(keys, object->count, sizeof *keys, compare_keys);
    dg_status status = DG_OK;
    for (uint32_t i = 1; i < object->count && status == DG_OK; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            status = dg_fail(DG_IO_ERROR, "JSON: the key \"%s\" stands twice in one object",
                             DG_JSON_SHOW(keys[i]));
    free(keys);
    return status;
}

static dg_status read_member(struct reader *reader)
{
    skip_space(reader);
    if (peek(reader) != '"')
        return refuse(reader, "a key in quotes must stand here");
    DG_TRY(read_string(reader));
    skip_space(reader);
    if (!accept(reader, ':'))
        return refuse(reader, "':' must follow a key");
    return read_value(reader);
}

static dg_status read_container(struct reader *reader, enum dg_json_type type, char end)
{
    uint32_t index, count = 0;
    DG_TRY(add_value(reader, type, &index));
    if (++reader->depth > DG_JSON_MAX_DEPTH)
        return refuse(reader, "nested too deeply");
    reader->at++;
    skip_space(reader);
    if (!accept(reader, end)) {
        do {
            DG_TRY(type == DG_JSON_OBJECT ? read_member(reader) : read_value(reader));
            count++;
            skip_space(reader);
        } while (accept(reader, ','));
        if (!accept(reader, end))
            return refuse(reader, end == '}' ? "',' or '}' must follow a member"
                                             : "',' or ']' must follow an element");
    }
    reader->depth--;
    struct dg_json_value *value = &reader->json->values[index];
    value->count = count;
    value->span = reader->json->count - index;
    return type == DG_JSON_OBJECT ? check_keys_differ(value) : DG_OK;
}

static dg_status read_value(struct reader *reader)
{
    skip_space(reader);
    char c = peek(reader);
    if (c == '{')
        return read_container(reader, DG_JSON_OBJECT, '}');
    if (c == '[')
        return read_container(reader, DG_JSON_ARRAY, ']');
    if (c == '"')
        return read_string(reader);
    if (c == '-' || is_digit(c))
        return read_number(reader);
    return read_word(reader);
}

// ---- Entry points

static dg_status read_document(struct reader *reader)
{
    DG_TRY(read_value(reader));
    skip_space(reader);
    return reader->at == reader->length ? DG_OK : refuse(reader, "more text after the end");
}

dg_status dg_json_parse(const char *text, size_t length, struct dg_json *json)
{
    *json = (struct dg_json){0};
    if (length > DG_JSON_MAX_BYTES)
        return dg_fail(DG_IO_ERROR, "JSON of %zu bytes: at most %u are read", length,
                       DG_JSON_MAX_BYTES);
    json->strings = malloc(length + 1);
    if (!json->strings)
        return dg_fail(DG_OUT_OF_MEMORY, "JSON: no memory for %zu bytes of text", length);
    struct reader reader = {.text = text, .length = length, .json = json};
    dg_status status = read_document(&reader);
    if (status != DG_OK)
        dg_json_free(json);
    return status;
}

void dg_json_free(struct dg_json *json)
{
    free(json->values);
    free(json->strings);
    *json = (struct dg_json){0};
}

const struct dg_json_value *dg_json_next(const struct dg_json_value *value)
{
    return value + value->span;
}

const struct dg_json_value *dg_json_member(const struct dg_json_value *object, const char *key)
{
    const struct dg_json_value *at = object + 1;
    for (uint32_t i = 0; i < object->count; i++, at = dg_json_next(at + 1))
        if (strcmp(at->text, key) == 0)
            return at + 1;
    return NULL;
}

const char *dg_json_type_name(enum dg_json_type type)
{
    static const char *const names[] = {
        [DG_JSON_NULL] = "null",        [DG_JSON_FALSE] = "false",     [DG_JSON_TRUE] = "true",
        [DG_JSON_NUMBER] = "a number",  [DG_JSON_STRING] = "a string", [DG_JSON_ARRAY] = "an array",
        [DG_JSON_OBJECT] = "an object",
    };
    return names[type];
}

const char *dg_json_show(const char *text, char *shown, size_t capacity)
{
    size_t i = 0;
    for (; text[i] && i + 4 < capacity; i++)
        shown[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    while (i > 0 && is_continuation((unsigned char)text[i])) // never half a character
        i--;
    memcpy(shown + i, text[i] ? "..." : "", text[i] ? 4 : 1);
    return shown;
}

void dg_json_add_string(struct dg_strbuf *out, const char *text)
{
    dg_strbuf_add_bytes(out, "\"", 1);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            dg_strbuf_add(out, "\\%c", c);
        else if (c < 0x20)
            dg_strbuf_add(out, "\\u%04x", c);
        else
            dg_strbuf_add_bytes(out, text, 1);
    }
    dg_strbuf_add_bytes(out, "\"", 1);
}
