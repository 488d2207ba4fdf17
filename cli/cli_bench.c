// SPDX-License-Identifier: MIT
// cli_bench.c - `deepgemm bench`: reads what to time and where the rows go; how to time is a matter of
// the executor (bench_cpu.c, bench_gpu.c).
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option options[] = {
    {"shapes", CLI_TEXTS, offsetof(struct bench_settings, shapes), "FILE",
     "problems, one a line; may be repeated"},
    {"problem", CLI_TEXTS, offsetof(struct bench_settings, problem), "PROBLEM",
     "one more problem; may be repeated"},
    {"vs", CLI_TEXT, offsetof(struct bench_settings, vs), "LIST",
     "CPU: fma-peak (always on); GPU: cublaslt, cublaslt_block"},
    {"peers", CLI_TEXT, offsetof(struct bench_settings, peers), "FILE",
     "GPU: times of DeepGEMM and cuBLASLt, as bench/results/peers-h100.csv"},
    {"host", CLI_FLAG, offsetof(struct bench_settings, host), NULL,
     "GPU: also the host's time of one queued call"},
    {"tune", CLI_TEXT, offsetof(struct bench_settings, tune), "FILE",
     "GPU: time every candidate plan; writes a table for $DG_TUNING_FILE"},
    {"sweep", CLI_TEXT, offsetof(struct bench_settings, sweep), "RANGE",
     "GPU: time each shape over m=FIRST..LAST[:STEP]"},
    {"chain", CLI_FLAG, offsetof(struct bench_settings, chain), NULL,
     "GPU: all problems in a row, launched plainly and early"},
    {"in-turn", CLI_FLAG, offsetof(struct bench_settings, in_turn), NULL,
     "GPU: all problems against the first, their graphs replayed in turn"},
    {"csv", CLI_TEXT, offsetof(struct bench_settings, csv), "FILE",
     "also write the rows as CSV; with --tune a row for each candidate"},
    {"json", CLI_FLAG, offsetof(struct bench_settings, json), NULL,
     "print JSON instead of the table"},
    {"backend", CLI_TEXT, offsetof(struct bench_settings, backend), "NAME", "sm90, cpu or oracle"},
    {"isa", CLI_TEXT, offsetof(struct bench_settings, isa), "LIST", "CPU kernels: c, avx2, avx512"},
    {"threads", CLI_TEXT, offsetof(struct bench_settings, threads), "LIST",
     "numbers of CPU threads"},
    {"time-ms", CLI_NUMBER, offsetof(struct bench_settings, time_ms), "N",
     "milliseconds of calls for a CPU row (300)"},
    {"device", CLI_NUMBER, offsetof(struct bench_settings, device), "N", "CUDA device"},
    {"num-sms", CLI_NUMBER, offsetof(struct bench_settings, num_sms), "N",
     "SMs a GPU call may occupy"},
    {"seed", CLI_NUMBER, offsetof(struct bench_settings, seed), "N", "of the random data (1)"},
    {0},
};

static int read_problems(struct bench *bench, int argc, char **argv, int first)
{
    const struct bench_settings *settings = bench->settings;
    int status = bench_read_all_shapes(bench, &settings->shapes);
    for (int i = 0; status == CLI_OK && i < settings->problem.count; i++)
        status = bench_add_problem(bench, settings->problem.list[i], "--problem");
    for (int i = first; status == CLI_OK && i < argc; i++)
        status = bench_add_problem(bench, argv[i], "");
    if (status == CLI_OK && bench->num_problems + bench->num_mqa == 0)
        status = cli_error(bench->command, CLI_USAGE,
                           "nothing to time: give --shapes FILE or a problem");
    if (status == CLI_OK && bench->num_problems && bench->num_mqa)
        status = cli_error(bench->command, CLI_USAGE,
                           "MQA logits have other columns: time them apart from GEMMs");
    return status;
}

