// SPDX-License-Identifier: MIT
// mqa_check.c - page ids that do not exist, and schedules of other lengths or another number of SMs.
#include "api/mqa_check.h"

#include "base/overflow.h"
#include "plan/mqa_schedule.h"

#include <stdlib.h>
#include <string.h>

#define LL(x) ((long long)(x))

// Host views of what is on the device.
struct contents {
    const int32_t *lengths, *table, *schedule;
    void *copies[3]; // NULL: not copied
};

static dg_status view(dg_context *context, const int32_t *from, int64_t count, void *stream,
                      const int32_t **here, void **copy)
{
    *here = from;
    if (!context->backend->fetch || !from || count == 0)
        return DG_OK;
    *copy = malloc((size_t)count * sizeof *from);
    if (!*copy)
        return dg_fail(DG_OUT_OF_MEMORY, "DG_MQA_CHECK: no memory for a copy of %lld entries",
                       LL(count));
    *here = *copy;
    return context->backend->fetch(context->state, *copy, from, (size_t)count * sizeof *from,
                                   stream);
}

static int32_t lengths_per_sequence(const struct dg_mqa_paged *p)
{
    return p->lengths_per_row ? p->next_n : 1;
}

static dg_status view_all(dg_context *context, const struct dg_mqa_args *args,
                          struct contents *contents)
{
    const struct dg_mqa_paged *p = &args->paged;
    const int64_t table = (p->batch - 1) * p->block_table_stride + p->max_pages;
    DG_TRY(view(context, p->lengths, (int64_t)p->batch * lengths_per_sequence(p), args->stream,
                &contents->lengths, &contents->copies[0]));
    DG_TRY(view(context, p->block_table, p->max_pages ? table : 0, args->stream, &contents->table,
                &contents->copies[1]));
    return view(context, p->schedule, 2 * ((int64_t)p->num_workers + 1), args->stream,
                &contents->schedule, &contents->copies[2]);
}

static dg_status check_pages(const struct dg_mqa_args *args, const struct contents *contents)
{
    const struct dg_mqa_paged *p = &args->paged;
    for (int64_t sequence = 0; sequence < p->batch; sequence++) {
        int64_t length = dg_mqa_longest(contents->lengths, lengths_per_sequence(p), sequence);
        length = length < args->columns ? length : args->columns;
        for (int64_t i = 0; i < dg_ceil_div(length, p->page_size) && i < p->max_pages; i++) {
            const int32_t id = contents->table[sequence * p->block_table_stride + i];
            if (id < 0 || id >= p->num_pages)
                return dg_fail(DG_INVALID_ARGUMENT,
                               "block_table[%lld][%lld] = %d: must be a page from 0 to %lld",
                               LL(sequence), LL(i), (int)id, LL(p->num_pages) - 1);
        }
    }
    return DG_OK;
}

static dg_status check_purpose(const struct dg_mqa_paged *p, const int32_t *schedule)
{
    const int32_t *last = schedule + 2 * (int64_t)p->num_workers;
    if (last[0] == p->batch && last[1] == p->num_workers)
        return DG_OK;
    return dg_fail(DG_INVALID_ARGUMENT,
                   "schedule[%d] = %d, %d: was not made for %d sequences and %d SMs; see "
                   "dg_paged_mqa_logits_metadata()",
                   (int)p->num_workers, (int)last[0], (int)last[1], (int)p->batch,
                   (int)p->num_workers);
}

// A schedule of other lengths would leave out positions.
static dg_status check_rows(const struct dg_mqa_paged *p, const struct contents *contents)
{
    int32_t *expected = malloc(2 * ((size_t)p->num_workers + 1) * sizeof *expected);
    dg_status status = DG_OK;
    if (!expected)
        return dg_fail(DG_OUT_OF_MEMORY, "DG_MQA_CHECK: no memory for a schedule of %d SMs",
                       (int)p->num_workers);
    dg_mqa_schedule_make(contents->lengths, p->batch, lengths_per_sequence(p), p->num_workers,
                         expected);
    for (int64_t i = 0; i < p->num_workers && status == DG_OK; i++) {
        const int32_t *row = contents->schedule + 2 * i, *right = expected + 2 * i;
        if (row[0] != right[0] || row[1] != right[1])
            status = dg_fail(DG_INVALID_ARGUMENT,
                             "schedule[%lld] = %d, %d: with these lengths it is %d, %d; see "
                             "dg_paged_mqa_logits_metadata()",
                             LL(i), (int)row[0], (int)row[1], (int)right[0], (int)right[1]);
    }
    free(expected);
    return status;
}

static dg_status check_contents(const struct dg_mqa_args *args, const struct contents *contents)
{
    if (contents->schedule)
        DG_TRY(check_purpose(&args->paged, contents->schedule));
    if (contents->schedule && args->flags & DG_MQA_CHECK)
        DG_TRY(check_rows(&args->paged, contents));
    return check_pages(args, contents);
}

dg_status dg_mqa_check_paged(dg_context *context, const struct dg_mqa_args *args)
{
    struct contents contents = {.copies = {NULL}};
    if (context->backend->fetch && !(args->flags & DG_MQA_CHECK))
        return DG_OK;
    dg_status status = view_all(context, args, &contents);
    if (status == DG_OK)
        status = check_contents(args, &contents);
    for (int i = 0; i < 3; i++)
        free(contents.copies[i]);
    return status;
}
