// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios: allocation, contents, holes.
 */

#include <kunit/test.h>
#include <linux/falloc.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "kunit_view.h"

static long folio_fallocate(struct inode *inode, int mode, pgoff_t start,
			    pgoff_t end)
{
	return guestmem_fallocate(inode, mode | FALLOC_FL_KEEP_SIZE,
				  (loff_t)start << PAGE_SHIFT,
				  (loff_t)(end - start) << PAGE_SHIFT);
}

static struct folio *folio_get_locked(struct inode *inode, pgoff_t index)
{
	struct folio *folio;

	filemap_invalidate_lock_shared(inode->i_mapping);
	folio = guestmem_get_folio(inode, index, true, NULL);
	filemap_invalidate_unlock_shared(inode->i_mapping);

	return folio;
}

static void folio_lookup(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 4, GUESTMEM_CONVERTIBLE);
	struct folio *folio, *again;

	folio = folio_get_locked(inode, 3);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(folio));
	KUNIT_EXPECT_FALSE(test, folio_test_uptodate(folio));
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(folio));
	KUNIT_EXPECT_EQ(test, 3, folio->index);
	KUNIT_EXPECT_PTR_EQ(test, inode->i_mapping, folio->mapping);
	KUNIT_EXPECT_EQ(test, 1, inode->i_mapping->nrpages);
	folio_unlock(folio);
	folio_put(folio);

	again = folio_get_locked(inode, 3);
	KUNIT_EXPECT_PTR_EQ(test, folio, again);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(again));
	KUNIT_EXPECT_EQ(test, 1, inode->i_mapping->nrpages);
	folio_unlock(again);
	folio_put(again);
}

/* Zeroed the first time, and never again. */
static void folio_init_once(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 2, GUESTMEM_CONVERTIBLE);
	struct folio *folio;

	gmem_kunit_litter(test);
	folio = folio_get_locked(inode, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	/* Whatever the page allocator left there. */
	memset(folio_address(folio), 0xa5, PAGE_SIZE);
	guestmem_init_folio(folio);
	KUNIT_EXPECT_TRUE(test, folio_test_uptodate(folio));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0));

	memset(folio_address(folio), 0x77, PAGE_SIZE);
	guestmem_init_folio(folio);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0x77));
	folio_unlock(folio);
	folio_put(folio);

	/* Neither does another way in. */
	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, 0, 0, 2));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0x77));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 1, 0));
}

static void folio_allocate(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSSPPSS");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);
	pgoff_t i;

	gmem_kunit_litter(test);
	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, 0, 1, 7));
	KUNIT_EXPECT_EQ(test, 6, inode->i_mapping->nrpages);
	for (i = 1; i < 7; i++) {
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, 0));
		KUNIT_EXPECT_FALSE(test, folio_test_locked(gmem_kunit_folio(inode, i)));
	}
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, 0));
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, 7));

	/* What guests map does not change. */
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
	gmem_kunit_expect_states(test, inode, "PPSSPPSS");
}

/*
 * Memory that does not convert is left to its first user, who may have to put
 * initial contents there.
 */
static void folio_allocate_inconvertible(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 2, 0);
	struct folio *folio;

	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, 0, 0, 2));
	folio = gmem_kunit_folio(inode, 1);
	KUNIT_ASSERT_NOT_NULL(test, folio);
	KUNIT_EXPECT_FALSE(test, folio_test_uptodate(folio));

	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			folio_fallocate(inode, FALLOC_FL_ZERO_RANGE, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 0, 1));
	KUNIT_EXPECT_EQ(test, 1, inode->i_mapping->nrpages);
}

static void folio_allocate_interrupted(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 8, GUESTMEM_CONVERTIBLE);
	long r;

	set_thread_flag(TIF_SIGPENDING);
	r = folio_fallocate(inode, 0, 0, 8);
	clear_thread_flag(TIF_SIGPENDING);

	KUNIT_EXPECT_EQ(test, -EINTR, r);
	KUNIT_EXPECT_EQ(test, 0, inode->i_mapping->nrpages);
	KUNIT_EXPECT_TRUE(test, filemap_invalidate_trylock_shared(inode->i_mapping));
	filemap_invalidate_unlock_shared(inode->i_mapping);
}

static const struct folio_bad {
	int mode;
	loff_t offset;
	loff_t len;
	long err;
} folio_bad[] = {
	{ 0, 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_PUNCH_HOLE, 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_ZERO_RANGE, 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_NO_HIDE_STALE, 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_COLLAPSE_RANGE, 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_INSERT_RANGE, 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_UNSHARE_RANGE, 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_KEEP_SIZE | BIT(30), 0, PAGE_SIZE, -EOPNOTSUPP },
	{ FALLOC_FL_KEEP_SIZE, 1, PAGE_SIZE, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE, 0, PAGE_SIZE - 1, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE, 3 * PAGE_SIZE, 2 * PAGE_SIZE, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE, 4 * PAGE_SIZE, PAGE_SIZE, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 1, PAGE_SIZE, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, PAGE_SIZE + 1, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, 1, PAGE_SIZE, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, 0, 1, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, 0, 5 * PAGE_SIZE, -EINVAL },
	{ FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, 4 * PAGE_SIZE, PAGE_SIZE, -EINVAL },
};

