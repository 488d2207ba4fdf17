// SPDX-License-Identifier: MIT
// cli_compile.c - `deepgemm compile`: makes kernels ready ahead of time, or counts the distinct ones that
// a list of shapes needs over every m.
#include "bench.h"

#include <stdlib.h>
#include <string.h>

struct compile_settings {
    struct cli_context_settings context;
    struct cli_texts shapes;
    int64_t max_m;
    int list;
};

static const struct cli_option options[] = {
    {"shapes", CLI_TEXTS, offsetof(struct compile_settings, shapes), "FILE",
     "problems, one a line; may be repeated"},
    {"list", CLI_FLAG, offsetof(struct compile_settings, list), NULL,
     "compile nothing: list the kernels needed for m = 1 to --max-m"},
    {"max-m", CLI_NUMBER, offsetof(struct compile_settings, max_m), "N", "for --list (16384)"},
    CLI_CONTEXT_OPTIONS(struct compile_settings, context),
    {0},
};

// ---- --list -------------------------------------------------------------------------------------

struct kernels {
    struct kernel {
        char *name;
        int64_t num_problems;
    } * list;
    size_t count;
};

static bool kernels_add(struct kernels *kernels, const char *name)
{
    for (size_t i = 0; i < kernels->count; i++)
        if (strcmp(kernels->list[i].name, name) == 0) {
            kernels->list[i].num_problems++;
            return true;
        }
    struct kernel *list = realloc(kernels->list, (kernels->count + 1) * sizeof *list);
    char *copy = strdup(name);
    if (list)
        kernels->list = list;
    if (!list || !copy) {
        free(copy);
        return false;
    }
    kernels->list[kernels->count++] = (struct kernel){copy, 1};
    return true;
}

static void kernels_free(struct kernels *kernels)
{
    for (size_t i = 0; i < kernels->count; i++)
        free(kernels->list[i].name);
    free(kernels->list);
}

struct identity {
    char name[192];
    bool is_key;
};

// "kernel_key" where there is one, else "kernel".  Called for each of a million facts, so it keeps no others.
static void take_identity(void *user, const char *section, const char *key, const char *value)
{
    struct identity *identity = user;
    if (strncmp(key, "kernel", 6) != 0 || identity->is_key)
        return;
    identity->is_key = strcmp(key, "kernel_key") == 0;
    snprintf(identity->name, sizeof identity->name, "%s", value);
}

// The kernel's identity as the backend explains it: all that its compilation depends on.
static dg_status kernel_of(dg_context *context, const struct dg_problem *problem,
                           struct kernels *kernels)
{
    struct identity identity = {.name = "?"};
    const dg_status status = dg_explain(context, problem, take_identity, &identity);
    if (status != DG_OK)
        return status;
    return kernels_add(kernels, identity.name) ? DG_OK : DG_OUT_OF_MEMORY;
}

// The problem for another m; a stride that spans m, and would not fit another, becomes "no gap".
static struct dg_problem with_m(struct dg_problem problem, int64_t m)
{
    problem.m = m;
    if (problem.a_major == DG_MN_MAJOR)
        problem.lda = 0;
    return problem;
}

static bool is_same_shape(const struct dg_problem *left, const struct dg_problem *right)
{
    char lines[2][512];
    const struct dg_problem problems[] = {with_m(*left, 2), with_m(*right, 2)};
    for (int i = 0; i < 2; i++)
        cli_problem_format(&problems[i], lines[i], sizeof lines[i]);
    return strcmp(lines[0], lines[1]) == 0;
}

// Another line stands for this shape.  With one row all layouts of A are the same, so such a line is
// every shape that differs from it in them alone, wherever that stands.
static bool is_repeated(const struct bench *bench, size_t index)
{
    for (size_t i = 0; i < bench->num_problems; i++) {
        struct dg_problem problem = bench->problems[index];
        const struct dg_problem *other = &bench->problems[i];
        const bool has_no_layout = problem.m <= 1 && other->m > 1;
        if (has_no_layout) {
            problem.a_major = other->a_major;
            problem.lda = other->lda;
            problem.sfa_major = other->sfa_major;
        }
        const bool is_earlier = i < index && (other->m > 1 || problem.m <= 1);
        if ((is_earlier || has_no_layout) && is_same_shape(&problem, other))
            return true;
    }
    return false;
}

