# SPDX-License-Identifier: MIT
"""Dense FP8 GEMM: what the arguments of a call mean, put into the library's structs.

A plain call on torch tensors is first offered to the fast path (_fast.py), which declines whatever
it does not know without a word; the long way through `gemm` here is complete and says what is
wrong.
"""

from __future__ import annotations

import ctypes
import sys
from math import prod
from typing import Any, Sequence, Tuple

from . import _fast
from . import _library as lib
from . import _runtime
from ._library import fail
from ._tensor import (
    CPU,
    I32,
    is_torch,
    is_traced,
    output,
    packed_scaled,
    same_device,
    swap_last,
    view,
)

Tensor = Any  # torch.Tensor, or an array of a library that _tensor.py can read
Scaled = Tuple[Tensor, Tensor]  # data and scales

_ROWS_OF_RECIPES = {(1, 128, 128): 128, (1, 1, 128): 1}  # of B, that share a scale
LARGE = 1 << 34  # products; for less, the long way takes longer than a workspace for speed saves
_TRANSPOSED = {"nt": (False, False), "nn": (False, True), "tn": (True, True), "tt": (True, False)}


def pair(name, value):
    """The views of (data, scales)."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(
            "%s is a %s: must be a tuple of data and scales" % (name, type(value).__name__)
        )
    if len(value) != 2:
        fail("%s has %d elements: must be a tuple of data and scales", name, len(value))
    return view(name + "[0]", value[0]), view(name + "[1]", value[1])


def _numbers(name, recipe, count):
    if not isinstance(recipe, (tuple, list)):
        raise TypeError("%s is a %s: must be a tuple of ints" % (name, type(recipe).__name__))
    if len(recipe) != count:
        fail("%s = %s: must have %d numbers", name, tuple(recipe), count)
    return tuple(int(number) for number in recipe)


def _rows_of(recipe):
    """The rows of B that share a scale for a plain recipe, else 0."""
    return _ROWS_OF_RECIPES.get(recipe, 0) if type(recipe) is tuple else 0


def blocks_of_b(recipe, recipe_a, recipe_b, scales=()):
    """How many rows of B share a scale: 128 or 1.  RuntimeError for recipes that Hopper has no use
    for. `scales` are the views of both operands' scales: packed ones come 1 x 128."""
    if recipe is not None:
        if recipe_a is not None or recipe_b is not None:
            fail("recipe = %s: must not be given together with recipe_a or recipe_b", recipe)
        triple = _numbers("recipe", recipe, 3)
        if triple not in _ROWS_OF_RECIPES:
            fail(
                "Unknown SF transformation: recipe = %s: must be (1, 128, 128) or (1, 1, 128)",
                triple,
            )
        return _ROWS_OF_RECIPES[triple]
    if (recipe_a is None) != (recipe_b is None):
        name = "recipe_b" if recipe_b is None else "recipe_a"
        fail("%s is missing: recipe_a and recipe_b must be given together", name)
    if recipe_a is None:
        return 1 if scales and all(scale.type == I32 for scale in scales) else 128
    first, second = _numbers("recipe_a", recipe_a, 2), _numbers("recipe_b", recipe_b, 2)
    if first != (1, 128):
        fail("Unknown SF transformation: recipe_a = %s: must be (1, 128)", first)
    if second not in ((128, 128), (1, 128)):
        fail("Unknown SF transformation: recipe_b = %s: must be (128, 128) or (1, 128)", second)
    return second[0]


def older_positions(recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast):
    """Up to version 2.2 compiled_dims and disable_ue8m0_cast stood where recipe_a and recipe_b
    are."""
    if isinstance(recipe_a, str):
        if isinstance(recipe_b, (bool, int)):
            disable_ue8m0_cast, recipe_b = bool(recipe_b), None
        compiled_dims, recipe_a = recipe_a, None
    if not isinstance(compiled_dims, str):
        raise TypeError("compiled_dims is a %s: must be a str" % type(compiled_dims).__name__)
    if set(compiled_dims.lower()) - set("mnk"):
        fail("compiled_dims = %r: must name some of m, n and k", compiled_dims)
    return recipe_a, recipe_b


