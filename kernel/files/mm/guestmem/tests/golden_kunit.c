// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frozen memory and its clones.
 */

#include <kunit/test.h>
#include <linux/falloc.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kunit_view.h"

#define GOLDEN_SEED	5

static int golden_freeze(struct inode *inode)
{
	pgoff_t error_index;

	return guestmem_freeze(inode, &error_index);
}

/* Memory whose populated pages hold their index + 1; '.' is a hole. */
static struct inode *golden_create(struct kunit *test, const char *states,
				   const char *populated)
{
	struct inode *inode = gmem_kunit_create_states(test, states);
	pgoff_t i;

	for (i = 0; populated[i]; i++)
		if (populated[i] != '.')
			gmem_kunit_fill(test, inode, i, i + 1);
	KUNIT_ASSERT_EQ(test, 0, golden_freeze(inode));

	return inode;
}

KUNIT_DEFINE_ACTION_WRAPPER(golden_iput_action, iput, struct inode *);

static struct inode *golden_clone(struct kunit *test, struct inode *golden)
{
	struct inode *inode = guestmem_clone(golden, GMEM_KUNIT_NAME);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, inode);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, golden_iput_action,
							   inode));
	return inode;
}

/* What a guest reads, or -1 where bytes differ; and whether it may write. */
static int golden_read(struct kunit *test, struct inode *inode, pgoff_t index,
		       bool *writable)
{
	struct folio *folio;
	u8 *kaddr;
	int byte;

	filemap_invalidate_lock_shared(inode->i_mapping);
	folio = guestmem_get_folio(inode, index, false, writable);
	filemap_invalidate_unlock_shared(inode->i_mapping);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);

	guestmem_init_folio(folio);
	kaddr = kmap_local_folio(folio, 0);
	byte = memchr_inv(kaddr, kaddr[0], PAGE_SIZE) ? -1 : kaddr[0];
	kunmap_local(kaddr);
	folio_unlock(folio);
	folio_put(folio);

	return byte;
}

#define golden_expect(test, inode, index, byte, may_write)		\
do {									\
	bool writable = !(may_write);					\
									\
	KUNIT_EXPECT_EQ(test, byte,					\
			golden_read(test, inode, index, &writable));	\
	KUNIT_EXPECT_EQ(test, may_write, writable);			\
} while (0)