static int list_kernels(const struct bench *bench, dg_context *context, int64_t max_m)
{
    struct kernels kernels = {0};
    dg_status status = DG_OK;
    int64_t num_shapes = 0;
    for (size_t i = 0; i < bench->num_problems && status == DG_OK; i++) {
        if (is_repeated(bench, i))
            continue;
        num_shapes++;
        cli_progress_show("kernels", (double)i, (double)bench->num_problems);
        for (int64_t m = 1; m <= max_m && status == DG_OK; m++) {
            const struct dg_problem problem = with_m(bench->problems[i], m);
            status = kernel_of(context, &problem, &kernels);
        }
    }
    cli_progress_clear();
    for (size_t i = 0; i < kernels.count && status == DG_OK; i++)
        printf("%-60s %10lld problems\n", kernels.list[i].name,
               (long long)kernels.list[i].num_problems);
    if (status == DG_OK)
        printf("%zu kernels for %lld shapes, m = 1 to %lld\n", kernels.count, (long long)num_shapes,
               (long long)max_m);
    kernels_free(&kernels);
    return status == DG_OK ? CLI_OK : cli_status_error(bench->command, status);
}

// ---- compiling ----------------------------------------------------------------------------------

static int prepare_mqa(const struct bench *bench, dg_context *context)
{
    for (size_t i = 0; i < bench->num_mqa; i++) {
        const struct dg_mqa_problem problem = cli_mqa_problem(&bench->mqa[i]);
        const double start = cli_seconds();
        char line[512];
        if (dg_mqa_prepare(context, &problem) != DG_OK)
            return cli_library_error(bench->command);
        cli_mqa_format(&bench->mqa[i], line, sizeof line);
        printf("%10.1f ms  %s\n", 1e3 * (cli_seconds() - start), line);
    }
    return CLI_OK;
}

static int prepare_all(const struct bench *bench, dg_context *context)
{
    double *times = calloc(bench->num_problems + 1, sizeof *times), worst = 0;
    if (!times)
        return cli_error(bench->command, CLI_FAILED, "out of memory");
    size_t count = 0;
    for (size_t i = 0; i < bench->num_problems; i++) {
        char line[512];
        cli_problem_format(&bench->problems[i], line, sizeof line);
        cli_progress_show(line, (double)i, (double)bench->num_problems);
        const double start = cli_seconds();
        if (dg_prepare(context, &bench->problems[i]) != DG_OK)
            break;
        times[count] = 1e3 * (cli_seconds() - start);
        cli_progress_clear();
        printf("%10.1f ms  %s\n", times[count], line);
        worst = fmax(worst, times[count++]);
    }
    const bool is_done = count == bench->num_problems;
    if (is_done && count > 0)
        printf("%zu problems ready: median %.1f ms, longest %.1f ms\n", count,
               bench_median(times, count), worst);
    free(times);
    return is_done ? prepare_mqa(bench, context) : cli_library_error(bench->command);
}

static int compile_main(const struct cli_command *command, int argc, char **argv)
{
    struct compile_settings settings = {.context = CLI_CONTEXT_SETTINGS, .max_m = 16384};
    int first, status;
    if (!cli_parse(command, argc, argv, &settings, &first, &status))
        return status;
    struct bench bench = {.command = command};
    status = bench_read_all_shapes(&bench, &settings.shapes);
    for (int i = first; status == CLI_OK && i < argc; i++)
        status = bench_add_problem(&bench, argv[i], "");
    if (status == CLI_OK && bench.num_problems + bench.num_mqa == 0)
        status =
            cli_error(command, CLI_USAGE, "nothing to compile: give --shapes FILE or a problem");
    dg_context *context = NULL;
    if (status == CLI_OK && cli_context_create(&context, &settings.context) != DG_OK)
        status = cli_library_error(command);
    if (status == CLI_OK)
        status = settings.list ? list_kernels(&bench, context, settings.max_m)
                               : prepare_all(&bench, context);
    dg_context_destroy(context);
    free(bench.problems);
    free(bench.mqa);
    return status;
}

const struct cli_command cli_compile = {
    .name = "compile",
    .arguments = "['PROBLEM'...]",
    .summary = "compile the kernels of problems ahead of time, or list them",
    .options = options,
    .main = compile_main,
};
