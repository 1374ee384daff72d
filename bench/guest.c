// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest that does nothing but touch pages, through KVM's ioctls alone.
 *
 * It runs in 32-bit protected mode without paging: flat segments, a page of code
 * at CODE_GPA, the memory that is measured at MEM_GPA.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kvm_gmem.h>

#include "bench.h"

#define CODE_GPA	0x1000ULL
#define SLOT_CODE	0
#define SLOT_MEM	1

/* The same loop twice: to write and, at CODE_READ, to read. */
static const uint8_t code[] = {
	0xe3, 0x0b,				/*    jecxz 2f */
	0x88, 0x06,				/* 1: mov %al, (%esi) */
	0x81, 0xc6, 0x00, 0x10, 0x00, 0x00,	/*    add $4096, %esi */
	0x49,					/*    dec %ecx */
	0x75, 0xf5,				/*    jnz 1b */
	0xf4,					/* 2: hlt */
	0x90, 0x90,
	0xe3, 0x0b,
	0x8a, 0x06,				/* 1: mov (%esi), %al */
	0x81, 0xc6, 0x00, 0x10, 0x00, 0x00,
	0x49,
	0x75, 0xf5,
	0xf4,
};

#define CODE_READ	16

void die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fputs("gmem_bench: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (%s)\n", strerror(err));
	exit(2);
}

static int xioctl(int fd, unsigned long request, void *arg, const char *what)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		die("%s failed", what);
	return r;
}

#define XIOCTL(fd, request, arg) \
	xioctl(fd, request, (void *)(unsigned long)(arg), #request)

bool have_in_place(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, caps;

	if (kvm < 0)
		die("cannot open /dev/kvm");
	vm = XIOCTL(kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);
	caps = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_GMEM);
	close(vm);
	close(kvm);
	return caps > 0 && (caps & KVM_GMEM_CAP_CONVERT);
}

static void set_slot(struct guest *g, bool present)
{
	struct kvm_userspace_memory_region2 slot = {
		.slot = SLOT_MEM,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = MEM_GPA,
		.memory_size = present ? g->size : 0,
		.userspace_addr = (uintptr_t)g->shared,
		.guest_memfd = g->gmem,
	};

	XIOCTL(g->vm, KVM_SET_USER_MEMORY_REGION2, &slot);
}

