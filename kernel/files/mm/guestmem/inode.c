// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inodes: creation, files, eviction.  Memory exists as long as there is a file
 * on its inode, or a clone of it.
 */

#include <linux/anon_inodes.h>
#include <linux/dcache.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/nodemask.h>
#include <linux/overflow.h>
#include <linux/pseudo_fs.h>
#include <linux/slab.h>
#include <linux/statfs.h>

#include "internal.h"

static struct kmem_cache *gmem_inode_cachep __ro_after_init;
static struct vfsmount *gmem_mnt __ro_after_init;

static struct inode *gmem_alloc_inode(struct super_block *sb)
{
	struct gmem_inode *gi;

	gi = alloc_inode_sb(sb, gmem_inode_cachep, GFP_KERNEL);
	if (!gi)
		return NULL;

	/* Initialise all of it: the inode can be dropped at any step. */
	gi->ops = NULL;
	gi->flags = 0;
	gi->nr_private = 0;
	memset(gi->node_pages, 0, nr_node_ids * sizeof(gi->node_pages[0]));
	mpol_shared_policy_init(&gi->policy, NULL);
	gmem_share_init(gi);
	gmem_golden_init(gi);
	atomic_set(&gi->keep_off, 0);
	INIT_LIST_HEAD(&gi->views);
	init_rwsem(&gi->views_lock);

	return &gi->vfs_inode;
}

static void gmem_free_inode(struct inode *inode)
{
	kmem_cache_free(gmem_inode_cachep, GMEM_I(inode));
}

static void gmem_evict_inode(struct inode *inode)
{
	struct gmem_inode *gi = GMEM_I(inode);

	/* Frees the folios, by way of the hypervisor's ->reclaim(). */
	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);

	gmem_share_destroy(gi);
	gmem_golden_destroy(gi);
	mpol_free_shared_policy(&gi->policy);

	/*
	 * The last file is gone, and with it the reference that it held on the
	 * module; this one has kept ->reclaim() in place until here.
	 */
	if (gi->ops)
		module_put(gi->ops->owner);
}

static const struct super_operations gmem_super_ops = {
	.alloc_inode	= gmem_alloc_inode,
	.free_inode	= gmem_free_inode,
	.evict_inode	= gmem_evict_inode,
	.drop_inode	= generic_delete_inode,
	.statfs		= simple_statfs,
};

/* The name in /proc/PID/fd, as for other files of anonymous inodes. */
static char *gmem_dname(struct dentry *dentry, char *buffer, int buflen)
{
	return dynamic_dname(buffer, buflen, "anon_inode:%s",
			     dentry->d_name.name);
}

static const struct dentry_operations gmem_dentry_ops = {
	.d_dname	= gmem_dname,
};

static int gmem_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, GUEST_MEMFD_MAGIC);

	if (!ctx)
		return -ENOMEM;

	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	ctx->ops = &gmem_super_ops;
	ctx->dops = &gmem_dentry_ops;

	return 0;
}

static struct file_system_type gmem_fs_type = {
	.name			= "guestmem",
	.init_fs_context	= gmem_init_fs_context,
	.kill_sb		= kill_anon_super,
};

static int gmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			struct iattr *attr)
{
	return -EINVAL;
}

static const struct inode_operations gmem_iops = {
	.setattr	= gmem_setattr,
};

/* An inode whose shareability tree is empty. */
static struct inode *gmem_make_inode(const struct guestmem_ops *ops,
				     const char *name, loff_t size,
				     unsigned int flags)
{
	struct gmem_inode *gi;
	struct inode *inode;

	if (!try_module_get(ops->owner))
		return ERR_PTR(-ENOENT);

	inode = anon_inode_make_secure_inode(gmem_mnt->mnt_sb, name, NULL);
	if (IS_ERR(inode)) {
		module_put(ops->owner);
		return inode;
	}

	/* From here on iput() undoes everything. */
	gi = GMEM_I(inode);
	gi->ops = ops;
	gi->flags = flags;

	inode->i_op = &gmem_iops;
	inode->i_mapping->a_ops = &gmem_aops;
	inode->i_mode |= S_IFREG;
	i_size_write(inode, size);
	mapping_set_gfp_mask(inode->i_mapping, GFP_HIGHUSER);
	/* Also makes it unevictable. */
	mapping_set_inaccessible(inode->i_mapping);

	return inode;
}

/**
 * guestmem_create - create memory
 * @ops: the hypervisor; its module is pinned for as long as the inode lives
 * @name: for security modules: the class of anonymous inode
 * @size: in bytes, fixed; a multiple of the page size, more than 0
 * @flags: GUESTMEM_* flags
 *
 * No folio is allocated yet.
 *
 * Context: may sleep.
 * Return: the inode, with a reference that guestmem_open() takes over or iput()
 * drops, or an ERR_PTR().
 */
