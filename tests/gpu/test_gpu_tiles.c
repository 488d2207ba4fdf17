// SPDX-License-Identifier: MIT
// test_gpu_tiles.c - every kernel that a plan can name, whatever the planner chooses for which size: each
// is put into a plan by hand, with a grid so small that its CTAs work on several tiles; and the panel kernels, whose
// CTAs divide the tiles in their own way, on random sizes and grids.
#include "crowd.h"

#include "backend/sm90/sm90_kernel.h"
#include "backend/sm90/sm90_plan.h"

#include "backend/backend.h"

extern const struct dg_backend dg_sm90_backend;

enum { MAX_KERNELS = 1024, TILES_AT_ONCE = 3 };

static struct dg_sm90_kernel kernels[MAX_KERNELS];
static int num_kernels, num_tried; // all, or a sample of them ($DG_TEST_SCALE)
static struct dg_device device;
static void *state;

static dg_status collect(void *user, const struct dg_sm90_kernel *kernel)
{
    if (num_kernels == MAX_KERNELS)
        return dg_fail(DG_INTERNAL, "more than %d kernels", MAX_KERNELS);
    kernels[num_kernels++] = *kernel;
    return DG_OK;
}

// What is multiplied by which kernel, in at most so many units of tiles at once.
struct task {
    struct dg_sm90_kernel kernel;
    struct dg_problem problem;
    int64_t at_once;
};

// Two or three tiles and a tail in each direction, more blocks of k than the ring has slots; of the panel kernel more
// tiles, so that a CTA has some of two panels, and no more k than it takes.
static struct dg_problem problem_for(const struct dg_sm90_kernel *kernel)
{
    const struct dg_sm90_config *c = &kernel->config;
    struct dg_problem p;
    memset(&p, 0, sizeof p);
    p.op = DG_OP_FP8_GEMM_NT;
    p.m = (c->cluster_m + 1) * c->block_m + 13;
    p.n = (c->cluster_n + 1) * c->block_n + (kernel->reads_c ? 21 : 20);
    p.k = c->split ? 128 * (c->num_stages + 3) * c->stage_blocks * c->split : 128 * c->num_stages;
    p.k += kernel->d_fp32 ? 0 : 40;
    if (dg_sm90_has_panels(c)) {
        p.m += 5 * c->block_m, p.n += c->block_n;
        p.k -= 128;
    }
    p.lda = p.ldb = (p.k + 15) / 16 * 16;
    p.ldd = (p.n + 7) / 8 * 8;
    p.d_type = kernel->d_fp32 ? DG_F32 : DG_BF16;
    p.c_mode = kernel->reads_c ? DG_C_SEPARATE : kernel->d_fp32 ? DG_C_IN_PLACE : DG_C_NONE;
    p.sf_type = kernel->sf_packed ? DG_UE8M0X4 : DG_F32;
    p.sfb_block_n = kernel->sfb_block_n;
    p.sfa_major = kernel->scales_tma ? DG_MN_MAJOR : DG_K_MAJOR;
    p.sfb_major = kernel->scales_tma && p.sfb_block_n == 1 ? DG_MN_MAJOR : DG_K_MAJOR;
    return p;
}

// The plan of a problem with another kernel's tile.
static dg_status plan_with(const struct dg_sm90_config *c, const struct dg_problem *problem,
                           int64_t at_once, struct dg_plan *plan)
{
    const int64_t tiles_m = (problem->m + c->block_m - 1) / c->block_m,
                  tiles_n = (problem->n + c->block_n - 1) / c->block_n;
    const int64_t units =
        (tiles_m + c->cluster_m - 1) / c->cluster_m * ((tiles_n + c->cluster_n - 1) / c->cluster_n);
    const int64_t most = units < at_once ? units : at_once;
    DG_TRY(dg_plan_make(dg_sm90_plan, problem, &device, plan));
    plan->sm90 = *c;
    if (c->split) { // its CTAs have one tile, or a share of one, each
        plan->num_ctas = (int32_t)(units * c->split);
        return DG_OK;
    }
    plan->num_ctas = (int32_t)(most * c->cluster_m * c->cluster_n);
    plan->band = units > 4 ? 2 : 1;
    return DG_OK;
}

static struct dg_matrix_view view(const struct dg_tensor *tensor)
{
    return (struct dg_matrix_view){tensor->data, tensor->stride[0], tensor->stride[1]};
}

