#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# fp8_linear.py - a linear layer of a block-FP8 checkpoint in torch: fp8_linear.py [FILE.safetensors
# [NAME]]. Weights stay in FP8 with their 128 x 128 scales (NAME.weight, NAME.weight_scale_inv);
# activations are quantised row by row on the way in.  Without a file a small checkpoint is written
# first.  Runs on a Hopper GPU if torch sees one, else on the CPU.
import json
import os
import sys
import tempfile

import torch

import deep_gemm

TYPES = {"F8_E4M3": torch.float8_e4m3fn, "F32": torch.float32, "BF16": torch.bfloat16}


class BlockFP8Linear(torch.nn.Module):
    """y = x W^T + bias; W [n, k] float8_e4m3fn, its scales [ceil(n / 128), ceil(k / 128)]
    float32."""

    def __init__(self, weight, scales, bias=None):
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        q, scales = deep_gemm.per_token_cast_to_fp8(rows, use_ue8m0=False)
        y = torch.empty(rows.shape[0], self.weight.shape[0], dtype=torch.bfloat16, device=x.device)
        deep_gemm.fp8_gemm_nt((q, scales), (self.weight, self.scales), y)
        if self.bias is not None:
            y += self.bias
        return y.view(*x.shape[:-1], -1)


def load(path, name):
    """The tensors NAME.weight and NAME.weight_scale_inv of a safetensors file."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header, data = json.loads(file.read(size)), file.read()
    tensors = []
    for key in (name + ".weight", name + ".weight_scale_inv"):
        start, end = header[key]["data_offsets"]
        flat = torch.frombuffer(bytearray(data[start:end]), dtype=TYPES[header[key]["dtype"]])
        tensors.append(flat.view(header[key]["shape"]))
    return tensors


def save(path, name, weight):
    """Quantises a weight into such a file."""
    header, parts, offset = {}, [], 0
    for suffix, tensor in zip(
        (".weight", ".weight_scale_inv"), deep_gemm.per_block_cast_to_fp8(weight, False)
    ):
        raw = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        kind = next(kind for kind, dtype in TYPES.items() if dtype == tensor.dtype)
        span = [offset, offset + len(raw)]
        header[name + suffix] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": span}
        parts.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + b"".join(parts))


def main():
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            path, name = (
                sys.argv[1],
                sys.argv[2] if len(sys.argv) > 2 else "model.layers.0.mlp.gate_proj",
            )
        else:
            path, name = os.path.join(folder, "layer.safetensors"), "model.layers.0.mlp.gate_proj"
            save(path, name, torch.randn(768, 1024) / 32)
        weight, scales = load(path, name)
    layer = BlockFP8Linear(weight, scales).to(device)
    n, k = weight.shape
    exact = weight.float() * scales.repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)[:, :k]
    x = torch.randn(2, 5, k, dtype=torch.bfloat16)
    y = layer(x.to(device)).cpu()
    error = deep_gemm.calc_diff(y, x.float() @ exact.t())
    print("%s on %s: [%d, %d], calc_diff %.2e against FP32" % (name, device, n, k, error))
    fast = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    again = deep_gemm.calc_diff(fast(x[:1].to(device)).cpu(), y[:1])
    print("compiled as one graph: calc_diff %.2e against the eager call" % again)
    return 0 if error < 1e-3 and again < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
