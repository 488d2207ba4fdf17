// SPDX-License-Identifier: MIT
// test_plan.c - what every plan has in common, whichever backend makes it.
#include "../harness.h"
#include "plan/problem.h"
#include "plan/plan.h"

static int num_choices;

static dg_status choose(const struct dg_problem *problem, const struct dg_device *device,
                        struct dg_plan *plan)
{
    static const struct dg_plan zeros;
    num_choices++;
    if (memcmp(plan, &zeros, sizeof zeros))
        return DG_INTERNAL;
    plan->kernel = DG_KERNEL_ORACLE;
    plan->num_ctas = device->num_sms;
    return DG_OK;
}

static dg_status plan_of(const char *line, struct dg_plan *plan)
{
    const struct dg_device device = {.num_sms = 5};
    struct dg_problem problem;
    memset(plan, 0x7f, sizeof *plan);
    dg_status status = dg_problem_parse(line, &problem);
    return status ? status : dg_plan_make(choose, &problem, &device, plan);
}

static void test_no_elements_no_kernel(void)
{
    static const char *const lines[] = {"fp8_gemm_nt m=0 n=3 k=4", "fp8_gemm_nt m=3 n=0 k=4",
                                        "fp8_gemm_nt m=0 n=0 k=0",
                                        "fp8_gemm_tn m=0 n=3 k=0 c=inplace"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct dg_plan plan;
        CHECK(plan_of(lines[i], &plan) == DG_OK, "%s", lines[i]);
        CHECK(plan.kernel == DG_KERNEL_NONE && plan.workspace_bytes == 0, "%s", lines[i]);
        CHECK(strstr(plan.why, "= 0") && num_choices == 0, "%s: %s", lines[i], plan.why);
    }
}

static void test_no_k_fills(void)
{
    struct dg_plan plan;
    CHECK(plan_of("fp8_gemm_nt m=3 n=3 k=0", &plan) == DG_OK, "status");
    CHECK(plan.kernel == DG_KERNEL_FILL && strstr(plan.why, "zeros"), "%s", plan.why);
    CHECK(plan_of("fp8_gemm_nt m=3 n=3 k=0 c=separate", &plan) == DG_OK, "status");
    CHECK(plan.kernel == DG_KERNEL_FILL && strstr(plan.why, "D = C"), "%s", plan.why);
    CHECK(num_choices == 0, "the backend was asked");
}

static void test_work_is_the_backends_choice(void)
{
    struct dg_plan plan;
    CHECK(plan_of("fp8_gemm_nt m=3 n=3 k=1", &plan) == DG_OK, "the plan begins as zeros");
    CHECK(plan.kernel == DG_KERNEL_ORACLE && plan.num_ctas == 5 && num_choices == 1, "choice");
}

static void test_kernels_have_names(void)
{
    for (int kernel = DG_KERNEL_NONE; kernel <= DG_KERNEL_SM90_GEMM; kernel++)
        CHECK(strcmp(dg_plan_kernel_name((enum dg_plan_kernel)kernel), "unknown"), "%d", kernel);
    CHECK(!strcmp(dg_plan_kernel_name((enum dg_plan_kernel) - 1), "unknown"), "-1");
}

int main(void)
{
    RUN(test_no_elements_no_kernel);
    RUN(test_no_k_fills);
    RUN(test_work_is_the_backends_choice);
    RUN(test_kernels_have_names);
    return harness_end();
}
