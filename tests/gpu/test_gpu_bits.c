// SPDX-License-Identifier: MIT
// test_gpu_bits.c - the same call gives the same bits: repeated, replayed from a CUDA graph, on two streams,
// from eight threads on one context, launched early, and row by row where that is asked for; and BF16
// is FP32 rounded once.
#include "crowd.h"

static const char *const lines[] = {
    "fp8_gemm_nt m=1000 n=2112 k=1536 sfa_layout=mn",
    "fp8_gemm_nt m=37 n=129 k=704 out=fp32 c=inplace",
    "fp8_gemm_tn m=300 n=500 k=1000",
    "fp8_gemm_nt m=2000 n=576 k=512 sfb=1 sf=ue8m0 out=fp32 c=separate",
    "fp8_gemm_nt m=130 n=514 k=128 out=fp32 ldd=517",
    "fp8_gemm_nt m=7 n=24 k=7168 sfa_layout=mn",
    "fp8_gemm_nt m=640 n=520 k=384 out=fp32 c=inplace sfb=1 sfa_layout=mn sfb_layout=mn",
    "fp8_gemm_nt m=90 n=70 k=0 c=separate",
    // CTAs out of step, which add to their first tile twice
    "fp8_gemm_nt m=4096 n=2048 k=1024 out=fp32 c=inplace sfb=1 sfa_layout=mn sfb_layout=mn",
};
enum { NUM_LINES = sizeof lines / sizeof *lines, REPEATS = 100 };

// A problem on the device with the bytes that its first call left around and in D.
struct known {
    struct random_problem r;
    struct on_device at;
    uint8_t *expected;
};

static bool known_begin(struct lane *lane, const char *line, uint64_t seed, struct known *known)
{
    struct dg_problem problem;
    *known = (struct known){.expected = NULL};
    if (dg_problem_parse(line, &problem) != DG_OK)
        return lane_fail(lane, "%s", dg_last_error());
    random_problem_make(&known->r, &problem, seed, RANDOM_PADDED_SCALES);
    return lane_put(lane, &known->r, &known->at);
}

static bool known_make(struct lane *lane, const char *line, uint64_t seed, struct known *known)
{
    if (!known_begin(lane, line, seed, known) || !lane_call(lane, &known->r, &known->at) ||
        !lane_get(lane, &known->r, &known->at))
        return false;
    const size_t bytes = RANDOM_PROBLEM_TOTAL(known->r.d);
    known->expected = malloc(bytes);
    if (known->expected)
        memcpy(known->expected, known->r.d.memory, bytes);
    return known->expected || lane_fail(lane, "host memory");
}

static void known_free(struct known *known)
{
    random_problem_free(&known->r);
    free(known->expected);
}

static bool known_is_same(struct lane *lane, struct known *known, const char *what)
{
    const size_t bytes = RANDOM_PROBLEM_TOTAL(known->r.d);
    return lane_get_d(lane, &known->r, &known->at) &&
           (!memcmp(known->r.d.memory, known->expected, bytes) ||
            lane_fail(lane, "%s: %s: other bits", known->r.line, what));
}

// ---- repeated -------------------------------------------------------------------------------------

static bool repeat(struct lane *lane, struct known *known, int times)
{
    for (int i = 0; i < times; i++)
        if (!lane_reset_d(lane, &known->r, &known->at) || !lane_call(lane, &known->r, &known->at) ||
            !known_is_same(lane, known, "repeated"))
            return false;
    return true;
}

