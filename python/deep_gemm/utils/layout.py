# SPDX-License-Identifier: MIT
"""Layouts of scales.  The GEMMs here read scales in any strides, so none of this is needed before a
call; it serves code that was written for DeepGEMM, whose kernels want scales MN-major with padded
columns.
"""

from __future__ import annotations

from typing import Any, Sequence

from .._arrays import arrays_of, check_rank
from .._dense import swap_last
from .._library import fail
from .._runtime import (
    get_mk_alignment_for_contiguous_layout,
    get_theoretical_mk_alignment_for_contiguous_layout,
    set_mk_alignment_for_contiguous_layout,
)
from .math import align, ceil_div, pack_exponents

__all__ = [
    "get_col_major_tma_aligned_tensor",
    "get_k_alignment_for_contiguous_layout",
    "get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor",
    "get_m_alignment_for_contiguous_layout",
    "get_mk_alignment_for_contiguous_layout",
    "get_mn_major_tma_aligned_packed_ue8m0_tensor",
    "get_mn_major_tma_aligned_tensor",
    "get_theoretical_mk_alignment_for_contiguous_layout",
    "get_tma_aligned_size",
    "set_mk_alignment_for_contiguous_layout",
    "transform_sf_into_required_layout",
]

Tensor = Any

get_m_alignment_for_contiguous_layout = get_mk_alignment_for_contiguous_layout
get_k_alignment_for_contiguous_layout = get_mk_alignment_for_contiguous_layout


