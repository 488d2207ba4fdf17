// SPDX-License-Identifier: MIT
// cpu_pieces.c - reads a layout and cuts it into dense products.
#include "backend/cpu/cpu_pieces.h"

#include "base/overflow.h"
#include "plan/problem.h"

#include <stdlib.h>

static dg_status add(struct dg_cpu_pieces *pieces, struct dg_cpu_piece piece)
{
    if (piece.rows <= 0)
        return DG_OK;
    if (pieces->count == pieces->capacity) {
        const int64_t capacity = pieces->capacity ? 2 * pieces->capacity : 64;
        struct dg_cpu_piece *list = realloc(pieces->list, (size_t)capacity * sizeof *pieces->list);
        if (!list)
            return dg_fail(DG_OUT_OF_MEMORY, "no memory for %lld groups of rows",
                           (long long)capacity);
        pieces->list = list;
        pieces->capacity = capacity;
    }
    pieces->list[pieces->count++] = piece;
    return DG_OK;
}

static int64_t clamp(int64_t value, int64_t most)
{
    return value < 0 ? 0 : value > most ? most : value;
}

// Runs of rows of one group.
static dg_status list_rows(const struct dg_problem *p, const int32_t *layout, int64_t num_rows,
                           struct dg_cpu_pieces *pieces)
{
    for (int64_t first = 0, row = 0; row < num_rows; first = row) {
        const int64_t group = layout[row] < 0 || layout[row] >= p->groups ? -1 : layout[row];
        for (row++; row < num_rows; row++)
            if (group < 0 ? layout[row] >= 0 && layout[row] < p->groups : layout[row] != group)
                break;
        DG_TRY(
            add(pieces, (struct dg_cpu_piece){
                            .group = group, .first_row = first, .rows = row - first, .k = p->k}));
    }
    return DG_OK;
}

static dg_status list_ends(const struct dg_problem *p, const int32_t *layout, int64_t num_rows,
                           struct dg_cpu_pieces *pieces)
{
    int64_t last_end = 0; // the largest so far: groups never overlap, whatever the layout says
    for (int64_t group = 0; group < p->groups; group++) {
        const int64_t first = dg_ceil_div(last_end, p->alignment) * p->alignment;
        const int64_t end = clamp(layout[group], num_rows);
        DG_TRY(
            add(pieces, (struct dg_cpu_piece){
                            .group = group, .first_row = first, .rows = end - first, .k = p->k}));
        last_end = end > last_end ? end : last_end;
    }
    return DG_OK;
}

static dg_status list_counts(const struct dg_problem *p, const int32_t *layout,
                             struct dg_cpu_pieces *pieces)
{
    for (int64_t group = 0; group < p->groups; group++)
        DG_TRY(add(pieces, (struct dg_cpu_piece){
                               .group = group, .rows = clamp(layout[group], p->m), .k = p->k}));
    return DG_OK;
}

static dg_status list_along_k(const struct dg_problem *p, const struct dg_grouped_args *args,
                              struct dg_cpu_pieces *pieces)
{
    int64_t first_k = 0, first_block = 0;
    for (int64_t group = 0; group < p->groups; group++) {
        int64_t k = args->layout[group];
        if (k < 0 || k % DG_GROUP_ALIGNMENT_K || k > p->k - first_k ||
            dg_ceil_div(k, DG_SCALE_K) > args->scale_columns - first_block)
            k = 0;
        DG_TRY(add(pieces, (struct dg_cpu_piece){.group = group,
                                                 .rows = p->m,
                                                 .first_k = first_k,
                                                 .k = k,
                                                 .first_block = first_block}));
        first_k += k;
        first_block += dg_ceil_div(k, DG_SCALE_K);
    }
    return DG_OK;
}

dg_status dg_cpu_pieces_list(const struct dg_problem *problem, const struct dg_grouped_args *args,
                             struct dg_cpu_pieces *pieces)
{
    *pieces = (struct dg_cpu_pieces){NULL, 0, 0};
    const int64_t rows = args->num_rows ? clamp(*args->num_rows, problem->m) : problem->m;
    dg_status status = DG_OK;
    switch (dg_problem_kind(problem)) {
    case DG_KIND_CONTIGUOUS:
        status = (problem->layout == DG_GROUP_ENDS ? list_ends : list_rows)(problem, args->layout,
                                                                            rows, pieces);
        break;
    case DG_KIND_MASKED:
        status = list_counts(problem, args->layout, pieces);
        break;
    default:
        status = list_along_k(problem, args, pieces);
    }
    if (status != DG_OK)
        dg_cpu_pieces_free(pieces);
    return status;
}

void dg_cpu_pieces_free(struct dg_cpu_pieces *pieces)
{
    free(pieces->list);
    *pieces = (struct dg_cpu_pieces){NULL, 0, 0};
}

// Moves a view to another origin; elements of `bytes`.
static void move(struct dg_matrix_view *view, size_t bytes, int64_t elements)
{
    if (view->data)
        view->data = (char *)view->data + elements * (int64_t)bytes;
}

void dg_cpu_piece_describe(const struct dg_problem *problem, const struct dg_grouped_args *args,
                           const struct dg_cpu_piece *piece, struct dg_problem *dense,
                           struct dg_gemm_args *operands)
{
    const int64_t group = piece->group < 0 ? 0 : piece->group, row = piece->first_row;
    const size_t element = dg_type_bytes(problem->d_type);
    struct dg_gemm_args *o = operands;
    *dense = *problem;
    dense->op = DG_OP_FP8_GEMM_NT;
    dense->m = piece->rows;
    dense->k = piece->group < 0 ? 0 : piece->k;
    *o = args->gemm;
    if (dense->k > 0) {
        if (args->is_flat) {
            move(&o->a, 1, problem->m * piece->first_k);
            move(&o->b, 1, problem->n * piece->first_k);
            o->a.row_stride = o->b.row_stride = piece->k;
        } else {
            move(&o->a, 1,
                 group * args->a_group + row * o->a.row_stride +
                     piece->first_k * o->a.column_stride);
            move(&o->b, 1, group * args->b_group + piece->first_k * o->b.column_stride);
        }
        move(&o->sfa, 4,
             group * args->sfa_group + row * o->sfa.row_stride +
                 piece->first_block * o->sfa.column_stride);
        move(&o->sfb, 4, group * args->sfb_group + piece->first_block * o->sfb.column_stride);
    }
    move(&o->c, element, group * args->c_group + row * o->c.row_stride);
    move(&o->d, element, group * args->d_group + row * o->d.row_stride);
}
