// SPDX-License-Identifier: MIT
// test_check_quantize.c - every rule of quantisation and its inverse, broken one at a time.
#include "../harness.h"
#include "recorder.h"

enum { ROWS = 130, COLUMNS = 300, POISON = 0xa5 };

static _Alignas(256) unsigned char x_bytes[8 * ROWS * COLUMNS], q_bytes[2 * ROWS * COLUMNS];
static _Alignas(256) unsigned char scale_bytes[8 * ROWS * COLUMNS];
static dg_context *context;

typedef dg_status (*quantize_function)(dg_context *, const struct dg_tensor *,
                                       const struct dg_tensor *, const struct dg_tensor *,
                                       dg_scale_rounding, void *);

struct call {
    quantize_function function;
    const char *name;
    struct dg_tensor x, q, scales;
    dg_scale_rounding rounding;
    bool x_null, q_null, scales_null, context_null;
};

static struct call good(void)
{
    return (struct call){
        .function = dg_quantize_per_token,
        .name = "dg_quantize_per_token",
        .x = dg_matrix(x_bytes, DG_F32, ROWS, COLUMNS),
        .q = dg_matrix(q_bytes, DG_E4M3, ROWS, COLUMNS),
        .scales = dg_matrix(scale_bytes, DG_F32, ROWS, 3),
    };
}

static dg_status run(const struct call *t)
{
    return t->function(t->context_null ? NULL : context, t->x_null ? NULL : &t->x,
                       t->q_null ? NULL : &t->q, t->scales_null ? NULL : &t->scales, t->rounding,
                       (void *)(uintptr_t)0x33);
}

static void poison(void)
{
    memset(q_bytes, POISON, sizeof q_bytes);
    memset(scale_bytes, POISON, sizeof scale_bytes);
    memset(x_bytes, POISON, sizeof x_bytes);
}

static int is_poisoned(void)
{
    for (size_t i = 0; i < sizeof x_bytes; i++)
        if (x_bytes[i] != POISON || scale_bytes[i] != POISON ||
            q_bytes[i < sizeof q_bytes ? i : 0] != POISON)
            return 0;
    return 1;
}

#define CHECK_REFUSED(call, name, expected, ...)                                                   \
    do {                                                                                           \
        poison();                                                                                  \
        int before = recorded.quantizes + recorded.dequantizes;                                    \
        dg_status refused_status = call;                                                           \
        CHECK(refused_status == (expected), "%s, not " #expected ": %s",                           \
              dg_status_name(refused_status), dg_last_error());                                    \
        CHECK(error_has(TEXTS(name, __VA_ARGS__)), "one of " #__VA_ARGS__ " is not in `%s`",       \
              dg_last_error());                                                                    \
        CHECK(recorded.quantizes + recorded.dequantizes == before, "the backend was called");      \
        CHECK(is_poisoned(), "an output was written");                                             \
    } while (0)

#define BREAK(change, ...)                                                                         \
    do {                                                                                           \
        struct call t = good();                                                                    \
        change;                                                                                    \
        CHECK_REFUSED(run(&t), t.name, DG_INVALID_ARGUMENT, __VA_ARGS__);                          \
    } while (0)

static void test_null_arguments(void)
{
    BREAK(t.context_null = true, "context is NULL");
    BREAK(t.x_null = true, "x is NULL");
    BREAK(t.q_null = true, "q is NULL");
    BREAK(t.scales_null = true, "scales is NULL");
    BREAK(t.x.data = NULL, "x.data is NULL", "[130, 300]");
    BREAK(t.q.data = NULL, "q.data is NULL", "[130, 300]");
    BREAK(t.scales.data = NULL, "scales.data is NULL", "[130, 3]");
}

