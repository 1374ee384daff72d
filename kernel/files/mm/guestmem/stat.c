// SPDX-License-Identifier: GPL-2.0-only
/*
 * Queries: state, population and NUMA nodes of the memory.
 */

#include <linux/export.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "internal.h"

/*
 * Account the populated pages of [range->start, range->end) in @range.  With
 * @by_node stop, and cut @range short, where population or node changes.
 *
 * Return: 0, or -EINTR for a fatal signal.
 */
static int gmem_scan(struct inode *inode, bool by_node,
		     struct guestmem_range *range)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, range->start);
	pgoff_t next = range->start;
	unsigned int steps = 0;
	struct folio *folio;
	int r = 0;

	range->populated = 0;
	range->node = NUMA_NO_NODE;

	rcu_read_lock();
	xas_for_each(&xas, folio, range->end - 1) {
		pgoff_t first, end;
		int node;

		if (xas_retry(&xas, folio))
			continue;

		first = max(folio->index, range->start);
		end = min(folio_next_index(folio), range->end);
		/* Other bits of the word that has the node change. */
		node = data_race(folio_nid(folio));

		if (by_node && first > next) {
			/* A hole begins the range, or ends it. */
			range->end = range->populated ? next : first;
			break;
		}
		if (by_node && range->populated && node != range->node) {
			range->end = first;
			break;
		}

		if (!range->populated)
			range->node = node;
		else if (node != range->node)
			range->node = GUESTMEM_NODE_MIXED;
		range->populated += end - first;
		next = end;

		if (!gmem_rcu_pause(&xas, &steps)) {
			r = -EINTR;
			break;
		}
	}
	rcu_read_unlock();

	/* Populated up to here, and a hole from here on. */
	if (by_node && range->populated && next < range->end)
		range->end = next;

	return r;
}

/**
 * guestmem_next_range - describe the run at an index
 * @inode: the memory
 * @start: index of the run's first page
 * @end: index behind the last page of interest, within the file
 * @by_node: end the run also where population or node changes, not only where
 *	     the state does
 * @range: where to return the run, cut at @end
 *
 * Context: may sleep; takes the mapping's invalidate_lock shared.
 * Return: 0, or -EINTR for a fatal signal.
 */
int guestmem_next_range(struct inode *inode, pgoff_t start, pgoff_t end,
			bool by_node, struct guestmem_range *range)
{
	pgoff_t run_end;
	int r;

	if (down_read_killable(&inode->i_mapping->invalidate_lock))
		return -EINTR;

	range->start = start;
	range->state = guestmem_run(inode, start, &run_end);
	range->end = min(run_end, end);
	r = gmem_scan(inode, by_node, range);

	filemap_invalidate_unlock_shared(inode->i_mapping);

	return r;
}
EXPORT_SYMBOL_GPL(guestmem_next_range);

/**
 * guestmem_llseek - seek, also to populated memory and to holes
 * @file: a file on the memory
 * @offset: in bytes
 * @whence: SEEK_DATA finds memory that is allocated, SEEK_HOLE memory that is
 *	    not; others are as for any file
 *
 * Context: may sleep; takes the mapping's invalidate_lock shared.
 * Return: the new offset; -ENXIO if there is none; -EINVAL; -EINTR for a fatal
 * signal.
 */
loff_t guestmem_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);
	loff_t size = i_size_read(inode);
	struct guestmem_range range;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return generic_file_llseek_size(file, offset, whence, size,
						size);

	if (offset < 0 || offset >= size)
		return -ENXIO;

	if (down_read_killable(&inode->i_mapping->invalidate_lock))
		return -EINTR;

	range.end = offset >> PAGE_SHIFT;
	while (range.end < gmem_nr_pages(inode)) {
		range.start = range.end;
		range.end = gmem_nr_pages(inode);
		if (gmem_scan(inode, true, &range)) {
			offset = -EINTR;
			goto found;
		}
		if (whence == SEEK_HOLE ? !range.populated : range.populated) {
			offset = max(offset, (loff_t)range.start << PAGE_SHIFT);
			goto found;
		}
	}

	/* The end of the file is a hole. */
	offset = whence == SEEK_HOLE ? size : -ENXIO;
found:
	filemap_invalidate_unlock_shared(inode->i_mapping);

	return offset < 0 ? offset : vfs_setpos(file, offset, size);
}
EXPORT_SYMBOL_GPL(guestmem_llseek);

/**
 * guestmem_show_fdinfo - describe memory in /proc/PID/fdinfo
 * @m: where to
 * @inode: the memory
 *
 * Numbers are in bytes; nodes without memory are left out.  No lock is taken,
 * so that a reader delays nobody, and the numbers may be of different moments.
 *
 * Context: may sleep.
 */
void guestmem_show_fdinfo(struct seq_file *m, struct inode *inode)
{
	struct gmem_inode *gi = GMEM_I(inode);
	unsigned long private = READ_ONCE(gi->nr_private);
	unsigned long populated = 0, *nodes;
	pgoff_t size = gmem_nr_pages(inode);
	int node;

	nodes = kcalloc(nr_node_ids, sizeof(*nodes), GFP_KERNEL);
	if (!nodes)
		return;

	for_each_node(node) {
		nodes[node] = atomic_long_read(&gi->node_pages[node]);
		populated += nodes[node];
	}

	seq_printf(m, "gmem-size:\t%llu\n", (u64)size << PAGE_SHIFT);
	seq_printf(m, "gmem-private:\t%llu\n", (u64)private << PAGE_SHIFT);
	seq_printf(m, "gmem-shared:\t%llu\n", (u64)(size - private) << PAGE_SHIFT);
	seq_printf(m, "gmem-populated:\t%llu\n", (u64)populated << PAGE_SHIFT);
	for_each_node(node)
		if (nodes[node])
			seq_printf(m, "gmem-node%d:\t%llu\n", node,
				   (u64)nodes[node] << PAGE_SHIFT);

	kfree(nodes);
}
EXPORT_SYMBOL_GPL(guestmem_show_fdinfo);
