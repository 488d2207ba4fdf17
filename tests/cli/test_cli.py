#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# test_cli.py - the command `deepgemm` from outside: what each command prints for programs (JSON, CSV) and
# its exit status when the command line, a file or the library is at fault.
import csv
import io
import json
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

COMMAND = os.environ.get("DEEPGEMM_BIN", tap.COMMAND)
SCRATCH = tempfile.mkdtemp(prefix="cli-", dir=tap.BUILD)
SHAPES = os.path.join(tap.ROOT, "bench", "shapes")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DG_")}


def cli(*arguments, status=0, **options):
    options.setdefault("env", ENVIRONMENT)
    return tap.run(COMMAND, *arguments, status=status, **options)


def fails(status, text, *arguments):
    """The command ends with `status`, says `text` on standard error and nothing on standard output."""
    done = cli(*arguments, status=status)
    assert text in done.stderr, "%r is not in %r" % (text, done.stderr)
    assert not done.stdout, done.stdout


def run_json(problem, *options):
    return json.loads(cli("run", problem, "--json", "--backend", "cpu", *options).stdout)


# ---- help and version ----

def test_help_lists_every_command_and_each_explains_itself():
    overview = cli("help").stdout
    names = re.findall(r"^  ([a-z]+) {2,}", overview, re.MULTILINE)
    assert {"info", "run", "bench", "plan", "compile", "linear", "quantize"} <= set(names), names
    for name in set(names) - {"version"}:
        for arguments in ((name, "--help"), (name, "-h"), ("help", name)):
            text = cli(*arguments).stdout
            assert text.startswith("usage: deepgemm %s " % name) and "--help" in text, text


def test_version_is_the_header_s():
    header = open(os.path.join(tap.ROOT, "include", "deepgemm.h"), encoding="utf-8").read()
    version = ".".join(re.findall(r"#define DG_VERSION_[A-Z]+ (\d+)", header))
    assert cli("version").stdout == "deepgemm %s\n" % version == cli("--version").stdout


def test_no_command_and_an_unknown_one_are_usage_errors():
    fails(2, "usage: deepgemm COMMAND")
    fails(2, "unknown command 'multiply'", "multiply")
    fails(2, "unknown command 'multiply'", "help", "multiply")


def test_unknown_options_and_bad_values_are_usage_errors():
    for command in ("info", "run", "bench", "plan", "compile", "linear", "quantize"):
        fails(2, "--nonsense", command, "--nonsense")
    fails(2, "--seed x", "run", "--seed", "x", "fp8_gemm_nt m=1 n=1 k=1")
    fails(2, "--seed -1", "run", "--seed", "-1", "fp8_gemm_nt m=1 n=1 k=1")
    fails(2, "requires an argument", "run", "--seed")


# ---- info and plan ----

def test_info_says_the_same_in_text_and_in_json():
    facts = json.loads(cli("info", "--json").stdout)
    assert facts["backends"]["cpu"] == "available"
    assert "DG_BACKEND" in facts["environment"]
    text = cli("info").stdout
    for section, values in facts.items():
        assert re.search("^%s$" % re.escape(section), text, re.MULTILINE), section
        for key, value in values.items():
            assert re.search(r"^  %s +%s$" % (re.escape(key), re.escape(value)), text, re.MULTILINE), key


def test_info_shows_the_value_of_a_variable_even_if_it_is_not_text():
    odd = b"a\"b\\c\x01\xff\xc3\xa9"
    environment = dict(ENVIRONMENT, DG_TUNING_FILE=os.fsdecode(odd))
    facts = json.loads(cli("info", "--json", env=environment).stdout)
    assert facts["environment"]["DG_TUNING_FILE"] == 'a"b\\c\x01\ufffd\u00e9'


def test_info_takes_no_arguments():
    fails(2, "takes no arguments", "info", "more")


def test_plan_names_the_problem_and_what_would_run():
    facts = json.loads(cli("plan", "fp8_gemm_nt m=64 n=256 k=512 out=bf16", "--backend", "cpu", "--json").stdout)
    assert facts["problem"]["line"] == "fp8_gemm_nt m=64 n=256 k=512"
    assert facts["device"]["backend"] == "cpu"
    assert facts["plan"]["kernel"] and facts["plan"]["why"]
    assert facts["plan"]["kernel"] in cli("plan", "fp8_gemm_nt m=64 n=256 k=512", "--backend", "cpu").stdout


