// SPDX-License-Identifier: MIT
// test_context.c - contexts: options of every age, choice of the backend, the bound on SMs, plans that
// are remembered, and looking inside.
#include "../harness.h"
#include "recorder.h"

#include <pthread.h>
#include <stdlib.h>

// --- options ---

static void test_options_out_of_range_are_refused(void)
{
#define REFUSED(change, status, ...)                                                               \
    do {                                                                                           \
        struct dg_context_options options = DG_CONTEXT_OPTIONS;                                    \
        dg_context *context = (dg_context *)&options;                                              \
        options.backend = "cpu";                                                                   \
        change;                                                                                    \
        CHECK(dg_context_create(&context, &options) == status, "%s", dg_last_error());             \
        CHECK(error_has(TEXTS(__VA_ARGS__)), "one of " #__VA_ARGS__ " is not in `%s`",             \
              dg_last_error());                                                                    \
        CHECK(context == NULL, "*context was not set to NULL");                                    \
    } while (0)
    REFUSED(options.struct_size = 0, DG_INVALID_ARGUMENT, "options.struct_size = 0", "88");
    REFUSED(options.struct_size = 8, DG_INVALID_ARGUMENT, "options.struct_size = 8");
    REFUSED(options.struct_size = 61, DG_INVALID_ARGUMENT, "options.struct_size = 61");
    REFUSED(options.struct_size = (size_t)-8, DG_INVALID_ARGUMENT, "options.struct_size = ");
    REFUSED(options.device = -2, DG_INVALID_ARGUMENT, "options.device = -2", "-1 for the current");
    REFUSED(options.num_sms = -1, DG_INVALID_ARGUMENT, "options.num_sms = -1", "negative");
    REFUSED(options.num_threads = -4, DG_INVALID_ARGUMENT, "options.num_threads = -4", "negative");
    REFUSED(options.log_level = (dg_log_level)5, DG_INVALID_ARGUMENT, "options.log_level = 5", "4");
    REFUSED(options.log_level = (dg_log_level)-1, DG_INVALID_ARGUMENT, "options.log_level = -1");
    REFUSED(options.gemm_flags = 8, DG_INVALID_ARGUMENT, "options.gemm_flags = 0x8", "0x7");
    REFUSED(options.gemm_flags = DG_GEMM_PDL_PREFETCH_B, DG_INVALID_ARGUMENT,
            "options.gemm_flags = 0x2", "needs DG_GEMM_PDL");
    REFUSED(options.backend = "tpu", DG_INVALID_ARGUMENT, "options.backend = `tpu`", "sm90", "cpu",
            "oracle");
    REFUSED(options.backend = "", DG_INVALID_ARGUMENT, "options.backend = ``");
#undef REFUSED
    CHECK(dg_context_create(NULL, NULL) == DG_INVALID_ARGUMENT, "NULL");
    CHECK(error_has(TEXTS("context is NULL")), "%s", dg_last_error());
}

static void test_options_of_an_older_header(void)
{
    struct dg_gemm_options options = DG_GEMM_OPTIONS;
    struct dg_gemm_options given;
    memset(&given, 0x7f, sizeof given);
    given.struct_size = offsetof(struct dg_gemm_options, workspace_bytes);
    given.workspace = NULL;
    CHECK(dg_options_read("options", &given, &options, sizeof options) == DG_OK, "%s",
          dg_last_error());
    CHECK(options.workspace == NULL && options.workspace_bytes == 0 && options.flags == 0,
          "fields that the older struct lacks keep their defaults");
    CHECK(options.struct_size == sizeof options, "the size is ours now");
}

static void test_options_of_a_newer_header(void)
{
    struct {
        struct dg_context_options known;
        unsigned char future[40];
    } newer = {DG_CONTEXT_OPTIONS, {0}};
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    newer.known.struct_size = sizeof newer;
    newer.known.num_threads = 3;
    CHECK(dg_options_read("options", &newer, &options, sizeof options) == DG_OK, "%s",
          dg_last_error());
    CHECK(options.num_threads == 3, "known fields are read");
    newer.future[39] = 1;
    CHECK(dg_options_read("options", &newer, &options, sizeof options) == DG_UNSUPPORTED,
          "an unknown field that is set");
    CHECK(error_has(TEXTS("options.struct_size = 128", "byte 127", dg_version())), "%s",
          dg_last_error());
}

// --- choice of the backend ---

static void test_the_environment_names_the_backend(void)
{
    // Set in main() before anything read the environment.
    dg_context *context;
    CHECK(dg_context_create(&context, NULL) == DG_INVALID_ARGUMENT, "%s", dg_last_error());
    CHECK(error_has(TEXTS("$DG_BACKEND = `abacus`", "sm90", "cpu", "oracle")), "%s",
          dg_last_error());
}

