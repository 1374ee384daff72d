# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Booting a kernel in QEMU and running something in there.
#
# Each boot has a directory build/run/NAME: job and status (see init.c), the
# kernel's log console.log, and the ends of the channels. The machine sees the
# host's files read-only below a tmpfs, and may write to build/results.

results=$build/results

# What init exits with when it is not the command that failed.
readonly STATUS_SPLAT=120	# the command is fine, the kernel is not
readonly STATUS_PANIC=121	# the machine died before the command ended
readonly STATUS_BOOT=122	# the command was never started
readonly STATUS_TIMEOUT=124	# as timeout(1)

# A machine that has not come to its command by then never will: a hundred times what it
# takes where nothing else runs.
boot_limit=600

vm_defaults()
{
	vm_flavour=lab vm_smp=2 vm_mem=4096 vm_timeout=0 vm_icount='' vm_turns='' vm_append='' vm_tty=''
}

# Takes the options of run and shell; sets vm_rest to what follows them.
parse_vm_options()
{
	local who=$1
	shift
	vm_defaults
	while (($#)); do
		case $1 in
		--debug) vm_flavour=debug ;;
		--kcsan) vm_flavour=kcsan ;;
		--stock) vm_flavour=stock ;;
		--icount) vm_icount=1 vm_smp=1 ;;
		--turns) vm_turns=1 ;;
		--as-is) export LAB_AS_IS=1 ;;
		--smp | --mem | --timeout | --append | --kernel)
			(($# > 1)) || usage_error "$who: $1 needs a value."
			case $1 in
			--smp)
				[[ $2 =~ ^[1-9][0-9]?$ ]] || usage_error "$who: --smp takes a number of processors, not '$2'."
				vm_smp=$2 ;;
			--mem)
				[[ $2 =~ ^([1-9][0-9]*)([MG]?)$ ]] || usage_error "$who: --mem takes MiB, or 4G and the like, not '$2'."
				vm_mem=${BASH_REMATCH[1]}
				[[ ${BASH_REMATCH[2]} != G ]] || vm_mem=$((vm_mem * 1024)) ;;
			--timeout)
				[[ $2 =~ ^[0-9]+$ ]] || usage_error "$who: --timeout takes seconds, not '$2'."
				vm_timeout=$2 ;;
			--append) vm_append=$2 ;;
			--kernel)
				[[ $2 =~ ^[1-9][0-9]*\.[0-9][-+.~0-9a-z]*$ ]] ||
					usage_error "$who: --kernel takes the begin of a version, as 6.12 or 7.3.4, not '$2'."
				vm_flavour=debian-$2 ;;
			esac
			shift ;;
		--) shift; break ;;
		-*) usage_error "$who: unknown option '$1'." ;;
		*) break ;;
		esac
		shift
	done
	((vm_mem >= 512)) || usage_error "$who: --mem must be at least 512 MiB."
	[[ -z $vm_icount || $vm_smp == 1 ]] || usage_error "$who: --icount works with one processor."
	vm_rest=("$@")
}

compile()
{
	gcc -O2 -Wall "$@" || die "that does not compile."
}

# build/initrd.cpio: init.c, alone. What else an initramfs needs, each kernel has in its own.
need_initrd()
{
	local tmp

	[[ ! $build/tsc -nt $top/kernel/lab/tsc.c || ! $build/initrd.cpio -nt $top/kernel/lab/init.c ]] || return 0
	tmp=$(mktemp -d "$build/initrd.XXXX")
	compile -o "$tmp/tsc" "$top/kernel/lab/tsc.c"
	mv "$tmp/tsc" "$build/tsc"
	compile -static -s -o "$tmp/init" "$top/kernel/lab/init.c"
	(cd "$tmp" && echo init | cpio -o -H newc --quiet -R 0:0) >"$tmp/initrd.cpio"
	mv "$tmp/initrd.cpio" "$build/initrd.cpio"
	rm -rf "$tmp"
}

# A directory for this boot; the oldest go.
new_run_dir()
{
	local old

	mkdir -p "$build/run" "$results"
	while IFS= read -r old; do
		[[ -e $build/run/$old/pid && -d /proc/$(<"$build/run/$old/pid") ]] || rm -rf "${build:?}/run/$old"
	done < <(find "$build/run" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort | head -n -30)
	vm_dir=$(mktemp -d "$build/run/$(date +%H%M%S)-XXXX")
	chmod 755 "$vm_dir"
	mkdir "$vm_dir/ctl"
	echo $$ >"$vm_dir/pid"
	vm_log=$vm_dir/console.log
	: >"$vm_log"
}

