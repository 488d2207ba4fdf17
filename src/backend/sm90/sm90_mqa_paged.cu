// SPDX-License-Identifier: MIT
// sm90_mqa_paged.cu - paged MQA logits, for decoding: a few queries of each sequence against all its keys, which
// a block table finds in pages.
//
// The keys come from memory once and are hardly worked on, so this kernel is about bytes in flight.  The
// schedule (sm90_mqa_schedule.cu) gives each CTA a run of chunks of 128 positions, over as many sequences as
// it takes.  Roles of the warps:
//
//     key loader     waits empty[s]    TMA boxes of a chunk's pages and their scales  -> full[s]
//     query loader   waits q_empty[u]  q by TMA, weights and lengths of a sequence    -> q_full[u]
//     fill warps     minus infinity outside of all lengths
//     math groups    wait  full[s]     64 positions each: products, weighted sums, stores  -> empty[s]
//
// Nothing in schedule, lengths or table is trusted: sequences and chunks are cut to what there is, and a page
// outside of the cache is outside of its tensor map, which reads zeros.
//
// Compile-time parameters: see sm90_mqa.cuh.
#include "sm90_mqa.cuh"

enum {
    STAGE_KEYS = DG_SM90_MQA_CHUNK,
    KEY_BYTES = STAGE_KEYS * DG_DEPTH,
    SCALE_BYTES = 1024, // of each page its scales, at multiples of 128 bytes
    // Info of a sequence, words: [scores of each query][first position][chunks][first row]
    INFO_FIRST = 4,
    INFO_CHUNKS,
    INFO_ROW,
    INFO_BYTES = 128,
    // Shared memory
    SCALES_AT = DG_NUM_STAGES * KEY_BYTES,
    Q_AT = SCALES_AT + DG_NUM_STAGES * SCALE_BYTES,
    WEIGHTS_AT = Q_AT + DG_Q_SLOTS * Q_BYTES,
    INFO_AT = WEIGHTS_AT + DG_Q_SLOTS * WEIGHT_BYTES,
    FULL_AT = INFO_AT + DG_Q_SLOTS * INFO_BYTES,
    EMPTY_AT = FULL_AT + DG_NUM_STAGES * 8,
    Q_FULL_AT = EMPTY_AT + DG_NUM_STAGES * 8,
    Q_EMPTY_AT = Q_FULL_AT + DG_Q_SLOTS * 8,
};

// ---- who does what ----

// Scores of query `token` of a sequence.
DG_DEVICE int length_of(const struct dg_sm90_mqa_args *args, int sequence, int token)
{
    const int at = args->lengths_per_row ? sequence * args->next_n + token : sequence;
    const i64 back = !args->lengths_per_row && args->is_clean ? args->next_n - 1 - token : 0;
    return (int)max(min((i64)args->lengths[at] - back, (i64)args->max_length), (i64)0);
}

DG_DEVICE struct columns columns_of(const struct dg_sm90_mqa_args *args, int row)
{
    struct columns columns = {0, length_of(args, row / args->next_n, row % args->next_n)};
    return columns;
}

// Chunks of a sequence, by a whole warp: those of the longest of its queries, as the schedule counts them.
DG_DEVICE int count_chunks(const struct dg_sm90_mqa_args *args, int sequence)
{
    const int count = args->lengths_per_row ? args->next_n : 1;
    int longest = 0;
    for (int i = threadIdx.x % 32; i < count; i += 32)
        longest = max(longest, args->lengths[(i64)sequence * count + i]);
    longest = min(__reduce_max_sync(~0u, longest), args->max_length);
    return (int)(((u32)longest + STAGE_KEYS - 1) / STAGE_KEYS);
}

// What a CTA still has to do: from `chunk` of `sequence` on, up to `last_chunk` of `last`, exclusive.
struct share {
    int sequence, chunk, last, last_chunk;
};

// 0: the schedule is not for this launch.
DG_DEVICE int find_share(const struct dg_sm90_mqa_args *args, struct share *share)
{
    const int *begin = args->schedule + 2 * (i64)blockIdx.x,
              *made_for = args->schedule + 2 * (i64)args->num_workers;
    const int is_last = (int)blockIdx.x + 1 == args->num_workers;
    share->sequence = max(begin[0], 0);
    share->chunk = max(begin[1], 0);
    share->last = is_last ? args->batch : min(max(begin[2], 0), args->batch);
    share->last_chunk = is_last ? 0 : max(begin[3], 0);
    return made_for[0] == args->batch && made_for[1] == args->num_workers;
}

