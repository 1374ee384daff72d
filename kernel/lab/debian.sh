# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Debian's binary kernels, for run and shell with --kernel VERSION.
#
# The kernels come from the machine's own mirror of Debian, by lists of packages that are
# kept in build/debian-kernels/apt: nothing in /etc/apt changes, nothing is installed. Each
# kernel is unpacked once, into build/debian-kernels/VERSION:
#
#   vmlinuz      the kernel
#   config       its configuration
#   initrd.cpio  init and the modules that it loads first (see init.c)
#
# They are of the flavour amd64; the cloud flavour has no 9p. VERSION is as in the names of
# the packages, without -amd64: 6.12.118+deb13, or 6.1.0-56.

debian_kernels=$build/debian-kernels

# The releases whose kernels there may be. Their security and backports suites have all that
# is newest, and are small; the suites of the releases themselves have nothing beyond that.
debian_suites=(bookworm-security bookworm-backports trixie-security trixie-backports)

# What the lab needs and Debian has as modules, less what those depend on.
debian_modules=(virtio_pci virtio_console 9pnet_virtio 9p overlay kvm_amd)

# Days after which the lists are fetched again.
debian_days=1

debian_apt()
{
	local tool=$1 state=$debian_kernels/apt
	shift

	"$tool" -q -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$state/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$state/cache" \
		-o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Sandbox::User="$(id -un)" \
		-o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Acquire::Retries=1 "$@"
}

# From where: the suites above, on the mirrors that this machine is configured with.
debian_sources()
{
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg options='' suite main security

	main=$(machine_sources | awk '$3 !~ /-security$/ { print $2; exit }')
	security=$(machine_sources | awk '$3 ~ /-security$/ { print $2; exit }')
	[[ ! -f $keyring ]] || options="[signed-by=$keyring] "
	for suite in "${debian_suites[@]}"; do
		case $suite in
		*-security) [[ -z $security ]] || echo "deb $options$security $suite main" ;;
		*) [[ -z $main ]] || echo "deb $options$main $suite main" ;;
		esac
	done
}

# The lists, not older than they may be; without a network the old ones.
need_debian_lists()
{
	local state=$debian_kernels/apt

	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	[[ -z $(find "$state/fetched" -mtime "-$debian_days" 2>/dev/null) ]] || return 0
	debian_sources >"$state/sources.list"
	if [[ ! -s $state/sources.list ]]; then
		# A machine that was just made has no lists at all, and so does not know its mirrors.
		with_progress "updating the lists of packages" "$build/log/apt.log" apt update || return 0
		debian_sources >"$state/sources.list"
	fi
	if with_progress "looking for Debian's kernels" "$build/log/debian-lists.log" debian_apt apt-get update; then
		touch "$state/fetched"
	else
		say "not all lists of Debian's kernels could be fetched: taking those that there are."
	fi
}

# A line for each version in the lists: VERSION and how it is packed. Up to 6.18 one package
# has all of it (image). After that the image is empty, and what counts is in two packages
# (split), of which the archive keeps the modules for a shorter time than the rest (gone).
debian_listed()
{
	debian_apt apt-cache pkgnames linux- | awk '
		match($0, /^linux-(image|binary|modules)-/) && /-[0-9]+\.[0-9]+\.[0-9][^-]*(-[0-9]+)?-amd64$/ {
			kind = substr($0, 7, RLENGTH - 7); version = substr($0, RLENGTH + 1); sub(/-amd64$/, "", version)
			have[version] = have[version] " " kind
		}
		END {
			for (version in have) {
				packed = "gone"
				if (have[version] !~ /binary|modules/)
					packed = "image"
				else if (have[version] ~ /binary/ && have[version] ~ /modules/)
					packed = "split"
				print version, packed
			}
		}'
}

debian_unpacked()
{
	[[ ! -d $debian_kernels ]] ||
		find "$debian_kernels" -mindepth 2 -maxdepth 2 -name config -printf '%P\n' | sed 's,/config$, unpacked,'
}

# debian_matching PREFIX: of the versions on standard input those that PREFIX is the begin of,
# in whole numbers, oldest first.
debian_matching()
{
	awk -v prefix="$1" 'index($1, prefix) == 1 && substr($1, length(prefix) + 1) !~ /^[0-9]/' | sort -V
}

# The newest version of each series that there is, oldest first: those of the archive, and
# without a network those that are unpacked.
debian_newest()
{
	{
		debian_listed | awk '$2 != "gone"'
		debian_unpacked
	} | sort -V | awk '
		{ split($1, number, "."); series = number[1] "." number[2] }
		series != last { if (last != "") print newest; last = series }
		{ newest = $1 }
		END { if (last != "") print newest }'
}

