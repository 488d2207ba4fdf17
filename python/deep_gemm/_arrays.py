# SPDX-License-Identifier: MIT
"""The few array operations that scales and casts are written in, for torch and for NumPy-like
arrays.

One text of the arithmetic (utils/math.py, utils/layout.py), two executors.  Everything is in
float32 and bit for bit the same on both, on CPUs and GPUs; nothing synchronises.
"""

import sys

from . import _tensor
from ._library import fail


class TorchArrays:
    """torch tensors, on any device."""

    def __init__(self, torch):
        self.torch = torch
        self.fp8, self.f32, self.i32, self.i8 = (
            torch.float8_e4m3fn, torch.float32, torch.int32, torch.int8,
        )  # fmt: skip

    def is_float(self, x):
        return x.dtype.is_floating_point

    def dtype_name(self, x):
        return str(x.dtype).replace("torch.", "")

    def as_f32(self, x):
        return x.to(self.torch.float32)

    def amax(self, x, axes):
        return x.abs().amax(dim=axes) if axes else x.abs()

    def at_least(self, x, low):
        return x.clamp(min=low)

    def divide(self, x, number):
        """x / number, rounded once.  A divisor on the device: torch multiplies by 1 / number on
        GPUs when the number comes from the host."""
        return x / self.torch.full((), number, dtype=self.torch.float32, device=x.device)

    def reciprocal(self, x):
        return self.torch.ones((), dtype=self.torch.float32, device=x.device) / x

    def bits(self, x):
        return x.contiguous().view(self.torch.int32)

    def from_bits(self, x):
        return x.contiguous().view(self.torch.float32)

    def cast(self, x, dtype):
        return x.to(dtype)

    def bytes_as_i32(self, x):
        """The last dimension's bytes (int32 values from 0 to 255), four to a word."""
        return x.to(self.torch.uint8).contiguous().view(self.torch.int32)

    def i32_as_bytes(self, x):
        return x.contiguous().view(self.torch.uint8).to(self.torch.int32)

    def to_fp8(self, x):
        return x.to(self.torch.float8_e4m3fn)

    def zeros(self, shape, like, dtype=None):
        return self.torch.zeros(shape, dtype=dtype or like.dtype, device=like.device)

    def full(self, shape, value, like, dtype):
        return self.torch.full(shape, value, dtype=dtype, device=like.device)

    def empty(self, shape, like, dtype=None):
        return self.torch.empty(shape, dtype=dtype or like.dtype, device=like.device)

    def concatenate(self, parts, axis):
        return self.torch.cat(parts, dim=axis)

    def swap_last(self, x):
        return x.transpose(-2, -1)

    def contiguous(self, x):
        return x.contiguous()

    def strides(self, x):
        return tuple(x.stride())

    def count_above(self, x, bounds):
        """How many of the bounds lie below x, as int32."""
        total = self.torch.zeros_like(x, dtype=self.torch.int32)
        for bound in bounds:
            total += x > bound
        return total

    def where(self, condition, x, y):
        return self.torch.where(condition, x, y)


class NumpyArrays:
    """NumPy arrays, and CuPy's with their module in NumPy's place.  FP8 is ml_dtypes' type where
    that package is installed, uint8 else."""

    def __init__(self, numpy):
        self.np = numpy
        self.f32, self.i32, self.i8 = numpy.float32, numpy.int32, numpy.int8
        try:
            import ml_dtypes

            self.fp8 = ml_dtypes.float8_e4m3fn if numpy.__name__ == "numpy" else numpy.uint8
        except ImportError:
            self.fp8 = numpy.uint8

    def dtype_name(self, x):
        return str(x.dtype)

    def is_float(self, x):
        return self.dtype_name(x) in ("float32", "float64", "float16", "bfloat16", "uint16")

    def as_f32(self, x):
        if self.dtype_name(x) == "uint16":  # BF16 of a library without it
            return (x.astype(self.np.uint32) << 16).view(self.np.float32)
        return x.astype(self.np.float32)

    def amax(self, x, axes):
        return self.np.abs(x).max(axis=axes) if axes else self.np.abs(x)

    def at_least(self, x, low):
        return self.np.maximum(x, self.np.float32(low))

    def divide(self, x, number):
        return x / self.np.float32(number)

    def reciprocal(self, x):
        return self.np.float32(1) / x

    def bits(self, x):
        return self.np.ascontiguousarray(x).view(self.np.int32)

    def from_bits(self, x):
        return self.np.ascontiguousarray(x.astype(self.np.int32)).view(self.np.float32)

    def cast(self, x, dtype):
        return x.astype(dtype)

    def bytes_as_i32(self, x):
        return self.np.ascontiguousarray(x.astype(self.np.uint8)).view(self.np.int32)

    def i32_as_bytes(self, x):
        return self.np.ascontiguousarray(x).view(self.np.uint8).astype(self.np.int32)

    def to_fp8(self, x):
        """Round to nearest even by adding a number whose last place is E4M3's at this magnitude."""
        np, sign = self.np, (self.bits(x) >> 24) & 0x80
        size = np.abs(x)
        exponent = (self.bits(size) >> 23).clip(127 - 6, 127 + 9)  # E4M3's smallest normal is 2^-6
        magic = self.from_bits((exponent + 20) << 23)
        rounded = (size + magic) - magic
        tiny = rounded < np.float32(2.0**-6)
        subnormal = (np.where(tiny, rounded, 0) * np.float32(512)).astype(np.int32)
        code = np.where(tiny, subnormal, (self.bits(rounded) >> 20) - ((127 - 7) << 3))
        code = (
            np.where(size <= np.float32(464), code, 0x7F) | sign
        )  # 464 goes down to 448, the largest
        return code.astype(np.uint8).view(self.fp8)

    def zeros(self, shape, like, dtype=None):
        return self.np.zeros(shape, dtype or like.dtype)

    def full(self, shape, value, like, dtype):
        return self.np.full(shape, value, dtype)

    def empty(self, shape, like, dtype=None):
        return self.np.empty(shape, dtype or like.dtype)

    def concatenate(self, parts, axis):
        return self.np.concatenate(parts, axis=axis)

    def swap_last(self, x):
        return x.swapaxes(-2, -1)

    def contiguous(self, x):
        return self.np.ascontiguousarray(x)

    def strides(self, x):
        return tuple(stride // x.itemsize for stride in x.strides)

    def count_above(self, x, bounds):
        return sum((x > bound).astype(self.np.int32) for bound in bounds)

    def where(self, condition, x, y):
        return self.np.where(condition, x, y)


_made: dict = {}


def arrays_of(name, x):
    """The executor for a tensor; TypeError if it is neither torch's nor NumPy's nor CuPy's."""
    if _tensor.is_torch(x):
        key, make, module = "torch", TorchArrays, _tensor.torch
    else:
        home = type(x).__module__.split(".")[0]
        module = sys.modules.get(home)
        if home not in ("numpy", "cupy"):
            raise TypeError(
                "%s is a %s: must be a torch, NumPy or CuPy array" % (name, type(x).__name__)
            )
        key, make = home, NumpyArrays
    if key not in _made:
        _made[key] = make(module)
    return _made[key]


def check_rank(name, x, *ranks):
    if len(x.shape) not in ranks:
        fail(
            "%s.shape = %s: must have %s dimensions",
            name, list(x.shape), " or ".join(str(rank) for rank in ranks),
        )  # fmt: skip
