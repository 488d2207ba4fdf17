// SPDX-License-Identifier: MIT
// cpu_threads.c - the pool of threads.
//
// A job lives on its caller's stack and hangs in the crew's list while it has tasks left.  Joining and
// leaving a job happens under the crew's lock; taking a task is one atomic addition.  The caller takes
// tasks too and then waits only for workers that are inside its job, so callers never wait for each
// other.  After fork() the workers are gone and the lock may be held by nobody: the child makes a new
// crew and leaves the old one alone.
#include "backend/cpu/cpu_threads.h"

#include "base/error.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SCRATCH_ALIGNMENT = 4096,
    SPIN_ROUNDS = 4000, // some tens of microseconds: about what going to sleep and waking costs
};

struct job_state {
    const struct dg_cpu_job *job;
    _Atomic int64_t next;    // first task nobody has taken
    _Atomic int32_t working; // workers inside; changes under the lock
    int32_t vacancies;       // workers that may still join
    struct job_state *later;
};

// Scratch of callers, kept between jobs.
struct scratch {
    struct scratch *next;
};

struct crew {
    pid_t pid; // of the process its threads live in
    size_t scratch_bytes;
    bool spins; // false where there are more threads than CPUs
    pthread_mutex_t lock;
    pthread_cond_t work_came, worker_left;
    struct job_state *jobs; // oldest first
    struct scratch *scratches;
    _Atomic uint32_t arrivals; // counts jobs, so that a spinning worker sees one come
    int32_t sleepers;
    bool ends;
    atomic_bool started;
    int32_t num_workers;
    pthread_t workers[]; // num_workers started
};

