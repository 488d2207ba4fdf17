// SPDX-License-Identifier: MIT
// sm90_mqa_logits.cu - plain MQA logits: logits[i][j] = scale[j] * sum over h of weight[i][h] * relu(q[i][h] . k[j]).
//
// The rows are cut into units of DG_QUADS times four queries, each with the positions that any of its rows has,
// in stages of 64 keys.  All stages of all units stand in one line; each CTA adds the line up for itself and takes
// an equal part of it, so that ragged ranges keep all SMs busy to the end.  Roles of the warps:
//
//     key loader     waits empty[s]    a TMA box of keys, their scales              -> full[s]
//     query loader   waits q_empty[u]  q by TMA, weights, the ranges of the unit    -> q_full[u]
//     fill warp      minus infinity outside of all ranges
//     math groups    wait  full[s]     products, weighted sums, stores              -> empty[s]
//     one of them    waits q_full[u+1] the linear vectors of the next unit          -> q_summed[u+1]
//
// The math groups take turns at the stages: while one adds up, the tensor cores have the products of the
// others.  A product has four queries.  Many heads take several products (pieces) for them; with few heads several
// fours (quads) share a stage, which else would have to come from the L2 cache faster than an SM can take it.
//
// With 33 to 64 heads, two products, there are no relus: sm90_mqa_linear.cuh says how.  The groups take turns at making
// the vectors for that, after a stage of the unit before, when the next one's queries are there and nobody waits yet.
//
// Compile-time parameters: see sm90_mqa.cuh; DG_LANES is 1; and
#ifndef DG_QUADS
#error "DG_QUADS: fours of queries in a unit: 1 or 2"
#endif
#include "sm90_mqa.cuh"
#if DG_LINEAR_ROWS
#include "sm90_mqa_linear.cuh"
#endif

enum {
    STAGE_KEYS = 64,
    STAGE_BYTES = STAGE_KEYS * DG_DEPTH,
    SCALE_BYTES = STAGE_KEYS * 4 + 16, // from the last multiple of 16 bytes on
    UNIT_ROWS = 4 * DG_QUADS,
    KEPT_WEIGHTS = DG_PIECES <= 2, // in registers; else they are read for each product
    KEPT = KEPT_WEIGHTS ? DG_QUADS * DG_PIECES : 1,
    // Info of a unit, words: [start of each row][number of scores of each row][first position][stages][first row]
    INFO_FIRST = 2 * UNIT_ROWS,
    INFO_STAGES,
    INFO_ROW,
    INFO_BYTES = 128,
    // Shared memory; a unit's queries and weights lie there quad by quad
    HEADS_AT = DG_LINEAR_ROWS * LINEAR_BYTES, // in a quad's queries
    Q_BYTES = HEADS_BYTES + 2 * HEADS_AT,
    UNIT_Q_BYTES = DG_QUADS * Q_BYTES,
    UNIT_WEIGHT_BYTES = DG_QUADS * WEIGHT_BYTES,
    Q_AT = DG_NUM_STAGES * STAGE_BYTES,
    SCALES_AT = Q_AT + DG_Q_SLOTS * UNIT_Q_BYTES,
    WEIGHTS_AT = SCALES_AT + DG_NUM_STAGES * SCALE_BYTES,
    INFO_AT = WEIGHTS_AT + DG_Q_SLOTS * UNIT_WEIGHT_BYTES,
    SCAN_AT = INFO_AT + DG_Q_SLOTS * INFO_BYTES,
    SCAN_BYTES = 256,
    FILL_AT = SCAN_AT + SCAN_BYTES,
    FULL_AT = FILL_AT + FILL_BYTES,
    EMPTY_AT = FULL_AT + DG_NUM_STAGES * 8,
    Q_FULL_AT = EMPTY_AT + DG_NUM_STAGES * 8,
    Q_EMPTY_AT = Q_FULL_AT + DG_Q_SLOTS * 8,
    Q_SUMMED_AT = Q_EMPTY_AT + DG_Q_SLOTS * 8,
};
static_assert(DG_Q_SLOTS > 1 || !DG_LINEAR_ROWS, "a group waits for the next unit before it has left one");
static_assert(DG_NUM_STAGES % DG_MATH_GROUPS == 0, "a group that skips a lap would mistake its parity");

// ---- who does what ----

struct range {
    int begin, end;
};

DG_DEVICE struct range range_of(const struct dg_sm90_mqa_args *args, int row)
{
    struct range range = {0, 0};
    if (row < args->rows) {
        range.begin = max(args->starts[row], 0);
        range.end = min(args->ends[row], args->num_kv);
        if (args->is_compressed) // there are no columns for more
            range.end = (int)min((i64)range.end, (i64)range.begin + args->columns);
    }
    return range;
}

