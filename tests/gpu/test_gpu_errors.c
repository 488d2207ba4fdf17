// SPDX-License-Identifier: MIT
// test_gpu_errors.c - calls that must be refused: each gives its status and a text that names the argument
// and the rule, D keeps its bytes, and the context still computes the same bits afterwards.
#include "device.h"

// A call in pieces, for a case to spoil.
struct call {
    struct cli_operands o;
    struct dg_gemm_options options;
    bool has_c;
    void *host; // 1 MB of host memory
};

static void spoil_a_host(struct call *call)
{
    call->o.a.values.data = call->host;
}

static void spoil_b_host(struct call *call)
{
    call->o.b.values.data = call->host;
}

static void spoil_sfa_host(struct call *call)
{
    call->o.a.scales.data = call->host;
}

static void spoil_sfb_host(struct call *call)
{
    call->o.b.scales.data = call->host;
}

static void spoil_d_host(struct call *call)
{
    call->o.d.data = call->host;
}

static void spoil_c_host(struct call *call)
{
    call->o.c.data = call->host;
    call->has_c = true;
}

static void spoil_workspace_host(struct call *call)
{
    call->o.a.values.stride[0] += 1;
    call->options.workspace = call->host;
    call->options.workspace_bytes = 1 << 20;
}

static void spoil_a_null(struct call *call)
{
    call->o.a.values.data = NULL;
}

static void spoil_a_misaligned(struct call *call)
{
    call->o.a.values.data = (char *)call->o.a.values.data + 1;
}

static void spoil_b_misaligned(struct call *call)
{
    call->o.b.values.data = (char *)call->o.b.values.data + 8;
}

static void spoil_sfa_misaligned(struct call *call)
{
    call->o.a.scales.data = (char *)call->o.a.scales.data + 2;
}

static void spoil_d_misaligned(struct call *call)
{
    call->o.d.data = (char *)call->o.d.data + 2;
}

static void spoil_a_stride(struct call *call)
{
    call->o.a.values.stride[0] = 257;
}

static void spoil_b_major(struct call *call)
{
    call->o.b.values.stride[0] = 1;
    call->o.b.values.stride[1] = call->o.b.values.shape[0];
}

static void spoil_workspace_small(struct call *call)
{
    spoil_b_major(call);
    call->options.workspace = (void *)((uintptr_t)call->o.d.data / 256 * 256);
    call->options.workspace_bytes = 100;
}

static void spoil_workspace_misaligned(struct call *call)
{
    call->options.workspace = (char *)((uintptr_t)call->o.d.data / 256 * 256) + 16;
    call->options.workspace_bytes = 1 << 16;
}

static void spoil_workspace_null(struct call *call)
{
    call->options.workspace_bytes = 1 << 16;
}

static void spoil_d_type(struct call *call)
{
    call->o.d.type = DG_F64;
}

static void spoil_d_stride(struct call *call)
{
    call->o.d.stride[0] = 8;
}

static void spoil_k(struct call *call)
{
    call->o.b.values.shape[1] = 255;
}

static void spoil_scales_shape(struct call *call)
{
    call->o.a.scales.shape[1] = 3;
}

static void spoil_flags(struct call *call)
{
    call->options.flags = 1u << 31;
}

// Rows one on the other fit any memory; their number does not fit a kernel.
static void spoil_many_rows(struct call *call)
{
    const int64_t rows = (int64_t)1 << 32;
    call->o.a.values.shape[0] = call->o.a.scales.shape[0] = call->o.d.shape[0] = rows;
    call->o.a.values.stride[0] = call->o.a.scales.stride[0] = 0;
}

// TMA takes strides below 2^40 bytes.
static void spoil_far_rows(struct call *call)
{
    call->o.a.values.stride[0] = (int64_t)1 << 41;
}

