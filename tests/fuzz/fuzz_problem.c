// SPDX-License-Identifier: MIT
// fuzz_problem.c - any text for dg_problem_parse: what it accepts must read back from its own writing as
// the same problem.
#include "deepgemm.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dg_problem problem, again;
    char line[512], *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    memset(&problem, 0, sizeof problem);
    memset(&again, 0, sizeof again);
    if (dg_problem_parse(text, &problem) == DG_OK) {
        size_t length = dg_problem_format(&problem, line, sizeof line);
        if (length >= sizeof line || dg_problem_parse(line, &again) != DG_OK ||
            memcmp(&problem, &again, sizeof problem) != 0) {
            fprintf(stderr, "%s\nreads back as\n%s\n", text, line);
            abort();
        }
    }
    free(text);
    return 0;
}
