// SPDX-License-Identifier: MIT
// test_error.c - the base layer: error texts, names, growing text, sizes that overflow, the
// environment, and where messages go.
#include "../harness.h"
#include "base/env.h"
#include "base/error.h"
#include "base/log.h"
#include "base/overflow.h"
#include "base/strbuf.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static void test_no_failure_is_no_text(void)
{
    CHECK(!strcmp(dg_last_error(), ""), "`%s`", dg_last_error());
}

static void test_text_of_a_failure(void)
{
    CHECK(dg_fail(DG_IO_ERROR, "%s = %d", "x", 3) == DG_IO_ERROR, "status");
    CHECK(!strcmp(dg_last_error(), "x = 3"), "`%s`", dg_last_error());
    CHECK(dg_fail_context(DG_IO_ERROR, "while %s", "reading") == DG_IO_ERROR, "status");
    CHECK(!strcmp(dg_last_error(), "while reading: x = 3"), "`%s`", dg_last_error());
    dg_fail(DG_INTERNAL, "again: %s", dg_last_error()); // the text may be its own argument
    CHECK(!strcmp(dg_last_error(), "again: while reading: x = 3"), "`%s`", dg_last_error());
}

static void test_long_texts_are_cut(void)
{
    char *text = malloc(100000);
    CHECK(text, "no memory");
    memset(text, 'x', 99999);
    text[99999] = 0;
    dg_fail(DG_INTERNAL, "%s", text);
    dg_fail_context(DG_INTERNAL, "%s", text);
    free(text);
    CHECK(strlen(dg_last_error()) > 1000 && strlen(dg_last_error()) < 10000, "%zu",
          strlen(dg_last_error()));
}

static void test_a_kept_text_survives_trials(void)
{
    dg_fail(DG_INTERNAL, "the real one");
    dg_error_keep(true);
    CHECK(dg_fail(DG_IO_ERROR, "a trial") == DG_IO_ERROR, "status");
    dg_fail_context(DG_IO_ERROR, "a trial");
    dg_error_keep(false);
    CHECK(!strcmp(dg_last_error(), "the real one"), "`%s`", dg_last_error());
}

static void *fail_elsewhere(void *user)
{
    dg_fail(DG_INTERNAL, "of another thread");
    return NULL;
}

static void test_texts_belong_to_their_thread(void)
{
    pthread_t thread;
    dg_fail(DG_INTERNAL, "of this thread");
    CHECK(!pthread_create(&thread, NULL, fail_elsewhere, NULL), "no thread");
    pthread_join(thread, NULL);
    CHECK(!strcmp(dg_last_error(), "of this thread"), "`%s`", dg_last_error());
}

static void test_names_and_sizes(void)
{
    static const struct {
        dg_type type;
        const char *name;
        size_t bytes;
    } types[] = {
        {DG_E4M3, "e4m3", 1},        {DG_BF16, "bf16", 2},         {DG_F32, "f32", 4},
        {DG_F64, "f64", 8},          {DG_UE8M0X4, "ue8m0x4", 4},   {DG_F16, "f16", 2},
        {DG_I32, "i32", 4},          {DG_TYPE_NONE, "unknown", 0}, {(dg_type)99, "unknown", 0},
        {(dg_type)-1, "unknown", 0},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        CHECK(!strcmp(dg_type_name(types[i].type), types[i].name), "%s", types[i].name);
        CHECK(dg_type_bytes(types[i].type) == types[i].bytes, "%s", types[i].name);
    }
    CHECK(!strcmp(dg_status_name(DG_OK), "DG_OK"), "DG_OK");
    CHECK(!strcmp(dg_status_name(DG_INTERNAL), "DG_INTERNAL"), "DG_INTERNAL");
    CHECK(!strcmp(dg_status_name((dg_status)9), "unknown status"), "9");
    CHECK(!strcmp(dg_status_name((dg_status)-1), "unknown status"), "-1");
}

static void test_sizes_that_overflow(void)
{
    int64_t x;
    CHECK(dg_multiply_fits(INT64_MAX, 1, &x) && x == INT64_MAX, "fits");
    CHECK(!dg_multiply_fits((int64_t)1 << 32, (int64_t)1 << 31, &x), "2^63");
    CHECK(!dg_add_fits(INT64_MAX, 1, &x), "2^63");
    CHECK(dg_extent_fits(3, 4, 10, 1, 4, &x) && x == (2 * 10 + 3 + 1) * 4, "%lld", (long long)x);
    CHECK(dg_extent_fits(0, 4, INT64_MAX, INT64_MAX, 4, &x) && x == 0, "no rows, no bytes");
    CHECK(dg_extent_fits(1, 1, INT64_MAX, INT64_MAX, 8, &x) && x == 8, "one element");
    CHECK(!dg_extent_fits(3, 4, INT64_MAX / 2, 1, 1, &x), "2 * (2^62 - 1) + 4");
    CHECK(!dg_extent_fits(2, 1, INT64_MAX / 2, 1, 4, &x), "elements fit, bytes do not");
    CHECK(dg_ceil_div(0, 128) == 0 && dg_ceil_div(1, 128) == 1 && dg_ceil_div(128, 128) == 1,
          "small");
    CHECK(dg_ceil_div(INT64_MAX, 128) == INT64_MAX / 128 + 1, "large");
}

