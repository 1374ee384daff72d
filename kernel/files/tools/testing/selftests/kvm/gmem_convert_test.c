// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: what conversion does, as the host, the
 * guest and other processes see it.
 *
 * Numbers in comments are those of the project's list of pitfalls.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	16
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)

FIXTURE(gmem_convert) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu[2];
	int fd;
	char *mem;
};

GMEM_FIXTURE_VARIANTS(gmem_convert);
GMEM_FIXTURE_MORE_VARIANTS(gmem_convert);

FIXTURE_SETUP(gmem_convert)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 2, self->vcpu, NR_PAGES);
	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	self->mem = gmem_mmap(self->fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->mem : NULL, self->fd, 0);
}

FIXTURE_TEARDOWN(gmem_convert)
{
	kvm_vm_free(self->vm);
	munmap(self->mem, SIZE);
	close(self->fd);
}

static void guest_fill(struct kvm_vcpu *vcpu, uint64_t offset, uint64_t size,
		       uint64_t seed)
{
	gmem_guest_call(vcpu, gmem_guest_fill, GMEM_GVA + offset, size, seed);
}

static void guest_check(struct kvm_vcpu *vcpu, uint64_t offset, uint64_t size,
			uint64_t seed)
{
	uint64_t bad = gmem_guest_call(vcpu, gmem_guest_check, GMEM_GVA + offset,
				       size, seed);

	TEST_ASSERT(!bad, "the guest reads something else at %#lx", bad);
}

static void guest_check_zero(struct kvm_vcpu *vcpu, uint64_t offset,
			     uint64_t size)
{
	uint64_t bad = gmem_guest_call(vcpu, gmem_guest_check_zero,
				       GMEM_GVA + offset, size, 0);

	TEST_ASSERT(!bad, "the guest does not read 0 at %#lx", bad);
}

static void check_state(int fd, uint64_t offset, uint64_t size, bool private)
{
	struct kvm_gmem_range range;

	gmem_get_ranges(fd, offset, size, 0, &range, 1);
	TEST_ASSERT_EQ(range.flags, private ? KVM_GMEM_RANGE_PRIVATE : 0);
}

/*
 * 38: host and guest look at the same page, before, between and after, for
 * every page by itself, and no page gets another one's contents.
 */
GMEM_TEST(gmem_convert, identity)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	uint64_t offset, n;

	for (n = 0; n < NR_PAGES; n++) {
		offset = n * PAGE_SIZE;

		gmem_fill(self->mem, offset, PAGE_SIZE, 1);
		guest_check(vcpu, offset, PAGE_SIZE, 1);
		guest_fill(vcpu, offset, PAGE_SIZE, 2);
		gmem_check(self->mem, offset, PAGE_SIZE, 2);

		gmem_make_private(self->fd, offset, PAGE_SIZE);
		guest_check(vcpu, offset, PAGE_SIZE, 2);
		guest_fill(vcpu, offset, PAGE_SIZE, 3);
		gmem_assert_no_access(self->mem + offset, PAGE_SIZE);
		guest_check(vcpu, offset, PAGE_SIZE, 3);

		gmem_make_shared(self->fd, offset, PAGE_SIZE);
		gmem_check(self->mem, offset, PAGE_SIZE, 3);
		gmem_fill(self->mem, offset, PAGE_SIZE, 4 + n);
		guest_check(vcpu, offset, PAGE_SIZE, 4 + n);
	}

	for (n = 0; n < NR_PAGES; n++) {
		gmem_check(self->mem, n * PAGE_SIZE, PAGE_SIZE, 4 + n);
		guest_check(self->vcpu[1], n * PAGE_SIZE, PAGE_SIZE, 4 + n);
	}
}

/* All at once, and in an order in which the guest's mappings come first. */
GMEM_TEST(gmem_convert, whole_file)
{
	int i;

	guest_check_zero(self->vcpu[0], 0, SIZE);
	gmem_fill(self->mem, 0, SIZE, 1);

	for (i = 1; i < 4; i++) {
		gmem_make_private(self->fd, 0, SIZE);
		check_state(self->fd, 0, SIZE, true);
		gmem_assert_no_access(self->mem, SIZE);
		guest_check(self->vcpu[0], 0, SIZE, i);
		guest_check(self->vcpu[1], 0, SIZE, i);
		guest_fill(self->vcpu[1], 0, SIZE, i + 1);

		gmem_make_shared(self->fd, 0, SIZE);
		check_state(self->fd, 0, SIZE, false);
		gmem_check(self->mem, 0, SIZE, i + 1);
		guest_check(self->vcpu[0], 0, SIZE, i + 1);
	}

	/* 13: nothing was freed or allocated on the way. */
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), SIZE);
}

