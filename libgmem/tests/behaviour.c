/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the library does, in every mode alike where modes can be alike. */
#include "world.h"

#include "backend.h"

#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>

#define GPA (4 * MIB)
#define SIZE (16 * PAGE)

static struct bitmask *node_mask(unsigned long nodes)
{
	static unsigned long word[16];
	static struct bitmask mask = {1024, word};

	memset(word, 0, sizeof(word));
	word[0] = nodes;
	return &mask;
}

static uint64_t caps(void)
{
	uint64_t have;

	ok(gmem_vm_caps(vm, &have));
	return have;
}

START_TEST(version)
{
	unsigned int major = 99, minor = 99;

	gmem_version(&major, &minor);
	ck_assert_uint_eq(major, GMEM_VERSION_MAJOR);
	ck_assert_uint_eq(minor, GMEM_VERSION_MINOR);
	gmem_version(NULL, NULL);
}
END_TEST

START_TEST(capabilities)
{
	uint64_t have = caps();
	uint32_t mode;

	ck_assert(have & mode_caps[world->mode]);
	ck_assert(!(have & GMEM_CAP_PRIVATE) ==
		  !(have & (GMEM_CAP_INPLACE | GMEM_CAP_ATTRIBUTES | GMEM_CAP_DUAL)));
	/* There is a reason for each that is missing, and none for the others. */
	for (int bit = 0; bit < GMEM_NR_CAPS; bit++) {
		const char *why = gmem_vm_why_not(vm, UINT64_C(1) << bit);

		if (have >> bit & 1)
			ck_assert_ptr_null(why);
		else
			ck_assert_msg(why && strlen(why) > 10, "no reason for capability %d", bit);
	}
	ck_assert_ptr_null(gmem_vm_why_not(vm, 0));
	ck_assert_ptr_null(gmem_vm_why_not(vm, 3));
	ck_assert_ptr_null(gmem_vm_why_not(vm, UINT64_C(1) << 63));
	ck_assert_ptr_null(gmem_vm_why_not(NULL, 1));
	if (!has_default(have)) {
		ck_assert_int_eq(gmem_vm_mode(vm, &mode), -EOPNOTSUPP);
		return;
	}
	ok(gmem_vm_mode(vm, &mode));
	ck_assert(have & mode_caps[mode]);
	if (!world->real)
		ck_assert_uint_eq(mode, world->mode);
	else
		printf("# %s: capabilities %#llx, AUTO is mode %u\n", world->name,
		       (unsigned long long)have, mode);
}
END_TEST

START_TEST(modes)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem *memory;
	uint32_t mode;

	for (options.mode = 1; options.mode <= NR_MODES; options.mode++) {
		memory = NULL;
		if (caps() & mode_caps[options.mode]) {
			ok(gmem_new(vm, SIZE, &options, &memory, &err));
			ck_assert_uint_eq(gmem_mode(memory), options.mode);
			ck_assert_uint_eq(gmem_size(memory), SIZE);
			ck_assert_uint_eq(state_of(memory, 0), options.mode >= GMEM_MODE_SHARED
								       ? GMEM_STATE_SHARED
								       : GMEM_STATE_PRIVATE);
			ck_assert_ptr_null(gmem_unref(memory));
		} else {
			fails(EOPNOTSUPP, gmem_new(vm, SIZE, &options, &memory, &err));
			ck_assert_ptr_null(memory);
			ck_assert_str_eq(err.message, gmem_vm_why_not(vm, mode_caps[options.mode]));
		}
	}
	if (has_default(caps())) {
		ok(gmem_vm_mode(vm, &mode));
		ok(gmem_new(vm, SIZE, NULL, &memory, &err));
		ck_assert_uint_eq(gmem_mode(memory), mode);
		gmem_unref(memory);
	} else {
		fails(EOPNOTSUPP, gmem_new(vm, SIZE, NULL, &memory, &err));
	}

	/* AUTO does not pretend. */
	options = (struct gmem_options)GMEM_OPTIONS_INIT;
	options.initial = GMEM_STATE_PRIVATE;
	if (caps() & GMEM_CAP_PRIVATE) {
		ok(gmem_new(vm, SIZE, &options, &memory, &err));
		ck_assert_uint_eq(state_of(memory, 0), GMEM_STATE_PRIVATE);
		gmem_unref(memory);
	} else {
		fails(EOPNOTSUPP, gmem_new(vm, SIZE, &options, &memory, &err));
	}
}
END_TEST

/* Who gets the memfd cannot take memory away under the VMM, or prevent that it is freed. */
START_TEST(sealed_descriptors)
{
	const struct gmem_sys *sys = world_sys(world) ? world_sys(world) : &gmem_sys_real;
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	const int fd = gmem_shared_fd(memory);

	if (world->mode == GMEM_MODE_DUAL || world->mode == GMEM_MODE_PLAIN) {
		ck_assert_int_eq(sys->ftruncate(fd, SIZE - PAGE), -EPERM);
		ck_assert_int_eq(sys->ftruncate(fd, SIZE + PAGE), -EPERM);
		ck_assert_int_eq(sys->add_seals(fd, F_SEAL_WRITE), -EPERM);
	}
	ok(gmem_prealloc(memory, 0, SIZE, NULL, NULL, NULL, &err));
	ok(gmem_discard(memory, 0, SIZE, &err));
	gmem_unref(memory);
}
END_TEST

