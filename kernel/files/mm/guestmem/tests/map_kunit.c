// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host mappings.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/falloc.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pgtable.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>

#include "kunit_view.h"

/* What userspace does: 0, or -EFAULT where it would get a signal. */
static int map_write(unsigned long addr, pgoff_t index, unsigned long value)
{
	return put_user(value, (unsigned long __user *)(addr + index * PAGE_SIZE));
}

static int map_read(unsigned long addr, pgoff_t index, unsigned long *value)
{
	return get_user(*value, (unsigned long __user *)(addr + index * PAGE_SIZE));
}

#define map_expect(test, addr, index, value)	\
	map_expect_at(test, addr, index, value, __LINE__)

static void map_expect_at(struct kunit *test, unsigned long addr, pgoff_t index,
			  unsigned long value, int line)
{
	unsigned long read = ~0UL;

	KUNIT_EXPECT_EQ_MSG(test, 0, map_read(addr, index, &read), "asked on line %d", line);
	KUNIT_EXPECT_EQ_MSG(test, value, read, "asked on line %d", line);
}

/* A word of a page that is filled with @byte. */
static unsigned long map_word(u8 byte)
{
	return ~0UL / 0xff * byte;
}

/* A fault by itself, to see what exactly it answers. */
static vm_fault_t map_fault(unsigned long addr, pgoff_t index, bool write)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	vm_fault_t ret = VM_FAULT_SIGSEGV;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr + index * PAGE_SIZE);
	if (vma)
		ret = handle_mm_fault(vma, addr + index * PAGE_SIZE,
				      FAULT_FLAG_KILLABLE | (write ? FAULT_FLAG_WRITE : 0),
				      NULL);
	mmap_read_unlock(mm);

	return ret;
}

/* Whether there is anything at all in the page table. */
static bool map_present(unsigned long addr, pgoff_t index)
{
	struct mm_struct *mm = current->mm;
	bool present = false;
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;
	pgd_t *pgd;

	addr += index * PAGE_SIZE;
	mmap_read_lock(mm);
	pgd = pgd_offset(mm, addr);
	if (pgd_none(*pgd))
		goto out;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		goto out;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud))
		goto out;
	pmd = pmd_offset(pud, addr);
	if (pmd_none(*pmd))
		goto out;
	present = !pte_none(ptep_get(pte_offset_kernel(pmd, addr)));
out:
	mmap_read_unlock(mm);
	return present;
}

static void map_refused(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create(test, 4, GUESTMEM_INIT_SHARED);
	struct file *file = gmem_kunit_open(test, inode);

	KUNIT_EXPECT_EQ(test, (unsigned long)-ENODEV,
			kunit_vm_mmap(test, file, 0, PAGE_SIZE, PROT_READ, MAP_SHARED, 0));

	inode = gmem_kunit_create_states(test, "SSSS");
	file = gmem_kunit_open(test, inode);
	KUNIT_EXPECT_EQ(test, (unsigned long)-EINVAL,
			kunit_vm_mmap(test, file, 0, PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0));
	KUNIT_EXPECT_EQ(test, (unsigned long)-EINVAL,
			kunit_vm_mmap(test, file, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE, 0));
	KUNIT_EXPECT_EQ(test, 0, inode->i_mapping->nrpages);
}

static void map_shared(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);
	unsigned long other = gmem_kunit_mmap(test, file, 2, 2);
	pgoff_t i;

	KUNIT_EXPECT_EQ(test, 0, inode->i_mapping->nrpages);
	gmem_kunit_litter(test);
	for (i = 0; i < 4; i++) {
		map_expect(test, addr, i, 0);
		KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, i, 0));
		KUNIT_EXPECT_TRUE(test, map_present(addr, i));
	}
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, 0, map_write(addr, i, i + 1));
	for (i = 0; i < 2; i++)
		map_expect(test, other, i, i + 3);

	/* It is the guest's memory: both see the other's writes. */
	gmem_kunit_fill(test, inode, 1, 0x99);
	map_expect(test, addr, 1, map_word(0x99));

	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
	map_expect(test, other, 0, 3);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(other, 2 * PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, gmem_kunit_mapped(inode, 2));
}

