// SPDX-License-Identifier: MIT
// sm90_gemm.c - from a plan and pointers to one launch (after a repacking one per operand that needs it).
// Everything is checked before anything is launched; nothing is allocated and nothing waits.
//
// What a call launches - kernel, arguments, TMA descriptors - is remembered by all that it follows from, so
// that a call with the operands of an earlier one is a look-up and a launch.
#include "backend/sm90/sm90_gemm.h"

#include "backend/sm90/sm90_args.h"
#include "backend/sm90/sm90_cost.h"
#include "backend/sm90/sm90_plan.h"
#include "base/hash.h"
#include "cuda/launch.h"
#include "plan/problem.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct dg_tensor_map) == sizeof(CUtensorMap), "a TMA descriptor");

// ---- pointers ----

dg_status dg_sm90_check_pointer(struct dg_sm90_state *state, const char *name, const void *pointer)
{
    const uintptr_t value = (uintptr_t)pointer;
    _Atomic uintptr_t *known =
        &state->known[dg_hash(&value, sizeof value) % DG_SM90_KNOWN_POINTERS];
    if (atomic_load_explicit(known, memory_order_relaxed) == value)
        return DG_OK;
    DG_TRY(dg_cuda_check_pointer(&state->context, pointer, name));
    atomic_store_explicit(known, value, memory_order_relaxed);
    return DG_OK;
}

static dg_status check_pointers(struct dg_sm90_state *state, const struct dg_gemm_args *args)
{
    DG_TRY(dg_sm90_check_pointer(state, "a.values", args->a.data));
    DG_TRY(dg_sm90_check_pointer(state, "b.values", args->b.data));
    DG_TRY(dg_sm90_check_pointer(state, "a.scales", args->sfa.data));
    DG_TRY(dg_sm90_check_pointer(state, "b.scales", args->sfb.data));
    DG_TRY(dg_sm90_check_pointer(state, "d", args->d.data));
    if (args->c.data)
        DG_TRY(dg_sm90_check_pointer(state, "c", args->c.data));
    return args->workspace ? dg_sm90_check_pointer(state, "options.workspace", args->workspace)
                           : DG_OK;
}

// ---- descriptors ----

static struct dg_tensor_map_desc describe_map(const void *data, CUtensorMapDataType type,
                                              int64_t columns, int64_t rows, int64_t row_bytes,
                                              uint32_t box_columns, uint32_t box_rows,
                                              CUtensorMapSwizzle swizzle)
{
    struct dg_tensor_map_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.data = data;
    desc.shape[0] = (uint64_t)columns, desc.shape[1] = (uint64_t)rows;
    desc.stride_bytes[0] = (uint64_t)row_bytes;
    desc.box[0] = box_columns, desc.box[1] = box_rows;
    desc.rank = 2;
    desc.type = type;
    desc.swizzle = swizzle;
    desc.l2_promotion = dg_cuda_tensor_map_promotion(&desc, 0);
    return desc;
}

static dg_status make_map(struct dg_sm90_state *state, const char *name, const void *data,
                          CUtensorMapDataType type, int64_t columns, int64_t rows,
                          int64_t row_bytes, uint32_t box_columns, uint32_t box_rows,
                          CUtensorMapSwizzle swizzle, struct dg_tensor_map *map)
{
    const struct dg_tensor_map_desc desc =
        describe_map(data, type, columns, rows, row_bytes, box_columns, box_rows, swizzle);
    return dg_cuda_tensor_map_encode(state->context.cuda, name, &desc, (CUtensorMap *)map);
}

static int is_aligned(const void *data, int64_t stride_bytes)
{
    return (uintptr_t)data % 16 == 0 && stride_bytes % 16 == 0 && stride_bytes > 0;
}

// A matrix of one row may have any stride; TMA wants a multiple of 16 all the same.
static int64_t map_stride(int64_t stride_bytes, int64_t rows)
{
    return rows > 1 ? stride_bytes : (stride_bytes + 15) / 16 * 16 + 16;
}

