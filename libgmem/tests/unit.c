/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts that need no kernel: bitmaps, structs with sizes, errors. */
#include "world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define BITS 300

static void set(unsigned long *map, unsigned int bit, bool value)
{
	if (value)
		map[bit / 64] |= 1ul << bit % 64;
	else
		map[bit / 64] &= ~(1ul << bit % 64);
}

START_TEST(bitmaps)
{
	unsigned long map[5] = {0};
	bool model[BITS] = {0};
	unsigned int seed = 1;

	ck_assert_uint_eq(gmem_bitmap_words(1), 1);
	ck_assert_uint_eq(gmem_bitmap_words(64), 1);
	ck_assert_uint_eq(gmem_bitmap_words(65), 2);
	for (int round = 0; round < 20000; round++) {
		unsigned int a = rand_r(&seed) % BITS, b = a + rand_r(&seed) % (BITS - a + 1);
		uint64_t first = a, start = 0, end = b, count = 0, n;
		bool value = rand_r(&seed) & 1;

		gmem_bitmap_fill(map, a, b, value);
		for (unsigned int i = a; i < b; i++)
			model[i] = value;
		a = rand_r(&seed) % BITS;
		b = a + rand_r(&seed) % (BITS - a + 1);
		first = a;
		for (int v = 0; v < 2; v++) {
			for (n = a; n < b && model[n] != v; n++)
				;
			ck_assert_uint_eq(gmem_bitmap_find(map, a, b, v), n);
		}
		for (n = a; n < b; n++)
			count += model[n];
		ck_assert_uint_eq(gmem_bitmap_count(map, a, b), count);
		end = b;
		if (count) {
			uint64_t last = b, begin;

			while (!model[last - 1])
				last--;
			for (begin = last; begin > first && model[begin - 1]; begin--)
				;
			ck_assert(gmem_bitmap_last_run(map, first, &start, &end));
			ck_assert_uint_eq(start, begin);
			ck_assert_uint_eq(end, last);
		} else {
			ck_assert(!gmem_bitmap_last_run(map, first, &start, &end));
		}
	}
	set(map, 0, true);
}
END_TEST

struct v2 {
	struct gmem_convert_options v1;
	uint64_t more[2];
};

START_TEST(sizes)
{
	struct gmem_convert_options out;
	struct v2 in = {.v1 = GMEM_CONVERT_OPTIONS_INIT};

	in.v1.attempts = 7;
	for (size_t size = 0; size < sizeof(in.v1); size++) {
		in.v1.size = size;
		ck_assert_int_eq(gmem_copy_in(&out, sizeof(out), sizeof(out), &in), -EINVAL);
	}
	in.v1.size = sizeof(in);
	ck_assert_int_eq(gmem_copy_in(&out, sizeof(out), sizeof(out), &in), 0);
	ck_assert_uint_eq(out.attempts, 7);
	((unsigned char *)&in)[sizeof(in) - 1] = 1;
	ck_assert_int_eq(gmem_copy_in(&out, sizeof(out), sizeof(out), &in), -E2BIG);
	in.v1.size = sizeof(in) - 1;
	ck_assert_int_eq(gmem_copy_in(&out, sizeof(out), sizeof(out), &in), 0);
	/* A library that is newer than its caller reads what is missing as 0. */
	in.v1.size = sizeof(size_t) + 8;
	memset(&out, 0x55, sizeof(out));
	ck_assert_int_eq(gmem_copy_in(&out, sizeof(out), sizeof(size_t) + 8, &in), 0);
	ck_assert_uint_eq(out.attempts, 0);
	ck_assert_uint_eq(out.deadline_ns, 0);
}
END_TEST

/* What programs of the first release pass, for ever. */
START_TEST(first_sizes)
{
	static const struct {
		size_t size, first; /* where pointers have 64 bits */
	} structs[] = {
		{GMEM_ERROR_1_0, 224},
		{GMEM_VM_OPTIONS_1_0, 16},
		{GMEM_OPTIONS_1_0, 32},
		{GMEM_LOCATION_1_0, 40},
		{GMEM_CONVERT_OPTIONS_1_0, 32},
		{GMEM_CONVERT_RESULT_1_0, 40},
		{GMEM_EVENT_1_0, 56},
		{GMEM_LISTENER_OPS_1_0, 32},
		{GMEM_EXIT_1_0, 64},
		{GMEM_RANGE_1_0, 48},
		{GMEM_STATS_1_0, 80},
	};

	for (size_t i = 0; sizeof(void *) == 8 && i < sizeof(structs) / sizeof(structs[0]); i++)
		ck_assert_uint_eq(structs[i].size, structs[i].first);
}
END_TEST

