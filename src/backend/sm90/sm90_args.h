// SPDX-License-Identifier: MIT
// sm90_args.h - the kernels' arguments, read by the host compiler and by NVRTC: plain C, no includes.
//
// Everything a problem can change without a new kernel is here; what makes a kernel a different one is
// in its DG_ macros.
#ifndef DG_SM90_ARGS_H
#define DG_SM90_ARGS_H

// A CUtensorMap: opaque, 64-byte aligned.  (NVRTC ignores the attribute after the closing brace.)
struct __attribute__((aligned(64))) dg_tensor_map {
    unsigned long long words[16];
};

// x / d for 0 <= x < 2^31 is x * multiplier >> shift.
struct dg_sm90_divisor {
    unsigned multiplier, shift;
};

struct dg_sm90_gemm_args {
    // Scales of A and B: element (row, k block) is 4 bytes at row * row_stride + block * k_stride.
    // Packed UE8M0: k_stride counts words of four blocks.
    const void *sfa, *sfb;
    long long sfa_row_stride, sfa_k_stride, sfb_row_stride, sfb_k_stride;
    // D, and C in any layout; strides in elements.  c_mode: DG_C_... below.
    void *d;
    const void *c;
    unsigned long long d_policy; // DG_SM90_EVICT_...: how long D may stay in the L2 cache
    long long d_row_stride, c_row_stride, c_column_stride;
    int m, n, num_k_blocks;
    int c_mode;
    int c_in_pairs; // 1: the elements of a row of C lie together, and pairs of them are aligned to their size
    int d_tma;    // 1: D's pointer and rows are 16-byte aligned, so that maps.d describes it
    int sfb_rows; // rows of B's scale matrix: ceil(n / 128) or n
    // Tiles in units of a cluster, walked in bands of `band` units along m.
    int units_m, units_n, band;
    struct dg_sm90_divisor per_band, per_column,
        per_last; // units of a band, of its columns, of the last band's
    // Rows of a tile that hold anything: all block_m of them in a cluster, else as few as the tiles need - the
    // copy engine is slow where a box reaches beyond the tensor.  A multiple of 8, of 16 where units_m > 1.
    int tile_rows;
    int flags; // DG_SM90_...
    // 65536 / CTAs where each CTA begins its first unit at another k-block, else 0.
    int stagger;
};

// Tiles that were asked for, in memory that held anything before: `given` of them, if `owner` is the launch's.
struct dg_sm90_count {
    unsigned long long owner;
    unsigned given;
};

// What a grouped problem adds: sm90_schedule.cuh makes tiles of it.  Distances from one group's matrix to the
// next are 0 where the groups share one.
struct dg_sm90_group_args {
    const int *layout;
    const int *num_rows; // DG_SM90_BY_INDEX, BY_ENDS: how many rows count; NULL: args.m
    const struct dg_sm90_k_group
        *list;                      // DG_SM90_ALONG_K: `groups` of them, made by sm90_k_groups.cu
    long long sfa_group, sfb_group; // words
    long long c_group, d_group;     // elements
    int kind;                       // DG_SM90_BY_...
    int groups, alignment;
    struct dg_sm90_divisor per_alignment;
    int own_a, own_b, own_d; // 1: the map of this matrix has one for each group
    int few_rows;     // tiles of up to so many rows, at most 64, take a box of a_few; 0: none do
    int guessed_rows; // DG_SM90_BY_COUNTS: rows that each group probably has; 0: no guess
    struct dg_sm90_divisor per_guess; // tiles of such a group
    int idle;                         // DG_SM90_IDLE_...
    int rows_of_map_d;                // rows of maps.d from one group to the next
    // Units from first_counted on, a multiple of the CTAs, go to whoever asks first.  NULL, INT_MAX: each CTA has its own.
    struct dg_sm90_count *count;
    unsigned long long owner; // unlike that of any other launch, and not 0
    int first_counted;
};

