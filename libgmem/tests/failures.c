/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every system call and every allocation of every function fails once. Then the
 * function says so, nothing has changed, nothing is left, and it works the next time;
 * or the failure was one that does not matter, and the function has done its work.
 */
#include "world.h"

#include <numa.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GPA MIB
#define SIZE (16 * PAGE)
#define SECOND (GPA + SIZE + 2 * PAGE)

struct stage {
	struct gmem *one, *two;
	struct watcher watcher;
	bool watched;
	struct kvm_run run;
	struct gmem_exit exit;
	/* What functions return, to see that it is not written to. */
	void *pointer;
	struct gmem_vm *new_vm;
	int new_fd;
	struct gmem_location location;
	struct gmem_range range;
	struct gmem_stats stats;
	uint64_t on[FAKE_MAX_NODES];
	uint32_t policy;
	unsigned long nodes_word[16];
	struct bitmask nodes;
};

static struct stage st;
static char poison[sizeof(struct gmem_stats)];

#define UNTOUCHED ((void *)0x5a5a5a5a)

static struct bitmask *node_one(void)
{
	static unsigned long word[16];
	static struct bitmask mask = {1024, word};

	/* There may be no second one here. */
	word[0] = world->real ? 1 : 2;
	return &mask;
}

/* --- how a test begins */

static void nothing(void)
{
}

static void memories(void)
{
	st.one = memory_of(SIZE, GMEM_STATE_SHARED);
	st.two = memory_of(SIZE, GMEM_STATE_SHARED);
}

