// SPDX-License-Identifier: MIT
// test_sm90_mqa_schedule.c - the kernel that makes the schedules of paged MQA logits, run here with its 512 threads
// as coroutines (lanes.h): the same schedule as the host's, for any batch.
#include "../harness.h"
#include "../random_problem.h"

#include "plan/mqa_schedule.h"

enum { COUNT = 300, MOST_BATCH = 3000, MOST_WORKERS = 200, MOST_PER_SEQUENCE = 4 };

#define DG_ENTRY make_schedule
#include "../lanes_kernels.h"
#include "backend/sm90/sm90_mqa_schedule.cu"

static int32_t lengths[MOST_BATCH * MOST_PER_SEQUENCE];
static int32_t made[2 * (MOST_WORKERS + 1)], expected[2 * (MOST_WORKERS + 1)];
static struct dg_sm90_mqa_schedule_args call;

static void run_thread(void)
{
    make_schedule(call);
}

static int draw(uint64_t *state, int count)
{
    return (int)(random_next(state) % (uint64_t)count);
}

// Batches of less and of more than a thread's run, empty ones too; lengths of none, of a few and of a million.
static void draw_call(uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    const int sizes[] = {1, 40, 600, MOST_BATCH}, lengths_up_to[] = {1, 300, 70000, 1 << 20};
    const int room = lengths_up_to[draw(&state, 4)];
    call = (struct dg_sm90_mqa_schedule_args){
        .lengths = lengths,
        .schedule = made,
        .batch = draw(&state, sizes[draw(&state, 4)] + 1),
        .lengths_per_sequence = 1 + draw(&state, MOST_PER_SEQUENCE),
        .num_workers = 1 + draw(&state, MOST_WORKERS),
    };
    for (int i = 0; i < call.batch * call.lengths_per_sequence; i++)
        lengths[i] = draw(&state, 3) ? draw(&state, room) : 0;
}

static void test_the_kernel_makes_the_host_s_schedule(void)
{
    const int count = harness_scaled(COUNT);
    for (int seed = 1; seed <= count; seed++) {
        draw_call((uint64_t)seed);
        memset(made, 0xff, sizeof made);
        memset(expected, 0xff, sizeof expected);
        dg_mqa_schedule_make(lengths, call.batch, call.lengths_per_sequence, call.num_workers,
                             expected);
        CHECK(lanes_run(THREADS, run_thread), "seed %d: the lanes of a warp went apart", seed);
        CHECK(memcmp(made, expected, sizeof made) == 0,
              "seed %d: batch %d x %d, %d workers: another schedule than the host's", seed,
              call.batch, call.lengths_per_sequence, call.num_workers);
    }
}

int main(void)
{
    RUN(test_the_kernel_makes_the_host_s_schedule);
    return harness_end();
}
