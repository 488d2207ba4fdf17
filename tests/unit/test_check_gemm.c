// SPDX-License-Identifier: MIT
// test_check_gemm.c - every rule of a GEMM call, broken one at a time: the call is refused, the text
// names the argument, its value and the rule, no backend is reached and no output byte changes.
#include "../harness.h"
#include "recorder.h"

#include <limits.h>
#include <stdlib.h>

enum { M = 5, N = 131, K = 260, KB = 3, NB = 2, POISON = 0xa5 };

static _Alignas(256) unsigned char a_bytes[M * K], b_bytes[N * K], sf_bytes[2][4 * N * KB];
static _Alignas(256) unsigned char d_bytes[8 * M * N], c_bytes[8 * M * N], workspace[4096];
static dg_context *context;

struct call {
    dg_op op;
    struct dg_scaled a, b;
    struct dg_tensor d, c;
    bool has_c, has_options;
    struct dg_gemm_options options;
    bool a_null, b_null, d_null, context_null;
};

// A correct call of M x N x K, without gaps, as the letters of `op` say.
static struct call good(dg_op op)
{
    const struct dg_op_facts *facts = dg_problem_op(op);
    struct call t = {.op = op, .options = DG_GEMM_OPTIONS};
    t.a.values = dg_matrix(a_bytes, DG_E4M3, M, K);
    t.a.scales = dg_matrix(sf_bytes[0], DG_F32, M, KB);
    t.a.block_rows = 1, t.a.block_columns = 128;
    t.b.values = dg_matrix(b_bytes, DG_E4M3, N, K);
    t.b.scales = dg_matrix(sf_bytes[1], DG_F32, NB, KB);
    t.b.block_rows = 128, t.b.block_columns = 128;
    if (facts->a_transposed) {
        t.a.values = dg_matrix(a_bytes, DG_E4M3, K, M);
        t.a.scales = dg_matrix(sf_bytes[0], DG_F32, KB, M);
        t.a.block_rows = 128, t.a.block_columns = 1;
    }
    if (facts->b_transposed) {
        t.b.values = dg_matrix(b_bytes, DG_E4M3, K, N);
        t.b.scales = dg_matrix(sf_bytes[1], DG_F32, KB, NB);
    }
    t.d = dg_matrix(d_bytes, DG_BF16, M, N);
    t.c = dg_matrix(c_bytes, DG_BF16, M, N);
    return t;
}

static struct call good_nt(void)
{
    return good(DG_OP_FP8_GEMM_NT);
}

static dg_status run(const struct call *t)
{
    static dg_status (*const functions[])(
        dg_context *, const struct dg_scaled *, const struct dg_scaled *, const struct dg_tensor *,
        const struct dg_tensor *, const struct dg_gemm_options *, void *) = {
        [DG_OP_FP8_GEMM_NT] = dg_fp8_gemm_nt,
        [DG_OP_FP8_GEMM_NN] = dg_fp8_gemm_nn,
        [DG_OP_FP8_GEMM_TN] = dg_fp8_gemm_tn,
        [DG_OP_FP8_GEMM_TT] = dg_fp8_gemm_tt,
    };
    return functions[t->op](t->context_null ? NULL : context, t->a_null ? NULL : &t->a,
                            t->b_null ? NULL : &t->b, t->d_null ? NULL : &t->d,
                            t->has_c ? &t->c : NULL, t->has_options ? &t->options : NULL,
                            (void *)(uintptr_t)0x57);
}

static void poison(void)
{
    memset(d_bytes, POISON, sizeof d_bytes);
    memset(c_bytes, POISON, sizeof c_bytes);
}

static int is_poisoned(void)
{
    for (size_t i = 0; i < sizeof d_bytes; i++)
        if (d_bytes[i] != POISON || c_bytes[i] != POISON)
            return 0;
    return 1;
}

