# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="programs that know nothing but the installed headers: the interface, and a Linux guest"

# build/uapi: include, the programs, and the guest's init.
build_uapi()
{
	local dir=$build/uapi source=$top/kernel/lab/tests.d flags=(-O2 -Wall -Werror)

	mkdir -p "$dir"
	rm -f "$dir"/{uapi,vmm,init}
	kmake lab -s headers_install INSTALL_HDR_PATH="$dir"
	gcc "${flags[@]}" -isystem "$dir/include" -o "$dir/uapi" "$source/uapi.c"
	gcc "${flags[@]}" -isystem "$dir/include" -pthread -o "$dir/vmm" \
		"$source"/linux-guest/{vmm,cpu,load,acpi}.c
	gcc "${flags[@]}" -static -s -o "$dir/init" "$source/linux-guest/init.c"
}

# Inside the machine: NAME=STATUS=ARGUMENTS, each with its own log.
uapi_driver='
	dir=$1
	shift
	for run; do
		name=${run%%=*} args=${run#*=*=}
		begin=$(date +%s)
		case $args in
		uapi*) timeout -k 10 60 "$dir"/$args ;;
		*) timeout -k 10 100 "$dir"/$args "$LAB_KERNEL/vmlinux" "$dir/init" ;;
		esac >"$LAB_RESULTS/uapi/$name.log" 2>&1
		echo "$name $? $(($(date +%s) - begin))"
	done'

# A program that is to fail has to do so for the reason it was given.
uapi_result()
{
	local name=$1 status=$2 seconds=$3 want=$4 log=$test_log/uapi-$1.log

	cp "$results/uapi/$name.log" "$log"
	if [[ -z $want ]]; then
		program_result "${name//-/ }" "$status" "$log" "$seconds"
	elif ((status == 1)) && grep -qE "^FAILED: $want" "$log"; then
		passed "${name//-/ }" "it does: $(tail -n 1 "$log")"
	else
		failed "${name//-/ }" "status $status: $(tail -n 1 "$log")" "$log"
	fi
}

step_run()
{
	local name status seconds run log=$test_log/uapi-machine.log
	local -A want=()
	local runs=(
		"interface,-default-VM==uapi default"
		"interface,-protected-VM==uapi protected"
		"Linux,-default-VM,-1-processor==vmm --cpus 1"
		"Linux,-default-VM,-2-processors==vmm --cpus 2"
		"Linux,-protected-VM,-1-processor==vmm --protected --cpus 1"
		"Linux,-protected-VM,-2-processors==vmm --protected --cpus 2"
		"a-shared-page-is-noticed=before it runs: not all=vmm --break shared"
		"a-page-shared-for-a-moment-is-noticed=while it runs: =vmm --break window"
	)

	need_kernel lab || {
		failed "the lab kernel builds" "see the log" "$build/log/kernel-lab.log"
		return
	}
	lock builds
	need_source lab
	check "they build from the installed headers" build_uapi
	unlock builds
	[[ -x $build/uapi/init ]] || return 0

	rm -rf "$results/uapi"
	mkdir -p "$results/uapi"
	for run in "${runs[@]}"; do
		status=${run#*=}
		want[${run%%=*}]=${status%%=*}
	done
	while read -r name status seconds; do
		if [[ $name == machine ]]; then
			vm_result "the kernel keeps a clean log" "$status" "$log"
			continue
		fi
		uapi_result "$name" "$status" "$seconds" "${want[$name]}"
		unset "want[$name]"
	done < <(
		set +e
		in_lab lab --timeout 900 -- sh -c "$uapi_driver" - "$build/uapi" "${runs[@]}" 2>"$log"
		echo "machine $? 0"
	)
	for name in "${!want[@]}"; do
		failed "${name//-/ }" "did not run to its end: the machine died" "$log"
	done
}
