// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: frozen memory and its clones.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	16
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)
#define SEED		5
#define MMIO_GVA	0xd0000000ULL
#define PIO_PORT	0x1234
/* What guests read there, and write to memory. */
#define MAGIC		0x600dda7aU
#define PUNCH		(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO		(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

/* The golden VM, and two others with a clone each. */
#define NR_VMS		3

FIXTURE(gmem_clone) {
	struct kvm_vm *vm[NR_VMS];
	struct kvm_vcpu *vcpu[NR_VMS];
	int fd[NR_VMS];
	char *mem[NR_VMS];
};

GMEM_FIXTURE_VARIANTS(gmem_clone);

/*
 * Golden memory: the first half is private, the second shared, all of it is
 * filled but for the last page, which is a hole.
 */
FIXTURE_SETUP(gmem_clone)
{
	char *mem;
	int i;

	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	for (i = 0; i < NR_VMS; i++)
		self->vm[i] = gmem_vm_create(variant->type, 1, &self->vcpu[i], NR_PAGES);

	self->fd[0] = gmem_create(self->vm[0], SIZE, GMEM_FLAGS_PRIVATE);
	mem = gmem_mmap(self->fd[0], SIZE);
	gmem_bind(self->vm[0], GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL,
		  self->fd[0], 0);
	gmem_guest_call(self->vcpu[0], gmem_guest_fill, GMEM_GVA, SIZE - PAGE_SIZE, SEED);
	gmem_make_shared(self->fd[0], SIZE / 2, SIZE / 2);
	gmem_freeze(self->fd[0]);
	self->mem[0] = gmem_mmap(self->fd[0], SIZE);
	munmap(mem, SIZE);

	for (i = 1; i < NR_VMS; i++) {
		self->fd[i] = gmem_clone(self->vm[i], self->fd[0]);
		self->mem[i] = gmem_mmap(self->fd[i], SIZE);
		gmem_bind(self->vm[i], GMEM_SLOT, GMEM_GPA, SIZE,
			  variant->hva ? self->mem[i] : NULL, self->fd[i], 0);
	}
}

FIXTURE_TEARDOWN(gmem_clone)
{
	int i;

	for (i = 0; i < NR_VMS; i++) {
		if (self->vm[i])
			kvm_vm_free(self->vm[i]);
		if (self->mem[i])
			munmap(self->mem[i], SIZE);
		if (self->fd[i] >= 0)
			close(self->fd[i]);
	}
}

static void check(struct kvm_vcpu *vcpu, uint64_t offset, uint64_t size, uint64_t seed)
{
	uint64_t at = gmem_guest_call(vcpu, gmem_guest_check, GMEM_GVA + offset, size, seed);

	TEST_ASSERT(!at, "wrong at %#lx", at);
}

static void check_zero(struct kvm_vcpu *vcpu, uint64_t offset, uint64_t size)
{
	uint64_t at = gmem_guest_call(vcpu, gmem_guest_check_zero, GMEM_GVA + offset, size, 0);

	TEST_ASSERT(!at, "not zero at %#lx", at);
}

/* A guest's write that has to end in a memory fault; the guest forgets about it. */
static void guest_write_exits(struct kvm_vcpu *vcpu, uint64_t offset)
{
	struct kvm_regs regs;
	uint64_t result;
	int r;

	/* Where the guest waits for the next call, the OUT being done. */
	vcpu_run_complete_io(vcpu);
	vcpu_regs_get(vcpu, &regs);

	r = __gmem_guest_call(vcpu, gmem_guest_write, GMEM_GVA + offset, 0xbad, 0, &result);
	TEST_ASSERT_EQ(r, -EFAULT);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.gpa, GMEM_GPA + offset);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.size, PAGE_SIZE);
	vcpu_regs_set(vcpu, &regs);
}