/* The first touch may be a write too. */
static void map_write_first(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 2);
	struct folio *folio;

	gmem_kunit_litter(test);
	KUNIT_EXPECT_TRUE(test, map_fault(addr, 0, true) == VM_FAULT_NOPAGE);
	folio = gmem_kunit_folio(inode, 0);
	KUNIT_ASSERT_NOT_NULL(test, folio);
	KUNIT_EXPECT_FALSE(test, folio_test_locked(folio));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, map_write(addr, 0, 5));
	map_expect(test, addr, 0, 5);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 2 * PAGE_SIZE));
}

/* Private pages can be mapped, and not be touched. */
static void map_private(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "PSPP");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);
	unsigned long value;

	gmem_kunit_fill(test, inode, 2, 0x22);

	KUNIT_EXPECT_TRUE(test, map_fault(addr, 0, false) == VM_FAULT_SIGBUS);
	KUNIT_EXPECT_TRUE(test, map_fault(addr, 0, true) == VM_FAULT_SIGBUS);
	KUNIT_EXPECT_TRUE(test, map_fault(addr, 2, false) == VM_FAULT_SIGBUS);
	KUNIT_EXPECT_EQ(test, -EFAULT, map_read(addr, 0, &value));
	KUNIT_EXPECT_EQ(test, -EFAULT, map_write(addr, 0, 1));
	KUNIT_EXPECT_EQ(test, -EFAULT, map_read(addr, 2, &value));
	KUNIT_EXPECT_EQ(test, -EFAULT, map_write(addr, 2, 1));
	KUNIT_EXPECT_EQ(test, -EFAULT, map_read(addr, 3, &value));
	/* The shared page among them is not concerned, nor maps its neighbours. */
	map_expect(test, addr, 1, 0);
	KUNIT_EXPECT_FALSE(test, map_present(addr, 0));
	KUNIT_EXPECT_FALSE(test, map_present(addr, 2));

	/* Trying has allocated nothing and changed nothing. */
	KUNIT_EXPECT_EQ(test, 2, inode->i_mapping->nrpages);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_holds(inode, 2, 0x22));
	gmem_kunit_expect_states(test, inode, "PSPP");
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
}

/*
 * A fault maps what is populated around it, but nothing of another state, be it
 * between shared runs, and allocates nothing.
 */
