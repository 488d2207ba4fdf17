// SPDX-License-Identifier: MIT
// bench_list.c - the problems that a benchmark or a compilation goes through.
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add_mqa(struct bench *bench, const char *line, const char *where)
{
    struct cli_mqa mqa;
    if (cli_mqa_parse(line, &mqa) != DG_OK)
        return cli_error(bench->command, CLI_USAGE, "%s%s%s", where, *where ? ": " : "",
                         dg_last_error());
    struct cli_mqa *list = realloc(bench->mqa, (bench->num_mqa + 1) * sizeof *list);
    if (!list)
        return cli_error(bench->command, CLI_FAILED, "out of memory");
    bench->mqa = list;
    bench->mqa[bench->num_mqa++] = mqa;
    return CLI_OK;
}

int bench_add_problem(struct bench *bench, const char *line, const char *where)
{
    struct dg_problem problem;
    if (cli_mqa_is_line(line))
        return add_mqa(bench, line, where);
    if (cli_problem_parse(line, &problem) != DG_OK)
        return cli_error(bench->command, CLI_USAGE, "%s%s%s", where, *where ? ": " : "",
                         dg_last_error());
    struct dg_problem *problems =
        realloc(bench->problems, (bench->num_problems + 1) * sizeof *bench->problems);
    if (!problems)
        return cli_error(bench->command, CLI_FAILED, "out of memory");
    bench->problems = problems;
    bench->problems[bench->num_problems++] = problem;
    return CLI_OK;
}

int bench_read_shapes(struct bench *bench, const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return cli_error(bench->command, CLI_USAGE, "%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    int status = CLI_OK;
    for (int number = 1; status == CLI_OK && getline(&line, &capacity, file) >= 0; number++) {
        char where[4200];
        line[strcspn(line, "#\r\n")] = 0;
        if (line[strspn(line, " \t")] == 0)
            continue;
        snprintf(where, sizeof where, "%s:%d", path, number);
        status = bench_add_problem(bench, line, where);
    }
    if (status == CLI_OK && ferror(file))
        status = cli_error(bench->command, CLI_FAILED, "%s: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return status;
}

int bench_read_all_shapes(struct bench *bench, const struct cli_texts *paths)
{
    int status = CLI_OK;
    for (int i = 0; i < paths->count && status == CLI_OK; i++)
        status = bench_read_shapes(bench, paths->list[i]);
    return status;
}

void bench_begin(struct bench *bench, const struct cli_column *columns, int num_columns)
{
    size_t longest = 0;
    for (size_t i = 0; i < bench->num_problems; i++) {
        const size_t length = cli_problem_format(&bench->problems[i], NULL, 0);
        longest = length > longest ? length : longest;
    }
    bench->table.columns = columns;
    bench->table.num_columns = num_columns;
    bench->table.first_width = -(int)longest;
    if (bench->table.json)
        fprintf(bench->table.json, "{\"version\": \"%s\", \"rows\": ", dg_version());
    cli_table_begin(&bench->table);
}

bool bench_list_has(const char *list, const char *name)
{
    char item[64];
    for (int i = 0; cli_list_item(list, i, item, sizeof item); i++)
        if (strcmp(item, name) == 0)
            return true;
    return false;
}

static int compare_doubles(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double bench_median(double *values, size_t count)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, compare_doubles);
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}
