// SPDX-License-Identifier: MIT
// random_grouped.h - grouped problems with data and layouts of every kind, for tests of any backend.
//
//     random_grouped_make(&r, seed, 1 << 22);                // a problem, its layout and its data
//     random_grouped_call(&r, context, bases, ...);          // bases: where the buffers are, on host or device
//     wrong = random_grouped_judge(&r, oracle, before, limit); // NULL: r.of[GROUPED_D] is right
//
// What a layout means is worked out here anew, entry by entry, as a list of pieces: rows of D that one dense
// product makes.  Inputs that no piece reads stay poisoned, which is NaN; so does D where nothing may be written.
#ifndef DG_TESTS_RANDOM_GROUPED_H
#define DG_TESTS_RANDOM_GROUPED_H

#include "random_problem.h"

#include <stdarg.h>

#include "plan/problem.h"

enum {
    GROUPED_A,
    GROUPED_SFA,
    GROUPED_B,
    GROUPED_SFB,
    GROUPED_C,
    GROUPED_D,
    GROUPED_LAYOUT,
    GROUPED_BUFFERS
};

// Matrices of one shape; strides in elements, for scales in words.
struct random_stack {
    struct random_buffer buffer;
    int64_t groups, rows, columns, group, row, column;
};

struct random_piece {
    int64_t group; // -1: D = C or zeros
    int64_t matrix, first, rows;
    int64_t first_k, k, first_block;
};

struct random_grouped {
    struct dg_problem problem; // as it was drawn
    enum dg_op_kind kind;
    uint64_t seed, state;
    char line[512], wrong[512];
    struct random_stack of[GROUPED_BUFFERS];
    int32_t *layout;
    int64_t length, num_rows; // num_rows -1: not given
    bool has_num_rows;
    bool has_padded_scales; // strides of scales are multiples of 16 bytes
    struct random_piece *pieces;
    int64_t num_pieces;
};

// ---- which problem --------------------------------------------------------------------------------

static inline bool random_chance(struct random_grouped *r, int in)
{
    return random_next(&r->state) % (uint64_t)in == 0;
}

