// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hypervisor without guests, and what else the suites of mm/guestmem share.
 */

#include <kunit/test.h>
#include <linux/debugfs.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/page-flags.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "kunit_view.h"

unsigned int gmem_kunit_rounds = 100000;
module_param_named(rounds, gmem_kunit_rounds, uint, 0444);
MODULE_PARM_DESC(rounds, "Operations of the random tests (default 100000)");

struct gmem_kunit_log gmem_kunit_log;
static DEFINE_SPINLOCK(gmem_kunit_log_lock);

static void gmem_kunit_record(char what, pgoff_t index)
{
	struct gmem_kunit_log *log = &gmem_kunit_log;

	spin_lock(&gmem_kunit_log_lock);
	if (log->nr < ARRAY_SIZE(log->index)) {
		log->index[log->nr] = index;
		/* The last one stays 0, so that it is a string. */
		if (log->nr < ARRAY_SIZE(log->what) - 1)
			log->what[log->nr] = what;
	}
	log->nr++;
	spin_unlock(&gmem_kunit_log_lock);
}

static enum guestmem_state gmem_kunit_state_at(struct inode *inode,
					       pgoff_t index)
{
	return index < gmem_nr_pages(inode) ? guestmem_page_state(inode, index) : 0;
}

static void gmem_kunit_pause_fn(struct work_struct *work)
{
}

/* To sleep would do too, but takes a whole tick where timers are coarse. */
void gmem_kunit_pause(void)
{
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, gmem_kunit_pause_fn);
	schedule_work(&work);
	flush_work(&work);
	destroy_work_on_stack(&work);
}

static bool gmem_kunit_can_peek(struct inode *inode, pgoff_t index)
{
	struct folio *folio;

	rcu_read_lock();
	folio = guestmem_peek_folio(inode, index, true);
	rcu_read_unlock();
	if (folio)
		folio_put(folio);

	return folio;
}

static void gmem_kunit_begin(struct guestmem_view *view, pgoff_t start,
			     pgoff_t end, enum guestmem_state states)
{
	struct gmem_kunit_view *kv = container_of(view, struct gmem_kunit_view,
						  view);
	struct folio *folio;

	gmem_kunit_record('B', start);
	if (start >= end || end > gmem_nr_pages(kv->inode) || !states)
		atomic_inc(&kv->errors);
	atomic_inc(&kv->depth);
	kv->begins++;
	kv->start = start;
	kv->end = end;
	kv->states = states;
	kv->at_begin = gmem_kunit_state_at(kv->inode, start);
	folio = gmem_kunit_folio(kv->inode, start);
	kv->locked = folio && folio_test_locked(folio);
	kv->peeked = gmem_kunit_can_peek(kv->inode, start);
	if (kv->slow)
		gmem_kunit_pause();
}

static void gmem_kunit_end(struct guestmem_view *view, pgoff_t start,
			   pgoff_t end)
{
	struct gmem_kunit_view *kv = container_of(view, struct gmem_kunit_view,
						  view);

	gmem_kunit_record('E', start);
	if (atomic_dec_return(&kv->depth) < 0 || kv->start != start ||
	    kv->end != end)
		atomic_inc(&kv->errors);
	kv->ends++;
	kv->at_end = gmem_kunit_state_at(kv->inode, start);
	kv->peeked |= gmem_kunit_can_peek(kv->inode, start);
}

static void gmem_kunit_reclaim(struct folio *folio)
{
	gmem_kunit_record('R', folio->index);
}

const struct guestmem_ops gmem_kunit_ops = {
	.owner			= THIS_MODULE,
	.invalidate_begin	= gmem_kunit_begin,
	.invalidate_end		= gmem_kunit_end,
	.reclaim		= gmem_kunit_reclaim,
};

int gmem_kunit_init(struct kunit *test)
{
	/* Files that the last test's address space held are on their way out. */
	flush_delayed_fput();
	memset(&gmem_kunit_log, 0, sizeof(gmem_kunit_log));

	return 0;
}

KUNIT_DEFINE_ACTION_WRAPPER(gmem_kunit_iput_action, iput, struct inode *);

