// SPDX-License-Identifier: MIT
// fuzz_tuning.c - any text as a tuning table: it is read or refused, and what was read can be searched.
#include "plan/problem.h"
#include "plan/tuning.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void search(const struct dg_tuning *tuning)
{
    struct dg_problem problem = {.op = DG_OP_FP8_GEMM_NT, .n = 8, .k = 128, .sf_type = DG_F32},
                      complete;
    struct dg_device device = {.name = "H20", .num_sms = 78, .tuning = tuning};
    problem.d_type = DG_BF16;
    problem.sfb_block_n = 128;
    for (problem.m = 1; problem.m < 4; problem.m++)
        if (dg_problem_complete(&problem, &complete) == DG_OK) {
            const char *name = dg_tuning_find(&device, &complete);
            if (name && (!*name || strlen(name) > 95))
                abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dg_tuning *tuning;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    const dg_status status = dg_tuning_parse("text", text, &tuning);
    if (status == DG_OK)
        search(tuning);
    else if (status != DG_INVALID_ARGUMENT || tuning || !strstr(dg_last_error(), "text:")) {
        fprintf(stderr, "%s\n", dg_last_error());
        abort();
    }
    dg_tuning_destroy(tuning);
    free(text);
    return 0;
}
