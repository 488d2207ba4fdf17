// SPDX-License-Identifier: MIT
// sm90_backend.c - the row of the backend table for Hopper GPUs (compute capability 9.0).
#include "backend/sm90/sm90_gemm.h"
#include "backend/sm90/sm90_grouped.h"
#include "backend/sm90/sm90_mqa.h"
#include "backend/sm90/sm90_plan.h"
#include "cuda/device.h"
#include "plan/problem.h"

#include <stdio.h>
#include <stdlib.h>

static int pick_device(const struct dg_cuda *cuda, const struct dg_context_options *options)
{
    CUcontext current = NULL;
    CUdevice device = 0;
    if (options->device >= 0)
        return options->device;
    if (cuda->cuCtxGetCurrent(&current) == CUDA_SUCCESS && current &&
        cuda->cuCtxGetDevice(&device) == CUDA_SUCCESS)
        return (int)device;
    return 0;
}

static int available(const struct dg_context_options *options, struct dg_strbuf *why_not)
{
    struct dg_device device;
    const struct dg_cuda *cuda = dg_cuda_driver(why_not);
    if (!cuda)
        return 0;
    const int ordinal = pick_device(cuda, options);
    if (dg_cuda_device_facts(cuda, ordinal, &device) != DG_OK) {
        dg_strbuf_add(why_not, "%s", dg_last_error());
        return 0;
    }
    if (device.arch == 90)
        return 1;
    dg_strbuf_add(why_not,
                  "CUDA device %d (%s) has compute capability %d.%d: this backend supports 9.0 "
                  "(H100, H200, H800, H20, "
                  "GH200); the \"cpu\" backend runs anywhere",
                  ordinal, device.name, device.arch / 10, device.arch % 10);
    return 0;
}

static void close_state(void *user)
{
    struct dg_sm90_state *state = user;
    if (!state)
        return;
    dg_jit_destroy(state->jit);
    dg_memo_destroy(state->launches);
    dg_cuda_context_close(&state->context);
    free(state);
}

static dg_status open_state(const struct dg_context_options *options, const struct dg_log *log,
                            struct dg_device *device, void **out)
{
    struct dg_strbuf why_not = {0};
    const struct dg_cuda *cuda = dg_cuda_driver(&why_not);
    if (!cuda) {
        dg_status status = dg_fail(DG_NO_DEVICE, "%s", dg_strbuf_text(&why_not));
        dg_strbuf_free(&why_not);
        return status;
    }
    dg_strbuf_free(&why_not);
    const int ordinal = pick_device(cuda, options);
    DG_TRY(dg_cuda_device_facts(cuda, ordinal, device));
    struct dg_sm90_state *state = calloc(1, sizeof *state);
    if (!state)
        return dg_fail(DG_OUT_OF_MEMORY, "context: host memory ran out");
    state->log = *log;
    state->device = *device;
    dg_status status = dg_cuda_context_open(&state->context, cuda, ordinal);
    if (status != DG_OK) {
        free(state);
        return status;
    }
    status = dg_jit_create(&state->jit, cuda, state->context.device, log);
    state->launches = dg_sm90_launches_create();
    if (status == DG_OK && !state->launches)
        status = dg_fail(DG_OUT_OF_MEMORY, "context: host memory ran out");
    if (status != DG_OK) {
        close_state(state);
        return status;
    }
    *out = state;
    return DG_OK;
}

// What the GPUs of this machine are, and the compilers for them.
static void tell_device(const struct dg_device *device, dg_fact_callback callback, void *user)
{
    const struct {
        const char *key, *format;
        double value;
    } facts[] = {
        {"compute_capability", "%.1f", device->arch / 10.0},
        {"sms", "%.0f", device->all_sms},
        {"sm_clock_mhz", "%.0f", device->sm_clock_mhz},
        {"memory_gbs", "%.1f", device->memory_gbs},
        {"l2_bytes", "%.0f", (double)device->l2_bytes},
        {"shared_memory_bytes", "%.0f", device->smem_bytes},
    };
    char section[32], value[64];
    snprintf(section, sizeof section, "gpu %d", (int)device->ordinal);
    callback(user, section, "name", device->name);
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        snprintf(value, sizeof value, facts[i].format, facts[i].value);
        callback(user, section, facts[i].key, value);
    }
}

static void info(dg_fact_callback callback, void *user)
{
    const struct dg_cuda *cuda = dg_cuda_driver(NULL);
    char value[64];
    for (int i = 0; cuda && i < cuda->num_devices; i++) {
        struct dg_device device;
        if (dg_cuda_device_facts(cuda, i, &device) == DG_OK)
            tell_device(&device, callback, user);
    }
    if (cuda) {
        snprintf(value, sizeof value, "%d.%d", cuda->driver_version / 1000,
                 cuda->driver_version % 1000 / 10);
        callback(user, "driver", "cuda", value);
    }
    dg_jit_info(callback, user);
}

// ---- dense or grouped ----

static void explain_kind(const struct dg_problem *problem, const struct dg_device *device,
                         const struct dg_plan *plan, dg_fact_callback callback, void *user)
{
    (plan->kernel == DG_KERNEL_SM90_GROUPED ? dg_sm90_grouped_explain : dg_sm90_explain)(
        problem, device, plan, callback, user);
}

