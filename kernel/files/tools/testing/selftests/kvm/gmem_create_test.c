// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: files, their mappings, fresh memory.
 *
 * Numbers in comments are those of the project's list of pitfalls.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#ifndef __NR_cachestat
#define __NR_cachestat	451
#endif

#define NR_PAGES	8
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)

FIXTURE(gmem_create) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
};

GMEM_FIXTURE_VARIANTS(gmem_create);

FIXTURE_SETUP(gmem_create)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 1, &self->vcpu, NR_PAGES);
}

FIXTURE_TEARDOWN(gmem_create)
{
	kvm_vm_free(self->vm);
}

/* 25: what there is, for both types of VM and for the system. */
GMEM_TEST(gmem_create, capabilities)
{
	uint32_t all = KVM_GMEM_CAP_CONVERT | KVM_GMEM_CAP_RANGES |
		       KVM_GMEM_CAP_ZERO_RANGE | KVM_GMEM_CAP_SEEK |
		       KVM_GMEM_CAP_LINK | KVM_GMEM_CAP_CLONE | KVM_GMEM_CAP_SHARE;
	struct kvm_gmem_convert arg = {};
	int fd;

	TEST_ASSERT_EQ(vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD), 1);
	TEST_ASSERT_EQ(vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_FLAGS), 3);
	TEST_ASSERT_EQ(vm_check_cap(self->vm, KVM_CAP_GMEM) & all, all);
	TEST_ASSERT_EQ(vm_check_cap(self->vm, KVM_CAP_GMEM) &
		       ~(all | KVM_GMEM_CAP_MEMPOLICY), 0);

	/* Whoever probes by behaviour gets EINVAL for a size of 0. */
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_CONVERT_SHARED, &arg), -1);
	TEST_ASSERT_EQ(errno, EINVAL);
	close(fd);
}

/* 24: each flag that is not known. */
GMEM_TEST(gmem_create, unknown_flags)
{
	uint64_t bit;
	int i;

	for (i = 2; i < 64; i++) {
		bit = BIT_ULL(i);
		TEST_ASSERT_EQ(__gmem_create(self->vm, SIZE, bit), -EINVAL);
		TEST_ASSERT_EQ(__gmem_create(self->vm, SIZE,
					     GMEM_FLAGS_SHARED | bit), -EINVAL);
	}
}

/* The words that are to have a meaning some day: with flags they must be 0. */
GMEM_TEST(gmem_create, reserved)
{
	static const uint64_t flags[] = {
		0, GMEM_FLAGS_PRIVATE, GMEM_FLAGS_SHARED, GUEST_MEMFD_FLAG_INIT_SHARED,
	};
	int i, j, fd;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		for (j = 0; j < ARRAY_SIZE(((struct kvm_create_guest_memfd *)0)->reserved); j++) {
			struct kvm_create_guest_memfd args = {
				.size = SIZE,
				.flags = flags[i],
			};

			fd = __vm_ioctl(self->vm, KVM_CREATE_GUEST_MEMFD, &args);
			TEST_ASSERT(fd >= 0, "flags %#lx: %s", flags[i], strerror(errno));
			close(fd);

			args.reserved[j] = 1ULL << (63 - j);
			fd = __vm_ioctl(self->vm, KVM_CREATE_GUEST_MEMFD, &args);
			if (!flags[i]) {
				TEST_ASSERT(fd >= 0, "without flags: %s", strerror(errno));
				close(fd);
				continue;
			}
			TEST_ASSERT(fd == -1 && errno == EINVAL,
				    "flags %#lx, reserved[%d]: %d", flags[i], j, fd);
		}
	}
}

GMEM_TEST(gmem_create, bad_size)
{
	static const uint64_t sizes[] = {
		0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, BIT_ULL(63),
		-PAGE_SIZE, -1ULL, INT64_MAX,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		TEST_ASSERT_EQ(__gmem_create(self->vm, sizes[i],
					     GMEM_FLAGS_PRIVATE), -EINVAL);
		TEST_ASSERT_EQ(__gmem_create(self->vm, sizes[i],
					     GMEM_FLAGS_SHARED), -EINVAL);
	}
}

