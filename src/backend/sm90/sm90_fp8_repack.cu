// SPDX-License-Identifier: MIT
// sm90_fp8_repack.cu - copies an FP8 operand K-major with aligned rows, which is what TMA and the FP8
// tensor cores take.  For operands whose k is not the contiguous dimension, or whose rows are not
// 16-byte aligned.
//
// A CTA moves 128 rows by 128 of k through shared memory.  When the rows are the contiguous dimension a
// thread reads four words of four rows each and turns them into four words along k.
#include "sm90_ptx.cuh"

enum { TILE = 128, PITCH = TILE + 4 }; // the 4 spreads the rows over the banks

DG_DEVICE u32 read_byte(const struct dg_sm90_repack_args *args, int row, int k)
{
    return row < args->rows && k < args->k ? args->source[row * args->row_stride + k * args->k_stride] : 0;
}

// Four bytes of row `row`, k .. k + 3, read one by one.
DG_DEVICE u32 read_word(const struct dg_sm90_repack_args *args, int row, int k)
{
    return read_byte(args, row, k) | read_byte(args, row, k + 1) << 8 | read_byte(args, row, k + 2) << 16 |
           read_byte(args, row, k + 3) << 24;
}

extern "C" __global__ void __launch_bounds__(256) sm90_fp8_repack(const __grid_constant__ struct dg_sm90_repack_args given)
{
    struct dg_sm90_repack_args args = given; // of this CTA's matrix
    args.source += blockIdx.y * given.source_matrix;
    args.target += blockIdx.y * given.target_matrix;
    __shared__ __align__(16) unsigned char shared[TILE * PITCH];
    const int tiles_k = (args.k + TILE - 1) / TILE;
    const int row0 = blockIdx.x / tiles_k * TILE, k0 = blockIdx.x % tiles_k * TILE;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int whole = row0 + TILE <= args.rows && k0 + TILE <= args.k;

    dg_griddepcontrol_wait();
    // A warp takes 32 rows by 16 of k at a time: eight words along the rows, four along k for each bank.
    for (int part = warp; part < 32; part += 8) {
        const int row = part % 4 * 32 + lane % 8 * 4, k = part / 4 * 16 + lane / 8 * 4;
        u32 word[4];
        if (args.words && whole) {
            u32 in[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                in[j] = *(const u32 *)(args.source + (k0 + k + j) * args.k_stride + row0 + row);
            const u32 low01 = __byte_perm(in[0], in[1], 0x5140), high01 = __byte_perm(in[0], in[1], 0x7362);
            const u32 low23 = __byte_perm(in[2], in[3], 0x5140), high23 = __byte_perm(in[2], in[3], 0x7362);
            word[0] = __byte_perm(low01, low23, 0x5410);
            word[1] = __byte_perm(low01, low23, 0x7632);
            word[2] = __byte_perm(high01, high23, 0x5410);
            word[3] = __byte_perm(high01, high23, 0x7632);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                word[i] = read_word(&args, row0 + row + i, k0 + k);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            *(u32 *)(shared + (row + i) * PITCH + k) = word[i];
    }
    __syncthreads();
    for (int row = warp; row < TILE && row0 + row < args.rows; row += 8)
        if (k0 + lane * 4 < args.pitch)
            *(u32 *)(args.target + (row0 + row) * args.pitch + k0 + lane * 4) =
                *(const u32 *)(shared + row * PITCH + lane * 4);
    dg_griddepcontrol_launch_dependents();
}