// The boxes of A or B: `rows` of a k-block, or of all k-blocks of a slot of the split kernel where k is whole
// blocks.
static dg_status map_values(struct dg_sm90_state *state, const char *name,
                            const struct dg_matrix_view *view, int64_t rows, int64_t k,
                            const struct dg_sm90_config *c, uint32_t box_rows, int is_reread,
                            struct dg_tensor_map *map)
{
    struct dg_tensor_map_desc desc =
        describe_map(view->data, CU_TENSOR_MAP_DATA_TYPE_UINT8, k, rows,
                     map_stride(view->row_stride, rows), 128, box_rows, CU_TENSOR_MAP_SWIZZLE_128B);
    desc.l2_promotion = dg_cuda_tensor_map_promotion(&desc, is_reread);
    if (c->split && k % 128 == 0) { // [k block][row][128 bytes]
        desc.shape[0] = 128, desc.shape[2] = (uint64_t)(k / 128);
        desc.stride_bytes[1] = 128;
        desc.box[2] = (uint32_t)c->stage_blocks;
        desc.rank = 3;
    }
    return dg_cuda_tensor_map_encode(state->context.cuda, name, &desc, (CUtensorMap *)map);
}

struct scale_maps {
    int64_t a_bytes, b_bytes; // strides of the maps
    int64_t columns;          // words along k
};

static struct scale_maps describe_scales(const struct dg_problem *p,
                                         const struct dg_gemm_args *args)
{
    const int64_t blocks = (p->k + 127) / 128;
    struct scale_maps maps = {.columns = p->sf_type == DG_UE8M0X4 ? (blocks + 3) / 4 : blocks};
    maps.a_bytes = map_stride(args->sfa.column_stride * 4, maps.columns);
    maps.b_bytes = p->sfb_block_n == 1 ? map_stride(args->sfb.column_stride * 4, maps.columns)
                                       : map_stride(args->sfb.row_stride * 4, (p->n + 127) / 128);
    return maps;
}

// Can TMA read the scales?  A's rows, and B's in the 1D1D kernel, must be contiguous along the rows, B's blocks in
// the 1D2D kernel along k.
static int sfa_fits_tma(const struct dg_problem *p, const struct dg_gemm_args *args,
                        const struct scale_maps *maps)
{
    return (args->sfa.row_stride == 1 || p->m == 1) && is_aligned(args->sfa.data, maps->a_bytes);
}

static int sfb_fits_tma(const struct dg_problem *p, const struct dg_gemm_args *args,
                        const struct scale_maps *maps)
{
    const int per_row = p->sfb_block_n == 1;
    return ((per_row ? args->sfb.row_stride : args->sfb.column_stride) == 1 ||
            (per_row ? p->n : maps->columns) == 1) &&
           is_aligned(args->sfb.data, maps->b_bytes);
}

static dg_status map_scales(struct dg_sm90_state *state, const struct dg_problem *p,
                            const struct dg_sm90_kernel *kernel, const struct dg_gemm_args *args,
                            const struct scale_maps *scales, struct dg_sm90_maps *maps)
{
    const CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_UINT32;
    const CUtensorMapSwizzle plain = CU_TENSOR_MAP_SWIZZLE_NONE;
    const int64_t rows_b = (p->n + 127) / 128;
    DG_TRY(make_map(state, "a.scales", args->sfa.data, type, p->m, scales->columns, scales->a_bytes,
                    (uint32_t)dg_sm90_tile_rows(&kernel->config, p->m), 1, plain, &maps->sfa));
    if (dg_sm90_has_panels(&kernel->config)) // which reads B's by itself
        return DG_OK;
    if (p->sfb_block_n == 1)
        return make_map(state, "b.scales", args->sfb.data, type, p->n, scales->columns,
                        scales->b_bytes, (uint32_t)kernel->config.block_n, 1, plain, &maps->sfb);
    return make_map(state, "b.scales", args->sfb.data, type, scales->columns, rows_b,
                    scales->b_bytes, 4, (uint32_t)dg_sm90_sfb_rows(kernel), plain, &maps->sfb);
}

