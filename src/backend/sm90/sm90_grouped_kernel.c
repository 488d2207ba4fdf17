// SPDX-License-Identifier: MIT
// sm90_grouped_kernel.c - a grouped kernel is the tile kernel's identity with another file and a few bytes more
// of shared memory.
#include "backend/sm90/sm90_grouped.h"

#include <stdio.h>

// Of each slot, of two between the walker and the loader, and of what rows are cleared with: as in
// sm90_fp8_gemm_grouped.cu and sm90_schedule.cuh.
enum { NOTE_BYTES = 32, TILE_SLOT_BYTES = 2 * (NOTE_BYTES + 16), ZERO_BYTES = 2048 };

int32_t dg_sm90_grouped_smem_bytes(const struct dg_sm90_grouped_kernel *kernel)
{
    return dg_sm90_smem_bytes(&kernel->tile) + kernel->tile.config.num_stages * NOTE_BYTES +
           TILE_SLOT_BYTES + ZERO_BYTES;
}

dg_status dg_sm90_grouped_describe(void *user, struct dg_jit_request *request)
{
    struct dg_sm90_grouped_kernel *kernel = user;
    DG_TRY(dg_sm90_describe(&kernel->tile, request));
    request->name =
        kernel->tile.sfb_block_n == 1 ? "sm90_fp8_gemm_grouped_1d1d" : "sm90_fp8_gemm_grouped_1d2d";
    request->file = "sm90_fp8_gemm_grouped.cu";
    request->smem_bytes = dg_sm90_grouped_smem_bytes(kernel);
    return DG_OK;
}

void dg_sm90_grouped_text(const struct dg_sm90_grouped_kernel *kernel, char *text, size_t capacity)
{
    char tile[160];
    dg_sm90_kernel_text(&kernel->tile, tile, sizeof tile);
    snprintf(text, capacity, "grouped %s", tile);
}
