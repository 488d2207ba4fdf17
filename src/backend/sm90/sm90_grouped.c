// SPDX-License-Identifier: MIT
// sm90_grouped.c - from a plan of a grouped problem and pointers to its launches: copies of operands that need
// one, the list of groups along k, and the kernel.
//
// Everything is checked before anything is launched; nothing is allocated and nothing waits.  What the layout
// says is not known here.
#include "backend/sm90/sm90_grouped.h"

#include "backend/sm90/sm90_args.h"
#include "backend/sm90/sm90_plan.h"
#include "cuda/launch.h"
#include "plan/problem.h"

#include <limits.h>
#include <string.h>

#define LL(x) ((long long)(x))

// The operands as the kernel is to see them: views that repacking changes, and the groups' strides.
struct call {
    struct dg_sm90_state *state;
    const struct dg_problem *problem;
    const struct dg_plan *plan;
    struct dg_grouped_args args;
    enum dg_op_kind kind;
    struct dg_sm90_grouped_workspace workspace;
    int has_copies; // of scales: behind them a kernel had better not start early
};

// ---- checks ----

static dg_status check_pointers(const struct call *call)
{
    const struct dg_gemm_args *args = &call->args.gemm;
    const struct {
        const char *name;
        const void *pointer;
    } pointers[] = {
        {"a.values", args->a.data},
        {"b.values", args->b.data},
        {"a.scales", args->sfa.data},
        {"b.scales", args->sfb.data},
        {"d", args->d.data},
        {"layout", call->args.layout},
        {"c", args->c.data},
        {"options.num_rows", call->args.num_rows},
        {"options.workspace", args->workspace},
    };
    enum { ALWAYS = 6 };
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        if (i < ALWAYS || pointers[i].pointer)
            DG_TRY(dg_sm90_check_pointer(call->state, pointers[i].name, pointers[i].pointer));
    return DG_OK;
}

// What TMA asks of values that it reads in place.
static dg_status check_values(const char *name, const struct dg_matrix_view *view, int64_t groups,
                              int64_t stride)
{
    if ((uintptr_t)view->data % 16)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s.data = %p: must be a multiple of 16 bytes on a GPU (TMA reads no other)",
                       name, view->data);
    if (groups > 1 && stride % 16)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s.stride[0] = %lld: must be a multiple of 16 bytes on a GPU", name,
                       LL(stride));
    return DG_OK;
}

static int64_t groups_of_a(const struct call *call)
{
    return call->kind == DG_KIND_MASKED ? call->problem->groups : 1;
}

static int64_t groups_of_b(const struct call *call)
{
    return call->kind == DG_KIND_K_GROUPED ? 1 : call->problem->groups;
}

static int64_t groups_of_d(const struct call *call)
{
    return call->kind == DG_KIND_CONTIGUOUS ? 1 : call->problem->groups;
}

static dg_status check_call(const struct call *call)
{
    const struct dg_gemm_args *args = &call->args.gemm;
    DG_TRY(check_pointers(call));
    if (!call->plan->repack_a)
        DG_TRY(check_values("a.values", &args->a, groups_of_a(call), call->args.a_group));
    if (!call->plan->repack_b)
        DG_TRY(check_values("b.values", &args->b, groups_of_b(call), call->args.b_group));
    if ((uintptr_t)args->workspace % 256)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "options.workspace = %p: must be a multiple of 256 bytes", args->workspace);
    return DG_OK;
}

// ---- descriptors ----

// A stack of matrices; strides in bytes.
struct stack {
    const char *name;
    const void *data;
    CUtensorMapDataType type;
    int64_t columns, rows, row_bytes, groups, group_bytes;
    int is_reread; // by many tiles
};

