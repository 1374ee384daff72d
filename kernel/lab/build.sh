# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Building the kernels. Each has a directory, build/kernel-FLAVOUR:
#
#   lab     base + files + patches, kernel/config/lab.config
#   debug   the same source, with kernel/config/debug.config on top
#   kcsan   the same source, with kernel/config/kcsan.config on top
#   stock   the base alone, with lab.config
#   uml     the same source for ARCH=um, with uml.config and what each .kunitconfig in
#           kernel/files asks for
#   step    one step of the series (check.sh)
#
# Debian's own, debian-VERSION, are not built but unpacked (debian.sh).

jobs=$(nproc)

# In the order in which a test run builds them.
flavours_known=(lab uml debug stock kcsan)

kernel_dir()
{
	case $1 in
	debian-*) echo "$debian_kernels/${1#debian-}" ;;
	*) echo "$build/kernel-$1" ;;
	esac
}

flavour_source()
{
	case $1 in
	stock) echo "$build/linux-stock" ;;
	step) echo "$build/check/linux" ;;
	*) echo "$build/linux" ;;
	esac
}

flavour_fragments()
{
	local dir=$top/kernel/config

	case $1 in
	lab | stock | step) echo "$dir/lab.config" ;;
	debug | kcsan) printf '%s\n' "$dir/lab.config" "$dir/$1.config" ;;
	uml) echo "$dir/uml.config" ;;
	esac
	[[ $1 != uml ]] || kunit_configs
}

kunit_configs()
{
	[[ ! -d $files ]] || find "$files" -name .kunitconfig | LC_ALL=C sort
}

kmake()
{
	local flavour=$1 arch=x86_64
	shift

	[[ $flavour != uml ]] || arch=um
	# What another clone has compiled is not compiled again. In depend mode a miss does not
	# run the preprocessor once more.
	CCACHE_DEPEND=1 CCACHE_BASEDIR=$build CCACHE_NOHASHDIR=1 \
		make CC='ccache gcc' HOSTCC='ccache gcc' -C "$(flavour_source "$flavour")" \
		O="$(kernel_dir "$flavour")" --no-print-directory ARCH="$arch" \
		KBUILD_BUILD_USER=gmem KBUILD_BUILD_HOST=lab LOCALVERSION= "$@"
}

# Variables of make, with which KCSAN watches the files of the series and nothing else; named
# as the Makefiles that list them do.
kcsan_watched()
{
	echo KCSAN_SANITIZE=n
	(cd "$files" && find mm/guestmem virt/kvm arch/x86/kvm -name '*.c' ! -path '*/tests/*') |
		sed -e 's,^mm/,,' -e 's,^virt/,../../../virt/,' -e 's,^arch/x86/kvm/,,' -e 's,.*,KCSAN_SANITIZE_&,' \
			-e 's,\.c$,.o=y,'
	# What the series changed in it, it changed as a whole.
	echo KCSAN_SANITIZE_../../../virt/kvm/guest_memfd.o=y
}

