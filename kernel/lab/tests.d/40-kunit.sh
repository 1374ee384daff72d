# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="KUnit in the lab's kernel, as modules"

step_kernels=(lab)

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

# Inside the machine, from a kernel's directory: each module, and what all of them found. The
# random tests make $rounds operations.
kunit_driver='
	insmod lib/kunit/kunit.ko || exit
	for module; do
		options=
		! modinfo -F parm "$module" | grep -q ^rounds: || options=${rounds:+rounds=$rounds}
		insmod "$module" $options || exit
	done
	cat /sys/kernel/debug/kunit/*/results'

step_run()
{
	local dir modules log=$test_log/kunit.log status

	dir=$(kernel_dir lab)
	mapfile -t modules < <(kunit_modules "$dir")
	if ((${#modules[@]} == 0)); then
		failed "the lab kernel has test modules" "there is none"
		return
	fi
	set +e
	(cd "$dir" && in_lab lab --timeout 900 -- sh -c "$kunit_driver" - "${modules[@]}") >"$log" 2>"$log.err"
	status=$?
	set -e
	kunit_results "$log"
	vm_result "the kernel keeps a clean log" "$status" "$log.err"
}
