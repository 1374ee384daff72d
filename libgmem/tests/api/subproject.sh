#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# In the build of another project this one is the library alone: no tools, tests or pages,
# and the kind of library which that project asks for.
set -eu

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/subprojects/gmem"
for part in meson.build meson_options.txt libgmem tools examples packaging; do
	ln -s "$SRC/$part" "$tmp/subprojects/gmem"
done
cp "$SRC/libgmem/tests/api/user.c" "$tmp/vmm.c"
cat >"$tmp/meson.build" <<'END'
project('vmm', 'c')
executable('vmm', 'vmm.c', dependencies: dependency('libgmem', fallback: 'gmem'), install: true)
END

# Not the library that this machine may have installed.
(
	meson setup "$tmp/build" "$tmp" --prefix=/usr --libdir=lib -Ddefault_library=static \
		--force-fallback-for=libgmem
	ninja -C "$tmp/build"
	DESTDIR=$tmp/root meson install -C "$tmp/build"
) >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
"$tmp/build/vmm"
(cd "$tmp/root/usr" && find . ! -type d) | sort >"$tmp/installed"
printf './%s\n' bin/vmm include/gmem.h lib/libgmem.a lib/pkgconfig/libgmem.pc |
	diff -u --label expected --label installed - "$tmp/installed"
