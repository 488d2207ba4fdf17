// SPDX-License-Identifier: MIT
// test_sm90_mqa_paged_two.c - test_sm90_mqa_paged.c for two queries of up to 128 heads, in two products; BF16.
#define DG_DEPTH 64
#define DG_LANES 2
#define DG_HEAD_ROWS 16
#define DG_PIECES 2
#define DG_Q_SLOTS 2
#define DG_MATH_GROUPS 3
#define DG_LOGITS_BF16 1
#include "test_sm90_mqa_paged.c"
