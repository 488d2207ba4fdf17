# SPDX-License-Identifier: MIT
# test_jit_kernels.py - a sample of the GPU kernels through each NVRTC that tools/optional_packages.py
# could fetch: refused by none, no local memory, no advice from ptxas.  `make check-kernels` does the same
# for all variants.  Results are kept in BUILD/kernel-cache by content.
import glob
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

PROGRAM = os.path.join(tap.BUILD, "tools", "check_kernels")


def compilers(major):
    """The path of a fetched NVRTC; the test is skipped without one."""
    if not os.path.exists(PROGRAM):
        tap.skip("%s is not built: `make test` builds it" % PROGRAM)
    found = glob.glob(os.path.join(tap.BUILD, "optional", "nvrtc%d" % major, "nvidia", "*", "lib",
                                   "libnvrtc.so.%d" % major))
    if not found:
        tap.skip("no NVRTC %d below %s/optional" % (major, tap.BUILD))
    return found[0]


def check(major, every):
    done = tap.run(PROGRAM, "--quiet", "--sample", every, "--cache",
                   os.path.join(tap.BUILD, "kernel-cache"), compilers(major), timeout=170)
    print("# " + done.stdout.strip())


def test_kernels_are_clean_with_nvrtc_13():
    check(13, "11")  # of 8 variants a tile, all in turn


def test_kernels_are_clean_with_nvrtc_12():
    check(12, "19")


def test_spilling_kernel_is_noticed():
    library = compilers(13)
    folder = tempfile.mkdtemp(prefix="kernels-", dir=tap.BUILD)
    try:
        with open(os.path.join(folder, "sm90_fill.cu"), "w") as source:
            source.write('extern "C" __global__ void DG_ENTRY(int *x, int i)\n'
                         "{ int local[64]; for (int j = 0; j < 64; j++) local[x[j] & 63] = j;\n"
                         "  x[0] = local[i]; }\n")
        with open(os.path.join(folder, "sm90_fp8_repack.cu"), "w") as source:
            source.write("not C\n")
        done = tap.run(PROGRAM, "--sample", "100000", library, status=1, timeout=300,
                       env=dict(os.environ, DG_KERNEL_DIR=folder))
    finally:
        shutil.rmtree(folder)
    assert "local memory: 256 bytes of stack" in done.stdout, done.stdout
    assert "not C" in done.stdout, done.stdout
    assert ", 2 wrong," in done.stdout, done.stdout


tap.main()
