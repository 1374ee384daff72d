/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/kvm.h>

#define PAGE		4096ULL
#define MEM_GPA		0x40000000ULL

/* What a guest's memory is made of. */
enum path {
	/* A file with MMAP, converted in place. */
	IN_PLACE,
	/*
	 * A file without MMAP and a memfd beside it, converted by attributes
	 * and emptied on the side that is not used.
	 */
	DUAL,
};

struct guest {
	enum path path;
	uint64_t size;
	int kvm, vm, vcpu;
	int gmem, memfd;	/* memfd: DUAL only, else -1 */
	uint8_t *shared;	/* what is shared, as the host sees it */
	void *code;
	struct kvm_run *run;
	int run_size;
};

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...);

/* The instructions that the machine has executed, if it counts them. */
static inline uint64_t now(void)
{
	uint32_t lo, hi;

	asm volatile("lfence; rdtsc" : "=a" (lo), "=d" (hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

bool have_in_place(void);
void guest_new(struct guest *g, enum path path, uint64_t size);
/* Of a VM of its own, on the same memory, or on a clone of it. */
void guest_link(struct guest *g, const struct guest *from);
void guest_clone(struct guest *g, const struct guest *golden);
void guest_free(struct guest *g);
/* The memory leaves the guest's address space, and comes back. */
void guest_rebind(struct guest *g);
/* The guest writes @value to the first byte of each page. */
void guest_touch(struct guest *g, uint64_t offset, uint64_t size, uint8_t value);
/* It reads the first byte of each. */
void guest_read(struct guest *g, uint64_t offset, uint64_t size);
void host_touch(struct guest *g, uint64_t offset, uint64_t size, uint8_t value);
void convert(struct guest *g, uint64_t offset, uint64_t size, bool private);
/* Free what a conversion left on the side that is not used any more. */
void discard(struct guest *g, uint64_t offset, uint64_t size, bool private);
void zero(const struct guest *g);
void freeze(const struct guest *g);
/* One more clone, for the golden memory's own VM. */
int clone_fd(const struct guest *golden);
/* Bytes of memory behind the guest's, on all sides. */
uint64_t populated(struct guest *g);

/* gmem_bench.c */
void report(const char *measure, const char *path, uint64_t size, double first, double second);

/* life.c: of memory that outlives its VM, up to that size */
void measure_life(uint64_t largest);

#endif
