# SPDX-License-Identifier: MIT
"""Decorators and facts that tests ask for."""

from __future__ import annotations

import functools
import os
from typing import Any, Callable

from .. import _tensor


def get_arch_major() -> int:
    """The major compute capability of torch's current GPU: 9 on Hopper."""
    torch = _tensor.find_torch()
    if torch is None or not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device")
    return torch.cuda.get_device_capability()[0]


def test_filter(condition: Callable[[], bool]) -> Callable:
    """Decorator: the test runs only if condition() holds when it is called."""

    def decorate(function):
        @functools.wraps(function)
        def run(*arguments: Any, **keywords: Any):
            if condition():
                return function(*arguments, **keywords)
            print("%s: filtered out" % function.__name__)
            return None

        return run

    return decorate


def ignore_env(name: str, condition: Callable[[], bool]) -> Callable:
    """Decorator: while the function runs, the environment variable is unset if condition()
    holds."""

    def decorate(function):
        @functools.wraps(function)
        def run(*arguments: Any, **keywords: Any):
            value = os.environ.pop(name, None) if condition() else None
            try:
                return function(*arguments, **keywords)
            finally:
                if value is not None:
                    os.environ[name] = value

        return run

    return decorate
