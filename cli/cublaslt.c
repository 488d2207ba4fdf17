// SPDX-License-Identifier: MIT
// cublaslt.c - cuBLASLt, found with dlopen.  It thinks in column-major matrices: our row-major
// D = A * B^T is its D^T = B * A^T, so our B is its first operand, transposed, and our A its second.
#include "cublaslt.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE_BYTES = 32 << 20 };

// ---- finding it ---------------------------------------------------------------------------------

static const char *const sonames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

static bool load(struct cli_cublaslt *lt, const char *path)
{
    lt->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!lt->library)
        return false;
    snprintf(lt->path, sizeof lt->path, "%s", path);
    return true;
}

static bool load_pattern(struct cli_cublaslt *lt, const char *pattern)
{
    glob_t found;
    bool loaded = false;
    if (glob(pattern, 0, NULL, &found) != 0)
        return false;
    for (size_t i = found.gl_pathc; i-- > 0 && !loaded;) // the newest version comes last
        loaded = load(lt, found.gl_pathv[i]);
    globfree(&found);
    return loaded;
}

// The packages of every Python whose bin directory is on PATH: virtual environments, conda, the system.
static bool load_from_pythons(struct cli_cublaslt *lt)
{
    static const char *const places[] = {"nvidia/cu13/lib/libcublasLt.so.1[23]",
                                         "nvidia/cublas/lib/libcublasLt.so.1[23]",
                                         "torch/lib/libcublasLt.so.1[23]"};
    const char *path = getenv("PATH");
    for (path = path ? path : ""; *path; path += strcspn(path, ":"), path += *path == ':')
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            char pattern[1024];
            snprintf(pattern, sizeof pattern, "%.*s/../l*/python3*/*-packages/%s",
                     (int)strcspn(path, ":"), path, places[i]);
            if (load_pattern(lt, pattern))
                return true;
        }
    return false;
}

static bool find_library(struct cli_cublaslt *lt)
{
    for (size_t i = 0; i < sizeof sonames / sizeof *sonames; i++)
        if (load(lt, sonames[i]))
            return true;
    return load_from_pythons(lt) ||
           load_pattern(lt, "/usr/local/cuda*/lib64/libcublasLt.so.1[23]") ||
           load_pattern(lt, "/usr/local/cuda*/targets/*/lib/libcublasLt.so.1[23]");
}

