// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: bad input to the ioctls and fallocate()
 * on the file.  After each call everything has to be as it was.
 *
 * Numbers in comments are those of the project's list of pitfalls.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	8
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)

/* Of the private pages, which the guest fills. */
#define SEED		7

FIXTURE(gmem_bad_input) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	char *mem;
	struct gmem_snapshot *snap;
};

GMEM_FIXTURE_VARIANTS(gmem_bad_input);

/*
 * Pages of all kinds: shared and private, populated and not.
 *
 *	0 1	shared, populated
 *	2	shared
 *	3 4	private, populated
 *	5	private
 *	6 7	shared, populated
 */
FIXTURE_SETUP(gmem_bad_input)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 1, &self->vcpu, NR_PAGES);
	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	self->mem = gmem_mmap(self->fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->mem : NULL, self->fd, 0);

	gmem_make_private(self->fd, 3 * PAGE_SIZE, 3 * PAGE_SIZE);
	gmem_fill(self->mem, 0, 2 * PAGE_SIZE, 1);
	gmem_fill(self->mem, 6 * PAGE_SIZE, 2 * PAGE_SIZE, 2);
	gmem_guest_call(self->vcpu, gmem_guest_fill, GMEM_GVA + 3 * PAGE_SIZE,
			2 * PAGE_SIZE, SEED);

	self->snap = gmem_snapshot(self->fd);
}

FIXTURE_TEARDOWN(gmem_bad_input)
{
	/* Private contents, which the snapshot does not have. */
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check,
				       GMEM_GVA + 3 * PAGE_SIZE, 2 * PAGE_SIZE,
				       SEED), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check_zero,
				       GMEM_GVA + 5 * PAGE_SIZE, PAGE_SIZE, 0), 0);

	gmem_snapshot_free(self->snap);
	kvm_vm_free(self->vm);
	munmap(self->mem, SIZE);
	close(self->fd);
}

static const struct {
	uint64_t offset, size;
} bad_ranges[] = {
	/* empty */
	{ 0, 0 },
	{ PAGE_SIZE, 0 },
	{ SIZE, 0 },
	/* misaligned */
	{ 1, PAGE_SIZE },
	{ PAGE_SIZE - 1, PAGE_SIZE },
	{ PAGE_SIZE / 2, PAGE_SIZE / 2 },
	{ 0, 1 },
	{ 0, PAGE_SIZE - 1 },
	{ 0, PAGE_SIZE + 1 },
	{ PAGE_SIZE + 8, PAGE_SIZE - 8 },
	{ 0, SIZE - 1 },
	/* beyond the end */
	{ 0, SIZE + PAGE_SIZE },
	{ SIZE - PAGE_SIZE, 2 * PAGE_SIZE },
	{ SIZE, PAGE_SIZE },
	{ SIZE + PAGE_SIZE, PAGE_SIZE },
	{ BIT_ULL(40), PAGE_SIZE },
	{ 0, BIT_ULL(63) },
	{ BIT_ULL(63), PAGE_SIZE },
	{ 0, INT64_MAX - (PAGE_SIZE - 1) },
	{ 0, -PAGE_SIZE },
	{ -PAGE_SIZE, PAGE_SIZE / 2 },
	/* wrapping */
	{ PAGE_SIZE, -PAGE_SIZE },
	{ -PAGE_SIZE, PAGE_SIZE },
	{ -PAGE_SIZE, 2 * PAGE_SIZE },
	{ -PAGE_SIZE, 3 * PAGE_SIZE },
	{ 2 * PAGE_SIZE, -PAGE_SIZE },
	{ BIT_ULL(63), BIT_ULL(63) },
	{ BIT_ULL(63) + PAGE_SIZE, BIT_ULL(63) },
	{ -1, 2 },
	{ -1, -1 },
};

static void bad_convert(int fd, bool to_private, struct kvm_gmem_convert arg,
			struct gmem_snapshot *snap, const char *what)
{
	struct kvm_gmem_convert before = arg;

