// SPDX-License-Identifier: MIT
// test_jit_cache.c - the path from a request to a cubin and the disk cache under it, with a compiler of our
// own that counts its runs in a file, so that several processes can be watched.  Needs no GPU, no NVRTC.
#include "../harness.h"

#include "base/file.h"
#include "base/sha256.h"
#include "jit/compile.h"
#include "jit/disk_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// ---- a compiler that counts -------------------------------------------------------------------------

// What the library puts in front of a source.
#define HEAD "#define DG_ENTRY kernel_under_test\n#line 1 \"kernel_under_test.cu\"\n"

static char root[256], counter[400]; // new for every test
static int compile_pause_ms;
static int dies_while_compiling;
static int num_warnings;

static void count_warning(void *user, dg_log_level level, const char *text)
{
    num_warnings += level <= DG_LOG_WARNING;
}

static const struct dg_log test_log = {count_warning, NULL, DG_LOG_DEBUG};

static long count_runs(void)
{
    struct dg_strbuf runs = {0};
    const long count = dg_file_read(counter, &runs) == DG_OK ? (long)runs.length : 0;
    dg_strbuf_free(&runs);
    return count;
}

static void fake_flags(const struct dg_jit_unit *unit, struct dg_strbuf *lines)
{
    dg_strbuf_add(lines, "--arch=%d\n%s", (int)unit->arch,
                  unit->options->lineinfo ? "--lines\n" : "");
}

// The "cubin" is a function of the text: 64 digits, 500 times.
static void fake_cubin(const char *text, struct dg_strbuf *cubin)
{
    struct dg_sha256 hash;
    char hex[DG_SHA256_HEX];
    dg_sha256_begin(&hash);
    dg_sha256_add(&hash, text, strlen(text));
    dg_sha256_end_hex(&hash, hex);
    for (int i = 0; i < 500; i++)
        dg_strbuf_add(cubin, "%s", hex);
}

static dg_status fake_compile(const struct dg_jit_compiler *compiler,
                              const struct dg_jit_unit *unit, struct dg_jit_output *output)
{
    const int file = open(counter, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file < 0 || write(file, "x", 1) != 1 || close(file))
        return dg_fail(DG_INTERNAL, "the counter cannot be written");
    if (dies_while_compiling)
        kill(getpid(), SIGKILL);
    nanosleep(&(struct timespec){.tv_nsec = compile_pause_ms * 1000000L}, NULL);
    dg_strbuf_add(&output->log,
                  "ptxas info    : Used 40 registers\n"
                  "    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n");
    if (strstr(unit->text, "#error")) {
        dg_strbuf_add(&output->log, "k.cu(1): error: #error met\n");
        return dg_fail(DG_COMPILE_FAILED, "one error");
    }
    fake_cubin(unit->text, &output->cubin);
    return DG_OK;
}

static const struct dg_jit_compiler fake_compiler = {.id = "fake 1.0",
                                                     .where = "/nowhere",
                                                     .major = 13,
                                                     .flags = fake_flags,
                                                     .compile = fake_compile};

static struct dg_jit_options fresh_options(void)
{
    static int number;
    const char *temporary = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.200s/dg-test-cache-%ld-%d", temporary ? temporary : "/tmp",
             (long)getpid(), number++);
    snprintf(counter, sizeof counter, "%s/runs", root);
    compile_pause_ms = dies_while_compiling = num_warnings = 0;
    dg_folder_make(root);
    return (struct dg_jit_options){.cache_dir = root, .lock_timeout_ms = 20000};
}

static void remove_tree(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *item; folder && (item = readdir(folder));) {
        char below[1024];
        if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, ".."))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, item->d_name);
        if (item->d_type == DT_DIR)
            remove_tree(below);
        else
            unlink(below);
    }
    if (folder)
        closedir(folder);
    rmdir(path);
}

