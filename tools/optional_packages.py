#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# optional_packages.py - fetches what some tests can use and the machine may lack, with pip, into
# one folder: optional_packages.py FOLDER.  NVRTC (two majors) compiles the GPU kernels without a
# GPU; cmake builds the CMake consumer; NumPy and torch's CPU build are what the Python package is
# tested with, NumPy for other Pythons of the machine too.  No network, no pip or no room is no
# error: one printed line says which tests will skip.  Each package has its own folder below FOLDER,
# renamed into place when complete.
import glob
import importlib.util
import os
import shutil
import subprocess
import sys

PACKAGES = [  # folder, requirements, what they serve
    ("nvrtc13", ["nvidia-cuda-nvrtc==13.*"], "kernels compiled by NVRTC 13"),
    ("nvrtc12", ["nvidia-cuda-nvrtc-cu12==12.*"], "kernels compiled by NVRTC 12"),
    ("cmake", ["cmake"], "the CMake consumer"),
]
TORCH = ["torch==2.13.0+cpu"]  # never the build with CUDA, which brings gigabytes
TORCH += "filelock fsspec jinja2 markupsafe mpmath networkx setuptools sympy typing-extensions".split()
OLDEST = (3, 8)  # Python that the package supports
LIMIT_S = 240  # for one package


def version_text(version=sys.version_info):
    return "%d.%d" % tuple(version[:2])


def other_pythons():
    """[(version, path)] of the oldest and the newest other Python beside this one."""
    found = {}
    beside = os.path.join(os.path.dirname(sys.base_prefix), "*", "bin", "python3")
    for path in sorted(glob.glob(beside)):
        done = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
        )
        version = tuple(int(part) for part in done.stdout.split())
        if done.returncode == 0 and version >= OLDEST and version != sys.version_info[:2]:
            found[version] = path
    return [(version, found[version]) for version in sorted({*sorted(found)[:1], *sorted(found)[-1:]})]


def python_packages():
    """As PACKAGES: what this Python cannot import yet, and NumPy for the others."""
    rows = []
    for name, requirements, modules in (
        ("arrays", ["numpy", "ml_dtypes"], ["numpy", "ml_dtypes"]),
        ("torch", TORCH, ["torch"]),
    ):
        if not all(importlib.util.find_spec(module) for module in modules):
            folder = "%s-%s" % (name, version_text())
            rows.append((folder, requirements, "the Python package with %s" % ", ".join(modules)))
    for version, _ in other_pythons():
        text = version_text(version)
        requirements = ["--python-version", text, "numpy"]
        rows.append(("arrays-" + text, requirements, "the wheel under Python " + text))
    return rows


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


def install(pip, requirements, target):
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
    ] + requirements
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
    rows = PACKAGES + python_packages()
    missing = [row for row in rows if not os.path.isdir(os.path.join(folder, row[0]))]
    missing = [row for row in missing if not (row[0] == "cmake" and shutil.which("cmake"))]
    if not missing:
        return
    pip, hopeless = find_pip(folder)
    for name, requirements, purpose in missing:
        if not hopeless:
            print("fetching %s (%s)" % (" ".join(requirements[:3]), purpose), flush=True)
        failed = hopeless or install(pip, requirements, os.path.join(folder, name))
        if failed:
            print("without %s: %s; tests of %s skip" % (name, failed, purpose))
        if "took longer" in failed:
            hopeless = failed


if __name__ == "__main__":
    main()
