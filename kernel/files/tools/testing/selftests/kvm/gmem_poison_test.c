// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory failure in a convertible guest_memfd.
 *
 * A poisoned page stays where it is, and tells everybody who needs its contents,
 * until it is punched out; the pages around it do not know.
 */
#include <linux/sizes.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "gmem_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	8
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define SEED		1

#define BAD		3
#define BAD_OFFSET	(BAD * PAGE_SIZE)
#define AFTER_BAD	(BAD_OFFSET + PAGE_SIZE)

#define DEBUGFS		"/sys/kernel/debug"
#define HWPOISON	DEBUGFS "/hwpoison/"

struct env {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int fd;
	int kmsg;
	void *mem;
	uint64_t pfn;
};

FIXTURE(gmem_poison)
{
	struct env env;
};

GMEM_FIXTURE_VARIANTS(gmem_poison);

/* Only root sees it, and only of what is mapped. */
static uint64_t get_pfn(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	TEST_ASSERT(fd >= 0, "pagemap: %s", strerror(errno));
	TEST_ASSERT(pread(fd, &entry, 8, (uintptr_t)addr / PAGE_SIZE * 8) == 8,
		    "pagemap: %s", strerror(errno));
	close(fd);
	TEST_ASSERT(entry & BIT_ULL(63), "The page is not present");
	return entry & (BIT_ULL(55) - 1);
}

FIXTURE_SETUP(gmem_poison)
{
	struct env *env = &self->env;

	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	env->vm = gmem_vm_create(variant->type, 1, &env->vcpu, NR_PAGES);
	env->fd = gmem_create(env->vm, SIZE, GMEM_FLAGS_SHARED);
	env->mem = gmem_mmap(env->fd, SIZE);
	gmem_bind(env->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? env->mem : NULL, env->fd, 0);
	gmem_fill(env->mem, 0, SIZE, SEED);
	env->pfn = get_pfn(env->mem + BAD_OFFSET);

	env->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (env->kmsg >= 0)
		lseek(env->kmsg, 0, SEEK_END);
}

FIXTURE_TEARDOWN(gmem_poison)
{
	munmap(self->env.mem, SIZE);
	close(self->env.fd);
	close(self->env.kmsg);
	kvm_vm_free(self->env.vm);
}

static int write_pfn(const char *knob, uint64_t pfn)
{
	char path[64], buf[32];

	snprintf(path, sizeof(path), HWPOISON "%s", knob);
	snprintf(buf, sizeof(buf), "0x%lx", pfn);
	return __gmem_write_file(path, buf, strlen(buf));
}

static bool have_injector(void)
{
	if (access(HWPOISON "corrupt-pfn", W_OK))
		mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	return !access(HWPOISON "corrupt-pfn", W_OK);
}

