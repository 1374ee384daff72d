// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: the descriptor for a process that serves
 * a device.  It is handed to another process, which tries everything.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	16
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)
#define HALF		(SIZE / 2)
#define SEED		7
#define KEEP		FALLOC_FL_KEEP_SIZE

FIXTURE(gmem_share) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	char *mem;
	int shared;
};

GMEM_FIXTURE_VARIANTS(gmem_share);

static int __share(int fd)
{
	struct kvm_gmem_share arg = {};
	int shared = ioctl(fd, KVM_GMEM_SHARE, &arg);

	return shared < 0 ? -errno : shared;
}

/* The first half is private and filled by the guest, the second is shared. */
FIXTURE_SETUP(gmem_share)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 1, &self->vcpu, NR_PAGES);
	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	self->mem = gmem_mmap(self->fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, variant->hva ? self->mem : NULL,
		  self->fd, 0);
	gmem_guest_call(self->vcpu, gmem_guest_fill, GMEM_GVA, SIZE - PAGE_SIZE, SEED);
	gmem_make_shared(self->fd, HALF, HALF);
	self->shared = __share(self->fd);
	TEST_ASSERT(self->shared >= 0, "KVM_GMEM_SHARE: %s", strerror(-self->shared));
}

FIXTURE_TEARDOWN(gmem_share)
{
	if (self->vm)
		kvm_vm_free(self->vm);
	munmap(self->mem, SIZE);
	close(self->shared);
	close(self->fd);
}

/*
 * Run @fn in another process, with nothing of this one but @fd, which arrives by
 * a socket.
 */
static void in_process(void (*fn)(int fd), int fd)
{
	int sv[2], status;
	pid_t pid;

	TEST_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		int sock = dup2(sv[1], 3);

		/* None of the parent's descriptors stays open. */
		syscall(__NR_close_range, 4, ~0U, 0);
		fn(gmem_receive_fd(sock));
		_exit(0);
	}

	gmem_send_fd(sv[0], fd);
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(!status, "the other process: 0x%x", status);
	close(sv[0]);
	close(sv[1]);
}

/* What a device needs: what is shared, for reading and writing. */
static void use(int fd)
{
	char *mem = gmem_mmap(fd, SIZE);

	gmem_assert_no_access(mem, HALF);
	gmem_check(mem, HALF, HALF - PAGE_SIZE, SEED);
	gmem_check_zero(mem, SIZE - PAGE_SIZE, PAGE_SIZE);
	gmem_fill(mem, HALF, HALF, SEED + 1);

	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-size"), SIZE);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-private"), HALF);
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-shared"), HALF);
}

GMEM_TEST(gmem_share, use)
{
	struct stat st[2];

	in_process(use, self->shared);
	gmem_check(self->mem, HALF, HALF, SEED + 1);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check, GMEM_GVA, HALF, SEED), 0);
	TEST_ASSERT_EQ(gmem_guest_call(self->vcpu, gmem_guest_check, GMEM_GVA + HALF, HALF,
				       SEED + 1), 0);

	TEST_ASSERT_EQ(fcntl(self->shared, F_GETFD), FD_CLOEXEC);
	TEST_ASSERT_EQ(fstat(self->fd, &st[0]), 0);
	TEST_ASSERT_EQ(fstat(self->shared, &st[1]), 0);
	TEST_ASSERT_EQ(st[0].st_ino, st[1].st_ino);
}

#define FAILS(call, error)						\
do {									\
	long __r = call;						\
									\
	TEST_ASSERT(__r == -1 && errno == (error), #call ": %ld, %s",	\
		    __r, strerror(errno));				\
} while (0)

