// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios: lookup, allocation, zeroing and freeing.
 *
 * A folio's uptodate flag says that its contents are initialised, by zeroing or
 * by whoever wrote them; that happens once, under the folio lock, before the
 * folio is mapped or read.  There is no backing storage: a folio stays until
 * its range is punched out or the inode is evicted.
 */

#include <linux/export.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagevec.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>

#include "internal.h"

/*
 * Put @folio, a copy of what shows through, in place of that.  The guests that
 * run in @gi may have mapped the page below: such mappings go before there is a
 * new page to write to, and none can come up until it is there.
 */
static int gmem_add_copy(struct gmem_inode *gi, struct folio *folio,
			 pgoff_t index)
{
	struct address_space *mapping = gi->vfs_inode.i_mapping;
	int err;

	gmem_invalidate_begin(gi, index, index + 1, GUESTMEM_ANY);
	err = filemap_add_folio(mapping, folio, index,
				mapping_gfp_mask(mapping));
	gmem_invalidate_end(gi, index, index + 1);

	return err;
}

/*
 * A new folio for @index in the page cache, locked: a copy of what shows
 * through, or not initialised where nothing does.
 */
static struct folio *gmem_new_folio(struct inode *inode, pgoff_t index)
{
	struct address_space *mapping = inode->i_mapping;
	struct gmem_inode *gi = GMEM_I(inode);
	struct folio *folio, *golden;
	int err;

	folio = gmem_alloc_folio(gi, index);
	if (!folio)
		return ERR_PTR(-ENOMEM);

	golden = gmem_golden_folio(gi, index);
	if (golden) {
		err = -EHWPOISON;
		if (!folio_test_hwpoison(golden))
			err = folio_mc_copy(folio, golden);
		folio_put(golden);
		if (!err) {
			folio_mark_uptodate(folio);
			err = gmem_add_copy(gi, folio, index);
		}
	} else {
		err = filemap_add_folio(mapping, folio, index,
					mapping_gfp_mask(mapping));
	}

	if (err) {
		folio_put(folio);
		return ERR_PTR(err);
	}

	return folio;
}

/* The memory's own folio of a page, as guestmem_get_folio(). */
struct folio *gmem_get_folio(struct inode *inode, pgoff_t index)
{
	struct folio *folio;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	do {
		folio = filemap_lock_folio(inode->i_mapping, index);
		if (IS_ERR(folio))
			folio = gmem_new_folio(inode, index);
	} while (folio == ERR_PTR(-EEXIST));

	return folio;
}

/**
 * guestmem_get_folio - get the folio of a page, allocated if there is none
 * @inode: the memory
 * @index: index of the page, below the size of the file
 * @write: the folio is to be written to
 * @writable: where to return, unless @write, whether it may be written to too
 *
 * The contents may not be initialised yet, see guestmem_init_folio(), and the
 * folio may be poisoned.  For reading, a clone gives out the golden folio where
 * that shows through; the first time that one is asked for to write to, it
 * becomes a copy, and guest mappings of the old one have been removed by then.
 *
 * Context: may sleep.  The caller holds the mapping's invalidate_lock.
 * Return: the folio, locked and with a reference, or an ERR_PTR(): -EPERM for
 * writing to frozen memory, -ENOMEM, -EHWPOISON if the golden folio that would
 * be copied is poisoned.
 */
struct folio *guestmem_get_folio(struct inode *inode, pgoff_t index,
				 bool write, bool *writable)
{
	struct gmem_inode *gi = GMEM_I(inode);
	struct folio *folio;

	if (write)
		return gi->frozen ? ERR_PTR(-EPERM) : gmem_get_folio(inode, index);

	*writable = !gi->frozen;
	if (!gi->golden)
		return gmem_get_folio(inode, index);

	folio = filemap_lock_folio(inode->i_mapping, index);
	if (!IS_ERR(folio))
		return folio;

	folio = gmem_golden_folio(gi, index);
	if (!folio)
		return gmem_get_folio(inode, index);

	*writable = false;
	folio_lock(folio);
	return folio;
}
EXPORT_SYMBOL_GPL(guestmem_get_folio);

/**
 * guestmem_peek_folio - get the folio of a page if there is one, in any context
 * @inode: the memory
 * @index: index of the page
 * @write: the folio is to be written to
 *
 * This takes no lock, so the page may be punched out or replaced by a copy at
 * any time.  Writing to the folio is safe as long as the reference is held,
 * since freezing fails meanwhile.
 *
 * Context: any; the caller holds rcu_read_lock().
 * Return: the folio, initialised, with a reference, not locked; or NULL.
 */
struct folio *guestmem_peek_folio(struct inode *inode, pgoff_t index,
				  bool write)
{
	struct folio *folio;

	folio = filemap_get_folio(inode->i_mapping, index);
	if (IS_ERR(folio))
		folio = write ? NULL : gmem_golden_folio(GMEM_I(inode), index);
	if (!folio)
		return NULL;

	/* Getting the reference was a full barrier; see guestmem_freeze(). */
	if (!folio_test_uptodate(folio) || folio_test_hwpoison(folio) ||
	    (write && guestmem_frozen(inode))) {
		folio_put(folio);
		return NULL;
	}

	return folio;
}
EXPORT_SYMBOL_GPL(guestmem_peek_folio);

