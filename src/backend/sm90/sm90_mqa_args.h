// SPDX-License-Identifier: MIT
// sm90_mqa_args.h - arguments of the MQA kernels, read by the host compiler and by NVRTC: plain C.
#ifndef DG_SM90_MQA_ARGS_H
#define DG_SM90_MQA_ARGS_H

#include "sm90_args.h"

// Heads are dealt out to the columns of a product as `head = index + part * head_step`, with index below
// head_rows and part below 2 * DG_LANES; with an odd number of heads index 0 of part 1 repeats a head and
// gets the weight 0.
struct dg_sm90_mqa_args {
    void *logits;
    long long logits_row_stride; // elements
    const void *weights;
    long long weights_row_stride; // elements
    int weights_bf16;
    int rows, columns; // of logits
    int heads, head_rows, head_step;
    int is_clean;
    int is_filled; // minus infinity goes where no scores are; of several launches for a call one does that
    // Plain: row i has the positions [starts[i], ends[i]), cut to [0, num_kv).
    const float *scales;
    const int *starts, *ends;
    int num_kv, is_compressed;
    // Paged: tokens [first_token, first_token + num_tokens) of the next_n of each sequence.
    const int *lengths, *block_table, *schedule;
    long long block_table_stride, max_pages;
    int batch, next_n, first_token, num_tokens, lengths_per_row, num_workers;
    int page_size, page_shift; // page_size = 1 << page_shift
    int max_length;            // no row has more scores than max_length
    int merged_rows; // of a box that has a page's keys and its scales; 0: boxes of their own
};

// One map for q, one for the values of kv, and of paged kv one for the scales.
struct dg_sm90_mqa_maps {
    struct dg_tensor_map q, kv, scales;
};

struct dg_sm90_mqa_schedule_args {
    const int *lengths;
    int *schedule;
    int batch, lengths_per_sequence, num_workers;
};

enum { DG_SM90_MQA_CHUNK = 128 }; // positions of a sequence that a schedule deals out together

#endif
