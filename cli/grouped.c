// SPDX-License-Identifier: MIT
// grouped.c - sizes and layouts of random groups, and each group seen as a dense problem.
//
// All groups of an operand lie in one buffer.  Rows that no group owns keep their poison, which is NaN, so
// that a kernel that lets them reach a result is found out.
#include "grouped.h"

#include "recorded.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t round_up(int64_t a, int64_t b)
{
    return divide_up(a, b) * b;
}

enum cli_kind cli_kind(const struct dg_problem *problem)
{
    switch (problem->op) {
    case DG_OP_FP8_M_GROUPED_CONTIGUOUS:
    case DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN:
        return CLI_CONTIGUOUS;
    case DG_OP_FP8_M_GROUPED_MASKED:
        return CLI_MASKED;
    case DG_OP_FP8_K_GROUPED:
    case DG_OP_FP8_K_GROUPED_TN:
        return CLI_K_GROUPED;
    default:
        return CLI_DENSE;
    }
}

static bool is_k_grouped(const struct dg_problem *problem)
{
    return cli_kind(problem) == CLI_K_GROUPED;
}

// ---- sizes --------------------------------------------------------------------------------------

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// Of group `rank` of those ordered by size: the first is the largest.
static double share_of(const struct dg_problem *p, int64_t rank)
{
    double sum = 0;
    if (p->spread == DG_ROWS_HOT)
        return p->groups == 1 ? 1 : rank == 0 ? 0.5 : 0.5 / (double)(p->groups - 1);
    for (int64_t i = 0; i < p->groups; i++)
        sum += 1 / (double)(i + 1);
    return 1 / (double)(rank + 1) / sum;
}

static int64_t wanted_size(const struct dg_problem *p, int64_t group)
{
    const double expected = (double)p->expected_m, total = expected * (double)p->groups;
    const double unit = (double)(mix((uint64_t)group + 77) >> 11) / 9007199254740992.0;
    const int64_t rank = (group + p->groups - p->groups / 3) % p->groups; // the largest is inside
    switch (p->spread) {
    case DG_ROWS_UNIFORM:
        return (int64_t)(expected * (p->rows_low + (p->rows_high - p->rows_low) * unit) / 1e3);
    case DG_ROWS_ZIPF:
    case DG_ROWS_HOT:
        return (int64_t)(total * share_of(p, rank) + 0.5);
    case DG_ROWS_GIVEN:
        return cli_recorded_path(p->rows_low) ? cli_recorded_size(p->rows_low, group)
                                              : p->expected_m;
    default:
        return p->rows;
    }
}

// How far the groups before one reach: {0, 0} before the first.
struct reach {
    int64_t end, blocks;
};

static struct cli_group next_group(const struct dg_problem *p, int64_t g, struct reach *reach)
{
    const enum cli_kind kind = cli_kind(p);
    const int64_t room = kind == CLI_K_GROUPED ? p->k : p->m;
    struct cli_group group = {.first = kind == CLI_MASKED ? g * p->m
                                                          : round_up(reach->end, p->alignment),
                              .first_block = reach->blocks};
    int64_t size = wanted_size(p, g);
    if (kind == CLI_K_GROUPED)
        size = (size + p->alignment / 2) / p->alignment * p->alignment;
    const int64_t left = kind == CLI_MASKED ? p->m : room - group.first;
    size = size > left ? left : size;
    if (kind == CLI_K_GROUPED)
        size = size / 32 * 32;
    group.size = size < 0 ? 0 : size;
    if (group.size > 0)
        reach->end = group.first + group.size;
    reach->blocks += divide_up(group.size, 128);
    return group;
}

struct cli_group *cli_groups(const struct dg_problem *p)
{
    struct cli_group *groups = calloc((size_t)p->groups, sizeof *groups);
    struct reach reach = {0, 0};
    for (int64_t g = 0; groups && g < p->groups; g++)
        groups[g] = next_group(p, g, &reach);
    return groups;
}

// ---- problem lines -------------------------------------------------------------------------------

static const char of_file[] = "rows=file:";

