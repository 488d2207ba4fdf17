// SPDX-License-Identifier: MIT
// check_kernels.c - compiles every kernel that the library can ask for, without a GPU, and judges what the
// compiler says of it: check_kernels [--jobs N] [--sample N] [--only TEXT] [--cache FOLDER] [--quiet] NVRTC...
//
// A kernel fails when it is refused, uses local memory (stack or spills), gets a "Potential Performance
// Loss" from ptxas (wgmma serialised, setmaxnreg ignored), or wants more shared memory than an SM has.
// Each NVRTC is the path of a libnvrtc.so.  With --sample only every Nth variant is compiled, with --only
// those that have the text in their line of the table; with --cache kernels whose text has not changed are
// judged by the log kept there.  Exit status 1 when any fails.
#include "backend/sm90/sm90_grouped.h"
#include "backend/sm90/sm90_kernel.h"
#include "backend/sm90/sm90_mqa_kernel.h"
#include "jit/compile.h"
#include "jit/ptxas.h"
#include "jit/sources.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST_SMEM = 232448, MAX_KERNELS = 4096, MAX_JOBS = 64 };

struct item {
    char text[160];           // what it is called in the table
    dg_jit_describe describe; // of `kernel`; NULL: `file` is used
    union {
        struct dg_sm90_kernel gemm;
        struct dg_sm90_grouped_kernel grouped;
        struct dg_sm90_mqa_kernel mqa;
    } kernel;
    const char *file; // an embedded source that needs no parameters
    struct dg_ptxas_facts facts;
    double seconds; // of processor time, which other programs do not lengthen; 0: from the cache
    char wrong[512];
};

static struct item *items;
static int num_items;

static struct {
    int jobs, sample, is_quiet;
    const char *only;
    struct dg_jit_options jit;
} settings = {.jobs = 0, .sample = 1, .only = ""};

// ---- what there is to compile -----------------------------------------------------------------------

static dg_status add_item(const struct item *item)
{
    if (!strstr(item->text, settings.only))
        return DG_OK;
    struct item *grown = realloc(items, (size_t)(num_items + 1) * sizeof *items);
    if (!grown || num_items == MAX_KERNELS)
        return dg_fail(DG_OUT_OF_MEMORY, "%d kernels are too many", num_items);
    items = grown;
    items[num_items++] = *item;
    return DG_OK;
}

static int number; // of variants, those that were not sampled too
static const char *variants_files[16];

// Notes the file that the kernel is made from, and adds every Nth.
static dg_status add_variant(struct item *item)
{
    struct dg_jit_request request = {.name = NULL};
    int i = 0;
    DG_TRY(item->describe(&item->kernel, &request));
    while (variants_files[i] && strcmp(variants_files[i], request.file))
        i++;
    variants_files[i] = request.file;
    dg_jit_request_free(&request);
    return number++ % settings.sample ? DG_OK : add_item(item);
}

static dg_status add_gemm(void *user, const struct dg_sm90_kernel *kernel)
{
    struct item item = {.describe = dg_sm90_describe, .kernel.gemm = *kernel};
    dg_sm90_kernel_text(kernel, item.text, sizeof item.text);
    return add_variant(&item);
}

static dg_status add_grouped(void *user, const struct dg_sm90_grouped_kernel *kernel)
{
    struct item item = {.describe = dg_sm90_grouped_describe, .kernel.grouped = *kernel};
    dg_sm90_grouped_text(kernel, item.text, sizeof item.text);
    return add_variant(&item);
}

static dg_status add_mqa(void *user, const struct dg_sm90_mqa_kernel *kernel)
{
    struct item item = {.describe = dg_sm90_mqa_describe, .kernel.mqa = *kernel};
    dg_sm90_mqa_kernel_text(kernel, item.text, sizeof item.text);
    return add_variant(&item);
}

static int has_variants(const char *file)
{
    for (int i = 0; variants_files[i]; i++)
        if (!strcmp(file, variants_files[i]))
            return 1;
    return 0;
}

// Sources that stand alone: those that no variant is made from.
static dg_status add_plain_files(void)
{
    for (const struct dg_kernel_source *source = dg_kernel_sources; source->name; source++) {
        const size_t length = strlen(source->name);
        struct item item = {.file = source->name};
        if (length < 4 || strcmp(source->name + length - 3, ".cu") || has_variants(source->name))
            continue;
        snprintf(item.text, sizeof item.text, "%.*s", (int)(length - 3), source->name);
        DG_TRY(add_item(&item));
    }
    return DG_OK;
}

static dg_status add_all(void)
{
    DG_TRY(dg_sm90_enumerate(add_gemm, NULL));
    DG_TRY(dg_sm90_grouped_enumerate(add_grouped, NULL));
    DG_TRY(dg_sm90_mqa_enumerate(add_mqa, NULL));
    return num_items ? add_plain_files() : dg_fail(DG_INTERNAL, "there is no kernel at all");
}

// ---- one kernel -------------------------------------------------------------------------------------

static dg_status describe(struct item *item, struct dg_jit_request *request)
{
    if (item->describe)
        return item->describe(&item->kernel, request);
    request->name = item->text;
    request->file = item->file;
    request->arch = 90;
    return DG_OK;
}

