// SPDX-License-Identifier: MIT
// lanes_mqa.h - what the tests that run an MQA kernel as coroutines have in common: its arguments as sm90_mqa.c makes
// them, as far as both kernels have the same, and the judgement.  To be included after the kernel.
#ifndef DG_TESTS_LANES_MQA_H
#define DG_TESTS_LANES_MQA_H

#include "random_mqa.h"

static struct dg_sm90_mqa_args args;
static struct dg_sm90_mqa_maps maps;

// A depth that fills the kernel's or leaves 16 bytes of it.
static int lanes_mqa_depth(uint64_t *state)
{
    return DG_DEPTH - (DG_DEPTH > 32 ? 16 * (int)random_range(state, 0, 1) : 0);
}

static void lanes_mqa_arguments(const struct random_mqa *r, void *const *base)
{
    args = (struct dg_sm90_mqa_args){
        .logits = base[MQA_LOGITS],
        .logits_row_stride = r->columns + r->logits_gap,
        .weights = base[MQA_WEIGHTS],
        .weights_row_stride = r->heads + r->weights_gap,
        .weights_bf16 = r->weights_type == DG_BF16,
        .rows = (int)r->rows,
        .columns = (int)r->columns,
        .heads = r->heads,
        .head_rows = (r->heads + 2 * DG_LANES - 1) / (2 * DG_LANES),
        .head_step = r->heads / (2 * DG_LANES),
        .is_clean = (r->flags & DG_MQA_CLEAN) != 0,
        .is_filled = (r->flags & DG_MQA_CLEAN) != 0,
    };
    maps.q = lanes_encode(&(struct lanes_map){
        .data = base[MQA_Q],
        .stride = {1, (i64)args.head_step * r->depth, (i64)r->heads * r->depth + r->q_gap,
                   r->depth},
        .shape = {r->depth, r->heads == 1 ? 1 : 2 * DG_LANES, args.rows, args.head_rows},
        .box = {DG_DEPTH, 2 * DG_LANES, QUERIES, HEAD_ROWS},
        .swizzle = DG_DEPTH,
    });
}

static void lanes_mqa_thread(void)
{
    run_kernel(args, maps);
}

// Runs the kernel and compares; `limit`: of the terms, before rounding.  NULL when all is right;
// the text is static.
static const char *lanes_mqa_try(const struct random_mqa *r, unsigned ctas, double limit)
{
    static char text[64];
    struct mqa_figures figures;
    if (!lanes_run_grid(ctas, THREADS, lanes_mqa_thread))
        return "lanes went apart, or wait alone or for ever";
    const char *wrong = random_mqa_wrong(r, 2000, &figures);
    snprintf(text, sizeof text, "%g of the terms", figures.of_terms);
    return wrong                                                          ? wrong
           : figures.of_terms <= limit + (DG_LOGITS_BF16 ? 1.0 / 256 : 0) ? NULL
                                                                          : text;
}

#endif
