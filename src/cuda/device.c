// SPDX-License-Identifier: MIT
// device.c - device facts from driver attributes.
#include "cuda/device.h"

#include <stdio.h>
#include <string.h>

struct facts {
    int sms, smem, l2, sm_khz, memory_khz, bus_bits, major, minor;
};

static dg_status read_facts(const struct dg_cuda *cuda, CUdevice device, struct facts *facts)
{
    const struct {
        CUdevice_attribute attribute;
        const char *name;
        int *value;
    } rows[] = {
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, "number of SMs", &facts->sms},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, "shared memory", &facts->smem},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, "L2 size", &facts->l2},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, "SM clock", &facts->sm_khz},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, "memory clock", &facts->memory_khz},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, "memory bus width", &facts->bus_bits},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, "compute capability", &facts->major},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, "compute capability", &facts->minor},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        DG_CUDA_TRY(cuda->cuDeviceGetAttribute(rows[i].value, rows[i].attribute, device),
                    "reading the device's %s", rows[i].name);
    return DG_OK;
}

dg_status dg_cuda_device_facts(const struct dg_cuda *cuda, int ordinal, struct dg_device *device)
{
    if (ordinal < 0 || ordinal >= cuda->num_devices)
        return dg_fail(DG_INVALID_ARGUMENT, "device = %d: must be 0 to %d (%d CUDA device%s)",
                       ordinal, cuda->num_devices - 1, cuda->num_devices,
                       cuda->num_devices == 1 ? "" : "s");
    CUdevice handle;
    struct facts facts = {0};
    struct dg_device found = {.kind = DG_DEVICE_CUDA, .ordinal = ordinal};
    DG_CUDA_TRY(cuda->cuDeviceGet(&handle, ordinal), "opening CUDA device %d", ordinal);
    DG_CUDA_TRY(cuda->cuDeviceGetName(found.name, sizeof found.name, handle),
                "reading the name of CUDA device %d", ordinal);
    DG_TRY(read_facts(cuda, handle, &facts));
    found.arch = facts.major * 10 + facts.minor;
    found.num_sms = found.all_sms = facts.sms;
    found.smem_bytes = facts.smem;
    found.l2_bytes = facts.l2;
    found.sm_clock_mhz = facts.sm_khz / 1000;
    // Two transfers per clock: 2 * kHz * bits / 8 bytes per millisecond.
    found.memory_gbs = 2.0 * facts.memory_khz * (facts.bus_bits / 8.0) / 1e6;
    *device = found;
    return DG_OK;
}
