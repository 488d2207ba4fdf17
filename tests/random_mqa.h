// SPDX-License-Identifier: MIT
// random_mqa.h - MQA logits on random data, plain and paged, for tests of any backend.
//
//     struct random_mqa r;
//     random_mqa_draw(&r, seed);                           // or fill in the first members by hand
//     random_mqa_make(&r);                                 // host buffers between guard bands
//     random_mqa_host(&r, base);                           // their addresses, or those of copies
//     dg_status status = random_mqa_call(&r, context, base, NULL);
//     const char *wrong = random_mqa_wrong(&r, &figures);  // against sums in double; NULL: all is right
//     random_mqa_free(&r);
//
// Everything follows from the seed.  Guards, gaps and logits before the call are 0xff, which is NaN, and
// so are pages that no table names: a stray read, a stray write and a missing write all show.
#ifndef DG_TESTS_RANDOM_MQA_H
#define DG_TESTS_RANDOM_MQA_H

#include "random_problem.h"

enum mqa_buffer {
    MQA_Q,
    MQA_KV,
    MQA_SCALES,
    MQA_WEIGHTS,
    MQA_STARTS, // lengths of the paged form
    MQA_ENDS,   // its block table
    MQA_SCHEDULE,
    MQA_LOGITS,
    MQA_BUFFERS
};

enum mqa_ranges { MQA_CAUSAL, MQA_RANDOM, MQA_WILD, MQA_EMPTY, MQA_RANGE_STYLES };

struct random_mqa {
    // What to compute.
    int is_paged, heads, depth;
    int64_t rows, columns; // of logits; rows = batch * next_n
    int64_t num_kv;        // plain
    int batch, next_n, page_size, lengths_per_row, num_workers;
    enum mqa_ranges ranges;
    uint32_t flags;
    dg_type weights_type, logits_type;
    int64_t q_gap, weights_gap, logits_gap, page_gap, table_gap; // elements behind each row
    uint64_t seed;
    // What was made of it.
    uint64_t state;
    bool has_odd_weights; // then a few rows may outweigh all others in mqa_figures.difference
    int64_t max_pages, num_pages;
    struct random_buffer buffer[MQA_BUFFERS];
    char line[256];
};

struct mqa_figures {
    double difference; // 1 - 2 xy / (xx + yy) of logits and reference
    double of_terms;   // largest error over the sum of the magnitudes that were added
    int64_t compared;
};

static inline int random_pick(uint64_t *state, const int *list, int count)
{
    return list[random_next(state) % (uint64_t)count];
}

// ---- which problem ----

static inline void random_mqa_draw(struct random_mqa *r, uint64_t seed)
{
    static const int heads[] = {1, 2, 3, 5, 8, 16, 17, 32, 33, 48, 64, 64, 96, 128};
    static const int depths[] = {32, 64, 128, 128, 16, 48, 96}, pages[] = {16, 32, 64, 128};
    memset(r, 0, sizeof *r);
    r->seed = seed;
    uint64_t *state = &r->state;
    *state = seed * 2 + 1;
    r->is_paged = random_next(state) % 2 != 0;
    r->heads = random_pick(state, heads, sizeof heads / sizeof *heads);
    r->depth = random_pick(state, depths, sizeof depths / sizeof *depths);
    r->ranges = (enum mqa_ranges)(random_next(state) % MQA_RANGE_STYLES);
    r->flags = random_next(state) % 2 ? DG_MQA_CLEAN : 0;
    r->weights_type = random_next(state) % 2 ? DG_F32 : DG_BF16;
    r->logits_type = random_next(state) % 2 ? DG_F32 : DG_BF16;
    r->q_gap = random_range(state, 0, 2) * 16;
    r->weights_gap = random_range(state, 0, 3);
    r->logits_gap = random_range(state, 0, 9);
    r->page_gap = random_range(state, 0, 2) * 16;
    r->table_gap = random_range(state, 0, 3);
    r->num_kv = random_size(state, 900);
    r->rows = random_size(state, 40);
    r->columns = r->num_kv;
    if (!r->is_paged && random_next(state) % 3 == 0) {
        r->flags |= DG_MQA_COMPRESSED;
        r->columns = random_size(state, 900);
    }
    r->batch = (int)random_range(state, 1, 9);
    r->next_n = (int)random_range(state, 1, 5);
    r->page_size = random_pick(state, pages, 4);
    r->lengths_per_row = random_next(state) % 2 != 0;
    r->num_workers = (int)random_range(state, 1, 140);
    if (r->is_paged)
        r->rows = (int64_t)r->batch * r->next_n;
}

