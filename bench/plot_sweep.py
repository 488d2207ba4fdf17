#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# plot_sweep.py - draws the CSV of `deepgemm bench --sweep`: plot_sweep.py rows.csv docs/sweep.svg
#
# One panel for each (n, k): the time over m, the floor that memory and tensor cores set, and DeepGEMM's times
# where the rows have them.  Writes plain SVG with the standard library alone.
import csv
import sys

from plot import STYLE, line, number, text

OURS, FLOOR, DEEPGEMM = "#1f6fb4", "#7a7a7a", "#c77700"
COLUMNS, WIDTH, HEIGHT = 2, 500, 300          # panels in a row, size of one
LEFT, TOP, BOTTOM, RIGHT = 44, 76, 32, 12     # around a panel's axes; TOP of the whole picture
NEEDED = ("m", "n", "k", "us", "floor_us", "step_ratio", "deepgemm_us", "device")


def read(path):
    """{(n, k): [(m, us, floor, DeepGEMM's us or NaN)]} and the devices of a file."""
    panels, devices = {}, []
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if any(name not in row for name in NEEDED):
                sys.exit("%s: not the CSV of `deepgemm bench --sweep`" % path)
            point = (int(row["m"]), float(row["us"]), float(row["floor_us"]), number(row["deepgemm_us"]))
            panels.setdefault((int(row["n"]), int(row["k"])), []).append(point)
            if row["device"] not in devices:
                devices.append(row["device"])
    if not panels:
        sys.exit("%s: no rows" % path)
    return {key: sorted(points) for key, points in panels.items()}, devices


def steps(high, count):
    """Round numbers from 0 to at least `high`, about `count` of them."""
    size = 1.0
    while high / size > count:
        size *= 2.5 if str(size)[0] == "2" else 2
    while high / size < count / 2.5:
        size /= 2.5 if str(size)[0] == "5" else 2
    ticks = [0.0]
    while ticks[-1] < high:
        ticks.append(ticks[-1] + size)
    return ticks


def curve(points, colour, more=""):
    return '<polyline fill="none" stroke="%s" stroke-width="1.6" %s points="%s"/>' % (
        colour, more, " ".join("%.1f,%.1f" % point for point in points))


def draw_panel(key, points, x, y):
    left, right, top, bottom = x + LEFT, x + WIDTH - RIGHT, y + 24, y + HEIGHT - BOTTOM
    peers = [(m, us) for m, _, _, us in points if us > 0]
    ticks = steps(max([us for _, us, _, _ in points] + [us for _, us in peers]), 6)
    last = points[-1][0]

    def x_of(m):
        return left + (right - left) * m / last

    def y_of(us):
        return bottom - (bottom - top) * us / ticks[-1]

    yield text(left, top - 8, "n = %d, k = %d" % key, name="panel")
    for tick in ticks:
        yield line(left, y_of(tick), right, y_of(tick), "grid" if tick else "axis")
        yield text(left - 5, y_of(tick) + 4, "%g" % tick, "end")
    for m in steps(last, 8):
        if m <= last:
            yield text(x_of(m), bottom + 14, "%d" % m, "middle")
    yield curve([(x_of(m), y_of(floor)) for m, _, floor, _ in points], FLOOR, 'stroke-dasharray="4 3"')
    yield curve([(x_of(m), y_of(us)) for m, us, _, _ in points], OURS)
    for m, us in peers:
        yield '<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (x_of(m), y_of(us), DEEPGEMM)


def draw(panels, devices):
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, TOP + rows * HEIGHT + 8
    yield ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">'
           % (width, height, width, height))
    yield "<style>%s</style>" % STYLE
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield text(LEFT, 24, "Time in microseconds over m, %s" % ", ".join(devices), name="title")
    has_peers = any(us > 0 for points in panels.values() for _, _, _, us in points)
    names = [("time", OURS), ("floor: bytes at the rate of a copy, or operations at the tensor cores' rate", FLOOR)]
    for index, (name, colour) in enumerate(names + [("DeepGEMM, another card and day", DEEPGEMM)] * has_peers):
        at = LEFT + (0, 90, 560)[index]
        yield '<rect x="%d" y="42" width="18" height="4" fill="%s"/>' % (at, colour)
        yield text(at + 24, 48, name)
    for index, (key, points) in enumerate(panels.items()):
        yield from draw_panel(key, points, index % COLUMNS * WIDTH, TOP + index // COLUMNS * HEIGHT)
    yield "</svg>"


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot_sweep.py rows.csv picture.svg")
    picture = "\n".join(draw(*read(sys.argv[1]))) + "\n"
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(picture)


if __name__ == "__main__":
    main()
