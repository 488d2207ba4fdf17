// SPDX-License-Identifier: MIT
// sm90_mqa_paged.cu - paged MQA logits, for decoding: a few queries of each sequence against all its keys, which
// a block table finds in pages.
//
// The keys come from memory once and are hardly worked on, so this kernel is about bytes in flight.  The
// schedule (sm90_mqa_schedule.cu) gives each CTA a run of chunks of 128 positions, over as many sequences as
// it takes.  Roles of the warps:
//
//     key loaders    wait  empty[s]    TMA boxes of 64 keys and their scales       -> full[s]
//     query loader   waits q_empty[u]  q by TMA, weights and lengths of a sequence  -> q_full[u]
//     fill warp      minus infinity outside of all lengths
//     math groups    wait  full[s]     products, weighted sums, stores              -> empty[s]
//
// The math groups take turns at the stages.  A page of 64 keys and its scales follow one another, and come as one
// box of rows of DG_DEPTH bytes (args.merged_rows).  Smaller pages take several boxes, and two key loaders, which take
// turns too; with large ones a second loader would only get in the first one's way.
//
// Nothing in schedule, lengths or table is trusted: sequences and chunks are cut to what there is, and a page
// outside of the cache is outside of its tensor map, which reads zeros.
//
// Compile-time parameters: see sm90_mqa.cuh.
#include "sm90_mqa.cuh"

enum {
    STAGE_KEYS = 64,
    MOST_PAGES = STAGE_KEYS / 16, // of a stage
    MOST_KEY_LOADERS = 2,
    CHUNK_STAGES = DG_SM90_MQA_CHUNK / STAGE_KEYS,
    KEY_BYTES = STAGE_KEYS * DG_DEPTH,
    STAGE_BYTES = KEY_BYTES + 1024, // keys, scales: of each page at multiples of 128 bytes
    // Info of a sequence, words: [scores of each query][first position][stages][first row]
    INFO_FIRST = 4,
    INFO_STAGES,
    INFO_ROW,
    INFO_BYTES = 128,
    // Shared memory
    Q_AT = DG_NUM_STAGES * STAGE_BYTES,
    WEIGHTS_AT = Q_AT + DG_Q_SLOTS * HEADS_BYTES,
    INFO_AT = WEIGHTS_AT + DG_Q_SLOTS * WEIGHT_BYTES,
    FILL_AT = INFO_AT + DG_Q_SLOTS * INFO_BYTES,
    FULL_AT = FILL_AT + FILL_BYTES,
    EMPTY_AT = FULL_AT + DG_NUM_STAGES * 8,
    Q_FULL_AT = EMPTY_AT + DG_NUM_STAGES * 8,
    Q_EMPTY_AT = Q_FULL_AT + DG_Q_SLOTS * 8,
};
static_assert(DG_NUM_STAGES % DG_MATH_GROUPS == 0 && DG_NUM_STAGES % MOST_KEY_LOADERS == 0,
              "who skips a lap would mistake the parity");

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

// Stages of a sequence, by a whole warp: those of the longest of its queries, as the schedule counts.
DG_DEVICE int count_stages(const struct dg_sm90_mqa_args *args, int sequence)
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
    int sequence, first, stages; // first: stage of the sequence; stages == 0: nothing is left
};

DG_DEVICE struct work next_work(const struct dg_sm90_mqa_args *args, struct share *share)
{
    struct work work = {0, 0, 0};
    while (work.stages <= 0 && share->sequence < args->batch &&
           (share->sequence < share->last ||
            (share->sequence == share->last && share->chunk < share->last_chunk))) {
        const i64 stages = count_stages(args, share->sequence), first = (i64)share->chunk * CHUNK_STAGES;
        const i64 end = share->sequence == share->last ? min((i64)share->last_chunk * CHUNK_STAGES, stages) : stages;
        work.sequence = share->sequence;
        work.first = (int)min(first, end);
        work.stages = (int)max(end - first, (i64)0);
        share->sequence++;
        share->chunk = 0;
    }
    return work;
}

// ---- loaders: one warp each ----

