// SPDX-License-Identifier: MIT
// sm90_kernel.h - the identity of a compiled Hopper kernel, and how its text and shared memory follow
// from it.  Nothing here knows a problem's sizes.
#ifndef DG_SM90_KERNEL_H
#define DG_SM90_KERNEL_H

#include "jit/jit.h"
#include "plan/plan.h"

// Key of the kernel table; no padding.
struct dg_sm90_kernel {
    struct dg_sm90_config config;
    int32_t sfb_block_n; // 128: the 1D2D kernel; 1: the 1D1D kernel
    int32_t sf_packed;   // 1: packed UE8M0 scales
    int32_t d_fp32;      // 1: D and C are FP32
    int32_t reads_c;     // 1: math warps can read C; half of a kernel's text is about that
    int32_t scales_tma;  // 1: TMA fetches the scales; 0: any layout, as always in the split kernel
};

// Columns of a piece of D on its way out, as the kernel has it (D_COLUMNS).
int32_t dg_sm90_d_columns(const struct dg_sm90_kernel *kernel);
// 128-column blocks of B's scales that a tile can touch (SFB_COUNT of the 1D2D kernel).
int32_t dg_sm90_sfb_rows(const struct dg_sm90_kernel *kernel);
// Has each math group tiles of its own?  The panel kernel, sm90_fp8_gemm_panel.cu, for k of at most num_stages blocks
// and no C.
int dg_sm90_has_panels(const struct dg_sm90_config *config);
// Does a tile always have the code that reads C, used or not?  With it ptxas makes a k loop that is 2 to 11 % faster:
// docs/decisions/0027-what-a-loop-copies.md.
int dg_sm90_keeps_c_code(const struct dg_sm90_config *config, int32_t sfb_block_n);
// Dynamic shared memory of a CTA.
int32_t dg_sm90_smem_bytes(const struct dg_sm90_kernel *kernel);

// Fills a zeroed request.  `kernel` points to a struct dg_sm90_kernel (a dg_jit_describe).
dg_status dg_sm90_describe(void *kernel, struct dg_jit_request *request);
// "256x128 stages=4 groups=2 cluster=1x2": as tuning files name it, so another text for every tile.
void dg_sm90_config_text(const struct dg_sm90_config *config, char *text, size_t capacity);
// "sm90_fp8_gemm_1d2d 256x128 s4 c1x2 bf16": for people and lists; cut to fit.
void dg_sm90_kernel_text(const struct dg_sm90_kernel *kernel, char *text, size_t capacity);

// Every kernel that a plan can name, one by one, until the visitor returns something else than DG_OK.
typedef dg_status (*dg_sm90_visit)(void *user, const struct dg_sm90_kernel *kernel);
dg_status dg_sm90_enumerate(dg_sm90_visit visit, void *user);

#endif
