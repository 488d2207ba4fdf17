// SPDX-License-Identifier: MIT
// grouped_layout.c - the rules of grouped layouts, entry by entry, for the debugging check.
#include "api/grouped_layout.h"

#include "base/error.h"
#include "base/overflow.h"
#include "plan/problem.h"

#define LL(x) ((long long)(x))

static dg_status check_index(const struct dg_problem *p, const int32_t *layout, int32_t num_rows)
{
    for (int64_t row = 0; row < num_rows; row++)
        if (layout[row] < -1 || layout[row] >= p->groups)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "layout[%lld] = %d: the group of row %lld must be 0 to %lld, or -1",
                           LL(row), (int)layout[row], LL(row), LL(p->groups - 1));
    return DG_OK;
}

static dg_status check_ends(const struct dg_problem *p, const int32_t *layout, int32_t num_rows)
{
    int64_t end = 0;
    for (int64_t group = 0; group < p->groups; group++) {
        if (layout[group] < 0 || layout[group] > num_rows)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "layout[%lld] = %d: the end of group %lld must be a row from 0 to %d",
                           LL(group), (int)layout[group], LL(group), (int)num_rows);
        if (layout[group] < end)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "layout[%lld] = %d: group %lld must not end before row %lld, where the "
                           "groups before it end",
                           LL(group), (int)layout[group], LL(group), LL(end));
        end = layout[group];
    }
    return DG_OK;
}

static dg_status check_counts(const struct dg_problem *p, const int32_t *layout)
{
    for (int64_t group = 0; group < p->groups; group++)
        if (layout[group] < 0 || layout[group] > p->m)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "layout[%lld] = %d: group %lld must have 0 to %lld rows", LL(group),
                           (int)layout[group], LL(group), LL(p->m));
    return DG_OK;
}

static dg_status check_along_k(const struct dg_problem *p, const int32_t *layout,
                               int64_t scale_columns)
{
    int64_t sum = 0, blocks = 0;
    for (int64_t group = 0; group < p->groups; group++) {
        if (layout[group] < 0 || layout[group] % DG_GROUP_ALIGNMENT_K)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "layout[%lld] = %d: k of group %lld must be a multiple of %d", LL(group),
                           (int)layout[group], LL(group), DG_GROUP_ALIGNMENT_K);
        sum += layout[group];
        blocks += dg_ceil_div(layout[group], DG_SCALE_K);
        if (sum > p->k || blocks > scale_columns)
            return dg_fail(DG_INVALID_ARGUMENT,
                           "layout[0] to layout[%lld] add up to %lld values in %lld blocks: the "
                           "operands have %lld in %lld",
                           LL(group), LL(sum), LL(blocks), LL(p->k), LL(scale_columns));
    }
    return DG_OK;
}

dg_status dg_layout_check(const struct dg_problem *problem, const int32_t *layout, int32_t num_rows,
                          int64_t scale_columns)
{
    if (num_rows < 0 || num_rows > problem->m)
        return dg_fail(DG_INVALID_ARGUMENT, "*options.num_rows = %d: must be 0 to %lld",
                       (int)num_rows, LL(problem->m));
    switch (dg_problem_kind(problem)) {
    case DG_KIND_CONTIGUOUS:
        return problem->layout == DG_GROUP_ENDS ? check_ends(problem, layout, num_rows)
                                                : check_index(problem, layout, num_rows);
    case DG_KIND_MASKED:
        return check_counts(problem, layout);
    case DG_KIND_K_GROUPED:
        return check_along_k(problem, layout, scale_columns);
    default:
        return dg_fail(DG_INTERNAL, "a layout of a problem without groups");
    }
}
