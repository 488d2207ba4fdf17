// SPDX-License-Identifier: MIT
// test_sm90_mqa_linear_d64.c - test_sm90_mqa_linear.c for values of 64 bytes, which TMA swizzles otherwise.
#define DG_DEPTH 64
#include "test_sm90_mqa_linear.c"
