// SPDX-License-Identifier: MIT
// half.h - the 16-bit floats that files hold, widened to FP32; exact for every value.
#ifndef DG_FORMATS_HALF_H
#define DG_FORMATS_HALF_H

#include <stdint.h>
#include <string.h>

static inline float dg_formats_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float dg_formats_bf16_to_float(uint16_t bf16)
{
    return dg_formats_float_of_bits((uint32_t)bf16 << 16);
}

static inline float dg_formats_half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half >> 15) << 31, exponent = half >> 10 & 31;
    const uint32_t mantissa = half & 1023;
    if (exponent == 31)
        return dg_formats_float_of_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0)
        return dg_formats_float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    const float magnitude = (float)mantissa * 0x1p-24f; // zero and subnormals
    return sign ? -magnitude : magnitude;
}

#endif