static dg_status compile(const struct dg_jit_options *options, const char *source,
                         struct dg_jit_binary *binary)
{
    const struct dg_jit_request request = {
        .name = "kernel_under_test", .source = source, .arch = 90};
    return dg_jit_compile_with(options, &fake_compiler, "", &test_log, &request, binary);
}

// 1 when the call succeeds with the right cubin for the source.
static int gives_right_cubin(const struct dg_jit_options *options, const char *source)
{
    struct dg_strbuf text = {0}, wanted = {0};
    struct dg_jit_binary binary;
    if (compile(options, source, &binary) != DG_OK)
        return 0;
    dg_strbuf_add(&text, HEAD "%s\n", source);
    fake_cubin(dg_strbuf_text(&text), &wanted);
    const int is_right =
        binary.cubin_bytes == wanted.length && !memcmp(binary.cubin, wanted.data, wanted.length) &&
        strstr(binary.log, "Used 40 registers") && !strcmp(binary.compiler, "fake 1.0");
    dg_strbuf_free(&text);
    dg_strbuf_free(&wanted);
    dg_jit_binary_free(&binary);
    return is_right;
}

// The folder of the only entry.
static int find_entry(char *path, size_t capacity)
{
    char cache[300];
    int count = 0;
    snprintf(cache, sizeof cache, "%s/cache", root);
    DIR *folder = opendir(cache);
    for (struct dirent *item; folder && (item = readdir(folder));)
        if (item->d_name[0] != '.') {
            snprintf(path, capacity, "%s/%s", cache, item->d_name);
            count++;
        }
    if (folder)
        closedir(folder);
    return count;
}

// ---- hits and keys ----------------------------------------------------------------------------------

static void test_second_call_is_served_by_the_disk(void)
{
    const struct dg_jit_options options = fresh_options();
    struct dg_jit_binary binary;
    CHECK(compile(&options, "int x;", &binary) == DG_OK, "%s", dg_last_error());
    CHECK(binary.seconds > 0 && binary.directory, "first call: %g s", binary.seconds);
    dg_jit_binary_free(&binary);
    CHECK(compile(&options, "int x;", &binary) == DG_OK, "%s", dg_last_error());
    CHECK(binary.seconds <= 0 && binary.directory, "second call: %g s", binary.seconds);
    dg_jit_binary_free(&binary);
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    CHECK(count_runs() == 1, "%ld runs of the compiler", count_runs());
    CHECK(num_warnings == 0, "%d warnings", num_warnings);
    remove_tree(root);
}

static void test_entry_holds_all_that_is_needed_to_build_it_by_hand(void)
{
    const struct dg_jit_options options = fresh_options();
    char folder[1024], path[1100];
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    CHECK(find_entry(folder, sizeof folder) == 1, "not one entry");
    static const struct {
        const char *file, *words;
    } parts[] = {{"kernel.cu", "int x;"},
                 {"options", "--arch=90"},
                 {"log", "Used 40"},
                 {"manifest", "fake 1.0"}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct dg_strbuf text = {0};
        snprintf(path, sizeof path, "%s/%s", folder, parts[i].file);
        CHECK(dg_file_read(path, &text) == DG_OK, "%s", dg_last_error());
        CHECK(strstr(dg_strbuf_text(&text), parts[i].words), "%s lacks `%s`", path, parts[i].words);
        dg_strbuf_free(&text);
    }
    remove_tree(root);
}

static void make_key(struct dg_disk_key *key, const char *name, const char *text, int arch,
                     const struct dg_jit_options *options, const struct dg_jit_compiler *compiler)
{
    const struct dg_jit_unit unit = {name, text, arch, options, &test_log};
    dg_disk_key_make(key, &unit, compiler);
}