// ---- its data ----

static inline void mqa_fill_codes(struct random_mqa *r, uint8_t *codes, int64_t count, int style)
{
    for (int64_t i = 0; i < count; i++)
        codes[i] = random_code(&r->state, style);
}

static inline float mqa_float(uint64_t *state, int low, int high)
{
    const float fraction = 1 + (float)(random_next(state) >> 41) * 0x1p-23f;
    return ldexpf(fraction, (int)random_range(state, low, high));
}

// How the weights of a row differ from ordinary ones: by a power of two, all zero, one far above the others.
static inline float mqa_odd_weight(float value, uint64_t style, int64_t head)
{
    switch (style) {
    case 1:
        return value * 0x1p90f;
    case 2:
        return value * 0x1p-90f;
    case 3:
        return 0;
    case 4:
        return head == 3 ? value * 0x1p12f : value;
    default:
        return value;
    }
}

static inline void mqa_make_weights(struct random_mqa *r)
{
    const int64_t stride = r->heads + r->weights_gap;
    r->has_odd_weights = random_next(&r->state) % 4 == 0;
    random_allocate(&r->buffer[MQA_WEIGHTS], dg_type_bytes(r->weights_type), r->rows, r->heads,
                    stride, 1, 0);
    for (int64_t i = 0; i < r->rows; i++) {
        const uint64_t style = r->has_odd_weights ? random_next(&r->state) % 6 : 0;
        for (int64_t h = 0; h < r->heads; h++) {
            const float sign = random_next(&r->state) % 4 ? 1.0f : -1.0f;
            const float value = mqa_odd_weight(mqa_float(&r->state, -5, 1) * sign, style, h);
            void *data = random_data(&r->buffer[MQA_WEIGHTS]);
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            if (r->weights_type == DG_BF16)
                ((uint16_t *)data)[i * stride + h] = (uint16_t)(bits >> 16);
            else
                ((float *)data)[i * stride + h] = value;
        }
    }
}

// [starts, ends) of the plain form.
static inline void mqa_make_ranges(struct random_mqa *r)
{
    random_allocate(&r->buffer[MQA_STARTS], 4, r->rows, 1, 1, 1, 0);
    random_allocate(&r->buffer[MQA_ENDS], 4, r->rows, 1, 1, 1, 0);
    int32_t *starts = (int32_t *)random_data(&r->buffer[MQA_STARTS]);
    int32_t *ends = (int32_t *)random_data(&r->buffer[MQA_ENDS]);
    const int64_t num_kv = r->num_kv;
    for (int64_t i = 0; i < r->rows; i++) {
        switch (r->ranges) {
        case MQA_CAUSAL:
            starts[i] = 0;
            ends[i] = (int32_t)(num_kv - r->rows + i + 1 < 0 ? 0 : num_kv - r->rows + i + 1);
            break;
        case MQA_RANDOM:
            starts[i] = (int32_t)random_range(&r->state, 0, num_kv);
            ends[i] = (int32_t)random_range(&r->state, starts[i], num_kv);
            break;
        case MQA_EMPTY:
            starts[i] = (int32_t)random_range(&r->state, 0, num_kv + 5);
            ends[i] = starts[i] - (int32_t)random_range(&r->state, 0, 3);
            break;
        default: // whatever there is
            starts[i] = random_next(&r->state) % 5   ? (int32_t)random_range(&r->state, 0, num_kv)
                        : random_next(&r->state) % 2 ? -7
                                                     : INT32_MIN;
            ends[i] = random_next(&r->state) % 5 ? (int32_t)random_range(&r->state, -3, 2 * num_kv)
                                                 : INT32_MAX;
        }
    }
}

static inline int64_t mqa_page_bytes(const struct random_mqa *r)
{
    return (int64_t)r->page_size * (r->depth + 4);
}

// Positions that lengths[i] may have.
static inline int32_t mqa_draw_length(struct random_mqa *r)
{
    const int64_t room = r->max_pages * r->page_size;
    if (r->ranges == MQA_EMPTY)
        return 0;
    if (r->ranges == MQA_WILD && random_next(&r->state) % 4 == 0)
        return random_next(&r->state) % 2 ? -3 : (int32_t)(room + 1000);
    if (r->ranges == MQA_CAUSAL)
        return (int32_t)room;
    return (int32_t)random_range(&r->state, 0, room);
}

