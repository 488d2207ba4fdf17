// SPDX-License-Identifier: MIT
// tensor_map.c - checks and encodes TMA descriptors.
#include "cuda/tensor_map.h"

enum { ALIGNMENT = 16, LARGEST_BOX = 256 };
#define LARGEST_SHAPE ((uint64_t)1 << 32)
#define LARGEST_STRIDE ((uint64_t)1 << 40) // exclusive

uint32_t dg_cuda_tensor_map_type_bytes(CUtensorMapDataType type)
{
    switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
        return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
        return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
        return 4;
    default:
        return 0;
    }
}

CUtensorMapSwizzle dg_cuda_tensor_map_swizzle(int64_t row_bytes)
{
    return row_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
           : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
           : row_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                             : CU_TENSOR_MAP_SWIZZLE_NONE;
}

CUtensorMapL2promotion dg_cuda_tensor_map_promotion(const struct dg_tensor_map_desc *desc,
                                                    int is_reread)
{
    const int is_line = desc->box[0] * dg_cuda_tensor_map_type_bytes(desc->type) == 128;
    return is_reread && is_line && desc->stride_bytes[0] % 128 ? CU_TENSOR_MAP_L2_PROMOTION_L2_128B
                                                               : CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
}

static uint32_t swizzle_bytes(CUtensorMapSwizzle swizzle)
{
    static const uint32_t bytes[] = {[CU_TENSOR_MAP_SWIZZLE_NONE] = 0,
                                     [CU_TENSOR_MAP_SWIZZLE_32B] = 32,
                                     [CU_TENSOR_MAP_SWIZZLE_64B] = 64,
                                     [CU_TENSOR_MAP_SWIZZLE_128B] = 128};
    return (unsigned)swizzle < sizeof bytes / sizeof *bytes ? bytes[swizzle] : 0;
}

static dg_status check_dimension(const char *name, const struct dg_tensor_map_desc *desc, int i)
{
    if (desc->shape[i] < 1 || desc->shape[i] > LARGEST_SHAPE)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s: dimension %d has %llu elements: TMA takes 1 to 2^32", name, i,
                       (unsigned long long)desc->shape[i]);
    if (desc->box[i] < 1 || desc->box[i] > LARGEST_BOX)
        return dg_fail(DG_INVALID_ARGUMENT, "%s: box dimension %d is %u: TMA takes 1 to %d", name,
                       i, desc->box[i], LARGEST_BOX);
    if (i == 0)
        return DG_OK;
    const uint64_t stride = desc->stride_bytes[i - 1];
    if (stride % ALIGNMENT)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s: stride of %llu bytes: TMA takes multiples of %d; %llu bytes would do",
                       name, (unsigned long long)stride, ALIGNMENT,
                       (unsigned long long)(stride / ALIGNMENT + 1) * ALIGNMENT);
    if (stride >= LARGEST_STRIDE)
        return dg_fail(DG_INVALID_ARGUMENT, "%s: stride of %llu bytes: TMA takes less than 2^40",
                       name, (unsigned long long)stride);
    return DG_OK;
}

dg_status dg_cuda_tensor_map_check(const char *name, const struct dg_tensor_map_desc *desc)
{
    const uint32_t bytes = dg_cuda_tensor_map_type_bytes(desc->type);
    if (desc->rank < 1 || desc->rank > DG_TENSOR_MAP_MAX_RANK || !bytes)
        return dg_fail(DG_INTERNAL, "%s: tensor map of rank %d and type %d", name, (int)desc->rank,
                       (int)desc->type);
    if ((uintptr_t)desc->data % ALIGNMENT)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s.data = %p: TMA takes addresses that are multiples of %d; this one is %d "
                       "bytes past one",
                       name, desc->data, ALIGNMENT, (int)((uintptr_t)desc->data % ALIGNMENT));
    for (int i = 0; i < desc->rank; i++)
        DG_TRY(check_dimension(name, desc, i));
    const uint32_t width = desc->box[0] * bytes, limit = swizzle_bytes(desc->swizzle);
    if (width % ALIGNMENT)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s: the box is %u bytes wide: TMA takes multiples of %d", name, width,
                       ALIGNMENT);
    if (limit && width > limit)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s: the box is %u bytes wide: a %u-byte swizzle takes at most %u", name,
                       width, limit, limit);
    return DG_OK;
}

dg_status dg_cuda_tensor_map_encode(const struct dg_cuda *cuda, const char *name,
                                    const struct dg_tensor_map_desc *desc, CUtensorMap *map)
{
    static const uint32_t element_strides[DG_TENSOR_MAP_MAX_RANK] = {1, 1, 1, 1, 1};
    DG_TRY(dg_cuda_tensor_map_check(name, desc));
    DG_CUDA_TRY(cuda->cuTensorMapEncodeTiled(map, desc->type, (uint32_t)desc->rank,
                                             (void *)(uintptr_t)desc->data, desc->shape,
                                             desc->stride_bytes, desc->box, element_strides,
                                             CU_TENSOR_MAP_INTERLEAVE_NONE, desc->swizzle,
                                             desc->l2_promotion, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                "%s: encoding a tensor map (address %p, shape %llu x %llu, stride %llu bytes, box "
                "%u x %u)",
                name, desc->data, (unsigned long long)desc->shape[1],
                (unsigned long long)desc->shape[0], (unsigned long long)desc->stride_bytes[0],
                desc->box[1], desc->box[0]);
    return DG_OK;
}
