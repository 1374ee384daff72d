/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Everything from many threads at once. What is built with ThreadSanitizer sees more. */
#include "world.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define GPA (4 * MIB)
#define SIZE (64 * PAGE)

static struct gmem *memory, *other;
static atomic_bool stop;
static atomic_uint done[8];

static void check(int r)
{
	/* Others bind and unbind meanwhile. */
	ck_assert_msg(r >= 0 || r == -ENOENT || r == -EEXIST || r == -EFAULT, "%d", r);
}

static void *converts(void *data)
{
	unsigned int seed = (unsigned int)(uintptr_t)data;

	while (!stop) {
		uint64_t first = (unsigned)rand_r(&seed) % 60,
			 pages = 1 + (unsigned)rand_r(&seed) % 4;
		uint32_t to =
			has_private() && rand_r(&seed) & 1 ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED;

		if (rand_r(&seed) & 1)
			check(gmem_convert(vm, GPA + first * PAGE, pages * PAGE, to, NULL, NULL,
					   NULL));
		else
			check(gmem_convert_offset(memory, first * PAGE, pages * PAGE, to, NULL,
						  NULL, NULL));
		done[0]++;
	}
	return NULL;
}

static void *asks(void *data)
{
	(void)data;
	while (!stop) {
		struct gmem_location at = GMEM_LOCATION_INIT;
		struct gmem_range range = GMEM_RANGE_INIT;
		struct gmem_stats stats = GMEM_STATS_INIT;

		for (uint64_t gpa = GPA; gpa < GPA + 2 * SIZE; gpa += range.bytes) {
			int r = gmem_next_range(vm, gpa, GPA + 2 * SIZE, &range);

			ck_assert_int_eq(r, 1);
		}
		if (!gmem_lookup(vm, GPA + 5 * PAGE, &at))
			gmem_unref(at.memory);
		check(gmem_stats(memory, &stats, NULL));
		ck_assert_uint_eq(stats.private_bytes + stats.shared_bytes, SIZE);
		done[1]++;
	}
	return NULL;
}

static void *binds(void *data)
{
	(void)data;
	while (!stop) {
		check(gmem_bind(other, 3, GPA + SIZE, 0, SIZE, NULL));
		check(gmem_unbind(vm, 3, NULL));
		done[2]++;
	}
	return NULL;
}

static void *exits(void *data)
{
	struct gmem_exit ex = GMEM_EXIT_INIT;
	unsigned int seed = 77;
	struct kvm_run run;

	(void)data;
	memset(&run, 0, sizeof(run));
	while (!stop) {
		int r;

		run.exit_reason = KVM_EXIT_HYPERCALL;
		run.hypercall.nr = 12;
		run.hypercall.args[0] = GPA + (unsigned)rand_r(&seed) % 120 * PAGE;
		run.hypercall.args[1] = 3;
		run.hypercall.args[2] = has_private() ? (unsigned)rand_r(&seed) & 16 : 0;
		r = gmem_exit_handle(vm, &run, 0, &ex, NULL, NULL);
		ck_assert_int_eq(r, 0);
		/* To private where the other memory is not bound just now. */
		if (run.hypercall.args[2] && run.hypercall.args[0] > GPA + SIZE - 3 * PAGE &&
		    run.hypercall.ret)
			ck_assert_int_eq((int64_t)run.hypercall.ret, -EFAULT);
		else
			ck_assert_uint_eq(run.hypercall.ret, 0);
		run.exit_reason = KVM_EXIT_MEMORY_FAULT;
		run.memory_fault.gpa = GPA + (unsigned)rand_r(&seed) % 120 * PAGE;
		run.memory_fault.size = PAGE;
		run.memory_fault.flags = has_private() ? (unsigned)rand_r(&seed) & 8 : 0;
		check(gmem_exit_handle(vm, &run, -EFAULT, &ex, NULL, NULL));
		done[3]++;
	}
	return NULL;
}

static void *counts(void *data)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;

	(void)data;
	options.mode = world->mode;
	while (!stop) {
		struct gmem *mine;
		uint64_t on[8];

		gmem_unref(gmem_ref(memory));
		check(gmem_new(vm, PAGE, &options, &mine, NULL));
		check(gmem_discard(memory, 0, PAGE, NULL));
		check(gmem_prealloc(memory, 8 * PAGE, PAGE, NULL, NULL, NULL, NULL));
		gmem_placement(memory, 0, SIZE, on, 8, NULL);
		gmem_unref(mine);
		done[4]++;
	}
	return NULL;
}