static void test_key_depends_on_content_and_on_nothing_else(void)
{
    struct dg_jit_options here = {.cache_dir = "/here", .kernel_dir = "/a"},
                          there = {.cache_dir = "/there",
                                   .kernel_dir = "/b",
                                   .print_command = true,
                                   .refuse_local_memory = true},
                          lines = {.cache_dir = "/here", .lineinfo = true};
    struct dg_jit_compiler moved = fake_compiler, newer = fake_compiler;
    struct dg_disk_key base, other;
    snprintf(moved.where, sizeof moved.where, "/elsewhere");
    snprintf(newer.id, sizeof newer.id, "fake 1.1");
    make_key(&base, "k", "text", 90, &here, &fake_compiler);
    make_key(&other, "k", "text", 90, &there, &moved);
    CHECK(!strcmp(base.source, other.source) && !strcmp(base.build, other.build),
          "the key depends on a path or on a setting that does not matter");
    const struct {
        const char *what, *name, *text;
        int arch;
        const struct dg_jit_options *options;
        const struct dg_jit_compiler *compiler;
    } rows[] = {
        {"name", "l", "text", 90, &here, &fake_compiler},
        {"text", "k", "texT", 90, &here, &fake_compiler},
        {"field borders", "kt", "ext", 90, &here, &fake_compiler},
        {"architecture", "k", "text", 100, &here, &fake_compiler},
        {"flags", "k", "text", 90, &lines, &fake_compiler},
        {"compiler version", "k", "text", 90, &here, &newer},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make_key(&other, rows[i].name, rows[i].text, rows[i].arch, rows[i].options,
                 rows[i].compiler);
        CHECK(strcmp(base.build, other.build) != 0, "the key ignores the %s", rows[i].what);
    }
}

static void test_moved_cache_still_serves(void)
{
    struct dg_jit_options options = fresh_options();
    char moved[300];
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    snprintf(moved, sizeof moved, "%s-moved", root);
    CHECK(!rename(root, moved), "cannot rename");
    snprintf(counter, sizeof counter, "%s/runs", moved);
    options.cache_dir = moved;
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    CHECK(count_runs() == 1, "%ld runs of the compiler", count_runs());
    remove_tree(moved);
}

static void test_cache_serves_without_any_compiler(void)
{
    const struct dg_jit_options options = fresh_options();
    const struct dg_jit_request known = {.name = "kernel_under_test",
                                         .source = "int x;",
                                         .arch = 90},
                                unknown = {
                                    .name = "kernel_under_test", .source = "int y;", .arch = 90};
    struct dg_jit_binary binary;
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    CHECK(dg_jit_compile_with(&options, NULL, "everywhere", &test_log, &known, &binary) == DG_OK,
          "%s", dg_last_error());
    CHECK(!strcmp(binary.compiler, "fake 1.0"), "%s", binary.compiler);
    dg_jit_binary_free(&binary);
    CHECK(dg_jit_compile_with(&options, NULL, "everywhere", &test_log, &unknown, &binary) ==
              DG_COMPILE_FAILED,
          "an unknown kernel without a compiler");
    CHECK(strstr(dg_last_error(), "no compiler: everywhere") && strstr(dg_last_error(), root), "%s",
          dg_last_error());
    CHECK(!binary.cubin && !binary.log, "a failing call left results");
    remove_tree(root);
}

// ---- broken entries ---------------------------------------------------------------------------------

static void cut(const char *folder, const char *name, off_t length)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0)
        unlink(path);
    else if (truncate(path, length))
        perror(path);
}

static void flip(const char *folder, const char *name)
{
    char path[1100], byte;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const int file = open(path, O_RDWR);
    if (file < 0 || pread(file, &byte, 1, 100) != 1 ||
        (byte ^= 1, pwrite(file, &byte, 1, 100) != 1))
        perror(path);
    close(file);
}

