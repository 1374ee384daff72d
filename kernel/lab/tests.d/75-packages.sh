# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="packages: Debian's and a release from a clean clone; with --all RPM's, arm64's, and use of them"

step_packages=(build-essential debhelper lintian meson ninja-build pkg-config libnuma-dev check
	libsubunit-dev mandoc python3 reuse patch)
[[ -z ${LAB_ALL:-} ]] ||
	step_packages+=(abigail-tools cmake g++ rpm rpmlint mmdebstrap crossbuild-essential-arm64)
step_when=not-quick

# What programs are built with in the root that the packages are installed in.
root_packages=(gcc g++ libc6-dev libnuma-dev make meson pkg-config patch)

packages=$build/packages

step_exists()
{
	[[ -d $top/debian ]]
}

packages_version()
{
	sed -n "s/^  version: '\(.*\)',$/\1/p" "$packages/source/meson.build"
}

reuse_lint()
{
	cd "$packages/source"
	reuse lint 2>&1 | tee "$packages/reuse.log"
	! grep 'cannot be parsed' "$packages/reuse.log" || return 1
}

# build_debian DIR OPTION...: the packages, in $packages/DIR.
build_debian()
{
	local dir=$packages/$1 version
	shift

	mkdir -p "$dir"
	git clone -q "$packages/source" "$dir/gmem"
	cd "$dir/gmem"
	# A release's tarball, for which there is no release yet.
	version=$(packages_version)
	git archive --prefix="gmem-$version/" HEAD | xz -T1 >"../gmem_$version.orig.tar.xz"
	# The modes of the source are git's, those of packages are not the builder's.
	(umask "${build_umask:-022}"; dpkg-buildpackage -us -uc "$@")
	# What it leaves behind is not in the way of git.
	git status --short
	[[ -z $(git status --short) ]]
}

run_lintian()
{
	cd "$packages/one"
	lintian --allow-root --fail-on error,warning gmem_*.changes
	lintian --allow-root --fail-on info --tags hardening-no-bindnow,hardening-no-fortify-functions,hardening-no-pie,hardening-no-relro gmem_*.changes
}

# In another directory, at another time, by another user, with another number of jobs.
build_again()
{
	local name

	export TZ=Asia/Kathmandu DEB_BUILD_OPTIONS="nocheck parallel=1"
	build_umask=002 build_debian two/elsewhere/deeper
	cd "$packages/one"
	(($(find . -maxdepth 1 -name '*.deb' | wc -l) >= 4))
	for name in *.deb *.dsc *.tar.xz; do
		cmp "$name" "$packages/two/elsewhere/deeper/$name"
	done
}

