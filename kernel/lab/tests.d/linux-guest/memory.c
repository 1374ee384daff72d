// SPDX-License-Identifier: GPL-2.0-only
/* The guest's memory, and what the host can see of it. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <linux/kvm.h>
#include <linux/kvm_gmem.h>

#include "vmm.h"

int memory;
volatile uint8_t *ram;

double seconds(void)
{
	static struct timespec begin;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!begin.tv_sec)
		begin = now;
	return now.tv_sec - begin.tv_sec + (now.tv_nsec - begin.tv_nsec) / 1e9;
}

static __thread sigjmp_buf out_of_here;

static void on_sigbus(int sig)
{
	siglongjmp(out_of_here, 1);
}

bool readable(uint64_t offset)
{
	if (sigsetjmp(out_of_here, 0))
		return false;
	(void)ram[offset];
	return true;
}

void convert(unsigned long request, uint64_t offset, uint64_t size)
{
	struct kvm_gmem_convert c = { .offset = offset, .size = size };

	if (ioctl(memory, request, &c))
		fail("conversion of [%#lx, %#lx): %s at %#llx", offset, offset + size, strerror(errno), c.error_offset);
}

void expect_private(const char *when)
{
	struct kvm_gmem_range r;
	struct kvm_gmem_get_ranges g = { .size = RAM_SIZE, .ranges = (uintptr_t)&r, .nr = 1 };

	must(ioctl(memory, KVM_GMEM_GET_RANGES, &g));
	if (g.nr != 1 || r.offset || r.size != RAM_SIZE || r.flags != KVM_GMEM_RANGE_PRIVATE)
		fail("%s: not all of it is private: first run [%#llx, %#llx), flags %#x", when,
		     r.offset, r.offset + r.size, r.flags);
}

void expect_unreadable(const char *when)
{
	expect_private(when);
	for (uint64_t offset = 0; offset < RAM_SIZE; offset += PAGE)
		if (readable(offset + offset / PAGE % PAGE))
			fail("%s: the host can read the page at %#lx", when, offset);
	expect_private(when);
	say("%s: one run, private; each of %lu pages is SIGBUS", when, RAM_SIZE / PAGE);
}

/*
 * The slot's userspace_addr is 0, so whoever takes it for an address goes to that of
 * the guest. All that is mapped there is memory that nobody has touched.
 */
#define BAIT		0x10000ul	/* mmap_min_addr */
#define BAIT_SIZE	(RAM_SIZE - BAIT)

static volatile uint8_t *bait;

static void set_bait(void)
{
	bait = mmap((void *)BAIT, BAIT_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (bait != (void *)BAIT)
		fail("mmap at %#lx: %s", BAIT, strerror(errno));
}

void touch_bait(void)
{
	(void)bait[3 * PAGE];
}

void expect_bait_untouched(void)
{
	static unsigned char resident[BAIT_SIZE / PAGE];

	must(mincore((void *)BAIT, BAIT_SIZE, resident));
	for (size_t i = 0; i < BAIT_SIZE / PAGE; i++)
		if (resident[i] & 1)
			fail("somebody used the host address %#lx for the guest's", BAIT + i * PAGE);
	say("nobody went to a host address for the guest's memory");
}

void memory_create(int vm)
{
	struct kvm_create_guest_memfd gm = {
		.size = RAM_SIZE,
		.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
	};
	struct sigaction bus = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &bus, NULL);
	set_bait();
	memory = must(ioctl(vm, KVM_CREATE_GUEST_MEMFD, &gm));
	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (ram == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
}