static dg_status map_d(struct dg_sm90_state *state, const struct dg_problem *p,
                       const struct dg_sm90_kernel *kernel, const struct dg_gemm_args *args,
                       struct dg_sm90_maps *maps)
{
    const int64_t element = (int64_t)dg_type_bytes(p->d_type);
    const int32_t columns = dg_sm90_d_columns(kernel);
    return make_map(state, "d", args->d.data,
                    p->d_type == DG_F32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                                        : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                    p->n, p->m, map_stride(args->d.row_stride * element, p->m), (uint32_t)columns,
                    16, dg_cuda_tensor_map_swizzle(columns * element), &maps->d);
}

// ---- repacking ----

// The kernel of a key; without a device it is only compiled, for the cache on disk.
dg_status dg_sm90_find_kernel(struct dg_sm90_state *state, const void *key, size_t key_bytes,
                              dg_jit_describe describe, void *user, struct dg_jit_kernel *kernel)
{
    if (state->jit)
        return dg_jit_get(state->jit, key, key_bytes, describe, user, kernel);
    struct dg_jit_request request = {.name = NULL};
    struct dg_jit_binary binary = {.cubin = NULL};
    dg_status status = describe(user, &request);
    if (status == DG_OK)
        status = dg_jit_compile(&state->log, &request, &binary);
    dg_jit_binary_free(&binary);
    dg_jit_request_free(&request);
    return status;
}

static dg_status describe_plain(void *user, struct dg_jit_request *request)
{
    request->name = user;
    request->arch = 90;
    return DG_OK;
}

dg_status dg_sm90_find_plain(struct dg_sm90_state *state, const char *name,
                             struct dg_jit_kernel *kernel)
{
    return dg_sm90_find_kernel(state, name, strlen(name) + 1, describe_plain, (void *)name, kernel);
}

static dg_status repack_operands(struct dg_sm90_state *state, const struct dg_problem *p,
                                 const struct dg_plan *plan, struct dg_gemm_args *args)
{
    char *target = args->workspace;
    const struct dg_gemm_args given = *args;
    if (plan->repack_a) {
        DG_TRY(dg_sm90_repack(state, "a.values", &args->a, p->m, p->k, target, &given));
        target += (p->m * args->a.row_stride + 255) / 256 * 256;
    }
    return plan->repack_b ? dg_sm90_repack(state, "b.values", &args->b, p->n, p->k, target, &given)
                          : DG_OK;
}

// ---- the launch ----

static dg_status check_alignment(const char *name, const struct dg_matrix_view *view,
                                 int is_repacked)
{
    if (is_repacked || (uintptr_t)view->data % 16 == 0)
        return DG_OK;
    return dg_fail(DG_INVALID_ARGUMENT,
                   "%s.data = %p: must be a multiple of 16 bytes on a GPU (TMA reads no other)",
                   name, view->data);
}

struct dg_sm90_divisor dg_sm90_divide_by(int64_t by)
{
    const unsigned d = (unsigned)(by < 1 ? 1 : by < INT32_MAX ? by : INT32_MAX);
    const unsigned shift = d > 1 ? 31 + 32 - (unsigned)__builtin_clz(d - 1) : 31;
    return (struct dg_sm90_divisor){(unsigned)((1ull << shift) / d + 1), shift};
}

