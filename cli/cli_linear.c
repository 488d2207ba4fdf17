// SPDX-License-Identifier: MIT
// cli_linear.c - `deepgemm linear`: one layer of a block-FP8 checkpoint applied to activations from a
// file, y = x * W^T, as an FP8 server does it: activations are quantised per token, then multiplied.
//
// With --check the result is first held against two references in double: the exact product of the
// quantised operands, which it must equal up to rounding, and the product of the activations as they
// came, which says what quantising them costs.  Nothing is written when the first one fails.
#include "cli.h"

#include "formats/block_fp8.h"
#include "formats/half.h"
#include "formats/npy.h"

#include <stdlib.h>
#include <string.h>

struct linear_settings {
    const char *weights, *name, *input, *output, *out;
    int check;
    struct cli_context_settings context;
};

static const struct cli_option options[] = {
    {"weights", CLI_TEXT, offsetof(struct linear_settings, weights), "PATH",
     "a .safetensors file, an index, or the checkpoint's directory"},
    {"name", CLI_TEXT, offsetof(struct linear_settings, name), "LAYER",
     "such as model.layers.0.mlp.gate_proj"},
    {"input", CLI_TEXT, offsetof(struct linear_settings, input), "X.NPY",
     "activations, [..., k], <f4, <f2, <f8 or bfloat16"},
    {"output", CLI_TEXT, offsetof(struct linear_settings, output), "Y.NPY",
     "where the result goes, [..., n]"},
    {"out", CLI_TEXT, offsetof(struct linear_settings, out), "TYPE",
     "fp32 (written as <f4; the default) or bf16 (written as <V2)"},
    {"check", CLI_FLAG, offsetof(struct linear_settings, check), NULL,
     "compare with products in double; a failed check is exit status 1"},
    CLI_CONTEXT_OPTIONS(struct linear_settings, context),
    {0},
};

// Everything of one call; release() frees it whatever state it is in.
struct linear {
    const struct cli_command *command;
    struct linear_settings settings;
    dg_context *context;
    struct dg_safetensors checkpoint;
    struct dg_block_fp8 layer;
    struct dg_tensor input; // as read
    struct dg_tensor x;     // [m, k] F32
    struct dg_scaled a;     // x quantised
    struct dg_tensor y;     // [m, n]
    double quantize_seconds, gemm_seconds;
};

static void release(struct linear *linear)
{
    dg_context_destroy(linear->context);
    dg_block_fp8_close(&linear->layer);
    dg_safetensors_close(&linear->checkpoint);
    free(linear->input.data);
    free(linear->x.data);
    free(linear->a.values.data);
    free(linear->a.scales.data);
    free(linear->y.data);
}

static int64_t ceil_div(int64_t x, int64_t y)
{
    return x / y + (x % y != 0);
}

// A matrix without gaps of its own memory; data is NULL when there is none.
static struct dg_tensor allocate(dg_type type, int64_t rows, int64_t columns)
{
    uint64_t bytes;
    void *data = NULL;
    if (!__builtin_mul_overflow((uint64_t)rows, (uint64_t)columns, &bytes) &&
        !__builtin_mul_overflow(bytes, dg_type_bytes(type), &bytes))
        data = malloc(bytes ? (size_t)bytes : 1);
    return dg_matrix(data, type, rows, columns);
}

// ---- Steps

static int check_settings(const struct linear *linear)
{
    const struct linear_settings *settings = &linear->settings;
    const struct {
        const char *name, *value;
    } needed[] = {
        {"weights", settings->weights}, {"name", settings->name}, {"input", settings->input}};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!needed[i].value)
            return cli_error(linear->command, CLI_USAGE, "--%s is missing", needed[i].name);
    if (!settings->output && !settings->check)
        return cli_error(linear->command, CLI_USAGE, "--output or --check must be given");
    if (strcmp(settings->out, "fp32") != 0 && strcmp(settings->out, "bf16") != 0)
        return cli_error(linear->command, CLI_USAGE, "--out %s: must be fp32 or bf16",
                         settings->out);
    return CLI_OK;
}

