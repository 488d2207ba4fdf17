// SPDX-License-Identifier: MIT
// mqa.c - problem lines of MQA logits: words to sizes and back.
#include "mqa.h"

#include <stdlib.h>
#include <string.h>

static const char plain_name[] = "fp8_mqa_logits", paged_name[] = "fp8_paged_mqa_logits";
static const char *const range_names[] = {"causal", "full", "ragged"};

enum { MOST = 1 << 28, MOST_DEPTH = 128 };

// Whole numbers of a line; `forms`: 1 plain, 2 paged.
static const struct number {
    const char *key;
    size_t offset;
    int forms;
    int64_t normal; // 0: must be given, or 0 is meant
    int64_t least;
} numbers[] = {
    {"s", offsetof(struct cli_mqa, rows), 1, 0, 1},
    {"skv", offsetof(struct cli_mqa, num_kv), 1, 0, 1},
    {"b", offsetof(struct cli_mqa, batch), 2, 0, 1},
    {"next_n", offsetof(struct cli_mqa, next_n), 2, 1, 1},
    {"h", offsetof(struct cli_mqa, heads), 3, 0, 1},
    {"L", offsetof(struct cli_mqa, length), 2, 0, 1},
    {"d", offsetof(struct cli_mqa, depth), 3, 128, 1},
    {"page", offsetof(struct cli_mqa, page_size), 2, 64, 1},
    {"width", offsetof(struct cli_mqa, width), 1, 0, 0},
    {"columns", offsetof(struct cli_mqa, columns), 2, 0, 0},
};
enum { NUM_NUMBERS = sizeof numbers / sizeof *numbers };

static int64_t *member(struct cli_mqa *mqa, const struct number *number)
{
    return (int64_t *)(void *)((char *)mqa + number->offset);
}

bool cli_mqa_is_line(const char *line)
{
    const char *word = line + strspn(line, " \t");
    const size_t length = strcspn(word, " \t\r\n,");
    return (length == sizeof plain_name - 1 && !strncmp(word, plain_name, length)) ||
           (length == sizeof paged_name - 1 && !strncmp(word, paged_name, length));
}

// ---- words --------------------------------------------------------------------------------------

static dg_status bad_value(const char *key, const char *value, const char *rule)
{
    return dg_fail(DG_INVALID_ARGUMENT, "problem: %s=%s: must be %s", key, value, rule);
}

static dg_status read_type(const char *key, const char *value, dg_type *type)
{
    if (strcmp(value, "fp32") && strcmp(value, "bf16"))
        return bad_value(key, value, "fp32 or bf16");
    *type = strcmp(value, "fp32") ? DG_BF16 : DG_F32;
    return DG_OK;
}

static dg_status read_ranges(const char *value, struct cli_mqa *mqa)
{
    for (int i = mqa->is_paged; i < 3; i++)
        if (!strcmp(value, range_names[i])) {
            mqa->ranges = (enum cli_mqa_ranges)i;
            return DG_OK;
        }
    return bad_value("ranges", value, mqa->is_paged ? "full or ragged" : "causal, full or ragged");
}

static dg_status read_word(const char *key, const char *value, struct cli_mqa *mqa)
{
    if (!strcmp(key, "weights"))
        return read_type(key, value, &mqa->weights_type);
    if (!strcmp(key, "out"))
        return read_type(key, value, &mqa->logits_type);
    if (!strcmp(key, "ranges"))
        return read_ranges(value, mqa);
    if (strcmp(key, "clean"))
        return dg_fail(DG_INVALID_ARGUMENT, "problem: `%s` is no key of %s", key,
                       mqa->is_paged ? paged_name : plain_name);
    if (strcmp(value, "yes") && strcmp(value, "no"))
        return bad_value(key, value, "yes or no");
    mqa->flags =
        strcmp(value, "yes") ? mqa->flags & ~(uint32_t)DG_MQA_CLEAN : mqa->flags | DG_MQA_CLEAN;
    return DG_OK;
}

static dg_status read_pair(const char *key, const char *value, struct cli_mqa *mqa)
{
    for (int i = 0; i < NUM_NUMBERS; i++) {
        char *end;
        if (strcmp(key, numbers[i].key) || !(numbers[i].forms & (mqa->is_paged ? 2 : 1)))
            continue;
        const long long number = strtoll(value, &end, 10);
        if (*end || end == value || number < numbers[i].least || number > MOST)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "problem: %s=%s: must be a whole number from %lld to %d", key, value,
                           (long long)numbers[i].least, MOST);
        *member(mqa, &numbers[i]) = number;
        return DG_OK;
    }
    return read_word(key, value, mqa);
}

