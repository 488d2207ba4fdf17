/* SPDX-License-Identifier: MIT
 *
 * deepgemm.h - FP8 matrix multiplication with fine-grained scales, on Hopper GPUs and on CPUs.
 *
 * The whole public API (size waiver: one header is all that is installed).  C99 and C++; needs no CUDA
 * header.  A complete program:
 *
 *     #include <deepgemm.h>
 *     #include <stdio.h>
 *
 *     int main(void)
 *     {
 *         enum { M = 2, N = 3, K = 128 };
 *         static uint8_t a[M * K], b[N * K];                  // E4M3 bytes; 0x38 is 1.0
 *         float sfa[M] = {1, 2}, sfb[1] = {0.5f}, d[M * N];   // scales: 1x128 for A, 128x128 for B
 *         for (int i = 0; i < M * K; i++) a[i] = 0x38;
 *         for (int i = 0; i < N * K; i++) b[i] = 0x38;
 *
 *         struct dg_scaled A = {dg_matrix(a, DG_E4M3, M, K), dg_matrix(sfa, DG_F32, M, 1), 1, 128};
 *         struct dg_scaled B = {dg_matrix(b, DG_E4M3, N, K), dg_matrix(sfb, DG_F32, 1, 1), 128, 128};
 *         struct dg_tensor D = dg_matrix(d, DG_F32, M, N);
 *         dg_context *context;
 *         if (dg_context_create(&context, NULL) ||
 *             dg_fp8_gemm_nt(context, &A, &B, &D, NULL, NULL, NULL))
 *             return fprintf(stderr, "%s\n", dg_last_error()), 1;
 *         printf("%g %g\n", d[0], d[3]);                      // 64 128
 *         dg_context_destroy(context);
 *     }
 *
 * (On a machine with a Hopper GPU the default context runs there and wants device pointers; ask for
 * the CPU with `struct dg_context_options o = DG_CONTEXT_OPTIONS; o.backend = "cpu";`.)
 *
 * Words: m n k (sizes of D = C + A * B^T: A is m x k, B is n x k, D is m x n), sf (scale factor),
 * K-major (the k dimension has stride 1), MN-major (the other one has), sm (streaming multiprocessor).
 */
#ifndef DEEPGEMM_H
#define DEEPGEMM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DG_VERSION_MAJOR 0
#define DG_VERSION_MINOR 1
#define DG_VERSION_PATCH 0

#if defined(__GNUC__)
#define DG_API __attribute__((visibility("default")))
#else
#define DG_API
#endif

/* "0.1.0": the version of the library that is loaded, which may be newer than this header. */
DG_API const char *dg_version(void);

/* ------------------------------------------------------------------------------------------------
 * Status and errors
 *
 * Every function that can fail returns a dg_status.  One code per reaction of the caller; the text
 * from dg_last_error() says which argument had which value and what the rule is.  After a failure
 * nothing was written to any output, and the context can be used again.  The library never prints,
 * exits or aborts.
 */
typedef enum dg_status {
    DG_OK = 0,
    DG_INVALID_ARGUMENT = 1, /* the call breaks a documented rule: correct the call */
    DG_UNSUPPORTED = 2,      /* a legal call that this build, backend or device cannot do */
    DG_NO_DEVICE = 3,        /* no usable GPU or driver; the CPU backend may serve */
    DG_OUT_OF_MEMORY = 4,    /* host or device memory ran out */
    DG_COMPILE_FAILED = 5,   /* no compiler found, or it refused a kernel */
    DG_CUDA_ERROR = 6,       /* the CUDA driver refused a call */
    DG_IO_ERROR = 7,         /* a file could not be read or written, or holds what it must not */
    DG_INTERNAL = 8          /* a defect of this library: please report it */
} dg_status;

/* "DG_INVALID_ARGUMENT" and so on; "unknown status" for other values.  Never NULL. */
DG_API const char *dg_status_name(dg_status status);

/* The text of this thread's last failure; "" when there was none.  Valid until the thread's next
 * failing call.  Never NULL. */
DG_API const char *dg_last_error(void);

/* ------------------------------------------------------------------------------------------------
 * Tensors
 *
 * A tensor is a borrowed view: the library reads the struct during the call and keeps nothing.  data is
 * aligned to its element; it may be NULL if there are no elements.  Strides that no element uses (of a
 * size of 0 or 1) do not matter.
 */
typedef enum dg_type {
    DG_TYPE_NONE = 0,
    DG_E4M3 = 1,    /* 8-bit float, 4 exponent and 3 mantissa bits; NaN is 0x7f and 0xff, no Inf */
    DG_BF16 = 2,    /* bfloat16 */
    DG_F32 = 3,     /* IEEE single */
    DG_F64 = 4,     /* IEEE double; as an output of the "oracle" backend only */
    DG_UE8M0X4 = 5, /* four power-of-two scales in one 32-bit word: byte j is the biased exponent of
                       scale 4i + j, so 127 means 1.0; 255 means NaN; packed along k */
    DG_F16 = 6,     /* IEEE half; in files only */
    DG_I32 = 7      /* 32-bit signed integer */
} dg_type;

