// SPDX-License-Identifier: MIT
// test_threads.c - the thread pool on its own: every task once, scratch never shared, callers that do
// not wait for each other, and how many CPUs we take to be ours.
#include "../harness.h"
#include "backend/cpu/cpu_threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { SCRATCH = 8192, MAX_TASKS = 300 };

struct record {
    atomic_int runs[MAX_TASKS];
    atomic_int sharing; // tasks whose mark in the scratch was overwritten while they ran
    int spins;
};

static void run_task(const void *argument, void *scratch, int64_t task)
{
    struct record *record = (struct record *)argument;
    _Atomic(void *) *mark = (_Atomic(void *) *)((char *)scratch + SCRATCH - 64);
    void *const mine = &record->runs[task];
    atomic_store(mark, mine);
    for (volatile int i = 0; i < record->spins; i++)
        ;
    if (atomic_load(mark) != mine)
        atomic_fetch_add(&record->sharing, 1);
    atomic_fetch_add(&record->runs[task], 1);
}

static int count_wrong(const struct record *record, int64_t num_tasks)
{
    int wrong = atomic_load(&record->sharing);
    for (int64_t i = 0; i < MAX_TASKS; i++)
        wrong += atomic_load(&record->runs[i]) != (i < num_tasks);
    return wrong;
}

static void test_every_task_runs_once(void)
{
    for (int threads = 1; threads <= 6; threads++) {
        struct dg_cpu_pool *pool;
        CHECK(!dg_cpu_pool_create(&pool, threads, SCRATCH), "%s", dg_last_error());
        for (int round = 0; round < harness_scaled(400); round++) {
            struct record *record = calloc(1, sizeof *record);
            record->spins = round % 7 * 20;
            const int64_t num_tasks = round * 37 % (MAX_TASKS + 1);
            const struct dg_cpu_job job = {run_task, record, num_tasks, 1 + round % 8};
            CHECK(!dg_cpu_pool_run(pool, &job), "%s", dg_last_error());
            CHECK(count_wrong(record, num_tasks) == 0, "%d threads, %lld tasks: %d wrong", threads,
                  (long long)num_tasks, count_wrong(record, num_tasks));
            free(record);
        }
        dg_cpu_pool_destroy(pool);
    }
}

static void test_one_thread_is_the_caller(void)
{
    struct dg_cpu_pool *pool;
    CHECK(!dg_cpu_pool_create(&pool, 1, SCRATCH), "%s", dg_last_error());
    struct record *record = calloc(1, sizeof *record);
    const struct dg_cpu_job job = {run_task, record, 100, 1};
    CHECK(!dg_cpu_pool_run(pool, &job), "%s", dg_last_error());
    CHECK(count_wrong(record, 100) == 0, "%d wrong", count_wrong(record, 100));
    free(record);
    dg_cpu_pool_destroy(pool);
}

struct caller {
    struct dg_cpu_pool *pool;
    int rounds, wrong;
};

static void *call_repeatedly(void *argument)
{
    struct caller *caller = argument;
    for (int round = 0; round < caller->rounds; round++) {
        struct record *record = calloc(1, sizeof *record);
        record->spins = 50;
        const struct dg_cpu_job job = {run_task, record, 20 + round % 50, 4};
        caller->wrong += dg_cpu_pool_run(caller->pool, &job) != DG_OK;
        caller->wrong += count_wrong(record, job.num_tasks);
        free(record);
    }
    return NULL;
}

static void test_many_callers_share_a_pool(void)
{
    enum { CALLERS = 8 };
    struct dg_cpu_pool *pool;
    CHECK(!dg_cpu_pool_create(&pool, 4, SCRATCH), "%s", dg_last_error());
    pthread_t threads[CALLERS];
    struct caller callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){pool, harness_scaled(500), 0};
        CHECK(!pthread_create(&threads[i], NULL, call_repeatedly, &callers[i]), "no thread");
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CALLERS; i++)
        CHECK(callers[i].wrong == 0, "caller %d: %d wrong", i, callers[i].wrong);
    dg_cpu_pool_destroy(pool);
}

// A pool that never worked, and one that just did, end without a hang.
static void test_pools_come_and_go(void)
{
    for (int i = 0; i < harness_scaled(200); i++) {
        struct dg_cpu_pool *pool;
        CHECK(!dg_cpu_pool_create(&pool, 1 + i % 5, SCRATCH), "%s", dg_last_error());
        struct record *record = calloc(1, sizeof *record);
        const struct dg_cpu_job job = {run_task, record, i % 9, 8};
        if (i % 2)
            CHECK(!dg_cpu_pool_run(pool, &job), "%s", dg_last_error());
        dg_cpu_pool_destroy(pool);
        free(record);
    }
    dg_cpu_pool_destroy(NULL);
}

static void test_affinity_bounds_the_threads(void)
{
    cpu_set_t before, one;
    CHECK(!sched_getaffinity(0, sizeof before, &before), "no affinity");
    CHECK(dg_cpu_usable_count() >= 1 && dg_cpu_usable_count() <= CPU_COUNT(&before), "%d usable",
          (int)dg_cpu_usable_count());
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    CHECK(!sched_setaffinity(0, sizeof one, &one), "cannot set");
    const int count = dg_cpu_usable_count();
    sched_setaffinity(0, sizeof before, &before);
    CHECK(count == 1, "%d usable of one", count);
}

int main(void)
{
    RUN(test_every_task_runs_once);
    RUN(test_one_thread_is_the_caller);
    RUN(test_many_callers_share_a_pool);
    RUN(test_pools_come_and_go);
    RUN(test_affinity_bounds_the_threads);
    return harness_end();
}
