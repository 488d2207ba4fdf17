// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_tall.c - test_sm90_fp8_gemm.c for 1D2D tiles of 256 rows, scales by TMA.
#define DG_BLOCK_M 256
#define DG_BLOCK_N 128
#define DG_NUM_STAGES 4
#define DG_MATH_GROUPS 2
#define DG_SFB_BLOCK_N 128
#define DG_SCALES_TMA 1
#define DG_SF_PACKED 0
#define DG_D_FP32 0
#define DG_D_BUFFERS 1
#include "test_sm90_fp8_gemm.c"
