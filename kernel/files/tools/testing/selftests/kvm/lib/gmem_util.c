// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers for the tests of guest_memfd that converts in place.
 */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gmem_util.h"
#include "test_util.h"

#define GMEM_CALL_PORT	0x1010

uint64_t gmem_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

void gmem_set_scheduler(int policy)
{
	const struct sched_param param = { .sched_priority = policy == SCHED_FIFO };

	TEST_ASSERT(!sched_setscheduler(0, policy, &param), "sched_setscheduler(%d): %s",
		    policy, strerror(errno));
}

int __gmem_create(struct kvm_vm *vm, uint64_t size, uint64_t flags)
{
	int fd = __vm_create_guest_memfd(vm, size, flags);

	return fd < 0 ? -errno : fd;
}

int gmem_create(struct kvm_vm *vm, uint64_t size, uint64_t flags)
{
	return vm_create_guest_memfd(vm, size, flags);
}

void *gmem_mmap(int fd, uint64_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap() of a guest_memfd failed");
	return mem;
}

int __gmem_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
	return fallocate(fd, mode, offset, size) ? -errno : 0;
}

int __gmem_convert(int fd, bool to_private, uint64_t offset, uint64_t size,
		   uint64_t flags, uint64_t *error_offset)
{
	struct kvm_gmem_convert arg = {
		.offset = offset,
		.size = size,
		.error_offset = -1ULL,
		.flags = flags,
	};
	int r;

	r = ioctl(fd, to_private ? KVM_GMEM_CONVERT_PRIVATE :
				   KVM_GMEM_CONVERT_SHARED, &arg) ? -errno : 0;

	TEST_ASSERT_EQ(arg.offset, offset);
	TEST_ASSERT_EQ(arg.size, size);
	TEST_ASSERT_EQ(arg.flags, flags);

	if (error_offset)
		*error_offset = arg.error_offset;
	return r;
}

static void gmem_convert(int fd, bool to_private, uint64_t offset, uint64_t size)
{
	uint64_t error_offset;
	int r;

	r = __gmem_convert(fd, to_private, offset, size, 0, &error_offset);
	TEST_ASSERT(!r, "%s of [%#lx, %#lx): %s at %#lx",
		    to_private ? "KVM_GMEM_CONVERT_PRIVATE" : "KVM_GMEM_CONVERT_SHARED",
		    offset, offset + size, strerror(-r), error_offset);
}

void gmem_make_private(int fd, uint64_t offset, uint64_t size)
{
	gmem_convert(fd, true, offset, size);
}

void gmem_make_shared(int fd, uint64_t offset, uint64_t size)
{
	gmem_convert(fd, false, offset, size);
}

int __gmem_set_attributes(int fd, uint64_t attributes, uint64_t offset,
			  uint64_t size, uint64_t *error_offset)
{
	struct kvm_memory_attributes2 arg = {
		.offset = offset,
		.size = size,
		.attributes = attributes,
		.error_offset = -1ULL,
	}, before = arg;
	int r;

	r = ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &arg) ? -errno : 0;

	if (error_offset)
		*error_offset = arg.error_offset;
	/* Nothing else is an output, and that one only of a failure. */
	if (r)
		before.error_offset = arg.error_offset;
	TEST_ASSERT(!memcmp(&arg, &before, sizeof(arg)), "an input has changed");
	return r;
}

void gmem_set_attributes(int fd, uint64_t attributes, uint64_t offset,
			 uint64_t size)
{
	uint64_t error_offset;
	int r;

	r = __gmem_set_attributes(fd, attributes, offset, size, &error_offset);
	TEST_ASSERT(!r, "KVM_SET_MEMORY_ATTRIBUTES2 to %#lx of [%#lx, %#lx): %s at %#lx",
		    attributes, offset, offset + size, strerror(-r), error_offset);
}

static int gmem_vm_ioctl(struct kvm_vm *vm, unsigned long request, int fd)
{
	struct kvm_gmem_link arg = { .fd = fd };
	int r = ioctl(vm->fd, request, &arg);

	return r < 0 ? -errno : r;
}

