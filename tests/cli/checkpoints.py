# SPDX-License-Identifier: MIT
# checkpoints.py - safetensors and npy files and E4M3 arithmetic in plain Python, written from the
# formats' descriptions and not from the C code, as a second opinion for the tests of the command.
import bisect
import json
import os
import struct

SIZES = {"F8_E4M3": 1, "U8": 1, "BF16": 2, "F16": 2, "F32": 4, "I64": 8}


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def f32(x):
    """x rounded to FP32."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bf16_bits(x):
    """x, an FP32 value, rounded to nearest even in 16 bits."""
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def bf16_value(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def encode(dtype, values):
    if dtype == "BF16":
        return struct.pack("<%dH" % len(values), *[bf16_bits(x) for x in values])
    return struct.pack(
        "<%d%s" % (len(values), {"F32": "f", "F16": "e", "F64": "d"}[dtype]), *values
    )


def decode(dtype, data):
    if dtype == "F8_E4M3":
        return [E4M3[byte] for byte in data]
    if dtype == "BF16":
        return [bf16_value(bits) for bits in struct.unpack("<%dH" % (len(data) // 2), data)]
    return list(
        struct.unpack("<%d%s" % (len(data) // SIZES[dtype], {"F32": "f", "F16": "e"}[dtype]), data)
    )


# ---- E4M3


def e4m3_value(byte):
    exponent, mantissa, sign = byte >> 3 & 15, byte & 7, -1.0 if byte & 128 else 1.0
    if byte & 127 == 127:
        return float("nan")
    return sign * (mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10))


E4M3 = [e4m3_value(byte) for byte in range(256)]


def e4m3_byte(x):
    """The nearest E4M3 value, ties to the even mantissa; |x| <= 448."""
    magnitude, sign = abs(x), 128 if struct.pack(">d", x)[0] & 128 else 0
    high = min(bisect.bisect_left(E4M3, magnitude, 0, 127), 126)
    if high == 0 or E4M3[high] == magnitude:
        return high | sign
    below, above = magnitude - E4M3[high - 1], E4M3[high] - magnitude
    return (high - 1 if below < above or (below == above and high % 2 == 1) else high) | sign


def quantize_block_fp8(values, rows, columns):
    """(bytes, scales) of 128 x 128 blocks, each step rounded to FP32 as the header documents it."""
    data, scales = bytearray(rows * columns), []
    for top in range(0, rows, 128):
        for left in range(0, columns, 128):
            places = [
                r * columns + c
                for r in range(top, min(top + 128, rows))
                for c in range(left, min(left + 128, columns))
            ]
            amax = max([f32(1e-4)] + [abs(values[place]) for place in places])
            scale = f32(amax / 448)
            inverse = f32(1 / scale)
            scales.append(scale)
            for place in places:
                data[place] = e4m3_byte(f32(values[place] * inverse))
    return bytes(data), scales


def dequantize(data, scales, rows, columns, block_rows=128):
    across = -(-columns // 128)
    return [
        E4M3[data[r * columns + c]] * scales[r // block_rows * across + c // 128]
        for r in range(rows)
        for c in range(columns)
    ]


# ---- safetensors


def safetensors_bytes(tensors, metadata=None):
    """tensors: {name: (dtype, shape, bytes)}"""
    header, at = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    return with_header(json.dumps(header), b"".join(data for _, _, data in tensors.values()))


def with_header(header, data):
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(path):
    """({name: (dtype, shape, bytes)}, metadata); what our command wrote must be aligned too."""
    content = open(path, "rb").read()
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length].decode()), content[8 + length :]
    metadata = header.pop("__metadata__", None)
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert [0] + [end for _, end in spans] == [begin for begin, _ in spans] + [len(data)], spans
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert end - begin == SIZES[entry["dtype"]] * product(entry["shape"]), name
        assert length % 8 or begin % SIZES[entry["dtype"]] == 0, "%s is not aligned" % name
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }, metadata


def write(path, content):
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return path


def write_sharded(folder, shards):
    """shards: {file name: tensors}"""
    os.makedirs(folder, exist_ok=True)
    weight_map = {}
    for name, tensors in shards.items():
        write(os.path.join(folder, name), safetensors_bytes(tensors, {"format": "pt"}))
        weight_map.update({tensor: name for tensor in tensors})
    write(
        os.path.join(folder, "model.safetensors.index.json"),
        json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}),
    )
    return folder


# ---- npy


def write_npy(path, descr, shape, data, fortran=False, version=1):
    header = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, fortran, tuple(shape))
    size = "<H" if version == 1 else "<I"
    padding = -(len(header) + 9 + struct.calcsize(size)) % 64
    header += " " * padding + "\n"
    return write(
        path,
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack(size, len(header))
        + header.encode()
        + data,
    )


def read_npy(path):
    """(descr, shape, bytes)"""
    content = open(path, "rb").read()
    assert content[:8] == b"\x93NUMPY\x01\0"
    length = struct.unpack("<H", content[8:10])[0]
    header = eval(
        content[10 : 10 + length].decode(), {"__builtins__": {}}
    )  # a literal, written by our command
    assert not header["fortran_order"] and (10 + length) % 64 == 0
    return header["descr"], list(header["shape"]), content[10 + length :]
