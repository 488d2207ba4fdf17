// SPDX-License-Identifier: MIT
// test_json.c - the JSON reader: what is in a document, and everything it must refuse.
#include "formats/json.h"
#include "../harness.h"

#include <stdlib.h>

static dg_status parse(const char *text, struct dg_json *json)
{
    // A copy of exact size, so that a sanitizer sees a read beyond the end.
    const size_t length = strlen(text);
    char *exact = malloc(length ? length : 1);
    memcpy(exact, text, length);
    const dg_status status = dg_json_parse(exact, length, json);
    free(exact);
    return status;
}

static void test_values_have_types_and_spans(void)
{
    struct dg_json json;
    CHECK(parse(" {\"a\": [1, 2, {}], \"b\": null, \"c\": true, \"d\": false, \"e\": -1.5e+3} ",
                &json) == DG_OK,
          "%s", dg_last_error());
    const struct dg_json_value *root = json.values, *a = dg_json_member(root, "a");
    CHECK(root->type == DG_JSON_OBJECT && root->count == 5 && root->span == json.count, "root");
    CHECK(a && a->type == DG_JSON_ARRAY && a->count == 3 && a->span == 4, "a");
    CHECK(a[1].is_integer && a[1].integer == 1 && a[2].integer == 2 && a[3].type == DG_JSON_OBJECT,
          "elements");
    CHECK(dg_json_member(root, "b")->type == DG_JSON_NULL, "b");
    CHECK(dg_json_member(root, "c")->type == DG_JSON_TRUE, "c");
    CHECK(dg_json_member(root, "d")->type == DG_JSON_FALSE, "d");
    CHECK(dg_json_member(root, "e")->type == DG_JSON_NUMBER &&
              !dg_json_member(root, "e")->is_integer,
          "e");
    CHECK(dg_json_member(root, "f") == NULL, "f");
    dg_json_free(&json);
}

