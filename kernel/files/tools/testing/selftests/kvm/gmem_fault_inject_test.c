// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each allocation of each operation on a convertible guest_memfd fails once: the
 * n-th one, for every n until the operation gets by with fewer.
 *
 * An operation that fails says ENOMEM and has changed nothing: neither state nor
 * contents nor population nor the table of file descriptors; and it succeeds
 * when it is tried again.
 */
#include <linux/mempolicy.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "gmem_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	128
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define SEED		1

/* Punched out before operations that allocate memory. */
#define HOLE_OFFSET	(64 * PAGE_SIZE)
#define HOLE_SIZE	(8 * PAGE_SIZE)

#define MMIO_GVA	0xd0000000ULL
#define MAGIC		0x600dda7aU

#define DEBUGFS		"/sys/kernel/debug"

struct env {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	void *mem;
	void *other;
	bool hva;
	int new_fd;
	int fail_nth;
};

FIXTURE(gmem_fault)
{
	struct env env;
};

GMEM_FIXTURE_VARIANTS(gmem_fault);

static void write_knob(const char *name, const char *val)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "/%s", name);
	gmem_write_file(path, val);
}

/* Also those that may sleep, and those for user memory, and single pages. */
static bool enable_faults(void)
{
	if (access(DEBUGFS "/failslab/ignore-gfp-wait", W_OK))
		mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	if (access(DEBUGFS "/failslab/ignore-gfp-wait", W_OK) ||
	    access(DEBUGFS "/fail_page_alloc/ignore-gfp-wait", W_OK))
		return false;

	write_knob("failslab/ignore-gfp-wait", "N");
	write_knob("failslab/verbose", "0");
	write_knob("fail_page_alloc/ignore-gfp-wait", "N");
	write_knob("fail_page_alloc/ignore-gfp-highmem", "N");
	write_knob("fail_page_alloc/min-order", "0");
	write_knob("fail_page_alloc/verbose", "0");
	return true;
}

static void restore_faults(void)
{
	write_knob("failslab/ignore-gfp-wait", "Y");
	write_knob("failslab/verbose", "2");
	write_knob("fail_page_alloc/ignore-gfp-wait", "Y");
	write_knob("fail_page_alloc/ignore-gfp-highmem", "Y");
	write_knob("fail_page_alloc/min-order", "1");
	write_knob("fail_page_alloc/verbose", "2");
}

/* Runs of two pages all over the file, and a pattern in all of it. */
static void set_up_file(struct env *env)
{
	int i;

	gmem_make_shared(env->fd, 0, SIZE);
	gmem_fill(env->mem, 0, SIZE, SEED);
	for (i = 0; i < NR_PAGES; i += 4)
		gmem_make_private(env->fd, i * PAGE_SIZE, 2 * PAGE_SIZE);
}

FIXTURE_SETUP(gmem_fault)
{
	struct env *env = &self->env;

	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	env->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	if (env->fail_nth < 0 || !enable_faults())
		SKIP(return, "no CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC with debugfs");

	env->vm = gmem_vm_create(variant->type, 1, &env->vcpu, 2 * NR_PAGES);
	env->fd = gmem_create(env->vm, SIZE, GMEM_FLAGS_PRIVATE);
	env->mem = gmem_mmap(env->fd, SIZE);
	env->other = gmem_mmap(env->fd, SIZE);
	env->hva = variant->hva;
	gmem_bind(env->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  env->hva ? env->mem : NULL, env->fd, 0);
	set_up_file(env);
}

FIXTURE_TEARDOWN(gmem_fault)
{
	if (!self->env.vm)
		return;
	restore_faults();
	munmap(self->env.mem, SIZE);
	munmap(self->env.other, SIZE);
	close(self->env.fd);
	kvm_vm_free(self->env.vm);
}

static void arm(struct env *env, int n)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%d", n);

	TEST_ASSERT_EQ(pwrite(env->fail_nth, buf, len, 0), (ssize_t)len);
}

/* Return what is left to count down: 0 if an allocation has failed. */
static int disarm(struct env *env)
{
	char buf[16] = "";

	TEST_ASSERT(pread(env->fail_nth, buf, sizeof(buf) - 1, 0) > 0,
		    "fail-nth: %s", strerror(errno));
	TEST_ASSERT_EQ(pwrite(env->fail_nth, "0", 1, 0), 1l);
	return atoi(buf);
}