/* Without any access in between; the host's first touch comes afterwards. */
GMEM_TEST(gmem_convert, unpopulated)
{
	gmem_make_private(self->fd, 0, SIZE);
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_make_private(self->fd, 0, SIZE);
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), 0);

	guest_check_zero(self->vcpu[0], 0, SIZE / 2);
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), SIZE / 2);

	gmem_make_shared(self->fd, 0, SIZE);
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), SIZE / 2);
	gmem_check_zero(self->mem, 0, SIZE);
}

/*
 * 1, 32: what is in the wanted state already is left alone, and a guest gets
 * at its memory in either state without an exit that asks for the other one.
 */
GMEM_TEST(gmem_convert, mixed_request)
{
	const uint64_t half = SIZE / 2;

	/* As a VMM does: load some, then make all of it private. */
	gmem_make_private(self->fd, half, half);
	guest_fill(self->vcpu[0], half, half, 1);
	gmem_fill(self->mem, 0, half, 2);

	gmem_make_private(self->fd, 0, SIZE);
	guest_check(self->vcpu[0], half, half, 1);
	guest_check(self->vcpu[0], 0, half, 2);
	gmem_make_private(self->fd, 0, SIZE);
	guest_check(self->vcpu[0], half, half, 1);
	guest_check(self->vcpu[0], 0, half, 2);

	gmem_make_shared(self->fd, 0, half);
	gmem_fill(self->mem, 0, half, 3);
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_check(self->mem, 0, half, 3);
	gmem_check(self->mem, half, half, 1);
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_check(self->mem, 0, half, 3);
	guest_check(self->vcpu[0], half, half, 1);
}

/* Ranges that end or begin inside of runs, at either end of the file. */
GMEM_TEST(gmem_convert, partial)
{
	struct kvm_gmem_range ranges[NR_PAGES];

	gmem_fill(self->mem, 0, SIZE, 1);

	gmem_make_private(self->fd, 4 * PAGE_SIZE, 8 * PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_get_ranges(self->fd, 0, SIZE, 0, ranges, NR_PAGES), 3);
	gmem_make_shared(self->fd, 2 * PAGE_SIZE, 4 * PAGE_SIZE);
	gmem_make_shared(self->fd, 10 * PAGE_SIZE, 4 * PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_get_ranges(self->fd, 0, SIZE, 0, ranges, NR_PAGES), 3);
	TEST_ASSERT_EQ(ranges[1].offset, 6 * PAGE_SIZE);
	TEST_ASSERT_EQ(ranges[1].size, 4 * PAGE_SIZE);
	gmem_make_private(self->fd, 0, 7 * PAGE_SIZE);
	gmem_make_private(self->fd, 9 * PAGE_SIZE, 7 * PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_get_ranges(self->fd, 0, SIZE, 0, ranges, NR_PAGES), 1);
	guest_check(self->vcpu[0], 0, SIZE, 1);

	gmem_make_shared(self->fd, 0, PAGE_SIZE);
	gmem_make_shared(self->fd, SIZE - PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_get_ranges(self->fd, 0, SIZE, 0, ranges, NR_PAGES), 3);
	gmem_check(self->mem, 0, PAGE_SIZE, 1);
	gmem_check(self->mem, SIZE - PAGE_SIZE, PAGE_SIZE, 1);
	gmem_assert_no_access(self->mem + PAGE_SIZE, SIZE - 2 * PAGE_SIZE);
}

static void convert_model(int fd, bool *private, uint64_t first, uint64_t nr,
			  bool to_private)
{
	int r = __gmem_convert(fd, to_private, first * PAGE_SIZE, nr * PAGE_SIZE,
			       0, NULL);

	TEST_ASSERT(!r, "conversion: %s", strerror(-r));
	while (nr--)
		private[first + nr] = to_private;
}

