// SPDX-License-Identifier: MIT
// grouped.h - random data for grouped problems: how large the groups are, where they lie, and each group
// as a dense problem.  data.c and check.c hand grouped problems over to these.
#ifndef DG_CLI_GROUPED_H
#define DG_CLI_GROUPED_H

#include "data.h"

enum cli_kind { CLI_DENSE, CLI_CONTIGUOUS, CLI_MASKED, CLI_K_GROUPED };
enum cli_kind cli_kind(const struct dg_problem *problem);

// dg_problem_parse and dg_problem_format, with rows=file:PATH besides: the groups have the sizes in the file
// (recorded.h), from its first again if they are fewer.  A size that does not fit is refused.
dg_status cli_problem_parse(const char *text, struct dg_problem *problem);
size_t cli_problem_format(const struct dg_problem *problem, char *text, size_t capacity);

// Where a group's rows (or values of k) lie: rows count in D, blocks are those of k among the scales.
struct cli_group {
    int64_t first, size, first_block;
};
// problem->groups of them, to be freed; NULL: no memory.  A function of the problem only.
struct cli_group *cli_groups(const struct dg_problem *problem);

// Rows of all matrices of D one after the other.
int64_t cli_output_rows(const struct dg_problem *problem);
// Row `row` of D, counted like that: its group, or one of these.
enum { CLI_ROW_OF_NO_GROUP = -1, CLI_ROW_UNTOUCHED = -2 };
int64_t cli_row_group(const struct dg_problem *problem, const struct cli_group *groups,
                      int64_t row);

// The operands of a group in NT orientation, [rows, k] and [n, k].  `operands` are those of the whole.
void cli_group_operands(const struct dg_problem *problem, const struct cli_operands *operands,
                        const struct cli_group *groups, int64_t group, struct dg_scaled *a,
                        struct dg_scaled *b);

// What data.h promises, for grouped problems.
void cli_grouped_describe(const struct dg_problem *problem, void *const base[CLI_BUFFERS],
                          struct cli_operands *operands);
void cli_grouped_layout(const struct dg_problem *problem, const struct cli_group *groups,
                        int32_t *layout);
dg_status cli_grouped_call(dg_context *context, const struct dg_problem *problem,
                           const struct cli_operands *operands,
                           const struct dg_gemm_options *options, void *stream);
double cli_grouped_operations(const struct dg_problem *problem);
double cli_grouped_bytes(const struct dg_problem *problem);
// The sum over the groups of the longer of their bytes and their operations.
double cli_grouped_us(const struct dg_problem *problem, double bytes_per_us,
                      double operations_per_us);
dg_status cli_grouped_check(const struct cli_data *data, dg_context *oracle, double max_products,
                            struct cli_check *check);

#endif
