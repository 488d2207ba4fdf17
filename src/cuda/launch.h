// SPDX-License-Identifier: MIT
// launch.h - one kernel launch: grid, cluster, dynamic shared memory, programmatic dependent launch.
#ifndef DG_CUDA_LAUNCH_H
#define DG_CUDA_LAUNCH_H

#include "cuda/driver.h"

struct dg_cuda_launch {
    const char *name; // for the error text
    CUfunction function;
    uint32_t grid[3], block[3]; // x y z; a 0 counts as 1
    uint32_t cluster[3];        // in CTAs, as the grid is
    uint32_t smem_bytes;        // dynamic shared memory
    int32_t pdl;                // 1: may start before the kernel before it in the stream has ended
    CUstream stream;
    void **parameters; // one pointer per kernel parameter
};

// Asynchronous, allocates nothing; errors of the kernel itself appear at later calls.
dg_status dg_cuda_launch(const struct dg_cuda *cuda, const struct dg_cuda_launch *launch);

#endif
