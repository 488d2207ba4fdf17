# SPDX-License-Identifier: MIT
# test_examples.py - the Python programs of examples/ run and judge their own results.
import os
import re
import sys

from common import DEVICE, deep_gemm, main, need_torch, tap


def run(name):
    environment = dict(os.environ)
    if DEVICE == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return tap.run(sys.executable, os.path.join(tap.ROOT, "examples", name), env=environment).stdout


def test_numpy_on_cpu_multiplies():
    assert "gradient: calc_diff" in run("numpy_on_cpu.py")


def test_a_linear_layer_of_a_checkpoint_matches():
    need_torch()
    text = run("fp8_linear.py")
    assert "on %s" % DEVICE in text and "compiled as one graph" in text


def test_a_training_step_of_experts_matches_autograd():
    need_torch()
    assert run("moe_training_step.py").count("against FP32") == 5


def test_the_example_of_the_readme_works():
    need_torch()
    with open(os.path.join(tap.ROOT, "README.md"), encoding="utf-8") as file:
        (code,) = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)
    names = {}
    exec(code, names)
    (a, sfa), (b, sfb), d = names["a"], names["b"], names["d"]
    exact = (a.float() * sfa.repeat_interleave(128, 1)) @ (
        b.float() * sfb.repeat_interleave(128, 0)[:2112].repeat_interleave(128, 1)
    ).t()
    assert deep_gemm.calc_diff(d, exact) < 1e-5


if __name__ == "__main__":
    main()