static void test_integers_up_to_the_largest_are_exact(void)
{
    static const struct {
        const char *text;
        int is_integer;
        uint64_t value;
    } rows[] = {{"0", 1, 0},
                {"9007199254740993", 1, 9007199254740993u},
                {"18446744073709551615", 1, UINT64_MAX},
                {"18446744073709551616", 0, 0},
                {"100000000000000000000000", 0, 0},
                {"-1", 0, 0},
                {"-0", 0, 0},
                {"1.0", 0, 0},
                {"1e3", 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_json json;
        CHECK(parse(rows[i].text, &json) == DG_OK, "%s: %s", rows[i].text, dg_last_error());
        const struct dg_json_value value = json.values[0];
        dg_json_free(&json);
        CHECK(value.type == DG_JSON_NUMBER && value.is_integer == rows[i].is_integer, "%s",
              rows[i].text);
        CHECK(!value.is_integer || value.integer == rows[i].value, "%s read as %llu", rows[i].text,
              (unsigned long long)value.integer);
    }
}

static void test_escapes_become_utf8(void)
{
    static const struct {
        const char *text, *value;
    } rows[] = {
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"\\uffff\\ud7ff\\ue000\"", "\xef\xbf\xbf\xed\x9f\xbf\xee\x80\x80"},
        {"\"\xc3\xa9\xf4\x8f\xbf\xbf\"", "\xc3\xa9\xf4\x8f\xbf\xbf"},
        {"\"\"", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_json json;
        CHECK(parse(rows[i].text, &json) == DG_OK, "%s: %s", rows[i].text, dg_last_error());
        const int equal = strcmp(json.values[0].text, rows[i].value) == 0;
        const size_t length = json.values[0].length;
        dg_json_free(&json);
        CHECK(equal && length == strlen(rows[i].value), "%s", rows[i].text);
    }
}

static void test_what_is_not_json_is_refused(void)
{
    static const struct {
        const char *text, *rule;
    } rows[] = {
        {"", "byte 0: the text ends early"},
        {"  ", "byte 2: the text ends early"},
        {"{", "a key in quotes must stand here"},
        {"{]", "a key in quotes must stand here"},
        {"{a: 1}", "byte 1: a key in quotes must stand here"},
        {"{\"a\" 1}", "':' must follow a key"},
        {"{\"a\": 1,}", "byte 8: a key in quotes must stand here"},
        {"{\"a\": 1 \"b\": 2}", "',' or '}' must follow a member"},
        {"{\"a\": }", "byte 6: a value must start here"},
        {"[1,]", "byte 3: a value must start here"},
        {"[1 2]", "',' or ']' must follow an element"},
        {"[1", "',' or ']' must follow an element"},
        {"{} {}", "byte 3: more text after the end"},
        {"{}x", "more text after the end"},
        {"nul", "a value must start here"},
        {"NaN", "a value must start here"},
        {"True", "a value must start here"},
        {"'a'", "a value must start here"},
        {"01", "a number must not start with 0"},
        {"+1", "a value must start here"},
        {".5", "a value must start here"},
        {"-", "a value must start here"},
        {"1.", "digits must follow the decimal point"},
        {"1e", "digits must follow the exponent"},
        {"// c\n1", "a value must start here"},
        {"\"abc", "the text ends inside a string"},
        {"\"a\nb\"", "a control character inside a string"},
        {"\"\\x41\"", "unknown escape in a string"},
        {"\"\\", "unknown escape in a string"},
        {"\"\\u12g4\"", "\\u needs four hexadecimal digits"},
        {"\"\\u12", "\\u needs four hexadecimal digits"},
        {"\"\\u0000\"", "must not hold a zero byte"},
        {"\"\\ud800\"", "a high surrogate without the low one"},
        {"\"\\ud800\\u0041\"", "a high surrogate without the low one"},
        {"\"\\udc00\"", "a low surrogate without the high one"},
        {"\"\xff\"", "a string is not UTF-8"},
        {"\"\xc3\"", "a string is not UTF-8"},
        {"\"\xc0\x80\"", "a string is not UTF-8"},
        {"\"\xe0\x80\x80\"", "a string is not UTF-8"},
        {"\"\xed\xa0\x80\"", "a string is not UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "a string is not UTF-8"},
        {"\"\xf0\x80\x80\x80\"", "a string is not UTF-8"},
        {"{\"a\": 1, \"a\": 2}", "the key \"a\" stands twice"},
        {"{\"a\": 1, \"b\": 0, \"\\u0061\": 2}", "the key \"a\" stands twice"},
        {"[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "nested too deeply"},
        {"\xef\xbb\xbf{}", "byte 0: a value must start here"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_json json;
        CHECK(parse(rows[i].text, &json) == DG_IO_ERROR, "accepted: %s", rows[i].text);
        CHECK(strstr(dg_last_error(), rows[i].rule), "%s: \"%s\" lacks \"%s\"", rows[i].text,
              dg_last_error(), rows[i].rule);
        CHECK(json.values == NULL && json.strings == NULL, "%s: something was kept", rows[i].text);
    }
}

static void test_depth_of_the_limit_is_read(void)
{
    struct dg_json json;
    CHECK(parse("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", &json) == DG_OK, "%s", dg_last_error());
    dg_json_free(&json);
}

static void test_too_many_values_are_refused(void)
{
    const size_t count = DG_JSON_MAX_VALUES + 8, length = 2 * count + 1;
    char *text = malloc(length);
    for (size_t i = 0; i < count; i++)
        text[2 * i] = i ? ',' : '[', text[2 * i + 1] = '1';
    text[length - 1] = ']';
    struct dg_json json;
    const dg_status status = dg_json_parse(text, length, &json);
    free(text);
    CHECK(status == DG_IO_ERROR && strstr(dg_last_error(), "more than 4194304 values"), "%s",
          dg_last_error());
}

static void test_too_long_documents_are_refused_unread(void)
{
    struct dg_json json;
    CHECK(dg_json_parse(NULL, (size_t)DG_JSON_MAX_BYTES + 1, &json) == DG_IO_ERROR, "accepted");
    CHECK(strstr(dg_last_error(), "at most 100000000 are read"), "%s", dg_last_error());
}

static void test_written_strings_read_back(void)
{
    const char *text = "a\"b\\c\n\x01\xc3\xa9 / \x7f";
    struct dg_strbuf out = {0};
    struct dg_json json;
    dg_json_add_string(&out, text);
    const dg_status status = parse(dg_strbuf_text(&out), &json);
    dg_strbuf_free(&out);
    CHECK(status == DG_OK, "%s", dg_last_error());
    const int equal = strcmp(json.values[0].text, text) == 0;
    dg_json_free(&json);
    CHECK(equal, "another text");
}

static void test_shown_text_is_short_and_harmless(void)
{
    char shown[16];
    CHECK(strcmp(dg_json_show("a\x1b[31m\n", shown, sizeof shown), "a?[31m?") == 0, "%s", shown);
    CHECK(strcmp(dg_json_show("0123456789abcdef", shown, sizeof shown), "0123456789ab...") == 0,
          "%s", shown);
    CHECK(strcmp(dg_json_show("0123456789a\xc3\xa9zzzz", shown, sizeof shown), "0123456789a...") ==
              0,
          "%s", shown);
}

int main(void)
{
    RUN(test_values_have_types_and_spans);
    RUN(test_integers_up_to_the_largest_are_exact);
    RUN(test_escapes_become_utf8);
    RUN(test_what_is_not_json_is_refused);
    RUN(test_depth_of_the_limit_is_read);
    RUN(test_too_many_values_are_refused);
    RUN(test_too_long_documents_are_refused_unread);
    RUN(test_written_strings_read_back);
    RUN(test_shown_text_is_short_and_harmless);
    return harness_end();
}
