// SPDX-License-Identifier: MIT
// random_problem.h - problems with data, for tests of any backend.
//
//     struct random_problem r;
//     struct dg_problem problem = random_problem_draw(seed, 1 << 22);
//     random_problem_make(&r, &problem, seed, 0);          // host buffers for a, b, scales, c, d
//     dg_status status = random_problem_call(&r, context); // through the public API, on these buffers
//     const char *damage = random_problem_damage(&r);      // NULL: nothing but D's elements changed
//     random_problem_compare(&r, oracle, &figures);        // errors against sums in double
//     random_problem_free(&r);
//
// Everything follows from the problem and the seed.  Each buffer lies between guard bands; guards, gaps
// between rows and D before the call are filled with 0xff, which is NaN in every type used: a stray
// read shows as NaN in D, a stray write as a changed guard or gap, a missing write as NaN.
// A test on a GPU copies each buffer with its guards to memory of its own (buffer.memory,
// RANDOM_PROBLEM_TOTAL(buffer)), points the tensors of random_problem_call()'s body there, and copies D
// back before it looks for damage.
#ifndef DG_TESTS_RANDOM_PROBLEM_H
#define DG_TESTS_RANDOM_PROBLEM_H

#include "deepgemm.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RANDOM_GUARD_BYTES = 1024,
    RANDOM_POISON = 0xff,
    RANDOM_ODD_ADDRESSES = 1, // flag: a and b start anywhere, not at multiples of 256 bytes
    RANDOM_PADDED_SCALES = 2, // flag: strides of scales are multiples of 16 bytes
    RANDOM_DENSE_SCALES = 4,  // flag: scales have no gaps
};

struct random_buffer {
    uint8_t *memory; // guard, data, guard
    size_t offset;   // of the data
    size_t bytes;    // of the data
    uint64_t checksum;
};
#define RANDOM_PROBLEM_TOTAL(buffer) ((buffer).offset + (buffer).bytes + RANDOM_GUARD_BYTES)

struct random_problem {
    struct dg_problem problem;
    uint64_t seed, state;
    char line[256]; // the problem and the seed, for messages
    struct random_buffer a, b, sfa, sfb, c, d;
    int64_t sfa_ld, sfb_ld; // strides of the dimension that is not dense
    int64_t c_stride[2];
};

struct error_figures {
    double relative; // |D - R| / |R|, Frobenius norms
    double row;      // largest |D - R| over the root mean square of its row of R
    double of_terms; // largest |D - R| over the sum of the magnitudes of all that was added for it
    double
        rounding; // BF16: largest |D - R| in units of what one rounding may cost, less 1e-6 of terms
};

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int64_t random_range(uint64_t *state, int64_t first, int64_t last)
{
    return first + (int64_t)(random_next(state) % (uint64_t)(last - first + 1));
}

// ---- which problem ----

// Sizes around the edges of tiles and blocks, or anything up to `limit`.
static inline int64_t random_size(uint64_t *state, int64_t limit)
{
    static const int64_t edges[] = {1,  2,  3,  5,  6,  7,   8,   12,  13,  15,  16,
                                    17, 31, 32, 33, 64, 127, 128, 129, 192, 193, 257};
    const int64_t edge = edges[random_next(state) % (sizeof edges / sizeof *edges)];
    return random_next(state) % 2 && edge <= limit ? edge : random_range(state, 1, limit);
}

