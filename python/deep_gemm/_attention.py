# SPDX-License-Identifier: MIT
"""MQA logits: the scores of a sparse-attention indexer."""

from __future__ import annotations

import ctypes
from typing import Any, Tuple

from . import _library as lib
from . import _runtime
from ._dense import Tensor, check_rank, check_type, compiling, pair
from ._library import fail
from ._tensor import CPU, I32, empty_like_kind, is_traced, same_device, view

ROW_BYTES = 1024  # rows of logits start at multiples of it
COLUMNS = 256  # of a block


def _align(x, y):
    return -(-x // y) * y


def _row_stride(columns, element_bytes):
    return _align(columns, ROW_BYTES // element_bytes)


def logits_dtype_name(logits_dtype):
    """ "float32" or "bfloat16"."""
    name = str(getattr(logits_dtype, "__name__", logits_dtype)).replace("torch.", "")
    if name not in ("float32", "bfloat16"):
        fail("logits_dtype = %s: must be float32 or bfloat16", name)
    return name


def padded_columns(columns, rounded):
    """What a row of logits is allocated for: whole blocks of columns, or a margin behind the
    last."""
    return _align(columns, COLUMNS) if rounded else columns + COLUMNS


def allocate_logits(like, rows, columns, padded, dtype):
    """[rows, columns] as a view of rows that are `padded` columns (rounded up to 1024 bytes)
    apart."""
    stride = _row_stride(padded, 4 if dtype == "float32" else 2)
    return empty_like_kind(like, (rows, stride), dtype)[:, :columns]


def unpair_q(q):
    """q of the fp8_fp4 functions: (data, None) on Hopper."""
    if not isinstance(q, (tuple, list)):
        return q
    if len(q) != 2:
        fail("q has %d elements: must be a tensor, or a tuple of it and None", len(q))
    if q[1] is not None:
        fail("q[1] is given: scales of q belong to FP4, which Hopper lacks; must be None")
    return q[0]


def refuse_indices(indices):
    if indices is not None:
        fail("indices is given: varlen indices are for SM100; must be None")


def _vector(name, tensor, length, rule):
    vector = view(name, tensor)
    check_type(vector, (I32,), "int32")
    check_rank(vector, 1)
    if vector.shape[0] != length:
        fail("%s: must be [%d], %s", vector.text(), length, rule)
    return vector


def _weights(weights, rows, heads):
    result = view("weights", weights)
    check_type(result, (lib.F32, lib.BF16), "float32 or bfloat16")
    check_rank(result, 2)
    if tuple(result.shape) != (rows, heads):
        fail("%s: must be [%d, %d]", result.text(), rows, heads)
    return result


def _options(clean, compressed=False):
    flags = (lib.MQA_CLEAN if clean else 0) | (lib.MQA_COMPRESSED if compressed else 0)
    flags |= lib.MQA_PDL if _runtime.settings.pdl else 0
    return ctypes.byref(lib.MqaOptions(ctypes.sizeof(lib.MqaOptions), flags))


def plain(q, kv, weights, start, end, clean_logits, max_seqlen_k, dtype):
    """One plain call, all checks included; the logits."""
    query = view("q", unpair_q(q))
    keys, scales = pair("kv", kv)
    for name, tensor in (("q", query), ("kv[0]", keys)):
        check_type(tensor, (lib.E4M3,), "float8_e4m3fn")
    check_type(scales, (lib.F32,), "float32")
    check_rank(query, 3)
    check_rank(keys, 2)
    rows, heads, dim = query.shape
    positions = keys.shape[0]
    if keys.shape[1] != dim:
        fail("%s, but %s: the last dimensions must agree", keys.text(), query.text())
    if tuple(scales.shape) != (positions,):
        fail("%s: must be [%d], one scale per row of kv[0]", scales.text(), positions)
    factors = _weights(weights, rows, heads)
    rule = "one entry per row of q"
    starts = _vector("cu_seq_len_k_start", start, rows, rule)
    ends = _vector("cu_seq_len_k_end", end, rows, rule)
    device = same_device(query, keys, scales, factors, starts, ends)
    if max_seqlen_k < 0:
        fail("max_seqlen_k = %d: must not be negative", max_seqlen_k)
    compressed = max_seqlen_k > 0
    columns = max_seqlen_k if compressed else positions
    padded = padded_columns(columns, compressed)
    logits = allocate_logits(query.owner, rows, columns, padded, dtype)
    if 0 in (rows, columns):
        return logits
    out = view("logits", logits)
    lib.check(
        lib.library().dg_fp8_mqa_logits(
            _runtime.context(device), query.packed(), keys.packed(), scales.packed(),
            factors.packed(), starts.packed(), ends.packed(), out.packed(),
            _options(clean_logits, compressed), _runtime.stream(out),
        )
    )  # fmt: skip
    return logits


def _lengths(context_lens):
    lengths = view("context_lens", context_lens)
    check_type(lengths, (I32,), "int32")
    if len(lengths.shape) not in (1, 2):
        fail("%s: must be [batch] or [batch, next_n]", lengths.text())
    return lengths


def metadata(context_lens, block_kv, num_sms, indices):
    """One metadata call, all checks included; the schedule."""
    refuse_indices(indices)
    if block_kv not in (16, 32, 64, 128):
        fail("block_kv = %s: must be 16, 32, 64 or 128", block_kv)
    if num_sms < 1:
        fail("num_sms = %d: must be positive", num_sms)
    lengths = _lengths(context_lens)
    schedule = empty_like_kind(lengths.owner, (num_sms + 1, 2), "int32")
    out = view("schedule_meta", schedule)
    lib.check(
        lib.library().dg_paged_mqa_logits_metadata(
            _context_for(lengths.device, num_sms), lengths.packed(), out.packed(),
            _runtime.stream(out),
        )
    )  # fmt: skip
    return schedule


def _context_for(device, num_sms):
    """The context whose bound of SMs is num_sms, which a schedule was, or will be, made for."""
    context = _runtime.context(device)
    if device == CPU or lib.library().dg_context_num_sms(context) == num_sms:
        return context
    return _runtime.context(device, num_sms)


def paged(
    q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len, clean, dtype,
    indices,
):  # fmt: skip
    """One paged call, all checks included; the logits."""
    refuse_indices(indices)
    query, cache = view("q", unpair_q(q)), view("kv_cache", kv_cache)
    check_type(query, (lib.E4M3,), "float8_e4m3fn")
    check_rank(query, 4)
    if cache.dtype not in ("uint8", "float8_e4m3fn"):
        fail("kv_cache.dtype = %s: must be uint8", cache.dtype)
    if len(cache.shape) not in (3, 4):
        fail("%s: must be [pages, page size, 1, d + 4]", cache.text())
    batch, next_n, heads, dim = query.shape
    if cache.shape[-1] != dim + 4:
        fail("%s: the last dimension must be d + 4 = %d", cache.text(), dim + 4)
    factors = _weights(weights, batch * next_n, heads)
    lengths = _lengths(context_lens)
    if lengths.shape[0] != batch or lengths.shape[1:] not in ((), (next_n,)):
        fail("%s: must be [%d] or [%d, %d]", lengths.text(), batch, batch, next_n)
    table = view("block_table", block_table)
    check_type(table, (I32,), "int32")
    check_rank(table, 2)
    schedule = view("schedule_meta", schedule_meta)
    check_type(schedule, (I32,), "int32")
    check_rank(schedule, 2)
    device = same_device(query, cache, factors, lengths, table, schedule)
    if max_context_len < 0:
        fail("max_context_len = %d: must not be negative", max_context_len)
    rows, padded = batch * next_n, padded_columns(max_context_len, True)
    logits = allocate_logits(query.owner, rows, max_context_len, padded, dtype)
    if 0 in (rows, max_context_len):
        return logits
    out = view("logits", logits)
    lib.check(
        lib.library().dg_fp8_paged_mqa_logits(
            _context_for(device, schedule.shape[0] - 1), query.packed(), cache.packed(lib.E4M3),
            factors.packed(), lengths.packed(), table.packed(), schedule.packed(), out.packed(),
            _options(clean), _runtime.stream(out),
        )
    )  # fmt: skip
    return logits


# ---- the public functions ----


def _dispatch(name, tensor, *arguments):
    if compiling() or is_traced(tensor):
        from . import _torch_ops

        return getattr(_torch_ops, name)(*arguments)
    return globals()[name](*arguments)


def fp8_fp4_mqa_logits(
    q: Any,
    kv: Tuple[Tensor, Tensor],
    weights: Tensor,
    cu_seq_len_k_start: Tensor,
    cu_seq_len_k_end: Tensor,
    clean_logits: bool = True,
    max_seqlen_k: int = 0,
    logits_dtype: Any = "float32",
) -> Tensor:
    """logits[i, j] = kv_scale[j] * sum over heads of relu(q[i, h] . kv[j]) * weights[i, h] for j in
    [cu_seq_len_k_start[i], cu_seq_len_k_end[i]).

    q        [s, heads, d] float8_e4m3fn, or a tuple of it and None
    kv       ([positions, d] float8_e4m3fn, [positions] float32)
    weights  [s, heads] float32 or bfloat16
    cu_seq_len_k_start, cu_seq_len_k_end   [s] int32; cut to the positions there are
    clean_logits   minus infinity outside each row's range; else those elements are arbitrary
    max_seqlen_k   0: the result is [s, positions]; else [s, max_seqlen_k], its column c being
                   position cu_seq_len_k_start[i] + c
    logits_dtype   float32 or bfloat16

    The result is a new tensor whose rows start at multiples of 1024 bytes.  RuntimeError for what
    breaks a rule.  The ranges are read when the call runs.
    """
    dtype = logits_dtype_name(logits_dtype)
    first = q[0] if isinstance(q, (tuple, list)) else q
    return _dispatch(
        "plain", first, q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, bool(clean_logits),
        int(max_seqlen_k), dtype,
    )  # fmt: skip


def fp8_mqa_logits(
    q: Tensor,
    kv: Tuple[Tensor, Tensor],
    weights: Tensor,
    cu_seq_len_k_start: Tensor,
    cu_seq_len_k_end: Tensor,
    clean_logits: bool = True,
    max_seqlen_k: int = 0,
) -> Tensor:
    """fp8_fp4_mqa_logits with a plain q and float32 logits."""
    return fp8_fp4_mqa_logits(
        q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits, max_seqlen_k
    )


def get_paged_mqa_logits_metadata(
    context_lens: Tensor, block_kv: int, num_sms: int, indices: Tensor = None
) -> Tensor:
    """The schedule of fp8_paged_mqa_logits: how the positions of all sequences are dealt out to
    SMs.

    context_lens [batch] or [batch, next_n] int32, block_kv the page size, num_sms as get_num_sms()
    says. int32 [num_sms + 1, 2], only for the same lengths and the same number of SMs.
    """
    return _dispatch("metadata", context_lens, context_lens, int(block_kv), int(num_sms), indices)


def fp8_fp4_paged_mqa_logits(
    q: Any,
    kv_cache: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    block_table: Tensor,
    schedule_meta: Tensor,
    max_context_len: int,
    clean_logits: bool = False,
    logits_dtype: Any = "float32",
    indices: Tensor = None,
) -> Tensor:
    """The logits of fp8_mqa_logits over a paged cache; row b * next_n + t is token t of sequence b.

    q              [batch, next_n, heads, d] float8_e4m3fn, or a tuple of it and None
    kv_cache       [pages, page size, 1, d + 4] uint8; a page is page size * d bytes of values, then
                   page size float32 scales; pages may be further apart than that
    weights        [batch * next_n, heads] float32 or bfloat16
    context_lens   [batch, next_n] int32 (row (b, t) has the positions [0, context_lens[b][t])),
                   or [batch]
    block_table    [batch, max_pages] int32: the page of each page size of positions
    schedule_meta  of get_paged_mqa_logits_metadata for the same lengths
    max_context_len   columns of the result
    clean_logits   minus infinity outside each row's positions; else those elements are arbitrary

    The result [batch * next_n, max_context_len] is a new tensor whose rows start at multiples of
    1024 bytes.  Lengths, table and schedule are read when the call runs.
    """
    dtype = logits_dtype_name(logits_dtype)
    first = q[0] if isinstance(q, (tuple, list)) else q
    return _dispatch(
        "paged", first, q, kv_cache, weights, context_lens, block_table, schedule_meta,
        int(max_context_len), bool(clean_logits), dtype, indices,
    )  # fmt: skip


def fp8_paged_mqa_logits(
    q: Tensor,
    kv_cache: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    block_table: Tensor,
    schedule_meta: Tensor,
    max_context_len: int,
    clean_logits: bool = False,
    indices: Tensor = None,
) -> Tensor:
    """fp8_fp4_paged_mqa_logits with a plain q and float32 logits."""
    return fp8_fp4_paged_mqa_logits(
        q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
        clean_logits, indices=indices,
    )  # fmt: skip
