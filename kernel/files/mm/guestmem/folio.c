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
#include <linux/rwsem.h>
#include <linux/sched/signal.h>

#include "internal.h"

/*
 * Add a new folio for @index to the page cache, and return it locked.  It is a
 * copy of the golden folio if one shows through, and not initialised otherwise.
 *
 * The guests of a clone may have mapped a golden folio here earlier, even if
 * none shows through now.  So every new folio of a clone is followed by an
 * invalidation.  Until that is done nobody can use the folio: it is locked, and
 * lockless lookups ignore it because it is not uptodate.  Nothing sleeps for
 * memory between begin and end.
 */
static struct folio *gmem_new_folio(struct inode *inode, pgoff_t index)
{
	struct address_space *mapping = inode->i_mapping;
	struct gmem_inode *gi = GMEM_I(inode);
	struct folio *folio, *golden;
	bool copied = false, flush;
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
		if (err)
			goto err_put;
		copied = true;
	}

	flush = gmem_batch_begin(gi);
	err = filemap_add_folio(mapping, folio, index,
				mapping_gfp_mask(mapping));
	gmem_batch_end(flush);
	if (err)
		goto err_put;

	atomic_long_inc(&gi->node_pages[folio_nid(folio)]);
	if (gi->golden) {
		gmem_invalidate_begin(gi, index, index + 1, GUESTMEM_ANY);
		gmem_invalidate_end(gi, index, index + 1);
	}
	if (copied)
		folio_mark_uptodate(folio);

	return folio;

err_put:
	folio_put(folio);
	return ERR_PTR(err);
}

/*
 * Get @inode's own folio of a page, never a golden one; allocate it if there is
 * none.  As guestmem_get_folio() otherwise.  Not for frozen memory.
 */
struct folio *gmem_own_folio(struct inode *inode, pgoff_t index)
{
	struct folio *folio;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);
	VM_WARN_ON_ONCE(GMEM_I(inode)->frozen);

	do {
		folio = filemap_lock_folio(inode->i_mapping, index);
		if (IS_ERR(folio))
			folio = gmem_new_folio(inode, index);
	} while (folio == ERR_PTR(-EEXIST));

	return folio;
}

/* Get the folio that is read in holes of frozen memory: the zero page. */
static struct folio *gmem_get_zero_folio(void)
{
	struct folio *folio = page_folio(ZERO_PAGE(0));

	folio_get(folio);
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
 * folio may be poisoned.  A clone returns the golden folio for reading where
 * one shows through; for writing it allocates a copy, and removes guest
 * mappings of the golden folio before it returns.  Frozen memory allocates
 * nothing: for its holes the kernel's zero page is returned, which has no
 * index.
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
		return gi->frozen ? ERR_PTR(-EPERM) :
				    gmem_own_folio(inode, index);

	*writable = !gi->frozen;
	if (!gi->golden && !gi->frozen)
		return gmem_own_folio(inode, index);

	folio = filemap_lock_folio(inode->i_mapping, index);
	if (!IS_ERR(folio))
		return folio;

	if (gi->frozen)
		folio = gmem_get_zero_folio();
	else
		folio = gmem_golden_folio(gi, index);
	if (!folio)
		return gmem_own_folio(inode, index);

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
 * Context: any.  The caller holds rcu_read_lock(), and drops the reference
 *	    before rcu_read_unlock(); otherwise a conversion could fail with
 *	    -EAGAIN because of it.
 * Return: the folio, initialised, with a reference, not locked; or NULL.
 */
struct folio *guestmem_peek_folio(struct inode *inode, pgoff_t index,
				  bool write)
{
	struct folio *folio;

	/* Pairs with synchronize_rcu_expedited() in gmem_retry(). */
	if (atomic_read(&GMEM_I(inode)->keep_off))
		return NULL;

	folio = filemap_get_folio(inode->i_mapping, index);
	if (IS_ERR(folio)) {
		if (write)
			return NULL;
		if (guestmem_frozen(inode))
			return gmem_get_zero_folio();
		folio = gmem_golden_folio(GMEM_I(inode), index);
		if (!folio)
			return NULL;
	}

	/* Getting the reference was a full barrier; see gmem_freeze(). */
	if (!folio_test_uptodate(folio) || folio_test_hwpoison(folio) ||
	    (write && READ_ONCE(GMEM_I(inode)->freezing))) {
		folio_put(folio);
		return NULL;
	}

	return folio;
}
EXPORT_SYMBOL_GPL(guestmem_peek_folio);

/* Zero the contents.  The folio is not dirty: nothing is written back. */
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

	if (folio_test_uptodate(folio) || is_zero_folio(folio))
		return;

	gmem_zero_folio(folio);
	folio_mark_uptodate(folio);
}
EXPORT_SYMBOL_GPL(guestmem_init_folio);

