#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The header alone: as C99, pedantic, as C11, as C++17; each ..._INIT fits its struct.
set -eu

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
header=$SRC/libgmem/include/gmem.h
warn="-Wall -Wextra -Wmissing-field-initializers -pedantic -Werror -fsyntax-only -I$SRC/libgmem/include"

{
	echo '#include <gmem.h>'
	echo '#include <gmem.h>'
	# The version at compile time.
	echo '#if !GMEM_VERSION_AT_LEAST(1, 0) || !GMEM_VERSION_AT_LEAST(0, 9) || GMEM_VERSION_AT_LEAST(1, 99)'
	echo '#error GMEM_VERSION_AT_LEAST'
	echo '#endif'
	sed -n 's/^#define \(GMEM_[A-Z_]*\)_INIT.*/\1/p' "$header" | while read -r name; do
		struct=$(echo "$name" | tr '[:upper:]' '[:lower:]')
		grep -q "^struct $struct {" "$header" || {
			echo "$name""_INIT is of no struct" >&2
			exit 1
		}
		echo "extern struct $struct test_$struct;"
		echo "struct $struct test_$struct = ${name}_INIT;"
	done
} >"$tmp/test.c"
[ "$(grep -c _INIT "$tmp/test.c")" -ge 10 ] || { echo "too few structs found"; exit 1; }
cp "$tmp/test.c" "$tmp/test.cc"
# Who ignores what a function says has to be warned.
echo '#include <gmem.h>
void f(struct gmem_vm *vm);
void f(struct gmem_vm *vm) { gmem_convert(vm, 0, 4096, GMEM_STATE_PRIVATE, NULL, NULL, NULL); }' >"$tmp/ignores.c"
for std in c99 c11; do
	# shellcheck disable=SC2086
	$CC -std=$std $warn "$tmp/test.c"
done
if $CC -Werror -I"$SRC/libgmem/include" -c -o "$tmp/ignores.o" "$tmp/ignores.c" 2>/dev/null; then
	echo "gmem_convert()'s result may be ignored"
	exit 1
fi
if command -v c++ >/dev/null; then
	# shellcheck disable=SC2086
	c++ -std=c++17 $warn "$tmp/test.cc"
else
	echo "no C++ compiler: the header was tried as C only"
	exit 77
fi
