// SPDX-License-Identifier: MIT
// sources.h - the kernel texts that tools/embed.py puts into the library.
#ifndef DG_JIT_SOURCES_H
#define DG_JIT_SOURCES_H

struct dg_kernel_source {
    const char *name; // file name without folders; unique in the tree
    const char *text;
};

extern const struct dg_kernel_source dg_kernel_sources[]; // ended by {0, 0}

#endif
