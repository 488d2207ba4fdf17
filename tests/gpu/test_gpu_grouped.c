// SPDX-License-Identifier: MIT
// test_gpu_grouped.c - grouped products on a GPU against dense ones in double: layouts of every kind, bad
// entries among them.
//
//     test_gpu_grouped [COUNT [FIRST_SEED]]     3000 problems, seeds from 1; $DG_TEST_SCALE makes it fewer
//
// A problem follows from its seed alone: `test_gpu_grouped 1 SEED` repeats what failed.
#include "crowd.h"

#include "../random_grouped.h"

#include "api/context.h"
#include "backend/sm90/sm90_grouped.h"

enum { COUNT = 3000, MAX_WORK = 1 << 25, CHANGES = 50 };

static int64_t count = COUNT, first_seed = 1;

// ---- plans ----------------------------------------------------------------------------------------

extern const struct dg_backend dg_sm90_backend;
// Small problems, too, ask for tiles after 1 to 3 rounds, or do not.
static struct dg_backend asking;

static void ask_for_tiles(const struct dg_problem *p, struct dg_plan *plan)
{
    const struct dg_sm90_grouped_workspace at =
        dg_sm90_grouped_workspace(p, plan->repack_a, plan->repack_b);
    plan->own_rounds = dg_problem_kind(p) == DG_KIND_K_GROUPED ? 0 : (int32_t)((p->m + p->n) % 4);
    if (plan->own_rounds && plan->spare_bytes < at.count_end - at.size)
        plan->spare_bytes = at.count_end - at.size;
}

static dg_status plan_asking(const struct dg_problem *problem, const struct dg_device *device,
                             struct dg_plan *plan)
{
    DG_TRY(dg_sm90_grouped_plan(problem, device, plan));
    ask_for_tiles(problem, plan);
    return DG_OK;
}

// ---- a grouped problem on the device --------------------------------------------------------------

struct placed {
    CUdeviceptr memory[GROUPED_BUFFERS]; // with guards
    void *base[GROUPED_BUFFERS];         // the data in it
    struct dg_gemm_options options;      // the workspace
};

static bool place(struct lane *lane, struct random_grouped *r, struct placed *at)
{
    uint64_t state = r->seed * 2 + 5;
    lane->used = 0;
    *at = (struct placed){.options = DG_GEMM_OPTIONS};
    for (int i = 0; i < GROUPED_BUFFERS; i++) {
        const struct random_buffer *buffer = &r->of[i].buffer;
        const uint64_t word = random_next(&state);
        // Values at multiples of 16, the others now and then where TMA cannot take them.
        const size_t element =
            i >= GROUPED_C && i <= GROUPED_D ? dg_type_bytes(r->problem.d_type) : 4;
        const size_t any_shift = i == GROUPED_A || i == GROUPED_B || word % 4
                                     ? word / 4 % 16 * 16
                                     : word / 4 % 32 * element;
        const size_t shift = lane->is_aligned ? 0 : any_shift;
        if (!buffer->memory)
            continue;
        at->memory[i] = lane_take(lane, RANDOM_PROBLEM_TOTAL(*buffer), shift);
        at->base[i] = (void *)(uintptr_t)(at->memory[i] + buffer->offset);
        if (!lane_copy_in(lane, at->memory[i], buffer->memory, RANDOM_PROBLEM_TOTAL(*buffer)))
            return false;
    }
    return take_workspace(lane, &r->problem, &at->options);
}

static bool call(struct lane *lane, struct random_grouped *r, const struct placed *at)
{
    return random_grouped_call(r, lane->context, at->base, at->options.workspace,
                               at->options.workspace_bytes, 0, lane->gpu.stream) == DG_OK ||
           lane_fail(lane, "%s: %s", r->line, dg_last_error());
}