struct inode *guestmem_create(const struct guestmem_ops *ops, const char *name,
			      loff_t size, unsigned int flags)
{
	struct inode *inode;
	int err;

	if (!gmem_mnt)
		return ERR_PTR(-ENODEV);
	if (size <= 0 || !PAGE_ALIGNED(size) ||
	    (flags & ~(GUESTMEM_CONVERTIBLE | GUESTMEM_INIT_SHARED)))
		return ERR_PTR(-EINVAL);

	inode = gmem_make_inode(ops, name, size, flags);
	if (IS_ERR(inode))
		return inode;

	err = gmem_share_fill(GMEM_I(inode), gmem_nr_pages(inode));
	if (err) {
		iput(inode);
		return ERR_PTR(err);
	}

	return inode;
}
EXPORT_SYMBOL_GPL(guestmem_create);

/**
 * guestmem_clone - create memory that is a copy-on-write clone
 * @golden: memory that is frozen
 * @name: for security modules: the class of anonymous inode
 *
 * The clone reads like @golden.  A page is copied when it is first written to
 * in the clone.  The clone starts with the same pages private and shared, and
 * with no NUMA policy; it holds a reference on @golden.
 *
 * Context: may sleep; takes @golden's invalidate_lock exclusively.
 * Return: the inode, as guestmem_create(), or an ERR_PTR(), among them -EINVAL
 * if @golden is not frozen, -EINTR for a fatal signal.
 */
struct inode *guestmem_clone(struct inode *golden, const char *name)
{
	struct gmem_inode *below = GMEM_I(golden);
	struct inode *inode;
	int err;

	inode = gmem_make_inode(below->ops, name, i_size_read(golden),
				below->flags);
	if (IS_ERR(inode))
		return inode;

	err = gmem_share_copy(GMEM_I(inode), golden);
	if (err) {
		iput(inode);
		return ERR_PTR(err);
	}

	ihold(golden);
	gmem_golden_attach(GMEM_I(inode), golden);

	return inode;
}
EXPORT_SYMBOL_GPL(guestmem_clone);

/**
 * guestmem_open - create a file on memory
 * @inode: the memory; on success the file takes over a reference on it
 * @name: name of the file in /proc/PID/fd, after "anon_inode:"
 * @fops: operations of the file
 * @private_data: of the file
 *
 * Context: may sleep.
 * Return: the file, open for reading and writing, or an ERR_PTR().
 */
struct file *guestmem_open(struct inode *inode, const char *name,
			   const struct file_operations *fops,
			   void *private_data)
{
	struct file *file;

	if (!try_module_get(fops->owner))
		return ERR_PTR(-ENOENT);

	file = alloc_file_pseudo(inode, gmem_mnt, name, O_RDWR | O_LARGEFILE,
				 fops);
	if (IS_ERR(file)) {
		module_put(fops->owner);
		return file;
	}
	file->private_data = private_data;

	return file;
}
EXPORT_SYMBOL_GPL(guestmem_open);

/**
 * guestmem_open_shared - make a file that shows what is shared, and no more
 * @inode: convertible memory; on success the file takes over a reference on it
 * @name: as for guestmem_open()
 *
 * For a process that serves a device: it can map the file, and reach what is
 * shared as long as it is, and read fdinfo.  It can neither change, free,
 * allocate (but by touching it) or place the memory, nor give it to a
 * guest.  The file is no view, and keeps no VM.
 *
 * Context: may sleep.
 * Return: the file, open for reading and writing, or an ERR_PTR(); -EINVAL if the
 * memory is not convertible.
 */
struct file *guestmem_open_shared(struct inode *inode, const char *name)
{
	if (!guestmem_convertible(inode))
		return ERR_PTR(-EINVAL);

	return alloc_file_pseudo(inode, gmem_mnt, name, O_RDWR | O_LARGEFILE,
				 &gmem_shared_fops);
}
EXPORT_SYMBOL_GPL(guestmem_open_shared);

static void gmem_init_once(void *obj)
{
	struct gmem_inode *gi = obj;

	inode_init_once(&gi->vfs_inode);
}

static int __init gmem_init(void)
{
	struct vfsmount *mnt;

	gmem_inode_cachep = kmem_cache_create("gmem_inode",
					      struct_size_t(struct gmem_inode, node_pages,
							    nr_node_ids), 0,
					      SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT,
					      gmem_init_once);
	if (!gmem_inode_cachep)
		return -ENOMEM;

	mnt = kern_mount(&gmem_fs_type);
	if (IS_ERR(mnt)) {
		/*
		 * A mount that failed late has made a root inode and dropped
		 * it again, and inodes are freed through RCU: wait for that, or
		 * the cache would be destroyed with an object in it.
		 */
		rcu_barrier();
		kmem_cache_destroy(gmem_inode_cachep);
		return PTR_ERR(mnt);
	}
	mnt->mnt_flags |= MNT_NOEXEC;
	gmem_mnt = mnt;

	return 0;
}
fs_initcall(gmem_init);
