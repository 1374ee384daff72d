/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
#ifndef _LINUX_KVM_GMEM_H
#define _LINUX_KVM_GMEM_H

/*
 * Per-page shareability of guest_memfd memory.
 *
 * The ioctls below act on a guest_memfd that was created with
 * GUEST_MEMFD_FLAG_MMAP; one created without answers ENOTTY.  Offsets and sizes
 * are in bytes and multiples of the page size.
 */

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * KVM_CHECK_EXTENSION: a bit mask of the features below that the VM supports.
 * The number is "gm", far above those that KVM assigns consecutively.
 */
#define KVM_CAP_GMEM			0x676d

#define KVM_GMEM_CAP_CONVERT		(1U << 0)	/* KVM_GMEM_CONVERT_* */
#define KVM_GMEM_CAP_RANGES		(1U << 1)	/* KVM_GMEM_GET_RANGES */
#define KVM_GMEM_CAP_ZERO_RANGE		(1U << 2)	/* FALLOC_FL_ZERO_RANGE */
#define KVM_GMEM_CAP_SEEK		(1U << 3)	/* SEEK_DATA, SEEK_HOLE */
#define KVM_GMEM_CAP_MEMPOLICY		(1U << 4)	/* mbind() places the memory */
#define KVM_GMEM_CAP_LINK		(1U << 5)	/* KVM_GMEM_LINK */
#define KVM_GMEM_CAP_CLONE		(1U << 6)	/* KVM_GMEM_FREEZE, KVM_GMEM_CLONE */
#define KVM_GMEM_CAP_SHARE		(1U << 7)	/* KVM_GMEM_SHARE */

#define KVM_GMEM_IOC			0xE9

/**
 * struct kvm_gmem_convert - make a range shared or private, in place
 * @offset: in: first byte of the range in the file
 * @size: in: length of the range, not 0
 * @error_offset: out, on failure: first byte of the page that is poisoned or in
 *		  use; @offset if the failure is not about one page
 * @flags: in: KVM_GMEM_CONVERT_ZERO or 0
 * @reserved: in: must be 0
 *
 * Either the whole range has the new state or nothing has changed.
 */
struct kvm_gmem_convert {
	__u64 offset;
	__u64 size;
	__u64 error_offset;
	__u64 flags;
	__u64 reserved[4];
};

/*
 * Zero the pages that change their state, before they do.  Valid for
 * KVM_GMEM_CONVERT_SHARED only, and not in a clone.  Without it contents are
 * kept.  Bit 1 stays free: it was posted as a flag of KVM_SET_MEMORY_ATTRIBUTES2
 * that says so, beside a bit 0 that means what this one does.
 */
#define KVM_GMEM_CONVERT_ZERO		(1ULL << 0)

#define KVM_GMEM_CONVERT_SHARED		_IOWR(KVM_GMEM_IOC, 0x00, struct kvm_gmem_convert)
#define KVM_GMEM_CONVERT_PRIVATE	_IOWR(KVM_GMEM_IOC, 0x01, struct kvm_gmem_convert)

/**
 * struct kvm_gmem_range - one run of a guest_memfd
 * @offset: first byte
 * @size: length
 * @populated: how many bytes of it are allocated
 * @flags: KVM_GMEM_RANGE_PRIVATE or 0
 * @node: the NUMA node of all allocated pages; KVM_GMEM_NODE_NONE if there are
 *	  none, KVM_GMEM_NODE_MIXED if they are on more than one node
 */
struct kvm_gmem_range {
	__u64 offset;
	__u64 size;
	__u64 populated;
	__u32 flags;
	__s32 node;
};

#define KVM_GMEM_RANGE_PRIVATE		(1U << 0)

#define KVM_GMEM_NODE_NONE		(-1)
#define KVM_GMEM_NODE_MIXED		(-2)

/**
 * struct kvm_gmem_get_ranges - query the runs of a range
 * @offset: in: first byte of the range; out: where to continue
 * @size: in: length, not 0; out: length that is left, 0 if all was reported
 * @ranges: in: user address of an array of struct kvm_gmem_range
 * @nr: in: length of the array, not 0; out: how many were written
 * @flags: in: KVM_GMEM_RANGES_BY_NODE or 0
 * @reserved: in: must be 0
 *
 * Each run is consistent; a conversion may happen between two of them.
 */
struct kvm_gmem_get_ranges {
	__u64 offset;
	__u64 size;
	__u64 ranges;
	__u32 nr;
	__u32 flags;
	__u64 reserved[4];
};

/* Begin a new run also where population or node changes, not only the state. */
#define KVM_GMEM_RANGES_BY_NODE		(1U << 0)

#define KVM_GMEM_GET_RANGES		_IOWR(KVM_GMEM_IOC, 0x02, struct kvm_gmem_get_ranges)

/**
 * struct kvm_gmem_freeze - make the memory immutable
 * @error_offset: out, on failure: first byte of the page that is poisoned or in
 *		  use, or 0
 * @flags: in: must be 0
 * @reserved: in: must be 0
 *
 * Memory cannot be unfrozen.
 */
struct kvm_gmem_freeze {
	__u64 error_offset;
	__u64 flags;
	__u64 reserved[2];
};

#define KVM_GMEM_FREEZE			_IOWR(KVM_GMEM_IOC, 0x03, struct kvm_gmem_freeze)

/**
 * struct kvm_gmem_share - make a descriptor for a device's process
 * @flags: in: must be 0
 * @reserved: in: must be 0
 */
struct kvm_gmem_share {
	__u64 flags;
	__u64 reserved[3];
};

/*
 * Returns a descriptor that can be mapped, to reach what is shared, and whose
 * fdinfo can be read.  Nothing else can be done with it.
 */
#define KVM_GMEM_SHARE			_IOW(KVM_GMEM_IOC, 0x06, struct kvm_gmem_share)

/*
 * The two below act on a VM, and return a new guest_memfd of that VM.
 */

/**
 * struct kvm_gmem_link - memory to link or to clone
 * @fd: in: a guest_memfd of any VM of the same process and type
 * @flags: in: must be 0
 * @reserved: in: must be 0
 */
struct kvm_gmem_link {
	__u32 fd;
	__u32 flags;
	__u64 reserved[3];
};

/* The same memory, for another VM or once more for this one. */
#define KVM_GMEM_LINK			_IOW(KVM_GMEM_IOC, 0x04, struct kvm_gmem_link)

/* New memory that reads like @fd, which is frozen; it is copied on write. */
#define KVM_GMEM_CLONE			_IOW(KVM_GMEM_IOC, 0x05, struct kvm_gmem_link)

#endif /* _LINUX_KVM_GMEM_H */
