# SPDX-License-Identifier: MIT
# test_refusals.py - wrong calls of deep_gemm's functions: each raises with a text that names the
# argument and the rule, and writes nothing.
import numpy as np

from common import (
    DEVICE,
    KITS,
    TORCH,
    Operand,
    Output,
    deep_gemm,
    main,
    need_torch,
    refused,
    tap,
    torch,
)


def fp32_like(kit, pair):
    return kit.f32(np.ones(tuple(pair[0].shape))), pair[1]


def dense(kit, m=32, n=48, k=256, dtype="bfloat16"):
    a, b = Operand((m, k)).pair(kit), Operand((n, k), 128).pair(kit)
    return a, b, Output(kit, (m, n), dtype)


# What is wrong: (words of the text, error, function of (kit, a, b, d) that makes the call)
def call(*arguments, **keywords):
    deep_gemm.fp8_gemm_nt(*arguments, **keywords)


DENSE = [
    (["a[0]", "dtype", "float8_e4m3fn"], lambda kit, a, b, d: call(fp32_like(kit, a), b, d)),
    (["b[0]", "dtype", "float8_e4m3fn"], lambda kit, a, b, d: call(a, fp32_like(kit, b), d)),
    (["a[1]", "dtype", "float32"], lambda kit, a, b, d: call((a[0], kit.bf16(np.ones((32, 2)))), b, d)),
    (["d", "dtype", "bfloat16"], lambda kit, a, b, d: call(a, b, kit.i32(np.ones((32, 48))))),
    (["a[0]", "b[0]", "k"], lambda kit, a, b, d: call(a, (b[0][:, :128], b[1][:, :1]), d)),
    (["d", "[32, 48]"], lambda kit, a, b, d: call(a, b, d[:31])),
    (["d", "2 dimensions"], lambda kit, a, b, d: call(a, b, d[None])),
    (["a[0]", "2 dimensions"], lambda kit, a, b, d: call((a[0][None], a[1]), b, d)),
    (["a", "scales"], lambda kit, a, b, d: call((a[0], a[1][:, :1]), b, d)),
    (["b", "scales"], lambda kit, a, b, d: call(a, (b[0], kit.f32(np.ones((48, 2)))), d)),
    (["b", "scales"], lambda kit, a, b, d: call(a, b, d, None, (1, 1, 128))),
    (["recipe", "(1, 128, 128)"], lambda kit, a, b, d: call(a, b, d, recipe=(1, 64, 128))),
    (["recipe", "3 numbers"], lambda kit, a, b, d: call(a, b, d, recipe=(1, 128))),
    (["recipe", "together"], lambda kit, a, b, d: call(a, b, d, recipe=(1, 128, 128), recipe_a=(1, 128))),
    (["recipe_b", "together"], lambda kit, a, b, d: call(a, b, d, recipe_a=(1, 128))),
    (["recipe_a", "together"], lambda kit, a, b, d: call(a, b, d, recipe_b=(128, 128))),
    (["recipe_a", "(1, 128)"], lambda kit, a, b, d: call(a, b, d, recipe_a=(1, 32), recipe_b=(128, 128))),
    (["recipe_b", "(128, 128)"], lambda kit, a, b, d: call(a, b, d, recipe_a=(1, 128), recipe_b=(32, 128))),
    (["compiled_dims"], lambda kit, a, b, d: call(a, b, d, compiled_dims="xyz")),
    (["c", "type"], lambda kit, a, b, d: call(a, b, d, kit.f32(np.ones((32, 48))))),
    (["c"], lambda kit, a, b, d: call(a, b, d, kit.bf16(np.ones((31, 48))))),
    (["d", "stride"], lambda kit, a, b, d: call(a, b, kit.strided(d, (32, 48), (1, 32), 0))),
    (["a"], lambda kit, a, b, d: call(a + a[:1], b, d)),
]  # fmt: skip
WRONG_KINDS = [
    (["a", "tuple"], lambda kit, a, b, d: call(a[0], b, d)),
    (["d", "tensor"], lambda kit, a, b, d: call(a, b, None)),
    (["a[0]", "tensor"], lambda kit, a, b, d: call((1.0, a[1]), b, d)),
    (["recipe", "tuple"], lambda kit, a, b, d: call(a, b, d, recipe=128)),
    (["compiled_dims", "str"], lambda kit, a, b, d: call(a, b, d, compiled_dims=3)),
]  # fmt: skip


