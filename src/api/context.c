// SPDX-License-Identifier: MIT
// context.c - makes and ends contexts, chooses their backend, and plans with a memo.  No state
// outside the contexts themselves.
#include "api/context.h"

#include "base/env.h"
#include "plan/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- options ---

dg_status dg_options_read(const char *name, const void *options, void *defaults, size_t size)
{
    enum { LARGEST = 4096 };
    size_t given;
    memcpy(&given, options, sizeof given);
    if (given < 2 * sizeof given || given > LARGEST || given % sizeof(void *))
        return dg_fail(
            DG_INVALID_ARGUMENT,
            "%s.struct_size = %zu: must be the sizeof of the struct, here %zu; begin with "
            "the initialiser in deepgemm.h",
            name, given, size);
    for (size_t i = size; i < given; i++)
        if (((const char *)options)[i])
            return dg_fail(DG_UNSUPPORTED,
                           "%s.struct_size = %zu: byte %zu is set, but version %s knows %zu bytes",
                           name, given, i, dg_version(), size);
    memcpy(defaults, options, given < size ? given : size);
    memcpy(defaults, &size, sizeof size);
    return DG_OK;
}

dg_status dg_check_gemm_flags(const char *name, uint32_t flags)
{
    const uint32_t all = DG_GEMM_PDL | DG_GEMM_PDL_PREFETCH_B | DG_GEMM_BATCH_INVARIANT;
    if (flags & ~all)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s = 0x%x: only the bits 0x%x (DG_GEMM_...) are defined", name,
                       (unsigned)flags, (unsigned)all);
    if ((flags & DG_GEMM_PDL_PREFETCH_B) && !(flags & DG_GEMM_PDL))
        return dg_fail(DG_INVALID_ARGUMENT, "%s = 0x%x: DG_GEMM_PDL_PREFETCH_B needs DG_GEMM_PDL",
                       name, (unsigned)flags);
    return DG_OK;
}

static dg_status check_options(const struct dg_context_options *options)
{
    if (options->device < -1)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "options.device = %d: must be a device ordinal, or -1 for the current one",
                       (int)options->device);
    if (options->num_sms < 0)
        return dg_fail(DG_INVALID_ARGUMENT, "options.num_sms = %d: must not be negative",
                       (int)options->num_sms);
    if (options->num_threads < 0)
        return dg_fail(DG_INVALID_ARGUMENT, "options.num_threads = %d: must not be negative",
                       (int)options->num_threads);
    if ((unsigned)options->log_level > DG_LOG_DEBUG)
        return dg_fail(DG_INVALID_ARGUMENT, "options.log_level = %d: must be from 0 to %d",
                       (int)options->log_level, DG_LOG_DEBUG);
    return dg_check_gemm_flags("options.gemm_flags", options->gemm_flags);
}

// --- choice of the backend ---

static int is_available(const struct dg_backend *backend, const struct dg_context_options *options,
                        struct dg_strbuf *why_not)
{
    if (options->device_profile) {
        if (!backend->planner)
            dg_strbuf_add(why_not, "it has no profiles of devices");
        return backend->planner != NULL;
    }
    return !backend->available || backend->available(options, why_not);
}

static dg_status choose_by_name(const char *source, const char *name,
                                const struct dg_context_options *options,
                                const struct dg_backend **chosen)
{
    char known[128] = "";
    for (int i = 0; dg_backends[i]; i++) {
        if (!strcmp(dg_backends[i]->name, name)) {
            *chosen = dg_backends[i];
            struct dg_strbuf why_not = {0};
            dg_status status = DG_OK;
            if (!is_available(*chosen, options, &why_not))
                status = dg_fail(DG_NO_DEVICE, "%s = `%s`: cannot run here: %s", source, name,
                                 dg_strbuf_text(&why_not));
            dg_strbuf_free(&why_not);
            return status;
        }
        size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, "%s%s", i ? ", " : "",
                 dg_backends[i]->name);
    }
    return dg_fail(DG_INVALID_ARGUMENT, "%s = `%.60s`: must be one of %s", source, name, known);
}

static dg_status choose_first(const struct dg_context_options *options,
                              const struct dg_backend **chosen)
{
    struct dg_strbuf reasons = {0};
    for (int i = 0; dg_backends[i]; i++) {
        struct dg_strbuf why_not = {0};
        int usable = dg_backends[i]->is_default && is_available(dg_backends[i], options, &why_not);
        if (usable)
            *chosen = dg_backends[i];
        else if (dg_backends[i]->is_default)
            dg_strbuf_add(&reasons, "%s%s: %s", reasons.length ? "; " : "", dg_backends[i]->name,
                          dg_strbuf_text(&why_not));
        dg_strbuf_free(&why_not);
        if (usable)
            break;
    }
    dg_status status = DG_OK;
    if (!*chosen)
        status = dg_fail(DG_NO_DEVICE, "no backend can run here: %s", dg_strbuf_text(&reasons));
    dg_strbuf_free(&reasons);
    return status;
}

static dg_status choose_backend(const struct dg_context_options *options,
                                const struct dg_backend **chosen)
{
    *chosen = NULL;
    if (options->backend)
        return choose_by_name("options.backend", options->backend, options, chosen);
    const char *name = dg_env_text(DG_ENV_BACKEND);
    return name ? choose_by_name("$DG_BACKEND", name, options, chosen)
                : choose_first(options, chosen);
}

// A profile stands in for the backend that $DG_BACKEND might ask for, but not for one in the options.
static dg_status choose_planner(const struct dg_context_options *options,
                                const struct dg_backend **chosen)
{
    *chosen = NULL;
    DG_TRY(options->backend ? choose_by_name("options.backend", options->backend, options, chosen)
                            : choose_first(options, chosen));
    *chosen = (*chosen)->planner;
    return DG_OK;
}