/* Size costs nothing: neither memory nor, in a conversion, time. */
GMEM_TEST(gmem_create, huge)
{
	uint64_t size = INT64_MAX - (PAGE_SIZE - 1);
	struct kvm_gmem_range ranges[3];
	int fd;

	fd = gmem_create(self->vm, size, GMEM_FLAGS_PRIVATE);
	TEST_ASSERT_EQ(gmem_get_ranges(fd, 0, size, 0, ranges, 3), 1);

	gmem_make_shared(fd, 0, size);
	TEST_ASSERT_EQ(gmem_get_ranges(fd, 0, size, 0, ranges, 3), 1);
	TEST_ASSERT_EQ(ranges[0].flags, 0);

	gmem_make_private(fd, PAGE_SIZE, size - 2 * PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_get_ranges(fd, 0, size, 0, ranges, 3), 3);
	gmem_make_private(fd, size - PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_get_ranges(fd, 0, size, 0, ranges, 3), 2);
	TEST_ASSERT(!gmem_is_private(fd, 0), "the first page is private");
	TEST_ASSERT(gmem_is_private(fd, size - PAGE_SIZE),
		    "the last page is not private");
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_HOLE), 0);
	TEST_ASSERT_EQ(lseek(fd, 0, SEEK_DATA), -1);
	TEST_ASSERT_EQ(errno, ENXIO);
	close(fd);
}

