// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: asking for state and population, by
 * ioctl, fdinfo and lseek(), and what fallocate() does to both.
 *
 * Numbers in comments are those of the project's list of pitfalls.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	16
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)

#define PUNCH		(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)
#define ZERO		(FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE)

FIXTURE(gmem_ranges) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	char *mem;
};

GMEM_FIXTURE_VARIANTS(gmem_ranges);

FIXTURE_SETUP(gmem_ranges)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 1, &self->vcpu, NR_PAGES);
	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	self->mem = gmem_mmap(self->fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->mem : NULL, self->fd, 0);
}

FIXTURE_TEARDOWN(gmem_ranges)
{
	kvm_vm_free(self->vm);
	munmap(self->mem, SIZE);
	close(self->fd);
}

static uint64_t guest_check(struct kvm_vcpu *vcpu, uint64_t offset,
			    uint64_t size, uint64_t seed)
{
	return gmem_guest_call(vcpu, gmem_guest_check, GMEM_GVA + offset, size,
			       seed);
}

static uint64_t guest_check_zero(struct kvm_vcpu *vcpu, uint64_t offset,
				 uint64_t size)
{
	return gmem_guest_call(vcpu, gmem_guest_check_zero, GMEM_GVA + offset,
			       size, 0);
}

static void fallocate_ok(int fd, int mode, uint64_t offset, uint64_t size)
{
	int r = __gmem_fallocate(fd, mode, offset, size);

	TEST_ASSERT(!r, "fallocate(%#x, %#lx, %#lx): %s", mode, offset, size,
		    strerror(-r));
}

/*
 *	0 - 3	shared, 1 and 2 populated
 *	4 - 7	private, 4 and 7 populated
 *	8 - 15	shared
 */
static void make_example(int fd, char *mem)
{
	gmem_make_private(fd, 4 * PAGE_SIZE, 4 * PAGE_SIZE);
	gmem_fill(mem, PAGE_SIZE, 2 * PAGE_SIZE, 1);
	fallocate_ok(fd, FALLOC_FL_KEEP_SIZE, 4 * PAGE_SIZE, PAGE_SIZE);
	fallocate_ok(fd, FALLOC_FL_KEEP_SIZE, 7 * PAGE_SIZE, PAGE_SIZE);
}

struct run {
	int first, nr, populated;
	bool private;
};

static void check_runs(int fd, uint64_t first, uint64_t nr, uint32_t flags,
		       const struct run *expect, int nr_expect)
{
	struct kvm_gmem_range ranges[NR_PAGES];
	int n, i;

	n = gmem_get_ranges(fd, first * PAGE_SIZE, nr * PAGE_SIZE, flags, ranges,
			    NR_PAGES);
	for (i = 0; i < n && i < nr_expect; i++) {
		TEST_ASSERT_EQ(ranges[i].offset, expect[i].first * PAGE_SIZE);
		TEST_ASSERT_EQ(ranges[i].size, expect[i].nr * PAGE_SIZE);
		TEST_ASSERT_EQ(ranges[i].populated, expect[i].populated * PAGE_SIZE);
		TEST_ASSERT_EQ(ranges[i].flags, expect[i].private ?
						KVM_GMEM_RANGE_PRIVATE : 0);
		TEST_ASSERT(expect[i].populated ? ranges[i].node >= 0 ||
			    ranges[i].node == KVM_GMEM_NODE_MIXED :
			    ranges[i].node == KVM_GMEM_NODE_NONE,
			    "node %d", ranges[i].node);
		if (flags & KVM_GMEM_RANGES_BY_NODE)
			TEST_ASSERT(ranges[i].node != KVM_GMEM_NODE_MIXED,
				    "nodes are mixed");
	}
	TEST_ASSERT_EQ(n, nr_expect);
}

