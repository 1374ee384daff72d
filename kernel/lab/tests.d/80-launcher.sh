# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="the launcher: the demo, guests of all kinds, attacks on it, and what it refuses"

step_packages=("${packages_demo[@]}")
step_kernels=(lab)

launcher_source=$top/kernel/lab/tests.d/launcher
launcher_tools=$build/launcher

# NAME=STATUS=SAID=ARGUMENTS: how it ends, and what it has to say. @K, @I, @D: kernel,
# initrd, Debian's kernel; @A: the kernel's usual command line; @T, @B, @L: a truncated
# kernel, 60 MB of zeroes, 3000 letters; @F, @S: a FIFO, 1000 letters; @X: image-NAME.
launcher_runs=(
	"boots private on one node=0=guest: good bye=--kernel @K --initrd @I"
	"boots private on two processors=0=up on 2 processors=--kernel @K --initrd @I --cpus 2 --private"
	"boots private on two nodes, one processor=0=on nodes 0-1=--kernel @K --initrd @I --numa 1:64M,0:64M"
	"puts the memory on the nodes asked for=0=node 0 is on host node 1=--kernel @K --initrd @I --numa 1:64M --stats"
	"boots private, software-protected=0=guest: good bye=--kernel @K --initrd @I --vm-type sw-protected --cpus 2"
	"boots private, in the mode and type asked for=0=in-place mode; 262144 KiB private=--kernel @K --initrd @I --mode inplace --vm-type plain --stats"
	"boots shared when it is told to=0=is SHARED=--kernel @K --initrd @I --shared"
	"boots in shared mode=0=shared mode=--kernel @K --initrd @I --shared --mode shared --stats"
	"boots Debian's cloud kernel private=0=guest: good bye=--kernel @D --initrd @I --mem 256M"
	"boots Debian's cloud kernel on two processors and nodes=0=up on 2 processors=--kernel @D --initrd @I --cpus 2 --numa 0:128M,1:128M --stats"

	"converts at the guest's request=0=can read 0 of 16 pages=--kernel @K --initrd @I --talk --append '@A run=/window,talk'"
	"answers the guest's letter=0=the answer is: gmem-launch has read 'Is anybody out there?'=--kernel @K --initrd @I --talk --append '@A run=/window,talk'"
	"answers nobody by itself=0=the answer is: (none)=--kernel @K --initrd @I --append '@A run=/window,talk'"
	"200 conversions keep what is in the pages=0=guest: every page kept what was in it=--kernel @K --initrd @I --talk --stats --append '@A run=/window,convert,200'"
	"200 conversions, two processors and nodes=0=guest: every page kept what was in it=--kernel @K --initrd @I --talk --stats --cpus 2 --numa 0:64M,1:64M --append '@A run=/window,convert,200'"
	"200 conversions, software-protected=0=guest: every page kept what was in it=--kernel @K --initrd @I --talk --stats --vm-type sw-protected --append '@A run=/window,convert,200'"
	"200 conversions of memory that was shared=0=guest: every page kept what was in it=--kernel @K --initrd @I --talk --stats --shared --mode inplace --append '@A run=/window,convert,200'"
	"tells the guest what cannot be had=0=cannot be closed: Operation not supported=--kernel @K --initrd @I --shared --mode shared --append '@A run=/window,talk'"
	"the guest's driver refuses what it has to=0=the driver refuses what it has to=--kernel @K --initrd @I --append '@A run=/window,errors'"

	"ends when the guest resets itself=0=the guest reset itself=--kernel @K --initrd @I --append '@A restart'"
	"ends when the guest's kernel ends by a triple fault=1=vCPU 0: triple fault=--kernel @K --initrd @I --append 'console=ttyS0 quiet rdinit=/init restart reboot=t'"
	"ends when the guest faults at once=1=vCPU 0: triple fault=--kernel @X-fault"
	"ends when the guest runs where nothing is=1=vCPU 0: KVM cannot go on=--kernel @X-nowhere"
	"runs what is no Linux=0=hello=--kernel @X-hello"

	"does not share by itself=1=no private memory=--kernel @K --initrd @I --mode shared"
	"has no dual mode for such guests=1=loses what is loaded=--kernel @K --initrd @I --mode dual --vm-type sw-protected"
	"says what it knows=0=usage: gmem-launch=--help"
	"needs a kernel=2=usage=--initrd @I"
	"knows its options=2=unrecognized option=--kernel @K --nonsense"
	"knows how many arguments there are=2=usage=--kernel @K more"
	"needs a kernel that is there=1=No such file=--kernel /nowhere"
	"needs a kernel that is a file=1=kernel /tmp is no regular file=--kernel /tmp"
	"needs a kernel that is no device=1=is no regular file=--kernel /dev/null"
	"needs a bzImage=1=is no bzImage=--kernel @I"
	"needs a whole header=1=is too short to be a bzImage=--kernel @X-short"
	"needs a 64-bit kernel=1=cannot be started in 64-bit mode=--kernel @X-32bit"
	"needs all of the bzImage=1=is truncated=--kernel @T"
	"needs a kernel that does not wait=1=is no regular file=--kernel @F"
	"needs an initrd that does not wait=1=is no regular file=--kernel @K --initrd @F"
	"needs a kernel that is in memory=1=does not fit into 64 MiB=--kernel @X-below --mem 64M --shared"
	"needs a kernel that is not where the tables are=1=below 1 MiB=--kernel @X-tables --shared"
	"needs an alignment=1=wants an alignment of 0=--kernel @X-unaligned --shared"
	"needs an initrd that is not over the kernel=1=does not fit beside=--kernel @X-covered --initrd @S --mem 64M --shared"
	"needs memory for the kernel=1=does not fit into 32 MiB=--kernel @K --mem 32M"
	"needs an initrd that is there=1=initrd /nowhere: No such file=--kernel @K --initrd /nowhere"
	"needs an initrd that is a file=1=initrd /tmp is no regular file=--kernel @K --initrd /tmp"
	"needs memory for the initrd=1=does not fit beside=--kernel @K --initrd @B --mem 64M"
	"needs a command line that fits=1=the command line is too long=--kernel @K --append @L"
	"knows the host's nodes=1=has no node 7=--kernel @K --numa 7:64M"
	"wants all nodes at once=1=--numa is given twice=--kernel @K --numa 0:32M --numa 0:128M"
	"wants nodes for all of the memory=1=--mem says 256 MiB=--kernel @K --numa 0:128M --mem 256M"
	"wants nodes with a size=1=--numa wants NODE:SIZE=--kernel @K --numa 0"
	"wants nodes that are numbers=1=--numa wants NODE:SIZE=--kernel @K --numa a:64M"
	"wants nodes that can be=1=--numa wants NODE:SIZE=--kernel @K --numa 4294967296:64M"
	"wants no node below 0=1=--numa wants NODE:SIZE=--kernel @K --numa -1:64M"
	"wants nodes in whole large pages=1=has to be a multiple of 2 MiB=--kernel @K --numa 0:65M"
	"wants nothing after a node=1=--numa: what is=--kernel @K --numa 0:64M+1:64M"
	"wants no more nodes than it can describe=1=at most 8 nodes=--kernel @K --numa 0:2M,0:2M,0:2M,0:2M,0:2M,0:2M,0:2M,0:2M,0:2M"
	"wants no more nodes than it has memory for=1=memory is at most 3072 MiB=--kernel @K --numa 0:2G,1:2G"
	"wants sizes=1=is no size=--kernel @K --mem much"
	"wants no size below 0=1=is no size=--kernel @K --mem -64M"
	"wants some memory=1=memory is at most=--kernel @K --mem 0"
	"wants enough memory=1=from 32M on=--kernel @K --mem 2M"
	"wants memory in whole large pages=1=a multiple of 2M=--kernel @K --mem 65M"
	"wants sizes in units that it knows=1=a multiple of 2M=--kernel @K --mem 64Q"
	"wants no more than it can map=1=memory is at most=--kernel @K --mem 16G"
	"wants processors=1=--cpus wants 1 to 8=--kernel @K --cpus 9"
	"wants no more processors than can be counted=1=--cpus wants 1 to 8=--kernel @K --cpus 4294967297"
	"wants at least one processor=1=--cpus wants 1 to 8=--kernel @K --cpus 0"
	"wants a number of processors=1=--cpus wants 1 to 8=--kernel @K --cpus two"
	"knows its modes=1=there is no mode=--kernel @K --mode quick"
	"knows its types=1=there is no type=--kernel @K --vm-type quick"
	"says that nobody reads a map=1=map /tmp/fifo: No such device=--kernel @K --initrd @I --map @F"
	"draws a map=0=guest: good bye=--kernel @K --initrd @I --map /tmp/map.svg"
	"says where a map cannot go=1=map /nowhere/map.svg: No such file=--kernel @K --initrd @I --map /nowhere/map.svg"
	"says that a map is a file=1=map /tmp: Is a directory=--kernel @K --initrd @I --map /tmp"
	"says when there is no room for a map=1=map /dev/full: No space left=--kernel @K --initrd @I --map /dev/full"
	"needs permission=1=/dev/kvm: Permission denied="
	"needs KVM=1=/dev/kvm: No such file=--kernel @K --initrd @I"
)

