// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who holds pages of a convertible guest_memfd, and what mm would like to do
 * with them.
 *
 * A pinned page cannot become private, and says so with its offset, with nothing
 * changed; the pages around it can.  What is no pin is not in the way.  And
 * nothing that frees, moves or collapses page cache touches this memory, which
 * has no other copy.
 */
#include <linux/stddef.h>
#include <linux/io_uring.h>
#include <linux/iommufd.h>
#include <linux/loop.h>
#include <linux/sizes.h>
#include <linux/udmabuf.h>
#include <linux/userfaultfd.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "gmem_util.h"
#include "kvm_test_harness.h"

#include "../../../../drivers/iommu/iommufd/iommufd_test.h"
#include "../../../../mm/gup_test.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define NR_PAGES	16
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define SEED		1

#define PINNED		5
#define PINNED_OFFSET	(PINNED * PAGE_SIZE)

/* Enough for whatever the kernel does in the background, on a slow machine. */
#define PATIENCE_MS	30000

struct env {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	void *mem;
};

FIXTURE(gmem_pin)
{
	struct env env;
};

GMEM_FIXTURE_VARIANTS(gmem_pin);

FIXTURE_SETUP(gmem_pin)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->env.vm = gmem_vm_create(variant->type, 1, &self->env.vcpu, NR_PAGES);
	self->env.fd = gmem_create(self->env.vm, SIZE, GMEM_FLAGS_SHARED);
	self->env.mem = gmem_mmap(self->env.fd, SIZE);
	gmem_bind(self->env.vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->env.mem : NULL, self->env.fd, 0);
	gmem_fill(self->env.mem, 0, SIZE, SEED);
}

FIXTURE_TEARDOWN(gmem_pin)
{
	munmap(self->env.mem, SIZE);
	close(self->env.fd);
	kvm_vm_free(self->env.vm);
}

static void guest_check(struct env *env, uint64_t offset, uint64_t size)
{
	TEST_ASSERT_EQ(gmem_guest_call(env->vcpu, gmem_guest_check,
				       GMEM_GVA + offset, size, SEED), 0);
}

static void assert_busy(struct env *env, uint64_t offset, uint64_t size)
{
	struct gmem_snapshot *snap = gmem_snapshot(env->fd);
	uint64_t error_offset;
	int r;

	r = __gmem_convert(env->fd, true, offset, size, 0, &error_offset);
	TEST_ASSERT(r == -EAGAIN, "Pages in use converted: %d", r);
	TEST_ASSERT_EQ(error_offset, PINNED_OFFSET);
	gmem_assert_unchanged(env->fd, snap, "a conversion that failed");
	gmem_snapshot_free(snap);
}

/* One page is held; all are shared. */
static void check_pinned(struct env *env)
{
	const uint64_t after = PINNED_OFFSET + PAGE_SIZE;

	/* First, last, in between, alone. */
	assert_busy(env, 0, SIZE);
	assert_busy(env, PINNED_OFFSET, SIZE - PINNED_OFFSET);
	assert_busy(env, 0, after);
	assert_busy(env, PINNED_OFFSET, PAGE_SIZE);
	gmem_check(env->mem, 0, SIZE, SEED);
	guest_check(env, 0, SIZE);

	/* The others are free to go. */
	gmem_make_private(env->fd, 0, PINNED_OFFSET);
	gmem_make_private(env->fd, after, SIZE - after);
	TEST_ASSERT(!gmem_is_private(env->fd, PINNED_OFFSET),
		    "The pinned page became private");
	gmem_assert_no_access(env->mem, PINNED_OFFSET);
	gmem_assert_no_access(env->mem + after, SIZE - after);
	gmem_check(env->mem, PINNED_OFFSET, PAGE_SIZE, SEED);
	guest_check(env, 0, SIZE);

	/* Private on both sides, and still the one in the middle is in the way. */
	assert_busy(env, 0, SIZE);

	/* To shared nothing is. */
	gmem_make_shared(env->fd, 0, SIZE);
	gmem_check(env->mem, 0, SIZE, SEED);
}

/* Unpinning may be deferred. */
static void wait_until_idle(struct env *env)
{
	uint64_t error_offset;
	int ms, r;

	for (ms = 0; ms < PATIENCE_MS; ms += 10) {
		r = __gmem_convert(env->fd, true, 0, SIZE, 0, &error_offset);
		if (r != -EAGAIN)
			break;
		TEST_ASSERT_EQ(error_offset, PINNED_OFFSET);
		usleep(10000);
	}
	TEST_ASSERT(!r, "Conversion after unpin: %d", r);
	gmem_assert_no_access(env->mem, SIZE);
	guest_check(env, 0, SIZE);

	gmem_make_shared(env->fd, 0, SIZE);
	gmem_check(env->mem, 0, SIZE, SEED);
	guest_check(env, 0, SIZE);
}

/* Without a pin nothing is deferred. */
static void check_idle(struct env *env)
{
	gmem_make_private(env->fd, 0, SIZE);
	gmem_assert_no_access(env->mem, SIZE);
	guest_check(env, 0, SIZE);
	gmem_make_shared(env->fd, 0, SIZE);
	gmem_check(env->mem, 0, SIZE, SEED);
}

