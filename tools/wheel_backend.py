# SPDX-License-Identifier: MIT
# wheel_backend.py - what pip calls to build the Python package (PEP 517, PEP 660).  The C sources
# are compiled with $CC (cc) and $CFLAGS (-O2) and put beside the Python files of python/deep_gemm
# in one wheel, which serves every Python, torch and CUDA: it is linked against the C library only.
# Standard library only.
import base64
import concurrent.futures
import glob
import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLAGS = "-std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden".split()
PACKAGED = ("LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml",
            "include", "src", "python", "tools")  # fmt: skip


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def version():
    """DeepGEMM's version, whose interface this is, and the library's: 2.6.1+c0.1.0."""
    interface = re.search(
        r'^__version__ = "(.*?)"', read("python/deep_gemm/__init__.py"), re.M
    ).group(1)
    library = re.findall(r"^#define DG_VERSION_[A-Z]+ (\d+)", read("include/deepgemm.h"), re.M)
    return "%s+c%s" % (interface, ".".join(library))


NAME = "deep_gemm-" + version()
TAG = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def metadata():
    return """Metadata-Version: 2.1
Name: deep_gemm
Version: %s
Summary: FP8 matrix multiplication with fine-grained scales, under the names of DeepGEMM
License: MIT
License-File: LICENSE
Classifier: License :: OSI Approved :: MIT License
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Classifier: Typing :: Typed
Requires-Python: >=3.8
Description-Content-Type: text/markdown

%s""" % (version(), read("README.md"))


# ---- compiling ----


def run(*command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        text = done.stdout.decode("utf-8", "replace")
        raise RuntimeError("%s\nended with %d:\n%s" % (" ".join(command), done.returncode, text))


def compile_into(folder):
    """libdeepgemm.so and libdeepgemm_python.so."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    optimise = shlex.split(os.environ.get("CFLAGS") or "-O2")
    command = compiler + FLAGS + ["-Iinclude", "-Isrc"] + optimise
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        texts = os.path.join(aside, "kernels.c")
        kernels = sorted(
            glob.glob(os.path.join(ROOT, "src", "backend", "*", "*.cu*"))
            + glob.glob(os.path.join(ROOT, "src", "backend", "sm90", "sm90_args.h"))
        )
        run(sys.executable, "tools/embed.py", texts, *(os.path.relpath(p, ROOT) for p in kernels))
        sources = sorted(
            glob.glob(os.path.join(ROOT, "src", "*", "*.c"))
            + glob.glob(os.path.join(ROOT, "src", "backend", "*", "*.c"))
        )
        objects = [os.path.join(aside, "%d.o" % i) for i in range(len(sources) + 1)]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = [
                pool.submit(run, *command, "-c", "-o", target, source)
                for target, source in zip(objects, sources + [texts])
            ]
            for job in jobs:
                job.result()
        library = [
            "-Wl,--version-script=src/deepgemm.map",
            "-Wl,-z,defs",
            "-ldl",
            "-lm",
            "-lpthread",
        ]
        target = os.path.join(folder, "libdeepgemm.so")
        run(*compiler, "-shared", "-s", *optimise, "-o", target, *objects, *library)
        target = os.path.join(folder, "libdeepgemm_python.so")
        run(*command, "-shared", "-s", "-o", target, "python/deep_gemm/bridge.c")


# ---- wheels ----


class Wheel:
    """A wheel that is being written, with the record of what it holds."""

    def __init__(self, folder):
        self.name = "%s-%s.whl" % (NAME, TAG)
        self.zip = zipfile.ZipFile(os.path.join(folder, self.name), "w", zipfile.ZIP_DEFLATED)
        self.record = []

    def write(self, path, data, mode=0o644):
        entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))  # the same bytes from the same files
        entry.external_attr = (0o100000 | mode) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        self.zip.writestr(entry, data)

    def add(self, path, data, mode=0o644):
        self.write(path, data, mode)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.record.append("%s,sha256=%s,%d" % (path, digest, len(data)))

    def finish(self):
        info = NAME + ".dist-info/"
        tags = (
            "Wheel-Version: 1.0\nGenerator: wheel_backend\nRoot-Is-Purelib: false\nTag: %s\n" % TAG
        )
        self.add(info + "METADATA", metadata().encode())
        self.add(info + "WHEEL", tags.encode())
        self.add(info + "licenses/LICENSE", read("LICENSE").encode())
        record = info + "RECORD"
        self.write(record, "\n".join(self.record + [record + ",,", ""]).encode())
        self.zip.close()
        return self.name


def python_files():
    """(name in the wheel, path), the same order every time."""
    base = os.path.join(ROOT, "python")
    for folder, folders, names in os.walk(os.path.join(base, "deep_gemm")):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            if name.endswith((".py", ".typed")):
                path = os.path.join(folder, name)
                yield os.path.relpath(path, base), path


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    wheel = Wheel(wheel_directory)
    with tempfile.TemporaryDirectory() as folder:
        compile_into(folder)
        for name, path in python_files():
            with open(path, "rb") as file:
                wheel.add(name.replace(os.sep, "/"), file.read())
        for name in ("libdeepgemm.so", "libdeepgemm_python.so"):
            with open(os.path.join(folder, name), "rb") as file:
                wheel.add("deep_gemm/" + name, file.read(), 0o755)
    return wheel.finish()


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """A wheel that points here; the libraries go where `make` puts them."""
    compile_into(os.path.join(ROOT, "build"))
    wheel = Wheel(wheel_directory)
    wheel.add("deep_gemm.pth", (os.path.join(ROOT, "python") + "\n").encode())
    return wheel.finish()


def build_sdist(sdist_directory, config_settings=None):
    def wanted(entry):
        name = os.path.basename(entry.name)
        return None if name == "__pycache__" or name.endswith((".pyc", ".so")) else entry

    path = os.path.join(sdist_directory, NAME + ".tar.gz")
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in PACKAGED:
            archive.add(os.path.join(ROOT, name), NAME + "/" + name, filter=wanted)
        with tempfile.NamedTemporaryFile("w", suffix="PKG-INFO", encoding="utf-8") as file:
            file.write(metadata())
            file.flush()
            archive.add(file.name, NAME + "/PKG-INFO")
    return os.path.basename(path)


def get_requires_for_build_wheel(config_settings=None):
    return []


get_requires_for_build_editable = get_requires_for_build_sdist = get_requires_for_build_wheel