static void map_around(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSPSSSSPSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 11);
	pgoff_t i;

	for (i = 0; i < 11; i++)
		if (i != 6)
			gmem_kunit_fill(test, inode, i, 0x10 + i);

	map_expect(test, addr, 5, map_word(0x15));
	for (i = 0; i < 11; i++)
		KUNIT_EXPECT_EQ_MSG(test, i == 4 || i == 5 || i == 7,
				    map_present(addr, i), "page %lu", i);
	KUNIT_EXPECT_EQ(test, 10, inode->i_mapping->nrpages);

	/* The neighbours' mappings hold them as any other does, and go. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 4, 5, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_FALSE(test, map_present(addr, 4));
	map_expect(test, addr, 7, map_word(0x17));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 11 * PAGE_SIZE));
}

static void map_behind_end(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);

	map_expect(test, addr, 1, 0);
	KUNIT_EXPECT_TRUE(test, map_fault(addr, 2, false) == VM_FAULT_SIGBUS);
	KUNIT_EXPECT_TRUE(test, map_fault(addr, 3, true) == VM_FAULT_SIGBUS);
	KUNIT_EXPECT_EQ(test, 1, inode->i_mapping->nrpages);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
}

/* There and back: unreachable while it is private, and the same when it is not. */
static void map_convert(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);
	unsigned long other = gmem_kunit_mmap(test, file, 1, 1);
	unsigned long value;
	struct folio *folio;
	pgoff_t i;

	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, 0, map_write(addr, i, i + 1));
	map_expect(test, other, 0, 2);
	folio = gmem_kunit_folio(inode, 1);

	/* Freshly touched and mapped twice. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 1, 3, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_FALSE(test, map_present(addr, 1));
	KUNIT_EXPECT_FALSE(test, map_present(addr, 2));
	KUNIT_EXPECT_FALSE(test, map_present(other, 0));
	KUNIT_EXPECT_FALSE(test, gmem_kunit_mapped(inode, 1));
	KUNIT_EXPECT_FALSE(test, gmem_kunit_mapped(inode, 2));
	KUNIT_EXPECT_EQ(test, -EFAULT, map_read(addr, 1, &value));
	KUNIT_EXPECT_EQ(test, -EFAULT, map_write(addr, 2, 9));
	KUNIT_EXPECT_EQ(test, -EFAULT, map_read(other, 0, &value));
	/* Their neighbours have kept their mappings. */
	KUNIT_EXPECT_TRUE(test, map_present(addr, 0));
	KUNIT_EXPECT_TRUE(test, map_present(addr, 3));

	/* The guest's turn; then back. */
	gmem_kunit_fill(test, inode, 2, 0x77);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 4, GUESTMEM_SHARED));
	KUNIT_EXPECT_TRUE(test, map_present(addr, 0));
	map_expect(test, addr, 0, 1);
	map_expect(test, addr, 1, 2);
	map_expect(test, addr, 2, map_word(0x77));
	map_expect(test, addr, 3, 4);
	map_expect(test, other, 0, 2);
	KUNIT_EXPECT_PTR_EQ(test, folio, gmem_kunit_folio(inode, 1));

	KUNIT_EXPECT_EQ(test, 0, vm_munmap(other, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
}

/* Conversion to private touches the shared pages of a mixed range only. */
static void map_convert_mixed(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SPSP");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);
	pgoff_t error = 0;

	KUNIT_EXPECT_EQ(test, 0, map_write(addr, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, map_write(addr, 2, 3));
	folio_get(gmem_kunit_folio(inode, 2));

	/* Refused: whatever was unmapped comes back with the next touch. */
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			guestmem_convert(inode, 0, 4, GUESTMEM_PRIVATE,
					 GUESTMEM_PRESERVE, &error));
	KUNIT_EXPECT_EQ(test, 2, error);
	gmem_kunit_expect_states(test, inode, "SPSP");
	map_expect(test, addr, 0, 1);
	map_expect(test, addr, 2, 3);

	folio_put(gmem_kunit_folio(inode, 2));
	KUNIT_EXPECT_EQ(test, 0,
			guestmem_convert(inode, 0, 4, GUESTMEM_PRIVATE,
					 GUESTMEM_PRESERVE, &error));
	KUNIT_EXPECT_TRUE(test, map_fault(addr, 0, false) == VM_FAULT_SIGBUS);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
}

static void map_punch(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);
	pgoff_t i;

	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, 0, map_write(addr, i, i + 1));
	KUNIT_EXPECT_EQ(test, 0, vfs_fallocate(file,
					       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       PAGE_SIZE, 2 * PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, map_present(addr, 1));
	KUNIT_EXPECT_FALSE(test, map_present(addr, 2));
	KUNIT_EXPECT_TRUE(test, map_present(addr, 0));
	KUNIT_EXPECT_TRUE(test, map_present(addr, 3));
	KUNIT_EXPECT_EQ(test, 2, inode->i_mapping->nrpages);
	gmem_kunit_litter(test);
	map_expect(test, addr, 0, 1);
	map_expect(test, addr, 1, 0);
	map_expect(test, addr, 2, 0);
	map_expect(test, addr, 3, 4);

	/* Zeroing in place is seen, and leaves the mapping. */
	KUNIT_EXPECT_EQ(test, 0, vfs_fallocate(file,
					       FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					       0, PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, map_present(addr, 0));
	map_expect(test, addr, 0, 0);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
}

static void map_poisoned(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 2);
	struct folio *folio;
	int refs;

	gmem_kunit_fill(test, inode, 0, 0x11);
	gmem_kunit_settle(test, inode);
	gmem_kunit_poison(test, inode, 0);
	folio = gmem_kunit_folio(inode, 0);
	refs = folio_ref_count(folio);

	KUNIT_EXPECT_TRUE(test, map_fault(addr, 0, false) == VM_FAULT_HWPOISON);
	KUNIT_EXPECT_TRUE(test, map_fault(addr, 0, true) == VM_FAULT_HWPOISON);
	KUNIT_EXPECT_FALSE(test, map_present(addr, 0));
	KUNIT_EXPECT_EQ(test, refs, folio_ref_count(folio));
	KUNIT_EXPECT_FALSE(test, folio_test_locked(folio));

	gmem_kunit_unpoison(test, inode, 0);
	map_expect(test, addr, 0, map_word(0x11));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 2 * PAGE_SIZE));
}

