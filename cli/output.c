// SPDX-License-Identifier: MIT
// output.c - results for people and for programs: tables, CSV, JSON, grouped facts, a progress bar.
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// ---- JSON ---------------------------------------------------------------------------------------

// Bytes of the UTF-8 sequence at `text`, 0 when it is none (overlong forms and surrogates
// included).
static int utf8_length(const unsigned char *text)
{
    static const struct {
        unsigned char mask, lead;
        int length;
        unsigned low; // smallest code point that needs this length
    } forms[] = {{0x80, 0x00, 1, 0},
                 {0xe0, 0xc0, 2, 0x80},
                 {0xf0, 0xe0, 3, 0x800},
                 {0xf8, 0xf0, 4, 0x10000}};
    for (int form = 0; form < 4; form++) {
        if ((text[0] & forms[form].mask) != forms[form].lead)
            continue;
        unsigned code = text[0] & (unsigned char)~forms[form].mask;
        for (int i = 1; i < forms[form].length; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (text[i] & 0x3f);
        }
        const bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
        return code < forms[form].low || code > 0x10ffff || is_surrogate ? 0 : forms[form].length;
    }
    return 0;
}

void cli_json_string(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const int length = utf8_length(p);
        if (length == 0)
            fputs("\\ufffd", file);
        else if (*p == '"' || *p == '\\')
            fprintf(file, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(file, "\\u%04x", *p);
        else
            fwrite(p, 1, (size_t)length, file);
        p += length ? length : 1;
    }
    fputc('"', file);
}

void cli_json_number(FILE *file, double number)
{
    if (isfinite(number))
        fprintf(file, "%.9g", number);
    else
        fputs("null", file);
}

// ---- tables -------------------------------------------------------------------------------------

static bool is_empty(const struct cli_value *value)
{
    return !value->text && isnan(value->number);
}

static void csv_text(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++)
        fprintf(file, *text == '"' ? "\"%c" : "%c", *text);
    fputc('"', file);
}

static int width_of(const struct cli_table *table, int column)
{
    return column == 0 && table->first_width ? table->first_width : table->columns[column].width;
}

void cli_table_begin(struct cli_table *table)
{
    table->num_rows = 0;
    for (int i = 0; i < table->num_columns; i++) {
        const struct cli_column *column = &table->columns[i];
        if (table->csv)
            fprintf(table->csv, "%s%s", i ? "," : "", column->key);
        if (table->terminal && column->title)
            fprintf(table->terminal, "%*s  ", width_of(table, i), column->title);
    }
    if (table->csv)
        fprintf(table->csv, "\n");
    if (table->terminal)
        fprintf(table->terminal, "\n");
    if (table->json)
        fprintf(table->json, "[");
}

static void terminal_row(const struct cli_table *table, const struct cli_value *values)
{
    for (int i = 0; i < table->num_columns; i++) {
        const struct cli_column *column = &table->columns[i];
        char number[64] = "";
        if (!column->title)
            continue;
        if (!values[i].text && !is_empty(&values[i]))
            snprintf(number, sizeof number, column->format, values[i].number);
        fprintf(table->terminal, "%*s  ", width_of(table, i),
                values[i].text ? values[i].text : number);
    }
    fprintf(table->terminal, "\n");
    fflush(table->terminal);
}

static void csv_row(const struct cli_table *table, const struct cli_value *values)
{
    for (int i = 0; i < table->num_columns; i++) {
        fputs(i ? "," : "", table->csv);
        if (values[i].text)
            csv_text(table->csv, values[i].text);
        else if (!is_empty(&values[i]))
            fprintf(table->csv, "%.7g", values[i].number);
    }
    fprintf(table->csv, "\n");
    fflush(table->csv);
}

static void json_row(const struct cli_table *table, const struct cli_value *values)
{
    fprintf(table->json, "%s\n  {", table->num_rows ? "," : "");
    for (int i = 0; i < table->num_columns; i++) {
        fprintf(table->json, "%s\"%s\": ", i ? ", " : "", table->columns[i].key);
        if (values[i].text)
            cli_json_string(table->json, values[i].text);
        else
            cli_json_number(table->json, values[i].number);
    }
    fprintf(table->json, "}");
}

void cli_table_row(struct cli_table *table, const struct cli_value *values)
{
    cli_progress_clear();
    if (table->terminal)
        terminal_row(table, values);
    if (table->csv)
        csv_row(table, values);
    if (table->json)
        json_row(table, values);
    table->num_rows++;
}

