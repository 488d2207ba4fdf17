# SPDX-License-Identifier: MIT
"""Casts to FP8 and FP4 with scales.  Tensors of torch (CUDA, CPU), NumPy or CuPy; the bits are the
same on all of them.

The arithmetic, in float32: amax = max |x| over the group, at least 1e-4; scale = amax / 448,
rounded up to a power of two if use_ue8m0; q = round to nearest even of x * (1 / scale).  A group
that is cut off by the edge counts as padded with zeros.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

from .._arrays import arrays_of, check_rank
from .._library import fail

__all__ = [
    "align",
    "cast_back_from_fp4",
    "cell_div",
    "ceil_div",
    "ceil_to_ue8m0",
    "pack_ue8m0_to_int",
    "per_block_cast_to_fp8",
    "per_channel_cast_to_fp8",
    "per_custom_dims_cast_to_fp8",
    "per_token_cast_to_fp4",
    "per_token_cast_to_fp8",
    "transpose_packed_fp4",
    "unpack_ue8m0_from_int",
]

Tensor = Any
FP8_MAX, FP4_MAX, SMALLEST_AMAX = 448.0, 6.0, 1e-4


def ceil_div(x: int, y: int) -> int:
    """x / y rounded up."""
    return (x + y - 1) // y


cell_div = ceil_div  # its first name


def align(x: int, y: int) -> int:
    """x rounded up to a multiple of y."""
    return ceil_div(x, y) * y


# ---- power-of-two scales ----


def ceil_to_ue8m0(x: Tensor) -> Tensor:
    """|x| rounded up to a power of two (2^-126 to 2^127), float32; powers of two stay."""
    ops = arrays_of("x", x)
    bits = ops.bits(ops.as_f32(x)) & 0x7FFFFFFF
    exponent = (bits >> 23) + ops.cast((bits & 0x7FFFFF) != 0, ops.i32)
    exponent = ops.where(exponent < 1, ops.full((), 1, x, ops.i32), exponent)
    exponent = ops.where(exponent > 254, ops.full((), 254, x, ops.i32), exponent)
    return ops.from_bits(exponent << 23)


def pack_ue8m0_to_int(x: Tensor) -> Tensor:
    """float32 powers of two [..., 4 n] as int32 [..., n]: the biased exponents, four to a word, the
    first in the lowest byte.  RuntimeError unless every value is 2^i or 0 (this looks at the
    values, so it waits for them on a GPU)."""
    ops = arrays_of("x", x)
    if ops.dtype_name(x) != "float32":
        fail("x.dtype = %s: must be float32", ops.dtype_name(x))
    if x.shape[-1] % 4:
        fail("x.shape = %s: the last dimension must be a multiple of 4", list(x.shape))
    bits = ops.bits(x)
    if bool(((bits & 0x007FFFFF) != 0).any()) or bool((bits < 0).any()):
        fail("x has values that are not powers of two: only those fit UE8M0")
    return pack_exponents(ops, bits)


def pack_exponents(ops, bits):
    """int32 words of the exponent bytes of float32 bit patterns [..., 4 n]."""
    return ops.bytes_as_i32((bits >> 23) & 0xFF)


def unpack_ue8m0_from_int(packed: Tensor) -> Tensor:
    """The inverse of pack_ue8m0_to_int: int32 [..., n] to float32 [..., 4 n]."""
    ops = arrays_of("packed", packed)
    if ops.dtype_name(packed) != "int32":
        fail("packed.dtype = %s: must be int32", ops.dtype_name(packed))
    return ops.from_bits(ops.i32_as_bytes(packed) << 23)


# ---- FP8 ----


def _check_float(ops, x):
    if not ops.is_float(x):
        fail("x.dtype = %s: must be a floating-point type", ops.dtype_name(x))


def _scales(ops, amax, largest, use_ue8m0):
    scales = ops.divide(ops.at_least(amax, SMALLEST_AMAX), largest)
    return ceil_to_ue8m0(scales) if use_ue8m0 else scales


def _padded(ops, x, rows, columns):
    """x [m, n] with zeros up to [rows, columns]."""
    if x.shape[1] < columns:
        x = ops.concatenate([x, ops.zeros((x.shape[0], columns - x.shape[1]), x)], 1)
    if x.shape[0] < rows:
        x = ops.concatenate([x, ops.zeros((rows - x.shape[0], x.shape[1]), x)], 0)
    return x


def _blocks(x, block_rows, block_columns):
    """x [m, n] as [m / block_rows, block_rows, n / block_columns, block_columns]."""
    m, n = x.shape
    return x.reshape(m // block_rows, block_rows, n // block_columns, block_columns)


def _quantize_blocks(ops, x, block_rows, block_columns, use_ue8m0):
    m, n = x.shape
    rows, columns = align(m, block_rows), align(n, block_columns)
    if 0 in (m, n):
        return ops.to_fp8(x), ops.zeros((rows // block_rows, columns // block_columns), x)
    blocks = _blocks(_padded(ops, x, rows, columns), block_rows, block_columns)
    scales = _scales(ops, ops.amax(blocks, (1, 3)), FP8_MAX, use_ue8m0)
    factors = ops.reciprocal(scales)[:, None, :, None]
    data = ops.to_fp8((blocks * factors).reshape(rows, columns)[:m, :n])
    return ops.contiguous(data), scales


def _check_matrix(x, gran_k):
    ops = arrays_of("x", x)
    check_rank("x", x, 2)
    _check_float(ops, x)
    if gran_k < 1:
        fail("gran_k = %d: must be positive", gran_k)
    return ops, ops.as_f32(x)


def per_token_cast_to_fp8(
    x: Tensor, use_ue8m0: bool, gran_k: int = 128, use_packed_ue8m0: bool = False
) -> Tuple[Tensor, Tensor]:
    """x [m, n] to E4M3 with one scale per row and gran_k columns.

    (data [m, n], scales [m, ceil(n / gran_k)] float32); with use_packed_ue8m0 the scales are int32
    [m, ceil(n / gran_k) / 4], packed as pack_ue8m0_to_int does.
    """
    ops, values = _check_matrix(x, gran_k)
    data, scales = _quantize_blocks(ops, values, 1, gran_k, use_ue8m0)
    if not use_packed_ue8m0:
        return data, scales
    if not use_ue8m0:
        fail("use_packed_ue8m0 needs use_ue8m0: only powers of two can be packed")
    if scales.shape[1] % 4:
        fail("x.shape = %s: packing needs a multiple of 4 scales per row", list(x.shape))
    return data, pack_exponents(ops, ops.bits(scales))


def per_channel_cast_to_fp8(x: Tensor, use_ue8m0: bool, gran_k: int = 128) -> Tuple[Tensor, Tensor]:
    """x [m, n] to E4M3 with one scale per column and gran_k rows; m must be a multiple of gran_k.
    (data [m, n], scales [m / gran_k, n] float32)."""
    ops, values = _check_matrix(x, gran_k)
    if x.shape[0] % gran_k:
        fail("x.shape = %s: the rows must be a multiple of gran_k = %d", list(x.shape), gran_k)
    return _quantize_blocks(ops, values, gran_k, 1, use_ue8m0)


def per_block_cast_to_fp8(x: Tensor, use_ue8m0: bool, gran_k: int = 128) -> Tuple[Tensor, Tensor]:
    """x [m, n] to E4M3 with one scale per gran_k x gran_k.
    (data [m, n], scales [ceil(m / gran_k), ceil(n / gran_k)] float32)."""
    ops, values = _check_matrix(x, gran_k)
    return _quantize_blocks(ops, values, gran_k, gran_k, use_ue8m0)


def per_custom_dims_cast_to_fp8(
    x: Tensor, dims: Sequence[int], use_ue8m0: bool
) -> Tuple[Tensor, Tensor]:
    """x to E4M3 with one scale per index of the dimensions `dims`, the maximum being taken over all
    others.  (data of x's shape, scales squeezed to those dimensions)."""
    ops = arrays_of("x", x)
    _check_float(ops, x)
    rank = len(x.shape)
    kept = {dim % rank for dim in dims}
    values = ops.as_f32(x)
    amax = ops.amax(values, tuple(dim for dim in range(rank) if dim not in kept))
    scales = _scales(ops, amax, FP8_MAX, use_ue8m0)
    shape = [x.shape[dim] if dim in kept else 1 for dim in range(rank)]
    data = ops.to_fp8(values * ops.reciprocal(scales).reshape(shape))
    return data, scales.reshape([size for size in scales.shape if size != 1])


# ---- FP4 (E2M1), two codes to a byte ----

_FP4_BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def _pack_fp4(ops, codes):
    """int32 codes [m, 2 n] as int8 [m, n], the even column in the low half."""
    both = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return ops.cast(ops.where(both > 127, both - 256, both), ops.i8)


def _unpack_fp4(ops, packed):
    both = ops.cast(packed, ops.i32) & 0xFF
    low, high = (both & 0xF)[:, :, None], (both >> 4)[:, :, None]
    return ops.concatenate([low, high], 2).reshape(packed.shape[0], packed.shape[1] * 2)


def per_token_cast_to_fp4(
    x: Tensor, use_ue8m0: bool, gran_k: int = 128, use_packed_ue8m0: bool = False
) -> Tuple[Tensor, Tensor]:
    """x [m, n] (n even) to E2M1 with one scale, amax / 6, per row and gran_k columns.

    (int8 [m, n / 2], two codes to a byte with the even column in the low half; scales [m, ceil(n /
    gran_k)] float32, or packed int32 with missing ones counted as 1.0).  For other GPUs: no
    function here multiplies FP4.
    """
    ops, values = _check_matrix(x, gran_k)
    m, n = x.shape
    if n % 2:
        fail("x.shape = %s: the columns must be even", list(x.shape))
    if use_packed_ue8m0 and not use_ue8m0:
        fail("use_packed_ue8m0 needs use_ue8m0: only powers of two can be packed")
    columns = align(n, gran_k)
    blocks = _padded(ops, values, m, columns).reshape(m, columns // gran_k, gran_k)
    scales = _scales(ops, ops.amax(blocks, (2,)), FP4_MAX, use_ue8m0)
    scaled = (blocks * ops.reciprocal(scales)[:, :, None]).reshape(m, columns)[:, :n]
    codes = ops.count_above(abs(scaled), _FP4_BOUNDS)
    codes = ops.where((scaled < 0) & (codes != 0), codes | 8, codes)
    data = _pack_fp4(ops, codes)
    if not use_packed_ue8m0:
        return data, scales
    missing = -scales.shape[1] % 4
    if missing:
        ones = ops.full((m, missing), 1.0, scales, ops.f32)
        scales = ops.concatenate([scales, ones], 1)
    return data, pack_exponents(ops, ops.bits(scales))


def transpose_packed_fp4(a: Tensor) -> Tensor:
    """int8 [m, n / 2] (two codes to a byte along n) as int8 [n, m / 2]; m must be even."""
    ops = arrays_of("a", a)
    check_rank("a", a, 2)
    if a.shape[0] % 2:
        fail("a.shape = %s: the rows must be even", list(a.shape))
    codes = _unpack_fp4(ops, a)
    return _pack_fp4(ops, ops.contiguous(ops.swap_last(codes)))


def cast_back_from_fp4(
    packed: Tensor, sf: Tensor, gran_k: int = 128, use_packed_ue8m0: bool = False
) -> Tensor:
    """The values [m, n] float32 of per_token_cast_to_fp4's results."""
    ops = arrays_of("packed", packed)
    check_rank("packed", packed, 2)
    codes = _unpack_fp4(ops, packed)
    exponent, mantissa = (codes >> 1) & 3, codes & 1
    size = ops.where(
        exponent == 0,
        ops.as_f32(mantissa) * 0.5,
        ops.from_bits((exponent + 126) << 23 | mantissa << 22),
    )
    values = ops.where(codes > 7, -size, size)
    scales = unpack_ue8m0_from_int(sf) if use_packed_ue8m0 else ops.as_f32(sf)
    m, n = values.shape
    columns = align(n, gran_k)
    scales = scales[:, : columns // gran_k]
    blocks = _padded(ops, values, m, columns).reshape(m, columns // gran_k, gran_k)
    return (blocks * scales[:, :, None]).reshape(m, columns)[:, :n]
