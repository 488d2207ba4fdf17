// SPDX-License-Identifier: MIT
// cublaslt.h - the same product through cuBLASLt, for comparison: on the same FP8 bytes with no scales at
// all (less work than ours), or with block scales where the version and the GPU have them.
#ifndef DG_CLI_CUBLASLT_H
#define DG_CLI_CUBLASLT_H

#include "cublaslt_abi.h"
#include "gpu.h"

struct cli_cublaslt {
    void *library; // NULL: not open
    char path[512];
    size_t version; // 130100 is 13.1
#define CUBLASLT_MEMBER(result, name, parameters) result(*name) parameters;
    CUBLASLT_FUNCTIONS(CUBLASLT_MEMBER)
#undef CUBLASLT_MEMBER
    cublasLtHandle_t handle;
    CUdeviceptr workspace;
};

// DG_UNSUPPORTED with the places that were looked at when there is none.
dg_status cli_cublaslt_open(struct cli_cublaslt *lt, const struct cli_gpu *gpu);
void cli_cublaslt_close(struct cli_cublaslt *lt, const struct cli_gpu *gpu);

enum cli_cublaslt_scales { CLI_CUBLASLT_NO_SCALES, CLI_CUBLASLT_BLOCK_SCALES };

// A problem with the algorithm that cuBLASLt's heuristic puts first for it.
struct cli_cublaslt_plan {
    enum cli_cublaslt_scales scales;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d; // in our names: a and d are m x ..., b is n x k
    cublasLtMatmulAlgo_t algo;
    CUdeviceptr sfa, sfb; // block scales in the layout it wants
    float beta;           // 1 to add C
};

// DG_UNSUPPORTED when cuBLASLt has nothing for it.  Block scales are copied from the host's data.
dg_status cli_cublaslt_plan(struct cli_cublaslt *lt, const struct cli_gpu *gpu,
                            const struct cli_data *data, enum cli_cublaslt_scales scales,
                            struct cli_cublaslt_plan *plan);
void cli_cublaslt_plan_free(struct cli_cublaslt *lt, const struct cli_gpu *gpu,
                            struct cli_cublaslt_plan *plan);
dg_status cli_cublaslt_launch(struct cli_cublaslt *lt, const struct cli_cublaslt_plan *plan,
                              const struct cli_operands *operands, CUstream stream);

#endif
