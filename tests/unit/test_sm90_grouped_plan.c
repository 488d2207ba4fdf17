// SPDX-License-Identifier: MIT
// test_sm90_grouped_plan.c - plans of grouped problems on a Hopper GPU: what holds for every plan, on random problems
// and on invented devices, and which tile serves which sizes.  Needs no GPU.
#include "../harness.h"
#include "../random_grouped.h"

#include "backend/sm90/sm90_args.h"
#include "backend/sm90/sm90_grouped.h"

enum { MAX_KERNELS = 1024, CALLS = 5000, LARGEST_SMEM = 232448 };

static struct dg_sm90_grouped_kernel kernels[MAX_KERNELS];
static int num_kernels;

static dg_status collect(void *user, const struct dg_sm90_grouped_kernel *kernel)
{
    if (num_kernels == MAX_KERNELS)
        return dg_fail(DG_INTERNAL, "more than %d kernels", MAX_KERNELS);
    kernels[num_kernels++] = *kernel;
    return DG_OK;
}

static bool is_known(const struct dg_sm90_grouped_kernel *kernel)
{
    for (int i = 0; i < num_kernels; i++)
        if (!memcmp(&kernels[i], kernel, sizeof *kernel))
            return true;
    return false;
}

static void test_every_kernel_fits(void)
{
    CHECK(dg_sm90_grouped_enumerate(collect, NULL) == DG_OK, "%s", dg_last_error());
    CHECK(num_kernels > 50, "%d kernels", num_kernels);
    for (int i = 0; i < num_kernels; i++) {
        const struct dg_sm90_config *c = &kernels[i].tile.config;
        const int32_t bytes = dg_sm90_grouped_smem_bytes(&kernels[i]);
        char text[192];
        dg_sm90_grouped_text(&kernels[i], text, sizeof text);
        CHECK(bytes <= LARGEST_SMEM, "%s: %d bytes of shared memory", text, (int)bytes);
        CHECK(c->cluster_m * c->cluster_n == 1 && !c->split, "%s: CTAs that share tiles", text);
        CHECK(c->block_m % (64 * c->math_groups) == 0, "%s: pieces without a group", text);
        CHECK(!kernels[i].tile.d_fp32 || c->block_n % dg_sm90_d_columns(&kernels[i].tile) == 0,
              "%s: an FP32 D in overlapping pieces", text);
    }
}

static void test_every_plan_holds_to_the_rules(void)
{
    for (uint64_t seed = 1; seed <= CALLS; seed++) {
        struct random_grouped r;
        struct dg_problem problem;
        struct dg_plan plan;
        struct dg_device device;
        CHECK(dg_device_profile("h100-sxm", &device) == DG_OK, "%s", dg_last_error());
        device.num_sms = (int32_t)(1 + seed % 132);
        random_grouped_begin(&r, seed, 1 << 28);
        CHECK(dg_problem_complete(&r.problem, &problem) == DG_OK, "%s", dg_last_error());
        CHECK(dg_plan_make(dg_sm90_grouped_plan, &problem, &device, &plan) == DG_OK, "%s",
              dg_last_error());
        const struct dg_sm90_grouped_kernel kernel = dg_sm90_grouped_kernel_of(&problem, &plan);
        dg_problem_format(&problem, r.line, sizeof r.line);
        CHECK(plan.kernel == DG_KERNEL_SM90_GROUPED && is_known(&kernel), "%s", r.line);
        CHECK(plan.num_ctas == device.num_sms && plan.band >= 1, "%s: %d CTAs, band %d", r.line,
              plan.num_ctas, plan.band);
        CHECK(plan.predicted_us > 1 && plan.predicted_us < 1e7, "%s: %g us", r.line,
              plan.predicted_us);
        const struct dg_sm90_grouped_workspace at =
            dg_sm90_grouped_workspace(&problem, plan.repack_a, plan.repack_b);
        const int64_t list = r.kind == DG_KIND_K_GROUPED
                                 ? problem.groups * (int64_t)sizeof(struct dg_sm90_k_group)
                                 : 0;
        CHECK(plan.workspace_bytes == at.size && at.size - at.list == list, "%s: %lld bytes",
              r.line, (long long)plan.workspace_bytes);
        const int64_t spare = plan.copies_scales ? at.scales.end
                              : plan.own_rounds  ? at.count_end
                                                 : at.size;
        CHECK(plan.spare_bytes == spare - at.size, "%s: %lld bytes to spare", r.line,
              (long long)plan.spare_bytes);
        CHECK(at.count % 256 == 0 && at.count >= at.size && at.scales.sfa >= at.count_end,
              "%s: a count at %lld", r.line, (long long)at.count);
        CHECK(at.b % 256 == 0 && at.list % 256 == 0, "%s: parts at %lld and %lld", r.line,
              (long long)at.b, (long long)at.list);
    }
}

