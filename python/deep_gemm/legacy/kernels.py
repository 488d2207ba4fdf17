# SPDX-License-Identifier: MIT
"""BF16 grouped GEMMs in Triton, under the names of DeepGEMM's older kernels: plain ones that run
wherever Triton does, not the fast way on Hopper.  A tile of rows (or of k) belongs to one group,
which is what the alignment of the layout is for."""

from __future__ import annotations

from typing import Any, Tuple

import torch
import triton
import triton.language as tl

from .._library import fail
from .._runtime import get_mk_alignment_for_contiguous_layout

Tensor = Any
BLOCK_N, BLOCK_K = 128, 64


@triton.jit
def _m_grouped(
    a, b, d, groups, gathered, n, k, a_row, b_group, b_n, b_k, d_row,
    GATHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    ids = tl.load(groups + rows)
    group = tl.max(ids, 0)
    source = tl.load(gathered + rows) if GATHER else rows
    counted = (ids >= 0) & (source >= 0)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if group >= 0:
        a_rows = a + source[:, None].to(tl.int64) * a_row
        b_columns = b + group.to(tl.int64) * b_group + columns[None, :].to(tl.int64) * b_n
        for start in range(0, k, BLOCK_K):
            ks = start + tl.arange(0, BLOCK_K)
            x = tl.load(a_rows + ks[None, :], mask=counted[:, None] & (ks < k)[None, :], other=0.0)
            inside = (ks < k)[:, None] & (columns < n)[None, :]
            y = tl.load(b_columns + ks[:, None].to(tl.int64) * b_k, mask=inside, other=0.0)
            total = tl.dot(x, y, total)
    out = d + rows[:, None].to(tl.int64) * d_row + columns[None, :]
    tl.store(out, total.to(d.dtype.element_ty), mask=(columns < n)[None, :])


@triton.jit
def m_grouped_bf16_gemm_contiguous_tl_impl(
    a, b, d, groups, gathered, n, k, a_row, b_group, b_n, b_k, d_row,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    _m_grouped(
        a, b, d, groups, gathered, n, k, a_row, b_group, b_n, b_k, d_row,
        False, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip


@triton.jit
def a_fused_m_grouped_bf16_gemm_contiguous_tl_impl(
    a, b, d, groups, gathered, n, k, a_row, b_group, b_n, b_k, d_row,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    _m_grouped(
        a, b, d, groups, gathered, n, k, a_row, b_group, b_n, b_k, d_row,
        True, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip


@triton.jit
def _k_grouped(
    a, b, d, gathered, starts, ends, m, n, a_row, b_row, d_group, d_row, GATHER_A: tl.constexpr,
    ACCUMULATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(2)
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    end = tl.load(ends + group)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(tl.load(starts + group), end, BLOCK_K):
        ks = start + tl.arange(0, BLOCK_K)
        source = tl.load(gathered + ks, mask=ks < end, other=-1)
        counted = (source >= 0)[:, None]
        a_ks = source if GATHER_A else ks
        b_ks = ks if GATHER_A else source
        x_at = a + a_ks[:, None].to(tl.int64) * a_row + rows[None, :]
        y_at = b + b_ks[:, None].to(tl.int64) * b_row + columns[None, :]
        x = tl.load(x_at, mask=counted & (rows < m)[None, :], other=0.0)
        y = tl.load(y_at, mask=counted & (columns < n)[None, :], other=0.0)
        total = tl.dot(tl.trans(x), y, total)
    out = d + group.to(tl.int64) * d_group + rows[:, None].to(tl.int64) * d_row + columns[None, :]
    inside = (rows < m)[:, None] & (columns < n)[None, :]
    if ACCUMULATE:
        total += tl.load(out, mask=inside, other=0.0).to(tl.float32)
    tl.store(out, total.to(d.dtype.element_ty), mask=inside)


@triton.jit
def a_fused_k_grouped_bf16_gemm_contiguous_tl_impl(
    a, b, d, gathered, starts, ends, m, n, a_row, b_row, d_group, d_row,
    ACCUMULATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    _k_grouped(
        a, b, d, gathered, starts, ends, m, n, a_row, b_row, d_group, d_row,
        True, ACCUMULATE, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip


@triton.jit
def b_fused_k_grouped_bf16_gemm_contiguous_tl_impl(
    a, b, d, gathered, starts, ends, m, n, a_row, b_row, d_group, d_row,
    ACCUMULATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    _k_grouped(
        a, b, d, gathered, starts, ends, m, n, a_row, b_row, d_group, d_row,
        False, ACCUMULATE, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip


# ---- what Python calls ----


def _check(name, tensor, dtype, rank):
    if tensor.dtype != dtype:
        fail("%s.dtype = %s: must be %s", name, tensor.dtype, dtype)
    if tensor.dim() != rank:
        fail("%s.shape = %s: must have %d dimensions", name, list(tensor.shape), rank)
    if tensor.numel() and tensor.stride(-1) != 1:
        fail("%s.stride = %s: the last one must be 1", name, list(tensor.stride()))


def _tile_rows(name, count):
    """Rows of a tile: the largest power of two, up to 128, that divides the alignment of the
    layout."""
    alignment = get_mk_alignment_for_contiguous_layout()
    if count % alignment:
        fail("%s has %d entries: must be a multiple of the alignment %d", name, count, alignment)
    rows = min(alignment & -alignment, 128)
    if rows < 16:
        fail("the alignment %d must be a multiple of 16", alignment)
    return rows


def _run_m_grouped(kernel, a, b, d, m_indices, gathered, transposed_b):
    _check("a", a, torch.bfloat16, 2)
    _check("b", b, torch.bfloat16, 3)
    _check("m_indices", m_indices, torch.int32, 1)
    _check("m_row_indices", gathered, torch.int32, 1)
    m, k = m_indices.numel(), a.shape[1]
    n = b.shape[2] if transposed_b else b.shape[1]
    b_n, b_k = (b.stride(2), b.stride(1)) if transposed_b else (b.stride(1), b.stride(2))
    if (b.shape[1] if transposed_b else b.shape[2]) != k:
        fail("a.shape = %s, but b.shape = %s: k must agree", list(a.shape), list(b.shape))
    if tuple(d.shape) != (m, n):
        fail("d.shape = %s: must be [%d, %d]", list(d.shape), m, n)
    if gathered.numel() != m or (gathered is m_indices and a.shape[0] != m):
        fail(
            "a has %d rows and the layout %d entries: they must agree", a.shape[0], gathered.numel()
        )
    rows = _tile_rows("m_indices", m)
    if m == 0 or n == 0:
        return
    kernel[(triton.cdiv(n, BLOCK_N), m // rows)](
        a, b, d, m_indices, gathered, n, k, a.stride(0), b.stride(0), b_n, b_k, d.stride(0),
        BLOCK_M=rows, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
    )  # fmt: skip


def m_grouped_bf16_gemm_nt_contiguous_tl(
    a: Tensor, b: Tensor, d: Tensor, m_indices: Tensor
) -> None:
    """d[r] = a[r] b[m_indices[r]]^T: a [m, k], b [groups, n, k], d [m, n], all bfloat16; m_indices
    [m] int32, -1 for rows that become zeros.  m must be a multiple of the alignment, of which each
    multiple holds rows of one group."""
    _run_m_grouped(m_grouped_bf16_gemm_contiguous_tl_impl, a, b, d, m_indices, m_indices, False)


def m_grouped_bf16_gemm_nn_contiguous_tl(
    a: Tensor, b: Tensor, d: Tensor, m_indices: Tensor
) -> None:
    """m_grouped_bf16_gemm_nt_contiguous_tl with b [groups, k, n]."""
    _run_m_grouped(m_grouped_bf16_gemm_contiguous_tl_impl, a, b, d, m_indices, m_indices, True)


def a_fused_m_grouped_bf16_gemm_nt_contiguous_tl(
    a: Tensor, b: Tensor, d: Tensor, mappings: Tuple[Tensor, Tensor]
) -> None:
    """m_grouped_bf16_gemm_nt_contiguous_tl of gathered rows: mappings = (m_indices, m_row_indices),
    and row r of the product is a[m_row_indices[r]], or zeros for -1."""
    kernel = a_fused_m_grouped_bf16_gemm_contiguous_tl_impl
    _run_m_grouped(kernel, a, b, d, mappings[0], mappings[1], False)


def a_fused_m_grouped_bf16_gemm_nn_contiguous_tl(
    a: Tensor, b: Tensor, d: Tensor, mappings: Tuple[Tensor, Tensor]
) -> None:
    """a_fused_m_grouped_bf16_gemm_nt_contiguous_tl with b [groups, k, n]."""
    kernel = a_fused_m_grouped_bf16_gemm_contiguous_tl_impl
    _run_m_grouped(kernel, a, b, d, mappings[0], mappings[1], True)


def _run_k_grouped(kernel, a, b, d, handle, acc, straight):
    gathered, starts, ends = handle
    _check("a", a, torch.bfloat16, 2)
    _check("b", b, torch.bfloat16, 2)
    for name, tensor in (("k_indices", gathered), ("k_start", starts), ("k_end", ends)):
        _check(name, tensor, torch.int32, 1)
    if d.dim() != 3 or tuple(d.shape[1:]) != (a.shape[1], b.shape[1]) or d.stride(-1) != 1:
        fail("d.shape = %s: must be [groups, %d, %d], rows contiguous",
             list(d.shape), a.shape[1], b.shape[1])  # fmt: skip
    groups, m, n = d.shape
    if starts.numel() != groups or ends.numel() != groups:
        fail("k_start and k_end have %d and %d entries: must have one for each of the %d groups",
             starts.numel(), ends.numel(), groups)  # fmt: skip
    if straight.shape[0] != gathered.numel():
        fail("k_indices has %d entries: must have %d, as the other operand has rows",
             gathered.numel(), straight.shape[0])  # fmt: skip
    _tile_rows("k_indices", gathered.numel())
    if 0 in (groups, m, n):
        return
    kernel[(triton.cdiv(n, BLOCK_N), triton.cdiv(m, 128), groups)](
        a, b, d, gathered, starts, ends, m, n, a.stride(0), b.stride(0), d.stride(0), d.stride(1),
        ACCUMULATE=bool(acc), BLOCK_M=128, BLOCK_N=BLOCK_N, BLOCK_K=BLOCK_K, num_warps=8,
    )  # fmt: skip


def a_fused_k_grouped_bf16_gemm_tn_contiguous_tl(
    a: Tensor, b: Tensor, d: Tensor, handle: Tuple[Tensor, Tensor, Tensor], acc: bool
) -> None:
    """d[g] = (d[g] if acc) + A_g^T B_g over the k in [k_start[g], k_end[g]): a [rows, m] gathered,
    a[k_indices[k]] or zeros for -1; b [sum of k, n]; d [groups, m, n]; handle = (k_indices,
    k_start, k_end), int32."""
    _run_k_grouped(a_fused_k_grouped_bf16_gemm_contiguous_tl_impl, a, b, d, handle, acc, b)


def b_fused_k_grouped_bf16_gemm_tn_contiguous_tl(
    a: Tensor, b: Tensor, d: Tensor, handle: Tuple[Tensor, Tensor, Tensor], acc: bool
) -> None:
    """a_fused_k_grouped_bf16_gemm_tn_contiguous_tl with b gathered and a [sum of k, m] straight."""
    _run_k_grouped(b_fused_k_grouped_bf16_gemm_contiguous_tl_impl, a, b, d, handle, acc, a)
