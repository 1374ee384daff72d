# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154

step_title="mutation: the unit tests notice when the code is wrong"
step_packages=(meson ninja-build gcc libc6-dev pkg-config libnuma-dev check libsubunit-dev python3)
step_when=all

# What percentage of the mutants has to be noticed, of those that kernel/lab/mutation/equivalent.txt
# does not list. 89 is what the tests of libgmem notice now, with sys.c, which runs on real kernels
# only; it is to become 95.
mutation_floor_libgmem=89
mutation_floor_tools=90

# mutation OPTION... SET: its table is in the log.
mutation()
{
	"$top/kernel/lab/mutation/run.py" "$@"
}

step_run()
{
	check "libgmem: 1000 mutants" mutation --count 1000 --seed 1 \
		--floor "$mutation_floor_libgmem" "$build/mutation" libgmem
	check "gmemctl: all mutants, each file" mutation --floor-each "$mutation_floor_tools" \
		"$build/mutation" tools
}