static void *listens(void *data)
{
	struct watcher *w = calloc(1, sizeof(*w));

	(void)data;
	while (!stop) {
		check(watch(vm, w));
		check(gmem_listener_remove(vm, w->listener));
		done[5]++;
	}
	free(w);
	return NULL;
}

START_TEST(all_at_once)
{
	static void *(*const what[])(void *) = {converts, converts, asks,   asks,
						binds,	  exits,    counts, listens};
	const struct timespec while_it_runs = {world->real ? 4 : 2, 0}, moment = {0, 1000000};
	pthread_t threads[8];

	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	other = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	for (uintptr_t i = 0; i < 8; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, what[i], (void *)(i + 1)), 0);
	nanosleep(&while_it_runs, NULL);
	/* And longer where the machine is too busy for each to have done something. */
	for (int i = 0, n = 0; i < 6; i++)
		while (done[i] <= 3 && n++ < 60000)
			nanosleep(&moment, NULL);
	stop = true;
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 6; i++)
		ck_assert_uint_gt(done[i], 3);
	gmem_unref(memory);
	gmem_unref(other);
	world_end();
}
END_TEST

/* Two callers in turn wait for each other; a listener is no second caller. */
static atomic_bool inside, asked;

static int slow_prepare(void *data, const struct gmem_event *event)
{
	const struct timespec moment = {0, 1000000};

	(void)data;
	(void)event;
	inside = true;
	/* A query of another thread comes to an end while this lasts. */
	for (int i = 0; i < 5000 && !asked; i++)
		nanosleep(&moment, NULL);
	ck_assert(asked);
	return 0;
}

static void *ask_meanwhile(void *data)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	(void)data;
	while (!inside)
		;
	ck_assert_int_eq(gmem_next_range(vm, GPA, GPA + SIZE, &range), 1);
	ck_assert_int_eq(gmem_stats(memory, &stats, NULL), 0);
	asked = true;
	return NULL;
}

START_TEST(queries_do_not_wait)
{
	const struct gmem_listener_ops ops = {sizeof(ops), slow_prepare, NULL, NULL};
	struct gmem_listener *listener;
	pthread_t thread;

	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_listener_add(vm, &ops, NULL, &listener, &err));
	pthread_create(&thread, NULL, ask_meanwhile, NULL);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	pthread_join(thread, NULL);
	gmem_unref(memory);
	world_end();
}
END_TEST

static atomic_bool begun, waiting, over;
static atomic_uint signals;

static void on_signal(int number)
{
	(void)number;
	signals++;
}

/* One change is under way until the thread that waits to make another had its signals. */
static int prepare_long(void *data, const struct gmem_event *event)
{
	(void)data;
	(void)event;
	begun = true;
	while (signals < 10)
		;
	over = true;
	return 0;
}

static void *binds_long(void *data)
{
	(void)data;
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	return NULL;
}

static void *converts_after(void *data)
{
	(void)data;
	while (!begun)
		;
	waiting = true;
	ok(gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, NULL));
	ck_assert(over);
	return NULL;
}

START_TEST(waits_through_signals)
{
	const struct gmem_listener_ops ops = {sizeof(ops), prepare_long, NULL, NULL};
	const struct sigaction action = {.sa_handler = on_signal}; /* and no SA_RESTART */
	struct gmem_listener *listener;
	pthread_t binding, converting;

	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_listener_add(vm, &ops, NULL, &listener, &err));
	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	begun = waiting = over = false;
	signals = 0;
	pthread_create(&binding, NULL, binds_long, NULL);
	pthread_create(&converting, NULL, converts_after, NULL);
	while (!waiting)
		;
	while (signals < 10) {
		const struct timespec ms = {0, 1000000};

		nanosleep(&ms, NULL);
		pthread_kill(converting, SIGUSR1);
	}
	pthread_join(binding, NULL);
	pthread_join(converting, NULL);
	gmem_unref(memory);
	world_end();
}
END_TEST

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t looks_until;

/* Where changers starve they get through once this has come to its end. */
static void *looks(void *data)
{
	struct gmem_location location = GMEM_LOCATION_INIT;
	atomic_uint *looked = data;

	while (!stop && nanoseconds() < looks_until) {
		for (int i = 0; i < 100; i++) {
			ck_assert_int_eq(gmem_lookup(vm, GPA + (unsigned)i % 64 * PAGE, &location),
					 0);
			gmem_unref(location.memory);
		}
		++*looked;
	}
	return NULL;
}

#define CHANGES 30

