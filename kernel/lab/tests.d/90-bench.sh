# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

step_title="bench, up to 64 MiB; with --all up to 1 GiB, and beside stock 6.12"

step_kernels=(lab)
step_when=not-quick

step_run()
{
	local log=$test_log/bench.log status options=(--quick)

	[[ -z ${LAB_ALL:-} ]] || options=()
	set +e
	"$top/lab" bench "${options[@]}" -o "$test_log/bench.json" >"$log" 2>&1
	status=$?
	set -e
	case $status in
	0) passed "the targets are reached" ;;
	3) failed "the targets are reached" "$(sed -n 's/ targets are missed\.$//p' "$log") are not" "$log" ;;
	*) failed "it can be measured" "status $status: $(tail -n 1 "$log")" "$log" ;;
	esac
}
