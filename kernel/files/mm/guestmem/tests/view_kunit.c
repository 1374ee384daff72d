// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several views of one memory.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/rwsem.h>

#include "kunit_view.h"

#define view_expect(test, kv, nr, start, end, states)	\
	view_expect_at(test, kv, nr, start, end, states, __LINE__)

/* The view has been told @nr times, and of this the last time. */
static void view_expect_at(struct kunit *test, struct gmem_kunit_view *kv,
			   unsigned int nr, pgoff_t start, pgoff_t end,
			   enum guestmem_state states, int line)
{
	KUNIT_EXPECT_EQ_MSG(test, nr, kv->begins, "asked on line %d", line);
	KUNIT_EXPECT_EQ_MSG(test, nr, kv->ends, "asked on line %d", line);
	KUNIT_EXPECT_EQ_MSG(test, start, kv->start, "asked on line %d", line);
	KUNIT_EXPECT_EQ_MSG(test, end, kv->end, "asked on line %d", line);
	KUNIT_EXPECT_EQ_MSG(test, states, kv->states, "asked on line %d", line);
	KUNIT_EXPECT_EQ_MSG(test, 0, atomic_read(&kv->depth), "asked on line %d", line);
	KUNIT_EXPECT_EQ_MSG(test, 0, atomic_read(&kv->errors), "asked on line %d", line);
}

/* Whatever happens to memory, every view of it hears of. */
static void view_all_are_told(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPPPPPP");
	struct gmem_kunit_view *kv[3];
	int i;

	for (i = 0; i < ARRAY_SIZE(kv); i++)
		kv[i] = gmem_kunit_attach(test, inode);
	for (i = 0; i < ARRAY_SIZE(kv); i++)
		KUNIT_EXPECT_EQ(test, 0, kv[i]->begins);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 2, 5, GUESTMEM_SHARED));
	for (i = 0; i < ARRAY_SIZE(kv); i++)
		view_expect(test, kv[i], 1, 2, 5, GUESTMEM_PRIVATE);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 3, 8, GUESTMEM_PRIVATE));
	for (i = 0; i < ARRAY_SIZE(kv); i++)
		view_expect(test, kv[i], 2, 3, 5, GUESTMEM_SHARED);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 1, 4));
	for (i = 0; i < ARRAY_SIZE(kv); i++)
		view_expect(test, kv[i], 3, 1, 4, GUESTMEM_ANY);
}

/* Every view has begun before any ends: a page is closed for all or for none. */
static void view_begin_before_end(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPP");

	gmem_kunit_attach(test, inode);
	gmem_kunit_attach(test, inode);
	gmem_kunit_log.nr = 0;

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 4, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 4, gmem_kunit_log.nr);
	KUNIT_EXPECT_STREQ(test, "BBEE", gmem_kunit_log.what);
}

/* A view that goes is invalidated; the others, and the memory, stay. */
static void view_detach(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct gmem_kunit_view *kv[3];
	int i;

	for (i = 0; i < ARRAY_SIZE(kv); i++)
		kv[i] = gmem_kunit_attach(test, inode);
	gmem_kunit_fill(test, inode, 0, 0x11);
	gmem_kunit_fill(test, inode, 3, 0x33);

	/* The middle one, then the last, then the first. */
	gmem_kunit_detach(test, kv[1]);
	view_expect(test, kv[1], 1, 0, 4, GUESTMEM_ANY);
	KUNIT_EXPECT_EQ(test, 0, kv[0]->begins);
	KUNIT_EXPECT_EQ(test, 0, kv[2]->begins);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 1, GUESTMEM_SHARED));
	view_expect(test, kv[0], 1, 0, 1, GUESTMEM_PRIVATE);
	view_expect(test, kv[2], 1, 0, 1, GUESTMEM_PRIVATE);
	view_expect(test, kv[1], 1, 0, 4, GUESTMEM_ANY);

	gmem_kunit_detach(test, kv[2]);
	view_expect(test, kv[2], 2, 0, 4, GUESTMEM_ANY);
	KUNIT_EXPECT_EQ(test, 1, kv[0]->begins);

	gmem_kunit_detach(test, kv[0]);
	view_expect(test, kv[0], 2, 0, 4, GUESTMEM_ANY);
	KUNIT_EXPECT_TRUE(test, list_empty(&GMEM_I(inode)->views));

	/* The memory outlives its views. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 3, 4, GUESTMEM_PRIVATE));
	gmem_kunit_expect_states(test, inode, "SPSP");
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0x11));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 3, 0x33));

	/* A view that comes later sees it, and is told nothing of the past. */
	kv[0] = gmem_kunit_attach(test, inode);
	KUNIT_EXPECT_EQ(test, 0, kv[0]->begins);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 0, 1));
	view_expect(test, kv[0], 1, 0, 1, GUESTMEM_ANY);
}