/* Bytes of one element; 0 for DG_TYPE_NONE and unknown values. */
DG_API size_t dg_type_bytes(dg_type type);
/* "e4m3", "bf16", "f32", ...; "unknown" for other values. */
DG_API const char *dg_type_name(dg_type type);

#define DG_MAX_RANK 4

struct dg_tensor {
    void *data; /* host pointer for a CPU context, device pointer for a GPU one */
    dg_type type;
    int32_t rank;                /* number of dimensions in use, 1 to DG_MAX_RANK */
    int64_t shape[DG_MAX_RANK];  /* elements, outermost first */
    int64_t stride[DG_MAX_RANK]; /* elements from one index to the next, not negative */
};

/* A row-major matrix whose rows are `stride` elements apart. */
static inline struct dg_tensor dg_matrix_strided(void *data, dg_type type, int64_t rows,
                                                 int64_t columns, int64_t stride)
{
    struct dg_tensor tensor = {data, type, 2, {0, 0, 0, 0}, {0, 0, 0, 0}};
    tensor.shape[0] = rows;
    tensor.shape[1] = columns;
    tensor.stride[0] = stride;
    tensor.stride[1] = 1;
    return tensor;
}

/* A row-major matrix without gaps. */
static inline struct dg_tensor dg_matrix(void *data, dg_type type, int64_t rows, int64_t columns)
{
    return dg_matrix_strided(data, type, rows, columns, columns);
}

/* `count` such matrices, `stride` elements apart: a tensor of rank 3. */
static inline struct dg_tensor dg_stack(struct dg_tensor matrix, int64_t count, int64_t stride)
{
    matrix.rank = 3;
    matrix.shape[2] = matrix.shape[1];
    matrix.stride[2] = matrix.stride[1];
    matrix.shape[1] = matrix.shape[0];
    matrix.stride[1] = matrix.stride[0];
    matrix.shape[0] = count;
    matrix.stride[0] = stride;
    return matrix;
}

/* The same memory with rows and columns exchanged. */
static inline struct dg_tensor dg_transposed(struct dg_tensor tensor)
{
    int64_t shape = tensor.shape[0], stride = tensor.stride[0];
    tensor.shape[0] = tensor.shape[1];
    tensor.stride[0] = tensor.stride[1];
    tensor.shape[1] = shape;
    tensor.stride[1] = stride;
    return tensor;
}

/* FP8 values with their scales: element (r, c) stands for
 *
 *     values[r][c] * scales[r / block_rows][c / block_columns]
 *
 * so scales has ceil(rows / block_rows) x ceil(columns / block_columns) entries; with DG_UE8M0X4 the
 * dimension that runs along k is ceil(entries / 4) words.  Scales may have any strides: row-major,
 * column-major ("MN-major") and padded layouts are all read in place, on every backend; from copies where
 * dg_workspace_bytes() has room for them. */
struct dg_scaled {
    struct dg_tensor values;
    struct dg_tensor scales; /* DG_F32 or DG_UE8M0X4 */
    int32_t block_rows;
    int32_t block_columns;
};

/* ------------------------------------------------------------------------------------------------
 * Contexts
 *
 * (Structs that begin with struct_size may grow in later versions: fields that an older program lacks
 * take their default, and a field that an older library lacks must be 0, or the call is refused.)
 *
 * A context is one executor (a GPU, or the CPU's thread pool) with its settings.  Any number of
 * threads may use one context at the same time; results do not depend on who else does.  Contexts
 * share nothing but the compiled-kernel cache on disk.
 */
typedef struct dg_context dg_context;

typedef enum dg_log_level {
    DG_LOG_ERROR = 1,
    DG_LOG_WARNING = 2,
    DG_LOG_INFO = 3,
    DG_LOG_DEBUG = 4
} dg_log_level;

/* Called from any thread that uses the context; `text` has no newline and dies with the call. */
typedef void (*dg_log_callback)(void *user, dg_log_level level, const char *text);

