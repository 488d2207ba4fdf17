// SPDX-License-Identifier: MIT
// bridge.c - the short way from a Python call on torch tensors to the library: the tensors of a dense call are
// read here, by the functions that torch offers to C (DLPack's exchange table), instead of attribute by
// attribute in Python.  A small shared library beside libdeepgemm.so, used through ctypes.
//
// It knows no CPython header and no torch header, so one build serves every version of both: objects are
// opaque, and the few functions of the interpreter's stable ABI that it needs come as addresses.  It only
// ever takes what is plain and says nothing else: any other answer than 0 means "nothing was done", and the
// caller goes the long way, which finds the words.
#include <deepgemm.h>

#include <string.h>

#define EXPORT __attribute__((visibility("default")))

// --- DLPack (v1): the parts of its interface that are used ---

struct dl_tensor {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};

struct dl_exchange {
    uint32_t major, minor;
    void *previous, *allocate, *from_object, *to_object;
    int (*tensor_from_object)(void *object, struct dl_tensor *tensor); // borrowed, no synchronisation
    int (*current_stream)(int32_t device_type, int32_t device_id, void **stream);
};

enum { DL_CPU = 1, DL_CUDA = 2, DL_FLOAT = 2, DL_BFLOAT = 4, DL_E4M3FN = 10 };

// --- what Python hands over once; _fast.py has the same struct ---

enum { MAX_DEVICES = 64, MAX_TYPES = 2 };

struct bridge {
    const struct dl_exchange *exchange;
    void *types[MAX_TYPES];                      // exactly these types are tensors: Tensor and Parameter
    void *tuple;                                 // the type tuple
    void *(*type_of)(void *object);              // PyObject_Type: a new reference
    void (*release)(void *object);               // Py_DecRef
    void *(*item)(void *tuple, ptrdiff_t index); // PyTuple_GetItem: borrowed
    ptrdiff_t (*size)(void *tuple);              // PyTuple_Size
    void (*clear_error)(void);                   // PyErr_Clear
    void *(*unlock)(void);                       // PyEval_SaveThread
    void (*lock)(void *state);                   // PyEval_RestoreThread
    dg_status (*gemm)(dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,
                      const struct dg_tensor *d, const struct dg_tensor *c,
                      const struct dg_gemm_options *options, void *stream); // dg_fp8_gemm_nt
    const struct dg_gemm_options *options;
    dg_context *cpu;
    dg_context *cuda[MAX_DEVICES]; // NULL: not made yet
};

static int has_type(const struct bridge *bridge, void *object, void *type)
{
    void *own = bridge->type_of(object);
    if (own)
        bridge->release(own); // the object holds its type
    return own == type;
}

// Where one call runs: taken from its first tensor, the same for all others.
struct place {
    int32_t device_type, device_id;
};

static dg_type type_of_elements(const struct dl_tensor *dl)
{
    if (dl->lanes != 1)
        return DG_TYPE_NONE;
    if (dl->code == DL_E4M3FN && dl->bits == 8)
        return DG_E4M3;
    if (dl->code == DL_BFLOAT && dl->bits == 16)
        return DG_BF16;
    return dl->code == DL_FLOAT && dl->bits == 32 ? DG_F32 : DG_TYPE_NONE;
}

// A matrix of one of `types` (1 << dg_type) at `place`; 0 if the object is anything else.
static int read_matrix(const struct bridge *bridge, void *object, unsigned types,
                       struct place *place, struct dg_tensor *matrix)
{
    struct dl_tensor dl;
    if (!object || (!has_type(bridge, object, bridge->types[0]) &&
                    !has_type(bridge, object, bridge->types[1])))
        return 0;
    if (bridge->exchange->tensor_from_object(object, &dl)) {
        bridge->clear_error();
        return 0;
    }
    dg_type type = type_of_elements(&dl);
    if (dl.ndim != 2 || !dl.strides || !(types >> type & 1))
        return 0;
    if (place->device_type == 0)
        *place = (struct place){dl.device_type, dl.device_id};
    if (dl.device_type != place->device_type || dl.device_id != place->device_id)
        return 0;
    *matrix = (struct dg_tensor){.data = (char *)dl.data + dl.byte_offset,
                                 .type = type,
                                 .rank = 2,
                                 .shape = {dl.shape[0], dl.shape[1]},
                                 .stride = {dl.strides[0], dl.strides[1]}};
    return 1;
}

// A tuple of values and scales.  Values that a GPU must lay out anew are left to the long way, which
// brings a workspace.
static int read_scaled(const struct bridge *bridge, void *object, struct place *place,
                       int32_t block_rows, struct dg_scaled *scaled)
{
    if (!object || !has_type(bridge, object, bridge->tuple) || bridge->size(object) != 2)
        return 0;
    if (!read_matrix(bridge, bridge->item(object, 0), 1u << DG_E4M3, place, &scaled->values) ||
        !read_matrix(bridge, bridge->item(object, 1), 1u << DG_F32, place, &scaled->scales))
        return 0;
    scaled->block_rows = block_rows;
    scaled->block_columns = 128;
    const struct dg_tensor *values = &scaled->values;
    return values->shape[0] > 0 && values->stride[1] == 1 && values->stride[0] % 16 == 0;
}

static dg_context *context_at(const struct bridge *bridge, const struct place *place)
{
    if (place->device_type == DL_CPU)
        return bridge->cpu;
    if (place->device_type != DL_CUDA || (uint32_t)place->device_id >= MAX_DEVICES)
        return NULL;
    return bridge->cuda[place->device_id];
}

// D = A B^T with arguments = ((a, sfa), (b, sfb), d) and B's scales for block_rows x 128.  0: queued (on a
// CPU: done).
EXPORT int dg_bridge_gemm_nt(const struct bridge *bridge, void *arguments, int32_t block_rows);
int dg_bridge_gemm_nt(const struct bridge *bridge, void *arguments, int32_t block_rows)
{
    struct dg_scaled a, b;
    struct dg_tensor d;
    struct place place = {0, 0};
    void *stream = NULL;
    if (!read_scaled(bridge, bridge->item(arguments, 0), &place, 1, &a) ||
        !read_scaled(bridge, bridge->item(arguments, 1), &place, block_rows, &b) ||
        !read_matrix(bridge, bridge->item(arguments, 2), 1u << DG_BF16 | 1u << DG_F32, &place, &d))
        return 1;
    dg_context *context = context_at(bridge, &place);
    if (!context)
        return 1;
    if (place.device_type == DL_CUDA &&
        bridge->exchange->current_stream(place.device_type, place.device_id, &stream)) {
        bridge->clear_error();
        return 1;
    }
    void *thread = bridge->unlock();
    dg_status status = bridge->gemm(context, &a, &b, &d, NULL, bridge->options, stream);
    bridge->lock(thread);
    return status != DG_OK;
}
