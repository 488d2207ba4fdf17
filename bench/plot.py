#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# plot.py - draws the CSV of `deepgemm bench` on a GPU: plot.py rows.csv docs/speedup.svg
#
# One panel for each (n, k), over m: the time of each peer over ours, so above 1 we are faster.  Writes
# plain SVG with the standard library alone.
import csv
import math
import sys
from html import escape

SERIES = (  # column, name, colour
    ("cublaslt_ratio", "cuBLASLt without scales", "#7a7a7a"),
    ("cublaslt_block_ratio", "cuBLASLt with block scales", "#c77700"),
    ("deepgemm_ratio", "DeepGEMM, through cuBLASLt", "#1f6fb4"),
)
COLUMNS, WIDTH, HEIGHT = 4, 250, 170          # panels in a row, size of one
LEFT, TOP, BOTTOM, RIGHT = 34, 84, 30, 10     # around a panel's axes; TOP of the whole picture
STYLE = ("text{font:11px sans-serif;fill:#333}.title{font:bold 15px sans-serif}.panel{font-weight:bold}"
         ".axis{stroke:#999;fill:none}.grid{stroke:#e4e4e4}.one{stroke:#444;stroke-dasharray:3 3}")


def number(text):
    return float(text) if text else math.nan


def read(path):
    """{(n, k): {m: {column: ratio}}} and the devices of a file."""
    panels, devices = {}, []
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if "m" not in row or SERIES[0][0] not in row:
                sys.exit("%s: not the CSV of `deepgemm bench` on a GPU" % path)
            ratios = {column: number(row[column]) for column, _, _ in SERIES}
            panels.setdefault((int(row["n"]), int(row["k"])), {})[int(row["m"])] = ratios
            if row["device"] not in devices:
                devices.append(row["device"])
    if not panels:
        sys.exit("%s: no rows" % path)
    return panels, devices


def values_of(panels, column):
    values = [ratios[column] for panel in panels.values() for ratios in panel.values()]
    return [value for value in values if value > 0]


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def text(x, y, content, anchor="start", name=""):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>' % (x, y, anchor, name, escape(content))


def line(x0, y0, x1, y1, name):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>' % (x0, y0, x1, y1, name)


def draw_axes(key, sizes, x_of, y_of, ticks, left, right):
    yield text(left, y_of(ticks[-1]) - 6, "n = %d, k = %d" % key, name="panel")
    for tick in ticks:
        yield line(left, y_of(tick), right, y_of(tick), "one" if abs(tick - 1) < 1e-9 else "grid")
        yield text(left - 5, y_of(tick) + 4, "%g" % tick, "end")
    step = max(1, math.ceil(len(sizes) / 6))
    for size in sizes[::step]:
        yield text(x_of(size), y_of(ticks[0]) + 14, "%d" % size, "middle")
    yield line(left, y_of(ticks[0]), right, y_of(ticks[0]), "axis")


def draw_series(panel, column, colour, x_of, y_of):
    points = [(x_of(size), y_of(panel[size][column])) for size in sorted(panel) if panel[size][column] > 0]
    if not points:
        return
    yield '<polyline fill="none" stroke="%s" stroke-width="1.8" points="%s"/>' % (
        colour, " ".join("%.1f,%.1f" % point for point in points))
    for point in points:
        yield '<circle cx="%.1f" cy="%.1f" r="2.2" fill="%s"/>' % (point + (colour,))


def draw_panel(key, panel, ticks, x, y):
    left, right, top, bottom = x + LEFT, x + WIDTH - RIGHT, y + 24, y + HEIGHT - BOTTOM
    sizes = sorted(panel)
    low, high = ticks[0], ticks[-1]

    def x_of(size):
        return left + 10 + (right - left - 20) * (sizes.index(size) / max(1, len(sizes) - 1))

    def y_of(ratio):
        return bottom - (bottom - top) * (min(max(ratio, low), high) - low) / (high - low)

    yield from draw_axes(key, sizes, x_of, y_of, ticks, left, right)
    for column, _, colour in SERIES:
        yield from draw_series(panel, column, colour, x_of, y_of)


def draw(panels, devices):
    keys = list(panels)
    shown = [(name, colour, values) for column, name, colour in SERIES
             for values in [values_of(panels, column)] if values]
    if not shown:
        sys.exit("no ratios: time with --vs cublaslt")
    every = [value for _, _, values in shown for value in values] + [1.0]
    high = min(max(every), 3)
    step = 0.25 if high - min(every) <= 2 else 0.5  # 1.0 is a multiple of either
    low, high = math.floor(min(every) / step) * step, math.ceil(high / step) * step
    ticks = [low + step * i for i in range(round(max(high - low, step) / step) + 1)]
    width = COLUMNS * WIDTH
    height = TOP + math.ceil(len(keys) / COLUMNS) * HEIGHT + 14
    yield ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">'
           % (width, height, width, height))
    yield "<style>%s</style>" % STYLE
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield text(LEFT, 24, "Time of others over ours, %s: above 1 we are faster" % ", ".join(devices), name="title")
    for index, (name, colour, values) in enumerate(shown):
        x = LEFT + index * 320
        yield '<rect x="%d" y="38" width="18" height="4" fill="%s"/>' % (x, colour)
        yield text(x + 24, 44, "%s (mean %.2f)" % (name, geometric_mean(values)))
    yield text(LEFT, 64, "x axis: m; means are geometric, over all rows that have the figure")
    for index, key in enumerate(keys):
        yield from draw_panel(key, panels[key], ticks, index % COLUMNS * WIDTH, TOP + index // COLUMNS * HEIGHT)
    yield "</svg>"


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py rows.csv picture.svg")
    picture = "\n".join(draw(*read(sys.argv[1]))) + "\n"
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(picture)


if __name__ == "__main__":
    main()
