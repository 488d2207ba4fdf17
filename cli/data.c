// SPDX-License-Identifier: MIT
// data.c - random operands for a problem, in any layout and stride that the problem language has.
//
// Every row of values comes from its own seed, so the bytes do not depend on the number of threads that
// make them.  Values pass through FP32 panels of bounded size and the library's own quantisation.
#include "grouped.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PANEL_BYTES = 64 << 20, // FP32 values that exist at a time
    MAX_THREADS = 64,
    LEAST_SHARED_BYTES = 1 << 18,
};

// ---- threads ------------------------------------------------------------------------------------

// Does the items from `first` to before `last` of `what`.
typedef void (*share_work)(const void *what, int64_t first, int64_t last);

struct part {
    share_work work;
    const void *what;
    int64_t first, last;
};

static void *part_main(void *argument)
{
    const struct part *part = argument;
    part->work(part->what, part->first, part->last);
    return NULL;
}

// `count` items, `bytes` of memory in all, by as many threads as there are processors and are worth it.
static void share(int64_t count, int64_t bytes, share_work work, const void *what)
{
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    struct part parts[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    bool started[MAX_THREADS] = {false};
    int64_t num_parts = online < 1 ? 1 : online > MAX_THREADS ? MAX_THREADS : online;
    if (bytes < LEAST_SHARED_BYTES || num_parts > count)
        num_parts = 1;
    for (int64_t i = 0; i < num_parts; i++) {
        parts[i] = (struct part){work, what, count * i / num_parts, count * (i + 1) / num_parts};
        started[i] = i && pthread_create(&threads[i], NULL, part_main, &parts[i]) == 0;
    }
    for (int64_t i = 0; i < num_parts; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
        else
            part_main(&parts[i]);
}

// ---- random numbers -----------------------------------------------------------------------------

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// The sum of eight random bytes, centred and scaled to variance 1: normal to within what E4M3 and its
// amax can tell apart (the tails end at 4.9), at a fraction of the cost.
static float normal(uint64_t bits)
{
    const uint64_t low = 0x00ff00ff00ff00ffu;
    const uint64_t pairs = (bits & low) + (bits >> 8 & low);
    const uint64_t sum = (pairs * 0x0001000100010001u) >> 48;
    return ((float)sum - 8 * 127.5f) * (1 / 209.02153f); // sqrt(8 * (256^2 - 1) / 12)
}

static void fill_row(float *row, int64_t count, uint64_t seed)
{
    for (int64_t i = 0; i < count; i++)
        row[i] = normal(mix(seed + (uint64_t)i * 0x9e3779b97f4a7c15u));
}

struct fill {
    float *panel;
    int64_t columns, first_row; // first_row: of the panel in the matrix
    uint64_t seed;
};

static void fill_rows(const void *what, int64_t first, int64_t last)
{
    const struct fill *fill = what;
    for (int64_t row = first; row < last; row++)
        fill_row(fill->panel + row * fill->columns, fill->columns,
                 mix(fill->seed ^ mix((uint64_t)(fill->first_row + row) + 1)));
}

void cli_random_rows(float *panel, int64_t rows, int64_t columns, int64_t first_row, uint64_t seed)
{
    share(rows, rows * columns * 4, fill_rows, &(struct fill){panel, columns, first_row, seed});
}

// ---- layouts ------------------------------------------------------------------------------------

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

// One operand in NT orientation: rows of m or n, columns of k.
struct operand {
    int64_t rows, columns;
    dg_major major, scale_major;
    int64_t stride; // of the values' dimension that does not have stride 1
    int32_t block_rows;
    bool is_transposed; // the call takes it as [k, rows]
};

static struct operand operand_a(const struct dg_problem *p)
{
    return (struct operand){p->m,
                            p->k,
                            p->a_major,
                            p->sfa_major,
                            p->lda,
                            1,
                            p->op == DG_OP_FP8_GEMM_TN || p->op == DG_OP_FP8_GEMM_TT};
}

static struct operand operand_b(const struct dg_problem *p)
{
    return (struct operand){p->n,
                            p->k,
                            p->b_major,
                            p->sfb_major,
                            p->ldb,
                            p->sfb_block_n,
                            p->op == DG_OP_FP8_GEMM_NN || p->op == DG_OP_FP8_GEMM_TN};
}

// A matrix of rows x columns whose columns (DG_K_MAJOR) or rows have stride 1.
static struct dg_tensor matrix(void *data, dg_type type, int64_t rows, int64_t columns,
                               dg_major major, int64_t stride)
{
    if (major == DG_K_MAJOR)
        return dg_matrix_strided(data, type, rows, columns, stride);
    return dg_transposed(dg_matrix_strided(data, type, columns, rows, stride));
}

static struct dg_scaled describe_nt(const struct operand *o, dg_type sf_type, void *values,
                                    void *scales)
{
    const int64_t rows = divide_up(o->rows, o->block_rows), blocks = divide_up(o->columns, 128);
    const int64_t columns = sf_type == DG_UE8M0X4 ? divide_up(blocks, 4) : blocks;
    return (struct dg_scaled){
        .values = matrix(values, DG_E4M3, o->rows, o->columns, o->major, o->stride),
        .scales = matrix(scales, sf_type, rows, columns, o->scale_major,
                         o->scale_major == DG_K_MAJOR ? columns : divide_up(rows, 4) * 4),
        .block_rows = o->block_rows,
        .block_columns = 128,
    };
}

static struct dg_scaled describe(const struct operand *o, dg_type sf_type, void *values,
                                 void *scales)
{
    struct dg_scaled scaled = describe_nt(o, sf_type, values, scales);
    if (o->is_transposed)
        scaled = (struct dg_scaled){dg_transposed(scaled.values), dg_transposed(scaled.scales),
                                    scaled.block_columns, scaled.block_rows};
    return scaled;
}

// Bytes from the first to behind the last element.
static size_t span(const struct dg_tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] == 0)
            return 0;
        last += (t->shape[i] - 1) * t->stride[i];
    }
    return (size_t)(last + 1) * dg_type_bytes(t->type);
}