// What came back is judged; nothing but D may have changed.
static bool judge(struct lane *lane, struct random_grouped *r, const struct placed *at)
{
    struct random_buffer *d = &r->of[GROUPED_D].buffer;
    const size_t bytes = RANDOM_PROBLEM_TOTAL(*d);
    uint8_t *before = malloc(bytes);
    memcpy(before, d->memory, bytes);
    bool is_right = lane_copy_out(lane, d->memory, at->memory[GROUPED_D], bytes);
    const char *wrong =
        is_right ? random_grouped_judge(r, lane->oracle, before, LIMIT_OF_TERMS) : NULL;
    free(before);
    if (wrong)
        return lane_fail(lane, "%s", wrong);
    for (int i = 0; i < GROUPED_BUFFERS && is_right; i++) {
        const struct random_buffer *buffer = &r->of[i].buffer;
        if (i == GROUPED_D || !buffer->memory)
            continue;
        uint8_t *copy = malloc(RANDOM_PROBLEM_TOTAL(*buffer));
        is_right = lane_copy_out(lane, copy, at->memory[i], RANDOM_PROBLEM_TOTAL(*buffer)) &&
                   (!memcmp(copy, buffer->memory, RANDOM_PROBLEM_TOTAL(*buffer)) ||
                    lane_fail(lane, "%s: buffer %d changed on the device", r->line, i));
        free(copy);
    }
    return is_right;
}

// ---- random problems ------------------------------------------------------------------------------

static bool try_seed(struct lane *lane, uint64_t seed)
{
    struct random_grouped r;
    struct placed at;
    uint64_t state = seed * 2 + 9;
    lane->context->backend = &asking;
    dg_context_set_num_sms(lane->context, 0);
    const int32_t all = dg_context_num_sms(lane->context);
    if (random_next(&state) % 2)
        dg_context_set_num_sms(lane->context, (int32_t)random_range(&state, 1, all));
    random_grouped_make(&r, seed, seed % 16 ? MAX_WORK / 8 : MAX_WORK);
    const bool is_right = place(lane, &r, &at) && call(lane, &r, &at) && judge(lane, &r, &at);
    random_grouped_free(&r);
    return is_right;
}

static bool try_index(struct lane *lane, int64_t index)
{
    return try_seed(lane, (uint64_t)(first_seed + index));
}

static void test_random_problems(void)
{
    const double begin = cli_seconds();
    const int64_t right = crowd_run(try_index, count, 0, NULL);
    printf("# %lld problems, seeds %lld to %lld, %.1f s\n", (long long)right, (long long)first_seed,
           (long long)(first_seed + count - 1), cli_seconds() - begin);
    CHECK(right == count, "%lld of %lld problems are right", (long long)right, (long long)count);
}

// ---- graphs ---------------------------------------------------------------------------------------

// Finite values everywhere, whoever owns them.
static void fill_everything(struct random_grouped *r)
{
    for (int i = GROUPED_A; i <= GROUPED_SFB; i++) {
        struct random_buffer *buffer = &r->of[i].buffer;
        uint8_t *bytes = random_data(buffer);
        for (size_t j = 0; j < buffer->bytes; j++)
            bytes[j] = i == GROUPED_A || i == GROUPED_B ? random_code(&r->state, 1) : 0x3c;
    }
}

static bool run_eagerly(struct lane *lane, struct random_grouped *r, const struct placed *at,
                        uint8_t *result)
{
    const struct random_buffer *d = &r->of[GROUPED_D].buffer;
    const size_t bytes = RANDOM_PROBLEM_TOTAL(*d);
    return lane_copy_in(lane, at->memory[GROUPED_D], d->memory, bytes) && call(lane, r, at) &&
           lane_copy_out(lane, result, at->memory[GROUPED_D], bytes);
}

static bool replay(struct lane *lane, struct random_grouped *r, const struct placed *at,
                   CUgraphExec graph, uint8_t *result)
{
    const struct random_buffer *d = &r->of[GROUPED_D].buffer;
    const size_t bytes = RANDOM_PROBLEM_TOTAL(*d);
    if (!lane_copy_in(lane, at->memory[GROUPED_D], d->memory, bytes))
        return false;
    if (lane->gpu.cuda->cuGraphLaunch(graph, lane->gpu.stream) != CUDA_SUCCESS)
        return lane_fail(lane, "%s: the graph does not run", r->line);
    return lane_copy_out(lane, result, at->memory[GROUPED_D], bytes);
}

struct captured {
    struct lane *lane;
    struct random_grouped *r;
    const struct placed *at;
};

static dg_status launch_captured(void *user, int index, CUstream stream)
{
    const struct captured *c = user;
    return random_grouped_call(c->r, c->lane->context, c->at->base, c->at->options.workspace,
                               c->at->options.workspace_bytes, 0, stream);
}

