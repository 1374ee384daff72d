/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which backend memory gets, on which kernel, and what each does that no other does. */
#include "world.h"

#include <numa.h>
#include <string.h>

#define SIZE (8 * PAGE)

/* Kernels, with a VM of a type. */
static const struct fake_can linux_6_1 = {.numa = true};
static const struct fake_can linux_6_12_plain = {.guest_memfd = true};
static const struct fake_can linux_6_12_protected = {.guest_memfd = true, .attributes = true};
static const struct fake_can linux_7_3_plain = {.guest_memfd = true, .map = true};
static const struct fake_can linux_7_4_plain = {
	.guest_memfd = true, .map = true, .attributes2 = true};
static const struct fake_can linux_7_4_protected = {
	.guest_memfd = true, .map = true, .attributes2 = true, .protected = true};
/* The switch is off: it is as before. */
static const struct fake_can linux_7_4_off = {
	.guest_memfd = true, .map = true, .no_init_shared = true, .attributes = true};
/* An ioctl that is not the one that was announced. */
static const struct fake_can other_protected = {
	.guest_memfd = true, .map = true, .protected = true};
static const struct fake_can ours = {
	.guest_memfd = true, .map = true, .convert = true, .ranges = true, .numa = true};
static const struct fake_can ours_protected = {.guest_memfd = true,
					       .map = true,
					       .convert = true,
					       .ranges = true,
					       .attributes2 = true,
					       .attributes = true,
					       .protected = true};

static const struct {
	const struct fake_can *can;
	uint32_t initial;
	uint32_t mode; /* 0: none, and the reason has that in it */
	const char *reason;
} automatic[] = {
	{&ours, 0, GMEM_MODE_INPLACE, NULL},
	{&ours, GMEM_STATE_SHARED, GMEM_MODE_INPLACE, NULL},
	{&ours_protected, 0, GMEM_MODE_INPLACE, NULL},
	{&linux_7_4_protected, 0, GMEM_MODE_ATTRIBUTES, NULL},
	{&linux_7_4_protected, GMEM_STATE_PRIVATE, GMEM_MODE_ATTRIBUTES, NULL},
	{&linux_7_4_protected, GMEM_STATE_SHARED, GMEM_MODE_ATTRIBUTES, NULL},
	{&linux_7_4_plain, 0, GMEM_MODE_SHARED, NULL},
	{&linux_7_4_plain, GMEM_STATE_PRIVATE, 0, "private memory"},
	{&linux_7_4_off, 0, GMEM_MODE_DUAL, NULL},
	{&linux_7_4_off, GMEM_STATE_SHARED, GMEM_MODE_DUAL, NULL},
	{&other_protected, 0, 0, "private memory"},
	{&other_protected, GMEM_STATE_PRIVATE, 0, "private memory"},
	{&other_protected, GMEM_STATE_SHARED, GMEM_MODE_SHARED, NULL},
	{&linux_7_3_plain, 0, GMEM_MODE_SHARED, NULL},
	{&linux_6_12_protected, 0, GMEM_MODE_DUAL, NULL},
	{&linux_7_3_plain, GMEM_STATE_SHARED, GMEM_MODE_SHARED, NULL},
	{&linux_6_12_plain, 0, 0, "cannot be mapped"},
	{&linux_6_12_plain, 0, 0, "Shared memory has to be asked for."},
	{&linux_6_12_plain, GMEM_STATE_PRIVATE, 0, "private memory"},
	{&linux_6_12_plain, GMEM_STATE_SHARED, GMEM_MODE_PLAIN, NULL},
	{&linux_6_1, 0, 0, "is too old"},
	{&linux_6_1, GMEM_STATE_SHARED, GMEM_MODE_PLAIN, NULL},
};

static struct world here;

static void begin(const struct fake_can *can)
{
	here = *world;
	here.can = *can;
	world = &here;
	world_begin();
}

