// SPDX-License-Identifier: GPL-2.0-only
/*
 * NUMA placement of convertible guest_memfd memory.
 *
 * A policy that is set through a mapping belongs to the memory: it is seen
 * through every other mapping, outlives the one it was set through, and places
 * whatever is allocated, by whom and in which state ever.
 */
#include <linux/mempolicy.h>

#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "gmem_util.h"
#include "kvm_test_harness.h"

#ifndef __NR_set_mempolicy_home_node
#define __NR_set_mempolicy_home_node	450
#endif

#define NR_PAGES	64
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define SEED		1

#define NODE0		1ul
#define NODE1		2ul
#define BOTH		(NODE0 | NODE1)

/* Bits in a mask, and one more, as the system calls have it. */
#define MAXNODE		65

static int node_cpu[2];

struct env {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	void *mem;
};

FIXTURE(gmem_numa)
{
	struct env env;
};

GMEM_FIXTURE_VARIANTS(gmem_numa);

FIXTURE_SETUP(gmem_numa)
{
	struct env *env = &self->env;

	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	env->vm = gmem_vm_create(variant->type, 1, &env->vcpu, NR_PAGES);
	env->fd = gmem_create(env->vm, SIZE, GMEM_FLAGS_PRIVATE);
	env->mem = gmem_mmap(env->fd, SIZE);
	gmem_bind(env->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? env->mem : NULL, env->fd, 0);
}

FIXTURE_TEARDOWN(gmem_numa)
{
	munmap(self->env.mem, SIZE);
	close(self->env.fd);
	kvm_vm_free(self->env.vm);
}

/* To run on one node and get memory from the other leaves nothing to chance. */
static void run_on_node(int node)
{
	kvm_pin_this_task_to_pcpu(node_cpu[node]);
}

static int __set_policy(void *mem, uint64_t offset, uint64_t size, int mode,
			unsigned long nodes, int flags)
{
	return syscall(__NR_mbind, mem + offset, size, mode, &nodes,
		       MAXNODE, flags) ? -errno : 0;
}

static void set_policy(void *mem, uint64_t offset, uint64_t size, int mode,
		       unsigned long nodes)
{
	int r = __set_policy(mem, offset, size, mode, nodes, 0);

	TEST_ASSERT(!r, "mbind(%d, 0x%lx): %s", mode, nodes, strerror(-r));
}

static void assert_policy(const void *mem, uint64_t offset, uint64_t size,
			  int mode, unsigned long nodes)
{
	uint64_t pos;

	for (pos = offset; pos < offset + size; pos += PAGE_SIZE) {
		unsigned long got_nodes = 0;
		int got_mode = -1;

		TEST_ASSERT(!syscall(__NR_get_mempolicy, &got_mode, &got_nodes,
				     MAXNODE, mem + pos, MPOL_F_ADDR),
			    "get_mempolicy: %s", strerror(errno));
		TEST_ASSERT(got_mode == mode && got_nodes == nodes,
			    "Policy at 0x%lx: %d, 0x%lx, not %d, 0x%lx", pos,
			    got_mode, got_nodes, mode, nodes);
	}
}

static int page_node(int fd, uint64_t offset)
{
	struct kvm_gmem_range range;

	gmem_get_ranges(fd, offset, PAGE_SIZE, KVM_GMEM_RANGES_BY_NODE, &range, 1);
	return range.node;
}

static uint64_t fdinfo_node(int fd, int node)
{
	char key[32];
	int64_t val;

	snprintf(key, sizeof(key), "gmem-node%d", node);
	val = gmem_fdinfo(fd, key);
	return val < 0 ? 0 : val;
}

/* All of it is there, and on @node. */
static void assert_node(int fd, uint64_t offset, uint64_t size, int node)
{
	uint64_t pos;

	for (pos = offset; pos < offset + size; pos += PAGE_SIZE)
		TEST_ASSERT(page_node(fd, pos) == node,
			    "The page at 0x%lx is on node %d, not %d", pos,
			    page_node(fd, pos), node);
}

