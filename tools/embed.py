#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# embed.py - writes the kernel sources as one C table: embed.py OUT.c FILE...
# The library carries its kernels as text and compiles them at run time.
import os, sys

out, files = sys.argv[1], sorted(sys.argv[2:])
with open(out, "w") as f:
    f.write('#include "jit/sources.h"\n\n')
    f.write("const struct dg_kernel_source dg_kernel_sources[] = {\n")
    for path in files:
        f.write('    {"%s",\n' % os.path.basename(path))
        for line in open(path):
            text = line.rstrip("\n").replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
            f.write('     "%s\\n"\n' % text)
        f.write('     ""},\n')
    f.write("    {0, 0},\n};\n")
