// SPDX-License-Identifier: MIT
// mqa.c - MQA logits, plain and paged, and their schedule: check the arguments, hand them to the backend.
//
// What tensors hold (ranges, lengths, page ids) is on the device and not looked at here.
#include "api/check.h"
#include "api/context.h"
#include "api/mqa_check.h"
#include "base/overflow.h"

#include <string.h>

#define LL(x) ((long long)(x))

enum { ALL_FLAGS = DG_MQA_CLEAN | DG_MQA_COMPRESSED | DG_MQA_PDL | DG_MQA_CHECK };

static const unsigned float_types = DG_TYPE_BIT(DG_F32) | DG_TYPE_BIT(DG_BF16);

// ---- tensors of any rank ----

static dg_status check_sizes(const char *name, const struct dg_tensor *t, int64_t *bytes)
{
    int64_t last = 0, elements = 1, step;
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] < 0)
            return dg_fail(DG_INVALID_ARGUMENT, "%s.shape[%d] = %lld: must not be negative", name,
                           i, LL(t->shape[i]));
        if (t->shape[i] > 1 && t->stride[i] < 0)
            return dg_fail(DG_INVALID_ARGUMENT, "%s.stride[%d] = %lld: must not be negative", name,
                           i, LL(t->stride[i]));
        if (!dg_multiply_fits(elements, t->shape[i], &elements))
            return dg_fail(DG_INVALID_ARGUMENT, "%s: its shape does not fit 64-bit sizes", name);
        if (t->shape[i] > 1 && (!dg_multiply_fits(t->shape[i] - 1, t->stride[i], &step) ||
                                !dg_add_fits(last, step, &last)))
            return dg_fail(DG_INVALID_ARGUMENT,
                           "%s.stride[%d] = %lld: its extent does not fit 64-bit addresses", name,
                           i, LL(t->stride[i]));
    }
    if (!dg_add_fits(last, 1, bytes) ||
        !dg_multiply_fits(*bytes, (int64_t)dg_type_bytes(t->type), bytes))
        return dg_fail(DG_INVALID_ARGUMENT, "%s: its extent does not fit 64-bit addresses", name);
    if (elements == 0)
        *bytes = 0;
    return DG_OK;
}

// Type, rank, sizes, data, and a last dimension without gaps.
static dg_status check_tensor(const char *name, const struct dg_tensor *t, unsigned types,
                              int first_rank, int last_rank)
{
    int64_t bytes = 0;
    if (!t)
        return dg_fail(DG_INVALID_ARGUMENT, "%s is NULL", name);
    if ((unsigned)t->type >= 32 || !(types & DG_TYPE_BIT(t->type)))
        return dg_fail(DG_INVALID_ARGUMENT, "%s.type = %s (%d): must be %s", name,
                       dg_type_name(t->type), (int)t->type,
                       types & DG_TYPE_BIT(DG_BF16)   ? "f32 or bf16"
                       : types & DG_TYPE_BIT(DG_I32)  ? "i32"
                       : types & DG_TYPE_BIT(DG_E4M3) ? "e4m3"
                                                      : "f32");
    if (t->rank < first_rank || t->rank > last_rank)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.rank = %d: must be %d%s", name, (int)t->rank,
                       first_rank, first_rank == last_rank ? "" : " or one more");
    DG_TRY(check_sizes(name, t, &bytes));
    if (bytes == 0)
        return DG_OK;
    if (t->shape[t->rank - 1] > 1 && t->stride[t->rank - 1] != 1)
        return dg_fail(DG_INVALID_ARGUMENT, "%s.stride[%d] = %lld: the last stride must be 1", name,
                       (int)t->rank - 1, LL(t->stride[t->rank - 1]));
    if (!t->data || (uintptr_t)t->data % dg_type_bytes(t->type))
        return dg_fail(DG_INVALID_ARGUMENT, "%s.data = %p: must be a multiple of %zu bytes", name,
                       t->data, dg_type_bytes(t->type));
    return DG_OK;
}

