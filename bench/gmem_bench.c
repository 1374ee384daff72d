// SPDX-License-Identifier: GPL-2.0-only
/*
 * What conversion in place costs, beside what it replaces. See README.md.
 *
 * Each line of output is MEASURE PATH SIZE FIRST SECOND: the measure was taken
 * twice. report.awk makes a table of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm_gmem.h>

#include "bench.h"

#define KIB	(1ULL << 10)
#define MIB	(1ULL << 20)
#define GIB	(1ULL << 30)

static const uint64_t sizes[] = { 4 * KIB, 64 * KIB, 2 * MIB, 64 * MIB, GIB };
static uint64_t largest = GIB;

static const char *path_name(enum path path)
{
	return path == IN_PLACE ? "in-place" : "stock";
}

void report(const char *measure, const char *path, uint64_t size, double first, double second)
{
	printf("%s %s %lu %.3f %.3f\n", measure, path, size, first, second);
	fflush(stdout);
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* More often where it is short, and one timer interrupt would be much. */
static unsigned int repeats(enum path path, uint64_t size)
{
	if (path == IN_PLACE)
		return 32;
	return size <= 2 * MIB ? 32 : size <= 64 * MIB ? 2 : 1;
}

/*
 * Conversion of memory that nobody ever touched: a range at the beginning of a
 * file of the largest size.
 */
static void measure_convert(enum path path, uint64_t size)
{
	uint64_t best[2][2];	/* [first, second][to private] */
	struct guest g;

	guest_new(&g, path, largest);
	/* What is allocated once. */
	for (int private = 1; private >= 0; private--) {
		convert(&g, 0, size, private);
		discard(&g, 0, size, private);
	}
	for (int series = 0; series < 2; series++) {
		best[series][0] = best[series][1] = UINT64_MAX;
		for (unsigned int i = 0; i < repeats(path, size); i++) {
			for (int private = 1; private >= 0; private--) {
				uint64_t begin = now();

				convert(&g, 0, size, private);
				discard(&g, 0, size, private);
				best[series][private] = min(best[series][private], now() - begin);
			}
		}
	}
	guest_free(&g);
	report("convert-private", path_name(path), size, best[0][1], best[1][1]);
	report("convert-shared", path_name(path), size, best[0][0], best[1][0]);
}

enum { TO_PRIVATE, GUEST, TO_SHARED, HOST, NR_PARTS };

static const char *const parts[NR_PARTS] = {
	"round-trip.to-private", "round-trip.guest", "round-trip.to-shared", "round-trip.host",
};

/* Looks at the memory after each step, which is not counted. */
static uint64_t one_round_trip(struct guest *g, uint64_t size, uint64_t *times,
			       uint64_t *peak)
{
	uint64_t sum = 0, t[NR_PARTS];
	uint64_t begin, bytes;

	for (int part = 0; part < NR_PARTS; part++) {
		begin = now();
		switch (part) {
		case TO_PRIVATE:
		case TO_SHARED:
			convert(g, 0, size, part == TO_PRIVATE);
			discard(g, 0, size, part == TO_PRIVATE);
			break;
		case GUEST:
			guest_touch(g, 0, size, 2);
			break;
		case HOST:
			host_touch(g, 0, size, 3);
			break;
		}
		t[part] = now() - begin;
		sum += t[part];
		times[part] = min(times[part], t[part]);
		bytes = populated(g);
		if (bytes > *peak)
			*peak = bytes;
	}
	return sum;
}

/* What is converted in place keeps its contents; otherwise this measures nothing. */
static void check_contents(struct guest *g, uint64_t size)
{
	for (uint64_t offset = 0; offset < size; offset += PAGE)
		*(uint64_t *)(g->shared + offset + 8) = offset + 1;
	convert(g, 0, size, true);
	guest_touch(g, 0, size, 4);
	convert(g, 0, size, false);
	for (uint64_t offset = 0; offset < size; offset += PAGE) {
		if (g->shared[offset] != 4 || *(uint64_t *)(g->shared + offset + 8) != offset + 1) {
			errno = EILSEQ;
			die("the page at %lu has lost its contents", offset);
		}
	}
}

static void measure_round_trip(enum path path, uint64_t size)
{
	uint64_t best[2] = { UINT64_MAX, UINT64_MAX };
	uint64_t times[2][NR_PARTS], unused[NR_PARTS] = { 0 };
	uint64_t peak[2] = { 0, 0 };
	struct guest g;
	int i;

	memset(times, 0xff, sizeof(times));
	guest_new(&g, path, size);
	host_touch(&g, 0, size, 1);
	/* The page tables of both sides; where there is much, that is little. */
	if (size <= 64 * MIB)
		one_round_trip(&g, size, unused, &peak[0]);
	for (i = 0; i < 2; i++) {
		for (unsigned int n = size <= 2 * MIB ? 16 : 1; n; n--)
			best[i] = min(best[i], one_round_trip(&g, size, times[i], &peak[i]));
	}
	if (path == IN_PLACE && size <= 64 * MIB)
		check_contents(&g, size);
	guest_free(&g);

	report("round-trip", path_name(path), size, best[0], best[1]);
	for (i = 0; i < NR_PARTS; i++)
		report(parts[i], path_name(path), size, times[0][i], times[1][i]);
	report("memory", path_name(path), size, peak[0], peak[1]);
}

/*
 * What an empty run of the guest costs is taken off: entering and leaving KVM is
 * no part of a fault.
 */
