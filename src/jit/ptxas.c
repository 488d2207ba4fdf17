// SPDX-License-Identifier: MIT
// ptxas.c - reads ptxas -v.  Its lines, stable for a decade:
//     ptxas info    : Used 168 registers, used 9 barriers, 16 bytes smem
//         0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
//     ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...
#include "jit/ptxas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The number before each mention of `words`; the largest.
static int largest_before(const char *log, const char *words, bool *found)
{
    int largest = 0;
    for (const char *at = log; (at = strstr(at, words)); at += strlen(words)) {
        const char *digit = at;
        while (digit > log && digit[-1] >= '0' && digit[-1] <= '9')
            digit--;
        if (digit == at)
            continue;
        const int value = atoi(digit);
        largest = value > largest ? value : largest;
        *found = true;
    }
    return largest;
}

void dg_ptxas_read(const char *log, struct dg_ptxas_facts *facts)
{
    *facts = (struct dg_ptxas_facts){.found = false};
    facts->num_registers = largest_before(log, " registers", &facts->found);
    facts->stack_bytes = largest_before(log, " bytes stack frame", &facts->found);
    facts->spill_store_bytes = largest_before(log, " bytes spill stores", &facts->found);
    facts->spill_load_bytes = largest_before(log, " bytes spill loads", &facts->found);
    const char *advice = strstr(log, "Potential Performance Loss");
    if (advice)
        snprintf(facts->advice, sizeof facts->advice, "%.*s", (int)strcspn(advice, "\n"), advice);
}