START_TEST(auto_mode)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem *memory = NULL;
	uint32_t mode = 99;

	begin(automatic[_i].can);
	options.initial = automatic[_i].initial;
	if (automatic[_i].mode) {
		ok(gmem_new(vm, SIZE, &options, &memory, &err));
		ck_assert_uint_eq(gmem_mode(memory), automatic[_i].mode);
		ck_assert_uint_eq(state_of(memory, 0), options.initial ? options.initial
						       : automatic[_i].mode >= GMEM_MODE_SHARED
							       ? GMEM_STATE_SHARED
							       : GMEM_STATE_PRIVATE);
		gmem_unref(memory);
	} else {
		fails(EOPNOTSUPP, gmem_new(vm, SIZE, &options, &memory, &err));
		ck_assert_msg(strstr(err.message, automatic[_i].reason), "'%s'", err.message);
		ck_assert_ptr_null(memory);
	}
	if (!options.initial) {
		ck_assert_int_eq(gmem_vm_mode(vm, &mode), automatic[_i].mode ? 0 : -EOPNOTSUPP);
		ck_assert_uint_eq(mode, automatic[_i].mode ? automatic[_i].mode : 99);
	}
	world_end();
}
END_TEST

/* Where a file cannot begin as shared, it is converted before anybody has it. */
START_TEST(first_conversion)
{
	const struct fake_can can = {.guest_memfd = true,
				     .map = true,
				     .no_init_shared = true,
				     .attributes2 = true,
				     .protected = true};
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem *memory;

	begin(&can);
	options.initial = GMEM_STATE_SHARED;
	for (int fail = 0; fail < 2; fail++) {
		memory = NULL;
		if (fail) {
			fake_fail_on("KVM_SET_MEMORY_ATTRIBUTES2", 1, 1, -ENOMEM);
			fails(ENOMEM, gmem_new(vm, SIZE, &options, &memory, &err));
			says(GMEM_STEP_CREATE, GMEM_NOWHERE, GMEM_NOWHERE);
			ck_assert_ptr_null(memory);
			continue;
		}
		ok(gmem_new(vm, SIZE, &options, &memory, &err));
		ck_assert_uint_eq(gmem_mode(memory), GMEM_MODE_ATTRIBUTES);
		for (uint64_t p = 0; p < SIZE; p += PAGE) {
			ck_assert(!fake_private(gmem_fd(memory), p));
			ck_assert_uint_eq(state_of(memory, p), GMEM_STATE_SHARED);
		}
		gmem_unref(memory);
	}
	/* Private memory is not converted for that. */
	options.initial = GMEM_STATE_PRIVATE;
	ok(gmem_new(vm, SIZE, &options, &memory, &err));
	ck_assert(fake_private(gmem_fd(memory), 0));
	gmem_unref(memory);
	world_end();
}
END_TEST

