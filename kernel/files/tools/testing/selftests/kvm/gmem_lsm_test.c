// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process that a security module confines, and that was handed a guest_memfd
 * which converts in place: it does what the policy allows, and nothing else.
 *
 * The module is SELinux, the only one that mediates all of it: receiving the
 * file, mmap(), ioctl() and fallocate().  Smack does not mediate mmap() of
 * such a file, AppArmor looks at no file of a kernel-internal mount, Landlock at no
 * file that is open already.
 *
 * The policy is written here, in the binary format that the kernel loads, so
 * that the test needs no compiler of policies.  It names three classes and
 * allows everything else; a kernel that has a policy already is left alone.
 */
#include <linux/magic.h>
#include <linux/sizes.h>

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "gmem_util.h"

#define NR_PAGES	4
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)
#define SEED		7

#define SELINUXFS	"/sys/fs/selinux"
#define CONTEXT		"gmem_u:gmem_r:"

/*
 * The types of processes.  The first is whoever creates the memory, which is
 * labelled like its creator, and all that is not confined.
 */
enum {
	HOST = 1,
	NO_FD,		/* may do all that with a file, but use none of the host's */
	NO_ACCESS,	/* may use them, but not look at guest memory */
	NO_MAP,		/* may read, write, convert; may not map */
	NO_IOCTL,	/* may read, write, map; may not convert */
	NR_TYPES = NO_IOCTL,
};

static const char *const types[NR_TYPES + 1] = {
	NULL, "host_t", "no_fd_t", "no_access_t", "no_map_t", "no_ioctl_t",
};

enum { PROCESS = 1, FD, ANON_INODE, NR_CLASSES = ANON_INODE };

static const struct {
	const char *name;
	const char *perms[4];
} classes[NR_CLASSES + 1] = {
	[PROCESS]	= { "process", { "transition", "dyntransition" } },
	[FD]		= { "fd", { "use" } },
	[ANON_INODE]	= { "anon_inode", { "read", "write", "ioctl", "map" } },
};

enum { PERM_READ = BIT(0), PERM_WRITE = BIT(1), PERM_IOCTL = BIT(2), PERM_MAP = BIT(3) };

static const struct {
	int source, target, class, perms;
} rules[] = {
	{ HOST, HOST, PROCESS, 3 },
	{ HOST, HOST, FD, 1 },
	{ HOST, HOST, ANON_INODE,
	  PERM_READ | PERM_WRITE | PERM_IOCTL | PERM_MAP },
	{ HOST, NO_FD, PROCESS, 3 },
	{ HOST, NO_ACCESS, PROCESS, 3 },
	{ HOST, NO_MAP, PROCESS, 3 },
	{ HOST, NO_IOCTL, PROCESS, 3 },
	{ NO_FD, HOST, ANON_INODE,
	  PERM_READ | PERM_WRITE | PERM_IOCTL | PERM_MAP },
	{ NO_ACCESS, HOST, FD, 1 },
	{ NO_MAP, HOST, FD, 1 },
	{ NO_MAP, HOST, ANON_INODE, PERM_READ | PERM_WRITE | PERM_IOCTL },
	{ NO_IOCTL, HOST, FD, 1 },
	{ NO_IOCTL, HOST, ANON_INODE, PERM_READ | PERM_WRITE | PERM_MAP },
};

/*
 * The policy: version 18 of the format, the last one without multi-level
 * security, in which every number is 32 bits wide, little endian.
 */
#define POLICY_MAGIC		0xf97cff8c
#define POLICY_STRING		"SE Linux"
#define POLICY_VERSION		18
#define POLICY_NR_SYMBOLS	6	/* tables of symbols */
#define POLICY_NR_OCONTEXTS	7	/* tables of contexts of objects */
#define POLICY_ALLOW_UNKNOWN	4
#define POLICY_RULE_ALLOW	1
#define POLICY_LAST_SID		27

#define ROLE			2	/* 1 is object_r */

struct policy {
	size_t len;
	char data[SZ_4K];
};

