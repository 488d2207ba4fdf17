// SPDX-License-Identifier: MIT
// grouped_layout.h - is a grouped layout as the contract of include/deepgemm.h wants it?
#ifndef DG_API_GROUPED_LAYOUT_H
#define DG_API_GROUPED_LAYOUT_H

#include "deepgemm.h"

// `layout` in host memory, of the length that a complete problem asks for; scale_columns: of groups along k.
// DG_INVALID_ARGUMENT names the entry, its value and the rule.
dg_status dg_layout_check(const struct dg_problem *problem, const int32_t *layout, int32_t num_rows,
                          int64_t scale_columns);

#endif
