# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="KVM selftests, the tree's own and ours, on both of the lab's kernels"

selftests_upstream=(
	guest_memfd_test
	set_memory_region_test
	x86_64/private_mem_conversions_test
	x86_64/private_mem_kvm_exits_test
	pre_fault_memory_test
)

# Ours: every .c in kernel/files that has a main().
selftests_ours()
{
	local dir=$files/tools/testing/selftests/kvm

	[[ ! -d $dir ]] || (cd "$dir" && grep -lrE '^int main\(|^TEST_HARNESS_MAIN|KVM_ONE_VCPU_TEST_SUITE' --include='*.c' .) |
		sed -e 's,^\./,,' -e 's,\.c$,,' | LC_ALL=C sort
}

build_selftests()
{
	local headers=$build/selftests/headers out=$build/selftests/kvm

	mkdir -p "$headers" "$out"
	# What does not build any more must not be found from an earlier run.
	(cd "$out" && rm -f "$@")
	kmake lab -s headers_install INSTALL_HDR_PATH="$headers"
	make -C "$build/linux/tools/testing/selftests/kvm" -j"$jobs" -k --no-print-directory \
		OUTPUT="$out" KHDR_INCLUDES="-isystem $headers/include" "${@/#/$out/}"
}

# Inside the machine: each test with its own log, and a line when it is done.
selftests_driver='
	out=$1 seconds=$2
	shift 2
	for name; do
		args=
		case $name in
		*=*) args=${name#*=} name=${name%%=*} ;;
		esac
		log=$LAB_RESULTS/selftests/$(echo "$name" | tr / -).log
		begin=$(date +%s)
		timeout -k 10 "$seconds" "$out/$name" $args >"$log" 2>&1 </dev/null
		echo "$name $? $(($(date +%s) - begin))"
	done'

run_selftests()
{
	local flavour=$1 seconds=$2 log=$test_log/selftests-$1.log name status took missing
	local -A done_tests=()
	shift 2

	rm -rf "$results/selftests"
	mkdir -p "$results/selftests"
	# The status of the machine comes last, as a line of its own.
	while read -r name status took; do
		if [[ $name == machine ]]; then
			vm_result "the $flavour kernel keeps a clean log" "$status" "$log"
			continue
		fi
		done_tests[$name]=1
		cp "$results/selftests/${name//\//-}.log" "$test_log/$flavour-${name//\//-}.log"
		program_result "$name" "$status" "$test_log/$flavour-${name//\//-}.log" "$took"
	done < <(
		set +e
		in_lab "$flavour" --timeout $((seconds * $# + 120)) -- \
			sh -c "$selftests_driver" - "$build/selftests/kvm" "$seconds" "$@" 2>"$log"
		echo "machine $? 0"
	)
	for name; do
		name=${name%%=*}
		[[ -n ${done_tests[$name]:-} ]] || failed "$name" "did not run to its end: the machine died" "$log"
	done
}

# Alone in a machine, with KVM's exits traced: what the last ones of a vCPU that shut
# down were is all that is left of it.
race_driver='
	trace=/sys/kernel/tracing
	mount -t tracefs tracefs $trace && echo 512 >$trace/buffer_size_kb &&
		echo 1 >$trace/events/kvm/kvm_exit/enable || exit 2
	timeout -k 10 300 "$1/gmem_race_test" -t "$2" >"$LAB_RESULTS/selftests/race.log" 2>&1 </dev/null
	status=$?
	echo 0 >$trace/tracing_on
	cat $trace/trace >"$LAB_RESULTS/selftests/race.trace"
	exit $status'

# race_last_exits TRACE VCPU: the exits that came before it shut down, and that one.
race_last_exits()
{
	awk -v vcpu="$2" '
		sub(".*kvm_exit: vcpu " vcpu " ", "") {
			last[n++ % 4] = $0
			if (tolower($2) ~ /shutdown/) {
				for (i = 0; i < 4; i++)
					printf "%s%s", i ? "; " : "", last[(n + i) % 4]
				exit
			}
		}' "$1"
}

# Has the processor taken an interrupt while it had them off? No kernel can make it do so:
# below an interrupt's entry, the frame's flags have IF, 0x200.
took_masked_interrupt()
{
	awk '/asm_sysvec_/ { entry = 1; next }
		entry && match($0, /EFLAGS: [0-9a-f]*/) {
			if (index("014589cd", substr($0, RSTART + 13, 1)))
				bad = 1
			entry = 0
		}
		END { exit !bad }' "$1"
}

# QEMU 7.2's TCG is not to be believed altogether where two processors really run at once:
# a kernel that hung had taken an interrupt with interrupts off, and a nested guest can shut
# down without an exception of its own. So these two, and nothing else, are tried
# again in a new machine, three times at most, and each is told. What the test itself finds
# wrong, in data or in states, fails at once; and the debug kernel's run has no second try.
race_alone()
{
	local try status log console why

	for try in 1 2 3; do
		log=$test_log/lab-gmem_race_test-$try.log
		rm -rf "$results/selftests"
		mkdir -p "$results/selftests"
		set +e
		in_lab lab --timeout 400 -- sh -c "$race_driver" - "$build/selftests/kvm" 20 2>"$test_log/selftests-race-$try.log"
		status=$?
		set -e
		cat "$results/selftests/race.log" >"$log" 2>/dev/null || :
		cp "$results/selftests/race.trace" "${log%.log}.trace" 2>/dev/null || :
		console=$(sed -n 's/^lab: kernel log: //p' "$test_log/selftests-race-$try.log" | tail -n 1)
		why=$(sed -n 's/.*exit SHUTDOWN of vCPU \([0-9]*\): no exception got as far.*/\1/p' "$log" | tail -n 1)
		if [[ -n $why ]]; then
			why="vCPU $why shut down without an exception: $(race_last_exits "${log%.log}.trace" "$why")"
		elif ((status)) && [[ -f $top/$console ]] && took_masked_interrupt "$top/$console"; then
			why="the emulator delivered an interrupt that was off, see $console"
		fi
		if [[ -n $why && $try -lt 3 ]]; then
			skipped "gmem_race_test, try $try" "$why"
			continue
		fi
		case $status in
		"$STATUS_SPLAT" | "$STATUS_PANIC" | "$STATUS_BOOT" | "$STATUS_TIMEOUT")
			vm_result "the lab kernel keeps a clean log" "$status" "$test_log/selftests-race-$try.log" ;;
		*) program_result gmem_race_test "$status" "$log" 20 ;;
		esac
		return
	done
}

step_run()
{
	local flavour name all=() have=() ours

	mapfile -t ours < <(selftests_ours)
	all=("${selftests_upstream[@]}" "${ours[@]}")
	for flavour in lab debug; do
		need_kernel "$flavour" || {
			failed "the $flavour kernel builds" "see the log" "$build/log/kernel-$flavour.log"
			return
		}
	done
	lock builds
	need_source lab
	with_progress "building the selftests" "$build/log/selftests.log" build_selftests "${all[@]}" || :
	unlock builds
	for name in "${all[@]}"; do
		if [[ ! -x $build/selftests/kvm/$name ]]; then
			failed "$name builds" "it does not" "$build/log/selftests.log"
		elif [[ $name == gmem_race_test ]]; then
			have+=("$name=-t 60")
		else
			have+=("$name")
		fi
	done
	for name in "${!have[@]}"; do
		[[ ${have[name]} != gmem_race_test=* ]] || unset "have[$name]"
	done
	step=selftests-lab run_selftests lab 600 "${have[@]}"
	[[ ! -x $build/selftests/kvm/gmem_race_test ]] || step=selftests-lab race_alone
	[[ ! -x $build/selftests/kvm/gmem_race_test ]] || have+=("gmem_race_test=-t 60")

	# 32764 memslots, each with a grace period: two minutes on the lab's
	# kernel, and more than all the rest together on this one.
	step=selftests-debug skipped set_memory_region_test "takes too long on the debug kernel"
	for name in "${!have[@]}"; do
		[[ ${have[name]} != set_memory_region_test ]] || unset "have[$name]"
	done
	step=selftests-debug run_selftests debug 1200 "${have[@]}"
}
