// SPDX-License-Identifier: MIT
// test_sm90_mqa_logits.c - the plain MQA kernel, run here with its 512 threads as coroutines (lanes_async.h): random
// problems against sums in double, guards, gaps and minus infinity included.  This is the kernel for 33 to 64
// heads; others define their shape and include this file.
#ifndef DG_DEPTH
#define DG_DEPTH 128
#define DG_HEAD_ROWS 16
#define DG_PIECES 2
#define DG_QUADS 1
#define DG_LINEAR_ROWS 1
#define DG_Q_SLOTS 3
#define DG_NUM_STAGES 12
#define DG_LOGITS_BF16 0
#define LEAST_HEADS 33
#endif
#define DG_LANES 1
#define DG_MATH_GROUPS 3
#define DG_MATH_REGISTERS 152
#define DG_LOAD_REGISTERS 56
#define DG_ENTRY run_kernel
#define LANES_ROW_BYTES DG_DEPTH
#define LANES_COLUMNS (8 * (DG_HEAD_ROWS + DG_LINEAR_ROWS))

#include "../harness.h"
#include "../random_mqa.h"

#include <assert.h>

#include "../lanes_async.h"

#define DG_SM90_MQA_PTX_CUH // its instructions are in lanes_async.h
#pragma GCC diagnostic ignored "-Wunused-function"
#include "backend/sm90/sm90_mqa_logits.cu"

static struct dg_sm90_mqa_args args;
static struct dg_sm90_mqa_maps maps;

// ---- a problem --------------------------------------------------------------------------------------

static void draw_problem(struct random_mqa *r, uint64_t seed)
{
    random_mqa_draw(r, seed);
    uint64_t *state = &r->state;
    r->is_paged = 0;
    r->heads = (int)random_range(state, LEAST_HEADS, 2 * HEAD_ROWS);
    r->depth = DG_DEPTH - (DG_DEPTH > 32 ? 16 * (int)random_range(state, 0, 1) : 0);
    r->logits_type = DG_LOGITS_BF16 ? DG_BF16 : DG_F32;
    r->rows = random_range(state, 1, 11);
    r->num_kv = seed % 4 ? random_range(state, 1, 300) : random_range(state, 1500, 2500);
    r->columns = r->flags & DG_MQA_COMPRESSED ? random_range(state, 1, 300) : r->num_kv;
    random_mqa_make(r);
}

// As sm90_mqa.c makes them.
static void set_arguments(const struct random_mqa *r, void *const *base)
{
    const i64 row_bytes = (i64)r->heads * r->depth + r->q_gap;
    args = (struct dg_sm90_mqa_args){
        .logits = base[MQA_LOGITS],
        .logits_row_stride = r->columns + r->logits_gap,
        .weights = base[MQA_WEIGHTS],
        .weights_row_stride = r->heads + r->weights_gap,
        .weights_bf16 = r->weights_type == DG_BF16,
        .rows = (int)r->rows,
        .columns = (int)r->columns,
        .heads = r->heads,
        .head_rows = (r->heads + 1) / 2,
        .head_step = r->heads / 2,
        .is_clean = (r->flags & DG_MQA_CLEAN) != 0,
        .is_filled = (r->flags & DG_MQA_CLEAN) != 0,
        .scales = base[MQA_SCALES],
        .starts = base[MQA_STARTS],
        .ends = base[MQA_ENDS],
        .num_kv = (int)r->num_kv,
        .is_compressed = (r->flags & DG_MQA_COMPRESSED) != 0,
    };
    maps.q = lanes_encode(&(struct lanes_map){
        .data = base[MQA_Q],
        .stride = {1, (i64)args.head_step * r->depth, row_bytes, r->depth},
        .shape = {r->depth, r->heads == 1 ? 1 : 2, args.rows, args.head_rows},
        .box = {DG_DEPTH, 2, 4, HEAD_ROWS},
        .swizzle = DG_DEPTH,
    });
    maps.kv = lanes_encode(&(struct lanes_map){
        .data = base[MQA_KV],
        .stride = {1, r->depth},
        .shape = {r->depth, args.num_kv},
        .box = {DG_DEPTH, STAGE_KEYS},
        .swizzle = DG_DEPTH,
    });
}

static void run_thread(void)
{
    run_kernel(args, maps);
}

static void test_random_problems(void)
{
    const int count = harness_scaled(30);
    for (int seed = 1; seed <= count; seed++) {
        struct random_mqa r;
        struct mqa_figures figures;
        void *base[MQA_BUFFERS];
        draw_problem(&r, (uint64_t)seed);
        random_mqa_host(&r, base);
        set_arguments(&r, base);
        CHECK(lanes_run_grid(1 + (unsigned)seed % 3, THREADS, run_thread),
              "%s: lanes went apart, or wait for ever", r.line);
        const char *wrong = random_mqa_wrong(&r, 2000, &figures);
        const double rounding = DG_LOGITS_BF16 ? 1.0 / 256 : 0;
        CHECK(!wrong, "%s", wrong);
        CHECK(figures.of_terms <= 2e-5 + rounding, "%s: %g of the terms", r.line, figures.of_terms);
        random_mqa_free(&r);
    }
}

int main(void)
{
    RUN(test_random_problems);
    return harness_end();
}