/* By state, in whole and cut at both ends. */
GMEM_TEST(gmem_ranges, by_state)
{
	static const struct run empty[] = { { 0, NR_PAGES, 0, false } };
	static const struct run all[] = {
		{ 0, 4, 2, false }, { 4, 4, 2, true }, { 8, 8, 0, false },
	};
	static const struct run cut[] = {
		{ 2, 2, 1, false }, { 4, 3, 1, true },
	};
	static const struct run inside[] = { { 5, 2, 0, true } };
	static const struct run one[] = { { 7, 1, 1, true } };

	check_runs(self->fd, 0, NR_PAGES, 0, empty, ARRAY_SIZE(empty));
	make_example(self->fd, self->mem);
	check_runs(self->fd, 0, NR_PAGES, 0, all, ARRAY_SIZE(all));
	check_runs(self->fd, 2, 5, 0, cut, ARRAY_SIZE(cut));
	check_runs(self->fd, 5, 2, 0, inside, ARRAY_SIZE(inside));
	check_runs(self->fd, 7, 1, 0, one, ARRAY_SIZE(one));
}

GMEM_TEST(gmem_ranges, by_population)
{
	static const struct run empty[] = { { 0, NR_PAGES, 0, false } };
	static const struct run all[] = {
		{ 0, 1, 0, false }, { 1, 2, 2, false }, { 3, 1, 0, false },
		{ 4, 1, 1, true }, { 5, 2, 0, true }, { 7, 1, 1, true },
		{ 8, 8, 0, false },
	};
	static const struct run cut[] = {
		{ 2, 1, 1, false }, { 3, 1, 0, false }, { 4, 1, 1, true },
		{ 5, 1, 0, true },
	};
	struct kvm_gmem_range ranges[NR_PAGES];
	int n, i;

	check_runs(self->fd, 0, NR_PAGES, KVM_GMEM_RANGES_BY_NODE, empty,
		   ARRAY_SIZE(empty));
	make_example(self->fd, self->mem);

	/* Pages may come from several nodes; these runs then split. */
	n = gmem_get_ranges(self->fd, 0, SIZE, KVM_GMEM_RANGES_BY_NODE, ranges,
			    NR_PAGES);
	for (i = 1; i < n; i++) {
		if (ranges[i].node != ranges[i - 1].node && ranges[i].populated &&
		    ranges[i - 1].populated &&
		    ranges[i].flags == ranges[i - 1].flags)
			SKIP(return, "memory comes from more than one node");
	}
	check_runs(self->fd, 0, NR_PAGES, KVM_GMEM_RANGES_BY_NODE, all,
		   ARRAY_SIZE(all));
	check_runs(self->fd, 2, 4, KVM_GMEM_RANGES_BY_NODE, cut, ARRAY_SIZE(cut));
}

/* An array that is too small: go on where the last call ended. */
GMEM_TEST(gmem_ranges, continued)
{
	struct kvm_gmem_range ranges[NR_PAGES + 1], all[3], canary;
	struct kvm_gmem_get_ranges arg = {};
	uint64_t left;
	int n;

	make_example(self->fd, self->mem);
	TEST_ASSERT_EQ(gmem_get_ranges(self->fd, 0, SIZE, 0, all, 3), 3);
	memset(&canary, 0xa5, sizeof(canary));

	for (n = 0, arg.size = SIZE; arg.size; n++) {
		memset(ranges, 0xa5, sizeof(ranges));
		left = arg.size;
		arg.ranges = (uintptr_t)ranges;
		arg.nr = 1;
		TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, &arg), 0);
		TEST_ASSERT_EQ(arg.nr, 1);
		TEST_ASSERT_EQ(arg.offset, ranges[0].offset + ranges[0].size);
		TEST_ASSERT_EQ(arg.size, left - ranges[0].size);
		TEST_ASSERT(!memcmp(&ranges[0], &all[n], sizeof(all[n])),
			    "call %d differs", n);
		TEST_ASSERT(!memcmp(&ranges[1], &canary, sizeof(canary)),
			    "more was written than there was room for");
	}
	TEST_ASSERT_EQ(n, 3);

	/* More room than needed, by far. */
	memset(ranges, 0xa5, sizeof(ranges));
	arg.offset = 0;
	arg.size = SIZE;
	arg.nr = -1;
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, &arg), 0);
	TEST_ASSERT_EQ(arg.nr, 3);
	TEST_ASSERT_EQ(arg.size, 0);
	TEST_ASSERT_EQ(arg.offset, SIZE);
	TEST_ASSERT(!memcmp(ranges, all, sizeof(all)), "the ranges differ");
	TEST_ASSERT(!memcmp(&ranges[3], &canary, sizeof(canary)),
		    "more was written than reported");

	/* Exactly enough. */
	arg.offset = 0;
	arg.size = SIZE;
	arg.nr = 3;
	TEST_ASSERT_EQ(__gmem_get_ranges(self->fd, &arg), 0);
	TEST_ASSERT_EQ(arg.size, 0);

	/* Nothing was populated by asking. */
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), 4 * PAGE_SIZE);
}

