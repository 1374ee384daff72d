# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What in a kernel's log means that the kernel went wrong.

splat_patterns=(
	'BUG:'				# also KASAN, soft lockup, bad page state, sleeping in atomic
	'kernel BUG at'
	'WARNING:'			# WARN_ON, lockdep
	'INFO: possible (circular|recursive|irq|deadlock)'
	'INFO: (suspicious|inconsistent|trying to register non-static)'
	'suspicious RCU usage'
	'INFO: task .* blocked for more than'
	'INFO: rcu_.*(detected|self-detected)'
	'rcu: INFO: rcu_.*(detected|self-detected)'
	'Oops'
	'general protection fault'
	'Kernel panic'
	'KASAN:'
	'UBSAN:'
	'KFENCE:'
	'ODEBUG:'
	'refcount_t:'
	'list_(add|del) corruption'
	'Bad page (state|map|cache)'
	'page dumped because'
	'pagealloc: (memory|single bit)'
	'unregister_netdevice: waiting'
	'Objects remaining in'
	'kmem_cache_destroy'
	'DEBUG_LOCKS_WARN_ON'
	'held lock freed'
	'lock held when returning to user space'
	'still has locks held'
	'unreferenced object'
	'Out of memory and no killable'
	': page allocation failure'
)

# What looks like one and is none.
# Memory that does not go offline is no fault of the kernel: it says which page is in the way.
splat_innocent='mitigat|Speculative|spec_rstack|Retbleed|FAULT_INJECTION|WARNING: .*(insecure|not recommended)|ODEBUG: selftest|page dumped because: (unmovable page|migration failure)'

# first_splat LOG: the first one with what follows it, nothing when there is none.
first_splat()
{
	local IFS='|' line

	line=$(grep -anE "${splat_patterns[*]}" "$1" | grep -avE "$splat_innocent" | head -n 1 | cut -d: -f1) || :
	[[ -z $line ]] || tail -n "+$line" "$1" | tr -d '\r' | head -n 40
}
