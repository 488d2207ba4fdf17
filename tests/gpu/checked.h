// SPDX-License-Identifier: MIT
// checked.h - what the tests share that make their data and check it as `deepgemm run --check` does: contexts, a device.
#ifndef DG_TESTS_GPU_CHECKED_H
#define DG_TESTS_GPU_CHECKED_H

#include "../../cli/gpu.h"
#include "../contexts.h"
#include "../harness.h"

static dg_context *context, *cpu, *oracle;
static struct cli_gpu gpu;

// 0, or what main() then ends with: 77 where there is no GPU for it.
static int checked_open(void)
{
    context = open_context("sm90", NULL, 0);
    if (!context) {
        printf("%s\n", dg_last_error());
        return strstr(dg_last_error(), "cannot run here") ? 77 : 1;
    }
    cpu = open_context("cpu", NULL, 0);
    oracle = open_context("oracle", NULL, 0);
    if (!cpu || !oracle || cli_gpu_open(&gpu, -1) != DG_OK)
        return printf("Bail out! %s\n", dg_last_error()), 1;
    return 0;
}

static void checked_close(void)
{
    cli_gpu_close(&gpu);
    dg_context_destroy(context);
    dg_context_destroy(cpu);
    dg_context_destroy(oracle);
}

#endif
