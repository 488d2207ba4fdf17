// SPDX-License-Identifier: MIT
// compile.h - dg_jit_compile with its settings and its compiler given, for tests and tools.
#ifndef DG_JIT_COMPILE_H
#define DG_JIT_COMPILE_H

#include "jit/compiler.h"
#include "jit/jit.h"

// compiler NULL: only the disk can serve; `looked` then says where compilers were searched.
dg_status dg_jit_compile_with(const struct dg_jit_options *options,
                              const struct dg_jit_compiler *compiler, const char *looked,
                              const struct dg_log *log, const struct dg_jit_request *request,
                              struct dg_jit_binary *binary);

// Makes a table build its kernels with `compile` in place of dg_jit_compile; before its first use.
typedef dg_status (*dg_jit_compile_function)(const struct dg_log *log,
                                             const struct dg_jit_request *request,
                                             struct dg_jit_binary *binary);
void dg_jit_replace_compile(struct dg_jit *jit, dg_jit_compile_function compile);

#endif
