#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# run_demo.py - the main job, start to end, on whatever this machine has: run_demo.py BUILD.
# Generates a BF16 checkpoint with DeepSeek-V3's layers at a quarter of their size, turns it into
# block-FP8, multiplies with two of its layers and ends with a table of GEMMs.  Stops at the first
# command that fails.
import array
import json
import os
import random
import re
import shlex
import struct
import subprocess
import sys

HIDDEN, TOKENS = 7168 // 4, 16
SHAPES_FILE = "bench/shapes/deepseek-v3-dense.txt"
LAYER = "model.layers.0."
WEIGHTS = {  # outputs x inputs, as in the published checkpoint but a quarter of each
    LAYER + "self_attn.q_a_proj": (1536 // 4, HIDDEN),
    LAYER + "self_attn.kv_a_proj_with_mqa": (576 // 4, HIDDEN),
    LAYER + "mlp.gate_proj": (2048 // 4, HIDDEN),
    LAYER + "mlp.down_proj": (HIDDEN, 2048 // 4),
}


def little_endian(values):
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def bf16_normals(count, deviation, chance):
    """`count` BF16 numbers drawn from 4096 normally distributed ones."""
    values = [chance.gauss(0, deviation) for _ in range(4096)]
    table = [struct.unpack("<I", struct.pack("<f", value))[0] >> 16 for value in values]
    return little_endian(array.array("H", chance.choices(table, k=count)))


def write_checkpoint(path, chance):
    """A safetensors file: 8 bytes of header length, the header in JSON, the tensors."""
    header, data = {}, []
    offset = 0
    tensors = [(name + ".weight", shape) for name, shape in WEIGHTS.items()]
    for name, shape in tensors + [(LAYER + "input_layernorm.weight", (HIDDEN,))]:
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        data.append(bf16_normals(count, 0.02, chance))
        header[name] = {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [offset, offset + 2 * count],
        }
        offset += 2 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for block in data:
            file.write(block)


def write_npy(path, rows, columns, chance):
    """Normally distributed FP32 in numpy's format."""
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (rows, columns)
    text += " " * (-(len(text) + 11) % 64) + "\n"
    values = array.array("f", (chance.gauss(0, 1) for _ in range(rows * columns)))
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
        file.write(little_endian(values))


def run(*command):
    print("\n$ " + " ".join(map(shlex.quote, command)), flush=True)
    status = subprocess.call(command)
    if status != 0:
        sys.exit("run_demo.py: that ended with status %d" % status)


def write_shapes(command, folder):
    """DeepSeek-V3's GEMMs at full size; without a GPU those of few rows, which take seconds."""
    has_gpu = (
        subprocess.call(
            [command, "run", "fp8_gemm_nt m=64 n=128 k=128", "--backend", "sm90"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        == 0
    )
    path = os.path.join(folder, "shapes.txt")
    with open(SHAPES_FILE) as source, open(path, "w") as file:
        file.writelines(line for line in source if has_gpu or re.search(r" m=(1|16|64) ", line))
    return path


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build"
    command, folder = os.path.join(build, "deepgemm"), os.path.join(build, "demo")
    os.makedirs(folder, exist_ok=True)
    model, quantized = os.path.join(folder, "bf16.safetensors"), os.path.join(
        folder, "fp8.safetensors"
    )
    chance = random.Random(1)
    write_checkpoint(model, chance)
    print(
        "wrote %s: BF16 weights of %d layers, %.1f MB"
        % (model, len(WEIGHTS), os.path.getsize(model) / 1e6)
    )
    run(command, "quantize", model, quantized)
    for name in (LAYER + "mlp.gate_proj", LAYER + "mlp.down_proj"):
        rows, columns = TOKENS, WEIGHTS[name][1]
        x, y = (os.path.join(folder, letter + ".npy") for letter in "xy")
        write_npy(x, rows, columns, chance)
        run(
            command,
            "linear",
            "--weights",
            quantized,
            "--name",
            name,
            "--input",
            x,
            "--output",
            y,
            "--check",
        )
    run(command, "run", "fp8_gemm_nt m=64 n=2112 k=7168", "--check")
    run(command, "bench", "--shapes", write_shapes(command, folder))


if __name__ == "__main__":
    main()
