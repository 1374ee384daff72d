// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: how long a request keeps the processor from
 * a thread with real-time priority, whatever its size.
 *
 * That thread is pinned to the processor that works on the requests, and sleeps
 * for a moment, over and over.  What is measured is how late it comes.  Where the
 * kernel is not preemptible, that is the time between two points at which the
 * request offers to be rescheduled; elsewhere, the time with preemption off.
 *
 * A bound in seconds means nothing in an emulator.  So a loop is measured that
 * makes of memory and arithmetic about what the kernel does, one step of which
 * takes a processor STEP_NSEC or less, and the bound is BOUND_NSEC times what the
 * loop takes longer here.  Under QEMU's -icount, which runs one processor and
 * counts its instructions for time, nothing else on the machine is measured.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_util.h"
#include "kselftest.h"
#include "processor.h"
#include "test_util.h"

#define NSEC		1000000000ull
#define BOUND_NSEC	20000000ull
#define STEP_NSEC	4ull
#define TICK_NSEC	200000ull

#define PUNCH		(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO		(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

/* Of each mapping so much is mapped. */
#define MAPPED		(16ul << 20)

#define RUNS_GPA	(1ull << 36)
#define BIG_GPA		(1ull << 38)

static uint64_t nr_runs = 20000;
static uint64_t big_size = 64ull << 20;
static unsigned int nr_mappings = 8;

/* In ns, a thousand steps of a loop whose every step waits for the one before. */
static uint64_t thousand_steps(void)
{
	static uint64_t mem[1 << 15];
	uint64_t best = -1ull, x = 1, begin, i, n;

	for (n = 0; n < 20; n++) {
		begin = gmem_now_ns();
		for (i = 0; i < 100000; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x += mem[x % ARRAY_SIZE(mem)]++;
		}
		best = min(best, gmem_now_ns() - begin);
	}
	return best / 100;
}

/* Who would like to run on the processor; late is reset by the other thread. */
static volatile uint64_t latest;
static volatile bool ticking, stop;

static void *ticks(void *data)
{
	uint64_t next, late;
	struct timespec ts;

	kvm_pin_this_task_to_pcpu(0);
	gmem_set_scheduler(SCHED_FIFO);
	next = gmem_now_ns();
	while (!stop) {
		next += TICK_NSEC;
		ts.tv_sec = next / NSEC;
		ts.tv_nsec = next % NSEC;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		late = gmem_now_ns() - next;
		if (late > latest)
			latest = late;
		ticking = true;
		next += late;
	}
	return NULL;
}

static uint64_t bound;

static void report(const char *what, uint64_t took, long r, long expected)
{
	/* The one who is late comes to say so. */
	usleep(2 * TICK_NSEC / 1000);
	ksft_print_msg("%-34s %10lu us, out for %8lu us\n", what, took / 1000, latest / 1000);
	ksft_test_result(r == expected && latest <= bound, "%s\n", what);
	if (r != expected)
		ksft_print_msg("%s: %ld, not %ld\n", what, r, expected);
}

#define MEASURE(what, request) do {					\
	uint64_t begin_;						\
	long r_;							\
									\
	latest = 0;							\
	begin_ = gmem_now_ns();							\
	r_ = (request);							\
	report(what, gmem_now_ns() - begin_, r_, 0);				\
} while (0)

static int read_fdinfo(int fd)
{
	return gmem_fdinfo(fd, "gmem-populated") < 0;
}

static int all_ranges(int fd, uint64_t size, uint32_t flags)
{
	static struct kvm_gmem_range ranges[512];
	struct kvm_gmem_get_ranges get = { .size = size, .flags = flags };
	int r = 0;

	while (!r && get.size) {
		get.ranges = (uintptr_t)ranges;
		get.nr = ARRAY_SIZE(ranges);
		r = __gmem_get_ranges(fd, &get);
	}
	return r;
}

/* The first hole, behind all that is populated, which is the end of the file. */
static int seek_hole(int fd, uint64_t size)
{
	return lseek(fd, 0, SEEK_HOLE) != size;
}