static void folio_bad_fallocate(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct gmem_kunit_snap *before, *after;
	struct gmem_kunit_view *kv;
	int i;

	before = kunit_kzalloc(test, sizeof(*before), GFP_KERNEL);
	after = kunit_kzalloc(test, sizeof(*after), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	KUNIT_ASSERT_NOT_NULL(test, after);
	gmem_kunit_fill(test, inode, 0, 0x11);
	gmem_kunit_settle(test, inode);
	gmem_kunit_snap(inode, 4, before);
	kv = gmem_kunit_attach(test, inode);

	for (i = 0; i < ARRAY_SIZE(folio_bad); i++) {
		KUNIT_EXPECT_EQ_MSG(test, folio_bad[i].err,
				    guestmem_fallocate(inode, folio_bad[i].mode,
						       folio_bad[i].offset,
						       folio_bad[i].len),
				    "case %d", i);
		gmem_kunit_snap(inode, 4, after);
		KUNIT_EXPECT_MEMEQ_MSG(test, before, after, sizeof(*before), "case %d", i);
	}
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0x11));
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
}

static void folio_punch(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSSPPSS");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);
	pgoff_t i;

	for (i = 0; i < 8; i++)
		gmem_kunit_fill(test, inode, i, i + 1);
	gmem_kunit_log.nr = 0;

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 1, 4));
	KUNIT_EXPECT_EQ(test, 5, inode->i_mapping->nrpages);
	for (i = 0; i < 8; i++) {
		if (i >= 1 && i < 4)
			KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, i));
		else
			KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i + 1));
	}

	/* Nobody maps a folio any more by the time it is given back. */
	KUNIT_EXPECT_EQ(test, 5, gmem_kunit_log.nr);
	KUNIT_EXPECT_MEMEQ(test, "BERRR", gmem_kunit_log.what, 5);
	for (i = 1; i < 4; i++)
		KUNIT_EXPECT_EQ(test, i, gmem_kunit_log.index[i + 1]);
	KUNIT_EXPECT_EQ(test, 1, kv->start);
	KUNIT_EXPECT_EQ(test, 4, kv->end);
	KUNIT_EXPECT_EQ(test, GUESTMEM_ANY, kv->states);

	/* The state stays; what comes back is zero. */
	gmem_kunit_expect_states(test, inode, "PPSSPPSS");
	gmem_kunit_litter(test);
	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, 0, 0, 8));
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i,
							 i >= 1 && i < 4 ? 0 : i + 1));
}

/* Holes may reach behind the end; what views hear of does not. */
static void folio_punch_end(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);

	gmem_kunit_fill(test, inode, 3, 0x33);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 4, 9));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 100, 101));
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
	KUNIT_EXPECT_EQ(test, 1, inode->i_mapping->nrpages);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 3, 9));
	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	KUNIT_EXPECT_EQ(test, 3, kv->start);
	KUNIT_EXPECT_EQ(test, 4, kv->end);
	KUNIT_EXPECT_EQ(test, 0, inode->i_mapping->nrpages);
}

static void folio_zero(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSSPPSS");
	struct gmem_kunit_snap *before, *after;
	struct gmem_kunit_view *kv;
	struct folio *folio;
	pgoff_t i;

	before = kunit_kzalloc(test, sizeof(*before), GFP_KERNEL);
	after = kunit_kzalloc(test, sizeof(*after), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	KUNIT_ASSERT_NOT_NULL(test, after);

	/* Holes at 3 and 7, and at 4 a folio nobody has initialised. */
	for (i = 0; i < 7; i++)
		if (i != 3 && i != 4)
			gmem_kunit_fill(test, inode, i, i + 1);
	folio = folio_get_locked(inode, 4);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	memset(folio_address(folio), 0xa5, PAGE_SIZE);
	folio_unlock(folio);
	folio_put(folio);
	gmem_kunit_settle(test, inode);
	gmem_kunit_snap(inode, 8, before);
	kv = gmem_kunit_attach(test, inode);
	gmem_kunit_log.nr = 0;

	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, FALLOC_FL_ZERO_RANGE, 1, 6));

	/* The same folios, and the guest keeps its mappings. */
	gmem_kunit_snap(inode, 8, after);
	KUNIT_EXPECT_MEMEQ(test, before, after, sizeof(*before));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_log.nr);
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
	for (i = 1; i < 6; i++)
		if (i != 3)
			KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 1));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 6, 7));
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, 3));
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, 7));
}

/* More folios than go into one batch. */
static void folio_zero_many(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 100, GUESTMEM_CONVERTIBLE);
	pgoff_t i;

	for (i = 0; i < 100; i++)
		gmem_kunit_fill(test, inode, i, 0xee);
	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, FALLOC_FL_ZERO_RANGE, 10, 90));
	for (i = 0; i < 100; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i,
							 i < 10 || i >= 90 ? 0xee : 0));
}

