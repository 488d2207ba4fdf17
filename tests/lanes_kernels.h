// SPDX-License-Identifier: MIT
// lanes_kernels.h - reads kernels (.cu) as C, for lanes.h: an entry becomes a function, shared memory is static, and
// there is nothing to wait for.  To be included last, right before the kernels; `extern` means something else from
// here on.
#ifndef DG_TESTS_LANES_KERNELS_H
#define DG_TESTS_LANES_KERNELS_H

#include "lanes.h"

#include <string.h>

#define DG_DEVICE static inline
#define DG_SM90_PTX_CUH // instructions of a GPU; what is needed of them follows
typedef unsigned long long u64;

#define LANES_JOIN_(a, b) a##b
#define LANES_JOIN(a, b) LANES_JOIN_(a, b)
#define extern static const char LANES_JOIN(language, __COUNTER__)[] = // "C" stands there
#define __global__                                                                                 \
    ;                                                                                              \
    static
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#pragma GCC diagnostic ignored "-Wunknown-pragmas" // unroll
#pragma GCC diagnostic ignored "-Wunused-const-variable"
#pragma GCC diagnostic ignored "-Wparentheses"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "backend/sm90/sm90_args.h"

static inline void dg_griddepcontrol_wait(void)
{
}

static inline void dg_griddepcontrol_launch_dependents(void)
{
}

static inline u64 dg_ld_acquire(const u64 *global)
{
    return *global;
}

static inline void dg_st_release(u64 *global, u64 value)
{
    *global = value;
}

static inline u64 dg_atomic_cas(u64 *global, u64 expected, u64 value)
{
    const u64 before = *global;
    *global = before == expected ? value : before;
    return before;
}

static inline u32 dg_atomic_add(u32 *global, u32 value)
{
    const u32 before = *global;
    *global += value;
    return before;
}

static inline void dg_prefetch_l1(const void *at)
{
}

static inline void dg_prefetch_l2(const void *at)
{
}

static inline int dg_elect(void) // takes the whole warp
{
    lanes_exchange(0);
    return threadIdx.x % 32 == 0;
}

static inline void dg_compute_here(u32 *value)
{
    (void)value;
}

static inline void dg_compute_float_here(float *value)
{
    (void)value;
}

static inline u32 dg_lane_zero(void)
{
    return 0;
}

static inline int dg_divide(int x, struct dg_sm90_divisor by)
{
    return (int)((u64)(u32)x * by.multiplier >> by.shift);
}

// Addresses in shared memory count from the first one that was asked for.
static char *lanes_shared;

static inline u32 dg_smem_address(const void *pointer)
{
    if (!lanes_shared)
        lanes_shared = (char *)(uintptr_t)pointer;
    return (u32)((const char *)pointer - lanes_shared);
}

static inline void dg_st_shared_word(u32 address, u32 word)
{
    memcpy(lanes_shared + address, &word, sizeof word);
}

static inline u32 dg_ld_shared(u32 address)
{
    u32 word;
    memcpy(&word, lanes_shared + address, sizeof word);
    return word;
}

static inline void dg_ld_shared_v4(u32 address, float *values)
{
    memcpy(values, lanes_shared + address, 16);
}

static inline void dg_ld_shared_v2(u32 address, float *values)
{
    memcpy(values, lanes_shared + address, 8);
}

static inline void dg_st_shared_v2(u32 address, float a, float b)
{
    memcpy(lanes_shared + address, (float[]){a, b}, 8);
}

static inline void dg_st_shared(u32 address, float value)
{
    memcpy(lanes_shared + address, &value, sizeof value);
}

static inline int __popc(u32 bits)
{
    return __builtin_popcount(bits);
}

static inline void __syncwarp(void)
{
    lanes_exchange(0);
}

// ---- copies of single words (cp.async), made when their thread waits for them ----------------------

enum { LANES_WORDS = 128 }; // that a thread may have on their way

struct lanes_word {
    u32 smem;
    const void *global; // NULL: zeros
    int group;
};

static struct lanes_words {
    struct lanes_word list[LANES_WORDS];
    int count, groups, run;
} lanes_words[LANES_MOST];

// All but those of the `pending` newest groups.
static inline void lanes_land(int pending)
{
    struct lanes_words *own = &lanes_words[threadIdx.x];
    int kept = 0;
    for (int i = 0; i < own->count; i++) {
        const struct lanes_word word = own->list[i];
        if (pending && word.group >= own->groups - pending)
            own->list[kept++] = word;
        else if (word.global)
            memcpy(lanes_shared + word.smem, word.global, 4);
        else
            memset(lanes_shared + word.smem, 0, 4);
    }
    own->count = kept;
}

static inline void dg_cp_async_4(u32 smem, const void *global, int valid)
{
    struct lanes_words *own = &lanes_words[threadIdx.x];
    if (own->run != lanes.runs) // what the last CTA never waited for
        own->count = 0, own->run = lanes.runs;
    if (own->count == LANES_WORDS)
        abort();
    memset(lanes_shared + smem, 0xff, 4);
    own->list[own->count++] = (struct lanes_word){smem, valid ? global : NULL, own->groups};
}

static inline void dg_cp_async_commit_group(void)
{
    lanes_words[threadIdx.x].groups++;
}

static inline void dg_cp_async_wait_group(int pending)
{
    lanes_land(pending);
}

static inline u32 __byte_perm(u32 low, u32 high, u32 selector)
{
    const u64 bytes = (u64)high << 32 | low;
    u32 result = 0;
    for (int i = 0; i < 4; i++)
        result |= (u32)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return result;
}

#endif