static void break_entry(int way, const char *folder)
{
    switch (way) {
    case 0:
        cut(folder, "kernel.cubin", -1);
        break;
    case 1:
        cut(folder, "kernel.cubin", 5000);
        break;
    case 2:
        cut(folder, "kernel.cubin", 0);
        break;
    case 3:
        flip(folder, "kernel.cubin");
        break;
    case 4:
        cut(folder, "manifest", -1);
        break;
    case 5:
        cut(folder, "manifest", 60);
        break;
    case 6:
        flip(folder, "manifest");
        break;
    case 7:
        cut(folder, "log", -1);
        break;
    case 8:
        remove_tree(folder);
        dg_folder_make(folder);
        break;
    default:
        remove_tree(folder);
        dg_file_write(folder, "a file in the way", 17);
    }
}

static void test_broken_entry_is_rebuilt_silently(void)
{
    for (int way = 0; way < 10; way++) {
        const struct dg_jit_options options = fresh_options();
        char folder[1024];
        CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
        CHECK(find_entry(folder, sizeof folder) == 1, "not one entry");
        break_entry(way, folder);
        CHECK(gives_right_cubin(&options, "int x;"), "way %d: %s", way, dg_last_error());
        CHECK(count_runs() == 2, "way %d: %ld runs, the broken entry was used", way, count_runs());
        CHECK(gives_right_cubin(&options, "int x;"), "way %d: %s", way, dg_last_error());
        CHECK(count_runs() == 2, "way %d: %ld runs, it was not repaired", way, count_runs());
        CHECK(find_entry(folder, sizeof folder) == 1, "way %d: not one entry afterwards", way);
        CHECK(num_warnings == 0, "way %d: %d warnings", way, num_warnings);
        remove_tree(root);
    }
}

static void test_unusable_folder_costs_one_warning(void)
{
    struct dg_jit_options options = fresh_options();
    char below_file[400];
    // A file in the path stops root as well, which permissions do not.
    snprintf(below_file, sizeof below_file, "%s/file/cache", root);
    snprintf(counter, sizeof counter, "%s/file", root);
    CHECK(dg_file_write(counter, "", 0) == DG_OK, "%s", dg_last_error());
    options.cache_dir = below_file;
    for (int i = 0; i < 3; i++)
        CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    CHECK(count_runs() == 3, "%ld runs", count_runs());
    CHECK(num_warnings == 1, "%d warnings", num_warnings);
    options.cache_dir = NULL;
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    CHECK(num_warnings == 1, "%d warnings", num_warnings);
    remove_tree(root);
}

// ---- refusals ---------------------------------------------------------------------------------------

static void test_refusal_tells_everything_and_is_not_remembered(void)
{
    const struct dg_jit_options options = fresh_options();
    struct dg_jit_binary binary;
    for (int i = 0; i < 2; i++)
        CHECK(compile(&options, "#error", &binary) == DG_COMPILE_FAILED, "call %d", i);
    CHECK(count_runs() == 2, "%ld runs: the failure was remembered", count_runs());
    const char *text = dg_last_error();
    CHECK(strstr(text, "kernel kernel_under_test") && strstr(text, "fake 1.0 (/nowhere)") &&
              strstr(text, "one error") && strstr(text, "#error met"),
          "%s", text);
    const char *at = strstr(text, "are in ");
    CHECK(at && strstr(at, root), "it does not say where the source is: %s", text);
    char path[1100];
    struct dg_strbuf source = {0};
    snprintf(path, sizeof path, "%.*s/kernel.cu", (int)strcspn(at + 7, ";"), at + 7);
    CHECK(dg_file_read(path, &source) == DG_OK, "%s", dg_last_error());
    CHECK(strstr(dg_strbuf_text(&source), "#error"), "not the source: %s", path);
    dg_strbuf_free(&source);
    remove_tree(root);
}

static void test_local_memory_is_refused_on_request_even_from_disk(void)
{
    struct dg_jit_options options = fresh_options();
    struct dg_jit_binary binary;
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    options.refuse_local_memory = true;
    CHECK(compile(&options, "int x;", &binary) == DG_COMPILE_FAILED,
          "8 bytes of stack were accepted");
    CHECK(strstr(dg_last_error(), "8 bytes of stack"), "%s", dg_last_error());
    CHECK(count_runs() == 1, "%ld runs: the check must not change the key", count_runs());
    remove_tree(root);
}

