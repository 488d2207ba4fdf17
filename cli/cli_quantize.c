// SPDX-License-Identifier: MIT
// cli_quantize.c - `deepgemm quantize`: a checkpoint with its matrices in block FP8.
//
// Chosen matrices become <name>.weight in F8_E4M3 and <name>.weight_scale_inv in F32, everything else
// is copied byte for byte.  What is written appears under its final name only when it is whole: a file
// is written aside and renamed, the files of a sharded checkpoint are written into a directory aside,
// which is then renamed.
#include "cli_quantize.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct cli_option options[] = {
    {"include", CLI_TEXT, offsetof(struct quantize_settings, include), "GLOBS",
     "quantise the matrices that match, instead of the usual ones"},
    {"exclude", CLI_TEXT, offsetof(struct quantize_settings, exclude), "GLOBS",
     "leave tensors alone that match, besides the usual ones"},
    {"power-of-two", CLI_FLAG, offsetof(struct quantize_settings, power_of_two), NULL,
     "round scales up to powers of two"},
    {"json", CLI_FLAG, offsetof(struct quantize_settings, json), NULL, "print JSON"},
    CLI_CONTEXT_OPTIONS(struct quantize_settings, context),
    {0},
};

// What DeepSeek's own FP8 checkpoints quantise: the linear layers, without embeddings, the output
// head, norms and the router.
static const char usual[] = "*.weight";
static const char usual_exceptions[] =
    "*embed_tokens*,*lm_head*,*shared_head*,*norm*,*mlp.gate.weight,*eh_proj*";

static const char index_name[] = "model.safetensors.index.json";

// ---- Interruption: a signal is noticed between two bands, everything is removed, then it is repeated.

static volatile sig_atomic_t interrupted;

static void note_signal(int number)
{
    interrupted = number;
}

static void watch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    // A second signal of the same kind finds the default action.
    struct sigaction action = {.sa_handler = note_signal,
                               .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;
        if (sigaction(signals[i], NULL, &old) == 0 &&
            old.sa_handler != SIG_IGN) // nohup stays in force
            sigaction(signals[i], &action, NULL);
    }
}

int quantize_go_on(struct quantize *job, const char *what)
{
    if (interrupted)
        return cli_error(job->command, CLI_FAILED, "interrupted; nothing was written to %s",
                         job->out);
    cli_progress_show(what, (double)job->done, (double)job->total);
    return CLI_OK;
}

// ---- Choice

static bool matches(const char *globs, const char *name)
{
    char glob[256];
    for (int i = 0; globs && cli_list_item(globs, i, glob, sizeof glob); i++)
        if (fnmatch(glob, name, 0) == 0)
            return true;
    return false;
}

bool quantize_chooses(const struct quantize *job, const struct dg_safetensors_tensor *tensor)
{
    const bool is_float =
        tensor->type == DG_BF16 || tensor->type == DG_F16 || tensor->type == DG_F32;
    if (tensor->rank != 2 || !is_float || tensor->bytes == 0 ||
        matches(job->settings.exclude, tensor->name))
        return false;
    if (job->settings.include)
        return matches(job->settings.include, tensor->name);
    return matches(usual, tensor->name) && !matches(usual_exceptions, tensor->name);
}

static int check_choice(struct quantize *job)
{
    uint32_t chosen = 0;
    for (uint32_t i = 0; i < job->checkpoint.file_count; i++) {
        const struct dg_safetensors_header *header = &job->checkpoint.files[i].header;
        for (uint32_t j = 0; j < header->count; j++) {
            chosen += quantize_chooses(job, &header->tensors[j]);
            job->total += header->tensors[j].bytes;
        }
    }
    if (chosen == 0)
        return cli_error(job->command, CLI_FAILED,
                         "%s: no BF16, F16 or F32 matrix to quantise among %u tensors", job->in,
                         job->checkpoint.count);
    return CLI_OK;
}

// ---- A sharded checkpoint

static bool is_empty_directory(const char *path)
{
    DIR *directory = opendir(path);
    if (!directory)
        return false;
    int entries = 0;
    while (entries <= 2 && readdir(directory))
        entries++;
    closedir(directory);
    return entries <= 2; // "." and ".."
}

static int make_staging(struct quantize *job)
{
    struct stat facts;
    if (lstat(job->out, &facts) == 0 && !is_empty_directory(job->out))
        return cli_error(job->command, CLI_FAILED,
                         "%s: exists; a sharded checkpoint needs a new or empty directory",
                         job->out);
    size_t length = strlen(job->out);
    while (length > 1 && job->out[length - 1] == '/')
        length--;
    char *path = NULL;
    if (asprintf(&path, "%.*s.%ld.part", (int)length, job->out, (long)getpid()) < 0)
        return cli_error(job->command, CLI_FAILED, "out of memory");
    if (mkdir(path, 0777) != 0) {
        const int status =
            cli_error(job->command, CLI_FAILED, "%s: cannot be made: %s", path, strerror(errno));
        free(path);
        return status;
    }
    job->staging = path;
    return CLI_OK;
}

// Removes what this run wrote, and nothing else.
static void remove_staging(struct quantize *job)
{
    if (!job->staging)
        return;
    for (uint32_t i = 0; i < job->checkpoint.file_count; i++) {
        char *path = dg_path_join(job->staging, job->checkpoint.files[i].name);
        if (path)
            unlink(path);
        free(path);
    }
    char *path = dg_path_join(job->staging, index_name);
    if (path)
        unlink(path);
    free(path);
    rmdir(job->staging);
    free(job->staging);
    job->staging = NULL;
}

