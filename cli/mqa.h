// SPDX-License-Identifier: MIT
// mqa.h - MQA logits in the command: their problem lines, random data, the call, and the comparison with the
// oracle.
//
//     fp8_mqa_logits s=2048 skv=8192 h=64 d=128 ranges=causal
//     fp8_paged_mqa_logits b=32 next_n=2 h=64 L=8192 page=64
//
//   s skv         rows of q and of kv                       (both required)
//   b next_n L    sequences, tokens of each (1), length of the longest; b and L are required
//   h d           heads (required), depth (128)
//   ranges        causal: row i has [0, skv - s + i); full; ragged: sequences of other lengths
//                 (plain: causal; paged: full, all sequences have length L)
//   width         plain: the compressed form, this wide     (0: the full form)
//   columns       paged: columns of the logits              (L)
//   page          paged: positions of a page                (64)
//   weights out   fp32 or bf16                              (fp32)
//   clean         yes: minus infinity outside of the ranges (no)
#ifndef DG_CLI_MQA_H
#define DG_CLI_MQA_H

#include "gpu.h"

enum cli_mqa_ranges { CLI_MQA_CAUSAL, CLI_MQA_FULL, CLI_MQA_RAGGED };

struct cli_mqa {
    bool is_paged;
    int64_t rows, columns; // of logits
    int64_t num_kv, width;
    int64_t heads, depth, batch, next_n, length, page_size;
    enum cli_mqa_ranges ranges;
    dg_type weights_type, logits_type;
    uint32_t flags; // DG_MQA_...
};

// Is this line, or are these words of a peers file, of MQA logits?
bool cli_mqa_is_line(const char *line);
dg_status cli_mqa_parse(const char *line, struct cli_mqa *mqa);
// As snprintf.
size_t cli_mqa_format(const struct cli_mqa *mqa, char *text, size_t capacity);
struct dg_mqa_problem cli_mqa_problem(const struct cli_mqa *mqa);

enum cli_mqa_buffer {
    CLI_MQA_Q,
    CLI_MQA_KV, // paged: the cache
    CLI_MQA_SCALES,
    CLI_MQA_WEIGHTS,
    CLI_MQA_STARTS, // paged: lengths
    CLI_MQA_ENDS,   // paged: the block table
    CLI_MQA_SCHEDULE,
    CLI_MQA_LOGITS,
    CLI_MQA_BUFFERS
};

struct cli_mqa_data {
    struct cli_mqa mqa;
    uint64_t seed;
    int32_t num_sms;               // of the schedule; 0: there is none
    void *buffer[CLI_MQA_BUFFERS]; // NULL: the problem has none
    size_t bytes[CLI_MQA_BUFFERS]; // the logits' buffer is CLI_GUARD_BYTES longer at both ends
    int64_t num_scores;            // logits inside of ranges
};

// The same seed gives the same bytes everywhere.  `cpu`: a context of the backend "cpu".
dg_status cli_mqa_data_create(struct cli_mqa_data *data, const struct cli_mqa *mqa, uint64_t seed,
                              int32_t num_sms, dg_context *cpu);
void cli_mqa_data_free(struct cli_mqa_data *data);

// Addresses for a call: of the data's own buffers; elements, not guard bands.
void cli_mqa_data_base(const struct cli_mqa_data *data, void *base[CLI_MQA_BUFFERS]);

// The call, after a schedule was made for it.
dg_status cli_mqa_schedule(dg_context *context, const struct cli_mqa_data *data,
                           void *const base[CLI_MQA_BUFFERS], void *stream);
dg_status cli_mqa_call(dg_context *context, const struct cli_mqa_data *data,
                       void *const base[CLI_MQA_BUFFERS], void *stream);

// What a call has to do at least: multiplications and additions of all scores; each key, query and score
// read or written once.
double cli_mqa_operations(const struct cli_mqa_data *data);
double cli_mqa_bytes(const struct cli_mqa_data *data);

// ---- mqa_check.c ----------------------------------------------------------------------------------

// 1 - 2 xy / (xx + yy) of the logits and of sums in double, over the rows that were compared.
struct cli_mqa_check {
    int64_t rows;
    double difference, limit;
    char failure[256]; // "" when all is right
};

// Compares rows that cost at most about `max_products` multiplications, first and last among them; looks
// everywhere for scores not written, and for writes where none should be.
dg_status cli_mqa_compare(const struct cli_mqa_data *data, dg_context *oracle, double max_products,
                          struct cli_mqa_check *check);

// ---- on a device --------------------------------------------------------------------------------

struct cli_mqa_copy {
    CUdeviceptr buffer[CLI_MQA_BUFFERS];
    void *base[CLI_MQA_BUFFERS];
};
dg_status cli_mqa_upload(const struct cli_gpu *gpu, const struct cli_mqa_data *data,
                         struct cli_mqa_copy *copy);
void cli_mqa_copy_free(const struct cli_gpu *gpu, struct cli_mqa_copy *copy);
// The logits, guard bands included, back to the host's data.
dg_status cli_mqa_fetch(const struct cli_gpu *gpu, struct cli_mqa_data *data,
                        const struct cli_mqa_copy *copy);

// ---- verbs --------------------------------------------------------------------------------------

struct cli_mqa_run {
    struct cli_context_settings context;
    bool check, json;
    int64_t seed, repeats;
};
// `deepgemm run` and `deepgemm plan` of such a line; the exit status.
int cli_mqa_run(const struct cli_command *command, const struct cli_mqa_run *settings,
                const char *line);
int cli_mqa_plan(const struct cli_command *command, const struct cli_context_settings *settings,
                 bool json, const char *line);

#endif