static int nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	TEST_ASSERT(dir, "/proc/self/fd: %s", strerror(errno));
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/**
 * struct op - an operation that is to fail
 * @name: what to call it
 * @prepare: what has to come before; also undoes what @run did
 * @run: return 0 or a negative errno
 * @failed: @run has failed: check what snapshots do not see
 * @done: @run has succeeded: check what it came to
 * @partial: a failure may leave part of the work done, in what is populated
 * @never: it does allocate, but nobody gets to see that it fails
 */
struct op {
	const char *name;
	void (*prepare)(struct env *env);
	int (*run)(struct env *env);
	void (*failed)(struct env *env);
	void (*done)(struct env *env);
	bool partial;
	bool never;
};

static void check_contents(struct env *env)
{
	TEST_ASSERT_EQ(gmem_guest_call(env->vcpu, gmem_guest_check, GMEM_GVA,
				       SIZE, SEED), 0ul);
}

/* Return how often it failed. */
static int run_op(struct env *env, const struct op *op)
{
	int n, r, left, fds, failures = 0, tolerated = 0;
	struct gmem_snapshot *snap;

	for (n = 1;; n++) {
		TEST_ASSERT(n < 2000, "%s allocates without end", op->name);
		if (op->prepare)
			op->prepare(env);
		snap = gmem_snapshot(env->fd);
		fds = nr_fds();

		arm(env, n);
		r = op->run(env);
		left = disarm(env);

		if (r) {
			TEST_ASSERT(r == -ENOMEM, "%s: %s", op->name,
				    strerror(-r));
			TEST_ASSERT(!left, "%s fails by itself", op->name);
			if (!op->partial)
				gmem_assert_unchanged(env->fd, snap, op->name);
			TEST_ASSERT_EQ(nr_fds(), fds);
			if (op->failed)
				op->failed(env);
			failures++;

			/* The same once more, and undisturbed. */
			r = op->run(env);
			TEST_ASSERT(!r, "%s, again: %s", op->name, strerror(-r));
		} else if (!left) {
			tolerated++;
		}
		if (op->done)
			op->done(env);
		gmem_snapshot_free(snap);
		if (left)
			break;
	}

	ksft_print_msg("%s: %d failures, %d that nobody noticed\n", op->name,
		       failures, tolerated);
	TEST_ASSERT(failures || op->never, "%s never failed", op->name);
	return failures;
}

/* Creation. */
static void close_new(struct env *env)
{
	if (env->new_fd > 0)
		close(env->new_fd);
	env->new_fd = 0;
}

static int run_create(struct env *env)
{
	env->new_fd = __gmem_create(env->vm, SIZE, GMEM_FLAGS_SHARED);
	return min(env->new_fd, 0);
}

static void prepare_close(struct env *env)
{
	int r;

	env->new_fd = gmem_create(env->vm, SIZE, GMEM_FLAGS_SHARED);
	r = __gmem_fallocate(env->new_fd, FALLOC_FL_KEEP_SIZE, 0, HOLE_SIZE);
	TEST_ASSERT(!r, "fallocate: %s", strerror(-r));
	gmem_make_private(env->new_fd, PAGE_SIZE, PAGE_SIZE);
}

static int run_close(struct env *env)
{
	int r = close(env->new_fd) ? -errno : 0;

	env->new_fd = 0;
	return r;
}

GMEM_TEST(gmem_fault, create)
{
	run_op(&self->env, &(struct op) {
		.name = "KVM_CREATE_GUEST_MEMFD",
		.prepare = close_new,
		.run = run_create,
	});
	close_new(&self->env);
	run_op(&self->env, &(struct op) {
		.name = "close",
		.prepare = prepare_close,
		.run = run_close,
		.never = true,
	});
}

/* Conversion: within a run, over many runs, everywhere. */
static const struct {
	uint64_t offset;
	uint64_t size;
} extents[] = {
	{ 32 * PAGE_SIZE, PAGE_SIZE },
	{ 33 * PAGE_SIZE, PAGE_SIZE },
	{ 35 * PAGE_SIZE, PAGE_SIZE },
	{ 17 * PAGE_SIZE, 62 * PAGE_SIZE },
	{ 0, SIZE },
};

