// SPDX-License-Identifier: MIT
// test_sm90_mqa_paged.c - the paged MQA kernel, run here with its threads as coroutines (lanes_async.h): random
// problems with the CPU's schedule against sums in double.  This is the kernel for one query of up to 64 heads;
// others define their shape and include this file.
#ifndef DG_DEPTH
#define DG_DEPTH 128
#define DG_LANES 4
#define DG_HEAD_ROWS 8
#define DG_PIECES 1
#define DG_Q_SLOTS 2
#define DG_MATH_GROUPS 4
#define DG_LOGITS_BF16 0
#endif
#define DG_LINEAR_ROWS 0
#define DG_NUM_STAGES 12
#define DG_MATH_REGISTERS 104
#define DG_LOAD_REGISTERS 64
#define DG_ENTRY run_kernel
#define LANES_ROW_BYTES DG_DEPTH
#define LANES_COLUMNS (8 * DG_HEAD_ROWS)

#include "../contexts.h"
#include "../harness.h"
#include "../random_mqa.h"

#include <assert.h>

#include "../lanes_async.h"

#define DG_SM90_MQA_PTX_CUH // its instructions are in lanes_async.h
#pragma GCC diagnostic ignored "-Wunused-function"
#include "backend/sm90/sm90_mqa_paged.cu"

static struct dg_sm90_mqa_args args;
static struct dg_sm90_mqa_maps maps;

// ---- a problem --------------------------------------------------------------------------------------

static void draw_problem(struct random_mqa *r, uint64_t seed)
{
    random_mqa_draw(r, seed);
    uint64_t *state = &r->state;
    r->is_paged = 1;
    r->heads = 2 * DG_LANES * (int)random_range(state, 1, HEAD_ROWS);
    r->depth = DG_DEPTH - (DG_DEPTH > 32 ? 16 * (int)random_range(state, 0, 1) : 0);
    r->logits_type = DG_LOGITS_BF16 ? DG_BF16 : DG_F32;
    r->flags &= DG_MQA_CLEAN;
    r->batch = (int)random_range(state, 1, 5);
    r->next_n = QUERIES == 4 ? (int)random_range(state, 3, 4) : QUERIES;
    r->rows = (int64_t)r->batch * r->next_n;
    r->columns = random_range(state, 1, seed % 4 ? 700 : 2000);
    r->num_workers = (int)random_range(state, 1, 4);
    random_mqa_make(r);
}

static bool make_schedule(struct random_mqa *r)
{
    const struct dg_tensor lengths = mqa_lengths(r, random_data(&r->buffer[MQA_STARTS]));
    const struct dg_tensor schedule = mqa_schedule(r, random_data(&r->buffer[MQA_SCHEDULE]));
    dg_context *cpu = open_context("cpu", NULL, 1);
    const dg_status status = dg_paged_mqa_logits_metadata(cpu, &lengths, &schedule, NULL);
    dg_context_destroy(cpu);
    return status == DG_OK;
}

// As sm90_mqa.c makes them.
static void set_arguments(const struct random_mqa *r, void *const *base)
{
    const int row_capacity = (int)(r->max_pages * r->page_size);
    args = (struct dg_sm90_mqa_args){
        .logits = base[MQA_LOGITS],
        .logits_row_stride = r->columns + r->logits_gap,
        .weights = base[MQA_WEIGHTS],
        .weights_row_stride = r->heads + r->weights_gap,
        .weights_bf16 = r->weights_type == DG_BF16,
        .rows = (int)r->rows,
        .columns = (int)r->columns,
        .heads = r->heads,
        .head_rows = r->heads / (2 * DG_LANES),
        .head_step = r->heads / (2 * DG_LANES),
        .is_clean = (r->flags & DG_MQA_CLEAN) != 0,
        .is_filled = (r->flags & DG_MQA_CLEAN) != 0,
        .lengths = base[MQA_STARTS],
        .block_table = base[MQA_ENDS],
        .schedule = base[MQA_SCHEDULE],
        .block_table_stride = r->max_pages + r->table_gap,
        .max_pages = r->max_pages,
        .batch = r->batch,
        .next_n = r->next_n,
        .num_tokens = r->next_n,
        .lengths_per_row = r->lengths_per_row,
        .num_workers = r->num_workers,
        .page_size = r->page_size,
        .page_shift = __builtin_ctz((unsigned)r->page_size),
        .max_length = row_capacity < r->columns ? row_capacity : (int)r->columns,
    };
    if (r->page_size == STAGE_KEYS && r->depth == DG_DEPTH)
        args.merged_rows = STAGE_KEYS + STAGE_KEYS * 4 / DG_DEPTH;
}

static void set_maps(const struct random_mqa *r, void *const *base)
{
    const int page_keys = r->page_size < STAGE_KEYS ? r->page_size : STAGE_KEYS;
    const i64 page_stride = mqa_page_bytes(r) + r->page_gap;
    maps.q = lanes_encode(&(struct lanes_map){
        .data = base[MQA_Q],
        .stride = {1, (i64)args.head_step * r->depth, (i64)r->heads * r->depth + r->q_gap,
                   r->depth},
        .shape = {r->depth, 2 * DG_LANES, args.rows, args.head_rows},
        .box = {DG_DEPTH, 2 * DG_LANES, QUERIES, HEAD_ROWS},
        .swizzle = DG_DEPTH,
    });
    maps.kv = lanes_encode(&(struct lanes_map){
        .data = base[MQA_KV],
        .stride = {1, r->depth, page_stride},
        .shape = {r->depth, args.merged_rows ? args.merged_rows : r->page_size, (int)r->num_pages,
                  1},
        .box = {DG_DEPTH, args.merged_rows ? args.merged_rows : page_keys, 1},
        .swizzle = DG_DEPTH,
    });
    maps.scales = lanes_encode(&(struct lanes_map){
        .data = (char *)base[MQA_KV] + (i64)r->page_size * r->depth,
        .stride = {4, page_stride},
        .shape = {r->page_size, (int)r->num_pages},
        .box = {page_keys, 1},
        .element = 4,
    });
}

static void run_thread(void)
{
    run_kernel(args, maps);
}

static void test_random_problems(void)
{
    const int count = harness_scaled(48);
    for (int seed = 1; seed <= count; seed++) {
        struct random_mqa r;
        struct mqa_figures figures;
        void *base[MQA_BUFFERS];
        draw_problem(&r, (uint64_t)seed);
        random_mqa_host(&r, base);
        CHECK(make_schedule(&r), "%s: %s", r.line, dg_last_error());
        set_arguments(&r, base);
        set_maps(&r, base);
        CHECK(lanes_run_grid((unsigned)args.num_workers, THREADS, run_thread),
              "%s: lanes went apart, or wait for ever", r.line);
        const char *wrong = random_mqa_wrong(&r, 2000, &figures);
        const double rounding = DG_LOGITS_BF16 ? 1.0 / 256 : 0;
        CHECK(!wrong, "%s", wrong);
        CHECK(figures.of_terms <= 2e-6 + rounding, "%s: %g of the terms", r.line, figures.of_terms);
        random_mqa_free(&r);
    }
}

int main(void)
{
    RUN(test_random_problems);
    return harness_end();
}
