# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# lab bench: what bench/ measures, in the patched kernel and in the one without the
# series, with instructions counted.

# What is read of the slabs has to be the maple trees' alone. And zeroing a page
# should count as 512 instructions, which is about what it costs, not as 4096.
bench_append="slab_nomerge clearcpuid=erms"

# build/bench/gmem_bench, with the headers of the patched kernel that was built.
need_bench()
{
	local dir=$build/bench print

	print=$(kernel_dir lab)/lab.fingerprint
	mkdir -p "$dir"
	if ! cmp -s "$print" "$dir/headers/lab.fingerprint"; then
		lock kernel-lab
		need_source lab
		rm -rf "$dir/headers"
		kmake lab -s headers_install INSTALL_HDR_PATH="$dir/headers" >"$build/log/bench-headers.log" 2>&1 ||
			die "the headers cannot be installed: see $build/log/bench-headers.log."
		unlock builds
		unlock kernel-lab
		cp "$print" "$dir/headers/"
	fi
	compile -Wextra -static -isystem "$dir/headers/include" -o "$dir/gmem_bench" "$top"/bench/{gmem_bench,guest,life}.c
}

# bench_run FLAVOUR ARGUMENT...: lines on standard output.
bench_run()
{
	vm_defaults
	vm_flavour=$1 vm_icount=1 vm_smp=1 vm_append=$bench_append
	shift
	vm_run "$build/bench/gmem_bench" "$@" </dev/null
}

# bench_report JSON [QUICK]: what build/bench/lines says; 3 when a target is missed.
bench_report()
{
	awk -v json="$1" -v quick="${2:-0}" -f "$top/bench/report.awk" "$build/bench/lines"
}

cmd_bench()
{
	local json=$results/bench.json quick='' lines=$build/bench/lines status

	while (($#)); do
		case $1 in
		--quick) quick=1 ;;
		--as-is) export LAB_AS_IS=1 ;;
		-o)
			(($# > 1)) || usage_error "bench: -o needs a file."
			json=$2
			shift ;;
		*) usage_error "bench: '$1' is not one of --quick, --as-is, -o FILE." ;;
		esac
		shift
	done
	mkdir -p "$results" "$build/log"
	[[ -d $(dirname "$json") && ! -d $json ]] || die "cannot write $json: there is no such directory."

	need_packages "${packages_kernel[@]}" "${packages_vm[@]}"
	need_kernel lab || exit 2
	# As it is, but not as it is not.
	if [[ -z $quick && ! -f $(kernel_dir stock)/lab.fingerprint ]]; then
		LAB_AS_IS='' need_kernel stock || exit 2
	elif [[ -z $quick ]]; then
		need_kernel stock || exit 2
	fi
	need_bench

	: >"$lines"
	if [[ -n $quick ]]; then
		bench_run lab quick | tee -a "$lines" | bench_progress || exit 2
	else
		bench_run stock faults stock-6.12 | tee -a "$lines" | bench_progress || exit 2
		bench_run lab all | tee -a "$lines" | bench_progress || exit 2
	fi
	echo
	bench_report "$json" "${quick:-0}" && status=0 || status=$?
	say "JSON: ${json#"$top"/}"
	exit "$status"
}

# Show which measure is done.
bench_progress()
{
	local measure path size rest

	while read -r measure path size rest; do
		[[ $measure == *.* ]] || say "measured: $measure, $path, $size"
	done
}
