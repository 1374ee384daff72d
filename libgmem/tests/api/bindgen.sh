#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What bindgen makes of the header, which users from Rust take: every constant, structure and
# function.
set -eu
# shellcheck source=libgmem/tests/api/lists
. "$SRC/libgmem/tests/api/lists"

command -v bindgen >/dev/null || { echo "no bindgen"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bindgen --no-layout-tests --no-prepend-enum-name "$header" >"$tmp/rust"

# compare KIND NUMBER: at least so many, the same in the header and in Rust
compare()
{
	[ "$(wc -l <"$tmp/header")" -ge "$2" ] || { echo "too few $1 to be true"; exit 1; }
	diff -u --label "$1 of gmem.h" --label "bindgen's" "$tmp/header" "$tmp/found"
}

# The ..._INIT are for C, and what is included comes with names of its own.
list_constants | grep -v '_INIT$' | sort >"$tmp/header"
sed -n 's/^pub const \(GMEM_[A-Z_]*\): .*/\1/p' "$tmp/rust" | sort >"$tmp/found"
compare constants 50

sed -n 's/^struct \(gmem[a-z_]*\) {$/\1/p' "$header" | sort >"$tmp/header"
sed -n 's/^pub struct \(gmem[a-z_]*\) {$/\1/p' "$tmp/rust" | sort >"$tmp/found"
# Those without members are pointers to something.
sed -n 's/^struct \(gmem[a-z_]*\);$/\1/p' "$header" | sort -u >"$tmp/opaque"
comm -23 "$tmp/found" "$tmp/opaque" >"$tmp/known" && mv "$tmp/known" "$tmp/found"
compare structures 10

list_functions >"$tmp/header"
sed -n 's/^    pub fn \(gmem_[a-z_]*\)(.*/\1/p' "$tmp/rust" | sort -u >"$tmp/found"
compare functions 30