// Any legal problem of at most max_work multiply-adds; now and then m, n or k is 0.
static inline struct dg_problem random_problem_draw(uint64_t seed, int64_t max_work)
{
    uint64_t state = seed * 2 + 1;
    struct dg_problem p;
    memset(&p, 0, sizeof p);
    p.op = (dg_op)random_range(&state, DG_OP_FP8_GEMM_NT, DG_OP_FP8_GEMM_TT);
    p.d_type = random_next(&state) % 2 ? DG_BF16 : DG_F32;
    do {
        p.m = random_size(&state, 300);
        p.n = random_size(&state, 600);
        p.k = random_size(&state, 1500);
    } while (p.m * p.n * p.k > max_work);
    if (random_next(&state) % 32 == 0)
        *(random_next(&state) % 4 ? &p.k : random_next(&state) % 2 ? &p.m : &p.n) = 0;
    p.c_mode = (dg_c_mode)random_range(&state, DG_C_NONE, DG_C_IN_PLACE);
    p.sf_type = random_next(&state) % 2 ? DG_F32 : DG_UE8M0X4;
    p.sfb_block_n = random_next(&state) % 2 ? 128 : 1;
    p.a_major = (dg_major)(random_next(&state) % 2);
    p.b_major = (dg_major)(random_next(&state) % 2);
    p.sfa_major = (dg_major)(random_next(&state) % 2);
    p.sfb_major = (dg_major)(random_next(&state) % 2);
    const int64_t gap = random_next(&state) % 2 ? 0 : random_range(&state, 1, 20);
    p.lda = (p.a_major == DG_K_MAJOR ? p.k : p.m) + gap;
    p.ldb = (p.b_major == DG_K_MAJOR ? p.k : p.n) + gap;
    p.ldd = p.n + gap;
    return p;
}

// ---- its data ----

static inline uint64_t random_checksum(const struct random_buffer *buffer)
{
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < RANDOM_PROBLEM_TOTAL(*buffer); i++)
        sum = (sum ^ buffer->memory[i]) * 1099511628211u;
    return sum;
}

// A poisoned buffer for rows x columns elements with these strides.
static inline void random_allocate(struct random_buffer *buffer, size_t element_bytes, int64_t rows,
                                   int64_t columns, int64_t row_stride, int64_t column_stride,
                                   size_t shift)
{
    const int64_t last = (rows - 1) * row_stride + (columns - 1) * column_stride;
    buffer->bytes = rows && columns ? (size_t)(last + 1) * element_bytes : 0;
    buffer->offset = RANDOM_GUARD_BYTES + shift;
    const size_t total = RANDOM_PROBLEM_TOTAL(*buffer);
    buffer->memory = (uint8_t *)aligned_alloc(256, (total + 255) / 256 * 256);
    if (!buffer->memory) {
        printf("Bail out! no memory for %zu bytes of test data\n", total);
        exit(1);
    }
    memset(buffer->memory, RANDOM_POISON, total);
}

static inline void *random_data(const struct random_buffer *buffer)
{
    return buffer->memory + buffer->offset;
}

// A finite code.  Styles: any, magnitudes near 1, mostly zeros of both signs.
static inline uint8_t random_code(uint64_t *state, int style)
{
    const uint64_t word = random_next(state);
    const uint8_t sign = word & 0x80, code = word >> 8 & 0x7f;
    if (style == 1)
        return sign | (uint8_t)(0x28 + (code & 0x1f));
    if (style == 2 && word >> 16 & 3)
        return sign;
    return sign | (code == 0x7f ? 0 : code);
}

static inline void random_fill_codes(struct random_problem *r, struct random_buffer *buffer,
                                     int64_t rows, int64_t columns, dg_major major, int64_t ld)
{
    const int style = (int)(random_next(&r->state) % 3);
    uint8_t *codes = (uint8_t *)random_data(buffer);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            codes[major == DG_K_MAJOR ? i * ld + j : i + j * ld] = random_code(&r->state, style);
}

// Scales between 2^-12 and 2^4; in packed words, bytes behind the last scale stay poisoned.
static inline void random_fill_scales(struct random_problem *r, struct random_buffer *buffer,
                                      int64_t rows, int64_t columns, dg_major major, int64_t ld)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const int exponent = (int)random_range(&r->state, -12, 3);
            const bool is_packed = r->problem.sf_type == DG_UE8M0X4;
            const int64_t j_word = is_packed ? j / 4 : j;
            const int64_t at = major == DG_K_MAJOR ? i * ld + j_word : i + j_word * ld;
            uint32_t *word = (uint32_t *)random_data(buffer) + at;
            const int shift = (int)(8 * (j % 4));
            const float fraction = 1 + (float)(random_next(&r->state) >> 41) * 0x1p-23f;
            const float scale = ldexpf(fraction, exponent);
            if (is_packed)
                *word = (*word & ~(0xffu << shift)) | (uint32_t)(exponent + 127) << shift;
            else
                memcpy(word, &scale, sizeof scale);
        }
}

