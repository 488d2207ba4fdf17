// SPDX-License-Identifier: MIT
// block_fp8.h - how DeepSeek's checkpoints store one FP8 layer, as two tensors:
//
//     <name>.weight            F8_E4M3 [n, k]
//     <name>.weight_scale_inv  F32     [ceil(n / 128), ceil(k / 128)]
//
// "inv" notwithstanding, element (i, j) stands for weight[i][j] * scale[i / 128][j / 128].
#ifndef DG_FORMATS_BLOCK_FP8_H
#define DG_FORMATS_BLOCK_FP8_H

#include "formats/safetensors.h"

#define DG_BLOCK_FP8_SIZE 128

struct dg_block_fp8 {
    struct dg_scaled scaled; // points into the views; read only
    const struct dg_safetensors_tensor *weight;
    struct dg_safetensors_view values, scales;
};

// `name` is the layer's, with or without ".weight".  Fails with DG_IO_ERROR and what to do about it
// when the layer is missing, not quantised, or its two tensors do not fit each other.
dg_status dg_block_fp8_open(const struct dg_safetensors *checkpoint, const char *name,
                            struct dg_block_fp8 *layer);
void dg_block_fp8_close(struct dg_block_fp8 *layer);

// "<tensor>_scale_inv", from malloc; NULL when there is no memory.
char *dg_block_fp8_scale_name(const char *tensor);

#endif
