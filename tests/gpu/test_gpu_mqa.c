// SPDX-License-Identifier: MIT
// test_gpu_mqa.c - MQA logits on a GPU, plain and paged, against sums in double: random problems, every kernel,
// the same bits, CUDA graphs whose ranges, lengths and tables change between replays, long contexts, and
// schedules that were made for something else.
//
// test_gpu_mqa [COUNT [SEED]]: that many random problems, from that seed on.
#include "crowd.h"

#include "../random_mqa.h"

enum { COUNT = 1500, COMPARED = 4000, REPEATS = 20 };

static int64_t count, first_seed;

// ---- a problem on the device ------------------------------------------------------------------------

struct mqa_on_device {
    CUdeviceptr memory[MQA_BUFFERS];
    void *base[MQA_BUFFERS];
};

static bool mqa_put(struct lane *lane, struct random_mqa *r, struct mqa_on_device *at)
{
    for (int i = 0; i < MQA_BUFFERS; i++) {
        if (!r->buffer[i].memory) {
            at->base[i] = NULL;
            continue;
        }
        const size_t bytes = RANDOM_PROBLEM_TOTAL(r->buffer[i]);
        const size_t element = i == MQA_LOGITS    ? dg_type_bytes(r->logits_type)
                               : i == MQA_WEIGHTS ? dg_type_bytes(r->weights_type)
                                                  : 4;
        const uint64_t draw = r->seed * 7 + (uint64_t)i;
        const size_t shift = i == MQA_Q || i == MQA_KV ? draw % 16 * 16 : draw % 32 * element;
        at->memory[i] = lane_take(lane, bytes, shift);
        if (!lane_copy_in(lane, at->memory[i], r->buffer[i].memory, bytes))
            return false;
        at->base[i] = (void *)(uintptr_t)(at->memory[i] + r->buffer[i].offset);
    }
    return true;
}

static bool mqa_call(struct lane *lane, const struct random_mqa *r, const struct mqa_on_device *at)
{
    return random_mqa_call(r, lane->context, at->base, lane->gpu.stream) == DG_OK ||
           lane_fail(lane, "%s: %s", r->line, dg_last_error());
}

static bool mqa_get(struct lane *lane, struct random_mqa *r, const struct mqa_on_device *at, int i)
{
    return !r->buffer[i].memory || lane_copy_out(lane, r->buffer[i].memory, at->memory[i],
                                                 RANDOM_PROBLEM_TOTAL(r->buffer[i]));
}

static bool mqa_reset(struct lane *lane, struct random_mqa *r, const struct mqa_on_device *at)
{
    random_mqa_poison_logits(r);
    return lane_copy_in(lane, at->memory[MQA_LOGITS], r->buffer[MQA_LOGITS].memory,
                        RANDOM_PROBLEM_TOTAL(r->buffer[MQA_LOGITS]));
}

// The schedule on the host, as the CPU makes it, against the one that came back.
static bool compare_schedule(struct lane *lane, const struct random_mqa *r)
{
    const struct dg_tensor lengths = mqa_lengths(r, random_data(&r->buffer[MQA_STARTS]));
    int32_t expected[2 * 140];
    const struct dg_tensor schedule = mqa_schedule(r, expected);
    dg_context *cpu = open_context("cpu", NULL, 1);
    const dg_status status = dg_paged_mqa_logits_metadata(cpu, &lengths, &schedule, NULL);
    dg_context_destroy(cpu);
    return (status == DG_OK && !memcmp(expected, random_data(&r->buffer[MQA_SCHEDULE]),
                                       (size_t)(r->num_workers + 1) * 8)) ||
           lane_fail(lane, "%s: another schedule than the CPU's", r->line);
}

// Everything comes back, so that stray writes show.
static bool mqa_compare(struct lane *lane, struct random_mqa *r, const struct mqa_on_device *at)
{
    struct mqa_figures figures;
    for (int i = 0; i < MQA_BUFFERS; i++)
        if (!mqa_get(lane, r, at, i))
            return false;
    if (r->is_paged && r->rows && r->columns && !compare_schedule(lane, r))
        return false;
    const char *wrong = random_mqa_wrong(r, COMPARED, &figures);
    if (wrong)
        return lane_fail(lane, "%s", wrong);
    const bool is_bf16 = r->logits_type == DG_BF16;
    if (figures.of_terms > LIMIT_OF_TERMS + (is_bf16 ? 1.0 / 256 : 0))
        return lane_fail(lane, "%s: %g of the terms", r->line, figures.of_terms);
    return figures.difference < (is_bf16 ? 3e-5 : 5e-6) || figures.compared < MANY ||
           r->has_odd_weights || lane_fail(lane, "%s: difference %g", r->line, figures.difference);
}

