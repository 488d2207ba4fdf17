// SPDX-License-Identifier: MIT
// sm90_scales_repack.cu - copies scales to where TMA takes them: those that are read together lie side by side.  For large
// products: in any other layout a kernel's own warps have to read them, and tiles wait for that.
#include "sm90_ptx.cuh"

// A thread has one row, and as many columns as lie in 32 bytes where a row's lie together.
enum { ROWS = 128, COLUMNS = 8 };

extern "C" __global__ void __launch_bounds__(ROWS)
    sm90_scales_repack(const __grid_constant__ struct dg_sm90_scales_repack_args args)
{
    const int is_b = (int)blockIdx.x >= args.ctas_a;
    const struct dg_sm90_scales *scales = is_b ? &args.b : &args.a;
    const int tiles_m = (scales->rows + ROWS - 1) / ROWS, tiles = (scales->columns + COLUMNS - 1) / COLUMNS * tiles_m;
    const int index = blockIdx.x - (is_b ? args.ctas_a : 0), matrix = index / tiles, tile = index - matrix * tiles;
    const int row = tile % tiles_m * ROWS + threadIdx.x, first = tile / tiles_m * COLUMNS;
    const u32 *from = scales->source + matrix * scales->source_matrix + row * scales->row_stride;
    u32 *to = scales->target + matrix * scales->target_matrix + row;
    u32 word[COLUMNS];

    dg_griddepcontrol_wait();
    dg_griddepcontrol_launch_dependents();
    if (row >= scales->rows)
        return;
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
        word[i] = first + i < scales->columns ? from[(first + i) * scales->column_stride] : 0;
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
        if (first + i < scales->columns)
            to[(first + i) * scales->pitch] = word[i];
}
