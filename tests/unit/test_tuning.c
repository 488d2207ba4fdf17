// SPDX-License-Identifier: MIT
// test_tuning.c - contexts for devices that are not there, tables of measured winners, and the plans that
// follow from both.  Needs no GPU.
#include "../harness.h"
#include "recorder.h"

#include "deepgemm.h"
#include "plan/problem.h"
#include "plan/tuning.h"

#include <unistd.h>

#define LINE "fp8_gemm_nt m=64 n=2112 k=7168 sfa_layout=mn"
#define HEADER "deepgemm-tuning 1\n"

static dg_context *profile_context(const char *profile)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    options.device_profile = profile;
    return dg_context_create(&context, &options) == DG_OK ? context : NULL;
}

static struct dg_problem problem_of(const char *line)
{
    struct dg_problem problem = {.op = DG_OP_NONE};
    if (dg_problem_parse(line, &problem) != DG_OK)
        printf("# %s\n", dg_last_error());
    return problem;
}

// ---- facts ----------------------------------------------------------------------------------------

struct candidates {
    char names[64][96];
    int count, num_not_positive;
};

static void add_candidate(void *user, const char *section, const char *key, const char *value)
{
    struct candidates *candidates = user;
    if (strcmp(section, "candidate") != 0 || candidates->count == 64)
        return;
    snprintf(candidates->names[candidates->count++], 96, "%s", key);
    candidates->num_not_positive += atof(value) <= 0;
}

struct plan_text {
    char why[128], tile[128];
};

static void take_plan(void *user, const char *section, const char *key, const char *value)
{
    struct plan_text *plan = user;
    if (!strcmp(key, "why"))
        snprintf(plan->why, sizeof plan->why, "%s", value);
    if (!strcmp(key, "kernel_key"))
        snprintf(plan->tile, sizeof plan->tile, "%s", value);
}

static struct plan_text plan_of(dg_context *context, const char *line)
{
    struct plan_text plan = {"", ""};
    const struct dg_problem problem = problem_of(line);
    if (dg_explain(context, &problem, take_plan, &plan) != DG_OK)
        printf("# %s\n", dg_last_error());
    return plan;
}

// ---- profiles -------------------------------------------------------------------------------------

static void test_every_profile_plans(void)
{
    static const struct {
        const char *name;
        int num_sms;
    } profiles[] = {{"h100-sxm", 132}, {"h100-pcie", 114}, {"h200", 132}, {"h20", 78}};
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        dg_context *context = profile_context(profiles[i].name);
        CHECK(context, "%s", dg_last_error());
        CHECK(!strcmp(dg_context_backend(context), "sm90"), "%s", dg_context_backend(context));
        CHECK(dg_context_num_sms(context) == profiles[i].num_sms, "%s has %d SMs", profiles[i].name,
              dg_context_num_sms(context));
        CHECK(strstr(plan_of(context, LINE).tile, "sm90_fp8_gemm"), "no kernel");
        CHECK(dg_context_set_num_sms(context, 200) == DG_INVALID_ARGUMENT, "200 SMs");
        dg_context_destroy(context);
    }
}

static void test_what_a_profile_is_not(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    options.device_profile = "h300";
    CHECK(dg_context_create(&context, &options) == DG_INVALID_ARGUMENT && !context, "h300");
    CHECK(error_has(TEXTS("options.device_profile = `h300`", "h100-sxm", "h20")), "%s",
          dg_last_error());
    options.device_profile = "h200";
    options.backend = "cpu";
    CHECK(dg_context_create(&context, &options) == DG_NO_DEVICE && !context, "of the CPU");
    CHECK(error_has(TEXTS("cpu", "no profiles")), "%s", dg_last_error());
}

