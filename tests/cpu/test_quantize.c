// SPDX-License-Identifier: MIT
// test_quantize.c - conversions over all their inputs, and quantisation against a slow restatement of
// its documented arithmetic, bit for bit.
#include "../contexts.h"
#include "../harness.h"
#include "../random_problem.h"
#include "backend/cpu/cpu_kernels.h"

static const char *const isas[] = {"c", "avx2", "avx512"};
enum { NUM_ISAS = 3 };

static double code_value(int code)
{
    const int exponent = code >> 3 & 15, fraction = code & 7;
    const double magnitude = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
    return code & 0x80 ? -magnitude : magnitude;
}

// The nearest code, of two equally near ones the even one.
static uint8_t encode_slowly(float x)
{
    const uint8_t sign = signbit(x) ? 0x80 : 0;
    const double magnitude = fabs((double)x);
    if (!(magnitude <= 464)) // half way from 448 to the next step, where 448 is even
        return sign | 0x7f;
    int below = 0, above = 0x7f; // the value of `below` is not above the magnitude
    while (above - below > 1) {
        const int middle = (below + above) / 2;
        *(code_value(middle) <= magnitude ? &below : &above) = middle;
    }
    if (below == 0x7e)
        return sign | 0x7e;
    const double down = magnitude - code_value(below), up = code_value(above) - magnitude;
    return sign | (uint8_t)(down < up || (down == up && below % 2 == 0) ? below : above);
}

static float bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Counts are no multiples of the vectors, so the scalar ends are used too.
static void check_encoding(const float *values, int count)
{
    for (int isa = 0; isa < NUM_ISAS; isa++) {
        const struct dg_cpu_kernels *kernels = dg_cpu_find_kernels(isas[isa]);
        uint8_t *codes = malloc((size_t)count);
        for (int i = 0; kernels && i < count; i += 127)
            kernels->encode(codes + i, values + i, 1.0f, count - i < 127 ? count - i : 127);
        for (int i = 0; kernels && i < count; i++)
            CHECK(codes[i] == encode_slowly(values[i]), "%s: %a became 0x%02x, not 0x%02x",
                  isas[isa], values[i], codes[i], encode_slowly(values[i]));
        free(codes);
    }
}

static void test_every_bf16_is_encoded(void)
{
    static float values[1 << 16];
    for (uint32_t bits = 0; bits < 1 << 16; bits++)
        values[bits] = bits_float(bits << 16);
    check_encoding(values, 1 << 16);
}

static void test_floats_around_ties_are_encoded(void)
{
    enum { RANDOM = 300000 };
    static float values[RANDOM + 3 * 2 * 127];
    uint64_t state = 1;
    int count = 0;
    while (count < RANDOM) // half of any size, half in the range of E4M3
        values[count] = bits_float((uint32_t)random_next(&state)),
        values[count + 1] =
            bits_float((uint32_t)(random_next(&state) % (20u << 23)) + (112u << 23)),
        count += 2;
    for (int code = 0; code < 0x7f; code++) // half way between two codes, and next to it
        for (int sign = -1; sign <= 1; sign += 2) {
            const double above = code == 0x7e ? 480 : code_value(code + 1);
            const float tie = (float)(sign * (code_value(code) + above) / 2);
            values[count++] = tie;
            values[count++] = nextafterf(tie, 1000);
            values[count++] = nextafterf(tie, -1000);
        }
    check_encoding(values, count);
}

