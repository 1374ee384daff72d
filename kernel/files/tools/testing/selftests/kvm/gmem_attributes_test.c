// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_MEMORY_ATTRIBUTES2 on a guest_memfd: mainline's way to convert in
 * place, as a program sees it that knows no other, and beside KVM_GMEM_CONVERT_*.
 *
 * What is malformed is in gmem_bad_input_test, allocations that fail are in
 * gmem_fault_inject_test, memory errors in gmem_poison_test.
 */
#include <fcntl.h>
#include <linux/kvm_para.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE
#define SHARED		0

#define MAX_PAGES	32
#define FILE_SIZE(nr)	((uint64_t)(nr) * PAGE_SIZE)
#define SEED		1

/* Programs are compiled elsewhere: what they have to agree on. */
kvm_static_assert(KVM_SET_MEMORY_ATTRIBUTES2 == 0xc080aed2);
kvm_static_assert(PRIVATE == 8);
kvm_static_assert(sizeof(struct kvm_memory_attributes2) == 128);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, offset) == 0);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, address) == 0);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, size) == 8);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, attributes) == 16);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, flags) == 24);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, error_offset) == 32);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, reserved) == 40);

struct env {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu[2];
	bool hva;
	int fd;
	char *mem;
	uint64_t size;
	/* A pinned page, or none. */
	int pin[2];
};

FIXTURE(gmem_attributes) {
	struct env env;
};

GMEM_FIXTURE_VARIANTS(gmem_attributes);

FIXTURE_SETUP(gmem_attributes)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->env.vm = gmem_vm_create(variant->type, 2, self->env.vcpu, MAX_PAGES);
	self->env.hva = variant->hva;
}

FIXTURE_TEARDOWN(gmem_attributes)
{
	struct env *env = &self->env;

	if (env->mem) {
		munmap(env->mem, env->size);
		close(env->fd);
	}
	if (env->vm)
		kvm_vm_free(env->vm);
}

/* A file of @nr pages, mapped by the host and by the guest. */
static void use_file(struct env *env, uint64_t nr, uint64_t flags)
{
	env->size = FILE_SIZE(nr);
	env->fd = gmem_create(env->vm, env->size, flags);
	env->mem = gmem_mmap(env->fd, env->size);
	gmem_bind(env->vm, GMEM_SLOT, GMEM_GPA, env->size,
		  env->hva ? env->mem : NULL, env->fd, 0);
}

static void drop_file(struct env *env)
{
	gmem_unbind(env->vm, GMEM_SLOT);
	munmap(env->mem, env->size);
	close(env->fd);
	env->mem = NULL;
}

static void make_private(struct env *env, uint64_t offset, uint64_t size)
{
	gmem_set_attributes(env->fd, PRIVATE, offset, size);
}

static void make_shared(struct env *env, uint64_t offset, uint64_t size)
{
	gmem_set_attributes(env->fd, SHARED, offset, size);
}

static void guest_fill(struct env *env, uint64_t offset, uint64_t size, uint64_t seed)
{
	gmem_guest_call(env->vcpu[0], gmem_guest_fill, GMEM_GVA + offset, size, seed);
}

static void guest_check(struct env *env, uint64_t offset, uint64_t size, uint64_t seed)
{
	uint64_t bad = gmem_guest_call(env->vcpu[0], gmem_guest_check,
				       GMEM_GVA + offset, size, seed);

	TEST_ASSERT(!bad, "the guest reads something else at %#lx", bad);
}

static void guest_check_zero(struct env *env, uint64_t offset, uint64_t size)
{
	uint64_t bad = gmem_guest_call(env->vcpu[0], gmem_guest_check_zero,
				       GMEM_GVA + offset, size, 0);

	TEST_ASSERT(!bad, "the guest does not read 0 at %#lx", bad);
}

static void pin(struct env *env, uint64_t page)
{
	struct iovec iov = { env->mem + page * PAGE_SIZE, PAGE_SIZE };

	TEST_ASSERT(!pipe(env->pin), "pipe: %s", strerror(errno));
	TEST_ASSERT_EQ(vmsplice(env->pin[1], &iov, 1, 0), (ssize_t)PAGE_SIZE);
}

static void unpin(struct env *env)
{
	close(env->pin[0]);
	close(env->pin[1]);
}