int __gmem_link(struct kvm_vm *vm, int fd)
{
	return gmem_vm_ioctl(vm, KVM_GMEM_LINK, fd);
}

int gmem_link(struct kvm_vm *vm, int fd)
{
	int r = __gmem_link(vm, fd);

	TEST_ASSERT(r >= 0, "KVM_GMEM_LINK: %s", strerror(-r));
	return r;
}

int __gmem_clone(struct kvm_vm *vm, int fd)
{
	return gmem_vm_ioctl(vm, KVM_GMEM_CLONE, fd);
}

int gmem_clone(struct kvm_vm *vm, int fd)
{
	int r = __gmem_clone(vm, fd);

	TEST_ASSERT(r >= 0, "KVM_GMEM_CLONE: %s", strerror(-r));
	return r;
}

int __gmem_freeze(int fd, uint64_t *error_offset)
{
	struct kvm_gmem_freeze arg = { .error_offset = -1ULL };
	int r = ioctl(fd, KVM_GMEM_FREEZE, &arg) ? -errno : 0;

	if (error_offset)
		*error_offset = arg.error_offset;
	return r;
}

void gmem_freeze(int fd)
{
	uint64_t error_offset;
	int r = __gmem_freeze(fd, &error_offset);

	TEST_ASSERT(!r, "KVM_GMEM_FREEZE: %s at %#lx", strerror(-r), error_offset);
}

int __gmem_get_ranges(int fd, struct kvm_gmem_get_ranges *arg)
{
	return ioctl(fd, KVM_GMEM_GET_RANGES, arg) ? -errno : 0;
}

int gmem_get_ranges(int fd, uint64_t offset, uint64_t size, uint32_t flags,
		    struct kvm_gmem_range *ranges, int max)
{
	struct kvm_gmem_get_ranges arg = {
		.offset = offset,
		.size = size,
		.flags = flags,
	};
	uint64_t next = offset;
	int n = 0, i, r;

	while (arg.size) {
		TEST_ASSERT(n < max, "more than %d ranges", max);

		arg.ranges = (uintptr_t)(ranges + n);
		arg.nr = max - n;
		r = __gmem_get_ranges(fd, &arg);
		TEST_ASSERT(!r, "KVM_GMEM_GET_RANGES: %s", strerror(-r));
		TEST_ASSERT(arg.nr && arg.nr <= max - n, "%u ranges", arg.nr);
		n += arg.nr;
		TEST_ASSERT_EQ(arg.offset + arg.size, offset + size);
	}

	for (i = 0; i < n; i++) {
		TEST_ASSERT_EQ(ranges[i].offset, next);
		TEST_ASSERT(ranges[i].size, "an empty range");
		TEST_ASSERT(ranges[i].populated <= ranges[i].size,
			    "more populated than there is");
		TEST_ASSERT(!(ranges[i].flags & ~KVM_GMEM_RANGE_PRIVATE),
			    "unknown flags %#x", ranges[i].flags);
		TEST_ASSERT((ranges[i].node == KVM_GMEM_NODE_NONE) ==
			    !ranges[i].populated,
			    "node %d, %#lx populated", ranges[i].node,
			    (unsigned long)ranges[i].populated);
		TEST_ASSERT(flags || !i ||
			    ranges[i].flags != ranges[i - 1].flags,
			    "neighbours at %#lx are not merged", next);
		next += ranges[i].size;
	}
	TEST_ASSERT_EQ(next, offset + size);

	return n;
}

bool gmem_is_private(int fd, uint64_t offset)
{
	struct kvm_gmem_range range;

	gmem_get_ranges(fd, offset, getpagesize(), 0, &range, 1);
	return range.flags & KVM_GMEM_RANGE_PRIVATE;
}

static int gmem_max_ranges(uint64_t size)
{
	return size / getpagesize() + 1;
}

