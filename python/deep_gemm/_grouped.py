# SPDX-License-Identifier: MIT
"""Grouped FP8 GEMM: the products of a mixture of experts.  Sizes of groups are read on the
device."""

from __future__ import annotations

import ctypes
from typing import Sequence

from . import _fast
from . import _library as lib
from . import _runtime
from ._dense import (
    LARGE,
    Scaled,
    Tensor,
    blocks_of_b,
    check_operand,
    check_rank,
    check_type,
    compiling,
    layout_words,
    needs_workspace,
    older_positions,
    pair,
    scale_words,
    swap_last,
    workspace_for,
    wgrad_gemm_fp8_fp8_fp32_nt,
)
from ._library import fail
from ._tensor import CPU, I32, is_torch, is_traced, output, packed_scaled, same_device, view


def _layout(name, tensor, length, rule):
    """The view of an int32 vector of `length` (None: any) without gaps."""
    layout = view(name, tensor)
    check_type(layout, (I32,), "int32")
    check_rank(layout, 1)
    if length is not None and layout.shape[0] != length:
        fail("%s: must be [%d], %s", layout.text(), length, rule)
    if layout.shape[0] > 1 and layout.stride[0] != 1:
        fail("%s.stride = %s: must be contiguous", name, list(layout.stride))
    return layout


def _options(space, layout=0, alignment=0, expected_m=0):
    address, count, _ = space or (None, 0, None)
    flags = lib.GEMM_PDL if _runtime.settings.pdl else 0
    size = ctypes.sizeof(lib.GroupedOptions)
    return lib.GroupedOptions(size, address, count, flags, layout, alignment, expected_m, None)


def _check_sizes(a, b, d, transposed_b):
    """(m or max_m, n, k, groups) of m-grouped operands whose shapes agree."""
    check_rank(b, 3)
    groups = b.shape[0]
    n, k_of_b = reversed(b.shape[1:]) if transposed_b else b.shape[1:]
    m, k = a.shape[-2:]
    if k != k_of_b:
        fail("%s, but %s: k must agree", a.text(), b.text())
    if len(a.shape) == 3 and a.shape[0] != groups:
        fail("%s, but %s: the groups must agree", a.text(), b.text())
    if tuple(d.shape) != tuple(a.shape[:-1]) + (n,):
        fail("%s: must be %s", d.text(), list(a.shape[:-1]) + [n])
    for name, size in (("n", n), ("k", k), ("the number of groups", groups)):
        if size == 0:
            fail("%s: %s must not be 0", b.text(), name)
    return m, n, k, groups


def _run(function, operands, d, c, layout, options, device, plain=None):
    """Makes the call.  `plain`: what the short way knows it by, if that may take it the next time."""
    a, b = (packed_scaled(*operand) for operand in operands)
    structs = (a, b, d.packed(), layout.packed())
    run, context = getattr(lib.library(), function), _runtime.context(device)
    more = ctypes.byref(options)
    status = run(
        context, a, b, structs[2], None if c is None else c.packed(), structs[3], more,
        _runtime.stream(d),
    )  # fmt: skip
    if status:
        lib.raise_last(status)
    if is_torch(d.owner):
        owners = [(values.owner, scales.owner) for values, scales, *_ in operands]
        arguments = (owners[0], owners[1], d.owner, layout.owner)
        _fast.ready(device, plain and (plain, arguments, run, context, structs, more))


def _space(device, line, needed=True):
    return None if device == CPU else workspace_for(device, line, needed)


def _out_words(d, c):
    words = "out=%s ldd=%d" % ("bf16" if d.type == lib.BF16 else "fp32", d.stride[-2])
    if c is not None:
        words += " c=inplace" if c.data == d.data else " c=separate"
    return words


def _operands(a, b, transposed_b, recipe, recipe_a, recipe_b):
    values_a, scales_a = pair("a", a)
    values_b, scales_b = pair("b", b)
    block_n = blocks_of_b(recipe, recipe_a, recipe_b, (scales_a, scales_b))
    check_operand(values_a, scales_a)
    check_operand(values_b, scales_b)
    blocks = (128, block_n) if transposed_b else (block_n, 128)
    return (values_a, scales_a, 1, 128), (values_b, scales_b) + blocks