static bool guest_fails(struct env *env, uint64_t offset)
{
	uint64_t val;
	int r;

	r = __gmem_guest_call(env->vcpu, gmem_guest_read, GMEM_GVA + offset, 0,
			      0, &val);
	if (!r)
		return false;

	TEST_ASSERT(r == -EHWPOISON, "KVM_RUN: %s", strerror(-r));
	TEST_ASSERT_KVM_EXIT_REASON(env->vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(env->vcpu->run->memory_fault.gpa & ~(PAGE_SIZE - 1ull),
		       GMEM_GPA + offset);
	return true;
}

/* Leave the guest as it was: the access that failed has to succeed now. */
static void guest_goes_on(struct env *env, uint64_t want)
{
	uint64_t val = -1;

	vcpu_run(env->vcpu);
	TEST_ASSERT(gmem_guest_done(env->vcpu, &val), "The guest is still stuck");
	TEST_ASSERT_EQ(val, want);
}

static void guest_check(struct env *env, uint64_t offset, uint64_t size)
{
	TEST_ASSERT_EQ(gmem_guest_call(env->vcpu, gmem_guest_check,
				       GMEM_GVA + offset, size, SEED), 0ul);
}

/* The offset of what is broken, and nothing changed. */
static void assert_poison(struct env *env, bool private, uint64_t offset,
			  uint64_t size, uint64_t flags)
{
	struct kvm_gmem_range before[NR_PAGES], after[NR_PAGES];
	uint64_t error_offset;
	int r, n;

	memset(before, 0, sizeof(before));
	memset(after, 0, sizeof(after));
	n = gmem_get_ranges(env->fd, 0, SIZE, KVM_GMEM_RANGES_BY_NODE, before,
			    NR_PAGES);
	r = __gmem_convert(env->fd, private, offset, size, flags, &error_offset);
	TEST_ASSERT(r == -EHWPOISON, "Converted poison: %d", r);
	TEST_ASSERT_EQ(error_offset, (uint64_t)BAD_OFFSET);
	if (!flags) {
		r = __gmem_set_attributes(env->fd, private ?
					  KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
					  offset, size, &error_offset);
		TEST_ASSERT(r == -EHWPOISON, "Converted poison: %d", r);
		TEST_ASSERT_EQ(error_offset, (uint64_t)BAD_OFFSET);
	}
	TEST_ASSERT_EQ(gmem_get_ranges(env->fd, 0, SIZE, KVM_GMEM_RANGES_BY_NODE,
				       after, NR_PAGES), n);
	TEST_ASSERT(!memcmp(before, after, sizeof(before)), "The state changed");
}

/* Punched out, it is as good as new. */
static void heal(struct env *env)
{
	uint64_t val = -1;

	TEST_ASSERT(!__gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE |
				      FALLOC_FL_KEEP_SIZE, BAD_OFFSET, PAGE_SIZE),
		    "Cannot punch");
	TEST_ASSERT_EQ(gmem_populated(env->fd, BAD_OFFSET, PAGE_SIZE), 0ul);

	gmem_make_shared(env->fd, 0, SIZE);
	TEST_ASSERT_EQ(gmem_peek(env->mem + BAD_OFFSET, &val), 0);
	TEST_ASSERT_EQ(val, 0ul);
	gmem_check_zero(env->mem, BAD_OFFSET, PAGE_SIZE);
	TEST_ASSERT(get_pfn(env->mem + BAD_OFFSET) != env->pfn,
		    "The broken page is in use again");

	gmem_fill(env->mem, BAD_OFFSET, PAGE_SIZE, SEED);
	gmem_make_private(env->fd, 0, SIZE);
	guest_check(env, 0, SIZE);
	gmem_make_shared(env->fd, 0, SIZE);
	gmem_check(env->mem, 0, SIZE, SEED);

	/* Best effort: it was never really broken. */
	if (have_injector())
		write_pfn("unpoison-pfn", env->pfn);
}

