// SPDX-License-Identifier: MIT
// bench_tune.c - `deepgemm bench --tune`: every plan that could run a problem, measured against the one
// that the library would choose; the winners as a table for $DG_TUNING_FILE.
//
// The candidates of a problem are graphs that are replayed in turn.  Those far behind leave after the first
// round, the rest after a few, so that the last rounds compare the best with each other and with the
// choice, in the same heat.
#include "bench_gpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CANDIDATES = 128, TABLE_BYTES = 1024 };
static const double check_products = 1e8;

// Who is within `share` of the best stays for the next rounds.
static const struct {
    int rounds;
    double share;
} stages[] = {{1, 1.4}, {2, 1.1}, {BENCH_ROUNDS, 1}};
enum { NUM_STAGES = sizeof stages / sizeof *stages };

// A winner that gains less is noise: the table then names the choice.
static const double least_gain = 1.01;

struct candidate {
    char name[96];
    double predicted_us, us; // NAN: not measured
    bool is_out;             // could not be run, or was too slow to go on
};

struct trial {
    struct bench_entry entry;
    char device[96], line[512]; // as a table names them
    struct candidate list[MAX_CANDIDATES];
    struct bench_lap laps[MAX_CANDIDATES]; // of those that are not out
    int count, choice, best;               // places in the list
    struct cli_check check; // of the choice; of the best where that is right and another
};

struct tuning {
    struct bench_gpu *all;
    FILE *file;
    struct cli_table candidates; // as CSV
    double log_sum, worst;       // of choice / best
    int64_t count;
    char worst_problem[512];
};

// ---- candidates ---------------------------------------------------------------------------------

static void add_candidate(void *user, const char *section, const char *key, const char *value)
{
    struct trial *trial = user;
    if (trial->count < MAX_CANDIDATES) {
        struct candidate *candidate = &trial->list[trial->count++];
        *candidate = (struct candidate){.predicted_us = strtod(value, NULL), .us = NAN};
        snprintf(candidate->name, sizeof candidate->name, "%s", key);
    }
}

// Makes the context plan this candidate.
static dg_status use_candidate(const struct trial *trial, int which)
{
    char table[TABLE_BYTES];
    snprintf(table, sizeof table, "deepgemm-tuning 1\n%s | %s | %s\n", trial->device, trial->line,
             trial->list[which].name);
    return dg_context_set_tuning(trial->entry.all->context, table);
}

// Makes the context plan by itself again.
static dg_status use_choice(const struct trial *trial)
{
    return dg_context_set_tuning(trial->entry.all->context, NULL);
}

// The place of the plan in force; -1: it is none of the candidates.
static dg_status find_choice(struct trial *trial)
{
    struct cli_facts facts = {0};
    DG_TRY(use_choice(trial));
    const dg_status status =
        dg_explain(trial->entry.all->context, trial->entry.problem, cli_facts_add, &facts);
    const char *name = cli_facts_find(&facts, "candidate");
    trial->choice = -1;
    for (int i = 0; i < trial->count && name; i++)
        if (strcmp(trial->list[i].name, name) == 0)
            trial->choice = i;
    cli_facts_free(&facts);
    return status;
}

// One that cannot be compiled is left out, unless it is the choice.
static dg_status prepare_candidate(struct trial *trial, int i)
{
    DG_TRY(use_candidate(trial, i));
    const dg_status status = bench_entry_prepare(&trial->entry);
    if (status == DG_OK || i == trial->choice)
        return status;
    trial->list[i].is_out = true;
    cli_error(trial->entry.all->bench->command, CLI_FAILED, "%s: left out: %s", trial->list[i].name,
              dg_last_error());
    return DG_OK;
}

// Compiles all before any is captured, so that the largest workspace is there for each of them.
static dg_status record(struct trial *trial)
{
    const struct cli_gpu *gpu = &trial->entry.all->gpu;
    for (int i = 0; i < trial->count; i++)
        DG_TRY(prepare_candidate(trial, i));
    for (int i = 0; i < trial->count; i++) {
        if (trial->list[i].is_out)
            continue;
        DG_TRY(use_candidate(trial, i));
        trial->laps[i].num_launches = trial->entry.num_launches;
        DG_TRY(cli_gpu_record(gpu, bench_entry_launch, &trial->entry, trial->entry.num_launches,
                              &trial->laps[i].graph));
    }
    return DG_OK;
}

