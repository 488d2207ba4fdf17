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
    unsigned required, known; // by which kinds of operations: bits 1 << DG_KIND_...
};

static const struct word out_words[] = {{"bf16", DG_BF16}, {"fp32", DG_F32}, {"fp64", DG_F64}, {0}};
static const struct word c_words[] = {
    {"none", DG_C_NONE}, {"separate", DG_C_SEPARATE}, {"inplace", DG_C_IN_PLACE}, {0}};
static const struct word sfb_words[] = {{"128", 128}, {"1", 1}, {0}};
static const struct word sf_words[] = {{"fp32", DG_F32}, {"ue8m0", DG_UE8M0X4}, {0}};
static const struct word major_words[] = {{"k", DG_K_MAJOR}, {"mn", DG_MN_MAJOR}, {0}};

static const struct word layout_words[] = {{"index", DG_GROUP_INDEX}, {"ends", DG_GROUP_ENDS}, {0}};
static const struct word flag_words[] = {{"0", 0}, {"1", 1}, {0}};
static const struct word number_words[] = {{0}}; // a number of 32 bits
static const struct word rows_words[] = {{"zipf", DG_ROWS_ZIPF}, {"hot", DG_ROWS_HOT}, {0}};

enum {
    DENSE = 1 << DG_KIND_DENSE,
    CONTIGUOUS = 1 << DG_KIND_CONTIGUOUS,
    MASKED = 1 << DG_KIND_MASKED,
    K_GROUPED = 1 << DG_KIND_K_GROUPED,
    M_GROUPED = CONTIGUOUS | MASKED,
    GROUPED = M_GROUPED | K_GROUPED,
    ANY = DENSE | GROUPED,
};
#define KEY(name, member, words, required, known)                                                  \
    {                                                                                              \
        name, offsetof(struct dg_problem, member), words, required, known                          \
    }