static int extent;
static uint64_t convert_flags;
static uint64_t convert_error_offset;

static int convert(struct env *env, bool to_private)
{
	return __gmem_convert(env->fd, to_private, extents[extent].offset,
			      extents[extent].size,
			      to_private ? 0 : convert_flags,
			      &convert_error_offset);
}

static int run_to_private(struct env *env)
{
	return convert(env, true);
}

static int run_to_shared(struct env *env)
{
	return convert(env, false);
}

static int set_attributes(struct env *env, uint64_t attributes)
{
	return __gmem_set_attributes(env->fd, attributes, extents[extent].offset,
				     extents[extent].size, &convert_error_offset);
}

static int run_set_private(struct env *env)
{
	return set_attributes(env, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static int run_set_shared(struct env *env)
{
	return set_attributes(env, 0);
}

static void convert_failed(struct env *env)
{
	TEST_ASSERT_EQ(convert_error_offset, extents[extent].offset);
	check_contents(env);
}

GMEM_TEST(gmem_fault, convert)
{
	int to_private = 0, to_shared = 0, zeroed = 0, set_private = 0, set_shared = 0;

	for (extent = 0; extent < ARRAY_SIZE(extents); extent++) {
		struct op op = {
			.name = "KVM_GMEM_CONVERT_PRIVATE",
			.prepare = set_up_file,
			.run = run_to_private,
			.failed = convert_failed,
			/*
			 * Where a run only grows at the cost of its neighbour,
			 * the tree is changed in place.
			 */
			.never = true,
		};

		to_private += run_op(&self->env, &op);

		op.name = "KVM_GMEM_CONVERT_SHARED";
		op.run = run_to_shared;
		convert_flags = 0;
		to_shared += run_op(&self->env, &op);

		op.name = "KVM_GMEM_CONVERT_SHARED, zeroing";
		convert_flags = KVM_GMEM_CONVERT_ZERO;
		zeroed += run_op(&self->env, &op);

		op.name = "KVM_SET_MEMORY_ATTRIBUTES2, private";
		op.run = run_set_private;
		set_private += run_op(&self->env, &op);

		op.name = "KVM_SET_MEMORY_ATTRIBUTES2, shared";
		op.run = run_set_shared;
		set_shared += run_op(&self->env, &op);
	}

	TEST_ASSERT(to_private && to_shared && zeroed && set_private && set_shared,
		    "failures: %d to private, %d to shared, %d zeroing, %d, %d by attributes",
		    to_private, to_shared, zeroed, set_private, set_shared);
}

/* Binding. */
static void unbind_second(struct env *env)
{
	gmem_unbind(env->vm, GMEM_SLOT + 1);
}

/* The ioctl alone: __gmem_bind() does more, which would be what fails. */
static int run_bind(struct env *env)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = GMEM_SLOT + 1,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = GMEM_GPA + SIZE,
		.memory_size = HOLE_SIZE,
		.guest_memfd = env->new_fd,
	};

	return ioctl(env->vm->fd, KVM_SET_USER_MEMORY_REGION2, &region) ? -errno : 0;
}

GMEM_TEST(gmem_fault, bind)
{
	self->env.new_fd = gmem_create(self->env.vm, SIZE, GMEM_FLAGS_PRIVATE);
	/* So that there is something for unbind_second() to take away. */
	TEST_ASSERT(!run_bind(&self->env), "Cannot bind");

	run_op(&self->env, &(struct op) {
		.name = "KVM_SET_USER_MEMORY_REGION2",
		.prepare = unbind_second,
		.run = run_bind,
		.failed = check_contents,
	});
	gmem_guest_call(self->env.vcpu, gmem_guest_fill, GMEM_GVA + SIZE,
			HOLE_SIZE, SEED);
	TEST_ASSERT_EQ(gmem_populated(self->env.new_fd, 0, SIZE),
		       (uint64_t)HOLE_SIZE);
	unbind_second(&self->env);
	close_new(&self->env);
}

