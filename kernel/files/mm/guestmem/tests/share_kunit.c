// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shareability tree.
 */

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/kthread.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "kunit_view.h"

#define RANDOM_SEED	0x676d656d
#define RANDOM_PAGES	300

static void share_initial(struct kunit *test)
{
	static const pgoff_t sizes[] = { 1, 2, 513, SZ_1G };
	pgoff_t end, nr;
	int i, shared;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		nr = sizes[i];
		for (shared = 0; shared <= 1; shared++) {
			struct inode *inode;
			enum guestmem_state state;

			state = shared ? GUESTMEM_SHARED : GUESTMEM_PRIVATE;
			inode = gmem_kunit_create(test, nr, GUESTMEM_CONVERTIBLE |
						  (shared ? GUESTMEM_INIT_SHARED : 0));
			KUNIT_EXPECT_TRUE(test, guestmem_convertible(inode));
			KUNIT_EXPECT_EQ(test, 1, gmem_kunit_entries(inode));
			KUNIT_EXPECT_EQ(test, state, guestmem_run(inode, 0, &end));
			KUNIT_EXPECT_EQ(test, nr, end);
			KUNIT_EXPECT_EQ(test, state, guestmem_run(inode, nr - 1, &end));
			KUNIT_EXPECT_EQ(test, nr, end);
			KUNIT_EXPECT_EQ(test, state, guestmem_page_state(inode, nr / 2));
			gmem_kunit_iput(test, inode);
		}
	}

	KUNIT_EXPECT_FALSE(test, guestmem_convertible(gmem_kunit_create(test, 1, 0)));
}

static void share_one_page(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "P");

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 1, GUESTMEM_SHARED));
	gmem_kunit_expect_states(test, inode, "S");
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 1, GUESTMEM_SHARED));
	gmem_kunit_expect_states(test, inode, "S");
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 1, GUESTMEM_PRIVATE));
	gmem_kunit_expect_states(test, inode, "P");
}

static const struct share_step {
	pgoff_t start;
	pgoff_t end;
	enum guestmem_state to;
	const char *states;
} share_steps[] = {
	{ 3, 5, GUESTMEM_SHARED,  "PPPSSPPP" },	/* in the middle */
	{ 2, 3, GUESTMEM_SHARED,  "PPSSSPPP" },	/* before a run */
	{ 5, 6, GUESTMEM_SHARED,  "PPSSSSPP" },	/* behind a run */
	{ 0, 1, GUESTMEM_SHARED,  "SPSSSSPP" },	/* the first page */
	{ 1, 2, GUESTMEM_SHARED,  "SSSSSSPP" },	/* between two runs */
	{ 7, 8, GUESTMEM_SHARED,  "SSSSSSPS" },	/* the last page */
	{ 6, 7, GUESTMEM_SHARED,  "SSSSSSSS" },
	{ 7, 8, GUESTMEM_PRIVATE, "SSSSSSSP" },
	{ 0, 1, GUESTMEM_PRIVATE, "PSSSSSSP" },
	{ 1, 3, GUESTMEM_PRIVATE, "PPPSSSSP" },	/* behind the run at 0 */
	{ 5, 7, GUESTMEM_PRIVATE, "PPPSSPPP" },	/* before the run at the end */
	{ 3, 5, GUESTMEM_PRIVATE, "PPPPPPPP" },
	{ 1, 2, GUESTMEM_SHARED,  "PSPPPPPP" },
	{ 3, 4, GUESTMEM_SHARED,  "PSPSPPPP" },
	{ 5, 6, GUESTMEM_SHARED,  "PSPSPSPP" },
	{ 0, 6, GUESTMEM_SHARED,  "SSSSSSPP" },	/* over runs of both states */
	{ 2, 4, GUESTMEM_PRIVATE, "SSPPSSPP" },
	{ 1, 7, GUESTMEM_PRIVATE, "SPPPPPPP" },	/* begins and ends inside runs */
	{ 0, 8, GUESTMEM_SHARED,  "SSSSSSSS" },
	{ 0, 8, GUESTMEM_PRIVATE, "PPPPPPPP" },
};

static void share_merge(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPPPPPP");
	int i;

	for (i = 0; i < ARRAY_SIZE(share_steps); i++) {
		const struct share_step *step = &share_steps[i];

		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, step->start,
							    step->end, step->to));
		gmem_kunit_expect_states(test, inode, step->states);
	}
}

