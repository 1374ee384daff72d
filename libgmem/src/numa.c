/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* NUMA policy and placement. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <numa.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"

#ifndef MPOL_PREFERRED_MANY
#define MPOL_PREFERRED_MANY 5
#endif
#ifndef MPOL_MODE_FLAGS
#define MPOL_MODE_FLAGS (7 << 13)
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define STEP_BYTES (UINT64_C(32) << 20)

static const int kernel_policy[] = {
	[GMEM_POLICY_DEFAULT] = MPOL_DEFAULT,
	[GMEM_POLICY_BIND] = MPOL_BIND,
	[GMEM_POLICY_PREFERRED] = MPOL_PREFERRED_MANY,
	[GMEM_POLICY_INTERLEAVE] = MPOL_INTERLEAVE,
};

/* Not libnuma's functions for this, which may print. */
static bool bitmask_test(const struct bitmask *mask, unsigned long bit)
{
	const unsigned long bits = 8 * sizeof(unsigned long);

	return bit < mask->size && mask->maskp[bit / bits] >> bit % bits & 1;
}

static int to_words(const struct bitmask *nodes, unsigned long *words, struct gmem_error *error)
{
	const unsigned long bits = 8 * sizeof(unsigned long);
	bool any = false;
	unsigned long i;

	memset(words, 0, GMEM_NODE_WORDS * sizeof(*words));
	for (i = 0; i < nodes->size; i++) {
		if (!bitmask_test(nodes, i))
			continue;
		if (i >= GMEM_MAX_NODES)
			return gmem_bad(error, "Node %lu does not exist.", i);
		words[i / bits] |= 1UL << i % bits;
		any = true;
	}
	return any ? 0 : gmem_bad(error, "The set of nodes is empty.");
}

static int no_numa(uint64_t offset, struct gmem_error *error)
{
	return gmem_fail(error, GMEM_STEP_POLICY, -EOPNOTSUPP, GMEM_NOWHERE, offset,
			 "The kernel has no NUMA policies: it was built without CONFIG_NUMA.");
}

/* A mapping to act on, since policies are set through one. */
static int set_policy(struct gmem *memory, uint64_t offset, uint64_t bytes, int mode,
		      const unsigned long *words, struct gmem_error *error)
{
	const struct gmem_sys *sys = memory->vm->sys;
	void *map;
	int r;

	r = sys->mmap(memory->shared_fd, offset, bytes, PROT_READ, &map);
	if (r >= 0) {
		/* That a mapping has no policy reaches the memory only where it had one. */
		if (mode == MPOL_DEFAULT)
			r = sys->mbind(map, bytes, MPOL_LOCAL, NULL, 0);
		if (r >= 0)
			r = sys->mbind(map, bytes, mode, words, GMEM_MAX_NODES);
		sys->munmap(map, bytes);
	}
	if (r == -ENOSYS)
		return no_numa(offset, error);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_POLICY, r, GMEM_NOWHERE, offset,
				 "Cannot set the policy of %#llx bytes at %#llx (errno %d): do the "
				 "nodes exist, and may the process use them?",
				 (unsigned long long)bytes, (unsigned long long)offset, -r);
	return 0;
}

/* NULL: it can have one. */
static const char *why_no_policy(const struct gmem *memory)
{
	/* mbind() succeeds: on the mapping only, and hugetlbfs has no policy of a file. */
	if (memory->page != memory->vm->page)
		return "A policy does not reach a file of huge pages: gmem_prealloc() can place "
		       "its memory.";
	if (memory->backend->memfd_policy)
		return NULL;
	return gmem_vm_why_not(memory->vm, GMEM_CAP_POLICY);
}

static int need_policy(const struct gmem *memory, uint64_t offset, struct gmem_error *error)
{
	const char *why = why_no_policy(memory);

	if (!why)
		return 0;
	return gmem_fail(error, GMEM_STEP_POLICY, -EOPNOTSUPP, GMEM_NOWHERE, offset, "%s", why);
}

PUBLIC int gmem_set_policy(struct gmem *memory, uint64_t offset, uint64_t bytes, uint32_t policy,
			   const struct bitmask *nodes, struct gmem_error *error)
{
	unsigned long words[GMEM_NODE_WORDS];
	int r;

	r = gmem_check_file_range(memory, offset, bytes, error);
	if (r)
		return r;
	if (policy > GMEM_POLICY_INTERLEAVE)
		return gmem_bad(error, "Policy %u does not exist.", policy);
	if (!nodes != (policy == GMEM_POLICY_DEFAULT))
		return gmem_bad(
			error,
			"Every policy except the default needs nodes, and the default has none.");
	if (nodes) {
		r = to_words(nodes, words, error);
		if (r)
			return r;
	}
	r = need_policy(memory, offset, error);
	if (r)
		return r;
	r = set_policy(memory, offset, bytes, kernel_policy[policy], nodes ? words : NULL, error);
	if (!r)
		gmem_log(memory->vm, "set policy %u of %#llx bytes at offset %#llx", policy,
			 (unsigned long long)bytes, (unsigned long long)offset);
	return r;
}

