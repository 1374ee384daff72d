#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Header, map, library, man pages and the list of system calls name the same functions;
# the soname and the version node are what they are for ever.
set -eu
# shellcheck source=libgmem/tests/api/lists
. "$SRC/libgmem/tests/api/lists"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$SRC/libgmem"

list_functions >"$tmp/header"
sed -n '/global:/,/local:/s/^[[:space:]]*\(gmem_[a-z_]*\);.*/\1/p' libgmem.map | sort >"$tmp/map"
nm -D --defined-only "$LIB" | sed -n 's/.* [A-Z] \([^@]*\)@@GMEM_1\.0$/\1/p' | sort >"$tmp/library"
cat man/*.3 | sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \(gmem_[a-z_]*\).*/\1/p' | sort >"$tmp/man"
{ sed -n "s/^  '\(gmem_[a-z_]*\)': .*/\1/p" man/meson.build
	grep '\.3\|: \[' man/meson.build | grep "^  '" | sed 's/^[^:]*://' | grep -o 'gmem_[a-z_]*'; } | sort >"$tmp/installed"

[ "$(wc -l <"$tmp/header")" -ge 30 ] || { echo "the header has too few functions to be true"; exit 1; }
# dpkg-gensymbols would say so too, but only whoever builds the packages.
sed -n 's/^ \(gmem_[a-z_]*\)@GMEM_1\.0 .*/\1/p' ../debian/libgmem1.symbols | sort >"$tmp/debian"
bad=0
for other in map library man installed debian; do
	diff -u --label header --label "$other" "$tmp/header" "$tmp/$other" || bad=1
done

# Debian builds for what has KVM; 32-bit ARM, which linux-any includes, has no <asm/kvm.h>.
if grep -nE '^Architecture:.*(any|armhf|armel)' ../debian/control; then
	echo "debian/control has architectures without KVM"
	bad=1
fi

# Nothing else is exported, not even by another name.
nm -D --defined-only "$LIB" | grep -v '@@GMEM_1\.0$' | grep -v ' A GMEM_1\.0$' && {
	echo "that is exported without the version node"
	bad=1
}
readelf -d "$LIB" | grep -q 'SONAME.*\[libgmem\.so\.1\]' || { echo "the soname is not libgmem.so.1"; bad=1; }

# A function of the list exists.
grep -v '^#' syscalls.list | sed -n 's/^\([a-z_]*\):.*/\1/p' | sort >"$tmp/listed"
comm -13 "$tmp/header" "$tmp/listed" | grep . && { echo "syscalls.list has functions that the header has not"; bad=1; }
exit $bad
