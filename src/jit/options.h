// SPDX-License-Identifier: MIT
// options.h - the settings of run-time compilation, read once from the environment; tests pass their own.
#ifndef DG_JIT_OPTIONS_H
#define DG_JIT_OPTIONS_H

#include <stdbool.h>

struct dg_jit_options {
    const char *cache_dir;  // root of the disk cache; NULL: none
    const char *kernel_dir; // sources here win over the embedded ones; NULL: none
    const char *nvcc;       // path of nvcc; NULL: search
    bool prefer_nvcc;       // DG_JIT_USE_NVRTC=0
    bool print_command;
    bool print_ptxas;
    bool print_load_time;
    bool refuse_local_memory; // DG_JIT_PTXAS_CHECK
    bool lineinfo;
    bool all_lanes; // kernels that racecheck can follow: a lane's arrival stands for no other lane
    bool dump_ptx;
    bool dump_sass;
    int lock_timeout_ms; // how long to wait for another process that compiles the same kernel
};

const struct dg_jit_options *dg_jit_options(void);

#endif
