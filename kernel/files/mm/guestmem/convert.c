// SPDX-License-Identifier: GPL-2.0-only
/*
 * Conversion between private and shared, in place; freezing.
 *
 * The cost of a conversion depends on the number of populated folios and of
 * runs in the range, not on its size.
 */

#include <linux/export.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagevec.h>
#include <linux/swap.h>

#include "internal.h"

/* Unmap what is shared of [@start, @end) from all userspace. */
static void gmem_unmap_shared(struct inode *inode, pgoff_t start, pgoff_t end)
{
	pgoff_t s, e;

	for (s = start; guestmem_next_run(inode, &s, &e, end, GUESTMEM_SHARED); s = e)
		unmap_mapping_pages(inode->i_mapping, s, e - s, true);
}

/*
 * Check that nobody but the page cache holds what is in @states of [@start,
 * @end): no pin, no page table, no system call in flight.
 *
 * Folios that are just allocated sit in a per-CPU batch on their way to the
 * LRU, which holds a reference.  Flush the batches, but only when a folio looks
 * busy, of this CPU first, and of all CPUs once a call.
 */
static int gmem_check_idle(struct inode *inode, pgoff_t start, pgoff_t end,
			   enum guestmem_state states, pgoff_t *busy)
{
	int drained = 0;
	pgoff_t s, e;
	int r;

	for (s = start; guestmem_next_run(inode, &s, &e, end, states); s = e) {
		*busy = s;
		while ((r = gmem_check_folios(inode, busy, e, true))) {
			if (r != -EAGAIN || drained == 2)
				return r;
			if (drained++ == 0)
				lru_add_drain();
			else
				lru_add_drain_all();
		}
	}

	return 0;
}

/* Tell the hypervisor of each populated folio that is about to leave @from. */
static void gmem_make_folios(struct gmem_inode *gi, pgoff_t start, pgoff_t end,
			     enum guestmem_state from)
{
	void (*make)(struct folio *folio) = from == GUESTMEM_SHARED ?
		gi->ops->make_private : gi->ops->make_shared;
	struct inode *inode = &gi->vfs_inode;
	struct folio_batch fbatch;
	pgoff_t s, e, next;
	unsigned int i;

	if (!make)
		return;

	folio_batch_init(&fbatch);
	for (s = start; guestmem_next_run(inode, &s, &e, end, from); s = e) {
		next = s;
		while (filemap_get_folios(inode->i_mapping, &next, e - 1,
					  &fbatch)) {
			for (i = 0; i < folio_batch_count(&fbatch); i++)
				make(fbatch.folios[i]);
			folio_batch_release(&fbatch);
			cond_resched();
		}
	}
}

static int gmem_check_poison(struct inode *inode, pgoff_t start, pgoff_t end,
			     enum guestmem_state from, pgoff_t *bad)
{
	pgoff_t s, e;
	int r;

	for (s = start; guestmem_next_run(inode, &s, &e, end, from); s = e) {
		*bad = s;
		r = gmem_check_folios(inode, bad, e, false);
		if (r)
			return r;
	}

	return 0;
}

static void gmem_zero_runs(struct inode *inode, pgoff_t start, pgoff_t end,
			   enum guestmem_state from)
{
	pgoff_t s, e;

	for (s = start; guestmem_next_run(inode, &s, &e, end, from); s = e)
		gmem_zero_folios(inode, s, e);
}

/**
 * guestmem_convert - make a range shared or private
 * @inode: convertible memory
 * @start: index of the first page
 * @end: index behind the last page; within the file, above @start
 * @to: GUESTMEM_SHARED or GUESTMEM_PRIVATE
 * @zero: zero the pages that change their state, before they do; valid for
 *	  GUESTMEM_SHARED only, and not in a clone, where a hole can be punched
 *	  instead
 * @error_index: where to return, on failure, the first page that is poisoned or
 *		 in use, or @start if the failure is not about one page
 *
 * Either the whole range is converted or nothing is.  Only runs that are not in
 * state @to already are touched: their guest mappings are removed in every
 * view, and the next fault restores them; if they become private, their host
 * mappings are removed.  The only side effect of a failure is that host
 * mappings may have been removed, which the next fault restores.
 *
 * Context: may sleep; takes the mapping's invalidate_lock exclusively.
 * Return: 0; -EAGAIN if a page that would become private is in use by somebody
 * but the guest; -EHWPOISON if such a page, or one to be zeroed, is broken;
 * -EPERM if the memory is frozen; -EOPNOTSUPP for @zero in a clone; -ENOMEM;
 * -EINTR if a fatal signal came while waiting for the lock.
 */