static void check_fdinfo(int fd)
{
	struct kvm_gmem_range ranges[NR_PAGES];
	uint64_t private = 0, populated = 0, on_nodes = 0;
	char key[32];
	int n, i;

	n = gmem_get_ranges(fd, 0, SIZE, KVM_GMEM_RANGES_BY_NODE, ranges, NR_PAGES);
	for (i = 0; i < n; i++) {
		populated += ranges[i].populated;
		if (ranges[i].flags & KVM_GMEM_RANGE_PRIVATE)
			private += ranges[i].size;
	}

	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-size"), SIZE);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-private"), private);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-shared"), SIZE - private);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-populated"), populated);

	for (i = 0; i < 64; i++) {
		int64_t on_node;
		uint64_t expect = 0;
		int j;

		for (j = 0; j < n; j++)
			if (ranges[j].node == i)
				expect += ranges[j].populated;

		snprintf(key, sizeof(key), "gmem-node%d", i);
		on_node = gmem_fdinfo(fd, key);
		TEST_ASSERT_EQ(on_node, expect ?: -1);
		if (on_node > 0)
			on_nodes += on_node;
	}
	TEST_ASSERT_EQ(on_nodes, populated);
}

GMEM_TEST(gmem_ranges, fdinfo)
{
	check_fdinfo(self->fd);
	make_example(self->fd, self->mem);
	check_fdinfo(self->fd);
	gmem_make_private(self->fd, 0, SIZE);
	check_fdinfo(self->fd);
	fallocate_ok(self->fd, FALLOC_FL_KEEP_SIZE, 0, SIZE);
	check_fdinfo(self->fd);
	fallocate_ok(self->fd, PUNCH, 0, SIZE);
	check_fdinfo(self->fd);
}

GMEM_TEST(gmem_ranges, lseek)
{
	int fd = self->fd, n;

	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_END), SIZE);
	TEST_ASSERT_EQ(lseek(fd, 3, SEEK_SET), 3);
	TEST_ASSERT_EQ(lseek(fd, 4, SEEK_CUR), 7);
	TEST_ASSERT_EQ(lseek(fd, -1, SEEK_SET), -1);
	TEST_ASSERT_EQ(errno, EINVAL);

	/* Nothing is populated. */
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_HOLE), 0);
	TEST_ASSERT_EQ(lseek(fd, SIZE - 1, SEEK_HOLE), SIZE - 1);
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_DATA), -1);
	TEST_ASSERT_EQ(errno, ENXIO);

	make_example(fd, self->mem);
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_HOLE), 0);
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_DATA), PAGE_SIZE);
	TEST_ASSERT_EQ(lseek(fd, PAGE_SIZE, SEEK_DATA), PAGE_SIZE);
	TEST_ASSERT_EQ(lseek(fd, PAGE_SIZE + 8, SEEK_DATA), PAGE_SIZE + 8);
	TEST_ASSERT_EQ(lseek(fd, PAGE_SIZE, SEEK_HOLE), 3 * PAGE_SIZE);
	TEST_ASSERT_EQ(lseek(fd, 3 * PAGE_SIZE, SEEK_DATA), 4 * PAGE_SIZE);
	TEST_ASSERT_EQ(lseek(fd, 4 * PAGE_SIZE, SEEK_HOLE), 5 * PAGE_SIZE);
	TEST_ASSERT_EQ(lseek(fd, 5 * PAGE_SIZE + 1, SEEK_HOLE), 5 * PAGE_SIZE + 1);
	TEST_ASSERT_EQ(lseek(fd, 5 * PAGE_SIZE, SEEK_DATA), 7 * PAGE_SIZE);
	TEST_ASSERT_EQ(lseek(fd, 8 * PAGE_SIZE, SEEK_DATA), -1);
	TEST_ASSERT_EQ(errno, ENXIO);

	/* All of it is, private or not: the end is a hole. */
	fallocate_ok(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE);
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_HOLE), SIZE);
	TEST_ASSERT_EQ(lseek(fd, SIZE - 1, SEEK_DATA), SIZE - 1);

	for (n = 0; n < NR_PAGES; n += 2)
		fallocate_ok(fd, PUNCH, n * PAGE_SIZE, PAGE_SIZE);
	for (n = 0; n < NR_PAGES; n += 2) {
		TEST_ASSERT_EQ(lseek(fd, n * PAGE_SIZE, SEEK_DATA),
			       (n + 1) * PAGE_SIZE);
		TEST_ASSERT_EQ(lseek(fd, (n + 1) * PAGE_SIZE, SEEK_HOLE),
			       (n + 2) * PAGE_SIZE);
	}

	/* Beyond. */
	TEST_ASSERT_EQ(lseek(fd, SIZE, SEEK_DATA), -1);
	TEST_ASSERT_EQ(errno, ENXIO);
	TEST_ASSERT_EQ(lseek(fd, SIZE, SEEK_HOLE), -1);
	TEST_ASSERT_EQ(errno, ENXIO);
	TEST_ASSERT_EQ(lseek(fd, -1, SEEK_DATA), -1);
	TEST_ASSERT_EQ(errno, ENXIO);
	TEST_ASSERT_EQ(lseek(fd, -1, SEEK_HOLE), -1);
	TEST_ASSERT_EQ(errno, ENXIO);
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_HOLE + 1), -1);
	TEST_ASSERT_EQ(errno, EINVAL);
}

