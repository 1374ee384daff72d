// SPDX-License-Identifier: GPL-2.0-only
/*
 * A window between a guest and its host.
 *
 * The memory of the guest is private. Whoever opens /dev/gmem_window and maps it gets
 * pages of their own, which they can make shared and private again: the host is asked
 * with KVM_HC_MAP_GPA_RANGE, and the pages keep their contents.
 *
 * Pages that may be shared never go back to the guest's kernel: it would put secrets
 * there. They are made private first, and where the host refuses they are lost.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kvm_para.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/processor.h>

#include "gmem_window.h"

struct gmem_window {
	struct mutex lock; /* of all below; within mmap_lock, so no user memory is touched */
	void *pages; /* NULL before the first mmap() */
	size_t bytes;
	bool exposed; /* some of it may be shared */
};

/* A driver that is no part of the kernel does not have kvm_para_has_feature(). */
static bool host_converts(void)
{
	u32 base = hypervisor_cpuid_base("KVMKVMKVM\0\0\0", 0);

	return kvm_para_available() && base &&
	       cpuid_eax(base | KVM_CPUID_FEATURES) & BIT(KVM_FEATURE_HC_MAP_GPA_RANGE);
}

static int convert(phys_addr_t start, size_t bytes, bool private)
{
	long r = kvm_hypercall3(KVM_HC_MAP_GPA_RANGE, start, bytes >> PAGE_SHIFT,
				KVM_MAP_GPA_RANGE_ENC_STAT(private) |
				KVM_MAP_GPA_RANGE_PAGE_SZ_4K);

	/* The answer is the host's, and so not to be trusted: only errors that exist. */
	if (r == -KVM_ENOSYS)
		return -EOPNOTSUPP;
	return r > 0 || r < -MAX_ERRNO ? -EIO : r;
}

static long window_convert(struct gmem_window *window, const struct gmem_window_range *range,
			   bool private)
{
	int r;

	if (!range->bytes || !PAGE_ALIGNED(range->offset | range->bytes) ||
	    range->bytes > window->bytes || range->offset > window->bytes - range->bytes)
		return -EINVAL;
	/* Before asking: an answer of the host that it failed proves nothing. */
	if (!private)
		window->exposed = true;
	r = convert(virt_to_phys(window->pages) + range->offset, range->bytes, private);
	if (!r && private && range->bytes == window->bytes)
		window->exposed = false;
	return r;
}

static long window_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct gmem_window *window = file->private_data;
	struct gmem_window_range range;
	long r = 0;

	if (cmd != GMEM_WINDOW_SHARE && cmd != GMEM_WINDOW_UNSHARE && cmd != GMEM_WINDOW_BELL)
		return -ENOTTY;
	if (cmd != GMEM_WINDOW_BELL &&
	    copy_from_user(&range, (const void __user *)arg, sizeof(range)))
		return -EFAULT;
	if (mutex_lock_interruptible(&window->lock))
		return -EINTR;
	if (!window->pages)
		r = -ENXIO; /* nothing is mapped yet */
	else if (cmd == GMEM_WINDOW_BELL)
		outl(PHYS_PFN(virt_to_phys(window->pages)), GMEM_WINDOW_PORT);
	else
		r = window_convert(window, &range, cmd == GMEM_WINDOW_UNSHARE);
	mutex_unlock(&window->lock);
	return r;
}

static int window_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct gmem_window *window = file->private_data;
	size_t bytes = vma->vm_end - vma->vm_start, offset;
	int r = 0;

	/* A copy on write would be no window. */
	if (!(vma->vm_flags & VM_SHARED) || bytes > GMEM_WINDOW_MAX ||
	    vma->vm_pgoff > PHYS_PFN(GMEM_WINDOW_MAX))
		return -EINVAL;
	offset = vma->vm_pgoff << PAGE_SHIFT;
	mutex_lock(&window->lock);
	if (!window->pages && !offset) {
		window->pages = alloc_pages_exact(bytes, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
		if (window->pages)
			window->bytes = bytes;
		else
			r = -ENOMEM;
	}
	if (!r && (offset > window->bytes || bytes > window->bytes - offset))
		r = -EINVAL;
	vm_flags_set(vma, VM_DONTEXPAND);
	for (size_t at = 0; !r && at < bytes; at += PAGE_SIZE)
		r = vm_insert_page(vma, vma->vm_start + at,
				   virt_to_page(window->pages + offset + at));
	mutex_unlock(&window->lock);
	return r;
}

static int window_open(struct inode *inode, struct file *file)
{
	struct gmem_window *window = kzalloc(sizeof(*window), GFP_KERNEL_ACCOUNT);

	if (!window)
		return -ENOMEM;
	mutex_init(&window->lock);
	file->private_data = window;
	return 0;
}

/* All mappings are gone. */
static int window_release(struct inode *inode, struct file *file)
{
	struct gmem_window *window = file->private_data;
	int r = 0;

	if (window->exposed)
		r = convert(virt_to_phys(window->pages), window->bytes, true);
	if (r)
		pr_warn("gmem_window: %zu KiB may still be shared (%d) and are lost\n",
			window->bytes >> 10, r);
	else if (window->pages)
		free_pages_exact(window->pages, window->bytes);
	mutex_destroy(&window->lock);
	kfree(window);
	return 0;
}

static const struct file_operations window_fops = {
	.owner = THIS_MODULE,
	.open = window_open,
	.release = window_release,
	.mmap = window_mmap,
	.unlocked_ioctl = window_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice window_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gmem_window",
	.fops = &window_fops,
};

static int __init window_init(void)
{
	if (!host_converts()) {
		pr_err("gmem_window: the host does not convert memory on request\n");
		return -ENODEV;
	}
	return misc_register(&window_device);
}
module_init(window_init);

static void __exit window_exit(void)
{
	misc_deregister(&window_device);
}
module_exit(window_exit);

MODULE_DESCRIPTION("Memory that a guest shares with its host for a while");
MODULE_LICENSE("GPL");