static void punch(int fd, uint64_t offset, uint64_t size)
{
	int r = __gmem_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 offset, size);

	TEST_ASSERT(!r, "FALLOC_FL_PUNCH_HOLE: %s", strerror(-r));
}

/* The ways in which memory comes to be. */
static void by_guest(struct env *env, uint64_t offset, uint64_t size)
{
	gmem_guest_call(env->vcpu, gmem_guest_fill, GMEM_GVA + offset, size, SEED);
}

static void by_host(struct env *env, uint64_t offset, uint64_t size)
{
	gmem_make_shared(env->fd, offset, size);
	gmem_fill(env->mem, offset, size, SEED);
	gmem_make_private(env->fd, offset, size);
}

static void by_fallocate(struct env *env, uint64_t offset, uint64_t size)
{
	int r = __gmem_fallocate(env->fd, FALLOC_FL_KEEP_SIZE, offset, size);

	TEST_ASSERT(!r, "fallocate: %s", strerror(-r));
}

static void by_pre_fault(struct env *env, uint64_t offset, uint64_t size)
{
	struct kvm_pre_fault_memory range = {
		.gpa = GMEM_GPA + offset,
		.size = size,
	};
	int r;

	if (!kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY)) {
		ksft_print_msg("no KVM_PRE_FAULT_MEMORY, fallocate() instead\n");
		by_fallocate(env, offset, size);
		return;
	}
	do {
		r = __vcpu_ioctl(env->vcpu, KVM_PRE_FAULT_MEMORY, &range);
		TEST_ASSERT(!r || errno == EAGAIN || errno == EINTR,
			    "KVM_PRE_FAULT_MEMORY: %s", strerror(errno));
	} while (range.size);
}

static void by_populate(struct env *env, uint64_t offset, uint64_t size)
{
	gmem_make_shared(env->fd, offset, size);
	TEST_ASSERT(!madvise(env->mem + offset, size, MADV_POPULATE_WRITE),
		    "MADV_POPULATE_WRITE: %s", strerror(errno));
	gmem_make_private(env->fd, offset, size);
}

static void by_syscall(struct env *env, uint64_t offset, uint64_t size)
{
	uint64_t pos;

	gmem_make_shared(env->fd, offset, size);
	for (pos = offset; pos < offset + size; pos += PAGE_SIZE)
		TEST_ASSERT(!gmem_syscall_poke(env->mem + pos), "read() failed");
	gmem_make_private(env->fd, offset, size);
}

static const struct {
	const char *name;
	void (*populate)(struct env *env, uint64_t offset, uint64_t size);
} ways[] = {
	{ "guest", by_guest },
	{ "host", by_host },
	{ "fallocate", by_fallocate },
	{ "KVM_PRE_FAULT_MEMORY", by_pre_fault },
	{ "MADV_POPULATE_WRITE", by_populate },
	{ "a system call", by_syscall },
};

