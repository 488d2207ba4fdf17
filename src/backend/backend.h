// SPDX-License-Identifier: MIT
// backend.h - what an executor provides.  A backend is a folder beside this file and one row of the
// table in backends.c; folders never include one another.
#ifndef DG_BACKEND_BACKEND_H
#define DG_BACKEND_BACKEND_H

#include "base/error.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "plan/device.h"
#include "plan/plan.h"

// A matrix seen in NT orientation, strides in elements: element (r, c) is at r * row_stride + c *
// column_stride.  For scales r and c count scales, not values; for packed UE8M0 c counts scales too
// (the word is c / 4, the byte c % 4) and column_stride is that of words.
struct dg_matrix_view {
    void *data;
    int64_t row_stride, column_stride;
};

// One GEMM in NT orientation whatever it was called as: a [m, k], b [n, k], c and d [m, n].
struct dg_gemm_args {
    struct dg_matrix_view a, b, sfa, sfb, c, d; // c.data == NULL: no C
    void *workspace;
    size_t workspace_bytes;
    uint32_t flags; // DG_GEMM_...
    void *stream;
};

// A grouped GEMM in NT orientation: `gemm` has the matrices of all groups where those share one, else those
// of the first group, with the distance to the next one's here (elements; 0 where they share).  Groups along
// k: a and b are [m, sum of k] and [n, sum of k], or, with is_flat, one matrix without gaps after the other.
struct dg_grouped_args {
    struct dg_gemm_args gemm;
    int64_t a_group, sfa_group, b_group, sfb_group, c_group, d_group;
    const int32_t *layout;   // as include/deepgemm.h has it; never trusted
    const int32_t *num_rows; // NULL: all
    int64_t scale_columns;   // groups along k: columns of sfa and sfb
    int is_flat;
};

// Quantisation in one orientation: blocks of block_rows x block_columns of x.
struct dg_quantize_args {
    int64_t rows, columns;
    int32_t block_rows, block_columns;
    struct dg_matrix_view x, q, scales;
    dg_type x_type, scale_type;
    dg_scale_rounding rounding;
    int pack_rows; // packed scales run along rows (per_channel), not columns
    void *stream;
};

// MQA logits of either form.  Row i has the positions [begin, end) of its keys, cut to what there is.
// Strides in elements but where a name says bytes.
struct dg_mqa_args {
    int64_t rows, columns; // of logits
    int32_t heads, depth;  // q [rows, heads, depth]
    int32_t is_paged;
    uint32_t flags; // DG_MQA_...
    const uint8_t *q;
    int64_t q_row_stride, q_head_stride;
    const void *weights;
    int64_t weights_row_stride;
    dg_type weights_type, logits_type;
    void *logits;
    int64_t logits_row_stride;
    struct dg_mqa_plain {
        const uint8_t *kv;
        const float *scales;
        int64_t kv_row_stride, scale_stride, num_kv;
        const int32_t *starts, *ends; // no gaps
    } plain;
    struct dg_mqa_paged {
        const uint8_t *pages; // page_size * depth values, page_size floats
        int64_t num_pages, page_stride_bytes;
        int32_t batch, next_n, page_size;
        int32_t lengths_per_row; // 1: lengths [batch, next_n]; 0: [batch]
        const int32_t *lengths;  // no gaps
        const int32_t *block_table;
        int64_t block_table_stride, max_pages;
        const int32_t *schedule; // [num_workers + 1, 2]; NULL: none
        int32_t num_workers;
    } paged;
    void *stream;
};

// The schedule of paged.lengths for paged.num_workers; of the rest only batch, next_n, lengths_per_row
// and the stream count.
struct dg_mqa_schedule_args {
    struct dg_mqa_paged paged;
    int32_t *schedule;
    void *stream;
};

// Told of candidates one by one, until it returns something else than DG_OK.
typedef dg_status (*dg_candidate_visit)(void *user, const char *name, const struct dg_plan *plan);

struct dg_backend {
    const char *name;
    int is_default; // may be chosen without being asked for by name
    // The same backend for a device that is not there (options.device_profile): plans, explains and prepares,
    // but its compute hooks refuse or are NULL.  NULL: there are no profiles for this backend.
    const struct dg_backend *planner;

    // Can it run here?  Adds the reason to why_not if it cannot.
    int (*available)(const struct dg_context_options *options, struct dg_strbuf *why_not);

    // Takes the device in use: fills *device, makes *state.  close(NULL) is allowed.
    dg_status (*open)(const struct dg_context_options *options, const struct dg_log *log,
                      struct dg_device *device, void **state);
    void (*close)(void *state);

    // Pure: may be called for any device profile, open or invented.  DG_UNSUPPORTED with a text when
    // the problem is legal but not for this backend.
    dg_status (*plan)(const struct dg_problem *problem, const struct dg_device *device,
                      struct dg_plan *plan);
    // Every plan that could run the problem, under the name that a tuning file gives it; NULL: there is only one.
    dg_status (*candidates)(const struct dg_problem *problem, const struct dg_device *device,
                            dg_candidate_visit visit, void *user);
    // The plan in words, one fact per line of `deepgemm plan`.
    void (*explain)(const struct dg_problem *problem, const struct dg_device *device,
                    const struct dg_plan *plan, dg_fact_callback callback, void *user);

    // Compiles and loads what the plan needs; NULL when there is nothing to make ready.
    dg_status (*prepare)(void *state, const struct dg_problem *problem, const struct dg_plan *plan);
    dg_status (*gemm)(void *state, const struct dg_problem *problem, const struct dg_plan *plan,
                      const struct dg_gemm_args *args);

    // Grouped problems; their plan is made like the others'.  NULL: DG_UNSUPPORTED.
    dg_status (*grouped)(void *state, const struct dg_problem *problem, const struct dg_plan *plan,
                         const struct dg_grouped_args *args);
    // Copies from where the context computes and waits for it, for checks; NULL: memory of the host.
    dg_status (*fetch)(void *state, void *to, const void *from, size_t bytes, void *stream);

    // NULL: DG_UNSUPPORTED.
    dg_status (*quantize)(void *state, const struct dg_quantize_args *args);
    dg_status (*dequantize)(void *state, const struct dg_quantize_args *args);
    dg_status (*mqa_logits)(void *state, int32_t num_sms, const struct dg_mqa_args *args);
    dg_status (*mqa_schedule)(void *state, const struct dg_mqa_schedule_args *args);
    // As prepare and explain, for a checked problem; NULL: nothing to make ready, nothing to tell.
    dg_status (*mqa_prepare)(void *state, const struct dg_mqa_problem *problem);
    dg_status (*mqa_explain)(const struct dg_mqa_problem *problem, const struct dg_device *device,
                             dg_fact_callback callback, void *user);

    // Facts for `deepgemm info` that hold without an open context (CPU features, driver version...).
    void (*info)(dg_fact_callback callback, void *user);
};

extern const struct dg_backend *const dg_backends[]; // best first, ended by NULL

#endif