/* No data at all. */
static int seek_data(int fd)
{
	return !(lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO);
}

static int pre_fault(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t size)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };
	int r;

	do {
		r = ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &range);
	} while (range.size && (!r || errno == EINTR));
	return r;
}

static int unbind(struct kvm_vm *vm)
{
	gmem_unbind(vm, GMEM_SLOT);
	return 0;
}

/* Memory in many runs, with nothing in it. */
static void test_runs(struct kvm_vm *vm)
{
	const uint64_t size = nr_runs * PAGE_SIZE;
	int fd, clone;
	uint64_t i;

	fd = gmem_create(vm, size, GMEM_FLAGS_PRIVATE);
	for (i = 0; i < nr_runs; i += 2)
		gmem_make_shared(fd, i * PAGE_SIZE, PAGE_SIZE);

	MEASURE("runs: bind", __gmem_bind(vm, GMEM_SLOT, RUNS_GPA, size, NULL, fd, 0));
	MEASURE("runs: fdinfo", read_fdinfo(fd));
	MEASURE("runs: GET_RANGES", all_ranges(fd, size, 0));
	MEASURE("runs: SEEK_DATA", seek_data(fd));
	MEASURE("runs: zero", __gmem_fallocate(fd, ZERO, 0, size));
	MEASURE("runs: punch", __gmem_fallocate(fd, PUNCH, 0, size));
	MEASURE("runs: freeze", __gmem_freeze(fd, NULL));
	MEASURE("runs: unbind", unbind(vm));

	latest = 0;
	i = gmem_now_ns();
	clone = __gmem_clone(vm, fd);
	report("runs: clone", gmem_now_ns() - i, clone < 0, 0);
	gmem_bind(vm, GMEM_SLOT, RUNS_GPA, size, NULL, clone, 0);
	MEASURE("runs: to private", __gmem_convert(clone, true, 0, size, 0, NULL));
	gmem_unbind(vm, GMEM_SLOT);
	close(clone);

	clone = gmem_clone(vm, fd);
	gmem_bind(vm, GMEM_SLOT, RUNS_GPA, size, NULL, clone, 0);
	MEASURE("runs: to shared", __gmem_convert(clone, false, 0, size, 0, NULL));
	gmem_unbind(vm, GMEM_SLOT);
	close(clone);

	clone = gmem_clone(vm, fd);
	gmem_bind(vm, GMEM_SLOT, RUNS_GPA, size, NULL, clone, 0);
	MEASURE("runs: close", close(clone));
	gmem_unbind(vm, GMEM_SLOT);
	close(fd);

	fd = gmem_create(vm, size, GMEM_FLAGS_PRIVATE);
	for (i = 0; i < nr_runs; i += 2)
		gmem_make_shared(fd, i * PAGE_SIZE, PAGE_SIZE);
	gmem_bind(vm, GMEM_SLOT, RUNS_GPA, size, NULL, fd, 0);
	MEASURE("runs: to shared, zeroed",
		__gmem_convert(fd, false, 0, size, KVM_GMEM_CONVERT_ZERO, NULL));
	gmem_unbind(vm, GMEM_SLOT);
	close(fd);
}

static void map_again(char **mem)
{
	uint64_t offset;
	unsigned int i;

	for (i = 0; i < nr_mappings; i++) {
		for (offset = 0; offset < min(MAPPED, big_size); offset += PAGE_SIZE)
			READ_ONCE(mem[i][offset]);
	}
}