static void put(struct policy *p, const void *data, size_t len)
{
	TEST_ASSERT(p->len + len <= sizeof(p->data), "The policy is too long");
	memcpy(p->data + p->len, data, len);
	p->len += len;
}

static void put32(struct policy *p, uint32_t val)
{
	put(p, &val, sizeof(val));
}

static void put_string(struct policy *p, const char *s)
{
	put(p, s, strlen(s));
}

/* A set of numbers, all below 64. */
static void put_bitmap(struct policy *p, uint64_t bits)
{
	put32(p, 64);			/* bits a unit */
	put32(p, bits ? 64 : 0);	/* bits in all */
	put32(p, !!bits);		/* units */
	if (bits) {
		put32(p, 0);		/* the unit's first bit */
		put(p, &bits, sizeof(bits));
	}
}

static void put_class(struct policy *p, int class)
{
	int i, nr = 0;

	while (nr < ARRAY_SIZE(classes[class].perms) && classes[class].perms[nr])
		nr++;

	put32(p, strlen(classes[class].name));
	put32(p, 0);			/* length of a common set's name */
	put32(p, class);
	put32(p, nr);			/* highest permission */
	put32(p, nr);			/* permissions that follow */
	put32(p, 0);			/* constraints */
	put_string(p, classes[class].name);
	for (i = 0; i < nr; i++) {
		put32(p, strlen(classes[class].perms[i]));
		put32(p, i + 1);
		put_string(p, classes[class].perms[i]);
	}
}

static void make_policy(struct policy *p)
{
	int i;

	p->len = 0;
	put32(p, POLICY_MAGIC);
	put32(p, strlen(POLICY_STRING));
	put_string(p, POLICY_STRING);
	put32(p, POLICY_VERSION);
	put32(p, POLICY_ALLOW_UNKNOWN);
	put32(p, POLICY_NR_SYMBOLS);
	put32(p, POLICY_NR_OCONTEXTS);

	/* Tables of symbols: the highest value, and how many follow. */
	put32(p, 0);			/* common sets of permissions */
	put32(p, 0);

	put32(p, NR_CLASSES);
	put32(p, NR_CLASSES);
	for (i = 1; i <= NR_CLASSES; i++)
		put_class(p, i);

	put32(p, ROLE);
	put32(p, 1);
	put32(p, strlen("gmem_r"));
	put32(p, ROLE);
	put_string(p, "gmem_r");
	put_bitmap(p, BIT(ROLE - 1));			/* roles it dominates */
	put_bitmap(p, GENMASK(NR_TYPES - 1, 0));	/* its types */

	put32(p, NR_TYPES);
	put32(p, NR_TYPES);
	for (i = 1; i <= NR_TYPES; i++) {
		put32(p, strlen(types[i]));
		put32(p, i);
		put32(p, 1);		/* a type, not an alias of one */
		put_string(p, types[i]);
	}

	put32(p, 1);
	put32(p, 1);
	put32(p, strlen("gmem_u"));
	put32(p, 1);
	put_string(p, "gmem_u");
	put_bitmap(p, BIT(ROLE - 1));

	put32(p, 0);			/* booleans */
	put32(p, 0);

	put32(p, ARRAY_SIZE(rules));
	for (i = 0; i < ARRAY_SIZE(rules); i++) {
		put32(p, 5);		/* numbers that follow */
		put32(p, rules[i].source);
		put32(p, rules[i].target);
		put32(p, rules[i].class);
		put32(p, POLICY_RULE_ALLOW);
		put32(p, rules[i].perms);
	}

	put32(p, 0);			/* conditional rules */
	put32(p, 0);			/* transitions of roles */
	put32(p, 0);			/* allowed changes of roles */

	/* Whatever has a label from the start is the host's. */
	put32(p, POLICY_LAST_SID);
	for (i = 1; i <= POLICY_LAST_SID; i++) {
		put32(p, i);
		put32(p, 1);
		put32(p, ROLE);
		put32(p, HOST);
	}
	for (i = 1; i < POLICY_NR_OCONTEXTS; i++)
		put32(p, 0);

	put32(p, 0);			/* labels of file systems */
}

