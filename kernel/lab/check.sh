# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What a maintainer would try first: checkpatch, sparse, and that every step of the
# series builds by itself.

packages_check=(sparse)

# What checkpatch says and stays: kernel/README.md has the reasons.
style_stays=FILE_PATH_CHANGES,LINE_SPACING,BIT_MACRO,CONST_STRUCT,VOLATILE,ENOSYS
style_stays+=,MACRO_WITH_FLOW_CONTROL,MACRO_ARG_REUSE,MULTISTATEMENT_MACRO_USE_DO_WHILE

# The series, in build/check/series.
write_series()
{
	rm -rf "$build/check/series"
	(cmd_series "$build/check/series")
}

check_style()
{
	local log=$build/log/checkpatch.log status=0

	write_series
	(cd "$build/linux-stock" && perl scripts/checkpatch.pl --strict --show-types --no-summary --terse \
		--ignore "$style_stays" "$build"/check/series/*.patch) >"$log" 2>&1 || status=1
	sed "s,^$build/check/series/,," "$log"
	((status == 0)) || say "checkpatch --strict reports problems: $log"
	return "$status"
}

# sparse_messages FLAVOUR FILE.c...: what sparse says about a kernel's sources, without the
# numbers of lines.
sparse_messages()
{
	local flavour=$1 log=$build/log/sparse-$1.log source file objects=()
	shift

	source=$(flavour_source "$flavour")
	for file; do
		[[ ! -f $source/$file ]] || objects+=("${file%.c}.o")
	done
	lock "kernel-$flavour"
	need_source "$flavour"
	configure "$flavour" || die "the $flavour kernel cannot be configured: see $build/log/config-$flavour.log."
	with_progress "sparse, $flavour" "$log" kmake "$flavour" -j"$jobs" C=2 "${objects[@]}" || return 1
	unlock builds
	unlock "kernel-$flavour"
	sed -nE "s,^($source|\.\./[a-z-]+)/,,;s/^([^ :]+):[0-9]+:[0-9]+: (.*(warning|error):)/\1: \2/p" "$log" |
		LC_ALL=C sort >"$build/check/sparse-$flavour"
}

# sparse on what the series adds or changes: nothing that it does not say about the base.
check_sparse()
{
	local sources=()

	need_packages "${packages_check[@]}"
	need_kernel lab || return 1
	read_series
	mapfile -t sources < <({
		list_files
		sed -n 's,^+++ b/,,p' "$patches"/*.patch
	} | grep '\.c$' | LC_ALL=C sort -u | while IFS= read -r file; do
		# Some are of other architectures, or not configured.
		[[ ! -f $build/kernel-lab/${file%.c}.o ]] || echo "$file"
	done)
	sparse_messages lab "${sources[@]}" && sparse_messages stock "${sources[@]}" || return 1
	LC_ALL=C comm -23 "$build/check/sparse-lab" "$build/check/sparse-stock" >"$build/check/sparse"
	cat "$build/check/sparse"
	[[ ! -s $build/check/sparse ]] || {
		say "sparse reports the messages above, and not about the base: $build/log/sparse-lab.log"
		return 1
	}
}

# Each commit of the series, in a tree and a build directory of their own.
check_steps()
{
	local commit commits last title

	lock kernel-step
	need_source lab
	last=$(series_commits) || exit 1
	need_space 6000 "building each step"
	mkdir -p "$build/check"
	if [[ ! -d $build/check/linux ]]; then
		cp -al "$build/linux-stock" "$build/check/linux.tmp"
		mv "$build/check/linux.tmp" "$build/check/linux"
		cp "$linux_git/base.index" "$build/check/index"
	fi
	mapfile -t commits < <(lgit rev-list --reverse "refs/lab/base..$last")
	for commit in "${commits[@]}"; do
		title=$(lgit log -1 --format=%s "$commit")
		if [[ -e $build/check/built/$commit ]]; then
			say "built before: $title"
			continue
		fi
		rm -f "$build/check/index.lock"
		GIT_INDEX_FILE=$build/check/index lgit --work-tree="$build/check/linux" \
			read-tree --reset -u "$commit"
		configure step || die "cannot configure: $title"
		with_progress "$title" "$build/log/step.log" kmake step -j"$jobs" KCFLAGS=-Werror \
			vmlinux modules || return 1
		mkdir -p "$build/check/built"
		: >"$build/check/built/$commit"
	done
}

cmd_check()
{
	local what bad=''

	(($#)) || set -- style sparse
	for what; do
		[[ $what =~ ^(style|sparse|steps)$ ]] || usage_error "check: '$what' is not one of style, sparse, steps."
	done
	mkdir -p "$build/check" "$build/log"
	for what; do
		if "check_$what"; then
			say "$what: fine"
		else
			bad=1
		fi
	done
	[[ -z $bad ]] || exit 1
}
