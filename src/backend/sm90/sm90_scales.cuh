// SPDX-License-Identifier: MIT
// sm90_scales.cuh - scales on their way: from any layout into a slot of the ring, and out of their 32 bits.
// Needs DG_WARP_N, DG_SFB_BLOCK_N, DG_SF_PACKED and DG_SCALE_WARPS, the warps that load scales.
#ifndef DG_SM90_SCALES_CUH
#define DG_SM90_SCALES_CUH

#include "sm90_ptx.cuh"

enum {
    SCALE_THREADS = 32 * DG_SCALE_WARPS,
    // A tile's first column lies at a multiple of this inside a 128-column block of B's scales; 128 when
    // no tile crosses a boundary at a place that depends on the tile
    OFFSET_STEP = DG_SFB_BLOCK_N == 1 || DG_WARP_N % 128 == 0 || 128 % DG_WARP_N == 0 ? 128
                  : DG_WARP_N % 64 == 0                         ? 64
                  : DG_WARP_N % 32 == 0                         ? 32
                  : DG_WARP_N % 16 == 0                         ? 16
                                                                 : 8,
    // B scales that a thread needs: of two columns in eight, or of the 128-column blocks a tile can touch
    SFB_COUNT = DG_SFB_BLOCK_N == 1 ? DG_WARP_N / 4 : (128 - OFFSET_STEP + DG_WARP_N - 1) / 128 + 1,
};

// One column of scales, in whatever layout they have: the entries of scale thread `thread` of `count`, `stride`
// words apart in memory and `pitch` bytes in the slot.  Rows outside the problem are not read and give 0.
DG_DEVICE void load_column(u32 smem, int pitch, const u32 *at, i64 stride, int count, int valid_rows, int thread)
{
#pragma unroll
    for (int i = 0; i < count; i += SCALE_THREADS, at += SCALE_THREADS * stride)
        if (i + SCALE_THREADS <= count || i + thread < count)
            dg_cp_async_4(smem + (i + thread) * pitch, at, i + thread < valid_rows);
}

// A scale from its 32 bits; `block` picks the byte of a packed word.
DG_DEVICE float scale_of(u32 word, int block)
{
    if (!DG_SF_PACKED)
        return __uint_as_float(word);
    const u32 exponent = word >> block % 4 * 8 & 255; // 0 is 2^-127, a subnormal; 255 is NaN
    return __uint_as_float(exponent == 0 ? 0x400000u : exponent == 255 ? 0x7fc00000u : exponent << 23);
}

#endif
