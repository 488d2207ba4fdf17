// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_split.c - test_sm90_fp8_gemm.c for the kernel of one wave: slots of two k-blocks, and the
// products of one slot under way while those of another are promoted.  k is not divided among CTAs here.
#define DG_BLOCK_M 64
#define DG_BLOCK_N 48
#define DG_NUM_STAGES 3 // fewer than a problem fills
#define DG_STAGE_BLOCKS 2
#define DG_MATH_GROUPS 1
#define DG_SPLIT 1
#define DG_SFB_BLOCK_N 128
#define DG_SCALES_TMA 0
#define DG_SF_PACKED 0
#define DG_D_FP32 0
#define DG_D_BUFFERS 2
#include "test_sm90_fp8_gemm.c"