struct work {
    int sequence, first, chunks; // chunks == 0: nothing is left
};

DG_DEVICE struct work next_work(const struct dg_sm90_mqa_args *args, struct share *share)
{
    struct work work = {0, 0, 0};
    while (work.chunks <= 0 && share->sequence < args->batch &&
           (share->sequence < share->last ||
            (share->sequence == share->last && share->chunk < share->last_chunk))) {
        const int count = count_chunks(args, share->sequence);
        work.sequence = share->sequence;
        work.first = share->chunk;
        work.chunks =
            (share->sequence == share->last ? min(share->last_chunk, count) : count) - share->chunk;
        share->sequence++;
        share->chunk = 0;
    }
    work.chunks = max(work.chunks, 0);
    return work;
}

// ---- loaders: one warp each ----

// Page ids from place `page` of the sequence's row on, one for each lane.
DG_DEVICE int read_table(const struct dg_sm90_mqa_args *args, int sequence, i64 page)
{
    const i64 at = page + threadIdx.x % 32;
    return at < args->max_pages ? args->block_table[sequence * args->block_table_stride + at] : -1;
}

DG_DEVICE void load_chunk(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps,
                          u32 smem, struct slot slot, int page)
{
    const u32 lane = threadIdx.x % 32, full = smem + FULL_AT + slot.index * 8;
    const u32 pages = STAGE_KEYS / args->page_size, scale_bytes = args->page_size * 4;
    dg_mbarrier_wait(smem + EMPTY_AT + slot.index * 8, slot.parity ^ 1);
    if (lane == 0)
        dg_mbarrier_arrive_expect_tx(full, KEY_BYTES + STAGE_KEYS * 4);
    __syncwarp();
    if (lane < pages) {
        dg_tma_load_3d(smem + slot.index * KEY_BYTES + lane * args->page_size * DG_DEPTH, &maps->kv,
                       full, 0, 0, page);
        dg_tma_load_2d(smem + SCALES_AT + slot.index * SCALE_BYTES + lane * max(scale_bytes, 128),
                       &maps->scales, full, 0, page);
    }
}

DG_DEVICE void load_keys(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps,
                         u32 smem, struct share share)
{
    const int per_chunk = STAGE_KEYS / args->page_size;
    struct slot slot = {0, 0};
    // The table is read before the length is known.
    const struct share begin = share;
    int ids = begin.sequence < args->batch
                  ? read_table(args, begin.sequence, (i64)begin.chunk * per_chunk)
                  : 0;
    for (struct work work = next_work(args, &share); work.chunks; work = next_work(args, &share)) {
        if (work.sequence != begin.sequence)
            ids = read_table(args, work.sequence, (i64)work.first * per_chunk);
        for (int chunk = 0; chunk < work.chunks;) {
            const i64 then = (i64)(work.first + chunk) * per_chunk + 32;
            const int next_ids = chunk * per_chunk + 32 < work.chunks * per_chunk
                                     ? read_table(args, work.sequence, then)
                                     : 0;
            for (int i = 0; i < 32 && chunk < work.chunks;
                 i += per_chunk, chunk++, next_slot(&slot, DG_NUM_STAGES))
                load_chunk(args, maps, smem, slot,
                           __shfl_sync(~0u, ids, i + threadIdx.x % per_chunk));
            ids = next_ids;
        }
    }
}

