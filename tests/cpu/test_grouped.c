// SPDX-License-Identifier: MIT
// test_grouped.c - grouped products on the CPU against dense ones in double: layouts of every kind, bad entries
// among them, for any number of threads.
//
//     test_grouped [COUNT [FIRST_SEED]]     3000 problems, seeds from 1; $DG_TEST_SCALE makes it fewer
#include "../harness.h"
#include "../random_grouped.h"

enum { COUNT = 3000, MAX_WORK = 1 << 21 };

static int64_t count = COUNT, first_seed = 1;

static dg_context *open_backend(const char *backend, int threads)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.backend = backend;
    options.num_threads = threads;
    dg_context *context;
    return dg_context_create(&context, &options) ? NULL : context;
}

static const char *try_seed(struct random_grouped *r, uint64_t seed, dg_context *cpu,
                            dg_context *oracle)
{
    void *base[GROUPED_BUFFERS];
    random_grouped_make(r, seed, MAX_WORK);
    for (int i = 0; i < GROUPED_BUFFERS; i++)
        base[i] = r->of[i].buffer.memory ? random_data(&r->of[i].buffer) : NULL;
    const size_t bytes = RANDOM_PROBLEM_TOTAL(r->of[GROUPED_D].buffer);
    uint8_t *before = malloc(bytes);
    memcpy(before, r->of[GROUPED_D].buffer.memory, bytes);
    const char *wrong = random_grouped_call(r, cpu, base, NULL, 0, 0, NULL)
                            ? random_grouped_fail(r, "%s: %s", r->line, dg_last_error())
                            : random_grouped_judge(r, oracle, before, 4e-6);
    free(before);
    return wrong;
}

static void test_random_problems(void)
{
    dg_context *const cpu[2] = {open_backend("cpu", 1), open_backend("cpu", 3)}, *const oracle =
                                                                                     open_backend(
                                                                                         "oracle",
                                                                                         1);
    int64_t right = 0;
    for (int64_t i = 0; i < count && right == i; i++) {
        struct random_grouped r;
        const char *wrong = try_seed(&r, (uint64_t)(first_seed + i), cpu[i % 2], oracle);
        CHECK(!wrong, "%s", wrong);
        right += !wrong;
        random_grouped_free(&r);
    }
    printf("# %lld problems\n", (long long)right);
    dg_context_destroy(cpu[0]);
    dg_context_destroy(cpu[1]);
    dg_context_destroy(oracle);
}

int main(int argc, char **argv)
{
    count = argc > 1 ? atoll(argv[1]) : harness_scaled(COUNT);
    first_seed = argc > 2 ? atoll(argv[2]) : 1;
    RUN(test_random_problems);
    return harness_end();
}