/* 10, 11, 12: every other page, in both directions, up and down. */
GMEM_TEST(gmem_convert, alternating)
{
	bool private[NR_PAGES] = {};
	int n, to, phase;

	gmem_fill(self->mem, 0, SIZE, 1);

	for (to = 1; to >= 0; to--) {
		for (phase = 0; phase < 2; phase++) {
			for (n = phase; n < NR_PAGES; n += 2) {
				convert_model(self->fd, private, n, 1, to);
				gmem_check_states(self->fd, private, NR_PAGES);
			}
			guest_check(self->vcpu[0], 0, SIZE, 1);
		}
	}
	for (to = 1; to >= 0; to--) {
		for (phase = 0; phase < 2; phase++) {
			for (n = NR_PAGES - 1 - phase; n >= 0; n -= 2) {
				convert_model(self->fd, private, n, 1, to);
				gmem_check_states(self->fd, private, NR_PAGES);
			}
			guest_check(self->vcpu[0], 0, SIZE, 1);
		}
	}

	/* An alternating pattern, converted at once, there and back. */
	for (n = 1; n < NR_PAGES; n += 2)
		convert_model(self->fd, private, n, 1, true);
	gmem_check_states(self->fd, private, NR_PAGES);
	convert_model(self->fd, private, 0, NR_PAGES, true);
	gmem_check_states(self->fd, private, NR_PAGES);
	for (n = 0; n < NR_PAGES; n += 2)
		convert_model(self->fd, private, n, 1, false);
	gmem_check_states(self->fd, private, NR_PAGES);
	convert_model(self->fd, private, 0, NR_PAGES, false);
	gmem_check_states(self->fd, private, NR_PAGES);
	gmem_check(self->mem, 0, SIZE, 1);
}

/* 12: at random; what every page holds is kept. */
GMEM_TEST(gmem_convert, random)
{
	bool private[NR_PAGES] = {};
	uint64_t i, first, nr;

	gmem_fill(self->mem, 0, SIZE, 1);
	guest_check(self->vcpu[0], 0, SIZE, 1);

	srandom(1);
	for (i = 0; i < 300; i++) {
		first = random() % NR_PAGES;
		nr = random() % (NR_PAGES - first) + 1;
		convert_model(self->fd, private, first, nr, random() % 2);
		gmem_check_states(self->fd, private, NR_PAGES);

		/* Private is private to the host, shared is not, for one page. */
		TEST_ASSERT_EQ(gmem_peek(self->mem + first * PAGE_SIZE, NULL),
			       private[first] ? BUS_ADRERR : 0);
		if (i % 50 == 0)
			guest_check(self->vcpu[0], 0, SIZE, 1);
	}

	guest_check(self->vcpu[1], 0, SIZE, 1);
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_check(self->mem, 0, SIZE, 1);
}

static void *touch(void *mem)
{
	gmem_fill(mem, 0, SIZE, 1);
	return NULL;
}

/* 5: memory that was touched just now, here or on the other processor. */
GMEM_TEST(gmem_convert, just_touched)
{
	pthread_t thread;
	cpu_set_t all;
	int i, n;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(all), &all), "no affinity");

	for (n = 0; n < NR_PAGES; n++) {
		gmem_fill(self->mem, n * PAGE_SIZE, PAGE_SIZE, 1);
		gmem_make_private(self->fd, n * PAGE_SIZE, PAGE_SIZE);
	}

	for (i = 0; i < 8; i++) {
		gmem_make_shared(self->fd, 0, SIZE);
		TEST_ASSERT(!__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
					      FALLOC_FL_PUNCH_HOLE, 0, SIZE),
			    "fallocate() failed");
		/* Fresh folios, in a batch of another processor if there is one. */
		if (CPU_ISSET(1, &all))
			kvm_pin_this_task_to_pcpu(i % 2);
		TEST_ASSERT(!pthread_create(&thread, NULL, touch, self->mem),
			    "pthread_create() failed");
		pthread_join(thread, NULL);
		if (CPU_ISSET(1, &all))
			kvm_pin_this_task_to_pcpu(!(i % 2));
		gmem_make_private(self->fd, 0, SIZE);
		guest_check(self->vcpu[0], 0, SIZE, 1);
	}
}

