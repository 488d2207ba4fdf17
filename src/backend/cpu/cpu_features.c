// SPDX-License-Identifier: MIT
// cpu_features.c - cpuid and xgetbv.  An instruction set counts only if the system saves its registers
// too, so no dispatch based on this can end in an illegal instruction.
#include "backend/cpu/cpu_features.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static struct dg_cpu_features features;
static pthread_once_t features_once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
#include <cpuid.h>

struct leaf {
    unsigned eax, ebx, ecx, edx;
};

static struct leaf read_leaf(unsigned number)
{
    struct leaf leaf = {0, 0, 0, 0};
    if (!__get_cpuid_count(number, 0, &leaf.eax, &leaf.ebx, &leaf.ecx, &leaf.edx))
        memset(&leaf, 0, sizeof leaf);
    return leaf;
}

// XCR0: the register files the system switches.  Only legal when cpuid reports OSXSAVE.
static uint64_t read_saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has_all(unsigned word, unsigned bits)
{
    return (word & bits) == bits;
}

static void detect(void)
{
    const struct leaf basic = read_leaf(1), extended = read_leaf(7);
    if (!has_all(basic.ecx, bit_OSXSAVE | bit_AVX))
        return;
    const uint64_t saved = read_saved_registers();
    const uint64_t ymm = 0x6, zmm = 0xe6; // SSE and AVX; plus opmask and both halves of ZMM
    features.avx2 = (saved & ymm) == ymm && has_all(basic.ecx, bit_FMA | bit_F16C) &&
                    has_all(extended.ebx, bit_AVX2);
    features.avx512 =
        features.avx2 && (saved & zmm) == zmm &&
        has_all(extended.ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
}

void dg_cpu_name(char *text, size_t capacity)
{
    struct leaf brand[4] = {0};
    const char *name = (const char *)brand;
    if (__get_cpuid_max(0x80000000, NULL) >= 0x80000004)
        for (unsigned i = 0; i < 3; i++)
            brand[i] = read_leaf(0x80000002 + i);
    name += strspn(name, " ");
    snprintf(text, capacity, "%s", *name ? name : "CPU");
}
#else
static void detect(void)
{
}

void dg_cpu_name(char *text, size_t capacity)
{
    snprintf(text, capacity, "CPU");
}
#endif

const struct dg_cpu_features *dg_cpu_features(void)
{
    pthread_once(&features_once, detect);
    return &features;
}