// Every page that the table names is one of its own; as many again are named by nobody.
static inline void mqa_make_tables(struct random_mqa *r)
{
    const int64_t per_row = r->lengths_per_row ? r->next_n : 1;
    r->max_pages = (r->columns + r->page_size - 1) / r->page_size;
    r->num_pages = 2 * r->batch * r->max_pages;
    random_allocate(&r->buffer[MQA_STARTS], 4, r->batch, per_row, per_row, 1, 0);
    const int64_t stride = r->max_pages + r->table_gap;
    random_allocate(&r->buffer[MQA_ENDS], 4, r->batch, r->max_pages, stride, 1, 0);
    random_allocate(&r->buffer[MQA_SCHEDULE], 4, r->num_workers + 1, 2, 2, 1, 0);
    int32_t *lengths = (int32_t *)random_data(&r->buffer[MQA_STARTS]);
    int32_t *table = (int32_t *)random_data(&r->buffer[MQA_ENDS]);
    const int64_t step = r->num_pages - 1; // coprime with the number of pages
    int64_t page = random_range(&r->state, 0, r->num_pages - 1);
    for (int64_t b = 0; b < r->batch; b++) {
        for (int64_t t = 0; t < per_row; t++)
            lengths[b * per_row + t] = mqa_draw_length(r);
        for (int64_t i = 0; i < r->max_pages; i++) {
            page = (page + step) % r->num_pages;
            table[b * stride + i] = (int32_t)page;
        }
    }
}

static inline void mqa_make_pages(struct random_mqa *r)
{
    const int64_t stride = mqa_page_bytes(r) + r->page_gap,
                  table_stride = r->max_pages + r->table_gap;
    random_allocate(&r->buffer[MQA_KV], 1, r->num_pages, mqa_page_bytes(r), stride, 1, 0);
    const int32_t *table = (const int32_t *)random_data(&r->buffer[MQA_ENDS]);
    const int style = (int)(random_next(&r->state) % 3);
    for (int64_t i = 0; i < r->batch * r->max_pages; i++) {
        const int64_t id = table[i / r->max_pages * table_stride + i % r->max_pages];
        uint8_t *page = (uint8_t *)random_data(&r->buffer[MQA_KV]) + id * stride;
        mqa_fill_codes(r, page, (int64_t)r->page_size * r->depth, style);
        for (int t = 0; t < r->page_size; t++) {
            const float scale = mqa_float(&r->state, -10, -2);
            memcpy(page + (int64_t)r->page_size * r->depth + 4 * (int64_t)t, &scale, 4);
        }
    }
}

static inline void mqa_make_plain(struct random_mqa *r)
{
    random_allocate(&r->buffer[MQA_KV], 1, r->num_kv, r->depth, r->depth, 1, 0);
    mqa_fill_codes(r, (uint8_t *)random_data(&r->buffer[MQA_KV]), r->num_kv * r->depth,
                   (int)(random_next(&r->state) % 3));
    random_allocate(&r->buffer[MQA_SCALES], 4, r->num_kv, 1, 1, 1, 0);
    for (int64_t i = 0; i < r->num_kv; i++)
        ((float *)random_data(&r->buffer[MQA_SCALES]))[i] = mqa_float(&r->state, -10, -2);
    mqa_make_ranges(r);
}

static inline void random_mqa_make(struct random_mqa *r)
{
    const int64_t q_stride = (int64_t)r->heads * r->depth + r->q_gap;
    memset(r->buffer, 0, sizeof r->buffer);
    random_allocate(&r->buffer[MQA_Q], 1, r->rows, (int64_t)r->heads * r->depth, q_stride, 1, 0);
    const int style = (int)(random_next(&r->state) % 3);
    for (int64_t i = 0; i < r->rows; i++)
        mqa_fill_codes(r, (uint8_t *)random_data(&r->buffer[MQA_Q]) + i * q_stride,
                       (int64_t)r->heads * r->depth, style);
    mqa_make_weights(r);
    if (r->is_paged) {
        mqa_make_tables(r);
        mqa_make_pages(r);
    } else {
        mqa_make_plain(r);
    }
    random_allocate(&r->buffer[MQA_LOGITS], dg_type_bytes(r->logits_type), r->rows, r->columns,
                    r->columns + r->logits_gap, 1, 0);
    for (int i = 0; i < MQA_BUFFERS; i++)
        if (r->buffer[i].memory)
            r->buffer[i].checksum = random_checksum(&r->buffer[i]);
    snprintf(r->line, sizeof r->line,
             "seed %llu: %s h=%d d=%d rows=%lld columns=%lld skv=%lld batch=%d next_n=%d page=%d "
             "flags=%u ranges=%d weights=%s out=%s",
             (unsigned long long)r->seed, r->is_paged ? "paged" : "plain", r->heads, r->depth,
             (long long)r->rows, (long long)r->columns, (long long)r->num_kv, r->batch, r->next_n,
             r->page_size, (unsigned)r->flags, (int)r->ranges, dg_type_name(r->weights_type),
             dg_type_name(r->logits_type));
}