/* Is there a policy already that is not this one? */
static bool have_policy(void)
{
	char label[128] = "";

	gmem_read_file("/proc/self/attr/current", label, sizeof(label));
	/* What init is called before there is one. */
	return strcmp(label, "kernel") &&
	       strncmp(label, CONTEXT, strlen(CONTEXT));
}

static void load_policy(void)
{
	static struct policy policy;
	struct statfs fs;
	int r;

	if (statfs(SELINUXFS, &fs) || fs.f_type != SELINUX_MAGIC)
		mount("selinuxfs", SELINUXFS, "selinuxfs", 0, NULL);
	__TEST_REQUIRE(!statfs(SELINUXFS, &fs) && fs.f_type == SELINUX_MAGIC,
		       "no SELinux");
	__TEST_REQUIRE(!have_policy(), "SELinux has a policy already");

	make_policy(&policy);
	r = __gmem_write_file(SELINUXFS "/load", policy.data, policy.len);
	TEST_ASSERT(!r, "The policy does not load: %s", strerror(-r));
	r = __gmem_write_file(SELINUXFS "/enforce", "1", 1);
	TEST_ASSERT(!r, "SELinux does not enforce: %s", strerror(-r));
}

static void unload_policy(void)
{
	/* There is no way back, but to a policy that nothing is denied by. */
	TEST_ASSERT(!__gmem_write_file(SELINUXFS "/enforce", "0", 1),
		    "SELinux goes on enforcing");
}

static void become(int type)
{
	char label[64];
	int r;

	snprintf(label, sizeof(label), CONTEXT "%s", types[type]);
	r = __gmem_write_file("/proc/self/attr/current", label, strlen(label));
	TEST_ASSERT(!r, "Cannot be %s: %s", label, strerror(-r));
}

/* What a process of a type is answered, a negative errno or 0. */
struct answers {
	int receive;
	int map_none, map_read, map_write;
	int to_private, to_shared, freeze, ranges;
	int punch, zero;
};

static int try_mmap(int fd, int prot)
{
	void *mem = mmap(NULL, SIZE, prot, MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED)
		return -errno;
	munmap(mem, SIZE);
	return 0;
}

static void ask(int fd, struct answers *a)
{
	struct kvm_gmem_range range;
	struct kvm_gmem_get_ranges ranges = {
		.size = SIZE,
		.nr = 1,
		.ranges = (uintptr_t)&range,
	};

	a->map_none = try_mmap(fd, PROT_NONE);
	a->map_read = try_mmap(fd, PROT_READ);
	a->map_write = try_mmap(fd, PROT_READ | PROT_WRITE);
	a->to_private = __gmem_convert(fd, true, PAGE_SIZE, PAGE_SIZE, 0, NULL);
	a->to_shared = __gmem_convert(fd, false, 0, PAGE_SIZE, 0, NULL);
	a->ranges = __gmem_get_ranges(fd, &ranges);
	a->punch = __gmem_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    2 * PAGE_SIZE, PAGE_SIZE);
	a->zero = __gmem_fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				   2 * PAGE_SIZE, PAGE_SIZE);
	/* Last, as it cannot be undone. */
	a->freeze = __gmem_freeze(fd, NULL);
}

/*
 * A child of a type: gets the file by its parent's table of files, as over
 * execve(), and by a message.
 */
static void ask_as(int type, int fd, int sock, struct answers *a)
{
	int status, got;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		become(type);
		got = __gmem_receive_fd(sock);
		a->receive = got < 0 ? got : 0;
		ask(fd, a);
		_exit(0);
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status),
		    "%s: status %#x", types[type], status);
}

