// SPDX-License-Identifier: MIT
// sm90_mqa_kernel.h - the identity of a compiled MQA kernel, and how its text and shared memory follow from
// it.  What the members mean is in sm90_mqa.cuh, under the names of the macros.
#ifndef DG_SM90_MQA_KERNEL_H
#define DG_SM90_MQA_KERNEL_H

#include "jit/jit.h"

#include <stddef.h>
#include <stdint.h>

// Key of the kernel table; no padding.
struct dg_sm90_mqa_kernel {
    int32_t is_paged;
    int32_t depth;     // 32, 64 or 128
    int32_t lanes;     // 1, 2 or 4
    int32_t head_rows; // 8 or 16
    int32_t pieces;    // 1, 2 or 4
    int32_t logits_bf16;
};

// Groups of eight columns that `heads` heads need with `lanes` lanes to a query.
static inline int32_t dg_sm90_mqa_head_rows(int32_t heads, int32_t lanes)
{
    return (heads + 2 * lanes - 1) / (2 * lanes);
}

// The smallest kernel for these sizes: heads up to 128, depth up to 128.  `queries`: how many there are to
// share keys, 1 to 4; the plain kernel always has four.
struct dg_sm90_mqa_kernel dg_sm90_mqa_choose(int is_paged, int32_t queries, int32_t heads,
                                             int32_t depth, int logits_bf16);

// Fours of queries that share a stage of keys.
int32_t dg_sm90_mqa_quads(const struct dg_sm90_mqa_kernel *kernel);
int32_t dg_sm90_mqa_math_groups(const struct dg_sm90_mqa_kernel *kernel);
int32_t dg_sm90_mqa_stages(const struct dg_sm90_mqa_kernel *kernel);
int32_t dg_sm90_mqa_q_slots(const struct dg_sm90_mqa_kernel *kernel);
// Dynamic shared memory of a CTA.
int32_t dg_sm90_mqa_smem_bytes(const struct dg_sm90_mqa_kernel *kernel);

// Fills a zeroed request.  `kernel` points to a struct dg_sm90_mqa_kernel (a dg_jit_describe).
dg_status dg_sm90_mqa_describe(void *kernel, struct dg_jit_request *request);
// "sm90_paged_mqa_logits depth=128 64x128 ...": for people and lists; cut to fit.
void dg_sm90_mqa_kernel_text(const struct dg_sm90_mqa_kernel *kernel, char *text, size_t capacity);

// Every kernel that a problem can name, one by one, until the visitor returns something else than DG_OK.
typedef dg_status (*dg_sm90_mqa_visit)(void *user, const struct dg_sm90_mqa_kernel *kernel);
dg_status dg_sm90_mqa_enumerate(dg_sm90_mqa_visit visit, void *user);

#endif
