// SPDX-License-Identifier: MIT
// cpu_pieces.h - a grouped problem as a list of dense ones.
//
// A piece is some rows of D (and, for groups along k, a range of k) that one dense product makes.  What a
// layout says is cut here to what the operands have, so that a piece never leaves them.
#ifndef DG_CPU_PIECES_H
#define DG_CPU_PIECES_H

#include "backend/backend.h"

struct dg_cpu_piece {
    int64_t group; // -1: rows of no group, which are D = C or zeros
    int64_t first_row, rows;
    int64_t first_k, k, first_block; // first_block: of k, among the scales
};

struct dg_cpu_pieces {
    struct dg_cpu_piece *list;
    int64_t count, capacity;
};

// DG_OUT_OF_MEMORY leaves nothing to free.
dg_status dg_cpu_pieces_list(const struct dg_problem *problem, const struct dg_grouped_args *args,
                             struct dg_cpu_pieces *pieces);
void dg_cpu_pieces_free(struct dg_cpu_pieces *pieces);

// The dense problem of a piece, with k == 0 where D = C or zeros, and its operands.
void dg_cpu_piece_describe(const struct dg_problem *problem, const struct dg_grouped_args *args,
                           const struct dg_cpu_piece *piece, struct dg_problem *dense,
                           struct dg_gemm_args *operands);

#endif
