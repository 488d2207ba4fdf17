#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# run_tests.py - runs test programs and adds up their TAP lines: run_tests.py [--jobs N] [--timeout
# S] PROGRAM...  A *.py argument runs under this python.  What failed or was skipped is shown, what
# passed is counted.  The last line is `N passed, N failed` (`, N skipped`).  A crash, a timeout, a
# program that says nothing and a run without a single executed test are failures.
import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import time

LINE = re.compile(
    r"^(ok|not ok)\b\s*\d*\s*-?\s*([^#]*?)\s*(?:#\s*(SKIP|TODO)\b\s*(.*))?$", re.IGNORECASE
)
PLAN = re.compile(r"^1\.\.(\d+)")
SKIPPED = 77  # exit status of a program whose tests were all skipped


class Result:
    def __init__(self, program):
        self.program, self.seconds, self.output = program, 0.0, ""
        self.passed, self.failures, self.skips = 0, [], []


def execute(program, timeout):
    """Runs one program in a process group of its own; (exit status or None on timeout, output)."""
    command = [sys.executable, program] if program.endswith(".py") else [os.path.abspath(program)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return 127, "# cannot start: %s\n" % error
    try:
        output, status = process.communicate(timeout=timeout)[0], process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, status = process.communicate()[0], None
    return status, output.decode("utf-8", "replace")


def read_tap(result, status, timeout):
    planned = None
    for line in result.output.splitlines():
        plan, match = PLAN.match(line), LINE.match(line)
        if plan:
            planned = int(plan.group(1))
        elif match:
            verdict, name, directive, reason = match.groups()
            if directive and directive.upper() == "SKIP":
                result.skips.append((name, reason))
            elif verdict == "ok":
                result.passed += 1
            else:
                result.failures.append(name)
    seen = result.passed + len(result.failures) + len(result.skips)
    if status is None:
        result.failures.append("no end within %g s" % timeout)
    elif status < 0:
        result.failures.append("ended by %s" % signal.Signals(-status).name)
    elif seen == 0 and status != SKIPPED:
        result.failures.append("no test line; exit status %d" % status)
    elif status not in (0, 1, SKIPPED) or (status == 1 and not result.failures):
        result.failures.append("exit status %d" % status)
    elif planned is not None and planned != seen:
        result.failures.append("%d tests announced, %d seen" % (planned, seen))
    if seen == 0 and status == SKIPPED:
        result.skips.append(("all", result.output.strip().replace("\n", " ") or "no reason given"))


def run(program, timeout):
    result = Result(program)
    start = time.monotonic()
    status, result.output = execute(program, timeout)
    result.seconds = time.monotonic() - start
    read_tap(result, status, timeout)
    return result


def show(result):
    verdict = "FAILED" if result.failures else "ok"
    print(
        "%-6s %s: %d passed, %d failed, %d skipped (%.1f s)"
        % (
            verdict,
            result.program,
            result.passed,
            len(result.failures),
            len(result.skips),
            result.seconds,
        )
    )
    for name, reason in result.skips:
        print("       skipped %s: %s" % (name, reason))
    if result.failures:
        for line in result.output.splitlines()[-200:]:
            print("       | " + line)
        for name in result.failures:
            print("       failed: " + name)
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description="Runs test programs and adds up their TAP lines.")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--timeout", type=float, default=180, help="seconds per program")
    parser.add_argument(
        "--may-skip", action="store_true", help="it is no failure if all is skipped"
    )
    parser.add_argument("programs", nargs="*")
    options = parser.parse_args()
    # A job in the background of a shell ignores these, its children would too, and tests of an
    # interruption would wait for it in vain.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    results = []
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        waiting = [pool.submit(run, program, options.timeout) for program in options.programs]
        for done in concurrent.futures.as_completed(waiting):
            results.append(done.result())
            show(results[-1])
    passed = sum(result.passed for result in results)
    failed = sum(len(result.failures) for result in results)
    skipped = sum(len(result.skips) for result in results)
    if passed + failed == 0 and not (skipped and options.may_skip):
        print("no test was executed")
        failed = 1
    print("%d passed, %d failed" % (passed, failed) + (", %d skipped" % skipped if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