// What the arguments of dense and grouped products have in common: everything but the tiles.
struct dg_sm90_gemm_args dg_sm90_operand_args(const struct dg_problem *p,
                                              const struct dg_gemm_args *args, int d_tma)
{
    const int64_t element = (int64_t)dg_type_bytes(p->d_type);
    return (struct dg_sm90_gemm_args){
        .sfa = args->sfa.data,
        .sfb = args->sfb.data,
        .sfa_row_stride = args->sfa.row_stride,
        .sfa_k_stride = args->sfa.column_stride,
        .sfb_row_stride = args->sfb.row_stride,
        .sfb_k_stride = args->sfb.column_stride,
        .d = args->d.data,
        .c = args->c.data,
        // A large D would push A and B out of the L2 cache.
        .d_policy = dg_problem_expected_rows(p) * (double)(p->n * element) > DG_SM90_D_STAYS_BYTES
                        ? DG_SM90_EVICT_FIRST
                        : DG_SM90_EVICT_NORMAL,
        .d_row_stride = args->d.row_stride,
        .c_row_stride = args->c.row_stride,
        .c_column_stride = args->c.column_stride,
        .m = (int)p->m,
        .n = (int)p->n,
        .num_k_blocks = (int)((p->k + 127) / 128),
        .c_mode = !args->c.data                                                ? DG_SM90_C_NONE
                  : p->c_mode == DG_C_IN_PLACE && p->d_type == DG_F32 && d_tma ? DG_SM90_C_REDUCE
                                                                               : DG_SM90_C_READ,
        .c_in_pairs = args->c.column_stride == 1 && args->c.row_stride % 2 == 0 &&
                      (uintptr_t)args->c.data % (2 * (uintptr_t)element) == 0,
        .d_tma = d_tma,
        .sfb_rows = (int)(p->sfb_block_n == 1 ? p->n : (p->n + 127) / 128),
    };
}

static void fill_args(const struct dg_problem *p, const struct dg_plan *plan,
                      const struct dg_gemm_args *args, struct dg_sm90_gemm_args *out)
{
    const struct dg_sm90_config *c = &plan->sm90;
    const int32_t tile_rows = dg_sm90_tile_rows(c, p->m);
    const int64_t rows_m = (int64_t)tile_rows * c->cluster_m,
                  rows_n = (int64_t)c->block_n * c->cluster_n;
    const int64_t element = (int64_t)dg_type_bytes(p->d_type);
    const int32_t units_m = (int32_t)((p->m + rows_m - 1) / rows_m),
                  units_n = (int32_t)((p->n + rows_n - 1) / rows_n),
                  band = c->split ? units_m : plan->band; // the split kernel walks nothing
    // TMA writes whole 16-byte units: the last of a row must not reach into the gap after it.
    const int d_tma = is_aligned(args->d.data, map_stride(args->d.row_stride * element, p->m)) &&
                      p->n * element % 16 == 0;
    *out = dg_sm90_operand_args(p, args, d_tma);
    out->units_m = units_m;
    out->units_n = units_n;
    out->band = band;
    out->per_band = dg_sm90_divide_by((int64_t)band * units_n);
    out->per_column = dg_sm90_divide_by(band);
    out->per_last = dg_sm90_divide_by(band > 0 ? units_m % band : 0);
    out->tile_rows = tile_rows;
    // A unit in two parts is two sums, and one more tile added to D.
    if (out->c_mode == DG_SM90_C_REDUCE && !p->invariant &&
        (int64_t)units_m * units_n > 2 * plan->num_ctas)
        out->stagger = 65536 / plan->num_ctas;
    // A repacked B is what the kernel before this one makes.
    out->flags =
        (args->flags & DG_GEMM_PDL_PREFETCH_B && !plan->repack_b ? DG_SM90_PDL_PREFETCH_B : 0) |
        (c->split && p->k % 128 == 0 ? DG_SM90_WHOLE_BLOCKS : 0);
}

static dg_status get_kernel(struct dg_sm90_state *state, struct dg_sm90_kernel *kernel,
                            struct dg_jit_kernel *found)
{
    return dg_sm90_find_kernel(state, kernel, sizeof *kernel, dg_sm90_describe, kernel, found);
}

// The plan for scales that lie otherwise than a plan by TMA hoped for.
static dg_status plan_any_layout(const struct dg_sm90_state *state,
                                 const struct dg_problem *problem, struct dg_plan *plan)
{
    struct dg_device device = state->device;
    device.num_sms = plan->num_sms;
    return dg_sm90_plan_any_layout(problem, &device, plan);
}

