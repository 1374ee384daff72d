# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What is needed from Debian, installed when it is missing.

packages_kernel=(gcc ccache make libc6-dev bc bison flex libelf-dev rsync xz-utils git perl)
packages_vm=(gcc libc6-dev qemu-system-x86 cpio)

have_package()
{
	[[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

as_root()
{
	if ((EUID == 0)); then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "packages are missing and you are neither root nor have sudo. As root: $*"
	fi
}

apt()
{
	DEBIAN_FRONTEND=noninteractive as_root apt-get -y -q -o DPkg::Lock::Timeout=300 "$@"
}

# need_packages NAME...
need_packages()
{
	local name missing=() log=$build/log/apt.log

	command -v dpkg-query >/dev/null ||
		die "this is not Debian (no dpkg-query): the lab runs on Debian 12 and 13."
	for name; do
		have_package "$name" || missing+=("$name")
	done
	((${#missing[@]})) || return 0

	# Ask for the password here, where there is a terminal.
	((EUID == 0)) || as_root true
	need_space 2000 "installing packages"
	# The lists may be missing, or older than what the archive still has.
	if ! with_progress "installing ${missing[*]}" "$log" \
		apt --no-install-recommends install "${missing[@]}" 2>/dev/null; then
		with_progress "updating the lists of packages" "$log" apt update ||
			die "apt-get update failed: is there a network, and is it Debian 12 or 13 in sources.list? See $log."
		with_progress "installing ${missing[*]}" "$log" \
			apt --no-install-recommends install "${missing[@]}" ||
			die "cannot install ${missing[*]}: is there a network? Debian 12 has linux-source-6.12 in bookworm-security. See $log."
	fi
}

# From where this machine gets its own packages of Debian's: lines as in sources.list.
machine_sources()
{
	# shellcheck disable=SC2016 # apt's variables
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk '$1 == "Debian" { print "deb", $2, $3, $4 }' | sort -u
}
