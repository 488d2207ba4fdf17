#!/bin/sh
# SPDX-License-Identifier: MIT
# check_tidy.sh COMPILER-FLAGS - clang-tidy with the checks of .clang-tidy over the library and the
# command.
cd "$(dirname "$0")/.." || exit 1
for tool in ${CLANG_TIDY:-clang-tidy-14 clang-tidy}; do
    if "$tool" --version >/dev/null 2>&1; then
        find src cli examples -name '*.c' | sort |
            xargs -P 2 -n 4 sh -c 'tool=$1; flags=$2; shift 2
                exec "$tool" --quiet --warnings-as-errors="*" "$@" -- $flags 2>/dev/null' \
                tidy "$tool" "$*" || { echo "tidy: the warnings above"; exit 1; }
        echo "tidy: ok"
        exit 0
    fi
done
echo "tidy: skipped, clang-tidy is not installed (Debian: apt-get install clang-tidy)"
