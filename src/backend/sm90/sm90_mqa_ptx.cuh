// SPDX-License-Identifier: MIT
// sm90_mqa_ptx.cuh - the instructions that only the MQA kernels need, as sm90_ptx.cuh has those of all.
#ifndef DG_SM90_MQA_PTX_CUH
#define DG_SM90_MQA_PTX_CUH

#include "sm90_ptx.cuh"

// ---- copies ----

DG_DEVICE void dg_tma_load_4d(u32 smem, const struct dg_tensor_map *map, u32 barrier, int x, int y,
                              int z, int w)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(smem),
                 "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}

// `bytes` from a multiple of 16 to one, both counted in 16 (9.7.9.25.4.1).
DG_DEVICE void dg_bulk_load(u32 smem, const void *global, u32 bytes, u32 barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(smem),
                 "l"(global), "r"(bytes), "r"(barrier)
                 : "memory");
}

// The larger of both; NaN when one is.
DG_DEVICE float dg_max_nan(float a, float b)
{
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}

// ---- conversions (9.7.9.21) ----

// Four E4M3 values, the one at the lowest address first.  One piece of text, as ptxas then names the halves of words
// instead of shifting them.
DG_DEVICE void dg_cvt_f32_e4m3x4(float *values, u32 packed)
{
    asm("{.reg .b16 e, f, a, b, c, d; .reg .b32 low, high;"
        " mov.b32 {e, f}, %4; cvt.rn.f16x2.e4m3x2 low, e; cvt.rn.f16x2.e4m3x2 high, f;"
        " mov.b32 {a, b}, low; mov.b32 {c, d}, high;"
        " cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; cvt.f32.f16 %2, c; cvt.f32.f16 %3, d;}"
        : "=f"(values[0]), "=f"(values[1]), "=f"(values[2]), "=f"(values[3])
        : "r"(packed));
}

DG_DEVICE u32 dg_cvt_e4m3x4_f32(const float *values)
{
    u32 packed;
    asm("{.reg .b16 low, high;"
        " cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3; mov.b32 %0, {low, high};}"
        : "=r"(packed)
        : "f"(values[0]), "f"(values[1]), "f"(values[2]), "f"(values[3]));
    return packed;
}

#endif
