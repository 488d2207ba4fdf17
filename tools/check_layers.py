#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# check_layers.py - holds every #include "..." of the tree against the table of
# docs/ARCHITECTURE.md. A row there reads `| folder | may include |`; a folder always may include
# itself and the public header. The longest matching folder counts, `X` in a folder's name stands
# for any one folder.
import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "docs", "ARCHITECTURE.md")
PUBLIC = "include/deepgemm.h"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def read_table():
    """[(folder, [what it may include])] of the table under the heading "Include rules"."""
    text = open(TABLE, encoding="utf-8").read()
    section = text.split("## Include rules", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return [(row[0].strip("`"), re.findall(r"`([^`]+)`", row[1])) for row in rows]


def matches(pattern, path):
    """Is `path` the file or below the folder that `pattern` names?"""
    regex = re.escape(pattern).replace("/X", "/[^/]+")
    return re.match(regex + r"(/|$)", path) is not None


def resolve(path, name):
    """The included file as the compiler finds it, relative to the root; None if there is none."""
    for folder in (os.path.dirname(path), "src", "include"):
        candidate = os.path.normpath(os.path.join(folder, name))
        if os.path.exists(os.path.join(ROOT, candidate)):
            return candidate
    return None


def check_file(path, table):
    rules = [row for row in table if matches(row[0], path)]
    if not rules:
        yield "%s: no row of the table covers it" % path
        return
    folder, allowed = max(rules, key=lambda row: len(row[0]))
    own = "/".join(path.split("/")[: len(folder.split("/"))])
    for number, line in enumerate(open(os.path.join(ROOT, path), encoding="utf-8"), 1):
        include = INCLUDE.match(line)
        if not include:
            continue
        target = resolve(path, include.group(1))
        if target is None:
            yield '%s:%d: "%s" is not in the tree' % (path, number, include.group(1))
        elif target != PUBLIC and not any(matches(rule, target) for rule in allowed + [own]):
            yield "%s:%d: %s may not include %s" % (path, number, folder, target)


def main():
    os.chdir(ROOT)
    table = read_table()
    files = sorted(
        path
        for folder in ("src", "cli", "bench", "examples", "tests")
        for extension in ("c", "h", "cu", "cuh")
        for path in glob.glob("%s/**/*.%s" % (folder, extension), recursive=True)
    )
    problems = [problem for path in files for problem in check_file(path, table)]
    print(
        "\n".join(
            problems + ["include rules: %d files, %d violations" % (len(files), len(problems))]
        )
    )
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
