// SPDX-License-Identifier: GPL-2.0-only
/*
 * Golden memory: frozen memory that has clones.
 *
 * A clone has folios of its own only where it was written to.  Elsewhere
 * lookups for reading return the folios of the memory that it was cloned from.
 * That is frozen, so its folios are neither changed nor freed as long as the
 * clone holds the inode.  Guests map golden folios, read-only; page tables of
 * the host never do, because rmap looks for pages that are mapped through a
 * file in the file's own mapping.  Therefore an access of the host copies the
 * page.
 *
 * Ranges that are punched out or zeroed in a clone have to stay zero: they are
 * recorded in a second maple tree, and hide the golden memory.
 *
 * Memory failure of a golden folio has to remove guest mappings in the clones;
 * golden memory has a list of its clones for that.
 */

#include <linux/fs.h>
#include <linux/mm.h>

#include "internal.h"

/* Make an empty tree of what is hidden; as gmem_share_init(). */
void gmem_golden_init(struct gmem_inode *gi)
{
	gi->golden = NULL;
	gi->freezing = false;
	gi->frozen = false;
	INIT_LIST_HEAD(&gi->clones);
	INIT_LIST_HEAD(&gi->clone_entry);
	mt_init_flags(&gi->hidden, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_LOCK_EXTERN |
				   MT_FLAGS_USE_RCU);
	mt_set_external_lock(&gi->hidden, &gi->vfs_inode.i_data.invalidate_lock);
}

/* Let @gi show @golden, which is frozen; its reference is taken over. */
void gmem_golden_attach(struct gmem_inode *gi, struct inode *golden)
{
	struct gmem_inode *below = GMEM_I(golden);

	gi->golden = golden;
	down_write(&below->views_lock);
	list_add_tail(&gi->clone_entry, &below->clones);
	up_write(&below->views_lock);
}

/* The inode is being evicted.  Memory failure may still find it in the list. */
void gmem_golden_destroy(struct gmem_inode *gi)
{
	struct address_space *mapping = gi->vfs_inode.i_mapping;

	if (!gi->golden)
		return;

	down_write(&GMEM_I(gi->golden)->views_lock);
	list_del(&gi->clone_entry);
	up_write(&GMEM_I(gi->golden)->views_lock);

	filemap_invalidate_lock(mapping);
	__mt_destroy(&gi->hidden);
	filemap_invalidate_unlock(mapping);

	iput(gi->golden);
}

/**
 * gmem_golden_folio - look up the golden folio of a page
 * @gi: the memory; the result is NULL unless it is a clone
 * @index: index of the page, which has no folio of @gi's own
 *
 * Context: the caller holds invalidate_lock, or RCU if a stale answer will do.
 * Return: the golden folio, initialised, with a reference; or NULL.
 */
struct folio *gmem_golden_folio(struct gmem_inode *gi, pgoff_t index)
{
	struct folio *folio;

	if (likely(!gi->golden) || mtree_load(&gi->hidden, index))
		return NULL;

	folio = filemap_get_folio(gi->golden->i_mapping, index);
	if (IS_ERR(folio))
		return NULL;

	/* Allocated and never initialised, so it reads as zero: a hole. */
	if (!folio_test_uptodate(folio)) {
		folio_put(folio);
		return NULL;
	}

	return folio;
}

/*
 * Hide the golden memory in [@start, @end).  The store is widened over the
 * neighbours, since the tree does not merge entries.
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
int gmem_hide_golden(struct gmem_inode *gi, pgoff_t start, pgoff_t end)
{
	pgoff_t first = start, last = end - 1;
	MA_STATE(mas, &gi->hidden, 0, 0);

	if (!gi->golden)
		return 0;

	lockdep_assert_held_write(&gi->vfs_inode.i_mapping->invalidate_lock);

	if (start > 0) {
		mas_set(&mas, start - 1);
		if (mas_walk(&mas))
			first = mas.index;
	}
	mas_set(&mas, end);
	if (mas_walk(&mas))
		last = mas.last;

	mas_set_range(&mas, first, last);
	return gmem_tree_store(&mas, xa_mk_value(1));
}

/*
 * A golden folio is poisoned: unmap it from the guests that run in clones.
 *
 * Context: the caller holds views_lock of @gi, which keeps the clones in place.
 */
void gmem_invalidate_clones(struct gmem_inode *gi, pgoff_t start, pgoff_t end)
{
	struct gmem_inode *clone;

	lockdep_assert_held(&gi->views_lock);

	list_for_each_entry(clone, &gi->clones, clone_entry) {
		/* Golden memory is no clone, so this is as deep as it gets. */
		down_read_nested(&clone->views_lock, SINGLE_DEPTH_NESTING);
		gmem_invalidate_begin(clone, start, end, GUESTMEM_ANY);
		gmem_invalidate_end(clone, start, end);
		up_read(&clone->views_lock);
	}
}
