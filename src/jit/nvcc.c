// SPDX-License-Identifier: MIT
// nvcc.c - the compiler as a child process, for machines that have a toolkit and no NVRTC.  It needs a host
// C++ compiler too, and takes seconds where NVRTC takes tenths.
#include "jit/compiler.h"

#include "base/file.h"
#include "base/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FLAGS = 24 };

static void flags(const struct dg_jit_unit *unit, struct dg_strbuf *lines)
{
    const char *suffix = unit->arch >= 90 ? "a" : "";
    dg_strbuf_add(lines, "-gencode=arch=compute_%d%s,code=sm_%d%s\n", (int)unit->arch, suffix,
                  (int)unit->arch, suffix);
    dg_strbuf_add(lines, "-std=c++20\n-O3\n-Xptxas=-v\n");
    if (unit->options->lineinfo)
        dg_strbuf_add(lines, "-lineinfo\n");
}

// Splits lines in place after argv[1]; returns the number of entries in use.
static int add_flags(struct dg_strbuf *lines, const char **argv, int count)
{
    for (char *rest = lines->data, *flag; count < MAX_FLAGS && (flag = strsep(&rest, "\n"));)
        if (*flag)
            argv[count++] = flag;
    return count;
}

static dg_status run(const struct dg_jit_compiler *compiler, const struct dg_jit_unit *unit,
                     const char *mode, const char *source, const char *result,
                     struct dg_jit_output *output)
{
    const char *argv[MAX_FLAGS + 8] = {compiler->where, mode};
    struct dg_strbuf lines = {0};
    int exit_code = 1;
    flags(unit, &lines);
    int count = add_flags(&lines, argv, 2);
    argv[count++] = "-o";
    argv[count++] = result;
    argv[count++] = source;
    dg_status status = dg_process_run(argv, &output->log, &exit_code);
    dg_strbuf_free(&lines);
    if (status == DG_OK && exit_code)
        status = DG_IO_ERROR;
    return status == DG_OK ? DG_OK
                           : dg_fail(DG_COMPILE_FAILED, "%s ended with exit status %d",
                                     compiler->where, exit_code);
}

static dg_status compile_in(const struct dg_jit_compiler *compiler, const struct dg_jit_unit *unit,
                            const char *folder, struct dg_jit_output *output)
{
    char source[512], cubin[512], ptx[512];
    snprintf(source, sizeof source, "%s/%s.cu", folder, unit->name);
    snprintf(cubin, sizeof cubin, "%s/%s.cubin", folder, unit->name);
    snprintf(ptx, sizeof ptx, "%s/%s.ptx", folder, unit->name);
    DG_TRY(dg_file_write(source, unit->text, strlen(unit->text)));
    DG_TRY(run(compiler, unit, "-cubin", source, cubin, output));
    DG_TRY(dg_file_read(cubin, &output->cubin));
    if (unit->options->dump_ptx) {
        DG_TRY(run(compiler, unit, "-ptx", source, ptx, output));
        DG_TRY(dg_file_read(ptx, &output->ptx));
    }
    return DG_OK;
}

static dg_status compile(const struct dg_jit_compiler *compiler, const struct dg_jit_unit *unit,
                         struct dg_jit_output *output)
{
    const char *temporary = getenv("TMPDIR");
    char folder[256];
    snprintf(folder, sizeof folder, "%s/deepgemm-XXXXXX",
             temporary && strlen(temporary) < 200 ? temporary : "/tmp");
    if (!mkdtemp(folder))
        return dg_fail(DG_IO_ERROR, "%s: no folder for nvcc's files could be made", folder);
    dg_status status = compile_in(compiler, unit, folder, output);
    dg_folder_remove(folder);
    return status;
}

// Asks `path --version`; fills the compiler if it answers like nvcc.
static bool ask(const char *path, struct dg_jit_compiler *compiler, struct dg_strbuf *looked)
{
    const char *const argv[] = {path, "--version", NULL};
    struct dg_strbuf answer = {0};
    int exit_code = 1, major = 0, minor = 0, patch = 0;
    const bool ran = dg_process_run(argv, &answer, &exit_code) == DG_OK && exit_code == 0;
    const char *version = ran ? strstr(dg_strbuf_text(&answer), ", V") : NULL;
    const bool good =
        version && sscanf(version, ", V%d.%d.%d", &major, &minor, &patch) == 3 && major >= 12;
    const bool was_read = !answer.failed;
    dg_strbuf_free(&answer);
    if (!good || strlen(path) >= sizeof compiler->where) {
        dg_strbuf_add(looked, "%s: %s; ", path,
                      !was_read ? "host memory ran out"
                      : version ? "older than CUDA 12"
                      : ran     ? "is no nvcc"
                                : "cannot be run");
        return false;
    }
    *compiler = (struct dg_jit_compiler){.major = major, .flags = flags, .compile = compile};
    snprintf(compiler->id, sizeof compiler->id, "nvcc %d.%d.%d", major, minor, patch);
    snprintf(compiler->where, sizeof compiler->where, "%s", path);
    return true;
}

static bool ask_home(const char *home, struct dg_jit_compiler *compiler, struct dg_strbuf *looked)
{
    char path[1024];
    if (!home || !*home || snprintf(path, sizeof path, "%s/bin/nvcc", home) >= (int)sizeof path)
        return false;
    return !access(path, X_OK) && ask(path, compiler, looked);
}

bool dg_nvcc_open(const struct dg_jit_options *options, struct dg_jit_compiler *compiler,
                  struct dg_strbuf *looked)
{
    char path[1024];
    if (options->nvcc)
        return ask(options->nvcc, compiler, looked);
    if (ask_home(getenv("CUDA_HOME"), compiler, looked) ||
        ask_home(getenv("CUDA_PATH"), compiler, looked) ||
        (dg_process_find("nvcc", path, sizeof path) && ask(path, compiler, looked)) ||
        ask_home("/usr/local/cuda", compiler, looked))
        return true;
    dg_strbuf_add(looked,
                  "no nvcc: searched $DG_JIT_NVCC_COMPILER, $CUDA_HOME/bin, $CUDA_PATH/bin, $PATH, "
                  "/usr/local/cuda/bin");
    return false;
}