# The same on a kernel without private memory for such guests.
launcher_old_runs=(
	"an old kernel: has no private memory=1=no private memory=--kernel @K --initrd @I"
	"an old kernel: tells what does without=1=(--shared does without.)=--kernel @K --initrd @I"
	"an old kernel: has none in place=1=no private memory=--kernel @K --initrd @I --mode inplace"
	"an old kernel: has no dual mode for such guests=1=loses what is loaded=--kernel @K --initrd @I --vm-type sw-protected"
	"an old kernel: has no guest_memfd to share=1=no shared memory: The kernel=--kernel @K --initrd @I --shared --mode shared"
	"an old kernel: shares memory of a memfd=0=guest: good bye=--kernel @K --initrd @I --shared"
)

# NAME|what is waited for and typed or sent, and the status|ARGUMENTS
launcher_terminals=(
	"what is typed reaches the guest, and is answered|-a 'say something=hello from here^M' -a \"you said 'hello from here'=\" 0|"
	"Ctrl-A twice is typed once|-a 'say something=x^A^Ay^M' -a \"you said 'x=\" 0|"
	"Ctrl-A x ends it|-a 'say something=^Ax' 0|"
	"SIGTERM ends it|-k 'say something=15' 143|"
	"SIGINT ends it|-k 'say something=2' 130|"
	"SIGHUP ends it|-k 'say something=1' 129|"
	"SIGQUIT ends it|-k 'say something=3' 131|"
	"SIGPIPE ends it|-k 'say something=13' 141|"
	"SIGABRT ends it|-k 'say something=6' 134|"
	"a triple fault ends it|-a 'say something=now^M' 1|--append 'console=ttyS0 quiet rdinit=/init ask restart reboot=t'"
	"a reset ends it|-a 'say something=now^M' 0|--append 'console=ttyS0 quiet rdinit=/init ask restart reboot=k'"
	"a map that cannot be written ends it|-a 'say something=now^M' 1|--map /nowhere/map.svg"
	"KVM's error ends it|1|--kernel @X-nowhere"
)