/* With ZERO what becomes shared is freed before it does, and nothing else is. */
START_TEST(zero_by_freeing)
{
	struct gmem_convert_options zero = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem *memory;
	int fd;

	begin(&linux_7_4_protected);
	memory = memory_of_mode(GMEM_MODE_ATTRIBUTES, SIZE, GMEM_STATE_SHARED);
	fd = gmem_fd(memory);
	ok(gmem_bind(memory, 0, MIB, 0, SIZE, &err));
	ok(gmem_convert(vm, MIB + PAGE, 2 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	for (uint64_t p = 0; p < SIZE; p += PAGE)
		fake_write(fd, p, 7);
	zero.flags = GMEM_CONVERT_ZERO;
	fake_fail_on("fallocate", 1, 1, -EIO);
	fails(EIO, gmem_convert(vm, MIB, SIZE, GMEM_STATE_SHARED, &zero, NULL, &err));
	says(GMEM_STEP_CONVERT, MIB + PAGE, PAGE);
	ck_assert(fake_private(fd, PAGE));
	ck_assert_uint_eq(state_at(MIB + PAGE), GMEM_STATE_PRIVATE);
	ok(gmem_convert(vm, MIB, SIZE, GMEM_STATE_SHARED, &zero, NULL, &err));
	for (uint64_t p = 0; p < SIZE; p += PAGE) {
		ck_assert_int_eq(fake_read(fd, p), p == PAGE || p == 2 * PAGE ? 0 : 7);
		ck_assert(!fake_private(fd, p));
	}
	gmem_unref(memory);
	world_end();
}
END_TEST

/* In dual mode the memfd has the policy; the guest_memfd has the thread's, where one is given. */
START_TEST(dual_policy)
{
	const struct fake_can can = {.guest_memfd = true, .attributes = true, .numa = true};
	unsigned long first = 2, second = 4, now;
	struct bitmask one = {64, &first}, two = {64, &second};
	struct gmem *memory;

	begin(&can);
	memory = memory_of_mode(GMEM_MODE_DUAL, SIZE, GMEM_STATE_SHARED);
	ok(gmem_convert_offset(memory, 4 * PAGE, 4 * PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ok(gmem_set_policy(memory, 0, SIZE, GMEM_POLICY_BIND, &one, &err));
	ok(gmem_prealloc(memory, 0, PAGE, NULL, NULL, NULL, &err));
	ck_assert_int_eq(fake_node(gmem_shared_fd(memory), 0), 1);
	ok(gmem_prealloc(memory, 4 * PAGE, PAGE, NULL, NULL, NULL, &err));
	ck_assert_int_eq(fake_node(gmem_fd(memory), 4 * PAGE), 0);
	/* Nodes that are given are what counts, on both sides. */
	ok(gmem_prealloc(memory, 2 * PAGE, 4 * PAGE, &two, NULL, NULL, &err));
	ck_assert_int_eq(fake_node(gmem_shared_fd(memory), 2 * PAGE), 2);
	ck_assert_int_eq(fake_node(gmem_fd(memory), 5 * PAGE), 2);
	ck_assert_int_eq(fake_task_policy(&now), 0);
	gmem_unref(memory);
	world_end();
}
END_TEST

/* Without CONFIG_NUMA there is no policy of a memfd either. */
START_TEST(no_numa)
{
	const struct fake_can can = {.guest_memfd = true, .attributes = true};
	static const uint32_t modes[] = {GMEM_MODE_DUAL, GMEM_MODE_PLAIN};
	struct gmem_options options = GMEM_OPTIONS_INIT;
	unsigned long word = 1;
	struct bitmask nodes = {64, &word};
	struct gmem *memory;
	uint32_t policy;

	begin(&can);
	memory = memory_of_mode(modes[_i], SIZE, GMEM_STATE_SHARED);
	fails(EOPNOTSUPP, gmem_set_policy(memory, PAGE, PAGE, GMEM_POLICY_BIND, &nodes, &err));
	says(GMEM_STEP_POLICY, GMEM_NOWHERE, PAGE);
	ck_assert_msg(strstr(err.message, "CONFIG_NUMA"), "'%s'", err.message);
	fails(EOPNOTSUPP, gmem_get_policy(memory, PAGE, &policy, NULL, &err));
	says(GMEM_STEP_POLICY, GMEM_NOWHERE, PAGE);
	fails(EOPNOTSUPP, gmem_prealloc(memory, PAGE, PAGE, &nodes, NULL, NULL, &err));
	gmem_unref(memory);
	/* Nor of a thread. */
	options.initial = GMEM_STATE_SHARED;
	options.huge_page = 2 * MIB;
	ok(gmem_new(vm, 2 * MIB, &options, &memory, &err));
	fails(EOPNOTSUPP, gmem_prealloc(memory, 0, 2 * MIB, &nodes, NULL, NULL, &err));
	says(GMEM_STEP_POLICY, GMEM_NOWHERE, 0);
	ck_assert_msg(strstr(err.message, "CONFIG_NUMA"), "'%s'", err.message);
	gmem_unref(memory);
	world_end();
}
END_TEST

/* Huge pages are where they are asked for, and nothing is cut smaller than they are. */
START_TEST(huge_pages)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;
	unsigned long word = 1ul << 2;
	struct bitmask nodes = {64, &word};
	struct gmem *memory = NULL;
	uint64_t on[FAKE_MAX_NODES];
	void *address = NULL;
	uint32_t policy;

	begin(&ours);
	options.huge_page = 2 * MIB;
	fails(EOPNOTSUPP, gmem_new(vm, 4 * MIB, &options, &memory, &err));
	ck_assert_msg(strstr(err.message, "has to be asked for"), "'%s'", err.message);
	options.initial = GMEM_STATE_PRIVATE;
	fails(EOPNOTSUPP, gmem_new(vm, 4 * MIB, &options, &memory, &err));
	options.initial = GMEM_STATE_SHARED;
	options.mode = GMEM_MODE_INPLACE;
	fails(EOPNOTSUPP, gmem_new(vm, 4 * MIB, &options, &memory, &err));
	ck_assert_msg(strstr(err.message, "in-place mode has no huge"), "'%s'", err.message);
	options.mode = GMEM_MODE_AUTO;
	fails(EINVAL, gmem_new(vm, 3 * MIB, &options, &memory, &err));
	options.huge_page = 3 * PAGE;
	fails(EINVAL, gmem_new(vm, 6 * PAGE, &options, &memory, &err));
	options.huge_page = PAGE / 2;
	fails(EINVAL, gmem_new(vm, 4 * MIB, &options, &memory, &err));
	options.huge_page = 1024 * MIB;
	fails(ENODEV, gmem_new(vm, 1024 * MIB, &options, &memory, &err));
	says(GMEM_STEP_CREATE, GMEM_NOWHERE, GMEM_NOWHERE);
	ck_assert_ptr_null(memory);

	options.huge_page = 2 * MIB;
	/* They are reserved by the mapping. */
	fake_fail_on("mmap", 1, 1, -ENOMEM);
	fails(ENOMEM, gmem_new(vm, 4 * MIB, &options, &memory, &err));
	says(GMEM_STEP_MAP, GMEM_NOWHERE, GMEM_NOWHERE);
	ck_assert_msg(strstr(err.message, "free huge pages"), "'%s'", err.message);
	ok(gmem_new(vm, 4 * MIB, &options, &memory, &err));
	ck_assert_uint_eq(gmem_mode(memory), GMEM_MODE_PLAIN);
	/* A slot may be cut anywhere. */
	ok(gmem_bind(memory, 0, MIB, PAGE, 2 * PAGE, &err));
	fails(EINVAL, gmem_map(memory, 0, PAGE, 0, &address, &err));
	fails(EINVAL, gmem_map(memory, PAGE, 2 * MIB, 0, &address, &err));
	ok(gmem_map(memory, 2 * MIB, 2 * MIB, 0, &address, &err));
	ok(fake_sys.munmap(address, 2 * MIB));
	fails(EINVAL, gmem_discard(memory, PAGE, PAGE, &err));
	ok(gmem_discard(memory, 0, 2 * MIB, &err));
	fails(EINVAL, gmem_set_policy(memory, 0, PAGE, GMEM_POLICY_BIND, &nodes, &err));
	fails(EINVAL, gmem_get_policy(memory, PAGE, &policy, NULL, &err));
	/* The kernel would take a policy, and not keep it. */
	fails(EOPNOTSUPP, gmem_set_policy(memory, 0, 2 * MIB, GMEM_POLICY_BIND, &nodes, &err));
	ck_assert_msg(strstr(err.message, "file of huge pages"), "'%s'", err.message);
	fails(EOPNOTSUPP, gmem_get_policy(memory, 0, &policy, NULL, &err));
	fails(EINVAL, gmem_prealloc(memory, 0, PAGE, NULL, NULL, NULL, &err));
	/* They can be placed, by the thread's policy. */
	ok(gmem_prealloc(memory, 2 * MIB, 2 * MIB, &nodes, NULL, NULL, &err));
	ck_assert_int_eq(fake_node(gmem_fd(memory), 2 * MIB), 2);
	ck_assert_int_eq(fake_task_policy(&word), 0);
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, 2 * MIB);
	ck_assert_uint_eq(stats.shared_bytes, 4 * MIB);
	fails(EOPNOTSUPP, gmem_placement(memory, 0, 4 * MIB, on, FAKE_MAX_NODES, &err));
	gmem_unref(memory);
	world_end();
}
END_TEST

/* A bind that KVM refuses leaves the state of what the VMM has there by itself. */
START_TEST(others_stay_private)
{
	const struct fake_can can = {.guest_memfd = true, .attributes = true};
	struct kvm_userspace_memory_region2 region = {
		.slot = 7,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = MIB,
		.memory_size = SIZE,
	};
	struct kvm_memory_attributes attributes = {
		.address = MIB,
		.size = SIZE,
		.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	};
	struct gmem *theirs, *memory;
	unsigned int calls;

	begin(&can);
	theirs = memory_of_mode(GMEM_MODE_DUAL, SIZE, GMEM_STATE_PRIVATE);
	memory = memory_of_mode(GMEM_MODE_DUAL, SIZE, GMEM_STATE_SHARED);
	region.guest_memfd = (uint32_t)gmem_fd(theirs);
	region.userspace_addr = (uintptr_t)theirs->map;
	ck_assert_int_eq(fake_sys.ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION2, &region), 0);
	ck_assert_int_eq(fake_sys.ioctl(vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &attributes), 0);
	calls = fake_calls_of("KVM_SET_MEMORY_ATTRIBUTES");
	fails(EEXIST, gmem_bind(memory, 0, MIB, 0, SIZE, &err));
	says(GMEM_STEP_BIND, MIB, 0);
	ck_assert_msg(strstr(err.message, "overlaps"), "'%s'", err.message);
	fails(EINVAL, gmem_bind(memory, 7, 2 * MIB, 0, SIZE, &err));
	says(GMEM_STEP_BIND, 2 * MIB, 0);
	ck_assert_uint_eq(fake_calls_of("KVM_SET_MEMORY_ATTRIBUTES"), calls);
	for (uint64_t p = 0; p < SIZE; p += PAGE)
		ck_assert(fake_attribute(vm_fd, MIB + p));
	region.memory_size = 0;
	ck_assert_int_eq(fake_sys.ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION2, &region), 0);
	/* What nobody has is as the memory says. */
	ok(gmem_bind(memory, 0, MIB, 0, SIZE, &err));
	ck_assert(!fake_attribute(vm_fd, MIB));
	gmem_unref(memory);
	gmem_unref(theirs);
	world_end();
}
END_TEST

