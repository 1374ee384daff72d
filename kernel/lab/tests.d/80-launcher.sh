# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="the launcher: the demo, guests of all kinds, and what it refuses"

# NAME=STATUS=SAID=ARGUMENTS: how it ends, and what it has to say. @K, @I: kernel, initrd.
launcher_runs=(
	"boots private on one node=0=guest: good bye=--kernel @K --initrd @I"
	"boots private, software-protected=0=guest: good bye=--kernel @K --initrd @I --vm-type sw-protected --cpus 2"
	"boots shared when it is told to=0=is SHARED=--kernel @K --initrd @I --shared"
	"boots in shared mode=0=shared mode=--kernel @K --initrd @I --shared --mode shared --stats"
	"does not share by itself=1=no private memory=--kernel @K --initrd @I --mode shared"
	"has no dual mode for such guests=1=loses what is loaded=--kernel @K --initrd @I --mode dual --vm-type sw-protected"
	"needs a kernel=2=usage=--initrd @I"
	"knows its options=2=unrecognized option=--kernel @K --nonsense"
	"needs a kernel that is there=1=No such file=--kernel /nowhere"
	"needs a bzImage=1=is no bzImage=--kernel @I"
	"needs all of the bzImage=1=is truncated=--kernel @T"
	"needs memory for the kernel=1=does not fit into 32 MiB=--kernel @K --mem 32M"
	"needs an initrd that is there=1=initrd /nowhere: No such file=--kernel @K --initrd /nowhere"
	"needs memory for the initrd=1=does not fit beside=--kernel @K --initrd @B --mem 64M"
	"knows the host's nodes=1=has no node 7=--kernel @K --numa 7:64M"
	"wants sizes=1=is no size=--kernel @K --mem much"
	"wants no more than it can map=1=memory is at most=--kernel @K --mem 16G"
	"wants processors=1=--cpus wants 1 to 8=--kernel @K --cpus 9"
	"knows its modes=1=there is no mode=--kernel @K --mode quick"
	"says where a map cannot go=1=No such file=--kernel @K --initrd @I --map /nowhere/map.svg"
	"needs KVM=1=/dev/kvm=--kernel @K --initrd @I"
)

launcher_driver='
	launch=$1 kernel=$2 initrd=$3
	shift 3
	out=$LAB_RESULTS/launcher
	head -c 2000000 "$kernel" >/tmp/truncated
	head -c 60000000 /dev/zero >/tmp/big
	n=0
	for run; do
		n=$((n + 1))
		args=$(echo "${run#*=*=*=}" | sed "s,@K,$kernel,; s,@I,$initrd,; s,@T,/tmp/truncated,; s,@B,/tmp/big,")
		# The last one: without KVM.
		case $run in "needs KVM"*) mv /dev/kvm /dev/kvm.away ;; esac
		timeout 60 "$launch" --append "console=ttyS0 quiet panic=-1 rdinit=/init" $args </dev/null >"$out/$n.log" 2>&1
		echo "$n $?"
	done
	# What was killed leaves nothing behind.
	mv /dev/kvm.away /dev/kvm
	before=$(awk "/^MemAvailable/{print \$2}" /proc/meminfo)
	"$launch" --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 rdinit=/init wait=60" </dev/null >/dev/null 2>&1 &
	sleep 6
	kill -KILL $!
	wait $!
	sleep 2
	after=$(awk "/^MemAvailable/{print \$2}" /proc/meminfo)
	echo "killed $((before - after))"
	ps -o args= 2>/dev/null | grep -c "[g]mem-launch" >&2 || :'

run_launcher()
{
	local log=$test_log/launcher.log n status run name want said left

	rm -rf "$results/launcher"
	mkdir -p "$results/launcher"
	while read -r n status; do
		case $n in
		machine) vm_result "the kernel keeps a clean log" "$status" "$log" ;;
		killed)
			if ((status < 8192)); then
				passed "killed, it leaves no memory behind" "$status KiB"
			else
				failed "killed, it leaves no memory behind" "$status KiB" "$log"
			fi ;;
		*)
			run=${launcher_runs[n - 1]}
			name=${run%%=*} left=${run#*=}
			want=${left%%=*} left=${left#*=} said=${left%%=*}
			cp "$results/launcher/$n.log" "$test_log/launcher-$n.log"
			if [[ $status == "$want" ]] && grep -aqF -- "$said" "$test_log/launcher-$n.log"; then
				passed "$name"
			else
				failed "$name" "status $status: $(grep -a . "$test_log/launcher-$n.log" | tail -n 1)" "$test_log/launcher-$n.log"
			fi ;;
		esac
	done < <(
		set +e
		in_lab lab --timeout 600 -- sh -c "$launcher_driver" - "$build/meson/examples/launcher/gmem-launch" \
			"$(kernel_dir lab)/arch/x86/boot/bzImage" "$build/demo/initrd" "${launcher_runs[@]}" 2>"$log"
		echo "machine $?"
	)
}

step_run()
{
	check "the demo shows what it says" "$top/lab" demo
	[[ -x $build/meson/examples/launcher/gmem-launch && -f $build/demo/initrd ]] || return 0
	run_launcher
}