void cli_data_describe(const struct dg_problem *problem, void *const base[CLI_BUFFERS],
                       struct cli_operands *operands)
{
    if (cli_kind(problem) != CLI_DENSE) {
        cli_grouped_describe(problem, base, operands);
        return;
    }
    const struct operand a = operand_a(problem), b = operand_b(problem);
    operands->layout.rank = 0;
    operands->a = describe(&a, problem->sf_type, base[CLI_A], base[CLI_SFA]);
    operands->b = describe(&b, problem->sf_type, base[CLI_B], base[CLI_SFB]);
    operands->d =
        dg_matrix_strided(base[CLI_D], problem->d_type, problem->m, problem->n, problem->ldd);
    operands->c = operands->d;
    if (problem->c_mode == DG_C_NONE)
        operands->c.data = NULL;
    else if (problem->c_mode == DG_C_SEPARATE)
        operands->c.data = base[CLI_C];
}

void cli_data_operands(const struct cli_data *data, struct cli_operands *operands)
{
    void *base[CLI_BUFFERS];
    memcpy(base, data->buffer, sizeof base);
    base[CLI_D] = (char *)data->buffer[CLI_D] + CLI_GUARD_BYTES;
    cli_data_describe(&data->problem, base, operands);
}

// ---- making them --------------------------------------------------------------------------------

// `rows` rows from `first` of a matrix whose rows are grouped by `block`.
static struct dg_tensor panel_of(struct dg_tensor t, int64_t first, int64_t rows, int64_t block)
{
    const int64_t row = first / block;
    t.data = (char *)t.data + (size_t)(row * t.stride[0]) * dg_type_bytes(t.type);
    t.shape[0] = divide_up(rows, block);
    return t;
}

static dg_status quantise(const struct operand *o, const struct dg_scaled *scaled, float *panel,
                          int64_t panel_rows, uint64_t seed, dg_context *cpu)
{
    const dg_scale_rounding rounding =
        scaled->scales.type == DG_UE8M0X4 ? DG_SCALE_POWER_OF_TWO : DG_SCALE_EXACT;
    for (int64_t first = 0; first < o->rows; first += panel_rows) {
        const int64_t rows = o->rows - first < panel_rows ? o->rows - first : panel_rows;
        cli_random_rows(panel, rows, o->columns, first, seed);
        const struct dg_tensor x = dg_matrix(panel, DG_F32, rows, o->columns);
        const struct dg_tensor q = panel_of(scaled->values, first, rows, 1);
        const struct dg_tensor scales = panel_of(scaled->scales, first, rows, o->block_rows);
        const dg_status status = o->block_rows == 1
                                     ? dg_quantize_per_token(cpu, &x, &q, &scales, rounding, NULL)
                                     : dg_quantize_per_block(cpu, &x, &q, &scales, rounding, NULL);
        if (status != DG_OK)
            return status;
    }
    return DG_OK;
}

static dg_status make_operand(const struct operand *o, const struct dg_scaled *scaled,
                              uint64_t seed, dg_context *cpu)
{
    if (o->rows == 0 || o->columns == 0)
        return DG_OK;
    int64_t panel_rows = PANEL_BYTES / 4 / o->columns / 128 * 128;
    panel_rows = panel_rows < 128 ? 128 : panel_rows;
    panel_rows = panel_rows > o->rows ? o->rows : panel_rows;
    float *panel = malloc((size_t)panel_rows * (size_t)o->columns * sizeof *panel);
    if (!panel)
        return DG_OUT_OF_MEMORY;
    const dg_status status = quantise(o, scaled, panel, panel_rows, seed, cpu);
    free(panel);
    return status;
}

