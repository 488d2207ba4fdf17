// SPDX-License-Identifier: MIT
// mqa_data.c - random operands for MQA logits, their copies on a device, and the call.
#include "mqa.h"

#include <stdlib.h>
#include <string.h>

enum { PANEL_ROWS = 1 << 16 }; // FP32 rows that exist at a time

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static int64_t max_pages(const struct cli_mqa *mqa)
{
    return (mqa->columns + mqa->page_size - 1) / mqa->page_size;
}

static int64_t page_bytes(const struct cli_mqa *mqa)
{
    return mqa->page_size * (mqa->depth + 4);
}

// ---- sizes --------------------------------------------------------------------------------------

static void size_buffers(struct cli_mqa_data *data)
{
    const struct cli_mqa *m = &data->mqa;
    const int64_t pages = m->is_paged ? m->batch * max_pages(m) : 0;
    const int64_t bytes[CLI_MQA_BUFFERS] = {
        [CLI_MQA_Q] = m->rows * m->heads * m->depth,
        [CLI_MQA_KV] = m->is_paged ? pages * page_bytes(m) : m->num_kv * m->depth,
        [CLI_MQA_SCALES] = m->is_paged ? 0 : m->num_kv * 4,
        [CLI_MQA_WEIGHTS] = m->rows * m->heads * (int64_t)dg_type_bytes(m->weights_type),
        [CLI_MQA_STARTS] = m->rows * 4,
        [CLI_MQA_ENDS] = m->is_paged ? pages * 4 : m->rows * 4,
        [CLI_MQA_SCHEDULE] = m->is_paged && data->num_sms ? (data->num_sms + 1) * (int64_t)8 : 0,
        [CLI_MQA_LOGITS] = m->rows * m->columns * (int64_t)dg_type_bytes(m->logits_type),
    };
    for (int i = 0; i < CLI_MQA_BUFFERS; i++)
        data->bytes[i] = (size_t)bytes[i];
}

static size_t buffer_bytes(const struct cli_mqa_data *data, int i)
{
    return data->bytes[i] + (i == CLI_MQA_LOGITS ? 2 * CLI_GUARD_BYTES : 0);
}

// ---- values -------------------------------------------------------------------------------------

// Rows of normal values, quantised with a scale each.
static dg_status quantise(dg_context *cpu, float *panel, int64_t rows, int64_t first_row,
                          int64_t depth, uint64_t seed, uint8_t *codes, float *scales)
{
    cli_random_rows(panel, rows, depth, first_row, seed);
    const struct dg_tensor x = dg_matrix(panel, DG_F32, rows, depth);
    const struct dg_tensor q = dg_matrix(codes, DG_E4M3, rows, depth);
    const struct dg_tensor s = dg_matrix(scales, DG_F32, rows, 1);
    return dg_quantize_per_token(cpu, &x, &q, &s, DG_SCALE_EXACT, NULL);
}

static dg_status make_rows(dg_context *cpu, float *panel, int64_t rows, int64_t depth,
                           uint64_t seed, uint8_t *codes, float *scales)
{
    for (int64_t first = 0; first < rows; first += PANEL_ROWS) {
        const int64_t count = rows - first < PANEL_ROWS ? rows - first : PANEL_ROWS;
        // The queries' scales are not used: they go behind the panel's rows.
        DG_TRY(quantise(cpu, panel, count, first, depth, seed, codes + first * depth,
                        scales ? scales + first : panel + PANEL_ROWS * depth));
    }
    return DG_OK;
}

static dg_status make_pages(struct cli_mqa_data *data, dg_context *cpu, float *panel)
{
    const struct cli_mqa *m = &data->mqa;
    uint8_t *page = data->buffer[CLI_MQA_KV];
    for (int64_t i = 0; i < m->batch * max_pages(m); i++, page += page_bytes(m))
        DG_TRY(quantise(cpu, panel, m->page_size, i * m->page_size, m->depth, data->seed + 1, page,
                        (float *)(void *)(page + m->page_size * m->depth)));
    return DG_OK;
}

