// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctls of a guest_memfd that converts in place; see linux/kvm_gmem.h.
 */

#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/guestmem.h>
#include <linux/kvm_gmem.h>
#include <linux/kvm_host.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kvm_mm.h"

/* Is [@offset, @offset + @size) a range of whole pages within the file? */
bool kvm_gmem_range_ok(struct inode *inode, u64 offset, u64 size)
{
	u64 end;

	return size && PAGE_ALIGNED(offset) && PAGE_ALIGNED(size) &&
	       !check_add_overflow(offset, size, &end) &&
	       end <= i_size_read(inode);
}

/*
 * Convert a range for which kvm_gmem_range_ok(); on failure, write to @error_offset
 * the first page that is poisoned or in use, or @offset if it is not about one page.
 */
int kvm_gmem_convert_range(struct inode *inode, u64 offset, u64 size,
			   enum guestmem_state to, enum guestmem_contents contents,
			   u64 __user *error_offset)
{
	pgoff_t start = offset >> PAGE_SHIFT, end = (offset + size) >> PAGE_SHIFT, bad;
	int r;

	r = guestmem_convert(inode, start, end, to, contents, &bad);
	if (r && put_user((u64)bad << PAGE_SHIFT, error_offset))
		return -EFAULT;

	return r;
}

static long kvm_gmem_convert(struct inode *inode, enum guestmem_state to,
			     struct kvm_gmem_convert __user *uargs)
{
	enum guestmem_contents contents = GUESTMEM_PRESERVE;
	struct kvm_gmem_convert args;
	u64 valid_flags = 0;

	if (copy_from_user(&args, uargs, sizeof(args)))
		return -EFAULT;

	/*
	 * The answer of a failure that is not about one page, and a proof,
	 * before anything changes, that there is a place for an answer.
	 */
	if (put_user(args.offset, &uargs->error_offset))
		return -EFAULT;

	if (to == GUESTMEM_SHARED)
		valid_flags |= KVM_GMEM_CONVERT_ZERO;

	if ((args.flags & ~valid_flags) ||
	    memchr_inv(args.reserved, 0, sizeof(args.reserved)) ||
	    !kvm_gmem_range_ok(inode, args.offset, args.size))
		return -EINVAL;

	if (args.flags & KVM_GMEM_CONVERT_ZERO)
		contents = GUESTMEM_ZERO;

	return kvm_gmem_convert_range(inode, args.offset, args.size, to, contents,
				      &uargs->error_offset);
}

static void kvm_gmem_describe(const struct guestmem_range *range,
			      struct kvm_gmem_range *out)
{
	out->offset = (u64)range->start << PAGE_SHIFT;
	out->size = (u64)(range->end - range->start) << PAGE_SHIFT;
	out->populated = (u64)range->populated << PAGE_SHIFT;
	out->flags = range->state == GUESTMEM_PRIVATE ? KVM_GMEM_RANGE_PRIVATE : 0;
	out->node = range->node;
}

static long kvm_gmem_get_ranges(struct inode *inode,
				struct kvm_gmem_get_ranges __user *uargs)
{
	struct kvm_gmem_get_ranges args;
	struct kvm_gmem_range __user *uranges;
	struct guestmem_range range;
	struct kvm_gmem_range out;
	pgoff_t index, end;
	u32 nr;
	int r;

	BUILD_BUG_ON(KVM_GMEM_NODE_NONE != NUMA_NO_NODE);
	BUILD_BUG_ON(KVM_GMEM_NODE_MIXED != GUESTMEM_NODE_MIXED);

	if (copy_from_user(&args, uargs, sizeof(args)))
		return -EFAULT;

	if (!args.nr || (args.flags & ~KVM_GMEM_RANGES_BY_NODE) ||
	    memchr_inv(args.reserved, 0, sizeof(args.reserved)) ||
	    !kvm_gmem_range_ok(inode, args.offset, args.size))
		return -EINVAL;

	uranges = u64_to_user_ptr(args.ranges);
	index = args.offset >> PAGE_SHIFT;
	end = (args.offset + args.size) >> PAGE_SHIFT;