/* The first half private, and all of it full of patterns. */
static void make_half_private(int fd, char *mem, struct kvm_vcpu *vcpu)
{
	gmem_fill(mem, 0, SIZE, 1);
	gmem_make_private(fd, 0, SIZE / 2);
	TEST_ASSERT_EQ(guest_check(vcpu, 0, SIZE, 1), 0);
}

static void check_half_private(int fd)
{
	struct kvm_gmem_range ranges[2];

	TEST_ASSERT_EQ(gmem_get_ranges(fd, 0, SIZE, 0, ranges, 2), 2);
	TEST_ASSERT_EQ(ranges[0].flags, KVM_GMEM_RANGE_PRIVATE);
	TEST_ASSERT_EQ(ranges[0].size, SIZE / 2);
}

/* 14: a hole reads as zero, on both sides, and keeps the state. */
GMEM_TEST(gmem_ranges, punch_hole)
{
	int fd = self->fd;

	make_half_private(fd, self->mem, self->vcpu);

	/* In private memory, in shared memory, and across the border. */
	fallocate_ok(fd, PUNCH, PAGE_SIZE, PAGE_SIZE);
	fallocate_ok(fd, PUNCH, 14 * PAGE_SIZE, PAGE_SIZE);
	fallocate_ok(fd, PUNCH, 7 * PAGE_SIZE, 2 * PAGE_SIZE);
	check_half_private(fd);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE - 4 * PAGE_SIZE);

	gmem_assert_no_access(self->mem + PAGE_SIZE, PAGE_SIZE);
	gmem_assert_no_access(self->mem + 7 * PAGE_SIZE, PAGE_SIZE);
	gmem_check_zero(self->mem, 14 * PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, 14 * PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, 7 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
	gmem_check_zero(self->mem, 8 * PAGE_SIZE, PAGE_SIZE);

	/* What is around them is as it was. */
	TEST_ASSERT_EQ(guest_check(self->vcpu, 0, PAGE_SIZE, 1), 0);
	TEST_ASSERT_EQ(guest_check(self->vcpu, 2 * PAGE_SIZE, 5 * PAGE_SIZE, 1), 0);
	TEST_ASSERT_EQ(guest_check(self->vcpu, 9 * PAGE_SIZE, 5 * PAGE_SIZE, 1), 0);
	gmem_check(self->mem, 15 * PAGE_SIZE, PAGE_SIZE, 1);

	/* 38: host and guest see the same new page. */
	gmem_fill(self->mem, 14 * PAGE_SIZE, PAGE_SIZE, 2);
	TEST_ASSERT_EQ(guest_check(self->vcpu, 14 * PAGE_SIZE, PAGE_SIZE, 2), 0);
	gmem_guest_call(self->vcpu, gmem_guest_fill, GMEM_GVA + PAGE_SIZE,
			PAGE_SIZE, 3);
	gmem_make_shared(fd, PAGE_SIZE, PAGE_SIZE);
	gmem_check(self->mem, PAGE_SIZE, PAGE_SIZE, 3);
	gmem_make_private(fd, PAGE_SIZE, PAGE_SIZE);

	/* All of it, and more; twice. */
	fallocate_ok(fd, PUNCH, 0, 2 * SIZE);
	fallocate_ok(fd, PUNCH, 0, SIZE);
	check_half_private(fd);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), 0);
	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, 0, SIZE), 0);
	gmem_check_zero(self->mem, SIZE / 2, SIZE / 2);

	/* From where there is something to beyond the end. */
	fallocate_ok(fd, PUNCH, SIZE - PAGE_SIZE, BIT_ULL(40));
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE - PAGE_SIZE);
}

