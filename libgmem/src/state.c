/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Queries: states and statistics. */
#include "backend.h"

#define RUNS 32

int gmem_walk(const struct gmem *memory, bool by_node, uint64_t offset, uint64_t end,
	      gmem_run_fn fn, void *data, uint64_t *at)
{
	const struct gmem_backend *backend = memory->backend;
	struct kvm_gmem_range runs[RUNS];
	int n, i, r;

	for (*at = offset; *at < end; *at = runs[n - 1].offset + runs[n - 1].size) {
		n = (by_node	     ? backend->nodes
		     : backend->runs ? backend->runs
				     : gmem_noted_runs)(memory, *at, end, by_node, runs, RUNS);
		if (n < 0)
			return n;
		for (i = 0; i < n; i++) {
			r = fn(data, &runs[i]);
			if (r)
				return r;
		}
	}
	return 0;
}

int gmem_run_at(const struct gmem *memory, uint64_t offset, uint64_t end, uint32_t *state,
		uint64_t *run_end)
{
	const struct gmem_backend *backend = memory->backend;
	struct kvm_gmem_range run;
	int r;

	r = (backend->runs ? backend->runs : gmem_noted_runs)(memory, offset, end, false, &run, 1);
	if (r < 0)
		return r;
	*state = gmem_run_state(&run);
	*run_end = run.offset + run.size;
	return 0;
}

static int cannot_query(int r, uint64_t offset, struct gmem_error *error)
{
	return gmem_fail(error, GMEM_STEP_QUERY, r, GMEM_NOWHERE, offset,
			 "The kernel does not say what the memory holds (errno %d).", -r);
}

/* A failure is said to be at that place. */
static int resident_or_say(const struct gmem *memory, int fd, uint64_t offset, uint64_t bytes,
			   uint64_t place, uint64_t *resident, struct gmem_error *error)
{
	uint64_t pages;
	int r;

	r = memory->vm->sys->cachestat(fd, offset, bytes, &pages);
	if (r == -ENOSYS)
		return gmem_fail(error, GMEM_STEP_QUERY, r, GMEM_NOWHERE, place,
				 "The kernel does not say what the memory holds: it has no "
				 "cachestat() (CONFIG_CACHESTAT_SYSCALL).");
	if (r < 0)
		return cannot_query(r, place, error);
	*resident = pages * memory->vm->page;
	return 0;
}

int gmem_resident(const struct gmem *memory, int fd, uint64_t offset, uint64_t bytes,
		  uint64_t *resident, struct gmem_error *error)
{
	return resident_or_say(memory, fd, offset, bytes, offset, resident, error);
}

PUBLIC int gmem_next_range(struct gmem_vm *vm, uint64_t gpa, uint64_t end,
			   struct gmem_range *ret_range)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	uint64_t limit, run_end;
	const struct piece *b;
	int r = 0;
	size_t i;

	if (!vm || gmem_check_out(ret_range, GMEM_RANGE_1_0) || gpa % vm->page || end % vm->page ||
	    gpa > end)
		return -EINVAL;
	if (gpa == end)
		return 0;
	range.gpa = gpa;
	pthread_rwlock_rdlock(&vm->lock);
	i = gmem_find_binding(vm, gpa);
	b = i < vm->nr_bindings ? &vm->bindings[i] : NULL;
	if (!b || b->gpa > gpa) {
		range.offset = GMEM_NOWHERE;
		range.state = GMEM_STATE_UNBACKED;
		range.bytes = (b && b->gpa < end ? b->gpa : end) - gpa;
	} else {
		range.memory = b->memory;
		range.offset = b->offset + (gpa - b->gpa);
		range.slot = b->slot;
		limit = b->bytes - (gpa - b->gpa);
		if (limit > end - gpa)
			limit = end - gpa;
		r = gmem_run_at(b->memory, range.offset, range.offset + limit, &range.state,
				&run_end);
		range.bytes = run_end - range.offset;
	}
	pthread_rwlock_unlock(&vm->lock);
	if (r < 0)
		return r;
	gmem_copy_out(ret_range, &range, sizeof(range));
	return 1;
}

PUBLIC int gmem_next_offset_range(struct gmem *memory, uint64_t offset, uint64_t end,
				  struct gmem_range *ret_range)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	uint64_t run_end;
	int r;

	if (!memory || gmem_check_out(ret_range, GMEM_RANGE_1_0) || offset % memory->vm->page ||
	    end % memory->vm->page || offset > end || end > memory->bytes)
		return -EINVAL;
	if (offset == end)
		return 0;
	pthread_rwlock_rdlock(&memory->vm->lock);
	r = gmem_run_at(memory, offset, end, &range.state, &run_end);
	pthread_rwlock_unlock(&memory->vm->lock);
	if (r < 0)
		return r;
	range.memory = memory;
	range.gpa = GMEM_NOWHERE;
	range.offset = offset;
	range.bytes = run_end - offset;
	gmem_copy_out(ret_range, &range, sizeof(range));
	return 1;
}

static int add_private(void *data, const struct kvm_gmem_range *run)
{
	uint64_t *bytes = data;

	if (gmem_run_state(run) == GMEM_STATE_PRIVATE)
		*bytes += run->size;
	return 0;
}

PUBLIC int gmem_stats(struct gmem *memory, struct gmem_stats *ret_stats, struct gmem_error *error)
{
	struct gmem_stats stats = GMEM_STATS_INIT;
	uint64_t at;
	int r;

	if (!memory || !gmem_error_ok(error) || gmem_check_out(ret_stats, GMEM_STATS_1_0))
		return gmem_bad(
			error, "The memory is NULL, or the result is NULL or has an invalid size.");
	stats.bytes = memory->bytes;
	stats.conversions = atomic_load_explicit(&memory->conversions, memory_order_relaxed);
	stats.refusals = atomic_load_explicit(&memory->refusals, memory_order_relaxed);
	pthread_rwlock_rdlock(&memory->vm->lock);
	stats.bound_bytes = memory->bound_bytes;
	r = gmem_walk(memory, false, 0, memory->bytes, add_private, &stats.private_bytes, &at);
	if (memory->residue)
		stats.residue = memory->vm->page *
				gmem_bitmap_count(memory->residue, 0, gmem_pages(memory));
	pthread_rwlock_unlock(&memory->vm->lock);
	stats.shared_bytes = stats.bytes - stats.private_bytes;
	if (r < 0)
		return cannot_query(r, GMEM_NOWHERE, error);
	if (memory->backend->resident) {
		r = memory->backend->resident(memory, &stats.resident_guest);
		if (r < 0)
			return cannot_query(r, GMEM_NOWHERE, error);
	} else {
		r = resident_or_say(memory, memory->fd, 0, memory->bytes, GMEM_NOWHERE,
				    &stats.resident_guest, error);
	}
	if (!r && memory->shared_fd != memory->fd)
		r = resident_or_say(memory, memory->shared_fd, 0, memory->bytes, GMEM_NOWHERE,
				    &stats.resident_shared, error);
	if (r < 0)
		return r;
	gmem_copy_out(ret_stats, &stats, sizeof(stats));
	return 0;
}