/* A slot that KVM does not delete keeps the mapping that it goes through. */
START_TEST(slot_stays)
{
	static const char *const names[] = {"KVM_SET_USER_MEMORY_REGION2",
					    "KVM_SET_USER_MEMORY_REGION"};
	static const uint32_t modes[] = {GMEM_MODE_SHARED, GMEM_MODE_PLAIN};
	struct gmem *memory;
	void *map;

	begin(&ours);
	memory = memory_of_mode(modes[_i], SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, MIB, 0, SIZE, &err));
	map = memory->map;
	fake_fail_on(names[_i], 1, 1, -ENOMEM);
	gmem_vm_free(vm);
	ck_assert(fake_has_failed());
	gmem_unref(memory);
	ck_assert_int_ge(fake_protection(map), 0);
	ck_assert_uint_eq(fake_slots(vm_fd), 1);
	fake_vm_close(vm_fd);
	ok(fake_sys.munmap(map, SIZE));
	ck_assert_msg(!fake_left(), "left behind: %s", fake_left_what());
}
END_TEST

/*
 * ... and one that goes takes it along, also where the caller holds the memory; and what it told
 * KVM of these addresses, where the VMM may have others next.
 */
START_TEST(slot_goes)
{
	static const struct fake_can protected = {.guest_memfd = true, .attributes = true};
	struct gmem *memory;

	begin(_i ? &protected : &ours);
	memory = _i ? memory_of_mode(GMEM_MODE_DUAL, SIZE, GMEM_STATE_PRIVATE)
		    : memory_of_mode(GMEM_MODE_SHARED, SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, MIB, 0, SIZE, &err));
	ck_assert_int_eq(fake_attribute(vm_fd, MIB), _i);
	gmem_vm_free(vm);
	ck_assert_uint_eq(fake_slots(vm_fd), 0);
	for (uint64_t p = 0; p < SIZE; p += PAGE)
		ck_assert(!fake_attribute(vm_fd, MIB + p));
	gmem_unref(memory);
	fake_vm_close(vm_fd);
	ck_assert_msg(!fake_left(), "left behind: %s", fake_left_what());
}
END_TEST