static int golden_write_error(struct inode *inode, pgoff_t index)
{
	struct folio *folio;

	filemap_invalidate_lock_shared(inode->i_mapping);
	folio = guestmem_get_folio(inode, index, true, NULL);
	filemap_invalidate_unlock_shared(inode->i_mapping);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

static long golden_zero(struct inode *inode, pgoff_t start, pgoff_t end)
{
	return guestmem_fallocate(inode, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				  (loff_t)start << PAGE_SHIFT,
				  (loff_t)(end - start) << PAGE_SHIFT);
}

/* Nothing can change it, all can read it. */
static void golden_frozen(struct kunit *test)
{
	struct inode *inode = golden_create(test, "PPSS", "1.3.");
	struct gmem_kunit_snap *before = kunit_kzalloc(test, sizeof(*before), GFP_KERNEL);
	struct gmem_kunit_snap *after = kunit_kzalloc(test, sizeof(*after), GFP_KERNEL);
	pgoff_t error_index = 99;

	KUNIT_ASSERT_NOT_NULL(test, before);
	KUNIT_ASSERT_NOT_NULL(test, after);
	KUNIT_EXPECT_TRUE(test, guestmem_frozen(inode));
	gmem_kunit_snap(inode, 4, before);

	KUNIT_EXPECT_EQ(test, -EPERM, gmem_kunit_convert(inode, 0, 1, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, -EPERM, gmem_kunit_convert(inode, 2, 3, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, -EPERM, gmem_kunit_convert(inode, 2, 3, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, -EPERM, gmem_kunit_punch(inode, 0, 1));
	KUNIT_EXPECT_EQ(test, -EPERM, golden_zero(inode, 0, 4));
	KUNIT_EXPECT_EQ(test, -EPERM, guestmem_fallocate(inode, FALLOC_FL_KEEP_SIZE, 0,
							 4 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EPERM, golden_write_error(inode, 0));
	KUNIT_EXPECT_EQ(test, -EPERM, golden_write_error(inode, 1));

	/* Once more changes nothing. */
	KUNIT_EXPECT_EQ(test, 0, guestmem_freeze(inode, &error_index));
	KUNIT_EXPECT_EQ(test, 0, error_index);

	golden_expect(test, inode, 0, 1, false);
	golden_expect(test, inode, 1, 0, false);
	golden_expect(test, inode, 2, 3, false);
	golden_expect(test, inode, 3, 0, false);
	gmem_kunit_snap(inode, 4, after);
	KUNIT_EXPECT_MEMEQ(test, before, after, sizeof(*before));
}

/* Whoever reads a hole, and however: it is zero, and stays a hole. */
static void golden_holes(struct kunit *test)
{
	struct inode *inode = golden_create(test, "SSPP", "1.3.");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);
	u8 __user *p = (u8 __user *)addr + PAGE_SIZE;
	struct folio *folio;
	struct page *page;
	u8 byte = 1;

	golden_expect(test, inode, 1, 0, false);
	golden_expect(test, inode, 3, 0, false);

	rcu_read_lock();
	KUNIT_EXPECT_NULL(test, guestmem_peek_folio(inode, 1, true));
	folio = guestmem_peek_folio(inode, 1, false);
	rcu_read_unlock();
	KUNIT_ASSERT_NOT_NULL(test, folio);
	KUNIT_EXPECT_TRUE(test, is_zero_folio(folio));
	folio_put(folio);

	/* A write before there is a PTE and after, a pin of either kind. */
	KUNIT_EXPECT_NE(test, 0, put_user((u8)1, p));
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p));
	KUNIT_EXPECT_EQ(test, 0, byte);
	KUNIT_EXPECT_NE(test, 0, put_user((u8)1, p));
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p + PAGE_SIZE - 1));
	KUNIT_EXPECT_EQ(test, 0, byte);
	KUNIT_ASSERT_EQ(test, 1, pin_user_pages_fast(addr + PAGE_SIZE, 1,
						     FOLL_LONGTERM, &page));
	KUNIT_EXPECT_TRUE(test, is_zero_page(page));
	unpin_user_page(page);
	KUNIT_EXPECT_NE(test, 1, pin_user_pages_fast(addr + PAGE_SIZE, 1,
						     FOLL_WRITE, &page));
	KUNIT_EXPECT_NE(test, 0, get_user(byte, p + 2 * PAGE_SIZE));

	KUNIT_EXPECT_EQ(test, 2, inode->i_mapping->nrpages);
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, 1));
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, 3));
	/* What everybody else reads as zero still is. */
	KUNIT_EXPECT_NULL(test, memchr_inv(page_address(ZERO_PAGE(0)), 0, PAGE_SIZE));
}

/* The host can read what is shared, through new mappings, and not write. */
static void golden_host(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSP");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 3);
	u8 __user *p = (u8 __user *)addr;
	unsigned long later;
	struct page *page;
	u8 byte;

	/* Written, read, and read then written: all ways a PTE can come about. */
	KUNIT_ASSERT_EQ(test, 0, put_user((u8)0x11, p));
	KUNIT_ASSERT_EQ(test, 0, get_user(byte, p + PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, 0, put_user((u8)0x22, p + PAGE_SIZE));

	KUNIT_ASSERT_EQ(test, 0, golden_freeze(inode));
	KUNIT_EXPECT_FALSE(test, gmem_kunit_mapped(inode, 0));
	later = gmem_kunit_mmap(test, file, 0, 3);

	KUNIT_EXPECT_NE(test, 0, get_user(byte, p));
	KUNIT_EXPECT_NE(test, 0, put_user((u8)0x33, p + PAGE_SIZE));

	p = (u8 __user *)later;
	KUNIT_EXPECT_NE(test, 0, put_user((u8)0x33, p));
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p));
	KUNIT_EXPECT_EQ(test, 0x11, byte);
	/* Now that there is a PTE, for reading. */
	KUNIT_EXPECT_NE(test, 0, put_user((u8)0x33, p));
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p + PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0x22, byte);
	KUNIT_EXPECT_NE(test, 0, put_user((u8)0x33, p + PAGE_SIZE));
	KUNIT_EXPECT_NE(test, 0, get_user(byte, p + 2 * PAGE_SIZE));
	KUNIT_EXPECT_NE(test, 1, pin_user_pages_fast(later, 1, FOLL_WRITE, &page));
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p));
	KUNIT_EXPECT_EQ(test, 0x11, byte);
	golden_expect(test, inode, 1, -1, false);
}

