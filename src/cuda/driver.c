// SPDX-License-Identifier: MIT
// driver.c - opens libcuda once and resolves the table.  The outcome, good or bad, stands for the life of
// the process; the library is never closed, since its threads and exit handlers live on.
#include "cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { OLDEST_DRIVER = 12000 }; // cuTensorMapEncodeTiled and cuLibrary... came with CUDA 12.0

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct dg_cuda driver;
static int is_usable;
static char reason[512];

static const struct {
    const char *symbol;
    size_t offset;
} functions[] = {
#define DG_CUDA_ROW(member, symbol, parameters) {symbol, offsetof(struct dg_cuda, member)},
    DG_CUDA_FUNCTIONS(DG_CUDA_ROW)
#undef DG_CUDA_ROW
};

// The first symbol that is missing, or NULL.  dlsym gives an object pointer: copied, not cast.
static const char *resolve(void *library)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(library, functions[i].symbol);
        memcpy((char *)&driver + functions[i].offset, &symbol, sizeof symbol);
        if (!symbol)
            return functions[i].symbol;
    }
    return NULL;
}

static const char *name_of(CUresult result)
{
    const char *name = NULL;
    if (!driver.cuGetErrorName || driver.cuGetErrorName(result, &name) != CUDA_SUCCESS || !name)
        return "unknown CUDA error";
    return name;
}

static const char *words_of(CUresult result)
{
    const char *words = NULL;
    if (!driver.cuGetErrorString || driver.cuGetErrorString(result, &words) != CUDA_SUCCESS)
        return "no description";
    return words ? words : "no description";
}

// The loader's search first, then where containers and WSL put the driver without telling the loader.
static void *open_library(char *why_not, size_t capacity)
{
    static const char *const names[] = {"libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1",
                                        "/usr/lib/wsl/lib/libcuda.so.1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library)
            return library;
        const char *why = dlerror();
        if (i == 0)
            snprintf(why_not, capacity, "no CUDA driver: libcuda.so.1 could not be loaded (%s)",
                     why ? why : "no reason given");
    }
    return NULL;
}

// Driver present, initialised, new enough, and with a device; else `reason` is set.
static int is_ready(const char *missing)
{
    CUresult result = driver.cuInit ? driver.cuInit(0) : CUDA_ERROR_STUB_LIBRARY;
    if (result != CUDA_SUCCESS) {
        snprintf(reason, sizeof reason, "the CUDA driver did not start: %s (%s)", name_of(result),
                 words_of(result));
        return 0;
    }
    if (driver.cuDriverGetVersion)
        driver.cuDriverGetVersion(&driver.driver_version);
    if (missing || driver.driver_version < OLDEST_DRIVER) {
        snprintf(reason, sizeof reason,
                 "the CUDA driver is too old: it supports CUDA %d.%d%s%s; 12.0 or newer is needed",
                 driver.driver_version / 1000, driver.driver_version % 1000 / 10,
                 missing ? " and lacks " : "", missing ? missing : "");
        return 0;
    }
    result = driver.cuDeviceGetCount(&driver.num_devices);
    if (result != CUDA_SUCCESS || driver.num_devices < 1) {
        snprintf(reason, sizeof reason, "the CUDA driver sees no GPU%s%s",
                 result != CUDA_SUCCESS ? ": " : " (CUDA_VISIBLE_DEVICES?)",
                 result != CUDA_SUCCESS ? name_of(result) : "");
        return 0;
    }
    return 1;
}

static void open_once(void)
{
    void *library = open_library(reason, sizeof reason);
    if (library)
        is_usable = is_ready(resolve(library));
}

const struct dg_cuda *dg_cuda_driver(struct dg_strbuf *why_not)
{
    pthread_once(&once, open_once);
    if (is_usable)
        return &driver;
    if (why_not)
        dg_strbuf_add(why_not, "%s", reason);
    return NULL;
}

int dg_cuda_driver_version(void)
{
    CUresult (*get_version)(int *) = NULL;
    int version = 0;
    char why_not[256];
    void *library = open_library(why_not, sizeof why_not);
    void *symbol = library ? dlsym(library, "cuDriverGetVersion") : NULL;
    memcpy(&get_version, &symbol, sizeof symbol);
    return get_version && get_version(&version) == CUDA_SUCCESS ? version : 0;
}

static dg_status status_of(CUresult result)
{
    switch (result) {
    case CUDA_SUCCESS:
        return DG_OK;
    case CUDA_ERROR_OUT_OF_MEMORY:
        return DG_OUT_OF_MEMORY;
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
        return DG_NO_DEVICE;
    default:
        return DG_CUDA_ERROR;
    }
}

dg_status dg_cuda_fail(CUresult result, const char *what, ...)
{
    if (result == CUDA_SUCCESS)
        return DG_OK;
    char text[1024];
    va_list arguments;
    va_start(arguments, what);
    vsnprintf(text, sizeof text, what, arguments);
    va_end(arguments);
    return dg_fail(status_of(result), "%s: %s (%d): %s", text, name_of(result), (int)result,
                   words_of(result));
}
