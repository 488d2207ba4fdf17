// SPDX-License-Identifier: MIT
// problem.h - one problem, one spelling.  Everything that is keyed or compared works on a complete
// problem: defaults filled in, padding zeroed, and strides that no element uses replaced by "no
// gap", so that the call, the line of text and the struct of the same problem agree bit for bit.
#ifndef DG_PLAN_PROBLEM_H
#define DG_PLAN_PROBLEM_H

#include "deepgemm.h"

#include <stdbool.h>
#include <stdint.h>

enum { DG_SCALE_K = 128 }; // values along k that share a scale

enum dg_op_kind {
    DG_KIND_DENSE = 0,
    DG_KIND_CONTIGUOUS, // rows of all groups in one matrix
    DG_KIND_MASKED,     // room for m rows for each group
    DG_KIND_K_GROUPED,  // groups along k
};

struct dg_op_facts {
    const char *name;  // "fp8_gemm_nt"
    bool a_transposed; // a.values is [k, m]
    bool b_transposed; // b.values is [k, n]
    enum dg_op_kind kind;
    const char *function; // what follows dg_ in the name of the function; NULL: `name`
};

// NULL for DG_OP_NONE and unknown values.
const struct dg_op_facts *dg_problem_op(dg_op op);

static inline enum dg_op_kind dg_problem_kind(const struct dg_problem *problem)
{
    return dg_problem_op(problem->op)->kind;
}

// Where the beginning of a group is rounded up to when nothing else is said.
enum { DG_GROUP_ALIGNMENT = 128, DG_GROUP_ALIGNMENT_K = 32, DG_MAX_GROUPS = 1 << 20 };

// Rows of D in all groups together that a problem is expected to have, and values of k of each.
static inline double dg_problem_expected_rows(const struct dg_problem *p)
{
    const enum dg_op_kind kind = dg_problem_kind(p);
    if (kind == DG_KIND_DENSE)
        return (double)p->m;
    return kind == DG_KIND_K_GROUPED ? (double)p->groups * (double)p->m
                                     : (double)p->groups * (double)p->expected_m;
}

static inline double dg_problem_expected_k(const struct dg_problem *p)
{
    return dg_problem_kind(p) == DG_KIND_K_GROUPED ? (double)p->expected_m : (double)p->k;
}

// Checks every field and fills in what was left 0: types, sfb_block_n, strides.
// `complete` may be `problem`; it is not written on failure.
dg_status dg_problem_complete(const struct dg_problem *problem, struct dg_problem *complete);

// Replaces strides that no element uses: "no gap", K-major where both majors describe the same
// bytes.
static inline void dg_layout_normalise(int64_t rows, int64_t columns, int64_t *row_stride,
                                       int64_t *column_stride)
{
    if (rows == 0 || columns <= 1)
        *column_stride = 1;
    if (rows == 0 || columns == 0 || (rows == 1 && *column_stride == 1))
        *row_stride = columns;
    else if (rows == 1)
        *row_stride = 1;
}

// The major of normalised strides.
static inline dg_major dg_layout_major(int64_t column_stride)
{
    return column_stride == 1 ? DG_K_MAJOR : DG_MN_MAJOR;
}

#endif
