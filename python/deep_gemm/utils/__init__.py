# SPDX-License-Identifier: MIT
"""Casts to FP8, scale layouts and small helpers, under the names that DeepGEMM has for them."""

from . import dist, layout, math  # noqa: F401
from .layout import *  # noqa: F401,F403
from .layout import __all__ as _layout
from .math import *  # noqa: F401,F403
from .math import __all__ as _math

__all__ = _layout + _math
