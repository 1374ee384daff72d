# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Between kernel/files + kernel/patches and git: a tree to work in, its way back,
# and the series as a maintainer wants it.
#
# build/tree is a worktree of build/linux.git: the base, one commit 'kernel/files'
# with all new files, a commit for each patch. Which files a step brings in stands
# in kernel/patches/series behind a #, and in the tree in the commit's message, as
# trailers 'New-files: path'; they are not in the .patch.
#
#   refs/lab/exported    where build/tree was when kernel/ last agreed with it
#   exported.list        what kernel/ looked like then

tree=$build/tree

# A tree is worked in with the user's own git.
tgit()
{
	git -C "$tree" "$@"
}

# step_commit PARENT PATCH TRAILERS: the index as a commit with the author and the
# message of that patch.
step_commit()
{
	local parent=$1 mail=$patches/$2 trailers=$3 tmp=$build/mail.tmp claim args=()
	local author email date

	mkdir -p "$tmp"
	lgit mailinfo -b --no-scissors "$tmp/body" "$tmp/diff" <"$mail" >"$tmp/info" 2>/dev/null ||
		die "kernel/patches/$2 is not a patch with a message, as git format-patch writes them."
	author=$(sed -n 's/^Author: //p' "$tmp/info")
	email=$(sed -n 's/^Email: //p' "$tmp/info")
	date=$(sed -n 's/^Date: //p' "$tmp/info")
	[[ -n $author && -n $email && -n $date ]] || die "kernel/patches/$2 lacks From: or Date:."
	{
		sed -n 's/^Subject: //p' "$tmp/info"
		echo
		cat "$tmp/body"
	} | lgit stripspace >"$tmp/message"
	for claim in $trailers; do
		args+=(--trailer "New-files: $claim")
	done
	if ((${#args[@]})); then
		lgit interpret-trailers --no-divider --if-exists add "${args[@]}" --in-place "$tmp/message"
	fi
	GIT_AUTHOR_NAME=$author GIT_AUTHOR_EMAIL=$email GIT_AUTHOR_DATE=$date \
		GIT_COMMITTER_DATE=$date GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
		GIT_COMMITTER_NAME=gmem GIT_COMMITTER_EMAIL=gmem@localhost \
		git --git-dir="$linux_git" commit-tree -p "$parent" -F "$tmp/message" "$(lgit write-tree)"
	rm -rf "$tmp"
}

# The commits of build/tree as kernel/ has them; the last one on stdout.
tree_commits()
{
	local commit i

	new_index
	list_files | index_files
	commit=$(GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' lgit commit-tree \
		-p refs/lab/base -m "kernel/files" -m "All new files, in their final state." "$(lgit write-tree)")
	for i in "${!series_patches[@]}"; do
		index_patch "${series_patches[i]}"
		commit=$(step_commit "$commit" "${series_patches[i]}" "${series_claims[i]}") || exit 1
	done
	drop_index
	echo "$commit"
}

# The commits of the mailing-list series; the last one on stdout.
series_commits()
{
	local commit=refs/lab/base i path

	new_index
	for i in "${!series_patches[@]}"; do
		index_patch "${series_patches[i]}"
		for path in "${!file_step[@]}"; do
			# shellcheck disable=SC2004 # an associative array
			((file_step[$path] != i)) || echo "$path"
		done | index_files
		commit=$(step_commit "$commit" "${series_patches[i]}" '') || exit 1
	done
	drop_index
	echo "$commit"
}

list_kernel()
{
	(
		cd "$top/kernel"
		{ find files patches -type f 2>/dev/null || :; } | LC_ALL=C sort |
			while IFS= read -r path; do
				echo "$(git hash-object --no-filters "$path") $path"
			done
	)
}

# The names that differ between what list_kernel said then and says now.
changed_since_export()
{
	list_kernel | LC_ALL=C sort | LC_ALL=C comm -3 - <(LC_ALL=C sort "$linux_git/exported.list") |
		sed 's/^[[:space:]]*[0-9a-f]* //' | LC_ALL=C sort -u
}

record_export()
{
	list_kernel >"$linux_git/exported.list"
	lgit update-ref refs/lab/exported "$1"
}

# Nothing unfinished in build/tree, or a reason not to touch it.
tree_is_settled()
{
	local dir

	dir=$(tgit rev-parse --absolute-git-dir)
	if [[ -d $dir/rebase-merge || -d $dir/rebase-apply || -e $dir/MERGE_HEAD || -e $dir/CHERRY_PICK_HEAD ]]; then
		die "build/tree is in the middle of a rebase, an am or a merge: finish it or abort it first."
	fi
	if [[ -n $(tgit status --porcelain | head -n 1) ]]; then
		tgit status --short | head -n 10 >&2
		die "build/tree has changes that are not committed: commit them (git commit --fixup and git rebase -i --autosquash help), or drop them."
	fi
}

cmd_tree()
{
	local force='' commit head

	while (($#)); do
		case $1 in
		--force) force=1 ;;
		*) usage_error "tree: unknown argument '$1'; there is --force." ;;
		esac
		shift
	done
	lock source
	need_base
	read_series
	check_claims
	commit=$(tree_commits) || exit 1

	if [[ -e $tree/.git && ! -e $linux_git/tree.incomplete && -z $force ]]; then
		tree_is_settled
		head=$(tgit rev-parse HEAD)
		if [[ $head != "$(lgit rev-parse -q --verify refs/lab/exported)" && $head != "$commit" ]]; then
			die "build/tree has commits that kernel/ does not have: ./lab export, or ./lab tree --force to discard them."
		fi
	fi
	: >"$linux_git/tree.incomplete"
	if [[ ! -e $tree/.git ]]; then
		need_space 2500 "build/tree"
		rm -rf "$tree"
		lgit worktree prune
		with_progress "checking out build/tree" "$build/log/tree.log" \
			lgit worktree add -f --detach "$tree" "$commit" || exit 1
	fi
	lgit config gc.auto 0
	if [[ -n $force ]]; then
		tgit am --abort 2>/dev/null || tgit rebase --abort 2>/dev/null || :
	fi
	rm -f "$(tgit rev-parse --absolute-git-dir)/index.lock"
	tgit reset -q --hard "$commit"
	tgit checkout -q -B gmem
	record_export "$commit"
	rm -f "$linux_git/tree.incomplete"
	say "build/tree is at the series of kernel/: ${#series_patches[@]} patches, $(list_files | wc -l) new files"
}

# new_claims COMMITS...: sets claims[i], the words behind the # of each; from the
# trailers, and for a file without one from the commit that adds it.
new_claims()
{
	local i path commit hits bad='' subject

	claims=()
	for i in "${!commits[@]}"; do
		claims[i]=$(lgit log -1 --format=%B "${commits[i]}" | sed -n 's/^New-files:[[:space:]]*//p' | xargs)
	done
	while IFS= read -r path; do
		hits=()
		for i in "${!commits[@]}"; do
			claimed_by "$path" "${claims[i]}" && hits+=("$i")
		done
		if ((${#hits[@]} == 0)); then
			commit=$(lgit log --format=%H --diff-filter=A --no-renames "refs/lab/base..$head" -- ":(literal)$path" | tail -n 1)
			for i in "${!commits[@]}"; do
				[[ ${commits[i]} != "$commit" ]] || hits+=("$i")
			done
			if ((${#hits[@]} == 1)); then
				claims[hits[0]]+="${claims[hits[0]]:+ }$path"
			fi
		fi
		if ((${#hits[@]} == 0)); then
			say "$path: no commit adds it."
			bad=1
		elif ((${#hits[@]} > 1)); then
			say "$path: both '$(lgit log -1 --format=%s "${commits[hits[0]]}")' and '$(lgit log -1 --format=%s "${commits[hits[1]]}")' add it."
			bad=1
		fi
	done <"$tmp/new"
	for i in "${!commits[@]}"; do
		for path in ${claims[i]}; do
			if ! grep -qxF -- "$path" "$tmp/new" &&
				! { [[ $path == */ ]] && grep -q "^${path//./\\.}" "$tmp/new"; }; then
				subject=$(lgit log -1 --format=%s "${commits[i]}")
				say "$path: '$subject' has a trailer for it, but the file does not exist."
				bad=1
			fi
		done
	done
	[[ -z $bad ]] || die "each new file needs one commit with a trailer 'New-files: path' (git rebase -i, reword)."
}

# A commit that only changes files which others bring in has no patch: what it
# changed is in kernel/files.
drop_empty_steps()
{
	local i

	for i in "${!commits[@]}"; do
		if [[ -z ${claims[i]} && -z $(lgit diff-tree -r --no-renames --name-only "${commits[i]}^" "${commits[i]}" |
			LC_ALL=C sort | LC_ALL=C comm -12 - "$linux_git/base.list" | head -n 1) ]]; then
			say "'$(lgit log -1 --format=%s "${commits[i]}")' changes new files only: it is in kernel/files, and no patch."
			unset "commits[i]" "claims[i]"
		fi
	done
	commits=("${commits[@]}")
	claims=("${claims[@]}")
}

# The chain of commits with only what changes files of the base, without trailers;
# the last one on stdout.
filtered_commits()
{
	local commit before=refs/lab/base parent=refs/lab/base

	new_index
	for commit in "${commits[@]}"; do
		lgit diff-tree -r --no-renames "$before" "$commit" | awk -F '\t' '
			NR == FNR { in_base[$0] = 1; next }
			$2 in in_base { split($1, f, " "); print f[2], f[4] "\t" $2 }' \
			"$linux_git/base.list" - | lgit update-index --index-info
		before=$commit
		lgit log -1 --format=%B "$commit" | sed '/^New-files:/d' | lgit stripspace >"$tmp/message"
		parent=$(GIT_AUTHOR_NAME=$(lgit log -1 --format=%an "$commit") \
			GIT_AUTHOR_EMAIL=$(lgit log -1 --format=%ae "$commit") \
			GIT_AUTHOR_DATE=$(lgit log -1 --format=%ad --date=raw "$commit") \
			GIT_COMMITTER_DATE='1700000000 +0000' GIT_COMMITTER_NAME=gmem GIT_COMMITTER_EMAIL=gmem@localhost \
			git --git-dir="$linux_git" commit-tree -p "$parent" -F "$tmp/message" "$(lgit write-tree)")
	done
	drop_index
	lgit rev-parse "$parent"
}

# format_patches RANGE DIR OPTION...: always the same bytes for the same commits.
format_patches()
{
	local range=$1 dir=$2
	shift 2
	lgit -c diff.algorithm=myers -c diff.indentHeuristic=true -c format.useAutoBase=false \
		format-patch -q --always --zero-commit --no-signature --no-renames --no-full-index --abbrev=12 \
		--src-prefix=a/ --dst-prefix=b/ --unified=3 --stat=72 --no-notes -o "$dir" "$@" "$range"
}

# export_to DIR HEAD: what kernel/files and kernel/patches are to be, as DIR/files
# and DIR/patches.
export_to()
{
	local tmp=$1 head=$2 last i
	local -a commits claims names

	rm -rf "$tmp"
	mkdir -p "$tmp/files" "$tmp/patches"
	mapfile -t commits < <(lgit rev-list --reverse "refs/lab/base..$head")
	if ((${#commits[@]})) && [[ $(lgit log -1 --format=%s "${commits[0]}") == kernel/files ]]; then
		commits=("${commits[@]:1}")
	fi
	lgit diff-tree -r --no-renames --diff-filter=A --name-only refs/lab/base "$head" >"$tmp/new"
	new_claims

	drop_empty_steps
	last=$(filtered_commits)
	format_patches "refs/lab/base..$last" "$tmp/patches" --no-numbered
	mapfile -t names < <(find "$tmp/patches" -name '*.patch' -printf '%f\n' | LC_ALL=C sort)
	((${#names[@]} == ${#commits[@]})) || die "export: ${#commits[@]} commits gave ${#names[@]} patches."
	for i in "${!names[@]}"; do
		echo "${names[i]}${claims[i]:+ # ${claims[i]}}"
	done >"$tmp/patches/series"

	new_index "$head"
	(cd "$tmp/files" && lgit --work-tree=. checkout-index -q -f --stdin <"$tmp/new")
	drop_index
}

cmd_export()
{
	local force='' head tmp=$build/export.tmp changed name

	while (($#)); do
		case $1 in
		--force) force=1 ;;
		*) usage_error "export: unknown argument '$1'; there is --force." ;;
		esac
		shift
	done
	lock source
	need_base
	[[ -e $tree/.git && ! -e $linux_git/tree.incomplete ]] || die "there is no build/tree to export: ./lab tree makes it."
	tree_is_settled
	head=$(tgit rev-parse HEAD)
	lgit merge-base --is-ancestor refs/lab/base "$head" ||
		die "build/tree is not on top of $(<"$linux_git/base"): rebase it onto refs/lab/base."
	[[ -z $(lgit rev-list --merges "refs/lab/base..$head") ]] || die "build/tree has a merge: a series must be linear."
	changed=$(changed_since_export)
	if [[ -n $changed && -z $force ]]; then
		# shellcheck disable=SC2001
		sed 's,^,  kernel/,' <<<"$changed" >&2
		die "these files changed in kernel/ since build/tree was created, and export would revert that: apply the changes in build/tree and use ./lab export --force, or commit them and use ./lab tree."
	fi

	export_to "$tmp" "$head"
	mkdir -p "$files" "$patches"
	# By contents, so that what is the same keeps its time and is not built again.
	rsync -rlp --checksum --delete "$tmp/files/" "$files/"
	rsync -rlp --checksum --delete "$tmp/patches/" "$patches/"
	rm -rf "$tmp"

	read_series
	check_claims
	name=$(patched_tree) || exit 1
	[[ $name == "$(lgit rev-parse "$head^{tree}")" ]] ||
		die "export: kernel/ and build/tree differ after the export; this is a bug in lab."
	record_export "$head"
	say "kernel/ has ${#series_patches[@]} patches and $(list_files | wc -l) new files, as build/tree"
}

cmd_series()
{
	local dir last tmp

	(($# == 1)) || usage_error "series: which directory?"
	[[ $1 != -* ]] || usage_error "series: unknown option '$1'."
	dir=$(realpath -m -- "$1")
	[[ ! -e $dir || (-d $dir && -z $(ls -A "$dir")) ]] ||
		die "$1 exists and is not an empty directory: use another name."
	lock source
	need_base
	read_series
	check_claims
	((${#series_patches[@]})) || die "kernel/patches/series is empty: there is no series to write."
	last=$(series_commits) || exit 1
	[[ $(lgit rev-parse "$last^{tree}") == "$(patched_tree)" ]] ||
		die "series: the patches and kernel/ differ; this is a bug in lab."
	tmp=$build/series.tmp
	rm -rf "$tmp"
	format_patches "refs/lab/base..$last" "$tmp" --numbered
	mkdir -p "${dir%/*}"
	rm -rf "$dir"
	mv "$tmp" "$dir"
	say "$dir has the ${#series_patches[@]} patches, for git am on $(<"$linux_git/base")"
}