static dg_status check_size(const char *name, const struct dg_tensor *t, int dimension,
                            int64_t size, const char *rule)
{
    if (t->shape[dimension] == size)
        return DG_OK;
    return dg_fail(DG_INVALID_ARGUMENT, "%s.shape[%d] = %lld: must be %lld, %s", name, dimension,
                   LL(t->shape[dimension]), LL(size), rule);
}

// A stride that is used, or what it would be without a gap.
static int64_t stride_of(const struct dg_tensor *t, int dimension, int64_t dense)
{
    return t->shape[dimension] > 1 ? t->stride[dimension] : dense;
}

// A matrix whose rows follow one another without gaps.
static dg_status check_dense(const char *name, const struct dg_tensor *t)
{
    if (t->rank == 2 && t->shape[0] > 1 && t->shape[1] > 0 && t->stride[0] != t->shape[1])
        return dg_fail(DG_INVALID_ARGUMENT, "%s.stride[0] = %lld: must be %lld, no gap", name,
                       LL(t->stride[0]), LL(t->shape[1]));
    return DG_OK;
}

// ---- what both forms have ----

static dg_status check_options(const struct dg_mqa_options *given, bool is_paged, uint32_t *flags)
{
    struct dg_mqa_options options = DG_MQA_OPTIONS;
    if (given)
        DG_TRY(dg_options_read("options", given, &options, sizeof options));
    const uint32_t known = (uint32_t)ALL_FLAGS & ~(is_paged ? (uint32_t)DG_MQA_COMPRESSED : 0);
    if (options.flags & ~known)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "options.flags = 0x%x: only the bits 0x%x (DG_MQA_...) are defined here",
                       (unsigned)options.flags, (unsigned)known);
    *flags = options.flags;
    return DG_OK;
}

static dg_status check_weights(const struct dg_tensor *weights, struct dg_mqa_args *args)
{
    DG_TRY(check_tensor("weights", weights, float_types, 2, 2));
    DG_TRY(check_size("weights", weights, 0, args->rows, "one row for each query row"));
    DG_TRY(check_size("weights", weights, 1, args->heads, "the heads of q"));
    args->weights = weights->data;
    args->weights_type = weights->type;
    args->weights_row_stride = stride_of(weights, 0, args->heads);
    return DG_OK;
}

static dg_status check_logits(const dg_context *context, const struct dg_tensor *logits,
                              struct dg_mqa_args *args)
{
    // The oracle writes double as well.
    const unsigned f64 = strcmp(context->backend->name, "oracle") ? 0 : DG_TYPE_BIT(DG_F64);
    DG_TRY(check_tensor("logits", logits, float_types | f64, 2, 2));
    DG_TRY(check_size("logits", logits, 0, args->rows, "one row for each query row"));
    args->columns = logits->shape[1];
    args->logits = logits->data;
    args->logits_type = logits->type;
    args->logits_row_stride = stride_of(logits, 0, args->columns);
    if (logits->shape[0] > 1 && logits->stride[0] < logits->shape[1])
        return dg_fail(DG_INVALID_ARGUMENT,
                       "logits.stride[0] = %lld with shape[1] = %lld: rows must not overlap",
                       LL(logits->stride[0]), LL(logits->shape[1]));
    return DG_OK;
}

static dg_status check_heads(const struct dg_tensor *q, struct dg_mqa_args *args)
{
    const int64_t heads = q->shape[q->rank - 2], depth = q->shape[q->rank - 1];
    if (heads < 1 || heads > INT32_MAX || depth < 1 || depth > INT32_MAX)
        return dg_fail(DG_INVALID_ARGUMENT, "q has %lld heads of %lld values: must be at least 1",
                       LL(heads), LL(depth));
    args->heads = (int32_t)heads;
    args->depth = (int32_t)depth;
    args->q = q->data;
    args->q_head_stride = stride_of(q, q->rank - 2, depth);
    args->q_row_stride = stride_of(q, q->rank - 3, heads * args->q_head_stride);
    return DG_OK;
}

