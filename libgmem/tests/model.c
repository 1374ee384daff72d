/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random operations against a model that is too simple to be wrong: an array of pages
 * for each memory, and one of addresses. Listeners refuse at random, and on the fake
 * kernel its calls fail at random.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORIES 3
#define SLOTS 6
#define SPAN 256 /* pages of addresses that are in use */

static const uint64_t sizes[MEMORIES] = {16, 33, 100};

struct slot {
	bool used;
	int memory;
	uint64_t gfn, pages, offset;
};

static struct gmem *memory[MEMORIES];
static bool private[MEMORIES][128];
static struct slot slots[SLOTS];
static struct watcher watchers[3];
static unsigned int seed, conversions, refusals, skipped;
static bool refusing;

static unsigned int roll(unsigned int sides)
{
	return (unsigned int)rand_r(&seed) % sides;
}

static bool refuse(void *data)
{
	(void)data;
	return refusing && !roll(12);
}

/* The slot that has an address, or NULL. */
static const struct slot *slot_at(uint64_t gfn)
{
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].used && gfn >= slots[i].gfn && gfn < slots[i].gfn + slots[i].pages)
			return &slots[i];
	return NULL;
}

static bool *page_at(uint64_t gfn)
{
	const struct slot *s = slot_at(gfn);

	return s ? &private[s->memory][s->offset + gfn - s->gfn] : NULL;
}

static void check_all(void)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	uint64_t gfn = 0;

	while (gmem_next_range(vm, gfn * PAGE, SPAN * PAGE, &range) == 1) {
		for (uint64_t end = gfn + range.bytes / PAGE; gfn < end; gfn++) {
			const bool *page = page_at(gfn);
			uint32_t want = !page	? GMEM_STATE_UNBACKED
					: *page ? GMEM_STATE_PRIVATE
						: GMEM_STATE_SHARED;

			ck_assert_msg(range.state == want, "page %#llx is %u, not %u (seed %u)",
				      (unsigned long long)gfn, range.state, want, seed);
			if (page && !world->real && world->mode == GMEM_MODE_DUAL)
				ck_assert(fake_attribute(vm_fd, gfn * PAGE) ==
					  (want == GMEM_STATE_PRIVATE));
		}
	}
	ck_assert_uint_eq(gfn, SPAN);
	for (int i = 0; i < 3; i++)
		if (watchers[i].listener)
			check_watcher(&watchers[i]);
	for (int m = 0; m < MEMORIES; m++) {
		struct gmem_stats stats = GMEM_STATS_INIT;
		uint64_t n = 0;

		for (uint64_t p = 0; p < sizes[m]; p++)
			n += private[m][p];
		ok(gmem_stats(memory[m], &stats, &err));
		ck_assert_uint_eq(stats.private_bytes, n * PAGE);
	}
}

static void convert(bool by_offset)
{
	const uint64_t first = roll(SPAN - 1),
		       pages = 1 + roll(roll(4) ? 12 : SPAN - (unsigned)first);
	const bool to = has_private() && roll(2);
	const uint32_t state = to ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED;
	const int m = (int)roll(MEMORIES);
	const uint64_t offset = first % sizes[m];
	const uint64_t part = pages < sizes[m] - offset ? pages : sizes[m] - offset;
	int r;

	r = by_offset ? gmem_convert_offset(memory[m], offset * PAGE, part * PAGE, state, NULL,
					    NULL, &err)
		      : gmem_convert(vm, first * PAGE, pages * PAGE, state, NULL, NULL, &err);
	if (r == -EBUSY || (fake_has_failed() && r == -ENOMEM)) {
		/* An undo that failed as well is another test's. */
		ck_assert_uint_ne(err.step, GMEM_STEP_ROLLBACK);
		refusals++;
		return;
	}
	ck_assert_msg(!r, "%d: %s", r, err.message);
	conversions++;
	if (by_offset) {
		for (uint64_t p = offset; p < offset + part; p++)
		private[m][p] = to;
		return;
	}
	for (uint64_t gfn = first; gfn < first + pages; gfn++)
		if (page_at(gfn))
			*page_at(gfn) = to;
}