// All codes as weights and as activations, times one: D is the value itself.
static void test_every_code_is_decoded_by_the_gemm(void)
{
    for (int isa = 0; isa < 2 * NUM_ISAS; isa++) {
        dg_context *context = open_context("cpu", isas[isa / 2], 1);
        if (!context)
            continue;
        enum { CODES = 256, K = 128 };
        static uint8_t codes[CODES * K], ones[K];
        static float code_scales[CODES], one_scale[1], d[CODES];
        // In every place along k once, as decoders work on vectors.
        for (int place = 0; place < K; place++) {
            memset(codes, 0, sizeof codes);
            memset(ones, 0x38, sizeof ones);
            for (int code = 0; code < CODES; code++) {
                codes[code * K + place] = (uint8_t)code;
                code_scales[code] = 1;
            }
            one_scale[0] = 1;
            const bool as_weights = isa % 2;
            const struct dg_scaled all = {dg_matrix(codes, DG_E4M3, CODES, K),
                                          dg_matrix(code_scales, DG_F32, CODES, 1), 1, 128};
            const struct dg_scaled one = {dg_matrix(ones, DG_E4M3, 1, K),
                                          dg_matrix(one_scale, DG_F32, 1, 1), 1, 128};
            const struct dg_tensor tensor =
                as_weights ? dg_matrix(d, DG_F32, 1, CODES) : dg_matrix(d, DG_F32, CODES, 1);
            CHECK(!dg_fp8_gemm_nt(context, as_weights ? &one : &all, as_weights ? &all : &one,
                                  &tensor, NULL, NULL, NULL),
                  "%s", dg_last_error());
            for (int code = 0; code < CODES; code++)
                CHECK((code & 0x7f) == 0x7f ? isnan(d[code]) : d[code] == (float)code_value(code),
                      "%s: 0x%02x at %d is %g", isas[isa / 2], code, place, d[code]);
        }
        dg_context_destroy(context);
    }
}

// ---- whole quantisations ----

struct shape {
    int64_t rows, columns;
    int block_rows, block_columns;
    dg_type x_type, scale_type;
    dg_scale_rounding rounding;
    bool x_turned, q_turned, scales_turned; // column-major
    int64_t gap;
};

// A matrix between guard bands, with its strides.
struct matrix {
    struct random_buffer buffer;
    struct dg_tensor tensor;
};

static struct matrix make_matrix(dg_type type, int64_t rows, int64_t columns, bool is_turned,
                                 int64_t gap)
{
    struct matrix made;
    const int64_t ld = (is_turned ? rows : columns) + gap;
    const int64_t strides[2] = {is_turned ? 1 : ld, is_turned ? ld : 1};
    random_allocate(&made.buffer, dg_type_bytes(type), rows, columns, strides[0], strides[1], 0);
    made.tensor = dg_matrix(random_data(&made.buffer), type, rows, columns);
    memcpy(made.tensor.stride, strides, sizeof strides);
    return made;
}

static int64_t at(const struct matrix *matrix, int64_t row, int64_t column)
{
    return row * matrix->tensor.stride[0] + column * matrix->tensor.stride[1];
}

static float load_x(const struct matrix *x, int64_t row, int64_t column)
{
    const void *data = x->tensor.data;
    return x->tensor.type == DG_BF16 ? random_bf16(((const uint16_t *)data)[at(x, row, column)])
                                     : ((const float *)data)[at(x, row, column)];
}

static void fill_x(struct matrix *x, uint64_t seed)
{
    uint64_t state = seed;
    for (int64_t i = 0; i < x->tensor.shape[0]; i++)
        for (int64_t j = 0; j < x->tensor.shape[1]; j++) {
            const uint64_t word = random_next(&state);
            const float fraction = 1 + (float)(word & 0xffff) / 65536;
            float value =
                ldexpf(word & 1 << 17 ? -fraction : fraction, (int)(word >> 20 & 15) - 10);
            if ((word >> 32) % 5000 == 0)
                value = word >> 25 & 1 ? NAN : INFINITY;
            if ((word >> 48 & 63) == 0)
                value = 0;
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            if (x->tensor.type == DG_BF16)
                ((uint16_t *)x->tensor.data)[at(x, i, j)] = (uint16_t)(bits >> 16);
            else
                memcpy((float *)x->tensor.data + at(x, i, j), &bits, sizeof bits);
        }
}

// The documented arithmetic for the block whose first element is (row, column).
static float scale_slowly(const struct shape *s, const struct matrix *x, int64_t row,
                          int64_t column)
{
    float amax = 1e-4f;
    for (int64_t i = row; i < row + s->block_rows && i < s->rows; i++)
        for (int64_t j = column; j < column + s->block_columns && j < s->columns; j++)
            amax = fmaxf(amax, fabsf(load_x(x, i, j))); // fmax passes NaN over
    const float scale = amax / 448;
    if (s->rounding == DG_SCALE_EXACT)
        return scale;
    float power = 0x1p-126f;
    while (power < scale && power < 0x1p127f)
        power *= 2;
    return power;
}

