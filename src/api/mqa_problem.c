// SPDX-License-Identifier: MIT
// mqa_problem.c - MQA logits described by their sizes: making ready, and telling what would run.
#include "api/context.h"

#include <stdio.h>

#define LL(x) ((long long)(x))

static dg_status check_floats(const char *name, dg_type type)
{
    if (type == DG_F32 || type == DG_BF16)
        return DG_OK;
    return dg_fail(DG_INVALID_ARGUMENT, "problem.%s = %s (%d): must be f32 or bf16", name,
                   dg_type_name(type), (int)type);
}

static dg_status check_sizes(const struct dg_mqa_problem *p)
{
    const struct {
        const char *name;
        int64_t value, least;
    } sizes[] = {{"rows", p->rows, 0},   {"columns", p->columns, 0}, {"num_kv", p->num_kv, 0},
                 {"heads", p->heads, 1}, {"depth", p->depth, 1},     {"next_n", p->next_n, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < sizes[i].least)
            return dg_fail(DG_INVALID_ARGUMENT, "problem.%s = %lld: must be at least %lld",
                           sizes[i].name, LL(sizes[i].value), LL(sizes[i].least));
    if (p->next_n > 0 && p->rows % p->next_n)
        return dg_fail(DG_INVALID_ARGUMENT, "problem.rows = %lld: must be a multiple of next_n, %d",
                       LL(p->rows), (int)p->next_n);
    return DG_OK;
}

static dg_status read_problem(dg_context *context, const struct dg_mqa_problem *problem,
                              struct dg_mqa_problem *complete)
{
    *complete = (struct dg_mqa_problem){.struct_size = sizeof *complete};
    if (!context || !problem)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", context ? "problem" : "context");
    DG_TRY(dg_options_read("problem", problem, complete, sizeof *complete));
    DG_TRY(check_sizes(complete));
    DG_TRY(check_floats("weights_type", complete->weights_type));
    return check_floats("logits_type", complete->logits_type);
}

dg_status dg_mqa_prepare(dg_context *context, const struct dg_mqa_problem *problem)
{
    struct dg_mqa_problem complete;
    DG_TRY(read_problem(context, problem, &complete));
    return context->backend->mqa_prepare ? context->backend->mqa_prepare(context->state, &complete)
                                         : DG_OK;
}

dg_status dg_mqa_explain(dg_context *context, const struct dg_mqa_problem *problem,
                         dg_fact_callback callback, void *user)
{
    struct dg_mqa_problem complete;
    char text[32];
    if (!callback)
        return dg_fail(DG_INVALID_ARGUMENT, "callback is NULL");
    DG_TRY(read_problem(context, problem, &complete));
    const struct dg_device device = dg_context_device(context);
    const double products = (double)complete.rows * (double)complete.columns * complete.heads;
    snprintf(text, sizeof text, "%.6g", 2 * products * complete.depth);
    callback(user, "problem", "flops_at_most", text);
    callback(user, "device", "backend", context->backend->name);
    callback(user, "device", "name", device.name);
    return context->backend->mqa_explain
               ? context->backend->mqa_explain(&complete, &device, callback, user)
               : DG_OK;
}
