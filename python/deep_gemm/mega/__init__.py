# SPDX-License-Identifier: MIT
"""DeepGEMM's fused expert layer across GPUs, which is made for SM100.  The names are here so that
imports work; on Hopper calling them is an error, as it is in DeepGEMM."""

from __future__ import annotations

from .._library import fail

__all__ = [
    "SymmBuffer",
    "bf16_mega_moe",
    "fp8_fp4_mega_moe",
    "get_symm_buffer_for_mega_moe",
    "transform_weights_for_mega_moe",
]


def _refuse(name):
    fail("%s: Unsupported architecture: it needs SM100 (Blackwell), this library is for SM90", name)


class SymmBuffer:
    """Not available on Hopper: RuntimeError."""

    def __init__(self, *arguments, **keywords):
        _refuse("SymmBuffer")


def get_symm_buffer_for_mega_moe(*arguments, **keywords):
    """Not available on Hopper: RuntimeError."""
    _refuse("get_symm_buffer_for_mega_moe")


def transform_weights_for_mega_moe(*arguments, **keywords):
    """Not available on Hopper: RuntimeError."""
    _refuse("transform_weights_for_mega_moe")


def fp8_fp4_mega_moe(*arguments, **keywords):
    """Not available on Hopper: RuntimeError."""
    _refuse("fp8_fp4_mega_moe")


def bf16_mega_moe(*arguments, **keywords):
    """Not available on Hopper: RuntimeError."""
    _refuse("bf16_mega_moe")
