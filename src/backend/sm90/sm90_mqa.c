// SPDX-License-Identifier: MIT
// sm90_mqa.c - from a call of MQA logits to launches: one, or for decoding with many tokens one for each
// four of them.  Everything is checked before anything is launched; nothing is allocated and nothing waits.
#include "backend/sm90/sm90_mqa.h"

#include "backend/sm90/sm90_gemm.h"
#include "backend/sm90/sm90_mqa_args.h"
#include "backend/sm90/sm90_mqa_kernel.h"
#include "cuda/launch.h"
#include "plan/mqa_schedule.h"

#include <stdio.h>

#define LL(x) ((long long)(x))

enum { MOST_HEADS = 128, MOST_DEPTH = 128, QUERIES = 4, STAGE_KEYS = 64 };
_Static_assert((int)DG_MQA_CHUNK == (int)DG_SM90_MQA_CHUNK, "schedules are the same everywhere");

// ---- checks -----------------------------------------------------------------------------------------

static dg_status check_int(const char *name, int64_t value)
{
    if (value <= INT32_MAX)
        return DG_OK;
    return dg_fail(DG_UNSUPPORTED, "%s = %lld: a GPU does at most %d", name, LL(value), INT32_MAX);
}

static dg_status check_stride(const char *name, int64_t bytes)
{
    if (bytes % 16 == 0)
        return DG_OK;
    return dg_fail(DG_UNSUPPORTED,
                   "%s is %lld bytes: must be a multiple of 16 on a GPU (TMA reads no other)", name,
                   LL(bytes));
}

static dg_status check_heads(int32_t heads, int32_t depth)
{
    if (heads > MOST_HEADS)
        return dg_fail(DG_UNSUPPORTED, "q has %d heads: a GPU does at most %d", (int)heads,
                       MOST_HEADS);
    if (depth > MOST_DEPTH || depth % 16)
        return dg_fail(DG_UNSUPPORTED, "q has depth %d: on a GPU a multiple of 16 up to %d",
                       (int)depth, MOST_DEPTH);
    return DG_OK;
}

static dg_status check_sizes(const struct dg_mqa_args *args)
{
    DG_TRY(check_heads(args->heads, args->depth));
    DG_TRY(check_int("logits.shape[0]", args->rows));
    DG_TRY(check_int("logits.shape[1]", args->columns));
    DG_TRY(check_stride("the stride of q's heads", args->q_head_stride));
    DG_TRY(check_stride("the stride of q's rows", args->q_row_stride));
    if (!args->is_paged) {
        DG_TRY(check_int("kv.shape[0]", args->plain.num_kv));
        return check_stride("kv.stride[0]", args->plain.kv_row_stride);
    }
    DG_TRY(check_int("kv_cache.shape[0]", args->paged.num_pages));
    if (args->paged.num_pages == 0 && args->paged.max_pages > 0)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "kv_cache.shape[0] = 0: has no pages, but "
                       "block_table.shape[1] = %lld",
                       LL(args->paged.max_pages));
    return check_stride("kv_cache.stride[0]", args->paged.page_stride_bytes);
}

static dg_status check_pointers(const struct dg_sm90_state *state, const struct dg_mqa_args *args)
{
    const struct {
        const char *name;
        const void *pointer;
    } plain[] = {{"kv", args->plain.kv},
                 {"kv_scales", args->plain.scales},
                 {"starts", args->plain.starts},
                 {"ends", args->plain.ends}},
      paged[] = {{"kv_cache", args->paged.pages},
                 {"lengths", args->paged.lengths},
                 {"block_table", args->paged.block_table},
                 {"schedule", args->paged.schedule}};
    const bool has_keys = args->is_paged ? args->paged.max_pages > 0 : args->plain.num_kv > 0;
    DG_TRY(dg_cuda_check_pointer(&state->context, args->q, "q"));
    DG_TRY(dg_cuda_check_pointer(&state->context, args->weights, "weights"));
    DG_TRY(dg_cuda_check_pointer(&state->context, args->logits, "logits"));
    for (int i = 0; i < 4; i++)
        if (has_keys || (args->is_paged ? i % 2 : i >= 2))
            DG_TRY(dg_cuda_check_pointer(&state->context,
                                         args->is_paged ? paged[i].pointer : plain[i].pointer,
                                         args->is_paged ? paged[i].name : plain[i].name));
    return DG_OK;
}