DG_DEVICE struct columns columns_of(const struct dg_sm90_mqa_args *args, int row)
{
    const struct range range = range_of(args, row);
    const int shift = args->is_compressed ? range.begin : 0;
    struct columns columns = {range.begin - shift, max(range.end, range.begin) - shift};
    return columns;
}

// Positions of a unit: multiples of 16 keep the stores of a warp on whole sectors.
struct span {
    int first, stages;
};

DG_DEVICE struct span span_of(int begin, int end)
{
    struct span span = {begin & ~15, 0};
    if (end > begin)
        span.stages = (end - span.first + STAGE_KEYS - 1) / STAGE_KEYS;
    return span;
}

// A CTA's part of the line: from stage `skip` of unit `unit` on, `left` stages.
struct share {
    i64 left;
    int unit, skip;
};

DG_DEVICE int count_stages(const struct dg_sm90_mqa_args *args, int unit)
{
    int begin = 0x7fffffff, end = 0;
#pragma unroll
    for (int i = 0; i < UNIT_ROWS; i++) {
        const struct range range = range_of(args, unit * UNIT_ROWS + i);
        begin = min(begin, range.end > range.begin ? range.begin : 0x7fffffff);
        end = max(end, range.end > range.begin ? range.end : 0);
    }
    return span_of(begin, end).stages;
}

// All threads add the line up, each over its own run of units; the one whose run the CTA's part begins in
// says where.
DG_DEVICE struct share find_share(const struct dg_sm90_mqa_args *args, char *shared)
{
    i64 *scan = (i64 *)(shared + SCAN_AT);
    volatile struct share *found = (volatile struct share *)(scan + THREADS / 32);
    const int units = (args->rows + UNIT_ROWS - 1) / UNIT_ROWS,
              run = (units + THREADS - 1) / THREADS;
    const int lane = threadIdx.x % 32, first = min((int)threadIdx.x * run, units),
              last = min(first + run, units);
    i64 own = 0;
#pragma unroll 1
    for (int unit = first; unit < last; unit++)
        own += count_stages(args, unit);
    i64 before = own, total = 0;
    for (int i = 1; i < 32; i *= 2) {
        const i64 other = __shfl_up_sync(~0u, before, i);
        before += lane >= i ? other : 0;
    }
    if (lane == 31)
        scan[threadIdx.x / 32] = before;
    __syncthreads();
    before -= own;
    for (int warp = 0; warp < THREADS / 32; warp++) {
        before += warp < (int)threadIdx.x / 32 ? scan[warp] : 0;
        total += scan[warp];
    }
    const i64 begin = total * blockIdx.x / gridDim.x, end = total * (blockIdx.x + 1) / gridDim.x;
    if (begin == end && threadIdx.x == 0)
        found->left = 0;
    if (begin < end && before <= begin && begin < before + own) {
        int unit = first, stages;
        while (before + (stages = count_stages(args, unit)) <= begin) {
            before += stages;
            unit++;
        }
        found->left = end - begin;
        found->unit = unit;
        found->skip = (int)(begin - before);
    }
    __syncthreads();
    struct share share = {found->left, found->unit, found->skip};
    return share;
}

// What a CTA does of one unit; lane i knows the range of row i % UNIT_ROWS.
struct work {
    struct range range;
    int unit, first, stages; // stages == 0: nothing is left
};

DG_DEVICE struct work next_work(const struct dg_sm90_mqa_args *args, struct share *share)
{
    struct work work = {{0, 0}, 0, 0, 0};
    while (share->left > 0 && work.stages == 0) {
        work.unit = share->unit++;
        work.range = range_of(args, work.unit * UNIT_ROWS + threadIdx.x % UNIT_ROWS);
        const int has_scores = work.range.end > work.range.begin;
        const struct span span =
            span_of(__reduce_min_sync(~0u, has_scores ? work.range.begin : 0x7fffffff),
                    __reduce_max_sync(~0u, has_scores ? work.range.end : 0));
        work.first = span.first + share->skip * STAGE_KEYS;
        work.stages = (int)min((i64)(span.stages - share->skip), share->left);
        share->left -= work.stages;
        share->skip = 0;
    }
    return work;
}

// ---- loaders: one warp each ----

// Scales at addresses of any kind come from the multiple of 16 bytes before them; their place in there.
DG_DEVICE u32 scale_offset(const struct dg_sm90_mqa_args *args)
{
    return (u32)(u64)args->scales % 16;
}

