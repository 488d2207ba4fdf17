# SPDX-License-Identifier: MIT
# common.py - what the tests of the Python package share: where the package is, tensors of each
# library with poison around the outputs, random FP8 data with the float64 values it stands for, and
# tolerances. $DG_TEST_DEVICE=cuda runs the same tests on torch's CUDA tensors.
# $DG_TEST_INSTALLED=1 takes deep_gemm as it is installed instead of the source tree's.
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

PACKAGES = [
    os.path.join(tap.BUILD, "optional", "%s-%d.%d" % ((name,) + sys.version_info[:2]))
    for name in ("arrays", "torch")
]
DEVICE = os.environ.get("DG_TEST_DEVICE", "cpu")
INSTALLED = os.environ.get("DG_TEST_INSTALLED", "0") == "1"
SOURCES = [] if INSTALLED else [os.path.join(tap.ROOT, "python")]
if not INSTALLED:
    os.environ.setdefault("DEEP_GEMM_LIBRARY", os.path.join(tap.BUILD, "libdeepgemm.so"))
sys.path[:0] = SOURCES
sys.path.extend(PACKAGES)
os.environ["PYTHONPATH"] = os.pathsep.join(
    SOURCES + PACKAGES + os.environ.get("PYTHONPATH", "").split(os.pathsep)
)  # for the programs that tests start

try:
    import numpy as np
except ImportError:
    print("python3 has no NumPy, and none lies in %s" % PACKAGES[0])
    sys.exit(77)
try:
    if os.environ.get("DG_TEST_TORCH", "1") == "0":
        raise ImportError
    import torch
except ImportError:
    torch = None
if DEVICE == "cuda" and (torch is None or not torch.cuda.is_available()):
    print("torch is missing, or sees no CUDA device")
    sys.exit(77)


POISON = 0xA5
np.seterr(invalid="ignore")  # uninitialised elements are looked at, too
import deep_gemm  # noqa: E402

BRIDGE = os.environ.get("DG_TEST_BRIDGE", "1") == "1"
if not BRIDGE:  # as with a torch that does not offer what the bridge needs
    deep_gemm._fast._opened = False

random = np.random.default_rng(int(os.environ.get("DG_TEST_SEED", "20261121")))


def _e4m3_table():
    """The values of the 256 bytes."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(
        exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0)
    )
    size = np.where((code & 127) == 127, np.nan, size)
    return np.where(code > 127, -size, size)


E4M3 = _e4m3_table()


def bf16_bits(x):
    """float32 values as BF16 bit patterns, rounded to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class NumpyKit:
    """NumPy arrays; FP8 as uint8 and BF16 as uint16, bit for bit."""

    name = "numpy"
    BYTES = {"float32": np.float32, "bfloat16": np.uint16, "float8": np.uint8, "int32": np.int32}

    def fp8(self, codes):
        return np.array(codes, np.uint8)

    def f32(self, values):
        return np.array(values, np.float32)

    def bf16(self, values):
        return bf16_bits(values)

    def i32(self, values):
        return np.array(values, np.int32)

    def raw(self, count, dtype):
        return np.full(count, POISON, np.uint8).view(self.BYTES[dtype])

    def strided(self, flat, shape, strides, offset):
        return np.lib.stride_tricks.as_strided(
            flat[offset:], shape, [stride * flat.itemsize for stride in strides]
        )

    def bytes_of(self, flat):
        return np.ascontiguousarray(flat).reshape(-1).view(np.uint8).copy()

    def values(self, tensor):
        """float64"""
        tensor = np.ascontiguousarray(tensor)
        if str(tensor.dtype) in ("uint8", "float8_e4m3fn"):
            return E4M3[tensor.view(np.uint8)]
        if str(tensor.dtype) in ("uint16", "bfloat16"):
            return bf16_values(tensor.view(np.uint16)).astype(np.float64)
        return tensor.astype(np.float64)

    def swap(self, tensor):
        return tensor.swapaxes(-2, -1)


class TorchKit:
    """torch tensors on DEVICE."""

    name = "torch"

    def __init__(self):
        self.TYPES = {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float8": torch.float8_e4m3fn,
            "int32": torch.int32,
        }

    def _put(self, array):
        return torch.from_numpy(np.ascontiguousarray(array).copy()).to(DEVICE)

    def fp8(self, codes):
        return self._put(np.asarray(codes, np.uint8)).view(torch.float8_e4m3fn)

    def f32(self, values):
        return self._put(np.asarray(values, np.float32))

    def bf16(self, values):
        return self._put(bf16_bits(values).view(np.int16)).view(torch.bfloat16)

    def i32(self, values):
        return self._put(np.asarray(values, np.int32))

    def raw(self, count, dtype):
        return self._put(np.full(count, POISON, np.uint8)).view(self.TYPES[dtype])

    def strided(self, flat, shape, strides, offset):
        return flat.as_strided(shape, strides, offset)

    def bytes_of(self, flat):
        return flat.contiguous().view(-1).view(torch.uint8).cpu().numpy().copy()

    def values(self, tensor):
        return tensor.detach().to(torch.float32).double().cpu().numpy()

    def swap(self, tensor):
        return tensor.transpose(-2, -1)


