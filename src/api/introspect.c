// SPDX-License-Identifier: MIT
// introspect.c - looking inside: version, facts about this machine, the plan of a problem.
#include "api/context.h"

#include "base/env.h"
#include "plan/problem.h"

#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *dg_version(void)
{
    return TEXT(DG_VERSION_MAJOR) "." TEXT(DG_VERSION_MINOR) "." TEXT(DG_VERSION_PATCH);
}

static void tell_backend(const struct dg_backend *backend, dg_fact_callback callback, void *user)
{
    const struct dg_context_options options = DG_CONTEXT_OPTIONS;
    struct dg_strbuf why_not = {0}, text = {0};
    if (!backend->available || backend->available(&options, &why_not))
        dg_strbuf_add(&text, "available");
    else
        dg_strbuf_add(&text, "not available: %s", dg_strbuf_text(&why_not));
    callback(user, "backends", backend->name, dg_strbuf_text(&text));
    dg_strbuf_free(&text);
    dg_strbuf_free(&why_not);
}

static void tell_environment(dg_fact_callback callback, void *user)
{
    for (int i = 0; i < DG_ENV_COUNT; i++) {
        const struct dg_env_variable *variable = dg_env_variable((enum dg_env)i);
        const char *value = dg_env_text((enum dg_env)i);
        char unset[160];
        snprintf(unset, sizeof unset, "(not set) %s", variable->meaning);
        callback(user, "environment", variable->name, value ? value : unset);
    }
}

dg_status dg_info(dg_fact_callback callback, void *user)
{
    if (!callback)
        return dg_fail(DG_INVALID_ARGUMENT, "callback is NULL");
    callback(user, "library", "version", dg_version());
    for (int i = 0; dg_backends[i]; i++)
        tell_backend(dg_backends[i], callback, user);
    for (int i = 0; dg_backends[i]; i++)
        if (dg_backends[i]->info)
            dg_backends[i]->info(callback, user);
    tell_environment(callback, user);
    return DG_OK;
}

// The checks and the plan that the functions below begin with.
static dg_status plan_problem(dg_context *context, const struct dg_problem *problem,
                              struct dg_problem *complete, struct dg_plan *plan)
{
    if (!context || !problem)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", context ? "problem" : "context");
    dg_status status = dg_problem_complete(problem, complete);
    if (status)
        return dg_fail_context(status, "problem");
    return dg_context_plan(context, complete, plan);
}

dg_status dg_explain(dg_context *context, const struct dg_problem *problem,
                     dg_fact_callback callback, void *user)
{
    struct dg_problem complete;
    struct dg_plan plan;
    if (!callback)
        return dg_fail(DG_INVALID_ARGUMENT, "callback is NULL");
    DG_TRY(plan_problem(context, problem, &complete, &plan));
    const struct dg_device device = dg_context_device(context);
    char line[256];
    dg_problem_format(&complete, line, sizeof line);
    dg_tell(callback, user, "problem", "line", "%s", line);
    dg_tell(callback, user, "problem", "flops", "%.6g",
            2.0 * dg_problem_expected_rows(&complete) * (double)complete.n *
                dg_problem_expected_k(&complete));
    dg_tell(callback, user, "device", "backend", "%s", context->backend->name);
    dg_tell(callback, user, "device", "name", "%s", device.name);
    dg_tell(callback, user, "plan", "kernel", "%s", dg_plan_kernel_name(plan.kernel));
    dg_tell(callback, user, "plan", "why", "%s", plan.why);
    dg_tell(callback, user, "plan", "workspace_bytes", "%lld", (long long)plan.workspace_bytes);
    if (plan.spare_bytes)
        dg_tell(callback, user, "plan", "spare_workspace_bytes", "%lld",
                (long long)plan.spare_bytes);
    if (context->backend->explain && plan.kernel > DG_KERNEL_FILL)
        context->backend->explain(&complete, &device, &plan, callback, user);
    return DG_OK;
}

dg_status dg_prepare(dg_context *context, const struct dg_problem *problem)
{
    struct dg_problem complete;
    struct dg_plan plan;
    DG_TRY(plan_problem(context, problem, &complete, &plan));
    if (plan.kernel == DG_KERNEL_NONE || !context->backend->prepare)
        return DG_OK;
    return context->backend->prepare(context->state, &complete, &plan);
}

dg_status dg_workspace_bytes(dg_context *context, const struct dg_problem *problem, size_t *bytes)
{
    struct dg_problem complete;
    struct dg_plan plan;
    if (!bytes)
        return dg_fail(DG_INVALID_ARGUMENT, "bytes is NULL");
    DG_TRY(plan_problem(context, problem, &complete, &plan));
    *bytes = (size_t)(plan.workspace_bytes + plan.spare_bytes);
    return DG_OK;
}