static void judge(struct item *item, int32_t smem_bytes)
{
    const struct dg_ptxas_facts *facts = &item->facts;
    if (!facts->found)
        snprintf(item->wrong, sizeof item->wrong, "the compiler gave no figures");
    else if (facts->stack_bytes || facts->spill_store_bytes || facts->spill_load_bytes)
        snprintf(item->wrong, sizeof item->wrong,
                 "local memory: %d bytes of stack, %d + %d spilled", facts->stack_bytes,
                 facts->spill_store_bytes, facts->spill_load_bytes);
    else if (*facts->advice)
        snprintf(item->wrong, sizeof item->wrong, "%s", facts->advice);
    else if (smem_bytes > LARGEST_SMEM)
        snprintf(item->wrong, sizeof item->wrong, "%d bytes of shared memory: an SM has %d",
                 (int)smem_bytes, LARGEST_SMEM);
}

static double thread_seconds(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
}

static void check_item(const struct dg_jit_compiler *compiler, struct item *item)
{
    static const struct dg_log silent = {NULL, NULL, DG_LOG_ERROR};
    struct dg_jit_request request = {.name = NULL};
    struct dg_jit_binary binary = {0};
    dg_status status = describe(item, &request);
    const double begin = thread_seconds();
    *item->wrong = 0;
    if (status == DG_OK)
        status = dg_jit_compile_with(&settings.jit, compiler, "", &silent, &request, &binary);
    if (status == DG_OK) {
        item->seconds = binary.seconds > 0 ? thread_seconds() - begin : 0;
        dg_ptxas_read(binary.log, &item->facts);
        judge(item, request.smem_bytes);
    } else
        snprintf(item->wrong, sizeof item->wrong, "%s", dg_last_error());
    dg_jit_binary_free(&binary);
    dg_jit_request_free(&request);
}

// ---- all of them ------------------------------------------------------------------------------------

struct work {
    const struct dg_jit_compiler *compiler;
    atomic_int next;
};

static void *check_some(void *user)
{
    struct work *work = user;
    for (int i; (i = work->next++) < num_items;)
        check_item(work->compiler, &items[i]);
    return NULL;
}

static void check_all(const struct dg_jit_compiler *compiler)
{
    struct work work = {.compiler = compiler};
    pthread_t threads[MAX_JOBS];
    int num_threads = 0;
    while (num_threads < settings.jobs - 1 &&
           !pthread_create(&threads[num_threads], NULL, check_some, &work))
        num_threads++;
    check_some(&work);
    while (num_threads)
        pthread_join(threads[--num_threads], NULL);
}

static int by_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Prints what was found; the number of kernels that failed.
static int report(const struct dg_jit_compiler *compiler)
{
    double *seconds = malloc((size_t)num_items * sizeof *seconds);
    int num_wrong = 0, num_compiled = 0, most_registers = 0;
    for (int i = 0; i < num_items; i++) {
        const struct item *item = &items[i];
        num_wrong += *item->wrong != 0;
        most_registers =
            item->facts.num_registers > most_registers ? item->facts.num_registers : most_registers;
        if (seconds && item->seconds > 0)
            seconds[num_compiled++] = item->seconds;
        if (!settings.is_quiet || *item->wrong)
            printf("%-90s %4d registers %6.2f s  %s\n", item->text, item->facts.num_registers,
                   item->seconds, *item->wrong ? item->wrong : "ok");
    }
    printf("%s: %d kernels, %d wrong, at most %d registers", compiler->id, num_items, num_wrong,
           most_registers);
    if (num_compiled) {
        qsort(seconds, (size_t)num_compiled, sizeof *seconds, by_seconds);
        printf("; %d compiled, %.2f s median, %.2f s at most", num_compiled,
               seconds[num_compiled / 2], seconds[num_compiled - 1]);
    }
    printf("\n");
    free(seconds);
    return num_wrong;
}

static int check_with(const char *path)
{
    struct dg_jit_compiler compiler;
    struct dg_strbuf looked = {0};
    if (!dg_nvrtc_open(path, 0, &compiler, &looked)) {
        printf("%s\n", dg_strbuf_text(&looked));
        dg_strbuf_free(&looked);
        return 1;
    }
    check_all(&compiler);
    return report(&compiler);
}

// The index of the first argument that is no option.
static int read_options(int argc, char **argv)
{
    int i = 1;
    for (; i < argc && !strncmp(argv[i], "--", 2); i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--quiet")) {
            settings.is_quiet = 1;
            continue;
        }
        if (!strcmp(argv[i], "--jobs"))
            settings.jobs = atoi(value);
        else if (!strcmp(argv[i], "--sample"))
            settings.sample = atoi(value);
        else if (!strcmp(argv[i], "--only"))
            settings.only = value;
        else if (!strcmp(argv[i], "--cache"))
            settings.jit.cache_dir = value;
        else
            return argc;
        i++;
    }
    return settings.sample < 1 ? argc : i;
}

int main(int argc, char **argv)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    settings.jit.lock_timeout_ms = 60000;
    settings.jit.kernel_dir = dg_jit_options()->kernel_dir;
    settings.jobs = processors > 0 ? (int)processors : 1;
    const int first = read_options(argc, argv);
    settings.jobs = settings.jobs > MAX_JOBS ? MAX_JOBS : settings.jobs;
    if (first >= argc) {
        fprintf(stderr,
                "usage: %s [--jobs N] [--sample N] [--only TEXT] [--cache FOLDER] [--quiet] "
                "LIBNVRTC...\n",
                argv[0]);
        return 2;
    }
    if (add_all() != DG_OK) {
        fprintf(stderr, "%s\n", dg_last_error());
        return 1;
    }
    int num_wrong = 0;
    for (int i = first; i < argc; i++)
        num_wrong += check_with(argv[i]);
    free(items);
    return num_wrong != 0;
}
