// SPDX-License-Identifier: GPL-2.0
/*
 * Host mappings: shared pages can be mapped, private ones answer SIGBUS.
 */

#include <linux/export.h>
#include <linux/fs.h>
#include <linux/mm.h>

#include "internal.h"

/*
 * Looking at the state, getting the folio and installing the PTE are one step
 * under the invalidate_lock.  A conversion comes before all of it, or after,
 * and then finds the PTE, which holds the reference that the lookup got.
 * So install the PTE here, and not leave that to the caller.
 */
static vm_fault_t gmem_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct folio *folio;
	vm_fault_t ret;

	filemap_invalidate_lock_shared(inode->i_mapping);

	if (vmf->pgoff >= gmem_nr_pages(inode) ||
	    guestmem_state(inode, vmf->pgoff) != GUESTMEM_SHARED) {
		ret = VM_FAULT_SIGBUS;
		goto unlock;
	}

	folio = guestmem_get_folio(inode, vmf->pgoff);
	if (IS_ERR(folio)) {
		ret = vmf_error(PTR_ERR(folio));
		goto unlock;
	}

	if (folio_test_hwpoison(folio)) {
		ret = VM_FAULT_HWPOISON;
		goto put;
	}

	guestmem_init_folio(folio);

	vmf->page = folio_file_page(folio, vmf->pgoff);
	ret = finish_fault(vmf);
	vmf->page = NULL;
	if (!ret) {
		/* The PTE has taken over the reference. */
		folio_unlock(folio);
		ret = VM_FAULT_NOPAGE;
		goto unlock;
	}
put:
	folio_unlock(folio);
	folio_put(folio);
unlock:
	filemap_invalidate_unlock_shared(inode->i_mapping);
	return ret;
}

static const struct vm_operations_struct gmem_vm_ops = {
	.fault		= gmem_fault,
#ifdef CONFIG_NUMA
	.set_policy	= gmem_set_policy,
	.get_policy	= gmem_get_policy,
#endif
};

/**
 * guestmem_mmap - map convertible memory
 * @inode: the memory
 * @vma: a mapping of a file on it
 *
 * Private pages can be mapped too, and a policy be set for them; to touch them
 * is what gives SIGBUS.
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

	vma->vm_ops = &gmem_vm_ops;

	return 0;
}
EXPORT_SYMBOL_GPL(guestmem_mmap);
