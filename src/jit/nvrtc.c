// SPDX-License-Identifier: MIT
// nvrtc.c - the compiler in the process.  Kernels come as one text without includes, so no header folder
// is ever needed.  NVRTC's own cache is switched off: ours is beside it, and a hit there loses the log.
#include "jit/compiler.h"
#include "jit/nvrtc_find.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The part of NVRTC's ABI that we use; the same in every version since 11.1.
typedef struct nvrtc_program *program_handle;
enum { NVRTC_SUCCESS = 0, NVRTC_ERROR_INVALID_OPTION = 5, NVRTC_ERROR_COMPILATION = 6 };

struct dg_nvrtc {
    void *library;
    int (*version)(int *major, int *minor);
    const char *(*error_string)(int result);
    int (*create)(program_handle *program, const char *text, const char *name, int num_headers,
                  const char *const *headers, const char *const *include_names);
    int (*destroy)(program_handle *program);
    int (*compile)(program_handle program, int num_options, const char *const *options);
    int (*cubin_size)(program_handle program, size_t *bytes);
    int (*cubin)(program_handle program, char *cubin);
    int (*ptx_size)(program_handle program, size_t *bytes);
    int (*ptx)(program_handle program, char *ptx);
    int (*log_size)(program_handle program, size_t *bytes);
    int (*log)(program_handle program, char *log);
};

static const struct {
    const char *symbol;
    size_t offset;
} functions[] = {
    {"nvrtcVersion", offsetof(struct dg_nvrtc, version)},
    {"nvrtcGetErrorString", offsetof(struct dg_nvrtc, error_string)},
    {"nvrtcCreateProgram", offsetof(struct dg_nvrtc, create)},
    {"nvrtcDestroyProgram", offsetof(struct dg_nvrtc, destroy)},
    {"nvrtcCompileProgram", offsetof(struct dg_nvrtc, compile)},
    {"nvrtcGetCUBINSize", offsetof(struct dg_nvrtc, cubin_size)},
    {"nvrtcGetCUBIN", offsetof(struct dg_nvrtc, cubin)},
    {"nvrtcGetPTXSize", offsetof(struct dg_nvrtc, ptx_size)},
    {"nvrtcGetPTX", offsetof(struct dg_nvrtc, ptx)},
    {"nvrtcGetProgramLogSize", offsetof(struct dg_nvrtc, log_size)},
    {"nvrtcGetProgramLog", offsetof(struct dg_nvrtc, log)},
};

// ---- compiling --------------------------------------------------------------------------------------

static void flags(const struct dg_jit_unit *unit, struct dg_strbuf *lines)
{
    dg_strbuf_add(lines, "--gpu-architecture=sm_%d%s\n", (int)unit->arch,
                  unit->arch >= 90 ? "a" : "");
    dg_strbuf_add(lines, "--std=c++20\n--ptxas-options=-v\n");
    if (unit->options->lineinfo)
        dg_strbuf_add(lines, "--generate-line-info\n");
}

// Adds what a pair of NVRTC functions (size, bytes) returns.
static int add_bytes(program_handle program, int (*size)(program_handle, size_t *),
                     int (*bytes)(program_handle, char *), struct dg_strbuf *buffer)
{
    size_t length = 0;
    int result = size(program, &length);
    char *copy = result ? NULL : malloc(length ? length : 1);
    if (copy && !(result = bytes(program, copy)))
        dg_strbuf_add_bytes(buffer, copy, length);
    else
        buffer->failed = true;
    free(copy);
    return result;
}

// The log comes with its closing 0.
static void read_log(const struct dg_nvrtc *nvrtc, program_handle program, struct dg_strbuf *log)
{
    struct dg_strbuf text = {0};
    if (!add_bytes(program, nvrtc->log_size, nvrtc->log, &text))
        dg_strbuf_add(log, "%s", dg_strbuf_text(&text));
    dg_strbuf_free(&text);
}

// Runs the compiler with our flags.  Older versions know no `--no-cache` and
// refuse it before they start.
static int run(const struct dg_nvrtc *nvrtc, program_handle program, struct dg_strbuf *lines)
{
    enum { MAX_FLAGS = 16 };
    const char *list[MAX_FLAGS + 1];
    int count = 0;
    for (char *rest = lines->data, *flag; count < MAX_FLAGS && (flag = strsep(&rest, "\n"));)
        if (*flag)
            list[count++] = flag;
    list[count] = "--no-cache";
    const int result = nvrtc->compile(program, count + 1, list);
    return result == NVRTC_ERROR_INVALID_OPTION ? nvrtc->compile(program, count, list) : result;
}

static dg_status take_results(const struct dg_nvrtc *nvrtc, program_handle program,
                              const struct dg_jit_unit *unit, struct dg_jit_output *output)
{
    int result = add_bytes(program, nvrtc->cubin_size, nvrtc->cubin, &output->cubin);
    if (!result && unit->options->dump_ptx)
        result = add_bytes(program, nvrtc->ptx_size, nvrtc->ptx, &output->ptx);
    if (result)
        return dg_fail(DG_COMPILE_FAILED, "%s: reading the result: %s", unit->name,
                       nvrtc->error_string(result));
    if (output->cubin.failed || output->ptx.failed)
        return dg_fail(DG_OUT_OF_MEMORY, "%s: host memory ran out while compiling", unit->name);
    return DG_OK;
}

