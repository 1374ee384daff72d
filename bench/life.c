// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that outlives its VM: what it costs to keep it across a reboot and to clone
 * it, beside making it anew and copying it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define NR_CLONES	10
/* Of its memory that each clone writes. */
#define PERCENT		1

/* A guest that has written all of its memory, which is private. */
static void new_populated(struct guest *g, uint64_t size)
{
	guest_new(g, IN_PLACE, size);
	convert(g, 0, size, true);
	guest_touch(g, 0, size, 0x5a);
}

/*
 * Until a new VM has all of its memory, zeroed and private. Without links the guest's
 * faults allocate it, so that this comes with the guest having it mapped; the second
 * measure counts the same faults with a link, too.
 */
static void measure_reboot(uint64_t size)
{
	uint64_t anew[2], reuse[2], mapped[2], begin;
	struct guest old, new;

	for (int i = 0; i < 2; i++) {
		new_populated(&old, size);
		begin = now();
		guest_free(&old);
		guest_new(&new, IN_PLACE, size);
		convert(&new, 0, size, true);
		guest_touch(&new, 0, size, 0);
		anew[i] = now() - begin;

		old = new;
		guest_touch(&old, 0, size, 0x5a);
		begin = now();
		guest_link(&new, &old);
		guest_free(&old);
		zero(&new);
		convert(&new, 0, size, true);
		reuse[i] = now() - begin;
		guest_touch(&new, 0, size, 0);
		mapped[i] = now() - begin;
		if (populated(&new) != size)
			die("a linked memory has %lu bytes", populated(&new));
		guest_free(&new);
	}
	report("reboot", "anew", size, anew[0], anew[1]);
	report("reboot", "reuse", size, reuse[0], reuse[1]);
	report("reboot", "reuse-mapped", size, mapped[0], mapped[1]);
}

/* A copy by the VMM of memory that is shared, into new memory. */
static uint64_t copy(const struct guest *golden)
{
	struct guest g;
	uint64_t begin, took;

	guest_new(&g, IN_PLACE, golden->size);
	begin = now();
	memcpy(g.shared, golden->shared, golden->size);
	took = now() - begin;
	guest_free(&g);
	return took;
}

static void measure_clone(uint64_t size)
{
	uint64_t cloned[2], copied[2], begin;
	struct guest golden;
	int fd;

	guest_new(&golden, IN_PLACE, size);
	host_touch(&golden, 0, size, 0x5a);
	for (int i = 0; i < 2; i++)
		copied[i] = copy(&golden);
	freeze(&golden);
	for (int i = 0; i < 2; i++) {
		cloned[i] = UINT64_MAX;
		for (int n = 0; n < 32; n++) {
			begin = now();
			fd = clone_fd(&golden);
			begin = now() - begin;
			cloned[i] = begin < cloned[i] ? begin : cloned[i];
			close(fd);
		}
	}
	guest_free(&golden);
	report("clone", "clone", size, cloned[0], cloned[1]);
	report("clone", "copy", size, copied[0], copied[1]);
}

/* The sum of the numbers that follow a word in a file of /proc. */
static uint64_t sum_of(const char *path, const char *format)
{
	uint64_t sum = 0, n;
	char line[256];
	FILE *f = fopen(path, "r");

	if (!f)
		die("cannot open %s", path);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, format, &n) == 1)
			sum += n;
	fclose(f);
	return sum;
}

/* With what each processor keeps of the pages that it freed, which MemFree leaves out. */
static uint64_t free_bytes(void)
{
	sync();
	return (sum_of("/proc/meminfo", "MemFree: %lu") << 10) +
	       sum_of("/proc/zoneinfo", " count: %lu") * PAGE;
}

/* All that is used: VMs, page tables and trees as well. */
static void measure_clones(uint64_t size)
{
	uint64_t part = size / 100 * PERCENT / PAGE * PAGE;
	struct guest golden, clones[NR_CLONES];
	double used[2];
	uint64_t before;

	for (int i = 0; i < 2; i++) {
		usleep(100000);
		before = free_bytes();
		new_populated(&golden, size);
		freeze(&golden);
		for (int n = 0; n < NR_CLONES; n++) {
			guest_clone(&clones[n], &golden);
			guest_touch(&clones[n], n * part, part, n);
			if (populated(&clones[n]) != part)
				die("a clone has %lu bytes", populated(&clones[n]));
		}
		usleep(100000);
		used[i] = before - free_bytes();
		for (int n = 0; n < NR_CLONES; n++)
			guest_free(&clones[n]);
		guest_free(&golden);
	}
	report("clones-memory", "used", size, used[0], used[1]);
	report("clones-memory", "written", size, size + NR_CLONES * part, size + NR_CLONES * part);
}

/* Of reading, per page, without what it takes to run the guest at all. */
static double read_per_page(struct guest *g)
{
	uint64_t begin, empty;

	guest_read(g, 0, 0);
	begin = now();
	guest_read(g, 0, 0);
	empty = now() - begin;
	begin = now();
	guest_read(g, 0, g->size);
	return (double)(now() - begin - empty) / (g->size / PAGE);
}

static void measure_read_faults(uint64_t size)
{
	double ordinary[2], golden_page[2];
	struct guest golden, g;

	for (int i = 0; i < 2; i++) {
		new_populated(&golden, size);
		guest_rebind(&golden);
		ordinary[i] = read_per_page(&golden);
		freeze(&golden);
		guest_clone(&g, &golden);
		golden_page[i] = read_per_page(&g);
		guest_free(&g);
		guest_free(&golden);
	}
	report("read-fault", "ordinary", size, ordinary[0], ordinary[1]);
	report("read-fault", "golden", size, golden_page[0], golden_page[1]);
}

void measure_life(uint64_t largest)
{
	measure_reboot(largest);
	for (uint64_t size = PAGE; size <= largest; size <<= 6)
		measure_clone(size);
	measure_clones(largest);
	measure_read_faults(largest < 64 << 20 ? largest : 64 << 20);
}