// ---- many at once -----------------------------------------------------------------------------------

static void *compile_in_thread(void *options)
{
    return gives_right_cubin(options, "int x;") ? options : NULL;
}

static int compile_in_threads(struct dg_jit_options *options, int num_threads)
{
    pthread_t threads[16];
    int num_right = 0;
    for (int i = 0; i < num_threads; i++)
        if (pthread_create(&threads[i], NULL, compile_in_thread, options))
            return 0;
    for (int i = 0; i < num_threads; i++) {
        void *result;
        pthread_join(threads[i], &result);
        num_right += result != NULL;
    }
    return num_right == num_threads;
}

static void test_processes_and_threads_compile_once(void)
{
    struct dg_jit_options options = fresh_options();
    pid_t children[4];
    int num_good = 0;
    compile_pause_ms = 100;
    for (int i = 0; i < 4; i++)
        if (!(children[i] = fork()))
            _exit(compile_in_threads(&options, 8) ? 0 : 1);
    for (int i = 0; i < 4; i++) {
        int status;
        waitpid(children[i], &status, 0);
        num_good += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    CHECK(num_good == 4, "%d of 4 processes got the right cubin in all threads", num_good);
    CHECK(count_runs() == 1, "32 threads of 4 processes compiled %ld times", count_runs());
    remove_tree(root);
}

static void test_different_kernels_do_not_wait_for_one_another(void)
{
    struct dg_jit_options options = fresh_options();
    struct dg_disk_key mine, other;
    make_key(&mine, "k", "a", 90, &options, &fake_compiler);
    make_key(&other, "k", "b", 90, &options, &fake_compiler);
    const int lock = dg_disk_cache_lock(&mine, 1000);
    const int second = dg_disk_cache_lock(&other, 1000);
    const int again = dg_disk_cache_lock(&mine, 50);
    CHECK(lock >= 0 && second >= 0, "locks of two kernels: %d %d", lock, second);
    CHECK(again == -1, "a lock was given twice");
    dg_disk_cache_unlock(lock);
    const int freed = dg_disk_cache_lock(&mine, 1000);
    CHECK(freed >= 0, "the lock was not given back");
    dg_disk_cache_unlock(freed);
    dg_disk_cache_unlock(second);
    dg_disk_cache_unlock(-1);
    remove_tree(root);
}

static void test_stuck_neighbour_delays_but_does_not_block(void)
{
    struct dg_jit_options options = fresh_options();
    struct dg_disk_key key;
    options.lock_timeout_ms = 60;
    make_key(&key, "kernel_under_test", HEAD "int x;\n", 90, &options, &fake_compiler);
    const int lock = dg_disk_cache_lock(&key, 1000);
    CHECK(lock >= 0, "no lock");
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    dg_disk_cache_unlock(lock);
    remove_tree(root);
}

static void test_killed_compiler_leaves_no_lock(void)
{
    struct dg_jit_options options = fresh_options();
    const pid_t child = fork();
    if (!child) {
        dies_while_compiling = 1;
        gives_right_cubin(&options, "int x;");
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status), "the child was not killed");
    CHECK(count_runs() == 1, "%ld runs", count_runs());
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK(end.tv_sec - begin.tv_sec < 10, "it waited for a dead process");
    remove_tree(root);
}

static int count_entries(const char *folder)
{
    int count = 0;
    DIR *listing = opendir(folder);
    for (struct dirent *item; listing && (item = readdir(listing));)
        count += item->d_name[0] != '.';
    if (listing)
        closedir(listing);
    return count;
}