// ---- descriptors ------------------------------------------------------------------------------------

static dg_status encode(const struct dg_sm90_state *state, const char *name,
                        struct dg_tensor_map_desc desc, struct dg_tensor_map *map)
{
    desc.l2_promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
    return dg_cuda_tensor_map_encode(state->context.cuda, name, &desc, (CUtensorMap *)map);
}

// q in the order of a product's columns: [head of a part][query][part of the heads][depth].
static dg_status map_queries(const struct dg_sm90_state *state, const struct dg_mqa_args *args,
                             const struct dg_sm90_mqa_kernel *kernel, int head_step,
                             struct dg_tensor_map *map)
{
    const uint32_t parts = 2 * (uint32_t)kernel->lanes;
    const int32_t rows = dg_sm90_mqa_head_rows(args->heads, kernel->lanes);
    struct dg_tensor_map_desc desc = {
        .data = args->q,
        .shape = {(uint64_t)args->depth, args->heads == 1 ? 1 : parts, (uint64_t)args->rows,
                  (uint64_t)rows},
        .stride_bytes = {(uint64_t)(head_step ? head_step * args->q_head_stride : 16),
                         (uint64_t)args->q_row_stride, (uint64_t)args->q_head_stride},
        .box = {(uint32_t)kernel->depth, parts, QUERIES / (uint32_t)kernel->lanes,
                (uint32_t)(kernel->head_rows * kernel->pieces)},
        .rank = 4,
        .type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
        .swizzle = dg_cuda_tensor_map_swizzle(kernel->depth),
    };
    return encode(state, "q", desc, map);
}

static dg_status map_keys(const struct dg_sm90_state *state, const struct dg_mqa_args *args,
                          const struct dg_sm90_mqa_kernel *kernel, struct dg_tensor_map *map)
{
    struct dg_tensor_map_desc desc = {
        .data = args->plain.kv,
        .shape = {(uint64_t)args->depth, (uint64_t)args->plain.num_kv},
        .stride_bytes = {(uint64_t)args->plain.kv_row_stride},
        .box = {(uint32_t)kernel->depth, STAGE_KEYS},
        .rank = 2,
        .type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
        .swizzle = dg_cuda_tensor_map_swizzle(kernel->depth),
    };
    return encode(state, "kv", desc, map);
}

// Rows of the box that holds a page's values and, in whole rows behind them, its scales; 0: there is none.
static uint32_t merged_rows(const struct dg_mqa_args *args, const struct dg_sm90_mqa_kernel *kernel)
{
    if (args->paged.page_size != STAGE_KEYS || args->depth != kernel->depth)
        return 0;
    return STAGE_KEYS + STAGE_KEYS * 4 / (uint32_t)args->depth;
}