static void make_weights(struct cli_mqa_data *data, float *panel)
{
    const struct cli_mqa *m = &data->mqa;
    for (int64_t row = 0; row < m->rows; row++) {
        cli_random_rows(panel, 1, m->heads, row, data->seed + 2);
        for (int64_t h = 0; h < m->heads; h++) {
            const int64_t at = row * m->heads + h;
            uint32_t bits;
            memcpy(&bits, panel + h, sizeof bits);
            if (m->weights_type == DG_BF16)
                ((uint16_t *)data->buffer[CLI_MQA_WEIGHTS])[at] = (uint16_t)(bits >> 16);
            else
                ((float *)data->buffer[CLI_MQA_WEIGHTS])[at] = panel[h];
        }
    }
}

// ---- ranges, lengths, tables --------------------------------------------------------------------

enum { RAGGED_SEQUENCES = 16 };

// Ragged: the rows belong to sequences whose keys stand in a row; each has part of its share.
static void make_ranges(struct cli_mqa_data *data)
{
    const struct cli_mqa *m = &data->mqa;
    int32_t *starts = data->buffer[CLI_MQA_STARTS], *ends = data->buffer[CLI_MQA_ENDS];
    const int64_t share = m->num_kv / RAGGED_SEQUENCES;
    for (int64_t i = 0; i < m->rows; i++) {
        const int64_t sequence = i * RAGGED_SEQUENCES / m->rows;
        int64_t start = 0, end = m->num_kv;
        if (m->ranges == CLI_MQA_CAUSAL)
            end = m->num_kv - m->rows + i > 0 ? m->num_kv - m->rows + i : 0;
        if (m->ranges == CLI_MQA_RAGGED) {
            start = sequence * share;
            end = start + share * (sequence % 4 + 1) / 4;
        }
        starts[i] = (int32_t)start;
        ends[i] = (int32_t)end;
        const int64_t count = m->width && end - start > m->width ? m->width : end - start;
        data->num_scores += count;
    }
}

static void make_table(struct cli_mqa_data *data)
{
    const struct cli_mqa *m = &data->mqa;
    uint64_t state = data->seed;
    int32_t *lengths = data->buffer[CLI_MQA_STARTS], *table = data->buffer[CLI_MQA_ENDS];
    const int64_t pages = m->batch * max_pages(m);
    for (int64_t b = 0; b < m->batch; b++) {
        int64_t length = m->length < m->columns ? m->length : m->columns;
        if (m->ranges == CLI_MQA_RAGGED)
            length = (int64_t)(next_random(&state) % (uint64_t)(length + 1));
        for (int64_t t = 0; t < m->next_n; t++)
            lengths[b * m->next_n + t] = (int32_t)length;
        data->num_scores += m->next_n * length;
    }
    for (int64_t i = 0; i < pages; i++)
        table[i] = (int32_t)i;
    for (int64_t i = pages - 1; i > 0; i--) {
        const int64_t other = (int64_t)(next_random(&state) % (uint64_t)(i + 1));
        const int32_t page = table[i];
        table[i] = table[other];
        table[other] = page;
    }
}

// ---- data ---------------------------------------------------------------------------------------

static dg_status fill(struct cli_mqa_data *data, dg_context *cpu, float *panel)
{
    const struct cli_mqa *m = &data->mqa;
    DG_TRY(make_rows(cpu, panel, m->rows * m->heads, m->depth, data->seed, data->buffer[CLI_MQA_Q],
                     NULL));
    if (m->is_paged)
        DG_TRY(make_pages(data, cpu, panel));
    else
        DG_TRY(make_rows(cpu, panel, m->num_kv, m->depth, data->seed + 1, data->buffer[CLI_MQA_KV],
                         data->buffer[CLI_MQA_SCALES]));
    make_weights(data, panel);
    (m->is_paged ? make_table : make_ranges)(data);
    memset(data->buffer[CLI_MQA_LOGITS], CLI_POISON, buffer_bytes(data, CLI_MQA_LOGITS));
    return DG_OK;
}

dg_status cli_mqa_data_create(struct cli_mqa_data *data, const struct cli_mqa *mqa, uint64_t seed,
                              int32_t num_sms, dg_context *cpu)
{
    *data = (struct cli_mqa_data){.mqa = *mqa, .seed = seed, .num_sms = num_sms};
    size_buffers(data);
    const size_t panel_bytes = (size_t)PANEL_ROWS * (size_t)(mqa->depth + 1) * sizeof(float);
    float *panel =
        malloc(panel_bytes > (size_t)mqa->heads * 4 ? panel_bytes : (size_t)mqa->heads * 4);
    bool is_allocated = panel;
    for (int i = 0; i < CLI_MQA_BUFFERS && is_allocated; i++)
        if (buffer_bytes(data, i)) {
            data->buffer[i] = malloc(buffer_bytes(data, i));
            is_allocated = data->buffer[i];
        }
    const dg_status status = is_allocated ? fill(data, cpu, panel)
                                          : dg_fail(DG_OUT_OF_MEMORY, "no memory for the operands");
    free(panel);
    if (status != DG_OK)
        cli_mqa_data_free(data);
    return status;
}