static dg_status find_functions(struct cli_cublaslt *lt)
{
#define CUBLASLT_FIND(result, name, parameters)                                                    \
    *(void **)&lt->name = dlsym(lt->library, #name);                                               \
    if (!lt->name)                                                                                 \
        return dg_fail(DG_UNSUPPORTED, "%s has no " #name, lt->path);
    CUBLASLT_FUNCTIONS(CUBLASLT_FIND)
#undef CUBLASLT_FIND
    return DG_OK;
}

#define LT_TRY(call, what)                                                                         \
    do {                                                                                           \
        const int lt_status_ = (call);                                                             \
        if (lt_status_ != 0)                                                                       \
            return dg_fail(DG_UNSUPPORTED, "cuBLASLt: %s: status %d", (what), lt_status_);         \
    } while (0)

dg_status cli_cublaslt_open(struct cli_cublaslt *lt, const struct cli_gpu *gpu)
{
    memset(lt, 0, sizeof *lt);
    if (!find_library(lt))
        return dg_fail(DG_UNSUPPORTED,
                       "%s and %s were not found: not by the loader, not in the nvidia "
                       "or torch packages of a Python on PATH, not in /usr/local/cuda*",
                       sonames[0], sonames[1]);
    DG_TRY(find_functions(lt));
    lt->version = lt->cublasLtGetVersion();
    LT_TRY(lt->cublasLtCreate(&lt->handle), "making a handle");
    DG_CUDA_TRY(gpu->cuda->cuMemAlloc(&lt->workspace, WORKSPACE_BYTES), "allocating a workspace");
    return DG_OK;
}

void cli_cublaslt_close(struct cli_cublaslt *lt, const struct cli_gpu *gpu)
{
    if (lt->workspace)
        gpu->cuda->cuMemFree(lt->workspace);
    if (lt->handle)
        lt->cublasLtDestroy(lt->handle);
    // The library stays loaded: it owns threads and CUDA state that do not survive unloading.
    memset(lt, 0, sizeof *lt);
}

// ---- one problem --------------------------------------------------------------------------------

static dg_status set(struct cli_cublaslt *lt, cublasLtMatmulDesc_t desc, int attribute,
                     const void *value, size_t bytes)
{
    LT_TRY(lt->cublasLtMatmulDescSetAttribute(desc, attribute, value, bytes),
           "setting an attribute");
    return DG_OK;
}

static dg_status describe(struct cli_cublaslt *lt, const struct dg_problem *p,
                          struct cli_cublaslt_plan *plan)
{
    const int32_t transposed = CUBLAS_OP_T, as_it_is = CUBLAS_OP_N;
    const int8_t no_fast_accumulation = 0;
    const int d_type = p->d_type == DG_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, k = (uint64_t)p->k;
    LT_TRY(lt->cublasLtMatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing");
    LT_TRY(lt->cublasLtMatrixLayoutCreate(&plan->b, CUDA_R_8F_E4M3, k, n, p->ldb), "describing B");
    LT_TRY(lt->cublasLtMatrixLayoutCreate(&plan->a, CUDA_R_8F_E4M3, k, m, p->lda), "describing A");
    LT_TRY(lt->cublasLtMatrixLayoutCreate(&plan->d, d_type, n, m, p->ldd), "describing D");
    DG_TRY(set(lt, plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed));
    DG_TRY(set(lt, plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &as_it_is, sizeof as_it_is));
    return set(lt, plan->desc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &no_fast_accumulation,
               sizeof no_fast_accumulation);
}

// Scales of `rows` x `blocks` as cuBLASLt reads them: 1x128 with the rows adjacent, 128x128 with the
// blocks of k adjacent and padded to a multiple of 4.
static dg_status upload_scales(const struct cli_gpu *gpu, const struct dg_tensor *scales,
                               bool is_2d, CUdeviceptr *pointer)
{
    const int64_t rows = scales->shape[0], blocks = scales->shape[1], padded = (blocks + 3) / 4 * 4;
    const size_t bytes = (size_t)(rows * padded) * sizeof(float);
    float *packed = calloc(bytes ? bytes : 1, 1);
    if (!packed)
        return dg_fail(DG_OUT_OF_MEMORY, "out of memory for %zu bytes of scales", bytes);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < blocks; j++)
            packed[is_2d ? i * padded + j : j * rows + i] =
                ((const float *)scales->data)[i * scales->stride[0] + j * scales->stride[1]];
    CUresult result = gpu->cuda->cuMemAlloc(pointer, bytes ? bytes : 1);
    if (result == CUDA_SUCCESS && bytes)
        result = gpu->cuda->cuMemcpyHtoD(*pointer, packed, bytes);
    free(packed);
    return result == CUDA_SUCCESS ? DG_OK : dg_cuda_fail(result, "copying scales");
}

static dg_status add_scales(struct cli_cublaslt *lt, const struct cli_gpu *gpu,
                            const struct cli_data *data, struct cli_cublaslt_plan *plan)
{
    const struct dg_problem *p = &data->problem;
    const bool is_2d = p->sfb_block_n == 128;
    const int32_t a_mode = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    const int32_t b_mode = is_2d ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F : a_mode;
    struct cli_operands operands;
    if (p->sf_type != DG_F32)
        return dg_fail(DG_UNSUPPORTED, "cuBLASLt: block scales are FP32 here");
    cli_data_operands(data, &operands);
    DG_TRY(upload_scales(gpu, &operands.a.scales, false, &plan->sfa));
    DG_TRY(upload_scales(gpu, &operands.b.scales, is_2d, &plan->sfb));
    // Its A is our B.
    DG_TRY(set(lt, plan->desc, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &b_mode, sizeof b_mode));
    DG_TRY(set(lt, plan->desc, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &a_mode, sizeof a_mode));
    DG_TRY(set(lt, plan->desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &plan->sfb, sizeof plan->sfb));
    return set(lt, plan->desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &plan->sfa, sizeof plan->sfa);
}

static dg_status choose_algorithm(struct cli_cublaslt *lt, struct cli_cublaslt_plan *plan)
{
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t best;
    const uint64_t bytes = WORKSPACE_BYTES;
    int found = 0;
    memset(&best, 0, sizeof best);
    LT_TRY(lt->cublasLtMatmulPreferenceCreate(&preference), "making a preference");
    int status = lt->cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    if (status == 0)
        status = lt->cublasLtMatmulAlgoGetHeuristic(lt->handle, plan->desc, plan->b, plan->a,
                                                    plan->d, plan->d, preference, 1, &best, &found);
    lt->cublasLtMatmulPreferenceDestroy(preference);
    LT_TRY(status, "choosing an algorithm");
    if (found < 1 || best.state != 0)
        return dg_fail(DG_UNSUPPORTED, "cuBLASLt: no algorithm");
    plan->algo = best.algo;
    return DG_OK;
}

static dg_status make_plan(struct cli_cublaslt *lt, const struct cli_gpu *gpu,
                           const struct cli_data *data, struct cli_cublaslt_plan *plan)
{
    const struct dg_problem *p = &data->problem;
    const bool is_native = (p->op == DG_OP_FP8_GEMM_NT) && p->a_major == DG_K_MAJOR &&
                           p->b_major == DG_K_MAJOR && p->m > 0 && p->n > 0 && p->k > 0;
    if (!is_native || (p->d_type != DG_BF16 && p->d_type != DG_F32))
        return dg_fail(DG_UNSUPPORTED, "cuBLASLt: only fp8_gemm_nt with both operands K-major");
    plan->beta = p->c_mode == DG_C_NONE ? 0 : 1;
    DG_TRY(describe(lt, p, plan));
    if (plan->scales == CLI_CUBLASLT_BLOCK_SCALES)
        DG_TRY(add_scales(lt, gpu, data, plan));
    return choose_algorithm(lt, plan);
}

dg_status cli_cublaslt_plan(struct cli_cublaslt *lt, const struct cli_gpu *gpu,
                            const struct cli_data *data, enum cli_cublaslt_scales scales,
                            struct cli_cublaslt_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    plan->scales = scales;
    const dg_status status = make_plan(lt, gpu, data, plan);
    if (status != DG_OK)
        cli_cublaslt_plan_free(lt, gpu, plan);
    return status;
}

void cli_cublaslt_plan_free(struct cli_cublaslt *lt, const struct cli_gpu *gpu,
                            struct cli_cublaslt_plan *plan)
{
    cublasLtMatrixLayout_t layouts[] = {plan->a, plan->b, plan->d};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            lt->cublasLtMatrixLayoutDestroy(layouts[i]);
    if (plan->desc)
        lt->cublasLtMatmulDescDestroy(plan->desc);
    if (plan->sfa)
        gpu->cuda->cuMemFree(plan->sfa);
    if (plan->sfb)
        gpu->cuda->cuMemFree(plan->sfb);
    memset(plan, 0, sizeof *plan);
}

dg_status cli_cublaslt_launch(struct cli_cublaslt *lt, const struct cli_cublaslt_plan *plan,
                              const struct cli_operands *operands, CUstream stream)
{
    const float one = 1;
    const void *c = operands->c.data ? operands->c.data : operands->d.data;
    LT_TRY(lt->cublasLtMatmul(lt->handle, plan->desc, &one, operands->b.values.data, plan->b,
                              operands->a.values.data, plan->a, &plan->beta, c, plan->d,
                              operands->d.data, plan->d, &plan->algo,
                              (void *)(uintptr_t)lt->workspace, WORKSPACE_BYTES, stream),
           "multiplying");
    return DG_OK;
}