/* Every mapping there is loses the memory, and gets it back. */
GMEM_TEST(gmem_convert, many_mappings)
{
	char *maps[4];
	int i;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		maps[i] = gmem_mmap(self->fd, SIZE);
		gmem_fill(maps[i], 0, SIZE, i);
	}
	/* Pages that are locked convert. */
	TEST_ASSERT(!mlock(maps[0], SIZE), "mlock() failed");
	TEST_ASSERT(!mprotect(maps[1], SIZE, PROT_READ), "mprotect() failed");

	gmem_make_private(self->fd, PAGE_SIZE, SIZE - 2 * PAGE_SIZE);
	for (i = 2; i < ARRAY_SIZE(maps); i++)
		gmem_assert_no_access(maps[i] + PAGE_SIZE, SIZE - 2 * PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_peek(maps[0] + PAGE_SIZE, NULL), BUS_ADRERR);
	TEST_ASSERT_EQ(gmem_peek(maps[1] + PAGE_SIZE, NULL), BUS_ADRERR);
	gmem_assert_no_access(self->mem + PAGE_SIZE, SIZE - 2 * PAGE_SIZE);
	gmem_check(maps[0], 0, PAGE_SIZE, 3);
	gmem_check(maps[1], SIZE - PAGE_SIZE, PAGE_SIZE, 3);

	/* No game with a mapping brings private memory back. */
	TEST_ASSERT(!mprotect(maps[1], SIZE, PROT_READ | PROT_WRITE),
		    "mprotect() failed");
	gmem_assert_no_access(maps[1] + PAGE_SIZE, PAGE_SIZE);
	maps[2] = mremap(maps[2], SIZE, 2 * SIZE, MREMAP_MAYMOVE);
	TEST_ASSERT(maps[2] != MAP_FAILED, "mremap() failed");
	gmem_assert_no_access(maps[2] + PAGE_SIZE, PAGE_SIZE);
	maps[3] = mmap(maps[3], SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, self->fd, 0);
	TEST_ASSERT(maps[3] != MAP_FAILED, "mmap() failed");
	gmem_assert_no_access(maps[3] + PAGE_SIZE, PAGE_SIZE);

	gmem_make_shared(self->fd, 0, SIZE);
	gmem_check(maps[0], 0, SIZE, 3);
	gmem_check(maps[1], 0, SIZE, 3);
	gmem_check(maps[2], 0, SIZE, 3);
	gmem_check(maps[3], 0, SIZE, 3);
	munmap(maps[0], SIZE);
	munmap(maps[1], SIZE);
	munmap(maps[2], 2 * SIZE);
	munmap(maps[3], SIZE);
}

/* ZERO: what changes its state is zeroed, what is shared already is not. */
GMEM_TEST(gmem_convert, zero)
{
	uint64_t n, error_offset;

	gmem_fill(self->mem, 0, SIZE, 1);
	for (n = 1; n < NR_PAGES; n += 2)
		gmem_make_private(self->fd, n * PAGE_SIZE, PAGE_SIZE);
	guest_check(self->vcpu[0], 0, SIZE, 1);

	TEST_ASSERT_EQ(__gmem_convert(self->fd, false, 0, SIZE,
				      KVM_GMEM_CONVERT_ZERO, &error_offset), 0);
	for (n = 0; n < NR_PAGES; n++) {
		if (n % 2) {
			gmem_check_zero(self->mem, n * PAGE_SIZE, PAGE_SIZE);
			guest_check_zero(self->vcpu[0], n * PAGE_SIZE, PAGE_SIZE);
		} else {
			gmem_check(self->mem, n * PAGE_SIZE, PAGE_SIZE, 1);
			guest_check(self->vcpu[0], n * PAGE_SIZE, PAGE_SIZE, 1);
		}
	}

	/* All is shared: nothing to do. */
	gmem_fill(self->mem, 0, SIZE, 2);
	TEST_ASSERT_EQ(__gmem_convert(self->fd, false, 0, SIZE,
				      KVM_GMEM_CONVERT_ZERO, &error_offset), 0);
	gmem_check(self->mem, 0, SIZE, 2);
	guest_check(self->vcpu[0], 0, SIZE, 2);

	/* Nothing is allocated in order to be zero. */
	gmem_make_private(self->fd, 0, SIZE);
	TEST_ASSERT(!__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
				      FALLOC_FL_PUNCH_HOLE, 0, SIZE / 2),
		    "fallocate() failed");
	TEST_ASSERT_EQ(__gmem_convert(self->fd, false, 0, SIZE,
				      KVM_GMEM_CONVERT_ZERO, &error_offset), 0);
	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), SIZE / 2);
	gmem_check_zero(self->mem, 0, SIZE);
}

