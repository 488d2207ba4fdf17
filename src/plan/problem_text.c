// SPDX-License-Identifier: MIT
// problem_text.c - the problem line: `fp8_gemm_nt m=64 n=2112 k=7168 out=bf16`.
//
// One table of keys serves both directions.  The writer leaves out a key when the problem reads
// back the same without it, which needs no list of special cases.
#include "plan/problem.h"

#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word {
    const char *text;
    int32_t value;
};

struct key {
    const char *name;
    size_t offset;
    const struct word *words; // NULL: the value is a number of 64 bits, else 32 bits
    bool required;
};

static const struct word out_words[] = {{"bf16", DG_BF16}, {"fp32", DG_F32}, {"fp64", DG_F64}, {0}};
static const struct word c_words[] = {
    {"none", DG_C_NONE}, {"separate", DG_C_SEPARATE}, {"inplace", DG_C_IN_PLACE}, {0}};
static const struct word sfb_words[] = {{"128", 128}, {"1", 1}, {0}};
static const struct word sf_words[] = {{"fp32", DG_F32}, {"ue8m0", DG_UE8M0X4}, {0}};
static const struct word major_words[] = {{"k", DG_K_MAJOR}, {"mn", DG_MN_MAJOR}, {0}};

#define KEY(name, member, words)                                                                   \
    {                                                                                              \
        name, offsetof(struct dg_problem, member), words, false                                    \
    }
#define REQUIRED(name)                                                                             \
    {                                                                                              \
#name, offsetof(struct dg_problem, name), NULL, true                                       \
    }
// In the order in which they are written.
static const struct key keys[] = {
    REQUIRED(m),
    REQUIRED(n),
    REQUIRED(k),
    KEY("out", d_type, out_words),
    KEY("c", c_mode, c_words),
    KEY("sfb", sfb_block_n, sfb_words),
    KEY("sf", sf_type, sf_words),
    KEY("sfa_layout", sfa_major, major_words),
    KEY("sfb_layout", sfb_major, major_words),
    KEY("a", a_major, major_words),
    KEY("b", b_major, major_words),
    KEY("lda", lda, NULL),
    KEY("ldb", ldb, NULL),
    KEY("ldd", ldd, NULL),
};
enum { NUM_KEYS = sizeof keys / sizeof *keys, LONGEST_SHOWN = 60 };

_Static_assert(sizeof(dg_type) == 4 && sizeof(dg_major) == 4 && sizeof(dg_c_mode) == 4,
               "keys with words are read and written as 32 bits");

static struct dg_problem defaults_of(dg_op op)
{
    struct dg_problem problem;
    memset(&problem, 0, sizeof problem);
    const struct dg_op_facts *facts = dg_problem_op(op);
    problem.op = op;
    problem.d_type = DG_BF16;
    problem.sf_type = DG_F32;
    problem.sfb_block_n = 128;
    problem.a_major = facts && facts->a_transposed ? DG_MN_MAJOR : DG_K_MAJOR;
    problem.b_major = facts && facts->b_transposed ? DG_MN_MAJOR : DG_K_MAJOR;
    return problem;
}

// Text of limited room.
struct line {
    char *text;
    size_t capacity, length; // length of the whole line, also of what was cut
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
    bool room = line->length < line->capacity;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(room ? line->text + line->length : NULL,
                           room ? line->capacity - line->length : 0, format, arguments);
    va_end(arguments);
    line->length += length > 0 ? (size_t)length : 0;
}

// --- reading ---

struct piece {
    const char *text;
    size_t length;
};

static int shown(struct piece piece)
{
    return piece.length < LONGEST_SHOWN ? (int)piece.length : LONGEST_SHOWN;
}

static bool equals(struct piece piece, const char *word)
{
    return strlen(word) == piece.length && !memcmp(word, piece.text, piece.length);
}

static struct piece next_word(const char **text)
{
    static const char blanks[] = " \t\r\n";
    *text += strspn(*text, blanks);
    struct piece piece = {*text, strcspn(*text, blanks)};
    *text += piece.length;
    return piece;
}

static dg_status read_op(const char **text, dg_op *op)
{
    struct piece piece = next_word(text);
    char names[256] = "";
    struct line known = {names, sizeof names, 0};
    for (int i = DG_OP_NONE + 1; dg_problem_op((dg_op)i); i++) {
        const char *name = dg_problem_op((dg_op)i)->name;
        if (equals(piece, name)) {
            *op = (dg_op)i;
            return DG_OK;
        }
        add(&known, "%s%s", known.length ? ", " : "", name);
    }
    return dg_fail(DG_INVALID_ARGUMENT, "problem: unknown operation `%.*s`: must be one of %s",
                   shown(piece), piece.text, known.text);
}

static const struct key *find_key(struct piece name)
{
    for (int i = 0; i < NUM_KEYS; i++)
        if (equals(name, keys[i].name))
            return &keys[i];
    return NULL;
}

static dg_status read_number(struct piece word, struct piece value, int64_t *number)
{
    char digits[24] = "";
    if (value.length > 0 && value.length < sizeof digits &&
        strspn(value.text, "0123456789") >= value.length) {
        memcpy(digits, value.text, value.length);
        errno = 0;
        long long parsed = strtoll(digits, NULL, 10);
        if (!errno) {
            *number = parsed;
            return DG_OK;
        }
    }
    return dg_fail(DG_INVALID_ARGUMENT,
                   "problem: `%.*s`: the value must be a whole number from 0 to %lld", shown(word),
                   word.text, (long long)INT64_MAX);
}