// ---- time ---------------------------------------------------------------------------------------

static dg_status measure_stage(struct trial *trial, int rounds)
{
    DG_TRY(bench_laps_replay(&trial->entry.all->gpu, trial->laps, (size_t)trial->count, rounds));
    trial->best = trial->choice;
    for (int i = 0; i < trial->count; i++) {
        if (trial->list[i].is_out)
            continue;
        trial->list[i].us = bench_lap_us(&trial->laps[i], rounds);
        if (trial->list[i].us < trial->list[trial->best].us)
            trial->best = i;
    }
    return DG_OK;
}

static dg_status measure(struct trial *trial)
{
    for (int stage = 0; stage < NUM_STAGES; stage++) {
        DG_TRY(measure_stage(trial, stages[stage].rounds));
        const double most = trial->list[trial->best].us * stages[stage].share;
        for (int i = 0; i < trial->count && stage + 1 < NUM_STAGES; i++)
            if (trial->list[i].us > most && i != trial->choice) {
                trial->list[i].is_out = true;
                bench_laps_free(&trial->entry.all->gpu, &trial->laps[i], 1);
            }
    }
    return DG_OK;
}

static dg_status check(struct trial *trial, struct cli_data *data, int which)
{
    DG_TRY(use_candidate(trial, which));
    return bench_entry_check(&trial->entry, bench_entry_launch, &trial->entry, data, check_products,
                             &trial->check);
}

static dg_status try_all(struct trial *trial, struct bench_gpu *all, struct cli_data *data)
{
    DG_TRY(dg_candidates(all->context, &data->problem, add_candidate, trial));
    if (trial->count == 0)
        return DG_OK;
    DG_TRY(bench_entry_open(&trial->entry, all, data));
    DG_TRY(find_choice(trial));
    if (trial->choice < 0)
        return dg_fail(DG_INTERNAL, "%s: the plan is none of its candidates", trial->line);
    DG_TRY(record(trial));
    DG_TRY(measure(trial));
    DG_TRY(check(trial, data, trial->choice));
    if (trial->best != trial->choice && !trial->check.failure[0])
        DG_TRY(check(trial, data, trial->best));
    return DG_OK;
}

static void trial_close(struct trial *trial)
{
    bench_laps_free(&trial->entry.all->gpu, trial->laps, (size_t)trial->count);
    use_choice(trial);
    bench_entry_close(&trial->entry);
}

// ---- rows ---------------------------------------------------------------------------------------

enum column {
    PROBLEM,
    DEVICE,
    COUNT,
    CHECK,
    CHOICE_US,
    BEST_US,
    RATIO,
    FLOOR_SHARE,
    CHOICE,
    BEST,
    NUM_COLUMNS
};
static const struct cli_column columns[NUM_COLUMNS] = {
    [PROBLEM] = {"problem", "problem", -40, NULL},
    [DEVICE] = {"device", NULL, 0, NULL},
    [COUNT] = {"candidates", "of", 3, "%.0f"},
    [CHECK] = {"check", "check", -6, NULL},
    [CHOICE_US] = {"choice_us", "choice", 8, "%.2f"},
    [BEST_US] = {"best_us", "best us", 8, "%.2f"},
    [RATIO] = {"choice_to_best", "/best", 5, "%.3f"},
    [FLOOR_SHARE] = {"floor_share", "floor", 5, "%.2f"},
    [CHOICE] = {"choice", "choice", -1, NULL},
    [BEST] = {"best", "best", -1, NULL},
};