	/* 3: defined on every failure. */
	arg.error_offset = 0x5a5a5a5a5a5a5a5aULL;
	before.error_offset = arg.offset;

	TEST_ASSERT_EQ(ioctl(fd, to_private ? KVM_GMEM_CONVERT_PRIVATE :
					      KVM_GMEM_CONVERT_SHARED, &arg), -1);
	TEST_ASSERT(errno == EINVAL, "%s: %s, offset %#llx, size %#llx, flags %#llx",
		    what, strerror(errno), arg.offset, arg.size, arg.flags);
	TEST_ASSERT(!memcmp(&before, &arg, sizeof(arg)),
		    "%s: error_offset is %#llx, or an input has changed", what,
		    arg.error_offset);
	gmem_assert_unchanged(fd, snap, what);
}

/* EINVAL comes before anything, and writes nothing. */
static void bad_attributes(int fd, struct kvm_memory_attributes2 arg,
			   struct gmem_snapshot *snap, const char *what)
{
	struct kvm_memory_attributes2 before;

	arg.error_offset = 0x5a5a5a5a5a5a5a5aULL;
	before = arg;

	TEST_ASSERT_EQ(ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &arg), -1);
	TEST_ASSERT(errno == EINVAL, "%s: %s, [%#llx, + %#llx), attributes %#llx, flags %#llx",
		    what, strerror(errno), arg.offset, arg.size, arg.attributes,
		    arg.flags);
	TEST_ASSERT(!memcmp(&before, &arg, sizeof(arg)), "%s: wrote outputs", what);
	gmem_assert_unchanged(fd, snap, what);
}

static void bad_get_ranges(int fd, struct kvm_gmem_get_ranges arg,
			   struct gmem_snapshot *snap, const char *what)
{
	struct kvm_gmem_range ranges[NR_PAGES], canary[NR_PAGES];
	struct kvm_gmem_get_ranges before;

	memset(ranges, 0xa5, sizeof(ranges));
	memset(canary, 0xa5, sizeof(canary));
	arg.ranges = (uintptr_t)ranges;
	before = arg;

	TEST_ASSERT(__gmem_get_ranges(fd, &arg) == -EINVAL,
		    "%s: %s, offset %#llx, size %#llx, flags %#x", what,
		    strerror(errno), arg.offset, arg.size, arg.flags);
	TEST_ASSERT(!memcmp(&before, &arg, sizeof(arg)), "%s: wrote outputs", what);
	TEST_ASSERT(!memcmp(ranges, canary, sizeof(ranges)), "%s: wrote ranges", what);
	gmem_assert_unchanged(fd, snap, what);
}

/* 24, 3 */
GMEM_TEST(gmem_bad_input, ranges)
{
	struct kvm_gmem_get_ranges ranges = { .nr = NR_PAGES };
	struct kvm_memory_attributes2 attributes = {};
	struct kvm_gmem_convert arg = {};
	int i;

	for (i = 0; i < ARRAY_SIZE(bad_ranges); i++) {
		arg.offset = bad_ranges[i].offset;
		arg.size = bad_ranges[i].size;
		bad_convert(self->fd, false, arg, self->snap, "a bad range");
		bad_convert(self->fd, true, arg, self->snap, "a bad range");
		arg.flags = KVM_GMEM_CONVERT_ZERO;
		bad_convert(self->fd, false, arg, self->snap, "a bad range");
		arg.flags = 0;

		attributes.offset = bad_ranges[i].offset;
		attributes.size = bad_ranges[i].size;
		attributes.attributes = 0;
		bad_attributes(self->fd, attributes, self->snap, "a bad range");
		attributes.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
		bad_attributes(self->fd, attributes, self->snap, "a bad range");

		ranges.offset = bad_ranges[i].offset;
		ranges.size = bad_ranges[i].size;
		bad_get_ranges(self->fd, ranges, self->snap, "a bad range");
	}
}