static void test_types_ranks_and_sizes(void)
{
    BREAK(t.x.type = DG_E4M3, "x.type = e4m3", "must be bf16 or f32");
    BREAK(t.x.type = DG_F64, "x.type = f64", "must be bf16 or f32");
    BREAK(t.q.type = DG_F32, "q.type = f32", "must be e4m3");
    BREAK(t.scales.type = DG_BF16, "scales.type = bf16", "must be f32 or ue8m0x4");
    BREAK(t.x.rank = 1, "x.rank = 1", "must be 2");
    BREAK(t.q.rank = 3, "q.rank = 3", "must be 2");
    BREAK(t.scales.rank = 0, "scales.rank = 0", "must be 2");
    BREAK(t.x.shape[0] = -1, "x.shape[0] = -1", "negative");
    BREAK(t.x.stride[0] = -1, "x.stride[0] = -1", "negative");
    BREAK(t.q.shape[1] = 299, "q.shape = [130, 299]", "must be [130, 300]", "shape of x");
    BREAK(t.x.shape[0] = INT64_MAX, "x: shape [9223372036854775807, 300]", "64-bit");
    BREAK(t.scales.data = scale_bytes + 2, "scales.data", "multiple of 4 bytes");
}

static void test_strides_of_outputs(void)
{
    BREAK(t.x.stride[1] = 2, "x.stride = [300, 2]", "one of the two strides must be 1");
    BREAK(t.q.stride[1] = 2, "q.stride = [300, 2]", "one of the two strides must be 1");
    BREAK(t.q.stride[0] = 299, "q.stride = [299, 1]", "must not overlap", "larger stride");
    BREAK(t.q.stride[0] = 0, "q.stride = [0, 1]", "must not overlap", "a stride is 0");
    BREAK((t.q.stride[0] = 1, t.q.stride[1] = 129), "q.stride = [1, 129]", "must not overlap");
    BREAK(t.scales.stride[0] = 0, "scales.stride = [0, 1]", "must not overlap", "a stride is 0");
    BREAK(t.scales.stride[1] = 0, "scales.stride = [3, 0]", "must not overlap", "a stride is 0");
    BREAK(t.scales.stride[0] = 2, "scales.stride = [2, 1]", "must not overlap");
    BREAK((t.scales.stride[0] = 1, t.scales.stride[1] = 129), "scales.stride = [1, 129]",
          "must not overlap");
}

static void test_shapes_of_scales(void)
{
    BREAK(t.scales = dg_matrix(scale_bytes, DG_F32, ROWS, 2), "scales.shape = [130, 2]",
          "must be [130, 3]", "x has shape [130, 300] in blocks of 1 x 128");
    BREAK((t.function = dg_quantize_per_channel, t.name = "dg_quantize_per_channel"),
          "scales.shape = [130, 3]", "must be [2, 300]", "blocks of 128 x 1");
    BREAK((t.function = dg_quantize_per_block, t.name = "dg_quantize_per_block"),
          "scales.shape = [130, 3]", "must be [2, 3]", "blocks of 128 x 128");
    BREAK((t.scales.type = DG_UE8M0X4, t.rounding = DG_SCALE_POWER_OF_TWO),
          "scales.shape = [130, 3]", "must be [130, 1]", "four scales along the second dimension");
    BREAK((t.function = dg_quantize_per_channel, t.name = "dg_quantize_per_channel",
           t.scales = dg_matrix(scale_bytes, DG_UE8M0X4, 2, COLUMNS),
           t.rounding = DG_SCALE_POWER_OF_TWO),
          "scales.shape = [2, 300]", "must be [1, 300]", "four scales along the first dimension");
}

static void test_rounding(void)
{
    BREAK(t.rounding = (dg_scale_rounding)2, "rounding = 2", "DG_SCALE_POWER_OF_TWO");
    BREAK(t.rounding = (dg_scale_rounding)-1, "rounding = -1", "DG_SCALE_EXACT");
    BREAK(t.scales = dg_matrix(scale_bytes, DG_UE8M0X4, ROWS, 1), "ue8m0x4", "DG_SCALE_EXACT",
          "DG_SCALE_POWER_OF_TWO");
}