static dg_status plan_line(const char *line, struct dg_plan *plan)
{
    struct dg_problem problem;
    struct dg_device device;
    DG_TRY(dg_device_profile("h100-sxm", &device));
    DG_TRY(dg_problem_parse(line, &problem));
    return dg_plan_make(dg_sm90_grouped_plan, &problem, &device, plan);
}

// The tile, the rounds behind which tiles are asked for, and what is guessed of masked groups.
static void test_plans_follow_the_usual_rows(void)
{
    static const struct {
        const char *line;
        int32_t block_m, block_n, own_rounds, guessed_rows;
    } known[] = {
        {"fp8_m_grouped_contiguous groups=4 m=32768 n=4096 k=7168 sfa_layout=mn", 256, 128, 15, 0},
        {"fp8_m_grouped_contiguous groups=32 m=8192 n=7168 k=2048 rows=zipf expected_m=200", 256,
         128, 6, 0},
        {"fp8_m_grouped_contiguous groups=32 m=8192 n=7168 k=2048 expected_m=256", 256, 128, 6, 0},
        {"fp8_m_grouped_masked groups=32 max_m=4096 n=4096 k=7168 rows=20 sfa_layout=mn", 128, 128,
         3, 20},
        {"fp8_m_grouped_masked groups=32 max_m=256 n=4096 k=7168 rows=zipf expected_m=20", 128, 128,
         3, 20},
        {"fp8_m_grouped_masked groups=32 max_m=256 n=4096 k=7168 rows=128 sfa_layout=mn", 128, 128,
         3, 128},
        {"fp8_m_grouped_masked groups=32 max_m=4096 n=4096 k=7168 rows=256 sfa_layout=mn", 256, 128,
         3, 256},
        // few tiles
        {"fp8_m_grouped_masked groups=1 max_m=1024 n=7168 k=2048 sfa_layout=mn", 256, 112, 0, 1024},
        {"fp8_m_grouped_masked groups=6 max_m=256 n=4096 k=7168 rows=20 sfa_layout=mn", 128, 64, 0,
         20},
        // no more rows than there are, which a line without a hint says as well
        {"fp8_m_grouped_masked groups=4 max_m=64 n=4096 k=7168 expected_m=9223372036854775807", 128,
         64, 0, 64},
        {"fp8_m_grouped_masked groups=4 max_m=64 n=4096 k=7168", 128, 64, 0, 64},
        // short tiles; groups along k
        {"fp8_m_grouped_contiguous groups=128 m=32768 n=2048 k=768 rows=160", 256, 128, 0, 0},
        {"fp8_k_grouped groups=16 m=7168 n=2048 k=32768 c=inplace", 256, 96, 0, 0},
        {"fp8_k_grouped groups=16 m=7168 n=2048 k=32768 expected_m=2048", 256, 96, 0, 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct dg_plan plan;
        CHECK(plan_line(known[i].line, &plan) == DG_OK, "%s", dg_last_error());
        CHECK(plan.sm90.block_m == known[i].block_m && plan.sm90.block_n == known[i].block_n,
              "%s: %dx%d", known[i].line, plan.sm90.block_m, plan.sm90.block_n);
        CHECK(plan.own_rounds == known[i].own_rounds, "%s: %d", known[i].line, plan.own_rounds);
        CHECK(plan.guessed_rows == known[i].guessed_rows, "%s: %d", known[i].line,
              plan.guessed_rows);
    }
}

static void test_too_large_problems_are_refused(void)
{
    static const char *const lines[] = {
        "fp8_m_grouped_masked groups=1000000 max_m=100000 n=4096 k=128",
        "fp8_m_grouped_contiguous groups=2 m=2147483000 n=64 k=128",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct dg_problem problem;
        struct dg_device device;
        struct dg_plan plan;
        CHECK(dg_device_profile("h100-sxm", &device) == DG_OK &&
                  dg_problem_parse(lines[i], &problem) == DG_OK,
              "%s", dg_last_error());
        CHECK(dg_plan_make(dg_sm90_grouped_plan, &problem, &device, &plan) == DG_UNSUPPORTED, "%s",
              lines[i]);
    }
}

int main(void)
{
    RUN(test_every_kernel_fits);
    RUN(test_every_plan_holds_to_the_rules);
    RUN(test_plans_follow_the_usual_rows);
    RUN(test_too_large_problems_are_refused);
    return harness_end();
}