struct inode *gmem_kunit_create(struct kunit *test, pgoff_t nr_pages,
				unsigned int flags)
{
	struct inode *inode;

	inode = guestmem_create(&gmem_kunit_ops, GMEM_KUNIT_NAME,
				(loff_t)nr_pages << PAGE_SHIFT, flags);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, inode);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test,
							   gmem_kunit_iput_action,
							   inode));

	return inode;
}

/* Convertible memory, with a page for each letter. */
struct inode *gmem_kunit_create_states(struct kunit *test, const char *states)
{
	struct inode *inode;
	size_t i;

	inode = gmem_kunit_create(test, strlen(states), GUESTMEM_CONVERTIBLE);
	for (i = 0; states[i]; i++)
		if (states[i] == 'S')
			KUNIT_ASSERT_EQ(test, 0,
					gmem_kunit_convert(inode, i, i + 1,
							   GUESTMEM_SHARED));
	gmem_kunit_expect_states(test, inode, states);

	return inode;
}

/* Drop the reference of gmem_kunit_create() now. */
void gmem_kunit_iput(struct kunit *test, struct inode *inode)
{
	kunit_release_action(test, gmem_kunit_iput_action, inode);
}

static void gmem_kunit_detach_action(void *data)
{
	struct gmem_kunit_view *kv = data;

	guestmem_lock_bindings(kv->inode);
	guestmem_detach(kv->inode, &kv->view);
	guestmem_unlock_bindings(kv->inode);
}

struct gmem_kunit_view *gmem_kunit_attach(struct kunit *test,
					  struct inode *inode)
{
	struct gmem_kunit_view *kv = kunit_kzalloc(test, sizeof(*kv), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, kv);
	kv->inode = inode;
	KUNIT_ASSERT_EQ(test, 0, guestmem_attach(inode, &kv->view));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test,
							   gmem_kunit_detach_action,
							   kv));

	return kv;
}

void gmem_kunit_detach(struct kunit *test, struct gmem_kunit_view *kv)
{
	kunit_release_action(test, gmem_kunit_detach_action, kv);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&kv->depth));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&kv->errors));
	KUNIT_EXPECT_EQ(test, kv->begins, kv->ends);
}

static int gmem_kunit_fop_mmap(struct file *file, struct vm_area_struct *vma)
{
	return guestmem_mmap(file_inode(file), vma);
}

static long gmem_kunit_fop_fallocate(struct file *file, int mode,
				     loff_t offset, loff_t len)
{
	return guestmem_fallocate(file_inode(file), mode, offset, len);
}

static const struct file_operations gmem_kunit_fops = {
	.owner		= THIS_MODULE,
	.mmap		= gmem_kunit_fop_mmap,
	.llseek		= guestmem_llseek,
	.fallocate	= gmem_kunit_fop_fallocate,
};

KUNIT_DEFINE_ACTION_WRAPPER(gmem_kunit_fput_action, __fput_sync, struct file *);

struct file *gmem_kunit_open(struct kunit *test, struct inode *inode)
{
	struct file *file;

	ihold(inode);
	file = guestmem_open(inode, GMEM_KUNIT_NAME, &gmem_kunit_fops, NULL);
	if (IS_ERR(file))
		iput(inode);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test,
							   gmem_kunit_fput_action,
							   file));

	return file;
}

unsigned long gmem_kunit_mmap(struct kunit *test, struct file *file,
			      pgoff_t index, unsigned long nr_pages)
{
	unsigned long addr;

	addr = kunit_vm_mmap(test, file, 0, nr_pages << PAGE_SHIFT,
			     PROT_READ | PROT_WRITE, MAP_SHARED,
			     index << PAGE_SHIFT);
	KUNIT_ASSERT_NE(test, 0, addr);
	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR_VALUE(addr), "mmap: %ld", (long)addr);

	return addr;
}

#ifdef CONFIG_NUMA
/*
 * What mbind() does to the whole of a mapping once it has parsed and checked
 * everything; NUMA_NO_NODE takes the policy back.
 */
int gmem_kunit_bind(unsigned long addr, int node)
{
	struct mempolicy mpol = {
		.refcnt = ATOMIC_INIT(1),
		.mode = MPOL_BIND,
		.flags = MPOL_F_SHARED,
		.home_node = NUMA_NO_NODE,
	};
	struct vm_area_struct *vma;
	int r = -EFAULT;

	if (node != NUMA_NO_NODE)
		mpol.nodes = nodemask_of_node(node);

	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		r = vma->vm_ops->set_policy(vma, node == NUMA_NO_NODE ? NULL : &mpol);
	mmap_write_unlock(current->mm);

	return r;
}
#else
int gmem_kunit_bind(unsigned long addr, int node)
{
	return 0;
}
#endif

