// SPDX-License-Identifier: MIT
// source.h - the text of a kernel as one string without includes, so that it is the same to every compiler,
// is its own cache key, and can be compiled again by hand.
#ifndef DG_JIT_SOURCE_H
#define DG_JIT_SOURCE_H

#include "base/error.h"
#include "base/strbuf.h"

// Adds the file `name`, from kernel_dir (searched three folders deep; may be NULL) or the embedded table,
// with its #include "..." lines replaced by the files they name, each at its first mention only.  Such
// lines must therefore not stand in #if branches that are skipped.  Folders in include lines are ignored;
// files that are not kernel sources, and <...>, are left to the compiler.
dg_status dg_jit_source_add(const char *kernel_dir, const char *name, struct dg_strbuf *text);
// The same for a text that is not in a file.
dg_status dg_jit_source_add_text(const char *kernel_dir, const char *name, const char *source,
                                 struct dg_strbuf *text);

#endif
