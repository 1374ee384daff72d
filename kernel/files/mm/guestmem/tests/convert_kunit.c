// SPDX-License-Identifier: GPL-2.0-only
/*
 * Conversion.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/falloc.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "kunit_view.h"

#define NOWHERE		((pgoff_t)-1)

struct convert_snaps {
	struct gmem_kunit_snap before;
	struct gmem_kunit_snap after;
};

static struct convert_snaps *convert_snaps(struct kunit *test)
{
	struct convert_snaps *snaps = kunit_kzalloc(test, sizeof(*snaps), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, snaps);
	return snaps;
}

#define convert_expect_unchanged(test, inode, snaps)	\
	convert_expect_unchanged_at(test, inode, snaps, __LINE__)

static void convert_expect_unchanged_at(struct kunit *test, struct inode *inode,
					struct convert_snaps *snaps, int line)
{
	gmem_kunit_snap(inode, gmem_nr_pages(inode), &snaps->after);
	KUNIT_EXPECT_MEMEQ_MSG(test, &snaps->before, &snaps->after,
			       sizeof(snaps->before), "asked on line %d", line);
}

/* What is in the wanted state already is left alone, whoever holds it. */
static void convert_nothing(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPSSS");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);
	pgoff_t i;

	for (i = 0; i < 6; i++) {
		gmem_kunit_fill(test, inode, i, i + 1);
		folio_get(gmem_kunit_folio(inode, i));
	}

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 3, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 1, 2, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 3, 6, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_log.nr);
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
	gmem_kunit_expect_states(test, inode, "PPPSSS");

	for (i = 0; i < 6; i++) {
		folio_put(gmem_kunit_folio(inode, i));
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i + 1));
	}
}

/* Of a request for all of it only what differs is touched. */
static void convert_difference(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSPPSSP");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);
	pgoff_t i;

	for (i = 0; i < 8; i++)
		gmem_kunit_fill(test, inode, i, i + 1);
	/* That the private ones are in use is no concern of anybody. */
	folio_get(gmem_kunit_folio(inode, 0));
	folio_get(gmem_kunit_folio(inode, 3));
	folio_get(gmem_kunit_folio(inode, 7));

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 8, GUESTMEM_PRIVATE));
	gmem_kunit_expect_states(test, inode, "PPPPPPPP");

	/*
	 * From the first page that differs to the last, and of those only what
	 * was shared.
	 */
	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	KUNIT_EXPECT_EQ(test, 2, kv->start);
	KUNIT_EXPECT_EQ(test, 7, kv->end);
	KUNIT_EXPECT_EQ(test, GUESTMEM_SHARED, kv->states);
	KUNIT_EXPECT_EQ(test, GUESTMEM_SHARED, kv->at_begin);
	KUNIT_EXPECT_EQ(test, GUESTMEM_PRIVATE, kv->at_end);
	KUNIT_EXPECT_STREQ(test, "BE", gmem_kunit_log.what);

	folio_put(gmem_kunit_folio(inode, 0));
	folio_put(gmem_kunit_folio(inode, 3));
	folio_put(gmem_kunit_folio(inode, 7));
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i + 1));
}

/* The other direction; holes have no folio. */
static void convert_to_shared(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SPPPSPPP");
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);

	gmem_kunit_fill(test, inode, 0, 0x10);
	gmem_kunit_fill(test, inode, 2, 0x12);
	gmem_kunit_fill(test, inode, 4, 0x14);
	gmem_kunit_fill(test, inode, 7, 0x17);
	/* A private page can be given away while it is in use. */
	folio_get(gmem_kunit_folio(inode, 2));

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 7, GUESTMEM_SHARED));
	gmem_kunit_expect_states(test, inode, "SSSSSSSP");
	KUNIT_EXPECT_EQ(test, 1, kv->begins);
	KUNIT_EXPECT_EQ(test, 1, kv->start);
	KUNIT_EXPECT_EQ(test, 7, kv->end);
	KUNIT_EXPECT_EQ(test, GUESTMEM_PRIVATE, kv->states);
	KUNIT_EXPECT_EQ(test, GUESTMEM_PRIVATE, kv->at_begin);
	KUNIT_EXPECT_EQ(test, GUESTMEM_SHARED, kv->at_end);
	KUNIT_EXPECT_STREQ(test, "BE", gmem_kunit_log.what);

	folio_put(gmem_kunit_folio(inode, 2));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0x10));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 2, 0x12));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 4, 0x14));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 7, 0x17));
}

