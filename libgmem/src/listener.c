/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Listeners, which map shared memory for devices. */
#include "internal.h"

static void roll_back(struct gmem_listener *from, const struct gmem_event *event)
{
	for (; from; from = from->prev)
		if (from->ops.rollback)
			from->ops.rollback(from->data, event);
}

static int ask(struct gmem_listener *listener, const struct gmem_event *event,
	       struct gmem_error *error)
{
	int r;

	if (!listener->ops.prepare)
		return 0;
	r = listener->ops.prepare(listener->data, event);
	if (!r)
		return 0;
	if (r > 0)
		r = -EINVAL;
	return gmem_fail(error, GMEM_STEP_PREPARE, r, event->gpa, event->offset,
			 "A listener refuses %#llx bytes at %#llx (errno %d).",
			 (unsigned long long)event->bytes, (unsigned long long)event->gpa, -r);
}

int gmem_tell_prepare(struct gmem_vm *vm, const struct gmem_event *event, struct gmem_error *error)
{
	struct gmem_listener *listener;
	int r;

	for (listener = vm->first; listener; listener = listener->next) {
		r = ask(listener, event, error);
		if (r) {
			roll_back(listener->prev, event);
			return r;
		}
	}
	return 0;
}

void gmem_tell_commit(struct gmem_vm *vm, const struct gmem_event *event)
{
	struct gmem_listener *listener;

	for (listener = vm->first; listener; listener = listener->next)
		if (listener->ops.commit)
			listener->ops.commit(listener->data, event);
}

void gmem_tell_rollback(struct gmem_vm *vm, const struct gmem_event *event)
{
	roll_back(vm->last, event);
}

/*
 * What of a binding is shared goes into the memory's plan first: from then on nothing
 * has to be asked that might not be answered. Shared memory has no plan; all of it is.
 * The caller holds 'change'.
 */
static int plan_shared(const struct binding *b, struct gmem_error *error)
{
	const uint64_t page = b->memory->vm->page, end = b->offset + b->bytes;
	uint64_t at, run_end;
	uint32_t state;
	int r;

	if (!b->memory->plan)
		return 0;
	for (at = b->offset; at < end; at = run_end) {
		r = gmem_run_at(b->memory, at, end, &state, &run_end);
		if (r < 0)
			return gmem_fail(error, GMEM_STEP_QUERY, r, b->gpa + (at - b->offset), at,
					 "The kernel does not report what is private (errno %d).",
					 -r);
		gmem_bitmap_fill(b->memory->plan, at / page, run_end / page,
				 state == GMEM_STATE_SHARED);
	}
	return 0;
}

static void shared_event(const struct binding *b, bool binds, uint64_t start, uint64_t end,
			 struct gmem_event *event)
{
	*event = (struct gmem_event){
		.size = sizeof(*event),
		.memory = b->memory,
		.gpa = b->gpa + (start - b->offset),
		.offset = start,
		.bytes = end - start,
		.slot = b->slot,
		.from = binds ? GMEM_STATE_UNBACKED : GMEM_STATE_SHARED,
		.to = binds ? GMEM_STATE_SHARED : GMEM_STATE_UNBACKED,
	};
}

/* The planned run of a binding at or above *at; *at is set to its end. */
static bool next_run(const struct binding *b, bool binds, uint64_t *at, struct gmem_event *event)
{
	const uint64_t page = b->memory->vm->page, limit = b->offset + b->bytes;
	uint64_t start = *at, end = limit;

	if (b->memory->plan) {
		start = page * gmem_bitmap_find(b->memory->plan, start / page, limit / page, true);
		end = page * gmem_bitmap_find(b->memory->plan, start / page, limit / page, false);
	}
	if (start >= limit)
		return false;
	shared_event(b, binds, start, end, event);
	*at = end;
	return true;
}

/* The last planned run that ends at *limit or below; *limit is set to its begin. */
static bool last_run(const struct binding *b, bool binds, uint64_t *limit, struct gmem_event *event)
{
	const uint64_t page = b->memory->vm->page;
	uint64_t start = b->offset, end = *limit;

	if (b->memory->plan) {
		end /= page;
		if (!gmem_bitmap_last_run(b->memory->plan, b->offset / page, &start, &end))
			return false;
		start *= page;
		end *= page;
	} else if (end <= start) {
		return false;
	}
	shared_event(b, binds, start, end, event);
	*limit = start;
	return true;
}

