# SPDX-License-Identifier: MIT
# test_grouped.py - deep_gemm's grouped FP8 functions against float64 products group by group:
# layouts by index and by ends, masked, k-grouped; every name and spelling of the arguments.
import ctypes
import os
import sys

import numpy as np

from common import KITS, POISON, TORCH, Operand, Output, assert_close, deep_gemm, main, need_torch
from common import random, refused, tap
from deep_gemm import _grouped


class Rows:
    """Groups of rows padded to 128: index (-1 in the padding), ends, and where each group lies."""

    def __init__(self, counts, align=128):
        self.ranges, index, self.ends = [], [], []
        for group, count in enumerate(counts):
            start = len(index)
            self.ranges.append((start, start + count))
            self.ends.append(start + count)
            index += [group] * count + [-1] * (-count % align)
        self.index, self.m = np.array(index, np.int32), len(index)


def contiguous_problem(kit, counts=(100, 0, 128, 37), n=72, k=300, block_n=128):
    rows = Rows(counts)
    a, b = Operand((rows.m, k)), Operand((len(counts), n, k), block_n)
    return rows, a, b, Output(kit, (rows.m, n), "bfloat16")


def check_groups(rows, a, b, d, what=""):
    got = d.values()
    for group, (start, end) in enumerate(rows.ranges):
        assert_close(got[start:end], a.exact[start:end] @ b.exact[group].T, d.dtype, what)
    assert d.guards_intact(), "%s: bytes outside d were written" % what


def test_contiguous_layout_by_index_takes_every_spelling():
    for kit in KITS:
        forms = [
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, b, d, x),
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, b, d, m_indices=x),
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
                a, b, d, x, recipe_a=(1, 128), recipe_b=(128, 128)
            ),
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
                a, b, d, x, (1, 128, 128), "nk", True
            ),
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_fp4_gemm_nt_contiguous(
                a, b, d, x, disable_ue8m0_cast=True, use_psum_layout=False, ensure_zero_padding=True,
                recipe=None, recipe_a=None, recipe_b=None,
            ),
            lambda a, b, d, x: deep_gemm.m_grouped_gemm_fp8_fp8_bf16_nt_contiguous(a, b, d, x),
            lambda a, b, d, x: deep_gemm.m_grouped_gemm_fp8_fp8_bf16_nt_contiguous(
                lhs=a, rhs=b, out=d, m_indices=x
            ),
        ]  # fmt: skip
        for form in forms:
            rows, a, b, d = contiguous_problem(kit)
            form(a.pair(kit), b.pair(kit), d.tensor, kit.i32(rows.index))
            check_groups(rows, a, b, d)
            padding = d.values()[rows.index < 0]
            assert (padding == 0).all(), "rows of no group must be zeros"


def test_contiguous_layout_by_ends_leaves_rows_between_groups_alone():
    for kit in KITS:
        for hint in ({}, {"expected_m_for_psum_layout": 66}):
            rows, a, b, d = contiguous_problem(kit)
            deep_gemm.m_grouped_fp8_fp4_gemm_nt_contiguous(
                a.pair(kit), b.pair(kit), d.tensor, kit.i32(rows.ends), disable_ue8m0_cast=True,
                use_psum_layout=True, ensure_zero_padding=False, recipe=None, recipe_a=None,
                recipe_b=None, **hint
            )  # fmt: skip
            check_groups(rows, a, b, d)
            outside = kit.bytes_of(d.tensor).reshape(rows.m, -1)[rows.index < 0]
            assert (outside == POISON).all()
        rows, a, b, d = contiguous_problem(kit)  # the tail of versions 2.3 to 2.5
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
            a.pair(kit),
            b.pair(kit),
            d.tensor,
            kit.i32(rows.ends),
            None,
            None,
            None,
            "nk",
            True,
            True,
            66,
        )
        check_groups(rows, a, b, d)


def test_alignment_of_ends_follows_the_setting():
    for kit in KITS:
        before = deep_gemm.get_mk_alignment_for_contiguous_layout()
        deep_gemm.set_mk_alignment_for_contiguous_layout(64)
        try:
            rows = Rows((70, 10, 64), 64)
            a, b = Operand((rows.m, 256)), Operand((3, 64, 256), 128)
            d = Output(kit, (rows.m, 64), "bfloat16")
            deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
                a.pair(kit), b.pair(kit), d.tensor, kit.i32(rows.ends), use_psum_layout=True
            )
            check_groups(rows, a, b, d)
        finally:
            deep_gemm.set_mk_alignment_for_contiguous_layout(before)


