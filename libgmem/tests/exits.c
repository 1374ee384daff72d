/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exits as KVM hands them out. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

#define GPA (2 * MIB)
#define SIZE (8 * PAGE)

static struct gmem *memory;
static struct kvm_run run;
static struct gmem_exit ex;

static void begin(void)
{
	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	memset(&run, 0, sizeof(run));
	ex = (struct gmem_exit)GMEM_EXIT_INIT;
}

static void end(void)
{
	gmem_unref(memory);
	world_end();
}

static void fault(uint64_t gpa, uint64_t size, uint64_t flags)
{
	run.exit_reason = KVM_EXIT_MEMORY_FAULT;
	run.memory_fault.gpa = gpa;
	run.memory_fault.size = size;
	run.memory_fault.flags = flags;
}

static void hypercall(uint64_t gpa, uint64_t pages, uint64_t attributes)
{
	run.exit_reason = KVM_EXIT_HYPERCALL;
	run.hypercall.nr = 12;
	run.hypercall.args[0] = gpa;
	run.hypercall.args[1] = pages;
	run.hypercall.args[2] = attributes;
	run.hypercall.ret = 0xdead;
}

static uint32_t decode(int run_result)
{
	ok(gmem_exit_decode(vm, &run, run_result, &ex));
	return ex.kind;
}

START_TEST(others)
{
	for (uint32_t reason = 0; reason < 50; reason++) {
		memset(&run, 0, sizeof(run));
		run.exit_reason = reason;
		if (reason == KVM_EXIT_MEMORY_FAULT)
			continue;
		ck_assert_uint_eq(decode(0), GMEM_EXIT_OTHER);
		ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_OTHER);
		ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 1);
	}
	/* Another hypercall is not the library's to answer. */
	hypercall(GPA, 1, 0);
	run.hypercall.nr = 11;
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 1);
	ck_assert_uint_eq(run.hypercall.ret, 0xdead);
	/* What KVM leaves there with another errno means nothing. */
	fault(GPA, PAGE, 0);
	ck_assert_uint_eq(decode(0), GMEM_EXIT_OTHER);
	ck_assert_uint_eq(decode(-EINTR), GMEM_EXIT_OTHER);
	ck_assert_uint_eq(decode(-ENOMEM), GMEM_EXIT_OTHER);
}
END_TEST

START_TEST(faults)
{
	const bool dual = world->mode == GMEM_MODE_DUAL;

	fault(GPA + PAGE + 5, 8, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	ck_assert_uint_eq(decode(-EFAULT), dual ? GMEM_EXIT_CONVERT : GMEM_EXIT_AGAIN);
	ck_assert_uint_eq(ex.gpa, GPA + PAGE);
	ck_assert_uint_eq(ex.bytes, PAGE);
	ck_assert_uint_eq(ex.state, GMEM_STATE_PRIVATE);
	ck_assert_uint_eq(ex.flags, 0);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err), 0);
	ck_assert_uint_eq(state_at(GPA + PAGE), dual ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED);
	/* Now it is so: somebody else was faster, or the fault is old. */
	ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_AGAIN);
	/* Flag clear: shared is wanted. */
	fault(GPA + PAGE, PAGE, 0);
	ck_assert_uint_eq(decode(-EFAULT), dual ? GMEM_EXIT_CONVERT : GMEM_EXIT_AGAIN);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err), 0);
	ck_assert_uint_eq(state_at(GPA + PAGE), GMEM_STATE_SHARED);
	/* Over two pages of which one is to change. */
	if (dual) {
		ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		fault(GPA, 2 * PAGE, KVM_MEMORY_EXIT_FLAG_PRIVATE);
		ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_CONVERT);
		ck_assert_uint_eq(ex.bytes, 2 * PAGE);
	}
}
END_TEST

/* In place a fault that fails is no reason to open private memory. */
START_TEST(fault_opens_nothing)
{
	if (!in_place())
		return;
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	fault(GPA, PAGE, 0);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err), 0);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
}
END_TEST