static void test_outputs_that_overlap(void)
{
    BREAK(t.q.data = x_bytes, "q.data = ", "x.data = ", "must not overlap");
    BREAK(t.q.data = x_bytes + 4 * ROWS * COLUMNS - 1, "q.data = ", "x.data = ");
    BREAK(t.scales.data = x_bytes + 4, "scales.data = ", "x.data = ");
    BREAK(t.scales.data = q_bytes + 4, "scales.data = ", "q.data = ");
    // Rows of 1200 bytes in steps of 1300: the last byte of a q row of 101 meets the next x row.
    BREAK((t.x = dg_matrix_strided(x_bytes, DG_F32, 4, COLUMNS, 325),
           t.q = dg_matrix_strided(x_bytes + 1200 - 199, DG_E4M3, 4, COLUMNS, 1300),
           t.scales = dg_matrix(scale_bytes, DG_F32, 4, 3)),
          "q.data = ", "x.data = ");
}

static void test_interleaved_rows_do_not_overlap(void)
{
    enum { STEP = 4 * COLUMNS + COLUMNS + 12 }; // a row of x, of q, and its scales
    struct call t = good();
    t.x = dg_matrix_strided(x_bytes, DG_F32, ROWS, COLUMNS, STEP / 4);
    t.q = dg_matrix_strided(x_bytes + 4 * COLUMNS, DG_E4M3, ROWS, COLUMNS, STEP);
    t.scales = dg_matrix_strided(x_bytes + 5 * COLUMNS, DG_F32, ROWS, 3, STEP / 4);
    CHECK(run(&t) == DG_OK, "%s", dg_last_error());
    t.scales.data = x_bytes + 5 * COLUMNS + 4;
    CHECK_REFUSED(run(&t), t.name, DG_INVALID_ARGUMENT, "scales.data", "x.data");
    t.scales.data = x_bytes + 5 * COLUMNS - 4;
    CHECK_REFUSED(run(&t), t.name, DG_INVALID_ARGUMENT, "scales.data", "q.data");
}

// The judgement on overlap against a map of bytes, on random small layouts.
static uint32_t random_state = 99;
static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * limit) >> 32);
}

static int marks(unsigned char *map, const struct dg_tensor *t, unsigned char mark)
{
    int met = 0;
    size_t bytes = dg_type_bytes(t->type);
    for (int64_t r = 0; r < t->shape[0]; r++)
        for (int64_t c = 0; c < t->shape[1]; c++)
            for (size_t b = 0; b < bytes; b++) {
                unsigned char *at = map + ((unsigned char *)t->data - x_bytes) +
                                    (size_t)(r * t->stride[0] + c * t->stride[1]) * bytes + b;
                met |= *at && *at != mark;
                *at = mark;
            }
    return met;
}

static void test_overlap_is_judged_exactly(void)
{
    static unsigned char map[8192];
    int refused = 0, accepted = 0;
    for (int i = 0; i < 30000; i++) {
        struct call t = good();
        int64_t rows = 1 + random_below(5), columns = 1 + random_below(9);
        t.x = dg_matrix_strided(x_bytes + 4 * random_below(60), DG_F32, rows, columns,
                                columns + random_below(12));
        t.q = dg_matrix_strided(x_bytes + random_below(300), DG_E4M3, rows, columns,
                                columns + random_below(60));
        if (random_below(4) == 0) { // columns side by side
            t.q.stride[0] = 1;
            t.q.stride[1] = rows + random_below(40);
        }
        t.scales = dg_matrix_strided(x_bytes + 4 * random_below(80), DG_F32, rows, 1,
                                     1 + random_below(20));
        memset(map, 0, sizeof map);
        int met = marks(map, &t.x, 1) | marks(map, &t.q, 2) | marks(map, &t.scales, 3);
        dg_status status = run(&t);
        CHECK((status == DG_INVALID_ARGUMENT) == met, "%s", met ? "missed" : dg_last_error());
        refused += met, accepted += !met;
    }
    CHECK(refused > 1000 && accepted > 1000, "%d refused, %d accepted", refused, accepted);
}

