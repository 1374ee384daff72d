# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="lab run: what comes out of the machine is what went on inside"

step_kernels=(lab)

# ends STATUS COMMAND...: lab run, and its status.
ends()
{
	local want=$1 got
	shift

	"$top/lab" run --timeout 120 "$@" && got=0 || got=$?
	echo "status $got, should be $want"
	((got == want))
}

# says TEXT STATUS COMMAND...: and its standard output, to the byte.
says()
{
	local want=$1 status=$2 got
	shift 2

	got=$("$top/lab" run --timeout 120 "$@" && echo "status 0" || echo "status $?")
	printf '%s\n' "--- got" "$got" "--- should be" "$want" "status $status"
	[[ $got == "$want"$'\n'"status $status" ]]
}

arguments_survive()
{
	says '<a b><><$HOME><"x">'$'<new\nline>'"<it's><*><\\n>" 0 \
		bash -c 'printf "<%s>" "$@"; echo' - 'a b' '' '$HOME' '"x"' $'new\nline' "it's" '*' '\n'
}

streams_are_apart()
{
	says 'to stdout' 0 sh -c 'echo to stdout; echo to stderr >&2' 2>"$test_log/stderr" &&
		grep -qx 'to stderr' "$test_log/stderr"
}

input_arrives()
{
	local sum

	seq 1 100000 >"$build/numbers"
	sum=$(sha1sum <"$build/numbers")
	says "$sum" 0 sha1sum <"$build/numbers"
}

results_stay()
{
	rm -f "$results/probe"
	LAB_RESULTS='' ends 0 sh -c 'echo here >"$LAB_RESULTS/probe" && rm -f "$1/lab"' - "$top" &&
		[[ $(<"$results/probe") == here && -e $top/lab ]]
}

# A log line that reads like a splat stands for one.
splat_is_seen()
{
	ends 120 sh -c 'echo "<4>WARNING: CPU: 0 PID: 1 at lab" >/dev/kmsg; exit 3'
}

panic_is_seen()
{
	ends 121 sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
}

# await_start PID: until the command of that ./lab runs in its machine.
await_start()
{
	local dir

	until dir=$(grep -lx "$1" "$build"/run/*/pid 2>/dev/null) && [[ -e ${dir%/pid}/ctl/started ]]; do
		kill -0 "$1" || return
		sleep 0.1
	done
}

interrupt_leaves_nothing()
{
	local lab qemu

	"$top/lab" run sleep 1000 &
	lab=$!
	await_start "$lab"
	qemu=$(pgrep -P "$lab" qemu)
	kill "$lab"
	wait "$lab" || :
	[[ -n $qemu ]] && ! kill -0 "$qemu" 2>/dev/null
}

# emulator_with WORDS OPTION...: the machine's QEMU has WORDS among its arguments.
emulator_with()
{
	local words=$1 lab qemu='' n=0 status=0
	shift

	"$top/lab" run "$@" sleep 1000 &
	lab=$!
	until qemu=$(pgrep -P "$lab" qemu) || ((n++ >= 100)); do sleep 0.1; done
	tr '\0' '\n' <"/proc/$qemu/cmdline" | grep -Fx -- "$words" || status=1
	kill "$lab"
	wait "$lab" || :
	return "$status"
}

step_run()
{
	check "the command's status is lab's" ends 7 sh -c 'exit 7'
	check "a signal's too" ends 139 sh -c 'kill -SEGV $$'
	check "a command that does not exist" ends 127 no-such-command
	check "arguments survive" arguments_survive
	check "directory and environment" says "$PWD here" 0 env PROBE=here sh -c 'echo "$PWD $PROBE"'
	check "output and errors are apart" streams_are_apart
	check "standard input arrives" input_arrives
	check "only results stay" results_stay
	check "two nodes, and KVM" says $'0-1\n1' 0 \
		sh -c 'cat /sys/devices/system/node/has_memory; test -c /dev/kvm && cat /sys/module/kvm_amd/parameters/npt | tr Y 1'
	check "five processors" says "0-4" 0 --smp 5 --mem 1G cat /sys/devices/system/cpu/online
	check "instructions counted" says "0" 0 --icount cat /sys/devices/system/cpu/online
	check "processors run beside each other" emulator_with tcg,thread=multi
	check "processors take turns" emulator_with tcg,thread=single --turns
	check "time's up" ends 124 --timeout 3 sleep 1000
	check "a splat makes it fail" splat_is_seen
	check "a panic makes it fail" panic_is_seen
	check "an interrupt leaves nothing behind" interrupt_leaves_nothing
}
