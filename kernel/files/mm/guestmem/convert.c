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
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "internal.h"

/*
 * Unmap the shared pages of [@start, @end) from all userspace.  Private pages
 * are not mapped, so those between two shared runs may be included.  Each call
 * of unmap_mapping_pages() walks all mappings, calls the MMU notifiers and
 * flushes, so do not make one for each run.
 */
static int gmem_unmap_shared(struct inode *inode, pgoff_t start, pgoff_t end)
{
	pgoff_t s, e;

	for (s = start; guestmem_next_run(inode, &s, &e, end, GUESTMEM_SHARED); s = e) {
		if (fatal_signal_pending(current))
			return -EINTR;

		e = gmem_piece_end(inode, s, end);
		unmap_mapping_pages(inode->i_mapping, s, e - s, true);
		cond_resched();
	}

	return 0;
}

/* Is @r what gmem_check_folios() returns for a folio in use? */
static bool gmem_in_use(int r)
{
	return r == -EAGAIN || r == -EBUSY;
}

/*
 * Check that nobody but the page cache holds a folio of [@start, @end): no pin,
 * no page table, no system call in flight.
 *
 * Folios that are just allocated sit in a per-CPU batch on their way to the
 * LRU, which holds a reference.  Flush this CPU's when a folio looks busy, unless
 * that has been @drained.  For those of other CPUs see gmem_retry().
 */
static int gmem_check_idle(struct inode *inode, pgoff_t start, pgoff_t end,
			   bool *drained, pgoff_t *busy)
{
	int r;

	*busy = start;
	while ((r = gmem_check_folios(inode, busy, end, true))) {
		if (!gmem_in_use(r) || *drained)
			return r;
		*drained = true;
		lru_add_drain();
	}

	return 0;
}

/*
 * Flushing the batches of all CPUs waits for what runs on each of them, and
 * cannot be interrupted.  A worker does it, so that those who need it can be
 * killed while they wait.  One flush serves all who asked before it began.
 */
static atomic_long_t gmem_flushes_begun;
static unsigned long gmem_flushes_done;
static DECLARE_WAIT_QUEUE_HEAD(gmem_flush_wait);

static void gmem_flush_fn(struct work_struct *work)
{
	unsigned long nr = atomic_long_inc_return(&gmem_flushes_begun);

	lru_add_drain_all();
	/* Pairs with smp_load_acquire() in gmem_flushed(). */
	smp_store_release(&gmem_flushes_done, nr);
	wake_up_all(&gmem_flush_wait);
}

static DECLARE_WORK(gmem_flush_work, gmem_flush_fn);

/* Has a flush ended that is later than the first @nr? */
static bool gmem_flushed(unsigned long nr)
{
	/* Pairs with smp_store_release() in gmem_flush_fn(). */
	return (long)(smp_load_acquire(&gmem_flushes_done) - nr) > 0;
}

/* Flush the batches of all CPUs.  Return early if a fatal signal arrives. */
static void gmem_flush_all(void)
{
	unsigned long nr;

	/*
	 * Pairs with the barrier in atomic_long_inc_return(): a flush that is
	 * not counted yet finds what is in the batches now.
	 */
	smp_mb();
	nr = atomic_long_read(&gmem_flushes_begun);
	queue_work(system_unbound_wq, &gmem_flush_work);
	wait_event_killable(gmem_flush_wait, gmem_flushed(nr));
}

/* How often to look again, while it is always another page. */
#define GMEM_RETRIES	4

/**
 * struct gmem_try - attempts to find that nobody holds any page of a range
 * @nr: how many have failed
 * @busy: the page that was in the way of the last one
 * @keep_off: they are counted in the inode's keep_off
 */
struct gmem_try {
	unsigned int nr;
	pgoff_t busy;
	bool keep_off;
};

/*
 * Drop invalidate_lock after an attempt that ended with @r.  If that was because
 * of a page in use, set keep_off before: whoever gets the lock next sees it.
 */
static void gmem_try_unlock(struct gmem_inode *gi, struct gmem_try *try, int r)
{
	if (gmem_in_use(r) && !try->keep_off) {
		atomic_inc(&gi->keep_off);
		try->keep_off = true;
	}
	filemap_invalidate_unlock(gi->vfs_inode.i_mapping);
}