static inline void random_grouped_draw(struct random_grouped *r, int64_t max_work)
{
    struct dg_problem *p = &r->problem;
    p->op = (dg_op)random_range(&r->state, DG_OP_FP8_M_GROUPED_CONTIGUOUS, DG_OP_FP8_K_GROUPED_TN);
    r->kind = dg_problem_op(p->op)->kind;
    const bool along_k = r->kind == DG_KIND_K_GROUPED;
    const bool many = random_chance(r, 24);
    p->groups = many ? random_range(&r->state, 100, 1000)
                     : random_range(&r->state, 1, random_chance(r, 4) ? 40 : 6);
    p->d_type = random_chance(r, 2) ? DG_BF16 : DG_F32;
    p->sf_type = along_k || random_chance(r, 2) ? DG_F32 : DG_UE8M0X4;
    p->sfb_block_n = along_k || random_chance(r, 3) ? 1 : 128;
    p->c_mode = random_chance(r, 2) ? DG_C_NONE : (dg_c_mode)random_range(&r->state, 1, 2);
    double work, outputs;
    do {
        p->m = random_size(&r->state, r->kind == DG_KIND_CONTIGUOUS ? (many ? 3000 : 1200) : 300);
        p->n = random_size(&r->state, many ? 64 : 600);
        p->k = random_size(&r->state, along_k ? 3000 : many ? 150 : 1500);
        work = (double)p->m * (double)p->n * (double)p->k;
        if (r->kind == DG_KIND_MASKED)
            work *= (double)p->groups;
        work += 16.0 * (double)p->groups * (double)p->n * (double)(along_k ? p->m : p->k);
        outputs =
            (double)p->m * (double)p->n * (r->kind == DG_KIND_CONTIGUOUS ? 1 : (double)p->groups);
    } while (work > (double)max_work || outputs > (double)max_work / 8);
    if (along_k && random_chance(r, 2))
        p->k = (p->k + 127) / 128 * 128;
    p->sfa_major = random_chance(r, 3) ? DG_K_MAJOR : DG_MN_MAJOR;
    p->sfb_major = random_chance(r, 3)   ? (dg_major)!p->sfb_major
                   : p->sfb_block_n == 1 ? DG_MN_MAJOR
                                         : DG_K_MAJOR;
    const bool turned_b =
        p->op == DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN || p->op == DG_OP_FP8_K_GROUPED_TN;
    if (p->op != DG_OP_FP8_K_GROUPED) {
        p->a_major =
            random_chance(r, 6) || (p->op == DG_OP_FP8_K_GROUPED_TN && !random_chance(r, 4))
                ? DG_MN_MAJOR
                : DG_K_MAJOR;
        p->b_major =
            random_chance(r, 6) || (turned_b && !random_chance(r, 4)) ? DG_MN_MAJOR : DG_K_MAJOR;
        const int64_t inner_a = p->a_major == DG_K_MAJOR ? p->k : p->m,
                      inner_b = p->b_major == DG_K_MAJOR ? p->k : p->n;
        p->lda = random_chance(r, 6) ? inner_a + random_range(&r->state, 0, 9)
                                     : (inner_a + 15) / 16 * 16;
        p->ldb = random_chance(r, 6) ? inner_b + random_range(&r->state, 0, 9)
                                     : (inner_b + 15) / 16 * 16;
    }
    p->ldd = random_chance(r, 3) ? p->n + random_range(&r->state, 0, 9) : (p->n + 7) / 8 * 8;
    p->layout =
        r->kind == DG_KIND_CONTIGUOUS && random_chance(r, 2) ? DG_GROUP_ENDS : DG_GROUP_INDEX;
    static const int32_t alignments[] = {1, 2, 16, 100, 128, 128};
    p->alignment =
        r->kind == DG_KIND_MASKED || along_k ? 0 : alignments[random_next(&r->state) % 6];
    const int64_t room = along_k ? p->k : p->m, any = random_range(&r->state, 1, 2 * room);
    p->expected_m = random_chance(r, 3) ? 0 : random_chance(r, 20) ? INT64_MAX : any;
}

// ---- layouts --------------------------------------------------------------------------------------

static inline void random_layout_index(struct random_grouped *r)
{
    const struct dg_problem *p = &r->problem;
    const int64_t step = random_chance(r, 3) ? 128 : random_chance(r, 2) ? 16 : 1;
    const bool is_sorted = !random_chance(r, 3);
    int64_t group = 0;
    for (int64_t row = 0; row < r->length;) {
        int64_t rows =
            (random_size(&r->state, random_chance(r, 2) ? 20 : 500) + step - 1) / step * step;
        group = is_sorted ? group + random_range(&r->state, 0, 2)
                          : random_range(&r->state, 0, p->groups - 1);
        int32_t entry = (int32_t)(group < p->groups ? group : p->groups - 1);
        if (random_chance(r, 5))
            entry = random_chance(r, 4) ? (random_chance(r, 2) ? INT32_MIN : (int32_t)p->groups + 3)
                                        : -1;
        for (; rows > 0 && row < r->length; rows--)
            r->layout[row++] = entry;
    }
    if (random_chance(r, 4)) // single rows of no group
        for (int64_t i = 0; i < r->length / 16; i++)
            r->layout[random_next(&r->state) % (uint64_t)r->length] = -1;
}

// Sizes of groups that may or may not fit `room`; `unit`: what most are a multiple of.
static inline int64_t random_group_size(struct random_grouped *r, int64_t room, int64_t unit)
{
    const int64_t share = room / r->problem.groups + 1;
    if (random_chance(r, 4))
        return 0;
    const int64_t size = random_range(&r->state, 0, random_chance(r, 4) ? room : 2 * share);
    return size / unit * unit;
}

