// SPDX-License-Identifier: MIT
// sm90_store.cuh - from a math warp's accumulators to D: 16 rows by DG_WARP_N, C added if asked.
//
// Each warp has DG_D_BUFFERS buffers of 2 KB in shared memory and waits for nobody: registers -> buffer
// (stmatrix, in the TMA swizzle) -> D by a TMA store, or by ordinary stores where TMA cannot write D.
// Needs DG_WARP_N, DG_D_FP32, DG_D_BUFFERS and DG_READS_C.  DG_D_IN_TURNS 1: of more FP32 pieces than buffers, some leave
// while others are written.
#ifndef DG_SM90_STORE_CUH
#define DG_SM90_STORE_CUH

#include "sm90_ptx.cuh"

#ifndef DG_D_IN_TURNS
#define DG_D_IN_TURNS 0
#endif

enum {
    ACC = DG_WARP_N / 2, // accumulators of a thread for its warp's 16 rows
    D_BUFFER_BYTES = 2048,
    // D leaves in pieces of 16 rows by D_COLUMNS, at most 128 bytes wide.  BF16 pieces may overlap to cover
    // the tile; FP32 ones, which may be added to D, divide it.
    D_ELEMENT = DG_D_FP32 ? 4 : 2,
    D_WIDEST = DG_WARP_N >= 64 && !DG_D_FP32 ? 64 : DG_WARP_N >= 32 ? 32 : DG_WARP_N >= 16 ? 16 : 8,
    D_COLUMNS = !DG_D_FP32 || DG_WARP_N % D_WIDEST == 0 ? D_WIDEST : DG_WARP_N % 16 == 0 ? 16 : 8,
    D_ROW_BYTES = D_COLUMNS * D_ELEMENT,
    D_PIECES = (DG_WARP_N + D_COLUMNS - 1) / D_COLUMNS,
    // Pieces that leave together, and how many such sets of buffers there are.
    D_BATCH = D_PIECES <= DG_D_BUFFERS                         ? D_PIECES
              : DG_D_IN_TURNS && DG_D_FP32 && DG_D_BUFFERS > 1 ? DG_D_BUFFERS / 2
                                                               : DG_D_BUFFERS,
    D_BATCHES = (D_PIECES + D_BATCH - 1) / D_BATCH,
    D_SETS = DG_D_BUFFERS / D_BATCH,
};

// A thread's accumulators 4i .. 4i + 3 are columns 8i + 2q and the next, q = lane % 4, of row lane / 4 and
// of row lane / 4 + 8 of its warp's 16 rows.

// Two neighbours of a row of C.
DG_DEVICE void read_pair(const char *at, float *c)
{
    if (DG_D_FP32) {
        const float2 pair = *(const float2 *)at;
        c[0] = pair.x;
        c[1] = pair.y;
    } else {
        const u32 pair = *(const u32 *)at;
        c[0] = __uint_as_float(pair << 16);
        c[1] = __uint_as_float(pair & 0xffff0000);
    }
}

// total += C for 16 rows of this warp that are within C's columns, from its rows in the order of the accumulators, loads for
// TOGETHER of which are under way together: no more where ptxas would take the registers from the k loop.
DG_DEVICE void add_pairs(float *total, const struct dg_sm90_gemm_args *args, int row0, int column)
{
    enum { TOGETHER = DG_WARP_N == 64 ? 16 : 32 };
    const int lane = threadIdx.x % 32, row = row0 + lane / 4;
    const char *at = (const char *)args->c + (row * args->c_row_stride + column + lane % 4 * 2) * D_ELEMENT;
    const char *const rows[2] = {at, at + args->c_row_stride * (8 * D_ELEMENT)};
#pragma unroll
    for (int start = 0; start < ACC; start += TOGETHER) {
        float c[TOGETHER] = {};
#pragma unroll
        for (int i = 0; i < TOGETHER && start + i < ACC; i += 2)
            if (row + i / 2 % 2 * 8 < args->m)
                read_pair(rows[i / 2 % 2] + (start + i) / 4 * 8 * D_ELEMENT, c + i);
#pragma unroll
        for (int i = 0; i < TOGETHER && start + i < ACC; i++)
            total[start + i] += c[i];
    }
}

