/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is said of what is not to be had, on kernels that were seen not to have it. */
#include "world.h"

#include <string.h>

static const struct {
	const char *kernel;
	struct fake_can can;
	uint64_t cap;
	const char *says;
} reasons[] = {
	{"Linux 6.1", {.numa = true}, GMEM_CAP_SHARED, "is too old"},
	{"Linux 6.12 without KVM_PRIVATE_MEM",
	 {.guest_memfd = true, .compiled_out = true},
	 GMEM_CAP_SHARED,
	 "has no guest_memfd"},
	{"Linux 6.12", {.guest_memfd = true}, GMEM_CAP_SHARED, "cannot be mapped"},
	{"Linux 6.18",
	 {.guest_memfd = true, .map = true, .numa = true},
	 GMEM_CAP_POLICY,
	 "gmem_prealloc()"},
	{"Linux 7.3 without NUMA",
	 {.guest_memfd = true, .map = true, .policy = true},
	 GMEM_CAP_POLICY,
	 "CONFIG_NUMA"},
	{"Linux 7.3, a protected VM",
	 {.guest_memfd = true, .map = true, .no_init_shared = true, .attributes = true},
	 GMEM_CAP_SHARED,
	 "cannot begin as shared"},
	{"Linux 7.4, an ordinary VM",
	 {.guest_memfd = true, .map = true, .attributes2 = true},
	 GMEM_CAP_ATTRIBUTES,
	 "VMs of this type have no private memory"},
	{"Linux 7.4, a protected VM",
	 {.guest_memfd = true, .map = true, .attributes2 = true, .protected = true},
	 GMEM_CAP_DUAL,
	 "While the kernel converts by KVM_SET_MEMORY_ATTRIBUTES2"},
	{"Linux 7.3, which converts nothing",
	 {.guest_memfd = true, .map = true},
	 GMEM_CAP_ATTRIBUTES,
	 "older than Linux 7.4, or"},
	{"Linux 7.3, an ordinary VM",
	 {.guest_memfd = true, .map = true, .policy = true, .numa = true},
	 GMEM_CAP_DUAL,
	 "KVM_X86_SW_PROTECTED_VM"},
};

START_TEST(reason)
{
	const char *why;
	int fd;

	fake_begin(&reasons[_i].can);
	fd = fake_vm();
	ok(gmem_vm_new_sys(fd, NULL, &vm, &err, &fake_sys));
	why = gmem_vm_why_not(vm, reasons[_i].cap);
	ck_assert_msg(why && strstr(why, reasons[_i].says), "%s: '%s', and not '%s'",
		      reasons[_i].kernel, why ? why : "(none)", reasons[_i].says);
	gmem_vm_free(vm);
	fake_vm_close(fd);
	ck_assert_msg(!fake_left(), "left behind: %s", fake_left_what());
}
END_TEST

/* A step that was not taken is not the one that failed. */
START_TEST(freezing)
{
	struct gmem *memory;

	world_begin();
	memory = memory_of(PAGE, 0);
	if (world->mode != GMEM_MODE_INPLACE) {
		fails(EOPNOTSUPP, gmem_freeze(memory, &err));
		ck_assert_uint_eq(err.step, GMEM_STEP_FREEZE);
	}
	gmem_unref(memory);
	world_end();
}
END_TEST

/* A kernel without CONFIG_CACHESTAT_SYSCALL. */
START_TEST(no_cachestat)
{
	struct gmem_stats stats = GMEM_STATS_INIT;
	struct gmem *memory;
	uint64_t on[1];

	world_begin();
	memory = memory_of(PAGE, 0);
	fake_fail_on("cachestat", 1, 1, -ENOSYS);
	if (world->mode == GMEM_MODE_PLAIN) {
		ok(gmem_stats(memory, &stats, &err)); /* which does not need it */
	} else {
		fails(ENOSYS, gmem_stats(memory, &stats, &err));
		ck_assert_uint_eq(err.step, GMEM_STEP_QUERY);
		ck_assert_msg(strstr(err.message, "cachestat()"), "'%s'", err.message);
	}
	if (!world->can.ranges) {
		fake_fail_on("cachestat", 1, 1, -ENOSYS);
		fails(ENOSYS, gmem_placement(memory, 0, PAGE, on, 1, &err));
		ck_assert_uint_eq(err.step, GMEM_STEP_QUERY);
		ck_assert_msg(strstr(err.message, "cachestat()"), "'%s'", err.message);
	}
	gmem_unref(memory);
	world_end();
}
END_TEST

Suite *suite_reasons(void)
{
	Suite *suite = suite_create("reasons");
	TCase *tcase = tcase_create("reasons");

	tcase_add_loop_test(tcase, reason, 0, sizeof(reasons) / sizeof(reasons[0]));
	tcase_add_test(tcase, freezing);
	tcase_add_test(tcase, no_cachestat);
	suite_add_tcase(suite, tcase);
	return suite;
}
