#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The library's ABI against the last release's. ("ninja abi-dump" writes a new one.)
set -eu

# It was written in a directory in the tree's own build/, and names no other place.
! grep -nE "path='(\.\./)*[^'./]" "$SRC/libgmem/abi/libgmem-1.abi" | grep -vE "path='(\.\./)*libgmem/" || exit 1

command -v abidiff >/dev/null || { echo "abidiff is missing (abigail-tools)"; exit 77; }
# Without what is added: that does not break anybody.
abidiff --no-added-syms --headers-dir2 "$SRC/libgmem/include" --drop-private-types \
	"$SRC/libgmem/abi/libgmem-1.abi" "$LIB"
