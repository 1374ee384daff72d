# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# shellcheck source=kernel/lab/tests.d/50-selftests.sh
. "$top/kernel/lab/tests.d/50-selftests.sh"

step_title="data races in the series' code: KCSAN"
step_kernels=(lab kcsan)
step_when=all

is_watched()
{
	nm "$(kernel_dir kcsan)/mm/guestmem/folio.o" | grep __tsan_read
}

is_on()
{
	in_lab kcsan --timeout 120 -- grep -x 'enabled: 1' /sys/kernel/debug/kcsan
}

step_run()
{
	local selftests

	need_kernel lab && need_kernel kcsan || return
	need_selftests
	check "the series' code is watched" is_watched
	check "KCSAN is on" is_on
	run_selftests kcsan 900 "$selftest_races=-t 30" "${selftests_threads[@]}"
}