static int make_context(struct linear *linear)
{
    // The files are in host memory, so the CPU is the default also where there is a GPU.
    if (!linear->settings.context.backend && !getenv("DG_BACKEND"))
        linear->settings.context.backend = "cpu";
    if (cli_context_create(&linear->context, &linear->settings.context) != DG_OK)
        return cli_library_error(linear->command);
    if (cli_context_is_gpu(linear->context))
        return cli_error(linear->command, CLI_FAILED,
                         "linear runs on cpu contexts, not on %s: give --backend cpu",
                         dg_context_backend(linear->context));
    return CLI_OK;
}

static int load(struct linear *linear)
{
    const struct linear_settings *settings = &linear->settings;
    if (dg_safetensors_open(&linear->checkpoint, settings->weights) != DG_OK ||
        dg_block_fp8_open(&linear->checkpoint, settings->name, &linear->layer) != DG_OK ||
        dg_npy_read(settings->input, &linear->input) != DG_OK)
        return cli_library_error(linear->command);
    const struct dg_tensor *input = &linear->input;
    const int64_t k = linear->layer.scaled.values.shape[1];
    if (input->rank == 0 || input->shape[input->rank - 1] != k)
        return cli_error(linear->command, CLI_FAILED,
                         "%s: the last dimension is %lld, but %s takes k = %lld", settings->input,
                         (long long)(input->rank ? input->shape[input->rank - 1] : 1),
                         linear->layer.weight->name, (long long)k);
    if (dg_npy_to_f32(input, &linear->x) != DG_OK)
        return cli_error(linear->command, CLI_FAILED, "%s: %s", settings->input, dg_last_error());
    int64_t m = 1;
    for (int32_t i = 0; i < input->rank - 1; i++)
        if (__builtin_mul_overflow(m, input->shape[i], &m))
            return cli_error(linear->command, CLI_FAILED, "%s: too many rows", settings->input);
    linear->x = dg_matrix(linear->x.data, DG_F32, m, k);
    return CLI_OK;
}

static int multiply(struct linear *linear)
{
    const int64_t m = linear->x.shape[0], k = linear->x.shape[1];
    const int64_t n = linear->layer.scaled.values.shape[0];
    const bool is_fp32 = strcmp(linear->settings.out, "fp32") == 0;
    linear->a = (struct dg_scaled){
        .values = allocate(DG_E4M3, m, k),
        .scales = allocate(DG_F32, m, ceil_div(k, DG_BLOCK_FP8_SIZE)),
        .block_rows = 1,
        .block_columns = DG_BLOCK_FP8_SIZE,
    };
    linear->y = allocate(is_fp32 ? DG_F32 : DG_BF16, m, n);
    if (!linear->a.values.data || !linear->a.scales.data || !linear->y.data) {
        cli_error(linear->command, CLI_FAILED, "no memory for m = %lld, n = %lld, k = %lld",
                  (long long)m, (long long)n, (long long)k);
        return CLI_FAILED;
    }
    const double start = cli_seconds();
    if (dg_quantize_per_token(linear->context, &linear->x, &linear->a.values, &linear->a.scales,
                              DG_SCALE_EXACT, NULL) != DG_OK)
        return cli_library_error(linear->command);
    const double middle = cli_seconds();
    if (dg_fp8_gemm_nt(linear->context, &linear->a, &linear->layer.scaled, &linear->y, NULL, NULL,
                       NULL) != DG_OK)
        return cli_library_error(linear->command);
    linear->quantize_seconds = middle - start;
    linear->gemm_seconds = cli_seconds() - middle;
    return CLI_OK;
}

// ---- The check

static double result_at(const struct dg_tensor *y, int64_t index)
{
    if (y->type == DG_F32)
        return (double)((const float *)y->data)[index];
    return (double)dg_formats_bf16_to_float(((const uint16_t *)y->data)[index]);
}

// Of the result against one reference, which is a sum of products.
struct difference {
    double squares, reference_squares; // over the finite elements
    double expected_squares;           // what sums of such products have when signs are random
    int64_t misplaced;                 // NaN or Inf in one of the two only
    int64_t wrong;                     // beyond what rounding explains
};

