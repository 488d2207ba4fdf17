# SPDX-License-Identifier: MIT
# test_layouts.py - deep_gemm.utils.layout: shapes, strides and contents of rearranged scales, in
# the argument orders of every version.
import itertools

import numpy as np

from common import KITS, TORCH, deep_gemm, main, random, refused

layout = deep_gemm.utils.layout


def strides_of(kit, x):
    return tuple(x.stride()) if kit is TORCH else tuple(s // x.itemsize for s in x.strides)


def powers(*shape):
    return np.exp2(random.integers(-20, 20, shape)).astype(np.float32)


def exponents(x):
    return (np.log2(x.astype(np.float64)) + 127).astype(np.uint8)


def test_mn_major_tensors_have_aligned_columns():
    for kit in KITS:
        for lead, mn, s in itertools.product(((), (3,)), (1, 4, 33, 130), (1, 5)):
            x = random.standard_normal(lead + (mn, s)).astype(np.float32)
            aligned = -(-mn // 4) * 4
            for source in (kit.f32(x), kit.swap(kit.f32(np.ascontiguousarray(x.swapaxes(-2, -1))))):
                out = layout.get_mn_major_tma_aligned_tensor(source)
                assert tuple(out.shape) == x.shape
                assert strides_of(kit, out) == ((aligned * s, 1, aligned)[-len(x.shape) :])
                assert (kit.values(out) == x).all()
                again = layout.get_mn_major_tma_aligned_tensor(out)
                assert again is out or (kit is TORCH and again.data_ptr() == out.data_ptr())
        assert layout.get_col_major_tma_aligned_tensor is layout.get_mn_major_tma_aligned_tensor


def test_packed_tensors_hold_four_exponents_to_a_word():
    for kit in KITS:
        for lead, mn, s in itertools.product(((), (2,)), (4, 35), (1, 4, 7)):
            x = powers(*(lead + (mn, s)))
            for source in (kit.f32(x), kit.swap(kit.f32(np.ascontiguousarray(x.swapaxes(-2, -1))))):
                out = layout.get_mn_major_tma_aligned_packed_ue8m0_tensor(source)
                words, aligned = -(-s // 4), -(-mn // 4) * 4
                assert tuple(out.shape) == lead + (mn, words)
                assert strides_of(kit, out)[-2:] == (1, aligned)
                expected = np.zeros(lead + (mn, words * 4), np.uint8)
                expected[..., :s] = exponents(x)
                assert (kit.bytes_of(out).reshape(expected.shape) == expected).all()


def test_packed_tensors_of_ends_skip_rows_between_groups():
    for kit in KITS:
        x, ends = powers(384, 6), [100, 128 + 7, 256 + 128]
        out = layout.get_mn_major_tma_aligned_packed_ue8m0_tensor(kit.f32(x), kit.i32(ends))
        got = kit.bytes_of(out).reshape(384, 8)
        for start, end in ((0, 100), (128, 135), (256, 384)):
            assert (got[start:end, :6] == exponents(x[start:end])).all()


def test_k_grouped_packing_takes_every_order_of_arguments():
    for kit in KITS:
        for gran, ks in ((128, [256, 0, 640, 128]), (32, [128, 64])):
            mn, blocks = 8, [k // gran for k in ks]
            x = powers(sum(blocks), mn)
            expected, start = [], 0
            for count in blocks:
                part = np.zeros((-(-count // 4) * 4, mn), np.uint8)
                part[:count] = exponents(x[start : start + count])
                expected.append(part.reshape(-1, 4, mn).transpose(0, 2, 1))
                start += count
            expected = np.concatenate(expected)
            pack = deep_gemm.get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor
            forms = [(gran,), (gran, gran), (gran, gran, False)] + ([()] if gran == 128 else [])
            for rest in forms:
                out = pack(kit.f32(x), kit.i32(ks), ks, *rest)
                assert tuple(out.shape) == expected.shape[:2]
                assert (kit.bytes_of(out).reshape(expected.shape) == expected).all()
            out = pack(
                kit.f32(x), grouped_layout=kit.i32(ks), ks_cpu=ks, gran_k=gran, k_alignment=gran
            )
            assert (kit.bytes_of(out).reshape(expected.shape) == expected).all()


def test_transform_takes_the_orders_of_all_versions():
    transform = deep_gemm.transform_sf_into_required_layout
    for kit in KITS:
        mn, k = 70, 300
        sfa, sfb = (
            random.random((mn, 3)).astype(np.float32),
            random.random((1, 3)).astype(np.float32),
        )
        grouped = random.random((4, 1, 3)).astype(np.float32)
        for out in (
            transform(kit.f32(sfa), mn, k, (1, 128, 128), None, True, False),
            transform(kit.f32(sfa), mn, k, (1, 128)),
            transform(kit.f32(sfa), mn, k, None, (1, 128, 128), True, False),
            transform(kit.f32(sfa), mn=mn, k=k, recipe=(1, 1, 128), is_sfa=False),
        ):
            assert strides_of(kit, out) == (1, 72) and (kit.values(out) == sfa).all()
        for out in (
            transform(kit.f32(sfb), mn, k, (1, 128, 128), None, False),
            transform(kit.f32(sfb), mn, k, (128, 128)),
        ):
            assert (kit.values(out) == sfb).all()
        out = transform(
            sf=kit.f32(grouped), mn=mn, k=k, recipe=(1, 128, 128), num_groups=4, is_sfa=False,
            disable_ue8m0_cast=True,
        )  # fmt: skip
        assert (kit.values(out) == grouped).all()
        out = transform(kit.f32(grouped), mn, k, 4, (1, 128, 128), False, True)
        assert (kit.values(out) == grouped).all()
        refused(lambda: transform(kit.f32(sfa), mn, k, (1, 128, 128)), "is_sfa")
        refused(lambda: transform(kit.f32(sfa), mn, k, (1, 128), None, True), "is_sfa")
        refused(lambda: transform(kit.f32(sfa), mn, k, (1, 64)), "sf.shape")
        refused(lambda: transform(kit.f32(sfa[:, :2]), mn, k, (1, 128)), "sf.shape", "[70, 3]")
        refused(lambda: transform(kit.f32(np.ones((2, 3))), mn, k, (64, 128)), "Unknown SF")


def test_sizes_and_alignments_are_those_of_the_contract():
    assert [layout.get_tma_aligned_size(x, 4) for x in (1, 4, 5)] == [4, 4, 8]
    assert [layout.get_tma_aligned_size(x, 1) for x in (1, 16, 17)] == [16, 16, 32]
    assert deep_gemm.get_mk_alignment_for_contiguous_layout() == 128
    assert deep_gemm.get_m_alignment_for_contiguous_layout() == 128
    assert deep_gemm.get_k_alignment_for_contiguous_layout() == 128
    for arguments in ((), (20,), (20, 8)):
        assert deep_gemm.get_theoretical_mk_alignment_for_contiguous_layout(*arguments) == 128
    deep_gemm.set_mk_alignment_for_contiguous_layout(240)
    try:
        assert layout.get_m_alignment_for_contiguous_layout() == 240
    finally:
        deep_gemm.set_mk_alignment_for_contiguous_layout(128)


if __name__ == "__main__":
    main()