void gmem_check_states(int fd, const bool *private, uint64_t nr)
{
	struct kvm_gmem_range *ranges = calloc(nr, sizeof(*ranges));
	uint64_t runs = 1, nr_private = private[0], i, j;
	int n;

	TEST_ASSERT(ranges, "out of memory");
	for (i = 1; i < nr; i++) {
		runs += private[i] != private[i - 1];
		nr_private += private[i];
	}

	/* Without gaps, and merged. */
	n = gmem_get_ranges(fd, 0, nr * getpagesize(), 0, ranges, nr);
	TEST_ASSERT_EQ(n, runs);
	for (i = 0, j = 0; i < n; i++)
		for (; j < (ranges[i].offset + ranges[i].size) / getpagesize(); j++)
			TEST_ASSERT(private[j] == !!(ranges[i].flags &
						     KVM_GMEM_RANGE_PRIVATE),
				    "page %lu has the wrong state", j);
	free(ranges);

	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-private"), nr_private * getpagesize());
	TEST_ASSERT_EQ(gmem_fdinfo(fd, "gmem-shared"), (nr - nr_private) * getpagesize());
}

uint64_t gmem_populated(int fd, uint64_t offset, uint64_t size)
{
	int max = gmem_max_ranges(size), n;
	struct kvm_gmem_range *ranges;
	uint64_t populated = 0;

	ranges = calloc(max, sizeof(*ranges));
	TEST_ASSERT(ranges, "out of memory");
	n = gmem_get_ranges(fd, offset, size, 0, ranges, max);
	while (n)
		populated += ranges[--n].populated;
	free(ranges);

	return populated;
}

void gmem_send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {};
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	TEST_ASSERT_EQ(sendmsg(sock, &msg, 0), 1);
}

int __gmem_receive_fd(int sock)
{
	char control[CMSG_SPACE(sizeof(int))], c;
	struct iovec iov = { .iov_base = &c, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int fd;

	TEST_ASSERT_EQ(recvmsg(sock, &msg, 0), 1);
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_len != CMSG_LEN(sizeof(fd))) {
		TEST_ASSERT(msg.msg_flags & MSG_CTRUNC, "no file, and no reason");
		return -EACCES;
	}
	TEST_ASSERT_EQ(cmsg->cmsg_type, SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));

	return fd;
}

int gmem_receive_fd(int sock)
{
	int fd = __gmem_receive_fd(sock);

	TEST_ASSERT(fd >= 0, "no file came");

	return fd;
}

void gmem_step(int fd)
{
	TEST_ASSERT(write(fd, "", 1) == 1, "write() to a pipe failed");
}

void gmem_await(int fd)
{
	char c;

	TEST_ASSERT(read(fd, &c, 1) == 1, "the other process is gone");
}

void gmem_reap(pid_t pid)
{
	int status;

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(!status, "the child failed: status %#x", status);
}

int __gmem_write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, data, len) != (ssize_t)len)
		r = -errno;
	close(fd);

	return r;
}

void gmem_write_file(const char *path, const char *val)
{
	int r = __gmem_write_file(path, val, strlen(val));

	TEST_ASSERT(!r, "'%s' to %s: %s", val, path, strerror(-r));
}

int gmem_read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY), r = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		r = -errno;
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';

	return r;
}

int64_t gmem_fdinfo(int fd, const char *key)
{
	char path[64], line[256];
	int64_t value = -1;
	size_t len = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	TEST_ASSERT(f, "cannot open %s", path);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, len) && !strncmp(line + len, ":\t", 2)) {
			TEST_ASSERT(value == -1, "%s twice in fdinfo", key);
			value = strtoll(line + len + 2, NULL, 10);
		}
	}
	fclose(f);

	return value;
}

struct gmem_snapshot {
	uint64_t size;
	int nr;
	struct kvm_gmem_range *ranges;
	char *contents;
};

static uint64_t gmem_size(int fd)
{
	struct stat st;

	TEST_ASSERT(!fstat(fd, &st), "fstat() failed");
	return st.st_size;
}

struct gmem_snapshot *gmem_snapshot(int fd)
{
	struct gmem_snapshot *snap;
	int i, max;
	char *mem;

	snap = calloc(1, sizeof(*snap));
	TEST_ASSERT(snap, "out of memory");
	snap->size = gmem_size(fd);

	max = gmem_max_ranges(snap->size);
	snap->ranges = calloc(max, sizeof(*snap->ranges));
	snap->contents = calloc(1, snap->size);
	TEST_ASSERT(snap->ranges && snap->contents, "out of memory");