void cli_mqa_data_free(struct cli_mqa_data *data)
{
    for (int i = 0; i < CLI_MQA_BUFFERS; i++)
        free(data->buffer[i]);
    memset(data->buffer, 0, sizeof data->buffer);
}

void cli_mqa_data_base(const struct cli_mqa_data *data, void *base[CLI_MQA_BUFFERS])
{
    memcpy(base, data->buffer, sizeof data->buffer);
    base[CLI_MQA_LOGITS] = (char *)base[CLI_MQA_LOGITS] + CLI_GUARD_BYTES;
}

double cli_mqa_operations(const struct cli_mqa_data *data)
{
    return 2.0 * (double)data->num_scores * (double)(data->mqa.heads * data->mqa.depth);
}

double cli_mqa_bytes(const struct cli_mqa_data *data)
{
    const struct cli_mqa *m = &data->mqa;
    const double scores = (double)data->num_scores;
    const double keys = m->is_paged
                            ? scores / (double)m->next_n * (double)(m->depth + 4)
                            : (double)(data->bytes[CLI_MQA_KV] + data->bytes[CLI_MQA_SCALES]);
    return keys + (double)(data->bytes[CLI_MQA_Q] + data->bytes[CLI_MQA_WEIGHTS]) +
           scores * (double)dg_type_bytes(m->logits_type);
}

// ---- the call -----------------------------------------------------------------------------------

static struct dg_tensor tensor(void *data, dg_type type, int rank, int64_t s0, int64_t s1,
                               int64_t s2, int64_t s3)
{
    struct dg_tensor t = {data, type, rank, {s0, s1, s2, s3}, {0}};
    for (int64_t i = rank - 1, stride = 1; i >= 0; i--) {
        t.stride[i] = stride;
        stride *= t.shape[i];
    }
    return t;
}

static dg_status call_plain(dg_context *context, const struct cli_mqa *m,
                            void *const base[CLI_MQA_BUFFERS], const struct dg_mqa_options *options,
                            void *stream)
{
    const struct dg_tensor q = tensor(base[CLI_MQA_Q], DG_E4M3, 3, m->rows, m->heads, m->depth, 0);
    const struct dg_tensor kv = dg_matrix(base[CLI_MQA_KV], DG_E4M3, m->num_kv, m->depth);
    const struct dg_tensor scales = tensor(base[CLI_MQA_SCALES], DG_F32, 1, m->num_kv, 0, 0, 0);
    const struct dg_tensor weights =
        dg_matrix(base[CLI_MQA_WEIGHTS], m->weights_type, m->rows, m->heads);
    const struct dg_tensor starts = tensor(base[CLI_MQA_STARTS], DG_I32, 1, m->rows, 0, 0, 0);
    const struct dg_tensor ends = tensor(base[CLI_MQA_ENDS], DG_I32, 1, m->rows, 0, 0, 0);
    const struct dg_tensor logits =
        dg_matrix(base[CLI_MQA_LOGITS], m->logits_type, m->rows, m->columns);
    return dg_fp8_mqa_logits(context, &q, &kv, &scales, &weights, &starts, &ends, &logits, options,
                             stream);
}

static struct dg_tensor lengths_of(const struct cli_mqa *m, void *const base[CLI_MQA_BUFFERS])
{
    return tensor(base[CLI_MQA_STARTS], DG_I32, 2, m->batch, m->next_n, 0, 0);
}