/* What the log says of the page: it was dealt with, and is to be, later. */
static void check_log(struct env *env)
{
	char line[1024], pfn[32];
	bool delayed = false;
	ssize_t n;

	if (env->kmsg < 0)
		return;

	snprintf(pfn, sizeof(pfn), "%#lx: recovery action", env->pfn);
	for (;;) {
		n = read(env->kmsg, line, sizeof(line) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			break;
		line[n] = '\0';
		if (!strstr(line, pfn))
			continue;
		TEST_ASSERT(!strstr(line, "Failed") && !strstr(line, "Ignored"),
			    "%s", line);
		delayed |= !!strstr(line, "Delayed");
	}
	TEST_ASSERT(delayed, "No word of page 0x%lx in the log", env->pfn);
}

static int sigbus_code;
static void *sigbus_addr;

static void sigbus_handler(int sig, siginfo_t *info, void *ctx)
{
	WRITE_ONCE(sigbus_code, info->si_code);
	WRITE_ONCE(sigbus_addr, info->si_addr);
}

/* It is as if the caller had touched the page: 0, or a negative errno. */
static int poison_mapping(void *addr)
{
	const struct sigaction sa = {
		.sa_sigaction = sigbus_handler,
		.sa_flags = SA_SIGINFO,
	};
	struct sigaction old;
	int r;

	TEST_ASSERT(!sigaction(SIGBUS, &sa, &old), "sigaction: %s",
		    strerror(errno));
	r = madvise(addr, PAGE_SIZE, MADV_HWPOISON) ? -errno : 0;
	sigaction(SIGBUS, &old, NULL);
	if (r)
		return r;

	TEST_ASSERT_EQ(READ_ONCE(sigbus_code), BUS_MCEERR_AR);
	TEST_ASSERT_EQ(READ_ONCE(sigbus_addr), addr);
	return 0;
}

static void check_shared_poison(struct env *env)
{
	void *other;
	int r;

	check_log(env);

	/* Everybody who touches it, through whatever mapping. */
	TEST_ASSERT_EQ(gmem_peek(env->mem + BAD_OFFSET, NULL), BUS_MCEERR_AR);
	TEST_ASSERT_EQ(gmem_poke(env->mem + BAD_OFFSET, 0), BUS_MCEERR_AR);
	other = gmem_mmap(env->fd, SIZE);
	TEST_ASSERT_EQ(gmem_peek(other + BAD_OFFSET, NULL), BUS_MCEERR_AR);
	munmap(other, SIZE);
	TEST_ASSERT_EQ(gmem_syscall_peek(env->mem + BAD_OFFSET), -EFAULT);
	TEST_ASSERT(guest_fails(env, BAD_OFFSET), "The guest has read poison");

	/* Again, and it has not become better. */
	TEST_ASSERT_EQ(gmem_peek(env->mem + BAD_OFFSET, NULL), BUS_MCEERR_AR);
	TEST_ASSERT(_vcpu_run(env->vcpu) && errno == EHWPOISON,
		    "The guest goes on: %s", strerror(errno));

	/* The memory is still there, and so are its neighbours. */
	TEST_ASSERT_EQ(gmem_populated(env->fd, 0, SIZE), (uint64_t)SIZE);
	gmem_check(env->mem, 0, BAD_OFFSET, SEED);
	gmem_check(env->mem, AFTER_BAD, SIZE - AFTER_BAD, SEED);

	assert_poison(env, true, 0, SIZE, 0);
	assert_poison(env, true, BAD_OFFSET, PAGE_SIZE, 0);
	assert_poison(env, true, BAD_OFFSET, SIZE - BAD_OFFSET, 0);
	assert_poison(env, true, 0, AFTER_BAD, 0);

	/* To zero what is broken is no way out, and nor is half of it. */
	r = __gmem_fallocate(env->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
			     0, SIZE);
	TEST_ASSERT(r == -EHWPOISON, "Zeroed poison: %d", r);
	gmem_check(env->mem, 0, BAD_OFFSET, SEED);
	gmem_check(env->mem, AFTER_BAD, SIZE - AFTER_BAD, SEED);

	gmem_make_private(env->fd, 0, BAD_OFFSET);
	gmem_make_private(env->fd, AFTER_BAD, SIZE - AFTER_BAD);
	gmem_assert_no_access(env->mem, BAD_OFFSET);
	TEST_ASSERT_EQ(gmem_peek(env->mem + BAD_OFFSET, NULL), BUS_MCEERR_AR);
	assert_poison(env, true, 0, SIZE, 0);
}

/* The guest waits for the page it could not read. */
static void check_healed(struct env *env)
{
	TEST_ASSERT(!__gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE |
				      FALLOC_FL_KEEP_SIZE, BAD_OFFSET, PAGE_SIZE),
		    "Cannot punch");
	guest_goes_on(env, 0);
	guest_check(env, 0, BAD_OFFSET);
	guest_check(env, AFTER_BAD, SIZE - AFTER_BAD);
	heal(env);
}

GMEM_TEST(gmem_poison, madvise)
{
	struct env *env = &self->env;
	int r;

	r = poison_mapping(env->mem + BAD_OFFSET);
	if (r) {
		TEST_ASSERT(r == -EINVAL || r == -EPERM, "MADV_HWPOISON: %s",
			    strerror(-r));
		SKIP(return, "MADV_HWPOISON: %s", strerror(-r));
	}
	check_shared_poison(env);
	check_healed(env);
}

