// SPDX-License-Identifier: MIT
// sm90_mqa_kernel.c - which MQA kernels there are, their shared memory, and the text in front of them.
#include "backend/sm90/sm90_mqa_kernel.h"

#include "backend/sm90/sm90_wgmma.h"

#include <stdio.h>

// More stages of pages do not help: 12 are 100 KB on their way to an SM.
enum {
    MOST_SMEM = 232448,
    MOST_STAGES = 24,
    MOST_PAGED_STAGES = 12,
    INFO_BYTES = 128,
    SCAN_BYTES = 256,
    FILL_BYTES = 2048
};

// ---- which ------------------------------------------------------------------------------------------

// Products for `lanes` lanes to a query: 8 or 16 groups of columns, and more products when 16 are not enough.
static const struct shape {
    int32_t lanes, head_rows, pieces;
} shapes[] = {
    {4, 8, 1}, {4, 16, 1},                        // up to 64, 128 heads
    {2, 8, 1}, {2, 16, 1}, {2, 16, 2},            // 32, 64, 128
    {1, 8, 1}, {1, 16, 1}, {1, 16, 2}, {1, 16, 4} // 16, 32, 64, 128
};
enum { NUM_SHAPES = sizeof shapes / sizeof *shapes };
static const int32_t depths[] = {32, 64, 128};

// Several lanes share a query only where they get equal numbers of heads.
static int32_t lanes_for(int32_t queries, int32_t heads)
{
    if (queries == 1 && heads % 8 == 0)
        return 4;
    return queries <= 2 && heads % 4 == 0 ? 2 : 1;
}

struct dg_sm90_mqa_kernel dg_sm90_mqa_choose(int is_paged, int32_t queries, int32_t heads,
                                             int32_t depth, int logits_bf16)
{
    const int32_t lanes = is_paged ? lanes_for(queries, heads) : 1;
    const int32_t rows = dg_sm90_mqa_head_rows(heads, lanes);
    const struct shape *shape = shapes;
    while (shape->lanes != lanes || shape->head_rows * shape->pieces < rows)
        shape++;
    return (struct dg_sm90_mqa_kernel){
        .is_paged = is_paged,
        .depth = depth <= 32   ? 32
                 : depth <= 64 ? 64
                               : 128,
        .lanes = lanes,
        .head_rows = shape->head_rows,
        .pieces = shape->pieces,
        .logits_bf16 = logits_bf16,
    };
}

static dg_status visit_depths(const struct shape *shape, int is_paged, dg_sm90_mqa_visit visit,
                              void *user)
{
    for (int i = 0; i < 2 * (int)(sizeof depths / sizeof *depths); i++) {
        const struct dg_sm90_mqa_kernel kernel = {
            is_paged, depths[i / 2], shape->lanes, shape->head_rows, shape->pieces, i % 2,
        };
        DG_TRY(visit(user, &kernel));
    }
    return DG_OK;
}

dg_status dg_sm90_mqa_enumerate(dg_sm90_mqa_visit visit, void *user)
{
    for (int i = 0; i < 2 * NUM_SHAPES; i++)
        if (i % 2 || shapes[i / 2].lanes == 1)
            DG_TRY(visit_depths(&shapes[i / 2], i % 2, visit, user));
    return DG_OK;
}

// ---- sizes, mirrored from the kernels -----------------------------------------------------------------

int32_t dg_sm90_mqa_quads(const struct dg_sm90_mqa_kernel *k)
{
    return k->is_paged || k->pieces > 1 ? 1 : 2;
}

// Groups of columns of a product that are no heads.
static int32_t linear_rows(const struct dg_sm90_mqa_kernel *k)
{
    return !k->is_paged && k->pieces == 2;
}

// Keys and scales.
static int32_t stage_bytes(const struct dg_sm90_mqa_kernel *k)
{
    return 64 * k->depth + (k->is_paged ? 1024 : 64 * 4 + 16);
}

static int32_t unit_bytes(const struct dg_sm90_mqa_kernel *k)
{
    const int32_t queries = 8 * (k->head_rows * k->pieces + 2 * linear_rows(k)) * k->depth;
    const int32_t weights = 4 * (2 * k->head_rows * k->pieces + 4) * 4;
    return dg_sm90_mqa_quads(k) * (queries + weights) + INFO_BYTES;
}