/* Nothing that there is for a file may change, free, allocate or place memory. */
static void try_file(int fd)
{
	struct kvm_gmem_convert convert = { .offset = HALF, .size = HALF };
	struct kvm_gmem_range range;
	struct kvm_gmem_get_ranges get = {
		.size = SIZE,
		.ranges = (uintptr_t)&range,
		.nr = 1,
	};
	struct kvm_memory_attributes2 attributes = {};
	struct kvm_gmem_freeze freeze = {};
	struct kvm_gmem_share share = {};
	static const int modes[] = {
		0, KEEP, KEEP | FALLOC_FL_PUNCH_HOLE, KEEP | FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
	};
	static const char *const others[] = { "/proc/self/fd/%d", "/dev/fd/%d" };
	static const int flags[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC, O_RDWR | O_APPEND,
	};
	char byte = 0, path[64];
	loff_t off = 0;
	int i, j, pipes[2];

	FAILS(ioctl(fd, KVM_GMEM_CONVERT_SHARED, &convert), ENOTTY);
	FAILS(ioctl(fd, KVM_GMEM_CONVERT_PRIVATE, &convert), ENOTTY);
	FAILS(ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &attributes), ENOTTY);
	FAILS(ioctl(fd, KVM_GMEM_GET_RANGES, &get), ENOTTY);
	FAILS(ioctl(fd, KVM_GMEM_FREEZE, &freeze), ENOTTY);
	FAILS(ioctl(fd, KVM_GMEM_SHARE, &share), ENOTTY);

	for (i = 0; i < ARRAY_SIZE(modes); i++)
		FAILS(fallocate(fd, modes[i], HALF, PAGE_SIZE), EOPNOTSUPP);
	FAILS(ftruncate(fd, 0), EINVAL);
	FAILS(ftruncate(fd, 2 * SIZE), EINVAL);
	FAILS(fchmod(fd, 0777), EINVAL);
	FAILS(fchown(fd, 1, 1), EINVAL);

	FAILS(write(fd, &byte, 1), EINVAL);
	FAILS(read(fd, &byte, 1), EINVAL);
	FAILS(pwrite(fd, &byte, 1, HALF), ESPIPE);
	FAILS(pread(fd, &byte, 1, HALF), ESPIPE);
	FAILS(lseek(fd, 0, SEEK_SET), ESPIPE);
	FAILS(lseek(fd, 0, SEEK_DATA), ESPIPE);
	TEST_ASSERT_EQ(pipe(pipes), 0);
	FAILS(splice(fd, &off, pipes[1], NULL, 1, 0), EINVAL);
	FAILS(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EINVAL);

	/* What can be opened is not this, nor a file on the memory. */
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		snprintf(path, sizeof(path), others[i], fd);
		for (j = 0; j < ARRAY_SIZE(flags); j++)
			FAILS(open(path, flags[j]), ENXIO);
		FAILS(truncate(path, 0), EINVAL);
		FAILS(link(path, "/tmp/gmem_share"), EXDEV);
		FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/gmem_share", AT_SYMLINK_FOLLOW),
		      EXDEV);
		FAILS(execl(path, path, NULL), EACCES);
	}
}

/* Nor may anything that there is for a mapping. */
static void try_mapping(int fd)
{
	unsigned long nodes = 1;
	char *mem = gmem_mmap(fd, SIZE);
	static const int advice[] = {
		MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_DODUMP,
	};
	char path[128];
	int i, mode = -1;

	FAILS(madvise(mem + HALF, PAGE_SIZE, MADV_REMOVE), EOPNOTSUPP);
	FAILS(madvise(mem, PAGE_SIZE, MADV_REMOVE), EOPNOTSUPP);
	for (i = 0; i < ARRAY_SIZE(advice); i++)
		madvise(mem + HALF, HALF, advice[i]);
	gmem_check(mem, HALF, HALF - PAGE_SIZE, SEED);

	if (kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_MEMPOLICY) {
		FAILS(syscall(__NR_mbind, mem, SIZE, MPOL_BIND, &nodes, 64, 0), EPERM);
		FAILS(syscall(__NR_mbind, mem + HALF, PAGE_SIZE, MPOL_PREFERRED, &nodes,
			      64, 0), EPERM);
		TEST_ASSERT_EQ(syscall(__NR_get_mempolicy, &mode, NULL, 0, mem,
				       MPOL_F_ADDR), 0);
		TEST_ASSERT_EQ(mode, MPOL_DEFAULT);
	}

	TEST_ASSERT(mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED &&
		    errno == EINVAL, "it can be mapped MAP_PRIVATE");
	TEST_ASSERT(mmap(NULL, SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) ==
		    MAP_FAILED && errno == EPERM, "it can be mapped PROT_EXEC");

	gmem_assert_no_access(mem, HALF);

	/* The mapping as a way to a file; one that mbind() has not cut. */
	mem = gmem_mmap(fd, SIZE);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)mem,
		 (unsigned long)(mem + SIZE));
	FAILS(open(path, O_RDWR), ENXIO);
}

/* Nor can it be given to a guest as what it is. */
static void try_kvm(int fd)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_gmem_link link = { .fd = fd };

	TEST_ASSERT_EQ(__gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, NULL, fd, 0), -EINVAL);
	FAILS(__vm_ioctl(vm, KVM_GMEM_LINK, &link), EINVAL);
	FAILS(__vm_ioctl(vm, KVM_GMEM_CLONE, &link), EINVAL);
	kvm_vm_free(vm);
}

