// SPDX-License-Identifier: MIT
// recorder.h - a backend that writes down what it was asked to do and touches no memory: the tests of
// the api layer see exactly what passes the checks, on an invented device.
#ifndef DG_TESTS_RECORDER_H
#define DG_TESTS_RECORDER_H

#include "api/context.h"
#include "plan/problem.h"

#include <string.h>

static struct recorded {
    int opens, closes, plans, prepares, gemms, quantizes, dequantizes;
    struct dg_problem problem;
    struct dg_plan plan;
    struct dg_device device; // as the last plan saw it
    struct dg_gemm_args gemm;
    struct dg_quantize_args quantize;
    int64_t workspace_bytes;  // that plans ask for
    enum dg_device_kind kind; // of the invented device
    dg_status open_status, plan_status, gemm_status;
} recorded;

static dg_status recorder_open(const struct dg_context_options *options, const struct dg_log *log,
                               struct dg_device *device, void **state)
{
    recorded.opens++;
    if (recorded.open_status)
        return dg_fail(recorded.open_status, "the recorder was told to fail in open");
    memset(device, 0, sizeof *device);
    device->kind = recorded.kind;
    strcpy(device->name, "invented");
    device->num_sms = device->all_sms = recorded.kind == DG_DEVICE_CUDA ? 132 : 0;
    *state = &recorded;
    return DG_OK;
}

static void recorder_close(void *state)
{
    recorded.closes += state == &recorded;
}

static dg_status recorder_plan(const struct dg_problem *problem, const struct dg_device *device,
                               struct dg_plan *plan)
{
    recorded.plans++;
    recorded.device = *device;
    if (recorded.plan_status)
        return dg_fail(recorded.plan_status, "the recorder was told to fail in plan");
    plan->kernel = DG_KERNEL_SM90_GEMM;
    plan->num_ctas = device->num_sms;
    plan->workspace_bytes = recorded.workspace_bytes;
    strcpy(plan->why, "recorder");
    return DG_OK;
}

static void recorder_explain(const struct dg_problem *problem, const struct dg_device *device,
                             const struct dg_plan *plan, dg_fact_callback callback, void *user)
{
    callback(user, "plan", "recorder", "explains");
}

static dg_status recorder_prepare(void *state, const struct dg_problem *problem,
                                  const struct dg_plan *plan)
{
    recorded.prepares++;
    recorded.problem = *problem;
    recorded.plan = *plan;
    return DG_OK;
}

static dg_status recorder_gemm(void *state, const struct dg_problem *problem,
                               const struct dg_plan *plan, const struct dg_gemm_args *args)
{
    recorded.gemms++;
    recorded.problem = *problem;
    recorded.plan = *plan;
    recorded.gemm = *args;
    if (recorded.gemm_status)
        return dg_fail(recorded.gemm_status, "the recorder was told to fail in gemm");
    return DG_OK;
}

static dg_status recorder_quantize(void *state, const struct dg_quantize_args *args)
{
    recorded.quantizes++;
    recorded.quantize = *args;
    return DG_OK;
}

static dg_status recorder_dequantize(void *state, const struct dg_quantize_args *args)
{
    recorded.dequantizes++;
    recorded.quantize = *args;
    return DG_OK;
}

static const struct dg_backend recorder_backend = {
    .name = "recorder",
    .open = recorder_open,
    .close = recorder_close,
    .plan = recorder_plan,
    .explain = recorder_explain,
    .prepare = recorder_prepare,
    .gemm = recorder_gemm,
    .quantize = recorder_quantize,
    .dequantize = recorder_dequantize,
};

// A context on the recorder; NULL is a failed test by itself, as every use of it is refused.
__attribute__((unused)) static dg_context *recorder_context(enum dg_device_kind kind)
{
    dg_context *context = NULL;
    const struct dg_context_options options = DG_CONTEXT_OPTIONS;
    memset(&recorded, 0, sizeof recorded);
    recorded.kind = kind;
    dg_context_open(&context, &recorder_backend, &options);
    return context;
}

// Does the last error hold every one of the texts?  The list ends with NULL.
__attribute__((unused)) static int error_has(const char *const *texts)
{
    for (; *texts; texts++)
        if (!strstr(dg_last_error(), *texts))
            return 0;
    return 1;
}
#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
