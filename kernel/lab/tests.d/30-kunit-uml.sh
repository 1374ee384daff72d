# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

step_title="KUnit under ARCH=um, plain and with KASAN, lockdep and DEBUG_VM"

step_exists()
{
	[[ -n $(kunit_configs) ]]
}

step_run()
{
	local flavour log status splat

	for flavour in uml uml-debug; do
		if ! need_kernel "$flavour"; then
			failed "$flavour builds" "see the log" "$build/log/kernel-$flavour.log"
			continue
		fi
		log=$test_log/kunit-$flavour.log
		set +e
		timeout -k 5 600 "$(kernel_dir "$flavour")/linux" mem=1G console=tty kunit_shutdown=halt >"$log" 2>&1
		status=$?
		set -e
		step=kunit-$flavour kunit_results "$log"
		splat=$(first_splat "$log" | head -n 1)
		if ((status == 124 || status == 137)); then
			failed "$flavour ends" "not done in 600 s" "$log"
		elif [[ -n $splat ]]; then
			failed "$flavour keeps a clean log" "$splat" "$log"
		else
			passed "$flavour keeps a clean log"
		fi
	done
}
