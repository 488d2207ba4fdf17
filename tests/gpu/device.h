// SPDX-License-Identifier: MIT
// device.h - what the tests on a GPU share: a device for each thread, one piece of its memory that all
// problems reuse, and random problems that go there, run through the public API and come back.
//
// A buffer goes to the device with its guard bands and at addresses as odd as the call allows; after the
// call everything comes back, so that a stray write into D's surroundings, into an input or behind the
// workspace shows.
#ifndef DG_TESTS_GPU_DEVICE_H
#define DG_TESTS_GPU_DEVICE_H

#include "../../cli/gpu.h"
#include "../contexts.h"
#include "../harness.h"
#include "../random_problem.h"

#include "plan/problem.h"

enum { ARENA_BYTES = 256 << 20 };

// One thread's device, memory and contexts.
struct lane {
    struct cli_gpu gpu; // current for the thread from lane_open() to lane_close()
    dg_context *context, *oracle;
    bool owns_context;
    bool is_aligned; // all buffers begin at multiples of 256 bytes
    CUdeviceptr arena;
    size_t used;
    char failure[1024]; // "" while all is well
};

__attribute__((format(printf, 2, 3))) static bool lane_fail(struct lane *lane, const char *format,
                                                            ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!lane->failure[0])
        vsnprintf(lane->failure, sizeof lane->failure, format, arguments);
    va_end(arguments);
    return false;
}

// ---- opening --------------------------------------------------------------------------------------

// Ends the program as skipped where there is no GPU for it.
static void need_gpu(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.backend = "sm90";
    dg_context *context;
    const dg_status status = dg_context_create(&context, &options);
    if (status == DG_OK) {
        dg_context_destroy(context);
        return;
    }
    printf("%s%s\n", status == DG_NO_DEVICE ? "" : "Bail out! ", dg_last_error());
    exit(status == DG_NO_DEVICE ? 77 : 1);
}

// `shared`: the context to work on; NULL for one of its own.
static bool lane_open(struct lane *lane, dg_context *shared)
{
    *lane = (struct lane){.context = shared, .owns_context = !shared};
    if (cli_gpu_open(&lane->gpu, -1) != DG_OK)
        return lane_fail(lane, "%s", dg_last_error());
    if (lane->gpu.cuda->cuMemAlloc(&lane->arena, ARENA_BYTES) != CUDA_SUCCESS)
        return lane_fail(lane, "no %d bytes of device memory", ARENA_BYTES);
    if (!shared)
        lane->context = open_context("sm90", NULL, 0);
    lane->oracle = open_context("oracle", NULL, 1);
    return (lane->context && lane->oracle) || lane_fail(lane, "%s", dg_last_error());
}

static void lane_close(struct lane *lane)
{
    if (lane->owns_context)
        dg_context_destroy(lane->context);
    dg_context_destroy(lane->oracle);
    if (lane->arena)
        lane->gpu.cuda->cuMemFree(lane->arena);
    cli_gpu_close(&lane->gpu);
}

// ---- memory ---------------------------------------------------------------------------------------

// `bytes` of the arena that begin `shift` bytes behind a multiple of 256.
static CUdeviceptr lane_take(struct lane *lane, size_t bytes, size_t shift)
{
    const size_t at = (lane->used + 255) / 256 * 256 + shift;
    lane->used = at + bytes;
    if (lane->used <= ARENA_BYTES)
        return lane->arena + at;
    lane_fail(lane, "%zu bytes do not fit the tests' device memory", lane->used);
    return 0;
}

static bool lane_copy_in(struct lane *lane, CUdeviceptr to, const void *from, size_t bytes)
{
    const struct cli_gpu *gpu = &lane->gpu;
    return (to && gpu->cuda->cuMemcpyHtoDAsync(to, from, bytes, gpu->stream) == CUDA_SUCCESS) ||
           lane_fail(lane, "copying %zu bytes to the device", bytes);
}

// Waits for the stream too.
static bool lane_copy_out(struct lane *lane, void *to, CUdeviceptr from, size_t bytes)
{
    const struct cli_gpu *gpu = &lane->gpu;
    const CUresult result = gpu->cuda->cuMemcpyDtoHAsync(to, from, bytes, gpu->stream);
    if (result == CUDA_SUCCESS && gpu->cuda->cuStreamSynchronize(gpu->stream) == CUDA_SUCCESS)
        return true;
    dg_cuda_fail(result, "copying from the device");
    return lane_fail(lane, "%s", dg_last_error());
}

// ---- a problem on the device ----------------------------------------------------------------------

enum { ON_A, ON_SFA, ON_B, ON_SFB, ON_C, ON_D, ON_BUFFERS };

struct on_device {
    CUdeviceptr memory[ON_BUFFERS]; // guard, data, guard; as struct random_buffer
    struct cli_operands operands;
    struct dg_gemm_options options;
};

static void list_buffers(struct random_problem *r, struct random_buffer *list[ON_BUFFERS])
{
    struct random_buffer *const buffers[ON_BUFFERS] = {&r->a,   &r->sfa, &r->b,
                                                       &r->sfb, &r->c,   &r->d};
    memcpy(list, buffers, sizeof buffers);
}

