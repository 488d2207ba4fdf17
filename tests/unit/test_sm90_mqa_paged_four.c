// SPDX-License-Identifier: MIT
// test_sm90_mqa_paged_four.c - test_sm90_mqa_paged.c for three and four queries of up to 32 heads.
#define DG_DEPTH 32
#define DG_LANES 1
#define DG_HEAD_ROWS 16
#define DG_PIECES 1
#define DG_Q_SLOTS 2
#define DG_MATH_GROUPS 3
#define DG_LOGITS_BF16 0
#include "test_sm90_mqa_paged.c"
