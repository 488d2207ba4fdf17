// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_grouped_128.c - test_sm90_fp8_gemm_grouped.c for tiles of 128 x 112 with scales in any layout, where
// each warp of the loader's group walks for itself.
#define DG_BLOCK_M 128
#define DG_BLOCK_N 112
#define DG_NUM_STAGES 6
#define DG_SCALES_TMA 0
#define DG_D_BUFFERS 2
#include "test_sm90_fp8_gemm_grouped.c"