static uint32_t vm_cap(int vm_fd)
{
	int r = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);

	TEST_ASSERT(r >= 0, "KVM_CHECK_EXTENSION: %s", strerror(errno));
	return r;
}

/* Of KVM as a whole, of this type of VM, and of those that hardware protects. */
GMEM_TEST(gmem_attributes, capability)
{
	static const unsigned long types[] = {
		KVM_X86_SEV_VM, KVM_X86_SEV_ES_VM, KVM_X86_SNP_VM,
	};
	int i, vm_fd;

	TEST_ASSERT_EQ(vm_cap(self->env.vm->kvm_fd), PRIVATE);
	TEST_ASSERT_EQ(vm_cap(self->env.vm->fd), PRIVATE);

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		if (!gmem_type_supported(types[i]))
			continue;
		vm_fd = ioctl(self->env.vm->kvm_fd, KVM_CREATE_VM, types[i]);
		TEST_ASSERT(vm_fd >= 0, "KVM_CREATE_VM: %s", strerror(errno));
		TEST_ASSERT_EQ(vm_cap(vm_fd), 0);
		close(vm_fd);
	}
}

/* How a program tells: size 0 is EINVAL where there is the ioctl, else ENOTTY. */
GMEM_TEST(gmem_attributes, probe)
{
	struct env *env = &self->env;
	uint64_t error_offset;
	int fd;

	use_file(env, 4, GMEM_FLAGS_PRIVATE);
	TEST_ASSERT_EQ(__gmem_set_attributes(env->fd, SHARED, 0, 0, &error_offset),
		       -EINVAL);
	/* Not touched. */
	TEST_ASSERT_EQ(error_offset, -1ull);

	fd = gmem_create(env->vm, env->size, 0);
	TEST_ASSERT_EQ(__gmem_set_attributes(fd, SHARED, 0, 0, NULL), -ENOTTY);
	TEST_ASSERT_EQ(__gmem_set_attributes(fd, PRIVATE, 0, PAGE_SIZE, NULL), -ENOTTY);
	close(fd);
	TEST_ASSERT_EQ(__gmem_set_attributes(env->vm->fd, SHARED, 0, 0, NULL), -ENOTTY);
}

/* Private from the start, and shared from the start. */
GMEM_TEST(gmem_attributes, initial_state)
{
	struct env *env = &self->env;
	bool private[4] = { true, true, true, true };

	use_file(env, 4, GMEM_FLAGS_PRIVATE);
	gmem_check_states(env->fd, private, 4);
	gmem_assert_no_access(env->mem, env->size);
	guest_fill(env, 0, env->size, SEED);
	/* What it is already. */
	make_private(env, 0, env->size);
	gmem_check_states(env->fd, private, 4);
	guest_check(env, 0, env->size, SEED);
	make_shared(env, 0, env->size);
	memset(private, false, sizeof(private));
	gmem_check_states(env->fd, private, 4);
	gmem_check(env->mem, 0, env->size, SEED);
	drop_file(env);

	use_file(env, 4, GMEM_FLAGS_SHARED);
	gmem_check_states(env->fd, private, 4);
	gmem_fill(env->mem, 0, env->size, SEED);
	make_shared(env, 0, env->size);
	gmem_check_states(env->fd, private, 4);
	gmem_check(env->mem, 0, env->size, SEED);
	make_private(env, 0, env->size);
	memset(private, true, sizeof(private));
	gmem_check_states(env->fd, private, 4);
	gmem_assert_no_access(env->mem, env->size);
	guest_check(env, 0, env->size, SEED);
}