// In the order in which they are written.
static const struct key keys[] = {
    KEY("groups", groups, NULL, GROUPED, GROUPED),
    KEY("m", m, NULL, ANY & ~MASKED, ANY & ~MASKED),
    KEY("max_m", m, NULL, MASKED, MASKED),
    KEY("n", n, NULL, ANY, ANY),
    KEY("k", k, NULL, ANY, ANY),
    KEY("layout", layout, layout_words, 0, CONTIGUOUS),
    KEY("align", alignment, number_words, 0, CONTIGUOUS | K_GROUPED),
    KEY("rows", rows, rows_words, 0, GROUPED),
    KEY("expected_m", expected_m, NULL, 0, GROUPED),
    KEY("out", d_type, out_words, 0, ANY),
    KEY("c", c_mode, c_words, 0, ANY),
    KEY("sfb", sfb_block_n, sfb_words, 0, ANY),
    KEY("sf", sf_type, sf_words, 0, ANY),
    KEY("sfa_layout", sfa_major, major_words, 0, ANY),
    KEY("sfb_layout", sfb_major, major_words, 0, ANY),
    KEY("a", a_major, major_words, 0, ANY),
    KEY("b", b_major, major_words, 0, ANY),
    KEY("invariant", invariant, flag_words, 0, DENSE),
    KEY("lda", lda, NULL, 0, ANY),
    KEY("ldb", ldb, NULL, 0, ANY),
    KEY("ldd", ldd, NULL, 0, ANY),
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
    problem.d_type = facts && facts->kind == DG_KIND_K_GROUPED ? DG_F32 : DG_BF16;
    problem.sf_type = DG_F32;
    problem.sfb_block_n = facts && facts->kind == DG_KIND_K_GROUPED ? 1 : 128;
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
    char names[512] = "";
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

static bool is_known(const struct key *key, dg_op op)
{
    const struct dg_op_facts *facts = dg_problem_op(op);
    return facts && key->known >> facts->kind & 1;
}

static const struct key *find_key(struct piece name, dg_op op)
{
    for (int i = 0; i < NUM_KEYS; i++)
        if (is_known(&keys[i], op) && equals(name, keys[i].name))
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

// Numbers of 32 bits, such as align=.
static dg_status read_small(struct piece word, struct piece value, int32_t *number)
{
    int64_t wide = 0;
    DG_TRY(read_number(word, value, &wide));
    if (wide > INT32_MAX)
        return dg_fail(DG_INVALID_ARGUMENT, "problem: `%.*s`: the value must be at most %d",
                       shown(word), word.text, INT32_MAX);
    *number = (int32_t)wide;
    return DG_OK;
}

// LOW-HIGH in units of 1, kept in thousandths.
static bool read_range(struct piece value, struct dg_problem *problem)
{
    char text[32] = "", *end;
    if (value.length == 0 || value.length >= sizeof text)
        return false;
    memcpy(text, value.text, value.length);
    const double low = strtod(text, &end);
    if (end == text || *end != '-' || !(low >= 0 && low < 1e6))
        return false;
    const char *second = end + 1;
    const double high = strtod(second, &end);
    if (end == second || *end || !(high >= low && high < 1e6))
        return false;
    problem->spread = DG_ROWS_UNIFORM;
    problem->rows_low = (int32_t)(1000 * low + 0.5);
    problem->rows_high = (int32_t)(1000 * high + 0.5);
    return true;
}

// A number, uniform:LOW-HIGH, zipf, hot, or given:NUMBER.
static dg_status read_rows(struct piece word, struct piece value, struct dg_problem *problem)
{
    static const char uniform[] = "uniform:", given[] = "given:";
    const size_t prefix = sizeof uniform - 1, prefix_given = sizeof given - 1;
    for (const struct word *w = rows_words; w->text; w++)
        if (equals(value, w->text)) {
            problem->spread = (dg_rows)w->value;
            return DG_OK;
        }
    if (value.length > prefix && !memcmp(value.text, uniform, prefix) &&
        read_range((struct piece){value.text + prefix, value.length - prefix}, problem))
        return DG_OK;
    if (value.length > prefix_given && !memcmp(value.text, given, prefix_given)) {
        problem->spread = DG_ROWS_GIVEN;
        const struct piece rest = {value.text + prefix_given, value.length - prefix_given};
        DG_TRY(read_small(word, rest, &problem->rows_low));
        problem->rows_high = problem->rows_low;
        return DG_OK;
    }
    if (value.length && value.text[0] >= '0' && value.text[0] <= '9')
        return read_number(word, value, &problem->rows);
    return dg_fail(DG_INVALID_ARGUMENT,
                   "problem: `%.*s`: the value must be a number, uniform:LOW-HIGH, zipf or hot",
                   shown(word), word.text);
}

static dg_status fail_unknown_key(struct piece word, dg_op op)
{
    char names[160] = "";
    struct line known = {names, sizeof names, 0};
    for (int i = 0; i < NUM_KEYS; i++)
        if (is_known(&keys[i], op))
            add(&known, "%s%s", known.length ? " " : "", keys[i].name);
    return dg_fail(DG_INVALID_ARGUMENT,
                   "problem: unknown key in `%.*s`: must be key=value with one of %s", shown(word),
                   word.text, known.text);
}

static dg_status read_pair(struct piece word, struct dg_problem *problem, bool *seen)
{
    const char *equal = memchr(word.text, '=', word.length);
    struct piece name = {word.text, equal ? (size_t)(equal - word.text) : word.length};
    const struct key *key = equal ? find_key(name, problem->op) : NULL;
    if (!key)
        return fail_unknown_key(word, problem->op);
    if (seen[key - keys])
        return dg_fail(DG_INVALID_ARGUMENT, "problem: `%.*s`: %s is given twice", shown(word),
                       word.text, key->name);
    seen[key - keys] = true;
    struct piece value = {equal + 1, word.length - name.length - 1};
    char *member = (char *)problem + key->offset;
    if (key->words == rows_words)
        return read_rows(word, value, problem);
    if (key->words == number_words)
        return read_small(word, value, (int32_t *)(void *)member);
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
        if (keys[i].required >> dg_problem_kind(&read) & 1 && !seen[i])
            return dg_fail(DG_INVALID_ARGUMENT, "problem: %s is missing: say %s=<number>",
                           keys[i].name, keys[i].name);
    dg_status status = dg_problem_complete(&read, &read);
    if (status)
        return dg_fail_context(status, "problem");
    memcpy(problem, &read, sizeof read); // its padding too
    return DG_OK;
}

// --- writing ---

// Copies what a key says.
static void copy_key(struct dg_problem *to, const struct dg_problem *from, const struct key *key)
{
    const bool is_wide = !key->words || key->words == rows_words;
    memcpy((char *)to + key->offset, (const char *)from + key->offset,
           is_wide ? sizeof(int64_t) : sizeof(int32_t));
    if (key->words != rows_words)
        return;
    to->spread = from->spread, to->rows_low = from->rows_low, to->rows_high = from->rows_high;
    if (to->spread != DG_ROWS_EQUAL)
        to->rows = 0; // then no number is written
}

// Does the line without this key, and without those already left out, still mean `problem`?
static bool can_omit(int omitted, const bool *written, const struct dg_problem *problem)
{
    struct dg_problem trial = defaults_of(problem->op), complete;
    for (int i = 0; i < NUM_KEYS; i++)
        if (written[i] && i != omitted)
            copy_key(&trial, problem, &keys[i]);
    return dg_problem_complete(&trial, &complete) == DG_OK &&
           !memcmp(&complete, problem, sizeof complete);
}

static void add_rows(struct line *line, const struct dg_problem *p)
{
    switch (p->spread) {
    case DG_ROWS_UNIFORM:
        add(line, " rows=uniform:%g-%g", p->rows_low / 1e3, p->rows_high / 1e3);
        break;
    case DG_ROWS_GIVEN:
        add(line, " rows=given:%d", (int)p->rows_low);
        break;
    case DG_ROWS_ZIPF:
    case DG_ROWS_HOT:
        add(line, " rows=%s", p->spread == DG_ROWS_ZIPF ? "zipf" : "hot");
        break;
    default:
        add(line, " rows=%lld", (long long)p->rows);
    }
}

static void add_pair(struct line *line, const struct key *key, const struct dg_problem *problem)
{
    const char *member = (const char *)problem + key->offset;
    int64_t number = 0;
    int32_t choice;
    if (key->words == rows_words) {
        add_rows(line, problem);
        return;
    }
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
    const struct dg_op_facts *facts = dg_problem_op(problem->op);
    for (int i = 0; i < NUM_KEYS; i++)
        written[i] = keys[i].known >> (facts ? facts->kind : DG_KIND_DENSE) & 1;
    for (int i = NUM_KEYS; valid && i-- > 0;)
        if (written[i])
            written[i] = keys[i].required >> facts->kind & 1 || !can_omit(i, written, &complete);
    dg_error_keep(false);
    add(&line, "%s", facts ? facts->name : "unknown_op");
    for (int i = 0; i < NUM_KEYS; i++)
        if (written[i])
            add_pair(&line, &keys[i], valid ? &complete : problem);
    return line.length;
}
