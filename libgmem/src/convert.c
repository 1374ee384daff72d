/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The conversion transaction: listeners prepare, the kernel converts, listeners
 * commit; or what was done is undone, last first. Nothing is allocated here.
 *
 * The pages that are going to change are recorded in each memory's 'plan' first, a
 * bit per page: once the state has changed, it does not show any more what has to be
 * committed or undone.
 */
#include "internal.h"

/* A range of addresses of a VM, or of one memory. */
struct target {
	struct gmem_vm *vm;
	struct gmem *memory; /* NULL: by address */
	uint64_t start, end;
	uint32_t to;
};

/* What of the target one kernel call can do: a part of one memory. */
struct piece {
	struct gmem *memory;
	uint64_t offset;
	uint64_t bytes;
	uint64_t gpa; /* GMEM_NOWHERE: not bound, or bound in more than one place */
	uint32_t slot;
};

struct outcome {
	uint64_t residue;
	uint64_t gpa;
	uint64_t offset;
	int32_t residue_error;
	int undone; /* why something could not be undone, or 0 */
};

/* The part of the target that binding i shows. */
static bool bound_piece(const struct target *t, size_t i, struct piece *piece)
{
	const struct binding *b = &t->vm->bindings[i];
	uint64_t base = t->memory ? b->offset : b->gpa, start, end;

	if (t->memory && b->memory != t->memory)
		return false;
	if (t->start >= base + b->bytes || t->end <= base)
		return false;
	start = t->start > base ? t->start - base : 0;
	end = t->end - base < b->bytes ? t->end - base : b->bytes;
	*piece = (struct piece){b->memory, b->offset + start, end - start, b->gpa + start, b->slot};
	return true;
}

/* The n-th kernel call for the target: by address, one a binding; by offset,
 * one. */
static bool call_piece(const struct target *t, size_t n, struct piece *piece)
{
	if (!t->memory)
		return bound_piece(t, n, piece);
	*piece = (struct piece){t->memory, t->start, t->end - t->start, GMEM_NOWHERE, 0};
	return n == 0;
}

static void bounds(const struct target *t, size_t *first, size_t *end)
{
	*first = 0;
	*end = t->vm->nr_bindings;
	if (t->memory)
		return;
	*first = gmem_find_binding(t->vm, t->start);
	*end = *first;
	while (*end < t->vm->nr_bindings && t->vm->bindings[*end].gpa < t->end)
		++*end;
}

static void call_bounds(const struct target *t, size_t *first, size_t *end)
{
	bounds(t, first, end);
	if (t->memory) {
		*first = 0;
		*end = 1;
	}
}

/* The next run of the plan in a piece. */
static bool next_run(const struct piece *p, uint64_t *at, uint64_t *start, uint64_t *end)
{
	const uint64_t page = p->memory->vm->page, limit = (p->offset + p->bytes) / page;

	*start = gmem_bitmap_find(p->memory->plan, *at / page, limit, true);
	if (*start == limit)
		return false;
	*end = gmem_bitmap_find(p->memory->plan, *start, limit, false);
	*start *= page;
	*end *= page;
	*at = *end;
	return true;
}

static bool last_run(const struct piece *p, uint64_t *limit, uint64_t *start, uint64_t *end)
{
	const uint64_t page = p->memory->vm->page;
	uint64_t last = *limit / page;

	if (!gmem_bitmap_last_run(p->memory->plan, p->offset / page, start, &last))
		return false;
	*start *= page;
	*end = last * page;
	*limit = *start;
	return true;
}

static uint64_t piece_gpa(const struct piece *p, uint64_t offset)
{
	if (p->gpa == GMEM_NOWHERE)
		return gmem_gpa_of(p->memory, offset);
	return p->gpa + (offset - p->offset);
}

static uint32_t other(uint32_t state)
{
	return state == GMEM_STATE_PRIVATE ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE;
}

static struct gmem_event make_event(const struct piece *p, uint64_t start, uint64_t end,
				    uint32_t to)
{
	return (struct gmem_event){
		.size = sizeof(struct gmem_event),
		.memory = p->memory,
		.gpa = p->gpa + (start - p->offset),
		.offset = start,
		.bytes = end - start,
		.slot = p->slot,
		.from = other(to),
		.to = to,
	};
}