struct dg_cpu_pool {
    int32_t num_threads;
    size_t scratch_bytes;
    _Atomic(struct crew *) crew; // NULL until the first job
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void *allocate_scratch(size_t bytes)
{
    void *scratch = NULL;
    return posix_memalign(&scratch, SCRATCH_ALIGNMENT, bytes) ? NULL : scratch;
}

static void work_on(struct job_state *state, void *scratch)
{
    const struct dg_cpu_job *job = state->job;
    for (;;) {
        const int64_t task = atomic_fetch_add_explicit(&state->next, 1, memory_order_relaxed);
        if (task >= job->num_tasks)
            return;
        job->run(job->argument, scratch, task);
    }
}

// The oldest job with room for a worker.  Called with the lock held.
static struct job_state *find_job(struct crew *crew)
{
    struct job_state *state = crew->jobs;
    while (state && (!state->vacancies || atomic_load(&state->next) >= state->job->num_tasks))
        state = state->later;
    return state;
}

// Called with the lock held.
static void wait_for_work(struct crew *crew)
{
    const uint32_t seen = atomic_load(&crew->arrivals);
    pthread_mutex_unlock(&crew->lock);
    for (int i = 0; crew->spins && i < SPIN_ROUNDS && atomic_load(&crew->arrivals) == seen; i++)
        relax();
    pthread_mutex_lock(&crew->lock);
    while (!crew->ends && atomic_load(&crew->arrivals) == seen) {
        crew->sleepers++;
        pthread_cond_wait(&crew->work_came, &crew->lock);
        crew->sleepers--;
    }
}

static void *run_worker(void *argument)
{
    struct crew *crew = argument;
    fesetenv(FE_DFL_ENV); // threads inherit the rounding of the one that started them
    void *scratch = allocate_scratch(crew->scratch_bytes);
    pthread_mutex_lock(&crew->lock);
    while (scratch && !crew->ends) {
        struct job_state *state = find_job(crew);
        if (!state) {
            wait_for_work(crew);
            continue;
        }
        state->vacancies--;
        atomic_fetch_add(&state->working, 1);
        pthread_mutex_unlock(&crew->lock);
        work_on(state, scratch);
        pthread_mutex_lock(&crew->lock);
        if (atomic_fetch_sub(&state->working, 1) == 1)
            pthread_cond_broadcast(&crew->worker_left);
    }
    pthread_mutex_unlock(&crew->lock);
    free(scratch);
    return NULL;
}

// Workers that cannot be started are done without.  Signals are the program's own threads' business.
static void start_workers(struct crew *crew, int32_t wanted)
{
    if (atomic_exchange(&crew->started, true))
        return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (crew->num_workers < wanted &&
           !pthread_create(&crew->workers[crew->num_workers], NULL, run_worker, crew))
        crew->num_workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void destroy_crew(struct crew *crew)
{
    if (crew->pid == getpid()) {
        pthread_mutex_lock(&crew->lock);
        crew->ends = true;
        pthread_cond_broadcast(&crew->work_came);
        pthread_mutex_unlock(&crew->lock);
        for (int32_t i = 0; i < crew->num_workers; i++)
            pthread_join(crew->workers[i], NULL);
        pthread_cond_destroy(&crew->worker_left);
        pthread_cond_destroy(&crew->work_came);
        pthread_mutex_destroy(&crew->lock);
    }
    for (struct scratch *scratch = crew->scratches, *next; scratch; scratch = next) {
        next = scratch->next;
        free(scratch);
    }
    free(crew);
}

static struct crew *create_crew(const struct dg_cpu_pool *pool)
{
    const int32_t wanted = pool->num_threads - 1;
    struct crew *crew = calloc(1, sizeof *crew + (size_t)wanted * sizeof *crew->workers);
    if (!crew)
        return NULL;
    crew->pid = getpid();
    crew->scratch_bytes = pool->scratch_bytes;
    crew->spins = pool->num_threads <= dg_cpu_usable_count();
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->work_came, NULL);
    pthread_cond_init(&crew->worker_left, NULL);
    return crew;
}

// The crew of this process, its workers perhaps not started.
static struct crew *find_crew(struct dg_cpu_pool *pool)
{
    struct crew *crew = atomic_load(&pool->crew);
    if (crew && crew->pid == getpid())
        return crew;
    struct crew *fresh = create_crew(pool);
    if (!fresh)
        return NULL;
    if (atomic_compare_exchange_strong(&pool->crew, &crew, fresh))
        return fresh;
    destroy_crew(fresh);
    return crew; // another thread was faster
}

static void *take_scratch(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    struct scratch *scratch = crew->scratches;
    if (scratch)
        crew->scratches = scratch->next;
    pthread_mutex_unlock(&crew->lock);
    return scratch ? (void *)scratch : allocate_scratch(crew->scratch_bytes);
}

static void open_job(struct crew *crew, struct job_state *state)
{
    pthread_mutex_lock(&crew->lock);
    struct job_state **end = &crew->jobs;
    while (*end)
        end = &(*end)->later;
    *end = state;
    atomic_fetch_add(&crew->arrivals, 1);
    for (int32_t i = 0; i < crew->sleepers && i < state->vacancies; i++)
        pthread_cond_signal(&crew->work_came);
    pthread_mutex_unlock(&crew->lock);
}

static void close_job(struct crew *crew, struct job_state *state, void *scratch)
{
    for (int i = 0; crew->spins && i < SPIN_ROUNDS && atomic_load(&state->working); i++)
        relax();
    pthread_mutex_lock(&crew->lock);
    struct job_state **link = &crew->jobs;
    while (*link != state)
        link = &(*link)->later;
    *link = state->later;
    while (atomic_load(&state->working))
        pthread_cond_wait(&crew->worker_left, &crew->lock);
    ((struct scratch *)scratch)->next = crew->scratches;
    crew->scratches = scratch;
    pthread_mutex_unlock(&crew->lock);
}

dg_status dg_cpu_pool_create(struct dg_cpu_pool **pool, int32_t num_threads, size_t scratch_bytes)
{
    *pool = calloc(1, sizeof **pool);
    if (!*pool)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for a thread pool");
    (*pool)->num_threads = num_threads;
    (*pool)->scratch_bytes = scratch_bytes > sizeof(struct scratch) ? scratch_bytes : 4096;
    return DG_OK;
}

void dg_cpu_pool_destroy(struct dg_cpu_pool *pool)
{
    if (!pool)
        return;
    struct crew *crew = atomic_load(&pool->crew);
    if (crew)
        destroy_crew(crew);
    free(pool);
}

dg_status dg_cpu_pool_run(struct dg_cpu_pool *pool, const struct dg_cpu_job *job)
{
    struct crew *crew = find_crew(pool);
    void *scratch = crew ? take_scratch(crew) : NULL;
    if (!scratch)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for %zu bytes of scratch", pool->scratch_bytes);

    int64_t helpers = job->num_tasks - 1;
    if (helpers > job->max_threads - 1)
        helpers = job->max_threads - 1;
    struct job_state state = {.job = job, .vacancies = helpers > 0 ? (int32_t)helpers : 0};
    if (state.vacancies)
        start_workers(crew, pool->num_threads - 1);
    fenv_t environment;
    fegetenv(&environment);
    fesetenv(FE_DFL_ENV);
    open_job(crew, &state);
    work_on(&state, scratch);
    close_job(crew, &state, scratch);
    fesetenv(&environment);
    return DG_OK;
}
