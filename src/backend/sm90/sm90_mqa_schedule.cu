// SPDX-License-Identifier: MIT
// sm90_mqa_schedule.cu - deals the chunks of all sequences out to the workers of paged MQA logits.
//
// All chunks stand in one line, sequence after sequence; worker w begins at chunk floor(total * w / workers)
// of it.  Each thread adds up a run of sequences; the one whose run a worker begins in writes that worker's
// row: {sequence, chunk of it}.  One CTA; any number of sequences.
#include "sm90_mqa_args.h"
#include "sm90_ptx.cuh"

enum { THREADS = 512 };

DG_DEVICE i64 count_chunks(const struct dg_sm90_mqa_schedule_args *args, int sequence)
{
    int longest = 0;
    for (int i = 0; i < args->lengths_per_sequence; i++)
        longest = max(longest, args->lengths[(i64)sequence * args->lengths_per_sequence + i]);
    return ((u32)longest + DG_SM90_MQA_CHUNK - 1) / DG_SM90_MQA_CHUNK;
}

// The sum of `value` over the threads before this one; *total over all.
DG_DEVICE i64 scan(i64 value, i64 *total)
{
    __shared__ i64 sums[THREADS / 32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    i64 sum = value;
    for (int i = 1; i < 32; i *= 2) {
        const i64 other = __shfl_up_sync(~0u, sum, i);
        sum += lane >= i ? other : 0;
    }
    if (lane == 31)
        sums[warp] = sum;
    __syncthreads();
    *total = 0;
    for (int i = 0; i < THREADS / 32; i++) {
        sum += i < warp ? sums[i] : 0;
        *total += sums[i];
    }
    return sum - value;
}

DG_DEVICE void write_row(const struct dg_sm90_mqa_schedule_args *args, i64 row, int first,
                         int second)
{
    args->schedule[2 * row] = first;
    args->schedule[2 * row + 1] = second;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_mqa_schedule_args args)
{
    const int run = (int)(((i64)args.batch + THREADS - 1) / THREADS);
    const int first = (int)min((i64)threadIdx.x * run, (i64)args.batch);
    const int last = (int)min((i64)first + run, (i64)args.batch), workers = args.num_workers;
    i64 own = 0, total;
    dg_griddepcontrol_wait();
    for (int sequence = first; sequence < last; sequence++)
        own += count_chunks(&args, sequence);
    i64 before = scan(own, &total);
    // The first worker that begins at `before` or behind it.
    i64 worker = total ? (before * workers + total - 1) / total : workers;
    for (int sequence = first; sequence < last && worker < workers; sequence++) {
        const i64 chunks = count_chunks(&args, sequence);
        for (i64 begin; worker < workers && (begin = total * worker / workers) < before + chunks;
             worker++)
            write_row(&args, worker, sequence, (int)(begin - before));
        before += chunks;
    }
    if (total == 0)
        for (int i = threadIdx.x; i < workers; i += THREADS)
            write_row(&args, i, args.batch, 0);
    if (threadIdx.x == 0)
        write_row(&args, workers, args.batch, workers);
    dg_griddepcontrol_launch_dependents();
}