static int run_on_executor(struct bench *bench)
{
    const struct bench_settings *settings = bench->settings;
    const struct cli_context_settings chosen = {
        .backend = settings->backend, .device = settings->device, .num_sms = settings->num_sms};
    dg_context *context;
    if (cli_context_create(&context, &chosen) != DG_OK)
        return cli_library_error(bench->command);
    if (bench->num_mqa) {
        const int status = bench_run_mqa(bench, context);
        dg_context_destroy(context);
        return status;
    }
    const bool is_gpu = cli_context_is_gpu(context);
    const int status = is_gpu ? bench_run_gpu(bench, context) : CLI_OK;
    dg_context_destroy(context);
    if (!is_gpu && (settings->tune || settings->sweep || settings->chain || settings->in_turn))
        return cli_error(bench->command, CLI_USAGE,
                         "--tune, --sweep, --chain and --in-turn are for a GPU");
    return is_gpu ? status : bench_run_cpu(bench);
}

static int open_outputs(struct bench *bench)
{
    const struct bench_settings *settings = bench->settings;
    *(settings->json ? &bench->table.json : &bench->table.terminal) = stdout;
    if (!settings->csv)
        return CLI_OK;
    bench->table.csv = fopen(settings->csv, "w");
    if (!bench->table.csv)
        return cli_error(bench->command, CLI_FAILED, "%s: %s", settings->csv, strerror(errno));
    return CLI_OK;
}

static int close_outputs(struct bench *bench, int status)
{
    if (!bench->table.csv)
        return status;
    const bool failed = ferror(bench->table.csv) != 0;
    if (fclose(bench->table.csv) == 0 && !failed)
        return status;
    return cli_error(bench->command, CLI_FAILED, "%s could not be written", bench->settings->csv);
}

static int bench_main(const struct cli_command *command, int argc, char **argv)
{
    struct bench_settings settings = {.device = -1, .seed = 1, .time_ms = 300};
    int first, status;
    if (!cli_parse(command, argc, argv, &settings, &first, &status))
        return status;
    struct bench bench = {.command = command, .settings = &settings};
    status = read_problems(&bench, argc, argv, first);
    if (status == CLI_OK)
        status = open_outputs(&bench);
    const struct cli_context_settings cpu = {.backend = "cpu", .device = -1},
                                      oracle = {.backend = "oracle", .device = -1};
    if (status == CLI_OK && (cli_context_create(&bench.cpu, &cpu) != DG_OK ||
                             cli_context_create(&bench.oracle, &oracle) != DG_OK))
        status = cli_library_error(command);
    if (status == CLI_OK)
        status = run_on_executor(&bench);
    cli_progress_clear();
    status = close_outputs(&bench, status);
    dg_context_destroy(bench.cpu);
    dg_context_destroy(bench.oracle);
    free(bench.problems);
    free(bench.mqa);
    return status;
}

const struct cli_command cli_bench = {
    .name = "bench",
    .arguments = "['PROBLEM'...]",
    .summary = "check problems against the oracle, then time them",
    .details =
        "A CPU row times calls on inputs that stay in memory, best and median. `of peak` is the "
        "best\n"
        "call over independent FP32 multiply-adds on as many threads, the median of five pairs "
        "taken\n"
        "in turn; `MB` is what the first call added to the process's peak of resident memory.\n\n"
        "A GPU row replays a CUDA graph of 24 launches (8 of over 2e11 operations) that rotate "
        "over\n"
        "as many inputs as make 120 MB, 7 rounds in turn with the implementations of --vs; the "
        "time\n"
        "is the median.  `floor` is the share of what memory and tensor cores allow; `/ours` is a\n"
        "peer's time over ours; `DeepGEMM`, with --peers and --vs cublaslt, is the row's ratio of\n"
        "DeepGEMM to cuBLASLt over our ratio in this run: above 1, we are faster.\n\n"
        "MQA logits: `us` rotates over inputs as well, `warm us` stays on one set, which is how "
        "the paged\n"
        "rows of peers-h100.csv that exceed the memory's rate must have been timed.\n\n"
        "--tune times all plans that could run a problem, those near the best 7 rounds in turn, "
        "and\n"
        "sets the library's own choice (with no table) beside the best.  --sweep times many m of "
        "a\n"
        "shape, all in turn; `step` is the time over that of the m before.  --chain times a graph "
        "of\n"
        "the problems one after the other, with and without programmatic dependent launch.  "
        "--in-turn\n"
        "sets problems against the first of the list: `time`, and `rate`, of operations a second;\n"
        "both are medians of the rounds' ratios, so a card that gets hot does not matter.",
    .options = options,
    .main = bench_main,
};
