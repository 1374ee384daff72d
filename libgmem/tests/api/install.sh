#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The library, installed somewhere, is found and linked by all that are usual, and the
# examples build against it.
set -eu

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
meson setup "$tmp/build" "$SRC" --prefix="$tmp/root" --libdir=lib -Dtests=disabled >"$tmp/log" 2>&1 &&
	meson install -C "$tmp/build" >>"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
export PKG_CONFIG_PATH="$tmp/root/lib/pkgconfig" LD_LIBRARY_PATH="$tmp/root/lib"
missing=

[ "$(pkg-config --modversion libgmem)" = "$(sed -n "s/^  version: '\(.*\)',$/\1/p" "$SRC/meson.build")" ]
for page in $(sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \(gmem_[a-z_]*\).*/\1/p' "$SRC"/libgmem/man/*.3); do
	[ -e "$tmp/root/share/man/man3/$page.3" ] || { echo "$page(3) is not installed"; exit 1; }
done

cp "$SRC/libgmem/tests/api/user.c" "$tmp"
# shellcheck disable=SC2046,SC2086
{
	$CC -Wall -Werror -o "$tmp/shared" "$tmp/user.c" $(pkg-config --cflags --libs libgmem)
	"$tmp/shared"
	readelf -d "$tmp/shared" | grep -q 'NEEDED.*libgmem\.so\.1' || { echo "not linked to libgmem.so.1"; exit 1; }

	$CC -static -o "$tmp/static" "$tmp/user.c" $(pkg-config --static --cflags --libs libgmem)
	LD_LIBRARY_PATH='' "$tmp/static"

	if command -v c++ >/dev/null; then
		cp "$tmp/user.c" "$tmp/user.cc"
		c++ -std=c++17 -Wall -Werror -o "$tmp/cxx" "$tmp/user.cc" $(pkg-config --cflags --libs libgmem)
		"$tmp/cxx"
	else
		missing="$missing c++"
	fi

	for example in "$SRC"/examples/*.c; do
		[ "$(wc -l <"$example")" -lt 150 ] || { echo "$example is too long"; exit 1; }
		case $example in
		*/guest.c) [ "$(uname -m)" = x86_64 ] || continue ;;
		esac
		$CC -Wall -Wextra -Werror -o "$tmp/example" "$example" $(pkg-config --cflags --libs libgmem numa)
	done
}

# Plain make, with its built-in rules.
mkdir "$tmp/make"
cp "$tmp/user.c" "$tmp/make"
printf 'CFLAGS += $(shell pkg-config --cflags libgmem)\nLDLIBS += $(shell pkg-config --libs libgmem)\nuser:\n' >"$tmp/make/Makefile"
make -s -C "$tmp/make"
"$tmp/make/user"

# Meson, by dependency() and as a subproject.
for how in dependency subproject; do
	mkdir -p "$tmp/$how/subprojects"
	cp "$tmp/user.c" "$tmp/$how"
	printf "project('user', 'c')\nexecutable('user', 'user.c', dependencies: dependency('libgmem'%s))\n" \
		"$([ $how = dependency ] || echo ", fallback: 'gmem', default_options: ['tests=disabled']")" >"$tmp/$how/meson.build"
	[ $how = dependency ] || ln -s "$SRC" "$tmp/$how/subprojects/gmem"
	(
		[ $how = dependency ] || unset PKG_CONFIG_PATH
		meson setup "$tmp/$how/build" "$tmp/$how" >"$tmp/log" 2>&1 && ninja -C "$tmp/$how/build" user >>"$tmp/log" 2>&1 ||
			{ cat "$tmp/log"; exit 1; }
	)
	"$tmp/$how/build/user"
done

if command -v cmake >/dev/null; then
	mkdir "$tmp/cmake"
	cp "$tmp/user.c" "$tmp/cmake"
	cat >"$tmp/cmake/CMakeLists.txt" <<-'END'
		cmake_minimum_required(VERSION 3.16)
		project(user C)
		find_package(PkgConfig REQUIRED)
		pkg_check_modules(GMEM REQUIRED IMPORTED_TARGET libgmem)
		add_executable(user user.c)
		target_link_libraries(user PkgConfig::GMEM)
	END
	cmake -S "$tmp/cmake" -B "$tmp/cmake/build" >"$tmp/log" 2>&1 && cmake --build "$tmp/cmake/build" >>"$tmp/log" 2>&1 ||
		{ cat "$tmp/log"; exit 1; }
	"$tmp/cmake/build/user"
else
	missing="$missing cmake"
fi
[ -z "$missing" ] || { echo "not tried, for lack of it:$missing"; exit 77; }