/* Who holds a page could write to it later. */
static void golden_busy(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PSP");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);
	pgoff_t error_index, i;

	for (i = 0; i < 3; i++)
		gmem_kunit_fill(test, inode, i, i + 1);

	for (i = 3; i-- > 0; ) {
		folio_get(gmem_kunit_folio(inode, i));
		error_index = 99;
		KUNIT_EXPECT_EQ(test, -EAGAIN, guestmem_freeze(inode, &error_index));
		KUNIT_EXPECT_EQ(test, i, error_index);
		KUNIT_EXPECT_FALSE(test, guestmem_frozen(inode));
		KUNIT_EXPECT_EQ(test, 0, kv->begins);
		KUNIT_EXPECT_EQ(test, 0, golden_write_error(inode, i));
		KUNIT_EXPECT_EQ(test, -EINVAL, PTR_ERR_OR_ZERO(guestmem_clone(inode,
									      GMEM_KUNIT_NAME)));
		folio_put(gmem_kunit_folio(inode, i));
	}

	KUNIT_EXPECT_EQ(test, 0, golden_freeze(inode));
	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	KUNIT_EXPECT_EQ(test, 1, kv->ends);
	KUNIT_EXPECT_EQ(test, 0, kv->start);
	KUNIT_EXPECT_EQ(test, 3, kv->end);
	KUNIT_EXPECT_EQ(test, GUESTMEM_ANY, kv->states);
}

static int golden_freeze_thread(void *data)
{
	struct inode *inode = data;
	int r = -EAGAIN;

	while (!kthread_should_stop() && r == -EAGAIN) {
		r = golden_freeze(inode);
		gmem_kunit_pause();
	}

	return r;
}

/* Mappings that are made while freezing fails are as good as any. */
static void golden_not_frozen(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSS");
	struct file *file = gmem_kunit_open(test, inode);
	struct task_struct *task;
	unsigned long addr;
	struct page *page;
	u8 __user *p;
	u8 byte;
	int i, r;

	gmem_kunit_fill(test, inode, 2, 1);
	folio_get(gmem_kunit_folio(inode, 2));
	task = gmem_kunit_run(test, golden_freeze_thread, inode);

	for (i = 0; i < 64; i++) {
		gmem_kunit_pause();
		addr = gmem_kunit_mmap(test, file, 0, 2);
		p = (u8 __user *)addr;
		KUNIT_EXPECT_EQ(test, 0, get_user(byte, p));
		KUNIT_EXPECT_EQ(test, 0, put_user((u8)i, p));
		r = pin_user_pages_fast(addr, 1, FOLL_WRITE | FOLL_LONGTERM, &page);
		KUNIT_EXPECT_EQ(test, 1, r);
		if (r == 1)
			unpin_user_page(page);
		KUNIT_EXPECT_FALSE(test, guestmem_frozen(inode));
	}

	gmem_kunit_stop(test, task);
	folio_put(gmem_kunit_folio(inode, 2));
	KUNIT_EXPECT_EQ(test, 0, golden_freeze(inode));
}

static void golden_poisoned(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PS");
	pgoff_t error_index = 99;

	gmem_kunit_fill(test, inode, 1, 1);
	gmem_kunit_poison(test, inode, 1);
	KUNIT_EXPECT_EQ(test, -EHWPOISON, guestmem_freeze(inode, &error_index));
	KUNIT_EXPECT_EQ(test, 1, error_index);
	KUNIT_EXPECT_FALSE(test, guestmem_frozen(inode));
	gmem_kunit_unpoison(test, inode, 1);
	KUNIT_EXPECT_EQ(test, 0, golden_freeze(inode));
}

/* A clone reads as the golden memory, and takes nothing for it. */
static void golden_reads(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPSSP", "12.4.");
	struct inode *clone = golden_clone(test, golden);
	int refs = folio_ref_count(gmem_kunit_folio(golden, 0));

	gmem_kunit_expect_states(test, clone, "PPSSP");
	golden_expect(test, clone, 0, 1, false);
	golden_expect(test, clone, 1, 2, false);
	golden_expect(test, clone, 3, 4, false);
	KUNIT_EXPECT_EQ(test, 0, clone->i_mapping->nrpages);
	KUNIT_EXPECT_EQ(test, refs, folio_ref_count(gmem_kunit_folio(golden, 0)));

	/* A hole is nobody's, so that the clone can have it at once. */
	golden_expect(test, clone, 2, 0, true);
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(golden, 2));
	KUNIT_EXPECT_NOT_NULL(test, gmem_kunit_folio(clone, 2));
}