/* Questions. */
static int run_get_ranges(struct env *env)
{
	struct kvm_gmem_range ranges[NR_PAGES];
	struct kvm_gmem_get_ranges arg = {
		.size = SIZE,
		.ranges = (uintptr_t)ranges,
		.nr = NR_PAGES,
		.flags = KVM_GMEM_RANGES_BY_NODE,
	};
	int r = __gmem_get_ranges(env->fd, &arg);

	TEST_ASSERT(r || (!arg.size && arg.nr >= NR_PAGES / 2),
		    "A failure went unnoticed");
	return r;
}

/* What could not be counted is left out, and not made up. */
static int run_fdinfo(struct env *env)
{
	char path[64], buf[1024] = "", *at;
	int fd, r = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", env->fd);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	if (read(fd, buf, sizeof(buf) - 1) < 0)
		r = -errno;
	close(fd);
	at = strstr(buf, "gmem-populated:\t");
	if (at)
		TEST_ASSERT_EQ(atol(at + strlen("gmem-populated:\t")), (long)SIZE);
	return r;
}

static int run_seek(struct env *env)
{
	return lseek(env->fd, 0, SEEK_HOLE) == SIZE ? 0 : -errno;
}

GMEM_TEST(gmem_fault, query)
{
	run_op(&self->env, &(struct op) {
		.name = "KVM_GMEM_GET_RANGES",
		.run = run_get_ranges,
		.never = true,
	});
	run_op(&self->env, &(struct op) {
		.name = "fdinfo",
		.run = run_fdinfo,
	});
	run_op(&self->env, &(struct op) {
		.name = "lseek",
		.run = run_seek,
		.never = true,
	});
}

/* Memory. */
static void prepare_hole(struct env *env)
{
	int r;

	r = __gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     HOLE_OFFSET, HOLE_SIZE);
	TEST_ASSERT(!r, "FALLOC_FL_PUNCH_HOLE: %s", strerror(-r));
}

static void assert_hole_states(struct env *env)
{
	uint64_t pos;

	for (pos = 0; pos < HOLE_SIZE; pos += PAGE_SIZE)
		TEST_ASSERT_EQ(gmem_is_private(env->fd, HOLE_OFFSET + pos),
			       pos / PAGE_SIZE % 4 < 2);
}

static int run_fallocate(struct env *env)
{
	return __gmem_fallocate(env->fd, FALLOC_FL_KEEP_SIZE, HOLE_OFFSET,
				HOLE_SIZE);
}

static int run_punch(struct env *env)
{
	return __gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE |
				FALLOC_FL_KEEP_SIZE, HOLE_OFFSET, HOLE_SIZE);
}

static int run_zero(struct env *env)
{
	return __gmem_fallocate(env->fd, FALLOC_FL_ZERO_RANGE |
				FALLOC_FL_KEEP_SIZE, HOLE_OFFSET, HOLE_SIZE);
}

/* Shared, in the hole.  The kernel tries again by itself. */
static int run_host_fault(struct env *env)
{
	uint64_t val = -1;
	int r;

	r = gmem_peek(env->mem + HOLE_OFFSET + 2 * PAGE_SIZE, &val);
	TEST_ASSERT(!r && !val, "A fault: code %d, value 0x%lx", r, val);
	return 0;
}

/* Private, in the hole; and the next page, which is not there either. */
static void prepare_guest_fault(struct env *env)
{
	prepare_hole(env);
	gmem_guest_start(env->vcpu, gmem_guest_check_zero,
			 GMEM_GVA + HOLE_OFFSET, 2 * PAGE_SIZE, 0);
}

/* The first time, or again with the access that failed. */
static int run_guest_fault(struct env *env)
{
	return _vcpu_run(env->vcpu) ? -errno : 0;
}

static void check_guest_fault(struct env *env)
{
	uint64_t val;

	TEST_ASSERT(gmem_guest_done(env->vcpu, &val), "Stuck");
	TEST_ASSERT(!val, "Memory that is not zero: 0x%lx", val);
}

static int run_pre_fault(struct env *env)
{
	struct kvm_pre_fault_memory range = {
		.gpa = GMEM_GPA + HOLE_OFFSET,
		.size = PAGE_SIZE,
	};

	return __vcpu_ioctl(env->vcpu, KVM_PRE_FAULT_MEMORY, &range) ? -errno : 0;
}