static inline void random_mqa_free(struct random_mqa *r)
{
    for (int i = 0; i < MQA_BUFFERS; i++)
        free(r->buffer[i].memory);
    memset(r->buffer, 0, sizeof r->buffer);
}

static inline void random_mqa_poison_logits(struct random_mqa *r)
{
    const struct random_buffer *logits = &r->buffer[MQA_LOGITS];
    memset(logits->memory, RANDOM_POISON, RANDOM_PROBLEM_TOTAL(*logits));
}

// ---- the call ----

static inline void random_mqa_host(const struct random_mqa *r, void *base[MQA_BUFFERS])
{
    for (int i = 0; i < MQA_BUFFERS; i++)
        base[i] = r->buffer[i].memory ? random_data(&r->buffer[i]) : NULL;
}

static inline struct dg_tensor mqa_tensor(void *data, dg_type type, int rank, int64_t s0,
                                          int64_t s1, int64_t s2, int64_t s3)
{
    struct dg_tensor t = {data, type, rank, {s0, s1, s2, s3}, {0, 0, 0, 0}};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        t.stride[i] = stride;
        stride *= t.shape[i];
    }
    return t;
}

static inline dg_status mqa_call_plain(const struct random_mqa *r, dg_context *context,
                                       void *const base[MQA_BUFFERS], void *stream)
{
    struct dg_mqa_options options = DG_MQA_OPTIONS;
    options.flags = r->flags;
    struct dg_tensor q = mqa_tensor(base[MQA_Q], DG_E4M3, 3, r->rows, r->heads, r->depth, 0);
    q.stride[0] += r->q_gap;
    const struct dg_tensor kv = dg_matrix(base[MQA_KV], DG_E4M3, r->num_kv, r->depth);
    const struct dg_tensor scales = mqa_tensor(base[MQA_SCALES], DG_F32, 1, r->num_kv, 0, 0, 0);
    const struct dg_tensor weights = dg_matrix_strided(base[MQA_WEIGHTS], r->weights_type, r->rows,
                                                       r->heads, r->heads + r->weights_gap);
    const struct dg_tensor starts = mqa_tensor(base[MQA_STARTS], DG_I32, 1, r->rows, 0, 0, 0);
    const struct dg_tensor ends = mqa_tensor(base[MQA_ENDS], DG_I32, 1, r->rows, 0, 0, 0);
    const struct dg_tensor logits = dg_matrix_strided(base[MQA_LOGITS], r->logits_type, r->rows,
                                                      r->columns, r->columns + r->logits_gap);
    return dg_fp8_mqa_logits(context, &q, &kv, &scales, &weights, &starts, &ends, &logits, &options,
                             stream);
}

static inline struct dg_tensor mqa_lengths(const struct random_mqa *r, void *data)
{
    return mqa_tensor(data, DG_I32, r->lengths_per_row ? 2 : 1, r->batch, r->next_n, 0, 0);
}

static inline struct dg_tensor mqa_schedule(const struct random_mqa *r, void *data)
{
    return dg_matrix(data, DG_I32, r->num_workers + 1, 2);
}

