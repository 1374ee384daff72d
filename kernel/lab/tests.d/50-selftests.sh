# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="KVM selftests, the tree's own and ours"

step_kernels=(lab)

selftests_upstream=(
	guest_memfd_test
	set_memory_region_test
	x86_64/private_mem_conversions_test
	x86_64/private_mem_kvm_exits_test
	pre_fault_memory_test
)

# Those in which threads do things at once, beside the race test.
selftests_threads=(gmem_bind_test gmem_clone_test gmem_convert_test gmem_link_test gmem_move_test
	gmem_poison_test gmem_share_test)

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
	out=$1 logs=$2 seconds=$3
	shift 3
	for name; do
		args=
		case $name in
		*=*) args=${name#*=} name=${name%%=*} ;;
		esac
		log=$logs/$(echo "$name" | tr / -).log
		begin=$(date +%s)
		timeout -k 10 "$seconds" "$out/$name" $args >"$log" 2>&1 </dev/null
		echo "$name $? $(($(date +%s) - begin))"
	done'

# Where the processors of the machine really run at once, QEMU 7.2's TCG is not to be relied
# on: now and then a vCPU goes on as the host's processor, behind its VMRUN and with its CR3,
# or shuts down. The debug kernel's races are run so, and have never met that; elsewhere, in
# what takes long or must not fail for that, the processors take turns (--turns).
selftest_races=gmem_race_test

# How long a processor is kept from others is measured in instructions (--icount), as whatever
# else a machine does would count otherwise.
selftest_stalls=gmem_stall_test

# selftest_results FLAVOUR TEST...: what selftests_driver says on standard input, and of
# those that never ended. The status of the machine may come last, as a line of its own.
selftest_results()
{
	local flavour=$1 name status took log=$test_log/$step-machine.log
	local -A done_tests=()
	shift

	while read -r name status took; do
		if [[ $name == machine ]]; then
			vm_result "the kernel keeps a clean log" "$status" "$log"
			continue
		fi
		done_tests[$name]=1
		cp "$results/selftests-$flavour/${name//\//-}.log" "$test_log/$step-${name//\//-}.log"
		program_result "$name" "$status" "$test_log/$step-${name//\//-}.log" "$took"
		printf '%s\t%s\t%s\n' "$took" "$step" "$name" >>"$test_log/seconds"
	done
	for name; do
		name=${name%%=*}
		[[ -n ${done_tests[$name]:-} ]] || failed "$name" "did not run to its end: the machine died" "$log"
	done
}

# run_selftests FLAVOUR SECONDS TEST...
run_selftests()
{
	local flavour=$1 seconds=$2
	shift 2

	rm -rf "$results/selftests-$flavour"
	mkdir -p "$results/selftests-$flavour"
	selftest_results "$flavour" "$@" < <(
		set +e
		in_lab "$flavour" --timeout $((seconds * $# + 120)) -- \
			sh -c "$selftests_driver" - "$build/selftests/kvm" "$results/selftests-$flavour" \
			"$seconds" "$@" 2>"$test_log/$step-machine.log"
		echo "machine $? 0"
	)
}

# All of them are built; sets selftests to those that could be.
need_selftests()
{
	local name all=() ours

	mapfile -t ours < <(selftests_ours)
	all=("${selftests_upstream[@]}" "${ours[@]}")
	lock kernel-lab
	need_source lab
	with_progress "building the selftests" "$build/log/selftests.log" \
		build_once selftests build_selftests "${all[@]}" || :
	unlock builds
	unlock kernel-lab
	selftests=()
	for name in "${all[@]}"; do
		if [[ -x $build/selftests/kvm/$name ]]; then
			selftests+=("$name")
		else
			failed "$name builds" "it does not" "$build/log/selftests.log"
		fi
	done
}

# without LIST NAME...: selftests less those.
without()
{
	local name

	for name in "${selftests[@]}"; do
		[[ " $* " == *" $name "* ]] || printf '%s\n' "$name"
	done
}

step_run()
{
	local selftests names machine_options=() slow=()

	# 32764 memslots.
	[[ -z ${LAB_QUICK:-} ]] || slow=(set_memory_region_test)
	need_kernel lab || return
	need_selftests
	mapfile -t names < <(without "$selftest_races" "$selftest_stalls" "${slow[@]}")
	run_selftests lab 600 "${names[@]}"
	[[ -z ${LAB_QUICK:-} ]] || return 0
	machine_options=(--turns)
	step=selftests-turns run_selftests lab 300 "$selftest_races=-t 20"
	machine_options=(--icount)
	if [[ -n ${LAB_ALL:-} ]]; then
		machine_options+=(--mem 8G)
		step=selftests-icount run_selftests lab 3600 "$selftest_stalls=-r 1000000 -p 4096 -m 200"
	else
		step=selftests-icount run_selftests lab 300 "$selftest_stalls"
	fi
}
