#!/bin/sh
# SPDX-License-Identifier: MIT
# nvcc.sh - the compiler of the emulated driver: a "cubin" is the source text.
case $1 in --version)
    echo "Cuda compilation tools, release 13.0, V13.0.0"
    exit 0
esac
while [ $# -gt 0 ]; do
    case $1 in
    -o) shift; to=$1 ;;
    *.cu) from=$1 ;;
    esac
    shift
done
cp "$from" "$to"
