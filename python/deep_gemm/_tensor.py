# SPDX-License-Identifier: MIT
"""Tensors of any library as borrowed views: where, of what type, how large, with which strides.

torch tensors are read directly.  Everything else through the protocol that it offers:
__cuda_array_interface__ (CuPy, Numba, JAX on a GPU), __array_interface__ (NumPy), __dlpack__ (JAX,
and whatever speaks it).  A library without 8-bit and 16-bit floats may pass uint8 as E4M3 and
uint16 as BF16, bit for bit; torch has these types, so there they are required.
"""

import ctypes
import sys

from . import _library as lib
from ._library import BF16, E4M3, F16, F32, F64, I32, NONE, fail

CPU = -1  # device of host memory; others are CUDA ordinals

_BY_NAME = {
    "float8_e4m3fn": E4M3,
    "bfloat16": BF16,
    "float32": F32,
    "float64": F64,
    "float16": F16,
    "int32": I32,
    "uint8": E4M3,
    "uint16": BF16,
}
_BY_DLPACK = {  # (code, bits)
    (10, 8): "float8_e4m3fn",
    (4, 16): "bfloat16",
    (2, 16): "float16",
    (2, 32): "float32",
    (2, 64): "float64",
    (0, 32): "int32",
    (1, 8): "uint8",
    (1, 16): "uint16",
}

_BY_TYPESTR = {  # of arrays without a dtype
    "u1": "uint8",
    "u2": "uint16",
    "i4": "int32",
    "f2": "float16",
    "f4": "float32",
    "f8": "float64",
}

torch = None  # the module, once somebody has imported it
TORCH_TYPES: dict = {}


class View:
    """data (address), dtype (its name), type (enum dg_type, NONE for others), shape, stride
    (elements), device; `owner`, the tensor itself, and `capsule` keep the memory alive."""

    __slots__ = (
        "name", "data", "dtype", "type", "shape", "stride", "device", "owner", "readonly", "capsule",
    )  # fmt: skip

    def __init__(self, name, data, dtype, shape, stride, device, owner, readonly=False):
        self.name, self.data, self.dtype, self.device = name, data, dtype, device
        self.type = _BY_NAME.get(dtype, NONE)
        self.shape, self.stride, self.owner, self.readonly = shape, stride, owner, readonly
        self.capsule = None

    @property
    def element_bytes(self):
        return lib.BYTES[self.type] or 1

    def swapped(self):
        """The view with its last two dimensions exchanged."""
        last = (self.shape[-1], self.shape[-2]), (self.stride[-1], self.stride[-2])
        return View(
            self.name, self.data, self.dtype, self.shape[:-2] + last[0], self.stride[:-2] + last[1],
            self.device, self.owner, self.readonly,
        )  # fmt: skip

    def pack_into(self, buffer, offset, type=None):
        """Writes the struct dg_tensor."""
        rank = len(self.shape)
        pad = (0,) * (lib.MAX_RANK - rank)
        lib.pack_tensor(
            buffer, offset, self.data, self.type if type is None else type, rank,
            *self.shape, *pad, *self.stride, *pad,
        )  # fmt: skip

    def packed(self, type=None):
        """The struct dg_tensor in memory of its own."""
        buffer = ctypes.create_string_buffer(lib.TENSOR_BYTES)
        self.pack_into(buffer, 0, type)
        return buffer

    def text(self):
        return "%s.shape = %s" % (self.name, list(self.shape))


def packed_scaled(values, scales, block_rows, block_columns):
    """struct dg_scaled."""
    buffer = ctypes.create_string_buffer(lib.SCALED_BYTES)
    values.pack_into(buffer, 0)
    scales.pack_into(buffer, lib.TENSOR_BYTES, lib.UE8M0X4 if scales.type == I32 else None)
    lib.pack_blocks(buffer, 2 * lib.TENSOR_BYTES, block_rows, block_columns)
    return buffer