static void folio_zero_poisoned(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	pgoff_t i;

	for (i = 0; i < 4; i++)
		gmem_kunit_fill(test, inode, i, 0x55);
	gmem_kunit_poison(test, inode, 2);

	KUNIT_EXPECT_EQ(test, -EHWPOISON,
			folio_fallocate(inode, FALLOC_FL_ZERO_RANGE, 0, 4));
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, 0x55));
	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, FALLOC_FL_ZERO_RANGE, 0, 2));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 1, 0));

	/* Allocating what is there already does not touch it. */
	KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, 0, 0, 4));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 2, 0x55));
	gmem_kunit_unpoison(test, inode, 2);
}

/* Each folio goes back through the hypervisor when the memory goes. */
static void folio_reclaim(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");

	gmem_kunit_fill(test, inode, 0, 1);
	gmem_kunit_fill(test, inode, 2, 1);
	gmem_kunit_fill(test, inode, 3, 1);
	gmem_kunit_log.nr = 0;
	memset(gmem_kunit_log.what, 0, sizeof(gmem_kunit_log.what));
	gmem_kunit_iput(test, inode);
	KUNIT_EXPECT_EQ(test, 3, gmem_kunit_log.nr);
	KUNIT_EXPECT_STREQ(test, "RRR", gmem_kunit_log.what);
}

/* Every allocation of fallocate() fails once. */
static void folio_allocate_fails(struct kunit *test)
{
	struct inode *inode;
	unsigned int n, failures = 0;
	bool failed = true;
	pgoff_t i;
	long r;

	gmem_kunit_fault_setup(test);

	for (n = 1; failed; n++) {
		inode = gmem_kunit_create(test, 3, GUESTMEM_CONVERTIBLE);

		gmem_kunit_fault_arm(GMEM_KUNIT_FAIL_ONCE, n);
		r = folio_fallocate(inode, 0, 0, 3);
		failed = gmem_kunit_fault_disarm();

		if (!failed)
			KUNIT_ASSERT_EQ(test, 0, r);
		if (r) {
			KUNIT_EXPECT_EQ(test, -ENOMEM, r);
			failures++;
		}
		/* What was allocated is whole and unlocked, and the rest can follow. */
		for (i = 0; i < inode->i_mapping->nrpages; i++) {
			KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, 0));
			KUNIT_EXPECT_FALSE(test, folio_test_locked(gmem_kunit_folio(inode, i)));
		}
		KUNIT_EXPECT_EQ(test, 0, folio_fallocate(inode, 0, 0, 3));
		/* Nobody has kept a reference, either. */
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 3, GUESTMEM_SHARED));
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 3, GUESTMEM_PRIVATE));
		gmem_kunit_iput(test, inode);
	}
	/* Not each for certain: KASAN allocates now and then, and takes its turn. */
	KUNIT_EXPECT_GE(test, failures, 1);
}

/* A folio that cannot be added to the page cache is given back. */
static void folio_allocate_no_leak(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 2, GUESTMEM_CONVERTIBLE);
	unsigned long before, after;
	bool failed;
	long r;
	int i;

	gmem_kunit_fault_setup(test);

	before = global_zone_page_state(NR_FREE_PAGES);
	for (i = 0; i < 4000; i++) {
		/* There is memory for the folio, and none for the index. */
		gmem_kunit_fault_arm(GMEM_KUNIT_FAIL_FROM, 0);
		r = folio_fallocate(inode, 0, 1, 2);
		failed = gmem_kunit_fault_disarm();
		KUNIT_ASSERT_TRUE(test, failed);
		KUNIT_ASSERT_EQ(test, -ENOMEM, r);
	}
	after = global_zone_page_state(NR_FREE_PAGES);

	KUNIT_EXPECT_EQ(test, 0, inode->i_mapping->nrpages);
	KUNIT_EXPECT_GT(test, after + 2000, before);
}

static struct kunit_case folio_cases[] = {
	KUNIT_CASE(folio_lookup),
	KUNIT_CASE(folio_init_once),
	KUNIT_CASE(folio_allocate),
	KUNIT_CASE(folio_allocate_inconvertible),
	KUNIT_CASE(folio_allocate_interrupted),
	KUNIT_CASE(folio_bad_fallocate),
	KUNIT_CASE(folio_punch),
	KUNIT_CASE(folio_punch_end),
	KUNIT_CASE(folio_zero),
	KUNIT_CASE(folio_zero_many),
	KUNIT_CASE(folio_zero_poisoned),
	KUNIT_CASE(folio_reclaim),
	KUNIT_CASE(folio_allocate_fails),
	KUNIT_CASE(folio_allocate_no_leak),
	{}
};

static struct kunit_suite folio_suite = {
	.name		= "guestmem_folio",
	.init		= gmem_kunit_init,
	.test_cases	= folio_cases,
};

kunit_test_suite(folio_suite);