GMEM_TEST(gmem_fault, memory)
{
	struct env *env = &self->env;

	run_op(env, &(struct op) {
		.name = "fallocate",
		.prepare = prepare_hole,
		.run = run_fallocate,
		.failed = assert_hole_states,
		.partial = true,
	});
	run_op(env, &(struct op) {
		.name = "FALLOC_FL_PUNCH_HOLE",
		.run = run_punch,
		.never = true,
	});
	run_op(env, &(struct op) {
		.name = "FALLOC_FL_ZERO_RANGE",
		.run = run_zero,
		.never = true,
	});
	run_op(env, &(struct op) {
		.name = "a fault of the host",
		.prepare = prepare_hole,
		.run = run_host_fault,
		.never = true,
	});
	run_op(env, &(struct op) {
		.name = "a fault of the guest",
		.prepare = prepare_guest_fault,
		.run = run_guest_fault,
		.failed = assert_hole_states,
		.done = check_guest_fault,
		.partial = true,
	});
	if (kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY))
		run_op(env, &(struct op) {
			.name = "KVM_PRE_FAULT_MEMORY",
			.prepare = prepare_hole,
			.run = run_pre_fault,
			.failed = assert_hole_states,
			.partial = true,
		});
}

/*
 * Emulation.  KVM accesses the memory itself, and so does it for MMIO, port I/O and
 * walks of the guest's page tables.  Without memory, KVM_RUN has to fail; to take the
 * hole for MMIO, or to inject a #PF, would tell the guest that it has no memory there.
 */
static uint64_t fault_gpa;
static int nr_memory_faults;

static uint64_t guest_fep_write(uint64_t gva, uint64_t b, uint64_t c)
{
	asm volatile(KVM_FEP "movl %k0, (%1)" : : "a"(MAGIC), "c"(gva) : "memory");
	return READ_ONCE(*(uint64_t *)gva) - MAGIC;
}

static uint64_t guest_fep_cmpxchg(uint64_t gva, uint64_t b, uint64_t c)
{
	uint32_t was = 0;
	bool done;

	asm volatile(KVM_FEP "lock cmpxchgl %k3, (%2)"
		     : "=@cce"(done), "+a"(was) : "c"(gva), "d"(MAGIC) : "memory");
	return !done + READ_ONCE(*(uint64_t *)gva) - MAGIC;
}

static uint64_t guest_mmio_movs(uint64_t gva, uint64_t b, uint64_t c)
{
	uint64_t to = gva, from = MMIO_GVA;

	asm volatile("cld; movsl" : "+D"(to), "+S"(from) : : "memory");
	return READ_ONCE(*(uint64_t *)gva) - MAGIC;
}

static gmem_guest_fn emulated;

static void prepare_emulation(struct env *env)
{
	prepare_hole(env);
	gmem_guest_start(env->vcpu, emulated, GMEM_GVA + HOLE_OFFSET, 0, 0);
}

/* Answer reads of MMIO_GVA, and nothing else. */
static int run_emulation(struct env *env)
{
	struct kvm_run *run = env->vcpu->run;
	const uint32_t magic = MAGIC;
	int r;

	do {
		/* Not _vcpu_run(), which looks for a report of the guest in its memory. */
		r = __vcpu_run(env->vcpu) ? -errno : 0;
		if (r || run->exit_reason != KVM_EXIT_MMIO)
			break;
		TEST_ASSERT(run->mmio.phys_addr == MMIO_GVA && !run->mmio.is_write,
			    "Memory is taken for MMIO, at %#llx", run->mmio.phys_addr);
		memcpy(run->mmio.data, &magic, sizeof(magic));
	} while (true);

	if (r && run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
	    run->memory_fault.gpa == fault_gpa) {
		TEST_ASSERT_EQ(run->memory_fault.size, PAGE_SIZE);
		TEST_ASSERT_EQ(run->memory_fault.flags, 0);
		nr_memory_faults++;
	}
	return r;
}

static void check_emulation(struct env *env)
{
	uint64_t val;

	TEST_ASSERT(gmem_guest_done(env->vcpu, &val), "Not done: %s",
		    exit_reason_str(env->vcpu->run->exit_reason));
	TEST_ASSERT(!val, "The guest found 0x%lx", val);
}

