// SPDX-License-Identifier: MIT
// test_sm90_plan.c - which tile runs what on a Hopper GPU: golden plans for the shapes in bench/shapes on
// recorded devices, and what holds for every plan, on invented problems and devices.  Needs no GPU.
//
//     test_sm90_plan --update      writes tests/unit/sm90_plans.golden anew, after a change to the planner
#include "../harness.h"
#include "../random_problem.h"

#include "backend/sm90/sm90_gemm.h"
#include "backend/sm90/sm90_grouped.h"
#include "backend/sm90/sm90_plan.h"
#include "backend/sm90/sm90_winners.h"
#include "plan/problem.h"

#define GOLDEN "tests/unit/sm90_plans.golden"

enum { MAX_KERNELS = 1024, NUM_DEVICES = 4, CALLS = 20000 };

static const char *const profiles[NUM_DEVICES] = {"h100-sxm", "h100-pcie", "h200", "h20"};
static struct dg_device devices[NUM_DEVICES];

static bool is_update;

// ---- golden ---------------------------------------------------------------------------------------

static dg_status add_plan(const struct dg_problem *problem, const struct dg_device *device,
                          struct dg_strbuf *text)
{
    struct dg_plan plan;
    char grid[32];
    DG_TRY(dg_plan_make(problem->groups ? dg_sm90_grouped_plan : dg_sm90_plan, problem, device,
                        &plan));
    snprintf(grid, sizeof grid, "%d/%d", plan.num_ctas, plan.band);
    if (plan.sm90.split)
        dg_strbuf_add(text, " | %3dx%-3d  /%d %7s", plan.sm90.block_m, plan.sm90.block_n,
                      plan.sm90.split, grid);
    else
        dg_strbuf_add(text, " | %3dx%-3d %dx%d %7s", plan.sm90.block_m, plan.sm90.block_n,
                      plan.sm90.cluster_m, plan.sm90.cluster_n, grid);
    return DG_OK;
}

static dg_status add_line(const char *line, struct dg_strbuf *text)
{
    struct dg_problem problem;
    char shortest[256];
    DG_TRY(dg_problem_parse(line, &problem));
    dg_problem_format(&problem, shortest, sizeof shortest);
    dg_strbuf_add(text, "%-78s", shortest);
    for (int i = 0; i < NUM_DEVICES; i++)
        DG_TRY(add_plan(&problem, &devices[i], text));
    dg_strbuf_add(text, "\n");
    return DG_OK;
}

static dg_status add_file(const char *path, struct dg_strbuf *text)
{
    char line[512];
    FILE *file = fopen(path, "r");
    dg_status status = file ? DG_OK : dg_fail(DG_IO_ERROR, "%s: cannot be read", path);
    while (status == DG_OK && fgets(line, sizeof line, file)) {
        line[strcspn(line, "#\n")] = 0;
        if (line[strspn(line, " ")])
            status = add_line(line, text);
    }
    if (file)
        fclose(file);
    return status;
}

static dg_status add_all(struct dg_strbuf *text)
{
    static const char *const files[] = {
        "bench/shapes/deepseek-v3-dense.txt",    "bench/shapes/deepseek-v3-1d1d.txt",
        "bench/shapes/deepseek-v3-grouped.txt",  "bench/shapes/other-models-dense.txt",
        "bench/shapes/other-models-grouped.txt", "bench/shapes/with-c.txt",
        "bench/shapes/scales-by-rows.txt",       "bench/shapes/few-groups.txt"};
    dg_strbuf_add(
        text,
        "# tile, cluster or division of k, CTAs / band of the plan for each device; written by "
        "test_sm90_plan --update\n#%-77s",
        " problem");
    for (int i = 0; i < NUM_DEVICES; i++)
        dg_strbuf_add(text, " | %19s", profiles[i]);
    dg_strbuf_add(text, "\n");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        DG_TRY(add_file(files[i], text));
    return text->failed ? dg_fail(DG_OUT_OF_MEMORY, "text") : DG_OK;
}

// The number of the first line that differs, and both; 0 when none does.
static int first_difference(FILE *file, const char *text, char was[512], char is[512])
{
    for (int number = 1;; number++) {
        const size_t length = strcspn(text, "\n");
        const bool has_line = fgets(was, 512, file) != NULL;
        was[has_line ? strcspn(was, "\n") : 0] = 0;
        snprintf(is, 512, "%.*s", (int)length, text);
        if (!has_line && !*text)
            return 0;
        if (!has_line || !*text || strcmp(was, is))
            return number;
        text += length + 1;
    }
}