// A matrix of one row may have any stride, and one group any; TMA wants multiples of 16 all the same.
static dg_status make_map(const struct call *call, const struct stack *stack, uint32_t box_columns,
                          uint32_t box_rows, CUtensorMapSwizzle swizzle, int rank,
                          struct dg_tensor_map *map)
{
    struct dg_tensor_map_desc desc;
    const int64_t element = dg_cuda_tensor_map_type_bytes(stack->type);
    const int64_t least = (stack->columns * element + 15) / 16 * 16;
    memset(&desc, 0, sizeof desc);
    desc.data = stack->data;
    desc.shape[0] = (uint64_t)stack->columns, desc.shape[1] = (uint64_t)stack->rows;
    desc.stride_bytes[0] = (uint64_t)(stack->rows > 1 ? stack->row_bytes : least);
    desc.box[0] = box_columns, desc.box[1] = box_rows;
    if (rank == 3) {
        desc.shape[2] = (uint64_t)stack->groups;
        desc.stride_bytes[1] =
            stack->groups > 1 ? (uint64_t)stack->group_bytes : desc.stride_bytes[0];
        desc.box[2] = 1;
    }
    desc.rank = rank;
    desc.type = stack->type;
    desc.swizzle = swizzle;
    desc.l2_promotion = dg_cuda_tensor_map_promotion(&desc, stack->is_reread);
    return dg_cuda_tensor_map_encode(call->state->context.cuda, stack->name, &desc,
                                     (CUtensorMap *)map);
}

// The rows that a group usually has and half as many again, in eights, as the swizzle has them.
static int few_rows(const struct call *call)
{
    const struct dg_problem *p = call->problem;
    const int64_t usual = p->expected_m < 64 ? p->expected_m : 64; // a hint may be any number
    const int64_t most = (3 * usual + 1) / 2, rows = most < p->m ? most : p->m;
    return call->kind == DG_KIND_K_GROUPED || rows > 56 ? 0 : (int)(rows + 7) / 8 * 8;
}

// Groups along k: with the sum of k for columns, which sm90_k_groups.cu replaces.
static dg_status map_values(const struct call *call, const struct dg_sm90_config *c,
                            struct dg_sm90_group_maps *maps)
{
    const struct dg_problem *p = call->problem;
    const struct dg_gemm_args *args = &call->args.gemm;
    const CUtensorMapDataType bytes = CU_TENSOR_MAP_DATA_TYPE_UINT8;
    const CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
    const int is_flat = call->args.is_flat;
    const int64_t any_pitch = (p->k + 15) / 16 * 16; // replaced too
    const struct stack a = {"a.values",
                            args->a.data,
                            bytes,
                            p->k,
                            p->m,
                            is_flat ? any_pitch : args->a.row_stride,
                            groups_of_a(call),
                            call->args.a_group,
                            p->expected_m > DG_SM90_FEW_ROWS};
    const struct stack b = {"b.values",
                            args->b.data,
                            bytes,
                            p->k,
                            p->n,
                            is_flat ? any_pitch : args->b.row_stride,
                            groups_of_b(call),
                            call->args.b_group,
                            p->expected_m > DG_SM90_FEW_ROWS};
    struct dg_sm90_value_maps *values = &maps->values;
    const int few = few_rows(call);
    DG_TRY(make_map(call, &a, 128, (uint32_t)c->block_m, swizzle, 3, &values->a));
    DG_TRY(make_map(call, &a, 128, 64, swizzle, 3, &values->a_piece));
    if (few)
        DG_TRY(make_map(call, &a, 128, (uint32_t)few, swizzle, 3, &maps->a_few));
    return make_map(call, &b, 128, (uint32_t)c->block_n, swizzle, 3, &values->b);
}

// Words along k of the scales.
static int64_t scale_columns(const struct call *call)
{
    const int64_t blocks = (call->problem->k + 127) / 128;
    if (call->kind == DG_KIND_K_GROUPED)
        return call->args.scale_columns;
    return call->problem->sf_type == DG_UE8M0X4 ? (blocks + 3) / 4 : blocks;
}

