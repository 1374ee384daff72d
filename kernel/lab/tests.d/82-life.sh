# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

# What runs the launcher, and its notation.
# shellcheck source=kernel/lab/tests.d/80-launcher.sh
. "$top/kernel/lab/tests.d/80-launcher.sh"

step_title="the launcher: guests that start again in the same memory, and clones of guests"
step_kernels=(lab)
step_when=not-quick

life_reboot="--kernel @K --initrd @I --mem 64M --reboot-reuse --append '@A run=/life,reboot,3'"
life_clone="--kernel @K --initrd @I --mem 64M --stats --append '@A run=/life,clone'"

# As launcher_runs; what is more in the log of those is looked at below.
life_runs=(
	"three boots in the same memory=0=guest: good bye=$life_reboot"
	"three boots, two processors=0=guest: good bye=$life_reboot --cpus 2"
	"three boots, software-protected=0=guest: good bye=$life_reboot --vm-type sw-protected --cpus 2"
	"three boots, on the node asked for=0=node 0 is on host node 1=$life_reboot --numa 1:64M --stats"
	"three boots in shared mode=0=guest: good bye=$life_reboot --shared --mode shared"
	"one clone=0=clone 1 turned itself off=$life_clone --clones 1"
	"four clones, two processors=0=clone 4 turned itself off=$life_clone --clones 4 --cpus 2"
	"four clones, software-protected, two processors=0=clone 4 turned itself off=$life_clone --clones 4 --vm-type sw-protected --cpus 2"
	"two clones on two nodes=0=node 1 is on host node 0=$life_clone --clones 2 --numa 1:32M,0:32M --cpus 2"
	"two clones in shared mode=0=SHARED=$life_clone --clones 2 --shared --mode shared"
	"two clones, and a map=0=clone 2 turned itself off=$life_clone --clones 2 --map /tmp/map.svg"
)
# What differs from these in the type of VM, the number of processors or of clones alone.
life_runs_more=(
	"three boots in shared memory=0=guest: good bye=$life_reboot --shared --mode inplace"
	"one clone, two processors=0=clone 1 turned itself off=$life_clone --clones 1 --cpus 2"
	"four clones=0=clone 4 turned itself off=$life_clone --clones 4"
	"one clone, software-protected=0=clone 1 turned itself off=$life_clone --clones 1 --vm-type sw-protected"
	"one clone, software-protected, two processors=0=clone 1 turned itself off=$life_clone --clones 1 --vm-type sw-protected --cpus 2"
	"four clones, software-protected=0=clone 4 turned itself off=$life_clone --clones 4 --vm-type sw-protected"
	"two clones of shared memory=0=SHARED=$life_clone --clones 2 --shared --mode inplace"
)
[[ -z ${LAB_ALL:-} ]] || life_runs+=("${life_runs_more[@]}")

life_other_runs=(
	"a guest that does not reset itself is not booted again=0=guest: good bye=--kernel @K --initrd @I --reboot-reuse"
	"a guest that nobody clones can tell=0=guest: nobody clones me here=--kernel @K --initrd @I --append '@A run=/life,clone'"
	"clones open windows of their own=0=2: guest: every page kept what was in it=--kernel @K --initrd @I --clones 2 --talk --append '@A run=/life,clone,/window,convert,20'"
	"clones that reset themselves are off=0=clone 2 reset itself=--kernel @K --initrd @I --clones 2 --append '@A run=/life,clone restart'"
	"ends when a clone cannot go on=1=: vCPU 0: triple fault=--kernel @K --initrd @I --clones 2 --append 'console=ttyS0 quiet rdinit=/init run=/life,clone restart reboot=t'"
	"tells what a clone asks=0=gmem-launch: clone 2 asks: Is anybody out there?=--kernel @K --initrd @I --clones 2 --talk --append '@A run=/life,clone,/window,talk'"
	"no clones of a guest that turns itself off before=1=it never said 'gmem: ready to be cloned'=--kernel @K --initrd @I --clones 2"
	"no clones of a guest that resets itself before=1=it never said 'gmem: ready to be cloned'=--kernel @K --initrd @I --clones 2 --append '@A restart'"
	"no clones of a guest that faults before=1=triple fault=--kernel @K --initrd @I --clones 2 --append 'console=ttyS0 quiet rdinit=/init restart reboot=t'"
	"wants clones=1=--clones wants 1 to 64, not '0'=--kernel @K --clones 0"
	"wants no more than 64 clones=1=--clones wants 1 to 64, not '65'=--kernel @K --clones 65"
	"wants no more clones than can be counted=1=--clones wants 1 to 64=--kernel @K --clones 4294967297"
	"wants a number of clones=1=--clones wants 1 to 64, not 'two'=--kernel @K --clones two"
	"wants no number of clones below 0=1=--clones wants 1 to 64, not '-1'=--kernel @K --clones -1"
	"wants no empty number of clones=1=--clones wants 1 to 64, not ''=--kernel @K --clones ''"
	"wants a number with --clones=2=requires an argument=--kernel @K --clones"
	"does not both start again and clone=1=do not go together=--kernel @K --reboot-reuse --clones 2"
	"does not keep memory in dual mode=1=--reboot-reuse: in dual mode=--kernel @K --initrd @I --shared --mode dual --vm-type sw-protected --reboot-reuse"
	"does not clone memory in dual mode=1=--clones: in dual mode=--kernel @K --initrd @I --shared --mode dual --vm-type sw-protected --clones 2"
	"wants a command line that fits every boot=1=the command line is too long=--kernel @K --reboot-reuse --append \"\$(printf %2030s x)\""
)