int guestmem_convert(struct inode *inode, pgoff_t start, pgoff_t end,
		     enum guestmem_state to, bool zero, pgoff_t *error_index)
{
	enum guestmem_state from = GUESTMEM_ANY & ~to;
	struct gmem_inode *gi = GMEM_I(inode);
	pgoff_t bad = start;
	int r;
	MA_STATE(mas, &gi->share, 0, 0);

	*error_index = start;

	/*
	 * What shows through would have to be hidden for each run, and one of
	 * them could fail halfway.
	 */
	if (zero && gi->golden)
		return -EOPNOTSUPP;

	if (down_write_killable(&inode->i_mapping->invalidate_lock))
		return -EINTR;

	r = gi->frozen ? -EPERM : 0;
	if (r || !gmem_share_trim(gi, &start, &end, to))
		goto unlock;

	r = gmem_share_prepare(gi, &mas, start, end, to);
	if (r)
		goto unlock;

	if (to == GUESTMEM_PRIVATE) {
		gmem_unmap_shared(inode, start, end);
		r = gmem_check_idle(inode, start, end, GUESTMEM_SHARED, &bad);
	} else if (zero) {
		r = gmem_check_poison(inode, start, end, from, &bad);
	}
	if (r) {
		*error_index = bad;
		gmem_share_abort(&mas);
		goto unlock;
	}

	/* From here on nothing can fail. */
	gmem_invalidate_begin(gi, start, end, from);
	if (zero)
		gmem_zero_runs(inode, start, end, from);
	gmem_make_folios(gi, start, end, from);
	gmem_share_commit(&mas, to);
	gmem_invalidate_end(gi, start, end);

unlock:
	filemap_invalidate_unlock(inode->i_mapping);
	return r;
}
EXPORT_SYMBOL_GPL(guestmem_convert);

/**
 * guestmem_freeze - make the contents and the state of memory immutable
 * @inode: convertible memory, but no clone
 * @error_index: where to return, on failure, the first page that is poisoned or
 *		 in use, or 0 if the failure is not about one page
 *
 * Memory cannot be unfrozen.  From now on neither host nor guest can write to
 * it, and it can be neither converted nor punched nor zeroed; it can be cloned.
 * Mappings of the guests are removed, and faults restore them read-only.
 * Existing mappings of the host become unusable, and new ones are read-only.
 * Freezing frozen memory succeeds.
 *
 * Context: may sleep; takes the mapping's invalidate_lock exclusively.
 * Return: 0; -EAGAIN if a page is in use by somebody but the guest, who might
 * write to it; -EHWPOISON if one is broken; -EOPNOTSUPP for a clone; -EINTR if
 * a fatal signal came while waiting for the lock.
 */
int guestmem_freeze(struct inode *inode, pgoff_t *error_index)
{
	struct gmem_inode *gi = GMEM_I(inode);
	pgoff_t end = gmem_nr_pages(inode);
	pgoff_t bad = 0;
	int r = 0;

	*error_index = 0;

	if (gi->golden)
		return -EOPNOTSUPP;

	if (down_write_killable(&inode->i_mapping->invalidate_lock))
		return -EINTR;

	if (gi->frozen)
		goto unlock;

	unmap_mapping_pages(inode->i_mapping, 0, end, true);

	/*
	 * Pairs with guestmem_peek_folio(): who has got a folio without the
	 * lock either is found here, or finds that the memory is frozen.
	 */
	WRITE_ONCE(gi->frozen, true);
	smp_mb();

	r = gmem_check_idle(inode, 0, end, GUESTMEM_ANY, &bad);
	if (r) {
		*error_index = bad;
		WRITE_ONCE(gi->frozen, false);
		goto unlock;
	}

	gmem_invalidate_begin(gi, 0, end, GUESTMEM_ANY);
	gmem_invalidate_end(gi, 0, end);
unlock:
	filemap_invalidate_unlock(inode->i_mapping);
	return r;
}
EXPORT_SYMBOL_GPL(guestmem_freeze);
