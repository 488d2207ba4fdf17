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

#include "../lanes_mqa.h"

// ---- a problem --------------------------------------------------------------------------------------

static void draw_problem(struct random_mqa *r, uint64_t seed)
{
    random_mqa_draw(r, seed);
    uint64_t *state = &r->state;
    r->is_paged = 0;
    r->heads = (int)random_range(state, LEAST_HEADS, 2 * HEAD_ROWS);
    r->depth = lanes_mqa_depth(state);
    r->logits_type = DG_LOGITS_BF16 ? DG_BF16 : DG_F32;
    r->rows = random_range(state, 1, 11);
    r->num_kv = seed % 4 ? random_range(state, 1, 300) : random_range(state, 1500, 2500);
    r->columns = r->flags & DG_MQA_COMPRESSED ? random_range(state, 1, 300) : r->num_kv;
    random_mqa_make(r);
}

static void set_arguments(const struct random_mqa *r, void *const *base)
{
    lanes_mqa_arguments(r, base);
    args.scales = base[MQA_SCALES];
    args.starts = base[MQA_STARTS];
    args.ends = base[MQA_ENDS];
    args.num_kv = (int)r->num_kv;
    args.is_compressed = (r->flags & DG_MQA_COMPRESSED) != 0;
    maps.kv = lanes_encode(&(struct lanes_map){
        .data = base[MQA_KV],
        .stride = {1, r->depth},
        .shape = {r->depth, args.num_kv},
        .box = {DG_DEPTH, STAGE_KEYS},
        .swizzle = DG_DEPTH,
    });
}

static void test_random_problems(void)
{
    const int count = harness_scaled(30);
    for (int seed = 1; seed <= count; seed++) {
        struct random_mqa r;
        void *base[MQA_BUFFERS];
        draw_problem(&r, (uint64_t)seed);
        random_mqa_host(&r, base);
        set_arguments(&r, base);
        const char *wrong = lanes_mqa_try(&r, 1 + (unsigned)seed % 3, 2e-5);
        CHECK(!wrong, "%s: %s", r.line, wrong);
        random_mqa_free(&r);
    }
}

int main(void)
{
    RUN(test_random_problems);
    return harness_end();
}