PUBLIC int gmem_get_policy(struct gmem *memory, uint64_t offset, uint32_t *ret_policy,
			   struct bitmask *ret_nodes, struct gmem_error *error)
{
	const unsigned long bits = 8 * sizeof(unsigned long);
	unsigned long words[GMEM_NODE_WORDS] = {0}, i;
	const struct gmem_sys *sys;
	uint32_t policy;
	void *map;
	int mode, r;

	r = gmem_check_file_range(memory, offset, memory ? memory->page : 0, error);
	if (!r && !ret_policy)
		r = gmem_bad(error, "The pointer to the policy is NULL.");
	if (!r)
		r = need_policy(memory, offset, error);
	if (r)
		return r;
	sys = memory->vm->sys;
	r = sys->mmap(memory->shared_fd, offset, memory->page, PROT_READ, &map);
	if (r >= 0) {
		r = sys->get_mempolicy(&mode, words, GMEM_MAX_NODES, map, MPOL_F_ADDR);
		sys->munmap(map, memory->page);
	}
	if (r == -ENOSYS)
		return no_numa(offset, error);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_POLICY, r, GMEM_NOWHERE, offset,
				 "Cannot read the policy at %#llx (errno %d).",
				 (unsigned long long)offset, -r);
	mode &= ~MPOL_MODE_FLAGS;
	if (mode == MPOL_PREFERRED)
		mode = MPOL_PREFERRED_MANY;
	for (policy = GMEM_POLICY_DEFAULT; policy <= GMEM_POLICY_INTERLEAVE; policy++)
		if (kernel_policy[policy] == mode)
			break;
	if (policy > GMEM_POLICY_INTERLEAVE)
		return gmem_fail(error, GMEM_STEP_POLICY, -EOPNOTSUPP, GMEM_NOWHERE, offset,
				 "This library does not know the policy at %#llx (%d).",
				 (unsigned long long)offset, mode);
	if (ret_nodes) {
		for (i = ret_nodes->size; i < GMEM_MAX_NODES; i++)
			if (words[i / bits] >> i % bits & 1)
				return gmem_fail(error, GMEM_STEP_POLICY, -ERANGE, GMEM_NOWHERE,
						 offset, "The node set has no room for node %lu.",
						 i);
		memset(ret_nodes->maskp, 0, (ret_nodes->size + bits - 1) / bits * sizeof(long));
		for (i = 0; i < ret_nodes->size && i < GMEM_MAX_NODES; i++)
			if (words[i / bits] >> i % bits & 1)
				ret_nodes->maskp[i / bits] |= 1UL << i % bits;
	}
	*ret_policy = policy;
	return 0;
}

static int do_allocate(const struct gmem *memory, int fd, uint64_t offset, uint64_t end,
		       struct gmem_error *error)
{
	int r = memory->vm->sys->fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, end - offset);

	if (r < 0 && r != -EINTR)
		return gmem_fail(error, GMEM_STEP_ALLOCATE, r, GMEM_NOWHERE, offset,
				 "The kernel cannot allocate all pages (errno %d).", -r);
	return r;
}

/*
 * All of one state: on the side where that state's memory is. It must not change until it is
 * allocated there, or this would be left behind on the side that a conversion has freed.
 */
static int allocate_side(struct gmem *memory, uint64_t offset, uint64_t end, uint64_t *next,
			 struct gmem_error *error)
{
	uint32_t state;
	int r;

	r = gmem_begin_change(memory->vm, error);
	if (r)
		return r;
	r = gmem_run_at(memory, offset, end, &state, next);
	if (!r)
		r = do_allocate(memory,
				state == GMEM_STATE_PRIVATE ? memory->fd : memory->shared_fd,
				offset, *next, error);
	gmem_end_change(memory->vm);
	return r;
}

/* One step; -EINTR, if a signal arrived, is not said. */
static int allocate_run(struct gmem *memory, uint64_t offset, uint64_t end, uint64_t step,
			uint64_t *next, struct gmem_error *error)
{
	if (end - offset > step)
		end = offset + step;
	if (memory->shared_fd != memory->fd)
		return allocate_side(memory, offset, end, next, error);
	*next = end;
	return do_allocate(memory, memory->fd, offset, end, error);
}