static inline float random_bf16(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

// The value of element i of a matrix of D's type.
static inline double random_load(const struct random_problem *r, const void *data, int64_t i)
{
    return r->problem.d_type == DG_BF16 ? (double)random_bf16(((const uint16_t *)data)[i])
                                        : (double)((const float *)data)[i];
}

static inline void random_fill_addend(struct random_problem *r, void *data, int64_t row_stride,
                                      int64_t column_stride)
{
    for (int64_t i = 0; i < r->problem.m; i++)
        for (int64_t j = 0; j < r->problem.n; j++) {
            const int64_t at = i * row_stride + j * column_stride;
            const uint32_t word = (uint32_t)random_next(&r->state); // sign, 2^-7 to 2^8, fraction
            const uint32_t bits = (word & 0x807fffff) | (120 + (word >> 23 & 15)) << 23;
            if (r->problem.d_type == DG_BF16)
                ((uint16_t *)data)[at] = (uint16_t)(bits >> 16);
            else
                memcpy((float *)data + at, &bits, sizeof bits);
        }
}

static inline int64_t random_sf_words(const struct random_problem *r)
{
    const int64_t count = (r->problem.k + 127) / 128;
    return r->problem.sf_type == DG_UE8M0X4 ? (count + 3) / 4 : count;
}

static inline int64_t random_sfb_rows(const struct random_problem *r)
{
    return (r->problem.n + r->problem.sfb_block_n - 1) / r->problem.sfb_block_n;
}

static inline void random_make_scales(struct random_problem *r, struct random_buffer *buffer,
                                      int64_t rows, dg_major major, int64_t *ld, int flags)
{
    const int64_t words = random_sf_words(r);
    const int64_t gap = random_range(&r->state, 0, 3);
    *ld = (major == DG_K_MAJOR ? words : rows) + (flags & RANDOM_DENSE_SCALES ? 0 : gap);
    if (flags & RANDOM_PADDED_SCALES)
        *ld = (*ld + 3) / 4 * 4;
    random_allocate(buffer, 4, rows, words, major == DG_K_MAJOR ? *ld : 1,
                    major == DG_K_MAJOR ? 1 : *ld, 0);
    random_fill_scales(r, buffer, rows, (r->problem.k + 127) / 128, major, *ld);
}

static inline void random_make_codes(struct random_problem *r, struct random_buffer *buffer,
                                     int64_t rows, dg_major major, int64_t ld, int flags)
{
    const size_t shift = flags & RANDOM_ODD_ADDRESSES ? random_next(&r->state) % 64 : 0;
    random_allocate(buffer, 1, rows, r->problem.k, major == DG_K_MAJOR ? ld : 1,
                    major == DG_K_MAJOR ? 1 : ld, shift);
    random_fill_codes(r, buffer, rows, r->problem.k, major, ld);
}

// C's strides are drawn too: rows with or without gaps, or columns.
static inline void random_make_outputs(struct random_problem *r)
{
    const struct dg_problem *p = &r->problem;
    const size_t bytes = dg_type_bytes(p->d_type);
    const bool by_columns = random_next(&r->state) % 3 == 0;
    const int64_t gap = random_range(&r->state, 0, 4);
    r->c_stride[0] = by_columns ? 1 : p->n + gap;
    r->c_stride[1] = by_columns ? p->m + gap : 1;
    random_allocate(&r->d, bytes, p->m, p->n, p->ldd, 1, 0);
    if (p->c_mode == DG_C_SEPARATE) {
        random_allocate(&r->c, bytes, p->m, p->n, r->c_stride[0], r->c_stride[1], 0);
        random_fill_addend(r, random_data(&r->c), r->c_stride[0], r->c_stride[1]);
    } else {
        // In place: D holds C before the call, and `c` keeps a copy of all of it.
        r->c_stride[0] = p->ldd;
        r->c_stride[1] = 1;
        if (p->c_mode == DG_C_IN_PLACE)
            random_fill_addend(r, random_data(&r->d), p->ldd, 1);
        random_allocate(&r->c, bytes, p->m, p->n, p->ldd, 1, 0);
        memcpy(r->c.memory, r->d.memory, RANDOM_PROBLEM_TOTAL(r->d));
    }
}

static inline void random_problem_make(struct random_problem *r, const struct dg_problem *problem,
                                       uint64_t seed, int flags)
{
    memset(r, 0, sizeof *r);
    r->problem = *problem;
    r->seed = seed;
    r->state = seed * 2 + 2;
    const int length = (int)dg_problem_format(problem, r->line, sizeof r->line - 40);
    snprintf(r->line + strlen(r->line), 40, "  (seed %llu%s)", (unsigned long long)seed,
             length >= (int)sizeof r->line - 40 ? ", cut" : "");
    random_make_codes(r, &r->a, problem->m, problem->a_major, problem->lda, flags);
    random_make_codes(r, &r->b, problem->n, problem->b_major, problem->ldb, flags);
    random_make_scales(r, &r->sfa, problem->m, problem->sfa_major, &r->sfa_ld, flags);
    random_make_scales(r, &r->sfb, random_sfb_rows(r), problem->sfb_major, &r->sfb_ld, flags);
    random_make_outputs(r);
    struct random_buffer *const inputs[] = {&r->a, &r->b, &r->sfa, &r->sfb, &r->c};
    for (int i = 0; i < 5; i++)
        inputs[i]->checksum = random_checksum(inputs[i]);
}

static inline void random_problem_free(struct random_problem *r)
{
    struct random_buffer *const all[] = {&r->a, &r->b, &r->sfa, &r->sfb, &r->c, &r->d};
    for (int i = 0; i < 6; i++)
        free(all[i]->memory);
}

// Makes D what it was before any call.
static inline void random_problem_reset(struct random_problem *r)
{
    if (r->problem.c_mode == DG_C_IN_PLACE)
        memcpy(r->d.memory, r->c.memory, RANDOM_PROBLEM_TOTAL(r->d));
    else
        memset(r->d.memory, RANDOM_POISON, RANDOM_PROBLEM_TOTAL(r->d));
}

// ---- calling ----

// A matrix in NT orientation, turned round where the operation's name says so.
static inline struct dg_tensor random_tensor(void *data, dg_type type, int64_t rows,
                                             int64_t columns, dg_major major, int64_t ld,
                                             bool is_transposed)
{
    struct dg_tensor tensor = dg_matrix_strided(data, type, rows, columns, ld);
    if (major == DG_MN_MAJOR) {
        tensor.stride[0] = 1;
        tensor.stride[1] = ld;
    }
    return is_transposed ? dg_transposed(tensor) : tensor;
}

// The four operands with their data where `data` says: a, sfa, b, sfb.
static inline void random_problem_operands(const struct random_problem *r, void *const data[4],
                                           struct dg_scaled *a, struct dg_scaled *b)
{
    const struct dg_problem *p = &r->problem;
    const bool a_turned = p->op == DG_OP_FP8_GEMM_TN || p->op == DG_OP_FP8_GEMM_TT;
    const bool b_turned = p->op == DG_OP_FP8_GEMM_NN || p->op == DG_OP_FP8_GEMM_TN;
    const int64_t words = random_sf_words(r);
    a->values = random_tensor(data[0], DG_E4M3, p->m, p->k, p->a_major, p->lda, a_turned);
    a->scales = random_tensor(data[1], p->sf_type, p->m, words, p->sfa_major, r->sfa_ld, a_turned);
    a->block_rows = a_turned ? 128 : 1;
    a->block_columns = a_turned ? 1 : 128;
    b->values = random_tensor(data[2], DG_E4M3, p->n, p->k, p->b_major, p->ldb, b_turned);
    b->scales = random_tensor(data[3], p->sf_type, random_sfb_rows(r), words, p->sfb_major,
                              r->sfb_ld, b_turned);
    b->block_rows = b_turned ? 128 : p->sfb_block_n;
    b->block_columns = b_turned ? p->sfb_block_n : 128;
}

static inline dg_status random_problem_run(const struct random_problem *r, dg_context *context,
                                           void *const data[4], const struct dg_tensor *d,
                                           const struct dg_tensor *c)
{
    static dg_status (*const functions[])(
        dg_context *, const struct dg_scaled *, const struct dg_scaled *, const struct dg_tensor *,
        const struct dg_tensor *, const struct dg_gemm_options *,
        void *) = {NULL, dg_fp8_gemm_nt, dg_fp8_gemm_nn, dg_fp8_gemm_tn, dg_fp8_gemm_tt};
    struct dg_scaled a, b;
    random_problem_operands(r, data, &a, &b);
    return functions[r->problem.op](context, &a, &b, d, r->problem.c_mode ? c : NULL, NULL, NULL);
}

// The problem on its own host buffers, D included.
static inline dg_status random_problem_call(const struct random_problem *r, dg_context *context)
{
    const struct dg_problem *p = &r->problem;
    void *const data[4] = {random_data(&r->a), random_data(&r->sfa), random_data(&r->b),
                           random_data(&r->sfb)};
    const struct dg_tensor d = dg_matrix_strided(random_data(&r->d), p->d_type, p->m, p->n, p->ldd);
    struct dg_tensor c = d;
    if (p->c_mode == DG_C_SEPARATE) {
        c.data = random_data(&r->c);
        memcpy(c.stride, r->c_stride, sizeof r->c_stride);
    }
    return random_problem_run(r, context, data, &d, &c);
}

// ---- judging ----

// What was changed that must not be, or NULL.
static inline const char *random_problem_damage(const struct random_problem *r)
{
    static const char *const names[] = {"a", "b", "a's scales", "b's scales", "c"};
    const struct random_buffer *const inputs[] = {&r->a, &r->b, &r->sfa, &r->sfb, &r->c};
    for (int i = 0; i < 5; i++)
        if (random_checksum(inputs[i]) != inputs[i]->checksum)
            return names[i];
    const size_t element = dg_type_bytes(r->problem.d_type);
    const size_t pitch = (size_t)r->problem.ldd * element, row = (size_t)r->problem.n * element;
    for (size_t i = 0; i < RANDOM_PROBLEM_TOTAL(r->d); i++) {
        const bool is_guard = i < r->d.offset || i >= r->d.offset + r->d.bytes;
        const bool is_gap = !is_guard && (i - r->d.offset) % pitch >= row;
        if ((is_guard || is_gap) && r->d.memory[i] != RANDOM_POISON)
            return is_guard ? "a guard of d" : "a gap between rows of d";
    }
    return NULL;
}

// R [m, n] in double from the oracle; of the magnitudes of all terms if asked.
static inline dg_status random_problem_reference(const struct random_problem *r, dg_context *oracle,
                                                 bool of_magnitudes, double *out)
{
    const struct dg_problem *p = &r->problem;
    uint8_t *codes[2];
    const struct random_buffer *const operands[2] = {&r->a, &r->b};
    for (int i = 0; i < 2; i++) {
        codes[i] = (uint8_t *)malloc(operands[i]->bytes + 1);
        memcpy(codes[i], random_data(operands[i]), operands[i]->bytes);
        for (size_t j = 0; of_magnitudes && j < operands[i]->bytes; j++)
            codes[i][j] &= 0x7f;
    }
    double *addend = (double *)calloc((size_t)(p->m * p->n) + 1, sizeof *addend);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            const int64_t at = i * r->c_stride[0] + j * r->c_stride[1];
            const double value = random_load(r, random_data(&r->c), at);
            addend[i * p->n + j] = of_magnitudes ? fabs(value) : value;
        }
    void *const data[4] = {codes[0], random_data(&r->sfa), codes[1], random_data(&r->sfb)};
    const struct dg_tensor d = dg_matrix(out, DG_F64, p->m, p->n);
    const struct dg_tensor c = dg_matrix(addend, DG_F64, p->m, p->n);
    const dg_status status = random_problem_run(r, oracle, data, &d, &c);
    free(codes[0]);
    free(codes[1]);
    free(addend);
    return status;
}