GMEM_TEST(gmem_pin, vmsplice)
{
	struct iovec iov = { self->env.mem + PINNED_OFFSET, PAGE_SIZE };
	uint64_t buf[PAGE_SIZE / 8];
	int fds[2], i;

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	TEST_ASSERT_EQ(vmsplice(fds[1], &iov, 1, 0), (ssize_t)PAGE_SIZE);

	check_pinned(&self->env);

	TEST_ASSERT_EQ(read(fds[0], buf, sizeof(buf)), (ssize_t)sizeof(buf));
	for (i = 0; i < ARRAY_SIZE(buf); i++)
		TEST_ASSERT_EQ(buf[i], gmem_pattern(SEED, PINNED_OFFSET + i * 8));
	close(fds[0]);
	close(fds[1]);

	check_idle(&self->env);

	/* What is private cannot be pinned. */
	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	gmem_make_private(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
	TEST_ASSERT(vmsplice(fds[1], &iov, 1, 0) < 0 && errno == EFAULT,
		    "vmsplice() of a private page: %s", strerror(errno));
	close(fds[0]);
	close(fds[1]);
}

GMEM_TEST(gmem_pin, io_uring_fixed_buffer)
{
	struct io_uring_params params = {};
	struct iovec iov = { self->env.mem + PINNED_OFFSET, PAGE_SIZE };
	int ring;

	ring = syscall(__NR_io_uring_setup, 1, &params);
	if (ring < 0)
		SKIP(return, "io_uring_setup: %s", strerror(errno));

	TEST_ASSERT(!syscall(__NR_io_uring_register, ring,
			     IORING_REGISTER_BUFFERS, &iov, 1),
		    "IORING_REGISTER_BUFFERS: %s", strerror(errno));
	check_pinned(&self->env);
	TEST_ASSERT(!syscall(__NR_io_uring_register, ring,
			     IORING_UNREGISTER_BUFFERS, NULL, 0),
		    "IORING_UNREGISTER_BUFFERS: %s", strerror(errno));
	wait_until_idle(&self->env);

	gmem_make_private(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
	TEST_ASSERT(syscall(__NR_io_uring_register, ring,
			    IORING_REGISTER_BUFFERS, &iov, 1) < 0 &&
		    errno == EFAULT,
		    "IORING_REGISTER_BUFFERS of a private page: %s",
		    strerror(errno));
	close(ring);
}

/*
 * A page of ordinary memory on which the kernel stops, until it is told to go
 * on: whoever copies from or to it holds all that it holds for that long.
 */
struct stall {
	int uffd;
	void *page;
};

static bool stall_create(struct stall *stall)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	/* Nobody can poll() one that blocks. */
	stall->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (stall->uffd < 0)
		return false;
	TEST_ASSERT(!ioctl(stall->uffd, UFFDIO_API, &api), "UFFDIO_API: %s",
		    strerror(errno));

	stall->page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(stall->page != MAP_FAILED, "mmap: %s", strerror(errno));
	reg.range.start = (uintptr_t)stall->page;
	reg.range.len = PAGE_SIZE;
	TEST_ASSERT(!ioctl(stall->uffd, UFFDIO_REGISTER, &reg),
		    "UFFDIO_REGISTER: %s", strerror(errno));
	return true;
}

static void stall_wait(struct stall *stall)
{
	struct pollfd pfd = { .fd = stall->uffd, .events = POLLIN };

	TEST_ASSERT(poll(&pfd, 1, PATIENCE_MS) == 1 && pfd.revents == POLLIN,
		    "Nobody came by");
}

static void stall_release(struct stall *stall)
{
	struct uffdio_zeropage zero = {
		.range = {
			.start = (uintptr_t)stall->page,
			.len = PAGE_SIZE,
		},
	};

	TEST_ASSERT(!ioctl(stall->uffd, UFFDIO_ZEROPAGE, &zero),
		    "UFFDIO_ZEROPAGE: %s", strerror(errno));
}

static void stall_free(struct stall *stall)
{
	munmap(stall->page, PAGE_SIZE);
	close(stall->uffd);
}

struct io {
	pthread_t thread;
	int fd;
	void *buf;
	void *remote;
	ssize_t ret;
};

static void *readv_thread(void *arg)
{
	struct io *io = arg;
	struct iovec local = { io->buf, PAGE_SIZE };
	struct iovec remote = { io->remote, PAGE_SIZE };

	io->ret = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	return NULL;
}

/* In the middle of the copy, with the page to be read in its hands. */
GMEM_TEST(gmem_pin, process_vm_readv_in_flight)
{
	struct io io = { .remote = self->env.mem + PINNED_OFFSET };
	struct stall stall;
	int i;

	if (!stall_create(&stall))
		SKIP(return, "userfaultfd: %s", strerror(errno));

	io.buf = stall.page;
	pthread_create(&io.thread, NULL, readv_thread, &io);
	stall_wait(&stall);
	check_pinned(&self->env);
	stall_release(&stall);
	pthread_join(io.thread, NULL);

	TEST_ASSERT_EQ(io.ret, (ssize_t)PAGE_SIZE);
	for (i = 0; i < PAGE_SIZE; i += 8)
		TEST_ASSERT_EQ(*(uint64_t *)(stall.page + i),
			       gmem_pattern(SEED, PINNED_OFFSET + i));
	check_idle(&self->env);
	stall_free(&stall);
}

static void *pwrite_thread(void *arg)
{
	struct io *io = arg;

	io->ret = pwrite(io->fd, io->buf, PAGE_SIZE, 0);
	return NULL;
}

static int inflight_writes(int loop)
{
	char path[64];
	int reads, writes;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/loop%d/inflight", loop);
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s: %s", path, strerror(errno));
	TEST_ASSERT(fscanf(f, "%d %d", &reads, &writes) == 2, "%s", path);
	fclose(f);
	return writes;
}

/*
 * A direct write to a loop device stays in flight as long as somebody else has
 * the inode lock of the file behind it: a writer who stopped in its tracks.
 */
GMEM_TEST(gmem_pin, o_direct_in_flight)
{
	struct io blocker = {}, direct = {};
	int ctl, loop, loop_fd, file, ms, i;
	uint64_t buf[PAGE_SIZE / 8];
	struct stall stall;
	char path[32];

	ctl = open("/dev/loop-control", O_RDWR);
	loop = ctl < 0 ? -1 : ioctl(ctl, LOOP_CTL_GET_FREE);
	if (loop < 0)
		SKIP(return, "no loop device: %s", strerror(errno));
	snprintf(path, sizeof(path), "/dev/loop%d", loop);
	loop_fd = open(path, O_RDWR | O_DIRECT);
	if (loop_fd < 0)
		SKIP(return, "%s: %s", path, strerror(errno));
	if (!stall_create(&stall))
		SKIP(return, "userfaultfd: %s", strerror(errno));

	file = memfd_create("gmem_pin_test", 0);
	TEST_ASSERT(file >= 0 && !ftruncate(file, SZ_1M), "memfd: %s",
		    strerror(errno));
	TEST_ASSERT(!ioctl(loop_fd, LOOP_SET_FD, file), "LOOP_SET_FD: %s",
		    strerror(errno));

	blocker.fd = file;
	blocker.buf = stall.page;
	pthread_create(&blocker.thread, NULL, pwrite_thread, &blocker);
	stall_wait(&stall);

	direct.fd = loop_fd;
	direct.buf = self->env.mem + PINNED_OFFSET;
	pthread_create(&direct.thread, NULL, pwrite_thread, &direct);
	for (ms = 0; !inflight_writes(loop); ms++) {
		TEST_ASSERT(ms < PATIENCE_MS, "The write does not start");
		usleep(1000);
	}

	check_pinned(&self->env);

	stall_release(&stall);
	pthread_join(blocker.thread, NULL);
	pthread_join(direct.thread, NULL);
	TEST_ASSERT_EQ(blocker.ret, (ssize_t)PAGE_SIZE);
	TEST_ASSERT_EQ(direct.ret, (ssize_t)PAGE_SIZE);
	wait_until_idle(&self->env);

	TEST_ASSERT_EQ(pread(file, buf, sizeof(buf), 0), (ssize_t)sizeof(buf));
	for (i = 0; i < ARRAY_SIZE(buf); i++)
		TEST_ASSERT_EQ(buf[i], gmem_pattern(SEED, PINNED_OFFSET + i * 8));

	/* What is private neither goes to disk nor comes from there. */
	gmem_make_private(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
	TEST_ASSERT(pwrite(loop_fd, direct.buf, PAGE_SIZE, 0) < 0 &&
		    errno == EFAULT, "write of a private page: %s",
		    strerror(errno));
	TEST_ASSERT(pread(loop_fd, direct.buf, PAGE_SIZE, 0) < 0 &&
		    errno == EFAULT, "read to a private page: %s",
		    strerror(errno));
	guest_check(&self->env, 0, SIZE);

	ioctl(loop_fd, LOOP_CLR_FD, 0);
	close(loop_fd);
	close(ctl);
	close(file);
	stall_free(&stall);
}

/* Another process's memory, by force: shared pages, and no private ones. */
GMEM_TEST(gmem_pin, ptrace)
{
	uint64_t val = 0x0123456789abcdef, *where = self->env.mem + PINNED_OFFSET;
	char path[32];
	int status, mem;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		for (;;)
			pause();
	}
	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL)) {
		status = errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		SKIP(return, "ptrace: %s", strerror(status));
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDWR);
	TEST_ASSERT(mem >= 0, "%s: %s", path, strerror(errno));

	TEST_ASSERT(!ptrace(PTRACE_POKEDATA, pid, where, val),
		    "PTRACE_POKEDATA: %s", strerror(errno));
	TEST_ASSERT_EQ(*where, val);
	TEST_ASSERT_EQ(gmem_guest_call(self->env.vcpu, gmem_guest_read,
				       GMEM_GVA + PINNED_OFFSET, 0, 0), val);
	/* The child's page table is no pin. */
	gmem_make_private(self->env.fd, 0, SIZE);

	TEST_ASSERT(ptrace(PTRACE_POKEDATA, pid, where, 0) < 0 && errno == EIO,
		    "PTRACE_POKEDATA to a private page: %s", strerror(errno));
	errno = 0;
	TEST_ASSERT(ptrace(PTRACE_PEEKDATA, pid, where, 0) == -1 && errno == EIO,
		    "PTRACE_PEEKDATA of a private page: %s", strerror(errno));
	TEST_ASSERT(pwrite(mem, &val, 8, (uintptr_t)where) < 0 && errno == EIO,
		    "%s, write to a private page: %s", path, strerror(errno));
	TEST_ASSERT(pread(mem, &val, 8, (uintptr_t)where) < 0 && errno == EIO,
		    "%s, read of a private page: %s", path, strerror(errno));
	TEST_ASSERT_EQ(gmem_guest_call(self->env.vcpu, gmem_guest_read,
				       GMEM_GVA + PINNED_OFFSET, 0, 0), val);

	/* And the child itself is out too. */
	gmem_make_shared(self->env.fd, 0, SIZE);
	TEST_ASSERT_EQ(ptrace(PTRACE_PEEKDATA, pid, where, 0), (long)val);

	close(mem);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/*
 * Pins that last, as drivers take them, by the kernel's own means of testing
 * them: to read or to write, with and without page table walks that take no lock.
 */
