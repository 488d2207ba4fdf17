#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# python_host.py - the host's time of one queued call through the Python package: python_host.py
# [CALLS] [--csv FILE]. Calls are made in batches small enough for the GPU's queue never to fill, each timed
# alone; the GPU runs behind a long kernel, so that nothing it does is in the times.  On a machine
# without a GPU the calls of a tiny problem on CPU tensors are timed, and say what the package
# itself costs.  What torch takes to queue two things of its own says how fast the host is today.
import argparse
import csv
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "python"))
import torch  # noqa: E402

import deep_gemm  # noqa: E402

BATCH, BUSY_CYCLES = 200, 50_000_000


def operands(m, n, k, device):
    x, w = torch.randn(m, k, device=device), torch.randn(n, k, device=device)
    a, b = deep_gemm.per_token_cast_to_fp8(x, False), deep_gemm.per_block_cast_to_fp8(w, False)
    a = a[0], deep_gemm.get_mn_major_tma_aligned_tensor(a[1])
    return a, b, torch.empty(m, n, dtype=torch.bfloat16, device=device)


def grouped(groups, m, n, k, device):
    a, b, _ = operands(groups * m, n, k, device)
    b = tuple(torch.stack([each] * groups) for each in b)
    a = a[0].view(groups, m, k), a[1].contiguous().view(groups, m, -1)
    d = torch.empty(groups, m, n, dtype=torch.bfloat16, device=device)
    return a, b, d, torch.full((groups,), m, dtype=torch.int32, device=device)


def time_calls(call, calls, gpu):
    """Nanoseconds of each call."""
    for _ in range(20):
        call()
    times, clock = [], time.perf_counter_ns
    while len(times) < calls:
        if gpu:
            torch.cuda.synchronize()
            torch.cuda._sleep(BUSY_CYCLES)
        for _ in range(BATCH):
            start = clock()
            call()
            times.append(clock() - start)
    return times


def report(name, times):
    """Prints a row, and returns it for the CSV."""
    times = sorted(times)
    us = (statistics.median(times) / 1e3,)
    us += tuple(times[int(len(times) * share)] / 1e3 for share in (0.1, 0.9, 0.99))
    print("%-34s median %6.2f us   p10 %6.2f   p90 %6.2f   p99 %6.2f" % ((name,) + us))
    return (name,) + tuple("%.2f" % each for each in us)


def main():
    parser = argparse.ArgumentParser(description="the host's time of queued calls through Python")
    parser.add_argument("calls", nargs="?", type=int, default=4000, help="calls of each kind (4000)")
    parser.add_argument("--csv", metavar="FILE", help="also write the rows as CSV")
    settings = parser.parse_args()
    calls = max(settings.calls, 1)
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    m, n, k = (64, 2112, 7168) if gpu else (1, 8, 16)
    a, b, d = operands(m, n, k, device)
    print("%s, torch %s" % (torch.cuda.get_device_name() if gpu else "CPU", torch.__version__))
    rows = []

    def measure(name, call):
        rows.append(report(name, time_calls(call, calls, gpu)))

    measure("clock alone", lambda: None)
    measure("torch: d.zero_()", d.zero_)
    square = torch.zeros(64, 64, dtype=torch.bfloat16, device=device)
    product = torch.empty_like(square)
    measure("torch: mm into out", lambda: torch.mm(square, square, out=product))
    measure("fp8_gemm_nt", lambda: deep_gemm.fp8_gemm_nt(a, b, d))
    measure(
        "fp8_gemm_nt, as vLLM calls it",
        lambda: deep_gemm.fp8_gemm_nt(a, b, d, disable_ue8m0_cast=True),
    )
    left, right, out, counts = grouped(4, 64 if gpu else 4, n, k, device)
    masked = deep_gemm.m_grouped_fp8_gemm_nt_masked
    measure("masked", lambda: masked(left, right, out, counts, 64))
    from deep_gemm import _dense, _fast

    _fast._opened, _fast.gemm_nt = False, _fast.declines  # as with a torch that lacks the table
    measure("from memory", lambda: deep_gemm.fp8_gemm_nt(a, b, d))
    measure("the long way", lambda: _dense.gemm("nt", a, b, d, None, None, None, None))
    if settings.csv:
        with open(settings.csv, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("call", "median", "p10", "p90", "p99"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
