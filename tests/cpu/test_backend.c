// SPDX-License-Identifier: MIT
// test_backend.c - choosing instruction set and threads, and plans for CPUs that are not here.
#include "../harness.h"
#include "backend/backend.h"
#include "backend/cpu/cpu_features.h"
#include "backend/cpu/cpu_probe.h"
#include "deepgemm.h"

static dg_status try_options(const char *isa, int32_t num_threads)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.backend = "cpu";
    options.cpu_isa = isa;
    options.num_threads = num_threads;
    dg_context *context;
    const dg_status status = dg_context_create(&context, &options);
    dg_context_destroy(context);
    return status;
}

static void test_unknown_isa_is_refused(void)
{
    CHECK(try_options("sse9", 1) == DG_INVALID_ARGUMENT, "%s", dg_last_error());
    CHECK(strstr(dg_last_error(), "\"sse9\"") && strstr(dg_last_error(), "\"avx2\""), "%s",
          dg_last_error());
}

static void test_isa_this_cpu_lacks_is_refused(void)
{
    CHECK(try_options("c", 1) == DG_OK, "%s", dg_last_error());
    const bool has[] = {dg_cpu_features()->avx2, dg_cpu_features()->avx512};
    const char *const names[] = {"avx2", "avx512"};
    for (int i = 0; i < 2; i++)
        CHECK(try_options(names[i], 1) == (has[i] ? DG_OK : DG_NO_DEVICE), "%s: %s", names[i],
              dg_last_error());
}

static void test_thread_counts_out_of_range_are_refused(void)
{
    CHECK(try_options(NULL, -1) == DG_INVALID_ARGUMENT, "%s", dg_last_error());
    CHECK(strstr(dg_last_error(), "num_threads = -1"), "%s", dg_last_error());
    CHECK(try_options(NULL, 1 << 20) == DG_INVALID_ARGUMENT, "%s", dg_last_error());
    CHECK(try_options(NULL, 64) == DG_OK, "%s", dg_last_error());
}

struct facts {
    char isa[16], tile[32], threads[32];
    double scratch_bytes;
    long long row_tasks, column_tasks, task_rows, task_columns;
};

static void keep_fact(void *user, const char *section, const char *key, const char *value)
{
    struct facts *facts = user;
    if (!strcmp(key, "isa"))
        snprintf(facts->isa, sizeof facts->isa, "%s", value);
    if (!strcmp(key, "tile"))
        snprintf(facts->tile, sizeof facts->tile, "%s", value);
    if (!strcmp(key, "threads"))
        snprintf(facts->threads, sizeof facts->threads, "%s", value);
    if (!strcmp(key, "scratch_bytes"))
        facts->scratch_bytes = atof(value);
    if (!strcmp(key, "partition"))
        sscanf(value, "%lld x %lld tasks of %lld x %lld", &facts->row_tasks, &facts->column_tasks,
               &facts->task_rows, &facts->task_columns);
}

static const struct dg_backend *find_backend(const char *name)
{
    for (int i = 0; dg_backends[i]; i++)
        if (!strcmp(dg_backends[i]->name, name))
            return dg_backends[i];
    return NULL;
}

static void test_plans_cover_the_problem_on_any_cpu(void)
{
    static const char *const isas[] = {"c", "avx2", "avx512"};
    static const int64_t sizes[] = {1, 7, 64, 193, 2112, 100000};
    const struct dg_backend *cpu = find_backend("cpu");
    for (int i = 0; i < 3 * 6 * 6 * 3; i++) {
        struct dg_device device = {.kind = DG_DEVICE_CPU, .name = "invented"};
        device.num_threads = i / 108 == 0 ? 1 : i / 108 == 1 ? 3 : 128;
        snprintf(device.isa, sizeof device.isa, "%s", isas[i % 3]);
        struct dg_problem problem = {.op = DG_OP_FP8_GEMM_NT, .d_type = DG_BF16, .k = 7168};
        problem.m = sizes[i / 3 % 6], problem.n = sizes[i / 18 % 6];
        problem.sf_type = DG_F32, problem.sfb_block_n = 128;
        struct dg_plan plan, again;
        struct facts facts = {.isa = ""};
        CHECK(!cpu->plan(&problem, &device, &plan) && !cpu->plan(&problem, &device, &again), "%s",
              dg_last_error());
        CHECK(plan.kernel == DG_KERNEL_CPU_GEMM && !memcmp(&plan, &again, sizeof plan), "kernel %d",
              (int)plan.kernel);
        cpu->explain(&problem, &device, &plan, keep_fact, &facts);
        CHECK(!strcmp(facts.isa, isas[i % 3]), "isa %s", facts.isa);
        CHECK(facts.row_tasks * facts.task_rows >= problem.m &&
                  (facts.row_tasks - 1) * facts.task_rows < problem.m &&
                  facts.column_tasks * facts.task_columns >= problem.n &&
                  (facts.column_tasks - 1) * facts.task_columns < problem.n,
              "m = %lld, n = %lld: %lld x %lld tasks of %lld x %lld", (long long)problem.m,
              (long long)problem.n, facts.row_tasks, facts.column_tasks, facts.task_rows,
              facts.task_columns);
        CHECK(facts.scratch_bytes > 0 && facts.scratch_bytes <= 512e3 * device.num_threads,
              "%g bytes of scratch for %d threads", facts.scratch_bytes, (int)device.num_threads);
    }
}

static void test_empty_problems_need_no_kernel(void)
{
    const struct dg_backend *cpu = find_backend("cpu");
    const struct dg_device device = {.kind = DG_DEVICE_CPU, .isa = "c", .num_threads = 1};
    struct dg_problem problem = {.op = DG_OP_FP8_GEMM_NT, .d_type = DG_F32, .n = 4, .k = 4};
    struct dg_plan plan;
    CHECK(!cpu->plan(&problem, &device, &plan) && plan.kernel == DG_KERNEL_NONE, "m == 0");
    problem.m = 4, problem.k = 0;
    CHECK(!cpu->plan(&problem, &device, &plan) && plan.kernel == DG_KERNEL_FILL, "k == 0");
}

static void test_probe_measures_what_runs_here(void)
{
    CHECK(dg_cpu_fma_peak_gflops("c", 0.01) > 0.1, "no rate for c");
    CHECK((dg_cpu_fma_peak_gflops("avx2", 0.01) > 0) == dg_cpu_features()->avx2, "avx2");
    CHECK((dg_cpu_fma_peak_gflops("avx512", 0.01) > 0) == dg_cpu_features()->avx512, "avx512");
    CHECK(dg_cpu_fma_peak_gflops("sse9", 0.01) == 0, "a rate for sse9");
}

int main(void)
{
    RUN(test_unknown_isa_is_refused);
    RUN(test_isa_this_cpu_lacks_is_refused);
    RUN(test_thread_counts_out_of_range_are_refused);
    RUN(test_plans_cover_the_problem_on_any_cpu);
    RUN(test_empty_problems_need_no_kernel);
    RUN(test_probe_measures_what_runs_here);
    return harness_end();
}
