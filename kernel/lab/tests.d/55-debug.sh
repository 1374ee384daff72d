# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# What is run here, and how, is in these.
# shellcheck source=kernel/lab/tests.d/40-kunit.sh
. "$top/kernel/lab/tests.d/40-kunit.sh"
# shellcheck source=kernel/lab/tests.d/50-selftests.sh
. "$top/kernel/lab/tests.d/50-selftests.sh"

step_title="on the debug kernel: what has a lock, an allocation or an error path"
step_kernels=(lab debug)
step_when=not-quick

# Each bad argument is refused the same way here; what they allocate or lock others do too.
# gmem_latency_test, others_go_on of gmem_bind_test and memcg_limit of gmem_account_test make
# tens of thousands of runs, each of which takes milliseconds on this kernel.
selftests_not_debug=(gmem_bad_input_test gmem_stock_test gmem_latency_test "$selftest_stalls")
cases_not_debug=(others_go_on memcg_limit)

# With --all only: 32764 memslots, each with a grace period, which takes minutes; and what each
# system call answers, which differs in nothing here.
selftests_slow=(set_memory_region_test gmem_syscall_test)

# with_options OPTIONS NAME...: the options for those that know the harness's.
with_options()
{
	local options=$1 name
	shift

	for name; do
		if grep -qs test_harness_run "$files/tools/testing/selftests/kvm/$name.c"; then
			printf '%s=%s\n' "$name" "$options"
		else
			printf '%s\n' "$name"
		fi
	done
}

# Inside the machine, in one boot: KUnit, then the selftests.
debug_driver='
	kernel=$1 logs=$2 kunit=$3 selftests=$4 rounds=$5
	shift 5
	export rounds
	(cd "$kernel" && sh -c "$kunit" - $(cat "$logs/modules")) >"$logs/kunit.log" 2>&1
	sh -c "$selftests" - "$@"'

step_run()
{
	local selftests name names logs=$results/selftests-debug log=$test_log/debug-machine.log
	local races=60 rounds=10000 options=${cases_not_debug[*]/#/-T }

	need_kernel lab && need_kernel debug || return
	need_selftests
	if [[ -n ${LAB_ALL:-} ]]; then
		races=600 rounds=''
		mapfile -t names < <(without "$selftest_races" "${selftests_not_debug[@]}")
	else
		mapfile -t names < <(without "$selftest_races" "${selftests_not_debug[@]}" "${selftests_slow[@]}")
		# What the types of VM differ in is seen on the other kernel, with both, and here by the
		# tree's own tests.
		options+=" -V default_vm_hva -V sw_protected_vm -V sw_protected_vm_no_hva"
		for name in "${selftests_slow[@]}"; do
			skipped "$name" "--all runs it on the debug kernel"
		done
	fi
	mapfile -t names < <(with_options "$options" "${names[@]}")
	names+=("$selftest_races=-t $races")
	rm -rf "$logs"
	mkdir -p "$logs"
	kunit_modules "$(kernel_dir debug)" >"$logs/modules"
	selftest_results debug "${names[@]}" < <(
		set +e
		in_lab debug --timeout 7200 -- sh -c "$debug_driver" - "$(kernel_dir debug)" "$logs" \
			"$kunit_driver" "$selftests_driver" "$rounds" "$build/selftests/kvm" "$logs" 1200 "${names[@]}" 2>"$log"
		echo "machine $? 0"
	)
	kunit_results "$logs/kunit.log"
}