START_TEST(descriptors)
{
	struct gmem *memory = memory_of(SIZE, 0);

	if (world->real) {
		ck_assert(fcntl(gmem_fd(memory), F_GETFD) & FD_CLOEXEC);
		ck_assert(fcntl(gmem_shared_fd(memory), F_GETFD) & FD_CLOEXEC);
	} else {
		ck_assert(fake_cloexec(gmem_fd(memory)));
		ck_assert(fake_cloexec(gmem_shared_fd(memory)));
	}
	if (world->mode == GMEM_MODE_DUAL)
		ck_assert_int_ne(gmem_fd(memory), gmem_shared_fd(memory));
	else
		ck_assert_int_eq(gmem_fd(memory), gmem_shared_fd(memory));
	ck_assert_ptr_eq(gmem_ref(memory), memory);
	ck_assert_ptr_null(gmem_unref(memory));
	ck_assert_uint_eq(gmem_size(memory), SIZE);
	gmem_unref(memory);
}
END_TEST

static void unmap(void *address, uint64_t bytes)
{
	if (world->real)
		ok(gmem_unmap(address, bytes));
	else
		ok(fake_sys.munmap(address, bytes));
}

START_TEST(mapping)
{
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	volatile uint32_t *one, *two;
	void *address;

	ok(gmem_map(memory, 0, SIZE, 0, &address, &err));
	one = address;
	ok(gmem_map(memory, PAGE, PAGE, GMEM_MAP_READONLY | GMEM_MAP_DONTDUMP | GMEM_MAP_DONTFORK,
		    &address, &err));
	two = address;
	if (!world->real) {
		ck_assert(fake_advice(address, MADV_DONTDUMP));
		ck_assert(fake_advice(address, MADV_DONTFORK));
		ck_assert(!fake_advice((void *)one, MADV_DONTDUMP));
	}
	ck_assert_uint_eq(*two, 0);
	one[PAGE / 4] = 0x1234;
	ck_assert_uint_eq(*two, 0x1234);
	unmap((void *)one, SIZE);
	/* The mapping keeps the memory, not the struct gmem. */
	gmem_unref(memory);
	ck_assert_uint_eq(*two, 0x1234);
	unmap((void *)two, PAGE);
}
END_TEST