static void test_golden_plans(void)
{
    struct dg_strbuf text = {0};
    char was[512] = "", is[512] = "";
    CHECK(add_all(&text) == DG_OK, "%s", dg_last_error());
    FILE *file = fopen(GOLDEN, is_update ? "w" : "r");
    CHECK(file, "%s cannot be opened (tests run in the root of the tree)", GOLDEN);
    if (is_update)
        fputs(dg_strbuf_text(&text), file);
    const int number = is_update ? 0 : first_difference(file, dg_strbuf_text(&text), was, is);
    fclose(file);
    dg_strbuf_free(&text);
    CHECK(number == 0,
          "%s, line %d:\n#   it was   %s\n#   it is    %s\n# if that is meant: run this test with "
          "--update and read the diff",
          GOLDEN, number, was, is);
}

// ---- every plan -----------------------------------------------------------------------------------

static struct dg_sm90_kernel kernels[MAX_KERNELS];
static int num_kernels;

static dg_status collect(void *user, const struct dg_sm90_kernel *kernel)
{
    if (num_kernels == MAX_KERNELS)
        return dg_fail(DG_INTERNAL, "more than %d kernels", MAX_KERNELS);
    kernels[num_kernels++] = *kernel;
    return DG_OK;
}

static bool is_known(const struct dg_sm90_kernel *kernel)
{
    for (int i = 0; i < num_kernels; i++)
        if (!memcmp(&kernels[i], kernel, sizeof *kernel))
            return true;
    return false;
}

static int64_t ceil_div(int64_t x, int64_t y)
{
    return (x + y - 1) / y;
}

// From 1 to 2^bits, small ones as often as large ones.
static int64_t draw_size(uint64_t *state, int bits)
{
    return random_range(state, 1, (int64_t)1 << random_range(state, 0, bits));
}

static struct dg_problem draw_problem(uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    struct dg_problem p = random_problem_draw(seed, 1 << 20), complete;
    p.m = draw_size(&state, 17), p.n = draw_size(&state, 17), p.k = draw_size(&state, 15);
    p.lda = (p.a_major == DG_K_MAJOR ? p.k : p.m) + random_range(&state, 0, 17);
    p.ldb = (p.b_major == DG_K_MAJOR ? p.k : p.n) + random_range(&state, 0, 17);
    p.ldd = p.n + random_range(&state, 0, 9);
    p.invariant = random_range(&state, 0, 4) == 0;
    if (dg_problem_complete(&p, &complete) != DG_OK)
        printf("Bail out! %s\n", dg_last_error()), exit(1);
    return complete;
}

static struct dg_device draw_device(uint64_t seed)
{
    uint64_t state = seed * 2 + 3;
    struct dg_device device = devices[0];
    device.all_sms = (int32_t)random_range(&state, 1, 200);
    device.num_sms =
        random_next(&state) % 2 ? device.all_sms : (int32_t)random_range(&state, 1, device.all_sms);
    device.memory_gbs = (double)random_range(&state, 300, 9000);
    device.l2_bytes = random_range(&state, 8, 128) << 20;
    return device;
}

// The split kernel: all CTAs at once.
static const char *judge_split_grid(const struct dg_problem *p, const struct dg_device *device,
                                    const struct dg_plan *plan)
{
    const struct dg_sm90_config *c = &plan->sm90;
    const int64_t tiles = ceil_div(p->m, c->block_m) * ceil_div(p->n, c->block_n);
    if (p->invariant && c->split > 1)
        return "k is divided";
    if (plan->num_ctas > device->num_sms)
        return "number of CTAs";
    return plan->num_ctas == tiles * c->split ? NULL : "CTAs without work";
}

