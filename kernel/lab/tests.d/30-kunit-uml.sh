# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

step_title="KUnit under ARCH=um"

# Its kernel takes minutes to build, and the same tests run on the lab's kernels. What it
# has beside them are the checks of maple trees.
step_when=all
step_kernels=(uml)

step_exists()
{
	[[ -n $(kunit_configs) ]]
}

step_run()
{
	local log=$test_log/kunit-uml.log status splat

	need_kernel uml || return
	set +e
	timeout -k 5 600 "$(kernel_dir uml)/linux" mem=1G console=tty kunit_shutdown=halt >"$log" 2>&1
	status=$?
	set -e
	kunit_results "$log"
	splat=$(first_splat "$log" | head -n 1)
	if ((status == 124 || status == 137)); then
		failed "uml ends" "not done in 600 s" "$log"
	elif [[ -n $splat ]]; then
		failed "uml keeps a clean log" "$splat" "$log"
	else
		passed "uml keeps a clean log"
	fi
}