def _layout_options(use_psum_layout, expected_m):
    """Kind of layout, alignment of groups, hint."""
    if use_psum_layout:
        return lib.GROUP_ENDS, _runtime.settings.mk_alignment, expected_m or 0
    return lib.GROUP_INDEX, 0, expected_m or 0


def contiguous(
    kind, a, b, d, grouped_layout, recipe, recipe_a, recipe_b, use_psum_layout, expected_m
):
    """One call of a contiguous layout, all checks included."""
    transposed_b = kind == "nn"
    operand_a, operand_b = _operands(a, b, transposed_b, recipe, recipe_a, recipe_b)
    values_a, values_b, out = operand_a[0], operand_b[0], output("d", d)
    check_rank(values_a, 2)
    check_type(out, (lib.BF16, lib.F32), "bfloat16 or float32")
    m, n, k, groups = _check_sizes(values_a, values_b, out, transposed_b)
    if expected_m is not None and not use_psum_layout:
        fail(
            "expected_m_for_psum_layout = %s: must not be given without use_psum_layout", expected_m
        )
    rule = ("one end per group", groups) if use_psum_layout else ("one group per row of a", m)
    layout = _layout("grouped_layout", grouped_layout, rule[1], rule[0])
    device = same_device(out, values_a, operand_a[1], values_b, operand_b[1], layout)
    if m == 0:
        return
    seen_b = values_b.swapped() if transposed_b else values_b
    layout_options = _layout_options(use_psum_layout, expected_m)
    space, needed = None, needs_workspace(values_a) or needs_workspace(seen_b)
    if needed or m >= 1024:  # large products are faster with some
        scales_a, scales_b = operand_a[1], operand_b[1]
        line = "fp8_m_grouped_contiguous%s groups=%d m=%d n=%d k=%d sfb=%d %s %s %s %s %s%s%s%s" % (
            "_nn" if transposed_b else "", groups, m, n, k, operand_b[3 if transposed_b else 2],
            layout_words("a", values_a), layout_words("b", seen_b), _out_words(out, None),
            scale_words("sfa", scales_a), scale_words("sfb", scales_b, transposed_b),
            " layout=ends" if use_psum_layout else "",
            " expected_m=%d" % expected_m if expected_m else "",
            " sf=ue8m0" if scales_a.type == I32 else "",
        )  # fmt: skip
        space = _space(device, line, needed)
    options = _options(space, *layout_options)
    plain = kind == "nt" and space is recipe is recipe_a is None
    _run(
        "dg_m_grouped_fp8_gemm_%s_contiguous" % kind,
        (operand_a, operand_b), out, None, layout, options, device,
        layout_options if plain else None,
    )  # fmt: skip


def masked(a, b, d, masked_m, expected_m, recipe, recipe_a, recipe_b):
    """One call of the masked layout, all checks included."""
    operand_a, operand_b = _operands(a, b, False, recipe, recipe_a, recipe_b)
    values_a, values_b, out = operand_a[0], operand_b[0], output("d", d)
    check_rank(values_a, 3)
    check_type(out, (lib.BF16, lib.F32), "bfloat16 or float32")
    m, n, k, groups = _check_sizes(values_a, values_b, out, False)
    layout = _layout("masked_m", masked_m, groups, "one count per group")
    device = same_device(out, values_a, operand_a[1], values_b, operand_b[1], layout)
    if not hasattr(expected_m, "__index__"):
        raise TypeError("expected_m is a %s: must be an int" % type(expected_m).__name__)
    if m == 0:
        fail("%s: m must not be 0", values_a.text())
    expected_m = max(int(expected_m), 0)
    space, needed = None, needs_workspace(values_a) or needs_workspace(values_b)
    if needed or groups * min(expected_m, m) * n * k >= LARGE:
        line = "fp8_m_grouped_masked groups=%d max_m=%d n=%d k=%d sfb=%d %s %s %s%s%s" % (
            groups, m, n, k, operand_b[2], layout_words("a", values_a),
            layout_words("b", values_b), _out_words(out, None),
            " expected_m=%d" % min(expected_m, m) if expected_m else "",
            " sf=ue8m0" if operand_a[1].type == I32 else "",
        )  # fmt: skip
        space = _space(device, line, needed)
    options = _options(space, expected_m=expected_m)
    plain = space is recipe is recipe_a is None
    _run(
        "dg_m_grouped_fp8_gemm_nt_masked",
        (operand_a, operand_b), out, None, layout, options, device,
        (_fast.MASKED, 0, expected_m) if plain else None,
    )  # fmt: skip