static void roll_back_below(struct gmem_vm *vm, const struct binding *b, bool binds, uint64_t limit,
			    struct gmem_listener *only)
{
	struct gmem_event event;

	while (last_run(b, binds, &limit, &event)) {
		if (!only)
			gmem_tell_rollback(vm, &event);
		else if (only->ops.rollback)
			only->ops.rollback(only->data, &event);
	}
}

int gmem_tell_binding(struct gmem_vm *vm, const struct binding *b, bool binds,
		      struct gmem_listener *only, struct gmem_error *error)
{
	uint64_t at = b->offset;
	struct gmem_event event;
	int r;

	if (!only && !vm->first)
		return 0;
	r = plan_shared(b, error);
	if (r)
		return r;
	while (next_run(b, binds, &at, &event)) {
		r = only ? ask(only, &event, error) : gmem_tell_prepare(vm, &event, error);
		if (r) {
			roll_back_below(vm, b, binds, event.offset, only);
			return r;
		}
	}
	return 0;
}

void gmem_commit_binding(struct gmem_vm *vm, const struct binding *b, bool binds,
			 struct gmem_listener *only)
{
	uint64_t at = b->offset;
	struct gmem_event event;

	if (!only && !vm->first)
		return;
	while (next_run(b, binds, &at, &event)) {
		if (!only)
			gmem_tell_commit(vm, &event);
		else if (only->ops.commit)
			only->ops.commit(only->data, &event);
	}
}

void gmem_rollback_binding(struct gmem_vm *vm, const struct binding *b, bool binds,
			   struct gmem_listener *only)
{
	if (only || vm->first)
		roll_back_below(vm, b, binds, b->offset + b->bytes, only);
}

static int add_locked(struct gmem_vm *vm, struct gmem_listener *listener, struct gmem_error *error)
{
	size_t i;
	int r;

	for (i = 0; i < vm->nr_bindings; i++) {
		r = gmem_tell_binding(vm, &vm->bindings[i], true, listener, error);
		if (r) {
			while (i--)
				gmem_rollback_binding(vm, &vm->bindings[i], true, listener);
			return r;
		}
	}
	listener->prev = vm->last;
	if (vm->last)
		vm->last->next = listener;
	else
		vm->first = listener;
	vm->last = listener;
	for (i = 0; i < vm->nr_bindings; i++)
		gmem_commit_binding(vm, &vm->bindings[i], true, listener);
	return 0;
}

PUBLIC int gmem_listener_add(struct gmem_vm *vm, const struct gmem_listener_ops *ops, void *data,
			     struct gmem_listener **ret_listener, struct gmem_error *error)
{
	struct gmem_listener_ops copy;
	struct gmem_listener *listener;
	int r;

	if (!vm || !ops || !ret_listener || !gmem_error_ok(error))
		return gmem_bad(error,
				"The VM, the operations or the pointer to the result is NULL.");
	r = gmem_copy_in(&copy, sizeof(copy), sizeof(copy), ops);
	if (r)
		return gmem_fail(error, GMEM_STEP_ARGUMENTS, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "The size of the operations, or what follows them, is invalid.");
	listener = vm->sys->alloc(1, sizeof(*listener));
	if (!listener)
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Not enough memory for a listener.");
	listener->ops = copy;
	listener->data = data;
	r = gmem_begin_change(vm, error);
	if (!r) {
		r = add_locked(vm, listener, error);
		gmem_end_change(vm);
	}
	if (r)
		vm->sys->release(listener);
	else
		*ret_listener = listener;
	return r;
}

PUBLIC int gmem_listener_remove(struct gmem_vm *vm, struct gmem_listener *listener)
{
	struct gmem_listener *known;
	int r;

	if (!vm || !listener)
		return -EINVAL;
	r = gmem_begin_change(vm, NULL);
	if (r)
		return r;
	for (known = vm->first; known && known != listener; known = known->next)
		;
	if (known) {
		if (known->prev)
			known->prev->next = known->next;
		else
			vm->first = known->next;
		if (known->next)
			known->next->prev = known->prev;
		else
			vm->last = known->prev;
	}
	gmem_end_change(vm);
	if (!known)
		return -ENOENT;
	vm->sys->release(known);
	return 0;
}