/* Memory that has just been touched sits in a per-CPU batch, and converts. */
static void convert_fresh(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 64, GUESTMEM_CONVERTIBLE |
						GUESTMEM_INIT_SHARED);
	bool batched = false;
	pgoff_t i;

	for (i = 0; i < 64; i++) {
		gmem_kunit_fill(test, inode, i, i);
		batched |= folio_ref_count(gmem_kunit_folio(inode, i)) > 1;
	}
	/* Or else this proves nothing. */
	KUNIT_EXPECT_TRUE(test, batched);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 64, GUESTMEM_PRIVATE));
	for (i = 0; i < 64; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i));
}

struct convert_toucher {
	struct kunit *test;
	struct inode *inode;
	int cpu;
	struct completion done;
};

static int convert_toucher_fn(void *data)
{
	struct convert_toucher *t = data;
	pgoff_t i;

	set_cpus_allowed_ptr(current, cpumask_of(t->cpu));
	for (i = 0; i < gmem_nr_pages(t->inode); i++)
		gmem_kunit_fill(t->test, t->inode, i, i);
	complete(&t->done);

	return 0;
}

/* Nor is it in the way in another CPU's batch. */
static void convert_fresh_elsewhere(struct kunit *test)
{
	struct convert_toucher t = {
		.test = test,
		.inode = gmem_kunit_create_states(test, "SSSSS"),
		.cpu = cpumask_last(cpu_online_mask),
		.done = COMPLETION_INITIALIZER_ONSTACK(t.done),
	};
	struct task_struct *task;
	unsigned long left;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two processors");

	set_cpus_allowed_ptr(current, cpumask_of(cpumask_first(cpu_online_mask)));
	task = gmem_kunit_run(test, convert_toucher_fn, &t);
	left = wait_for_completion_timeout(&t.done, 10 * HZ);
	gmem_kunit_stop(test, task);
	KUNIT_ASSERT_GT(test, left, 0);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(t.inode, 0, 5, GUESTMEM_PRIVATE));
	set_cpus_allowed_ptr(current, cpu_online_mask);
}

