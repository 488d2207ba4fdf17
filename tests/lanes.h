// SPDX-License-Identifier: MIT
// lanes.h - runs device code of one CTA on a CPU: its threads are coroutines, which take turns.
//
//     #include "../lanes.h"
//     #include "backend/sm90/some_piece.cuh"        // compiled as C
//     static void body(void) { ... threadIdx.x ... }
//     blockIdx.x = 3;
//     CHECK(lanes_run(64, body), "...");            // false: lanes of a warp went different ways, or waited so
//
// A thread runs until it waits for others: in an exchange among the 32 lanes of its warp, all of which take part, in
// __syncthreads, or at a barrier (lanes_async.h).  What device code needs beyond that the test provides.
#ifndef DG_TESTS_LANES_H
#define DG_TESTS_LANES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { LANES_MOST = 640, LANES_STACK_BYTES = 32 << 10 };

typedef unsigned u32;
typedef long long i64;
__attribute__((unused)) static struct {
    unsigned x, y;
} threadIdx, blockIdx, gridDim, blockDim;

static struct {
    ucontext_t outside, threads[LANES_MOST];
    char stacks[LANES_MOST][LANES_STACK_BYTES];
    void (*body)(void);
    int running, waiting; // waiting: in __syncthreads
    int meetings;         // that have come about
    int runs;             // of lanes_run, this one included
    i64 progress;         // counts what others may wait for
    void (*round)(int);   // what else happens after each round, if not NULL; 1: after the last one
    bool is_parted;       // somebody waited at a barrier, and a lane of his warp for him
    int exchanges[LANES_MOST];
    i64 values[2][LANES_MOST]; // of a warp's exchange under way, and of the one before it
} lanes;

static inline void lanes_yield(void)
{
    swapcontext(&lanes.threads[threadIdx.x], &lanes.outside);
}

static inline void lanes_begin(void)
{
    lanes.body();
    lanes.running--;
    lanes.progress++;
    for (;;)
        lanes_yield(); // of warps that end later, others may still be running
}

// All threads in turn, each up to where it next waits, until they have ended or none gets any further.
static inline bool lanes_run(int count, void (*body)(void))
{
    bool is_right = true;
    i64 before = -1;
    lanes.body = body;
    lanes.runs++;
    lanes.running = count;
    lanes.waiting = lanes.meetings = 0;
    lanes.is_parted = false;
    for (int i = 0; i < count; i++) {
        getcontext(&lanes.threads[i]);
        lanes.threads[i].uc_stack.ss_sp = lanes.stacks[i];
        lanes.threads[i].uc_stack.ss_size = LANES_STACK_BYTES;
        makecontext(&lanes.threads[i], lanes_begin, 0);
        lanes.exchanges[i] = 0;
    }
    while (lanes.running > 0 && lanes.progress != before) {
        before = lanes.progress;
        for (int i = 0; i < count; i++) {
            threadIdx.x = (unsigned)i;
            swapcontext(&lanes.outside, &lanes.threads[i]);
        }
        if (lanes.round)
            lanes.round(0);
    }
    if (lanes.round)
        lanes.round(1);
    for (int i = 0; i < count; i++)
        is_right = is_right && lanes.exchanges[i] == lanes.exchanges[i & ~31];
    return is_right && !lanes.is_parted && lanes.running == 0;
}

// The CTAs of a grid, one after the other.
static inline bool lanes_run_grid(unsigned ctas, int threads, void (*body)(void))
{
    bool is_right = true;
    gridDim.x = ctas;
    for (blockIdx.x = 0; blockIdx.x < ctas; blockIdx.x++)
        is_right = lanes_run(threads, body) && is_right;
    return is_right;
}

// Gives `value` to the lanes of the warp, waits until all have given theirs, and returns those.
static inline const i64 *lanes_exchange(i64 value)
{
    const unsigned thread = threadIdx.x, first = thread & ~31u;
    const int turn = ++lanes.exchanges[thread];
    i64 *round = lanes.values[turn % 2];
    round[thread] = value;
    lanes.progress++;
    for (unsigned lane = 0; lane < 32; lane++)
        while (lanes.exchanges[first + lane] < turn)
            lanes_yield();
    return round + first;
}

// For a thread that has to wait for something else than its warp: a lane of it that waits for this one meanwhile would
// have it poll on a GPU.
static inline void lanes_note_parted(void)
{
    const unsigned first = threadIdx.x & ~31u;
    for (unsigned lane = 0; lane < 32; lane++)
        if (lanes.exchanges[first + lane] > lanes.exchanges[threadIdx.x])
            lanes.is_parted = true;
}

static inline void __syncthreads(void)
{
    const int meeting = lanes.meetings;
    lanes.progress++;
    if (++lanes.waiting == lanes.running)
        lanes.waiting = 0, lanes.meetings++;
    do
        lanes_yield();
    while (lanes.meetings == meeting);
}

static inline i64 min(i64 a, i64 b)
{
    return a < b ? a : b;
}

static inline i64 max(i64 a, i64 b)
{
    return a > b ? a : b;
}

static inline i64 __shfl_sync(u32 mask, i64 value, int from)
{
    return lanes_exchange(value)[from % 32];
}

static inline i64 __shfl_up_sync(u32 mask, i64 value, int distance)
{
    const int lane = threadIdx.x % 32;
    return lanes_exchange(value)[lane >= distance ? lane - distance : lane];
}

static inline u32 __ballot_sync(u32 mask, int is_true)
{
    const i64 *all = lanes_exchange(is_true != 0);
    u32 bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (u32)all[i] << i;
    return bits;
}

static inline i64 __reduce_min_sync(u32 mask, i64 value) // of int, and of u32
{
    const i64 *all = lanes_exchange(value);
    i64 least = all[0];
    for (int i = 1; i < 32; i++)
        least = min(least, all[i]);
    return least;
}

static inline int __reduce_max_sync(u32 mask, int value)
{
    const i64 *all = lanes_exchange(value);
    i64 most = all[0];
    for (int i = 1; i < 32; i++)
        most = max(most, all[i]);
    return (int)most;
}

static inline u32 __float_as_uint(float value)
{
    u32 bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(u32 bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float __shfl_xor_sync(u32 mask, float value, int distance)
{
    const i64 *all = lanes_exchange(__float_as_uint(value));
    return __uint_as_float((u32)all[(threadIdx.x ^ (unsigned)distance) % 32]);
}

static inline int __ffs(u32 bits)
{
    return __builtin_ffs((int)bits);
}

#endif