static bool mqa_try(struct lane *lane, struct random_mqa *r)
{
    struct mqa_on_device at;
    lane->used = 0;
    random_mqa_make(r);
    const bool is_right =
        dg_context_set_num_sms(lane->context, r->is_paged ? r->num_workers : 0) == DG_OK &&
        mqa_put(lane, r, &at) && mqa_call(lane, r, &at) && mqa_compare(lane, r, &at);
    random_mqa_free(r);
    return is_right;
}

// ---- random problems --------------------------------------------------------------------------------

static void draw(struct random_mqa *r, uint64_t seed)
{
    random_mqa_draw(r, seed);
    r->num_workers = seed % 3 ? 132 : r->num_workers % 132 + 1;
    if (seed % 8 == 0 && r->columns) // some longer ones
        r->columns = r->num_kv = r->columns * 11;
}

static bool try_seed(struct lane *lane, int64_t index)
{
    struct random_mqa r;
    draw(&r, (uint64_t)(first_seed + index));
    return mqa_try(lane, &r);
}

static void test_random_problems(void)
{
    const int64_t right = crowd_run(try_seed, count, 0, NULL);
    CHECK(right == count, "%lld of %lld problems are right", (long long)right, (long long)count);
}

// ---- every kernel -----------------------------------------------------------------------------------

// Heads and tokens that lead to each of the kernels' shapes, and to the edges of them.
static const int all_heads[] = {1, 2, 7, 8, 15, 16, 24, 32, 33, 40, 63, 64, 65, 100, 127, 128};
enum { NUM_HEADS = sizeof all_heads / sizeof *all_heads, NUM_TOKENS = 7, NUM_DEPTHS = 8 };

static bool try_kernel(struct lane *lane, int64_t index)
{
    struct random_mqa r;
    uint64_t state = (uint64_t)index * 2 + 1;
    const int heads = all_heads[index % NUM_HEADS];
    const int tokens = (int)(index / NUM_HEADS) % NUM_TOKENS; // 0: the plain form
    memset(&r, 0, sizeof r);
    r.seed = (uint64_t)index;
    r.state = state;
    r.is_paged = tokens > 0;
    r.heads = heads;
    r.depth = 16 * (1 + (int)(index / NUM_HEADS / NUM_TOKENS) % NUM_DEPTHS);
    r.num_kv = r.columns = random_range(&state, 300, 1500);
    r.rows = random_range(&state, 1, 30);
    r.batch = (int)random_range(&state, 1, 5);
    r.next_n = tokens;
    r.page_size = 16 << index % 4;
    r.num_workers = 132;
    r.lengths_per_row = index / 3 % 2;
    r.ranges = index % 2 ? MQA_RANDOM : MQA_CAUSAL;
    r.flags = index / 2 % 2 ? DG_MQA_CLEAN : 0;
    r.weights_type = index / 4 % 2 ? DG_BF16 : DG_F32;
    r.logits_type = index / 8 % 2 ? DG_BF16 : DG_F32;
    if (r.is_paged)
        r.rows = (int64_t)r.batch * r.next_n;
    return mqa_try(lane, &r);
}

static void test_every_kernel(void)
{
    const int64_t all = NUM_HEADS * NUM_TOKENS * NUM_DEPTHS, tried = harness_scaled((int)all);
    const int64_t right = crowd_run(try_kernel, tried, 0, NULL);
    CHECK(right == tried, "%lld of %lld problems are right", (long long)right, (long long)tried);
}

// ---- the same bits ----------------------------------------------------------------------------------

static bool repeat(struct lane *lane, struct random_mqa *r, const struct mqa_on_device *at)
{
    if (!mqa_call(lane, r, at) || !mqa_get(lane, r, at, MQA_LOGITS))
        return false;
    const uint64_t expected = random_checksum(&r->buffer[MQA_LOGITS]);
    for (int i = 0; i < REPEATS; i++)
        if (!mqa_reset(lane, r, at) || !mqa_call(lane, r, at) ||
            !mqa_get(lane, r, at, MQA_LOGITS) ||
            (random_checksum(&r->buffer[MQA_LOGITS]) != expected &&
             !lane_fail(lane, "%s: other bits", r->line)))
            return false;
    return true;
}