// Page ids of a sequence, 32 at a time and the next ones ahead: lane l has those of places first + l.
struct pages {
    int first; // place in the sequence's row of the table
    int ids, next_ids;
};

DG_DEVICE int read_table(const struct dg_sm90_mqa_args *args, int sequence, i64 place)
{
    const i64 at = place + threadIdx.x % 32;
    return at < args->max_pages ? args->block_table[sequence * args->block_table_stride + at] : -1;
}

DG_DEVICE struct pages read_pages(const struct dg_sm90_mqa_args *args, int sequence, i64 stage)
{
    const i64 first = min(stage * STAGE_KEYS >> args->page_shift, (i64)0x7fffff00);
    struct pages pages = {(int)first, read_table(args, sequence, first), read_table(args, sequence, first + 32)};
    return pages;
}

// The keys of one stage.  `first_key`: the first one of its pages, whose ids are those of lanes `place` and on.
DG_DEVICE void load_stage(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps, u32 smem,
                          struct slot slot, int ids, int place, int first_key)
{
    const u32 full = smem + FULL_AT + slot.index * 8, keys = smem + slot.index * STAGE_BYTES;
    const u32 page_keys = min(args->page_size, (int)STAGE_KEYS);
    int page[MOST_PAGES];
#pragma unroll
    for (int i = 0; i < MOST_PAGES; i++)
        page[i] = __shfl_sync(~0u, ids, place + i);
    dg_mbarrier_wait(smem + EMPTY_AT + slot.index * 8, slot.parity ^ 1);
    if (dg_elect()) {
        dg_mbarrier_arrive_expect_tx(full, args->merged_rows ? args->merged_rows * DG_DEPTH
                                                              : KEY_BYTES + STAGE_KEYS * 4);
#pragma unroll
        for (u32 i = 0; i < MOST_PAGES; i++) {
            if (i * page_keys >= STAGE_KEYS)
                break;
            dg_tma_load_3d(keys + i * page_keys * DG_DEPTH, &maps->kv, full, 0, first_key, page[i]);
            if (!args->merged_rows)
                dg_tma_load_2d(keys + KEY_BYTES + i * max(page_keys * 4, 128), &maps->scales, full, first_key, page[i]);
        }
    }
    __syncwarp();
}

DG_DEVICE u32 key_loaders(const struct dg_sm90_mqa_args *args)
{
    return args->page_size < STAGE_KEYS ? MOST_KEY_LOADERS : 1;
}

// `turn`: of the loader, which takes every `loaders`-th stage.
DG_DEVICE void load_keys(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps,
                         u32 smem, struct share share, u32 turn, u32 loaders)
{
    struct slot slot = {turn, 0};
    struct pages pages = {0, 0, 0};
    int stage = turn; // the loader's next one, counted in the sequence's part
    // The table is read before the length is known.
    const int sequence = share.sequence;
    if (sequence < args->batch)
        pages = read_pages(args, sequence, (i64)share.chunk * CHUNK_STAGES);
    for (struct work work = next_work(args, &share); work.stages; work = next_work(args, &share)) {
        if (work.sequence != sequence)
            pages = read_pages(args, work.sequence, work.first);
        for (; stage < work.stages; stage += loaders, skip_slots(&slot, loaders)) {
            const int key = (work.first + stage) * STAGE_KEYS;
            int place = (key >> args->page_shift) - pages.first;
            if (place >= 32) {
                place -= 32;
                pages.first += 32;
                pages.ids = pages.next_ids;
                pages.next_ids = read_table(args, work.sequence, pages.first + 32);
            }
            load_stage(args, maps, smem, slot, pages.ids, place, key & (args->page_size - 1));
        }
        stage -= work.stages;
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
        if (work.stages && dg_elect()) {
            dg_mbarrier_expect_tx(full, HEADS_BYTES);
            load_queries(smem + Q_AT + slot.index * HEADS_BYTES, &maps->q, full, row);
        }
        if (work.stages) {
            const struct weights weights = fetch_weights(args, row, args->num_tokens);
            store_weights(smem + WEIGHTS_AT + slot.index * WEIGHT_BYTES, args, &weights);
        }
        if (lane < 4)
            dg_st_shared_word(info + lane * 4,
                              lane < args->num_tokens && work.stages
                                  ? length_of(args, work.sequence, args->first_token + lane)
                                  : 0);
        if (lane == 0) {
            dg_st_shared_word(info + INFO_FIRST * 4, work.first * STAGE_KEYS);
            dg_st_shared_word(info + INFO_STAGES * 4, work.stages);
            dg_st_shared_word(info + INFO_ROW * 4, row);
        }
        dg_mbarrier_arrive(full);
        next_slot(&slot, DG_Q_SLOTS);
    } while (work.stages);
}

