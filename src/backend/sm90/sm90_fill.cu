// SPDX-License-Identifier: MIT
// sm90_fill.cu - D = C, or zeros, for a product over nothing (k == 0).  Any strides; not meant to be fast.
#include "sm90_ptx.cuh"

extern "C" __global__ void sm90_fill(const __grid_constant__ struct dg_sm90_fill_args args)
{
    const i64 step = (i64)gridDim.x * blockDim.x;
    dg_griddepcontrol_wait();
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < args.m * args.n; i += step) {
        const i64 row = i / args.n, column = i % args.n;
        const i64 d = row * args.d_row_stride + column, c = row * args.c_row_stride + column * args.c_column_stride;
        if (args.element_bytes == 4)
            ((u32 *)args.d)[d] = args.c ? ((const u32 *)args.c)[c] : 0;
        else
            ((unsigned short *)args.d)[d] = args.c ? ((const unsigned short *)args.c)[c] : 0;
    }
}
