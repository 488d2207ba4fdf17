// SPDX-License-Identifier: MIT
// plan.c - from a problem to a plan.  What every executor does alike is decided here; the rest is
// the backend's choice.  Pure: no clock, no files, no device.
#include "plan/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const kernel_names[] = {
    [DG_KERNEL_NONE] = "none",           [DG_KERNEL_FILL] = "fill",
    [DG_KERNEL_ORACLE] = "oracle",       [DG_KERNEL_CPU_GEMM] = "cpu_gemm",
    [DG_KERNEL_SM90_GEMM] = "sm90_gemm", [DG_KERNEL_SM90_GROUPED] = "sm90_grouped",
};

const char *dg_plan_kernel_name(enum dg_plan_kernel kernel)
{
    unsigned index = (unsigned)kernel;
    return index < sizeof kernel_names / sizeof *kernel_names ? kernel_names[index] : "unknown";
}

dg_status dg_plan_make(dg_plan_choice choose, const struct dg_problem *problem,
                       const struct dg_device *device, struct dg_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    if (problem->m == 0 || problem->n == 0) {
        plan->kernel = DG_KERNEL_NONE;
        snprintf(plan->why, sizeof plan->why, "%s = 0: D has no elements",
                 problem->m == 0 ? "m" : "n");
        return DG_OK;
    }
    if (problem->k == 0) {
        plan->kernel = DG_KERNEL_FILL;
        snprintf(plan->why, sizeof plan->why, "k = 0: D = %s",
                 problem->c_mode == DG_C_NONE ? "zeros" : "C");
        return DG_OK;
    }
    return choose(problem, device, plan);
}

void dg_tell(dg_fact_callback callback, void *user, const char *section, const char *key,
             const char *format, ...)
{
    char value[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    callback(user, section, key, value);
}