# at OFFSET BYTES: in the image that was begun last, in the notation of printf.
at()
{
	printf %b "$2" | dd of="$launcher_image" bs=1 seek=$(($1)) conv=notrunc status=none
}

# image NAME VERSION CODE: a bzImage with nothing but that.
image()
{
	launcher_image=$launcher_tools/image-$1
	rm -f "$launcher_image"
	truncate -s 4096 "$launcher_image"
	at 0x1f1 '\x01'
	at 0x1f4 '\xc0' # of 16 bytes each, after two sectors
	at 0x1fe '\x55\xaa'
	at 0x202 HdrS
	at 0x206 "$2"
	at 0x22c '\xff\xff\xff\x7f'
	at 0x230 '\x00\x00\x20\x00\x01'
	at 0x236 '\x01'
	at 0x238 '\x00\x08'
	at 0x260 '\x00\x10'
	at 0x600 "$3"
}

build_launcher_tools()
{
	mkdir -p "$launcher_tools"
	build_attack "$launcher_tools/attack"
	gcc -O2 -Wall -Wextra -static -o "$launcher_tools/terminal" "$launcher_source/terminal.c"
	head -c 1000 /dev/zero >"$launcher_tools/image-short"
	image 32bit '\x0b\x02' ''
	image fault '\x0c\x02' '\x0f\x0b'                             # ud2, without an IDT
	image below '\x0c\x02' ''
	at 0x234 '\x00'; at 0x258 '\x00\xfc\xff\xff\xff\xff\xff\xff' # 1 KiB below 2^64: it would wrap
	image tables '\x0c\x02' ''
	at 0x234 '\x00'; at 0x258 '\x00\x70'
	image unaligned '\x0c\x02' ''
	at 0x230 '\x00\x00\x00\x00'
	image covered '\x0c\x02' ''
	at 0x234 '\x00'; at 0x258 '\x00\xf4\xff\x03'; at 0x260 '\x01\x00' # up to 64 MiB
	image nowhere '\x0c\x02' '\xb8\x00\x00\x00\xd0\xff\xe0'       # jmp 0xd0000000
	# Six letters to COM1, and off by PM1.
	image hello '\x0c\x02' '\x48\x8d\x35\x18\x00\x00\x00\xb9\x06\x00\x00\x00\x66\xba\xf8\x03\xf3\x6e\x66\xba\x04\x06\x66\xb8\x00\x34\x66\xef\xf4\xeb\xfdhello\n'
}