def check(kit, table, error, make):
    warm_up(kit)
    for number, (words, wrong) in enumerate(table):
        operands, d = make(kit)
        try:
            refused(lambda: wrong(kit, *operands, d.tensor), *words, error=error)
        except AssertionError as failure:
            raise AssertionError("%s, row %d: %s" % (kit.name, number, failure)) from None
        assert d.untouched(), "%s, row %d wrote something" % (kit.name, number)


def warm_up(kit):
    """A right call of each kind, after which wrong ones reach the short way first."""
    for make, function, rest in (
        (make_dense, deep_gemm.fp8_gemm_nt, ()),
        (make_contiguous, grouped, ()),
        (make_masked, masked, (4,)),
    ):
        operands, d = make(kit)
        function(operands[0], operands[1], d.tensor, *operands[2:], *rest)


def make_dense(kit):
    a, b, d = dense(kit)
    return (a, b), d


def test_wrong_dense_calls_name_the_argument_and_write_nothing():
    for kit in KITS:
        check(kit, DENSE, RuntimeError, make_dense)
        check(kit, WRONG_KINDS, TypeError, make_dense)


def make_contiguous(kit):
    a, b = Operand((256, 128)), Operand((2, 64, 128), 128)
    index = kit.i32([0] * 128 + [1] * 128)
    return (a.pair(kit), b.pair(kit), index), Output(kit, (256, 64), "bfloat16")


def grouped(a, b, d, *rest, **keywords):
    deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, b, d, *rest, **keywords)


CONTIGUOUS = [
    (["grouped_layout", "int32"], lambda kit, a, b, x, d: grouped(a, b, d, kit.f32(np.zeros(256)))),
    (["grouped_layout", "[256]"], lambda kit, a, b, x, d: grouped(a, b, d, x[:128])),
    (["grouped_layout", "[2]"], lambda kit, a, b, x, d: grouped(a, b, d, x, use_psum_layout=True)),
    (["grouped_layout", "contiguous"], lambda kit, a, b, x, d: grouped(
        a, b, d, kit.i32(np.zeros(512))[::2])),
    (["expected_m_for_psum_layout"], lambda kit, a, b, x, d: grouped(
        a, b, d, x, expected_m_for_psum_layout=8)),
    (["b[0]", "3 dimensions"], lambda kit, a, b, x, d: grouped(a, (b[0][0], b[1][0]), d, x)),
    (["d", "[256, 64]"], lambda kit, a, b, x, d: grouped(a, b, d[:, :32], x)),
    (["b[0]", "0"], lambda kit, a, b, x, d: grouped(a, (b[0][:0], b[1][:0]), d, x)),
    (["b", "scales"], lambda kit, a, b, x, d: grouped(a, b, d, x, recipe=(1, 1, 128))),
]  # fmt: skip


def test_wrong_contiguous_calls_name_the_argument_and_write_nothing():
    for kit in KITS:
        check(kit, CONTIGUOUS, RuntimeError, make_contiguous)
        operands, d = make_contiguous(kit)
        a, b, index = operands
        refused(lambda: grouped(a, b, d.tensor), "grouped_layout", error=TypeError)
        refused(
            lambda: grouped(a, b, d.tensor, index, m_indices=index), "m_indices", error=TypeError
        )
        assert d.untouched()


def make_masked(kit):
    a, b = Operand((2, 64, 128)), Operand((2, 64, 128), 128)
    return (a.pair(kit), b.pair(kit), kit.i32([3, 5])), Output(kit, (2, 64, 64), "bfloat16")


def masked(*arguments, **keywords):
    deep_gemm.m_grouped_fp8_gemm_nt_masked(*arguments, **keywords)


MASKED = [
    (["masked_m", "[2]"], lambda kit, a, b, x, d: masked(a, b, d, x[:1], 4)),
    (["masked_m", "int32"], lambda kit, a, b, x, d: masked(a, b, d, kit.f32([1, 2]), 4)),
    (["groups"], lambda kit, a, b, x, d: masked((a[0][:1], a[1][:1]), b, d, x, 4)),
    (["a[0]", "3 dimensions"], lambda kit, a, b, x, d: masked((a[0][0], a[1][0]), b, d, x, 4)),
    (["recipe_a", "together"], lambda kit, a, b, x, d: masked(a, b, d, x, 4, recipe_b=(128, 128))),
    (["compiled_dims"], lambda kit, a, b, x, d: masked(a, b, d, x, 4, compiled_dims="xy")),
    (["d", "[2, 64, 64]"], lambda kit, a, b, x, d: masked(a, b, d[0], x, 4)),
]  # fmt: skip