	for (nr = 0; nr < args.nr && index < end; nr++) {
		if (fatal_signal_pending(current))
			return -EINTR;

		r = guestmem_next_range(inode, index, end,
					args.flags & KVM_GMEM_RANGES_BY_NODE,
					&range);
		if (r)
			return r;

		/* Not under the lock: it may be this memory that is written to. */
		kvm_gmem_describe(&range, &out);
		if (copy_to_user(&uranges[nr], &out, sizeof(out)))
			return -EFAULT;

		index = range.end;
		cond_resched();
	}

	args.nr = nr;
	args.offset = (u64)index << PAGE_SHIFT;
	args.size = (u64)(end - index) << PAGE_SHIFT;
	if (copy_to_user(uargs, &args, sizeof(args)))
		return -EFAULT;

	return 0;
}

static long kvm_gmem_freeze(struct inode *inode,
			    struct kvm_gmem_freeze __user *uargs)
{
	struct kvm_gmem_freeze args;
	pgoff_t bad;
	int r;

	if (copy_from_user(&args, uargs, sizeof(args)))
		return -EFAULT;

	/* As for conversions. */
	if (put_user(0, &uargs->error_offset))
		return -EFAULT;

	if (args.flags || memchr_inv(args.reserved, 0, sizeof(args.reserved)))
		return -EINVAL;

	r = guestmem_freeze(inode, &bad);
	if (r && put_user((u64)bad << PAGE_SHIFT, &uargs->error_offset))
		return -EFAULT;

	return r;
}

static long kvm_gmem_share(struct inode *inode,
			   struct kvm_gmem_share __user *uargs)
{
	struct kvm_gmem_share args;
	struct file *file;
	int fd;

	if (copy_from_user(&args, uargs, sizeof(args)))
		return -EFAULT;

	if (args.flags || memchr_inv(args.reserved, 0, sizeof(args.reserved)))
		return -EINVAL;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	ihold(inode);
	file = guestmem_open_shared(inode, "[kvm-gmem-shared]");
	if (IS_ERR(file)) {
		iput(inode);
		put_unused_fd(fd);
		return PTR_ERR(file);
	}

	fd_install(fd, file);
	return fd;
}

long kvm_gmem_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	struct inode *inode = file_inode(file);
	void __user *argp = (void __user *)arg;

	BUILD_BUG_ON(sizeof(struct kvm_gmem_convert) != 64);
	BUILD_BUG_ON(sizeof(struct kvm_gmem_range) != 32);
	BUILD_BUG_ON(sizeof(struct kvm_gmem_get_ranges) != 64);
	BUILD_BUG_ON(sizeof(struct kvm_gmem_freeze) != 32);
	BUILD_BUG_ON(sizeof(struct kvm_gmem_link) != 32);
	BUILD_BUG_ON(sizeof(struct kvm_gmem_share) != 32);

	switch (ioctl) {
	case KVM_GMEM_CONVERT_SHARED:
		return kvm_gmem_convert(inode, GUESTMEM_SHARED, argp);
	case KVM_GMEM_CONVERT_PRIVATE:
		return kvm_gmem_convert(inode, GUESTMEM_PRIVATE, argp);
	case KVM_GMEM_GET_RANGES:
		return kvm_gmem_get_ranges(inode, argp);
	case KVM_GMEM_FREEZE:
		return kvm_gmem_freeze(inode, argp);
	case KVM_GMEM_SHARE:
		return kvm_gmem_share(inode, argp);
	default:
		return -ENOTTY;
	}
}

/* The value of KVM_CAP_GMEM. */
u32 kvm_gmem_caps(struct kvm *kvm)
{
	u32 caps;

	if (!kvm_gmem_supported_flags(kvm))
		return 0;

	caps = KVM_GMEM_CAP_CONVERT | KVM_GMEM_CAP_RANGES |
	       KVM_GMEM_CAP_ZERO_RANGE | KVM_GMEM_CAP_SEEK |
	       KVM_GMEM_CAP_LINK | KVM_GMEM_CAP_CLONE | KVM_GMEM_CAP_SHARE;
	if (IS_ENABLED(CONFIG_NUMA))
		caps |= KVM_GMEM_CAP_MEMPOLICY;

	return caps;
}
