/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A listener as VFIO is one: it keeps what it has mapped for its device, and checks
 * that what it is told goes with that. At any time outside of a call, what it has
 * mapped has to be what is shared, and each event that it prepared has come to an end.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

/*
 * Where the memory of an event is, as far as it is bound. Not by gmem_lookup(), which asks
 * the kernel: the calls of the function under test are counted.
 */
static void check_place(const struct watcher *w, const struct gmem_event *e)
{
	const size_t i = gmem_find_binding(w->vm, e->gpa);
	const struct piece *b = i < w->vm->nr_bindings ? &w->vm->bindings[i] : NULL;

	ck_assert_uint_ge(e->size, GMEM_EVENT_1_0);
	ck_assert(e->bytes && (e->gpa | e->offset | e->bytes) % PAGE == 0);
	ck_assert_uint_lt(e->gpa + e->bytes, WATCHED);
	/* Of what stays private nobody is told. */
	ck_assert(e->from != e->to || e->to == GMEM_STATE_SHARED);
	if (!b || b->gpa > e->gpa)
		return;
	ck_assert_ptr_eq(e->memory, b->memory);
	ck_assert_uint_eq(e->slot, b->slot);
	ck_assert_uint_eq(e->offset - b->offset, e->gpa - b->gpa);
	ck_assert_uint_le(e->gpa + e->bytes, b->gpa + b->bytes);
}

static int on_prepare(void *data, const struct gmem_event *event)
{
	struct watcher *w = data;

	check_place(w, event);
	if (w->refuse && w->refuse(w->data))
		return -EBUSY;
	for (uint64_t at = 0; at < event->bytes; at += PAGE) {
		const uint64_t page = (event->gpa + at) / PAGE;
		bool shared = event->from == GMEM_STATE_SHARED;

		ck_assert_msg(w->mapped[page] == shared, "%#llx %u>%u",
			      (unsigned long long)event->gpa + at, event->from, event->to);
		ck_assert_msg(!w->pending[page].to, "%#llx is prepared twice",
			      (unsigned long long)event->gpa + at);
		w->pending[page] = (struct pending){event->memory, event->offset + at, event->slot,
						    1 + event->from, 1 + event->to};
		w->mapped[page] = false;
	}
	w->events++;
	return 0;
}

/* What was prepared, and only that, is committed or rolled back, once. */
static void end(struct watcher *w, const struct gmem_event *event, uint32_t state)
{
	check_place(w, event);
	for (uint64_t at = 0; at < event->bytes; at += PAGE) {
		const uint64_t page = (event->gpa + at) / PAGE;
		struct pending *p = &w->pending[page];

		ck_assert_msg(p->memory == event->memory && p->offset == event->offset + at &&
				      p->slot == event->slot && p->from == 1 + event->from &&
				      p->to == 1 + event->to,
			      "%#llx was not prepared like this",
			      (unsigned long long)event->gpa + at);
		ck_assert(!w->mapped[page]);
		w->mapped[page] = state == GMEM_STATE_SHARED;
		*p = (struct pending){0};
	}
}

static void on_commit(void *data, const struct gmem_event *event)
{
	end(data, event, event->to);
}

static void on_rollback(void *data, const struct gmem_event *event)
{
	end(data, event, event->from);
}

int watch(struct gmem_vm *of, struct watcher *w)
{
	static const struct gmem_listener_ops ops = {sizeof(ops), on_prepare, on_commit,
						     on_rollback};

	w->vm = of;
	memset(w->mapped, 0, sizeof(w->mapped));
	memset(w->pending, 0, sizeof(w->pending));
	return gmem_listener_add(of, &ops, w, &w->listener, &err);
}

void check_settled(const struct watcher *w)
{
	for (uint64_t page = 0; page < WATCHED / PAGE; page++)
		ck_assert_msg(!w->pending[page].to,
			      "%#llx was prepared, and neither committed nor "
			      "rolled back",
			      (unsigned long long)(page * PAGE));
}

void check_watcher(const struct watcher *w)
{
	check_settled(w);
	for (uint64_t gpa = 0; gpa < WATCHED; gpa += PAGE) {
		struct gmem_range range = GMEM_RANGE_INIT;

		ck_assert_int_eq(gmem_next_range(vm, gpa, WATCHED, &range), 1);
		for (uint64_t at = gpa; at < gpa + range.bytes; at += PAGE)
			ck_assert_msg(w->mapped[at / PAGE] == (range.state == GMEM_STATE_SHARED),
				      "%#llx is %u, and %smapped", (unsigned long long)at,
				      range.state, w->mapped[at / PAGE] ? "" : "not ");
		gpa += range.bytes - PAGE;
	}
}