// Refused with this status and all of these texts, and without a trace.
#define REFUSED(t, expected, ...)                                                                  \
    do {                                                                                           \
        poison();                                                                                  \
        int gemms_before = recorded.gemms;                                                         \
        dg_status refused_status = run(&(t));                                                      \
        CHECK(refused_status == (expected), "%s, not " #expected ": %s",                           \
              dg_status_name(refused_status), dg_last_error());                                    \
        CHECK(error_has(TEXTS(dg_problem_op((t).op)->name, __VA_ARGS__)),                          \
              "one of " #__VA_ARGS__ " is not in `%s`", dg_last_error());                          \
        CHECK(recorded.gemms == gemms_before, "the backend was called");                           \
        CHECK(is_poisoned(), "an output was written");                                             \
    } while (0)

#define INVALID(t, ...) REFUSED(t, DG_INVALID_ARGUMENT, __VA_ARGS__)

// Changes a good NT call and expects the refusal.
#define BREAK(change, ...)                                                                         \
    do {                                                                                           \
        struct call t = good_nt();                                                                 \
        change;                                                                                    \
        INVALID(t, __VA_ARGS__);                                                                   \
    } while (0)

#define ACCEPTED(t)                                                                                \
    do {                                                                                           \
        int gemms_before = recorded.gemms;                                                         \
        dg_status accepted_status = run(&(t));                                                     \
        CHECK(accepted_status == DG_OK, "%s", dg_last_error());                                    \
        CHECK(recorded.gemms == gemms_before + 1, "the backend was not called");                   \
    } while (0)

// --- what is refused ---

static void test_null_arguments(void)
{
    BREAK(t.context_null = true, "context is NULL");
    BREAK(t.a_null = true, "a is NULL");
    BREAK(t.b_null = true, "b is NULL");
    BREAK(t.d_null = true, "d is NULL");
    BREAK(t.a.values.data = NULL, "a.values.data is NULL", "[5, 260]");
    BREAK(t.b.values.data = NULL, "b.values.data is NULL", "[131, 260]");
    BREAK(t.a.scales.data = NULL, "a.scales.data is NULL", "[5, 3]");
    BREAK(t.b.scales.data = NULL, "b.scales.data is NULL", "[2, 3]");
    BREAK(t.d.data = NULL, "d.data is NULL", "[5, 131]");
    BREAK((t.has_c = true, t.c.data = NULL), "c.data is NULL", "[5, 131]");
}

static void test_types(void)
{
    BREAK(t.a.values.type = DG_BF16, "a.values.type = bf16", "must be e4m3");
    BREAK(t.b.values.type = DG_TYPE_NONE, "b.values.type = unknown (0)", "must be e4m3");
    BREAK(t.b.values.type = (dg_type)77, "b.values.type = unknown (77)", "must be e4m3");
    BREAK(t.b.values.type = (dg_type)-1, "b.values.type = unknown (-1)");
    BREAK(t.a.scales.type = DG_BF16, "a.scales.type = bf16", "must be f32 or ue8m0x4");
    BREAK(t.b.scales.type = DG_E4M3, "b.scales.type = e4m3", "must be f32 or ue8m0x4");
    BREAK(t.d.type = DG_E4M3, "d.type = e4m3", "must be bf16 or f32 or f64");
    BREAK(t.d.type = DG_F16, "d.type = f16", "must be bf16 or f32");
    BREAK((t.has_c = true, t.c.type = DG_I32), "c.type = i32", "must be bf16 or f32");
    BREAK((t.has_c = true, t.c.type = DG_F32), "c.type = f32", "d.type = bf16", "equal");
    BREAK((t.b.scales = dg_matrix(sf_bytes[1], DG_UE8M0X4, NB, 1)), "b.scales.type = ue8m0x4",
          "a.scales.type = f32", "equal");
}

static void test_f64_output_is_for_the_oracle(void)
{
    struct call t = good_nt();
    t.d = dg_matrix(d_bytes, DG_F64, M, N);
    REFUSED(t, DG_UNSUPPORTED, "d.type = f64", "oracle", "recorder");
}

static void test_ranks_and_sizes(void)
{
    BREAK(t.a.values.rank = 3, "a.values.rank = 3", "must be 2");
    BREAK(t.b.values.rank = 0, "b.values.rank = 0", "must be 2");
    BREAK(t.a.scales.rank = 1, "a.scales.rank = 1", "must be 2");
    BREAK(t.d.rank = -1, "d.rank = -1", "must be 2");
    BREAK((t.has_c = true, t.c.rank = 4), "c.rank = 4", "must be 2");
    BREAK(t.a.values.shape[0] = -5, "a.values.shape[0] = -5", "negative");
    BREAK(t.b.values.shape[1] = -260, "b.values.shape[1] = -260", "negative");
    BREAK(t.a.scales.shape[0] = INT64_MIN, "a.scales.shape[0] = -9223372036854775808", "negative");
    BREAK(t.d.shape[1] = -1, "d.shape[1] = -1", "negative");
}

static void test_sizes_that_disagree(void)
{
    BREAK(t.b.values = dg_matrix(b_bytes, DG_E4M3, N, 256), "b.values.shape = [131, 256] ([n, k])",
          "k = 256", "a.values.shape = [5, 260] ([m, k])", "k = 260");
    BREAK(t.d = dg_matrix(d_bytes, DG_BF16, M + 1, N), "d.shape = [6, 131]", "must be [5, 131]",
          "a.values", "b.values");
    BREAK(t.d = dg_matrix(d_bytes, DG_BF16, M, N - 1), "d.shape = [5, 130]", "must be [5, 131]");
    BREAK((t.has_c = true, t.c = dg_matrix(c_bytes, DG_BF16, N, M)), "c.shape = [131, 5]",
          "must be [5, 131]", "shape of d");
    struct call t = good(DG_OP_FP8_GEMM_TN);
    t.b.values = dg_matrix(b_bytes, DG_E4M3, K - 1, N);
    INVALID(t, "b.values.shape = [259, 131] ([k, n])", "k = 259",
            "a.values.shape = [260, 5] ([k, m])", "k = 260");
}

static void test_strides(void)
{
    BREAK(t.a.values.stride[0] = -260, "a.values.stride[0] = -260", "negative");
    BREAK(t.b.values.stride[1] = -1, "b.values.stride[1] = -1", "negative");
    BREAK(t.b.scales.stride[0] = -3, "b.scales.stride[0] = -3", "negative");
    BREAK(t.a.scales.stride[1] = -1, "a.scales.stride[1] = -1", "negative");
    BREAK(t.d.stride[0] = -131, "d.stride[0] = -131", "negative");
    BREAK((t.has_c = true, t.c.stride[0] = -1), "c.stride[0] = -1", "negative");
    BREAK(t.a.values.stride[1] = 2, "a.values.stride = [260, 2]",
          "one of the two strides must be 1");
    BREAK(t.b.values.stride[1] = 0, "b.values.stride = [260, 0]",
          "one of the two strides must be 1");
    BREAK(t.d = dg_transposed(dg_matrix(d_bytes, DG_BF16, N, M)), "d.stride = [1, 5]",
          "last stride of an output must be 1");
    BREAK(t.d.stride[1] = 2, "d.stride = [131, 2]", "last stride of an output must be 1");
    BREAK(t.d.stride[0] = 130, "d.stride = [130, 1]", "[5, 131]",
          "rows of an output must not overlap");
    BREAK(t.d.stride[0] = 0, "d.stride = [0, 1]", "rows of an output must not overlap");
}

static void test_extents_beyond_64_bits(void)
{
    const int64_t huge = INT64_MAX;
    BREAK(t.a.values.stride[0] = huge, "a.values: shape [5, 260]", "9223372036854775807",
          "64-bit addresses");
    BREAK(t.a.values.shape[0] = huge, "a.values: shape [9223372036854775807, 260]");
    BREAK((t.a.values.shape[0] = huge, t.a.values.stride[0] = 0),
          "a.values: shape [9223372036854775807, 260]", "64-bit");
    BREAK((t.a.values.shape[0] = (int64_t)1 << 32, t.a.values.shape[1] = (int64_t)1 << 32),
          "a.values: shape [4294967296, 4294967296]");
    BREAK((t.b.scales.stride[0] = huge / 2), "b.scales: shape [2, 3]", "64-bit");
    BREAK(t.d.stride[0] = huge / 4, "d: shape [5, 131]", "64-bit");
    BREAK(t.d.stride[0] = huge / 5, "d: shape [5, 131]", "64-bit"); // elements fit, bytes do not
    BREAK((t.has_c = true, t.c.stride[1] = huge / 64), "c: shape [5, 131]", "64-bit");
    BREAK(t.a.values.data = (void *)(UINTPTR_MAX - 8), "a.values: shape [5, 260]", "64-bit");

    struct call t = good_nt(); // every tensor fits, m * n does not
    t.a.values = dg_matrix_strided(a_bytes, DG_E4M3, (int64_t)1 << 33, 1, 0);
    t.a.scales = dg_matrix_strided(sf_bytes[0], DG_F32, (int64_t)1 << 33, 1, 0);
    t.b.values = dg_matrix_strided(b_bytes, DG_E4M3, (int64_t)1 << 33, 1, 0);
    t.b.scales = dg_matrix_strided(sf_bytes[1], DG_F32, (int64_t)1 << 26, 1, 0);
    t.d = dg_matrix(d_bytes, DG_BF16, (int64_t)1 << 33, (int64_t)1 << 33);
    INVALID(t, "d: shape [8589934592, 8589934592]", "64-bit");
}

static void test_data_alignment(void)
{
    BREAK(t.a.scales.data = sf_bytes[0] + 1, "a.scales.data = ", "multiple of 4 bytes for f32");
    BREAK(t.b.scales.data = sf_bytes[1] + 2, "b.scales.data = ", "multiple of 4 bytes for f32");
    BREAK(t.d.data = d_bytes + 1, "d.data = ", "multiple of 2 bytes for bf16");
    BREAK((t.has_c = true, t.c.data = c_bytes + 1), "c.data = ", "multiple of 2 bytes for bf16");
    BREAK(t.d = dg_matrix(d_bytes + 2, DG_F32, M, N), "d.data = ", "multiple of 4 bytes for f32");
}

static void test_blocks_of_scales(void)
{
    BREAK(t.a.block_rows = 128, "a.block_rows x a.block_columns = 128 x 128", "must be 1 x 128");
    BREAK(t.a.block_columns = 64, "1 x 64", "must be 1 x 128", "k last");
    BREAK(t.a.block_columns = 0, "1 x 0", "must be 1 x 128");
    BREAK(t.a.block_columns = -128, "1 x -128", "must be 1 x 128");
    BREAK(t.b.block_rows = 64, "b.block_rows x b.block_columns = 64 x 128", "128 x 128 or 1 x 128");
    BREAK(t.b.block_columns = 1, "128 x 1:", "128 x 128 or 1 x 128");
    BREAK((t.b.block_rows = 0, t.b.block_columns = 0), "0 x 0");
    struct call t = good(DG_OP_FP8_GEMM_TT);
    t.a.block_rows = 1, t.a.block_columns = 128;
    INVALID(t, "a.block_rows x a.block_columns = 1 x 128", "must be 128 x 1", "k first");
    t = good(DG_OP_FP8_GEMM_NN);
    t.b.block_rows = 1;
    INVALID(t, "b.block_rows x b.block_columns = 1 x 128", "128 x 128 or 128 x 1", "k first");
}

static void test_shapes_of_scales(void)
{
    BREAK(t.a.scales = dg_matrix(sf_bytes[0], DG_F32, M, 2), "a.scales.shape = [5, 2]",
          "must be [5, 3]", "a.values has shape [5, 260] in blocks of 1 x 128");
    BREAK(t.a.scales = dg_matrix(sf_bytes[0], DG_F32, 1, KB), "a.scales.shape = [1, 3]",
          "must be [5, 3]");
    BREAK(t.b.scales = dg_matrix(sf_bytes[1], DG_F32, KB, NB), "b.scales.shape = [3, 2]",
          "must be [2, 3]", "b.values has shape [131, 260] in blocks of 128 x 128");
    BREAK(t.b.block_rows = 1, "b.scales.shape = [2, 3]", "must be [131, 3]", "blocks of 1 x 128");
    struct call t = good(DG_OP_FP8_GEMM_TN);
    t.a.scales = dg_matrix(sf_bytes[0], DG_F32, M, KB);
    INVALID(t, "a.scales.shape = [5, 3]", "must be [3, 5]",
            "a.values has shape [260, 5] in blocks of 128 x 1");
}

static void test_shapes_of_packed_scales(void)
{
    BREAK(t.a.scales = dg_matrix(sf_bytes[0], DG_UE8M0X4, M, KB), "a.scales.shape = [5, 3]",
          "must be [5, 1]", "four scales along the second dimension");
    struct call t = good(DG_OP_FP8_GEMM_NN);
    t.a.scales = dg_matrix(sf_bytes[0], DG_UE8M0X4, M, 1);
    t.b.scales = dg_matrix(sf_bytes[1], DG_UE8M0X4, KB, NB);
    INVALID(t, "b.scales.shape = [3, 2]", "must be [1, 2]",
            "four scales along the first dimension");
    t.b.scales = dg_matrix(sf_bytes[1], DG_UE8M0X4, 1, NB);
    ACCEPTED(t);
}

static void test_c_in_place(void)
{
    BREAK((t.has_c = true, t.c = dg_matrix_strided(d_bytes, DG_BF16, M, N, N + 1)),
          "c.stride = [132, 1]", "d.stride = [131, 1]", "same memory");
    BREAK((t.has_c = true, t.c = dg_matrix_strided(d_bytes, DG_BF16, M, N, 0)), "c.stride = [0, 1]",
          "d.stride = [131, 1]");
}

static void test_options(void)
{
    BREAK((t.has_options = true, t.options.flags = 8), "options.flags = 0x8", "0x7");
    BREAK((t.has_options = true, t.options.flags = 0x80000001u), "options.flags = 0x80000001");
    BREAK((t.has_options = true, t.options.flags = DG_GEMM_PDL_PREFETCH_B), "options.flags = 0x2",
          "needs DG_GEMM_PDL");
    BREAK((t.has_options = true, t.options.workspace = workspace + 128),
          "options.workspace = ", "multiple of 256 bytes");
    BREAK((t.has_options = true, t.options.workspace_bytes = 77), "options.workspace is NULL",
          "77");
    BREAK((t.has_options = true, t.options.struct_size = 0), "options.struct_size = 0", "32");
    BREAK((t.has_options = true, t.options.struct_size = 8), "options.struct_size = 8", "32");
    BREAK((t.has_options = true, t.options.struct_size = 31), "options.struct_size = 31", "32");
    BREAK((t.has_options = true, t.options.struct_size = SIZE_MAX), "options.struct_size = 184");
}

static void test_a_workspace_that_is_too_small(void)
{
    struct call t = good_nt();
    t.d.stride[0] = N + 17; // a problem that was not planned before
    recorded.workspace_bytes = 2048;
    INVALID(t, "options.workspace_bytes = 0", "2048", "dg_workspace_bytes()");
    t.has_options = true;
    t.options.workspace = workspace;
    t.options.workspace_bytes = 2047;
    INVALID(t, "options.workspace_bytes = 2047", "2048");
    t.options.workspace_bytes = 2048;
    ACCEPTED(t);
    CHECK(recorded.gemm.workspace == workspace && recorded.gemm.workspace_bytes == 2048,
          "passed on");
    recorded.workspace_bytes = 0;
}

static void test_failures_of_the_backend_are_forwarded(void)
{
    struct call t = good_nt();
    recorded.gemm_status = DG_CUDA_ERROR;
    CHECK(run(&t) == DG_CUDA_ERROR, "%s", dg_last_error());
    CHECK(error_has(TEXTS("dg_fp8_gemm_nt: ", "told to fail in gemm")), "%s", dg_last_error());
    recorded.gemm_status = DG_OK;
    t.d.stride[0] = N + 23;
    recorded.plan_status = DG_UNSUPPORTED;
    REFUSED(t, DG_UNSUPPORTED, "told to fail in plan");
    recorded.plan_status = DG_OK;
    ACCEPTED(t); // a refused plan is not remembered
}

// --- what is accepted, and what the backend then sees ---

static void test_four_forms_reach_the_backend_as_nt(void)
{
    static const struct {
        int64_t a_row, a_column, sfa_row, sfa_column;
    } k_last = {K, 1, KB, 1}, m_last = {1, M, 1, M};
    for (dg_op op = DG_OP_FP8_GEMM_NT; op <= DG_OP_FP8_GEMM_TT; op++) {
        const struct dg_op_facts *facts = dg_problem_op(op);
        struct call t = good(op);
        ACCEPTED(t);
        const struct dg_gemm_args *g = &recorded.gemm;
        const struct dg_problem *p = &recorded.problem;
        bool at = facts->a_transposed, bt = facts->b_transposed;
        CHECK(p->op == op && p->m == M && p->n == N && p->k == K, "sizes of %s", facts->name);
        CHECK(g->a.row_stride == (at ? m_last.a_row : k_last.a_row), "a of %s", facts->name);
        CHECK(g->a.column_stride == (at ? m_last.a_column : k_last.a_column), "a of %s",
              facts->name);
        CHECK(g->sfa.row_stride == (at ? m_last.sfa_row : k_last.sfa_row), "sfa of %s",
              facts->name);
        CHECK(g->sfa.column_stride == (at ? m_last.sfa_column : k_last.sfa_column), "%s",
              facts->name);
        CHECK(g->b.row_stride == (bt ? 1 : K) && g->b.column_stride == (bt ? N : 1), "%s",
              facts->name);
        CHECK(g->sfb.row_stride == (bt ? 1 : KB) && g->sfb.column_stride == (bt ? NB : 1), "%s",
              facts->name);
        CHECK(p->a_major == (dg_major)at && p->b_major == (dg_major)bt, "majors of %s",
              facts->name);
        CHECK(p->sfa_major == (dg_major)at && p->sfb_major == (dg_major)bt, "scales of %s",
              facts->name);
        CHECK(g->d.data == d_bytes && g->d.row_stride == N && g->d.column_stride == 1, "d");
        CHECK(!g->c.data && p->c_mode == DG_C_NONE, "c");
        CHECK(g->stream == (void *)(uintptr_t)0x57 && g->flags == 0, "stream and flags");
    }
}

static void test_the_problem_of_a_call_is_that_of_its_line(void)
{
    for (dg_op op = DG_OP_FP8_GEMM_NT; op <= DG_OP_FP8_GEMM_TT; op++) {
        struct call t = good(op);
        char line[256];
        struct dg_problem complete, parsed;
        t.has_c = true;
        ACCEPTED(t);
        dg_problem_format(&recorded.problem, line, sizeof line);
        CHECK(dg_problem_parse(line, &parsed) == DG_OK, "%s", dg_last_error());
        CHECK(dg_problem_complete(&recorded.problem, &complete) == DG_OK, "%s", dg_last_error());
        CHECK(!memcmp(&complete, &recorded.problem, sizeof complete), "not complete: %s", line);
        CHECK(!memcmp(&parsed, &recorded.problem, sizeof parsed), "reads back differently: %s",
              line);
    }
}

static void test_c_in_every_form(void)
{
    struct call t = good_nt();
    t.has_c = true;
    ACCEPTED(t);
    CHECK(recorded.problem.c_mode == DG_C_SEPARATE && recorded.gemm.c.data == c_bytes, "separate");
    t.c = t.d;
    ACCEPTED(t);
    CHECK(recorded.problem.c_mode == DG_C_IN_PLACE && recorded.gemm.c.data == d_bytes, "in place");
    t.c = dg_matrix_strided(c_bytes, DG_BF16, M, N, 0); // a bias row
    ACCEPTED(t);
    CHECK(recorded.gemm.c.row_stride == 0 && recorded.gemm.c.column_stride == 1, "bias");
    t.c = dg_transposed(dg_matrix(c_bytes, DG_BF16, N, M));
    ACCEPTED(t);
    CHECK(recorded.gemm.c.row_stride == 1 && recorded.gemm.c.column_stride == M, "transposed");
}

static void test_strides_of_single_rows_do_not_matter(void)
{
    static const int64_t odd[] = {INT64_MIN, -1, 0, 1, 77, INT64_MAX};
    struct dg_problem first;
    for (int i = 0; i < 6; i++) {
        struct call t = good_nt();
        t.has_c = true;
        t.a.values = dg_matrix_strided(a_bytes, DG_E4M3, 1, K, odd[i]);
        t.a.scales = dg_matrix_strided(sf_bytes[0], DG_F32, 1, KB, odd[i]);
        t.d = dg_matrix_strided(d_bytes, DG_BF16, 1, N, odd[i]);
        t.c = dg_matrix_strided(d_bytes, DG_BF16, 1, N, odd[5 - i]);
        ACCEPTED(t);
        if (i == 0)
            first = recorded.problem;
        CHECK(!memcmp(&first, &recorded.problem, sizeof first), "stride %lld", (long long)odd[i]);
        CHECK(recorded.gemm.a.row_stride == K && recorded.gemm.d.row_stride == N, "normalised");
        CHECK(recorded.problem.c_mode == DG_C_IN_PLACE, "in place, whatever the unused strides");
    }
}

static void test_strides_of_single_columns_do_not_matter(void)
{
    struct call t = good_nt();
    t.a.values = dg_matrix_strided(a_bytes, DG_E4M3, M, 1, 3);
    t.a.values.stride[1] = INT64_MAX;
    t.a.scales = dg_matrix(sf_bytes[0], DG_F32, M, 1);
    t.b.values = dg_matrix(b_bytes, DG_E4M3, 1, 1);
    t.b.scales = dg_matrix(sf_bytes[1], DG_F32, 1, 1);
    t.d = dg_matrix_strided(d_bytes, DG_BF16, M, 1, 4);
    t.d.stride[1] = -9;
    ACCEPTED(t);
    CHECK(recorded.gemm.a.row_stride == 3 && recorded.gemm.a.column_stride == 1, "a");
    CHECK(recorded.gemm.d.row_stride == 4 && recorded.gemm.d.column_stride == 1, "d");
    CHECK(recorded.problem.a_major == DG_K_MAJOR && recorded.problem.lda == 3, "problem");
}

static void test_any_strides_of_scales(void)
{
    struct call t = good_nt();
    t.a.scales = dg_transposed(dg_matrix_strided(sf_bytes[0], DG_F32, KB, M, 8)); // TMA-aligned
    t.b.scales.stride[0] = 0, t.b.scales.stride[1] = 0; // one scale for all
    ACCEPTED(t);
    CHECK(recorded.gemm.sfa.row_stride == 1 && recorded.gemm.sfa.column_stride == 8, "sfa");
    CHECK(recorded.problem.sfa_major == DG_MN_MAJOR, "sfa major");
    CHECK(recorded.gemm.sfb.row_stride == 0 && recorded.gemm.sfb.column_stride == 0, "sfb");
}

static void test_empty_calls_do_nothing(void)
{
    struct call t = good_nt();
    int plans = recorded.plans, gemms = recorded.gemms;
    t.a.values = dg_matrix(NULL, DG_E4M3, 0, K);
    t.a.scales = dg_matrix(NULL, DG_F32, 0, KB);
    t.d = dg_matrix(NULL, DG_BF16, 0, N);
    CHECK(run(&t) == DG_OK, "m = 0: %s", dg_last_error());
    t = good_nt();
    t.b.values = dg_matrix(NULL, DG_E4M3, 0, K);
    t.b.scales = dg_matrix(NULL, DG_F32, 0, KB);
    t.d = dg_matrix(NULL, DG_BF16, M, 0);
    CHECK(run(&t) == DG_OK, "n = 0: %s", dg_last_error());
    CHECK(recorded.gemms == gemms && recorded.plans == plans, "the backend was asked");
    t.d = dg_matrix(NULL, DG_BF16, M, 1); // still held to the rules
    INVALID(t, "d.data is NULL");
    t.d = dg_matrix(d_bytes, DG_BF16, M, 1);
    INVALID(t, "d.shape = [5, 1]", "must be [5, 0]");
}

static void test_k_of_zero_fills(void)
{
    struct call t = good_nt();
    int plans = recorded.plans, gemms = recorded.gemms;
    t.a.values = dg_matrix(NULL, DG_E4M3, M, 0);
    t.a.scales = dg_matrix(NULL, DG_F32, M, 0);
    t.b.values = dg_matrix(NULL, DG_E4M3, N, 0);
    t.b.scales = dg_matrix(NULL, DG_F32, NB, 0);
    ACCEPTED(t);
    CHECK(recorded.plan.kernel == DG_KERNEL_FILL && recorded.plans == plans, "fill, not planned");
    t.has_c = true;
    ACCEPTED(t);
    CHECK(recorded.plan.kernel == DG_KERNEL_FILL && recorded.gemm.c.data == c_bytes, "D = C");
    t.c = t.d;
    CHECK(run(&t) == DG_OK, "%s", dg_last_error());
    CHECK(recorded.gemms == gemms + 2, "C in place needs no work");
}

static void test_flags_are_passed_on(void)
{
    struct call t = good_nt();
    t.has_options = true;
    t.options.flags = DG_GEMM_PDL | DG_GEMM_PDL_PREFETCH_B | DG_GEMM_BATCH_INVARIANT;
    ACCEPTED(t);
    CHECK(recorded.gemm.flags == 7, "0x%x", (unsigned)recorded.gemm.flags);
}

static void test_flags_of_the_context_are_added(void)
{
    struct call t = good_nt();
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *const plain = context;
    options.gemm_flags = DG_GEMM_PDL;
    CHECK(dg_context_open(&context, &recorder_backend, &options) == DG_OK, "%s", dg_last_error());
    CHECK(run(&t) == DG_OK && recorded.gemm.flags == DG_GEMM_PDL, "without options: 0x%x",
          (unsigned)recorded.gemm.flags);
    t.has_options = true;
    t.options.flags = DG_GEMM_BATCH_INVARIANT;
    CHECK(run(&t) == DG_OK && recorded.gemm.flags == (DG_GEMM_PDL | DG_GEMM_BATCH_INVARIANT),
          "with options: 0x%x", (unsigned)recorded.gemm.flags);
    dg_context_destroy(context);
    context = plain;
}

static void test_options_of_other_versions(void)
{
    struct call t = good_nt();
    struct {
        struct dg_gemm_options known;
        uint64_t future[3];
    } newer = {DG_GEMM_OPTIONS, {0, 0, 0}};
    newer.known.struct_size = sizeof newer;
    newer.known.flags = DG_GEMM_PDL;
    CHECK(dg_fp8_gemm_nt(context, &t.a, &t.b, &t.d, NULL, &newer.known, NULL) == DG_OK, "%s",
          dg_last_error());
    CHECK(recorded.gemm.flags == DG_GEMM_PDL, "flags of a newer struct");
    newer.future[1] = 5;
    CHECK(dg_fp8_gemm_nt(context, &t.a, &t.b, &t.d, NULL, &newer.known, NULL) == DG_UNSUPPORTED,
          "an unknown field that is set");
    CHECK(error_has(TEXTS("options.struct_size = 56", "byte 40 is set")), "%s", dg_last_error());
    t.has_options = true;
    t.options.struct_size = offsetof(struct dg_gemm_options, workspace_bytes);
    t.options.workspace_bytes = 99; // beyond what this older struct holds
    t.options.flags = 0xff;
    ACCEPTED(t);
    CHECK(recorded.gemm.workspace_bytes == 0 && recorded.gemm.flags == 0, "defaults");
}

int main(void)
{
    context = recorder_context(DG_DEVICE_CUDA);
    RUN(test_null_arguments);
    RUN(test_types);
    RUN(test_f64_output_is_for_the_oracle);
    RUN(test_ranks_and_sizes);
    RUN(test_sizes_that_disagree);
    RUN(test_strides);
    RUN(test_extents_beyond_64_bits);
    RUN(test_data_alignment);
    RUN(test_blocks_of_scales);
    RUN(test_shapes_of_scales);
    RUN(test_shapes_of_packed_scales);
    RUN(test_c_in_place);
    RUN(test_options);
    RUN(test_a_workspace_that_is_too_small);
    RUN(test_failures_of_the_backend_are_forwarded);
    RUN(test_four_forms_reach_the_backend_as_nt);
    RUN(test_the_problem_of_a_call_is_that_of_its_line);
    RUN(test_c_in_every_form);
    RUN(test_strides_of_single_rows_do_not_matter);
    RUN(test_strides_of_single_columns_do_not_matter);
    RUN(test_any_strides_of_scales);
    RUN(test_empty_calls_do_nothing);
    RUN(test_k_of_zero_fills);
    RUN(test_flags_are_passed_on);
    RUN(test_flags_of_the_context_are_added);
    RUN(test_options_of_other_versions);
    dg_context_destroy(context);
    return harness_end();
}
