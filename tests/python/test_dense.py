# SPDX-License-Identifier: MIT
# test_dense.py - deep_gemm's dense FP8 functions against float64 products of the dequantised
# values: every name, layout, recipe, output and spelling of the arguments.
import sys

import numpy as np

from common import BRIDGE, KITS, TORCH, Operand, Output, assert_close, deep_gemm, main, need_torch
from common import random, torch

SHAPES = [(1, 1, 1), (1, 576, 512), (3, 7, 130), (64, 128, 128), (33, 200, 576), (130, 24, 1000)]


def product(a, b):
    return a.exact @ b.exact.swapaxes(-2, -1)


def check(kit, shape, dtype, block_n, c_mode, call, a_lead=None):
    m, n, k = shape
    a, b = Operand((m, k)), Operand((n, k), block_n)
    d = Output(kit, (m, n), dtype)
    expected = product(a, b)
    c = None
    if c_mode != "none":
        added = random.standard_normal((m, n)).astype(np.float32)
        if c_mode == "inplace":
            d.fill(added)
            c = d.tensor
        else:
            c = kit.f32(added) if dtype == "float32" else kit.bf16(added)
        expected = expected + kit.values(c)
    call(a, b, d.tensor, c)
    assert_close(d.values(), expected, dtype, "%s %s %s %s" % (kit.name, shape, dtype, c_mode))
    assert d.guards_intact(), "%s %s: bytes outside d were written" % (kit.name, shape)


def test_nt_matches_the_exact_product_in_every_output_form():
    for kit in KITS:
        for shape in SHAPES:
            for dtype in ("bfloat16", "float32"):
                for block_n, recipe in ((128, None), (128, (1, 128, 128)), (1, (1, 1, 128))):
                    for c_mode in ("none", "separate", "inplace"):

                        def call(a, b, d, c):
                            deep_gemm.fp8_gemm_nt(a.pair(kit), b.pair(kit), d, c, recipe)

                        check(kit, shape, dtype, block_n, c_mode, call)


def test_every_layout_name_reads_its_operands_as_it_says():
    for kit in KITS:
        for kind in ("nt", "nn", "tn", "tt"):
            for block_n, recipe in ((128, None), (1, (1, 1, 128))):
                for name in ("fp8_gemm_", "fp8_fp4_gemm_"):

                    def call(a, b, d, c):
                        left = a.transposed_pair(kit) if kind[0] == "t" else a.pair(kit)
                        right = b.transposed_pair(kit) if kind[1] == "n" else b.pair(kit)
                        getattr(deep_gemm, name + kind)(left, right, d, c=c, recipe=recipe)

                    check(kit, (37, 72, 208), "bfloat16", block_n, "none", call)


def test_views_with_the_dimensions_exchanged_are_read_in_place():
    for kit in KITS:

        def call(a, b, d, c):
            values, scales = b.pair(kit)
            deep_gemm.fp8_gemm_nn(a.pair(kit), (kit.swap(values), kit.swap(scales)), d)

        check(kit, (20, 128, 256), "bfloat16", 128, "none", call)


def test_recipes_in_pairs_and_lists_mean_the_same():
    for kit in KITS:
        for block_n, recipe_b in ((128, [128, 128]), (1, (1, 128))):

            def call(a, b, d, c):
                deep_gemm.fp8_fp4_gemm_nt(
                    list(a.pair(kit)), list(b.pair(kit)), d, c=None, disable_ue8m0_cast=True,
                    recipe=None, recipe_a=[1, 128], recipe_b=recipe_b,
                )  # fmt: skip

            check(kit, (17, 136, 384), "bfloat16", block_n, "none", call)


def test_older_positional_arguments_are_understood():
    for kit in KITS:
        calls = [
            lambda a, b, d: deep_gemm.fp8_gemm_nt(a, b, d, None, (1, 128, 128), "nk", True),
            lambda a, b, d: deep_gemm.fp8_gemm_nt(a, b, d, None, None, "mnk", False),
            lambda a, b, d: deep_gemm.fp8_gemm_nt(a, b, d, None, None, ""),
            lambda a, b, d: deep_gemm.fp8_gemm_nt(
                a, b, d, None, None, (1, 128), (128, 128), "nk", True
            ),
            lambda a, b, d: deep_gemm.fp8_gemm_nt(a, b, d, disable_ue8m0_cast=False),
            lambda a, b, d: deep_gemm.fp8_gemm_nt(a=a, b=b, d=d, compiled_dims="nk"),
            lambda a, b, d: deep_gemm.gemm_fp8_fp8_bf16_nt(a, b, d),
            lambda a, b, d: deep_gemm.gemm_fp8_fp8_bf16_nt(lhs=a, rhs=b, out=d),
        ]
        for form in calls:
            check(
                kit, (9, 64, 256), "bfloat16", 128, "none",
                lambda a, b, d, c: form(a.pair(kit), b.pair(kit), d),
            )  # fmt: skip