def _flat(tensor):
    """The view of a tensor without gaps as one dimension."""
    step = 1
    for size, stride in reversed(tuple(zip(tensor.shape, tensor.stride))):
        if size > 1 and stride != step:
            fail("%s.stride = %s: must be contiguous", tensor.name, list(tensor.stride))
        step *= size
    tensor.shape, tensor.stride = (step,), (1,)
    return tensor


def _check_k_grouped(kind, name, values, size, total):
    """`values` as the library takes them: nt flat, tn [sum of k, size]."""
    if kind == "nt":
        _flat(values)
        if values.shape[0] != size * total:
            fail(
                "%s has %d elements: must have %d x %d, rows of d times the sum of ks_cpu",
                name, values.shape[0], size, total,
            )  # fmt: skip
    elif tuple(values.shape) != (total, size):
        fail("%s: must be [sum of ks_cpu, rows of d] = [%d, %d]", values.text(), total, size)


def _host_ks(ks_cpu):
    """The sizes as ints.  Callers exist whose list has only the right length and sum: no entry is held
    to more than not being negative."""
    if hasattr(ks_cpu, "tolist") and not isinstance(ks_cpu, (list, tuple)):
        if view("ks_cpu", ks_cpu).device != CPU:
            fail("ks_cpu is on the GPU: must be a list of ints")
        ks_cpu = ks_cpu.tolist()
    if not isinstance(ks_cpu, (list, tuple)):
        raise TypeError("ks_cpu is a %s: must be a list of ints" % type(ks_cpu).__name__)
    if not ks_cpu:
        fail("ks_cpu is empty: must have one k per group")
    for group, k in enumerate(ks_cpu):
        if k < 0:
            fail("ks_cpu[%d] = %d: must not be negative", group, k)
    return [int(k) for k in ks_cpu]


def k_grouped(kind, a, b, d, ks_cpu, grouped_layout, c, recipe, use_psum_layout):
    """One k-grouped call, all checks included.  grouped_layout, on the device, says how large the
    groups are; ks_cpu gives their number and the sum."""
    if use_psum_layout:
        fail("use_psum_layout = True: k-grouped calls take the k of each group on Hopper")
    if recipe is not None and tuple(recipe) != (1, 1, 128):
        fail("Unknown SF transformation: recipe = %s: must be (1, 1, 128)", tuple(recipe))
    values_a, scales_a = pair("a", a)
    values_b, scales_b = pair("b", b)
    check_operand(values_a, scales_a)
    check_operand(values_b, scales_b)
    out, add = output("d", d), None if c is None else view("c", c)
    check_rank(out, 3)
    check_type(out, (lib.BF16, lib.F32), "bfloat16 or float32")
    ks = _host_ks(ks_cpu)
    groups, m, n = out.shape
    if len(ks) != groups:
        fail("ks_cpu has %d entries, but %s: must be one per group", len(ks), out.text())
    layout = _layout("grouped_layout", grouped_layout, groups, "one k per group")
    device = same_device(out, values_a, scales_a, values_b, scales_b, layout, add)
    total = sum(ks)
    _check_k_grouped(kind, "a[0]", values_a, m, total)
    _check_k_grouped(kind, "b[0]", values_b, n, total)
    if 0 in (m, n):
        return
    blocks = (1, 128) if kind == "nt" else (128, 1)
    line = "fp8_k_grouped%s groups=%d m=%d n=%d k=%d %s" % (
        "" if kind == "nt" else "_tn", groups, m, n, total, _out_words(out, add),
    )  # fmt: skip
    options = _options(_space(device, line))
    _run(
        "dg_k_grouped_fp8_gemm_%s_contiguous" % kind,
        ((values_a, scales_a) + blocks, (values_b, scales_b) + blocks),
        out, add, layout, options, device,
    )  # fmt: skip


