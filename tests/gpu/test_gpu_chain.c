// SPDX-License-Identifier: MIT
// test_gpu_chain.c - programmatic dependent launch where each call reads what the one before it wrote: its
// values, its scales, and memory that the next call overwrites.
//
//     D1 = A[x] * 1        BF16; its bytes are E4M3 values without a NaN
//     S  = A[x] * B'       FP32, positive; in odd steps it comes before D1
//     D2[step] = D1's bytes with the scales S, times B2
//
// x alternates, so that a kernel that reads early or overwrites early makes other bits than the same calls
// with a wait between them.
#include "device.h"

enum { STEPS = 24, INPUTS = 2 };

struct shape {
    int64_t m, k1, n2; // D1 is [m, k1], D2 [m, n2]
};

struct chain {
    struct lane lane;
    struct shape shape;
    struct dg_scaled a[INPUTS], identity, positive, d1_values, b2;
    struct dg_tensor d1, s, d2[STEPS];
    struct dg_gemm_options options;
    size_t d2_bytes;
};

// ---- operands -------------------------------------------------------------------------------------

typedef uint8_t (*byte_at)(uint64_t *state, int64_t row, int64_t column);

static uint8_t identity_at(uint64_t *state, int64_t row, int64_t column)
{
    return row == column ? 0x38 : 0; // 1
}

static uint8_t any_at(uint64_t *state, int64_t row, int64_t column)
{
    const uint8_t byte = (uint8_t)(random_next(state) >> 32);
    return (byte & 0x7f) == 0x7f ? 0x38 : byte;
}

// Of D1's positive values; a sum of products with it is far from 0.
static uint8_t positive_at(uint64_t *state, int64_t row, int64_t column)
{
    return (uint8_t)(0x30 + random_next(state) % 16);
}

static bool put(struct lane *lane, const void *bytes, size_t count, struct dg_tensor *tensor)
{
    const CUdeviceptr at = bytes ? lane_take(lane, count, 0) : 0;
    tensor->data = (void *)(uintptr_t)at;
    return (bytes || lane_fail(lane, "host memory")) && at &&
           lane_copy_in(lane, at, bytes, count) &&
           lane->gpu.cuda->cuStreamSynchronize(lane->gpu.stream) == CUDA_SUCCESS;
}

// E4M3 values [rows, columns] with scales of 1 or, for B, of `block` rows.
static bool make(struct lane *lane, int64_t rows, int64_t columns, int64_t block, byte_at value,
                 uint64_t seed, struct dg_scaled *scaled)
{
    const int64_t scale_rows = (rows + block - 1) / block, scale_columns = (columns + 127) / 128;
    const size_t count = (size_t)(rows * columns), scales = (size_t)(scale_rows * scale_columns);
    uint64_t state = seed * 2 + 1;
    uint8_t *bytes = malloc(count);
    float *ones = malloc(scales * sizeof *ones);
    for (size_t i = 0; bytes && i < count; i++)
        bytes[i] = value(&state, (int64_t)i / columns, (int64_t)i % columns);
    for (size_t i = 0; ones && i < scales; i++)
        ones[i] = 1;
    *scaled =
        (struct dg_scaled){dg_matrix(NULL, DG_E4M3, rows, columns),
                           dg_matrix(NULL, DG_F32, scale_rows, scale_columns), (int32_t)block, 128};
    const bool is_put = put(lane, bytes, count, &scaled->values) &&
                        put(lane, ones, scales * sizeof *ones, &scaled->scales);
    free(bytes);
    free(ones);
    return is_put;
}

static bool take(struct lane *lane, dg_type type, int64_t rows, int64_t columns,
                 struct dg_tensor *tensor)
{
    const size_t bytes = (size_t)(rows * columns) * dg_type_bytes(type);
    const CUdeviceptr at = lane_take(lane, bytes, 0);
    *tensor = dg_matrix((void *)(uintptr_t)at, type, rows, columns);
    return at && lane->gpu.cuda->cuMemsetD8Async(at, RANDOM_POISON, bytes, lane->gpu.stream) ==
                     CUDA_SUCCESS;
}

