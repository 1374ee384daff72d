// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is where: ranges, seeking, fdinfo.
 */

#include <kunit/test.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>

#include "kunit_view.h"

#define STAT_SEED	0x73746174
#define STAT_PAGES	150

static void stat_expect(struct kunit *test, struct inode *inode, pgoff_t start,
			pgoff_t limit, bool by_node, pgoff_t end,
			enum guestmem_state state, unsigned long populated)
{
	struct guestmem_range range = {};

	KUNIT_ASSERT_EQ(test, 0, guestmem_next_range(inode, start, limit, by_node, &range));
	KUNIT_EXPECT_EQ(test, start, range.start);
	KUNIT_EXPECT_EQ(test, end, range.end);
	KUNIT_EXPECT_EQ(test, state, range.state);
	KUNIT_EXPECT_EQ(test, populated, range.populated);
	if (!populated)
		KUNIT_EXPECT_EQ(test, NUMA_NO_NODE, range.node);
	else if (nr_online_nodes == 1)
		KUNIT_EXPECT_EQ(test, first_online_node, range.node);
}

static void stat_ranges(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPPSSSS");

	/* With nothing in it. */
	stat_expect(test, inode, 0, 8, false, 4, GUESTMEM_PRIVATE, 0);
	stat_expect(test, inode, 4, 8, false, 8, GUESTMEM_SHARED, 0);
	stat_expect(test, inode, 0, 8, true, 4, GUESTMEM_PRIVATE, 0);
	stat_expect(test, inode, 0, 1, true, 1, GUESTMEM_PRIVATE, 0);

	/* Populated: 0, 2, 3, 4, 7. */
	gmem_kunit_fill(test, inode, 0, 1);
	gmem_kunit_fill(test, inode, 2, 1);
	gmem_kunit_fill(test, inode, 3, 1);
	gmem_kunit_fill(test, inode, 4, 1);
	gmem_kunit_fill(test, inode, 7, 1);

	stat_expect(test, inode, 0, 8, false, 4, GUESTMEM_PRIVATE, 3);
	stat_expect(test, inode, 1, 8, false, 4, GUESTMEM_PRIVATE, 2);
	stat_expect(test, inode, 1, 3, false, 3, GUESTMEM_PRIVATE, 1);
	stat_expect(test, inode, 4, 8, false, 8, GUESTMEM_SHARED, 2);
	stat_expect(test, inode, 7, 8, false, 8, GUESTMEM_SHARED, 1);
	stat_expect(test, inode, 5, 7, false, 7, GUESTMEM_SHARED, 0);
}

static void stat_ranges_by_node(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPPSSSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 8);

	KUNIT_ASSERT_EQ(test, 0, gmem_kunit_bind(addr, first_memory_node));
	gmem_kunit_fill(test, inode, 0, 1);
	gmem_kunit_fill(test, inode, 2, 1);
	gmem_kunit_fill(test, inode, 3, 1);
	gmem_kunit_fill(test, inode, 4, 1);
	gmem_kunit_fill(test, inode, 7, 1);

	stat_expect(test, inode, 0, 8, true, 1, GUESTMEM_PRIVATE, 1);
	stat_expect(test, inode, 1, 8, true, 2, GUESTMEM_PRIVATE, 0);
	/* The state changes in the middle of what is populated. */
	stat_expect(test, inode, 2, 8, true, 4, GUESTMEM_PRIVATE, 2);
	stat_expect(test, inode, 4, 8, true, 5, GUESTMEM_SHARED, 1);
	stat_expect(test, inode, 5, 8, true, 7, GUESTMEM_SHARED, 0);
	stat_expect(test, inode, 7, 8, true, 8, GUESTMEM_SHARED, 1);
	/* Cut by the caller. */
	stat_expect(test, inode, 2, 3, true, 3, GUESTMEM_PRIVATE, 1);
	stat_expect(test, inode, 5, 6, true, 6, GUESTMEM_SHARED, 0);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 8 * PAGE_SIZE));
}

/* What is at a page, found out the slow way. */
static int stat_node(struct inode *inode, pgoff_t index)
{
	struct folio *folio = gmem_kunit_folio(inode, index);

	return folio ? folio_nid(folio) : NUMA_NO_NODE;
}

static void stat_model_range(struct inode *inode, pgoff_t start, pgoff_t limit,
			     bool by_node, struct guestmem_range *range)
{
	pgoff_t i;
	int node;

	memset(range, 0, sizeof(*range));
	range->start = start;
	range->state = guestmem_page_state(inode, start);
	range->node = NUMA_NO_NODE;
	for (i = start; i < limit; i++) {
		if (guestmem_page_state(inode, i) != range->state)
			break;
		node = stat_node(inode, i);
		if (by_node && node != stat_node(inode, start))
			break;
		if (node == NUMA_NO_NODE)
			continue;
		if (!range->populated)
			range->node = node;
		else if (node != range->node)
			range->node = GUESTMEM_NODE_MIXED;
		range->populated++;
	}
	range->end = i;
}

