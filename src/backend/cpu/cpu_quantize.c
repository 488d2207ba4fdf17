// SPDX-License-Identifier: MIT
// cpu_quantize.c - quantisation to E4M3 and back, in the arithmetic the public header documents.
//
// Work is cut into strips: the rows of one block (one or 128 of them) and at most 128 columns.  A strip
// has one scale, or one per column when blocks are one column wide.  Rows of a strip pass through a
// small buffer of FP32, so strides and types matter in one place only.
#include "backend/cpu/cpu_gemm.h"

#include "base/overflow.h"

#include <math.h>
#include <string.h>

enum { STRIP_COLUMNS = 128, TASK_VALUES = 1 << 15 };

struct quantize {
    const struct dg_cpu_kernels *kernels;
    const struct dg_quantize_args *args;
    int64_t strips_per_row, num_strips, strips_per_task;
};

struct strip {
    int64_t row, column;
    int32_t rows, columns;
};

struct buffer {
    float x[STRIP_COLUMNS];
    float amax[STRIP_COLUMNS];   // per column of the strip, or [0] for all of it
    float factor[STRIP_COLUMNS]; // 1 / scale, likewise
    uint8_t codes[STRIP_COLUMNS];
};

static struct strip find_strip(const struct quantize *work, int64_t index)
{
    const struct dg_quantize_args *args = work->args;
    struct strip strip = {
        .row = index / work->strips_per_row * args->block_rows,
        .column = index % work->strips_per_row * STRIP_COLUMNS,
    };
    const int64_t rows = args->rows - strip.row, columns = args->columns - strip.column;
    strip.rows = (int32_t)(rows < args->block_rows ? rows : args->block_rows);
    strip.columns = (int32_t)(columns < STRIP_COLUMNS ? columns : STRIP_COLUMNS);
    return strip;
}

// Eight at a time, which compilers turn into vectors.
static void widen_bf16(float *out, const uint16_t *x, int32_t count)
{
    int32_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int32_t lane = 0; lane < 8; lane++)
            out[i + lane] = cpu_from_bf16(x[i + lane]);
    for (; i < count; i++)
        out[i] = cpu_from_bf16(x[i]);
}

static float larger(float a, float b)
{
    return b > a ? b : a; // a where b is NaN
}

// One row of the strip as FP32: in place where it is that already, else through the buffer.
static const float *load_row(const struct dg_quantize_args *args, const struct strip *strip,
                             int32_t row, float *buffer)
{
    const int64_t step = args->x.column_stride;
    const int64_t from = (strip->row + row) * args->x.row_stride + strip->column * step;
    if (args->x_type == DG_F32 && step == 1)
        return (const float *)args->x.data + from;
    if (args->x_type == DG_BF16 && step == 1)
        widen_bf16(buffer, (const uint16_t *)args->x.data + from, strip->columns);
    else
        for (int32_t i = 0; i < strip->columns; i++)
            buffer[i] = cpu_load_number(args->x.data, args->x_type, from + i * step);
    return buffer;
}

static void find_amax(const struct quantize *work, const struct strip *strip, struct buffer *buffer)
{
    const bool per_column = work->args->block_columns == 1;
    memset(buffer->amax, 0, sizeof buffer->amax);
    for (int32_t row = 0; row < strip->rows; row++) {
        const float *x = load_row(work->args, strip, row, buffer->x);
        if (!per_column)
            buffer->amax[0] = larger(buffer->amax[0], work->kernels->find_amax(x, strip->columns));
        else
            for (int32_t i = 0; i < strip->columns; i++)
                buffer->amax[i] = larger(buffer->amax[i], fabsf(x[i]));
    }
}

static float find_scale(float amax, dg_scale_rounding rounding)
{
    const float scale = larger(1e-4f, amax) / 448.0f;
    if (rounding == DG_SCALE_EXACT)
        return scale;
    const uint32_t bits = cpu_float_bits(scale);
    uint32_t exponent = (bits >> 23 & 0xff) + ((bits & 0x7fffff) != 0);
    exponent = exponent < 1 ? 1 : exponent > 254 ? 254 : exponent;
    return cpu_bits_float(exponent << 23);
}

static uint8_t *find_packed_byte(const struct dg_quantize_args *args, int64_t row, int64_t column)
{
    const int64_t in_word = args->pack_rows ? row % 4 : column % 4;
    const int64_t word = (args->pack_rows ? row / 4 : row) * args->scales.row_stride +
                         (args->pack_rows ? column : column / 4) * args->scales.column_stride;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint8_t *)args->scales.data + word * 4 + 3 - in_word;
#else
    return (uint8_t *)args->scales.data + word * 4 + in_word;
#endif
}

// Stores scale (row, column) of the matrix of scales.  Packed ones are written byte by byte, as their
// neighbours in the word may belong to other threads; the last one clears the rest of its word.
static void store_scale(const struct dg_quantize_args *args, int64_t row, int64_t column,
                        float scale)
{
    if (args->scale_type == DG_F32) {
        const struct dg_matrix_view *scales = &args->scales;
        ((float *)scales->data)[row * scales->row_stride + column * scales->column_stride] = scale;
        return;
    }
    const int64_t rows = dg_ceil_div(args->rows, args->block_rows);
    const int64_t columns = dg_ceil_div(args->columns, args->block_columns);
    int64_t along = args->pack_rows ? row : column;
    const int64_t last = (args->pack_rows ? rows : columns) - 1;
    *find_packed_byte(args, row, column) = (uint8_t)(cpu_float_bits(scale) >> 23);
    for (const bool is_last = along == last; is_last && ++along % 4 != 0;)
        *find_packed_byte(args, args->pack_rows ? along : row, args->pack_rows ? column : along) =
            0;
}

