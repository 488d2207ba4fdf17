# SPDX-License-Identifier: MIT
"""The name of DeepGEMM's native module; here its functions are the package's own."""

from . import *  # noqa: F401,F403
