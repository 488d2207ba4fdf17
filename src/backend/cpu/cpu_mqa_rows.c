// SPDX-License-Identifier: MIT
// cpu_mqa_rows.c - the positions of a row, their keys, the schedule.  Shared by the cpu backend and the oracle, which compute on their own.
#include "backend/cpu/cpu_mqa.h"

#include "base/overflow.h"
#include "plan/mqa_schedule.h"

#include <math.h>

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// ---- rows ----

static struct dg_cpu_mqa_row plain_row(const struct dg_mqa_args *args, int64_t row)
{
    const int64_t start = larger(args->plain.starts[row], 0);
    const int64_t end = smaller(args->plain.ends[row], args->plain.num_kv);
    if (end <= start)
        return (struct dg_cpu_mqa_row){0, 0, 0};
    if (args->flags & DG_MQA_COMPRESSED)
        return (struct dg_cpu_mqa_row){0, smaller(end - start, args->columns), start};
    return (struct dg_cpu_mqa_row){start, end, 0};
}

// Positions of a row as `lengths` has them.
static int64_t length_of(const struct dg_mqa_args *args, int64_t row)
{
    const struct dg_mqa_paged *p = &args->paged;
    if (p->lengths_per_row)
        return p->lengths[row];
    const int64_t length = p->lengths[row / p->next_n];
    return args->flags & DG_MQA_CLEAN ? length - p->next_n + row % p->next_n + 1 : length;
}

struct dg_cpu_mqa_row dg_cpu_mqa_row(const struct dg_mqa_args *args, int64_t row)
{
    if (!args->is_paged)
        return plain_row(args, row);
    const int64_t most = smaller(args->columns, args->paged.max_pages * args->paged.page_size);
    return (struct dg_cpu_mqa_row){0, larger(smaller(length_of(args, row), most), 0), 0};
}

const uint8_t *dg_cpu_mqa_key(const struct dg_mqa_args *args, int64_t row, int64_t position,
                              float *scale)
{
    if (!args->is_paged) {
        *scale = args->plain.scales[position * args->plain.scale_stride];
        return args->plain.kv + position * args->plain.kv_row_stride;
    }
    const struct dg_mqa_paged *p = &args->paged;
    const int64_t sequence = row / p->next_n, inside = position % p->page_size;
    const int32_t id = p->block_table[sequence * p->block_table_stride + position / p->page_size];
    const uint8_t *page = p->pages + id * p->page_stride_bytes;
    *scale = ((const float *)(const void *)(page + (int64_t)p->page_size * args->depth))[inside];
    return page + inside * args->depth;
}

// ---- tasks ----

int64_t dg_cpu_mqa_num_tasks(const struct dg_mqa_args *args)
{
    return args->rows * dg_ceil_div(args->columns, CPU_MQA_TASK_COLUMNS);
}

void dg_cpu_mqa_store(const struct dg_mqa_args *args, int64_t row, int64_t column, double value)
{
    dg_cpu_store_double(args->logits, args->logits_type, row * args->logits_row_stride + column,
                        value == value ? value : (double)NAN);
}

static void clean(const struct dg_mqa_args *args, int64_t row, int64_t from, int64_t to)
{
    for (int64_t column = from; column < to; column++)
        dg_cpu_mqa_store(args, row, column, -INFINITY);
}

void dg_cpu_mqa_task(const struct dg_mqa_args *args, int64_t task, struct dg_cpu_mqa_row *row,
                     int64_t *row_index)
{
    const int64_t per_row = dg_ceil_div(args->columns, CPU_MQA_TASK_COLUMNS);
    const int64_t first = task % per_row * CPU_MQA_TASK_COLUMNS;
    const int64_t last = smaller(first + CPU_MQA_TASK_COLUMNS, args->columns);
    *row_index = task / per_row;
    *row = dg_cpu_mqa_row(args, *row_index);
    row->begin = smaller(larger(row->begin, first), last);
    row->end = larger(smaller(row->end, last), row->begin);
    if (args->flags & DG_MQA_CLEAN) {
        clean(args, *row_index, first, row->begin);
        clean(args, *row_index, row->end, last);
    }
}

// ---- checks ----

dg_status dg_cpu_mqa_check(const struct dg_mqa_args *args)
{
    if (args->depth > CPU_MQA_MAX_DEPTH)
        return dg_fail(DG_UNSUPPORTED, "q has depth %d: a CPU does at most %d", (int)args->depth,
                       CPU_MQA_MAX_DEPTH);
    if (args->logits_type == DG_F32 || args->logits_type == DG_BF16 || args->logits_type == DG_F64)
        return DG_OK;
    return dg_fail(DG_INTERNAL, "logits.type = %s", dg_type_name(args->logits_type));
}

// ---- schedule ----

dg_status dg_cpu_mqa_schedule(void *state, const struct dg_mqa_schedule_args *args)
{
    const struct dg_mqa_paged *p = &args->paged;
    dg_mqa_schedule_make(p->lengths, p->batch, p->lengths_per_row ? p->next_n : 1, p->num_workers,
                         args->schedule);
    return DG_OK;
}