// The same for any layout and at C's edges, 32 columns at a time: along C's rows into the buffer as FP32, and from there
// in the order of the accumulators.
DG_DEVICE void add_any(float *total, const struct dg_sm90_gemm_args *args, u32 buffer, int row0, int column0)
{
    const int lane = threadIdx.x % 32, row = lane / 4;
    if (lane == 0)
        dg_bulk_wait_group_read(0);
    __syncwarp();
#pragma unroll
    for (int start = 0; start < DG_WARP_N; start += 32) {
        const int column = column0 + start + lane;
#pragma unroll 4
        for (int r = 0; r < 16; r++) {
            const i64 at = (row0 + r) * args->c_row_stride + column * args->c_column_stride;
            float value = 0;
            if (row0 + r < args->m && column < args->n)
                value = DG_D_FP32 ? ((const float *)args->c)[at]
                                  : __uint_as_float((u32)((const unsigned short *)args->c)[at] << 16);
            dg_st_shared(buffer + r * 128 + (lane * 4 ^ r % 8 << 4), value);
        }
        __syncwarp();
#pragma unroll
        for (int i = start / 2; i < start / 2 + 16 && i < ACC; i += 2) {
            float c[2];
            const int r = row + i / 2 % 2 * 8, in = i / 4 * 32 % 128 + lane % 4 * 8;
            dg_ld_shared_v2(buffer + r * 128 + (in ^ r % 8 << 4), c);
            total[i] += c[0];
            total[i + 1] += c[1];
        }
        __syncwarp();
    }
}

// By pairs where C, the tile's place and the k loop's registers let it.
DG_DEVICE void add_c(float *total, const struct dg_sm90_gemm_args *args, u32 buffer, int row, int column)
{
    // Those of the widest tile and of math groups in turn have none to spare; so dg_sm90_reading_clocks has it.
    const int has_registers = DG_WARP_N <= 192 && (DG_SFB_BLOCK_N == 128 || DG_WARP_N != 128);
    if (has_registers && args->c_in_pairs && column + DG_WARP_N <= args->n)
        add_pairs(total, args, row, column);
    else
        add_any(total, args, buffer, row, column);
}

// Does a math warp ask for C when it begins a tile?  What is added in memory only if the tile is small: the large ones of
// all SMs would push each other's rows out of the L2 cache before they are added to.
DG_DEVICE int prefetches_c(const struct dg_sm90_gemm_args *args)
{
    return (DG_READS_C && args->c_mode == DG_SM90_C_READ) ||
           (DG_D_FP32 && args->c_mode == DG_SM90_C_REDUCE && DG_BLOCK_M * DG_BLOCK_N * D_ELEMENT <= 32 * 1024);
}

// 16 rows of C, or those before row `end`, on their way to the L2 cache.
DG_DEVICE void prefetch_c(const struct dg_sm90_gemm_args *args, const void *c, int row, int end, int column)
{
    enum { LINE = 128 / D_ELEMENT, LINES = (DG_BLOCK_N + LINE - 1) / LINE };
    if (!args->c_in_pairs)
        return;
#pragma unroll 1
    for (int i = threadIdx.x % 32; i < 16 * LINES; i += 32) {
        const int r = row + i / LINES, x = column + i % LINES * LINE;
        if (r < end && x < args->n)
            dg_prefetch_l2((const char *)c + (r * args->c_row_stride + x) * D_ELEMENT);
    }
}

// A piece from its buffer to D by ordinary stores, for a D that TMA cannot write: rows from `first` on that lie
// before row args->m.
DG_DEVICE void copy_piece(const struct dg_sm90_gemm_args *args, u32 buffer, int row, int column, int first)
{
#pragma unroll 1
    for (int i = threadIdx.x % 32; i < 16 * D_COLUMNS; i += 32) {
        const int r = i / D_COLUMNS, c = i % D_COLUMNS, in = r * D_ROW_BYTES + c * D_ELEMENT;
        const u32 word = dg_ld_shared(buffer + ((in & ~3) ^ (in >> 7 & (D_ROW_BYTES / 16 - 1)) << 4));
        const i64 at = (row + r) * args->d_row_stride + column + c;
        if (r < first || row + r >= args->m || column + c >= args->n)
            continue;
        if (DG_D_FP32)
            ((u32 *)args->d)[at] = word;
        else
            ((unsigned short *)args->d)[at] = (unsigned short)(word >> c % 2 * 16);
    }
}

// The same for a D that TMA could write, but all rows of it.
DG_DEVICE void copy_chunks(const struct dg_sm90_gemm_args *args, u32 buffer, int row, int column, int first)
{
    enum { CHUNKS = D_ROW_BYTES / 16, ELEMENTS = 16 / D_ELEMENT };
#pragma unroll
    for (int i = threadIdx.x % 32; i < 16 * CHUNKS; i += 32) {
        const int r = i / CHUNKS, c = i % CHUNKS, in = r * D_ROW_BYTES + c * 16;
        const i64 at = (row + r) * args->d_row_stride + column + c * ELEMENTS;
        float chunk[4];
        if (r < first || row + r >= args->m || column + c * ELEMENTS >= args->n)
            continue;
        dg_ld_shared_v4(buffer + (in ^ (in >> 7 & (CHUNKS - 1)) << 4), chunk);
        *(float4 *)((char *)args->d + at * D_ELEMENT) = make_float4(chunk[0], chunk[1], chunk[2], chunk[3]);
    }
}

