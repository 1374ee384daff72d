#!/bin/bash
# SPDX-License-Identifier: MIT
# gmemctl as it is called: what any machine can tell.
# usage: gmemctl.sh GMEMCTL COMPLETION MANPAGE

set -u
gmemctl=$1 completion=$2 page=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0
unset NO_COLOR

not_so()
{
	echo "NOT SO: $*"
	sed 's/^/  out: /' "$dir/out" | head -n 5
	sed 's/^/  err: /' "$dir/err" | head -n 5
	bad=1
}

# ends STATUS SAID ARGUMENTS...: its status, and what it says on either stream.
ends()
{
	local want=$1 said=$2 status
	shift 2

	"$gmemctl" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	status=$?
	((status == want)) || not_so "gmemctl $*: status $status, should be $want"
	grep -qF -- "$said" "$dir/out" "$dir/err" || not_so "gmemctl $*: says '$said'"
	# What is wrong is said on one stream only, and nothing else is.
	((want < 3)) || [[ ! -s $dir/out ]] || not_so "gmemctl $*: an error, and output"
}

valid_json()
{
	command -v python3 >/dev/null || return 0
	python3 -m json.tool <"$dir/out" >/dev/null || not_so "valid JSON: $*"
}

# --- how it is called
ends 0 'usage: gmemctl' --help
ends 0 'usage: gmemctl' help
ends 0 '(libgmem ' --version
ends 64 'which command?'
ends 64 "no command 'nonsense'" nonsense
ends 64 "no option '--nonsense'" --nonsense
for command in probe list show bench; do
	ends 0 'usage: gmemctl' "$command" --help
	ends 64 "does not know '--nonsense'" "$command" --nonsense
	ends 64 "does not know '-x'" "$command" -x
	ends 64 "'--json=1'" "$command" --json=1
done
ends 64 "list wants PID, not 'all'" list all
ends 64 "list takes one PID, and no '2'" list 1 2
ends 64 '--sort wants' list --sort all
ends 64 "probe takes no 'all'" probe --json all
ends 64 "bench takes no 'all'" bench all
ends 64 'show: which process?' show
ends 64 'show: which process?' show --json
for target in 0 x 1x 1: 1:x :1 1:2:3 99999999999 1:99999999999 ''; do
	ends 64 'wants PID or PID:FD' show "$target"
done
ends 64 "no '2'" show 1 2
ends 64 'needs a value' show 1 --svg
for seconds in 0 x 1x nan inf -1 0.01 1e9 ''; do
	ends 64 '--watch wants' show 1 --watch "$seconds"
done
for size in 0 x 64 3M 1T -2M 64MB 65G 99999999999999999999G ''; do
	ends 64 '--size wants' bench --size "$size"
done

# --- memory that is not there
sleep 1000 &
sleeper=$!
ends 3 "process $sleeper has no guest_memfd" show "$sleeper"
ends 3 "process $sleeper has no descriptor 999" show "$sleeper:999"
ends 3 'is not a guest_memfd' show "$sleeper:0"
echo before >"$dir/file.svg"
ends 0 "process $sleeper has no guest_memfd" list "$sleeper"
ends 3 'has no guest_memfd' show "$sleeper" --svg "$dir/file.svg"
[[ $(<"$dir/file.svg") == before ]] || not_so "a picture that failed changes nothing"
[[ $(ls "$dir") == $'err\nfile.svg\nout' ]] || not_so "and leaves nothing behind"
kill "$sleeper"
wait "$sleeper" 2>/dev/null
ends 3 "there is no process $sleeper" show "$sleeper"
ends 3 "there is no process $sleeper" list "$sleeper"

# What is root's is nobody else's, where this is run by somebody else.
((EUID == 0)) || ends 3 'process 1 cannot be inspected' show 1
((EUID == 0)) || ends 3 'process 1 cannot be inspected' list 1

# --- list and probe, whatever this machine has
ends 0 '' list
ends 0 '"memories"' list --json
valid_json list
for json in '' --json; do
	# shellcheck disable=SC2086
	"$gmemctl" probe $json >"$dir/out" 2>"$dir/err"
	status=$?
	((status == 0 || status == 3)) || not_so "probe $json: status $status"
	((status == 0)) || continue
	[[ -s $dir/out && ! -s $dir/err ]] || not_so "probe $json: output, and no error"
done
((status)) || valid_json probe
if [[ ! -e /dev/kvm ]]; then
	ends 0 'There is no KVM' probe
	ends 3 'There is no KVM' bench
fi

# --- output that goes nowhere; a terminal; no colours
"$gmemctl" list --json >/dev/full 2>"$dir/err"
status=$?
((status == 3)) || not_so "a full disk is an error"
grep -q 'No space left' "$dir/err" || not_so "and which one is said"
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then # not everywhere are there terminals
	escape=$'\33'
	TERM=xterm script -qec "'$gmemctl' probe" /dev/null </dev/null >"$dir/out"
	grep -q "$escape" "$dir/out" || not_so "colours on a terminal"
	NO_COLOR=1 TERM=xterm script -qec "'$gmemctl' probe" /dev/null </dev/null >"$dir/out"
	! grep -q "$escape" "$dir/out" || not_so "no colours with NO_COLOR"
fi
"$gmemctl" probe | grep -q $'\33' && not_so "no colours in a pipe"

# --- what --help names is in the completion and on the page, and the other way round
options()
{
	grep -o -- '--[a-z]\+' | sort -u
}
help=$("$gmemctl" --help | options)
[[ $(options <"$completion") == "$help" ]] || not_so "the completion knows the options"
[[ $(grep '^\.' "$page" | grep -o '\(Fl\||\) -[a-z]\+' | sed 's/.* /-/' | sort -u) == "$help" ]] ||
	not_so "the page knows the options"
complete_words()
{
	# shellcheck source=/dev/null disable=SC2317
	(. "$completion"
	gmemctl()
	{
		case $*,$1${2-} in
		*,list12) printf 'PID FD\n12 5\n12 7\nTOTAL 0\n' ;;
		*,list) printf 'PID FD\n12 5 qemu - 1G also 12:7 9:3\n4 8\nTOTAL 0\n' ;;
		esac
	}
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
	_gmemctl
	echo "${COMPREPLY[*]}")
}
[[ $(complete_words gmemctl sh) == show ]] || not_so "it completes commands"
[[ $(complete_words gmemctl show '') == *'--help 12 4 9' ]] || not_so "it completes processes"
[[ $(complete_words gmemctl show 12 :) == '5 7' ]] || not_so "it completes descriptors"
[[ $(complete_words gmemctl show 12 : 7) == 7 ]] || not_so "and those that were begun"
[[ $(complete_words gmemctl list --sort p) == 'pid private populated' ]] || not_so "it completes keys"
[[ $(complete_words gmemctl list 1) == 12 ]] || not_so "it completes processes to list"
[[ $(complete_words gmemctl bench --s) == '--svg --size' ]] || not_so "it completes options"
if command -v mandoc >/dev/null; then
	mandoc -T lint -W warning "$page" >"$dir/out" 2>"$dir/err" || not_so "mandoc likes the page"
fi

exit $bad