/* Of the golden memory: neither guest nor host can write to it. */
GMEM_TEST(gmem_clone, frozen)
{
	uint64_t error_offset, value;
	char byte = 1;

	check(self->vcpu[0], 0, SIZE - PAGE_SIZE, SEED);
	check_zero(self->vcpu[0], SIZE - PAGE_SIZE, PAGE_SIZE);

	gmem_check(self->mem[0], SIZE / 2, SIZE / 2 - PAGE_SIZE, SEED);
	TEST_ASSERT_EQ(gmem_poke(self->mem[0] + SIZE / 2, 1), BUS_ADRERR);
	TEST_ASSERT_EQ(gmem_peek(self->mem[0] + SIZE / 2, &value), 0);
	TEST_ASSERT_EQ(gmem_poke(self->mem[0] + SIZE - PAGE_SIZE, 1), BUS_ADRERR);
	TEST_ASSERT_EQ(gmem_syscall_poke(self->mem[0] + SIZE / 2), -EFAULT);
	gmem_assert_no_access(self->mem[0], SIZE / 2);

	TEST_ASSERT_EQ(__gmem_convert(self->fd[0], true, SIZE / 2, PAGE_SIZE, 0,
				      &error_offset), -EPERM);
	TEST_ASSERT_EQ(error_offset, SIZE / 2);
	TEST_ASSERT_EQ(__gmem_convert(self->fd[0], false, 0, PAGE_SIZE, 0, NULL), -EPERM);
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd[0], PUNCH, 0, PAGE_SIZE), -EPERM);
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd[0], ZERO, 0, PAGE_SIZE), -EPERM);
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd[0], FALLOC_FL_KEEP_SIZE, 0, SIZE), -EPERM);
	TEST_ASSERT_EQ(pwrite(self->fd[0], &byte, 1, SIZE / 2), -1);

	/* Both through a mapping that is there and one that is not. */
	guest_write_exits(self->vcpu[0], 0);
	check(self->vcpu[0], 0, SIZE - PAGE_SIZE, SEED);
	guest_write_exits(self->vcpu[0], SIZE / 2);
	guest_write_exits(self->vcpu[0], SIZE - PAGE_SIZE);
	check(self->vcpu[0], 0, SIZE - PAGE_SIZE, SEED);
	check(self->vcpu[1], 0, SIZE - PAGE_SIZE, SEED);
}

/* A mapping with which the memory could be written to before is dead. */
GMEM_TEST(gmem_clone, old_mapping)
{
	int fd = gmem_create(self->vm[0], SIZE, GMEM_FLAGS_SHARED);
	char *old = gmem_mmap(fd, SIZE), *new;
	uint64_t value;

	gmem_fill(old, 0, SIZE, 1);
	gmem_freeze(fd);
	TEST_ASSERT_EQ(gmem_peek(old, &value), BUS_ADRERR);
	TEST_ASSERT_EQ(gmem_poke(old, 1), BUS_ADRERR);
	TEST_ASSERT_EQ(mprotect(old, SIZE, PROT_READ), 0);
	TEST_ASSERT_EQ(gmem_peek(old, &value), BUS_ADRERR);

	new = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	TEST_ASSERT(new != MAP_FAILED, "cannot map frozen memory");
	gmem_check(new, 0, SIZE, 1);
	TEST_ASSERT_EQ(mprotect(new, SIZE, PROT_READ | PROT_WRITE), 0);
	TEST_ASSERT_EQ(gmem_poke(new, 1), BUS_ADRERR);
	gmem_check(new, 0, SIZE, 1);
	munmap(old, SIZE);
	munmap(new, SIZE);
	close(fd);
}

