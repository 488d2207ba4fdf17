// SPDX-License-Identifier: MIT
// test_gpu_contexts.c - whose CUDA context a call works in: the thread's current one, else the primary one;
// none is left behind.  Several of our contexts on one device; layouts that only strides can say.
#include "device.h"

#include <dlfcn.h>
#include <pthread.h>

// The driver table has no use for these two.
static CUresult (*create_context)(CUcontext *context, unsigned int flags, CUdevice device);
static CUresult (*destroy_context)(CUcontext context);

static bool find_functions(void)
{
    void *const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *const create = library ? dlsym(library, "cuCtxCreate_v2") : NULL;
    void *const destroy = library ? dlsym(library, "cuCtxDestroy_v2") : NULL;
    memcpy(&create_context, &create, sizeof create);
    memcpy(&destroy_context, &destroy, sizeof destroy);
    return create && destroy;
}

static const struct dg_cuda *driver(void)
{
    return dg_cuda_driver(NULL);
}

static CUcontext current_context(void)
{
    CUcontext current = NULL;
    return driver()->cuCtxGetCurrent(&current) == CUDA_SUCCESS ? current : NULL;
}

static bool try_some(struct lane *lane)
{
    static const char *const some[] = {"fp8_gemm_nt m=130 n=260 k=400 sfa_layout=mn",
                                       "fp8_gemm_tn m=65 n=70 k=300 out=fp32",
                                       "fp8_gemm_nt m=40 n=500 k=256 sfb=1 sf=ue8m0 c=separate",
                                       "fp8_gemm_nt m=9 n=12 k=0 out=fp32 c=separate"};
    for (int i = 0; i < 4; i++) {
        struct dg_problem problem;
        if (dg_problem_parse(some[i], &problem) != DG_OK ||
            !lane_try(lane, &problem, (uint64_t)i, RANDOM_PADDED_SCALES))
            return lane_fail(lane, "%s", dg_last_error());
    }
    return true;
}

// ---- the caller's own CUDA context ----------------------------------------------------------------

// The same context of ours first in the primary context, then in one of the caller, and back.
static void test_own_and_primary_cuda_context(void)
{
    struct lane lane, inner = {.failure = ""};
    CUcontext own = NULL, popped;
    if (!find_functions())
        SKIP("this driver exports no cuCtxCreate_v2");
    bool is_right = lane_open(&lane, NULL) && try_some(&lane);
    CHECK(is_right, "%s", lane.failure);
    CHECK(create_context(&own, 0, lane.gpu.context.device) == CUDA_SUCCESS, "no context");
    is_right = lane_open(&inner, lane.context) && try_some(&inner); // memory and stream of `own`
    const bool is_kept = current_context() == own;
    lane_close(&inner);
    CHECK(driver()->cuCtxPopCurrent(&popped) == CUDA_SUCCESS && popped == own, "the stack");
    is_right = is_right && try_some(&lane);
    destroy_context(own);
    is_right = is_right && try_some(&lane);
    lane_close(&lane);
    CHECK(is_right, "%s%s", inner.failure, lane.failure);
    CHECK(is_kept, "the current context was changed");
}

struct bare {
    struct random_problem *r;
    struct on_device *at;
    dg_context *context;
    dg_status status;
    bool had_context, has_context;
    char error[256];
};

// A thread that never touched CUDA, on the default stream.
static void *bare_main(void *argument)
{
    struct bare *bare = argument;
    bare->had_context = current_context() != NULL;
    bare->status =
        cli_call(bare->context, &bare->r->problem, &bare->at->operands, &bare->at->options, NULL);
    bare->has_context = current_context() != NULL;
    snprintf(bare->error, sizeof bare->error, "%s", dg_last_error());
    return NULL;
}

