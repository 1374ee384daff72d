# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# shellcheck source=kernel/lab/tests.d/50-selftests.sh
. "$top/kernel/lab/tests.d/50-selftests.sh"

step_title="data races in the series' code: KCSAN"
step_kernels=(lab kcsan)
step_when=all

# What has threads.
kcsan_tests=(gmem_race_test=-t\ 30 gmem_bind_test gmem_clone_test gmem_convert_test gmem_link_test
	gmem_move_test gmem_poison_test gmem_share_test)

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
	local selftests machine_options=()

	need_kernel lab && need_kernel kcsan || return
	need_selftests
	check "the series' code is watched" is_watched
	check "KCSAN is on" is_on
	run_selftests kcsan 900 "${kcsan_tests[@]}"
}
