// SPDX-License-Identifier: MIT
// mqa.h - what the sm90 MQA kernels are meant to compute, from the arguments and tensor maps of a launch.  Uses
// kernels.h.
#ifndef DG_TESTS_EMULATED_MQA_H
#define DG_TESTS_EMULATED_MQA_H

#include "backend/sm90/sm90_mqa_args.h"

// Words of a map: address, then as kernels.h has them two sizes and the stride between, then the rest.
enum { MAP_DEPTH = 1, MAP_STRIDE_0 = 3, MAP_SIZE_2, MAP_STRIDE_1, MAP_SIZE_3, MAP_STRIDE_2 };

static void store_logit(const struct kernel *kernel, const struct dg_sm90_mqa_args *args, int row,
                        int column, float value)
{
    store_output(kernel, args->logits, row * args->logits_row_stride + column, value);
}

static float weight_at(const struct dg_sm90_mqa_args *args, int row, int head)
{
    const int64_t at = row * args->weights_row_stride + head;
    return args->weights_bf16 ? from_bits((uint32_t)((const uint16_t *)args->weights)[at] << 16)
                              : ((const float *)args->weights)[at];
}

// The score of a row for a key; NULL: a key of zeros.
static float score(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps,
                   int row, const unsigned char *key)
{
    const unsigned long long *map = maps->q.words;
    static _Thread_local float values[256];
    float sum = 0;
    for (int code = 0; values[1] == 0 && code < 256; code++)
        values[255 - code] = decode((unsigned char)(255 - code));
    for (int head = 0; key && head < args->heads; head++) {
        const unsigned char *q =
            (const unsigned char *)AT(map[0]) + row * map[MAP_STRIDE_1] + head * map[MAP_STRIDE_2];
        float dot = 0;
        for (unsigned k = 0; k < map[MAP_DEPTH]; k++)
            dot += values[q[k]] * values[key[k]];
        sum += (dot < 0 ? 0 : dot) * weight_at(args, row, head);
    }
    return sum;
}

static void run_plain_row(const struct kernel *kernel, const struct dg_sm90_mqa_args *args,
                          const struct dg_sm90_mqa_maps *maps, int row)
{
    const int64_t start = args->starts[row] > 0 ? args->starts[row] : 0;
    const int64_t end = args->ends[row] < args->num_kv ? args->ends[row] : args->num_kv;
    const int64_t shift = args->is_compressed ? start : 0;
    for (int64_t column = 0; column < args->columns; column++) {
        const int64_t position = column + shift;
        if (position >= start && position < end)
            store_logit(kernel, args, row, (int)column,
                        score(args, maps, row, map_at(&maps->kv, 0, position, 1)) *
                            args->scales[position]);
        else if (args->is_filled)
            store_logit(kernel, args, row, (int)column, -INFINITY);
    }
}

static void run_paged_row(const struct kernel *kernel, const struct dg_sm90_mqa_args *args,
                          const struct dg_sm90_mqa_maps *maps, int row, int is_computed)
{
    const int sequence = row / args->next_n, token = row % args->next_n;
    const int is_shorter = !args->lengths_per_row && args->is_clean;
    int64_t length = args->lengths[args->lengths_per_row ? row : sequence];
    length -= is_shorter ? args->next_n - 1 - token : 0;
    length = length < args->max_length ? length : args->max_length;
    for (int column = 0; column < args->columns; column++) {
        if (column >= length) {
            if (args->is_filled)
                store_logit(kernel, args, row, column, -INFINITY);
            continue;
        }
        const int inside = column % args->page_size;
        const int64_t id =
            args->block_table[sequence * args->block_table_stride + column / args->page_size];
        const unsigned long long *map = maps->kv.words;
        const int exists = id >= 0 && id < (int64_t)map[MAP_SIZE_2];
        const unsigned char *page = (const unsigned char *)AT(map[0]) + id * map[MAP_STRIDE_1];
        const float *scale = exists ? map_at(&maps->scales, inside, id, 4) : NULL;
        if (is_computed)
            store_logit(kernel, args, row, column,
                        score(args, maps, row, exists ? page + inside * map[MAP_STRIDE_0] : NULL) *
                            (scale ? *scale : 0));
    }
}

static void run_mqa(const struct kernel *kernel, const struct dg_sm90_mqa_args *args,
                    const struct dg_sm90_mqa_maps *maps)
{
    const int *last = args->schedule ? args->schedule + 2 * (int64_t)args->num_workers : NULL;
    const int is_valid = !last || (last[0] == args->batch && last[1] == args->num_workers);
    for (int row = 0; row < args->rows; row++) {
        const int token = args->next_n ? row % args->next_n - args->first_token : 0;
        for (int column = 0; !is_valid && column < args->columns; column++)
            store_logit(kernel, args, row, column, NAN);
        if (!args->schedule)
            run_plain_row(kernel, args, maps, row);
        else if (is_valid)
            run_paged_row(kernel, args, maps, row, token >= 0 && token < args->num_tokens);
    }
}

static int64_t chunks_of(const struct dg_sm90_mqa_schedule_args *args, int sequence)
{
    int longest = 0;
    for (int i = 0; i < args->lengths_per_sequence; i++) {
        const int length = args->lengths[sequence * args->lengths_per_sequence + i];
        longest = length > longest ? length : longest;
    }
    return (longest + (int64_t)DG_SM90_MQA_CHUNK - 1) / DG_SM90_MQA_CHUNK;
}

static void run_schedule(const struct dg_sm90_mqa_schedule_args *args)
{
    int64_t total = 0, before = 0;
    int sequence = 0;
    for (int i = 0; i < args->batch; i++)
        total += chunks_of(args, i);
    for (int worker = 0; worker < args->num_workers; worker++) {
        const int64_t first = total * worker / args->num_workers;
        while (sequence < args->batch && before + chunks_of(args, sequence) <= first)
            before += chunks_of(args, sequence++);
        args->schedule[2 * worker] = sequence;
        args->schedule[2 * worker + 1] = sequence < args->batch ? (int)(first - before) : 0;
    }
    args->schedule[2 * args->num_workers] = args->batch;
    args->schedule[2 * args->num_workers + 1] = args->num_workers;
}

#endif
