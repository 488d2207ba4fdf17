// SPDX-License-Identifier: MIT
// cpu_backend.c - the row of the backend table for CPUs: which kernels, how many threads, and what
// there is to say about them.
#include "backend/cpu/cpu_gemm.h"

#include "backend/cpu/cpu_features.h"
#include "backend/cpu/cpu_mqa.h"
#include "backend/cpu/cpu_probe.h"
#include "base/env.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_THREADS = 4096 };

static bool runs_anywhere(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return dg_cpu_features()->avx2;
}

static bool has_avx512(void)
{
    return dg_cpu_features()->avx512;
}
#endif

// Best first.
static const struct {
    const struct dg_cpu_kernels *kernels;
    bool (*is_runnable)(void);
} tables[] = {
#if defined(__x86_64__)
    {&dg_cpu_kernels_avx512, has_avx512},
    {&dg_cpu_kernels_avx2, has_avx2},
#endif
    {&dg_cpu_kernels_c, runs_anywhere},
};
enum { NUM_TABLES = sizeof tables / sizeof *tables };

const struct dg_cpu_kernels *dg_cpu_find_kernels(const char *isa)
{
    for (int i = 0; i < NUM_TABLES; i++)
        if (tables[i].is_runnable() && (!isa || !strcmp(isa, tables[i].kernels->isa)))
            return tables[i].kernels;
    return NULL;
}

const struct dg_cpu_kernels *dg_cpu_describe_kernels(const char *isa)
{
    for (int i = 0; i < NUM_TABLES; i++)
        if (!strcmp(isa, tables[i].kernels->isa)) // NOLINT(clang-analyzer-core.NullDereference)
            return tables[i].kernels;
    return NULL;
}

static double read_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double dg_cpu_fma_peak_gflops(const char *isa, double seconds)
{
    const struct dg_cpu_kernels *kernels = dg_cpu_find_kernels(isa);
    if (!kernels)
        return 0;
    // The best of short runs: a pause forced by the system should not count as slowness.
    float sink[3] = {1, 0, 0};
    double best = 0;
    for (const double start = read_seconds(); read_seconds() - start < seconds;) {
        const double before = read_seconds();
        const double operations = kernels->spin_fma(10000, sink);
        const double rate = operations / (read_seconds() - before);
        best = rate > best ? rate : best;
    }
    return best * 1e-9;
}

static int is_available(const struct dg_context_options *options, struct dg_strbuf *why_not)
{
    return 1;
}

// Names that mean something on some processor, be it another than this build is for.
static bool is_isa(const char *name)
{
    return !strcmp(name, "c") || !strcmp(name, "avx2") || !strcmp(name, "avx512");
}

static dg_status choose_kernels(const struct dg_context_options *options,
                                const struct dg_cpu_kernels **kernels)
{
    const char *isa = options->cpu_isa ? options->cpu_isa : dg_env_text(DG_ENV_CPU_ISA);
    const char *source = options->cpu_isa ? "cpu_isa" : "DG_CPU_ISA";
    *kernels = dg_cpu_find_kernels(isa);
    if (*kernels)
        return DG_OK;
    if (is_isa(isa))
        return dg_fail(DG_NO_DEVICE, "%s = \"%s\": this CPU cannot run it; \"%s\" is its best",
                       source, isa, dg_cpu_find_kernels(NULL)->isa);
    return dg_fail(DG_INVALID_ARGUMENT, "%s = \"%s\": must be \"c\", \"avx2\" or \"avx512\"",
                   source, isa);
}

static dg_status choose_threads(const struct dg_context_options *options, int32_t *num_threads)
{
    const bool is_given = options->num_threads != 0;
    const long wanted = is_given ? options->num_threads : dg_env_number(DG_ENV_NUM_THREADS, 0);
    if (wanted < 0 || wanted > MAX_THREADS)
        return dg_fail(DG_INVALID_ARGUMENT, "%s = %ld: must be 0 (choose) to %d",
                       is_given ? "num_threads" : "DG_NUM_THREADS", wanted, MAX_THREADS);
    *num_threads = wanted ? (int32_t)wanted : dg_cpu_usable_count();
    if (*num_threads > MAX_THREADS)
        *num_threads = MAX_THREADS;
    return DG_OK;
}

dg_status dg_cpu_open(const struct dg_context_options *options, const struct dg_log *log,
                      struct dg_device *device, void **state)
{
    const struct dg_cpu_kernels *kernels;
    int32_t num_threads = 1;
    DG_TRY(choose_kernels(options, &kernels));
    DG_TRY(choose_threads(options, &num_threads));
    struct dg_cpu_state *made = calloc(1, sizeof *made);
    if (!made)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a CPU executor");
    made->kernels = kernels;
    made->num_threads = num_threads;
    const dg_status status = dg_cpu_pool_create(&made->pool, num_threads, dg_cpu_scratch_bytes());
    if (status != DG_OK) {
        free(made);
        return status;
    }
    *device = (struct dg_device){.kind = DG_DEVICE_CPU, .ordinal = -1, .num_threads = num_threads};
    dg_cpu_name(device->name, sizeof device->name);
    snprintf(device->isa, sizeof device->isa, "%s", kernels->isa);
    *state = made;
    dg_log_write(log, DG_LOG_INFO, "cpu: %s, kernels %s, %d threads", device->name, kernels->isa,
                 (int)num_threads);
    return DG_OK;
}