def test_contiguous_nn_reads_b_with_rows_along_k():
    for kit in KITS:
        for block_n, recipe in ((128, None), (1, (1, 1, 128))):
            for name in (
                "m_grouped_fp8_gemm_nn_contiguous",
                "m_grouped_fp8_fp4_gemm_nn_contiguous",
            ):
                rows, a, b, d = contiguous_problem(kit, (40, 128), 80, 256, block_n)
                getattr(deep_gemm, name)(
                    a.pair(kit),
                    b.transposed_pair(kit),
                    d.tensor,
                    kit.i32(rows.index),
                    recipe=recipe,
                )
                check_groups(rows, a, b, d, name)
        rows, a, b, d = contiguous_problem(kit)
        values, scales = b.pair(kit)
        deep_gemm.m_grouped_fp8_gemm_nn_contiguous(
            a.pair(kit),
            (kit.swap(values), kit.swap(scales)),
            d.tensor,
            m_indices=kit.i32(rows.index),
        )
        check_groups(rows, a, b, d, "exchanged view")


def test_large_products_ask_for_room_for_copies_of_their_scales():
    """The line that says what they are: it must be one, and name the layouts of the scales."""
    lines, plain = [], _grouped._space
    _grouped._space = lambda device, line, *more: lines.append(line) or plain(device, line, *more)
    try:
        for kit in KITS:
            rows, a, b, d = contiguous_problem(kit, (1000, 100), 72, 300)
            nt, nn = (
                getattr(deep_gemm, "m_grouped_fp8_gemm_%s_contiguous" % kind)
                for kind in ("nt", "nn")
            )
            values, scales = a.pair(kit)
            columns = kit.swap(scales)
            columns = columns.copy() if kit.name == "numpy" else columns.contiguous()
            nt((values, scales), b.pair(kit), d.tensor, kit.i32(rows.index))
            nt((values, kit.swap(columns)), b.pair(kit), d.tensor, kit.i32(rows.index))
            nn(a.pair(kit), b.transposed_pair(kit), d.tensor, kit.i32(rows.index))
            check_groups(rows, a, b, d)
    finally:
        _grouped._space = plain
    assert len(lines) == 3 * len(KITS)
    for i, line in enumerate(lines):
        assert ("sfa_layout=mn" in line) == (i % 3 == 1) and " sfb_layout=k" in line, line
        problem, lib = ctypes.create_string_buffer(1024), _grouped.lib
        lib.check(lib.library().dg_problem_parse(line.encode(), problem))


def test_one_scale_per_row_of_b_is_read_as_such():
    for kit in KITS:
        rows, a, b, d = contiguous_problem(kit, block_n=1)
        deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
            a.pair(kit), b.pair(kit), d.tensor, kit.i32(rows.index), recipe=(1, 1, 128)
        )
        check_groups(rows, a, b, d)


def test_masked_layout_takes_every_spelling_and_writes_no_other_row():
    for kit in KITS:
        forms = [
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_gemm_nt_masked(a, b, d, x, 40),
            lambda a, b, d, x: deep_gemm.fp8_m_grouped_gemm_nt_masked(
                a, b, d, x, 40, disable_ue8m0_cast=True
            ),
            lambda a, b, d, x: deep_gemm.fp8_m_grouped_gemm_nt_masked(
                a, b, out=d, masked_m=x, expected_m=40
            ),
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_fp4_gemm_nt_masked(
                a, b, d, x, 40, disable_ue8m0_cast=False, recipe=None, recipe_a=None, recipe_b=None
            ),
            lambda a, b, d, x: deep_gemm.m_grouped_fp8_gemm_nt_masked(
                a, b, d, x, 40, (1, 128, 128), "nk", True
            ),
            lambda a, b, d, x: deep_gemm.m_grouped_gemm_fp8_fp8_bf16_nt_masked(a, b, d, x, 40),
            lambda a, b, d, x: deep_gemm.m_grouped_gemm_fp8_fp8_bf16_nt_masked(
                lhs=a, rhs=b, out=d, masked_m=x, expected_m=40
            ),
        ]
        counts = [0, 50, 7, 64]
        for form in forms:
            a, b = Operand((4, 64, 300)), Operand((4, 72, 300), 128)
            d = Output(kit, (4, 64, 72), "bfloat16", None)
            form(a.pair(kit), b.pair(kit), d.tensor, kit.i32(counts))
            got, raw = d.values(), kit.bytes_of(d.tensor).reshape(4, 64, -1)
            for group, count in enumerate(counts):
                assert_close(
                    got[group, :count], a.exact[group, :count] @ b.exact[group].T, "bfloat16"
                )
                assert (raw[group, count:] == POISON).all(), "a masked row was written"
            assert d.guards_intact()