struct view_converter {
	struct inode *inode;
	struct completion begin;
	struct completion done;
	int err;
};

static int view_converter_fn(void *data)
{
	struct view_converter *c = data;

	complete(&c->begin);
	c->err = gmem_kunit_convert(c->inode, 0, 4, GUESTMEM_SHARED);
	complete_all(&c->done);

	return 0;
}

/* Bindings do not change under an invalidation, nor the other way round. */
static void view_lock_bindings(struct kunit *test)
{
	struct view_converter c = {
		.inode = gmem_kunit_create_states(test, "PPPP"),
		.begin = COMPLETION_INITIALIZER_ONSTACK(c.begin),
		.done = COMPLETION_INITIALIZER_ONSTACK(c.done),
	};
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, c.inode);
	struct gmem_inode *gi = GMEM_I(c.inode);
	struct task_struct *task;

	guestmem_lock_bindings(c.inode);
	/* Both: with the folio lock nobody may wait for the outer one. */
	KUNIT_EXPECT_TRUE(test, rwsem_is_locked(&gi->views_lock));
	KUNIT_EXPECT_TRUE(test, rwsem_is_locked(&c.inode->i_mapping->invalidate_lock));

	task = gmem_kunit_run(test, view_converter_fn, &c);
	wait_for_completion(&c.begin);
	KUNIT_EXPECT_EQ(test, 0, wait_for_completion_timeout(&c.done,
							     msecs_to_jiffies(20)));
	KUNIT_EXPECT_EQ(test, 0, READ_ONCE(kv->begins));
	guestmem_unlock_bindings(c.inode);
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&gi->views_lock));

	wait_for_completion(&c.done);
	gmem_kunit_stop(test, task);
	KUNIT_EXPECT_EQ(test, 0, c.err);
	view_expect(test, kv, 1, 0, 4, GUESTMEM_PRIVATE);
}

/*
 * Memory failure comes with the folio lock, inside of which invalidate_lock may
 * not be taken: it has to do without, also while somebody else has it.
 */
static void view_error_folio(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct address_space *mapping = inode->i_mapping;
	struct gmem_kunit_view *kv[2];
	struct folio *folio;
	int i, r;

	for (i = 0; i < ARRAY_SIZE(kv); i++)
		kv[i] = gmem_kunit_attach(test, inode);
	gmem_kunit_fill(test, inode, 1, 0x11);
	folio = gmem_kunit_folio(inode, 1);

	filemap_invalidate_lock(mapping);
	folio_lock(folio);
	r = mapping->a_ops->error_remove_folio(mapping, folio);
	folio_unlock(folio);
	filemap_invalidate_unlock(mapping);

	/* The folio stays, since what to do is up to userspace. */
	KUNIT_EXPECT_EQ(test, MF_DELAYED, r);
	for (i = 0; i < ARRAY_SIZE(kv); i++)
		view_expect(test, kv[i], 1, 1, 2, GUESTMEM_ANY);
	KUNIT_EXPECT_PTR_EQ(test, folio, gmem_kunit_folio(inode, 1));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 1, 0x11));
	gmem_kunit_expect_states(test, inode, "PPSS");
}

struct view_visitor {
	struct inode *inode;
	struct gmem_kunit_view kv;
	unsigned int visits;
	unsigned int errors;
};

/* Come and go. */
static int view_visitor_fn(void *data)
{
	struct view_visitor *v = data;

	while (!kthread_should_stop()) {
		if (guestmem_attach(v->inode, &v->kv.view)) {
			v->errors++;
			continue;
		}
		gmem_kunit_pause();
		guestmem_lock_bindings(v->inode);
		guestmem_detach(v->inode, &v->kv.view);
		guestmem_unlock_bindings(v->inode);

		if (atomic_read(&v->kv.depth) || atomic_read(&v->kv.errors) ||
		    v->kv.begins != v->kv.ends)
			v->errors++;
		v->visits++;
		cond_resched();
	}

	return 0;
}

