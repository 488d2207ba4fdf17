// SPDX-License-Identifier: MIT
// mqa_schedule.c - deals chunks out to workers, in one pass over the sequences.
#include "plan/mqa_schedule.h"

int32_t dg_mqa_longest(const int32_t *lengths, int32_t per_sequence, int64_t sequence)
{
    int32_t longest = 0;
    for (int64_t t = 0; t < per_sequence; t++)
        if (lengths[sequence * per_sequence + t] > longest)
            longest = lengths[sequence * per_sequence + t];
    return longest;
}

static int64_t chunks_of(const int32_t *lengths, int32_t per_sequence, int64_t sequence)
{
    const int64_t longest = dg_mqa_longest(lengths, per_sequence, sequence);
    return (longest + DG_MQA_CHUNK - 1) / DG_MQA_CHUNK;
}

void dg_mqa_schedule_make(const int32_t *lengths, int32_t batch, int32_t per_sequence,
                          int32_t num_workers, int32_t *schedule)
{
    int64_t total = 0, sequence = 0, before = 0; // chunks of the sequences before `sequence`
    for (int64_t b = 0; b < batch; b++)
        total += chunks_of(lengths, per_sequence, b);
    for (int64_t worker = 0; worker < num_workers; worker++) {
        const int64_t first = (int64_t)((__int128)total * worker / num_workers);
        while (sequence < batch && before + chunks_of(lengths, per_sequence, sequence) <= first)
            before += chunks_of(lengths, per_sequence, sequence++);
        schedule[2 * worker] = (int32_t)sequence;
        schedule[2 * worker + 1] = (int32_t)(sequence < batch ? first - before : 0);
    }
    schedule[2 * (int64_t)num_workers] = batch;
    schedule[2 * (int64_t)num_workers + 1] = num_workers;
}
