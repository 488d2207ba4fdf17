// SPDX-License-Identifier: MIT
// test_sm90_mqa_logits_h32.c - test_sm90_mqa_logits.c for up to 32 heads: eight queries to a unit, relus; BF16.
#define DG_DEPTH 64
#define DG_HEAD_ROWS 16
#define DG_PIECES 1
#define DG_QUADS 2
#define DG_LINEAR_ROWS 0
#define DG_Q_SLOTS 2
#define DG_NUM_STAGES 24
#define DG_LOGITS_BF16 1
#define LEAST_HEADS 17
#include "test_sm90_mqa_logits.c"
