/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Arguments that make no sense: an errno, a sentence, and nothing changed. */
#include "world.h"

#include <fcntl.h>
#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define GPA (2 * MIB)
#define SIZE (8 * PAGE)

static struct gmem *memory;
static unsigned long word[17] = {1};
static struct bitmask nodes = {1024, word};

static void begin(void)
{
	world_begin();
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_bind(memory, 0, GPA, 0, SIZE, &err));
}

static void end(void)
{
	struct gmem_stats stats = GMEM_STATS_INIT;

	/* Nothing of what was tried has changed anything. */
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.shared_bytes, SIZE);
	ck_assert_uint_eq(stats.bound_bytes, SIZE);
	ck_assert_uint_eq(stats.resident_guest + stats.resident_shared, 0);
	gmem_unref(memory);
	world_end();
}

/* Offsets and sizes that are no range of the memory. */
static const struct {
	uint64_t offset, bytes;
} ranges[] = {
	{0, 0},
	{1, PAGE},
	{0, 1},
	{0, PAGE + 1},
	{PAGE / 2, PAGE},
	{0, SIZE + PAGE},
	{SIZE, PAGE},
	{SIZE - PAGE, 2 * PAGE},
	{UINT64_MAX - PAGE + 1, PAGE},
	{UINT64_MAX - PAGE + 1, 2 * PAGE},
	{PAGE, UINT64_MAX - PAGE + 1},
	{UINT64_MAX, UINT64_MAX},
};

START_TEST(bad_ranges)
{
	const uint64_t offset = ranges[_i].offset, bytes = ranges[_i].bytes;
	uint64_t on[4];
	uint32_t policy;
	void *address;

	fails(EINVAL, gmem_map(memory, offset, bytes, 0, &address, &err));
	fails(EINVAL, gmem_bind(memory, 1, 4 * MIB, offset, bytes, &err));
	fails(EINVAL, gmem_set_policy(memory, offset, bytes, GMEM_POLICY_BIND, &nodes, &err));
	fails(EINVAL, gmem_prealloc(memory, offset, bytes, NULL, NULL, NULL, &err));
	fails(EINVAL, gmem_placement(memory, offset, bytes, on, 4, &err));
	fails(EINVAL,
	      gmem_convert_offset(memory, offset, bytes, GMEM_STATE_SHARED, NULL, NULL, &err));
	fails(EINVAL, gmem_discard(memory, offset, bytes, &err));
	fails(EINVAL, gmem_zero(memory, offset, bytes, &err));
	if (offset % PAGE || offset >= SIZE)
		fails(EINVAL, gmem_get_policy(memory, offset, &policy, NULL, &err));
	/* Addresses may lie anywhere, but not wrap. */
	if (offset % PAGE || bytes % PAGE || !bytes || offset + bytes < offset)
		fails(EINVAL, gmem_convert(vm, offset, bytes, GMEM_STATE_SHARED, NULL, NULL, &err));
}
END_TEST

