// SPDX-License-Identifier: MIT
// cpu_convert.h - scalar conversions between E4M3, BF16, UE8M0 and FP32: exact where the target can
// hold the value, round to nearest even where it cannot, and NaN stays NaN.  The vector kernels must
// give the same bits; tests/cpu compares them over every input.
#ifndef DG_CPU_CONVERT_H
#define DG_CPU_CONVERT_H

#include "deepgemm.h"

#include <stdint.h>
#include <string.h>

// The value of every E4M3 byte; 0x7f and 0xff are NaN.
extern const float dg_cpu_e4m3_values[256];

static inline uint32_t cpu_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float cpu_bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float cpu_from_bf16(uint16_t value)
{
    return cpu_bits_float((uint32_t)value << 16);
}

// Every NaN becomes 0x7fc0: which NaN an operation yields differs between instruction sets.
static inline uint16_t cpu_to_bf16(float value)
{
    const uint32_t bits = cpu_float_bits(value);
    if (value != value)
        return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Beyond 448 plus half a step there is no code left but NaN, as in a torch cast; the sign is kept.
static inline uint8_t cpu_to_e4m3(float value)
{
    const uint32_t bits = cpu_float_bits(value), magnitude = bits & 0x7fffffff;
    const uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    if (magnitude >= 0x43f00000) // 480, Inf, NaN
        return sign | 0x7f;
    if (magnitude < 0x3c800000) {
        // Below 2^-6 codes are multiples of 2^-9, which is the spacing of floats from 2^14 on: the
        // addition rounds, and the low bits of the sum are the code.
        return sign | (uint8_t)(cpu_float_bits(cpu_bits_float(magnitude) + 0x1p14f) - 0x46800000);
    }
    const uint32_t rebiased = magnitude - (120u << 23); // exponent bias 127 -> 7
    return sign | (uint8_t)((rebiased + 0x7ffff + (rebiased >> 20 & 1)) >> 20);
}

// 2^(exponent - 127); 0 is the subnormal 2^-127, 255 is NaN.
static inline float cpu_from_ue8m0(uint8_t exponent)
{
    if (exponent == 0)
        return 0x1p-127f;
    return cpu_bits_float(exponent == 255 ? 0x7fc00000 : (uint32_t)exponent << 23);
}

static inline float cpu_load_number(const void *data, dg_type type, int64_t offset)
{
    if (type == DG_BF16)
        return cpu_from_bf16(((const uint16_t *)data)[offset]);
    return ((const float *)data)[offset];
}

#endif
