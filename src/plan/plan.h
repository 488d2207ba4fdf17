// SPDX-License-Identifier: MIT
// plan.h - what was decided for a problem on a device.  Plain values: a plan is a pure function of
// (problem, device), with no pointers to free, no CUDA calls, no files and no clock behind it.
#ifndef DG_PLAN_PLAN_H
#define DG_PLAN_PLAN_H

#include "deepgemm.h"
#include "plan/device.h"

#include <stdint.h>

enum dg_plan_kernel {
    DG_KERNEL_NONE = 0, // nothing to multiply: m or n is 0
    DG_KERNEL_FILL,     // k is 0: D = C or zeros
    DG_KERNEL_ORACLE,
    DG_KERNEL_CPU_GEMM,
    DG_KERNEL_SM90_GEMM, // src/backend/sm90: the tiled kernels
    DG_KERNEL_SM90_GROUPED,
};

// The tile configuration of an sm90 kernel: what makes it another kernel, together with the types of the
// problem.  Part of a key, so free of padding.
struct dg_sm90_config {
    int32_t block_m, block_n;     // output tile of a CTA
    int32_t num_stages;           // slots of the shared-memory ring
    int32_t math_groups;          // warpgroups that multiply
    int32_t cluster_m, cluster_n; // CTAs of a cluster along m (share B) and along n (share A)
    int32_t d_buffers;            // 2 KB buffers of a math warp on the way to D
    // 0: the tiled kernel.  Else the split one, for problems of one wave: CTAs of a cluster that divide k, ...
    int32_t split;
    int32_t stage_blocks; // ... and k-blocks of a slot
};

struct dg_plan {
    enum dg_plan_kernel kernel;
    struct dg_sm90_config sm90;
    int32_t num_ctas;           // grid size of an sm90 launch
    int32_t num_sms;            // the bound it was made for
    int32_t band;               // units of m that are walked together
    int32_t repack_a, repack_b; // 1: the operand is first copied K-major into the workspace
    int32_t copies_scales;      // 1: scales that TMA does not take are copied, if there is room
    // Rounds of tiles that CTAs have for their own; if there is room, those behind go to whoever is free.  0: all are.
    int32_t own_rounds;
    int32_t guessed_rows; // CTAs begin their first tile as if each group had so many; 0: none
    int64_t workspace_bytes;
    int64_t spare_bytes; // more of it, with which the call is faster
    double predicted_us; // the cost model's figure; 0 where there is none
    char why[96];        // one line for `deepgemm plan`: "measured winner for H100", "cost model"
};

// "none", "fill", "oracle", ...; never NULL.
const char *dg_plan_kernel_name(enum dg_plan_kernel kernel);

typedef dg_status (*dg_plan_choice)(const struct dg_problem *problem,
                                    const struct dg_device *device, struct dg_plan *plan);

// The plan of a complete problem (problem.h): NONE and FILL are decided here, so `choose`, the
// backend's plan(), meets only problems with work in them.
dg_status dg_plan_make(dg_plan_choice choose, const struct dg_problem *problem,
                       const struct dg_device *device, struct dg_plan *plan);

// A formatted fact of dg_explain, cut at 255 characters.
__attribute__((format(printf, 5, 6))) void dg_tell(dg_fact_callback callback, void *user,
                                                   const char *section, const char *key,
                                                   const char *format, ...);

#endif