static dg_status prepare_kind(struct dg_sm90_state *state, const struct dg_problem *problem,
                              const struct dg_plan *plan)
{
    return (plan->kernel == DG_KERNEL_SM90_GROUPED ? dg_sm90_grouped_prepare
                                                   : dg_sm90_prepare)(state, problem, plan);
}

static dg_status prepare(void *user, const struct dg_problem *problem, const struct dg_plan *plan)
{
    struct dg_sm90_state *state = user;
    struct dg_cuda_scope scope;
    DG_TRY(dg_cuda_enter(&state->context, &scope));
    const dg_status status = prepare_kind(state, problem, plan);
    dg_cuda_leave(&state->context, &scope);
    return status;
}

static dg_status gemm(void *user, const struct dg_problem *problem, const struct dg_plan *plan,
                      const struct dg_gemm_args *args)
{
    struct dg_sm90_state *state = user;
    struct dg_cuda_scope scope;
    DG_TRY(dg_cuda_enter(&state->context, &scope));
    const dg_status status = plan->kernel == DG_KERNEL_FILL
                                 ? dg_sm90_fill(state, problem, args)
                                 : dg_sm90_gemm(state, problem, plan, args);
    dg_cuda_leave(&state->context, &scope);
    return status;
}

static dg_status copy_back(const struct dg_cuda *cuda, void *to, const void *from, size_t bytes,
                           CUstream stream)
{
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    DG_CUDA_TRY(cuda->cuStreamIsCapturing(stream, &capture), "asking whether a stream is captured");
    if (capture != CU_STREAM_CAPTURE_STATUS_NONE)
        return dg_fail(
            DG_INVALID_ARGUMENT,
            "DG_GROUPED_CHECK_LAYOUT or $DG_DEBUG_LAYOUTS: checks of what a device holds "
            "wait for the stream, which must not be capturing");
    DG_CUDA_TRY(cuda->cuMemcpyDtoHAsync(to, (CUdeviceptr)(uintptr_t)from, bytes, stream),
                "copying %zu bytes to the host", bytes);
    DG_CUDA_TRY(cuda->cuStreamSynchronize(stream), "waiting for the stream");
    return DG_OK;
}

static dg_status grouped(void *user, const struct dg_problem *problem, const struct dg_plan *plan,
                         const struct dg_grouped_args *args)
{
    struct dg_sm90_state *state = user;
    struct dg_cuda_scope scope;
    DG_TRY(dg_cuda_enter(&state->context, &scope));
    const dg_status status = dg_sm90_grouped(state, problem, plan, args);
    dg_cuda_leave(&state->context, &scope);
    return status;
}

static dg_status fetch(void *user, void *to, const void *from, size_t bytes, void *stream)
{
    struct dg_sm90_state *state = user;
    struct dg_cuda_scope scope;
    DG_TRY(dg_cuda_enter(&state->context, &scope));
    const dg_status status = copy_back(state->context.cuda, to, from, bytes, stream);
    dg_cuda_leave(&state->context, &scope);
    return status;
}

// ---- for a device that is not there ----

// A state without a driver, whose kernels are compiled to the disk cache and not loaded.
static dg_status open_profile(const struct dg_context_options *options, const struct dg_log *log,
                              struct dg_device *device, void **out)
{
    DG_TRY(dg_device_profile(options->device_profile, device));
    struct dg_sm90_state *state = calloc(1, sizeof *state);
    if (!state)
        return dg_fail(DG_OUT_OF_MEMORY, "context: host memory ran out");
    state->log = *log;
    state->device = *device;
    *out = state;
    return DG_OK;
}

static dg_status prepare_profile(void *user, const struct dg_problem *problem,
                                 const struct dg_plan *plan)
{
    return prepare_kind(user, problem, plan);
}

static dg_status gemm_profile(void *user, const struct dg_problem *problem,
                              const struct dg_plan *plan, const struct dg_gemm_args *args)
{
    const struct dg_sm90_state *state = user;
    return dg_fail(DG_NO_DEVICE,
                   "the context was made for the device profile `%s`, which plans and compiles but "
                   "does not run",
                   state->device.name);
}

static const struct dg_backend planner = {
    .name = "sm90",
    .open = open_profile,
    .close = close_state,
    .plan = dg_sm90_plan_tuned,
    .candidates = dg_sm90_candidates,
    .explain = explain_kind,
    .prepare = prepare_profile,
    .gemm = gemm_profile,
    .mqa_explain = dg_sm90_mqa_explain,
};

extern const struct dg_backend dg_sm90_backend;
const struct dg_backend dg_sm90_backend = {
    .name = "sm90",
    .is_default = 1,
    .planner = &planner,
    .available = available,
    .open = open_state,
    .close = close_state,
    .plan = dg_sm90_plan_tuned,
    .candidates = dg_sm90_candidates,
    .explain = explain_kind,
    .prepare = prepare,
    .gemm = gemm,
    .grouped = grouped,
    .fetch = fetch,
    .mqa_logits = dg_sm90_mqa_logits,
    .mqa_schedule = dg_sm90_mqa_schedule,
    .mqa_prepare = dg_sm90_mqa_prepare,
    .mqa_explain = dg_sm90_mqa_explain,
    .info = info,
};