// The group is as large as its number in the file says.
static dg_status check_recorded_group(const struct dg_problem *p, int64_t group, int64_t room)
{
    const char *path = cli_recorded_path(p->rows_low);
    const int64_t size = cli_recorded_size(p->rows_low, group);
    const bool along_k = is_k_grouped(p);
    if (along_k && size % p->alignment)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s%s: group %lld has %lld values of k: must be a multiple of %d", of_file,
                       path, (long long)group, (long long)size, (int)p->alignment);
    if (size != room)
        return dg_fail(DG_INVALID_ARGUMENT,
                       "%s%s: group %lld has %lld %s: there is room for %lld, as %s = %lld",
                       of_file, path, (long long)group, (long long)size,
                       along_k ? "values of k" : "rows", (long long)room,
                       cli_kind(p) == CLI_MASKED ? "max_m"
                       : along_k                 ? "k"
                                                 : "m",
                       (long long)(along_k ? p->k : p->m));
    return DG_OK;
}

static dg_status check_recorded(const struct dg_problem *p)
{
    const char *path = cli_recorded_path(p->rows_low);
    const int64_t count = cli_recorded_count(p->rows_low);
    if (count > p->groups)
        return dg_fail(DG_INVALID_ARGUMENT, "%s%s: has %lld numbers for %lld groups", of_file, path,
                       (long long)count, (long long)p->groups);
    struct cli_group *groups = cli_groups(p);
    if (!groups)
        return dg_fail(DG_OUT_OF_MEMORY, "%s%s: out of memory", of_file, path);
    dg_status status = DG_OK;
    for (int64_t g = 0; g < p->groups && status == DG_OK; g++)
        status = check_recorded_group(p, g, groups[g].size);
    free(groups);
    return status;
}

static int64_t average_of(int32_t file)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < cli_recorded_count(file); i++)
        sum += cli_recorded_size(file, i);
    return sum ? divide_up(sum, cli_recorded_count(file)) : 1;
}

// `text` with the number of a file in place of what lies from `at` to `end`, and the sizes' average for a hint if
// it has none.
static dg_status parse_recorded(const char *text, const char *at, const char *end, int32_t file,
                                struct dg_problem *problem)
{
    const size_t capacity = strlen(text) + 64;
    char hint[40] = "", *line = malloc(capacity);
    if (!line)
        return dg_fail(DG_OUT_OF_MEMORY, "%.*s: out of memory", (int)(end - at), at);
    if (!strstr(text, "expected_m="))
        snprintf(hint, sizeof hint, " expected_m=%lld", (long long)average_of(file));
    snprintf(line, capacity, "%.*srows=given:%d%s%s", (int)(at - text), text, (int)file, end, hint);
    const dg_status status = dg_problem_parse(line, problem);
    free(line);
    return status == DG_OK ? check_recorded(problem) : status;
}

dg_status cli_problem_parse(const char *text, struct dg_problem *problem)
{
    const char *at = strstr(text, of_file);
    if (!at)
        return dg_problem_parse(text, problem);
    const char *from = at + strlen(of_file), *end = from + strcspn(from, " \t\r\n");
    char *path = strndup(from, (size_t)(end - from));
    int32_t file = 0;
    const dg_status status = path ? cli_recorded_read(path, &file)
                                  : dg_fail(DG_OUT_OF_MEMORY, "%sout of memory", of_file);
    free(path);
    return status == DG_OK ? parse_recorded(text, at, end, file, problem) : status;
}

size_t cli_problem_format(const struct dg_problem *problem, char *text, size_t capacity)
{
    char line[512];
    const bool is_given = problem->spread == DG_ROWS_GIVEN;
    const char *path = is_given ? cli_recorded_path(problem->rows_low) : NULL, *at = NULL;
    if (path) {
        dg_problem_format(problem, line, sizeof line);
        at = strstr(line, "rows=given:");
    }
    if (!at)
        return dg_problem_format(problem, text, capacity);
    return (size_t)snprintf(text, capacity, "%.*s%s%s%s", (int)(at - line), line, of_file, path,
                            at + strcspn(at, " "));
}