struct dg_context_options {
    size_t struct_size;  /* sizeof(struct dg_context_options), as DG_CONTEXT_OPTIONS sets it */
    const char *backend; /* "sm90", "cpu", "oracle"; NULL: $DG_BACKEND, else the first that can run.
                             "oracle" sums in double on the CPU: slow, for checking */
    int32_t device;      /* CUDA device ordinal; -1: the calling thread's current device, else 0 */
    int32_t num_sms;     /* most SMs a GPU call may occupy; 0: all */
    int32_t num_threads; /* CPU threads, the caller's included; 0: $DG_NUM_THREADS, else what the
                             affinity mask and the cgroup quota allow */
    const char *cpu_isa; /* "c", "avx2", "avx512"; NULL: $DG_CPU_ISA, else the best of this CPU.
                             The bits of the results do not depend on it */
    dg_log_callback log; /* NULL: silent, unless $DG_LOG or another variable asks for standard
                            error; a $DG_TUNING_FILE that cannot be read is told there */
    void *log_user;
    dg_log_level log_level; /* most detailed level that is delivered; 0: DG_LOG_WARNING */
    /* NULL: run here.  "h100-sxm", "h100-pcie", "h200", "h20": a context for such a GPU on any machine,
     * which plans, explains and compiles, but whose compute calls fail with DG_NO_DEVICE. */
    const char *device_profile;
    /* Measured winners that plans prefer, see dg_context_set_tuning; NULL: $DG_TUNING_FILE, which if bad
     * is left aside with a warning. */
    const char *tuning_file;
    uint32_t gemm_flags; /* DG_GEMM_... or-ed into the flags of every GEMM call */
};

#define DG_CONTEXT_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct dg_context_options), NULL, -1, 0, 0, NULL, NULL, NULL, (dg_log_level)0,      \
            NULL, NULL, 0                                                                          \
    }
#ifdef __cplusplus
#define DG_CONTEXT_OPTIONS dg_context_options DG_CONTEXT_OPTIONS_INIT
#else
#define DG_CONTEXT_OPTIONS ((struct dg_context_options)DG_CONTEXT_OPTIONS_INIT)
#endif

/* Makes a context.  options == NULL takes every default.  *context is set to NULL on failure.
 * DG_NO_DEVICE: the backend that was asked for cannot run here; the text says why. */
DG_API dg_status dg_context_create(dg_context **context, const struct dg_context_options *options);

/* Ends a context; no call may be running on it.  NULL is allowed. */
DG_API void dg_context_destroy(dg_context *context);

/* The executor's name: "sm90", "cpu", "oracle". */
DG_API const char *dg_context_backend(const dg_context *context);

/* The bound on SMs; 0 restores all.  DG_INVALID_ARGUMENT when negative or above the device's count.
 * A CPU context accepts 0 only. */
DG_API dg_status dg_context_set_num_sms(dg_context *context, int32_t num_sms);
/* The bound in force (never 0 on a GPU; 0 on a CPU). */
DG_API int32_t dg_context_num_sms(const dg_context *context);

/* Replaces the measured winners that this context's plans prefer to the cost model by those of `text`, the
 * contents of a tuning file as `deepgemm bench --tune` writes it; NULL: none.  DG_INVALID_ARGUMENT names
 * the line that it did not understand, and changes nothing. */
DG_API dg_status dg_context_set_tuning(dg_context *context, const char *text);

/* ------------------------------------------------------------------------------------------------
 * Dense FP8 GEMM:  D = C + A * B^T
 *
 *   name   a.values   b.values   (letters of the name: n = as written below, t = transposed, as in BLAS
 *   nt     [m, k]     [n, k]      with row-major matrices; nt is the native form, both K-major)
 *   nn     [m, k]     [k, n]
 *   tn     [k, m]     [k, n]
 *   tt     [k, m]     [n, k]
 *
 *   a   DG_E4M3, one scale per row of m and 128 of k: block 1 x 128 in [m, k] (128 x 1 in [k, m])
 *   b   DG_E4M3, scales of 128 of n x 128 of k, or of 1 of n x 128 of k (written as values are: 128 x 1
 *       in [k, n]); their type is that of a's scales
 *   d   [m, n] DG_BF16 or DG_F32, rows of stride-1 elements that do not overlap ("oracle" also writes
 *       DG_F64)
 *   c   NULL, or [m, n] of d's type: any strides if it shares no byte with d; the same pointer and
 *       strides as d to accumulate in place; any other overlap is not detected and undefined
 *
 * Any m, n, k >= 0 whose products fit 64 bits.  Values need stride 1 along one of their two dimensions;
 * the other stride is free, 0 included.  m == 0 or n == 0: nothing is read or written.  k == 0: D = C,
 * or zeros without C.
 *
 * Arithmetic: for each 128 of k the products are summed exactly enough for FP32, then
 * `total += (sf_a * sf_b) * block` in FP32 (fused), k ascending, then C is added in FP32, and one
 * rounding to nearest even makes BF16.  NaN and Inf reach exactly their row or column.  The same call
 * gives the same bits every time.  On the CPU the bits also do not depend on the instruction set, the
 * number of threads, or m (row i of a large m equals the same row alone).
 *
 * On a GPU: runs on `stream` (a CUstream or cudaStream_t, NULL for the legacy default stream),
 * asynchronously; allocates nothing, never synchronises, and may be captured into a graph once the
 * kernel was compiled (by an earlier call of the same shape, or dg_prepare).  Pointers and
 * row strides of A and B must be multiples of 16 bytes and both K-major; other layouts are legal with
 * a workspace of dg_workspace_bytes().  On a CPU `stream` is ignored and the call returns
 * when D is complete.
 */
