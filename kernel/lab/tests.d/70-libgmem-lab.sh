# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# How it is built.
# shellcheck source=kernel/lab/tests.d/65-libgmem.sh
. "$top/kernel/lab/tests.d/65-libgmem.sh"

step_title="libgmem in every mode on the lab's kernel, its examples, and what it adds to an ioctl"
step_packages=(meson ninja-build pkg-config libnuma-dev check libsubunit-dev)
step_kernels=(lab)

# Inside the machine: each world with its own log, and a line when it is done.
libgmem_driver='
	tests=$1 logs=$2
	shift 2
	echo 8 >/proc/sys/vm/nr_hugepages
	for world; do
		begin=$(date +%s)
		timeout -k 10 300 "$tests" "$world" >"$LAB_RESULTS/$logs/$world.log" 2>&1
		echo "$world $? $(($(date +%s) - begin))"
	done'

run_worlds()
{
	local flavour=$1 logs=libgmem-$1 log=$test_log/libgmem-machine-$1.log world status seconds
	shift

	rm -rf "${results:?}/$logs"
	mkdir -p "$results/$logs"
	while read -r world status seconds; do
		if [[ $world == machine ]]; then
			vm_result "the $flavour kernel keeps a clean log" "$status" "$log"
			continue
		fi
		cp "$results/$logs/$world.log" "$test_log/libgmem-$flavour-$world.log"
		program_result "$world" "$status" "$test_log/libgmem-$flavour-$world.log" "$seconds"
	done < <(
		set +e
		in_lab "$flavour" --timeout 600 -- sh -c "$libgmem_driver" - \
			"$build/libgmem-plain/libgmem/tests/gmem-tests" "$logs" "$@" 2>"$log"
		echo "machine $? 0"
	)
}

# The examples, as their users build them but for pkg-config; each has to end well.
run_examples()
{
	local name dir=$build/libgmem-examples

	mkdir -p "$dir"
	for name in probe numa guest dual attributes2; do
		libgmem_cc "$dir/$name" "$top/examples/$name.c" "$build/libgmem-plain/libgmem/libgmem.a" -lnuma -lpthread
	done
	in_lab lab --timeout 120 -- sh -ec 'for name in probe numa guest dual attributes2; do
		echo "--- $name"; "$1/$name"; done' - "$dir"
}

# In instructions; fails where it gets much worse, see bench/README.md.
run_overhead()
{
	local dir=$build/libgmem-bench

	mkdir -p "$dir"
	libgmem_cc "$dir/bench" "$top/bench/libgmem.c" -Wl,--wrap=malloc,--wrap=calloc \
		"$build/libgmem-plain/libgmem/libgmem.a" -lpthread
	in_lab lab --icount --timeout 200 -- "$dir/bench"
}

step_run()
{
	need_kernel lab || return
	check_build "it builds" build_libgmem plain --werror -Db_coverage=false
	[[ -x $build/libgmem-plain/libgmem/tests/gmem-tests ]] || return 0
	run_worlds lab kvm-inplace kvm-inplace-protected kvm-attributes kvm-attributes-protected kvm-dual \
		kvm-shared kvm-plain
	check "the examples" run_examples
	[[ -z ${LAB_QUICK:-} ]] || return 0
	check "what the library adds" run_overhead
}