static void test_a_profile_does_not_run(void)
{
    enum { SIZE = 128 };
    static uint8_t values[SIZE * SIZE];
    static float scales[SIZE], d[SIZE * SIZE];
    dg_context *context = profile_context("h100-sxm");
    CHECK(context, "%s", dg_last_error());
    const struct dg_scaled a = {dg_matrix(values, DG_E4M3, SIZE, SIZE),
                                dg_matrix(scales, DG_F32, SIZE, 1), 1, 128};
    const struct dg_scaled b = {dg_matrix(values, DG_E4M3, SIZE, SIZE),
                                dg_matrix(scales, DG_F32, 1, 1), 128, 128};
    const struct dg_tensor out = dg_matrix(d, DG_F32, SIZE, SIZE);
    CHECK(dg_fp8_gemm_nt(context, &a, &b, &out, NULL, NULL, NULL) == DG_NO_DEVICE, "it ran");
    CHECK(error_has(TEXTS("dg_fp8_gemm_nt", "NVIDIA H100 80GB HBM3", "does not run")), "%s",
          dg_last_error());
    size_t bytes;
    const struct dg_problem packed = problem_of("fp8_gemm_nn m=100 n=200 k=300");
    CHECK(dg_workspace_bytes(context, &packed, &bytes) == DG_OK && bytes > 0, "%s",
          dg_last_error());
    dg_context_destroy(context);
}

// ---- tables ---------------------------------------------------------------------------------------

// Every candidate can be asked for by its name, and is what runs then.
static void test_a_table_chooses_among_the_candidates(void)
{
    struct candidates candidates = {.count = 0};
    const struct dg_problem problem = problem_of(LINE);
    dg_context *context = profile_context("h100-sxm");
    CHECK(context, "%s", dg_last_error());
    const struct plan_text model = plan_of(context, LINE);
    CHECK(dg_candidates(context, &problem, add_candidate, &candidates) == DG_OK, "%s",
          dg_last_error());
    CHECK(candidates.count > 5 && candidates.num_not_positive == 0, "%d candidates",
          candidates.count);
    int num_model = 0;
    for (int i = 0; i < candidates.count; i++) {
        char text[512];
        for (int j = 0; j < i; j++)
            CHECK(strcmp(candidates.names[i], candidates.names[j]) != 0, "two are called `%s`",
                  candidates.names[i]);
        snprintf(text, sizeof text,
                 HEADER "NVIDIA H100 80GB HBM3, 132 SMs | " LINE " | %s | 9.9 us\n",
                 candidates.names[i]);
        CHECK(dg_context_set_tuning(context, text) == DG_OK, "%s", dg_last_error());
        const struct plan_text plan = plan_of(context, LINE);
        CHECK(strstr(plan.tile, candidates.names[i]) && strstr(plan.why, "tuning"),
              "`%s` was asked for, `%s` runs: %s", candidates.names[i], plan.tile, plan.why);
        num_model += !strcmp(plan.tile, model.tile);
    }
    CHECK(num_model == 1, "the model's choice is %d of the candidates", num_model);
    CHECK(dg_context_set_tuning(context, NULL) == DG_OK, "%s", dg_last_error());
    CHECK(!strcmp(plan_of(context, LINE).tile, model.tile), "the table is still in force");
    dg_context_destroy(context);
}