/* Each page of four alone, in files of either kind, there and back. */
GMEM_TEST(gmem_attributes, each_page)
{
	struct env *env = &self->env;
	bool private[4];
	int n, start_private;

	for (start_private = 0; start_private < 2; start_private++) {
		use_file(env, 4, start_private ? GMEM_FLAGS_PRIVATE : GMEM_FLAGS_SHARED);
		memset(private, start_private, sizeof(private));
		guest_fill(env, 0, env->size, SEED);

		for (n = 0; n < 4; n++) {
			gmem_set_attributes(env->fd, start_private ? SHARED : PRIVATE,
					    n * PAGE_SIZE, PAGE_SIZE);
			private[n] = !start_private;
			gmem_check_states(env->fd, private, 4);

			/* One is the other kind, and three are what they were. */
			TEST_ASSERT_EQ(gmem_peek(env->mem + n * PAGE_SIZE, NULL),
				       private[n] ? BUS_ADRERR : 0);
			TEST_ASSERT_EQ(gmem_peek(env->mem + (n + 1) % 4 * PAGE_SIZE, NULL),
				       start_private ? BUS_ADRERR : 0);
			guest_check(env, 0, env->size, SEED);

			gmem_set_attributes(env->fd, start_private ? PRIVATE : SHARED,
					    n * PAGE_SIZE, PAGE_SIZE);
			private[n] = start_private;
			gmem_check_states(env->fd, private, 4);
			guest_check(env, 0, env->size, SEED);
		}
		drop_file(env);
	}
}

/* Before anything is allocated: nothing is, and all of it is zero. */
GMEM_TEST(gmem_attributes, before_allocation)
{
	struct env *env = &self->env;

	use_file(env, 4, GMEM_FLAGS_SHARED);
	make_private(env, 0, env->size);
	gmem_assert_no_access(env->mem, env->size);
	make_shared(env, 0, env->size);
	make_private(env, PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_populated(env->fd, 0, env->size), 0);

	guest_check_zero(env, 0, env->size);
	make_shared(env, 0, env->size);
	gmem_check_zero(env->mem, 0, env->size);
}

/* Some of eight are allocated: those keep what they hold, and no more are. */
GMEM_TEST(gmem_attributes, some_allocated)
{
	static const int allocated[] = { 0, 3, 4, 7 };
	const bool private[8] = { [0 ... 7] = true };
	struct env *env = &self->env;
	int i, n;

	use_file(env, 8, GMEM_FLAGS_SHARED);
	for (i = 0; i < ARRAY_SIZE(allocated); i++)
		gmem_fill(env->mem, allocated[i] * PAGE_SIZE, PAGE_SIZE, SEED);

	for (n = 0; n < 2; n++) {
		make_private(env, 0, env->size);
		TEST_ASSERT_EQ(gmem_populated(env->fd, 0, env->size),
			       FILE_SIZE(ARRAY_SIZE(allocated)));
		make_shared(env, 0, env->size);
		TEST_ASSERT_EQ(gmem_populated(env->fd, 0, env->size),
			       FILE_SIZE(ARRAY_SIZE(allocated)));
	}
	make_private(env, 0, env->size);
	gmem_check_states(env->fd, private, 8);
	for (n = 0, i = 0; n < 8; n++) {
		if (i < ARRAY_SIZE(allocated) && allocated[i] == n) {
			guest_check(env, n * PAGE_SIZE, PAGE_SIZE, SEED);
			i++;
		} else {
			guest_check_zero(env, n * PAGE_SIZE, PAGE_SIZE);
		}
	}
}

/* Punched out: the state stays, in either, and contents are gone. */
GMEM_TEST(gmem_attributes, punched_out)
{
	const bool private[8] = { [0 ... 3] = true };
	struct env *env = &self->env;

	use_file(env, 8, GMEM_FLAGS_SHARED);
	gmem_fill(env->mem, 0, env->size, SEED);
	make_private(env, 0, 4 * PAGE_SIZE);
	/* Two pages of each state. */
	TEST_ASSERT_EQ(__gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					2 * PAGE_SIZE, 4 * PAGE_SIZE), 0);
	gmem_check_states(env->fd, private, 8);
	TEST_ASSERT_EQ(gmem_populated(env->fd, 0, env->size), 4 * PAGE_SIZE);

	make_shared(env, 0, 4 * PAGE_SIZE);
	make_private(env, 4 * PAGE_SIZE, 4 * PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_populated(env->fd, 0, env->size), 4 * PAGE_SIZE);
	gmem_check(env->mem, 0, 2 * PAGE_SIZE, SEED);
	gmem_check_zero(env->mem, 2 * PAGE_SIZE, 2 * PAGE_SIZE);
	gmem_assert_no_access(env->mem + 4 * PAGE_SIZE, 4 * PAGE_SIZE);
	guest_check_zero(env, 4 * PAGE_SIZE, 2 * PAGE_SIZE);
	guest_check(env, 6 * PAGE_SIZE, 2 * PAGE_SIZE, SEED);
}