static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); // finite values only
}

struct addend {
    struct dg_tensor c;
    double scale;
    uint64_t seed;
};

static void make_addend_rows(const void *what, int64_t first, int64_t last)
{
    const struct addend *addend = what;
    const struct dg_tensor *c = &addend->c;
    for (int64_t i = first; i < last; i++)
        for (int64_t j = 0; j < c->shape[1]; j++) {
            const uint64_t bits = mix(addend->seed + mix((uint64_t)(i * c->shape[1] + j)));
            const float value = (float)(addend->scale * normal(bits));
            if (c->type == DG_BF16)
                ((uint16_t *)c->data)[i * c->stride[0] + j] = bf16_of(value);
            else
                ((float *)c->data)[i * c->stride[0] + j] = value;
        }
}

// As large as the products' sums, so that a C that is left out or added twice cannot hide.
static void make_c(const struct cli_data *data, struct dg_tensor c)
{
    const double scale = sqrt((double)(data->problem.k > 0 ? data->problem.k : 1));
    const struct addend addend = {c, scale, data->seed + 3};
    share(c.shape[0], (int64_t)data->bytes[CLI_C], make_addend_rows, &addend);
}

// ---- memory -------------------------------------------------------------------------------------

struct bytes {
    char *to;
    const char *from; // NULL: poison
};

static void write_bytes(const void *what, int64_t first, int64_t last)
{
    const struct bytes *bytes = what;
    if (bytes->from)
        memcpy(bytes->to + first, bytes->from + first, (size_t)(last - first));
    else
        memset(bytes->to + first, CLI_POISON, (size_t)(last - first));
}

static void poison(void *to, size_t count)
{
    const struct bytes bytes = {to, NULL};
    share((int64_t)count, (int64_t)count, write_bytes, &bytes);
}

static void copy(void *to, const void *from, size_t count)
{
    const struct bytes bytes = {to, from};
    share((int64_t)count, (int64_t)count, write_bytes, &bytes);
}

void cli_data_reset(struct cli_data *data)
{
    char *d = data->buffer[CLI_D];
    poison(d, data->bytes[CLI_D] + 2 * CLI_GUARD_BYTES);
    if (data->problem.c_mode == DG_C_IN_PLACE && data->buffer[CLI_C])
        copy(d + CLI_GUARD_BYTES, data->buffer[CLI_C], data->bytes[CLI_C]);
}

static bool allocate(struct cli_data *data, const struct cli_operands *operands)
{
    const struct dg_tensor *tensors[CLI_BUFFERS] = {
        [CLI_A] = &operands->a.values,
        [CLI_SFA] = &operands->a.scales,
        [CLI_B] = &operands->b.values,
        [CLI_SFB] = &operands->b.scales,
        [CLI_D] = &operands->d,
        [CLI_C] = data->problem.c_mode == DG_C_NONE ? NULL : &operands->d,
        [CLI_LAYOUT] = operands->layout.rank ? &operands->layout : NULL,
    };
    bool ok = true;
    for (int i = 0; i < CLI_BUFFERS; i++) {
        if (!tensors[i])
            continue;
        data->bytes[i] = span(tensors[i]);
        const size_t guards = i == CLI_D ? 2 * CLI_GUARD_BYTES : 0;
        // One byte more than needed: not even an empty operand is a null pointer.
        if (posix_memalign(&data->buffer[i], 4096, data->bytes[i] + guards + 1) != 0) {
            data->buffer[i] = NULL;
            ok = false;
        } else if (i != CLI_D) { // which cli_data_reset writes
            poison(data->buffer[i], data->bytes[i]);
        }
    }
    return ok;
}

static dg_status make_dense(struct cli_data *data, dg_context *cpu)
{
    const struct operand a = operand_a(&data->problem), b = operand_b(&data->problem);
    const dg_type type = data->problem.sf_type;
    const struct dg_scaled scaled_a =
        describe_nt(&a, type, data->buffer[CLI_A], data->buffer[CLI_SFA]);
    const struct dg_scaled scaled_b =
        describe_nt(&b, type, data->buffer[CLI_B], data->buffer[CLI_SFB]);
    const dg_status status = make_operand(&a, &scaled_a, data->seed + 1, cpu);
    return status == DG_OK ? make_operand(&b, &scaled_b, data->seed + 2, cpu) : status;
}