/*
 * So many runs that nodes of every level are full, and all of them dropped at
 * once: by a store over the whole file, and with the inode.
 */
static void share_deep(struct kunit *test)
{
	pgoff_t nr = 2 * DIV_ROUND_UP(gmem_kunit_rounds, 5), i;
	struct inode *inode = gmem_kunit_create(test, nr, GUESTMEM_CONVERTIBLE);
	int round;

	for (round = 0; round < 2; round++) {
		for (i = 1; i < nr; i += 2)
			KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i, i + 1,
								    GUESTMEM_SHARED));
		KUNIT_EXPECT_EQ(test, nr, gmem_kunit_entries(inode));

		if (round == 0) {
			KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, nr,
								    GUESTMEM_PRIVATE));
			KUNIT_EXPECT_EQ(test, 1, gmem_kunit_entries(inode));
		}
	}

	/* Nodes are freed through RCU: a fault is one there. */
	gmem_kunit_iput(test, inode);
	rcu_barrier();
}

/* The last pages of a huge file. */
static void share_far_end(struct kunit *test)
{
	pgoff_t nr = SZ_1G, end;
	struct inode *inode = gmem_kunit_create(test, nr, GUESTMEM_CONVERTIBLE);

	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, nr - 1, nr, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 2, gmem_kunit_entries(inode));
	KUNIT_EXPECT_EQ(test, GUESTMEM_PRIVATE, guestmem_run(inode, 0, &end));
	KUNIT_EXPECT_EQ(test, nr - 1, end);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, nr, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 1, gmem_kunit_entries(inode));
	KUNIT_EXPECT_EQ(test, GUESTMEM_SHARED, guestmem_run(inode, nr - 1, &end));
	KUNIT_EXPECT_EQ(test, nr, end);
}

/* Every other page up, then the rest down, and the rest in any order. */
static void share_alternating(struct kunit *test)
{
	pgoff_t nr = 1024, i;
	struct inode *inode = gmem_kunit_create(test, nr, GUESTMEM_CONVERTIBLE);
	struct rnd_state rnd;
	u16 *order;

	for (i = 1; i < nr; i += 2) {
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i, i + 1,
							    GUESTMEM_SHARED));
		KUNIT_ASSERT_EQ(test, i + 1 + (i + 1 < nr), gmem_kunit_entries(inode));
	}
	for (i = nr; i > 0; i -= 2) {
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i - 2, i - 1,
							    GUESTMEM_SHARED));
		KUNIT_ASSERT_EQ(test, max(i - 2, 1), gmem_kunit_entries(inode));
	}

	order = kunit_kcalloc(test, nr, sizeof(*order), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, order);
	prandom_seed_state(&rnd, RANDOM_SEED);
	for (i = 0; i < nr; i++) {
		u32 other = gmem_kunit_random(&rnd, 0, i + 1);

		order[i] = order[other];
		order[other] = i;
	}
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, order[i],
							    order[i] + 1,
							    GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, 1, gmem_kunit_entries(inode));
	KUNIT_EXPECT_EQ(test, GUESTMEM_PRIVATE, guestmem_page_state(inode, 0));
}

