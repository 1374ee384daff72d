// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: binding it to memslots, and what happens
 * when slots, files and VMs go away in any order.
 *
 * Numbers in comments are those of the project's list of pitfalls.
 */
#include <asm/kvm_para.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	16
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)
#define HALF		(SIZE / 2)

FIXTURE(gmem_bind) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	char *mem;
	char *hva;	/* what slots get */
};

GMEM_FIXTURE_VARIANTS(gmem_bind);
GMEM_FIXTURE_MORE_VARIANTS(gmem_bind);

FIXTURE_SETUP(gmem_bind)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 1, &self->vcpu, 2 * NR_PAGES);
	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	self->mem = gmem_mmap(self->fd, SIZE);
	self->hva = variant->hva ? self->mem : NULL;
}

/* Tests take away what they want, and set it to NULL or -1. */
FIXTURE_TEARDOWN(gmem_bind)
{
	if (self->vm)
		kvm_vm_free(self->vm);
	if (self->mem)
		munmap(self->mem, SIZE);
	if (self->fd >= 0)
		close(self->fd);
}

static uint64_t guest_check(struct kvm_vcpu *vcpu, uint64_t gva, uint64_t size,
			    uint64_t seed)
{
	return gmem_guest_call(vcpu, gmem_guest_check, gva, size, seed);
}

/* The guest's access exits, and does so again and again.  It is left there. */
static void guest_hangs(struct kvm_vcpu *vcpu, uint64_t gva)
{
	struct kvm_run *run = vcpu->run;
	int i;

	gmem_guest_start(vcpu, gmem_guest_read, gva, 0, 0);
	for (i = 0; i < 3; i++) {
		TEST_ASSERT_EQ(_vcpu_run(vcpu), -1);
		TEST_ASSERT_EQ(errno, EFAULT);
		TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_MEMORY_FAULT);
		TEST_ASSERT_EQ(run->memory_fault.gpa, gva);
		TEST_ASSERT_EQ(run->memory_fault.size, PAGE_SIZE);
	}
}

/* The same, but let the guest forget about it. */
static void guest_faults(struct kvm_vcpu *vcpu, uint64_t gva)
{
	struct kvm_regs regs;

	vcpu_run_complete_io(vcpu);
	vcpu_regs_get(vcpu, &regs);
	guest_hangs(vcpu, gva);
	vcpu_regs_set(vcpu, &regs);
}

/* Go on after an access that can be served by now. */
static uint64_t guest_continue(struct kvm_vcpu *vcpu)
{
	uint64_t result;

	vcpu_run(vcpu);
	TEST_ASSERT(gmem_guest_done(vcpu, &result), "unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
	return result;
}

/* Nothing is there: the access is MMIO; answer it. */
static void guest_reads_mmio(struct kvm_vcpu *vcpu, uint64_t gva)
{
	struct kvm_run *run = vcpu->run;
	uint64_t val = 0x123456789abcdef0ULL;

	gmem_guest_start(vcpu, gmem_guest_read, gva, 0, 0);
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, gva);
	TEST_ASSERT_EQ(run->mmio.len, 8);
	memcpy(run->mmio.data, &val, sizeof(val));
	TEST_ASSERT_EQ(guest_continue(vcpu), val);
}

