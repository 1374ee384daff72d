# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

step_title="lab itself, what needs no machine"

# refuses STATUS WORDS ARGUMENT...: lab says something with WORDS, and ends so.
refuses()
{
	local status=$1 words=$2 got output
	shift 2

	output=$("$top/lab" "$@" 2>&1) && got=0 || got=$?
	echo "$output"
	((got == status)) && [[ $output == *"$words"* ]]
}

spdx_everywhere()
{
	local path bad=''

	while IFS= read -r path; do
		[[ -f $top/$path && -s $top/$path ]] || continue
		case $path in
		LICENSES/* | */corpus/* | *.patch | */series | *.md | *.json | *.png | *.abi | debian/changelog | debian/copyright | debian/source/format | .reuse/dep5 | .gitignore | */.gitignore) continue ;;
		esac
		head -n 5 "$top/$path" | grep -q SPDX-License-Identifier || {
			echo "$path"
			bad=1
		}
	done < <(git -C "$top" ls-files)
	[[ -z $bad ]]
}

# Names of packages to versions, and a beginning to the newest of them.
# shellcheck disable=SC2317 # what debian.sh calls
debian_versions()
{
	local listed

	debian_apt()
	{
		printf 'linux-%s\n' image-6.1.0-9-amd64 image-6.1.0-56-amd64 image-6.12-amd64 image-6.12.9+deb13-amd64 \
			image-6.12.118+deb13-amd64 image-6.12.118+deb13-amd64-unsigned image-6.12.120+deb13-rt-amd64 \
			image-6.12.120+deb13-cloud-amd64 image-7.0.13+deb13-amd64 binary-7.0.13+deb13-amd64 \
			{image,base,binary,modules}-7.2.12+deb13-amd64
	}
	debian_unpacked() { :; }
	listed=$(debian_listed | sort -V)
	echo "$listed"
	[[ $listed == "6.1.0-9 image"$'\n'"6.1.0-56 image"$'\n'"6.12.9+deb13 image"$'\n'"6.12.118+deb13 image"$'\n'"7.0.13+deb13 gone"$'\n'"7.2.12+deb13 split" ]]
	[[ $(debian_matching 6.1 <<<"$listed" | tail -n 1) == "6.1.0-56 image" ]]
	[[ $(debian_matching 6.12 <<<"$listed" | tail -n 1) == "6.12.118+deb13 image" ]]
	[[ -z $(debian_matching 6.12.11 <<<"$listed") ]]
	[[ $(debian_newest) == "6.1.0-56"$'\n'"6.12.118+deb13"$'\n'"7.2.12+deb13" ]]
}

kernel_tables()
{
	awk -f "$top/kernel/lab/tests.d/kernels.awk" "$top/kernel/lab/kernels.txt" "$top/README.md" \
		"$top/libgmem/man/gmem.7"
}

# Twice asked for, twice the same answer, and once done.
builds_once()
{
	local test_log=$test_log/once status

	rm -rf "$test_log"
	mkdir -p "$test_log"
	# shellcheck disable=SC2317 # what build_once calls
	build() { echo "$1" >>"$test_log/built"; [[ $1 == good ]]; }
	for _ in 1 2; do
		build_once well build good
		build_once badly build bad && status=0 || status=$?
		((status == 1))
	done
	cat "$test_log/built"
	[[ $(<"$test_log/built") == good$'\n'bad ]]
}

need_series()
{
	lock source
	need_base
	read_series
	check_claims
}

scripts_are_clean()
{
	cd "$top" || return
	shellcheck -x -a lab .ci/run
	shellcheck kernel/lab/tests.d/*.sh
}

# kernel/ to commits and back changes nothing.
series_round_trip()
{
	local head tmp=$build/test-export.tmp

	need_series
	head=$(tree_commits)
	export_to "$tmp" "$head"
	[[ ! -d $patches ]] || diff -r "$tmp/patches" "$patches"
	[[ ! -d $files ]] || diff -r "$tmp/files" "$files"
	rm -rf "$tmp"
}

# As a maintainer would: git am on a pristine tree.
series_applies()
{
	local dir=$build/test-series work=$build/test-am.tmp want got sparse

	rm -rf "$dir"
	"$top/lab" series "$dir"
	need_series
	want=$(patched_tree)
	rm -rf "$work"
	lgit worktree prune
	lgit worktree add -f --detach --no-checkout "$work" refs/lab/base
	# Only the files that it touches, since the others take their time.
	sparse=$(git -C "$work" rev-parse --git-path info/sparse-checkout)
	mkdir -p "${sparse%/*}"
	cat "$dir"/*.patch | sed -n 's,^diff --git a/\(.*\) b/.*,/\1,p' | sort -u \
		>"$sparse"
	export GIT_COMMITTER_NAME=gmem GIT_COMMITTER_EMAIL=gmem@localhost
	git -C "$work" -c core.sparseCheckout=true read-tree -mu HEAD
	git -C "$work" -c core.sparseCheckout=true am -q "$dir"/*.patch
	got=$(git -C "$work" rev-parse 'HEAD^{tree}')
	lgit worktree remove --force "$work"
	rm -rf "$dir"
	echo "the tree is $got and should be $want"
	[[ $got == "$want" ]]
}

step_run()
{
	check "unknown option" refuses 2 "unknown option" --no-such
	check "unknown command" refuses 2 "unknown command" no-such
	check "run without a command" refuses 2 "which command" run
	check "run with a bad number" refuses 2 "--smp takes" run --smp many true
	check "run with an unknown option" refuses 2 "unknown option" run --fast true
	check "run with a missing value" refuses 2 "needs a value" run --mem
	check "run with a bad version" refuses 2 "--kernel takes" run --kernel new true
	check "Debian's versions" debian_versions
	check "kernel with an unknown option" refuses 2 "is not one of" kernel --fast
	check "series without a directory" refuses 2 "which directory" series
	check "series into a full directory" refuses 1 "not an empty directory" series "$top/kernel"
	check "test with an unknown step" refuses 2 "no step" test no-such
	check "help" refuses 0 "usage:" help
	check "no arguments" refuses 0 "usage:"
	check "what several steps run is built once" builds_once
	check "SPDX lines" spdx_everywhere
	check "shellcheck" scripts_are_clean
	check "README.md and gmem(7) say of kernels what was seen" kernel_tables
	check "series round trip" series_round_trip
	[[ ! -s $patches/series ]] || check "series applies with git am" series_applies
}