static dg_status run(dg_context *context, const struct dg_mqa_args *args)
{
    if (!context->backend->mqa_logits)
        return dg_fail(DG_UNSUPPORTED, "the %s backend has no MQA logits", context->backend->name);
    if (args->rows == 0 || args->columns == 0)
        return DG_OK;
    if (args->is_paged)
        DG_TRY(dg_mqa_check_paged(context, args));
    return context->backend->mqa_logits(context->state, dg_context_num_sms(context), args);
}

// ---- plain ----

static dg_status check_range(const char *name, const struct dg_tensor *t, int64_t rows)
{
    DG_TRY(check_tensor(name, t, DG_TYPE_BIT(DG_I32), 1, 1));
    return check_size(name, t, 0, rows, "one for each query row");
}

static dg_status check_plain_kv(const struct dg_tensor *kv, const struct dg_tensor *kv_scales,
                                struct dg_mqa_args *args)
{
    DG_TRY(check_tensor("kv", kv, DG_TYPE_BIT(DG_E4M3), 2, 2));
    DG_TRY(check_size("kv", kv, 1, args->depth, "the depth of q"));
    DG_TRY(check_tensor("kv_scales", kv_scales, DG_TYPE_BIT(DG_F32), 1, 1));
    DG_TRY(check_size("kv_scales", kv_scales, 0, kv->shape[0], "one for each row of kv"));
    args->plain.kv = kv->data;
    args->plain.kv_row_stride = stride_of(kv, 0, args->depth);
    args->plain.num_kv = kv->shape[0];
    args->plain.scales = kv_scales->data;
    args->plain.scale_stride = 1;
    return DG_OK;
}

static dg_status plain(dg_context *context, const struct dg_tensor *q, const struct dg_tensor *kv,
                       const struct dg_tensor *kv_scales, const struct dg_tensor *weights,
                       const struct dg_tensor *starts, const struct dg_tensor *ends,
                       const struct dg_tensor *logits, const struct dg_mqa_options *options,
                       void *stream)
{
    struct dg_mqa_args args = {.is_paged = 0, .stream = stream};
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    DG_TRY(check_options(options, false, &args.flags));
    DG_TRY(check_tensor("q", q, DG_TYPE_BIT(DG_E4M3), 3, 3));
    args.rows = q->shape[0];
    DG_TRY(check_heads(q, &args));
    DG_TRY(check_plain_kv(kv, kv_scales, &args));
    DG_TRY(check_weights(weights, &args));
    DG_TRY(check_range("starts", starts, args.rows));
    DG_TRY(check_range("ends", ends, args.rows));
    args.plain.starts = starts->data;
    args.plain.ends = ends->data;
    DG_TRY(check_logits(context, logits, &args));
    if (!(args.flags & DG_MQA_COMPRESSED))
        DG_TRY(check_size("logits", logits, 1, args.plain.num_kv, "the rows of kv"));
    return run(context, &args);
}

dg_status dg_fp8_mqa_logits(dg_context *context, const struct dg_tensor *q,
                            const struct dg_tensor *kv, const struct dg_tensor *kv_scales,
                            const struct dg_tensor *weights, const struct dg_tensor *starts,
                            const struct dg_tensor *ends, const struct dg_tensor *logits,
                            const struct dg_mqa_options *options, void *stream)
{
    const dg_status status =
        plain(context, q, kv, kv_scales, weights, starts, ends, logits, options, stream);
    return status ? dg_fail_context(status, "dg_fp8_mqa_logits") : DG_OK;
}

// ---- paged ----

static dg_status check_lengths(const struct dg_tensor *lengths, struct dg_mqa_paged *paged)
{
    DG_TRY(check_tensor("lengths", lengths, DG_TYPE_BIT(DG_I32), 1, 2));
    DG_TRY(check_dense("lengths", lengths));
    if (lengths->shape[0] > INT32_MAX || (lengths->rank == 2 && lengths->shape[1] > INT32_MAX))
        return dg_fail(DG_INVALID_ARGUMENT, "lengths.shape[0] = %lld: too many sequences",
                       LL(lengths->shape[0]));
    if (lengths->rank == 2 && lengths->shape[0] > 0 && lengths->shape[1] < 1)
        return dg_fail(DG_INVALID_ARGUMENT, "lengths.shape[1] = 0: must be at least 1");
    paged->batch = (int32_t)lengths->shape[0];
    paged->lengths = lengths->data;
    paged->lengths_per_row = lengths->rank == 2;
    paged->next_n = lengths->rank == 2 ? (int32_t)lengths->shape[1] : 1;
    return DG_OK;
}

