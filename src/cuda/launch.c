// SPDX-License-Identifier: MIT
// launch.c - fills the driver's launch record.
#include "cuda/launch.h"

static uint32_t at_least_1(uint32_t count)
{
    return count ? count : 1;
}

static unsigned add_attributes(const struct dg_cuda_launch *launch, CUlaunchAttribute *attributes)
{
    unsigned count = 0;
    const uint32_t x = at_least_1(launch->cluster[0]), y = at_least_1(launch->cluster[1]),
                   z = at_least_1(launch->cluster[2]);
    if (x * y * z > 1) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attributes[count].value.clusterDim.x = x;
        attributes[count].value.clusterDim.y = y;
        attributes[count].value.clusterDim.z = z;
        count++;
    }
    if (launch->pdl) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attributes[count].value.programmaticStreamSerializationAllowed = 1;
        count++;
    }
    return count;
}

dg_status dg_cuda_launch(const struct dg_cuda *cuda, const struct dg_cuda_launch *launch)
{
    CUlaunchAttribute attributes[2] = {{CU_LAUNCH_ATTRIBUTE_IGNORE, {0}, {{0}}}};
    const CUlaunchConfig config = {
        .gridDimX = at_least_1(launch->grid[0]),
        .gridDimY = at_least_1(launch->grid[1]),
        .gridDimZ = at_least_1(launch->grid[2]),
        .blockDimX = at_least_1(launch->block[0]),
        .blockDimY = at_least_1(launch->block[1]),
        .blockDimZ = at_least_1(launch->block[2]),
        .sharedMemBytes = launch->smem_bytes,
        .hStream = launch->stream,
        .attrs = attributes,
        .numAttrs = add_attributes(launch, attributes),
    };
    DG_CUDA_TRY(cuda->cuLaunchKernelEx(&config, launch->function, launch->parameters, NULL),
                "launching %s (grid %ux%ux%u, block %u, cluster %ux%u, %u bytes of shared memory)",
                launch->name, config.gridDimX, config.gridDimY, config.gridDimZ, config.blockDimX,
                at_least_1(launch->cluster[0]), at_least_1(launch->cluster[1]), launch->smem_bytes);
    return DG_OK;
}
