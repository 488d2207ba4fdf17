// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_alone.c - test_sm90_fp8_gemm.c for a math group that is alone in its CTA: the products of the next
// k-block are under way while those of one are promoted.
#define DG_BLOCK_M 64
#define DG_BLOCK_N 128
#define DG_NUM_STAGES 4
#define DG_MATH_GROUPS 1
#define DG_SFB_BLOCK_N 128
#define DG_SCALES_TMA 1
#define DG_SF_PACKED 0
#define DG_D_FP32 0
#define DG_D_BUFFERS 2
#include "test_sm90_fp8_gemm.c"