def test_plan_refuses_what_is_not_a_problem():
    fails(2, "one problem is wanted, 0 given", "plan")
    fails(2, "one problem is wanted, 2 given", "plan", "fp8_gemm_nt m=1 n=1 k=1", "fp8_gemm_nt m=1 n=1 k=1")
    fails(2, "n is missing", "plan", "fp8_gemm_nt m=1 k=1")


def test_plan_and_compile_for_devices_that_are_not_there():
    problem = "fp8_gemm_nt m=64 n=2112 k=7168"
    for name, sms in (("h100-sxm", 132), ("h100-pcie", 114), ("h200", 132), ("h20", 78)):
        facts = json.loads(cli("plan", "--device", name, "--json", problem).stdout)
        assert facts["device"]["backend"] == "sm90" and "NVIDIA H" in facts["device"]["name"]
        assert facts["plan"]["why"].endswith("on %d SMs" % sms), facts["plan"]["why"]
        assert "sm90_fp8_gemm_1d2d" in facts["plan"]["kernel_key"]
    text = cli("compile", "--list", "--max-m", "16", "--device", "h20", "--shapes", os.path.join(SHAPES, "small.txt"),
               "--shapes", os.path.join(SHAPES, "deepseek-v3-1d1d.txt")).stdout
    count = re.search(r"^([0-9]+) kernels for [0-9]+ shapes, m = 1 to 16$", text, re.MULTILINE)
    assert count and int(count.group(1)) == text.count("sm90_fp8_gemm") > 2, text
    fails(1, "h100-sxm, h100-pcie, h200, h20", "plan", "--device", "h300", problem)


def test_all_dense_shapes_together_need_few_kernels():
    names = ("deepseek-v3-dense.txt", "deepseek-v3-1d1d.txt", "other-models-dense.txt", "small.txt")
    lists = [part for name in names for part in ("--shapes", os.path.join(SHAPES, name))]
    for device in ("h100-sxm", "h200"):
        text = cli("compile", "--list", "--max-m", "1024", "--device", device, *lists).stdout
        assert 20 < int(re.search(r"^([0-9]+) kernels for ", text, re.MULTILINE).group(1)) <= 60, text


# ---- run ----

def test_run_checks_every_layout_and_output():
    for problem in ("fp8_gemm_nt m=33 n=65 k=200",
                    "fp8_gemm_nn m=33 n=65 k=200 out=fp32 c=separate",
                    "fp8_gemm_tn m=33 n=65 k=576 c=inplace ldd=70",
                    "fp8_gemm_tt m=33 n=65 k=576 out=fp32 sf=ue8m0 sfa_layout=mn lda=40",
                    "fp8_gemm_nt m=1 n=7 k=1024 sfb=1 sfb_layout=mn",
                    "fp8_gemm_nt m=5 n=3 k=0 out=fp32 c=inplace"):
        result = run_json(problem, "--check")
        assert result["problem"] == problem, result
        assert result["backend"] == "cpu" and result["first_us"] > 0 and result["best_us"] > 0
        assert result["check"]["ok"] and result["check"]["failure"] == "", result
        if "fp32" in problem:
            assert result["check"]["relative_error"] < 1e-6, result
            assert result["check"]["rounding"] is None
        else:
            assert result["check"]["rounding"] <= 1, result


def test_run_says_nothing_of_a_check_that_was_not_asked_for():
    assert "check" not in run_json("fp8_gemm_nt m=3 n=3 k=128")


def test_run_of_nothing_succeeds():
    for problem in ("fp8_gemm_nt m=0 n=5 k=128", "fp8_gemm_nt m=5 n=0 k=128"):
        assert run_json(problem, "--check")["check"]["ok"]


def test_run_depends_on_the_seed_only():
    problem = "fp8_gemm_nt m=64 n=64 k=256 out=fp32"
    errors = [run_json(problem, "--check", "--seed", seed, "--threads", threads)["check"]["relative_error"]
              for seed, threads in (("1", "1"), ("1", "2"), ("2", "1"))]
    assert errors[0] == errors[1] != errors[2], errors