def test_scales_are_read_in_any_layout():
    for kit in KITS:
        m, n, k = 45, 300, 520

        def with_scales(transform):
            def call(a, b, d, c):
                (values, scales), (values_b, scales_b) = a.pair(kit), b.pair(kit)
                deep_gemm.fp8_gemm_nt(
                    (values, transform(scales)), (values_b, transform(scales_b)), d
                )

            return call

        def mn_major(scales):
            copy = kit.f32(np.ascontiguousarray(kit.values(scales).T))
            return kit.swap(copy)

        for transform in (mn_major, deep_gemm.get_mn_major_tma_aligned_tensor):
            check(kit, (m, n, k), "float32", 128, "none", with_scales(transform))


def test_packed_power_of_two_scales_give_the_bits_of_unpacked_ones():
    for kit in KITS:
        m, n, k = 50, 90, 1024
        a, b = Operand((m, k), 1, True), Operand((n, k), 1, True)
        plain, packed = Output(kit, (m, n), "float32"), Output(kit, (m, n), "float32")
        deep_gemm.fp8_gemm_nt(a.pair(kit), b.pair(kit), plain.tensor, None, (1, 1, 128))
        pack = deep_gemm.get_mn_major_tma_aligned_packed_ue8m0_tensor
        (x, sx), (y, sy) = a.pair(kit), b.pair(kit)
        for recipe in ((1, 1, 128), None):  # packed ones are known to be one per row
            deep_gemm.fp8_gemm_nt((x, pack(sx)), (y, pack(sy)), packed.tensor, None, recipe)
            assert (plain.snapshot() == packed.snapshot()).all()
            packed.fill(np.zeros((m, n)))


def test_sizes_of_zero_do_what_the_contract_says():
    for kit in KITS:
        for m, n in ((0, 64), (64, 0)):
            d = Output(kit, (m, n), "bfloat16")
            deep_gemm.fp8_gemm_nt(
                Operand((m, 128)).pair(kit), Operand((n, 128), 128).pair(kit), d.tensor
            )
            assert d.untouched()
        a, b = Operand((5, 0)), Operand((6, 0), 128)
        d = Output(kit, (5, 6), "float32")
        deep_gemm.fp8_gemm_nt(a.pair(kit), b.pair(kit), d.tensor)
        assert (d.values() == 0).all() and d.guards_intact()
        added = random.standard_normal((5, 6)).astype(np.float32)
        deep_gemm.fp8_gemm_nt(a.pair(kit), b.pair(kit), d.tensor, kit.f32(added))
        assert (d.values() == added).all()


def test_weight_gradients_of_version_1_add_to_out():
    for kit in KITS:
        a, b = Operand((48, 700)), Operand((40, 700), 1)
        start = random.standard_normal((48, 40)).astype(np.float32)
        for transposed in (False, True):
            out = Output(kit, (48, 40), "float32", None)
            out.fill(start)
            left, right = a.pair(kit), b.pair(kit)
            if transposed:
                left, right = (
                    (left[0], a.transposed_pair(kit)[1]),
                    (right[0], b.transposed_pair(kit)[1]),
                )
            deep_gemm.wgrad_gemm_fp8_fp8_fp32_nt(left, right, out=out.tensor)
            assert_close(out.values(), start + product(a, b), "float32")