GMEM_TEST(gmem_fault, emulation)
{
	static const struct {
		const char *name;
		gmem_guest_fn fn;
	} how[] = {
		{ "an emulated read", gmem_guest_fep_read },
		{ "an emulated write", guest_fep_write },
		{ "an emulated cmpxchg", guest_fep_cmpxchg },
		{ "a write from MMIO", guest_mmio_movs },
	};
	struct env *env = &self->env;
	int i;

	if (!kvm_is_forced_emulation_enabled())
		SKIP(return, "kvm.force_emulation_prefix is off");

	virt_pg_map(env->vm, MMIO_GVA, MMIO_GVA);
	fault_gpa = GMEM_GPA + HOLE_OFFSET;
	for (i = 0; i < ARRAY_SIZE(how); i++) {
		nr_memory_faults = 0;
		emulated = how[i].fn;
		run_op(env, &(struct op) {
			.name = how[i].name,
			.prepare = prepare_emulation,
			.run = run_emulation,
			.failed = assert_hole_states,
			.done = check_emulation,
			.partial = true,
		});
		TEST_ASSERT(nr_memory_faults, "%s: no memory fault", how[i].name);
	}
}

/*
 * The page tables are in a clone, and have to be copied when a walk sets their
 * bits.  The data is elsewhere: one page, and one that has another page table.
 */
#define OTHER_OFFSET	(512 * PAGE_SIZE)

static int golden_ram, cloned_ram;

static void prepare_walk(struct env *env)
{
	struct userspace_mem_region *region = memslot2region(env->vm, 0);

	/* The vCPU is in guest code, at the same place in each clone. */
	gmem_unbind(env->vm, 0);
	if (cloned_ram)
		close(cloned_ram);
	cloned_ram = gmem_clone(env->vm, golden_ram);
	gmem_bind(env->vm, 0, region->region.guest_phys_addr, region->region.memory_size,
		  NULL, cloned_ram, 0);

	/* That leaves nothing to copy but the page table of the first page. */
	gmem_guest_call(env->vcpu, gmem_guest_fep_read, GMEM_GVA + OTHER_OFFSET, 0, 0);
	gmem_guest_start(env->vcpu, gmem_guest_fep_read, GMEM_GVA, 0, 0);
}

GMEM_TEST(gmem_fault, walk)
{
	struct env env = self->env;
	uint64_t *pte;
	int data;

	if (!(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CLONE))
		SKIP(return, "no clones");
	if (!kvm_is_forced_emulation_enabled())
		SKIP(return, "kvm.force_emulation_prefix is off");

	env.vm = gmem_vm_create(variant->type, 1, &env.vcpu, OTHER_OFFSET / PAGE_SIZE + 1);
	pte = vm_get_page_table_entry(env.vm, GMEM_GVA);
	fault_gpa = addr_hva2gpa(env.vm, (void *)((uintptr_t)pte & ~(PAGE_SIZE - 1)));
	data = gmem_create(env.vm, OTHER_OFFSET + PAGE_SIZE, GMEM_FLAGS_PRIVATE);
	TEST_ASSERT(!__gmem_fallocate(data, FALLOC_FL_KEEP_SIZE, 0, PAGE_SIZE),
		    "Cannot allocate");
	gmem_bind(env.vm, GMEM_SLOT, GMEM_GPA, OTHER_OFFSET + PAGE_SIZE, NULL, data, 0);
	golden_ram = gmem_vm_make_private(env.vm, false);
	gmem_freeze(golden_ram);

	nr_memory_faults = 0;
	run_op(&env, &(struct op) {
		.name = "a walk of page tables",
		.prepare = prepare_walk,
		.run = run_emulation,
		.done = check_emulation,
		.partial = true,
	});
	TEST_ASSERT(nr_memory_faults, "no memory fault");

	kvm_vm_free(env.vm);
	close(cloned_ram);
	cloned_ram = 0;
	close(golden_ram);
	close(data);
}

/* Mappings and policies. */
static int run_mmap(struct env *env)
{
	void *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 env->fd, 0);

	if (mem == MAP_FAILED)
		return -errno;
	munmap(mem, SIZE);
	return 0;
}