def test_run_prints_the_check_for_people():
    text = cli("run", "fp8_gemm_nt m=33 n=65 k=200", "--check", "--backend", "cpu").stdout
    assert re.search(r"^check +ok, 33 of 33 rows$", text, re.MULTILINE), text
    assert re.search(r"^error +\S+ of the norm", text, re.MULTILINE), text


def test_run_refuses_problems_that_are_none():
    fails(2, "one problem is wanted", "run")
    fails(2, "shape=3", "run", "fp8_gemm_nt m=1 n=1 k=1 shape=3")
    fails(2, "fp9_gemm", "run", "fp9_gemm m=1 n=1 k=1")
    fails(2, "m=-1", "run", "fp8_gemm_nt m=-1 n=1 k=1")
    fails(2, "", "run", "fp8_gemm_nt m=4611686018427387904 n=4 k=4")


def test_run_reports_what_the_library_refuses():
    fails(1, "`nonsense`", "run", "--backend", "nonsense", "fp8_gemm_nt m=1 n=1 k=1")
    fails(1, "isa", "run", "--backend", "cpu", "--isa", "nonsense", "fp8_gemm_nt m=1 n=1 k=1")
    fails(1, "out of memory", "run", "--backend", "cpu", "fp8_gemm_nt m=1000000000 n=1000000000 k=1")


# ---- bench ----

PROBLEMS = ("fp8_gemm_nt m=3 n=128 k=256", "fp8_gemm_nt m=17 n=128 k=256 out=fp32 c=inplace sfb=1")


def bench(*arguments, status=0):
    return cli("bench", "--backend", "cpu", "--time-ms", "5", *arguments, status=status)


def test_bench_writes_the_same_rows_as_table_csv_and_json():
    path = os.path.join(SCRATCH, "rows.csv")
    text = bench("--csv", path, *PROBLEMS).stdout
    rows = list(csv.DictReader(open(path, newline="")))
    assert [row["problem"] for row in rows] == list(PROBLEMS), rows
    for row, line in zip(rows, text.splitlines()[1:]):
        assert line.startswith(row["problem"]) and row["isa"] in line, (row, line)
        assert row["check"] == "ok" and float(row["best_us"]) <= float(row["median_us"]), row
        assert 0 < float(row["fma_peak_ratio"]) < 1.5, row
        flops = 2 * eval(re.sub(r".*m=(\d+) n=(\d+) k=(\d+).*", r"\1*\2*\3", row["problem"]))
        assert abs(float(row["gflops"]) - flops / float(row["best_us"]) / 1e3) < 1e-3 * float(row["gflops"])
    answer = json.loads(bench("--json", *PROBLEMS).stdout)
    assert [row["problem"] for row in answer["rows"]] == list(PROBLEMS)
    assert set(answer["rows"][0]) == set(rows[0])


def test_bench_takes_every_combination_of_lists():
    rows = json.loads(bench("--json", "--isa", "c,avx2", "--threads", "1,2", PROBLEMS[0]).stdout)["rows"]
    assert [(row["isa"], row["threads"]) for row in rows] == [("c", 1), ("c", 2), ("avx2", 1), ("avx2", 2)]


def test_bench_reads_shapes_with_comments_and_names_the_bad_line():
    path = os.path.join(SCRATCH, "shapes.txt")
    with open(path, "w") as file:
        file.write("# a comment\n\n  %s   # another\n%s\r\n" % PROBLEMS)
    more = ("--problem", PROBLEMS[1], "--problem", PROBLEMS[0])
    rows = json.loads(bench("--json", "--shapes", path, *more).stdout)["rows"]
    assert [row["problem"] for row in rows] == list(PROBLEMS) + [PROBLEMS[1], PROBLEMS[0]]
    with open(path, "a") as file:
        file.write("fp8_gemm_nt m=1 n=1\n")
    fails(2, "shapes.txt:5: ", "bench", "--shapes", path)