static void check_file(int fd)
{
	char path[64], link[64] = "", buf[64] = "";
	struct stat st;

	TEST_ASSERT(!fstat(fd, &st), "fstat() failed");
	TEST_ASSERT_EQ(st.st_size, SIZE);
	TEST_ASSERT_EQ(st.st_blksize, PAGE_SIZE);
	TEST_ASSERT(S_ISREG(st.st_mode), "mode %#o", st.st_mode);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	TEST_ASSERT(readlink(path, link, sizeof(link) - 1) > 0, "readlink() failed");
	TEST_ASSERT(!strcmp(link, "anon_inode:[kvm-gmem]"), "it is called %s", link);
	TEST_ASSERT(open(path, O_RDWR) < 0, "it can be opened again");

	TEST_ASSERT(read(fd, buf, sizeof(buf)) < 0, "read() works");
	TEST_ASSERT(write(fd, buf, sizeof(buf)) < 0, "write() works");
	TEST_ASSERT(pread(fd, buf, sizeof(buf), 0) < 0, "pread() works");
	TEST_ASSERT(pwrite(fd, buf, sizeof(buf), 0) < 0, "pwrite() works");
	TEST_ASSERT(ftruncate(fd, SIZE / 2) < 0, "the size can be changed");
	TEST_ASSERT(ftruncate(fd, 2 * SIZE) < 0, "the size can be changed");

	/* 28: the flag is not there, but can be set. */
	TEST_ASSERT_EQ(fcntl(fd, F_GETFD), 0);
	TEST_ASSERT(!fcntl(fd, F_SETFD, FD_CLOEXEC), "no close-on-exec");
	TEST_ASSERT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

GMEM_TEST(gmem_create, file)
{
	struct stat a, b;
	int fd, fd2;

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	check_file(fd);
	TEST_ASSERT(gmem_is_private(fd, 0), "not private at first");

	fd2 = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	check_file(fd2);
	TEST_ASSERT(!gmem_is_private(fd2, 0), "not shared at first");

	TEST_ASSERT(!fstat(fd, &a) && !fstat(fd2, &b), "fstat() failed");
	TEST_ASSERT(a.st_ino != b.st_ino, "two files on one inode");
	close(fd2);
	close(fd);
}

/* INIT_SHARED by itself is accepted, and does not make it convert. */
GMEM_TEST(gmem_create, init_shared_alone)
{
	struct kvm_gmem_convert arg = { .size = SIZE };
	int fd;

	fd = gmem_create(self->vm, SIZE, GUEST_MEMFD_FLAG_INIT_SHARED);
	TEST_ASSERT(mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED,
		    "mmap() works");
	TEST_ASSERT_EQ(errno, ENODEV);
	TEST_ASSERT_EQ(ioctl(fd, KVM_GMEM_CONVERT_PRIVATE, &arg), -1);
	TEST_ASSERT_EQ(errno, ENOTTY);
	close(fd);
}

static void try_mmap(int fd, int prot, int flags, int error)
{
	void *mem;

	errno = 0;
	mem = mmap(NULL, SIZE, prot, flags, fd, 0);
	TEST_ASSERT((mem == MAP_FAILED) == !!error, "mmap(%#x, %#x): %p", prot,
		    flags, mem);
	if (error)
		TEST_ASSERT_EQ(errno, error);
	else
		munmap(mem, SIZE);
}

GMEM_TEST(gmem_create, mmap)
{
	uint64_t flags[] = { GMEM_FLAGS_PRIVATE, GMEM_FLAGS_SHARED };
	int fd, i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		fd = gmem_create(self->vm, SIZE, flags[i]);

		try_mmap(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
		try_mmap(fd, PROT_READ, MAP_SHARED, 0);
		try_mmap(fd, PROT_NONE, MAP_SHARED, 0);
		try_mmap(fd, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE, 0);

		try_mmap(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE, EINVAL);
		try_mmap(fd, PROT_READ, MAP_PRIVATE, EINVAL);
		try_mmap(fd, PROT_READ | PROT_EXEC, MAP_SHARED, EPERM);
		try_mmap(fd, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, EPERM);

		close(fd);
	}
}

GMEM_TEST(gmem_create, mappings)
{
	char *mem, *alias, *moved;
	int fd, i;

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_fill(mem, 0, SIZE, 1);

	/* Two mappings are the same memory, also at another offset. */
	alias = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		     3 * PAGE_SIZE);
	TEST_ASSERT(alias != MAP_FAILED, "mmap() at an offset failed");
	TEST_ASSERT(!memcmp(alias, mem + 3 * PAGE_SIZE, PAGE_SIZE),
		    "two mappings differ");
	gmem_poke(alias, 42);
	TEST_ASSERT_EQ(*(uint64_t *)(mem + 3 * PAGE_SIZE), 42);
	gmem_poke(alias, gmem_pattern(1, 3 * PAGE_SIZE));

	/* Protections can be taken and given back, but not to execute. */
	TEST_ASSERT(!mprotect(mem, SIZE, PROT_NONE), "mprotect() failed");
	TEST_ASSERT(!mprotect(mem, SIZE, PROT_READ), "mprotect() failed");
	gmem_check(mem, 0, SIZE, 1);
	TEST_ASSERT(!mprotect(mem, SIZE, PROT_READ | PROT_WRITE), "mprotect() failed");
	errno = 0;
	TEST_ASSERT_EQ(mprotect(mem, SIZE, PROT_READ | PROT_EXEC), -1);
	/* Not EACCES, which the library would take for a reason to skip. */
	i = errno;
	errno = 0;
	TEST_ASSERT_EQ(i, EACCES);

	/* Moving a mapping takes the memory along. */
	moved = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	moved = mremap(mem, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
	TEST_ASSERT(moved != MAP_FAILED, "mremap() failed");
	gmem_check(moved, 0, SIZE, 1);

	/* A mapping may be longer than the file; what is beyond is not there. */
	mem = mremap(moved, SIZE, SIZE + PAGE_SIZE, MREMAP_MAYMOVE);
	TEST_ASSERT(mem != MAP_FAILED, "mremap() failed");
	gmem_check(mem, 0, SIZE, 1);
	TEST_ASSERT_EQ(gmem_peek(mem + SIZE, NULL), BUS_ADRERR);
	TEST_ASSERT_EQ(gmem_poke(mem + SIZE, 1), BUS_ADRERR);

	/* 29: MADV_DONTNEED frees nothing, MADV_REMOVE does. */
	TEST_ASSERT(!madvise(mem, SIZE, MADV_DONTNEED), "MADV_DONTNEED failed");
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE);
	gmem_check(mem, 0, SIZE, 1);
	TEST_ASSERT(!madvise(mem + PAGE_SIZE, PAGE_SIZE, MADV_REMOVE),
		    "MADV_REMOVE failed");
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE - PAGE_SIZE);
	gmem_check_zero(mem, PAGE_SIZE, PAGE_SIZE);
	gmem_check(mem, 2 * PAGE_SIZE, SIZE - 2 * PAGE_SIZE, 1);

	/* The mapping keeps the memory when the descriptor is closed. */
	close(fd);
	gmem_check(mem, 2 * PAGE_SIZE, SIZE - 2 * PAGE_SIZE, 1);
	munmap(alias, PAGE_SIZE);
	munmap(mem, SIZE + PAGE_SIZE);
}

/* The state of a page decides, not the mapping or when it was made. */
GMEM_TEST(gmem_create, private_is_out_of_reach)
{
	char *mem;
	int fd;

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	mem = gmem_mmap(fd, SIZE);
	gmem_assert_no_access(mem, SIZE);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), 0);
	TEST_ASSERT(madvise(mem, SIZE, MADV_POPULATE_READ), "it can be populated");
	TEST_ASSERT(madvise(mem, SIZE, MADV_POPULATE_WRITE), "it can be populated");
	munmap(mem, SIZE);

	TEST_ASSERT(!__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE),
		    "fallocate() failed");
	mem = gmem_mmap(fd, SIZE);
	gmem_assert_no_access(mem, SIZE);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), SIZE);
	munmap(mem, SIZE);

	/* MAP_POPULATE does what it can. */
	gmem_make_shared(fd, 0, PAGE_SIZE);
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		   fd, 0);
	TEST_ASSERT(mem != MAP_FAILED, "MAP_POPULATE failed");
	gmem_check_zero(mem, 0, PAGE_SIZE);
	gmem_assert_no_access(mem + PAGE_SIZE, SIZE - PAGE_SIZE);
	munmap(mem, SIZE);
	close(fd);
}

