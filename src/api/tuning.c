// SPDX-License-Identifier: MIT
// tuning.c - a context's table of measured winners, and the candidates that they are chosen from.
//
// A table that was replaced lives on until the context ends: another thread may be planning with it.
#include "api/context.h"

#include "base/env.h"
#include "base/file.h"
#include "plan/problem.h"
#include "plan/tuning.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct dg_tuning_link {
    struct dg_tuning *tuning;
    struct dg_tuning_link *older;
};

static dg_status use(dg_context *context, struct dg_tuning *tuning)
{
    struct dg_tuning_link *link = malloc(sizeof *link);
    if (!link) {
        dg_tuning_destroy(tuning);
        return dg_fail(DG_OUT_OF_MEMORY, "tuning table: host memory ran out");
    }
    link->tuning = tuning;
    link->older = atomic_load(&context->tuning);
    while (!atomic_compare_exchange_weak(&context->tuning, &link->older, link))
        ;
    return DG_OK;
}

const struct dg_tuning *dg_context_tuning(dg_context *context)
{
    const struct dg_tuning_link *link =
        atomic_load_explicit(&context->tuning, memory_order_acquire);
    return link ? link->tuning : NULL;
}

void dg_context_forget_tuning(dg_context *context)
{
    struct dg_tuning_link *link = atomic_load(&context->tuning);
    while (link) {
        struct dg_tuning_link *older = link->older;
        dg_tuning_destroy(link->tuning);
        free(link);
        link = older;
    }
}

dg_status dg_context_set_tuning(dg_context *context, const char *text)
{
    struct dg_tuning *tuning = NULL;
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    if (text)
        DG_TRY(dg_tuning_parse("text", text, &tuning));
    return use(context, tuning);
}

// ---- files ----------------------------------------------------------------------------------------

static dg_status load(dg_context *context, const char *path)
{
    struct dg_strbuf text = {0};
    struct dg_tuning *tuning;
    dg_status status = dg_file_read(path, &text);
    if (status == DG_OK)
        status = dg_tuning_parse(path, dg_strbuf_text(&text), &tuning);
    dg_strbuf_free(&text);
    return status == DG_OK ? use(context, tuning) : status;
}

dg_status dg_context_load_tuning(dg_context *context, const struct dg_context_options *options)
{
    if (options->tuning_file) {
        const dg_status status = load(context, options->tuning_file);
        return status == DG_OK ? DG_OK : dg_fail_context(status, "options.tuning_file");
    }
    // Whoever has a log of his own is told each time, standard error once.
    static atomic_flag has_warned = ATOMIC_FLAG_INIT;
    const char *path = dg_env_text(DG_ENV_TUNING_FILE);
    if (path && load(context, path) != DG_OK &&
        (options->log || !atomic_flag_test_and_set(&has_warned)))
        dg_log_write(&context->log, DG_LOG_WARNING, "$DG_TUNING_FILE is left aside: %s",
                     dg_last_error());
    return DG_OK;
}

// ---- candidates -----------------------------------------------------------------------------------

struct telling {
    dg_fact_callback callback;
    void *user;
};

static dg_status tell_candidate(void *user, const char *name, const struct dg_plan *plan)
{
    const struct telling *telling = user;
    char us[32];
    snprintf(us, sizeof us, "%.3f", plan->predicted_us);
    telling->callback(telling->user, "candidate", name, us);
    return DG_OK;
}

dg_status dg_candidates(dg_context *context, const struct dg_problem *problem,
                        dg_fact_callback callback, void *user)
{
    struct telling telling = {callback, user};
    struct dg_problem complete;
    struct dg_plan plan;
    if (!context || !problem || !callback)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL",
                       !context   ? "context"
                       : !problem ? "problem"
                                  : "callback");
    const dg_status status = dg_problem_complete(problem, &complete);
    if (status != DG_OK)
        return dg_fail_context(status, "problem");
    DG_TRY(dg_context_plan(context, &complete, &plan)); // refuses what cannot run at all
    if (plan.kernel <= DG_KERNEL_FILL || !context->backend->candidates)
        return DG_OK;
    const struct dg_device device = dg_context_device(context);
    return context->backend->candidates(&complete, &device, tell_candidate, &telling);
}