/* The first write copies: guests lose the old mapping before there is a new page. */
static void golden_copies(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPSS", "1234");
	struct inode *one = golden_clone(test, golden);
	struct inode *two = golden_clone(test, golden);
	struct gmem_kunit_view *below = gmem_kunit_attach(test, golden);
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, one);
	struct gmem_kunit_view *other = gmem_kunit_attach(test, two);

	golden_expect(test, one, 1, 2, false);
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
	KUNIT_EXPECT_EQ(test, 0, golden_write_error(one, 1));
	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	KUNIT_EXPECT_EQ(test, 1, kv->start);
	KUNIT_EXPECT_EQ(test, 2, kv->end);
	KUNIT_EXPECT_EQ(test, GUESTMEM_ANY, kv->states);
	KUNIT_EXPECT_EQ(test, 0, other->begins);
	KUNIT_EXPECT_EQ(test, 0, below->begins);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(one, 1, 2));

	gmem_kunit_fill(test, one, 1, 0x77);
	/* It is there already: nothing is taken from anybody. */
	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	golden_expect(test, one, 1, 0x77, true);
	golden_expect(test, two, 1, 2, false);
	golden_expect(test, golden, 1, 2, false);
	KUNIT_EXPECT_EQ(test, 1, one->i_mapping->nrpages);
	KUNIT_EXPECT_EQ(test, 0, two->i_mapping->nrpages);
	KUNIT_EXPECT_EQ(test, 4, golden->i_mapping->nrpages);
}

/*
 * What showed through when the last guest looked need not be what shows through
 * now: every folio that a clone gets is followed by an invalidation, before
 * anybody can have it.
 */
static void golden_expels(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPPP", "12..");
	struct inode *clone = golden_clone(test, golden);
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, clone);
	bool writable;
	pgoff_t i;

	KUNIT_ASSERT_EQ(test, 0, gmem_kunit_punch(clone, 1, 2));
	for (i = 0; i < 4; i++) {
		kv->begins = 0;
		kv->ends = 0;
		kv->locked = false;
		kv->peeked = true;
		if (i < 3)
			KUNIT_EXPECT_EQ(test, 0, golden_write_error(clone, i));
		else
			KUNIT_EXPECT_EQ(test, 0, golden_read(test, clone, i, &writable));
		KUNIT_EXPECT_EQ_MSG(test, 1, kv->begins, "page %lu", i);
		KUNIT_EXPECT_EQ_MSG(test, 1, kv->ends, "page %lu", i);
		KUNIT_EXPECT_EQ_MSG(test, i, kv->start, "page %lu", i);
		KUNIT_EXPECT_TRUE_MSG(test, kv->locked, "page %lu", i);
		KUNIT_EXPECT_FALSE_MSG(test, kv->peeked, "page %lu", i);
	}
}

/* The host never gets a golden page through a clone. */
static void golden_clone_host(struct kunit *test)
{
	struct inode *golden = golden_create(test, "SSP", "123");
	struct inode *clone = golden_clone(test, golden);
	struct file *file = gmem_kunit_open(test, clone);
	u8 __user *p = (u8 __user *)gmem_kunit_mmap(test, file, 0, 3);
	u8 byte;

	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p));
	KUNIT_EXPECT_EQ(test, 1, byte);
	KUNIT_EXPECT_FALSE(test, gmem_kunit_mapped(golden, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_mapped(clone, 0));
	KUNIT_EXPECT_EQ(test, 0, put_user((u8)0x55, p));
	KUNIT_EXPECT_EQ(test, 0, put_user((u8)0x66, p + PAGE_SIZE));
	KUNIT_EXPECT_NE(test, 0, get_user(byte, p + 2 * PAGE_SIZE));

	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(golden, 0, 1));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(golden, 1, 2));
	/* The copy has what was not written, too. */
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p + PAGE_SIZE + 1));
	KUNIT_EXPECT_EQ(test, 2, byte);
}