/* 24 */
GMEM_TEST(gmem_bind, bad_input)
{
	struct kvm_vm *vm = self->vm, *other;
	char *hva = self->hva;
	int fd = self->fd, other_fd, i, r;

	/* misaligned */
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE, hva, fd, 1), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE, hva, fd,
				   PAGE_SIZE / 2), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE + 1, hva, fd, 0), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA + 1, PAGE_SIZE, hva, fd, 0), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE, (void *)1, fd, 0), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE,
				   (void *)-PAGE_SIZE, fd, 0), -EINVAL);

	/* past the end, wrapping */
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE + PAGE_SIZE, hva, fd, 0),
		       -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, fd, PAGE_SIZE),
		       -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE, hva, fd, SIZE),
		       -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE, hva, fd, -PAGE_SIZE),
		       -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, 2 * PAGE_SIZE, hva, fd,
				   -PAGE_SIZE), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, PAGE_SIZE, hva, fd, BIT_ULL(63)),
		       -EINVAL);

	/* flags that do not go with it */
	r = __vm_set_user_memory_region2(vm, GMEM_SLOT, KVM_MEM_GUEST_MEMFD |
					 KVM_MEM_LOG_DIRTY_PAGES, GMEM_GPA, SIZE,
					 hva, fd, 0);
	TEST_ASSERT_EQ(r, -1);
	TEST_ASSERT_EQ(errno, EINVAL);
	r = __vm_set_user_memory_region2(vm, GMEM_SLOT, KVM_MEM_GUEST_MEMFD |
					 KVM_MEM_READONLY, GMEM_GPA, SIZE, hva, fd, 0);
	TEST_ASSERT_EQ(r, -1);
	TEST_ASSERT_EQ(errno, EINVAL);
	for (i = 3; i < 32; i++) {
		r = __vm_set_user_memory_region2(vm, GMEM_SLOT, KVM_MEM_GUEST_MEMFD |
						 1U << i, GMEM_GPA, SIZE, hva, fd, 0);
		TEST_ASSERT_EQ(r, -1);
		TEST_ASSERT_EQ(errno, EINVAL);
	}

	/* what is no guest_memfd, or not of this VM */
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, -1, 0), -EBADF);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, 9999, 0), -EBADF);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, vm->fd, 0), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva,
				   self->vcpu->fd, 0), -EINVAL);
	other_fd = memfd_create("memfd", 0);
	TEST_ASSERT(other_fd >= 0 && !ftruncate(other_fd, SIZE), "memfd_create() failed");
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, other_fd, 0), -EINVAL);
	close(other_fd);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, other_fd, 0), -EBADF);

	other = vm_create_barebones();
	other_fd = gmem_create(other, SIZE, GMEM_FLAGS_SHARED);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, other_fd, 0), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(other, GMEM_SLOT, GMEM_GPA, SIZE, hva, fd, 0), -EINVAL);
	kvm_vm_free(other);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, other_fd, 0), -EINVAL);
	close(other_fd);

	/* None of them has left anything behind. */
	gmem_fill(self->mem, 0, SIZE, 1);
	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, hva, fd, 0);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, SIZE, 1), 0);
}

/* Two slots may not show the same part of a file. */
GMEM_TEST(gmem_bind, overlap)
{
	static const struct {
		uint64_t offset, size;
	} overlaps[] = {
		{ 4, 4 }, { 0, NR_PAGES }, { 0, 5 }, { 7, 2 }, { 5, 1 }, { 7, 9 },
		{ 4, 1 }, { 3, 6 },
	};
	struct kvm_vm *vm = self->vm;
	int i;

	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, 4 * PAGE_SIZE, self->hva, self->fd,
		  4 * PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(overlaps); i++)
		TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT + 1, GMEM_GPA + SIZE,
					   overlaps[i].size * PAGE_SIZE, self->hva,
					   self->fd, overlaps[i].offset * PAGE_SIZE),
			       -EEXIST);

	/* Nor may slots overlap in the guest, with whatever behind them. */
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT + 1, GMEM_GPA, PAGE_SIZE, self->hva,
				   self->fd, 0), -EEXIST);

	/* Slots on either side, and what they show is what they should. */
	gmem_bind(vm, GMEM_SLOT + 1, GMEM_GPA + SIZE, 4 * PAGE_SIZE, self->hva,
		  self->fd, 0);
	gmem_bind(vm, GMEM_SLOT + 2, GMEM_GPA + SIZE + HALF, 8 * PAGE_SIZE,
		  self->hva, self->fd, 8 * PAGE_SIZE);
	for (i = 0; i < NR_PAGES; i++)
		gmem_poke(self->mem + i * PAGE_SIZE, i + 1);
	for (i = 0; i < NR_PAGES; i++) {
		uint64_t gva = i < 4 ? GMEM_GVA + SIZE : i < 8 ?
			       GMEM_GVA - 4 * PAGE_SIZE : GMEM_GVA + SIZE;

		gva += i * PAGE_SIZE;
		TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_read, gva, 0, 0), i + 1);
		gmem_guest_call(self->vcpu, gmem_guest_write, gva, i + 101, 0);
		TEST_ASSERT_EQ(*(uint64_t *)(self->mem + i * PAGE_SIZE), i + 101);
	}

	/* A conversion across all of them. */
	gmem_make_private(self->fd, 0, SIZE);
	for (i = 0; i < NR_PAGES; i++) {
		uint64_t gva = (i < 4 || i >= 8 ? GMEM_GVA + SIZE :
				GMEM_GVA - 4 * PAGE_SIZE) + i * PAGE_SIZE;

		TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_read, gva, 0, 0), i + 101);
	}
}

