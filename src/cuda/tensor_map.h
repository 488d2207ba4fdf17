// SPDX-License-Identifier: MIT
// tensor_map.h - TMA descriptors for boxes of 1-D to 5-D tensors, with the hardware's rules checked first
// (PTX ISA, "Tensor-map"; CUDA driver API, cuTensorMapEncodeTiled).  Sizes are listed innermost first, as the
// hardware counts.
#ifndef DG_CUDA_TENSOR_MAP_H
#define DG_CUDA_TENSOR_MAP_H

#include "cuda/driver.h"

#define DG_TENSOR_MAP_MAX_RANK 5

struct dg_tensor_map_desc {
    const void *data;                       // 16-byte aligned
    uint64_t shape[DG_TENSOR_MAP_MAX_RANK]; // elements
    // [i]: from one index of dimension i + 1 to the next; multiples of 16.
    uint64_t stride_bytes[DG_TENSOR_MAP_MAX_RANK - 1];
    // Elements moved at once, at most 256 each; what lies outside the tensor reads as zero and is not
    // written.
    uint32_t box[DG_TENSOR_MAP_MAX_RANK];
    int32_t rank;
    CUtensorMapDataType type;
    CUtensorMapSwizzle swizzle; // 128B: the box is at most 128 bytes wide
    CUtensorMapL2promotion l2_promotion;
};

// Bytes of one element of a type; 0 for types we do not use.
uint32_t dg_cuda_tensor_map_type_bytes(CUtensorMapDataType type);

// The swizzle of rows of 128, 64 or 32 bytes; none for others.
CUtensorMapSwizzle dg_cuda_tensor_map_swizzle(int64_t row_bytes);

// How much a read brings into the L2 cache at least: 256 bytes; but 128 where boxes have rows of 128 bytes that begin
// between two lines of the cache, and are `is_reread`: what memory then gains is less than what the cache loses.
CUtensorMapL2promotion dg_cuda_tensor_map_promotion(const struct dg_tensor_map_desc *desc,
                                                    int is_reread);

// Pure: DG_INVALID_ARGUMENT when the hardware cannot address `desc`; `name` is the argument's name, and
// the text says which rule was broken by which value and what would do.
dg_status dg_cuda_tensor_map_check(const char *name, const struct dg_tensor_map_desc *desc);

// The descriptor, checked and encoded: 60 ns.  Launches that are repeated keep theirs (base/memo.h).  Touches no
// device memory.
dg_status dg_cuda_tensor_map_encode(const struct dg_cuda *cuda, const char *name,
                                    const struct dg_tensor_map_desc *desc, CUtensorMap *map);

#endif