static const struct {
	int type;
	struct answers want;
} expected[] = {
	/* Not confined: what the others would be answered without SELinux. */
	{ HOST, { } },
	{ NO_FD, {
		.receive = -EACCES,
		.map_none = -EACCES, .map_read = -EACCES, .map_write = -EACCES,
		.to_private = -EACCES, .to_shared = -EACCES,
		.freeze = -EACCES, .ranges = -EACCES,
		.punch = -EACCES, .zero = -EACCES,
	} },
	{ NO_ACCESS, {
		.receive = -EACCES,
		.map_none = -EACCES, .map_read = -EACCES, .map_write = -EACCES,
		.to_private = -EACCES, .to_shared = -EACCES,
		.freeze = -EACCES, .ranges = -EACCES,
		.punch = -EACCES, .zero = -EACCES,
	} },
	{ NO_MAP, {
		.map_none = -EACCES, .map_read = -EACCES, .map_write = -EACCES,
	} },
	{ NO_IOCTL, {
		.to_private = -EACCES, .to_shared = -EACCES,
		.freeze = -EACCES, .ranges = -EACCES,
	} },
};

static void check(int type, const char *what, int r, int want)
{
	TEST_ASSERT(r == want, "%s, %s: %d, not %d", types[type], what, r, want);
}

static void test_type(unsigned long vm_type, int type, const struct answers *want)
{
	struct gmem_snapshot *before;
	struct kvm_vcpu *vcpu;
	struct answers *a;
	struct kvm_vm *vm;
	int fd, socks[2];
	void *mem;

	a = mmap(NULL, sizeof(*a), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(a != MAP_FAILED, "mmap: %s", strerror(errno));
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, socks), "socketpair: %s",
		    strerror(errno));

	/* Page 0 is private, the others shared. */
	vm = gmem_vm_create(vm_type, 1, &vcpu, NR_PAGES);
	fd = gmem_create(vm, SIZE, GMEM_FLAGS_SHARED);
	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, SIZE, NULL, fd, 0);
	mem = gmem_mmap(fd, SIZE);
	gmem_fill(mem, 0, SIZE, SEED);
	gmem_make_private(fd, 0, PAGE_SIZE);
	before = gmem_snapshot(fd);

	gmem_send_fd(socks[0], fd);
	ask_as(type, fd, socks[1], a);

	check(type, "receive", a->receive, want->receive);
	check(type, "map_none", a->map_none, want->map_none);
	check(type, "map_read", a->map_read, want->map_read);
	check(type, "map_write", a->map_write, want->map_write);
	check(type, "to_private", a->to_private, want->to_private);
	check(type, "to_shared", a->to_shared, want->to_shared);
	check(type, "ranges", a->ranges, want->ranges);
	check(type, "punch", a->punch, want->punch);
	check(type, "zero", a->zero, want->zero);
	check(type, "freeze", a->freeze, want->freeze);

	/* What was refused has not happened. */
	if (want->to_private && want->punch) {
		gmem_assert_unchanged(fd, before, "a confined process");
		gmem_check(mem, PAGE_SIZE, SIZE - PAGE_SIZE, SEED);
		TEST_ASSERT_EQ(gmem_guest_call(vcpu, gmem_guest_check, GMEM_GVA,
					       SIZE, SEED), 0);
	}
	TEST_ASSERT_EQ(gmem_is_private(fd, 0), !!want->to_shared);
	TEST_ASSERT_EQ(gmem_is_private(fd, PAGE_SIZE), !want->to_private);

	gmem_snapshot_free(before);
	munmap(mem, SIZE);
	munmap(a, sizeof(*a));
	close(socks[0]);
	close(socks[1]);
	close(fd);
	kvm_vm_free(vm);
	printf("%s: as the policy says, VM type %lu\n", types[type], vm_type);
}

int main(int argc, char *argv[])
{
	static const unsigned long vm_types[] = {
		KVM_X86_DEFAULT_VM, KVM_X86_SW_PROTECTED_VM,
	};
	int i, j;

	GMEM_REQUIRE();
	load_policy();

	for (i = 0; i < ARRAY_SIZE(vm_types); i++) {
		if (!gmem_type_supported(vm_types[i]))
			continue;
		for (j = 0; j < ARRAY_SIZE(expected); j++)
			test_type(vm_types[i], expected[j].type,
				  &expected[j].want);
	}

	unload_policy();
	return 0;
}