static const char *judge_grid(const struct dg_problem *p, const struct dg_device *device,
                              const struct dg_plan *plan)
{
    const struct dg_sm90_config *c = &plan->sm90;
    const int32_t cluster = c->cluster_m * c->cluster_n;
    const int64_t units_m = ceil_div(ceil_div(p->m, c->block_m), c->cluster_m);
    const int64_t units_n = ceil_div(ceil_div(p->n, c->block_n), c->cluster_n);
    if (c->split)
        return judge_split_grid(p, device, plan);
    if (plan->num_ctas < 1 || plan->num_ctas > device->num_sms)
        return "number of CTAs";
    if (plan->num_ctas % cluster)
        return "CTAs are no whole clusters";
    if (plan->num_ctas / cluster > units_m * units_n)
        return "CTAs without work";
    if (units_m * units_n > plan->num_ctas / cluster && plan->num_ctas + cluster <= device->num_sms)
        return "SMs without work";
    return plan->band < 1 || plan->band > units_m ? "band" : NULL;
}

// Bytes of a K-major copy with rows of whole 128-byte blocks, if TMA cannot read the operand.
static int64_t copy_bytes(dg_major major, int64_t rows, int64_t k, int64_t ld)
{
    const bool is_read_in_place = major == DG_K_MAJOR && (ld % 16 == 0 || rows == 1);
    return is_read_in_place ? 0 : ceil_div(rows * ceil_div(k, 128) * 128, 256) * 256;
}

static const char *judge_workspace(const struct dg_problem *p, const struct dg_plan *plan)
{
    const int64_t a = copy_bytes(p->a_major, p->m, p->k, p->lda),
                  b = copy_bytes(p->b_major, p->n, p->k, p->ldb);
    return !plan->repack_a == !a && !plan->repack_b == !b && plan->workspace_bytes == a + b
               ? NULL
               : "workspace";
}

// Copies of FP32 scales only where TMA may not take them as they are; with them one kernel, without another.
static const char *judge_copies(const struct dg_problem *p, const struct dg_device *device,
                                const struct dg_plan *plan)
{
    const int64_t blocks = ceil_div(p->k, 128), behind = ceil_div(plan->workspace_bytes, 256) * 256;
    const bool per_row = p->sfb_block_n == 1, fits_a = p->sfa_major == DG_MN_MAJOR;
    const bool fits_b =
        per_row ? p->sfb_major == DG_MN_MAJOR : p->sfb_major == DG_K_MAJOR && blocks % 4 == 0;
    const int64_t a = ceil_div(ceil_div(p->m, 4) * 4 * blocks * 4, 256) * 256;
    const int64_t b = per_row ? ceil_div(p->n, 4) * 4 * blocks * 4
                              : ceil_div(p->n, 128) * ceil_div(blocks, 4) * 4 * 4;
    struct dg_plan other;
    memset(&other, 0, sizeof other);
    if (!plan->spare_bytes)
        return NULL;
    if (p->sf_type != DG_F32 || (fits_a && fits_b) || plan->sm90.split || p->m < 256)
        return "copies of scales";
    if (plan->workspace_bytes + plan->spare_bytes != behind + a + b)
        return "room for copies of scales";
    if (dg_sm90_plan_any_layout(p, device, &other) != DG_OK)
        return dg_last_error();
    struct dg_sm90_kernel kernel = dg_sm90_kernel_of(p, &other);
    kernel.scales_tma = 0;
    return is_known(&kernel) && !other.spare_bytes ? NULL : "the plan without copies";
}

// The figure promises no more than the hardware has: 8192 FP8 operations per clock and SM.
static const char *judge_prediction(const struct dg_problem *p, const struct dg_device *device,
                                    const struct dg_plan *plan)
{
    const double operations = 2.0 * (double)p->m * (double)p->n * (double)p->k;
    const double bytes = (double)p->m * (double)p->k + (double)p->n * (double)p->k +
                         (double)p->m * (double)p->n * (double)dg_type_bytes(p->d_type);
    const double compute = operations / (device->num_sms * 8192.0 * 1980);
    return plan->predicted_us >= compute &&
                   plan->predicted_us >= bytes / device->memory_gbs / 1e3 &&
                   plan->predicted_us < 1e12
               ? NULL
               : "prediction";
}

static const char *judge_why(const struct dg_problem *p, const struct dg_device *device,
                             const struct dg_plan *plan)
{
    const struct dg_sm90_winner *w = dg_sm90_winner(p, device);
    const struct dg_sm90_config *c = &plan->sm90;
    const bool is_winner = w && w->block_m == c->block_m && w->block_n == c->block_n &&
                           w->cluster_n == c->cluster_n && w->split == c->split;
    return !strstr(plan->why, "winner") || is_winner ? NULL : "says that it is a winner";
}