/*
 * Tell whether to try again after *@r; otherwise *@r is what to return.  The
 * caller has dropped invalidate_lock.
 *
 * Two kinds of references go away by themselves, so wait for them first:
 * lockless lookups hold one inside an RCU section, and new ones are prevented
 * by keep_off; the LRU batches of other CPUs hold one until they are
 * flushed.  The flush is done by a worker on each CPU, which waits for tasks
 * with a higher priority.  Do not hold the lock for that, or everybody else
 * waits too.
 *
 * If the same page is still busy after that, somebody really uses it.  If it is
 * another one, or the page was freed and allocated again and is in a batch, it
 * is worth another attempt.  Those who keep populating the memory cannot be in
 * the way again: while keep_off is set, they leave nothing in a batch.
 *
 * After a fatal signal nothing was flushed, but then the next attempt ends too.
 */
static bool gmem_retry(struct gmem_inode *gi, struct gmem_try *try, int *r,
		       pgoff_t busy)
{
	if (!gmem_in_use(*r) || try->nr > GMEM_RETRIES ||
	    (*r == -EBUSY && try->nr && try->busy == busy) ||
	    fatal_signal_pending(current)) {
		if (try->keep_off)
			atomic_dec(&gi->keep_off);
		if (*r == -EBUSY)
			*r = -EAGAIN;
		return false;
	}

	if (!try->nr)
		synchronize_rcu_expedited();
	gmem_flush_all();
	try->busy = busy;
	try->nr++;

	return true;
}

/*
 * Check whether the runs of [@start, @end) in state @from can be converted.  To
 * become private, their folios must not be in use; to be zeroed, they must not
 * be poisoned.
 *
 * Return: 0, with the number of their pages in @nr; -EAGAIN, -EBUSY or
 * -EHWPOISON with the page in @bad; or -EINTR for a fatal signal.
 */
static int gmem_check_runs(struct inode *inode, pgoff_t start, pgoff_t end,
			   enum guestmem_state from,
			   enum guestmem_contents contents,
			   unsigned long *nr, pgoff_t *bad)
{
	bool drained = false;
	pgoff_t s, e;
	int r = 0;

	*nr = 0;
	for (s = start; guestmem_next_run(inode, &s, &e, end, from); s = e) {
		if (fatal_signal_pending(current))
			return -EINTR;

		*bad = s;
		if (from == GUESTMEM_SHARED)
			r = gmem_check_idle(inode, s, e, &drained, bad);
		else if (contents == GUESTMEM_ZERO)
			r = gmem_check_folios(inode, bad, e, false);
		if (r)
			return r;

		*nr += e - s;
		cond_resched();
	}

	return 0;
}

static void gmem_forget_runs(struct inode *inode, pgoff_t start, pgoff_t end,
			     enum guestmem_state from)
{
	pgoff_t s, e;

	for (s = start; guestmem_next_run(inode, &s, &e, end, from); s = e) {
		gmem_forget_folios(inode, s, e);
		cond_resched();
	}
}

/* One attempt of guestmem_convert(); also takes the lock. */
static int gmem_convert(struct gmem_inode *gi, pgoff_t start, pgoff_t end,
			enum guestmem_state to, enum guestmem_contents contents,
			struct gmem_try *try, pgoff_t *error_index)
{
	enum guestmem_state from = GUESTMEM_ANY & ~to;
	struct inode *inode = &gi->vfs_inode;
	pgoff_t bad = *error_index;
	unsigned long nr = 0;
	unsigned int runs;
	int r;
	MA_STATE(mas, &gi->share, 0, 0);

	if (down_write_killable(&inode->i_mapping->invalidate_lock))
		return -EINTR;

	r = gi->frozen ? -EPERM : 0;
	runs = r ? 0 : gmem_share_trim(gi, &start, &end, to);
	if (!runs)
		goto unlock;

	r = gmem_share_prepare(gi, &mas, start, end, to);
	if (r)
		goto unlock;

	if (to == GUESTMEM_PRIVATE)
		r = gmem_unmap_shared(inode, start, end);
	/* One run that becomes shared as it is needs no check. */
	if (runs == 1 && to == GUESTMEM_SHARED && contents == GUESTMEM_PRESERVE)
		nr = end - start;
	else if (!r)
		r = gmem_check_runs(inode, start, end, from, contents, &nr,
				    &bad);
	if (r) {
		if (r != -EINTR)
			*error_index = bad;
		gmem_share_abort(&mas);
		goto unlock;
	}

