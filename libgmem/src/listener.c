/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Those who have to know: who maps shared memory for devices. */
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
 * The shared run of a binding that begins at or above *offset, as an event; false if
 * there is none. The caller holds 'change', so that only others can convert.
 */
static bool shared_run(const struct binding *b, bool binds, uint64_t *offset,
		       struct gmem_event *event)
{
	const uint64_t end = b->offset + b->bytes;
	uint64_t run_end;
	uint32_t state;

	for (; *offset < end; *offset = run_end) {
		if (gmem_run_at(b->memory, *offset, end, &state, &run_end))
			return false;
		if (state != GMEM_STATE_SHARED)
			continue;
		*event = (struct gmem_event){
			.size = sizeof(*event),
			.memory = b->memory,
			.gpa = b->gpa + (*offset - b->offset),
			.offset = *offset,
			.bytes = run_end - *offset,
			.slot = b->slot,
			.from = binds ? GMEM_STATE_UNBACKED : GMEM_STATE_SHARED,
			.to = binds ? GMEM_STATE_SHARED : GMEM_STATE_UNBACKED,
		};
		*offset = run_end;
		return true;
	}
	return false;
}

/* The n-th shared run from the front; rollback goes through them backwards. */
static bool nth_shared_run(const struct binding *b, bool binds, size_t n, struct gmem_event *event)
{
	uint64_t offset = b->offset;

	do {
		if (!shared_run(b, binds, &offset, event))
			return false;
	} while (n--);
	return true;
}

static void roll_back_runs(struct gmem_vm *vm, const struct binding *b, bool binds, size_t n,
			   struct gmem_listener *only)
{
	struct gmem_event event;

	while (n--) {
		if (!nth_shared_run(b, binds, n, &event))
			continue;
		if (!only)
			gmem_tell_rollback(vm, &event);
		else if (only->ops.rollback)
			only->ops.rollback(only->data, &event);
	}
}

int gmem_tell_binding(struct gmem_vm *vm, const struct binding *b, bool binds,
		      struct gmem_listener *only, struct gmem_error *error)
{
	uint64_t offset = b->offset;
	struct gmem_event event;
	size_t n = 0;
	int r;

	if (!only && !vm->first)
		return 0;
	for (; shared_run(b, binds, &offset, &event); n++) {
		r = only ? ask(only, &event, error) : gmem_tell_prepare(vm, &event, error);
		if (r) {
			roll_back_runs(vm, b, binds, n, only);
			return r;
		}
	}
	return 0;
}

void gmem_commit_binding(struct gmem_vm *vm, const struct binding *b, bool binds,
			 struct gmem_listener *only)
{
	uint64_t offset = b->offset;
	struct gmem_event event;

	if (!only && !vm->first)
		return;
	while (shared_run(b, binds, &offset, &event)) {
		if (!only)
			gmem_tell_commit(vm, &event);
		else if (only->ops.commit)
			only->ops.commit(only->data, &event);
	}
}

void gmem_rollback_binding(struct gmem_vm *vm, const struct binding *b, bool binds,
			   struct gmem_listener *only)
{
	uint64_t offset = b->offset;
	struct gmem_event event;
	size_t n = 0;

	if (!only && !vm->first)
		return;
	while (shared_run(b, binds, &offset, &event))
		n++;
	roll_back_runs(vm, b, binds, n, only);
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
		return gmem_bad(error, "There is no VM, no operation, or no place for the result.");
	r = gmem_copy_in(&copy, sizeof(copy), sizeof(copy), ops);
	if (r)
		return gmem_fail(error, GMEM_STEP_ARGUMENTS, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "The operations have a size or contents of no known version.");
	listener = vm->sys->alloc(1, sizeof(*listener));
	if (!listener)
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "No memory for a listener.");
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