static uint8_t packed_exponent(const struct shape *s, const struct matrix *scales, int64_t row,
                               int64_t column)
{
    const bool by_rows = s->block_columns == 1;
    const int64_t word = by_rows ? at(scales, row / 4, column) : at(scales, row, column / 4);
    const int64_t byte = (by_rows ? row : column) % 4;
    return (uint8_t)(((const uint32_t *)scales->tensor.data)[word] >> 8 * byte);
}

static void check_block(const struct shape *s, const struct matrix *x, const struct matrix *q,
                        const struct matrix *scales, int64_t block_row, int64_t block_column)
{
    const int64_t row = block_row * s->block_rows, column = block_column * s->block_columns;
    const float scale = scale_slowly(s, x, row, column);
    if (s->scale_type == DG_F32) {
        const float stored =
            ((const float *)scales->tensor.data)[at(scales, block_row, block_column)];
        CHECK(stored == scale, "scale [%lld, %lld] is %a, not %a", (long long)block_row,
              (long long)block_column, stored, scale);
    } else {
        const uint8_t stored = packed_exponent(s, scales, block_row, block_column);
        CHECK(ldexpf(1, stored - 127) == scale, "exponent [%lld, %lld] is %d, scale %a",
              (long long)block_row, (long long)block_column, stored, scale);
    }
    const float factor = 1 / scale;
    for (int64_t i = row; i < row + s->block_rows && i < s->rows; i++)
        for (int64_t j = column; j < column + s->block_columns && j < s->columns; j++) {
            const uint8_t code = ((const uint8_t *)q->tensor.data)[at(q, i, j)];
            const float scaled = load_x(x, i, j) * factor;
            const uint8_t expected = encode_slowly(scaled);
            const bool both_nan = isnan(scaled) && (code & 0x7f) == 0x7f;
            CHECK(code == expected || both_nan, "[%lld, %lld] %a / %a is 0x%02x, not 0x%02x",
                  (long long)i, (long long)j, load_x(x, i, j), scale, code, expected);
        }
}

// Bytes of the buffer that belong to no element keep their poison.
static bool has_stray_bytes(const struct matrix *matrix)
{
    const size_t total = RANDOM_PROBLEM_TOTAL(matrix->buffer);
    const size_t element = dg_type_bytes(matrix->tensor.type);
    uint8_t *is_used = calloc(total, 1);
    for (int64_t i = 0; i < matrix->tensor.shape[0]; i++)
        for (int64_t j = 0; j < matrix->tensor.shape[1]; j++)
            memset(is_used + matrix->buffer.offset + (size_t)at(matrix, i, j) * element, 1,
                   element);
    bool has_stray = false;
    for (size_t i = 0; i < total; i++)
        has_stray |= !is_used[i] && matrix->buffer.memory[i] != RANDOM_POISON;
    free(is_used);
    return has_stray;
}

static dg_status quantize(dg_context *context, const struct shape *s, const struct matrix *x,
                          const struct matrix *q, const struct matrix *scales)
{
    return (s->block_rows == 1      ? dg_quantize_per_token
            : s->block_columns == 1 ? dg_quantize_per_channel
                                    : dg_quantize_per_block)(context, &x->tensor, &q->tensor,
                                                             &scales->tensor, s->rounding, NULL);
}

static struct shape draw_shape(uint64_t seed)
{
    static const int blocks[3][2] = {{1, 128}, {128, 1}, {128, 128}};
    uint64_t state = seed;
    const int *block = blocks[random_next(&state) % 3];
    struct shape s = {
        .rows = random_size(&state, 300),
        .columns = random_size(&state, 300),
        .block_rows = block[0],
        .block_columns = block[1],
        .x_type = random_next(&state) % 2 ? DG_F32 : DG_BF16,
        .scale_type = random_next(&state) % 2 ? DG_F32 : DG_UE8M0X4,
        .x_turned = random_next(&state) % 4 == 0,
        .q_turned = random_next(&state) % 4 == 0,
        .scales_turned = random_next(&state) % 2,
        .gap = random_next(&state) % 2 ? 0 : random_range(&state, 1, 9),
    };
    const bool is_power = s.scale_type == DG_UE8M0X4 || random_next(&state) % 2;
    s.rounding = is_power ? DG_SCALE_POWER_OF_TWO : DG_SCALE_EXACT;
    return s;
}

