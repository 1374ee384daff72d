/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What only the fake can show: what is in a page that nobody maps, what a kernel might
 * answer, and each thing that an error says.
 */
#include "world.h"

#include <numa.h>
#include <numaif.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GPA (2 * MIB)
#define SIZE (16 * PAGE)

static struct gmem *memory;

static void begin(void)
{
	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 3, GPA, 0, SIZE, &err));
}

static void end(void)
{
	gmem_unref(memory);
	world_end();
}

/* --- contents */

/* In place they stay, whichever way a conversion takes, and when it is undone. */
START_TEST(kept)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct watcher *w;
	int fd = gmem_fd(memory);

	if (!in_place())
		return;
	for (uint64_t p = 0; p < SIZE; p += PAGE)
		fake_write(fd, p, 7);
	/* Without a result and with one, over what no slot backs, by offset. */
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_SHARED, NULL, &result, &err));
	ok(gmem_convert(vm, GPA - PAGE, 2 * PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ok(gmem_convert(vm, GPA - PAGE, 2 * PAGE, GMEM_STATE_SHARED, NULL, &result, &err));
	ok(gmem_convert_offset(memory, 0, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_convert_offset(memory, 0, SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
	w = calloc(1, sizeof(*w));
	ok(watch(vm, w));
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
	check_watcher(w);
	for (uint64_t p = 0; p < SIZE; p += PAGE)
		ck_assert_int_eq(fake_read(fd, p), 7);
	ok(gmem_listener_remove(vm, w->listener));
	free(w);
}
END_TEST

/* The first of two slots goes back to shared, and has what it had. */
START_TEST(kept_by_rollback)
{
	struct gmem_convert_options zero = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem *second;

	if (!in_place())
		return;
	second = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(second, 4, GPA + SIZE, 0, SIZE, &err));
	fake_write(gmem_fd(memory), PAGE, 7);
	fake_pin(gmem_fd(second), PAGE, true);
	fails(EAGAIN, gmem_convert(vm, GPA, 2 * SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	says(GMEM_STEP_CONVERT, GPA + SIZE + PAGE, PAGE);
	ck_assert(!fake_private(gmem_fd(memory), PAGE));
	ck_assert_int_eq(fake_read(gmem_fd(memory), PAGE), 7);
	/* With ZERO it is the other way round: what became shared is empty by then. */
	fake_pin(gmem_fd(second), PAGE, false);
	ok(gmem_convert(vm, GPA, 2 * SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	zero.flags = GMEM_CONVERT_ZERO;
	ok(gmem_convert(vm, GPA, 2 * SIZE, GMEM_STATE_SHARED, &zero, NULL, &err));
	ck_assert_int_eq(fake_read(gmem_fd(memory), PAGE), 0);
	gmem_unref(second);
}
END_TEST

START_TEST(zeroed)
{
	int fd = gmem_fd(memory);

	if (!world->can.zero) {
		fails(EOPNOTSUPP, gmem_zero(memory, PAGE, PAGE, &err));
		says(GMEM_STEP_DISCARD, GMEM_NOWHERE, PAGE);
		return;
	}
	fake_write(fd, PAGE, 7);
	fake_write(fd, 2 * PAGE, 7);
	ok(gmem_zero(memory, PAGE, PAGE, &err));
	ck_assert_int_eq(fake_read(fd, PAGE), 0);
	ck_assert(fake_populated(fd, PAGE));
	ck_assert_int_eq(fake_read(fd, 2 * PAGE), 7);
	ck_assert(!fake_populated(fd, 0));
}
END_TEST

/* In dual mode the side that is no longer used is freed: in each slot, and only there. */
START_TEST(sides)
{
	struct gmem *second;

	if (world->mode != GMEM_MODE_DUAL)
		return;
	second = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(second, 4, GPA + SIZE, 0, SIZE, &err));
	for (int back = 0; back < 2; back++) {
		struct gmem *all[] = {memory, second};

		for (int m = 0; m < 2; m++) {
			int used = back ? gmem_fd(all[m]) : gmem_shared_fd(all[m]);

			fake_touch(used, PAGE, 0);
			fake_touch(used, 5 * PAGE, 0);
		}
		ok(gmem_convert(vm, GPA, 2 * SIZE, back ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE,
				NULL, NULL, &err));
		for (int m = 0; m < 2; m++) {
			ck_assert(!fake_populated(gmem_shared_fd(all[m]), PAGE));
			ck_assert(!fake_populated(gmem_fd(all[m]), PAGE));
			ck_assert(!fake_populated(gmem_shared_fd(all[m]), 5 * PAGE));
			ck_assert(!fake_populated(gmem_fd(all[m]), 5 * PAGE));
		}
	}
	/* What is tried again frees what is not used, and never what is. */
	fake_touch(gmem_shared_fd(memory), PAGE, 0);
	fake_touch(gmem_shared_fd(memory), 3 * PAGE, 0);
	fake_touch(gmem_shared_fd(memory), 5 * PAGE, 0);
	fake_fail_on("fallocate", 1, 2, -EIO);
	ok(gmem_convert(vm, GPA + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_convert(vm, GPA + 5 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	fake_fail_on(NULL, 0, 0, 0);
	fake_touch(gmem_fd(memory), PAGE, 0);
	fake_touch(gmem_fd(memory), 5 * PAGE, 0);
	ok(gmem_convert(vm, GPA, 8 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	for (uint64_t p = 1; p < 6; p += 2)
		ck_assert(!fake_populated(gmem_shared_fd(memory), p * PAGE));
	ck_assert(fake_populated(gmem_fd(memory), PAGE));
	ck_assert(fake_populated(gmem_fd(memory), 5 * PAGE));
	gmem_unref(second);
}
END_TEST

/* A part of the residue is freed, the other stays on the list. */
START_TEST(partial_discard)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	if (world->mode != GMEM_MODE_DUAL)
		return;
	fake_fail_on("fallocate", 1, 1, -EIO);
	ok(gmem_convert(vm, GPA + 2 * PAGE, 4 * PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	fake_fail_on(NULL, 0, 0, 0);
	ck_assert_uint_eq(result.residue, 4 * PAGE);
	ok(gmem_discard(memory, 3 * PAGE, 2 * PAGE, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.residue, 2 * PAGE);
	/* One side fails, whichever: it is said, and nothing counts as freed. */
	for (unsigned int n = 1; n <= 2; n++) {
		fake_fail_on("fallocate", n, 1, -EIO);
		fails(EIO, gmem_discard(memory, 2 * PAGE, PAGE, &err));
		says(GMEM_STEP_DISCARD, GPA + 2 * PAGE, 2 * PAGE);
		fake_fail_on(NULL, 0, 0, 0);
		ok(gmem_stats(memory, &stats, &err));
		ck_assert_uint_eq(stats.residue, 2 * PAGE);
	}
}
END_TEST

/* --- states */

/* A kernel that converts does not make that of memory in shared mode, by any way. */
START_TEST(shared_mode_stays)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct gmem *shared;

	if (!world->can.map)
		return;
	options.mode = GMEM_MODE_SHARED;
	ok(gmem_new(vm, SIZE, &options, &shared, &err));
	ok(gmem_bind(shared, 4, GPA + SIZE, 0, SIZE, &err));
	ck_assert_uint_eq(state_at(GPA + SIZE), GMEM_STATE_SHARED);
	fails(EOPNOTSUPP, gmem_convert(vm, GPA + SIZE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	says(GMEM_STEP_CONVERT, GPA + SIZE, 0);
	fails(EOPNOTSUPP,
	      gmem_convert(vm, GPA + SIZE + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	says(GMEM_STEP_CONVERT, GPA + SIZE + PAGE, PAGE);
	fails(EOPNOTSUPP,
	      gmem_convert_offset(shared, PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	says(GMEM_STEP_CONVERT, GPA + SIZE + PAGE, PAGE);
	ck_assert(!fake_private(gmem_fd(shared), 0));
	ck_assert(!fake_private(gmem_fd(shared), PAGE));
	gmem_unref(shared);
	/* Nor is any made that begins private. */
	shared = NULL;
	options.initial = GMEM_STATE_PRIVATE;
	fails(EINVAL, gmem_new(vm, SIZE, &options, &shared, &err));
	options.mode = world->mode;
	if (has_private()) {
		ok(gmem_new(vm, SIZE, &options, &shared, &err));
		ck_assert_uint_eq(state_of(shared, 0), GMEM_STATE_PRIVATE);
		gmem_unref(shared);
	}
}
END_TEST

START_TEST(parts_of_runs)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	struct gmem_location at = GMEM_LOCATION_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	/* Within a slot a range ends where it is asked to. */
	ck_assert_int_eq(gmem_next_range(vm, GPA + PAGE, GPA + 3 * PAGE, &range), 1);
	ck_assert_uint_eq(range.bytes, 2 * PAGE);
	ck_assert_int_eq(gmem_next_offset_range(memory, PAGE, 3 * PAGE, &range), 1);
	ck_assert_uint_eq(range.bytes, 2 * PAGE);
	ck_assert_int_eq(gmem_next_range(vm, GPA - 2 * PAGE, GPA - PAGE, &range), 1);
	ck_assert_uint_eq(range.bytes, PAGE);
	/* A signal is no answer. */
	if (world->can.ranges) {
		fake_fail_on("KVM_GMEM_GET_RANGES", 1, 3, -EINTR);
		ck_assert_int_eq(gmem_next_range(vm, GPA, GPA + PAGE, &range), 1);
		fake_fail_on(NULL, 0, 0, 0);
		ck_assert_uint_eq(range.state, GMEM_STATE_SHARED);
	}
	/* The state of a page is that of its page, not of the slot. */
	if (has_private()) {
		ok(gmem_convert(vm, GPA + 2 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ok(gmem_lookup(vm, GPA + 3 * PAGE - 1, &at));
		ck_assert_uint_eq(at.state, GMEM_STATE_PRIVATE);
		gmem_unref(at.memory);
		ok(gmem_lookup(vm, GPA + 3 * PAGE, &at));
		ck_assert_uint_eq(at.state, GMEM_STATE_SHARED);
		gmem_unref(at.memory);
	}
	ok(gmem_unbind(vm, 3, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.bound_bytes, 0);
	ck_assert_uint_eq(stats.residue, 0);
}
END_TEST

/* Each way of converting is counted, and each refusal. */
START_TEST(counted)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;
	uint64_t n = 0;

	if (!has_private())
		return;
	for (int i = 0; i < 2; i++) {
		uint32_t state = i ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE;

		ok(gmem_convert(vm, GPA, PAGE, state, NULL, NULL, &err));
		ok(gmem_convert(vm, GPA + PAGE, PAGE, state, NULL, &result, &err));
		ok(gmem_convert(vm, GPA - PAGE, SIZE, state, NULL, &result, &err));
		ok(gmem_convert_offset(memory, 0, SIZE, state, NULL, NULL, &err));
		ok(gmem_stats(memory, &stats, &err));
		ck_assert_uint_eq(stats.conversions, n + 4);
		ck_assert_uint_eq(stats.refusals, 0);
		n = stats.conversions;
	}
	if (world->mode != GMEM_MODE_INPLACE)
		return;
	fake_pin(gmem_fd(memory), PAGE, true);
	fails(EAGAIN, gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	says(GMEM_STEP_CONVERT, GPA + PAGE, PAGE);
	fails(EAGAIN, gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	says(GMEM_STEP_CONVERT, GPA + PAGE, PAGE);
	fails(EAGAIN, gmem_convert_offset(memory, 0, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	says(GMEM_STEP_CONVERT, GPA + PAGE, PAGE);
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.conversions, n);
	ck_assert_uint_eq(stats.refusals, 3);
}
END_TEST

/* --- binding */

START_TEST(bound_already)
{
	struct gmem *other = memory_of(SIZE, GMEM_STATE_SHARED);

	ok(gmem_bind(other, 5, GPA + 4 * SIZE, 2 * PAGE, 4 * PAGE, &err));
	fails(EEXIST, gmem_bind(other, 5, GPA + 8 * SIZE, 8 * PAGE, PAGE, &err));
	says(GMEM_STEP_BIND, GPA + 4 * SIZE, 2 * PAGE);
	fails(EEXIST, gmem_bind(other, 6, GPA + 4 * SIZE + PAGE, 8 * PAGE, PAGE, &err));
	says(GMEM_STEP_BIND, GPA + 4 * SIZE + PAGE, GMEM_NOWHERE);
	fails(EEXIST, gmem_bind(other, 6, GPA + 4 * SIZE - PAGE, 8 * PAGE, 2 * PAGE, &err));
	says(GMEM_STEP_BIND, GPA + 4 * SIZE, GMEM_NOWHERE);
	fails(EEXIST, gmem_bind(other, 6, GPA + 8 * SIZE, PAGE, 2 * PAGE, &err));
	says(GMEM_STEP_BIND, GMEM_NOWHERE, 2 * PAGE);
	fails(EEXIST, gmem_bind(other, 6, GPA + 8 * SIZE, 5 * PAGE, 2 * PAGE, &err));
	says(GMEM_STEP_BIND, GMEM_NOWHERE, 5 * PAGE);
	fails(ENOENT, gmem_unbind(vm, 6, &err));
	says(GMEM_STEP_BIND, GMEM_NOWHERE, GMEM_NOWHERE);
	gmem_unref(other);
}
END_TEST

/* Attributes of two private runs go with a bind that fails in its second, or at the slot. */
START_TEST(attributes_of_a_failed_bind)
{
	static const struct {
		const char *call;
		unsigned int n;
	} ways[] = {{"KVM_SET_MEMORY_ATTRIBUTES", 1},
		    {"KVM_SET_MEMORY_ATTRIBUTES", 2},
		    {"KVM_SET_USER_MEMORY_REGION2", 1}};
	struct gmem *other;

	if (world->mode != GMEM_MODE_DUAL)
		return;
	other = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_convert_offset(other, PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_convert_offset(other, 4 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		fake_fail_on(ways[i].call, ways[i].n, 1, -ENOMEM);
		fails(ENOMEM, gmem_bind(other, 5, GPA + 4 * SIZE, 0, SIZE, &err));
		says(GMEM_STEP_BIND, GPA + 4 * SIZE, 0);
		fake_fail_on(NULL, 0, 0, 0);
		for (uint64_t p = 0; p < SIZE; p += PAGE)
			ck_assert(!fake_attribute(vm_fd, GPA + 4 * SIZE + p));
	}
	gmem_unref(other);
}
END_TEST

/* --- listeners */

static int refuse(void *data, const struct gmem_event *event)
{
	(void)event;
	return --*(int *)data ? 0 : -EBUSY;
}

/* Who has no rollback is not told of one; who refuses is asked for each run. */
START_TEST(no_rollback)
{
	struct gmem_listener_ops ops = GMEM_LISTENER_OPS_INIT;
	struct gmem_listener *listener, *none = NULL;
	int left = 2;

	if (!has_private())
		return;
	ops.prepare = refuse;
	ok(gmem_convert(vm, GPA + 4 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	/* Two runs are shared. */
	fails(EBUSY, gmem_listener_add(vm, &ops, &left, &none, &err));
	says(GMEM_STEP_PREPARE, GPA + 5 * PAGE, 5 * PAGE);
	ck_assert_ptr_null(none);
	left = 100;
	ok(gmem_listener_add(vm, &ops, &left, &listener, &err));
	left = 2;
	fails(EBUSY, gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	says(GMEM_STEP_PREPARE, GPA + 5 * PAGE, 5 * PAGE);
	left = 2;
	fails(EBUSY, gmem_unbind(vm, 3, &err));
	says(GMEM_STEP_PREPARE, GPA + 5 * PAGE, 5 * PAGE);
	ok(gmem_listener_remove(vm, listener));
}
END_TEST

static int change(void *data, const struct gmem_event *event)
{
	struct gmem_error own = GMEM_ERROR_INIT;
	int *done = data;

	/* To allocate is a change where there are two sides to choose from. */
	ck_assert_int_eq(gmem_prealloc(event->memory, 0, PAGE, NULL, NULL, NULL, &own),
			 world->mode == GMEM_MODE_DUAL ? -EDEADLK : 0);
	own = (struct gmem_error)GMEM_ERROR_INIT;
	if (world->can.zero) {
		ck_assert_int_eq(gmem_zero(event->memory, 0, PAGE, &own), -EDEADLK);
		ck_assert_int_eq(own.error, -EDEADLK);
	}
	own = (struct gmem_error)GMEM_ERROR_INIT;
	if (world->can.link) {
		ck_assert_int_eq(gmem_freeze(event->memory, &own), -EDEADLK);
		ck_assert_int_eq(own.error, -EDEADLK);
	}
	++*done;
	return 0;
}

START_TEST(changes_from_callbacks)
{
	struct gmem_listener_ops ops = GMEM_LISTENER_OPS_INIT;
	struct gmem_listener *listener;
	int done = 0;

	ops.prepare = change;
	ok(gmem_listener_add(vm, &ops, &done, &listener, &err));
	ck_assert_int_eq(done, 1);
	ok(gmem_listener_remove(vm, listener));
	/* Nothing was frozen. */
	ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
}
END_TEST

/* --- the VM */

START_TEST(hypercalls_are_handed_out)
{
	struct gmem_vm_options options = GMEM_VM_OPTIONS_INIT;
	struct gmem_vm *other;

	ck_assert(!fake_hands_out_hypercalls(vm_fd));
	options.flags = GMEM_VM_MAP_GPA_RANGE;
	ok(gmem_vm_new_sys(vm_fd, &options, &other, &err, &fake_sys));
	ck_assert(fake_hands_out_hypercalls(vm_fd));
	gmem_vm_free(other);
}
END_TEST

/* --- mappings */

START_TEST(mapping_flags)
{
	static const struct {
		uint64_t flags;
		int prot;
		bool dump, fork;
	} ways[] = {{0, PROT_READ | PROT_WRITE, true, true},
		    {GMEM_MAP_READONLY, PROT_READ, true, true},
		    {GMEM_MAP_DONTDUMP, PROT_READ | PROT_WRITE, false, true},
		    {GMEM_MAP_DONTFORK, PROT_READ | PROT_WRITE, true, false}};
	void *address;

	for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		ok(gmem_map(memory, PAGE, PAGE, ways[i].flags, &address, &err));
		ck_assert_int_eq(fake_protection(address), ways[i].prot);
		ck_assert_int_eq(fake_advice(address, MADV_DONTDUMP), !ways[i].dump);
		ck_assert_int_eq(fake_advice(address, MADV_DONTFORK), !ways[i].fork);
		ok(fake_sys.munmap(address, PAGE));
	}
	/* A vCPU writes through the mapping that a slot has. */
	if (memory->map)
		ck_assert_int_eq(fake_protection(memory->map), PROT_READ | PROT_WRITE);
}
END_TEST

/* --- nodes */

START_TEST(policies_of_others)
{
	static unsigned long words[16];
	struct bitmask few = {64, words}, many = {1024, words};
	uint32_t policy = 77;

	if (!world->can.policy)
		return;
	/* By way of another mapping somebody may have set what this library does not. */
	fake_policy_says(MPOL_LOCAL, 1);
	fails(EOPNOTSUPP, gmem_get_policy(memory, PAGE, &policy, &many, &err));
	says(GMEM_STEP_POLICY, GMEM_NOWHERE, PAGE);
	fake_policy_says(MPOL_PREFERRED, 1);
	ok(gmem_get_policy(memory, PAGE, &policy, &many, &err));
	ck_assert_uint_eq(policy, GMEM_POLICY_PREFERRED);
	ck_assert_uint_eq(words[0], 2);
	/* Flags of the mode are no other policy. */
	fake_policy_says(MPOL_BIND | 1 << 14, 70);
	ok(gmem_get_policy(memory, PAGE, &policy, &many, &err));
	ck_assert_uint_eq(policy, GMEM_POLICY_BIND);
	ck_assert_uint_eq(words[0], 0);
	ck_assert_uint_eq(words[1], 1ul << 6);
	/* No room. */
	words[0] = 0x55;
	policy = 77;
	fails(ERANGE, gmem_get_policy(memory, PAGE, &policy, &few, &err));
	says(GMEM_STEP_POLICY, GMEM_NOWHERE, PAGE);
	ck_assert_uint_eq(policy, 77);
	ck_assert_uint_eq(words[0], 0x55);
	fake_policy_says(MPOL_BIND, 63);
	ok(gmem_get_policy(memory, PAGE, &policy, &few, &err));
	ck_assert_uint_eq(words[0], 1ul << 63);
}
END_TEST

START_TEST(no_policy)
{
	static unsigned long word = 1;
	struct bitmask one = {64, &word};
	uint32_t policy;

	if (has_policy())
		return;
	fails(EOPNOTSUPP, gmem_set_policy(memory, PAGE, PAGE, GMEM_POLICY_BIND, &one, &err));
	says(GMEM_STEP_POLICY, GMEM_NOWHERE, PAGE);
	fails(EOPNOTSUPP, gmem_get_policy(memory, PAGE, &policy, NULL, &err));
	says(GMEM_STEP_POLICY, GMEM_NOWHERE, PAGE);
}
END_TEST

static int stop(void *data, uint64_t done, uint64_t total)
{
	ck_assert_uint_eq(total, 65 * MIB);
	return done > 40 * MIB ? *(int *)data : 0;
}

START_TEST(stopped)
{
	struct gmem *large = memory_of(66 * MIB, GMEM_STATE_SHARED);
	int answer = 1;

	fails(ECANCELED, gmem_prealloc(large, MIB, 65 * MIB, NULL, stop, &answer, &err));
	says(GMEM_STEP_ALLOCATE, GMEM_NOWHERE, 65 * MIB);
	ck_assert(fake_populated(gmem_shared_fd(large), 65 * MIB - PAGE));
	ck_assert(!fake_populated(gmem_shared_fd(large), 65 * MIB));
	ck_assert(!fake_populated(gmem_shared_fd(large), MIB - PAGE));
	gmem_unref(large);
}
END_TEST

/* More pages in a row than are asked for at once, on nodes in turn. */
START_TEST(placed)
{
	const uint64_t pages = 300;
	struct gmem *large = memory_of(pages * PAGE, GMEM_STATE_SHARED);
	int fd = gmem_shared_fd(large);
	uint64_t on[4] = {9, 9, 9, 9};

	for (uint64_t p = 0; p < pages; p++)
		fake_touch(fd, p * PAGE, p < 130 ? 0 : p < 290 ? 1 : 2);
	ok(gmem_placement(large, 0, pages * PAGE, on, 3, &err));
	ck_assert_uint_eq(on[0], 130 * PAGE);
	ck_assert_uint_eq(on[1], 160 * PAGE);
	ck_assert_uint_eq(on[2], 10 * PAGE);
	ck_assert_uint_eq(on[3], 9);
	ok(gmem_placement(large, 129 * PAGE, 2 * PAGE, on, 2, &err));
	ck_assert_uint_eq(on[0], PAGE);
	ck_assert_uint_eq(on[1], PAGE);
	on[0] = 9;
	fails(ERANGE, gmem_placement(large, PAGE, 299 * PAGE, on, 1, &err));
	says(GMEM_STEP_QUERY, GMEM_NOWHERE, 130 * PAGE);
	ck_assert_uint_eq(on[0], 9);
	/* With a hole in the second half, the first half fails. */
	ok(gmem_discard(large, 299 * PAGE, PAGE, &err));
	fails(ERANGE, gmem_placement(large, 0, 300 * PAGE, on, 1, &err));
	says(GMEM_STEP_QUERY, GMEM_NOWHERE, 130 * PAGE);
	gmem_unref(large);
	if (!has_private() || world->can.ranges)
		return;
	ok(gmem_convert(vm, GPA + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	fake_touch(gmem_fd(memory), PAGE, 0);
	fails(EOPNOTSUPP, gmem_placement(memory, PAGE, PAGE, on, 4, &err));
	says(GMEM_STEP_QUERY, GMEM_NOWHERE, PAGE);
}
END_TEST

/* --- life */

START_TEST(no_life)
{
	struct gmem *other = NULL;

	if (world->can.link)
		return;
	fails(EOPNOTSUPP, gmem_relink(memory, vm, &other, &err));
	says(GMEM_STEP_CREATE, GMEM_NOWHERE, GMEM_NOWHERE);
	fails(EOPNOTSUPP, gmem_freeze(memory, &err));
	says(GMEM_STEP_FREEZE, GMEM_NOWHERE, GMEM_NOWHERE);
	fails(EOPNOTSUPP, gmem_clone(memory, vm, &other, &err));
	says(GMEM_STEP_CREATE, GMEM_NOWHERE, GMEM_NOWHERE);
	ck_assert_ptr_null(other);
}
END_TEST

Suite *suite_details(void)
{
	Suite *suite = suite_create("details");
	TCase *tcase = tcase_create(world->name);

	tcase_add_checked_fixture(tcase, begin, end);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, kept);
	tcase_add_test(tcase, kept_by_rollback);
	tcase_add_test(tcase, zeroed);
	tcase_add_test(tcase, sides);
	tcase_add_test(tcase, partial_discard);
	tcase_add_test(tcase, shared_mode_stays);
	tcase_add_test(tcase, parts_of_runs);
	tcase_add_test(tcase, counted);
	tcase_add_test(tcase, bound_already);
	tcase_add_test(tcase, attributes_of_a_failed_bind);
	tcase_add_test(tcase, no_rollback);
	tcase_add_test(tcase, changes_from_callbacks);
	tcase_add_test(tcase, hypercalls_are_handed_out);
	tcase_add_test(tcase, mapping_flags);
	tcase_add_test(tcase, policies_of_others);
	tcase_add_test(tcase, no_policy);
	tcase_add_test(tcase, stopped);
	tcase_add_test(tcase, placed);
	tcase_add_test(tcase, no_life);
	suite_add_tcase(suite, tcase);
	return suite;
}