// Half the distance of BF16 numbers around x: what rounding to nearest may cost.
static inline double random_half_ulp_bf16(double x)
{
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 9);
}

static inline void random_add_errors(const struct random_problem *r, const double *reference,
                                     const double *terms, struct error_figures *figures)
{
    const struct dg_problem *p = &r->problem;
    double error_squares = 0, squares = 0;
    for (int64_t i = 0; i < p->m; i++) {
        double worst = 0, row_squares = 0;
        for (int64_t j = 0; j < p->n; j++) {
            const int64_t at = i * p->n + j;
            const double d = random_load(r, random_data(&r->d), i * p->ldd + j);
            const double error = fabs(d - reference[at]), exact = reference[at];
            const double excess = (error - 1e-6 * terms[at]) / random_half_ulp_bf16(exact);
            // Written so that NaN counts as the worst of errors.
            worst = error <= worst ? worst : isnan(error) ? INFINITY : error;
            if (!(error <= figures->of_terms * terms[at]))
                figures->of_terms = terms[at] > 0 && !isnan(error) ? error / terms[at] : INFINITY;
            figures->rounding = excess <= figures->rounding ? figures->rounding
                                : isnan(excess)             ? INFINITY
                                                            : excess;
            row_squares += exact * exact;
            error_squares += isnan(error) ? INFINITY : error * error;
        }
        const double mean = sqrt(row_squares / (double)p->n);
        figures->row = fmax(figures->row, worst == 0 ? 0 : worst / mean);
        squares += row_squares;
    }
    figures->relative = error_squares == 0 ? 0 : sqrt(error_squares / squares);
}

