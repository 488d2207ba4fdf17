// SPDX-License-Identifier: MIT
// sm90_grouped.h - grouped products on a Hopper GPU: their kernels, their plans and their launch.
#ifndef DG_SM90_GROUPED_H
#define DG_SM90_GROUPED_H

#include "backend/sm90/sm90_gemm.h"
#include "backend/sm90/sm90_plan.h"

// Key of the kernel table.  The tile kernel's identity, and what makes the key another one.
struct dg_sm90_grouped_kernel {
    struct dg_sm90_kernel tile;
    int32_t grouped; // 1
};

int32_t dg_sm90_grouped_smem_bytes(const struct dg_sm90_grouped_kernel *kernel);
// Fills a zeroed request.  `kernel` points to a struct dg_sm90_grouped_kernel (a dg_jit_describe).
dg_status dg_sm90_grouped_describe(void *kernel, struct dg_jit_request *request);
void dg_sm90_grouped_text(const struct dg_sm90_grouped_kernel *kernel, char *text, size_t capacity);

// Every kernel that a plan can name, one by one, until the visitor returns something else than DG_OK.
typedef dg_status (*dg_sm90_grouped_visit)(void *user, const struct dg_sm90_grouped_kernel *kernel);
dg_status dg_sm90_grouped_enumerate(dg_sm90_grouped_visit visit, void *user);

// Pure, as those of sm90_plan.h.
dg_status dg_sm90_grouped_plan(const struct dg_problem *problem, const struct dg_device *device,
                               struct dg_plan *plan);
dg_status dg_sm90_grouped_plan_each(const struct dg_problem *problem,
                                    const struct dg_device *device, dg_sm90_visit_plan visit,
                                    void *user);
void dg_sm90_grouped_explain(const struct dg_problem *problem, const struct dg_device *device,
                             const struct dg_plan *plan, dg_fact_callback callback, void *user);
// The kernel of a plan when its scales lie as the problem says.
struct dg_sm90_grouped_kernel dg_sm90_grouped_kernel_of(const struct dg_problem *problem,
                                                        const struct dg_plan *plan);

// Where in the workspace things are; bytes.
struct dg_sm90_grouped_workspace {
    int64_t a, b;       // copies, where the plan repacks
    int64_t list, size; // groups along k; all that the plan needs
    // With which a call is faster.
    int64_t count, count_end; // a struct dg_sm90_count
    struct dg_sm90_scale_places scales;
};
struct dg_sm90_grouped_workspace dg_sm90_grouped_workspace(const struct dg_problem *problem,
                                                           int repack_a, int repack_b);

// These want the device's context current (dg_cuda_enter).
dg_status dg_sm90_grouped_prepare(struct dg_sm90_state *state, const struct dg_problem *problem,
                                  const struct dg_plan *plan);
dg_status dg_sm90_grouped(struct dg_sm90_state *state, const struct dg_problem *problem,
                          const struct dg_plan *plan, const struct dg_grouped_args *args);

#endif
