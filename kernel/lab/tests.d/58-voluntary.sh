# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

# shellcheck source=kernel/lab/tests.d/50-selftests.sh
. "$top/kernel/lab/tests.d/50-selftests.sh"

step_title="the debug kernel, preempted as Debian's, with kmemleak"
step_kernels=(lab debug)
step_when=all

step_run()
{
	local selftests machine_options=(--append "preempt=voluntary kmemleak=on")

	need_kernel lab && need_kernel debug || return
	need_selftests
	run_selftests debug 1200 "$selftest_races=-t 60" "${selftests_threads[@]}"
}