static void test_a_table_is_for_its_device_and_problems(void)
{
    static const char table[] = HEADER
        "# comment\n\n"
        "NVIDIA H100 80GB HBM3, 132 SMs | fp8_gemm_nt m=3..80 n=2112 k=7168 sfa_layout=mn | "
        "128x64 stages=8 groups=2 cluster=1x1\r\n"
        "NVIDIA H200, 132 SMs | fp8_m_grouped_masked groups=8 max_m=512 n=4096 k=7168 rows=zipf "
        "expected_m=64 | 256x112 stages=4 groups=2 cluster=1x1\n"
        "NVIDIA H200, 132 SMs | fp8_gemm_nt m=100 n=2112 k=7168 | 64x64 stages=12 groups=1 "
        "cluster=1x1 # comment";
    static const struct {
        const char *profile, *line;
        int num_sms, is_tuned;
    } cases[] = {
        {"h100-sxm", "fp8_gemm_nt m=3 n=2112 k=7168 sfa_layout=mn", 0, 1},
        {"h100-sxm", "fp8_gemm_nt m=80 n=2112 k=7168 sfa_layout=mn", 0, 1},
        {"h100-sxm", "fp8_gemm_nt m=80 n=2112 k=7168 sfa_layout=mn", 131, 0},
        {"h100-sxm", "fp8_gemm_nt m=2 n=2112 k=7168 sfa_layout=mn", 0, 0},
        {"h100-sxm", "fp8_gemm_nt m=81 n=2112 k=7168 sfa_layout=mn", 0, 0},
        {"h100-sxm", "fp8_gemm_nt m=64 n=2112 k=7168", 0, 0},
        {"h100-sxm", "fp8_gemm_nt m=64 n=2112 k=7168 sfa_layout=mn out=fp32", 0, 0},
        {"h100-sxm", "fp8_gemm_nt m=100 n=2112 k=7168", 0, 0},
        {"h200", "fp8_gemm_nt m=100 n=2112 k=7168", 0, 1},
        {"h200", "fp8_gemm_nt m=80 n=2112 k=7168 sfa_layout=mn", 0, 0},
        // How sizes are spread is nothing that a call says.
        {"h200", "fp8_m_grouped_masked groups=8 max_m=512 n=4096 k=7168 expected_m=64", 0, 1},
        {"h200", "fp8_m_grouped_masked groups=8 max_m=512 n=4096 k=7168 expected_m=65", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dg_context *context = profile_context(cases[i].profile);
        CHECK(context && dg_context_set_tuning(context, table) == DG_OK, "%s", dg_last_error());
        CHECK(dg_context_set_num_sms(context, cases[i].num_sms) == DG_OK, "%s", dg_last_error());
        const struct plan_text plan = plan_of(context, cases[i].line);
        CHECK((strstr(plan.why, "tuning") != NULL) == cases[i].is_tuned, "%s on %s: %s",
              cases[i].line, cases[i].profile, plan.why);
        dg_context_destroy(context);
    }
}

static void test_the_later_of_two_lines_counts(void)
{
    dg_context *context = profile_context("h20");
    CHECK(context && dg_context_set_tuning(context, HEADER
                                           "NVIDIA H20, 78 SMs | " LINE
                                           " | 128x64 stages=8 groups=2 cluster=1x1\n"
                                           "NVIDIA H20, 78 SMs | " LINE
                                           " | 64x64 stages=12 groups=1 cluster=1x1\n") == DG_OK,
          "%s", dg_last_error());
    CHECK(strstr(plan_of(context, LINE).tile, " 64x64 "), "%s", plan_of(context, LINE).tile);
    dg_context_destroy(context);
}

static void test_a_candidate_that_does_not_exist(void)
{
    dg_context *context = profile_context("h20");
    CHECK(context, "%s", dg_last_error());
    const struct plan_text model = plan_of(context, LINE);
    CHECK(dg_context_set_tuning(context, HEADER "NVIDIA H20, 78 SMs | " LINE " | 1024x1024\n") ==
              DG_OK,
          "%s", dg_last_error());
    const struct plan_text plan = plan_of(context, LINE);
    CHECK(!strcmp(plan.tile, model.tile) && strstr(plan.why, "`1024x1024` is no candidate"),
          "%s: %s", plan.tile, plan.why);
    dg_context_destroy(context);
}

// ---- bad tables -----------------------------------------------------------------------------------

#define GOOD "NVIDIA H20, 78 SMs | " LINE " | 64x64 stages=12 groups=1 cluster=1x1\n"

static void test_bad_tables_name_the_line(void)
{
    static const struct {
        const char *text, *part, *more;
    } cases[] = {
        {"", "text:1: is empty", "deepgemm-tuning 1"},
        {"\n\n# nothing\n", "is empty", "deepgemm-tuning 1"},
        {"problem,us\n", "text:1: `problem,us`", "begins with `deepgemm-tuning 1`"},
        {"deepgemm-tuning 2\n", "text:1: `deepgemm-tuning 2`", "begins with"},
        {GOOD, "text:1", "begins with"},
        {HEADER GOOD "H20\n", "text:3: must be `DEVICE, N SMs | PROBLEM | CANDIDATE`", ""},
        {HEADER "H20 | " LINE "\n", "text:2: must be `DEVICE", ""},
        {HEADER "H20 | " LINE " | \n", "text:2: must be `DEVICE", ""},
        {HEADER " | " LINE " | 64x64\n", "text:2: must be `DEVICE", ""},
        {HEADER GOOD "\nH20 | fp8_gemm_nt m=1 n=2 | 64x64\n", "text:4: ", "k is missing"},
        {HEADER "H20 | fp8_gemm_nt m=9..8 n=2 k=1 | x\n", "text:2: m = 9..8", "less"},
        {HEADER "H20 | fp8_gemm_nt m=..8 n=2 k=1 | x\n", "text:2: `fp8_gemm_nt m=..8", "FIRST"},
        {HEADER "H20 | fp8_gemm_nt m=0..8 n=2 k=1 | x\n", "text:2: ", "m=FIRST..LAST"},
        {HEADER "H20 | fp8_gemm_nt m=1..x n=2 k=1 | x\n", "text:2: ", "m"},
        {HEADER "H20 | fp8_gemm_nt m=5 n=2..3 k=1 | x\n", "text:2: ", "m=FIRST..LAST"},
    };
    dg_context *context = profile_context("h20");
    CHECK(context && dg_context_set_tuning(context, HEADER GOOD) == DG_OK, "%s", dg_last_error());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(dg_context_set_tuning(context, cases[i].text) == DG_INVALID_ARGUMENT, "case %zu", i);
        CHECK(error_has(TEXTS(cases[i].part, cases[i].more)), "case %zu: %s", i, dg_last_error());
        CHECK(strstr(plan_of(context, LINE).why, "tuning table"), "the table before is gone");
    }
    CHECK(dg_context_set_tuning(NULL, NULL) == DG_INVALID_ARGUMENT, "NULL");
    dg_context_destroy(context);
}