GMEM_TEST(gmem_poison, injected_while_shared)
{
	struct env *env = &self->env;

	if (!have_injector())
		SKIP(return, "no " HWPOISON "corrupt-pfn (CONFIG_HWPOISON_INJECT)");

	/* The guest has it mapped as well. */
	guest_check(env, 0, SIZE);
	TEST_ASSERT_EQ(write_pfn("corrupt-pfn", env->pfn), 0);
	check_shared_poison(env);
	check_healed(env);
}

GMEM_TEST(gmem_poison, injected_while_private)
{
	struct env *env = &self->env;
	int r;

	if (!have_injector())
		SKIP(return, "no " HWPOISON "corrupt-pfn (CONFIG_HWPOISON_INJECT)");

	gmem_make_private(env->fd, 0, SIZE);
	guest_check(env, 0, SIZE);
	TEST_ASSERT_EQ(write_pfn("corrupt-pfn", env->pfn), 0);
	check_log(env);

	TEST_ASSERT(guest_fails(env, BAD_OFFSET), "The guest has read poison");
	/* For the host it is private, and nothing else. */
	TEST_ASSERT_EQ(gmem_peek(env->mem + BAD_OFFSET, NULL), BUS_ADRERR);

	r = __gmem_fallocate(env->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
			     0, SIZE);
	TEST_ASSERT(r == -EHWPOISON, "Zeroed poison: %d", r);

	/* To be zeroed it would have to be written. */
	assert_poison(env, false, 0, SIZE, KVM_GMEM_CONVERT_ZERO);
	assert_poison(env, false, BAD_OFFSET, PAGE_SIZE, KVM_GMEM_CONVERT_ZERO);

	/* To become shared it need not be touched; and the host can see. */
	gmem_make_shared(env->fd, 0, SIZE);
	gmem_check(env->mem, 0, BAD_OFFSET, SEED);
	gmem_check(env->mem, AFTER_BAD, SIZE - AFTER_BAD, SEED);
	TEST_ASSERT_EQ(gmem_peek(env->mem + BAD_OFFSET, NULL), BUS_MCEERR_AR);
	TEST_ASSERT(_vcpu_run(env->vcpu) && errno == EHWPOISON,
		    "The guest goes on: %s", strerror(errno));

	/* There is no way back. */
	assert_poison(env, true, 0, SIZE, 0);
	check_healed(env);
}

/* A process that maps the page, having only read it, and is told if it fails. */
static void child_waits(struct env *env, int ready, int go)
{
	const struct sigaction sa = {
		.sa_sigaction = sigbus_handler,
		.sa_flags = SA_SIGINFO,
	};
	char byte = 0;
	void *mem;

	/* One mapping, of its own: signals of two would be merged. */
	munmap(env->mem, SIZE);
	mem = gmem_mmap(env->fd, SIZE);
	if (prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) ||
	    gmem_peek(mem + BAD_OFFSET, NULL) || sigaction(SIGBUS, &sa, NULL) ||
	    write(ready, &byte, 1) != 1)
		_exit(10);

	/* The signal is pending, if there is one, before the parent writes. */
	while (read(go, &byte, 1) < 0 && errno == EINTR)
		;
	if (READ_ONCE(sigbus_code) != BUS_MCEERR_AO)
		_exit(11);
	_exit(READ_ONCE(sigbus_addr) == mem + BAD_OFFSET ? 0 : 12);
}

/*
 * What the guest has written makes no page table entry of the host dirty, and
 * is lost all the same: those who map the page are told, as they are of memfd.
 */
