#!/bin/sh
# SPDX-License-Identifier: MIT
# check_format.sh - does clang-format agree with every C file?  `--fix` rewrites them.  Version 14
# decides: others break lines differently, so without it the check is skipped and says so.
cd "$(dirname "$0")/.." || exit 1
for tool in ${CLANG_FORMAT:-clang-format-14 clang-format}; do
    "$tool" --version 2>/dev/null | grep -q 'version 14\.' || continue
    bad=$(find bench cli examples include python src tests -name '*.[ch]' | sort | while read -r file; do
        "$tool" "$file" | cmp -s - "$file" && continue
        [ "$1" != --fix ] || "$tool" -i "$file"
        echo "    $file"
    done)
    [ -n "$bad" ] || { echo "format: ok"; exit 0; }
    [ "$1" != --fix ] || { echo "format: rewritten:"; echo "$bad"; exit 0; }
    echo "format: to be rewritten by \`sh tools/check_format.sh --fix\`:"
    echo "$bad"
    exit 1
done
echo "format: skipped, clang-format 14 is not installed (Debian: apt-get install clang-format-14)"