def test_masked_layout_of_no_rows_writes_nothing():
    for kit in KITS:
        d = Output(kit, (2, 64, 64), "bfloat16")
        deep_gemm.m_grouped_fp8_gemm_nt_masked(
            Operand((2, 64, 128)).pair(kit), Operand((2, 64, 128), 128).pair(kit), d.tensor,
            kit.i32([0, 0]), 1,
        )  # fmt: skip
        assert d.untouched()


class KGroups:
    """Operands of a k-grouped product: [rows, k_g] of each group, and how each form wants them."""

    def __init__(self, rows, ks):
        self.parts = [Operand((rows, k)) for k in ks]

    def nt(self, kit):
        flat = np.concatenate([part.codes.reshape(-1) for part in self.parts])
        scales = np.concatenate([part.scales for part in self.parts], 1)
        return kit.fp8(flat), kit.swap(kit.f32(np.ascontiguousarray(scales.T)))

    def tn(self, kit):
        values = np.concatenate([part.codes.T for part in self.parts])
        scales = np.concatenate([part.scales.T for part in self.parts])
        return kit.fp8(np.ascontiguousarray(values)), kit.f32(np.ascontiguousarray(scales))


def test_k_grouped_takes_every_spelling_and_adds_to_c():
    ks, m, n = [256, 0, 128, 384], 40, 56

    def call(name, a, b, d, x, c, form):
        f = getattr(deep_gemm, name)
        if form == 0:
            f(a, b, d, ks, x, c, recipe=(1, 1, 128), use_psum_layout=False)
        elif form == 1:
            f(a, b, d, ks=ks, ks_tensor=x, c=c)
        elif form == 2:
            f(a, b, d, ks_cpu=ks, grouped_layout=x, c=c, compiled_dims="mn")
        else:
            f(a, b, d, tuple(ks), x, c, (1, 1, 128), "mn")

    for kit in KITS:
        for kind in ("nt", "tn"):
            for form in range(4):
                for c_mode in ("inplace", "separate", "none"):
                    a, b = KGroups(m, ks), KGroups(n, ks)
                    d = Output(kit, (len(ks), m, n), "float32", None)
                    added = random.standard_normal((len(ks), m, n)).astype(np.float32)
                    c = None
                    if c_mode == "inplace":
                        d.fill(added)
                        c = d.tensor
                    elif c_mode == "separate":
                        c = kit.f32(added)
                    call(
                        "k_grouped_fp8_gemm_%s_contiguous" % kind, getattr(a, kind)(kit),
                        getattr(b, kind)(kit), d.tensor, kit.i32(ks), c, form,
                    )  # fmt: skip
                    expected = np.stack([x.exact @ y.exact.T for x, y in zip(a.parts, b.parts)])
                    expected = expected + (0 if c is None else added)
                    assert_close(d.values(), expected, "float32", kind)
                    assert d.guards_intact()


def test_k_grouped_sizes_are_those_on_the_device():
    for kit in KITS:
        ks, told = [128, 384, 256], [250, 250, 268]  # the host knows the sum only
        a, b = KGroups(24, ks), KGroups(32, ks)
        d = Output(kit, (3, 24, 32), "float32", None)
        d.fill(np.zeros((3, 24, 32)))
        deep_gemm.k_grouped_fp8_gemm_nt_contiguous(
            a.nt(kit), b.nt(kit), d.tensor, told, kit.i32(ks), d.tensor
        )
        expected = np.stack([x.exact @ y.exact.T for x, y in zip(a.parts, b.parts)])
        assert_close(d.values(), expected, "float32")


def test_k_grouped_weight_gradients_of_version_1_add_to_out():
    for kit in KITS:
        ks = [128, 256, 0, 200]
        a, b = KGroups(16, ks), KGroups(24, ks)
        out = Output(kit, (4, 16, 24), "float32", None)
        start = random.standard_normal((4, 16, 24)).astype(np.float32)
        out.fill(start)
        left = (a.nt(kit)[0], a.tn(kit)[1])
        right = (b.nt(kit)[0], b.tn(kit)[1])
        deep_gemm.k_grouped_wgrad_gemm_fp8_fp8_fp32_nt(left, right, out.tensor, batch_sizes=ks)
        expected = start + np.stack([x.exact @ y.exact.T for x, y in zip(a.parts, b.parts)])
        assert_close(out.values(), expected, "float32")