GMEM_TEST(gmem_numa, seen_through_every_mapping)
{
	struct env *env = &self->env;
	void *before, *after, *part;
	int status;
	pid_t pid;

	before = gmem_mmap(env->fd, SIZE);
	assert_policy(before, 0, SIZE, MPOL_DEFAULT, 0);

	set_policy(env->mem, 0, SIZE / 2, MPOL_BIND, NODE1);
	after = gmem_mmap(env->fd, SIZE);
	assert_policy(env->mem, 0, SIZE / 2, MPOL_BIND, NODE1);
	assert_policy(before, 0, SIZE / 2, MPOL_BIND, NODE1);
	assert_policy(after, 0, SIZE / 2, MPOL_BIND, NODE1);
	assert_policy(before, SIZE / 2, SIZE / 2, MPOL_DEFAULT, 0);
	assert_policy(after, SIZE / 2, SIZE / 2, MPOL_DEFAULT, 0);

	/* It goes by the offset in the file, not by the one in the mapping. */
	part = mmap(NULL, SIZE / 2, PROT_NONE, MAP_SHARED, env->fd, SIZE / 4);
	TEST_ASSERT(part != MAP_FAILED, "mmap: %s", strerror(errno));
	assert_policy(part, 0, SIZE / 4, MPOL_BIND, NODE1);
	assert_policy(part, SIZE / 4, SIZE / 4, MPOL_DEFAULT, 0);
	set_policy(part, SIZE / 4, SIZE / 4, MPOL_PREFERRED, NODE0);
	assert_policy(env->mem, SIZE / 2, SIZE / 4, MPOL_PREFERRED, NODE0);
	assert_policy(env->mem, SIZE * 3 / 4, SIZE / 4, MPOL_DEFAULT, 0);
	munmap(part, SIZE / 2);
	assert_policy(env->mem, SIZE / 2, SIZE / 4, MPOL_PREFERRED, NODE0);

	/* Another process sees it, and can set it. */
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		void *mem = gmem_mmap(env->fd, SIZE);

		assert_policy(env->mem, 0, SIZE / 2, MPOL_BIND, NODE1);
		assert_policy(mem, 0, SIZE / 2, MPOL_BIND, NODE1);
		set_policy(mem, SIZE * 3 / 4, SIZE / 4, MPOL_BIND, NODE0);
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status,
		    "The child has failed: 0x%x", status);
	assert_policy(env->mem, SIZE * 3 / 4, SIZE / 4, MPOL_BIND, NODE0);

	/* No mapping that it was set through is left. */
	munmap(env->mem, SIZE);
	munmap(before, SIZE);
	munmap(after, SIZE);
	env->mem = gmem_mmap(env->fd, SIZE);
	assert_policy(env->mem, 0, SIZE / 2, MPOL_BIND, NODE1);
	run_on_node(0);
	by_guest(env, 0, SIZE / 2);
	assert_node(env->fd, 0, SIZE / 2, 1);
	run_on_node(1);
	by_guest(env, SIZE * 3 / 4, SIZE / 4);
	assert_node(env->fd, SIZE * 3 / 4, SIZE / 4, 0);

	/* A file of its own is another memory. */
	status = gmem_create(env->vm, SIZE, GMEM_FLAGS_PRIVATE);
	part = gmem_mmap(status, SIZE);
	assert_policy(part, 0, SIZE, MPOL_DEFAULT, 0);
	munmap(part, SIZE);
	close(status);
}

GMEM_TEST(gmem_numa, placement)
{
	struct env *env = &self->env;
	int node, i;

	for (node = 0; node < 2; node++) {
		run_on_node(!node);
		set_policy(env->mem, 0, SIZE, MPOL_BIND, 1ul << node);

		for (i = 0; i < ARRAY_SIZE(ways); i++) {
			uint64_t size = SIZE / 4, offset = size * (i % 4);

			pr_debug("node %d, by %s\n", node, ways[i].name);
			ways[i].populate(env, offset, size);
			assert_node(env->fd, offset, size, node);
			TEST_ASSERT_EQ(fdinfo_node(env->fd, node), size);
			TEST_ASSERT_EQ(fdinfo_node(env->fd, !node), 0ul);
			TEST_ASSERT_EQ(gmem_fdinfo(env->fd, "gmem-populated"), size);

			/* A conversion leaves it where it is. */
			by_guest(env, offset, size);
			gmem_make_shared(env->fd, offset, size);
			gmem_check(env->mem, offset, size, SEED);
			assert_node(env->fd, offset, size, node);
			gmem_make_private(env->fd, offset, size);
			assert_node(env->fd, offset, size, node);

			/* And the policy outlives what it placed. */
			punch(env->fd, offset, size);
			TEST_ASSERT_EQ(gmem_fdinfo(env->fd, "gmem-populated"), 0l);
			assert_policy(env->mem, offset, size, MPOL_BIND, 1ul << node);
		}
	}
}

