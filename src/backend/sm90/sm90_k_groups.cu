// SPDX-License-Identifier: MIT
// sm90_k_groups.cu - for groups along k, whose sizes are in device memory: where each begins, and TMA
// descriptors of its values.  A warp makes the entry of a group; the longest groups come first in the list, so
// that a CTA's last tile is a short one.
//
// A size that is negative, no multiple of 32 or more than what the groups before it left counts as 0.
#include "sm90_ptx.cuh"

enum { WARPS = 4, MOST_SORTED = 4096 };

struct group {
    int k, first_k, first_block;
};

DG_DEVICE int size_of(const struct dg_sm90_k_groups_args *args, int group)
{
    const int k = group < args->groups ? args->layout[group] : 0;
    return k > 0 && k % 32 == 0 && k <= args->k ? k : 0;
}

// The sums over all lanes up to this one.
DG_DEVICE i64 sum_lanes(i64 value)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const i64 other = __shfl_up_sync(~0u, value, step);
        value += lane >= step ? other : 0;
    }
    return value;
}

// What the groups have before `wanted`, group by group: one that does not fit takes nothing.
DG_DEVICE void find_slowly(const struct dg_sm90_k_groups_args *args, int wanted, struct group *found)
{
    found->first_k = found->first_block = 0;
    for (int group = 0;; group++) {
        int k = size_of(args, group);
        if (k > args->k - found->first_k || (k + 127) / 128 > args->scale_columns - found->first_block)
            k = 0;
        found->k = k;
        if (group == wanted)
            return;
        found->first_k += k;
        found->first_block += (k + 127) / 128;
    }
}

// The same for sizes that fit, by 32 at a time.
DG_DEVICE void find(const struct dg_sm90_k_groups_args *args, int wanted, struct group *found)
{
    const int lane = threadIdx.x % 32;
    i64 values = 0, blocks = 0;
    for (int window = 0; window <= wanted; window += 32) {
        const int group = window + lane, k = group <= wanted ? size_of(args, group) : 0;
        const i64 values_through = values + sum_lanes(k), blocks_through = blocks + sum_lanes((k + 127) / 128);
        const int owner = wanted - window & 31;
        found->k = __shfl_sync(~0u, k, owner);
        values = __shfl_sync(~0u, values_through, 31);
        blocks = __shfl_sync(~0u, blocks_through, 31);
    }
    found->first_k = (int)(values - found->k);
    found->first_block = (int)(blocks - (found->k + 127) / 128);
    if (values > args->k || blocks > args->scale_columns)
        find_slowly(args, wanted, found);
}

// The group's place when longer ones come first.
DG_DEVICE int place_of(const struct dg_sm90_k_groups_args *args, int wanted)
{
    const int k = size_of(args, wanted);
    int place = 0;
    if (args->groups > MOST_SORTED)
        return wanted;
    for (int window = 0; window < args->groups; window += 32) {
        const int group = window + threadIdx.x % 32, other = size_of(args, group);
        place += __popc(__ballot_sync(~0u, group < args->groups && (other > k || (other == k && group < wanted))));
    }
    return place;
}

DG_DEVICE void make_map(u32 smem, const struct dg_tensor_map *from, struct dg_tensor_map *to, const void *address, int k,
                        i64 pitch)
{
    const int lane = threadIdx.x % 32;
    dg_st_shared_word(smem + lane * 4, ((const u32 *)from)[lane]);
    __syncwarp();
    if (lane == 0)
        dg_tensormap_replace(smem, (u64)address, k, pitch);
    __syncwarp();
    dg_tensormap_cp_fenceproxy(to, smem);
    __syncwarp();
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    sm90_k_groups(const __grid_constant__ struct dg_sm90_k_groups_args args)
{
    __shared__ __align__(128) struct dg_tensor_map scratch[WARPS];
    const int wanted = blockIdx.x * WARPS + threadIdx.x / 32;
    const u32 smem = dg_smem_address(&scratch[threadIdx.x / 32]);
    struct group group;

    dg_griddepcontrol_wait();
    if (wanted >= args.groups)
        return;
    find(&args, wanted, &group);
    struct dg_sm90_k_group *entry = args.list + place_of(&args, wanted);
    if (group.k > 0) {
        const char *a = (const char *)args.a + group.first_k * args.a_step;
        const char *b = (const char *)args.b + group.first_k * args.b_step;
        const i64 a_pitch = args.a_pitch ? args.a_pitch : group.k, b_pitch = args.b_pitch ? args.b_pitch : group.k;
        make_map(smem, &args.values.a, &entry->values.a, a, group.k, a_pitch);
        make_map(smem, &args.values.a_piece, &entry->values.a_piece, a, group.k, a_pitch);
        make_map(smem, &args.values.b, &entry->values.b, b, group.k, b_pitch);
    }
    if (threadIdx.x % 32 == 0) {
        entry->group = wanted;
        entry->num_blocks = (group.k + 127) / 128;
        entry->first_block = group.first_block;
    }
}