// `schedule`: NULL for a call without one.
static inline dg_status mqa_call_paged(const struct random_mqa *r, dg_context *context,
                                       void *const base[MQA_BUFFERS],
                                       const struct dg_tensor *schedule, void *stream)
{
    struct dg_mqa_options options = DG_MQA_OPTIONS;
    options.flags = r->flags;
    struct dg_tensor q =
        mqa_tensor(base[MQA_Q], DG_E4M3, 4, r->batch, r->next_n, r->heads, r->depth);
    q.stride[1] += r->q_gap;
    q.stride[0] = r->next_n * q.stride[1];
    struct dg_tensor cache =
        mqa_tensor(base[MQA_KV], DG_E4M3, 4, r->num_pages, r->page_size, 1, r->depth + 4);
    cache.stride[0] += r->page_gap;
    const struct dg_tensor weights = dg_matrix_strided(base[MQA_WEIGHTS], r->weights_type, r->rows,
                                                       r->heads, r->heads + r->weights_gap);
    const struct dg_tensor lengths = mqa_lengths(r, base[MQA_STARTS]);
    const struct dg_tensor table = dg_matrix_strided(base[MQA_ENDS], DG_I32, r->batch, r->max_pages,
                                                     r->max_pages + r->table_gap);
    const struct dg_tensor logits = dg_matrix_strided(base[MQA_LOGITS], r->logits_type, r->rows,
                                                      r->columns, r->columns + r->logits_gap);
    return dg_fp8_paged_mqa_logits(context, &q, &cache, &weights, &lengths, &table, schedule,
                                   &logits, &options, stream);
}

// The paged form makes its schedule first.
static inline dg_status random_mqa_call(const struct random_mqa *r, dg_context *context,
                                        void *const base[MQA_BUFFERS], void *stream)
{
    if (!r->is_paged)
        return mqa_call_plain(r, context, base, stream);
    const struct dg_tensor lengths = mqa_lengths(r, base[MQA_STARTS]);
    const struct dg_tensor schedule = mqa_schedule(r, base[MQA_SCHEDULE]);
    const dg_status status = dg_paged_mqa_logits_metadata(context, &lengths, &schedule, stream);
    return status ? status : mqa_call_paged(r, context, base, &schedule, stream);
}

// ---- the reference ----

// Columns [*first, *last) of a row are scores; column c is position c + *shift.
static inline void mqa_columns(const struct random_mqa *r, int64_t row, int64_t *first,
                               int64_t *last, int64_t *shift)
{
    const int32_t *starts = (const int32_t *)random_data(&r->buffer[MQA_STARTS]);
    const int32_t *ends = (const int32_t *)random_data(&r->buffer[MQA_ENDS]);
    const bool is_clean = (r->flags & DG_MQA_CLEAN) != 0;
    int64_t start = 0, end;
    *shift = 0;
    if (r->is_paged) {
        const int64_t room = r->max_pages * r->page_size, t = row % r->next_n;
        end = r->lengths_per_row ? starts[row]
              : is_clean         ? starts[row / r->next_n] - r->next_n + t + 1
                                 : (int64_t)starts[row / r->next_n];
        end = end < room ? end : room;
    } else {
        start = starts[row] > 0 ? starts[row] : 0;
        end = ends[row] < r->num_kv ? ends[row] : r->num_kv;
        if (r->flags & DG_MQA_COMPRESSED && end > start)
            *shift = start, end -= start, start = 0;
    }
    *first = start;
    *last = end < r->columns ? end : r->columns;
    if (*last <= *first)
        *first = *last = 0;
}

static inline double mqa_weight(const struct random_mqa *r, int64_t row, int64_t head)
{
    const int64_t at = row * (r->heads + r->weights_gap) + head;
    const void *data = random_data(&r->buffer[MQA_WEIGHTS]);
    return r->weights_type == DG_BF16 ? (double)random_bf16(((const uint16_t *)data)[at])
                                      : (double)((const float *)data)[at];
}

static inline double mqa_score(const struct random_mqa *r, int64_t row, int64_t position,
                               double *terms)
{
    static _Thread_local double table[256];
    if (table[0x38] == 0)
        for (int i = 0; i < 256; i++)
            table[i] = random_value((uint8_t)i);
    const uint8_t *q = (const uint8_t *)random_data(&r->buffer[MQA_Q]) +
                       row * ((int64_t)r->heads * r->depth + r->q_gap);
    const uint8_t *key = (const uint8_t *)random_data(&r->buffer[MQA_KV]);
    float scale;
    if (r->is_paged) {
        const int32_t *tables = (const int32_t *)random_data(&r->buffer[MQA_ENDS]);
        const int64_t id =
            tables[row / r->next_n * (r->max_pages + r->table_gap) + position / r->page_size];
        const int64_t inside = position % r->page_size;
        key += id * (mqa_page_bytes(r) + r->page_gap);
        memcpy(&scale, key + (int64_t)r->page_size * r->depth + 4 * inside, 4);
        key += inside * r->depth;
    } else {
        key += position * r->depth;
        scale = ((const float *)random_data(&r->buffer[MQA_SCALES]))[position];
    }
    double sum = 0;
    *terms = 0;
    for (int h = 0; h < r->heads; h++) {
        double dot = 0, size = 0;
        for (int k = 0; k < r->depth; k++) {
            const double product = table[q[h * r->depth + k]] * table[key[k]];
            dot += product;
            size += fabs(product);
        }
        const double weight = mqa_weight(r, row, h);
        sum += (dot < 0 ? 0 : dot) * weight;
        *terms += size * fabs(weight);
    }
    *terms *= scale;
    return sum * scale;
}