# arm64's libnuma, unpacked and not installed: that would need another architecture in
# this machine's dpkg. Its lists are kept apart from the machine's for the same reason.
get_arm64_libnuma()
{
	local state=$packages/apt-arm64 name
	local apt=(apt-get -q -o APT::Architectures::=arm64 -o APT::Architecture=arm64
		-o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" -o Acquire::Languages=none
		-o Acquire::Retries=1 -o APT::Sandbox::User=root)

	mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$packages/sysroot"
	# Each says whether it worked: where this is called, set -e is off.
	cd "$state" || return
	"${apt[@]}" update || return
	"${apt[@]}" download libnuma-dev libnuma1 || return
	for name in ./*.deb; do
		dpkg-deb -x "$name" "$packages/sysroot" || return
	done
}

# The whole of it, the programs too; and that its packages may be installed beside
# this architecture's, as Multi-Arch: same says.
build_arm64()
{
	local bin=$packages/bin lib=$packages/sysroot/usr/lib/aarch64-linux-gnu name path

	mkdir -p "$bin"
	cat >"$bin/aarch64-linux-gnu-pkg-config" <<-END
		#!/bin/sh
		PKG_CONFIG_LIBDIR=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$packages/sysroot exec pkg-config "\$@"
	END
	# Which packages of arm64 they depend on cannot be known where none is installed.
	cat >"$bin/dpkg-shlibdeps" <<-END
		#!/bin/sh
		exec /usr/bin/dpkg-shlibdeps --ignore-missing-info -l/usr/aarch64-linux-gnu/lib -l$lib "\$@"
	END
	chmod +x "$bin"/*
	PATH=$bin:$PATH DEB_BUILD_OPTIONS=nocheck build_debian arm64 -aarm64 -d -B -Pcross,nocheck
	for name in libgmem1 libgmem-dev; do
		dpkg-deb -x "$packages"/arm64/"$name"_*_arm64.deb "$packages/$name-arm64"
		dpkg-deb -x "$packages"/one/"$name"_*.deb "$packages/$name"
		(cd "$packages/$name" && find . -type f ! -path './usr/lib/*') | while read -r path; do
			cmp "$packages/$name/$path" "$packages/$name-arm64/$path"
		done
	done
	readelf -h "$packages"/libgmem1-arm64/usr/lib/aarch64-linux-gnu/libgmem.so.1 | grep AArch64
}

make_dist()
{
	local dir=$packages/dist

	git clone -q "$packages/source" "$dir/gmem"
	meson setup "$dir/build" "$dir/gmem" -Dtests=disabled
	meson dist -C "$dir/build" --no-tests
}

# A release that does not say the same everywhere is none.
dist_refuses()
{
	local dir=$packages/dist output

	cd "$dir/gmem"
	sed -i "s/^## [0-9.]* (/## 0.0.1 (/" NEWS.md
	git -c user.name=lab -c user.email=lab@localhost commit -qam "A wrong version"
	output=$(meson dist -C "$dir/build" --no-tests 2>&1) && return 1
	echo "$output"
	[[ $output == *"NEWS.md begins with '0.0.1"* ]]
}

# Debian's rpm has no macros for Meson, and makes no debuginfo packages; Fedora's have both.
rpm_macros=(
	"_topdir $packages/rpm"
	"_build_id_links none"
	"meson meson setup --buildtype=plain --prefix=%{_prefix} --libdir=%{_libdir} --mandir=%{_mandir} --default-library=shared build"
	"meson_build ninja -C build"
	"meson_install DESTDIR=%{buildroot} meson install -C build --no-rebuild"
	"meson_test meson test -C build --no-rebuild"
)

build_rpm()
{
	local macro options=()

	for macro in "${rpm_macros[@]}"; do
		options+=(--define "$macro")
	done
	rpmbuild -tb --nodeps "${options[@]}" "$packages"/dist/build/meson-dist/*.tar.xz
}

run_rpmlint()
{
	local config=$packages/source/packaging/rpm/rpmlint.toml

	cd "$packages/rpm"
	(($(find RPMS -name '*.rpm' | wc -l) >= 5))
	tar -xJOf "$packages"/dist/build/meson-dist/*.tar.xz --wildcards '*/packaging/rpm/gmem.spec' >gmem.spec
	rpmlint -c "$config" gmem.spec RPMS/*/*.rpm | tee lint
	grep -q ' 0 errors, 0 warnings' lint
}

# apply_tree DIR: what the patches change, of the stock kernel.
apply_tree()
{
	cat "$packages"/source/kernel/patches/*.patch | sed -n 's,^diff --git a/\(.*\) b/.*,\1,p' | sort -u |
		while IFS= read -r path; do
			[[ ! -e $build/linux-stock/$path ]] || echo "$path"
		done >"$packages/paths"
	mkdir -p "$1"
	(cd "$build/linux-stock" && tar -cf - Makefile -T "$packages/paths") | tar -xf - -C "$1"
}

# What linux-patch-gmem has, as its user runs it.
apply_patches()
{
	local dir=$packages/apply apply=$packages/apply/deb/usr/src/linux-patch-gmem/apply

	mkdir "$dir"
	dpkg-deb -x "$packages"/one/linux-patch-gmem_*.deb "$dir/deb"
	apply_tree "$dir/linux"
	cp -a "$dir/linux" "$dir/bad"
	"$apply" "$dir/linux"
	[[ -f $dir/linux/mm/guestmem/inode.c ]]
	grep -q guestmem "$dir/linux/mm/Makefile"
	! "$apply" "$dir/linux" || return 1

	# All or nothing.
	echo >"$dir/bad/virt/kvm/guest_memfd.c"
	cp -a "$dir/bad" "$dir/bad.before"
	! "$apply" "$dir/bad" || return 1
	diff -r "$dir/bad.before" "$dir/bad"
}

# --- a fresh root

# The tarball is kept for a week: what is tested is what gets installed on top of it.
make_root()
{
	local tar=$build/packages-root.tar codename

	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	if [[ -z $(find "$tar" -mtime -7 2>/dev/null) ]]; then
		rm -f "$tar" "$tar.tmp"
		machine_sources | mmdebstrap --variant=apt --format=tar --dpkgopt=force-unsafe-io \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			--aptopt='Acquire::Retries "1"' --aptopt='Acquire::Languages "none"' \
			--include="$(IFS=,; echo "${root_packages[*]}")" "$codename" "$tar.tmp" -
		mv "$tar.tmp" "$tar"
	fi
}

in_root()
{
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		chroot "$packages/root" "$@"
}

unpack_root()
{
	mkdir "$packages/root"
	tar -xf "$build/packages-root.tar" -C "$packages/root" --exclude='./dev/*'
	# Without them hardly anything runs; the rest of /dev is not for packages.
	mknod -m 666 "$packages/root/dev/null" c 1 3
	mkdir "$packages/root/debs"
	cp "$packages"/one/*.deb "$packages/root/debs"
	rm "$packages"/root/debs/*-dbgsym_*
}

# The library from the release before this one. Where there was none yet, it is this one
# under a lower version, and what is left to test is the packages' part in an upgrade.
previous_library()
{
	local version tag dir=$packages/previous

	version=$(packages_version)
	mkdir "$dir"
	tag=$(git -C "$packages/source" tag --list 'v*' --sort=-v:refname | grep -vx "v$version" | head -n 1) || :
	if [[ -n $tag ]]; then
		git clone -q -b "$tag" "$packages/source" "$dir/gmem"
		cd "$dir/gmem"
		DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -us -uc -b
	else
		dpkg-deb -R "$packages"/one/libgmem1_*.deb "$dir/tree"
		sed -i 's/^Version: .*/&~before/' "$dir/tree/DEBIAN/control"
		dpkg-deb -b "$dir/tree" "$dir/libgmem1_before.deb"
	fi
	cp "$dir"/libgmem1_*.deb "$packages/root/debs-previous.deb"
}

