# SPDX-License-Identifier: MIT
# test_casts.py - deep_gemm.utils.math: casts to FP8 and FP4 and power-of-two scales, bit for bit
# against the documented arithmetic written out in NumPy, the same on every kind of tensor.
import itertools

import numpy as np

from common import E4M3, KITS, bf16_bits, bf16_values, deep_gemm, main
from common import random, refused

math = deep_gemm.utils.math


def nearest_e4m3(x):
    """float32 values as E4M3 bytes: the nearest of the finite values, ties to the even code; NaN
    above."""
    sizes = E4M3[:127]
    size = np.abs(x.astype(np.float64))
    upper = np.clip(np.searchsorted(sizes, size), 1, 126)
    low, high = sizes[upper - 1], sizes[upper]
    code = np.where(size - low < high - size, upper - 1, upper)
    tie = (size - low) == (high - size)
    code = np.where(tie, np.where(upper % 2 == 0, upper, upper - 1), code)
    code = np.where(size > 464, 127, code)  # the tie of 464 goes down to 448, whose code is even
    return (np.where(np.isnan(x), 127, code) | (np.signbit(x) << 7)).astype(np.uint8)


def power_of_two_above(x):
    mantissa, exponent = np.frexp(x.astype(np.float64))
    power = np.where(mantissa == 0.5, exponent - 1, exponent)
    return np.exp2(np.minimum(power, 127)).astype(np.float32)