// One graph, and layouts that change between its replays: the bits of a call each time.
static bool try_graph(struct lane *lane, struct random_grouped *r)
{
    struct placed at;
    CUgraphExec graph = NULL;
    const size_t bytes = RANDOM_PROBLEM_TOTAL(r->of[GROUPED_D].buffer);
    uint8_t *eager = malloc(bytes), *replayed = malloc(bytes);
    fill_everything(r);
    bool is_right = place(lane, r, &at) && call(lane, r, &at);
    struct captured captured = {lane, r, &at};
    if (is_right && cli_gpu_record(&lane->gpu, launch_captured, &captured, 1, &graph) != DG_OK)
        is_right = lane_fail(lane, "%s: %s", r->line, dg_last_error());
    for (int i = 0; i < CHANGES && is_right; i++) {
        const struct random_buffer *layout = &r->of[GROUPED_LAYOUT].buffer;
        random_grouped_lay_out(r);
        is_right = lane_copy_in(lane, at.memory[GROUPED_LAYOUT], layout->memory,
                                RANDOM_PROBLEM_TOTAL(*layout)) &&
                   run_eagerly(lane, r, &at, eager) && replay(lane, r, &at, graph, replayed) &&
                   (!memcmp(eager, replayed, bytes) ||
                    lane_fail(lane, "%s: replay %d has other bits than a call", r->line, i));
    }
    if (graph)
        lane->gpu.cuda->cuGraphExecDestroy(graph);
    free(eager), free(replayed);
    return is_right;
}

