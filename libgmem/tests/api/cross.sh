#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The library compiles for arm64, also where the compiler does not know __has_builtin (GCC before
# 10): there is no x86 in it but what exits of x86 need.
set -eu

command -v aarch64-linux-gnu-gcc >/dev/null || { echo "aarch64-linux-gnu-gcc is missing"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# libnuma's headers are the same everywhere.
mkdir "$tmp/numa"
for name in numa.h numaif.h numacompat1.h; do
	[ ! -e /usr/include/$name ] || cp /usr/include/$name "$tmp/numa"
done
: >"$tmp/new.h"
printf '%s\n' '#pragma GCC system_header' '#undef __has_builtin' >"$tmp/old.h"
cd "$SRC/libgmem"
for source in src/*.c; do
	for compiler in new old; do
		aarch64-linux-gnu-gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -c \
			-o "$tmp/object.o" -include "$tmp/$compiler.h" \
			-Iinclude -Isrc -Iuapi -Iuapi/arm64 -I"$tmp/numa" "$source"
	done
done