START_TEST(stuck)
{
	int i;

	fault(GPA, PAGE, 0);
	for (i = 0; i < GMEM_EXIT_REPEATS; i++)
		ck_assert_int_eq(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err), 0);
	fails(ELOOP, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
	ck_assert_uint_eq(ex.kind, GMEM_EXIT_STUCK);
	ck_assert_uint_eq(err.gpa, GPA);
	/* Another fault, or another exit, is progress. */
	fault(GPA + PAGE, PAGE, 0);
	ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_AGAIN);
	for (i = 0; i < 5 * GMEM_EXIT_REPEATS; i++) {
		fault(GPA + PAGE, PAGE, 0);
		ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_AGAIN);
		if (i % 50 == 0) {
			run.exit_reason = KVM_EXIT_HLT;
			ck_assert_uint_eq(decode(0), GMEM_EXIT_OTHER);
		}
	}
	/* Two vCPUs that want a page in turn are no loop. */
	if (world->mode != GMEM_MODE_DUAL)
		return;
	for (i = 0; i < 2 * GMEM_EXIT_REPEATS; i++) {
		fault(GPA, PAGE, KVM_MEMORY_EXIT_FLAG_PRIVATE);
		ck_assert_int_eq(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err), 0);
		ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
	}
}
END_TEST

START_TEST(ends)
{
	int i;

	for (i = 0; i < 2 * GMEM_EXIT_REPEATS; i++) {
		fault(GPA + SIZE, PAGE, 0);
		fails(EFAULT, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
		ck_assert_uint_eq(ex.kind, GMEM_EXIT_UNBACKED);
		ck_assert_uint_eq(err.gpa, GPA + SIZE);
	}
	fault(0, PAGE, 0);
	fails(EFAULT, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
	for (i = 0; i < 2 * GMEM_EXIT_REPEATS; i++) {
		fault(GPA, PAGE, 0);
		fails(EHWPOISON, gmem_exit_handle(vm, &run, -EHWPOISON, &ex, NULL, &err));
		ck_assert_uint_eq(ex.kind, GMEM_EXIT_POISON);
	}
	fault(GPA, 0, 0);
	fails(EINVAL, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
	ck_assert_uint_eq(ex.kind, GMEM_EXIT_INVALID);
	fault(UINT64_MAX - 10, 100, 0);
	fails(EINVAL, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
	fault(0, UINT64_MAX, 0);
	fails(EINVAL, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
	fault(UINT64_MAX - 4095, PAGE, 0);
	fails(EFAULT, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
}
END_TEST

/* Whole pages around what was touched, be it a byte or over the end of a page or slot. */
START_TEST(edges)
{
	const bool dual = world->mode == GMEM_MODE_DUAL;
	static const struct {
		uint64_t at, size, gpa, bytes;
	} touched[] = {
		{GPA, 1, GPA, PAGE},
		{GPA + PAGE - 1, 1, GPA, PAGE},
		{GPA + PAGE - 1, 2, GPA, 2 * PAGE},
		{GPA + 1, PAGE, GPA, 2 * PAGE},
		{GPA + 1, PAGE - 1, GPA, PAGE},
		{GPA + SIZE - 1, 1, GPA + SIZE - PAGE, PAGE},
		{GPA + SIZE - 1, 2, GPA + SIZE - PAGE, 2 * PAGE},
	};

	for (unsigned int i = 0; i < sizeof(touched) / sizeof(touched[0]); i++) {
		fault(touched[i].at, touched[i].size, 0);
		ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_AGAIN);
		ck_assert_uint_eq(ex.gpa, touched[i].gpa);
		ck_assert_uint_eq(ex.bytes, touched[i].bytes);
		ck_assert_uint_eq(ex.state, GMEM_STATE_SHARED);
		fault(touched[i].at, touched[i].size, KVM_MEMORY_EXIT_FLAG_PRIVATE);
		ck_assert_uint_eq(decode(-EFAULT), dual ? GMEM_EXIT_CONVERT : GMEM_EXIT_AGAIN);
		ck_assert_uint_eq(ex.state, GMEM_STATE_PRIVATE);
	}
	/* The last of the pages is the one that differs. */
	if (dual) {
		ok(gmem_convert(vm, GPA + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		fault(GPA + PAGE - 1, 2, 0);
		ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_CONVERT);
		fault(GPA + PAGE - 1, 1, 0);
		ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_AGAIN);
		fault(GPA + PAGE, 1, KVM_MEMORY_EXIT_FLAG_PRIVATE);
		ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_AGAIN);
	}
	fault(GPA - 1, 1, 0);
	ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_UNBACKED);
	fault(GPA + SIZE, 1, 0);
	ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_UNBACKED);
}
END_TEST

/* A fault may come again because of a conversion; a hypercall in between is progress. */
START_TEST(progress)
{
	fault(GPA, PAGE, 0);
	for (int i = 0; i < GMEM_EXIT_REPEATS; i++)
		ck_assert_int_eq(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err), 0);
	hypercall(GPA, 1, 0);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 0);
	ck_assert_uint_eq(ex.repeats, 0);
	fault(GPA, PAGE, 0);
	for (int i = 0; i < GMEM_EXIT_REPEATS; i++)
		ck_assert_int_eq(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err), 0);
	fails(ELOOP, gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, &err));
	says(GMEM_STEP_EXIT, GPA, GMEM_NOWHERE);
	/* Other bytes, or another state, are another fault. */
	fault(GPA, 2 * PAGE, 0);
	ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_AGAIN);
	ck_assert_uint_eq(ex.repeats, 0);
}
END_TEST

