/* SPDX-License-Identifier: MIT */
/* What the kernel tells of a memory, and how it is added up. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "expect.h"
#include "runs.h"
#include "unit.h"

#define MANY 5000u

static void test_sums(void)
{
	struct kvm_gmem_range all[] = {
		{0, 8192, 8192, KVM_GMEM_RANGE_PRIVATE, 0},
		{8192, 4096, 0, 0, KVM_GMEM_NODE_NONE},
		{12288, 4096, 4096, 0, 1},
		{16384, 8192, 8192, 0, 0},
	};
	struct runs runs = {all, 4, 24576, 8192, 20480};

	CHECK(runs_find(&runs, 0) == &all[0] && runs_find(&runs, 8191) == &all[0]);
	CHECK(runs_find(&runs, 8192) == &all[1] && runs_find(&runs, 12287) == &all[1]);
	CHECK(runs_find(&runs, 12288) == &all[2] && runs_find(&runs, 16383) == &all[2]);
	CHECK(runs_find(&runs, 16384) == &all[3] && runs_find(&runs, 24575) == &all[3]);
	CHECK(runs_populated(&runs, -1, 0, 24576) == 20480);
	CHECK(runs_populated(&runs, 0, 0, 24576) == 16384);
	CHECK(runs_populated(&runs, 0, 0, 16384) == 8192);
	CHECK(runs_populated(&runs, 1, 4096, 12288) == 4096);
	CHECK(runs_populated(&runs, -1, 4096, 4096) == 4096);
	CHECK(runs_populated(&runs, -1, 4096, 16384) == 12288);
	CHECK(runs_populated(&runs, -1, 1024, 512) == 512);
	CHECK(runs_populated(&runs, -1, 8192, 4096) == 0);
	CHECK(runs_populated(&runs, 2, 0, 24576) == 0);
}

/* The number that the next descriptor has. */
static int next_fd(void)
{
	int fd = open("/dev/null", O_RDONLY);

	CHECK(fd >= 0 && !close(fd));
	return fd;
}

/* Neither what went well nor what did not keeps a descriptor, and so the memory. */
static void expect_error(int error, int line)
{
	const int next = next_fd();
	struct runs runs = {.count = 1};
	uint64_t bytes = 77;
	int r = runs_read(5, 6, &runs);

	if (r != error)
		fprintf(stderr, "line %d: %d\n", line, r);
	CHECK(r == error && !runs.all && !runs.count && !runs.size);
	if (error != -ENOTTY && error != -EIO) {
		CHECK(runs_count_populated(5, 6, &bytes) == error && bytes == 77);
	}
	CHECK(next_fd() == next);
}

static void to_get_no_pidfd(void *data)
{
	fake.pidfd_error = *(int *)data;
	runs_must_pidfd(42);
}

static void expect_no_pidfd(int error, const char *want, int line)
{
	expect_child(to_get_no_pidfd, &error, 3, "", want, line);
}

static void test_pidfd(void)
{
	int fd = runs_pidfd(42);

	CHECK(fd >= 0 && fake.pid == 42 && !close(fd));
	fd = runs_must_pidfd(43);
	CHECK(fd >= 0 && fake.pid == 43 && !close(fd));
	fake.pidfd_error = EMFILE;
	CHECK(runs_pidfd(42) == -EMFILE);
	fake.pidfd_error = 0;
	expect_no_pidfd(ESRCH, "gmemctl: there is no process 42\n", __LINE__);
	expect_no_pidfd(EINVAL, "gmemctl: 42 is a thread, not a process\n", __LINE__);
	expect_no_pidfd(ENOENT, "gmemctl: 42 is a thread, not a process\n", __LINE__);
	expect_no_pidfd(EMFILE, "gmemctl: process 42: Too many open files\n", __LINE__);
}

/* Watching does not grow; glibc alone tells. */
static void test_leaks(void)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
	size_t before = 0, now;
	struct runs runs;
	int i;

	for (i = 0; i < 20; i++) {
		now = mallinfo2().uordblks + mallinfo2().hblkhd;
		if (i == 10)
			before = now;
		CHECK(i <= 10 || now == before);
		CHECK(!runs_read(5, 6, &runs));
		runs_free(&runs);
	}
#endif
}

void test_runs(void)
{
	struct kvm_gmem_range *many = calloc(MANY, sizeof(*many));
	const int next = next_fd();
	struct runs runs;
	uint64_t bytes;
	size_t i;

	test_sums();
	test_pidfd();

	/* More runs than one call tells, of which every third is private, and half have memory. */
	CHECK(many);
	for (i = 0; i < MANY; i++)
		many[i] = (struct kvm_gmem_range){i * 8192, 8192, i % 2 ? 8192 : 0,
						  i % 3 ? 0 : KVM_GMEM_RANGE_PRIVATE,
						  i % 2 ? (int)(i % 4) : KVM_GMEM_NODE_NONE};
	make_memory(MANY * UINT64_C(8192));
	fake.target = "anon_inode:[kvm-gmem]";
	fake.ranges = many;
	fake.nr_ranges = MANY;
	fake.at_once = SIZE_MAX;
	CHECK(!runs_read(5, 6, &runs) && fake.fd == 6);
	CHECK(runs.count == MANY && !memcmp(runs.all, many, MANY * sizeof(*many)));
	CHECK(runs.size == MANY * UINT64_C(8192));
	CHECK(runs.private_bytes == 1667 * 8192 && runs.populated == 2500 * 8192);
	runs_free(&runs);
	CHECK(!runs.all && !runs.count && !runs.size);
	/* It may tell less than there is room for. */
	fake.at_once = 700;
	CHECK(!runs_read(5, 6, &runs) && runs.count == MANY);
	CHECK(!memcmp(runs.all, many, MANY * sizeof(*many)));
	runs_free(&runs);
	CHECK(next_fd() == next);
	test_leaks();

	fake.cached = 3;
	CHECK(!runs_count_populated(5, 7, &bytes) && fake.fd == 7);
	CHECK(bytes == 3 * (uint64_t)sysconf(_SC_PAGESIZE) && next_fd() == next);
	fake.cachestat_error = ENOSYS;
	CHECK(runs_count_populated(5, 7, &bytes) == -ENOSYS && next_fd() == next);
	fake.cachestat_error = 0;

	fake.at_once = 0; /* a kernel that does not go on */
	expect_error(-EIO, __LINE__);
	fake.at_once = SIZE_MAX;
	fake.ranges_error = ENOTTY;
	expect_error(-ENOTTY, __LINE__);
	fake.ranges_error = 0;
	fake.getfd_error = EPERM;
	expect_error(-EPERM, __LINE__);
	fake.getfd_error = 0;
	fake.target = "anon_inode:kvm-vm";
	expect_error(-EMEDIUMTYPE, __LINE__);
	fake.failing = "readlink";
	fake.failing_error = ENOENT;
	expect_error(-ENOENT, __LINE__);
	fake.failing = NULL;
	fake.target = "anon_inode:[kvm-gmem]";
	free(many);
}