// Scales as TMA sees them: A's, and B's in the 1D1D kernel, [k block][row], B's blocks in the 1D2D kernel [row][k
// block].
static void describe_scales(const struct call *call, struct stack *a, struct stack *b)
{
    const struct dg_problem *p = call->problem;
    const struct dg_gemm_args *args = &call->args.gemm;
    const CUtensorMapDataType word = CU_TENSOR_MAP_DATA_TYPE_UINT32;
    const int64_t columns = scale_columns(call);
    *a = (struct stack){"a.scales",
                        args->sfa.data,
                        word,
                        p->m,
                        columns,
                        args->sfa.column_stride * 4,
                        groups_of_a(call),
                        call->args.sfa_group * 4,
                        0};
    *b = (struct stack){"b.scales",
                        args->sfb.data,
                        word,
                        p->n,
                        columns,
                        args->sfb.column_stride * 4,
                        groups_of_b(call),
                        call->args.sfb_group * 4,
                        0};
    if (p->sfb_block_n == 128) {
        b->columns = columns, b->rows = (p->n + 127) / 128;
        b->row_bytes = args->sfb.row_stride * 4;
    }
}

static int fits_tma(const struct stack *stack, int64_t column_stride)
{
    return (uintptr_t)stack->data % 16 == 0 && (column_stride == 1 || stack->columns == 1) &&
           (stack->rows == 1 || (stack->row_bytes % 16 == 0 && stack->row_bytes > 0)) &&
           (stack->groups == 1 || (stack->group_bytes % 16 == 0 && stack->group_bytes > 0));
}

static int sfa_fits_tma(const struct call *call, const struct stack *a)
{
    return fits_tma(a, call->args.gemm.sfa.row_stride);
}

static int sfb_fits_tma(const struct call *call, const struct stack *b)
{
    const struct dg_matrix_view *sfb = &call->args.gemm.sfb;
    return fits_tma(b, call->problem->sfb_block_n == 1 ? sfb->row_stride : sfb->column_stride);
}

static dg_status map_scales(const struct call *call, const struct dg_sm90_kernel *kernel,
                            const struct stack *a, const struct stack *b,
                            struct dg_sm90_group_maps *maps)
{
    const CUtensorMapSwizzle plain = CU_TENSOR_MAP_SWIZZLE_NONE;
    DG_TRY(make_map(call, a, (uint32_t)kernel->config.block_m, 1, plain, 3, &maps->sfa));
    if (kernel->sfb_block_n == 1)
        return make_map(call, b, (uint32_t)kernel->config.block_n, 1, plain, 3, &maps->sfb);
    return make_map(call, b, 4, (uint32_t)dg_sm90_sfb_rows(kernel), plain, 3, &maps->sfb);
}

// All groups' D as one matrix.
static struct stack describe_d(const struct call *call)
{
    const struct dg_problem *p = call->problem;
    const struct dg_matrix_view *d = &call->args.gemm.d;
    const int64_t element = (int64_t)dg_type_bytes(p->d_type), groups = groups_of_d(call);
    const int64_t distance = groups > 1 && d->row_stride ? call->args.d_group / d->row_stride : 0;
    return (struct stack){"d",
                          d->data,
                          p->d_type == DG_F32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                                              : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                          p->n,
                          (groups - 1) * distance + p->m,
                          d->row_stride * element,
                          1,
                          0,
                          0};
}

// TMA writes whole 16-byte units, the last of a row must not reach into the gap after it.
static int d_fits_tma(const struct call *call, const struct stack *d)
{
    const struct dg_problem *p = call->problem;
    const int64_t element = (int64_t)dg_type_bytes(p->d_type);
    return fits_tma(d, 1) && p->n * element % 16 == 0 && d->rows < INT32_MAX - 65536 &&
           (groups_of_d(call) == 1 || (call->args.gemm.d.row_stride > 0 &&
                                       call->args.d_group % call->args.gemm.d.row_stride == 0));
}

static dg_status map_d(const struct call *call, const struct dg_sm90_kernel *kernel,
                       const struct stack *d, struct dg_sm90_group_maps *maps)
{
    const int32_t columns = dg_sm90_d_columns(kernel);
    const int64_t bytes = columns * (int64_t)dg_type_bytes(call->problem->d_type);
    DG_TRY(
        make_map(call, d, (uint32_t)columns, 16, dg_cuda_tensor_map_swizzle(bytes), 2, &maps->d));
    return make_map(call, d, (uint32_t)kernel->config.block_n, (uint32_t)kernel->config.block_m,
                    CU_TENSOR_MAP_SWIZZLE_NONE, 2, &maps->d_tile);
}

// ---- arguments ----