struct dg_gemm_options {
    size_t struct_size; /* sizeof(struct dg_gemm_options) */
    /* Device memory for layouts that need it, and for speed, that no other call uses at the same
       time; 256-byte aligned; may be NULL. */
    void *workspace;
    size_t workspace_bytes;
    uint32_t flags; /* DG_GEMM_... or-ed */
};

enum {
    /* Launch with programmatic dependent launch: the kernel may start before the previous kernel of
       the stream has ended, and waits for it before it reads anything but (with the next flag) B's
       values, and before it writes.  It lets the next kernel start early likewise. */
    DG_GEMM_PDL = 1,
    /* With DG_GEMM_PDL: B's values may be fetched before the wait.  The condition: they were complete
       before the last kernel of the stream that was launched without early start, which is true of
       weights.  It is not enough that the kernel just before this one does not write them, as that
       one may itself have started before its predecessor ended.  A B that needs a workspace is
       fetched after the wait all the same. */
    DG_GEMM_PDL_PREFETCH_B = 2,
    /* Row i's bits do not depend on m.  Costs speed at small m. */
    DG_GEMM_BATCH_INVARIANT = 4
};

#define DG_GEMM_OPTIONS_INIT                                                                       \
    {                                                                                              \
        sizeof(struct dg_gemm_options), NULL, 0, 0                                                 \
    }
#ifdef __cplusplus
#define DG_GEMM_OPTIONS dg_gemm_options DG_GEMM_OPTIONS_INIT
#else
#define DG_GEMM_OPTIONS ((struct dg_gemm_options)DG_GEMM_OPTIONS_INIT)
#endif

DG_API dg_status dg_fp8_gemm_nt(dg_context *context, const struct dg_scaled *a,
                                const struct dg_scaled *b, const struct dg_tensor *d,
                                const struct dg_tensor *c, const struct dg_gemm_options *options,
                                void *stream);
DG_API dg_status dg_fp8_gemm_nn(dg_context *context, const struct dg_scaled *a,
                                const struct dg_scaled *b, const struct dg_tensor *d,
                                const struct dg_tensor *c, const struct dg_gemm_options *options,
                                void *stream);
DG_API dg_status dg_fp8_gemm_tn(dg_context *context, const struct dg_scaled *a,
                                const struct dg_scaled *b, const struct dg_tensor *d,
                                const struct dg_tensor *c, const struct dg_gemm_options *options,
                                void *stream);
DG_API dg_status dg_fp8_gemm_tt(dg_context *context, const struct dg_scaled *a,
                                const struct dg_scaled *b, const struct dg_tensor *d,
                                const struct dg_tensor *c, const struct dg_gemm_options *options,
                                void *stream);

/* ------------------------------------------------------------------------------------------------
 * Grouped FP8 GEMM: many products of one shape, as in a mixture of experts.  How many rows (or how much
 * of k) each group has is read on the device when the call runs: it may change between the replays of
 * a graph, and the host never waits for it.
 *
 *   m_grouped_..._contiguous   D[r] = C[r] + A[r] * B[group of r]^T: the rows of all groups in one matrix
 *       a [m, k]   b [groups, n, k] (nn: [groups, k, n])   c, d [m, n]   layout (see options.layout):
 *         DG_GROUP_INDEX   [m]       layout[r] is the group of row r; -1: of none, and D[r] = C[r], or
 *                                    zeros without C.  Neither order nor alignment is asked for, but rows
 *                                    of one group should lie together: each run of them is a product.
 *                                    Tiles that hold only rows of no group are not multiplied.
 *         DG_GROUP_ENDS    [groups]  group g ends before row layout[g], and begins where the groups
 *                                    before it ended, rounded up to a multiple of options.alignment.  An
 *                                    end that is not behind the beginning makes an empty group.  Rows
 *                                    between groups are not written, and nothing they hold matters.
 *   m_grouped_..._masked       D[g][r] = C[g][r] + A[g][r] * B[g]^T for r < layout[g]
 *       a [groups, max_m, k]   b [groups, n, k]   c, d [groups, max_m, n]   layout [groups]
 *       Rows from layout[g] on are not written, and nothing they hold matters.
 *   k_grouped_..._contiguous   D[g] = C[g] + A_g * B_g^T over layout[g] values of k, as for the gradients
 *       of weights.  Blocks of 128 along k count from the beginning of each group.
 *       nt   a [m * sum of k]: one group after the other, each an [m, layout[g]] matrix without gaps;
 *            a.scales [m, blocks of all groups]; b likewise with n
 *       tn   a [sum of k, m], a.scales [blocks of all groups, m]; b likewise with n
 *       c, d [groups, m, n]   layout [groups], each a multiple of 32 (a group of 0: D[g] = C[g], or zeros)
 *
 * a and b have the types and scales of the dense functions (k_grouped: scales 1 x 128 for b too), one
 * matrix of scales for each of values ([groups, ...] where those have groups; DG_F32 in k_grouped).  d is DG_BF16 or DG_F32, c
 * NULL or as for the dense functions, `layout` DG_I32 without gaps.  n, k and groups must not be 0.
 * Arithmetic and the rules of streams and graphs are those of the dense functions; a row's bits depend on
 * the hint and on where its group begins at most in which tile it falls into, and not on other groups.
 *
 * What the layout says is held to: a group index that is not below `groups` counts as -1, ends and counts
 * are cut to the rows there are, a size along k that breaks its rule counts as 0.  DG_GROUPED_CHECK_LAYOUT
 * refuses such layouts instead.
 */