START_TEST(answers)
{
	struct gmem_convert_result from = {sizeof(from), 1, 2, 3, 4, 5};
	struct {
		struct gmem_convert_result v1;
		uint64_t more;
	} to = {.v1 = GMEM_CONVERT_RESULT_INIT, .more = 9};

	to.v1.size = sizeof(to);
	gmem_copy_out(&to, &from, sizeof(from));
	ck_assert_uint_eq(to.v1.size, sizeof(to));
	ck_assert_uint_eq(to.v1.residue, 1);
	ck_assert_uint_eq(to.more, 0);
	/* Never more than there is room for. */
	memset(&to, 0x55, sizeof(to));
	to.v1.size = sizeof(size_t) + 8;
	gmem_copy_out(&to, &from, sizeof(from));
	ck_assert_uint_eq(to.v1.residue, 1);
	ck_assert_uint_eq(to.v1.busy_gpa, 0x5555555555555555);
	ck_assert_int_eq(gmem_check_out(NULL, 8), -EINVAL);
	ck_assert_int_eq(gmem_check_out(&to, sizeof(from)), -EINVAL);
}
END_TEST

START_TEST(errors)
{
	struct gmem_error error = GMEM_ERROR_INIT;
	char text[500];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	ck_assert_int_eq(gmem_fail(&error, 3, -EIO, 1, 2, "%s", text), -EIO);
	ck_assert_uint_eq(strlen(error.message), sizeof(error.message) - 1);
	ck_assert_int_eq(gmem_fail(NULL, 3, -EIO, 1, 2, "%s", text), -EIO);
	error = (struct gmem_error){.size = 4};
	ck_assert_int_eq(gmem_bad(&error, "nothing"), -EINVAL);
	ck_assert_int_eq(error.error, 0);
}
END_TEST

/* On this machine's kernel, and with huge pages if that has them: they need not be free. */
START_TEST(sealed)
{
	struct gmem_vm of = {.sys = &gmem_sys_real, .page = PAGE};
	struct gmem memory = {.vm = &of, .bytes = 8 * MIB, .page = _i ? 2 * MIB : PAGE};
	int r = gmem_create_memfd(&memory, NULL);

	if (_i && (r == -ENODEV || r == -ENOSYS))
		return; /* that is all that such a kernel can be asked */
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(ftruncate(memory.shared_fd, 0), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(memory.shared_fd, 16 << 20), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(gmem_sys_real.add_seals(memory.shared_fd, F_SEAL_WRITE), -EPERM);
	ck_assert_int_eq(gmem_punch(&memory, memory.shared_fd, 0, 4 * MIB), 0);
	ck_assert_int_eq(close(memory.shared_fd), 0);
}
END_TEST

static void on_alarm(int number)
{
	(void)number;
}

/* A timer that ticks meanwhile does not make it shorter. */
START_TEST(pauses)
{
	const struct sigaction action = {.sa_handler = on_alarm}; /* and no SA_RESTART */
	const struct itimerval ticks = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
	uint64_t before;

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &ticks, NULL), 0);
	before = gmem_sys_real.now();
	gmem_sys_real.pause(30000000);
	ck_assert_uint_ge(gmem_sys_real.now() - before, 30000000);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &none, NULL), 0);
}
END_TEST

Suite *suite_unit(void)
{
	Suite *suite = suite_create("unit");
	TCase *tcase = tcase_create("unit");

	tcase_add_test(tcase, bitmaps);
	tcase_add_test(tcase, sizes);
	tcase_add_test(tcase, first_sizes);
	tcase_add_test(tcase, answers);
	tcase_add_test(tcase, errors);
	tcase_add_test(tcase, pauses);
	tcase_add_loop_test(tcase, sealed, 0, 2);
	suite_add_tcase(suite, tcase);
	return suite;
}