static void test_thread_without_a_cuda_context(void)
{
    struct lane lane;
    struct random_problem r;
    struct on_device at;
    struct dg_problem problem;
    pthread_t thread;
    CHECK(dg_problem_parse("fp8_gemm_nt m=70 n=130 k=300 lda=304 ldb=304", &problem) == DG_OK, "?");
    random_problem_make(&r, &problem, 1, 0);
    bool is_right = lane_open(&lane, NULL) && lane_put(&lane, &r, &at);
    CHECK(is_right && lane.gpu.cuda->cuStreamSynchronize(lane.gpu.stream) == CUDA_SUCCESS, "%s",
          lane.failure);
    struct bare bare = {.r = &r, .at = &at, .context = lane.context};
    CHECK(!pthread_create(&thread, NULL, bare_main, &bare), "thread");
    pthread_join(thread, NULL);
    CHECK(bare.status == DG_OK, "%s", bare.error);
    CHECK(!bare.had_context && !bare.has_context, "a CUDA context was left current");
    is_right = lane.gpu.cuda->cuCtxSynchronize() == CUDA_SUCCESS && lane_get(&lane, &r, &at) &&
               lane_compare(&lane, &r);
    random_problem_free(&r);
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- several of ours ------------------------------------------------------------------------------

static void test_two_contexts_on_one_device(void)
{
    struct lane first, second;
    bool is_right = lane_open(&first, NULL) && lane_open(&second, NULL);
    CHECK(is_right, "%s", first.failure);
    CHECK(dg_context_set_num_sms(second.context, 5) == DG_OK, "%s", dg_last_error());
    CHECK(dg_context_num_sms(first.context) != 5, "the bound of the other context");
    for (int i = 0; i < 3 && is_right; i++)
        is_right = try_some(&first) && try_some(&second);
    lane_close(&second);
    is_right = is_right && try_some(&first);
    lane_close(&first);
    CHECK(is_right, "%s%s", first.failure, second.failure);
}

static void test_made_and_ended_many_times(void)
{
    struct lane lane;
    size_t free_before, free_after, total;
    bool is_right = lane_open(&lane, NULL) && try_some(&lane);
    CHECK(is_right, "%s", lane.failure);
    dg_context *const kept = lane.context;
    driver()->cuMemGetInfo(&free_before, &total);
    for (int i = 0; i < 20 && is_right; i++) {
        lane.context = open_context("sm90", NULL, 0);
        is_right = lane.context && try_some(&lane);
        dg_context_destroy(lane.context);
    }
    driver()->cuMemGetInfo(&free_after, &total);
    lane.context = kept;
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
    CHECK(free_after + (64u << 20) > free_before, "%zu MB of device memory were not given back",
          (free_before - free_after) >> 20);
}

static void test_default_backend_is_this_one(void)
{
    dg_context *context;
    if (getenv("DG_BACKEND"))
        SKIP("$DG_BACKEND is set");
    CHECK(dg_context_create(&context, NULL) == DG_OK, "%s", dg_last_error());
    CHECK(!strcmp(dg_context_backend(context), "sm90"), "%s", dg_context_backend(context));
    dg_context_destroy(context);
}

// ---- what dg_prepare makes ready ------------------------------------------------------------------

static void count_kernels(void *user, dg_log_level level, const char *text)
{
    *(int *)user += strstr(text, ": loaded in ") != NULL;
}

// A context that counts the kernels it loads.
static dg_context *open_counting(int *loaded)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    options.backend = "sm90";
    options.log = count_kernels;
    options.log_user = loaded;
    options.log_level = DG_LOG_DEBUG;
    return dg_context_create(&context, &options) ? NULL : context;
}

static bool try_prepared(struct lane *lane, const char *line, int flags)
{
    dg_context *const used = lane->context;
    struct dg_problem problem;
    int loaded = 0;
    lane->context = open_counting(&loaded);
    bool is_right = lane->context && dg_problem_parse(line, &problem) == DG_OK &&
                    dg_prepare(lane->context, &problem) == DG_OK;
    const int prepared = loaded;
    is_right = is_right && lane_try(lane, &problem, 1, flags);
    dg_context_destroy(lane->context);
    lane->context = used;
    if (!is_right)
        return lane_fail(lane, "%s: %s", line, dg_last_error());
    return (prepared > 0 && loaded == prepared) ||
           lane_fail(lane, "%s, scales %s: %d kernels were prepared, the call needed %d more", line,
                     flags == RANDOM_PADDED_SCALES ? "padded" : "not padded", prepared,
                     loaded - prepared);
}