/* Two processes, each with a mapping of its own that it has touched. */
GMEM_TEST(gmem_attributes, two_processes)
{
	struct env *env = &self->env;
	int up[2], down[2];
	pid_t pid;
	char *mem;

	use_file(env, 4, GMEM_FLAGS_SHARED);
	TEST_ASSERT(!pipe(up) && !pipe(down), "pipe() failed");

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		close(up[0]);
		close(down[1]);
		mem = gmem_mmap(env->fd, env->size);
		gmem_fill(mem, 0, env->size, SEED);
		gmem_step(up[1]);

		/* The other one has made it private. */
		gmem_await(down[0]);
		gmem_assert_no_access(mem, env->size);
		gmem_assert_no_access(env->mem, env->size);
		make_shared(env, 0, PAGE_SIZE);
		gmem_check(mem, 0, PAGE_SIZE, SEED);
		gmem_fill(mem, 0, PAGE_SIZE, SEED + 1);
		gmem_step(up[1]);

		/* And has both mapped again. */
		gmem_await(down[0]);
		make_private(env, 0, env->size);
		_exit(0);
	}
	close(up[1]);
	close(down[0]);

	gmem_await(up[0]);
	gmem_check(env->mem, 0, env->size, SEED);
	make_private(env, 0, env->size);
	gmem_step(down[1]);

	gmem_await(up[0]);
	gmem_check(env->mem, 0, PAGE_SIZE, SEED + 1);
	gmem_assert_no_access(env->mem + PAGE_SIZE, env->size - PAGE_SIZE);
	gmem_step(down[1]);

	gmem_reap(pid);
	gmem_assert_no_access(env->mem, env->size);
	guest_check(env, 0, PAGE_SIZE, SEED + 1);
	guest_check(env, PAGE_SIZE, env->size - PAGE_SIZE, SEED);
	close(up[0]);
	close(down[1]);
}

#define PINNED		2ull

static void assert_busy(struct env *env, uint64_t page, uint64_t nr)
{
	struct gmem_snapshot *snap = gmem_snapshot(env->fd);
	uint64_t error_offset;

	TEST_ASSERT_EQ(__gmem_set_attributes(env->fd, PRIVATE, page * PAGE_SIZE,
					     nr * PAGE_SIZE, &error_offset), -EAGAIN);
	TEST_ASSERT_EQ(error_offset, PINNED * PAGE_SIZE);
	gmem_assert_unchanged(env->fd, snap, "EAGAIN");
	gmem_snapshot_free(snap);
}

/* A pinned page: the request that has it fails, and says where; no other does. */
GMEM_TEST(gmem_attributes, pinned)
{
	struct env *env = &self->env;
	uint64_t first, nr, error_offset;
	bool private[4] = {};

	use_file(env, 4, GMEM_FLAGS_SHARED);
	gmem_fill(env->mem, 0, env->size, SEED);
	pin(env, PINNED);

	/* Every range there is; none that begins behind it is blamed for it. */
	for (first = 0; first < 4; first++) {
		for (nr = 1; nr <= 4 - first; nr++) {
			if (first <= PINNED && PINNED < first + nr) {
				assert_busy(env, first, nr);
				continue;
			}
			make_private(env, first * PAGE_SIZE, nr * PAGE_SIZE);
			make_shared(env, first * PAGE_SIZE, nr * PAGE_SIZE);
		}
	}

	/* What is private around it changes nothing. */
	make_private(env, 0, PINNED * PAGE_SIZE);
	make_private(env, 3 * PAGE_SIZE, PAGE_SIZE);
	assert_busy(env, 0, 4);
	assert_busy(env, 1, 2);

	/* To shared it is in nobody's way, and malformed comes first. */
	make_shared(env, 0, env->size);
	TEST_ASSERT_EQ(__gmem_set_attributes(env->fd, PRIVATE | 1, 0, env->size,
					     &error_offset), -EINVAL);
	TEST_ASSERT_EQ(error_offset, -1ull);
	gmem_check_states(env->fd, private, 4);

	unpin(env);
	make_private(env, 0, env->size);
	gmem_assert_no_access(env->mem, env->size);
	guest_check(env, 0, env->size, SEED);
}