def check_type(tensor, types, rule):
    if tensor.type not in types:
        fail("%s.dtype = %s: must be %s", tensor.name, tensor.dtype, rule)


def check_rank(tensor, rank):
    if len(tensor.shape) != rank:
        fail("%s: must have %d dimensions", tensor.text(), rank)


def check_operand(data, scales):
    """The dtypes that every FP8 operand has."""
    check_type(data, (lib.E4M3,), "float8_e4m3fn")
    check_type(scales, (lib.F32, I32), "float32 (or int32 with packed UE8M0 scales)")


def _options(space):
    flags = lib.GEMM_PDL if _runtime.settings.pdl else 0
    if not flags and space is None:
        return None
    address, count, _ = space or (None, 0, None)
    return ctypes.byref(lib.GemmOptions(ctypes.sizeof(lib.GemmOptions), address, count, flags))


def needs_workspace(tensor):
    """Whether a GPU has to lay the values out anew: not K-major, or rows that TMA cannot read."""
    row, column = tensor.stride[-2:]
    return tensor.device != CPU and (column != 1 or row % 16) and min(tensor.shape) > 0


def layout_words(name, tensor):
    """The problem line's words for the layout of values [.., rows, k]."""
    row, column = tensor.stride[-2:]
    major, stride = ("k", row) if column == 1 else ("mn", column)
    return "%s=%s ld%s=%d" % (name, major, name, stride)


def scale_words(name, scales, transposed=False):
    """The problem line's words for which dimension of scales [.., rows, k blocks] lies together."""
    along_k = scales.stride[-2:-1] if transposed else scales.stride[-1:]
    return "%s_layout=%s" % (name, "k" if along_k == (1,) else "mn")


def _problem_line(kind, a, b, d, c, block_n, scales_a, scales_b):
    """The call as the library's problem line (deepgemm.h), for dg_workspace_bytes."""
    a_t, b_t = _TRANSPOSED[kind]
    m, k = reversed(a.shape) if a_t else a.shape
    n = b.shape[1] if b_t else b.shape[0]
    words = ["fp8_gemm_%s m=%d n=%d k=%d sfb=%d" % (kind, m, n, k, block_n)]
    words.append(layout_words("a", a.swapped() if a_t else a))
    words.append(layout_words("b", b.swapped() if b_t else b))
    words.append("out=%s ldd=%d" % ("bf16" if d.type == lib.BF16 else "fp32", d.stride[0]))
    words.append(scale_words("sfa", scales_a, a_t))
    words.append(scale_words("sfb", scales_b, b_t))
    if c is not None:
        words.append("c=inplace" if c.data == d.data else "c=separate")
    if scales_a.type == I32:
        words.append("sf=ue8m0")
    return " ".join(words)


def workspace_for(device, line, needed):
    """Memory for the call of a problem line; None, not an error, where the call runs without."""
    try:
        return _runtime.workspace(device, line)
    except RuntimeError:  # no memory; or the call itself says what is wrong, in its arguments' words
        if needed:
            raise
        return None


def _space(kind, a, b, d, c, block_n, scales_a, scales_b):
    """Workspace: what a call needs, and what makes it faster."""
    a_t, b_t = _TRANSPOSED[kind]
    needed = needs_workspace(a.swapped() if a_t else a) or needs_workspace(
        b.swapped() if b_t else b
    )
    is_large = d.device != CPU and prod(d.shape) * a.shape[0 if a_t else 1] >= LARGE
    if not needed and not is_large:
        return None
    line = _problem_line(kind, a, b, d, c, block_n, scales_a, scales_b)
    return workspace_for(d.device, line, needed)


def _check_nt_sizes(kind, a, b, d):
    """The sizes in the words of the Python call; everything else is the library's to refuse."""
    for tensor in (a, b, d):
        check_rank(tensor, 2)
    a_t, b_t = _TRANSPOSED[kind]
    m, k = reversed(a.shape) if a_t else a.shape
    n, k_of_b = reversed(b.shape) if b_t else b.shape
    if k != k_of_b:
        fail("%s, but %s: k must agree", a.text(), b.text())
    if tuple(d.shape) != (m, n):
        fail("%s: must be [m, n] = [%d, %d]", d.text(), m, n)


