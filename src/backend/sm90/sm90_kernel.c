// SPDX-License-Identifier: MIT
// sm90_kernel.c - from a kernel's identity to its shared memory, and to the text in front of its source.
#include "backend/sm90/sm90_kernel.h"

#include "backend/sm90/sm90_wgmma.h"
#include "jit/options.h"

#include <stdio.h>

// ---- sizes, mirrored from the kernels ----

int32_t dg_sm90_d_columns(const struct dg_sm90_kernel *kernel)
{
    const int32_t n = kernel->config.block_n;
    const int32_t widest = n >= 64 && !kernel->d_fp32 ? 64 : n >= 32 ? 32 : 16;
    return !kernel->d_fp32 || n % widest == 0 ? widest : n % 16 == 0 ? 16 : 8;
}

int32_t dg_sm90_sfb_rows(const struct dg_sm90_kernel *kernel)
{
    const int32_t n = kernel->config.block_n;
    int32_t step = 128;
    if (n % 128 && 128 % n)
        for (step = 8; n % (2 * step) == 0;)
            step *= 2;
    return (128 - step + n - 1) / 128 + 1;
}

int dg_sm90_has_panels(const struct dg_sm90_config *c)
{
    return c->block_m < 64 * c->math_groups;
}

int dg_sm90_keeps_c_code(const struct dg_sm90_config *c, int32_t sfb_block_n)
{
    return sfb_block_n == 1 ? c->block_m == 256 || c->block_n == 128 : c->block_n > 192;
}

static int32_t panel_smem_bytes(const struct dg_sm90_config *c)
{
    const int32_t a_slots = 3 * c->math_groups;
    return a_slots * (c->block_m * (128 + 4) + 16) + c->num_stages * (c->block_n * 128 + 8 + 16) +
           c->math_groups * 4 * c->d_buffers * 2048;
}

static int32_t split_smem_bytes(const struct dg_sm90_kernel *kernel)
{
    const struct dg_sm90_config *c = &kernel->config;
    const int32_t strips = c->block_m / 16;
    const int32_t gathered = (strips + c->split - 1) / c->split * (c->split - 1);
    const int32_t block =
        (c->block_m + c->block_n) * 128 + (c->block_m + dg_sm90_sfb_rows(kernel)) * 4;
    const int32_t slots = c->num_stages * c->stage_blocks * block;
    const int32_t sums = gathered * c->block_n * 64;
    return slots + c->math_groups * 4 * c->d_buffers * 2048 + sums + 8 + c->num_stages * 16 + 8;
}

int32_t dg_sm90_smem_bytes(const struct dg_sm90_kernel *kernel)
{
    const struct dg_sm90_config *c = &kernel->config;
    if (c->split)
        return split_smem_bytes(kernel);
    if (dg_sm90_has_panels(c))
        return panel_smem_bytes(c);
    const int32_t sfb = kernel->sfb_block_n == 1 ? c->block_n * 4 : dg_sm90_sfb_rows(kernel) * 16;
    const int32_t slot =
        (c->block_m + c->block_n) * 128 + c->block_m * 4 + (sfb + 127) / 128 * 128 + 16;
    return c->num_stages * slot + c->math_groups * 4 * c->d_buffers * 2048;
}

// ---- text ----

dg_status dg_sm90_describe(void *user, struct dg_jit_request *request)
{
    const struct dg_sm90_kernel *kernel = user;
    const struct dg_sm90_config *c = &kernel->config;
    // Accumulators and products of a wide tile exceed 192 registers.  setmaxnreg only moves registers between
    // the groups: 2 * 232 + 40 = 2 * 240 + 24 = 3 * 168 and 3 * 160 + 32 = 4 * 128, what the launch gave; asking for
    // more waits for ever.
    const int is_wide = c->block_n > 192, has_panels = dg_sm90_has_panels(c);
    const struct {
        const char *name;
        int64_t value;
    } defines[] = {
        {"DG_BLOCK_M", c->block_m},
        {"DG_BLOCK_N", c->block_n},
        {"DG_NUM_STAGES", c->num_stages},
        {"DG_MATH_GROUPS", c->math_groups},
        {"DG_CLUSTER_M", c->cluster_m},
        {"DG_CLUSTER_N", c->cluster_n},
        {"DG_D_BUFFERS", c->d_buffers},
        {"DG_SFB_BLOCK_N", kernel->sfb_block_n},
        {"DG_SF_PACKED", kernel->sf_packed},
        {"DG_D_FP32", kernel->d_fp32},
        {"DG_READS_C", kernel->reads_c},
        {"DG_SCALES_TMA", kernel->scales_tma},
        {"DG_ALL_LANES", dg_jit_options()->all_lanes},
        {"DG_SPLIT", c->split},
        {"DG_STAGE_BLOCKS", c->stage_blocks},
        {"DG_MATH_REGISTERS", has_panels ? 160
                              : is_wide  ? 240
                                         : 232},
        {"DG_LOAD_REGISTERS", has_panels ? 32
                              : is_wide  ? 24
                                         : 40},
    };
    request->name = kernel->sfb_block_n == 1 ? "sm90_fp8_gemm_1d1d" : "sm90_fp8_gemm_1d2d";
    request->file = c->split     ? "sm90_fp8_gemm_split.cu"
                    : has_panels ? "sm90_fp8_gemm_panel.cu"
                                 : "sm90_fp8_gemm.cu";
    request->arch = 90;
    request->smem_bytes = dg_sm90_smem_bytes(kernel);
    for (size_t i = 0; i < sizeof defines / sizeof *defines; i++)
        dg_jit_define(request, defines[i].name, defines[i].value);
    dg_sm90_emit_wgmma(&request->prologue, c->block_n, 128);
    return DG_OK;
}

void dg_sm90_config_text(const struct dg_sm90_config *c, char *text, size_t capacity)
{
    if (c->split)
        snprintf(text, capacity, "%dx%d stages=%dx%d split=%d", c->block_m, c->block_n,
                 c->num_stages, c->stage_blocks, c->split);
    else
        snprintf(text, capacity, "%dx%d stages=%d groups=%d cluster=%dx%d", c->block_m, c->block_n,
                 c->num_stages, c->math_groups, c->cluster_m, c->cluster_n);
}

void dg_sm90_kernel_text(const struct dg_sm90_kernel *kernel, char *text, size_t capacity)
{
    char config[96];
    dg_sm90_config_text(&kernel->config, config, sizeof config);
    snprintf(text, capacity, "sm90_fp8_gemm_%s %s %s %s%s%s",
             kernel->sfb_block_n == 1 ? "1d1d" : "1d2d", config, kernel->d_fp32 ? "fp32" : "bf16",
             kernel->sf_packed ? "ue8m0" : "fp32-scales",
             kernel->scales_tma || kernel->config.split ? "" : " any-layout",
             kernel->reads_c ? " with-c" : "");
}