// `magnitude` is the sum of the absolute products, `rounding` what the type of the result may cost.
static void add_difference(struct difference *difference, double value, double reference,
                           double magnitude, double rounding, int64_t k)
{
    enum { SUM_ERROR_PER_MILLION = 10 }; // 128 additions and k / 128 more, in FP32
    if (!isfinite(value) || !isfinite(reference)) {
        const bool both_nan = isnan(value) && isnan(reference);
        difference->misplaced += !both_nan && value != reference;
        return;
    }
    const double error = fabs(value - reference);
    difference->squares += error * error;
    difference->reference_squares += reference * reference;
    difference->expected_squares += k ? magnitude * magnitude / (double)k : 0;
    difference->wrong +=
        error > rounding * fabs(reference) + 1e-6 * SUM_ERROR_PER_MILLION * magnitude;
}

// Root mean square of the difference over that of the reference; where the products cancel out, over
// what they would be without that.
static double relative_error(const struct difference *difference)
{
    const double reference = fmax(difference->reference_squares, difference->expected_squares);
    return difference->squares > 0 ? sqrt(difference->squares / reference) : 0;
}

static dg_status multiply_exactly(struct linear *linear, struct dg_tensor *exact)
{
    struct cli_context_settings settings = CLI_CONTEXT_SETTINGS;
    settings.backend = "oracle";
    settings.threads = linear->settings.context.threads;
    dg_context *oracle;
    dg_status status = cli_context_create(&oracle, &settings);
    if (status == DG_OK)
        status = dg_fp8_gemm_nt(oracle, &linear->a, &linear->layer.scaled, exact, NULL, NULL, NULL);
    dg_context_destroy(oracle);
    return status;
}

static double e4m3_value(uint8_t byte)
{
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    if ((byte & 0x7f) == 0x7f)
        return (double)NAN;
    const double magnitude = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    return byte & 0x80 ? -magnitude : magnitude;
}

static void dequantize_row(const struct dg_scaled *weight, int64_t row, double *out)
{
    const int64_t k = weight->values.shape[1], blocks = weight->scales.shape[1];
    const uint8_t *values = (const uint8_t *)weight->values.data + row * k;
    const float *scales = (const float *)weight->scales.data + row / DG_BLOCK_FP8_SIZE * blocks;
    double table[256];
    for (int i = 0; i < 256; i++)
        table[i] = e4m3_value((uint8_t)i);
    for (int64_t i = 0; i < k; i++)
        out[i] = table[values[i]] * (double)scales[i / DG_BLOCK_FP8_SIZE];
}