static void test_named_backends_open(void)
{
    static const char *const names[] = {"cpu", "oracle"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct dg_context_options options = DG_CONTEXT_OPTIONS;
        dg_context *context;
        options.backend = names[i]; // stronger than the environment
        CHECK(dg_context_create(&context, &options) == DG_OK, "%s", dg_last_error());
        bool is_named = !strcmp(dg_context_backend(context), names[i]);
        dg_context_destroy(context);
        CHECK(is_named, "not %s", names[i]);
    }
}

static void test_a_gpu_that_is_not_there(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    options.backend = "sm90";
    dg_status status = dg_context_create(&context, &options);
    if (status == DG_OK) {
        dg_context_destroy(context);
        SKIP("there is a Hopper GPU here");
    }
    CHECK(status == DG_NO_DEVICE, "%s: %s", dg_status_name(status), dg_last_error());
    CHECK(error_has(TEXTS("options.backend = `sm90`", "cannot run here: ")), "%s", dg_last_error());
    CHECK(strlen(dg_last_error()) > strlen("options.backend = `sm90`: cannot run here: "),
          "no reason");
}

static void test_a_context_that_cannot_open(void)
{
    dg_context *context = (dg_context *)&recorded;
    const struct dg_context_options options = DG_CONTEXT_OPTIONS;
    memset(&recorded, 0, sizeof recorded);
    recorded.open_status = DG_OUT_OF_MEMORY;
    CHECK(dg_context_open(&context, &recorder_backend, &options) == DG_OUT_OF_MEMORY, "status");
    CHECK(context == NULL && error_has(TEXTS("told to fail in open")), "%s", dg_last_error());
}

static void test_a_context_lives_and_ends(void)
{
    dg_context *context = recorder_context(DG_DEVICE_CPU);
    CHECK(context, "%s", dg_last_error());
    CHECK(!strcmp(dg_context_backend(context), "recorder"), "%s", dg_context_backend(context));
    dg_context_destroy(context);
    CHECK(recorded.opens == 1 && recorded.closes == 1, "%d opens, %d closes", recorded.opens,
          recorded.closes);
    dg_context_destroy(NULL);
    CHECK(dg_context_backend(NULL) != NULL, "never NULL");
}

// --- SMs ---

static void test_bound_on_sms(void)
{
    dg_context *context = recorder_context(DG_DEVICE_CUDA);
    const struct dg_problem problem = {.op = DG_OP_FP8_GEMM_NT, .m = 64, .n = 64, .k = 64};
    CHECK(dg_context_num_sms(context) == 132, "%d", (int)dg_context_num_sms(context));
    CHECK(dg_prepare(context, &problem) == DG_OK && recorded.plan.num_ctas == 132, "all SMs");
    CHECK(dg_context_set_num_sms(context, 77) == DG_OK, "%s", dg_last_error());
    CHECK(dg_context_num_sms(context) == 77, "%d", (int)dg_context_num_sms(context));
    CHECK(dg_prepare(context, &problem) == DG_OK && recorded.plan.num_ctas == 77, "77 SMs");
    CHECK(recorded.device.all_sms == 132, "the device keeps its own number");
    CHECK(dg_context_set_num_sms(context, 133) == DG_INVALID_ARGUMENT, "133");
    CHECK(error_has(TEXTS("num_sms = 133", "from 0 to 132")), "%s", dg_last_error());
    CHECK(dg_context_set_num_sms(context, -1) == DG_INVALID_ARGUMENT, "-1");
    CHECK(error_has(TEXTS("num_sms = -1", "from 0 to 132")), "%s", dg_last_error());
    CHECK(dg_context_num_sms(context) == 77, "a refused bound changes nothing");
    CHECK(dg_context_set_num_sms(context, 0) == DG_OK, "%s", dg_last_error());
    CHECK(dg_context_num_sms(context) == 132, "0 restores all");
    CHECK(recorded.plans == 2, "%d plans: the plan for 132 SMs was remembered", recorded.plans);
    CHECK(dg_prepare(context, &problem) == DG_OK && recorded.plan.num_ctas == 132, "132 again");
    CHECK(recorded.plans == 2, "%d plans", recorded.plans);
    dg_context_destroy(context);
    CHECK(dg_context_set_num_sms(NULL, 0) == DG_INVALID_ARGUMENT, "NULL");
    CHECK(dg_context_num_sms(NULL) == 0, "NULL");
}

