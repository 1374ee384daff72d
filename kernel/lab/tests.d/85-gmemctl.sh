# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="gmemctl: what it finds out about a guest, and about kernels"

step_packages=(meson ninja-build gcc libc6-dev libnuma-dev pkg-config cpio python3)
step_kernels=(lab)

# Inside the machine: a guest of 128 MiB on two nodes, and what gmemctl says of it, in files.
gmemctl_driver='
	ctl=$1 launch=$2 kernel=$3 initrd=$4
	cd "$LAB_RESULTS/gmemctl"
	nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
	# run NAME COMMAND...: its output, its errors, its status.
	run() {
		name=$1
		shift
		"$@" >"$name.out" 2>"$name.err"
		echo $? >"$name.status"
	}
	# begin_guest OPTION...: it has said all that it has to say.
	begin_guest() {
		: >console
		"$launch" --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 quiet panic=-1 rdinit=/init wait=100" \
			"$@" </dev/null >console 2>said &
		guest=$!
		n=0
		until grep -q "backwards, is" console || [ $n -ge 600 ]; do sleep 0.1; n=$((n + 1)); done
	}
	end_guest() { kill -KILL $guest; wait $guest; }

	run empty "$ctl" list
	run probe "$ctl" probe
	run probe-json "$ctl" probe --json

	begin_guest --numa 0:64M,1:64M
	echo $guest >pid
	for fd in /proc/$guest/fd/*; do
		case $(readlink "$fd") in *kvm-vm) vm=${fd##*/} ;; esac
	done
	run list "$ctl" list
	run list-json "$ctl" list --json
	run show "$ctl" show $guest
	run show-json "$ctl" show $guest --json
	run show-named "$ctl" show $guest:$(awk "NR == 2 { print \$2 }" list.out)
	run list-named "$ctl" list $guest --sort populated
	run show-kvm "$ctl" show $guest:$vm
	run show-svg "$ctl" show $guest --svg show.svg
	run show-nowhere "$ctl" show $guest --svg /nowhere/show.svg
	run nobody-list nobody "$ctl" list
	run nobody-show nobody "$ctl" show $guest
	# Watching ends with the guest, and meanwhile keeps no memory.
	run watch "$ctl" show $guest --watch 0.5 --json &
	watch=$!
	"$ctl" show $guest --watch 3600 >sleeper.out &
	sleeper=$!
	n=0
	until [ -s sleeper.out ] && [ $(wc -l <watch.out) -ge 2 ] || [ $n -ge 600 ]; do sleep 0.1; n=$((n + 1)); done
	# Guest memory is on no list of what can be reclaimed, and little else is. MemFree would
	# leave out what each processor keeps of the pages that it freed, for seconds.
	unevictable() { awk "/^Unevictable/ { print \$2 }" /proc/meminfo; }
	unevictable >watched
	end_guest
	wait $watch
	unevictable >ended
	kill $sleeper

	begin_guest --mem 64M --shared
	run shared-json "$ctl" list --json
	end_guest

	run bench "$ctl" bench --size 8M --json --svg bench.svg'

# On the kernel without the series: there is guest memory, but it is not told about.
gmemctl_stock_driver='
	ctl=$1
	cd "$LAB_RESULTS/gmemctl"
	"$ctl" probe >stock-probe.out 2>stock-probe.err
	echo $? >stock-probe.status
	"$ctl" bench --size 64M >stock-bench.out 2>stock-bench.err &
	n=0
	until "$ctl" list 2>/dev/null | grep -q 64M || [ $n -ge 100 ]; do sleep 0.1; n=$((n + 1)); done
	"$ctl" list >stock-list.out 2>stock-list.err
	"$ctl" list --json >stock-list-json.out
	"$ctl" show $! >stock-show.out 2>stock-show.err
	echo $? >stock-show.status
	wait $!
	echo $? >stock-bench.status'

# ran NAME STATUS SAID: how a command in the machine ended, and what it said.
ran()
{
	local at=$results/gmemctl/$1

	tail -n 20 "$at".{out,err}
	[[ $(<"$at.status") == "$2" ]] && grep -qF -- "$3" "$at".{out,err}
}