def test_the_short_way_and_the_long_way_give_the_same_bits():
    need_torch()
    from deep_gemm import _fast, _grouped

    rows, a, b, d = contiguous_problem(TORCH, k=256)
    short = Output(TORCH, d.shape, "bfloat16")
    left, right, index = a.pair(TORCH), b.pair(TORCH), TORCH.i32(rows.index)
    _grouped.contiguous("nt", left, right, d.tensor, index, None, None, None, False, None)
    arguments = (left, right, short.tensor, index)
    assert _fast.grouped_nt(_fast.address, arguments, _fast.INDEX, 0, 0) == 0
    assert (short.snapshot() == d.snapshot()).all()
    ends, again = TORCH.i32(rows.ends), Output(TORCH, d.shape, "bfloat16")
    _grouped.contiguous("nt", left, right, d.tensor, ends, None, None, None, True, 20)
    deep_gemm.m_grouped_fp8_gemm_nt_contiguous(left, right, again.tensor, index)
    arguments = (left, right, again.tensor, ends)
    assert _fast.grouped_nt(_fast.address, arguments, _fast.ENDS, 128, 20) == 0
    assert (again.snapshot() == d.snapshot()).all()
    x, y = Operand((3, 64, 256)).pair(TORCH), Operand((3, 64, 256), 128).pair(TORCH)
    one, two, counts = (
        Output(TORCH, (3, 64, 64), "float32"),
        Output(TORCH, (3, 64, 64), "float32"),
        [5, 0, 64],
    )
    _grouped.masked(x, y, one.tensor, TORCH.i32(counts), 9, None, None, None)
    arguments = (x, y, two.tensor, TORCH.i32(counts))
    assert _fast.grouped_nt(_fast.address, arguments, _fast.MASKED, 0, 9) == 0
    assert (one.snapshot() == two.snapshot()).all()
    for odd in ((x, y, two.tensor, TORCH.i32(counts[:2])), (x, y, two.tensor[:2], TORCH.i32(counts)),
                (x, y, two.tensor, TORCH.f32(counts)), arguments[:2] + (None, None)):  # fmt: skip
        assert _fast.grouped_nt(_fast.address, odd, _fast.MASKED, 0, 9) != 0


BAD_LAYOUTS = """
from common import KITS, Operand, Output, deep_gemm, refused
for kit in KITS:
    a, b = Operand((2, 128, 128)), Operand((2, 64, 128), 128)
    d = Output(kit, (2, 128, 64), "bfloat16")
    call = lambda *counts: deep_gemm.m_grouped_fp8_gemm_nt_masked(
        a.pair(kit), b.pair(kit), d.tensor, kit.i32(counts), 9)
    refused(lambda: call(3, -7), "layout[1] = -7: group 1 must have 0 to 128 rows")
    assert d.untouched()
    call(3, 128)
    rows = Operand((256, 128))
    refused(lambda: deep_gemm.m_grouped_fp8_gemm_nt_contiguous(
        rows.pair(kit), b.pair(kit), Output(kit, (256, 64), "bfloat16").tensor,
        kit.i32([0] * 128 + [1] * 127 + [2])), "layout[255] = 2: the group of row 255")
print("refused")
"""


def test_a_variable_finds_bad_layouts():
    here = os.path.dirname(os.path.abspath(__file__))
    environment = dict(os.environ, DG_DEBUG_LAYOUTS="1", PYTHONPATH=here + os.pathsep + os.environ["PYTHONPATH"])
    assert "refused" in tap.run(sys.executable, "-c", BAD_LAYOUTS, env=environment).stdout
    assert tap.run(sys.executable, "-c", BAD_LAYOUTS, status=1, env=dict(environment, DG_DEBUG_LAYOUTS="0"))


def test_overlap_of_sglang_is_refused_clearly():
    for kit in KITS:
        d = Output(kit, (2, 64, 64), "bfloat16")
        arguments = (
            Operand((2, 64, 128)).pair(kit), Operand((2, 64, 128), 128).pair(kit), d.tensor,
            kit.i32([1, 2]), 1,
        )  # fmt: skip
        refused(
            lambda: deep_gemm.fp8_m_grouped_gemm_nt_masked(
                *arguments, enable_overlap=True, max_block_n=160, signal=kit.i32([0])
            ),
            "enable_overlap",
            error=NotImplementedError,
        )
        assert d.untouched()
        deep_gemm.fp8_m_grouped_gemm_nt_masked(*arguments, enable_overlap=False)


if __name__ == "__main__":
    main()