def gemm(kind, a, b, d, c, recipe, recipe_a, recipe_b):
    """One dense call, all checks included."""
    values_a, scales_a = pair("a", a)
    values_b, scales_b = pair("b", b)
    out, add = output("d", d), None if c is None else view("c", c)
    device = same_device(out, values_a, scales_a, values_b, scales_b, add)
    block_n = blocks_of_b(recipe, recipe_a, recipe_b, (scales_a, scales_b))
    check_operand(values_a, scales_a)
    check_operand(values_b, scales_b)
    check_type(
        out, (lib.BF16, lib.F32) + ((lib.F64,) if device == CPU else ()), "bfloat16 or float32"
    )
    _check_nt_sizes(kind, values_a, values_b, out)
    if 0 in out.shape:
        return
    a_t, b_t = _TRANSPOSED[kind]
    packed_a = packed_scaled(values_a, scales_a, *((128, 1) if a_t else (1, 128)))
    packed_b = packed_scaled(values_b, scales_b, *((128, block_n) if b_t else (block_n, 128)))
    context = _runtime.context(device)
    space = _space(kind, values_a, values_b, out, add, block_n, scales_a, scales_b)
    run, options = getattr(lib.library(), "dg_fp8_gemm_" + kind), _options(space)
    structs = (packed_a, packed_b, out.packed())
    status = run(
        context, *structs, None if add is None else add.packed(), options, _runtime.stream(out)
    )
    if status:
        lib.raise_last(status)
    if is_torch(d):
        known = recipe is not None or block_n == 128  # else packed scales said so, not the call
        plain = kind == "nt" and recipe_a is c is space is None and known
        call = (block_n, (a, b, d), run, context, structs, options) if plain else None
        _fast.ready(device, call)


# ---- the public functions ----


def _look_for_torch():
    """Stands for torch.compiler.is_dynamo_compiling until torch is there."""
    global _compiling
    torch = sys.modules.get("torch")
    ask = getattr(getattr(torch, "compiler", None), "is_dynamo_compiling", None)
    if ask is None:  # no torch yet, or one that is too old to trace calls
        return False
    if ask():
        return True
    _compiling = ask
    return False


_compiling = _look_for_torch


def compiling():
    """Whether Dynamo is tracing the call."""
    return _compiling()


def _general(kind, a, b, d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast):
    recipe_a, recipe_b = older_positions(recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)
    if _compiling() or is_traced(d):
        from . import _torch_ops

        _torch_ops.gemm(kind, a, b, d, c, recipe, recipe_a, recipe_b)
    else:
        gemm(kind, a, b, d, c, recipe, recipe_a, recipe_b)


def fp8_fp4_gemm_nt(
    a: Scaled,
    b: Scaled,
    d: Tensor,
    c: Tensor | None = None,
    recipe: Sequence[int] | None = None,
    recipe_a: Sequence[int] | None = None,
    recipe_b: Sequence[int] | None = None,
    compiled_dims: str = "nk",
    disable_ue8m0_cast: bool = False,
) -> None:
    """D = A B^T (+ C) with one scale per row and 128 of k for A, and per 128 x 128 (or, with the
    recipe (1, 1, 128), per row and 128 of k) for B.

    a   ([m, k] float8_e4m3fn, [m, ceil(k / 128)] float32)
    b   ([n, k] float8_e4m3fn, [ceil(n / 128), ceil(k / 128)] or [n, ceil(k / 128)] float32)
    d   [m, n] bfloat16 or float32, rows contiguous
    c   None, or [m, n] of d's dtype; the same memory as d accumulates in place
    recipe              (1, 128, 128) or (1, 1, 128): rows of A, rows of B, and k elements per scale
    recipe_a, recipe_b  the same as pairs: (1, 128) and (128, 128) or (1, 128)
    compiled_dims, disable_ue8m0_cast   accepted; nothing depends on them

    Scales may have any strides; int32 scales are packed UE8M0, four along k.  On a GPU values are
    read in place when they are K-major with row strides of a multiple of 16 bytes, and laid out
    anew otherwise. m == 0 or n == 0 does nothing; k == 0 gives C, or zeros.  Queued on torch's
    current stream of d's device, without synchronising; on CPU tensors the call returns when d is
    complete.

    RuntimeError, with nothing written: dtypes, shapes or devices that disagree, unknown recipes,
    strides that the layout forbids.  TypeError: arguments of the wrong kind.
    """
    if recipe_a is recipe_b is None and compiled_dims == "nk" and not _compiling():
        arguments = (a, b, d) if c is None else (a, b, d, c)
        rows = 128 if recipe is None else _rows_of(recipe)
        if rows and _fast.gemm_nt(_fast.address, arguments, rows) == 0:
            return
    _general("nt", a, b, d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)


