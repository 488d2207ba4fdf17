// SPDX-License-Identifier: MIT
// block_fp8.c - finds the two tensors of an FP8 layer and checks that they belong together.
#include "formats/block_fp8.h"

#include "base/error.h"
#include "base/overflow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *dg_block_fp8_scale_name(const char *tensor)
{
    char *name = NULL;
    return asprintf(&name, "%s_scale_inv", tensor) < 0 ? NULL : name;
}

static char *weight_name(const char *layer)
{
    static const char suffix[] = ".weight";
    const size_t length = strlen(layer), suffix_length = sizeof suffix - 1;
    if (length > suffix_length && strcmp(layer + length - suffix_length, suffix) == 0)
        return strdup(layer);
    char *name = NULL;
    return asprintf(&name, "%s%s", layer, suffix) < 0 ? NULL : name;
}

static dg_status check_weight(const struct dg_safetensors_tensor *weight)
{
    if (weight->type == DG_BF16 || weight->type == DG_F16 || weight->type == DG_F32)
        return dg_fail(DG_IO_ERROR,
                       "\"%s\" is %s, not quantised: 'deepgemm quantize IN OUT' makes the FP8 form",
                       DG_JSON_SHOW(weight->name), weight->dtype);
    if (weight->type != DG_E4M3)
        return dg_fail(DG_IO_ERROR, "\"%s\" is %s: must be F8_E4M3", DG_JSON_SHOW(weight->name),
                       weight->dtype);
    if (weight->rank != 2)
        return dg_fail(DG_IO_ERROR, "\"%s\" has %d dimensions: must be 2",
                       DG_JSON_SHOW(weight->name), (int)weight->rank);
    return DG_OK;
}

static dg_status check_scales(const struct dg_safetensors_tensor *weight,
                              const struct dg_safetensors_tensor *scales)
{
    if (scales->type != DG_F32)
        return dg_fail(DG_IO_ERROR, "\"%s\" is %s: must be F32", DG_JSON_SHOW(scales->name),
                       scales->dtype);
    const long long rows = dg_ceil_div(weight->shape[0], DG_BLOCK_FP8_SIZE);
    const long long columns = dg_ceil_div(weight->shape[1], DG_BLOCK_FP8_SIZE);
    if (scales->rank != 2 || scales->shape[0] != rows || scales->shape[1] != columns)
        return dg_fail(
            DG_IO_ERROR,
            "\"%s\" has shape [%lld, %lld] of rank %d: a weight of [%lld, %lld] in blocks of "
            "%d x %d needs [%lld, %lld]",
            DG_JSON_SHOW(scales->name), (long long)scales->shape[0], (long long)scales->shape[1],
            (int)scales->rank, (long long)weight->shape[0], (long long)weight->shape[1],
            DG_BLOCK_FP8_SIZE, DG_BLOCK_FP8_SIZE, rows, columns);
    return DG_OK;
}

static dg_status find(const struct dg_safetensors *checkpoint, const char *name,
                      const struct dg_safetensors_tensor **tensor)
{
    *tensor = dg_safetensors_find(checkpoint, name);
    if (*tensor)
        return DG_OK;
    return dg_fail(DG_IO_ERROR, "no tensor \"%s\" among the %u of the checkpoint%s%s%s",
                   DG_JSON_SHOW(name), checkpoint->count,
                   checkpoint->count ? " (the first is \"" : "",
                   checkpoint->count ? DG_JSON_SHOW(checkpoint->tensors[0]->name) : "",
                   checkpoint->count ? "\")" : "");
}

static dg_status open_views(const struct dg_safetensors *checkpoint,
                            const struct dg_safetensors_tensor *scales, struct dg_block_fp8 *layer)
{
    const struct dg_safetensors_tensor *weight = layer->weight;
    DG_TRY(dg_safetensors_view(checkpoint, weight, &layer->values));
    DG_TRY(dg_safetensors_view(checkpoint, scales, &layer->scales));
    // The views are read-only; as operands of a GEMM they are only read.
    void *values = (void *)(uintptr_t)layer->values.data,
         *scale_data = (void *)(uintptr_t)layer->scales.data;
    layer->scaled = (struct dg_scaled){
        .values = dg_matrix(values, DG_E4M3, weight->shape[0], weight->shape[1]),
        .scales = dg_matrix(scale_data, DG_F32, scales->shape[0], scales->shape[1]),
        .block_rows = DG_BLOCK_FP8_SIZE,
        .block_columns = DG_BLOCK_FP8_SIZE,
    };
    return DG_OK;
}

static dg_status open_layer(const struct dg_safetensors *checkpoint, const char *weight,
                            const char *scale, struct dg_block_fp8 *layer)
{
    const struct dg_safetensors_tensor *scales;
    DG_TRY(find(checkpoint, weight, &layer->weight));
    DG_TRY(check_weight(layer->weight));
    DG_TRY(find(checkpoint, scale, &scales));
    DG_TRY(check_scales(layer->weight, scales));
    return open_views(checkpoint, scales, layer);
}

dg_status dg_block_fp8_open(const struct dg_safetensors *checkpoint, const char *name,
                            struct dg_block_fp8 *layer)
{
    *layer = (struct dg_block_fp8){0};
    char *weight = weight_name(name), *scale = weight ? dg_block_fp8_scale_name(weight) : NULL;
    dg_status status = scale ? open_layer(checkpoint, weight, scale, layer)
                             : dg_fail(DG_OUT_OF_MEMORY, "no memory for a name");
    free(weight);
    free(scale);
    if (status != DG_OK)
        dg_block_fp8_close(layer);
    return status;
}

void dg_block_fp8_close(struct dg_block_fp8 *layer)
{
    dg_safetensors_release(&layer->values);
    dg_safetensors_release(&layer->scales);
    *layer = (struct dg_block_fp8){0};
}