KUNIT_DEFINE_ACTION_WRAPPER(gmem_kunit_stop_action, kthread_stop_put,
			    struct task_struct *);

struct task_struct *gmem_kunit_run(struct kunit *test, int (*fn)(void *data),
				   void *data)
{
	struct task_struct *task;

	task = kthread_create(fn, data, "gmem-kunit");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	get_task_struct(task);
	wake_up_process(task);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test,
							   gmem_kunit_stop_action,
							   task));

	return task;
}

void gmem_kunit_stop(struct kunit *test, struct task_struct *task)
{
	kunit_release_action(test, gmem_kunit_stop_action, task);
}

unsigned int gmem_kunit_entries(struct inode *inode)
{
	MA_STATE(mas, &GMEM_I(inode)->share, 0, 0);
	unsigned int nr = 0;
	void *entry;

	rcu_read_lock();
	mas_for_each(&mas, entry, ULONG_MAX)
		nr++;
	rcu_read_unlock();

	return nr;
}

/*
 * Walk the tree's entries beside the model's runs, which includes that there
 * are as many of the one as of the other.  Return: what is wrong, or NULL.
 */
const char *gmem_kunit_compare(struct inode *inode,
			       const unsigned long *private, pgoff_t nr_pages)
{
	MA_STATE(mas, &GMEM_I(inode)->share, 0, 0);
	const char *wrong = NULL;
	pgoff_t next = 0, end;
	void *entry;

	rcu_read_lock();
	mas_for_each(&mas, entry, ULONG_MAX) {
		bool is_private = xa_to_value(entry) == GUESTMEM_PRIVATE;

		if (mas.index != next) {
			wrong = "an entry does not begin where the last one ends";
			break;
		}
		if (next >= nr_pages) {
			wrong = "an entry behind the end";
			break;
		}
		if (is_private != test_bit(next, private)) {
			wrong = "a page in the wrong state, or an entry too many";
			break;
		}
		end = is_private ? find_next_zero_bit(private, nr_pages, next) :
				   find_next_bit(private, nr_pages, next);
		if (mas.last != end - 1) {
			wrong = "an entry does not end with the run";
			break;
		}
		next = end;
	}
	rcu_read_unlock();

	if (!wrong && next != nr_pages)
		wrong = "the tree does not reach the end";
	return wrong;
}

void gmem_kunit_expect_states(struct kunit *test, struct inode *inode,
			      const char *states)
{
	DECLARE_BITMAP(private, GMEM_KUNIT_SNAP_PAGES);
	const char *wrong;
	size_t i;

	bitmap_zero(private, GMEM_KUNIT_SNAP_PAGES);
	for (i = 0; states[i]; i++)
		__assign_bit(i, private, states[i] == 'P');

	KUNIT_ASSERT_EQ(test, (pgoff_t)i, gmem_nr_pages(inode));
	wrong = gmem_kunit_compare(inode, private, i);
	KUNIT_EXPECT_NULL_MSG(test, wrong, "%s: %s", states, wrong);
}

int gmem_kunit_convert(struct inode *inode, pgoff_t start, pgoff_t end,
		       enum guestmem_state to)
{
	pgoff_t error_index;

	return guestmem_convert(inode, start, end, to, GUESTMEM_PRESERVE, &error_index);
}

long gmem_kunit_punch(struct inode *inode, pgoff_t start, pgoff_t end)
{
	return guestmem_fallocate(inode,
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (loff_t)start << PAGE_SHIFT,
				  (loff_t)(end - start) << PAGE_SHIFT);
}

/*
 * Let nobody but the page cache hold a folio, so that reference counts can be
 * compared: make each page private once, which flushes the per-CPU batches.
 */