static void stat_model_check(struct kunit *test, struct inode *inode,
			     pgoff_t start, pgoff_t limit, bool by_node)
{
	struct guestmem_range range, model;

	memset(&range, 0, sizeof(range));
	stat_model_range(inode, start, limit, by_node, &model);
	KUNIT_ASSERT_EQ(test, 0, guestmem_next_range(inode, start, limit, by_node, &range));
	KUNIT_ASSERT_EQ(test, model.start, range.start);
	KUNIT_ASSERT_EQ(test, model.end, range.end);
	KUNIT_ASSERT_EQ(test, model.state, range.state);
	KUNIT_ASSERT_EQ(test, model.populated, range.populated);
	KUNIT_ASSERT_EQ(test, model.node, range.node);
}

static loff_t stat_model_seek(struct inode *inode, loff_t offset, bool data)
{
	loff_t size = i_size_read(inode);

	if (offset < 0 || offset >= size)
		return -ENXIO;
	while (offset < size) {
		if (!!gmem_kunit_folio(inode, offset >> PAGE_SHIFT) == data)
			return offset;
		offset = (offset + PAGE_SIZE) & PAGE_MASK;
	}
	return data ? -ENXIO : size;
}

static void stat_model_check_seek(struct kunit *test, struct inode *inode,
				  struct file *file, loff_t offset)
{
	loff_t data = stat_model_seek(inode, offset, true);
	loff_t hole = stat_model_seek(inode, offset, false);

	KUNIT_ASSERT_EQ(test, data, vfs_llseek(file, offset, SEEK_DATA));
	if (data >= 0)
		KUNIT_ASSERT_EQ(test, data, file->f_pos);
	KUNIT_ASSERT_EQ(test, hole, vfs_llseek(file, offset, SEEK_HOLE));
	if (hole >= 0)
		KUNIT_ASSERT_EQ(test, hole, file->f_pos);
}

/* Random contents, described and compared with a walk page by page. */
static void stat_random(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, STAT_PAGES, GUESTMEM_CONVERTIBLE);
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, STAT_PAGES / 3, STAT_PAGES / 3);
	struct rnd_state rnd;
	pgoff_t start, end, i;
	int round, n;

	/* A third of it on another node, where there is one. */
	KUNIT_ASSERT_EQ(test, 0,
			gmem_kunit_bind(addr, next_memory_node(first_memory_node) < MAX_NUMNODES ?
					next_memory_node(first_memory_node) : first_memory_node));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, STAT_PAGES / 3 * PAGE_SIZE));

	prandom_seed_state(&rnd, STAT_SEED);
	for (round = 0; round < 20; round++) {
		for (n = 0; n < 10; n++) {
			start = gmem_kunit_random(&rnd, 0, STAT_PAGES);
			end = gmem_kunit_random(&rnd, start, STAT_PAGES) + 1;
			switch (gmem_kunit_random(&rnd, 0, 3)) {
			case 0:
				end = min(end, start + 20);
				KUNIT_ASSERT_EQ(test, 0, gmem_kunit_punch(inode, start, end));
				break;
			case 1:
				end = min(end, start + 30);
				for (i = start; i < end; i++)
					gmem_kunit_fill(test, inode, i, 1);
				break;
			case 2:
				KUNIT_ASSERT_EQ(test, 0,
						gmem_kunit_convert(inode, start, end,
								   n % 2 ? GUESTMEM_SHARED :
								   GUESTMEM_PRIVATE));
				break;
			}
		}

		for (start = 0; start < STAT_PAGES; start++) {
			end = start + 1 + gmem_kunit_random(&rnd, 0, STAT_PAGES - start);
			stat_model_check(test, inode, start, STAT_PAGES, false);
			stat_model_check(test, inode, start, STAT_PAGES, true);
			stat_model_check(test, inode, start, end, false);
			stat_model_check(test, inode, start, end, true);
			stat_model_check_seek(test, inode, file, (loff_t)start << PAGE_SHIFT);
			stat_model_check_seek(test, inode, file,
					      ((loff_t)start << PAGE_SHIFT) + 1);
			stat_model_check_seek(test, inode, file,
					      ((loff_t)end << PAGE_SHIFT) - 1);
		}
	}
}

