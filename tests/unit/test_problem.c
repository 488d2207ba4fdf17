// SPDX-License-Identifier: MIT
// test_problem.c - the problem line: reading, refusing, writing, and the round trip of random problems.
#include "../harness.h"
#include "plan/problem.h"

#include <stdlib.h>

static void test_short_line_takes_the_defaults(void)
{
    struct dg_problem p;
    CHECK(dg_problem_parse("fp8_gemm_nt m=64 n=2112 k=7168", &p) == DG_OK, "%s", dg_last_error());
    CHECK(p.op == DG_OP_FP8_GEMM_NT && p.m == 64 && p.n == 2112 && p.k == 7168, "sizes");
    CHECK(p.d_type == DG_BF16 && p.c_mode == DG_C_NONE && p.sf_type == DG_F32, "types");
    CHECK(p.sfb_block_n == 128 && p.sfa_major == DG_K_MAJOR && p.sfb_major == DG_K_MAJOR, "scales");
    CHECK(p.a_major == DG_K_MAJOR && p.b_major == DG_K_MAJOR, "majors");
    CHECK(p.lda == 7168 && p.ldb == 7168 && p.ldd == 2112, "%lld %lld %lld", (long long)p.lda,
          (long long)p.ldb, (long long)p.ldd);
}

static void test_letters_of_the_name_set_the_majors(void)
{
    static const struct {
        const char *line;
        dg_major a, b;
        int64_t lda, ldb;
    } cases[] = {
        {"fp8_gemm_nt m=3 n=5 k=7", DG_K_MAJOR, DG_K_MAJOR, 7, 7},
        {"fp8_gemm_nn m=3 n=5 k=7", DG_K_MAJOR, DG_MN_MAJOR, 7, 5},
        {"fp8_gemm_tn m=3 n=5 k=7", DG_MN_MAJOR, DG_MN_MAJOR, 3, 5},
        {"fp8_gemm_tt m=3 n=5 k=7", DG_MN_MAJOR, DG_K_MAJOR, 3, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dg_problem p;
        CHECK(dg_problem_parse(cases[i].line, &p) == DG_OK, "%s", dg_last_error());
        CHECK(p.a_major == cases[i].a && p.b_major == cases[i].b, "%s", cases[i].line);
        CHECK(p.lda == cases[i].lda && p.ldb == cases[i].ldb, "%s", cases[i].line);
    }
}

static void test_every_key_is_read(void)
{
    struct dg_problem p;
    CHECK(
        dg_problem_parse("\tfp8_gemm_tn  ldd=99 ldb=88 lda=77 b=k a=k sfb_layout=mn sfa_layout=mn "
                         "sf=ue8m0 sfb=1 c=inplace out=fp32 k=70 n=60 m=50\n",
                         &p) == DG_OK,
        "%s", dg_last_error());
    CHECK(p.op == DG_OP_FP8_GEMM_TN && p.m == 50 && p.n == 60 && p.k == 70, "sizes");
    CHECK(p.lda == 77 && p.ldb == 88 && p.ldd == 99, "strides");
    CHECK(p.a_major == DG_K_MAJOR && p.b_major == DG_K_MAJOR, "majors");
    CHECK(p.sf_type == DG_UE8M0X4 && p.sfb_block_n == 1, "scales");
    CHECK(p.c_mode == DG_C_IN_PLACE && p.d_type == DG_F32, "c and d");
    CHECK(p.sfa_major == DG_K_MAJOR, "one word of scales along k has only one layout");
    CHECK(dg_problem_parse("fp8_gemm_nt m=50 n=60 k=700 sfa_layout=mn sfb_layout=mn sfb=1", &p) ==
              DG_OK,
          "%s", dg_last_error());
    CHECK(p.sfa_major == DG_MN_MAJOR && p.sfb_major == DG_MN_MAJOR, "scale layouts");
}

static void test_bad_lines_are_refused_by_name(void)
{
    static const struct {
        const char *line, *texts[3];
    } cases[] = {
        {"", {"operation ``", "fp8_gemm_nt, fp8_gemm_nn, fp8_gemm_tn, fp8_gemm_tt"}},
        {"gemm m=1 n=1 k=1", {"`gemm`", "fp8_gemm_nt"}},
        {"m=1 n=1 k=1 fp8_gemm_nt", {"`m=1`"}},
        {"fp8_gemm_nt m=1 n=1", {"k is missing", "k=<number>"}},
        {"fp8_gemm_nt m=1 k=1", {"n is missing"}},
        {"fp8_gemm_nt n=1 k=1", {"m is missing"}},
        {"fp8_gemm_nt m=1 n=1 k=1 z=3", {"`z=3`", "m n k out c sfb", "ldd"}},
        {"fp8_gemm_nt m=1 n=1 k=1 fast", {"`fast`", "key=value"}},
        {"fp8_gemm_nt m=1 n=1 k=1 =3", {"`=3`", "unknown key"}},
        {"fp8_gemm_nt m=1 n=1 k=1 m=1", {"`m=1`", "m is given twice"}},
        {"fp8_gemm_nt m=1 n=1 k=1 out=bf16 out=fp32", {"`out=fp32`", "twice"}},
        {"fp8_gemm_nt m=-1 n=1 k=1", {"`m=-1`", "whole number from 0 to 9223372036854775807"}},
        {"fp8_gemm_nt m= n=1 k=1", {"`m=`", "whole number"}},
        {"fp8_gemm_nt m=1x n=1 k=1", {"`m=1x`", "whole number"}},
        {"fp8_gemm_nt m=0x10 n=1 k=1", {"`m=0x10`"}},
        {"fp8_gemm_nt m=9223372036854775808 n=1 k=1", {"`m=9223372036854775808`"}},
        {"fp8_gemm_nt m=99999999999999999999999999 n=1 k=1", {"whole number"}},
        {"fp8_gemm_nt m=1 n=1 k=1 out=fp16", {"`out=fp16`", "bf16, fp32"}},
        {"fp8_gemm_nt m=1 n=1 k=1 c=yes", {"`c=yes`", "none, separate, inplace"}},
        {"fp8_gemm_nt m=1 n=1 k=1 sfb=64", {"`sfb=64`", "128, 1"}},
        {"fp8_gemm_nt m=1 n=1 k=1 sf=bf16", {"`sf=bf16`", "fp32, ue8m0"}},
        {"fp8_gemm_nt m=1 n=1 k=1 a=m", {"`a=m`", "k, mn"}},
        {"fp8_gemm_nt m=4294967296 n=1 k=4294967296", {"m * k = 4294967296 * 4294967296"}},
        {"fp8_gemm_nt m=1 n=4294967296 k=4294967296", {"n * k = 4294967296 * 4294967296"}},
        {"fp8_gemm_nt m=4294967296 n=4294967296 k=1", {"m * n = 4294967296 * 4294967296"}},
        {"fp8_gemm_nt m=2 n=2 k=9 lda=8", {"lda = 8", "at least 9"}},
        {"fp8_gemm_nn m=2 n=9 k=2 ldb=8", {"ldb = 8", "at least 9"}},
        {"fp8_gemm_nt m=2 n=9 k=2 ldd=8", {"ldd = 8", "at least 9"}},
        {"fp8_gemm_nt m=9 n=2 k=2 lda=9223372036854775807",
         {"lda = 9223372036854775807", "9 rows"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dg_problem p, before;
        memset(&p, 0x5a, sizeof p);
        before = p;
        CHECK(dg_problem_parse(cases[i].line, &p) == DG_INVALID_ARGUMENT, "%s", cases[i].line);
        for (int t = 0; t < 3 && cases[i].texts[t]; t++)
            CHECK(strstr(dg_last_error(), cases[i].texts[t]), "%s: `%s` not in `%s`", cases[i].line,
                  cases[i].texts[t], dg_last_error());
        CHECK(!memcmp(&p, &before, sizeof p), "%s: the problem was written", cases[i].line);
    }
    struct dg_problem p;
    CHECK(dg_problem_parse(NULL, &p) == DG_INVALID_ARGUMENT, "NULL text");
    CHECK(strstr(dg_last_error(), "text is NULL"), "%s", dg_last_error());
    CHECK(dg_problem_parse("fp8_gemm_nt m=1 n=1 k=1", NULL) == DG_INVALID_ARGUMENT, "NULL problem");
}

static void test_a_long_word_is_cut_in_the_text(void)
{
    char line[20000];
    struct dg_problem p;
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = 0;
    CHECK(dg_problem_parse(line, &p) == DG_INVALID_ARGUMENT, "20 kB of x");
    CHECK(strlen(dg_last_error()) < 300, "%zu characters", strlen(dg_last_error()));
}

static void test_the_written_line_is_the_shortest(void)
{
    static const struct {
        const char *line, *shortest;
    } cases[] = {
        {"fp8_gemm_nt k=3 n=2 m=1 out=bf16 c=none sfb=128 sf=fp32 sfa_layout=k a=k b=k",
         "fp8_gemm_nt m=1 n=2 k=3"},
        {"fp8_gemm_nt m=2 n=2 k=3 lda=3 ldb=3 ldd=2", "fp8_gemm_nt m=2 n=2 k=3"},
        {"fp8_gemm_nt m=1 n=2 k=3 lda=300 ldd=20", "fp8_gemm_nt m=1 n=2 k=3"},
        {"fp8_gemm_nt m=2 n=2 k=3 lda=4 ldd=5", "fp8_gemm_nt m=2 n=2 k=3 lda=4 ldd=5"},
        {"fp8_gemm_nn m=2 n=2 k=3 b=mn a=k", "fp8_gemm_nn m=2 n=2 k=3"},
        {"fp8_gemm_nn m=2 n=2 k=3 b=k", "fp8_gemm_nn m=2 n=2 k=3 b=k"},
        {"fp8_gemm_tn m=1 n=1 k=3", "fp8_gemm_tn m=1 n=1 k=3"},
        {"fp8_gemm_nt m=1 n=2 k=3 a=mn lda=16", "fp8_gemm_nt m=1 n=2 k=3 a=mn lda=16"},
        {"fp8_gemm_nt m=0 n=2 k=3 a=mn b=mn lda=16", "fp8_gemm_nt m=0 n=2 k=3 b=mn"},
        {"fp8_gemm_nt m=4 n=2 k=128 sfa_layout=mn", "fp8_gemm_nt m=4 n=2 k=128"},
        {"fp8_gemm_nt m=4 n=2 k=129 sfa_layout=mn", "fp8_gemm_nt m=4 n=2 k=129 sfa_layout=mn"},
        {"fp8_gemm_tt m=64 n=9 k=9 ldd=16 sf=ue8m0 sfb=1 out=fp32 c=inplace",
         "fp8_gemm_tt m=64 n=9 k=9 out=fp32 c=inplace sfb=1 sf=ue8m0 ldd=16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dg_problem p;
        char line[256];
        CHECK(dg_problem_parse(cases[i].line, &p) == DG_OK, "%s", dg_last_error());
        size_t length = dg_problem_format(&p, line, sizeof line);
        CHECK(!strcmp(line, cases[i].shortest), "`%s`, not `%s`", line, cases[i].shortest);
        CHECK(length == strlen(line), "length %zu of `%s`", length, line);
    }
}

static void test_zeroed_fields_are_written_as_defaults(void)
{
    struct dg_problem p = {.op = DG_OP_FP8_GEMM_NT, .m = 4, .n = 5, .k = 6};
    char line[128];
    dg_problem_format(&p, line, sizeof line);
    CHECK(!strcmp(line, "fp8_gemm_nt m=4 n=5 k=6"), "`%s`", line);
}

static void test_writing_is_cut_to_fit(void)
{
    struct dg_problem p = {.op = DG_OP_FP8_GEMM_NT, .m = 4, .n = 5, .k = 6, .d_type = DG_F32};
    char whole[128];
    size_t length = dg_problem_format(&p, whole, sizeof whole);
    for (size_t capacity = 0; capacity <= length + 1; capacity++) {
        char line[128];
        memset(line, '#', sizeof line);
        CHECK(dg_problem_format(&p, line, capacity) == length, "capacity %zu", capacity);
        CHECK(line[capacity] == '#', "wrote past %zu", capacity);
        if (capacity)
            CHECK(strlen(line) == capacity - 1 && !strncmp(line, whole, capacity - 1), "`%s`",
                  line);
    }
    CHECK(dg_problem_format(&p, NULL, 0) == length, "NULL text");
    CHECK(dg_problem_format(NULL, whole, sizeof whole) == 0 && !*whole, "NULL problem");
}

static void test_a_broken_problem_is_written_out_in_full(void)
{
    struct dg_problem p = {.op = (dg_op)77, .m = -4, .n = 5, .k = 6, .sfb_block_n = 64};
    char line[256];
    dg_problem_format(&p, line, sizeof line);
    CHECK(strstr(line, "unknown_op m=-4 n=5 k=6") && strstr(line, "sfb=64"), "`%s`", line);
}

static void test_writing_leaves_the_last_error_alone(void)
{
    struct dg_problem p;
    char line[256], before[512];
    dg_problem_parse("fp8_gemm_nt m=1 n=1 k=oops", &p);
    snprintf(before, sizeof before, "%s", dg_last_error());
    dg_problem_parse("fp8_gemm_tn m=3 n=4 k=5 lda=9 a=k", &p);
    dg_problem_format(&p, line, sizeof line);
    struct dg_problem broken = {.m = -1};
    dg_problem_format(&broken, line, sizeof line);
    CHECK(!strcmp(dg_last_error(), before), "`%s`", dg_last_error());
}

static uint32_t random_state = 12345;
static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * limit) >> 32);
}

static struct dg_problem random_problem(void)
{
    static const int64_t sizes[] = {0, 1, 2, 3, 127, 128, 129, 512, 513, 7168};
    struct dg_problem p;
    memset(&p, 0, sizeof p);
    p.op = (dg_op)(1 + random_below(4));
    p.m = sizes[random_below(10)], p.n = sizes[random_below(10)], p.k = sizes[random_below(10)];
    p.d_type = random_below(2) ? DG_BF16 : DG_F32;
    p.c_mode = (dg_c_mode)random_below(3);
    p.sf_type = random_below(2) ? DG_F32 : DG_UE8M0X4;
    p.sfb_block_n = random_below(2) ? 128 : 1;
    p.a_major = (dg_major)random_below(2), p.b_major = (dg_major)random_below(2);
    p.sfa_major = (dg_major)random_below(2), p.sfb_major = (dg_major)random_below(2);
    p.lda = (p.a_major ? p.m : p.k) + sizes[random_below(6)];
    p.ldb = (p.b_major ? p.n : p.k) + sizes[random_below(6)];
    p.ldd = p.n + sizes[random_below(6)];
    return p;
}

static void test_random_problems_survive_the_round_trip(void)
{
    for (int i = 0; i < 20000; i++) {
        struct dg_problem p = random_problem(), complete, back, again;
        char line[256], line_again[256];
        CHECK(dg_problem_complete(&p, &complete) == DG_OK, "%s", dg_last_error());
        dg_problem_format(&p, line, sizeof line);
        CHECK(dg_problem_parse(line, &back) == DG_OK, "`%s`: %s", line, dg_last_error());
        CHECK(!memcmp(&back, &complete, sizeof back), "`%s` reads back differently", line);
        CHECK(dg_problem_complete(&back, &again) == DG_OK && !memcmp(&back, &again, sizeof back),
              "`%s`: completing is not idempotent", line);
        dg_problem_format(&back, line_again, sizeof line_again);
        CHECK(!strcmp(line, line_again), "`%s` and `%s`", line, line_again);
        for (char *word = strchr(line, ' '); word; word = strchr(word + 1, ' ')) {
            char without[256]; // no word can be left out
            size_t length = strcspn(word + 1, " ") + 1;
            snprintf(without, sizeof without, "%.*s%s", (int)(word - line), line, word + length);
            if (dg_problem_parse(without, &again) == DG_OK)
                CHECK(memcmp(&again, &complete, sizeof again), "`%s` means `%s`", without, line);
        }
    }
}

// Bytes that look like problems: nothing but a status may come of it, and what is read is complete.
static void test_random_text_is_read_or_refused(void)
{
    static const char *const pieces[] = {
        "fp8_gemm_nt", "fp8_gemm_tn", " ",   " ",       " ",
        "m=",          "n=",          "k=",  "lda=",    "ldd=",
        "a=",          "mn",          "sf=", "ue8m0",   "out=",
        "fp32",        "=",           "1",   "64",      "9223372036854775807",
        "0",           "\n",          "c=",  "inplace", "-",
        "\x80\xff",    "m=1 n=2 k=3 "};
    int accepted = 0;
    for (int i = 0; i < 50000; i++) {
        char line[512] = "";
        struct dg_problem p, again;
        if (random_below(2))
            strcat(line, "fp8_gemm_nt m=1 n=2 k=3 ");
        for (uint32_t count = random_below(8); count--;)
            strcat(line, pieces[random_below(sizeof pieces / sizeof *pieces)]);
        if (dg_problem_parse(line, &p) != DG_OK)
            continue;
        accepted++;
        CHECK(dg_problem_complete(&p, &again) == DG_OK && !memcmp(&p, &again, sizeof p), "`%s`",
              line);
    }
    CHECK(accepted > 1000, "only %d lines were accepted", accepted);
}

static void test_fields_of_the_struct_are_checked(void)
{
    const struct dg_problem dense = {.op = DG_OP_FP8_GEMM_NT, .m = 4, .n = 5, .k = 6};
    const struct dg_problem gradients = {
        .op = DG_OP_FP8_K_GROUPED, .m = 4, .n = 5, .k = 64, .groups = 2};
    struct dg_problem out;
#define REFUSED_OF(good, member, value, text)                                                      \
    do {                                                                                           \
        struct dg_problem bad = good;                                                              \
        bad.member = value;                                                                        \
        CHECK(dg_problem_complete(&bad, &out) == DG_INVALID_ARGUMENT, #member);                    \
        CHECK(strstr(dg_last_error(), text), "%s", dg_last_error());                               \
    } while (0)
#define REFUSED(member, value, text) REFUSED_OF(dense, member, value, text)
    REFUSED(op, DG_OP_NONE, "op = 0");
    REFUSED(op, (dg_op)99, "op = 99");
    REFUSED(m, -1, "m = -1");
    REFUSED(n, -2, "n = -2");
    REFUSED(k, INT64_MIN, "k = -9223372036854775808");
    REFUSED(d_type, DG_E4M3, "d_type = e4m3");
    REFUSED(sf_type, DG_BF16, "sf_type = bf16");
    REFUSED(sfb_block_n, 64, "sfb_block_n = 64");
    REFUSED(c_mode, (dg_c_mode)3, "c_mode = 3");
    REFUSED(a_major, (dg_major)2, "= 2, 0, 0, 0");
    REFUSED(b_major, (dg_major)-1, "= 0, -1, 0, 0");
    REFUSED(lda, -6, "lda = -6");
    REFUSED(ldb, 5, "ldb = 5");
    REFUSED(ldd, 4, "ldd = 4");
#undef REFUSED
    CHECK(dg_problem_complete(&gradients, &out) == DG_OK, "%s", dg_last_error());
    REFUSED_OF(gradients, groups, 0, "groups = 0");
    REFUSED_OF(gradients, n, 0, "n = 0");
    REFUSED_OF(gradients, layout, DG_GROUP_ENDS, "layout = 1");
    REFUSED_OF(gradients, sfb_block_n, 128, "sfb_block_n = 128: must be 1");
    REFUSED_OF(gradients, sf_type, DG_UE8M0X4, "sf_type = ue8m0x4: must be f32");
    REFUSED_OF(gradients, lda, 65, "lda");
#undef REFUSED_OF
}

int main(void)
{
    RUN(test_short_line_takes_the_defaults);
    RUN(test_letters_of_the_name_set_the_majors);
    RUN(test_every_key_is_read);
    RUN(test_bad_lines_are_refused_by_name);
    RUN(test_a_long_word_is_cut_in_the_text);
    RUN(test_the_written_line_is_the_shortest);
    RUN(test_zeroed_fields_are_written_as_defaults);
    RUN(test_writing_is_cut_to_fit);
    RUN(test_a_broken_problem_is_written_out_in_full);
    RUN(test_writing_leaves_the_last_error_alone);
    RUN(test_random_problems_survive_the_round_trip);
    RUN(test_random_text_is_read_or_refused);
    RUN(test_fields_of_the_struct_are_checked);
    return harness_end();
}