/* 24: each bit of flags; ZERO is known, but not when memory becomes private. */
GMEM_TEST(gmem_bad_input, flags)
{
	struct kvm_gmem_get_ranges ranges = { .size = SIZE, .nr = NR_PAGES };
	struct kvm_gmem_convert arg = { .size = SIZE };
	int i;

	for (i = 0; i < 64; i++) {
		arg.flags = BIT_ULL(i);
		bad_convert(self->fd, true, arg, self->snap, "a flag");
		if (arg.flags == KVM_GMEM_CONVERT_ZERO)
			continue;
		bad_convert(self->fd, false, arg, self->snap, "a flag");
		arg.flags |= KVM_GMEM_CONVERT_ZERO;
		bad_convert(self->fd, false, arg, self->snap, "a flag");
	}

	for (i = 0; i < 32; i++) {
		ranges.flags = 1U << i;
		if (ranges.flags == KVM_GMEM_RANGES_BY_NODE)
			continue;
		bad_get_ranges(self->fd, ranges, self->snap, "a flag");
		ranges.flags |= KVM_GMEM_RANGES_BY_NODE;
		bad_get_ranges(self->fd, ranges, self->snap, "a flag");
	}
}

/* 24: each attribute and flag but the one that there is, alone and with it. */
GMEM_TEST(gmem_bad_input, attributes)
{
	struct kvm_memory_attributes2 arg = { .size = SIZE };
	int i;

	for (i = 0; i < 64; i++) {
		arg.flags = BIT_ULL(i);
		bad_attributes(self->fd, arg, self->snap, "a flag");
		arg.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
		bad_attributes(self->fd, arg, self->snap, "a flag");
		arg.flags = 0;

		if (BIT_ULL(i) != KVM_MEMORY_ATTRIBUTE_PRIVATE) {
			arg.attributes |= BIT_ULL(i);
			bad_attributes(self->fd, arg, self->snap, "an attribute");
			arg.attributes = BIT_ULL(i);
			bad_attributes(self->fd, arg, self->snap, "an attribute");
		}
		arg.attributes = 0;
	}
}

/* 24: each bit of each reserved word. */
GMEM_TEST(gmem_bad_input, reserved)
{
	struct kvm_gmem_get_ranges ranges = { .size = SIZE, .nr = NR_PAGES };
	struct kvm_memory_attributes2 attributes = { .size = SIZE };
	struct kvm_gmem_convert arg = { .size = SIZE };
	static const int bits[] = { 0, 1, 31, 32, 63 };
	int i, j;

	for (i = 0; i < ARRAY_SIZE(arg.reserved); i++) {
		for (j = 0; j < ARRAY_SIZE(bits); j++) {
			arg.reserved[i] = BIT_ULL(bits[j]);
			bad_convert(self->fd, false, arg, self->snap, "reserved");
			bad_convert(self->fd, true, arg, self->snap, "reserved");
		}
		arg.reserved[i] = 0;
	}

	for (i = 0; i < ARRAY_SIZE(attributes.reserved); i++) {
		for (j = 0; j < ARRAY_SIZE(bits); j++) {
			attributes.reserved[i] = BIT_ULL(bits[j]);
			attributes.attributes = 0;
			bad_attributes(self->fd, attributes, self->snap, "reserved");
			attributes.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
			bad_attributes(self->fd, attributes, self->snap, "reserved");
		}
		attributes.reserved[i] = 0;
	}

	for (i = 0; i < ARRAY_SIZE(ranges.reserved); i++) {
		for (j = 0; j < ARRAY_SIZE(bits); j++) {
			ranges.reserved[i] = BIT_ULL(bits[j]);
			bad_get_ranges(self->fd, ranges, self->snap, "reserved");
		}
		ranges.reserved[i] = 0;
	}

	/* No room for an answer. */
	ranges.nr = 0;
	bad_get_ranges(self->fd, ranges, self->snap, "nr of 0");
}