GMEM_TEST(gmem_pin, gup_longterm)
{
	static const unsigned int flags[] = {
		0,
		PIN_LONGTERM_TEST_FLAG_USE_WRITE,
		PIN_LONGTERM_TEST_FLAG_USE_FAST,
		PIN_LONGTERM_TEST_FLAG_USE_WRITE | PIN_LONGTERM_TEST_FLAG_USE_FAST,
	};
	struct pin_longterm_test arg = {
		.addr = (uintptr_t)self->env.mem + PINNED_OFFSET,
		.size = PAGE_SIZE,
	};
	uint64_t error_offset;
	int gup, i, r;

	gup = open("/sys/kernel/debug/gup_test", O_RDWR);
	if (gup < 0)
		SKIP(return, "no CONFIG_GUP_TEST: %s", strerror(errno));

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		arg.flags = flags[i];
		TEST_ASSERT(!ioctl(gup, PIN_LONGTERM_TEST_START, &arg),
			    "PIN_LONGTERM_TEST_START, flags %u: %s", flags[i],
			    strerror(errno));
		check_pinned(&self->env);
		r = __gmem_freeze(self->env.fd, &error_offset);
		TEST_ASSERT_EQ(r, -EAGAIN);
		TEST_ASSERT_EQ(error_offset, PINNED_OFFSET);
		TEST_ASSERT(!ioctl(gup, PIN_LONGTERM_TEST_STOP),
			    "PIN_LONGTERM_TEST_STOP: %s", strerror(errno));
		check_idle(&self->env);

		/* What is private cannot be pinned. */
		gmem_make_private(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
		TEST_ASSERT(ioctl(gup, PIN_LONGTERM_TEST_START, &arg) &&
			    errno == EFAULT, "a pin of a private page, flags %u: %s",
			    flags[i], strerror(errno));
		gmem_make_shared(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
		gmem_check(self->env.mem, 0, SIZE, SEED);
	}

	/* What is frozen can be pinned to read it, by way of a new mapping. */
	gmem_freeze(self->env.fd);
	munmap(self->env.mem, SIZE);
	self->env.mem = gmem_mmap(self->env.fd, SIZE);
	arg.addr = (uintptr_t)self->env.mem + PINNED_OFFSET;
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		arg.flags = flags[i];
		r = ioctl(gup, PIN_LONGTERM_TEST_START, &arg) ? -errno : 0;
		if (flags[i] & PIN_LONGTERM_TEST_FLAG_USE_WRITE) {
			TEST_ASSERT_EQ(r, -EFAULT);
			continue;
		}
		TEST_ASSERT_EQ(r, 0);
		guest_check(&self->env, 0, SIZE);
		TEST_ASSERT(!ioctl(gup, PIN_LONGTERM_TEST_STOP),
			    "PIN_LONGTERM_TEST_STOP: %s", strerror(errno));
	}
	gmem_check(self->env.mem, 0, SIZE, SEED);
	close(gup);
}

