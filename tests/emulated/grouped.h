// SPDX-License-Identifier: MIT
// grouped.h - what the kernels of grouped products are meant to compute, row by row, from what a launch is
// given: the layout is read as include/deepgemm.h has it.
#ifndef DG_TESTS_EMULATED_GROUPED_H
#define DG_TESTS_EMULATED_GROUPED_H

#include "kernels.h"

struct grouped {
    const struct kernel *kernel;
    const struct dg_sm90_gemm_args *args;
    const struct dg_sm90_group_args *groups;
    const struct dg_sm90_group_maps *maps;
};

// Rows of one group; group -1: of none.
struct section {
    int group, first, rows, num_blocks, first_block;
    const struct dg_sm90_value_maps *values;
};

static const void *map_at_3d(const struct dg_tensor_map *map, int64_t x, int64_t y, int64_t z,
                             int bytes)
{
    const char *at = map_at(map, x, y, bytes);
    return at && (uint64_t)z < map->words[4] ? at + (uint64_t)z * map->words[5] : NULL;
}

static float grouped_scale(const struct grouped *g, const struct section *s, int is_a, int row,
                           int block)
{
    const struct dg_sm90_gemm_args *args = g->args;
    const struct dg_tensor_map *map = is_a ? &g->maps->sfa : &g->maps->sfb;
    const int by_row = is_a || g->kernel->sfb_block_n == 1;
    const int64_t column = g->kernel->sf_packed ? block / 4 : s->first_block + block;
    const int64_t z = (is_a ? g->groups->own_a : g->groups->own_b) ? s->group : 0;
    const int64_t word = is_a ? s->group * g->groups->sfa_group + row * args->sfa_row_stride +
                                    column * args->sfa_k_stride
                              : s->group * g->groups->sfb_group + row * args->sfb_row_stride +
                                    column * args->sfb_k_stride;
    const void *at = !g->kernel->sfa_tma
                         ? (const char *)(is_a ? args->sfa : args->sfb) + 4 * word
                         : map_at_3d(map, by_row ? row : column, by_row ? column : row, z, 4);
    uint32_t bits = 0;
    if (at)
        memcpy(&bits, at, 4);
    if (!g->kernel->sf_packed)
        return from_bits(bits);
    const int exponent = bits >> block % 4 * 8 & 255;
    return exponent == 255 ? NAN : ldexpf(1, exponent - 127);
}

static float grouped_block(const struct grouped *g, const struct section *s, int row, int column,
                           int block)
{
    float a[128] = {0}, b[128] = {0};
    for (int k = 0; k < 128; k++) {
        const unsigned char *x =
            map_at_3d(&s->values->a, block * 128 + k, row, g->groups->own_a ? s->group : 0, 1);
        const unsigned char *y =
            map_at_3d(&s->values->b, block * 128 + k, column, g->groups->own_b ? s->group : 0, 1);
        a[k] = x ? decode(*x) : 0;
        b[k] = y ? decode(*y) : 0;
    }
    return dot(a, b);
}

static void grouped_row(const struct grouped *g, const struct section *s, int row)
{
    const struct dg_sm90_gemm_args *args = g->args;
    const int64_t element = g->kernel->d_fp32 ? 4 : 2;
    const int64_t index = g->groups->own_d ? s->group : 0;
    char *d = args->d_tma ? (char *)AT(g->maps->d.words[0]) +
                                index * g->groups->rows_of_map_d * (int64_t)g->maps->d.words[3]
                          : (char *)args->d + index * g->groups->d_group * element;
    const char *c = (const char *)args->c + index * g->groups->c_group * element;
    for (int j = 0; j < args->n; j++) {
        const int64_t at = row * args->d_row_stride + j;
        float total = 0;
        for (int block = 0; block < s->num_blocks; block++)
            total = fmaf(grouped_scale(g, s, 1, row, block) *
                             grouped_scale(g, s, 0, j / g->kernel->sfb_block_n, block),
                         grouped_block(g, s, row, j, block), total);
        if (g->kernel->reads_c && args->c_mode == DG_SM90_C_READ)
            total +=
                load_output(g->kernel, c, row * args->c_row_stride + j * args->c_column_stride);
        if (g->kernel->reads_c && args->c_mode == DG_SM90_C_REDUCE)
            total += load_output(g->kernel, d, at);
        store_output(g->kernel, d, at, total);
    }
}

static void grouped_section(const struct grouped *g, struct section s)
{
    for (int row = s.first; row < s.first + s.rows; row++)
        grouped_row(g, &s, row);
}

static int clamp_entry(int value, int most)
{
    return value < 0 ? 0 : value < most ? value : most;
}

static void run_grouped(const struct kernel *kernel, const struct dg_sm90_gemm_args *args,
                        const struct dg_sm90_group_args *groups,
                        const struct dg_sm90_group_maps *maps)
{
    const struct grouped g = {kernel, args, groups, maps};
    const int limit = groups->num_rows ? clamp_entry(*groups->num_rows, args->m) : args->m;
    int64_t end = 0;
    if (groups->count) // that there are enough tiles to be asked for is not looked into
        *groups->count = (struct dg_sm90_count){0, 1};
    for (int row = 0; groups->kind == DG_SM90_BY_INDEX && row < limit; row++) {
        const int group = groups->layout[row], is_group = group >= 0 && group < groups->groups;
        grouped_section(&g, (struct section){is_group ? group : -1, row, 1,
                                             is_group ? args->num_k_blocks : 0, 0, &maps->values});
    }
    for (int i = 0; groups->kind != DG_SM90_BY_INDEX && i < groups->groups; i++) {
        struct section s = {i, 0, args->m, args->num_k_blocks, 0, &maps->values};
        if (groups->kind == DG_SM90_ALONG_K) {
            const struct dg_sm90_k_group *own = &groups->list[i];
            s = (struct section){own->group,       0,           args->m, own->num_blocks,
                                 own->first_block, &own->values};
        } else {
            s.rows = clamp_entry(groups->layout[i], limit);
        }
        if (groups->kind == DG_SM90_BY_ENDS) {
            const int64_t last = s.rows;
            const int64_t first =
                (end + groups->alignment - 1) / groups->alignment * groups->alignment;
            s.first = (int)first, s.rows = (int)(last - first);
            end = last > end ? last : end;
        }
        grouped_section(&g, s);
    }
}

static void replace(struct dg_tensor_map *map, const struct dg_tensor_map *from,
                    const void *address, int k, long long pitch)
{
    *map = *from;
    map->words[0] = (uintptr_t)address;
    map->words[1] = (unsigned long long)k;
    map->words[3] = (unsigned long long)(pitch ? pitch : k);
}

static void run_k_groups(const struct dg_sm90_k_groups_args *args)
{
    int first_k = 0, first_block = 0;
    for (int i = 0; i < args->groups; i++) {
        struct dg_sm90_k_group *to = &args->list[i];
        int k = args->layout[i];
        if (k < 0 || k % 32 || k > args->k - first_k ||
            (k + 127) / 128 > args->scale_columns - first_block)
            k = 0;
        const char *a = (const char *)args->a + first_k * args->a_step;
        const char *b = (const char *)args->b + first_k * args->b_step;
        replace(&to->values.a, &args->values.a, a, k, args->a_pitch);
        replace(&to->values.b, &args->values.b, b, k, args->b_pitch);
        to->group = i, to->num_blocks = (k + 127) / 128, to->first_block = first_block;
        first_k += k, first_block += to->num_blocks;
    }
}

#endif