/* The options are those of the conversion: as often, and with ZERO. */
START_TEST(options)
{
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;

	if (world->real || world->mode != GMEM_MODE_INPLACE)
		return;
	fake_pin(gmem_fd(memory), 0, true);
	fake_pin_for(3);
	options.attempts = 2;
	hypercall(GPA, 1, 16);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, &options, &err), 0);
	ck_assert_int_eq(ex.result, -EAGAIN);
	ck_assert_int_eq((int64_t)run.hypercall.ret, -EPERM);
	err = (struct gmem_error)GMEM_ERROR_INIT;
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, &options, &err), 0);
	ck_assert_int_eq(ex.result, 0);
	ck_assert_int_eq(err.error, 0);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
	fake_write(gmem_fd(memory), 0, 7);
	options.flags = GMEM_CONVERT_ZERO;
	hypercall(GPA, 1, 0);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, &options, &err), 0);
	ck_assert_int_eq(fake_read(gmem_fd(memory), 0), 0);
	/* Which is for what becomes shared. */
	hypercall(GPA, 1, 16);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, &options, &err), 0);
	ck_assert_int_eq(ex.result, 0);
	ck_assert_int_eq((int64_t)run.hypercall.ret, 0);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
	fails(EINVAL, gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, &options, NULL, &err));
}
END_TEST

/* A guest knows the errors of <linux/kvm_para.h>, and is told none of the host's others. */
START_TEST(guest_errors)
{
	static const struct {
		int host, guest;
	} errors[] = {{0, 0},
		      {EINVAL, EINVAL},
		      {EFAULT, EFAULT},
		      {E2BIG, E2BIG},
		      {EPERM, EPERM},
		      {EOPNOTSUPP, EOPNOTSUPP},
		      {EAGAIN, EPERM},
		      {ENOMEM, EPERM},
		      {EHWPOISON, EFAULT},
		      {ETIMEDOUT, EPERM},
		      {EIO, EPERM},
		      {4095, EPERM}};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		hypercall(GPA, 1, 0);
		ck_assert_uint_eq(decode(0), GMEM_EXIT_CONVERT);
		ok(gmem_exit_complete(&run, &ex, -errors[i].host));
		ck_assert_int_eq(ex.result, -errors[i].host);
		ck_assert_int_eq((int64_t)run.hypercall.ret, -errors[i].guest);
	}
}
END_TEST

/* What is not the library's is not touched. */
START_TEST(untouched)
{
	struct kvm_run before;

	for (int i = 0; i < 4; i++) {
		memset(&run, 0x5a, sizeof(run));
		hypercall(GPA, 1, 0);
		if (i == 0)
			run.hypercall.nr = 11;
		else if (i == 1)
			run.exit_reason = KVM_EXIT_IO;
		else if (i == 2)
			fault(GPA, PAGE, 0);
		before = run;
		ck_assert_int_eq(gmem_exit_handle(vm, &run, i == 2 ? -EFAULT : 0, &ex, NULL, &err),
				 i < 2);
		if (i == 3)
			before.hypercall.ret = 0;
		ck_assert(!memcmp(&before, &run, sizeof(run)));
		if (i == 2)
			ok(gmem_exit_complete(&run, &ex, -EPERM));
		ck_assert(!memcmp(&before, &run, sizeof(run)));
	}
}
END_TEST

