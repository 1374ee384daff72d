#!/bin/bash
# SPDX-License-Identifier: MIT
# What gmem-launch refuses before it asks for a VM: options and files, on any machine.
# usage: options.sh GMEM-LAUNCH

set -u
launch=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

not_so()
{
	echo "NOT SO: $*"
	sed 's/^/  said: /' "$dir/said" | head -n 5
	bad=1
}

# ends STATUS SAID ARGUMENT...
ends()
{
	local want=$1 said=$2 status
	shift 2

	timeout -k 1 20 "$launch" "$@" >"$dir/said" 2>&1 </dev/null
	status=$?
	((status == want)) || not_so "$*: status $status, should be $want"
	grep -qF -- "$said" "$dir/said" || not_so "$*: says '$said'"
	! grep -qF '(null)' "$dir/said" || not_so "$*: has a reason"
}

# refuses SAID ARGUMENT...: and takes ARGUMENT..., as it complains of the kernel only.
refuses() { local said=$1; shift; ends 1 "$said" --kernel /nowhere "$@"; }
takes() { ends 1 'kernel /nowhere: No such file' --kernel /nowhere "$@"; }

# --- numbers
for n in 0 9 -1 +2 ' 2' '2 ' 0x2 2.0 two '' 4294967297 18446744073709551617 -18446744073709551614; do
	refuses "--cpus wants 1 to 8, not '$n'" --cpus "$n"
	refuses "--clones wants 1 to 64, not '${n/#9/65}'" --clones "${n/#9/65}"
done
takes --cpus 1
takes --cpus 8
takes --clones 64
for n in much '' -64M +64M ' 64M' ' -18446744073642442752' M; do
	refuses "'$n' is no size" --mem "$n"
	refuses "'$n' is no size" --numa "0:$n"
done
for n in 64M64 64MM 64Q '64M ' 64m 65M 31M 2M 32767K 67108865; do
	refuses "--mem wants a multiple of 2M, from 32M on, not '$n'" --mem "$n"
done
for n in 0 0M 3073M 4G 18014398509481984K 17592186044416M 17179869184G 18446744073709551615; do
	refuses "'$n': memory is at most 3072 MiB" --mem "$n"
done
refuses "is no size" --mem 18446744073709551616
for n in 32M 3G 32768K 33554432 3072M; do
	takes --mem "$n"
done

# --- nodes
for n in 0 : a:64M -1:64M +0:64M ' 0:64M' 0x0:64M 4294967296:64M 99999999999999999999:64M '' '0:32M,' ,0:32M; do
	refuses '--numa wants NODE:SIZE' --numa "$n"
done
refuses "--numa: what is '+1:64M'?" --numa 0:64M+1:64M
refuses 'a multiple of 2 MiB' --numa 0:65M
refuses 'at most 8 nodes' --numa 0:4M,0:4M,0:4M,0:4M,0:4M,0:4M,0:4M,0:4M,0:4M
refuses 'memory is at most 3072 MiB' --numa 0:2G,0:2G
refuses 'memory is at least 32 MiB' --numa 0:2M
refuses 'memory is at least 32 MiB' --numa 0:16M,0:14M
refuses '--numa is given twice' --numa 0:32M --numa 0:128M
refuses '--numa is given twice' --numa 0:32M --mem 160M --numa 0:128M
refuses '--mem says 64 MiB, but the nodes of --numa have 128 MiB' --mem 64M --numa 0:128M
refuses '--mem says 64 MiB, but the nodes of --numa have 128 MiB' --numa 0:128M --mem 64M
refuses '--mem says 256 MiB, but the nodes of --numa have 96 MiB' --numa 0:64M,0:32M --mem 256M
refuses 'the host has no node 1023 with memory' --numa 1023:64M
refuses 'the host has no node 2147483647 with memory' --numa 2147483647:64M
if [[ -e /sys/devices/system/node/node0 ]]; then
	takes --numa 0:32M
	takes --numa 0:64M,0:32M --mem 96M
	takes --mem 96M --numa 0:64M,0:32M
fi

# --- words
refuses "there is no mode ''" --mode ''
refuses "there is no mode 'Dual'" --mode Dual
refuses "there is no type 'sw'" --vm-type sw
refuses 'do not go together' --reboot-reuse --clones 2
ends 2 'usage: gmem-launch' --mem 64M
ends 2 'usage: gmem-launch' --kernel /nowhere more
ends 0 'usage: gmem-launch' --help

# --- files. Nobody ever writes to the FIFO.
mkfifo "$dir/fifo"
: >"$dir/empty"
truncate -s 1T "$dir/large" || rm -f "$dir/large"
ln -s loop "$dir/loop"
for option in kernel initrd; do
	kernel=(--kernel "$dir/kernel")
	[[ $option != kernel ]] || kernel=()
	ends 1 "$option $dir/fifo is no regular file" "${kernel[@]}" "--$option" "$dir/fifo"
	ends 1 "$option $dir is no regular file" "${kernel[@]}" "--$option" "$dir"
	ends 1 "$option /dev/null is no regular file" "${kernel[@]}" "--$option" /dev/null
	ends 1 "$option /dev/zero is no regular file" "${kernel[@]}" "--$option" /dev/zero
	ends 1 "$option $dir/loop: Too many levels" "${kernel[@]}" "--$option" "$dir/loop"
	ends 1 "$option : No such file" "${kernel[@]}" "--$option" ''
	ends 1 "$option /proc/self/status cannot be read" "${kernel[@]}" "--$option" /proc/self/status
	[[ ! -e $dir/large ]] || ends 1 "$option $dir/large does not fit into 256 MiB" "${kernel[@]}" "--$option" "$dir/large"
	# What comes next is that it is no bzImage.
	printf hello >"$dir/kernel"
done
ends 1 "kernel $dir/empty is too short to be a bzImage" --kernel "$dir/empty"

# --- a kernel that asks for too much: image FIELD VALUE...
image()
{
	at() { printf %b "$2" | dd of="$dir/image" bs=1 seek=$(($1)) conv=notrunc status=none; }
	rm -f "$dir/image"
	truncate -s 4096 "$dir/image"
	at 0x1f1 '\x01' # setup_sects
	at 0x1f4 '\xc0' # syssize
	at 0x1fe '\x55\xaa'
	at 0x202 'HdrS\x0f\x02'
	at 0x22c '\xff\xff\xff\x7f' # initrd_addr_max
	at 0x230 '\x00\x00\x20\x00\x01' # kernel_alignment, relocatable_kernel
	at 0x236 '\x01' # xloadflags
	at 0x238 '\xff\x07' # cmdline_size
	at 0x260 '\x00\x10' # init_size
	while (($# > 1)); do
		at "$1" "$2"
		shift 2
	done
}
image
takes_kvm=$(timeout -k 1 20 "$launch" --kernel "$dir/image" --append "$(printf '%02048d' 0)" 2>&1 </dev/null)
[[ $takes_kvm == *'the command line is too long'* ]] || not_so "a good image is refused: $takes_kvm"
# Both of its ends wrap: 1 KiB of it would be in front of the memory.
image 0x234 '\x00' 0x258 '\x00\xfc\xff\xff\xff\xff\xff\xff'
ends 1 "kernel $dir/image does not fit into 256 MiB" --kernel "$dir/image"
image 0x230 '\x00\x00\x00\x00'
ends 1 "kernel $dir/image wants an alignment of 0" --kernel "$dir/image"
image 0x234 '\x00' 0x258 '\x00\x70\x00'
ends 1 "kernel $dir/image wants to be at 0x7000, below 1 MiB" --kernel "$dir/image"
exit $bad