// Cuts and flipped bytes of a good table never do worse than an error.
static void test_damaged_tables(void)
{
    static const char good[] =
        HEADER GOOD "NVIDIA H20, 78 SMs | fp8_gemm_nt m=1..7 n=8 k=9 | x | y\n";
    char text[sizeof good];
    dg_context *context = profile_context("h20");
    CHECK(context, "%s", dg_last_error());
    for (size_t i = 0; i < 4 * sizeof good; i++) {
        strcpy(text, good);
        if (i < sizeof good)
            text[i] = 0;
        else
            text[i % (sizeof good - 1)] ^= (char)(1 << i / sizeof good);
        const dg_status status = dg_context_set_tuning(context, text);
        CHECK(status == DG_OK || status == DG_INVALID_ARGUMENT, "%s", dg_last_error());
    }
    dg_context_destroy(context);
}

// ---- files ----------------------------------------------------------------------------------------

static char warning[512];

static void take_warning(void *user, dg_log_level level, const char *text)
{
    snprintf(warning, sizeof warning, "%s", text);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file) {
        fputs(text, file);
        fclose(file);
    }
}

static void test_files(void)
{
    char path[] = "/tmp/test_tuning_XXXXXX";
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    const int file = mkstemp(path);
    CHECK(file >= 0, "no temporary file");
    close(file);
    options.device_profile = "h20";
    options.tuning_file = path;
    write_file(path, HEADER GOOD);
    CHECK(dg_context_create(&context, &options) == DG_OK, "%s", dg_last_error());
    CHECK(strstr(plan_of(context, LINE).why, "tuning table"), "%s", plan_of(context, LINE).why);
    dg_context_destroy(context);
    write_file(path, HEADER "nonsense\n");
    CHECK(dg_context_create(&context, &options) == DG_INVALID_ARGUMENT && !context, "nonsense");
    CHECK(error_has(TEXTS("options.tuning_file", path, ":2:")), "%s", dg_last_error());
    unlink(path);
    CHECK(dg_context_create(&context, &options) == DG_IO_ERROR && !context, "no file");
    CHECK(error_has(TEXTS("options.tuning_file", path)), "%s", dg_last_error());
}

// main() set it before anything read the environment.
static void test_a_bad_file_of_the_environment_is_left_aside(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    options.device_profile = "h20";
    options.log = take_warning;
    CHECK(dg_context_create(&context, &options) == DG_OK, "%s", dg_last_error());
    CHECK(strstr(warning, "DG_TUNING_FILE") && strstr(warning, "/nowhere/tuned"), "%s", warning);
    CHECK(strstr(plan_of(context, LINE).why, "least predicted"), "%s", plan_of(context, LINE).why);
    dg_context_destroy(context);
}

int main(void)
{
    setenv("DG_TUNING_FILE", "/nowhere/tuned", 1);
    RUN(test_every_profile_plans);
    RUN(test_what_a_profile_is_not);
    RUN(test_a_profile_does_not_run);
    RUN(test_a_table_chooses_among_the_candidates);
    RUN(test_a_table_is_for_its_device_and_problems);
    RUN(test_the_later_of_two_lines_counts);
    RUN(test_a_candidate_that_does_not_exist);
    RUN(test_bad_tables_name_the_line);
    RUN(test_damaged_tables);
    RUN(test_files);
    RUN(test_a_bad_file_of_the_environment_is_left_aside);
    return harness_end();
}
