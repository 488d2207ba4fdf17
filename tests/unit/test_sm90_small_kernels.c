// SPDX-License-Identifier: MIT
// test_sm90_small_kernels.c - the kernels beside the products, run here with their threads as coroutines (lanes.h):
// lists of groups along k, operands copied K-major, scales copied for TMA, D = C.
#include "../harness.h"
#include "../random_problem.h"

#include "../lanes_kernels.h"

// ---- what only these kernels need -------------------------------------------------------------------

enum { MAP_ADDRESS, MAP_K, MAP_PITCH }; // a map's first words are what has been replaced in it

static void dg_tensormap_replace(u32 smem, u64 address, int k, i64 pitch)
{
    struct dg_tensor_map *map = (struct dg_tensor_map *)(void *)(lanes_shared + smem);
    map->words[MAP_ADDRESS] = address;
    map->words[MAP_K] = (u64)k;
    map->words[MAP_PITCH] = (u64)pitch;
}

static void dg_tensormap_cp_fenceproxy(struct dg_tensor_map *to, u32 smem)
{
    if (threadIdx.x % 32 == 0)
        memcpy(to, lanes_shared + smem, sizeof *to);
}

#include "backend/sm90/sm90_fill.cu"
#include "backend/sm90/sm90_fp8_repack.cu"
#include "backend/sm90/sm90_k_groups.cu"
#include "backend/sm90/sm90_scales_repack.cu"

static uint64_t state;

static int draw(int count)
{
    return (int)(random_next(&state) % (uint64_t)count);
}

static bool run_grid(unsigned x, unsigned y, unsigned threads, void (*body)(void))
{
    bool is_right = true;
    gridDim.x = x, gridDim.y = y, blockDim.x = threads;
    for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++)
            is_right = lanes_run((int)threads, body) && is_right;
    return is_right;
}

// ---- groups along k ---------------------------------------------------------------------------------

enum { MOST_GROUPS = 200 };
static int sizes[MOST_GROUPS];
static struct dg_sm90_k_group list[MOST_GROUPS];
static struct dg_sm90_k_groups_args k_groups;

static void run_k_groups(void)
{
    sm90_k_groups(k_groups);
}

// Sizes that fit, as a rule; negative ones, ones that are no multiple of 32, and more than there is.
static void draw_groups(bool all_fit)
{
    const int most = draw(2) ? 3 : 40;
    int values = 0, blocks = 0;
    k_groups = (struct dg_sm90_k_groups_args){
        .list = list,
        .layout = sizes,
        .a = (const void *)(uintptr_t)(1 << 20),
        .b = (const void *)(uintptr_t)(1 << 24),
        .a_step = 1 + draw(3) * 100,
        .b_step = 1 + draw(3) * 100,
        .a_pitch = draw(2) ? 4096 : 0,
        .b_pitch = draw(2) ? 8192 : 0,
        .groups = 1 + draw(MOST_GROUPS),
    };
    for (int i = 0; i < 3 * 16; i++)
        ((u64 *)&k_groups.values)[i] = random_next(&state);
    for (int i = 0; i < k_groups.groups; i++) {
        sizes[i] = draw(6) ? 32 * draw(most) : draw(2) ? -1 - draw(99) : 1 + draw(31);
        if (sizes[i] > 0 && sizes[i] % 32 == 0)
            values += sizes[i], blocks += (sizes[i] + 127) / 128;
    }
    k_groups.k = all_fit ? values + draw(2) * 64 : 1 + draw(values + 1);
    k_groups.scale_columns = all_fit || draw(2) ? blocks : 1 + draw(blocks + 1);
}

static int valid_size(int group)
{
    const int k = sizes[group];
    return k > 0 && k % 32 == 0 && k <= k_groups.k ? k : 0;
}

static int place_by_length(int group)
{
    int place = 0;
    for (int other = 0; other < k_groups.groups; other++)
        place += valid_size(other) > valid_size(group) ||
                 (valid_size(other) == valid_size(group) && other < group);
    return place;
}

static bool is_map(const struct dg_tensor_map *map, const struct dg_tensor_map *from,
                   const void *address, int k, i64 pitch)
{
    return map->words[MAP_ADDRESS] == (u64)(uintptr_t)address && map->words[MAP_K] == (u64)k &&
           map->words[MAP_PITCH] == (u64)pitch &&
           memcmp(map->words + 3, from->words + 3, sizeof *map - 3 * sizeof *map->words) == 0;
}

