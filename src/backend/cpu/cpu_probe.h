// SPDX-License-Identifier: MIT
// cpu_probe.h - the speed of light of one thread, to put a benchmark's figures in proportion.
#ifndef DG_CPU_PROBE_H
#define DG_CPU_PROBE_H

// GFLOP/s of independent FP32 multiply-adds on registers with the instruction set `isa` ("c", "avx2",
// "avx512"), measured on the calling thread for about `seconds`.  0 when it cannot run here.
double dg_cpu_fma_peak_gflops(const char *isa, double seconds);

#endif
