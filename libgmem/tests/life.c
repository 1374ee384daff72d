/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory that is given to another VM, frozen and cloned; and where it cannot be. */
#include "world.h"

#include "backend.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GPA (4 * MIB)
#define SIZE (16 * PAGE)

static struct gmem_vm *other;
static int other_fd;

/* Has the VM that, and does memory of this world have it, too? */
static bool can(uint64_t cap)
{
	uint64_t have;

	ok(gmem_vm_caps(vm, &have));
	return have & cap && !gmem_backend_of(world->mode)->no_life;
}

static void begin(void)
{
	world_begin();
	ok(world_new_vm(NULL, &other, &other_fd, &err));
}

static void drop_other(void)
{
	gmem_vm_free(other);
	other = NULL;
	if (world->real)
		close(other_fd);
	else
		fake_vm_close(other_fd);
}

static void end(void)
{
	drop_other();
	world_end();
}

static void unmap(void *map, uint64_t bytes)
{
	ck_assert_int_eq(world->real ? gmem_unmap(map, bytes) : fake_sys.munmap(map, bytes), 0);
}

static uint8_t *map_all(struct gmem *memory)
{
	void *map;

	ok(gmem_map(memory, 0, SIZE, 0, &map, &err));
	return map;
}

/* Only a real kernel has contents. */
static void fill(struct gmem *memory, int value)
{
	uint8_t *map = map_all(memory);

	if (world->real)
		memset(map, value, SIZE);
	unmap(map, SIZE);
}

static void check_filled(struct gmem *memory, uint64_t offset, int value)
{
	uint8_t *map = map_all(memory);

	if (world->real)
		ck_assert_int_eq(map[offset], value);
	unmap(map, SIZE);
}

static sigjmp_buf out;

static void on_sigbus(int number)
{
	(void)number;
	siglongjmp(out, 1);
}

/* Does a write to it end in SIGBUS? */
static bool refuses_write(struct gmem *memory, uint64_t offset)
{
	struct sigaction action = {.sa_handler = on_sigbus}, old;
	uint8_t *map = map_all(memory);
	volatile bool refused = true;

	sigaction(SIGBUS, &action, &old);
	if (!sigsetjmp(out, 1)) {
		*(volatile uint8_t *)(map + offset) = 1;
		refused = false;
	}
	sigaction(SIGBUS, &old, NULL);
	unmap(map, SIZE);
	return refused;
}

START_TEST(not_to_be_had)
{
	struct gmem *memory = memory_of(SIZE, 0), *none = (void *)1;

	if (!can(GMEM_CAP_LINK)) {
		fails(EOPNOTSUPP, gmem_relink(memory, other, &none, &err));
		ck_assert(strlen(err.message) > 20);
	}
	if (!can(GMEM_CAP_CLONE)) {
		fails(EOPNOTSUPP, gmem_freeze(memory, &err));
		fails(EOPNOTSUPP, gmem_clone(memory, other, &none, &err));
	}
	ck_assert_ptr_eq(none, (void *)1);
	gmem_unref(memory);
}
END_TEST

START_TEST(bad_pointers)
{
	struct gmem *memory = memory_of(SIZE, 0), *none;

	fails(EINVAL, gmem_relink(NULL, other, &none, &err));
	fails(EINVAL, gmem_relink(memory, NULL, &none, &err));
	fails(EINVAL, gmem_relink(memory, other, NULL, &err));
	fails(EINVAL, gmem_freeze(NULL, &err));
	fails(EINVAL, gmem_clone(NULL, other, &none, &err));
	fails(EINVAL, gmem_clone(memory, NULL, &none, &err));
	fails(EINVAL, gmem_clone(memory, other, NULL, &err));
	gmem_unref(memory);
}
END_TEST