/* The contents only; there is nothing to write back, hence nothing is dirty. */
static void gmem_zero_folio(struct folio *folio)
{
	long i;

	for (i = 0; i < folio_nr_pages(folio); i++)
		clear_highpage(folio_page(folio, i));
}

/**
 * guestmem_init_folio - zero a folio unless it has been initialised
 * @folio: a locked folio of guestmem_get_folio()
 */
void guestmem_init_folio(struct folio *folio)
{
	VM_WARN_ON_ONCE_FOLIO(!folio_test_locked(folio), folio);

	if (folio_test_uptodate(folio))
		return;

	gmem_zero_folio(folio);
	folio_mark_uptodate(folio);
}
EXPORT_SYMBOL_GPL(guestmem_init_folio);

/**
 * gmem_check_folios - look for folios that are poisoned or in use
 * @inode: the memory
 * @index: in: where to begin; out: the index of the offending folio
 * @end: index behind the last page
 * @idle: besides poison, look for folios that somebody but the page cache holds
 *
 * The reference count is checked, not frozen: somebody may get a speculative
 * reference right after the check.  That is harmless as long as its owner does
 * not look at the contents or the state of the folio, but finds that the page
 * table entry is gone, and drops the reference; and as long as nothing here
 * changes the folio itself.  Splitting or merging folios would require freezing
 * the count.
 *
 * Nothing can enter or leave the page cache meanwhile, as both need the lock.
 *
 * Context: the caller holds the mapping's invalidate_lock exclusively.
 * Return: 0, -EHWPOISON or -EAGAIN.
 */
int gmem_check_folios(struct inode *inode, pgoff_t *index, pgoff_t end,
		      bool idle)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, *index);
	struct folio *folio;
	int r = 0;

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	rcu_read_lock();
	xas_for_each(&xas, folio, end - 1) {
		if (xas_retry(&xas, folio))
			continue;

		if (folio_test_hwpoison(folio))
			r = -EHWPOISON;
		else if (idle && folio_ref_count(folio) != folio_nr_pages(folio))
			r = -EAGAIN;
		if (r) {
			*index = max(*index, folio->index);
			break;
		}

		if (need_resched()) {
			xas_pause(&xas);
			cond_resched_rcu();
		}
	}
	rcu_read_unlock();

	return r;
}

/* Zero what is populated of [@start, @end); the rest reads as zero anyway. */
void gmem_zero_folios(struct inode *inode, pgoff_t start, pgoff_t end)
{
	struct folio_batch fbatch;
	unsigned int i;

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	folio_batch_init(&fbatch);
	while (start < end &&
	       filemap_get_folios(inode->i_mapping, &start, end - 1, &fbatch)) {
		for (i = 0; i < folio_batch_count(&fbatch); i++) {
			struct folio *folio = fbatch.folios[i];

			folio_lock(folio);
			gmem_zero_folio(folio);
			folio_mark_uptodate(folio);
			folio_unlock(folio);
		}
		folio_batch_release(&fbatch);
		cond_resched();
	}
}

static long gmem_punch_hole(struct inode *inode, loff_t offset, loff_t len)
{
	struct address_space *mapping = inode->i_mapping;
	struct gmem_inode *gi = GMEM_I(inode);
	pgoff_t start = offset >> PAGE_SHIFT;
	pgoff_t end = min_t(pgoff_t, (offset + len) >> PAGE_SHIFT,
			    gmem_nr_pages(inode));
	int r;

	if (start >= end)
		return 0;

	filemap_invalidate_lock(mapping);
	if (gi->frozen) {
		r = -EPERM;
		goto unlock;
	}

	gmem_invalidate_begin(gi, start, end, GUESTMEM_ANY);

	r = gmem_hide_golden(gi, start, end);
	if (r)
		goto end;

	/*
	 * With even_cows, so that the PTEs that memory failure left go too:
	 * what is punched out is as good as new.
	 */
	unmap_mapping_pages(mapping, start, end - start, true);
	truncate_inode_pages_range(mapping, (loff_t)start << PAGE_SHIFT,
				   ((loff_t)end << PAGE_SHIFT) - 1);
end:
	gmem_invalidate_end(gi, start, end);
unlock:
	filemap_invalidate_unlock(mapping);

	return r;
}

/* Zero what shows through, which takes it away from the guests. */
static int gmem_zero_clone(struct gmem_inode *gi, pgoff_t start, pgoff_t end)
{
	int r;

	gmem_invalidate_begin(gi, start, end, GUESTMEM_ANY);
	r = gmem_hide_golden(gi, start, end);
	gmem_invalidate_end(gi, start, end);

	return r;
}

/*
 * Zero in place: nothing is freed, nothing allocated, and guests keep their
 * mappings, but for those of golden memory.  A guest that runs meanwhile sees
 * each byte old or zero.
 */