static inline void random_layout_groups(struct random_grouped *r)
{
    const struct dg_problem *p = &r->problem;
    const bool along_k = r->kind == DG_KIND_K_GROUPED, is_all_zero = random_chance(r, 20);
    const bool has_bad = random_chance(r, 8);
    const int64_t alignment = p->alignment ? p->alignment : 128, room = along_k ? p->k : p->m;
    const int64_t unit = along_k ? (random_chance(r, 3) ? 32 : 128) : 1;
    int64_t end = 0;
    for (int64_t g = 0; g < r->length; g++) {
        int64_t size = is_all_zero ? 0 : random_group_size(r, room, unit);
        if (p->layout == DG_GROUP_ENDS) {
            const int64_t first = (end + alignment - 1) / alignment * alignment;
            size = first + size > room ? 0 : size;
            r->layout[g] = (int32_t)(end = size ? first + size : end);
        } else if (along_k) {
            size = end + size > room ? 0 : size;
            r->layout[g] = (int32_t)size;
            end += size;
        } else {
            r->layout[g] = (int32_t)(size > p->m ? p->m : size);
        }
        if (has_bad && random_chance(r, 6))
            r->layout[g] = (int32_t)random_range(&r->state, -300, 2 * room + 300);
    }
}

// ---- what a layout means --------------------------------------------------------------------------

static inline void random_add_piece(struct random_grouped *r, struct random_piece piece)
{
    if (piece.rows <= 0)
        return;
    r->pieces =
        (struct random_piece *)realloc(r->pieces, (size_t)(r->num_pieces + 1) * sizeof *r->pieces);
    r->pieces[r->num_pieces++] = piece;
}

static inline void random_list_pieces(struct random_grouped *r)
{
    const struct dg_problem *p = &r->problem;
    const int64_t limit = !r->has_num_rows     ? p->m
                          : r->num_rows < 0    ? 0
                          : r->num_rows < p->m ? r->num_rows
                                               : p->m;
    const int64_t alignment = p->alignment ? p->alignment : 128;
    int64_t end = 0, block = 0;
    for (int64_t i = 0; i < r->length; i++) {
        const int64_t entry = r->layout[i];
        struct random_piece piece = {i, i,    0, entry < 0 ? 0 : entry < limit ? entry : limit,
                                     0, p->k, 0};
        if (r->kind == DG_KIND_K_GROUPED) {
            const bool fits = entry >= 0 && entry % 32 == 0 && entry <= p->k - end &&
                              (entry + 127) / 128 <= r->of[GROUPED_SFA].columns - block;
            piece.k = fits ? entry : 0, piece.rows = p->m;
            piece.first_k = end, piece.first_block = block;
            end += piece.k, block += (piece.k + 127) / 128;
        } else if (p->layout == DG_GROUP_ENDS) {
            piece.matrix = 0, piece.first = (end + alignment - 1) / alignment * alignment;
            const int64_t last = piece.rows;
            piece.rows = last - piece.first;
            end = last > end ? last : end;
        } else if (r->kind == DG_KIND_CONTIGUOUS) {
            piece.matrix = 0, piece.first = i, piece.rows = i < limit;
            piece.group = entry >= 0 && entry < p->groups ? entry : -1;
            if (piece.group < 0)
                piece.k = 0;
            struct random_piece *last = r->num_pieces ? &r->pieces[r->num_pieces - 1] : NULL;
            if (piece.rows && last && last->group == piece.group) {
                last->rows++;
                continue;
            }
        }
        random_add_piece(r, piece);
    }
}

// ---- data -----------------------------------------------------------------------------------------

static inline void *random_at(const struct random_stack *s, size_t bytes, int64_t group,
                              int64_t row, int64_t column)
{
    return (uint8_t *)random_data(&s->buffer) +
           (size_t)(group * s->group + row * s->row + column * s->column) * bytes;
}

