/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_GUESTMEM_H
#define _LINUX_GUESTMEM_H

/*
 * Guest memory that the host's userspace can access only where it is shared: a
 * library for hypervisors.  An inode is memory, a view is one VM's access to
 * it.  See Documentation/mm/guestmem.rst.
 */

#include <linux/bits.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/types.h>

struct file;
struct folio;
struct inode;
struct module;
struct seq_file;
struct vm_area_struct;

/**
 * enum guestmem_state - who may access a page
 * @GUESTMEM_SHARED: the guest and the host's userspace
 * @GUESTMEM_PRIVATE: the guest, and not the host's userspace
 * @GUESTMEM_ANY: either; only as a filter
 */
enum guestmem_state {
	GUESTMEM_SHARED		= BIT(0),
	GUESTMEM_PRIVATE	= BIT(1),
	GUESTMEM_ANY		= GUESTMEM_SHARED | GUESTMEM_PRIVATE,
};

/**
 * enum guestmem_contents - what becomes of pages that change their state
 * @GUESTMEM_PRESERVE: they keep their contents
 * @GUESTMEM_ZERO: they read as zero
 */
enum guestmem_contents {
	GUESTMEM_PRESERVE,
	GUESTMEM_ZERO,
};

/* Flags of guestmem_create(). */
#define GUESTMEM_CONVERTIBLE	BIT(0)	/* can be mapped, and converted in place */
#define GUESTMEM_INIT_SHARED	BIT(1)	/* starts out shared, not private */

/**
 * struct guestmem_view - one VM's view of an inode
 * @entry: the inode's list of views
 * @inode: the memory, from guestmem_attach() on
 *
 * Embedded by the hypervisor in the private data of its file.
 */
struct guestmem_view {
	struct list_head entry;
	struct inode *inode;
};

/**
 * struct guestmem_ops - callbacks of a hypervisor for changes of memory
 * @owner: module that holds the functions; pinned as long as the inode lives,
 *	   which is longer than the last file
 * @invalidate_begin: remove the guest mappings of those pages of the view in
 *	[start, end) that are in one of @states, and prevent new mappings of
 *	the range until @invalidate_end.  May sleep.
 * @invalidate_end: the counterpart, called for the same range and with the
 *	same bindings as the begin.
 * @reclaim: optional; a folio is being freed, and its contents need not be
 *	kept.  Called with the folio locked.  Must not sleep.
 */
struct guestmem_ops {
	struct module *owner;
	void (*invalidate_begin)(struct guestmem_view *view, pgoff_t start,
				 pgoff_t end, enum guestmem_state states);
	void (*invalidate_end)(struct guestmem_view *view, pgoff_t start,
			       pgoff_t end);
	void (*reclaim)(struct folio *folio);
};

/**
 * struct guestmem_range - a run of pages, see guestmem_next_range()
 * @start: first index
 * @end: index behind the last
 * @state: of all pages of the run
 * @populated: number of pages that are allocated
 * @node: NUMA node of all populated pages, or NUMA_NO_NODE (none is
 *	  populated), or GUESTMEM_NODE_MIXED
 */
struct guestmem_range {
	pgoff_t start;
	pgoff_t end;
	enum guestmem_state state;
	unsigned long populated;
	int node;
};

#define GUESTMEM_NODE_MIXED	(-2)

/* inode.c */
struct inode *guestmem_create(const struct guestmem_ops *ops, const char *name,
			      loff_t size, unsigned int flags);
struct inode *guestmem_clone(struct inode *golden, const char *name);
struct file *guestmem_open(struct inode *inode, const char *name,
			   const struct file_operations *fops,
			   void *private_data);
struct file *guestmem_open_shared(struct inode *inode, const char *name);

/* view.c */
int guestmem_attach(struct inode *inode, struct guestmem_view *view);
void guestmem_detach(struct inode *inode, struct guestmem_view *view);
void guestmem_lock_bindings(struct inode *inode);
int guestmem_lock_bindings_killable(struct inode *inode);
void guestmem_unlock_bindings(struct inode *inode);

/* folio.c */
struct folio *guestmem_get_folio(struct inode *inode, pgoff_t index,
				 bool write, bool *writable);
struct folio *guestmem_peek_folio(struct inode *inode, pgoff_t index,
				  bool write);
void guestmem_init_folio(struct folio *folio);
long guestmem_fallocate(struct inode *inode, int mode, loff_t offset,
			loff_t len);

/* share.c */
bool guestmem_convertible(const struct inode *inode);
bool guestmem_frozen(const struct inode *inode);
enum guestmem_state guestmem_page_state(struct inode *inode, pgoff_t index);
enum guestmem_state guestmem_run(struct inode *inode, pgoff_t index,
				 pgoff_t *end);
bool guestmem_next_run(struct inode *inode, pgoff_t *start, pgoff_t *end,
		       pgoff_t limit, enum guestmem_state states);

/* convert.c */
int guestmem_convert(struct inode *inode, pgoff_t start, pgoff_t end,
		     enum guestmem_state to, enum guestmem_contents contents,
		     pgoff_t *error_index);
int guestmem_freeze(struct inode *inode, pgoff_t *error_index);

/* map.c */
int guestmem_mmap(struct inode *inode, struct vm_area_struct *vma);

/* stat.c */
int guestmem_next_range(struct inode *inode, pgoff_t start, pgoff_t end,
			bool by_node, struct guestmem_range *range);
loff_t guestmem_llseek(struct file *file, loff_t offset, int whence);
void guestmem_show_fdinfo(struct seq_file *m, struct inode *inode);

#endif /* _LINUX_GUESTMEM_H */