static bool try_repeats(struct lane *lane, int64_t index)
{
    struct random_mqa r;
    struct mqa_on_device at;
    draw(&r, 90000 + (uint64_t)index);
    lane->used = 0;
    random_mqa_make(&r);
    const bool is_right =
        dg_context_set_num_sms(lane->context, r.is_paged ? r.num_workers : 0) == DG_OK &&
        mqa_put(lane, &r, &at) && repeat(lane, &r, &at);
    random_mqa_free(&r);
    return is_right;
}

static void test_same_bits(void)
{
    const int64_t tried = harness_scaled(60), right = crowd_run(try_repeats, tried, 4, NULL);
    CHECK(right == tried, "%lld of %lld problems are right", (long long)right, (long long)tried);
}

// ---- graphs -----------------------------------------------------------------------------------------

static bool capture(struct lane *lane, const struct random_mqa *r, const struct mqa_on_device *at,
                    CUgraphExec *exec)
{
    const struct dg_cuda *cuda = lane->gpu.cuda;
    CUgraph graph = NULL;
    if (cuda->cuStreamBeginCapture(lane->gpu.stream, CU_STREAM_CAPTURE_MODE_GLOBAL) != CUDA_SUCCESS)
        return lane_fail(lane, "no capture");
    const bool is_called = mqa_call(lane, r, at);
    const CUresult ended = cuda->cuStreamEndCapture(lane->gpu.stream, &graph);
    if (!is_called || ended != CUDA_SUCCESS ||
        cuda->cuGraphInstantiateWithFlags(exec, graph, 0) != CUDA_SUCCESS)
        return lane_fail(lane, "%s: captured: result %d", r->line, (int)ended);
    return cuda->cuGraphDestroy(graph) == CUDA_SUCCESS;
}

// Other ranges, or other lengths and pages: the same shapes from another seed.
static bool replay(struct lane *lane, const struct random_mqa *captured,
                   const struct mqa_on_device *at, CUgraphExec exec, uint64_t seed)
{
    struct random_mqa r = *captured;
    r.seed = r.state = seed;
    r.ranges = (enum mqa_ranges)(seed % MQA_RANGE_STYLES);
    random_mqa_make(&r);
    bool is_right = true;
    for (int i = 0; i < MQA_BUFFERS && is_right; i++)
        is_right = !r.buffer[i].memory || lane_copy_in(lane, at->memory[i], r.buffer[i].memory,
                                                       RANDOM_PROBLEM_TOTAL(r.buffer[i]));
    is_right = is_right && lane->gpu.cuda->cuGraphLaunch(exec, lane->gpu.stream) == CUDA_SUCCESS &&
               mqa_compare(lane, &r, at);
    random_mqa_free(&r);
    return is_right || lane_fail(lane, "%s: replayed", captured->line);
}

static bool try_graph(struct lane *lane, int64_t index)
{
    struct random_mqa r;
    struct mqa_on_device at;
    CUgraphExec exec = NULL;
    draw(&r, 70000 + (uint64_t)index);
    lane->used = 0;
    random_mqa_make(&r);
    bool is_right =
        dg_context_set_num_sms(lane->context, r.is_paged ? r.num_workers : 0) == DG_OK &&
        mqa_put(lane, &r, &at) && capture(lane, &r, &at, &exec);
    for (uint64_t seed = 1; seed <= 5 && is_right; seed++)
        is_right = replay(lane, &r, &at, exec, seed * 1000 + (uint64_t)index);
    if (exec)
        lane->gpu.cuda->cuGraphExecDestroy(exec);
    random_mqa_free(&r);
    return is_right;
}

static void test_graphs_whose_lengths_change(void)
{
    const int64_t tried = harness_scaled(40), right = crowd_run(try_graph, tried, 1, NULL);
    CHECK(right == tried, "%lld of %lld problems are right", (long long)right, (long long)tried);
}

// ---- long contexts ----------------------------------------------------------------------------------