# find_debian_kernel PREFIX: debian_version, the newest that PREFIX is the begin of.
find_debian_kernel()
{
	local prefix=${1%-amd64} have

	debian_version=$(debian_unpacked | debian_matching "$prefix" | tail -n 1 | cut -d ' ' -f 1)
	# What is named in full need not be looked for.
	[[ -z $debian_version || (-z ${LAB_AS_IS:-} && $debian_version != "$prefix") ]] || return 0
	[[ -z ${LAB_AS_IS:-} ]] || die "no kernel $prefix of Debian's is unpacked yet to take as it is."
	lock "debian-kernels"
	need_debian_lists
	unlock "debian-kernels"
	debian_version=$({ debian_listed | awk '$2 != "gone"'; debian_unpacked; } |
		debian_matching "$prefix" | tail -n 1 | cut -d ' ' -f 1)
	[[ -z $debian_version ]] || return 0
	have=$(debian_newest | tr '\n' ' ')
	have=${have:+there are ${have% }}
	have=${have:-there are none, so that the network or the mirror is to blame: see $build/log/debian-lists.log}
	[[ -z $(debian_listed | debian_matching "$prefix") ]] ||
		die "Debian's archive does not have the modules of kernel $prefix any more; $have."
	die "Debian's archive has no kernel $prefix, or not any more; $have."
}

# add_module DIR NAME: with what it depends on before it, once each, into the array modules.
add_module()
{
	local dir=$1 name=${2//-/_} path depends

	[[ " ${modules_done[*]} " != *" $name "* ]] || return 0
	modules_done+=("$name")
	path=$(find "$dir" -name "${name//_/[_-]}.ko*" -print -quit)
	if [[ -z $path ]]; then
		grep -rqsE "/${name//_/[_-]}\.ko\$" --include=modules.builtin "$dir" && return
		echo "Error: there is no module $name."
		return 1
	fi
	for depends in $(modinfo -F depends "$path" | tr , ' '); do
		add_module "$dir" "$depends" || return
	done
	modules+=("$path")
}

# unpack_debian_kernel VERSION PACKED TMP
unpack_debian_kernel()
{
	local version=$1 packed=$2 tmp=$3 kind packages=() deb path n=10
	local -a modules=() modules_done=()

	case $packed in
	image) packages=("linux-image-$version-amd64") ;;
	split) for kind in base binary modules; do packages+=("linux-$kind-$version-amd64"); done ;;
	esac
	mkdir -p "$tmp/debs" "$tmp/root" "$tmp/initrd/modules"
	(cd "$tmp/debs" && debian_apt apt-get download "${packages[@]}") || return
	for deb in "$tmp"/debs/*.deb; do
		dpkg-deb -x "$deb" "$tmp/root" || return
	done
	# In /boot up to 7.1, then beside the modules.
	mv "$(find "$tmp/root" -name 'vmlinuz*' -print -quit)" "$tmp/vmlinuz" || return
	mv "$(find "$tmp/root" \( -path '*/boot/config-*' -o -path '*/modules/*/config' \) -print -quit)" "$tmp/config" || return
	for kind in "${debian_modules[@]}"; do
		add_module "$tmp/root" "$kind" || return
	done
	for path in "${modules[@]}"; do
		kind=${path##*/}
		kind=$((n++))-${kind%.xz}
		case $path in
		*.xz) xz -dc "$path" >"$tmp/initrd/modules/$kind" || return ;;
		*) cp "$path" "$tmp/initrd/modules/$kind" || return ;;
		esac
	done
	(cd "$tmp/initrd" && find modules | LC_ALL=C sort | cpio -o -H newc --quiet) >"$tmp/modules.cpio" || return
	rm -rf "$tmp/debs" "$tmp/root" "$tmp/initrd"
}

# need_debian_kernel VERSION, in full: unpacked.
need_debian_kernel()
{
	local version=$1 packed dir=$debian_kernels/$1 tmp status=0

	[[ ! -f $dir/config ]] || return 0
	need_packages cpio kmod xz-utils
	need_space 1500 "unpacking a kernel"
	lock "debian-kernels"
	if [[ ! -f $dir/config ]]; then # someone else may have done it
		packed=$(debian_listed | awk -v version="$version" '$1 == version { print $2 }')
		tmp=$(mktemp -d "$debian_kernels/tmp.XXXX")
		with_progress "getting Debian's kernel $version" "$build/log/debian-$version.log" \
			unpack_debian_kernel "$version" "$packed" "$tmp" || status=1
		((status)) || { chmod 755 "$tmp" && mv "$tmp" "$dir"; } || status=1
		rm -rf "$tmp"
	fi
	unlock "debian-kernels"
	if ((status)); then
		say "Debian's archive lists kernel $version, but it cannot be had from there."
		return 1
	fi
}

# The initramfs: init, and the modules after it.
need_debian_initrd()
{
	local dir=$1 tmp

	[[ ! $dir/initrd.cpio -nt $build/initrd.cpio ]] || return 0
	tmp=$(mktemp "$dir/initrd.XXXX")
	cat "$build/initrd.cpio" "$dir/modules.cpio" >"$tmp"
	mv "$tmp" "$dir/initrd.cpio"
}
