// SPDX-License-Identifier: MIT
// sm90_tuned.c - candidates by name, and the choice among them where the device's tuning table has one.
#include "backend/sm90/sm90_grouped.h"
#include "plan/problem.h"
#include "plan/tuning.h"

#include <stdio.h>
#include <string.h>

struct naming {
    dg_candidate_visit visit;
    void *user;
};

static dg_status name_plan(void *user, const struct dg_plan *plan)
{
    const struct naming *naming = user;
    char name[96];
    dg_sm90_config_text(&plan->sm90, name, sizeof name);
    return naming->visit(naming->user, name, plan);
}

dg_status dg_sm90_candidates(const struct dg_problem *problem, const struct dg_device *device,
                             dg_candidate_visit visit, void *user)
{
    struct naming naming = {visit, user};
    return (dg_problem_kind(problem) == DG_KIND_DENSE
                ? dg_sm90_plan_each
                : dg_sm90_grouped_plan_each)(problem, device, name_plan, &naming);
}

struct search {
    const char *name;
    struct dg_plan *plan; // NONE until it is found
};

static dg_status take_if_named(void *user, const char *name, const struct dg_plan *plan)
{
    const struct search *search = user;
    if (!strcmp(name, search->name))
        *search->plan = *plan;
    return DG_OK;
}

dg_status dg_sm90_plan_tuned(const struct dg_problem *problem, const struct dg_device *device,
                             struct dg_plan *plan)
{
    struct dg_plan named = {.kernel = DG_KERNEL_NONE};
    const struct search search = {dg_tuning_find(device, problem), &named};
    if (search.name)
        DG_TRY(dg_sm90_candidates(problem, device, take_if_named, (void *)&search));
    if (named.kernel == DG_KERNEL_NONE) {
        DG_TRY((dg_problem_kind(problem) == DG_KIND_DENSE ? dg_sm90_plan : dg_sm90_grouped_plan)(
            problem, device, plan));
        if (search.name) // the table is of other kernels than this library has
            snprintf(plan->why, sizeof plan->why, "the tuning table's `%.40s` is no candidate",
                     search.name);
        return DG_OK;
    }
    *plan = named;
    snprintf(plan->why, sizeof plan->why, "tuning table");
    return DG_OK;
}