# ---- the public functions ----


def _one_of(name, value, other_name, other):
    """The value of an argument that has two names."""
    if other is None:
        if value is None:
            raise TypeError("missing argument: %s" % name)
        return value
    if value is not None:
        raise TypeError("%s and %s are two names of one argument" % (name, other_name))
    return other


def _contiguous(
    kind, a, b, d, layout, recipe, recipe_a, recipe_b, compiled_dims, disable, psum, zeros, hint
):
    recipe_a, recipe_b = older_positions(recipe_a, recipe_b, compiled_dims, disable)
    if not isinstance(zeros, bool):  # versions 2.3 to 2.5 had the hint at its place
        hint, zeros = zeros, True
    arguments = (kind, a, b, d, layout, recipe, recipe_a, recipe_b, psum, hint)
    if compiling() or is_traced(d):
        from . import _torch_ops

        _torch_ops.contiguous(*arguments)
    else:
        contiguous(*arguments)


def m_grouped_fp8_fp4_gemm_nt_contiguous(
    a: Scaled,
    b: Scaled,
    d: Tensor = None,
    grouped_layout: Tensor = None,
    recipe: Sequence[int] | None = None,
    recipe_a: Sequence[int] | None = None,
    recipe_b: Sequence[int] | None = None,
    compiled_dims: str = "nk",
    disable_ue8m0_cast: bool = False,
    use_psum_layout: bool = False,
    ensure_zero_padding: bool = True,
    expected_m_for_psum_layout: int | None = None,
    *,
    m_indices: Tensor = None,
    out: Tensor = None,
) -> None:
    """D[r] = A[r] B[group of r]^T, the rows of all groups in one matrix.

    a               ([m, k] float8_e4m3fn, [m, ceil(k / 128)] float32)
    b               ([groups, n, k] float8_e4m3fn, [groups, ceil(n / 128), ceil(k / 128)] float32)
    d               [m, n] bfloat16 or float32, rows contiguous
    grouped_layout  (older name m_indices) int32, contiguous, on the device:
                    [m], the group of each row; -1 for none, whose row of d becomes zeros.  No
                    alignment is asked for with use_psum_layout [groups], the end row of each group,
                    which begins where the one before it ended, rounded up to
                    get_mk_alignment_for_contiguous_layout(); rows between groups are not written
    expected_m_for_psum_layout   rows that a group usually has; only the speed depends on it
    ensure_zero_padding, compiled_dims, disable_ue8m0_cast   accepted; nothing depends on them

    Recipes, strides, streams and errors are those of fp8_gemm_nt.  n, k and groups must not be 0; m
    == 0 does nothing.  The layout is read on the device when the call runs.
    """
    layout = _one_of("grouped_layout", grouped_layout, "m_indices", m_indices)
    plain = recipe is recipe_a is recipe_b is None and compiled_dims == "nk" and not compiling()
    hint = expected_m_for_psum_layout
    known = hint is None or (use_psum_layout and type(hint) is int)
    if plain and known and type(ensure_zero_padding) is bool:
        arguments = (a, b, d, layout)
        if _fast.grouped_nt(_fast.address, arguments, *_layout_options(use_psum_layout, hint)) == 0:
            return
    _contiguous(
        "nt", a, b, _one_of("d", d, "out", out), layout, recipe, recipe_a, recipe_b, compiled_dims,
        disable_ue8m0_cast, use_psum_layout, ensure_zero_padding, expected_m_for_psum_layout,
    )  # fmt: skip


def m_grouped_fp8_fp4_gemm_nn_contiguous(
    a: Scaled,
    b: Scaled,
    d: Tensor = None,
    grouped_layout: Tensor = None,
    recipe: Sequence[int] | None = None,
    recipe_a: Sequence[int] | None = None,
    recipe_b: Sequence[int] | None = None,
    compiled_dims: str = "nk",
    disable_ue8m0_cast: bool = False,
    use_psum_layout: bool = False,
    ensure_zero_padding: bool = True,
    *,
    m_indices: Tensor = None,
    out: Tensor = None,
) -> None:
    """m_grouped_fp8_gemm_nt_contiguous with b written [groups, k, n], its scales [groups, ceil(k /
    128), ceil(n / 128)]."""
    layout = _one_of("grouped_layout", grouped_layout, "m_indices", m_indices)
    _contiguous(
        "nn", a, b, _one_of("d", d, "out", out), layout, recipe, recipe_a, recipe_b, compiled_dims,
        disable_ue8m0_cast, use_psum_layout, ensure_zero_padding, None,
    )  # fmt: skip