static inline void random_make_stack(struct random_grouped *r, int which, size_t bytes,
                                     int64_t groups, int64_t rows, int64_t columns, dg_major major,
                                     int64_t ld, int64_t unit)
{
    struct random_stack *s = &r->of[which];
    s->groups = groups, s->rows = rows, s->columns = columns;
    s->row = major == DG_K_MAJOR ? ld : 1, s->column = major == DG_K_MAJOR ? 1 : ld;
    s->group = ((major == DG_K_MAJOR ? rows : columns) * ld + unit - 1) / unit * unit;
    if (random_chance(r, 4))
        s->group += unit * random_range(&r->state, 1, 3);
    random_allocate(&s->buffer, bytes, 1,
                    (groups - 1) * s->group + (rows - 1) * s->row + (columns - 1) * s->column + 1,
                    0, 1, 0);
}

static inline void random_fill_values(struct random_grouped *r, int which, int64_t group,
                                      int64_t first, int64_t rows, int64_t first_k, int64_t k,
                                      int style)
{
    struct random_stack *s = &r->of[which];
    uint8_t *flat = (uint8_t *)random_data(&s->buffer) + first_k * s->rows;
    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = 0; j < k; j++)
            *(r->problem.op == DG_OP_FP8_K_GROUPED
                  ? flat + i * k + j
                  : (uint8_t *)random_at(s, 1, group, i, first_k + j)) =
                random_code(&r->state, style);
}

static inline void random_fill_scale_rows(struct random_grouped *r, int which, int64_t group,
                                          int64_t first, int64_t rows, int64_t first_block,
                                          int64_t blocks)
{
    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = 0; j < blocks; j++) {
            const int exponent = (int)random_range(&r->state, -12, 3), shift = (int)(8 * (j % 4));
            const bool is_packed = r->problem.sf_type == DG_UE8M0X4;
            uint32_t *word = (uint32_t *)random_at(&r->of[which], 4, group, i,
                                                   is_packed ? j / 4 : first_block + j);
            const float scale =
                ldexpf(1 + (float)(random_next(&r->state) >> 41) * 0x1p-23f, exponent);
            if (is_packed)
                *word = (*word & ~(0xffu << shift)) | (uint32_t)(exponent + 127) << shift;
            else
                memcpy(word, &scale, sizeof scale);
        }
}

// Only what pieces read.
static inline void random_fill_inputs(struct random_grouped *r)
{
    const struct dg_problem *p = &r->problem;
    const bool is_masked = r->kind == DG_KIND_MASKED, along_k = r->kind == DG_KIND_K_GROUPED;
    const int style = (int)(random_next(&r->state) % 3);
    bool *has_b = (bool *)calloc((size_t)p->groups, sizeof *has_b);
    for (int64_t i = 0; i < r->num_pieces; i++) {
        const struct random_piece *piece = &r->pieces[i];
        const int64_t blocks = (piece->k + 127) / 128, own_a = is_masked ? piece->group : 0,
                      own_b = along_k ? 0 : piece->group;
        if (piece->group < 0 || piece->k == 0)
            continue;
        random_fill_values(r, GROUPED_A, own_a, piece->first, piece->rows, piece->first_k, piece->k,
                           style);
        random_fill_scale_rows(r, GROUPED_SFA, own_a, piece->first, piece->rows, piece->first_block,
                               blocks);
        if (has_b[piece->group])
            continue;
        has_b[piece->group] = true;
        random_fill_values(r, GROUPED_B, own_b, 0, p->n, piece->first_k, piece->k, style);
        random_fill_scale_rows(r, GROUPED_SFB, own_b, 0, r->of[GROUPED_SFB].rows,
                               piece->first_block, blocks);
    }
    free(has_b);
}

static inline void random_fill_c(struct random_grouped *r, int which)
{
    struct random_stack *s = &r->of[which];
    const size_t bytes = dg_type_bytes(r->problem.d_type);
    for (int64_t g = 0; g < s->groups; g++)
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->columns; j++) {
                const uint32_t word = (uint32_t)random_next(&r->state);
                const uint32_t bits = (word & 0x807fffff) | (120 + (word >> 23 & 15)) << 23;
                const uint16_t half = (uint16_t)(bits >> 16);
                memcpy(random_at(s, bytes, g, i, j), bytes == 2 ? (const void *)&half : &bits,
                       bytes);
            }
}

