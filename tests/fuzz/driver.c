// SPDX-License-Identifier: MIT
// driver.c - runs a fuzz target where clang's libFuzzer is missing: the files of a corpus, then random
// changes of them, for some seconds.
//
//     target -max_total_time=60 -seed=1 FILE-OR-FOLDER...        (libFuzzer's spelling; the rest of
//                                                                 its options is ignored)
//
// Built with gcc's -fsanitize-coverage=trace-pc it is guided by coverage: every basic block of the
// library calls __sanitizer_cov_trace_pc, and an input that reached a new pair of blocks is kept and
// changed further.  An input that crashes or hangs is left in the file <artifact_prefix>crash.
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef __has_attribute
#define __has_attribute(x) 0
#endif
#if __has_attribute(no_sanitize_coverage)
#define NOT_TRACED __attribute__((no_sanitize_coverage))
#else
#define NOT_TRACED
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUTS = 1 << 14, MAX_BYTES = 1 << 16, MAP_SIZE = 1 << 14, TIMEOUT_SECONDS = 10 };

struct input {
    uint8_t *data;
    size_t size;
};

static struct input inputs[MAX_INPUTS];
static uint32_t num_inputs, num_seeds;
static uint64_t state;

// ---- Coverage

static uint8_t reached_now[MAP_SIZE], reached[MAP_SIZE];
static uintptr_t previous_block;

void __sanitizer_cov_trace_pc(void);

NOT_TRACED void __sanitizer_cov_trace_pc(void)
{
    const uintptr_t block = (uintptr_t)__builtin_return_address(0) * 0x9e3779b97f4a7c15u >> 40;
    uint8_t *count = &reached_now[(block ^ previous_block) % MAP_SIZE];
    *count += *count != UINT8_MAX;
    previous_block = block >> 1;
}

// Adds the last run to what was reached; true when some pair of blocks was new, or ran a new order of
// magnitude of times.
NOT_TRACED static int was_new(void)
{
    int is_new = 0;
    for (size_t i = 0; i < MAP_SIZE; i++) {
        const uint8_t count = reached_now[i];
        const uint8_t bit = count == 0    ? 0
                            : count < 2   ? 1
                            : count < 4   ? 2
                            : count < 16  ? 4
                            : count < 128 ? 8
                                          : 16;
        is_new |= bit & ~reached[i];
        reached[i] |= bit;
    }
    memset(reached_now, 0, sizeof reached_now);
    previous_block = 0;
    return is_new != 0;
}

NOT_TRACED static unsigned count_reached(void)
{
    unsigned count = 0;
    for (size_t i = 0; i < MAP_SIZE; i++)
        count += reached[i] != 0;
    return count;
}

// ---- The corpus

NOT_TRACED static void keep(const uint8_t *data, size_t size)
{
    uint8_t *copy = num_inputs < MAX_INPUTS ? malloc(size + 1) : NULL;
    if (!copy)
        return;
    memcpy(copy, data, size);
    inputs[num_inputs++] = (struct input){copy, size};
}

NOT_TRACED static void add_file(const char *path)
{
    static uint8_t data[MAX_BYTES];
    FILE *file = fopen(path, "rb");
    if (!file)
        return;
    keep(data, fread(data, 1, sizeof data, file));
    fclose(file);
}

NOT_TRACED static void add(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        add_file(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            add_file(name);
    }
    closedir(folder);
}

// ---- Changes

NOT_TRACED static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

NOT_TRACED static size_t insert(uint8_t *data, size_t size, size_t at, const void *bytes,
                                size_t length)
{
    if (length > MAX_BYTES - size)
        length = MAX_BYTES - size;
    memmove(data + at + length, data + at, size - at);
    memcpy(data + at, bytes, length);
    return size + length;
}

NOT_TRACED static size_t erase(uint8_t *data, size_t size, size_t at, size_t length)
{
    memmove(data + at, data + at + length, size - at - length);
    return size - length;
}

// Replaces a run of digits by a number that limits forget.
NOT_TRACED static size_t change_number(uint8_t *data, size_t size, size_t at)
{
    static const char *const numbers[] = {"0",
                                          "1",
                                          "2",
                                          "127",
                                          "128",
                                          "65536",
                                          "2147483648",
                                          "4294967295",
                                          "4294967296",
                                          "4294967297",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "18446744073709551615",
                                          "18446744073709551616",
                                          "-1",
                                          "1e9",
                                          "0.5"};
    while (at < size && (data[at] < '0' || data[at] > '9'))
        at++;
    size_t length = 0;
    while (at + length < size && data[at + length] >= '0' && data[at + length] <= '9')
        length++;
    size = erase(data, size, at, length);
    const char *number = numbers[next() % (sizeof numbers / sizeof *numbers)];
    return insert(data, size, at, number, strlen(number));
}

