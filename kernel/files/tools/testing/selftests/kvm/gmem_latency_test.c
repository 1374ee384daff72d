// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: how long one request keeps others out,
 * however much it has to do.
 *
 * Nothing here depends on how fast the machine is.  What is compared is how long
 * somebody was kept out and how long the request took, or requests of different
 * sizes, in one run.  Whatever else the machine does can only make a single time
 * longer, so the shortest of several is what counts.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NSEC		1000000000ull
#define TRIES		5
#define PUNCH		(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO		(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

/* Runs, of one page each: so many, and ten times so many. */
#define FEW_RUNS	4000ull
#define MANY_RUNS	(10 * FEW_RUNS)

/* Populated memory. */
#define BIG_SIZE	(256ull << 20)

FIXTURE(gmem_latency) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
};

FIXTURE_SETUP(gmem_latency)
{
	self->vm = gmem_vm_create(KVM_X86_DEFAULT_VM, 1, &self->vcpu, MANY_RUNS);
}

FIXTURE_TEARDOWN(gmem_latency)
{
	kvm_vm_free(self->vm);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

static void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity() failed");
}

/* Golden memory of alternating runs; its clones have as many, for nothing. */
static int create_runs(struct kvm_vm *vm, uint64_t nr)
{
	int fd = gmem_create(vm, nr * PAGE_SIZE, GMEM_FLAGS_PRIVATE);
	uint64_t i;

	for (i = 0; i < nr; i += 2)
		gmem_make_shared(fd, i * PAGE_SIZE, PAGE_SIZE);
	gmem_freeze(fd);
	return fd;
}

/* Who would run on CPU 0 at every tick of its own clock, if it were let. */
struct ticker {
	pthread_t thread;
	volatile bool ready, stop;
	uint64_t worst;
};

static void *ticks(void *data)
{
	const struct sched_param param = { .sched_priority = 1 };
	struct ticker *ticker = data;
	uint64_t next, late;
	struct timespec ts;

	pin_to_cpu(0);
	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &param), "SCHED_FIFO: %s",
		    strerror(errno));
	next = now();
	while (!ticker->stop) {
		next += 200000;
		ts.tv_sec = next / NSEC;
		ts.tv_nsec = next % NSEC;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		late = now() - next;
		if (ticker->ready && late > ticker->worst)
			ticker->worst = late;
		ticker->ready = true;
		next += late;
	}
	return NULL;
}

/* One conversion of all runs: how long it took, and kept the ticker out. */
static void convert_runs(struct kvm_vm *vm, int golden, uint64_t nr, bool private,
			 uint64_t *took, uint64_t *kept_out)
{
	struct ticker ticker = {};
	int fd = gmem_clone(vm, golden), r;
	uint64_t begin;

	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, nr * PAGE_SIZE, NULL, fd, 0);
	TEST_ASSERT(!pthread_create(&ticker.thread, NULL, ticks, &ticker),
		    "pthread_create() failed");
	while (!ticker.ready)
		sched_yield();
	begin = now();
	r = __gmem_convert(fd, private, 0, nr * PAGE_SIZE, 0, NULL);
	begin = now() - begin;
	ticker.stop = true;
	TEST_ASSERT(!pthread_join(ticker.thread, NULL), "pthread_join() failed");
	TEST_ASSERT_EQ(r, 0);

	*took = min(*took, begin);
	*kept_out = min(*kept_out, ticker.worst);
	gmem_unbind(vm, GMEM_SLOT);
	close(fd);
}

/* Another task on the CPU is not kept out for longer where there are more runs. */
static void check_convert_runs(struct kvm_vm *vm, bool private)
{
	uint64_t took[2] = { -1ull, -1ull }, kept_out[2] = { -1ull, -1ull };
	int golden[2] = { create_runs(vm, FEW_RUNS), create_runs(vm, MANY_RUNS) };
	int i;

	pin_to_cpu(0);
	for (i = 0; i < TRIES; i++) {
		convert_runs(vm, golden[0], FEW_RUNS, private, &took[0], &kept_out[0]);
		convert_runs(vm, golden[1], MANY_RUNS, private, &took[1], &kept_out[1]);
	}
	printf("# to %s: %llu runs %lu us, out for %lu us; %llu runs %lu us, out for %lu us\n",
	       private ? "private" : "shared", FEW_RUNS, took[0] / 1000, kept_out[0] / 1000,
	       MANY_RUNS, took[1] / 1000, kept_out[1] / 1000);
	/* A fraction of the time, whatever that is, or no more than with a few. */
	TEST_ASSERT(kept_out[1] < took[1] / 5 || kept_out[1] < 3 * kept_out[0],
		    "kept out for %lu of %lu us", kept_out[1] / 1000, took[1] / 1000);
	close(golden[0]);
	close(golden[1]);
}