def test_heads_with_a_gap_leave_the_gap_alone():
    for kit in KITS:
        left, mid, right, heads = 64, 32, 64, 3
        a, b = Operand((19, 256)), Operand((heads * (left + right), 256), 128)
        d = Output(kit, (19, heads * (left + mid + right)), "bfloat16", None)
        deep_gemm.fp8_gemm_nt_skip_head_mid(
            a.pair(kit), b.pair(kit), d.tensor, (left, mid, right), disable_ue8m0_cast=True
        )
        got = d.kit.bytes_of(d.tensor).view(np.uint16).reshape(19, heads, left + mid + right)
        assert (got[:, :, left : left + mid] == POISON16).all()
        kept = np.concatenate([got[:, :, :left], got[:, :, left + mid :]], 2).reshape(19, -1)
        values = (kept.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        assert_close(values, product(a, b), "bfloat16")
        assert d.guards_intact()


POISON16 = 0xA5A5


def test_fp8_einsum_multiplies_head_by_head():
    for kit in KITS:
        batch, heads, r, columns = 6, 3, 256, 192
        a, b = Operand((batch, heads, r)), Operand((heads, columns, r), 128)
        d = Output(kit, (batch, heads, columns), "bfloat16", None)
        deep_gemm.fp8_einsum("bhr,hdr->bhd", a.pair(kit), b.pair(kit), d.tensor)
        assert_close(d.values(), np.einsum("bhr,hdr->bhd", a.exact, b.exact), "bfloat16")
        added = random.standard_normal((batch, heads, columns)).astype(np.float32)
        c = kit.bf16(added)
        deep_gemm.fp8_einsum(
            "bhr,hdr->bhd", a.pair(kit), b.pair(kit), d.tensor, c=c, recipe=(1, 128, 128)
        )
        assert_close(
            d.values(), np.einsum("bhr,hdr->bhd", a.exact, b.exact) + kit.values(c), "bfloat16"
        )


def test_the_short_way_and_the_long_way_give_the_same_bits():
    need_torch()
    from deep_gemm import _dense, _fast

    m, n, k = 66, 96, 640
    a, b = Operand((m, k)), Operand((n, k), 128)
    left, right = a.pair(TORCH), b.pair(TORCH)
    long, short = (Output(TORCH, (m, n), "bfloat16") for _ in range(2))
    _dense.gemm("nt", left, right, long.tensor, None, None, None, None)
    if _fast.gemm_nt is _fast.declines:
        raise AssertionError("torch %s: the short way is not there" % torch.__version__)
    assert _fast.gemm_nt(_fast.address, (left, right, short.tensor), 128) == 0
    assert (long.snapshot() == short.snapshot()).all()
    ones = Operand((n, k), 1).pair(TORCH)
    c = TORCH.bf16(random.standard_normal((m, n)))
    _dense.gemm("nt", left, ones, long.tensor, c, (1, 1, 128), None, None)
    if BRIDGE:
        assert _fast.gemm_nt(_fast.address, (left, ones, short.tensor, c), 1) == 0
        assert (long.snapshot() == short.snapshot()).all()
        assert _fast.gemm_nt(_fast.address, (left, ones, short.tensor, c.float()), 1) != 0
        assert _fast.gemm_nt(_fast.address, (left, ones, short.tensor, c[:9]), 1) != 0
        assert (long.snapshot() == short.snapshot()).all()
    parameter = torch.nn.Parameter(right[0])
    deep_gemm.fp8_gemm_nt(left, (parameter, right[1]), short.tensor)
    assert _fast.gemm_nt(_fast.address, (left, (parameter, right[1]), short.tensor), 128) == 0


def test_the_short_way_keeps_no_references():
    need_torch()
    a, b = Operand((16, 256)).pair(TORCH), Operand((24, 256), 128).pair(TORCH)
    d = torch.empty(16, 24, device=a[0].device)
    objects = a + b + (a, b, d, torch.Tensor, tuple)
    deep_gemm.fp8_gemm_nt(a, b, d)
    before = [sys.getrefcount(each) for each in objects]
    for _ in range(1000):
        deep_gemm.fp8_gemm_nt(a, b, d)
    after = [sys.getrefcount(each) for each in objects]
    assert all(abs(new - old) < 100 for old, new in zip(before, after)), (before, after)


def test_the_short_way_declines_what_it_does_not_know():
    need_torch()
    from deep_gemm import _fast

    a, b = Operand((16, 256)), Operand((24, 256), 128)
    left, right = a.pair(TORCH), b.pair(TORCH)
    d = Output(TORCH, (16, 24), "bfloat16")
    deep_gemm.fp8_gemm_nt(left, right, d.tensor)
    d = Output(TORCH, (16, 24), "bfloat16")

    class Sub(torch.Tensor):
        pass

    odd = [
        (left, right, None),
        (left, right, 3),
        (left, right, d.tensor.as_subclass(Sub)),
        (left, right, d.tensor.view(torch.int16)),
        (left, right, d.tensor[None]),
        (left, right, d.tensor[:15]),
        (left[:1], right, d.tensor),
        ((left[0].float(), left[1]), right, d.tensor),
        ((left[0].t().contiguous().t(), left[1]), right, d.tensor[:, :0]),
        (left, (right[0][:, :128], right[1]), d.tensor),
        (left, (right[0], right[1].double()), d.tensor),
    ]
    if BRIDGE:  # memory knows lists as well as tuples
        odd.append((list(left), right, d.tensor))
    for arguments in odd:
        assert _fast.gemm_nt(_fast.address, arguments, 128) != 0, arguments
        assert d.untouched()


if __name__ == "__main__":
    main()