/* One page in use stops all of it, and is told. */
static void convert_busy(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSPPSSSS");
	struct convert_snaps *snaps = convert_snaps(test);
	static const pgoff_t held[] = { 0, 1, 4, 6, 7 };
	struct gmem_kunit_view *kv;
	struct folio *folio;
	pgoff_t i, error;
	int n;

	for (i = 0; i < 8; i++)
		gmem_kunit_fill(test, inode, i, i + 1);
	gmem_kunit_settle(test, inode);
	kv = gmem_kunit_attach(test, inode);
	gmem_kunit_log.nr = 0;

	for (n = 0; n < ARRAY_SIZE(held); n++) {
		folio = gmem_kunit_folio(inode, held[n]);
		folio_get(folio);
		gmem_kunit_snap(inode, 8, &snaps->before);

		error = NOWHERE;
		KUNIT_EXPECT_EQ(test, -EAGAIN,
				guestmem_convert(inode, 0, 8, GUESTMEM_PRIVATE,
						 GUESTMEM_PRESERVE, &error));
		KUNIT_EXPECT_EQ(test, held[n], error);
		convert_expect_unchanged(test, inode, snaps);
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_log.nr);

		/* A request that leaves it out has no trouble. */
		if (held[n] == 0) {
			KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 1, 8,
								    GUESTMEM_PRIVATE));
			gmem_kunit_expect_states(test, inode, "SPPPPPPP");
			KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 1, 2, GUESTMEM_SHARED));
			KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 4, 8, GUESTMEM_SHARED));
			gmem_kunit_log.nr = 0;
		}
		folio_put(folio);
	}

	/* Of several, the first. */
	folio_get(gmem_kunit_folio(inode, 5));
	folio_get(gmem_kunit_folio(inode, 7));
	folio_get(gmem_kunit_folio(inode, 2));	/* private */
	error = NOWHERE;
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			guestmem_convert(inode, 1, 8, GUESTMEM_PRIVATE,
					 GUESTMEM_PRESERVE, &error));
	KUNIT_EXPECT_EQ(test, 5, error);
	folio_put(gmem_kunit_folio(inode, 5));
	error = NOWHERE;
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			guestmem_convert(inode, 1, 8, GUESTMEM_PRIVATE,
					 GUESTMEM_PRESERVE, &error));
	KUNIT_EXPECT_EQ(test, 7, error);
	folio_put(gmem_kunit_folio(inode, 7));

	/* Let go, all converts, and nothing was lost. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 8, GUESTMEM_PRIVATE));
	folio_put(gmem_kunit_folio(inode, 2));
	gmem_kunit_expect_states(test, inode, "PPPPPPPP");
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i + 1));
	gmem_kunit_detach(test, kv);
}

/* What was allocated for a conversion that is refused is given back. */
static void convert_busy_no_leak(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSS");
	unsigned long before, after;
	struct folio *folio;
	int i;

	if (IS_ENABLED(CONFIG_KASAN_GENERIC))
		kunit_skip(test, "what was freed stays in KASAN's quarantine");

	gmem_kunit_fill(test, inode, 1, 0x11);
	folio = gmem_kunit_folio(inode, 1);
	folio_get(folio);

	before = global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B);
	for (i = 0; i < 4000; i++)
		KUNIT_ASSERT_EQ(test, -EAGAIN, gmem_kunit_convert(inode, 1, 2,
								  GUESTMEM_PRIVATE));
	after = global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B);
	folio_put(folio);

	/* A node each would be 250 pages. */
	KUNIT_EXPECT_LT(test, after, before + 125);
}

/* Zero what changes; what was shared already is the host's to keep. */
static void convert_zero(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SPPSPPPS");
	struct folio *folio;
	pgoff_t i, error;

	for (i = 0; i < 8; i++)
		if (i != 4)
			gmem_kunit_fill(test, inode, i, i + 1);
	gmem_kunit_settle(test, inode);
	folio = gmem_kunit_folio(inode, 2);

	KUNIT_EXPECT_EQ(test, 0, guestmem_convert(inode, 0, 6, GUESTMEM_SHARED,
						  GUESTMEM_ZERO, &error));
	gmem_kunit_expect_states(test, inode, "SSSSSSPS");
	KUNIT_EXPECT_EQ(test, 7, inode->i_mapping->nrpages);
	KUNIT_EXPECT_NULL(test, gmem_kunit_folio(inode, 4));
	/* What was zeroed is as good as new: zeroed by who comes first. */
	KUNIT_EXPECT_FALSE(test, folio_test_uptodate(gmem_kunit_folio(inode, 2)));
	KUNIT_EXPECT_EQ(test, 0, guestmem_fallocate(inode, FALLOC_FL_KEEP_SIZE, 0, 8 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 1));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 1, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 2, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 3, 4));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 4, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 5, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 6, 7));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 7, 8));
	/* In place. */
	KUNIT_EXPECT_PTR_EQ(test, folio, gmem_kunit_folio(inode, 2));
}