/* A slot that the VMM deleted by itself can be unbound, and bound again. */
START_TEST(slot_is_gone)
{
	static const struct fake_can protected = {.guest_memfd = true, .attributes = true};
	static const uint32_t modes[] = {GMEM_MODE_INPLACE, GMEM_MODE_SHARED, GMEM_MODE_PLAIN,
					 GMEM_MODE_DUAL};
	const bool dual = modes[_i] == GMEM_MODE_DUAL;
	struct kvm_userspace_memory_region2 region = {.slot = 3, .guest_phys_addr = MIB};
	struct gmem_stats stats = GMEM_STATS_INIT;
	static struct watcher watcher;
	struct gmem *memory;

	begin(dual ? &protected : &ours);
	memory = memory_of_mode(modes[_i], SIZE, dual ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED);
	ok(watch(vm, &watcher));
	ok(gmem_bind(memory, 3, MIB, 0, SIZE, &err));
	ck_assert_int_eq(fake_sys.ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION2, &region), 0);
	ok(gmem_unbind(vm, 3, &err));
	check_watcher(&watcher);
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.bound_bytes, 0);
	/* What is at its addresses now is for the VMM to say. */
	ck_assert_int_eq(fake_attribute(vm_fd, MIB), dual);
	ok(gmem_bind(memory, 3, MIB, 0, SIZE, &err));
	check_watcher(&watcher);
	ck_assert_uint_eq(fake_slots(vm_fd), 1);
	ok(gmem_unbind(vm, 3, &err));
	ck_assert(!fake_attribute(vm_fd, MIB));
	gmem_unref(memory);
	world_end();
}
END_TEST