typedef enum dg_group_layout { DG_GROUP_INDEX = 0, DG_GROUP_ENDS = 1 } dg_group_layout;

struct dg_grouped_options {
    size_t struct_size; /* sizeof(struct dg_grouped_options) */
    void *workspace;    /* as in struct dg_gemm_options */
    size_t workspace_bytes;
    uint32_t flags;         /* DG_GEMM_... and DG_GROUPED_... or-ed */
    dg_group_layout layout; /* of m_grouped_contiguous */
    int32_t alignment;      /* DG_GROUP_ENDS: groups begin at multiples of this; 0: 128 */
    int64_t expected_m; /* rows a group usually has: a hint that moves only the speed; 0: none */
    /* m_grouped_contiguous: where the context computes, how many rows count; the others are neither
       looked up in the layout nor written.  NULL: m. */
    const int32_t *num_rows;
};

enum {
    /* Reads the layout back before the launch and refuses one that breaks a rule, with a text that says
       which entry.  For debugging: the host waits for the stream, which must not be capturing.
       $DG_DEBUG_LAYOUTS=1 asks for it in every call of the process. */
    DG_GROUPED_CHECK_LAYOUT = 1 << 16
};

#define DG_GROUPED_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct dg_grouped_options), NULL, 0, 0, (dg_group_layout)0, 0, 0, NULL              \
    }
#ifdef __cplusplus
#define DG_GROUPED_OPTIONS dg_grouped_options DG_GROUPED_OPTIONS_INIT
#else
#define DG_GROUPED_OPTIONS ((struct dg_grouped_options)DG_GROUPED_OPTIONS_INIT)
#endif

DG_API dg_status dg_m_grouped_fp8_gemm_nt_contiguous(
    dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,
    const struct dg_tensor *d, const struct dg_tensor *c, const struct dg_tensor *layout,
    const struct dg_grouped_options *options, void *stream);
DG_API dg_status dg_m_grouped_fp8_gemm_nn_contiguous(
    dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,
    const struct dg_tensor *d, const struct dg_tensor *c, const struct dg_tensor *layout,
    const struct dg_grouped_options *options, void *stream);
DG_API dg_status dg_m_grouped_fp8_gemm_nt_masked(
    dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,
    const struct dg_tensor *d, const struct dg_tensor *c, const struct dg_tensor *layout,
    const struct dg_grouped_options *options, void *stream);
DG_API dg_status dg_k_grouped_fp8_gemm_nt_contiguous(
    dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,
    const struct dg_tensor *d, const struct dg_tensor *c, const struct dg_tensor *layout,
    const struct dg_grouped_options *options, void *stream);
DG_API dg_status dg_k_grouped_fp8_gemm_tn_contiguous(
    dg_context *context, const struct dg_scaled *a, const struct dg_scaled *b,
    const struct dg_tensor *d, const struct dg_tensor *c, const struct dg_tensor *layout,
    const struct dg_grouped_options *options, void *stream);

