// SPDX-License-Identifier: GPL-2.0-only
/*
 * NUMA policy of memory.
 */

#include <kunit/test.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/nodemask.h>

#include "kunit_view.h"

/* Without a policy memory comes from anywhere, a page at a time. */
static void policy_default(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 2, GUESTMEM_CONVERTIBLE);
	struct folio *folio;

	gmem_kunit_fill(test, inode, 1, 0x11);
	folio = gmem_kunit_folio(inode, 1);
	KUNIT_EXPECT_EQ(test, 0, folio_order(folio));
	KUNIT_EXPECT_TRUE(test, node_online(folio_nid(folio)));
}

#ifdef CONFIG_NUMA
/* The node that get_mempolicy() tells, or NUMA_NO_NODE without a policy. */
static int policy_get(unsigned long addr, pgoff_t *ilx)
{
	struct vm_area_struct *vma;
	struct mempolicy *mpol = NULL;
	int node = NUMA_NO_NODE;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		mpol = vma->vm_ops->get_policy(vma, addr, ilx);
	mmap_read_unlock(current->mm);

	if (mpol) {
		node = first_node(mpol->nodes);
		/* The inode has another one. */
		atomic_dec(&mpol->refcnt);
	}

	return node;
}

static void policy_shared(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPPSSSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long one = gmem_kunit_mmap(test, file, 0, 8);
	unsigned long two = gmem_kunit_mmap(test, file, 2, 2);
	int node = first_online_node;
	pgoff_t ilx;

	KUNIT_EXPECT_EQ(test, NUMA_NO_NODE, policy_get(one, &ilx));

	/* Set through one mapping, seen through the other, of those pages. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_bind(two, node));
	KUNIT_EXPECT_EQ(test, NUMA_NO_NODE, policy_get(one + PAGE_SIZE, &ilx));
	KUNIT_EXPECT_EQ(test, node, policy_get(one + 2 * PAGE_SIZE, &ilx));
	KUNIT_EXPECT_EQ(test, inode->i_ino, ilx);
	KUNIT_EXPECT_EQ(test, node, policy_get(one + 3 * PAGE_SIZE, &ilx));
	KUNIT_EXPECT_EQ(test, NUMA_NO_NODE, policy_get(one + 4 * PAGE_SIZE, &ilx));

	/* It is the memory's: it outlives the mapping, and conversion. */
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(two, 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 8, GUESTMEM_SHARED));
	KUNIT_EXPECT_EQ(test, node, policy_get(one + 2 * PAGE_SIZE, &ilx));

	/* Taken back. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_bind(one, NUMA_NO_NODE));
	KUNIT_EXPECT_EQ(test, NUMA_NO_NODE, policy_get(one + 2 * PAGE_SIZE, &ilx));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(one, 8 * PAGE_SIZE));
}

static void policy_place(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPPPSSSS");
	struct file *file = gmem_kunit_open(test, inode);
	struct guestmem_range range;
	unsigned long addr;
	int node, n = 0;
	pgoff_t i;

	if (num_node_state(N_MEMORY) < 2 || num_node_state(N_MEMORY) > 4)
		kunit_skip(test, "needs two to four nodes with memory");

	addr = gmem_kunit_mmap(test, file, 0, 8);
	for_each_node_state(node, N_MEMORY) {
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_bind(addr, node));
		/* Private pages too, which the host cannot touch. */
		for (i = n; i < 8; i++)
			gmem_kunit_fill(test, inode, i, 1);
		for (i = n; i < 8; i++)
			KUNIT_EXPECT_EQ(test, node, folio_nid(gmem_kunit_folio(inode, i)));

		KUNIT_EXPECT_EQ(test, 0, guestmem_next_range(inode, 4, 8, false, &range));
		KUNIT_EXPECT_EQ(test, node, range.node);
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, ++n, 8));
	}

	/* The first pages have stayed where they were: one on each node. */
	KUNIT_EXPECT_EQ(test, 0, guestmem_next_range(inode, 0, 8, false, &range));
	KUNIT_EXPECT_EQ(test, GUESTMEM_NODE_MIXED, range.node);
	KUNIT_EXPECT_EQ(test, (unsigned long)n, range.populated);
	KUNIT_EXPECT_EQ(test, 0, guestmem_next_range(inode, 0, 8, true, &range));
	KUNIT_EXPECT_EQ(test, first_memory_node, range.node);
	KUNIT_EXPECT_EQ(test, 1, range.populated);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 8 * PAGE_SIZE));
}

/* A policy that cannot be stored leaves the one there is. */
static void policy_fails(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PPSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr;
	bool failed = true;
	unsigned int n;
	pgoff_t ilx;
	int r;

	gmem_kunit_fault_setup(test);
	addr = gmem_kunit_mmap(test, file, 0, 4);
	for (n = 1; failed; n++) {
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_bind(addr, NUMA_NO_NODE));
		gmem_kunit_fault_arm(GMEM_KUNIT_FAIL_ONCE, n);
		r = gmem_kunit_bind(addr, first_online_node);
		failed = gmem_kunit_fault_disarm();
		KUNIT_EXPECT_TRUE(test, !r || (failed && r == -ENOMEM));
		KUNIT_EXPECT_EQ(test, r ? NUMA_NO_NODE : first_online_node,
				policy_get(addr, &ilx));
	}
	KUNIT_EXPECT_GT(test, n, 2);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
}
#else
static void policy_shared(struct kunit *test)
{
	kunit_skip(test, "no policies: needs CONFIG_NUMA");
}

static void policy_place(struct kunit *test)
{
	kunit_skip(test, "no policies: needs CONFIG_NUMA");
}

static void policy_fails(struct kunit *test)
{
	kunit_skip(test, "no policies: needs CONFIG_NUMA");
}
#endif

static struct kunit_case policy_cases[] = {
	KUNIT_CASE(policy_default),
	KUNIT_CASE(policy_shared),
	KUNIT_CASE(policy_place),
	KUNIT_CASE(policy_fails),
	{}
};

static struct kunit_suite policy_suite = {
	.name		= "guestmem_policy",
	.init		= gmem_kunit_init,
	.test_cases	= policy_cases,
};

kunit_test_suite(policy_suite);