/* An IOMMU that the kernel makes up, with all of the memory in its page table. */
struct iommu {
	int fd;
	uint32_t ioas;
};

static bool iommu_create(struct iommu *iommu)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_test_cmd mock = {
		.size = sizeof(mock),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
	};

	iommu->fd = open("/dev/iommu", O_RDWR);
	if (iommu->fd < 0)
		return false;
	TEST_ASSERT(!ioctl(iommu->fd, IOMMU_IOAS_ALLOC, &alloc),
		    "IOMMU_IOAS_ALLOC: %s", strerror(errno));
	iommu->ioas = alloc.out_ioas_id;
	mock.id = iommu->ioas;
	if (!ioctl(iommu->fd, IOMMU_TEST_CMD, &mock))
		return true;
	close(iommu->fd);
	return false;
}

static int iommu_map(struct iommu *iommu, void *mem, uint64_t size,
		     bool write, uint64_t *iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE |
			 (write ? IOMMU_IOAS_MAP_WRITEABLE : 0),
		.ioas_id = iommu->ioas,
		.user_va = (uintptr_t)mem,
		.length = size,
	};
	int r = ioctl(iommu->fd, IOMMU_IOAS_MAP, &map) ? -errno : 0;

	*iova = map.iova;
	return r;
}

static void iommu_unmap(struct iommu *iommu, uint64_t iova, uint64_t size)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = iommu->ioas,
		.iova = iova,
		.length = size,
	};

	TEST_ASSERT(!ioctl(iommu->fd, IOMMU_IOAS_UNMAP, &unmap),
		    "IOMMU_IOAS_UNMAP: %s", strerror(errno));
}