/* --- the kernel's part */

static inline int convert_in_place(struct gmem *memory, uint64_t offset, uint64_t bytes,
				   uint32_t to, uint64_t flags, uint64_t *bad)
{
	struct kvm_gmem_convert convert = {
		.offset = offset,
		.size = bytes,
		.error_offset = offset,
		.flags = flags & GMEM_CONVERT_ZERO && to == GMEM_STATE_SHARED
				 ? KVM_GMEM_CONVERT_ZERO
				 : 0,
	};
	int r;

	r = memory->vm->sys->ioctl(memory->fd,
				   to == GMEM_STATE_PRIVATE ? KVM_GMEM_CONVERT_PRIVATE
							    : KVM_GMEM_CONVERT_SHARED,
				   &convert);
	*bad = convert.error_offset;
	return r;
}

int gmem_set_attributes(struct gmem_vm *vm, uint64_t gpa, uint64_t bytes, bool private)
{
	struct kvm_memory_attributes attributes = {
		.address = gpa,
		.size = bytes,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};

	return vm->sys->ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &attributes);
}

/* Where a run of a piece that begins at start may be bound: bindings [*first,
 * *last). */
static void bindings_of(const struct target *t, const struct piece *p, uint64_t start,
			size_t *first, size_t *last)
{
	*first = 0;
	*last = t->vm->nr_bindings;
	if (p->gpa == GMEM_NOWHERE)
		return;
	*first = gmem_find_binding(t->vm, p->gpa + (start - p->offset));
	*last = *first + 1;
}

/* Attributes go by address: of a run, where it is bound. *at: the binding it
 * stopped at. */
