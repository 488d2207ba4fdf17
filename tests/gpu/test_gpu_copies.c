// SPDX-License-Identifier: MIT
// test_gpu_copies.c - large products whose scales TMA does not take: with room for copies of them, with a byte less
// and without any, a call gives the same bits, and nothing is written outside of the workspace.
#include "checked.h"

enum { GUARD = 4096, POISON = 0xa5 };

// Rows and blocks of k that are no multiples of what a copying CTA takes; FP32 that is added to in place has bits of its
// own for each tile, unless rows may not depend on m.  The first ones are quick on a CPU too: a scaled run has no others.
static const char *const lines[] = {
    "fp8_gemm_nt m=259 n=6 k=8300 sfb=1 lda=8304 ldb=8304",
    "fp8_gemm_nt m=257 n=9 k=8192 sfb=1 out=fp32 c=inplace invariant=1",
    "fp8_gemm_nn m=260 n=10 k=8192 sfb=1 sfa_layout=mn",
    "fp8_m_grouped_contiguous groups=2 m=100 n=14 k=24592 sfb=1 rows=47 align=1",
    "fp8_m_grouped_contiguous groups=3 m=90 n=20 k=24592 rows=28 layout=ends align=4",
    "fp8_gemm_nt m=2100 n=1400 k=7232",
    "fp8_gemm_nt m=1030 n=4104 k=7168 out=fp32 c=separate",
    "fp8_gemm_nt m=700 n=1100 k=7168 sfb=1",
    "fp8_gemm_nt m=1001 n=2111 k=2048 sfb=1 sfa_layout=mn out=fp32",
    "fp8_gemm_nt m=1280 n=2048 k=1664 sfb=1 sfb_layout=mn out=fp32 c=inplace invariant=1",
    "fp8_gemm_nn m=2100 n=2050 k=7200 lda=7200",
    "fp8_m_grouped_contiguous groups=3 m=3000 n=4096 k=2944 align=1 rows=900",
    "fp8_m_grouped_contiguous groups=5 m=3333 n=3080 k=2816 rows=uniform:0.5-1.2 expected_m=600 "
    "sfb=1 layout=ends",
};
enum { NUM_LINES = sizeof lines / sizeof *lines };

static char failure[1024];

// A problem on the device, and a workspace of `bytes` between guard bands.
struct trial {
    const char *line;
    struct dg_problem problem;
    struct cli_data data;
    struct cli_gpu_data copy;
    CUdeviceptr around;
    size_t bytes, spare;   // spare: of which for copies
    uint8_t *seen, *first; // the workspace after a call; D as the first call left it
};

static bool fail(const struct trial *t, const char *text)
{
    snprintf(failure, sizeof failure, "%.300s: %.700s", t->line, text);
    return false;
}

static void find_spare(void *user, const char *section, const char *key, const char *value)
{
    struct trial *t = user;
    (void)section;
    if (!strcmp(key, "spare_workspace_bytes"))
        t->spare = (size_t)strtoull(value, NULL, 10);
}

static bool trial_open(struct trial *t, const char *line, uint64_t seed)
{
    *t = (struct trial){.line = line};
    if (dg_problem_parse(line, &t->problem) != DG_OK ||
        dg_workspace_bytes(context, &t->problem, &t->bytes) != DG_OK ||
        dg_explain(context, &t->problem, find_spare, t) != DG_OK ||
        cli_data_create(&t->data, &t->problem, seed, cpu) != DG_OK ||
        cli_gpu_upload(&gpu, &t->data, &t->copy) != DG_OK)
        return fail(t, dg_last_error());
    t->seen = malloc(t->bytes + 2 * GUARD);
    t->first = malloc(t->data.bytes[CLI_D]);
    if (!t->seen || !t->first ||
        gpu.cuda->cuMemAlloc(&t->around, t->bytes + 2 * GUARD) != CUDA_SUCCESS)
        return fail(t, "no memory");
    return t->spare > 0 || fail(t, "asks for no room for copies");
}