/* A clone converts by itself; what shows through goes along. */
static void golden_converts(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPSS", "1234");
	struct inode *clone = golden_clone(test, golden);
	struct file *file = gmem_kunit_open(test, clone);
	u8 __user *p = (u8 __user *)gmem_kunit_mmap(test, file, 0, 4);
	pgoff_t error_index;
	u8 byte;

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(clone, 1, 2, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(clone, 3, 4, GUESTMEM_PRIVATE));
	gmem_kunit_expect_states(test, clone, "PSSP");
	gmem_kunit_expect_states(test, golden, "PPSS");
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, p + PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 2, byte);
	KUNIT_EXPECT_NE(test, 0, get_user(byte, p + 3 * PAGE_SIZE));
	golden_expect(test, clone, 3, 4, false);

	error_index = -1;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			guestmem_convert(clone, 1, 2, GUESTMEM_SHARED,
					 GUESTMEM_ZERO, &error_index));
	KUNIT_EXPECT_EQ(test, 1, error_index);
	gmem_kunit_expect_states(test, clone, "PSSP");
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, golden_freeze(clone));
	KUNIT_EXPECT_EQ(test, -EINVAL, PTR_ERR_OR_ZERO(guestmem_clone(clone,
								      GMEM_KUNIT_NAME)));
}

/* A hole in a clone is a hole, and does not show what is below. */
static void golden_hides(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPPPPPPP", "12345678");
	struct inode *clone = golden_clone(test, golden);
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, clone);

	gmem_kunit_fill(test, clone, 2, 0x22);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(clone, 1, 3));
	golden_expect(test, clone, 0, 1, false);
	golden_expect(test, clone, 1, 0, true);
	golden_expect(test, clone, 2, 0, true);
	golden_expect(test, clone, 3, 4, false);

	/* Zeroing frees nothing and allocates nothing. */
	gmem_kunit_fill(test, clone, 5, 0x55);
	kv->begins = 0;
	kv->ends = 0;
	KUNIT_EXPECT_EQ(test, 3, clone->i_mapping->nrpages);
	KUNIT_EXPECT_EQ(test, 0, golden_zero(clone, 4, 8));
	KUNIT_EXPECT_EQ(test, 3, clone->i_mapping->nrpages);
	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	golden_expect(test, clone, 4, 0, true);
	golden_expect(test, clone, 5, 0, true);
	golden_expect(test, clone, 7, 0, true);
	golden_expect(test, clone, 3, 4, false);
	golden_expect(test, golden, 4, 5, false);
}

/* What is allocated ahead in a clone has to be what shows through. */
static void golden_allocates(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PSPP", "1.3.");
	struct inode *clone = golden_clone(test, golden);

	KUNIT_EXPECT_EQ(test, 0, guestmem_fallocate(clone, FALLOC_FL_KEEP_SIZE, 0,
						    4 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(clone, 0, 1));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(clone, 1, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(clone, 2, 3));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(clone, 3, 0));
}

/* Who looks without a lock. */
static void golden_peek(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPP", "12.");
	struct inode *clone = golden_clone(test, golden);
	struct folio *folio;

	gmem_kunit_fill(test, clone, 0, 0x10);

	rcu_read_lock();
	KUNIT_EXPECT_NULL(test, guestmem_peek_folio(golden, 0, true));
	folio = guestmem_peek_folio(golden, 0, false);
	KUNIT_EXPECT_PTR_EQ(test, gmem_kunit_folio(golden, 0), folio);
	folio_put(folio);
	folio = guestmem_peek_folio(clone, 0, true);
	KUNIT_EXPECT_PTR_EQ(test, gmem_kunit_folio(clone, 0), folio);
	folio_put(folio);
	KUNIT_EXPECT_NULL(test, guestmem_peek_folio(clone, 1, true));
	folio = guestmem_peek_folio(clone, 1, false);
	KUNIT_EXPECT_PTR_EQ(test, gmem_kunit_folio(golden, 1), folio);
	folio_put(folio);
	KUNIT_EXPECT_NULL(test, guestmem_peek_folio(clone, 2, false));
	rcu_read_unlock();
}