static dg_status check_schedule(const dg_context *context, const struct dg_tensor *schedule,
                                struct dg_mqa_paged *paged)
{
    const int32_t num_sms = dg_context_num_sms(context);
    if (!schedule)
        return dg_fail(DG_INVALID_ARGUMENT, "schedule is NULL: a GPU needs that of "
                                            "dg_paged_mqa_logits_metadata() for the same lengths");
    DG_TRY(check_tensor("schedule", schedule, DG_TYPE_BIT(DG_I32), 2, 2));
    DG_TRY(check_size("schedule", schedule, 1, 2, "a sequence and a chunk"));
    DG_TRY(check_dense("schedule", schedule));
    if (schedule->shape[0] < 2 || schedule->shape[0] > INT32_MAX)
        return dg_fail(DG_INVALID_ARGUMENT, "schedule.shape[0] = %lld: must be at least 2",
                       LL(schedule->shape[0]));
    if (num_sms && schedule->shape[0] != num_sms + 1)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "schedule.shape[0] = %lld: must be %d, one more than the SMs of the context "
                       "(dg_context_num_sms); a schedule serves the number of SMs it was made for",
                       LL(schedule->shape[0]), (int)num_sms + 1);
    paged->num_workers = (int32_t)(schedule->shape[0] - 1);
    return DG_OK;
}

static dg_status check_cache(const struct dg_tensor *cache, struct dg_mqa_args *args)
{
    struct dg_mqa_paged *paged = &args->paged;
    DG_TRY(check_tensor("kv_cache", cache, DG_TYPE_BIT(DG_E4M3), 3, 4));
    if (cache->rank == 4)
        DG_TRY(check_size("kv_cache", cache, 2, 1, "as all heads share a key"));
    DG_TRY(check_size("kv_cache", cache, cache->rank - 1, args->depth + 4,
                      "the depth of q and a scale of 4 bytes"));
    const int64_t size = cache->shape[1], bytes = size * (args->depth + 4);
    if (size != 16 && size != 32 && size != 64 && size != 128)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "kv_cache.shape[1] = %lld: a page must have 16, 32, 64 or 128 positions",
                       LL(size));
    if (cache->stride[1] != args->depth + 4)
        return dg_fail(DG_INVALID_ARGUMENT, "kv_cache.stride[1] = %lld: must be %d, no gap",
                       LL(cache->stride[1]), (int)args->depth + 4);
    paged->num_pages = cache->shape[0];
    paged->page_stride_bytes = stride_of(cache, 0, bytes);
    if (paged->page_stride_bytes < bytes || paged->page_stride_bytes % 4)
        return dg_fail(
            DG_INVALID_ARGUMENT,
            "kv_cache.stride[0] = %lld: must be a multiple of 4 and at least %lld, a page",
            LL(paged->page_stride_bytes), LL(bytes));
    if (cache->shape[0] && (uintptr_t)cache->data % 4)
        return dg_fail(DG_INVALID_ARGUMENT, "kv_cache.data = %p: must be a multiple of 4 bytes",
                       cache->data);
    paged->pages = cache->data;
    paged->page_size = (int32_t)size;
    return DG_OK;
}

static dg_status check_table(const struct dg_tensor *table, struct dg_mqa_paged *paged)
{
    DG_TRY(check_tensor("block_table", table, DG_TYPE_BIT(DG_I32), 2, 2));
    DG_TRY(check_size("block_table", table, 0, paged->batch, "one row for each sequence"));
    paged->block_table = table->data;
    paged->max_pages = table->shape[1];
    paged->block_table_stride = stride_of(table, 0, table->shape[1]);
    return DG_OK;
}