NOT_TRACED static size_t insert_word(uint8_t *data, size_t size, size_t at)
{
    static const char *const words[] = {
        "{",   "}",     "[",    "]",       "(",     ")",       ",",        ":",        "\"",
        "'",   "\\u",   "d83d", "dc00",    "\\",    "null",    "true",     "True",     "False",
        "-",   "1",     "<f4",  "|V2",     "U8",    "F8_E4M3", "\xc3\xa9", "\xf0\x9f", "\xed\xa0",
        "\n",  " ",     "../",  "m=1 ",    " n=2",  "k=",      "out=",     "[0,0]",    "[],",
        "{},", "\"\":", "(1,)", "\\u0000", "dtype", "shape"};
    const char *word = words[next() % (sizeof words / sizeof *words)];
    return insert(data, size, at, word, strlen(word));
}

NOT_TRACED static size_t splice(uint8_t *data, size_t size, size_t at)
{
    const struct input *other = &inputs[next() % num_inputs];
    if (other->size == 0)
        return size;
    const size_t from = next() % other->size, length = next() % (other->size - from) + 1;
    return insert(data, size, at, other->data + from, length);
}

NOT_TRACED static size_t change(uint8_t *data, size_t size)
{
    const size_t at = next() % (size + 1), left = size - at;
    const size_t run = left ? next() % (left < 32 ? left : 32) + 1 : 0;
    uint8_t byte = (uint8_t)next();
    switch (next() % 9) {
    case 0:
        if (left)
            data[at] ^= (uint8_t)(1u << byte % 8);
        return size;
    case 1:
        if (left)
            data[at] = byte;
        return size;
    case 2:
        return insert(data, size, at, &byte, 1);
    case 3:
        return erase(data, size, at, run);
    case 4:
        return next() % 8 ? size : at; // a cut
    case 5: {
        uint8_t copy[32];
        memcpy(copy, data + at, run);
        return insert(data, size, next() % (size + 1), copy, run);
    }
    case 6:
        return change_number(data, size, at);
    case 7:
        return insert_word(data, size, at);
    default:
        return splice(data, size, at);
    }
}

// ---- Running

static const char *artifact_prefix = "";
static const uint8_t *current;
static size_t current_size;

// Called when a sanitizer is about to end the process, and for abort() and hangs.
NOT_TRACED static void save_current(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%scrash", artifact_prefix);
    FILE *file = current ? fopen(path, "wb") : NULL;
    if (!file)
        return;
    fwrite(current, 1, current_size, file);
    fclose(file);
    fprintf(stderr, "the input is in %s\n", path);
    current = NULL;
}

NOT_TRACED static void on_signal(int number)
{
    fprintf(stderr, number == SIGALRM ? "no end within %d s\n" : "aborted\n", TIMEOUT_SECONDS);
    save_current();
    _exit(1);
}

__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

NOT_TRACED static void watch(void)
{
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(save_current);
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
}

// The input is copied to exact size, so that the sanitizer sees a read beyond it.
NOT_TRACED static int run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        exit(1);
    memcpy(exact, data, size);
    current = data;
    current_size = size;
    alarm(TIMEOUT_SECONDS);
    memset(reached_now, 0, sizeof reached_now);
    previous_block = 0;
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return was_new();
}

NOT_TRACED static void change_and_run(void)
{
    static uint8_t data[MAX_BYTES];
    const struct input *from = &inputs[next() % num_inputs];
    size_t size = from->size;
    memcpy(data, from->data, size);
    for (uint64_t changes = next() % 6 + 1; changes; changes--)
        size = change(data, size);
    if (run(data, size))
        keep(data, size);
}

NOT_TRACED int main(int argc, char **argv)
{
    double seconds = 10;
    unsigned long long seed = 1, runs = 0;
    keep((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-')
            add(argv[i]);
        else if (strncmp(argv[i], "-artifact_prefix=", 17) == 0)
            artifact_prefix = argv[i] + 17;
        else if (sscanf(argv[i], "-max_total_time=%lf", &seconds) != 1)
            sscanf(argv[i], "-seed=%llu", &seed);
    }
    state = (seed + 1) * 0x9e3779b97f4a7c15u;
    watch();
    num_seeds = num_inputs;
    for (uint32_t i = 0; i < num_seeds; i++)
        run(inputs[i].data, inputs[i].size);
    for (const time_t end = time(NULL) + (time_t)seconds; time(NULL) < end; runs++)
        change_and_run();
    fprintf(stderr, "%llu runs, %u seeds, %u inputs kept, %u pairs of blocks reached\n", runs,
            num_seeds, num_inputs - num_seeds, count_reached());
    return 0;
}
