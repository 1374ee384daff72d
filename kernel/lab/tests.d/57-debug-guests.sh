# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# shellcheck source=kernel/lab/tests.d/60-uapi.sh
. "$top/kernel/lab/tests.d/60-uapi.sh"
# shellcheck source=kernel/lab/tests.d/82-life.sh
. "$top/kernel/lab/tests.d/82-life.sh"

step_title="Linux guests on the debug kernel, preempted as Debian's"
step_packages=("${packages_demo[@]}")
step_kernels=(lab debug)
step_when=not-quick

# A boot takes minutes here. What the others have beside these two, the lab's kernel and the
# selftests on this one have as well: ordinary VMs, and memory that goes from VM to VM.
guests_uapi=("${uapi_runs_debug[@]:1:2}")
guests_life=("${life_runs[6]}")
if [[ -n ${LAB_ALL:-} ]]; then
	guests_uapi=("${uapi_runs_debug[@]}")
	guests_life+=("${life_runs[1]}")
fi

step_run()
{
	# The selftests run with the other kind of preemption.
	local machine_options=(--append preempt=voluntary)

	need_kernel debug || return
	need_uapi && run_uapi debug "${guests_uapi[@]}"
	need_launcher && run_launcher debug life-debug "${guests_life[@]}"
}
