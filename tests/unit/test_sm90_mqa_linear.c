// SPDX-License-Identifier: MIT
// test_sm90_mqa_linear.c - the vectors that take the place of relus in plain MQA logits (sm90_mqa_linear.cuh), made here
// with the lanes of the device code as coroutines (lanes_async.h): four E4M3 vectors against sums in double, at
// the places where the products read them.  For one depth; others include this file.
#ifndef DG_DEPTH
#define DG_DEPTH 128
#endif
#include "../harness.h"
#include "../random_mqa.h"

#include <assert.h>

#define LANES_ROW_BYTES DG_DEPTH
#define LANES_COLUMNS 136
#include "../lanes_async.h"

#define DG_SM90_MQA_PTX_CUH // its instructions are in lanes_async.h
#define DG_HEAD_ROWS 16
#define DG_PIECES 2
#define DG_LINEAR_ROWS 1
#define DG_LANES 1
#define DG_LOGITS_BF16 0
#define DG_MATH_GROUPS 3
#define DG_MATH_REGISTERS 152
#define DG_LOAD_REGISTERS 56
#define DG_NUM_STAGES 12
#define DG_Q_SLOTS 3
#define DG_ENTRY unused
#pragma GCC diagnostic ignored "-Wunused-function"

#include "backend/sm90/sm90_mqa_linear.cuh"

static struct columns columns_of(const struct dg_sm90_mqa_args *args, int row)
{
    return (struct columns){0, 0};
}

// ---- a quad of queries ------------------------------------------------------------------------------

enum { QUERY_HEADS = 2 * HEAD_ROWS, ALL_Q_BYTES = HEADS_BYTES + 2 * LINEAR_BYTES, STYLES = 6 };
static struct {
    char q[ALL_Q_BYTES] __attribute__((aligned(1024)));
    char weights[WEIGHT_BYTES];
} shared, before;
static uint64_t state;

// Where TMA puts byte `byte` of row `row` of eight: 16-byte pieces change places within 128 bytes.
static int place(int row, int byte)
{
    const int per_line = 128 / DG_DEPTH, piece = byte / 16;
    return row * DG_DEPTH + ((piece ^ row / per_line % (DG_DEPTH / 16)) * 16) + byte % 16;
}

static uint8_t value_at(int query, int head, int byte)
{
    const int column = 2 * query + head % 2;
    return (uint8_t)shared.q[LINEAR_BYTES * (1 + head / 2) + place(column, byte)];
}

static uint8_t part_at(int query, int part, int byte)
{
    const int at = part < 2 ? 0 : LINEAR_BYTES + HEADS_BYTES;
    return (uint8_t)shared.q[at + place(2 * query + part % 2, byte)];
}

static float *weight_of(int query, int head)
{
    return (float *)(void *)(shared.weights + (query * LANE_WEIGHTS + head) * 4);
}

static float draw_weight(int style, int head)
{
    const float value = mqa_float(&state, -5, 1) * (random_next(&state) % 2 ? 1.0f : -1.0f);
    switch (style) {
    case 1:
        return value * 0x1p90f;
    case 2:
        return value * 0x1p-100f;
    case 3:
        return 0;
    case 4:
        return head == 7 ? value * 0x1p20f : value;
    default:
        return value;
    }
}

static void make_quad(void)
{
    const int code_style = (int)random_range(&state, 0, 2);
    memset(&shared, 0xff, sizeof shared);
    for (int i = 0; i < HEADS_BYTES; i++)
        shared.q[LINEAR_BYTES + i] = (char)random_code(&state, code_style);
    for (int query = 0; query < 4; query++) {
        const int style = (int)random_range(&state, 0, STYLES - 1);
        for (int head = 0; head < QUERY_HEADS; head++)
            *weight_of(query, head) = draw_weight(style, head);
    }
    before = shared;
}

static void write_as_thread(void)
{
    const u32 query = threadIdx.x / 32;
    write_linear(0, (u32)(shared.weights - shared.q) + query * (LANE_WEIGHTS * 4), query);
}

static bool run_quad(void)
{
    lanes_shared = shared.q;
    return lanes_run(128, write_as_thread);
}

// What the parts stand for: 17 bits of each element, and 2^-29 of the largest.
static bool check_vector(int query)
{
    const double scale = *weight_of(query, QUERY_HEADS);
    double exact[DG_DEPTH] = {0}, terms[DG_DEPTH] = {0}, most = 0;
    for (int d = 0; d < DG_DEPTH; d++) {
        for (int head = 0; head < QUERY_HEADS; head++) {
            const double term =
                (double)*weight_of(query, head) * random_value(value_at(query, head, d));
            exact[d] += term;
            terms[d] += fabs(term);
        }
        most = fmax(most, fabs(exact[d]));
    }
    for (int d = 0; d < DG_DEPTH; d++) {
        double got = 0;
        for (int part = 0; part < LINEAR_PARTS; part++)
            got += scale * ldexp(random_value(part_at(query, part, d)), -4 * part);
        const double allowed = ldexp(fabs(exact[d]), -17) + ldexp(most, -29) + ldexp(terms[d], -20);
        if (!(fabs(got - exact[d]) <= allowed))
            return false;
    }
    return true;
}

// Nothing but the vectors and their scales has been written.
static bool check_rest(void)
{
    return !memcmp(shared.q + LINEAR_BYTES, before.q + LINEAR_BYTES, HEADS_BYTES) &&
           !memcmp(weight_of(3, QUERY_HEADS + 1),
                   (char *)weight_of(3, QUERY_HEADS + 1) - (char *)&shared + (char *)&before, 12);
}

static void test_parts_add_up_to_the_weighted_sum(void)
{
    const int count = harness_scaled(40);
    for (int seed = 1; seed <= count; seed++) {
        state = (uint64_t)seed * 2 + 1;
        make_quad();
        CHECK(run_quad(), "seed %d: the lanes of a warp went apart", seed);
        for (int query = 0; query < 4; query++)
            CHECK(check_vector(query), "seed %d, query %d", seed, query);
        CHECK(check_rest(), "seed %d: something else was written", seed);
    }
}

// The scale says so; other queries do not notice.
static void test_weights_that_are_not_finite(void)
{
    const float bad[] = {INFINITY, -INFINITY, NAN};
    for (int i = 0; i < 3; i++) {
        state = (uint64_t)i * 2 + 1;
        make_quad();
        *weight_of(i, 5) = bad[i];
        for (int d = 0; d < DG_DEPTH; d++) // some value must not be zero
            shared.q[LINEAR_BYTES * 3 + place(2 * i + 1, d)] = 0x38;
        CHECK(run_quad(), "%d: the lanes of a warp went apart", i);
        for (int query = 0; query < 4; query++)
            CHECK(query == i ? isnan(*weight_of(query, QUERY_HEADS)) : check_vector(query),
                  "%d: query %d", i, query);
    }
}

int main(void)
{
    RUN(test_parts_add_up_to_the_weighted_sum);
    RUN(test_weights_that_are_not_finite);
    return harness_end();
}