DG_DEVICE void load_sequences(const struct dg_sm90_mqa_args *args,
                              const struct dg_sm90_mqa_maps *maps, u32 smem, struct share share)
{
    const int lane = threadIdx.x % 32;
    struct slot slot = {0, 0};
    struct work work;
    do {
        work = next_work(args, &share);
        const u32 full = smem + Q_FULL_AT + slot.index * 8,
                  info = smem + INFO_AT + slot.index * INFO_BYTES;
        const int row = work.sequence * args->next_n + args->first_token;
        dg_mbarrier_wait(smem + Q_EMPTY_AT + slot.index * 8, slot.parity ^ 1);
        if (lane == 0 && work.chunks) {
            dg_mbarrier_expect_tx(full, Q_BYTES);
            load_queries(smem + Q_AT + slot.index * Q_BYTES, &maps->q, full, row);
        }
        for (int i = 0; i < args->num_tokens && work.chunks; i++)
            load_weights(smem + WEIGHTS_AT + slot.index * WEIGHT_BYTES, args, i, row + i);
        if (lane < 4)
            dg_st_shared_u32(info + lane * 4,
                             lane < args->num_tokens && work.chunks
                                 ? length_of(args, work.sequence, args->first_token + lane)
                                 : 0);
        if (lane == 0) {
            dg_st_shared_u32(info + INFO_FIRST * 4, work.first * STAGE_KEYS);
            dg_st_shared_u32(info + INFO_CHUNKS * 4, work.chunks);
            dg_st_shared_u32(info + INFO_ROW * 4, row);
        }
        __syncwarp();
        if (lane == 0)
            dg_mbarrier_arrive(full);
        next_slot(&slot, DG_Q_SLOTS);
    } while (work.chunks);
}

// ---- math groups ----

// What a thread knows of its query: where the score of its first row of keys goes, and how many there are.
struct query {
    char *at;
    int position, length;
};

DG_DEVICE struct query read_query(const struct dg_sm90_mqa_args *args, u32 info, u32 group)
{
    const u32 lane = threadIdx.x % 32, index = lane % 4 / DG_LANES;
    struct query query;
    query.length = dg_ld_shared(info + index * 4);
    query.position =
        dg_ld_shared(info + INFO_FIRST * 4) + group * 64 + threadIdx.x / 32 % 4 * 16 + lane / 4;
    // Of the lanes that share a query the first one stores the first row, the second one the second.
    query.position += DG_LANES > 1 ? lane % DG_LANES * 8 : 0;
    if (DG_LANES == 4 && lane % 4 > 1)
        query.length = 0;
    query.at = logits_row(args, dg_ld_shared(info + INFO_ROW * 4) + index) +
               (i64)query.position * LOGIT_BYTES;
    return query;
}

DG_DEVICE void store_scores(const struct dg_sm90_mqa_args *args, const float *sums,
                            struct query *query, const float *scales)
{
    float joined[2];
    join_lanes(sums, joined);
    if (DG_LANES > 1) {
        const int second = threadIdx.x % DG_LANES == 1;
        if (query->position < query->length)
            store_logit(query->at, second ? joined[1] * scales[1] : joined[0] * scales[0]);
    } else {
        if (query->position < query->length)
            store_logit(query->at, joined[0] * scales[0]);
        if (query->position + 8 < query->length)
            store_logit(query->at + 8 * LOGIT_BYTES, joined[1] * scales[1]);
    }
    query->at += STAGE_KEYS * LOGIT_BYTES;
    query->position += STAGE_KEYS;
}

// 64 positions of a chunk.  `scales_at`: this thread's first scale of slot 0.
DG_DEVICE void work_chunk(const struct dg_sm90_mqa_args *args, u32 smem, u32 keys, u32 q,
                          u32 weights_at, u32 scales_at, struct slot slot, float *weights,
                          struct query *query)
{
    enum { SETS = DG_PIECES > 1 ? 2 : 1 };
    float acc[SETS][ACC], sums[4] = {0, 0, 0, 0}, scales[2];
    dg_mbarrier_wait(smem + FULL_AT + slot.index * 8, slot.parity);
    start_product(acc[0], keys + slot.index * KEY_BYTES, q);
#pragma unroll
    for (int i = 0; i < 2; i++)
        scales[i] = __uint_as_float(dg_ld_shared(scales_at + slot.index * SCALE_BYTES + i * 32));
    dg_wgmma_wait(acc[0]);
#pragma unroll
    for (int piece = 0; piece < DG_PIECES; piece++) {
        const int has_next = piece + 1 < DG_PIECES;
        if (has_next)
            start_product(acc[(piece + 1) % SETS], keys + slot.index * KEY_BYTES,
                          q + (piece + 1) * PIECE_BYTES);
        else {
            __syncwarp(); // all lanes have their scales
            if (threadIdx.x % 32 == 0)
                dg_mbarrier_arrive(smem + EMPTY_AT + slot.index * 8);
        }
        if (DG_PIECES > 1)
            read_weights(weights, weights_at + piece * (2 * DG_HEAD_ROWS * 4));
        add_scores(sums, acc[piece % SETS], weights);
        if (has_next)
            dg_wgmma_wait(acc[(piece + 1) % SETS]);
    }
    store_scores(args, sums, query, scales);
}