// The longest first; a group that does not fit into what the others left has nothing.
static bool check_list(void)
{
    int values = 0, blocks = 0;
    for (int group = 0; group < k_groups.groups; group++) {
        const struct dg_sm90_k_group *entry = &list[place_by_length(group)];
        int k = valid_size(group);
        if (k > k_groups.k - values || (k + 127) / 128 > k_groups.scale_columns - blocks)
            k = 0;
        if (entry->group != group || entry->num_blocks != (k + 127) / 128 ||
            entry->first_block != blocks)
            return false;
        const char *a = (const char *)k_groups.a + values * k_groups.a_step;
        const char *b = (const char *)k_groups.b + values * k_groups.b_step;
        const i64 a_pitch = k_groups.a_pitch ? k_groups.a_pitch : k;
        const i64 b_pitch = k_groups.b_pitch ? k_groups.b_pitch : k;
        const struct dg_sm90_value_maps *from = &k_groups.values, *to = &entry->values;
        if (k > 0 && !(is_map(&to->a, &from->a, a, k, a_pitch) &&
                       is_map(&to->a_piece, &from->a_piece, a, k, a_pitch) &&
                       is_map(&to->b, &from->b, b, k, b_pitch)))
            return false;
        values += k, blocks += (k + 127) / 128;
    }
    return true;
}

static void test_lists_of_groups_along_k(void)
{
    const int count = harness_scaled(60);
    lanes_shared = NULL;
    for (int seed = 1; seed <= count; seed++) {
        state = (uint64_t)seed * 2 + 1;
        draw_groups(seed % 2);
        memset(list, 0xff, sizeof list);
        CHECK(
            run_grid((unsigned)(k_groups.groups + WARPS - 1) / WARPS, 1, 32 * WARPS, run_k_groups),
            "seed %d: the lanes of a warp went apart", seed);
        CHECK(check_list(), "seed %d: %d groups", seed, k_groups.groups);
    }
}

// ---- operands copied K-major ------------------------------------------------------------------------

enum { MOST_ROWS = 290, MOST_K = 290, MATRICES = 2, ROOM = MOST_ROWS * (MOST_K + 150) * MATRICES };
static unsigned char source[ROOM + 64], target[ROOM + 64];
static struct dg_sm90_repack_args repack;

static void run_repack(void)
{
    sm90_fp8_repack(repack);
}

static bool check_copy(void)
{
    for (int matrix = 0; matrix < MATRICES; matrix++)
        for (int row = 0; row < repack.rows; row++)
            for (int k = 0; k < repack.pitch; k++) {
                const unsigned char *to = target + matrix * repack.target_matrix;
                const unsigned char *from = repack.source + matrix * repack.source_matrix;
                const int want =
                    k < repack.k ? from[row * repack.row_stride + k * repack.k_stride] : 0;
                if (to[row * repack.pitch + k] != want)
                    return false;
            }
    return target[MATRICES * repack.target_matrix] == 0xa5;
}

// Rows side by side, where four at a time may be read; k side by side at any address.
static void test_operands_copied_k_major(void)
{
    const int count = harness_scaled(30);
    for (int seed = 1; seed <= count; seed++) {
        state = (uint64_t)seed * 2 + 1;
        const int rows = 1 + draw(MOST_ROWS), k = 1 + draw(MOST_K), by_rows = draw(2);
        const int stride = ((by_rows ? rows : k) + draw(9) + 3) & (draw(2) ? ~3 : ~0);
        repack = (struct dg_sm90_repack_args){
            .source = source + draw(2) * draw(16),
            .target = target,
            .row_stride = by_rows ? 1 : stride,
            .k_stride = by_rows ? stride : 1,
            .pitch = (k + 127) / 128 * 128,
            .source_matrix = (i64)stride * (by_rows ? k : rows),
            .rows = rows,
            .k = k,
        };
        repack.target_matrix = rows * repack.pitch;
        repack.words = by_rows && stride % 4 == 0 && repack.source_matrix % 4 == 0 &&
                       (uintptr_t)repack.source % 4 == 0;
        for (size_t i = 0; i < sizeof source; i++)
            source[i] = (unsigned char)random_next(&state);
        memset(target, 0xa5, sizeof target);
        const unsigned tiles = (unsigned)((rows + TILE - 1) / TILE * ((k + TILE - 1) / TILE));
        CHECK(run_grid(tiles, MATRICES, 256, run_repack), "seed %d: lanes went apart", seed);
        CHECK(check_copy(), "seed %d: %d rows, k = %d, words %d", seed, rows, k, repack.words);
    }
}

// ---- scales copied for TMA --------------------------------------------------------------------------

