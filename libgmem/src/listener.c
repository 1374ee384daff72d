/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Listeners, which map shared memory for devices. */
#include "internal.h"

static struct gmem_event event_of(const struct news *news, const struct piece *run)
{
	return (struct gmem_event){
		.size = sizeof(struct gmem_event),
		.memory = run->memory,
		.gpa = run->gpa,
		.offset = run->offset,
		.bytes = run->bytes,
		.slot = run->slot,
		.from = news->from,
		.to = news->to,
	};
}

/* The listeners that are told: the first, and those after it. */
static struct gmem_listener *first_of(const struct news *news)
{
	return news->only ? news->only : news->vm->first;
}

static struct gmem_listener *after(const struct news *news, const struct gmem_listener *listener)
{
	return news->only ? NULL : listener->next;
}

/* From that one on, backwards. */
static void roll_back(const struct news *news, struct gmem_listener *from,
		      const struct gmem_event *event)
{
	for (; from; from = news->only ? NULL : from->prev)
		if (from->ops.rollback)
			from->ops.rollback(from->data, event);
}

static int ask(const struct gmem_listener *listener, const struct gmem_event *event,
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

static int ask_all(const struct news *news, const struct gmem_event *event,
		   struct gmem_error *error)
{
	struct gmem_listener *listener;
	int r;

	for (listener = first_of(news); listener; listener = after(news, listener)) {
		r = ask(listener, event, error);
		if (r) {
			roll_back(news, news->only ? NULL : listener->prev, event);
			return r;
		}
	}
	return 0;
}

static void roll_back_below(const struct news *news, const struct piece *p, uint64_t limit)
{
	struct gmem_event event;
	struct piece run;

	while (gmem_last_run(p, &limit, &run)) {
		event = event_of(news, &run);
		roll_back(news, news->only ? news->only : news->vm->last, &event);
	}
}

int gmem_prepare(const struct news *news, const struct piece *p, struct gmem_error *error)
{
	uint64_t at = p->offset;
	struct gmem_event event;
	struct piece run;
	int r;

	if (!gmem_is_news(news))
		return 0;
	while (gmem_next_run(p, &at, &run)) {
		event = event_of(news, &run);
		r = ask_all(news, &event, error);
		if (r) {
			roll_back_below(news, p, run.offset);
			return r;
		}
	}
	return 0;
}

int gmem_prepare_shared(const struct news *news, const struct piece *p, struct gmem_error *error)
{
	bool any = false;
	int r;

	if (!gmem_is_news(news))
		return 0;
	r = gmem_plan(p, GMEM_STATE_SHARED, &any, error);
	return r ? r : gmem_prepare(news, p, error);
}

void gmem_commit_all(const struct news *news, const struct piece *p)
{
	const struct gmem_event event = event_of(news, p);
	struct gmem_listener *listener;

	for (listener = first_of(news); listener; listener = after(news, listener))
		if (listener->ops.commit)
			listener->ops.commit(listener->data, &event);
}

void gmem_commit(const struct news *news, const struct piece *p)
{
	uint64_t at = p->offset;
	struct piece run;

	while (gmem_is_news(news) && gmem_next_run(p, &at, &run))
		gmem_commit_all(news, &run);
}

void gmem_roll_back(const struct news *news, const struct piece *p)
{
	if (gmem_is_news(news))
		roll_back_below(news, p, p->offset + p->bytes);
}

/* Of the first nr pieces. */
static void roll_back_first(const struct news *news, const struct target *t, size_t nr)
{
	struct piece p;

	while (nr--)
		if (gmem_piece(t, nr, &p))
			gmem_roll_back(news, &p);
}

int gmem_prepare_target(const struct news *news, const struct target *t, struct gmem_error *error)
{
	struct piece p;
	size_t i;
	int r;

	for (i = 0; i < t->nr; i++) {
		r = gmem_piece(t, i, &p) ? gmem_prepare_shared(news, &p, error) : 0;
		if (r) {
			roll_back_first(news, t, i);
			return r;
		}
	}
	return 0;
}

void gmem_commit_target(const struct news *news, const struct target *t)
{
	struct piece p;
	size_t i;

	for (i = 0; i < t->nr; i++)
		if (gmem_piece(t, i, &p))
			gmem_commit(news, &p);
}

void gmem_roll_back_target(const struct news *news, const struct target *t)
{
	roll_back_first(news, t, t->nr);
}

/* The listener is told of what is shared now, as if it were being bound. */
static int add_locked(struct gmem_vm *vm, struct gmem_listener *listener, struct gmem_error *error)
{
	const struct news news = {vm, listener, GMEM_STATE_UNBACKED, GMEM_STATE_SHARED};
	struct target all = {.start = 0, .end = UINT64_MAX};
	int r;

	gmem_aim(&all, vm);
	r = gmem_prepare_target(&news, &all, error);
	if (r)
		return r;
	listener->prev = vm->last;
	if (vm->last)
		vm->last->next = listener;
	else
		vm->first = listener;
	vm->last = listener;
	gmem_commit_target(&news, &all);
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
	r = gmem_copy_in(&copy, sizeof(copy), GMEM_LISTENER_OPS_1_0, ops);
	if (r)
		return gmem_fail(error, GMEM_STEP_ARGUMENTS, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "The size of the operations, or what follows them, is invalid.");
	listener = vm->sys->alloc(1, sizeof(*listener));
	if (!listener)
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Not enough memory for a listener.");
	listener->ops = copy;
	listener->data = data;
	r = gmem_begin_work(vm, error);
	if (!r) {
		r = add_locked(vm, listener, error);
		gmem_end_work(vm);
	}
	if (r)
		vm->sys->release(listener);
	else
		*ret_listener = listener;
	if (!r)
		gmem_log(vm, "added a listener");
	return r;
}

PUBLIC int gmem_listener_remove(struct gmem_vm *vm, struct gmem_listener *listener)
{
	struct gmem_listener *known;
	int r;

	if (!vm || !listener)
		return -EINVAL;
	r = gmem_begin_work(vm, NULL);
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
	gmem_end_work(vm);
	if (!known)
		return -ENOENT;
	vm->sys->release(known);
	gmem_log(vm, "removed a listener");
	return 0;
}