// 1 M tokens of depth 32 fit the tests' memory.
static bool try_long(struct lane *lane, int64_t index)
{
    struct random_mqa r;
    memset(&r, 0, sizeof r);
    r.seed = r.state = (uint64_t)index + 1;
    r.is_paged = index % 2 == 0;
    r.heads = 64;
    r.depth = 32;
    r.num_kv = r.columns = harness_scaled(1 << 20) - 5 * (index / 2);
    r.rows = r.next_n = r.batch = 1;
    r.page_size = 64;
    r.num_workers = 132;
    r.lengths_per_row = 1;
    r.flags = index / 2 % 2 ? DG_MQA_CLEAN : 0;
    r.weights_type = r.logits_type = DG_F32;
    return mqa_try(lane, &r);
}

static void test_contexts_of_a_million_tokens(void)
{
    const int64_t tried = harness_scaled(4), right = crowd_run(try_long, tried, 1, NULL);
    CHECK(right == tried, "%lld of %lld problems are right", (long long)right, (long long)tried);
}

// ---- weights that are not finite ----------------------------------------------------------------------

// One weight of row `bad` changes: no score of that row stays finite, and all others keep their bits.
static bool compare_rows(struct lane *lane, const struct random_mqa *r, const float *before,
                         int64_t bad)
{
    for (int64_t i = 0; i < r->rows; i++) {
        int64_t first, last, shift;
        mqa_columns(r, i, &first, &last, &shift);
        for (int64_t j = first; j < last; j++) {
            const float logit = (float)mqa_logit(r, i, j);
            if (i == bad ? isfinite(logit) : memcmp(&logit, &before[i * r->columns + j], 4) != 0)
                return lane_fail(lane, "%s: logits[%lld][%lld] = %g", r->line, (long long)i,
                                 (long long)j, logit);
        }
    }
    return true;
}

static bool try_bad_weight(struct lane *lane, int64_t index)
{
    static const int heads[] = {16, 32, 64, 128};
    struct random_mqa r;
    struct mqa_on_device at;
    const int64_t bad = index % 6;
    lane->used = 0;
    memset(&r, 0, sizeof r);
    r.seed = r.state = (uint64_t)index * 2 + 1;
    r.is_paged = index / 4 % 2 != 0;
    r.heads = heads[index % 4], r.depth = 128, r.num_kv = r.columns = 300, r.rows = 6;
    r.batch = 3, r.next_n = 2, r.page_size = 64, r.num_workers = 132;
    r.weights_type = r.logits_type = DG_F32;
    random_mqa_make(&r);
    bool is_right = dg_context_set_num_sms(lane->context, 132) == DG_OK && mqa_put(lane, &r, &at) &&
                    mqa_call(lane, &r, &at) && mqa_get(lane, &r, &at, MQA_LOGITS);
    float *before = malloc(sizeof(float) * (size_t)(r.rows * r.columns));
    for (int64_t i = 0; i < r.rows * r.columns && before; i++)
        before[i] = (float)mqa_logit(&r, i / r.columns, i % r.columns);
    ((float *)random_data(&r.buffer[MQA_WEIGHTS]))[bad * r.heads + index % r.heads] =
        index / 8 % 2 ? NAN : INFINITY;
    is_right = is_right && before &&
               lane_copy_in(lane, at.memory[MQA_WEIGHTS], r.buffer[MQA_WEIGHTS].memory,
                            RANDOM_PROBLEM_TOTAL(r.buffer[MQA_WEIGHTS])) &&
               mqa_reset(lane, &r, &at) && mqa_call(lane, &r, &at) &&
               mqa_get(lane, &r, &at, MQA_LOGITS) && compare_rows(lane, &r, before, bad);
    free(before);
    random_mqa_free(&r);
    return is_right;
}

static void test_weights_that_are_not_finite(void)
{
    const int64_t tried = 16, right = crowd_run(try_bad_weight, tried, 1, NULL);
    CHECK(right == tried, "%lld of %lld problems are right", (long long)right, (long long)tried);
}

// ---- schedules that do not fit ----------------------------------------------------------------------

static void small(struct random_mqa *r, int is_paged, enum mqa_ranges ranges)
{
    memset(r, 0, sizeof *r);
    r->ranges = ranges;
    r->seed = r->state = 1;
    r->is_paged = is_paged;
    r->heads = 32, r->depth = 64, r->num_kv = r->columns = 300, r->rows = 6;
    r->batch = 3, r->next_n = 2, r->page_size = 64, r->num_workers = 132;
    r->weights_type = r->logits_type = DG_F32;
    random_mqa_make(r);
}

