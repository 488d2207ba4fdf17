# SPDX-License-Identifier: MIT
# test_compile.py - deep_gemm under torch.compile: whole graphs without a break, sizes that change
# without a new compilation, results equal to eager ones; operators are registered only when they
# are needed.
import os
import sys


from common import DEVICE, TORCH, Operand, deep_gemm, main, need_torch, tap, torch

BACKEND = "inductor" if DEVICE == "cuda" else "aot_eager"


def compiled(function, dynamic=None):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=BACKEND, dynamic=dynamic)


def same(function, arguments, dynamic=None):
    """Compiled and eager results have the same bytes."""
    eager, traced = function(*arguments), compiled(function, dynamic)(*arguments)
    assert eager.shape == traced.shape and eager.stride() == traced.stride()
    deep_gemm.testing.assert_bitwise_equal(eager, traced)
    return traced


def test_dense_calls_compile_whole():
    need_torch()
    a, b = Operand((48, 256)).pair(TORCH), Operand((64, 256), 128).pair(TORCH)

    def linear(x, sx, w, sw):
        d = torch.empty(x.shape[0], w.shape[0], dtype=torch.bfloat16, device=x.device)
        deep_gemm.fp8_gemm_nt((x, sx), (w, sw), d, disable_ue8m0_cast=True)
        return d * 2

    same(linear, a + b)
    one = Operand((64, 256), 1).pair(TORCH)

    def gradient(x, sx, w, sw):
        d = torch.zeros(x.shape[0], w.shape[0], dtype=torch.float32, device=x.device)
        deep_gemm.fp8_gemm_nt((x, sx), (w, sw), d, c=d, recipe=(1, 1, 128))
        return d + 1

    same(gradient, a + one)

    def exchanged(x, sx, w, sw):
        d = x.new_empty((x.shape[0], w.shape[0]), dtype=torch.bfloat16)
        deep_gemm.fp8_gemm_nn((x, sx), (w.t(), sw.t()), d, None, None, (1, 128), (128, 128))
        return d

    same(exchanged, a + b)


def test_a_new_m_needs_no_new_compilation():
    need_torch()
    b = Operand((64, 256), 128).pair(TORCH)
    traces = []

    def backend(graph, inputs):
        traces.append(graph)
        return graph

    def linear(x, sx):
        d = torch.empty(x.shape[0], 64, dtype=torch.bfloat16, device=x.device)
        deep_gemm.fp8_gemm_nt((x, sx), b, d)
        return d.float().sum(dim=1)

    torch._dynamo.reset()
    fast = torch.compile(linear, fullgraph=True, backend=backend, dynamic=True)
    for m in (48, 33, 7, 130):
        a = Operand((m, 256)).pair(TORCH)
        assert torch.equal(fast(*a), linear(*a))
    assert len(traces) == 1, "%d compilations" % len(traces)


def test_casts_and_a_multiplication_compile_together():
    need_torch()
    w, sw = Operand((64, 256), 128).pair(TORCH)

    def linear(x):
        q, sf = deep_gemm.per_token_cast_to_fp8(x, use_ue8m0=False)
        d = torch.empty(x.shape[0], 64, dtype=torch.bfloat16, device=x.device)
        deep_gemm.fp8_gemm_nt((q, deep_gemm.get_mn_major_tma_aligned_tensor(sf)), (w, sw), d)
        return d

    x = torch.randn(40, 256, device=DEVICE)
    eager, traced = linear(x), compiled(linear)(x)
    assert deep_gemm.calc_diff(eager, traced) < 1e-4


