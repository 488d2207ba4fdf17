// SPDX-License-Identifier: MIT
// cublaslt_abi.h - the part of cuBLASLt's binary interface that the benchmark uses, under NVIDIA's names
// where they are seen from outside; values from the public documentation of cuBLAS 12.9 and 13.
#ifndef DG_CLI_CUBLASLT_ABI_H
#define DG_CLI_CUBLASLT_ABI_H

#include "cuda/cuda_abi.h"

typedef void *cublasLtHandle_t;
typedef void *cublasLtMatmulDesc_t;
typedef void *cublasLtMatrixLayout_t;
typedef void *cublasLtMatmulPreference_t;

enum { CUDA_R_32F = 0, CUDA_R_16BF = 14, CUDA_R_8F_E4M3 = 28 }; // cudaDataType
enum { CUBLAS_COMPUTE_32F = 68 };
enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 }; // int32_t

enum {
    CUBLASLT_MATMUL_DESC_TRANSA = 3,           // int32_t
    CUBLASLT_MATMUL_DESC_TRANSB = 4,           // int32_t
    CUBLASLT_MATMUL_DESC_A_SCALE_POINTER = 17, // void *
    CUBLASLT_MATMUL_DESC_B_SCALE_POINTER = 18, // void *
    CUBLASLT_MATMUL_DESC_FAST_ACCUM = 25,      // int8_t
    CUBLASLT_MATMUL_DESC_A_SCALE_MODE = 31,    // int32_t
    CUBLASLT_MATMUL_DESC_B_SCALE_MODE = 32,    // int32_t
};
enum {
    CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F = 4,     // since 12.9
    CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F = 5, // since 12.9
};
enum { CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1 }; // uint64_t

typedef struct cublasLtMatmulAlgo_t {
    uint64_t data[8];
} cublasLtMatmulAlgo_t;

typedef struct cublasLtMatmulHeuristicResult_t {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    int state; // 0: the algorithm can be used
    float wavesCount;
    int reserved[4];
} cublasLtMatmulHeuristicResult_t;

// Every function returns a status, 0 for success, but the first.
// clang-format off
#define CUBLASLT_FUNCTIONS(X) \
    X(size_t, cublasLtGetVersion, (void)) \
    X(int, cublasLtCreate, (cublasLtHandle_t *handle)) \
    X(int, cublasLtDestroy, (cublasLtHandle_t handle)) \
    X(int, cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t *desc, int compute_type, int scale_type)) \
    X(int, cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t desc)) \
    X(int, cublasLtMatmulDescSetAttribute, (cublasLtMatmulDesc_t desc, int attribute, const void *value, \
        size_t bytes)) \
    X(int, cublasLtMatrixLayoutCreate, (cublasLtMatrixLayout_t *layout, int type, uint64_t rows, \
        uint64_t columns, int64_t stride)) \
    X(int, cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout)) \
    X(int, cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t *preference)) \
    X(int, cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference)) \
    X(int, cublasLtMatmulPreferenceSetAttribute, (cublasLtMatmulPreference_t preference, int attribute, \
        const void *value, size_t bytes)) \
    X(int, cublasLtMatmulAlgoGetHeuristic, (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, \
        cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, \
        cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted, \
        cublasLtMatmulHeuristicResult_t *results, int *found)) \
    X(int, cublasLtMatmul, (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, \
        const void *a, cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, \
        const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d, \
        cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace, \
        size_t workspace_bytes, CUstream stream))
// clang-format on

#endif
