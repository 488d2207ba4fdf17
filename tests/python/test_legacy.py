# SPDX-License-Identifier: MIT
# test_legacy.py - deep_gemm.legacy: the Triton kernels against float64 products, gathered or not.
# They need Triton, and a GPU or TRITON_INTERPRET=1.
import os

import numpy as np

from common import DEVICE, TORCH, bf16_bits, bf16_values, deep_gemm, main, need_torch, random, tap


def need_triton():
    need_torch()
    try:
        import triton  # noqa: F401
    except ImportError:
        tap.skip("Triton cannot be imported")
    if DEVICE != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        tap.skip("Triton's kernels need a GPU")


def bf16(*shape):
    """(tensor, its values)"""
    values = random.standard_normal(shape).astype(np.float32)
    return TORCH.bf16(values), bf16_values(bf16_bits(values)).astype(np.float64)


def poisoned(*shape, dtype="bfloat16"):
    return TORCH.raw(int(np.prod(shape)) * (2 if dtype == "bfloat16" else 4), dtype).view(shape)


def check(got, exact):
    error = np.abs(TORCH.values(got) - exact)
    assert (error <= np.abs(exact) * 2.0**-8 + 1e-2).all(), error.max()


def test_m_grouped_products_match_with_rows_of_no_group_zero():
    need_triton()
    index = np.array([0] * 128 + [-1] * 128 + [2] * 70 + [-1] * 58, np.int32)
    n, k = 150, 200
    a, exact_a = bf16(len(index), k)
    b, exact_b = bf16(3, n, k)
    wide, exact_wide = bf16(90, k)
    rows = random.integers(-1, 90, len(index)).astype(np.int32)
    gathered = np.where(rows[:, None] >= 0, exact_wide[rows], 0)
    for exact_rows, gather in ((exact_a, False), (gathered, True)):
        exact = np.einsum("mk,mnk->mn", exact_rows, exact_b[np.maximum(index, 0)])
        exact[index < 0] = 0
        for kind, operand in (("nt", b), ("nn", b.transpose(1, 2).contiguous())):
            d = poisoned(len(index), n)
            name = "m_grouped_bf16_gemm_%s_contiguous_tl" % kind
            layout = TORCH.i32(index)
            if gather:
                call = getattr(deep_gemm.legacy, "a_fused_" + name)
                call(wide, operand, d, (layout, TORCH.i32(rows)))
            else:
                getattr(deep_gemm.legacy, name)(a, operand, d, layout)
            check(d, exact)


def test_k_grouped_products_match_with_either_operand_gathered():
    need_triton()
    starts, ends, total = [0, 256, 256], [256, 256, 384], 384
    m, n = 140, 96
    index = random.integers(-1, 100, total).astype(np.int32)
    for name, shape in (("a", m), ("b", n)):
        pool, exact_pool = bf16(100, shape)
        straight, exact_straight = bf16(total, n if name == "a" else m)
        picked = np.where(index[:, None] >= 0, exact_pool[index], 0)
        x, y = (picked, exact_straight) if name == "a" else (exact_straight, picked)
        for dtype in ("float32", "bfloat16"):
            for acc in (False, True):
                start = random.standard_normal((3, m, n)).astype(np.float32)
                d = poisoned(3, m, n, dtype=dtype)
                if acc:
                    d.copy_(TORCH.f32(start))
                exact = np.stack([x[s:e].T @ y[s:e] for s, e in zip(starts, ends)])
                if acc:
                    exact = exact + start
                call = getattr(
                    deep_gemm.legacy, name + "_fused_k_grouped_bf16_gemm_tn_contiguous_tl"
                )
                operands = (pool, straight) if name == "a" else (straight, pool)
                call(*operands, d, (TORCH.i32(index), TORCH.i32(starts), TORCH.i32(ends)), acc)
                check(d, exact)


if __name__ == "__main__":
    main()
