// SPDX-License-Identifier: MIT
// test_sm90_fp8_gemm_turns.c - test_sm90_fp8_gemm.c for math groups that take turns (sm90_turns.cuh): 1D1D in 128x128, packed scales.
#define DG_BLOCK_M 128
#define DG_BLOCK_N 128
#define DG_NUM_STAGES 5
#define DG_MATH_GROUPS 2
#define DG_SFB_BLOCK_N 1
#define DG_SCALES_TMA 1
#define DG_SF_PACKED 1
#define DG_D_FP32 1
#define DG_D_BUFFERS 2
#define DG_READS_C 0
#include "test_sm90_fp8_gemm.c"