// The rows that groups own; the others stay as they are.
static dg_status make_groups(struct cli_data *data, dg_context *cpu)
{
    const struct dg_problem *p = &data->problem;
    struct cli_group *groups = cli_groups(p);
    struct cli_operands operands;
    dg_status status = groups ? DG_OK : DG_OUT_OF_MEMORY;
    cli_data_operands(data, &operands);
    if (groups)
        cli_grouped_layout(p, groups, data->buffer[CLI_LAYOUT]);
    for (int64_t g = 0; g < p->groups && status == DG_OK; g++) {
        struct dg_scaled a, b;
        cli_group_operands(p, &operands, groups, g, &a, &b);
        const struct operand rows_a = {.rows = a.values.shape[0],
                                       .columns = a.values.shape[1],
                                       .block_rows = 1},
                             rows_b = {.rows = b.values.shape[0],
                                       .columns = b.values.shape[1],
                                       .block_rows = b.block_rows};
        status = make_operand(&rows_a, &a, data->seed + 1 + mix(2 * (uint64_t)g), cpu);
        if (status == DG_OK)
            status = make_operand(&rows_b, &b, data->seed + 2 + mix(2 * (uint64_t)g + 1), cpu);
    }
    free(groups);
    return status;
}

dg_status cli_data_create(struct cli_data *data, const struct dg_problem *problem, uint64_t seed,
                          dg_context *cpu)
{
    *data = (struct cli_data){.problem = *problem, .seed = mix(seed)};
    struct cli_operands operands;
    cli_data_describe(problem, data->buffer, &operands);
    if (!allocate(data, &operands)) {
        cli_data_free(data);
        return DG_OUT_OF_MEMORY;
    }
    const dg_status status =
        cli_kind(problem) == CLI_DENSE ? make_dense(data, cpu) : make_groups(data, cpu);
    if (status != DG_OK) {
        cli_data_free(data);
        return status;
    }
    cli_data_operands(data, &operands);
    if (data->buffer[CLI_C]) {
        make_c(data, dg_matrix_strided(data->buffer[CLI_C], problem->d_type,
                                       cli_output_rows(problem), problem->n, problem->ldd));
    }
    cli_data_reset(data);
    return DG_OK;
}

void cli_data_free(struct cli_data *data)
{
    for (int i = 0; i < CLI_BUFFERS; i++)
        free(data->buffer[i]);
    *data = (struct cli_data){0};
}

bool cli_is_poison(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((unsigned char)bytes[i] != CLI_POISON)
            return false;
    return true;
}

double cli_element(const void *data, dg_type type, int64_t at)
{
    if (type == DG_F32)
        return ((const float *)data)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)data)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// ---- calling ------------------------------------------------------------------------------------

dg_status cli_call(dg_context *context, const struct dg_problem *problem,
                   const struct cli_operands *operands, const struct dg_gemm_options *options,
                   void *stream)
{
    typedef dg_status (*gemm)(dg_context *, const struct dg_scaled *, const struct dg_scaled *,
                              const struct dg_tensor *, const struct dg_tensor *,
                              const struct dg_gemm_options *, void *);
    static const gemm functions[] = {
        [DG_OP_FP8_GEMM_NT] = dg_fp8_gemm_nt,
        [DG_OP_FP8_GEMM_NN] = dg_fp8_gemm_nn,
        [DG_OP_FP8_GEMM_TN] = dg_fp8_gemm_tn,
        [DG_OP_FP8_GEMM_TT] = dg_fp8_gemm_tt,
    };
    struct dg_gemm_options with_flags = options ? *options : DG_GEMM_OPTIONS;
    if (cli_kind(problem) != CLI_DENSE)
        return cli_grouped_call(context, problem, operands, options, stream);
    with_flags.flags |= problem->invariant ? DG_GEMM_BATCH_INVARIANT : 0;
    return functions[problem->op](context, &operands->a, &operands->b, &operands->d,
                                  operands->c.data ? &operands->c : NULL, &with_flags, stream);
}

double cli_operations(const struct dg_problem *p)
{
    if (cli_kind(p) != CLI_DENSE)
        return cli_grouped_operations(p);
    return 2.0 * (double)p->m * (double)p->n * (double)p->k;
}

double cli_bytes(const struct dg_problem *p)
{
    struct cli_operands operands;
    void *const none[CLI_BUFFERS] = {0};
    if (cli_kind(p) != CLI_DENSE)
        return cli_grouped_bytes(p);
    cli_data_describe(p, none, &operands);
    const struct dg_tensor *scales[] = {&operands.a.scales, &operands.b.scales};
    double bytes = ((double)p->m + (double)p->n) * (double)p->k;
    for (int i = 0; i < 2; i++)
        bytes += (double)(scales[i]->shape[0] * scales[i]->shape[1]) * 4;
    const int passes_over_d = p->c_mode == DG_C_NONE ? 1 : 2;
    return bytes + passes_over_d * (double)p->m * (double)p->n * (double)dg_type_bytes(p->d_type);
}