def find_torch():
    """The torch module if the program has imported it, else None."""
    global torch
    if torch is None and "torch" in sys.modules:
        module = sys.modules["torch"]
        if hasattr(module, "Tensor"):  # its import has got that far
            torch = module
            for name in _BY_NAME:
                if hasattr(module, name):
                    TORCH_TYPES[getattr(module, name)] = name
    return torch


def is_torch(tensor):
    module = torch or find_torch()
    return module is not None and isinstance(tensor, module.Tensor)


def is_traced(tensor):
    """Whether the tensor only stands for one (torch's fake and functional tensors, subclasses with
    their own dispatch): the call belongs to torch's dispatcher."""
    if not is_torch(tensor) or type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter:
        return False
    return type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__


def swap_last(tensor):
    """The tensor with its last two dimensions exchanged, as a view."""
    return tensor.transpose(-2, -1) if is_torch(tensor) else tensor.swapaxes(-2, -1)


def _view_torch(name, tensor):
    if tensor.is_cuda:
        ordinal = tensor.get_device()
    elif tensor.is_cpu:
        ordinal = CPU
    else:
        fail("%s.device = %s: must be cuda or cpu", name, tensor.device)
    if tensor.layout is not torch.strided:
        fail("%s.layout = %s: must be torch.strided", name, tensor.layout)
    if tensor.is_neg() or tensor.is_conj():
        fail("%s has its conjugate or negative bit set: call resolve_conj() or resolve_neg()", name)
    dtype = TORCH_TYPES.get(tensor.dtype) or str(tensor.dtype).replace("torch.", "")
    view = View(
        name, tensor.data_ptr(), dtype, tuple(tensor.shape), tensor.stride(), ordinal, tensor
    )
    if dtype in ("uint8", "uint16"):
        view.type = NONE
    return view


def _view_interface(name, tensor, interface, device):
    shape, strides = tuple(interface["shape"]), interface.get("strides")
    typestr = interface["typestr"]
    dtype = str(getattr(tensor, "dtype", _BY_TYPESTR.get(typestr[1:], typestr)))
    bytes_of = int(typestr[2:])
    if strides is None:
        stride, step = [], 1
        for size in reversed(shape):
            stride.insert(0, step)
            step *= size
    else:
        if any(s % bytes_of for s in strides):
            fail(
                "%s.strides = %s: must be multiples of the element size %d", name, strides, bytes_of
            )
        stride = [s // bytes_of for s in strides]
    data, readonly = interface["data"]
    return View(name, data or 0, dtype, shape, tuple(stride), device, tensor, readonly)


def _cuda_device(tensor):
    """The ordinal of the device that an object with __cuda_array_interface__ lies on."""
    device = getattr(tensor, "device", None)
    for attribute in ("id", "local_hardware_id", "index"):
        ordinal = getattr(device, attribute, None)
        if isinstance(ordinal, int):
            return ordinal
    if hasattr(tensor, "__dlpack_device__"):
        return int(tensor.__dlpack_device__()[1])
    return 0


# struct DLTensor of DLPack, and what wraps it in the two kinds of capsule
class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint32 * 2),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _DLTensor),
    ]


_DL_CPU, _DL_CUDA, _DL_PINNED, _DL_MANAGED = 1, 2, 3, 13
_DL_READ_ONLY = 1


def _capsule_of(tensor):
    keywords = {}
    if int(tensor.__dlpack_device__()[0]) in (_DL_CUDA, _DL_MANAGED):
        keywords["stream"] = 1  # the legacy default stream, which such calls are queued on
    try:
        return tensor.__dlpack__(max_version=(1, 0), **keywords)
    except TypeError:
        return tensor.__dlpack__(**keywords)


