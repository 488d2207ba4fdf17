// SPDX-License-Identifier: MIT
// cpu_features.h - what the processor can do and what the system lets us use of it.
#ifndef DG_CPU_FEATURES_H
#define DG_CPU_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

struct dg_cpu_features {
    bool avx2;   // AVX2, FMA and F16C, with their registers saved by the system
    bool avx512; // the above and AVX512 F, BW, DQ and VL
};

// Asks the processor once; safe from any thread.
const struct dg_cpu_features *dg_cpu_features(void);

// The processor's name, or "CPU" where it has none to tell; always ended with 0.
void dg_cpu_name(char *text, size_t capacity);

#endif