/* A pin, as for DMA, keeps its page shared until it is let go. */
static void map_pinned(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "SSSS");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned long addr = gmem_kunit_mmap(test, file, 0, 4);
	struct page *page;
	pgoff_t i, error;

	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, 0, map_write(addr, i, i + 1));
	KUNIT_ASSERT_EQ(test, 1, pin_user_pages_fast(addr + 2 * PAGE_SIZE, 1,
						     FOLL_WRITE | FOLL_LONGTERM, &page));
	KUNIT_EXPECT_PTR_EQ(test, gmem_kunit_folio(inode, 2), page_folio(page));

	error = 0;
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			guestmem_convert(inode, 0, 4, GUESTMEM_PRIVATE,
					 GUESTMEM_PRESERVE, &error));
	KUNIT_EXPECT_EQ(test, 2, error);
	gmem_kunit_expect_states(test, inode, "SSSS");
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 2, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 3, 4, GUESTMEM_PRIVATE));
	map_expect(test, addr, 2, 3);

	unpin_user_page(page);
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 4, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 4, GUESTMEM_SHARED));
	for (i = 0; i < 4; i++)
		map_expect(test, addr, i, i + 1);

	/* Nobody pins what is private. */
	KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 4, GUESTMEM_PRIVATE));
	KUNIT_EXPECT_EQ(test, -EFAULT, pin_user_pages_fast(addr, 1, FOLL_LONGTERM, &page));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 4 * PAGE_SIZE));
}

struct map_child {
	struct kunit *test;
	struct file *file;
	struct completion mapped;
	struct completion converted;
	struct completion done;
	int before;
	int after;
	unsigned long value;
};

static int map_child_fn(void *data)
{
	struct map_child *c = data;
	unsigned long addr;

	/* In an address space of its own. */
	addr = kunit_vm_mmap(c->test, c->file, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_SHARED, 0);
	c->before = IS_ERR_VALUE(addr) || !addr ? -ENOMEM : map_read(addr, 0, &c->value);
	complete(&c->mapped);
	wait_for_completion(&c->converted);
	if (!c->before) {
		unsigned long value;

		c->after = map_read(addr, 0, &value);
		vm_munmap(addr, PAGE_SIZE);
	}
	complete(&c->done);

	return 0;
}