// --- life ---

static dg_status bound_sms(dg_context *context, const char *name, int32_t num_sms)
{
    int32_t most = context->device.kind == DG_DEVICE_CUDA ? context->device.all_sms : 0;
    if (num_sms < 0 || num_sms > most)
        return dg_fail(DG_INVALID_ARGUMENT, "%s = %d: must be from 0 to %d%s", name, (int)num_sms,
                       (int)most, most ? ", the device's SMs" : ", as a CPU has no SMs");
    atomic_store(&context->num_sms, num_sms ? num_sms : most);
    return DG_OK;
}

dg_status dg_context_open(dg_context **context, const struct dg_backend *backend,
                          const struct dg_context_options *options)
{
    *context = NULL;
    dg_context *made = calloc(1, sizeof *made);
    struct dg_memo *memo = dg_plan_memo_create();
    dg_status status = DG_OK;
    if (!made || !memo) {
        dg_memo_destroy(memo);
        free(made);
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a context");
    }
    made->backend = backend;
    made->memo = memo;
    made->log = dg_log_open(options);
    made->gemm_flags = options->gemm_flags;
    made->checks_layouts = dg_env_number(DG_ENV_DEBUG_LAYOUTS, 0) != 0;
    status = backend->open(options, &made->log, &made->device, &made->state);
    if (!status)
        status = bound_sms(made, "options.num_sms", options->num_sms);
    if (!status)
        status = dg_context_load_tuning(made, options);
    if (status)
        dg_context_destroy(made);
    else
        *context = made;
    return status;
}

dg_status dg_context_create(dg_context **context, const struct dg_context_options *options)
{
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL: must point to where it is stored");
    *context = NULL;
    struct dg_context_options complete = DG_CONTEXT_OPTIONS;
    const struct dg_backend *backend;
    if (options)
        DG_TRY(dg_options_read("options", options, &complete, sizeof complete));
    DG_TRY(check_options(&complete));
    DG_TRY(complete.device_profile ? choose_planner(&complete, &backend)
                                   : choose_backend(&complete, &backend));
    return dg_context_open(context, backend, &complete);
}

void dg_context_destroy(dg_context *context)
{
    if (!context)
        return;
    if (context->backend->close)
        context->backend->close(context->state);
    dg_memo_destroy(context->memo);
    dg_context_forget_tuning(context);
    free(context);
}

const char *dg_context_backend(const dg_context *context)
{
    return context ? context->backend->name : "none";
}

dg_status dg_context_set_num_sms(dg_context *context, int32_t num_sms)
{
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    return bound_sms(context, "num_sms", num_sms);
}

int32_t dg_context_num_sms(const dg_context *context)
{
    return context ? atomic_load(&((dg_context *)context)->num_sms) : 0;
}

// --- plans ---

static void add_fact(void *user, const char *section, const char *key, const char *value)
{
    dg_strbuf_add(user, " %s=%s", key, value);
}

static void log_plan(const dg_context *context, const struct dg_problem *problem,
                     const struct dg_device *device, const struct dg_plan *plan)
{
    dg_log_level level = dg_env_number(DG_ENV_PRINT_CONFIGS, 0) ? DG_LOG_INFO : DG_LOG_DEBUG;
    if (!context->log.callback || level > context->log.level)
        return;
    char line[256];
    struct dg_strbuf facts = {0};
    dg_problem_format(problem, line, sizeof line);
    if (context->backend->explain && plan->kernel > DG_KERNEL_FILL)
        context->backend->explain(problem, device, plan, add_fact, &facts);
    dg_log_write(&context->log, level, "plan: %s: %s (%s)%s", line,
                 dg_plan_kernel_name(plan->kernel), plan->why, dg_strbuf_text(&facts));
    dg_strbuf_free(&facts);
}

struct dg_device dg_context_device(dg_context *context)
{
    struct dg_device device = context->device;
    device.num_sms = dg_context_num_sms(context);
    device.tuning = dg_context_tuning(context);
    return device;
}

dg_status dg_context_plan(dg_context *context, const struct dg_problem *problem,
                          struct dg_plan *plan)
{
    struct dg_plan_key key;
    memcpy(&key.problem, problem, sizeof key.problem); // padding too
    key.num_sms = atomic_load_explicit(&context->num_sms, memory_order_relaxed);
    key.tuning = dg_context_tuning(context);
    if (dg_plan_memo_find(context->memo, &key, plan))
        return DG_OK;
    struct dg_device device = context->device;
    device.num_sms = (int32_t)key.num_sms;
    device.tuning = key.tuning;
    if (problem->d_type == DG_F64 && strcmp(context->backend->name, "oracle"))
        return dg_fail(DG_UNSUPPORTED, "d.type = f64: only the oracle backend writes it, not %s",
                       context->backend->name);
    DG_TRY(dg_plan_make(context->backend->plan, problem, &device, plan));
    dg_plan_memo_store(context->memo, &key, plan);
    log_plan(context, problem, &device, plan);
    return DG_OK;
}

dg_status dg_context_check_workspace(const struct dg_plan *plan, size_t workspace_bytes)
{
    if ((uint64_t)plan->workspace_bytes <= workspace_bytes)
        return DG_OK;
    return dg_fail(DG_INVALID_ARGUMENT,
                   "options.workspace_bytes = %zu: this problem needs %lld on this backend; see "
                   "dg_workspace_bytes()",
                   workspace_bytes, (long long)plan->workspace_bytes);
}