void gmem_kunit_settle(struct kunit *test, struct inode *inode)
{
	enum guestmem_state state;
	pgoff_t i;

	for (i = 0; i < gmem_nr_pages(inode); i++) {
		state = guestmem_page_state(inode, i);
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i, i + 1,
							    GUESTMEM_SHARED));
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i, i + 1,
							    GUESTMEM_PRIVATE));
		KUNIT_ASSERT_EQ(test, 0, gmem_kunit_convert(inode, i, i + 1, state));
	}
}

void gmem_kunit_snap(struct inode *inode, pgoff_t nr_pages,
		     struct gmem_kunit_snap *snap)
{
	pgoff_t i;

	memset(snap, 0, sizeof(*snap));
	snap->entries = gmem_kunit_entries(inode);
	snap->nrpages = inode->i_mapping->nrpages;
	for (i = 0; i < nr_pages && i < GMEM_KUNIT_SNAP_PAGES; i++) {
		snap->state[i] = guestmem_page_state(inode, i);
		snap->folio[i] = gmem_kunit_folio(inode, i);
		if (snap->folio[i]) {
			snap->refs[i] = folio_ref_count(snap->folio[i]);
			snap->maps[i] = folio_mapcount(snap->folio[i]);
		}
	}
}

/* Without a reference: in a test nobody else frees it. */
struct folio *gmem_kunit_folio(struct inode *inode, pgoff_t index)
{
	return xa_load(&inode->i_mapping->i_pages, index);
}

static void gmem_kunit_memset(struct folio *folio, u8 byte)
{
	void *kaddr = kmap_local_folio(folio, 0);

	memset(kaddr, byte, PAGE_SIZE);
	kunmap_local(kaddr);
}

/* Populate a page, as a guest does that writes to it. */
void gmem_kunit_fill(struct kunit *test, struct inode *inode, pgoff_t index,
		     u8 byte)
{
	struct folio *folio;

	filemap_invalidate_lock_shared(inode->i_mapping);
	folio = guestmem_get_folio(inode, index, true, NULL);
	filemap_invalidate_unlock_shared(inode->i_mapping);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);

	guestmem_init_folio(folio);
	gmem_kunit_memset(folio, byte);
	folio_unlock(folio);
	folio_put(folio);
}

bool gmem_kunit_holds(struct inode *inode, pgoff_t index, u8 byte)
{
	struct folio *folio = gmem_kunit_folio(inode, index);
	void *kaddr;
	bool holds;

	if (!folio || !folio_test_uptodate(folio))
		return false;

	kaddr = kmap_local_folio(folio, 0);
	holds = !memchr_inv(kaddr, byte, PAGE_SIZE);
	kunmap_local(kaddr);

	return holds;
}

/* Leave dirt in the free pages that are handed out next. */
void gmem_kunit_litter(struct kunit *test)
{
	struct folio *folios[32];
	int i;

	for (i = 0; i < ARRAY_SIZE(folios); i++) {
		folios[i] = folio_alloc(GFP_HIGHUSER, 0);
		if (folios[i])
			gmem_kunit_memset(folios[i], 0xa5);
	}
	for (i = 0; i < ARRAY_SIZE(folios); i++)
		if (folios[i])
			folio_put(folios[i]);
}

#ifdef CONFIG_MEMORY_FAILURE
static void gmem_kunit_unpoison_action(void *data)
{
	ClearPageHWPoison(data);
}

void gmem_kunit_poison(struct kunit *test, struct inode *inode, pgoff_t index)
{
	struct folio *folio = gmem_kunit_folio(inode, index);

	KUNIT_ASSERT_NOT_NULL(test, folio);
	SetPageHWPoison(folio_page(folio, 0));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test,
						  gmem_kunit_unpoison_action,
						  folio_page(folio, 0)));
}

void gmem_kunit_unpoison(struct kunit *test, struct inode *inode, pgoff_t index)
{
	kunit_release_action(test, gmem_kunit_unpoison_action,
			     folio_page(gmem_kunit_folio(inode, index), 0));
}
#else
void gmem_kunit_poison(struct kunit *test, struct inode *inode, pgoff_t index)
{
	kunit_skip(test, "no poisoned pages: needs CONFIG_MEMORY_FAILURE");
}

void gmem_kunit_unpoison(struct kunit *test, struct inode *inode, pgoff_t index)
{
}
#endif

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_FAIL_PAGE_ALLOC) && \
	defined(CONFIG_FAULT_INJECTION_DEBUG_FS)
