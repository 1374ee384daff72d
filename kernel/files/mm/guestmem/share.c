// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shareability: which pages are private and which are shared.
 *
 * A maple tree with one entry for each run of pages in one state; neighbours of
 * one state are always one entry, so that what the tree costs depends on how
 * often the state changes along the file, not on the size of the file.
 *
 * Every index of the file is covered from creation on: a missing entry is a
 * bug, and is treated as the state that the file was created with.
 *
 * Writers hold the mapping's invalidate_lock exclusively.  Readers hold it in
 * either mode, or nothing: the tree is in RCU mode, since hypervisors read it
 * under spinlocks.  A reader without the lock has to detect by other means that
 * the answer has become stale, as KVM does with its MMU invalidation sequence.
 */

#include <linux/bug.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/rcupdate.h>
#include <kunit/visibility.h>

#include "internal.h"

/**
 * guestmem_convertible - tell whether memory can be mapped and converted
 * @inode: the memory
 *
 * Return: true if it was created with GUESTMEM_CONVERTIBLE.
 */
bool guestmem_convertible(const struct inode *inode)
{
	return GMEM_I(inode)->flags & GUESTMEM_CONVERTIBLE;
}
EXPORT_SYMBOL_GPL(guestmem_convertible);

/**
 * guestmem_frozen - tell whether memory can still change
 * @inode: the memory
 *
 * Context: any; without invalidate_lock, 'false' may be stale.
 * Return: true once guestmem_freeze() is certain to succeed, for good.
 */
bool guestmem_frozen(const struct inode *inode)
{
	return READ_ONCE(GMEM_I(inode)->frozen);
}
EXPORT_SYMBOL_GPL(guestmem_frozen);

static void *gmem_share_entry(enum guestmem_state state)
{
	return xa_mk_value(state);
}

static enum guestmem_state gmem_share_initial(const struct gmem_inode *gi)
{
	return gi->flags & GUESTMEM_INIT_SHARED ? GUESTMEM_SHARED :
						  GUESTMEM_PRIVATE;
}

/*
 * Make an empty tree.  Nothing can fail here: it runs in ->alloc_inode().
 *
 * MT_FLAGS_ALLOC_RANGE is not there for its searches, but for the type of the
 * inner nodes: in those that a tree without it has, the last slot shares its
 * place with the number of slots, which mt_free_walk(), in RCU mode, takes for
 * a child.
 */
void gmem_share_init(struct gmem_inode *gi)
{
	mt_init_flags(&gi->share, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_LOCK_EXTERN |
				  MT_FLAGS_USE_RCU);
	mt_set_external_lock(&gi->share, &gi->vfs_inode.i_data.invalidate_lock);
}

/*
 * Store @entry.  mas_store_gfp() does not fit: it tries GFP_NOWAIT first, so that
 * the nodes are not charged; and where there is memory for some of the nodes that
 * it needs but not for all, it tries again for ever.
 */
int gmem_tree_store(struct ma_state *mas, void *entry)
{
	int err;

	err = mas_preallocate(mas, entry, GMEM_GFP);
	if (!err)
		mas_store_prealloc(mas, entry);

	return err;
}

/* Cover @nr_pages pages with the initial state. */
int gmem_share_fill(struct gmem_inode *gi, pgoff_t nr_pages)
{
	struct address_space *mapping = gi->vfs_inode.i_mapping;
	int err;
	MA_STATE(mas, &gi->share, 0, nr_pages - 1);

	filemap_invalidate_lock(mapping);
	err = gmem_tree_store(&mas, gmem_share_entry(gmem_share_initial(gi)));
	if (!err && gmem_share_initial(gi) == GUESTMEM_PRIVATE)
		WRITE_ONCE(gi->nr_private, nr_pages);
	filemap_invalidate_unlock(mapping);

	return err;
}

/*
 * Cover all pages with what @from says, which is of the same size.  -EINVAL if
 * that is not frozen, which is for good only when seen under the lock.  -EINTR
 * for a fatal signal.
 */
int gmem_share_copy(struct gmem_inode *gi, struct inode *from)
{
	struct address_space *mapping = gi->vfs_inode.i_mapping;
	int err = -EINVAL;

	/* Exclusively: __mt_dup() requires the lock of a writer. */
	if (down_write_killable(&from->i_mapping->invalidate_lock))
		return -EINTR;

	if (GMEM_I(from)->frozen) {
		/* The inode of this second lock is not published yet. */
		down_write_nested(&mapping->invalidate_lock, SINGLE_DEPTH_NESTING);
		err = __mt_dup(&GMEM_I(from)->share, &gi->share,
			       GMEM_GFP);
		gi->nr_private = GMEM_I(from)->nr_private;
		up_write(&mapping->invalidate_lock);
	}
	filemap_invalidate_unlock(from->i_mapping);

	return err;
}

void gmem_share_destroy(struct gmem_inode *gi)
{
	struct address_space *mapping = gi->vfs_inode.i_mapping;

	filemap_invalidate_lock(mapping);
	__mt_destroy(&gi->share);
	filemap_invalidate_unlock(mapping);
}