static void test_what_the_backend_sees(void)
{
    struct call t = good();
    CHECK(run(&t) == DG_OK, "%s", dg_last_error());
    const struct dg_quantize_args *g = &recorded.quantize;
    CHECK(g->rows == ROWS && g->columns == COLUMNS && g->block_rows == 1 && g->block_columns == 128,
          "sizes");
    CHECK(g->x.row_stride == COLUMNS && g->q.row_stride == COLUMNS && g->scales.row_stride == 3,
          "strides");
    CHECK(!g->pack_rows && g->x_type == DG_F32 && g->scale_type == DG_F32, "types");
    CHECK(g->stream == (void *)(uintptr_t)0x33, "stream");

    t.function = dg_quantize_per_channel;
    t.scales = dg_transposed(dg_matrix(scale_bytes, DG_UE8M0X4, COLUMNS, 1));
    t.rounding = DG_SCALE_POWER_OF_TWO;
    t.x.type = DG_BF16;
    CHECK(run(&t) == DG_OK, "%s", dg_last_error());
    CHECK(g->block_rows == 128 && g->block_columns == 1 && g->pack_rows, "per channel");
    CHECK(g->scale_type == DG_UE8M0X4 && g->rounding == DG_SCALE_POWER_OF_TWO, "scales");
    CHECK(g->x_type == DG_BF16 && g->scales.column_stride == 1, "x and scales");

    t.function = dg_quantize_per_block;
    t.scales = dg_transposed(dg_matrix(scale_bytes, DG_F32, 3, 2));
    CHECK(run(&t) == DG_OK, "%s", dg_last_error());
    CHECK(g->block_rows == 128 && g->block_columns == 128 && !g->pack_rows, "per block");
    CHECK(g->scales.row_stride == 1 && g->scales.column_stride == 2, "scales of blocks");
}

static void test_empty_matrices_need_no_data(void)
{
    struct call t = good();
    int before = recorded.quantizes;
    t.x = dg_matrix(NULL, DG_F32, 0, COLUMNS);
    t.q = dg_matrix(NULL, DG_E4M3, 0, COLUMNS);
    t.scales = dg_matrix(NULL, DG_F32, 0, 3);
    CHECK(run(&t) == DG_OK, "%s", dg_last_error());
    CHECK(recorded.quantizes == before, "the backend was called");
}

// --- back ---

struct back {
    struct dg_scaled q;
    struct dg_tensor x;
};

static struct back good_back(void)
{
    return (struct back){
        {dg_matrix(q_bytes, DG_E4M3, ROWS, COLUMNS), dg_matrix(scale_bytes, DG_F32, 2, 3), 128,
         128},
        dg_matrix(x_bytes, DG_BF16, ROWS, COLUMNS),
    };
}

#define BREAK_BACK(change, ...)                                                                    \
    do {                                                                                           \
        struct back t = good_back();                                                               \
        change;                                                                                    \
        CHECK_REFUSED(dg_dequantize(context, &t.q, &t.x, NULL), "dg_dequantize",                   \
                      DG_INVALID_ARGUMENT, __VA_ARGS__);                                           \
    } while (0)

