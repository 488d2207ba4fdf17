# SPDX-License-Identifier: MIT
"""Contexts, streams and the settings that DeepGEMM keeps for a whole process.

One library context per CUDA device and one for the CPU, made at the first call that needs it and
kept. A forked child starts with none: it forgets its parent's.  `import deep_gemm` makes no
context.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading

from . import _library as lib
from . import _tensor
from ._library import fail
from ._tensor import CPU

_contexts: dict = {}
_lock = threading.Lock()
_on_reset: list = []  # called when all contexts are forgotten


class _Settings:
    num_sms = 0  # 0: all
    tc_util = 0  # 0: 100
    pdl = False
    ignore_compile_dims = False
    block_size_multiple_of = (1, 1)
    mk_alignment = 128
    compile_mode = 0


settings = _Settings()


def _forget():
    global _lock
    _contexts.clear()
    _lock = threading.Lock()
    for call in _on_reset:
        call()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _open(device, num_sms):
    options = lib.ContextOptions(struct_size=ctypes.sizeof(lib.ContextOptions), device=device)
    if device == CPU:
        options.backend = b"oracle" if os.environ.get("DG_BACKEND") == "oracle" else b"cpu"
    else:
        options.backend = b"sm90"
        options.num_sms = num_sms or settings.num_sms
    handle = ctypes.c_void_p()
    lib.check(lib.library().dg_context_create(ctypes.byref(handle), ctypes.byref(options)))
    return handle.value


def context(device, num_sms=0):
    """The library context (address) of a CUDA ordinal or CPU; with num_sms one that has that bound
    whatever set_num_sms says (for calls whose arguments were made for so many SMs)."""
    key = (device, num_sms) if num_sms else device
    handle = _contexts.get(key)
    if handle is None:
        with _lock:
            handle = _contexts.get(key)
            if handle is None:
                handle = _contexts[key] = _open(device, num_sms)
    return handle


_workspace_bytes: dict = {}


def workspace(device, line):
    """Device memory for the call that a problem line (deepgemm.h) describes: a torch tensor, which
    torch's allocator keeps until the stream is done with it; None where none is needed."""
    size = _workspace_bytes.get((device, line))
    if size is None:
        problem, count = ctypes.create_string_buffer(1024), ctypes.c_size_t()
        lib.check(lib.library().dg_problem_parse(line.encode(), problem))
        lib.check(lib.library().dg_workspace_bytes(context(device), problem, ctypes.byref(count)))
        if len(_workspace_bytes) > 4096:
            _workspace_bytes.clear()
        size = _workspace_bytes[(device, line)] = count.value
    if size == 0:
        return None
    return _tensor.empty_bytes(device, size)


def backend_name(device):
    """ "sm90", "cpu" or "oracle"."""
    return lib.library().dg_context_backend(context(device)).decode()


def stream(view):
    """The stream that a call with this output is queued on: the current one of the output's
    library, the legacy default stream where it has none."""
    if view.device == CPU:
        return None
    torch = _tensor.torch
    if torch is not None and isinstance(view.owner, torch.Tensor):
        return torch._C._cuda_getCurrentRawStream(view.device)
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(view.owner, cupy.ndarray):
        with cupy.cuda.Device(view.device):
            return cupy.cuda.get_current_stream().ptr
    return None


def current_device():
    """The CUDA ordinal that calls without tensors speak of; CPU where there is no GPU."""
    torch = _tensor.find_torch()
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.current_device()
    try:
        context(0)
        return 0
    except lib.Error:
        return CPU


# ---- settings ----


def _flag(name, value):
    if not isinstance(value, (bool, int)):
        raise TypeError("%s is a %s: must be a bool" % (name, type(value).__name__))
    return bool(value)


def _number(name, value):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError("%s is a %s: must be an int" % (name, type(value).__name__))
    return value.__index__()


def _cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_sms(new_num_sms: int) -> None:
    """Bounds how many SMs a call may occupy, on every device; 0 restores all.  RuntimeError if it
    is negative or above the device's count.  On a machine without a GPU it is only stored."""
    number = _number("num_sms", new_num_sms)
    if number < 0:
        fail("num_sms = %d: must not be negative", number)
    device = current_device()
    if device != CPU:
        lib.check(lib.library().dg_context_set_num_sms(context(device), number))
        for other, handle in list(_contexts.items()):
            if isinstance(other, int) and other not in (CPU, device):
                lib.check(lib.library().dg_context_set_num_sms(handle, number))
    settings.num_sms = number


def get_num_sms() -> int:
    """The bound in force; without one the SMs of the current device (of a CPU: its cores)."""
    if settings.num_sms:
        return settings.num_sms
    device = current_device()
    return _cpus() if device == CPU else lib.library().dg_context_num_sms(context(device))


def set_tc_util(new_tc_util: int) -> None:
    """Stores 0 to 100; has no effect on Hopper."""
    number = _number("tc_util", new_tc_util)
    if not 0 <= number <= 100:
        fail("tc_util = %d: must be from 0 to 100", number)
    settings.tc_util = number


def get_tc_util() -> int:
    """What set_tc_util stored; 100 for 0."""
    return settings.tc_util or 100


def set_pdl(new_enable_pdl: bool) -> None:
    """True: kernels are launched with programmatic dependent launch, so that a kernel's start
    overlaps the end of the one before it."""
    settings.pdl = _flag("pdl", new_enable_pdl)
    for call in _on_reset:
        call()


def get_pdl() -> bool:
    """What set_pdl stored."""
    return settings.pdl


def set_ignore_compile_dims(new_value: bool) -> None:
    """Stored only: no kernel here depends on m, n or k."""
    settings.ignore_compile_dims = _flag("ignore_compile_dims", new_value)


def set_block_size_multiple_of(new_value) -> None:
    """Stored only (an int, or a pair for m and n): tiles are chosen by the library."""
    if isinstance(new_value, (tuple, list)):
        if len(new_value) != 2:
            fail("block_size_multiple_of has %d numbers: must be one or two", len(new_value))
        settings.block_size_multiple_of = tuple(
            _number("block_size_multiple_of", number) for number in new_value
        )
    else:
        number = _number("block_size_multiple_of", new_value)
        settings.block_size_multiple_of = (number, number)


def set_compile_mode(mode: int) -> None:
    """For SGLang's warm-up: stored only.  Kernels do not depend on the shape, so warming up is
    cheap and calls are made in both modes."""
    settings.compile_mode = _number("mode", mode)


def get_compile_mode() -> int:
    """What set_compile_mode stored."""
    return settings.compile_mode


def set_mk_alignment_for_contiguous_layout(new_value: int) -> None:
    """The rows (of M, or of K) that each group of a contiguous layout is padded to."""
    settings.mk_alignment = _number("alignment", new_value)


def get_mk_alignment_for_contiguous_layout() -> int:
    """The rows (of M, or of K) that each group of a contiguous layout is padded to: 128 at
    first."""
    return settings.mk_alignment


def get_theoretical_mk_alignment_for_contiguous_layout(
    expected_m: int | None = None, num_groups: int | None = None
) -> int:
    """The alignment that suits `expected_m` rows per group best: 128 on Hopper."""
    return 128