// ---- math groups ----

// What a thread knows of its query: where its next score goes, of which key, and how many there are.
struct query {
    char *at;
    int position, length;
};

// `stage`: the group's first one of the unit.
DG_DEVICE struct query read_query(const struct dg_sm90_mqa_args *args, u32 info, int stage)
{
    const u32 lane = threadIdx.x % 32, index = lane % 4 / DG_LANES;
    struct query query;
    query.length = dg_ld_shared(info + index * 4);
    query.position = dg_ld_shared(info + INFO_FIRST * 4) + stage * STAGE_KEYS + threadIdx.x / 32 % 4 * 16 + lane / 4;
    // Of the lanes that share a query the first one has the first row's score, the second one the second's.
    query.position += DG_LANES > 1 ? lane % DG_LANES % 2 * 8 : 0;
    if (DG_LANES == 4 && lane % 4 > 1)
        query.length = 0;
    query.at = logits_row(args, dg_ld_shared(info + INFO_ROW * 4) + index) + (i64)query.position * LOGIT_BYTES;
    return query;
}

// Adds the scores of a thread's two rows up over all lanes of the query.  The first lane is left with that of
// the first row in scores[0], the second lane with that of the second row.
DG_DEVICE void join_lanes(float *scores)
{
    if (DG_LANES > 1) {
        const int is_second = threadIdx.x % 2;
        const float sent = is_second ? scores[0] : scores[1];
        scores[0] = (is_second ? scores[1] : scores[0]) + __shfl_xor_sync(~0u, sent, 1);
    }
    if (DG_LANES > 2)
        scores[0] += __shfl_xor_sync(~0u, scores[0], 2);
}

// Stores the scores of a stage and goes on to the group's next.
DG_DEVICE void store_scores(const float *sums, struct query *query, const float *scales)
{
    float scores[2] = {fmaf(2.0f, sums[0], sums[1]) * scales[0], fmaf(2.0f, sums[2], sums[3]) * scales[1]};
    join_lanes(scores);
    if (query->position < query->length)
        store_logit(query->at, scores[0]);
    if (DG_LANES == 1 && query->position + 8 < query->length)
        store_logit(query->at + 8 * LOGIT_BYTES, scores[1]);
    query->at += DG_MATH_GROUPS * STAGE_KEYS * LOGIT_BYTES;
    query->position += DG_MATH_GROUPS * STAGE_KEYS;
}

// `scale_at`: this thread's first scale in a slot; the other one is eight keys further.
DG_DEVICE void work_stage(u32 smem, u32 q, u32 weights_at, u32 scale_at, struct slot slot, float *weights,
                          struct query *query)
{
    const u32 keys = smem + slot.index * STAGE_BYTES;
    float acc[ACC], sums[4] = {0, 0, 0, 0}, scales[2];
    dg_mbarrier_wait(smem + FULL_AT + slot.index * 8, slot.parity);
#pragma unroll
    for (int piece = 0; piece < DG_PIECES; piece++) {
        start_product(acc, keys, q + piece * PIECE_BYTES);
        if (DG_PIECES > 1)
            read_weights(weights, weights_at + piece * (2 * DG_HEAD_ROWS * 4));
        if (piece == 0) {
            scales[0] = __uint_as_float(dg_ld_shared(keys + scale_at));
            scales[1] = __uint_as_float(dg_ld_shared(keys + (scale_at ^ 32)));
        }
        dg_wgmma_wait(acc);
        if (piece == DG_PIECES - 1) {
            __syncwarp(); // all lanes have their scales
            if (threadIdx.x % 32 == 0)
                dg_mbarrier_arrive(smem + EMPTY_AT + slot.index * 8);
        }
        add_relus(sums, acc, weights);
    }
    store_scores(sums, query, scales);
}