/*
 * An argument that cannot be written: it is of no matter to what succeeds and to
 * what is malformed.  EFAULT where an offset should be reported, with nothing
 * changed.
 */
GMEM_TEST(gmem_attributes, read_only_argument)
{
	struct env *env = &self->env;
	struct kvm_memory_attributes2 *arg;
	const bool private[4] = { true, true };
	struct gmem_snapshot *snap;

	use_file(env, 4, GMEM_FLAGS_SHARED);
	gmem_fill(env->mem, 0, env->size, SEED);
	arg = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(arg != MAP_FAILED, "mmap() failed");
	arg->size = 2 * PAGE_SIZE;
	arg->attributes = PRIVATE;
	mprotect(arg, PAGE_SIZE, PROT_READ);

	pin(env, 1);
	snap = gmem_snapshot(env->fd);
	TEST_ASSERT_EQ(ioctl(env->fd, KVM_SET_MEMORY_ATTRIBUTES2, arg), -1);
	TEST_ASSERT_EQ(errno, EFAULT);
	gmem_assert_unchanged(env->fd, snap, "EFAULT");
	unpin(env);

	TEST_ASSERT_EQ(ioctl(env->fd, KVM_SET_MEMORY_ATTRIBUTES2, arg), 0);
	gmem_check_states(env->fd, private, 4);

	mprotect(arg, PAGE_SIZE, PROT_READ | PROT_WRITE);
	arg->reserved[10] = 1;
	mprotect(arg, PAGE_SIZE, PROT_READ);
	TEST_ASSERT_EQ(ioctl(env->fd, KVM_SET_MEMORY_ATTRIBUTES2, arg), -1);
	TEST_ASSERT_EQ(errno, EINVAL);
	gmem_check_states(env->fd, private, 4);

	gmem_snapshot_free(snap);
	munmap(arg, PAGE_SIZE);
}

/* An argument in the memory itself, which the request makes private. */
GMEM_TEST(gmem_attributes, argument_in_the_memory)
{
	struct kvm_memory_attributes2 *arg;
	struct env *env = &self->env;

	use_file(env, 4, GMEM_FLAGS_SHARED);
	arg = (void *)env->mem + PAGE_SIZE;
	arg->size = env->size;
	arg->attributes = PRIVATE;
	TEST_ASSERT_EQ(ioctl(env->fd, KVM_SET_MEMORY_ATTRIBUTES2, arg), 0);
	gmem_assert_no_access(env->mem, env->size);
	TEST_ASSERT_EQ(ioctl(env->fd, KVM_SET_MEMORY_ATTRIBUTES2, arg), -1);
	TEST_ASSERT_EQ(errno, EFAULT);

	make_shared(env, 0, env->size);
	TEST_ASSERT_EQ(arg->size, env->size);
}

/* A request that mixes states changes the rest, and nothing of what is right. */
GMEM_TEST(gmem_attributes, mixed_states)
{
	struct env *env = &self->env;
	bool private[8] = {};
	int n;

	use_file(env, 8, GMEM_FLAGS_SHARED);
	gmem_fill(env->mem, 0, env->size, SEED);
	for (n = 1; n < 8; n += 2) {
		make_private(env, n * PAGE_SIZE, PAGE_SIZE);
		private[n] = true;
	}
	gmem_check_states(env->fd, private, 8);

	/* In between, at an odd place on both sides. */
	make_private(env, PAGE_SIZE, 5 * PAGE_SIZE);
	memset(private + 1, true, 5);
	gmem_check_states(env->fd, private, 8);
	make_shared(env, 2 * PAGE_SIZE, 6 * PAGE_SIZE);
	memset(private + 2, false, 6);
	gmem_check_states(env->fd, private, 8);
	guest_check(env, 0, env->size, SEED);

	make_private(env, 0, env->size);
	memset(private, true, 8);
	gmem_check_states(env->fd, private, 8);
	gmem_assert_no_access(env->mem, env->size);
	make_shared(env, 0, env->size);
	gmem_check(env->mem, 0, env->size, SEED);
}

/*
 * Both interfaces and two views of the memory, at random, against a model; now
 * and then with a page pinned.
 */