/* Slots with such memory are made and deleted, and nothing else. */
GMEM_TEST(gmem_bind, no_changes)
{
	struct kvm_vm *vm = self->vm;
	int r;

	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, HALF, self->hva, self->fd, 0);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, HALF, self->hva, self->fd, 0),
		       -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA + HALF, HALF, self->hva,
				   self->fd, 0), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, HALF, self->hva, self->fd,
				   HALF), -EINVAL);
	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0),
		       -EINVAL);
	r = __vm_set_user_memory_region2(vm, GMEM_SLOT, 0, GMEM_GPA, HALF,
					 self->mem, 0, 0);
	TEST_ASSERT_EQ(r, -1);
	TEST_ASSERT_EQ(errno, EINVAL);

	gmem_fill(self->mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, HALF, 1), 0);
}

/* A slot goes, the memory stays, with its state, and comes back elsewhere. */
GMEM_TEST(gmem_bind, rebind)
{
	int i;

	gmem_fill(self->mem, 0, SIZE, 1);
	gmem_make_private(self->fd, 0, HALF);

	for (i = 0; i < 4; i++) {
		uint64_t gpa = GMEM_GPA + (i % 2) * SIZE;
		uint64_t slot = GMEM_SLOT + i % 3;

		gmem_bind(self->vm, slot, gpa, SIZE, self->hva, self->fd, 0);
		/* The pattern counts from GMEM_GVA: look at words. */
		TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_read, gpa, 0, 0),
			       gmem_pattern(1, 0));
		TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_read,
					       gpa + SIZE - 8, 0, 0),
			       gmem_pattern(1, SIZE - 8));
		gmem_unbind(self->vm, slot);
		guest_reads_mmio(self->vcpu, gpa);
		TEST_ASSERT(gmem_is_private(self->fd, 0), "the state has changed");
	}

	/* Without a slot it converts and can be used all the same. */
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_check(self->mem, 0, SIZE, 1);
}

static int pre_fault(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t size)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };
	int r;

	do {
		r = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range) ? -errno : 0;
	} while (r == -EINTR || r == -EAGAIN || (!r && range.size));

	return r;
}

/* KVM_PRE_FAULT_MEMORY is a fault like any other, in either state. */
GMEM_TEST(gmem_bind, pre_fault)
{
	int fd;

	if (!vm_check_cap(self->vm, KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "no KVM_CAP_PRE_FAULT_MEMORY");

	gmem_make_private(self->fd, HALF, HALF);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);
	TEST_ASSERT_EQ(pre_fault(self->vcpu, GMEM_GPA + PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), PAGE_SIZE);
	TEST_ASSERT_EQ(pre_fault(self->vcpu, GMEM_GPA + SIZE - PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(gmem_populated(self->fd, HALF, HALF), PAGE_SIZE);
	TEST_ASSERT_EQ(pre_fault(self->vcpu, GMEM_GPA, SIZE), 0);
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), SIZE);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check_zero, GMEM_GVA,
				       SIZE, 0), 0);

	gmem_unbind(self->vm, GMEM_SLOT);
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, fd, 0);
	close(fd);
	TEST_ASSERT_EQ(pre_fault(self->vcpu, GMEM_GPA, SIZE), -EFAULT);
}

