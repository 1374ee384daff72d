// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd without MMAP: it behaves as it did before there were files that
 * convert in place, also next to one of those.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	8
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)

/* Next to each other: a slot that converts, and one as it has always been. */
#define STOCK_SLOT	(GMEM_SLOT + 1)
#define STOCK_GPA	(GMEM_GPA + SIZE)
#define STOCK_GVA	(GMEM_GVA + SIZE)
#define STOCK_OFFSET	SIZE

FIXTURE(gmem_stock) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
};

GMEM_FIXTURE_VARIANTS(gmem_stock);

FIXTURE_SETUP(gmem_stock)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 1, &self->vcpu, 2 * NR_PAGES);
	self->fd = gmem_create(self->vm, SIZE, 0);
}

FIXTURE_TEARDOWN(gmem_stock)
{
	kvm_vm_free(self->vm);
	close(self->fd);
}

static bool has_attributes(struct kvm_vm *vm)
{
	return vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES) &
	       KVM_MEMORY_ATTRIBUTE_PRIVATE;
}

static int set_attributes(struct kvm_vm *vm, uint64_t gpa, uint64_t size,
			  uint64_t attributes)
{
	struct kvm_memory_attributes attr = {
		.attributes = attributes,
		.address = gpa,
		.size = size,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attr) ? -errno : 0;
}

static int set_private(struct kvm_vm *vm, uint64_t gpa, uint64_t size)
{
	return set_attributes(vm, gpa, size, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static int set_shared(struct kvm_vm *vm, uint64_t gpa, uint64_t size)
{
	return set_attributes(vm, gpa, size, 0);
}

GMEM_TEST(gmem_stock, file)
{
	struct kvm_gmem_convert convert = { .size = SIZE };
	struct kvm_gmem_range range;
	struct kvm_gmem_get_ranges get = {
		.size = SIZE,
		.ranges = (uintptr_t)&range,
		.nr = 1,
	};
	const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int fd = self->fd, i;

	TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_CONVERT_SHARED, &convert), -1);
	TEST_ASSERT_EQ(errno, ENOTTY);
	TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_CONVERT_PRIVATE, &convert), -1);
	TEST_ASSERT_EQ(errno, ENOTTY);
	TEST_ASSERT_EQ(__gmem_get_ranges(fd, &get), -ENOTTY);
	/* Not even with an argument that is not there. */
	TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_CONVERT_SHARED, NULL), -1);
	TEST_ASSERT_EQ(errno, ENOTTY);

	for (i = 0; i < ARRAY_SIZE(prots); i++) {
		TEST_ASSERT(mmap(NULL, SIZE, prots[i], MAP_SHARED, fd, 0) ==
			    MAP_FAILED, "mmap() works");
		TEST_ASSERT_EQ(errno, ENODEV);
		TEST_ASSERT(mmap(NULL, SIZE, prots[i], MAP_PRIVATE, fd, 0) ==
			    MAP_FAILED, "mmap() works");
		TEST_ASSERT_EQ(errno, ENODEV);
	}

	for (i = SEEK_SET; i <= SEEK_HOLE; i++) {
		TEST_ASSERT_EQ(lseek(fd, 0, i), -1);
		TEST_ASSERT_EQ(errno, ESPIPE);
	}

	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_ZERO_RANGE, 0, SIZE), -EOPNOTSUPP);
	TEST_ASSERT_EQ(__gmem_fallocate(fd, 0, 0, SIZE), -EOPNOTSUPP);
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, SIZE, PAGE_SIZE),
		       -EINVAL);
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, 1, PAGE_SIZE), -EINVAL);
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, 0, SIZE), 0);
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, SIZE, SIZE), 0);

	/* That much can be asked. */
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-size"), SIZE);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-private"), SIZE);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-populated"), 0);
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-populated"), 2 * PAGE_SIZE);
}

