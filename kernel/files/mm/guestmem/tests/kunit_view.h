/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _MM_GUESTMEM_KUNIT_VIEW_H
#define _MM_GUESTMEM_KUNIT_VIEW_H

/*
 * A hypervisor without guests, which records what the library tells it, and
 * what else the suites share.
 */

#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/prandom.h>

#include "../internal.h"

/**
 * struct gmem_kunit_view - a view that records invalidations
 * @view: for the library
 * @inode: what it is a view of
 * @begins: how many invalidations began
 * @ends: how many ended
 * @start: of the last that began
 * @end: of the last that began
 * @states: of the last that began
 * @at_begin: state of @start when the last one began
 * @at_end: state of @start when the last one ended
 * @locked: @start had a folio, which was locked, when the last one began
 * @peeked: it could be had without a lock when the last one began, and ended
 * @depth: invalidations that have begun and not ended
 * @errors: ends without a begin, or of another range
 * @slow: let others run between begin and end
 */
struct gmem_kunit_view {
	struct guestmem_view view;
	struct inode *inode;
	unsigned int begins;
	unsigned int ends;
	pgoff_t start;
	pgoff_t end;
	enum guestmem_state states;
	enum guestmem_state at_begin;
	enum guestmem_state at_end;
	bool locked;
	bool peeked;
	atomic_t depth;
	atomic_t errors;
	bool slow;
};

/**
 * struct gmem_kunit_log - calls of the hypervisor's functions, in their order
 * @nr: how many there were; the first ones are recorded below
 * @what: a letter each: [B]egin, [R]eclaim, [E]nd
 * @index: first index of each
 */
struct gmem_kunit_log {
	unsigned int nr;
	char what[64];
	pgoff_t index[64];
};

#define GMEM_KUNIT_SNAP_PAGES	64

/**
 * struct gmem_kunit_snap - all there is to know of a small inode
 * @entries: of the shareability tree
 * @nrpages: populated
 * @state: of each page
 * @folio: of each page
 * @refs: of each folio
 * @maps: of each folio
 */
struct gmem_kunit_snap {
	unsigned int entries;
	unsigned long nrpages;
	enum guestmem_state state[GMEM_KUNIT_SNAP_PAGES];
	struct folio *folio[GMEM_KUNIT_SNAP_PAGES];
	int refs[GMEM_KUNIT_SNAP_PAGES];
	int maps[GMEM_KUNIT_SNAP_PAGES];
};

extern unsigned int gmem_kunit_rounds;
extern struct gmem_kunit_log gmem_kunit_log;
extern const struct guestmem_ops gmem_kunit_ops;

#define GMEM_KUNIT_NAME		"[gmem-kunit]"

/* The suites' .init: what is recorded is of one test. */
int gmem_kunit_init(struct kunit *test);

/* All of these are undone when the test ends, if the test has not done so. */
struct inode *gmem_kunit_create(struct kunit *test, pgoff_t nr_pages,
				unsigned int flags);
struct inode *gmem_kunit_create_states(struct kunit *test, const char *states);
void gmem_kunit_iput(struct kunit *test, struct inode *inode);
struct gmem_kunit_view *gmem_kunit_attach(struct kunit *test,
					  struct inode *inode);
void gmem_kunit_detach(struct kunit *test, struct gmem_kunit_view *view);
struct file *gmem_kunit_open(struct kunit *test, struct inode *inode);
unsigned long gmem_kunit_mmap(struct kunit *test, struct file *file,
			      pgoff_t index, unsigned long nr_pages);
int gmem_kunit_bind(unsigned long addr, int node);
struct task_struct *gmem_kunit_run(struct kunit *test, int (*fn)(void *data),
				   void *data);
void gmem_kunit_stop(struct kunit *test, struct task_struct *task);

/* Let other threads run. */
void gmem_kunit_pause(void);

/* States, as a letter for each page: P or S. */
unsigned int gmem_kunit_entries(struct inode *inode);
const char *gmem_kunit_compare(struct inode *inode,
			       const unsigned long *private, pgoff_t nr_pages);
void gmem_kunit_expect_states(struct kunit *test, struct inode *inode,
			      const char *states);
int gmem_kunit_convert(struct inode *inode, pgoff_t start, pgoff_t end,
		       enum guestmem_state to);
long gmem_kunit_punch(struct inode *inode, pgoff_t start, pgoff_t end);
void gmem_kunit_settle(struct kunit *test, struct inode *inode);
void gmem_kunit_snap(struct inode *inode, pgoff_t nr_pages,
		     struct gmem_kunit_snap *snap);

/* Contents: each byte of a page is the same. */
struct folio *gmem_kunit_folio(struct inode *inode, pgoff_t index);
void gmem_kunit_fill(struct kunit *test, struct inode *inode, pgoff_t index,
		     u8 byte);
bool gmem_kunit_holds(struct inode *inode, pgoff_t index, u8 byte);
void gmem_kunit_litter(struct kunit *test);

/* Poison by hand, taken back when the test ends; skips where there is none. */
void gmem_kunit_poison(struct kunit *test, struct inode *inode, pgoff_t index);
void gmem_kunit_unpoison(struct kunit *test, struct inode *inode,
			 pgoff_t index);

/*
 * Skip the test unless allocations can be made to fail; otherwise prepare for
 * that, for every kind of allocation, until the test ends.
 */
void gmem_kunit_fault_setup(struct kunit *test);

/* Ways for allocations to fail. */
enum gmem_kunit_fault {
	GMEM_KUNIT_FAIL_ONCE,		/* the n-th, counted from 1 */
	GMEM_KUNIT_FAIL_FROM,		/* all small ones once n * 64 bytes were had */
	GMEM_KUNIT_FAULTS
};

/* Let allocations of this task fail from here on. */
void gmem_kunit_fault_arm(enum gmem_kunit_fault how, unsigned int n);

/* Return: whether any has failed since. */
bool gmem_kunit_fault_disarm(void);

static inline bool gmem_kunit_mapped(struct inode *inode, pgoff_t index)
{
	struct folio *folio = gmem_kunit_folio(inode, index);

	return folio && folio_mapped(folio);
}

/* No less than @floor, and less than @ceil. */
static inline u32 gmem_kunit_random(struct rnd_state *rnd, u32 floor, u32 ceil)
{
	return floor + prandom_u32_state(rnd) % (ceil - floor);
}

#endif /* _MM_GUESTMEM_KUNIT_VIEW_H */
