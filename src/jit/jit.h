// SPDX-License-Identifier: MIT
// jit.h - from a kernel's identity to a function that can be launched: memory table -> disk -> compiler.
//
// The memory table is keyed on a few integers and answers in tens of nanoseconds without a lock.  Only on
// a miss is the kernel described: its file, and the text (#defines, emitted wrappers) that stands in front
// of it.  The text to compile is one self-contained string, the prologue followed by the source with its
// #include "..." lines replaced by the files; that string, the options and the compiler's version are the
// key on disk.  Threads that miss on the same key at once compile it once.
#ifndef DG_JIT_JIT_H
#define DG_JIT_JIT_H

#include "base/error.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "cuda/driver.h"

// A kernel to build.  Start from {0}; dg_jit_request_free() when done.
struct dg_jit_request {
    const char *name;   // "sm90_fp8_gemm_1d2d": the extern "C" entry, in the text also as DG_ENTRY
    const char *file;   // NULL: <name>.cu; the embedded file (or $DG_KERNEL_DIR's)
    const char *source; // NULL: that file; else the text itself
    struct dg_strbuf prologue; // put in front of the source
    int32_t arch;              // 90 builds for sm_90a
    int32_t smem_bytes;        // dynamic shared memory it will be launched with
};

// Adds "#define NAME value" to the prologue.
void dg_jit_define(struct dg_jit_request *request, const char *name, int64_t value);
void dg_jit_request_free(struct dg_jit_request *request);

// A compiled kernel.
struct dg_jit_binary {
    unsigned char *cubin;
    size_t cubin_bytes;
    char compiler[48]; // "nvrtc 13.0"
    char *log;         // what the compiler said, ptxas -v included; never NULL after success
    char *directory;   // where it is kept on disk; NULL when it is not
    double seconds;    // compiling took; 0 when it came from disk
};
void dg_jit_binary_free(struct dg_jit_binary *binary);

// Disk cache, else compiler.  Needs no GPU and no driver.
dg_status dg_jit_compile(const struct dg_log *log, const struct dg_jit_request *request,
                         struct dg_jit_binary *binary);

// What is needed to launch.  `function` is valid in every context of the device, until the table is
// destroyed.
struct dg_jit_kernel {
    CUfunction function;
    int32_t smem_bytes;
    int32_t num_registers; // per thread
    int32_t local_bytes;   // per thread: not 0 means spills
};

struct dg_jit; // the memory table of one context
dg_status dg_jit_create(struct dg_jit **jit, const struct dg_cuda *cuda, CUdevice device,
                        const struct dg_log *log);
void dg_jit_destroy(struct dg_jit *jit); // unloads; no thread may be using it; NULL is allowed

// Fills *request (zeroed before) for the key that `user` stands for.
typedef dg_status (*dg_jit_describe)(void *user, struct dg_jit_request *request);

// The kernel of `key` (at most 128 bytes, no padding).  A miss needs a current context on the device,
// compiles (seconds at worst) and loads; it is safe while a stream of this thread is being captured.
// A failure is not remembered.
dg_status dg_jit_get(struct dg_jit *jit, const void *key, size_t key_bytes,
                     dg_jit_describe describe, void *user, struct dg_jit_kernel *kernel);
// Number of kernels in the table.
int dg_jit_count(const struct dg_jit *jit);

// Compilers and cache directory in words, for `deepgemm info`.
void dg_jit_info(dg_fact_callback callback, void *user);

#endif
