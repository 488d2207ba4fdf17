# SPDX-License-Identifier: MIT
"""Measures of likeness and size."""

from __future__ import annotations

from typing import Any

from .. import _tensor


def _double(x):
    if _tensor.is_torch(x):
        return x.double()
    return x.astype("float32").astype("float64")  # ml_dtypes' types go by way of float32


def calc_diff(x: Any, y: Any) -> float:
    """1 - 2 sum(x y) / sum(x x + y y), in float64: 0 for equal tensors, and NaN if either holds
    one.  0.0 when both are all zeros."""
    x, y = _double(x), _double(y)
    denominator = (x * x + y * y).sum()
    if denominator == 0:
        return 0.0
    difference = 1 - 2 * (x * y).sum() / denominator
    return difference.item()


def count_bytes(*tensors: Any) -> int:
    """Bytes of all elements of tensors, None and nested tuples or lists of them."""
    total = 0
    for tensor in tensors:
        if isinstance(tensor, (tuple, list)):
            total += count_bytes(*tensor)
        elif _tensor.is_torch(tensor):
            total += tensor.numel() * tensor.element_size()
        elif tensor is not None:
            total += tensor.size * tensor.itemsize
    return total


def _bytes(x):
    """The bytes of each element: [elements, bytes]."""
    if _tensor.is_torch(x):
        flat = x.contiguous().view(-1)
        return flat.view(_tensor.torch.uint8).view(flat.numel(), -1)
    flat = x.reshape(-1)
    return flat.view("uint8").reshape(flat.size, -1)


def assert_bitwise_equal(x: Any, y: Any, label: str = "") -> None:
    """AssertionError unless both tensors have the same dtype, shape and bytes (equal NaNs
    count)."""
    assert x.dtype == y.dtype, "%s: dtype %s and %s" % (label, x.dtype, y.dtype)
    assert x.shape == y.shape, "%s: shape %s and %s" % (label, tuple(x.shape), tuple(y.shape))
    if 0 in x.shape:
        return
    different = int((_bytes(x) != _bytes(y)).any(1).sum())
    assert different == 0, "%s: %d of %d elements differ" % (label, different, len(_bytes(x)))
