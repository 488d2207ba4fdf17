// SPDX-License-Identifier: MIT
// device.c - GPUs as their drivers describe them, for plans made where there is no such GPU.
#include "plan/device.h"

#include "base/error.h"

#include <string.h>

enum { SMEM_PER_BLOCK = 232448 };

static const struct {
    const char *name;
    struct dg_device device;
} profiles[] = {
#define HOPPER(full_name, sms, l2_mb, mhz, gbs)                                                    \
    {                                                                                              \
        .kind = DG_DEVICE_CUDA, .name = full_name, .arch = 90, .num_sms = sms, .all_sms = sms,     \
        .smem_bytes = SMEM_PER_BLOCK, .l2_bytes = (int64_t)l2_mb << 20, .sm_clock_mhz = mhz,       \
        .memory_gbs = gbs                                                                          \
    }
    {"h100-sxm", HOPPER("NVIDIA H100 80GB HBM3", 132, 50, 1980, 3352.3)},
    {"h100-pcie", HOPPER("NVIDIA H100 PCIe", 114, 50, 1755, 2039.0)},
    {"h200", HOPPER("NVIDIA H200", 132, 60, 1980, 4916.7)},
    {"h20", HOPPER("NVIDIA H20", 78, 60, 1980, 4022.8)},
#undef HOPPER
};

dg_status dg_device_profile(const char *name, struct dg_device *device)
{
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++)
        if (!strcmp(profiles[i].name, name)) {
            *device = profiles[i].device;
            return DG_OK;
        }
    return dg_fail(
        DG_INVALID_ARGUMENT,
        "options.device_profile = `%.60s`: must be one of h100-sxm, h100-pcie, h200, h20", name);
}