// Does TMA read this operand where it lies?  Then its address must be a multiple of 16.
static bool is_read_in_place(dg_major major, int64_t rows, int64_t ld)
{
    return major == DG_K_MAJOR && (rows == 1 || ld % 16 == 0);
}

// Bytes behind a multiple of 256 at which a buffer may begin: now and then those that rule out TMA.
static size_t draw_shift(const struct dg_problem *p, int buffer, uint64_t *state)
{
    const size_t element = buffer >= ON_C ? dg_type_bytes(p->d_type) : 4;
    const uint64_t word = random_next(state);
    if (buffer == ON_A || buffer == ON_B) {
        const bool in_place = buffer == ON_A ? is_read_in_place(p->a_major, p->m, p->lda)
                                             : is_read_in_place(p->b_major, p->n, p->ldb);
        return in_place ? word % 16 * 16 : word % 256;
    }
    return word % 4 ? word / 4 % 16 * 16 : word / 4 % 32 * element;
}

static void describe_on_device(const struct random_problem *r, struct on_device *at)
{
    const struct dg_problem *p = &r->problem;
    void *data[ON_BUFFERS];
    for (int i = 0; i < ON_BUFFERS; i++)
        data[i] = (void *)(uintptr_t)(at->memory[i] + RANDOM_GUARD_BYTES);
    void *const inputs[4] = {data[ON_A], data[ON_SFA], data[ON_B], data[ON_SFB]};
    struct cli_operands *o = &at->operands;
    random_problem_operands(r, inputs, &o->a, &o->b);
    o->d = dg_matrix_strided(data[ON_D], p->d_type, p->m, p->n, p->ldd);
    o->c = o->d;
    if (p->c_mode == DG_C_NONE)
        o->c.data = NULL;
    if (p->c_mode == DG_C_SEPARATE) {
        o->c.data = data[ON_C];
        memcpy(o->c.stride, r->c_stride, sizeof r->c_stride);
    }
}

static bool is_poisoned(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != RANDOM_POISON)
            return false;
    return true;
}

// The workspace the library asks for, and a poisoned guard behind it.
static bool take_workspace(struct lane *lane, const struct dg_problem *problem,
                           struct dg_gemm_options *options)
{
    *options = DG_GEMM_OPTIONS;
    if (dg_workspace_bytes(lane->context, problem, &options->workspace_bytes) != DG_OK)
        return lane_fail(lane, "%s", dg_last_error());
    if (options->workspace_bytes == 0)
        return true;
    const CUdeviceptr workspace = lane_take(lane, options->workspace_bytes + RANDOM_GUARD_BYTES, 0);
    options->workspace = (void *)(uintptr_t)workspace;
    return workspace && lane->gpu.cuda->cuMemsetD8Async(
                            workspace, RANDOM_POISON, options->workspace_bytes + RANDOM_GUARD_BYTES,
                            lane->gpu.stream) == CUDA_SUCCESS;
}

// Host buffers must begin at RANDOM_GUARD_BYTES (no RANDOM_ODD_ADDRESSES): oddness is added here.
static bool lane_put(struct lane *lane, struct random_problem *r, struct on_device *at)
{
    struct random_buffer *buffers[ON_BUFFERS];
    struct dg_problem complete;
    uint64_t state = r->seed * 2 + 5;
    list_buffers(r, buffers);
    if (dg_problem_complete(&r->problem, &complete) != DG_OK)
        return lane_fail(lane, "%s", dg_last_error());
    for (int i = 0; i < ON_BUFFERS; i++) {
        const size_t bytes = RANDOM_PROBLEM_TOTAL(*buffers[i]);
        const size_t shift = draw_shift(&complete, i, &state);
        at->memory[i] = lane_take(lane, bytes, lane->is_aligned ? 0 : shift);
        if (!lane_copy_in(lane, at->memory[i], buffers[i]->memory, bytes))
            return false;
    }
    describe_on_device(r, at);
    return take_workspace(lane, &r->problem, &at->options);
}

static bool lane_call(struct lane *lane, const struct random_problem *r, struct on_device *at)
{
    return cli_call(lane->context, &r->problem, &at->operands, &at->options, lane->gpu.stream) ==
               DG_OK ||
           lane_fail(lane, "%s: %s", r->line, dg_last_error());
}

// D with its guards to the host's D, as it was before the call if `reset`.
__attribute__((unused)) static bool lane_reset_d(struct lane *lane, struct random_problem *r,
                                                 const struct on_device *at)
{
    random_problem_reset(r);
    return lane_copy_in(lane, at->memory[ON_D], r->d.memory, RANDOM_PROBLEM_TOTAL(r->d));
}

static bool lane_get_d(struct lane *lane, struct random_problem *r, const struct on_device *at)
{
    return lane_copy_out(lane, r->d.memory, at->memory[ON_D], RANDOM_PROBLEM_TOTAL(r->d));
}

// ---- judging --------------------------------------------------------------------------------------