	/*
	 * From here on nothing can fail.  Lookups that take the lock wait for
	 * it; only those without it depend on begin and end.  Since vCPUs spin
	 * between these two, nothing but the store is done there.
	 */
	if (contents == GUESTMEM_ZERO) {
		gmem_invalidate_begin(gi, start, end, from);
		gmem_invalidate_end(gi, start, end);
		gmem_forget_runs(inode, start, end, from);
	}
	gmem_invalidate_begin(gi, start, end, from);
	gmem_share_commit(&mas, to);
	gmem_invalidate_end(gi, start, end);

	WRITE_ONCE(gi->nr_private, to == GUESTMEM_PRIVATE ?
		   gi->nr_private + nr : gi->nr_private - nr);
unlock:
	gmem_try_unlock(gi, try, r);
	return r;
}

/**
 * guestmem_convert - make a range shared or private
 * @inode: convertible memory
 * @start: index of the first page
 * @end: index behind the last page; within the file, above @start
 * @to: GUESTMEM_SHARED or GUESTMEM_PRIVATE
 * @contents: what becomes of the pages that change their state; GUESTMEM_ZERO
 *	      is valid for GUESTMEM_SHARED only, and not in a clone, where a hole
 *	      can be punched instead
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
 * -EPERM if the memory is frozen; -EOPNOTSUPP for GUESTMEM_ZERO in a
 * clone; -ENOMEM; -EINTR for a fatal signal.
 */
int guestmem_convert(struct inode *inode, pgoff_t start, pgoff_t end,
		     enum guestmem_state to, enum guestmem_contents contents,
		     pgoff_t *error_index)
{
	struct gmem_inode *gi = GMEM_I(inode);
	struct gmem_try try = {};
	int r;

	*error_index = start;

	/*
	 * What shows through would have to be hidden for each run, and one of
	 * them could fail halfway.
	 */
	if (contents == GUESTMEM_ZERO && gi->golden)
		return -EOPNOTSUPP;

	do {
		*error_index = start;
		r = gmem_convert(gi, start, end, to, contents, &try,
				 error_index);
	} while (gmem_retry(gi, &try, &r, *error_index));

	return r;
}
EXPORT_SYMBOL_GPL(guestmem_convert);

/* One attempt of guestmem_freeze(); also takes the lock. */
static int gmem_freeze(struct gmem_inode *gi, struct gmem_try *try,
		       pgoff_t *error_index)
{
	struct inode *inode = &gi->vfs_inode;
	pgoff_t end = gmem_nr_pages(inode);
	bool drained = false;
	pgoff_t bad = 0;
	int r = 0;

	if (down_write_killable(&inode->i_mapping->invalidate_lock))
		return -EINTR;

	if (gi->frozen)
		goto unlock;

	r = gmem_unmap_shared(inode, 0, end);
	if (r)
		goto unlock;

	/*
	 * An attempt that fails has no other visible effect than that lockless
	 * lookups for writing find nothing meanwhile.
	 */
	WRITE_ONCE(gi->freezing, true);
	/*
	 * Pairs with guestmem_peek_folio(): either its reference is seen by the
	 * check, or it sees the flag.
	 */
	smp_mb();

	r = gmem_check_idle(inode, 0, end, &drained, &bad);
	if (r) {
		if (r != -EINTR)
			*error_index = bad;
		WRITE_ONCE(gi->freezing, false);
		goto unlock;
	}

	WRITE_ONCE(gi->frozen, true);
	gmem_invalidate_begin(gi, 0, end, GUESTMEM_ANY);
	gmem_invalidate_end(gi, 0, end);
unlock:
	gmem_try_unlock(gi, try, r);
	return r;
}

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
 * write to it; -EHWPOISON if one is broken; -EOPNOTSUPP for a clone; -EINTR for
 * a fatal signal.
 */
int guestmem_freeze(struct inode *inode, pgoff_t *error_index)
{
	struct gmem_inode *gi = GMEM_I(inode);
	struct gmem_try try = {};
	int r;

	*error_index = 0;

	if (gi->golden)
		return -EOPNOTSUPP;

	do {
		*error_index = 0;
		r = gmem_freeze(gi, &try, error_index);
	} while (gmem_retry(gi, &try, &r, *error_index));

	return r;
}
EXPORT_SYMBOL_GPL(guestmem_freeze);