static bool all_nan(const struct random_mqa *r)
{
    for (int64_t i = 0; i < r->rows; i++)
        for (int64_t j = 0; j < r->columns; j++)
            if (!isnan(mqa_logit(r, i, j)) || mqa_is_poison(r, i, j))
                return false;
    return true;
}

static void test_foreign_schedules_give_nan(void)
{
    struct lane lane;
    struct random_mqa r;
    struct mqa_on_device at;
    small(&r, 1, MQA_RANDOM);
    const bool is_put = lane_open(&lane, NULL) &&
                        dg_context_set_num_sms(lane.context, 132) == DG_OK &&
                        mqa_put(&lane, &r, &at);
    int32_t *rows = random_data(&r.buffer[MQA_SCHEDULE]);
    memset(rows, 0x7f, r.buffer[MQA_SCHEDULE].bytes);
    const struct dg_tensor schedule = mqa_schedule(&r, at.base[MQA_SCHEDULE]);
    const bool is_called =
        is_put &&
        lane_copy_in(&lane, at.memory[MQA_SCHEDULE], r.buffer[MQA_SCHEDULE].memory,
                     RANDOM_PROBLEM_TOTAL(r.buffer[MQA_SCHEDULE])) &&
        mqa_call_paged(&r, lane.context, at.base, &schedule, lane.gpu.stream) == DG_OK &&
        mqa_get(&lane, &r, &at, MQA_LOGITS);
    const bool is_nan = is_called && all_nan(&r);
    const char *damage = is_called ? mqa_damage(&r) : NULL;
    random_mqa_free(&r);
    lane_close(&lane);
    CHECK(is_called, "%s %s", lane.failure, dg_last_error());
    CHECK(is_nan && !damage, "%s", damage ? damage : "not all is NaN");
}

// ---- what DG_MQA_CHECK and the number of SMs refuse -----------------------------------------------------

static bool refuses(struct lane *lane, const struct random_mqa *r, const struct mqa_on_device *at,
                    const char *text)
{
    const struct dg_tensor schedule = mqa_schedule(r, at->base[MQA_SCHEDULE]);
    const dg_status status =
        mqa_call_paged(r, lane->context, at->base, &schedule, lane->gpu.stream);
    return (status == DG_INVALID_ARGUMENT && strstr(dg_last_error(), text)) ||
           lane_fail(lane, "status %d, `%s` instead of `%s`", (int)status, dg_last_error(), text);
}

static bool put_again(struct lane *lane, struct random_mqa *r, const struct mqa_on_device *at,
                      int i)
{
    return lane_copy_in(lane, at->memory[i], r->buffer[i].memory,
                        RANDOM_PROBLEM_TOTAL(r->buffer[i]));
}

// One entry is wrong for the length of a call.
static bool refuses_entry(struct lane *lane, struct random_mqa *r, const struct mqa_on_device *at,
                          int buffer, int64_t entry, int32_t wrong, const char *text)
{
    int32_t *list = random_data(&r->buffer[buffer]);
    const int32_t right = list[entry];
    list[entry] = wrong;
    const bool is_refused = put_again(lane, r, at, buffer) && refuses(lane, r, at, text);
    list[entry] = right;
    return put_again(lane, r, at, buffer) && is_refused;
}

static bool refuses_while_capturing(struct lane *lane, const struct random_mqa *r,
                                    const struct mqa_on_device *at)
{
    CUgraph graph = NULL;
    const struct dg_cuda *cuda = lane->gpu.cuda;
    if (cuda->cuStreamBeginCapture(lane->gpu.stream, CU_STREAM_CAPTURE_MODE_RELAXED) !=
        CUDA_SUCCESS)
        return lane_fail(lane, "no capture");
    const bool is_refused = refuses(lane, r, at, "must not be capturing");
    cuda->cuStreamEndCapture(lane->gpu.stream, &graph);
    if (graph)
        cuda->cuGraphDestroy(graph);
    return is_refused;
}

