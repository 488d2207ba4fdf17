# SPDX-License-Identifier: MIT
# test_testing.py - deep_gemm.testing: measures, decorators, and how times are found by names of
# kernels.
import os
import time

import numpy as np

from common import DEVICE, KITS, deep_gemm, main, need_torch, refused, tap, torch

from deep_gemm.testing.bench import times_of

testing = deep_gemm.testing


def test_calc_diff_follows_its_formula():
    for kit in KITS:
        x, y = kit.f32([[1.0, 2.0]]), kit.f32([[1.0, 4.0]])
        assert testing.calc_diff(x, x) == 0.0
        assert abs(testing.calc_diff(x, y) - (1 - 2 * 9 / 22)) < 1e-12
        zero = kit.f32([[0.0]])
        assert testing.calc_diff(zero, zero) == 0.0
        nan = kit.f32([[np.nan]])
        assert (
            np.isnan(testing.calc_diff(nan, zero + 1)) and not testing.calc_diff(nan, zero + 1) < 1
        )
    assert deep_gemm.calc_diff is testing.calc_diff


def test_count_bytes_walks_nested_tuples():
    for kit in KITS:
        x, y = kit.f32(np.zeros((3, 4))), kit.fp8(np.zeros((5,)))
        assert testing.count_bytes(x, None, (y, [x, (None, y)])) == 48 + 5 + 48 + 5


def test_bitwise_comparison_sees_one_bit():
    for kit in KITS:
        x = kit.f32([[1.0, np.nan], [0.0, 3.0]])
        testing.assert_bitwise_equal(x, kit.f32([[1.0, np.nan], [0.0, 3.0]]))
        for other in ([[1.0, np.nan], [-0.0, 3.0]], [[1.0, np.nan], [0.0, 3.0000002]]):
            refused(
                lambda: testing.assert_bitwise_equal(x, kit.f32(other), "here"), "here", "1 of 4",
                error=AssertionError,
            )  # fmt: skip
        refused(lambda: testing.assert_bitwise_equal(x, x[:1]), "shape", error=AssertionError)
        refused(
            lambda: testing.assert_bitwise_equal(x, kit.i32([[1, 2], [3, 4]])), error=AssertionError
        )


def test_filters_skip_and_environment_is_restored():
    ran = []

    @testing.test_filter(lambda: bool(ran))
    def later(value):
        ran.append(value)
        return value

    assert later(1) is None and ran == []
    ran.append(0)
    assert later(2) == 2 and ran == [0, 2]
    os.environ["DG_TEST_VARIABLE"] = "kept"

    @testing.ignore_env("DG_TEST_VARIABLE", lambda: True)
    def without():
        return os.environ.get("DG_TEST_VARIABLE")

    @testing.ignore_env("DG_TEST_VARIABLE", lambda: False)
    def with_it():
        return os.environ.get("DG_TEST_VARIABLE")

    assert without() is None and with_it() == "kept" and os.environ["DG_TEST_VARIABLE"] == "kept"


def test_times_are_found_by_substrings():
    rows = [
        ("sm90_fp8_gemm_1d2d", 3.0, 30), ("other_kernel", 1.0, 10), ("x" * 100 + "late", 5.0, 1),
        ("sm90_transpose", 2.0, 4),
    ]  # fmt: skip
    assert times_of(rows, "fp8_gemm") == 0.1
    assert times_of(rows, ("fp8_gemm", "transpose", "none")) == (0.1, 0.5, 0)
    assert times_of(rows, "late") == 0
    refused(lambda: times_of(rows, "e"), error=AssertionError)
    assert times_of(rows, "er", True) == 0.1


def test_benches_return_seconds():
    need_torch()
    if DEVICE == "cpu":
        assert 0.001 <= testing.bench(lambda: time.sleep(0.001), 1, 3) < 0.5
        times = testing.bench_kineto(lambda: time.sleep(0.001), ("a", "b"), num_tests=2)
        assert len(times) == 2 and times[0] >= 0.001
    os.environ["DG_USE_NVIDIA_TOOLS"] = "1"
    try:
        assert testing.bench_kineto(None, "gemm_") == 1
        assert testing.bench_kineto(None, ("gemm_", "transpose")) == (1, 1)
    finally:
        del os.environ["DG_USE_NVIDIA_TOOLS"]


def test_silence_holds_for_c_and_ends():
    code = (
        "import os, sys\nfrom deep_gemm.testing import suppress_stdout_stderr, empty_suppress\n"
        "with suppress_stdout_stderr():\n    print('no'); os.write(1, b'no'); os.write(2, b'no')\n"
        "with empty_suppress():\n    print('yes')\n"
    )
    import sys

    done = tap.run(sys.executable, "-c", code, env=dict(os.environ))
    assert done.stdout == "yes\n" and done.stderr == ""


def test_the_architecture_is_that_of_the_device():
    if DEVICE == "cuda":
        assert testing.get_arch_major() == torch.cuda.get_device_capability()[0]
    else:
        refused(testing.get_arch_major, "CUDA")


if __name__ == "__main__":
    main()
