// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the library adds to a conversion: gmem_convert() of a page beside the ioctl
 * alone, and gmem_exit_handle() of a hypercall beside the least code that could do it.
 * In instructions, under -icount (see README.md): a tick of the TSC is one. The least
 * of many counts. Allocations are counted, too.
 *
 * The target is 10 %. Above that, or where anything is allocated, it ends with 3.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/kvm_gmem.h>
#include <gmem.h>

#define PAGE	4096ul
#define SIZE	(64 * PAGE)
#define GPA	(1ul << 20)
#define ROUNDS	400

static struct gmem_vm *vm;
static struct gmem *memory;
static int fd;
static struct kvm_run run;
static struct gmem_exit ex = GMEM_EXIT_INIT;
static unsigned long allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocations++;
	return __real_calloc(n, size);
}

static void must(const char *what, bool fine)
{
	if (!fine) {
		fprintf(stderr, "%s failed\n", what);
		exit(1);
	}
}

static int bare(uint64_t gpa, uint32_t state)
{
	struct kvm_gmem_convert convert = { .offset = gpa - GPA, .size = PAGE };

	return ioctl(fd, state == GMEM_STATE_PRIVATE ? KVM_GMEM_CONVERT_PRIVATE :
			 KVM_GMEM_CONVERT_SHARED, &convert);
}

static int library(uint64_t gpa, uint32_t state)
{
	return gmem_convert(vm, gpa, PAGE, state, NULL, NULL, NULL);
}

static void hypercall(uint64_t gpa, uint32_t state)
{
	run.exit_reason = KVM_EXIT_HYPERCALL;
	run.hypercall.nr = 12;
	run.hypercall.args[0] = gpa;
	run.hypercall.args[1] = 1;
	run.hypercall.args[2] = state == GMEM_STATE_PRIVATE ? 16 : 0;
}

/* A VMM with one slot, no locks, no checks. */
static int least_handler(uint64_t gpa, uint32_t state)
{
	uint32_t want;

	hypercall(gpa, state);
	if (run.exit_reason != KVM_EXIT_HYPERCALL || run.hypercall.nr != 12)
		return 1;
	want = run.hypercall.args[2] & 16 ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED;
	if (run.hypercall.args[0] < GPA || run.hypercall.args[0] >= GPA + SIZE)
		return 0;
	run.hypercall.ret = bare(run.hypercall.args[0], want) ? -errno : 0;
	return 0;
}

static int handler(uint64_t gpa, uint32_t state)
{
	hypercall(gpa, state);
	return gmem_exit_handle(vm, &run, 0, &ex, NULL, NULL);
}

static uint64_t ticks(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* A round trip of a page: to private, and back. */
static uint64_t measure(int (*convert)(uint64_t gpa, uint32_t state))
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t begin = ticks(), took;
		int r = convert(GPA + 8 * PAGE, GMEM_STATE_PRIVATE);

		r |= convert(GPA + 8 * PAGE, GMEM_STATE_SHARED);
		took = ticks() - begin;
		must("a conversion", !r);
		if (took < least)
			least = took;
	}
	return least;
}

static bool compare(const char *what, uint64_t with, uint64_t without)
{
	double more = 100.0 * ((double)with - (double)without) / (double)without;

	printf("%-20s %8llu  without the library %8llu  %+.2f %%  (at most 10)%s\n", what,
	       (unsigned long long)with, (unsigned long long)without, more,
	       more > 10 ? "  MISSED" : "");
	return more <= 10;
}

int main(void)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;
	uint64_t convert, handle, ioctl_alone, least;
	unsigned long before;
	bool good;
	void *map;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm_fd;

	must("/dev/kvm", kvm >= 0);
	vm_fd = ioctl(kvm, KVM_CREATE_VM, 0ul);
	must("KVM_CREATE_VM", vm_fd >= 0);
	must("gmem_vm_new", !gmem_vm_new(vm_fd, NULL, &vm, &error));
	options.mode = GMEM_MODE_INPLACE;
	options.initial = GMEM_STATE_SHARED;
	must("gmem_new", !gmem_new(vm, SIZE, &options, &memory, &error));
	must("gmem_bind", !gmem_bind(memory, 0, GPA, 0, SIZE, &error));
	must("gmem_map", !gmem_map(memory, 0, SIZE, 0, &map, &error));
	memset(map, 1, SIZE);
	fd = gmem_fd(memory);

	/* All of it once, so that the next time finds caches and slabs warm. */
	measure(bare);
	measure(library);
	before = allocations;
	ioctl_alone = measure(bare);
	convert = measure(library);
	least = measure(least_handler);
	handle = measure(handler);
	good = compare("gmem_convert", convert, ioctl_alone);
	good &= compare("gmem_exit_handle", handle, least);
	printf("%-20s %8lu\n", "allocations", allocations - before);
	return good && allocations == before ? 0 : 3;
}