static double dot(const float *x, const double *weight, int64_t k, double *magnitude)
{
    double sums[4] = {0}, magnitudes[4] = {0};
    for (int64_t i = 0; i < k; i++) {
        const double product = (double)x[i] * weight[i];
        sums[i % 4] += product;
        magnitudes[i % 4] += fabs(product);
    }
    *magnitude = (magnitudes[0] + magnitudes[1]) + (magnitudes[2] + magnitudes[3]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// One row of the weight at a time, in double: `row` has room for k elements.
static void compare(const struct linear *linear, const double *exact, double *row,
                    struct difference *quantised, struct difference *original)
{
    const int64_t m = linear->x.shape[0], k = linear->x.shape[1], n = linear->y.shape[1];
    const double rounding = linear->y.type == DG_BF16 ? 0x1p-8 : 0;
    for (int64_t j = 0; j < n; j++) {
        dequantize_row(&linear->layer.scaled, j, row);
        for (int64_t i = 0; i < m; i++) {
            double magnitude;
            const double sum = dot((const float *)linear->x.data + i * k, row, k, &magnitude);
            const double y = result_at(&linear->y, i * n + j);
            add_difference(quantised, y, exact[i * n + j], magnitude, rounding, k);
            add_difference(original, y, sum, magnitude, rounding, k);
        }
        if (j % 64 == 0)
            cli_progress_show("checking", (double)j, (double)n);
    }
    cli_progress_clear();
}

static int judge(const struct linear *linear, const struct difference *quantised,
                 const struct difference *original)
{
    const double limit = linear->y.type == DG_F32 ? 1e-6 : 0x1p-8 + 1e-6;
    const double error = relative_error(quantised);
    const bool is_good = error <= limit && quantised->wrong == 0 && quantised->misplaced == 0;
    printf("check    relative error %.3g against the exact product of the quantised operands "
           "(limit %.3g): %s\n",
           error, limit, is_good ? "ok" : "FAILED");
    printf("         relative error %.3g against the activations as they came\n",
           relative_error(original));
    if (is_good)
        return CLI_OK;
    return cli_error(linear->command, CLI_FAILED,
                     "the check failed, nothing was written: %lld elements differ by more than "
                     "rounding, %lld are NaN or Inf on one side only",
                     (long long)quantised->wrong, (long long)quantised->misplaced);
}

static int check(struct linear *linear)
{
    struct dg_tensor exact = allocate(DG_F64, linear->y.shape[0], linear->y.shape[1]);
    double *row = malloc(((size_t)linear->x.shape[1] + 1) * sizeof *row);
    struct difference quantised = {0}, original = {0};
    int status = CLI_OK;
    if (!exact.data || !row)
        status = cli_error(linear->command, CLI_FAILED, "no memory for the reference");
    else if (multiply_exactly(linear, &exact) != DG_OK)
        status = cli_library_error(linear->command);
    else {
        compare(linear, exact.data, row, &quantised, &original);
        status = judge(linear, &quantised, &original);
    }
    free(exact.data);
    free(row);
    return status;
}

// ---- The whole

static void print_facts(const struct linear *linear)
{
    const struct dg_scaled *weight = &linear->layer.scaled;
    const int64_t m = linear->x.shape[0], n = weight->values.shape[0], k = weight->values.shape[1];
    const double flop = 2.0 * (double)m * (double)n * (double)k;
    printf("weight   %s, E4M3 [%lld, %lld], in %s\n", linear->layer.weight->name, (long long)n,
           (long long)k, linear->checkpoint.files[linear->layer.weight->file].name);
    printf("input    %s, %s, %lld rows\n", linear->settings.input, dg_type_name(linear->input.type),
           (long long)m);
    printf("backend  %s\n", dg_context_backend(linear->context));
    printf("time     %.3f ms to quantise the activations, %.3f ms to multiply, %.1f GFLOP/s\n",
           1e3 * linear->quantize_seconds, 1e3 * linear->gemm_seconds,
           linear->gemm_seconds > 0 ? 1e-9 * flop / linear->gemm_seconds : 0);
}

static int write_output(const struct linear *linear)
{
    if (!linear->settings.output)
        return CLI_OK;
    struct dg_tensor y = linear->y;
    y.rank = linear->input.rank;
    for (int32_t i = 0; i < y.rank; i++)
        y.shape[i] = i == y.rank - 1 ? linear->y.shape[1] : linear->input.shape[i];
    if (dg_npy_write(linear->settings.output, &y) != DG_OK)
        return cli_library_error(linear->command);
    printf("output   %s, %s\n", linear->settings.output, dg_type_name(y.type));
    return CLI_OK;
}

static int run(struct linear *linear)
{
    int (*const steps[])(struct linear *) = {make_context, load, multiply};
    int status = check_settings(linear);
    for (size_t i = 0; status == CLI_OK && i < sizeof steps / sizeof *steps; i++)
        status = steps[i](linear);
    if (status != CLI_OK)
        return status;
    print_facts(linear);
    if (linear->settings.check)
        status = check(linear);
    return status == CLI_OK ? write_output(linear) : status;
}

static int linear_main(const struct cli_command *command, int argc, char **argv)
{
    struct linear linear = {.command = command,
                            .settings = {.out = "fp32", .context = CLI_CONTEXT_SETTINGS}};
    int first, status;
    if (!cli_parse(command, argc, argv, &linear.settings, &first, &status))
        return status;
    if (first < argc)
        return cli_error(command, CLI_USAGE, "'%s': takes options only", argv[first]);
    status = run(&linear);
    release(&linear);
    return status;
}

const struct cli_command cli_linear = {
    .name = "linear",
    .arguments = "--weights PATH --name LAYER --input X.NPY --output Y.NPY [--check]",
    .summary = "apply one layer of a block-FP8 checkpoint to activations: y = x * W^T",
    .details =
        "The layer is <LAYER>.weight, F8_E4M3 [n, k], with <LAYER>.weight_scale_inv, F32\n"
        "[ceil(n/128), ceil(k/128)], as DeepSeek publishes them; 'deepgemm quantize' makes them.\n"
        "Activations are quantised per token (1 x 128), then multiplied.",
    .options = options,
    .main = linear_main,
};