static void test_replays_of_a_graph(void)
{
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    if (is_right) {
        lane.context->backend = &asking;
        dg_context_set_num_sms(lane.context, 5); // so that there are rounds
    }
    for (int op = DG_OP_FP8_M_GROUPED_CONTIGUOUS; op <= DG_OP_FP8_K_GROUPED_TN && is_right; op++) {
        struct random_grouped r;
        for (uint64_t seed = 1;; seed++) {
            random_grouped_begin(&r, seed, MAX_WORK / 32);
            if (r.problem.op == (dg_op)op && r.problem.groups > 4)
                break;
        }
        random_grouped_fill(&r);
        is_right = try_graph(&lane, &r);
        random_grouped_free(&r);
    }
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- debugging ------------------------------------------------------------------------------------

static dg_status call_checked(void *user, int index, CUstream stream)
{
    const struct captured *c = user;
    return random_grouped_call(c->r, c->lane->context, c->at->base, c->at->options.workspace,
                               c->at->options.workspace_bytes, DG_GROUPED_CHECK_LAYOUT, stream);
}

static bool is_refused(struct lane *lane, dg_status status, const char *text)
{
    return (status == DG_INVALID_ARGUMENT && strstr(dg_last_error(), text)) ||
           lane_fail(lane, "%s instead of `%s`: %s", dg_status_name(status), text, dg_last_error());
}

// The check reads the layout back from the device, so it cannot be part of a graph.
static void test_a_bad_layout_is_found(void)
{
    struct lane lane;
    struct random_grouped r;
    struct placed at;
    CUgraphExec graph = NULL;
    bool is_right = lane_open(&lane, NULL);
    uint64_t seed = 1;
    for (random_grouped_begin(&r, seed, 1 << 20); r.kind != DG_KIND_MASKED;)
        random_grouped_begin(&r, ++seed, 1 << 20);
    random_grouped_fill(&r);
    struct captured captured = {&lane, &r, &at};
    memset(r.layout, 0, (size_t)r.length * sizeof *r.layout);
    is_right = is_right && place(&lane, &r, &at) &&
               (call_checked(&captured, 0, lane.gpu.stream) == DG_OK ||
                lane_fail(&lane, "%s", dg_last_error()));
    r.layout[r.length - 1] = -7;
    is_right = is_right && place(&lane, &r, &at) &&
               is_refused(&lane, call_checked(&captured, 0, lane.gpu.stream), "] = -7: group ") &&
               is_refused(&lane, cli_gpu_record(&lane.gpu, call_checked, &captured, 1, &graph),
                          "capturing");
    random_grouped_free(&r);
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

// ---- every kernel ---------------------------------------------------------------------------------

enum { MAX_KERNELS = 1024, FEW_CTAS = 3 };

static struct dg_sm90_grouped_kernel kernels[MAX_KERNELS];
static int num_kernels, num_tried;

static dg_status collect(void *user, const struct dg_sm90_grouped_kernel *kernel)
{
    if (num_kernels == MAX_KERNELS)
        return dg_fail(DG_INTERNAL, "more than %d kernels", MAX_KERNELS);
    kernels[num_kernels++] = *kernel;
    return DG_OK;
}

// A problem that this kernel can run, whatever the planner would choose.
static void draw_for(const struct dg_sm90_kernel *kernel, uint64_t seed, struct random_grouped *r)
{
    struct dg_problem *p = &r->problem;
    do
        random_grouped_begin(r, seed += 1000000, MAX_WORK / 8);
    while (r->kind == DG_KIND_K_GROUPED && (kernel->sfb_block_n != 1 || kernel->sf_packed));
    p->d_type = kernel->d_fp32 ? DG_F32 : DG_BF16;
    p->sf_type = kernel->sf_packed ? DG_UE8M0X4 : DG_F32;
    p->sfb_block_n = kernel->sfb_block_n;
    p->sfa_major = kernel->scales_tma ? DG_MN_MAJOR : DG_K_MAJOR;
    p->sfb_major = kernel->scales_tma && p->sfb_block_n == 1 ? DG_MN_MAJOR : DG_K_MAJOR;
    r->has_padded_scales = true;
    random_grouped_fill(r);
}

// The tuning table is how a plan is forced upon a call; here the context's plan is made by hand.
static struct dg_sm90_config forced;

static dg_status plan_forced(const struct dg_problem *problem, const struct dg_device *device,
                             struct dg_plan *plan)
{
    DG_TRY(dg_sm90_grouped_plan(problem, device, plan));
    plan->sm90 = forced;
    plan->num_ctas = FEW_CTAS;
    plan->band = 2;
    ask_for_tiles(problem, plan);
    return DG_OK;
}

static bool try_kernel(struct lane *lane, const struct dg_sm90_grouped_kernel *kernel,
                       uint64_t seed)
{
    struct random_grouped r;
    struct placed at;
    forced = kernel->tile.config;
    draw_for(&kernel->tile, seed, &r);
    bool is_right = place(lane, &r, &at) && call(lane, &r, &at) && judge(lane, &r, &at);
    random_grouped_free(&r);
    if (!is_right) {
        const size_t length = strlen(lane->failure);
        dg_sm90_grouped_text(kernel, lane->failure + length, sizeof lane->failure - length);
    }
    return is_right;
}

static void test_every_kernel(void)
{
    struct dg_backend forcing = dg_sm90_backend;
    const struct dg_context_options options = DG_CONTEXT_OPTIONS;
    struct lane lane = {.failure = ""};
    dg_context *context = NULL;
    CHECK(dg_sm90_grouped_enumerate(collect, NULL) == DG_OK, "%s", dg_last_error());
    forcing.plan = plan_forced;
    CHECK(dg_context_open(&context, &forcing, &options) == DG_OK, "%s", dg_last_error());
    bool is_right = lane_open(&lane, context);
    lane.is_aligned = true;
    num_tried = harness_scaled(num_kernels);
    for (int i = 0; i < num_tried && is_right; i++)
        for (uint64_t seed = 1; seed <= 3 && is_right; seed++)
            is_right =
                try_kernel(&lane, &kernels[i * num_kernels / num_tried], 10 * (uint64_t)i + seed);
    printf("# %d kernels\n", num_tried);
    lane_close(&lane);
    dg_context_destroy(context);
    CHECK(is_right, "%s", lane.failure);
}

int main(int argc, char **argv)
{
    need_gpu();
    asking = dg_sm90_backend;
    asking.plan = plan_asking;
    count = argc > 1 ? atoll(argv[1]) : harness_scaled(COUNT);
    first_seed = argc > 2 ? atoll(argv[2]) : 1;
    RUN(test_random_problems);
    if (argc == 1) {
        RUN(test_replays_of_a_graph);
        RUN(test_a_bad_layout_is_found);
        RUN(test_every_kernel);
    }
    return harness_end();
}
