// SPDX-License-Identifier: MIT
// cpu_gemm.c - the loops around the kernels: tasks, blocks of k, panels, edges and layouts.  Plain C;
// instruction sets are behind struct dg_cpu_kernels.
//
//     task               some rows x some columns of D, for all of k
//       pass               some blocks of 128 k: pack the activations of these rows
//         panel              16 or so columns
//           block              decode the weights, multiply, add to the panel's totals
//       panel              add C, round, store
//
// A thread keeps packed activations, totals and one decoded panel in its caches; weights are read
// once per task straight from the caller's matrix, in runs along k as long as a pass.  Every total
// belongs to one task, so neither the cut nor the number of threads changes a bit.
#include "backend/cpu/cpu_gemm.h"

#include "base/overflow.h"

#include <string.h>

enum {
    MAX_TASK_ROWS = 192,    // a multiple of every table's tile_rows, and of 16
    MAX_TASK_COLUMNS = 256, // a multiple of every table's panel_columns
    PREFETCH_BLOCKS = 1,    // how far ahead weights are asked for
    TASKS_PER_THREAD = 4,
    MIN_WORK_PER_THREAD = 1 << 18, // multiply-adds that pay for waking a thread
};

struct scratch {
    _Alignas(64) float packed[MAX_TASK_ROWS * CPU_BLOCK_K];
    _Alignas(64) float totals[MAX_TASK_ROWS * MAX_TASK_COLUMNS];
    _Alignas(64) float panel[CPU_PANEL_COLUMNS * CPU_BLOCK_K];
    _Alignas(64) uint8_t codes[CPU_PANEL_COLUMNS * CPU_BLOCK_K];
    _Alignas(64) float sfa[MAX_TASK_ROWS];
    _Alignas(64) float sfb[CPU_PANEL_COLUMNS];
};

_Static_assert(sizeof(struct scratch) >= CPU_MIN_SCRATCH_BYTES, "every job shares this scratch");

struct gemm {
    const struct dg_cpu_kernels *kernels;
    const struct dg_problem *problem;
    const struct dg_gemm_args *args;
    struct dg_cpu_blocking blocking;
};

// What one task works on; a pass holds the activations of num_blocks blocks of k.
struct task {
    const struct gemm *gemm;
    struct scratch *scratch;
    int64_t first_row, first_column;
    int32_t rows, columns;
    int64_t first_block;
    int32_t num_blocks;
};

