// SPDX-License-Identifier: MIT
// compile.c - a request becomes a cubin: text -> key -> disk -> compiler -> disk.
#include "jit/compile.h"

#include "base/file.h"
#include "base/process.h"
#include "cuda/driver.h"
#include "jit/disk_cache.h"
#include "jit/ptxas.h"
#include "jit/source.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void dg_jit_define(struct dg_jit_request *request, const char *name, int64_t value)
{
    dg_strbuf_add(&request->prologue, "#define %s %lld\n", name, (long long)value);
}

void dg_jit_request_free(struct dg_jit_request *request)
{
    dg_strbuf_free(&request->prologue);
}

void dg_jit_binary_free(struct dg_jit_binary *binary)
{
    free(binary->cubin);
    free(binary->log);
    free(binary->directory);
    *binary = (struct dg_jit_binary){0};
}

void dg_jit_output_free(struct dg_jit_output *output)
{
    dg_strbuf_free(&output->cubin);
    dg_strbuf_free(&output->ptx);
    dg_strbuf_free(&output->log);
}

// ---- the compiler of this process -------------------------------------------------------------------

static pthread_once_t compiler_once = PTHREAD_ONCE_INIT;
static struct dg_jit_compiler compiler;
static bool has_compiler;
static char compilers_looked[4096];

static void choose_compiler(void)
{
    const struct dg_jit_options *options = dg_jit_options();
    const int driver_version = dg_cuda_driver_version();
    struct dg_strbuf looked = {0};
    if (options->prefer_nvcc)
        has_compiler = dg_nvcc_open(options, &compiler, &looked) ||
                       dg_nvrtc_open(NULL, driver_version, &compiler, &looked);
    else
        has_compiler = dg_nvrtc_open(NULL, driver_version, &compiler, &looked) ||
                       (dg_strbuf_add(&looked, "; "), dg_nvcc_open(options, &compiler, &looked));
    snprintf(compilers_looked, sizeof compilers_looked, "%s", dg_strbuf_text(&looked));
    dg_strbuf_free(&looked);
}

const struct dg_jit_compiler *dg_jit_compiler(struct dg_strbuf *looked)
{
    pthread_once(&compiler_once, choose_compiler);
    if (!has_compiler && looked)
        dg_strbuf_add(looked, "%s", compilers_looked);
    return has_compiler ? &compiler : NULL;
}

// ---- one compilation --------------------------------------------------------------------------------

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + now.tv_nsec * 1e-9;
}

static dg_status make_text(const struct dg_jit_options *options,
                           const struct dg_jit_request *request, struct dg_strbuf *text)
{
    char own_file[256];
    const char *file = request->file ? request->file : own_file;
    if (request->prologue.failed)
        return dg_fail(DG_OUT_OF_MEMORY, "kernel %s: host memory ran out", request->name);
    snprintf(own_file, sizeof own_file, "%s.cu", request->name);
    dg_strbuf_add(text, "#define DG_ENTRY %s\n%s", request->name,
                  dg_strbuf_text(&request->prologue));
    return request->source
               ? dg_jit_source_add_text(options->kernel_dir, file, request->source, text)
               : dg_jit_source_add(options->kernel_dir, file, text);
}

static void print_command(const struct dg_jit_compiler *used, const struct dg_jit_unit *unit)
{
    struct dg_strbuf flags = {0};
    if (!unit->options->print_command)
        return;
    used->flags(unit, &flags);
    for (size_t i = 0; i < flags.length; i++)
        if (flags.data[i] == '\n')
            flags.data[i] = ' ';
    dg_log_write(unit->log, DG_LOG_INFO, "%s (%s) %s%s.cu", used->id, used->where,
                 dg_strbuf_text(&flags), unit->name);
    dg_strbuf_free(&flags);
}

// The whole story of a refusal: who, why, where the source is, and the log.
static dg_status fail_compile(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                              const struct dg_jit_compiler *used,
                              const struct dg_jit_output *output, dg_status status)
{
    char reason[512];
    struct dg_strbuf folder = {0};
    snprintf(reason, sizeof reason, "%s", dg_last_error());
    dg_disk_cache_keep_failed(key, unit, used, output, &folder);
    status = dg_fail(
        status, "kernel %s: %s (%s) did not compile it: %s; source, options and log %s%s%s%s",
        unit->name, used->id, used->where, reason,
        folder.length ? "are in " : "could not be kept (DG_JIT_CACHE_DIR)", dg_strbuf_text(&folder),
        output->log.length ? "; the log begins:\n" : "", dg_strbuf_text(&output->log));
    dg_strbuf_free(&folder);
    return status;
}

static dg_status compile_now(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                             const struct dg_jit_compiler *used, struct dg_jit_binary *binary)
{
    struct dg_jit_output output = {{0}, {0}, {0}};
    print_command(used, unit);
    const double begin = seconds_now();
    dg_status status = used->compile(used, unit, &output);
    if (status != DG_OK) {
        status = fail_compile(key, unit, used, &output, status);
        dg_jit_output_free(&output);
        return status;
    }
    binary->seconds = seconds_now() - begin;
    snprintf(binary->compiler, sizeof binary->compiler, "%s", used->id);
    dg_disk_cache_write(key, unit, used, &output, binary);
    binary->log = strdup(dg_strbuf_text(&output.log));
    binary->cubin = (unsigned char *)output.cubin.data;
    binary->cubin_bytes = output.cubin.length;
    output.cubin = (struct dg_strbuf){0};
    dg_jit_output_free(&output);
    dg_log_write(unit->log, DG_LOG_DEBUG, "kernel %s: compiled by %s in %.3f s, kept in %s",
                 unit->name, used->id, binary->seconds,
                 binary->directory ? binary->directory : "memory only");
    return binary->log ? DG_OK
                       : dg_fail(DG_OUT_OF_MEMORY, "kernel %s: host memory ran out", unit->name);
}