/* Who holds a page may write to it, and what is written then stays. */
static void convert_zero_held(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PP");
	struct folio *folio;
	pgoff_t error;

	gmem_kunit_fill(test, inode, 0, 1);
	gmem_kunit_fill(test, inode, 1, 1);
	gmem_kunit_settle(test, inode);
	folio = gmem_kunit_folio(inode, 0);
	folio_get(folio);
	KUNIT_EXPECT_EQ(test, 0, guestmem_convert(inode, 0, 2, GUESTMEM_SHARED,
						  GUESTMEM_ZERO, &error));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0));
	KUNIT_EXPECT_FALSE(test, folio_test_uptodate(gmem_kunit_folio(inode, 1)));
	memset(folio_address(folio), 0x77, PAGE_SIZE);
	folio_put(folio);

	/* Nobody who looks without the lock gets old contents. */
	rcu_read_lock();
	KUNIT_EXPECT_NULL(test, guestmem_peek_folio(inode, 1, false));
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, 0, guestmem_fallocate(inode, FALLOC_FL_KEEP_SIZE, 0, 2 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0x77));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 1, 0));
}

/* A folio that nobody has initialised is not zeroed later, over its contents. */
static void convert_uninitialised(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PP");
	struct folio *folio;
	pgoff_t error;
	int i;

	for (i = 0; i < 2; i++) {
		filemap_invalidate_lock_shared(inode->i_mapping);
		folio = guestmem_get_folio(inode, i, true, NULL);
		filemap_invalidate_unlock_shared(inode->i_mapping);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
		memset(folio_address(folio), 0xa5, PAGE_SIZE);
		folio_unlock(folio);
		folio_put(folio);
	}

	/* Kept as it is, to be initialised by its first user. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 1, GUESTMEM_SHARED));
	KUNIT_EXPECT_FALSE(test, folio_test_uptodate(gmem_kunit_folio(inode, 0)));
	/* Zeroed, which is as good. */
	KUNIT_EXPECT_EQ(test, 0, guestmem_convert(inode, 1, 2, GUESTMEM_SHARED,
						  GUESTMEM_ZERO, &error));
	KUNIT_EXPECT_EQ(test, 0, guestmem_fallocate(inode, FALLOC_FL_KEEP_SIZE, 0, 2 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 1, 0));
}

static void convert_poisoned(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSSPPPP");
	struct convert_snaps *snaps = convert_snaps(test);
	struct gmem_kunit_view *kv;
	pgoff_t i, error;

	for (i = 0; i < 8; i++)
		gmem_kunit_fill(test, inode, i, i + 1);
	gmem_kunit_settle(test, inode);
	kv = gmem_kunit_attach(test, inode);
	gmem_kunit_poison(test, inode, 2);
	gmem_kunit_poison(test, inode, 5);
	gmem_kunit_snap(inode, 8, &snaps->before);

	error = NOWHERE;
	KUNIT_EXPECT_EQ(test, -EHWPOISON,
			guestmem_convert(inode, 0, 8, GUESTMEM_PRIVATE,
					 GUESTMEM_PRESERVE, &error));
	KUNIT_EXPECT_EQ(test, 2, error);
	convert_expect_unchanged(test, inode, snaps);

	/* Nothing is to be written there, so nothing is refused. */
	error = NOWHERE;
	KUNIT_EXPECT_EQ(test, -EHWPOISON,
			guestmem_convert(inode, 0, 8, GUESTMEM_SHARED,
					 GUESTMEM_ZERO, &error));
	KUNIT_EXPECT_EQ(test, 5, error);
	convert_expect_unchanged(test, inode, snaps);
	KUNIT_EXPECT_EQ(test, 0, kv->begins);
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i + 1));

	KUNIT_EXPECT_EQ(test, 0, guestmem_convert(inode, 0, 8, GUESTMEM_SHARED,
						  GUESTMEM_PRESERVE, &error));
	gmem_kunit_expect_states(test, inode, "SSSSSSSS");
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 3, 5, GUESTMEM_PRIVATE));
	gmem_kunit_expect_states(test, inode, "SSSPPSSS");

	gmem_kunit_unpoison(test, inode, 5);
	gmem_kunit_unpoison(test, inode, 2);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 8, GUESTMEM_PRIVATE));
}