static dg_status check_queries(const struct dg_tensor *q, const struct dg_tensor *lengths,
                               struct dg_mqa_args *args)
{
    DG_TRY(check_tensor("q", q, DG_TYPE_BIT(DG_E4M3), 4, 4));
    if (q->shape[1] < 1 || q->shape[1] > INT32_MAX)
        return dg_fail(DG_INVALID_ARGUMENT, "q.shape[1] = %lld: next_n must be at least 1",
                       LL(q->shape[1]));
    DG_TRY(check_heads(q, args));
    if (q->shape[1] == 1)
        args->q_row_stride = stride_of(q, 0, args->q_row_stride);
    else if (q->shape[0] > 1 && q->stride[0] != q->shape[1] * q->stride[1])
        return dg_fail(DG_INVALID_ARGUMENT,
                       "q.stride[0] = %lld: must be %lld, next_n times q.stride[1]",
                       LL(q->stride[0]), LL(q->shape[1] * q->stride[1]));
    DG_TRY(check_lengths(lengths, &args->paged));
    DG_TRY(check_size("lengths", lengths, 0, q->shape[0], "the batch of q"));
    if (lengths->rank == 2)
        DG_TRY(check_size("lengths", lengths, 1, q->shape[1], "the next_n of q"));
    args->paged.next_n = (int32_t)q->shape[1];
    args->rows = q->shape[0] * q->shape[1];
    return DG_OK;
}

static dg_status paged(dg_context *context, const struct dg_tensor *q,
                       const struct dg_tensor *kv_cache, const struct dg_tensor *weights,
                       const struct dg_tensor *lengths, const struct dg_tensor *block_table,
                       const struct dg_tensor *schedule, const struct dg_tensor *logits,
                       const struct dg_mqa_options *options, void *stream)
{
    struct dg_mqa_args args = {.is_paged = 1, .stream = stream};
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    DG_TRY(check_options(options, true, &args.flags));
    DG_TRY(check_queries(q, lengths, &args));
    DG_TRY(check_cache(kv_cache, &args));
    DG_TRY(check_weights(weights, &args));
    DG_TRY(check_table(block_table, &args.paged));
    DG_TRY(check_logits(context, logits, &args));
    if (schedule || dg_context_num_sms(context))
        DG_TRY(check_schedule(context, schedule, &args.paged));
    args.paged.schedule = schedule ? schedule->data : NULL;
    return run(context, &args);
}

dg_status dg_fp8_paged_mqa_logits(dg_context *context, const struct dg_tensor *q,
                                  const struct dg_tensor *kv_cache, const struct dg_tensor *weights,
                                  const struct dg_tensor *lengths,
                                  const struct dg_tensor *block_table,
                                  const struct dg_tensor *schedule, const struct dg_tensor *logits,
                                  const struct dg_mqa_options *options, void *stream)
{
    const dg_status status = paged(context, q, kv_cache, weights, lengths, block_table, schedule,
                                   logits, options, stream);
    return status ? dg_fail_context(status, "dg_fp8_paged_mqa_logits") : DG_OK;
}

// ---- the schedule ----

static dg_status metadata(dg_context *context, const struct dg_tensor *lengths,
                          const struct dg_tensor *schedule, void *stream)
{
    struct dg_mqa_schedule_args args = {.stream = stream};
    if (!context)
        return dg_fail(DG_INVALID_ARGUMENT, "context is NULL");
    DG_TRY(check_lengths(lengths, &args.paged));
    DG_TRY(check_schedule(context, schedule, &args.paged));
    args.schedule = schedule->data;
    if (!context->backend->mqa_schedule)
        return dg_fail(DG_UNSUPPORTED, "the %s backend has no MQA logits", context->backend->name);
    return context->backend->mqa_schedule(context->state, &args);
}

dg_status dg_paged_mqa_logits_metadata(dg_context *context, const struct dg_tensor *lengths,
                                       const struct dg_tensor *schedule, void *stream)
{
    const dg_status status = metadata(context, lengths, schedule, stream);
    return status ? dg_fail_context(status, "dg_paged_mqa_logits_metadata") : DG_OK;
}
