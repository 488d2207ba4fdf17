// SPDX-License-Identifier: MIT
// sm90_plan.h - which kernel runs a problem on a Hopper GPU.  Pure: numbers in, numbers out.
#ifndef DG_SM90_PLAN_H
#define DG_SM90_PLAN_H

#include "backend/sm90/sm90_kernel.h"
#include "plan/device.h"

dg_status dg_sm90_plan(const struct dg_problem *problem, const struct dg_device *device,
                       struct dg_plan *plan);
void dg_sm90_explain(const struct dg_problem *problem, const struct dg_device *device,
                     const struct dg_plan *plan, dg_fact_callback callback, void *user);

// The kernel of a plan when its scales lie as the problem says.
struct dg_sm90_kernel dg_sm90_kernel_of(const struct dg_problem *problem,
                                        const struct dg_plan *plan);

#endif
