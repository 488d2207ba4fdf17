// SPDX-License-Identifier: MIT
// test_random_calls.c - GEMM and quantisation calls with descriptors made of garbage.  Nothing may
// crash, and whatever passes the checks must be sound: its elements lie within 64-bit addresses, its
// operands are what the descriptors said, and outputs do not overlap themselves.  The backend is the
// recorder, so the pointers are never followed.
#include "../harness.h"
#include "recorder.h"

enum { CALLS = 400000 };

typedef __int128 wide;

static dg_context *context;
static uint64_t random_state = 2024;

static uint64_t random_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint32_t random_below(uint32_t limit)
{
    return (uint32_t)(random_word() >> 33) % limit;
}

// Mostly values that matter: small ones, multiples of a block, and those around the limits.
static int64_t random_size(void)
{
    static const int64_t sizes[] = {0,
                                    1,
                                    1,
                                    2,
                                    3,
                                    4,
                                    128,
                                    129,
                                    256,
                                    260,
                                    -1,
                                    INT64_MAX,
                                    INT64_MIN,
                                    INT64_MAX / 2,
                                    (int64_t)1 << 32,
                                    (int64_t)1 << 31};
    return random_below(40) == 0 ? (int64_t)random_word() : sizes[random_below(16)];
}

static void *random_pointer(void)
{
    static const uintptr_t addresses[] = {0,    1,          2,           256,
                                          4096, 0x7fff0000, UINTPTR_MAX, UINTPTR_MAX - 4095};
    return (void *)addresses[random_below(8)];
}

static struct dg_tensor random_tensor(void)
{
    struct dg_tensor tensor = {.data = random_pointer(),
                               .type = (dg_type)random_below(8),
                               .rank = random_below(30) ? 2 : 3};
    for (int i = 0; i < DG_MAX_RANK; i++)
        tensor.shape[i] = random_size(), tensor.stride[i] = random_size();
    return tensor;
}

// A tensor of this shape that is right in most respects.
static struct dg_tensor likely(dg_type type, int64_t rows, int64_t columns)
{
    struct dg_tensor tensor =
        dg_matrix((void *)(uintptr_t)(4096 * (1 + random_below(1 << 20))), type, rows, columns);
    switch (random_below(16)) {
    case 0:
        return random_tensor();
    case 1:
        tensor.stride[random_below(2)] = random_size();
        break;
    case 2:
        tensor.shape[random_below(2)] = random_size();
        break;
    case 3:
        tensor = dg_transposed(dg_matrix(tensor.data, type, columns, rows));
        break;
    case 4:
        tensor.data = random_pointer();
        break;
    case 5:
        tensor.type = (dg_type)random_word();
        break;
    }
    return tensor;
}

static int64_t ceil_div(int64_t x, int64_t y)
{
    return x <= 0 ? 0 : (x - 1) / y + 1;
}

// The last byte of a matrix, exactly; 0 for one without elements.
static wide extent(struct dg_matrix_view view, wide rows, wide columns, wide bytes)
{
    if (rows == 0 || columns == 0)
        return 0;
    wide last = (rows - 1) * view.row_stride + (columns - 1) * view.column_stride + 1;
    return (wide)(uintptr_t)view.data + last * bytes;
}

static int fits(struct dg_matrix_view view, int64_t rows, int64_t columns, dg_type type)
{
    wide end = extent(view, rows, columns, (wide)dg_type_bytes(type));
    int is_empty = rows == 0 || columns == 0;
    int is_aligned = (uintptr_t)view.data % dg_type_bytes(type) == 0;
    return is_empty ||
           (view.data && is_aligned && view.row_stride >= 0 && view.column_stride >= 0 &&
            end <= (wide)UINTPTR_MAX && end - (wide)(uintptr_t)view.data <= INT64_MAX);
}

// A size, never negative, as it is used for the shapes of a likely call.
static int64_t random_extent(void)
{
    int64_t size = random_size();
    return size < 0 || random_below(8) ? random_below(300) : size;
}

static const char *check_gemm_call(const struct dg_scaled *a, const struct dg_scaled *b,
                                   const struct dg_tensor *d)
{
    const struct dg_problem *p = &recorded.problem;
    const struct dg_gemm_args *g = &recorded.gemm;
    const struct dg_op_facts *op = dg_problem_op(p->op);
    if (p->m != a->values.shape[op->a_transposed] || p->k != a->values.shape[!op->a_transposed] ||
        p->n != b->values.shape[op->b_transposed] || p->m != d->shape[0] || p->n != d->shape[1])
        return "sizes";
    int64_t words = ceil_div(p->k, 128);
    words = p->sf_type == DG_UE8M0X4 ? ceil_div(words, 4) : words;
    if (!fits(g->a, p->m, p->k, DG_E4M3) || !fits(g->b, p->n, p->k, DG_E4M3))
        return "extent of values";
    if (!fits(g->sfa, p->m, words, p->sf_type) ||
        !fits(g->sfb, ceil_div(p->n, p->sfb_block_n), words, p->sf_type))
        return "extent of scales";
    if (!fits(g->d, p->m, p->n, p->d_type) || (p->c_mode && !fits(g->c, p->m, p->n, p->d_type)))
        return "extent of d or c";
    if (g->d.column_stride != 1 || (p->m > 1 && g->d.row_stride < p->n))
        return "rows of d overlap";
    if ((wide)p->m * p->k > INT64_MAX || (wide)p->n * p->k > INT64_MAX ||
        (wide)p->m * p->n > INT64_MAX)
        return "products";
    return NULL;
}