/* Leave pages full of data to the allocator. */
static void dirty_free_pages(struct kvm_vm *vm)
{
	uint64_t size = 64 * SIZE;
	int fd = gmem_create(vm, size, GMEM_FLAGS_SHARED);
	void *mem = gmem_mmap(fd, size);

	gmem_fill(mem, 0, size, 0xdd);
	munmap(mem, size);
	close(fd);
}

/* 20: fresh memory reads as zero, whoever comes first, and stays as written. */
GMEM_TEST(gmem_create, fresh_memory_is_zero)
{
	char *mem;
	int fd;

	/* The host comes first. */
	dirty_free_pages(self->vm);
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_check_zero(mem, 0, SIZE);
	gmem_fill(mem, 0, SIZE, 2);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL,
		  fd, 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check, GMEM_GVA,
				       SIZE, 2), 0);
	gmem_unbind(self->vm, GMEM_SLOT);
	munmap(mem, SIZE);
	close(fd);

	/* The guest comes first, to private memory. */
	dirty_free_pages(self->vm);
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	mem = gmem_mmap(fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL,
		  fd, 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check_zero,
				       GMEM_GVA, SIZE, 0), 0);
	gmem_guest_call(self->vcpu, gmem_guest_fill, GMEM_GVA, SIZE, 3);
	gmem_make_shared(fd, 0, SIZE);
	gmem_check(mem, 0, SIZE, 3);
	gmem_unbind(self->vm, GMEM_SLOT);
	munmap(mem, SIZE);
	close(fd);

	/* The guest comes first, to shared memory. */
	dirty_free_pages(self->vm);
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? mem : NULL,
		  fd, 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check_zero,
				       GMEM_GVA, SIZE, 0), 0);
	gmem_guest_call(self->vcpu, gmem_guest_fill, GMEM_GVA, SIZE, 4);
	gmem_check(mem, 0, SIZE, 4);
	gmem_unbind(self->vm, GMEM_SLOT);
	munmap(mem, SIZE);
	close(fd);

	/* fallocate() comes first, and a conversion. */
	dirty_free_pages(self->vm);
	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	TEST_ASSERT(!__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE),
		    "fallocate() failed");
	gmem_make_shared(fd, 0, SIZE);
	mem = gmem_mmap(fd, SIZE);
	gmem_check_zero(mem, 0, SIZE);
	munmap(mem, SIZE);
	close(fd);
}

/* 30: what tells how much is populated, and what does not. */
GMEM_TEST(gmem_create, st_blocks_and_cachestat)
{
	struct {
		uint64_t off, len;
	} range = { 0, SIZE };
	struct {
		uint64_t cache, dirty, writeback, evicted, recently_evicted;
	} cs;
	struct stat st;
	char *mem;
	int fd;

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_fill(mem, PAGE_SIZE, 2 * PAGE_SIZE, 1);

	TEST_ASSERT(!fstat(fd, &st), "fstat() failed");
	TEST_ASSERT_EQ(st.st_blocks, 0);
	TEST_ASSERT_EQ(gmem_populated(fd, 0, SIZE), 2 * PAGE_SIZE);
	/* A kernel may have been built without it. */
	if (!syscall(__NR_cachestat, fd, &range, &cs, 0))
		TEST_ASSERT_EQ(cs.cache, 2);
	else
		TEST_ASSERT_EQ(errno, ENOSYS);
	munmap(mem, SIZE);
	close(fd);
}

/* A child sees the memory, not a copy of it. */
GMEM_TEST(gmem_create, fork)
{
	int fd, status;
	char *mem;
	pid_t pid;

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(fd, SIZE);
	gmem_fill(mem, 0, SIZE, 5);

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		gmem_check(mem, 0, SIZE, 5);
		gmem_fill(mem, 0, SIZE, 6);
		_exit(0);
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT_EQ(status, 0);
	gmem_check(mem, 0, SIZE, 6);
	munmap(mem, SIZE);
	close(fd);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();

	return test_harness_run(argc, argv);
}