/* Zero in place: the very pages, mapped where they are mapped. */
GMEM_TEST(gmem_ranges, zero_range)
{
	int fd = self->fd;

	make_half_private(fd, self->mem, self->vcpu);

	fallocate_ok(fd, ZERO, PAGE_SIZE, PAGE_SIZE);
	fallocate_ok(fd, ZERO, 14 * PAGE_SIZE, PAGE_SIZE);
	fallocate_ok(fd, ZERO, 7 * PAGE_SIZE, 2 * PAGE_SIZE);
	check_half_private(fd);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE);

	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, 14 * PAGE_SIZE, PAGE_SIZE), 0);
	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, 7 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
	gmem_check_zero(self->mem, 14 * PAGE_SIZE, PAGE_SIZE);
	gmem_check_zero(self->mem, 8 * PAGE_SIZE, PAGE_SIZE);
	gmem_assert_no_access(self->mem, SIZE / 2);

	TEST_ASSERT_EQ(guest_check(self->vcpu, 0, PAGE_SIZE, 1), 0);
	TEST_ASSERT_EQ(guest_check(self->vcpu, 2 * PAGE_SIZE, 5 * PAGE_SIZE, 1), 0);
	TEST_ASSERT_EQ(guest_check(self->vcpu, 9 * PAGE_SIZE, 5 * PAGE_SIZE, 1), 0);
	gmem_check(self->mem, 15 * PAGE_SIZE, PAGE_SIZE, 1);

	/* Holes are zero already, and stay holes. */
	fallocate_ok(fd, PUNCH, 0, SIZE);
	fallocate_ok(fd, ZERO, 0, SIZE);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), 0);
	check_half_private(fd);
	fallocate_ok(fd, FALLOC_FL_KEEP_SIZE, 3 * PAGE_SIZE, PAGE_SIZE);
	fallocate_ok(fd, ZERO, 0, SIZE);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), PAGE_SIZE);
}

/* Allocation fills holes, leaves the rest alone, and changes no state. */
GMEM_TEST(gmem_ranges, allocate)
{
	int fd = self->fd;

	make_half_private(fd, self->mem, self->vcpu);
	fallocate_ok(fd, PUNCH, 4 * PAGE_SIZE, 8 * PAGE_SIZE);
	fallocate_ok(fd, FALLOC_FL_KEEP_SIZE, 2 * PAGE_SIZE, 4 * PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE - 6 * PAGE_SIZE);
	fallocate_ok(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE);
	check_half_private(fd);

	TEST_ASSERT_EQ(guest_check(self->vcpu, 0, 4 * PAGE_SIZE, 1), 0);
	TEST_ASSERT_EQ(guest_check_zero(self->vcpu, 4 * PAGE_SIZE, 8 * PAGE_SIZE), 0);
	gmem_check_zero(self->mem, 8 * PAGE_SIZE, 4 * PAGE_SIZE);
	gmem_check(self->mem, 12 * PAGE_SIZE, 4 * PAGE_SIZE, 1);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();

	return test_harness_run(argc, argv);
}
