// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: one memory in several VMs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	16
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)
#define SEED		3

FIXTURE(gmem_link) {
	struct kvm_vm *vm[2];
	struct kvm_vcpu *vcpu[2];
	int fd[2];
	char *mem;
};

GMEM_FIXTURE_VARIANTS(gmem_link);

/* A second VM with the same memory at the same place. */
FIXTURE_SETUP(gmem_link)
{
	int i;

	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	for (i = 0; i < 2; i++)
		self->vm[i] = gmem_vm_create(variant->type, 1, &self->vcpu[i], NR_PAGES);

	self->fd[0] = gmem_create(self->vm[0], SIZE, GMEM_FLAGS_PRIVATE);
	self->fd[1] = gmem_link(self->vm[1], self->fd[0]);
	self->mem = gmem_mmap(self->fd[0], SIZE);
	for (i = 0; i < 2; i++)
		gmem_bind(self->vm[i], GMEM_SLOT, GMEM_GPA, SIZE,
			  variant->hva ? self->mem : NULL, self->fd[i], 0);
}

FIXTURE_TEARDOWN(gmem_link)
{
	int i;

	munmap(self->mem, SIZE);
	for (i = 0; i < 2; i++) {
		if (self->vm[i])
			kvm_vm_free(self->vm[i]);
		if (self->fd[i] >= 0)
			close(self->fd[i]);
	}
}

#define call(vcpu, fn, a, b, c)	gmem_guest_call(vcpu, fn, a, b, c)

/* What the one writes the other reads, private or shared. */
GMEM_TEST(gmem_link, one_memory)
{
	struct stat st[2];

	TEST_ASSERT_EQ(fstat(self->fd[0], &st[0]), 0);
	TEST_ASSERT_EQ(fstat(self->fd[1], &st[1]), 0);
	TEST_ASSERT_EQ(st[0].st_ino, st[1].st_ino);

	call(self->vcpu[0], gmem_guest_fill, GMEM_GVA, SIZE, SEED);
	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_check, GMEM_GVA, SIZE, SEED), 0);
	gmem_assert_no_access(self->mem, SIZE);

	gmem_make_shared(self->fd[1], 0, PAGE_SIZE);
	TEST_ASSERT(!gmem_is_private(self->fd[0], 0), "the other view does not know");
	gmem_check(self->mem, 0, PAGE_SIZE, SEED);
	gmem_fill(self->mem, 0, PAGE_SIZE, SEED + 1);
	TEST_ASSERT_EQ(call(self->vcpu[0], gmem_guest_check, GMEM_GVA, PAGE_SIZE, SEED + 1), 0);
	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_check, GMEM_GVA, PAGE_SIZE, SEED + 1), 0);
}

/* What takes memory away takes it from both guests. */
GMEM_TEST(gmem_link, invalidates_both)
{
	int i;

	for (i = 0; i < 2; i++)
		call(self->vcpu[i], gmem_guest_fill, GMEM_GVA, SIZE, SEED);

	TEST_ASSERT_EQ(__gmem_fallocate(self->fd[1], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					0, PAGE_SIZE), 0);
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(call(self->vcpu[i], gmem_guest_check_zero, GMEM_GVA,
				    PAGE_SIZE, 0), 0);

	/* If only one had lost its mapping they would see different pages now. */
	call(self->vcpu[0], gmem_guest_fill, GMEM_GVA, PAGE_SIZE, SEED + 2);
	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_check, GMEM_GVA, PAGE_SIZE, SEED + 2), 0);

	gmem_make_shared(self->fd[0], 0, SIZE);
	gmem_fill(self->mem, 0, SIZE, SEED + 3);
	gmem_make_private(self->fd[1], 0, SIZE);
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(call(self->vcpu[i], gmem_guest_check, GMEM_GVA, SIZE, SEED + 3), 0);
}

/* Closing one leaves the other alone. */
GMEM_TEST(gmem_link, close_one)
{
	uint64_t result;
	int r;

	call(self->vcpu[0], gmem_guest_fill, GMEM_GVA, SIZE, SEED);
	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_check, GMEM_GVA, SIZE, SEED), 0);

	munmap(self->mem, SIZE);
	close(self->fd[0]);
	self->fd[0] = -1;
	self->mem = gmem_mmap(self->fd[1], SIZE);

	/* The first guest has nothing there any more. */
	r = __gmem_guest_call(self->vcpu[0], gmem_guest_read, GMEM_GVA, 0, 0, &result);
	TEST_ASSERT_EQ(r, -EFAULT);
	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_check, GMEM_GVA, SIZE, SEED), 0);
	TEST_ASSERT_EQ(gmem_populated(self->fd[1], 0, SIZE), SIZE);
}

