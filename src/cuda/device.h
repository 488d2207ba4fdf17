// SPDX-License-Identifier: MIT
// device.h - what the driver says of a GPU, as the plain data that plans are made from.
#ifndef DG_CUDA_DEVICE_H
#define DG_CUDA_DEVICE_H

#include "cuda/driver.h"
#include "plan/device.h"

// Fills *device for a CUDA ordinal; needs and creates no context.  num_sms becomes all_sms.
dg_status dg_cuda_device_facts(const struct dg_cuda *cuda, int ordinal, struct dg_device *device);

#endif