GMEM_TEST(gmem_share, nothing_else)
{
	static void (*const tries[])(int) = { try_file, try_mapping, try_kvm };
	struct gmem_snapshot *snap;
	struct kvm_gmem_link link = { .fd = self->shared };
	int i;

	/* All shared memory is there, so that to look does not allocate. */
	gmem_check_zero(self->mem, SIZE - PAGE_SIZE, PAGE_SIZE);
	snap = gmem_snapshot(self->fd);
	for (i = 0; i < ARRAY_SIZE(tries); i++) {
		in_process(tries[i], self->shared);
		gmem_assert_unchanged(self->fd, snap, "what the other process tried");
	}

	/* Not even where the memory comes from, by its own VM. */
	gmem_unbind(self->vm, GMEM_SLOT);
	TEST_ASSERT_EQ(__gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, NULL,
				   self->shared, 0), -EINVAL);
	FAILS(__vm_ioctl(self->vm, KVM_GMEM_LINK, &link), EINVAL);
	FAILS(__vm_ioctl(self->vm, KVM_GMEM_CLONE, &link), EINVAL);
	gmem_assert_unchanged(self->fd, snap, "what its own VM tried");
	gmem_snapshot_free(snap);
}

/* A conversion reaches it as it does any mapping. */
GMEM_TEST(gmem_share, converts)
{
	char *mem = gmem_mmap(self->shared, SIZE);
	uint64_t value;

	gmem_check(mem, HALF, HALF - PAGE_SIZE, SEED);
	gmem_make_private(self->fd, 0, SIZE);
	gmem_assert_no_access(mem, SIZE);
	gmem_make_shared(self->fd, 0, HALF);
	gmem_check(mem, 0, HALF, SEED);
	gmem_assert_no_access(mem + HALF, HALF);

	/* Frozen, it can be read, by a mapping made after that. */
	gmem_freeze(self->fd);
	munmap(mem, SIZE);
	mem = gmem_mmap(self->shared, SIZE);
	gmem_check(mem, 0, HALF, SEED);
	TEST_ASSERT_EQ(gmem_poke(mem, 1), BUS_ADRERR);
	TEST_ASSERT_EQ(gmem_peek(mem + HALF, &value), BUS_ADRERR);
	munmap(mem, SIZE);
}

/* It holds the memory, and neither the VM nor its view. */
GMEM_TEST(gmem_share, lifetime)
{
	char *mem;
	int i;

	munmap(self->mem, SIZE);
	close(self->fd);
	kvm_vm_free(self->vm);
	self->vm = NULL;

	mem = gmem_mmap(self->shared, SIZE);
	gmem_check(mem, HALF, HALF - PAGE_SIZE, SEED);
	gmem_assert_no_access(mem, HALF);
	TEST_ASSERT_EQ(gmem_fdinfo(self->shared, "gmem-populated"), SIZE - PAGE_SIZE);

	/* No descriptor is left to which a VM belongs. */
	for (i = 0; i < 100; i++) {
		char path[64], what[64];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		n = readlink(path, what, sizeof(what) - 1);
		if (n < 0)
			continue;
		what[n] = 0;
		TEST_ASSERT(!strstr(what, "kvm-vm") && !strstr(what, "[kvm-gmem]"),
			    "%s is still open", what);
	}

	/* Also unmapped by then: the memory goes with the last that is left. */
	close(self->shared);
	gmem_check(mem, HALF, HALF - PAGE_SIZE, SEED);
	munmap(mem, SIZE);

	self->fd = -1;
	self->shared = -1;
	self->mem = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

GMEM_TEST(gmem_share, bad_input)
{
	struct kvm_gmem_share arg;
	int stock = gmem_create(self->vm, SIZE, 0), i;

	TEST_ASSERT_EQ(ioctl(self->fd, KVM_GMEM_SHARE, NULL), -1);
	TEST_ASSERT_EQ(errno, EFAULT);
	for (i = 0; i < 64; i++) {
		memset(&arg, 0, sizeof(arg));
		arg.flags = 1ULL << i;
		FAILS(ioctl(self->fd, KVM_GMEM_SHARE, &arg), EINVAL);
	}
	for (i = 0; i < ARRAY_SIZE(arg.reserved); i++) {
		memset(&arg, 0, sizeof(arg));
		arg.reserved[i] = 1;
		FAILS(ioctl(self->fd, KVM_GMEM_SHARE, &arg), EINVAL);
	}
	TEST_ASSERT_EQ(__share(stock), -ENOTTY);
	TEST_ASSERT_EQ(__share(self->shared), -ENOTTY);
	close(stock);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_SHARE, "no KVM_GMEM_SHARE");

	return test_harness_run(argc, argv);
}