static dg_status call_paged(dg_context *context, const struct cli_mqa_data *data,
                            void *const base[CLI_MQA_BUFFERS], const struct dg_mqa_options *options,
                            void *stream)
{
    const struct cli_mqa *m = &data->mqa;
    const int64_t pages = (int64_t)data->bytes[CLI_MQA_KV] / page_bytes(m);
    const struct dg_tensor q =
        tensor(base[CLI_MQA_Q], DG_E4M3, 4, m->batch, m->next_n, m->heads, m->depth);
    const struct dg_tensor cache =
        tensor(base[CLI_MQA_KV], DG_E4M3, 4, pages, m->page_size, 1, m->depth + 4);
    const struct dg_tensor weights =
        dg_matrix(base[CLI_MQA_WEIGHTS], m->weights_type, m->rows, m->heads);
    const struct dg_tensor lengths = lengths_of(m, base);
    const struct dg_tensor table = dg_matrix(base[CLI_MQA_ENDS], DG_I32, m->batch, max_pages(m));
    const struct dg_tensor schedule =
        dg_matrix(base[CLI_MQA_SCHEDULE], DG_I32, data->num_sms + 1, 2);
    const struct dg_tensor logits =
        dg_matrix(base[CLI_MQA_LOGITS], m->logits_type, m->rows, m->columns);
    return dg_fp8_paged_mqa_logits(context, &q, &cache, &weights, &lengths, &table,
                                   data->num_sms ? &schedule : NULL, &logits, options, stream);
}

dg_status cli_mqa_schedule(dg_context *context, const struct cli_mqa_data *data,
                           void *const base[CLI_MQA_BUFFERS], void *stream)
{
    const struct dg_tensor schedule =
        dg_matrix(base[CLI_MQA_SCHEDULE], DG_I32, data->num_sms + 1, 2);
    if (!data->mqa.is_paged || !data->num_sms)
        return DG_OK;
    const struct dg_tensor lengths = lengths_of(&data->mqa, base);
    return dg_paged_mqa_logits_metadata(context, &lengths, &schedule, stream);
}

dg_status cli_mqa_call(dg_context *context, const struct cli_mqa_data *data,
                       void *const base[CLI_MQA_BUFFERS], void *stream)
{
    struct dg_mqa_options options = DG_MQA_OPTIONS;
    options.flags = data->mqa.flags;
    return data->mqa.is_paged ? call_paged(context, data, base, &options, stream)
                              : call_plain(context, &data->mqa, base, &options, stream);
}

// ---- on a device --------------------------------------------------------------------------------

static dg_status upload(const struct cli_gpu *gpu, const struct cli_mqa_data *data,
                        struct cli_mqa_copy *copy)
{
    *copy = (struct cli_mqa_copy){.buffer = {0}};
    for (int i = 0; i < CLI_MQA_BUFFERS; i++) {
        const size_t bytes = buffer_bytes(data, i);
        if (!bytes)
            continue;
        DG_CUDA_TRY(gpu->cuda->cuMemAlloc(&copy->buffer[i], bytes), "allocating %zu bytes", bytes);
        DG_CUDA_TRY(gpu->cuda->cuMemcpyHtoD(copy->buffer[i], data->buffer[i], bytes),
                    "copying to the device");
        copy->base[i] =
            (void *)(uintptr_t)(copy->buffer[i] + (i == CLI_MQA_LOGITS ? CLI_GUARD_BYTES : 0));
    }
    return DG_OK;
}

dg_status cli_mqa_upload(const struct cli_gpu *gpu, const struct cli_mqa_data *data,
                         struct cli_mqa_copy *copy)
{
    const dg_status status = upload(gpu, data, copy);
    if (status != DG_OK)
        cli_mqa_copy_free(gpu, copy);
    return status;
}

void cli_mqa_copy_free(const struct cli_gpu *gpu, struct cli_mqa_copy *copy)
{
    for (int i = 0; i < CLI_MQA_BUFFERS; i++)
        if (copy->buffer[i])
            gpu->cuda->cuMemFree(copy->buffer[i]);
    *copy = (struct cli_mqa_copy){.buffer = {0}};
}

dg_status cli_mqa_fetch(const struct cli_gpu *gpu, struct cli_mqa_data *data,
                        const struct cli_mqa_copy *copy)
{
    DG_CUDA_TRY(gpu->cuda->cuStreamSynchronize(gpu->stream), "waiting for the device");
    DG_CUDA_TRY(gpu->cuda->cuMemcpyDtoH(data->buffer[CLI_MQA_LOGITS], copy->buffer[CLI_MQA_LOGITS],
                                        buffer_bytes(data, CLI_MQA_LOGITS)),
                "copying logits from the device");
    return DG_OK;
}