static dg_status read_choice(struct piece word, struct piece value, const struct word *words,
                             int32_t *choice)
{
    char texts[64] = "";
    struct line known = {texts, sizeof texts, 0};
    for (; words->text; words++) {
        if (equals(value, words->text)) {
            *choice = words->value;
            return DG_OK;
        }
        add(&known, "%s%s", known.length ? ", " : "", words->text);
    }
    return dg_fail(DG_INVALID_ARGUMENT, "problem: `%.*s`: the value must be one of %s", shown(word),
                   word.text, known.text);
}

static dg_status fail_unknown_key(struct piece word)
{
    char names[128] = "";
    struct line known = {names, sizeof names, 0};
    for (int i = 0; i < NUM_KEYS; i++)
        add(&known, "%s%s", i ? " " : "", keys[i].name);
    return dg_fail(DG_INVALID_ARGUMENT,
                   "problem: unknown key in `%.*s`: must be key=value with one of %s", shown(word),
                   word.text, known.text);
}

static dg_status read_pair(struct piece word, struct dg_problem *problem, bool *seen)
{
    const char *equal = memchr(word.text, '=', word.length);
    struct piece name = {word.text, equal ? (size_t)(equal - word.text) : word.length};
    const struct key *key = equal ? find_key(name) : NULL;
    if (!key)
        return fail_unknown_key(word);
    if (seen[key - keys])
        return dg_fail(DG_INVALID_ARGUMENT, "problem: `%.*s`: %s is given twice", shown(word),
                       word.text, key->name);
    seen[key - keys] = true;
    struct piece value = {equal + 1, word.length - name.length - 1};
    char *member = (char *)problem + key->offset;
    return key->words ? read_choice(word, value, key->words, (int32_t *)(void *)member)
                      : read_number(word, value, (int64_t *)(void *)member);
}

dg_status dg_problem_parse(const char *text, struct dg_problem *problem)
{
    if (!text || !problem)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", text ? "problem" : "text");
    dg_op op = DG_OP_NONE;
    DG_TRY(read_op(&text, &op));
    struct dg_problem read = defaults_of(op);
    bool seen[NUM_KEYS] = {false};
    for (struct piece word = next_word(&text); word.length; word = next_word(&text))
        DG_TRY(read_pair(word, &read, seen));
    for (int i = 0; i < NUM_KEYS; i++)
        if (keys[i].required && !seen[i])
            return dg_fail(DG_INVALID_ARGUMENT, "problem: %s is missing: say %s=<number>",
                           keys[i].name, keys[i].name);
    dg_status status = dg_problem_complete(&read, &read);
    if (status)
        return dg_fail_context(status, "problem");
    memcpy(problem, &read, sizeof read); // its padding too
    return DG_OK;
}

// --- writing ---

static size_t size_of(const struct key *key)
{
    return key->words ? sizeof(int32_t) : sizeof(int64_t);
}

static bool same(const struct dg_problem *x, const struct dg_problem *y)
{
    for (int i = 0; i < NUM_KEYS; i++)
        if (memcmp((const char *)x + keys[i].offset, (const char *)y + keys[i].offset,
                   size_of(&keys[i])) != 0)
            return false;
    return x->op == y->op;
}

// Does the line without this key, and without those already left out, still mean `problem`?
static bool can_omit(int omitted, const bool *written, const struct dg_problem *problem)
{
    struct dg_problem trial = defaults_of(problem->op), complete;
    for (int i = 0; i < NUM_KEYS; i++)
        if (written[i] && i != omitted)
            memcpy((char *)&trial + keys[i].offset, (const char *)problem + keys[i].offset,
                   size_of(&keys[i]));
    return dg_problem_complete(&trial, &complete) == DG_OK && same(&complete, problem);
}

static void add_pair(struct line *line, const struct key *key, const struct dg_problem *problem)
{
    const char *member = (const char *)problem + key->offset;
    int64_t number = 0;
    int32_t choice;
    if (!key->words) {
        memcpy(&number, member, sizeof number);
        add(line, " %s=%lld", key->name, (long long)number);
        return;
    }
    memcpy(&choice, member, sizeof choice);
    const struct word *word = key->words;
    while (word->text && word->value != choice)
        word++;
    if (word->text)
        add(line, " %s=%s", key->name, word->text);
    else
        add(line, " %s=%d", key->name, (int)choice);
}

size_t dg_problem_format(const struct dg_problem *problem, char *text, size_t capacity)
{
    struct line line = {text, text ? capacity : 0, 0};
    struct dg_problem complete;
    bool written[NUM_KEYS];
    memset(written, true, sizeof written);
    if (line.capacity)
        *text = 0;
    if (!problem)
        return 0;
    // Strides last to first: a stride that is no gap goes before the major that it belongs to.
    // A problem that breaks a rule is written out in full, as it is.
    dg_error_keep(true);
    bool valid = dg_problem_complete(problem, &complete) == DG_OK;
    for (int i = NUM_KEYS; valid && i-- > 0;)
        written[i] = keys[i].required || !can_omit(i, written, &complete);
    dg_error_keep(false);
    const struct dg_op_facts *facts = dg_problem_op(problem->op);
    add(&line, "%s", facts ? facts->name : "unknown_op");
    for (int i = 0; i < NUM_KEYS; i++)
        if (written[i])
            add_pair(&line, &keys[i], valid ? &complete : problem);
    return line.length;
}