/* The state is checked last: what is malformed is refused also as a no-op. */
GMEM_TEST(gmem_bad_input, malformed_no_op)
{
	struct kvm_gmem_convert arg = { .size = PAGE_SIZE, .flags = BIT_ULL(5) };
	struct kvm_memory_attributes2 attributes = { .size = PAGE_SIZE, .flags = 1 };

	bad_attributes(self->fd, attributes, self->snap, "a flag");
	attributes.offset = 3 * PAGE_SIZE;
	attributes.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
	bad_attributes(self->fd, attributes, self->snap, "a flag");

	bad_convert(self->fd, false, arg, self->snap, "a flag");
	arg.offset = 3 * PAGE_SIZE;
	bad_convert(self->fd, true, arg, self->snap, "a flag");
	arg.flags = KVM_GMEM_CONVERT_ZERO;
	bad_convert(self->fd, true, arg, self->snap, "a flag");
}

static const unsigned long cmds[] = {
	KVM_GMEM_CONVERT_SHARED, KVM_GMEM_CONVERT_PRIVATE, KVM_GMEM_GET_RANGES,
	KVM_SET_MEMORY_ATTRIBUTES2,
};

/* Every command with an argument that would be all right. */
static void wrong_fd(int fd, int error, const char *what)
{
	struct kvm_gmem_range ranges[NR_PAGES];
	struct kvm_gmem_convert arg = { .size = SIZE };
	struct kvm_gmem_get_ranges get = {
		.size = SIZE,
		.nr = NR_PAGES,
		.ranges = (uintptr_t)ranges,
	};
	struct kvm_memory_attributes2 attributes = { .size = SIZE };
	void *argp;
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		argp = cmds[i] == KVM_SET_MEMORY_ATTRIBUTES2 ? (void *)&attributes :
		       cmds[i] == KVM_GMEM_GET_RANGES ? (void *)&get : (void *)&arg;
		errno = 0;
		TEST_ASSERT_EQ(ioctl(fd, cmds[i], argp), -1);
		TEST_ASSERT(errno == error, "%s: %s", what, strerror(errno));
	}
}

/* 25 */
GMEM_TEST(gmem_bad_input, wrong_descriptors)
{
	int fd, pipefd[2];

	wrong_fd(self->vm->fd, ENOTTY, "the VM");
	/* What a vCPU says to every ioctl of another type. */
	wrong_fd(self->vcpu->fd, EINVAL, "a vCPU");
	wrong_fd(self->vm->kvm_fd, EINVAL, "/dev/kvm");
	wrong_fd(-1, EBADF, "no file");

	fd = memfd_create("memfd", 0);
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, SIZE), "memfd_create() failed");
	wrong_fd(fd, ENOTTY, "a memfd");
	close(fd);
	wrong_fd(fd, EBADF, "a closed file");

	fd = gmem_create(self->vm, SIZE, 0);
	wrong_fd(fd, ENOTTY, "a guest_memfd without MMAP");
	close(fd);

	fd = open("/dev/null", O_RDWR);
	wrong_fd(fd, ENOTTY, "/dev/null");
	close(fd);

	TEST_ASSERT(!pipe(pipefd), "pipe() failed");
	wrong_fd(pipefd[0], ENOTTY, "a pipe");
	close(pipefd[0]);
	close(pipefd[1]);

	fd = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	wrong_fd(fd, EBADF, "a path");
	close(fd);

	gmem_assert_unchanged(self->fd, self->snap, "ioctls on other files");
}