// A process that does nothing but fill the cache is killed at random moments; whatever it leaves, each
// entry that is there is whole.  On a busy machine it gets more time, until there are entries to look at.
static void test_kill_at_any_moment_leaves_whole_entries(void)
{
    struct dg_jit_options options = fresh_options();
    char folder[1024], path[1400];
    unsigned seed = 1;
    snprintf(folder, sizeof folder, "%s/cache", root);
    for (int round = 0; round < 25 || (count_entries(folder) <= 5 && round < 200); round++) {
        const pid_t child = fork();
        if (!child)
            for (int i = 0;; i++) {
                char source[64];
                snprintf(source, sizeof source, "int x%d_%d;", round, i);
                gives_right_cubin(&options, source);
            }
        const long most_ms = 40 * (1 + round / 25);
        nanosleep(&(struct timespec){.tv_nsec = 1000000 * (1 + rand_r(&seed) % most_ms)}, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    DIR *listing = opendir(folder);
    CHECK(listing, "no entry at all");
    for (struct dirent *item; (item = readdir(listing));) {
        static const char *const parts[] = {"kernel.cu", "kernel.cubin", "options", "log",
                                            "manifest"};
        for (int i = 0; item->d_name[0] != '.' && i < 5; i++) {
            snprintf(path, sizeof path, "%s/%s/%s", folder, item->d_name, parts[i]);
            CHECK(!access(path, R_OK), "%s is missing", path);
        }
    }
    closedir(listing);
    const int num_whole = count_entries(folder);
    const long runs = count_runs();
    for (int i = 0; i < 3; i++)
        CHECK(gives_right_cubin(&options, "int x0_0;"), "%s", dg_last_error());
    CHECK(count_runs() <= runs + 1, "an entry is not served");
    CHECK(num_whole > 5, "only %d entries: the test says little", num_whole);
    remove_tree(root);
}

static void test_remains_of_dead_processes_are_swept_after_an_hour(void)
{
    struct dg_jit_options options = fresh_options();
    char old[400], fresh[400], file[420];
    snprintf(old, sizeof old, "%.300s/tmp/1-old", root);
    snprintf(fresh, sizeof fresh, "%.300s/tmp/1-fresh", root);
    snprintf(file, sizeof file, "%s/kernel.cubin", old);
    CHECK(dg_folder_make(old) == DG_OK && dg_folder_make(fresh) == DG_OK, "%s", dg_last_error());
    CHECK(dg_file_write(file, "x", 1) == DG_OK, "%s", dg_last_error());
    const struct timespec then[2] = {{.tv_sec = time(NULL) - 4000}, {.tv_sec = time(NULL) - 4000}};
    CHECK(!utimensat(AT_FDCWD, old, then, 0), "the clock of the folder cannot be set");
    CHECK(gives_right_cubin(&options, "int x;"), "%s", dg_last_error());
    CHECK(access(old, F_OK) && !access(fresh, F_OK), "the wrong one went");
    remove_tree(root);
}

int main(void)
{
    RUN(test_second_call_is_served_by_the_disk);
    RUN(test_entry_holds_all_that_is_needed_to_build_it_by_hand);
    RUN(test_key_depends_on_content_and_on_nothing_else);
    RUN(test_moved_cache_still_serves);
    RUN(test_cache_serves_without_any_compiler);
    RUN(test_broken_entry_is_rebuilt_silently);
    RUN(test_unusable_folder_costs_one_warning);
    RUN(test_refusal_tells_everything_and_is_not_remembered);
    RUN(test_local_memory_is_refused_on_request_even_from_disk);
    RUN(test_processes_and_threads_compile_once);
    RUN(test_different_kernels_do_not_wait_for_one_another);
    RUN(test_stuck_neighbour_delays_but_does_not_block);
    RUN(test_killed_compiler_leaves_no_lock);
    RUN(test_kill_at_any_moment_leaves_whole_entries);
    RUN(test_remains_of_dead_processes_are_swept_after_an_hour);
    return harness_end();
}
