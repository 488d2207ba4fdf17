// SPDX-License-Identifier: MIT
// bridge.c - the short way from a Python call on torch tensors to the library: the tensors of a dense or
// grouped call are read here, by the functions that torch offers to C (DLPack's exchange table), instead of attribute by
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

struct dl_managed {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_managed *self);
    uint64_t flags;
    struct dl_tensor tensor;
};

struct dl_exchange {
    uint32_t major, minor;
    void *previous;
    int (*allocate)(struct dl_tensor *prototype, struct dl_managed **tensor, void *error,
                    void (*set_error)(void *error, const char *kind, const char *message));
    void *from_object, *to_object;
    int (*tensor_from_object)(void *object,
                              struct dl_tensor *tensor); // borrowed, no synchronisation
    int (*current_stream)(int32_t device_type, int32_t device_id, void **stream);
};

enum { DL_CPU = 1, DL_CUDA = 2 };
enum { DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_E4M3FN = 10 };

// --- what Python hands over once; _fast.py has the same struct ---

enum { MAX_DEVICES = 64, MAX_TYPES = 2 };

struct bridge {
    const struct dl_exchange *exchange;
    void *types[MAX_TYPES];         // exactly these types are tensors: Tensor and Parameter
    void *tuple;                    // the type tuple
    void *(*type_of)(void *object); // PyObject_Type: a new reference
    void (*release)(void *object);  // Py_DecRef
    void *(*item)(void *tuple, ptrdiff_t index); // PyTuple_GetItem: borrowed
    ptrdiff_t (*size)(void *tuple);              // PyTuple_Size
    void (*clear_error)(void);                   // PyErr_Clear
    void *(*unlock)(void);                       // PyEval_SaveThread
    void (*lock)(void *state);                   // PyEval_RestoreThread
    dg_status (*gemm)(dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,
                      const struct dg_tensor *d, const struct dg_tensor *c,
                      const struct dg_gemm_options *options, void *stream); // dg_fp8_gemm_nt
    // dg_m_grouped_fp8_gemm_nt_contiguous, ..._masked
    dg_status (*grouped[2])(dg_context *context, const struct dg_scaled *a,
                            const struct dg_scaled *b, const struct dg_tensor *d,
                            const struct dg_tensor *c, const struct dg_tensor *layout,
                            const struct dg_grouped_options *options, void *stream);
    dg_status (*workspace_bytes)(dg_context *context, const struct dg_problem *problem,
                                 size_t *bytes); // dg_workspace_bytes
    uint32_t flags;                              // DG_GEMM_... of every call
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

// One call while it is put together.
struct call {
    const struct bridge *bridge;
    void *arguments; // a tuple
    struct place place;
    struct dg_scaled a, b;
    struct dg_tensor d, layout;
    dg_context *context;
    void *stream;
};

static dg_type type_of_elements(const struct dl_tensor *dl)
{
    if (dl->lanes != 1)
        return DG_TYPE_NONE;
    if (dl->code == DL_E4M3FN && dl->bits == 8)
        return DG_E4M3;
    if (dl->code == DL_BFLOAT && dl->bits == 16)
        return DG_BF16;
    if (dl->bits != 32)
        return DG_TYPE_NONE;
    return dl->code == DL_FLOAT ? DG_F32 : dl->code == DL_INT ? DG_I32 : DG_TYPE_NONE;
}

// A tensor of `rank` with one of `types` (1 << dg_type), on the call's device and not empty; 0 if the
// object is anything else.
static int read_tensor(struct call *call, void *object, int rank, unsigned types,
                       struct dg_tensor *tensor)
{
    const struct bridge *bridge = call->bridge;
    struct dl_tensor dl;
    if (!object || (!has_type(bridge, object, bridge->types[0]) &&
                    !has_type(bridge, object, bridge->types[1])))
        return 0;
    if (bridge->exchange->tensor_from_object(object, &dl)) {
        bridge->clear_error();
        return 0;
    }
    dg_type type = type_of_elements(&dl);
    if (dl.ndim != rank || !dl.strides || !(types >> type & 1))
        return 0;
    if (call->place.device_type == 0)
        call->place = (struct place){dl.device_type, dl.device_id};
    if (dl.device_type != call->place.device_type || dl.device_id != call->place.device_id)
        return 0;
    *tensor = (struct dg_tensor){(char *)dl.data + dl.byte_offset, type, rank, {0}, {0}};
    for (int i = 0; i < rank; i++) {
        if (dl.shape[i] == 0)
            return 0;
        tensor->shape[i] = dl.shape[i];
        tensor->stride[i] = dl.strides[i];
    }
    return 1;
}

// A tuple of values and scales.  Values that a GPU must lay out anew are left to the long way, which
// brings a workspace.
static int read_scaled(struct call *call, int index, int rank, int32_t block_rows,
                       struct dg_scaled *scaled)
{
    const struct bridge *bridge = call->bridge;
    void *object = bridge->item(call->arguments, index);
    if (!object || !has_type(bridge, object, bridge->tuple) || bridge->size(object) != 2)
        return 0;
    if (!read_tensor(call, bridge->item(object, 0), rank, 1u << DG_E4M3, &scaled->values) ||
        !read_tensor(call, bridge->item(object, 1), rank, 1u << DG_F32, &scaled->scales))
        return 0;
    scaled->block_rows = block_rows;
    scaled->block_columns = 128;
    const int64_t *stride = scaled->values.stride;
    return stride[rank - 1] == 1 && stride[rank - 2] % 16 == 0;
}

static dg_context *context_at(const struct bridge *bridge, const struct place *place)
{
    if (place->device_type == DL_CPU)
        return bridge->cpu;
    if (place->device_type != DL_CUDA || (uint32_t)place->device_id >= MAX_DEVICES)
        return NULL;
    return bridge->cuda[place->device_id];
}

// ((a, sfa), (b, sfb), d, ...), with the context and the stream of their device.
static int read_call(struct call *call, int a_rank, int b_rank, int32_t block_rows)
{
    const struct bridge *bridge = call->bridge;
    if (!read_scaled(call, 0, a_rank, 1, &call->a) ||
        !read_scaled(call, 1, b_rank, block_rows, &call->b) ||
        !read_tensor(call, bridge->item(call->arguments, 2), a_rank, 1u << DG_BF16 | 1u << DG_F32,
                     &call->d))
        return 0;
    call->context = context_at(bridge, &call->place);
    if (!call->context)
        return 0;
    if (call->place.device_type == DL_CUDA &&
        bridge->exchange->current_stream(DL_CUDA, call->place.device_id, &call->stream)) {
        bridge->clear_error();
        return 0;
    }
    return 1;
}

// --- workspace: what large calls are faster with ---

static const double large_products = 4e9; // rows * n * k; a smaller call saves less than this takes

static dg_major major_of_scales(const struct dg_tensor *scales)
{
    return scales->stride[scales->rank - 1] == 1 ? DG_K_MAJOR : DG_MN_MAJOR;
}

// What dense and grouped calls have in common.
static struct dg_problem describe(const struct call *call, dg_op op, int32_t block_rows)
{
    const struct dg_tensor *a = &call->a.values, *b = &call->b.values;
    return (struct dg_problem){
        .op = op,
        .d_type = call->d.type,
        .m = a->shape[a->rank - 2],
        .n = b->shape[b->rank - 2],
        .k = a->shape[a->rank - 1],
        .lda = a->stride[a->rank - 2],
        .ldb = b->stride[b->rank - 2],
        .ldd = call->d.stride[call->d.rank - 2],
        .sf_type = DG_F32,
        .sfb_block_n = block_rows,
        .sfa_major = major_of_scales(&call->a.scales),
        .sfb_major = major_of_scales(&call->b.scales),
    };
}

static void ignore_error(void *error, const char *kind, const char *message)
{
    (void)error, (void)kind, (void)message;
}

// Memory from torch, which gives it to no one else before the stream is done with it; NULL: the call does without.
// `rows`: of all groups, about.
static struct dl_managed *take_workspace(const struct call *call, const struct dg_problem *problem,
                                         double rows, void **workspace, size_t *bytes)
{
    const struct bridge *bridge = call->bridge;
    const double products = rows * (double)problem->n * (double)problem->k;
    struct dl_managed *managed = NULL;
    *bytes = 0;
    if (call->place.device_type != DL_CUDA || products < large_products ||
        bridge->workspace_bytes(call->context, problem, bytes) != DG_OK || *bytes == 0)
        return NULL;
    int64_t shape[1] = {(int64_t)*bytes};
    struct dl_tensor prototype = {
        .device_type = DL_CUDA,
        .device_id = call->place.device_id,
        .ndim = 1,
        .code = DL_UINT,
        .bits = 8,
        .lanes = 1,
        .shape = shape,
    };
    if (bridge->exchange->allocate(&prototype, &managed, NULL, ignore_error) || !managed) {
        bridge->clear_error();
        *bytes = 0;
        return NULL;
    }
    *workspace = (char *)managed->tensor.data + managed->tensor.byte_offset;
    return managed;
}

static void give_back(struct dl_managed *managed)
{
    if (managed && managed->deleter)
        managed->deleter(managed);
}

// --- calls ---

// D = A B^T (+ C) with arguments = ((a, sfa), (b, sfb), d) or (..., d, c) and B's scales for block_rows x 128.
// 0: queued (on a CPU: done).
EXPORT int dg_bridge_gemm_nt(const struct bridge *bridge, void *arguments, int32_t block_rows);
int dg_bridge_gemm_nt(const struct bridge *bridge, void *arguments, int32_t block_rows)
{
    struct call call = {.bridge = bridge, .arguments = arguments};
    const int has_c = bridge->size(arguments) == 4;
    struct dg_tensor c;
    if (!read_call(&call, 2, 2, block_rows) ||
        (has_c && !read_tensor(&call, bridge->item(arguments, 3), 2, 1u << call.d.type, &c)))
        return 1;
    struct dg_gemm_options options = DG_GEMM_OPTIONS;
    options.flags = bridge->flags;
    struct dg_problem problem = describe(&call, DG_OP_FP8_GEMM_NT, block_rows);
    if (has_c)
        problem.c_mode = c.data == call.d.data ? DG_C_IN_PLACE : DG_C_SEPARATE;
    struct dl_managed *managed = take_workspace(&call, &problem, (double)problem.m,
                                                &options.workspace, &options.workspace_bytes);
    void *thread = bridge->unlock();
    dg_status status = bridge->gemm(call.context, &call.a, &call.b, &call.d, has_c ? &c : NULL,
                                    &options, call.stream);
    bridge->lock(thread);
    give_back(managed);
    return status != DG_OK;
}

enum { GROUPED_INDEX = 0, GROUPED_ENDS = 1, GROUPED_MASKED = 2 };

// An m-grouped product of 128 x 128 scales with arguments = ((a, sfa), (b, sfb), d, layout); `kind` is one of
// GROUPED_...  0: queued (on a CPU: done).
EXPORT int dg_bridge_grouped_nt(const struct bridge *bridge, void *arguments, int32_t kind,
                                int32_t alignment, int64_t expected_m);
int dg_bridge_grouped_nt(const struct bridge *bridge, void *arguments, int32_t kind,
                         int32_t alignment, int64_t expected_m)
{
    struct call call = {.bridge = bridge, .arguments = arguments};
    const int masked = kind == GROUPED_MASKED;
    if (!read_call(&call, masked ? 3 : 2, 3, 128) ||
        !read_tensor(&call, bridge->item(arguments, 3), 1, 1u << DG_I32, &call.layout))
        return 1;
    struct dg_grouped_options options = DG_GROUPED_OPTIONS;
    options.flags = bridge->flags;
    options.layout = kind == GROUPED_ENDS ? DG_GROUP_ENDS : DG_GROUP_INDEX;
    options.alignment = alignment;
    options.expected_m = expected_m;
    struct dg_problem problem =
        describe(&call, masked ? DG_OP_FP8_M_GROUPED_MASKED : DG_OP_FP8_M_GROUPED_CONTIGUOUS, 128);
    problem.groups = call.b.values.shape[0];
    problem.layout = options.layout;
    problem.alignment = alignment;
    problem.expected_m = expected_m;
    const double usual = (double)(expected_m < problem.m ? expected_m : problem.m);
    const double rows = masked ? (double)problem.groups * usual : (double)problem.m;
    struct dl_managed *managed =
        take_workspace(&call, &problem, rows, &options.workspace, &options.workspace_bytes);
    void *thread = bridge->unlock();
    dg_status status = bridge->grouped[masked](call.context, &call.a, &call.b, &call.d, NULL,
                                               &call.layout, &options, call.stream);
    bridge->lock(thread);
    give_back(managed);
    return status != DG_OK;
}