/* Write by the guest, at first shared, then private, and back. */
GMEM_TEST(gmem_stock, attributes)
{
	char *mem;

	if (!has_attributes(self->vm))
		SKIP(return, "the VM has no memory attributes");

	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed");
	gmem_bind(self->vm, STOCK_SLOT, STOCK_GPA, SIZE, mem, self->fd, 0);

	/* Two memories: the host sees one of them. */
	gmem_fill(mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_read, STOCK_GVA, 0, 0),
		       gmem_pattern(1, 0));
	TEST_ASSERT_EQ(set_private(self->vm, STOCK_GPA, SIZE), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check_zero, STOCK_GVA,
				       SIZE, 0), 0);
	gmem_guest_call(self->vcpu, gmem_guest_fill, STOCK_GVA, SIZE, 2);
	gmem_check(mem, 0, SIZE, 1);

	TEST_ASSERT_EQ(set_shared(self->vm, STOCK_GPA, SIZE / 2), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_read, STOCK_GVA, 0, 0),
		       gmem_pattern(1, 0));
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check,
				       STOCK_GVA + SIZE / 2, SIZE / 2, 2), 0);

	/* Neither side has been freed. */
	TEST_ASSERT_EQ(set_private(self->vm, STOCK_GPA, SIZE), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check, STOCK_GVA,
				       SIZE, 2), 0);
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, 0, SIZE), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check_zero, STOCK_GVA,
				       SIZE, 0), 0);

	gmem_unbind(self->vm, STOCK_SLOT);
	munmap(mem, SIZE);
}

/* In a VM that cannot make memory private such a file would never be seen. */
GMEM_TEST(gmem_stock, no_attributes)
{
	char *mem;
	int fd;

	if (has_attributes(self->vm))
		SKIP(return, "the VM has memory attributes");

	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed");
	TEST_ASSERT_EQ(__gmem_bind(self->vm, STOCK_SLOT, STOCK_GPA, SIZE, mem,
				   self->fd, 0), -EINVAL);
	TEST_ASSERT(set_private(self->vm, STOCK_GPA, SIZE) < 0, "it has attributes");

	/* Nothing is left of it: neither the slot, nor a range that is bound. */
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	gmem_bind(self->vm, STOCK_SLOT, STOCK_GPA, SIZE, mem, fd, 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check_zero, STOCK_GVA,
				       SIZE, 0), 0);
	gmem_unbind(self->vm, STOCK_SLOT);
	close(fd);
	munmap(mem, SIZE);
}