GMEM_TEST(gmem_pin, iommufd)
{
	struct iommu iommu;
	uint64_t iova;

	if (!iommu_create(&iommu))
		SKIP(return, "no CONFIG_IOMMUFD_TEST: %s", strerror(errno));

	TEST_ASSERT_EQ(iommu_map(&iommu, self->env.mem + PINNED_OFFSET, PAGE_SIZE,
				 true, &iova), 0);
	check_pinned(&self->env);
	iommu_unmap(&iommu, iova, PAGE_SIZE);
	check_idle(&self->env);

	/* One private page among shared ones: none of them is held. */
	gmem_make_private(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
	TEST_ASSERT_EQ(iommu_map(&iommu, self->env.mem, SIZE, true, &iova),
		       -EFAULT);
	TEST_ASSERT_EQ(iommu_map(&iommu, self->env.mem + PINNED_OFFSET, PAGE_SIZE,
				 false, &iova), -EFAULT);
	gmem_make_shared(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
	gmem_check(self->env.mem, 0, SIZE, SEED);
	check_idle(&self->env);

	/* Devices read what is frozen, and write to none of it. */
	gmem_freeze(self->env.fd);
	munmap(self->env.mem, SIZE);
	self->env.mem = gmem_mmap(self->env.fd, SIZE);
	TEST_ASSERT_EQ(iommu_map(&iommu, self->env.mem, SIZE, true, &iova),
		       -EFAULT);
	TEST_ASSERT_EQ(iommu_map(&iommu, self->env.mem, SIZE, false, &iova), 0);
	guest_check(&self->env, 0, SIZE);
	iommu_unmap(&iommu, iova, SIZE);
	gmem_check(self->env.mem, 0, SIZE, SEED);
	close(iommu.fd);
}

static int udmabuf_create(int dev, int fd)
{
	struct udmabuf_create create = {
		.memfd = fd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = SIZE,
	};
	int buf = ioctl(dev, UDMABUF_CREATE, &create);

	if (buf < 0)
		return -errno;
	close(buf);
	return 0;
}

/* A DMA buffer is made of the pages of a sealed memfd, and of nothing else. */
GMEM_TEST(gmem_pin, udmabuf_refused)
{
	int dev, fd;

	dev = open("/dev/udmabuf", O_RDWR);
	if (dev < 0)
		SKIP(return, "no CONFIG_UDMABUF: %s", strerror(errno));

	fd = memfd_create("gmem_pin_test", MFD_ALLOW_SEALING);
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, SIZE) &&
		    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), "memfd: %s",
		    strerror(errno));
	TEST_ASSERT_EQ(udmabuf_create(dev, fd), 0);
	close(fd);

	TEST_ASSERT_EQ(udmabuf_create(dev, self->env.fd), -EBADFD);
	gmem_make_private(self->env.fd, PINNED_OFFSET, PAGE_SIZE);
	TEST_ASSERT_EQ(udmabuf_create(dev, self->env.fd), -EBADFD);
	gmem_make_private(self->env.fd, 0, SIZE);
	TEST_ASSERT_EQ(udmabuf_create(dev, self->env.fd), -EBADFD);
	gmem_make_shared(self->env.fd, 0, SIZE);
	check_idle(&self->env);
	gmem_freeze(self->env.fd);
	TEST_ASSERT_EQ(udmabuf_create(dev, self->env.fd), -EBADFD);
	guest_check(&self->env, 0, SIZE);

	fd = gmem_create(self->env.vm, SIZE, 0);
	TEST_ASSERT_EQ(udmabuf_create(dev, fd), -EBADFD);
	close(fd);
	close(dev);
}

/* Locked memory sits in a batch of its own on its way to the LRU. */
GMEM_TEST(gmem_pin, mlock_is_no_pin)
{
	int i;

	for (i = 0; i < 3; i++) {
		TEST_ASSERT(!mlock(self->env.mem, SIZE), "mlock: %s",
			    strerror(errno));
		check_idle(&self->env);
	}

	/* Freshly allocated, and faulted in by mlock(). */
	for (i = 0; i < 3; i++) {
		munlock(self->env.mem, SIZE);
		TEST_ASSERT(!__gmem_fallocate(self->env.fd, FALLOC_FL_PUNCH_HOLE |
					      FALLOC_FL_KEEP_SIZE, 0, SIZE),
			    "Cannot punch");
		TEST_ASSERT(!mlock(self->env.mem, SIZE), "mlock: %s",
			    strerror(errno));
		gmem_make_private(self->env.fd, 0, SIZE);
		gmem_make_shared(self->env.fd, 0, SIZE);
		gmem_fill(self->env.mem, 0, SIZE, SEED);
		check_idle(&self->env);
	}

	/* There is nothing to fault in; whatever it says, nothing breaks. */
	munlock(self->env.mem, SIZE);
	gmem_make_private(self->env.fd, 0, SIZE);
	mlock(self->env.mem, SIZE);
	guest_check(&self->env, 0, SIZE);
	munlock(self->env.mem, SIZE);
	gmem_make_shared(self->env.fd, 0, SIZE);
	gmem_check(self->env.mem, 0, SIZE, SEED);
}

/*
 * A vCPU that keeps everything else from its processor, for a second or so.  The
 * batch of that processor holds a page which the guest has touched.
 */
#define HOG_CPU		1

enum { HOG_STARTS, HOG_SPINS, HOG_STOPS };
static uint64_t hog_state;

struct hog {
	pthread_t thread;
	pid_t tid;
	struct kvm_vcpu *vcpu;
	uint64_t *state;	/* the guest's hog_state */
};

static uint64_t guest_hogs(uint64_t gva, uint64_t b, uint64_t c)
{
	WRITE_ONCE(*(uint64_t *)gva, 1);
	WRITE_ONCE(hog_state, HOG_SPINS);
	while (READ_ONCE(hog_state) != HOG_STOPS)
		cpu_relax();
	return 0;
}

static void *hog_main(void *data)
{
	struct hog *hog = data;

	hog->tid = syscall(__NR_gettid);
	kvm_pin_this_task_to_pcpu(HOG_CPU);
	gmem_set_scheduler(SCHED_FIFO);
	gmem_guest_call(hog->vcpu, guest_hogs, GMEM_GVA + PINNED_OFFSET, 0, 0);
	return NULL;
}

/* How often a thread has left its processor. */
static uint64_t nr_switches(pid_t tid)
{
	uint64_t n = 0, value;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = fopen(path, "r");
	TEST_ASSERT(f, "Cannot open %s", path);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "voluntary_ctxt_switches: %lu", &value) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %lu", &value) == 1)
			n += value;
	}
	fclose(f);
	return n;
}

