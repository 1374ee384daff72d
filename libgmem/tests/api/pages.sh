#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The man pages are well formed, have all constants and the members of all structs of the
# header, say the system calls of syscalls.list, and their examples compile.
set -eu
# shellcheck source=libgmem/tests/api/lists
. "$SRC/libgmem/tests/api/lists"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$SRC/libgmem/man"

# Of each function, its calls as the page has them, and as the list has them.
cat ./*.3 | awk '/^\.Sh /{in_calls = /SYSTEM CALLS/}
	in_calls && /^\.It Fn /{name = $3; getline; if ($0 != "none") print name ": " $0}' |
	sort >"$tmp/pages"
grep -v '^#' ../syscalls.list | sort >"$tmp/list"
diff -u --label syscalls.list --label pages "$tmp/list" "$tmp/pages"

for page in ./*.3; do
	for section in NAME SYNOPSIS DESCRIPTION 'RETURN VALUES' ERRORS THREADS 'SYSTEM CALLS' VERSIONS 'SEE ALSO'; do
		grep -qx "\.Sh $section" "$page" || { echo "$page has no $section"; exit 1; }
	done
done

# Constants, and the ..._INIT of each struct.
list_constants | while read -r name; do
		grep -qw "$name" ./*.3 ./*.7 || { echo "no page has $name"; exit 1; }
	done

# Struct and member, in the order of the members.
sed 's,/\*.*\*/,,; /\/\*/,/\*\//d' ../include/gmem.h | awk '
	/^struct gmem[a-z_]* {/ { struct = $2 }
	/^};/ { struct = "" }
	struct && /;/ {
		sub(/\)\(.*/, ""); sub(/\[.*/, ""); sub(/;.*/, ""); sub(/.*[ *]/, "")
		print struct, $0
	}' >"$tmp/members"
[ "$(grep -c ' size$' "$tmp/members")" -ge 10 ] || { echo "too few structs to be true"; exit 1; }
awk 'FNR == 1 { struct = "" }
	/^\.S[sh] / { struct = $2 == "struct" ? $3 : "" }
	struct && /^\.It .*Va / {
		sub(/.*Va /, ""); sub(/\)\(.*/, ""); sub(/\[.*/, ""); gsub(/[*(,]/, "")
		for (i = 1; i <= NF; i++) print struct, $i
	}' ./*.3 ./*.7 >"$tmp/shown"
for which in members shown; do
	LC_ALL=C sort -s -k 1,1 "$tmp/$which" >"$tmp/$which.sorted"
done
diff -u --label header --label pages "$tmp/members.sorted" "$tmp/shown.sorted"

# Each example compiles, and gmem(7)'s is a program but for its main().
for page in ./*.3 ./*.7; do
	grep -q '^\.Sh EXAMPLES' "$page" || continue
	sed -n '/^\.Bd -literal/,/^\.Ed/{/^\.[BE]d/d;p}' "$page" | sed 's/\\e/\\/g' >"$tmp/example.c"
	[ "$(wc -l <"$tmp/example.c")" -gt 10 ] || { echo "$page has no example"; exit 1; }
	$CC -Wall -Wextra -Werror -c -o "$tmp/${page##*/}.o" -I../include "$tmp/example.c"
done
[ "$(find "$tmp" -name '*.o' | wc -l)" -ge 5 ] || { echo "too few examples to be true"; exit 1; }
echo 'int run(const void *, unsigned long); int main(void) { return run(0, 0); }' >"$tmp/main.c"
$CC -o "$tmp/program" "$tmp/main.c" "$tmp/gmem.7.o" "$LIB" -lnuma

command -v mandoc >/dev/null || { echo "mandoc is missing: the pages were not linted"; exit 77; }
mandoc -Tlint -Wwarning ./*.3 ./*.7
