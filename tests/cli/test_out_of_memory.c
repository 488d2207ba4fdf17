// SPDX-License-Identifier: MIT
// test_out_of_memory.c - each allocation of a call fails, once alone and once with all that follow it.  The call
// succeeds without that memory and is right, or says DG_OUT_OF_MEMORY and leaves D as it was; either way it succeeds
// when asked again.  Leaks on the way out are for AddressSanitizer to find (`make asan`).
//
// The linker sends the calls of library and command through here: -Wl,--wrap in the Makefile.
#include "../../cli/data.h"
#include "../../cli/mqa.h"
#include "../harness.h"
#include "../unit/files.h"

#include "formats/block_fp8.h"

#include <stdatomic.h>

// ---- allocations that fail --------------------------------------------------------------------------------

static atomic_long num_allocations; // since all_succeed() or the last fail_from()
static long first_failure;          // 0: none fails
static bool all_fail;               // from the first on

static bool fails(void)
{
    const long number = atomic_fetch_add(&num_allocations, 1) + 1;
    return first_failure && (all_fail ? number >= first_failure : number == first_failure);
}

static void fail_from(long number, bool also_later_ones)
{
    first_failure = number;
    all_fail = also_later_ones;
    num_allocations = 0;
}

static void all_succeed(void)
{
    fail_from(0, false);
}

// name, result, parameters, arguments, what a failure returns
#define WRAP(name, result, parameters, arguments, failure)                                         \
    result __real_##name parameters;                                                               \
    result __wrap_##name parameters;                                                               \
    result __wrap_##name parameters                                                                \
    {                                                                                              \
        return fails() ? (failure) : __real_##name arguments;                                      \
    }

WRAP(malloc, void *, (size_t bytes), (bytes), NULL)
WRAP(calloc, void *, (size_t count, size_t bytes), (count, bytes), NULL)
WRAP(realloc, void *, (void *memory, size_t bytes), (memory, bytes), NULL)
WRAP(strdup, char *, (const char *text), (text), NULL)
WRAP(strndup, char *, (const char *text, size_t most), (text, most), NULL)
WRAP(posix_memalign, int, (void **memory, size_t alignment, size_t bytes),
     (memory, alignment, bytes), 12)

// ---- one action, with each of its allocations failing ---------------------------------------------------------

static const char *wrong; // what an action that returned DG_OK got wrong; NULL: nothing

typedef dg_status (*action)(const char *text);

static void check_action(action act, const char *text, long fewest)
{
    all_succeed();
    wrong = NULL;
    CHECK(act(text) == DG_OK && !wrong, "%s: %s", text, wrong ? wrong : dg_last_error());
    const long count = num_allocations;
    CHECK(count >= fewest, "%s: only %ld allocations were seen", text, count);
    for (long i = 1; i <= count; i++)
        for (int also = 0; also < 2; also++) {
            fail_from(i, also);
            wrong = NULL;
            const dg_status status = act(text);
            all_succeed();
            CHECK(status == DG_OK || status == DG_OUT_OF_MEMORY,
                  "%s: %s without allocation %ld%s: %s", text, dg_status_name(status), i,
                  also ? " and later ones" : "", dg_last_error());
            CHECK(status == DG_OK || *dg_last_error(), "%s: no text without allocation %ld", text,
                  i);
            CHECK(!wrong, "%s: %s without allocation %ld%s", text, wrong, i,
                  also ? " and later ones" : "");
        }
}

// ---- calls on the CPU -----------------------------------------------------------------------------------------

static dg_context *open_context(const char *backend)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    dg_context *context;
    options.backend = backend;
    options.num_threads = 2;
    return dg_context_create(&context, &options) == DG_OK ? context : NULL;
}

static dg_status check_d(const struct cli_data *data, dg_context *oracle)
{
    static char failure[300];
    struct cli_check check;
    const dg_status status = cli_check(data, oracle, false, 1e9, &check);
    if (status == DG_OK && check.failure[0]) {
        snprintf(failure, sizeof failure, "%s", check.failure);
        wrong = failure;
    }
    return status;
}