/* A pin that could be written through keeps memory from being frozen. */
GMEM_TEST(gmem_clone, pinned)
{
	int fd = gmem_create(self->vm[0], SIZE, GMEM_FLAGS_SHARED), pipefd[2];
	char *mem = gmem_mmap(fd, SIZE), buf[PAGE_SIZE];
	struct iovec iov = { mem + 3 * PAGE_SIZE, PAGE_SIZE };
	uint64_t error_offset = 0;

	gmem_fill(mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(pipe(pipefd), 0);
	TEST_ASSERT_EQ(vmsplice(pipefd[1], &iov, 1, 0), PAGE_SIZE);

	TEST_ASSERT_EQ(__gmem_freeze(fd, &error_offset), -EAGAIN);
	TEST_ASSERT_EQ(error_offset, 3 * PAGE_SIZE);
	gmem_fill(mem, 0, SIZE, 2);

	TEST_ASSERT_EQ(read(pipefd[0], buf, PAGE_SIZE), PAGE_SIZE);
	gmem_freeze(fd);
	gmem_freeze(fd);
	close(pipefd[0]);
	close(pipefd[1]);
	munmap(mem, SIZE);
	close(fd);
}

struct freezer {
	int fd;
	volatile bool stop;
	volatile uint64_t rounds;
};

static void *host_freezes(void *data)
{
	struct freezer *freezer = data;

	while (!freezer->stop) {
		TEST_ASSERT_EQ(__gmem_freeze(freezer->fd, NULL), -EAGAIN);
		freezer->rounds++;
	}
	return NULL;
}

/* Mappings made while an attempt to freeze is failing can be written to. */
GMEM_TEST(gmem_clone, not_frozen)
{
	struct freezer freezer = { gmem_create(self->vm[0], SIZE, GMEM_FLAGS_SHARED) };
	char *mem = gmem_mmap(freezer.fd, SIZE), *new;
	struct iovec iov = { mem, PAGE_SIZE };
	pthread_t thread;
	uint64_t value;
	int pipefd[2], i;

	gmem_fill(mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(pipe(pipefd), 0);
	TEST_ASSERT_EQ(vmsplice(pipefd[1], &iov, 1, 0), PAGE_SIZE);
	TEST_ASSERT_EQ(pthread_create(&thread, NULL, host_freezes, &freezer), 0);

	for (i = 0; i < 200 || freezer.rounds < 20; i++) {
		new = gmem_mmap(freezer.fd, SIZE);
		TEST_ASSERT_EQ(gmem_peek(new + PAGE_SIZE, &value), 0);
		TEST_ASSERT_EQ(gmem_poke(new + PAGE_SIZE, i), 0);
		munmap(new, SIZE);
	}

	freezer.stop = true;
	TEST_ASSERT_EQ(pthread_join(thread, NULL), 0);
	close(pipefd[0]);
	close(pipefd[1]);
	gmem_freeze(freezer.fd);
	munmap(mem, SIZE);
	close(freezer.fd);
}

/* A clone reads the same; what is written to it stays in it. */
GMEM_TEST(gmem_clone, copy_on_write)
{
	uint64_t offset = 3 * PAGE_SIZE, value;
	int i;

	for (i = 0; i < NR_VMS; i++)
		check(self->vcpu[i], 0, SIZE - PAGE_SIZE, SEED);
	/* The clones have nothing of their own yet. */
	for (i = 1; i < NR_VMS; i++)
		TEST_ASSERT_EQ(gmem_populated(self->fd[i], 0, SIZE), 0);

	/* The guest has the golden page mapped; this one gets a copy. */
	gmem_guest_call(self->vcpu[1], gmem_guest_write, GMEM_GVA + offset, 0x1111, 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu[1], gmem_guest_read, GMEM_GVA + offset, 0, 0),
		       0x1111);
	check(self->vcpu[1], offset + 8, PAGE_SIZE - 8, SEED);
	check(self->vcpu[0], 0, SIZE - PAGE_SIZE, SEED);
	check(self->vcpu[2], 0, SIZE - PAGE_SIZE, SEED);
	TEST_ASSERT_EQ(gmem_populated(self->fd[1], 0, SIZE), PAGE_SIZE);

	/* The host writes to a shared page; identity both ways. */
	offset = SIZE / 2;
	TEST_ASSERT_EQ(gmem_poke(self->mem[1] + offset, 0x2222), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu[1], gmem_guest_read, GMEM_GVA + offset, 0, 0),
		       0x2222);
	gmem_guest_call(self->vcpu[1], gmem_guest_write, GMEM_GVA + offset, 0x3333, 0);
	TEST_ASSERT_EQ(gmem_peek(self->mem[1] + offset, &value), 0);
	TEST_ASSERT_EQ(value, 0x3333);
	check(self->vcpu[2], 0, SIZE - PAGE_SIZE, SEED);
	gmem_check(self->mem[0], offset, PAGE_SIZE, SEED);

	/* The guest has it mapped golden, then the host writes. */
	offset += PAGE_SIZE;
	check(self->vcpu[2], offset, PAGE_SIZE, SEED);
	TEST_ASSERT_EQ(gmem_poke(self->mem[2] + offset, 0x4444), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu[2], gmem_guest_read, GMEM_GVA + offset, 0, 0),
		       0x4444);

	/* What is private in the golden memory is private in a clone. */
	gmem_assert_no_access(self->mem[1], SIZE / 2);
}

