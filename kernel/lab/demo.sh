# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2016
#
# The demo: a Linux guest in private memory, what that protects from, and what not.

demo_dir=$build/demo
packages_demo=(meson ninja-build gcc libc6-dev libnuma-dev pkg-config cpio)

# build_attack FILE: the program that looks for words in another process's memory.
build_attack()
{
	gcc -O2 -Wall -Wextra -static -I "$top/libgmem/uapi" -o "$1" "$top/kernel/lab/tests.d/launcher/attack.c"
}

# build/demo: the launcher, and an initrd with the guest's programs and driver in it.
build_demo()
{
	local name

	mkdir -p "$demo_dir/root" "$demo_dir/module"
	[[ -f $build/meson/build.ninja ]] || meson setup "$build/meson" "$top" -Dtests=disabled
	ninja -C "$build/meson" examples/launcher/gmem-launch
	gcc -O2 -Wall -static -s -o "$demo_dir/root/init" "$top/examples/guest/init.c"
	gcc -O2 -Wall -static -s -o "$demo_dir/root/window" "$top/examples/guest/window.c"
	gcc -O2 -Wall -static -s -o "$demo_dir/root/life" "$top/examples/guest/life.c"
	build_attack "$demo_dir/attack"
	kmake lab bzImage
	# What make leaves behind is to be in build/, so the sources are too.
	for name in Kbuild gmem_window.c gmem_window.h gmem_life.c gmem_life.h; do
		cmp -s "$top/examples/guest/$name" "$demo_dir/module/$name" ||
			cp "$top/examples/guest/$name" "$demo_dir/module/$name"
	done
	kmake lab M="$demo_dir/module" modules
	cp "$demo_dir/module/gmem_window.ko" "$demo_dir/module/gmem_life.ko" "$demo_dir/root/"
	(cd "$demo_dir/root" && printf '%s\n' init window life gmem_window.ko gmem_life.ko | cpio -o -H newc --quiet) >"$demo_dir/initrd.tmp"
	# A guest may be reading it.
	mv "$demo_dir/initrd.tmp" "$demo_dir/initrd"
}