static const char *judge(const struct dg_problem *p, const struct dg_device *device)
{
    struct dg_plan plan, again;
    memset(&again, 0x55, sizeof again);
    if (dg_plan_make(dg_sm90_plan, p, device, &plan) != DG_OK ||
        dg_plan_make(dg_sm90_plan, p, device, &again) != DG_OK)
        return dg_last_error();
    if (memcmp(&plan, &again, sizeof plan))
        return "another plan the second time";
    const struct dg_sm90_kernel kernel = dg_sm90_kernel_of(p, &plan);
    if (plan.kernel != DG_KERNEL_SM90_GEMM || !is_known(&kernel))
        return "a kernel that dg_sm90_enumerate does not visit";
    if (dg_sm90_smem_bytes(&kernel) > device->smem_bytes)
        return "shared memory";
    const char *faults[] = {judge_grid(p, device, &plan), judge_workspace(p, &plan),
                            judge_copies(p, device, &plan), judge_prediction(p, device, &plan),
                            judge_why(p, device, &plan)};
    for (int i = 0; i < 5; i++)
        if (faults[i])
            return faults[i];
    return NULL;
}

static void test_every_plan_keeps_the_rules(void)
{
    for (int i = 0; i < harness_scaled(CALLS); i++) {
        const struct dg_problem problem = draw_problem((uint64_t)i);
        const struct dg_device device =
            i % 4 ? draw_device((uint64_t)i) : devices[i / 4 % NUM_DEVICES];
        const char *fault = judge(&problem, &device);
        char line[256];
        dg_problem_format(&problem, line, sizeof line);
        CHECK(!fault, "%s on %d of %d SMs (seed %d): %s", line, device.num_sms, device.all_sms, i,
              fault);
    }
}

// The shapes of the table, whose neighbours random problems miss.
static void test_plans_of_measured_shapes_keep_the_rules(void)
{
    static const int64_t shapes[][2] = {{2112, 7168},  {576, 7168},  {24576, 1536}, {32768, 512},
                                        {7168, 16384}, {4096, 7168}, {7168, 2048}};
    for (int s = 0; s < 7; s++)
        for (int i = 0; i < 300; i++) {
            uint64_t state = (uint64_t)i;
            struct dg_problem problem = draw_problem((uint64_t)i);
            problem.m = draw_size(&state, 14);
            problem.n = shapes[s][0], problem.k = shapes[s][1];
            problem.lda = problem.ldb = problem.ldd = 0;
            CHECK(dg_problem_complete(&problem, &problem) == DG_OK, "%s", dg_last_error());
            const char *fault = judge(&problem, &devices[i % NUM_DEVICES]);
            char line[256];
            dg_problem_format(&problem, line, sizeof line);
            CHECK(!fault, "%s on %s: %s", line, devices[i % NUM_DEVICES].name, fault);
        }
}

// ---- the list of kernels --------------------------------------------------------------------------

static void test_listed_kernels_fit_the_hardware(void)
{
    for (int i = 0; i < num_kernels; i++) {
        const struct dg_sm90_kernel *kernel = &kernels[i];
        const struct dg_sm90_config *c = &kernel->config;
        const int32_t rows = dg_sm90_has_panels(c) ? 64 : 64 * c->math_groups;
        const int32_t halves = c->block_m / rows;
        char text[160];
        dg_sm90_kernel_text(kernel, text, sizeof text);
        CHECK(dg_sm90_smem_bytes(kernel) <= devices[0].smem_bytes, "%s: %d bytes of shared memory",
              text, dg_sm90_smem_bytes(kernel));
        CHECK(c->block_m == rows * halves, "%s", text);
        CHECK(halves >= 1 && halves <= (c->split ? 1 : 2), "%s", text);
        CHECK(c->block_n % 8 == 0 && c->block_n <= 256 && c->num_stages >= 2, "%s", text);
        CHECK(c->math_groups >= 1 && c->math_groups <= 3 && c->d_buffers >= 1, "%s", text);
        // Accumulators and one more set of products in registers, or two of what is under way.
        const int32_t sets = c->split ? 1 + 2 * c->stage_blocks : halves + 1;
        CHECK(sets * c->block_n / 2 <= 224, "%s: %d accumulators", text, sets * c->block_n / 2);
        const int32_t columns = dg_sm90_d_columns(kernel);
        CHECK(columns * (kernel->d_fp32 ? 4 : 2) * 16 <= 2048, "%s: buffer of D", text);
        CHECK(!kernel->d_fp32 || c->block_n % columns == 0, "%s: FP32 pieces overlap", text);
        CHECK(c->block_n >= columns, "%s: pieces of D", text);
        // A multicast share is made of whole swizzle atoms.
        CHECK(c->block_m / c->cluster_n % 8 == 0 && c->block_n / c->cluster_m % 8 == 0, "%s", text);
        for (int j = 0; j < i; j++)
            CHECK(memcmp(&kernels[j], kernel, sizeof *kernel), "%s: twice", text);
    }
}

