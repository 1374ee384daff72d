// SPDX-License-Identifier: GPL-2.0-only
/*
 * What wants the physical memory that a guest runs in for something else: memory
 * blocks that go offline, contiguous allocations, compaction.
 *
 * Folios of a guest_memfd are never migrated.  So each of these fails, or makes
 * do with other memory; beside a guest that runs all the time, with nothing moved
 * and nothing lost.  And each of them is seen doing its work on other memory.
 */
#include <linux/sizes.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "gmem_util.h"
#include "kvm_test_harness.h"

#define SIZE		SZ_2M
#define NR_PAGES	(SIZE / PAGE_SIZE)
#define SEED		11

#define BLOCKS		"/sys/devices/system/memory"
#define CMA		"/sys/kernel/debug/cma"
#define COMPACT		"/proc/sys/vm/compact_memory"

/* A quarter of a node, so that they have to look for it. */
#define NR_HUGE_PAGES	256
#define NODE_HUGE_PAGES	"/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages"

/*
 * Offlining tries for ever where it believes that pages could move: the only end
 * is a signal, which is what administrators' tools send, too.
 */
#define GIVE_UP_SECONDS	3

FIXTURE(gmem_move)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	void *mem;
	uint64_t pfns[NR_PAGES];
	pthread_t guest;
	bool stop;
	uint64_t wrong;		/* what the guest found, or 0 */
	uint64_t rounds;
};

GMEM_FIXTURE_VARIANTS(gmem_move);

/* The physical page at an address, or 0 if that is not told. */
static uint64_t pfn_of(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	TEST_ASSERT(fd >= 0, "pagemap: %s", strerror(errno));
	READ_ONCE(*(const uint64_t *)addr);
	TEST_ASSERT_EQ(pread(fd, &entry, 8, (uintptr_t)addr / PAGE_SIZE * 8), 8);
	close(fd);
	return entry & GENMASK_ULL(54, 0);
}

static void pfns_of(void *mem, uint64_t *pfns)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), i;

	TEST_ASSERT(fd >= 0, "pagemap: %s", strerror(errno));
	for (i = 0; i < NR_PAGES; i++)
		READ_ONCE(*(uint64_t *)(mem + i * PAGE_SIZE));
	TEST_ASSERT_EQ(pread(fd, pfns, NR_PAGES * 8, (uintptr_t)mem / PAGE_SIZE * 8),
		       NR_PAGES * 8);
	for (i = 0; i < NR_PAGES; i++) {
		TEST_ASSERT(pfns[i] >> 63, "page %d is not mapped", i);
		pfns[i] &= GENMASK_ULL(54, 0);
	}
	close(fd);
}

static void *run_guest(void *arg)
{
	struct _test_data_gmem_move *self = arg;
	uint64_t r;

	do {
		r = gmem_guest_call(self->vcpu, gmem_guest_check, GMEM_GVA, SIZE,
				    SEED);
		if (r)
			WRITE_ONCE(self->wrong, r);
		WRITE_ONCE(self->rounds, self->rounds + 1);
	} while (!r && !READ_ONCE(self->stop));
	return NULL;
}

/* The guest has looked at all of its memory once more, after what came before. */
static void await_guest(struct _test_data_gmem_move *self)
{
	uint64_t rounds = READ_ONCE(self->rounds);

	/* One that is under way may have looked before. */
	while (READ_ONCE(self->rounds) < rounds + 2 && !READ_ONCE(self->wrong))
		sched_yield();
	TEST_ASSERT(!READ_ONCE(self->wrong), "the guest finds something else at %#lx",
		    READ_ONCE(self->wrong));
}

/* Half of it private, half of it shared. */
FIXTURE_SETUP(gmem_move)
{
	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 1, &self->vcpu, NR_PAGES);
	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_SHARED);
	self->mem = gmem_mmap(self->fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->mem : NULL, self->fd, 0);
	gmem_fill(self->mem, 0, SIZE, SEED);
	pfns_of(self->mem, self->pfns);
	gmem_make_private(self->fd, 0, SIZE / 2);

	self->stop = false;
	self->wrong = 0;
	self->rounds = 0;
	pthread_create(&self->guest, NULL, run_guest, self);
	await_guest(self);
}

FIXTURE_TEARDOWN(gmem_move)
{
	munmap(self->mem, SIZE);
	close(self->fd);
	kvm_vm_free(self->vm);
}