def get_tma_aligned_size(x: int, element_size: int) -> int:
    """x rounded up so that x * element_size is a multiple of 16 bytes."""
    if element_size < 1 or 16 % element_size:
        fail("element_size = %d: must divide 16", element_size)
    return align(x, 16 // element_size)


def _check_scales(sf):
    ops = arrays_of("sf", sf)
    check_rank("sf", sf, 2, 3)
    if ops.dtype_name(sf) != "float32":
        fail("sf.dtype = %s: must be float32", ops.dtype_name(sf))
    return ops


def _mn_major(ops, shape, like, dtype):
    """An uninitialised tensor [.., mn, columns] whose columns start 16 bytes aligned."""
    mn, columns = shape[-2], shape[-1]
    padded = ops.empty(tuple(shape[:-2]) + (columns, get_tma_aligned_size(mn, 4)), like, dtype)
    return ops.swap_last(padded)[..., :mn, :]


def get_mn_major_tma_aligned_tensor(sf: Tensor) -> Tensor:
    """sf [.., mn, s] float32 with strides (al * s, 1, al), al being mn rounded up to 4: the input
    itself if it has them.  The elements between mn and al are not initialised."""
    ops = _check_scales(sf)
    mn, columns = sf.shape[-2], sf.shape[-1]
    aligned = get_tma_aligned_size(mn, 4)
    wanted = (aligned * columns, 1, aligned)[-len(sf.shape) :]
    if ops.strides(sf)[-2:] == wanted[-2:] and (len(sf.shape) == 2 or ops.strides(sf) == wanted):
        return sf
    out = _mn_major(ops, sf.shape, sf, None)
    out[...] = sf
    return out


get_col_major_tma_aligned_tensor = get_mn_major_tma_aligned_tensor  # version 1's name


def get_mn_major_tma_aligned_packed_ue8m0_tensor(
    sf: Tensor, psum_layout: Tensor | None = None
) -> Tensor:
    """sf [.., mn, s] float32 powers of two as int32 [.., mn, ceil(s / 4)], MN-major as
    get_mn_major_tma_aligned_tensor: byte j of word i is the biased exponent of scale 4 i + j,
    missing ones are 0.  With psum_layout (int32 [groups], end rows) rows outside every group may
    hold anything, and so does the result there."""
    ops = _check_scales(sf)
    if psum_layout is not None:
        check_rank("sf", sf, 2)
        check_rank("psum_layout", psum_layout, 1)
    out = _mn_major(ops, tuple(sf.shape[:-1]) + (ceil_div(sf.shape[-1], 4),), sf, ops.i32)
    bits = ops.bits(ops.contiguous(sf))
    missing = -sf.shape[-1] % 4
    if missing:
        bits = ops.concatenate([bits, ops.zeros(tuple(sf.shape[:-1]) + (missing,), bits)], -1)
    out[...] = pack_exponents(ops, bits)
    return out


def _k_grouped_arguments(arguments, gran_k):
    """(ks, gran_k, use_psum_layout) of the forms (sf, ks_tensor, ks[, gran_k]) of versions 2.0 to
    2.5 and (sf, grouped_layout, ks_cpu, gran_k, k_alignment[, use_psum_layout]) of 2.6."""
    layout, ks = arguments
    if hasattr(ks, "tolist"):
        ks = ks.tolist()
    if not isinstance(ks, (list, tuple)):
        raise TypeError("ks_cpu is a %s: must be a list of ints" % type(ks).__name__)
    if gran_k not in (32, 128):
        fail("gran_k = %s: must be 32 or 128", gran_k)
    if len(layout.shape) != 1 or layout.shape[0] != len(ks):
        fail("grouped_layout.shape = %s: must be [%d], as ks_cpu has", list(layout.shape), len(ks))
    return [int(k) for k in ks]


def get_k_grouped_mn_major_tma_aligned_packed_ue8m0_tensor(
    sf: Tensor,
    grouped_layout: Tensor,
    ks_cpu: Sequence[int],
    gran_k: int = 128,
    k_alignment: int | None = None,
    use_psum_layout: bool = False,
) -> Tensor:
    """sf [sum of k / gran_k, mn] float32 powers of two as int32 [sum of ceil(k_g / (4 gran_k)),
    mn], contiguous, each group packed for itself along k.

    grouped_layout   int32 [groups] on the device: the k of each group, or with use_psum_layout
                     their ends
    ks_cpu           the k of each group, on the host
    """
    ops = _check_scales(sf)
    check_rank("sf", sf, 2)
    ks = _k_grouped_arguments((grouped_layout, ks_cpu), gran_k)
    mn = sf.shape[1]
    if mn % 4:
        fail("sf.shape = %s: mn must be a multiple of 4", list(sf.shape))
    bits, start, parts = ops.bits(ops.contiguous(sf)), 0, []
    for index, k in enumerate(ks):
        if k % gran_k:
            fail("ks_cpu[%d] = %d: must be a multiple of gran_k = %d", index, k, gran_k)
        rows = bits[start : start + k // gran_k]
        start += align(k, k_alignment or gran_k) // gran_k if use_psum_layout else k // gran_k
        if k == 0:
            continue
        missing = -rows.shape[0] % 4
        if missing:
            rows = ops.concatenate([rows, ops.zeros((missing, mn), bits)], 0)
        words = pack_exponents(ops, ops.contiguous(ops.swap_last(rows)))
        parts.append(ops.swap_last(words))
    if not use_psum_layout and start != sf.shape[0]:
        fail("sf.shape = %s: must have %d rows, as ks_cpu says", list(sf.shape), start)
    if not parts:
        return ops.zeros((0, mn), bits)
    return ops.contiguous(ops.concatenate(parts, 0))


def _granularity(recipe, is_sfa):
    """(rows, columns) per scale of the operand that is meant."""
    recipe = tuple(int(number) for number in recipe)
    if len(recipe) == 3:
        if is_sfa is None:
            fail("is_sfa is missing: a recipe of three, %s, is for two operands", recipe)
        return (recipe[0] if is_sfa else recipe[1]), recipe[2]
    if len(recipe) != 2:
        fail("recipe = %s: must have 2 or 3 numbers", recipe)
    if is_sfa is not None:
        fail("is_sfa = %s: must not be given with the recipe %s of one operand", is_sfa, recipe)
    return recipe


def transform_sf_into_required_layout(
    sf: Tensor,
    mn: int,
    k: int,
    recipe: Any = None,
    num_groups: Any = None,
    is_sfa: bool | None = None,
    disable_ue8m0_cast: bool = False,
    psum_layout: Tensor | None = None,
    recipe_ab: Sequence[int] | None = None,
) -> Tensor:
    """The scales as DeepGEMM's Hopper kernels want them: 1 x 128 scales MN-major with aligned
    columns, 128 x 128 scales as they are (checked).

    sf [groups?, ceil(mn / rows per scale), ceil(k / 128)] float32.  A recipe of three needs is_sfa,
    one of two forbids it.  The argument order of 2.0 (num_groups before recipe) is understood too.
    """
    if isinstance(num_groups, (tuple, list)):  # 2.0: sf, mn, k, num_groups, recipe, is_sfa, disable
        recipe, num_groups = num_groups, recipe
    if recipe is None:
        recipe = recipe_ab
    if recipe is None:
        fail("recipe is missing")
    gran_mn, gran_k = _granularity(recipe, is_sfa)
    ops = _check_scales(sf)
    shape = (ceil_div(mn, gran_mn), ceil_div(k, gran_k))
    if num_groups is not None:
        shape = (num_groups,) + shape
    if tuple(sf.shape) != shape:
        fail("sf.shape = %s: must be %s for mn = %d, k = %d", list(sf.shape), list(shape), mn, k)
    if (gran_mn, gran_k) == (1, 128):
        return get_mn_major_tma_aligned_tensor(sf)
    if (gran_mn, gran_k) == (128, 128):
        _check_in_place(ops, sf)
        return sf
    fail("Unknown SF transformation: %d x %d: must be 1 x 128 or 128 x 128", gran_mn, gran_k)


def _check_in_place(ops, sf):
    """Contiguous, or contiguous once the last two dimensions are exchanged."""
    for candidate in (sf, swap_last(sf)):
        expected, step = [], 1
        for size in reversed(candidate.shape):
            expected.append(step)
            step *= size
        pairs = zip(candidate.shape, ops.strides(candidate), reversed(expected))
        if all(size == 1 or stride == wanted for size, stride, wanted in pairs):
            return
    fail(
        "sf.stride = %s: must be contiguous, or so with its last dimensions exchanged",
        ops.strides(sf),
    )