write_job()
{
	local dir module arg

	dir=$(kernel_dir "$vm_flavour")
	(
		umask 077
		{
			for module in virt/lib/irqbypass.ko arch/x86/kvm/kvm.ko arch/x86/kvm/kvm-amd.ko tcg/lab_tcg.ko; do
				[[ ! -f $dir/$module ]] || printf 'module=%s\0' "$dir/$module"
			done
			printf 'rw=results:%s\0' "$results"
			printf 'cwd=%s\0' "$PWD"
			[[ $vm_flavour != debian-* ]] || printf 'hold=1\0'
			[[ -z $vm_tty ]] || printf 'tty=%s\0' "$vm_tty"
			[[ -z $vm_stdin ]] || printf 'stdin=1\0'
			[[ -z $vm_merge ]] || printf 'merge=1\0'
			for arg; do
				printf 'arg=%s\0' "$arg"
			done
			LAB_RESULTS=$results LAB_KERNEL=$dir env -0 | sed -z 's/^/env=/'
		} >"$vm_dir/ctl/job"
	)
}

# shellcheck disable=SC2054 # the commas are QEMU's
qemu_command()
{
	local half=$((vm_mem / 2)) dir cpus0=0 cpus1='' append khz image initrd=$build/initrd.cpio

	dir=$(kernel_dir "$vm_flavour")
	image=$dir/vmlinux
	[[ $vm_flavour != debian-* ]] || image=$dir/vmlinuz initrd=$dir/initrd.cpio
	if ((vm_smp > 1)); then
		cpus0=0-$((vm_smp / 2 - 1))
		cpus1=,cpus=$((vm_smp / 2))-$((vm_smp - 1))
	fi
	# An instruction is a nanosecond where they are counted.
	khz=1000000
	[[ -n $vm_icount ]] || khz=$("$build/tsc")
	append="console=ttyS0 ignore_loglevel oops=panic panic=-1 reboot=t no_timer_check tsc=reliable tsc_early_khz=$khz lpj=$((khz * 10))"
	append+=" 8250.nr_uarts=1 mitigations=off random.trust_cpu=on cgroup_no_v1=all $vm_append"
	qemu=(qemu-system-x86_64 -nodefaults -no-user-config -display none -nic none -no-reboot
		# Not pc, whose table of interrupts costs an interpreter many seconds. A socket for
		# each processor, or Linux 7.3 warns about the topology.
		-machine q35,usb=off,vmport=off,hpet=off,smbus=off,sata=off -cpu max -smp "$vm_smp,sockets=$vm_smp" -m "${vm_mem}M"
		-object "memory-backend-ram,id=m0,size=${half}M"
		-object "memory-backend-ram,id=m1,size=$((vm_mem - half))M"
		-numa "node,nodeid=0,memdev=m0,cpus=$cpus0" -numa "node,nodeid=1,memdev=m1$cpus1"
		-kernel "$image" -initrd "$initrd" -append "$append"
		-device virtio-serial-pci,max_ports=4 # the first: its ports are /dev/vport0pN
		-chardev "file,id=log,path=$vm_log" -serial chardev:log
		-fsdev "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
		-device virtio-9p-pci,fsdev=host,mount_tag=host
		-fsdev "local,id=ctl,path=$vm_dir/ctl,security_model=none"
		-device virtio-9p-pci,fsdev=ctl,mount_tag=ctl
		-fsdev "local,id=results,path=$results,security_model=none"
		-device virtio-9p-pci,fsdev=results,mount_tag=results
		-device virtio-rng-pci)
	if [[ -n $vm_icount ]]; then
		qemu+=(-accel tcg,thread=single -icount shift=0)
	elif [[ -n $vm_turns ]]; then
		qemu+=(-accel tcg,thread=single)
	else
		qemu+=(-accel tcg,thread=multi)
	fi
	if [[ -n $vm_tty ]]; then
		qemu+=(-chardev stdio,id=tty,signal=off -device virtconsole,nr=0,chardev=tty)
	else
		qemu+=(-chardev "file,id=out,path=$vm_dir/out" -device virtserialport,nr=1,chardev=out,name=out
			-chardev "file,id=err,path=$vm_dir/err" -device virtserialport,nr=2,chardev=err,name=err)
		[[ -z $vm_stdin ]] || qemu+=(-chardev stdio,id=in,signal=off
			-device virtserialport,nr=3,chardev=in,name=in)
	fi
}

# await PID SECONDS: false when it still runs after that time (0: no limit).
await()
{
	local clock

	if (($2 == 0)); then
		wait "$1" || :
		return 0
	fi
	sleep "$2" >/dev/null 2>&1 &
	clock=$!
	wait -n "$1" "$clock" || :
	if kill "$clock" 2>/dev/null; then
		wait "$clock" 2>/dev/null || :
		return 0
	fi
	! kill -0 "$1" 2>/dev/null
}

said()
{
	grep -aqs "^$1" "$vm_dir/ctl/status"
}

# What a machine that is being watched came to: vm_end is '', boot or timeout.
watch_machine()
{
	local pid=$1 first=$boot_limit

	vm_end=''
	((vm_timeout == 0 || vm_timeout > first)) || first=$vm_timeout
	if ! await "$pid" "$first"; then
		if ((vm_timeout == first)); then
			vm_end=timeout
		elif ! said started; then
			vm_end=boot
		elif ! await "$pid" $((vm_timeout ? vm_timeout - first : 0)); then
			vm_end=timeout
		fi
	fi
	kill "$pid" 2>/dev/null || :
	wait "$pid" 2>/dev/null || :
}