/* A golden page breaks: the guests in all clones lose it. */
static void golden_breaks(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPP", "123");
	struct inode *clone = golden_clone(test, golden);
	struct inode *written = golden_clone(test, golden);
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, clone);
	struct folio *folio = gmem_kunit_folio(golden, 1);

	gmem_kunit_fill(test, written, 1, 0x11);
	gmem_kunit_poison(test, golden, 1);
	folio_lock(folio);
	golden->i_mapping->a_ops->error_remove_folio(golden->i_mapping, folio);
	folio_unlock(folio);

	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	KUNIT_EXPECT_EQ(test, 1, kv->start);
	KUNIT_EXPECT_EQ(test, 2, kv->end);
	/* It can be neither copied nor read; what was copied before is well. */
	KUNIT_EXPECT_EQ(test, -EHWPOISON, golden_write_error(clone, 1));
	KUNIT_EXPECT_EQ(test, 0, clone->i_mapping->nrpages);
	golden_expect(test, written, 1, 0x11, true);
	golden_expect(test, clone, 0, 1, false);
	gmem_kunit_unpoison(test, golden, 1);
}

/* The golden memory lives as long as any clone, and no longer. */
static void golden_lifetime(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPP", "123");
	struct inode *one = guestmem_clone(golden, GMEM_KUNIT_NAME);
	struct inode *two = guestmem_clone(golden, GMEM_KUNIT_NAME);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, one);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, two);
	gmem_kunit_fill(test, one, 0, 0x11);
	gmem_kunit_iput(test, golden);
	golden_expect(test, two, 2, 3, false);

	gmem_kunit_log.nr = 0;
	iput(one);
	/* Its one folio. */
	KUNIT_EXPECT_EQ(test, 1, gmem_kunit_log.nr);
	golden_expect(test, two, 0, 1, false);
	iput(two);
	KUNIT_EXPECT_EQ(test, 4, gmem_kunit_log.nr);
}

/* The map of what is private is one tree copied, whatever the size. */
static void golden_map(struct kunit *test)
{
	enum { PAGES = 4096 };
	unsigned long *private = kunit_kcalloc(test, BITS_TO_LONGS(PAGES),
					       sizeof(long), GFP_KERNEL);
	struct inode *golden = gmem_kunit_create(test, PAGES, GUESTMEM_CONVERTIBLE);
	struct inode *clone;
	const char *wrong;
	pgoff_t i;

	KUNIT_ASSERT_NOT_NULL(test, private);
	for (i = 0; i < PAGES; i++) {
		if (i % 3)
			__set_bit(i, private);
		else
			KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(golden, i, i + 1,
								    GUESTMEM_SHARED));
	}
	KUNIT_ASSERT_EQ(test, 0, golden_freeze(golden));
	clone = golden_clone(test, golden);
	wrong = gmem_kunit_compare(clone, private, PAGES);
	KUNIT_EXPECT_NULL_MSG(test, wrong, "clone: %s", wrong);

	/* Two trees: neither sees what is done to the other. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(clone, 0, PAGES, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, 1, gmem_kunit_entries(clone));
	wrong = gmem_kunit_compare(golden, private, PAGES);
	KUNIT_EXPECT_NULL_MSG(test, wrong, "golden: %s", wrong);
}

static unsigned int golden_hidden_entries(struct inode *inode)
{
	MA_STATE(mas, &GMEM_I(inode)->hidden, 0, 0);
	unsigned int nr = 0;

	rcu_read_lock();
	while (mas_find(&mas, ULONG_MAX))
		nr++;
	rcu_read_unlock();

	return nr;
}

/* Holes side by side are one entry. */
static void golden_merges(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PPPPPPPP", "12345678");
	struct inode *clone = golden_clone(test, golden);
	static const struct {
		pgoff_t start, end;
		unsigned int entries;
	} steps[] = {
		{ 0, 1, 1 }, { 2, 3, 2 }, { 7, 8, 3 }, { 1, 2, 2 }, { 4, 6, 3 },
		{ 3, 4, 2 }, { 5, 8, 1 }, { 0, 8, 1 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(clone, steps[i].start,
							  steps[i].end));
		KUNIT_EXPECT_EQ_MSG(test, steps[i].entries, golden_hidden_entries(clone),
				    "step %d", i);
	}
}

