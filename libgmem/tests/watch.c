/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A listener as VFIO is one: it keeps what it has mapped for its device, and checks
 * that what it is told goes with that. At any time outside of a call, what it has
 * mapped has to be what is shared.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

static int on_prepare(void *data, const struct gmem_event *event)
{
	struct watcher *w = data;

	ck_assert_uint_lt(event->gpa + event->bytes, WATCHED);
	if (w->refuse && w->refuse(w->data))
		return -EBUSY;
	for (uint64_t gpa = event->gpa; gpa < event->gpa + event->bytes; gpa += PAGE) {
		bool shared = event->from == GMEM_STATE_SHARED;

		ck_assert_msg(w->mapped[gpa / PAGE] == shared, "%#llx %u>%u",
			      (unsigned long long)gpa, event->from, event->to);
		w->mapped[gpa / PAGE] = false;
	}
	w->events++;
	return 0;
}

static void on_commit(void *data, const struct gmem_event *event)
{
	struct watcher *w = data;

	for (uint64_t gpa = event->gpa; gpa < event->gpa + event->bytes; gpa += PAGE) {
		ck_assert(!w->mapped[gpa / PAGE]);
		w->mapped[gpa / PAGE] = event->to == GMEM_STATE_SHARED;
	}
}

static void on_rollback(void *data, const struct gmem_event *event)
{
	struct watcher *w = data;

	for (uint64_t gpa = event->gpa; gpa < event->gpa + event->bytes; gpa += PAGE) {
		ck_assert(!w->mapped[gpa / PAGE]);
		w->mapped[gpa / PAGE] = event->from == GMEM_STATE_SHARED;
	}
}

int watch(struct gmem_vm *of, struct watcher *w)
{
	static const struct gmem_listener_ops ops = {sizeof(ops), on_prepare, on_commit,
						     on_rollback};

	memset(w->mapped, 0, sizeof(w->mapped));
	return gmem_listener_add(of, &ops, w, &w->listener, &err);
}

void check_watcher(const struct watcher *w)
{
	for (uint64_t gpa = 0; gpa < WATCHED; gpa += PAGE) {
		struct gmem_range range = GMEM_RANGE_INIT;

		ok(gmem_next_range(vm, gpa, WATCHED, &range));
		for (uint64_t at = gpa; at < gpa + range.bytes; at += PAGE)
			ck_assert_msg(w->mapped[at / PAGE] == (range.state == GMEM_STATE_SHARED),
				      "%#llx is %u, and %smapped", (unsigned long long)at,
				      range.state, w->mapped[at / PAGE] ? "" : "not ");
		gpa += range.bytes - PAGE;
	}
}