static void test_repeated(void)
{
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (int i = 0; i < NUM_LINES && is_right; i++) {
        struct known known;
        lane.used = 0;
        is_right = known_make(&lane, lines[i], 1, &known) &&
                   repeat(&lane, &known, harness_scaled(REPEATS));
        known_free(&known);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- captured -------------------------------------------------------------------------------------

// Captures one call in the mode that forbids most: no call that may allocate or wait.
static bool capture(struct lane *lane, struct known *known, CUgraphExec *exec)
{
    const struct dg_cuda *cuda = lane->gpu.cuda;
    const CUstream stream = lane->gpu.stream;
    CUgraph graph = NULL;
    if (cuda->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) != CUDA_SUCCESS)
        return lane_fail(lane, "no capture");
    const bool is_called = lane_call(lane, &known->r, &known->at);
    const CUresult ended = cuda->cuStreamEndCapture(stream, &graph);
    if (!is_called || ended != CUDA_SUCCESS ||
        cuda->cuGraphInstantiateWithFlags(exec, graph, 0) != CUDA_SUCCESS)
        return lane_fail(lane, "%s: captured: result %d", known->r.line, (int)ended);
    return cuda->cuGraphDestroy(graph) == CUDA_SUCCESS;
}

static bool replay(struct lane *lane, struct known *known, CUgraphExec exec)
{
    for (int i = 0; i < 3; i++)
        if (!lane_reset_d(lane, &known->r, &known->at) ||
            lane->gpu.cuda->cuGraphLaunch(exec, lane->gpu.stream) != CUDA_SUCCESS ||
            !known_is_same(lane, known, "replayed"))
            return lane_fail(lane, "%s: replay %d", known->r.line, i);
    return true;
}

static bool capture_and_replay(struct lane *lane, struct known *known)
{
    CUgraphExec exec = NULL;
    const bool is_right = capture(lane, known, &exec) && replay(lane, known, exec);
    if (exec)
        lane->gpu.cuda->cuGraphExecDestroy(exec);
    return is_right;
}

static void test_captured_after_a_call(void)
{
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (int i = 0; i < NUM_LINES && is_right; i++) {
        struct known known;
        lane.used = 0;
        is_right = known_make(&lane, lines[i], 1, &known) && capture_and_replay(&lane, &known);
        known_free(&known);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// A context that was told of the problem and never called.
static void test_captured_after_prepare(void)
{
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (int i = 0; i < NUM_LINES && is_right; i++) {
        struct known known;
        lane.used = 0;
        is_right = known_make(&lane, lines[i], 1, &known);
        dg_context *const used = lane.context;
        lane.context = is_right ? open_context("sm90", NULL, 0) : used;
        is_right = is_right && (dg_prepare(lane.context, &known.r.problem) == DG_OK ||
                                lane_fail(&lane, "%s", dg_last_error()));
        is_right = is_right && capture_and_replay(&lane, &known);
        if (lane.context != used)
            dg_context_destroy(lane.context);
        lane.context = used;
        known_free(&known);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- at the same time -----------------------------------------------------------------------------

// Accumulates `times` times in place on each of two streams, in turn.
static bool accumulate_on_two(struct lane *lane, struct known known[2], CUstream other, int times)
{
    const CUstream streams[2] = {lane->gpu.stream, other};
    bool is_right = true;
    for (int i = 0; i < 2 * times && is_right; i++) {
        lane->gpu.stream = streams[i % 2];
        is_right = lane_call(lane, &known[i % 2].r, &known[i % 2].at);
    }
    for (int i = 0; i < 2; i++) {
        lane->gpu.stream = streams[i];
        is_right = lane->gpu.cuda->cuStreamSynchronize(streams[i]) == CUDA_SUCCESS && is_right;
    }
    lane->gpu.stream = streams[0];
    return is_right;
}

static bool accumulate_on_one(struct lane *lane, struct known *known, int times, uint32_t flags)
{
    bool is_right = lane_reset_d(lane, &known->r, &known->at);
    known->at.options.flags = flags;
    for (int i = 0; i < times && is_right; i++)
        is_right = lane_call(lane, &known->r, &known->at);
    known->at.options.flags = 0;
    is_right = is_right && lane_get_d(lane, &known->r, &known->at);
    if (is_right && !flags)
        memcpy(known->expected, known->r.d.memory, RANDOM_PROBLEM_TOTAL(known->r.d));
    return is_right;
}

static void test_two_streams(void)
{
    enum { TIMES = 20 };
    struct lane lane;
    struct known known[2] = {{.expected = NULL}, {.expected = NULL}};
    CUstream other = NULL;
    const bool is_open =
        lane_open(&lane, NULL) &&
        lane.gpu.cuda->cuStreamCreate(&other, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS;
    CHECK(is_open, "%s", lane.failure);
    bool is_right =
        known_make(&lane, lines[1], 1, &known[0]) && known_make(&lane, lines[6], 1, &known[1]);
    for (int i = 0; i < 2 && is_right; i++)
        is_right = accumulate_on_one(&lane, &known[i], TIMES, 0) &&
                   lane_reset_d(&lane, &known[i].r, &known[i].at);
    is_right = is_right && lane.gpu.cuda->cuStreamSynchronize(lane.gpu.stream) == CUDA_SUCCESS &&
               accumulate_on_two(&lane, known, other, TIMES);
    for (int i = 0; i < 2 && is_right; i++)
        is_right = known_is_same(&lane, &known[i], "two streams");
    known_free(&known[0]);
    known_free(&known[1]);
    lane.gpu.cuda->cuStreamDestroy(other);
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// Each call reads what the one before wrote, so a kernel that starts early and does not wait shows.
static void test_programmatic_dependent_launch(void)
{
    static const uint32_t flags[] = {DG_GEMM_PDL, DG_GEMM_PDL | DG_GEMM_PDL_PREFETCH_B};
    static const char *const chains[] = {
        "fp8_gemm_nt m=37 n=129 k=704 out=fp32 c=inplace",
        "fp8_gemm_nt m=640 n=520 k=384 out=fp32 c=inplace sfb=1 sfa_layout=mn sfb_layout=mn",
        "fp8_gemm_tn m=65 n=72 k=200 c=inplace",
        "fp8_gemm_nt m=512 n=1024 k=256 c=inplace sfa_layout=mn",
    };
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (int i = 0; i < 8 && is_right; i++) {
        struct known known;
        lane.used = 0;
        is_right = known_make(&lane, chains[i / 2], 1, &known) &&
                   accumulate_on_one(&lane, &known, 30, 0) &&
                   accumulate_on_one(&lane, &known, 30, flags[i % 2]) &&
                   known_is_same(&lane, &known, "launched early");
        known_free(&known);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

static uint64_t checksums[NUM_LINES]; // of D with its guards

// The first round fills the table, on one thread.
static bool try_checksum(struct lane *lane, int64_t index)
{
    const int line = (int)(index % NUM_LINES);
    struct known known;
    lane->used = 0;
    bool is_right = known_make(lane, lines[line], 1, &known);
    const uint64_t checksum = is_right ? random_checksum(&known.r.d) : 0;
    if (checksums[line] == 0)
        checksums[line] = checksum;
    else if (is_right && checksums[line] != checksum)
        is_right = lane_fail(lane, "%s: other bits on another thread", known.r.line);
    known_free(&known);
    return is_right;
}

static void test_eight_threads_on_one_context(void)
{
    dg_context *context = open_context("sm90", NULL, 0), *fresh = open_context("sm90", NULL, 0);
    CHECK(context && fresh, "%s", dg_last_error());
    const int64_t alone = crowd_run(try_checksum, NUM_LINES, 1, context);
    const int64_t used = crowd_run(try_checksum, 12 * NUM_LINES, 8, context);
    const int64_t first = crowd_run(try_checksum, 4 * NUM_LINES, 8, fresh); // all build at once
    dg_context_destroy(context);
    dg_context_destroy(fresh);
    CHECK(alone == NUM_LINES, "one thread");
    CHECK(used == 12 * NUM_LINES, "eight threads");
    CHECK(first == 4 * NUM_LINES, "eight threads on a fresh context");
}

// ---- row by row -----------------------------------------------------------------------------------

// Calls on rows first .. first + count - 1 of the problem alone, into D's own rows.
static bool call_rows(struct lane *lane, const struct known *known, int64_t first, int64_t count)
{
    struct dg_problem problem = known->r.problem;
    struct cli_operands o = known->at.operands;
    struct dg_gemm_options options = DG_GEMM_OPTIONS;
    options.flags = DG_GEMM_BATCH_INVARIANT;
    const int64_t sf_bytes = 4 * o.a.scales.stride[0],
                  d_bytes = o.d.stride[0] * (int64_t)dg_type_bytes(o.d.type);
    o.a.values.data = (char *)o.a.values.data + first * o.a.values.stride[0];
    o.a.scales.data = (char *)o.a.scales.data + first * sf_bytes;
    o.d.data = (char *)o.d.data + first * d_bytes;
    o.a.values.shape[0] = o.a.scales.shape[0] = o.d.shape[0] = problem.m = count;
    return cli_call(lane->context, &problem, &o, &options, lane->gpu.stream) == DG_OK ||
           lane_fail(lane, "%s: %s", known->r.line, dg_last_error());
}

static bool call_in_parts(struct lane *lane, struct known *known, int64_t step)
{
    const int64_t m = known->r.problem.m;
    if (!lane_reset_d(lane, &known->r, &known->at))
        return false;
    for (int64_t row = 0; row < m; row += step)
        if (!call_rows(lane, known, row, step < m - row ? step : m - row))
            return false;
    return known_is_same(lane, known, "in parts");
}

static void test_batch_invariant(void)
{
    static const char *const whole[] = {
        "fp8_gemm_nt m=700 n=528 k=640 sfa_layout=mn",
        "fp8_gemm_nt m=700 n=264 k=640 out=fp32 sfb=1 sfb_layout=mn",
        "fp8_gemm_nt m=300 n=1000 k=1152 sf=ue8m0",
    };
    static const int64_t steps[] = {1, 7, 64, 129, 256};
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (int i = 0; i < 3 && is_right; i++) {
        struct known known;
        lane.used = 0;
        // The whole is made under the flag too.
        is_right = known_make(&lane, whole[i], 1, &known) &&
                   call_rows(&lane, &known, 0, known.r.problem.m) &&
                   known_is_same(&lane, &known, "as a whole");
        for (int j = 0; j < 5 && is_right; j++)
            is_right = call_in_parts(&lane, &known, steps[j]);
        known_free(&known);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- rounded once ---------------------------------------------------------------------------------

static uint16_t nearest_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static bool is_rounded_once(struct lane *lane, const struct known *wide, const struct known *narrow)
{
    const struct dg_problem *p = &wide->r.problem;
    const float *exact = random_data(&wide->r.d);
    const uint16_t *rounded = random_data(&narrow->r.d);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            const float value = exact[i * p->ldd + j];
            if (rounded[i * p->ldd + j] != nearest_bf16(value))
                return lane_fail(lane, "%s: [%lld, %lld]: %.9g became %.9g", narrow->r.line,
                                 (long long)i, (long long)j, value,
                                 random_bf16(rounded[i * p->ldd + j]));
        }
    return true;
}

// The same operands with output of both types: the BF16 one is the other, rounded to nearest even, where no tile
// divides k.
static void test_bf16_is_fp32_rounded_once(void)
{
    static const char *const narrow_lines[] = {
        "fp8_gemm_nt m=500 n=700 k=640 sfa_layout=mn invariant=1",
        "fp8_gemm_nt m=77 n=1001 k=300 lda=304 ldb=304 invariant=1",
        "fp8_gemm_nt m=300 n=400 k=500 sfb=1 sf=ue8m0 lda=512 ldb=512 invariant=1",
        "fp8_gemm_tt m=200 n=130 k=90 invariant=1",
    };
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (int i = 0; i < 4 && is_right; i++) {
        struct known wide = {.expected = NULL}, narrow;
        char line[256];
        snprintf(line, sizeof line, "%s out=fp32", narrow_lines[i]);
        lane.used = 0;
        is_right = known_make(&lane, narrow_lines[i], 1, &narrow) &&
                   known_make(&lane, line, 1, &wide) && is_rounded_once(&lane, &wide, &narrow);
        known_free(&wide);
        known_free(&narrow);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

int main(void)
{
    need_gpu();
    RUN(test_repeated);
    RUN(test_captured_after_a_call);
    RUN(test_captured_after_prepare);
    RUN(test_two_streams);
    RUN(test_programmatic_dependent_launch);
    RUN(test_eight_threads_on_one_context);
    RUN(test_batch_invariant);
    RUN(test_bf16_is_fp32_rounded_once);
    return harness_end();
}