static void share_next_run(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSSPPSS");
	pgoff_t start, end;

	start = 0;
	KUNIT_ASSERT_TRUE(test, guestmem_next_run(inode, &start, &end, 8, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 2, start);
	KUNIT_EXPECT_EQ(test, 4, end);
	start = end;
	/* Cut at the limit. */
	KUNIT_ASSERT_TRUE(test, guestmem_next_run(inode, &start, &end, 7, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, 6, start);
	KUNIT_EXPECT_EQ(test, 7, end);
	start = end;
	KUNIT_EXPECT_FALSE(test, guestmem_next_run(inode, &start, &end, 7, GUESTMEM_SHARED));

	/* From inside a run, which is not looked for backwards. */
	start = 1;
	KUNIT_ASSERT_TRUE(test, guestmem_next_run(inode, &start, &end, 8, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, 1, start);
	KUNIT_EXPECT_EQ(test, 2, end);

	start = 3;
	KUNIT_ASSERT_TRUE(test, guestmem_next_run(inode, &start, &end, 8, GUESTMEM_ANY));
	KUNIT_EXPECT_EQ(test, 3, start);
	KUNIT_EXPECT_EQ(test, 4, end);

	/* Nothing before the limit. */
	start = 0;
	KUNIT_EXPECT_FALSE(test, guestmem_next_run(inode, &start, &end, 2, GUESTMEM_SHARED));
	start = 8;
	KUNIT_EXPECT_FALSE(test, guestmem_next_run(inode, &start, &end, 8, GUESTMEM_ANY));
}

static const struct share_trim_case {
	pgoff_t start;
	pgoff_t end;
	enum guestmem_state to;
	unsigned int left;
	pgoff_t new_start;
	pgoff_t new_end;
} share_trim_cases[] = {
	/* of PPSSPPSS */
	{ 0, 8, GUESTMEM_SHARED,  2, 0, 6 },
	{ 0, 8, GUESTMEM_PRIVATE, 2, 2, 8 },
	{ 0, 2, GUESTMEM_SHARED,  1, 0, 2 },
	{ 0, 2, GUESTMEM_PRIVATE, 0 },
	{ 0, 1, GUESTMEM_PRIVATE, 0 },
	{ 1, 2, GUESTMEM_SHARED,  1, 1, 2 },
	{ 1, 5, GUESTMEM_PRIVATE, 2, 2, 4 },
	{ 3, 7, GUESTMEM_SHARED,  2, 4, 6 },
	{ 3, 4, GUESTMEM_SHARED,  0 },
	{ 6, 8, GUESTMEM_SHARED,  0 },
	{ 7, 8, GUESTMEM_PRIVATE, 1, 7, 8 },
	{ 1, 7, GUESTMEM_SHARED,  2, 1, 6 },
};

static void share_trim(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSSPPSS");
	int i;

	for (i = 0; i < ARRAY_SIZE(share_trim_cases); i++) {
		const struct share_trim_case *c = &share_trim_cases[i];
		pgoff_t start = c->start, end = c->end;
		unsigned int left;

		filemap_invalidate_lock(inode->i_mapping);
		left = gmem_share_trim(GMEM_I(inode), &start, &end, c->to);
		filemap_invalidate_unlock(inode->i_mapping);

		KUNIT_EXPECT_EQ_MSG(test, c->left, left, "case %d", i);
		if (!left)
			continue;
		KUNIT_EXPECT_EQ_MSG(test, c->new_start, start, "case %d", i);
		KUNIT_EXPECT_EQ_MSG(test, c->new_end, end, "case %d", i);
	}
}

/* What is prepared and given up leaves nothing behind. */
static void share_abort(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSSPPSS");
	struct ma_state mas;
	int r;

	mas_init(&mas, &GMEM_I(inode)->share, 0);
	filemap_invalidate_lock(inode->i_mapping);
	r = gmem_share_prepare(GMEM_I(inode), &mas, 4, 5, GUESTMEM_SHARED);
	KUNIT_EXPECT_NOT_NULL(test, mas.alloc);
	gmem_share_abort(&mas);
	KUNIT_EXPECT_NULL(test, mas.alloc);
	filemap_invalidate_unlock(inode->i_mapping);

	KUNIT_EXPECT_EQ(test, 0, r);
	gmem_kunit_expect_states(test, inode, "PPSSPPSS");
}

struct share_writer {
	struct inode *inode;
	int err;
};

/* Take [8, 24) apart and put it together again. */
static int share_writer_fn(void *data)
{
	struct share_writer *w = data;
	pgoff_t i;

	while (!kthread_should_stop()) {
		for (i = 8; i < 24 && !w->err; i += 2)
			w->err = gmem_kunit_convert(w->inode, i, i + 1, GUESTMEM_SHARED);
		if (!w->err)
			w->err = gmem_kunit_convert(w->inode, 8, 24, GUESTMEM_PRIVATE);
		cond_resched();
	}

	return 0;
}

/* Without a lock, answers are old or new, and never missing. */
static void share_lockless(struct kunit *test)
{
	struct share_writer w = {
		.inode = gmem_kunit_create(test, 32, GUESTMEM_CONVERTIBLE),
	};
	enum guestmem_state state;
	struct task_struct *task;
	pgoff_t i, end;
	int n;

	/* The pages around never change, nor are they merged with those. */
	KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(w.inode, 0, 7, GUESTMEM_SHARED));
	KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(w.inode, 25, 32, GUESTMEM_SHARED));

	task = gmem_kunit_run(test, share_writer_fn, &w);
	for (n = 0; n < 1000; n++) {
		for (i = 0; i < 32; i++) {
			state = guestmem_run(w.inode, i, &end);
			KUNIT_ASSERT_GT(test, end, i);
			KUNIT_ASSERT_LE(test, end, (pgoff_t)32);
			if (i < 7 || i >= 25) {
				KUNIT_ASSERT_EQ(test, GUESTMEM_SHARED, state);
				KUNIT_ASSERT_EQ(test, (pgoff_t)(i < 7 ? 7 : 32), end);
			} else if (i == 7 || i == 24) {
				KUNIT_ASSERT_EQ(test, GUESTMEM_PRIVATE, state);
			} else {
				KUNIT_ASSERT_TRUE(test, state == GUESTMEM_SHARED ||
						  state == GUESTMEM_PRIVATE);
			}
		}
		cond_resched();
	}
	gmem_kunit_stop(test, task);
	KUNIT_EXPECT_EQ(test, 0, w.err);
}

struct share_model {
	struct inode *inode;
	struct gmem_kunit_view *view;
	struct rnd_state rnd;
	unsigned int round;
	pgoff_t nr;
	DECLARE_BITMAP(private, RANDOM_PAGES);
	DECLARE_BITMAP(populated, RANDOM_PAGES);
	u8 byte[RANDOM_PAGES];
	char where[64];
};

static const char *model_where(struct share_model *m)
{
	scnprintf(m->where, sizeof(m->where), "seed %#lx, %lu pages, round %u",
		  RANDOM_SEED + m->nr, m->nr, m->round);
	return m->where;
}

#define MODEL_ASSERT_EQ(test, m, left, right)	\
	KUNIT_ASSERT_EQ_MSG(test, left, right, "%s", model_where(m))

/* Short ranges mostly, which make many runs; whole stretches now and then. */
static void model_range(struct share_model *m, pgoff_t *start, pgoff_t *end)
{
	u32 max;

	*start = gmem_kunit_random(&m->rnd, 0, m->nr);
	max = m->nr - *start;
	if (gmem_kunit_random(&m->rnd, 0, 16))
		max = min_t(u32, max, 8);
	*end = *start + gmem_kunit_random(&m->rnd, 1, max + 1);
}

static pgoff_t model_run_end(struct share_model *m, pgoff_t index)
{
	return test_bit(index, m->private) ?
		find_next_zero_bit(m->private, m->nr, index) :
		find_next_bit(m->private, m->nr, index);
}

static void model_convert(struct kunit *test, struct share_model *m)
{
	bool private = gmem_kunit_random(&m->rnd, 0, 2);
	bool zero = !private && !gmem_kunit_random(&m->rnd, 0, 4);
	enum guestmem_contents contents = zero ? GUESTMEM_ZERO : GUESTMEM_PRESERVE;
	enum guestmem_state to = private ? GUESTMEM_PRIVATE : GUESTMEM_SHARED;
	unsigned int begins = m->view->begins;
	pgoff_t start, end, i, first, last = 0, bad;

	model_range(m, &start, &end);
	MODEL_ASSERT_EQ(test, m, 0, guestmem_convert(m->inode, start, end, to,
						     contents, &bad));

	first = end;
	for (i = start; i < end; i++) {
		if (test_bit(i, m->private) == private)
			continue;
		first = min(first, i);
		last = i;
		if (zero)
			m->byte[i] = 0;
	}
	__bitmap_clear(m->private, start, end - start);
	if (private)
		__bitmap_set(m->private, start, end - start);

	/* Views hear of exactly what changes, if anything does. */
	if (first == end) {
		MODEL_ASSERT_EQ(test, m, begins, m->view->begins);
		return;
	}
	MODEL_ASSERT_EQ(test, m, begins + 1 + zero, m->view->begins);
	MODEL_ASSERT_EQ(test, m, first, m->view->start);
	MODEL_ASSERT_EQ(test, m, last + 1, m->view->end);
	MODEL_ASSERT_EQ(test, m, GUESTMEM_ANY & ~to, m->view->states);
}

static void model_punch(struct kunit *test, struct share_model *m)
{
	pgoff_t start, end;

	model_range(m, &start, &end);
	MODEL_ASSERT_EQ(test, m, 0, gmem_kunit_punch(m->inode, start, end));
	__bitmap_clear(m->populated, start, end - start);
	memset(m->byte + start, 0, end - start);
}

static void model_fill(struct kunit *test, struct share_model *m)
{
	pgoff_t index = gmem_kunit_random(&m->rnd, 0, m->nr);

	m->byte[index] = gmem_kunit_random(&m->rnd, 1, 256);
	__set_bit(index, m->populated);
	gmem_kunit_fill(test, m->inode, index, m->byte[index]);
}

static void model_lookup(struct kunit *test, struct share_model *m)
{
	pgoff_t index = gmem_kunit_random(&m->rnd, 0, m->nr);
	bool private = test_bit(index, m->private);
	pgoff_t end, start, next;
	struct folio *folio;

	MODEL_ASSERT_EQ(test, m, private ? GUESTMEM_PRIVATE : GUESTMEM_SHARED,
			guestmem_run(m->inode, index, &end));
	MODEL_ASSERT_EQ(test, m, model_run_end(m, index), end);

	next = find_next_bit(m->private, m->nr, index);
	start = index;
	MODEL_ASSERT_EQ(test, m, next < m->nr,
			guestmem_next_run(m->inode, &start, &end, m->nr,
					  GUESTMEM_PRIVATE));
	if (next < m->nr) {
		MODEL_ASSERT_EQ(test, m, next, start);
		MODEL_ASSERT_EQ(test, m, model_run_end(m, next), end);
	}

	folio = gmem_kunit_folio(m->inode, index);
	MODEL_ASSERT_EQ(test, m, test_bit(index, m->populated), !!folio);
	/* What was zeroed may be yet to be initialised. */
	if (folio && folio_test_uptodate(folio))
		MODEL_ASSERT_EQ(test, m, true,
				gmem_kunit_holds(m->inode, index, m->byte[index]));
	else if (folio)
		MODEL_ASSERT_EQ(test, m, 0, m->byte[index]);
}

static void model_check(struct kunit *test, struct share_model *m)
{
	const char *wrong = gmem_kunit_compare(m->inode, m->private, m->nr);

	KUNIT_ASSERT_NULL_MSG(test, wrong, "%s: %s", model_where(m), wrong);
}

static void model_run(struct kunit *test, struct share_model *m, pgoff_t nr,
		      unsigned int rounds)
{
	memset(m, 0, sizeof(*m));
	prandom_seed_state(&m->rnd, RANDOM_SEED + nr);
	m->nr = nr;
	m->inode = gmem_kunit_create(test, nr, GUESTMEM_CONVERTIBLE);
	m->view = gmem_kunit_attach(test, m->inode);
	__bitmap_set(m->private, 0, nr);

	for (m->round = 0; m->round < rounds; m->round++) {
		switch (gmem_kunit_random(&m->rnd, 0, 16)) {
		case 0:
			model_punch(test, m);
			break;
		case 1 ... 2:
			model_fill(test, m);
			break;
		case 3 ... 5:
			model_lookup(test, m);
			break;
		default:
			model_convert(test, m);
			break;
		}
		model_check(test, m);
		if (m->round % 64 == 0)
			cond_resched();
	}

	MODEL_ASSERT_EQ(test, m, (unsigned long)bitmap_weight(m->populated, nr),
			m->inode->i_mapping->nrpages);
	gmem_kunit_detach(test, m->view);
	gmem_kunit_iput(test, m->inode);
}

/* Random operations beside a bitmap; the tree is compared after each. */
static void share_random(struct kunit *test)
{
	static const pgoff_t sizes[] = { 1, 2, 9, 64, RANDOM_PAGES };
	struct share_model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, m);
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		model_run(test, m, sizes[i],
			  DIV_ROUND_UP(gmem_kunit_rounds, ARRAY_SIZE(sizes)));
}

static struct kunit_case share_cases[] = {
	KUNIT_CASE(share_initial),
	KUNIT_CASE(share_one_page),
	KUNIT_CASE(share_merge),
	KUNIT_CASE(share_deep),
	KUNIT_CASE(share_far_end),
	KUNIT_CASE(share_alternating),
	KUNIT_CASE(share_next_run),
	KUNIT_CASE(share_trim),
	KUNIT_CASE(share_abort),
	KUNIT_CASE(share_lockless),
	KUNIT_CASE_SLOW(share_random),
	{}
};

static struct kunit_suite share_suite = {
	.name		= "guestmem_share",
	.init		= gmem_kunit_init,
	.test_cases	= share_cases,
};

kunit_test_suite(share_suite);
