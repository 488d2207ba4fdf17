// SPDX-License-Identifier: MIT
// crowd.h - a test's tasks on many threads, each with a lane (device.h) of its own.
//
//     static bool try_index(struct lane *lane, int64_t index) { return ... || lane_fail(lane, ...); }
//     right = crowd_run(try_index, count, 0, NULL);   // prints what failed
#ifndef DG_TESTS_GPU_CROWD_H
#define DG_TESTS_GPU_CROWD_H

#include "device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { MAX_LANES = 16, MAX_REPORTED = 5 };

typedef bool (*crowd_task)(struct lane *lane, int64_t index);

struct crowd {
    crowd_task task;
    dg_context *shared; // NULL: each thread makes a context
    int64_t count;
    atomic_llong next, right;
    atomic_int failures;
    pthread_mutex_t lock; // of the output
};

static void crowd_report(struct crowd *crowd, struct lane *lane)
{
    pthread_mutex_lock(&crowd->lock);
    if (atomic_fetch_add(&crowd->failures, 1) < MAX_REPORTED)
        printf("# %s\n", lane->failure);
    pthread_mutex_unlock(&crowd->lock);
    lane->failure[0] = 0;
}

static void *crowd_main(void *argument)
{
    struct crowd *crowd = argument;
    struct lane lane;
    if (!lane_open(&lane, crowd->shared))
        crowd_report(crowd, &lane);
    else
        for (int64_t i; (i = atomic_fetch_add(&crowd->next, 1)) < crowd->count &&
                        atomic_load(&crowd->failures) < MAX_REPORTED;)
            if (crowd->task(&lane, i))
                atomic_fetch_add(&crowd->right, 1);
            else
                crowd_report(crowd, &lane);
    lane_close(&lane);
    return NULL;
}

// Runs task(lane, i) for i below `count`, until a few have failed; returns how many were right.
// num_threads 0: one for each CPU.
static int64_t crowd_run(crowd_task task, int64_t count, int num_threads, dg_context *shared)
{
    struct crowd crowd = {.task = task, .shared = shared, .count = count};
    pthread_t threads[MAX_LANES];
    const int64_t cpus = num_threads ? num_threads : sysconf(_SC_NPROCESSORS_ONLN);
    int started = 0;
    pthread_mutex_init(&crowd.lock, NULL);
    while (started < MAX_LANES && (started < cpus || started == 0) &&
           !pthread_create(&threads[started], NULL, crowd_main, &crowd))
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&crowd.lock);
    return atomic_load(&crowd.failures) ? -1 : atomic_load(&crowd.right);
}

#endif
