// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inodes: from creation to eviction.
 */

#include <kunit/test.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/sizes.h>

#include "kunit_view.h"

static void inode_bad_arguments(struct kunit *test)
{
	static const loff_t sizes[] = {
		0, -1, -(loff_t)PAGE_SIZE, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, LLONG_MIN,
		LLONG_MAX,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    PTR_ERR(guestmem_create(&gmem_kunit_ops, GMEM_KUNIT_NAME,
							    sizes[i], 0)),
				    "size %lld", sizes[i]);
	for (i = 2; i < 32; i++)
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    PTR_ERR(guestmem_create(&gmem_kunit_ops, GMEM_KUNIT_NAME,
							    PAGE_SIZE, BIT(i))),
				    "flag %d", i);
}

static void inode_attributes(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 3, GUESTMEM_CONVERTIBLE);
	struct file *file = gmem_kunit_open(test, inode);
	struct iattr attr = { .ia_valid = ATTR_SIZE, .ia_size = 0 };
	char *buf, *path;

	KUNIT_EXPECT_EQ(test, 3 * PAGE_SIZE, i_size_read(inode));
	KUNIT_EXPECT_TRUE(test, S_ISREG(inode->i_mode));
	KUNIT_EXPECT_TRUE(test, mapping_inaccessible(inode->i_mapping));
	KUNIT_EXPECT_TRUE(test, mapping_unevictable(inode->i_mapping));
	KUNIT_EXPECT_FALSE(test, IS_PRIVATE(inode));
	/* Out of reach of drop_caches. */
	KUNIT_EXPECT_TRUE(test, list_empty(&inode->i_sb_list));
	KUNIT_EXPECT_EQ(test, (unsigned long)GUEST_MEMFD_MAGIC, inode->i_sb->s_magic);
	KUNIT_EXPECT_EQ(test, 0, inode->i_mapping->nrpages);

	/* The size is fixed. */
	KUNIT_EXPECT_EQ(test, -EINVAL,
			inode->i_op->setattr(&nop_mnt_idmap, file->f_path.dentry, &attr));
	KUNIT_EXPECT_EQ(test, 3 * PAGE_SIZE, i_size_read(inode));

	KUNIT_EXPECT_PTR_EQ(test, inode, file_inode(file));
	KUNIT_EXPECT_TRUE(test, file->f_mode & FMODE_READ);
	KUNIT_EXPECT_TRUE(test, file->f_mode & FMODE_WRITE);
	buf = kunit_kzalloc(test, SZ_256, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, buf);
	path = d_path(&file->f_path, buf, SZ_256);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, path);
	KUNIT_EXPECT_STREQ(test, "anon_inode:" GMEM_KUNIT_NAME, path);
}

/* Each has its own memory and state. */
static void inode_independent(struct kunit *test)
{
	struct inode *one = gmem_kunit_create_states(test, "PPPP");
	struct inode *two = gmem_kunit_create_states(test, "PPPP");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, two);

	gmem_kunit_fill(test, one, 1, 0x11);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(one, 1, 3, GUESTMEM_SHARED));
	gmem_kunit_expect_states(test, one, "PSSP");
	gmem_kunit_expect_states(test, two, "PPPP");
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(two, 1));
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
}

#ifdef CONFIG_MODULE_UNLOAD
static struct module inode_module;
static int inode_refs_in_reclaim;

static int inode_module_refs(void)
{
	return module_refcount(&inode_module);
}

static void inode_module_reclaim(struct folio *folio)
{
	inode_refs_in_reclaim = inode_module_refs();
}

static void inode_module_begin(struct guestmem_view *view, pgoff_t start,
			       pgoff_t end, enum guestmem_state states)
{
}

static void inode_module_end(struct guestmem_view *view, pgoff_t start, pgoff_t end)
{
}

static const struct guestmem_ops inode_module_ops = {
	.owner			= &inode_module,
	.invalidate_begin	= inode_module_begin,
	.invalidate_end		= inode_module_end,
	.reclaim		= inode_module_reclaim,
};

static const struct file_operations inode_module_fops = {
	.owner	= &inode_module,
};

/* A hypervisor in a module of its own, just loaded. */
static void inode_module_load(void)
{
	inode_module.state = MODULE_STATE_LIVE;
	/* The one of every module that is not on its way out. */
	atomic_set(&inode_module.refcnt, 1);
	inode_refs_in_reclaim = -1;
}

