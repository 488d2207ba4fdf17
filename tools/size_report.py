#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# size_report.py - lines per file and per function against the caps of CONTRIBUTING.md.  A file over
# a cap says why in one of its first 12 lines: `size waiver: REASON`.  `--table` prints every
# folder.  Functions are found by their layout (clang-format's): an opening and a closing brace in
# column one.
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILE_CAP, FUNCTION_CAP = 600, 100
C_LIKE = (".c", ".h", ".cu", ".cuh")


def functions(lines):
    """(first line number, length) of each function of a C-like file."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start:
            yield start, number - start + 1
            start = None


def sources():
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith((".", "build"))]
        found += [os.path.relpath(os.path.join(folder, name), ROOT) for name in names]
    return sorted(path for path in found if path.endswith(C_LIKE + (".py",)))


def main():
    problems, folders, lengths = [], {}, []
    for path in sources():
        lines = open(os.path.join(ROOT, path), encoding="utf-8").read().splitlines()
        folders.setdefault(os.path.dirname(path), []).append(len(lines))
        waived = any("size waiver:" in line for line in lines[:12])
        if len(lines) > FILE_CAP and not waived:
            problems.append("%s: %d lines, at most %d" % (path, len(lines), FILE_CAP))
        for start, length in functions(lines) if path.endswith(C_LIKE) else ():
            lengths.append(length)
            if length > FUNCTION_CAP and not waived:
                problems.append(
                    "%s:%d: a function of %d lines, at most %d"
                    % (path, start, length, FUNCTION_CAP)
                )
    if "--table" in sys.argv:
        for folder, counts in sorted(folders.items()):
            print(
                "%-28s %4d files %7d lines, longest %d"
                % (folder, len(counts), sum(counts), max(counts))
            )
    print(
        "\n".join(
            problems
            + [
                "sizes: %d files, %d lines, %d functions of median %d, %d over a cap"
                % (
                    sum(map(len, folders.values())),
                    sum(map(sum, folders.values())),
                    len(lengths),
                    statistics.median(lengths or [0]),
                    len(problems),
                )
            ]
        )
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
