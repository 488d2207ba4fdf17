// SPDX-License-Identifier: MIT
// cpu_kernel_avx512.c - the table for AVX-512 F, BW, DQ and VL: 32 registers of 16 lanes, tiles of 12
// rows x 32 columns.  Everything but the vector names is shared with AVX2; what runs once per output
// or per quantised value is AVX2's own code.
#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define V __m512
#define LANES 16
#define TILE_ROWS 12
#define V_LOAD(from) _mm512_loadu_ps(from)
#define V_STORE(to, value) _mm512_storeu_ps(to, value)
#define V_SET1(x) _mm512_set1_ps(x)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_MUL(a, b) _mm512_mul_ps(a, b)
#define V_FUSED(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_ACCUMULATE(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#include "backend/cpu/cpu_tile_template.h"

#define STORE_16(out, halves, factor) store_16(out, halves, factor)

TARGET static inline void store_16(float *out, __m256i halves, float factor)
{
    __m512 value = _mm512_cvtph_ps(halves);
    if (factor != 1.0f)
        value = _mm512_mul_ps(value, _mm512_set1_ps(factor));
    _mm512_storeu_ps(out, value);
}

#include "backend/cpu/cpu_decode_x86.h"

static void finish(const struct dg_cpu_finish *work)
{
    dg_cpu_finish_avx2(work, PANEL);
}

const struct dg_cpu_kernels dg_cpu_kernels_avx512 = {
    .isa = "avx512",
    .tile_rows = TILE_ROWS,
    .panel_columns = PANEL,
    .decode_panel = decode_panel,
    .decode_panel_mn = decode_panel_mn,
    .pack_rows = pack_rows,
    .multiply = multiply,
    .finish = finish,
    .find_amax = dg_cpu_find_amax_avx2,
    .encode = dg_cpu_encode_avx2,
    .spin_fma = spin_fma,
};
#endif