/* Four threads that do nothing but look do not keep others from changing, nor these them. */
START_TEST(nobody_starves)
{
	const uint64_t longest = UINT64_C(30000000000);
	struct watcher *w = calloc(1, sizeof(*w));
	atomic_uint looked[4] = {0};
	pthread_t threads[4];
	uint64_t began;

	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	other = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
	ok(watch(vm, w));
	stop = false;
	began = nanoseconds();
	looks_until = began + longest;
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, looks, &looked[i]), 0);
	for (int i = 0; i < 4; i++)
		while (!looked[i])
			sched_yield();
	for (int i = 0; i < CHANGES; i++) {
		unsigned int before = looked[i % 4];

		if (has_private())
			ok(gmem_convert(vm, GPA, PAGE,
					i % 2 ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE, NULL, NULL,
					&err));
		ok(gmem_bind(other, 1, GPA + SIZE, 0, SIZE, &err));
		ok(gmem_unbind(vm, 1, &err));
		while (looked[i % 4] == before && nanoseconds() < looks_until)
			sched_yield();
	}
	stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_msg(nanoseconds() - began < longest, "%u changes take %llu ms", CHANGES,
		      (unsigned long long)(nanoseconds() - began) / 1000000);
	check_watcher(w);
	gmem_unref(memory);
	gmem_unref(other);
	world_end();
	free(w);
}
END_TEST

static sem_t dump;
static atomic_uint dumps;

static void ask_for_dump(int number)
{
	(void)number;
	sem_post(&dump);
}

static void *dumps_state(void *data)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	(void)data;
	while (dumps < 100) {
		while (sem_wait(&dump))
			;
		for (uint64_t at = 0; at < 2 * GPA; at += range.bytes) {
			range.bytes = 0;
			ck_assert_int_eq(gmem_next_range(vm, at, 2 * GPA, &range), 1);
			ck_assert_uint_gt(range.bytes, 0);
		}
		ck_assert_int_eq(gmem_stats(memory, &stats, NULL), 0);
		dumps++;
	}
	return NULL;
}

/* As gmem(7) advises: whatever the handler interrupts, another thread can tell what is so. */
START_TEST(dumps_on_signal)
{
	const struct sigaction action = {.sa_handler = ask_for_dump, .sa_flags = SA_RESTART};
	const struct itimerval ticks = {{0, 500}, {0, 500}}, none = {{0, 0}, {0, 0}};
	sigset_t set;
	pthread_t thread;

	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ck_assert_int_eq(sem_init(&dump, 0, 0), 0);
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	/* The handler runs in the thread that binds. */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	ck_assert_int_eq(pthread_create(&thread, NULL, dumps_state, NULL), 0);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &ticks, NULL), 0);
	while (dumps < 100) {
		int r = gmem_bind(memory, 0, GPA, 0, SIZE, NULL);

		if (r == -EINTR)
			continue;
		ck_assert_int_eq(r, 0);
		while ((r = gmem_unbind(vm, 0, NULL)) == -EINTR)
			;
		ck_assert_int_eq(r, 0);
	}
	ck_assert_int_eq(setitimer(ITIMER_REAL, &none, NULL), 0);
	pthread_join(thread, NULL);
	gmem_unref(memory);
	world_end();
}
END_TEST

static void *flips(void *data)
{
	(void)data;
	for (unsigned int i = 0; i < 20000; i++)
		check(gmem_convert_offset(memory, 0, PAGE,
					  i % 2 ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE, NULL,
					  NULL, NULL));
	stop = true;
	return NULL;
}

/* Which side is allocated is the state's at that moment: none is left on the other. */
START_TEST(allocates_one_side)
{
	pthread_t thread;

	if (world->mode != GMEM_MODE_DUAL || world->real)
		return;
	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	stop = false;
	pthread_create(&thread, NULL, flips, NULL);
	while (!stop)
		ok(gmem_prealloc(memory, 0, PAGE, NULL, NULL, NULL, &err));
	pthread_join(thread, NULL);
	ck_assert_uint_eq(state_of(memory, 0), GMEM_STATE_SHARED);
	ok(gmem_prealloc(memory, 0, PAGE, NULL, NULL, NULL, &err));
	ck_assert(fake_populated(gmem_shared_fd(memory), 0));
	ck_assert(!fake_populated(gmem_fd(memory), 0));
	gmem_unref(memory);
	world_end();
}
END_TEST

Suite *suite_threads(void)
{
	Suite *suite = suite_create("threads");
	TCase *tcase = tcase_create(world->name);

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, all_at_once);
	tcase_add_test(tcase, queries_do_not_wait);
	tcase_add_test(tcase, nobody_starves);
	tcase_add_test(tcase, waits_through_signals);
	tcase_add_test(tcase, dumps_on_signal);
	tcase_add_loop_test(tcase, allocates_one_side, 0, 20);
	suite_add_tcase(suite, tcase);
	return suite;
}