// Pages: values [page_size][depth] and, behind them, scales.
static dg_status map_pages(const struct dg_sm90_state *state, const struct dg_mqa_args *args,
                           const struct dg_sm90_mqa_kernel *kernel, struct dg_sm90_mqa_maps *maps)
{
    const struct dg_mqa_paged *p = &args->paged;
    const uint32_t size = (uint32_t)p->page_size, keys = size < STAGE_KEYS ? size : STAGE_KEYS;
    const uint32_t merged = merged_rows(args, kernel);
    struct dg_tensor_map_desc values = {
        .data = p->pages,
        .shape = {(uint64_t)args->depth, merged ? merged : size, (uint64_t)p->num_pages},
        .stride_bytes = {(uint64_t)args->depth, (uint64_t)p->page_stride_bytes},
        .box = {(uint32_t)kernel->depth, merged ? merged : keys, 1},
        .rank = 3,
        .type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
        .swizzle = dg_cuda_tensor_map_swizzle(kernel->depth),
    };
    struct dg_tensor_map_desc scales = {
        .data = p->pages + (int64_t)p->page_size * args->depth,
        .shape = {size, (uint64_t)p->num_pages},
        .stride_bytes = {(uint64_t)p->page_stride_bytes},
        .box = {keys, 1},
        .rank = 2,
        .type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        .swizzle = CU_TENSOR_MAP_SWIZZLE_NONE,
    };
    DG_TRY(encode(state, "kv_cache", values, &maps->kv));
    return encode(state, "kv_cache", scales, &maps->scales);
}

static dg_status make_maps(const struct dg_sm90_state *state, const struct dg_mqa_args *args,
                           const struct dg_sm90_mqa_kernel *kernel, int head_step,
                           struct dg_sm90_mqa_maps *maps)
{
    DG_TRY(map_queries(state, args, kernel, head_step, &maps->q));
    maps->kv = maps->scales = maps->q; // valid, should there be no keys
    if (args->is_paged)
        return args->paged.max_pages > 0 ? map_pages(state, args, kernel, maps) : DG_OK;
    return args->plain.num_kv > 0 ? map_keys(state, args, kernel, &maps->kv) : DG_OK;
}

// ---- arguments --------------------------------------------------------------------------------------

static void fill_plain(const struct dg_mqa_args *args, struct dg_sm90_mqa_args *out)
{
    out->scales = args->plain.scales;
    out->starts = args->plain.starts;
    out->ends = args->plain.ends;
    out->num_kv = (int)args->plain.num_kv;
    out->is_compressed = (args->flags & DG_MQA_COMPRESSED) != 0;
}

static void fill_paged(const struct dg_mqa_args *args, const struct dg_sm90_mqa_kernel *kernel,
                       struct dg_sm90_mqa_args *out)
{
    const struct dg_mqa_paged *p = &args->paged;
    out->lengths = p->lengths;
    out->block_table = p->block_table;
    out->schedule = p->schedule;
    out->block_table_stride = p->block_table_stride;
    out->max_pages = p->max_pages;
    out->batch = p->batch;
    out->next_n = p->next_n;
    out->lengths_per_row = p->lengths_per_row;
    out->num_workers = p->num_workers;
    out->page_size = p->page_size;
    while (1 << out->page_shift < p->page_size)
        out->page_shift++;
    out->merged_rows = (int)merged_rows(args, kernel);
    out->max_length = p->max_pages > args->columns / p->page_size
                          ? (int)args->columns
                          : (int)(p->max_pages * p->page_size);
}

static void fill_args(const struct dg_mqa_args *args, const struct dg_sm90_mqa_kernel *kernel,
                      struct dg_sm90_mqa_args *out)
{
    *out = (struct dg_sm90_mqa_args){
        .logits = args->logits,
        .logits_row_stride = args->logits_row_stride,
        .weights = args->weights,
        .weights_row_stride = args->weights_row_stride,
        .weights_bf16 = args->weights_type == DG_BF16,
        .rows = (int)args->rows,
        .columns = (int)args->columns,
        .heads = args->heads,
        .head_rows = dg_sm90_mqa_head_rows(args->heads, kernel->lanes),
        .head_step = args->heads / (2 * kernel->lanes),
        .is_clean = (args->flags & DG_MQA_CLEAN) != 0,
        .is_filled = (args->flags & DG_MQA_CLEAN) != 0,
    };
    if (args->is_paged)
        fill_paged(args, kernel, out);
    else
        fill_plain(args, out);
}

// ---- launches ---------------------------------------------------------------------------------------

