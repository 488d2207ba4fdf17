// SPDX-License-Identifier: MIT
// test_bits.c - what the bits of a result may depend on: nothing but the operands.  The numeric
// contract is written out below in the plainest way and every instruction set must agree with it.
#include "../contexts.h"
#include "../harness.h"
#include "../random_problem.h"

#include <fenv.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static const char *const isas[] = {"c", "avx2", "avx512"};

static float find_code(const struct random_buffer *buffer, dg_major major, int64_t ld, int64_t row,
                       int64_t k)
{
    const uint8_t *codes = random_data(buffer);
    return (float)random_value(codes[major == DG_K_MAJOR ? row * ld + k : row + k * ld]);
}

// The contract for one element before C is added.
static float sum_by_contract(const struct random_problem *r, int64_t i, int64_t j)
{
    const struct dg_problem *p = &r->problem;
    float total = 0;
    for (int64_t block = 0; block * 128 < p->k; block++) {
        float part = 0;
        for (int64_t chunk = block * 128; chunk < block * 128 + 128; chunk += 32) {
            float even = 0, odd = 0;
            for (int64_t k = chunk; k < chunk + 32 && k < p->k; k++) {
                const float x = find_code(&r->a, p->a_major, p->lda, i, k);
                const float y = find_code(&r->b, p->b_major, p->ldb, j, k);
                if (k % 2)
                    odd = odd + x * y;
                else
                    even = even + x * y;
            }
            part = part + (even + odd);
        }
        const float sfa = (float)random_scale(r, &r->sfa, p->sfa_major, r->sfa_ld, i, block);
        const float sfb =
            (float)random_scale(r, &r->sfb, p->sfb_major, r->sfb_ld, j / p->sfb_block_n, block);
        total = fmaf(sfa * sfb, part, total);
    }
    return total;
}

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static uint32_t finish_by_contract(const struct random_problem *r, int64_t i, int64_t j)
{
    const struct dg_problem *p = &r->problem;
    float value = sum_by_contract(r, i, j);
    if (p->c_mode)
        value += (float)random_load(r, random_data(&r->c), i * r->c_stride[0] + j * r->c_stride[1]);
    const uint32_t bits = float_bits(value);
    if (p->d_type == DG_F32)
        return isnan(value) ? 0x7fc00000 : bits;
    return isnan(value) ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static uint32_t output_bits(const struct random_problem *r, int64_t i, int64_t j)
{
    const void *d = random_data(&r->d);
    const int64_t at = i * r->problem.ldd + j;
    return r->problem.d_type == DG_F32 ? ((const uint32_t *)d)[at] : ((const uint16_t *)d)[at];
}

static void check_contract(const char *isa, int count)
{
    dg_context *context = open_context("cpu", isa, 2);
    if (!context)
        SKIP(dg_last_error());
    for (int seed = 0; seed < harness_scaled(count); seed++) {
        struct random_problem r;
        const struct dg_problem problem = random_problem_draw(5000 + seed, 1 << 17);
        random_problem_make(&r, &problem, seed, RANDOM_ODD_ADDRESSES);
        CHECK(!random_problem_call(&r, context), "%s: %s", r.line, dg_last_error());
        for (int64_t i = 0; problem.k && i < problem.m; i++)
            for (int64_t j = 0; j < problem.n; j++) {
                const uint32_t expected = finish_by_contract(&r, i, j),
                               bits = output_bits(&r, i, j);
                CHECK(bits == expected, "%s %s: [%lld, %lld] is %08x, not %08x", isa, r.line,
                      (long long)i, (long long)j, bits, expected);
            }
        random_problem_free(&r);
    }
    dg_context_destroy(context);
}

static void test_c_keeps_the_contract(void)
{
    check_contract("c", 200);
}

static void test_avx2_keeps_the_contract(void)
{
    check_contract("avx2", 300);
}

static void test_avx512_keeps_the_contract(void)
{
    check_contract("avx512", 300);
}

// Sprinkles NaN codes, NaN and infinite scales over the operands.
static void spoil(struct random_problem *r)
{
    uint64_t state = r->seed;
    const bool is_packed = r->problem.sf_type == DG_UE8M0X4;
    for (int i = 0; i < 2; i++) {
        const struct random_buffer *codes = i ? &r->b : &r->a, *scales = i ? &r->sfb : &r->sfa;
        if (codes->bytes && random_next(&state) % 4)
            ((uint8_t *)random_data(codes))[random_next(&state) % codes->bytes] =
                random_next(&state) % 2 ? 0x7f : 0xff;
        if (scales->bytes && random_next(&state) % 4 == 0) {
            const float value = random_next(&state) % 2 ? INFINITY : NAN;
            uint8_t *at =
                (uint8_t *)random_data(scales) + random_next(&state) % scales->bytes / 4 * 4;
            if (is_packed)
                at[random_next(&state) % 4] = 255;
            else
                memcpy(at, &value, 4);
        }
    }
}

static void test_every_isa_gives_the_same_bits(void)
{
    dg_context *contexts[3];
    for (int isa = 0; isa < 3; isa++)
        if (!(contexts[isa] = open_context("cpu", isas[isa], 2)))
            printf("# without %s: %s\n", isas[isa], dg_last_error());
    for (int seed = 0; seed < harness_scaled(500); seed++) {
        struct random_problem r;
        const struct dg_problem problem = random_problem_draw(10000 + seed, 1 << 20);
        random_problem_make(&r, &problem, seed, RANDOM_ODD_ADDRESSES);
        if (seed % 3 == 0)
            spoil(&r);
        uint8_t *first = NULL;
        for (int isa = 0; isa < 3; isa++) {
            if (!contexts[isa])
                continue;
            random_problem_reset(&r);
            CHECK(!random_problem_call(&r, contexts[isa]), "%s: %s", r.line, dg_last_error());
            if (first) {
                CHECK(!memcmp(first, r.d.memory, RANDOM_PROBLEM_TOTAL(r.d)), "%s and c differ: %s",
                      isas[isa], r.line);
                continue;
            }
            first = malloc(RANDOM_PROBLEM_TOTAL(r.d));
            memcpy(first, r.d.memory, RANDOM_PROBLEM_TOTAL(r.d));
        }
        free(first);
        random_problem_free(&r);
    }
    for (int isa = 0; isa < 3; isa++)
        dg_context_destroy(contexts[isa]);
}

static struct dg_problem plain_problem(int64_t m, int64_t n, int64_t k, dg_type type)
{
    struct dg_problem problem = {.op = DG_OP_FP8_GEMM_NT, .d_type = type, .m = m, .n = n, .k = k};
    problem.lda = problem.ldb = k;
    problem.ldd = n;
    problem.sf_type = DG_F32;
    problem.sfb_block_n = 128;
    return problem;
}

static void test_rows_do_not_depend_on_m(void)
{
    for (int isa = 0; isa < 3; isa++) {
        dg_context *context = open_context("cpu", isas[isa], 2);
        if (!context)
            continue;
        struct random_problem r;
        const struct dg_problem whole = plain_problem(512, 150, 400, isa % 2 ? DG_BF16 : DG_F32);
        random_problem_make(&r, &whole, 77 + isa, 0);
        CHECK(!random_problem_call(&r, context), "%s: %s", r.line, dg_last_error());
        const size_t row_bytes = (size_t)whole.ldd * dg_type_bytes(whole.d_type);
        uint8_t *expected = malloc(r.d.bytes);
        memcpy(expected, random_data(&r.d), r.d.bytes);
        for (int64_t rows = 1; rows <= 40; rows++) {
            // The same problem, cut to `rows` rows from a row on.
            uint64_t state = (uint64_t)rows;
            struct random_problem part = r;
            const int64_t first = random_range(&state, 0, whole.m - rows);
            part.problem.m = rows;
            part.a.offset += (size_t)(first * whole.lda);
            part.sfa.offset += (size_t)(first * r.sfa_ld) * 4;
            part.d.offset += (size_t)first * row_bytes;
            memset(random_data(&part.d), RANDOM_POISON, (size_t)rows * row_bytes);
            CHECK(!random_problem_call(&part, context), "%s", dg_last_error());
            CHECK(!memcmp(random_data(&r.d), expected, r.d.bytes),
                  "%s: rows %lld to %lld alone differ from the same rows of 512", isas[isa],
                  (long long)first, (long long)(first + rows - 1));
        }
        free(expected);
        random_problem_free(&r);
        dg_context_destroy(context);
    }
}

static void test_thread_counts_give_the_same_bits(void)
{
    for (int seed = 0; seed < harness_scaled(20); seed++) {
        struct random_problem r;
        const struct dg_problem problem = random_problem_draw(20000 + seed, 1 << 23);
        random_problem_make(&r, &problem, seed, 0);
        uint8_t *first = NULL;
        for (int threads = 1; threads <= 8; threads++) {
            dg_context *context = open_context("cpu", NULL, threads);
            random_problem_reset(&r);
            CHECK(!random_problem_call(&r, context), "%s: %s", r.line, dg_last_error());
            dg_context_destroy(context);
            if (!first) {
                first = malloc(RANDOM_PROBLEM_TOTAL(r.d));
                memcpy(first, r.d.memory, RANDOM_PROBLEM_TOTAL(r.d));
            }
            CHECK(!memcmp(first, r.d.memory, RANDOM_PROBLEM_TOTAL(r.d)), "%d threads differ: %s",
                  threads, r.line);
        }
        free(first);
        random_problem_free(&r);
    }
}

struct user {
    dg_context *context;
    int index, calls, failures;
};

// One thread of the program: its own problems, again and again, the same bits each time.
static void *call_repeatedly(void *argument)
{
    struct user *user = argument;
    struct random_problem r;
    struct dg_problem problem = random_problem_draw(30000 + user->index, 1 << 20);
    random_problem_make(&r, &problem, user->index, 0);
    dg_context *alone = open_context("cpu", NULL, 1);
    user->failures += random_problem_call(&r, alone) != DG_OK;
    dg_context_destroy(alone);
    uint8_t *expected = malloc(RANDOM_PROBLEM_TOTAL(r.d));
    memcpy(expected, r.d.memory, RANDOM_PROBLEM_TOTAL(r.d));
    for (int i = 0; i < user->calls; i++) {
        random_problem_reset(&r);
        user->failures += random_problem_call(&r, user->context) != DG_OK;
        user->failures += memcmp(expected, r.d.memory, RANDOM_PROBLEM_TOTAL(r.d)) != 0;
    }
    free(expected);
    random_problem_free(&r);
    return NULL;
}

static void test_threads_share_a_context(void)
{
    enum { USERS = 8 };
    dg_context *context = open_context("cpu", NULL, 4);
    pthread_t threads[USERS];
    struct user users[USERS];
    for (int i = 0; i < USERS; i++) {
        users[i] = (struct user){context, i, harness_scaled(60), 0};
        CHECK(!pthread_create(&threads[i], NULL, call_repeatedly, &users[i]), "no thread");
    }
    for (int i = 0; i < USERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < USERS; i++)
        CHECK(users[i].failures == 0, "user %d: %d calls failed or differ", i, users[i].failures);
    dg_context_destroy(context);
}

static void test_a_forked_child_computes(void)
{
#if defined(__SANITIZE_THREAD__)
    SKIP("ThreadSanitizer ends a child that starts threads");
#endif
    struct random_problem r;
    const struct dg_problem problem = plain_problem(200, 300, 256, DG_F32);
    dg_context *context = open_context("cpu", NULL, 4);
    random_problem_make(&r, &problem, 3, 0);
    CHECK(!random_problem_call(&r, context), "%s", dg_last_error()); // threads run now
    uint8_t *expected = malloc(r.d.bytes);
    memcpy(expected, random_data(&r.d), r.d.bytes);
    const pid_t child = fork();
    if (child == 0) {
        alarm(20); // a child that hangs must not hang the tests
        random_problem_reset(&r);
        const bool is_same =
            !random_problem_call(&r, context) && !memcmp(expected, random_data(&r.d), r.d.bytes);
        dg_context_destroy(context);
        _exit(is_same ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with 0x%x", status);
    random_problem_reset(&r);
    CHECK(!random_problem_call(&r, context), "%s", dg_last_error());
    CHECK(!memcmp(expected, random_data(&r.d), r.d.bytes), "the parent differs after fork");
    free(expected);
    random_problem_free(&r);
    dg_context_destroy(context);
}

// Scales so small that totals are subnormal, under a caller's strange floating-point environment.
static void test_callers_rounding_and_flushing_do_not_matter(void)
{
    struct random_problem r;
    const struct dg_problem problem = plain_problem(40, 200, 300, DG_F32);
    dg_context *context = open_context("cpu", NULL, 2);
    random_problem_make(&r, &problem, 4, 0);
    for (size_t i = 0; i < r.sfa.bytes / 4; i++)
        ((float *)random_data(&r.sfa))[i] *= 0x1p-100f;
    for (size_t i = 0; i < r.sfb.bytes / 4; i++)
        ((float *)random_data(&r.sfb))[i] *= 0x1p-40f;
    CHECK(!random_problem_call(&r, context), "%s", dg_last_error());
    uint8_t *expected = malloc(r.d.bytes);
    memcpy(expected, random_data(&r.d), r.d.bytes);
    int subnormals = 0;
    for (int64_t i = 0; i < problem.m * problem.n; i++)
        subnormals += fpclassify(((const float *)expected)[i]) == FP_SUBNORMAL;
    CHECK(subnormals > 100, "only %d results are subnormal", subnormals);

    random_problem_reset(&r);
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040); // flush to zero, subnormals are zero
    const unsigned before = _mm_getcsr();
#endif
    const dg_status status = random_problem_call(&r, context);
    const int rounding = fegetround();
#if defined(__x86_64__)
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before & ~0x8040u);
    fesetround(FE_TONEAREST);
    CHECK(before == after, "MXCSR was 0x%x and is 0x%x", before, after);
#endif
    fesetround(FE_TONEAREST);
    CHECK(!status, "%s", dg_last_error());
    CHECK(rounding == FE_UPWARD, "the caller's rounding was changed");
    CHECK(!memcmp(expected, random_data(&r.d), r.d.bytes), "the bits depend on the environment");
    free(expected);
    random_problem_free(&r);
    dg_context_destroy(context);
}

// What is wrong with D when row `row` (and column `column`) must be NaN and all else finite.
static int count_misplaced(const struct random_problem *r, int64_t row, int64_t column)
{
    int misplaced = 0;
    for (int64_t i = 0; i < r->problem.m; i++)
        for (int64_t j = 0; j < r->problem.n; j++) {
            const double d = random_load(r, random_data(&r->d), i * r->problem.ldd + j);
            misplaced += (i == row || j == column) ? !isnan(d) : !isfinite(d);
        }
    return misplaced;
}

static void check_nan_place(dg_context *context, struct random_problem *r, const char *isa,
                            int64_t row, int64_t column)
{
    random_problem_reset(r);
    CHECK(!random_problem_call(r, context), "%s", dg_last_error());
    CHECK(count_misplaced(r, row, column) == 0,
          "%s %s: %d elements are wrong with NaN in row %lld of a, %lld of b", isa, r->line,
          count_misplaced(r, row, column), (long long)row, (long long)column);
}

static void test_nan_reaches_its_row_or_column_only(void)
{
    for (int isa = 0; isa < 3; isa++) {
        dg_context *context = open_context("cpu", isas[isa], 1);
        if (!context)
            continue;
        for (int seed = 0; seed < harness_scaled(60) && !harness_test_failed; seed++) {
            struct dg_problem problem = random_problem_draw(40000 + seed, 1 << 18);
            if (!problem.m || !problem.n || !problem.k)
                continue;
            struct random_problem r;
            random_problem_make(&r, &problem, seed, RANDOM_ODD_ADDRESSES);
            uint64_t state = (uint64_t)seed;
            const int64_t i = random_range(&state, 0, problem.m - 1);
            const int64_t j = random_range(&state, 0, problem.n - 1);
            const int64_t k = random_range(&state, 0, problem.k - 1);
            uint8_t *a =
                (uint8_t *)random_data(&r.a) +
                (problem.a_major == DG_K_MAJOR ? i * problem.lda + k : i + k * problem.lda);
            uint8_t *b =
                (uint8_t *)random_data(&r.b) +
                (problem.b_major == DG_K_MAJOR ? j * problem.ldb + k : j + k * problem.ldb);
            const uint8_t good = *a;
            *a = seed % 2 ? 0x7f : 0xff;
            check_nan_place(context, &r, isas[isa], i, -1);
            *b = seed % 2 ? 0xff : 0x7f;
            check_nan_place(context, &r, isas[isa], i, j);
            *a = good;
            check_nan_place(context, &r, isas[isa], -1, j);
            random_problem_free(&r);
        }
        dg_context_destroy(context);
    }
}

// An infinite scale gives Inf, or NaN where its block of 128 sums to zero - in its row alone, and with
// a tail of k in which only padding is zero.
static void test_an_infinite_scale_stays_in_its_row(void)
{
    for (int isa = 0; isa < 3; isa++) {
        dg_context *context = open_context("cpu", isas[isa], 1);
        if (!context)
            continue;
        struct random_problem r;
        const struct dg_problem problem = plain_problem(9, 37, 130, DG_F32);
        random_problem_make(&r, &problem, 5, 0);
        memset(random_data(&r.a), 0x38, r.a.bytes); // all ones: no sum is zero
        memset(random_data(&r.b), 0x38, r.b.bytes);
        ((float *)random_data(&r.sfa))[4 * r.sfa_ld + 1] = INFINITY; // the block of two k
        CHECK(!random_problem_call(&r, context), "%s", dg_last_error());
        const float *d = random_data(&r.d);
        for (int64_t i = 0; i < problem.m * problem.n; i++)
            CHECK(i / problem.n == 4 ? d[i] == INFINITY : isfinite(d[i]), "%s: [%lld] is %g",
                  isas[isa], (long long)i, d[i]);
        random_problem_free(&r);
        dg_context_destroy(context);
    }
}

// Sums of zeros are +0 whatever the signs were, on every instruction set.
static void test_zeros_give_positive_zero(void)
{
    for (int isa = 0; isa < 3; isa++) {
        dg_context *context = open_context("cpu", isas[isa], 1);
        if (!context)
            continue;
        struct random_problem r;
        const struct dg_problem problem = plain_problem(13, 40, 140, DG_F32);
        random_problem_make(&r, &problem, 6, 0);
        memset(random_data(&r.a), 0x80, r.a.bytes);
        for (int sign = 0; sign < 2; sign++) {
            memset(random_data(&r.b), sign ? 0xb8 : 0x38, r.b.bytes);
            random_problem_reset(&r);
            CHECK(!random_problem_call(&r, context), "%s", dg_last_error());
            for (int64_t i = 0; i < problem.m * problem.n; i++)
                CHECK(((const uint32_t *)random_data(&r.d))[i] == 0, "%s: [%lld] is %08x",
                      isas[isa], (long long)i, ((const uint32_t *)random_data(&r.d))[i]);
        }
        random_problem_free(&r);
        dg_context_destroy(context);
    }
}

int main(void)
{
    RUN(test_c_keeps_the_contract);
    RUN(test_avx2_keeps_the_contract);
    RUN(test_avx512_keeps_the_contract);
    RUN(test_every_isa_gives_the_same_bits);
    RUN(test_rows_do_not_depend_on_m);
    RUN(test_thread_counts_give_the_same_bits);
    RUN(test_threads_share_a_context);
    RUN(test_a_forked_child_computes);
    RUN(test_callers_rounding_and_flushing_do_not_matter);
    RUN(test_nan_reaches_its_row_or_column_only);
    RUN(test_an_infinite_scale_stays_in_its_row);
    RUN(test_zeros_give_positive_zero);
    return harness_end();
}
