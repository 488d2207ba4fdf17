// SPDX-License-Identifier: MIT
// test_jit_table.c - the memory table in front of the compiler: once per key, any number of threads, what a
// failure leaves behind, what is loaded and unloaded.  Driver and compiler are our own.
#include "fake_cuda.h"

#include "jit/compile.h"

#include "../harness.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct key {
    int32_t block_m, block_n;
};

static atomic_int num_compiles, num_describes, num_at_once, most_at_once;
static atomic_bool compile_fails;

static const struct dg_log silent = {NULL, NULL, DG_LOG_ERROR};

static dg_status fake_compile(const struct dg_log *log, const struct dg_jit_request *request,
                              struct dg_jit_binary *binary)
{
    const int now = ++num_at_once;
    for (int most = most_at_once;
         now > most && !atomic_compare_exchange_weak(&most_at_once, &most, now);)
        ;
    nanosleep(&(struct timespec){.tv_nsec = 30000000L}, NULL);
    num_compiles++;
    num_at_once--;
    if (compile_fails)
        return dg_fail(DG_COMPILE_FAILED, "kernel %s: refused, prologue `%s`", request->name,
                       dg_strbuf_text(&request->prologue));
    *binary =
        (struct dg_jit_binary){.cubin = calloc(1, 16), .cubin_bytes = 16, .compiler = "nvrtc 13.5"};
    return DG_OK;
}

static const char *kernel_name = "k";

static dg_status describe(void *user, struct dg_jit_request *request)
{
    const struct key *key = user;
    num_describes++;
    request->name = kernel_name;
    request->arch = 90;
    request->smem_bytes = 1024 * key->block_m;
    dg_jit_define(request, "DG_BLOCK_M", key->block_m);
    return DG_OK;
}

static struct dg_jit *fresh_table(void)
{
    struct dg_jit *jit = NULL;
    memset(&fake, 0, sizeof fake);
    num_compiles = num_describes = most_at_once = 0;
    compile_fails = false;
    kernel_name = "k";
    if (dg_jit_create(&jit, &fake_cuda, 0, &silent) == DG_OK)
        dg_jit_replace_compile(jit, fake_compile);
    return jit;
}

static dg_status get(struct dg_jit *jit, struct key key, struct dg_jit_kernel *kernel)
{
    return dg_jit_get(jit, &key, sizeof key, describe, &key, kernel);
}

static void test_key_is_built_and_loaded_once(void)
{
    struct dg_jit *jit = fresh_table();
    struct dg_jit_kernel first, again, other;
    CHECK(get(jit, (struct key){128, 64}, &first) == DG_OK, "%s", dg_last_error());
    CHECK(get(jit, (struct key){128, 64}, &again) == DG_OK, "%s", dg_last_error());
    CHECK(get(jit, (struct key){64, 128}, &other) == DG_OK, "%s", dg_last_error());
    CHECK(first.function == again.function && first.function != other.function, "mixed up");
    CHECK(first.smem_bytes == 128 * 1024 && other.smem_bytes == 64 * 1024, "%d %d bytes",
          first.smem_bytes, other.smem_bytes);
    CHECK(first.num_registers == 168 && first.local_bytes == 0, "%d registers",
          first.num_registers);
    CHECK(num_compiles == 2 && num_describes == 2 && fake.num_loads == 2, "%d compiles, %d loads",
          num_compiles, fake.num_loads);
    CHECK(dg_jit_count(jit) == 2, "%d kernels", dg_jit_count(jit));
    CHECK(fake.mode_at_load == CU_STREAM_CAPTURE_MODE_RELAXED && fake_mode == 0,
          "a capture of this thread would be broken by the load");
    dg_jit_destroy(jit);
    CHECK(fake.num_unloads == 2, "%d of 2 unloaded", fake.num_unloads);
    dg_jit_destroy(NULL);
}

static void test_long_keys_are_refused(void)
{
    struct dg_jit *jit = fresh_table();
    struct dg_jit_kernel kernel;
    char key[200] = {0};
    CHECK(dg_jit_get(jit, key, sizeof key, describe, key, &kernel) == DG_INTERNAL, "200 bytes");
    dg_jit_destroy(jit);
}

