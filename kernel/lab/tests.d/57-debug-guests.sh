# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# shellcheck source=kernel/lab/tests.d/60-uapi.sh
. "$top/kernel/lab/tests.d/60-uapi.sh"
# shellcheck source=kernel/lab/tests.d/82-life.sh
. "$top/kernel/lab/tests.d/82-life.sh"

step_title="Linux guests on the debug kernel: private, started again, and cloned"
step_packages=("${packages_demo[@]}")
step_kernels=(lab debug)
step_when=not-quick

step_run()
{
	need_kernel debug || return
	need_uapi && run_uapi debug "${uapi_runs_debug[@]}"
	need_launcher && run_launcher debug life-debug "${life_runs[1]}" "${life_runs[6]}"
}