life_old_runs=(
	"an old kernel: refuses to keep memory=1=gmem-launch: --reboot-reuse: =--kernel @K --initrd @I --reboot-reuse"
	"an old kernel: refuses to keep shared memory=1=gmem-launch: --reboot-reuse: =--kernel @K --initrd @I --reboot-reuse --shared"
	"an old kernel: refuses to clone=1=gmem-launch: --clones: =--kernel @K --initrd @I --clones 2"
	"an old kernel: refuses to clone shared memory=1=gmem-launch: --clones: =--kernel @K --initrd @I --clones 2 --shared"
)

# Each boot found nothing of the one before, and its own secret where it looked; all memory was kept.
reboots_are_right()
{
	sed 's/\r//' "$1" | awk '
		/guest: boot [123]: 0 copies of a former secret in [0-9]+ pages; of this one at least 2048: yes$/ { boots++ }
		/gmem-launch: boot [23]: ([0-9]+) of [0-9]+ KiB were kept/ { kept += $4 == $6 && $4 > 20000 }
		/gmem-launch: the guest reset itself/ { resets++ }
		END {
			if (boots != 3 || kept != 2 || resets != 2) {
				printf "%d boots, memory kept %d times, %d resets\n", boots, kept, resets
				exit 1
			}
		}'
}

# clones_are_right LOG N: each has the secret of the first guest, its number, and writes memory of its own.
clones_are_right()
{
	sed 's/\r//' "$1" | awk -v n="$2" '
		/^guest: the hash of my secret is / { hash = $NF }
		/KiB are frozen/ { frozen = $2 }
		/^[0-9]+: guest: I am clone / {
			same += hash != "" && $NF == hash && / is still / && $6 + 0 == $1 + 0 && !seen[$1]++
		}
		/^[0-9]+: guest: of what clone [0-9]+ wrote 0 bytes differ$/ { own++ }
		/gmem-launch: clone [0-9]+: .* KiB are its own/ { small += $4 >= 4096 && $4 < frozen }
		END {
			if (same != n || own != n || small != n) {
				printf "of %d clones %d have the secret, %d their own memory, %d little of it\n", n, same, own, small
				exit 1
			}
		}'
}

look_at_logs()
{
	local n=0 run name said log clones

	for run in "${life_runs[@]}"; do
		n=$((n + 1)) name=${run%%=*} log=$test_log/launcher-life-$n.log
		if [[ $run == *--clones* ]]; then
			clones=${run##*--clones }
			said=$(clones_are_right "$log" "${clones%% *}") || :
		else
			said=$(reboots_are_right "$log") || :
		fi
		if [[ -z $said ]]; then
			passed "$name: what the guests say is right"
		else
			failed "$name: what the guests say is right" "$said" "$log"
		fi
	done
}

need_launcher()
{
	need_kernel lab || return
	lock kernel-lab
	check_build "the launcher and the guest are built" build_demo
	unlock kernel-lab
	mkdir -p "$launcher_tools"
	[[ -x $build/meson/examples/launcher/gmem-launch && -f $build/demo/initrd ]]
}

step_run()
{
	need_launcher || return 0
	run_launcher lab life "${life_runs[@]}"
	look_at_logs
	run_launcher lab life-other "${life_other_runs[@]}"
}