/* A VM goes, its memory stays. */
GMEM_TEST(gmem_link, destroy_first)
{
	call(self->vcpu[0], gmem_guest_fill, GMEM_GVA, SIZE, SEED);

	munmap(self->mem, SIZE);
	kvm_vm_free(self->vm[0]);
	self->vm[0] = NULL;
	close(self->fd[0]);
	self->fd[0] = -1;
	self->mem = gmem_mmap(self->fd[1], SIZE);

	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_check, GMEM_GVA, SIZE, SEED), 0);
	gmem_make_shared(self->fd[1], 0, SIZE);
	gmem_check(self->mem, 0, SIZE, SEED);
}

/* The new VM goes, the old one stays. */
GMEM_TEST(gmem_link, destroy_second)
{
	call(self->vcpu[1], gmem_guest_fill, GMEM_GVA, SIZE, SEED);
	kvm_vm_free(self->vm[1]);
	self->vm[1] = NULL;
	close(self->fd[1]);
	self->fd[1] = -1;
	TEST_ASSERT_EQ(call(self->vcpu[0], gmem_guest_check, GMEM_GVA, SIZE, SEED), 0);
}

/* A reboot: the memory goes to a new VM, zeroed where it is. */
GMEM_TEST(gmem_link, reuse)
{
	uint64_t populated;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fd;

	call(self->vcpu[0], gmem_guest_fill, GMEM_GVA, SIZE, SEED);
	gmem_make_shared(self->fd[0], 0, 4 * PAGE_SIZE);
	populated = gmem_populated(self->fd[0], 0, SIZE);

	vm = gmem_vm_create(variant->type, 1, &vcpu, NR_PAGES);
	fd = gmem_link(vm, self->fd[0]);
	gmem_unbind(self->vm[0], GMEM_SLOT);
	gmem_unbind(self->vm[1], GMEM_SLOT);
	munmap(self->mem, SIZE);
	close(self->fd[0]);
	close(self->fd[1]);
	self->fd[0] = -1;
	self->fd[1] = fd;

	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					0, SIZE), 0);
	gmem_make_private(fd, 0, SIZE);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), populated);
	self->mem = gmem_mmap(fd, SIZE);
	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? self->mem : NULL, fd, 0);
	TEST_ASSERT_EQ(call(vcpu, gmem_guest_check_zero, GMEM_GVA, SIZE, 0), 0);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), populated);
	kvm_vm_free(vm);
}

/* Each view is bound on its own: other places, other slots, only a part. */
GMEM_TEST(gmem_link, bound_apart)
{
	gmem_unbind(self->vm[1], GMEM_SLOT);
	gmem_bind(self->vm[1], GMEM_SLOT, GMEM_GPA, SIZE / 2,
		  variant->hva ? self->mem : NULL, self->fd[1], SIZE / 2);
	call(self->vcpu[0], gmem_guest_write, GMEM_GVA + SIZE / 2, 0x1234, 0);
	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_read, GMEM_GVA, 0, 0), 0x1234);

	/* A conversion of what only the first has leaves the second alone. */
	call(self->vcpu[0], gmem_guest_write, GMEM_GVA, 0x5678, 0);
	gmem_make_shared(self->fd[0], 0, PAGE_SIZE);
	TEST_ASSERT_EQ(*(uint64_t *)self->mem, 0x5678);
	TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_read, GMEM_GVA, 0, 0), 0x1234);
}

/* Once more in the same VM, and files without MMAP too. */
GMEM_TEST(gmem_link, same_vm_and_stock)
{
	int again = gmem_link(self->vm[0], self->fd[0]);
	int stock = gmem_create(self->vm[0], SIZE, 0);
	int linked = gmem_link(self->vm[1], stock);

	gmem_bind(self->vm[0], GMEM_SLOT + 1, GMEM_GPA + (1ULL << 30), SIZE, self->mem, again, 0);
	gmem_unbind(self->vm[0], GMEM_SLOT + 1);
	TEST_ASSERT(mmap(NULL, SIZE, PROT_READ, MAP_SHARED, linked, 0) == MAP_FAILED,
		    "a link of a file without MMAP can be mapped");
	close(again);
	close(stock);
	close(linked);
}