DG_DEVICE void work_sequence(const struct dg_sm90_mqa_args *args, u32 smem, u32 group,
                             u32 unit_slot, int chunks, struct slot *slot)
{
    const u32 weights_at =
        smem + WEIGHTS_AT + unit_slot * WEIGHT_BYTES + threadIdx.x % 4 * (LANE_WEIGHTS * 4);
    // The 16 positions of a warp are always in one page.
    const int key = group * 64 + threadIdx.x / 32 % 4 * 16, inside = key % args->page_size;
    const u32 scales_at = smem + SCALES_AT + key / args->page_size * max(args->page_size * 4, 128) +
                          (inside + threadIdx.x % 32 / 4) * 4;
    float weights[2 * DG_HEAD_ROWS];
    struct query query = read_query(args, smem + INFO_AT + unit_slot * INFO_BYTES, group);
    if (DG_PIECES == 1)
        read_weights(weights, weights_at);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; chunk++, next_slot(slot, DG_NUM_STAGES))
        work_chunk(args, smem, smem + group * (64 * DG_DEPTH), smem + Q_AT + unit_slot * Q_BYTES,
                   weights_at, scales_at, *slot, weights, &query);
}

DG_DEVICE void work_all(const struct dg_sm90_mqa_args *args, u32 smem, u32 warp)
{
    struct slot slot = {0, 0}, unit = {0, 0};
    for (;; next_slot(&unit, DG_Q_SLOTS)) {
        dg_mbarrier_wait(smem + Q_FULL_AT + unit.index * 8, unit.parity);
        const int chunks = dg_ld_shared(smem + INFO_AT + unit.index * INFO_BYTES + INFO_CHUNKS * 4);
        if (chunks == 0)
            return;
        work_sequence(args, smem, warp / 4, unit.index, chunks, &slot);
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            dg_mbarrier_arrive(smem + Q_EMPTY_AT + unit.index * 8);
    }
}

// ---- the kernel ----

DG_DEVICE void fill_all(const struct dg_sm90_mqa_args *args, u32 warp, int is_valid)
{
    const u32 minus_infinity = 0xff800000u, nan = 0x7fffffffu;
    if (args->is_filled || !is_valid)
        fill_rows(args, blockIdx.x * FILL_WARPS + warp % FILL_WARPS, gridDim.x * FILL_WARPS,
                  is_valid ? minus_infinity : nan, !is_valid);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_mqa_args args,
             const __grid_constant__ struct dg_sm90_mqa_maps maps)
{
    extern __shared__ __align__(1024) char shared[];
    const u32 smem = dg_smem_address(shared);
    const u32 warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    struct share share;

    if (threadIdx.x == 0) {
        dg_prefetch_tensormap(&maps.kv);
        dg_prefetch_tensormap(&maps.scales);
        dg_prefetch_tensormap(&maps.q);
    }
    dg_griddepcontrol_wait();
    const int is_valid = find_share(&args, &share);
    prepare_shared(smem + FULL_AT, smem + WEIGHTS_AT, DG_Q_SLOTS * WEIGHT_BYTES);
    if (warp >= 4 * MATH_GROUPS) {
        DG_SETMAXNREG_DEC(40);
        if (warp == 4 * MATH_GROUPS && is_valid)
            load_keys(&args, &maps, smem, share);
        else if (warp == 4 * MATH_GROUPS + 1 && is_valid)
            load_sequences(&args, &maps, smem, share);
        else if (warp >= 4 * MATH_GROUPS + 2)
            fill_all(&args, warp, is_valid);
        dg_griddepcontrol_launch_dependents();
    } else {
        DG_SETMAXNREG_INC(232);
        if (is_valid)
            work_all(&args, smem, warp);
    }
}
