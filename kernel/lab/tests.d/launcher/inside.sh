#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What 80-launcher.sh has done inside the machine: inside.sh WHAT DIRECTORY ARGUMENT...
# Logs go to build/results/launcher/DIRECTORY, results to standard output.

what=$1 out=$LAB_RESULTS/launcher/$2
launch=$3 kernel=$4 initrd=$5 tools=$6
shift 6
base="console=ttyS0 quiet panic=-1 reboot=k rdinit=/init"

# count PROGRAM: how many of it run.
count()
{
	cat /proc/[0-9]*/comm 2>/dev/null | grep -cx "$1"
}

# one RUN: with the launcher's arguments of that, in which @ stands for files.
one()
{
	local args=${1#*=*=*=} program=("$launch") words

	args=${args//@K/$kernel} args=${args//@I/$initrd} args=${args//@T//tmp/truncated}
	args=${args//@B//tmp/big} args=${args//@D/$tools/debian} args=${args//@X/$tools/image}
	args=${args//@A/$base} args=${args//@F//tmp/fifo} args=${args//@S//tmp/small}
	args=${args//@L/$(head -c 3000 /dev/zero | tr '\0' x)}
	case $1 in
	"needs KVM"*) mv /dev/kvm /dev/kvm.away ;;
	"needs permission"*)
		chmod 600 /dev/kvm
		# The checkout may be where nobody else can go.
		cp "$launch" "$kernel" "$(ldd "$launch" | awk '/libgmem/ { print $3 }')" /tmp
		args="--kernel /tmp/${kernel##*/}"
		program=(env LD_LIBRARY_PATH=/tmp setpriv --reuid 65534 --regid 65534 --clear-groups
			/tmp/gmem-launch) ;;
	esac
	eval "words=($args)"
	timeout 600 "${program[@]}" --append "$base" "${words[@]}" </dev/null
}

runs()
{
	local n=0 run

	head -c 2000000 "$kernel" >/tmp/truncated
	head -c 60000000 /dev/zero >/tmp/big
	head -c 1000 /dev/zero | tr '\0' x >/tmp/small
	mkfifo /tmp/fifo
	for run; do
		n=$((n + 1))
		one "$run" >"$out/$n.log" 2>&1
		echo "$n $?"
		[[ ! -e /dev/kvm.away ]] || mv /dev/kvm.away /dev/kvm
	done
}

# KiB that are free. The processors' own lists of free pages, tens of MiB now and then, are
# in none of the numbers of meminfo; the memory of guests is part of 'Cached' there.
spare()
{
	awk '/^MemFree:/ { kib += $2 } /^ +count:/ { kib += 4 * $2 } END { print kib }' \
		/proc/meminfo /proc/zoneinfo
}

# What was killed leaves nothing behind.
killed()
{
	local before after n=0

	# Once for what stays: files that were read, what KVM sets up.
	"$launch" --kernel "$kernel" --initrd "$initrd" --append "$base" </dev/null >"$out/warm.log" 2>&1
	before=$(spare)
	"$launch" --kernel "$kernel" --initrd "$initrd" --append "$base wait=60" </dev/null >"$out/killed.log" 2>&1 &
	until grep -q "my secret" "$out/killed.log" || ((n++ >= 600)); do sleep 0.1; done
	kill -KILL $!
	wait $! 2>/dev/null
	# RCU frees some of it, a little later.
	for ((n = 0; n < 600; n++)); do
		after=$(spare)
		((before - after >= 4096)) || break
		sleep 0.1
	done
	echo "killed $((before - after)) $(count gmem-launch)"
}

# What a guest left for first after each interrupt that was injected into it, counted.
injected()
{
	local trace=/sys/kernel/tracing event

	mount -t tracefs tracefs $trace
	echo 8192 >$trace/buffer_size_kb
	for event in inj_virq entry exit; do
		echo 1 >$trace/events/kvm/kvm_$event/enable
	done
	"$launch" --kernel "$kernel" --initrd "$initrd" --append "$base" --cpus 2 </dev/null >"$out/injected.log" 2>&1
	echo 0 >$trace/tracing_on
	awk '/ kvm_inj_virq: / { injected[$1] = 1 }
		/ kvm_entry: / { entered[$1] = injected[$1]; injected[$1] = 0 }
		/ kvm_exit: / && entered[$1] {
			entered[$1] = 0
			sub(/.* reason /, "")
			n[$1]++
		}
		END { for (reason in n) print "injected", reason, n[reason] }' $trace/trace
}

# attacks NAME ARGUMENT...: on a launcher whose guest keeps a secret and has a window open.
attacks()
{
	local name=$1 log=$out/$1.log pid n=0 secret mark
	shift

	"$launch" --kernel "$kernel" --initrd "$initrd" --append "$base run=/window,talk,300" --mem 64M --talk \
		"$@" </dev/null >"$log" 2>&1 &
	pid=$!
	until grep -q "mark in the window, backwards, is [0-9a-f]\{32\}" "$log" || ((n++ >= 600)); do sleep 0.1; done
	secret=$(sed -n 's/.*my secret, backwards, is \([0-9a-f]\{32\}\).*/\1/p' "$log")
	mark=$(sed -n 's/.*a mark in the window, backwards, is \([0-9a-f]\{32\}\).*/\1/p' "$log")
	"$tools/attack" "$pid" "$secret" "$mark" | sed "s/^/$name /"
	"$tools/attack" --convert "$pid" "$secret" "$mark" | sed "s/^/$name /"
	kill -KILL $pid
	wait $pid 2>/dev/null
}

# terminals WAY...: NAME|OPTIONS AND STATUS|the launcher's arguments
terminals()
{
	local n=0 way name left

	for way; do
		n=$((n + 1)) name=${way%%|*} left=${way#*|}
		eval "\"$tools/terminal\" ${left%%|*} \"$launch\" --kernel $kernel --initrd $initrd \
			--append '$base ask' --mem 64M $(left=${left#*|}; echo "${left//@X/$tools/image}")" >"$out/terminal-$n.log" 2>&1
		echo "$n $?"
	done
}

mkdir -p "$out"
case $what in
runs)
	runs "$@" ;;
killed)
	killed ;;
injected)
	injected ;;
attacks)
	attacks private
	attacks sw-protected --vm-type sw-protected
	attacks shared --shared ;;
terminals)
	terminals "$@" ;;
esac
exit 0