# Calls functions of the library that it has not called before, when it is told to.
upgrade_program='
#include <gmem.h>
#include <stdio.h>

int main(void)
{
	struct gmem_error error = GMEM_ERROR_INIT;
	unsigned int major = 0;
	struct gmem_vm *vm;

	puts("ready");
	fflush(stdout);
	getchar();
	gmem_version(&major, NULL);
	printf("libgmem %u: %s\n", major, gmem_vm_new(-1, NULL, &vm, &error) < 0 ? error.message : "?");
	return major != GMEM_VERSION_MAJOR || !error.message[0];
}'

# First the previous library, then this one under a program that runs.
upgrade()
{
	local root=$packages/root pid said

	previous_library
	in_root dpkg -i /debs-previous.deb
	# As the program was built: with this version, which has the same functions.
	dpkg-deb -x "$packages"/one/libgmem-dev_*.deb "$packages/dev"
	printf '%s\n' "$upgrade_program" >"$root/upgrade.c"
	cp "$packages"/dev/usr/include/gmem.h "$root"
	in_root cc -Wall -Werror -Wl,-z,lazy -I/ -o /upgrade /upgrade.c -l:libgmem.so.1

	coproc running { in_root /upgrade; }
	pid=$running_PID
	read -r said <&"${running[0]}"
	[[ $said == ready ]]
	pid=$(pgrep -P "$pid" || echo "$pid")
	in_root sh -c 'dpkg -i /debs/libgmem1_*.deb'
	in_root dpkg-query -W libgmem1
	grep -E 'libgmem\.so.*\(deleted\)' "/proc/$pid/maps"
	exec {to}>&"${running[1]}"
	echo >&"$to"
	read -r said <&"${running[0]}"
	echo "$said"
	wait "$running_PID"
	[[ $said == "libgmem 1: "?* ]]
	echo | in_root /upgrade
}