/* 21, 23: the file goes first; the slot stays, and answers with a fault. */
GMEM_TEST(gmem_bind, close_before_slot)
{
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, HALF, self->hva, self->fd, 0);
	gmem_bind(self->vm, GMEM_SLOT + 1, GMEM_GPA + SIZE, HALF, self->hva, self->fd,
		  HALF);
	gmem_fill(self->mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, HALF, 1), 0);
	gmem_make_private(self->fd, 0, PAGE_SIZE);

	/* A mapping is enough to keep the file. */
	close(self->fd);
	self->fd = -1;
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, HALF, 1), 0);
	gmem_check(self->mem, PAGE_SIZE, SIZE - PAGE_SIZE, 1);

	munmap(self->mem, SIZE);
	self->mem = NULL;
	guest_faults(self->vcpu, GMEM_GVA);
	guest_faults(self->vcpu, GMEM_GVA + PAGE_SIZE);
	guest_faults(self->vcpu, GMEM_GVA + SIZE);

	/* The slot can be deleted, and there is room for another one. */
	gmem_unbind(self->vm, GMEM_SLOT);
	guest_reads_mmio(self->vcpu, GMEM_GVA);
	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	self->mem = gmem_mmap(self->fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->mem : NULL, self->fd, 0);
	gmem_fill(self->mem, 0, SIZE, 2);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, SIZE, 2), 0);

	/* And the VM may go with the other one in place. */
}

/* A guest that is stuck on a fault goes on when its slot is there again. */
GMEM_TEST(gmem_bind, fault_then_rebind)
{
	int fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);

	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, fd, 0);
	close(fd);
	guest_hangs(self->vcpu, GMEM_GVA + PAGE_SIZE);

	gmem_unbind(self->vm, GMEM_SLOT);
	gmem_fill(self->mem, 0, SIZE, 1);
	gmem_make_private(self->fd, 0, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);
	TEST_ASSERT_EQ(guest_continue(self->vcpu), gmem_pattern(1, PAGE_SIZE));
}

/* The VM goes first; the memory does not mind, but no guest can have it. */
GMEM_TEST(gmem_bind, vm_before_file)
{
	struct kvm_vm *other;

	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);
	gmem_fill(self->mem, 0, SIZE, 1);
	gmem_make_private(self->fd, 0, HALF);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, SIZE, 1), 0);
	kvm_vm_free(self->vm);
	self->vm = NULL;

	gmem_check(self->mem, HALF, HALF, 1);
	gmem_assert_no_access(self->mem, HALF);
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), SIZE);
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_check(self->mem, 0, SIZE, 1);
	gmem_make_private(self->fd, 0, SIZE);
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, 0, HALF), 0);
	TEST_ASSERT_EQ(gmem_fdinfo(self->fd, "gmem-populated"), HALF);

	other = vm_create_barebones();
	TEST_ASSERT_EQ(__gmem_bind(other, GMEM_SLOT, GMEM_GPA, SIZE, self->hva,
				   self->fd, 0), -EINVAL);
	kvm_vm_free(other);
}

/* 22, 23: two VMs, each with its memory; what is done to one is not to the other. */
GMEM_TEST(gmem_bind, two_vms)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char *mem;
	int fd;

	vm = gmem_vm_create(variant->type, 1, &vcpu, 2 * NR_PAGES);
	fd = gmem_create(vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL, fd, 0);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);

	gmem_fill(mem, 0, SIZE, 1);
	gmem_fill(self->mem, 0, SIZE, 2);
	TEST_ASSERT_EQ(guest_check(vcpu, GMEM_GVA, SIZE, 1), 0);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, SIZE, 2), 0);

	gmem_make_private(fd, 0, SIZE);
	gmem_check(self->mem, 0, SIZE, 2);
	gmem_assert_no_access(mem, SIZE);
	TEST_ASSERT_EQ(guest_check(vcpu, GMEM_GVA, SIZE, 1), 0);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, SIZE, 2), 0);

	TEST_ASSERT_EQ(__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, 0, SIZE), 0);
	TEST_ASSERT_EQ(guest_check(vcpu, GMEM_GVA, SIZE, 1), 0);

	munmap(mem, SIZE);
	close(fd);
	guest_faults(vcpu, GMEM_GVA);
	gmem_fill(self->mem, 0, SIZE, 3);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, SIZE, 3), 0);
	kvm_vm_free(vm);
	TEST_ASSERT_EQ(guest_check(self->vcpu, GMEM_GVA, SIZE, 3), 0);
}

/* Count up in the first word of each page, until the last word says stop. */
static uint64_t guest_walk(uint64_t gva, uint64_t size, uint64_t rounds)
{
	uint64_t i, p, sum = 0;

	for (i = 0; i < rounds; i++)
		for (p = gva; p < gva + size; p += PAGE_SIZE)
			sum += READ_ONCE(*(uint64_t *)p) == p;
	return sum;
}