	snap->nr = gmem_get_ranges(fd, 0, snap->size, KVM_GMEM_RANGES_BY_NODE,
				   snap->ranges, max);

	mem = gmem_mmap(fd, snap->size);
	for (i = 0; i < snap->nr; i++) {
		struct kvm_gmem_range *r = &snap->ranges[i];

		if (r->flags & KVM_GMEM_RANGE_PRIVATE || !r->populated)
			continue;
		memcpy(snap->contents + r->offset, mem + r->offset, r->size);
	}
	munmap(mem, snap->size);

	return snap;
}

void gmem_assert_unchanged(int fd, const struct gmem_snapshot *snap,
			   const char *after)
{
	struct gmem_snapshot *now = gmem_snapshot(fd);

	TEST_ASSERT(now->size == snap->size, "the size changed after %s", after);
	TEST_ASSERT(now->nr == snap->nr &&
		    !memcmp(now->ranges, snap->ranges,
			    snap->nr * sizeof(*snap->ranges)),
		    "state or population changed after %s", after);
	TEST_ASSERT(!memcmp(now->contents, snap->contents, snap->size),
		    "contents changed after %s", after);

	gmem_snapshot_free(now);
}

void gmem_snapshot_free(struct gmem_snapshot *snap)
{
	free(snap->contents);
	free(snap->ranges);
	free(snap);
}

int __gmem_bind(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t size,
		void *hva, int fd, uint64_t offset)
{
	return __vm_set_user_memory_region2(vm, slot, KVM_MEM_GUEST_MEMFD, gpa,
					    size, hva, fd, offset) ? -errno : 0;
}

void gmem_bind(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t size,
	       void *hva, int fd, uint64_t offset)
{
	int r = __gmem_bind(vm, slot, gpa, size, hva, fd, offset);

	TEST_ASSERT(!r, "KVM_SET_USER_MEMORY_REGION2: %s", strerror(-r));
}

void gmem_unbind(struct kvm_vm *vm, uint32_t slot)
{
	vm_set_user_memory_region2(vm, slot, 0, 0, 0, NULL, 0, 0);
}

static __thread sigjmp_buf gmem_sigbus_env;
static __thread volatile sig_atomic_t gmem_sigbus_armed;

static void gmem_sigbus(int sig, siginfo_t *info, void *ctx)
{
	if (!gmem_sigbus_armed) {
		/* Not an access that was expected to fail. */
		signal(SIGBUS, SIG_DFL);
		return;
	}

	siglongjmp(gmem_sigbus_env, info->si_code);
}

/* Not a constructor, which would be in every program that links the library. */
static void gmem_sigbus_install(void)
{
	const struct sigaction sa = {
		.sa_sigaction = gmem_sigbus,
		.sa_flags = SA_SIGINFO,
	};
	static bool installed;

	if (!installed)
		TEST_ASSERT(!sigaction(SIGBUS, &sa, NULL), "sigaction() failed");
	installed = true;
}

int gmem_peek(const void *addr, uint64_t *val)
{
	uint64_t v;
	int code;

	gmem_sigbus_install();
	code = sigsetjmp(gmem_sigbus_env, 1);
	if (!code) {
		gmem_sigbus_armed = true;
		v = READ_ONCE(*(const uint64_t *)addr);
		if (val)
			*val = v;
	}
	gmem_sigbus_armed = false;
	return code;
}

int gmem_poke(void *addr, uint64_t val)
{
	int code;

	gmem_sigbus_install();
	code = sigsetjmp(gmem_sigbus_env, 1);
	if (!code) {
		gmem_sigbus_armed = true;
		WRITE_ONCE(*(uint64_t *)addr, val);
	}
	gmem_sigbus_armed = false;
	return code;
}

/* Turn a result of read() or write() of 8 bytes into 0 or -EFAULT. */
static int gmem_syscall_result(ssize_t n)
{
	if (n == 8)
		return 0;
	TEST_ASSERT(n == -1 && errno == EFAULT, "a system call on memory: %zd", n);
	return -EFAULT;
}

