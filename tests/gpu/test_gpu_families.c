// SPDX-License-Identifier: MIT
// test_gpu_families.c - one small problem for each kind of kernel, layout and output, with the data and the
// check of `deepgemm run --check`.  Quick enough to run under compute-sanitizer (make gpu-sanitize), and
// every operand has memory of its own, so that its memcheck sees the first byte too many.
#include "../../cli/mqa.h"
#include "checked.h"

// Bounded to a few SMs, a CTA works on several tiles and large tiles pay off.
static const struct family {
    const char *line;
    int num_sms; // 0: all
} families[] = {
    // sizes: one element, tails in every direction, tall, wide, deep
    {"fp8_gemm_nt m=1 n=1 k=1", 0},
    {"fp8_gemm_nt m=1 n=576 k=1024 sfa_layout=mn", 0},
    {"fp8_gemm_nt m=33 n=200 k=300 sfa_layout=mn lda=304 ldb=304", 0},
    {"fp8_gemm_nt m=64 n=264 k=2048 sfa_layout=mn", 0},
    {"fp8_gemm_nt m=129 n=392 k=1536 sfa_layout=mn", 3},
    {"fp8_gemm_nt m=600 n=500 k=1152 sfa_layout=mn", 2},
    {"fp8_gemm_nt m=700 n=72 k=272 sfa_layout=mn", 5},
    {"fp8_gemm_nt m=512 n=512 k=384 sfa_layout=mn", 4},
    {"fp8_gemm_nt m=600 n=600 k=256 sfa_layout=mn lda=272 ldd=616", 2},
    {"fp8_gemm_nt m=300 n=1100 k=512 sfa_layout=mn", 1},
    // scales: as rows, MN-major without padding, packed, of single columns of B
    {"fp8_gemm_nt m=100 n=300 k=400", 0},
    {"fp8_gemm_nt m=101 n=300 k=400 sfa_layout=mn", 0},
    {"fp8_gemm_nt m=100 n=300 k=1040 sf=ue8m0", 0},
    {"fp8_gemm_nt m=100 n=300 k=1040 sf=ue8m0 sfa_layout=mn", 0},
    {"fp8_gemm_nt m=132 n=260 k=400 sfb=1 sfa_layout=mn sfb_layout=mn", 0},
    {"fp8_gemm_nt m=133 n=261 k=400 sfb=1", 3},
    {"fp8_gemm_nt m=132 n=260 k=1040 sfb=1 sf=ue8m0 sfa_layout=mn sfb_layout=mn out=fp32", 2},
    // outputs: FP32, C of either kind, rows that TMA cannot store
    {"fp8_gemm_nt m=200 n=300 k=400 sfa_layout=mn out=fp32", 2},
    {"fp8_gemm_nt m=200 n=300 k=400 sfa_layout=mn out=fp32 c=inplace", 2},
    {"fp8_gemm_nt m=256 n=384 k=400 sfb=1 sfa_layout=mn sfb_layout=mn out=fp32 c=inplace", 3},
    {"fp8_gemm_nt m=200 n=300 k=400 sfa_layout=mn c=inplace", 2},
    {"fp8_gemm_nt m=200 n=303 k=400 c=separate", 2},
    {"fp8_gemm_nt m=77 n=99 k=130 out=fp32 c=separate ldd=101 lda=144 ldb=144", 0},
    // operands that are copied K-major first
    {"fp8_gemm_tn m=130 n=260 k=390", 0},
    {"fp8_gemm_tt m=128 n=256 k=257 out=fp32", 0},
    {"fp8_gemm_nn m=100 n=300 k=400 sfb=1 sf=ue8m0", 0},
    {"fp8_gemm_nt m=50 n=70 k=131 lda=135 ldb=133", 0},
    // groups: by index, by ends, by counts, along k; whole and partial tiles, scales of either kind
    {"fp8_m_grouped_contiguous groups=3 m=700 n=264 k=400 rows=200 sfa_layout=mn", 2},
    {"fp8_m_grouped_contiguous groups=5 m=400 n=136 k=272 rows=uniform:0-2 align=1 "
     "expected_m=40",
     3},
    {"fp8_m_grouped_contiguous groups=4 m=512 n=200 k=384 rows=zipf layout=ends out=fp32 "
     "c=inplace sfa_layout=mn",
     2},
    {"fp8_m_grouped_contiguous_nn groups=2 m=130 n=72 k=144 rows=60 c=separate", 0},
    {"fp8_m_grouped_masked groups=4 max_m=300 n=264 k=384 rows=hot expected_m=70 sfa_layout=mn", 2},
    {"fp8_m_grouped_masked groups=7 max_m=40 n=99 k=130 rows=uniform:0-1 expected_m=20 lda=144 "
     "ldb=144 sfb=1",
     0},
    // more rounds than CTAs have for their own
    {"fp8_m_grouped_contiguous groups=5 m=700 n=264 k=2304 rows=100 sfa_layout=mn", 2},
    {"fp8_m_grouped_masked groups=6 max_m=80 n=264 k=2100 rows=zipf expected_m=30 lda=2112 "
     "ldb=2112",
     3},
    {"fp8_m_grouped_masked groups=3 max_m=64 n=72 k=1040 rows=20 sf=ue8m0 sfa_layout=mn", 1},
    {"fp8_k_grouped groups=3 m=200 n=300 k=704 rows=zipf c=inplace sfa_layout=mn sfb_layout=mn", 2},
    {"fp8_k_grouped groups=4 m=77 n=99 k=512 rows=96 out=bf16", 0},
    {"fp8_k_grouped_tn groups=3 m=132 n=100 k=640 rows=uniform:0.5-1.5 expected_m=160 c=separate",
     3},
    // nothing to multiply
    {"fp8_gemm_nt m=40 n=50 k=0 c=separate", 0},
    {"fp8_gemm_nt m=40 n=50 k=0 out=fp32 ldd=60", 0},
    {"fp8_gemm_nt m=0 n=50 k=10", 0},
};

