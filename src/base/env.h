// SPDX-License-Identifier: MIT
// env.h - every environment variable the library knows, in one table.  Read once, at first use, so a
// variable changed later by the program has no effect and lookups are safe from any thread.
#ifndef DG_BASE_ENV_H
#define DG_BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>

enum dg_env {
    DG_ENV_BACKEND,       // DG_BACKEND
    DG_ENV_CPU_ISA,       // DG_CPU_ISA
    DG_ENV_NUM_THREADS,   // DG_NUM_THREADS
    DG_ENV_LOG,           // DG_LOG: error, warning, info, debug
    DG_ENV_PRINT_CONFIGS, // DG_PRINT_CONFIGS
    DG_ENV_TUNING_FILE,   // DG_TUNING_FILE
    DG_ENV_KERNEL_DIR,    // DG_KERNEL_DIR: read kernel sources here instead of the embedded text
    DG_ENV_DEBUG_LAYOUTS, // DG_DEBUG_LAYOUTS: DG_GROUPED_CHECK_LAYOUT for all calls
    DG_ENV_JIT_CACHE_DIR, // DG_JIT_CACHE_DIR
    DG_ENV_JIT_USE_NVRTC, // DG_JIT_USE_NVRTC: 0 = nvcc
    DG_ENV_JIT_NVCC_COMPILER,          // DG_JIT_NVCC_COMPILER
    DG_ENV_JIT_DEBUG,                  // DG_JIT_DEBUG
    DG_ENV_JIT_PRINT_COMPILER_COMMAND, // DG_JIT_PRINT_COMPILER_COMMAND
    DG_ENV_JIT_PTXAS_VERBOSE,          // DG_JIT_PTXAS_VERBOSE
    DG_ENV_JIT_PTXAS_CHECK,            // DG_JIT_PTXAS_CHECK
    DG_ENV_JIT_WITH_LINEINFO,          // DG_JIT_WITH_LINEINFO
    DG_ENV_JIT_ALL_LANES,              // DG_JIT_ALL_LANES
    DG_ENV_JIT_PRINT_LOAD_TIME,        // DG_JIT_PRINT_LOAD_TIME
    DG_ENV_JIT_DUMP_ASM,               // DG_JIT_DUMP_ASM
    DG_ENV_JIT_DUMP_PTX,               // DG_JIT_DUMP_PTX
    DG_ENV_JIT_DUMP_SASS,              // DG_JIT_DUMP_SASS
    DG_ENV_COUNT
};

struct dg_env_variable {
    const char *name;
    const char *meaning; // one line, for `deepgemm info` and the docs
};

const struct dg_env_variable *dg_env_variable(enum dg_env which);
// The value at first use; NULL when unset or empty.
const char *dg_env_text(enum dg_env which);
// The value as an integer; `fallback` when unset or not a number.
long dg_env_number(enum dg_env which, long fallback);

#endif