/* Each allocation of a clone, of a copy and of a hole fails once. */
static void golden_fails(struct kunit *test)
{
	struct inode *golden = golden_create(test, "PSPS", "1234");
	unsigned int how, n, failures[3] = {};
	struct gmem_kunit_view *kv;
	struct inode *clone;
	bool failed;
	int r;

	gmem_kunit_fault_setup(test);
	for (how = 0; how < GMEM_KUNIT_FAULTS; how++) {
		for (n = 1 - how, failed = true; failed; n++) {
			gmem_kunit_fault_arm(how, n);
			clone = guestmem_clone(golden, GMEM_KUNIT_NAME);
			failed = gmem_kunit_fault_disarm();
			if (!IS_ERR(clone)) {
				gmem_kunit_expect_states(test, clone, "PSPS");
				iput(clone);
				continue;
			}
			KUNIT_EXPECT_EQ(test, -ENOMEM, PTR_ERR(clone));
			KUNIT_EXPECT_EQ(test, how, list_count_nodes(&GMEM_I(golden)->clones));
			failures[0]++;
		}

		clone = golden_clone(test, golden);
		kv = gmem_kunit_attach(test, clone);
		for (n = 1 - how, failed = true; failed; n++) {
			gmem_kunit_fault_arm(how, n);
			r = golden_write_error(clone, 0);
			failed = gmem_kunit_fault_disarm();
			if (!r)
				continue;
			KUNIT_EXPECT_EQ(test, -ENOMEM, r);
			KUNIT_EXPECT_EQ(test, 0, clone->i_mapping->nrpages);
			KUNIT_EXPECT_EQ(test, 0, kv->begins);
			golden_expect(test, clone, 0, 1, false);
			failures[1]++;
		}
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(clone, 0, 1));

		for (n = 1 - how, failed = true; failed; n++) {
			gmem_kunit_fault_arm(how, n);
			r = gmem_kunit_punch(clone, 0, 3);
			failed = gmem_kunit_fault_disarm();
			if (!r)
				continue;
			KUNIT_EXPECT_EQ(test, -ENOMEM, r);
			KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(clone, 0, 1));
			golden_expect(test, clone, 1, 2, false);
			KUNIT_EXPECT_EQ(test, 0, golden_hidden_entries(clone));
			failures[2]++;
		}
		golden_expect(test, clone, 0, 0, true);
		golden_expect(test, clone, 3, 4, false);
	}

	/* As in folio_allocate_fails(), not each for certain. */
	KUNIT_EXPECT_GE(test, failures[0], 1);
	KUNIT_EXPECT_GE(test, failures[1], 1);
	KUNIT_EXPECT_GE(test, failures[2], 1);
}

#define GOLDEN_PAGES	48
#define GOLDEN_CLONES	3

/* Golden memory and clones, beside an array of bytes and a bitmap for each. */
struct golden_model {
	struct rnd_state rnd;
	struct inode *inode[GOLDEN_CLONES + 1];
	u8 byte[GOLDEN_CLONES + 1][GOLDEN_PAGES];
	unsigned long private[GOLDEN_CLONES + 1][BITS_TO_LONGS(GOLDEN_PAGES)];
};

static void golden_model_clone(struct kunit *test, struct golden_model *m, int i)
{
	struct inode *old = m->inode[i];

	m->inode[i] = guestmem_clone(m->inode[0], GMEM_KUNIT_NAME);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, m->inode[i]);
	memcpy(m->byte[i], m->byte[0], sizeof(m->byte[i]));
	memcpy(m->private[i], m->private[0], sizeof(m->private[i]));
	if (old)
		iput(old);
}

/* One operation on one of the inodes, golden or clone. */
static void golden_model_step(struct kunit *test, struct golden_model *m)
{
	int who = gmem_kunit_random(&m->rnd, 0, GOLDEN_CLONES + 1);
	pgoff_t start = gmem_kunit_random(&m->rnd, 0, GOLDEN_PAGES);
	pgoff_t end = start + gmem_kunit_random(&m->rnd, 1, GOLDEN_PAGES - start + 1);
	u8 byte = gmem_kunit_random(&m->rnd, 1, 256);
	struct inode *inode = m->inode[who];
	bool private = byte & 1, writable;
	int refused = who ? 0 : -EPERM;

	switch (gmem_kunit_random(&m->rnd, 0, 16)) {
	case 0 ... 5:
		KUNIT_EXPECT_EQ(test, m->byte[who][start],
				golden_read(test, inode, start, &writable));
		break;
	case 6 ... 11:
		if (who) {
			gmem_kunit_fill(test, inode, start, byte);
			m->byte[who][start] = byte;
		} else {
			KUNIT_EXPECT_EQ(test, -EPERM, golden_write_error(inode, start));
		}
		break;
	case 12:
		KUNIT_EXPECT_EQ(test, refused, gmem_kunit_punch(inode, start, end));
		if (who)
			memset(&m->byte[who][start], 0, end - start);
		break;
	case 13:
		KUNIT_EXPECT_EQ(test, refused, golden_zero(inode, start, end));
		if (who)
			memset(&m->byte[who][start], 0, end - start);
		break;
	default:
		KUNIT_EXPECT_EQ(test, refused,
				gmem_kunit_convert(inode, start, end,
						   private ? GUESTMEM_PRIVATE : GUESTMEM_SHARED));
		if (who && private)
			bitmap_set(m->private[who], start, end - start);
		else if (who)
			bitmap_clear(m->private[who], start, end - start);
	}

	/* Now and then a clone is thrown away and made anew. */
	if (who && !gmem_kunit_random(&m->rnd, 0, 256))
		golden_model_clone(test, m, who);
}

