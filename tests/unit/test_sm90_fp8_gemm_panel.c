// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_panel.c - test_sm90_fp8_gemm.c for math groups with tiles of their own, which share a panel of B.
#define DG_BLOCK_M 64
#define DG_BLOCK_N 128
#define DG_NUM_STAGES 5 // the k-blocks of the longest k here
#define DG_MATH_GROUPS 3
#define DG_SFB_BLOCK_N 128
#define DG_SCALES_TMA 1
#define DG_SF_PACKED 0
#define DG_D_FP32 0
#define DG_D_BUFFERS 2
#define DG_READS_C 0
#include "test_sm90_fp8_gemm.c"
