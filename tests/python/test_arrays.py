# SPDX-License-Identifier: MIT
# test_arrays.py - tensors of other libraries: whatever has DLPack (old or versioned capsules), an array
# interface or a CUDA array interface is read where it lies, strides and all.
import numpy as np

from common import DEVICE, TORCH, Operand, assert_close, deep_gemm, main, need_torch, refused, tap, torch


class Versioned:
    """An object with nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Old(Versioned):
    """DLPack as it was before its version 1."""

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__() if stream is None else self.array.__dlpack__(stream=stream)


class Interface:
    """An object with nothing but __array_interface__."""

    def __init__(self, array):
        self.__array_interface__ = array.__array_interface__
        self.array = array


class CudaInterface:
    """An object with nothing but __cuda_array_interface__, over a torch tensor."""

    TYPES = {"torch.uint8": "|u1", "torch.float32": "<f4"}

    def __init__(self, tensor):
        self.__cuda_array_interface__ = {
            "shape": tuple(tensor.shape),
            "strides": tuple(s * tensor.element_size() for s in tensor.stride()),
            "typestr": self.TYPES[str(tensor.dtype)],
            "data": (tensor.data_ptr(), False),
            "version": 3,
        }
        self.tensor = tensor


def multiply(wrap, to_array, to_numpy):
    """A product of operands wrapped one and all, with strides of every kind."""
    m, n, k = 20, 200, 256
    a, b = Operand((m, k)), Operand((n, k), 128)
    wide = np.zeros((m, n + 9), np.float32)
    d = to_array(wide)
    turned = np.ascontiguousarray(a.scales.T)  # MN-major scales
    deep_gemm.fp8_gemm_nt(
        (wrap(to_array(a.codes)), wrap(to_array(turned).T)),
        (wrap(to_array(b.codes)), wrap(to_array(b.scales))),
        wrap(d[:, 3 : 3 + n]),
    )
    got = to_numpy(d)
    assert_close(got[:, 3 : 3 + n].astype(np.float64), a.exact @ b.exact.T, "float32")
    assert (got[:, :3] == 0).all() and (got[:, 3 + n :] == 0).all()


def on_cpu():
    if DEVICE == "cuda":
        tap.skip("NumPy arrays live on the CPU")


def test_dlpack_of_both_kinds_is_read():
    on_cpu()
    for wrap in (Versioned, Old):
        multiply(wrap, np.asarray, np.asarray)


def test_array_interfaces_are_read():
    on_cpu()
    multiply(Interface, np.asarray, np.asarray)


def test_cuda_array_interfaces_and_dlpack_on_a_gpu_are_read():
    if DEVICE != "cuda":
        tap.skip("needs a GPU")
    for wrap in (CudaInterface, Versioned, Old):
        multiply(wrap, lambda x: torch.from_numpy(x.copy()).cuda(), lambda x: x.cpu().numpy())


def test_fp8_of_dlpack_is_understood():
    need_torch()
    a, b = Operand((20, 256)), Operand((48, 256), 128)
    d = torch.zeros(20, 48, dtype=torch.bfloat16, device=DEVICE)
    left, right = (tuple(Versioned(t) for t in x.pair(TORCH)) for x in (a, b))
    deep_gemm.fp8_gemm_nt(left, right, Versioned(d))
    assert_close(TORCH.values(d), a.exact @ b.exact.T, "bfloat16")


def test_read_only_arrays_are_inputs_only():
    on_cpu()
    a, b = Operand((4, 128)), Operand((4, 128), 128)
    d = np.zeros((4, 4), np.float32)
    for array in (a.codes, a.scales, b.codes, b.scales):
        array.flags.writeable = False
    for wrap in (np.asarray, Versioned, Interface):
        left, right = ((wrap(x.codes), wrap(x.scales)) for x in (a, b))
        deep_gemm.fp8_gemm_nt(left, right, d)
        assert d.any()
        locked = np.zeros((4, 4), np.float32)
        locked.flags.writeable = False
        refused(lambda: deep_gemm.fp8_gemm_nt(left, right, wrap(locked)), "d", "read-only")
        d[:] = 0


def test_types_that_do_not_fit_are_named():
    on_cpu()
    b = Operand((4, 128), 128)
    right = (b.codes, b.scales)
    d = np.zeros((4, 4), np.float32)
    for wrap in (np.asarray, Versioned, Interface):
        for dtype in (np.int16, np.float64, np.int64, np.bool_):
            left = (wrap(np.zeros((4, 128), dtype)), np.ones((4, 1), np.float32))
            refused(lambda: deep_gemm.fp8_gemm_nt(left, right, d), "a[0].dtype", "float8_e4m3fn")
    odd = np.lib.stride_tricks.as_strided(np.zeros(4000, np.float32), (4, 1), (6, 4))
    refused(lambda: deep_gemm.fp8_gemm_nt((b.codes, odd), right, d), "a[1].strides", "element size")


if __name__ == "__main__":
    main()