# Inside the machine. Each part says what it shows, shows it, and stops where it is not so.
demo_script='
	launch=$1 kernel=$2 initrd=$3 attack=$4
	out=$LAB_RESULTS/demo
	append="console=ttyS0 loglevel=0 panic=-1 rdinit=/init"
	bad() { echo "NOT SO: $1"; exit 1; }
	backwards() { echo "$1" | awk "{for (i = length; i; i--) printf \"%s\", substr(\$0, i, 1)}"; }
	# What the guest printed backwards, so that the console does not have it: forwards.
	told() { backwards "$(sed -n "s/\r//; s/.*$1, backwards, is \([0-9a-f]*\).*/\1/p" "$out/console")"; }
	# Start the launcher, as pid, and wait until the guest has left its mark in an open window.
	start() {
		"$launch" --kernel "$kernel" --initrd "$initrd" --append "$append run=/window,talk,60" --mem 128M --talk "$@" \
			</dev/null >"$out/console" 2>"$out/said" &
		pid=$!
		n=0
		until grep -q "a mark in the window, backwards, is [0-9a-f]\{32\}" "$out/console" || [ $n -ge 600 ]; do sleep 0.1; n=$((n + 1)); done
		secret=$(told "my secret")
		mark=$(told "a mark in the window")
		[ ${#secret} = 32 ] || bad "the guest printed no secret"
		[ ${#mark} = 32 ] || bad "the guest left no mark"
	}
	# Take a core dump of it.
	core() {
		rm -f /tmp/core
		ulimit -c unlimited
		echo /tmp/core >/proc/sys/kernel/core_pattern
		start "$@"
		# Include shared mappings: guest memory is one.
		echo 0x7f >/proc/$pid/coredump_filter
		kill -ABRT $pid
		wait $pid 2>/dev/null
		[ -s /tmp/core ] || bad "there is no core"
		found=$(grep -aob "$secret" /tmp/core | wc -l)
		seen=$(grep -aob "$mark" /tmp/core | wc -l)
		size=$(($(stat -c %s /tmp/core) >> 20))
		[ "$seen" -gt 0 ] || bad "what is in the window was not found"
	}

	echo
	echo "1. Linux boots in memory that was private before its first instruction,"
	echo "   half of it on each of two NUMA nodes:"
	echo
	"$launch" --kernel "$kernel" --initrd "$initrd" --append "$append" --cpus 2 --numa 0:128M,1:128M \
		--stats --map "$out/map.svg" </dev/null 2>&1 | sed "s/\r//; s/^/   | /" | tee "$out/first"
	grep -q "can read 0 of 65536 pages" "$out/first" || bad "the launcher could read it"
	grep -q "guest: Linux is up on 2 processors" "$out/first" || bad "Linux did not come up"
	grep -q "on nodes 0-1" "$out/first" || bad "the guest does not see its nodes"
	grep -q "262144 KiB private" "$out/first" || bad "not all of it is private"
	grep -qE "node 0 is on host node 0 \([0-9]+ KiB\)$" "$out/first" &&
		grep -qE "node 1 is on host node 1 \([0-9]+ KiB\)$" "$out/first" || bad "the memory is elsewhere"

	echo
	echo "2. The guest shares a window of its memory, talks, and closes it:"
	echo
	"$launch" --kernel "$kernel" --initrd "$initrd" --append "$append run=/window,talk" --mem 128M --talk \
		</dev/null 2>&1 | sed -n "s/\r//; /made 64 KiB/,/I ask again/s/^/   | /p" | grep -v backwards | tee "$out/window"
	grep -q "shared; the launcher can read 16 of 16 pages" "$out/window" || bad "no window was opened"
	grep -q "guest: the answer is: gmem-launch has read .Is anybody out there?." "$out/window" ||
		bad "the launcher did not answer"
	grep -q "private; the launcher can read 0 of 16 pages" "$out/window" || bad "the window stayed open"
	grep -q "I ask again, and the answer is: (none)" "$out/window" || bad "the launcher still answers"

	echo
	echo "3. The guest keeps a secret, and leaves a mark in an open window. The kernel writes"
	echo "   a core dump of the launcher, with coredump_filter 0x7f: shared mappings included."
	core
	[ "$found" = 0 ] || bad "it is in there $found times"
	echo "   $size MiB, in which the secret $secret is found $found times; the mark is there"

	echo
	echo "4. The same guest in shared memory, to show that the search finds the secret:"
	core --shared
	[ "$found" -gt 0 ] || bad "it was not found"
	echo "   $size MiB, in which the secret $secret is found $found times; the mark is there"

	echo
	echo "5. What private memory does not protect from: code that has the guest_memfd. Another"
	echo "   process copies the descriptor (pidfd_getfd), converts the memory to shared, maps it:"
	start
	# Where every user can run it.
	cp "$attack" /tmp/attack
	setpriv --reuid 65534 --regid 65534 --clear-groups /tmp/attack --convert $pid "$(backwards $secret)" >"$out/stranger" &&
		bad "another user got the descriptor"
	grep -q "pidfd_getfd: Operation not permitted" "$out/stranger" || bad "$(cat "$out/stranger")"
	echo "   a user who may not trace the launcher: pidfd_getfd: Operation not permitted"
	/tmp/attack --convert $pid "$(backwards $secret)" >"$out/holder" || bad "$(cat "$out/holder")"
	found=$(awk "/ convert / { print \$4 }" "$out/holder")
	kill $pid
	wait $pid 2>/dev/null
	[ "${found:-0}" -gt 0 ] || bad "it was not found"
	echo "   a user who may: the secret $secret is found $found times"
	exit 0'

# shellcheck disable=SC2317 # reached through main
cmd_demo()
{
	(($# == 0)) || usage_error "demo takes no argument."
	need_packages "${packages_vm[@]}" "${packages_kernel[@]}" "${packages_demo[@]}"
	need_kernel lab
	lock kernel-lab
	with_progress "building libgmem, the launcher and the guest" "$build/log/demo.log" build_demo ||
		die "the demo does not build: see build/log/demo.log."
	unlock kernel-lab
	rm -rf "$results/demo"
	mkdir -p "$results/demo"
	# See 50-selftests.sh for why they take turns.
	cmd_run --turns --timeout 900 -- sh -c "$demo_script" - "$build/meson/examples/launcher/gmem-launch" \
		"$(kernel_dir lab)/arch/x86/boot/bzImage" "$demo_dir/initrd" "$demo_dir/attack" ||
		die "a part of the demo failed: see build/results/demo."
	echo
	echo "The picture is build/results/demo/map.svg; what was built, and how, is in build/log/demo.log."
}