static bool chain_open(struct chain *chain, const struct shape *shape)
{
    struct lane *lane = &chain->lane;
    const int64_t k2 = 2 * shape->k1;
    chain->shape = *shape;
    chain->options = DG_GEMM_OPTIONS;
    chain->d2_bytes = (size_t)(shape->m * shape->n2) * 4;
    lane->used = 0;
    bool is_made = make(lane, shape->k1, shape->k1, 128, identity_at, 1, &chain->identity) &&
                   make(lane, k2 / 128, shape->k1, 128, positive_at, 2, &chain->positive) &&
                   make(lane, shape->n2, k2, 128, any_at, 3, &chain->b2) &&
                   take(lane, DG_BF16, shape->m, shape->k1, &chain->d1) &&
                   take(lane, DG_F32, shape->m, k2 / 128, &chain->s);
    for (int i = 0; i < INPUTS && is_made; i++)
        is_made = make(lane, shape->m, shape->k1, 1, any_at, (uint64_t)(4 + i), &chain->a[i]);
    for (int i = 0; i < STEPS && is_made; i++)
        is_made = take(lane, DG_F32, shape->m, shape->n2, &chain->d2[i]);
    chain->d1_values =
        (struct dg_scaled){dg_matrix(chain->d1.data, DG_E4M3, shape->m, k2), chain->s, 1, 128};
    return is_made;
}

// ---- calls ----------------------------------------------------------------------------------------

static bool call(struct chain *chain, const struct dg_scaled *a, const struct dg_scaled *b,
                 const struct dg_tensor *d)
{
    return dg_fp8_gemm_nt(chain->lane.context, a, b, d, NULL, &chain->options,
                          chain->lane.gpu.stream) == DG_OK ||
           lane_fail(&chain->lane, "%s", dg_last_error());
}

static bool step(struct chain *chain, int index)
{
    const struct dg_scaled *a = &chain->a[index % INPUTS];
    const bool scales_first = index / INPUTS % 2;
    return call(chain, a, scales_first ? &chain->positive : &chain->identity,
                scales_first ? &chain->s : &chain->d1) &&
           call(chain, a, scales_first ? &chain->identity : &chain->positive,
                scales_first ? &chain->d1 : &chain->s) &&
           call(chain, &chain->d1_values, &chain->b2, &chain->d2[index]);
}

static bool all_steps(struct chain *chain, bool with_waits)
{
    const struct cli_gpu *gpu = &chain->lane.gpu;
    for (int i = 0; i < STEPS; i++)
        if (!step(chain, i) ||
            (with_waits && gpu->cuda->cuStreamSynchronize(gpu->stream) != CUDA_SUCCESS))
            return lane_fail(&chain->lane, "step %d", i);
    return true;
}

static bool replay_steps(struct chain *chain)
{
    const struct cli_gpu *gpu = &chain->lane.gpu;
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    if (gpu->cuda->cuStreamBeginCapture(gpu->stream, CU_STREAM_CAPTURE_MODE_GLOBAL) != CUDA_SUCCESS)
        return lane_fail(&chain->lane, "no capture");
    bool is_right = all_steps(chain, false);
    is_right = gpu->cuda->cuStreamEndCapture(gpu->stream, &graph) == CUDA_SUCCESS && is_right &&
               gpu->cuda->cuGraphInstantiateWithFlags(&exec, graph, 0) == CUDA_SUCCESS;
    for (int i = 0; i < 3 && is_right; i++)
        is_right = gpu->cuda->cuGraphLaunch(exec, gpu->stream) == CUDA_SUCCESS;
    is_right = gpu->cuda->cuStreamSynchronize(gpu->stream) == CUDA_SUCCESS && is_right;
    if (exec)
        gpu->cuda->cuGraphExecDestroy(exec);
    if (graph)
        gpu->cuda->cuGraphDestroy(graph);
    return is_right || lane_fail(&chain->lane, "capture and replay");
}

// ---- judging --------------------------------------------------------------------------------------

static bool read_all(struct chain *chain, uint8_t *to)
{
    for (int i = 0; i < STEPS; i++)
        if (!lane_copy_out(&chain->lane, to + (size_t)i * chain->d2_bytes,
                           (CUdeviceptr)(uintptr_t)chain->d2[i].data, chain->d2_bytes))
            return false;
    return true;
}

static bool forget_all(struct chain *chain)
{
    const struct cli_gpu *gpu = &chain->lane.gpu;
    for (int i = 0; i < STEPS; i++)
        if (gpu->cuda->cuMemsetD8Async((CUdeviceptr)(uintptr_t)chain->d2[i].data, RANDOM_POISON,
                                       chain->d2_bytes, gpu->stream) != CUDA_SUCCESS)
            return lane_fail(&chain->lane, "poison");
    return true;
}

