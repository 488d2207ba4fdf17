// SPDX-License-Identifier: MIT
// bench_peers.c - times of other libraries on another machine, read from CSV.
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 16 };

enum column { OP, M, N, K, DEEPGEMM_US, CUBLASLT_US, DETAIL, NUM_COLUMNS };
static const char *const names[NUM_COLUMNS] = {"op",          "m",           "n",     "k",
                                               "deepgemm_us", "cublaslt_us", "detail"};

// Splits a line in place at its commas (fields with quotes do not occur); the number of fields.
static int split(char *line, char *fields[MAX_COLUMNS])
{
    int count = 0;
    line[strcspn(line, "\r\n")] = 0;
    for (char *next = line; next && count < MAX_COLUMNS; count++) {
        fields[count] = next;
        next = strchr(next, ',');
        if (next)
            *next++ = 0;
    }
    return count;
}

// Where each of our columns stands in the file; false when one is missing.
static bool read_header(char *line, int where[NUM_COLUMNS])
{
    char *fields[MAX_COLUMNS];
    const int count = split(line, fields);
    for (int column = 0; column < NUM_COLUMNS; column++) {
        where[column] = -1;
        for (int i = 0; i < count; i++)
            if (strcmp(fields[i], names[column]) == 0)
                where[column] = i;
        if (where[column] < 0 && column != DETAIL)
            return false;
    }
    return true;
}

static double time_of(const char *field)
{
    return *field ? strtod(field, NULL) : NAN;
}

static bool add_row(struct bench_peers *peers, char *line, const int where[NUM_COLUMNS])
{
    char *fields[MAX_COLUMNS] = {NULL};
    const char *f[NUM_COLUMNS];
    const int count = split(line, fields);
    for (int column = 0; column < NUM_COLUMNS; column++) {
        if (where[column] >= count)
            return true; // a short line has nothing for us
        f[column] = where[column] < 0 ? "" : fields[where[column]];
    }
    struct bench_peer *list = realloc(peers->list, (peers->count + 1) * sizeof *list);
    if (!list)
        return false;
    peers->list = list;
    struct bench_peer *row = &list[peers->count++];
    *row = (struct bench_peer){.m = strtoll(f[M], NULL, 10),
                               .n = strtoll(f[N], NULL, 10),
                               .k = strtoll(f[K], NULL, 10),
                               .deepgemm_us = time_of(f[DEEPGEMM_US]),
                               .cublaslt_us = time_of(f[CUBLASLT_US])};
    snprintf(row->op, sizeof row->op, "%s", f[OP]);
    snprintf(row->detail, sizeof row->detail, "%s", f[DETAIL]);
    return true;
}

int bench_read_peers(const struct cli_command *command, const char *path, struct bench_peers *peers)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return cli_error(command, CLI_USAGE, "%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    int where[NUM_COLUMNS] = {0}, status = CLI_OK;
    if (getline(&line, &capacity, file) < 0 || !read_header(line, where))
        status = cli_error(
            command, CLI_USAGE,
            "%s: the first line must name the columns op, m, n, k, deepgemm_us and cublaslt_us",
            path);
    while (status == CLI_OK && getline(&line, &capacity, file) >= 0)
        if (!add_row(peers, line, where))
            status = cli_error(command, CLI_FAILED, "out of memory");
    free(line);
    fclose(file);
    return status;
}

// The number behind a word of the detail, "groups=" for instance; 0: it has none.
static int64_t detail_number(const struct bench_peer *row, const char *word)
{
    const char *at = strstr(row->detail, word);
    return at && (at == row->detail || at[-1] == ' ') ? strtoll(at + strlen(word), NULL, 10) : 0;
}

static bool is_1d2d(const struct dg_problem *p)
{
    return p->d_type == DG_BF16 && p->c_mode == DG_C_NONE && p->sfb_block_n == 128;
}

static bool is_1d1d(const struct dg_problem *p)
{
    return p->d_type == DG_F32 && p->c_mode == DG_C_IN_PLACE && p->sfb_block_n == 1;
}

static bool is_dense_row(const struct bench_peer *row, const struct dg_problem *p)
{
    const char *op = is_1d2d(p) ? "fp8_dense" : is_1d1d(p) ? "fp8_dense_1d1d_fp32_accumulate" : "";
    return strcmp(row->op, op) == 0 && row->m == p->m && row->k == p->k;
}

// Peers were timed on groups of one size.  Their k is that of a group, their m that of all.
static bool is_grouped_row(const struct bench_peer *row, const struct dg_problem *p)
{
    if (p->spread != DG_ROWS_EQUAL)
        return false;
    if (p->op == DG_OP_FP8_K_GROUPED)
        return strcmp(row->op, "fp8_k_grouped") == 0 && is_1d1d(p) && row->m == p->m &&
               row->k == p->rows && detail_number(row, "g=") == p->groups &&
               p->k == p->rows * p->groups;
    if (!is_1d2d(p) || row->k != p->k || detail_number(row, "groups=") != p->groups ||
        detail_number(row, "rows_per_group=") != p->rows)
        return false;
    return p->op == DG_OP_FP8_M_GROUPED_CONTIGUOUS
               ? strcmp(row->op, "fp8_m_grouped_contiguous") == 0 && row->m == p->m
               : p->op == DG_OP_FP8_M_GROUPED_MASKED &&
                     strcmp(row->op, "fp8_m_grouped_masked") == 0 &&
                     detail_number(row, "max_m=") == p->m;
}

const struct bench_peer *bench_find_peer(const struct bench_peers *peers,
                                         const struct dg_problem *p)
{
    for (size_t i = 0; i < peers->count; i++) {
        const struct bench_peer *row = &peers->list[i];
        if (row->n == p->n && (p->groups ? is_grouped_row : is_dense_row)(row, p))
            return row;
    }
    return NULL;
}

const struct bench_peer *bench_find_reference(const struct bench_peers *peers,
                                              const struct bench_peer *peer)
{
    const struct bench_peer *best = NULL;
    double least = INFINITY;
    const int64_t rows = detail_number(peer, "rows_per_group=");
    for (size_t i = 0; i < peers->count; i++) {
        const struct bench_peer *row = &peers->list[i];
        if (strcmp(row->op, "fp8_dense") != 0 || isnan(row->cublaslt_us))
            continue;
        // As many rows, so that the same limit binds; of groups along k, as much time.
        const double elsewhere = row->n == peer->n && row->k == peer->k ? 0 : 10;
        const double ratio =
            rows ? (double)row->m / (double)rows : row->cublaslt_us / peer->deepgemm_us;
        const double distance = elsewhere + fabs(log(ratio));
        if (distance < least) // NaN is not
            best = row, least = distance;
    }
    return best;
}