def test_sizes_of_groups_come_from_a_file():
    path, masked = os.path.join(SCRATCH, "counts.txt"), "fp8_m_grouped_masked groups=%d max_m=%d n=64 k=256 rows=file:%s"
    with open(path, "w") as file:
        file.write("# step 1\n12, 30\n\n0 5 # more\n")
    shown = masked % (6, 40, path) + " expected_m=12"
    done = cli("run", "--check", masked % (6, 40, path))
    assert shown in done.stdout and "ok, 89 of 240 rows" in done.stdout  # 12 + 30 + 0 + 5 + 12 + 30
    assert [row["problem"] for row in json.loads(bench("--json", masked % (6, 40, path)).stdout)["rows"]] == [shown]
    cli("plan", "--device", "h100-sxm", masked % (6, 40, path))
    fails(2, "4 numbers for 3 groups", "run", masked % (3, 40, path))
    fails(2, "group 1 has 30 rows: there is room for 20, as max_m = 20", "run", masked % (4, 20, path))
    fails(2, "multiple of 32", "run", "fp8_k_grouped groups=4 m=8 n=8 k=256 rows=file:" + path)
    fails(2, "no-such-file: No such file", "run", masked % (4, 40, os.path.join(SCRATCH, "no-such-file")))
    for text, message in (("1 2\n3 -4", ":2: `-4`"), ("1 2x", ":1: `2x`"), ("# 7\n", "no numbers")):
        with open(path, "w") as file:
            file.write(text)
        fails(2, message, "run", masked % (4, 40, path))


def test_a_tuning_file_that_cannot_be_read_is_told_of():
    problem, missing = "fp8_gemm_nt m=3 n=3 k=3", os.path.join(SCRATCH, "no-such-file")
    for level, told in ((None, True), ("error", False), ("info", True)):
        environment = dict(ENVIRONMENT, DG_TUNING_FILE=missing, **({"DG_LOG": level} if level else {}))
        done = cli("plan", "--device", "h100-sxm", problem, env=environment)
        assert (("$DG_TUNING_FILE is left aside: %s: cannot open: No such file" % missing) in done.stderr) == told, done.stderr
    assert not cli("plan", "--device", "h100-sxm", problem).stderr


def test_bench_refuses_bad_lists_and_missing_files():
    fails(2, "nothing to time", "bench")
    fails(2, "no-such-file: No such file", "bench", "--shapes", os.path.join(SCRATCH, "no-such-file"))
    fails(1, "rows.csv: No such file", "bench", "--csv", os.path.join(SCRATCH, "none", "rows.csv"), PROBLEMS[0])
    done = bench("--vs", "cublaslt", PROBLEMS[0], status=2)
    assert "fma-peak" in done.stderr and not done.stdout
    assert "numbers are wanted" in bench("--threads", "1,x", PROBLEMS[0], status=2).stderr
    assert "isa" in bench("--isa", "mmx", PROBLEMS[0], status=1).stderr


