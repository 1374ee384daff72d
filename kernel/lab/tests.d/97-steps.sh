# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

step_title="each patch of the series builds without the later ones; checkpatch; sparse"
step_packages=("${packages_check[@]}")
step_kernels=(lab)
step_when=all

step_run()
{
	local name

	for name in style sparse steps; do
		check "check $name" "$top/lab" check "$name"
	done
}