static bool check_input(struct lane *lane, const struct random_problem *r, const char *name,
                        const struct random_buffer *buffer, CUdeviceptr memory)
{
    const size_t bytes = RANDOM_PROBLEM_TOTAL(*buffer);
    void *copy = malloc(bytes);
    const bool is_read = copy && lane_copy_out(lane, copy, memory, bytes);
    const bool is_same = is_read && !memcmp(copy, buffer->memory, bytes);
    free(copy);
    return is_same || lane_fail(lane, "%s: %s changed on the device", r->line, name);
}

static bool check_workspace(struct lane *lane, const struct random_problem *r,
                            const struct dg_gemm_options *options)
{
    uint8_t guard[RANDOM_GUARD_BYTES];
    const CUdeviceptr end = (CUdeviceptr)(uintptr_t)options->workspace + options->workspace_bytes;
    if (!options->workspace)
        return true;
    return lane_copy_out(lane, guard, end, sizeof guard) &&
           (is_poisoned(guard, sizeof guard) ||
            lane_fail(lane, "%s: bytes behind the workspace were written", r->line));
}

// Brings D back and looks for changes where none may be.
static bool lane_get(struct lane *lane, struct random_problem *r, const struct on_device *at)
{
    static const char *const names[] = {"a", "a's scales", "b", "b's scales", "c"};
    struct random_buffer *buffers[ON_BUFFERS];
    list_buffers(r, buffers);
    if (!lane_get_d(lane, r, at) || !check_workspace(lane, r, &at->options))
        return false;
    for (int i = 0; i < ON_D; i++)
        if (!check_input(lane, r, names[i], buffers[i], at->memory[i]))
            return false;
    const char *damage = random_problem_damage(r);
    return !damage || lane_fail(lane, "%s: %s changed", r->line, damage);
}

// A tensor core aligns the 32 products of a step, and the sum so far, to the largest of them and keeps 13
// bits behind its leading one.  At worst that takes 33 * 2^-13 of the magnitudes of what is added; a
// simulation with these data reaches a fifth of that in a single element, 5e-4 in the norm of many.
#define LIMIT_OF_TERMS 2e-3
#define LIMIT_RELATIVE 1e-3
enum { MANY = 100 };

struct squares {
    double error, norm;
};

// Compares row i of D with what the oracle says; adds the squares of errors and of values.
static bool compare_elements(struct lane *lane, const struct random_problem *r, int64_t row,
                             const double *exact, const double *terms, struct squares *sums)
{
    const struct dg_problem *p = &r->problem;
    for (int64_t j = 0; j < p->n; j++) {
        const double got = random_load(r, random_data(&r->d), row * p->ldd + j);
        const double error = fabs(got - exact[j]), sum = LIMIT_OF_TERMS * terms[j];
        const double larger = fmax(fabs(got), fabs(exact[j]));
        const double rounding = p->d_type == DG_BF16 ? random_half_ulp_bf16(larger) : 0;
        if (!(error <= sum + rounding) || (p->k == 0 && error > 0))
            return lane_fail(lane, "%s: element [%lld, %lld] is %.9g instead of %.9g (terms %.3g)",
                             r->line, (long long)row, (long long)j, got, exact[j], terms[j]);
        // Terms of random signs; rounding to BF16 is no error of the sum.
        const double least = terms[j] * terms[j] / (double)(p->k + 1);
        sums->error += error > rounding ? (error - rounding) * (error - rounding) : 0;
        sums->norm += fmax(exact[j] * exact[j], least);
    }
    return true;
}

static bool compare_all(struct lane *lane, const struct random_problem *r, double *exact,
                        double *terms)
{
    const struct dg_problem *p = &r->problem;
    struct squares sums = {0, 0};
    if (random_problem_reference(r, lane->oracle, false, exact) != DG_OK ||
        random_problem_reference(r, lane->oracle, true, terms) != DG_OK)
        return lane_fail(lane, "%s: %s", r->line, dg_last_error());
    for (int64_t i = 0; i < p->m; i++)
        if (!compare_elements(lane, r, i, exact + i * p->n, terms + i * p->n, &sums))
            return false;
    const double relative = sums.error > 0 ? sqrt(sums.error / sums.norm) : 0;
    return relative <= LIMIT_RELATIVE || p->m * p->n < MANY ||
           lane_fail(lane, "%s: relative error %.3g", r->line, relative);
}

static bool lane_compare(struct lane *lane, const struct random_problem *r)
{
    const size_t elements = (size_t)(r->problem.m * r->problem.n) + 1;
    double *exact = calloc(2 * elements, sizeof *exact);
    const bool is_right =
        exact ? compare_all(lane, r, exact, exact + elements) : lane_fail(lane, "host memory");
    free(exact);
    return is_right;
}

// The whole way of one problem.
__attribute__((unused)) static bool lane_try(struct lane *lane, const struct dg_problem *problem,
                                             uint64_t seed, int flags)
{
    struct random_problem r;
    struct on_device at;
    lane->used = 0;
    random_problem_make(&r, problem, seed, flags);
    const bool is_right = lane_put(lane, &r, &at) && lane_call(lane, &r, &at) &&
                          lane_get(lane, &r, &at) && lane_compare(lane, &r);
    random_problem_free(&r);
    return is_right;
}

#endif
