// SPDX-License-Identifier: MIT
// options.c - environment variables -> struct dg_jit_options.  The names and meanings are DeepGEMM's.
#include "jit/options.h"

#include "base/env.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct dg_jit_options options;
static char default_cache_dir[4096];

static const char *cache_dir(void)
{
    const char *chosen = dg_env_text(DG_ENV_JIT_CACHE_DIR), *home = getenv("HOME");
    if (chosen)
        return chosen;
    if (!home || !*home)
        return NULL;
    const int length = snprintf(default_cache_dir, sizeof default_cache_dir, "%s/.deep_gemm", home);
    return length < (int)sizeof default_cache_dir ? default_cache_dir : NULL;
}

static void read_once(void)
{
    const bool debug = dg_env_number(DG_ENV_JIT_DEBUG, 0);
    const bool dump = dg_env_number(DG_ENV_JIT_DUMP_ASM, 0);
    options = (struct dg_jit_options){
        .cache_dir = cache_dir(),
        .kernel_dir = dg_env_text(DG_ENV_KERNEL_DIR),
        .nvcc = dg_env_text(DG_ENV_JIT_NVCC_COMPILER),
        .prefer_nvcc = !dg_env_number(DG_ENV_JIT_USE_NVRTC, 1),
        .print_command = debug || dg_env_number(DG_ENV_JIT_PRINT_COMPILER_COMMAND, 0),
        .print_ptxas = debug || dg_env_number(DG_ENV_JIT_PTXAS_VERBOSE, 0),
        .print_load_time = debug || dg_env_number(DG_ENV_JIT_PRINT_LOAD_TIME, 0),
        .refuse_local_memory = dg_env_number(DG_ENV_JIT_PTXAS_CHECK, 0),
        .lineinfo = dg_env_number(DG_ENV_JIT_WITH_LINEINFO, 0),
        .all_lanes = dg_env_number(DG_ENV_JIT_ALL_LANES, 0),
        .dump_ptx = dump || dg_env_number(DG_ENV_JIT_DUMP_PTX, 0),
        .dump_sass = dump || dg_env_number(DG_ENV_JIT_DUMP_SASS, 0),
        .lock_timeout_ms = 60000,
    };
}

const struct dg_jit_options *dg_jit_options(void)
{
    pthread_once(&once, read_once);
    return &options;
}
