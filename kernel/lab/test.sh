# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The test runner. Each file tests.d/NN-NAME.sh is one step; it sets step_title,
# and step_packages to what it needs of Debian's beside what every step has, and
# defines step_run, and step_exists where there may be nothing to test yet. A step
# reports each test with passed, failed or skipped.
#
# Steps below 30 are about the lab itself and run one after the other. The others
# run two at a time: most keep one processor busy, and while a kernel is built for
# one of them, the other has something to do. What two of them use has to be theirs,
# or behind the lock on the builds.

test_log=$build/log/test
packages_test=(shellcheck kmod)

step_files()
{
	find "$top/kernel/lab/tests.d" -name '[0-9]*-*.sh' | LC_ALL=C sort
}

step_name()
{
	local name=${1##*/}

	name=${name#*-}
	echo "${name%.sh}"
}

# --- what steps call

record()
{
	local verdict=$1 name=$2 detail=${3:-} log=${4:-}

	detail=${detail//[$'\t\n']/ }
	[[ ! -t 1 ]] || printf '\r\033[K' # the other step's progress
	printf '%s\t%s\t%s\t%s\t%s\n' "$verdict" "$step" "$name" "$detail" "${log#"$top"/}" >>"$test_log/results"
	printf '[%s] %-7s %s: %s%s\n' "$(elapsed "$test_begin")" "$verdict" "$step" "$name" "${detail:+ ($detail)}"
}

# passed NAME [DETAIL]; failed NAME [DETAIL [LOG]]; skipped NAME REASON
passed() { record passed "$@"; }
failed() { record FAILED "$@"; }
skipped() { record skipped "$@"; }

# check NAME COMMAND...: passes when the command does; its output is kept.
check()
{
	local name=$1 log=$test_log/$step-${1//[^A-Za-z0-9]/-}.log status
	shift

	# Not 'if' or '||', in which set -e is off.
	set +e
	(
		set -e
		"$@"
	) >"$log" 2>&1
	status=$?
	set -e
	if ((status)); then
		failed "$name" "status $status: $(tail -n 1 "$log")" "$log"
	else
		passed "$name"
	fi
}

# kunit_results LOG: report what KUnit wrote, one result for each case. It may
# have several suites; a suite that ends before its plan has failed.
kunit_results()
{
	local log=$1 verdict name detail any=''

	while IFS=$'\t' read -r verdict name detail; do
		any=1
		"$verdict" "$name" "$detail" "$log"
	done < <(awk '
		function done_with() {
			if (suite != "" && n != plan)
				printf "failed\t%s\tended after %d of %d cases\n", suite, n, plan
			suite = ""; n = 0; plan = 0
		}
		{ sub(/\r$/, ""); sub(/^\[ *[0-9.]+\] /, "") }
		/^    # Subtest: / { done_with(); suite = $3; next }
		suite != "" && /^    1\.\.[0-9]+/ { plan = substr($1, 4) + 0; next }
		suite != "" && /^    (not )?ok [0-9]+/ {
			bad = $1 == "not"; name = $(bad ? 4 : 3); n++
			if (/# SKIP/) {
				sub(/.*# SKIP */, "")
				printf "skipped\t%s.%s\t%s\n", suite, name, $0 == "" ? "no reason given" : $0
			} else
				printf "%s\t%s.%s\t%s\n", bad ? "failed" : "passed", suite, name, bad ? why : ""
			why = ""; next
		}
		/EXPECTATION FAILED|ASSERTION FAILED/ { if (why == "") { why = $0; sub(/^ */, "", why) } next }
		/^(not )?ok [0-9]+/ { done_with() }
		END { done_with() }' "$log")
	[[ -n $any ]] || failed "KUnit" "it ran no test" "$log"
}

# program_result NAME STATUS LOG SECONDS: a kselftest; its TAP if it wrote any, else
# its status: 0 passed, 4 or 77 skipped.
program_result()
{
	local name=$1 status=$2 log=$3 seconds=$4 any='' bad='' verdict case detail

	while IFS=$'\t' read -r verdict case detail; do
		any=1
		[[ $verdict != failed ]] || bad=1
		"$verdict" "$name: $case" "$detail" "$log"
	done < <(awk '
		# The last thing that went wrong before the verdict is the reason for it.
		/Test Assertion Failure/ { if ((getline said) > 0) { sub(/^ */, "", said) } next }
		/:Expected / { said = $0; sub(/^# */, "", said); next }
		/^(not )?ok [0-9]+/ {
			bad = $1 == "not"; skip = /# SKIP/
			why = bad ? said : ""; said = ""
			if (skip) { why = $0; sub(/.*# SKIP */, "", why) }
			name = $0; sub(/^(not )?ok [0-9]+( - )?[ \t]*/, "", name); sub(/ *# SKIP.*/, "", name)
			printf "%s\t%s\t%s\n", skip ? "skipped" : bad ? "failed" : "passed", name, why
		}' "$log")
	case $status in
	0) [[ -n $any ]] || passed "$name" "${seconds} s" ;;
	4 | 77) [[ -n $any ]] || skipped "$name" "$(grep -aiE 'skip|require' "$log" | tail -n 1)" ;;
	124 | 137) failed "$name" "not done within its time" "$log" ;;
	*) [[ -n $bad ]] || failed "$name" "status $status: $(grep -a . "$log" | tail -n 1)" "$log" ;;
	esac
}

# in_lab FLAVOUR OPTION... -- COMMAND...: as ./lab run.
in_lab()
{
	local flavour=$1 options=()
	shift

	[[ $flavour == lab ]] || options=("--$flavour")
	"$top/lab" run "${options[@]}" "$@"
}

# vm_result NAME STATUS LOG: whether the machine that ran something was well.
vm_result()
{
	case $2 in
	0) passed "$1" ;;
	"$STATUS_SPLAT" | "$STATUS_PANIC" | "$STATUS_BOOT" | "$STATUS_TIMEOUT")
		failed "$1" "$(grep -a '^lab: ' "$3" | head -n 1)" "$3" ;;
	*) failed "$1" "status $2: $(grep -av '^lab: ' "$3" | tail -n 1)" "$3" ;;
	esac
}

# --- the runner

run_step()
{
	local file=$1 status

	step=$(step_name "$file")
	set +e
	(
		set -e
		# What it has begun in a process group of its own ends with it.
		# shellcheck disable=SC2016
		at_exit_commands=('end_group "${progress_pid:-}"')
		trap run_at_exit EXIT
		trap 'exit 143' TERM
		step_title=$step
		step_exists() { true; }
		# shellcheck source=/dev/null
		. "$file"
		step_exists || exit 0
		printf '[%s] %s\n' "$(elapsed "$test_begin")" "--- $step: $step_title"
		step_run
	) </dev/null
	status=$?
	set -e
	((status == 0)) || failed "the step itself" "ended with status $status"
}

declare -A steps_running=()

await_a_step()
{
	local pid=''

	wait -n -p pid "${!steps_running[@]}" || :
	unset "steps_running[$pid]"
}

# run_steps FILE...: two at a time. Each is a process group, so that all of it can be ended.
run_steps()
{
	local file

	# shellcheck disable=SC2016
	at_exit 'for pid in "${!steps_running[@]}"; do end_group "$pid"; done'
	for file; do
		((${#steps_running[@]} < 2)) || await_a_step
		set -m
		run_step "$file" &
		set +m
		steps_running[$!]=1
	done
	while ((${#steps_running[@]})); do
		await_a_step
	done
}

# step_needs FILE: the packages, a line each.
step_needs()
{
	(
		step_packages=()
		# shellcheck source=/dev/null
		. "$1"
		printf '%s\n' "${step_packages[@]}"
	)
}

count()
{
	grep -c "^$1" "$test_log/results" || :
}

cmd_test()
{
	local file name known=() wanted=() first=() beside=() packages=() passed failed skipped

	while IFS= read -r file; do
		known+=("$(step_name "$file")")
	done < <(step_files)
	while (($#)); do
		case $1 in
		--as-is) export LAB_AS_IS=1 ;;
		--list) printf '%s\n' "${known[@]}"; return ;;
		-*) usage_error "test: unknown option '$1'." ;;
		*)
			[[ " ${known[*]} " == *" $1 "* ]] || usage_error "test: no step '$1'; there are: ${known[*]}."
			wanted+=("$1") ;;
		esac
		shift
	done

	while IFS= read -r file; do
		name=$(step_name "$file")
		if ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $name "* ]]; then
			continue
		fi
		name=${file##*/}
		if ((${name%%-*} < 30)); then first+=("$file"); else beside+=("$file"); fi
	done < <(step_files)
	# All at once: apt-get does not run beside itself, and it may ask for a password.
	mapfile -t packages < <(for file in "${first[@]}" "${beside[@]}"; do step_needs "$file"; done | grep . | sort -u)
	need_packages "${packages_test[@]}" "${packages_vm[@]}" "${packages_kernel[@]}" "${packages[@]}"
	rm -rf "$test_log"
	mkdir -p "$test_log" "$results"
	: >"$test_log/results"
	test_begin=$SECONDS
	for file in "${first[@]}"; do
		run_step "$file"
	done
	run_steps "${beside[@]}"

	passed=$(count passed) failed=$(count FAILED) skipped=$(count skipped)
	echo
	awk -F '\t' '$1 == "skipped" { printf "skipped: %s: %s (%s)\n", $2, $3, $4 }
		$1 == "FAILED" { printf "FAILED: %s: %s (%s)%s\n", $2, $3, $4, $5 == "" ? "" : ", see " $5 }' \
		"$test_log/results" | LC_ALL=C sort -r
	echo "in $(elapsed "$test_begin") minutes; logs in ${test_log#"$top"/}"
	echo "$passed passed, $failed failed, $skipped skipped"
	((failed == 0 && passed > 0)) || exit 1
}