// Strides of scales are no part of a problem: may TMA take them when they have no gaps or rows padded to
// 16 bytes, and may it not?
static void expect_scales(const struct dg_problem *p, const struct dg_sm90_config *c, int *by_tma,
                          int *any_layout)
{
    const int64_t blocks = (p->k + 127) / 128,
                  rows_b = (p->n + p->sfb_block_n - 1) / p->sfb_block_n;
    const int64_t words = p->sf_type == DG_UE8M0X4 ? (blocks + 3) / 4 : blocks;
    const int a_may = p->m == 1 || words == 1 || p->sfa_major == DG_MN_MAJOR;
    const int a_does = words == 1 || (p->m > 1 && p->sfa_major == DG_MN_MAJOR && p->m % 4 == 0);
    int b_may, b_does;
    if (dg_sm90_has_panels(c)) {
        b_may = b_does = 1;
    } else if (p->sfb_block_n == 1) {
        b_may = p->n == 1 || words == 1 || p->sfb_major == DG_MN_MAJOR;
        b_does = words == 1 || (p->n > 1 && p->sfb_major == DG_MN_MAJOR && p->n % 4 == 0);
    } else {
        b_may = rows_b == 1 || words == 1 || p->sfb_major == DG_K_MAJOR;
        b_does = rows_b == 1 || (p->sfb_major == DG_K_MAJOR && words % 4 == 0);
    }
    *by_tma = a_may && b_may;
    *any_layout = !(a_does && b_does);
}

static dg_status prepare_gemm(struct dg_sm90_state *state, const struct dg_problem *problem,
                              const struct dg_plan *plan)
{
    int by_tma, any_layout;
    struct dg_jit_kernel found;
    struct dg_plan other = *plan;
    struct dg_sm90_kernel kernel = dg_sm90_kernel_of(problem, plan);
    const int hopes_for_tma = kernel.scales_tma;
    if (plan->sm90.split)
        return get_kernel(state, &kernel, &found);
    expect_scales(problem, &plan->sm90, &by_tma, &any_layout);
    kernel.scales_tma = 1;
    if (by_tma || plan->copies_scales)
        DG_TRY(get_kernel(state, &kernel, &found));
    if (!any_layout)
        return DG_OK;
    if (hopes_for_tma)
        DG_TRY(plan_any_layout(state, problem, &other));
    kernel.config = other.sm90;
    kernel.scales_tma = 0;
    return get_kernel(state, &kernel, &found);
}

dg_status dg_sm90_prepare(struct dg_sm90_state *state, const struct dg_problem *problem,
                          const struct dg_plan *plan)
{
    struct dg_jit_kernel found;
    if (plan->kernel == DG_KERNEL_FILL)
        return problem->c_mode == DG_C_IN_PLACE ? DG_OK
                                                : dg_sm90_find_plain(state, "sm90_fill", &found);
    if (plan->kernel != DG_KERNEL_SM90_GEMM)
        return DG_OK;
    DG_TRY(prepare_gemm(state, problem, plan));
    if (plan->copies_scales)
        DG_TRY(dg_sm90_repack_scales_prepare(state));
    return plan->repack_a || plan->repack_b ? dg_sm90_repack_prepare(state) : DG_OK;
}

// ---- a call -------------------------------------------------------------------------------------------

// All that a launch follows from, except the stream.  No padding is left as it was found.
struct call {
    struct dg_problem problem;
    struct dg_sm90_config config;
    int32_t num_ctas, band, num_sms;
    uint32_t flags;
    struct dg_matrix_view a, b, sfa, sfb, c, d;
    void *room; // for copies of scales
};

struct launch {
    struct dg_sm90_maps maps; // 64-byte aligned
    struct dg_sm90_gemm_args args;
    CUfunction function;
    uint32_t num_ctas, num_threads, cluster, smem_bytes;
    struct dg_sm90_scales copy_a, copy_b; // those to make first; of no rows: none
};
_Static_assert(sizeof(struct call) % 8 == 0 && sizeof(struct launch) % 8 == 0,
               "a memo takes whole words");

struct dg_memo *dg_sm90_launches_create(void)
{
    return dg_memo_create(256, sizeof(struct call), sizeof(struct launch));
}

// Whether scales that TMA does not take may get copies that it does.
static int has_room_for_scales(const struct dg_plan *plan, const struct dg_gemm_args *args)
{
    const int64_t whole = plan->workspace_bytes + plan->spare_bytes;
    return plan->copies_scales && args->workspace_bytes >= (size_t)whole;
}

