# SPDX-License-Identifier: MIT
# test_linear_quantize.py - `deepgemm quantize` and `deepgemm linear` from files to files, against
# checkpoints.py.  What they must refuse, they refuse with a text, and leave nothing behind.
import atexit
import json
import math
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import checkpoints as cp  # noqa: E402
import tap  # noqa: E402

FOLDER = tempfile.mkdtemp(prefix="deepgemm-test-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
RANDOM = random.Random(20)

# Matrices with edges that are no multiples of 128, in every type that is quantised.
LAYERS = {
    "model.layers.0.mlp.gate_proj": ("BF16", 130, 200),
    "model.layers.0.mlp.down_proj": ("F32", 7, 129),
    "model.layers.1.self_attn.o_proj": ("F16", 256, 128),
}


def path(name):
    return os.path.join(FOLDER, name)


def deepgemm(*arguments, **options):
    return tap.run(tap.COMMAND, *arguments, **options)


def values(count, spread=1.0):
    return [cp.f32(RANDOM.gauss(0, spread)) for _ in range(count)]


def weight(dtype, rows, columns):
    return dtype, [rows, columns], cp.encode(dtype, values(rows * columns, 0.05))


def sharded(name):
    """Three files: a layer each, and beside them what must not change."""
    layers = {layer + ".weight": weight(*facts) for layer, facts in LAYERS.items()}
    names = list(layers)
    return cp.write_sharded(
        path(name),
        {
            "model-00001-of-00003.safetensors": {
                names[0]: layers[names[0]],
                "model.embed_tokens.weight": weight("BF16", 5, 8),
                "model.layers.0.input_layernorm.weight": (
                    "BF16",
                    [8],
                    cp.encode("BF16", values(8)),
                ),
            },
            "model-00002-of-00003.safetensors": {
                names[1]: layers[names[1]],
                "model.layers.0.mlp.gate.weight": weight("BF16", 4, 8),
                "model.layers.0.mlp.gate.e_score_correction_bias": (
                    "F32",
                    [3],
                    cp.encode("F32", values(3)),
                ),
                "odd": ("U8", [3], b"abc"),
                "counter": ("I64", [], struct.pack("<q", -3)),
            },
            "model-00003-of-00003.safetensors": {
                names[2]: layers[names[2]],
                "lm_head.weight": weight("F32", 3, 5),
            },
        },
    )


def read_sharded(folder):
    """({tensor: (dtype, shape, bytes)}, {file: metadata}, {tensor: file})"""
    index = json.load(open(os.path.join(folder, "model.safetensors.index.json")))
    files = {
        name: cp.read_safetensors(os.path.join(folder, name))
        for name in set(index["weight_map"].values())
    }
    assert sorted(os.listdir(folder)) == sorted(
        list(files) + ["model.safetensors.index.json"]
    ), os.listdir(folder)
    listed = {name for tensors, _ in files.values() for name in tensors}
    assert listed == set(index["weight_map"]), "files and index disagree"
    total = sum(len(data) for tensors, _ in files.values() for _, _, data in tensors.values())
    assert index["metadata"]["total_size"] in (0, total), "total_size"
    return (
        {name: files[shard][0][name] for name, shard in index["weight_map"].items()},
        {name: metadata for name, (_, metadata) in files.items()},
        index["weight_map"],
    )


CACHE = {}


def quantized():
    """The sharded checkpoint and what the command made of it; made once."""
    if not CACHE:
        CACHE["source"] = sharded("source")
        CACHE["report"] = deepgemm("quantize", CACHE["source"], path("quantized")).stdout
    return CACHE["source"], path("quantized"), CACHE["report"]


# ---- quantize


def test_matrices_become_the_bytes_that_the_arithmetic_says():
    source, result, _ = quantized()
    before, after = read_sharded(source)[0], read_sharded(result)[0]
    for layer, (dtype, rows, columns) in LAYERS.items():
        data, scales = cp.quantize_block_fp8(
            cp.decode(dtype, before[layer + ".weight"][2]), rows, columns
        )
        assert after[layer + ".weight"] == ("F8_E4M3", [rows, columns], data), layer
        blocks = [-(-rows // 128), -(-columns // 128)]
        assert after[layer + ".weight_scale_inv"] == (
            "F32",
            blocks,
            cp.encode("F32", scales),
        ), layer


def test_everything_else_is_copied_byte_for_byte():
    source, result, _ = quantized()
    before, metadata_before, map_before = read_sharded(source)
    after, metadata_after, map_after = read_sharded(result)
    changed = {layer + ".weight" for layer in LAYERS}
    assert len(before) == 10 and metadata_after == metadata_before and len(metadata_after) == 3
    for name, tensor in before.items():
        assert name in changed or after[name] == tensor, name
        assert map_after[name] == map_before[name], name
    scales = {name + "_scale_inv" for name in changed}
    assert set(after) == set(before) | scales
    for name in scales:
        assert (
            map_after[name] == map_after[name[: -len("_scale_inv")]]
        ), "a scale lies beside its weight"


def test_the_error_of_each_tensor_is_reported():
    source, result, report = quantized()
    before, after = read_sharded(source)[0], read_sharded(result)[0]
    for layer, (dtype, rows, columns) in LAYERS.items():
        name = layer + ".weight"
        exact = cp.decode(dtype, before[name][2])
        restored = cp.dequantize(
            after[name][2], cp.decode("F32", after[name + "_scale_inv"][2]), rows, columns
        )
        error = math.sqrt(
            sum((x - y) ** 2 for x, y in zip(exact, restored)) / sum(x * x for x in exact)
        )
        line = [line.split() for line in report.splitlines() if line.startswith(name + " ")]
        assert len(line) == 1 and line[0][1] == dtype, report
        assert abs(float(line[0][-1]) - error) < 0.01 * error and 0.01 < error < 0.05, (line, error)
    assert "3 tensors quantised, 7 copied" in report, report


def test_one_file_becomes_one_file():
    source = cp.write(
        path("one.safetensors"),
        cp.safetensors_bytes(
            {"a.weight": weight("BF16", 3, 300), "norm.weight": weight("BF16", 2, 2)},
            {"k": "v\u00e9"},
        ),
    )
    done = deepgemm("quantize", source, path("one.out"), "--json")
    tensors, metadata = cp.read_safetensors(path("one.out"))
    assert set(tensors) == {"a.weight", "a.weight_scale_inv", "norm.weight"} and metadata == {
        "k": "v\u00e9"
    }
    assert tensors["a.weight_scale_inv"][1] == [1, 3] and tensors["norm.weight"][0] == "BF16"
    rows = json.loads(done.stdout)
    assert [row["tensor"] for row in rows] == ["a.weight"] and rows[0]["non_finite"] == 0, rows


def test_globs_choose():
    source = cp.write(
        path("globs"),
        cp.safetensors_bytes(
            {
                "a.weight": weight("BF16", 2, 2),
                "b.weight": weight("F32", 2, 2),
                "head": weight("F32", 2, 2),
                "lm_head.weight": weight("F32", 2, 2),
                "v.weight": weight("F32", 1, 4),
            }
        ),
    )
    for arguments, chosen in (
        ((), {"a.weight", "b.weight", "v.weight"}),
        (("--exclude", "a.*,x*"), {"b.weight", "v.weight"}),
        (("--include", "*head*"), {"head", "lm_head.weight"}),
        (("--include=*", "--exclude=?.weight,lm*"), {"head"}),
    ):
        deepgemm("quantize", source, path("globs.out"), *arguments)
        tensors = cp.read_safetensors(path("globs.out"))[0]
        assert {
            name for name, facts in tensors.items() if facts[0] == "F8_E4M3"
        } == chosen, arguments
        assert {name + "_scale_inv" for name in chosen} == {
            name for name in tensors if name.endswith("_inv")
        }


def test_scales_become_powers_of_two_when_asked():
    source = cp.write(path("pow2"), cp.safetensors_bytes({"a.weight": weight("F32", 300, 140)}))
    deepgemm("quantize", source, path("pow2.out"), "--power-of-two")
    tensors = cp.read_safetensors(path("pow2.out"))[0]
    scales = cp.decode("F32", tensors["a.weight_scale_inv"][2])
    assert len(scales) == 6 and all(math.frexp(scale)[0] == 0.5 for scale in scales), scales
    restored = cp.dequantize(tensors["a.weight"][2], scales, 300, 140)
    exact = cp.decode("F32", cp.read_safetensors(source)[0]["a.weight"][2])
    assert all(
        abs(x - y) <= max(abs(x) / 16, max(scales) * 2.0**-10) for x, y in zip(exact, restored)
    )


def test_nan_and_infinity_are_counted():
    data = values(256)
    data[3] = float("nan")
    source = cp.write(
        path("nan"), cp.safetensors_bytes({"a.weight": ("F32", [1, 256], cp.encode("F32", data))})
    )
    done = deepgemm("quantize", source, path("nan.out"), "--json")
    assert json.loads(done.stdout)[0]["non_finite"] >= 1 and "are NaN now" in done.stderr, done
    tensors = cp.read_safetensors(path("nan.out"))[0]
    assert tensors["a.weight"][2][3] & 127 == 127 and not any(
        byte & 127 == 127 for byte in tensors["a.weight"][2][128:]
    )


def refused(text, *arguments, status=1, missing=None):
    """Runs, expects this text in one line of standard error, and no output file."""
    done = deepgemm(*arguments, status=status)
    assert text in done.stderr, "%r is not in %r" % (text, done.stderr)
    assert missing is None or not os.path.lexists(missing), "%s was made" % missing


def test_quantize_refuses_what_would_lose_data():
    source, result, _ = quantized()
    one = cp.write(path("x.safetensors"), cp.safetensors_bytes({"a.weight": weight("F32", 2, 2)}))
    content = open(one, "rb").read()
    refused("the input and the output are the same file", "quantize", one, one, status=2)
    refused(
        "exists; a sharded checkpoint needs a new or empty directory", "quantize", source, result
    )
    refused(
        "exists; a sharded checkpoint needs a new or empty directory", "quantize", source, source
    )
    refused("exists; a sharded checkpoint needs a new or empty directory", "quantize", source, one)
    refused("is a directory, so no file can be put in its place", "quantize", one, source)
    refused("not a regular file", "quantize", one, "/dev/null")
    refused("No such file or directory", "quantize", one, path("no/such/place"))
    refused(
        "no BF16, F16 or F32 matrix to quantise",
        "quantize",
        one,
        path("y"),
        "--include",
        "z",
        missing=path("y"),
    )
    cp.write(
        path("twice"),
        cp.safetensors_bytes(
            {"a.weight": weight("F32", 2, 2), "a.weight_scale_inv": weight("F32", 1, 1)}
        ),
    )
    refused(
        'holds "a.weight_scale_inv" already',
        "quantize",
        path("twice"),
        path("y"),
        missing=path("y"),
    )
    refused("an input and an output are wanted, 1 given", "quantize", one, status=2)
    assert open(one, "rb").read() == content, "the input was changed"
    os.mkdir(path("empty"))
    deepgemm("quantize", source, path("empty"))  # an empty directory may be filled
    assert read_sharded(path("empty")) == read_sharded(result)


# ---- interruption


def start(*arguments):
    return subprocess.Popen(
        [tap.COMMAND] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def big_file(name, tensors=1):
    """A sparse checkpoint that takes seconds to quantise and no room on the disk."""
    rows, columns = 16384, 4096
    header = {
        "t%d.weight"
        % i: {
            "dtype": "F32",
            "shape": [rows, columns],
            "data_offsets": [4 * rows * columns * i, 4 * rows * columns * (i + 1)],
        }
        for i in range(tensors)
    }
    with open(path(name), "wb") as file:
        file.write(cp.with_header(json.dumps(header), b""))
        file.truncate(file.tell() + 4 * rows * columns * tensors)
    return path(name)


def interrupt(number, source, result):
    """Sends a signal while the command works; returns its standard error."""
    before = set(os.listdir(FOLDER))
    for delay in (0.3, 0.1, 0.03, 0.01):
        process = start("quantize", source, result)
        time.sleep(delay)
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1].decode()
        if process.returncode != 0:
            break
        shutil.rmtree(result, ignore_errors=True)
        if os.path.exists(result):
            os.remove(result)
    assert process.returncode == -number, "ended with %d: %s" % (process.returncode, errors)
    return errors, set(os.listdir(FOLDER)) - before


def test_an_interrupted_file_leaves_nothing():
    source = big_file("big.safetensors", 3)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        errors, left = interrupt(number, source, path("big.out"))
        assert not left, left
        assert "interrupted; nothing was written" in errors, errors
    errors, left = interrupt(signal.SIGKILL, source, path("big.out"))
    assert not [
        name for name in left if not name.endswith(".part")
    ], left  # no name at all on most file systems
    os.remove(source)


def test_an_interrupted_directory_leaves_nothing():
    os.mkdir(path("big"))
    os.rename(big_file("big.safetensors", 3), path("big/1.safetensors"))
    cp.write(
        path("big/model.safetensors.index.json"),
        json.dumps({"weight_map": {"t%d.weight" % i: "1.safetensors" for i in range(3)}}),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        errors, left = interrupt(number, path("big"), path("big.directory"))
        assert not left and "interrupted" in errors, (left, errors)
    shutil.rmtree(path("big"))


def test_memory_does_not_grow_with_a_tensor():
    source = big_file("large.safetensors")  # one tensor of 268 MB
    process = start("quantize", source, path("large.out"))
    process.stdout.read()
    status, usage = os.wait4(process.pid, 0)[1:]
    process.returncode = status
    assert status == 0 and usage.ru_maxrss < 128 * 1024, "%d KB" % usage.ru_maxrss
    for name in (source, path("large.out")):
        os.remove(name)


def test_a_full_disk_leaves_nothing():
    source = cp.write(path("full"), cp.safetensors_bytes({"a.weight": weight("F32", 256, 256)}))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    before = set(os.listdir(FOLDER))
    done = deepgemm("quantize", source, path("full.out"), status=1, preexec_fn=limit)
    assert "full.out: cannot be written: File too large" in done.stderr, done.stderr
    assert set(os.listdir(FOLDER)) == before


# ---- linear


def activations(name, rows, columns, descr="<f4", fortran=False):
    """A file of activations and their values, as rows of FP32."""
    dtype = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<V2": "BF16", "|V2": "BF16"}[descr]
    numbers = values(rows * columns)
    if dtype == "F16":
        numbers = [struct.unpack("<e", struct.pack("<e", x))[0] for x in numbers]
    if dtype == "BF16":
        numbers = [cp.bf16_value(cp.bf16_bits(x)) for x in numbers]
    table = [numbers[row * columns : (row + 1) * columns] for row in range(rows)]
    stored = (
        [table[row][column] for column in range(columns) for row in range(rows)]
        if fortran
        else numbers
    )
    cp.write_npy(path(name), descr, (rows, columns), cp.encode(dtype, stored), fortran)
    return path(name), table


def expected(table, layer):
    """The product of the activations, quantised per token here, and the layer's dequantised weight."""
    tensors = read_sharded(quantized()[1])[0]
    _, (n, k), data = tensors[layer + ".weight"]
    weights = cp.dequantize(data, cp.decode("F32", tensors[layer + ".weight_scale_inv"][2]), n, k)
    result = []
    for row in table:
        x = []
        for left in range(0, k, 128):
            part, scales = cp.quantize_block_fp8(
                row[left : left + 128], 1, len(row[left : left + 128])
            )
            x += [cp.E4M3[byte] * scales[0] for byte in part]
        result.append(
            [sum(a * b for a, b in zip(x, weights[j * k : (j + 1) * k])) for j in range(n)]
        )
    return result


def close(result, reference, limit):
    flat = [y for row in reference for y in row]
    error = math.sqrt(sum((a - b) ** 2 for a, b in zip(result, flat)) / sum(b * b for b in flat))
    return len(result) == len(flat) and error < limit


def linear(layer, x, y, *more, weights=None, **options):
    return deepgemm(
        "linear",
        "--weights",
        weights or quantized()[1],
        "--name",
        layer,
        "--input",
        x,
        "--output",
        y,
        *more,
        **options
    )


def test_each_layer_of_a_sharded_checkpoint_multiplies():
    for layer, (_, n, k) in LAYERS.items():
        x, table = activations("x.npy", 3, k)
        done = linear(layer, x, path("y.npy"), "--check")
        assert "ok" in done.stdout and "FAILED" not in done.stdout, done.stdout
        descr, shape, data = cp.read_npy(path("y.npy"))
        assert (descr, shape) == ("<f4", [3, n]), (descr, shape)
        assert close(cp.decode("F32", data), expected(table, layer), 1e-6), layer


def test_the_check_reports_both_errors():
    layer, (_, n, k) = next(iter(LAYERS.items()))
    x, table = activations("x.npy", 4, k)
    done = linear(layer, x, path("y.npy"), "--check")
    words = done.stdout.split()
    errors = [
        float(words[i + 2])
        for i, word in enumerate(words)
        if words[i : i + 2] == ["relative", "error"]
    ]
    tensors = read_sharded(quantized()[1])[0]
    weights = cp.dequantize(
        tensors[layer + ".weight"][2],
        cp.decode("F32", tensors[layer + ".weight_scale_inv"][2]),
        n,
        k,
    )
    exact = [
        sum(a * b for a, b in zip(row, weights[j * k : (j + 1) * k]))
        for row in table
        for j in range(n)
    ]
    y = cp.decode("F32", cp.read_npy(path("y.npy"))[2])
    error = math.sqrt(sum((a - b) ** 2 for a, b in zip(y, exact)) / sum(b * b for b in exact))
    assert len(errors) == 2 and errors[0] < 1e-6 and abs(errors[1] - error) < 0.01 * error, (
        errors,
        error,
    )


def test_every_type_and_order_of_activations_is_read():
    layer, (_, n, k) = next(iter(LAYERS.items()))
    for descr in ("<f4", "<f2", "<f8", "<V2", "|V2"):
        for fortran in (False, True):
            x, table = activations("x.npy", 2, k, descr, fortran)
            linear(layer, x, path("y.npy"))
            y = cp.decode("F32", cp.read_npy(path("y.npy"))[2])
            assert close(y, expected(table, layer), 1e-6), (descr, fortran)


def test_leading_dimensions_are_kept():
    layer, (_, n, k) = next(iter(LAYERS.items()))
    x = cp.encode("F32", values(6 * k))
    flat = None
    for shape in ([6, k], [2, 3, k], [1, 2, 3, k]):
        cp.write_npy(path("x.npy"), "<f4", shape, x, version=2)
        linear(layer, path("x.npy"), path("y.npy"))
        _, result, data = cp.read_npy(path("y.npy"))
        assert result == shape[:-1] + [n] and (flat is None or flat == data)
        flat = data
    for shape, result in (([k], [n]), ([0, k], [0, n])):
        cp.write_npy(path("x.npy"), "<f4", shape, x[: 4 * cp.product(shape)])
        linear(layer, path("x.npy"), path("y.npy"), "--check")
        _, found, data = cp.read_npy(path("y.npy"))
        assert found == result and data == flat[: len(data)] and len(data) == 4 * cp.product(result)


def test_bf16_output_is_one_rounding_of_the_fp32_output():
    layer, (_, n, k) = next(iter(LAYERS.items()))
    x, _ = activations("x.npy", 3, k)
    linear(layer, x, path("y32.npy"))
    linear(layer, x, path("y16.npy"), "--out", "bf16", "--check")
    descr, shape, data = cp.read_npy(path("y16.npy"))
    assert descr == "<V2" and shape == [3, n]
    rounded = [cp.bf16_bits(y) for y in cp.decode("F32", cp.read_npy(path("y32.npy"))[2])]
    assert list(struct.unpack("<%dH" % len(rounded), data)) == rounded


def test_nan_reaches_its_row_only_and_passes_the_check():
    layer, (_, n, k) = next(iter(LAYERS.items()))
    x, table = activations("x.npy", 3, k)
    table[1][7], table[2][130] = float("nan"), float("inf")
    cp.write_npy(x, "<f4", (3, k), cp.encode("F32", [v for row in table for v in row]))
    linear(layer, x, path("y.npy"), "--check")
    y = cp.decode("F32", cp.read_npy(path("y.npy"))[2])
    assert not any(math.isnan(v) for v in y[:n]) and all(math.isnan(v) for v in y[n:]), "rows"


def test_weights_are_found_by_directory_index_and_file():
    layer, (_, n, k) = next(iter(LAYERS.items()))
    x, _ = activations("x.npy", 2, k)
    results = []
    for place in (".", "model.safetensors.index.json", "model-00001-of-00003.safetensors"):
        linear(layer, x, path("y.npy"), weights=os.path.join(quantized()[1], place))
        results.append(cp.read_npy(path("y.npy")))
    assert results[0] == results[1] == results[2]


def test_linear_refuses_what_does_not_fit():
    source, result, _ = quantized()
    layer, (_, n, k) = next(iter(LAYERS.items()))
    x, _ = activations("x.npy", 2, k)
    y = path("refused.npy")

    def refuses(text, status=1, **changes):
        arguments = dict({"weights": result, "name": layer, "input": x, "output": y}, **changes)
        words = [word for key, value in arguments.items() if value for word in ("--" + key, value)]
        refused(text, "linear", *words, status=status, missing=y)

    refuses("is BF16, not quantised: 'deepgemm quantize IN OUT' makes the FP8 form", weights=source)
    refuses('no tensor "nobody.weight" among the 13', name="nobody")
    refuses("--weights is missing", status=2, weights=None)
    refuses("--name is missing", status=2, name=None)
    refuses("--input is missing", status=2, input=None)
    refuses("--output or --check must be given", status=2, output=None)
    refuses("--out fp64: must be fp32 or bf16", status=2, out="fp64")
    refuses("No such file or directory", input=path("nobody.npy"))
    refuses("does not start with", input=os.path.join(result, "model-00001-of-00003.safetensors"))
    refuses(
        "the last dimension is %d, but %s.weight takes k = %d" % (k + 1, layer, k),
        input=cp.write_npy(path("wide.npy"), "<f4", (1, k + 1), bytes(4 * k + 4)),
    )
    refuses(
        "the last dimension is 1, but", input=cp.write_npy(path("scalar.npy"), "<f4", (), bytes(4))
    )
    refuses(
        "e4m3 elements: must be f32, f64, f16 or bf16",
        input=cp.write_npy(path("bytes.npy"), "|u1", (1, k), bytes(k)),
    )
    refuses(
        "descr '>f4' is big-endian",
        input=cp.write_npy(path("big.npy"), ">f4", (1, k), bytes(4 * k)),
    )
    refuses("backend", backend="nobody")


if __name__ == "__main__":
    tap.main()