/* Commands next to those that exist: another number, size or direction. */
GMEM_TEST(gmem_bad_input, wrong_commands)
{
	struct kvm_gmem_convert arg = { .size = SIZE };
	char buf[512] = {};
	unsigned int nr;
	int i;

	for (nr = 3; nr < 256; nr++) {
		TEST_ASSERT_EQ(ioctl(self->fd, _IOC(_IOC_READ | _IOC_WRITE,
						    KVM_GMEM_IOC, nr, sizeof(arg)),
				     &arg), -1);
		TEST_ASSERT_EQ(errno, ENOTTY);
	}

	memcpy(buf, &arg, sizeof(arg));
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		unsigned int size = _IOC_SIZE(cmds[i]), type = _IOC_TYPE(cmds[i]);
		unsigned int other = type == KVMIO ? KVM_GMEM_IOC : KVMIO;
		const unsigned long wrong[] = {
			_IOC(_IOC_READ, type, _IOC_NR(cmds[i]), size),
			_IOC(_IOC_WRITE, type, _IOC_NR(cmds[i]), size),
			_IOC(_IOC_NONE, type, _IOC_NR(cmds[i]), size),
			_IOC(_IOC_READ | _IOC_WRITE, type, _IOC_NR(cmds[i]), size - 8),
			_IOC(_IOC_READ | _IOC_WRITE, type, _IOC_NR(cmds[i]), size + 8),
			_IOC(_IOC_READ | _IOC_WRITE, type, _IOC_NR(cmds[i]), 0),
			_IOC(_IOC_READ | _IOC_WRITE, other, _IOC_NR(cmds[i]), size),
			_IOC(_IOC_READ | _IOC_WRITE, 0, _IOC_NR(cmds[i]), size),
			/* The VM's, which shares its number with the file's. */
			KVM_SET_MEMORY_ATTRIBUTES,
		};
		int j;

		for (j = 0; j < ARRAY_SIZE(wrong); j++) {
			TEST_ASSERT_EQ(ioctl(self->fd, wrong[j], buf), -1);
			TEST_ASSERT(errno == ENOTTY, "command %#lx: %s", wrong[j],
				    strerror(errno));
		}
	}
	gmem_assert_unchanged(self->fd, self->snap, "unknown commands");
}

/* Expect EFAULT from valid requests with their arguments at @p. */
static void bad_pointer(int fd, void *p, struct gmem_snapshot *snap, bool by_size,
			const char *what)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		void *q = by_size ? p - _IOC_SIZE(cmds[i]) + 8 : p;

		errno = 0;
		TEST_ASSERT_EQ(ioctl(fd, cmds[i], q), -1);
		TEST_ASSERT(errno == EFAULT, "%s: %s", what, strerror(errno));
		gmem_assert_unchanged(fd, snap, what);
	}
}

/*
 * 4: an argument that cannot be written is found out about before anything has
 * changed, also if the request would succeed or change nothing.
 */