NUMPY = NumpyKit()
TORCH = TorchKit() if torch is not None else None
KITS = [TORCH] if DEVICE == "cuda" else [NUMPY] + ([TORCH] if TORCH else [])


def need_torch():
    if TORCH is None:
        tap.skip("torch cannot be imported")


class Output:
    """An output [.., m, n] in poisoned memory: poison in it, right of its rows and around it.
    `gap` None: rows without gaps."""

    def __init__(self, kit, shape, dtype, gap=8):
        self.kit, self.shape, self.dtype = kit, tuple(shape), dtype
        element = {"float32": 4, "bfloat16": 2, "int32": 4}[dtype]
        strides, step = [1], shape[-1] + (gap or 0)
        for size in reversed(shape[:-1]):
            strides.insert(0, step)
            step *= size
        self.strides, self.offset = tuple(strides), 64
        self.flat = kit.raw((step + 128) * element, dtype)
        self.tensor = kit.strided(self.flat, self.shape, self.strides, self.offset)

    def _inside(self):
        count = len(self.kit.bytes_of(self.flat)) // (4 if self.dtype != "bfloat16" else 2)
        inside = np.zeros(count, bool)
        view = np.lib.stride_tricks.as_strided(
            inside[self.offset :],
            self.shape,
            self.strides,  # one byte an element
        )
        view[...] = True
        return inside

    def fill(self, values):
        """Values, as float32, into the tensor."""
        kit = self.kit
        self.tensor[...] = kit.f32(values) if self.dtype == "float32" else kit.bf16(values)

    def values(self):
        return self.kit.values(self.tensor)

    def snapshot(self):
        return self.kit.bytes_of(self.flat)

    def untouched(self):
        return bool((self.snapshot() == POISON).all())

    def guards_intact(self):
        element = 4 if self.dtype != "bfloat16" else 2
        outside = ~np.repeat(self._inside(), element)
        return bool((self.snapshot()[outside] == POISON).all())


def expand(scales, rows, columns, block_rows, block_columns):
    """One scale per element."""
    full = np.repeat(np.repeat(scales, block_rows, axis=-2), block_columns, axis=-1)
    return full[..., :rows, :columns]


def draw_codes(shape):
    """Random E4M3 bytes: on a CPU all codes alike; on a GPU of normal values, for which the limits of
    NUMERICS.md are made (its sums keep 14 bits of the largest of 32 products)."""
    if DEVICE == "cuda":
        size = np.abs(random.standard_normal(shape)) * 16
        codes = np.searchsorted(E4M3[:0x78], np.minimum(size, 200)).astype(np.uint8)
    else:
        codes = random.integers(0, 0x78, shape).astype(np.uint8)
    return codes | (random.integers(0, 2, shape) << 7).astype(np.uint8)


class Operand:
    """Random FP8 values [.., rows, k] with scales of block_rows x 128 and the values they stand
    for."""

    def __init__(self, shape, block_rows=1, powers_of_two=False):
        rows, k = shape[-2:]
        lead = tuple(shape[:-2])
        self.codes = draw_codes(shape)
        counts = lead + (-(-rows // block_rows), -(-k // 128))
        scales = np.exp2(random.uniform(-6, -2, counts)).astype(np.float32)
        self.scales = (
            np.exp2(np.round(np.log2(scales))).astype(np.float32) if powers_of_two else scales
        )
        self.block_rows = block_rows
        self.exact = E4M3[self.codes] * expand(
            self.scales.astype(np.float64), rows, k, block_rows, 128
        )

    def pair(self, kit):
        return kit.fp8(self.codes), kit.f32(self.scales)

    def transposed_pair(self, kit):
        """As a matrix with rows along k."""
        return (
            kit.fp8(np.ascontiguousarray(self.codes.swapaxes(-2, -1))),
            kit.f32(np.ascontiguousarray(self.scales.swapaxes(-2, -1))),
        )


def assert_close(got, exact, dtype, what=""):
    """The limits of docs/NUMERICS.md; on a GPU twice the one of rows, as scales here differ by up to
    16: the errors of a row are those of its largest columns."""
    relative, row = (5e-4, 4e-3) if DEVICE == "cuda" else (1e-6, 5e-6)
    assert not np.isnan(got).any(), "%s: NaN in the result" % what
    error = np.abs(got - exact)
    size = np.sqrt((exact * exact).mean(axis=-1, keepdims=True)) if exact.size else exact
    bound = size * row + 1e-30
    if dtype == "bfloat16":
        bound = bound + np.abs(exact) * 2.0**-8
        relative += 2.0**-8
    norm = np.sqrt((exact * exact).sum())
    assert np.sqrt((error * error).sum()) <= relative * norm + 1e-30, "%s: relative %g" % (
        what,
        np.sqrt((error * error).sum()) / norm,
    )
    assert (error <= bound).all(), "%s: largest error %g of the row" % (
        what,
        (error / (size + 1e-30)).max(),
    )


def refused(call, *words, error=RuntimeError):
    """Calls, and fails the test unless it raises `error` with all the words in its text."""
    try:
        call()
    except error as raised:
        text = str(raised)
        missing = [word for word in words if word not in text]
        assert not missing, "%r lacks %r" % (text, missing)
        return text
    raise AssertionError("nothing was raised; expected %s with %r" % (error.__name__, words))


def main():
    tap.main()
