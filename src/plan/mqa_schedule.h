// SPDX-License-Identifier: MIT
// mqa_schedule.h - how the positions of all sequences are dealt out to the SMs for paged MQA logits.  Pure.
//
// The chunks of all sequences stand in one line, sequence after sequence; worker w begins at chunk
// floor(total * w / workers) of it.  Its row says which that is: {sequence, chunk of the sequence}, or {batch, 0}
// when there are none.  Behind the rows of the workers, {batch, workers} says what the schedule is for.
#ifndef DG_PLAN_MQA_SCHEDULE_H
#define DG_PLAN_MQA_SCHEDULE_H

#include <stdint.h>

enum { DG_MQA_CHUNK = 128 }; // positions of a sequence that are dealt out together

// lengths [batch][per_sequence], of which the longest counts -> schedule [num_workers + 1][2].
void dg_mqa_schedule_make(const int32_t *lengths, int32_t batch, int32_t per_sequence,
                          int32_t num_workers, int32_t *schedule);

// The largest of a sequence's lengths, at least 0.
int32_t dg_mqa_longest(const int32_t *lengths, int32_t per_sequence, int64_t sequence);

#endif
