// SPDX-License-Identifier: MIT
// sm90_repack.c - launches the copies of operands and scales into layouts that TMA and the tensor cores take.
#include "backend/sm90/sm90_args.h"
#include "backend/sm90/sm90_gemm.h"
#include "cuda/launch.h"

enum { MOST_MATRICES = 65535 }; // of one launch: the y size of a grid

dg_status dg_sm90_repack_prepare(struct dg_sm90_state *state)
{
    struct dg_jit_kernel kernel;
    return dg_sm90_find_plain(state, "sm90_fp8_repack", &kernel);
}

static dg_status start(struct dg_sm90_state *state, const char *name, CUfunction function,
                       void *pack, int64_t tiles, int64_t matrices, uint32_t threads,
                       const struct dg_gemm_args *args)
{
    void *parameters[] = {pack};
    const struct dg_cuda_launch launch = {
        .name = name,
        .function = function,
        .grid = {(uint32_t)tiles, (uint32_t)matrices, 1},
        .block = {threads, 1, 1},
        .pdl = args->flags & DG_GEMM_PDL ? 1 : 0,
        .stream = args->stream,
        .parameters = parameters,
    };
    return dg_cuda_launch(state->context.cuda, &launch);
}

dg_status dg_sm90_repack_stack(struct dg_sm90_state *state, const char *name,
                               struct dg_matrix_view *view, int64_t groups, int64_t *stride,
                               int64_t rows, int64_t k, void *target,
                               const struct dg_gemm_args *args)
{
    struct dg_jit_kernel kernel;
    DG_TRY(dg_sm90_find_plain(state, "sm90_fp8_repack", &kernel));
    const int64_t pitch = (k + 127) / 128 * 128;
    struct dg_sm90_repack_args pack = {
        .source = view->data,
        .target = target,
        .row_stride = view->row_stride,
        .k_stride = view->column_stride,
        .source_matrix = groups > 1 ? *stride : 0,
        .target_matrix = rows * pitch,
        .pitch = pitch,
        .rows = (int)rows,
        .k = (int)k,
        .words = view->row_stride == 1 && view->column_stride % 4 == 0 &&
                 (uintptr_t)view->data % 4 == 0 && (groups <= 1 || *stride % 4 == 0),
    };
    const int64_t tiles = ((rows + 127) / 128) * (pitch / 128);
    if (tiles > INT32_MAX)
        return dg_fail(DG_UNSUPPORTED, "%s: %lld x %lld is too large to be copied K-major", name,
                       (long long)rows, (long long)k);
    for (int64_t left = groups; left > 0; left -= MOST_MATRICES) {
        const int64_t now = left < MOST_MATRICES ? left : MOST_MATRICES;
        DG_TRY(start(state, "sm90_fp8_repack", kernel.function, &pack, tiles, now, 256, args));
        pack.source += now * pack.source_matrix;
        pack.target += now * pack.target_matrix;
    }
    *view = (struct dg_matrix_view){target, pitch, 1};
    *stride = pack.target_matrix;
    return DG_OK;
}

dg_status dg_sm90_repack(struct dg_sm90_state *state, const char *name, struct dg_matrix_view *view,
                         int64_t rows, int64_t k, void *target, const struct dg_gemm_args *args)
{
    int64_t stride = 0;
    return dg_sm90_repack_stack(state, name, view, 1, &stride, rows, k, target, args);
}

dg_status dg_sm90_repack_scales_prepare(struct dg_sm90_state *state)
{
    struct dg_jit_kernel kernel;
    return dg_sm90_find_plain(state, "sm90_scales_repack", &kernel);
}

struct dg_sm90_scales dg_sm90_copy_of_scales(int64_t together, int64_t apart, int is_along_k,
                                             void *target, struct dg_matrix_view *view,
                                             int64_t *matrix)
{
    const int64_t pitch = (together + 3) / 4 * 4;
    const struct dg_sm90_scales scales = {
        .source = view->data,
        .target = target,
        .row_stride = is_along_k ? view->column_stride : view->row_stride,
        .column_stride = is_along_k ? view->row_stride : view->column_stride,
        .pitch = pitch,
        .source_matrix = *matrix,
        .target_matrix = pitch * apart,
        .rows = (int)together,
        .columns = (int)apart,
    };
    *view = is_along_k ? (struct dg_matrix_view){target, pitch, 1}
                       : (struct dg_matrix_view){target, 1, pitch};
    *matrix = scales.target_matrix;
    return scales;
}

static int64_t scale_tiles(const struct dg_sm90_scales *scales, int64_t matrices)
{
    return matrices * ((scales->rows + (int64_t)127) / 128) * ((scales->columns + (int64_t)7) / 8);
}

dg_status dg_sm90_repack_scales(struct dg_sm90_state *state, const struct dg_sm90_scales *a,
                                int64_t matrices_a, const struct dg_sm90_scales *b,
                                int64_t matrices_b, const struct dg_gemm_args *args)
{
    const int64_t ctas_a = scale_tiles(a, matrices_a), ctas_b = scale_tiles(b, matrices_b);
    struct dg_sm90_scales_repack_args pack = {*a, *b, (int)ctas_a};
    struct dg_jit_kernel kernel;
    if (ctas_a + ctas_b > INT32_MAX)
        return dg_fail(DG_UNSUPPORTED, "a.scales, b.scales: too many to be copied");
    DG_TRY(dg_sm90_find_plain(state, "sm90_scales_repack", &kernel));
    return start(state, "sm90_scales_repack", kernel.function, &pack, ctas_a + ctas_b, 1, 128,
                 args);
}
