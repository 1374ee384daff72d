# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

# shellcheck source=kernel/lab/tests.d/82-life.sh
. "$top/kernel/lab/tests.d/82-life.sh"

step_title="Debian's kernels: what they answer libgmem, its tests and examples on them"

step_packages=("${packages_demo[@]}" check libsubunit-dev xz-utils)
step_kernels=(lab)
step_when=not-quick

# An old one, on which ordinary VMs have no guest_memfd; the newest comes beside it.
kernels_old=6.12

kernels=$build/kernels
kernels_file=$top/kernel/lab/kernels.txt

step_exists()
{
	[[ -f $top/libgmem/meson.build ]]
}

# The tests and tools, in a build of this step's own, and the examples as their users build them.
build_kernels()
{
	local dir=$kernels/meson name
	local flags=(-O2 -Wall -Werror -D_GNU_SOURCE -I"$top/libgmem/include" -isystem "$top/libgmem/uapi"
		-isystem "$top/libgmem/uapi/x86")

	[[ -f $dir/build.ninja ]] || meson setup "$dir" "$top"
	ninja -C "$dir" libgmem/libgmem.a libgmem/tests/gmem-tests tools/gmemctl
	for name in "$top"/examples/{probe,numa,guest,dual}.c "$top/kernel/lab/tests.d/kernels.c"; do
		gcc "${flags[@]}" -o "$kernels/$(basename "$name" .c)" "$name" "$dir/libgmem/libgmem.a" -lnuma -lpthread
	done
}

# Inside the machine: each program with its output and its status in files.
kernels_driver='
	kernels=$1
	cd "$LAB_RESULTS/kernels/$2"
	run() {
		name=$1
		shift
		begin=$(date +%s)
		timeout -k 10 900 "$@" >"$name.out" 2>&1
		echo "$? $(($(date +%s) - begin))" >"$name.status"
	}
	run answers "$kernels/kernels"
	[ "$3" = all ] || exit 0
	run gmemctl "$kernels/meson/tools/gmemctl" probe
	for name in probe numa guest dual; do
		run "$name" "$kernels/$name"
	done
	for name in kvm-inplace kvm-inplace-protected kvm-attributes kvm-attributes-protected kvm-dual kvm-shared kvm-plain; do
		run "$name" "$kernels/meson/libgmem/tests/gmem-tests" "$name"
	done'

# run_kernel SERIES WHAT OPTION...: the driver, in the machine that the options describe.
run_kernel()
{
	local series=$1 what=$2 log=$test_log/kernels-machine-$1.log status=0
	shift 2

	at=$results/kernels/$series
	rm -rf "$at"
	mkdir -p "$at"
	in_lab lab --timeout 1800 "$@" -- sh -c "$kernels_driver" - "$kernels" "$series" "$what" >"$log" 2>&1 || status=$?
	vm_result "the kernel keeps a clean log" "$status" "$log"
	[[ -s $at/answers.status ]]
}

# status_of NAME: what it ended with, and after how many seconds.
status_of()
{
	cat "$at/$1.status" 2>/dev/null || echo 124 0
}

# answered VM COLUMN: 1 is AUTO's mode, 2 what places, 3 the capabilities.
answered()
{
	awk -v vm="$1" -v column="$2" '$1 == vm { print $(column + 1) }' "$at/answers.out"
}

answered_cap()
{
	[[ ,$(answered "$1" 3), == *,$2,* ]]
}

# The lines of a series as kernels.txt has them, without comments; all without an argument.
recorded()
{
	awk -v series="${1:-}" '!/^#/ && NF && (series == "" || $1 == series)' "$kernels_file"
}

# kernels.txt with what was seen in the place of what it has, in order.
recorded_anew()
{
	local series=$1

	grep '^#' "$kernels_file"
	{
		recorded | awk -v series="$series" '$1 != series'
		sed "s/^/$series /" "$at/answers.out"
	} | LC_ALL=C sort -V
}

# The answers are those that are recorded, or this says how to record them.
compare_answers()
{
	local series=$1 new=$results/kernels/kernels.txt status seconds

	read -r status seconds < <(status_of answers)
	cat "$at/answers.out"
	[[ $status == 0 ]] || return 1
	recorded_anew "$series" >"$new"
	diff -u <(recorded "$series") <(sed "s/^/$series /" "$at/answers.out") && return
	echo "if that is right: cp ${new#"$top"/} kernel/lab/kernels.txt, and correct README.md and gmem(7)"
	return 1
}

# gmemctl probe ends with 0, and offers conversions only where there are some.
gmemctl_agrees()
{
	local status seconds converts=no

	read -r status seconds < <(status_of gmemctl)
	cat "$at/gmemctl.out"
	case $(answered plain 1),$(answered sw-protected 1) in
	*in-place* | *attributes* | *dual*) converts=yes ;;
	esac
	echo "status $status, should be 0"
	[[ $status == 0 ]]
	grep -E "^guests that ask to convert +$converts" "$at/gmemctl.out"
	[[ $(answered sw-protected 1) != no-vm ]] || grep -F CONFIG_KVM_SW_PROTECTED_VM "$at/gmemctl.out"
}