static void test_growing_text(void)
{
    struct dg_strbuf buffer = {0};
    CHECK(!strcmp(dg_strbuf_text(&buffer), ""), "empty");
    for (int i = 0; i < 1000; i++)
        dg_strbuf_add(&buffer, "%d,", i);
    CHECK(buffer.length == 3890 && !buffer.failed, "%zu", buffer.length);
    CHECK(!strncmp(dg_strbuf_text(&buffer), "0,1,2,", 6), "%.10s", dg_strbuf_text(&buffer));
    dg_strbuf_add_bytes(&buffer, "a\0b", 3);
    CHECK(buffer.length == 3893 && buffer.data[3892] == 'b' && !buffer.data[3893], "bytes");
    dg_strbuf_free(&buffer);
    CHECK(!buffer.data && !buffer.length, "freed");
}

// --- environment (set in main() before its first use) ---

static void test_environment_is_read_once(void)
{
    CHECK(!strcmp(dg_env_text(DG_ENV_TUNING_FILE), "first"), "%s", dg_env_text(DG_ENV_TUNING_FILE));
    setenv("DG_TUNING_FILE", "second", 1);
    CHECK(!strcmp(dg_env_text(DG_ENV_TUNING_FILE), "first"), "a later change has no effect");
    CHECK(dg_env_text(DG_ENV_KERNEL_DIR) == NULL, "an empty value counts as unset");
    CHECK(dg_env_text(DG_ENV_CPU_ISA) == NULL, "unset");
}

static void test_environment_numbers(void)
{
    CHECK(dg_env_number(DG_ENV_NUM_THREADS, 7) == 12, "12");
    CHECK(dg_env_number(DG_ENV_JIT_USE_NVRTC, 7) == 7, "`1x` is no number");
    CHECK(dg_env_number(DG_ENV_JIT_DEBUG, 7) == 7, "out of range");
    CHECK(dg_env_number(DG_ENV_CPU_ISA, 7) == 7, "unset");
}

static void test_every_variable_is_described(void)
{
    for (int i = 0; i < DG_ENV_COUNT; i++) {
        const struct dg_env_variable *variable = dg_env_variable((enum dg_env)i);
        CHECK(variable->name && !strncmp(variable->name, "DG_", 3), "variable %d", i);
        CHECK(variable->meaning && *variable->meaning, "%s", variable->name);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(variable->name, dg_env_variable((enum dg_env)j)->name), "%s twice",
                  variable->name);
    }
}

// --- messages ---

static int num_lines;
static char lines[8][2048];
static dg_log_level levels[8];

static void take_line(void *user, dg_log_level level, const char *text)
{
    if (user == lines && num_lines < 8) {
        levels[num_lines] = level;
        snprintf(lines[num_lines++], sizeof lines[0], "%s", text);
    }
}

static void test_messages_reach_the_callback(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.log = take_line, options.log_user = lines;
    struct dg_log log = dg_log_open(&options);
    num_lines = 0;
    dg_log_write(&log, DG_LOG_WARNING, "one %d", 1);
    dg_log_write(&log, DG_LOG_INFO, "not this one");
    CHECK(num_lines == 1 && !strcmp(lines[0], "one 1") && levels[0] == DG_LOG_WARNING, "%d: %s",
          num_lines, lines[0]);
    options.log_level = DG_LOG_DEBUG;
    log = dg_log_open(&options);
    dg_log_write(&log, DG_LOG_DEBUG, "two");
    CHECK(num_lines == 2 && levels[1] == DG_LOG_DEBUG, "%d", num_lines);
    dg_log_write(&log, DG_LOG_ERROR, "a\n\nb\n");
    CHECK(num_lines == 4 && !strcmp(lines[2], "a") && !strcmp(lines[3], "b"), "%d lines",
          num_lines);
    char text[1800];
    memset(text, 'y', sizeof text);
    text[sizeof text - 1] = 0;
    dg_log_write(&log, DG_LOG_ERROR, "%s!", text);
    CHECK(num_lines == 5 && strlen(lines[4]) == sizeof text, "%zu characters", strlen(lines[4]));
    dg_log_write(NULL, DG_LOG_ERROR, "nowhere");
}

static void test_messages_go_to_standard_error_when_asked(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    char text[256] = "";
    FILE *file = tmpfile();
    CHECK(file, "no temporary file");
    fflush(stderr);
    int saved = dup(2);
    dup2(fileno(file), 2);
    struct dg_log log = dg_log_open(&options); // DG_LOG=info
    dg_log_write(&log, DG_LOG_INFO, "hello %d", 5);
    dg_log_write(&log, DG_LOG_DEBUG, "too much");
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    rewind(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    CHECK(!strcmp(text, "deepgemm info: hello 5\n"), "%zu: `%s`", length, text);
}

int main(void)
{
    setenv("DG_TUNING_FILE", "first", 1);
    setenv("DG_KERNEL_DIR", "", 1);
    unsetenv("DG_CPU_ISA");
    setenv("DG_NUM_THREADS", "12", 1);
    setenv("DG_JIT_USE_NVRTC", "1x", 1);
    setenv("DG_JIT_DEBUG", "99999999999999999999999", 1);
    setenv("DG_LOG", "info", 1);
    RUN(test_no_failure_is_no_text);
    RUN(test_text_of_a_failure);
    RUN(test_long_texts_are_cut);
    RUN(test_a_kept_text_survives_trials);
    RUN(test_texts_belong_to_their_thread);
    RUN(test_names_and_sizes);
    RUN(test_sizes_that_overflow);
    RUN(test_growing_text);
    RUN(test_environment_is_read_once);
    RUN(test_environment_numbers);
    RUN(test_every_variable_is_described);
    RUN(test_messages_reach_the_callback);
    RUN(test_messages_go_to_standard_error_when_asked);
    return harness_end();
}
