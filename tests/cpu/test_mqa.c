// SPDX-License-Identifier: MIT
// test_mqa.c - MQA logits on the CPU: random problems of both forms against sums in double, the same bits
// from every instruction set and number of threads, schedules, refused calls.
#include "../contexts.h"
#include "../harness.h"
#include "../random_mqa.h"

static void check_random(const char *backend, uint64_t first, int count, double limit_f32)
{
    dg_context *context = open_context(backend, NULL, 2);
    CHECK(context, "%s", dg_last_error());
    for (int i = 0; i < count && !harness_test_failed; i++) {
        struct random_mqa r;
        struct mqa_figures figures;
        void *base[MQA_BUFFERS];
        random_mqa_draw(&r, first + (uint64_t)i);
        random_mqa_make(&r);
        random_mqa_host(&r, base);
        const dg_status status = random_mqa_call(&r, context, base, NULL);
        CHECK(status == DG_OK, "%s: %s", r.line, dg_last_error());
        const char *wrong = random_mqa_wrong(&r, 3000, &figures);
        CHECK(!wrong, "%s", wrong);
        const double rounding = r.logits_type == DG_BF16 ? 1.0 / 256 : 0;
        CHECK(figures.of_terms <= limit_f32 + rounding, "%s: %g of the terms", r.line,
              figures.of_terms);
        CHECK(figures.difference < (r.logits_type == DG_BF16 ? 3e-5 : 5e-6), "%s: difference %g",
              r.line, figures.difference);
        random_mqa_free(&r);
    }
    dg_context_destroy(context);
}

static void test_random_problems(void)
{
    check_random("cpu", 1, harness_scaled(250), 2e-6);
}

static void test_random_problems_of_the_oracle(void)
{
    check_random("oracle", 5000, harness_scaled(60), 1e-7);
}

static void run_with(struct random_mqa *r, const char *isa, int threads, uint64_t *checksum)
{
    void *base[MQA_BUFFERS];
    dg_context *context = open_context("cpu", isa, threads);
    if (!context)
        return; // not on this CPU
    random_mqa_poison_logits(r);
    random_mqa_host(r, base);
    if (random_mqa_call(r, context, base, NULL) == DG_OK)
        *checksum = random_checksum(&r->buffer[MQA_LOGITS]);
    dg_context_destroy(context);
}

static void test_same_bits_from_every_instruction_set_and_thread_count(void)
{
    for (uint64_t seed = 100; seed < 100 + (uint64_t)harness_scaled(25); seed++) {
        static const char *const isas[] = {"c", "avx2", "avx512"};
        struct random_mqa r;
        random_mqa_draw(&r, seed);
        random_mqa_make(&r);
        uint64_t expected = 0;
        run_with(&r, "c", 1, &expected);
        CHECK(expected, "%s: %s", r.line, dg_last_error());
        for (int i = 0; i < 6; i++) {
            uint64_t found = expected;
            run_with(&r, isas[i / 2], i % 2 ? 3 : 1, &found);
            CHECK(found == expected, "%s: %s differs", r.line, isas[i / 2]);
        }
        random_mqa_free(&r);
    }
}

// ---- schedules ----

static void check_schedule(dg_context *context, const int32_t *lengths, int batch, int next_n,
                           int workers)
{
    enum { MOST = 200 };
    int32_t rows[2 * (MOST + 1)];
    int64_t chunks[64], total = 0, sequence = 0, chunk = 0;
    const struct dg_tensor l =
        mqa_tensor((void *)lengths, DG_I32, next_n ? 2 : 1, batch, next_n, 0, 0);
    const struct dg_tensor s = dg_matrix(rows, DG_I32, workers + 1, 2);
    CHECK(dg_paged_mqa_logits_metadata(context, &l, &s, NULL) == DG_OK, "%s", dg_last_error());
    for (int b = 0; b < batch; b++) {
        chunks[b] = 0;
        for (int t = 0; t < (next_n ? next_n : 1); t++) {
            const int64_t length = lengths[b * (next_n ? next_n : 1) + t];
            const int64_t count = length > 0 ? (length + 127) / 128 : 0;
            chunks[b] = count > chunks[b] ? count : chunks[b];
        }
        total += chunks[b];
    }
    // Walking all chunks in order meets each worker's row, and no worker has more than its share.
    int64_t index = 0, before = 0;
    for (int w = 0; w < workers; w++) {
        while (sequence < batch && (chunks[sequence] == 0 || sequence < rows[2 * w] ||
                                    (sequence == rows[2 * w] && chunk < rows[2 * w + 1]))) {
            if (chunks[sequence] > 0)
                index++, chunk++;
            if (chunk >= chunks[sequence])
                sequence++, chunk = 0;
        }
        CHECK(rows[2 * w] == sequence && (sequence == batch || rows[2 * w + 1] == chunk),
              "worker %d begins at %d, %d", w, (int)rows[2 * w], (int)rows[2 * w + 1]);
        CHECK(w == 0 || (index - before) * workers <= total + workers - 1, "worker %d has %lld", w,
              (long long)(index - before));
        before = index;
    }
    CHECK(rows[0] >= 0 && rows[2 * workers] == batch && rows[2 * workers + 1] == workers, "end");
}

static void test_schedules_deal_out_evenly(void)
{
    static const int32_t some[] = {0, 1, 128, 129, 0, 1000, 5, 7000, 0, 0, 256, 0},
                         none[] = {0, -3, 0}, one[] = {1 << 20};
    dg_context *context = open_context("cpu", NULL, 1);
    CHECK(context, "%s", dg_last_error());
    for (int workers = 1; workers < 200; workers += 1 + workers / 3) {
        check_schedule(context, some, 12, 0, workers);
        check_schedule(context, some, 4, 3, workers);
        check_schedule(context, none, 3, 0, workers);
        check_schedule(context, one, 1, 1, workers);
    }
    dg_context_destroy(context);
}

