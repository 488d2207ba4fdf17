# SPDX-License-Identifier: MIT
"""Times on a GPU, through torch.  On a machine without one: wall-clock times of calls that return
when they are done."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Callable

FLUSH_BYTES = 8_000_000_000  # written before every timed call: far more than any L2 cache


class empty_suppress:
    """A context manager that does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class suppress_stdout_stderr:
    """A context manager that sends standard output and error, of C code too, to nowhere."""

    def __enter__(self):
        self._streams = sys.stdout, sys.stderr
        for stream in self._streams:
            stream.flush()
        self._nowhere = open(os.devnull, "w")
        self._kept = [(number, os.dup(number)) for number in (1, 2)]
        for number, _ in self._kept:
            os.dup2(self._nowhere.fileno(), number)
        sys.stdout = sys.stderr = self._nowhere
        return self

    def __exit__(self, *_):
        sys.stdout, sys.stderr = self._streams
        for number, copy in self._kept:
            os.dup2(copy, number)
            os.close(copy)
        self._nowhere.close()


def _nvidia_tools():
    return int(os.environ.get("DG_USE_NVIDIA_TOOLS") or 0) != 0


def _flush(torch):
    torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda").zero_()


def _bench_wall(fn, num_warmups, num_tests):
    for _ in range(num_warmups):
        fn()
    start = time.perf_counter()
    for _ in range(num_tests):
        fn()
    return (time.perf_counter() - start) / num_tests


def bench(
    fn: Callable[[], Any], num_warmups: int = 5, num_tests: int = 10, high_precision: bool = False
) -> float:
    """Seconds per call of fn, by CUDA events around num_tests calls in a row, after num_warmups
    untimed ones and with a cold L2.  high_precision keeps the GPU busy first, so that no call waits
    for the host."""
    import torch

    if not torch.cuda.is_available():
        return _bench_wall(fn, num_warmups, num_tests)
    torch.cuda.synchronize()
    for _ in range(num_warmups):
        fn()
    _flush(torch)
    if high_precision:
        large = torch.ones((8192, 8192), dtype=torch.float32, device="cuda")
        large @ large
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(num_tests):
        fn()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / num_tests / 1e3


def _profile(torch, fn, num_tests, flush_l2, barrier):
    activities = [torch.profiler.ProfilerActivity.CUDA]
    schedule = torch.profiler.schedule(wait=0, warmup=1, active=1, repeat=1)
    with torch.profiler.profile(
        activities=activities, schedule=schedule, acc_events=True
    ) as profiler:
        for _ in range(2):  # the first round warms up, the second is recorded
            for _ in range(num_tests):
                if flush_l2:
                    _flush(torch)
                if barrier is not None:
                    barrier()
                fn()
            torch.cuda.synchronize()
            profiler.step()
    return profiler


def kernel_rows(profiler: Any) -> list:
    """(name, total seconds on the GPU, calls) of each kernel of a torch profile."""
    rows = []
    for event in profiler.key_averages():
        total = getattr(event, "self_device_time_total", None)
        if total is None:  # torch before 2.4
            total = event.self_cuda_time_total
        rows.append((event.key, total / 1e6, event.count))
    return rows


def times_of(rows: list, kernel_names: Any, with_multiple_kernels: bool = False) -> Any:
    """The average seconds of the rows whose names contain each substring: a float for one name, a
    tuple for a tuple.  0 where nothing matches."""
    names = (kernel_names,) if isinstance(kernel_names, str) else tuple(kernel_names)
    times = []
    for name in names:
        matches = [row for row in rows if name in row[0][:100]]
        if not with_multiple_kernels:
            assert len(matches) <= 1, "%r is in the names of several kernels: %s" % (
                name, [row[0] for row in matches],
            )  # fmt: skip
        calls = sum(row[2] for row in matches)
        times.append(sum(row[1] for row in matches) / calls if calls else 0)
    return times[0] if isinstance(kernel_names, str) else tuple(times)


def bench_kineto(
    fn: Callable[[], Any],
    kernel_names: Any,
    num_tests: int = 30,
    suppress_kineto_output: bool = False,
    trace_path: str | None = None,
    flush_l2: bool = True,
    with_multiple_kernels: bool = False,
    barrier: Callable[[], Any] | None = None,
) -> Any:
    """The average GPU seconds of the kernels that fn launches, by torch's profiler: one float for
    the name `kernel_names`, or a tuple for a tuple of names.  A name is a substring of the kernel's
    and may match one kernel only, unless with_multiple_kernels; 0 where nothing matches.  L2 is
    flushed before every call unless flush_l2 is False.  DG_USE_NVIDIA_TOOLS=1 runs nothing and
    returns 1s."""
    if _nvidia_tools():
        return 1 if isinstance(kernel_names, str) else (1,) * len(kernel_names)
    import torch

    if not torch.cuda.is_available():
        seconds = _bench_wall(fn, 1, min(num_tests, 3))
        return seconds if isinstance(kernel_names, str) else (seconds,) * len(kernel_names)
    fn()
    suppress = suppress_stdout_stderr if suppress_kineto_output else empty_suppress
    with suppress():
        profiler = _profile(torch, fn, num_tests, flush_l2, barrier)
    if trace_path is not None:
        profiler.export_chrome_trace(trace_path)
    return times_of(kernel_rows(profiler), kernel_names, with_multiple_kernels)