static void test_many_keys_stay_apart(void)
{
    struct dg_jit *jit = fresh_table();
    struct dg_jit_kernel kernel;
    CUfunction functions[64];
    for (int i = 0; i < 64; i++) {
        CHECK(get(jit, (struct key){i % 8, i / 8}, &kernel) == DG_OK, "%s", dg_last_error());
        functions[i] = kernel.function;
    }
    for (int i = 0; i < 64; i++) {
        CHECK(get(jit, (struct key){i % 8, i / 8}, &kernel) == DG_OK, "%s", dg_last_error());
        CHECK(kernel.function == functions[i], "key %d found another kernel", i);
    }
    dg_jit_destroy(jit);
}

// ---- failures ---------------------------------------------------------------------------------------

static void test_failure_is_told_and_tried_again(void)
{
    struct dg_jit *jit = fresh_table();
    struct dg_jit_kernel kernel;
    compile_fails = true;
    CHECK(get(jit, (struct key){96, 1}, &kernel) == DG_COMPILE_FAILED, "status");
    CHECK(strstr(dg_last_error(), "refused, prologue `#define DG_BLOCK_M 96\n`"), "%s",
          dg_last_error());
    CHECK(dg_jit_count(jit) == 0, "a failure is in the table");
    compile_fails = false;
    CHECK(get(jit, (struct key){96, 1}, &kernel) == DG_OK, "%s", dg_last_error());
    CHECK(num_compiles == 2, "%d compiles", num_compiles);
    dg_jit_destroy(jit);
}

static void test_load_failures_say_what_would_do(void)
{
    static const struct {
        CUresult result;
        dg_status status;
        const char *words;
    } rows[] = {
        {CUDA_ERROR_NO_BINARY_FOR_GPU, DG_CUDA_ERROR, "nvidia-cuda-nvrtc-cu12"},
        {CUDA_ERROR_INVALID_IMAGE, DG_CUDA_ERROR, "built by nvrtc 13.5"},
        {CUDA_ERROR_OUT_OF_MEMORY, DG_OUT_OF_MEMORY, "loading kernel k"},
    };
    struct dg_jit *jit = fresh_table();
    struct dg_jit_kernel kernel;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fake.load_result = rows[i].result;
        CHECK(get(jit, (struct key){1, 1}, &kernel) == rows[i].status, "row %zu", i);
        CHECK(strstr(dg_last_error(), rows[i].words), "%s", dg_last_error());
    }
    fake.load_result = CUDA_SUCCESS;
    CHECK(get(jit, (struct key){1000, 1}, &kernel) == DG_CUDA_ERROR, "too much shared memory");
    kernel_name = "missing";
    CHECK(get(jit, (struct key){2, 2}, &kernel) == DG_CUDA_ERROR, "no such entry");
    CHECK(fake.num_loads == fake.num_unloads, "%d loads, %d unloads", fake.num_loads,
          fake.num_unloads);
    CHECK(fake_mode == 0, "the thread's capture mode was not restored");
    kernel_name = "k";
    CHECK(get(jit, (struct key){1, 1}, &kernel) == DG_OK, "%s", dg_last_error());
    dg_jit_destroy(jit);
}

// ---- threads ----------------------------------------------------------------------------------------

struct worker {
    struct dg_jit *jit;
    struct key key;
    dg_status status;
    struct dg_jit_kernel kernel;
    char error[256];
};

static void *get_in_thread(void *user)
{
    struct worker *worker = user;
    worker->status = get(worker->jit, worker->key, &worker->kernel);
    if (worker->status != DG_OK)
        snprintf(worker->error, sizeof worker->error, "%s", dg_last_error());
    return NULL;
}

static int run_workers(struct worker *workers, int count)
{
    pthread_t threads[16];
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, get_in_thread, &workers[i]))
            return 0;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return 1;
}

static void test_threads_build_a_key_once(void)
{
    struct dg_jit *jit = fresh_table();
    struct worker workers[8];
    for (int i = 0; i < 8; i++)
        workers[i] = (struct worker){.jit = jit, .key = {7, 7}};
    CHECK(run_workers(workers, 8), "no threads");
    for (int i = 0; i < 8; i++)
        CHECK(workers[i].status == DG_OK &&
                  workers[i].kernel.function == workers[0].kernel.function,
              "thread %d: %s", i, workers[i].error);
    CHECK(num_compiles == 1 && fake.num_loads == 1, "%d compiles", num_compiles);
    dg_jit_destroy(jit);
}

