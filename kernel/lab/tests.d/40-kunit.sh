# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="KUnit in the lab's kernels, as modules"

step_exists()
{
	[[ -n $(kunit_configs) ]]
}

# The test modules that this series adds, relative to a kernel's directory.
kunit_modules()
{
	local config

	kunit_configs | while IFS= read -r config; do
		config=${config%/.kunitconfig}
		config=${config#"$files"/}
		(cd "$1" && find "$config" -name '*.ko' 2>/dev/null | LC_ALL=C sort)
	done | sort -u
}

step_run()
{
	local flavour dir modules log status

	for flavour in lab debug; do
		if ! need_kernel "$flavour"; then
			failed "the $flavour kernel builds" "see the log" "$build/log/kernel-$flavour.log"
			continue
		fi
		dir=$(kernel_dir "$flavour")
		log=$test_log/kunit-$flavour.log
		mapfile -t modules < <(kunit_modules "$dir")
		if ((${#modules[@]} == 0)); then
			failed "the $flavour kernel has test modules" "there is none"
			continue
		fi
		set +e
		(cd "$dir" && in_lab "$flavour" --timeout 900 -- sh -c '
			insmod lib/kunit/kunit.ko || exit
			for module; do
				insmod "$module" || exit
			done
			cat /sys/kernel/debug/kunit/*/results' - "${modules[@]}") >"$log" 2>"$log.err"
		status=$?
		set -e
		step=kunit-$flavour kunit_results "$log"
		vm_result "the $flavour kernel keeps a clean log" "$status" "$log.err"
	done
}