def quantize(x, block_rows, block_columns, powers):
    """The documented arithmetic in float32: codes and scales."""
    m, n = x.shape
    rows, columns = -(-m // block_rows), -(-n // block_columns)
    codes, scales = np.zeros((m, n), np.uint8), np.zeros((rows, columns), np.float32)
    for i, j in itertools.product(range(rows), range(columns)):
        part = (
            slice(i * block_rows, (i + 1) * block_rows),
            slice(j * block_columns, (j + 1) * block_columns),
        )
        amax = max(np.abs(x[part]).max(), np.float32(1e-4))
        scale = np.float32(amax) / np.float32(448)
        if powers:
            scale = power_of_two_above(np.array(scale))
        scales[i, j] = scale
        codes[part] = nearest_e4m3(x[part] * (np.float32(1) / np.float32(scale)))
    return codes, scales


def matrices(kit, m, n):
    """(tensor, float32 values) of both input types."""
    x = (random.standard_normal((m, n)) * np.exp2(random.uniform(-8, 8, (m, 1)))).astype(np.float32)
    x[0, 0] = 0
    yield kit.f32(x), x
    yield kit.bf16(x), bf16_values(bf16_bits(x))


def bits(kit, tensor):
    return kit.bytes_of(tensor)


def check(kit, result, codes, scales):
    data, factors = result
    assert tuple(data.shape) == codes.shape and tuple(factors.shape) == scales.shape
    assert (bits(kit, factors).view(np.float32) == scales.reshape(-1)).all()
    assert (bits(kit, data) == codes.reshape(-1)).all()


def test_per_token_casts_have_the_documented_bits():
    for kit in KITS:
        for (m, n), gran, powers in itertools.product(
            ((1, 1), (7, 128), (33, 300), (4, 512)), (128, 32), (False, True)
        ):
            for tensor, x in matrices(kit, m, n):
                codes, scales = quantize(x, 1, gran, powers)
                check(kit, math.per_token_cast_to_fp8(tensor, powers, gran), codes, scales)


def test_per_block_and_per_channel_casts_have_the_documented_bits():
    for kit in KITS:
        for (m, n), powers in itertools.product(((128, 128), (300, 200), (1, 129)), (False, True)):
            for tensor, x in matrices(kit, m, n):
                check(
                    kit, math.per_block_cast_to_fp8(tensor, powers), *quantize(x, 128, 128, powers)
                )
        for (m, n), powers in itertools.product(((128, 40), (384, 7)), (False, True)):
            for tensor, x in matrices(kit, m, n):
                check(
                    kit, math.per_channel_cast_to_fp8(tensor, powers), *quantize(x, 128, 1, powers)
                )
        refused(lambda: math.per_channel_cast_to_fp8(kit.f32(np.ones((100, 4))), False), "multiple")


def test_custom_dimensions_take_the_maximum_over_the_others():
    for kit in KITS:
        x = random.standard_normal((6, 5, 8)).astype(np.float32)
        for dims, axes in (((0,), (1, 2)), ((0, 2), (1,)), ((1,), (0, 2)), ((0, -1), (1,))):
            for powers in (False, True):
                amax = np.maximum(np.abs(x).max(axis=axes, keepdims=True), np.float32(1e-4))
                scales = amax / np.float32(448)
                if powers:
                    scales = power_of_two_above(scales)
                codes = nearest_e4m3(x * (np.float32(1) / scales))
                result = math.per_custom_dims_cast_to_fp8(kit.f32(x), dims, powers)
                check(kit, result, codes, np.squeeze(scales))


def test_every_rounding_of_e4m3_is_to_nearest_even():
    edges = np.concatenate([E4M3[:127], (E4M3[:126] + E4M3[1:127]) / 2, [448.0, 463.9, 464.0]])
    edges = edges.astype(np.float32)
    near = [np.nextafter(edges, np.float32(side), dtype=np.float32) for side in (-1, 1e9)]
    values = np.concatenate([edges] + near)
    anything = random.integers(0, 1 << 32, 20000, np.uint64).astype(np.uint32).view(np.float32)
    usual = (random.standard_normal(20000) * np.exp2(random.uniform(-12, 10, 20000))).astype(
        np.float32
    )
    values = np.concatenate([values, -values, anything, usual, [np.inf, -np.inf, np.nan]])
    values = values.astype(np.float32)  # torch's versions differ in what becomes of more than 464
    values = values[(np.abs(values) <= 464) | np.isnan(values)]
    from deep_gemm._arrays import arrays_of

    for kit in KITS:
        tensor = kit.f32(values)
        got = kit.bytes_of(arrays_of("x", tensor).to_fp8(tensor))
        expected = nearest_e4m3(values)
        odd = np.isnan(values)  # the sign of a NaN is nobody's promise
        assert (got[~odd] == expected[~odd]).all() and (got[odd] & 127 == 127).all()


def test_an_inf_makes_nan_of_itself_and_zeros_of_its_block():
    for kit in KITS:
        x = random.standard_normal((2, 256)).astype(np.float32)
        x[0, 3] = np.inf
        data, scales = math.per_token_cast_to_fp8(kit.f32(x), False)
        got, factors = kit.values(data), kit.values(scales)
        assert np.isinf(factors[0, 0]) and np.isfinite(factors).sum() == 3
        assert np.isnan(got[0, 3]) and (np.delete(got[0, :128], 3) == 0).all()
        assert np.isfinite(got[0, 128:]).all() and np.isfinite(got[1]).all()


def test_power_of_two_scales_round_up_and_pack():
    for kit in KITS:
        x = np.exp2(random.uniform(-100, 100, (8, 16))).astype(np.float32)
        x[0, :4] = [1.0, 2.0**-126, 2.0**-140, 3e38]
        up = math.ceil_to_ue8m0(kit.f32(x))
        expected = power_of_two_above(x)
        expected[0, :4] = [1.0, 2.0**-126, 2.0**-126, 2.0**127]
        assert (kit.values(up) == expected).all()
        assert (kit.values(math.ceil_to_ue8m0(kit.f32(-x))) == expected).all()
        packed = math.pack_ue8m0_to_int(up)
        assert tuple(packed.shape) == (8, 4)
        exponents = (np.log2(expected.astype(np.float64)) + 127).astype(np.uint8)
        assert (bits(kit, packed).reshape(8, 16) == exponents).all()
        assert (kit.values(math.unpack_ue8m0_from_int(packed)) == expected).all()
        refused(lambda: math.pack_ue8m0_to_int(kit.f32([[1.0, 2.0, 3.0, 4.0]])), "power")
        refused(lambda: math.pack_ue8m0_to_int(kit.f32([[1.0, -2.0, 1.0, 4.0]])), "power")
        refused(lambda: math.pack_ue8m0_to_int(kit.f32([[1.0, 2.0]])), "multiple of 4")


def test_packed_scales_of_a_cast_are_those_packed_afterwards():
    for kit in KITS:
        x = kit.f32(random.standard_normal((5, 1024)))
        data, packed = math.per_token_cast_to_fp8(x, True, use_packed_ue8m0=True)
        plain, scales = math.per_token_cast_to_fp8(x, True)
        assert (bits(kit, data) == bits(kit, plain)).all()
        assert (bits(kit, packed) == bits(kit, math.pack_ue8m0_to_int(scales))).all()
        refused(lambda: math.per_token_cast_to_fp8(x, False, use_packed_ue8m0=True), "use_ue8m0")


def test_fp4_casts_have_the_documented_codes():
    bounds, sizes = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0), (0, 0.5, 1, 1.5, 2, 3, 4, 6)
    for kit in KITS:
        for powers in (False, True):
            x = random.standard_normal((6, 200)).astype(np.float32)
            data, scales = math.per_token_cast_to_fp4(kit.f32(x), powers, 32)
            assert tuple(data.shape) == (6, 100) and tuple(scales.shape) == (6, 7)
            padded = np.zeros((6, 224), np.float32)
            padded[:, :200] = x
            blocks = padded.reshape(6, 7, 32)
            amax = np.maximum(np.abs(blocks).max(2), np.float32(1e-4))
            expected = amax / np.float32(6)
            if powers:
                expected = power_of_two_above(expected)
            assert (kit.values(scales) == expected).all()
            scaled = (blocks * (np.float32(1) / expected)[:, :, None]).reshape(6, 224)[:, :200]
            codes = sum((np.abs(scaled) > bound).astype(np.uint8) for bound in bounds)
            codes = np.where((scaled < 0) & (codes > 0), codes | 8, codes).astype(np.uint8)
            assert (bits(kit, data).reshape(6, 100) == (codes[:, 0::2] | codes[:, 1::2] << 4)).all()
            values = np.array(sizes, np.float32)[codes & 7] * np.where(codes & 8, -1, 1)
            whole = np.repeat(expected, 32, 1)[:, :200]
            back = kit.values(math.cast_back_from_fp4(data, scales, 32))
            assert (back == (values * whole).astype(np.float32)).all()
            turned = math.transpose_packed_fp4(data)
            flat = bits(kit, turned).reshape(200, 3)
            assert (np.stack([flat & 15, flat >> 4], 2).reshape(200, 6) == codes.T).all()
        data, packed = math.per_token_cast_to_fp4(kit.f32(x), True, 32, use_packed_ue8m0=True)
        assert tuple(packed.shape) == (6, 2)
        again = math.cast_back_from_fp4(data, packed, 32, use_packed_ue8m0=True)
        assert (kit.values(again) == back).all()


def test_integer_helpers_round_up():
    assert [math.ceil_div(x, 128) for x in (0, 1, 128, 129)] == [0, 1, 1, 2]
    assert [math.align(x, 16) for x in (0, 1, 16, 17)] == [0, 16, 16, 32]
    assert deep_gemm.ceil_div is math.ceil_div and deep_gemm.align is math.align


def test_float8_arrays_of_ml_dtypes_are_understood():
    try:
        import ml_dtypes
    except ImportError:
        return
    x = random.standard_normal((4, 256)).astype(np.float32)
    data, scales = math.per_token_cast_to_fp8(x, False)
    assert data.dtype == ml_dtypes.float8_e4m3fn
    d = np.empty((4, 4), ml_dtypes.bfloat16)
    b = math.per_block_cast_to_fp8(x, False)
    deep_gemm.fp8_gemm_nt((data, scales), b, d)
    assert deep_gemm.calc_diff(d, x @ x.T) < 1e-3


if __name__ == "__main__":
    main()
