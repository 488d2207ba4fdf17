#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# optional_packages.py - fetches what some tests can use and the machine may lack, with pip, into
# one folder: optional_packages.py FOLDER.  NVRTC (two majors) compiles the GPU kernels without a
# GPU; cmake builds the CMake consumer.  No network, no pip or no room is no error: one printed line
# says which tests will skip.  Each package has its own folder below FOLDER, renamed into place when
# complete.
import os
import shutil
import subprocess
import sys

PACKAGES = [  # folder, requirement, what it serves
    ("nvrtc13", "nvidia-cuda-nvrtc==13.*", "kernels compiled by NVRTC 13"),
    ("nvrtc12", "nvidia-cuda-nvrtc-cu12==12.*", "kernels compiled by NVRTC 12"),
    ("cmake", "cmake", "the CMake consumer"),
]
LIMIT_S = 240  # for one package


def find_pip(folder):
    """A command that runs pip: this python's, else that of a virtual environment made for it."""
    if (
        subprocess.call(
            [sys.executable, "-m", "pip", "--version"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        == 0
    ):
        return [sys.executable, "-m", "pip"], ""
    venv = os.path.join(folder, "venv")
    made = subprocess.run(
        [sys.executable, "-m", "venv", venv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    if made.returncode == 0:
        return [os.path.join(venv, "bin", "python"), "-m", "pip"], ""
    shutil.rmtree(venv, ignore_errors=True)
    return None, "python3 has neither pip nor venv"


def install(pip, requirement, target):
    """ "" when the package lies complete at `target`, else why not."""
    aside = target + ".part"
    shutil.rmtree(aside, ignore_errors=True)
    command = pip + [
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--retries",
        "1",
        "--timeout",
        "20",
        "--no-cache-dir",
        "--target",
        aside,
        requirement,
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return "pip took longer than %d s" % LIMIT_S
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        return lines[-1] if lines else "pip ended with %d" % done.returncode
    os.rename(aside, target)
    return ""


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    missing = [row for row in PACKAGES if not os.path.isdir(os.path.join(folder, row[0]))]
    missing = [row for row in missing if not (row[0] == "cmake" and shutil.which("cmake"))]
    if not missing:
        return
    pip, hopeless = find_pip(folder)
    for name, requirement, purpose in missing:
        if not hopeless:
            print("fetching %s (%s)" % (requirement, purpose), flush=True)
        failed = hopeless or install(pip, requirement, os.path.join(folder, name))
        if failed:
            print("without %s: %s; tests of %s skip" % (requirement, failed, purpose))
        if "took longer" in failed:
            hopeless = failed


if __name__ == "__main__":
    main()