static long gmem_zero_range(struct inode *inode, loff_t offset, loff_t len)
{
	struct address_space *mapping = inode->i_mapping;
	struct gmem_inode *gi = GMEM_I(inode);
	pgoff_t start = offset >> PAGE_SHIFT;
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	pgoff_t bad = start;
	int r;

	if (offset + len > i_size_read(inode))
		return -EINVAL;

	filemap_invalidate_lock(mapping);
	r = gi->frozen ? -EPERM : gmem_check_folios(inode, &bad, end, false);
	if (!r && gi->golden)
		r = gmem_zero_clone(gi, start, end);
	if (!r)
		gmem_zero_folios(inode, start, end);
	filemap_invalidate_unlock(mapping);

	return r;
}

static long gmem_allocate(struct inode *inode, loff_t offset, loff_t len)
{
	struct address_space *mapping = inode->i_mapping;
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	pgoff_t index = offset >> PAGE_SHIFT;
	long r = 0;

	/* The size is fixed at creation. */
	if (offset + len > i_size_read(inode))
		return -EINVAL;

	filemap_invalidate_lock_shared(mapping);

	if (GMEM_I(inode)->frozen)
		r = -EPERM;

	while (!r && index < end) {
		struct folio *folio;

		if (signal_pending(current)) {
			r = -EINTR;
			break;
		}

		folio = gmem_get_folio(inode, index);
		if (IS_ERR(folio)) {
			r = PTR_ERR(folio);
			break;
		}

		/*
		 * Memory that does not convert may belong to a VM whose
		 * initial contents have to go into untouched folios, so leave
		 * it for the first user to initialise.
		 */
		if (guestmem_convertible(inode) && !folio_test_hwpoison(folio))
			guestmem_init_folio(folio);

		index = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}

	filemap_invalidate_unlock_shared(mapping);

	return r;
}

/**
 * guestmem_fallocate - allocate, free or zero memory
 * @inode: the memory
 * @mode: FALLOC_FL_KEEP_SIZE, with FALLOC_FL_PUNCH_HOLE or, for convertible
 *	  memory, FALLOC_FL_ZERO_RANGE
 * @offset: first byte; vfs_fallocate() has checked that it is not negative
 * @len: length in bytes, more than 0
 *
 * None of them changes the state of a page.
 *
 * Context: may sleep; takes the mapping's invalidate_lock.
 * Return: 0; -EOPNOTSUPP for another mode; -EINVAL if misaligned or, except for
 * holes, beyond the end; -EPERM if the memory is frozen.
 * Allocating: -ENOMEM, -EINTR if a signal is pending, -EHWPOISON if a golden
 * folio that would be copied is poisoned; part of the range may be allocated.
 * Zeroing: -EHWPOISON if a page is poisoned, with nothing changed.
 * Zeroing and punching in a clone: -ENOMEM, with nothing changed.
 */
long guestmem_fallocate(struct inode *inode, int mode, loff_t offset,
			loff_t len)
{
	int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;

	if (guestmem_convertible(inode))
		known |= FALLOC_FL_ZERO_RANGE;

	if (!(mode & FALLOC_FL_KEEP_SIZE) || (mode & ~known))
		return -EOPNOTSUPP;

	if (!PAGE_ALIGNED(offset) || !PAGE_ALIGNED(len))
		return -EINVAL;

	if (mode & FALLOC_FL_PUNCH_HOLE)
		return gmem_punch_hole(inode, offset, len);
	if (mode & FALLOC_FL_ZERO_RANGE)
		return gmem_zero_range(inode, offset, len);
	return gmem_allocate(inode, offset, len);
}
EXPORT_SYMBOL_GPL(guestmem_fallocate);

static int gmem_migrate_folio(struct address_space *mapping, struct folio *dst,
			      struct folio *src, enum migrate_mode mode)
{
	/* Never reached: mm does not migrate inaccessible mappings. */
	return -EBUSY;
}

/*
 * Memory failure, with the folio locked.  Do not free the memory: what to do
 * about the loss is userspace's decision.  Whoever touches the page next gets
 * -EHWPOISON, until it is punched out.
 */
static int gmem_error_folio(struct address_space *mapping, struct folio *folio)
{
	struct gmem_inode *gi = GMEM_I(mapping->host);
	pgoff_t start = folio->index;
	pgoff_t end = folio_next_index(folio);

	down_read(&gi->views_lock);
	gmem_invalidate_begin(gi, start, end, GUESTMEM_ANY);
	gmem_invalidate_end(gi, start, end);
	gmem_invalidate_clones(gi, start, end);
	up_read(&gi->views_lock);

	return MF_DELAYED;
}

static void gmem_free_folio(struct address_space *mapping, struct folio *folio)
{
	const struct guestmem_ops *ops = GMEM_I(mapping->host)->ops;

	/* The mapping is unevictable: this is truncation, and the inode lives. */
	if (ops->reclaim)
		ops->reclaim(folio);
}

const struct address_space_operations gmem_aops = {
	.dirty_folio		= noop_dirty_folio,
	.migrate_folio		= gmem_migrate_folio,
	.error_remove_folio	= gmem_error_folio,
	.free_folio		= gmem_free_folio,
};
