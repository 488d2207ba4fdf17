// SPDX-License-Identifier: MIT
// sm90_plan.h - which kernel runs a problem on a Hopper GPU.  Pure: numbers in, numbers out.
#ifndef DG_SM90_PLAN_H
#define DG_SM90_PLAN_H

#include "backend/backend.h"
#include "backend/sm90/sm90_kernel.h"
#include "plan/device.h"

// The cost model's choice, or a measured winner's of the list in the library.
dg_status dg_sm90_plan(const struct dg_problem *problem, const struct dg_device *device,
                       struct dg_plan *plan);
// The same where TMA does not take the scales, and they are not copied.
dg_status dg_sm90_plan_any_layout(const struct dg_problem *problem, const struct dg_device *device,
                                  struct dg_plan *plan);
// A plan for every tile that could run the problem, told until the visitor returns something else than DG_OK.
typedef dg_status (*dg_sm90_visit_plan)(void *user, const struct dg_plan *plan);
dg_status dg_sm90_plan_each(const struct dg_problem *problem, const struct dg_device *device,
                            dg_sm90_visit_plan visit, void *user);

// What dense and grouped plans have in common.  The kernels count tiles and rows in 32 bits.
dg_status dg_sm90_check_sizes(const struct dg_problem *problem);
// Must a copy stand in for a matrix of these rows?  One row is contiguous whatever its stride.
int dg_sm90_is_repacked(dg_major major, int64_t rows, int64_t ld);
// Where in a workspace copies of scales are, of which `begin` bytes have another use.
struct dg_sm90_scale_places {
    int64_t sfa, sfb, end;
};
struct dg_sm90_scale_places dg_sm90_scale_places(const struct dg_problem *problem, int64_t begin);

// sm90_tuned.c: the same for the backend table: with the device's tuning table, and with names.
dg_status dg_sm90_plan_tuned(const struct dg_problem *problem, const struct dg_device *device,
                             struct dg_plan *plan);
dg_status dg_sm90_candidates(const struct dg_problem *problem, const struct dg_device *device,
                             dg_candidate_visit visit, void *user);
// The facts that plans of dense and grouped products share.
void dg_sm90_explain_launch(const struct dg_plan *plan, int32_t smem_bytes, int scales_tma,
                            dg_fact_callback callback, void *user);
void dg_sm90_explain(const struct dg_problem *problem, const struct dg_device *device,
                     const struct dg_plan *plan, dg_fact_callback callback, void *user);

// The kernel of a plan when its scales lie as the problem says.
struct dg_sm90_kernel dg_sm90_kernel_of(const struct dg_problem *problem,
                                        const struct dg_plan *plan);

#endif
