// SPDX-License-Identifier: MIT
// fuzz_json.c - any bytes for the JSON reader: a document it accepts must be well formed as a flat
// array, and must read back the same after it was written out again.
#include "formats/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The value that follows, after a check of the spans.
static const struct dg_json_value *write_value(struct dg_strbuf *out,
                                               const struct dg_json_value *value)
{
    static const char *const words[] = {
        [DG_JSON_NULL] = "null", [DG_JSON_FALSE] = "false", [DG_JSON_TRUE] = "true"};
    const struct dg_json_value *next = value + 1;
    if (value->type == DG_JSON_STRING)
        dg_json_add_string(out, value->text);
    else if (value->type == DG_JSON_NUMBER)
        dg_strbuf_add(out, value->is_integer ? "%llu" : "-1.5", (unsigned long long)value->integer);
    else if (value->type <= DG_JSON_TRUE)
        dg_strbuf_add(out, "%s", words[value->type]);
    else {
        const bool is_object = value->type == DG_JSON_OBJECT;
        dg_strbuf_add(out, is_object ? "{" : "[");
        for (uint32_t i = 0; i < value->count; i++) {
            dg_strbuf_add(out, i ? "," : "");
            if (is_object) {
                next = write_value(out, next);
                dg_strbuf_add(out, ":");
            }
            next = write_value(out, next);
        }
        dg_strbuf_add(out, is_object ? "}" : "]");
    }
    if (next != dg_json_next(value))
        abort();
    return next;
}

static void require_same(const struct dg_json *one, const struct dg_json *two)
{
    if (one->count != two->count)
        abort();
    for (uint32_t i = 0; i < one->count; i++) {
        const struct dg_json_value *a = &one->values[i], *b = &two->values[i];
        if (a->type != b->type || a->span != b->span || a->count != b->count ||
            a->is_integer != b->is_integer)
            abort();
        if (a->type == DG_JSON_STRING &&
            (a->length != b->length || strlen(a->text) != a->length ||
             memcmp(a->text, b->text, a->length) != 0 || !dg_json_is_utf8(a->text, a->length)))
            abort();
        if (a->is_integer && a->integer != b->integer)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dg_json json, again;
    if (dg_json_parse((const char *)data, size, &json) != DG_OK) {
        if (!*dg_last_error() || json.values)
            abort();
        return 0;
    }
    struct dg_strbuf text = {0};
    write_value(&text, json.values);
    if (dg_json_parse(dg_strbuf_text(&text), text.length, &again) != DG_OK) {
        fprintf(stderr, "%s\n%s\n", dg_strbuf_text(&text), dg_last_error());
        abort();
    }
    require_same(&json, &again);
    dg_json_free(&json);
    dg_json_free(&again);
    dg_strbuf_free(&text);
    return 0;
}