static void test_a_cpu_has_no_sms(void)
{
    dg_context *context = recorder_context(DG_DEVICE_CPU);
    CHECK(dg_context_num_sms(context) == 0, "%d", (int)dg_context_num_sms(context));
    CHECK(dg_context_set_num_sms(context, 0) == DG_OK, "%s", dg_last_error());
    CHECK(dg_context_set_num_sms(context, 1) == DG_INVALID_ARGUMENT, "1");
    CHECK(error_has(TEXTS("num_sms = 1", "from 0 to 0", "CPU")), "%s", dg_last_error());
    dg_context_destroy(context);
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.num_sms = 4;
    CHECK(dg_context_open(&context, &recorder_backend, &options) == DG_INVALID_ARGUMENT, "create");
    CHECK(error_has(TEXTS("options.num_sms = 4")) && !context, "%s", dg_last_error());
    CHECK(recorded.opens == recorded.closes, "the device was given back");
}

// --- looking inside ---

struct facts {
    int count, has_version, has_environment, has_backend, has_plan, has_line;
    char text[64];
};

static void take_fact(void *user, const char *section, const char *key, const char *value)
{
    struct facts *facts = user;
    facts->count++;
    facts->has_version |= !strcmp(key, "version") && !strcmp(value, dg_version());
    facts->has_environment |= !strcmp(key, "DG_BACKEND") && !strcmp(value, "abacus");
    facts->has_backend |= !strcmp(section, "backends") && !strcmp(key, "oracle");
    facts->has_plan |= !strcmp(key, "recorder") && !strcmp(value, "explains");
    facts->has_line |= !strcmp(key, "line") && !strcmp(value, "fp8_gemm_nt m=64 n=2112 k=7168");
    if (!strcmp(key, "kernel"))
        snprintf(facts->text, sizeof facts->text, "%s", value);
}

static void test_info(void)
{
    struct facts facts = {0};
    CHECK(dg_info(take_fact, &facts) == DG_OK, "%s", dg_last_error());
    CHECK(facts.has_version && facts.has_environment && facts.has_backend, "%d facts", facts.count);
    CHECK(dg_info(NULL, NULL) == DG_INVALID_ARGUMENT, "NULL callback");
}

static void test_explain(void)
{
    dg_context *context = recorder_context(DG_DEVICE_CUDA);
    struct dg_problem p;
    struct facts facts = {0};
    dg_problem_parse("fp8_gemm_nt m=64 n=2112 k=7168 out=bf16", &p);
    CHECK(dg_explain(context, &p, take_fact, &facts) == DG_OK, "%s", dg_last_error());
    CHECK(facts.has_plan && facts.has_line && !strcmp(facts.text, "sm90_gemm"), "%s", facts.text);
    p.k = p.lda = p.ldb = 0;
    memset(&facts, 0, sizeof facts);
    CHECK(dg_explain(context, &p, take_fact, &facts) == DG_OK, "%s", dg_last_error());
    CHECK(!facts.has_plan && !strcmp(facts.text, "fill"), "%s", facts.text);
    p.m = 0;
    CHECK(dg_explain(context, &p, take_fact, &facts) == DG_OK, "%s", dg_last_error());
    CHECK(!strcmp(facts.text, "none"), "%s", facts.text);
    CHECK(dg_explain(context, &p, NULL, NULL) == DG_INVALID_ARGUMENT, "NULL callback");
    CHECK(dg_explain(NULL, &p, take_fact, &facts) == DG_INVALID_ARGUMENT, "NULL context");
    CHECK(dg_explain(context, NULL, take_fact, &facts) == DG_INVALID_ARGUMENT, "NULL problem");
    p.op = DG_OP_NONE;
    CHECK(dg_explain(context, &p, take_fact, &facts) == DG_INVALID_ARGUMENT, "no operation");
    CHECK(error_has(TEXTS("problem: op = 0")), "%s", dg_last_error());
    dg_context_destroy(context);
}

static void test_prepare_and_workspace(void)
{
    dg_context *context = recorder_context(DG_DEVICE_CUDA);
    struct dg_problem p = {.op = DG_OP_FP8_GEMM_TN, .m = 8, .n = 9, .k = 10};
    size_t bytes = 1;
    recorded.workspace_bytes = 12345;
    CHECK(dg_workspace_bytes(context, &p, &bytes) == DG_OK && bytes == 12345, "%zu", bytes);
    CHECK(dg_workspace_bytes(context, &p, NULL) == DG_INVALID_ARGUMENT, "NULL bytes");
    CHECK(error_has(TEXTS("bytes is NULL")), "%s", dg_last_error());
    CHECK(dg_workspace_bytes(NULL, &p, &bytes) == DG_INVALID_ARGUMENT, "NULL context");
    CHECK(dg_prepare(context, &p) == DG_OK && recorded.prepares == 1, "%s", dg_last_error());
    CHECK(recorded.plans == 1, "%d plans", recorded.plans);
    p.m = 0;
    CHECK(dg_prepare(context, &p) == DG_OK && recorded.prepares == 1, "nothing to make ready");
    p.m = -1;
    CHECK(dg_prepare(context, &p) == DG_INVALID_ARGUMENT, "m = -1");
    CHECK(error_has(TEXTS("problem: m = -1")), "%s", dg_last_error());
    CHECK(dg_prepare(NULL, &p) == DG_INVALID_ARGUMENT, "NULL context");
    CHECK(dg_prepare(context, NULL) == DG_INVALID_ARGUMENT, "NULL problem");
    dg_context_destroy(context);
}