def test_wrong_masked_calls_name_the_argument_and_write_nothing():
    for kit in KITS:
        check(kit, MASKED, RuntimeError, make_masked)
        (a, b, counts), d = make_masked(kit)
        refused(lambda: masked(a, b, d.tensor, counts), "expected_m", error=TypeError)
        refused(lambda: masked(a, b, d.tensor, counts, "many"), "expected_m", error=TypeError)
        assert d.untouched()


def make_k_grouped(kit):
    a, b = Operand((16, 256)), Operand((24, 256), 1)
    flat = lambda part: (part.pair(kit)[0].reshape(-1), part.pair(kit)[1])  # noqa: E731
    return (flat(a), flat(b), kit.i32([128, 128])), Output(kit, (2, 16, 24), "float32", None)


def k_grouped(a, b, d, *rest, **keywords):
    deep_gemm.k_grouped_fp8_gemm_nt_contiguous(a, b, d, *rest, **keywords)


K_GROUPED = [
    (["ks_cpu", "empty"], lambda kit, a, b, x, d: k_grouped(a, b, d, [], x, None)),
    (["ks_cpu[1]", "-128"], lambda kit, a, b, x, d: k_grouped(a, b, d, [384, -128], x, None)),
    (["ks_cpu", "group"], lambda kit, a, b, x, d: k_grouped(a, b, d, [256], x, None)),
    (["a[0]", "elements"], lambda kit, a, b, x, d: k_grouped(a, b, d, [128, 256], x, None)),
    (["grouped_layout", "[2]"], lambda kit, a, b, x, d: k_grouped(a, b, d, [128, 128], x[:1], None)),
    (["recipe", "(1, 1, 128)"], lambda kit, a, b, x, d: k_grouped(
        a, b, d, [128, 128], x, None, (1, 128, 128))),
    (["use_psum_layout"], lambda kit, a, b, x, d: k_grouped(
        a, b, d, [128, 128], x, None, use_psum_layout=True)),
    (["d", "3 dimensions"], lambda kit, a, b, x, d: k_grouped(a, b, d[0], [128, 128], x, None)),
]  # fmt: skip


def test_wrong_k_grouped_calls_name_the_argument_and_write_nothing():
    for kit in KITS:
        check(kit, K_GROUPED, RuntimeError, make_k_grouped)
        (a, b, layout), d = make_k_grouped(kit)
        refused(lambda: k_grouped(a, b, d.tensor, 256, layout), "ks_cpu", error=TypeError)
        refused(lambda: k_grouped(a, b, d.tensor, [128, 128]), "grouped_layout", error=TypeError)
        assert d.untouched()


def test_wrong_attention_calls_name_the_argument():
    for kit in KITS:
        q, keys = kit.fp8(np.zeros((4, 32, 64))), kit.fp8(np.zeros((70, 64)))
        scales, weights = kit.f32(np.ones(70)), kit.f32(np.ones((4, 32)))
        start, end = kit.i32(np.zeros(4)), kit.i32(np.ones(4))
        f = deep_gemm.fp8_fp4_mqa_logits
        table = [
            (["q[1]"], lambda: f((q, scales), (keys, scales), weights, start, end)),
            (["q", "dtype"], lambda: f(weights, (keys, scales), weights, start, end)),
            (["q", "3 dimensions"], lambda: f(q[0], (keys, scales), weights, start, end)),
            (["kv[0]", "agree"], lambda: f(q, (keys[:, :32], scales), weights, start, end)),
            (["kv[1]", "[70]"], lambda: f(q, (keys, scales[:9]), weights, start, end)),
            (["weights", "[4, 32]"], lambda: f(q, (keys, scales), weights[:3], start, end)),
            (["cu_seq_len_k_start", "[4]"], lambda: f(q, (keys, scales), weights, start[:3], end)),
            (["cu_seq_len_k_end", "int32"], lambda: f(q, (keys, scales), weights, start, scales[:4])),
            (["max_seqlen_k"], lambda: f(q, (keys, scales), weights, start, end, False, -1)),
            (["logits_dtype"], lambda: f(q, (keys, scales), weights, start, end, logits_dtype="float16")),
        ]  # fmt: skip
        for words, wrong in table:
            refused(wrong, *words)
        lens, metadata = kit.i32([5, 6]), deep_gemm.get_paged_mqa_logits_metadata
        refused(lambda: metadata(lens, 64, 132, indices=lens), "indices")
        refused(lambda: metadata(lens, 65, 132), "block_kv")
        refused(lambda: metadata(lens, 64, 0), "num_sms")
        refused(lambda: metadata(weights, 64, 132), "context_lens")