static int set_attributes_of(const struct target *t, const struct piece *call, uint64_t start,
			     uint64_t end, size_t *at)
{
	const struct target part = {t->vm, call->memory, start, end, t->to};
	struct piece p;
	size_t last;
	int r;

	for (bindings_of(t, call, start, at, &last); *at < last; ++*at) {
		if (!bound_piece(&part, *at, &p))
			continue;
		r = gmem_set_attributes(t->vm, p.gpa, p.bytes, t->to == GMEM_STATE_PRIVATE);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * What does not go back has the new state, and is no part of the plan any more:
 * the listeners commit it, and do not roll it back, so that all agree about
 * what is so.
 */
static void keep(const struct target *t, struct gmem *memory, uint64_t start, uint64_t end,
		 int reason, struct outcome *out)
{
	const struct target part = {t->vm, memory, start, end, t->to};
	const uint64_t page = t->vm->page;
	struct gmem_event event;
	struct piece p;
	size_t i;

	out->undone = reason;
	for (i = 0; i < t->vm->nr_bindings; i++) {
		if (!bound_piece(&part, i, &p))
			continue;
		event = make_event(&p, p.offset, p.offset + p.bytes, t->to);
		gmem_tell_commit(t->vm, &event);
	}
	gmem_bitmap_fill(memory->plan, start / page, end / page, false);
	if (memory->mode != GMEM_MODE_DUAL)
		return;
	out->residue += end - start;
	out->residue_error = reason;
	pthread_rwlock_wrlock(&t->vm->lock);
	gmem_bitmap_fill(memory->private, start / page, end / page, t->to == GMEM_STATE_PRIVATE);
	gmem_bitmap_fill(memory->residue, start / page, end / page, true);
	pthread_rwlock_unlock(&t->vm->lock);
}

/* Undo what was done to a run, in bindings below that one. */
static void undo_attributes(const struct target *t, const struct piece *call, uint64_t start,
			    uint64_t end, size_t below, struct outcome *out)
{
	const struct target part = {t->vm, call->memory, start, end, t->to};
	size_t first, last;
	struct piece p;
	int r;

	bindings_of(t, call, start, &first, &last);
	if (last > below)
		last = below;
	while (last-- > first) {
		if (!bound_piece(&part, last, &p))
			continue;
		r = gmem_set_attributes(t->vm, p.gpa, p.bytes, t->to != GMEM_STATE_PRIVATE);
		if (r < 0)
			keep(t, p.memory, p.offset, p.offset + p.bytes, r, out);
	}
}

/* Undo what the plan says of a piece, below limit. */
static void undo_piece(const struct target *t, const struct piece *p, uint64_t limit,
		       struct outcome *out)
{
	uint64_t start, end, bad;
	int r;

	if (p->memory->mode == GMEM_MODE_SHARED)
		return;
	while (last_run(p, &limit, &start, &end)) {
		if (p->memory->mode == GMEM_MODE_DUAL) {
			undo_attributes(t, p, start, end, SIZE_MAX, out);
			continue;
		}
		r = convert_in_place(p->memory, start, end - start, other(t->to), 0, &bad);
		if (r < 0)
			keep(t, p->memory, start, end, r, out);
	}
}

static int convert_dual(const struct target *t, const struct piece *p, uint64_t flags,
			uint64_t *bad, struct outcome *out)
{
	uint64_t at = p->offset, start, end;
	size_t stopped;
	int r;

	while (next_run(p, &at, &start, &end)) {
		*bad = start;
		/* The host may have written to what the guest does not see yet. */
		r = flags & GMEM_CONVERT_ZERO
			    ? gmem_punch(p->memory, p->memory->shared_fd, start, end - start)
			    : 0;
		stopped = 0;
		if (r >= 0)
			r = set_attributes_of(t, p, start, end, &stopped);
		if (r < 0) {
			undo_attributes(t, p, start, end, stopped, out);
			undo_piece(t, p, start, out);
			return r;
		}
	}
	return 0;
}

static int convert_piece(const struct target *t, const struct piece *p, uint64_t flags,
			 uint64_t *bad, struct outcome *out)
{
	switch (p->memory->mode) {
	case GMEM_MODE_INPLACE:
		return convert_in_place(p->memory, p->offset, p->bytes, t->to, flags, bad);
	case GMEM_MODE_DUAL:
		return convert_dual(t, p, flags, bad, out);
	default:
		return 0; /* all of it is shared */
	}
}

/* The kernel's part failed at bad. */
static void refused(const struct piece *p, int r, uint64_t bad, struct outcome *out,
		    struct gmem_error *error)
{
	out->offset = bad;
	out->gpa = piece_gpa(p, bad);
	gmem_fail(error, GMEM_STEP_CONVERT, r, out->gpa, bad,
		  r == -EAGAIN	    ? "The page at %#llx is in use, pinned or mapped for a "
				      "device (errno %d)."
		  : r == -EHWPOISON ? "The page at %#llx is poisoned (errno %d)."
				    : "The kernel cannot convert at %#llx (errno %d).",
		  (unsigned long long)(out->gpa == GMEM_NOWHERE ? bad : out->gpa), -r);
}

static int convert_pieces(const struct target *t, uint64_t flags, struct outcome *out,
			  struct gmem_error *error)
{
	uint64_t bad = GMEM_NOWHERE;
	size_t i, first, end;
	struct piece p;
	int r;

	call_bounds(t, &first, &end);
	for (i = first; i < end; i++) {
		if (!call_piece(t, i, &p))
			continue;
		r = convert_piece(t, &p, flags, &bad, out);
		if (r >= 0)
			continue;
		refused(&p, r, bad, out, error);
		while (i-- > first)
			if (call_piece(t, i, &p))
				undo_piece(t, &p, p.offset + p.bytes, out);
		if (out->undone)
			gmem_fail(error, GMEM_STEP_ROLLBACK, r, out->gpa, bad,
				  "Not converted (errno %d), and a part that was converted could "
				  "not be converted back (errno %d).",
				  -r, -out->undone);
		return r;
	}
	return 0;
}

/* --- the unused side, in dual mode */

static void discard_run(struct gmem *memory, int fd, uint64_t start, uint64_t end,
			struct outcome *out)
{
	const uint64_t page = memory->vm->page;
	int r = gmem_punch(memory, fd, start, end - start);

	pthread_rwlock_wrlock(&memory->vm->lock);
	gmem_bitmap_fill(memory->residue, start / page, end / page, r < 0);
	pthread_rwlock_unlock(&memory->vm->lock);
	if (r < 0) {
		out->residue += end - start;
		out->residue_error = r;
	}
}

/* What could not be freed earlier: 0, or why it still cannot. */
static int retry_residue(const struct piece *p, struct outcome *out)
{
	struct gmem *memory = p->memory;
	const uint64_t page = memory->vm->page;
	uint64_t at = p->offset / page, limit = (p->offset + p->bytes) / page, start, end, part;
	uint32_t state;
	int r = 0;

	while ((start = gmem_bitmap_find(memory->residue, at, limit, true)) < limit) {
		end = gmem_bitmap_find(memory->residue, start, limit, false);
		for (at = start; at < end; at = part / page) {
			struct outcome one = {0};

			gmem_run_at(memory, at * page, end * page, &state, &part);
			discard_run(memory,
				    state == GMEM_STATE_PRIVATE ? memory->shared_fd : memory->fd,
				    at * page, part, &one);
			/*
			 * The side that would be used from now on has old contents: a guest
			 * must not see them.
			 */
			if (one.residue_error &&
			    gmem_bitmap_find(memory->plan, at, part / page, true) < part / page)
				r = one.residue_error;
			out->residue += one.residue;
			if (one.residue_error)
				out->residue_error = one.residue_error;
		}
	}
	return r;
}

/* --- the plan */

#define RANGES 32

static int plan_in_place(const struct piece *p, uint32_t to)
{
	const uint64_t page = p->memory->vm->page;
	struct kvm_gmem_range ranges[RANGES];
	struct kvm_gmem_get_ranges get = {.offset = p->offset, .size = p->bytes};
	uint32_t i;
	int r;

	while (get.size) {
		get.ranges = (uintptr_t)ranges;
		get.nr = RANGES;
		r = p->memory->vm->sys->ioctl(p->memory->fd, KVM_GMEM_GET_RANGES, &get);
		if (r < 0)
			return r;
		for (i = 0; i < get.nr; i++) {
			bool private = ranges[i].flags & KVM_GMEM_RANGE_PRIVATE;

			gmem_bitmap_fill(p->memory->plan, ranges[i].offset / page,
					 (ranges[i].offset + ranges[i].size) / page,
					 private != (to == GMEM_STATE_PRIVATE));
		}
	}
	return 0;
}

static void plan_dual(const struct piece *p, uint32_t to)
{
	const uint64_t page = p->memory->vm->page, limit = p->offset + p->bytes;
	uint64_t at, end;
	uint32_t state;

	for (at = p->offset; at < limit; at = end) {
		gmem_run_at(p->memory, at, limit, &state, &end);
		gmem_bitmap_fill(p->memory->plan, at / page, end / page, state != to);
	}
}

static int plan(const struct target *t, struct outcome *out, bool *any, struct gmem_error *error)
{
	uint64_t at, start, stop;
	size_t i, first, end;
	struct piece p;
	int r;

	*any = false;
	call_bounds(t, &first, &end);
	for (i = first; i < end; i++) {
		if (!call_piece(t, i, &p) || p.memory->mode == GMEM_MODE_SHARED)
			continue;
		if (p.memory->mode == GMEM_MODE_INPLACE) {
			r = plan_in_place(&p, t->to);
			if (r < 0)
				return gmem_fail(
					error, GMEM_STEP_QUERY, r, piece_gpa(&p, p.offset),
					p.offset,
					"The kernel does not report what is private (errno %d).",
					-r);
		} else {
			plan_dual(&p, t->to);
			r = retry_residue(&p, out);
			if (r < 0)
				return gmem_fail(error, GMEM_STEP_DISCARD, r,
						 piece_gpa(&p, p.offset), p.offset,
						 "Cannot free old contents, which the guest would "
						 "see (errno %d).",
						 -r);
		}
		at = p.offset;
		*any |= next_run(&p, &at, &start, &stop);
	}
	return 0;
}

/* --- the listeners */

static void roll_back(const struct target *t, size_t first, size_t i, uint64_t limit)
{
	uint64_t start, end;
	struct gmem_event event;
	struct piece p;

	for (;; i--, limit = UINT64_MAX) {
		if (bound_piece(t, i, &p) && p.memory->plan) {
			if (limit > p.offset + p.bytes)
				limit = p.offset + p.bytes;
			while (last_run(&p, &limit, &start, &end)) {
				event = make_event(&p, start, end, t->to);
				gmem_tell_rollback(t->vm, &event);
			}
		}
		if (i == first)
			return;
	}
}

static int prepare(const struct target *t, struct gmem_error *error)
{
	uint64_t at, start, stop;
	struct gmem_event event;
	size_t i, first, end;
	struct piece p;
	int r;

	if (!t->vm->first)
		return 0;
	bounds(t, &first, &end);
	for (i = first; i < end; i++) {
		if (!bound_piece(t, i, &p) || !p.memory->plan)
			continue;
		at = p.offset;
		while (next_run(&p, &at, &start, &stop)) {
			event = make_event(&p, start, stop, t->to);
			r = gmem_tell_prepare(t->vm, &event, error);
			if (r) {
				roll_back(t, first, i, start);
				return r;
			}
		}
	}
	return 0;
}

static void roll_back_all(const struct target *t)
{
	size_t first, end;

	bounds(t, &first, &end);
	if (t->vm->first && first < end)
		roll_back(t, first, end - 1, UINT64_MAX);
}

static void commit(const struct target *t)
{
	uint64_t at, start, stop;
	struct gmem_event event;
	size_t i, first, end;
	struct piece p;

	if (!t->vm->first)
		return;
	bounds(t, &first, &end);
	for (i = first; i < end; i++) {
		if (!bound_piece(t, i, &p) || !p.memory->plan)
			continue;
		at = p.offset;
		while (next_run(&p, &at, &start, &stop)) {
			event = make_event(&p, start, stop, t->to);
			gmem_tell_commit(t->vm, &event);
		}
	}
}

/* --- all of it */

static void set_state(const struct target *t)
{
	const uint64_t page = t->vm->page;
	uint64_t at, start, stop;
	size_t i, first, end;
	struct piece p;

	call_bounds(t, &first, &end);
	pthread_rwlock_wrlock(&t->vm->lock);
	for (i = first; i < end; i++) {
		if (!call_piece(t, i, &p) || p.memory->mode != GMEM_MODE_DUAL)
			continue;
		at = p.offset;
		while (next_run(&p, &at, &start, &stop))
			gmem_bitmap_fill(p.memory->private, start / page, stop / page,
					 t->to == GMEM_STATE_PRIVATE);
	}
	pthread_rwlock_unlock(&t->vm->lock);
}

static void discard_unused(const struct target *t, struct outcome *out)
{
	uint64_t at, start, stop;
	size_t i, first, end;
	struct piece p;

	call_bounds(t, &first, &end);
	for (i = first; i < end; i++) {
		if (!call_piece(t, i, &p) || p.memory->mode != GMEM_MODE_DUAL)
			continue;
		at = p.offset;
		while (next_run(&p, &at, &start, &stop))
			discard_run(p.memory,
				    t->to == GMEM_STATE_PRIVATE ? p.memory->shared_fd
								: p.memory->fd,
				    start, stop, out);
	}
}

static void count(const struct target *t, bool failed)
{
	size_t i, first, end;
	struct piece p;

	call_bounds(t, &first, &end);
	for (i = first; i < end; i++)
		if (call_piece(t, i, &p))
			atomic_fetch_add_explicit(failed ? &p.memory->refusals
							 : &p.memory->conversions,
						  1, memory_order_relaxed);
}

/* To private is nothing that shared memory can become. */
static int check_modes(const struct target *t, struct gmem_error *error)
{
	size_t i, first, end;
	struct piece p;

	if (t->to != GMEM_STATE_PRIVATE)
		return 0;
	call_bounds(t, &first, &end);
	for (i = first; i < end; i++)
		if (call_piece(t, i, &p) && p.memory->mode == GMEM_MODE_SHARED)
			return gmem_fail(
				error, GMEM_STEP_CONVERT, -EOPNOTSUPP, piece_gpa(&p, p.offset),
				p.offset,
				"The memory is in shared mode, in which it cannot be private.");
	return 0;
}

/*
 * Nobody to tell, and one slot or memory that has all of it: one call, and the
 * kernel knows best what has to be done. Which is most conversions, hence this
 * way around all that others need.
 */
static bool is_simple(const struct target *t, struct piece *piece)
{
	const struct gmem_vm *vm = t->vm;
	const struct binding *b;
	size_t i;

	if (vm->first)
		return false;
	if (t->memory) {
		call_piece(t, 0, piece);
		return t->memory->mode == GMEM_MODE_INPLACE;
	}
	i = gmem_find_binding(vm, t->start);
	if (i == vm->nr_bindings)
		return false;
	b = &vm->bindings[i];
	if (b->gpa > t->start || t->end - b->gpa > b->bytes || b->memory->mode != GMEM_MODE_INPLACE)
		return false;
	*piece = (struct piece){b->memory, b->offset + (t->start - b->gpa), t->end - t->start,
				t->start, b->slot};
	return true;
}

static int convert_simple(const struct target *t, const struct piece *p, uint64_t flags,
			  struct outcome *out, struct gmem_error *error)
{
	uint64_t bad;
	int r;

	r = convert_in_place(p->memory, p->offset, p->bytes, t->to, flags, &bad);
	atomic_fetch_add_explicit(r < 0 ? &p->memory->refusals : &p->memory->conversions, 1,
				  memory_order_relaxed);
	if (r < 0)
		refused(p, r, bad, out, error);
	return r;
}

static int convert_once(const struct target *t, uint64_t flags, struct outcome *out,
			struct gmem_error *error)
{
	bool any;
	int r;

	r = check_modes(t, error);
	if (r)
		return r;
	r = plan(t, out, &any, error);
	if (r || !any)
		return r;
	r = prepare(t, error);
	if (r)
		return r;
	r = convert_pieces(t, flags, out, error);
	if (r) {
		roll_back_all(t);
		return r;
	}
	set_state(t);
	commit(t);
	discard_unused(t, out);
	return 0;
}

static inline int convert(const struct target *t, const struct gmem_convert_options *opt,
			  struct gmem_convert_result *result, struct gmem_error *error)
{
	const uint32_t attempts = opt->attempts ? opt->attempts : 1;
	struct outcome out;
	struct piece p;
	uint32_t n;
	int r;

	for (n = 1;; n++) {
		/* What is said is about the last attempt, and nothing if that succeeds. */
		if (n > 1)
			gmem_forget(error);
		out = (struct outcome){.gpa = GMEM_NOWHERE, .offset = GMEM_NOWHERE};
		r = gmem_begin_change(t->vm, error);
		if (r)
			return r;
		if (is_simple(t, &p)) {
			r = convert_simple(t, &p, opt->flags, &out, error);
		} else {
			r = convert_once(t, opt->flags, &out, error);
			count(t, r < 0);
		}
		gmem_end_change(t->vm);
		if (r != -EAGAIN || n >= attempts)
			break;
		if (opt->deadline_ns && t->vm->sys->now() >= opt->deadline_ns)
			break;
		if (opt->pause_us)
			t->vm->sys->pause((uint64_t)opt->pause_us * 1000);
	}
	if (result) {
		const struct gmem_convert_result answer = {
			.size = sizeof(answer),
			.residue = out.residue,
			.busy_gpa = out.gpa,
			.busy_offset = out.offset,
			.attempts = n,
			.residue_error = out.residue_error,
		};

		gmem_copy_out(result, &answer, sizeof(answer));
	}
	return r;
}

static int check_options(const struct gmem_convert_options *options,
			 struct gmem_convert_options *opt, const struct gmem_convert_result *result,
			 uint32_t state, struct gmem_error *error)
{
	int r;

	if (result && gmem_check_out(result, sizeof(*result)))
		return gmem_bad(error, "The size of the result is invalid.");
	if (state != GMEM_STATE_SHARED && state != GMEM_STATE_PRIVATE)
		return gmem_bad(error, "Memory cannot be converted to state %u.", state);
	if (options) {
		r = gmem_copy_in(opt, sizeof(*opt), sizeof(*opt), options);
		if (r)
			return gmem_fail(
				error, GMEM_STEP_ARGUMENTS, r, GMEM_NOWHERE, GMEM_NOWHERE,
				"The size of the options, or what follows them, is invalid.");
	}
	if (opt->flags & ~GMEM_CONVERT_ZERO)
		return gmem_bad(error, "Unknown flags %#llx.", (unsigned long long)opt->flags);
	if (opt->flags & GMEM_CONVERT_ZERO && state == GMEM_STATE_PRIVATE)
		return gmem_bad(error, "Memory that becomes private cannot be zeroed.");
	return 0;
}

/* Not inline: the short way shall not make room for what this needs. */
__attribute__((noinline)) static int convert_range(struct gmem_vm *vm, uint64_t gpa, uint64_t bytes,
						   uint32_t state,
						   const struct gmem_convert_options *options,
						   struct gmem_convert_result *result,
						   struct gmem_error *error)
{
	const struct target t = {vm, NULL, gpa, gpa + bytes, state};
	struct gmem_convert_options opt = GMEM_CONVERT_OPTIONS_INIT;
	int r;

	r = check_options(options, &opt, result, state, error);
	return r ? r : convert(&t, &opt, result, error);
}

/*
 * First the shortest way, for what a vCPU does most: nobody to tell, one slot that
 * converts in place. What fails there fails without a change, so the long way may try
 * it again, and say why.
 */
int gmem_convert_plainly(struct gmem_vm *vm, uint64_t gpa, uint64_t bytes, uint32_t state,
			 struct gmem_error *error)
{
	const struct binding *b;
	struct gmem *memory;
	uint64_t bad;
	size_t i;
	int r;

	r = gmem_begin_change(vm, error);
	if (r)
		return r;
	r = 1;
	i = gmem_find_binding(vm, gpa);
	if (!vm->first && i < vm->nr_bindings) {
		b = &vm->bindings[i];
		memory = b->memory;
		if (b->gpa <= gpa && gpa + bytes - b->gpa <= b->bytes &&
		    memory->mode == GMEM_MODE_INPLACE &&
		    !convert_in_place(memory, b->offset + (gpa - b->gpa), bytes, state, 0, &bad)) {
			atomic_fetch_add_explicit(&memory->conversions, 1, memory_order_relaxed);
			r = 0;
		}
	}
	gmem_end_change(vm);
	return r ? convert_range(vm, gpa, bytes, state, NULL, NULL, error) : 0;
}

PUBLIC int gmem_convert(struct gmem_vm *vm, uint64_t gpa, uint64_t bytes, uint32_t state,
			const struct gmem_convert_options *options,
			struct gmem_convert_result *result, struct gmem_error *error)
{
	if (!vm || !gmem_error_ok(error))
		return gmem_bad(error, "The VM is NULL.");
	if (!bytes || (gpa | bytes) & (vm->page - 1) || gpa + bytes < gpa)
		return gmem_bad(error, "%#llx bytes at %#llx are not a range of whole pages.",
				(unsigned long long)bytes, (unsigned long long)gpa);
	if (!options && !result && state - GMEM_STATE_SHARED <= 1)
		return gmem_convert_plainly(vm, gpa, bytes, state, error);
	return convert_range(vm, gpa, bytes, state, options, result, error);
}

PUBLIC int gmem_convert_offset(struct gmem *memory, uint64_t offset, uint64_t bytes, uint32_t state,
			       const struct gmem_convert_options *options,
			       struct gmem_convert_result *result, struct gmem_error *error)
{
	struct gmem_convert_options opt = GMEM_CONVERT_OPTIONS_INIT;
	struct target t = {NULL, memory, offset, offset + bytes, state};
	int r;

	r = gmem_check_range(memory, offset, bytes, error);
	if (!r)
		r = check_options(options, &opt, result, state, error);
	if (r)
		return r;
	t.vm = memory->vm;
	return convert(&t, &opt, result, error);
}