static const struct spoiled {
    const char *name;
    void (*spoil)(struct call *call);
    dg_status status;
    const char *argument, *rule; // in the text
} cases[] = {
    {"a on the host", spoil_a_host, DG_INVALID_ARGUMENT, "a.values", "host memory"},
    {"b on the host", spoil_b_host, DG_INVALID_ARGUMENT, "b.values", "host memory"},
    {"a's scales on the host", spoil_sfa_host, DG_INVALID_ARGUMENT, "a.scales", "host memory"},
    {"b's scales on the host", spoil_sfb_host, DG_INVALID_ARGUMENT, "b.scales", "host memory"},
    {"d on the host", spoil_d_host, DG_INVALID_ARGUMENT, "d.data", "host memory"},
    {"c on the host", spoil_c_host, DG_INVALID_ARGUMENT, "c.data", "host memory"},
    {"workspace on the host", spoil_workspace_host, DG_INVALID_ARGUMENT, "workspace",
     "host memory"},
    {"a is NULL", spoil_a_null, DG_INVALID_ARGUMENT, "a.values.data", "NULL"},
    {"a off by 1", spoil_a_misaligned, DG_INVALID_ARGUMENT, "a.values.data", "16"},
    {"b off by 8", spoil_b_misaligned, DG_INVALID_ARGUMENT, "b.values.data", "16"},
    {"a's scales off by 2", spoil_sfa_misaligned, DG_INVALID_ARGUMENT, "a.scales.data", "4"},
    {"d off by 2", spoil_d_misaligned, DG_INVALID_ARGUMENT, "d.data", "4"},
    {"odd stride", spoil_a_stride, DG_INVALID_ARGUMENT, "workspace_bytes", "dg_workspace_bytes"},
    {"MN-major b", spoil_b_major, DG_INVALID_ARGUMENT, "workspace_bytes", "dg_workspace_bytes"},
    {"small workspace", spoil_workspace_small, DG_INVALID_ARGUMENT, "workspace_bytes = 100",
     "dg_workspace_bytes"},
    {"workspace off by 16", spoil_workspace_misaligned, DG_INVALID_ARGUMENT, "options.workspace",
     "256"},
    {"no workspace of 64 KB", spoil_workspace_null, DG_INVALID_ARGUMENT, "options.workspace",
     "NULL"},
    {"f64", spoil_d_type, DG_UNSUPPORTED, "d.type", "f64"},
    {"rows of d overlap", spoil_d_stride, DG_INVALID_ARGUMENT, "d.stride", "overlap"},
    {"k differs", spoil_k, DG_INVALID_ARGUMENT, "b.values", "255"},
    {"shape of scales", spoil_scales_shape, DG_INVALID_ARGUMENT, "a.scales.shape", "3"},
    {"unknown flag", spoil_flags, DG_INVALID_ARGUMENT, "options.flags", "80000000"},
    {"2^32 rows", spoil_many_rows, DG_UNSUPPORTED, "m = 4294967296", "at most"},
    {"rows 2^41 apart", spoil_far_rows, DG_INVALID_ARGUMENT, "a.values", "2^40"},
};

static bool call_it(struct lane *lane, const struct call *call, dg_status *status)
{
    *status = dg_fp8_gemm_nt(lane->context, &call->o.a, &call->o.b, &call->o.d,
                             call->has_c ? &call->o.c : NULL, &call->options, lane->gpu.stream);
    return lane->gpu.cuda->cuStreamSynchronize(lane->gpu.stream) == CUDA_SUCCESS ||
           lane_fail(lane, "the device is in an error state");
}

static bool is_refused(struct lane *lane, const struct spoiled *spoiled, dg_status status)
{
    const char *text = dg_last_error();
    return (status == spoiled->status && strstr(text, "dg_fp8_gemm_nt") &&
            strstr(text, spoiled->argument) && strstr(text, spoiled->rule)) ||
           lane_fail(lane, "%s: %s, `%s`", spoiled->name, dg_status_name(status), text);
}