install_packages()
{
	in_root sh -c 'apt-get -y -q install /debs/*.deb'
	in_root dpkg --audit
	in_root sh -c 'for tool in /usr/bin/gmem*; do "$tool" --help; done'
}

use_packages()
{
	cp "$packages/source/debian/tests/consumer" "$packages/root/consumer"
	in_root /consumer
}

build_examples()
{
	in_root sh -ec 'for example in /usr/share/doc/libgmem-dev/examples/*.c; do
			gcc -Wall -Wextra -Werror -o /example "$example" $(pkg-config --cflags --libs libgmem numa)
			ldd /example | grep libgmem.so.1
		done'
	(($(find "$packages/root/usr/share/doc/libgmem-dev/examples" -name '*.c' | wc -l) >= 4))
}

remove_packages()
{
	in_root sh -c 'apt-get -y -q purge gmem-tools libgmem-dev libgmem1 linux-patch-gmem'
	! find "$packages/root/usr" -name '*gmem*' | grep . || return 1
}

in_fresh_root()
{
	local name title

	title=("an upgrade under a running program" "the packages install in a fresh root"
		"a program is built with them and runs" "the examples build against them" "they leave nothing behind")
	if ((EUID != 0)); then
		for name in "${title[@]}"; do
			skipped "$name" "a fresh root needs root"
		done
		return
	fi
	if ! wait "$root_pid"; then
		for name in "${title[@]}"; do
			skipped "$name" "no fresh root: $(grep '^E:' "$test_log/packages-root.log" | head -n 1)"
		done
		return
	fi
	check "a fresh root" unpack_root
	check "${title[0]}" upgrade
	check "${title[1]}" install_packages
	check "${title[2]}" use_packages
	check "${title[3]}" build_examples
	check "${title[4]}" remove_packages
}

run_all_of_it()
{
	[[ ! -f $packages/one/gmem/debian/files ]] ||
		check_build "built elsewhere they are the same, byte for byte" build_again
	if (get_arm64_libnuma) >"$test_log/packages-libnuma.log" 2>&1; then
		check_build "packages for arm64" build_arm64
	else
		skipped "packages for arm64" "compiled only, in libgmem: no libnuma for arm64: $(grep -m 1 '^E:' "$test_log/packages-libnuma.log")"
	fi
	check_build "rpmbuild" build_rpm
	check "rpmlint has nothing to say" run_rpmlint
	in_fresh_root
}

step_run()
{
	if ! git -C "$top" rev-parse -q --verify HEAD >/dev/null; then
		skipped "packages" "they are built from a clone, and this is no git repository"
		return
	fi
	rm -rf "$packages"
	mkdir -p "$packages"
	# All of them build the same, whatever is committed in the meantime.
	git clone -q "$top" "$packages/source"
	if [[ -n ${LAB_ALL:-} ]]; then
		# Waits for the network more than it works, so it goes beside the rest.
		(set -e; ((EUID)) || make_root) >"$test_log/packages-root.log" 2>&1 &
		root_pid=$!
	else
		# The tests have a step of their own.
		export DEB_BUILD_OPTIONS=nocheck
	fi

	check "reuse lint" reuse_lint
	check_build "Debian packages build from a clean clone" build_debian one
	if [[ -f $packages/one/gmem/debian/files ]]; then
		check "lintian has nothing to say" run_lintian
		lock source
		need_base
		unlock source
		check "apply puts the series on a tree, or changes nothing" apply_patches
	fi
	check "meson dist" make_dist
	[[ -z ${LAB_ALL:-} ]] || run_all_of_it
	check "meson dist refuses what does not fit" dist_refuses
	rm -rf "$packages"
}
