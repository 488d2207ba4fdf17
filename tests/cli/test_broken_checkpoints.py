# SPDX-License-Identifier: MIT
# test_broken_checkpoints.py - `deepgemm quantize` and `deepgemm linear` refuse every kind of broken
# checkpoint with a text that names the rule, and leave nothing behind.
import atexit
import json
import os
import shutil
import struct
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import checkpoints as cp  # noqa: E402
import tap  # noqa: E402

FOLDER = tempfile.mkdtemp(prefix="deepgemm-test-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def path(name):
    return os.path.join(FOLDER, name)


def deepgemm(*arguments, **options):
    return tap.run(tap.COMMAND, *arguments, **options)


def refused(text, *arguments, status=1, missing=None):
    """Runs, expects this text in one line of standard error, and no output file."""
    done = deepgemm(*arguments, status=status)
    assert text in done.stderr, "%r is not in %r" % (text, done.stderr)
    assert missing is None or not os.path.lexists(missing), "%s was made" % missing


def entry(dtype="F32", shape=(1, 1), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def one_tensor(name="a.weight", **facts):
    return json.dumps({name: entry(**facts)})


BROKEN_FILES = {
    "an empty file": (b"", "the file is empty"),
    "seven bytes": (b"1234567", "too short for a safetensors file"),
    "a zip file": (b"PK\x03\x04" + bytes(60), "header"),
    "a header of 10 GB": (struct.pack("<Q", 10**10) + b"{}", "header length 10000000000: at most"),
    "a header of 2^64 - 1": (b"\xff" * 8 + b"{}", "header length 18446744073709551615: at most"),
    "a header beyond the end": (
        struct.pack("<Q", 90) + b"{}",
        "only 2 bytes follow it: the file is truncated",
    ),
    "no JSON": (cp.with_header("{'a': 1}", b""), "a key in quotes must stand here"),
    "an array": (cp.with_header("[]", b""), "does not start with '{'"),
    "not UTF-8": (cp.with_header(b'{"\xff": 1}', b""), "not UTF-8"),
    "deep nesting": (cp.with_header('{"a":' * 40 + "1" + "}" * 40, b""), "nested too deeply"),
    "a name twice": (
        cp.with_header(one_tensor()[:-1] + ", " + one_tensor()[1:], bytes(4)),
        "stands twice",
    ),
    "truncated data": (cp.with_header(one_tensor(), bytes(3)), "reach beyond the 3 bytes of data"),
    "bytes behind the data": (cp.with_header(one_tensor(), bytes(5)), "the tensors end at byte 4"),
    "an offset out of range": (
        cp.with_header(one_tensor(begin=2**40, end=2**40 + 4), bytes(4)),
        "reach beyond",
    ),
    "an end before its begin": (
        cp.with_header(one_tensor(begin=4, end=0), bytes(4)),
        "end before they begin",
    ),
    "an overlap": (
        cp.with_header(json.dumps({"a.weight": entry(), "b": entry("U8", [4], 2, 6)}), bytes(6)),
        "overlap",
    ),
    "a gap": (
        cp.with_header(json.dumps({"a.weight": entry(), "b": entry("U8", [1], 5, 6)}), bytes(6)),
        "a gap",
    ),
    "a shape of other size": (
        cp.with_header(one_tensor(shape=[2, 1]), bytes(4)),
        "need 8 bytes, data_offsets give 4",
    ),
    "a shape that overflows": (
        cp.with_header(one_tensor(shape=[2**40, 2**40]), bytes(4)),
        "overflows 64 bits",
    ),
    "a negative size": (
        cp.with_header(one_tensor(shape=[-1, 1]), bytes(4)),
        "is not an integer from 0",
    ),
    "an unknown type": (cp.with_header(one_tensor(dtype="F31"), bytes(4)), 'unknown dtype "F31"'),
    "no dtype": (
        cp.with_header('{"a.weight":{"shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        "dtype is missing",
    ),
    "metadata of numbers": (cp.with_header('{"__metadata__":{"k":1}}', b""), "must be a string"),
}
GOOD = cp.with_header(one_tensor(), bytes(4))
BROKEN_INDICES = {
    "no JSON": ("{", "JSON, byte 1"),
    "no weight_map": ("{}", "weight_map is missing"),
    "an empty weight_map": ('{"weight_map":{}}', "weight_map is empty"),
    "a number as file": ('{"weight_map":{"a.weight":1}}', "must be the name of a file"),
    "a missing shard": (
        '{"weight_map":{"a.weight":"2.safetensors"}}',
        "2.safetensors: No such file or directory",
    ),
    "a shard without the tensor": (
        '{"weight_map":{"b.weight":"1.safetensors"}}',
        "which does not hold it",
    ),
    "a way up": (
        '{"weight_map":{"a.weight":"../1.safetensors"}}',
        "must be the name of a file beside the index",
    ),
    "an absolute path": (
        '{"weight_map":{"a.weight":"/etc/passwd"}}',
        "must be the name of a file beside the index",
    ),
    "a broken shard": (
        '{"weight_map":{"a.weight":"broken.safetensors"}}',
        "broken.safetensors: the file is empty",
    ),
}


def both_refuse(source, text):
    x = cp.write_npy(path("one.npy"), "<f4", (1, 1), bytes(4))
    y, out = path("broken.npy"), path("broken.out")
    refused(text, "quantize", source, out, missing=out)
    refused(
        text, "linear", "--weights", source, "--name", "a", "--input", x, "--output", y, missing=y
    )


def test_both_commands_refuse_every_broken_file():
    assert len(BROKEN_FILES) >= 20
    for what, (content, text) in BROKEN_FILES.items():
        both_refuse(cp.write(path("broken.safetensors"), content), text)


def test_both_commands_refuse_every_broken_index():
    folder = path("broken.folder")
    os.mkdir(folder)
    both_refuse(folder, "the directory holds neither")
    cp.write(os.path.join(folder, "1.safetensors"), GOOD)
    cp.write(os.path.join(folder, "broken.safetensors"), b"")
    for what, (content, text) in BROKEN_INDICES.items():
        cp.write(os.path.join(folder, "model.safetensors.index.json"), content)
        both_refuse(folder, text)


if __name__ == "__main__":
    tap.main()