DG_DEVICE void load_stage(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps, u32 smem,
                          struct slot slot, int position)
{
    const u32 full = smem + FULL_AT + slot.index * 8, offset = scale_offset(args);
    const u32 bytes = (offset + min(args->num_kv - position, (int)STAGE_KEYS) * 4 + 15) & ~15u;
    dg_mbarrier_wait(smem + EMPTY_AT + slot.index * 8, slot.parity ^ 1);
    if (dg_elect()) {
        dg_mbarrier_arrive_expect_tx(full, STAGE_BYTES + bytes);
        dg_tma_load_2d(smem + slot.index * STAGE_BYTES, &maps->kv, full, 0, position);
        dg_bulk_load(smem + SCALES_AT + slot.index * SCALE_BYTES, (const char *)(args->scales + position) - offset,
                     bytes, full);
    }
    __syncwarp();
}

DG_DEVICE void load_keys(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps,
                         u32 smem, struct share share)
{
    struct slot slot = {0, 0};
    for (struct work work = next_work(args, &share); work.stages; work = next_work(args, &share))
        for (int stage = 0; stage < work.stages; stage++, next_slot(&slot, DG_NUM_STAGES))
            load_stage(args, maps, smem, slot, work.first + stage * STAGE_KEYS);
}

// The last unit has no stages.
DG_DEVICE void load_units(const struct dg_sm90_mqa_args *args, const struct dg_sm90_mqa_maps *maps,
                          u32 smem, struct share share)
{
    const int lane = threadIdx.x % 32;
    struct slot slot = {0, 0};
    struct work work;
    do {
        work = next_work(args, &share);
        const u32 full = smem + Q_FULL_AT + slot.index * 8, row = work.unit * UNIT_ROWS;
        const u32 info = smem + INFO_AT + slot.index * INFO_BYTES;
        struct weights weights[DG_QUADS];
#pragma unroll
        for (int quad = 0; quad < DG_QUADS; quad++) // they come while the slot may still be in use
            weights[quad] = fetch_weights(args, row + quad * 4,
                                          work.stages ? min(args->rows - (int)row - quad * 4, 4) : 0);
        dg_mbarrier_wait(smem + Q_EMPTY_AT + slot.index * 8, slot.parity ^ 1);
        if (work.stages && dg_elect()) {
            dg_mbarrier_expect_tx(full, DG_QUADS * HEADS_BYTES);
            for (int quad = 0; quad < DG_QUADS; quad++)
                load_queries(smem + Q_AT + slot.index * UNIT_Q_BYTES + quad * Q_BYTES + HEADS_AT, &maps->q, full,
                             row + quad * 4);
        }
#pragma unroll
        for (int quad = 0; quad < DG_QUADS; quad++)
            store_weights(smem + WEIGHTS_AT + slot.index * UNIT_WEIGHT_BYTES + quad * WEIGHT_BYTES, args,
                          &weights[quad]);
        if (lane < UNIT_ROWS) {
            dg_st_shared_word(info + lane * 4, work.range.begin);
            dg_st_shared_word(info + (UNIT_ROWS + lane) * 4, max(work.range.end - work.range.begin, 0));
        }
        if (lane == 0) {
            dg_st_shared_word(info + INFO_FIRST * 4, work.first);
            dg_st_shared_word(info + INFO_STAGES * 4, work.stages);
            dg_st_shared_word(info + INFO_ROW * 4, row);
        }
        dg_mbarrier_arrive(full);
        next_slot(&slot, DG_Q_SLOTS);
    } while (work.stages);
}

// ---- math groups ----

// What a thread knows of its query: where its first row of keys goes, and how far that is from the range.
struct query {
    char *at;
    u32 offset, length; // position - start, which is below `length` for scores
};

// `stage`: the group's first one of the unit.
DG_DEVICE struct query read_query(const struct dg_sm90_mqa_args *args, u32 info, int quad, int stage)
{
    const u32 lane = threadIdx.x % 32, row = quad * 4 + lane % 4, start = dg_ld_shared(info + row * 4);
    struct query query;
    query.length = dg_ld_shared(info + (UNIT_ROWS + row) * 4);
    const u32 position = dg_ld_shared(info + INFO_FIRST * 4) + stage * STAGE_KEYS + threadIdx.x / 32 % 4 * 16 + lane / 4;
    query.offset = position - start;
    const i64 column = (i64)position - (args->is_compressed ? (i64)start : 0);
    query.at = logits_row(args, dg_ld_shared(info + INFO_ROW * 4) + row) + column * LOGIT_BYTES;
    return query;
}