START_TEST(hypercalls)
{
	/* Bits 0 to 3 are a size of page, and nothing else. */
	for (uint64_t bits = 0; bits < 16; bits++) {
		hypercall(GPA, 2, 16 | bits);
		ck_assert_uint_eq(decode(0), GMEM_EXIT_CONVERT);
		ck_assert_uint_eq(ex.state, GMEM_STATE_PRIVATE);
		ck_assert_uint_eq(ex.flags, GMEM_EXIT_HYPERCALL);
		ck_assert_uint_eq(ex.gpa, GPA);
		ck_assert_uint_eq(ex.bytes, 2 * PAGE);
		hypercall(GPA, 2, bits);
		ck_assert_uint_eq(decode(0), GMEM_EXIT_CONVERT);
		ck_assert_uint_eq(ex.state, GMEM_STATE_SHARED);
	}
	/* All of the slot. */
	hypercall(GPA, SIZE / PAGE, 16);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 0);
	if (has_private()) {
		ck_assert_uint_eq(run.hypercall.ret, 0);
		ck_assert_int_eq(ex.result, 0);
		ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
	} else {
		ck_assert_int_eq((int64_t)run.hypercall.ret, -EOPNOTSUPP);
		ck_assert_int_eq(ex.result, -EOPNOTSUPP);
		ck_assert_int_eq(err.error, -EOPNOTSUPP);
	}
	hypercall(GPA, 8, 0);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 0);
	ck_assert_uint_eq(run.hypercall.ret, 0);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED);
	/* What no slot backs, such as devices, succeeds. */
	hypercall(0xfee00000, 1, 0);
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 0);
	ck_assert_uint_eq(run.hypercall.ret, 0);
	/* The same again and again is the guest's business. */
	for (int i = 0; i < 2 * GMEM_EXIT_REPEATS; i++) {
		hypercall(GPA, 1, 0);
		ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 0);
		ck_assert_uint_eq(run.hypercall.ret, 0);
	}
	/* KVM never returns an error with one. */
	ck_assert_uint_eq(decode(-EFAULT), GMEM_EXIT_OTHER);
}
END_TEST

START_TEST(bad_hypercalls)
{
	static const struct {
		uint64_t gpa, pages;
	} bad[] = {{GPA, 0},	      {GPA + 1, 1},	      {GPA, UINT64_MAX},
		   {GPA, 1ull << 52}, {UINT64_MAX - 4095, 1}, {UINT64_MAX - 4095, 2}};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		hypercall(bad[i].gpa, bad[i].pages, 16);
		ck_assert_uint_eq(decode(0), GMEM_EXIT_INVALID);
		ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 0);
		ck_assert_int_eq((int64_t)run.hypercall.ret, -EINVAL);
		ck_assert_int_eq(ex.result, -EINVAL);
	}
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED);
}
END_TEST

static void asks(uint64_t gpa, uint64_t pages, uint64_t attributes, int result)
{
	hypercall(gpa, pages, attributes);
	err = (struct gmem_error)GMEM_ERROR_INIT;
	ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, NULL, &err), 0);
	ck_assert_int_eq(ex.result, result);
	ck_assert_int_eq(err.error, result);
	ck_assert_int_eq((int64_t)run.hypercall.ret, result);
}

