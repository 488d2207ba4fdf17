// SPDX-License-Identifier: MIT
// test_grouped.c - grouped products on the CPU against dense ones in double: layouts of every kind, bad entries
// among them, for any number of threads.
//
//     test_grouped [COUNT [FIRST_SEED]]     3000 problems, seeds from 1; $DG_TEST_SCALE makes it fewer
#include "../contexts.h"
#include "../harness.h"
#include "../random_grouped.h"

#include <sys/mman.h>

enum { COUNT = 3000, MAX_WORK = 1 << 21 };

static int64_t count = COUNT, first_seed = 1;

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
    dg_context *const cpu[2] = {open_context("cpu", NULL, 1), open_context("cpu", NULL, 3)};
    dg_context *const oracle = open_context("oracle", NULL, 1);
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

// ---- more elements than 32 bits count -------------------------------------------------------------

// The room for D is 13 GB, of which few pages are ever touched.
static void test_places_beyond_32_bits(void)
{
    enum { GROUPS = 5, ROOM = 20000, N = 65536, K = 128, BLOCKS = N / 128 };
    static const int32_t counts[GROUPS] = {1, 0, 2, 0, 3};
    static float sfa[GROUPS * ROOM], sfb[GROUPS * BLOCKS];
    const size_t bytes = sizeof(uint16_t) * GROUPS * ROOM * N;
    uint16_t *d = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (d == MAP_FAILED)
        SKIP("no address space for 13 GB");
    uint8_t *a = malloc((size_t)GROUPS * ROOM * K), *b = malloc((size_t)GROUPS * N * K);
    dg_context *cpu = open_context("cpu", NULL, 2);
    memset(a, 0x38, (size_t)GROUPS * ROOM * K); // 1
    memset(b, 0x38, (size_t)GROUPS * N * K);
    for (int i = 0; i < GROUPS * ROOM; i++)
        sfa[i] = (float)(i / ROOM * 8 + i % ROOM % 8 + 1);
    for (int i = 0; i < GROUPS * BLOCKS; i++)
        sfb[i] = 0.5f;
    const struct dg_scaled left = {
        dg_stack(dg_matrix(a, DG_E4M3, ROOM, K), GROUPS, (int64_t)ROOM * K),
        dg_stack(dg_matrix(sfa, DG_F32, ROOM, 1), GROUPS, ROOM), 1, 128};
    const struct dg_scaled right = {dg_stack(dg_matrix(b, DG_E4M3, N, K), GROUPS, (int64_t)N * K),
                                    dg_stack(dg_matrix(sfb, DG_F32, BLOCKS, 1), GROUPS, BLOCKS),
                                    128, 128};
    const struct dg_tensor out =
        dg_stack(dg_matrix(d, DG_BF16, ROOM, N), GROUPS, (int64_t)ROOM * N);
    const struct dg_tensor sizes = {(void *)counts, DG_I32, 1, {GROUPS}, {1}};
    CHECK(dg_m_grouped_fp8_gemm_nt_masked(cpu, &left, &right, &out, NULL, &sizes, NULL, NULL) ==
              DG_OK,
          "%s", dg_last_error());
    int64_t wrong = 0;
    for (int64_t g = 0; g < GROUPS; g++)
        for (int64_t row = 0; row <= counts[g]; row++) // and the one behind them
            for (int64_t column = 0; column < N; column++) {
                const float want = row < counts[g] ? 64 * (float)(g * 8 + row + 1) : 0;
                uint32_t word = (uint32_t)d[(g * ROOM + row) * N + column] << 16;
                float got;
                memcpy(&got, &word, sizeof got);
                wrong += got != want;
            }
    CHECK(wrong == 0, "%lld elements are wrong", (long long)wrong);
    // Where 32 bits would have put the rows of the last group.
    const uint32_t wrapped = (uint32_t)(4ull * ROOM * N);
    CHECK(d[wrapped] == 0 && d[wrapped + 2 * N] == 0, "places wrap at 2^32");
    dg_context_destroy(cpu);
    munmap(d, bytes);
    free(a);
    free(b);
}

int main(int argc, char **argv)
{
    count = argc > 1 ? atoll(argv[1]) : harness_scaled(COUNT);
    first_seed = argc > 2 ? atoll(argv[2]) : 1;
    RUN(test_random_problems);
    RUN(test_places_beyond_32_bits);
    return harness_end();
}
