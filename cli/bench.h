// SPDX-License-Identifier: MIT
// bench.h - what the parts of `deepgemm bench` share: the list of problems, where rows go, statistics.
#ifndef DG_CLI_BENCH_H
#define DG_CLI_BENCH_H

#include "grouped.h"
#include "mqa.h"

struct bench_settings {
    struct cli_texts shapes, problem;
    const char *vs, *peers, *csv, *tune, *sweep;
    const char *backend, *isa, *threads; // isa and threads: lists
    int64_t device, num_sms, seed, time_ms;
    int json, host, chain, in_turn;
};

struct bench {
    const struct cli_command *command;
    const struct bench_settings *settings;
    struct dg_problem *problems;
    size_t num_problems;
    struct cli_mqa *mqa; // problems of MQA logits, timed apart
    size_t num_mqa;
    dg_context *cpu, *oracle; // for data and for the check
    struct cli_table table;   // its files are set; the columns are the executor's to choose
    int64_t num_failures;     // results that were wrong
};

// Sums in double that the check of one row may cost.
static const double bench_check_products = 1e9;

// The problems of a shapes file, one a line, `#` begins a comment; appended to bench->problems.  CLI_OK,
// or the exit status after a message that names the line.
int bench_read_shapes(struct bench *bench, const char *path);
int bench_read_all_shapes(struct bench *bench, const struct cli_texts *paths);
int bench_add_problem(struct bench *bench, const char *line, const char *where);

// Begins the table on these columns, the first as wide as the problems to come; JSON around it.
void bench_begin(struct bench *bench, const struct cli_column *columns, int num_columns);

// Whether `name` is among the comma-separated names of `list`.
bool bench_list_has(const char *list, const char *name);

// The middle of values, which are sorted in passing; NAN when there are none.
double bench_median(double *values, size_t count);

// The exit status after all problems ran and the table was closed.
int bench_run_cpu(struct bench *bench);
int bench_run_gpu(struct bench *bench, dg_context *context);
int bench_run_mqa(struct bench *bench, dg_context *context); // on either

// ---- bench_peers.c: times of other libraries, from a file ---------------------------------------

// Lines op,m,n,k,detail,deepgemm_us,cublaslt_us,...; columns are found by name.
struct bench_peer {
    char op[48], detail[96];
    int64_t m, n, k;
    double deepgemm_us, cublaslt_us; // NAN: empty
};
struct bench_peers {
    struct bench_peer *list;
    size_t count;
};
// CLI_OK, or the exit status after a message.
int bench_read_peers(const struct cli_command *command, const char *path,
                     struct bench_peers *peers);
// NULL: no row for this problem.
const struct bench_peer *bench_find_peer(const struct bench_peers *peers,
                                         const struct dg_problem *problem);
// For a peer's row without a time of cuBLASLt: the dense row with one that is most like a group of it, of the same n
// and k if there are such.  Timed in our run too, it tells how this run and that of the file compare.
const struct bench_peer *bench_find_reference(const struct bench_peers *peers,
                                              const struct bench_peer *peer);

#endif