/* Memory that is there, and mapped, in the guest too. */
static void test_populated(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	char **mem = calloc(nr_mappings, sizeof(*mem));
	unsigned int i;
	int fd;

	TEST_ASSERT(mem, "calloc() failed");
	fd = gmem_create(vm, big_size, GMEM_FLAGS_SHARED);
	for (i = 0; i < nr_mappings; i++)
		mem[i] = gmem_mmap(fd, big_size);
	gmem_bind(vm, GMEM_SLOT, BIG_GPA, big_size, NULL, fd, 0);

	MEASURE("populated: allocate",
		__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, big_size));
	MEASURE("populated: pre-fault", pre_fault(vcpu, BIG_GPA, big_size));
	map_again(mem);
	MEASURE("populated: to private", __gmem_convert(fd, true, 0, big_size, 0, NULL));
	MEASURE("populated: pre-fault", pre_fault(vcpu, BIG_GPA, big_size));
	MEASURE("populated: to shared", __gmem_convert(fd, false, 0, big_size, 0, NULL));
	map_again(mem);
	gmem_make_private(fd, 0, big_size);
	MEASURE("populated: to shared, zeroed",
		__gmem_convert(fd, false, 0, big_size, KVM_GMEM_CONVERT_ZERO, NULL));
	MEASURE("populated: zero", __gmem_fallocate(fd, ZERO, 0, big_size));
	MEASURE("populated: fdinfo", read_fdinfo(fd));
	MEASURE("populated: GET_RANGES",
		all_ranges(fd, big_size, KVM_GMEM_RANGES_BY_NODE));
	MEASURE("populated: SEEK_HOLE", seek_hole(fd, big_size));
	map_again(mem);
	pre_fault(vcpu, BIG_GPA, big_size);
	MEASURE("populated: unbind", unbind(vm));
	gmem_bind(vm, GMEM_SLOT, BIG_GPA, big_size, NULL, fd, 0);
	pre_fault(vcpu, BIG_GPA, big_size);
	MEASURE("populated: punch, a half", __gmem_fallocate(fd, PUNCH, 0, big_size / 2));
	map_again(mem);
	MEASURE("populated: freeze", __gmem_freeze(fd, NULL));

	for (i = 0; i < nr_mappings; i++)
		munmap(mem[i], big_size);
	pre_fault(vcpu, BIG_GPA, big_size);
	MEASURE("populated: close", close(fd));
	gmem_unbind(vm, GMEM_SLOT);
	free(mem);
}

#define NR_TESTS	(13 + 14)

int main(int argc, char *argv[])
{
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	struct kvm_vm *vm;
	uint64_t steps;
	int opt;

	while ((opt = getopt(argc, argv, "r:p:m:h")) != -1) {
		switch (opt) {
		case 'r':
			nr_runs = atoi_positive("Number of runs", optarg);
			break;
		case 'p':
			big_size = (uint64_t)atoi_positive("Populated MiB", optarg) << 20;
			break;
		case 'm':
			nr_mappings = atoi_positive("Number of mappings", optarg);
			break;
		default:
			printf("usage: %s [-r RUNS] [-p POPULATED_MIB] [-m MAPPINGS]\n", argv[0]);
			exit(opt == 'h' ? 0 : 1);
		}
	}

	GMEM_REQUIRE();
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CLONE, "no clones");
	__TEST_REQUIRE(!geteuid(), "needs root");

	ksft_print_header();
	ksft_set_plan(NR_TESTS);

	steps = thousand_steps();
	bound = BOUND_NSEC * steps / (1000 * STEP_NSEC);
	ksft_print_msg("%lu runs, %lu MiB populated, %u mappings\n", nr_runs, big_size >> 20,
		       nr_mappings);
	ksft_print_msg("a step of the loop takes %lu.%03lu ns: %llu ms count as %lu us\n",
		       steps / 1000, steps % 1000, BOUND_NSEC / 1000000, bound / 1000);

	kvm_pin_this_task_to_pcpu(0);
	vm = gmem_vm_create(KVM_X86_DEFAULT_VM, 1, &vcpu, 16);
	TEST_ASSERT(!pthread_create(&thread, NULL, ticks, NULL), "pthread_create() failed");
	while (!ticking)
		sched_yield();

	test_runs(vm);
	test_populated(vm, vcpu);

	stop = true;
	pthread_join(thread, NULL);
	kvm_vm_free(vm);
	ksft_finished();
}
