// SPDX-License-Identifier: MIT
// plan_memo.h - remembers plans, so that a repeated call costs a look-up: base/memo.h with its types.
#ifndef DG_API_PLAN_MEMO_H
#define DG_API_PLAN_MEMO_H

#include "base/memo.h"
#include "plan/plan.h"

#include <stdint.h>

// A plan is a function of these; compared bit for bit, so the problem must be complete (problem.h).
struct dg_plan_key {
    struct dg_problem problem;
    int64_t num_sms;
    const void *tuning; // the table of measured winners
};
_Static_assert(sizeof(struct dg_plan_key) % 8 == 0 && sizeof(struct dg_plan) % 8 == 0,
               "a memo takes whole words");

static inline struct dg_memo *dg_plan_memo_create(void) // NULL: no memory
{
    return dg_memo_create(256, sizeof(struct dg_plan_key), sizeof(struct dg_plan));
}

static inline bool dg_plan_memo_find(struct dg_memo *memo, const struct dg_plan_key *key,
                                     struct dg_plan *plan)
{
    return dg_memo_find(memo, key, plan);
}

static inline void dg_plan_memo_store(struct dg_memo *memo, const struct dg_plan_key *key,
                                      const struct dg_plan *plan)
{
    dg_memo_store(memo, key, plan);
}

#endif