static void fill_args(const struct call *call, const struct dg_sm90_config *c, int d_tma,
                      struct dg_sm90_gemm_args *out)
{
    const struct dg_problem *p = call->problem;
    *out = dg_sm90_operand_args(p, &call->args.gemm, d_tma);
    out->c_in_pairs = out->c_in_pairs && (groups_of_d(call) == 1 || call->args.c_group % 2 == 0);
    out->units_n = (int)((p->n + c->block_n - 1) / c->block_n);
    out->band = call->plan->band;
    out->per_band = dg_sm90_divide_by((int64_t)out->band * out->units_n);
    out->per_column = dg_sm90_divide_by(out->band);
}

// `clears`: the kernel has a warp to spare, which may write 16 bytes at a time.
static int idle_mode(const struct dg_problem *p, int kind, int clears)
{
    if (p->c_mode == DG_C_IN_PLACE)
        return DG_SM90_IDLE_KEPT;
    return kind == DG_SM90_BY_INDEX && p->c_mode == DG_C_NONE && clears ? DG_SM90_IDLE_CLEARED
                                                                        : DG_SM90_IDLE_TILES;
}

// A number that only this launch has, and that no memory holds but by its count: the n-th of SplitMix64's.
static uint64_t new_owner(void)
{
    static _Atomic uint64_t num_owners;
    uint64_t x = 0x9e3779b97f4a7c15u * (atomic_fetch_add(&num_owners, 1) + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31); // not 0, as n is not
}

// Tiles behind each CTA's own rounds are asked for, if there is room for their count.
static void fill_count(const struct call *call, struct dg_sm90_group_args *out)
{
    const struct dg_gemm_args *args = &call->args.gemm;
    out->first_counted = INT_MAX;
    if (call->plan->own_rounds && args->workspace_bytes >= (size_t)call->workspace.count_end) {
        out->first_counted = call->plan->own_rounds * call->plan->num_ctas;
        out->count = (struct dg_sm90_count *)((char *)args->workspace + call->workspace.count);
        out->owner = new_owner();
    }
}

static void fill_groups(const struct call *call, int tiles_n, const struct stack *d, int clears,
                        struct dg_sm90_group_args *out)
{
    const struct dg_problem *p = call->problem;
    const struct dg_grouped_args *args = &call->args;
    const int64_t guessed_rows = call->plan->guessed_rows, block_m = call->plan->sm90.block_m;
    const int kind = call->kind == DG_KIND_MASKED      ? DG_SM90_BY_COUNTS
                     : call->kind == DG_KIND_K_GROUPED ? DG_SM90_ALONG_K
                     : p->layout == DG_GROUP_ENDS      ? DG_SM90_BY_ENDS
                                                       : DG_SM90_BY_INDEX;
    *out = (struct dg_sm90_group_args){
        .layout = args->layout,
        .num_rows = call->kind == DG_KIND_CONTIGUOUS ? args->num_rows : NULL,
        .list = (struct dg_sm90_k_group *)((char *)args->gemm.workspace + call->workspace.list),
        .sfa_group = groups_of_a(call) > 1 ? args->sfa_group : 0,
        .sfb_group = groups_of_b(call) > 1 ? args->sfb_group : 0,
        .c_group = groups_of_d(call) > 1 ? args->c_group : 0,
        .d_group = groups_of_d(call) > 1 ? args->d_group : 0,
        .kind = kind,
        .groups = (int)p->groups,
        .alignment = p->alignment,
        .per_alignment = dg_sm90_divide_by(p->alignment),
        .own_a = groups_of_a(call) > 1,
        .own_b = groups_of_b(call) > 1,
        .own_d = groups_of_d(call) > 1,
        .few_rows = few_rows(call),
        .guessed_rows = (int)guessed_rows,
        .per_guess = dg_sm90_divide_by((guessed_rows + block_m - 1) / block_m * tiles_n),
        .idle = idle_mode(p, kind, clears),
        .rows_of_map_d = groups_of_d(call) > 1 ? (int)((d->rows - p->m) / (p->groups - 1)) : 0,
    };
    fill_count(call, out);
}

// ---- launches ----