/* Nothing moved, nothing changed, and the guest has gone on. */
static void check_all(struct _test_data_gmem_move *self)
{
	static uint64_t pfns[NR_PAGES];
	int i;

	await_guest(self);
	WRITE_ONCE(self->stop, true);
	pthread_join(self->guest, NULL);
	TEST_ASSERT(!self->wrong, "the guest finds something else at %#lx",
		    self->wrong);

	TEST_ASSERT_EQ(gmem_populated(self->fd, 0, SIZE), (uint64_t)SIZE);
	gmem_assert_no_access(self->mem, SIZE / 2);
	gmem_check(self->mem, SIZE / 2, SIZE / 2, SEED);
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_check(self->mem, 0, SIZE, SEED);
	pfns_of(self->mem, pfns);
	for (i = 0; i < NR_PAGES; i++)
		TEST_ASSERT(pfns[i] == self->pfns[i], "page %d has moved", i);
}

static uint64_t read_number(const char *path, int base)
{
	char buf[64];

	TEST_ASSERT(!gmem_read_file(path, buf, sizeof(buf)), "%s cannot be read", path);
	return strtoull(buf, NULL, base);
}

/* A value of /proc/vmstat. */
static uint64_t vmstat_value(const char *key)
{
	FILE *f = fopen("/proc/vmstat", "r");
	unsigned long val, found = 0;
	char name[64];

	TEST_ASSERT(f, "/proc/vmstat: %s", strerror(errno));
	while (fscanf(f, "%63s %lu", name, &val) == 2)
		if (!strcmp(name, key))
			found = val;
	fclose(f);
	return found;
}

static int write_state(uint64_t block, const char *state)
{
	char path[64];

	snprintf(path, sizeof(path), BLOCKS "/memory%lu/state", block);
	return __gmem_write_file(path, state, strlen(state));
}

static bool is_online(uint64_t block)
{
	char path[64], buf[32];

	snprintf(path, sizeof(path), BLOCKS "/memory%lu/state", block);
	return !gmem_read_file(path, buf, sizeof(buf)) && !strcmp(buf, "online");
}

/* Take a block offline, in a child that a signal ends if nothing else does. */
static int offline(uint64_t block)
{
	int status;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		signal(SIGALRM, SIG_DFL);
		alarm(GIVE_UP_SECONDS);
		_exit(-write_state(block, "offline"));
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		TEST_ASSERT_EQ(WTERMSIG(status), SIGALRM);
		return -EINTR;
	}
	return -WEXITSTATUS(status);
}

static bool is_in(const uint64_t *pfns, uint64_t block, uint64_t block_pages)
{
	int i;

	for (i = 0; i < NR_PAGES; i++)
		if (pfns[i] / block_pages == block)
			return true;
	return false;
}

/*
 * Blocks that the guest's memory is in stay online.  Elsewhere ordinary memory
 * moves out of the way.
 */
GMEM_TEST(gmem_move, offline)
{
	uint64_t block_pages, nr_blocks, block, before, after = 0;
	int here = 0, elsewhere = 0, i, r;
	void *anon;

	if (access(BLOCKS "/block_size_bytes", F_OK))
		SKIP(goto out, "no CONFIG_MEMORY_HOTREMOVE");
	block_pages = read_number(BLOCKS "/block_size_bytes", 16) / PAGE_SIZE;

	/* From the highest to the lowest. */
	nr_blocks = 0;
	for (i = 0; i < NR_PAGES; i++)
		nr_blocks = max(nr_blocks, self->pfns[i] / block_pages + 1);
	while (is_online(nr_blocks))
		nr_blocks++;

	for (block = nr_blocks; block-- > 0; ) {
		if (!is_online(block) || !is_in(self->pfns, block, block_pages))
			continue;
		r = offline(block);
		/* A block with holes in it does not go for anybody. */
		TEST_ASSERT(r == -EBUSY || r == -EINTR || r == -EINVAL,
			    "block %lu: %d", block, r);
		here += r != -EINVAL;
		TEST_ASSERT(is_online(block), "block %lu is offline", block);
		await_guest(self);
	}
	TEST_ASSERT(here, "no block has the guest's memory in it");

	/* A page of ordinary memory, until it is in a block that can go. */
	for (i = 0; i < 4 && !elsewhere; i++) {
		anon = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		TEST_ASSERT(anon != MAP_FAILED, "mmap: %s", strerror(errno));
		gmem_fill(anon, 0, PAGE_SIZE, i);
		before = pfn_of(anon);
		block = before / block_pages;
		if (is_in(self->pfns, block, block_pages) || offline(block))
			continue;
		elsewhere++;
		gmem_check(anon, 0, PAGE_SIZE, i);
		after = pfn_of(anon);
		TEST_ASSERT(after / block_pages != block,
			    "memory is still where none is");
		TEST_ASSERT(!write_state(block, "online"), "block %lu stays offline",
			    block);
	}

	/* Or, where the kernel's own pages are everywhere near it, any block. */
	for (block = nr_blocks; block-- > 0 && !elsewhere; ) {
		if (!is_online(block) || is_in(self->pfns, block, block_pages) ||
		    offline(block))
			continue;
		elsewhere++;
		TEST_ASSERT(!write_state(block, "online"), "block %lu stays offline",
			    block);
	}
	TEST_ASSERT(elsewhere, "no block at all goes offline");
	ksft_print_msg("%d blocks with guest memory stayed, one without went%s\n",
		       here, after ? ", and a page of it moved" : "");
out:
	check_all(self);
}

