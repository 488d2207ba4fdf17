#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# judge_plans.py - how good are the plans, by times that were measured once: judge_plans.py rows.csv [DEVICE]
#
# rows.csv comes from `deepgemm bench --tune FILE --csv rows.csv` on a GPU; DEVICE is a profile (h100-sxm).  For each
# problem it asks `deepgemm plan` for the present choice, and sets the time that was measured for it against the
# best.  So a change of the cost model can be judged on any machine.  $DEEPGEMM names another command.
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


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: judge_plans.py rows.csv [DEVICE]")
    device = sys.argv[2] if len(sys.argv) == 3 else "h100-sxm"
    rows, unknown = judge(read(sys.argv[1]), device)
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