/* The state of a process, as ps shows it. */
static char process_state(pid_t pid)
{
	char path[64], buf[512], *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	TEST_ASSERT(!gmem_read_file(path, buf, sizeof(buf)), "Cannot read %s", path);
	at = strrchr(buf, ')');
	TEST_ASSERT(at, "%s: %s", path, buf);
	return at[2];
}

static int converter_main(void *data)
{
	struct env *env = data;

	__gmem_convert(env->fd, true, PINNED_OFFSET, PAGE_SIZE, 0, NULL);
	return 0;
}

enum { NO_WAIT, FAULT_WAITED, OUTLIVED_SIGKILL, AS_IT_SHOULD_BE };

/* What happens while a conversion waits for the batch of the vCPU's processor. */
static int convert_beside_hog(struct env *env)
{
	struct hog hog = {
		.vcpu = env->vcpu,
		.state = addr_gva2hva(env->vm, (uintptr_t)&hog_state),
	};
	static char stack[1 << 16] __aligned(16);
	int result = NO_WAIT;
	uint64_t switches;
	char state;
	pid_t pid;

	WRITE_ONCE(*hog.state, HOG_STARTS);
	TEST_ASSERT(!__gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      PINNED_OFFSET, PAGE_SIZE), "Cannot punch");
	TEST_ASSERT(!pthread_create(&hog.thread, NULL, hog_main, &hog),
		    "pthread_create() failed");
	while (READ_ONCE(*hog.state) == HOG_STARTS)
		usleep(1000);
	switches = nr_switches(hog.tid);

	/* Not fork(), which takes the vCPU's memory away and lets it wait. */
	pid = clone(converter_main, stack + sizeof(stack), CLONE_VM | SIGCHLD, env);
	TEST_ASSERT(pid > 0, "clone: %s", strerror(errno));
	do {
		state = process_state(pid);
	} while (state != 'D' && state != 'Z');

	if (state == 'D') {
		/* A fault takes the lock that the conversion must not hold. */
		TEST_ASSERT(!madvise(env->mem, PAGE_SIZE, MADV_DONTNEED), "madvise: %s",
			    strerror(errno));
		gmem_check(env->mem, 0, PAGE_SIZE, SEED);
		if (nr_switches(hog.tid) != switches)
			result = FAULT_WAITED;
		else if (process_state(pid) == 'D')
			result = AS_IT_SHOULD_BE;
		kill(pid, SIGKILL);
	}
	TEST_ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	if (result == AS_IT_SHOULD_BE && nr_switches(hog.tid) != switches)
		result = OUTLIVED_SIGKILL;

	WRITE_ONCE(*hog.state, HOG_STOPS);
	TEST_ASSERT(!pthread_join(hog.thread, NULL), "pthread_join() failed");

	/* What was in the way no longer is. */
	gmem_make_private(env->fd, 0, SIZE);
	gmem_make_shared(env->fd, 0, SIZE);
	return result;
}

/*
 * To flush a batch is to wait for what runs on its processor.  Only the conversion
 * waits: others can use the memory meanwhile, and SIGKILL ends the wait.
 */
GMEM_TEST(gmem_pin, batch_of_a_busy_processor)
{
	static const char *const results[] = {
		[NO_WAIT] = "the page was in no batch",
		[FAULT_WAITED] = "a fault waited for the vCPU",
		[OUTLIVED_SIGKILL] = "the conversion outlived SIGKILL",
	};
	int n, result = NO_WAIT;

	if (sysconf(_SC_NPROCESSORS_ONLN) <= HOG_CPU)
		SKIP(return, "needs two processors");

	/* Something else may have come between, but not each time. */
	kvm_pin_this_task_to_pcpu(0);
	for (n = 0; n < 5 && result != AS_IT_SHOULD_BE; n++) {
		result = convert_beside_hog(&self->env);
		if (result != AS_IT_SHOULD_BE)
			ksft_print_msg("%s\n", results[result]);
	}
	TEST_ASSERT(result == AS_IT_SHOULD_BE, "%s", results[result]);
}

/* Somebody who keeps filling the batches of another processor. */
struct filler {
	pthread_t thread;
	struct env *env;
	bool locked;
	volatile bool stop;
	volatile uint64_t rounds;
};

static void *filler_main(void *data)
{
	struct filler *filler = data;
	struct env *env = filler->env;
	uint64_t offset;

	kvm_pin_this_task_to_pcpu(HOG_CPU);
	while (!filler->stop) {
		if (filler->locked) {
			/* It may be private, that is no matter. */
			for (offset = 0; offset < SIZE; offset += PAGE_SIZE)
				gmem_poke(env->mem + offset, 1);
		} else {
			TEST_ASSERT(!__gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE |
						      FALLOC_FL_KEEP_SIZE, 0, SIZE),
				    "Cannot punch");
			TEST_ASSERT(!__gmem_fallocate(env->fd, FALLOC_FL_KEEP_SIZE, 0, SIZE),
				    "Cannot allocate");
		}
		filler->rounds++;
	}
	return NULL;
}