/* A CMA area lends its memory to what can be moved, which this cannot. */
GMEM_TEST(gmem_move, cma)
{
	uint64_t base, count, used;
	struct dirent *entry;
	char path[512], number[32];
	int areas = 0, i;
	DIR *dir;

	dir = opendir(CMA);
	if (!dir)
		SKIP(goto out, "no CONFIG_CMA_DEBUGFS: %s", strerror(errno));

	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		areas++;
		snprintf(path, sizeof(path), CMA "/%s/base_pfn", entry->d_name);
		base = read_number(path, 10);
		snprintf(path, sizeof(path), CMA "/%s/count", entry->d_name);
		count = read_number(path, 10);
		for (i = 0; i < NR_PAGES; i++)
			TEST_ASSERT(self->pfns[i] < base ||
				    self->pfns[i] >= base + count,
				    "page %d is in area %s", i, entry->d_name);

		/* All that nobody has allocated. */
		snprintf(path, sizeof(path), CMA "/%s/used", entry->d_name);
		used = read_number(path, 10);
		snprintf(number, sizeof(number), "%lu", count - used);
		snprintf(path, sizeof(path), CMA "/%s/alloc", entry->d_name);
		gmem_write_file(path, number);
		snprintf(path, sizeof(path), CMA "/%s/used", entry->d_name);
		TEST_ASSERT_EQ(read_number(path, 10), count);
		await_guest(self);
		snprintf(path, sizeof(path), CMA "/%s/free", entry->d_name);
		gmem_write_file(path, number);
	}
	closedir(dir);
	if (!areas)
		SKIP(goto out, "no CMA area");
out:
	check_all(self);
}

GMEM_TEST(gmem_move, compaction)
{
	uint64_t scanned;

	if (access(COMPACT, W_OK))
		SKIP(goto out, "no CONFIG_COMPACTION: %s", strerror(errno));

	scanned = vmstat_value("compact_migrate_scanned");
	gmem_write_file(COMPACT, "1");
	await_guest(self);
	TEST_ASSERT(vmstat_value("compact_migrate_scanned") > scanned,
		    "nothing was compacted");
out:
	check_all(self);
}

/* Huge pages, for which there must be free memory in one piece. */
GMEM_TEST(gmem_move, huge_pages)
{
	char path[128], number[32];
	uint64_t got, before;
	int node, nodes = 0;

	for (node = 0; node < 2; node++) {
		snprintf(path, sizeof(path), NODE_HUGE_PAGES, node);
		if (access(path, W_OK))
			continue;
		nodes++;
		before = read_number(path, 10);
		snprintf(number, sizeof(number), "%lu", before + NR_HUGE_PAGES);
		gmem_write_file(path, number);
		got = read_number(path, 10);
		await_guest(self);
		snprintf(number, sizeof(number), "%lu", before);
		gmem_write_file(path, number);
		TEST_ASSERT(got > before, "no huge page on node %d", node);
	}
	if (!nodes)
		SKIP(goto out, "no huge pages");
out:
	check_all(self);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();
	__TEST_REQUIRE(pfn_of(&(uint64_t){ 1 }), "the numbers of pages are not told");
	return test_harness_run(argc, argv);
}
