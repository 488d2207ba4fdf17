// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_1d1d.c - test_sm90_fp8_gemm.c for 1D1D, scales by TMA; FP32, added to D too.
#define DG_BLOCK_M 256
#define DG_BLOCK_N 96
#define DG_NUM_STAGES 4
#define DG_MATH_GROUPS 2
#define DG_SFB_BLOCK_N 1
#define DG_SCALES_TMA 1
#define DG_SF_PACKED 0
#define DG_D_FP32 1
#define DG_D_BUFFERS 2
#include "test_sm90_fp8_gemm.c"