enum candidate_column {
    C_PROBLEM,
    C_M,
    C_N,
    C_K,
    C_DEVICE,
    C_CANDIDATE,
    C_PREDICTED,
    C_US,
    C_IS_CHOICE,
    C_IS_BEST,
    NUM_C_COLUMNS
};
static const struct cli_column candidate_columns[NUM_C_COLUMNS] = {
    [C_PROBLEM] = {"problem", NULL, 0, NULL},
    [C_M] = {"m", NULL, 0, "%.0f"},
    [C_N] = {"n", NULL, 0, "%.0f"},
    [C_K] = {"k", NULL, 0, "%.0f"},
    [C_DEVICE] = {"device", NULL, 0, NULL},
    [C_CANDIDATE] = {"candidate", NULL, 0, NULL},
    [C_PREDICTED] = {"predicted_us", NULL, 0, "%.3f"},
    [C_US] = {"us", NULL, 0, "%.3f"},
    [C_IS_CHOICE] = {"is_choice", NULL, 0, "%.0f"},
    [C_IS_BEST] = {"is_best", NULL, 0, "%.0f"},
};

static void add_row(struct tuning *tuning, const struct trial *trial)
{
    const struct candidate *choice = &trial->list[trial->choice], *best = &trial->list[trial->best];
    const struct cli_value values[NUM_COLUMNS] = {
        [PROBLEM] = CLI_TEXT_VALUE(trial->line),
        [DEVICE] = CLI_TEXT_VALUE(trial->device),
        [COUNT] = CLI_NUMBER_VALUE(trial->count),
        [CHECK] = CLI_TEXT_VALUE(trial->check.failure[0] ? "FAILED" : "ok"),
        [CHOICE_US] = CLI_NUMBER_VALUE(choice->us),
        [BEST_US] = CLI_NUMBER_VALUE(best->us),
        [RATIO] = CLI_NUMBER_VALUE(choice->us / best->us),
        [FLOOR_SHARE] =
            CLI_NUMBER_VALUE(bench_gpu_floor_us(tuning->all, trial->entry.problem) / best->us),
        [CHOICE] = CLI_TEXT_VALUE(choice->name),
        [BEST] = CLI_TEXT_VALUE(trial->best == trial->choice ? "" : best->name),
    };
    cli_table_row(&tuning->all->bench->table, values);
    for (int i = 0; i < trial->count; i++) {
        const struct candidate *candidate = &trial->list[i];
        const struct cli_value row[NUM_C_COLUMNS] = {
            [C_PROBLEM] = CLI_TEXT_VALUE(trial->line),
            [C_M] = CLI_NUMBER_VALUE((double)trial->entry.problem->m),
            [C_N] = CLI_NUMBER_VALUE((double)trial->entry.problem->n),
            [C_K] = CLI_NUMBER_VALUE((double)trial->entry.problem->k),
            [C_DEVICE] = CLI_TEXT_VALUE(trial->device),
            [C_CANDIDATE] = CLI_TEXT_VALUE(candidate->name),
            [C_PREDICTED] = CLI_NUMBER_VALUE(candidate->predicted_us),
            [C_US] = CLI_NUMBER_VALUE(candidate->us),
            [C_IS_CHOICE] = CLI_NUMBER_VALUE(i == trial->choice),
            [C_IS_BEST] = CLI_NUMBER_VALUE(i == trial->best),
        };
        cli_table_row(&tuning->candidates, row);
    }
}

static void add_line(struct tuning *tuning, const struct trial *trial)
{
    const struct candidate *choice = &trial->list[trial->choice], *best = &trial->list[trial->best];
    const bool pays = choice->us >= least_gain * best->us;
    if (pays)
        fprintf(tuning->file, "%s | %s | %s | %.2f us, choice %s: %.2f us\n", trial->device,
                trial->line, best->name, best->us, choice->name, choice->us);
    else
        fprintf(tuning->file, "%s | %s | %s | %.2f us, the choice\n", trial->device, trial->line,
                choice->name, choice->us);
    fflush(tuning->file); // what is measured stays, whatever comes
}

static void add_to_summary(struct tuning *tuning, const struct trial *trial)
{
    const double ratio = trial->list[trial->choice].us / trial->list[trial->best].us;
    tuning->log_sum += log(ratio);
    if (tuning->count++ == 0 || ratio > tuning->worst) {
        tuning->worst = ratio;
        snprintf(tuning->worst_problem, sizeof tuning->worst_problem, "%s", trial->line);
    }
}