/* ------------------------------------------------------------------------------------------------
 * MQA logits: the scores of a sparse-attention indexer.  For each query row i and KV position j
 *
 *     logits[i][j] = kv_scales[j] * sum over heads h of relu(q[i][h] . kv[j]) * weights[i][h]
 *
 * Plain form, dg_fp8_mqa_logits, for prefill:
 *
 *   q          [s, h, d] DG_E4M3        the last dimension has stride 1, in every tensor here
 *   kv         [skv, d] DG_E4M3         one key for all heads
 *   kv_scales  [skv] DG_F32
 *   weights    [s, h] DG_F32 or DG_BF16, any row stride
 *   starts     [s] DG_I32, and ends: row i has the positions [starts[i], ends[i]), cut to [0, skv);
 *              ends[i] <= starts[i] is an empty range
 *   logits     DG_F32 or DG_BF16, any row stride that keeps rows apart:
 *              [s, skv], position j in column j; or with DG_MQA_COMPRESSED [s, width], position
 *              starts[i] + c in column c, for c < width
 *
 * Rows are independent: a caller who is short of memory calls with some rows of q, weights, starts, ends
 * at a time and a smaller `logits`.
 *
 * Paged form, dg_fp8_paged_mqa_logits, for decoding; row i = b * next_n + t is token t of sequence b:
 *
 *   q            [batch, next_n, h, d] DG_E4M3; batch and next_n without gap between them
 *   kv_cache     [pages, page_size, 1, d + 4] or [pages, page_size, d + 4] DG_E4M3, page_size 16, 32, 64 or
 *                128: a page is page_size * d bytes of values, then page_size FP32 scales; pages may be
 *                further apart than that (stride[0]), the shape of the inner dimensions is nominal
 *   weights      [batch * next_n, h]
 *   lengths      [batch, next_n] DG_I32: row (b, t) has the positions [0, lengths[b][t]); or [batch]: every
 *                token of b has lengths[b] positions, with DG_MQA_CLEAN token t lengths[b] - next_n + t + 1
 *   block_table  [batch, max_pages] DG_I32, any row stride: the page of positions page_size * x and on
 *   schedule     [SMs + 1, 2] DG_I32, made by dg_paged_mqa_logits_metadata from the same lengths on a context
 *                with the same number of SMs; NULL is allowed on a CPU
 *   logits       [batch * next_n, columns]; lengths are cut to columns and to max_pages * page_size
 *
 * Elements outside a row's positions are left as they are, or with DG_MQA_CLEAN set to minus infinity, in
 * the same pass.  What lengths, tables, ranges and schedules hold is read when the call runs, so it may
 * change between the replays of a graph.  Nothing they hold makes the GPU touch memory that it should
 * not: a page that does not exist counts as zeros, and a schedule that was not made for this number of
 * SMs and sequences gives logits of NaN (DG_MQA_CHECK tells which entry it was; a CPU always does).
 *
 * FP32 throughout; a NaN value or weight gives NaN.  The same call gives the same bits every time, and
 * row i's bits do not depend on the other rows.  Streams and capture as for GEMM.  On a GPU h is at most
 * 128, d a multiple of 16 up to 128, and pointers and strides of q, kv and pages are multiples of 16 bytes;
 * on a CPU d is at most 512.
 */
struct dg_mqa_options {
    size_t struct_size; /* sizeof(struct dg_mqa_options) */
    uint32_t flags;     /* DG_MQA_... or-ed */
};

enum {
    DG_MQA_CLEAN = 1,      /* minus infinity outside of the rows' positions */
    DG_MQA_COMPRESSED = 2, /* plain form: columns count from starts[i] */
    DG_MQA_PDL = 4,        /* programmatic dependent launch, as DG_GEMM_PDL */
    /* Reads lengths, block table and schedule back before the launch and refuses what breaks a rule, with
       a text that says which entry.  For debugging: the host waits for the stream, which must not be
       capturing. */
    DG_MQA_CHECK = 8
};

#define DG_MQA_OPTIONS_INIT                                                                        \
    {                                                                                              \
        sizeof(struct dg_mqa_options), 0                                                           \
    }
#ifdef __cplusplus
#define DG_MQA_OPTIONS dg_mqa_options DG_MQA_OPTIONS_INIT
#else
#define DG_MQA_OPTIONS ((struct dg_mqa_options)DG_MQA_OPTIONS_INIT)
#endif

DG_API dg_status dg_fp8_mqa_logits(dg_context *context, const struct dg_tensor *q,
                                   const struct dg_tensor *kv, const struct dg_tensor *kv_scales,
                                   const struct dg_tensor *weights, const struct dg_tensor *starts,
                                   const struct dg_tensor *ends, const struct dg_tensor *logits,
                                   const struct dg_mqa_options *options, void *stream);

DG_API dg_status dg_fp8_paged_mqa_logits(
    dg_context *context, const struct dg_tensor *q, const struct dg_tensor *kv_cache,
    const struct dg_tensor *weights, const struct dg_tensor *lengths,
    const struct dg_tensor *block_table, const struct dg_tensor *schedule,
    const struct dg_tensor *logits, const struct dg_mqa_options *options, void *stream);

/* Deals the positions of all sequences out to the SMs: row w of the schedule says where SM w begins (sequence,
 * chunk of positions), the last row holds the numbers of sequences and of SMs that it was made for.  On a GPU
 * the number of rows less one must be dg_context_num_sms(). */
DG_API dg_status dg_paged_mqa_logits_metadata(dg_context *context, const struct dg_tensor *lengths,
                                              const struct dg_tensor *schedule, void *stream);

/* What a call of MQA logits asks for, without its data.  next_n == 0: the plain form, of which num_kv counts;
 * else the paged form, of which page_size counts. */
