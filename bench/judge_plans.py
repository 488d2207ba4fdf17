#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# judge_plans.py - how good are the plans, by times that were measured once: judge_plans.py rows.csv [DEVICE]
#
# rows.csv comes from `deepgemm bench --tune FILE --csv rows.csv` on a GPU; DEVICE is a profile (h100-sxm).  For each
# problem it asks `deepgemm plan` for the present choice, and sets the time that was measured for it against the
# best.  So a change of the cost model can be judged on any machine.  $DEEPGEMM names another command.
# With --needed it tells for each candidate what its loss would cost: the best of the others over the best of all.
import csv
import json
import math
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMAND = os.environ.get("DEEPGEMM", os.path.join(ROOT, "build", "deepgemm"))
RANGES = (("m <= 64", 0, 64), ("m 65-256", 65, 256), ("m 257-1024", 257, 1024), ("m > 1024", 1025, 1 << 40))


def read(path):
    """{problem: (m, {candidate: us})}"""
    problems = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if "candidate" not in row:
                sys.exit("%s: not the CSV of `deepgemm bench --tune`" % path)
            times = problems.setdefault(row["problem"], (int(row["m"]), {}))[1]
            if row["us"]:
                times[row["candidate"]] = float(row["us"])
    return problems


def choice_of(problem, device):
    done = subprocess.run([COMMAND, "plan", problem, "--device", device, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["plan"]["candidate"]


def judge(problems, device):
    """[(choice / best, m, problem, choice, best)], and the problems whose choice was not measured."""
    rows, unknown = [], []
    for problem, (m, times) in problems.items():
        choice = choice_of(problem, device)
        best = min(times, key=times.get)
        if choice in times:
            rows.append((times[choice] / times[best], m, problem, choice, best))
        else:
            unknown.append("%s: %s" % (problem, choice))
    return sorted(rows, reverse=True), unknown


def needed(problems):
    """[(geometric mean, worst ratio, problems that it wins, candidate)]: what each candidate is there for."""
    rows = []
    for candidate in {name for _, times in problems.values() for name in times}:
        ratios = []
        for _, times in problems.values():
            others = [us for name, us in times.items() if name != candidate]
            ratios.append(min(others) / min(times.values()) if others else 1.0)
        rows.append((mean(ratios), max(ratios), sum(ratio > 1 for ratio in ratios), candidate))
    return sorted(rows)


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--needed"]
    if len(arguments) not in (1, 2):
        sys.exit("usage: judge_plans.py [--needed] rows.csv [DEVICE]")
    device = arguments[1] if len(arguments) == 2 else "h100-sxm"
    problems = read(arguments[0])
    if "--needed" in sys.argv:
        for average, worst, wins, candidate in needed(problems):
            print("%-50s without it: geometric mean %.4f, worst %.3f; wins %d" % (candidate, average, worst, wins))
    rows, unknown = judge(problems, device)
    for ratio, _, problem, choice, best in rows:
        if ratio > 1.01:
            print("%.3f  %-56s %-50s best: %s" % (ratio, problem, choice, best))
    for name, first, last in RANGES + (("all", 0, 1 << 40),):
        ratios = [row[0] for row in rows if first <= row[1] <= last]
        if ratios:
            print("%-11s choice / best: geometric mean %.4f, worst %.3f, %d problems"
                  % (name, mean(ratios), max(ratios), len(ratios)))
    for line in unknown:
        print("not measured: %s" % line)


if __name__ == "__main__":
    main()