// ---- all of it ----------------------------------------------------------------------------------

static int tune_problem(struct tuning *tuning, const struct dg_problem *problem)
{
    struct bench_gpu *all = tuning->all;
    struct bench *bench = all->bench;
    struct trial trial = {.entry = {.all = all, .problem = problem}};
    struct cli_data data;
    snprintf(trial.device, sizeof trial.device, "%.70s, %d SMs", all->device.name,
             (int)dg_context_num_sms(all->context));
    dg_problem_format(problem, trial.line, sizeof trial.line);
    dg_status status = cli_data_create(&data, problem, (uint64_t)bench->settings->seed, bench->cpu);
    if (status == DG_OK)
        status = try_all(&trial, all, &data);
    if (status == DG_OK && trial.count > 0) {
        add_row(tuning, &trial);
        if (trial.check.failure[0]) {
            cli_error(bench->command, CLI_FAILED, "%s: %s", trial.line, trial.check.failure);
            bench->num_failures++;
        } else {
            add_line(tuning, &trial);
            add_to_summary(tuning, &trial);
        }
    }
    const int result = status == DG_OK ? CLI_OK : cli_status_error(bench->command, status);
    trial_close(&trial);
    cli_data_free(&data);
    return result;
}

static void print_summary(const struct tuning *tuning)
{
    struct bench *bench = tuning->all->bench;
    const double mean = tuning->count ? exp(tuning->log_sum / (double)tuning->count) : NAN;
    if (bench->table.json) {
        printf(", \"choice_to_best\": ");
        cli_json_number(stdout, mean);
        printf(", \"worst\": ");
        cli_json_number(stdout, tuning->count ? tuning->worst : NAN);
        printf(", \"worst_problem\": ");
        cli_json_string(stdout, tuning->worst_problem);
        printf("}\n");
    } else if (tuning->count) {
        printf("\nchoice / best, geometric mean: %.4f (%lld rows)\n  worst row %.3f: %s\n", mean,
               (long long)tuning->count, tuning->worst, tuning->worst_problem);
    }
}

static int tune_all(struct tuning *tuning)
{
    struct bench *bench = tuning->all->bench;
    int status = CLI_OK;
    tuning->candidates = (struct cli_table){
        .columns = candidate_columns, .num_columns = NUM_C_COLUMNS, .csv = bench->table.csv};
    bench->table.csv = NULL;
    bench_begin(bench, columns, NUM_COLUMNS);
    cli_table_begin(&tuning->candidates);
    fprintf(tuning->file,
            "deepgemm-tuning 1\n"
            "# Written by `deepgemm bench --tune`, version %s, for $DG_TUNING_FILE.\n"
            "# device, SMs in use | problem; m=FIRST..LAST is allowed | candidate | times\n",
            dg_version());
    for (size_t i = 0; i < bench->num_problems && status == CLI_OK; i++) {
        char line[512];
        cli_problem_format(&bench->problems[i], line, sizeof line);
        cli_progress_show(line, (double)i, (double)bench->num_problems);
        status = tune_problem(tuning, &bench->problems[i]);
    }
    cli_progress_clear();
    cli_table_end(&bench->table);
    cli_table_end(&tuning->candidates);
    bench->table.csv = tuning->candidates.csv; // for who closes it
    print_summary(tuning);
    return status == CLI_OK && bench->num_failures ? CLI_FAILED : status;
}

int bench_gpu_tune(struct bench_gpu *all)
{
    const char *path = all->bench->settings->tune;
    struct tuning tuning = {.all = all, .file = fopen(path, "w")};
    if (!tuning.file)
        return cli_error(all->bench->command, CLI_FAILED, "%s: %s", path, strerror(errno));
    int status = tune_all(&tuning);
    const bool failed = ferror(tuning.file) != 0;
    if (fclose(tuning.file) != 0 || failed)
        status = cli_error(all->bench->command, CLI_FAILED, "%s could not be written", path);
    return status;
}