struct dg_mqa_problem {
    size_t struct_size;    /* sizeof(struct dg_mqa_problem) */
    int64_t rows, columns; /* of logits */
    int64_t num_kv;
    int32_t heads, depth;
    int32_t next_n, page_size;
    dg_type weights_type, logits_type; /* DG_F32 or DG_BF16 */
    uint32_t flags;                    /* DG_MQA_... */
};

/* As dg_prepare: makes ready what such a call needs.  On a GPU any sizes do that share heads, depth, next_n
 * and logits_type. */
DG_API dg_status dg_mqa_prepare(dg_context *context, const struct dg_mqa_problem *problem);

/* ------------------------------------------------------------------------------------------------
 * Quantisation to E4M3
 *
 * x is [rows, columns] DG_F32 or DG_BF16, q the same shape in DG_E4M3, scales DG_F32 or DG_UE8M0X4:
 *
 *   per_token     one scale per row and 128 columns    scales [rows, ceil(columns / 128)]
 *   per_channel   one scale per 128 rows of a column   scales [ceil(rows / 128), columns]
 *   per_block     one scale per 128 x 128              scales [ceil(rows / 128), ceil(columns / 128)]
 *
 * Arithmetic, in FP32: amax = max(|x|) over the block, at least 1e-4; scale = amax / 448, rounded up to
 * a power of two if asked; q = round to nearest even of x * (1 / scale).  A block cut off by the edge
 * counts as padded with zeros.  NaN becomes NaN; values beyond 448 after scaling (from an Inf in the
 * block) become NaN, as E4M3 has no infinity.  DG_UE8M0X4 scales are packed along columns (per_channel:
 * rows), missing ones are 0, and need DG_SCALE_POWER_OF_TWO.  Strides of x and q as for GEMM, of scales
 * any; no byte may belong to two elements of the outputs q and scales, or to one of them and x.
 */
typedef enum dg_scale_rounding {
    DG_SCALE_EXACT = 0,       /* amax / 448 as it is */
    DG_SCALE_POWER_OF_TWO = 1 /* rounded up to a power of two ("UE8M0") */
} dg_scale_rounding;

DG_API dg_status dg_quantize_per_token(dg_context *context, const struct dg_tensor *x,
                                       const struct dg_tensor *q, const struct dg_tensor *scales,
                                       dg_scale_rounding rounding, void *stream);
DG_API dg_status dg_quantize_per_channel(dg_context *context, const struct dg_tensor *x,
                                         const struct dg_tensor *q, const struct dg_tensor *scales,
                                         dg_scale_rounding rounding, void *stream);
DG_API dg_status dg_quantize_per_block(dg_context *context, const struct dg_tensor *x,
                                       const struct dg_tensor *q, const struct dg_tensor *scales,
                                       dg_scale_rounding rounding, void *stream);

/* x[r][c] = values * scale in FP32, rounded once to x's type (DG_F32 or DG_BF16).  Blocks of 1x128,
 * 128x1 and 128x128; DG_UE8M0X4 scales are packed along columns, for 128x1 blocks along rows.  x must
 * not overlap q's values or scales. */
DG_API dg_status dg_dequantize(dg_context *context, const struct dg_scaled *q,
                               const struct dg_tensor *x, void *stream);

/* ------------------------------------------------------------------------------------------------
 * Problems: what a call asks for, as one line of text
 *
 * The same line is understood everywhere: tests print it, `deepgemm run`, `plan` and `bench` take it.
 *
 *     fp8_gemm_nt m=64 n=2112 k=7168 out=bf16
 *
 *   out=bf16|fp32|fp64       type of D; fp64 for "oracle" only      (bf16)
 *   c=none|separate|inplace  what is added                          (none)
 *   sfb=128|1                rows of n per scale of B               (128)
 *   sf=fp32|ue8m0            type of the scales                     (fp32)
 *   sfa_layout=k|mn          which dimension of A's scales has stride 1: k is row-major   (k)
 *   sfb_layout=k|mn          the same for B's                       (k)
 *   a=k|mn  b=k|mn           which dimension of the values has stride 1  (as the name's letters say)
 *   invariant=0|1            1: row i's bits do not depend on m          (0)
 *   lda= ldb= ldd=           stride of the other dimension, elements     (no gap, and no less)
 *
 * m, n and k are required; each key comes once, in any order.  Grouped problems:
 *
 *     fp8_m_grouped_contiguous groups=8 m=32768 n=4096 k=7168 rows=4000 layout=ends
 *     fp8_m_grouped_masked groups=32 max_m=4096 n=4096 k=7168 rows=uniform:0.7-1.3 expected_m=20
 *     fp8_k_grouped groups=4 m=4096 n=7168 k=32768           (k: of all groups; out=fp32 sfb=1)
 *
 *   groups=                  required; max_m=, the rows that a group has room for, in place of m
 *   layout=index|ends        of m_grouped_contiguous                (index)
 *   align=                   groups begin at multiples of it        (128; 32 for k_grouped)
 *   rows=                    for whoever makes data: how many rows (k_grouped: values of k) the groups
 *                            have: a number; uniform:LOW-HIGH, that many times expected_m; zipf, shares of
 *                            1 / rank; hot, half of all in one group       (what expected_m says)
 *   expected_m=              the hint of the call    (rows=; else all there is room for)
 */