static int allocate(struct gmem *memory, uint64_t offset, uint64_t bytes, gmem_progress_fn progress,
		    void *data, struct gmem_error *error)
{
	uint64_t at = offset, end = offset + bytes, step = STEP_BYTES, next;
	int r;

	for (; at < end; at = next) {
		r = allocate_run(memory, at, end, step, &next, error);
		if (r == -EINTR) {
			/*
			 * A memfd loses what was allocated in a call that a signal ends. Where
			 * signals come faster than a step is done, a smaller one gets through.
			 */
			if (step > memory->page)
				step /= 2;
			next = at;
			continue;
		}
		if (r < 0)
			return r;
		if (step < STEP_BYTES)
			step *= 2;
		/* At the end it is too late to stop anything. */
		r = progress ? progress(data, next - offset, bytes) : 0;
		if (r && next < end)
			return gmem_fail(error, GMEM_STEP_ALLOCATE, r < 0 ? r : -ECANCELED,
					 GMEM_NOWHERE, next, "Stopped by the progress function.");
	}
	return 0;
}

/* By way of the calling thread's policy, where the memory cannot have one. */
static int allocate_as_task(struct gmem *memory, uint64_t offset, uint64_t bytes,
			    const unsigned long *words, gmem_progress_fn progress, void *data,
			    struct gmem_error *error)
{
	const struct gmem_sys *sys = memory->vm->sys;
	unsigned long old[GMEM_NODE_WORDS] = {0};
	int mode, restored, r;

	r = sys->get_mempolicy(&mode, old, GMEM_MAX_NODES, NULL, 0);
	if (r >= 0)
		r = sys->set_mempolicy(MPOL_BIND, words, GMEM_MAX_NODES);
	if (r == -ENOSYS)
		return no_numa(offset, error);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_POLICY, r, GMEM_NOWHERE, offset,
				 "Cannot bind the thread to these nodes (errno %d).", -r);
	r = allocate(memory, offset, bytes, progress, data, error);
	restored = sys->set_mempolicy(mode, mode == MPOL_DEFAULT ? NULL : old, GMEM_MAX_NODES);
	if (restored < 0)
		return gmem_fail(error, GMEM_STEP_POLICY, restored, GMEM_NOWHERE, offset,
				 "The thread stays bound to these nodes: its policy could not be "
				 "restored (errno %d).%s",
				 -restored, r ? " Not all pages were allocated." : "");
	return r;
}

static int prealloc(struct gmem *memory, uint64_t offset, uint64_t bytes,
		    const struct bitmask *nodes, gmem_progress_fn progress, void *data,
		    struct gmem_error *error)
{
	unsigned long words[GMEM_NODE_WORDS];
	int r;

	r = gmem_check_file_range(memory, offset, bytes, error);
	if (!r && nodes)
		r = to_words(nodes, words, error);
	if (r)
		return r;
	if (nodes && !why_no_policy(memory)) {
		r = set_policy(memory, offset, bytes, MPOL_BIND, words, error);
		if (r)
			return r;
	}
	/* What has no policy of its own, as the guest_memfd beside a memfd, has the thread's. */
	if (nodes && (why_no_policy(memory) || memory->shared_fd != memory->fd))
		r = allocate_as_task(memory, offset, bytes, words, progress, data, error);
	else
		r = allocate(memory, offset, bytes, progress, data, error);
	if (!r)
		gmem_log(memory->vm, "allocated %#llx bytes at offset %#llx",
			 (unsigned long long)bytes, (unsigned long long)offset);
	return r;
}

PUBLIC int gmem_prealloc(struct gmem *memory, uint64_t offset, uint64_t bytes,
			 const struct bitmask *nodes, gmem_progress_fn progress, void *data,
			 struct gmem_error *error)
{
	const int cancel = gmem_begin_uncancelled();
	int r = prealloc(memory, offset, bytes, nodes, progress, data, error);

	gmem_end_uncancelled(cancel);
	return r;
}

struct tally {
	uint64_t *bytes;
	unsigned int count;
	bool failed; /* to add, and the error says how */
	struct gmem_error *error;
};

static int add(struct tally *tally, int node, uint64_t bytes, uint64_t offset)
{
	if (node < 0 || (unsigned int)node >= tally->count)
		return gmem_fail(tally->error, GMEM_STEP_QUERY, -ERANGE, GMEM_NOWHERE, offset,
				 "The result has no room for node %d.", node);
	tally->bytes[node] += bytes;
	return 0;
}

static int cannot_tell(struct tally *tally, int r, uint64_t offset)
{
	return gmem_fail(tally->error, GMEM_STEP_QUERY, r, GMEM_NOWHERE, offset,
			 "The kernel does not report the node of the memory at %#llx (errno %d).",
			 (unsigned long long)offset, -r);
}

#define PAGES 128

/*
 * [offset, offset + bytes) is populated: map what is there, and ask page by page. What is freed
 * between this and the look that found it populated is allocated again: no call maps only what is
 * there, and nobody waits for queries.
 */