/* 15: a child that had the memory mapped, and touched it, before. */
GMEM_TEST(gmem_convert, two_processes)
{
	int up[2], down[2];
	pid_t pid;

	TEST_ASSERT(!pipe(up) && !pipe(down), "pipe() failed");
	gmem_fill(self->mem, 0, SIZE, 1);

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		char *mem;

		close(up[0]);
		close(down[1]);
		mem = gmem_mmap(self->fd, SIZE);
		gmem_check(self->mem, 0, SIZE, 1);
		gmem_check(mem, 0, SIZE, 1);
		gmem_fill(mem, 0, SIZE, 2);
		gmem_step(up[1]);

		/* The parent makes it private. */
		gmem_await(down[0]);
		gmem_assert_no_access(self->mem, SIZE);
		gmem_assert_no_access(mem, SIZE);

		/* The child makes the second half shared. */
		gmem_make_shared(self->fd, SIZE / 2, SIZE / 2);
		gmem_check(mem, SIZE / 2, SIZE / 2, 2);
		gmem_assert_no_access(mem, SIZE / 2);
		gmem_fill(mem, SIZE / 2, SIZE / 2, 3);
		gmem_step(up[1]);

		/* The parent has made it private again; share it all. */
		gmem_await(down[0]);
		gmem_assert_no_access(mem, SIZE);
		gmem_make_shared(self->fd, 0, SIZE);
		gmem_fill(mem, 0, SIZE, 4);
		/* And private, with the parent's mappings there. */
		gmem_step(up[1]);
		gmem_await(down[0]);
		gmem_make_private(self->fd, 0, SIZE);
		_exit(0);
	}
	close(up[1]);
	close(down[0]);

	gmem_await(up[0]);
	gmem_check(self->mem, 0, SIZE, 2);
	gmem_make_private(self->fd, 0, SIZE);
	guest_check(self->vcpu[0], 0, SIZE, 2);
	gmem_step(down[1]);

	gmem_await(up[0]);
	gmem_check(self->mem, SIZE / 2, SIZE / 2, 3);
	gmem_assert_no_access(self->mem, SIZE / 2);
	guest_check(self->vcpu[0], SIZE / 2, SIZE / 2, 3);
	gmem_make_private(self->fd, SIZE / 2, SIZE / 2);
	gmem_step(down[1]);

	gmem_await(up[0]);
	gmem_check(self->mem, 0, SIZE, 4);
	gmem_step(down[1]);
	gmem_reap(pid);
	gmem_assert_no_access(self->mem, SIZE);
	guest_check(self->vcpu[0], 0, SIZE, 4);
	close(up[0]);
	close(down[1]);
}

/*
 * 15: whoever holds the descriptor gets no further than the state allows, and
 * a file that only another process has keeps its memory.
 */
GMEM_TEST(gmem_convert, passed_descriptor)
{
	int socks[2];
	pid_t pid;
	int fd;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, socks), "socketpair() failed");

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		char *mem;

		close(socks[1]);
		close(self->fd);
		munmap(self->mem, SIZE);
		fd = gmem_receive_fd(socks[0]);
		mem = gmem_mmap(fd, SIZE);
		gmem_assert_no_access(mem, SIZE / 2);
		gmem_check(mem, SIZE / 2, SIZE / 2, 1);
		gmem_make_shared(fd, 0, SIZE / 2);
		gmem_check(mem, 0, SIZE / 2, 1);
		gmem_fill(mem, 0, SIZE, 2);
		_exit(0);
	}

	close(socks[0]);
	gmem_fill(self->mem, 0, SIZE, 1);
	gmem_make_private(self->fd, 0, SIZE / 2);
	guest_check(self->vcpu[0], 0, SIZE, 1);
	gmem_send_fd(socks[1], self->fd);
	gmem_reap(pid);
	close(socks[1]);
	gmem_check(self->mem, 0, SIZE, 2);
	guest_check(self->vcpu[0], 0, SIZE, 2);

	/* A file that nobody but a message in flight holds. */
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, socks), "socketpair() failed");
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	gmem_send_fd(socks[1], fd);
	close(fd);
	fd = gmem_receive_fd(socks[0]);
	gmem_make_private(fd, 0, SIZE);
	close(fd);
	close(socks[0]);
	close(socks[1]);
}

/* (pages, rounds): count in the first word of each page. */
static uint64_t guest_count(uint64_t nr, uint64_t rounds, uint64_t c)
{
	uint64_t i, n;

	for (i = 0; i < rounds; i++) {
		for (n = 0; n < nr; n++) {
			uint64_t *p = (uint64_t *)(GMEM_GVA + n * PAGE_SIZE);

			if (READ_ONCE(*p) != i)
				return (n + 1) << 32 | READ_ONCE(*p);
			WRITE_ONCE(*p, i + 1);
		}
	}
	return 0;
}

#define ROUNDS	20000

static void *run_guest_count(void *vcpu)
{
	uint64_t r = gmem_guest_call(vcpu, guest_count, NR_PAGES, ROUNDS, 0);

	TEST_ASSERT(!r, "page %lu lost a value, has %lu", (r >> 32) - 1,
		    r & UINT32_MAX);
	return vcpu;
}