// ---- layouts -------------------------------------------------------------------------------------

static int64_t scale_blocks(const struct dg_problem *p)
{
    if (!is_k_grouped(p))
        return divide_up(p->k, 128);
    struct reach reach = {0, 0};
    for (int64_t g = 0; g < p->groups; g++)
        next_group(p, g, &reach);
    const int64_t least = divide_up(p->k, 128); // groups may leave some of k unused
    return reach.blocks > least ? reach.blocks : least;
}

int64_t cli_output_rows(const struct dg_problem *p)
{
    const enum cli_kind kind = cli_kind(p);
    return kind == CLI_DENSE || kind == CLI_CONTIGUOUS ? p->m : p->groups * p->m;
}

int64_t cli_row_group(const struct dg_problem *p, const struct cli_group *groups, int64_t row)
{
    if (is_k_grouped(p))
        return row / p->m;
    if (cli_kind(p) == CLI_MASKED)
        return row % p->m < groups[row / p->m].size ? row / p->m : CLI_ROW_UNTOUCHED;
    int64_t low = 0, high = p->groups; // the first group that begins behind the row
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (groups[middle].first <= row)
            low = middle + 1;
        else
            high = middle;
    }
    for (int64_t g = low; g-- > 0;) { // empty groups may begin at the same place
        if (groups[g].size > 0)
            return row < groups[g].first + groups[g].size ? g
                   : p->layout == DG_GROUP_ENDS           ? CLI_ROW_UNTOUCHED
                                                          : CLI_ROW_OF_NO_GROUP;
    }
    return p->layout == DG_GROUP_ENDS ? CLI_ROW_UNTOUCHED : CLI_ROW_OF_NO_GROUP;
}

void cli_grouped_layout(const struct dg_problem *p, const struct cli_group *groups, int32_t *layout)
{
    const bool by_row = cli_kind(p) == CLI_CONTIGUOUS && p->layout == DG_GROUP_INDEX;
    int64_t end = 0;
    for (int64_t row = 0; by_row && row < p->m; row++)
        layout[row] = (int32_t)cli_row_group(p, groups, row);
    for (int64_t g = 0; !by_row && g < p->groups; g++) {
        if (groups[g].size > 0)
            end = groups[g].first + groups[g].size;
        layout[g] = (int32_t)(p->layout == DG_GROUP_ENDS ? end : groups[g].size);
    }
}

// Does the call take the operand as [k, rows]?
static bool is_turned(dg_op op, bool is_a)
{
    return op == DG_OP_FP8_K_GROUPED_TN || (op == DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN && !is_a);
}

// ---- tensors ------------------------------------------------------------------------------------

// rows x columns of which one dimension has stride 1; `stride`: of the other.
static struct dg_tensor matrix(void *data, dg_type type, int64_t rows, int64_t columns,
                               dg_major major, int64_t stride)
{
    if (major == DG_K_MAJOR)
        return dg_matrix_strided(data, type, rows, columns, stride);
    return dg_transposed(dg_matrix_strided(data, type, columns, rows, stride));
}

// Elements from one group to the next without a gap.
static int64_t group_stride(const struct dg_tensor *t)
{
    return t->stride[0] >= t->stride[1] ? t->shape[0] * t->stride[0] : t->shape[1] * t->stride[1];
}