static inline int64_t random_scale_ld(struct random_grouped *r, int64_t inner)
{
    return !r->has_padded_scales && random_chance(r, 3) ? inner + random_range(&r->state, 0, 3)
                                                        : (inner + 3) / 4 * 4;
}

static inline void random_make_buffers(struct random_grouped *r)
{
    const struct dg_problem *p = &r->problem;
    const bool along_k = r->kind == DG_KIND_K_GROUPED, is_flat = p->op == DG_OP_FP8_K_GROUPED;
    const int64_t a_groups = r->kind == DG_KIND_MASKED ? p->groups : 1,
                  b_groups = along_k ? 1 : p->groups;
    const int64_t d_groups = r->kind == DG_KIND_CONTIGUOUS ? 1 : p->groups;
    const int64_t blocks =
        (p->k + 127) / 128 + (along_k ? random_range(&r->state, 0, p->groups) : 0);
    const int64_t words = p->sf_type == DG_UE8M0X4 ? (blocks + 3) / 4 : blocks;
    const int64_t sfb_rows = (p->n + p->sfb_block_n - 1) / p->sfb_block_n;
    const size_t element = dg_type_bytes(p->d_type);
    random_make_stack(r, GROUPED_A, 1, a_groups, p->m, p->k, p->a_major, is_flat ? p->k : p->lda,
                      16);
    random_make_stack(r, GROUPED_B, 1, b_groups, p->n, p->k, p->b_major, is_flat ? p->k : p->ldb,
                      16);
    random_make_stack(r, GROUPED_SFA, 4, a_groups, p->m, words, p->sfa_major,
                      random_scale_ld(r, p->sfa_major == DG_K_MAJOR ? words : p->m),
                      r->has_padded_scales || !random_chance(r, 3) ? 4 : 1);
    random_make_stack(r, GROUPED_SFB, 4, b_groups, sfb_rows, words, p->sfb_major,
                      random_scale_ld(r, p->sfb_major == DG_K_MAJOR ? words : sfb_rows),
                      r->has_padded_scales || !random_chance(r, 3) ? 4 : 1);
    random_make_stack(r, GROUPED_D, element, d_groups, p->m, p->n, DG_K_MAJOR, p->ldd,
                      random_chance(r, 4) ? 1 : p->ldd);
    if (p->c_mode == DG_C_SEPARATE)
        random_make_stack(r, GROUPED_C, element, d_groups, p->m, p->n,
                          (dg_major)random_chance(r, 3),
                          (p->m > p->n ? p->m : p->n) + random_range(&r->state, 0, 3), 1);
}

static inline bool random_is_by_row(const struct random_grouped *r)
{
    return r->kind == DG_KIND_CONTIGUOUS && r->problem.layout == DG_GROUP_INDEX;
}

// A layout, and how many rows count, into the buffer.
static inline void random_grouped_lay_out(struct random_grouped *r)
{
    (random_is_by_row(r) ? random_layout_index : random_layout_groups)(r);
    r->num_rows = random_chance(r, 6) ? random_range(&r->state, -9, 2 * r->problem.m + 9)
                                      : random_range(&r->state, 0, r->problem.m);
    r->layout[r->length] = (int32_t)r->num_rows;
}

