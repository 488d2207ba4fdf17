# SPDX-License-Identifier: MIT
# tap.py - the harness of the test scripts, as harness.h is for the test programs: a script defines
# functions test_<situation>_<expectation> and ends with tap.main().  An assertion or exception
# fails a test, tap.skip(reason) skips it.  Python's standard library only.
import os
import subprocess
import sys
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build")))
COMMAND = os.path.join(BUILD, "deepgemm")


class Skip(Exception):
    pass


def skip(reason):
    raise Skip(reason)


def run(*arguments, status=0, timeout=120, **options):
    """Runs a command; fails the test unless it ends with `status` (None: any).  The finished
    process, with stdout and stderr as text."""
    done = subprocess.run(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=timeout,
        universal_newlines=True,
        **options
    )
    assert status is None or done.returncode == status, "%s\nended with %d, not %d\n%s%s" % (
        " ".join(arguments),
        done.returncode,
        status,
        done.stdout,
        done.stderr,
    )
    return done


def main():
    tests = [
        (name, value)
        for name, value in vars(sys.modules["__main__"]).items()
        if name.startswith("test_") and callable(value)
    ]
    failed = skipped = 0
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
            print("ok %d - %s" % (number, name))
        except Skip as reason:
            skipped += 1
            print("ok %d - %s # SKIP %s" % (number, name, reason))
        except Exception:
            failed += 1
            print(
                "".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), end=""
            )
            print("not ok %d - %s" % (number, name))
        sys.stdout.flush()
    print("1..%d" % len(tests))
    sys.exit(1 if failed else 77 if skipped == len(tests) else 0)