static double run_per_page(struct guest *g, uint64_t size)
{
	uint64_t begin, empty;

	guest_touch(g, 0, 0, 0);
	begin = now();
	guest_touch(g, 0, 0, 0);
	empty = now() - begin;
	begin = now();
	guest_touch(g, 0, size, 1);
	return (double)(now() - begin - empty) / (size / PAGE);
}

static void measure_faults(enum path path, const char *name, uint64_t size)
{
	double fresh[2], again[2];
	struct guest g;

	for (int i = 0; i < 2; i++) {
		guest_new(&g, path, size);
		convert(&g, 0, size, true);
		fresh[i] = run_per_page(&g, size);
		/* Now that the memory is there, but unmapped again. */
		guest_rebind(&g);
		again[i] = run_per_page(&g, size);
		guest_free(&g);
	}
	report("fault-fresh", name, size, fresh[0], fresh[1]);
	report("fault-again", name, size, again[0], again[1]);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("cannot write to %s", path);
	close(fd);
}

static uint64_t slab_bytes(void)
{
	unsigned long active, all, object;
	char line[512];
	FILE *f;

	f = fopen("/proc/slabinfo", "r");
	if (!f)
		die("cannot open /proc/slabinfo");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "maple_node %lu %lu %lu", &active, &all, &object) == 3) {
			fclose(f);
			return active * object;
		}
	}
	die("no maple_node in /proc/slabinfo: boot with slab_nomerge");
}

/*
 * What the nodes of all maple trees take. Freed nodes go through RCU, and a CPU's
 * own slabs count as used: wait until nothing changes any more.
 */
static uint64_t maple_bytes(void)
{
	uint64_t last = 0, bytes;
	int same = 0;

	for (int i = 0; i < 100 && same < 3; i++) {
		if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
			die("membarrier failed");
		usleep(50000);
		write_file("/sys/kernel/slab/maple_node/shrink", "1");
		bytes = slab_bytes();
		same = bytes == last ? same + 1 : 0;
		last = bytes;
	}
	return last;
}

static uint64_t count_runs(struct guest *g)
{
	static struct kvm_gmem_range ranges[512];
	struct kvm_gmem_get_ranges args = { .size = g->size };
	uint64_t runs = 0;

	while (args.size) {
		args.ranges = (uintptr_t)ranges;
		args.nr = 512;
		if (ioctl(g->gmem, KVM_GMEM_GET_RANGES, &args))
			die("KVM_GMEM_GET_RANGES failed");
		runs += args.nr;
	}
	return runs;
}

/*
 * Make every other page private, in ascending order or in one that jumps about,
 * and look at what the tree takes when so many runs are there.
 */
static void measure_runs(bool scattered, uint64_t size)
{
	const char *name = scattered ? "scattered" : "ascending";
	uint64_t pairs = size / PAGE / 2, done, next, begin;
	double bytes[3][2], cost[3][2];
	struct guest g;

	for (int series = 0; series < 2; series++) {
		guest_new(&g, IN_PLACE, size);
		begin = maple_bytes();
		done = 0;
		for (int step = 0; step < 3; step++) {
			uint64_t before = now(), from = done;

			next = pairs >> (2 * (2 - step));
			for (; done < next; done++) {
				/* An odd factor: each pair once. */
				uint64_t pair = scattered ? done * 40503 % pairs : done;

				convert(&g, 2 * pair * PAGE, PAGE, true);
			}
			cost[step][series] = (double)(now() - before) / (done - from);
			bytes[step][series] = maple_bytes() - begin;
		}
		if (count_runs(&g) != 2 * pairs)
			die("there are %lu runs and not %lu", count_runs(&g), 2 * pairs);
		guest_free(&g);
	}
	for (int step = 0; step < 3; step++) {
		uint64_t runs = 2 * (pairs >> (2 * (2 - step)));

		report("run-bytes", name, runs, bytes[step][0] / runs, bytes[step][1] / runs);
		report("run-convert", name, runs, cost[step][0], cost[step][1]);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "all";
	bool quick = !strcmp(what, "quick");
	unsigned int i;

	if (mlockall(MCL_CURRENT))
		die("mlockall failed");
	/* On a kernel without the series. */
	if (!strcmp(what, "faults")) {
		measure_faults(DUAL, argc > 2 ? argv[2] : "stock", 64 * MIB);
		return 0;
	}
	if (!quick && strcmp(what, "all") && strcmp(what, "runs") && strcmp(what, "life")) {
		fprintf(stderr, "usage: gmem_bench [all|quick|runs|life|faults [NAME]]\n");
		return 2;
	}
	if (!have_in_place()) {
		errno = EOPNOTSUPP;
		die("this kernel does not convert in place");
	}

	if (!strcmp(what, "runs")) {
		measure_runs(false, 512 * MIB);
		measure_runs(true, 512 * MIB);
		return 0;
	}
	if (!strcmp(what, "life")) {
		measure_life(largest);
		return 0;
	}
	if (quick)
		largest = 64 * MIB;
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes) && sizes[i] <= largest; i++) {
		measure_convert(IN_PLACE, sizes[i]);
		measure_convert(DUAL, sizes[i]);
	}
	measure_faults(IN_PLACE, "in-place", 64 * MIB);
	measure_faults(DUAL, "without-mmap", 64 * MIB);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes) && sizes[i] <= largest; i++) {
		measure_round_trip(IN_PLACE, sizes[i]);
		measure_round_trip(DUAL, sizes[i]);
	}
	measure_runs(false, quick ? 16 * MIB : 512 * MIB);
	measure_runs(true, quick ? 16 * MIB : 512 * MIB);
	measure_life(largest);
	return 0;
}