/**
 * guestmem_run - look up the run that covers a page
 * @inode: the memory
 * @index: index of the page, below the size of the file
 * @end: where to return the index behind the run's last page
 *
 * Context: any; see the top of the file about the lock.
 * Return: the state of the run.
 */
enum guestmem_state guestmem_run(struct inode *inode, pgoff_t index,
				 pgoff_t *end)
{
	struct gmem_inode *gi = GMEM_I(inode);
	void *entry;
	MA_STATE(mas, &gi->share, index, index);

	rcu_read_lock();
	entry = mas_walk(&mas);
	*end = entry ? mas.last + 1 : index + 1;
	rcu_read_unlock();

	if (likely(entry))
		return xa_to_value(entry);

	/* A lockless reader may race with the eviction of the inode. */
	WARN_ON_ONCE(index < gmem_nr_pages(inode) &&
		     !(READ_ONCE(inode->i_state) & (I_FREEING | I_CLEAR)));
	return gmem_share_initial(gi);
}
EXPORT_SYMBOL_GPL(guestmem_run);

/**
 * guestmem_page_state - look up the state of a page
 * @inode: the memory
 * @index: index of the page, below the size of the file
 *
 * Context: any; see the top of the file about the lock.
 * Return: GUESTMEM_SHARED or GUESTMEM_PRIVATE.
 */
enum guestmem_state guestmem_page_state(struct inode *inode, pgoff_t index)
{
	pgoff_t end;

	return guestmem_run(inode, index, &end);
}
EXPORT_SYMBOL_GPL(guestmem_page_state);

/**
 * guestmem_next_run - find the next run in certain states
 * @inode: the memory
 * @start: in: where to begin; out: where the run begins
 * @end: where to return the index behind the run's last page
 * @limit: index behind the last page of interest; runs are cut there
 * @states: what to look for
 *
 * Context: any.  To see one state of the whole range, hold invalidate_lock.
 * Return: true if there is one.
 */
bool guestmem_next_run(struct inode *inode, pgoff_t *start, pgoff_t *end,
		       pgoff_t limit, enum guestmem_state states)
{
	for (; *start < limit; *start = *end) {
		if (guestmem_run(inode, *start, end) & states) {
			*end = min(*end, limit);
			return true;
		}
	}

	return false;
}
EXPORT_SYMBOL_GPL(guestmem_next_run);

/*
 * Cut what already is in state @to off both ends of [@start, @end).
 * Return: 0 if nothing is left, 1 if what is left is one run, 2 if it may be
 * more than one.
 */
VISIBLE_IF_KUNIT
unsigned int gmem_share_trim(struct gmem_inode *gi, pgoff_t *start,
			     pgoff_t *end, enum guestmem_state to)
{
	struct inode *inode = &gi->vfs_inode;
	pgoff_t run_end;
	MA_STATE(mas, &gi->share, *end - 1, *end - 1);

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	if (guestmem_run(inode, *start, &run_end) == to) {
		if (run_end >= *end)
			return 0;
		*start = run_end;
	} else if (run_end >= *end) {
		return 1;
	}

	/* The run at the end is not the one at the start, which ends before. */
	if (mas_walk(&mas) == gmem_share_entry(to))
		*end = mas.index;

	return 2;
}
EXPORT_SYMBOL_IF_KUNIT(gmem_share_trim);

/*
 * Get everything ready for [@start, @end) to become @to, so that
 * gmem_share_commit() cannot fail.  The store is widened over the neighbours
 * that already are in that state, since the tree does not merge entries.
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
VISIBLE_IF_KUNIT
int gmem_share_prepare(struct gmem_inode *gi, struct ma_state *mas,
		       pgoff_t start, pgoff_t end, enum guestmem_state to)
{
	void *entry = gmem_share_entry(to);
	pgoff_t first = start, last = end - 1;

	lockdep_assert_held_write(&gi->vfs_inode.i_mapping->invalidate_lock);

	if (start > 0) {
		mas_set(mas, start - 1);
		if (mas_walk(mas) == entry)
			first = mas->index;
	}
	if (end < gmem_nr_pages(&gi->vfs_inode)) {
		mas_set(mas, end);
		if (mas_walk(mas) == entry)
			last = mas->last;
	}

	mas_set_range(mas, first, last);
	return mas_preallocate(mas, entry, GMEM_GFP);
}
EXPORT_SYMBOL_IF_KUNIT(gmem_share_prepare);

VISIBLE_IF_KUNIT
void gmem_share_commit(struct ma_state *mas, enum guestmem_state to)
{
	mas_store_prealloc(mas, gmem_share_entry(to));
}
EXPORT_SYMBOL_IF_KUNIT(gmem_share_commit);

VISIBLE_IF_KUNIT
void gmem_share_abort(struct ma_state *mas)
{
	mas_destroy(mas);
}
EXPORT_SYMBOL_IF_KUNIT(gmem_share_abort);
