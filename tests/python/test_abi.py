# SPDX-License-Identifier: MIT
# test_abi.py - the structs, constants and functions that the package declares in Python are those of the
# public header, as a C compiler reads it.
import ctypes
import os
import re
import shlex
import tempfile

from common import main, tap

from deep_gemm import _fast
from deep_gemm import _library as lib

STRUCTS = {
    "dg_context_options": lib.ContextOptions,
    "dg_gemm_options": lib.GemmOptions,
    "dg_grouped_options": lib.GroupedOptions,
    "dg_mqa_options": lib.MqaOptions,
}
CONSTANTS = {
    "DG_TYPE_NONE": lib.NONE, "DG_E4M3": lib.E4M3, "DG_BF16": lib.BF16, "DG_F32": lib.F32,
    "DG_F64": lib.F64, "DG_UE8M0X4": lib.UE8M0X4, "DG_F16": lib.F16, "DG_I32": lib.I32,
    "DG_MAX_RANK": lib.MAX_RANK, "DG_OK": lib.OK, "DG_INVALID_ARGUMENT": lib.INVALID_ARGUMENT,
    "DG_UNSUPPORTED": lib.UNSUPPORTED, "DG_NO_DEVICE": lib.NO_DEVICE, "DG_GEMM_PDL": lib.GEMM_PDL,
    "DG_GROUP_INDEX": lib.GROUP_INDEX, "DG_GROUP_ENDS": lib.GROUP_ENDS,
    "DG_MQA_CLEAN": lib.MQA_CLEAN, "DG_MQA_COMPRESSED": lib.MQA_COMPRESSED, "DG_MQA_PDL": lib.MQA_PDL,
    "sizeof(struct dg_tensor)": lib.TENSOR_BYTES, "sizeof(struct dg_scaled)": lib.SCALED_BYTES,
    "offsetof(struct dg_tensor, shape)": 16, "offsetof(struct dg_tensor, stride)": 48,
    "offsetof(struct dg_scaled, scales)": lib.TENSOR_BYTES,
    "offsetof(struct dg_scaled, block_rows)": 2 * lib.TENSOR_BYTES,
}  # fmt: skip


def header():
    with open(os.path.join(tap.ROOT, "include", "deepgemm.h"), encoding="utf-8") as file:
        return file.read()


def values(expressions, includes):
    """What a C compiler makes of integer expressions."""
    lines = ['printf("%%lld\\n", (long long)(%s));' % text for text in expressions]
    program = "#include <stddef.h>\n#include <stdio.h>\n%s\nint main(void) {\n%s\n}\n" % (
        "\n".join('#include "%s"' % name for name in includes),
        "\n".join(lines),
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "abi.c"), os.path.join(folder, "abi")
        with open(source, "w", encoding="utf-8") as file:
            file.write(program)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        include = "-I" + os.path.join(tap.ROOT, "include")
        tap.run(*compiler, "-w", include, "-I" + tap.ROOT, "-o", target, source)
        return [int(line) for line in tap.run(target).stdout.split()]


def check(pairs, includes):
    for (name, own), theirs in zip(pairs, values([name for name, _ in pairs], includes)):
        assert own == theirs, "%s is %d, not %d" % (name, theirs, own)


def layout(name, struct):
    """(expression, value) for the places of a struct's members, and for its size unless it begins with
    struct_size: such a struct may have grown."""
    pairs = []
    if struct._fields_[0][0] != "struct_size":
        pairs.append(("sizeof(struct %s)" % name, ctypes.sizeof(struct)))
    for field in struct._fields_:
        member = "offsetof(struct %s, %s)" % (name, field[0])
        pairs.append((member, getattr(struct, field[0]).offset))
    return pairs


def test_structs_and_constants_are_those_of_the_header():
    pairs = list(CONSTANTS.items())
    for name, struct in STRUCTS.items():
        pairs += layout(name, struct)
    check(pairs, ["deepgemm.h"])


def test_the_bridge_has_the_struct_that_python_fills():
    source = os.path.join("python", "deep_gemm", "bridge.c")
    check(layout("bridge", _fast._Bridge), [source])


def test_declared_functions_take_as_many_arguments_as_in_the_header():
    text = re.sub(r"/\*.*?\*/", "", header(), flags=re.DOTALL)
    for name, (_, arguments) in lib.FUNCTIONS.items():
        match = re.search(r"DG_API [^;]*?\b%s\(([^;]*)\);" % name, text)
        assert match, "%s is not in the header" % name
        count = 0 if match.group(1).strip() == "void" else match.group(1).count(",") + 1
        assert count == len(arguments), "%s takes %d arguments" % (name, count)
        assert hasattr(lib.library(), name)


if __name__ == "__main__":
    main()
