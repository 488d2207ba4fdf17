// SPDX-License-Identifier: MIT
// quantize.c - quantisation to E4M3 and back: check the arguments and hand them to the backend.
#include "api/check.h"
#include "api/context.h"

// One scale per block_rows x block_columns; packed scales run along rows if pack_rows.
struct granularity {
    const char *function;
    int32_t block_rows, block_columns;
    bool pack_rows;
};

static const struct granularity per_token = {"dg_quantize_per_token", 1, 128, false};
static const struct granularity per_channel = {"dg_quantize_per_channel", 128, 1, true};
static const struct granularity per_block = {"dg_quantize_per_block", 128, 128, false};

static const unsigned float_types = DG_TYPE_BIT(DG_F32) | DG_TYPE_BIT(DG_BF16);

static dg_status check_rounding(dg_scale_rounding rounding, dg_type scale_type)
{
    if (rounding != DG_SCALE_EXACT && rounding != DG_SCALE_POWER_OF_TWO)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "rounding = %d: must be DG_SCALE_EXACT or DG_SCALE_POWER_OF_TWO",
                       (int)rounding);
    if (scale_type == DG_UE8M0X4 && rounding != DG_SCALE_POWER_OF_TWO)
        return dg_fail(
            DG_INVALID_ARGUMENT,
            "scales.type = ue8m0x4 with rounding = DG_SCALE_EXACT: ue8m0x4 holds powers of "
            "two only, so ask for DG_SCALE_POWER_OF_TWO");
    return DG_OK;
}

static struct dg_quantize_args arguments(const struct granularity *g, const struct dg_checked *x,
                                         const struct dg_checked *q,
                                         const struct dg_checked *scales, void *stream)
{
    return (struct dg_quantize_args){
        .rows = x->rows,
        .columns = x->columns,
        .block_rows = g->block_rows,
        .block_columns = g->block_columns,
        .x = dg_view(x),
        .q = dg_view(q),
        .scales = dg_view(scales),
        .x_type = x->type,
        .scale_type = scales->type,
        .pack_rows = g->pack_rows,
        .stream = stream,
    };
}

static dg_status quantize(const struct granularity *g, dg_context *context,
                          const struct dg_tensor *x, const struct dg_tensor *q,
                          const struct dg_tensor *scales, dg_scale_rounding rounding, void *stream)
{
    struct dg_checked cx, cq, cs;
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    DG_TRY(dg_check_matrix("x", x, float_types, false, &cx));
    DG_TRY(dg_check_unit_stride(&cx));
    DG_TRY(dg_check_matrix("q", q, DG_TYPE_BIT(DG_E4M3), false, &cq));
    DG_TRY(dg_check_shape(&cq, cx.rows, cx.columns, "the shape of x"));
    DG_TRY(dg_check_unit_stride(&cq));
    DG_TRY(dg_check_distinct(&cq));
    const struct dg_scale_rule rule = {&cx, g->block_rows, g->block_columns, g->pack_rows};
    DG_TRY(dg_check_scales("scales", scales, &rule, &cs));
    DG_TRY(dg_check_distinct(&cs));
    DG_TRY(check_rounding(rounding, cs.type));
    DG_TRY(dg_check_apart(&cq, &cx));
    DG_TRY(dg_check_apart(&cs, &cx));
    DG_TRY(dg_check_apart(&cs, &cq));
    if (!context->backend->quantize)
        return dg_fail(DG_UNSUPPORTED, "the %s backend does not quantise; use a \"cpu\" context",
                       context->backend->name);
    if (cx.rows == 0 || cx.columns == 0)
        return DG_OK;
    struct dg_quantize_args args = arguments(g, &cx, &cq, &cs, stream);
    args.rounding = rounding;
    return context->backend->quantize(context->state, &args);
}

static dg_status named_quantize(const struct granularity *g, dg_context *context,
                                const struct dg_tensor *x, const struct dg_tensor *q,
                                const struct dg_tensor *scales, dg_scale_rounding rounding,
                                void *stream)
{
    dg_status status = quantize(g, context, x, q, scales, rounding, stream);
    return status ? dg_fail_context(status, "%s", g->function) : DG_OK;
}

dg_status dg_quantize_per_token(dg_context *context, const struct dg_tensor *x,
                                const struct dg_tensor *q, const struct dg_tensor *scales,
                                dg_scale_rounding rounding, void *stream)
{
    return named_quantize(&per_token, context, x, q, scales, rounding, stream);
}

dg_status dg_quantize_per_channel(dg_context *context, const struct dg_tensor *x,
                                  const struct dg_tensor *q, const struct dg_tensor *scales,
                                  dg_scale_rounding rounding, void *stream)
{
    return named_quantize(&per_channel, context, x, q, scales, rounding, stream);
}

dg_status dg_quantize_per_block(dg_context *context, const struct dg_tensor *x,
                                const struct dg_tensor *q, const struct dg_tensor *scales,
                                dg_scale_rounding rounding, void *stream)
{
    return named_quantize(&per_block, context, x, q, scales, rounding, stream);
}

// --- back ---

static dg_status find_granularity(const struct dg_scaled *q, const struct granularity **found)
{
    static const struct granularity *const all[] = {&per_token, &per_channel, &per_block};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        *found = all[i];
        if (q->block_rows == all[i]->block_rows && q->block_columns == all[i]->block_columns)
            return DG_OK;
    }
    return dg_fail(
        DG_INVALID_ARGUMENT,
        "q.block_rows x q.block_columns = %d x %d: must be 1 x 128, 128 x 1 or 128 x 128",
        (int)q->block_rows, (int)q->block_columns);
}

static dg_status dequantize(dg_context *context, const struct dg_scaled *q,
                            const struct dg_tensor *x, void *stream)
{
    struct dg_checked cx, cq, cs;
    const struct granularity *g;
    if (!context || !q)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", context ? "q" : "context");
    DG_TRY(dg_check_matrix("q.values", &q->values, DG_TYPE_BIT(DG_E4M3), false, &cq));
    DG_TRY(dg_check_unit_stride(&cq));
    DG_TRY(find_granularity(q, &g));
    const struct dg_scale_rule rule = {&cq, g->block_rows, g->block_columns, g->pack_rows};
    DG_TRY(dg_check_scales("q.scales", &q->scales, &rule, &cs));
    DG_TRY(dg_check_matrix("x", x, float_types, false, &cx));
    DG_TRY(dg_check_shape(&cx, cq.rows, cq.columns, "the shape of q.values"));
    DG_TRY(dg_check_unit_stride(&cx));
    DG_TRY(dg_check_distinct(&cx));
    DG_TRY(dg_check_apart(&cq, &cx));
    DG_TRY(dg_check_apart(&cs, &cx));
    if (!context->backend->dequantize)
        return dg_fail(DG_UNSUPPORTED, "the %s backend does not dequantise; use a \"cpu\" context",
                       context->backend->name);
    if (cx.rows == 0 || cx.columns == 0)
        return DG_OK;
    const struct dg_quantize_args args = arguments(g, &cx, &cq, &cs, stream);
    return context->backend->dequantize(context->state, &args);
}

dg_status dg_dequantize(dg_context *context, const struct dg_scaled *q, const struct dg_tensor *x,
                        void *stream)
{
    dg_status status = dequantize(context, q, x, stream);
    return status ? dg_fail_context(status, "dg_dequantize") : DG_OK;
}
