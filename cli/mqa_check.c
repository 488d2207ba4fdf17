// SPDX-License-Identifier: MIT
// mqa_check.c - MQA logits against the oracle, row by row, and a look at what was written at all.
#include "mqa.h"

#include <stdlib.h>
#include <string.h>

// Scores of a row are in columns [first, last).
struct row {
    int64_t first, last;
};

static struct row row_of(const struct cli_mqa_data *data, int64_t i)
{
    const struct cli_mqa *m = &data->mqa;
    const int32_t *starts = data->buffer[CLI_MQA_STARTS], *ends = data->buffer[CLI_MQA_ENDS];
    if (m->is_paged)
        return (struct row){0, starts[i]};
    if (!m->width)
        return (struct row){starts[i], ends[i]};
    const int64_t count = ends[i] - starts[i];
    return (struct row){0, count < m->width ? count : m->width};
}

static const char *logits_of(const struct cli_mqa_data *data)
{
    return (const char *)data->buffer[CLI_MQA_LOGITS] + CLI_GUARD_BYTES;
}

static double logit(const struct cli_mqa_data *data, int64_t at)
{
    return cli_element(logits_of(data), data->mqa.logits_type, at);
}

// ---- what needs no oracle -----------------------------------------------------------------------

static void check_row(const struct cli_mqa_data *data, int64_t i, struct cli_mqa_check *check)
{
    const struct cli_mqa *m = &data->mqa;
    const struct row row = row_of(data, i);
    const size_t element = dg_type_bytes(m->logits_type);
    for (int64_t j = 0; j < m->columns && !check->failure[0]; j++) {
        const int64_t at = i * m->columns + j;
        const double value = logit(data, at);
        const bool is_score = j >= row.first && j < row.last;
        const bool is_right = is_score ? isfinite(value) != 0
                              : m->flags & DG_MQA_CLEAN
                                  ? value == -INFINITY
                                  : cli_is_poison(logits_of(data) + (size_t)at * element, element);
        if (!is_right)
            snprintf(check->failure, sizeof check->failure,
                     "logits[%lld][%lld] = %g; the row's scores are %lld to %lld", (long long)i,
                     (long long)j, value, (long long)row.first, (long long)row.last);
    }
}

static void check_writes(const struct cli_mqa_data *data, struct cli_mqa_check *check)
{
    const char *logits = logits_of(data);
    if (!cli_is_poison(logits - CLI_GUARD_BYTES, CLI_GUARD_BYTES) ||
        !cli_is_poison(logits + data->bytes[CLI_MQA_LOGITS], CLI_GUARD_BYTES))
        snprintf(check->failure, sizeof check->failure, "bytes outside of the logits were written");
    for (int64_t i = 0; i < data->mqa.rows && !check->failure[0]; i++)
        check_row(data, i, check);
}

// ---- sums in double -----------------------------------------------------------------------------

// One row alone as a problem of its own, whose logits are double.
static dg_status reference(const struct cli_mqa_data *data, dg_context *oracle, int64_t i,
                           double *logits)
{
    const struct cli_mqa *m = &data->mqa;
    struct cli_mqa_data one = *data;
    void *base[CLI_MQA_BUFFERS];
    const int64_t sequence = m->is_paged ? i / m->next_n : 0;
    const int64_t pages = m->is_paged ? (m->columns + m->page_size - 1) / m->page_size : 0;
    cli_mqa_data_base(data, base);
    one.mqa.rows = one.mqa.batch = one.mqa.next_n = 1;
    one.mqa.logits_type = DG_F64;
    one.mqa.flags &= ~(uint32_t)DG_MQA_CLEAN;
    one.num_sms = 0;
    base[CLI_MQA_Q] = (char *)base[CLI_MQA_Q] + i * m->heads * m->depth;
    base[CLI_MQA_WEIGHTS] =
        (char *)base[CLI_MQA_WEIGHTS] + i * m->heads * (int64_t)dg_type_bytes(m->weights_type);
    base[CLI_MQA_STARTS] = (int32_t *)base[CLI_MQA_STARTS] + i;
    base[CLI_MQA_ENDS] = (int32_t *)base[CLI_MQA_ENDS] + (m->is_paged ? sequence * pages : i);
    base[CLI_MQA_LOGITS] = logits;
    return cli_mqa_call(oracle, &one, base, NULL);
}

static dg_status compare_rows(const struct cli_mqa_data *data, dg_context *oracle, int64_t count,
                              double *logits, struct cli_mqa_check *check)
{
    const struct cli_mqa *m = &data->mqa;
    double xy = 0, xx = 0;
    for (int64_t n = 0; n < count; n++) {
        const int64_t i = count > 1 ? n * (m->rows - 1) / (count - 1) : 0;
        const struct row row = row_of(data, i);
        DG_TRY(reference(data, oracle, i, logits));
        for (int64_t j = row.first; j < row.last; j++) {
            const double got = logit(data, i * m->columns + j);
            xy += got * logits[j];
            xx += got * got + logits[j] * logits[j];
        }
    }
    check->rows = count;
    check->difference = xx > 0 ? 1 - 2 * xy / xx : 0;
    if (!(check->difference <= check->limit))
        snprintf(check->failure, sizeof check->failure,
                 "the scores differ from the oracle's by %.3g, %.3g is allowed", check->difference,
                 check->limit);
    return DG_OK;
}

dg_status cli_mqa_compare(const struct cli_mqa_data *data, dg_context *oracle, double max_products,
                          struct cli_mqa_check *check)
{
    const struct cli_mqa *m = &data->mqa;
    const double all = 0.5 * cli_mqa_operations(data);
    const double share = all > 0 ? max_products / all * (double)m->rows : (double)m->rows;
    const int64_t count = share < 1 ? 1 : share < (double)m->rows ? (int64_t)share : m->rows;
    *check = (struct cli_mqa_check){.limit = m->logits_type == DG_BF16 ? 3e-5 : 5e-6};
    check_writes(data, check);
    if (check->failure[0])
        return DG_OK;
    double *logits = malloc((size_t)m->columns * sizeof *logits);
    const dg_status status = logits ? compare_rows(data, oracle, count, logits, check)
                                    : dg_fail(DG_OUT_OF_MEMORY, "no memory for a row of sums");
    free(logits);
    return status;
}
