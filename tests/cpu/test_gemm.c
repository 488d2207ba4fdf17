// SPDX-License-Identifier: MIT
// test_gemm.c - the cpu backend against the oracle, on random problems over all layouts, types, ways to
// add C, scales and tails; and the oracle against an even plainer sum.
#include "../contexts.h"
#include "../harness.h"
#include "../random_problem.h"

static dg_context *oracle;

// One element of D, straight from the definition.
static double sum_slowly(const struct random_problem *r, int64_t i, int64_t j)
{
    const struct dg_problem *p = &r->problem;
    const uint8_t *a = random_data(&r->a), *b = random_data(&r->b);
    double total = 0;
    for (int64_t k = 0; k < p->k; k++) {
        const double x =
            random_value(a[p->a_major == DG_K_MAJOR ? i * p->lda + k : i + k * p->lda]);
        const double y =
            random_value(b[p->b_major == DG_K_MAJOR ? j * p->ldb + k : j + k * p->ldb]);
        const double sfa = random_scale(r, &r->sfa, p->sfa_major, r->sfa_ld, i, k / 128);
        const double sfb =
            random_scale(r, &r->sfb, p->sfb_major, r->sfb_ld, j / p->sfb_block_n, k / 128);
        total += sfa * sfb * x * y;
    }
    if (p->c_mode)
        total += random_load(r, random_data(&r->c), i * r->c_stride[0] + j * r->c_stride[1]);
    return total;
}

static void test_oracle_is_the_definition(void)
{
    for (int i = 0; i < harness_scaled(100); i++) {
        struct random_problem r;
        const struct dg_problem problem = random_problem_draw(1000 + i, 1 << 15);
        random_problem_make(&r, &problem, i, RANDOM_ODD_ADDRESSES);
        double *reference = calloc((size_t)(problem.m * problem.n) + 1, sizeof *reference);
        double *terms = calloc((size_t)(problem.m * problem.n) + 1, sizeof *terms);
        CHECK(!random_problem_reference(&r, oracle, false, reference) &&
                  !random_problem_reference(&r, oracle, true, terms),
              "%s: %s", r.line, dg_last_error());
        for (int64_t at = 0; at < problem.m * problem.n; at++) {
            const double slow = sum_slowly(&r, at / problem.n, at % problem.n);
            CHECK(fabs(reference[at] - slow) <= 1e-13 * terms[at], "%s: [%lld] is %.17g, not %.17g",
                  r.line, (long long)at, reference[at], slow);
        }
        free(reference);
        free(terms);
        random_problem_free(&r);
    }
}

// The oracle rounds its double once, also where rounding to FP32 first would give another BF16.
static void test_oracle_rounds_once(void)
{
    for (int i = 0; i < harness_scaled(100); i++) {
        struct random_problem r;
        struct dg_problem problem = random_problem_draw(2000 + i, 1 << 17);
        problem.d_type = DG_BF16;
        random_problem_make(&r, &problem, i, 0);
        double *reference = calloc((size_t)(problem.m * problem.n) + 1, sizeof *reference);
        CHECK(!random_problem_reference(&r, oracle, false, reference) &&
                  !random_problem_call(&r, oracle),
              "%s: %s", r.line, dg_last_error());
        CHECK(!random_problem_damage(&r), "%s: %s changed", r.line, random_problem_damage(&r));
        for (int64_t at = 0; at < problem.m * problem.n; at++) {
            const int64_t place = at / problem.n * problem.ldd + at % problem.n;
            const double d = random_load(&r, random_data(&r.d), place), exact = reference[at];
            CHECK(fabs(d - exact) <= random_half_ulp_bf16(exact), "%s: %.17g became %.17g", r.line,
                  exact, d);
        }
        free(reference);
        random_problem_free(&r);
    }
}

static void check_problem(dg_context *context, const struct dg_problem *problem, uint64_t seed,
                          const char *isa)
{
    struct random_problem r;
    struct error_figures figures;
    random_problem_make(&r, problem, seed, RANDOM_ODD_ADDRESSES);
    CHECK(!random_problem_call(&r, context), "%s %s: %s", isa, r.line, dg_last_error());
    CHECK(!random_problem_damage(&r), "%s %s: %s changed", isa, r.line, random_problem_damage(&r));
    CHECK(!random_problem_compare(&r, oracle, &figures), "%s: %s", r.line, dg_last_error());
    if (problem->d_type == DG_F32)
        CHECK(figures.of_terms <= 1e-6, "%s %s: error %g of the terms", isa, r.line,
              figures.of_terms);
    else
        CHECK(figures.rounding <= 1, "%s %s: %g roundings", isa, r.line, figures.rounding);
    random_problem_free(&r);
}