static void check_filler(struct env *env, bool locked)
{
	struct filler filler = { .env = env, .locked = locked };
	uint64_t error_offset, rounds;
	int n, r;

	if (sysconf(_SC_NPROCESSORS_ONLN) <= HOG_CPU)
		return;

	kvm_pin_this_task_to_pcpu(0);
	TEST_ASSERT(!pthread_create(&filler.thread, NULL, filler_main, &filler),
		    "pthread_create() failed");
	for (n = 0; n < 100; n++) {
		rounds = filler.rounds;
		while (filler.rounds < rounds + 2)
			sched_yield();
		r = __gmem_convert(env->fd, true, 0, SIZE, 0, &error_offset);
		TEST_ASSERT(!r, "Conversion %d: %s at %#lx", n, strerror(-r), error_offset);
		gmem_make_shared(env->fd, 0, SIZE);
	}
	filler.stop = true;
	TEST_ASSERT(!pthread_join(filler.thread, NULL), "pthread_join() failed");
}

/* However often it has to look again: nobody holds a page. */
GMEM_TEST(gmem_pin, filled_batches)
{
	check_filler(&self->env, false);
}

GMEM_TEST(gmem_pin, filled_batches_of_locked_memory)
{
	TEST_ASSERT(!mlock(self->env.mem, SIZE), "mlock: %s", strerror(errno));
	check_filler(&self->env, true);
	munlock(self->env.mem, SIZE);
}

static void reclaim_all(struct env *env)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_FREE,
		MADV_DONTNEED_LOCKED,
	};
	uint64_t populated = gmem_populated(env->fd, 0, SIZE);
	int i;

	for (i = 0; i < ARRAY_SIZE(advice); i++)
		madvise(env->mem, SIZE, advice[i]);
	sync();
	fsync(env->fd);
	posix_fadvise(env->fd, 0, 0, POSIX_FADV_DONTNEED);
	posix_fadvise(env->fd, 0, SIZE, POSIX_FADV_DONTNEED);
	gmem_write_file("/proc/sys/vm/drop_caches", "3");

	TEST_ASSERT_EQ(gmem_populated(env->fd, 0, SIZE), populated);
	guest_check(env, 0, SIZE);
}

/*
 * What only the guest wrote is clean for the host, and clean page cache is what
 * everybody likes to drop.
 */
GMEM_TEST(gmem_pin, advice_drops_nothing)
{
	if (access("/proc/sys/vm/drop_caches", W_OK))
		SKIP(return, "drop_caches: %s", strerror(errno));

	TEST_ASSERT(!__gmem_fallocate(self->env.fd, FALLOC_FL_PUNCH_HOLE |
				      FALLOC_FL_KEEP_SIZE, 0, SIZE),
		    "Cannot punch");
	gmem_make_private(self->env.fd, 0, SIZE);
	gmem_guest_call(self->env.vcpu, gmem_guest_fill, GMEM_GVA, SIZE, SEED);

	reclaim_all(&self->env);
	gmem_make_shared(self->env.fd, 0, SIZE);
	reclaim_all(&self->env);
	TEST_ASSERT_EQ(gmem_populated(self->env.fd, 0, SIZE), (uint64_t)SIZE);

	/* Mapped by the host, but only for reading. */
	gmem_check(self->env.mem, 0, SIZE, SEED);
	reclaim_all(&self->env);
	gmem_check(self->env.mem, 0, SIZE, SEED);
	check_idle(&self->env);
}

/*
 * Huge pages: no page cache is to be collapsed under the guest's feet.
 */
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define HUGE_SIZE	SZ_2M
#define HUGE_SEED	2

FIXTURE(gmem_huge)
{
	struct env env;
	char enabled[64];
	char sleep[32];
};

GMEM_FIXTURE_VARIANTS(gmem_huge);

FIXTURE_SETUP(gmem_huge)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);
	self->env.fd = -1;
	if (gmem_read_file(THP "enabled", self->enabled, sizeof(self->enabled)) ||
	    access(THP "enabled", W_OK))
		SKIP(return, "no transparent huge pages: %s", strerror(errno));
	gmem_read_file(THP "khugepaged/scan_sleep_millisecs", self->sleep,
		       sizeof(self->sleep));

	/* Nobody but the guest has written to it. */
	self->env.vm = gmem_vm_create(variant->type, 1, &self->env.vcpu,
				      HUGE_SIZE / PAGE_SIZE);
	self->env.fd = gmem_create(self->env.vm, HUGE_SIZE, GMEM_FLAGS_SHARED);
	gmem_bind(self->env.vm, GMEM_SLOT, GMEM_GPA, HUGE_SIZE, NULL, self->env.fd, 0);
	gmem_guest_call(self->env.vcpu, gmem_guest_fill, GMEM_GVA, HUGE_SIZE,
			HUGE_SEED);

	gmem_write_file(THP "enabled", "always");
	gmem_write_file(THP "khugepaged/scan_sleep_millisecs", "10");
}

FIXTURE_TEARDOWN(gmem_huge)
{
	char *mode, *end;

	if (self->env.fd < 0)
		return;

	/* The one in brackets. */
	mode = strchr(self->enabled, '[');
	end = strchr(self->enabled, ']');
	if (mode && end) {
		*end = '\0';
		gmem_write_file(THP "enabled", mode + 1);
	}
	gmem_write_file(THP "khugepaged/scan_sleep_millisecs", self->sleep);
	close(self->env.fd);
	kvm_vm_free(self->env.vm);
}