/* Both kinds of file in one VM. */
GMEM_TEST(gmem_stock, both_kinds)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	char *mem, *shared;
	int fd;

	if (!has_attributes(self->vm))
		SKIP(return, "the VM has no memory attributes");

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	mem = gmem_mmap(fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL,
		  fd, 0);

	shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(shared != MAP_FAILED, "mmap() failed");
	gmem_bind(self->vm, STOCK_SLOT, STOCK_GPA, SIZE, shared, self->fd, 0);

	gmem_guest_call(vcpu, gmem_guest_fill, GMEM_GVA, SIZE, 1);
	gmem_guest_call(vcpu, gmem_guest_fill, STOCK_GVA, SIZE, 2);
	TEST_ASSERT_EQ(*(uint64_t *)shared, gmem_pattern(2, STOCK_OFFSET));

	/* Each by its own way; neither has an effect on the other. */
	TEST_ASSERT_EQ(set_private(self->vm, STOCK_GPA, SIZE), 0);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check_zero, STOCK_GVA, SIZE, 0), 0);
	gmem_guest_call(vcpu, gmem_guest_fill, STOCK_GVA, SIZE, 3);
	TEST_ASSERT(gmem_is_private(fd, 0), "the state has changed");
	gmem_make_shared(fd, 0, SIZE);
	gmem_check(mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, GMEM_GVA, SIZE, 1), 0);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, STOCK_GVA, SIZE, 3), 0);
	gmem_make_private(fd, 0, SIZE);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, STOCK_GVA, SIZE, 3), 0);
	TEST_ASSERT_EQ(set_shared(self->vm, STOCK_GPA, SIZE), 0);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, STOCK_GVA, SIZE, 2), 0);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, GMEM_GVA, SIZE, 1), 0);

	/* The state of a file is not an attribute: touching its slot is refused. */
	TEST_ASSERT_EQ(set_private(self->vm, GMEM_GPA, SIZE), -EINVAL);
	TEST_ASSERT_EQ(set_private(self->vm, GMEM_GPA + SIZE - PAGE_SIZE, PAGE_SIZE),
		       -EINVAL);
	TEST_ASSERT_EQ(set_private(self->vm, GMEM_GPA - PAGE_SIZE, 2 * PAGE_SIZE),
		       -EINVAL);
	TEST_ASSERT_EQ(set_private(self->vm, GMEM_GPA + SIZE - PAGE_SIZE,
				   2 * PAGE_SIZE), -EINVAL);
	TEST_ASSERT_EQ(set_private(self->vm, GMEM_GPA - SIZE, 4 * SIZE), -EINVAL);
	/* And was for all of the range: the neighbour is still shared. */
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, STOCK_GVA, SIZE, 2), 0);
	TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, GMEM_GVA, SIZE, 1), 0);
	TEST_ASSERT(gmem_is_private(fd, 0), "the state has changed");

	/* Around it all is as ever. */
	TEST_ASSERT_EQ(set_private(self->vm, GMEM_GPA - PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(set_shared(self->vm, GMEM_GPA - PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(set_private(self->vm, STOCK_GPA, PAGE_SIZE), 0);

	gmem_unbind(self->vm, STOCK_SLOT);
	gmem_unbind(self->vm, GMEM_SLOT);
	munmap(shared, SIZE);
	munmap(mem, SIZE);
	close(fd);
}

/*
 * Attributes may have been set before a slot that converts comes: they say
 * nothing about its memory.
 */
GMEM_TEST(gmem_stock, attributes_first)
{
	char *mem;
	int fd;

	if (!has_attributes(self->vm))
		SKIP(return, "the VM has no memory attributes");

	TEST_ASSERT_EQ(set_private(self->vm, GMEM_GPA, SIZE), 0);

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL,
		  fd, 0);
	gmem_fill(mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check, GMEM_GVA, SIZE, 1), 0);
	gmem_make_private(fd, 0, SIZE);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check, GMEM_GVA, SIZE, 1), 0);
	/* They can still be taken back. */
	TEST_ASSERT_EQ(set_shared(self->vm, GMEM_GPA, SIZE), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check, GMEM_GVA, SIZE, 1), 0);
	TEST_ASSERT(gmem_is_private(fd, 0), "the state has changed");

	gmem_unbind(self->vm, GMEM_SLOT);
	munmap(mem, SIZE);
	close(fd);
}

/* Closing the file: the guest's access to private memory exits, as it did. */
GMEM_TEST(gmem_stock, close)
{
	struct kvm_run *run = self->vcpu->run;
	char *mem;
	int fd;

	if (!has_attributes(self->vm))
		SKIP(return, "the VM has no memory attributes");

	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed");
	fd = gmem_create(self->vm, SIZE, 0);
	gmem_bind(self->vm, STOCK_SLOT, STOCK_GPA, SIZE, mem, fd, 0);
	TEST_ASSERT_EQ(set_private(self->vm, STOCK_GPA, SIZE), 0);
	gmem_guest_call(self->vcpu, gmem_guest_fill, STOCK_GVA, SIZE, 1);
	close(fd);

	TEST_ASSERT_EQ(__gmem_guest_call(self->vcpu, gmem_guest_read, STOCK_GVA, 0, 0,
					 NULL), -EFAULT);
	TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(run->memory_fault.flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	TEST_ASSERT_EQ(run->memory_fault.gpa, STOCK_GPA);
	TEST_ASSERT_EQ(run->memory_fault.size, PAGE_SIZE);

	gmem_unbind(self->vm, STOCK_SLOT);
	munmap(mem, SIZE);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();

	return test_harness_run(argc, argv);
}