void cli_table_end(struct cli_table *table)
{
    if (table->json)
        fprintf(table->json, "\n]");
}

// ---- facts --------------------------------------------------------------------------------------

// A key that comes again within its section was told in more detail: the later value stands.
static bool replace(struct cli_facts *facts, const char *section, const char *key,
                    const char *value)
{
    for (size_t i = 0; i < facts->count; i++) {
        struct cli_fact *fact = &facts->list[i];
        if (strcmp(fact->section, section) != 0 || strcmp(fact->key, key) != 0)
            continue;
        char *copy = strdup(value);
        facts->failed |= !copy;
        if (copy) {
            free(fact->value);
            fact->value = copy;
        }
        return true;
    }
    return false;
}

void cli_facts_add(void *user, const char *section, const char *key, const char *value)
{
    struct cli_facts *facts = user;
    value = value ? value : "";
    if (replace(facts, section, key, value))
        return;
    if (facts->count == facts->capacity) {
        const size_t capacity = facts->capacity ? 2 * facts->capacity : 64;
        struct cli_fact *list = realloc(facts->list, capacity * sizeof *list);
        if (!list) {
            facts->failed = true;
            return;
        }
        facts->list = list;
        facts->capacity = capacity;
    }
    const struct cli_fact fact = {strdup(section), strdup(key), strdup(value)};
    if (fact.section && fact.key && fact.value) {
        facts->list[facts->count++] = fact;
        return;
    }
    facts->failed = true;
    free(fact.section);
    free(fact.key);
    free(fact.value);
}

const char *cli_facts_find(const struct cli_facts *facts, const char *key)
{
    for (size_t i = 0; i < facts->count; i++)
        if (strcmp(facts->list[i].key, key) == 0)
            return facts->list[i].value;
    return NULL;
}

// Sections may come interleaved, but print together, at the place of their first fact.
static bool is_first_of_section(const struct cli_facts *facts, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(facts->list[i].section, facts->list[index].section) == 0)
            return false;
    return true;
}

void cli_facts_print(const struct cli_facts *facts, FILE *file)
{
    for (size_t first = 0; first < facts->count; first++) {
        if (!is_first_of_section(facts, first))
            continue;
        const char *section = facts->list[first].section;
        fprintf(file, "%s%s\n", first ? "\n" : "", section);
        for (size_t i = first; i < facts->count; i++)
            if (strcmp(facts->list[i].section, section) == 0)
                fprintf(file, "  %-30s %s\n", facts->list[i].key, facts->list[i].value);
    }
}

void cli_facts_json(const struct cli_facts *facts, FILE *file)
{
    fputs("{", file);
    for (size_t first = 0; first < facts->count; first++) {
        if (!is_first_of_section(facts, first))
            continue;
        const char *section = facts->list[first].section;
        fputs(first ? ",\n  " : "\n  ", file);
        cli_json_string(file, section);
        fputs(": {", file);
        for (size_t i = first; i < facts->count; i++) {
            if (strcmp(facts->list[i].section, section) != 0)
                continue;
            fputs(i > first ? ",\n    " : "\n    ", file);
            cli_json_string(file, facts->list[i].key);
            fputs(": ", file);
            cli_json_string(file, facts->list[i].value);
        }
        fputs("\n  }", file);
    }
    fputs("\n}\n", file);
}

void cli_facts_free(struct cli_facts *facts)
{
    for (size_t i = 0; i < facts->count; i++) {
        free(facts->list[i].section);
        free(facts->list[i].key);
        free(facts->list[i].value);
    }
    free(facts->list);
    *facts = (struct cli_facts){0};
}

// ---- progress -----------------------------------------------------------------------------------

enum { BAR = 30 };
static bool progress_is_shown;

void cli_progress_show(const char *what, double done, double total)
{
    static int is_terminal = -1;
    if (is_terminal < 0)
        is_terminal = isatty(STDERR_FILENO);
    if (!is_terminal)
        return;
    const double share = total > 0 ? fmin(fmax(done / total, 0), 1) : 1;
    const int full = (int)(share * BAR);
    fprintf(stderr, "\r\033[K[%.*s%*s] %3.0f %%  %.60s", full, "##############################",
            BAR - full, "", 100 * share, what);
    fflush(stderr);
    progress_is_shown = true;
}

void cli_progress_clear(void)
{
    if (!progress_is_shown)
        return;
    fprintf(stderr, "\r\033[K");
    fflush(stderr);
    progress_is_shown = false;
}
