// SPDX-License-Identifier: MIT
// ptxas.h - what `ptxas -v` says of a kernel, read out of a compiler's log.
#ifndef DG_JIT_PTXAS_H
#define DG_JIT_PTXAS_H

#include <stdbool.h>

struct dg_ptxas_facts {
    bool found; // false: the log holds no line of ptxas -v
    int num_registers;
    int stack_bytes, spill_store_bytes, spill_load_bytes; // local memory, per thread
    // The first "Potential Performance Loss" (wgmma serialised, setmaxnreg ignored); "" if none.
    char advice[160];
};

// For a log of one kernel; of several, the worst figure of each.
void dg_ptxas_read(const char *log, struct dg_ptxas_facts *facts);

#endif
