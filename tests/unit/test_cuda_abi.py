# SPDX-License-Identifier: MIT
# test_cuda_abi.py - src/cuda/cuda_abi.h against the cuda.h of an installed toolkit.  Skips without one.
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

CC = os.environ.get("CC", "cc").split()
HOMES = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
SCRATCH = tempfile.mkdtemp(prefix="cuda-abi-", dir=tap.BUILD if os.path.isdir(tap.BUILD) else None)


def real_include():
    for home in HOMES:
        folder = os.path.join(home, "include")
        if home and os.path.isfile(os.path.join(folder, "cuda.h")):
            return folder
    tap.skip("no cuda.h in $CUDA_HOME, $CUDA_PATH or /usr/local/cuda")


def compare(sources, status):
    """Builds and runs the comparison over the headers below `sources`; its output."""
    flags = ["-std=c11", "-D_GNU_SOURCE", "-I" + sources, "-I" + os.path.join(tap.ROOT, "include")]
    source = os.path.join(tap.ROOT, "tools", "check_cuda_abi.c")
    ours, real, program = (os.path.join(SCRATCH, name) for name in ("ours.o", "real.o", "compare"))
    tap.run(*CC, *flags, "-c", source, "-o", ours)
    tap.run(*CC, *flags, "-I" + real_include(), "-DDG_CUDA_ABI_REAL", "-c", source, "-o", real)
    tap.run(*CC, ours, real, "-o", program)
    return tap.run(program, status=status).stdout


def test_values_layouts_and_prototypes_are_those_of_cuda_h():
    real_include()
    print("# " + compare(os.path.join(tap.ROOT, "src"), 0).strip())


def test_comparison_notices_a_wrong_value():
    real_include()
    copy = os.path.join(SCRATCH, "src")
    shutil.copytree(os.path.join(tap.ROOT, "src"), copy, ignore=shutil.ignore_patterns("backend"))
    header = os.path.join(copy, "cuda", "cuda_abi.h")
    text = open(header, encoding="utf-8").read()
    wrong = text.replace("CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION = 4", "CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION = 5")
    assert wrong != text
    open(header, "w", encoding="utf-8").write(wrong)
    assert "CLUSTER_DIMENSION: 5 here, 4 in cuda.h" in compare(copy, 1)


def test_symbols_are_declared_in_cuda_h():
    real = open(os.path.join(real_include(), "cuda.h"), encoding="utf-8", errors="replace").read()
    table = open(os.path.join(tap.ROOT, "src", "cuda", "driver.h"), encoding="utf-8").read()
    symbols = re.findall(r'X\(\w+, "(\w+)"', table)
    assert len(symbols) > 50, symbols
    missing = [name for name in symbols if not re.search(r"\b%s\b" % name, real) and
               not re.search(r"\b%s\b" % name.replace("_v2", ""), real)]
    assert not missing, missing


try:
    tap.main()
finally:
    shutil.rmtree(SCRATCH, ignore_errors=True)