static dg_status launch(struct dg_sm90_state *state, int32_t num_ctas,
                        const struct dg_mqa_args *args, struct dg_sm90_mqa_kernel *identity,
                        struct dg_sm90_mqa_args *kernel_args, struct dg_sm90_mqa_maps *maps)
{
    struct dg_jit_kernel kernel;
    DG_TRY(dg_jit_get(state->jit, identity, sizeof *identity, dg_sm90_mqa_describe, identity,
                      &kernel));
    void *parameters[] = {kernel_args, maps};
    const struct dg_cuda_launch started = {
        .name = identity->is_paged ? "sm90_fp8_paged_mqa_logits" : "sm90_fp8_mqa_logits",
        .function = kernel.function,
        .grid = {(uint32_t)num_ctas, 1, 1},
        .block = {128 * (uint32_t)(dg_sm90_mqa_math_groups(identity) + 1), 1, 1},
        .smem_bytes = (uint32_t)kernel.smem_bytes,
        .pdl = args->flags & DG_MQA_PDL ? 1 : 0,
        .stream = args->stream,
        .parameters = parameters,
    };
    return dg_cuda_launch(state->context.cuda, &started);
}

static dg_status launch_plain(struct dg_sm90_state *state, int32_t num_sms,
                              const struct dg_mqa_args *args)
{
    struct dg_sm90_mqa_kernel kernel =
        dg_sm90_mqa_choose(0, QUERIES, args->heads, args->depth, args->logits_type == DG_BF16);
    struct dg_sm90_mqa_args kernel_args;
    struct dg_sm90_mqa_maps maps;
    fill_args(args, &kernel, &kernel_args);
    DG_TRY(make_maps(state, args, &kernel, kernel_args.head_step, &maps));
    return launch(state, num_sms, args, &kernel, &kernel_args, &maps);
}

static dg_status launch_paged(struct dg_sm90_state *state, const struct dg_mqa_args *args)
{
    const int32_t next_n = args->paged.next_n;
    for (int32_t first = 0; first < next_n; first += QUERIES) {
        const int32_t tokens = next_n - first < QUERIES ? next_n - first : QUERIES;
        struct dg_sm90_mqa_kernel kernel =
            dg_sm90_mqa_choose(1, tokens, args->heads, args->depth, args->logits_type == DG_BF16);
        struct dg_sm90_mqa_args kernel_args;
        struct dg_sm90_mqa_maps maps;
        fill_args(args, &kernel, &kernel_args);
        kernel_args.first_token = first;
        kernel_args.num_tokens = tokens;
        kernel_args.is_filled = kernel_args.is_filled && first == 0;
        DG_TRY(make_maps(state, args, &kernel, kernel_args.head_step, &maps));
        DG_TRY(launch(state, args->paged.num_workers, args, &kernel, &kernel_args, &maps));
    }
    return DG_OK;
}

dg_status dg_sm90_mqa_logits(void *user, int32_t num_sms, const struct dg_mqa_args *args)
{
    struct dg_sm90_state *state = user;
    struct dg_cuda_scope scope;
    DG_TRY(check_sizes(args));
    DG_TRY(check_pointers(state, args));
    DG_TRY(dg_cuda_enter(&state->context, &scope));
    const dg_status status =
        args->is_paged ? launch_paged(state, args) : launch_plain(state, num_sms, args);
    dg_cuda_leave(&state->context, &scope);
    return status;
}

// ---- the schedule -----------------------------------------------------------------------------------

static dg_status launch_schedule(struct dg_sm90_state *state,
                                 const struct dg_mqa_schedule_args *args)
{
    struct dg_jit_kernel kernel;
    DG_TRY(dg_sm90_find_plain(state, "sm90_mqa_schedule", &kernel));
    struct dg_sm90_mqa_schedule_args schedule = {
        .lengths = args->paged.lengths,
        .schedule = args->schedule,
        .batch = args->paged.batch,
        .lengths_per_sequence = args->paged.lengths_per_row ? args->paged.next_n : 1,
        .num_workers = args->paged.num_workers,
    };
    void *parameters[] = {&schedule};
    const struct dg_cuda_launch started = {
        .name = "sm90_mqa_schedule",
        .function = kernel.function,
        .block = {512, 1, 1},
        .stream = args->stream,
        .parameters = parameters,
    };
    return dg_cuda_launch(state->context.cuda, &started);
}