GMEM_TEST(gmem_bad_input, unwritable_argument)
{
	struct kvm_gmem_range ranges[NR_PAGES];
	struct kvm_gmem_convert *arg;
	struct kvm_gmem_get_ranges *get;
	const uint64_t requests[][2] = {
		{ 0, SIZE },
		{ 0, PAGE_SIZE },
		{ 3 * PAGE_SIZE, PAGE_SIZE },
		{ 2 * PAGE_SIZE, 2 * PAGE_SIZE },
	};
	char *page;
	int i;

	page = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(page != MAP_FAILED, "mmap() failed");
	arg = (void *)page;
	get = (void *)page;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		memset(page, 0, PAGE_SIZE);
		arg->offset = requests[i][0];
		arg->size = requests[i][1];
		mprotect(page, PAGE_SIZE, PROT_READ);
		TEST_ASSERT_EQ(ioctl(self->fd, KVM_GMEM_CONVERT_SHARED, arg), -1);
		TEST_ASSERT_EQ(errno, EFAULT);
		gmem_assert_unchanged(self->fd, self->snap, "EFAULT to shared");
		TEST_ASSERT_EQ(ioctl(self->fd, KVM_GMEM_CONVERT_PRIVATE, arg), -1);
		TEST_ASSERT_EQ(errno, EFAULT);
		gmem_assert_unchanged(self->fd, self->snap, "EFAULT to private");
		mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE);

		arg->flags = KVM_GMEM_CONVERT_ZERO;
		mprotect(page, PAGE_SIZE, PROT_READ);
		TEST_ASSERT_EQ(ioctl(self->fd, KVM_GMEM_CONVERT_SHARED, arg), -1);
		TEST_ASSERT_EQ(errno, EFAULT);
		gmem_assert_unchanged(self->fd, self->snap, "EFAULT to shared");
		mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE);
	}

	memset(page, 0, PAGE_SIZE);
	get->size = SIZE;
	get->ranges = (uintptr_t)ranges;
	get->nr = NR_PAGES;
	mprotect(page, PAGE_SIZE, PROT_READ);
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, get), -EFAULT);
	mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE);

	/* Ranges where they cannot be written. */
	get->ranges = 0;
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, get), -EFAULT);
	get->ranges = (uintptr_t)page + PAGE_SIZE;
	mprotect(page + PAGE_SIZE, PAGE_SIZE, PROT_READ);
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, get), -EFAULT);
	mprotect(page + PAGE_SIZE, PAGE_SIZE, PROT_NONE);
	get->ranges -= sizeof(ranges[0]);
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, get), -EFAULT);
	get->ranges = -sizeof(ranges[0]);
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, get), -EFAULT);
	gmem_assert_unchanged(self->fd, self->snap, "EFAULT from the ranges");

	/* Arguments that cannot be read, not in full, or not at all. */
	bad_pointer(self->fd, page + PAGE_SIZE, self->snap, false, "PROT_NONE");
	bad_pointer(self->fd, page + PAGE_SIZE, self->snap, true,
		    "an argument that ends in PROT_NONE");
	munmap(page + PAGE_SIZE, PAGE_SIZE);
	bad_pointer(self->fd, page + PAGE_SIZE, self->snap, false, "no mapping");
	bad_pointer(self->fd, NULL, self->snap, false, "NULL");
	bad_pointer(self->fd, (void *)-PAGE_SIZE, self->snap, false, "a kernel address");
	munmap(page, PAGE_SIZE);
}

/*
 * 4, 18: an argument in the very memory.  It must not deadlock, and what is
 * reported must be what was done.
 */
GMEM_TEST(gmem_bad_input, argument_in_the_memory)
{
	struct kvm_gmem_get_ranges *get = (void *)self->mem;
	struct kvm_gmem_convert *arg = (void *)self->mem;
	struct kvm_gmem_range *ranges;
	uint64_t nr;
	int r;

	/* To read an argument populates the memory it is in: do so first. */
	gmem_fill(self->mem, 2 * PAGE_SIZE, PAGE_SIZE, 3);
	gmem_snapshot_free(self->snap);
	self->snap = gmem_snapshot(self->fd);

	/* Private: it cannot be read. */
	bad_pointer(self->fd, self->mem + 3 * PAGE_SIZE, self->snap, false,
		    "a private argument");
	bad_pointer(self->fd, self->mem + 3 * PAGE_SIZE, self->snap, true,
		    "an argument that ends in private memory");

	/* Ranges in the memory, in pages that the walk over them populates. */
	ranges = (void *)self->mem + 2 * PAGE_SIZE;
	memset(get, 0, sizeof(*get));
	get->size = SIZE;
	get->ranges = (uintptr_t)ranges;
	get->nr = NR_PAGES;
	get->flags = KVM_GMEM_RANGES_BY_NODE;
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, get), 0);
	TEST_ASSERT_EQ(get->size, 0);
	nr = get->nr;
	TEST_ASSERT(nr >= 4 && nr <= NR_PAGES, "%lu ranges", nr);
	TEST_ASSERT_EQ(ranges[0].offset, 0);

	/* Ranges that end in private memory. */
	get->offset = 0;
	get->size = SIZE;
	get->nr = NR_PAGES;
	get->ranges = (uintptr_t)self->mem + 3 * PAGE_SIZE - sizeof(*ranges);
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, get), -EFAULT);

	/* A conversion to shared of other pages is nothing special. */
	memset(arg, 0, sizeof(*arg));
	arg->offset = 5 * PAGE_SIZE;
	arg->size = PAGE_SIZE;
	TEST_ASSERT_EQ(ioctl(self->fd, KVM_GMEM_CONVERT_SHARED, arg), 0);
	TEST_ASSERT(!gmem_is_private(self->fd, 5 * PAGE_SIZE), "not converted");
	TEST_ASSERT_EQ(ioctl(self->fd, KVM_GMEM_CONVERT_PRIVATE, arg), 0);
	TEST_ASSERT(gmem_is_private(self->fd, 5 * PAGE_SIZE), "not converted");

	/* One that makes the argument private: done, or not done, but no lie. */
	memset(arg, 0, sizeof(*arg));
	arg->size = PAGE_SIZE;
	r = ioctl(self->fd, KVM_GMEM_CONVERT_PRIVATE, arg);
	TEST_ASSERT(gmem_is_private(self->fd, 0) == !r,
		    "reported as %d, but the memory is %s", r,
		    r ? "private" : "shared");
	gmem_make_shared(self->fd, 0, PAGE_SIZE);
}

