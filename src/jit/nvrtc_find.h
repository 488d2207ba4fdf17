// SPDX-License-Identifier: MIT
// nvrtc_find.h - where an NVRTC may be on this machine.
#ifndef DG_JIT_NVRTC_FIND_H
#define DG_JIT_NVRTC_FIND_H

#include <stdbool.h>

// Offers candidates, best first, until `try` takes one: file names for dlopen, a bare name meaning the
// loader's own search.  must_be_loaded: only if the process has it already.
typedef bool (*dg_nvrtc_try)(void *user, const char *file, bool must_be_loaded);
bool dg_nvrtc_find(dg_nvrtc_try try, void *user);

// The search in words, for messages.
extern const char dg_nvrtc_places[];

#endif