GMEM_TEST(gmem_clone, holes)
{
	check(self->vcpu[1], 0, SIZE - PAGE_SIZE, SEED);
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd[1], PUNCH, 0, 2 * PAGE_SIZE), 0);
	check_zero(self->vcpu[1], 0, 2 * PAGE_SIZE);
	check(self->vcpu[1], 2 * PAGE_SIZE, SIZE - 3 * PAGE_SIZE, SEED);

	TEST_ASSERT_EQ(__gmem_fallocate(self->fd[1], ZERO, SIZE / 2, SIZE / 2), 0);
	check_zero(self->vcpu[1], SIZE / 2, SIZE / 2);
	gmem_check_zero(self->mem[1], SIZE / 2, SIZE / 2);

	check(self->vcpu[0], 0, SIZE - PAGE_SIZE, SEED);
	check(self->vcpu[2], 0, SIZE - PAGE_SIZE, SEED);
}

GMEM_TEST(gmem_clone, converts)
{
	struct kvm_gmem_range ranges[4];
	uint64_t error_offset;

	TEST_ASSERT_EQ(gmem_get_ranges(self->fd[1], 0, SIZE, 0, ranges, 4), 2);
	TEST_ASSERT_EQ(ranges[0].size, SIZE / 2);
	TEST_ASSERT_EQ(ranges[0].flags, KVM_GMEM_RANGE_PRIVATE);

	check(self->vcpu[1], 0, SIZE - PAGE_SIZE, SEED);
	gmem_make_shared(self->fd[1], 0, PAGE_SIZE);
	gmem_make_private(self->fd[1], SIZE / 2, SIZE / 2);
	gmem_check(self->mem[1], 0, PAGE_SIZE, SEED);
	gmem_assert_no_access(self->mem[1] + PAGE_SIZE, SIZE - PAGE_SIZE);
	check(self->vcpu[1], 0, SIZE - PAGE_SIZE, SEED);
	TEST_ASSERT(gmem_is_private(self->fd[0], 0), "the golden memory was converted");
	TEST_ASSERT(gmem_is_private(self->fd[2], 0), "the other clone was converted");

	TEST_ASSERT_EQ(__gmem_convert(self->fd[1], false, PAGE_SIZE, PAGE_SIZE,
				      KVM_GMEM_CONVERT_ZERO, &error_offset), -EOPNOTSUPP);
	check(self->vcpu[1], 0, SIZE - PAGE_SIZE, SEED);
	TEST_ASSERT_EQ(__gmem_freeze(self->fd[1], &error_offset), -EOPNOTSUPP);
	TEST_ASSERT_EQ(__gmem_clone(self->vm[2], self->fd[1]), -EINVAL);
}

/* The golden VM, file and mapping go; the clones go on. */
GMEM_TEST(gmem_clone, lifetime)
{
	munmap(self->mem[0], SIZE);
	self->mem[0] = NULL;
	kvm_vm_free(self->vm[0]);
	self->vm[0] = NULL;
	close(self->fd[0]);
	self->fd[0] = -1;

	check(self->vcpu[1], 0, SIZE - PAGE_SIZE, SEED);
	munmap(self->mem[1], SIZE);
	self->mem[1] = NULL;
	kvm_vm_free(self->vm[1]);
	self->vm[1] = NULL;
	close(self->fd[1]);
	self->fd[1] = -1;
	gmem_guest_call(self->vcpu[2], gmem_guest_write, GMEM_GVA, 7, 0);
	check(self->vcpu[2], PAGE_SIZE, SIZE - 2 * PAGE_SIZE, SEED);
}

/* Through its stack, which it writes to. */
static uint64_t guest_add(uint64_t a, uint64_t b, uint64_t c)
{
	volatile uint64_t sum = a;

	sum += b;
	return sum + c;
}

/* A guest all of whose memory is a clone: code, stack, page tables. */
GMEM_TEST(gmem_clone, whole_guest)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = gmem_vm_create(variant->type, 1, &vcpu, 0);
	struct userspace_mem_region *region = memslot2region(vm, 0);
	int golden, fd;

	golden = gmem_vm_make_private(vm, false);
	gmem_freeze(golden);
	fd = gmem_clone(vm, golden);

	/* The clone takes the place of the golden memory. */
	gmem_unbind(vm, 0);
	gmem_bind(vm, 0, region->region.guest_phys_addr, region->region.memory_size,
		  NULL, fd, 0);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, guest_add, 2, 3, 4), 9);
	TEST_ASSERT(gmem_fdinfo(fd, "gmem-populated") > 0, "it wrote nothing of its own?");
	TEST_ASSERT(gmem_fdinfo(fd, "gmem-populated") <
		    gmem_fdinfo(golden, "gmem-populated") / 2, "it copied too much");
	kvm_vm_free(vm);
	close(fd);
	close(golden);
}