// Scales without gaps or padded to 16 bytes: their strides are no part of a problem.
static void test_prepare_makes_ready_what_a_call_needs(void)
{
    static const char *const some[] = {
        "fp8_gemm_nt m=128 n=256 k=512 sfa_layout=mn",
        "fp8_gemm_nt m=127 n=256 k=512 sfa_layout=mn",
        "fp8_gemm_nt m=128 n=300 k=1152 sfa_layout=mn",
        "fp8_gemm_nt m=128 n=300 k=1152 sfa_layout=mn sfb_layout=mn",
        "fp8_gemm_nt m=1 n=256 k=512",
        "fp8_gemm_nt m=1 n=100 k=512 sf=ue8m0",
        "fp8_gemm_nt m=64 n=300 k=128",
        "fp8_gemm_nt m=65 n=300 k=512 sf=ue8m0",
        "fp8_gemm_nt m=64 n=300 k=256 sfb=1",
        "fp8_gemm_nt m=64 n=301 k=256 sfb=1 sfa_layout=mn sfb_layout=mn",
        "fp8_gemm_nt m=2000 n=2001 k=512 sfb=1 sfa_layout=mn sfb_layout=mn",
        "fp8_gemm_nt m=2048 n=2112 k=640 sfa_layout=mn",
        "fp8_gemm_tn m=100 n=60 k=200",
        "fp8_gemm_nt m=30 n=40 k=0",
    };
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    lane.is_aligned = true;
    for (size_t i = 0; i < 2 * sizeof some / sizeof *some && is_right; i++)
        is_right =
            try_prepared(&lane, some[i / 2], i % 2 ? RANDOM_PADDED_SCALES : RANDOM_DENSE_SCALES);
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- strides that no problem line can say ---------------------------------------------------------

// All rows of A are one row (stride 0), or overlap: the result is that of the rows written out.
static void test_rows_of_a_that_overlap(void)
{
    static const int64_t strides[] = {0, 16, 112};
    enum { M = 70, N = 60, K = 256 };
    struct lane lane;
    struct dg_problem problem;
    CHECK(dg_problem_parse("fp8_gemm_nt m=70 n=60 k=256 out=fp32", &problem) == DG_OK, "?");
    bool is_right = lane_open(&lane, NULL);
    for (int s = 0; s < 3 && is_right; s++) {
        struct random_problem r;
        struct on_device at;
        lane.used = 0;
        random_problem_make(&r, &problem, (uint64_t)s + 1, 0);
        is_right = lane_put(&lane, &r, &at);
        at.operands.a.values.stride[0] = strides[s];
        is_right = is_right && lane_call(&lane, &r, &at) && lane_get_d(&lane, &r, &at);
        uint8_t *const a = random_data(&r.a);
        uint8_t first[M * K]; // what the overlapping rows read
        memcpy(first, a, sizeof first);
        for (int i = 0; i < M; i++)
            memcpy(a + i * K, first + i * strides[s], K);
        is_right = is_right && lane_compare(&lane, &r);
        random_problem_free(&r);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

int main(void)
{
    need_gpu();
    RUN(test_own_and_primary_cuda_context);
    RUN(test_thread_without_a_cuda_context);
    RUN(test_two_contexts_on_one_device);
    RUN(test_made_and_ended_many_times);
    RUN(test_prepare_makes_ready_what_a_call_needs);
    RUN(test_default_backend_is_this_one);
    RUN(test_rows_of_a_that_overlap);
    return harness_end();
}