static void describe_call(const struct dg_problem *p, const struct dg_plan *plan,
                          const struct dg_gemm_args *args, struct call *call)
{
    memset(call, 0, sizeof *call);
    memcpy(&call->problem, p, sizeof *p); // its padding too
    call->config = plan->sm90;
    call->num_ctas = plan->num_ctas;
    call->band = plan->band;
    call->num_sms = plan->num_sms;
    call->flags = args->flags;
    call->a = args->a, call->b = args->b, call->sfa = args->sfa, call->sfb = args->sfb;
    call->c = args->c, call->d = args->d;
    call->room = has_room_for_scales(plan, args) ? args->workspace : NULL;
}

// Copies of the scales that TMA does not take; makes `args` and `scales` describe them.
static void plan_copies(const struct dg_problem *p, const struct dg_plan *plan,
                        struct dg_gemm_args *args, struct scale_maps *scales, struct launch *launch)
{
    const struct dg_sm90_scale_places at = dg_sm90_scale_places(p, plan->workspace_bytes);
    const int per_row = p->sfb_block_n == 1;
    const int64_t rows_b = per_row ? p->n : (p->n + 127) / 128;
    char *workspace = args->workspace;
    int64_t none_a = 0, none_b = 0; // matrices follow
    if (!sfa_fits_tma(p, args, scales))
        launch->copy_a = dg_sm90_copy_of_scales(p->m, scales->columns, 0, workspace + at.sfa,
                                                &args->sfa, &none_a);
    if (!sfb_fits_tma(p, args, scales))
        launch->copy_b = dg_sm90_copy_of_scales(per_row ? rows_b : scales->columns,
                                                per_row ? scales->columns : rows_b, !per_row,
                                                workspace + at.sfb, &args->sfb, &none_b);
    *scales = describe_scales(p, args);
}

// Checks the call, finds its kernel and encodes its descriptors; repacks what has to be repacked.
static dg_status build_launch(struct dg_sm90_state *state, const struct dg_problem *p,
                              const struct dg_plan *given_plan, const struct dg_gemm_args *given,
                              struct launch *launch)
{
    struct dg_plan chosen = *given_plan;
    const struct dg_plan *plan = &chosen;
    const struct dg_sm90_config *c = &plan->sm90;
    struct dg_gemm_args args = *given;
    struct scale_maps scales = describe_scales(p, given);
    struct dg_jit_kernel found;
    struct dg_sm90_kernel kernel = dg_sm90_kernel_of(p, plan);
    const int fits = sfa_fits_tma(p, given, &scales) &&
                     (dg_sm90_has_panels(c) || sfb_fits_tma(p, given, &scales));
    const int copies = !c->split && !fits && has_room_for_scales(plan, given);

    DG_TRY(check_alignment("a.values", &args.a, plan->repack_a));
    DG_TRY(check_alignment("b.values", &args.b, plan->repack_b));
    DG_TRY(check_pointers(state, &args));
    kernel.scales_tma = !c->split && (fits || copies);
    if (dg_sm90_kernel_of(p, plan).scales_tma && !kernel.scales_tma) {
        DG_TRY(plan_any_layout(state, p, &chosen));
        kernel.config = chosen.sm90;
    }
    memset(launch, 0, sizeof *launch);
    if (copies)
        plan_copies(p, plan, &args, &scales, launch);
    fill_args(p, plan, &args, &launch->args);
    kernel.reads_c = launch->args.c_mode == DG_SM90_C_READ ||
                     dg_sm90_keeps_c_code(&kernel.config, kernel.sfb_block_n);
    DG_TRY(get_kernel(state, &kernel, &found));
    if (kernel.scales_tma)
        DG_TRY(map_scales(state, p, &kernel, &args, &scales, &launch->maps));
    if (launch->args.d_tma)
        DG_TRY(map_d(state, p, &kernel, &args, &launch->maps));
    if (plan->workspace_bytes)
        DG_TRY(repack_operands(state, p, plan, &args));
    DG_TRY(map_values(state, "a.values", &args.a, p->m, p->k, c,
                      (uint32_t)(launch->args.tile_rows / c->cluster_n), p->m > DG_SM90_FEW_ROWS,
                      &launch->maps.a));
    DG_TRY(map_values(state, "b.values", &args.b, p->n, p->k, c,
                      (uint32_t)(c->block_n / c->cluster_m), p->m > DG_SM90_FEW_ROWS,
                      &launch->maps.b));
    launch->function = found.function;
    launch->num_ctas = (uint32_t)plan->num_ctas;
    launch->num_threads = (uint32_t)(128 * (c->math_groups + 1));
    launch->cluster = (uint32_t)(c->split ? c->split : c->cluster_m * c->cluster_n);
    launch->smem_bytes = (uint32_t)found.smem_bytes;
    return DG_OK;
}

