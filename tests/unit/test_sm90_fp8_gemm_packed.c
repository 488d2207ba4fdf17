// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_packed.c - test_sm90_fp8_gemm.c for 1D1D with four exponents to a word of scales, by TMA; BF16.
#define DG_BLOCK_M 128
#define DG_BLOCK_N 96
#define DG_NUM_STAGES 4
#define DG_MATH_GROUPS 2
#define DG_SFB_BLOCK_N 1
#define DG_SCALES_TMA 1
#define DG_SF_PACKED 1
#define DG_D_FP32 0
#define DG_D_BUFFERS 2
#include "test_sm90_fp8_gemm.c"
