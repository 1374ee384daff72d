# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

step_title="a program that knows nothing but the installed headers, on the lab's kernels"

build_uapi()
{
	local dir=$build/uapi

	mkdir -p "$dir"
	rm -f "$dir/uapi"
	kmake lab -s headers_install INSTALL_HDR_PATH="$dir"
	gcc -O2 -Wall -Werror -isystem "$dir/include" -o "$dir/uapi" "$top/kernel/lab/tests.d/uapi.c"
}

step_run()
{
	local flavour type

	need_kernel lab || {
		failed "the lab kernel builds" "see the log" "$build/log/kernel-lab.log"
		return
	}
	lock builds
	need_source lab
	check "it builds from the installed headers" build_uapi
	unlock builds
	for type in default protected; do
		check "a $type VM" in_lab lab --timeout 120 "$build/uapi/uapi" "$type"
	done
}
