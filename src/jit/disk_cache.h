// SPDX-License-Identifier: MIT
// disk_cache.h - compiled kernels on disk, shared by processes, users and machines.
//
//     <root>/cache/<name>.<source>.<build>/   kernel.cu  kernel.cubin  options  log  manifest
//     <root>/failed/<name>.<source>/          kernel.cu  options  log           of the last refusal
//     <root>/tmp/                             what is being written
//     <root>/lock                             one byte of it is locked for each kernel being compiled
//
// <source> hashes the name, architecture and text; <build> that, the flags and the compiler's version.  No
// path is hashed, so a folder may be moved, copied into an image, or mounted read-only.
#ifndef DG_JIT_DISK_CACHE_H
#define DG_JIT_DISK_CACHE_H

#include "base/sha256.h"
#include "jit/compiler.h"
#include "jit/jit.h"

struct dg_disk_key {
    const char *root; // NULL: no disk; reads find nothing, writes do nothing
    const char *name;
    char source[DG_SHA256_HEX];
    char build[DG_SHA256_HEX]; // "": any compiler's will do
};

void dg_disk_key_make(struct dg_disk_key *key, const struct dg_jit_unit *unit,
                      const struct dg_jit_compiler *compiler);

// True: *binary is filled.  A broken entry counts as none.
bool dg_disk_cache_read(const struct dg_disk_key *key, struct dg_jit_binary *binary);

// Stores *binary with its text and sets binary->directory.  Where the disk refuses, the log gets one
// warning per process and the caller goes on without.
void dg_disk_cache_write(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                         const struct dg_jit_compiler *compiler, const struct dg_jit_output *output,
                         struct dg_jit_binary *binary);

// Keeps what was refused; adds the folder's path to `folder`, or nothing when it could not be kept.
void dg_disk_cache_keep_failed(const struct dg_disk_key *key, const struct dg_jit_unit *unit,
                               const struct dg_jit_compiler *compiler,
                               const struct dg_jit_output *output, struct dg_strbuf *folder);

// Waits until no other process or thread compiles this key, at most timeout_ms.  The lock to give to
// dg_disk_cache_unlock; -1, which is allowed there, when there is no lock to be had: then go on without.
int dg_disk_cache_lock(const struct dg_disk_key *key, int timeout_ms);
void dg_disk_cache_unlock(int lock);

#endif