struct runner {
	struct kvm_vcpu *vcpu;
	bool may_fault;
	uint64_t mmio, faults, seen;
	bool stop;
};

/* Run the walk again and again, through whatever exits there are. */
static void *run_walk(void *data)
{
	struct runner *runner = data;
	struct kvm_run *run = runner->vcpu->run;
	uint64_t seen;

	while (!READ_ONCE(runner->stop)) {
		gmem_guest_start(runner->vcpu, guest_walk, GMEM_GVA, SIZE, 20);
		do {
			if (_vcpu_run(runner->vcpu)) {
				TEST_ASSERT(errno == EFAULT &&
					    run->exit_reason == KVM_EXIT_MEMORY_FAULT,
					    "KVM_RUN: %s, %s", strerror(errno),
					    exit_reason_str(run->exit_reason));
				TEST_ASSERT(runner->may_fault &&
					    run->memory_fault.gpa >= GMEM_GPA &&
					    run->memory_fault.gpa < GMEM_GPA + SIZE,
					    "a fault at %#llx", run->memory_fault.gpa);
				runner->faults++;
			} else if (run->exit_reason == KVM_EXIT_MMIO) {
				TEST_ASSERT(!run->mmio.is_write, "an MMIO write");
				memset(run->mmio.data, 0, sizeof(run->mmio.data));
				runner->mmio++;
			}
		} while (!READ_ONCE(runner->stop) &&
			 !gmem_guest_done(runner->vcpu, &seen));
		if (gmem_guest_done(runner->vcpu, &seen))
			WRITE_ONCE(runner->seen, runner->seen + seen);
	}
	return NULL;
}

static void mark_pages(char *mem)
{
	uint64_t offset;

	for (offset = 0; offset < SIZE; offset += PAGE_SIZE)
		gmem_poke(mem + offset, GMEM_GVA + offset);
}

/*
 * Wait until the guest gets somewhere.  The limit is not the clock's: that goes on
 * while the machine which the test runs in is held up.
 */
static void await_walk(struct runner *runner)
{
	uint64_t seen = READ_ONCE(runner->seen);
	int tries = 30000;

	while (READ_ONCE(runner->seen) == seen) {
		TEST_ASSERT(tries--, "stuck after %lu MMIO exits, %lu faults",
			    READ_ONCE(runner->mmio), READ_ONCE(runner->faults));
		usleep(1000);
	}
}

/* 21, 22: slots come and go while the guest runs, with conversions between. */
GMEM_TEST(gmem_bind, delete_while_running)
{
	struct runner runner = { .vcpu = self->vcpu };
	pthread_t thread;
	int i, r;

	mark_pages(self->mem);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);
	TEST_ASSERT(!pthread_create(&thread, NULL, run_walk, &runner),
		    "pthread_create() failed");

	for (i = 0; i < 60; i++) {
		gmem_unbind(self->vm, GMEM_SLOT);
		if (i % 3 == 0)
			usleep(1000);
		r = __gmem_convert(self->fd, i % 2, 0, SIZE, 0, NULL);
		TEST_ASSERT(!r, "conversion without a slot: %s", strerror(-r));
		gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);
		if (i % 4 == 0)
			usleep(1000);
	}

	await_walk(&runner);
	WRITE_ONCE(runner.stop, true);
	pthread_join(thread, NULL);
}

static uint64_t guest_write(uint64_t gva, uint64_t times, uint64_t unused)
{
	while (times--)
		WRITE_ONCE(*(uint64_t *)gva, times);
	return 0;
}

static void *run_writes(void *data)
{
	struct runner *runner = data;

	while (!READ_ONCE(runner->stop))
		gmem_guest_call(runner->vcpu, guest_write, GMEM_GVA, 1000, 0);
	return NULL;
}

/*
 * A slot comes into being while KVM emulates a write to where there was none:
 * that is MMIO, and no fault of the new slot.  The MMIO is an ioeventfd's, which
 * takes no exit.  The vCPU shares a processor with the thread that changes slots,
 * so that a kernel that can be preempted is so anywhere in the emulation.
 */