static int write_index(struct quantize *job)
{
    char *path = dg_path_join(job->staging, index_name);
    int status = path ? CLI_OK : cli_error(job->command, CLI_FAILED, "out of memory");
    if (path && dg_safetensors_write_index(path, &job->index, job->out_bytes) != DG_OK)
        status = cli_library_error(job->command);
    free(path);
    return status;
}

static int quantize_shards(struct quantize *job)
{
    int status = make_staging(job);
    for (uint32_t i = 0; status == CLI_OK && i < job->checkpoint.file_count; i++) {
        char *path = dg_path_join(job->staging, job->checkpoint.files[i].name);
        status = path ? quantize_file(job, &job->checkpoint.files[i], path)
                      : cli_error(job->command, CLI_FAILED, "out of memory");
        free(path);
    }
    if (status == CLI_OK)
        status = write_index(job);
    if (status == CLI_OK)
        status = quantize_go_on(job, "");
    if (status == CLI_OK && rename(job->staging, job->out) != 0)
        status = cli_error(job->command, CLI_FAILED, "%s: cannot be put in place: %s", job->out,
                           strerror(errno));
    if (status == CLI_OK) {
        free(job->staging);
        job->staging = NULL;
    }
    return status;
}

// ---- The whole

static int quantize_single(struct quantize *job)
{
    struct stat in, out;
    if (stat(job->checkpoint.files[0].file.path, &in) == 0 && stat(job->out, &out) == 0 &&
        in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return cli_error(job->command, CLI_USAGE, "%s: the input and the output are the same file",
                         job->out);
    return quantize_file(job, &job->checkpoint.files[0], job->out);
}

static void print_summary(const struct quantize *job, double seconds)
{
    FILE *file = job->settings.json ? stderr : stdout;
    fprintf(file, "%u tensors quantised, %u copied, %.1f MB to %.1f MB in %.1f s: %s\n",
            job->num_quantised, job->num_copied, 1e-6 * (double)job->total,
            1e-6 * (double)job->out_bytes, seconds, job->out);
    if (job->non_finite)
        fprintf(
            stderr,
            "warning: %llu elements are NaN now: they or another of their block were NaN or Inf\n",
            (unsigned long long)job->non_finite);
}

static int run(struct quantize *job)
{
    static const struct cli_column columns[] = {
        {"tensor", "tensor", -52, NULL}, {"dtype", "was", -5, NULL},
        {"shape", "shape", -14, NULL},   {"relative_rms_error", "rel. rms error", 14, "%.3g"},
        {"non_finite", NULL, 0, "%.0f"},
    };
    if (!job->settings.context.backend && !getenv("DG_BACKEND"))
        job->settings.context.backend = "cpu"; // the data is in host memory
    if (cli_context_create(&job->context, &job->settings.context) != DG_OK ||
        dg_safetensors_open(&job->checkpoint, job->in) != DG_OK)
        return cli_library_error(job->command);
    if (cli_context_is_gpu(job->context))
        return cli_error(job->command, CLI_FAILED,
                         "quantize runs on cpu contexts: give --backend cpu");
    int status = check_choice(job);
    if (status != CLI_OK)
        return status;
    const double start = cli_seconds();
    job->table = (struct cli_table){.columns = columns,
                                    .num_columns = sizeof columns / sizeof *columns,
                                    .terminal = job->settings.json ? NULL : stdout,
                                    .json = job->settings.json ? stdout : NULL};
    cli_table_begin(&job->table);
    status = job->checkpoint.is_sharded ? quantize_shards(job) : quantize_single(job);
    cli_progress_clear();
    cli_table_end(&job->table);
    if (status == CLI_OK)
        print_summary(job, cli_seconds() - start);
    return status;
}

static int quantize_main(const struct cli_command *command, int argc, char **argv)
{
    struct quantize job = {.command = command, .settings = {.context = CLI_CONTEXT_SETTINGS}};
    int first, status;
    if (!cli_parse(command, argc, argv, &job.settings, &first, &status))
        return status;
    if (argc - first != 2)
        return cli_error(command, CLI_USAGE, "an input and an output are wanted, %d given",
                         argc - first);
    job.in = argv[first];
    job.out = argv[first + 1];
    watch_signals();
    status = run(&job);
    remove_staging(&job);
    dg_strbuf_free(&job.index);
    dg_safetensors_close(&job.checkpoint);
    dg_context_destroy(job.context);
    if (interrupted && status != CLI_OK) {
        signal(interrupted, SIG_DFL);
        raise(interrupted);
    }
    return status;
}

const struct cli_command cli_quantize = {
    .name = "quantize",
    .arguments = "IN OUT",
    .summary = "turn the BF16, F16 and F32 matrices of a checkpoint into block FP8",
    .details =
        "IN is a .safetensors file, and OUT the file to write; or IN is an index or a directory "
        "with\n"
        "one, and OUT a new directory.  Chosen are the 2-D tensors *.weight, except names with\n"
        "embed_tokens, lm_head, shared_head, norm, eh_proj and the router mlp.gate.weight; GLOBS "
        "is a\n"
        "comma-separated list.  The rest is copied byte for byte.  An interrupted run leaves no "
        "OUT.",
    .options = options,
    .main = quantize_main,
};