/*
 * Count a step of a walk of folios in an RCU section, and leave the section
 * after every GMEM_RCU_STEPS of them.  It may not be preemptible, and grace
 * periods wait for it.  The walk goes on behind the last folio.
 *
 * Return: false if the walk should end, because a fatal signal is pending.
 */
bool gmem_rcu_pause(struct xa_state *xas, unsigned int *steps)
{
	if (++*steps % GMEM_RCU_STEPS)
		return true;

	xas_pause(xas);
	rcu_read_unlock();
	cond_resched();
	rcu_read_lock();

	return !fatal_signal_pending(current);
}

/**
 * gmem_check_folios - look for folios that are poisoned or in use
 * @inode: the memory
 * @index: in: where to begin; out: the index of the offending folio
 * @end: index behind the last page
 * @idle: besides poison, look for folios that somebody but the page cache holds
 *
 * A new folio is held by the batch of a CPU, until that puts it on an LRU list.
 * That ends when the batch is flushed, so it is told apart from other uses.
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
 * Context: the caller holds the mapping's invalidate_lock, with @idle
 * exclusively.
 * Return: 0; -EHWPOISON; -EAGAIN for a folio in use that is on no LRU list,
 * -EBUSY for another one; or -EINTR for a fatal signal.
 */
int gmem_check_folios(struct inode *inode, pgoff_t *index, pgoff_t end,
		      bool idle)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, *index);
	unsigned int steps = 0;
	struct folio *folio;
	int r = 0;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	rcu_read_lock();
	xas_for_each(&xas, folio, end - 1) {
		if (xas_retry(&xas, folio))
			continue;

		if (folio_test_hwpoison(folio))
			r = -EHWPOISON;
		else if (idle && folio_ref_count(folio) != folio_nr_pages(folio))
			r = folio_test_lru(folio) ? -EBUSY : -EAGAIN;
		if (r) {
			*index = max(*index, folio->index);
			break;
		}

		if (!gmem_rcu_pause(&xas, &steps)) {
			r = -EINTR;
			break;
		}
	}
	rcu_read_unlock();

	return r;
}

/*
 * Make the folios of [@start, @end) read as zero without zeroing them here:
 * mark them as not initialised, and the next user zeroes them.  None of them is
 * mapped.  If somebody holds a reference, zero the folio at once: its holder
 * may be about to write to it, and what is written later has to be kept.
 */
void gmem_forget_folios(struct inode *inode, pgoff_t start, pgoff_t end)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, start);
	unsigned int steps = 0;
	struct folio *folio;

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	rcu_read_lock();
	xas_for_each(&xas, folio, end - 1) {
		if (xas_retry(&xas, folio))
			continue;

		folio_clear_uptodate(folio);
		/*
		 * Pairs with guestmem_peek_folio(): either its reference is
		 * seen here, or it sees that the folio is not uptodate.
		 */
		smp_mb__after_atomic();
		if (folio_ref_count(folio) != folio_nr_pages(folio)) {
			gmem_zero_folio(folio);
			folio_mark_uptodate(folio);
		}

		/* The commit has begun: a fatal signal does not end it. */
		gmem_rcu_pause(&xas, &steps);
	}
	rcu_read_unlock();
}

/*
 * Drop and retake invalidate_lock, which the caller holds (exclusively if
 * @write), when somebody waits for it: a waiting writer blocks new readers.
 *
 * Return: 0 with the lock held, or -EINTR for a fatal signal with the lock
 * dropped.
 */
static int gmem_relax(struct gmem_inode *gi, bool write)
{
	struct rw_semaphore *lock = &gi->vfs_inode.i_mapping->invalidate_lock;
	bool killed = fatal_signal_pending(current);

	if (!killed && !need_resched() && !rwsem_is_contended(lock))
		return 0;

	if (write)
		up_write(lock);
	else
		up_read(lock);
	if (killed)
		return -EINTR;

	cond_resched();
	return write ? down_write_killable(lock) : down_read_killable(lock);
}

static long gmem_punch_hole(struct inode *inode, loff_t offset, loff_t len)
{
	struct address_space *mapping = inode->i_mapping;
	struct gmem_inode *gi = GMEM_I(inode);
	pgoff_t start = offset >> PAGE_SHIFT;
	pgoff_t end = min_t(pgoff_t, (offset + len) >> PAGE_SHIFT,
			    gmem_nr_pages(inode));
	pgoff_t next;
	int r;

	if (start >= end)
		return 0;

	if (down_write_killable(&mapping->invalidate_lock))
		return -EINTR;

	r = gi->frozen ? -EPERM : gmem_hide_golden(gi, start, end);
	while (!r) {
		next = gmem_piece_end(inode, start, end);

		/* Lookups wait for the lock until the folios are gone. */
		gmem_invalidate_begin(gi, start, next, GUESTMEM_ANY);
		gmem_invalidate_end(gi, start, next);

		/*
		 * With even_cows, so that the PTEs that memory failure left go
		 * too: what is punched out is as good as new.
		 */
		unmap_mapping_pages(mapping, start, next - start, true);
		truncate_inode_pages_range(mapping, (loff_t)start << PAGE_SHIFT,
					   ((loff_t)next << PAGE_SHIFT) - 1);

		start = next;
		if (start == end)
			break;
		if (gmem_relax(gi, true))
			return -EINTR;
		r = gi->frozen ? -EPERM : 0;
	}

	filemap_invalidate_unlock(mapping);

	return r;
}

