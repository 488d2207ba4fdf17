// SPDX-License-Identifier: MIT
// cpu_threads.h - a pool of threads that work on independent, numbered tasks.
//
// The caller takes part, so a job always ends even when no worker could be started or all are busy
// with other callers' jobs.  Threads start with the first job that wants them, spin briefly after
// each job and then sleep.  A process that forked gets new threads at its next job.
#ifndef DG_CPU_THREADS_H
#define DG_CPU_THREADS_H

#include "deepgemm.h"

#include <stddef.h>
#include <stdint.h>

struct dg_cpu_job {
    // Tasks run in any order and at the same time; no two runs share a scratch.  Floating point is in
    // its default state: round to nearest, subnormals kept.
    void (*run)(const void *argument, void *scratch, int64_t task);
    const void *argument;
    int64_t num_tasks;
    int32_t max_threads; // the caller included
};

struct dg_cpu_pool;

// At most num_threads threads work on one job.  Each has scratch_bytes of its own, 4096-aligned.
dg_status dg_cpu_pool_create(struct dg_cpu_pool **pool, int32_t num_threads, size_t scratch_bytes);
// No job may be running.  NULL is allowed.
void dg_cpu_pool_destroy(struct dg_cpu_pool *pool);
// Returns when all tasks are done.  Any number of threads may call it at the same time.
// DG_OUT_OF_MEMORY: no task was run.
dg_status dg_cpu_pool_run(struct dg_cpu_pool *pool, const struct dg_cpu_job *job);

// CPUs this process may use: the smaller of its affinity mask and its cgroup quota, at least 1.
int32_t dg_cpu_usable_count(void);

#endif
