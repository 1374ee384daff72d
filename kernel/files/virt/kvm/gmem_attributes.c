// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_MEMORY_ATTRIBUTES2 on a guest_memfd that converts in place: the
 * interface of mainline to what KVM_GMEM_CONVERT_* do; see linux/kvm.h.
 */

#include <linux/guestmem.h>
#include <linux/kvm_host.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "kvm_mm.h"

/*
 * Unlike KVM_GMEM_CONVERT_*, do not write to the argument unless there is
 * something to say: a program may keep it in memory that is read-only.
 */
long kvm_gmem_set_attributes(struct inode *inode,
			     struct kvm_memory_attributes2 __user *uargs)
{
	struct kvm_memory_attributes2 args;
	enum guestmem_state to;

	BUILD_BUG_ON(sizeof(args) != 128);
	BUILD_BUG_ON(offsetof(struct kvm_memory_attributes2, error_offset) != 32);

	if (copy_from_user(&args, uargs, sizeof(args)))
		return -EFAULT;

	if ((args.attributes & ~KVM_MEMORY_ATTRIBUTE_PRIVATE) || args.flags ||
	    memchr_inv(args.reserved, 0, sizeof(args.reserved)) ||
	    !kvm_gmem_range_ok(inode, args.offset, args.size))
		return -EINVAL;

	to = args.attributes ? GUESTMEM_PRIVATE : GUESTMEM_SHARED;

	return kvm_gmem_convert_range(inode, args.offset, args.size, to,
				      GUESTMEM_PRESERVE, &uargs->error_offset);
}

/* The value of KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES. */
u32 kvm_gmem_supported_attributes(struct kvm *kvm)
{
	return kvm_gmem_supported_flags(kvm) ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
}
