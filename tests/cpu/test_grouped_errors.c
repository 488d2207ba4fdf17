// SPDX-License-Identifier: MIT
// test_grouped_errors.c - grouped calls that must be refused, with a text that names the argument, its value and
// the rule; and bad layouts, which DG_GROUPED_CHECK_LAYOUT finds.
#include "../contexts.h"
#include "../harness.h"

#include "deepgemm.h"

#include <stdbool.h>

enum { GROUPS = 3, M = 40, N = 24, K = 256, BLOCKS = 2 };

// A call in pieces, for a case to spoil: contiguous, masked and along k share the memory.
struct call {
    struct dg_scaled a, b;
    struct dg_tensor c, d, layout;
    struct dg_grouped_options options;
    bool has_c;
    int32_t entries[M];
};

static uint8_t values[GROUPS * M * K + GROUPS * N * K];
static float scales[4096];
static float output[GROUPS * M * N];

enum kind { INDEX, ENDS, MASKED, ALONG_K };

static void make_call(enum kind kind, struct call *call)
{
    const struct dg_tensor sfa = dg_matrix(scales, DG_F32, M, BLOCKS),
                           sfb = dg_matrix(scales, DG_F32, 1, BLOCKS);
    *call = (struct call){.options = DG_GROUPED_OPTIONS};
    call->a = (struct dg_scaled){dg_matrix(values, DG_E4M3, M, K), sfa, 1, 128};
    call->b = (struct dg_scaled){dg_stack(dg_matrix(values, DG_E4M3, N, K), GROUPS, N * K),
                                 dg_stack(sfb, GROUPS, BLOCKS), 128, 128};
    call->d = dg_matrix(output, DG_F32, M, N);
    call->layout = (struct dg_tensor){call->entries, DG_I32, 1, {kind == INDEX ? M : GROUPS}, {1}};
    if (kind == ENDS)
        call->options.layout = DG_GROUP_ENDS, call->options.alignment = 1;
    if (kind >= MASKED)
        call->d = dg_stack(call->d, GROUPS, M * N);
    if (kind == MASKED) {
        call->a.values = dg_stack(call->a.values, GROUPS, M * K);
        call->a.scales = dg_stack(sfa, GROUPS, M * BLOCKS);
    }
    if (kind == ALONG_K) {
        call->a.values = (struct dg_tensor){values, DG_E4M3, 1, {M * K}, {1}};
        call->b = (struct dg_scaled){
            {values, DG_E4M3, 1, {N * K}, {1}}, dg_matrix(scales, DG_F32, N, BLOCKS), 1, 128};
    }
    call->c = call->d;
}

static dg_status run(dg_context *context, enum kind kind, struct call *call)
{
    call->layout.data = call->layout.data ? call->entries : NULL;
    const struct dg_tensor *c = call->has_c ? &call->c : NULL;
    return (kind == MASKED    ? dg_m_grouped_fp8_gemm_nt_masked
            : kind == ALONG_K ? dg_k_grouped_fp8_gemm_nt_contiguous
                              : dg_m_grouped_fp8_gemm_nt_contiguous)(
        context, &call->a, &call->b, &call->d, c, &call->layout, &call->options, NULL);
}

static void spoil_groups_of_a(struct call *call)
{
    call->a.values.shape[0]--;
}
static void spoil_k(struct call *call)
{
    call->b.values.shape[2]--;
}
static void spoil_d_rows(struct call *call)
{
    call->d.shape[0]++;
}
static void spoil_d_groups(struct call *call)
{
    call->d.shape[0]--;
}
static void spoil_d_overlap(struct call *call)
{
    call->d.stride[0] = M * N - 1;
}
static void spoil_rank(struct call *call)
{
    call->b.values.rank = 2;
}
static void spoil_layout_length(struct call *call)
{
    call->layout.shape[0]++;
}
static void spoil_layout_type(struct call *call)
{
    call->layout.type = DG_F32;
}
static void spoil_layout_null(struct call *call)
{
    call->layout.data = NULL;
}
static void spoil_alignment(struct call *call)
{
    call->options.alignment = -5;
}
static void spoil_expected(struct call *call)
{
    call->options.expected_m = -1;
}
static void spoil_flags(struct call *call)
{
    call->options.flags = 1u << 30;
}
static void spoil_block(struct call *call)
{
    call->b.block_rows = 64;
}
static void spoil_sfb_groups(struct call *call)
{
    call->b.scales.shape[0] = GROUPS + 1;
}
static void spoil_c_type(struct call *call)
{
    call->c.type = DG_BF16, call->has_c = true;
}
static void spoil_c_strides(struct call *call)
{
    call->c.stride[0]++, call->has_c = true;
}
static void spoil_flat(struct call *call)
{
    call->a.values.shape[0]++;
}
static void spoil_blocks(struct call *call)
{
    call->a.scales.shape[1] = 9, call->a.scales.stride[0] = 9;
}

