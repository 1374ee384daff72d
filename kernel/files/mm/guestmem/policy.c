// SPDX-License-Identifier: GPL-2.0-only
/*
 * NUMA policy: it belongs to the memory, not to a mapping.
 *
 * mbind() on any mapping of the file stores the policy in the inode, where
 * every allocation looks it up: faults of the host, faults of a guest,
 * fallocate().  So a page can be placed before its first access, and also if
 * the host never accesses it.
 */

#include <linux/gfp.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/topology.h>

#include "internal.h"

#ifdef CONFIG_NUMA
int gmem_set_policy(struct vm_area_struct *vma, struct mempolicy *mpol)
{
	struct gmem_inode *gi = GMEM_I(file_inode(vma->vm_file));

	return mpol_set_shared_policy(&gi->policy, vma, mpol);
}

struct mempolicy *gmem_get_policy(struct vm_area_struct *vma,
				  unsigned long addr, pgoff_t *ilx)
{
	struct inode *inode = file_inode(vma->vm_file);

	/* mm adds the page offset; the number staggers interleaved files. */
	*ilx = inode->i_ino;
	return mpol_shared_policy_lookup(&GMEM_I(inode)->policy,
					 linear_page_index(vma, addr));
}
#endif /* CONFIG_NUMA */

/*
 * Allocate the folio for @index where the memory's policy says.  Where it says
 * nothing, allocate like the page cache: by the task's policy, spread over the
 * cpuset's nodes if that is asked for.
 */
struct folio *gmem_alloc_folio(struct gmem_inode *gi, pgoff_t index)
{
	gfp_t gfp = mapping_gfp_mask(gi->vfs_inode.i_mapping);
	struct mempolicy *mpol;
	struct folio *folio;

	mpol = mpol_shared_policy_lookup(&gi->policy, index);
	if (!mpol)
		return filemap_alloc_folio(gfp, 0);

	folio = folio_alloc_mpol(gfp, 0, mpol, gi->vfs_inode.i_ino + index,
				 numa_node_id());
	mpol_cond_put(mpol);

	return folio;
}