int32_t dg_sm90_mqa_math_groups(const struct dg_sm90_mqa_kernel *k)
{
    return k->is_paged && k->head_rows == 8 ? 4 : 3;
}

int32_t dg_sm90_mqa_q_slots(const struct dg_sm90_mqa_kernel *k)
{
    if (linear_rows(k)) // one in use, one for which vectors are made, one being loaded
        return 3;
    return 2 * unit_bytes(k) > MOST_SMEM * 3 / 4 ? 1 : 2;
}

static int32_t smem_bytes(const struct dg_sm90_mqa_kernel *k, int32_t stages)
{
    const int32_t slots = dg_sm90_mqa_q_slots(k);
    return stages * (stage_bytes(k) + 16) + slots * (unit_bytes(k) + 16) + FILL_BYTES +
           (k->is_paged ? 0 : SCAN_BYTES + slots * 8);
}

int32_t dg_sm90_mqa_stages(const struct dg_sm90_mqa_kernel *k)
{
    // Groups take turns, and the paged kernel's two key loaders do.
    const int32_t groups = dg_sm90_mqa_math_groups(k),
                  step = k->is_paged && groups % 2 ? 2 * groups : groups;
    int32_t stages = (k->is_paged ? MOST_PAGED_STAGES : MOST_STAGES) / step * step;
    while (smem_bytes(k, stages) > MOST_SMEM)
        stages -= step;
    return stages;
}

int32_t dg_sm90_mqa_smem_bytes(const struct dg_sm90_mqa_kernel *k)
{
    return smem_bytes(k, dg_sm90_mqa_stages(k));
}

// ---- text -------------------------------------------------------------------------------------------

dg_status dg_sm90_mqa_describe(void *user, struct dg_jit_request *request)
{
    const struct dg_sm90_mqa_kernel *kernel = user;
    request->name = kernel->is_paged ? "sm90_fp8_paged_mqa_logits" : "sm90_fp8_mqa_logits";
    request->file = kernel->is_paged ? "sm90_mqa_paged.cu" : "sm90_mqa_logits.cu";
    request->arch = 90;
    request->smem_bytes = dg_sm90_mqa_smem_bytes(kernel);
    dg_jit_define(request, "DG_DEPTH", kernel->depth);
    dg_jit_define(request, "DG_LANES", kernel->lanes);
    dg_jit_define(request, "DG_HEAD_ROWS", kernel->head_rows);
    dg_jit_define(request, "DG_PIECES", kernel->pieces);
    dg_jit_define(request, "DG_LINEAR_ROWS", linear_rows(kernel));
    if (!kernel->is_paged)
        dg_jit_define(request, "DG_QUADS", dg_sm90_mqa_quads(kernel));
    dg_jit_define(request, "DG_LOGITS_BF16", kernel->logits_bf16);
    const int32_t groups = dg_sm90_mqa_math_groups(kernel);
    dg_jit_define(request, "DG_MATH_GROUPS", groups);
    // The launch gives 512 threads 128 registers each, or 640 threads 96.
    dg_jit_define(request, "DG_MATH_REGISTERS", groups == 3 ? 152 : 104);
    dg_jit_define(request, "DG_LOAD_REGISTERS", groups == 3 ? 56 : 64);
    dg_jit_define(request, "DG_NUM_STAGES", dg_sm90_mqa_stages(kernel));
    dg_jit_define(request, "DG_Q_SLOTS", dg_sm90_mqa_q_slots(kernel));
    dg_sm90_emit_wgmma(&request->prologue, 8 * (kernel->head_rows + linear_rows(kernel)),
                       kernel->depth);
    return DG_OK;
}

void dg_sm90_mqa_kernel_text(const struct dg_sm90_mqa_kernel *kernel, char *text, size_t capacity)
{
    snprintf(
        text, capacity, "sm90_fp8_%smqa_logits depth=%d lanes=%d products=%dx64x%d stages=%d %s",
        kernel->is_paged ? "paged_" : "", kernel->depth, kernel->lanes, kernel->pieces,
        8 * kernel->head_rows, dg_sm90_mqa_stages(kernel), kernel->logits_bf16 ? "bf16" : "fp32");
}