GMEM_TEST(gmem_bind, create_while_emulating)
{
	struct runner runner = { .vcpu = self->vcpu };
	struct kvm_ioeventfd doorbell = { .addr = GMEM_GPA };
	cpu_set_t allowed;
	pthread_t thread;
	uint64_t rung;
	int i;

	doorbell.fd = eventfd(0, 0);
	TEST_ASSERT(doorbell.fd >= 0, "eventfd() failed");
	doorbell.len = sizeof(uint64_t);
	vm_ioctl(self->vm, KVM_IOEVENTFD, &doorbell);

	TEST_ASSERT(!sched_getaffinity(0, sizeof(allowed), &allowed),
		    "sched_getaffinity() failed");
	kvm_pin_this_task_to_pcpu(0);
	TEST_ASSERT(!pthread_create(&thread, NULL, run_writes, &runner),
		    "pthread_create() failed");
	gmem_set_scheduler(SCHED_FIFO);

	for (i = 0; i < 100; i++) {
		gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);
		gmem_unbind(self->vm, GMEM_SLOT);
	}

	gmem_set_scheduler(SCHED_OTHER);
	/* There is no slot now.  Wait for the guest, which may have had no turn yet. */
	TEST_ASSERT_EQ(read(doorbell.fd, &rung, sizeof(rung)), sizeof(rung));
	WRITE_ONCE(runner.stop, true);
	pthread_join(thread, NULL);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(allowed), &allowed),
		    "sched_setaffinity() failed");
	close(doorbell.fd);
}

/*
 * A conversion that has nothing to do in the only slot there is, while faults
 * elsewhere look for invalidations that are in progress.
 */
GMEM_TEST(gmem_bind, conversion_around_slot)
{
	struct runner runner = { .vcpu = self->vcpu };
	const uint64_t quarter = SIZE / 4;
	pthread_t thread;
	char *mem;
	int i, fd;

	/* The outer quarters have no slot; the middle is shared and stays so. */
	gmem_bind(self->vm, GMEM_SLOT + 1, GMEM_GPA + SIZE, 2 * quarter, self->hva,
		  self->fd, quarter);
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL,
		  fd, 0);
	TEST_ASSERT(!pthread_create(&thread, NULL, run_walk, &runner),
		    "pthread_create() failed");

	for (i = 0; i < 300; i++) {
		TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE |
						FALLOC_FL_PUNCH_HOLE, 0, SIZE), 0);
		gmem_make_private(self->fd, 0, quarter);
		gmem_make_private(self->fd, SIZE - quarter, quarter);
		gmem_make_shared(self->fd, 0, SIZE);
	}

	mark_pages(mem);
	await_walk(&runner);
	WRITE_ONCE(runner.stop, true);
	pthread_join(thread, NULL);
	munmap(mem, SIZE);
	close(fd);
}

/* 21: files are closed while the guest runs on them. */
GMEM_TEST(gmem_bind, close_while_running)
{
	struct runner runner = { .vcpu = self->vcpu, .may_fault = true };
	pthread_t thread;
	char *mem;
	int i, fd;

	TEST_ASSERT(!pthread_create(&thread, NULL, run_walk, &runner),
		    "pthread_create() failed");

	for (i = 0; i < 20; i++) {
		fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
		mem = gmem_mmap(fd, SIZE);
		mark_pages(mem);
		gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
			  variant->hva ? mem : NULL, fd, 0);

		/* Let it get there first, every other time. */
		if (i % 2)
			await_walk(&runner);

		if (i % 3 == 0) {
			/* In the other order. */
			gmem_unbind(self->vm, GMEM_SLOT);
			munmap(mem, SIZE);
			close(fd);
		} else {
			munmap(mem, SIZE);
			close(fd);
			if (i % 4 == 1)
				usleep(2000);
			gmem_unbind(self->vm, GMEM_SLOT);
		}
	}

	WRITE_ONCE(runner.stop, true);
	pthread_join(thread, NULL);
	TEST_ASSERT(runner.seen, "the guest never saw its memory");
}

static void *close_fd(void *data)
{
	close(*(int *)data);
	return NULL;
}