GMEM_TEST(gmem_clone, bad_input)
{
	struct kvm_gmem_freeze arg;
	int fd = gmem_create(self->vm[0], SIZE, GMEM_FLAGS_SHARED);
	int stock = gmem_create(self->vm[0], SIZE, 0);
	struct gmem_snapshot *snap = gmem_snapshot(fd);
	int i;

	for (i = 0; i < 64; i++) {
		memset(&arg, 0, sizeof(arg));
		arg.flags = 1ull << i;
		arg.error_offset = -1;
		TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_FREEZE, &arg), -1);
		TEST_ASSERT_EQ(errno, EINVAL);
		TEST_ASSERT_EQ(arg.error_offset, 0);
	}
	for (i = 0; i < ARRAY_SIZE(arg.reserved); i++) {
		memset(&arg, 0, sizeof(arg));
		arg.reserved[i] = 1;
		TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_FREEZE, &arg), -1);
		TEST_ASSERT_EQ(errno, EINVAL);
	}
	TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_FREEZE, NULL), -1);
	TEST_ASSERT_EQ(errno, EFAULT);
	memset(&arg, 0, sizeof(arg));
	TEST_ASSERT_EQ(ioctl(stock, KVM_GMEM_FREEZE, &arg), -1);
	TEST_ASSERT_EQ(errno, ENOTTY);

	gmem_assert_unchanged(fd, snap, "bad input");
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
	gmem_snapshot_free(snap);
	close(stock);
	close(fd);
}

/* Two vCPUs and a host read what is all holes; the memory stays one. */
#define HOLES		512
#define HOLES_SIZE	((uint64_t)HOLES * PAGE_SIZE)
#define HOLES_ROUNDS	8

static void *guest_reads_holes(void *data)
{
	check_zero(data, 0, HOLES_SIZE);
	return NULL;
}

GMEM_TEST(gmem_clone, golden_holes)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm = gmem_vm_create(variant->type, 2, vcpus, HOLES);
	pthread_t threads[2];
	char *golden, *mem;
	int i, n, gfd, fd;

	for (n = 0; n < HOLES_ROUNDS; n++) {
		gfd = gmem_create(self->vm[0], HOLES_SIZE, GMEM_FLAGS_SHARED);
		gmem_freeze(gfd);
		golden = gmem_mmap(gfd, HOLES_SIZE);
		fd = gmem_clone(vm, gfd);
		mem = gmem_mmap(fd, HOLES_SIZE);
		gmem_bind(vm, GMEM_SLOT, GMEM_GPA, HOLES_SIZE, variant->hva ? mem : NULL, fd, 0);

		for (i = 0; i < 2; i++)
			TEST_ASSERT_EQ(pthread_create(&threads[i], NULL, guest_reads_holes,
						      vcpus[i]), 0);
		gmem_check_zero(golden, 0, HOLES_SIZE);
		for (i = 0; i < 2; i++)
			TEST_ASSERT_EQ(pthread_join(threads[i], NULL), 0);

		/* Whatever each has mapped is what the others have. */
		gmem_fill(mem, 0, HOLES_SIZE, n);
		for (i = 0; i < 2; i++)
			check(vcpus[i], 0, HOLES_SIZE, n);
		gmem_check_zero(golden, 0, HOLES_SIZE);
		TEST_ASSERT_EQ(gmem_fdinfo(gfd, "gmem-populated"), 0);

		gmem_unbind(vm, GMEM_SLOT);
		munmap(mem, HOLES_SIZE);
		munmap(golden, HOLES_SIZE);
		close(fd);
		close(gfd);
	}
	kvm_vm_free(vm);
}