struct messages {
    int count;
    char last[512];
};

static void take_message(void *user, dg_log_level level, const char *text)
{
    struct messages *messages = user;
    messages->count++;
    snprintf(messages->last, sizeof messages->last, "%s", text);
}

static void test_a_new_plan_is_logged_once(void)
{
    struct messages messages = {0};
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    const struct dg_problem problem = {.op = DG_OP_FP8_GEMM_NT, .m = 64, .n = 65, .k = 66};
    dg_context *context;
    memset(&recorded, 0, sizeof recorded);
    options.log = take_message, options.log_user = &messages, options.log_level = DG_LOG_DEBUG;
    CHECK(dg_context_open(&context, &recorder_backend, &options) == DG_OK, "%s", dg_last_error());
    dg_prepare(context, &problem);
    dg_prepare(context, &problem);
    dg_context_destroy(context);
    CHECK(messages.count == 1, "%d messages", messages.count);
    CHECK(!strcmp(messages.last, "plan: fp8_gemm_nt m=64 n=65 k=66: sm90_gemm (recorder) "
                                 "recorder=explains"),
          "`%s`", messages.last);
}

// --- the memo under threads ---

// Far more problems than the table has room for, from several threads: every plan must be the one of
// its problem and bound.
static void *plan_many(void *user)
{
    struct dg_memo *memo = user;
    static _Atomic uint32_t seeds;
    uint32_t state = ++seeds * 7919u;
    for (int i = 0; i < 60000; i++) {
        state = state * 1664525u + 1013904223u;
        struct dg_plan_key key;
        struct dg_plan plan;
        memset(&key, 0, sizeof key);
        key.problem.m = state >> 20;
        key.num_sms = 1 + (state >> 8) % 2;
        if (!dg_plan_memo_find(memo, &key, &plan)) {
            memset(&plan, 0, sizeof plan);
            plan.num_ctas = (int32_t)(key.problem.m * 2 + key.num_sms);
            plan.predicted_us = plan.num_ctas;
            memset(plan.why, (int)(key.problem.m % 100) + 1, sizeof plan.why - 1);
            dg_plan_memo_store(memo, &key, &plan);
        } else if (plan.num_ctas != key.problem.m * 2 + key.num_sms ||
                   plan.predicted_us != plan.num_ctas || plan.why[0] != key.problem.m % 100 + 1 ||
                   plan.why[sizeof plan.why - 2] != plan.why[0])
            return (void *)"a torn or foreign plan";
    }
    return NULL;
}

static void test_memo_under_threads(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct dg_memo *memo = dg_plan_memo_create();
    const char *fault = NULL;
    CHECK(memo, "no memory");
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, plan_many, memo))
            exit(1);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        fault = result ? result : fault;
    }
    dg_memo_destroy(memo);
    CHECK(!fault, "%s", fault);
}

static void test_memo_remembers(void)
{
    struct dg_memo *memo = dg_plan_memo_create();
    struct dg_plan_key key;
    struct dg_plan plan;
    int found = 0;
    memset(&key, 0, sizeof key);
    CHECK(memo && !dg_plan_memo_find(memo, &key, &plan),
          "a key of zeros is found in an empty table");
    for (int i = 0; i < 400; i++) {
        memset(&plan, 0, sizeof plan);
        key.problem.m = i, plan.num_ctas = i;
        dg_plan_memo_store(memo, &key, &plan);
    }
    for (int i = 0; i < 400; i++) {
        key.problem.m = i;
        found += dg_plan_memo_find(memo, &key, &plan) && plan.num_ctas == i;
    }
    dg_memo_destroy(memo);
    CHECK(found > 380, "%d of 400 are still there", found);
}

int main(void)
{
    setenv("DG_BACKEND", "abacus", 1);
    RUN(test_options_out_of_range_are_refused);
    RUN(test_options_of_an_older_header);
    RUN(test_options_of_a_newer_header);
    RUN(test_the_environment_names_the_backend);
    RUN(test_named_backends_open);
    RUN(test_a_gpu_that_is_not_there);
    RUN(test_a_context_that_cannot_open);
    RUN(test_a_context_lives_and_ends);
    RUN(test_bound_on_sms);
    RUN(test_a_cpu_has_no_sms);
    RUN(test_info);
    RUN(test_explain);
    RUN(test_prepare_and_workspace);
    RUN(test_a_new_plan_is_logged_once);
    RUN(test_memo_under_threads);
    RUN(test_memo_remembers);
    return harness_end();
}