GMEM_TEST(gmem_numa, modes)
{
	struct env *env = &self->env;
	int i;

	run_on_node(0);

	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		uint64_t pos;

		set_policy(env->mem, 0, SIZE, MPOL_PREFERRED, NODE1);
		ways[i].populate(env, 0, SIZE);
		assert_node(env->fd, 0, SIZE, 1);
		punch(env->fd, 0, SIZE);

		set_policy(env->mem, 0, SIZE, MPOL_PREFERRED_MANY, NODE1);
		ways[i].populate(env, 0, SIZE);
		assert_node(env->fd, 0, SIZE, 1);
		punch(env->fd, 0, SIZE);

		/* By the index of the page, so it does not matter who comes. */
		set_policy(env->mem, 0, SIZE, MPOL_INTERLEAVE, BOTH);
		ways[i].populate(env, 0, SIZE);
		for (pos = PAGE_SIZE; pos < SIZE; pos += PAGE_SIZE)
			TEST_ASSERT(page_node(env->fd, pos) ==
				    !page_node(env->fd, pos - PAGE_SIZE),
				    "Not interleaved by %s at 0x%lx",
				    ways[i].name, pos);
		TEST_ASSERT_EQ(fdinfo_node(env->fd, 0), (uint64_t)SIZE / 2);
		TEST_ASSERT_EQ(fdinfo_node(env->fd, 1), (uint64_t)SIZE / 2);
		punch(env->fd, 0, SIZE);

		/* Where who comes is. */
		set_policy(env->mem, 0, SIZE, MPOL_LOCAL, 0);
		run_on_node(1);
		ways[i].populate(env, 0, SIZE / 2);
		run_on_node(0);
		ways[i].populate(env, SIZE / 2, SIZE / 2);
		assert_node(env->fd, 0, SIZE / 2, 1);
		assert_node(env->fd, SIZE / 2, SIZE / 2, 0);
		punch(env->fd, 0, SIZE);
	}
}

GMEM_TEST(gmem_numa, home_node)
{
	struct env *env = &self->env;

	run_on_node(0);
	set_policy(env->mem, 0, SIZE, MPOL_PREFERRED_MANY, BOTH);
	by_guest(env, 0, PAGE_SIZE);
	assert_node(env->fd, 0, PAGE_SIZE, 0);

	TEST_ASSERT(!syscall(__NR_set_mempolicy_home_node, env->mem, SIZE / 2,
			     1, 0),
		    "set_mempolicy_home_node: %s", strerror(errno));

	/* That it acts on the memory shows through another mapping. */
	munmap(env->mem, SIZE);
	env->mem = gmem_mmap(env->fd, SIZE);
	assert_policy(env->mem, 0, SIZE, MPOL_PREFERRED_MANY, BOTH);

	by_guest(env, PAGE_SIZE, PAGE_SIZE);
	by_host(env, 2 * PAGE_SIZE, PAGE_SIZE);
	by_fallocate(env, 3 * PAGE_SIZE, PAGE_SIZE);
	by_pre_fault(env, 4 * PAGE_SIZE, PAGE_SIZE);
	assert_node(env->fd, PAGE_SIZE, 4 * PAGE_SIZE, 1);

	by_guest(env, SIZE / 2, PAGE_SIZE);
	assert_node(env->fd, SIZE / 2, PAGE_SIZE, 0);
}

GMEM_TEST(gmem_numa, default_removes)
{
	struct env *env = &self->env;
	void *other = gmem_mmap(env->fd, SIZE);

	run_on_node(0);
	set_policy(env->mem, 0, SIZE, MPOL_BIND, NODE1);
	assert_policy(other, 0, SIZE, MPOL_BIND, NODE1);

	/* Through the mapping that has it: mm ignores it through another. */
	set_policy(env->mem, 0, SIZE / 2, MPOL_DEFAULT, 0);
	assert_policy(other, 0, SIZE / 2, MPOL_DEFAULT, 0);
	assert_policy(env->mem, 0, SIZE / 2, MPOL_DEFAULT, 0);
	assert_policy(other, SIZE / 2, SIZE / 2, MPOL_BIND, NODE1);

	by_guest(env, 0, SIZE);
	assert_node(env->fd, 0, SIZE / 2, 0);
	assert_node(env->fd, SIZE / 2, SIZE / 2, 1);
	munmap(other, SIZE);
}