static const struct {
    enum kind kind;
    void (*spoil)(struct call *);
    const char *text; // must be in the error
} refused[] = {
    {MASKED, spoil_groups_of_a, "a.values has 2 groups, but b.values has 3"},
    {INDEX, spoil_k, "k = 255"},
    {INDEX, spoil_d_rows, "d.shape = [41, 24]: must be [40, 24]"},
    {MASKED, spoil_d_groups, "d.shape[0] = 2: must be 3"},
    {MASKED, spoil_d_overlap, "d.stride[0] = 959: groups of an output must not overlap"},
    {ENDS, spoil_rank, "b.values.rank = 2: must be 3"},
    {INDEX, spoil_layout_length, "layout.shape[0] = 41: must be 40"},
    {MASKED, spoil_layout_length, "layout.shape[0] = 4: must be 3"},
    {ENDS, spoil_layout_type, "layout.type = f32"},
    {MASKED, spoil_layout_null, "layout.data"},
    {ENDS, spoil_alignment, "alignment = -5"},
    {MASKED, spoil_expected, "expected_m = -1"},
    {INDEX, spoil_flags, "options.flags"},
    {INDEX, spoil_block, "b.block_rows x b.block_columns = 64 x 128"},
    {INDEX, spoil_sfb_groups, "b.scales.shape[0] = 4: must be 3"},
    {MASKED, spoil_c_type, "c.type = bf16, but d.type = f32"},
    {MASKED, spoil_c_strides, "c.stride differs from d.stride"},
    {ALONG_K, spoil_flat, "a.values.shape[0] = 10241: must be a multiple of 40"},
    {ALONG_K, spoil_blocks, "9 blocks"},
    {ALONG_K, spoil_block, "must be 1 x 128"},
};

static const struct {
    enum kind kind;
    int32_t entries[GROUPS];
    const char *text;
} layouts[] = {
    {INDEX, {0, 3, -1}, "layout[1] = 3: the group of row 1 must be 0 to 2, or -1"},
    {INDEX, {0, -1, -2}, "layout[2] = -2"},
    {ENDS, {5, 41, 0}, "layout[1] = 41: the end of group 1 must be a row from 0 to 40"},
    {ENDS, {9, 8, 10}, "layout[1] = 8: group 1 must not end before row 9"},
    {MASKED, {1, -1, 0}, "layout[1] = -1: group 1 must have 0 to 40 rows"},
    {MASKED, {1, 0, 41}, "layout[2] = 41"},
    {ALONG_K, {128, 33, 0}, "layout[1] = 33: k of group 1 must be a multiple of 32"},
    {ALONG_K, {128, 64, 128}, "layout[0] to layout[2] add up to 320 values"},
};

static void test_good_calls_pass(void)
{
    dg_context *context = open_context("cpu", NULL, 0);
    for (int kind = INDEX; kind <= ALONG_K; kind++) {
        struct call call;
        make_call((enum kind)kind, &call);
        call.options.flags = DG_GROUPED_CHECK_LAYOUT;
        CHECK(run(context, (enum kind)kind, &call) == DG_OK, "kind %d: %s", kind, dg_last_error());
    }
    dg_context_destroy(context);
}

static void test_refused_calls(void)
{
    dg_context *context = open_context("cpu", NULL, 0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct call call;
        make_call(refused[i].kind, &call);
        refused[i].spoil(&call);
        memset(output, 0xff, sizeof output);
        const dg_status status = run(context, refused[i].kind, &call);
        CHECK(status == DG_INVALID_ARGUMENT && strstr(dg_last_error(), refused[i].text),
              "case %zu gives %s: %s", i, dg_status_name(status), dg_last_error());
        for (size_t j = 0; j < sizeof output; j++)
            CHECK(((const uint8_t *)output)[j] == 0xff, "case %zu wrote D", i);
    }
    dg_context_destroy(context);
}

static void test_too_many_groups(void)
{
    struct dg_problem problem;
    CHECK(dg_problem_parse("fp8_m_grouped_masked groups=1048577 max_m=1 n=1 k=16", &problem) ==
                  DG_INVALID_ARGUMENT &&
              strstr(dg_last_error(), "groups = 1048577: must be 1 to 1048576"),
          "%s", dg_last_error());
}

static void test_bad_layouts_are_found(void)
{
    dg_context *context = open_context("cpu", NULL, 0);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct call call;
        make_call(layouts[i].kind, &call);
        memcpy(call.entries, layouts[i].entries, sizeof layouts[i].entries);
        CHECK(run(context, layouts[i].kind, &call) == DG_OK, "unchecked: %s", dg_last_error());
        call.options.flags = DG_GROUPED_CHECK_LAYOUT;
        const dg_status status = run(context, layouts[i].kind, &call);
        CHECK(status == DG_INVALID_ARGUMENT && strstr(dg_last_error(), layouts[i].text),
              "case %zu gives %s: %s", i, dg_status_name(status), dg_last_error());
    }
    dg_context_destroy(context);
}

int main(void)
{
    RUN(test_good_calls_pass);
    RUN(test_refused_calls);
    RUN(test_too_many_groups);
    RUN(test_bad_layouts_are_found);
    return harness_end();
}
