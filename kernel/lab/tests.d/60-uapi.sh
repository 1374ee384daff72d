# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="programs that know nothing but the installed headers: both interfaces, and a Linux guest"

step_kernels=(lab)

# build/uapi: include, the programs, and the guest's init.
build_uapi()
{
	local dir=$build/uapi source=$top/kernel/lab/tests.d flags=(-O2 -Wall -Werror)

	mkdir -p "$dir"
	rm -f "$dir"/{uapi,attributes2,vmm,init}
	kmake lab -s headers_install INSTALL_HDR_PATH="$dir"
	gcc "${flags[@]}" -isystem "$dir/include" -o "$dir/uapi" "$source/uapi.c"
	gcc "${flags[@]}" -isystem "$dir/include" -o "$dir/attributes2" "$top/examples/attributes2.c"
	gcc "${flags[@]}" -isystem "$dir/include" -I "$top/examples/launcher" -pthread -o "$dir/vmm" \
		"$source"/linux-guest/{vmm,memory,cpu,load}.c "$top/examples/launcher/acpi.c"
	gcc "${flags[@]}" -static -s -o "$dir/init" "$source/linux-guest/init.c"
}

# NAME=WHY=ARGUMENTS: a program of build/uapi, and if it is to fail, what it has to say.
uapi_runs_lab=(
	"interface,-default-VM==uapi default"
	"interface,-protected-VM==uapi protected"
	"the-interface-of-mainline==attributes2"
	"Linux,-default-VM,-1-processor==vmm --cpus 1"
	"Linux,-default-VM,-2-processors==vmm --cpus 2"
	"Linux,-protected-VM,-1-processor==vmm --protected --cpus 1"
	"Linux,-protected-VM,-2-processors==vmm --protected --cpus 2"
	"a-shared-page-is-noticed=before it runs: not all=vmm --break shared"
	"a-page-shared-for-a-moment-is-noticed=while it runs: =vmm --break window"
	"use-of-a-host-address-is-noticed=somebody used=vmm --break address"
)
uapi_runs_debug=(
	"interface,-default-VM==uapi default"
	"interface,-protected-VM==uapi protected"
	"the-interface-of-mainline==attributes2"
	"Linux,-protected-VM,-2-processors==vmm --limit 600 --protected"
	"Linux,-default-VM,-2-processors==vmm --limit 600"
)

# Inside the machine: each with its own log, and a line when it is done.
uapi_driver='
	dir=$1 vmlinux=$2 logs=$3
	shift 3
	for run; do
		name=${run%%=*} args=${run#*=*=}
		begin=$(date +%s)
		case $args in
		uapi* | attributes2) timeout -k 10 120 "$dir"/$args ;;
		*) timeout -k 10 700 "$dir"/$args "$vmlinux" "$dir/init" ;;
		esac >"$logs/$name.log" 2>&1
		echo "$name $? $(($(date +%s) - begin))"
	done'

# A program that is to fail has to do so for the reason it was given.
uapi_result()
{
	local name=$1 status=$2 seconds=$3 want=$4 log=$test_log/$step-$1.log

	cp "$results/uapi-$step/$name.log" "$log"
	if [[ -z $want ]]; then
		program_result "${name//-/ }" "$status" "$log" "$seconds"
	elif ((status == 1)) && grep -q "^FAILED: $want" "$log"; then
		passed "${name//-/ }" "$seconds s"
	else
		failed "${name//-/ }" "status $status: $(tail -n 1 "$log")" "$log"
	fi
}

run_uapi()
{
	local flavour=$1 name status seconds run log=$test_log/$step-machine.log
	local -A want=()
	shift

	# Two steps do this, maybe at once.
	rm -rf "$results/uapi-$step"
	mkdir -p "$results/uapi-$step"
	for run; do
		status=${run#*=}
		want[${run%%=*}]=${status%%=*}
	done
	# The status of the machine comes last, as a line of its own.
	while read -r name status seconds; do
		if [[ $name == machine ]]; then
			vm_result "the kernel keeps a clean log" "$status" "$log"
			continue
		fi
		uapi_result "$name" "$status" "$seconds" "${want[$name]}"
		unset "want[$name]"
	done < <(
		set +e
		in_lab "$flavour" --turns --timeout 2400 -- sh -c "$uapi_driver" - "$build/uapi" \
			"$(kernel_dir lab)/vmlinux" "$results/uapi-$step" "$@" 2>"$log"
		echo "machine $? 0"
	)
	for name in "${!want[@]}"; do
		failed "${name//-/ }" "did not run to its end: the machine died" "$log"
	done
}

# Whatever the flavour, the guest is the lab's kernel. For --turns, see 50-selftests.sh.
need_uapi()
{
	need_kernel lab || return
	lock kernel-lab
	need_source lab
	check_build "they build from the installed headers" build_once uapi build_uapi
	unlock builds
	unlock kernel-lab
	[[ -x $build/uapi/init ]]
}

step_run()
{
	need_uapi || return 0
	run_uapi lab "${uapi_runs_lab[@]}"
}