def m_grouped_fp8_fp4_gemm_nt_masked(
    a: Scaled,
    b: Scaled,
    d: Tensor = None,
    masked_m: Tensor = None,
    expected_m: int | None = None,
    recipe: Sequence[int] | None = None,
    recipe_a: Sequence[int] | None = None,
    recipe_b: Sequence[int] | None = None,
    compiled_dims: str = "nk",
    disable_ue8m0_cast: bool = False,
    *,
    out: Tensor = None,
    enable_overlap: bool = False,
    max_block_n: int | None = None,
    signal: Tensor = None,
) -> None:
    """D[g][r] = A[g][r] B[g]^T for r < masked_m[g]; the other rows of d are not written.

    a           ([groups, max_m, k] float8_e4m3fn, [groups, max_m, ceil(k / 128)] float32)
    b           ([groups, n, k] float8_e4m3fn, [groups, ceil(n / 128), ceil(k / 128)] float32)
    d           [groups, max_m, n] bfloat16 or float32, rows contiguous
    masked_m    [groups] int32, contiguous, on the device, read when the call runs; 0 is fine
    expected_m  rows that a group usually has; only the speed depends on it
    enable_overlap, max_block_n, signal   of SGLang's fork: enable_overlap=True is refused

    Recipes, strides, streams and errors are those of fp8_gemm_nt; no size may be 0.
    """
    if enable_overlap:
        raise NotImplementedError(
            "m_grouped_fp8_gemm_nt_masked: enable_overlap (signals per output tile) is not there"
        )
    if masked_m is None or expected_m is None:
        raise TypeError("missing argument: %s" % ("masked_m" if masked_m is None else "expected_m"))
    d = _one_of("d", d, "out", out)
    plain = recipe is recipe_a is recipe_b is None and compiled_dims == "nk" and not compiling()
    if plain and type(expected_m) is int:
        arguments = (a, b, d, masked_m)
        if _fast.grouped_nt(_fast.address, arguments, _fast.MASKED, 0, max(expected_m, 0)) == 0:
            return
    recipe_a, recipe_b = older_positions(recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)
    arguments = (a, b, d, masked_m, expected_m, recipe, recipe_a, recipe_b)
    if compiling() or is_traced(d):
        from . import _torch_ops

        _torch_ops.masked(*arguments)
    else:
        masked(*arguments)


def _k_grouped(kind, a, b, d, ks_cpu, layout, c, recipe, compiled_dims, psum):
    older_positions(None, None, compiled_dims, False)
    arguments = (kind, a, b, d, ks_cpu, layout, c, recipe, psum)
    if compiling() or is_traced(d):
        from . import _torch_ops

        _torch_ops.k_grouped(*arguments)
    else:
        k_grouped(*arguments)


def k_grouped_fp8_gemm_nt_contiguous(
    a: Scaled,
    b: Scaled,
    d: Tensor,
    ks_cpu: Sequence[int] | None = None,
    grouped_layout: Tensor = None,
    c: Tensor | None = None,
    recipe: Sequence[int] = (1, 1, 128),
    compiled_dims: str = "mn",
    use_psum_layout: bool = False,
    *,
    ks: Sequence[int] | None = None,
    ks_tensor: Tensor = None,
) -> None:
    """D[g] = C[g] + A_g B_g^T over the k of group g, as for gradients of weights.

    a               (contiguous float8_e4m3fn of m * sum of k elements: one [m, k_g] matrix after
                    the other, [m, sum of ceil(k_g / 128)] float32)
    b               likewise with n
    d               [groups, m, n] float32 or bfloat16
    ks_cpu          (older name ks) the k of each group, on the host: their number and sum count
    grouped_layout  (older name ks_tensor) [groups] int32 on the device: the k of each group; these
                    count.  Multiples of 32, 0 included (D[g] = C[g])
    c               None for zeros, or [groups, m, n] of d's dtype; the same memory as d accumulates

    Streams and errors are those of fp8_gemm_nt.
    """
    _k_grouped(
        "nt", a, b, d, _one_of("ks_cpu", ks_cpu, "ks", ks),
        _one_of("grouped_layout", grouped_layout, "ks_tensor", ks_tensor), c, recipe, compiled_dims,
        use_psum_layout,
    )  # fmt: skip