static void trial_close(struct trial *t)
{
    if (t->around)
        gpu.cuda->cuMemFree(t->around);
    cli_gpu_data_free(&gpu, &t->copy);
    cli_data_free(&t->data);
    free(t->seen);
    free(t->first);
}

// One call with so much room; fetches D, and the workspace with what is around it.
static bool call(struct trial *t, size_t room, uint32_t flags)
{
    struct dg_gemm_options options = DG_GEMM_OPTIONS;
    const size_t all = t->bytes + 2 * GUARD;
    options.flags = flags | (t->problem.invariant ? DG_GEMM_BATCH_INVARIANT : 0);
    if (room) {
        options.workspace = (void *)(uintptr_t)(t->around + GUARD);
        options.workspace_bytes = room;
    }
    cli_data_reset(&t->data);
    if (cli_gpu_send_d(&gpu, &t->data, &t->copy) != DG_OK ||
        gpu.cuda->cuMemsetD8Async(t->around, POISON, all, gpu.stream) != CUDA_SUCCESS ||
        cli_call(context, &t->problem, &t->copy.operands, &options, gpu.stream) != DG_OK ||
        gpu.cuda->cuStreamSynchronize(gpu.stream) != CUDA_SUCCESS ||
        gpu.cuda->cuMemcpyDtoHAsync(t->seen, t->around, all, gpu.stream) != CUDA_SUCCESS ||
        gpu.cuda->cuStreamSynchronize(gpu.stream) != CUDA_SUCCESS ||
        cli_gpu_fetch_d(&gpu, &t->data, &t->copy) != DG_OK)
        return fail(t, dg_last_error());
    return true;
}

static const char *d_of(const struct trial *t)
{
    return (const char *)t->data.buffer[CLI_D] + CLI_GUARD_BYTES;
}

static bool is_poison(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != POISON)
            return false;
    return true;
}

static bool guards_are_whole(const struct trial *t)
{
    return is_poison(t->seen, GUARD) && is_poison(t->seen + GUARD + t->bytes, GUARD);
}

static bool is_right(struct trial *t)
{
    struct cli_check check;
    if (cli_check(&t->data, oracle, true, 2e8, &check) != DG_OK)
        return fail(t, dg_last_error());
    return !check.failure[0] || fail(t, check.failure);
}

static bool has_first_bits(const struct trial *t, const char *what)
{
    return !memcmp(d_of(t), t->first, t->data.bytes[CLI_D]) || fail(t, what);
}

// Behind what a B that is laid out anew takes, and the count of a grouped product's tiles.
static bool has_copies(const struct trial *t)
{
    const size_t behind = (t->bytes - t->spare + 255) / 256 * 256 + 256;
    return !is_poison(t->seen + GUARD + behind, t->bytes - behind);
}

static bool try_line(struct trial *t)
{
    if (!call(t, t->bytes, 0) || !is_right(t))
        return false;
    if (!guards_are_whole(t) || !has_copies(t))
        return fail(t, "with room: no copies, or bytes around the workspace were written");
    memcpy(t->first, d_of(t), t->data.bytes[CLI_D]);
    if (!call(t, t->bytes, DG_GEMM_PDL) || !has_first_bits(t, "launched early: other bits"))
        return false;
    if (!call(t, t->bytes - 1, 0) || !has_first_bits(t, "a byte too little room: other bits"))
        return false;
    if (!guards_are_whole(t) || has_copies(t))
        return fail(t, "a byte too little room: copies");
    return t->bytes > t->spare || (call(t, 0, 0) && has_first_bits(t, "no room: other bits"));
}

static void test_copies_of_scales(void)
{
    for (int i = 0; i < harness_scaled(NUM_LINES) && i < NUM_LINES; i++) {
        struct trial t;
        CHECK(trial_open(&t, lines[i], (uint64_t)i + 1) && try_line(&t), "%s", failure);
        trial_close(&t);
    }
}

int main(void)
{
    const int status = checked_open();
    if (status)
        return status;
    RUN(test_copies_of_scales);
    checked_close();
    return harness_end();
}