// The spoiled call, a look at D, and the right call again.
static bool try_case(struct lane *lane, const struct spoiled *spoiled, struct random_problem *r,
                     const struct on_device *at, const uint8_t *expected, void *host)
{
    const size_t bytes = RANDOM_PROBLEM_TOTAL(r->d);
    struct call call = {.o = at->operands, .options = DG_GEMM_OPTIONS, .host = host};
    dg_status status;
    spoiled->spoil(&call);
    if (!lane_reset_d(lane, r, at) || !call_it(lane, &call, &status) ||
        !is_refused(lane, spoiled, status) || !lane_get_d(lane, r, at))
        return false;
    if (!is_poisoned(r->d.memory, bytes))
        return lane_fail(lane, "%s: d was written", spoiled->name);
    call = (struct call){.o = at->operands, .options = DG_GEMM_OPTIONS};
    if (!call_it(lane, &call, &status) || status != DG_OK || !lane_get_d(lane, r, at))
        return lane_fail(lane, "the right call after `%s`: %s", spoiled->name, dg_last_error());
    return !memcmp(r->d.memory, expected, bytes) ||
           lane_fail(lane, "the right call after `%s`: other bits", spoiled->name);
}

static bool try_cases(struct lane *lane, void *host)
{
    struct dg_problem problem;
    struct random_problem r;
    struct on_device at;
    dg_problem_parse("fp8_gemm_nt m=64 n=128 k=256 out=fp32", &problem);
    random_problem_make(&r, &problem, 1, 0);
    bool is_right = lane_put(lane, &r, &at) && lane_call(lane, &r, &at) &&
                    lane_get(lane, &r, &at) && lane_compare(lane, &r);
    uint8_t *const expected = malloc(RANDOM_PROBLEM_TOTAL(r.d));
    if (is_right && expected)
        memcpy(expected, r.d.memory, RANDOM_PROBLEM_TOTAL(r.d));
    for (size_t i = 0; i < sizeof cases / sizeof *cases && is_right && expected; i++)
        is_right = try_case(lane, &cases[i], &r, &at, expected, host);
    free(expected);
    random_problem_free(&r);
    return is_right;
}

static void test_bad_calls_are_refused_and_leave_no_trace(void)
{
    struct lane lane;
    void *const host = aligned_alloc(256, 1 << 20);
    const bool is_right = lane_open(&lane, NULL) && try_cases(&lane, host);
    lane_close(&lane);
    free(host);
    CHECK(is_right, "%s", lane.failure);
}

static void test_bounds_on_sms(void)
{
    dg_context *context = open_context("sm90", NULL, 0);
    CHECK(context, "%s", dg_last_error());
    const int32_t all = dg_context_num_sms(context);
    CHECK(all > 0, "%d SMs", all);
    CHECK(dg_context_set_num_sms(context, all + 1) == DG_INVALID_ARGUMENT, "more than all");
    CHECK(strstr(dg_last_error(), "num_sms"), "%s", dg_last_error());
    CHECK(dg_context_set_num_sms(context, -1) == DG_INVALID_ARGUMENT, "negative");
    CHECK(dg_context_num_sms(context) == all, "changed by a refused call");
    CHECK(dg_context_set_num_sms(context, 7) == DG_OK && dg_context_num_sms(context) == 7, "7");
    CHECK(dg_context_set_num_sms(context, 0) == DG_OK && dg_context_num_sms(context) == all, "0");
    dg_context_destroy(context);
}

static void test_devices_that_are_not_there(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    options.backend = "sm90";
    options.device = 1000;
    const dg_status status = dg_context_create(&context, &options);
    CHECK(status == DG_INVALID_ARGUMENT || status == DG_NO_DEVICE, "%s", dg_status_name(status));
    CHECK(context == NULL && strstr(dg_last_error(), "1000"), "%s", dg_last_error());
}

int main(void)
{
    need_gpu();
    RUN(test_bad_calls_are_refused_and_leave_no_trace);
    RUN(test_bounds_on_sms);
    RUN(test_devices_that_are_not_there);
    return harness_end();
}