GMEM_TEST(gmem_latency, runs_to_shared)
{
	check_convert_runs(self->vm, false);
}

GMEM_TEST(gmem_latency, runs_to_private)
{
	check_convert_runs(self->vm, true);
}

/* lsof reads it of every file. */
GMEM_TEST(gmem_latency, fdinfo)
{
	int fd[2] = { create_runs(self->vm, FEW_RUNS), create_runs(self->vm, MANY_RUNS) };
	uint64_t took[2] = { -1ull, -1ull }, begin;
	int i, n;

	for (n = 0; n < 20; n++) {
		for (i = 0; i < 2; i++) {
			begin = now();
			TEST_ASSERT_EQ(gmem_fdinfo(fd[i], "gmem-private"),
				       (i ? MANY_RUNS : FEW_RUNS) / 2 * PAGE_SIZE);
			took[i] = min(took[i], now() - begin);
		}
	}
	printf("# fdinfo: %llu runs %lu us, %llu runs %lu us\n", FEW_RUNS, took[0] / 1000,
	       MANY_RUNS, took[1] / 1000);
	TEST_ASSERT(took[1] < 3 * took[0], "%lu us for ten times of what takes %lu",
		    took[1] / 1000, took[0] / 1000);
	close(fd[0]);
	close(fd[1]);
}

/* Many mappings are each gone through once, and not once for each run. */
#define MAPPINGS	32
#define MAPPED_PAGES	1024ull

static uint64_t unmap_runs(struct kvm_vm *vm, bool runs)
{
	int fd = gmem_create(vm, MAPPED_PAGES * PAGE_SIZE, GMEM_FLAGS_SHARED);
	char *mem[MAPPINGS];
	uint64_t begin, i;

	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, MAPPED_PAGES * PAGE_SIZE), 0);
	for (i = 1; runs && i < MAPPED_PAGES; i += 2)
		gmem_make_private(fd, i * PAGE_SIZE, PAGE_SIZE);
	for (i = 0; i < MAPPINGS; i++) {
		mem[i] = gmem_mmap(fd, MAPPED_PAGES * PAGE_SIZE);
		for (begin = 0; begin < MAPPED_PAGES; begin += 2)
			TEST_ASSERT_EQ(gmem_peek(mem[i] + begin * PAGE_SIZE, NULL), 0);
	}
	begin = now();
	gmem_make_private(fd, 0, MAPPED_PAGES * PAGE_SIZE);
	begin = now() - begin;
	for (i = 0; i < MAPPINGS; i++) {
		gmem_assert_no_access(mem[i], PAGE_SIZE);
		munmap(mem[i], MAPPED_PAGES * PAGE_SIZE);
	}
	close(fd);
	return begin;
}

GMEM_TEST(gmem_latency, mappings)
{
	uint64_t took[2] = { -1ull, -1ull };
	int n;

	for (n = 0; n < 3; n++) {
		took[0] = min(took[0], unmap_runs(self->vm, false));
		took[1] = min(took[1], unmap_runs(self->vm, true));
	}
	printf("# %d mappings: one run %lu us, %llu runs %lu us\n", MAPPINGS, took[0] / 1000,
	       MAPPED_PAGES / 2, took[1] / 1000);
	TEST_ASSERT(took[1] < 3 * took[0], "%lu us in runs of what takes %lu us in one",
		    took[1] / 1000, took[0] / 1000);
}

/* A long request in a thread, and what the test does meanwhile. */
struct request {
	pthread_t thread;
	int fd, mode;
	volatile bool done;
	uint64_t took;
};

static void *run_request(void *data)
{
	struct request *request = data;
	uint64_t begin = now();
	int r;

	/* The last page is left to those who are kept waiting. */
	r = __gmem_fallocate(request->fd, request->mode, 0, BIG_SIZE - PAGE_SIZE);
	request->took = now() - begin;
	request->done = true;
	TEST_ASSERT_EQ(r, 0);
	return NULL;
}

