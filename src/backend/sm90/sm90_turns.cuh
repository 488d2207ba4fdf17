// SPDX-License-Identifier: MIT
// sm90_turns.cuh - a k loop for two math groups that take turns at the tensor cores, for scales per column (1D1D).
//
// Promotion with a scale for each column takes as long as the products of a k-block, and groups that multiply at the
// same time promote at the same time, while the tensor cores have nothing to do.  They drift into that by themselves:
// a group whose promotion meets the other's products is slower, until it is in step.  So one begins its products when
// the other's first have come:
//
//     group 0    Q1 Q2 Q3 Q4 | promote         Q1 Q2 Q3 Q4 | promote
//     group 1                  Q1 Q2 Q3 Q4 | promote         Q1 Q2 Q3 Q4
//
// What the products are promoted with is worked out while they are made, from scales that were read a k-block ahead.
// docs/decisions/0018-math-groups-in-turn.md has what that is worth.  After sm90_multiply.cuh, whose names it uses.
#ifndef DG_SM90_TURNS_CUH
#define DG_SM90_TURNS_CUH

// Wider tiles have no registers for the factors, and for two pieces of rows it wins nothing.
enum { TAKES_TURNS = DG_SFB_BLOCK_N == 1 && DG_MATH_GROUPS == 2 && DG_BLOCK_M == 128 && DG_BLOCK_N == 128 };

// Barrier 0 is start_ring's; at 1 + group a group waits for its turn, and the other arrives.
DG_DEVICE void take_turn(u32 group)
{
    dg_barrier_sync(1 + group, 256);
}

DG_DEVICE void hand_on(u32 group)
{
    dg_barrier_arrive(1 + (group ^ 1), 256);
}

// Group 0 has the first turn, and takes the last, with nothing to do.
DG_DEVICE void start_turns(u32 group)
{
    if (TAKES_TURNS && group == 1)
        hand_on(group);
}

DG_DEVICE void end_turns(u32 group)
{
    if (TAKES_TURNS && group == 0)
        take_turn(group);
}

// What each of a thread's products of a k-block is multiplied with.
DG_DEVICE void work_out_factors(const struct scales *scales, float *factor)
{
#pragma unroll
    for (int i = 0; i < ACC; i++) {
        factor[i] = column_factor(scales->a[0], scales->b, i);
        dg_compute_float_here(&factor[i]);
    }
}

// Waits for a slot and reads all of its scales.
DG_DEVICE void enter_with_columns(u32 smem, struct slot slot, int block, struct scales *scales)
{
    enter_slot(smem, slot, block, 0, 1, 0, scales);
    read_scales_b(smem + SCALE_AT + slot.index * SCALE_BYTES, block, 0, scales);
}

// total = the sum over the next num_blocks slots.  The arguments are those of multiply_at.
DG_DEVICE void multiply_in_turn(u32 smem, struct slot *slot, u32 group, int over_m, int over_n, int num_blocks,
                                float *total)
{
    const struct offsets offsets = offsets_of(group, over_m, over_n);
    struct scales scales;
    enter_with_columns(smem, *slot, 0, &scales);
    struct operands at = operands_in(smem, *slot, offsets);
#pragma unroll 1
    for (int block = 0; block < num_blocks; block++) {
        const u32 empty = smem + EMPTY_AT + slot->index * 8;
        float part[ACC], factor[ACC];
        take_turn(group);
        start_products(part, at, 0, 1);
        next_slot(slot, DG_NUM_STAGES);
        at = operands_in(smem, *slot, offsets);
        dg_compute_here(&at.a);
        dg_compute_here(&at.b);
        work_out_factors(&scales, factor);
        dg_wgmma_wait_1(part); // by now the tensor cores are done with most of the rest, too
        hand_on(group);
        if (block + 1 < num_blocks)
            enter_with_columns(smem, *slot, block + 1, &scales);
        dg_wgmma_wait(part);
        release_slot(empty);
#pragma unroll
        for (int i = 0; i < ACC; i++)
            total[i] = fmaf(factor[i], part[i], total[i]);
    }
}

#endif
