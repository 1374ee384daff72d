/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library notes about each page of a memory: its state, where the kernel does not
 * tell it; what the unused side could not be freed of; and the plan, which is what a change
 * that is under way concerns. Once the state has changed, it does not show any more what has
 * to be committed or undone. All are allocated with the memory, so that changes allocate
 * nothing.
 */
#include "backend.h"

int gmem_notes_reserve(struct gmem *memory)
{
	const struct gmem_backend *backend = memory->backend;
	const struct gmem_sys *sys = memory->vm->sys;
	const size_t words = gmem_bitmap_words(gmem_pages(memory));

	if (!backend->convert)
		return 0;
	memory->plan = sys->alloc(words, sizeof(long));
	if (!memory->plan)
		return -ENOMEM;
	if (!backend->runs) {
		memory->private = sys->alloc(words, sizeof(long));
		if (!memory->private)
			return -ENOMEM;
	}
	if (backend->free_unused) {
		memory->residue = sys->alloc(words, sizeof(long));
		if (!memory->residue)
			return -ENOMEM;
	}
	return 0;
}

void gmem_notes_release(struct gmem *memory)
{
	const struct gmem_sys *sys = memory->vm->sys;

	sys->release(memory->plan);
	sys->release(memory->private);
	sys->release(memory->residue);
}

int gmem_noted_runs(const struct gmem *memory, uint64_t offset, uint64_t end, bool by_node,
		    struct kvm_gmem_range *runs, uint32_t nr)
{
	const uint64_t page = memory->vm->page;
	uint64_t stop;
	uint32_t i;

	(void)by_node;
	for (i = 0; i < nr && offset < end; i++, offset = stop) {
		bool private = false;

		stop = end;
		if (memory->private) {
			const uint64_t at = offset / page;

			private = gmem_bitmap_find(memory->private, at, at + 1, true) == at;
			stop = page * gmem_bitmap_find(memory->private, at, end / page, !private);
		}
		runs[i] = (struct kvm_gmem_range){
			.offset = offset,
			.size = stop - offset,
			.flags = private ? KVM_GMEM_RANGE_PRIVATE : 0,
		};
	}
	return (int)i;
}

static void fill(const struct gmem *memory, unsigned long *map, uint64_t start, uint64_t end,
		 bool value)
{
	const uint64_t page = memory->vm->page;

	gmem_bitmap_fill(map, start / page, end / page, value);
}

void gmem_note_state(struct gmem *memory, uint64_t start, uint64_t end, uint32_t state)
{
	if (memory->private)
		fill(memory, memory->private, start, end, state == GMEM_STATE_PRIVATE);
}

void gmem_note_residue(struct gmem *memory, uint64_t start, uint64_t end, bool left)
{
	if (memory->residue)
		fill(memory, memory->residue, start, end, left);
}

struct planning {
	struct gmem *memory;
	uint32_t state;
	bool any;
};

static int plan_run(void *data, const struct kvm_gmem_range *run)
{
	struct planning *planning = data;
	const bool planned = gmem_run_state(run) == planning->state;

	fill(planning->memory, planning->memory->plan, run->offset, run->offset + run->size,
	     planned);
	planning->any |= planned;
	return 0;
}

int gmem_plan(const struct piece *p, uint32_t state, bool *any, struct gmem_error *error)
{
	struct planning planning = {p->memory, state, false};
	uint64_t at;
	int r;

	if (!p->memory->plan) {
		*any |= state == GMEM_STATE_SHARED;
		return 0;
	}
	r = gmem_walk(p->memory, false, p->offset, p->offset + p->bytes, plan_run, &planning, &at);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_QUERY, r, gmem_piece_gpa(p, at), at,
				 "The kernel does not report what is private (errno %d).", -r);
	*any |= planning.any;
	return 0;
}

void gmem_unplan(struct gmem *memory, uint64_t start, uint64_t end)
{
	fill(memory, memory->plan, start, end, false);
}

/* [start, end) of a piece, in pages, as a piece of its own. */
static void cut(const struct piece *p, uint64_t start, uint64_t end, struct piece *run)
{
	const uint64_t page = p->memory->vm->page;

	*run = *p;
	run->offset = start * page;
	run->bytes = (end - start) * page;
	if (p->gpa != GMEM_NOWHERE)
		run->gpa = p->gpa + (run->offset - p->offset);
}

bool gmem_next_run(const struct piece *p, uint64_t *at, struct piece *run)
{
	const uint64_t page = p->memory->vm->page, limit = (p->offset + p->bytes) / page;
	const unsigned long *plan = p->memory->plan;
	uint64_t start = *at / page, end = limit;

	if (plan) {
		start = gmem_bitmap_find(plan, start, limit, true);
		end = gmem_bitmap_find(plan, start, limit, false);
	}
	if (start >= limit)
		return false;
	cut(p, start, end, run);
	*at = end * page;
	return true;
}

bool gmem_last_run(const struct piece *p, uint64_t *limit, struct piece *run)
{
	const uint64_t page = p->memory->vm->page, first = p->offset / page;
	uint64_t start = first, end = *limit / page;

	if (p->memory->plan ? !gmem_bitmap_last_run(p->memory->plan, first, &start, &end)
			    : end <= start)
		return false;
	cut(p, start, end, run);
	*limit = start * page;
	return true;
}