static bool check_refusals(struct lane *lane, struct random_mqa *r, struct mqa_on_device *at)
{
    if (dg_context_set_num_sms(lane->context, 132) != DG_OK || !mqa_put(lane, r, at) ||
        !mqa_call(lane, r, at) || !mqa_get(lane, r, at, MQA_SCHEDULE))
        return lane_fail(lane, "%s", dg_last_error());
    const bool is_refused =
        refuses_entry(lane, r, at, MQA_ENDS, r->max_pages, (int32_t)r->num_pages,
                      "block_table[1][0] = 30: must be a page from 0 to 29") &&
        refuses_entry(lane, r, at, MQA_ENDS, 0, -1, "block_table[0][0] = -1") &&
        refuses_entry(lane, r, at, MQA_SCHEDULE, 265, 131,
                      "schedule[132] = 3, 131: was not made for 3 sequences and 132 SMs") &&
        refuses_entry(lane, r, at, MQA_SCHEDULE, 0, 1, "schedule[0] = 1, 0: with these lengths") &&
        refuses_while_capturing(lane, r, at) && mqa_call(lane, r, at) &&
        dg_context_set_num_sms(lane->context, 131) == DG_OK;
    return is_refused &&
           refuses(lane, r, at, "schedule.shape[0] = 133: must be 132, one more than");
}

static void test_checks_name_what_is_wrong(void)
{
    struct lane lane;
    struct random_mqa r;
    struct mqa_on_device at;
    small(&r, 1, MQA_CAUSAL);
    r.flags = DG_MQA_CHECK;
    const bool is_right = lane_open(&lane, NULL) && check_refusals(&lane, &r, &at);
    random_mqa_free(&r);
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- a schedule whose rows are nonsense ---------------------------------------------------------------

// Only its last row is right: the logits are not, but nothing else is touched.
static bool try_nonsense(struct lane *lane, int64_t index)
{
    struct random_mqa r;
    struct mqa_on_device at = {.base = {NULL}};
    uint64_t state = (uint64_t)index * 2 + 1;
    draw(&r, 50000 + (uint64_t)index);
    r.is_paged = 1;
    r.flags &= DG_MQA_CLEAN;
    r.rows = (int64_t)r.batch * r.next_n;
    r.num_workers = 132;
    r.ranges = MQA_WILD;
    lane->used = 0;
    random_mqa_make(&r);
    int32_t *rows = random_data(&r.buffer[MQA_SCHEDULE]);
    for (int i = 0; i < 264; i++)
        rows[i] = random_next(&state) % 3 ? (int32_t)random_range(&state, -2, 12)
                                          : (int32_t)random_next(&state);
    rows[264] = r.batch, rows[265] = 132;
    bool is_right = dg_context_set_num_sms(lane->context, 132) == DG_OK && mqa_put(lane, &r, &at);
    const struct dg_tensor schedule = mqa_schedule(&r, at.base[MQA_SCHEDULE]);
    is_right = is_right &&
               mqa_call_paged(&r, lane->context, at.base, &schedule, lane->gpu.stream) == DG_OK;
    for (int i = 0; i < MQA_BUFFERS && is_right; i++)
        is_right = mqa_get(lane, &r, &at, i);
    const char *damage = is_right ? mqa_damage(&r) : NULL;
    if (!is_right || damage)
        is_right = lane_fail(lane, "%s: %s", r.line, damage ? damage : dg_last_error());
    random_mqa_free(&r);
    return is_right;
}

static void test_nonsense_in_schedules_stays_inside(void)
{
    const int64_t tried = harness_scaled(40), right = crowd_run(try_nonsense, tried, 1, NULL);
    CHECK(right == tried, "%lld of %lld problems are right", (long long)right, (long long)tried);
}

int main(int argc, char **argv)
{
    need_gpu();
    count = argc > 1 ? atoll(argv[1]) : harness_scaled(COUNT);
    first_seed = argc > 2 ? atoll(argv[2]) : 1;
    RUN(test_random_problems);
    RUN(test_every_kernel);
    RUN(test_same_bits);
    RUN(test_graphs_whose_lengths_change);
    RUN(test_contexts_of_a_million_tokens);
    RUN(test_weights_that_are_not_finite);
    RUN(test_foreign_schedules_give_nan);
    RUN(test_checks_name_what_is_wrong);
    RUN(test_nonsense_in_schedules_stays_inside);
    return harness_end();
}