static void golden_model_check(struct kunit *test, struct golden_model *m)
{
	const char *wrong;
	bool writable;
	pgoff_t i;
	int who;

	for (who = 0; who <= GOLDEN_CLONES; who++) {
		wrong = gmem_kunit_compare(m->inode[who], m->private[who], GOLDEN_PAGES);
		KUNIT_ASSERT_NULL_MSG(test, wrong, "%d: %s", who, wrong);
		for (i = 0; i < GOLDEN_PAGES; i++)
			KUNIT_ASSERT_EQ(test, m->byte[who][i],
					golden_read(test, m->inode[who], i, &writable));
	}
}

static void golden_random(struct kunit *test)
{
	struct golden_model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	unsigned int n;
	pgoff_t i;

	KUNIT_ASSERT_NOT_NULL(test, m);
	prandom_seed_state(&m->rnd, GOLDEN_SEED);
	m->inode[0] = gmem_kunit_create(test, GOLDEN_PAGES, GUESTMEM_CONVERTIBLE);
	for (i = 0; i < GOLDEN_PAGES; i++) {
		if (gmem_kunit_random(&m->rnd, 0, 4)) {
			m->byte[0][i] = gmem_kunit_random(&m->rnd, 1, 256);
			gmem_kunit_fill(test, m->inode[0], i, m->byte[0][i]);
		}
		if (gmem_kunit_random(&m->rnd, 0, 2))
			__set_bit(i, m->private[0]);
		else
			KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(m->inode[0], i, i + 1,
								    GUESTMEM_SHARED));
	}
	KUNIT_ASSERT_EQ(test, 0, golden_freeze(m->inode[0]));
	for (i = 1; i <= GOLDEN_CLONES; i++)
		golden_model_clone(test, m, i);

	for (n = 0; n < gmem_kunit_rounds; n++) {
		golden_model_step(test, m);
		if (n % 1024 == 0) {
			golden_model_check(test, m);
			cond_resched();
		}
	}
	golden_model_check(test, m);

	for (i = 1; i <= GOLDEN_CLONES; i++)
		iput(m->inode[i]);
}

static struct kunit_case golden_cases[] = {
	KUNIT_CASE(golden_frozen),
	KUNIT_CASE(golden_holes),
	KUNIT_CASE(golden_host),
	KUNIT_CASE(golden_busy),
	KUNIT_CASE(golden_not_frozen),
	KUNIT_CASE(golden_poisoned),
	KUNIT_CASE(golden_reads),
	KUNIT_CASE(golden_copies),
	KUNIT_CASE(golden_expels),
	KUNIT_CASE(golden_clone_host),
	KUNIT_CASE(golden_converts),
	KUNIT_CASE(golden_hides),
	KUNIT_CASE(golden_allocates),
	KUNIT_CASE(golden_peek),
	KUNIT_CASE(golden_breaks),
	KUNIT_CASE(golden_lifetime),
	KUNIT_CASE(golden_map),
	KUNIT_CASE(golden_merges),
	KUNIT_CASE(golden_fails),
	KUNIT_CASE_SLOW(golden_random),
	{}
};

static struct kunit_suite golden_suite = {
	.name		= "guestmem_golden",
	.init		= gmem_kunit_init,
	.test_cases	= golden_cases,
};

kunit_test_suite(golden_suite);