enum { MOST_WORDS = 1 << 14 };
static u32 words_from[2][MOST_WORDS], words_to[2][MOST_WORDS];
static struct dg_sm90_scales_repack_args scales;

static void run_scales_repack(void)
{
    sm90_scales_repack(scales);
}

// By rows or by columns, with gaps.
static struct dg_sm90_scales draw_scales(int i)
{
    const int rows = 1 + draw(300), columns = 1 + draw(17), by_rows = draw(2), gap = draw(3);
    struct dg_sm90_scales drawn = {
        .source = words_from[i],
        .target = words_to[i],
        .row_stride = by_rows ? columns + gap : 1,
        .column_stride = by_rows ? 1 : rows + gap,
        .pitch = (rows + 3) / 4 * 4,
        .source_matrix = (by_rows ? rows : columns) * ((by_rows ? columns : rows) + gap),
        .rows = rows,
        .columns = columns,
    };
    drawn.target_matrix = drawn.pitch * columns;
    return drawn;
}

// Words of the target that are wrong: nothing but the rows of the matrices is written.
static int count_wrong(int i, const struct dg_sm90_scales *drawn, int matrices)
{
    int wrong = 0;
    for (i64 at = 0; at < MOST_WORDS; at++) {
        const i64 matrix = at / drawn->target_matrix, rest = at % drawn->target_matrix;
        const i64 column = rest / drawn->pitch, row = rest % drawn->pitch;
        const bool is_copy = matrix < matrices && row < drawn->rows;
        wrong += words_to[i][at] !=
                 (is_copy ? words_from[i][matrix * drawn->source_matrix + row * drawn->row_stride +
                                          column * drawn->column_stride]
                          : 0xa5a5a5a5);
    }
    return wrong;
}

static int tiles_of_scales(const struct dg_sm90_scales *drawn)
{
    return (drawn->rows + ROWS - 1) / ROWS * ((drawn->columns + COLUMNS - 1) / COLUMNS);
}

static void test_scales_copied_for_tma(void)
{
    const int count = harness_scaled(30);
    for (int seed = 1; seed <= count; seed++) {
        state = (uint64_t)seed * 2 + 1;
        scales.a = draw_scales(0), scales.b = draw_scales(1);
        const int matrices_a = draw(3), matrices_b = draw(matrices_a ? 3 : 2) + !matrices_a;
        scales.ctas_a = matrices_a * tiles_of_scales(&scales.a);
        const int ctas = scales.ctas_a + matrices_b * tiles_of_scales(&scales.b);
        for (int i = 0; i < MOST_WORDS; i++)
            words_from[0][i] = (u32)random_next(&state),
            words_from[1][i] = (u32)random_next(&state);
        memset(words_to, 0xa5, sizeof words_to);
        CHECK(run_grid((unsigned)ctas, 1, ROWS, run_scales_repack), "seed %d: lanes went apart",
              seed);
        CHECK(count_wrong(0, &scales.a, matrices_a) == 0, "seed %d: a", seed);
        CHECK(count_wrong(1, &scales.b, matrices_b) == 0, "seed %d: b", seed);
    }
}

// ---- D = C ------------------------------------------------------------------------------------------

static struct dg_sm90_fill_args fill;

static void run_fill(void)
{
    sm90_fill(fill);
}

static void test_d_becomes_c_or_zeros(void)
{
    enum { M = 7, N = 5, PITCH_D = 9 };
    static uint16_t c[N * M], d[M * PITCH_D];
    for (int has_c = 0; has_c < 2; has_c++) {
        fill = (struct dg_sm90_fill_args){.d = d,
                                          .c = has_c ? c : NULL,
                                          .d_row_stride = PITCH_D,
                                          .c_row_stride = 1, // a column of C lies together
                                          .c_column_stride = M,
                                          .m = M,
                                          .n = N,
                                          .element_bytes = 2};
        for (int i = 0; i < N * M; i++)
            c[i] = (uint16_t)(i + 1);
        memset(d, 0xff, sizeof d);
        CHECK(run_grid(2, 1, 32, run_fill), "lanes went apart");
        for (int row = 0; row < M; row++)
            for (int column = 0; column < PITCH_D; column++) {
                const int want = column >= N ? 0xffff : has_c ? column * M + row + 1 : 0;
                CHECK(d[row * PITCH_D + column] == want, "row %d, column %d", row, column);
            }
    }
}

int main(void)
{
    RUN(test_lists_of_groups_along_k);
    RUN(test_operands_copied_k_major);
    RUN(test_scales_copied_for_tma);
    RUN(test_d_becomes_c_or_zeros);
    return harness_end();
}