static inline double mqa_logit(const struct random_mqa *r, int64_t row, int64_t column)
{
    const int64_t at = row * (r->columns + r->logits_gap) + column;
    const void *data = random_data(&r->buffer[MQA_LOGITS]);
    return r->logits_type == DG_BF16 ? (double)random_bf16(((const uint16_t *)data)[at])
                                     : (double)((const float *)data)[at];
}

static inline bool mqa_is_poison(const struct random_mqa *r, int64_t row, int64_t column)
{
    const size_t bytes = dg_type_bytes(r->logits_type);
    const uint8_t *at = (const uint8_t *)random_data(&r->buffer[MQA_LOGITS]) +
                        (size_t)(row * (r->columns + r->logits_gap) + column) * bytes;
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != RANDOM_POISON)
            return false;
    return true;
}

// Guards and gaps of the logits, and every byte of the inputs.
static inline const char *mqa_damage(const struct random_mqa *r)
{
    static const char *const names[] = {
        "q", "kv", "scales", "weights", "starts/lengths", "ends/block table", "schedule"};
    for (int i = 0; i < MQA_LOGITS; i++)
        if (i != MQA_SCHEDULE && r->buffer[i].memory &&
            random_checksum(&r->buffer[i]) != r->buffer[i].checksum)
            return names[i];
    for (int i = MQA_SCHEDULE; i <= MQA_LOGITS; i++) {
        const struct random_buffer *buffer = &r->buffer[i];
        for (size_t b = 0; buffer->memory && b < RANDOM_GUARD_BYTES; b++)
            if (buffer->memory[b] != RANDOM_POISON ||
                buffer->memory[buffer->offset + buffer->bytes + b] != RANDOM_POISON)
                return i == MQA_LOGITS ? "a guard of the logits" : "a guard of the schedule";
    }
    for (int64_t i = 0; i + 1 < r->rows; i++)
        for (int64_t j = r->columns; j < r->columns + r->logits_gap; j++)
            if (!mqa_is_poison(r, i, j))
                return "a gap of the logits";
    return NULL;
}

// Compares at most about `most` scores, evenly spread, and looks at everything else; NULL when all is right.
// The text is static.
static inline const char *random_mqa_wrong(const struct random_mqa *r, int64_t most,
                                           struct mqa_figures *figures)
{
    static _Thread_local char text[512];
    const bool is_clean = (r->flags & DG_MQA_CLEAN) != 0;
    const int64_t step = most > 0 && r->rows * r->columns > most ? r->rows * r->columns / most : 1;
    double xy = 0, xx = 0;
    int64_t count = 0;
    *figures = (struct mqa_figures){0, 0, 0};
    const char *damage = mqa_damage(r);
    if (damage) {
        snprintf(text, sizeof text, "%s: %s was written", r->line, damage);
        return text;
    }
    for (int64_t i = 0; i < r->rows; i++) {
        int64_t first, last, shift;
        mqa_columns(r, i, &first, &last, &shift);
        for (int64_t j = 0; j < r->columns; j++) {
            const double logit = mqa_logit(r, i, j);
            const bool is_score = j >= first && j < last;
            const bool is_right = is_score   ? isfinite(logit)
                                  : is_clean ? logit == -INFINITY
                                             : mqa_is_poison(r, i, j);
            if (!is_right) {
                snprintf(text, sizeof text, "%s: logits[%lld][%lld] = %g, scores are %lld to %lld",
                         r->line, (long long)i, (long long)j, logit, (long long)first,
                         (long long)last);
                return text;
            }
            if (!is_score || count++ % step)
                continue;
            double terms;
            const double expected = mqa_score(r, i, j + shift, &terms);
            const double error = fabs(logit - expected) / (terms > 0 ? terms : 1);
            figures->of_terms = error > figures->of_terms ? error : figures->of_terms;
            xy += logit * expected;
            xx += logit * logit + expected * expected;
            figures->compared++;
        }
    }
    figures->difference = xx > 0 ? 1 - 2 * xy / xx : 0;
    return NULL;
}

#endif
