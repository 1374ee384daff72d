// SPDX-License-Identifier: GPL-2.0-only
/*
 * Views: the VMs that use one memory.
 *
 * The list of views, and the memslot bindings that the hypervisor keeps with
 * each view, are stable while either the mapping's invalidate_lock or
 * views_lock is held, in any mode; they change with both held exclusively.  So
 * 'begin' and 'end' of an invalidation see the same views and bindings.
 *
 * Lock order: invalidate_lock, folio lock, views_lock, the hypervisor's own
 * (KVM: mmu_lock).
 */

#include <linux/export.h>
#include <linux/fs.h>

#include "internal.h"

/**
 * guestmem_lock_bindings - lock views and bindings for a change
 * @inode: the memory
 *
 * Context: may sleep.  Takes invalidate_lock and views_lock exclusively.
 */
void guestmem_lock_bindings(struct inode *inode)
{
	filemap_invalidate_lock(inode->i_mapping);
	down_write(&GMEM_I(inode)->views_lock);
}
EXPORT_SYMBOL_GPL(guestmem_lock_bindings);

/**
 * guestmem_lock_bindings_killable - lock views and bindings for a change
 * @inode: the memory
 *
 * For changes that may fail.  The holder of invalidate_lock may be looking at
 * all of the memory, so waiting for it ends at a fatal signal.  views_lock is
 * held only shortly.
 *
 * Context: as guestmem_lock_bindings().
 * Return: 0, or -EINTR for a fatal signal, with nothing locked.
 */
int guestmem_lock_bindings_killable(struct inode *inode)
{
	if (down_write_killable(&inode->i_mapping->invalidate_lock))
		return -EINTR;

	down_write(&GMEM_I(inode)->views_lock);
	return 0;
}
EXPORT_SYMBOL_GPL(guestmem_lock_bindings_killable);

/**
 * guestmem_unlock_bindings - undo what locked the bindings
 * @inode: the memory
 */
void guestmem_unlock_bindings(struct inode *inode)
{
	up_write(&GMEM_I(inode)->views_lock);
	filemap_invalidate_unlock(inode->i_mapping);
}
EXPORT_SYMBOL_GPL(guestmem_unlock_bindings);

/**
 * guestmem_attach - add a view
 * @inode: the memory
 * @view: a view that is not attached; from now on its invalidation callbacks
 *	  are called
 *
 * Context: may sleep; takes the locks of guestmem_lock_bindings().
 * Return: 0, or -EINTR for a fatal signal.
 */
int guestmem_attach(struct inode *inode, struct guestmem_view *view)
{
	int r;

	r = guestmem_lock_bindings_killable(inode);
	if (r)
		return r;

	view->inode = inode;
	list_add_tail(&view->entry, &GMEM_I(inode)->views);
	guestmem_unlock_bindings(inode);

	return 0;
}
EXPORT_SYMBOL_GPL(guestmem_attach);

/**
 * guestmem_detach - remove a view
 * @inode: the memory
 * @view: a view of it; what it maps is invalidated first, other views and the
 *	  contents of the memory stay as they are
 *
 * Context: the caller holds guestmem_lock_bindings(), so that it can take its
 *	    bindings down in the same step.
 */
void guestmem_detach(struct inode *inode, struct guestmem_view *view)
{
	struct gmem_inode *gi = GMEM_I(inode);
	pgoff_t end = gmem_nr_pages(inode);

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);
	lockdep_assert_held_write(&gi->views_lock);

	gi->ops->invalidate_begin(view, 0, end, GUESTMEM_ANY);
	gi->ops->invalidate_end(view, 0, end);
	list_del(&view->entry);
}
EXPORT_SYMBOL_GPL(guestmem_detach);

static void gmem_assert_views_stable(struct gmem_inode *gi)
{
	lockdep_assert(lockdep_is_held(&gi->vfs_inode.i_mapping->invalidate_lock) ||
		       lockdep_is_held(&gi->views_lock));
}

/* Remove the guest mappings of [@start, @end) in every view. */
void gmem_invalidate_begin(struct gmem_inode *gi, pgoff_t start, pgoff_t end,
			   enum guestmem_state states)
{
	struct guestmem_view *view;

	gmem_assert_views_stable(gi);

	list_for_each_entry(view, &gi->views, entry)
		gi->ops->invalidate_begin(view, start, end, states);
}

/* Let guest mappings of [@start, @end) come up again, in every view. */
void gmem_invalidate_end(struct gmem_inode *gi, pgoff_t start, pgoff_t end)
{
	struct guestmem_view *view;

	gmem_assert_views_stable(gi);

	list_for_each_entry(view, &gi->views, entry)
		gi->ops->invalidate_end(view, start, end);
}