static dg_status stop_at_third(void *user, const struct dg_sm90_kernel *kernel)
{
    return ++*(int *)user == 3 ? DG_IO_ERROR : DG_OK;
}

static void test_enumeration_stops_when_asked(void)
{
    int count = 0;
    CHECK(dg_sm90_enumerate(stop_at_third, &count) == DG_IO_ERROR && count == 3, "%d", count);
}

// ---- arithmetic of the kernels --------------------------------------------------------------------

// As dg_divide of sm90_ptx.cuh has it.
static int64_t divide(int64_t x, struct dg_sm90_divisor by)
{
    return (int64_t)((uint64_t)x * by.multiplier >> by.shift);
}

static void test_division_without_dividing(void)
{
    uint64_t state = 11;
    for (int i = 0; i < CALLS; i++) {
        const int64_t most = i % 3 == 0 ? 40 : i % 3 == 1 ? 1 << 20 : INT32_MAX;
        const int64_t by = i < 31 ? (int64_t)1 << i : random_range(&state, 1, most);
        const int64_t multiple = INT32_MAX / by * by;
        const int64_t dividends[] = {0,
                                     1,
                                     by - 1,
                                     by,
                                     multiple - 1,
                                     multiple,
                                     INT32_MAX,
                                     random_range(&state, 0, INT32_MAX)};
        for (size_t j = 0; j < sizeof dividends / sizeof *dividends; j++) {
            const int64_t x = dividends[j];
            CHECK(divide(x, dg_sm90_divide_by(by)) == x / by, "%lld / %lld is not %lld",
                  (long long)x, (long long)by, (long long)divide(x, dg_sm90_divide_by(by)));
        }
    }
    CHECK(divide(INT32_MAX - 1, dg_sm90_divide_by((int64_t)1 << 40)) == 0, "a large divisor");
    CHECK(divide(7, dg_sm90_divide_by(0)) == 7, "no divisor counts as 1");
}

// ---- limits ---------------------------------------------------------------------------------------

static void test_sizes_beyond_32_bits_are_refused(void)
{
    static const char *const lines[] = {"fp8_gemm_nt m=2147483647 n=16 k=16",
                                        "fp8_gemm_nt m=16 n=4294967296 k=16",
                                        "fp8_gemm_nt m=16 n=16 k=2147483640"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct dg_problem problem;
        struct dg_plan plan;
        const char name[] = {"mnk"[i], ' ', '=', 0};
        CHECK(dg_problem_parse(lines[i], &problem) == DG_OK, "%s", dg_last_error());
        CHECK(dg_plan_make(dg_sm90_plan, &problem, &devices[0], &plan) == DG_UNSUPPORTED, "%s",
              lines[i]);
        CHECK(strstr(dg_last_error(), name) && strstr(dg_last_error(), "at most"), "%s",
              dg_last_error());
    }
}

int main(int argc, char **argv)
{
    is_update = argc > 1 && !strcmp(argv[1], "--update");
    for (int i = 0; i < NUM_DEVICES; i++)
        if (dg_device_profile(profiles[i], &devices[i]) != DG_OK)
            return printf("Bail out! %s\n", dg_last_error()), 1;
    if (dg_sm90_enumerate(collect, NULL) != DG_OK)
        return printf("Bail out! %s\n", dg_last_error()), 1;
    RUN(test_golden_plans);
    RUN(test_every_plan_keeps_the_rules);
    RUN(test_plans_of_measured_shapes_keep_the_rules);
    RUN(test_listed_kernels_fit_the_hardware);
    RUN(test_enumeration_stops_when_asked);
    RUN(test_division_without_dividing);
    RUN(test_sizes_beyond_32_bits_are_refused);
    return harness_end();
}