GMEM_TEST(gmem_numa, task_policy)
{
	struct env *env = &self->env;
	unsigned long nodes;
	int node, i;

	for (node = 0; node < 2; node++) {
		run_on_node(!node);
		nodes = 1ul << node;
		TEST_ASSERT(!syscall(__NR_set_mempolicy, MPOL_BIND, &nodes,
				     MAXNODE), "set_mempolicy: %s",
			    strerror(errno));
		for (i = 0; i < ARRAY_SIZE(ways); i++) {
			ways[i].populate(env, 0, SIZE);
			assert_node(env->fd, 0, SIZE, node);
			punch(env->fd, 0, SIZE);
		}

		/* The memory's own goes first. */
		set_policy(env->mem, 0, SIZE, MPOL_BIND, BOTH & ~nodes);
		for (i = 0; i < ARRAY_SIZE(ways); i++) {
			ways[i].populate(env, 0, SIZE);
			assert_node(env->fd, 0, SIZE, !node);
			punch(env->fd, 0, SIZE);
		}
		set_policy(env->mem, 0, SIZE, MPOL_DEFAULT, 0);
	}
	TEST_ASSERT(!syscall(__NR_set_mempolicy, MPOL_DEFAULT, NULL, 0),
		    "set_mempolicy: %s", strerror(errno));
}

GMEM_TEST(gmem_numa, split_and_merge)
{
	static const unsigned long masks[] = { 0, NODE0, NODE1 };
	struct guest_random_state rng = new_guest_random_state(4711);
	unsigned long model[NR_PAGES] = {};
	struct env *env = &self->env;
	int i, p;

	for (i = 0; i < 200; i++) {
		int first = guest_random_u32(&rng) % NR_PAGES;
		int n = 1 + guest_random_u32(&rng) % (NR_PAGES - first);
		unsigned long mask = masks[guest_random_u32(&rng) % 3];
		void *mem;

		/*
		 * Through a mapping of its own now and then; but a policy is
		 * taken away through the one that all were set through.
		 */
		mem = gmem_mmap(env->fd, SIZE);
		set_policy(env->mem, first * PAGE_SIZE, n * PAGE_SIZE,
			   mask ? MPOL_BIND : MPOL_DEFAULT, mask);
		if (mask && i % 2)
			set_policy(mem, first * PAGE_SIZE, n * PAGE_SIZE,
				   MPOL_BIND, mask);
		for (p = first; p < first + n; p++)
			model[p] = mask;

		for (p = 0; p < NR_PAGES; p++)
			assert_policy(mem, p * PAGE_SIZE, PAGE_SIZE,
				      model[p] ? MPOL_BIND : MPOL_DEFAULT, model[p]);
		munmap(mem, SIZE);
	}

	run_on_node(1);
	by_guest(env, 0, SIZE);
	for (p = 0; p < NR_PAGES; p++)
		assert_node(env->fd, p * PAGE_SIZE, PAGE_SIZE,
			    model[p] == NODE0 ? 0 : 1);
}