static bool kernel_private(const struct gmem *memory, uint64_t gpa, uint64_t offset)
{
	return gmem_mode(memory) == GMEM_MODE_DUAL ? fake_attribute(vm_fd, gpa)
						   : fake_private(gmem_fd(memory), offset);
}

/*
 * One conversion of memory of every mode, whichever call fails: all of it or nothing, and the
 * kernel, the library and the listener agree.
 */
START_TEST(all_modes_at_once)
{
	static const uint32_t modes[] = {GMEM_MODE_DUAL, GMEM_MODE_INPLACE, GMEM_MODE_PLAIN,
					 GMEM_MODE_ATTRIBUTES, GMEM_MODE_SHARED};
	struct gmem_convert_options zero = GMEM_CONVERT_OPTIONS_INIT;
	static struct watcher watcher;
	struct gmem *memory[5];
	bool converted, failed = true;

	zero.flags = _i ? GMEM_CONVERT_ZERO : 0;
	for (unsigned int n = 1; failed; n++) {
		begin(&ours_protected);
		ok(watch(vm, &watcher));
		for (uint32_t m = 0; m < 5; m++) {
			memory[m] = memory_of_mode(modes[m], SIZE, GMEM_STATE_SHARED);
			ok(gmem_bind(memory[m], m, MIB + m * SIZE, 0, SIZE, &err));
			if (modes[m] != GMEM_MODE_PLAIN && modes[m] != GMEM_MODE_SHARED)
				ok(gmem_convert(vm, MIB + m * SIZE + PAGE, 3 * PAGE,
						GMEM_STATE_PRIVATE, NULL, NULL, &err));
		}
		fails(EOPNOTSUPP,
		      gmem_convert(vm, MIB, 5 * SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		check_watcher(&watcher);
		fake_fail_call(n, -ENOMEM);
		converted = !gmem_convert(vm, MIB, 5 * SIZE, GMEM_STATE_SHARED, &zero, NULL, NULL);
		failed = fake_has_failed();
		fake_fail_call(0, 0);
		ck_assert(converted || failed);
		check_watcher(&watcher);
		for (uint32_t m = 0; m < 5; m++)
			for (uint64_t p = 0; p < SIZE; p += PAGE) {
				const uint64_t gpa = MIB + m * SIZE + p;
				const bool private = state_at(gpa) == GMEM_STATE_PRIVATE;

				if (modes[m] == GMEM_MODE_PLAIN || modes[m] == GMEM_MODE_SHARED) {
					ck_assert(!private);
					continue;
				}
				ck_assert(private == kernel_private(memory[m], gpa, p));
				ck_assert(private == (!converted && p >= PAGE && p < 4 * PAGE));
			}
		for (uint32_t m = 0; m < 5; m++)
			gmem_unref(memory[m]);
		world_end();
	}
}
END_TEST

Suite *suite_backends(void)
{
	Suite *suite = suite_create("backends");
	TCase *tcase = tcase_create(world->name);

	tcase_add_loop_test(tcase, auto_mode, 0, sizeof(automatic) / sizeof(automatic[0]));
	tcase_add_test(tcase, first_conversion);
	tcase_add_test(tcase, zero_by_freeing);
	tcase_add_test(tcase, dual_policy);
	tcase_add_loop_test(tcase, no_numa, 0, 2);
	tcase_add_test(tcase, huge_pages);
	tcase_add_test(tcase, others_stay_private);
	tcase_add_loop_test(tcase, slot_stays, 0, 2);
	tcase_add_loop_test(tcase, slot_goes, 0, 2);
	tcase_add_loop_test(tcase, slot_is_gone, 0, 4);
	tcase_add_loop_test(tcase, all_modes_at_once, 0, 2);
	suite_add_tcase(suite, tcase);
	return suite;
}
