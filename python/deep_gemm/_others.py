# SPDX-License-Identifier: MIT
"""The rest of the surface: GEMMs that are put together from others, cuBLASLt through torch, and the
names whose kernels are not part of this version."""

from __future__ import annotations

from typing import Sequence

from . import _tensor
from ._dense import Scaled, Tensor, fp8_fp4_gemm_nt
from ._grouped import m_grouped_fp8_fp4_gemm_nt_contiguous  # noqa: F401
from ._library import fail

# ---- heads with a gap ----


def _heads(d, left, mid, right):
    """d [m, heads * (left + mid + right)] as [m, heads, left + mid + right], a view."""
    width = left + mid + right
    m, columns = d.shape
    if _tensor.is_torch(d):
        return d.as_strided(
            (m, columns // width, width), (d.stride(0), width, 1), d.storage_offset()
        )
    return d.reshape(m, columns // width, width)


def fp8_gemm_nt_skip_head_mid(
    a: Scaled,
    b: Scaled,
    d: Tensor,
    head_splits: Sequence[int],
    recipe: Sequence[int] | None = None,
    compiled_dims: str = "nk",
    disable_ue8m0_cast: bool = False,
) -> None:
    """fp8_gemm_nt whose columns are heads of left + right, put into heads of left + mid + right:
    the mid columns of each head are not written.

    head_splits  (left, mid, right); n must be a multiple of left + right
    d            [m, n + n / (left + right) * mid] bfloat16 or float32, last stride 1
    The product is made in memory of its own first (of d's library) and copied in.
    """
    if len(head_splits) != 3 or any(int(size) < 0 for size in head_splits):
        fail("head_splits = %s: must be three sizes: left, mid, right", tuple(head_splits))
    left, mid, right = (int(size) for size in head_splits)
    n = b[0].shape[0]
    if left + right == 0 or n % (left + right):
        fail("n = %d: must be a multiple of left + right = %d", n, left + right)
    view = _tensor.output("d", d)
    wanted = (a[0].shape[0], n // (left + right) * (left + mid + right))
    if view.shape != wanted:
        fail("%s: must be %s for n = %d and head_splits", view.text(), list(wanted), n)
    if view.stride[1] != 1 and wanted[1] > 1:
        fail("d.stride = %s: rows must be contiguous", list(view.stride))
    if 0 in wanted:
        return
    product = _tensor.empty_like_kind(d, (wanted[0], n), view.dtype)
    fp8_fp4_gemm_nt(a, b, product, None, recipe, None, None, compiled_dims, disable_ue8m0_cast)
    heads = product.reshape(wanted[0], n // (left + right), left + right)
    target = _heads(d, left, mid, right)
    target[:, :, :left] = heads[:, :, :left]
    target[:, :, left + mid :] = heads[:, :, left:]


# ---- cuBLASLt ----


def _raw_product(torch, a, b, dtype):
    """a [m, k] b [k, n] without scales, accumulated in float32, as torch's cuBLASLt path gives
    it."""
    fp8 = torch.float8_e4m3fn
    if a.is_cuda and a.dtype == fp8:
        one = torch.ones((), dtype=torch.float32, device=a.device)
        row_major = a if a.stride(-1) == 1 else a.contiguous()
        column_major = b if b.stride(0) == 1 else b.t().contiguous().t()
        return torch._scaled_mm(row_major, column_major, one, one, out_dtype=dtype)
    if a.is_cuda and a.dtype == torch.bfloat16 and dtype == torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    if a.dtype == dtype and a.dtype != fp8:
        return torch.mm(a, b)
    return torch.mm(a.float(), b.float()).to(dtype)


def _cublaslt(a, b, d, c):
    torch = _tensor.find_torch()
    if torch is None or not all(_tensor.is_torch(x) for x in (a, b, d)):
        raise TypeError("the cublaslt functions take torch tensors: they run torch's matmul")
    if a.shape[1] != b.shape[0] or tuple(d.shape) != (a.shape[0], b.shape[1]):
        fail(
            "a, b and d are %s, %s and %s: they do not multiply",
            *map(list, (a.shape, b.shape, d.shape)),
        )
    if c is not None and (c.shape != d.shape or c.dtype != d.dtype):
        fail("c is %s %s: must be as d, %s %s", c.dtype, list(c.shape), d.dtype, list(d.shape))
    if 0 in d.shape:
        return
    if a.shape[1] == 0:
        d.zero_() if c is None else d.copy_(c)
        return
    product = _raw_product(torch, a, b, torch.float32 if c is not None else d.dtype)
    d.copy_(product if c is None else product + c.float())


def cublaslt_gemm_nt(a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None) -> None:
    """d [m, n] = a [m, k] b [n, k]^T (+ c) without scales, by torch's matmul (cuBLAS, cuBLASLt):
    for comparing.  bfloat16, float32 or float8_e4m3fn in, bfloat16 or float32 out."""
    _cublaslt(a, b.t(), d, c)


def cublaslt_gemm_nn(a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None) -> None:
    """cublaslt_gemm_nt with b [k, n]."""
    _cublaslt(a, b, d, c)


def cublaslt_gemm_tn(a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None) -> None:
    """cublaslt_gemm_nt with a [k, m] and b [k, n]."""
    _cublaslt(a.t(), b, d, c)


def cublaslt_gemm_tt(a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None) -> None:
    """cublaslt_gemm_nt with a [k, m]."""
    _cublaslt(a.t(), b.t(), d, c)


# ---- not in this version ----


def _missing(name, what):
    raise NotImplementedError(
        "%s: %s are not part of this version of the library (FP8 GEMMs and MQA logits are)"
        % (name, what)
    )


_BF16 = "the BF16 kernels"


def bf16_gemm_nt(
    a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None, compiled_dims: str = "nk"
) -> None:
    """D = A B^T (+ C) in BF16: NotImplementedError in this version."""
    _missing("bf16_gemm_nt", _BF16)


def bf16_gemm_nn(
    a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None, compiled_dims: str = "nk"
) -> None:
    """D = A B (+ C) in BF16: NotImplementedError in this version."""
    _missing("bf16_gemm_nn", _BF16)


def bf16_gemm_tn(
    a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None, compiled_dims: str = "mn"
) -> None:
    """D = A^T B (+ C) in BF16: NotImplementedError in this version."""
    _missing("bf16_gemm_tn", _BF16)


def bf16_gemm_tt(
    a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None, compiled_dims: str = "mn"
) -> None:
    """D = A^T B^T (+ C) in BF16: NotImplementedError in this version."""
    _missing("bf16_gemm_tt", _BF16)


def m_grouped_bf16_gemm_nt_contiguous(
    a: Tensor,
    b: Tensor,
    d: Tensor,
    grouped_layout: Tensor = None,
    compiled_dims: str = "nk",
    use_psum_layout: bool = False,
    ensure_zero_padding: bool = True,
    expected_m_for_psum_layout: int | None = None,
    *,
    m_indices: Tensor = None,
) -> None:
    """m_grouped_fp8_gemm_nt_contiguous in BF16: NotImplementedError in this version."""
    _missing("m_grouped_bf16_gemm_nt_contiguous", _BF16)


def m_grouped_bf16_gemm_nn_contiguous(
    a: Tensor,
    b: Tensor,
    d: Tensor,
    grouped_layout: Tensor = None,
    compiled_dims: str = "nk",
    use_psum_layout: bool = False,
    ensure_zero_padding: bool = True,
    *,
    m_indices: Tensor = None,
) -> None:
    """m_grouped_fp8_gemm_nn_contiguous in BF16: NotImplementedError in this version."""
    _missing("m_grouped_bf16_gemm_nn_contiguous", _BF16)


def m_grouped_bf16_gemm_nt_masked(
    a: Tensor, b: Tensor, d: Tensor, masked_m: Tensor, expected_m: int, compiled_dims: str = "nk"
) -> None:
    """m_grouped_fp8_gemm_nt_masked in BF16: NotImplementedError in this version."""
    _missing("m_grouped_bf16_gemm_nt_masked", _BF16)


bf16_m_grouped_gemm_nt_masked = m_grouped_bf16_gemm_nt_masked


def k_grouped_bf16_gemm_tn_contiguous(
    a: Tensor,
    b: Tensor,
    d: Tensor,
    ks_cpu: Sequence[int] | None = None,
    grouped_layout: Tensor = None,
    c: Tensor | None = None,
    compiled_dims: str = "mn",
    use_psum_layout: bool = False,
    *,
    ks: Sequence[int] | None = None,
    ks_tensor: Tensor = None,
) -> None:
    """k_grouped_fp8_gemm_tn_contiguous in BF16: NotImplementedError in this version."""
    _missing("k_grouped_bf16_gemm_tn_contiguous", _BF16)


EINSUMS = ("bmk,bnk->mn", "bhr,hdr->bhd", "bhd,hdr->bhr")


def _check_expression(expr, known):
    if expr not in known:
        fail("Unsupported einsum expression: %s: must be one of %s", expr, ", ".join(known))


def einsum(
    expr: str, a: Tensor, b: Tensor, d: Tensor, c: Tensor | None = None, use_cublaslt: bool = False
) -> None:
    """The BF16 expressions of EINSUMS: NotImplementedError in this version."""
    _check_expression(expr, EINSUMS)
    _missing("einsum", _BF16)


def fp8_einsum(
    expr: str,
    a: Scaled,
    b: Scaled,
    d: Tensor,
    c: Tensor | None = None,
    recipe: Sequence[int] = (1, 128, 128),
) -> None:
    """d[:, h] = a[:, h] b[h]^T for each h: one fp8_gemm_nt per h.

    expr  "bhr,hdr->bhd"
    a     ([b, h, r] float8_e4m3fn, [b, h, ceil(r / 128)] float32)
    b     ([h, d, r] float8_e4m3fn, [h, ceil(d / 128), ceil(r / 128)] float32)
    d     [b, h, d] bfloat16 or float32, last stride 1
    c     None, or a tensor as d that is added
    """
    _check_expression(expr, EINSUMS[1:2])
    (x, sx), (y, sy) = a, b
    if len(x.shape) != 3 or len(y.shape) != 3 or len(d.shape) != 3:
        fail("a[0], b[0] and d must have 3 dimensions")
    if x.shape[1] != y.shape[0] or d.shape[1] != y.shape[0]:
        fail("a[0].shape = %s and d.shape = %s: the heads must be the %d of b[0]",
             list(x.shape), list(d.shape), y.shape[0])  # fmt: skip
    for h in range(y.shape[0]):
        add = None if c is None else c[:, h]
        fp8_fp4_gemm_nt((x[:, h], sx[:, h]), (y[h], sy[h]), d[:, h], add, recipe)


def tf32_hc_prenorm_gemm(
    a: Tensor, b: Tensor, d: Tensor, sqr_sum: Tensor, num_splits: int | None = None
) -> None:
    """d = a b^T and sqr_sum = sum of a^2 over k, in TF32: NotImplementedError in this version."""
    _missing("tf32_hc_prenorm_gemm", "the TF32 kernels")