static void test_different_keys_build_at_the_same_time(void)
{
    struct dg_jit *jit = fresh_table();
    struct worker workers[8];
    for (int i = 0; i < 8; i++)
        workers[i] = (struct worker){.jit = jit, .key = {i, 7}};
    CHECK(run_workers(workers, 8), "no threads");
    CHECK(num_compiles == 8 && most_at_once > 1, "%d compiles, at most %d at once", num_compiles,
          most_at_once);
    dg_jit_destroy(jit);
}

static void test_all_waiting_threads_get_the_failure(void)
{
    struct dg_jit *jit = fresh_table();
    struct worker workers[8];
    compile_fails = true;
    for (int i = 0; i < 8; i++)
        workers[i] = (struct worker){.jit = jit, .key = {5, 5}};
    CHECK(run_workers(workers, 8), "no threads");
    for (int i = 0; i < 8; i++)
        CHECK(workers[i].status == DG_COMPILE_FAILED && strstr(workers[i].error, "refused"),
              "thread %d: status %d, `%s`", i, workers[i].status, workers[i].error);
    CHECK(num_compiles < 8, "%d compiles of a key that fails", num_compiles);
    dg_jit_destroy(jit);
}

static void *mixed_keys(void *user)
{
    struct worker *worker = user;
    unsigned seed = (unsigned)worker->key.block_n;
    for (int i = 0; i < 2000 && worker->status == DG_OK; i++) {
        struct key key = {rand_r(&seed) % 20, 3};
        struct dg_jit_kernel kernel;
        worker->status = get(worker->jit, key, &kernel);
        if (kernel.smem_bytes != 1024 * key.block_m)
            worker->status = DG_INTERNAL;
    }
    return NULL;
}

static void test_lookups_race_with_additions(void)
{
    struct dg_jit *jit = fresh_table();
    struct worker workers[6];
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        workers[i] = (struct worker){.jit = jit, .key = {0, i + 1}};
        CHECK(!pthread_create(&threads[i], NULL, mixed_keys, &workers[i]), "no thread");
    }
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 6; i++)
        CHECK(workers[i].status == DG_OK, "thread %d: status %d", i, workers[i].status);
    CHECK(num_compiles == 20 && dg_jit_count(jit) == 20, "%d compiles of 20 keys", num_compiles);
    dg_jit_destroy(jit);
}

static double nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// The best of many batches: what a call costs when nothing else runs.
static void test_lookup_costs_tens_of_nanoseconds(void)
{
    enum { BATCH = 1000 };
    struct dg_jit *jit = fresh_table();
    struct {
        int32_t fields[24];
    } key = {{1, 2, 3}};
    struct key described = {1, 2};
    struct dg_jit_kernel kernel;
    double best = 1e9;
    for (int batch = 0; batch < 200; batch++) {
        const double begin = nanoseconds();
        for (int i = 0; i < BATCH; i++)
            if (dg_jit_get(jit, &key, sizeof key, describe, &described, &kernel) != DG_OK)
                break;
        const double each = (nanoseconds() - begin) / BATCH;
        best = each < best ? each : best;
    }
    printf("# a lookup with a key of %zu bytes: %.1f ns\n", sizeof key, best);
    CHECK(best < 1000, "%.0f ns", best); // sanitizers multiply it; 20 to 40 is usual
    dg_jit_destroy(jit);
}

int main(void)
{
    RUN(test_key_is_built_and_loaded_once);
    RUN(test_long_keys_are_refused);
    RUN(test_many_keys_stay_apart);
    RUN(test_failure_is_told_and_tried_again);
    RUN(test_load_failures_say_what_would_do);
    RUN(test_threads_build_a_key_once);
    RUN(test_different_keys_build_at_the_same_time);
    RUN(test_all_waiting_threads_get_the_failure);
    RUN(test_lookups_race_with_additions);
    RUN(test_lookup_costs_tens_of_nanoseconds);
    return harness_end();
}
