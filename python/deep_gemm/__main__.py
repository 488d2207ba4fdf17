# SPDX-License-Identifier: MIT
"""`python -m deep_gemm`: what the library finds on this machine."""

import os
import sys

from . import _library, __version__


def main():
    print(
        "deep_gemm %s, library %s (%s)"
        % (__version__, _library.version(), _library.library()._name)
    )
    section = None
    for group, key, value in _library.facts():
        if group != section:
            section = group
            print("\n%s" % group)
        print("  %-28s %s" % (key, value))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # a reader like `head` has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