// What becomes of D in rows of no group, and of groups without k: C or zeros, as tiles of their own; nothing, as C is
// in place; zeros, beside the tiles (BY_INDEX only).
enum {
    DG_SM90_IDLE_TILES = 0,
    DG_SM90_IDLE_KEPT = 1,
    DG_SM90_IDLE_CLEARED = 2,
};

enum {
    DG_SM90_BY_INDEX = 0,
    DG_SM90_BY_ENDS = 1,
    DG_SM90_BY_COUNTS = 2,
    DG_SM90_ALONG_K = 3,
};

// TMA descriptors of three dimensions, [group][row][k].  a has whole tiles for boxes, a_piece 64 rows.
struct dg_sm90_value_maps {
    struct dg_tensor_map a, a_piece, b;
};

// Those of scales have three dimensions too, that of D has [row][column].
struct dg_sm90_group_maps {
    struct dg_sm90_value_maps values; // groups along k: those of each group are in the list
    struct dg_tensor_map a_few;       // few_rows for boxes
    struct dg_tensor_map d, d_tile;   // d_tile: whole tiles for boxes
    struct dg_tensor_map sfa, sfb;
};

// A group along k, in the order in which groups are worked on.
struct __attribute__((aligned(128))) dg_sm90_k_group {
    struct dg_sm90_value_maps values;
    int group, num_blocks, first_block; // first_block: of the scales
    int reserved[29];
};

// What sm90_k_groups.cu makes that list from.
struct dg_sm90_k_groups_args {
    struct dg_sm90_value_maps
        values; // those of a group are these with another address, k and row stride
    struct dg_sm90_k_group *list;
    const int *layout;
    const void *a, *b;
    // Bytes from one value of k to the next in a; rows lie a_pitch bytes apart, or as many as the group has k.
    long long a_step, b_step, a_pitch, b_pitch;
    int k, scale_columns; // there are no more than these
    int groups;
};

// Copies rows x k bytes at source[row * row_stride + k * k_stride] to target[row * pitch + k], for each matrix
// of gridDim.y.
struct dg_sm90_repack_args {
    const unsigned char *source;
    unsigned char *target;
    long long row_stride, k_stride, pitch;  // bytes; pitch is a multiple of 16
    long long source_matrix, target_matrix; // bytes to the next
    int rows, k;
    int words; // 1: row_stride is 1, and source and k_stride are multiples of 4
};

// Copies rows x columns words at source[row * row_stride + column * column_stride] to target[column * pitch + row], for
// each of some matrices; in words.
struct dg_sm90_scales {
    const unsigned *source;
    unsigned *target;
    long long row_stride, column_stride, pitch;
    long long source_matrix, target_matrix; // to the next
    int rows, columns;
};

// The first CTAs have the matrices of a, the others those of b.
struct dg_sm90_scales_repack_args {
    struct dg_sm90_scales a, b;
    int ctas_a;
};

// D[row][column] = C or 0; strides in elements of element_bytes, 2 or 4.
struct dg_sm90_fill_args {
    void *d;
    const void *c;
    long long d_row_stride, c_row_stride, c_column_stride, m, n;
    int element_bytes;
};

// TMA descriptors; those that a problem does not use may hold anything.
struct dg_sm90_maps {
    struct dg_tensor_map a, b, d, sfa, sfb;
};

enum {
    DG_SM90_C_NONE = 0,
    DG_SM90_C_READ = 1,
    DG_SM90_C_REDUCE = 2
}; // REDUCE: d_tma and FP32 only
enum {
    DG_SM90_PDL_PREFETCH_B = 1,
    DG_SM90_WHOLE_BLOCKS = 2, // the maps of A and B are [k block][row][128 bytes], else [row][k]
};

// L2 cache policies as createpolicy.fractional makes them for the whole of the data (PTX ISA 9.7.9.18).
#define DG_SM90_EVICT_NORMAL 0x1000000000000000ull
#define DG_SM90_EVICT_FIRST 0x12F0000000000000ull

#endif
