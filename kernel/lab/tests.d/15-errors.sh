# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2016

step_title="lab where something is missing or wrong: a sentence, and no success"

# A copy of lab with its own build/, which borrows the unpacked source, and a
# directory of programs that come before the real ones.
fresh_copy()
{
	copy=$build/test-copy
	rm -rf "$copy"
	mkdir -p "$copy/kernel/files" "$copy/kernel/patches" "$copy/build" "$copy/bin"
	cp -r "$top/lab" "$copy/"
	cp -r "$top/kernel/lab" "$top/kernel/config" "$top/kernel/base" "$copy/kernel/"
	ln -s "$linux_git" "$build/linux-stock" "$copy/build/"
}

stand_in()
{
	printf '#!/bin/sh\n%s\n' "$2" >"$copy/bin/$1"
	chmod +x "$copy/bin/$1"
}

# complains WORDS ARGUMENT...: the copy does not succeed, and says something with WORDS.
complains()
{
	local words=$1 got output
	shift

	output=$(PATH=$copy/bin:$PATH LAB_AS_IS='' "$copy/lab" "$@" 2>&1) && got=0 || got=$?
	echo "$output"
	echo "status $got"
	((got)) && [[ $output == *"$words"* ]]
}

no_space()
{
	fresh_copy
	rm "$copy/build/linux.git"
	stand_in df 'echo header; echo "/dev/x 100 90 10 90% /"'
	complains "free some" kernel
}

no_network()
{
	fresh_copy
	stand_in dpkg-query 'exit 1'
	stand_in apt-get 'echo "E: could not connect"; exit 100'
	complains "is there a network" kernel
}

not_debian()
{
	fresh_copy
	sed -i 's/command -v dpkg-query/command -v no-dpkg-query/' "$copy/kernel/lab/packages.sh"
	complains "Debian 12 and 13" kernel
}

other_machine()
{
	fresh_copy
	stand_in uname 'echo riscv64'
	complains "riscv64" kernel
}

old_base()
{
	fresh_copy
	rm "$copy/build/linux.git"
	sed -i 's/^VERSION=.*/VERSION=6.12.999-1/' "$copy/kernel/base"
	complains "is older than 6.12.999-1" kernel
}

broken_base()
{
	fresh_copy
	sed -i '/^VERSION=/d' "$copy/kernel/base"
	complains "kernel/base must set" kernel
}

patch_that_does_not_apply()
{
	fresh_copy
	cat >"$copy/kernel/patches/0001-no.patch" <<-'END'
		From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
		From: A <a@b>
		Date: Sat, 1 Jan 2000 00:00:00 +0000
		Subject: [PATCH] no

		---
		diff --git a/mm/Makefile b/mm/Makefile
		--- a/mm/Makefile
		+++ b/mm/Makefile
		@@ -1,1 +1,1 @@
		-no such line
		+at all
	END
	echo 0001-no.patch >"$copy/kernel/patches/series"
	complains "kernel/patches/0001-no.patch does not apply" kernel
}

patch_that_is_missing()
{
	fresh_copy
	echo 0001-no.patch >"$copy/kernel/patches/series"
	complains "which is not there" kernel
}

file_that_nobody_claims()
{
	fresh_copy
	echo >"$copy/kernel/files/new.c"
	complains "kernel/files/new.c is claimed by no patch" kernel
}

file_that_base_has()
{
	fresh_copy
	mkdir -p "$copy/kernel/files/mm"
	echo >"$copy/kernel/files/mm/Makefile"
	printf 'From: A <a@b>\nDate: Sat, 1 Jan 2000 00:00:00 +0000\nSubject: [PATCH] no\n\n' >"$copy/kernel/patches/0001-no.patch"
	echo "0001-no.patch # mm/Makefile" >"$copy/kernel/patches/series"
	complains "what changes an existing file is a patch" kernel
}

option_without_effect()
{
	local flavour=lab config=$build/test-config

	printf 'CONFIG_NUMA=y\nCONFIG_NO_SUCH_THING=y\nCONFIG_PCI=y\n' >"$build/test-fragment"
	printf 'CONFIG_PCI=y\n' >"$config"
	! check_config stock "$config" "$build/test-fragment" 2>"$build/test-said" &&
		grep -q CONFIG_NUMA "$build/test-said" && ! grep -qE 'NO_SUCH|PCI' "$build/test-said"
}

step_run()
{
	# What the copies borrow.
	lock source
	need_base
	unlock source

	check "no space" no_space
	check "no network" no_network
	check "not Debian" not_debian
	check "another architecture" other_machine
	check "a base that is too old" old_base
	check "a base that says too little" broken_base
	check "a patch that does not apply" patch_that_does_not_apply
	check "a patch that is missing" patch_that_is_missing
	check "a new file of no step" file_that_nobody_claims
	check "a new file that is none" file_that_base_has
	check "an option without effect" option_without_effect
	rm -rf "$build/test-copy" "$build/test-config" "$build/test-fragment" "$build/test-said"
}
