// SPDX-License-Identifier: MIT
// env.c - the table of environment variables and the copy of their values taken at first use.  The
// copies live as long as the process: another thread may hold a text at any time.
#include "base/env.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct dg_env_variable variables[DG_ENV_COUNT] = {
    [DG_ENV_BACKEND] = {"DG_BACKEND", "backend when the options name none: sm90, cpu, oracle"},
    [DG_ENV_CPU_ISA] = {"DG_CPU_ISA", "instruction set of the CPU kernels: c, avx2, avx512"},
    [DG_ENV_NUM_THREADS] = {"DG_NUM_THREADS", "CPU threads, the caller's included"},
    [DG_ENV_LOG] = {"DG_LOG", "messages on standard error: error, warning, info, debug"},
    [DG_ENV_PRINT_CONFIGS] = {"DG_PRINT_CONFIGS", "1: print the plan of every new problem"},
    [DG_ENV_TUNING_FILE] = {"DG_TUNING_FILE", "file of measured winners that plans prefer"},
    [DG_ENV_KERNEL_DIR] = {"DG_KERNEL_DIR", "read kernel sources here, not the embedded text"},
    [DG_ENV_DEBUG_LAYOUTS] = {"DG_DEBUG_LAYOUTS",
                              "1: check layouts of groups before each call; slow"},
    [DG_ENV_JIT_CACHE_DIR] = {"DG_JIT_CACHE_DIR", "compiled kernels; default ~/.deep_gemm"},
    [DG_ENV_JIT_USE_NVRTC] = {"DG_JIT_USE_NVRTC", "0: compile with nvcc, not with NVRTC"},
    [DG_ENV_JIT_NVCC_COMPILER] = {"DG_JIT_NVCC_COMPILER", "path of nvcc"},
    [DG_ENV_JIT_DEBUG] = {"DG_JIT_DEBUG", "1: print everything about compilation"},
    [DG_ENV_JIT_PRINT_COMPILER_COMMAND] = {"DG_JIT_PRINT_COMPILER_COMMAND",
                                           "1: print the compiler's options"},
    [DG_ENV_JIT_PTXAS_VERBOSE] = {"DG_JIT_PTXAS_VERBOSE", "1: print registers and spills"},
    [DG_ENV_JIT_PTXAS_CHECK] = {"DG_JIT_PTXAS_CHECK", "1: refuse kernels that use local memory"},
    [DG_ENV_JIT_WITH_LINEINFO] = {"DG_JIT_WITH_LINEINFO", "1: line numbers for profilers"},
    [DG_ENV_JIT_ALL_LANES] = {"DG_JIT_ALL_LANES", "1: barriers that racecheck can follow; slower"},
    [DG_ENV_JIT_PRINT_LOAD_TIME] = {"DG_JIT_PRINT_LOAD_TIME", "1: print the time to load a kernel"},
    [DG_ENV_JIT_DUMP_ASM] = {"DG_JIT_DUMP_ASM", "1: keep PTX and SASS beside the kernel"},
    [DG_ENV_JIT_DUMP_PTX] = {"DG_JIT_DUMP_PTX", "1: keep PTX beside the kernel"},
    [DG_ENV_JIT_DUMP_SASS] = {"DG_JIT_DUMP_SASS", "1: keep SASS beside the kernel"},
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char *values[DG_ENV_COUNT];

// A value that cannot be copied counts as unset.
static void read_all(void)
{
    for (int i = 0; i < DG_ENV_COUNT; i++) {
        const char *value = getenv(variables[i].name);
        values[i] = value && *value ? strdup(value) : NULL;
    }
}

const struct dg_env_variable *dg_env_variable(enum dg_env which)
{
    return &variables[which];
}

const char *dg_env_text(enum dg_env which)
{
    pthread_once(&once, read_all);
    return values[which];
}

long dg_env_number(enum dg_env which, long fallback)
{
    const char *text = dg_env_text(which);
    if (!text)
        return fallback;
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    return errno || end == text || *end ? fallback : number;
}