static void bound(void)
{
	memories();
	ok(gmem_bind(st.one, 0, GPA, 0, SIZE, &err));
	ok(gmem_bind(st.two, 1, SECOND, 0, SIZE, &err));
	/* Runs that differ, and pages that are there. */
	if (has_private()) {
		ok(gmem_convert(vm, GPA + 2 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ok(gmem_convert(vm, GPA + 5 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
		ok(gmem_convert(vm, SECOND + PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	}
	ok(gmem_prealloc(st.one, 0, SIZE, NULL, NULL, NULL, &err));
}

static void watched(void)
{
	bound();
	ok(watch(vm, &st.watcher));
	st.watched = true;
}

static void watched_unbound(void)
{
	watched();
	ok(gmem_unbind(vm, 1, &err));
}

static void fault(void)
{
	watched();
	st.run.exit_reason = KVM_EXIT_MEMORY_FAULT;
	st.run.memory_fault.gpa = GPA;
	st.run.memory_fault.size = PAGE;
	st.run.memory_fault.flags = KVM_MEMORY_EXIT_FLAG_PRIVATE;
}

static void hypercall(void)
{
	watched();
	st.run.exit_reason = KVM_EXIT_HYPERCALL;
	st.run.hypercall.nr = 12;
	st.run.hypercall.args[0] = GPA;
	st.run.hypercall.args[1] = SIZE / PAGE;
	st.run.hypercall.args[2] = has_private() ? 16 : 0;
	st.run.hypercall.ret = 0x77;
}

/* --- what is done */

/* Not to be had in every mode: then that is the right answer. */
static int or_unsupported(int r)
{
	if (r != -EOPNOTSUPP || fake_has_failed())
		return r;
	ck_assert_int_eq(err.error, r);
	err = (struct gmem_error)GMEM_ERROR_INIT;
	return 0;
}

static int or_shared(int r)
{
	return has_private() ? r : or_unsupported(r);
}

static int do_vm_new(void)
{
	struct gmem_vm_options options = GMEM_VM_OPTIONS_INIT;

	options.flags = GMEM_VM_MAP_GPA_RANGE;
	if (!world->real)
		return gmem_vm_new_sys(vm_fd, &options, &st.new_vm, &err, &fake_sys);
	if (gmem_vm_why_not(vm, GMEM_CAP_MAP_GPA_RANGE))
		options.flags = 0;
	return gmem_vm_new_sys(vm_fd, &options, &st.new_vm, &err, world_sys(world));
}

static void end_vm_new(void)
{
	gmem_vm_free(st.new_vm);
}

static int do_new(void)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;

	options.mode = world->mode;
	return gmem_new(vm, SIZE, &options, (struct gmem **)&st.pointer, &err);
}

static void end_new(void)
{
	gmem_unref(st.pointer);
}

static int do_map(void)
{
	return gmem_map(st.one, 0, SIZE, GMEM_MAP_DONTDUMP | GMEM_MAP_DONTFORK, &st.pointer, &err);
}

static void end_map(void)
{
	if (world->real)
		ok(gmem_unmap(st.pointer, SIZE));
	else
		ok(fake_sys.munmap(st.pointer, SIZE));
}

static int do_bind(void)
{
	return gmem_bind(st.two, 1, SECOND, 0, SIZE, &err);
}

static int do_bind_many(void)
{
	int r = 0;

	/* One after the other until the table has to grow. */
	for (uint32_t i = 2; !r && i < 12; i++) {
		uint64_t gpa, bytes;

		if (world->real || !fake_slot(vm_fd, i, &gpa, &bytes))
			r = gmem_bind(st.two, i, SECOND + i * PAGE, i * PAGE, PAGE, &err);
	}
	return r;
}

static int do_unbind(void)
{
	return gmem_unbind(vm, 0, &err);
}

static int do_lookup(void)
{
	int r = gmem_lookup(vm, GPA, &st.location);

	if (!r)
		gmem_unref(st.location.memory);
	return r;
}

static int do_set_policy(void)
{
	return or_unsupported(gmem_set_policy(st.one, 0, SIZE, GMEM_POLICY_BIND, node_one(), &err));
}

static int do_unset_policy(void)
{
	return or_unsupported(gmem_set_policy(st.one, 0, SIZE, GMEM_POLICY_DEFAULT, NULL, &err));
}

static int do_get_policy(void)
{
	return or_unsupported(gmem_get_policy(st.one, 0, &st.policy, &st.nodes, &err));
}

static int do_prealloc(void)
{
	return gmem_prealloc(st.two, 0, SIZE, node_one(), NULL, NULL, &err);
}

static int do_placement(void)
{
	/* Shared parts alone, which every mode can tell about. */
	return gmem_placement(st.one, 6 * PAGE, 10 * PAGE, st.on, FAKE_MAX_NODES, &err);
}

static int do_to_private(void)
{
	return or_shared(
		gmem_convert(vm, GPA, SECOND + SIZE - GPA, GMEM_STATE_PRIVATE, NULL, NULL, &err));
}

static int do_to_shared(void)
{
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;

	options.flags = GMEM_CONVERT_ZERO;
	return gmem_convert(vm, 0, WATCHED, GMEM_STATE_SHARED, &options, NULL, &err);
}

static int do_offset(void)
{
	return or_shared(
		gmem_convert_offset(st.one, 0, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
}

static int do_listener(void)
{
	return watch(vm, &st.watcher);
}

static void end_listener(void)
{
	check_watcher(&st.watcher);
	ok(gmem_listener_remove(vm, st.watcher.listener));
}

static int do_decode(void)
{
	return gmem_exit_decode(vm, &st.run, -EFAULT, &st.exit);
}

static int do_handle_fault(void)
{
	return gmem_exit_handle(vm, &st.run, -EFAULT, &st.exit, NULL, &err);
}

static int do_handle_hypercall(void)
{
	int r;

	st.run.hypercall.ret = 0x77;
	r = gmem_exit_handle(vm, &st.run, 0, &st.exit, NULL, &err);
	ck_assert_int_eq(r, 0); /* the guest is always answered */
	ck_assert_int_eq(!st.run.hypercall.ret, !st.exit.result);
	return st.exit.result;
}

static int do_next_range(void)
{
	return gmem_next_range(vm, GPA, WATCHED, &st.range);
}

static int do_next_offset_range(void)
{
	return gmem_next_offset_range(st.one, 0, SIZE, &st.range);
}

static int do_stats(void)
{
	return gmem_stats(st.one, &st.stats, &err);
}

static int do_discard(void)
{
	return gmem_discard(st.one, 0, SIZE, &err);
}

static int do_zero(void)
{
	return or_unsupported(gmem_zero(st.one, 0, SIZE, &err));
}

static int do_relink(void)
{
	return or_unsupported(gmem_relink(st.one, vm, (struct gmem **)&st.pointer, &err));
}

static int do_freeze(void)
{
	return or_unsupported(gmem_freeze(st.one, &err));
}

static void frozen(void)
{
	bound();
	ok(do_freeze());
}

static int do_clone(void)
{
	return or_unsupported(gmem_clone(st.one, vm, (struct gmem **)&st.pointer, &err));
}

static void end_another(void)
{
	if (st.pointer != UNTOUCHED)
		gmem_unref(st.pointer);
}

/* What a failure may change. */
#define MEMORY 1 /* what is allocated: it says so in the header */
#define QUIET 2	 /* it has no struct gmem_error */
#define POLICY 4 /* of the range that it was called for */

/* Of which place an error speaks. */
#define AT_OFFSET 1
#define AT_GPA 2
#define AT_BOTH 3

static const struct {
	const char *name;
	void (*begin)(void);
	int (*run)(void);
	void (*end)(void);
	unsigned int may;
	unsigned int at;
	uint64_t offset; /* where it begins, for calls that are about no place */
} functions[] = {
	{"gmem_vm_new", nothing, do_vm_new, end_vm_new, 0, 0, 0},
	{"gmem_new", nothing, do_new, end_new, 0, 0, 0},
	{"gmem_map", memories, do_map, end_map, 0, AT_OFFSET, 0},
	{"gmem_bind", watched_unbound, do_bind, NULL, 0, AT_BOTH, 0},
	{"gmem_bind, many", watched_unbound, do_bind_many, NULL, 0x80, AT_BOTH, 0},
	{"gmem_unbind", watched, do_unbind, NULL, 0, AT_BOTH, 0},
	{"gmem_lookup", bound, do_lookup, NULL, QUIET, 0, 0},
	{"gmem_set_policy", bound, do_set_policy, NULL, POLICY, AT_OFFSET, 0},
	{"gmem_set_policy, default", bound, do_unset_policy, NULL, POLICY, AT_OFFSET, 0},
	{"gmem_get_policy", bound, do_get_policy, NULL, 0, AT_OFFSET, 0},
	{"gmem_prealloc", bound, do_prealloc, NULL, MEMORY | POLICY, AT_OFFSET, 0},
	{"gmem_placement", bound, do_placement, NULL, 0, AT_OFFSET, 6 * PAGE},
	{"gmem_convert, to private, nobody listens", bound, do_to_private, NULL, 0, AT_BOTH, 0},
	{"gmem_convert, to shared, nobody listens", bound, do_to_shared, NULL, MEMORY, AT_BOTH, 0},
	{"gmem_convert, to private", watched, do_to_private, NULL, 0, AT_BOTH, 0},
	{"gmem_convert, to shared", watched, do_to_shared, NULL, MEMORY, AT_BOTH, 0},
	{"gmem_convert_offset", watched, do_offset, NULL, 0, AT_BOTH, 0},
	{"gmem_convert_offset, not bound", memories, do_offset, NULL, 0, AT_OFFSET, 0},
	{"gmem_listener_add", bound, do_listener, end_listener, 0, AT_BOTH, 0},
	{"gmem_exit_decode", fault, do_decode, NULL, QUIET, 0, 0},
	{"gmem_exit_handle, fault", fault, do_handle_fault, NULL, 0, AT_BOTH, 0},
	{"gmem_exit_handle, hypercall", hypercall, do_handle_hypercall, NULL, 0, AT_BOTH, 0},
	{"gmem_next_range", bound, do_next_range, NULL, QUIET, 0, 0},
	{"gmem_next_offset_range", bound, do_next_offset_range, NULL, QUIET, 0, 0},
	{"gmem_stats", bound, do_stats, NULL, 0, 0, 0},
	{"gmem_discard", bound, do_discard, NULL, MEMORY, AT_BOTH, 0},
	{"gmem_zero", bound, do_zero, NULL, 0, AT_BOTH, 0},
	{"gmem_relink", bound, do_relink, end_another, 0, 0, 0},
	{"gmem_freeze", bound, do_freeze, NULL, 0, AT_BOTH, 0},
	{"gmem_clone", frozen, do_clone, end_another, 0, 0, 0},
};

#define NR_FUNCTIONS (int)(sizeof(functions) / sizeof(functions[0]))

static void begin(int f)
{
	world_begin();
	memset(&st, 0, sizeof(st));
	memset(poison, 0x5a, sizeof(poison));
	functions[f].begin();
	st.pointer = UNTOUCHED;
	st.new_vm = UNTOUCHED;
	memset(&st.location, 0x5a, sizeof(st.location));
	memset(&st.range, 0x5a, sizeof(st.range));
	memset(&st.stats, 0x5a, sizeof(st.stats));
	memset(st.on, 0x5a, sizeof(st.on));
	st.location.size = sizeof(st.location);
	st.range.size = sizeof(st.range);
	st.stats.size = sizeof(st.stats);
	st.policy = 0x5a5a5a5a;
	st.nodes = (struct bitmask){1024, st.nodes_word};
	st.exit = (struct gmem_exit)GMEM_EXIT_INIT;
	err = (struct gmem_error)GMEM_ERROR_INIT;
}

static void end(int f, bool done)
{
	if (st.watched)
		check_watcher(&st.watcher);
	if (done && functions[f].end)
		functions[f].end();
	gmem_unref(st.one);
	gmem_unref(st.two);
	world_end();
}

#define is_poison(field)                                                                           \
	(!memcmp((char *)&(field) + sizeof(size_t), poison, sizeof(field) - sizeof(size_t)))

static void check_untouched(const char *what)
{
	ck_assert_msg(st.pointer == UNTOUCHED && st.new_vm == UNTOUCHED &&
			      st.policy == 0x5a5a5a5a && is_poison(st.location) &&
			      is_poison(st.range) && is_poison(st.stats) &&
			      !memcmp(st.on, poison, sizeof(st.on)),
		      "%s wrote a result though it failed", what);
}

/* Calls whose failure does no harm, or is reported otherwise. */
static bool harmless(const char *call)
{
	return !strcmp(call, "close") || !strcmp(call, "munmap") ||
	       !strcmp(call, "KVM_CHECK_EXTENSION") || !strcmp(call, "KVM_GET_API_VERSION");
}

/* The step that a call of the kernel is part of; first that of a function, then of all. */
static const struct {
	const char *function, *call;
	uint32_t step;
} steps[] = {
	{"gmem_vm_new", NULL, GMEM_STEP_PROBE},
	{"gmem_bind", "KVM_SET_MEMORY_ATTRIBUTES", GMEM_STEP_BIND},
	{"gmem_bind, many", "KVM_SET_MEMORY_ATTRIBUTES", GMEM_STEP_BIND},
	{"gmem_set_policy", "mmap", GMEM_STEP_POLICY},
	{"gmem_set_policy, default", "mmap", GMEM_STEP_POLICY},
	{"gmem_get_policy", "mmap", GMEM_STEP_POLICY},
	{"gmem_prealloc", "mmap", GMEM_STEP_POLICY},
	{"gmem_prealloc", "fallocate", GMEM_STEP_ALLOCATE},
	{"gmem_placement", "mmap", GMEM_STEP_QUERY},
	{"gmem_placement", "madvise", GMEM_STEP_QUERY},
	{"gmem_discard", "fallocate", GMEM_STEP_DISCARD},
	{"gmem_zero", "fallocate", GMEM_STEP_DISCARD},
	{NULL, "KVM_CREATE_GUEST_MEMFD", GMEM_STEP_CREATE},
	{NULL, "fcntl", GMEM_STEP_CREATE},
	{NULL, "memfd_create", GMEM_STEP_CREATE},
	{NULL, "ftruncate", GMEM_STEP_CREATE},
	{NULL, "KVM_GMEM_LINK", GMEM_STEP_CREATE},
	{NULL, "KVM_GMEM_CLONE", GMEM_STEP_CREATE},
	{NULL, "mmap", GMEM_STEP_MAP},
	{NULL, "madvise", GMEM_STEP_MAP},
	{NULL, "KVM_SET_USER_MEMORY_REGION", GMEM_STEP_BIND},
	{NULL, "KVM_SET_USER_MEMORY_REGION2", GMEM_STEP_BIND},
	{NULL, "fstat", GMEM_STEP_QUERY},
	{NULL, "mbind", GMEM_STEP_POLICY},
	{NULL, "get_mempolicy", GMEM_STEP_POLICY},
	{NULL, "set_mempolicy", GMEM_STEP_POLICY},
	{NULL, "KVM_GMEM_GET_RANGES", GMEM_STEP_QUERY},
	{NULL, "cachestat", GMEM_STEP_QUERY},
	{NULL, "move_pages", GMEM_STEP_QUERY},
	{NULL, "KVM_GMEM_CONVERT_SHARED", GMEM_STEP_CONVERT},
	{NULL, "KVM_GMEM_CONVERT_PRIVATE", GMEM_STEP_CONVERT},
	{NULL, "KVM_SET_MEMORY_ATTRIBUTES", GMEM_STEP_CONVERT},
	{"gmem_new", "KVM_SET_MEMORY_ATTRIBUTES2", GMEM_STEP_CREATE},
	{NULL, "KVM_SET_MEMORY_ATTRIBUTES2", GMEM_STEP_CONVERT},
	{NULL, "fallocate", GMEM_STEP_CONVERT}, /* what would show, in dual mode */
	{NULL, "KVM_GMEM_FREEZE", GMEM_STEP_FREEZE},
};

static uint32_t step_of(const char *function, const char *call)
{
	for (unsigned int i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if ((!steps[i].function || !strcmp(steps[i].function, function)) &&
		    (!steps[i].call || !strcmp(steps[i].call, call)))
			return steps[i].step;
	ck_abort_msg("%s is part of no step", call);
	return 0;
}

/* The error says where: of which memory the call was that failed, as st has them bound. */
static void check_error(int f, const char *what)
{
	const char *call = fake_failed_call();
	uint64_t gpa = GMEM_NOWHERE, offset = functions[f].offset;
	bool second = false;
	int fd;

	ck_assert_msg(err.step == step_of(functions[f].name, call), "%s: step %u", what, err.step);
	if (fake_failed_gpa(&gpa)) {
		second = gpa >= SECOND;
		/* It is the slot that cannot be had, whichever of its runs it was. */
		offset = functions[f].run == do_bind ? 0 : gpa - (second ? SECOND : GPA);
	} else if (fake_failed_at(&fd, &offset)) {
		second = st.two && (fd == gmem_fd(st.two) || fd == gmem_shared_fd(st.two));
	}
	gpa = (second ? SECOND : GPA) + offset;
	if (!(functions[f].at & AT_GPA))
		gpa = GMEM_NOWHERE;
	if (!(functions[f].at & AT_OFFSET))
		offset = GMEM_NOWHERE;
	ck_assert_msg(err.gpa == gpa && err.offset == offset,
		      "%s: at %#llx, %#llx and not %#llx, %#llx", what, (unsigned long long)err.gpa,
		      (unsigned long long)err.offset, (unsigned long long)gpa,
		      (unsigned long long)offset);
}

/* What a kernel says that does not know what it is asked; all others are failures. */
static bool means_no(int error)
{
	return error != ENOMEM && error != EINTR && error != EMFILE;
}

/* Bytes of the side that is not used, which could not be freed. */
static uint64_t residue_of_both(void)
{
	struct gmem_stats one = GMEM_STATS_INIT, two = GMEM_STATS_INIT;

	if (!st.one)
		return 0;
	ok(gmem_stats(st.one, &one, &err));
	ok(gmem_stats(st.two, &two, &err));
	return one.residue + two.residue;
}

/* What there is, in one number; each world begins with the same. */
static uint64_t digest(unsigned int may)
{
	return may & (MEMORY | POLICY | 0x80) ? 0 : fake_digest();
}

/* KVM's answer that there is no such slot is none of a failure; and then there is to be none. */
static bool slot_gone(int f, int error)
{
	struct kvm_userspace_memory_region region = {.slot = 0};

	return functions[f].run == do_unbind && error == EINVAL &&
	       !strncmp(fake_failed_call(), "KVM_SET_USER_MEMORY_REGION", 26) &&
	       !fake_sys.ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static const int errors[] = {ENOMEM, EINTR, EMFILE, EINVAL, ENOTTY, EPERM};

static bool fail_nth_call(int f, unsigned int n, int error)
{
	char what[120];
	uint64_t before;
	int r, again;

	begin(f);
	before = digest(functions[f].may);
	fake_fail_call(n, -error);
	r = functions[f].run();
	if (!fake_has_failed()) {
		fake_fail_call(0, 0);
		ck_assert_msg(r >= 0, "%s fails by itself: %d: %s", functions[f].name, r,
			      err.message);
		end(f, true);
		return false;
	}
	snprintf(what, sizeof(what), "%s, call %u (%s) gives %d", functions[f].name, n,
		 fake_failed_call(), error);
	if (r >= 0) {
		bool fine =
			harmless(fake_failed_call()) ||
			/* the answer 'no' of a kernel that is asked what it can do */
			(functions[f].run == do_vm_new && means_no(error)) ||
			/* tried again, for it cannot be left half done */
			(error == EINTR && !strcmp(fake_failed_call(), "KVM_GMEM_GET_RANGES")) ||
			(error == EINTR && functions[f].run == do_prealloc &&
			 !strcmp(fake_failed_call(), "fallocate")) ||
			(!strcmp(fake_failed_call(), "fallocate") && residue_of_both()) ||
			/* stale attributes of what is unbound do not count */
			(functions[f].run == do_unbind &&
			 !strcmp(fake_failed_call(), "KVM_SET_MEMORY_ATTRIBUTES")) ||
			slot_gone(f, error);

		ck_assert_msg(fine, "%s: and it says %d", what, r);
		ck_assert_msg(!err.error && !err.step && !err.message[0],
			      "%s: returns %d, says %d, step %u, '%s'", what, r, err.error,
			      err.step, err.message);
		end(f, true);
		return true;
	}
	/* An extension that cannot be asked for is not there; or nor is the VM. */
	ck_assert_msg(r == -error || (functions[f].run == do_vm_new &&
				      (r == -EOPNOTSUPP || (r == -EINVAL && error == ENOTTY)) &&
				      !strcmp(fake_failed_call(), "KVM_CHECK_EXTENSION")),
		      "%s: and it says %d", what, r);
	if (!(functions[f].may & QUIET))
		ck_assert_msg(err.error == r && err.step && err.message[0],
			      "%s: returns %d, says %d, step %u, '%s'", what, r, err.error,
			      err.step, err.message);
	if (!(functions[f].may & QUIET))
		check_error(f, what);
	check_untouched(what);
	ck_assert_msg(before == digest(functions[f].may), "%s: something has changed", what);
	if (st.watched)
		check_watcher(&st.watcher);
	else
		check_settled(&st.watcher);
	err = (struct gmem_error)GMEM_ERROR_INIT;
	again = functions[f].run();
	ck_assert_msg(again >= 0, "%s: fails again: %d: %s", what, again, err.message);
	end(f, true);
	return true;
}

START_TEST(nth_call)
{
	unsigned int n, most = 0;

	for (unsigned int e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (n = 1; fail_nth_call(_i, n, errors[e]); n++)
			ck_assert_uint_lt(n, 500);
		if (n > most)
			most = n;
	}
	ck_assert_uint_ge(most, 1);
}
END_TEST

START_TEST(nth_allocation)
{
	for (unsigned int n = 1;; n++) {
		uint64_t before;
		int r;

		begin(_i);
		before = digest(functions[_i].may);
		fake_fail_alloc(n);
		r = functions[_i].run();
		if (!fake_has_failed()) {
			fake_fail_alloc(0);
			ck_assert_int_ge(r, 0);
			end(_i, true);
			break;
		}
		ck_assert_msg(r == -ENOMEM && err.step == GMEM_STEP_RESERVE,
			      "%s, allocation %u: %d, step %u", functions[_i].name, n, r, err.step);
		/* Only where it is about a slot. */
		ck_assert((err.gpa == GMEM_NOWHERE) == (functions[_i].run != do_bind_many));
		ck_assert((err.offset == GMEM_NOWHERE) == (functions[_i].run != do_bind_many));
		check_untouched(functions[_i].name);
		ck_assert_msg(before == digest(functions[_i].may), "%s: something has changed",
			      functions[_i].name);
		r = functions[_i].run();
		ck_assert_msg(r >= 0, "%s: fails again: %s", functions[_i].name, err.message);
		end(_i, true);
	}
}
END_TEST

/* Conversions and exits allocate nothing. */
START_TEST(no_allocation)
{
	unsigned int before;

	begin(0);
	hypercall();
	before = fake_allocations();
	ok(do_to_private());
	ok(do_to_shared());
	ok(do_offset());
	ok(do_handle_hypercall());
	st.run.exit_reason = KVM_EXIT_MEMORY_FAULT;
	st.run.memory_fault.flags = 0;
	st.run.memory_fault.gpa = GPA;
	st.run.memory_fault.size = PAGE;
	ok(do_handle_fault());
	ck_assert_uint_eq(fake_allocations(), before);
	end(0, false);
}
END_TEST

/* --- single failures, and what comes of them */

/* A timer may tick all the time: what is done is not done again, and it comes to its end. */
START_TEST(interrupted_prealloc)
{
	begin(0);
	memories();
	fake_fail_on("fallocate", 1, 40, -EINTR);
	ok(gmem_prealloc(st.one, 0, SIZE, NULL, NULL, NULL, &err));
	ck_assert(fake_has_failed());
	for (uint64_t at = 0; at < SIZE; at += PAGE)
		ck_assert(fake_populated(gmem_shared_fd(st.one), at));
	end(0, false);
}
END_TEST

/* Options that are not there are one attempt; and one that is to be made later is none. */
START_TEST(one_attempt)
{
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	const char *request = world->mode == GMEM_MODE_INPLACE ? "KVM_GMEM_CONVERT_PRIVATE"
							       : "KVM_SET_MEMORY_ATTRIBUTES2";
	unsigned int before;

	if (!in_place())
		return;
	begin(0);
	bound();
	fake_pin(gmem_fd(st.one), 0, true);
	before = fake_calls_of(request);
	fails(EAGAIN, gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ck_assert_uint_eq(fake_calls_of(request), before + 1);
	options.attempts = 0;
	fails(EAGAIN, gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, &options, NULL, &err));
	ck_assert_uint_eq(fake_calls_of(request), before + 2);
	/* A pause of 10 s that ends after the deadline is not begun. */
	options.attempts = 2;
	options.pause_us = 10000000;
	options.deadline_ns = fake_sys.now() + 1000000;
	fails(EAGAIN, gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, &options, &result, &err));
	ck_assert_uint_eq(fake_calls_of(request), before + 3);
	ck_assert_uint_eq(fake_slept(), 0);
	ck_assert_uint_eq(result.attempts, 1);
	ck_assert_uint_eq(result.busy_gpa, GPA);
	says(GMEM_STEP_CONVERT, GPA, 0);
	/* It was over before. */
	options.deadline_ns = fake_sys.now();
	fails(ETIMEDOUT, gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, &options, &result, &err));
	ck_assert_uint_eq(fake_calls_of(request), before + 3);
	ck_assert_uint_eq(result.attempts, 0);
	ck_assert_uint_eq(result.busy_gpa, GMEM_NOWHERE);
	says(GMEM_STEP_ARGUMENTS, GMEM_NOWHERE, GMEM_NOWHERE);
	/* No page is in the way of memory that the kernel has not got. */
	fake_fail_on(request, 1, 1, -ENOMEM);
	fails(ENOMEM, gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ck_assert_uint_eq(result.busy_gpa, GMEM_NOWHERE);
	ck_assert_uint_eq(result.busy_offset, GMEM_NOWHERE);
	ck_assert_uint_eq(result.attempts, 1);
	end(0, false);
}
END_TEST

/* What succeeds in the end says nothing about what did not before. */
START_TEST(error_of_success)
{
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem_error before = GMEM_ERROR_INIT;

	if (!in_place())
		return;
	begin(0);
	bound();
	fake_pin(gmem_fd(st.one), 0, true);
	fake_pin_for(2);
	options.attempts = 5;
	memset((char *)&before + sizeof(size_t), 0x5a, sizeof(before) - sizeof(size_t));
	err = before;
	ck_assert_int_eq(gmem_convert(vm, GPA, PAGE, GMEM_STATE_PRIVATE, &options, NULL, &err), 0);
	ck_assert(!memcmp(&err, &before, sizeof(err)));
	end(0, false);
}
END_TEST

static int calls_back(void *data, const struct gmem_event *event)
{
	struct gmem_convert_result *result = data;

	(void)event;
	fails(EDEADLK, gmem_convert(vm, GPA, PAGE, GMEM_STATE_SHARED, NULL, result, &err));
	return 0;
}

START_TEST(result_of_deadlock)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	const struct gmem_listener_ops ops = {sizeof(ops), calls_back, NULL, NULL};
	struct gmem_listener *listener;

	begin(0);
	bound();
	memset((char *)&result + sizeof(size_t), 0x5a, sizeof(result) - sizeof(size_t));
	ck_assert_int_eq(gmem_listener_add(vm, &ops, &result, &listener, NULL), 0);
	ck_assert_uint_eq(result.residue, 0);
	ck_assert_uint_eq(result.busy_gpa, GMEM_NOWHERE);
	ck_assert_uint_eq(result.busy_offset, GMEM_NOWHERE);
	ck_assert_uint_eq(result.attempts, 0);
	ck_assert_int_eq(result.residue_error, 0);
	end(0, false);
}
END_TEST

START_TEST(busy)
{
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	if (!in_place())
		return;
	begin(0);
	watched();
	fake_pin(gmem_fd(st.two), 3 * PAGE, true);
	fails(EAGAIN, gmem_convert(vm, GPA, SECOND + SIZE - GPA, GMEM_STATE_PRIVATE, &options,
				   &result, &err));
	ck_assert_uint_eq(err.step, GMEM_STEP_CONVERT);
	ck_assert_uint_eq(err.gpa, SECOND + 3 * PAGE);
	ck_assert_uint_eq(err.offset, 3 * PAGE);
	ck_assert_uint_eq(result.busy_gpa, SECOND + 3 * PAGE);
	ck_assert_uint_eq(result.busy_offset, 3 * PAGE);
	ck_assert_uint_eq(result.attempts, 1);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED); /* undone */
	ck_assert_uint_eq(state_at(GPA + 2 * PAGE), GMEM_STATE_PRIVATE);
	check_watcher(&st.watcher);
	ok(gmem_stats(st.two, &stats, &err));
	ck_assert_uint_eq(stats.refusals, 1);
	/* With patience: the pin goes after three tries. */
	fake_pin_for(3);
	options.attempts = 10;
	options.pause_us = 50;
	ok(gmem_convert(vm, GPA, SECOND + SIZE - GPA, GMEM_STATE_PRIVATE, &options, &result, &err));
	ck_assert_uint_eq(result.attempts, 4);
	ck_assert_uint_eq(result.busy_gpa, GMEM_NOWHERE);
	ck_assert_uint_eq(fake_slept(), 3 * 50000);
	check_watcher(&st.watcher);
	/* No longer than that. */
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
	fake_pin(gmem_fd(st.one), 0, true);
	options.attempts = 5;
	fails(EAGAIN, gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, &options, &result, &err));
	ck_assert_uint_eq(result.attempts, 5);
	options.attempts = UINT32_MAX;
	options.deadline_ns = fake_sys.now() + 1000000;
	fails(EAGAIN, gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, &options, &result, &err));
	ck_assert_uint_gt(result.attempts, 10);
	ck_assert_uint_le(result.attempts, 22);
	/* By offset, where nothing is bound. */
	fake_pin(gmem_fd(st.one), 0, false);
	ok(gmem_unbind(vm, 0, &err));
	fake_pin(gmem_fd(st.one), 4 * PAGE, true);
	fails(EAGAIN,
	      gmem_convert_offset(st.one, 0, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ck_assert_uint_eq(result.busy_gpa, GMEM_NOWHERE);
	ck_assert_uint_eq(result.busy_offset, 4 * PAGE);
	/* Poison. */
	fake_poison(gmem_fd(st.one), PAGE, true);
	fails(EHWPOISON,
	      gmem_convert_offset(st.one, 0, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	/* Mainline's ioctl tells a page that is in use, and no other. */
	ck_assert_uint_eq(result.busy_offset, world->mode == GMEM_MODE_ATTRIBUTES ? 0 : PAGE);
	end(0, false);
}
END_TEST

/* The second slot fails, and the first does not go back. */
START_TEST(undo_fails)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	bool dual = world->mode == GMEM_MODE_DUAL;
	bool mainline = world->mode == GMEM_MODE_ATTRIBUTES;

	if (!has_private())
		return;
	for (int to_shared = 0; to_shared < 2; to_shared++) {
		unsigned int n;

		begin(0);
		watched();
		if (to_shared) {
			ok(gmem_convert(vm, 0, WATCHED, GMEM_STATE_PRIVATE, NULL, NULL, &err));
			ok(gmem_convert(vm, GPA + 3 * PAGE, PAGE, GMEM_STATE_SHARED, NULL, NULL,
					&err));
		}
		if (dual) {
			/* The runs of the first slot are well; then comes the second. */
			n = to_shared ? 3 : 4;
			fake_fail_on("KVM_SET_MEMORY_ATTRIBUTES", n, 2, -ENOMEM);
		} else if (to_shared) {
			/* It is the undo, to private, that finds somebody there. */
			fake_pin(gmem_fd(st.one), 0, true);
			fake_fail_on(mainline ? "KVM_SET_MEMORY_ATTRIBUTES2"
					      : "KVM_GMEM_CONVERT_SHARED",
				     2, 1, -ENOMEM);
		} else {
			/* Both slots are called for, and then the first once more. */
			fake_fail_on(mainline ? "KVM_SET_MEMORY_ATTRIBUTES2"
					      : "KVM_GMEM_CONVERT_SHARED",
				     mainline ? 3 : 1, 1, -ENOMEM);
			fake_pin(gmem_fd(st.two), 5 * PAGE, true);
		}
		fails(to_shared || dual ? ENOMEM : EAGAIN,
		      gmem_convert(vm, GPA, SECOND + SIZE - GPA,
				   to_shared ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE, NULL,
				   &result, &err));
		ck_assert_uint_eq(err.step, GMEM_STEP_ROLLBACK);
		/* The place is that of the first failure, in the second slot. */
		ck_assert_uint_lt(err.offset, SIZE);
		ck_assert_uint_eq(err.gpa, SECOND + err.offset);
		/* What did not go back left the side that it was on as it is. */
		ck_assert(!result.residue == !dual);
		ck_assert_uint_eq(residue_of_both(), result.residue);
		/* Kernel, library and listener agree about what is so now. */
		check_watcher(&st.watcher);
		for (uint64_t p = 0; p < SIZE; p += PAGE) {
			bool private = state_at(GPA + p) == GMEM_STATE_PRIVATE;

			ck_assert(private == (dual ? fake_attribute(vm_fd, GPA + p)
						   : fake_private(gmem_fd(st.one), p)));
		}
		/* And it can all be had again. */
		fake_fail_on(NULL, 0, 0, 0);
		fake_pin(gmem_fd(st.one), 0, false);
		fake_pin(gmem_fd(st.two), 5 * PAGE, false);
		ok(gmem_convert(vm, GPA, SECOND + SIZE - GPA, GMEM_STATE_PRIVATE, NULL, &result,
				&err));
		ok(gmem_convert(vm, GPA, SECOND + SIZE - GPA, GMEM_STATE_SHARED, NULL, &result,
				&err));
		check_watcher(&st.watcher);
		end(0, false);
	}
}
END_TEST

START_TEST(residue)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct gmem_stats stats = GMEM_STATS_INIT;

	if (world->mode != GMEM_MODE_DUAL)
		return;
	begin(0);
	watched();
	/* Two runs; the second cannot be freed. */
	fake_fail_on("fallocate", 2, 1, -EIO);
	ok(gmem_convert(vm, GPA + PAGE, 3 * PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ck_assert_uint_eq(result.residue, PAGE);
	ck_assert_int_eq(result.residue_error, -EIO);
	ok(gmem_stats(st.one, &stats, &err));
	ck_assert_uint_eq(stats.residue, PAGE);
	ck_assert_uint_eq(stats.private_bytes, 4 * PAGE);
	ck_assert(fake_populated(gmem_shared_fd(st.one), 3 * PAGE));
	/* Back it may not go with old contents in it. */
	fake_fail_on("fallocate", 1, 1, -EIO);
	fails(EIO, gmem_convert(vm, GPA + 3 * PAGE, PAGE, GMEM_STATE_SHARED, NULL, &result, &err));
	ck_assert_uint_eq(err.step, GMEM_STEP_DISCARD);
	ck_assert_uint_eq(state_at(GPA + 3 * PAGE), GMEM_STATE_PRIVATE);
	ck_assert_uint_eq(result.residue, PAGE);
	check_watcher(&st.watcher);
	/* A conversion over it that does not concern it tries again as well. */
	fake_fail_on("fallocate", 1, 1, -EIO);
	ok(gmem_convert(vm, GPA + 3 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ck_assert_uint_eq(result.residue, PAGE);
	fake_fail_on(NULL, 0, 0, 0);
	ok(gmem_convert(vm, GPA + 3 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ck_assert_uint_eq(result.residue, 0);
	ok(gmem_stats(st.one, &stats, &err));
	ck_assert_uint_eq(stats.residue, 0);
	ck_assert(!fake_populated(gmem_shared_fd(st.one), 3 * PAGE));
	/* gmem_discard() clears it too. */
	fake_fail_on("fallocate", 1, 1, -EIO);
	ok(gmem_convert(vm, GPA + 4 * PAGE, PAGE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ck_assert_uint_eq(result.residue, PAGE);
	fake_fail_on(NULL, 0, 0, 0);
	ok(gmem_discard(st.one, 0, SIZE, &err));
	ok(gmem_stats(st.one, &stats, &err));
	ck_assert_uint_eq(stats.residue, 0);
	end(0, false);
}
END_TEST

/* Memory of several modes in one conversion. */
START_TEST(mixed_modes)
{
	struct fake_can can = {.guest_memfd = true,
			       .map = true,
			       .convert = true,
			       .ranges = true,
			       .attributes = true,
			       .attributes2 = true,
			       .protected = true,
			       .numa = true};
	struct world all = *world;
	struct watcher w = {0};
	struct gmem *memory[NR_MODES];

	all.can = can;
	world = &all;
	world_begin();
	for (uint32_t m = 0; m < NR_MODES; m++) {
		all.mode = m + 1;
		memory[m] = memory_of(SIZE, GMEM_STATE_SHARED);
		ok(gmem_bind(memory[m], m, GPA + m * SIZE, 0, SIZE, &err));
	}
	ok(watch(vm, &w));
	fails(EOPNOTSUPP,
	      gmem_convert(vm, GPA, NR_MODES * SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ck_assert_uint_eq(err.gpa, GPA + (GMEM_MODE_SHARED - 1) * SIZE);
	check_watcher(&w);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_SHARED);
	ok(gmem_convert(vm, GPA, (GMEM_MODE_SHARED - 1) * SIZE, GMEM_STATE_PRIVATE, NULL, NULL,
			&err));
	check_watcher(&w);
	/* One after the other fails, in either order. */
	fake_fail_on("KVM_SET_MEMORY_ATTRIBUTES", 1, 1, -ENOMEM);
	fails(ENOMEM, gmem_convert(vm, GPA, NR_MODES * SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
	ck_assert_uint_eq(err.step, GMEM_STEP_CONVERT);
	fake_fail_on(NULL, 0, 0, 0);
	ck_assert_uint_eq(state_at(GPA), GMEM_STATE_PRIVATE);
	check_watcher(&w);
	ok(gmem_convert(vm, GPA, NR_MODES * SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
	for (uint32_t m = 0; m < NR_MODES; m++) {
		ck_assert_uint_eq(state_at(GPA + m * SIZE), GMEM_STATE_SHARED);
		gmem_unref(memory[m]);
	}
	check_watcher(&w);
	world_end();
}
END_TEST

/* What the library is told, and what it makes of it. */
START_TEST(lesser_kernels)
{
	static const struct {
		struct fake_can can;
		uint64_t caps;
	} kernels[] = {
		{{.guest_memfd = false}, 0},
		{{.guest_memfd = true}, 0},
		{{.guest_memfd = true, .memory_fault = true}, GMEM_CAP_MEMORY_FAULT},
		{{.guest_memfd = true, .attributes = true}, GMEM_CAP_DUAL | GMEM_CAP_PRIVATE},
		/* Mainline's, of a VM that has private memory, and of one that has not. */
		{{.guest_memfd = true, .map = true, .attributes2 = true, .protected = true},
		 GMEM_CAP_SHARED | GMEM_CAP_ATTRIBUTES | GMEM_CAP_PRIVATE},
		{{.guest_memfd = true, .map = true, .attributes2 = true}, GMEM_CAP_SHARED},
		/* A type for which a file cannot begin as shared, but become it. */
		{{.guest_memfd = true,
		  .map = true,
		  .no_init_shared = true,
		  .attributes2 = true,
		  .protected = true},
		 GMEM_CAP_ATTRIBUTES | GMEM_CAP_PRIVATE},
		{{.guest_memfd = true, .map = true, .no_init_shared = true}, 0},
		{{.guest_memfd = true, .map = true}, GMEM_CAP_SHARED},
		{{.guest_memfd = true, .map = true, .numa = true}, GMEM_CAP_SHARED},
		{{.guest_memfd = true, .map = true, .numa = true, .policy = true},
		 GMEM_CAP_SHARED | GMEM_CAP_POLICY},
		{{.guest_memfd = true, .map = true, .convert = true}, GMEM_CAP_SHARED},
		{{.guest_memfd = true, .map = true, .ranges = true},
		 GMEM_CAP_SHARED | GMEM_CAP_RANGES},
		{{.guest_memfd = true, .map = true, .zero = true}, GMEM_CAP_SHARED | GMEM_CAP_ZERO},
		{{.guest_memfd = true, .map = true, .convert = true, .ranges = true},
		 GMEM_CAP_SHARED | GMEM_CAP_INPLACE | GMEM_CAP_PRIVATE | GMEM_CAP_RANGES},
		{{.guest_memfd = true, .map_gpa_range = true}, GMEM_CAP_MAP_GPA_RANGE},
	};
	struct gmem *memory = NULL;
	uint64_t caps;
	uint32_t mode;

	for (unsigned int i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		struct world lesser = *world;

		lesser.can = kernels[i].can;
		world = &lesser;
		world_begin();
		ok(gmem_vm_caps(vm, &caps));
		ck_assert_msg(caps == (kernels[i].caps | GMEM_CAP_PLAIN),
			      "kernel %u: %#llx instead of %#llx", i, (unsigned long long)caps,
			      (unsigned long long)kernels[i].caps);
		if (!has_default(caps)) {
			ck_assert_int_eq(gmem_vm_mode(vm, &mode), -EOPNOTSUPP);
			fails(EOPNOTSUPP, gmem_new(vm, SIZE, NULL, &memory, &err));
		}
		world_end();
		if (!(caps & GMEM_CAP_MAP_GPA_RANGE)) {
			struct gmem_vm_options options = GMEM_VM_OPTIONS_INIT;
			struct gmem_vm *none = NULL;

			fake_begin(&lesser.can);
			vm_fd = fake_vm();
			options.flags = GMEM_VM_MAP_GPA_RANGE;
			fails(EOPNOTSUPP, gmem_vm_new_sys(vm_fd, &options, &none, &err, &fake_sys));
			ck_assert_ptr_null(none);
			ck_assert_uint_eq(fake_left(), 0);
		}
	}
}
END_TEST

/* Whatever a kernel can do, there is a sentence about each thing that it cannot. */
START_TEST(reasons)
{
	const struct world *before = world;

	for (unsigned int i = 0; i < 1u << 13; i++) {
		struct world lesser = *before;
		uint64_t caps;

		lesser.can = (struct fake_can){.guest_memfd = i & 1,
					       .map = i & 2,
					       .convert = i & 4,
					       .ranges = i & 8,
					       .zero = i & 16,
					       .link = i & 32,
					       .policy = i & 64,
					       .attributes = i & 128,
					       .map_gpa_range = i & 256,
					       .memory_fault = i & 512,
					       .numa = i & 1024,
					       .attributes2 = i & 2048,
					       .protected = i & 4096};
		world = &lesser;
		world_begin();
		ok(gmem_vm_caps(vm, &caps));
		ck_assert_uint_eq(caps >> GMEM_NR_CAPS, 0);
		for (unsigned int bit = 0; bit < GMEM_NR_CAPS; bit++) {
			const char *why = gmem_vm_why_not(vm, UINT64_C(1) << bit);

			if (caps >> bit & 1)
				ck_assert_ptr_null(why);
			else
				ck_assert_msg(why && strlen(why) > 20 &&
						      why[strlen(why) - 1] == '.',
					      "kernel %u, capability %u: '%s'", i, bit,
					      why ? why : "(none)");
		}
		world_end();
	}
	world = before;
}
END_TEST

/* KVM has a slot there that is not the library's. */
START_TEST(foreign_slot)
{
	struct kvm_userspace_memory_region2 region = {.slot = 9,
						      .flags = KVM_MEM_GUEST_MEMFD,
						      .guest_phys_addr = GPA,
						      .memory_size = PAGE};

	begin(0);
	memories();
	region.guest_memfd = (uint32_t)gmem_fd(st.two);
	if (st.two->map)
		region.userspace_addr = (uintptr_t)st.two->map;
	if (world->mode == GMEM_MODE_PLAIN)
		region.flags = 0;
	/* The older one is the first half of it. */
	ok(fake_sys.ioctl(vm_fd,
			  region.flags ? KVM_SET_USER_MEMORY_REGION2 : KVM_SET_USER_MEMORY_REGION,
			  &region));
	fails(EEXIST, gmem_bind(st.one, 0, GPA, 0, SIZE, &err));
	fails(EINVAL, gmem_bind(st.one, 9, GPA + 4 * SIZE, 0, SIZE, &err));
	ck_assert_uint_eq(fake_slots(vm_fd), 1);
	region.memory_size = 0;
	ok(fake_sys.ioctl(vm_fd,
			  region.flags ? KVM_SET_USER_MEMORY_REGION2 : KVM_SET_USER_MEMORY_REGION,
			  &region));
	end(0, false);
}
END_TEST

/* Attributes that somebody left do not make memory private. */
START_TEST(stale_attributes)
{
	struct kvm_memory_attributes attributes = {
		.address = GPA, .size = SIZE, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE};

	if (world->mode != GMEM_MODE_DUAL)
		return;
	begin(0);
	ok(fake_sys.ioctl(vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &attributes));
	bound();
	ck_assert(!fake_attribute(vm_fd, GPA));
	ck_assert(fake_attribute(vm_fd, GPA + 2 * PAGE));
	end(0, false);
}
END_TEST

/* What the host wrote to the side that is not seen does not show with ZERO. */
START_TEST(zero_dual)
{
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;

	if (world->mode != GMEM_MODE_DUAL)
		return;
	begin(0);
	bound();
	fake_touch(gmem_shared_fd(st.one), 2 * PAGE, 0);
	options.flags = GMEM_CONVERT_ZERO;
	ok(gmem_convert(vm, GPA, SIZE, GMEM_STATE_SHARED, &options, NULL, &err));
	ck_assert(!fake_populated(gmem_shared_fd(st.one), 2 * PAGE));
	end(0, false);
}
END_TEST

/* The policy of the thread that preallocates is as before, whatever happens. */
START_TEST(task_policy)
{
	unsigned long nodes = 5, now;

	if (world->can.policy)
		return;
	for (int fail = 0; fail < 2; fail++) {
		begin(0);
		memories();
		ok(fake_sys.set_mempolicy(2, &nodes, 64));
		if (fail) {
			fake_fail_on("fallocate", 1, 1, -ENOMEM);
			fails(ENOMEM, do_prealloc());
		} else {
			ok(do_prealloc());
			ck_assert_int_eq(fake_node(gmem_shared_fd(st.two), 0), 1);
		}
		ck_assert_int_eq(fake_task_policy(&now), 2);
		ck_assert_uint_eq(now, nodes);
		end(0, false);
	}
}
END_TEST

/* Mappings that the library keeps for the slots are its own business. */
START_TEST(own_mapping)
{
	begin(0);
	memories();
	if (st.one->map) {
		ck_assert(fake_advice(st.one->map, 16 /* MADV_DONTDUMP */));
		ck_assert(fake_advice(st.one->map, 10 /* MADV_DONTFORK */));
	} else {
		ck_assert_uint_eq(world->mode, GMEM_MODE_INPLACE);
	}
	end(0, false);
}
END_TEST

static unsigned int sentences;

static void count_sentence(void *data, const char *message)
{
	(void)data;
	sentences += message[0] != 0;
}

/* Of what changes something, each says so, once for each thing done. */
START_TEST(logged)
{
	static const char *const changes[] = {"gmem_new",
					      "gmem_bind",
					      "gmem_unbind",
					      "gmem_set_policy",
					      "gmem_prealloc",
					      "gmem_convert",
					      "gmem_convert_offset",
					      "gmem_exit_handle, hypercall",
					      "gmem_listener_add",
					      "gmem_listener_remove",
					      "gmem_discard",
					      "gmem_zero",
					      "gmem_relink",
					      "gmem_freeze",
					      "gmem_clone"};
	const char *name = functions[_i].name;
	bool wanted = !strncmp(name, "gmem_convert, ", 14);
	int r;

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		wanted |= !strcmp(name, changes[i]);
	begin(_i);
	ok(gmem_set_log(vm, count_sentence, NULL));
	sentences = 0;
	r = functions[_i].run();
	ck_assert_int_ge(r, 0);
	/* In place there is all of it; other modes refuse some. */
	if (wanted && world->mode == GMEM_MODE_INPLACE)
		ck_assert_msg(sentences == 1, "%s says %u sentences", name, sentences);
	else if (wanted)
		ck_assert_msg(sentences <= 1, "%s says %u sentences", name, sentences);
	ok(gmem_set_log(vm, NULL, NULL));
	end(_i, true);
}
END_TEST

struct work {
	void (*fn)(void *data);
	void *data;
	bool came_back;
};

/* A frame without buffers, since AddressSanitizer guards these, and nobody would end that. */
static void *cancelled(void *data)
{
	struct work *work = data;

	/* It is cancelled when it next comes to a cancellation point. */
	pthread_cancel(pthread_self());
	work->fn(work->data);
	work->came_back = true;
	pthread_testcancel();
	return NULL;
}

static void log_with_point(void *data, const char *message)
{
	(void)data;
	(void)message;
	pthread_testcancel();
}

static int prepare_with_point(void *data, const struct gmem_event *event)
{
	(void)data;
	(void)event;
	pthread_testcancel();
	return 0;
}

static void end_with_point(void *data, const struct gmem_event *event)
{
	(void)data;
	(void)event;
	pthread_testcancel();
}

static int progress_with_point(void *data, uint64_t so_far, uint64_t total)
{
	(void)data;
	(void)so_far;
	(void)total;
	pthread_testcancel();
	return 0;
}

static void check_not_cancelled(void (*fn)(void *data), void *data, const char *name)
{
	struct work work = {fn, data, false};
	pthread_t thread;
	void *end;

	ck_assert_int_eq(pthread_create(&thread, NULL, cancelled, &work), 0);
	pthread_join(thread, &end);
	ck_assert_msg(work.came_back, "%s is a cancellation point", name);
	ck_assert_msg(end == PTHREAD_CANCELED, "%s: the thread cannot be cancelled afterwards",
		      name);
}

static void run_function(void *data)
{
	functions[*(int *)data].run();
}

/* Each function comes to its end, and what it held is not left behind. */
START_TEST(not_cancelled)
{
	int f = _i;

	begin(f);
	ok(gmem_set_log(vm, log_with_point, NULL));
	check_not_cancelled(run_function, &f, functions[f].name);
	end(f, true);
}
END_TEST

static void run_callbacks(void *data)
{
	const struct gmem_listener_ops ops = {sizeof(ops), prepare_with_point, end_with_point,
					      end_with_point};
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem_listener *listener;

	(void)data;
	options.attempts = 3;
	options.pause_us = 1;
	ck_assert_int_eq(gmem_prealloc(st.one, 0, SIZE, NULL, progress_with_point, NULL, NULL), 0);
	ck_assert_int_eq(gmem_listener_add(vm, &ops, NULL, &listener, NULL), 0);
	ck_assert_int_le(gmem_convert(vm, GPA, SIZE, GMEM_STATE_PRIVATE, &options, NULL, NULL), 0);
	ck_assert_int_eq(gmem_discard(st.one, 0, SIZE, NULL), 0);
	ck_assert_int_eq(gmem_unbind(vm, 0, NULL), 0);
	ck_assert_int_eq(gmem_listener_remove(vm, listener), 0);
}

/* A listener's, progress', and between attempts. */
START_TEST(callbacks_not_cancelled)
{
	begin(0);
	bound();
	fake_pin(gmem_shared_fd(st.one), 0, true);
	check_not_cancelled(run_callbacks, NULL, "a callback");
	/* Nobody holds anything. */
	ok(gmem_discard(st.one, 0, SIZE, &err));
	end(0, false);
}
END_TEST

static int wait_to_be_seen(void *data, const struct gmem_event *event)
{
	const struct timespec moment = {0, 20000000};

	(void)event;
	atomic_store((atomic_bool *)data, true);
	nanosleep(&moment, NULL);
	return 0;
}

static void *discards_slowly(void *data)
{
	(void)data;
	ck_assert_int_eq(gmem_discard(st.one, 0, PAGE, NULL), 0);
	return NULL;
}

static void discard_after(void *data)
{
	while (!atomic_load((atomic_bool *)data))
		;
	ck_assert_int_eq(gmem_discard(st.two, 0, PAGE, NULL), 0);
}

/* For another thread's change. */
START_TEST(wait_not_cancelled)
{
	atomic_bool inside = false;
	const struct gmem_listener_ops ops = {sizeof(ops), wait_to_be_seen, NULL, NULL};
	struct gmem_listener *listener;
	pthread_t thread;

	begin(0);
	bound();
	ok(gmem_listener_add(vm, &ops, &inside, &listener, &err));
	inside = false;
	pthread_create(&thread, NULL, discards_slowly, NULL);
	check_not_cancelled(discard_after, &inside, "waiting");
	pthread_join(thread, NULL);
	ok(gmem_discard(st.one, 0, SIZE, &err));
	end(0, false);
}
END_TEST

/* --- for seccomp.c */

const char *function_name(int f)
{
	return f < NR_FUNCTIONS ? functions[f].name : NULL;
}

void function_begin(int f)
{
	begin(f);
}

int function_run(int f)
{
	return functions[f].run();
}

void function_end(int f)
{
	end(f, true);
}

Suite *suite_failures(void)
{
	Suite *suite = suite_create("failures");
	TCase *tcase = tcase_create(world->name);

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, nth_call, 0, NR_FUNCTIONS);
	tcase_add_loop_test(tcase, nth_allocation, 0, NR_FUNCTIONS);
	tcase_add_test(tcase, no_allocation);
	tcase_add_loop_test(tcase, logged, 0, NR_FUNCTIONS);
	tcase_add_loop_test(tcase, not_cancelled, 0, NR_FUNCTIONS);
	tcase_add_test(tcase, callbacks_not_cancelled);
	tcase_add_test(tcase, wait_not_cancelled);
	tcase_add_test(tcase, interrupted_prealloc);
	tcase_add_test(tcase, one_attempt);
	tcase_add_test(tcase, error_of_success);
	tcase_add_test(tcase, result_of_deadlock);
	tcase_add_test(tcase, busy);
	tcase_add_test(tcase, undo_fails);
	tcase_add_test(tcase, residue);
	tcase_add_test(tcase, mixed_modes);
	tcase_add_test(tcase, lesser_kernels);
	tcase_add_test(tcase, reasons);
	tcase_add_test(tcase, foreign_slot);
	tcase_add_test(tcase, stale_attributes);
	tcase_add_test(tcase, zero_dual);
	tcase_add_test(tcase, task_policy);
	tcase_add_test(tcase, own_mapping);
	suite_add_tcase(suite, tcase);
	return suite;
}
