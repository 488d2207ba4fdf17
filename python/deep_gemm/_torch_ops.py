# SPDX-License-Identifier: MIT
"""torch custom operators deep_gemm::*, through which torch.compile and fake tensors see the calls.

Imported at the first call that torch traces: only then are the operators registered.  Eager calls
never come here.
"""

from __future__ import annotations

import torch

from . import _attention, _dense, _grouped

_SCALED = "Tensor a, Tensor sfa, Tensor b, Tensor sfb, Tensor(a!) d"
_RECIPES = "int[]? recipe, int[]? recipe_a, int[]? recipe_b"
_PLAIN = "Tensor q, Tensor kv, Tensor scales, Tensor weights, Tensor start, Tensor end"
_PAGED = "Tensor q, Tensor kv_cache, Tensor weights, Tensor lens, Tensor table, Tensor schedule"

_library = torch.library.Library("deep_gemm", "DEF")


def _nothing(*arguments):
    return None


def _define(schema, implementation, fake=_nothing):
    name = schema[: schema.index("(")]
    _library.define(schema, tags=(torch.Tag.needs_fixed_stride_order,))
    _library.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake("deep_gemm::" + name, fake, lib=_library)
    return getattr(torch.ops.deep_gemm, name).default


# ---- GEMMs: the result goes into d ----

_gemm = _define(
    "fp8_gemm(str kind, %s, Tensor? c, %s) -> ()" % (_SCALED, _RECIPES),
    lambda kind, a, sfa, b, sfb, d, c, *recipes: _dense.gemm(
        kind, (a, sfa), (b, sfb), d, c, *recipes
    ),
)
_contiguous = _define(
    "m_grouped_fp8_gemm_contiguous(str kind, %s, Tensor layout, %s, bool psum, int? hint) -> ()"
    % (_SCALED, _RECIPES),
    lambda kind, a, sfa, b, sfb, d, *rest: _grouped.contiguous(kind, (a, sfa), (b, sfb), d, *rest),
)
_masked = _define(
    "m_grouped_fp8_gemm_masked(%s, Tensor masked_m, int expected_m, %s) -> ()"
    % (_SCALED, _RECIPES),
    lambda a, sfa, b, sfb, d, *rest: _grouped.masked((a, sfa), (b, sfb), d, *rest),
)
_k_grouped = _define(
    "k_grouped_fp8_gemm_contiguous(str kind, %s, int[] ks, Tensor layout, Tensor? c, "
    "int[]? recipe, bool psum) -> ()" % _SCALED,
    lambda kind, a, sfa, b, sfb, d, *rest: _grouped.k_grouped(kind, (a, sfa), (b, sfb), d, *rest),
)


def _pair(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError("%s must be a tuple of data and scales" % name)
    return value[0], value[1]


def gemm(kind, a, b, d, c, *recipes):
    """_dense.gemm as an operator."""
    _gemm(kind, *_pair("a", a), *_pair("b", b), d, c, *recipes)


def contiguous(kind, a, b, d, *rest):
    """_grouped.contiguous as an operator."""
    _contiguous(kind, *_pair("a", a), *_pair("b", b), d, *rest)


def masked(a, b, d, *rest):
    """_grouped.masked as an operator."""
    _masked(*_pair("a", a), *_pair("b", b), d, *rest)


def k_grouped(kind, a, b, d, ks_cpu, *rest):
    """_grouped.k_grouped as an operator."""
    _k_grouped(kind, *_pair("a", a), *_pair("b", b), d, list(ks_cpu), *rest)


# ---- MQA logits: the result is a new tensor ----


def _fake_plain(q, kv, scales, weights, start, end, clean, max_seqlen_k, dtype):
    columns = max_seqlen_k if max_seqlen_k else kv.shape[0]
    padded = _attention.padded_columns(columns, max_seqlen_k != 0)
    return _attention.allocate_logits(q, q.shape[0], columns, padded, dtype)


def _fake_paged(q, kv_cache, weights, lens, table, schedule, max_context_len, clean, dtype):
    padded = _attention.padded_columns(max_context_len, True)
    return _attention.allocate_logits(q, q.shape[0] * q.shape[1], max_context_len, padded, dtype)


def _fake_metadata(lens, block_kv, num_sms):
    return lens.new_empty((num_sms + 1, 2))


_mqa = _define(
    "fp8_mqa_logits(%s, bool clean, int max_seqlen_k, str dtype) -> Tensor" % _PLAIN,
    lambda q, kv, scales, *rest: _attention.plain(q, (kv, scales), *rest),
    _fake_plain,
)
_mqa_paged = _define(
    "fp8_paged_mqa_logits(%s, SymInt max_context_len, bool clean, str dtype) -> Tensor" % _PAGED,
    lambda *arguments: _attention.paged(*arguments, None),
    _fake_paged,
)
_mqa_metadata = _define(
    "paged_mqa_logits_metadata(Tensor lens, int block_kv, int num_sms) -> Tensor",
    lambda lens, block_kv, num_sms: _attention.metadata(lens, block_kv, num_sms, None),
    _fake_metadata,
)


def plain(q, kv, *rest):
    """_attention.plain as an operator."""
    return _mqa(_attention.unpair_q(q), *_pair("kv", kv), *rest)


def paged(q, *rest):
    """_attention.paged as an operator."""
    _attention.refuse_indices(rest[-1])
    return _mqa_paged(_attention.unpair_q(q), *rest[:-1])


def metadata(context_lens, block_kv, num_sms, indices):
    """_attention.metadata as an operator."""
    _attention.refuse_indices(indices)
    return _mqa_metadata(context_lens, block_kv, num_sms)
