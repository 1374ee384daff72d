/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef _LINUX_KVM_ATTRIBUTES2_H
#define _LINUX_KVM_ATTRIBUTES2_H

/*
 * Conversion in place as it is announced for Linux 7.4, on a guest_memfd. Written from its
 * description; a <linux/kvm.h> that has it comes first.
 */

#include <linux/kvm.h>

#ifndef KVM_SET_MEMORY_ATTRIBUTES2

struct kvm_memory_attributes2 {
	union {
		__u64 address;
		__u64 offset; /* of a guest_memfd */
	};
	__u64 size;
	__u64 attributes; /* KVM_MEMORY_ATTRIBUTE_PRIVATE, or 0: shared */
	__u64 flags;	  /* must be 0 */
	__u64 error_offset; /* out, with EAGAIN: the first page that is in use */
	__u64 reserved[11]; /* must be 0 */
};

/* The VM's KVM_SET_MEMORY_ATTRIBUTES has the same number, and another size and direction. */
#define KVM_SET_MEMORY_ATTRIBUTES2 _IOWR(KVMIO, 0xd2, struct kvm_memory_attributes2)

#endif

#endif
