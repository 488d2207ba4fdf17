// SPDX-License-Identifier: MIT
// test_gpu_grouped.c - grouped products on a GPU against dense ones in double: layouts of every kind, bad
// entries among them.
//
//     test_gpu_grouped [COUNT [FIRST_SEED]]     3000 problems, seeds from 1; $DG_TEST_SCALE makes it fewer
//
// A problem follows from its seed alone: `test_gpu_grouped 1 SEED` repeats what failed.
#include "crowd.h"

#include "../random_grouped.h"

enum { COUNT = 3000, MAX_WORK = 1 << 25, CHANGES = 50 };

static int64_t count = COUNT, first_seed = 1;

// ---- a grouped problem on the device --------------------------------------------------------------

struct placed {
    CUdeviceptr memory[GROUPED_BUFFERS]; // with guards
    void *base[GROUPED_BUFFERS];         // the data in it
    struct dg_gemm_options options;      // the workspace
};

static bool place(struct lane *lane, struct random_grouped *r, struct placed *at)
{
    uint64_t state = r->seed * 2 + 5;
    lane->used = 0;
    *at = (struct placed){.options = DG_GEMM_OPTIONS};
    for (int i = 0; i < GROUPED_BUFFERS; i++) {
        const struct random_buffer *buffer = &r->of[i].buffer;
        const uint64_t word = random_next(&state);
        // Values at multiples of 16, the others now and then where TMA cannot take them.
        const size_t element =
            i >= GROUPED_C && i <= GROUPED_D ? dg_type_bytes(r->problem.d_type) : 4;
        const size_t shift = i == GROUPED_A || i == GROUPED_B || word % 4 ? word / 4 % 16 * 16
                                                                          : word / 4 % 32 * element;
        if (!buffer->memory)
            continue;
        at->memory[i] = lane_take(lane, RANDOM_PROBLEM_TOTAL(*buffer), shift);
        at->base[i] = (void *)(uintptr_t)(at->memory[i] + buffer->offset);
        if (!lane_copy_in(lane, at->memory[i], buffer->memory, RANDOM_PROBLEM_TOTAL(*buffer)))
            return false;
    }
    return take_workspace(lane, &r->problem, &at->options);
}

static bool call(struct lane *lane, struct random_grouped *r, const struct placed *at)
{
    return random_grouped_call(r, lane->context, at->base, at->options.workspace,
                               at->options.workspace_bytes, 0, lane->gpu.stream) == DG_OK ||
           lane_fail(lane, "%s: %s", r->line, dg_last_error());
}

// What came back is judged; nothing but D may have changed.
static bool judge(struct lane *lane, struct random_grouped *r, const struct placed *at)
{
    struct random_buffer *d = &r->of[GROUPED_D].buffer;
    const size_t bytes = RANDOM_PROBLEM_TOTAL(*d);
    uint8_t *before = malloc(bytes);
    memcpy(before, d->memory, bytes);
    bool is_right = lane_copy_out(lane, d->memory, at->memory[GROUPED_D], bytes);
    const char *wrong =
        is_right ? random_grouped_judge(r, lane->oracle, before, LIMIT_OF_TERMS) : NULL;
    free(before);
    if (wrong)
        return lane_fail(lane, "%s", wrong);
    for (int i = 0; i < GROUPED_BUFFERS && is_right; i++) {
        const struct random_buffer *buffer = &r->of[i].buffer;
        if (i == GROUPED_D || !buffer->memory)
            continue;
        uint8_t *copy = malloc(RANDOM_PROBLEM_TOTAL(*buffer));
        is_right = lane_copy_out(lane, copy, at->memory[i], RANDOM_PROBLEM_TOTAL(*buffer)) &&
                   (!memcmp(copy, buffer->memory, RANDOM_PROBLEM_TOTAL(*buffer)) ||
                    lane_fail(lane, "%s: buffer %d changed on the device", r->line, i));
        free(copy);
    }
    return is_right;
}

// ---- random problems ------------------------------------------------------------------------------

static bool try_seed(struct lane *lane, uint64_t seed)
{
    struct random_grouped r;
    struct placed at;
    uint64_t state = seed * 2 + 9;
    dg_context_set_num_sms(lane->context, 0);
    const int32_t all = dg_context_num_sms(lane->context);
    if (random_next(&state) % 2)
        dg_context_set_num_sms(lane->context, (int32_t)random_range(&state, 1, all));
    random_grouped_make(&r, seed, seed % 16 ? MAX_WORK / 8 : MAX_WORK);
    const bool is_right = place(lane, &r, &at) && call(lane, &r, &at) && judge(lane, &r, &at);
    random_grouped_free(&r);
    return is_right;
}

static bool try_index(struct lane *lane, int64_t index)
{
    return try_seed(lane, (uint64_t)(first_seed + index));
}

static void test_random_problems(void)
{
    const double begin = cli_seconds();
    const int64_t right = crowd_run(try_index, count, 0, NULL);
    printf("# %lld problems, seeds %lld to %lld, %.1f s\n", (long long)right, (long long)first_seed,
           (long long)(first_seed + count - 1), cli_seconds() - begin);
    CHECK(right == count, "%lld of %lld problems are right", (long long)right, (long long)count);
}

int main(int argc, char **argv)
{
    need_gpu();
    count = argc > 1 ? atoll(argv[1]) : harness_scaled(COUNT);
    first_seed = argc > 2 ? atoll(argv[2]) : 1;
    RUN(test_random_problems);
    return harness_end();
}