/* What was punched out is a hole, in whatever state it was. */
static void convert_holes(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSS");

	gmem_kunit_fill(test, inode, 1, 0x11);
	gmem_kunit_fill(test, inode, 2, 0x22);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 1, 2));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 4, GUESTMEM_PRIVATE));
	gmem_kunit_expect_states(test, inode, "PPPP");
	KUNIT_EXPECT_EQ(test, 1, inode->i_mapping->nrpages);
}

/* A hypervisor whose hardware needs no telling has no hook. */
static void convert_without_hook(struct kunit *test)
{
	struct guestmem_ops *ops = kunit_kzalloc(test, sizeof(*ops), GFP_KERNEL);
	struct inode *inode;

	KUNIT_ASSERT_NOT_NULL(test, ops);
	*ops = gmem_kunit_ops;
	ops->reclaim = NULL;
	inode = guestmem_create(ops, GMEM_KUNIT_NAME, 4 * PAGE_SIZE, GUESTMEM_CONVERTIBLE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, inode);
	gmem_kunit_fill(test, inode, 0, 0x11);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 2, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 4, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0x11));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 0, 4));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_log.nr);
	iput(inode);
}

/*
 * Every allocation fails once, then all that are left do: each time nothing has
 * changed, and nothing is lost.  In state @to already is what @changed leaves of
 * the range.
 */
static void convert_fails(struct kunit *test, struct inode *inode, pgoff_t start,
			  pgoff_t changed, pgoff_t end, enum guestmem_state to)
{
	enum guestmem_state from = GUESTMEM_ANY & ~to;
	struct convert_snaps *snaps = convert_snaps(test);
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);
	unsigned int how, n, failures;
	pgoff_t error;
	bool failed;
	int r;

	for (how = 0; how < GMEM_KUNIT_FAULTS; how++) {
		failures = 0;
		failed = true;
		for (n = 1 - how; failed; n++) {
			gmem_kunit_snap(inode, gmem_nr_pages(inode), &snaps->before);
			kv->begins = 0;
			kv->ends = 0;
			error = NOWHERE;

			gmem_kunit_fault_arm(how, n);
			r = guestmem_convert(inode, start, end, to,
					     GUESTMEM_PRESERVE, &error);
			failed = gmem_kunit_fault_disarm();

			if (!r) {
				/* Go back; not every failure is fatal. */
				KUNIT_EXPECT_EQ(test, 1, kv->begins);
				KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, start,
									    changed, from));
				convert_expect_unchanged(test, inode, snaps);
				continue;
			}
			failures++;
			KUNIT_EXPECT_TRUE(test, failed);
			KUNIT_EXPECT_EQ(test, -ENOMEM, r);
			KUNIT_EXPECT_EQ(test, start, error);
			KUNIT_EXPECT_EQ(test, 0, kv->begins);
			convert_expect_unchanged(test, inode, snaps);
		}
		KUNIT_EXPECT_EQ(test, 0, r);
		KUNIT_EXPECT_GT(test, failures, 0);
	}
	gmem_kunit_detach(test, kv);
}

static void convert_fails_shared(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPPPSPP");
	pgoff_t i;

	gmem_kunit_fault_setup(test);
	for (i = 0; i < 8; i += 2)
		gmem_kunit_fill(test, inode, i, i + 1);
	gmem_kunit_settle(test, inode);
	convert_fails(test, inode, 2, 5, 6, GUESTMEM_SHARED);
	gmem_kunit_expect_states(test, inode, "PPPPPSPP");
	for (i = 0; i < 8; i += 2)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i + 1));
}

static void convert_fails_private(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSSSPSS");
	pgoff_t i;

	gmem_kunit_fault_setup(test);
	for (i = 0; i < 8; i += 2)
		gmem_kunit_fill(test, inode, i, i + 1);
	gmem_kunit_settle(test, inode);
	convert_fails(test, inode, 2, 5, 6, GUESTMEM_PRIVATE);
	gmem_kunit_expect_states(test, inode, "SSSSSPSS");
	for (i = 0; i < 8; i += 2)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, i + 1));
}