# What make leaves behind is to be in build/, so what the emulator needs is there, too.
make_kernel()
{
	local flavour=$1 dir watched=()

	dir=$(kernel_dir "$flavour")
	if [[ $flavour == uml ]]; then
		kmake "$flavour" -j"$jobs" linux
		return
	fi
	[[ $flavour != kcsan ]] || mapfile -t watched < <(kcsan_watched)
	kmake "$flavour" -j"$jobs" "${watched[@]}" vmlinux modules || return 1
	mkdir -p "$dir/tcg"
	cp -p "$top"/kernel/lab/tcg/* "$dir/tcg"
	kmake "$flavour" M="$dir/tcg" modules
}

# Did every line of the fragments take effect? A later one overrules an earlier.
# Options that the source does not know at all are let pass, for stock's sake.
check_config()
{
	local flavour=$1 config=$2 source option value got ok=1
	local -A want=()

	source=$(flavour_source "$flavour")
	shift 2
	while IFS='=' read -r option value; do
		want[$option]=$value
	done < <(sed -n 's/^\(CONFIG_[A-Za-z0-9_]*=[^ ]*\)$/\1/p' "$@")
	for option in "${!want[@]}"; do
		value=${want[$option]}
		got=$(sed -n "s/^$option=//p" "$config")
		[[ ${got:-n} == "$value" ]] && continue
		grep -rqsE "^[[:space:]]*(menu)?config ${option#CONFIG_}\$" --include='Kconfig*' "$source" || continue
		say "$option=$value of kernel/config did not take effect: it is ${got:-n}."
		ok=0
	done
	((ok))
}

# configure FLAVOUR: writes .config only where it would change.
configure()
{
	local flavour=$1 dir tmp
	local -a fragments

	dir=$(kernel_dir "$flavour")
	mapfile -t fragments < <(flavour_fragments "$flavour")
	mkdir -p "$dir"
	cat "${fragments[@]}" >"$dir/fragment"
	tmp=$dir/.config.lab
	KCONFIG_CONFIG=$tmp KCONFIG_ALLCONFIG=$dir/fragment kmake "$flavour" -s allnoconfig \
		>"$build/log/config-$flavour.log" 2>&1 || {
		grep -v 'override: reassigning' "$build/log/config-$flavour.log" >&2 || :
		return 1
	}
	# In the middle of the series, what selects an option may not be there yet.
	[[ $flavour == step ]] || check_config "$flavour" "$tmp" "${fragments[@]}" || return 1
	if ! cmp -s "$tmp" "$dir/.config"; then
		cp "$tmp" "$dir/.config"
		kmake "$flavour" -s olddefconfig >>"$build/log/config-$flavour.log" 2>&1
	fi
}

# What a kernel was made from: sizes and times are enough to see a change.
fingerprint()
{
	local flavour=$1 paths=("$top/kernel/config" "$top/kernel/base" "$top/kernel/lab/tcg")

	[[ $flavour == stock ]] || paths+=("$files" "$patches")
	{
		cat "$linux_git/base"
		{ find "${paths[@]}" -type f -printf '%p %s %T@\n' 2>/dev/null || :; } | LC_ALL=C sort
	} | sha1sum
}

# The source tree of a flavour, up to date, and nobody changes it until the lock on the
# builds is given back; source_print is what it was made from.
need_source()
{
	local tree at=$linux_git/linux.tree

	lock source
	need_base
	source_print=$(fingerprint "$1")
	if [[ $1 != stock ]]; then
		read_series
		check_claims
		tree=$(patched_tree) || exit 1
		if [[ ! -d $build/linux || ! -f $at || $tree != "$(<"$at")" ]]; then
			lock builds
			rm -f "$at"
			checkout_linux "$tree"
			echo "$tree" >"$at"
			unlock builds
		fi
	fi
	lock builds shared
	unlock source
}

have_kernel()
{
	local dir

	dir=$(kernel_dir "$1")
	[[ -f $dir/lab.fingerprint && -f $linux_git/base && $(fingerprint "$1") == "$(<"$dir/lab.fingerprint")" ]]
}

# need_kernel FLAVOUR: built, and up to date with kernel/, or built at all where
# --as-is was given.
need_kernel()
{
	local flavour=$1 dir

	if [[ $flavour == debian-* ]]; then
		need_debian_kernel "${flavour#debian-}"
		return
	fi
	have_kernel "$flavour" && return
	if [[ -n ${LAB_AS_IS:-} ]]; then
		[[ -f $(kernel_dir "$flavour")/lab.fingerprint ]] && return
		die "there is no $flavour kernel yet to take as it is."
	fi
	lock "kernel-$flavour"
	have_kernel "$flavour" && { unlock "kernel-$flavour"; return; } # someone else did it
	dir=$(kernel_dir "$flavour")
	need_source "$flavour"
	[[ -f $dir/vmlinux ]] || need_space 3000 "building a kernel"
	configure "$flavour" || die "the $flavour kernel cannot be configured: see $build/log/config-$flavour.log."
	with_progress "building the $flavour kernel" "$build/log/kernel-$flavour.log" \
		make_kernel "$flavour" || return 1
	echo "$source_print" >"$dir/lab.fingerprint"
	unlock builds
	unlock "kernel-$flavour"
}

cmd_kernel()
{
	local flavour=lab

	while (($#)); do
		case $1 in
		--debug) flavour=debug ;;
		--kcsan) flavour=kcsan ;;
		--stock) flavour=stock ;;
		*) usage_error "kernel: '$1' is not one of --debug, --kcsan, --stock." ;;
		esac
		shift
	done
	need_kernel "$flavour" || exit 1
	say "the $flavour kernel is in build/kernel-$flavour"
}
