# SPDX-License-Identifier: MIT
# test_tools.py - the tools that judge the tree are judged here: the test runner has to notice every
# way a program can fail, the include and size checks every kind of violation.
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

SCRATCH = tempfile.mkdtemp(prefix="tools-", dir=tap.BUILD)


def write(name, text):
    path = os.path.join(SCRATCH, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


def closing_line(source, *options, status):
    """What the runner says last of one program with this text."""
    program = [write("program.py", source)] if source is not None else []
    done = tap.run(
        sys.executable, tap.ROOT + "/tools/run_tests.py", *options, *program, status=status
    )
    return done.stdout.splitlines()[-1]


def test_lines_are_counted_one_by_one():
    text = 'print("ok 1 - a\\nok 2 - b\\nok 3 - c # SKIP no GPU\\n1..3")'
    assert closing_line(text, status=0) == "2 passed, 0 failed, 1 skipped"


def test_a_failed_line_fails_the_run():
    text = 'print("ok 1 - a\\nnot ok 2 - b\\n1..2"); raise SystemExit(1)'
    assert closing_line(text, status=1) == "1 passed, 1 failed"


def test_a_failed_line_fails_the_run_whatever_the_exit_status():
    assert closing_line('print("ok 1 - a\\nnot ok 2 - b\\n1..2")', status=1) == "1 passed, 1 failed"


def test_a_crash_after_passed_tests_is_a_failure():
    text = 'import os; print("ok 1 - a", flush=True); os.kill(os.getpid(), 11)'
    assert closing_line(text, status=1) == "1 passed, 1 failed"


def test_an_exit_status_without_a_failed_line_is_a_failure():
    assert closing_line('print("ok 1 - a"); raise SystemExit(1)', status=1) == "1 passed, 1 failed"
    assert closing_line('print("ok 1 - a"); raise SystemExit(3)', status=1) == "1 passed, 1 failed"


def test_a_program_that_hangs_is_ended_and_fails():
    text = 'import time; print("ok 1 - a", flush=True); time.sleep(60)'
    assert closing_line(text, "--timeout", "1", status=1) == "1 passed, 1 failed"


def test_fewer_tests_than_announced_is_a_failure():
    assert closing_line('print("1..2\\nok 1 - a")', status=1) == "1 passed, 1 failed"


def test_a_silent_program_is_a_failure():
    assert closing_line("pass", status=1) == "0 passed, 1 failed"


def test_a_run_without_an_executed_test_is_a_failure():
    skipping = 'print("# no GPU"); raise SystemExit(77)'
    assert closing_line(None, status=1) == "0 passed, 1 failed"
    assert closing_line(skipping, status=1) == "0 passed, 1 failed, 1 skipped"
    assert closing_line(skipping, "--may-skip", status=0) == "0 passed, 0 failed, 1 skipped"


def scratch_tree(name, **files):
    """A copy of a tool with a tree of its own around it; the tool's path."""
    tree = "%s-tree" % name
    shutil.rmtree(os.path.join(SCRATCH, tree), ignore_errors=True)
    for path, text in files.items():
        write(tree + "/" + path.replace("__", "/").replace("_DOT_", "."), text)
    write(tree + "/docs/ARCHITECTURE.md", open(tap.ROOT + "/docs/ARCHITECTURE.md").read())
    return write(tree + "/tools/" + name, open(tap.ROOT + "/tools/" + name).read())


def test_an_include_against_the_table_is_found():
    tool = scratch_tree(
        "check_layers.py",
        src__base__a_DOT_h='#include "plan/p.h"\n',
        src__plan__p_DOT_h="",
        src__backend__cpu__c_DOT_c='#include "../sm90/s.h"\n#include "base/a.h"\n',
        src__backend__sm90__s_DOT_h="",
    )
    text = tap.run(sys.executable, tool, status=1).stdout
    assert "src/base/a.h:1: src/base may not include src/plan/p.h" in text, text
    assert "src/backend/cpu/c.c:1: src/backend/X may not include src/backend/sm90/s.h" in text, text
    assert "2 violations" in text, text


def test_includes_by_the_table_pass():
    tool = scratch_tree(
        "check_layers.py",
        src__base__a_DOT_h="",
        src__jit__j_DOT_c='#include "base/a.h"\n',
        src__backend__cpu__c_DOT_c='#include "c.h"\n#include "base/a.h"\n',
        src__backend__cpu__c_DOT_h="",
    )
    assert "0 violations" in tap.run(sys.executable, tool).stdout


def test_long_files_and_functions_are_found_unless_waived():
    long_function = "int f(void)\n{\n" + "    g();\n" * 100 + "}\n"
    tool = scratch_tree(
        "size_report.py",
        a_DOT_c=long_function,
        b_DOT_c="\n" * 601,
        c_DOT_c="// size waiver: a table\n" + "\n" * 601,
    )
    text = tap.run(sys.executable, tool, status=1).stdout
    assert "a.c:2: a function of 102 lines" in text and "b.c: 601 lines" in text, text
    assert "c.c" not in text and "2 over a cap" in text, text


def test_without_a_package_index_the_setup_says_so_and_goes_on():
    environment = dict(
        os.environ, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_CONFIG_FILE=os.devnull
    )
    environment.pop("PIP_FIND_LINKS", None)
    done = tap.run(
        sys.executable,
        tap.ROOT + "/tools/optional_packages.py",
        SCRATCH + "/optional",
        env=environment,
    )
    assert "skip" in done.stdout, done.stdout


if __name__ == "__main__":
    try:
        tap.main()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