// All that `deepgemm run --check` does, contexts and random operands included.
static dg_status run_all(const char *line)
{
    struct dg_problem problem;
    struct cli_data data = {0};
    struct cli_operands operands;
    dg_context *cpu = open_context("cpu"), *oracle = open_context("oracle");
    dg_status status = cpu && oracle ? DG_OK : DG_OUT_OF_MEMORY;
    if (status == DG_OK)
        status = dg_problem_parse(line, &problem);
    if (status == DG_OK)
        status = cli_data_create(&data, &problem, 7, cpu);
    if (status == DG_OK) {
        cli_data_operands(&data, &operands);
        status = cli_call(cpu, &problem, &operands, NULL, NULL);
        if (status == DG_OK)
            status = check_d(&data, oracle);
        cli_data_free(&data);
    }
    dg_context_destroy(cpu);
    dg_context_destroy(oracle);
    return status;
}

// Only the call fails; then the same context does it.
static dg_status call_only(const char *line)
{
    const long failure = first_failure;
    const bool also_later_ones = all_fail;
    struct dg_problem problem;
    struct cli_data data;
    struct cli_operands operands;
    all_succeed();
    dg_context *cpu = open_context("cpu"), *oracle = open_context("oracle");
    dg_problem_parse(line, &problem);
    cli_data_create(&data, &problem, 7, cpu);
    cli_data_operands(&data, &operands);
    const size_t bytes = data.bytes[CLI_D] + 2 * CLI_GUARD_BYTES;
    char *before = malloc(bytes);
    memcpy(before, data.buffer[CLI_D], bytes);

    fail_from(failure, also_later_ones);
    const dg_status status = cli_call(cpu, &problem, &operands, NULL, NULL);
    const long used = num_allocations;
    all_succeed();
    if (status != DG_OK && memcmp(before, data.buffer[CLI_D], bytes) != 0)
        wrong = "D was written by a call that failed";
    if (status != DG_OK && cli_call(cpu, &problem, &operands, NULL, NULL) != DG_OK)
        wrong = "the context did not recover";
    check_d(&data, oracle);
    free(before);
    cli_data_free(&data);
    dg_context_destroy(cpu);
    dg_context_destroy(oracle);
    num_allocations = used;
    return status;
}

static void test_products_on_the_cpu(void)
{
    static const char *const lines[] = {
        "fp8_gemm_nt m=64 n=256 k=512",
        "fp8_gemm_tn m=33 n=130 k=300 c=inplace out=fp32 ldd=140",
        "fp8_m_grouped_contiguous groups=4 m=300 n=200 k=256 rows=70",
        "fp8_m_grouped_masked groups=4 max_m=64 n=256 k=256 rows=20",
        "fp8_k_grouped groups=3 m=100 n=128 k=512 rows=zipf c=inplace out=fp32",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        check_action(run_all, lines[i], 20);
        if (!harness_test_failed)
            check_action(call_only, lines[i], 0); // scratch is there from making the operands
    }
}

static dg_status run_logits(const char *line)
{
    static struct cli_mqa_check check;
    struct cli_mqa mqa;
    struct cli_mqa_data data = {.num_sms = 0};
    void *base[CLI_MQA_BUFFERS];
    dg_context *cpu = open_context("cpu"), *oracle = open_context("oracle");
    dg_status status = cpu && oracle ? cli_mqa_parse(line, &mqa) : DG_OUT_OF_MEMORY;
    if (status == DG_OK)
        status = cli_mqa_data_create(&data, &mqa, 7, 4, cpu);
    if (status == DG_OK) {
        cli_mqa_data_base(&data, base);
        status = cli_mqa_schedule(cpu, &data, base, NULL);
        if (status == DG_OK)
            status = cli_mqa_call(cpu, &data, base, NULL);
        if (status == DG_OK)
            status = cli_mqa_compare(&data, oracle, 1e9, &check);
        wrong = status == DG_OK && check.failure[0] ? check.failure : NULL;
        cli_mqa_data_free(&data);
    }
    dg_context_destroy(cpu);
    dg_context_destroy(oracle);
    return status;
}