// What the sums of even columns are to be multiplied by.
#define EVEN_SCALE (DG_LINEAR_ROWS ? 1.0f : 2.0f)

// Stores the scores of a stage and goes on to the group's next.
DG_DEVICE void store_scores(const float *sums, struct query *query, const float *scales)
{
    if (query->offset < query->length)
        store_logit(query->at, fmaf(EVEN_SCALE, sums[0], sums[1]) * scales[0]);
    if (query->offset + 8 < query->length)
        store_logit(query->at + 8 * LOGIT_BYTES, fmaf(EVEN_SCALE, sums[2], sums[3]) * scales[1]);
    query->at += DG_MATH_GROUPS * STAGE_KEYS * LOGIT_BYTES;
    query->offset += DG_MATH_GROUPS * STAGE_KEYS;
}

// Adds the scores of a piece to the sums of a quad.
DG_DEVICE void add_piece(float *sums, const float *acc, const float *weights, int piece, float linear_scale)
{
#if DG_LINEAR_ROWS
    const int is_last = piece == DG_PIECES - 1;
    add_parts(sums, is_last ? acc + 4 * DG_HEAD_ROWS : acc, is_last ? linear_scale * (1.0f / 256) : linear_scale);
    add_heads(sums, is_last ? acc : acc + 4, weights);
#else
    add_relus(sums, acc, weights);
#endif
}

// All heads of a stage's keys, for the four queries of each quad.
// `scale_at`: this thread's first scale in a slot; the other one is eight keys further.
DG_DEVICE void work_stage(u32 smem, u32 q, u32 weights_at, u32 scale_at, struct slot slot,
                          float (*weights)[2 * DG_HEAD_ROWS], struct query *queries)
{
    const u32 keys = smem + slot.index * STAGE_BYTES;
    float scales[2], linear_scale = 0;
    dg_mbarrier_wait(smem + FULL_AT + slot.index * 8, slot.parity);
#pragma unroll
    for (int quad = 0; quad < DG_QUADS; quad++) {
        float sums[4] = {0, 0, 0, 0};
#pragma unroll
        for (int piece = 0; piece < DG_PIECES; piece++) {
            const int product = quad * DG_PIECES + piece;
            float acc[ACC];
            start_product(acc, keys, q + quad * Q_BYTES + piece * PIECE_BYTES + (piece ? HEADS_AT : 0));
            if (!KEPT_WEIGHTS)
                read_weights(weights[0], weights_at + piece * (2 * DG_HEAD_ROWS * 4));
            if (product == 0)
                for (int i = 0; i < 2; i++)
                    scales[i] = __uint_as_float(dg_ld_shared(scale_at + slot.index * SCALE_BYTES + i * 32));
            if (DG_LINEAR_ROWS && product == 0)
                linear_scale = __uint_as_float(dg_ld_shared(weights_at + 2 * HEAD_ROWS * 4));
            dg_wgmma_wait(acc);
            if (product == DG_QUADS * DG_PIECES - 1) {
                __syncwarp(); // all lanes have their scales
                if (threadIdx.x % 32 == 0)
                    dg_mbarrier_arrive(smem + EMPTY_AT + slot.index * 8);
            }
            add_piece(sums, acc, weights[KEPT_WEIGHTS ? product : 0], piece, linear_scale);
        }
        store_scores(sums, &queries[quad], scales);
    }
}

// Waits for unit `unit`; how many stages it has.
DG_DEVICE int enter_unit(u32 smem, u32 unit)
{
    const u32 slot = unit % DG_Q_SLOTS;
    dg_mbarrier_wait(smem + Q_FULL_AT + slot * 8, unit / DG_Q_SLOTS % 2);
    return dg_ld_shared(smem + INFO_AT + slot * INFO_BYTES + INFO_STAGES * 4);
}

// The linear vectors of a unit, one by each warp of a group.
DG_DEVICE void write_vectors(u32 smem, u32 unit)
{
#if DG_LINEAR_ROWS
    const u32 slot = unit % DG_Q_SLOTS, query = threadIdx.x / 32 % 4;
    if (enter_unit(smem, unit) == 0)
        return;
    write_linear(smem + Q_AT + slot * UNIT_Q_BYTES,
                 smem + WEIGHTS_AT + slot * UNIT_WEIGHT_BYTES + query * (LANE_WEIGHTS * 4), query);
    dg_fence_proxy_async(); // wgmma reads what was written
    dg_mbarrier_arrive(smem + Q_SUMMED_AT + slot * 8);
#endif
}