static dg_status start(struct dg_sm90_state *state, const struct dg_problem *p,
                       const struct dg_gemm_args *args, struct launch *launch)
{
    void *parameters[] = {&launch->args, &launch->maps};
    // Behind copies of scales an early launch is up to 9 % slower.
    const int has_copies = launch->copy_a.rows || launch->copy_b.rows;
    const struct dg_cuda_launch started = {
        .name = p->sfb_block_n == 1 ? "sm90_fp8_gemm_1d1d" : "sm90_fp8_gemm_1d2d",
        .function = launch->function,
        .grid = {launch->num_ctas, 1, 1},
        .block = {launch->num_threads, 1, 1},
        .cluster = {launch->cluster, 1, 1},
        .smem_bytes = launch->smem_bytes,
        .pdl = args->flags & DG_GEMM_PDL && !has_copies,
        .stream = args->stream,
        .parameters = parameters,
    };
    if (has_copies)
        DG_TRY(dg_sm90_repack_scales(state, &launch->copy_a, 1, &launch->copy_b, 1, args));
    return dg_cuda_launch(state->context.cuda, &started);
}

dg_status dg_sm90_gemm(struct dg_sm90_state *state, const struct dg_problem *p,
                       const struct dg_plan *plan, const struct dg_gemm_args *args)
{
    struct call call;
    struct launch launch;
    if (plan->workspace_bytes) { // repacks each time
        DG_TRY(build_launch(state, p, plan, args, &launch));
        return start(state, p, args, &launch);
    }
    describe_call(p, plan, args, &call);
    if (!dg_memo_find(state->launches, &call, &launch)) {
        DG_TRY(build_launch(state, p, plan, args, &launch));
        dg_memo_store(state->launches, &call, &launch);
    }
    return start(state, p, args, &launch);
}

// ---- k == 0 ----

dg_status dg_sm90_fill(struct dg_sm90_state *state, const struct dg_problem *p,
                       const struct dg_gemm_args *args)
{
    struct dg_jit_kernel kernel;
    DG_TRY(dg_sm90_check_pointer(state, "d", args->d.data));
    if (args->c.data)
        DG_TRY(dg_sm90_check_pointer(state, "c", args->c.data));
    DG_TRY(dg_sm90_find_plain(state, "sm90_fill", &kernel));
    struct dg_sm90_fill_args fill = {
        .d = args->d.data,
        .c = args->c.data,
        .d_row_stride = args->d.row_stride,
        .c_row_stride = args->c.row_stride,
        .c_column_stride = args->c.column_stride,
        .m = p->m,
        .n = p->n,
        .element_bytes = (int)dg_type_bytes(p->d_type),
    };
    const int64_t blocks = (p->m * p->n + 1023) / 1024;
    void *parameters[] = {&fill};
    const struct dg_cuda_launch launch = {
        .name = "sm90_fill",
        .function = kernel.function,
        .grid = {(uint32_t)(blocks < 4096 ? blocks : 4096), 1, 1},
        .block = {256, 1, 1},
        .pdl = args->flags & DG_GEMM_PDL ? 1 : 0,
        .stream = args->stream,
        .parameters = parameters,
    };
    return dg_cuda_launch(state->context.cuda, &launch);
}