def test_wrong_paged_calls_name_the_argument():
    for kit in KITS:
        sms = deep_gemm.get_num_sms() if DEVICE == "cuda" else 8
        q = kit.fp8(np.zeros((2, 1, 32, 64)))
        bytes_of = np.zeros((3, 64, 1, 68), np.uint8)
        cache = torch.from_numpy(bytes_of).to(DEVICE) if kit is TORCH else bytes_of
        weights, lens = kit.f32(np.ones((2, 32))), kit.i32([[5], [6]])
        table = kit.i32([[0], [1]])
        meta = deep_gemm.get_paged_mqa_logits_metadata(lens, 64, sms)
        f = deep_gemm.fp8_fp4_paged_mqa_logits
        rows = [
            (["kv_cache", "68"], lambda: f(q, cache[..., :60], weights, lens, table, meta, 64)),
            (["kv_cache", "uint8"], lambda: f(q, weights, weights, lens, table, meta, 64)),
            (["context_lens", "[2, 1]"], lambda: f(q, cache, weights, lens[:1], table, meta, 64)),
            (["block_table", "int32"], lambda: f(q, cache, weights, lens, weights, meta, 64)),
            (["weights", "[2, 32]"], lambda: f(q, cache, weights[:1], lens, table, meta, 64)),
            (["schedule_meta", "2 dimensions"], lambda: f(q, cache, weights, lens, table, lens[0], 64)),
            (["max_context_len"], lambda: f(q, cache, weights, lens, table, meta, -1)),
            (["indices"], lambda: f(q, cache, weights, lens, table, meta, 64, indices=lens)),
            (["q[1]"], lambda: f((q, weights), cache, weights, lens, table, meta, 64)),
        ]  # fmt: skip
        for words, wrong in rows:
            refused(wrong, *words)


def test_tensors_on_different_devices_are_refused():
    need_torch()
    if DEVICE != "cuda":
        a, b, d = dense(TORCH)
        meta = torch.empty((32, 48), dtype=torch.bfloat16, device="meta")
        refused(lambda: call(a, b, meta), "d", "device")
        return
    a, b, d = dense(TORCH)
    refused(lambda: call((a[0].cpu(), a[1].cpu()), b, d.tensor), "device", "cuda:0", "CPU")
    refused(lambda: call(a, (b[0], b[1].cpu()), d.tensor), "b[1]", "device")
    assert d.untouched()


def test_read_only_outputs_are_refused():
    if DEVICE == "cuda":
        tap.skip("NumPy arrays live on the CPU")
    kit = KITS[0]
    a, b, d = dense(kit)
    d.tensor.flags.writeable = False
    refused(lambda: call(a, b, d.tensor), "d", "read-only")
    assert d.untouched()


def test_layouts_and_casts_refuse_by_name():
    for kit in KITS:
        x = kit.f32(np.ones((8, 128)))
        table = [
            (["sf", "dimensions"], lambda: deep_gemm.get_mn_major_tma_aligned_tensor(x[0])),
            (["sf.dtype"], lambda: deep_gemm.get_mn_major_tma_aligned_tensor(kit.i32(np.ones((4, 4))))),
            (["element_size"], lambda: deep_gemm.get_tma_aligned_size(3, 5)),
            (["x", "dimensions"], lambda: deep_gemm.per_token_cast_to_fp8(x[0], False)),
            (["x.dtype"], lambda: deep_gemm.per_block_cast_to_fp8(kit.i32(np.ones((4, 4))), False)),
            (["gran_k"], lambda: deep_gemm.per_token_cast_to_fp8(x, False, 0)),
            (["even"], lambda: deep_gemm.per_token_cast_to_fp4(x[:, :7], False)),
        ]  # fmt: skip
        for words, wrong in table:
            refused(wrong, *words)


def test_errors_carry_the_status_of_the_library():
    for kit in KITS:
        a, b, d = dense(kit)
        for wrong in (d.tensor[:31], kit.strided(d.tensor, (32, 48), (1, 32), 0)):
            try:
                deep_gemm.fp8_gemm_nt(a, b, wrong)
            except deep_gemm.Error as error:
                assert error.status == 1 and isinstance(error, RuntimeError)
            else:
                raise AssertionError("nothing was raised")


def test_a_refused_call_leaves_the_next_one_working():
    for kit in KITS:
        a, b, d = dense(kit)
        refused(lambda: call(a, b, d.tensor[:31]), "d")
        deep_gemm.fp8_gemm_nt(a, b, d.tensor)
        assert not np.isnan(d.values()).any() and not d.untouched()


if __name__ == "__main__":
    main()