static void test_rules_of_dequantisation(void)
{
    struct back good_one = good_back();
    CHECK_REFUSED(dg_dequantize(NULL, &good_one.q, &good_one.x, NULL), "dg_dequantize",
                  DG_INVALID_ARGUMENT, "context is NULL");
    CHECK_REFUSED(dg_dequantize(context, NULL, &good_one.x, NULL), "dg_dequantize",
                  DG_INVALID_ARGUMENT, "q is NULL");
    CHECK_REFUSED(dg_dequantize(context, &good_one.q, NULL, NULL), "dg_dequantize",
                  DG_INVALID_ARGUMENT, "x is NULL");
    BREAK_BACK(t.q.values.type = DG_BF16, "q.values.type = bf16", "must be e4m3");
    BREAK_BACK(t.q.values.stride[1] = 3, "q.values.stride = [300, 3]", "must be 1");
    BREAK_BACK(t.q.scales.type = DG_I32, "q.scales.type = i32", "must be f32 or ue8m0x4");
    BREAK_BACK(t.q.block_rows = 64, "q.block_rows x q.block_columns = 64 x 128",
               "1 x 128, 128 x 1 or 128 x 128");
    BREAK_BACK((t.q.block_rows = 1, t.q.block_columns = 1), "1 x 1:");
    BREAK_BACK(t.q.block_rows = 1, "q.scales.shape = [2, 3]", "must be [130, 3]",
               "q.values has shape [130, 300] in blocks of 1 x 128");
    BREAK_BACK(t.x.type = DG_F64, "x.type = f64", "must be bf16 or f32");
    BREAK_BACK(t.x.shape[0] = 131, "x.shape = [131, 300]", "must be [130, 300]");
    BREAK_BACK(t.x.stride[0] = 299, "x.stride = [299, 1]", "must not overlap");
    BREAK_BACK(t.x.data = q_bytes + 2, "q.values.data = ", "x.data = ", "must not overlap");
    BREAK_BACK(t.x.data = scale_bytes + 8, "q.scales.data = ", "x.data = ", "must not overlap");
}

static void test_what_dequantisation_sees(void)
{
    struct back t = good_back();
    CHECK(dg_dequantize(context, &t.q, &t.x, NULL) == DG_OK, "%s", dg_last_error());
    const struct dg_quantize_args *g = &recorded.quantize;
    CHECK(recorded.dequantizes == 1 && g->block_rows == 128 && g->block_columns == 128, "blocks");
    CHECK(g->x_type == DG_BF16 && g->x.data == x_bytes && g->q.data == q_bytes, "operands");
    t.q.block_columns = 1;
    t.q.scales = dg_matrix_strided(scale_bytes, DG_UE8M0X4, 1, COLUMNS, 999);
    CHECK(dg_dequantize(context, &t.q, &t.x, NULL) == DG_OK, "%s", dg_last_error());
    CHECK(g->pack_rows && g->scale_type == DG_UE8M0X4, "per channel packs along rows");
    t.q.scales.stride[1] = 0; // inputs may share a scale
    CHECK(dg_dequantize(context, &t.q, &t.x, NULL) == DG_OK, "%s", dg_last_error());
}

static void test_a_backend_without_quantisation_says_so(void)
{
    struct dg_backend lean = recorder_backend;
    lean.quantize = NULL, lean.dequantize = NULL;
    const struct dg_backend *usual = context->backend;
    struct call t = good();
    struct back b = good_back();
    context->backend = &lean;
    dg_status forth = run(&t);
    int forth_says = error_has(TEXTS("recorder backend does not quantise", "cpu"));
    dg_status back = dg_dequantize(context, &b.q, &b.x, NULL);
    context->backend = usual;
    CHECK(forth == DG_UNSUPPORTED && forth_says, "%s", dg_last_error());
    CHECK(back == DG_UNSUPPORTED && error_has(TEXTS("does not dequantise")), "%s", dg_last_error());
}

int main(void)
{
    context = recorder_context(DG_DEVICE_CPU);
    RUN(test_null_arguments);
    RUN(test_types_ranks_and_sizes);
    RUN(test_strides_of_outputs);
    RUN(test_shapes_of_scales);
    RUN(test_rounding);
    RUN(test_outputs_that_overlap);
    RUN(test_interleaved_rows_do_not_overlap);
    RUN(test_overlap_is_judged_exactly);
    RUN(test_what_the_backend_sees);
    RUN(test_empty_matrices_need_no_data);
    RUN(test_rules_of_dequantisation);
    RUN(test_what_dequantisation_sees);
    RUN(test_a_backend_without_quantisation_says_so);
    dg_context_destroy(context);
    return harness_end();
}