def fp8_fp4_gemm_nn(
    a: Scaled,
    b: Scaled,
    d: Tensor,
    c: Tensor | None = None,
    recipe: Sequence[int] | None = None,
    recipe_a: Sequence[int] | None = None,
    recipe_b: Sequence[int] | None = None,
    compiled_dims: str = "nk",
    disable_ue8m0_cast: bool = False,
) -> None:
    """fp8_gemm_nt with b written [k, n]: b = ([k, n], [ceil(k / 128), ceil(n / 128)])."""
    _general("nn", a, b, d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)


def fp8_fp4_gemm_tn(
    a: Scaled,
    b: Scaled,
    d: Tensor,
    c: Tensor | None = None,
    recipe: Sequence[int] | None = None,
    recipe_a: Sequence[int] | None = None,
    recipe_b: Sequence[int] | None = None,
    compiled_dims: str = "mn",
    disable_ue8m0_cast: bool = False,
) -> None:
    """fp8_gemm_nt with a written [k, m] and b [k, n]; their scales likewise."""
    _general("tn", a, b, d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)


def fp8_fp4_gemm_tt(
    a: Scaled,
    b: Scaled,
    d: Tensor,
    c: Tensor | None = None,
    recipe: Sequence[int] | None = None,
    recipe_a: Sequence[int] | None = None,
    recipe_b: Sequence[int] | None = None,
    compiled_dims: str = "mn",
    disable_ue8m0_cast: bool = False,
) -> None:
    """fp8_gemm_nt with a written [k, m] and its scales [ceil(k / 128), m]."""
    _general("tt", a, b, d, c, recipe, recipe_a, recipe_b, compiled_dims, disable_ue8m0_cast)


fp8_gemm_nt = fp8_fp4_gemm_nt
fp8_gemm_nn = fp8_fp4_gemm_nn
fp8_gemm_tn = fp8_fp4_gemm_tn
fp8_gemm_tt = fp8_fp4_gemm_tt


# ---- version 1 ----


def gemm_fp8_fp8_bf16_nt(lhs: Scaled, rhs: Scaled, out: Tensor) -> None:
    """Version 1's name of fp8_gemm_nt: out = lhs rhs^T, scales 1 x 128 and 128 x 128."""
    fp8_fp4_gemm_nt(lhs, rhs, out)


def _gradient_scales(name, operand):
    """Scales [mn, ceil(k / 128)], or already transposed."""
    data, scales = operand
    values, factors = view(name + "[0]", data), view(name + "[1]", scales)
    check_rank(values, 2)
    rows, blocks = values.shape[0], -(-values.shape[1] // 128)
    if tuple(factors.shape) != (rows, blocks) and tuple(factors.shape) == (blocks, rows):
        return data, swap_last(scales)
    return operand


def wgrad_gemm_fp8_fp8_fp32_nt(lhs: Scaled, rhs: Scaled, out: Tensor) -> None:
    """Version 1's weight gradient: out += lhs rhs^T in float32, both operands with 1 x 128 scales,
    which may be transposed ([ceil(k / 128), m])."""
    lhs, rhs = _gradient_scales("lhs", lhs), _gradient_scales("rhs", rhs)
    fp8_fp4_gemm_nt(lhs, rhs, out, out, (1, 1, 128))