// ---- refused calls ----

static void expect(const struct random_mqa *r, dg_context *context, void *const base[],
                   const char *text)
{
    const dg_status status = random_mqa_call(r, context, base, NULL);
    CHECK(status == DG_INVALID_ARGUMENT || status == DG_UNSUPPORTED, "%s: status %d", text, status);
    CHECK(strstr(dg_last_error(), text), "`%s` not in `%s`", text, dg_last_error());
}

static void small(struct random_mqa *r, int is_paged)
{
    memset(r, 0, sizeof *r);
    r->is_paged = is_paged;
    r->heads = 4, r->depth = 32, r->num_kv = r->columns = 100, r->rows = 6;
    r->batch = 3, r->next_n = 2, r->page_size = 64, r->num_workers = 7;
    r->weights_type = r->logits_type = DG_F32;
    random_mqa_make(r);
}

static void test_what_breaks_a_rule_is_refused(void)
{
    struct random_mqa r, bad;
    void *base[MQA_BUFFERS];
    dg_context *context = open_context("cpu", NULL, 1);
    CHECK(context, "%s", dg_last_error());
    small(&r, 0);
    random_mqa_host(&r, base);
    bad = r, bad.logits_type = DG_E4M3, expect(&bad, context, base, "logits.type = e4m3");
    bad = r, bad.logits_type = DG_F64, expect(&bad, context, base, "logits.type = f64");
    bad = r, bad.weights_type = DG_I32, expect(&bad, context, base, "weights.type = i32");
    bad = r, bad.columns = 99, expect(&bad, context, base, "logits.shape[1] = 99: must be 100");
    bad = r, bad.flags = 64, expect(&bad, context, base, "options.flags = 0x40");
    bad = r, bad.heads = 0, expect(&bad, context, base, "q has 0 heads");
    bad = r, bad.depth = 513, expect(&bad, context, base, "q has depth 513: a CPU does at most");
    bad = r, bad.logits_gap = -1, expect(&bad, context, base, "rows must not overlap");
    base[MQA_Q] = NULL, expect(&r, context, base, "q.data = ");
    CHECK(dg_fp8_mqa_logits(context, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) ==
                  DG_INVALID_ARGUMENT &&
              strstr(dg_last_error(), "dg_fp8_mqa_logits: q is NULL"),
          "%s", dg_last_error());
    random_mqa_free(&r);
    dg_context_destroy(context);
}

static void test_what_breaks_a_rule_of_pages_is_refused(void)
{
    struct random_mqa r, bad;
    void *base[MQA_BUFFERS];
    dg_context *context = open_context("cpu", NULL, 1);
    CHECK(context, "%s", dg_last_error());
    small(&r, 1);
    random_mqa_host(&r, base);
    bad = r, bad.page_size = 48, expect(&bad, context, base, "16, 32, 64 or 128 positions");
    bad = r, bad.flags = DG_MQA_COMPRESSED, expect(&bad, context, base, "options.flags = 0x2");
    bad = r, bad.page_gap = -16, expect(&bad, context, base, "kv_cache.stride[0]");
    bad = r, bad.num_workers = 0, expect(&bad, context, base, "schedule.shape[0] = 1");
    int32_t *table = random_data(&r.buffer[MQA_ENDS]),
            *lengths = random_data(&r.buffer[MQA_STARTS]);
    lengths[1] = 100;
    table[r.max_pages + 1] = (int32_t)r.num_pages;
    expect(&r, context, base, "block_table[1][1] = 12: must be a page from 0 to 11");
    table[r.max_pages + 1] = -1;
    expect(&r, context, base, "block_table[1][1] = -1");
    table[r.max_pages + 1] = 0;
    const struct dg_tensor schedule = mqa_schedule(&r, base[MQA_SCHEDULE]);
    CHECK(random_mqa_call(&r, context, base, NULL) == DG_OK, "%s", dg_last_error());
    CHECK(mqa_call_paged(&r, context, base, NULL, NULL) == DG_OK, "%s", dg_last_error());
    ((int32_t *)base[MQA_SCHEDULE])[15] = 9;
    CHECK(mqa_call_paged(&r, context, base, &schedule, NULL) == DG_INVALID_ARGUMENT &&
              strstr(dg_last_error(), "schedule[7] = 3, 9: was not made for 3 sequences and 7 SMs"),
          "%s", dg_last_error());
    random_mqa_free(&r);
    dg_context_destroy(context);
}

static void test_nothing_to_do(void)
{
    struct random_mqa r;
    void *base[MQA_BUFFERS] = {NULL};
    dg_context *context = open_context("cpu", NULL, 1);
    CHECK(context, "%s", dg_last_error());
    memset(&r, 0, sizeof r);
    r.heads = 4, r.depth = 32, r.weights_type = r.logits_type = DG_F32;
    CHECK(random_mqa_call(&r, context, base, NULL) == DG_OK, "%s", dg_last_error());
    r.num_kv = r.columns = 9;
    int32_t kv[72] = {0};
    base[MQA_KV] = base[MQA_SCALES] = kv;
    CHECK(random_mqa_call(&r, context, base, NULL) == DG_OK, "%s", dg_last_error());
    dg_context_destroy(context);
}

int main(void)
{
    RUN(test_random_problems);
    RUN(test_random_problems_of_the_oracle);
    RUN(test_same_bits_from_every_instruction_set_and_thread_count);
    RUN(test_schedules_deal_out_evenly);
    RUN(test_what_breaks_a_rule_is_refused);
    RUN(test_what_breaks_a_rule_of_pages_is_refused);
    RUN(test_nothing_to_do);
    return harness_end();
}