static dg_status compile(const struct dg_jit_compiler *compiler, const struct dg_jit_unit *unit,
                         struct dg_jit_output *output)
{
    const struct dg_nvrtc *nvrtc = compiler->nvrtc;
    program_handle program = NULL;
    struct dg_strbuf lines = {0};
    char file[256];
    snprintf(file, sizeof file, "%s.cu", unit->name);
    flags(unit, &lines);
    int result = lines.failed ? 1 : nvrtc->create(&program, unit->text, file, 0, NULL, NULL);
    if (!result)
        result = run(nvrtc, program, &lines);
    dg_strbuf_free(&lines);
    if (program)
        read_log(nvrtc, program, &output->log);
    dg_status status = result ? dg_fail(DG_COMPILE_FAILED, "%s", nvrtc->error_string(result))
                              : take_results(nvrtc, program, unit, output);
    if (program)
        nvrtc->destroy(&program);
    return status;
}

// ---- opening ----------------------------------------------------------------------------------------

struct choice {
    struct dg_jit_compiler *compiler;
    struct dg_strbuf *looked;
    int driver_major; // 0: no driver
    bool has_newer;   // compiler holds one that is too new for the driver
};

// The built-ins lie beside the library under its exact version; loading them by path first helps copies
// that were moved or renamed and no longer find them themselves.
static void open_builtins(void *version_function, int major, int minor)
{
    Dl_info info;
    const char *slash;
    char path[1200];
    if (!dladdr(version_function, &info) || !info.dli_fname ||
        !(slash = strrchr(info.dli_fname, '/')))
        return;
    const int length = snprintf(path, sizeof path, "%.*s/libnvrtc-builtins.so.%d.%d",
                                (int)(slash - info.dli_fname), info.dli_fname, major, minor);
    if (length < (int)sizeof path)
        dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static bool resolve(struct dg_nvrtc *nvrtc)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(nvrtc->library, functions[i].symbol);
        if (!symbol)
            return false;
        memcpy((char *)nvrtc + functions[i].offset, &symbol, sizeof symbol);
    }
    return true;
}

static void describe(struct dg_jit_compiler *compiler, const char *file, int major, int minor)
{
    Dl_info info;
    void *symbol = dlsym(compiler->nvrtc->library, "nvrtcVersion");
    snprintf(compiler->id, sizeof compiler->id, "nvrtc %d.%d", major, minor);
    snprintf(compiler->where, sizeof compiler->where, "%s",
             dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : file);
    compiler->major = major;
    compiler->flags = flags;
    compiler->compile = compile;
    open_builtins(symbol, major, minor);
}

static void close_nvrtc(struct dg_nvrtc *nvrtc)
{
    if (nvrtc && nvrtc->library)
        dlclose(nvrtc->library);
    free(nvrtc);
}

// Keeps the candidate if it is usable; true ends the search.
static bool try_file(void *user, const char *file, bool must_be_loaded)
{
    struct choice *choice = user;
    int major = 0, minor = 0;
    struct dg_nvrtc *nvrtc = calloc(1, sizeof *nvrtc);
    if (!nvrtc)
        return false;
    nvrtc->library = dlopen(file, RTLD_NOW | RTLD_LOCAL | (must_be_loaded ? RTLD_NOLOAD : 0));
    const bool usable =
        nvrtc->library && resolve(nvrtc) && !nvrtc->version(&major, &minor) && major >= 12;
    if (!usable && strchr(file, '/')) {
        const char *why = nvrtc->library ? "not an NVRTC of CUDA 12 or newer" : dlerror();
        dg_strbuf_add(choice->looked, "%s: %s; ", file, why ? why : "could not be loaded");
    }
    const bool newer = choice->driver_major && major > choice->driver_major;
    if (!usable || (newer && choice->has_newer)) {
        close_nvrtc(nvrtc);
        return false;
    }
    close_nvrtc(choice->compiler->nvrtc);
    choice->compiler->nvrtc = nvrtc;
    describe(choice->compiler, file, major, minor);
    choice->has_newer = newer;
    return !newer;
}

bool dg_nvrtc_open(const char *path, int driver_version, struct dg_jit_compiler *compiler,
                   struct dg_strbuf *looked)
{
    struct choice choice = {compiler, looked, driver_version / 1000, false};
    *compiler = (struct dg_jit_compiler){.nvrtc = NULL};
    if (path)
        try_file(&choice, path, false);
    else
        dg_nvrtc_find(try_file, &choice);
    if (compiler->nvrtc)
        return true;
    dg_strbuf_add(looked, "no NVRTC: searched %s", path ? path : dg_nvrtc_places);
    return false;
}