GMEM_TEST(gmem_attributes, both_interfaces)
{
	uint64_t i, page, nr, pinned = MAX_PAGES, error_offset, refused = 0;
	struct env *env = &self->env;
	bool private[MAX_PAGES] = {};
	int fds[2], fd, want, r;
	bool to_private;

	use_file(env, MAX_PAGES, GMEM_FLAGS_SHARED);
	gmem_fill(env->mem, 0, env->size, SEED);
	fds[0] = env->fd;
	fds[1] = gmem_link(env->vm, env->fd);

	srandom(1);
	for (i = 0; i < 1000; i++) {
		if (i % 16 == 0) {
			if (pinned < MAX_PAGES)
				unpin(env);
			pinned = random() % MAX_PAGES;
			if (private[pinned])
				pinned = MAX_PAGES;
			else
				pin(env, pinned);
		}

		page = random() % MAX_PAGES;
		nr = random() % (MAX_PAGES - page) + 1;
		to_private = random() % 2;
		fd = fds[random() % 2];
		want = to_private && page <= pinned && pinned < page + nr ? -EAGAIN : 0;

		if (random() % 2)
			r = __gmem_convert(fd, to_private, page * PAGE_SIZE,
					   nr * PAGE_SIZE, 0, &error_offset);
		else
			r = __gmem_set_attributes(fd, to_private ? PRIVATE : SHARED,
						  page * PAGE_SIZE, nr * PAGE_SIZE,
						  &error_offset);
		TEST_ASSERT(r == want, "pages %lu + %lu: %s, not %s", page, nr,
			    strerror(-r), strerror(-want));
		if (r) {
			TEST_ASSERT_EQ(error_offset, pinned * PAGE_SIZE);
			refused++;
		} else {
			memset(private + page, to_private, nr);
		}

		gmem_check_states(fds[0], private, MAX_PAGES);
		gmem_check_states(fds[1], private, MAX_PAGES);
		TEST_ASSERT_EQ(gmem_peek(env->mem + page * PAGE_SIZE, NULL),
			       private[page] ? BUS_ADRERR : 0);
		if (i % 50 == 0)
			guest_check(env, 0, env->size, SEED);
	}
	TEST_ASSERT(refused > 10 && refused < 500, "%lu of 1000 were refused", refused);

	if (pinned < MAX_PAGES)
		unpin(env);
	guest_check(env, 0, env->size, SEED);
	make_shared(env, 0, env->size);
	gmem_check(env->mem, 0, env->size, SEED);
	close(fds[1]);
}

/* What only this kernel has: memory that nothing changes, and its clones. */
GMEM_TEST(gmem_attributes, frozen)
{
	bool private[4] = { false, false, true, true };
	struct env *env = &self->env;
	uint64_t error_offset, offset;
	int clone;

	use_file(env, 4, GMEM_FLAGS_SHARED);
	gmem_fill(env->mem, 0, env->size, SEED);
	make_private(env, 2 * PAGE_SIZE, 2 * PAGE_SIZE);
	gmem_freeze(env->fd);

	for (offset = 0; offset < env->size; offset += PAGE_SIZE) {
		TEST_ASSERT_EQ(__gmem_set_attributes(env->fd, SHARED, offset, PAGE_SIZE,
						     &error_offset), -EPERM);
		TEST_ASSERT_EQ(error_offset, offset);
		TEST_ASSERT_EQ(__gmem_set_attributes(env->fd, PRIVATE, offset, PAGE_SIZE,
						     &error_offset), -EPERM);
		TEST_ASSERT_EQ(error_offset, offset);
	}

	clone = gmem_clone(env->vm, env->fd);
	gmem_set_attributes(clone, PRIVATE, 0, PAGE_SIZE);
	gmem_set_attributes(clone, SHARED, 2 * PAGE_SIZE, PAGE_SIZE);
	gmem_check_states(env->fd, private, 4);
	private[0] = true;
	private[2] = false;
	gmem_check_states(clone, private, 4);
	close(clone);
}

/*
 * A guest that asks for its memory to be converted, and finds it converted, on
 * two vCPUs at once whose pages alternate.
 */
struct asking {
	struct env *env;
	int nr;
};

