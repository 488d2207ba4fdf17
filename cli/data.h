// SPDX-License-Identifier: MIT
// data.h - random operands for a problem, and the comparison of its result with the oracle.
//
// The buffers of a problem are kept apart from the tensors that describe them, so that the same
// description serves host memory and a copy of it on a device.  D lies between two guard bands, and it
// and they are poisoned, so that whatever is written outside D, or not written inside, shows.
#ifndef DG_CLI_DATA_H
#define DG_CLI_DATA_H

#include "cli.h"

enum cli_buffer { CLI_A, CLI_SFA, CLI_B, CLI_SFB, CLI_C, CLI_D, CLI_LAYOUT, CLI_BUFFERS };

enum { CLI_GUARD_BYTES = 4096, CLI_POISON = 0xff }; // 0xffff and 0xffffffff are NaN

struct cli_data {
    struct dg_problem problem;
    void *buffer[CLI_BUFFERS]; // NULL: the problem has none
    size_t bytes[CLI_BUFFERS]; // of the operand; D's buffer is CLI_GUARD_BYTES longer at both ends,
                               // and buffer[CLI_D] points at the first guard band
    uint64_t seed;
};

// The operands of one call.
struct cli_operands {
    struct dg_scaled a, b;
    struct dg_tensor c, d;   // c.data == NULL: no C
    struct dg_tensor layout; // of grouped problems
};

// Fills a cli_data with normal random values, quantised as the problem says through `cpu`, a context of
// the backend "cpu".  The same seed gives the same bytes everywhere.
dg_status cli_data_create(struct cli_data *data, const struct dg_problem *problem, uint64_t seed,
                          dg_context *cpu);
void cli_data_free(struct cli_data *data);

// Whether all of these bytes hold CLI_POISON.
bool cli_is_poison(const char *bytes, size_t count);
// Element `at` of FP32 or BF16 data.
double cli_element(const void *data, dg_type type, int64_t at);

// Poisons D; with C in place, copies C into it.
void cli_data_reset(struct cli_data *data);

// Describes operands at these addresses; base[CLI_D] is that of D itself, not of its guard band.
void cli_data_describe(const struct dg_problem *problem, void *const base[CLI_BUFFERS],
                       struct cli_operands *operands);
// Those in the data's own buffers.
void cli_data_operands(const struct cli_data *data, struct cli_operands *operands);

// Calls dg_fp8_gemm_{nt,nn,tn,tt} or a grouped function, whichever the problem names.
dg_status cli_call(dg_context *context, const struct dg_problem *problem,
                   const struct cli_operands *operands, const struct dg_gemm_options *options,
                   void *stream);

// Normal values for `rows` rows of a matrix from its first_row-th on.
void cli_random_rows(float *panel, int64_t rows, int64_t columns, int64_t first_row, uint64_t seed);

// What one call has to do at least: 2 m n k operations, and each operand read or written once.
double cli_operations(const struct dg_problem *problem);
double cli_bytes(const struct dg_problem *problem);

// ---- check.c ------------------------------------------------------------------------------------

// How far D is from the oracle's sums in double, over the rows that were compared:
//
//   relative   ||D - R|| / ||R||, Frobenius norms
//   row        the largest |D - R| over the root mean square of its row
//   rounding   BF16 only: the largest |D - R| in units of what one rounding to nearest may cost, half
//              the distance of BF16 neighbours at that value, after `allowance` for the FP32 sum
//
// The norms are taken as at least those that the random data is expected to have (sqrt(k) for each
// element), which matters only to a result of a few elements that happen to cancel out.
struct cli_check {
    int64_t rows; // compared
    double relative, row, rounding;
    double limit_relative, limit_row; // for FP32 output; limit_row is BF16's allowance
    char failure[256];                // "" when D is right
};

// Compares D in the data's buffers, as a call left it, with the oracle: all rows, or a random subset of
// them, first and last included, that costs at most about `max_products` multiplications.  Looks at all
// of D for elements not written, and at guard bands and gaps for bytes that were.
dg_status cli_check(const struct cli_data *data, dg_context *oracle, bool is_gpu,
                    double max_products, struct cli_check *check);

#endif