/* The guest does not notice that its memory is converted, there and back. */
GMEM_TEST(gmem_convert, running_guest)
{
	pthread_t thread;
	uint64_t n = 0;
	int done = 0;

	TEST_ASSERT(!pthread_create(&thread, NULL, run_guest_count, self->vcpu[0]),
		    "pthread_create() failed");
	while (!done) {
		int r = __gmem_convert(self->fd, true, n % NR_PAGES * PAGE_SIZE,
				       (NR_PAGES - n % NR_PAGES) * PAGE_SIZE, 0,
				       NULL);

		TEST_ASSERT(!r, "conversion: %s", strerror(-r));
		TEST_ASSERT_EQ(gmem_peek(self->mem + SIZE - PAGE_SIZE, NULL),
			       BUS_ADRERR);
		gmem_make_shared(self->fd, 0, SIZE);
		TEST_ASSERT(gmem_peek(self->mem + n % NR_PAGES * PAGE_SIZE, NULL) == 0,
			    "shared, and out of reach");
		n++;
		done = !pthread_tryjoin_np(thread, NULL);
	}
	for (n = 0; n < NR_PAGES; n++)
		TEST_ASSERT_EQ(*(uint64_t *)(self->mem + n * PAGE_SIZE), ROUNDS);
}

#define BUSY_PAGES	512
#define BUSY_SIZE	((uint64_t)BUSY_PAGES * PAGE_SIZE)
#define BUSY_VCPUS	4
#define BUSY_ROUNDS	400

struct busy {
	struct kvm_vcpu *vcpu;
	volatile bool stop;
	volatile uint64_t rounds;
};

static uint64_t guest_touch(uint64_t gva, uint64_t nr_pages, uint64_t rounds)
{
	uint64_t i, n;

	for (n = 0; n < rounds; n++)
		for (i = 0; i < nr_pages; i++)
			WRITE_ONCE(*(uint64_t *)(gva + i * PAGE_SIZE), n);
	return 0;
}

static void *run_guest_touch(void *data)
{
	struct busy *busy = data;

	while (!busy->stop) {
		gmem_guest_call(busy->vcpu, guest_touch, GMEM_GVA, BUSY_PAGES, 10);
		busy->rounds++;
	}
	return NULL;
}

/*
 * What the guest does with its memory, and be it to fault on it all the time or
 * to touch it for the first time, is no reason to refuse a conversion.
 */
GMEM_TEST(gmem_convert, guest_is_no_user)
{
	struct kvm_vcpu *vcpus[BUSY_VCPUS];
	struct kvm_vm *vm = gmem_vm_create(variant->type, BUSY_VCPUS, vcpus, BUSY_PAGES);
	struct busy busy[BUSY_VCPUS] = {};
	pthread_t threads[BUSY_VCPUS];
	int fd, i, n, failed = 0;
	uint64_t rounds;
	char *mem;

	fd = gmem_create(vm, BUSY_SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, BUSY_SIZE);
	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, BUSY_SIZE, variant->hva ? mem : NULL, fd, 0);

	for (i = 0; i < BUSY_VCPUS; i++) {
		busy[i].vcpu = vcpus[i];
		TEST_ASSERT(!pthread_create(&threads[i], NULL, run_guest_touch, &busy[i]),
			    "pthread_create() failed");
	}
	for (n = 0, rounds = 0; n < BUSY_ROUNDS || rounds < BUSY_VCPUS; n++) {
		/* Now and then all of it is new. */
		if (n % 32 == 0)
			TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_PUNCH_HOLE |
							FALLOC_FL_KEEP_SIZE, 0, BUSY_SIZE), 0);
		failed += !!__gmem_convert(fd, true, 0, BUSY_SIZE, 0, NULL);
		gmem_make_shared(fd, 0, BUSY_SIZE);
		for (i = 0, rounds = 0; i < BUSY_VCPUS; i++)
			rounds += busy[i].rounds;
	}
	for (i = 0; i < BUSY_VCPUS; i++) {
		busy[i].stop = true;
		TEST_ASSERT(!pthread_join(threads[i], NULL), "pthread_join() failed");
	}
	TEST_ASSERT(!failed, "%d of %d conversions failed", failed, n);

	kvm_vm_free(vm);
	munmap(mem, BUSY_SIZE);
	close(fd);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();

	return test_harness_run(argc, argv);
}