/* 21: closing the last descriptor against deleting the slot. */
GMEM_TEST(gmem_bind, close_against_unbind)
{
	pthread_t thread;
	int i, fd;

	for (i = 0; i < 25; i++) {
		fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
		gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, fd, 0);
		gmem_guest_call(self->vcpu, gmem_guest_fill, GMEM_GVA, PAGE_SIZE, 1);
		TEST_ASSERT(!pthread_create(&thread, NULL, close_fd, &fd),
			    "pthread_create() failed");
		gmem_unbind(self->vm, GMEM_SLOT);
		pthread_join(thread, NULL);
	}
}

/* A process dies with all of it: VM, slot, file, mapping, private memory. */
GMEM_TEST(gmem_bind, process_dies)
{
	int status, i;
	pid_t pid;

	for (i = 0; i < 3; i++) {
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork() failed");
		if (!pid) {
			struct kvm_vcpu *vcpu;
			struct kvm_vm *vm;
			int fd;

			vm = gmem_vm_create(variant->type, 1, &vcpu, NR_PAGES);
			fd = gmem_create(vm, SIZE, GMEM_FLAGS_PRIVATE);
			gmem_mmap(fd, SIZE);
			gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, NULL, fd, 0);
			gmem_guest_call(vcpu, gmem_guest_fill, GMEM_GVA, SIZE, 1);
			raise(SIGKILL);
		}
		TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
		TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
			    "the child ended with status %#x", status);
	}
}

/*
 * A vCPU that is busy in memory of its own: it faults a page in, and KVM looks
 * up where its clock is.
 */
struct busy {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	volatile bool stop;
	volatile unsigned int rounds;
};

static void *busy_thread(void *data)
{
	const uint64_t clock = GMEM_GPA + SIZE - PAGE_SIZE;
	struct busy *busy = data;
	uint64_t i;

	for (i = 0; !busy->stop; i = (i + 1) % (NR_PAGES - 1)) {
		if (!i)
			TEST_ASSERT_EQ(__gmem_fallocate(busy->fd, FALLOC_FL_KEEP_SIZE |
							FALLOC_FL_PUNCH_HOLE, 0, SIZE), 0);
		gmem_guest_call(busy->vcpu, gmem_guest_write, GMEM_GVA + i * PAGE_SIZE, 1, 0);
		vcpu_set_msr(busy->vcpu, MSR_KVM_SYSTEM_TIME_NEW, clock | KVM_MSR_ENABLED);
		vcpu_set_msr(busy->vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0);
		busy->rounds++;
	}
	return NULL;
}

/* Of memory on both sides of that: so many runs in each of the slots. */
#define MANY_RUNS	25000
#define MANY_GPA	(GMEM_GPA / 2)
#define MANY_SIZE	(2ULL * MANY_RUNS * PAGE_SIZE)

/*
 * An invalidation of many runs does not keep those out who have nothing to do
 * with it: neither by a lock, nor by being in progress for long.
 */
GMEM_TEST(gmem_bind, others_go_on)
{
	struct busy busy = { .vm = self->vm, .vcpu = self->vcpu, .fd = self->fd };
	unsigned int before, during;
	uint64_t offset;
	pthread_t thread;
	int fd;

	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, self->hva, self->fd, 0);
	fd = gmem_create(self->vm, 2 * MANY_SIZE, GMEM_FLAGS_SHARED);
	gmem_bind(self->vm, GMEM_SLOT + 1, MANY_GPA, MANY_SIZE, NULL, fd, 0);
	gmem_bind(self->vm, GMEM_SLOT + 2, GMEM_GPA + SIZE, MANY_SIZE, NULL, fd, MANY_SIZE);
	for (offset = 0; offset < 2 * MANY_SIZE; offset += 2 * PAGE_SIZE)
		gmem_make_private(fd, offset, PAGE_SIZE);

	TEST_ASSERT_EQ(pthread_create(&thread, NULL, busy_thread, &busy), 0);
	while (busy.rounds < NR_PAGES)
		sched_yield();

	before = busy.rounds;
	gmem_make_shared(fd, 0, 2 * MANY_SIZE);
	during = busy.rounds - before;
	busy.stop = true;
	pthread_join(thread, NULL);

	ksft_print_msg("%u rounds while %d runs were converted\n", during, 2 * MANY_RUNS);
	/* One may have begun before, and one may end after. */
	TEST_ASSERT(during > 4, "%u rounds only", during);
	close(fd);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();

	return test_harness_run(argc, argv);
}