void dg_cpu_close(void *state)
{
    struct dg_cpu_state *cpu = state;
    if (!cpu)
        return;
    dg_cpu_pool_destroy(cpu->pool);
    free(cpu);
}

static dg_status plan(const struct dg_problem *problem, const struct dg_device *device,
                      struct dg_plan *plan)
{
    if (device->kind != DG_DEVICE_CPU)
        return dg_fail(DG_UNSUPPORTED, "the cpu backend does not run on %s", device->name);
    if (problem->d_type != DG_BF16 && problem->d_type != DG_F32)
        return dg_fail(DG_UNSUPPORTED, "out = %s: the cpu backend writes bf16 and f32",
                       dg_type_name(problem->d_type));
    memset(plan, 0, sizeof *plan);
    plan->kernel = !problem->m || !problem->n ? DG_KERNEL_NONE
                   : !problem->k              ? DG_KERNEL_FILL
                                              : DG_KERNEL_CPU_GEMM;
    snprintf(plan->why, sizeof plan->why, "the context's instruction set, %s", device->isa);
    return DG_OK;
}

static void explain(const struct dg_problem *problem, const struct dg_device *device,
                    const struct dg_plan *plan, dg_fact_callback callback, void *user)
{
    const struct dg_cpu_kernels *kernels = dg_cpu_describe_kernels(device->isa);
    if (!kernels || plan->kernel != DG_KERNEL_CPU_GEMM) {
        dg_tell(callback, user, "plan", "kernel", "%s",
                plan->kernel == DG_KERNEL_FILL ? "fill: k is 0" : "none: nothing to write");
        return;
    }
    struct dg_cpu_blocking blocking;
    dg_cpu_choose_blocking(problem, kernels, device->num_threads, &blocking);
    dg_tell(callback, user, "plan", "kernel", "cpu_fp8_gemm");
    dg_tell(callback, user, "plan", "isa", "%s", kernels->isa);
    dg_tell(callback, user, "plan", "threads", "%d of %d", (int)blocking.num_threads,
            (int)device->num_threads);
    dg_tell(callback, user, "plan", "tile", "%d x %d x %d", (int)kernels->tile_rows,
            (int)kernels->panel_columns, CPU_BLOCK_K);
    dg_tell(callback, user, "plan", "partition",
            "%" PRId64 " x %" PRId64 " tasks of %" PRId64 " x %" PRId64, blocking.num_row_tasks,
            blocking.num_column_tasks, blocking.task_rows, blocking.task_columns);
    dg_tell(callback, user, "plan", "scratch_bytes", "%zu",
            dg_cpu_scratch_bytes() * (size_t)blocking.num_threads);
}

static dg_status gemm(void *state, const struct dg_problem *problem, const struct dg_plan *plan,
                      const struct dg_gemm_args *args)
{
    switch (plan->kernel) {
    case DG_KERNEL_NONE:
        return DG_OK;
    case DG_KERNEL_FILL:
        dg_cpu_fill(problem, args);
        return DG_OK;
    case DG_KERNEL_CPU_GEMM:
        return dg_cpu_gemm(state, problem, args);
    default:
        return dg_fail(DG_INTERNAL, "the cpu backend has no plan kernel %d", (int)plan->kernel);
    }
}

static dg_status grouped(void *state, const struct dg_problem *problem, const struct dg_plan *plan,
                         const struct dg_grouped_args *args)
{
    return dg_cpu_grouped(state, problem, args);
}

static void info(dg_fact_callback callback, void *user)
{
    char text[128];
    dg_cpu_name(text, sizeof text);
    callback(user, "cpu", "name", text);
    snprintf(text, sizeof text, "%d", (int)dg_cpu_usable_count());
    callback(user, "cpu", "usable cpus", text);
    for (int i = 0; i < NUM_TABLES; i++)
        callback(user, "cpu", tables[i].kernels->isa, tables[i].is_runnable() ? "yes" : "no");
}

extern const struct dg_backend dg_cpu_backend;
const struct dg_backend dg_cpu_backend = {
    .name = "cpu",
    .is_default = 1,
    .available = is_available,
    .open = dg_cpu_open,
    .close = dg_cpu_close,
    .plan = plan,
    .explain = explain,
    .gemm = gemm,
    .grouped = grouped,
    .quantize = dg_cpu_quantize,
    .dequantize = dg_cpu_dequantize,
    .mqa_logits = dg_cpu_mqa_logits,
    .mqa_schedule = dg_cpu_mqa_schedule,
    .info = info,
};