static void assert_policy(struct env *env, int mode)
{
	uint64_t pos;
	int got;

	for (pos = 0; pos < SIZE; pos += PAGE_SIZE) {
		TEST_ASSERT(!syscall(__NR_get_mempolicy, &got, NULL, 0,
				     env->other + pos, MPOL_F_ADDR),
			    "get_mempolicy: %s", strerror(errno));
		TEST_ASSERT(got == (pos < HOLE_OFFSET ||
				    pos >= HOLE_OFFSET + HOLE_SIZE ?
				    MPOL_BIND : mode),
			    "Policy at 0x%lx: %d", pos, got);
	}
}

static void prepare_mbind(struct env *env)
{
	unsigned long node = 1;

	TEST_ASSERT(!syscall(__NR_mbind, env->mem, SIZE, MPOL_BIND, &node, 64, 0),
		    "mbind: %s", strerror(errno));
	assert_policy(env, MPOL_BIND);
}

static int run_mbind(struct env *env)
{
	unsigned long node = 1;

	return syscall(__NR_mbind, env->mem + HOLE_OFFSET, HOLE_SIZE,
		       MPOL_PREFERRED, &node, 64, 0) ? -errno : 0;
}

static void mbind_failed(struct env *env)
{
	assert_policy(env, MPOL_BIND);
}

GMEM_TEST(gmem_fault, mapping)
{
	struct env *env = &self->env;

	run_op(env, &(struct op) {
		.name = "mmap",
		.run = run_mmap,
	});
	if (!(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_MEMPOLICY))
		return;
	run_op(env, &(struct op) {
		.name = "mbind",
		.prepare = prepare_mbind,
		.run = run_mbind,
		.failed = mbind_failed,
	});
	assert_policy(env, MPOL_PREFERRED);
}

/* What lives on: a link, frozen memory, a clone. */
static int run_link(struct env *env)
{
	env->new_fd = __gmem_link(env->vm, env->fd);
	return min(env->new_fd, 0);
}

static void prepare_freeze(struct env *env)
{
	prepare_close(env);
}

static int run_freeze(struct env *env)
{
	uint64_t error_offset;

	return __gmem_freeze(env->new_fd, &error_offset);
}

static int run_clone(struct env *env)
{
	env->new_fd = __gmem_clone(env->vm, env->fd);
	return min(env->new_fd, 0);
}

static void prepare_copy(struct env *env)
{
	env->new_fd = gmem_clone(env->vm, env->fd);
}

static int run_copy(struct env *env)
{
	return __gmem_fallocate(env->new_fd, FALLOC_FL_KEEP_SIZE, 0, SIZE);
}

/* A clone that is not there yet still shows the golden page. */
static void copy_failed(struct env *env)
{
	TEST_ASSERT_EQ(gmem_is_private(env->new_fd, 0), gmem_is_private(env->fd, 0));
	TEST_ASSERT_EQ(gmem_is_private(env->new_fd, 2 * PAGE_SIZE),
		       gmem_is_private(env->fd, 2 * PAGE_SIZE));
}

GMEM_TEST(gmem_fault, link_and_freeze)
{
	struct env *env = &self->env;

	if (!(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CLONE))
		SKIP(return, "no clones");

	run_op(env, &(struct op) {
		.name = "KVM_GMEM_LINK",
		.prepare = close_new,
		.run = run_link,
	});
	close_new(env);
	run_op(env, &(struct op) {
		.name = "KVM_GMEM_FREEZE",
		.prepare = prepare_freeze,
		.run = run_freeze,
		.done = close_new,
		.never = true,
	});
}

GMEM_TEST(gmem_fault, clone)
{
	struct env *env = &self->env;

	if (!(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CLONE))
		SKIP(return, "no clones");

	gmem_freeze(env->fd);
	run_op(env, &(struct op) {
		.name = "KVM_GMEM_CLONE",
		.prepare = close_new,
		.run = run_clone,
	});
	close_new(env);
}

GMEM_TEST(gmem_fault, populate_clone)
{
	struct env *env = &self->env;

	if (!(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CLONE))
		SKIP(return, "no clones");

	gmem_freeze(env->fd);
	run_op(env, &(struct op) {
		.name = "populating a clone",
		.prepare = prepare_copy,
		.run = run_copy,
		.failed = copy_failed,
		.done = close_new,
	});
}

int main(int argc, char *argv[])
{
	char was;
	int r;

	GMEM_REQUIRE();

	was = gmem_set_fep('1');
	r = test_harness_run(argc, argv);
	gmem_set_fep(was);
	return r;
}
