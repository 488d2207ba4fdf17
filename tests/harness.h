// SPDX-License-Identifier: MIT
// harness.h - the test harness: plain programs that print TAP.
//
//     static void test_k_of_zero_gives_zeros(void) { CHECK(d[0] == 0, "d[0] = %g", d[0]); }
//     int main(void) { RUN(test_k_of_zero_gives_zeros); return harness_end(); }
//
// A failed CHECK prints where and why and ends the test function.  Exit status: 0 all passed,
// 1 some failed, 77 everything was skipped.  tools/run_tests.py adds up the lines of all programs.
#ifndef DG_TESTS_HARNESS_H
#define DG_TESTS_HARNESS_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int harness_count, harness_failures, harness_skips, harness_test_failed;
static const char *harness_skip_reason;

__attribute__((format(printf, 3, 4), unused)) static void harness_fail(const char *file, int line,
                                                                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("# %s:%d: ", file, line);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    harness_test_failed = 1;
}

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            harness_fail(__FILE__, __LINE__, "%s", "failed: " #condition);                         \
            harness_fail(__FILE__, __LINE__, __VA_ARGS__);                                         \
            return;                                                                                \
        }                                                                                          \
    } while (0)

// A number of random cases: `count`, or fewer where $DG_TEST_SCALE (0.1: a tenth) says that time is short.
__attribute__((unused)) static int harness_scaled(int count)
{
    const char *scale = getenv("DG_TEST_SCALE");
    double scaled = scale && atof(scale) > 0 ? count * atof(scale) : count;
    return scaled < 1 ? 1 : scaled > count ? count : (int)scaled;
}

// Ends the test function as skipped; the reason is printed.
#define SKIP(reason)                                                                               \
    do {                                                                                           \
        harness_skip_reason = (reason);                                                            \
        return;                                                                                    \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        harness_test_failed = 0;                                                                   \
        harness_skip_reason = NULL;                                                                \
        test();                                                                                    \
        harness_count++;                                                                           \
        if (harness_test_failed)                                                                   \
            harness_failures++, printf("not ok %d - %s\n", harness_count, #test);                  \
        else if (harness_skip_reason)                                                              \
            harness_skips++,                                                                       \
                printf("ok %d - %s # SKIP %s\n", harness_count, #test, harness_skip_reason);       \
        else                                                                                       \
            printf("ok %d - %s\n", harness_count, #test);                                          \
        fflush(stdout);                                                                            \
    } while (0)

__attribute__((unused)) static int harness_end(void)
{
    printf("1..%d\n", harness_count);
    return harness_failures ? 1 : harness_count == harness_skips ? 77 : 0;
}

#endif