def k_grouped_fp8_gemm_tn_contiguous(
    a: Scaled,
    b: Scaled,
    d: Tensor,
    ks_cpu: Sequence[int] | None = None,
    grouped_layout: Tensor = None,
    c: Tensor | None = None,
    recipe: Sequence[int] = (1, 1, 128),
    compiled_dims: str = "mn",
    use_psum_layout: bool = False,
    *,
    ks: Sequence[int] | None = None,
    ks_tensor: Tensor = None,
) -> None:
    """k_grouped_fp8_gemm_nt_contiguous with a written [sum of k, m], its scales
    [sum of ceil(k_g / 128), m], and b likewise with n."""
    _k_grouped(
        "tn", a, b, d, _one_of("ks_cpu", ks_cpu, "ks", ks),
        _one_of("grouped_layout", grouped_layout, "ks_tensor", ks_tensor), c, recipe, compiled_dims,
        use_psum_layout,
    )  # fmt: skip


m_grouped_fp8_gemm_nt_contiguous = m_grouped_fp8_fp4_gemm_nt_contiguous
m_grouped_fp8_gemm_nn_contiguous = m_grouped_fp8_fp4_gemm_nn_contiguous
m_grouped_fp8_gemm_nt_masked = m_grouped_fp8_fp4_gemm_nt_masked
fp8_m_grouped_gemm_nt_masked = m_grouped_fp8_fp4_gemm_nt_masked


# ---- version 1 ----


def m_grouped_gemm_fp8_fp8_bf16_nt_contiguous(
    lhs: Scaled, rhs: Scaled, out: Tensor, m_indices: Tensor
) -> None:
    """Version 1's name of m_grouped_fp8_gemm_nt_contiguous."""
    m_grouped_fp8_fp4_gemm_nt_contiguous(lhs, rhs, out, m_indices)


def m_grouped_gemm_fp8_fp8_bf16_nt_masked(
    lhs: Scaled, rhs: Scaled, out: Tensor, masked_m: Tensor, expected_m: int
) -> None:
    """Version 1's name of m_grouped_fp8_gemm_nt_masked."""
    m_grouped_fp8_fp4_gemm_nt_masked(lhs, rhs, out, masked_m, expected_m)


def _part(flat, start, rows, columns):
    return flat[start * rows : (start + columns) * rows].reshape(rows, columns)


def k_grouped_wgrad_gemm_fp8_fp8_fp32_nt(
    lhs: Scaled, rhs: Scaled, out: Tensor, batch_sizes: Sequence[int]
) -> None:
    """Version 1's out[g] += lhs_g rhs_g^T, one product after the other.

    lhs (flat float8_e4m3fn of m * sum of k, [sum of ceil(k_g / 128), m] float32), rhs likewise with
    n, out [groups, m, n] float32, batch_sizes the k of each group on the host.
    """
    (a, sfa), (b, sfb) = lhs, rhs
    if len(out.shape) != 3:
        fail("out.shape = %s: must have 3 dimensions", list(out.shape))
    groups, m, n = out.shape
    sizes = [int(k) for k in batch_sizes]
    if len(sizes) != groups:
        fail("batch_sizes has %d entries, but out.shape = %s", len(sizes), list(out.shape))
    a, b, start, block = a.reshape(-1), b.reshape(-1), 0, 0
    for group, k in enumerate(sizes):
        blocks = -(-k // 128)
        if k:
            wgrad_gemm_fp8_fp8_fp32_nt(
                (_part(a, start, m, k), swap_last(sfa[block : block + blocks])),
                (_part(b, start, n, k), swap_last(sfb[block : block + blocks])),
                out[group],
            )
        start, block = start + k, block + blocks