static dg_status launch(const struct call *call, const char *name, CUfunction function,
                        uint32_t ctas, uint32_t threads, uint32_t smem_bytes, void **parameters)
{
    const struct dg_cuda_launch started = {
        .name = name,
        .function = function,
        .grid = {ctas, 1, 1},
        .block = {threads, 1, 1},
        .smem_bytes = smem_bytes,
        .pdl = call->args.gemm.flags & DG_GEMM_PDL && !call->has_copies,
        .stream = call->args.gemm.stream,
        .parameters = parameters,
    };
    return dg_cuda_launch(call->state->context.cuda, &started);
}

static dg_status list_k_groups(const struct call *call, const struct dg_sm90_group_maps *maps,
                               const struct dg_sm90_group_args *groups)
{
    enum { WARPS = 4 };
    const struct dg_problem *p = call->problem;
    const struct dg_gemm_args *args = &call->args.gemm;
    const int is_flat = call->args.is_flat;
    struct dg_jit_kernel found;
    DG_TRY(dg_sm90_find_plain(call->state, "sm90_k_groups", &found));
    struct dg_sm90_k_groups_args list = {
        .values = maps->values,
        .list = (struct dg_sm90_k_group *)groups->list,
        .layout = groups->layout,
        .a = args->a.data,
        .b = args->b.data,
        .a_step = is_flat ? p->m : 1,
        .b_step = is_flat ? p->n : 1,
        .a_pitch = is_flat ? 0 : args->a.row_stride,
        .b_pitch = is_flat ? 0 : args->b.row_stride,
        .k = (int)p->k,
        .scale_columns = (int)call->args.scale_columns,
        .groups = groups->groups,
    };
    void *parameters[] = {&list};
    return launch(call, "sm90_k_groups", found.function, ((uint32_t)p->groups + WARPS - 1) / WARPS,
                  32 * WARPS, 0, parameters);
}

static dg_status repack_operands(struct call *call)
{
    const struct dg_problem *p = call->problem;
    struct dg_gemm_args *args = &call->args.gemm;
    char *workspace = args->workspace;
    if (call->plan->repack_a)
        DG_TRY(dg_sm90_repack_stack(call->state, "a.values", &args->a, groups_of_a(call),
                                    &call->args.a_group, p->m, p->k, workspace + call->workspace.a,
                                    args));
    return call->plan->repack_b ? dg_sm90_repack_stack(call->state, "b.values", &args->b,
                                                       groups_of_b(call), &call->args.b_group, p->n,
                                                       p->k, workspace + call->workspace.b, args)
                                : DG_OK;
}

// Whether scales that TMA does not take may get copies that it does.
static int has_room_for_scales(const struct call *call)
{
    const size_t room = call->args.gemm.workspace_bytes;
    return call->plan->copies_scales && room >= (size_t)call->workspace.scales.end;
}

// Makes `a` and `b` describe the copies.
static dg_status copy_scales(struct call *call, struct stack *a, struct stack *b)
{
    const struct dg_sm90_scale_places *at = &call->workspace.scales;
    struct dg_gemm_args *args = &call->args.gemm;
    struct dg_sm90_scales copy_a = {.rows = 0}, copy_b = {.rows = 0};
    char *workspace = args->workspace;
    if (!sfa_fits_tma(call, a))
        copy_a = dg_sm90_copy_of_scales(a->columns, a->rows, 0, workspace + at->sfa, &args->sfa,
                                        &call->args.sfa_group);
    if (!sfb_fits_tma(call, b))
        copy_b = dg_sm90_copy_of_scales(b->columns, b->rows, call->problem->sfb_block_n != 1,
                                        workspace + at->sfb, &args->sfb, &call->args.sfb_group);
    describe_scales(call, a, b);
    call->has_copies = 1;
    return dg_sm90_repack_scales(call->state, &copy_a, a->groups, &copy_b, b->groups, args);
}