static struct dg_scaled describe_operand(const struct dg_problem *p, bool is_a, int64_t groups,
                                         void *values, void *scales)
{
    const int32_t block = is_a ? 1 : p->sfb_block_n;
    const dg_major major = is_a ? p->a_major : p->b_major;
    const dg_major scale_major = is_a ? p->sfa_major : p->sfb_major;
    const int64_t rows = is_a ? p->m : p->n, scale_rows = divide_up(rows, block);
    const int64_t blocks = scale_blocks(p);
    const int64_t words = p->sf_type == DG_UE8M0X4 ? divide_up(blocks, 4) : blocks;
    struct dg_scaled scaled = {
        .values = matrix(values, DG_E4M3, rows, p->k, major, is_a ? p->lda : p->ldb),
        .scales = matrix(scales, p->sf_type, scale_rows, words, scale_major,
                         scale_major == DG_K_MAJOR ? words : round_up(scale_rows, 4)),
        .block_rows = block,
        .block_columns = 128,
    };
    if (p->op == DG_OP_FP8_K_GROUPED)
        scaled.values = (struct dg_tensor){values, DG_E4M3, 1, {rows * p->k}, {1}};
    const int64_t values_stride = groups ? group_stride(&scaled.values) : 0;
    const int64_t scales_stride = groups ? group_stride(&scaled.scales) : 0;
    if (is_turned(p->op, is_a)) {
        scaled = (struct dg_scaled){dg_transposed(scaled.values), dg_transposed(scaled.scales), 128,
                                    block};
    }
    if (groups) {
        scaled.values = dg_stack(scaled.values, groups, values_stride);
        scaled.scales = dg_stack(scaled.scales, groups, scales_stride);
    }
    return scaled;
}

void cli_grouped_describe(const struct dg_problem *p, void *const base[CLI_BUFFERS],
                          struct cli_operands *operands)
{
    const enum cli_kind kind = cli_kind(p);
    const bool by_row = kind == CLI_CONTIGUOUS && p->layout == DG_GROUP_INDEX;
    operands->a =
        describe_operand(p, true, kind == CLI_MASKED ? p->groups : 0, base[CLI_A], base[CLI_SFA]);
    operands->b = describe_operand(p, false, kind == CLI_K_GROUPED ? 0 : p->groups, base[CLI_B],
                                   base[CLI_SFB]);
    operands->d = dg_matrix_strided(base[CLI_D], p->d_type, p->m, p->n, p->ldd);
    if (kind != CLI_CONTIGUOUS)
        operands->d = dg_stack(operands->d, p->groups, p->m * p->ldd);
    operands->c = operands->d;
    if (p->c_mode == DG_C_NONE)
        operands->c.data = NULL;
    else if (p->c_mode == DG_C_SEPARATE)
        operands->c.data = base[CLI_C];
    operands->layout =
        (struct dg_tensor){base[CLI_LAYOUT], DG_I32, 1, {by_row ? p->m : p->groups}, {1}};
}

static struct dg_tensor part(struct dg_tensor t, int64_t row, int64_t rows, int64_t column,
                             int64_t columns)
{
    t.data = (char *)t.data +
             (row * t.stride[0] + column * t.stride[1]) * (int64_t)dg_type_bytes(t.type);
    t.shape[0] = rows, t.shape[1] = columns;
    return t;
}

// One matrix of a stack, in NT orientation.
static struct dg_tensor unstack(struct dg_tensor t, int64_t group, bool is_transposed)
{
    if (t.rank == 3) {
        t.data = (char *)t.data + group * t.stride[0] * (int64_t)dg_type_bytes(t.type);
        t.rank = 2;
        t.shape[0] = t.shape[1], t.stride[0] = t.stride[1];
        t.shape[1] = t.shape[2], t.stride[1] = t.stride[2];
    }
    return is_transposed ? dg_transposed(t) : t;
}

static struct dg_scaled group_operand(const struct dg_problem *p, const struct dg_scaled *whole,
                                      const struct cli_group *groups, int64_t group, bool is_a)
{
    const struct cli_group *own = &groups[group];
    const bool is_transposed = is_turned(p->op, is_a);
    const int64_t rows = is_a ? p->m : p->n;
    struct dg_scaled s = {.block_rows = is_a ? 1 : p->sfb_block_n, .block_columns = 128};
    s.values = whole->values;
    if (p->op == DG_OP_FP8_K_GROUPED)
        s.values = dg_matrix((char *)s.values.data + rows * own->first, DG_E4M3, rows, own->size);
    else
        s.values = unstack(s.values, group, is_transposed);
    s.scales = unstack(whole->scales, group, is_transposed);
    if (is_k_grouped(p)) {
        s.scales = part(s.scales, 0, rows, own->first_block, divide_up(own->size, 128));
        if (p->op == DG_OP_FP8_K_GROUPED_TN)
            s.values = part(s.values, 0, rows, own->first, own->size);
    } else if (is_a) {
        const int64_t row = cli_kind(p) == CLI_MASKED ? 0 : own->first;
        s.values = part(s.values, row, own->size, 0, p->k);
        s.scales = part(s.scales, row, own->size, 0, s.scales.shape[1]);
    }
    return s;
}