typedef enum dg_op {
    DG_OP_NONE = 0,
    DG_OP_FP8_GEMM_NT = 1,
    DG_OP_FP8_GEMM_NN = 2,
    DG_OP_FP8_GEMM_TN = 3,
    DG_OP_FP8_GEMM_TT = 4,
    DG_OP_FP8_M_GROUPED_CONTIGUOUS = 5,
    DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN = 6,
    DG_OP_FP8_M_GROUPED_MASKED = 7,
    DG_OP_FP8_K_GROUPED = 8,
    DG_OP_FP8_K_GROUPED_TN = 9
} dg_op;

typedef enum dg_major { DG_K_MAJOR = 0, DG_MN_MAJOR = 1 } dg_major;
typedef enum dg_c_mode { DG_C_NONE = 0, DG_C_SEPARATE = 1, DG_C_IN_PLACE = 2 } dg_c_mode;

/* How the sizes of groups are spread; DG_ROWS_GIVEN is for programs that have sizes of their own. */
typedef enum dg_rows {
    DG_ROWS_EQUAL = 0,
    DG_ROWS_UNIFORM = 1, /* rows_low to rows_high thousandths of expected_m */
    DG_ROWS_ZIPF = 2,
    DG_ROWS_HOT = 3,
    DG_ROWS_GIVEN = 4 /* rows_low says which, in whatever way the program likes */
} dg_rows;

/* Where 0 is no value, a field of 0 takes the default above.  The majors have no such default: they are
 * DG_K_MAJOR unless set. */
struct dg_problem {
    dg_op op;
    dg_type d_type;
    int64_t m, n, k;
    int64_t lda, ldb, ldd;
    dg_c_mode c_mode;
    dg_type sf_type;
    int32_t sfb_block_n; /* 128 or 1 */
    dg_major a_major, b_major;
    dg_major sfa_major, sfb_major;
    int32_t invariant; /* 1: row i's bits do not depend on m (DG_GEMM_BATCH_INVARIANT) */
    /* Grouped problems only.  Masked ones have max_m in m. */
    dg_group_layout layout;
    int32_t alignment;
    dg_rows spread;
    int32_t rows_low, rows_high;
    int32_t reserved; /* 0 */
    int64_t groups;
    int64_t rows, expected_m; /* of one group */
};

/* Reads a line and fills in every field, with the strides that are used.  DG_INVALID_ARGUMENT names the
 * word it did not understand and what would do. */
DG_API dg_status dg_problem_parse(const char *text, struct dg_problem *problem);
/* Writes the shortest line that reads back as the same problem, always ended with 0, cut to fit.
 * Returns the length of the whole line. */
DG_API size_t dg_problem_format(const struct dg_problem *problem, char *text, size_t capacity);

/* ------------------------------------------------------------------------------------------------
 * Looking inside
 */
/* Receives one fact; the strings die with the call.  `section` groups keys ("device", "environment"). */
typedef void (*dg_fact_callback)(void *user, const char *section, const char *key,
                                 const char *value);

/* Version, backends and why the others are not available, device, CPU, compilers, cache, and every
 * environment variable with its value. */
DG_API dg_status dg_info(dg_fact_callback callback, void *user);

/* What would run for a problem, and why.  Compiles nothing and touches no device memory. */
DG_API dg_status dg_explain(dg_context *context, const struct dg_problem *problem,
                            dg_fact_callback callback, void *user);

DG_API dg_status dg_mqa_explain(dg_context *context, const struct dg_mqa_problem *problem,
                                dg_fact_callback callback, void *user);

/* The plans that could run a problem, one fact each: the section is "candidate", the key its name in a
 * tuning file, the value the predicted microseconds.  None where a backend has but one way. */
DG_API dg_status dg_candidates(dg_context *context, const struct dg_problem *problem,
                               dg_fact_callback callback, void *user);

/* Makes ready what a call of this problem needs (the kernel is compiled and loaded), so that the call
 * itself neither compiles nor reads files. */
DG_API dg_status dg_prepare(dg_context *context, const struct dg_problem *problem);

/* Workspace bytes for a problem on this context; 0 for most.  UINT64_MAX never.  Some are a matter of speed only:
 * large products, dense or of contiguous groups, whose FP32 scales lie by rows (DG_K_MAJOR) take copies of them,
 * and large m-grouped ones count their tiles; without room for that they run, slower. */
DG_API dg_status dg_workspace_bytes(dg_context *context, const struct dg_problem *problem,
                                    size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
