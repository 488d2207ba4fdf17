# SPDX-License-Identifier: MIT
# test_emulated.py - the tests in tests/gpu, scaled down, over an emulated driver (driver.c): the host side
# of the sm90 backend works on a machine without a GPU.
import atexit
import csv
import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

HERE = os.path.dirname(os.path.abspath(__file__))
CC = os.environ.get("CC", "cc").split()
SCRATCH = tempfile.mkdtemp(prefix="emulated-", dir=tap.BUILD)
atexit.register(shutil.rmtree, SCRATCH, True)


def build_driver():
    tap.run(
        *CC, "-std=c11", "-D_GNU_SOURCE", "-O2", "-w", "-shared", "-fPIC",
        "-I" + os.path.join(tap.ROOT, "src"), os.path.join(HERE, "driver.c"),
        "-o", os.path.join(SCRATCH, "libcuda.so.1"), "-lm", "-lpthread",
    )


def environment(**more):
    variables = dict(
        os.environ,
        LD_LIBRARY_PATH=SCRATCH,
        DG_JIT_USE_NVRTC="0",
        DG_JIT_NVCC_COMPILER=os.path.join(HERE, "nvcc.sh"),
        DG_JIT_CACHE_DIR=os.path.join(SCRATCH, "cache"),
        **more,
    )
    variables.pop("DG_BACKEND", None)
    return variables


def run(program, *arguments, scale=1.0):
    """Runs a program of tests/gpu on the emulated driver; nothing may fail or be skipped."""
    path = os.path.join(tap.BUILD, "tests", "gpu", program)
    done = tap.run(path, *arguments, status=None, env=environment(DG_TEST_SCALE=str(scale)))
    assert done.returncode == 0, "%s ended with %d\n%s" % (program, done.returncode, done.stdout)
    assert "# SKIP" not in done.stdout, done.stdout


def test_random_problems():
    run("test_gpu_gemm", "150")


def test_every_m():
    run("test_gpu_rows", "70", "600", "384")


def test_some_of_the_tiles():
    run("test_gpu_tiles", scale=0.04)


def test_grouped_products():
    run("test_gpu_grouped", scale=0.03)


def test_copies_of_scales():
    run("test_gpu_copies", scale=0.4)


def test_one_problem_of_each_kind():
    run("test_gpu_families")


def test_mqa_logits():
    run("test_gpu_mqa", scale=0.01)
    run("test_gpu_mqa_budget", scale=0.01)


def test_chains_of_early_launches():
    run("test_gpu_chain", scale=0.5)


def test_nan_and_inf():
    run("test_gpu_nonfinite")


def test_refused_calls():
    run("test_gpu_errors")


def test_cuda_contexts():
    run("test_gpu_contexts")


def test_tuning_finds_the_candidate_that_the_device_likes_best():
    """On the emulated device a launch takes the longer the more CTAs it has."""
    problem, table = "fp8_gemm_nt m=9 n=144 k=128", os.path.join(SCRATCH, "tuned.txt")
    rows = os.path.join(SCRATCH, "tuned.csv")
    result = json.loads(tap.run(tap.COMMAND, "bench", problem, "--tune", table, "--csv", rows, "--json",
                                env=environment()).stdout)
    with open(rows, newline="", encoding="utf-8") as file:
        candidates = list(csv.DictReader(file))
    times = {row["candidate"]: float(row["us"]) for row in candidates}
    best = [row["candidate"] for row in candidates if row["is_best"] == "1"]
    choice = [row["candidate"] for row in candidates if row["is_choice"] == "1"]
    assert len(times) == len(candidates) > 5 and len(best) == len(choice) == 1, candidates
    assert times[best[0]] == min(times.values()) < times[choice[0]], times
    assert abs(result["choice_to_best"] - times[choice[0]] / times[best[0]]) < 1e-3, result

    def plan(**more):
        return json.loads(tap.run(tap.COMMAND, "plan", problem, "--json", env=environment(**more)).stdout)["plan"]

    assert plan()["candidate"] == choice[0]
    tuned = plan(DG_TUNING_FILE=table)
    assert tuned["candidate"] == best[0] and tuned["why"] == "tuning table", tuned
    judged = tap.run(sys.executable, os.path.join(tap.ROOT, "bench", "judge_plans.py"), rows,
                     env=environment(DEEPGEMM=tap.COMMAND)).stdout
    assert "geometric mean %.4f" % (times[choice[0]] / times[best[0]]) in judged and best[0] in judged, judged


def test_problems_in_turn_are_set_against_the_first():
    lines = ["fp8_gemm_nt m=64 n=144 k=256 sfa_layout=mn", "fp8_gemm_nt m=64 n=2000 k=512 sfa_layout=mn",
             "fp8_m_grouped_contiguous groups=3 m=128 n=72 k=256 rows=40"]
    rows = json.loads(tap.run(tap.COMMAND, "bench", "--in-turn", "--json", *lines, env=environment()).stdout)["rows"]
    assert [row["check"] for row in rows] == ["ok"] * 3 and rows[0]["time_to_first"] == rows[0]["rate_to_first"] == 1
    for row in rows:
        assert abs(row["time_to_first"] - row["us"] / rows[0]["us"]) < 1e-3, rows
        assert abs(row["rate_to_first"] - row["tflops"] / rows[0]["tflops"]) < 2e-3 * row["rate_to_first"], rows


def test_sweep_times_every_m_of_a_shape_and_its_picture_is_drawn():
    rows, picture = os.path.join(SCRATCH, "sweep.csv"), os.path.join(SCRATCH, "sweep.svg")
    result = json.loads(tap.run(
        tap.COMMAND, "bench", "--sweep", "m=1..13:4", "--csv", rows, "--json", "fp8_gemm_nt m=1 n=40 k=300",
        "fp8_gemm_nt m=5 n=40 k=300 sfa_layout=mn", "fp8_gemm_nt m=5 n=72 k=200", env=environment()).stdout)
    assert [(row["n"], row["m"]) for row in result["rows"]] == [(n, m) for n in (40, 72) for m in (1, 5, 9, 13)]
    assert all(row["check"] == "ok" and row["us"] > row["floor_us"] > 0 for row in result["rows"]), result
    assert all(row["kernel"].startswith("sm90_fp8_gemm_1d2d ") for row in result["rows"]), result
    for index, steps in enumerate(result["steps"]):
        times = [row["us"] for row in result["rows"][4 * index:4 * index + 4]]
        falls = [1 - after / before for before, after in zip(times, times[1:])]
        assert abs(steps["largest_fall"] - max(0, *falls)) < 1e-3, (steps, times)
    tap.run(sys.executable, os.path.join(tap.ROOT, "bench", "plot_sweep.py"), rows, picture)
    text = open(picture, encoding="utf-8").read()
    assert text.startswith("<svg") and "n = 40, k = 300" in text and text.count("<polyline") == 4, text


build_driver()
tap.main()