static void test_mqa_logits_on_the_cpu(void)
{
    check_action(run_logits, "fp8_mqa_logits s=16 skv=128 h=32 d=64", 20);
    check_action(run_logits, "fp8_paged_mqa_logits b=3 next_n=1 h=32 d=64 L=200", 20);
}

// ---- plans and compilation for a GPU ----------------------------------------------------------------------------

static void ignore_fact(void *user, const char *section, const char *key, const char *value)
{
    (void)user, (void)section, (void)key, (void)value;
}

static dg_status compile_for_gpu(const char *line)
{
    struct dg_context_options options = DG_CONTEXT_OPTIONS;
    struct dg_problem problem;
    dg_context *context = NULL;
    options.device_profile = "h100-sxm";
    dg_status status = dg_problem_parse(line, &problem);
    if (status == DG_OK)
        status = dg_context_create(&context, &options);
    if (status == DG_OK)
        status = dg_context_set_tuning(
            context, "deepgemm-tuning 1\n"
                     "NVIDIA H100 80GB HBM3, 132 SMs | fp8_gemm_nt m=1..64 n=96 k=128 | "
                     "128x64 stages=8 groups=2 cluster=1x1 | x\n");
    if (status == DG_OK)
        status = dg_explain(context, &problem, ignore_fact, NULL);
    if (status == DG_OK)
        status = dg_prepare(context, &problem);
    dg_context_destroy(context);
    files_remove_below("kernels");
    return status;
}

static void test_compilation(void)
{
    check_action(compile_for_gpu, "fp8_gemm_nt m=64 n=256 k=512", 20);
    check_action(compile_for_gpu, "fp8_gemm_tn m=300 n=256 k=512", 20);
    check_action(compile_for_gpu, "fp8_k_grouped groups=3 m=128 n=128 k=256", 20);
}

// ---- checkpoints ------------------------------------------------------------------------------------------------

static dg_status read_layer(const char *name)
{
    struct dg_safetensors checkpoint;
    struct dg_block_fp8 layer;
    dg_status status = dg_safetensors_open(&checkpoint, files_path("checkpoint.safetensors"));
    if (status != DG_OK)
        return status;
    status = dg_block_fp8_open(&checkpoint, name, &layer);
    if (status == DG_OK) {
        wrong = ((const unsigned char *)layer.scaled.values.data)[5] == 5 ? NULL : "other bytes";
        dg_block_fp8_close(&layer);
    }
    dg_safetensors_close(&checkpoint);
    return status;
}

static void test_checkpoints(void)
{
    files_write_safetensors(
        "checkpoint.safetensors",
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"l.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
        "\"l.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[8,12]}}",
        12);
    check_action(read_layer, "l", 5);
}

int main(void)
{
    static const char nvcc[] =
        "#!/bin/sh\n"
        "case $1 in --version) echo 'Cuda, release 13.0, V13.0.0'; exit; esac\n"
        "while [ $# -gt 0 ]; do\n"
        "    case $1 in -o) shift; to=$1 ;; *.cu) from=$1 ;; esac\n"
        "    shift\n"
        "done\n"
        "cp \"$from\" \"$to\"\n";
    const char *path = files_write("nvcc", nvcc, sizeof nvcc - 1);
    chmod(path, 0700);
    setenv("DG_JIT_USE_NVRTC", "0", 1);
    setenv("DG_JIT_NVCC_COMPILER", path, 1);
    setenv("DG_JIT_CACHE_DIR", files_path("kernels"), 1);
    RUN(test_products_on_the_cpu);
    RUN(test_mqa_logits_on_the_cpu);
    RUN(test_compilation);
    RUN(test_checkpoints);
    return harness_end();
}
