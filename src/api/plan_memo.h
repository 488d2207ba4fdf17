// SPDX-License-Identifier: MIT
// plan_memo.h - remembers plans, so that a repeated call costs a look-up.  Fixed memory; old plans
// make room for new ones.  Readers take no lock.
#ifndef DG_API_PLAN_MEMO_H
#define DG_API_PLAN_MEMO_H

#include "plan/plan.h"

#include <stdbool.h>

// A plan is a function of these; compared bit for bit, so the problem must be complete (problem.h).
struct dg_plan_key {
    struct dg_problem problem;
    int64_t num_sms;
};

struct dg_plan_memo;

struct dg_plan_memo *dg_plan_memo_create(void); // NULL: no memory
void dg_plan_memo_destroy(struct dg_plan_memo *memo);

bool dg_plan_memo_find(struct dg_plan_memo *memo, const struct dg_plan_key *key,
                       struct dg_plan *plan);
void dg_plan_memo_store(struct dg_plan_memo *memo, const struct dg_plan_key *key,
                        const struct dg_plan *plan);

#endif