struct view_breaker {
	struct inode *inode;
	unsigned int errors;
};

/* Let memory fail again and again. */
static int view_breaker_fn(void *data)
{
	struct view_breaker *b = data;
	struct address_space *mapping = b->inode->i_mapping;
	struct folio *folio;

	while (!kthread_should_stop()) {
		folio = filemap_lock_folio(mapping, 15);
		if (!IS_ERR(folio)) {
			if (mapping->a_ops->error_remove_folio(mapping, folio) != MF_DELAYED)
				b->errors++;
			folio_unlock(folio);
			folio_put(folio);
		}
		gmem_kunit_pause();
	}

	return 0;
}

/*
 * Views come and go while the memory changes: none sees an end without its
 * begin, or is left with a begin that never ends.
 */
static void view_concurrent(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 16, GUESTMEM_CONVERTIBLE);
	struct gmem_kunit_view *kv = gmem_kunit_attach(test, inode);
	struct view_visitor *visitors;
	struct task_struct *task[2];
	enum guestmem_state to;
	unsigned int n, i;

	visitors = kunit_kcalloc(test, ARRAY_SIZE(task), sizeof(*visitors), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, visitors);
	kv->slow = true;
	for (i = 0; i < ARRAY_SIZE(task); i++) {
		visitors[i].inode = inode;
		visitors[i].kv.inode = inode;
		visitors[i].kv.slow = true;
		task[i] = gmem_kunit_run(test, view_visitor_fn, &visitors[i]);
	}

	for (n = 0; n < 200 || (n < 20000 && (!visitors[0].visits || !visitors[1].visits)); n++) {
		to = n % 2 ? GUESTMEM_PRIVATE : GUESTMEM_SHARED;
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, n % 7, 9 + n % 7, to));
		if (n % 5 == 0)
			KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, n % 16, 16));
		cond_resched();
	}

	for (i = 0; i < ARRAY_SIZE(task); i++) {
		gmem_kunit_stop(test, task[i]);
		KUNIT_EXPECT_GT(test, visitors[i].visits, 0);
		KUNIT_EXPECT_EQ(test, 0, visitors[i].errors);
	}
	gmem_kunit_detach(test, kv);
}

/* The same while memory fails, which does not wait for invalidate_lock. */
static void view_concurrent_error(struct kunit *test)
{
	struct view_breaker b = {
		.inode = gmem_kunit_create(test, 16, GUESTMEM_CONVERTIBLE),
	};
	struct view_visitor *v = kunit_kzalloc(test, sizeof(*v), GFP_KERNEL);
	struct task_struct *breaker, *visitor;
	unsigned long deadline;

	KUNIT_ASSERT_NOT_NULL(test, v);
	gmem_kunit_fill(test, b.inode, 15, 0x5a);
	v->inode = b.inode;
	v->kv.inode = b.inode;
	v->kv.slow = true;
	breaker = gmem_kunit_run(test, view_breaker_fn, &b);
	visitor = gmem_kunit_run(test, view_visitor_fn, v);

	deadline = jiffies + 10 * HZ;
	do {
		schedule_timeout_uninterruptible(1);
	} while ((READ_ONCE(v->visits) < 10 || READ_ONCE(v->kv.begins) < v->visits + 10) &&
		 time_before(jiffies, deadline));

	gmem_kunit_stop(test, visitor);
	gmem_kunit_stop(test, breaker);
	KUNIT_EXPECT_GT(test, v->visits, 0);
	/* More than the invalidations of its own detaching. */
	KUNIT_EXPECT_GT(test, v->kv.begins, v->visits);
	KUNIT_EXPECT_EQ(test, 0, v->errors);
	KUNIT_EXPECT_EQ(test, 0, b.errors);
}

static struct kunit_case view_cases[] = {
	KUNIT_CASE(view_all_are_told),
	KUNIT_CASE(view_begin_before_end),
	KUNIT_CASE(view_detach),
	KUNIT_CASE(view_lock_bindings),
	KUNIT_CASE(view_error_folio),
	KUNIT_CASE(view_concurrent),
	KUNIT_CASE(view_concurrent_error),
	{}
};

static struct kunit_suite view_suite = {
	.name		= "guestmem_view",
	.init		= gmem_kunit_init,
	.test_cases	= view_cases,
};

kunit_test_suite(view_suite);
