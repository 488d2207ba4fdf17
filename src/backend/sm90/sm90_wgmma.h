// SPDX-License-Identifier: MIT
// sm90_wgmma.h - the wgmma instruction as text: it lists all its accumulators, so a kernel gets the one width that
// it needs in front of its source, instead of all of them being written out.
#ifndef DG_SM90_WGMMA_H
#define DG_SM90_WGMMA_H

#include "base/strbuf.h"

// dg_wgmma(d, a, b, accumulate): 64 rows of A times `n` rows of B, 32 values of each, whose rows are `depth` bytes
// long (128, 64 or 32) and swizzled by as much; `a` and `b` are shared addresses in units of 16 bytes, which is how
// descriptors have them: the compiler then adds to them instead of shifting them anew for each step.
// dg_wgmma_wait(d), dg_wgmma_wait_1(d): until all groups, or all but the last, are done.
void dg_sm90_emit_wgmma(struct dg_strbuf *text, int n, int depth);

#endif