static struct inode *inode_module_create(void)
{
	return guestmem_create(&inode_module_ops, GMEM_KUNIT_NAME, 4 * PAGE_SIZE,
			       GUESTMEM_CONVERTIBLE);
}

/*
 * The last file gives its reference on the module back before the inode is
 * evicted, so the inode has one too, until the last folio was reclaimed.
 */
static void inode_pins_module(struct kunit *test)
{
	struct inode *inode;
	struct file *file;

	inode_module_load();
	KUNIT_EXPECT_EQ(test, 0, inode_module_refs());
	inode = inode_module_create();
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, inode);
	KUNIT_EXPECT_EQ(test, 1, inode_module_refs());
	gmem_kunit_fill(test, inode, 0, 1);

	file = guestmem_open(inode, GMEM_KUNIT_NAME, &inode_module_fops, &inode_module);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_EXPECT_PTR_EQ(test, (void *)&inode_module, file->private_data);
	KUNIT_EXPECT_EQ(test, 2, inode_module_refs());

	__fput_sync(file);
	/* Held while ->reclaim() ran, and not beyond. */
	KUNIT_EXPECT_EQ(test, 1, inode_refs_in_reclaim);
	KUNIT_EXPECT_EQ(test, 0, inode_module_refs());
}

/* A module that is being unloaded gets no more memory. */
static void inode_dying_module(struct kunit *test)
{
	struct inode *inode;

	inode_module_load();
	inode = inode_module_create();
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, inode);

	inode_module.state = MODULE_STATE_GOING;
	KUNIT_EXPECT_EQ(test, -ENOENT, PTR_ERR(inode_module_create()));
	KUNIT_EXPECT_EQ(test, -ENOENT, PTR_ERR(guestmem_open(inode, GMEM_KUNIT_NAME,
							     &inode_module_fops, NULL)));
	/* The inode is still the caller's. */
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&inode->i_count));
	inode_module.state = MODULE_STATE_LIVE;
	iput(inode);
	KUNIT_EXPECT_EQ(test, 0, inode_module_refs());
}

/* Every allocation of creation fails once, then all that are left do. */
static void inode_create_fails(struct kunit *test)
{
	unsigned int how, n, failures[GMEM_KUNIT_FAULTS] = {};
	struct inode *inode;
	bool failed;

	gmem_kunit_fault_setup(test);
	inode_module_load();
	for (how = 0; how < GMEM_KUNIT_FAULTS; how++) {
		failed = true;
		for (n = 1 - how; failed; n++) {
			gmem_kunit_fault_arm(how, n);
			inode = inode_module_create();
			failed = gmem_kunit_fault_disarm();

			if (IS_ERR(inode)) {
				KUNIT_EXPECT_TRUE(test, failed);
				KUNIT_EXPECT_EQ(test, -ENOMEM, PTR_ERR(inode));
				KUNIT_EXPECT_EQ(test, 0, inode_module_refs());
				failures[how]++;
				continue;
			}
			gmem_kunit_expect_states(test, inode, "PPPP");
			iput(inode);
			KUNIT_EXPECT_EQ(test, 0, inode_module_refs());
		}
		KUNIT_EXPECT_FALSE(test, IS_ERR(inode));
	}
	KUNIT_EXPECT_GT(test, failures[GMEM_KUNIT_FAIL_ONCE], 0);
	/* With room for the inode, and none for its map. */
	KUNIT_EXPECT_GT(test, failures[GMEM_KUNIT_FAIL_FROM],
			sizeof(struct gmem_inode) / 64);
}