def _view_dlpack(name, tensor):
    capsule = _capsule_of(tensor)
    get, is_valid = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_IsValid
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
    readonly = False
    if is_valid(capsule, b"dltensor_versioned"):
        whole = _Versioned.from_address(get(capsule, b"dltensor_versioned"))
        readonly, dl = bool(whole.flags & _DL_READ_ONLY), whole.tensor
    else:
        dl = _DLTensor.from_address(get(capsule, b"dltensor"))
    if dl.device_type not in (_DL_CPU, _DL_CUDA, _DL_PINNED, _DL_MANAGED):
        fail("%s: its DLPack device type %d must be CPU or CUDA", name, dl.device_type)
    device = dl.device_id if dl.device_type in (_DL_CUDA, _DL_MANAGED) else CPU
    dtype = _BY_DLPACK.get((dl.code, dl.bits) if dl.lanes == 1 else None)
    dtype = dtype or "DLPack type %d of %d bits" % (dl.code, dl.bits)
    shape, strides = tuple(dl.shape[: dl.ndim]), dl.strides
    stride = tuple(strides[: dl.ndim]) if strides else _compact(shape)
    data = (dl.data or 0) + dl.byte_offset
    result = View(name, data, dtype, shape, stride, device, tensor, readonly)
    result.capsule = capsule
    return result


def _compact(shape):
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= size
    return tuple(reversed(stride))


def view(name, tensor):
    """The view of a tensor of any library; Error (naming the argument `name`) if it is none."""
    if is_torch(tensor):
        result = _view_torch(name, tensor)
    elif hasattr(tensor, "__cuda_array_interface__"):
        interface = tensor.__cuda_array_interface__
        result = _view_interface(name, tensor, interface, _cuda_device(tensor))
    elif hasattr(tensor, "__array_interface__"):
        result = _view_interface(name, tensor, tensor.__array_interface__, CPU)
    elif hasattr(tensor, "__dlpack__"):
        result = _view_dlpack(name, tensor)
    else:
        raise TypeError(
            "%s is a %s: must be a tensor (torch, or with __dlpack__, __array_interface__ or "
            "__cuda_array_interface__)" % (name, type(tensor).__name__)
        )
    if not 1 <= len(result.shape) <= lib.MAX_RANK:
        fail("%s: must have 1 to %d dimensions", result.text(), lib.MAX_RANK)
    return result


def output(name, tensor):
    """The view of a tensor that is written."""
    result = view(name, tensor)
    if result.readonly:
        fail("%s is read-only: it is an output", name)
    return result


def same_device(first, *views):
    """Error unless all views lie on the device of the first; that device."""
    for other in views:
        if other is not None and other.device != first.device:
            fail(
                "%s is on %s, but %s is on %s: all tensors must be on one device",
                other.name, device_name(other.device), first.name, device_name(first.device),
            )  # fmt: skip
    return first.device


def empty_bytes(device, count):
    """Memory of a CUDA device for the length of a call: (address, bytes, owner).  Its allocator is
    torch's or CuPy's, so that the memory is not given to another stream before this one has used
    it."""
    if find_torch() is not None:
        owner = torch.empty(count, dtype=torch.uint8, device="cuda:%d" % device)
        return owner.data_ptr(), count, owner
    cupy = sys.modules.get("cupy")
    if cupy is None:
        fail(
            "this layout needs %d bytes of device memory: import torch or cupy for an allocator",
            count,
        )
    with cupy.cuda.Device(device):
        owner = cupy.empty(count, cupy.uint8)
    return owner.data.ptr, count, owner


def empty_like_kind(tensor, shape, dtype):
    """An uninitialised tensor of the kind and device of `tensor`; dtype by its name."""
    if is_torch(tensor):
        return torch.empty(shape, dtype=getattr(torch, dtype), device=tensor.device)
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(tensor, cupy.ndarray):
        module = cupy
    elif hasattr(tensor, "__cuda_array_interface__"):
        fail(
            "outputs for a %s cannot be allocated: pass torch or CuPy tensors",
            type(tensor).__name__,
        )
    else:
        import numpy as module
    if dtype == "bfloat16":
        dtype = bfloat16_of(module)
    return module.empty(shape, dtype)


def bfloat16_of(module):
    """NumPy's bfloat16: that of ml_dtypes where it is installed, else uint16."""
    try:
        import ml_dtypes

        return ml_dtypes.bfloat16 if module.__name__ == "numpy" else module.uint16
    except ImportError:
        return module.uint16


def device_name(device):
    return "the CPU" if device == CPU else "cuda:%d" % device