boot_on_pipes()
{
	local pid out err readers=() feeder='' input=/dev/null begin began

	mkfifo "$vm_dir/out" "$vm_dir/err"
	# Held open here, so that the readers neither wait for QEMU nor outlive it.
	exec {out}<>"$vm_dir/out" {err}<>"$vm_dir/err"
	cat <"$vm_dir/out" {out}>&- {err}>&- &
	readers+=($!)
	cat <"$vm_dir/err" >&2 {out}>&- {err}>&- &
	readers+=($!)
	if [[ -n $vm_stdin ]]; then
		input=$vm_dir/in
		mkfifo "$input"
		{
			printf x
			exec cat
		} <&0 >"$input" 2>/dev/null {out}>&- {err}>&- &
		feeder=$!
	fi
	clock begin
	"${qemu[@]}" <"$input" >"$vm_dir/qemu.err" 2>&1 {out}>&- {err}>&- &
	pid=$!
	at_exit "kill $pid ${readers[*]} $feeder 2>/dev/null; wait $pid 2>/dev/null"
	watch_machine "$pid"
	# init made this file when it started the command.
	! began=$(date -r "$vm_dir/ctl/started" +%s%6N 2>/dev/null) || spent booting $((began - begin))
	[[ -z $feeder ]] || kill "$feeder" 2>/dev/null || :
	exec {out}>&- {err}>&-
	wait "${readers[@]}" || :
	rm -f "$vm_dir/out" "$vm_dir/err" "$vm_dir/in"
}

boot_on_tty()
{
	local saved status=0

	saved=$(stty -g)
	at_exit "stty $saved"
	# In the foreground, or it could not read from the terminal.
	timeout --foreground "$vm_timeout" "${qemu[@]}" 2>"$vm_dir/qemu.err" || status=$?
	stty "$saved"
	vm_end=''
	((status != 124)) || vm_end=timeout
}

# What became of the command, of the machine and of its kernel: the exit status.
judge()
{
	local status splat

	rm -f "$vm_dir/ctl/job"
	splat=$(first_splat "$vm_log")
	if said 'exit '; then
		status=$(sed -n 's/^exit //p' "$vm_dir/ctl/status")
	elif said 'signal '; then
		status=$((128 + $(sed -n 's/^signal //p' "$vm_dir/ctl/status")))
	elif said 'error '; then
		say "inside: $(sed -n 's/^error //p' "$vm_dir/ctl/status")"
		status=$STATUS_BOOT
	elif [[ $vm_end == timeout ]]; then
		say "not done within $vm_timeout s: the machine was stopped."
		status=$STATUS_TIMEOUT
	elif said started; then
		say "the machine died before the command ended."
		status=$STATUS_PANIC
	else
		say "the machine did not boot$([[ $vm_end != boot ]] || echo " within $boot_limit s")."
		tail -n 3 "$vm_dir/qemu.err" >&2
		# What init says before it can reach the status.
		grep -a '^lab: ' "$vm_log" >&2 || :
		status=$STATUS_BOOT
	fi
	if [[ -n $splat ]]; then
		say "the kernel complained (the command's own status: $status):"
		printf '%s\n' "$splat" >&2
		((status == STATUS_PANIC || status == STATUS_BOOT)) || status=$STATUS_SPLAT
	fi
	say "kernel log: ${vm_log#"$top"/}"
	return "$status"
}

# vm_run COMMAND...: in the machine that the vm_* variables describe.
vm_run()
{
	if [[ $vm_flavour == debian-* ]]; then
		find_debian_kernel "${vm_flavour#debian-}"
		vm_flavour=debian-$debian_version
	fi
	need_kernel "$vm_flavour" || return "$STATUS_BOOT"
	need_packages "${packages_vm[@]}"
	need_initrd
	[[ $vm_flavour != debian-* ]] || need_debian_initrd "$(kernel_dir "$vm_flavour")"
	new_run_dir
	vm_stdin='' vm_merge=''
	[[ -t 0 || /dev/fd/0 -ef /dev/null ]] || vm_stdin=1
	[[ ! /dev/fd/1 -ef /dev/fd/2 ]] || vm_merge=1
	write_job "$@"
	qemu_command
	if [[ -n $vm_tty ]]; then
		boot_on_tty
	else
		boot_on_pipes
	fi
	judge
}

cmd_run()
{
	parse_vm_options run "$@"
	((${#vm_rest[@]})) || usage_error "run: which command?"
	vm_run "${vm_rest[@]}" || exit $?
}

cmd_shell()
{
	parse_vm_options shell "$@"
	[[ -t 0 && -t 1 ]] || die "shell needs a terminal; ./lab run COMMAND does not."
	((${#vm_rest[@]})) || vm_rest=("${SHELL:-/bin/bash}")
	vm_tty=$(stty size | tr ' ' x)
	vm_run "${vm_rest[@]}" || exit $?
}