/* What another process mapped before goes as well. */
static void map_two_processes(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "S");
	struct map_child c = {
		.test = test,
		.file = gmem_kunit_open(test, inode),
		.mapped = COMPLETION_INITIALIZER_ONSTACK(c.mapped),
		.converted = COMPLETION_INITIALIZER_ONSTACK(c.converted),
		.done = COMPLETION_INITIALIZER_ONSTACK(c.done),
	};
	unsigned long addr = gmem_kunit_mmap(test, c.file, 0, 1);
	struct task_struct *task;
	unsigned long value;
	int r;

	KUNIT_EXPECT_EQ(test, 0, map_write(addr, 0, 0x1234));
	task = gmem_kunit_run(test, map_child_fn, &c);
	wait_for_completion(&c.mapped);
	r = gmem_kunit_convert(inode, 0, 1, GUESTMEM_PRIVATE);
	complete(&c.converted);
	wait_for_completion(&c.done);
	gmem_kunit_stop(test, task);

	KUNIT_EXPECT_EQ(test, 0, c.before);
	KUNIT_EXPECT_EQ(test, 0x1234, c.value);
	KUNIT_EXPECT_EQ(test, 0, r);
	KUNIT_EXPECT_EQ(test, -EFAULT, c.after);
	KUNIT_EXPECT_EQ(test, -EFAULT, map_read(addr, 0, &value));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
}

/* Every allocation of a fault fails once. */
static void map_fault_fails(struct kunit *test)
{
	struct inode *inode = gmem_kunit_create_states(test, "S");
	struct file *file = gmem_kunit_open(test, inode);
	unsigned int n, failures = 0;
	struct folio *folio;
	bool failed = true;
	unsigned long addr;
	vm_fault_t ret;

	gmem_kunit_fault_setup(test);

	for (n = 1; failed; n++) {
		/* A page table of its own each time. */
		addr = kunit_vm_mmap(test, file, SZ_1G + n * SZ_8M, PAGE_SIZE,
				     PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_FIXED_NOREPLACE, 0);
		KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));

		gmem_kunit_fault_arm(GMEM_KUNIT_FAIL_ONCE, n);
		ret = map_fault(addr, 0, true);
		failed = gmem_kunit_fault_disarm();

		if (ret & VM_FAULT_ERROR) {
			KUNIT_EXPECT_TRUE(test, failed);
			KUNIT_EXPECT_TRUE(test, ret == VM_FAULT_OOM);
			KUNIT_EXPECT_FALSE(test, map_present(addr, 0));
			failures++;
		} else {
			KUNIT_EXPECT_TRUE(test, map_present(addr, 0));
		}
		folio = gmem_kunit_folio(inode, 0);
		if (folio)
			KUNIT_EXPECT_FALSE(test, folio_test_locked(folio));
		KUNIT_EXPECT_TRUE(test, filemap_invalidate_trylock_shared(inode->i_mapping));
		filemap_invalidate_unlock_shared(inode->i_mapping);

		KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
		/* No reference is left. */
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 1, GUESTMEM_PRIVATE));
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_convert(inode, 0, 1, GUESTMEM_SHARED));
		KUNIT_EXPECT_EQ(test, 0, gmem_kunit_punch(inode, 0, 1));
	}
	KUNIT_EXPECT_FALSE(test, ret & VM_FAULT_ERROR);
	KUNIT_EXPECT_GE(test, failures, 1);
}

static struct kunit_case map_cases[] = {
	KUNIT_CASE(map_refused),
	KUNIT_CASE(map_shared),
	KUNIT_CASE(map_write_first),
	KUNIT_CASE(map_private),
	KUNIT_CASE(map_around),
	KUNIT_CASE(map_behind_end),
	KUNIT_CASE(map_convert),
	KUNIT_CASE(map_convert_mixed),
	KUNIT_CASE(map_punch),
	KUNIT_CASE(map_poisoned),
	KUNIT_CASE(map_pinned),
	KUNIT_CASE(map_two_processes),
	KUNIT_CASE(map_fault_fails),
	{}
};

static struct kunit_suite map_suite = {
	.name		= "guestmem_map",
	.init		= gmem_kunit_init,
	.test_cases	= map_cases,
};

kunit_test_suite(map_suite);