def test_output_that_cannot_be_written_is_a_failure():
    if not os.path.exists("/dev/full"):
        tap.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        import subprocess
        done = subprocess.run([COMMAND, "version"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"could not be written" in done.stderr
    assert "could not be written" in bench("--csv", "/dev/full", PROBLEMS[0], status=1).stderr


def test_shapes_of_the_repository_are_all_problems():
    counts = {}
    for name in sorted(os.listdir(SHAPES)):
        lines = [line.split("#")[0].strip() for line in io.open(os.path.join(SHAPES, name), encoding="utf-8")]
        lines = [line for line in lines if line]
        counts[name] = len(lines)
        assert len(set(lines)) == len(lines), name
        # m = 0 compiles nothing but reads and plans every line
        cli("compile", "--backend", "cpu", "--list", "--max-m", "0", "--shapes", os.path.join(SHAPES, name))
    assert counts["deepseek-v3-dense.txt"] == 70 and counts["deepseek-v3-1d1d.txt"] == 4, counts


def test_what_only_a_gpu_can_be_asked_for():
    for option in (("--tune", os.path.join(SCRATCH, "none")), ("--sweep", "m=1..8"), ("--chain",), ("--in-turn",)):
        fails(2, "--tune, --sweep, --chain and --in-turn are for a GPU", "bench", "--backend", "cpu", *option,
              "fp8_gemm_nt m=1 n=1 k=1")
    assert not os.path.exists(os.path.join(SCRATCH, "none"))


# ---- MQA logits ----

MQA = ["fp8_mqa_logits s=40 skv=300 h=8 d=64 ranges=ragged clean=yes out=bf16",
       "fp8_mqa_logits s=33 skv=200 h=3 width=90 weights=bf16",
       "fp8_paged_mqa_logits b=3 next_n=2 h=4 L=200 page=16 ranges=ragged columns=250"]


def test_mqa_logits_run_and_are_right():
    for line in MQA:
        result = run_json(line, "--check")
        assert result["check"]["ok"] and result["check"]["rows"] > 0, result
        again = json.loads(cli("run", result["problem"], "--json", "--backend", "cpu", "--check").stdout)
        assert again["problem"] == result["problem"] and again["check"] == result["check"], again


def test_mqa_logits_are_planned_for_a_device_that_is_not_there():
    facts = json.loads(cli("plan", MQA[2], "--device", "h100-sxm", "--json").stdout)
    assert facts["plan"]["kernel_key"].startswith("sm90_fp8_paged_mqa_logits depth=128 lanes=2 "), facts
    assert facts["plan"]["ctas"] == "132" and facts["problem"]["line"].startswith("fp8_paged_mqa_logits b=3"), facts
    fails(1, "q has 129 heads: a GPU does at most 128", "plan", "fp8_mqa_logits s=1 skv=1 h=129", "--device", "h20")


def test_mqa_logits_are_timed_apart():
    rows = json.loads(cli("bench", "--json", "--backend", "cpu", "--time-ms", "1", *MQA).stdout)["rows"]
    assert [row["check"] for row in rows] == ["ok"] * 3 and all(row["us"] > 0 for row in rows), rows
    fails(2, "MQA logits have other columns", "bench", "--backend", "cpu", MQA[0], PROBLEMS[0])
    fails(2, "not for MQA logits", "bench", "--backend", "cpu", "--vs", "cublaslt", MQA[0])
    assert " ms  fp8_mqa_logits s=40 " in cli("compile", "--backend", "cpu", MQA[0]).stdout


def test_lines_of_mqa_logits_that_are_none():
    for line, text in (("fp8_mqa_logits skv=3 h=1", "s= is missing"),
                       ("fp8_mqa_logits s=3 skv=3 h=1 L=4", "`L` is no key of fp8_mqa_logits"),
                       ("fp8_mqa_logits s=3 skv=3 h=1 d=129", "d=129: must be at most 128"),
                       ("fp8_mqa_logits s=x skv=3 h=1", "s=x: must be a whole number"),
                       ("fp8_paged_mqa_logits b=1 h=1 L=3 page=48", "page=48: must be 16, 32, 64 or 128"),
                       ("fp8_paged_mqa_logits b=1 h=1 L=3 ranges=causal", "must be full or ragged"),
                       ("fp8_paged_mqa_logits b=1 h=1 L=3 clean=maybe", "must be yes or no"),
                       ("fp8_paged_mqa_logits b=1 h=1 L", "`L` is no KEY=VALUE")):
        fails(2, text, "run", "--backend", "cpu", line)


# ---- compile ----

def test_compile_makes_problems_ready_and_counts_kernels():
    text = cli("compile", "--backend", "cpu", *PROBLEMS).stdout
    assert all(problem in text for problem in PROBLEMS) and "2 problems ready" in text, text
    text = cli("compile", "--backend", "cpu", "--list", "--max-m", "40", *PROBLEMS).stdout
    last = re.fullmatch(r"(\d+) kernels for 2 shapes, m = 1 to 40", text.splitlines()[-1])
    assert last and int(last.group(1)) == len(text.splitlines()) - 1, text
    fails(2, "nothing to compile", "compile")


def test_compile_counts_a_shape_once_whatever_its_m():
    problems = ["fp8_gemm_nt m=%d n=128 k=256%s" % (m, layout) for layout in ("", " sfa_layout=mn") for m in (1, 16, 64)]
    for order in (problems, problems[::-1]):
        text = cli("compile", "--backend", "cpu", "--list", "--max-m", "3", *order).stdout
        assert "for 2 shapes, m = 1 to 3" in text, text
    assert "for 1 shapes" in cli("compile", "--backend", "cpu", "--list", "--max-m", "3", problems[0]).stdout


if __name__ == "__main__":
    tap.main()