static void bind(void)
{
	const int i = (int)roll(SLOTS), m = (int)roll(MEMORIES);
	struct slot s = {.used = true, .memory = m, .gfn = roll(SPAN - 1)};
	bool free = !slots[i].used;
	int r;

	s.offset = roll((unsigned)sizes[m]);
	s.pages = 1 + roll((unsigned)(sizes[m] - s.offset));
	if (s.pages > SPAN - s.gfn)
		s.pages = SPAN - s.gfn;
	for (int j = 0; j < SLOTS; j++) {
		const struct slot *o = &slots[j];

		if (!o->used)
			continue;
		if (o->gfn < s.gfn + s.pages && s.gfn < o->gfn + o->pages)
			free = false;
		if (o->memory == m && o->offset < s.offset + s.pages &&
		    s.offset < o->offset + o->pages)
			free = false;
	}
	r = gmem_bind(memory[m], (uint32_t)i, s.gfn * PAGE, s.offset * PAGE, s.pages * PAGE, &err);
	if (!free) {
		ck_assert_int_eq(r, -EEXIST);
	} else if (r == -EBUSY || (fake_has_failed() && r == -ENOMEM)) {
		refusals++;
	} else {
		ck_assert_msg(!r, "%d: %s", r, err.message);
		slots[i] = s;
	}
}

static void unbind(void)
{
	const int i = (int)roll(SLOTS);
	int r = gmem_unbind(vm, (uint32_t)i, &err);

	if (!slots[i].used) {
		ck_assert_int_eq(r, -ENOENT);
	} else if (r == -EBUSY || (fake_has_failed() && r == -ENOMEM)) {
		refusals++;
	} else {
		ck_assert_msg(!r, "%d: %s", r, err.message);
		slots[i].used = false;
	}
}

static void listen(void)
{
	struct watcher *w = &watchers[roll(3)];
	int r;

	if (w->listener) {
		ok(gmem_listener_remove(vm, w->listener));
		w->listener = NULL;
		return;
	}
	w->refuse = refuse;
	r = watch(vm, w);
	if (r < 0) {
		ck_assert(r == -EBUSY || (fake_has_failed() && r == -ENOMEM));
		w->listener = NULL;
		refusals++;
	}
}

static void contents(void)
{
	const int m = (int)roll(MEMORIES);
	const uint64_t offset = roll((unsigned)sizes[m]);

	if (roll(2))
		skipped += gmem_discard(memory[m], offset * PAGE, PAGE, &err) < 0;
	else
		skipped +=
			gmem_prealloc(memory[m], offset * PAGE, PAGE, NULL, NULL, NULL, &err) < 0;
}

/* Calls after which the library has nothing to undo, so that one failure is enough. */
static const char *const may_fail[] = {"KVM_GMEM_GET_RANGES", "KVM_GMEM_CONVERT_SHARED",
				       "KVM_GMEM_CONVERT_PRIVATE", "KVM_SET_MEMORY_ATTRIBUTES",
				       "KVM_SET_USER_MEMORY_REGION2"};

START_TEST(random_operations)
{
	unsigned int operations = world->real ? 3000 : 100000;

	seed = (unsigned int)_i * 7919 + 1;
	world_begin();
	for (int m = 0; m < MEMORIES; m++) {
		memory[m] = memory_of(sizes[m] * PAGE, 0);
		for (uint64_t p = 0; p < sizes[m]; p++)
		private[m][p] = has_private();
	}
	for (unsigned int i = 0; i < operations; i++) {
		bool failing = !world->real && !roll(8);

		refusing = roll(2);
		if (failing)
			fake_fail_on(may_fail[roll(5)], 1 + roll(4), 1, -ENOMEM);
		switch (roll(12)) {
		case 0:
			bind();
			break;
		case 1:
			unbind();
			break;
		case 2:
			listen();
			break;
		case 3:
			contents();
			break;
		case 4:
		case 5:
			convert(true);
			break;
		default:
			convert(false);
		}
		fake_fail_on(NULL, 0, 0, 0);
		if (i % 64 == 0)
			check_all();
	}
	check_all();
	ck_assert_uint_gt(conversions, operations / 4);
	ck_assert_uint_gt(refusals, operations / 200);
	printf("# %s: %u operations, %u conversions, %u failures and refusals\n", world->name,
	       operations, conversions, refusals);
	for (int m = 0; m < MEMORIES; m++)
		gmem_unref(memory[m]);
	world_end();
}
END_TEST

Suite *suite_model(void)
{
	Suite *suite = suite_create("model");
	TCase *tcase = tcase_create(world->name);

	tcase_set_timeout(tcase, 600);
	tcase_add_loop_test(tcase, random_operations, 0, 1);
	suite_add_tcase(suite, tcase);
	return suite;
}