static void *mmap_aligned(int prot, int flags, int fd)
{
	void *mem = mmap(NULL, 2 * HUGE_SIZE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	return mmap(align_ptr_up(mem, HUGE_SIZE), HUGE_SIZE, prot,
		    flags | MAP_FIXED, fd, 0);
}

static uint64_t smaps_value(const void *addr, const char *key)
{
	unsigned long start, end, val = 0;
	bool here = false;
	char line[256];
	FILE *f;

	f = fopen("/proc/self/smaps", "r");
	TEST_ASSERT(f, "smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (unsigned long)addr >= start &&
			       (unsigned long)addr < end;
		else if (here && !strncmp(line, key, strlen(key)))
			val = strtoul(line + strlen(key) + 1, NULL, 10);
	}
	fclose(f);
	return val;
}

/* The same memory on both sides, before as after. */
static void check_identity(struct env *env, uint64_t *mem)
{
	static uint64_t magic = 0x1234567800000000;
	int i;

	TEST_ASSERT_EQ(smaps_value(mem, "FilePmdMapped:"), 0ul);
	for (i = 0; i < HUGE_SIZE / 8; i += 37 * PAGE_SIZE / 8) {
		uint64_t gva = GMEM_GVA + i * 8, old = mem[i];

		gmem_guest_call(env->vcpu, gmem_guest_write, gva, ++magic, 0);
		TEST_ASSERT_EQ(READ_ONCE(mem[i]), magic);
		gmem_guest_call(env->vcpu, gmem_guest_write, gva, old, 0);
	}
	TEST_ASSERT_EQ(gmem_guest_call(env->vcpu, gmem_guest_check, GMEM_GVA,
				       HUGE_SIZE, HUGE_SEED), 0ul);
	gmem_check(mem, 0, HUGE_SIZE, HUGE_SEED);
}

/* Mappings of any kind; what may not be mapped cannot be collapsed. */
static const int huge_prots[] = {
	PROT_READ | PROT_WRITE, PROT_READ, PROT_READ | PROT_EXEC,
};

GMEM_TEST(gmem_huge, madv_collapse)
{
	uint64_t populated = gmem_populated(self->env.fd, 0, HUGE_SIZE);
	void *mem, *anon;
	int i, advised;

	/* It is not that this kernel never does it. */
	anon = mmap_aligned(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1);
	madvise(anon, HUGE_SIZE, MADV_NOHUGEPAGE);
	memset(anon, 1, HUGE_SIZE);
	madvise(anon, HUGE_SIZE, MADV_HUGEPAGE);
	TEST_ASSERT(!madvise(anon, HUGE_SIZE, MADV_COLLAPSE),
		    "MADV_COLLAPSE of anonymous memory: %s", strerror(errno));
	TEST_ASSERT_EQ(smaps_value(anon, "AnonHugePages:"), (uint64_t)HUGE_SIZE / 1024);

	for (i = 0; i < ARRAY_SIZE(huge_prots); i++) {
		for (advised = 0; advised < 2; advised++) {
			mem = mmap_aligned(huge_prots[i], MAP_SHARED, self->env.fd);
			if (mem == MAP_FAILED) {
				TEST_ASSERT(errno == EPERM &&
					    huge_prots[i] & PROT_EXEC,
					    "mmap: %s", strerror(errno));
				continue;
			}
			if (advised)
				madvise(mem, HUGE_SIZE, MADV_HUGEPAGE);
			TEST_ASSERT(madvise(mem, HUGE_SIZE, MADV_COLLAPSE),
				    "MADV_COLLAPSE, prot %d", huge_prots[i]);
			check_identity(&self->env, mem);

			/* Once more, with page tables. */
			TEST_ASSERT(madvise(mem, HUGE_SIZE, MADV_COLLAPSE),
				    "MADV_COLLAPSE, prot %d", huge_prots[i]);
			check_identity(&self->env, mem);
			munmap(mem, HUGE_SIZE);
		}
	}
	TEST_ASSERT_EQ(gmem_populated(self->env.fd, 0, HUGE_SIZE), populated);
}

static long nr_scans(void)
{
	char buf[32];

	TEST_ASSERT_EQ(gmem_read_file(THP "khugepaged/full_scans", buf, sizeof(buf)), 0);
	return strtol(buf, NULL, 10);
}

GMEM_TEST(gmem_huge, khugepaged)
{
	uint64_t populated = gmem_populated(self->env.fd, 0, HUGE_SIZE);
	void *mems[ARRAY_SIZE(huge_prots)] = {}, *anon;
	int i, ms;
	long scans;

	for (i = 0; i < ARRAY_SIZE(huge_prots); i++) {
		mems[i] = mmap_aligned(huge_prots[i], MAP_SHARED, self->env.fd);
		if (mems[i] != MAP_FAILED) {
			madvise(mems[i], HUGE_SIZE, MADV_HUGEPAGE);
			/* Present, as khugepaged likes it. */
			gmem_check(mems[i], 0, HUGE_SIZE, HUGE_SEED);
		}
	}

	/* It has come by, and has collapsed what it found. */
	anon = mmap_aligned(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1);
	madvise(anon, HUGE_SIZE, MADV_NOHUGEPAGE);
	memset(anon, 1, HUGE_SIZE);
	madvise(anon, HUGE_SIZE, MADV_HUGEPAGE);
	scans = nr_scans();
	for (ms = 0; ms < PATIENCE_MS; ms += 50) {
		if (smaps_value(anon, "AnonHugePages:") &&
		    nr_scans() >= scans + 3)
			break;
		usleep(50000);
	}
	TEST_ASSERT(smaps_value(anon, "AnonHugePages:"),
		    "khugepaged did nothing, in %ld scans",
		    nr_scans() - scans);

	for (i = 0; i < ARRAY_SIZE(huge_prots); i++) {
		if (mems[i] != MAP_FAILED)
			check_identity(&self->env, mems[i]);
	}
	TEST_ASSERT_EQ(gmem_populated(self->env.fd, 0, HUGE_SIZE), populated);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();
	return test_harness_run(argc, argv);
}
