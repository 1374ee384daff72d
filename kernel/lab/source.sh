# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# From the package's tarball to a git repository (build/linux.git), and from that,
# kernel/files and kernel/patches to a source tree to build (build/linux).
#
# refs/lab/base is the tarball, with one change (see import_tarball).

files=$top/kernel/files
patches=$top/kernel/patches
linux_git=$build/linux.git

# To be raised when what import_tarball makes changes.
import_format=2

# Independent of the user's configuration, so that what it writes is always the same.
lgit()
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
		GIT_AUTHOR_NAME=gmem GIT_AUTHOR_EMAIL=gmem@localhost \
		GIT_COMMITTER_NAME=gmem GIT_COMMITTER_EMAIL=gmem@localhost \
		git --git-dir="$linux_git" -c core.autocrlf=false -c gc.auto=0 -c core.quotePath=false \
			-c core.trustctime=false -c core.checkStat=minimal "$@"
}

read_base()
{
	PACKAGE='' TARBALL='' SERIES='' VERSION=''
	# shellcheck source=kernel/base
	. "$top/kernel/base"
	if [[ -z $PACKAGE || -z $TARBALL || -z $SERIES || -z $VERSION ]]; then
		die "kernel/base must set PACKAGE, TARBALL, SERIES and VERSION."
	fi
}

# The version of the tree whose top Makefile is on stdin.
base_version()
{
	awk -F ' *= *' '$1 ~ /^(VERSION|PATCHLEVEL|SUBLEVEL)$/ { v = v "." $2 }
		/^EXTRAVERSION/ { exit } END { print substr(v, 2) }'
}

