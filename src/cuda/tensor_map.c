// SPDX-License-Identifier: MIT
// tensor_map.c - checks, encodes and caches TMA descriptors.  Encoding costs less than a tenth of a
// microsecond, so the cache is a plain set-associative table that forgets the oldest; a descriptor holds
// an address and sizes only, so an entry can never go stale.
#include "cuda/tensor_map.h"

#include "base/hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { NUM_SETS = 256, NUM_WAYS = 4, NUM_LOCKS = 16 };
enum { ALIGNMENT = 16, LARGEST_BOX = 256 };
#define LARGEST_SHAPE ((uint64_t)1 << 32)
#define LARGEST_STRIDE ((uint64_t)1 << 40) // exclusive

_Static_assert(sizeof(struct dg_tensor_map_desc) == 120, "descriptor keys must have no padding");

struct entry {
    CUtensorMap map;
    struct dg_tensor_map_desc desc; // rank 0: empty
};

struct set {
    struct entry ways[NUM_WAYS];
    unsigned next; // the way to be replaced
};

struct dg_tensor_map_cache {
    const struct dg_cuda *cuda;
    pthread_mutex_t locks[NUM_LOCKS]; // lock i guards the sets with index % NUM_LOCKS == i
    struct set sets[NUM_SETS];
};

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

dg_status dg_tensor_map_cache_create(struct dg_tensor_map_cache **cache, const struct dg_cuda *cuda)
{
    *cache = NULL;
    const size_t bytes = (sizeof(struct dg_tensor_map_cache) + 63) / 64 * 64;
    struct dg_tensor_map_cache *created = aligned_alloc(64, bytes);
    if (!created)
        return dg_fail(DG_OUT_OF_MEMORY, "tensor map cache: %zu bytes of host memory", bytes);
    memset(created, 0, bytes);
    created->cuda = cuda;
    for (int i = 0; i < NUM_LOCKS; i++)
        pthread_mutex_init(&created->locks[i], NULL);
    *cache = created;
    return DG_OK;
}

void dg_tensor_map_cache_destroy(struct dg_tensor_map_cache *cache)
{
    for (int i = 0; cache && i < NUM_LOCKS; i++)
        pthread_mutex_destroy(&cache->locks[i]);
    free(cache);
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

static int find(const struct set *set, const struct dg_tensor_map_desc *desc, CUtensorMap *map)
{
    for (int way = 0; way < NUM_WAYS; way++)
        if (!memcmp(&set->ways[way].desc, desc, sizeof *desc)) {
            *map = set->ways[way].map;
            return 1;
        }
    return 0;
}

dg_status dg_cuda_tensor_map(struct dg_tensor_map_cache *cache, const char *name,
                             const struct dg_tensor_map_desc *desc, CUtensorMap *map)
{
    const unsigned index = (unsigned)(dg_hash(desc, sizeof *desc) >> 16) % NUM_SETS;
    struct set *set = &cache->sets[index];
    pthread_mutex_t *lock = &cache->locks[index % NUM_LOCKS];
    pthread_mutex_lock(lock);
    const int found = desc->rank && find(set, desc, map);
    pthread_mutex_unlock(lock);
    if (found)
        return DG_OK;
    DG_TRY(dg_cuda_tensor_map_encode(cache->cuda, name, desc, map));
    pthread_mutex_lock(lock);
    struct entry *entry = &set->ways[set->next++ % NUM_WAYS];
    entry->desc = *desc;
    entry->map = *map;
    pthread_mutex_unlock(lock);
    return DG_OK;
}