static dg_status read_pairs(char *words, struct cli_mqa *mqa)
{
    char *rest = NULL;
    for (char *word = strtok_r(words, " \t\r\n", &rest); word;
         word = strtok_r(NULL, " \t\r\n", &rest)) {
        char *value = strchr(word, '=');
        if (!value)
            return dg_fail(DG_INVALID_ARGUMENT, "problem: `%s` is no KEY=VALUE", word);
        *value++ = 0;
        DG_TRY(read_pair(word, value, mqa));
    }
    return DG_OK;
}

// ---- problems -----------------------------------------------------------------------------------

static dg_status complete(struct cli_mqa *mqa)
{
    for (int i = 0; i < NUM_NUMBERS; i++)
        if (numbers[i].forms & (mqa->is_paged ? 2 : 1) && numbers[i].least &&
            !*member(mqa, &numbers[i]))
            return dg_fail(DG_INVALID_ARGUMENT, "problem: %s= is missing", numbers[i].key);
    if (mqa->depth > MOST_DEPTH)
        return dg_fail(DG_INVALID_ARGUMENT, "problem: d=%lld: must be at most %d",
                       (long long)mqa->depth, MOST_DEPTH);
    if (!mqa->is_paged) {
        mqa->columns = mqa->width ? mqa->width : mqa->num_kv;
        mqa->flags |= mqa->width ? DG_MQA_COMPRESSED : 0;
        return DG_OK;
    }
    if (mqa->page_size > 128 || mqa->page_size < 16 || mqa->page_size & (mqa->page_size - 1))
        return dg_fail(DG_INVALID_ARGUMENT, "problem: page=%lld: must be 16, 32, 64 or 128",
                       (long long)mqa->page_size);
    mqa->rows = mqa->batch * mqa->next_n;
    mqa->columns = mqa->columns ? mqa->columns : mqa->length;
    return DG_OK;
}

dg_status cli_mqa_parse(const char *line, struct cli_mqa *mqa)
{
    char words[512];
    if (!cli_mqa_is_line(line))
        return dg_fail(DG_INVALID_ARGUMENT, "problem: must begin with %s or %s", plain_name,
                       paged_name);
    line += strspn(line, " \t");
    *mqa = (struct cli_mqa){.is_paged = !strncmp(line, paged_name, sizeof paged_name - 1),
                            .weights_type = DG_F32,
                            .logits_type = DG_F32};
    mqa->ranges = mqa->is_paged ? CLI_MQA_FULL : CLI_MQA_CAUSAL;
    for (int i = 0; i < NUM_NUMBERS; i++)
        *member(mqa, &numbers[i]) = numbers[i].normal;
    const char *rest = line + strcspn(line, " \t\r\n,");
    if (strlen(rest) >= sizeof words)
        return dg_fail(DG_INVALID_ARGUMENT, "problem: longer than %zu bytes", sizeof words);
    strcpy(words, rest);
    for (char *comma = words; (comma = strchr(comma, ','));)
        *comma = ' ';
    DG_TRY(read_pairs(words, mqa));
    return complete(mqa);
}

size_t cli_mqa_format(const struct cli_mqa *mqa, char *text, size_t capacity)
{
    char line[512];
    struct cli_mqa copy = *mqa;
    int length = snprintf(line, sizeof line, "%s", mqa->is_paged ? paged_name : plain_name);
    if (mqa->is_paged && mqa->columns == mqa->length)
        copy.columns = 0;
    for (int i = 0; i < NUM_NUMBERS; i++)
        if (numbers[i].forms & (mqa->is_paged ? 2 : 1) &&
            (*member(&copy, &numbers[i]) != numbers[i].normal || !strcmp(numbers[i].key, "d")))
            length += snprintf(line + length, sizeof line - (size_t)length, " %s=%lld",
                               numbers[i].key, (long long)*member(&copy, &numbers[i]));
    snprintf(line + length, sizeof line - (size_t)length, " ranges=%s%s%s%s",
             range_names[mqa->ranges], mqa->weights_type == DG_BF16 ? " weights=bf16" : "",
             mqa->logits_type == DG_BF16 ? " out=bf16" : "",
             mqa->flags & DG_MQA_CLEAN ? " clean=yes" : "");
    return (size_t)snprintf(text, capacity, "%s", line);
}

struct dg_mqa_problem cli_mqa_problem(const struct cli_mqa *mqa)
{
    return (struct dg_mqa_problem){
        .struct_size = sizeof(struct dg_mqa_problem),
        .rows = mqa->rows,
        .columns = mqa->columns,
        .num_kv = mqa->num_kv,
        .heads = (int32_t)mqa->heads,
        .depth = (int32_t)mqa->depth,
        .next_n = (int32_t)mqa->next_n,
        .page_size = (int32_t)mqa->page_size,
        .weights_type = mqa->weights_type,
        .logits_type = mqa->logits_type,
        .flags = mqa->flags,
    };
}