int gmem_syscall_peek(const void *addr)
{
	int fds[2], r;

	TEST_ASSERT(!pipe(fds), "pipe() failed");
	r = gmem_syscall_result(write(fds[1], addr, 8));
	close(fds[0]);
	close(fds[1]);
	return r;
}

int gmem_syscall_poke(void *addr)
{
	int fd = open("/dev/zero", O_RDONLY), r;

	TEST_ASSERT(fd >= 0, "cannot open /dev/zero");
	r = gmem_syscall_result(read(fd, addr, 8));
	close(fd);
	return r;
}

void gmem_assert_no_access(void *mem, uint64_t size)
{
	uint64_t offset;

	for (offset = 0; offset < size; offset += getpagesize()) {
		TEST_ASSERT_EQ(gmem_peek(mem + offset, NULL), BUS_ADRERR);
		TEST_ASSERT_EQ(gmem_poke(mem + offset, -1), BUS_ADRERR);
		TEST_ASSERT_EQ(gmem_syscall_peek(mem + offset), -EFAULT);
		TEST_ASSERT_EQ(gmem_syscall_poke(mem + offset), -EFAULT);
	}
}

static void gmem_ignore(int sig)
{
}

int gmem_poison(void *addr)
{
	const struct sigaction sa = { .sa_handler = gmem_ignore };
	struct sigaction old;
	int r;

	sigaction(SIGBUS, &sa, &old);
	r = madvise(addr, getpagesize(), MADV_HWPOISON) ? -errno : 0;
	sigaction(SIGBUS, &old, NULL);
	return r;
}

void gmem_fill(void *mem, uint64_t offset, uint64_t size, uint64_t seed)
{
	uint64_t i;

	for (i = offset; i < offset + size; i += 8)
		*(uint64_t *)(mem + i) = gmem_pattern(seed, i);
}

void gmem_check(const void *mem, uint64_t offset, uint64_t size, uint64_t seed)
{
	uint64_t i;

	for (i = offset; i < offset + size; i += 8)
		TEST_ASSERT(*(uint64_t *)(mem + i) == gmem_pattern(seed, i),
			    "at offset %#lx: %#lx instead of %#lx", i,
			    *(uint64_t *)(mem + i), gmem_pattern(seed, i));
}

void gmem_check_zero(const void *mem, uint64_t offset, uint64_t size)
{
	uint64_t i;

	for (i = offset; i < offset + size; i += 8)
		TEST_ASSERT(!*(uint64_t *)(mem + i),
			    "at offset %#lx: %#lx instead of 0", i,
			    *(uint64_t *)(mem + i));
}

/* Guest: report a result, get the next call, all in registers. */
static void gmem_guest_loop(void)
{
	gmem_guest_fn fn;
	uint64_t a, b, c, r = 0;

	for (;;) {
		asm volatile("outb %%al, %%dx"
			     : "=D"(fn), "=S"(a), "=b"(b), "=c"(c)
			     : "D"(r), "a"(0), "d"(GMEM_CALL_PORT)
			     : "memory");
		r = fn(a, b, c);
	}
}

void gmem_guest_start(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
		      uint64_t b, uint64_t c)
{
	struct kvm_regs regs;

	/* The vCPU is in the loop's OUT, which the next KVM_RUN completes. */
	vcpu_regs_get(vcpu, &regs);
	regs.rdi = (uintptr_t)fn;
	regs.rsi = a;
	regs.rbx = b;
	regs.rcx = c;
	vcpu_regs_set(vcpu, &regs);
}

bool gmem_guest_done(struct kvm_vcpu *vcpu, uint64_t *result)
{
	struct kvm_regs regs;

	if (vcpu->run->exit_reason != KVM_EXIT_IO ||
	    vcpu->run->io.port != GMEM_CALL_PORT)
		return false;

	vcpu_regs_get(vcpu, &regs);
	if (result)
		*result = regs.rdi;
	return true;
}