static struct matrix make_scales(const struct shape *s)
{
    int64_t rows = (s->rows + s->block_rows - 1) / s->block_rows;
    int64_t columns = (s->columns + s->block_columns - 1) / s->block_columns;
    if (s->scale_type == DG_UE8M0X4)
        *(s->block_columns == 1 ? &rows : &columns) += 3;
    if (s->scale_type == DG_UE8M0X4)
        *(s->block_columns == 1 ? &rows : &columns) /= 4;
    return make_matrix(s->scale_type, rows, columns, s->scales_turned, s->gap);
}

// Bytes of packed words behind the last scale are 0.
static void check_missing_scales(const struct shape *s, const struct matrix *scales)
{
    if (s->scale_type != DG_UE8M0X4)
        return;
    const bool by_rows = s->block_columns == 1;
    const int64_t rows = (s->rows + s->block_rows - 1) / s->block_rows;
    const int64_t columns = (s->columns + s->block_columns - 1) / s->block_columns;
    for (int64_t i = 0; i < (by_rows ? (rows + 3) / 4 * 4 : rows); i++)
        for (int64_t j = 0; j < (by_rows ? columns : (columns + 3) / 4 * 4); j++)
            CHECK((i < rows && j < columns) || packed_exponent(s, scales, i, j) == 0,
                  "the missing scale [%lld, %lld] is not 0", (long long)i, (long long)j);
}

static void check_quantisation(dg_context *context, const struct shape *s, uint64_t seed)
{
    struct matrix x = make_matrix(s->x_type, s->rows, s->columns, s->x_turned, s->gap);
    struct matrix q = make_matrix(DG_E4M3, s->rows, s->columns, s->q_turned, s->gap);
    struct matrix scales = make_scales(s);
    fill_x(&x, seed);
    const uint64_t checksum = random_checksum(&x.buffer);
    CHECK(!quantize(context, s, &x, &q, &scales), "%s", dg_last_error());
    CHECK(random_checksum(&x.buffer) == checksum, "x was changed");
    CHECK(!has_stray_bytes(&q) && !has_stray_bytes(&scales), "a gap or guard was written");
    check_missing_scales(s, &scales);
    for (int64_t i = 0; i * s->block_rows < s->rows; i++)
        for (int64_t j = 0; j * s->block_columns < s->columns && !harness_test_failed; j++)
            check_block(s, &x, &q, &scales, i, j);
    free(x.buffer.memory);
    free(q.buffer.memory);
    free(scales.buffer.memory);
}

static void test_random_quantisations(void)
{
    for (int isa = 0; isa < NUM_ISAS; isa++) {
        dg_context *context = open_context("cpu", isas[isa], 2);
        if (!context) {
            printf("# without %s: %s\n", isas[isa], dg_last_error());
            continue;
        }
        for (int seed = 0; seed < harness_scaled(60) && !harness_test_failed; seed++) {
            const struct shape s = draw_shape((uint64_t)seed);
            check_quantisation(context, &s, (uint64_t)seed);
            if (harness_test_failed)
                printf("# %s: seed %d, [%lld, %lld], blocks %d x %d\n", isas[isa], seed,
                       (long long)s.rows, (long long)s.columns, s.block_rows, s.block_columns);
        }
        dg_context_destroy(context);
    }
}

// The product of code and scale in FP32, rounded once to x's type.
static void check_dequantised_block(const struct shape *s, const struct matrix *q,
                                    const struct matrix *back, float scale, int64_t row,
                                    int64_t column)
{
    for (int64_t i = row; i < row + s->block_rows && i < s->rows; i++)
        for (int64_t j = column; j < column + s->block_columns && j < s->columns; j++) {
            const int code = ((const uint8_t *)q->tensor.data)[at(q, i, j)];
            const float exact = (float)code_value(code) * scale, value = load_x(back, i, j);
            const float limit = s->x_type == DG_BF16 ? (float)random_half_ulp_bf16(exact) : 0.0f;
            const bool is_nan = (code & 0x7f) == 0x7f || isnan(exact); // 0 * Inf
            CHECK(is_nan ? isnan(value) : fabsf(value - exact) <= limit,
                  "[%lld, %lld] is %a, not %a", (long long)i, (long long)j, value, exact);
        }
}