static uint64_t guest_ask(uint64_t gva, uint64_t size, uint64_t seed)
{
	uint64_t r;

	gmem_guest_fill(gva, size, seed);
	if (__kvm_hypercall_map_gpa_range(gva, size, KVM_MAP_GPA_RANGE_ENCRYPTED))
		return __LINE__;
	r = gmem_guest_check(gva, size, seed);
	if (r)
		return r;
	gmem_guest_fill(gva, size, seed + 1);
	if (__kvm_hypercall_map_gpa_range(gva, size, KVM_MAP_GPA_RANGE_DECRYPTED))
		return __LINE__;
	return gmem_guest_check(gva, size, seed + 1);
}

static void answer(struct env *env, struct kvm_run *run, uint64_t seed)
{
	uint64_t offset = run->hypercall.args[0] - GMEM_GPA;
	uint64_t size = run->hypercall.args[1] * PAGE_SIZE;

	TEST_ASSERT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	if (run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED) {
		gmem_check(env->mem, offset, size, seed);
		make_private(env, offset, size);
		gmem_assert_no_access(env->mem + offset, size);
	} else {
		make_shared(env, offset, size);
		gmem_check(env->mem, offset, size, seed + 1);
	}
	run->hypercall.ret = 0;
}

static void *run_asking(void *arg)
{
	struct asking *asking = arg;
	struct kvm_vcpu *vcpu = asking->env->vcpu[asking->nr];
	uint64_t page, result;

	for (page = asking->nr; page < MAX_PAGES; page += 2) {
		gmem_guest_start(vcpu, guest_ask, GMEM_GVA + page * PAGE_SIZE,
				 PAGE_SIZE, page);
		while (vcpu_run(vcpu), !gmem_guest_done(vcpu, &result)) {
			TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_HYPERCALL);
			answer(asking->env, vcpu->run, page);
		}
		TEST_ASSERT(!result, "the guest says %lu (%#lx)", result, result);
	}
	return NULL;
}

GMEM_TEST(gmem_attributes, guest_asks)
{
	struct env *env = &self->env;
	struct asking asking[2];
	pthread_t threads[2];
	int i, round;

	use_file(env, MAX_PAGES, GMEM_FLAGS_SHARED);
	vm_enable_cap(env->vm, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE));

	for (round = 0; round < 4; round++) {
		for (i = 0; i < 2; i++) {
			asking[i] = (struct asking) { .env = env, .nr = i };
			TEST_ASSERT(!pthread_create(&threads[i], NULL, run_asking,
						    &asking[i]),
				    "pthread_create() failed");
		}
		for (i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
	}
}

/*
 * Exits: none is due to the state of a page.  Without a slot there is none to
 * have a state, and the access is MMIO like any other.
 */
GMEM_TEST(gmem_attributes, exits)
{
	struct env *env = &self->env;
	struct kvm_vcpu *vcpu = env->vcpu[0];
	struct kvm_run *run = vcpu->run;
	uint64_t n, result;

	use_file(env, 4, GMEM_FLAGS_PRIVATE);
	make_shared(env, 0, PAGE_SIZE);
	guest_fill(env, 0, env->size, SEED);
	make_private(env, 0, PAGE_SIZE);
	guest_check(env, 0, env->size, SEED);

	make_shared(env, PAGE_SIZE, PAGE_SIZE);
	gmem_unbind(env->vm, GMEM_SLOT);
	for (n = 0; n < 2; n++) {
		gmem_guest_start(vcpu, gmem_guest_read, GMEM_GVA + n * PAGE_SIZE, 0, 0);
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
		TEST_ASSERT_EQ(run->mmio.phys_addr, GMEM_GPA + n * PAGE_SIZE);
		*(uint64_t *)run->mmio.data = n + 7;
		vcpu_run(vcpu);
		TEST_ASSERT(gmem_guest_done(vcpu, &result), "the guest is stuck");
		TEST_ASSERT_EQ(result, n + 7);
	}

	/* The state is the file's, and still there. */
	gmem_bind(env->vm, GMEM_SLOT, GMEM_GPA, env->size,
		  env->hva ? env->mem : NULL, env->fd, 0);
	TEST_ASSERT_EQ(gmem_fdinfo(env->fd, "gmem-shared"), PAGE_SIZE);
	guest_check(env, 0, env->size, SEED);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();

	return test_harness_run(argc, argv);
}