static void stat_seek(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct file *file = gmem_kunit_open(test, inode);
	loff_t size = 4 * PAGE_SIZE;

	/* Empty. */
	KUNIT_EXPECT_EQ(test, -ENXIO, vfs_llseek(file, 0, SEEK_DATA));
	KUNIT_EXPECT_EQ(test, 0, vfs_llseek(file, 0, SEEK_HOLE));

	/* Full; behind the end there is a hole. */
	gmem_kunit_fill(test, inode, 0, 1);
	gmem_kunit_fill(test, inode, 1, 1);
	gmem_kunit_fill(test, inode, 2, 1);
	gmem_kunit_fill(test, inode, 3, 1);
	KUNIT_EXPECT_EQ(test, 5, vfs_llseek(file, 5, SEEK_DATA));
	KUNIT_EXPECT_EQ(test, size, vfs_llseek(file, 5, SEEK_HOLE));

	/* Whether a page is private is no matter. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 0, 1));
	KUNIT_EXPECT_EQ(test, PAGE_SIZE, vfs_llseek(file, 0, SEEK_DATA));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 2, 3));
	KUNIT_EXPECT_EQ(test, 2 * PAGE_SIZE, vfs_llseek(file, PAGE_SIZE, SEEK_HOLE));
	KUNIT_EXPECT_EQ(test, 3 * PAGE_SIZE, vfs_llseek(file, 2 * PAGE_SIZE, SEEK_DATA));

	/* A failure leaves the position. */
	KUNIT_EXPECT_EQ(test, 7, vfs_llseek(file, 7, SEEK_SET));
	KUNIT_EXPECT_EQ(test, -ENXIO, vfs_llseek(file, size, SEEK_DATA));
	KUNIT_EXPECT_EQ(test, -ENXIO, vfs_llseek(file, size, SEEK_HOLE));
	KUNIT_EXPECT_EQ(test, -ENXIO, vfs_llseek(file, -1, SEEK_DATA));
	KUNIT_EXPECT_EQ(test, -ENXIO, vfs_llseek(file, LLONG_MAX, SEEK_HOLE));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfs_llseek(file, -1, SEEK_SET));
	KUNIT_EXPECT_EQ(test, 7, file->f_pos);

	KUNIT_EXPECT_EQ(test, size - 1, vfs_llseek(file, -1, SEEK_END));
	KUNIT_EXPECT_EQ(test, size - 3, vfs_llseek(file, -2, SEEK_CUR));
}

static void stat_expect_fdinfo(struct kunit *test, struct inode *inode,
			       int private, int shared)
{
	struct seq_file m = { .size = SZ_1K };
	unsigned long on_node;
	char *expected;
	int node, len;
	pgoff_t i;

	m.buf = kunit_kzalloc(test, m.size, GFP_KERNEL);
	expected = kunit_kzalloc(test, SZ_1K, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	KUNIT_ASSERT_NOT_NULL(test, expected);

	len = scnprintf(expected, SZ_1K,
			"gmem-size:\t%lu\ngmem-private:\t%lu\ngmem-shared:\t%lu\ngmem-populated:\t%lu\n",
			(private + shared) * PAGE_SIZE, private * PAGE_SIZE,
			shared * PAGE_SIZE, inode->i_mapping->nrpages * PAGE_SIZE);
	for_each_node(node) {
		on_node = 0;
		for (i = 0; i < private + shared; i++)
			if (stat_node(inode, i) == node)
				on_node++;
		if (on_node)
			len += scnprintf(expected + len, SZ_1K - len,
					 "gmem-node%d:\t%lu\n", node,
					 on_node * PAGE_SIZE);
	}

	guestmem_show_fdinfo(&m, inode);
	KUNIT_EXPECT_STREQ(test, expected, m.buf);
}

static void stat_fdinfo(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSPPPSP");

	stat_expect_fdinfo(test, inode, 6, 2);
	gmem_kunit_fill(test, inode, 0, 1);
	gmem_kunit_fill(test, inode, 2, 1);
	gmem_kunit_fill(test, inode, 3, 1);
	gmem_kunit_fill(test, inode, 7, 1);
	stat_expect_fdinfo(test, inode, 6, 2);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 1, 8, GUESTMEM_SHARED));
	stat_expect_fdinfo(test, inode, 1, 7);
}

/* Without memory nothing is said, which is better than something wrong. */
static void stat_fdinfo_fails(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct seq_file m = { .size = SZ_1K };
	bool failed = true;
	unsigned int n;

	gmem_kunit_fault_setup(test);
	m.buf = kunit_kzalloc(test, m.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);

	for (n = 1; failed; n++) {
		m.count = 0;
		gmem_kunit_fault_arm(GMEM_KUNIT_FAIL_ONCE, n);
		guestmem_show_fdinfo(&m, inode);
		failed = gmem_kunit_fault_disarm();
		if (n == 1) {
			KUNIT_EXPECT_TRUE(test, failed);
			KUNIT_EXPECT_EQ(test, 0, m.count);
		}
	}
	KUNIT_EXPECT_GT(test, m.count, 0);
}

static struct kunit_case stat_cases[] = {
	KUNIT_CASE(stat_ranges),
	KUNIT_CASE(stat_ranges_by_node),
	KUNIT_CASE(stat_random),
	KUNIT_CASE(stat_seek),
	KUNIT_CASE(stat_fdinfo),
	KUNIT_CASE(stat_fdinfo_fails),
	{}
};

static struct kunit_suite stat_suite = {
	.name		= "guestmem_stat",
	.init		= gmem_kunit_init,
	.test_cases	= stat_cases,
};

kunit_test_suite(stat_suite);
