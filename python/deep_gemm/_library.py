# SPDX-License-Identifier: MIT
"""libdeepgemm.so through ctypes: finding it, its structs, its errors.

The structs are packed by `struct` from tuples, which is several times faster than ctypes fields;
the functions take plain addresses.  Nothing here knows of torch or NumPy, and nothing is loaded
before the first call that needs the library.
"""

import ctypes
import os
import struct

# enum dg_type
NONE, E4M3, BF16, F32, F64, UE8M0X4, F16, I32 = range(8)
BYTES = (0, 1, 2, 4, 8, 4, 2, 4)
NAMES = ("none", "e4m3", "bf16", "f32", "f64", "ue8m0x4", "f16", "i32")
MAX_RANK = 4

# enum dg_status
OK, INVALID_ARGUMENT, UNSUPPORTED, NO_DEVICE = range(4)

TENSOR_BYTES = 80  # struct dg_tensor: data, type, rank, shape[4], stride[4]
pack_tensor = struct.Struct("@P2i8q").pack_into
pack_blocks = struct.Struct("@2i").pack_into
SCALED_BYTES = 2 * TENSOR_BYTES + 8  # struct dg_scaled: values, scales, block_rows, block_columns


class ContextOptions(ctypes.Structure):
    """struct dg_context_options"""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("backend", ctypes.c_char_p),
        ("device", ctypes.c_int32),
        ("num_sms", ctypes.c_int32),
        ("num_threads", ctypes.c_int32),
        ("cpu_isa", ctypes.c_char_p),
        ("log", ctypes.c_void_p),
        ("log_user", ctypes.c_void_p),
        ("log_level", ctypes.c_int),
    ]


class GemmOptions(ctypes.Structure):
    """struct dg_gemm_options"""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
    ]


class GroupedOptions(ctypes.Structure):
    """struct dg_grouped_options"""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("layout", ctypes.c_int),
        ("alignment", ctypes.c_int32),
        ("expected_m", ctypes.c_int64),
        ("num_rows", ctypes.c_void_p),
    ]


class MqaOptions(ctypes.Structure):
    """struct dg_mqa_options"""

    _fields_ = [("struct_size", ctypes.c_size_t), ("flags", ctypes.c_uint32)]


GEMM_PDL = 1
GROUP_INDEX, GROUP_ENDS = 0, 1
MQA_CLEAN, MQA_COMPRESSED, MQA_PDL = 1, 2, 4

FACT = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p
)  # dg_fact_callback

_pointer, _int, _int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_GEMM = (_int, [_pointer] * 7)
_GROUPED = (_int, [_pointer] * 8)
FUNCTIONS = {  # name: (result, arguments); a pointer argument takes an address, None or a buffer
    "dg_version": (ctypes.c_char_p, []),
    "dg_last_error": (ctypes.c_char_p, []),
    "dg_status_name": (ctypes.c_char_p, [_int]),
    "dg_info": (_int, [FACT, _pointer]),
    "dg_context_create": (_int, [_pointer, _pointer]),
    "dg_context_backend": (ctypes.c_char_p, [_pointer]),
    "dg_context_set_num_sms": (_int, [_pointer, _int]),
    "dg_context_num_sms": (_int, [_pointer]),
    "dg_problem_parse": (_int, [ctypes.c_char_p, _pointer]),
    "dg_workspace_bytes": (_int, [_pointer, _pointer, _pointer]),
    "dg_fp8_gemm_nt": _GEMM,
    "dg_fp8_gemm_nn": _GEMM,
    "dg_fp8_gemm_tn": _GEMM,
    "dg_fp8_gemm_tt": _GEMM,
    "dg_m_grouped_fp8_gemm_nt_contiguous": _GROUPED,
    "dg_m_grouped_fp8_gemm_nn_contiguous": _GROUPED,
    "dg_m_grouped_fp8_gemm_nt_masked": _GROUPED,
    "dg_k_grouped_fp8_gemm_nt_contiguous": _GROUPED,
    "dg_k_grouped_fp8_gemm_tn_contiguous": _GROUPED,
    "dg_fp8_mqa_logits": (_int, [_pointer] * 10),
    "dg_fp8_paged_mqa_logits": (_int, [_pointer] * 10),
    "dg_paged_mqa_logits_metadata": (_int, [_pointer] * 4),
}


class Error(RuntimeError):
    """A call that the library refused; `status` is its dg_status, the text names argument and
    rule."""

    status = INVALID_ARGUMENT


def fail(text, *values):
    """Raises Error with the text."""
    raise Error(text % values if values else text)


def _candidates():
    here = os.path.dirname(os.path.abspath(__file__))
    given = os.environ.get("DEEP_GEMM_LIBRARY")
    if given:
        return [given]
    return [
        os.path.join(here, "libdeepgemm.so"),  # a wheel
        os.path.join(here, "..", "..", "build", "libdeepgemm.so"),  # the source tree
        "libdeepgemm.so.0",  # an installed library
    ]


def _load():
    reasons = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            break
        except OSError as error:
            reasons.append(str(error))
    else:
        raise ImportError("libdeepgemm.so cannot be loaded: " + "; ".join(reasons))
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            continue
        function.restype, function.argtypes = result, arguments
    return library


_loaded = None


def library():
    """The loaded library (ctypes.CDLL: calls run without the interpreter lock)."""
    global _loaded
    if _loaded is None:
        _loaded = _load()
    return _loaded


def raise_last(status):
    """Raises what the calling thread's last call refused to do."""
    text = library().dg_last_error().decode("utf-8", "replace")
    error = Error(text)
    error.status = status
    raise error


def check(status):
    if status:
        raise_last(status)


def version():
    return library().dg_version().decode()


def facts():
    """What dg_info tells: a list of (section, key, value)."""
    rows = []
    call = FACT(
        lambda user, *texts: rows.append(tuple(t.decode("utf-8", "replace") for t in texts))
    )
    check(library().dg_info(call, None))
    return rows