static bool call(struct lane *lane, const struct task *task, const struct random_problem *r,
                 const struct on_device *at)
{
    const struct cli_operands *o = &at->operands;
    const struct dg_gemm_args args = {
        .a = view(&o->a.values),
        .b = view(&o->b.values),
        .sfa = view(&o->a.scales),
        .sfb = view(&o->b.scales),
        .c = view(&o->c),
        .d = view(&o->d),
        .stream = lane->gpu.stream,
    };
    struct dg_problem complete;
    struct dg_plan plan;
    return (dg_problem_complete(&r->problem, &complete) == DG_OK &&
            plan_with(&task->kernel.config, &complete, task->at_once, &plan) == DG_OK &&
            dg_sm90_backend.gemm(state, &complete, &plan, &args) == DG_OK) ||
           lane_fail(lane, "%s", dg_last_error());
}

static bool try_task(struct lane *lane, const struct task *task, uint64_t seed)
{
    struct random_problem r;
    struct on_device at;
    lane->used = 0;
    random_problem_make(&r, &task->problem, seed, RANDOM_PADDED_SCALES);
    const bool is_right = lane_put(lane, &r, &at) && call(lane, task, &r, &at) &&
                          lane_get(lane, &r, &at) && lane_compare(lane, &r);
    random_problem_free(&r);
    if (!is_right) {
        const size_t length = strlen(lane->failure);
        lane->failure[length] = ' ';
        dg_sm90_kernel_text(&task->kernel, lane->failure + length + 1,
                            sizeof lane->failure - length - 1);
    }
    return is_right;
}

static bool try_kernel(struct lane *lane, int64_t index)
{
    const struct dg_sm90_kernel *kernel = &kernels[index * num_kernels / num_tried];
    const struct task task = {*kernel, problem_for(kernel), TILES_AT_ONCE};
    return try_task(lane, &task, (uint64_t)index + 1);
}

// The index-th panel kernel in turn, or NULL.
static const struct dg_sm90_kernel *panel_kernel(int64_t index)
{
    const struct dg_sm90_kernel *found[MAX_KERNELS];
    int count = 0;
    for (int i = 0; i < num_kernels; i++)
        if (dg_sm90_has_panels(&kernels[i].config))
            found[count++] = &kernels[i];
    return count ? found[index % count] : NULL;
}

static bool try_panels(struct lane *lane, int64_t index)
{
    const struct dg_sm90_kernel *kernel = panel_kernel(index);
    uint64_t draws = (uint64_t)index + 77;
    if (!kernel)
        return lane_fail(lane, "no panel kernel");
    struct task task = {*kernel, problem_for(kernel), random_range(&draws, 1, device.num_sms)};
    struct dg_problem *p = &task.problem;
    // One row or one k-block of scales counts as K-major, which these kernels do not take.
    p->m = random_range(&draws, 2, index % 4 ? 700 : 5000);
    p->n = random_range(&draws, 1, index % 4 == 1 ? 5000 : 700);
    p->k = random_range(&draws, 129, kernel->config.num_stages * 128);
    p->lda = p->ldb = (p->k + 15) / 16 * 16 + 16 * random_range(&draws, 0, 2);
    p->ldd = p->n + random_range(&draws, 0, 9);
    return try_task(lane, &task, (uint64_t)index + 1);
}

static void test_panels(void)
{
    const int count = harness_scaled(400);
    const int64_t right = crowd_run(try_panels, count, 0, NULL);
    CHECK(right == count, "%lld of %d problems are right", (long long)right, count);
}

static void test_every_kernel(void)
{
    num_tried = harness_scaled(num_kernels);
    const int64_t right = crowd_run(try_kernel, num_tried, 0, NULL);
    printf("# %lld kernels\n", (long long)right);
    CHECK(right == num_tried, "%lld of %d kernels are right", (long long)right, num_tried);
}

static void test_backend_opens(void)
{
    const struct dg_context_options options = DG_CONTEXT_OPTIONS;
    const struct dg_log log = {0};
    CHECK(dg_sm90_enumerate(collect, NULL) == DG_OK, "%s", dg_last_error());
    CHECK(dg_sm90_backend.open(&options, &log, &device, &state) == DG_OK, "%s", dg_last_error());
}

int main(void)
{
    need_gpu();
    RUN(test_backend_opens);
    if (state) {
        RUN(test_every_kernel);
        RUN(test_panels);
        dg_sm90_backend.close(state);
    }
    return harness_end();
}