static bool compare(struct chain *chain, const uint8_t *expected, uint8_t *got, const char *how)
{
    const struct shape *shape = &chain->shape;
    if (!read_all(chain, got))
        return false;
    for (int i = 0; i < STEPS; i++)
        if (memcmp(got + (size_t)i * chain->d2_bytes, expected + (size_t)i * chain->d2_bytes,
                   chain->d2_bytes))
            return lane_fail(&chain->lane, "m = %lld, k1 = %lld, n2 = %lld, %s: step %d differs",
                             (long long)shape->m, (long long)shape->k1, (long long)shape->n2, how,
                             i);
    return true;
}

// The expected bits must be numbers, differ from one input to the other, and be repeated by every other step.
static bool is_telling(struct chain *chain, const uint8_t *expected)
{
    const float *values = (const float *)(const void *)expected;
    for (size_t i = 0; i < chain->d2_bytes / 4; i++)
        if (!isfinite(values[i]))
            return lane_fail(&chain->lane, "element %zu of the first step is no number", i);
    for (int i = 1; i < STEPS; i++)
        if ((memcmp(expected, expected + (size_t)i * chain->d2_bytes, chain->d2_bytes) == 0) !=
            (i % INPUTS == 0))
            return lane_fail(&chain->lane, "step %d with waits", i);
    return true;
}

static bool try_flags(struct chain *chain, uint8_t *expected)
{
    static const struct {
        uint32_t flags;
        const char *how;
    } cases[] = {
        {0, "in order"},
        {DG_GEMM_PDL, "early"},
        {DG_GEMM_PDL | DG_GEMM_PDL_PREFETCH_B, "early with B before"},
    };
    uint8_t *const got = expected + STEPS * chain->d2_bytes;
    if (!all_steps(chain, true) || !read_all(chain, expected) || !is_telling(chain, expected))
        return false;
    for (int i = 0; i < 3; i++) {
        chain->options.flags = cases[i].flags;
        if (!forget_all(chain) || !all_steps(chain, false) ||
            !compare(chain, expected, got, cases[i].how) || !forget_all(chain) ||
            !replay_steps(chain) || !compare(chain, expected, got, cases[i].how))
            return false;
    }
    return true;
}

static void test_chains(void)
{
    static const struct shape shapes[] = {
        {1, 512, 264}, {16, 1024, 2112}, {64, 512, 576}, {130, 256, 1024}, {700, 384, 520},
    };
    struct chain *chain = calloc(1, sizeof *chain);
    CHECK(chain, "host memory");
    bool is_right = lane_open(&chain->lane, NULL);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && is_right; i++) {
        if (i > 0 && harness_scaled(100) < 100)
            break; // the device is an emulated one
        is_right = chain_open(chain, &shapes[i]);
        uint8_t *memory = malloc(2 * STEPS * chain->d2_bytes);
        is_right = is_right && memory && try_flags(chain, memory);
        free(memory);
    }
    lane_close(&chain->lane);
    char failure[sizeof chain->lane.failure];
    memcpy(failure, chain->lane.failure, sizeof failure);
    free(chain);
    CHECK(is_right, "%s", failure);
}

// The flags of the context count for calls without options.
static void test_flags_of_the_context(void)
{
    static const struct shape shape = {16, 256, 72};
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    struct chain *chain = calloc(1, sizeof *chain);
    CHECK(chain, "host memory");
    options.backend = "sm90";
    options.gemm_flags = DG_GEMM_PDL;
    bool is_right = lane_open(&chain->lane, NULL) && chain_open(chain, &shape);
    dg_context *const plain = chain->lane.context;
    uint8_t *memory = malloc(2 * STEPS * chain->d2_bytes);
    is_right = is_right && memory && all_steps(chain, true) && read_all(chain, memory) &&
               dg_context_create(&chain->lane.context, &options) == DG_OK;
    is_right = is_right && forget_all(chain) && replay_steps(chain) &&
               compare(chain, memory, memory + STEPS * chain->d2_bytes, "by the context");
    if (chain->lane.context != plain)
        dg_context_destroy(chain->lane.context);
    chain->lane.context = plain;
    free(memory);
    lane_close(&chain->lane);
    char failure[sizeof chain->lane.failure];
    memcpy(failure, chain->lane.failure, sizeof failure);
    free(chain);
    CHECK(is_right, "%s", failure);
}

int main(void)
{
    need_gpu();
    RUN(test_chains);
    RUN(test_flags_of_the_context);
    return harness_end();
}
