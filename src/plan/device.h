// SPDX-License-Identifier: MIT
// device.h - what we run on, as plain data, so that tests can invent a device and plans can be made on
// any machine.  Filled by src/cuda for GPUs and by src/backend/cpu for CPUs; the plan layer only reads.
#ifndef DG_PLAN_DEVICE_H
#define DG_PLAN_DEVICE_H

#include "deepgemm.h"

#include <stdint.h>

enum dg_device_kind { DG_DEVICE_CPU = 0, DG_DEVICE_CUDA = 1 };

struct dg_device {
    enum dg_device_kind kind;
    char name[80];
    // GPUs
    int32_t ordinal;    // CUDA device ordinal
    int32_t arch;       // compute capability: 90 for 9.0
    int32_t num_sms;    // SMs the plan may use: the device's, or the context's bound
    int32_t all_sms;    // SMs the device has
    int32_t smem_bytes; // shared memory one block can opt in to
    int64_t l2_bytes;
    int32_t sm_clock_mhz; // peak clocks, for the cost model
    double memory_gbs;    // nominal DRAM bandwidth, 1e9 bytes/s
    // CPUs
    char isa[16]; // "c", "avx2", "avx512": the kernels in use
    int32_t num_threads;
    const struct dg_tuning *tuning; // what was measured on such devices (tuning.h); NULL: nothing
};

// A GPU by the name of its profile: "h100-sxm", "h100-pcie", "h200", "h20".
dg_status dg_device_profile(const char *name, struct dg_device *device);

#endif