START_TEST(binding)
{
	struct gmem *memory = memory_of(SIZE, 0), *other = memory_of(SIZE, 0);
	struct gmem_location at = GMEM_LOCATION_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	ok(gmem_bind(memory, 0, GPA, 0, SIZE / 2, &err));
	ok(gmem_bind(memory, 7, GPA + SIZE, SIZE / 2, SIZE / 2, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.bound_bytes, SIZE);

	fails(EEXIST, gmem_bind(other, 0, GPA + 4 * SIZE, 0, SIZE, &err)); /* the slot */
	fails(EEXIST, gmem_bind(other, 1, GPA + SIZE / 2 - PAGE, 0, PAGE, &err));
	ck_assert_uint_eq(err.gpa, GPA + SIZE / 2 - PAGE);
	fails(EEXIST, gmem_bind(other, 1, GPA - PAGE, 0, 2 * PAGE, &err));
	ck_assert_uint_eq(err.gpa, GPA);
	fails(EEXIST, gmem_bind(memory, 1, GPA + 4 * SIZE, PAGE, PAGE, &err)); /* the memory */
	ck_assert_uint_eq(err.offset, PAGE);
	/* What touches, does not overlap. */
	ok(gmem_bind(other, 1, GPA + SIZE / 2, 0, SIZE / 2, &err));

	ok(gmem_lookup(vm, GPA + 5, &at));
	ck_assert_ptr_eq(at.memory, memory);
	ck_assert_uint_eq(at.offset, 5);
	ck_assert_uint_eq(at.bytes, SIZE / 2 - 5);
	ck_assert_uint_eq(at.slot, 0);
	ck_assert_uint_eq(at.state, state_of(memory, 0));
	gmem_unref(at.memory);
	ok(gmem_lookup(vm, GPA + SIZE + SIZE / 2 - 1, &at));
	ck_assert_ptr_eq(at.memory, memory);
	ck_assert_uint_eq(at.offset, SIZE - 1);
	ck_assert_uint_eq(at.bytes, 1);
	ck_assert_uint_eq(at.slot, 7);
	gmem_unref(at.memory);
	ok(gmem_lookup(vm, GPA + SIZE / 2, &at));
	ck_assert_ptr_eq(at.memory, other);
	gmem_unref(at.memory);
	at.memory = NULL;
	ck_assert_int_eq(gmem_lookup(vm, GPA - 1, &at), -ENOENT);
	ck_assert_int_eq(gmem_lookup(vm, GPA + SIZE + SIZE / 2, &at), -ENOENT);
	ck_assert_ptr_null(at.memory);

	fails(ENOENT, gmem_unbind(vm, 3, &err));
	ok(gmem_unbind(vm, 0, &err));
	ck_assert_int_eq(gmem_lookup(vm, GPA, &at), -ENOENT);
	fails(ENOENT, gmem_unbind(vm, 0, &err));
	/* It can be had again, elsewhere. */
	ok(gmem_bind(memory, 0, GPA + 8 * SIZE, 0, SIZE / 2, &err));
	ok(gmem_lookup(vm, GPA + 8 * SIZE, &at));
	gmem_unref(at.memory);

	/* A binding is a reference. */
	gmem_unref(other);
	ok(gmem_lookup(vm, GPA + SIZE / 2, &at));
	gmem_unref(at.memory);
	ok(gmem_unbind(vm, 1, &err));
	ok(gmem_unbind(vm, 0, &err));
	ok(gmem_unbind(vm, 7, &err));
	gmem_unref(memory);
}
END_TEST

START_TEST(ranges)
{
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	struct gmem_range r = GMEM_RANGE_INIT;
	uint64_t end = GPA + SIZE + 4 * PAGE, gpa = GPA - 2 * PAGE;

	ok(gmem_bind(memory, 3, GPA, 0, SIZE, &err));
	if (has_private())
		ok(gmem_convert(vm, GPA + PAGE, 2 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));

	ck_assert_int_eq(gmem_next_range(vm, gpa, end, &r), 1);
	ck_assert_uint_eq(r.state, GMEM_STATE_UNBACKED);
	ck_assert_ptr_null(r.memory);
	ck_assert_uint_eq(r.gpa, gpa);
	ck_assert_uint_eq(r.bytes, 2 * PAGE);
	ck_assert_uint_eq(r.offset, GMEM_NOWHERE);
	gpa += r.bytes;
	if (has_private()) {
		ck_assert_int_eq(gmem_next_range(vm, gpa, end, &r), 1);
		ck_assert_uint_eq(r.state, GMEM_STATE_SHARED);
		ck_assert_uint_eq(r.bytes, PAGE);
		gpa += r.bytes;
		ck_assert_int_eq(gmem_next_range(vm, gpa, end, &r), 1);
		ck_assert_uint_eq(r.state, GMEM_STATE_PRIVATE);
		ck_assert_uint_eq(r.bytes, 2 * PAGE);
		ck_assert_uint_eq(r.offset, PAGE);
		gpa += r.bytes;
	}
	ck_assert_int_eq(gmem_next_range(vm, gpa, end, &r), 1);
	ck_assert_uint_eq(r.state, GMEM_STATE_SHARED);
	ck_assert_ptr_eq(r.memory, memory);
	ck_assert_uint_eq(r.slot, 3);
	ck_assert_uint_eq(r.gpa, gpa);
	ck_assert_uint_eq(r.offset, gpa - GPA);
	ck_assert_uint_eq(r.bytes, GPA + SIZE - gpa);
	gpa += r.bytes;
	ck_assert_int_eq(gmem_next_range(vm, gpa, end, &r), 1);
	ck_assert_uint_eq(r.state, GMEM_STATE_UNBACKED);
	ck_assert_uint_eq(r.bytes, 4 * PAGE);
	ck_assert_int_eq(gmem_next_range(vm, end, end, &r), 0);

	ck_assert_int_eq(gmem_next_offset_range(memory, 4 * PAGE, SIZE, &r), 1);
	ck_assert_uint_eq(r.gpa, GMEM_NOWHERE);
	ck_assert_uint_eq(r.offset, 4 * PAGE);
	ck_assert_uint_eq(r.bytes, SIZE - 4 * PAGE);
	ck_assert_uint_eq(r.state, GMEM_STATE_SHARED);
	ck_assert_int_eq(gmem_next_offset_range(memory, SIZE, SIZE, &r), 0);
	ok(gmem_unbind(vm, 3, &err));
	gmem_unref(memory);
}
END_TEST

/* Over two slots with a hole between them, and back, and a part twice. */
START_TEST(converting)
{
	struct gmem *one = memory_of(SIZE, GMEM_STATE_SHARED);
	struct gmem *two = memory_of(SIZE, GMEM_STATE_SHARED);
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;
	uint64_t second = GPA + SIZE + 4 * PAGE;

	ok(gmem_bind(one, 0, GPA, 0, SIZE, &err));
	ok(gmem_bind(two, 1, second, 0, SIZE, &err));
	if (!has_private()) {
		fails(EOPNOTSUPP,
		      gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
		ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED);
		ok(gmem_convert(vm, GPA, 2 * SIZE, GMEM_STATE_SHARED, NULL, &result, &err));
	} else {
		ok(gmem_convert(vm, GPA + SIZE - 2 * PAGE, 8 * PAGE, GMEM_STATE_PRIVATE, NULL,
				&result, &err));
		ck_assert_uint_eq(result.attempts, 1);
		ck_assert_uint_eq(result.residue, 0);
		ck_assert_uint_eq(result.busy_gpa, GMEM_NOWHERE);
		for (uint64_t p = 0; p < SIZE; p += PAGE) {
			ck_assert_uint_eq(state_at(GPA + p), p >= SIZE - 2 * PAGE
								     ? GMEM_STATE_PRIVATE
								     : GMEM_STATE_SHARED);
			ck_assert_uint_eq(state_at(second + p),
					  p < 2 * PAGE ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED);
		}
		ok(gmem_stats(one, &stats, &err));
		ck_assert_uint_eq(stats.private_bytes, 2 * PAGE);
		ck_assert_uint_eq(stats.shared_bytes, SIZE - 2 * PAGE);
		ck_assert_uint_ge(stats.conversions, 1);
		/* What is so already is no trouble. */
		ok(gmem_convert(vm, 0, 16 * MIB, GMEM_STATE_PRIVATE, NULL, &result, &err));
		ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
		ok(gmem_stats(two, &stats, &err));
		ck_assert_uint_eq(stats.private_bytes, SIZE);
		ok(gmem_convert_offset(two, PAGE, PAGE, GMEM_STATE_SHARED, NULL, &result, &err));
		ck_assert_uint_eq(state_at(second + PAGE), GMEM_STATE_SHARED);
		ck_assert_uint_eq(state_at(second), GMEM_STATE_PRIVATE);
	}
	/* What no slot backs succeeds. */
	ok(gmem_convert(vm, 0, MIB, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ok(gmem_convert(vm, GPA + SIZE, PAGE, GMEM_STATE_SHARED, NULL, NULL, NULL));
	gmem_unref(one);
	gmem_unref(two);
}
END_TEST

/* State is the memory's: it stays over unbinding, and can change while unbound. */
START_TEST(converting_unbound)
{
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);

	if (!has_private()) {
		fails(EOPNOTSUPP,
		      gmem_convert_offset(memory, 0, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	} else {
		ok(gmem_convert_offset(memory, PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
		ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED);
		ck_assert_uint_eq(state_at(GPA + PAGE), GMEM_STATE_PRIVATE);
		if (!world->real && world->mode == GMEM_MODE_DUAL) {
			ck_assert(!fake_attribute(vm_fd, GPA));
			ck_assert(fake_attribute(vm_fd, GPA + PAGE));
		}
		ok(gmem_unbind(vm, 0, &err));
		if (!world->real && world->mode == GMEM_MODE_DUAL)
			ck_assert(!fake_attribute(vm_fd, GPA + PAGE));
		ck_assert_uint_eq(state_of(memory, PAGE), GMEM_STATE_PRIVATE);
	}
	gmem_unref(memory);
}
END_TEST

/* Contents: kept in place, lost in dual mode, gone with ZERO. */
START_TEST(contents)
{
	struct gmem_convert_options zero = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	volatile uint8_t *map;
	void *address;

	if (!world->real) { /* its pages have no contents */
		gmem_unref(memory);
		return;
	}
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ok(gmem_map(memory, 0, SIZE, 0, &address, &err));
	map = address;
	for (uint64_t p = 0; p < SIZE; p += PAGE)
		map[p] = 0x55;
	if (has_private()) {
		ok(gmem_convert(vm, GPA, 4 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ok(gmem_convert(vm, GPA, 2 * PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		zero.flags = GMEM_CONVERT_ZERO;
		ok(gmem_convert(vm, GPA + 2 * PAGE, 2 * PAGE, GMEM_STATE_SHARED, &zero, NULL,
				&err));
		ck_assert_uint_eq(map[0], world->mode == GMEM_MODE_DUAL ? 0 : 0x55);
		ck_assert_uint_eq(map[PAGE], world->mode == GMEM_MODE_DUAL ? 0 : 0x55);
		ck_assert_uint_eq(map[2 * PAGE], 0);
		ck_assert_uint_eq(map[3 * PAGE], 0);
	}
	ck_assert_uint_eq(map[4 * PAGE], 0x55);
	if (caps() & GMEM_CAP_ZERO && !memory->backend->no_zero) {
		ok(gmem_zero(memory, 4 * PAGE, PAGE, &err));
		ck_assert_uint_eq(map[4 * PAGE], 0);
	} else {
		fails(EOPNOTSUPP, gmem_zero(memory, 4 * PAGE, PAGE, &err));
	}
	ok(gmem_discard(memory, 5 * PAGE, PAGE, &err));
	ck_assert_uint_eq(map[5 * PAGE], 0);
	ck_assert_uint_eq(map[6 * PAGE], 0x55);
	unmap(address, SIZE);
	gmem_unref(memory);
}
END_TEST

struct stage {
	struct gmem *memory;
	const volatile uint8_t *map;
	unsigned int before, after, back;
};

/* What is mapped for a device is the old page until that is unmapped, and then the new one. */
static bool has_page(const struct stage *s)
{
	return world->real ? s->map[0] == 0x55 : fake_populated(gmem_shared_fd(s->memory), 0);
}

static int before_discard(void *data, const struct gmem_event *event)
{
	struct stage *s = data;

	if (event->from != event->to)
		return 0;
	ck_assert_uint_eq(event->from, GMEM_STATE_SHARED);
	ck_assert(has_page(s));
	s->before++;
	return 0;
}

static void after_discard(void *data, const struct gmem_event *event)
{
	struct stage *s = data;

	if (event->from != event->to)
		return;
	ck_assert(!has_page(s));
	s->after++;
}

static void no_discard(void *data, const struct gmem_event *event)
{
	struct stage *s = data;

	ck_assert_uint_eq(event->from, event->to);
	ck_assert(has_page(s));
	s->back++;
}

static bool always(void *data)
{
	return *(bool *)data;
}

/* Devices let go of pages before these are freed, and not where a listener refuses. */
START_TEST(discard_is_told)
{
	static const struct gmem_listener_ops ops = {sizeof(ops), before_discard, after_discard,
						     no_discard};
	struct stage s = {.memory = memory_of(SIZE, GMEM_STATE_SHARED)};
	struct watcher *w = calloc(1, sizeof(*w));
	struct gmem_listener *listener;
	unsigned int events;
	bool refuse = false;
	void *address = NULL;

	ok(gmem_bind(s.memory, 0, GPA, 0, SIZE / 2, &err));
	ok(gmem_bind(s.memory, 1, GPA + SIZE, SIZE / 2, SIZE / 2, &err));
	ok(gmem_listener_add(vm, &ops, &s, &listener, &err));
	w->refuse = always;
	w->data = &refuse;
	ok(watch(vm, w));
	if (has_private())
		ok(gmem_convert(vm, GPA + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	if (world->real) {
		ok(gmem_map(s.memory, 0, SIZE, 0, &address, &err));
		s.map = address;
		*(volatile uint8_t *)address = 0x55;
	} else {
		ok(gmem_prealloc(s.memory, 0, PAGE, NULL, NULL, NULL, &err));
	}
	events = w->events;
	refuse = true;
	fails(EBUSY, gmem_discard(s.memory, 0, SIZE, &err));
	says(GMEM_STEP_PREPARE, GPA, 0);
	ck_assert(has_page(&s));
	ck_assert_uint_eq(s.before, 1);
	ck_assert_uint_eq(s.back, 1);
	check_watcher(w);
	refuse = false;
	if (!world->real) {
		fake_fail_on("fallocate", 1, 1, -EIO);
		fails(EIO, gmem_discard(s.memory, 0, SIZE, &err));
		says(GMEM_STEP_DISCARD, GPA, 0);
		ck_assert_uint_eq(s.before, has_private() ? 4 : 3);
		ck_assert_uint_eq(s.back, s.before);
		check_watcher(w);
		events = w->events;
		s.before = s.back = 1;
	}
	ok(gmem_discard(s.memory, 0, SIZE, &err));
	ck_assert(!has_page(&s));
	/* One event for each run of shared memory in a slot. */
	ck_assert_uint_eq(w->events, events + (has_private() ? 3 : 2));
	ck_assert_uint_eq(s.before, has_private() ? 4 : 3);
	ck_assert_uint_eq(s.after, has_private() ? 3 : 2);
	ck_assert_uint_eq(s.back, 1);
	check_watcher(w);
	/* Nobody has private memory, or what is not bound. */
	events = w->events;
	if (has_private()) {
		ok(gmem_discard(s.memory, PAGE, PAGE, &err));
		ck_assert_uint_eq(w->events, events);
	}
	ok(gmem_unbind(vm, 1, &err));
	events = w->events;
	ok(gmem_discard(s.memory, SIZE / 2, SIZE / 2, &err));
	ck_assert_uint_eq(w->events, events);
	check_watcher(w);
	ok(gmem_listener_remove(vm, w->listener));
	ok(gmem_listener_remove(vm, listener));
	if (address)
		unmap(address, SIZE);
	gmem_unref(s.memory);
	free(w);
}
END_TEST

START_TEST(statistics)
{
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	struct gmem_stats stats = GMEM_STATS_INIT;
	bool dual = world->mode == GMEM_MODE_DUAL;

	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.bytes, SIZE);
	ck_assert_uint_eq(stats.shared_bytes, SIZE);
	ck_assert_uint_eq(stats.private_bytes, 0);
	ck_assert_uint_eq(stats.resident_guest, 0);
	ck_assert_uint_eq(stats.resident_shared, 0);
	ck_assert_uint_eq(stats.bound_bytes, 0);
	ok(gmem_prealloc(memory, PAGE, 4 * PAGE, NULL, NULL, NULL, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, dual ? 0 : 4 * PAGE);
	ck_assert_uint_eq(stats.resident_shared, dual ? 4 * PAGE : 0);
	if (has_private()) {
		ok(gmem_convert_offset(memory, 0, 2 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ok(gmem_stats(memory, &stats, &err));
		ck_assert_uint_eq(stats.private_bytes, 2 * PAGE);
		ck_assert_uint_eq(stats.resident_guest, dual ? 0 : 4 * PAGE);
		ck_assert_uint_eq(stats.resident_shared, dual ? 3 * PAGE : 0);
		ok(gmem_prealloc(memory, 0, SIZE, NULL, NULL, NULL, &err));
		ok(gmem_stats(memory, &stats, &err));
		ck_assert_uint_eq(stats.resident_guest, dual ? 2 * PAGE : SIZE);
		ck_assert_uint_eq(stats.resident_shared, dual ? SIZE - 2 * PAGE : 0);
	}
	ok(gmem_discard(memory, 0, SIZE, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, 0);
	ck_assert_uint_eq(stats.resident_shared, 0);
	ck_assert_uint_eq(stats.private_bytes, has_private() ? 2 * PAGE : 0);
	gmem_unref(memory);
}
END_TEST

static int last_node(void)
{
	if (!world->real)
		return 1;
	return numa_available() < 0 ? 0 : numa_max_node();
}

START_TEST(policy)
{
	struct gmem *memory = memory_of(SIZE, 0);
	struct bitmask *got = node_mask(0);
	unsigned long word[16] = {0};
	struct bitmask nodes = {1024, word};
	uint32_t what = 99;
	int node = last_node();

	word[0] = 1ul << node;
	if (!has_policy()) {
		fails(EOPNOTSUPP, gmem_set_policy(memory, 0, PAGE, GMEM_POLICY_BIND, &nodes, &err));
		gmem_unref(memory);
		return;
	}
	ok(gmem_get_policy(memory, 0, &what, got, &err));
	ck_assert_uint_eq(what, GMEM_POLICY_DEFAULT);
	for (uint32_t p = GMEM_POLICY_BIND; p <= GMEM_POLICY_INTERLEAVE; p++) {
		ok(gmem_set_policy(memory, PAGE, 2 * PAGE, p, &nodes, &err));
		ok(gmem_get_policy(memory, 2 * PAGE, &what, got, &err));
		ck_assert_uint_eq(what, p);
		ck_assert_uint_eq(got->maskp[0], word[0]);
		ok(gmem_get_policy(memory, 3 * PAGE, &what, NULL, &err));
		ck_assert_uint_eq(what, GMEM_POLICY_DEFAULT);
	}
	word[0] = node ? 3 : 1;
	ok(gmem_set_policy(memory, 0, PAGE, GMEM_POLICY_PREFERRED, &nodes, &err));
	ok(gmem_get_policy(memory, 0, &what, got, &err));
	ck_assert_uint_eq(what, GMEM_POLICY_PREFERRED);
	ck_assert_uint_eq(got->maskp[0], word[0]);
	ok(gmem_set_policy(memory, 0, SIZE, GMEM_POLICY_DEFAULT, NULL, &err));
	for (uint64_t p = 0; p < 4; p++) {
		ok(gmem_get_policy(memory, p * PAGE, &what, got, &err));
		ck_assert_uint_eq(what, GMEM_POLICY_DEFAULT);
	}
	gmem_unref(memory);
}
END_TEST

static int count_progress(void *data, uint64_t done, uint64_t total)
{
	uint64_t *seen = data;

	ck_assert_uint_le(done, total);
	ck_assert_uint_ge(done, *seen);
	ck_assert_uint_le(done - *seen, 32 * MIB);
	*seen = done;
	return 0;
}

static int stop_progress(void *data, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	return *(int *)data;
}

START_TEST(preallocation)
{
	uint64_t bytes = 72 * MIB, seen = 0, on[8];
	struct gmem *memory = memory_of(bytes, GMEM_STATE_SHARED);
	struct gmem_stats stats = GMEM_STATS_INIT;
	int node = last_node(), stop = 1;

	ok(gmem_prealloc(memory, 0, bytes, node_mask(1ul << node), count_progress, &seen, &err));
	ck_assert_uint_eq(seen, bytes);
	ok(gmem_placement(memory, 0, bytes, on, 8, &err));
	for (int i = 0; i < 8; i++)
		ck_assert_uint_eq(on[i], i == node ? bytes : 0);
	if (node) {
		memset(on, 0x77, sizeof(on));
		fails(ERANGE, gmem_placement(memory, 0, bytes, on, (unsigned)node, &err));
		ck_assert_uint_eq(on[0], 0x7777777777777777);
	}
	ok(gmem_discard(memory, 0, bytes, &err));
	ok(gmem_placement(memory, 0, bytes, on, 8, &err));
	ck_assert_uint_eq(on[node], 0);

	fails(ECANCELED, gmem_prealloc(memory, 0, bytes, NULL, stop_progress, &stop, &err));
	stop = -EPERM;
	fails(EPERM, gmem_prealloc(memory, 0, bytes, NULL, stop_progress, &stop, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_gt(stats.resident_guest + stats.resident_shared, 0);
	ck_assert_uint_lt(stats.resident_guest + stats.resident_shared, bytes);
	gmem_unref(memory);
}
END_TEST

/* Huge pages, where this machine has some that are free: two of 2 MiB. */
START_TEST(huge)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;
	struct gmem *memory;
	volatile uint8_t *map;
	void *address;
	int r;

	if (!world->real || world->mode != GMEM_MODE_PLAIN)
		return;
	options.initial = GMEM_STATE_SHARED;
	options.huge_page = 2 * MIB;
	r = gmem_new(vm, 4 * MIB, &options, &memory, &err);
	if (r == -ENOMEM || r == -ENODEV || r == -ENOSYS) {
		printf("# %s: skipped: %s\n", world->name, err.message);
		return;
	}
	ck_assert_msg(!r, "%d: %s", r, err.message);
	ck_assert_uint_eq(gmem_mode(memory), GMEM_MODE_PLAIN);
	ok(gmem_bind(memory, 0, GPA, 2 * MIB, MIB, &err));
	ok(gmem_map(memory, 2 * MIB, 2 * MIB, 0, &address, &err));
	map = address;
	map[PAGE] = 7;
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, 2 * MIB);
	ok(gmem_discard(memory, 2 * MIB, 2 * MIB, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, 0);
	ck_assert_uint_eq(map[PAGE], 0);
	fails(EOPNOTSUPP,
	      gmem_set_policy(memory, 0, 2 * MIB, GMEM_POLICY_BIND, node_mask(1), &err));
	r = gmem_prealloc(memory, 0, 4 * MIB, node_mask(1), NULL, NULL, &err);
	/* Without CONFIG_NUMA. */
	ck_assert_msg(!r || r == -EOPNOTSUPP, "%d: %s", r, err.message);
	ok(gmem_prealloc(memory, 0, 4 * MIB, NULL, NULL, NULL, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, 4 * MIB);
	unmap(address, 2 * MIB);
	gmem_unref(memory);
}
END_TEST

/* Private memory has a place as well. */
START_TEST(placement_private)
{
	struct gmem *memory = memory_of(SIZE, 0);
	uint64_t on[8] = {0};

	ok(gmem_prealloc(memory, 0, 4 * PAGE, node_mask(1), NULL, NULL, &err));
	if (world->mode == GMEM_MODE_DUAL || world->mode == GMEM_MODE_ATTRIBUTES) {
		/* Nobody can tell. */
		fails(EOPNOTSUPP, gmem_placement(memory, 0, SIZE, on, 8, &err));
		ok(gmem_placement(memory, 4 * PAGE, PAGE, on, 8, &err));
		ck_assert_uint_eq(on[0], 0);
	} else {
		ok(gmem_placement(memory, 0, SIZE, on, 8, &err));
		ck_assert_uint_eq(on[0], 4 * PAGE);
	}
	gmem_unref(memory);
}
END_TEST

/* Holes, runs and nodes in turn: all of it is found, by whichever way. */
START_TEST(placement_sparse)
{
	uint64_t pages = 600, on[8], want[2] = {0};
	struct gmem *memory = memory_of(pages * PAGE, GMEM_STATE_SHARED);
	unsigned int seed = 5;

	for (uint64_t p = 0; p < pages; p++) {
		int what = rand_r(&seed) % 3;
		unsigned long node = last_node() ? (unsigned)what & 1 : 0;

		if (what == 2)
			continue;
		ok(gmem_prealloc(memory, p * PAGE, PAGE, node_mask(1ul << node), NULL, NULL, &err));
		want[node] += PAGE;
	}
	ok(gmem_placement(memory, 0, pages * PAGE, on, 8, &err));
	ck_assert_uint_eq(on[0], want[0]);
	ck_assert_uint_eq(on[1], want[1]);
	gmem_unref(memory);
}
END_TEST

/* --- listeners */

struct seen {
	char text[2000];
	const char *name;
	int refuse_at; /* the n-th prepare, from 1 */
	int prepares;
	int answer;
	bool change;
};

static char trace[4000];

static void note(struct seen *seen, const char *what, const struct gmem_event *e)
{
	size_t used = strlen(trace);

	ck_assert_uint_ge(e->size, GMEM_EVENT_1_0);
	ck_assert_ptr_nonnull(e->memory);
	snprintf(trace + used, sizeof(trace) - used, "%s%s:%llu+%llu:%u>%u ", seen->name, what,
		 (unsigned long long)((e->gpa - GPA) / PAGE), (unsigned long long)(e->bytes / PAGE),
		 e->from, e->to);
}

static int on_prepare(void *data, const struct gmem_event *event)
{
	struct seen *seen = data;
	struct gmem_location at = GMEM_LOCATION_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	note(seen, "p", event);
	/* It may ask, and not change. */
	ok(gmem_stats(event->memory, &stats, &err));
	if (!gmem_lookup(vm, event->gpa, &at))
		gmem_unref(at.memory);
	if (seen->change) {
		struct gmem_listener *listener = NULL;
		struct gmem_listener_ops ops = GMEM_LISTENER_OPS_INIT;

		fails(EDEADLK, gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		fails(EDEADLK, gmem_convert_offset(event->memory, 0, PAGE, GMEM_STATE_SHARED, NULL,
						   NULL, &err));
		fails(EDEADLK, gmem_bind(event->memory, 30, 64 * MIB, 0, PAGE, &err));
		fails(EDEADLK, gmem_unbind(vm, 0, &err));
		fails(EDEADLK, gmem_discard(event->memory, 0, PAGE, &err));
		fails(EDEADLK, gmem_listener_add(vm, &ops, NULL, &listener, &err));
		ck_assert_int_eq(gmem_listener_remove(vm, (void *)seen), -EDEADLK);
		/* It is that of the function which called this. */
		err = (struct gmem_error)GMEM_ERROR_INIT;
	}
	return ++seen->prepares == seen->refuse_at ? seen->answer : 0;
}

static void on_commit(void *data, const struct gmem_event *event)
{
	note(data, "c", event);
}

static void on_rollback(void *data, const struct gmem_event *event)
{
	note(data, "r", event);
}

static const struct gmem_listener_ops all_ops = {sizeof(all_ops), on_prepare, on_commit,
						 on_rollback};

START_TEST(listeners)
{
	struct seen a = {.name = "A", .answer = -EBUSY}, b = {.name = "B", .answer = -EBUSY};
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	struct gmem_listener *la, *lb, *none = NULL;

	/* Who comes first is told of what is bound, who is there of what gets bound. */
	ok(gmem_listener_add(vm, &all_ops, &a, &la, &err));
	ck_assert_str_eq(trace, "");
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ck_assert_str_eq(trace, "Ap:0+16:0>1 Ac:0+16:0>1 ");
	trace[0] = 0;
	ok(gmem_listener_add(vm, &all_ops, &b, &lb, &err));
	ck_assert_str_eq(trace, "Bp:0+16:0>1 Bc:0+16:0>1 ");
	trace[0] = 0;

	if (has_private()) {
		ok(gmem_convert(vm, GPA + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_str_eq(trace, "Ap:1+1:1>2 Bp:1+1:1>2 Ac:1+1:1>2 Bc:1+1:1>2 ");
		trace[0] = 0;
		/* Only what changes: two runs around that page. */
		ok(gmem_convert(vm, GPA, 3 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_str_eq(trace, "Ap:0+1:1>2 Bp:0+1:1>2 Ap:2+1:1>2 Bp:2+1:1>2 "
					"Ac:0+1:1>2 Bc:0+1:1>2 Ac:2+1:1>2 Bc:2+1:1>2 ");
		trace[0] = 0;
		/* Nothing changes: nobody is told. */
		ok(gmem_convert(vm, GPA, 3 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_str_eq(trace, "");
		/* To shared, and the second refuses the second run. */
		ok(gmem_convert(vm, GPA + PAGE, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		trace[0] = 0;
		b.prepares = 0;
		b.refuse_at = 2;
		fails(EBUSY, gmem_convert(vm, GPA, 3 * PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		ck_assert_uint_eq(err.step, GMEM_STEP_PREPARE);
		ck_assert_uint_eq(err.gpa, GPA + 2 * PAGE);
		ck_assert_str_eq(trace, "Ap:0+1:2>1 Bp:0+1:2>1 Ap:2+1:2>1 Bp:2+1:2>1 "
					"Ar:2+1:2>1 Br:0+1:2>1 Ar:0+1:2>1 ");
		trace[0] = 0;
		ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
		ck_assert_uint_eq(state_at(GPA + 2 * PAGE), GMEM_STATE_PRIVATE);
		/* Not an errno: EINVAL. */
		b.prepares = 0;
		b.refuse_at = 1;
		b.answer = 5;
		fails(EINVAL, gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		b.answer = -EBUSY;
		ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
		trace[0] = 0;
	}
	/* Unbinding: what is shared goes; it can be refused. */
	a.prepares = b.prepares = 0;
	b.refuse_at = 1;
	fails(EBUSY, gmem_unbind(vm, 0, &err));
	ck_assert_str_eq(trace, "Ap:0+16:1>0 Bp:0+16:1>0 Ar:0+16:1>0 ");
	trace[0] = 0;
	b.refuse_at = 0;
	ok(gmem_listener_remove(vm, la));
	ck_assert_int_eq(gmem_listener_remove(vm, la), -ENOENT);
	ok(gmem_unbind(vm, 0, &err));
	ck_assert_str_eq(trace, "Bp:0+16:1>0 Bc:0+16:1>0 ");
	trace[0] = 0;
	/* Binding can be refused as well. */
	b.prepares = 0;
	b.refuse_at = 1;
	fails(EBUSY, gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ck_assert_int_eq(gmem_next_range(vm, GPA, GPA + PAGE, &(struct gmem_range)GMEM_RANGE_INIT),
			 1);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_UNBACKED);
	b.refuse_at = 0;
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ok(gmem_listener_remove(vm, lb));
	/* So can a new listener refuse. */
	a.refuse_at = a.prepares + 1;
	fails(EBUSY, gmem_listener_add(vm, &all_ops, &a, &none, &err));
	ck_assert_ptr_null(none);
	trace[0] = 0;
	if (has_private())
		ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ck_assert_str_eq(trace, "");
	gmem_unref(memory);
}
END_TEST

START_TEST(callbacks_may_not_change)
{
	struct seen a = {.name = "A", .change = true};
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	struct gmem_listener *listener;

	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ok(gmem_listener_add(vm, &all_ops, &a, &listener, &err));
	ck_assert_int_ge(a.prepares, 1);
	gmem_unref(memory);
}
END_TEST

/* Callbacks may all be missing; the context frees who is not removed. */
START_TEST(listener_without_callbacks)
{
	struct gmem_listener_ops ops = GMEM_LISTENER_OPS_INIT;
	struct gmem *memory = memory_of(SIZE, GMEM_STATE_SHARED);
	struct gmem_listener *listener;

	ok(gmem_listener_add(vm, &ops, NULL, &listener, &err));
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	if (has_private())
		ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_unbind(vm, 0, &err));
	gmem_unref(memory);
}
END_TEST

static void on_log(void *data, const char *message)
{
	ck_assert(message && message[0] && !strchr(message, '\n'));
	++*(int *)data;
}

START_TEST(logging)
{
	struct gmem *memory;
	int messages = 0, before;

	ok(gmem_set_log(vm, on_log, &messages));
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
	ok(gmem_unbind(vm, 0, &err));
	ck_assert_int_gt(messages, 0);
	before = messages;
	ok(gmem_set_log(vm, NULL, NULL));
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ck_assert_int_eq(messages, before);
	gmem_unref(memory);
}
END_TEST

Suite *suite_behaviour(void)
{
	Suite *suite = suite_create("behaviour");
	TCase *tcase = tcase_create(world->name);

	tcase_add_checked_fixture(tcase, world_begin, world_end);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, version);
	tcase_add_test(tcase, capabilities);
	tcase_add_test(tcase, modes);
	tcase_add_test(tcase, descriptors);
	tcase_add_test(tcase, sealed_descriptors);
	tcase_add_test(tcase, mapping);
	tcase_add_test(tcase, binding);
	tcase_add_test(tcase, ranges);
	tcase_add_test(tcase, converting);
	tcase_add_test(tcase, converting_unbound);
	tcase_add_test(tcase, contents);
	tcase_add_test(tcase, discard_is_told);
	tcase_add_test(tcase, statistics);
	tcase_add_test(tcase, policy);
	tcase_add_test(tcase, preallocation);
	tcase_add_test(tcase, huge);
	tcase_add_test(tcase, placement_private);
	tcase_add_test(tcase, placement_sparse);
	tcase_add_test(tcase, listeners);
	tcase_add_test(tcase, callbacks_may_not_change);
	tcase_add_test(tcase, listener_without_callbacks);
	tcase_add_test(tcase, logging);
	suite_add_tcase(suite, tcase);
	return suite;
}