// Where a slot has the scale of key `key` of the stage.  A box with scales in it is swizzled throughout.
DG_DEVICE u32 scale_in_slot(const struct dg_sm90_mqa_args *args, u32 key)
{
    const u32 page_keys = min(args->page_size, (int)STAGE_KEYS), merged = KEY_BYTES + key * 4;
    if (args->merged_rows)
        return merged ^ (merged >> 7 & (DG_DEPTH / 16 - 1)) << 4;
    return KEY_BYTES + key / page_keys * max(page_keys * 4, 128) + key % page_keys * 4;
}

// The group's stages of a unit, from its `stage`-th on.
DG_DEVICE void work_unit(const struct dg_sm90_mqa_args *args, u32 smem, u32 unit_slot, int stage, int stages,
                         struct slot *slot)
{
    const u32 q = smem + Q_AT + unit_slot * HEADS_BYTES;
    const u32 weights_at = smem + WEIGHTS_AT + unit_slot * WEIGHT_BYTES + threadIdx.x % 4 * (LANE_WEIGHTS * 4);
    const u32 scale_at = scale_in_slot(args, threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4);
    float weights[2 * DG_HEAD_ROWS];
    struct query query = read_query(args, smem + INFO_AT + unit_slot * INFO_BYTES, stage);
    if (DG_PIECES == 1)
        read_weights(weights, weights_at);
#pragma unroll 1
    for (; stage < stages; stage += DG_MATH_GROUPS) {
        work_stage(smem, q, weights_at, scale_at, *slot, weights, &query);
        skip_slots(slot, DG_MATH_GROUPS);
    }
}

DG_DEVICE void work_all(const struct dg_sm90_mqa_args *args, u32 smem, u32 group)
{
    struct slot slot = {group, 0}, unit = {0, 0};
    int stage = group; // the group's next one, counted in the unit
    for (;; next_slot(&unit, DG_Q_SLOTS)) {
        dg_mbarrier_wait(smem + Q_FULL_AT + unit.index * 8, unit.parity);
        const int stages = dg_ld_shared(smem + INFO_AT + unit.index * INFO_BYTES + INFO_STAGES * 4);
        if (stages == 0)
            return;
        if (stage < stages)
            work_unit(args, smem, unit.index, stage, stages, &slot);
        stage = stage_in_next(stage, stages);
        dg_mbarrier_arrive(smem + Q_EMPTY_AT + unit.index * 8);
    }
}

// ---- the kernel ----

DG_DEVICE void fill_all(const struct dg_sm90_mqa_args *args, u32 source, int is_valid)
{
    const u32 minus_infinity = 0xff800000u, nan = 0x7fffffffu;
    if (args->is_filled || !is_valid)
        fill_rows(args, source, __uint_as_float(is_valid ? minus_infinity : nan), !is_valid);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_mqa_args args,
             const __grid_constant__ struct dg_sm90_mqa_maps maps)
{
    DG_DYNAMIC_SHARED(shared);
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
    if (warp >= 4 * DG_MATH_GROUPS) {
        DG_SETMAXNREG_DEC(DG_LOAD_REGISTERS);
        const u32 role = warp - 4 * DG_MATH_GROUPS;
        if (role < key_loaders(&args) && is_valid)
            load_keys(&args, &maps, smem, share, role, key_loaders(&args));
        else if (role == MOST_KEY_LOADERS && is_valid)
            load_sequences(&args, &maps, smem, share);
        else if (role == MOST_KEY_LOADERS + 1)
            fill_all(&args, smem + FILL_AT, is_valid);
        dg_griddepcontrol_launch_dependents();
    } else {
        DG_SETMAXNREG_INC(DG_MATH_REGISTERS);
        if (is_valid)
            work_all(&args, smem, warp / 4);
    }
}