/* The longest that a fault, or a conversion, had to wait for the request. */
static uint64_t wait_longest(struct kvm_vm *vm, int mode, bool convert, uint64_t *took)
{
	struct request request = { .mode = mode };
	uint64_t worst = 0, begin;
	char *mem, *page;

	request.fd = gmem_create(vm, BIG_SIZE, GMEM_FLAGS_SHARED);
	mem = gmem_mmap(request.fd, BIG_SIZE);
	page = mem + BIG_SIZE - PAGE_SIZE;
	TEST_ASSERT_EQ(gmem_poke(page, 1), 0);
	if (mode != FALLOC_FL_KEEP_SIZE)
		TEST_ASSERT_EQ(__gmem_fallocate(request.fd, FALLOC_FL_KEEP_SIZE, 0, BIG_SIZE), 0);

	TEST_ASSERT(!pthread_create(&request.thread, NULL, run_request, &request),
		    "pthread_create() failed");
	while (!request.done) {
		begin = now();
		if (convert) {
			gmem_make_private(request.fd, BIG_SIZE - PAGE_SIZE, PAGE_SIZE);
			gmem_make_shared(request.fd, BIG_SIZE - PAGE_SIZE, PAGE_SIZE);
		} else {
			madvise(page, PAGE_SIZE, MADV_DONTNEED);
			TEST_ASSERT_EQ(gmem_peek(page, NULL), 0);
		}
		worst = max(worst, now() - begin);
	}
	TEST_ASSERT(!pthread_join(request.thread, NULL), "pthread_join() failed");
	munmap(mem, BIG_SIZE);
	close(request.fd);
	*took = request.took;
	return worst;
}

static void check_waiting(struct kvm_vm *vm, int mode, bool convert, const char *what)
{
	uint64_t took, worst, best = -1ull;
	int n;

	/* Of shares, as times and waiting go together. */
	for (n = 0; n < TRIES && best > 250; n++) {
		worst = wait_longest(vm, mode, convert, &took);
		best = min(best, worst * 1000 / took);
		printf("# %s of %lu us: waited for %lu us\n", what, took / 1000, worst / 1000);
	}
	TEST_ASSERT(best <= 250, "%s: others waited for %lu/1000 of it", what, best);
}

GMEM_TEST(gmem_latency, allocate_and_convert)
{
	check_waiting(self->vm, FALLOC_FL_KEEP_SIZE, true, "allocation");
}

GMEM_TEST(gmem_latency, zero_and_fault)
{
	check_waiting(self->vm, ZERO, false, "zeroing");
}

GMEM_TEST(gmem_latency, punch_and_fault)
{
	check_waiting(self->vm, PUNCH, false, "punching");
}

/* What the child says of itself. */
struct victim {
	volatile uint64_t rounds, took;
};

/* How long a child lives that is killed while it zeroes memory, over and over. */
static uint64_t kill_child(int fd, struct victim *victim)
{
	uint64_t begin;
	int status;
	pid_t pid;

	victim->rounds = 0;
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	while (!pid) {
		begin = now();
		if (__gmem_fallocate(fd, ZERO, 0, BIG_SIZE))
			_exit(1);
		victim->took = now() - begin;
		victim->rounds++;
	}
	while (!victim->rounds)
		sched_yield();
	begin = now();
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status),
		    "the child was not killed: %#x", status);
	return now() - begin;
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A signal that nobody can ignore does not wait for the end of the request. */
GMEM_TEST(gmem_latency, killed)
{
	int fd = gmem_create(self->vm, BIG_SIZE, GMEM_FLAGS_SHARED), n;
	struct victim *victim;
	uint64_t lived[9];

	victim = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(victim != MAP_FAILED, "mmap() failed");
	TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, BIG_SIZE), 0);

	/* At whatever time of the request: half of it would be left as a rule. */
	for (n = 0; n < ARRAY_SIZE(lived); n++)
		lived[n] = kill_child(fd, victim);
	qsort(lived, ARRAY_SIZE(lived), sizeof(lived[0]), compare);
	printf("# zeroing takes %lu us; killed, it ended after %lu us\n", victim->took / 1000,
	       lived[ARRAY_SIZE(lived) / 2] / 1000);
	TEST_ASSERT(lived[ARRAY_SIZE(lived) / 2] < victim->took / 5, "lived for %lu of %lu us",
		    lived[ARRAY_SIZE(lived) / 2] / 1000, victim->took / 1000);
	close(fd);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CLONE, "no clones");
	__TEST_REQUIRE(!geteuid(), "needs root");

	return test_harness_run(argc, argv);
}