static void check_isa(const char *isa, int count)
{
    dg_context *context = open_context("cpu", isa, 3);
    if (!context)
        SKIP(dg_last_error());
    for (int i = 0; i < harness_scaled(count) && !harness_test_failed; i++) {
        const struct dg_problem problem = random_problem_draw(i, 1 << 21);
        check_problem(context, &problem, i, isa);
    }
    dg_context_destroy(context);
}

static void test_random_problems_c(void)
{
    check_isa("c", 250);
}

static void test_random_problems_avx2(void)
{
    check_isa("avx2", 600);
}

static void test_random_problems_avx512(void)
{
    check_isa("avx512", 600);
}

// More rows and columns than one task takes.
static void test_several_tasks_in_both_directions(void)
{
    static const int64_t sizes[][3] = {
        {400, 300, 200}, {193, 129, 129}, {1, 1000, 257}, {600, 40, 64}};
    dg_context *context = open_context("cpu", NULL, 2);
    for (int i = 0; i < 4; i++)
        for (int type = 0; type < 2; type++) {
            struct dg_problem problem = random_problem_draw(i, 1 << 20);
            problem.m = sizes[i][0], problem.n = sizes[i][1], problem.k = sizes[i][2];
            problem.lda = problem.a_major == DG_K_MAJOR ? problem.k : problem.m;
            problem.ldb = problem.b_major == DG_K_MAJOR ? problem.k : problem.n;
            problem.ldd = problem.n;
            problem.d_type = type ? DG_BF16 : DG_F32;
            check_problem(context, &problem, i, "best");
        }
    dg_context_destroy(context);
}

static void test_empty_problems_touch_nothing_or_fill(void)
{
    dg_context *context = open_context("cpu", NULL, 2);
    for (int i = 0; i < 90; i++) {
        struct dg_problem problem = random_problem_draw(i, 1 << 16);
        *(i % 3 == 0 ? &problem.m : i % 3 == 1 ? &problem.n : &problem.k) = 0;
        struct random_problem r;
        random_problem_make(&r, &problem, i, 0);
        CHECK(!random_problem_call(&r, context), "%s: %s", r.line, dg_last_error());
        CHECK(!random_problem_damage(&r), "%s: %s changed", r.line, random_problem_damage(&r));
        for (int64_t at = 0; at < problem.m * problem.n; at++) {
            const int64_t row = at / problem.n, column = at % problem.n;
            const double d = random_load(&r, random_data(&r.d), row * problem.ldd + column);
            const int64_t from = row * r.c_stride[0] + column * r.c_stride[1];
            const double expected = problem.c_mode ? random_load(&r, random_data(&r.c), from) : 0;
            CHECK(d == expected, "%s: [%lld] is %g, not %g", r.line, (long long)at, d, expected);
        }
        random_problem_free(&r);
    }
    dg_context_destroy(context);
}

static void test_f64_output_is_refused(void)
{
    dg_context *context = open_context("cpu", NULL, 1);
    struct dg_problem problem = random_problem_draw(1, 1 << 16);
    problem.d_type = DG_F64;
    problem.c_mode = DG_C_NONE;
    struct random_problem r;
    random_problem_make(&r, &problem, 1, 0);
    CHECK(random_problem_call(&r, context) == DG_UNSUPPORTED, "%s", dg_last_error());
    CHECK(strstr(dg_last_error(), "f64"), "%s", dg_last_error());
    random_problem_free(&r);
    dg_context_destroy(context);
}

int main(void)
{
    oracle = open_context("oracle", NULL, 0);
    RUN(test_oracle_is_the_definition);
    RUN(test_oracle_rounds_once);
    RUN(test_random_problems_c);
    RUN(test_random_problems_avx2);
    RUN(test_random_problems_avx512);
    RUN(test_several_tasks_in_both_directions);
    RUN(test_empty_problems_touch_nothing_or_fill);
    RUN(test_f64_output_is_refused);
    dg_context_destroy(oracle);
    return harness_end();
}
