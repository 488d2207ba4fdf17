# SPDX-License-Identifier: MIT
"""The short way of calls on torch tensors, ready once torch and a context exist: through bridge.c,
or from memory (_memo.py) where torch or the interpreter does not offer what the bridge needs.

It takes plain calls and declines all others by returning non-zero, having done nothing: nobody
notices which way a call went but the clock.
"""

import ctypes
import os

from . import _library as lib
from . import _memo, _runtime, _tensor

MAX_DEVICES = 64


class _Bridge(ctypes.Structure):
    """struct bridge of bridge.c"""

    _fields_ = (
        [("exchange", ctypes.c_void_p)]
        + [("types", ctypes.c_void_p * 2), ("tuple", ctypes.c_void_p)]
        + [
            (name, ctypes.c_void_p)
            for name in ("type_of", "release", "item", "size", "clear_error", "unlock", "lock")
        ]
        + [("gemm", ctypes.c_void_p), ("grouped", ctypes.c_void_p * 2)]
        + [("workspace_bytes", ctypes.c_void_p)]
        + [("flags", ctypes.c_uint32), ("cpu", ctypes.c_void_p)]
        + [("cuda", ctypes.c_void_p * MAX_DEVICES)]
    )


_INTERPRETER = {  # member: function of the stable ABI
    "type_of": "PyObject_Type",
    "release": "Py_DecRef",
    "item": "PyTuple_GetItem",
    "size": "PyTuple_Size",
    "clear_error": "PyErr_Clear",
    "unlock": "PyEval_SaveThread",
    "lock": "PyEval_RestoreThread",
}

_bridge = _Bridge()
_kept: list = []  # what _bridge points to


INDEX, ENDS, MASKED = lib.GROUP_INDEX, lib.GROUP_ENDS, 2  # kinds of grouped calls


def declines(*arguments):
    """Stands for the C functions where there are none."""
    return 1


# Both return 0 when they have done it.
gemm_nt = declines  # (address, ((a, sfa), (b, sfb), d[, c]), rows of B per scale)
grouped_nt = declines  # (address, ((a, sfa), (b, sfb), d, layout), kind, alignment, expected_m)
address = 0  # of the bridge


def _address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def _exchange_table(torch):
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return None
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = get(capsule, b"dlpack_exchange_api")
    major = ctypes.c_uint32.from_address(table).value
    return table if major == 1 else None


def _load():
    here = os.path.dirname(os.path.abspath(__file__))
    beside = os.path.dirname(lib.library()._name)  # the build folder, when run from the source tree
    for folder in (here, beside):
        try:
            return ctypes.PyDLL(os.path.join(folder, "libdeepgemm_python.so"))
        except OSError:
            pass
    return None


def _open():
    """Fills the bridge; False where something of it is missing."""
    torch = _tensor.find_torch()
    table = _exchange_table(torch)
    library = _load() if table else None
    if library is None:
        return False
    _bridge.exchange = table
    _bridge.types[0], _bridge.types[1] = id(torch.Tensor), id(torch.nn.Parameter)
    _bridge.tuple = id(tuple)
    for member, name in _INTERPRETER.items():
        setattr(_bridge, member, _address(getattr(ctypes.pythonapi, name)))
    _bridge.gemm = _address(lib.library().dg_fp8_gemm_nt)
    _bridge.grouped[0] = _address(lib.library().dg_m_grouped_fp8_gemm_nt_contiguous)
    _bridge.grouped[1] = _address(lib.library().dg_m_grouped_fp8_gemm_nt_masked)
    _bridge.workspace_bytes = _address(lib.library().dg_workspace_bytes)
    gemm, grouped = library.dg_bridge_gemm_nt, library.dg_bridge_grouped_nt
    for function, more in ((gemm, []), (grouped, [ctypes.c_int32, ctypes.c_int64])):
        function.restype = ctypes.c_int
        function.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_int32] + more
    _kept.append((torch, gemm, grouped))
    return True


_opened = None


def ready(device, call=None):
    """Told after a call on torch tensors of `device` went the long way: the next may go the short
    one.  `call`: the arguments of _memo.remember, if the call was a plain one."""
    global gemm_nt, grouped_nt, address, _opened
    if _opened is None:
        _opened = _open()
    if not _opened:
        gemm_nt, grouped_nt = _memo.gemm_nt, _memo.grouped_nt
        if call is not None:
            _memo.remember(*call)
        return
    context = _runtime.context(device)
    if device == _tensor.CPU:
        _bridge.cpu = context
    elif device < MAX_DEVICES:
        _bridge.cuda[device] = context
    _bridge.flags = lib.GEMM_PDL if _runtime.settings.pdl else 0
    _, gemm_nt, grouped_nt = _kept[0]
    address = ctypes.addressof(_bridge)


def _reset():
    """Contexts or settings changed: every device takes the long way once more."""
    _bridge.cpu = None
    ctypes.memset(_bridge.cuda, 0, ctypes.sizeof(_bridge.cuda))
    _memo.forget()


_runtime._on_reset.append(_reset)