def test_grouped_calls_compile_whole():
    need_torch()
    a, b = Operand((256, 128)).pair(TORCH), Operand((2, 64, 128), 128).pair(TORCH)
    index, counts = TORCH.i32([0] * 128 + [1] * 128), TORCH.i32([60, 3])

    def contiguous(x, sx, w, sw, layout):
        d = torch.empty(256, 64, dtype=torch.bfloat16, device=x.device)
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous((x, sx), (w, sw), d, m_indices=layout)
        return d

    def masked(x, sx, w, sw, layout):
        d = torch.zeros(2, 64, 64, dtype=torch.bfloat16, device=x.device)
        left = (x.view(2, 128, 128)[:, :64], sx.view(2, 128, 1)[:, :64])
        deep_gemm.fp8_m_grouped_gemm_nt_masked(left, (w, sw), d, layout, 30)
        return d

    same(contiguous, a + b + (index,))
    same(masked, a + b + (counts,))
    left, right = Operand((16, 256)).pair(TORCH), Operand((24, 256), 1).pair(TORCH)

    def k_grouped(x, sx, w, sw, layout):
        d = torch.zeros(2, 16, 24, dtype=torch.float32, device=x.device)
        deep_gemm.k_grouped_fp8_gemm_nt_contiguous(
            (x.view(-1), sx), (w.view(-1), sw), d, [128, 128], layout, d
        )
        return d

    same(k_grouped, left + right + (TORCH.i32([128, 128]),))


def test_logits_compile_whole():
    need_torch()
    import test_attention

    problem = test_attention.Plain(s=8)
    q, kv, weights, start, end = problem.arguments(TORCH)

    def plain(q, keys, scales, weights, start, end):
        return deep_gemm.fp8_mqa_logits(q, (keys, scales), weights, start, end)

    same(plain, (q,) + kv + (weights, start, end))
    paged_problem, sms = test_attention.Paged(), test_attention.sms()

    def paged(q, cache, weights, lens, table):
        schedule = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, sms)
        return deep_gemm.fp8_fp4_paged_mqa_logits(
            (q, None), cache, weights, lens, table, schedule, 300, True, torch.bfloat16
        )

    same(paged, (
        TORCH.fp8(paged_problem.q), paged_problem.cache_of(TORCH), TORCH.f32(paged_problem.weights),
        TORCH.i32(paged_problem.lens), TORCH.i32(paged_problem.table),
    ))  # fmt: skip


def test_operators_pass_torchs_own_checks():
    need_torch()
    from deep_gemm import _torch_ops  # noqa: F401

    a, b = Operand((48, 256)).pair(TORCH), Operand((64, 256), 128).pair(TORCH)
    d = torch.empty(48, 64, dtype=torch.bfloat16, device=DEVICE)
    torch.library.opcheck(
        torch.ops.deep_gemm.fp8_gemm.default, ("nt", *a, *b, d, None, None, None, None),
        test_utils="test_faketensor",  # its check of schemas cannot compare FP8
    )  # fmt: skip
    lens = TORCH.i32([[5], [9]])
    torch.library.opcheck(
        torch.ops.deep_gemm.paged_mqa_logits_metadata.default,
        (lens, 64, 132 if DEVICE == "cpu" else deep_gemm.get_num_sms()),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip


def test_fake_tensors_reach_the_operators():
    need_torch()
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(5, 256, dtype=torch.float8_e4m3fn, device=DEVICE)
        w = torch.empty(64, 256, dtype=torch.float8_e4m3fn, device=DEVICE)
        d = torch.empty(5, 64, dtype=torch.bfloat16, device=DEVICE)
        sx, sw = torch.empty(5, 2, device=DEVICE), torch.empty(1, 2, device=DEVICE)
        deep_gemm.fp8_gemm_nt((x, sx), (w, sw), d)
        q = torch.empty(5, 32, 64, dtype=torch.float8_e4m3fn, device=DEVICE)
        keys = torch.empty(70, 64, dtype=torch.float8_e4m3fn, device=DEVICE)
        ends = torch.empty(5, dtype=torch.int32, device=DEVICE)
        logits = deep_gemm.fp8_mqa_logits(
            q, (keys, torch.empty(70, device=DEVICE)), torch.empty(5, 32, device=DEVICE), ends, ends
        )
        assert tuple(logits.shape) == (5, 70) and logits.stride(0) * 4 % 1024 == 0


def test_operators_are_registered_only_when_needed():
    need_torch()
    text = (
        "import torch, deep_gemm, sys\n"
        "x = torch.zeros(4, 128).to(torch.float8_e4m3fn); s = torch.ones(4, 1)\n"
        "deep_gemm.fp8_gemm_nt((x, s), (x, s[:1]), torch.empty(4, 4))\n"
        "print('deep_gemm._torch_ops' in sys.modules)"
    )
    assert tap.run(sys.executable, "-c", text, env=dict(os.environ)).stdout.strip() == "False"


if __name__ == "__main__":
    main()
