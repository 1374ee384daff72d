// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host mappings: an access to a private page raises SIGBUS.
 */

#include <linux/export.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pfn_t.h>
#include <linux/sizes.h>

#include "internal.h"

/* As much as fault_around_bytes is for files, and within one page table. */
#define GMEM_FAULT_AROUND	SZ_64K

/*
 * Map the populated pages around a page that has just been mapped, which is
 * cheap compared to a fault for each.  After a conversion a whole range has to
 * be mapped again, usually for writing, and ->map_pages() serves read faults
 * only.
 */
static void gmem_map_around(struct vm_fault *vmf, struct inode *inode)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long from = ALIGN_DOWN(vmf->address, GMEM_FAULT_AROUND);
	unsigned long to = from + GMEM_FAULT_AROUND;
	pgoff_t start, end, limit;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	from = max(from, vma->vm_start);
	to = min(to, vma->vm_end);
	start = vmf->pgoff - ((vmf->address - from) >> PAGE_SHIFT);
	limit = min(start + ((to - from) >> PAGE_SHIFT), gmem_nr_pages(inode));

	/* Of the window, the part in the same run. */
	while (guestmem_next_run(inode, &start, &end, limit, GUESTMEM_SHARED) &&
	       end <= vmf->pgoff)
		start = end;

	filemap_map_pages(vmf, start, end - 1);
}

/* Nothing writes to frozen memory. */
static vm_fault_t gmem_page_mkwrite(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

/* Tell whether this is a read, in a mapping whose PTEs are never writable. */
static bool gmem_may_read_frozen(const struct vm_fault *vmf)
{
	return vmf->vma->vm_ops->page_mkwrite == gmem_page_mkwrite &&
	       !(vmf->flags & FAULT_FLAG_WRITE);
}

/*
 * Map the zero page in a hole of frozen memory, where nothing is allocated.  It
 * does not belong to this mapping, and rmap does not find the PTE.  That is not
 * needed either, since frozen memory never replaces it.
 */
static vm_fault_t gmem_map_zero(struct vm_fault *vmf)
{
	unsigned long pfn = my_zero_pfn(vmf->address);

	return vmf_insert_mixed(vmf->vma, vmf->address, pfn_to_pfn_t(pfn));
}

/*
 * Checking the state, getting the folio and installing the PTE are one step
 * under invalidate_lock.  A conversion comes before all of it, or after, and
 * then removes the PTE and with it the reference.  That is why the PTE is
 * installed here, and not by the caller.
 */
static vm_fault_t gmem_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct folio *folio;
	vm_fault_t ret;
	bool flush;

	/* The task is being killed, so it does not get the signal. */
	if (down_read_killable(&inode->i_mapping->invalidate_lock))
		return VM_FAULT_SIGBUS;

	if (vmf->pgoff >= gmem_nr_pages(inode) ||
	    guestmem_page_state(inode, vmf->pgoff) != GUESTMEM_SHARED ||
	    (GMEM_I(inode)->frozen && !gmem_may_read_frozen(vmf))) {
		ret = VM_FAULT_SIGBUS;
		goto unlock;
	}

	if (GMEM_I(inode)->frozen) {
		folio = filemap_lock_folio(inode->i_mapping, vmf->pgoff);
		if (IS_ERR(folio)) {
			ret = gmem_map_zero(vmf);
			goto unlock;
		}
	} else {
		/* A folio of its own, also for reading: see golden.c. */
		folio = gmem_own_folio(inode, vmf->pgoff);
		if (IS_ERR(folio)) {
			ret = vmf_error(PTR_ERR(folio));
			goto unlock;
		}
	}

	if (folio_test_hwpoison(folio)) {
		ret = VM_FAULT_HWPOISON;
		goto put;
	}

	guestmem_init_folio(folio);

	flush = gmem_batch_begin(GMEM_I(inode));
	vmf->page = folio_file_page(folio, vmf->pgoff);
	ret = finish_fault(vmf);
	vmf->page = NULL;
	if (!ret) {
		/* The PTE has taken over the reference. */
		folio_unlock(folio);
		gmem_map_around(vmf, inode);
		gmem_batch_end(flush);
		ret = VM_FAULT_NOPAGE;
		goto unlock;
	}
	gmem_batch_end(flush);
put:
	folio_unlock(folio);
	folio_put(folio);
unlock:
	filemap_invalidate_unlock_shared(inode->i_mapping);
	return ret;
}

#ifdef CONFIG_NUMA
/* A file of guestmem_open_shared() does not allow to change the placement. */
static int gmem_map_set_policy(struct vm_area_struct *vma, struct mempolicy *mpol)
{
	if (vma->vm_file->f_op == &gmem_shared_fops)
		return -EPERM;

	return gmem_set_policy(vma, mpol);
}
#endif

/*
 * For mappings made after the memory was frozen.  mm keeps the PTEs of a
 * writable mapping read-only if there is ->page_mkwrite().  But it also refuses
 * long-term pins of such a mapping, and devices need these.  So mappings made
 * before have other operations, and become unusable when the memory is frozen.
 */
static const struct vm_operations_struct gmem_frozen_vm_ops = {
	.fault		= gmem_fault,
	.page_mkwrite	= gmem_page_mkwrite,
	.pfn_mkwrite	= gmem_page_mkwrite,
#ifdef CONFIG_NUMA
	.set_policy	= gmem_map_set_policy,
	.get_policy	= gmem_get_policy,
#endif
};

static const struct vm_operations_struct gmem_vm_ops = {
	.fault		= gmem_fault,
#ifdef CONFIG_NUMA
	.set_policy	= gmem_map_set_policy,
	.get_policy	= gmem_get_policy,
#endif
};

/**
 * guestmem_mmap - map convertible memory
 * @inode: the memory
 * @vma: a mapping of a file on it
 *
 * Private pages can be mapped too, so that a policy can be set for them; an
 * access to them raises SIGBUS.  So does any access through a mapping that was
 * made before the memory was frozen, and any write once it is frozen.
 *
 * Return: 0; -ENODEV if the memory is not convertible; -EINVAL unless the
 * mapping is MAP_SHARED.
 */
int guestmem_mmap(struct inode *inode, struct vm_area_struct *vma)
{
	if (!guestmem_convertible(inode))
		return -ENODEV;

	if ((vma->vm_flags & (VM_SHARED | VM_MAYSHARE)) !=
	    (VM_SHARED | VM_MAYSHARE))
		return -EINVAL;

	vma->vm_ops = guestmem_frozen(inode) ? &gmem_frozen_vm_ops : &gmem_vm_ops;

	return 0;
}
EXPORT_SYMBOL_GPL(guestmem_mmap);

static int gmem_shared_mmap(struct file *file, struct vm_area_struct *vma)
{
	return guestmem_mmap(file_inode(file), vma);
}

static void gmem_shared_show_fdinfo(struct seq_file *m, struct file *file)
{
	guestmem_show_fdinfo(m, file_inode(file));
}

/*
 * For files of guestmem_open_shared().  They are no views and belong to no VM.
 * What has no operation here is not possible through such a file.  It cannot be
 * reopened through /proc either, since the inode has no file operations.
 */
const struct file_operations gmem_shared_fops = {
	.mmap		= gmem_shared_mmap,
	.show_fdinfo	= gmem_shared_show_fdinfo,
};