static int64_t at_most(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

static int64_t count_blocks(const struct task *task)
{
    return dg_ceil_div(task->gemm->problem->k, CPU_BLOCK_K);
}

// Values of k in a block: 128 but for the last.
static int32_t count_k(const struct task *task, int64_t block)
{
    return (int32_t)at_most(task->gemm->problem->k - block * CPU_BLOCK_K, CPU_BLOCK_K);
}

// Rows of one block among the packed activations; whole groups, for tables that pack by groups.
static int32_t count_packed_rows(const struct task *task)
{
    return (task->rows + CPU_PACK_ROWS - 1) / CPU_PACK_ROWS * CPU_PACK_ROWS;
}

// Copies a block of codes into rows of 128, zeros behind what is there.
static void copy_codes(uint8_t *out, const struct dg_matrix_view *view, const uint8_t *from,
                       int32_t rows, int32_t num_k)
{
    const int64_t row_stride = view->row_stride, k_stride = view->column_stride;
    if (num_k < CPU_BLOCK_K)
        memset(out, 0, (size_t)rows * CPU_BLOCK_K);
    if (k_stride == 1) {
        for (int32_t row = 0; row < rows; row++)
            memcpy(out + row * CPU_BLOCK_K, from + row * row_stride, (size_t)num_k);
        return;
    }
    for (int32_t k = 0; k < num_k; k++)
        for (int32_t row = 0; row < rows; row++)
            out[row * CPU_BLOCK_K + k] = from[row * row_stride + k * k_stride];
}

// Points pointers[count] to 128 codes of k each, from `row` on.  Pointers past the last of `rows` rows
// repeat it: what comes of them is never stored.
static void find_rows(const struct task *task, const struct dg_matrix_view *view, int64_t block,
                      int64_t row, int32_t rows, int32_t count, const uint8_t **pointers)
{
    const int32_t num_k = count_k(task, block);
    const uint8_t *from = (const uint8_t *)view->data + row * view->row_stride +
                          block * CPU_BLOCK_K * view->column_stride;
    int64_t stride = view->row_stride;
    if (view->column_stride != 1 || num_k < CPU_BLOCK_K) {
        copy_codes(task->scratch->codes, view, from, rows, num_k);
        from = task->scratch->codes;
        stride = CPU_BLOCK_K;
    }
    for (int32_t i = 0; i < count; i++)
        pointers[i] = from + (i < rows ? i : rows - 1) * stride;
}

static float *find_packed(const struct task *task, int64_t block)
{
    return task->scratch->packed +
           (block - task->first_block) * count_packed_rows(task) * CPU_BLOCK_K;
}

static float *find_sfa(const struct task *task, int64_t block)
{
    return task->scratch->sfa + (block - task->first_block) * count_packed_rows(task);
}

static void pack_activations(const struct task *task, int64_t block)
{
    const struct dg_gemm_args *args = task->gemm->args;
    const dg_type sf_type = task->gemm->problem->sf_type;
    const uint8_t *pointers[CPU_PACK_ROWS];
    for (int32_t row = 0; row < task->rows; row += CPU_PACK_ROWS) {
        const int32_t count = (int32_t)at_most(task->rows - row, CPU_PACK_ROWS);
        find_rows(task, &args->a, block, task->first_row + row, count, count, pointers);
        task->gemm->kernels->pack_rows(find_packed(task, block), row, pointers, count);
    }
    float *sfa = find_sfa(task, block);
    for (int32_t row = 0; row < task->rows; row++)
        sfa[row] = dg_cpu_load_scale(&args->sfa, sf_type, task->first_row + row, block);
}

// Asks for the weights that are due PREFETCH_BLOCKS blocks later: of the same rows, of the next panel,
// or of the first panel in the next pass.  Rows are too far apart for the processor to guess them.
static void prefetch_weights(const struct task *task, int32_t column, int64_t block)
{
    const struct dg_matrix_view *b = &task->gemm->args->b;
    const int32_t width = task->gemm->kernels->panel_columns;
    const int64_t end_block = task->first_block + task->num_blocks;
    for (block += PREFETCH_BLOCKS; block >= end_block && column < task->columns; column += width)
        block -= task->num_blocks;
    if (column >= task->columns) {
        column = 0;
        block += task->num_blocks;
    }
    if (b->column_stride != 1 || (block + 1) * CPU_BLOCK_K > task->gemm->problem->k)
        return;
    const int64_t rows = at_most(task->columns - column, width);
    const uint8_t *codes = (const uint8_t *)b->data + block * CPU_BLOCK_K +
                           (task->first_column + column) * b->row_stride;
    for (int64_t i = 0; i < rows; i++, codes += b->row_stride) {
        __builtin_prefetch(codes);
        __builtin_prefetch(codes + 64);
    }
}

static void decode_weights(const struct task *task, int64_t block, int64_t row, int32_t rows)
{
    const struct dg_cpu_kernels *kernels = task->gemm->kernels;
    const struct dg_matrix_view *b = &task->gemm->args->b;
    const int32_t num_k = count_k(task, block);
    if (b->row_stride == 1 && rows == kernels->panel_columns && num_k % CPU_CHUNK_K == 0) {
        const uint8_t *codes =
            (const uint8_t *)b->data + row + block * CPU_BLOCK_K * b->column_stride;
        kernels->decode_panel_mn(task->scratch->panel, codes, b->column_stride, num_k);
        return;
    }
    const uint8_t *pointers[CPU_PANEL_COLUMNS];
    find_rows(task, b, block, row, rows, kernels->panel_columns, pointers);
    kernels->decode_panel(task->scratch->panel, pointers);
}

// A panel lies within one block of 128 rows, as 128 is a multiple of every panel's width.
static void load_weight_scales(const struct task *task, int64_t block, int64_t row, int32_t rows)
{
    const struct dg_problem *problem = task->gemm->problem;
    const struct dg_matrix_view *sfb = &task->gemm->args->sfb;
    const bool is_shared = problem->sfb_block_n != 1;
    float scale = 0;
    for (int32_t i = 0; i < task->gemm->kernels->panel_columns; i++) {
        if (i == 0 || (!is_shared && i < rows))
            scale =
                dg_cpu_load_scale(sfb, problem->sf_type, is_shared ? row / 128 : row + i, block);
        task->scratch->sfb[i] = scale;
    }
}

// Totals of the panel that starts at `column` of the task.
static float *find_totals(const struct task *task, int32_t column)
{
    return task->scratch->totals + (int64_t)column * MAX_TASK_ROWS;
}

static void multiply_panel(const struct task *task, int32_t column, int64_t block)
{
    const struct dg_cpu_kernels *kernels = task->gemm->kernels;
    const int64_t row = task->first_column + column; // of B
    const int32_t rows = (int32_t)at_most(task->columns - column, kernels->panel_columns);
    decode_weights(task, block, row, rows);
    prefetch_weights(task, column, block);
    load_weight_scales(task, block, row, rows);
    const struct dg_cpu_multiply work = {
        .packed = find_packed(task, block),
        .panel = task->scratch->panel,
        .sfa = find_sfa(task, block),
        .sfb = task->scratch->sfb,
        .total = find_totals(task, column),
        .rows = task->rows,
        .num_chunks = (int32_t)dg_ceil_div(count_k(task, block), CPU_CHUNK_K),
    };
    kernels->multiply(&work);
}

static void run_pass(const struct task *task)
{
    const int64_t end = task->first_block + task->num_blocks;
    for (int64_t block = task->first_block; block < end; block++)
        pack_activations(task, block);
    for (int32_t column = 0; column < task->columns; column += task->gemm->kernels->panel_columns)
        for (int64_t block = task->first_block; block < end; block++)
            multiply_panel(task, column, block);
}

static void *offset(void *data, dg_type type, int64_t elements)
{
    return data ? (char *)data + elements * (int64_t)dg_type_bytes(type) : NULL;
}

static void finish_panel(const struct task *task, int32_t column)
{
    const struct dg_cpu_kernels *kernels = task->gemm->kernels;
    const struct dg_matrix_view *c = &task->gemm->args->c, *d = &task->gemm->args->d;
    const dg_type type = task->gemm->problem->d_type;
    const int64_t row = task->first_row, first = task->first_column + column;
    const struct dg_cpu_finish work = {
        .total = find_totals(task, column),
        .rows = task->rows,
        .columns = (int32_t)at_most(task->columns - column, kernels->panel_columns),
        .type = type,
        .d = offset(d->data, type, row * d->row_stride + first),
        .c = offset(c->data, type, row * c->row_stride + first * c->column_stride),
        .d_stride = d->row_stride,
        .c_row_stride = c->row_stride,
        .c_column_stride = c->column_stride,
    };
    kernels->finish(&work);
}

static void run_gemm_task(const struct gemm *gemm, void *scratch, int64_t index)
{
    const struct dg_cpu_blocking *blocking = &gemm->blocking;
    const struct dg_problem *problem = gemm->problem;
    const int64_t first_row = index % blocking->num_row_tasks * blocking->task_rows;
    const int64_t first_column = index / blocking->num_row_tasks * blocking->task_columns;
    struct task task = {
        .gemm = gemm,
        .scratch = scratch,
        .first_row = first_row,
        .first_column = first_column,
        .rows = (int32_t)at_most(problem->m - first_row, blocking->task_rows),
        .columns = (int32_t)at_most(problem->n - first_column, blocking->task_columns),
    };
    const int32_t width = gemm->kernels->panel_columns;
    for (int32_t column = 0; column < task.columns; column += width)
        memset(find_totals(&task, column), 0, sizeof(float) * (size_t)(task.rows * width));
    const int64_t num_blocks = count_blocks(&task);
    const int64_t pass_blocks = MAX_TASK_ROWS / count_packed_rows(&task);
    for (; task.first_block < num_blocks; task.first_block += pass_blocks) {
        task.num_blocks = (int32_t)at_most(num_blocks - task.first_block, pass_blocks);
        run_pass(&task);
    }
    for (int32_t column = 0; column < task.columns; column += width)
        finish_panel(&task, column);
}

static void run_task(const void *argument, void *scratch, int64_t index)
{
    run_gemm_task(argument, scratch, index);
}

void dg_cpu_gemm_task(const struct dg_cpu_kernels *kernels, const struct dg_problem *problem,
                      const struct dg_gemm_args *args, const struct dg_cpu_blocking *blocking,
                      void *scratch, int64_t task)
{
    const struct gemm gemm = {kernels, problem, args, *blocking};
    run_gemm_task(&gemm, scratch, task);
}

size_t dg_cpu_scratch_bytes(void)
{
    return sizeof(struct scratch);
}

static int64_t greatest_common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// Column tasks that leave every thread several tasks, and all threads equally many: a ninth task for two
// threads would have one of them wait for a tenth of the time.
static int64_t choose_column_tasks(int64_t n, int64_t row_tasks, int32_t num_threads)
{
    int64_t tasks = dg_ceil_div(n, MAX_TASK_COLUMNS);
    const int64_t wanted = dg_ceil_div((int64_t)TASKS_PER_THREAD * num_threads, row_tasks);
    const int64_t step = num_threads / greatest_common_divisor(num_threads, row_tasks);
    if (num_threads > 1 && tasks < wanted)
        tasks = wanted;
    return tasks < 8 * wanted ? dg_ceil_div(tasks, step) * step : tasks;
}

void dg_cpu_choose_blocking(const struct dg_problem *problem, const struct dg_cpu_kernels *kernels,
                            int32_t num_threads, struct dg_cpu_blocking *blocking)
{
    const int64_t m = problem->m, n = problem->n, width = kernels->panel_columns;
    const double work = (double)m * (double)n * (double)problem->k;
    if (num_threads > work / MIN_WORK_PER_THREAD)
        num_threads = 1 + (int32_t)(work / MIN_WORK_PER_THREAD);

    int64_t row_tasks = dg_ceil_div(m, MAX_TASK_ROWS);
    const int64_t rows =
        dg_ceil_div(dg_ceil_div(m, row_tasks), kernels->tile_rows) * kernels->tile_rows;
    row_tasks = dg_ceil_div(m, rows);
    const int64_t wanted = choose_column_tasks(n, row_tasks, num_threads);
    const int64_t columns = dg_ceil_div(dg_ceil_div(n, wanted), width) * width;
    const int64_t column_tasks = dg_ceil_div(n, columns);
    *blocking = (struct dg_cpu_blocking){
        .task_rows = at_most(rows, m),
        .task_columns = columns,
        .num_row_tasks = row_tasks,
        .num_column_tasks = column_tasks,
        .num_threads = (int32_t)at_most(num_threads, row_tasks * column_tasks),
    };
}

dg_status dg_cpu_gemm(const struct dg_cpu_state *state, const struct dg_problem *problem,
                      const struct dg_gemm_args *args)
{
    struct gemm gemm = {.kernels = state->kernels, .problem = problem, .args = args};
    dg_cpu_choose_blocking(problem, state->kernels, state->num_threads, &gemm.blocking);
    const struct dg_cpu_job job = {
        .run = run_task,
        .argument = &gemm,
        .num_tasks = gemm.blocking.num_row_tasks * gemm.blocking.num_column_tasks,
        .max_threads = gemm.blocking.num_threads,
    };
    return dg_cpu_pool_run(state->pool, &job);
}

void dg_cpu_fill(const struct dg_problem *problem, const struct dg_gemm_args *args)
{
    const struct dg_matrix_view *c = &args->c, *d = &args->d;
    const size_t bytes = dg_type_bytes(problem->d_type);
    for (int64_t row = 0; row < problem->m; row++) {
        char *to = offset(d->data, problem->d_type, row * d->row_stride);
        const char *from = offset(c->data, problem->d_type, row * c->row_stride);
        if (!from)
            memset(to, 0, (size_t)problem->n * bytes);
        else
            for (int64_t column = 0; column < problem->n; column++)
                memmove(to + column * (int64_t)bytes,
                        from + column * c->column_stride * (int64_t)bytes, bytes);
    }
}
