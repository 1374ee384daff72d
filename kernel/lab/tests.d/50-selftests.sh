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

# run_selftests FLAVOUR SECONDS TEST...: machine_options are for the machine.
run_selftests()
{
	local flavour=$1 seconds=$2 log=$test_log/selftests-$1${machine_options[*]}.log name status took
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
		in_lab "$flavour" "${machine_options[@]}" --timeout $((seconds * $# + 120)) -- \
			sh -c "$selftests_driver" - "$build/selftests/kvm" "$seconds" "$@" 2>"$log"
		echo "machine $? 0"
	)
	for name; do
		name=${name%%=*}
		[[ -n ${done_tests[$name]:-} ]] || failed "$name" "did not run to its end: the machine died" "$log"
	done
}

step_run()
{
	local flavour name all=() have=() ours machine_options=()

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
	# Where its processors really run at once, QEMU 7.2's TCG is not to be relied on: now and
	# then a vCPU goes on as the host's processor, behind its VMRUN and with its CR3, or shuts
	# down. The debug kernel's minute is run so, and has never met that; here they take turns.
	for name in "${!have[@]}"; do
		[[ ${have[name]} != gmem_race_test=* ]] || unset "have[$name]"
	done
	step=selftests-lab run_selftests lab 600 "${have[@]}"
	if [[ -x $build/selftests/kvm/gmem_race_test ]]; then
		machine_options=(--turns)
		step=selftests-lab run_selftests lab 300 "gmem_race_test=-t 20"
		machine_options=()
		have+=("gmem_race_test=-t 60")
	fi

	# 32764 memslots, each with a grace period: two minutes on the lab's
	# kernel, and more than all the rest together on this one.
	step=selftests-debug skipped set_memory_region_test "takes too long on the debug kernel"
	for name in "${!have[@]}"; do
		[[ ${have[name]} != set_memory_region_test ]] || unset "have[$name]"
	done
	step=selftests-debug run_selftests debug 1200 "${have[@]}"
}