/* The golden memory's own guest, KVM for it, and system calls read holes too. */
GMEM_TEST(gmem_clone, reads_take_nothing)
{
	uint64_t populated = gmem_fdinfo(self->fd[0], "gmem-populated");
	char *hole = self->mem[0] + SIZE - PAGE_SIZE;
	struct stat before, after;
	uint64_t value = 1;

	TEST_ASSERT_EQ(fstat(self->fd[0], &before), 0);
	check_zero(self->vcpu[0], SIZE - PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_peek(hole, &value), 0);
	TEST_ASSERT_EQ(value, 0);
	TEST_ASSERT_EQ(gmem_syscall_peek(hole), 0);
	TEST_ASSERT_EQ(madvise(hole, PAGE_SIZE, MADV_POPULATE_READ), 0);
	TEST_ASSERT_EQ(gmem_poke(hole, 1), BUS_ADRERR);
	TEST_ASSERT_EQ(gmem_syscall_poke(hole), -EFAULT);
	TEST_ASSERT_EQ(mprotect(hole, PAGE_SIZE, PROT_READ), 0);
	TEST_ASSERT_EQ(mprotect(hole, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
	TEST_ASSERT_EQ(gmem_poke(hole, 1), BUS_ADRERR);
	guest_write_exits(self->vcpu[0], SIZE - PAGE_SIZE);
	check_zero(self->vcpu[0], SIZE - PAGE_SIZE, PAGE_SIZE);

	TEST_ASSERT_EQ(gmem_fdinfo(self->fd[0], "gmem-populated"), populated);
	TEST_ASSERT_EQ(fstat(self->fd[0], &after), 0);
	TEST_ASSERT_EQ(before.st_blocks, after.st_blocks);
	TEST_ASSERT_EQ(lseek(self->fd[0], SIZE - PAGE_SIZE, SEEK_HOLE), SIZE - PAGE_SIZE);
}

/* Freeze, clone, write, punch and close, all at once, for a while. */
struct race {
	struct kvm_vm *vm;
	int golden;
	volatile bool stop;
	uint64_t rounds;
};

static void *race_clones(void *data)
{
	struct race *race = data;
	uint64_t value, i;
	char *mem;
	int fd;

	while (!race->stop) {
		fd = gmem_clone(race->vm, race->golden);
		mem = gmem_mmap(fd, SIZE);
		for (i = 0; i < NR_PAGES / 2 - 1; i++) {
			uint64_t offset = SIZE / 2 + i * PAGE_SIZE;

			if (i % 3 == 0)
				TEST_ASSERT_EQ(__gmem_fallocate(fd, PUNCH, offset, PAGE_SIZE), 0);
			else if (i % 3 == 1)
				TEST_ASSERT_EQ(gmem_poke(mem + offset, i), 0);
			TEST_ASSERT_EQ(gmem_peek(mem + offset, &value), 0);
			TEST_ASSERT_EQ(value, i % 3 == 0 ? 0 : i % 3 == 1 ? i :
				       gmem_pattern(SEED, offset));
		}
		munmap(mem, SIZE);
		close(fd);
		race->rounds++;
	}
	return NULL;
}

/* A guest writes and reads its clone while the host punches and rewrites it. */
GMEM_TEST(gmem_clone, races)
{
	struct race race[2] = {
		{ .vm = self->vm[1], .golden = self->fd[0] },
		{ .vm = self->vm[2], .golden = self->fd[0] },
	};
	pthread_t thread[2];
	int i, n;

	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(pthread_create(&thread[i], NULL, race_clones, &race[i]), 0);

	for (n = 0; n < 100; n++) {
		uint64_t offset = (n % (NR_PAGES / 2)) * PAGE_SIZE;

		check(self->vcpu[0], 0, SIZE - PAGE_SIZE, SEED);
		gmem_guest_call(self->vcpu[1], gmem_guest_fill, GMEM_GVA + offset, PAGE_SIZE, n);
		check(self->vcpu[1], offset, PAGE_SIZE, n);
		check(self->vcpu[2], 0, SIZE - PAGE_SIZE, SEED);
		if (n % 4 == 3) {
			TEST_ASSERT_EQ(__gmem_fallocate(self->fd[1], PUNCH, offset, PAGE_SIZE), 0);
			check_zero(self->vcpu[1], offset, PAGE_SIZE);
		}
	}

	for (i = 0; i < 2; i++) {
		race[i].stop = true;
		TEST_ASSERT_EQ(pthread_join(thread[i], NULL), 0);
		TEST_ASSERT(race[i].rounds, "it never ran");
	}
}

static uint64_t guest_movs(uint64_t to, uint64_t b, uint64_t c)
{
	uint64_t from = MMIO_GVA;

	asm volatile("cld; movsl" : "+D"(to), "+S"(from) : : "memory");
	return 0;
}

static uint64_t guest_ins(uint64_t to, uint64_t b, uint64_t c)
{
	uint64_t n = 1;

	asm volatile("cld; rep insl" : "+D"(to), "+c"(n) : "d"(PIO_PORT) : "memory");
	return n;
}

static uint64_t guest_fep_mov(uint64_t to, uint64_t b, uint64_t c)
{
	asm volatile(KVM_FEP "movl %k0, (%1)" : : "a"(MAGIC), "c"(to) : "memory");
	return 0;
}

static uint64_t guest_fep_cmpxchg(uint64_t to, uint64_t b, uint64_t c)
{
	uint32_t was = *(uint32_t *)to;
	bool done;

	asm volatile(KVM_FEP "lock cmpxchgl %k3, (%2)"
		     : "=@cce"(done), "+a"(was) : "c"(to), "d"(MAGIC) : "memory");
	return !done;
}

static uint64_t guest_fep_push(uint64_t to, uint64_t b, uint64_t c)
{
	asm volatile("movq %%rsp, %%r12; leaq 8(%0), %%rsp\n\t"
		     KVM_FEP "pushq %1\n\t"
		     "movq %%r12, %%rsp"
		     : : "r"(to), "a"((uint64_t)MAGIC) : "r12", "memory");
	return 0;
}

/* KVM_RUN until there is something else than a question; 0 or a negative errno. */
static int run_and_answer(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	const uint32_t magic = MAGIC;

	while (!_vcpu_run(vcpu)) {
		if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write &&
		    run->mmio.phys_addr == MMIO_GVA)
			memcpy(run->mmio.data, &magic, sizeof(magic));
		else if (run->exit_reason == KVM_EXIT_IO && run->io.port == PIO_PORT &&
			 run->io.direction == KVM_EXIT_IO_IN)
			memcpy((char *)run + run->io.data_offset, &magic, sizeof(magic));
		else
			return 0;
	}

	return -errno;
}

/*
 * What KVM writes for the guest ends like the guest's own writes: the VMM is
 * told, and when there is memory to write to, the instruction begins anew.
 */
GMEM_TEST(gmem_clone, emulation)
{
	static const struct {
		const char *what;
		gmem_guest_fn fn;
		bool fep;
	} how[] = {
		{ "movs from MMIO", guest_movs },
		{ "ins", guest_ins },
		{ "mov", guest_fep_mov, true },
		{ "cmpxchg", guest_fep_cmpxchg, true },
		{ "push", guest_fep_push, true },
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	bool fep = kvm_is_forced_emulation_enabled();
	struct kvm_run *run = vcpu->run;
	uint64_t result;
	int i, r, fd;

	virt_pg_map(self->vm[0], MMIO_GVA, MMIO_GVA);

	for (i = 0; i < ARRAY_SIZE(how); i++) {
		uint64_t offset = i * PAGE_SIZE + 64;

		if (how[i].fep && !fep)
			continue;

		gmem_guest_start(vcpu, how[i].fn, GMEM_GVA + offset, 0, 0);
		r = run_and_answer(vcpu);
		TEST_ASSERT(r == -EFAULT, "%s: %s, %s", how[i].what, strerror(-r),
			    exit_reason_str(run->exit_reason));
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
		TEST_ASSERT_EQ(run->memory_fault.gpa, GMEM_GPA + i * PAGE_SIZE);
		TEST_ASSERT_EQ(run->memory_fault.size, PAGE_SIZE);

		fd = gmem_clone(self->vm[0], self->fd[0]);
		gmem_unbind(self->vm[0], GMEM_SLOT);
		gmem_bind(self->vm[0], GMEM_SLOT, GMEM_GPA, SIZE, NULL, fd, 0);
		r = run_and_answer(vcpu);
		TEST_ASSERT(!r && gmem_guest_done(vcpu, &result), "%s: %s, %s",
			    how[i].what, strerror(-r), exit_reason_str(run->exit_reason));
		TEST_ASSERT_EQ(result, 0);
		result = gmem_guest_call(vcpu, gmem_guest_read, GMEM_GVA + offset, 0, 0);
		TEST_ASSERT(result % (1ULL << 32) == MAGIC, "%s: %#lx was written",
			    how[i].what, result);

		gmem_unbind(self->vm[0], GMEM_SLOT);
		close(fd);
		gmem_bind(self->vm[0], GMEM_SLOT, GMEM_GPA, SIZE, NULL, self->fd[0], 0);
		check(vcpu, 0, SIZE - PAGE_SIZE, SEED);
	}
}

/* Those who write until they may not any more, each in its own way. */
struct writer {
	struct kvm_vcpu *vcpu;
	char *mem;
	int fd;
	volatile uint64_t rounds;
};

static void *guest_writes(void *data)
{
	struct writer *writer = data;
	uint64_t result;

	while (!__gmem_guest_call(writer->vcpu, gmem_guest_fill, GMEM_GVA, SIZE,
				  writer->rounds, &result))
		writer->rounds++;
	TEST_ASSERT_EQ(writer->vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	return NULL;
}

static void *host_writes(void *data)
{
	struct writer *writer = data;
	int r;

	do {
		r = gmem_poke(writer->mem + SIZE / 2 + writer->rounds % (NR_PAGES / 2) * PAGE_SIZE,
			      writer->rounds);
		writer->rounds++;
	} while (!r);
	TEST_ASSERT_EQ(r, BUS_ADRERR);
	return NULL;
}

static void *host_converts(void *data)
{
	struct writer *writer = data;
	int r;

	do {
		r = __gmem_convert(writer->fd, writer->rounds++ % 2, 0, SIZE / 4, 0, NULL);
	} while (!r || r == -EAGAIN);
	TEST_ASSERT_EQ(r, -EPERM);
	return NULL;
}

static void *host_punches(void *data)
{
	struct writer *writer = data;
	int r;

	do {
		r = __gmem_fallocate(writer->fd, PUNCH, SIZE / 4, SIZE / 4);
		writer->rounds++;
	} while (!r);
	TEST_ASSERT_EQ(r, -EPERM);
	return NULL;
}

/* Memory is frozen while all of them are at it: from then on nothing changes. */
GMEM_TEST(gmem_clone, freeze_races)
{
	static void *(*const how[])(void *) = {
		guest_writes, host_writes, host_converts, host_punches,
	};
	struct writer writers[ARRAY_SIZE(how)];
	pthread_t threads[ARRAY_SIZE(how)];
	static char before[SIZE / 2];
	int fd, cloned, i, tries, r;
	char *mem, *frozen;

	gmem_unbind(self->vm[0], GMEM_SLOT);
	fd = gmem_create(self->vm[0], SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_bind(self->vm[0], GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL, fd, 0);

	for (i = 0; i < ARRAY_SIZE(how); i++) {
		writers[i] = (struct writer) { self->vcpu[0], mem, fd };
		TEST_ASSERT_EQ(pthread_create(&threads[i], NULL, how[i], &writers[i]), 0);
	}
	for (i = 0; i < ARRAY_SIZE(how); i++) {
		while (writers[i].rounds < 20)
			usleep(1000);
	}

	/* An access that is under way is a use of the page. */
	for (tries = 0; (r = __gmem_freeze(fd, NULL)) == -EAGAIN && tries < 100000; tries++)
		;
	TEST_ASSERT(!r, "not frozen after %d tries: %s", tries, strerror(-r));

	frozen = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	TEST_ASSERT(frozen != MAP_FAILED, "cannot map frozen memory");
	memcpy(before, frozen + SIZE / 2, SIZE / 2);
	cloned = gmem_clone(self->vm[1], fd);
	for (i = 0; i < ARRAY_SIZE(how); i++)
		TEST_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
	TEST_ASSERT(!memcmp(before, frozen + SIZE / 2, SIZE / 2), "frozen memory has changed");

	munmap(frozen, SIZE);
	frozen = gmem_mmap(cloned, SIZE);
	TEST_ASSERT(!memcmp(before, frozen + SIZE / 2, SIZE / 2), "the clone is another");
	munmap(frozen, SIZE);
	munmap(mem, SIZE);
	close(cloned);
	close(fd);
}

int main(int argc, char *argv[])
{
	char was;
	int r;

	GMEM_REQUIRE();
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CLONE, "no clones");

	was = gmem_set_fep('1');
	r = test_harness_run(argc, argv);
	gmem_set_fep(was);
	return r;
}