static void test_random_gemm_calls(void)
{
    static dg_status (*const functions[])(
        dg_context *, const struct dg_scaled *, const struct dg_scaled *, const struct dg_tensor *,
        const struct dg_tensor *, const struct dg_gemm_options *,
        void *) = {dg_fp8_gemm_nt, dg_fp8_gemm_nn, dg_fp8_gemm_tn, dg_fp8_gemm_tt};
    int accepted = 0, refused = 0;
    for (int i = 0; i < CALLS; i++) {
        int form = (int)random_below(4);
        const struct dg_op_facts *op = dg_problem_op((dg_op)(DG_OP_FP8_GEMM_NT + form));
        int64_t m = random_extent(), n = random_extent(), k = random_extent();
        dg_type sf = random_below(3) ? DG_F32 : DG_UE8M0X4;
        dg_type out = random_below(2) ? DG_BF16 : DG_F32;
        int32_t block_n = random_below(2) ? 128 : 1;
        int64_t sfk = sf == DG_F32 ? ceil_div(k, 128) : ceil_div(ceil_div(k, 128), 4);
        struct dg_scaled a = {likely(DG_E4M3, m, k), likely(sf, m, sfk), 1, 128};
        struct dg_scaled b = {likely(DG_E4M3, n, k), likely(sf, ceil_div(n, block_n), sfk), block_n,
                              128};
        if (op->a_transposed)
            a = (struct dg_scaled){dg_transposed(a.values), dg_transposed(a.scales), 128, 1};
        if (op->b_transposed)
            b = (struct dg_scaled){dg_transposed(b.values), dg_transposed(b.scales), 128, block_n};
        if (random_below(16) == 0)
            a.block_rows = (int32_t)random_word(), b.block_columns = (int32_t)random_size();
        struct dg_tensor d = likely(out, m, n), c = random_below(4) ? likely(out, m, n) : d;
        int gemms = recorded.gemms;
        dg_status status =
            functions[form](random_below(99) ? context : NULL, random_below(99) ? &a : NULL,
                            random_below(99) ? &b : NULL, random_below(99) ? &d : NULL,
                            random_below(2) ? &c : NULL, NULL, NULL);
        CHECK(status == DG_OK || status == DG_INVALID_ARGUMENT || status == DG_UNSUPPORTED,
              "%d: %s", (int)status, dg_last_error());
        CHECK(status == DG_OK || recorded.gemms == gemms, "refused, but the backend was called");
        CHECK(status == DG_OK || strstr(dg_last_error(), op->name), "`%s`", dg_last_error());
        refused += status != DG_OK;
        if (recorded.gemms == gemms)
            continue;
        accepted++;
        const char *fault = check_gemm_call(&a, &b, &d);
        char line[256];
        dg_problem_format(&recorded.problem, line, sizeof line);
        CHECK(!fault, "%s: %s", line, fault);
    }
    CHECK(accepted > CALLS / 50 && refused > CALLS / 50, "%d accepted, %d refused", accepted,
          refused);
}

static void test_random_quantize_calls(void)
{
    int accepted = 0, refused = 0;
    for (int i = 0; i < CALLS / 2; i++) {
        int64_t rows = random_extent(), columns = random_extent();
        dg_type sf = random_below(2) ? DG_F32 : DG_UE8M0X4;
        int64_t scales =
            sf == DG_F32 ? ceil_div(columns, 128) : ceil_div(ceil_div(columns, 128), 4);
        struct dg_scaled q = {likely(DG_E4M3, rows, columns), likely(sf, rows, scales), 1, 128};
        struct dg_tensor x = likely(random_below(2) ? DG_BF16 : DG_F32, rows, columns);
        // The walk over interleaved layouts is as long as its rows: keep those that overlap short.
        q.values.data = (void *)((uintptr_t)q.values.data + ((uintptr_t)1 << 40));
        q.scales.data = (void *)((uintptr_t)q.scales.data + ((uintptr_t)1 << 41));
        int calls = recorded.quantizes + recorded.dequantizes;
        dg_status status = random_below(2)
                               ? dg_quantize_per_token(context, &x, &q.values, &q.scales,
                                                       DG_SCALE_POWER_OF_TWO, NULL)
                               : dg_dequantize(context, &q, &x, NULL);
        CHECK(status == DG_OK || status == DG_INVALID_ARGUMENT, "%d", (int)status);
        refused += status != DG_OK;
        if (recorded.quantizes + recorded.dequantizes == calls)
            continue;
        accepted++;
        CHECK(status == DG_OK, "refused, but the backend was called");
        const struct dg_quantize_args *g = &recorded.quantize;
        int64_t words = ceil_div(g->columns, 128);
        words = g->scale_type == DG_UE8M0X4 ? ceil_div(words, 4) : words;
        CHECK(g->rows == x.shape[0] && g->columns == x.shape[1], "sizes");
        CHECK(fits(g->x, g->rows, g->columns, g->x_type), "extent of x");
        CHECK(fits(g->q, g->rows, g->columns, DG_E4M3), "extent of q");
        CHECK(fits(g->scales, g->rows, words, g->scale_type), "extent of scales");
    }
    CHECK(accepted > CALLS / 100 && refused > CALLS / 100, "%d accepted, %d refused", accepted,
          refused);
}

int main(void)
{
    context = recorder_context(DG_DEVICE_CUDA);
    RUN(test_random_gemm_calls);
    RUN(test_random_quantize_calls);
    dg_context_destroy(context);
    return harness_end();
}
