// SPDX-License-Identifier: MIT
// compiler.h - what a compiler is to the JIT: an identity for the key, a list of flags, and a function from
// text to cubin.  NVRTC (in process) and nvcc (a child process) are the two there are.
#ifndef DG_JIT_COMPILER_H
#define DG_JIT_COMPILER_H

#include "base/error.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "jit/options.h"

// What is compiled: one self-contained text.
struct dg_jit_unit {
    const char *name; // the entry; messages call the text <name>.cu
    const char *text;
    int32_t arch; // 90 -> sm_90a
    const struct dg_jit_options *options;
    const struct dg_log *log;
};

struct dg_jit_output {
    struct dg_strbuf cubin, ptx, log; // ptx only when options->dump_ptx
};
void dg_jit_output_free(struct dg_jit_output *output);

struct dg_nvrtc; // functions of an opened NVRTC

struct dg_jit_compiler {
    char id[48];      // "nvrtc 13.0", "nvcc 13.0.88": part of the key, so never a path
    char where[1024]; // for messages
    int major; // of its CUDA version: a cubin loads on drivers of this major version or newer
    struct dg_nvrtc *nvrtc;
    // One flag per line.
    void (*flags)(const struct dg_jit_unit *unit, struct dg_strbuf *lines);
    // On DG_COMPILE_FAILED output->log holds all the compiler said.
    dg_status (*compile)(const struct dg_jit_compiler *compiler, const struct dg_jit_unit *unit,
                         struct dg_jit_output *output);
};

// Opens the NVRTC at `path`, or searches one when path is NULL.  `driver_version` as the driver counts
// (12040), 0 when there is none: an NVRTC of a newer major version is taken only if there is no other.
// False: what was tried was added to `looked`.  An opened one stays open for the life of the process.
bool dg_nvrtc_open(const char *path, int driver_version, struct dg_jit_compiler *compiler,
                   struct dg_strbuf *looked);
// Uses options->nvcc, or searches.
bool dg_nvcc_open(const struct dg_jit_options *options, struct dg_jit_compiler *compiler,
                  struct dg_strbuf *looked);

// The compiler of this process: chosen once.  NULL with the places searched in `looked`.
const struct dg_jit_compiler *dg_jit_compiler(struct dg_strbuf *looked);

#endif