/* A reboot: the old VM goes, the memory stays, and is zeroed and private again. */
START_TEST(reuse)
{
	struct gmem *memory, *linked;

	if (!can(GMEM_CAP_LINK))
		return;
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	fill(memory, 0x42);
	ok(gmem_relink(memory, other, &linked, &err));
	ck_assert_ptr_ne(linked, memory);
	ck_assert_uint_eq(gmem_size(linked), SIZE);
	ck_assert_uint_eq(gmem_mode(linked), world->mode);
	if (!world->real)
		ck_assert(fake_cloexec(gmem_fd(linked)));
	/* One state, whoever changes it. */
	if (has_private()) {
		ok(gmem_convert(vm, GPA + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_uint_eq(state_of(linked, PAGE), GMEM_STATE_PRIVATE);
		ok(gmem_convert_offset(linked, PAGE, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		ck_assert_uint_eq(state_at(GPA + PAGE), GMEM_STATE_SHARED);
	}
	/* Both may have it bound; then the old one goes. */
	ok(gmem_bind(linked, 0, GPA, 0, SIZE, &err));
	ok(gmem_unbind(vm, 0, &err));
	gmem_unref(memory);
	check_filled(linked, 3 * PAGE, 0x42);
	if (can(GMEM_CAP_ZERO)) {
		ok(gmem_zero(linked, 0, SIZE, &err));
		check_filled(linked, 3 * PAGE, 0);
	}
	if (has_private()) {
		ok(gmem_convert(other, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_uint_eq(state_of(linked, 5 * PAGE), GMEM_STATE_PRIVATE);
	}
	gmem_unref(linked);
}
END_TEST

/* The VM that made it goes at each step, its context before or after. */
START_TEST(vm_goes_first)
{
	struct gmem *memory = NULL, *linked = NULL;
	bool bound = _i > 1;

	if (!can(GMEM_CAP_LINK))
		return;
	ok(gmem_new(other, SIZE,
		    &(struct gmem_options){.size = sizeof(struct gmem_options),
					   .mode = world->mode,
					   .initial = GMEM_STATE_SHARED},
		    &memory, &err));
	fill(memory, 0x17);
	if (bound)
		ok(gmem_bind(memory, 3, GPA, 0, SIZE, &err));
	ok(gmem_relink(memory, vm, &linked, &err));
	if (_i % 2)
		memory = gmem_unref(memory);
	drop_other();
	gmem_unref(memory);
	check_filled(linked, 2 * PAGE, 0x17);
	ok(gmem_bind(linked, 0, GPA, 0, SIZE, &err));
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED);
	gmem_unref(linked);
	ok(world_new_vm(NULL, &other, &other_fd, &err));
}
END_TEST

/* A listener of the new VM is told when it is bound there, as of any memory. */
START_TEST(listeners)
{
	static struct watcher w;
	struct gmem *memory, *linked;

	if (!can(GMEM_CAP_LINK))
		return;
	memset(&w, 0, sizeof(w));
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	if (has_private())
		ok(gmem_convert_offset(memory, 0, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_relink(memory, other, &linked, &err));
	ok(watch(other, &w));
	ok(gmem_bind(linked, 0, GPA, 0, SIZE, &err));
	ck_assert(w.mapped[GPA / PAGE] == !has_private());
	ck_assert(w.mapped[GPA / PAGE + 1]);
	ok(gmem_unbind(other, 0, &err));
	ck_assert(!w.mapped[GPA / PAGE + 1]);
	gmem_unref(memory);
	gmem_unref(linked);
}
END_TEST

START_TEST(other_type)
{
	struct gmem *memory, *none = NULL;

	if (world->real || world->mode != GMEM_MODE_INPLACE)
		return;
	fake_vm_type(other_fd, 1);
	memory = memory_of(SIZE, 0);
	fails(EINVAL, gmem_relink(memory, other, &none, &err));
	ck_assert_ptr_nonnull(strstr(err.message, "different types"));
	ok(gmem_freeze(memory, &err));
	fails(EINVAL, gmem_clone(memory, other, &none, &err));
	gmem_unref(memory);
}
END_TEST

START_TEST(frozen)
{
	struct gmem *memory;

	if (!can(GMEM_CAP_CLONE))
		return;
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	fill(memory, 0x42);
	if (has_private())
		ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_freeze(memory, &err));
	ok(gmem_freeze(memory, &err));
	if (has_private()) {
		fails(EPERM, gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		fails(EPERM, gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
		ck_assert_uint_eq(state_at(GPA + PAGE), GMEM_STATE_SHARED);
	}
	fails(EPERM, gmem_discard(memory, 0, PAGE, &err));
	fails(EPERM, gmem_zero(memory, 0, PAGE, &err));
	fails(EPERM, gmem_prealloc(memory, 0, PAGE, NULL, NULL, NULL, &err));
	check_filled(memory, 2 * PAGE, 0x42);
	if (world->real) {
		ck_assert(refuses_write(memory, 2 * PAGE));
		check_filled(memory, 2 * PAGE, 0x42);
	}
	gmem_unref(memory);
}
END_TEST

START_TEST(freeze_busy)
{
	struct gmem *memory;

	if (world->real || world->mode != GMEM_MODE_INPLACE)
		return;
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	fake_pin(gmem_fd(memory), 5 * PAGE, true);
	fails(EAGAIN, gmem_freeze(memory, &err));
	ck_assert_uint_eq(err.step, GMEM_STEP_FREEZE);
	ck_assert_uint_eq(err.gpa, GPA + 5 * PAGE);
	ck_assert_uint_eq(err.offset, 5 * PAGE);
	fake_pin(gmem_fd(memory), 5 * PAGE, false);
	fake_poison(gmem_fd(memory), 7 * PAGE, true);
	fails(EHWPOISON, gmem_freeze(memory, &err));
	ck_assert_uint_eq(err.offset, 7 * PAGE);
	fake_poison(gmem_fd(memory), 7 * PAGE, false);
	ok(gmem_freeze(memory, &err));
	gmem_unref(memory);
}
END_TEST

START_TEST(clones)
{
	struct gmem_convert_options zero = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;
	struct gmem *golden, *one = NULL, *two, *none = NULL;

	if (!can(GMEM_CAP_CLONE))
		return;
	golden = memory_of(SIZE, GMEM_STATE_SHARED);
	fails(EINVAL, gmem_clone(golden, vm, &one, &err)); /* not frozen */
	ck_assert_ptr_nonnull(strstr(err.message, "not frozen"));
	ck_assert_ptr_null(one);
	fill(golden, 0x42);
	if (has_private())
		ok(gmem_convert_offset(golden, PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_freeze(golden, &err));
	ok(gmem_clone(golden, vm, &one, &err));
	ok(gmem_clone(golden, other, &two, &err));
	ck_assert_uint_eq(gmem_size(one), SIZE);
	ck_assert_uint_eq(gmem_mode(two), world->mode);
	gmem_unref(golden); /* it stays, below */

	ok(gmem_stats(two, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, 0);
	check_filled(one, 3 * PAGE, 0x42);
	if (has_private()) {
		ck_assert_uint_eq(state_of(one, PAGE), GMEM_STATE_PRIVATE);
		ck_assert_uint_eq(state_of(two, PAGE), GMEM_STATE_PRIVATE);
		/* Each its own. */
		ok(gmem_convert_offset(one, PAGE, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		ok(gmem_convert_offset(two, 2 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_uint_eq(state_of(one, 2 * PAGE), GMEM_STATE_SHARED);
		ck_assert_uint_eq(state_of(two, PAGE), GMEM_STATE_PRIVATE);
		check_filled(one, PAGE, 0x42);
		zero.flags = GMEM_CONVERT_ZERO;
		fails(EOPNOTSUPP,
		      gmem_convert_offset(two, PAGE, PAGE, GMEM_STATE_SHARED, &zero, NULL, &err));
		ok(gmem_discard(two, PAGE, PAGE, &err));
		ok(gmem_convert_offset(two, PAGE, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		ok(gmem_convert_offset(two, 2 * PAGE, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
		check_filled(two, PAGE, 0);
	}
	fill(one, 0x55);
	check_filled(two, 4 * PAGE, 0x42);
	check_filled(one, 4 * PAGE, 0x55);
	ok(gmem_discard(one, 0, SIZE, &err));
	check_filled(one, 4 * PAGE, 0);
	/* No clones of clones. */
	fails(EOPNOTSUPP, gmem_freeze(one, &err));
	fails(EINVAL, gmem_clone(one, vm, &none, &err));
	ck_assert_ptr_null(none);
	ok(gmem_bind(two, 7, GPA, 0, SIZE, &err));
	gmem_unref(one);
	gmem_unref(two);
}
END_TEST

Suite *suite_life(void)
{
	Suite *suite = suite_create("life");
	TCase *tc = tcase_create("life");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, begin, end);
	tcase_add_test(tc, not_to_be_had);
	tcase_add_test(tc, bad_pointers);
	tcase_add_test(tc, reuse);
	tcase_add_loop_test(tc, vm_goes_first, 0, 4);
	tcase_add_test(tc, listeners);
	tcase_add_test(tc, other_type);
	tcase_add_test(tc, frozen);
	tcase_add_test(tc, freeze_busy);
	tcase_add_test(tc, clones);
	suite_add_tcase(suite, tc);
	return suite;
}