static void set_segment(struct kvm_segment *seg, uint16_t selector, uint8_t type)
{
	*seg = (struct kvm_segment) {
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
}

static void new_vcpu(struct guest *g)
{
	struct kvm_sregs sregs;

	g->vcpu = XIOCTL(g->vm, KVM_CREATE_VCPU, 0);
	g->run_size = XIOCTL(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	if (g->run == MAP_FAILED)
		die("cannot map the vCPU");

	XIOCTL(g->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr0 = 0x11;	/* PE, ET */
	set_segment(&sregs.cs, 0x08, 0xb);
	set_segment(&sregs.ds, 0x10, 0x3);
	sregs.es = sregs.ds;
	sregs.ss = sregs.ds;
	XIOCTL(g->vcpu, KVM_SET_SREGS, &sregs);
}

static void new_code(struct guest *g)
{
	struct kvm_userspace_memory_region2 slot = {
		.slot = SLOT_CODE,
		.guest_phys_addr = CODE_GPA,
		.memory_size = PAGE,
	};

	g->code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->code == MAP_FAILED)
		die("cannot map a page");
	memcpy(g->code, code, sizeof(code));
	slot.userspace_addr = (uintptr_t)g->code;
	XIOCTL(g->vm, KVM_SET_USER_MEMORY_REGION2, &slot);
}

/*
 * With a gigabyte of its own, as where a VMM wants huge pages: else the first and
 * the last page table is shared with neighbours, and its 512 entries are looked at
 * whether there is anything of ours or not.
 */
static void *map_aligned(int fd, uint64_t size)
{
	const uint64_t gib = 1ULL << 30;
	uint64_t room = ((size + gib - 1) & -gib) + gib;
	uintptr_t start;
	void *p;

	p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		die("cannot reserve addresses");
	start = ((uintptr_t)p + gib - 1) & -gib;
	munmap(p, room);
	p = mmap((void *)start, size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	if (p == MAP_FAILED)
		die("cannot map the guest's memory");
	return p;
}

/* A memory of its own, or, by @request, one that comes of @from. */
static int new_gmem(struct guest *g, unsigned long request, int from)
{
	struct kvm_create_guest_memfd create = { .size = g->size };
	struct kvm_gmem_link args = { .fd = from };

	if (from >= 0)
		return xioctl(g->vm, request, &args, "to link or clone");
	if (g->path == IN_PLACE)
		create.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
	return XIOCTL(g->vm, KVM_CREATE_GUEST_MEMFD, &create);
}

static void make(struct guest *g, enum path path, uint64_t size, unsigned long request, int from)
{
	int fd;

	*g = (struct guest) { .path = path, .size = size, .memfd = -1 };
	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		die("cannot open /dev/kvm");
	g->vm = XIOCTL(g->kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);

	g->gmem = new_gmem(g, request, from);
	fd = g->gmem;
	if (path == DUAL) {
		g->memfd = memfd_create("shared", MFD_CLOEXEC);
		if (g->memfd < 0 || ftruncate(g->memfd, size))
			die("cannot make a memfd");
		fd = g->memfd;
	}
	g->shared = map_aligned(fd, size);

	new_code(g);
	set_slot(g, true);
	new_vcpu(g);
	/* The code page, and all that the first run of a vCPU does once. */
	guest_touch(g, 0, 0, 0);
}

void guest_new(struct guest *g, enum path path, uint64_t size)
{
	make(g, path, size, 0, -1);
}

void guest_link(struct guest *g, const struct guest *from)
{
	make(g, IN_PLACE, from->size, KVM_GMEM_LINK, from->gmem);
}

void guest_clone(struct guest *g, const struct guest *golden)
{
	make(g, IN_PLACE, golden->size, KVM_GMEM_CLONE, golden->gmem);
}

int clone_fd(const struct guest *golden)
{
	struct kvm_gmem_link args = { .fd = golden->gmem };

	return XIOCTL(golden->vm, KVM_GMEM_CLONE, &args);
}

void freeze(const struct guest *g)
{
	struct kvm_gmem_freeze args = { 0 };

	XIOCTL(g->gmem, KVM_GMEM_FREEZE, &args);
}

void zero(const struct guest *g)
{
	if (fallocate(g->gmem, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, g->size))
		die("cannot zero the memory");
}

void guest_free(struct guest *g)
{
	munmap(g->run, g->run_size);
	munmap(g->shared, g->size);
	munmap(g->code, PAGE);
	close(g->vcpu);
	close(g->gmem);
	if (g->memfd >= 0)
		close(g->memfd);
	close(g->vm);
	close(g->kvm);
}

void guest_rebind(struct guest *g)
{
	set_slot(g, false);
	set_slot(g, true);
	/* Bring the code page back, which went with the rest. */
	guest_touch(g, 0, 0, 0);
}

static void run(struct guest *g, uint64_t rip, uint64_t offset, uint64_t size, uint8_t value)
{
	struct kvm_regs regs = {
		.rip = rip,
		.rflags = 2,
		.rax = value,
		.rsi = MEM_GPA + offset,
		.rcx = size / PAGE,
	};

	XIOCTL(g->vcpu, KVM_SET_REGS, &regs);
	while (ioctl(g->vcpu, KVM_RUN, 0)) {
		if (errno != EINTR)
			die("KVM_RUN failed, exit reason %u", g->run->exit_reason);
	}
	if (g->run->exit_reason != KVM_EXIT_HLT)
		die("the guest did not halt, exit reason %u", g->run->exit_reason);
}

void guest_touch(struct guest *g, uint64_t offset, uint64_t size, uint8_t value)
{
	run(g, CODE_GPA, offset, size, value);
}

void guest_read(struct guest *g, uint64_t offset, uint64_t size)
{
	run(g, CODE_GPA + CODE_READ, offset, size, 0);
}

void host_touch(struct guest *g, uint64_t offset, uint64_t size, uint8_t value)
{
	volatile uint8_t *p = g->shared + offset, *end = p + size;

	for (; p < end; p += PAGE)
		*p = value;
}

void convert(struct guest *g, uint64_t offset, uint64_t size, bool private)
{
	if (g->path == IN_PLACE) {
		struct kvm_gmem_convert args = { .offset = offset, .size = size };

		if (private)
			XIOCTL(g->gmem, KVM_GMEM_CONVERT_PRIVATE, &args);
		else
			XIOCTL(g->gmem, KVM_GMEM_CONVERT_SHARED, &args);
	} else {
		struct kvm_memory_attributes attr = {
			.address = MEM_GPA + offset,
			.size = size,
			.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
		};

		XIOCTL(g->vm, KVM_SET_MEMORY_ATTRIBUTES, &attr);
	}
}

void discard(struct guest *g, uint64_t offset, uint64_t size, bool private)
{
	if (g->path == IN_PLACE)
		return;
	if (fallocate(private ? g->memfd : g->gmem,
		      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size))
		die("cannot punch a hole");
}

static uint64_t fdinfo_populated(int fd)
{
	char path[64], line[256];
	uint64_t bytes = 0;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	if (!f)
		die("cannot open %s", path);
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "gmem-populated: %lu", &bytes) == 1;
	fclose(f);
	if (!found)
		die("there is no gmem-populated in %s", path);
	return bytes;
}

uint64_t populated(struct guest *g)
{
	uint64_t bytes = fdinfo_populated(g->gmem);
	struct stat st;

	if (g->memfd >= 0) {
		if (fstat(g->memfd, &st))
			die("cannot stat the memfd");
		bytes += st.st_blocks * 512;
	}
	return bytes;
}
