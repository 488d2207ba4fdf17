# SPDX-License-Identifier: MIT
# test_memo.py - the tests of dense and grouped calls with the bridge left out, as with a torch that
# does not offer what it needs: plain calls are then repeated from memory.
import os
import subprocess
import sys

from common import TORCH, Operand, deep_gemm, main, need_torch, tap, torch


def run(name):
    need_torch()
    done = subprocess.run(
        [sys.executable, os.path.join(tap.ROOT, "tests", "python", name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, DG_TEST_BRIDGE="0"),
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_dense_calls_pass_their_tests():
    run("test_dense.py")


def test_grouped_calls_pass_their_tests():
    run("test_grouped.py")


def test_wrong_calls_are_refused_all_the_same():
    run("test_refusals.py")


def test_memory_holds_what_differs_apart_and_is_bounded():
    need_torch()
    from deep_gemm import _fast, _memo

    kept = _fast._opened, _fast.gemm_nt, _fast.grouped_nt, _memo.LIMIT
    _fast._opened, _memo.LIMIT = False, 5
    _fast.gemm_nt = _memo.gemm_nt
    try:
        for m in range(1, 9):
            a, b = Operand((m, 128)).pair(TORCH), Operand((8, 128), 128).pair(TORCH)
            for dtype in (torch.float32, torch.bfloat16):
                d = torch.empty(m, 8, dtype=dtype, device=a[0].device)
                deep_gemm.fp8_gemm_nt(a, b, d)
                again = torch.empty_like(d)
                assert _fast.gemm_nt(0, (a, b, again), 128) == 0
                assert torch.equal(d, again)
                assert len(_memo._calls) <= 5
        deep_gemm.set_pdl(True)
        assert not _memo._calls
    finally:
        deep_gemm.set_pdl(False)
        _memo.forget()
        _fast._opened, _fast.gemm_nt, _fast.grouped_nt, _memo.LIMIT = kept


if __name__ == "__main__":
    main()