// The buffers of a problem that was drawn, and may have been changed since.
static inline void random_grouped_fill(struct random_grouped *r)
{
    const struct dg_problem *p = &r->problem;
    r->length = random_is_by_row(r) ? p->m : p->groups;
    random_make_buffers(r);
    random_make_stack(r, GROUPED_LAYOUT, 4, 1, 1, r->length + 1, DG_K_MAJOR, r->length + 1, 1);
    r->layout = (int32_t *)random_data(&r->of[GROUPED_LAYOUT].buffer);
    r->has_num_rows = r->kind == DG_KIND_CONTIGUOUS && random_chance(r, 3);
    random_grouped_lay_out(r);
    random_list_pieces(r);
    random_fill_inputs(r);
    if (p->c_mode)
        random_fill_c(r, p->c_mode == DG_C_SEPARATE ? GROUPED_C : GROUPED_D);
    dg_problem_format(p, r->line, sizeof r->line - 80);
    snprintf(r->line + strlen(r->line), 80, "  (seed %llu, num_rows %lld)",
             (unsigned long long)r->seed, r->has_num_rows ? (long long)r->num_rows : -1);
}

static inline void random_grouped_begin(struct random_grouped *r, uint64_t seed, int64_t max_work)
{
    memset(r, 0, sizeof *r);
    r->seed = seed, r->state = seed * 2 + 1;
    random_grouped_draw(r, max_work);
}

static inline void random_grouped_make(struct random_grouped *r, uint64_t seed, int64_t max_work)
{
    random_grouped_begin(r, seed, max_work);
    random_grouped_fill(r);
}

static inline void random_grouped_free(struct random_grouped *r)
{
    for (int i = 0; i < GROUPED_BUFFERS; i++)
        free(r->of[i].buffer.memory);
    free(r->pieces);
}

// ---- the call -------------------------------------------------------------------------------------

static inline struct dg_tensor random_stack_tensor(const struct random_stack *s, void *base,
                                                   dg_type type, bool is_stack, bool is_turned)
{
    struct dg_tensor t = dg_matrix_strided(base, type, s->rows, s->columns, s->row);
    t.stride[1] = s->column;
    t = is_turned ? dg_transposed(t) : t;
    return is_stack ? dg_stack(t, s->groups, s->group) : t;
}

// `base`: where the data of each buffer is.
static inline dg_status random_grouped_call(const struct random_grouped *r, dg_context *context,
                                            void *const base[GROUPED_BUFFERS], void *workspace,
                                            size_t workspace_bytes, uint32_t flags, void *stream)
{
    const struct dg_problem *p = &r->problem;
    const bool is_masked = r->kind == DG_KIND_MASKED, along_k = r->kind == DG_KIND_K_GROUPED,
               turned_k = p->op == DG_OP_FP8_K_GROUPED_TN;
    const bool turned_b = turned_k || p->op == DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN,
               is_flat = p->op == DG_OP_FP8_K_GROUPED;
    struct dg_scaled a = {
        random_stack_tensor(&r->of[GROUPED_A], base[GROUPED_A], DG_E4M3, is_masked, turned_k),
        random_stack_tensor(&r->of[GROUPED_SFA], base[GROUPED_SFA], p->sf_type, is_masked,
                            turned_k),
        turned_k ? 128 : 1, turned_k ? 1 : 128};
    struct dg_scaled b = {
        random_stack_tensor(&r->of[GROUPED_B], base[GROUPED_B], DG_E4M3, !along_k, turned_b),
        random_stack_tensor(&r->of[GROUPED_SFB], base[GROUPED_SFB], p->sf_type, !along_k, turned_b),
        turned_b ? 128 : p->sfb_block_n, turned_b ? p->sfb_block_n : 128};
    if (is_flat) {
        a.values = (struct dg_tensor){base[GROUPED_A], DG_E4M3, 1, {p->m * p->k}, {1}};
        b.values = (struct dg_tensor){base[GROUPED_B], DG_E4M3, 1, {p->n * p->k}, {1}};
    }
    const bool is_stack = r->kind != DG_KIND_CONTIGUOUS;
    const int which_c = p->c_mode == DG_C_SEPARATE ? GROUPED_C : GROUPED_D;
    const struct dg_tensor d =
        random_stack_tensor(&r->of[GROUPED_D], base[GROUPED_D], p->d_type, is_stack, false);
    const struct dg_tensor c =
        random_stack_tensor(&r->of[which_c], base[which_c], p->d_type, is_stack, false);
    const struct dg_tensor layout = {base[GROUPED_LAYOUT], DG_I32, 1, {r->length}, {1}};
    struct dg_grouped_options options = DG_GROUPED_OPTIONS;
    options.workspace = workspace, options.workspace_bytes = workspace_bytes, options.flags = flags;
    options.layout = p->layout, options.alignment = p->alignment,
    options.expected_m = p->expected_m;
    if (r->has_num_rows)
        options.num_rows = (const int32_t *)base[GROUPED_LAYOUT] + r->length;
    dg_status (*const functions[])(
        dg_context *, const struct dg_scaled *, const struct dg_scaled *, const struct dg_tensor *,
        const struct dg_tensor *, const struct dg_tensor *, const struct dg_grouped_options *,
        void *) = {dg_m_grouped_fp8_gemm_nt_contiguous, dg_m_grouped_fp8_gemm_nn_contiguous,
                   dg_m_grouped_fp8_gemm_nt_masked, dg_k_grouped_fp8_gemm_nt_contiguous,
                   dg_k_grouped_fp8_gemm_tn_contiguous};
    return functions[p->op - DG_OP_FP8_M_GROUPED_CONTIGUOUS](
        context, &a, &b, &d, p->c_mode ? &c : NULL, &layout, &options, stream);
}