/* On failure the inode is the caller's still. */
static void inode_open_fails(struct kunit *test)
{
	unsigned int how, n, failures;
	struct inode *inode;
	struct file *file;
	bool failed;

	gmem_kunit_fault_setup(test);
	inode_module_load();
	inode = inode_module_create();
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, inode);
	gmem_kunit_fill(test, inode, 1, 0x11);

	for (how = 0; how < GMEM_KUNIT_FAULTS; how++) {
		failures = 0;
		failed = true;
		for (n = 1 - how; failed; n++) {
			ihold(inode);
			gmem_kunit_fault_arm(how, n);
			file = guestmem_open(inode, GMEM_KUNIT_NAME, &inode_module_fops, NULL);
			failed = gmem_kunit_fault_disarm();

			KUNIT_ASSERT_EQ(test, 2, atomic_read(&inode->i_count));
			if (IS_ERR(file)) {
				KUNIT_EXPECT_TRUE(test, failed);
				KUNIT_EXPECT_EQ(test, -ENOMEM, PTR_ERR(file));
				KUNIT_EXPECT_EQ(test, 1, inode_module_refs());
				iput(inode);
				failures++;
				continue;
			}
			KUNIT_EXPECT_EQ(test, 2, inode_module_refs());
			__fput_sync(file);
			KUNIT_ASSERT_EQ(test, 1, atomic_read(&inode->i_count));
		}
		/* The dentry, or the file: see folio_allocate_fails(). */
		KUNIT_EXPECT_GE(test, failures, 1);
	}
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 1, 0x11));
	iput(inode);
	KUNIT_EXPECT_EQ(test, 0, inode_module_refs());
}
#else
static void inode_pins_module(struct kunit *test)
{
	kunit_skip(test, "modules stay: needs CONFIG_MODULE_UNLOAD");
}
#endif

/* The memory lives as long as any of its files. */
static void inode_two_files(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct file *one = gmem_kunit_open(test, inode);
	struct file *two;

	gmem_kunit_fill(test, inode, 2, 0x22);
	ihold(inode);
	two = guestmem_open(inode, GMEM_KUNIT_NAME, one->f_op, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, two);
	KUNIT_EXPECT_PTR_EQ(test, file_inode(one), file_inode(two));
	gmem_kunit_log.nr = 0;
	__fput_sync(two);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_log.nr);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 2, 0x22));
	gmem_kunit_expect_states(test, inode, "PPSS");
}

struct inode_reader {
	struct inode __rcu *inode;
	unsigned int lookups;
	unsigned int errors;
};

/* What a hypervisor does under its spinlock. */
static int inode_reader_fn(void *data)
{
	struct inode_reader *r = data;
	enum guestmem_state state;
	struct inode *inode;
	pgoff_t i;

	while (!kthread_should_stop()) {
		rcu_read_lock();
		inode = rcu_dereference(r->inode);
		for (i = 0; inode && i < 16; i++) {
			state = guestmem_page_state(inode, i);
			if (state != GUESTMEM_PRIVATE && state != GUESTMEM_SHARED)
				r->errors++;
			r->lookups++;
		}
		rcu_read_unlock();
		cond_resched();
	}

	return 0;
}

/* Inodes are freed through RCU, since readers without a lock may look at them. */
static void inode_rcu(struct kunit *test)
{
	struct inode_reader *r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	struct task_struct *task;
	struct inode *inode;
	int n, i;

	KUNIT_ASSERT_NOT_NULL(test, r);
	task = gmem_kunit_run(test, inode_reader_fn, r);
	for (n = 0; n < 20000 && (n < 100 || !READ_ONCE(r->lookups)); n++) {
		inode = guestmem_create(&gmem_kunit_ops, GMEM_KUNIT_NAME,
					16 * PAGE_SIZE, GUESTMEM_CONVERTIBLE);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, inode);
		rcu_assign_pointer(r->inode, inode);
		for (i = 0; i < 16; i += 2)
			KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, i, i + 1,
								    GUESTMEM_SHARED));
		gmem_kunit_pause();
		rcu_assign_pointer(r->inode, NULL);
		iput(inode);
	}
	gmem_kunit_stop(test, task);
	KUNIT_EXPECT_GT(test, r->lookups, 0);
	KUNIT_EXPECT_EQ(test, 0, r->errors);
}

static struct kunit_case inode_cases[] = {
	KUNIT_CASE(inode_bad_arguments),
	KUNIT_CASE(inode_attributes),
	KUNIT_CASE(inode_independent),
	KUNIT_CASE(inode_pins_module),
#ifdef CONFIG_MODULE_UNLOAD
	KUNIT_CASE(inode_dying_module),
	KUNIT_CASE(inode_create_fails),
	KUNIT_CASE(inode_open_fails),
#endif
	KUNIT_CASE(inode_two_files),
	KUNIT_CASE(inode_rcu),
	{}
};

static struct kunit_suite inode_suite = {
	.name		= "guestmem_inode",
	.init		= gmem_kunit_init,
	.test_cases	= inode_cases,
};

kunit_test_suite(inode_suite);
