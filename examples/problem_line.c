// SPDX-License-Identifier: MIT
// problem_line.c - what would run for a problem, and what its workspace and kernel need: the calls
// that a server makes at start-up, so that no request waits for a compiler.
//
//     build/examples/problem_line 'fp8_gemm_nt m=64 n=2112 k=7168'
#include "deepgemm.h"

#include <stdio.h>

static void print_fact(void *user, const char *section, const char *key, const char *value)
{
    (void)user;
    printf("%-12s %-20s %s\n", section, key, value);
}

static dg_status make_ready(dg_context *context, const char *line)
{
    struct dg_problem problem;
    size_t workspace;
    dg_status status = dg_problem_parse(line, &problem);
    if (!status)
        status = dg_explain(context, &problem, print_fact, NULL);
    if (!status)
        status = dg_workspace_bytes(context, &problem, &workspace);
    if (!status)
        status = dg_prepare(context, &problem);
    if (!status)
        printf("ready on %s, workspace of %zu bytes\n", dg_context_backend(context), workspace);
    return status;
}

int main(int argc, char **argv)
{
    dg_context *context;
    dg_status status = dg_context_create(&context, NULL);
    if (!status)
        status = make_ready(context, argc > 1 ? argv[1] : "fp8_gemm_nt m=64 n=2112 k=7168");
    if (status)
        fprintf(stderr, "%s: %s\n", dg_status_name(status), dg_last_error());
    dg_context_destroy(context);
    return status ? 1 : 0;
}