START_TEST(bad_pointers)
{
	struct gmem_location at = GMEM_LOCATION_INIT;
	struct gmem_range range = GMEM_RANGE_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;
	struct gmem_listener_ops ops = GMEM_LISTENER_OPS_INIT;
	struct gmem_exit exit = GMEM_EXIT_INIT;
	struct gmem_listener *listener;
	struct kvm_run run = {0};
	struct gmem_vm *none;
	struct gmem *other;
	uint64_t on[4], caps;
	uint32_t number;
	void *address;

	gmem_vm_free(NULL);
	ck_assert_ptr_null(gmem_unref(NULL));
	ck_assert_ptr_null(gmem_ref(NULL));
	ck_assert_uint_eq(gmem_size(NULL), 0);
	ck_assert_uint_eq(gmem_mode(NULL), GMEM_MODE_AUTO);
	ck_assert_int_eq(gmem_fd(NULL), -EINVAL);
	ck_assert_int_eq(gmem_shared_fd(NULL), -EINVAL);
	ck_assert_int_eq(gmem_vm_caps(NULL, &caps), -EINVAL);
	ck_assert_int_eq(gmem_vm_caps(vm, NULL), -EINVAL);
	ck_assert_int_eq(gmem_vm_mode(NULL, &number), -EINVAL);
	ck_assert_int_eq(gmem_vm_mode(vm, NULL), -EINVAL);
	ck_assert_int_eq(gmem_set_log(NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(gmem_unmap(NULL, PAGE), -EINVAL);
	ck_assert_int_eq(gmem_unmap(&caps, 0), -EINVAL);
	ck_assert_int_lt(gmem_unmap((char *)word + 1, PAGE), 0);
	fails(EINVAL, gmem_vm_new(vm_fd, NULL, NULL, &err));
	fails(EINVAL, gmem_vm_new(-1, NULL, &none, &err));
	fails(EINVAL, gmem_new(NULL, SIZE, NULL, &other, &err));
	fails(EINVAL, gmem_new(vm, SIZE, NULL, NULL, &err));
	fails(EINVAL, gmem_map(NULL, 0, PAGE, 0, &address, &err));
	fails(EINVAL, gmem_map(memory, 0, PAGE, 0, NULL, &err));
	fails(EINVAL, gmem_bind(NULL, 1, 0, 0, PAGE, &err));
	fails(EINVAL, gmem_unbind(NULL, 0, &err));
	ck_assert_int_eq(gmem_lookup(NULL, GPA, &at), -EINVAL);
	ck_assert_int_eq(gmem_lookup(vm, GPA, NULL), -EINVAL);
	fails(EINVAL, gmem_set_policy(NULL, 0, PAGE, GMEM_POLICY_BIND, &nodes, &err));
	fails(EINVAL, gmem_set_policy(memory, 0, PAGE, GMEM_POLICY_BIND, NULL, &err));
	fails(EINVAL, gmem_set_policy(memory, 0, PAGE, GMEM_POLICY_DEFAULT, &nodes, &err));
	fails(EINVAL, gmem_get_policy(NULL, 0, &number, NULL, &err));
	fails(EINVAL, gmem_get_policy(memory, 0, NULL, NULL, &err));
	fails(EINVAL, gmem_prealloc(NULL, 0, PAGE, NULL, NULL, NULL, &err));
	fails(EINVAL, gmem_placement(NULL, 0, PAGE, on, 4, &err));
	fails(EINVAL, gmem_placement(memory, 0, PAGE, NULL, 4, &err));
	fails(EINVAL, gmem_placement(memory, 0, PAGE, on, 0, &err));
	fails(EINVAL, gmem_convert(NULL, GPA, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
	fails(EINVAL, gmem_convert_offset(NULL, 0, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
	fails(EINVAL, gmem_listener_add(NULL, &ops, NULL, &listener, &err));
	fails(EINVAL, gmem_listener_add(vm, NULL, NULL, &listener, &err));
	fails(EINVAL, gmem_listener_add(vm, &ops, NULL, NULL, &err));
	ck_assert_int_eq(gmem_listener_remove(NULL, (void *)word), -EINVAL);
	ck_assert_int_eq(gmem_listener_remove(vm, NULL), -EINVAL);
	ck_assert_int_eq(gmem_listener_remove(vm, (void *)word), -ENOENT);
	ck_assert_int_eq(gmem_exit_decode(NULL, &run, 0, &exit), -EINVAL);
	ck_assert_int_eq(gmem_exit_decode(vm, NULL, 0, &exit), -EINVAL);
	ck_assert_int_eq(gmem_exit_decode(vm, &run, 0, NULL), -EINVAL);
	ck_assert_int_eq(gmem_exit_decode(vm, &run, 1, &exit), -EINVAL);
	ck_assert_int_eq(gmem_exit_complete(NULL, &exit, 0), -EINVAL);
	ck_assert_int_eq(gmem_exit_complete(&run, NULL, 0), -EINVAL);
	ck_assert_int_eq(gmem_exit_complete(&run, &exit, 1), -EINVAL);
	fails(EINVAL, gmem_exit_handle(NULL, &run, 0, &exit, NULL, &err));
	fails(EINVAL, gmem_exit_handle(vm, NULL, 0, &exit, NULL, &err));
	fails(EINVAL, gmem_exit_handle(vm, &run, 0, NULL, NULL, &err));
	ck_assert_int_eq(gmem_next_range(NULL, 0, PAGE, &range), -EINVAL);
	ck_assert_int_eq(gmem_next_range(vm, 0, PAGE, NULL), -EINVAL);
	ck_assert_int_eq(gmem_next_range(vm, PAGE, 0, &range), -EINVAL);
	ck_assert_int_eq(gmem_next_range(vm, 1, PAGE, &range), -EINVAL);
	ck_assert_int_eq(gmem_next_range(vm, 0, PAGE + 1, &range), -EINVAL);
	ck_assert_int_eq(gmem_next_offset_range(NULL, 0, PAGE, &range), -EINVAL);
	ck_assert_int_eq(gmem_next_offset_range(memory, 0, PAGE, NULL), -EINVAL);
	ck_assert_int_eq(gmem_next_offset_range(memory, 0, SIZE + PAGE, &range), -EINVAL);
	ck_assert_int_eq(gmem_next_offset_range(memory, 1, PAGE, &range), -EINVAL);
	ck_assert_int_eq(gmem_next_offset_range(memory, 0, 1, &range), -EINVAL);
	fails(EINVAL, gmem_stats(NULL, &stats, &err));
	fails(EINVAL, gmem_stats(memory, NULL, &err));
	fails(EINVAL, gmem_discard(NULL, 0, PAGE, &err));
	fails(EINVAL, gmem_zero(NULL, 0, PAGE, &err));
}
END_TEST

START_TEST(bad_numbers)
{
	struct gmem_vm_options vm_options = GMEM_VM_OPTIONS_INIT;
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem_convert_options convert = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem *other = NULL;
	struct gmem_vm *none = NULL;
	uint64_t on[4];
	void *address = NULL;

	vm_options.flags = 2;
	fails(EINVAL, gmem_vm_new(vm_fd, &vm_options, &none, &err));
	options.flags = 1;
	fails(EINVAL, gmem_new(vm, SIZE, &options, &other, &err));
	options.flags = 0;
	options.mode = NR_MODES + 1;
	fails(EINVAL, gmem_new(vm, SIZE, &options, &other, &err));
	options.mode = UINT32_MAX;
	fails(EINVAL, gmem_new(vm, SIZE, &options, &other, &err));
	options.mode = GMEM_MODE_AUTO;
	options.initial = 3;
	fails(EINVAL, gmem_new(vm, SIZE, &options, &other, &err));
	fails(EINVAL, gmem_new(vm, 0, NULL, &other, &err));
	fails(EINVAL, gmem_new(vm, 1, NULL, &other, &err));
	fails(EINVAL, gmem_new(vm, PAGE + 1, NULL, &other, &err));
	ck_assert_ptr_nonnull(strstr(err.message, "multiple"));
	fails(EINVAL, gmem_new(vm, UINT64_MAX - PAGE + 1, NULL, &other, &err));
	fails(EINVAL, gmem_new(vm, UINT64_C(1) << 63, NULL, &other, &err));
	ck_assert_str_eq(err.message, "9223372036854775808 bytes are more than a file can have.");
	fails(EINVAL, gmem_map(memory, 0, PAGE, 8, &address, &err));
	fails(EINVAL, gmem_bind(memory, 65536, 0, 0, PAGE, &err));
	fails(EINVAL, gmem_bind(memory, UINT32_MAX, 0, 0, PAGE, &err));
	fails(EINVAL, gmem_bind(memory, 1, 1, 0, PAGE, &err));
	fails(EINVAL, gmem_bind(memory, 1, UINT64_MAX - PAGE + 1, 0, PAGE, &err));
	fails(EINVAL, gmem_set_policy(memory, 0, PAGE, 4, &nodes, &err));
	word[0] = 0;
	fails(EINVAL, gmem_set_policy(memory, 0, PAGE, GMEM_POLICY_BIND, &nodes, &err));
	fails(EINVAL, gmem_prealloc(memory, 0, PAGE, &nodes, NULL, NULL, &err));
	word[16] = 1;
	nodes.size = 1088;
	fails(EINVAL, gmem_prealloc(memory, 0, PAGE, &nodes, NULL, NULL, &err));
	word[0] = 1;
	word[16] = 0;
	fails(EINVAL, gmem_placement(memory, 0, PAGE, on, 1025, &err));
	for (uint32_t state = 0; state < 10; state++)
		if (state != GMEM_STATE_SHARED && state != GMEM_STATE_PRIVATE)
			fails(EINVAL, gmem_convert(vm, GPA, PAGE, state, NULL, NULL, &err));
	convert.flags = 4;
	fails(EINVAL, gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, &convert, NULL, &err));
	convert.flags = GMEM_CONVERT_ZERO;
	fails(EINVAL, gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, &convert, NULL, &err));
	ck_assert_ptr_null(other);
	ck_assert_ptr_null(none);
	ck_assert_ptr_null(address);
}
END_TEST

/* Each struct with each size, and with a tail. */
#define TAIL 16

static void *sized(size_t of, size_t size, const void *init, unsigned char tail)
{
	unsigned char *mem = calloc(1, of + TAIL);

	memcpy(mem, init, of);
	memcpy(mem, &size, sizeof(size));
	mem[of + TAIL - 1] = tail;
	return mem;
}

static int use(int what, void *s, struct gmem_error *error)
{
	struct gmem_listener *listener;
	struct kvm_run run = {0};
	struct gmem_vm *none;
	struct gmem *other;
	int r;

	switch (what) {
	case 0:
		r = world->real ? gmem_vm_new(vm_fd, s, &none, error)
				: gmem_vm_new_sys(vm_fd, s, &none, error, &fake_sys);
		if (!r)
			gmem_vm_free(none);
		return r;
	case 1:
		r = gmem_new(vm, SIZE, s, &other, error);
		if (!r)
			gmem_unref(other);
		/* Which is the answer to options that are right. */
		return r == -EOPNOTSUPP && world->mode == GMEM_MODE_PLAIN ? 0 : r;
	case 2:
		return gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, s, NULL, error);
	case 3:
		r = gmem_listener_add(vm, s, NULL, &listener, error);
		return r ? r : gmem_listener_remove(vm, listener);
	case 4:
		return gmem_exit_decode(vm, &run, 0, s);
	case 5: /* out: */
		return gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, s, error);
	case 6:
		r = gmem_lookup(vm, GPA, s);
		if (!r)
			gmem_unref(((struct gmem_location *)s)->memory);
		return r;
	case 7:
		return gmem_next_range(vm, GPA, GPA + PAGE, s);
	case 8:
		return gmem_stats(memory, s, error);
	case 9:
		return gmem_discard(memory, 0, PAGE, s);
	default:
		abort();
	}
}

START_TEST(bad_sizes)
{
	static const struct gmem_vm_options o0 = GMEM_VM_OPTIONS_INIT;
	static const struct gmem_options o1 = GMEM_OPTIONS_INIT;
	static const struct gmem_convert_options o2 = GMEM_CONVERT_OPTIONS_INIT;
	static const struct gmem_listener_ops o3 = GMEM_LISTENER_OPS_INIT;
	static const struct gmem_exit o4 = GMEM_EXIT_INIT;
	static const struct gmem_convert_result o5 = GMEM_CONVERT_RESULT_INIT;
	static const struct gmem_location o6 = GMEM_LOCATION_INIT;
	static const struct gmem_range o7 = GMEM_RANGE_INIT;
	static const struct gmem_stats o8 = GMEM_STATS_INIT;
	static const struct gmem_error o9 = GMEM_ERROR_INIT;
	static const struct {
		const void *init;
		size_t size;
	} structs[] = {{&o0, GMEM_VM_OPTIONS_1_0},
		       {&o1, GMEM_OPTIONS_1_0},
		       {&o2, GMEM_CONVERT_OPTIONS_1_0},
		       {&o3, GMEM_LISTENER_OPS_1_0},
		       {&o4, GMEM_EXIT_1_0},
		       {&o5, GMEM_CONVERT_RESULT_1_0},
		       {&o6, GMEM_LOCATION_1_0},
		       {&o7, GMEM_RANGE_1_0},
		       {&o8, GMEM_STATS_1_0},
		       {&o9, GMEM_ERROR_1_0}};
	const size_t v1 = structs[_i].size;
	struct gmem_error error = GMEM_ERROR_INIT;
	const bool in = _i <= 4;
	void *s;

	for (size_t size = 0; size < v1; size++) {
		s = sized(v1, size, structs[_i].init, 0);
		ck_assert_int_eq(use(_i, s, &error), -EINVAL);
		free(s);
	}
	for (size_t size = v1; size <= v1 + TAIL; size++) {
		s = sized(v1, size, structs[_i].init, 0);
		ck_assert_int_ge(use(_i, s, &error), 0);
		free(s);
	}
	s = sized(v1, v1 + TAIL, structs[_i].init, 1);
	if (in && _i != 4)
		ck_assert_int_eq(use(_i, s, &error), -E2BIG);
	else if (!in)
		ck_assert_int_ge(use(_i, s, &error), 0);
	free(s);
}
END_TEST

/* Descriptors that are none, or none of a VM. */
START_TEST(foreign_descriptors)
{
	struct gmem_vm *none = NULL;
	int fd;

	if (!world->real) {
		fails(EINVAL, gmem_vm_new_sys(123456, NULL, &none, &err, &fake_sys));
		fails(EINVAL, gmem_vm_new_sys(gmem_fd(memory), NULL, &none, &err, &fake_sys));
		return;
	}
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	fails(EINVAL, gmem_vm_new(fd, NULL, &none, &err));
	close(fd);
	fails(EINVAL, gmem_vm_new(fd, NULL, &none, &err));
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	fails(EINVAL, gmem_vm_new(fd, NULL, &none, &err));
	close(fd);
	fd = eventfd(0, EFD_CLOEXEC);
	fails(EINVAL, gmem_vm_new(fd, NULL, &none, &err));
	close(fd);
	fails(EINVAL, gmem_vm_new(gmem_fd(memory), NULL, &none, &err));
	ck_assert_ptr_null(none);
}
END_TEST

Suite *suite_bad_input(void)
{
	Suite *suite = suite_create("bad input");
	TCase *tcase = tcase_create(world->name);

	tcase_add_checked_fixture(tcase, begin, end);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, bad_ranges, 0, (int)(sizeof(ranges) / sizeof(ranges[0])));
	tcase_add_test(tcase, bad_pointers);
	tcase_add_test(tcase, bad_numbers);
	tcase_add_loop_test(tcase, bad_sizes, 0, 10);
	tcase_add_test(tcase, foreign_descriptors);
	suite_add_tcase(suite, tcase);
	return suite;
}