GMEM_TEST(gmem_poison, clean_for_the_host)
{
	struct env *env = &self->env;
	int ready[2], go[2], status;
	char byte = 0;
	pid_t pid;
	void *mem;

	if (!have_injector())
		SKIP(return, "no " HWPOISON "corrupt-pfn (CONFIG_HWPOISON_INJECT)");

	/* From the start: written by nobody but the guest. */
	mem = env->mem;
	TEST_ASSERT(!__gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE |
				      FALLOC_FL_KEEP_SIZE, 0, SIZE), "Cannot punch");
	gmem_guest_call(env->vcpu, gmem_guest_fill, GMEM_GVA, SIZE, SEED);
	TEST_ASSERT_EQ(gmem_peek(mem + BAD_OFFSET, NULL), 0);
	env->pfn = get_pfn(mem + BAD_OFFSET);

	TEST_ASSERT(!pipe(ready) && !pipe(go), "pipe: %s", strerror(errno));
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		child_waits(env, ready[1], go[0]);
	TEST_ASSERT_EQ(read(ready[0], &byte, 1), 1);

	TEST_ASSERT_EQ(write_pfn("corrupt-pfn", env->pfn), 0);
	TEST_ASSERT_EQ(write(go[1], &byte, 1), 1);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status),
		    "the child: %#x", status);
	TEST_ASSERT(!WEXITSTATUS(status), "the child was not told: %d", WEXITSTATUS(status));

	check_log(env);
	TEST_ASSERT_EQ(gmem_peek(mem + BAD_OFFSET, NULL), BUS_MCEERR_AR);
	TEST_ASSERT(guest_fails(env, BAD_OFFSET), "The guest has read poison");
	gmem_make_private(env->fd, 0, BAD_OFFSET);
	gmem_make_private(env->fd, AFTER_BAD, SIZE - AFTER_BAD);
	check_healed(env);
}

/* Whose access it was is told, at once. */
GMEM_TEST(gmem_poison, clean_for_the_host_madvise)
{
	struct env *env = &self->env;
	int r;

	TEST_ASSERT(!__gmem_fallocate(env->fd, FALLOC_FL_PUNCH_HOLE |
				      FALLOC_FL_KEEP_SIZE, 0, SIZE), "Cannot punch");
	gmem_guest_call(env->vcpu, gmem_guest_fill, GMEM_GVA, SIZE, SEED);
	TEST_ASSERT_EQ(gmem_peek(env->mem + BAD_OFFSET, NULL), 0);
	env->pfn = get_pfn(env->mem + BAD_OFFSET);

	r = poison_mapping(env->mem + BAD_OFFSET);
	if (r)
		SKIP(return, "MADV_HWPOISON: %s", strerror(-r));
	check_shared_poison(env);
	check_healed(env);
}

/* Punched out while it is private. */
GMEM_TEST(gmem_poison, healed_while_private)
{
	struct env *env = &self->env;

	if (!have_injector())
		SKIP(return, "no " HWPOISON "corrupt-pfn (CONFIG_HWPOISON_INJECT)");

	gmem_make_private(env->fd, 0, SIZE);
	guest_check(env, 0, SIZE);
	TEST_ASSERT_EQ(write_pfn("corrupt-pfn", env->pfn), 0);
	TEST_ASSERT(guest_fails(env, BAD_OFFSET), "The guest has read poison");
	check_healed(env);
}

/* The file goes, with the poison in it. */
GMEM_TEST(gmem_poison, closed)
{
	struct env *env = &self->env;
	int r;

	r = poison_mapping(env->mem + BAD_OFFSET);
	if (r)
		SKIP(return, "MADV_HWPOISON: %s", strerror(-r));

	munmap(env->mem, SIZE);
	gmem_unbind(env->vm, GMEM_SLOT);
	close(env->fd);

	env->fd = gmem_create(env->vm, SIZE, GMEM_FLAGS_SHARED);
	env->mem = gmem_mmap(env->fd, SIZE);
	gmem_bind(env->vm, GMEM_SLOT, GMEM_GPA, SIZE, NULL, env->fd, 0);
	gmem_fill(env->mem, 0, SIZE, SEED);
	guest_check(env, 0, SIZE);

	if (have_injector())
		write_pfn("unpoison-pfn", env->pfn);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();
	__TEST_REQUIRE(!geteuid(), "needs root");
	return test_harness_run(argc, argv);
}