// A piece, 16 rows by D_COLUMNS, from registers to its buffer.  The 16-byte chunks are permuted as the TMA swizzle
// of this width has it, so that the fragments meet no bank twice.
DG_DEVICE void write_piece(const float *total, u32 buffer)
{
    const u32 lane = threadIdx.x % 32;
    const u32 my_row = DG_D_FP32 ? lane / 4 : lane % 16, my_chunk = DG_D_FP32 ? lane % 4 / 2 : lane / 16;
    const u32 offset = my_row * D_ROW_BYTES + (DG_D_FP32 ? lane % 2 * 8 : 0), twist = offset >> 7 & (D_ROW_BYTES / 16 - 1);
#pragma unroll
    for (int i = 0; i < D_ROW_BYTES / 32; i++, total += 32 / D_ELEMENT / 2) { // 32 bytes: two chunks
        const u32 at = buffer + offset + ((my_chunk + 2 * i ^ twist) << 4);
        if (DG_D_FP32) {
            dg_st_shared_v2(at, total[0], total[1]);
            dg_st_shared_v2(at + 8 * D_ROW_BYTES, total[2], total[3]);
        } else {
            dg_stmatrix_x4(at, dg_cvt_bf16x2(total[0], total[1]), dg_cvt_bf16x2(total[2], total[3]),
                           dg_cvt_bf16x2(total[4], total[5]), dg_cvt_bf16x2(total[6], total[7]));
        }
    }
}

// And from there to D, as a rule by TMA, which leaves out what lies outside D.
DG_DEVICE void send_piece(const struct dg_sm90_gemm_args *args, const struct dg_tensor_map *map, u32 buffer, int row,
                          int column, int map_row, int first, int is_whole)
{
    if (!args->d_tma) {
        copy_piece(args, buffer, row, column, first);
    } else if (!is_whole) {
        copy_chunks(args, buffer, row, column, first);
        if (threadIdx.x % 32 == 0)
            dg_bulk_commit_group(); // of nothing: buffers are waited for by the number of groups behind them
    } else if (threadIdx.x % 32 == 0) {
        if (DG_D_FP32 && args->c_mode == DG_SM90_C_REDUCE)
            dg_tma_reduce_add_2d(map, buffer, column, map_row);
        else
            dg_tma_store_2d(map, buffer, column, map_row, args->d_policy);
        dg_bulk_commit_group();
    }
}

// As many pieces as a set has buffers for, from the one of these accumulators and this column on.  They lie
// D_COLUMNS apart, but none further than `most`: the last may overlap the one before it.
DG_DEVICE void store_set(const float *total, const struct dg_sm90_gemm_args *args, const struct dg_tensor_map *map,
                         u32 set, int is_first, int most, int row, int column, int map_row, int first, int is_whole)
{
    if (threadIdx.x % 32 == 0) {
        if (is_first) // whichever set was the last, and however many pieces it had
            dg_bulk_wait_group_read(0);
        else
            dg_bulk_wait_group_read((D_SETS - 1) * D_BATCH);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < D_BATCH; i++)
        if (most > (i - 1) * D_COLUMNS)
            write_piece(total + min(i * D_COLUMNS, most) / 2, set + i * D_BUFFER_BYTES);
    dg_fence_proxy_async();
    __syncwarp();
#pragma unroll
    for (int i = 0; i < D_BATCH; i++)
        if (most > (i - 1) * D_COLUMNS)
            send_piece(args, map, set + i * D_BUFFER_BYTES, row, column + min(i * D_COLUMNS, most), map_row, first,
                       is_whole);
}

// Stores the 16 rows of the calling warp, as many pieces at a time as there are buffers.  `buffers` are its own;
// `turn` counts its earlier calls for a tile.  In the map the rows begin at map_row.  Their first `first` are not
// to be written, nor those from row args->m on; is_whole 0: there are such, and the map, which covers more rows
// than the caller's, would write them.
DG_DEVICE void store_strip(float *total, const struct dg_sm90_gemm_args *args, const struct dg_tensor_map *map,
                           u32 buffers, int turn, int row, int column, int map_row, int first, int is_whole)
{
    if (DG_READS_C && args->c_mode == DG_SM90_C_READ)
        add_c(total, args, buffers, row, column);
#pragma unroll
    for (int i = 0; i < D_BATCHES; i++) {
        const int most = DG_WARP_N - D_COLUMNS, start = min(i * D_BATCH * D_COLUMNS, most);
        store_set(total + start / 2, args, map, buffers + (turn * D_BATCHES + i) % D_SETS * (D_BATCH * D_BUFFER_BYTES),
                  i == 0 && (turn == 0 || D_PIECES % D_BATCH != 0), most - start, row, column + start, map_row, first, is_whole);
    }
}

DG_DEVICE void store_rows(float *total, const struct dg_sm90_gemm_args *args, const struct dg_tensor_map *map,
                          u32 buffers, int turn, int row, int column)
{
    store_strip(total, args, map, buffers, turn, row, column, row, 0, 1);
}

#endif
