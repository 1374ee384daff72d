# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The test runner. Each file tests.d/NN-NAME.sh is one step; it sets step_title, and
#
#   step_packages  what it needs of Debian's beside what every step has
#   step_kernels   the flavours of the kernel that it boots (build.sh)
#   step_when      usual; 'not-quick' where --quick leaves it out, 'all' where it is
#                  run by --all, or by its name, alone
#
# and defines step_run, and step_exists where there may be nothing to test yet. A step
# reports each test with passed, failed or skipped. LAB_QUICK or LAB_ALL is set where the
# options of that name were given.
#
# Kernels are built one after the other, from the start, and not niced: the steps that wait
# for the last one would run alone in the end. Beside that two steps run at a time, those
# first that need none or have theirs. What two of them use has to be theirs, or behind a
# lock.

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

# check_build NAME COMMAND...: a check that builds something.
check_build()
{
	local from to

	clock from
	check "$@"
	clock to
	spent building $((to - from))
}

# build_once NAME COMMAND...: what several steps run. The first of them builds it, under a
# lock of the caller's, and in this test run nobody builds it again: that would take it away
# from the step that runs it.
build_once()
{
	local mark=$test_log/built-$1 status
	shift

	[[ ! -f $mark ]] || return "$(<"$mark")"
	echo 1 >"$mark"
	"$@"
	status=$?
	echo "$status" >"$mark"
	return "$status"
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

# More for the machine; a step declares its own.
machine_options=()

# in_lab FLAVOUR OPTION... -- COMMAND...: as ./lab run.
in_lab()
{
	local flavour=$1 options=()
	shift

	[[ $flavour == lab ]] || options=("--$flavour")
	"$top/lab" run "${options[@]}" "${machine_options[@]}" "$@"
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

# run_job NAME FUNCTION ARGUMENT...: in a shell of its own, of which the time is recorded.
run_job()
{
	local status from
	local -x LAB_STEP=$1
	step=$1
	shift

	clock from
	set +e
	(
		set -e
		# What it has begun in a process group of its own ends with it.
		# shellcheck disable=SC2016
		at_exit_commands=('end_group "${progress_pid:-}"' "job_times $from")
		trap run_at_exit EXIT
		trap 'exit 143' TERM
		"$@"
	) </dev/null
	status=$?
	set -e
	((status == 0)) || failed "the step itself" "ended with status $status"
}

# Of this shell and of what it waited for, which includes the machines.
job_times()
{
	local end

	clock end
	spent wall $((end - $1))
	times >"$test_log/$LAB_STEP.processor"
	spent processor "$(tr ms '  ' <"$test_log/$LAB_STEP.processor" |
		awk '{ t += 60 * ($1 + $3) + $2 + $4 } END { printf "%d\n", 1e6 * t }')"
	rm -f "$test_log/$LAB_STEP.processor"
}

source_step()
{
	step_title=$(step_name "$1") step_packages=() step_kernels=() step_when=usual
	step_exists() { true; }
	# shellcheck source=/dev/null
	. "$1"
}

run_step()
{
	source_step "$1"
	step_exists || return 0
	printf '[%s] %s\n' "$(elapsed "$test_begin")" "--- $step: $step_title"
	step_run
}

run_kernel()
{
	if need_kernel "$1"; then
		passed "it builds"
	else
		failed "it builds" "see the log" "$build/log/kernel-$1.log"
	fi
}

# --- what runs when: kernels_wanted are built in that order, kernel_done has those that
# were, or cannot be; steps_wanted are the files of the steps that have not begun.

declare -A jobs_running=() kernel_done=() kernels_of=()

# start NAME FUNCTION ARGUMENT...: a job beside this one, in a process group, so that all
# of it can be ended.
start()
{
	set -m
	run_job "$@" &
	set +m
	jobs_running[$!]=$1
}

# Sets ended to the name of a job that has.
await_a_job()
{
	local pid=''

	wait -n -p pid "${!jobs_running[@]}" || :
	ended=${jobs_running[$pid]}
	unset "jobs_running[$pid]"
}

has_its_kernels()
{
	local flavour

	for flavour in ${kernels_of[$1]}; do
		[[ -n ${kernel_done[$flavour]:-} ]] || return 1
	done
}

start_a_step()
{
	local i

	for i in "${!steps_wanted[@]}"; do
		if has_its_kernels "${steps_wanted[i]}"; then
			start "$(step_name "${steps_wanted[i]}")" run_step "${steps_wanted[i]}"
			unset "steps_wanted[i]"
			return 0
		fi
	done
	return 1
}

run_jobs()
{
	local kernel='' steps=0 ended flavour

	# shellcheck disable=SC2016
	at_exit 'for pid in "${!jobs_running[@]}"; do end_group "$pid"; done'
	for flavour in "${kernels_wanted[@]}"; do
		! have_kernel "$flavour" || kernel_done[$flavour]=1
	done
	while :; do
		for flavour in "${kernels_wanted[@]}"; do
			if [[ -z $kernel && -z ${kernel_done[$flavour]:-} ]]; then
				kernel=$flavour
				start "kernel-$flavour" run_kernel "$flavour"
			fi
		done
		while ((steps < 2)) && start_a_step; do
			steps=$((steps + 1))
		done
		((${#jobs_running[@]})) || break
		await_a_job
		if [[ $ended == "kernel-$kernel" ]]; then
			kernel_done[$kernel]=1 kernel=''
		else
			steps=$((steps - 1))
		fi
	done
}

count()
{
	grep -c "^$1" "$test_log/results" || :
}

# Where the time went, a line for each job in the order in which they ended. Booting is
# from the start of the emulator to that of the command; waiting, for other jobs.
time_table()
{
	printf '\n%-16s %8s %9s %8s %8s %8s\n' step wall processor building booting waiting
	awk -F '\t' '
		function show(us,  s) { s = int(us / 1e6 + 0.5); return us ? sprintf("%d:%02d", s / 60, s % 60) : "-" }
		function line(name, step) {
			printf "%-16s %8s %9s %8s %8s %8s\n", name, show(t[step, "wall"]), show(t[step, "processor"]),
				show(t[step, "building"]), show(t[step, "booting"]), show(t[step, "waiting"])
		}
		{ t[$1, $2] += $3; t["all", $2] += $3 }
		$2 == "wall" { order[++n] = $1 }
		END {
			for (i = 1; i <= n; i++)
				line(order[i], order[i])
			t["all", "wall"] = 0
			line("all of them", "all")
		}' "$test_log/times"
	echo
}

# steps_about: a line for each step: its file, when it is run, its kernels, its packages.
steps_about()
{
	local file

	while IFS= read -r file; do
		(
			source_step "$file"
			printf '%s\t%s\t%s\t%s\n' "$file" "$step_when" "${step_kernels[*]:--}" "${step_packages[*]:--}"
		)
	done < <(step_files)
}

# Sets steps_wanted, kernels_wanted, kernels_of and needed: the steps named, or those of the
# kind of run that was asked for, and the packages that they need.
choose_steps()
{
	local file when flavour kernels list names flavours=' '

	needed=()
	while IFS=$'\t' read -r file when kernels list; do
		if (($#)); then
			[[ " $* " == *" $(step_name "$file") "* ]] || continue
		elif [[ $when == all && -z ${LAB_ALL:-} || $when == not-quick && -n ${LAB_QUICK:-} ]]; then
			continue
		fi
		steps_wanted+=("$file")
		kernels_of[$file]=${kernels#-}
		flavours+="$kernels "
		read -ra names <<<"${list#-}"
		needed+=("${names[@]}")
	done < <(steps_about)
	for flavour in "${flavours_known[@]}"; do
		[[ $flavours != *" $flavour "* ]] || kernels_wanted+=("$flavour")
	done
}

cmd_test()
{
	local file known=() named=() steps_wanted=() kernels_wanted=() needed passed failed skipped

	while IFS= read -r file; do
		known+=("$(step_name "$file")")
	done < <(step_files)
	while (($#)); do
		case $1 in
		--as-is) export LAB_AS_IS=1 ;;
		--quick) export LAB_QUICK=1 ;;
		--all) export LAB_ALL=1 ;;
		--list) printf '%s\n' "${known[@]}"; return ;;
		-*) usage_error "test: unknown option '$1'." ;;
		*)
			[[ " ${known[*]} " == *" $1 "* ]] || usage_error "test: no step '$1'; there are: ${known[*]}."
			named+=("$1") ;;
		esac
		shift
	done
	[[ -z ${LAB_QUICK:-} || -z ${LAB_ALL:-} ]] || usage_error "test: --quick and --all exclude each other."

	test_begin=$SECONDS
	choose_steps "${named[@]}"
	# All at once: apt-get does not run beside itself, and it may ask for a password.
	mapfile -t needed < <(printf '%s\n' "${needed[@]}" | sort -u)
	rm -rf "$test_log"
	mkdir -p "$test_log" "$results"
	: >"$test_log/results"
	export LAB_TIMES=$test_log/times
	LAB_STEP=apt need_packages "${packages_test[@]}" "${packages_vm[@]}" "${packages_kernel[@]}" "${needed[@]}"
	run_jobs

	passed=$(count passed) failed=$(count FAILED) skipped=$(count skipped)
	echo
	awk -F '\t' '$1 == "skipped" { printf "skipped: %s: %s (%s)\n", $2, $3, $4 }
		$1 == "FAILED" { printf "FAILED: %s: %s (%s)%s\n", $2, $3, $4, $5 == "" ? "" : ", see " $5 }' \
		"$test_log/results" | LC_ALL=C sort -r
	time_table
	echo "in $(elapsed "$test_begin") minutes; logs in ${test_log#"$top"/}"
	echo "$passed passed, $failed failed, $skipped skipped"
	((failed == 0 && passed > 0)) || exit 1
}
