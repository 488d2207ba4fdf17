// SPDX-License-Identifier: MIT
// tuning.c - tables of measured winners: a list in the order of the file, searched from its end.  A search
// happens once for a problem, since contexts remember plans.
#include "plan/tuning.h"

#include "base/error.h"
#include "plan/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "deepgemm-tuning 1"

struct winner {
    char device[96];           // "NVIDIA H100 80GB HBM3, 132 SMs"
    struct dg_problem problem; // with the last m
    int64_t first_m;
    char candidate[96];
};

struct dg_tuning {
    struct winner *winners;
    size_t count, capacity;
};

// ---- reading --------------------------------------------------------------------------------------

struct place {
    const char *source;
    int line;
};

// The next field of a line, up to `|` or its end, without the blanks around it.
static bool take_field(const char **at, char *field, size_t capacity)
{
    const char *begin = *at + strspn(*at, " \t"), *end = begin + strcspn(begin, "|");
    *at = *end ? end + 1 : end;
    while (end > begin && strchr(" \t\r", end[-1]))
        end--;
    const size_t length = (size_t)(end - begin);
    if (length == 0 || length >= capacity)
        return false;
    memcpy(field, begin, length);
    field[length] = 0;
    return true;
}

// Makes "m=A..B" into "m=B"; *first_m stays 0 without a range.  False when A is no number.
static bool take_range(char *line, int64_t *first_m)
{
    char *dots = strstr(line, ".."), *digits = dots, *end;
    *first_m = 0;
    if (!dots)
        return true;
    while (digits > line && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    *first_m = strtoll(digits, &end, 10);
    memmove(digits, dots + 2, strlen(dots + 2) + 1);
    return end == dots && *first_m > 0 && digits - line >= 2 && !strncmp(digits - 2, "m=", 2);
}

static dg_status read_problem(const struct place *place, const char *text, struct winner *winner)
{
    char line[512];
    strcpy(line, text); // a field that fitted in as many bytes
    if (!take_range(line, &winner->first_m))
        return dg_fail(DG_INVALID_ARGUMENT, "%s:%d: `%s`: a range of m is written m=FIRST..LAST",
                       place->source, place->line, text);
    const dg_status status = dg_problem_parse(line, &winner->problem);
    if (status != DG_OK)
        return dg_fail_context(status, "%s:%d", place->source, place->line);
    if (winner->first_m == 0)
        winner->first_m = winner->problem.m;
    if (winner->first_m > winner->problem.m)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s:%d: m = %lld..%lld: the last is less than the first", place->source,
                       place->line, (long long)winner->first_m, (long long)winner->problem.m);
    return DG_OK;
}

static dg_status read_winner(const struct place *place, const char *line, struct winner *winner)
{
    char problem[512];
    memset(winner, 0, sizeof *winner);
    if (!take_field(&line, winner->device, sizeof winner->device) ||
        !take_field(&line, problem, sizeof problem) ||
        !take_field(&line, winner->candidate, sizeof winner->candidate))
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s:%d: must be `DEVICE, N SMs | PROBLEM | CANDIDATE`, as `deepgemm bench "
                       "--tune` writes it",
                       place->source, place->line);
    return read_problem(place, problem, winner);
}

static dg_status add_winner(struct dg_tuning *tuning, const struct winner *winner)
{
    if (tuning->count == tuning->capacity) {
        const size_t capacity = 2 * tuning->capacity + 16;
        struct winner *winners = realloc(tuning->winners, capacity * sizeof *winners);
        if (!winners)
            return dg_fail(DG_OUT_OF_MEMORY, "tuning table: host memory ran out");
        tuning->winners = winners;
        tuning->capacity = capacity;
    }
    tuning->winners[tuning->count++] = *winner;
    return DG_OK;
}

static dg_status read_line(const struct place *place, char *line, bool *has_header,
                           struct dg_tuning *tuning)
{
    struct winner winner;
    line[strcspn(line, "#\r")] = 0;
    if (line[strspn(line, " \t")] == 0)
        return DG_OK;
    if (*has_header) {
        DG_TRY(read_winner(place, line, &winner));
        return add_winner(tuning, &winner);
    }
    *has_header = !strncmp(line, HEADER, strlen(HEADER)) && !line[strlen(HEADER)];
    return *has_header ? DG_OK
                       : dg_fail(DG_INVALID_ARGUMENT,
                                 "%s:%d: `%.40s`: a tuning table begins with `" HEADER "`",
                                 place->source, place->line, line);
}

static dg_status read_lines(const char *source, const char *text, struct dg_tuning *tuning)
{
    struct place place = {source, 1};
    bool has_header = false;
    for (; *text; place.line++) {
        char line[1024];
        const size_t length = strcspn(text, "\n");
        if (length >= sizeof line)
            return dg_fail(DG_INVALID_ARGUMENT, "%s:%d: longer than %zu bytes", source, place.line,
                           sizeof line - 1);
        memcpy(line, text, length);
        line[length] = 0;
        DG_TRY(read_line(&place, line, &has_header, tuning));
        text += length + (text[length] != 0);
    }
    return has_header ? DG_OK
                      : dg_fail(DG_INVALID_ARGUMENT,
                                "%s:%d: is empty: a tuning table begins with `" HEADER "`", source,
                                place.line);
}

dg_status dg_tuning_parse(const char *source, const char *text, struct dg_tuning **tuning)
{
    *tuning = NULL;
    struct dg_tuning *made = calloc(1, sizeof *made);
    if (!made)
        return dg_fail(DG_OUT_OF_MEMORY, "tuning table: host memory ran out");
    const dg_status status = read_lines(source, text, made);
    if (status == DG_OK)
        *tuning = made;
    else
        dg_tuning_destroy(made);
    return status;
}

void dg_tuning_destroy(struct dg_tuning *tuning)
{
    if (tuning)
        free(tuning->winners);
    free(tuning);
}

// ---- finding --------------------------------------------------------------------------------------

// Is it the problem of the line, with m of its range and the strides that follow from m?
static bool is_for(const struct winner *winner, const struct dg_problem *problem)
{
    if (problem->m < winner->first_m || problem->m > winner->problem.m)
        return false;
    struct dg_problem wanted = winner->problem, complete;
    wanted.m = problem->m;
    if (wanted.m != winner->problem.m && wanted.a_major == DG_MN_MAJOR)
        wanted.lda = 0;
    if (dg_problem_complete(&wanted, &complete) != DG_OK)
        return false;
    // How sizes are spread is for whoever makes data; a call does not know it.
    complete.spread = problem->spread;
    complete.rows_low = problem->rows_low;
    complete.rows_high = problem->rows_high;
    complete.rows = problem->rows;
    // Complete problems are zeroed whole before they are filled.
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    return memcmp(&complete, problem, sizeof complete) == 0;
}

const char *dg_tuning_find(const struct dg_device *device, const struct dg_problem *problem)
{
    const struct dg_tuning *tuning = device->tuning;
    char name[96];
    if (!tuning)
        return NULL;
    snprintf(name, sizeof name, "%.70s, %d SMs", device->name, (int)device->num_sms);
    for (size_t i = tuning->count; i-- > 0;)
        if (!strcmp(tuning->winners[i].device, name) && is_for(&tuning->winners[i], problem))
            return tuning->winners[i].candidate;
    return NULL;
}
