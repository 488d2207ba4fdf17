// SPDX-License-Identifier: MIT
// quantize_and_multiply.c - a linear layer from FP32 data: quantise weights per block and
// activations per token, multiply, compare with the product of the unquantised matrices.
//
//     make build/examples/quantize_and_multiply && build/examples/quantize_and_multiply
#include "deepgemm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 7, OUTPUTS = 300, INPUTS = 500, BLOCK = 128 };
enum { INPUT_BLOCKS = (INPUTS + BLOCK - 1) / BLOCK, OUTPUT_BLOCKS = (OUTPUTS + BLOCK - 1) / BLOCK };

static float x[TOKENS * INPUTS], w[OUTPUTS * INPUTS], y[TOKENS * OUTPUTS];
static uint8_t x_values[TOKENS * INPUTS], w_values[OUTPUTS * INPUTS];
static float x_scales[TOKENS * INPUT_BLOCKS], w_scales[OUTPUT_BLOCKS * INPUT_BLOCKS];

static void fill(float *data, int count)
{
    for (int i = 0; i < count; i++)
        data[i] = (float)rand() / (float)RAND_MAX - 0.5f;
}

static dg_status multiply(dg_context *context)
{
    struct dg_tensor x_in = dg_matrix(x, DG_F32, TOKENS, INPUTS);
    struct dg_tensor w_in = dg_matrix(w, DG_F32, OUTPUTS, INPUTS);
    struct dg_tensor d = dg_matrix(y, DG_F32, TOKENS, OUTPUTS);
    struct dg_scaled a = {dg_matrix(x_values, DG_E4M3, TOKENS, INPUTS),
                          dg_matrix(x_scales, DG_F32, TOKENS, INPUT_BLOCKS), 1, BLOCK};
    struct dg_scaled b = {dg_matrix(w_values, DG_E4M3, OUTPUTS, INPUTS),
                          dg_matrix(w_scales, DG_F32, OUTPUT_BLOCKS, INPUT_BLOCKS), BLOCK, BLOCK};
    dg_status status =
        dg_quantize_per_token(context, &x_in, &a.values, &a.scales, DG_SCALE_EXACT, NULL);
    if (!status)
        status = dg_quantize_per_block(context, &w_in, &b.values, &b.scales, DG_SCALE_EXACT, NULL);
    if (!status)
        status = dg_fp8_gemm_nt(context, &a, &b, &d, NULL, NULL, NULL);
    return status;
}

// |y - x * w^T| / |x * w^T| over all elements.
static double error(void)
{
    double difference = 0, norm = 0;
    for (int row = 0; row < TOKENS; row++)
        for (int column = 0; column < OUTPUTS; column++) {
            double sum = 0;
            for (int i = 0; i < INPUTS; i++)
                sum += (double)x[row * INPUTS + i] * w[column * INPUTS + i];
            difference += pow(y[row * OUTPUTS + column] - sum, 2);
            norm += pow(sum, 2);
        }
    return sqrt(difference / norm);
}

int main(void)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    options.backend = "cpu"; // host pointers
    dg_context *context;
    fill(x, TOKENS * INPUTS);
    fill(w, OUTPUTS * INPUTS);
    dg_status status = dg_context_create(&context, &options);
    if (!status)
        status = multiply(context);
    dg_context_destroy(context);
    if (status) {
        fprintf(stderr, "%s: %s\n", dg_status_name(status), dg_last_error());
        return 1;
    }
    printf("%d x %d x %d, relative error of FP8: %.4f\n", TOKENS, OUTPUTS, INPUTS, error());
    return error() < 0.05 ? 0 : 1;
}
