# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Messages, locks, space, progress: what every other part uses.

say()
{
	printf 'lab: %s\n' "$*" >&2
}

die()
{
	say "$@"
	exit 1
}

# A mistake in how lab was called.
usage_error()
{
	say "$@" "(see ./lab help)"
	exit 2
}

# Run at the end of the process, in reverse order, however it ends.
at_exit_commands=()

at_exit()
{
	at_exit_commands=("$*" "${at_exit_commands[@]}")
}

run_at_exit()
{
	local status=$? command

	trap - EXIT INT TERM HUP ERR
	set +e
	for command in "${at_exit_commands[@]}"; do
		eval "$command"
	done
	exit "$status"
}

# The process group of a job that this process started.
end_group()
{
	if [[ -n $1 ]]; then
		kill -- "-$1" 2>/dev/null
		wait "$1" 2>/dev/null
	fi
	return 0
}

# Where the time of a test run goes: 'STEP KIND MICROSECONDS' for each, in the file
# $LAB_TIMES if that is set. Kinds: building, booting, waiting (for another lab or step).
spent()
{
	[[ -z ${LAB_TIMES:-} ]] || printf '%s\t%s\t%s\n' "${LAB_STEP:--}" "$1" "$2" >>"$LAB_TIMES"
}

# Sets the variable NAME to the time, in microseconds.
clock()
{
	printf -v "$1" %s "${EPOCHREALTIME//[^0-9]/}"
}

# Several labs may run at once; what they must not do at once has a lock:
#   kernel-FLAVOUR  build/kernel-FLAVOUR and what is built in it: long
#   source          build/linux.git, build/tree, kernel/: short
#   builds          build/linux: shared by who builds from it, alone by who changes it
# They are taken in this order, and held until unlock or the end of the process.
declare -A lock_fd=()

# lock NAME [shared]
lock()
{
	local fd begin end how=--${2:-exclusive}

	[[ -z ${lock_fd[$1]:-} ]] || return 0
	mkdir -p "$build" 2>/dev/null || die "cannot write in $top: make it writable."
	exec {fd}>"$build/lock.$1"
	if ! flock -n "$how" "$fd"; then
		say "another ./lab is using $1 in $build; waiting for it."
		clock begin
		flock "$how" "$fd"
		clock end
		spent waiting $((end - begin))
	fi
	lock_fd[$1]=$fd
}

unlock()
{
	local fd=${lock_fd[$1]:-}

	[[ -n $fd ]] || return 0
	exec {fd}>&-
	unset "lock_fd[$1]"
}

# need_space MIB WHAT: before a step that would otherwise stop in the middle.
need_space()
{
	local free

	mkdir -p "$build"
	free=$(df -Pm "$build" | awk 'NR == 2 { print $4 }')
	((free >= $1)) || die "$2 needs $1 MiB in $build and there are $free: free some, or move the repository."
}

elapsed()
{
	local s=$((SECONDS - $1))

	printf '%d:%02d' $((s / 60)) $((s % 60))
}

# with_progress TITLE LOG COMMAND...: runs it with its output in LOG, and shows
# how far it is: on a terminal in one line that changes, else in a line every
# 20 s. What it was up to is the last line of LOG.
with_progress()
{
	local title=$1 log=$2 begin=$SECONDS last=$SECONDS pid status line lines from to
	shift 2
	clock from

	mkdir -p "${log%/*}"
	# A process group of its own, so that all of it can be ended.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	set +m
	pid=$!
	progress_pid=$pid
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
		if [[ -t 2 ]]; then
			lines=$(wc -l <"$log")
			line=$(tail -n 1 "$log" | tr -d '\r' | tr -s ' \t' ' ')
			printf '\r\033[K%.*s' "$((${COLUMNS:-80} - 1))" \
				"lab: $title $(elapsed "$begin"), $lines lines:$line" >&2
		elif ((SECONDS - last >= 20)); then
			last=$SECONDS
			line=$(tail -n 1 "$log" | tr -d '\r' | tr -s ' \t' ' ')
			say "$title: $(elapsed "$begin"), $(wc -l <"$log") lines:$line"
		fi
	done
	wait "$pid" && status=0 || status=$?
	# shellcheck disable=SC2034 # for lab's at_exit
	progress_pid=''
	clock to
	spent building $((to - from))
	[[ -t 2 ]] && printf '\r\033[K' >&2
	if ((status)); then
		say "$title failed after $(elapsed "$begin"):"
		grep -aE -m 20 'error:|Error |ERROR|fatal:|undefined|No space|\*\*\*' "$log" >&2 || tail -n 20 "$log" >&2
		say "the complete log is $log"
		return "$status"
	fi
	say "$title: done in $(elapsed "$begin")"
}
