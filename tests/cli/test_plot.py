#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# test_plot.py - the picture that bench/plot.py draws from the CSV of a benchmark.
import os
import sys
import tempfile
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap

SCRATCH = tempfile.mkdtemp(prefix="plot-", dir=tap.BUILD)
PLOT = os.path.join(tap.ROOT, "bench", "plot.py")
HEADER = "problem,device,m,n,k,us,cublaslt_ratio,cublaslt_block_ratio,deepgemm_ratio\n"


def plot(text, status=0):
    source, picture = os.path.join(SCRATCH, "rows.csv"), os.path.join(SCRATCH, "picture.svg")
    with open(source, "w") as file:
        file.write(text)
    done = tap.run(sys.executable, PLOT, source, picture, status=status)
    return done.stderr if status else xml.etree.ElementTree.parse(picture).getroot()


def elements(root, name):
    return [element for element in root.iter() if element.tag.endswith("}" + name)]


def test_a_panel_for_each_shape_and_a_line_for_each_peer():
    root = plot(HEADER + "p,A <GPU>,1,128,256,5,1.1,,0.9\np,A <GPU>,64,128,256,5,1.2,,1.1\np,A <GPU>,1,512,256,5,2,1.5,\n")
    panels = [e.text for e in elements(root, "text") if e.get("class") == "panel"]
    assert panels == ["n = 128, k = 256", "n = 512, k = 256"], panels
    assert len(elements(root, "polyline")) == 4  # two of the first shape, two of the second
    words = [e.text for e in elements(root, "text")]
    assert any("A <GPU>" in word for word in words), words
    assert "cuBLASLt without scales (mean 1.38)" in words, words
    assert "DeepGEMM, through cuBLASLt (mean 0.99)" in words, words


def test_higher_ratios_are_drawn_higher():
    root = plot(HEADER + "p,G,1,128,256,5,0.9,,\np,G,64,128,256,5,1.4,,\n")
    points = elements(root, "polyline")[0].get("points").split()
    assert len(points) == 2 and float(points[0].split(",")[1]) > float(points[1].split(",")[1]), points


def test_files_that_are_none_are_refused():
    assert "not the CSV" in plot("a,b\n1,2\n", status=1)
    assert "no rows" in plot(HEADER, status=1)
    assert "no ratios" in plot(HEADER + "p,G,1,128,256,5,,,\n", status=1)
    assert "usage" in tap.run(sys.executable, PLOT, status=1).stderr


if __name__ == "__main__":
    tap.main()
