# SPDX-License-Identifier: MIT
# test_install.py - can somebody else build on it?  Installs into a prefix of its own and compiles,
# links and runs consumer.c in each way that README.md names: pkg-config, plain flags, CMake; shared
# and static.
import glob
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

CONSUMER = os.path.join(tap.ROOT, "tests", "install", "consumer.c")
CC = os.environ.get("CC", "cc").split()
SCRATCH = tempfile.mkdtemp(prefix="install-", dir=tap.BUILD)
PREFIX = os.path.join(SCRATCH, "prefix")
CMAKE_PROJECT = """cmake_minimum_required(VERSION 3.16)
project(consumer C)
%s
add_executable(consumer %s)
target_link_libraries(consumer %s)
"""


def make(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return tap.run("make", "-s", "-C", tap.ROOT, "BUILD=" + tap.BUILD, *arguments, env=environment)


def run_consumer(program, **environment):
    done = tap.run(program, env=dict(os.environ, **environment))
    assert done.stdout.endswith(": 820\n"), done.stdout


def cmake():
    """The command; from build/optional where the machine has none."""
    for path in [shutil.which("cmake")] + glob.glob(
        os.path.join(tap.BUILD, "optional", "cmake", "cmake", "data", "bin", "cmake")
    ):
        if path and subprocess.call([path, "--version"], stdout=subprocess.DEVNULL) == 0:
            return path
    return tap.skip("cmake is not installed")


def build_with_cmake(name, take_in, target, *options):
    folder = os.path.join(SCRATCH, name)
    os.mkdir(folder)
    with open(os.path.join(folder, "CMakeLists.txt"), "w") as file:
        file.write(CMAKE_PROJECT % (take_in, CONSUMER, target))
    tap.run(
        cmake(), "-S", folder, "-B", folder + "/build", "-DCMAKE_PREFIX_PATH=" + PREFIX, *options
    )
    tap.run(cmake(), "--build", folder + "/build", "--parallel", "2", timeout=170)
    run_consumer(folder + "/build/consumer")


def test_install_puts_every_file_in_its_place():
    make("install", "PREFIX=" + PREFIX)
    for name in (
        "bin/deepgemm",
        "include/deepgemm.h",
        "lib/libdeepgemm.a",
        "lib/libdeepgemm.so",
        "lib/pkgconfig/deepgemm.pc",
        "lib/cmake/deepgemm/deepgemm-config.cmake",
    ):
        assert os.path.exists(os.path.join(PREFIX, name)), name + " is missing"
    text = open(os.path.join(PREFIX, "lib/pkgconfig/deepgemm.pc")).read()
    assert "@" not in text, text


def test_install_under_destdir_names_the_prefix_only():
    stage = os.path.join(SCRATCH, "stage")
    make("install", "DESTDIR=" + stage, "PREFIX=/opt/dg", "LIBDIR=lib64")
    text = open(stage + "/opt/dg/lib64/pkgconfig/deepgemm.pc").read()
    assert "prefix=/opt/dg\n" in text and stage not in text, text
    make("uninstall", "DESTDIR=" + stage, "PREFIX=/opt/dg", "LIBDIR=lib64")
    left = [name for _, _, names in os.walk(stage) for name in names]
    assert not left, left


def test_plain_flags_link_the_shared_library():
    program = os.path.join(SCRATCH, "plain-shared")
    tap.run(
        *CC,
        "-I" + PREFIX + "/include",
        CONSUMER,
        "-o",
        program,
        "-L" + PREFIX + "/lib",
        "-ldeepgemm"
    )
    run_consumer(program, LD_LIBRARY_PATH=PREFIX + "/lib")


def test_plain_flags_link_the_static_library():
    program = os.path.join(SCRATCH, "plain-static")
    tap.run(
        *CC,
        "-I" + PREFIX + "/include",
        CONSUMER,
        "-o",
        program,
        PREFIX + "/lib/libdeepgemm.a",
        "-lm",
        "-ldl",
        "-lpthread"
    )
    run_consumer(program)


def pkg_config(*arguments):
    if not shutil.which("pkg-config"):
        tap.skip("pkg-config is not installed")
    environment = dict(os.environ, PKG_CONFIG_PATH=PREFIX + "/lib/pkgconfig")
    return tap.run("pkg-config", *arguments, "deepgemm", env=environment).stdout.split()


def test_pkg_config_flags_link_the_shared_library():
    program = os.path.join(SCRATCH, "pkg-shared")
    tap.run(*CC, CONSUMER, "-o", program, *pkg_config("--cflags", "--libs"))
    run_consumer(program, LD_LIBRARY_PATH=PREFIX + "/lib")


def test_pkg_config_flags_link_statically():
    program = os.path.join(SCRATCH, "pkg-static")
    flags = pkg_config("--static", "--cflags", "--libs")
    flags = ["-l:libdeepgemm.a" if flag == "-ldeepgemm" else flag for flag in flags]
    tap.run(*CC, CONSUMER, "-o", program, *flags)
    run_consumer(program)


def test_pkg_config_version_is_that_of_the_header():
    version = make("print-version").stdout.strip()
    assert pkg_config("--modversion") == [version]


def test_cmake_finds_the_installed_shared_library():
    build_with_cmake("find-shared", "find_package(deepgemm 0.1 REQUIRED)", "deepgemm::deepgemm")


def test_cmake_finds_the_installed_static_library():
    build_with_cmake("find-static", "find_package(deepgemm REQUIRED)", "deepgemm::static")


def test_cmake_takes_the_tree_in_as_a_subdirectory():
    build_with_cmake(
        "subdirectory", "add_subdirectory(%s deepgemm)" % tap.ROOT, "deepgemm::deepgemm"
    )


def test_cmake_subdirectory_builds_shared_too():
    build_with_cmake(
        "subdirectory-shared",
        "add_subdirectory(%s deepgemm)" % tap.ROOT,
        "deepgemm::deepgemm",
        "-DBUILD_SHARED_LIBS=ON",
    )


if __name__ == "__main__":
    try:
        tap.main()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