// ---- judging --------------------------------------------------------------------------------------

__attribute__((format(printf, 2, 3))) static inline const char *
random_grouped_fail(struct random_grouped *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->wrong, sizeof r->wrong, format, arguments);
    va_end(arguments);
    return r->wrong;
}

// A piece's product in double, of magnitudes if `values` are; rows x n, no C.
static inline dg_status random_piece_reference(const struct random_grouped *r,
                                               const struct random_piece *piece, dg_context *oracle,
                                               uint8_t *const values[2], double *out)
{
    const struct dg_problem *p = &r->problem;
    const bool is_flat = p->op == DG_OP_FP8_K_GROUPED;
    struct dg_scaled operand[2];
    for (int i = 0; i < 2; i++) {
        const struct random_stack *v = &r->of[i ? GROUPED_B : GROUPED_A],
                                  *s = &r->of[i ? GROUPED_SFB : GROUPED_SFA];
        const int64_t own = v->groups > 1 ? piece->group : 0, first = i ? 0 : piece->first;
        const int64_t at = is_flat ? piece->first_k * v->rows
                                   : own * v->group + first * v->row + piece->first_k * v->column;
        const int64_t rows = i ? p->n : piece->rows, blocks = (piece->k + 127) / 128;
        const struct random_stack shape = {.rows = rows,
                                           .columns = piece->k,
                                           .row = is_flat ? piece->k : v->row,
                                           .column = is_flat ? 1 : v->column};
        const int32_t block_rows = i ? p->sfb_block_n : 1;
        const struct random_stack scales = {.rows = (rows + block_rows - 1) / block_rows,
                                            .columns = p->sf_type == DG_UE8M0X4 ? (blocks + 3) / 4
                                                                                : blocks,
                                            .row = s->row,
                                            .column = s->column};
        operand[i] = (struct dg_scaled){
            random_stack_tensor(&shape, values[i] + at, DG_E4M3, false, false),
            random_stack_tensor(&scales, random_at(s, 4, own, first, piece->first_block),
                                p->sf_type, false, false),
            block_rows, 128};
    }
    const struct dg_tensor d = dg_matrix(out, DG_F64, piece->rows, p->n);
    return dg_fp8_gemm_nt(oracle, &operand[0], &operand[1], &d, NULL, NULL, NULL);
}

static inline double random_grouped_load(const struct random_grouped *r, const void *at)
{
    float value;
    uint16_t half;
    memcpy(&value, at, sizeof value * (r->problem.d_type == DG_F32));
    memcpy(&half, at, sizeof half);
    return r->problem.d_type == DG_F32 ? (double)value : (double)random_bf16(half);
}

