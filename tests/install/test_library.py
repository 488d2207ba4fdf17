# SPDX-License-Identifier: MIT
# test_library.py - what the library promises as a file: which names it exports, what it needs, that
# its header stands alone, and that the programs printed in the documentation compile and say what
# they claim.
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

LIBRARY = os.path.join(tap.BUILD, "libdeepgemm.so")
CC = os.environ.get("CC", "cc").split()
SCRATCH = tempfile.mkdtemp(prefix="library-", dir=tap.BUILD)
ALLOWED = ("libc", "libm", "libdl", "libpthread", "ld-linux")
EVERY_WARNING = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")


def read(name):
    return open(os.path.join(tap.ROOT, name), encoding="utf-8").read()


def declared():
    """Every function that the header offers."""
    return set(re.findall(r"^DG_API[^;(]*?\b(dg_\w+)\(", read("include/deepgemm.h"), re.MULTILINE))


def exported():
    if not shutil.which("nm"):
        tap.skip("nm (binutils) is not installed")
    lines = tap.run("nm", "-D", "--defined-only", LIBRARY).stdout.splitlines()
    return {line.split()[-1] for line in lines}


def test_only_names_of_ours_are_exported():
    strangers = sorted(name for name in exported() if not name.startswith("dg_"))
    assert not strangers, strangers


def test_exports_and_header_agree():
    assert declared() == exported(), "only in the header: %s; only in the library: %s" % (
        sorted(declared() - exported()),
        sorted(exported() - declared()),
    )


def test_library_needs_libc_and_libm_only():
    if not shutil.which("readelf"):
        tap.skip("readelf (binutils) is not installed")
    needed = re.findall(r"\(NEEDED\).*\[(.*?)\]", tap.run("readelf", "-d", LIBRARY).stdout)
    assert needed and all(name.startswith(ALLOWED) for name in needed), needed


def test_soname_carries_the_major_version():
    if not shutil.which("readelf"):
        tap.skip("readelf (binutils) is not installed")
    major = re.search(r"DG_VERSION_MAJOR (\d+)", read("include/deepgemm.h")).group(1)
    assert "[libdeepgemm.so.%s]" % major in tap.run("readelf", "-d", LIBRARY).stdout


def compile_header(compiler, *flags, extension="c"):
    source = os.path.join(SCRATCH, "header." + extension)
    with open(source, "w") as file:
        file.write(
            '#include "deepgemm.h"\n#include "deepgemm.h"\n'
            "int use(void);\nint use(void)\n{\n"
            "    struct dg_tensor t = dg_transposed(dg_matrix(0, DG_F32, 1, 2));\n"
            "    return (int)t.shape[0];\n}\n"
        )
    tap.run(
        *compiler,
        *flags,
        *EVERY_WARNING,
        "-I" + tap.ROOT + "/include",
        "-c",
        source,
        "-o",
        os.path.join(SCRATCH, "header.o")
    )


def test_header_is_c99():
    compile_header(CC, "-std=c99")


def test_header_is_c11():
    compile_header(CC, "-std=c11")


def test_header_is_cxx():
    compiler = (
        os.environ.get("CXX") or shutil.which("c++") or tap.skip("no C++ compiler is installed")
    )
    for standard in ("-std=c++11", "-std=c++17"):
        compile_header([compiler], standard, extension="cpp")


def run_c(name, source):
    path = os.path.join(SCRATCH, name)
    with open(path + ".c", "w") as file:
        file.write(source)
    tap.run(
        *CC,
        "-Wall",
        "-Werror",
        "-I" + tap.ROOT + "/include",
        path + ".c",
        "-o",
        path,
        os.path.join(tap.BUILD, "libdeepgemm.a"),
        "-lm",
        "-ldl",
        "-lpthread"
    )
    return tap.run(path, env=dict(os.environ, DG_BACKEND="cpu")).stdout


def check_example(name, source):
    """A documented program prints what the comment beside its printf promises."""
    promised = re.search(r"printf\(.*//\s*(.*)", source).group(1)
    printed = run_c(name, source).strip()
    assert printed == promised, "printed %r, promised %r" % (printed, promised)


def test_example_in_the_readme_works():
    source = re.search(r"```c\n(.*?)```", read("README.md"), re.DOTALL).group(1)
    check_example("readme", source)


def test_commands_and_variables_in_the_documents_exist():
    command = os.path.join(tap.BUILD, "deepgemm")
    known = tap.run(command, "help").stdout + tap.run(command, "info").stdout
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/ARCHITECTURE.md",
        "docs/NUMERICS.md",
        "docs/KERNELS.md",
    ):
        text = read(name)
        for verb in re.findall(r"(?:^|`)deepgemm ([a-z]+)", text, re.MULTILINE):
            assert re.search(r"^  %s " % verb, known, re.MULTILINE), "%s: deepgemm %s" % (
                name,
                verb,
            )
        for variable in (
            re.findall(r"`(DG_(?:JIT_)?[A-Z_]+[A-Z])`", text) if name == "README.md" else ()
        ):
            assert variable in known, "%s: %s" % (name, variable)


def test_targets_in_the_documents_exist():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/KERNELS.md"):
        for target in re.findall(r"(?:^|`)make ([a-z-]+)(?![a-z/])", read(name), re.MULTILINE):
            assert target in targets, "%s: make %s" % (name, target)


def test_example_in_the_header_works():
    comment = read("include/deepgemm.h").split("A complete program:")[1].split("\n * (")[0]
    check_example("header-example", "\n".join(line[3:] for line in comment.splitlines()))


def test_programs_of_the_examples_folder_succeed():
    names = sorted(os.listdir(os.path.join(tap.BUILD, "examples")))
    programs = [name for name in names if "." not in name]
    assert programs
    for name in programs:
        tap.run(os.path.join(tap.BUILD, "examples", name), env=dict(os.environ, DG_BACKEND="cpu"))


if __name__ == "__main__":
    try:
        tap.main()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