static void find_scales(const struct quantize *work, const struct strip *strip,
                        struct buffer *buffer)
{
    const struct dg_quantize_args *args = work->args;
    const int32_t count = args->block_columns == 1 ? strip->columns : 1;
    const int64_t first = strip->column / args->block_columns;
    for (int32_t i = 0; i < count; i++) {
        const float scale = find_scale(buffer->amax[i], args->rounding);
        buffer->factor[i] = 1.0f / scale;
        store_scale(args, strip->row / args->block_rows, first + i, scale);
    }
}

static void store_codes(const struct quantize *work, const struct strip *strip,
                        struct buffer *buffer)
{
    const struct dg_matrix_view *q = &work->args->q;
    const bool per_column = work->args->block_columns == 1;
    for (int32_t row = 0; row < strip->rows; row++) {
        uint8_t *out = (uint8_t *)q->data + (strip->row + row) * q->row_stride +
                       strip->column * q->column_stride;
        uint8_t *codes = q->column_stride == 1 ? out : buffer->codes;
        const float *x = load_row(work->args, strip, row, buffer->x);
        for (int32_t i = 0; per_column && i < strip->columns; i++)
            buffer->x[i] = x[i] * buffer->factor[i];
        work->kernels->encode(codes, per_column ? buffer->x : x, per_column ? 1 : buffer->factor[0],
                              strip->columns);
        for (int32_t i = 0; codes != out && i < strip->columns; i++)
            out[i * q->column_stride] = codes[i];
    }
}

static void quantize_task(const void *argument, void *scratch, int64_t task)
{
    const struct quantize *work = argument;
    int64_t index = task * work->strips_per_task;
    const int64_t end = index + work->strips_per_task;
    for (; index < end && index < work->num_strips; index++) {
        const struct strip strip = find_strip(work, index);
        find_amax(work, &strip, scratch);
        find_scales(work, &strip, scratch);
        store_codes(work, &strip, scratch);
    }
}

// Packed along rows, the matrix is looked at the other way round.
static float load_packed_scale(const struct dg_quantize_args *args, int64_t row, int64_t column)
{
    if (!args->pack_rows)
        return dg_cpu_load_scale(&args->scales, args->scale_type, row, column);
    const struct dg_matrix_view turned = {args->scales.data, args->scales.column_stride,
                                          args->scales.row_stride};
    return dg_cpu_load_scale(&turned, args->scale_type, column, row);
}

// The strip's scales, spread over its columns.
static void load_scales(const struct dg_quantize_args *args, const struct strip *strip,
                        float *scales)
{
    const int64_t row = strip->row / args->block_rows;
    for (int32_t i = 0; i < strip->columns; i++)
        scales[i] = i % args->block_columns
                        ? scales[i - 1]
                        : load_packed_scale(args, row, (strip->column + i) / args->block_columns);
}

static void dequantize_strip(const struct dg_quantize_args *args, const struct strip *strip,
                             float *scales)
{
    const struct dg_matrix_view *x = &args->x, *q = &args->q;
    load_scales(args, strip, scales);
    for (int64_t row = strip->row; row < strip->row + strip->rows; row++) {
        const uint8_t *codes =
            (const uint8_t *)q->data + row * q->row_stride + strip->column * q->column_stride;
        const int64_t to = row * x->row_stride + strip->column * x->column_stride;
        for (int32_t i = 0; i < strip->columns; i++) {
            const float value = dg_cpu_e4m3_values[codes[i * q->column_stride]] * scales[i];
            const int64_t at = to + i * x->column_stride;
            if (args->x_type == DG_BF16)
                ((uint16_t *)x->data)[at] = cpu_to_bf16(value);
            else
                ((float *)x->data)[at] = value == value ? value : cpu_bits_float(0x7fc00000);
        }
    }
}

static void dequantize_task(const void *argument, void *scratch, int64_t task)
{
    const struct quantize *work = argument;
    int64_t index = task * work->strips_per_task;
    const int64_t end = index + work->strips_per_task;
    for (; index < end && index < work->num_strips; index++) {
        const struct strip strip = find_strip(work, index);
        dequantize_strip(work->args, &strip, ((struct buffer *)scratch)->factor);
    }
}

static dg_status run(const struct dg_cpu_state *state, const struct dg_quantize_args *args,
                     void (*task)(const void *, void *, int64_t))
{
    _Static_assert(sizeof(struct buffer) <= CPU_MIN_SCRATCH_BYTES, "the pool's scratch is for all");
    struct quantize work = {.kernels = state->kernels, .args = args};
    work.strips_per_row = dg_ceil_div(args->columns, STRIP_COLUMNS);
    work.num_strips = work.strips_per_row * dg_ceil_div(args->rows, args->block_rows);
    work.strips_per_task = dg_ceil_div(TASK_VALUES, (int64_t)args->block_rows * STRIP_COLUMNS);
    const struct dg_cpu_job job = {
        .run = task,
        .argument = &work,
        .num_tasks = dg_ceil_div(work.num_strips, work.strips_per_task),
        .max_threads = state->num_threads,
    };
    return dg_cpu_pool_run(state->pool, &job);
}

dg_status dg_cpu_quantize(void *state, const struct dg_quantize_args *args)
{
    return run(state, args, quantize_task);
}

dg_status dg_cpu_dequantize(void *state, const struct dg_quantize_args *args)
{
    return run(state, args, dequantize_task);
}