/*
 * The knobs of fault injection.  Their defaults spare allocations that may
 * sleep, which here is all of them, and single pages; and each failure would
 * leave a backtrace in the log.
 */
struct gmem_kunit_knob {
	const char *dir;
	const char *name;
	size_t size;
	unsigned long value;
	void *addr;
	unsigned long saved;
};

enum { KNOB_SPACE, KNOB_TIMES };

static struct gmem_kunit_knob gmem_kunit_knobs[] = {
	[KNOB_SPACE] = { "failslab", "space", sizeof(atomic_t) },
	[KNOB_TIMES] = { "failslab", "times", sizeof(atomic_t), INT_MAX },
	/* First of all, so that other tasks never see what follows. */
	{ "failslab", "task-filter", sizeof(bool), true },
	{ "failslab", "interval", sizeof(unsigned long), 1 },
	{ "failslab", "probability", sizeof(unsigned long), 100 },
	{ "failslab", "ignore-gfp-wait", sizeof(bool) },
	{ "failslab", "cache-filter", sizeof(bool) },
	{ "failslab", "verbose", sizeof(unsigned long) },
	{ "fail_page_alloc", "ignore-gfp-wait", sizeof(bool) },
	{ "fail_page_alloc", "ignore-gfp-highmem", sizeof(bool) },
	{ "fail_page_alloc", "min-order", sizeof(u32) },
	{ "fail_page_alloc", "verbose", sizeof(unsigned long) },
};

static bool gmem_kunit_armed_once;

static void *gmem_kunit_knob_addr(const struct gmem_kunit_knob *knob)
{
	struct dentry *dir, *file;
	void *addr;

	dir = debugfs_lookup(knob->dir, NULL);
	if (IS_ERR_OR_NULL(dir))
		return NULL;
	file = debugfs_lookup(knob->name, dir);
	dput(dir);
	if (IS_ERR_OR_NULL(file))
		return NULL;
	addr = d_inode(file)->i_private;
	dput(file);

	return addr;
}

static void gmem_kunit_fault_restore(void *data)
{
	struct gmem_kunit_knob *knob = data;

	memcpy(knob->addr, &knob->saved, knob->size);
}

void gmem_kunit_fault_setup(struct kunit *test)
{
	struct gmem_kunit_knob *knob;
	int i;

	for (i = 0; i < ARRAY_SIZE(gmem_kunit_knobs); i++) {
		knob = &gmem_kunit_knobs[i];
		knob->addr = gmem_kunit_knob_addr(knob);
		if (!knob->addr)
			kunit_skip(test, "debugfs has no %s/%s", knob->dir,
				   knob->name);

		memcpy(&knob->saved, knob->addr, knob->size);
		memcpy(knob->addr, &knob->value, knob->size);
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test,
							  gmem_kunit_fault_restore,
							  knob));
	}
}

void gmem_kunit_fault_arm(enum gmem_kunit_fault how, unsigned int n)
{
	gmem_kunit_armed_once = how == GMEM_KUNIT_FAIL_ONCE;
	atomic_set(gmem_kunit_knobs[KNOB_SPACE].addr, n * 64);
	atomic_set(gmem_kunit_knobs[KNOB_TIMES].addr, INT_MAX);
	if (gmem_kunit_armed_once)
		WRITE_ONCE(current->fail_nth, n);
	else
		current->make_it_fail = 1;
}

bool gmem_kunit_fault_disarm(void)
{
	bool failed;

	if (gmem_kunit_armed_once)
		failed = !READ_ONCE(current->fail_nth);
	else
		failed = atomic_read(gmem_kunit_knobs[KNOB_TIMES].addr) != INT_MAX;
	WRITE_ONCE(current->fail_nth, 0);
	current->make_it_fail = 0;

	return failed;
}
#else
void gmem_kunit_fault_setup(struct kunit *test)
{
	kunit_skip(test, "no fault injection: see tests/.kunitconfig");
}

void gmem_kunit_fault_arm(enum gmem_kunit_fault how, unsigned int n)
{
}

bool gmem_kunit_fault_disarm(void)
{
	return false;
}
#endif

MODULE_DESCRIPTION("KUnit tests of guest memory");
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_LICENSE("GPL");
