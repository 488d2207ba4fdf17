// SPDX-License-Identifier: MIT
// sm90_ring.cuh - a place in a ring of slots in shared memory, for the kernels whose loaders and math warps go round one.
#ifndef DG_SM90_RING_CUH
#define DG_SM90_RING_CUH

#include "sm90_ptx.cuh"

// Position in a ring of `count` slots; the parity flips each time round.
struct slot {
    u32 index, parity;
};

DG_DEVICE void next_slot(struct slot *slot, u32 count)
{
    if (++slot->index == count) {
        slot->index = 0;
        slot->parity ^= 1;
    }
}

#endif