/* The guest is not told that memory is private which may be the VMM's; MMIO is shared. */
START_TEST(unbacked_requests)
{
	const uint64_t after = GPA + SIZE, second = after + PAGE;
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem *other = memory_of(SIZE, GMEM_STATE_SHARED);
	const int half = has_private() ? -EFAULT : -EOPNOTSUPP;
	struct watcher *w = calloc(1, sizeof(*w));
	unsigned int events;

	ok(gmem_bind(other, 1, second, 0, SIZE, &err));
	for (int listens = 0; listens < 2; listens++) {
		if (listens)
			ok(watch(vm, w));
		events = w->events;
		asks(0, 1, 16, -EFAULT);
		says(GMEM_STEP_CONVERT, 0, GMEM_NOWHERE);
		asks(after, 1, 16, -EFAULT);
		says(GMEM_STEP_CONVERT, after, GMEM_NOWHERE);
		asks(16 * MIB, 512, 16, -EFAULT);
		asks(after - PAGE, 2, 16, half);
		if (has_private())
			says(GMEM_STEP_CONVERT, after, GMEM_NOWHERE);
		asks(after - PAGE, 3, 16, half);
		asks(GPA - PAGE, 2, 16, half);
		if (has_private())
			says(GMEM_STEP_CONVERT, GPA - PAGE, GMEM_NOWHERE);
		asks(second + SIZE - PAGE, 2, 16, half);
		/* With options it is the same. */
		options.attempts = 2;
		hypercall(after - PAGE, 2, 16);
		ck_assert_int_eq(gmem_exit_handle(vm, &run, 0, &ex, &options, &err), 0);
		ck_assert_int_eq(ex.result, half);
		ck_assert_uint_eq(w->events, events);
		for (uint64_t at = 0; at < SIZE; at += PAGE) {
			ck_assert_uint_eq(state_at(GPA + at), GMEM_STATE_SHARED);
			ck_assert_uint_eq(state_at(second + at), GMEM_STATE_SHARED);
		}
		asks(after, 1, 0, 0);
		asks(after - PAGE, 3, 0, 0);
		asks(16 * MIB, 512, 0, 0);
		/* Two slots without a gap are backed. */
		if (!has_private())
			continue;
		asks(GPA + PAGE, 2, 16, 0);
		asks(GPA, SIZE / PAGE + 3, 0, 0);
		ck_assert_uint_eq(state_at(GPA + PAGE), GMEM_STATE_SHARED);
		ok(gmem_unbind(vm, 1, &err));
		ok(gmem_bind(other, 1, after, 0, SIZE, &err));
		asks(after - PAGE, 2, 16, 0);
		ck_assert_uint_eq(state_at(after), GMEM_STATE_PRIVATE);
		asks(after - PAGE, 2, 0, 0);
		ok(gmem_unbind(vm, 1, &err));
		ok(gmem_bind(other, 1, second, 0, SIZE, &err));
	}
	/* The VMM's own conversions ignore such addresses, unless it says otherwise. */
	options.flags = GMEM_CONVERT_BACKED;
	fails(EFAULT, gmem_convert(vm, after, PAGE, GMEM_STATE_PRIVATE, &options, NULL, &err));
	ok(gmem_convert(vm, after, PAGE, GMEM_STATE_SHARED, &options, NULL, &err));
	ok(gmem_convert(vm, after, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	if (has_private()) {
		fails(EFAULT, gmem_convert(vm, after - PAGE, 2 * PAGE, GMEM_STATE_PRIVATE, &options,
					   NULL, &err));
		/* What is named by offset is there, bound or not. */
		ok(gmem_unbind(vm, 1, &err));
		ok(gmem_convert_offset(other, 0, SIZE, GMEM_STATE_PRIVATE, &options, NULL, &err));
		ck_assert_uint_eq(state_of(other, 0), GMEM_STATE_PRIVATE);
		ok(gmem_convert(vm, GPA - PAGE, 2 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
	}
	check_watcher(w);
	ok(gmem_listener_remove(vm, w->listener));
	gmem_unref(other);
	free(w);
}
END_TEST

START_TEST(completion)
{
	hypercall(GPA, 1, 16);
	decode(0);
	ok(gmem_exit_complete(&run, &ex, -EPERM));
	ck_assert_int_eq((int64_t)run.hypercall.ret, -EPERM);
	ck_assert_int_eq(ex.result, -EPERM);
	ok(gmem_exit_complete(&run, &ex, 0));
	ck_assert_uint_eq(run.hypercall.ret, 0);
	fault(GPA, PAGE, 0);
	run.memory_fault.size = 77;
	decode(-EFAULT);
	ok(gmem_exit_complete(&run, &ex, -EPERM));
	ck_assert_uint_eq(run.memory_fault.size, 77);
}
END_TEST

Suite *suite_exits(void)
{
	Suite *suite = suite_create("exits");
	TCase *tcase = tcase_create(world->name);

	tcase_add_checked_fixture(tcase, begin, end);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, others);
	tcase_add_test(tcase, faults);
	tcase_add_test(tcase, fault_opens_nothing);
	tcase_add_test(tcase, stuck);
	tcase_add_test(tcase, ends);
	tcase_add_test(tcase, edges);
	tcase_add_test(tcase, progress);
	tcase_add_test(tcase, options);
	tcase_add_test(tcase, guest_errors);
	tcase_add_test(tcase, untouched);
	tcase_add_test(tcase, hypercalls);
	tcase_add_test(tcase, bad_hypercalls);
	tcase_add_test(tcase, unbacked_requests);
	tcase_add_test(tcase, completion);
	suite_add_tcase(suite, tcase);
	return suite;
}