/* In a tree of several levels, where nodes are split. */
static void convert_fails_deep(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 4096, GUESTMEM_CONVERTIBLE);
	unsigned int entries;
	pgoff_t i;

	gmem_kunit_fault_setup(test);
	/* Runs of 3 shared and 5 private pages. */
	for (i = 0; i < 4096; i += 8)
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i, i + 3, GUESTMEM_SHARED));
	entries = gmem_kunit_entries(inode);
	KUNIT_ASSERT_EQ(test, 1024, entries);

	/* Break a run in three, at many places of many nodes. */
	for (i = 8; i < 512; i += 8) {
		convert_fails(test, inode, i + 5, i + 6, i + 6, GUESTMEM_SHARED);
		KUNIT_EXPECT_EQ(test, entries, gmem_kunit_entries(inode));
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i + 5, i + 6,
							    GUESTMEM_SHARED));
		entries += 2;
	}
}

struct convert_killed {
	struct inode *inode;
	struct completion go;
	struct completion done;
	pgoff_t error;
	struct guestmem_range range;
	int convert;
	int next_range;
};

static int convert_killed_fn(void *data)
{
	struct convert_killed *k = data;

	allow_signal(SIGKILL);
	complete(&k->go);
	k->error = NOWHERE;
	k->convert = guestmem_convert(k->inode, 1, 4, GUESTMEM_SHARED,
				      GUESTMEM_PRESERVE, &k->error);
	k->next_range = guestmem_next_range(k->inode, 0, 4, false, &k->range);
	complete(&k->done);

	return 0;
}

/* Whoever is killed does not wait for the lock. */
static void convert_interrupted(struct kunit *test)
{
	struct convert_killed k = {
		.inode = gmem_kunit_create_states(test, "PPSS"),
		.go = COMPLETION_INITIALIZER_ONSTACK(k.go),
		.done = COMPLETION_INITIALIZER_ONSTACK(k.done),
	};
	struct task_struct *task;
	unsigned long left;

	filemap_invalidate_lock(k.inode->i_mapping);
	task = gmem_kunit_run(test, convert_killed_fn, &k);
	wait_for_completion(&k.go);
	send_sig(SIGKILL, task, 1);
	left = wait_for_completion_timeout(&k.done, 10 * HZ);
	filemap_invalidate_unlock(k.inode->i_mapping);
	gmem_kunit_stop(test, task);

	KUNIT_EXPECT_GT(test, left, 0);
	KUNIT_EXPECT_EQ(test, -EINTR, k.convert);
	KUNIT_EXPECT_EQ(test, 1, k.error);
	KUNIT_EXPECT_EQ(test, -EINTR, k.next_range);
	gmem_kunit_expect_states(test, k.inode, "PPSS");
}

static struct kunit_case convert_cases[] = {
	KUNIT_CASE(convert_nothing),
	KUNIT_CASE(convert_difference),
	KUNIT_CASE(convert_to_shared),
	KUNIT_CASE(convert_fresh),
	KUNIT_CASE(convert_fresh_elsewhere),
	KUNIT_CASE(convert_busy),
	KUNIT_CASE(convert_busy_no_leak),
	KUNIT_CASE(convert_zero),
	KUNIT_CASE(convert_zero_held),
	KUNIT_CASE(convert_uninitialised),
	KUNIT_CASE(convert_poisoned),
	KUNIT_CASE(convert_holes),
	KUNIT_CASE(convert_without_hook),
	KUNIT_CASE(convert_fails_shared),
	KUNIT_CASE(convert_fails_private),
	KUNIT_CASE(convert_fails_deep),
	KUNIT_CASE(convert_interrupted),
	{}
};

static struct kunit_suite convert_suite = {
	.name		= "guestmem_convert",
	.init		= gmem_kunit_init,
	.test_cases	= convert_cases,
};

kunit_test_suite(convert_suite);