// Heads of one, two and four products, two fours of queries to a unit; depths with and without padding; all outputs;
// pages of one box and of two, one, two and four lanes to a query, more tokens than a CTA takes.
static const struct family scores[] = {
    {"fp8_mqa_logits s=37 skv=300 h=32 d=128 clean=yes", 3},
    {"fp8_mqa_logits s=19 skv=200 h=12 d=64 out=bf16 weights=bf16", 2},
    {"fp8_mqa_logits s=21 skv=260 h=64 d=32 ranges=ragged clean=yes", 2},
    {"fp8_mqa_logits s=9 skv=150 h=100 d=48 ranges=full width=70", 1},
    {"fp8_paged_mqa_logits b=5 h=64 L=300 ranges=ragged clean=yes", 3},
    {"fp8_paged_mqa_logits b=3 next_n=2 h=32 L=200 page=16 ranges=ragged out=bf16", 2},
    {"fp8_paged_mqa_logits b=2 next_n=3 h=128 d=64 L=130 page=32 ranges=ragged clean=yes", 0},
    {"fp8_paged_mqa_logits b=2 next_n=6 h=7 d=32 L=150 page=128", 2},
};

static char failure[1024];

static bool fail(const char *line, const char *text)
{
    snprintf(failure, sizeof failure, "%.300s: %.700s", line, text);
    return false;
}

// `wrong`: what a check that was done has found.
static bool judge(const char *line, bool is_done, const char *wrong)
{
    return is_done ? !wrong[0] || fail(line, wrong) : fail(line, dg_last_error());
}

// Runs the problem on the device and brings D back into `data`.
static bool run(const struct dg_problem *problem, struct cli_data *data)
{
    struct cli_gpu_data copy;
    struct dg_gemm_options options = DG_GEMM_OPTIONS;
    if (cli_gpu_upload(&gpu, data, &copy) != DG_OK)
        return false;
    const bool is_done =
        cli_gpu_workspace(&gpu, context, problem, &options) == DG_OK &&
        cli_call(context, problem, &copy.operands, &options, gpu.stream) == DG_OK &&
        gpu.cuda->cuStreamSynchronize(gpu.stream) == CUDA_SUCCESS &&
        cli_gpu_fetch_d(&gpu, data, &copy) == DG_OK;
    cli_gpu_workspace_free(&gpu, &options);
    cli_gpu_data_free(&gpu, &copy);
    return is_done;
}

static bool try_family(const struct family *family, uint64_t seed)
{
    struct dg_problem problem;
    struct cli_data data;
    struct cli_check check;
    if (dg_problem_parse(family->line, &problem) != DG_OK ||
        dg_context_set_num_sms(context, family->num_sms) != DG_OK ||
        cli_data_create(&data, &problem, seed, cpu) != DG_OK)
        return fail(family->line, dg_last_error());
    const bool is_done =
        run(&problem, &data) && cli_check(&data, oracle, true, 1e9, &check) == DG_OK;
    cli_data_free(&data);
    return judge(family->line, is_done, check.failure);
}

static bool run_scores(struct cli_mqa_data *data)
{
    struct cli_mqa_copy copy;
    if (cli_mqa_upload(&gpu, data, &copy) != DG_OK)
        return false;
    const bool is_done = cli_mqa_schedule(context, data, copy.base, gpu.stream) == DG_OK &&
                         cli_mqa_call(context, data, copy.base, gpu.stream) == DG_OK &&
                         gpu.cuda->cuStreamSynchronize(gpu.stream) == CUDA_SUCCESS &&
                         cli_mqa_fetch(&gpu, data, &copy) == DG_OK;
    cli_mqa_copy_free(&gpu, &copy);
    return is_done;
}

static bool try_scores(const struct family *family, uint64_t seed)
{
    struct cli_mqa mqa;
    struct cli_mqa_data data;
    struct cli_mqa_check check;
    if (cli_mqa_parse(family->line, &mqa) != DG_OK ||
        dg_context_set_num_sms(context, family->num_sms) != DG_OK ||
        cli_mqa_data_create(&data, &mqa, seed, dg_context_num_sms(context), cpu) != DG_OK)
        return fail(family->line, dg_last_error());
    const bool is_done = run_scores(&data) && cli_mqa_compare(&data, oracle, 1e9, &check) == DG_OK;
    cli_mqa_data_free(&data);
    return judge(family->line, is_done, check.failure);
}

static void test_one_problem_of_each_kind(void)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        CHECK(try_family(&families[i], i + 1), "%s", failure);
    for (size_t i = 0; i < sizeof scores / sizeof *scores; i++)
        CHECK(try_scores(&scores[i], i + 1), "%s", failure);
}

int main(void)
{
    const int status = checked_open();
    if (status)
        return status;
    RUN(test_one_problem_of_each_kind);
    checked_close();
    return harness_end();
}