// The group's stages of a unit, from its `stage`-th on.  `is_ahead`: it makes the next unit's vectors.
DG_DEVICE void work_unit(const struct dg_sm90_mqa_args *args, u32 smem, u32 unit, int stage, int stages, struct slot *slot,
                         int is_ahead)
{
    const u32 unit_slot = unit % DG_Q_SLOTS;
    const u32 q = smem + Q_AT + unit_slot * UNIT_Q_BYTES;
    const u32 weights_at = smem + WEIGHTS_AT + unit_slot * UNIT_WEIGHT_BYTES + threadIdx.x % 4 * (LANE_WEIGHTS * 4);
    const u32 scale_at = smem + SCALES_AT + scale_offset(args) +
                         (threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4) * 4;
    const int ahead_at = min(stage + DG_MATH_GROUPS, stages); // it may have no stage at all
    float weights[KEPT][2 * DG_HEAD_ROWS];
    struct query queries[DG_QUADS];
    if (DG_LINEAR_ROWS && stage < stages)
        dg_mbarrier_wait(smem + Q_SUMMED_AT + unit_slot * 8, unit / DG_Q_SLOTS % 2);
#pragma unroll
    for (int quad = 0; quad < DG_QUADS && stage < stages; quad++) {
        queries[quad] = read_query(args, smem + INFO_AT + unit_slot * INFO_BYTES, quad, stage);
#pragma unroll
        for (int piece = 0; KEPT_WEIGHTS && piece < DG_PIECES; piece++)
            read_weights(weights[quad * DG_PIECES + piece],
                         weights_at + quad * WEIGHT_BYTES + piece * (2 * DG_HEAD_ROWS * 4));
    }
#pragma unroll 1
    for (;; stage += DG_MATH_GROUPS) {
        if (is_ahead && stage >= ahead_at) {
            write_vectors(smem, unit + 1);
            is_ahead = 0;
        }
        if (stage >= stages)
            break;
        work_stage(smem, q, weights_at, scale_at, *slot, weights, queries);
        skip_slots(slot, DG_MATH_GROUPS);
    }
}

DG_DEVICE void work_all(const struct dg_sm90_mqa_args *args, u32 smem, u32 group)
{
    struct slot slot = {group, 0};
    int stage = group; // the group's next one, counted in the unit
    if (group == 0)
        write_vectors(smem, 0);
    for (u32 unit = 0;; unit++) {
        const int stages = enter_unit(smem, unit);
        if (stages == 0)
            return;
        work_unit(args, smem, unit, stage, stages, &slot, DG_LINEAR_ROWS && (unit + 1) % DG_MATH_GROUPS == group);
        stage = stage_in_next(stage, stages);
        dg_mbarrier_arrive(smem + Q_EMPTY_AT + unit % DG_Q_SLOTS * 8);
    }
}

// ---- the kernel ----

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    DG_ENTRY(const __grid_constant__ struct dg_sm90_mqa_args args,
             const __grid_constant__ struct dg_sm90_mqa_maps maps)
{
    DG_DYNAMIC_SHARED(shared);
    const u32 smem = dg_smem_address(shared);
    const u32 warp = __shfl_sync(~0u, threadIdx.x / 32, 0);

    if (threadIdx.x == 0) {
        dg_prefetch_tensormap(&maps.q);
        dg_prefetch_tensormap(&maps.kv);
        for (int i = 0; i < DG_Q_SLOTS; i++)
            dg_mbarrier_init(smem + Q_SUMMED_AT + i * 8, 128);
    }
    prepare_shared(smem + FULL_AT, smem + WEIGHTS_AT, DG_Q_SLOTS * UNIT_WEIGHT_BYTES);
    dg_griddepcontrol_wait();
    const struct share share = find_share(&args, shared);
    if (warp >= 4 * DG_MATH_GROUPS) {
        DG_SETMAXNREG_DEC(DG_LOAD_REGISTERS);
        if (warp == 4 * DG_MATH_GROUPS)
            load_keys(&args, &maps, smem, share);
        else if (warp == 4 * DG_MATH_GROUPS + 1)
            load_units(&args, &maps, smem, share);
        else if (warp == 4 * DG_MATH_GROUPS + 2 && args.is_filled)
            fill_rows(&args, smem + FILL_AT, __uint_as_float(0xff800000u), 0);
        dg_griddepcontrol_launch_dependents();
    } else {
        DG_SETMAXNREG_INC(DG_MATH_REGISTERS);
        work_all(&args, smem, warp / 4);
    }
}