# agrees WHAT: of the JSON and the text of the guest, what must be so whatever it did.
agrees()
{
	python3 - "$results/gmemctl" "$1" <<-'END'
		import json, sys, os
		def load(name): return json.load(open(os.path.join(sys.argv[1], name + ".out")))
		pid = int(open(os.path.join(sys.argv[1], "pid")).read())
		what = sys.argv[2]
		if what == "list":
		    listed, processes = load("list-json")["memories"], load("list-json")["processes"]
		    assert len(listed) == len(processes) == 1, (listed, processes)
		    m, p = listed[0], processes[0]
		    assert p["pid"] == pid and p["process"] == "gmem-launch" and len(p["vm_fds"]) == 1, p
		    assert [o["pid"] for o in m["open"]] == [pid], m
		    assert m["size"] == m["private"] == 128 << 20 and m["shared"] == 0, m
		    assert m["inode"] > 0, m
		    assert 0 < m["populated"] < m["size"], m
		    assert set(m["nodes"]) == {"0", "1"} and sum(m["nodes"].values()) == m["populated"], m
		elif what == "show":
		    s, m = load("show-json"), load("list-json")["memories"][0]
		    assert (s["pid"], s["fd"], s["size"], s["private"]) == (pid, m["open"][0]["fd"], m["size"], m["private"]), s
		    at = 0
		    for run in s["runs"]:
		        assert run["offset"] == at and run["state"] == "private", run
		        assert run["populated"] in (0, run["size"]), run
		        assert (run["node"] is None) == (run["populated"] == 0), run
		        # Half of it was bound to each node.
		        assert run["node"] in (None, int(run["offset"] >= 64 << 20)), run
		        at += run["size"]
		    assert at == s["size"], at
		    assert sum(run["populated"] for run in s["runs"]) == s["populated"], s["populated"]
		    # It may have touched more since.
		    assert m["populated"] <= s["populated"] < m["populated"] + (4 << 20), (m, s["populated"])
		elif what == "watch":
		    lines = open(os.path.join(sys.argv[1], "watch.out")).read().splitlines()
		    assert len(lines) >= 2 and all(json.loads(line)["pid"] == pid for line in lines), len(lines)
		    watched, ended = (int(open(os.path.join(sys.argv[1], name)).read()) for name in ("watched", "ended"))
		    populated = load("list-json")["memories"][0]["populated"] >> 10
		    assert watched - ended > populated - (2 << 10), (watched, ended, populated)
		elif what == "shared":
		    m = load("shared-json")["memories"][0]
		    assert m["shared"] == m["size"] == 64 << 20 and m["private"] == 0, m
		elif what == "probe":
		    p = load("probe-json")
		    assert p["nodes"] == 2, p
		    features = p["types"]["plain"]["features"]
		    assert features["inplace"]["available"] and not features["dual"]["available"], features
		    assert features["dual"]["reason"], features
		elif what == "bench":
		    b = load("bench")
		    assert b["mode"] == "in-place" and b["size"] == 8 << 20, b
		    for f in b["figures"]:
		        assert f["rounds"] >= 3 and 0 < f["least_ns"] <= f["median_ns"], f
		    assert {"place_node0", "place_node1"} <= {f["id"] for f in b["figures"]}, b
		elif what == "stock":
		    m = load("stock-list-json")["memories"][0]
		    assert m["size"] == 64 << 20 and m["private"] is None and m["nodes"] is None, m
		    assert 0 <= m["populated"] <= m["size"], m
	END
}

# The picture has a strip for all of it and for each node, and is XML.
picture_is_one()
{
	local at=$results/gmemctl

	[[ $(<"$at/show-svg.status") == 0 && ! -s $at/show-svg.out ]] || return 1
	python3 -c 'import sys, xml.dom.minidom as m; [m.parse(f) for f in sys.argv[1:]]' \
		"$at/show.svg" "$at/bench.svg" &&
		(($(grep -c 'class="frame"' "$at/show.svg") == 3)) &&
		grep -q '(gmem-launch): 128M, 128M of it private' "$at/show.svg"
}

build_gmemctl()
{
	[[ -f $build/meson/build.ninja ]] || meson setup "$build/meson" "$top" -Dtests=disabled
	ninja -C "$build/meson" tools/gmemctl examples/launcher/gmem-launch
	mkdir -p "$build/demo/root"
	gcc -O2 -Wall -static -s -o "$build/demo/root/init" "$top/examples/guest/init.c"
	(cd "$build/demo/root" && echo init | cpio -o -H newc --quiet) >"$build/gmemctl-initrd"
	[[ -n ${LAB_AS_IS:-} ]] || kmake lab bzImage
}

# run_gmemctl FLAVOUR DRIVER: it, and whether the machine was well.
run_gmemctl()
{
	local flavour=$1 driver=$2 log=$test_log/gmemctl-machine-$1.log status=0

	in_lab "$flavour" --timeout 300 -- sh -c "$driver" - "$build/meson/tools/gmemctl" \
		"$build/meson/examples/launcher/gmem-launch" "$(kernel_dir lab)/arch/x86/boot/bzImage" \
		"$build/gmemctl-initrd" >"$log" 2>&1 || status=$?
	vm_result "the $flavour kernel keeps a clean log" "$status" "$log"
}

need_gmemctl()
{
	need_kernel lab || return
	lock kernel-lab
	check_build "it builds" build_gmemctl
	unlock kernel-lab
	rm -rf "$results/gmemctl"
	mkdir -p "$results/gmemctl"
	[[ -x $build/meson/tools/gmemctl ]]
}

step_run()
{
	need_gmemctl || return 0

	run_gmemctl lab "$gmemctl_driver"
	check "it finds nothing where nothing is" ran empty 0 "no process has a guest_memfd"
	check "probe: 0 on gmem's kernel" ran probe 0 "private memory in place"
	check "probe: which VMs have what" agrees probe
	check "list: a line for the guest" ran list 0 "gmem-launch"
	check "list: what the kernel tells" agrees list
	check "list: of a process" ran list-named 0 "gmem-launch"
	check "list: as nobody, what is hidden" ran nobody-list 0 "cannot be inspected"
	check "show: the memory of a process" ran show 0 "128M private, 0 shared"
	check "show: the memory of a descriptor" ran show-named 0 "128M private, 0 shared"
	check "show: the runs are all of it, on their nodes" agrees show
	check "show: not of what is no memory" ran show-kvm 3 "is not a guest_memfd"
	check "show: not to nobody" ran nobody-show 3 "cannot be inspected"
	check "show: a picture" picture_is_one
	check "show: a picture that goes nowhere" ran show-nowhere 3 "/nowhere/show.svg: No such file"
	check "show: watching ends with the guest" ran watch 0 '"runs"'
	check "show: watching keeps no memory" agrees watch
	check "list: what is shared" agrees shared
	check "bench: every figure" agrees bench
}