# example NAME WORKS: where the kernel can, it ends well, elsewhere it says in a line why not.
example()
{
	local status seconds

	read -r status seconds < <(status_of "$1")
	cat "$at/$1.out"
	if [[ -n $2 ]]; then
		[[ $status == 0 ]]
	else
		[[ $status == 1 && $(grep -c . "$at/$1.out") == 1 ]]
	fi
}

check_example()
{
	local name=$1
	shift

	if "$@"; then
		check "example $name" example "$name" works
	else
		check "example $name is refused" example "$name" ''
	fi
}

# check_world NAME VM CAPABILITY: what the kernel has, has to be tested.
check_world()
{
	local name=$1 status seconds log=$test_log/kernels-$series-$1.log

	cp "$at/$name.out" "$log" 2>/dev/null || :
	read -r status seconds < <(status_of "$name")
	if [[ $status == 77 ]] && answered_cap "$2" "$3"; then
		failed "$name" "skipped, but the kernel has it" "$log"
	else
		program_result "$name" "$status" "$log" "$seconds"
	fi
}

# A Linux guest in shared memory, by the launcher. For --turns, see 50-selftests.sh.
boots_linux()
{
	local output

	output=$(in_lab lab --kernel "$1" --turns --timeout 600 -- "$build/meson/examples/launcher/gmem-launch" \
		--shared --kernel "$(kernel_dir lab)/arch/x86/boot/bzImage" --initrd "$build/demo/initrd" \
		--append "console=ttyS0 quiet panic=-1 reboot=k rdinit=/init" </dev/null 2>&1) || :
	echo "$output"
	[[ $output == *"guest: good bye"* ]]
}

places_by_policy()
{
	[[ $(answered plain 2) == policy ]]
}

# check_kernel SERIES VERSION
check_kernel()
{
	local series=$1 version=$2 step=kernels-$1

	run_kernel "$series" all --kernel "$version" || return 0
	if [[ -n $(recorded "$series") ]]; then
		check "it answers as before" compare_answers "$series"
	else
		recorded_anew "$series" >"$results/kernels/kernels.txt"
		skipped "it answers as before" "$version is new: cp ${results#"$top"/}/kernels/kernels.txt kernel/lab/kernels.txt"
	fi
	check "gmemctl probe" gmemctl_agrees
	check_example probe true
	check_example numa places_by_policy
	check_example guest answered_cap plain in-place
	check_example dual answered_cap sw-protected dual
	check_world kvm-inplace plain in-place
	check_world kvm-inplace-protected sw-protected in-place
	check_world kvm-attributes plain attributes
	check_world kvm-attributes-protected sw-protected attributes
	check_world kvm-dual sw-protected dual
	check_world kvm-shared plain shared
	check_world kvm-plain plain plain
	check "the launcher boots Linux in shared memory" boots_linux "$version"
}

series_of()
{
	[[ $1 =~ ^[0-9]+\.[0-9]+ ]] && echo "${BASH_REMATCH[0]}"
}

# An unknown version, and one that is known but gone, are told so.
version_is_refused()
{
	local output

	output=$(env -u LAB_AS_IS "$top/lab" run --kernel 1.0 true 2>&1) && return 1
	echo "$output"
	[[ $output == *"has no kernel 1.0"*"there are 6."* ]]
}

step_run()
{
	local version series wanted=() newest=''
	local -A have=()

	mkdir -p "$kernels" "$results/kernels"
	check_build "it builds" build_kernels
	[[ -x $kernels/kernels ]] || return 0

	need_launcher || return 0
	if step=kernels-gmem run_kernel gmem answers; then
		step=kernels-gmem check "it answers as before" compare_answers gmem
	fi

	lock debian-kernels
	need_debian_lists
	unlock debian-kernels
	while read -r version; do
		series=$(series_of "$version")
		have[$series]=$version
		[[ -z $(recorded "$series") ]] || newest=$series
	done < <(debian_newest)
	if ((!${#have[@]})); then
		skipped "Debian's kernels" "none can be had: see $build/log/debian-lists.log"
		return
	fi
	check "a version that there is not" version_is_refused
	mapfile -t wanted < <(
		if [[ -n ${LAB_ALL:-} ]]; then
			recorded | awk '$1 != "gmem" { print $1 }'
			printf '%s\n' "${!have[@]}"
		else
			printf '%s\n' "$kernels_old" "$newest"
		fi | sort -Vu
	)
	for series in "${wanted[@]}"; do
		if [[ -z ${have[$series]:-} ]]; then
			step=kernels-$series skipped "all of it" "Debian's archive does not have this kernel any more"
		elif ! need_debian_kernel "${have[$series]}"; then
			step=kernels-$series skipped "all of it" "it cannot be had: see $build/log/debian-${have[$series]}.log"
		else
			check_kernel "$series" "${have[$series]}"
		fi
	done
}
