// SPDX-License-Identifier: MIT
// test_sm90_mqa_linear_d32.c - test_sm90_mqa_linear.c for values of 32 bytes, which TMA swizzles otherwise.
#define DG_DEPTH 32
#include "test_sm90_mqa_linear.c"
