# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2207
# Completion of gmemctl(1); it needs nothing but bash.

# The processes that have guest memory, or with $1 the descriptors of that one. Whoever has
# the same memory is at the end of its line, as PID:FD.
_gmemctl_memories()
{
	gmemctl list ${1+"$1"} 2>/dev/null | awk -v pid="${1-}" '
		NR > 1 && $1 ~ /^[0-9]+$/ {
			print pid == "" ? $1 : $2
			for (i = 3; i <= NF && $i != "also"; i++)
				;
			for (i++; i <= NF; i++) {
				split($i, at, ":")
				print pid == "" ? at[1] : at[2]
			}
		}' | sort -u
}

_gmemctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=''

	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W "probe list show bench --help --version" -- "$cur"))
		return
	fi
	case $prev in
	--svg) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--watch) COMPREPLY=($(compgen -W "0.5 1 2 5 10" -- "$cur")); return ;;
	--sort) COMPREPLY=($(compgen -W "pid size private shared populated" -- "$cur")); return ;;
	--size) COMPREPLY=($(compgen -W "64M 256M 1G" -- "$cur")); return ;;
	esac
	case ${COMP_WORDS[1]} in
	probe) words='--json --help' ;;
	list)
		words='--json --sort --help'
		[[ $cur == -* ]] || words+=" $(_gmemctl_memories)" ;;
	bench) words='--json --svg --size --help' ;;
	show)
		# Bash takes a colon for a word of its own.
		if [[ $cur == : ]]; then
			words=$(_gmemctl_memories "$prev")
			cur=''
		elif [[ $prev == : ]]; then
			words=$(_gmemctl_memories "${COMP_WORDS[COMP_CWORD - 2]}")
		else
			words='--json --svg --watch --help'
			[[ $cur == -* ]] || words+=" $(_gmemctl_memories)"
		fi ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}

complete -F _gmemctl gmemctl