int __gmem_guest_call(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
		      uint64_t b, uint64_t c, uint64_t *result)
{
	gmem_guest_start(vcpu, fn, a, b, c);
	if (_vcpu_run(vcpu))
		return -errno;
	TEST_ASSERT(gmem_guest_done(vcpu, result), "unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
	return 0;
}

uint64_t gmem_guest_call(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
			 uint64_t b, uint64_t c)
{
	uint64_t result;
	int r;

	r = __gmem_guest_call(vcpu, fn, a, b, c, &result);
	TEST_ASSERT(!r, "KVM_RUN: %s, %s at %#llx", strerror(-r),
		    exit_reason_str(vcpu->run->exit_reason),
		    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT ?
		    vcpu->run->memory_fault.gpa : 0);
	return result;
}

struct kvm_vm *gmem_vm_create(unsigned long type, uint32_t nr_vcpus,
			      struct kvm_vcpu **vcpus, uint64_t nr_pages)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = type,
	};
	struct kvm_vm *vm;
	uint32_t i;

	vm = __vm_create_with_vcpus(shape, nr_vcpus, nr_pages, gmem_guest_loop,
				    vcpus);
	if (nr_pages)
		virt_map(vm, GMEM_GVA, GMEM_GPA, nr_pages);

	/* Up to the first OUT. */
	for (i = 0; i < nr_vcpus; i++) {
		vcpu_run(vcpus[i]);
		TEST_ASSERT(gmem_guest_done(vcpus[i], NULL), "unexpected exit: %s",
			    exit_reason_str(vcpus[i]->run->exit_reason));
	}

	return vm;
}

int gmem_vm_make_private(struct kvm_vm *vm, bool hva)
{
	struct userspace_mem_region *region = memslot2region(vm, 0);
	uint64_t size = region->region.memory_size;
	int fd = gmem_create(vm, size, GMEM_FLAGS_SHARED);
	void *mem;

	mem = gmem_mmap(fd, size);
	memcpy(mem, region->host_mem, size);
	munmap(mem, size);

	/* Let accesses by the library fail, instead of reading the old copy. */
	mem = mmap(region->host_mem, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, fd, 0);
	TEST_ASSERT(mem == region->host_mem, "mmap() of a guest_memfd failed");

	gmem_make_private(fd, 0, size);

	gmem_unbind(vm, 0);
	gmem_bind(vm, 0, region->region.guest_phys_addr, size, hva ? mem : NULL,
		  fd, 0);

	return fd;
}

#define FEP_PARAM	"/sys/module/kvm/parameters/force_emulation_prefix"

char gmem_set_fep(char to)
{
	char was = '0';
	int fd;

	fd = open(FEP_PARAM, O_RDWR);
	if (fd < 0)
		return was;
	if (read(fd, &was, 1) != 1 || pwrite(fd, &to, 1, 0) != 1)
		pr_info("cannot set " FEP_PARAM "\n");
	close(fd);
	return was;
}

uint64_t gmem_guest_read(uint64_t gva, uint64_t b, uint64_t c)
{
	return READ_ONCE(*(uint64_t *)gva);
}

uint64_t gmem_guest_write(uint64_t gva, uint64_t val, uint64_t c)
{
	WRITE_ONCE(*(uint64_t *)gva, val);
	return 0;
}

uint64_t gmem_guest_fill(uint64_t gva, uint64_t size, uint64_t seed)
{
	uint64_t p;

	for (p = gva; p < gva + size; p += 8)
		WRITE_ONCE(*(uint64_t *)p, gmem_pattern(seed, p - GMEM_GVA));
	return 0;
}

uint64_t gmem_guest_check(uint64_t gva, uint64_t size, uint64_t seed)
{
	uint64_t p;

	for (p = gva; p < gva + size; p += 8)
		if (READ_ONCE(*(uint64_t *)p) != gmem_pattern(seed, p - GMEM_GVA))
			return p;
	return 0;
}

uint64_t gmem_guest_check_zero(uint64_t gva, uint64_t size, uint64_t c)
{
	uint64_t p;

	for (p = gva; p < gva + size; p += 8)
		if (READ_ONCE(*(uint64_t *)p))
			return p;
	return 0;
}

uint64_t gmem_guest_fep_read(uint64_t gva, uint64_t b, uint64_t c)
{
	uint64_t val;

	asm volatile(KVM_FEP "movq (%1), %0" : "=a"(val) : "c"(gva) : "memory");
	return val;
}