// kernel.sass beside the cubin, by whichever disassembler there is.
static void dump_sass(const struct dg_jit_unit *unit, const struct dg_jit_binary *binary)
{
    char tool[1024], cubin[4200], sass[4200];
    struct dg_strbuf text = {0};
    int exit_code = 1;
    if (!binary->directory || (!dg_process_find("nvdisasm", tool, sizeof tool) &&
                               !dg_process_find("cuobjdump", tool, sizeof tool))) {
        dg_log_write(unit->log, DG_LOG_WARNING, "kernel %s: no SASS: %s", unit->name,
                     binary->directory ? "neither nvdisasm nor cuobjdump is on $PATH"
                                       : "there is no cache folder");
        return;
    }
    snprintf(cubin, sizeof cubin, "%.4096s/kernel.cubin", binary->directory);
    snprintf(sass, sizeof sass, "%.4096s/kernel.sass", binary->directory);
    const bool is_nvdisasm = strstr(tool, "nvdisasm");
    const char *const argv[] = {tool, is_nvdisasm ? "-c" : "-sass", cubin, NULL};
    if (dg_process_run(argv, &text, &exit_code) != DG_OK || exit_code ||
        dg_file_write(sass, dg_strbuf_text(&text), text.length) != DG_OK)
        dg_log_write(unit->log, DG_LOG_WARNING, "kernel %s: no SASS: %s failed", unit->name, tool);
    dg_strbuf_free(&text);
}

// Disk, lock, disk again (another process may just have finished), compiler.
static dg_status get_binary(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                            const struct dg_jit_compiler *used, const char *looked,
                            struct dg_jit_binary *binary)
{
    if (dg_disk_cache_read(key, binary))
        return DG_OK;
    if (!used)
        return dg_fail(DG_COMPILE_FAILED,
                       "kernel %s: not in the cache (%s), and there is no compiler: %s", unit->name,
                       key->root ? key->root : "there is none", looked);
    const int lock = dg_disk_cache_lock(key, unit->options->lock_timeout_ms);
    dg_status status = DG_OK;
    if (!dg_disk_cache_read(key, binary)) {
        status = compile_now(key, unit, used, binary);
        if (status == DG_OK && unit->options->dump_sass)
            dump_sass(unit, binary);
    }
    dg_disk_cache_unlock(lock);
    return status;
}

static dg_status check_ptxas(const struct dg_jit_unit *unit, const struct dg_jit_binary *binary)
{
    struct dg_ptxas_facts facts;
    if (unit->options->print_ptxas)
        dg_log_write(unit->log, DG_LOG_INFO, "kernel %s: %s", unit->name, binary->log);
    if (!unit->options->refuse_local_memory)
        return DG_OK;
    dg_ptxas_read(binary->log, &facts);
    if (facts.stack_bytes || facts.spill_store_bytes || facts.spill_load_bytes)
        return dg_fail(DG_COMPILE_FAILED,
                       "kernel %s: uses local memory (%d bytes of stack, %d spilled), which "
                       "DG_JIT_PTXAS_CHECK=1 forbids; it is in %s",
                       unit->name, facts.stack_bytes, facts.spill_store_bytes,
                       binary->directory ? binary->directory : "memory only");
    return DG_OK;
}

dg_status dg_jit_compile_with(const struct dg_jit_options *options,
                              const struct dg_jit_compiler *used, const char *looked,
                              const struct dg_log *log, const struct dg_jit_request *request,
                              struct dg_jit_binary *binary)
{
    struct dg_strbuf text = {0};
    struct dg_disk_key key;
    *binary = (struct dg_jit_binary){0};
    dg_status status = make_text(options, request, &text);
    if (status == DG_OK) {
        const struct dg_jit_unit unit = {request->name, text.data, request->arch, options, log};
        dg_disk_key_make(&key, &unit, used);
        status = get_binary(&key, &unit, used, looked, binary);
        if (status == DG_OK)
            status = check_ptxas(&unit, binary);
    }
    if (status != DG_OK)
        dg_jit_binary_free(binary);
    dg_strbuf_free(&text);
    return status;
}

dg_status dg_jit_compile(const struct dg_log *log, const struct dg_jit_request *request,
                         struct dg_jit_binary *binary)
{
    struct dg_strbuf looked = {0};
    const struct dg_jit_compiler *chosen = dg_jit_compiler(&looked);
    dg_status status = dg_jit_compile_with(dg_jit_options(), chosen, dg_strbuf_text(&looked), log,
                                           request, binary);
    dg_strbuf_free(&looked);
    return status;
}

void dg_jit_info(dg_fact_callback callback, void *user)
{
    struct dg_strbuf looked = {0};
    const struct dg_jit_compiler *chosen = dg_jit_compiler(&looked);
    const char *root = dg_jit_options()->cache_dir;
    if (chosen)
        dg_strbuf_add(&looked, "%s, %s", chosen->id, chosen->where);
    callback(user, "jit", "compiler", dg_strbuf_text(&looked));
    callback(user, "jit", "cache", root ? root : "none: neither DG_JIT_CACHE_DIR nor HOME is set");
    dg_strbuf_free(&looked);
}
