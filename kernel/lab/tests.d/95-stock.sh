# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# shellcheck source=kernel/lab/tests.d/70-libgmem-lab.sh
. "$top/kernel/lab/tests.d/70-libgmem-lab.sh"
# shellcheck source=kernel/lab/tests.d/82-life.sh
. "$top/kernel/lab/tests.d/82-life.sh"
# shellcheck source=kernel/lab/tests.d/85-gmemctl.sh
. "$top/kernel/lab/tests.d/85-gmemctl.sh"

step_title="stock 6.12 with the lab's configuration, where protected VMs have dual mode"
step_packages=("${packages_demo[@]}" check libsubunit-dev python3)
step_kernels=(lab stock)
step_when=all

step_run()
{
	need_kernel stock || return
	check_build "libgmem builds" build_libgmem plain --werror -Db_coverage=false
	run_worlds stock kvm-inplace kvm-attributes kvm-dual kvm-shared kvm-plain
	if need_launcher; then
		run_launcher stock old "${launcher_old_runs[@]}"
		run_launcher stock life-old "${life_old_runs[@]}"
	fi
	need_gmemctl || return 0
	run_gmemctl stock "$gmemctl_stock_driver"
	check "stock: probe: 0" ran stock-probe 0 "in software-protected VMs only"
	check "stock: list: the size, and what is populated" agrees stock
	check "stock: list: and why" grep -q "needs gmem's series" "$results/gmemctl/stock-list.err"
	check "stock: show: is refused" ran stock-show 3 "the kernel does not report ranges"
	check "stock: bench: in dual mode" ran stock-bench 0 "of dual mode"
}