// Compares D with the oracle.
static inline dg_status random_problem_compare(const struct random_problem *r, dg_context *oracle,
                                               struct error_figures *figures)
{
    memset(figures, 0, sizeof *figures);
    const size_t elements = (size_t)(r->problem.m * r->problem.n) + 1;
    double *reference = (double *)calloc(elements, sizeof *reference);
    double *terms = (double *)calloc(elements, sizeof *terms);
    dg_status status = random_problem_reference(r, oracle, false, reference);
    if (status == DG_OK)
        status = random_problem_reference(r, oracle, true, terms);
    if (status == DG_OK)
        random_add_errors(r, reference, terms, figures);
    free(reference);
    free(terms);
    return status;
}

// The value of an E4M3 code, straight from the definition.
static inline double random_value(uint8_t code)
{
    const int exponent = code >> 3 & 15, fraction = code & 7;
    const double magnitude = (code & 0x7f) == 0x7f ? NAN
                             : exponent            ? ldexp(8 + fraction, exponent - 10)
                                                   : ldexp(fraction, -9);
    return code & 0x80 ? -magnitude : magnitude;
}

// The scale of a row and k-block.
static inline double random_scale(const struct random_problem *r,
                                  const struct random_buffer *buffer, dg_major major, int64_t ld,
                                  int64_t row, int64_t block)
{
    const bool is_packed = r->problem.sf_type == DG_UE8M0X4;
    const int64_t column = is_packed ? block / 4 : block;
    const uint8_t *word = (const uint8_t *)random_data(buffer) +
                          4 * (major == DG_K_MAJOR ? row * ld + column : row + column * ld);
    float scale;
    memcpy(&scale, word, 4);
    return is_packed ? ldexp(1, word[block % 4] - 127) : scale;
}

#endif