static dg_status multiply(struct call *call)
{
    struct dg_sm90_grouped_kernel kernel = dg_sm90_grouped_kernel_of(call->problem, call->plan);
    struct dg_sm90_gemm_args args;
    struct dg_sm90_group_args groups;
    struct dg_sm90_group_maps maps;
    struct dg_jit_kernel found;
    struct stack sfa, sfb;
    memset(&maps, 0, sizeof maps);
    const struct stack d = describe_d(call);
    describe_scales(call, &sfa, &sfb);
    const int d_tma = d_fits_tma(call, &d);
    const int fits = sfa_fits_tma(call, &sfa) && sfb_fits_tma(call, &sfb);
    const int scales_tma = fits || has_room_for_scales(call);
    kernel.tile.scales_tma = scales_tma; // the same tile: each has a kernel for any layout
    DG_TRY(dg_sm90_find_kernel(call->state, &kernel, sizeof kernel, dg_sm90_grouped_describe,
                               &kernel, &found));
    const struct dg_sm90_config *c = &kernel.tile.config;
    if (d_tma)
        DG_TRY(map_d(call, &kernel.tile, &d, &maps));
    if (scales_tma && !fits)
        DG_TRY(copy_scales(call, &sfa, &sfb));
    fill_args(call, c, d_tma, &args);
    fill_groups(call, args.units_n, &d, d_tma && scales_tma, &groups);
    if (scales_tma)
        DG_TRY(map_scales(call, &kernel.tile, &sfa, &sfb, &maps));
    DG_TRY(repack_operands(call));
    DG_TRY(map_values(call, c, &maps));
    if (call->kind == DG_KIND_K_GROUPED)
        DG_TRY(list_k_groups(call, &maps, &groups));
    void *parameters[] = {&args, &groups, &maps};
    return launch(call, "sm90_fp8_gemm_grouped", found.function, (uint32_t)call->plan->num_ctas,
                  (uint32_t)(128 * (c->math_groups + 1)), (uint32_t)found.smem_bytes, parameters);
}

// No k in any group.
static dg_status fill_all(const struct call *call)
{
    const struct dg_problem *p = call->problem;
    const int64_t element = (int64_t)dg_type_bytes(p->d_type);
    struct dg_gemm_args args = call->args.gemm;
    for (int64_t group = 0; group < groups_of_d(call) && p->c_mode != DG_C_IN_PLACE; group++) {
        DG_TRY(dg_sm90_fill(call->state, p, &args));
        args.d.data = (char *)args.d.data + call->args.d_group * element;
        if (args.c.data)
            args.c.data = (char *)args.c.data + call->args.c_group * element;
    }
    return DG_OK;
}

dg_status dg_sm90_grouped(struct dg_sm90_state *state, const struct dg_problem *problem,
                          const struct dg_plan *plan, const struct dg_grouped_args *args)
{
    struct call call = {
        .state = state,
        .problem = problem,
        .plan = plan,
        .args = *args,
        .kind = dg_problem_kind(problem),
        .workspace = dg_sm90_grouped_workspace(problem, plan->repack_a, plan->repack_b),
    };
    if (plan->kernel == DG_KERNEL_FILL)
        return fill_all(&call);
    DG_TRY(check_call(&call));
    return multiply(&call);
}

dg_status dg_sm90_grouped_prepare(struct dg_sm90_state *state, const struct dg_problem *problem,
                                  const struct dg_plan *plan)
{
    struct dg_sm90_grouped_kernel kernel = dg_sm90_grouped_kernel_of(problem, plan);
    struct dg_jit_kernel found;
    DG_TRY(dg_sm90_find_kernel(state, &kernel, sizeof kernel, dg_sm90_grouped_describe, &kernel,
                               &found));
    // Strides of scales are no part of a problem, nor is room for copies.
    if (kernel.tile.scales_tma) {
        kernel.tile.scales_tma = 0;
        DG_TRY(dg_sm90_find_kernel(state, &kernel, sizeof kernel, dg_sm90_grouped_describe, &kernel,
                                   &found));
    }
    if (plan->copies_scales)
        DG_TRY(dg_sm90_repack_scales_prepare(state));
    if (dg_problem_kind(problem) == DG_KIND_K_GROUPED)
        DG_TRY(dg_sm90_find_plain(state, "sm90_k_groups", &found));
    return plan->repack_a || plan->repack_b ? dg_sm90_repack_prepare(state) : DG_OK;
}