/* Hide the golden folios of [@start, @end), and unmap them from the guests. */
static int gmem_zero_clone(struct gmem_inode *gi, pgoff_t start, pgoff_t end)
{
	int r;

	r = gmem_hide_golden(gi, start, end);
	if (r)
		return r;

	gmem_invalidate_begin(gi, start, end, GUESTMEM_ANY);
	gmem_invalidate_end(gi, start, end);

	return 0;
}

/* Zero the next batch of folios of [*@start, @end), and advance @start. */
static int gmem_zero_batch(struct inode *inode, pgoff_t *start, pgoff_t end)
{
	struct folio_batch fbatch;
	unsigned int i;
	int r = 0;

	folio_batch_init(&fbatch);
	if (!filemap_get_folios(inode->i_mapping, start, end - 1, &fbatch))
		*start = end;

	for (i = 0; !r && i < folio_batch_count(&fbatch); i++) {
		struct folio *folio = fbatch.folios[i];

		folio_lock(folio);
		if (folio_test_hwpoison(folio)) {
			r = -EHWPOISON;
		} else {
			gmem_zero_folio(folio);
			folio_mark_uptodate(folio);
		}
		folio_unlock(folio);
	}
	folio_batch_release(&fbatch);

	return r;
}

/*
 * Zero in place: nothing is freed or allocated, and guests keep their mappings,
 * except those of golden folios.  A guest that runs meanwhile sees the old
 * value of a byte or zero.  This is an ordinary write to the memory, so it
 * holds invalidate_lock shared.  Only hiding golden folios needs it
 * exclusively.
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

	if (gi->golden)
		r = down_write_killable(&mapping->invalidate_lock);
	else
		r = down_read_killable(&mapping->invalidate_lock);
	if (r)
		return -EINTR;

	r = gi->frozen ? -EPERM : gmem_check_folios(inode, &bad, end, false);
	if (gi->golden) {
		if (!r)
			r = gmem_zero_clone(gi, start, end);
		downgrade_write(&mapping->invalidate_lock);
	}

	while (!r && start < end) {
		r = gmem_zero_batch(inode, &start, end);
		if (r)
			break;
		if (gmem_relax(gi, false))
			return -EINTR;
		r = gi->frozen ? -EPERM : 0;
	}

	filemap_invalidate_unlock_shared(mapping);

	return r;
}

static long gmem_allocate(struct inode *inode, loff_t offset, loff_t len)
{
	struct address_space *mapping = inode->i_mapping;
	pgoff_t end = (offset + len) >> PAGE_SHIFT;
	pgoff_t index = offset >> PAGE_SHIFT;
	struct gmem_inode *gi = GMEM_I(inode);
	long r = 0;

	/* The size is fixed at creation. */
	if (offset + len > i_size_read(inode))
		return -EINVAL;

	if (down_read_killable(&mapping->invalidate_lock))
		return -EINTR;

	while (index < end) {
		struct folio *folio;

		r = gi->frozen ? -EPERM : 0;
		if (!r && signal_pending(current))
			r = -EINTR;
		if (r)
			break;

		folio = gmem_own_folio(inode, index);
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

		if (gmem_relax(gi, false))
			return -EINTR;
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
 * None of them changes the state of a page.  They are not atomic: tasks that
 * wait for the lock get it in between, and a fatal signal ends them halfway.
 *
 * Context: may sleep; takes the mapping's invalidate_lock.
 * Return: 0; -EOPNOTSUPP for another mode; -EINVAL if misaligned or, except for
 * holes, beyond the end; -EPERM if the memory is frozen.
 * Allocating: -ENOMEM, -EINTR if a signal is pending, -EHWPOISON if a golden
 * folio that would be copied is poisoned; part of the range may be allocated.
 * Zeroing: -EHWPOISON if a page is poisoned.
 * Zeroing and punching: -EINTR if a fatal signal is pending; in a clone,
 * -ENOMEM.  Nothing has changed, unless the reason came up meanwhile.
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
	struct gmem_inode *gi = GMEM_I(mapping->host);
	const struct guestmem_ops *ops = gi->ops;

	atomic_long_dec(&gi->node_pages[folio_nid(folio)]);

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