static void bad_fallocate(int fd, int mode, uint64_t offset, uint64_t size,
			  int error, struct gmem_snapshot *snap)
{
	int r = __gmem_fallocate(fd, mode, offset, size);

	TEST_ASSERT(r == error, "fallocate(%#x, %#lx, %#lx): %s", mode, offset,
		    size, strerror(-r));
	gmem_assert_unchanged(fd, snap, "fallocate()");
}

GMEM_TEST(gmem_bad_input, fallocate)
{
	const int keep = FALLOC_FL_KEEP_SIZE;
	const int punch = keep | FALLOC_FL_PUNCH_HOLE;
	const int zero = keep | FALLOC_FL_ZERO_RANGE;
	struct gmem_snapshot *snap = self->snap;
	int fd = self->fd, i;

	/* The size cannot change, so it has to be kept. */
	bad_fallocate(fd, 0, 0, SIZE, -EOPNOTSUPP, snap);
	bad_fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, SIZE, -EOPNOTSUPP, snap);
	bad_fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, SIZE, -EOPNOTSUPP, snap);

	for (i = 0; i < 32; i++) {
		int bit = 1U << i;

		if (bit == keep)
			continue;
		bad_fallocate(fd, bit, 0, SIZE, -EOPNOTSUPP, snap);
		if (bit == FALLOC_FL_PUNCH_HOLE || bit == FALLOC_FL_ZERO_RANGE)
			continue;
		/* Some combinations do not make sense to the VFS either. */
		TEST_ASSERT(__gmem_fallocate(fd, bit | keep, 0, SIZE) < 0,
			    "mode %#x", bit | keep);
		TEST_ASSERT(__gmem_fallocate(fd, bit | punch, 0, SIZE) < 0,
			    "mode %#x", bit | punch);
		TEST_ASSERT(__gmem_fallocate(fd, bit | zero, 0, SIZE) < 0,
			    "mode %#x", bit | zero);
		gmem_assert_unchanged(fd, snap, "fallocate()");
	}
	bad_fallocate(fd, punch | zero, 0, SIZE, -EOPNOTSUPP, snap);

	for (i = 0; i < ARRAY_SIZE(bad_ranges); i++) {
		uint64_t offset = bad_ranges[i].offset, size = bad_ranges[i].size;
		int error = -EINVAL;

		/* The VFS comes first, and counts with a sign. */
		if ((int64_t)offset >= 0 && (int64_t)size > 0 &&
		    (int64_t)(offset + size) < 0)
			error = -EFBIG;

		bad_fallocate(fd, keep, offset, size, error, snap);
		bad_fallocate(fd, zero, offset, size, error, snap);

		/* To punch beyond the end is no error, and changes nothing. */
		if ((int64_t)offset >= 0 && (int64_t)size > 0 &&
		    error == -EINVAL && !((offset | size) & (PAGE_SIZE - 1))) {
			if (offset < SIZE)
				continue;
			error = 0;
		}
		bad_fallocate(fd, punch, offset, size, error, snap);
	}
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();

	return test_harness_run(argc, argv);
}
