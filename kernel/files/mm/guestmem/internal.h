/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _MM_GUESTMEM_INTERNAL_H
#define _MM_GUESTMEM_INTERNAL_H

#include <linux/guestmem.h>
#include <linux/maple_tree.h>
#include <linux/mempolicy.h>
#include <linux/pagemap.h>
#include <linux/preempt.h>
#include <linux/rwsem.h>
#include <linux/sizes.h>
#include <linux/swap.h>

/*
 * For allocations whose size userspace controls: charged to the cgroup, and
 * failing at its limit instead of invoking the OOM killer.
 */
#define GMEM_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* Pages to unmap or free before checking for signals and for waiters. */
#define GMEM_PIECE	(SZ_32M >> PAGE_SHIFT)

/* Folios to look at in one RCU section. */
#define GMEM_RCU_STEPS	1024

/**
 * struct gmem_inode - memory that guests run in
 * @vfs_inode: its i_mapping holds the folios; the mapping's invalidate_lock
 *	orders everything that looks at the memory (shared) against everything
 *	that takes it away or changes its state (exclusive)
 * @ops: the hypervisor; NULL only while the inode is being made
 * @flags: GUESTMEM_CONVERTIBLE, GUESTMEM_INIT_SHARED
 * @policy: where folios are allocated
 * @share: the state of each page, one entry a run (see share.c)
 * @nr_private: how many pages are private
 * @keep_off: number of conversions that wait for references to go away; while
 *	it is not 0, lockless lookups find nothing, and no folio is left in an
 *	LRU batch
 * @freezing: an attempt to freeze the memory is being made, or has succeeded;
 *	lockless lookups for writing find nothing
 * @frozen: the contents may not change any more; set once, when freezing can no
 *	longer fail, with invalidate_lock held exclusively
 * @golden: of a clone: the frozen memory that shows through (see golden.c)
 * @hidden: of a clone: where it does not show through
 * @clones: of golden memory: its clones, under @views_lock
 * @clone_entry: of a clone: the entry in that list
 * @views: the VMs that see this memory
 * @views_lock: writers of @views and of the bindings behind a view hold both
 *	this and invalidate_lock exclusively, readers hold either of them: memory
 *	failure comes with the folio lock and may not wait for invalidate_lock,
 *	which is outside of it
 * @node_pages: how many pages are populated on each node, nr_node_ids of them
 */
struct gmem_inode {
	struct inode vfs_inode;
	const struct guestmem_ops *ops;
	unsigned int flags;
	struct shared_policy policy;
	struct maple_tree share;
	unsigned long nr_private;
	atomic_t keep_off;
	bool freezing;
	bool frozen;
	struct inode *golden;
	struct maple_tree hidden;
	struct list_head clones;
	struct list_head clone_entry;
	struct list_head views;
	struct rw_semaphore views_lock;
	atomic_long_t node_pages[];
};

static inline struct gmem_inode *GMEM_I(const struct inode *inode)
{
	return container_of(inode, struct gmem_inode, vfs_inode);
}

static inline pgoff_t gmem_nr_pages(const struct inode *inode)
{
	return i_size_read(inode) >> PAGE_SHIFT;
}

/* The end of the next piece of [@start, @end): all where little is populated. */
static inline pgoff_t gmem_piece_end(const struct inode *inode, pgoff_t start,
				     pgoff_t end)
{
	if (inode->i_mapping->nrpages <= GMEM_PIECE)
		return end;

	return min(start + GMEM_PIECE, end);
}

/*
 * Adding a folio to the page cache, and mapping it into locked memory, leave a
 * reference in a batch of this CPU.  Call these two before and after, so that
 * no more are left while a conversion waits for those that there are.  The
 * caller holds invalidate_lock.
 */
static inline bool gmem_batch_begin(struct gmem_inode *gi)
{
	if (likely(!atomic_read(&gi->keep_off)))
		return false;

	/* So that it is this CPU's batch that is flushed. */
	migrate_disable();
	return true;
}

static inline void gmem_batch_end(bool flush)
{
	if (likely(!flush))
		return;

	lru_add_drain();
	migrate_enable();
}

/* view.c */
void gmem_invalidate_begin(struct gmem_inode *gi, pgoff_t start, pgoff_t end,
			   enum guestmem_state states);
void gmem_invalidate_end(struct gmem_inode *gi, pgoff_t start, pgoff_t end);

/* golden.c */
void gmem_golden_init(struct gmem_inode *gi);
void gmem_golden_attach(struct gmem_inode *gi, struct inode *golden);
void gmem_golden_destroy(struct gmem_inode *gi);
struct folio *gmem_golden_folio(struct gmem_inode *gi, pgoff_t index);
int gmem_hide_golden(struct gmem_inode *gi, pgoff_t start, pgoff_t end);
void gmem_invalidate_clones(struct gmem_inode *gi, pgoff_t start, pgoff_t end);

/* folio.c */
struct folio *gmem_own_folio(struct inode *inode, pgoff_t index);
extern const struct address_space_operations gmem_aops;
int gmem_check_folios(struct inode *inode, pgoff_t *index, pgoff_t end,
		      bool idle);
void gmem_forget_folios(struct inode *inode, pgoff_t start, pgoff_t end);
bool gmem_rcu_pause(struct xa_state *xas, unsigned int *steps);

/* map.c */
extern const struct file_operations gmem_shared_fops;

/* policy.c */
#ifdef CONFIG_NUMA
int gmem_set_policy(struct vm_area_struct *vma, struct mempolicy *mpol);
struct mempolicy *gmem_get_policy(struct vm_area_struct *vma,
				  unsigned long addr, pgoff_t *ilx);
#endif
struct folio *gmem_alloc_folio(struct gmem_inode *gi, pgoff_t index);

/* share.c */
void gmem_share_init(struct gmem_inode *gi);
int gmem_tree_store(struct ma_state *mas, void *entry);
int gmem_share_fill(struct gmem_inode *gi, pgoff_t nr_pages);
int gmem_share_copy(struct gmem_inode *gi, struct inode *from);
void gmem_share_destroy(struct gmem_inode *gi);
unsigned int gmem_share_trim(struct gmem_inode *gi, pgoff_t *start,
			     pgoff_t *end, enum guestmem_state to);
int gmem_share_prepare(struct gmem_inode *gi, struct ma_state *mas,
		       pgoff_t start, pgoff_t end, enum guestmem_state to);
void gmem_share_commit(struct ma_state *mas, enum guestmem_state to);
void gmem_share_abort(struct ma_state *mas);

#endif /* _MM_GUESTMEM_INTERNAL_H */