dg_status dg_sm90_mqa_schedule(void *user, const struct dg_mqa_schedule_args *args)
{
    struct dg_sm90_state *state = user;
    struct dg_cuda_scope scope;
    DG_TRY(dg_cuda_check_pointer(&state->context, args->schedule, "schedule"));
    if (args->paged.batch > 0)
        DG_TRY(dg_cuda_check_pointer(&state->context, args->paged.lengths, "lengths"));
    DG_TRY(dg_cuda_enter(&state->context, &scope));
    const dg_status status = launch_schedule(state, args);
    dg_cuda_leave(&state->context, &scope);
    return status;
}

// ---- ahead of a call ----------------------------------------------------------------------------------

// The kernel of the launch that begins with token `first`.
static struct dg_sm90_mqa_kernel kernel_of(const struct dg_mqa_problem *p, int32_t first)
{
    const int32_t rest = p->next_n - first;
    return dg_sm90_mqa_choose(p->next_n > 0, rest > 0 && rest < QUERIES ? rest : QUERIES, p->heads,
                              p->depth, p->logits_type == DG_BF16);
}

static dg_status load_kernels(struct dg_sm90_state *state, const struct dg_mqa_problem *p)
{
    struct dg_jit_kernel kernel;
    // Of more than four tokens only the last launch may have another kernel.
    const int32_t last = p->next_n > QUERIES ? (p->next_n - 1) / QUERIES * QUERIES : 0;
    for (int32_t first = 0; first <= last; first += last ? last : 1) {
        struct dg_sm90_mqa_kernel identity = kernel_of(p, first);
        DG_TRY(dg_jit_get(state->jit, &identity, sizeof identity, dg_sm90_mqa_describe, &identity,
                          &kernel));
    }
    return p->next_n > 0 ? dg_sm90_find_plain(state, "sm90_mqa_schedule", &kernel) : DG_OK;
}

dg_status dg_sm90_mqa_prepare(void *user, const struct dg_mqa_problem *problem)
{
    struct dg_sm90_state *state = user;
    struct dg_cuda_scope scope;
    DG_TRY(check_heads(problem->heads, problem->depth));
    DG_TRY(dg_cuda_enter(&state->context, &scope));
    const dg_status status = load_kernels(state, problem);
    dg_cuda_leave(&state->context, &scope);
    return status;
}

dg_status dg_sm90_mqa_explain(const struct dg_mqa_problem *p, const struct dg_device *device,
                              dg_fact_callback callback, void *user)
{
    char text[160];
    DG_TRY(check_heads(p->heads, p->depth));
    const struct dg_sm90_mqa_kernel kernel = kernel_of(p, 0);
    dg_sm90_mqa_kernel_text(&kernel, text, sizeof text);
    dg_tell(callback, user, "plan", "kernel_key", "%s", text);
    dg_tell(callback, user, "plan", "launches", "%d",
            p->next_n > 0 ? (p->next_n + QUERIES - 1) / QUERIES : 1);
    dg_tell(callback, user, "plan", "ctas", "%d", (int)device->num_sms);
    dg_tell(callback, user, "plan", "queries_per_cta", "%d",
            (int)(QUERIES / kernel.lanes * dg_sm90_mqa_quads(&kernel)));
    dg_tell(callback, user, "plan", "heads_padded", "%d",
            2 * kernel.lanes * kernel.head_rows * kernel.pieces);
    dg_tell(callback, user, "plan", "depth_padded", "%d", (int)kernel.depth);
    dg_tell(callback, user, "plan", "smem_bytes", "%d", (int)dg_sm90_mqa_smem_bytes(&kernel));
    return DG_OK;
}
