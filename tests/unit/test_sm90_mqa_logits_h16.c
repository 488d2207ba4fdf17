// SPDX-License-Identifier: MIT
// test_sm90_mqa_logits_h16.c - test_sm90_mqa_logits.c for up to 16 heads: eight queries to a unit, relus.
#define DG_DEPTH 128
#define DG_HEAD_ROWS 8
#define DG_PIECES 1
#define DG_QUADS 2
#define DG_LINEAR_ROWS 0
#define DG_Q_SLOTS 2
#define DG_NUM_STAGES 21
#define DG_LOGITS_BF16 0
#define LEAST_HEADS 1
#include "test_sm90_mqa_logits.c"
