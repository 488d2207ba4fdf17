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

#include "../lanes_mqa.h"

// ---- a problem --------------------------------------------------------------------------------------

static void draw_problem(struct random_mqa *r, uint64_t seed)
{
    random_mqa_draw(r, seed);
    uint64_t *state = &r->state;
    r->is_paged = 1;
    r->heads = 2 * DG_LANES * (int)random_range(state, 1, HEAD_ROWS);
    r->depth = lanes_mqa_depth(state);
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

static void set_arguments(const struct random_mqa *r, void *const *base)
{
    const int room = (int)(r->max_pages * r->page_size);
    lanes_mqa_arguments(r, base);
    args.lengths = base[MQA_STARTS];
    args.block_table = base[MQA_ENDS];
    args.schedule = base[MQA_SCHEDULE];
    args.block_table_stride = r->max_pages + r->table_gap;
    args.max_pages = r->max_pages;
    args.batch = r->batch;
    args.next_n = args.num_tokens = r->next_n;
    args.lengths_per_row = r->lengths_per_row;
    args.num_workers = r->num_workers;
    args.page_size = r->page_size;
    args.page_shift = __builtin_ctz((unsigned)r->page_size);
    args.max_length = room < r->columns ? room : (int)r->columns;
    if (r->page_size == STAGE_KEYS && r->depth == DG_DEPTH)
        args.merged_rows = STAGE_KEYS + STAGE_KEYS * 4 / DG_DEPTH;
}

static void set_maps(const struct random_mqa *r, void *const *base)
{
    const int page_keys = r->page_size < STAGE_KEYS ? r->page_size : STAGE_KEYS;
    const i64 page_stride = mqa_page_bytes(r) + r->page_gap;
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

static void test_random_problems(void)
{
    const int count = harness_scaled(48);
    for (int seed = 1; seed <= count; seed++) {
        struct random_mqa r;
        void *base[MQA_BUFFERS];
        draw_problem(&r, (uint64_t)seed);
        random_mqa_host(&r, base);
        CHECK(make_schedule(&r), "%s: %s", r.line, dg_last_error());
        set_arguments(&r, base);
        set_maps(&r, base);
        const char *wrong = lanes_mqa_try(&r, (unsigned)r.num_workers, 2e-6);
        CHECK(!wrong, "%s: %s", r.line, wrong);
        random_mqa_free(&r);
    }
}

int main(void)
{
    RUN(test_random_problems);
    return harness_end();
}
