#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# numpy_on_cpu.py - the same functions on NumPy arrays: quantise two matrices, multiply them, look
# at the error. NumPy has neither FP8 nor BF16: deep_gemm takes uint8 and uint16 for them, bit for
# bit, or the types of the package ml_dtypes where that is installed.
import sys

import numpy as np

import deep_gemm

rng = np.random.default_rng(0)
m, n, k = 64, 384, 1000  # no size has to be a multiple of anything
x = rng.standard_normal((m, k), np.float32)
w = rng.standard_normal((n, k), np.float32)

a = deep_gemm.per_token_cast_to_fp8(x, use_ue8m0=False)  # one scale per row and 128 of k
b = deep_gemm.per_block_cast_to_fp8(w, use_ue8m0=False)  # one scale per 128 x 128
print("a: %s %s with scales %s" % (a[0].dtype, a[0].shape, a[1].shape))

d = np.empty((m, n), np.float32)
deep_gemm.fp8_gemm_nt(a, b, d)
error = deep_gemm.calc_diff(d, x @ w.T)
print("FP32 result: calc_diff %.2e against the product before quantisation" % error)

half = np.empty((m, n), np.uint16)  # BF16 bits
deep_gemm.fp8_gemm_nt(a, b, half)
values = (half.astype(np.uint32) << 16).view(np.float32)
print("BF16 result: largest difference %.4f" % np.abs(values - d).max())

gradient = np.zeros((n, k), np.float32)  # gradient += y^T x, both sides with one scale per row
y = rng.standard_normal((m, n), np.float32)
left, right = (
    deep_gemm.per_token_cast_to_fp8(np.ascontiguousarray(side.T), use_ue8m0=False)
    for side in (y, x)
)
deep_gemm.fp8_gemm_nt(left, right, gradient, c=gradient, recipe=(1, 1, 128))
print("gradient: calc_diff %.2e" % deep_gemm.calc_diff(gradient, y.T @ x))
sys.exit(not (error < 1e-3 and deep_gemm.calc_diff(gradient, y.T @ x) < 1e-3))