static void check_dequantisation(dg_context *context, const struct shape *s, uint64_t seed)
{
    struct matrix x = make_matrix(s->x_type, s->rows, s->columns, s->x_turned, s->gap);
    struct matrix q = make_matrix(DG_E4M3, s->rows, s->columns, s->q_turned, s->gap);
    struct matrix back = make_matrix(s->x_type, s->rows, s->columns, !s->x_turned, s->gap);
    struct matrix scales = make_scales(s);
    fill_x(&x, seed);
    CHECK(!quantize(context, s, &x, &q, &scales), "%s", dg_last_error());
    const struct dg_scaled scaled = {q.tensor, scales.tensor, s->block_rows, s->block_columns};
    CHECK(!dg_dequantize(context, &scaled, &back.tensor, NULL), "%s", dg_last_error());
    CHECK(!has_stray_bytes(&back), "a gap or guard was written");
    for (int64_t i = 0; i < s->rows; i += s->block_rows)
        for (int64_t j = 0; j < s->columns && !harness_test_failed; j += s->block_columns)
            check_dequantised_block(s, &q, &back, scale_slowly(s, &x, i, j), i, j);
    free(x.buffer.memory);
    free(q.buffer.memory);
    free(back.buffer.memory);
    free(scales.buffer.memory);
}

static void test_random_dequantisations(void)
{
    dg_context *context = open_context("cpu", NULL, 2);
    for (int seed = 0; seed < harness_scaled(100) && !harness_test_failed; seed++) {
        const struct shape s = draw_shape((uint64_t)seed + 500);
        check_dequantisation(context, &s, (uint64_t)seed);
        if (harness_test_failed)
            printf("# seed %d\n", seed);
    }
    dg_context_destroy(context);
}

// Quantising what was dequantised finds the same codes: the values are on the grid already.
static void test_power_of_two_round_trip_is_stable(void)
{
    dg_context *context = open_context("cpu", NULL, 2);
    const struct shape s = {.rows = 70,
                            .columns = 300,
                            .block_rows = 1,
                            .block_columns = 128,
                            .x_type = DG_F32,
                            .scale_type = DG_F32,
                            .rounding = DG_SCALE_POWER_OF_TWO};
    struct matrix x = make_matrix(DG_F32, s.rows, s.columns, false, 0);
    struct matrix q = make_matrix(DG_E4M3, s.rows, s.columns, false, 0), again = q;
    struct matrix scales = make_scales(&s);
    uint64_t state = 9;
    for (int64_t i = 0; i < s.rows * s.columns; i++)
        ((float *)x.tensor.data)[i] = (float)random_range(&state, -100000, 100000) * 1e-3f;
    CHECK(!quantize(context, &s, &x, &q, &scales), "%s", dg_last_error());
    const struct dg_scaled scaled = {q.tensor, scales.tensor, 1, 128};
    CHECK(!dg_dequantize(context, &scaled, &x.tensor, NULL), "%s", dg_last_error());
    again.tensor.data = malloc((size_t)(s.rows * s.columns));
    CHECK(!quantize(context, &s, &x, &again, &scales), "%s", dg_last_error());
    CHECK(!memcmp(again.tensor.data, q.tensor.data, (size_t)(s.rows * s.columns)), "codes changed");
    free(again.tensor.data);
    free(x.buffer.memory);
    free(q.buffer.memory);
    free(scales.buffer.memory);
    dg_context_destroy(context);
}

int main(void)
{
    RUN(test_every_bf16_is_encoded);
    RUN(test_floats_around_ties_are_encoded);
    RUN(test_every_code_is_decoded_by_the_gemm);
    RUN(test_random_quantisations);
    RUN(test_random_dequantisations);
    RUN(test_power_of_two_round_trip_is_stable);
    return harness_end();
}