GMEM_TEST(gmem_link, bad_input)
{
	struct kvm_gmem_link good = { .fd = self->fd[0] }, arg;
	unsigned long ioctls[] = { KVM_GMEM_LINK, KVM_GMEM_CLONE };
	struct gmem_snapshot *snap = gmem_snapshot(self->fd[0]);
	int vm = self->vm[1]->fd, i, j;

#define EXPECT(err)	do {						\
	TEST_ASSERT_EQ(ioctl(vm, ioctls[i], &arg), -1);			\
	TEST_ASSERT_EQ(errno, err);					\
} while (0)

	for (i = 0; i < 2; i++) {
		for (j = 0; j < 32; j++) {
			arg = good;
			arg.flags = 1u << j;
			EXPECT(EINVAL);
		}
		for (j = 0; j < ARRAY_SIZE(arg.reserved); j++) {
			arg = good;
			arg.reserved[j] = 1ull << (20 * j);
			EXPECT(EINVAL);
		}
		arg = good;
		arg.fd = -1;
		EXPECT(EBADF);
		arg.fd = 1 << 20;
		EXPECT(EBADF);
		arg.fd = vm;
		EXPECT(EINVAL);
		arg.fd = open("/dev/null", O_RDWR);
		EXPECT(EINVAL);
		close(arg.fd);
		TEST_ASSERT_EQ(ioctl(vm, ioctls[i], NULL), -1);
		TEST_ASSERT_EQ(errno, EFAULT);
	}

	/* Not frozen. */
	arg = good;
	i = 1;
	EXPECT(EINVAL);

	/* Not on the file. */
	TEST_ASSERT_EQ(ioctl(self->fd[0], KVM_GMEM_LINK, &good), -1);
	TEST_ASSERT_EQ(errno, ENOTTY);
	gmem_assert_unchanged(self->fd[0], snap, "bad input");
	gmem_snapshot_free(snap);
}

/* VMs of another type do not get it. */
GMEM_TEST(gmem_link, other_type)
{
	unsigned long type = variant->type == KVM_X86_DEFAULT_VM ?
			     KVM_X86_SW_PROTECTED_VM : KVM_X86_DEFAULT_VM;
	struct kvm_vm *vm;

	if (!gmem_type_supported(type))
		SKIP(return, "there is one type only");

	vm = vm_create_barebones_type(type);
	TEST_ASSERT_EQ(__gmem_link(vm, self->fd[0]), -EINVAL);
	kvm_vm_free(vm);
}

/* Nor does another process, although it has the descriptors. */
GMEM_TEST(gmem_link, other_process)
{
	int status;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		/* A VM of the child's own; the memory belongs to the parent's. */
		struct kvm_vm *vm = vm_create_barebones_type(variant->type);

		_exit(__gmem_link(vm, self->fd[0]) == -EPERM ? 0 : 1);
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "the child got the memory");
}

/* A VM that is destroyed at any step, memory that comes back. */
GMEM_TEST(gmem_link, cycles)
{
	int i, fd, fd2;

	for (i = 0; i < 60; i++) {
		struct kvm_vm *one = vm_create_barebones_type(variant->type);
		struct kvm_vm *two = vm_create_barebones_type(variant->type);

		fd = gmem_create(one, SIZE, GMEM_FLAGS_SHARED);
		TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
		if (i % 4 == 0) {
			kvm_vm_free(one);
			one = NULL;
		}
		fd2 = gmem_link(two, fd);
		if (i % 4 == 1) {
			kvm_vm_free(one);
			one = NULL;
		}
		gmem_bind(two, GMEM_SLOT, GMEM_GPA, SIZE, NULL, fd2, 0);
		if (i % 4 == 2) {
			kvm_vm_free(two);
			two = NULL;
		}
		close(fd);
		if (one)
			kvm_vm_free(one);
		TEST_ASSERT_EQ(gmem_populated(fd2, 0, SIZE), SIZE);
		close(fd2);
		if (two)
			kvm_vm_free(two);
	}
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_LINK, "no links");

	return test_harness_run(argc, argv);
}