void cli_group_operands(const struct dg_problem *problem, const struct cli_operands *operands,
                        const struct cli_group *groups, int64_t group, struct dg_scaled *a,
                        struct dg_scaled *b)
{
    *a = group_operand(problem, &operands->a, groups, group, true);
    *b = group_operand(problem, &operands->b, groups, group, false);
}

// ---- calling ------------------------------------------------------------------------------------

dg_status cli_grouped_call(dg_context *context, const struct dg_problem *problem,
                           const struct cli_operands *operands,
                           const struct dg_gemm_options *options, void *stream)
{
    typedef dg_status (*grouped)(dg_context *, const struct dg_scaled *, const struct dg_scaled *,
                                 const struct dg_tensor *, const struct dg_tensor *,
                                 const struct dg_tensor *, const struct dg_grouped_options *,
                                 void *);
    static const grouped functions[] = {
        [DG_OP_FP8_M_GROUPED_CONTIGUOUS] = dg_m_grouped_fp8_gemm_nt_contiguous,
        [DG_OP_FP8_M_GROUPED_CONTIGUOUS_NN] = dg_m_grouped_fp8_gemm_nn_contiguous,
        [DG_OP_FP8_M_GROUPED_MASKED] = dg_m_grouped_fp8_gemm_nt_masked,
        [DG_OP_FP8_K_GROUPED] = dg_k_grouped_fp8_gemm_nt_contiguous,
        [DG_OP_FP8_K_GROUPED_TN] = dg_k_grouped_fp8_gemm_tn_contiguous,
    };
    struct dg_grouped_options all = DG_GROUPED_OPTIONS;
    all.layout = problem->layout;
    all.alignment = cli_kind(problem) == CLI_CONTIGUOUS ? problem->alignment : 0;
    all.expected_m = problem->expected_m;
    if (options) {
        all.workspace = options->workspace;
        all.workspace_bytes = options->workspace_bytes;
        all.flags = options->flags;
    }
    return functions[problem->op](context, &operands->a, &operands->b, &operands->d,
                                  operands->c.data ? &operands->c : NULL, &operands->layout, &all,
                                  stream);
}

// What a group of this size takes: its products, its operands and D once.
static void group_work(const struct dg_problem *p, int64_t size, double *operations, double *bytes)
{
    const double element = (double)dg_type_bytes(p->d_type) * (p->c_mode == DG_C_NONE ? 1 : 2);
    const double n = (double)p->n, rows = (double)(is_k_grouped(p) ? p->m : size);
    const double k = (double)(is_k_grouped(p) ? size : p->k);
    *operations = 2 * rows * n * k;
    *bytes = size == 0 ? 0
                       : (rows + n) * k + 4 * ceil(k / 128) * (rows + ceil(n / p->sfb_block_n)) +
                             rows * n * element;
}

double cli_grouped_operations(const struct dg_problem *p)
{
    return cli_grouped_us(p, INFINITY, 1);
}

double cli_grouped_bytes(const struct dg_problem *p)
{
    return cli_grouped_us(p, 1, INFINITY);
}

double cli_grouped_us(const struct dg_problem *p, double bytes_per_us, double operations_per_us)
{
    double sum = 0;
    struct reach reach = {0, 0};
    for (int64_t g = 0; g < p->groups; g++) {
        double operations, bytes;
        group_work(p, next_group(p, g, &reach).size, &operations, &bytes);
        sum += fmax(bytes / bytes_per_us, operations / operations_per_us);
    }
    return sum;
}