static int placed_run(struct gmem *memory, int fd, uint64_t offset, uint64_t bytes,
		      struct tally *tally)
{
	const struct gmem_sys *sys = memory->vm->sys;
	const uint64_t page = memory->vm->page;
	void *pages[PAGES], *map;
	int nodes[PAGES], r;
	uint64_t at, n, i;

	r = sys->mmap(fd, offset, bytes, PROT_READ, &map);
	if (r < 0)
		return cannot_tell(tally, r, offset);
	r = sys->madvise(map, bytes, MADV_POPULATE_READ);
	if (r < 0)
		r = cannot_tell(tally, r, offset);
	for (at = 0; !r && at < bytes; at += n * page) {
		n = (bytes - at) / page < PAGES ? (bytes - at) / page : PAGES;
		for (i = 0; i < n; i++)
			pages[i] = (char *)map + at + i * page;
		r = sys->page_nodes(pages, n, nodes);
		if (r < 0)
			r = cannot_tell(tally, r, offset + at);
		for (i = 0; !r && i < n; i++)
			r = nodes[i] < 0 ? cannot_tell(tally, nodes[i], offset + at + i * page)
					 : add(tally, nodes[i], page, offset + at + i * page);
	}
	sys->munmap(map, bytes);
	return r;
}

/* Halve until all or nothing of a part is populated; to look allocates nothing. */
static int placed_by_halves(struct gmem *memory, int fd, uint64_t offset, uint64_t bytes,
			    struct tally *tally)
{
	uint64_t resident, half;
	int r;

	r = gmem_resident(memory, fd, offset, bytes, &resident, tally->error);
	if (r < 0)
		return r;
	if (!resident)
		return 0;
	if (resident >= bytes)
		return placed_run(memory, fd, offset, bytes, tally);
	half = bytes / memory->vm->page / 2 * memory->vm->page;
	r = placed_by_halves(memory, fd, offset, half, tally);
	return r ? r : placed_by_halves(memory, fd, offset + half, bytes - half, tally);
}

/* As the kernel tells it. */
static int add_run(void *data, const struct kvm_gmem_range *run)
{
	struct tally *tally = data;
	int r = run->populated ? add(tally, run->node, run->populated, run->offset) : 0;

	tally->failed = r < 0;
	return r;
}

static int placed_by_kernel(struct gmem *memory, uint64_t offset, uint64_t end, struct tally *tally)
{
	uint64_t at;
	int r = gmem_walk(memory, true, offset, end, add_run, tally, &at);

	return r < 0 && !tally->failed ? cannot_tell(tally, r, at) : r;
}

/* Of a run of private memory, which nothing maps, there has to be none. */
static int check_empty(const struct gmem *memory, uint64_t offset, uint64_t end,
		       struct gmem_error *error)
{
	uint64_t resident;
	int r = gmem_resident(memory, memory->fd, offset, end - offset, &resident, error);

	if (!r && resident)
		r = gmem_fail(error, GMEM_STEP_QUERY, -EOPNOTSUPP, GMEM_NOWHERE, offset,
			      "The kernel does not report the node of private memory.");
	return r;
}

/* As mappings tell it. The state is that of a moment: conversions need not wait for this. */
static int placed_by_mappings(struct gmem *memory, uint64_t offset, uint64_t end,
			      struct tally *tally)
{
	uint64_t run_end;
	uint32_t state;
	int r;

	for (r = 0; !r && offset < end; offset = run_end) {
		pthread_rwlock_rdlock(&memory->vm->lock);
		r = gmem_run_at(memory, offset, end, &state, &run_end);
		pthread_rwlock_unlock(&memory->vm->lock);
		if (r < 0)
			return cannot_tell(tally, r, offset);
		r = state == GMEM_STATE_SHARED ? placed_by_halves(memory, memory->shared_fd, offset,
								  run_end - offset, tally)
					       : check_empty(memory, offset, run_end, tally->error);
	}
	return r;
}

PUBLIC int gmem_placement(struct gmem *memory, uint64_t offset, uint64_t bytes, uint64_t *ret_bytes,
			  unsigned int count, struct gmem_error *error)
{
	uint64_t counted[GMEM_MAX_NODES] = {0};
	struct tally tally = {counted, count, false, error};
	int r;

	r = gmem_check_range(memory, offset, bytes, error);
	if (r)
		return r;
	if (!ret_bytes || !count || count > GMEM_MAX_NODES)
		return gmem_bad(error, "The result is NULL, or does not have 1 to %d nodes.",
				GMEM_MAX_NODES);
	if (memory->backend->nodes && memory->vm->caps & GMEM_CAP_RANGES)
		r = placed_by_kernel(memory, offset, offset + bytes, &tally);
	else
		r = placed_by_mappings(memory, offset, offset + bytes, &tally);
	if (!r)
		memcpy(ret_bytes, counted, count * sizeof(*ret_bytes));
	return r;
}