// Compares a piece of D, and puts its elements into `expected`, the copy of D that is to be equal in the end.
static inline const char *random_judge_piece(struct random_grouped *r,
                                             const struct random_piece *piece, const double *exact,
                                             const double *terms, const uint8_t *before,
                                             uint8_t *expected, double limit)
{
    const struct dg_problem *p = &r->problem;
    const size_t bytes = dg_type_bytes(p->d_type);
    const struct random_stack *d = &r->of[GROUPED_D],
                              *c = p->c_mode == DG_C_SEPARATE ? &r->of[GROUPED_C] : d;
    for (int64_t i = 0; i < piece->rows; i++)
        for (int64_t j = 0; j < p->n; j++) {
            const uint8_t *at =
                (const uint8_t *)random_at(d, bytes, piece->matrix, piece->first + i, j);
            const uint8_t *addend =
                (const uint8_t *)random_at(c, bytes, piece->matrix, piece->first + i, j);
            if (p->c_mode == DG_C_IN_PLACE)
                addend = before + (at - d->buffer.memory);
            const double add = p->c_mode ? random_grouped_load(r, addend) : 0;
            const double want = exact[i * p->n + j] + add, got = random_grouped_load(r, at),
                         larger = fmax(fabs(got), fabs(want));
            const double rounding = p->d_type == DG_BF16 ? random_half_ulp_bf16(larger) : 0;
            const double allowed =
                piece->k ? limit * (terms[i * p->n + j] + fabs(add)) + rounding : 0;
            if (!(fabs(got - want) <= allowed))
                return random_grouped_fail(
                    r,
                    "%s: group %lld, row %lld of matrix %lld, column %lld is %.9g instead of %.9g",
                    r->line, (long long)piece->group, (long long)(piece->first + i),
                    (long long)piece->matrix, (long long)j, got, want);
            memcpy(expected + (at - d->buffer.memory), at, bytes);
        }
    return NULL;
}

static inline const char *random_grouped_judge(struct random_grouped *r, dg_context *oracle,
                                               const uint8_t *before, double limit)
{
    const struct dg_problem *p = &r->problem;
    const struct random_buffer *d = &r->of[GROUPED_D].buffer;
    uint8_t *magnitudes[2], *values[2], *expected = (uint8_t *)malloc(RANDOM_PROBLEM_TOTAL(*d));
    const char *wrong = NULL;
    memcpy(expected, before, RANDOM_PROBLEM_TOTAL(*d));
    for (int i = 0; i < 2; i++) {
        const struct random_buffer *buffer = &r->of[i ? GROUPED_B : GROUPED_A].buffer;
        values[i] = (uint8_t *)random_data(buffer);
        magnitudes[i] = (uint8_t *)malloc(buffer->bytes + 1);
        for (size_t j = 0; j < buffer->bytes; j++)
            magnitudes[i][j] = values[i][j] & 0x7f;
    }
    for (int64_t i = 0; i < r->num_pieces && !wrong; i++) {
        const struct random_piece *piece = &r->pieces[i];
        double *exact = (double *)calloc((size_t)(2 * piece->rows * p->n), sizeof *exact),
               *terms = exact + piece->rows * p->n;
        if (piece->k > 0 && (random_piece_reference(r, piece, oracle, values, exact) ||
                             random_piece_reference(r, piece, oracle, magnitudes, terms)))
            wrong = random_grouped_fail(r, "%s: %s", r->line, dg_last_error());
        else
            wrong = random_judge_piece(r, piece, exact, terms, before, expected, limit);
        free(exact);
    }
    if (!wrong && memcmp(expected, d->memory, RANDOM_PROBLEM_TOTAL(*d)) != 0)
        wrong = random_grouped_fail(
            r, "%s: elements that belong to no group, or bytes around D, were written", r->line);
    free(magnitudes[0]), free(magnitudes[1]), free(expected);
    return wrong;
}

#endif
