/* SPDX-License-Identifier: MIT */
/* consumer.c - a program of somebody else's: multiplies ones through the installed library. */
#include <deepgemm.h>
#include <stdio.h>

int main(void)
{
    enum { M = 5, N = 3, K = 200 };
    static uint8_t a[M * K], b[N * K];
    float sfa[M * 2], sfb[2] = {0.5f, 0.25f}, d[M * N];
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    int i;

    for (i = 0; i < M * K; i++)
        a[i] = 0x38; /* 1.0 */
    for (i = 0; i < N * K; i++)
        b[i] = 0x40; /* 2.0 */
    for (i = 0; i < M * 2; i++)
        sfa[i] = (float)(i / 2 + 1);

    struct dg_scaled A = {dg_matrix(a, DG_E4M3, M, K), dg_matrix(sfa, DG_F32, M, 2), 1, 128};
    struct dg_scaled B = {dg_matrix(b, DG_E4M3, N, K), dg_matrix(sfb, DG_F32, 1, 2), 128, 128};
    struct dg_tensor D = dg_matrix(d, DG_F32, M, N);
    options.backend = "cpu";
    if (dg_context_create(&context, &options) ||
        dg_fp8_gemm_nt(context, &A, &B, &D, NULL, NULL, NULL)) {
        fprintf(stderr, "%s\n", dg_last_error());
        return 1;
    }
    dg_context_destroy(context);
    for (i = 0; i < M * N; i++)
        if (d[i] != (float)(i / N + 1) * (256 * 0.5f + 144 * 0.25f))
            return fprintf(stderr, "d[%d] = %g\n", i, d[i]), 1;
    printf("deepgemm %s: %g\n", dg_version(), d[M * N - 1]);
    return 0;
}
