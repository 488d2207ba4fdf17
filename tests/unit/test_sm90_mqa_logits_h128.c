// SPDX-License-Identifier: MIT
// test_sm90_mqa_logits_h128.c - test_sm90_mqa_logits.c for more than 64 heads: four products for each quad, relus, one slot for queries.
#define DG_DEPTH 128
#define DG_HEAD_ROWS 16
#define DG_PIECES 4
#define DG_QUADS 1
#define DG_LINEAR_ROWS 0
#define DG_Q_SLOTS 1
#define DG_NUM_STAGES 9
#define DG_LOGITS_BF16 0
#define LEAST_HEADS 65
#include "test_sm90_mqa_logits.c"
