// SPDX-License-Identifier: MIT
// cpu_grouped.c - grouped GEMM on the CPU: the tasks of all pieces are one job, so that threads share the
// real work however unequal the groups are.  A piece's bits are those of the dense product alone.
#include "backend/cpu/cpu_gemm.h"
#include "backend/cpu/cpu_pieces.h"

#include <stdlib.h>

// Tasks begin[i] to begin[i + 1] - 1 of the job are those of piece i.
struct grouped {
    const struct dg_cpu_kernels *kernels;
    const struct dg_problem *problem;
    const struct dg_grouped_args *args;
    struct dg_cpu_pieces pieces;
    int32_t threads_of_a_piece;
    int64_t *begin;
};

static void block_piece(const struct grouped *grouped, int64_t index, struct dg_problem *dense,
                        struct dg_gemm_args *args, struct dg_cpu_blocking *blocking)
{
    dg_cpu_piece_describe(grouped->problem, grouped->args, &grouped->pieces.list[index], dense,
                          args);
    if (dense->k > 0)
        dg_cpu_choose_blocking(dense, grouped->kernels, grouped->threads_of_a_piece, blocking);
    else
        *blocking = (struct dg_cpu_blocking){.num_row_tasks = 1, .num_column_tasks = 1};
}

static int64_t find_piece(const struct grouped *grouped, int64_t task)
{
    int64_t low = 0, high = grouped->pieces.count - 1;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if (grouped->begin[middle] <= task)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static void run_task(const void *argument, void *scratch, int64_t task)
{
    const struct grouped *grouped = argument;
    const int64_t index = find_piece(grouped, task);
    struct dg_problem dense;
    struct dg_gemm_args args;
    struct dg_cpu_blocking blocking;
    block_piece(grouped, index, &dense, &args, &blocking);
    if (dense.k > 0)
        dg_cpu_gemm_task(grouped->kernels, &dense, &args, &blocking, scratch,
                         task - grouped->begin[index]);
    else if (dense.c_mode != DG_C_IN_PLACE)
        dg_cpu_fill(&dense, &args);
}

static dg_status count_tasks(struct grouped *grouped, int64_t *num_tasks)
{
    grouped->begin = malloc((size_t)(grouped->pieces.count + 1) * sizeof *grouped->begin);
    if (!grouped->begin)
        return dg_fail(DG_OUT_OF_MEMORY, "no memory for the tasks of %lld groups",
                       (long long)grouped->pieces.count);
    *num_tasks = 0;
    for (int64_t i = 0; i < grouped->pieces.count; i++) {
        struct dg_problem dense;
        struct dg_gemm_args args;
        struct dg_cpu_blocking blocking;
        block_piece(grouped, i, &dense, &args, &blocking);
        grouped->begin[i] = *num_tasks;
        *num_tasks += blocking.num_row_tasks * blocking.num_column_tasks;
    }
    return DG_OK;
}

dg_status dg_cpu_grouped(const struct dg_cpu_state *state, const struct dg_problem *problem,
                         const struct dg_grouped_args *args)
{
    struct grouped grouped = {.kernels = state->kernels, .problem = problem, .args = args};
    int64_t num_tasks = 0;
    DG_TRY(dg_cpu_pieces_list(problem, args, &grouped.pieces));
    // Few pieces: each must be cut for all threads.  Many: there are tasks enough.
    const int64_t share = grouped.pieces.count ? state->num_threads / grouped.pieces.count : 0;
    grouped.threads_of_a_piece = share < 1 ? 1 : (int32_t)share + 1;
    dg_status status = count_tasks(&grouped, &num_tasks);
    const struct dg_cpu_job job = {
        .run = run_task,
        .argument = &grouped,
        .num_tasks = num_tasks,
        .max_threads = state->num_threads,
    };
    if (status == DG_OK && num_tasks > 0)
        status = dg_cpu_pool_run(state->pool, &job);
    free(grouped.begin);
    dg_cpu_pieces_free(&grouped.pieces);
    return status;
}