/* What is there stays where it is, in what way ever one asks to move it. */
GMEM_TEST(gmem_numa, nothing_moves)
{
	unsigned long from = NODE0, to = NODE1;
	int flags[] = {
		0, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT,
		MPOL_MF_MOVE | MPOL_MF_STRICT, MPOL_MF_MOVE_ALL | MPOL_MF_STRICT,
	};
	struct env *env = &self->env;
	void *pages[NR_PAGES];
	int nodes[NR_PAGES], status[NR_PAGES];
	int mapped, i, r;
	long n;

	run_on_node(1);
	for (i = 0; i < NR_PAGES; i++) {
		pages[i] = env->mem + i * PAGE_SIZE;
		nodes[i] = 1;
	}

	for (mapped = 0; mapped < 2; mapped++) {
		for (i = 0; i < ARRAY_SIZE(flags); i++) {
			gmem_make_private(env->fd, 0, SIZE);
			punch(env->fd, 0, SIZE);
			set_policy(env->mem, 0, SIZE, MPOL_BIND, NODE0);
			by_guest(env, 0, SIZE / 2);
			if (mapped) {
				gmem_make_shared(env->fd, 0, SIZE);
				gmem_check(env->mem, 0, SIZE / 2, SEED);
			}

			r = __set_policy(env->mem, 0, SIZE, MPOL_BIND, NODE1,
					 flags[i]);
			TEST_ASSERT(!r || (r == -EIO && mapped &&
					   flags[i] & MPOL_MF_STRICT),
				    "mbind, flags 0x%x: %s", flags[i],
				    strerror(-r));
			TEST_ASSERT(r || !mapped || !(flags[i] & MPOL_MF_STRICT),
				    "MPOL_MF_STRICT saw nothing amiss");

			assert_node(env->fd, 0, SIZE / 2, 0);
			TEST_ASSERT_EQ(gmem_populated(env->fd, 0, SIZE),
				       (uint64_t)SIZE / 2);
			TEST_ASSERT_EQ(gmem_guest_call(env->vcpu, gmem_guest_check,
						       GMEM_GVA, SIZE / 2, SEED),
				       0ul);
			if (mapped)
				gmem_check(env->mem, 0, SIZE / 2, SEED);

			/* Without MOVE, STRICT is only a question. */
			if (flags[i] == MPOL_MF_STRICT && mapped)
				continue;
			assert_policy(env->mem, 0, SIZE, MPOL_BIND, NODE1);
			by_guest(env, SIZE / 2, PAGE_SIZE);
			assert_node(env->fd, SIZE / 2, PAGE_SIZE, 1);
		}
	}

	/* The other two ways to ask. */
	punch(env->fd, 0, SIZE);
	set_policy(env->mem, 0, SIZE, MPOL_BIND, NODE0);
	gmem_fill(env->mem, 0, SIZE, SEED);
	by_guest(env, 0, SIZE);
	n = syscall(__NR_move_pages, 0, NR_PAGES, pages, nodes, status,
		    MPOL_MF_MOVE_ALL);
	TEST_ASSERT(n >= 0 || errno == EBUSY || errno == EOPNOTSUPP,
		    "move_pages: %s", strerror(errno));
	n = syscall(__NR_migrate_pages, 0, MAXNODE, &from, &to);
	TEST_ASSERT(n >= 0, "migrate_pages: %s", strerror(errno));
	assert_node(env->fd, 0, SIZE, 0);
	gmem_check(env->mem, 0, SIZE, SEED);
	TEST_ASSERT_EQ(gmem_guest_call(env->vcpu, gmem_guest_check, GMEM_GVA,
				       SIZE, SEED), 0ul);

	/* Nor is it stuck somewhere on the way. */
	gmem_make_private(env->fd, 0, SIZE);
	gmem_make_shared(env->fd, 0, SIZE);
	gmem_check(env->mem, 0, SIZE, SEED);
}

/* The first CPU of a node, or -1. */
static int first_cpu(int node)
{
	char path[64];
	int cpu = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist",
		 node);
	f = fopen(path, "r");
	if (!f)
		return -1;
	if (fscanf(f, "%d", &cpu) != 1)
		cpu = -1;
	fclose(f);
	return cpu;
}

int main(int argc, char *argv[])
{
	unsigned long allowed[16] = {};

	GMEM_REQUIRE();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_MEMPOLICY);
	__TEST_REQUIRE(!syscall(__NR_get_mempolicy, NULL, allowed,
				sizeof(allowed) * 8, NULL, MPOL_F_MEMS_ALLOWED) &&
		       (allowed[0] & BOTH) == BOTH, "no two nodes");
	node_cpu[0] = first_cpu(0);
	node_cpu[1] = first_cpu(1);
	__TEST_REQUIRE(node_cpu[0] >= 0 && node_cpu[1] >= 0,
		       "a node has no CPU");

	return test_harness_run(argc, argv);
}