# Debian's kernel for clouds, as it comes: launcher_tools/debian.
need_cloud_kernel()
{
	local name dir=$launcher_tools/deb

	[[ ! -s $launcher_tools/debian ]] || return 0
	rm -rf "$dir"
	mkdir -p "$dir"
	name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9]\)/\1/p' | head -n 1)
	[[ -n $name ]] || { echo "no linux-image-cloud-amd64 in the package lists"; return 1; }
	if ! (cd "$dir" && apt-get -q download "$name"); then
		apt update || return 1 # what the lists name may be gone
		name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9]\)/\1/p' | head -n 1)
		(cd "$dir" && apt-get -q download "$name") || { echo "$name cannot be downloaded"; return 1; }
	fi
	dpkg-deb --fsys-tarfile "$dir"/*.deb | tar -xO --wildcards './boot/vmlinuz-*' >"$dir/vmlinuz" || return 1
	mv "$dir/vmlinuz" "$launcher_tools/debian"
	rm -rf "$dir"
}

# inside FLAVOUR WHAT DIRECTORY ARGUMENT...: inside.sh in the machine, with what it needs.
# For --turns, see 50-selftests.sh.
inside()
{
	local flavour=$1 what=$2 dir=$3
	shift 3

	rm -rf "$results/launcher/$dir"
	mkdir -p "$results/launcher"
	(
		set +e
		in_lab "$flavour" --turns --timeout 3600 -- bash "$launcher_source/inside.sh" "$what" "$dir" \
			"$build/meson/examples/launcher/gmem-launch" "$(kernel_dir lab)/arch/x86/boot/bzImage" \
			"$build/demo/initrd" "$launcher_tools" "$@" 2>"$test_log/launcher-$dir.log"
		echo "machine $?"
	)
}

# run_launcher FLAVOUR DIRECTORY RUN...
run_launcher()
{
	local flavour=$1 dir=$2 n status run name want said log
	shift 2

	while read -r n status; do
		if [[ $n == machine ]]; then
			vm_result "the kernel keeps a clean log ($dir)" "$status" "$test_log/launcher-$dir.log"
			continue
		fi
		run=${!n} name=${run%%=*} run=${run#*=}
		want=${run%%=*} run=${run#*=} said=${run%%=*}
		log=$test_log/launcher-$dir-$n.log
		cp "$results/launcher/$dir/$n.log" "$log"
		if [[ $status == "$want" ]] && grep -aqF -- "$said" "$log" && ! grep -aqF '(null)' "$log"; then
			passed "$name"
		else
			failed "$name" "status $status: $(grep -a . "$log" | tail -n 1)" "$log"
		fi
	done < <(inside "$flavour" runs "$dir" "$@")
}

run_killed()
{
	local what kib left log=$test_log/launcher-killed.log

	while read -r what kib left; do
		if [[ $what == machine ]]; then
			vm_result "the kernel keeps a clean log (killed)" "$kib" "$log"
		elif ((kib < 4096 && left == 0)); then
			passed "killed, it leaves no process and no memory behind" "$kib KiB"
		else
			failed "killed, it leaves no process and no memory behind" "$kib KiB, $left processes" "$log"
		fi
	done < <(inside lab killed killed)
}

# Or the emulator may deliver it twice: see kernel/lab/tcg. A fault while it is delivered
# is an exit, too.
run_injected()
{
	local what reason n log=$test_log/launcher-injected.log name="the lab: an exit follows each injected interrupt"
	local interrupts=0 others=''

	while read -r what reason n; do
		case $what:$reason in
		machine:*) vm_result "the kernel keeps a clean log (injected)" "$reason" "$log" ;;
		*:interrupt) interrupts=$n ;;
		*:npf) ;;
		*) others+=" $n $reason" ;;
		esac
	done < <(inside lab injected injected)
	if ((interrupts >= 50)) && [[ -z $others ]]; then
		passed "$name" "$interrupts"
	else
		failed "$name" "$interrupts exits for one, and for others:${others:- none}" "$log"
	fi
}

# The secret of a private guest is found nowhere, though what is in its window is, by a
# search that finds both in another process; and in the memory of a shared guest, where
# guest_memfd has that way to it at all. A process that has the descriptor makes the memory
# shared and finds it.
run_attacks()
{
	local guest kind way bytes secret mark log=$test_log/launcher-attacks.log name line lines
	local -A control=()

	mapfile -t lines < <(inside lab attacks attacks)
	printf '%s\n' "${lines[@]}" >>"$log"
	for line in "${lines[@]}"; do
		read -r guest kind way bytes secret mark <<<"$line"
		[[ $kind != control ]] || control[$guest $way]=$((secret > 0 && mark > 0))
	done
	for line in "${lines[@]}"; do
		read -r guest kind way bytes secret mark <<<"$line"
		case $guest:$kind:$way in
		machine:*)
			vm_result "the kernel keeps a clean log (attacks)" "$kind" "$log"
			continue ;;
		shared:attack:/proc/PID/mem | shared:attack:process_vm_readv | shared:attack:mmap)
			name="$guest: $way finds the secret and the window"
			((secret > 0 && mark > 0)) && kind=right ;;
		*:attack:/proc/PID/mem | *:attack:process_vm_readv | *:attack:mmap)
			name="$guest: $way finds the window and not the secret"
			((secret == 0 && mark > 0)) && kind=right ;;
		*:attack:convert)
			name="$guest: a process with the descriptor makes the memory shared and finds the secret"
			# There is no control: this is about what is found.
			control[$guest $way]=1
			((secret > 0 && mark > 0)) && kind=right ;;
		*:attack:*)
			name="$guest: $way does not find the secret"
			((secret == 0)) && kind=right ;;
		*) continue ;;
		esac
		if [[ ${control[$guest $way]:-0} == 0 ]]; then
			failed "$name" "it finds nothing in another process either" "$log"
		elif [[ $kind == right ]]; then
			passed "$name" "$bytes bytes"
		else
			failed "$name" "$secret, $mark times in $bytes bytes" "$log"
		fi
	done
	((${#control[@]} == 33)) || failed "all attacks were made" "${#control[@]} of 33" "$log"
}

run_terminals()
{
	local n status name log

	while read -r n status; do
		if [[ $n == machine ]]; then
			vm_result "the kernel keeps a clean log (terminal)" "$status" "$test_log/launcher-terminal.log"
			continue
		fi
		name=${launcher_terminals[n - 1]%%|*} log=$test_log/launcher-terminal-$n.log
		cp "$results/launcher/terminal/terminal-$n.log" "$log"
		if ((status)); then
			failed "terminal: $name" "$(grep -a '^terminal: ' "$log" | tail -n 1)" "$log"
		else
			passed "terminal: $name"
		fi
	done < <(inside lab terminals terminal "${launcher_terminals[@]}")
}

# here NAME SAID ARGUMENT...: a guest in shared mode on this machine itself.
here()
{
	local name=$1 said=$2 log=$test_log/launcher-here.log status
	shift 2

	set +e
	timeout 120 "$build/meson/examples/launcher/gmem-launch" "$@" --shared --mode shared </dev/null >"$log" 2>&1
	status=$?
	set -e
	if ((status == 0)) && grep -aq "$said" "$log"; then
		passed "$name"
	elif grep -aq "no shared memory" "$log"; then
		skipped "$name" "$(grep -a "no shared memory" "$log")"
	else
		failed "$name" "status $status: $(grep -a . "$log" | tail -n 1)" "$log"
	fi
}

run_here()
{
	local small="this machine's KVM: a guest of a few bytes in shared mode"
	local large="this machine's KVM: Linux in shared mode" why=''

	[[ -e /dev/kvm ]] || why="there is no /dev/kvm"
	[[ ! -e /dev/kvm || (-r /dev/kvm && -w /dev/kvm) ]] || why="/dev/kvm is not for this user"
	if [[ -n $why ]]; then
		skipped "$small" "$why"
		skipped "$large" "$why"
		return
	fi
	here "$small" hello --kernel "$launcher_tools/image-hello"
	if [[ -d /sys/module/kvm_intel || -d /sys/module/kvm_amd ]]; then
		here "$large" "guest: good bye" --kernel "$(kernel_dir lab)/arch/x86/boot/bzImage" \
			--initrd "$build/demo/initrd" --append "console=ttyS0 quiet panic=-1 rdinit=/init"
	else
		skipped "$large" "its KVM is neither Intel's nor AMD's, and does not run every kernel"
	fi
}

step_run()
{
	local runs=() run

	check "the demo shows what it says" "$top/lab" demo
	[[ -x $build/meson/examples/launcher/gmem-launch && -f $build/demo/initrd ]] || return 0
	check "its tools are built" build_launcher_tools
	if need_cloud_kernel >"$test_log/launcher-debian.log" 2>&1; then
		runs=("${launcher_runs[@]}")
	else
		for run in "${launcher_runs[@]}"; do
			if [[ $run == *@D* ]]; then
				skipped "${run%%=*}" "$(tail -n 1 "$test_log/launcher-debian.log")"
			else
				runs+=("$run")
			fi
		done
	fi
	run_launcher lab lab "${runs[@]}"
	[[ -z ${LAB_QUICK:-} ]] || return 0
	run_injected
	run_killed
	run_attacks
	run_terminals
	run_here
}