import_tarball()
{
	local tmp=$build/import.tmp

	rm -rf "$tmp" "$linux_git"
	mkdir -p "$tmp/linux"
	tar -xJf "$TARBALL" -C "$tmp/linux" --strip-components=1 || return 1
	# Debian's .gitignore hides whatever is new, and new files are the point here.
	sed -i -e '\,^/\*$,d' -e '\,^!/debian/$,d' "$tmp/linux/.gitignore"
	git init -q --bare "$tmp/git" || return 1
	# Everything as 'big' goes straight into one pack, in half the time.
	linux_git=$tmp/git lgit --work-tree="$tmp/linux" -c core.bigFileThreshold=1 \
		-c core.compression=1 add -A -f . || return 1
	local tree commit
	tree=$(linux_git=$tmp/git lgit write-tree) || return 1
	commit=$(GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' \
		linux_git=$tmp/git lgit commit-tree -m "$1" "$tree") || return 1
	linux_git=$tmp/git lgit update-ref refs/lab/base "$commit" || return 1
	mv "$tmp/git/index" "$tmp/git/base.index"
	mv "$tmp/linux" "$build/linux-stock"
	linux_git=$tmp/git lgit ls-tree -r --name-only refs/lab/base | LC_ALL=C sort >"$tmp/git/base.list"
	echo "$1" >"$tmp/git/base"
	: >"$tmp/git/base.$import_format"
	mv "$tmp/git" "$linux_git"
	rmdir "$tmp"
}

# build/linux.git with refs/lab/base, made anew when the package was upgraded.
need_base()
{
	local version upstream name

	read_base
	[[ $(uname -m) == x86_64 ]] ||
		die "the lab builds and boots x86_64 on x86_64, and this machine is $(uname -m)."
	need_packages "${packages_kernel[@]}" "$PACKAGE"
	version=$(dpkg-query -W -f '${Version}' "$PACKAGE")
	name="$PACKAGE $version"
	[[ -f $linux_git/base.$import_format && $(<"$linux_git/base") == "$name" && -d $build/linux-stock ]] && return

	[[ -r $TARBALL ]] || die "$PACKAGE is installed but $TARBALL is missing: apt-get install --reinstall $PACKAGE."
	if dpkg --compare-versions "$version" lt "$VERSION"; then
		die "$name is older than $VERSION, which kernel/base asks for: apt-get update && apt-get install $PACKAGE."
	fi
	if [[ -e $build/tree/.git ]]; then
		die "build/tree was made from another base than $name: export what you want to keep (./lab export), then rm -rf build/tree."
	fi
	need_space 6000 "the kernel's source"
	rm -rf "$build/linux-stock" "$build/linux"
	with_progress "unpacking $name" "$build/log/import.log" import_tarball "$name" ||
		die "cannot unpack $TARBALL: is it whole? apt-get install --reinstall $PACKAGE."
	upstream=$(base_version <"$build/linux-stock/Makefile")
	if [[ $upstream != "$SERIES".* ]]; then
		rm -rf "$linux_git"
		die "$name is Linux $upstream, and kernel/base asks for $SERIES.y."
	fi
}

# --- the series file: 'NNNN-name.patch # path path...'

# Sets series_patches, and series_claims[i]: the words after the #.
read_series()
{
	local line

	series_patches=() series_claims=()
	[[ -f $patches/series ]] || return 0
	while IFS= read -r line || [[ -n $line ]]; do
		[[ $line =~ ^[[:space:]]*(#|$) ]] && continue
		if [[ ! $line =~ ^([^[:space:]#]+)([[:space:]]+#[[:space:]]*(.*))?$ ]]; then
			die "kernel/patches/series: cannot read '$line'; a line is 'NNNN-name.patch # path path...'."
		fi
		series_patches+=("${BASH_REMATCH[1]}")
		series_claims+=("${BASH_REMATCH[3]}")
		[[ -f $patches/${BASH_REMATCH[1]} ]] ||
			die "kernel/patches/series names ${BASH_REMATCH[1]}, which is not there."
	done <"$patches/series"
}

list_files()
{
	[[ -d $files ]] || return 0
	(cd "$files" && find . -type f -o -type l) | sed 's,^\./,,' | LC_ALL=C sort
}

# Is $1 claimed by the words in $2?
claimed_by()
{
	local claim

	for claim in $2; do
		[[ $1 == "$claim" || ($claim == */ && $1 == "$claim"*) ]] && return 0
	done
	return 1
}

# Every new file belongs to one step of the series. Sets file_step[path].
declare -A file_step
check_claims()
{
	local path i claim hits

	file_step=()
	while IFS= read -r path; do
		hits=()
		for i in "${!series_patches[@]}"; do
			claimed_by "$path" "${series_claims[i]}" && hits+=("$i")
		done
		case ${#hits[@]} in
		0) die "kernel/files/$path is claimed by no patch: put it behind the # of its line in kernel/patches/series." ;;
		1) file_step[$path]=${hits[0]} ;;
		*) die "kernel/files/$path is claimed by ${series_patches[hits[0]]} and ${series_patches[hits[1]]} in kernel/patches/series: remove it from one of them." ;;
		esac
	done < <(list_files)
	for i in "${!series_patches[@]}"; do
		for claim in ${series_claims[i]}; do
			[[ -e $files/$claim ]] ||
				die "kernel/patches/series: ${series_patches[i]} claims $claim, which kernel/files does not have."
		done
	done
}

# --- putting a tree together, in an index of its own

new_index()
{
	export GIT_INDEX_FILE=$build/tmp.index
	rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock"
	lgit read-tree "${1:-refs/lab/base}"
}

drop_index()
{
	rm -f "$GIT_INDEX_FILE"
	unset GIT_INDEX_FILE
}

# Paths on stdin, from kernel/files into the index.
index_files()
{
	[[ -d $files ]] || return 0
	(cd "$files" && lgit --work-tree=. update-index --add --stdin)
}

index_patch()
{
	local output

	[[ -z $(sed -n '/^diff --git /{p;q}' "$patches/$1") ]] && return # a message alone
	output=$(lgit apply --cached --whitespace=nowarn "$patches/$1" 2>&1) || {
		say "$output"
		die "kernel/patches/$1 does not apply to $(<"$linux_git/base"); it applies to $VERSION. Install that version, or rebase build/tree there and use ./lab export."
	}
}

# The tree of base + files + patches; its name on stdout.
patched_tree()
{
	local path patch

	new_index
	list_files >"$build/files.list"
	path=$(LC_ALL=C comm -12 "$build/files.list" "$linux_git/base.list" | head -n 1)
	[[ -z $path ]] ||
		die "kernel/files/$path exists in $(<"$linux_git/base"): what changes an existing file is a patch."
	index_files <"$build/files.list"
	for patch in "${series_patches[@]}"; do
		index_patch "$patch"
	done
	lgit write-tree
	drop_index
}

# Bring build/linux to the tree $1, touching only what differs.
checkout_linux()
{
	export GIT_INDEX_FILE=$linux_git/linux.index
	rm -f "$GIT_INDEX_FILE.lock"
	if [[ ! -d $build/linux ]]; then
		# Hard links: git replaces files, it does not write into them.
		rm -rf "$build/linux.tmp" "$GIT_INDEX_FILE"
		cp -al "$build/linux-stock" "$build/linux.tmp"
		cp "$linux_git/base.index" "$GIT_INDEX_FILE"
		mv "$build/linux.tmp" "$build/linux"
	fi
	mkdir -p "$build/linux"
	lgit --work-tree="$build/linux" update-index -q --refresh >/dev/null || :
	lgit --work-tree="$build/linux" read-tree --reset -u "$1"
	unset GIT_INDEX_FILE
}
