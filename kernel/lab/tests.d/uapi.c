// SPDX-License-Identifier: GPL-2.0-only
/*
 * The whole interface once, from the installed uapi headers alone: make memory,
 * map it, say on which nodes it shall be, give it to a guest, run the guest, convert
 * both ways, ask for ranges. It says what it sees and stops at the first surprise.
 *
 *	gcc -O2 -Wall -isystem build/uapi/include -o build/uapi/uapi kernel/lab/tests.d/uapi.c
 *	./lab run build/uapi/uapi [default|protected]
 *
 * "./lab test uapi" does all of that, the headers in build/uapi included.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/kvm_gmem.h>
#include <linux/mempolicy.h>

#define PAGE		4096ul
#define SIZE		(1024 * 1024ul)
#define HALF		(SIZE / 2)
#define RUNS		16			/* more than there will be */

/* The first half is to be on node 0, the second on node 1. */
#define CODE		0x1000ul
#define IN		0x10000ul		/* what the guest reads */
#define OUT		(HALF + 0x10000ul)	/* what it writes, one more */
#define UNTOUCHED	(HALF + 0x20000ul)	/* what only the guest has written */

static int kvm, vm, vcpu, memory;
static struct kvm_run *run;
static volatile uint8_t *map;
static sigjmp_buf out_of_here;

#define surprise(fmt, ...) \
do { \
	printf("SURPRISE at line %d: " fmt "\n", __LINE__, ##__VA_ARGS__); \
	exit(1); \
} while (0)

#define step(fmt, ...)		printf("\n" fmt "\n", ##__VA_ARGS__)
#define evidence(fmt, ...)	printf("    " fmt "\n", ##__VA_ARGS__)

/* Compare two numbers that should be the same, and say what they are. */
#define expect(what, got, want) \
do { \
	unsigned long long got_ = (got), want_ = (want); \
	if (got_ != want_) \
		surprise("%s is %#llx, not %#llx", what, got_, want_); \
	evidence("%s is %#llx", what, got_); \
} while (0)

#define must(what, call) \
({ \
	long ret_ = (call); \
	if (ret_ < 0) \
		surprise("%s: %s", what, strerror(errno)); \
	ret_; \
})

static void on_sigbus(int sig)
{
	siglongjmp(out_of_here, 1);
}

/* Does reading this byte through the mapping end in SIGBUS? */
static bool bus_error(unsigned long offset)
{
	if (sigsetjmp(out_of_here, 1))
		return true;
	(void)map[offset];
	return false;
}

static uint32_t host_read(unsigned long offset)
{
	return *(volatile uint32_t *)(map + offset);
}

static void host_write(unsigned long offset, uint32_t value)
{
	*(volatile uint32_t *)(map + offset) = value;
}

static int node_of(unsigned long offset)
{
	int node = -1;

	must("get_mempolicy", syscall(SYS_get_mempolicy, &node, NULL, 0, map + offset,
				      MPOL_F_NODE | MPOL_F_ADDR));
	return node;
}

static void bind_to_node(unsigned long offset, unsigned long size, int node)
{
	unsigned long mask = 1ul << node;

	must("mbind", syscall(SYS_mbind, map + offset, size, MPOL_BIND, &mask,
			      8 * sizeof(mask), 0));
	evidence("[%#lx, %#lx): MPOL_BIND to node %d", offset, offset + size, node);
}

/* mov eax, [from]; inc eax; mov [to], eax; hlt. It reaches all through its DS base. */
static void guest_copies(unsigned long from, unsigned long to)
{
	const uint8_t code[] = {
		0x67, 0x66, 0xa1, from, from >> 8, from >> 16, from >> 24,
		0x66, 0x40,
		0x67, 0x66, 0xa3, to, to >> 8, to >> 16, to >> 24,
		0xf4
	};

	memcpy((void *)(map + CODE), code, sizeof(code));
}

static void run_guest(void)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };

	must("KVM_GET_SREGS", ioctl(vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	sregs.ds.limit = 0xffffffff;
	sregs.ds.g = 1;
	must("KVM_SET_SREGS", ioctl(vcpu, KVM_SET_SREGS, &sregs));
	must("KVM_SET_REGS", ioctl(vcpu, KVM_SET_REGS, &regs));
	must("KVM_RUN", ioctl(vcpu, KVM_RUN, 0));
	if (run->exit_reason != KVM_EXIT_HLT)
		surprise("the guest left with exit %u", run->exit_reason);
	must("KVM_GET_REGS", ioctl(vcpu, KVM_GET_REGS, &regs));
	evidence("the guest ran to its HLT with eax = %#x", (uint32_t)regs.rax);
}

static void convert(const char *what, unsigned long request, unsigned long offset,
		    unsigned long size, unsigned long flags)
{
	struct kvm_gmem_convert c = { .offset = offset, .size = size, .flags = flags };

	if (ioctl(memory, request, &c))
		surprise("%s: %s at %#llx", what, strerror(errno), c.error_offset);
	evidence("[%#lx, %#lx) %s", offset, offset + size, what);
}

#define to_private(offset, size) \
	convert("is private", KVM_GMEM_CONVERT_PRIVATE, offset, size, 0)
#define to_shared(offset, size, flags) \
	convert("is shared", KVM_GMEM_CONVERT_SHARED, offset, size, flags)

/* Prints the runs; how many they are. */
static unsigned int ranges(struct kvm_gmem_range *r, unsigned int max, uint32_t flags)
{
	struct kvm_gmem_get_ranges g = {
		.size = SIZE,
		.ranges = (uintptr_t)r,
		.nr = max,
		.flags = flags,
	};

	must("KVM_GMEM_GET_RANGES", ioctl(memory, KVM_GMEM_GET_RANGES, &g));
	if (g.size)
		surprise("there are more than %u runs", max);
	for (unsigned int i = 0; i < g.nr; i++)
		evidence("[%#9llx, %#9llx) %s, %4llu KiB populated, node %d",
			 r[i].offset, r[i].offset + r[i].size,
			 r[i].flags & KVM_GMEM_RANGE_PRIVATE ? "private" : "shared ",
			 r[i].populated >> 10, r[i].node);
	return g.nr;
}

static void create(unsigned long type)
{
	struct kvm_create_guest_memfd gm = {
		.size = SIZE,
		.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
	};
	int caps;

	step("1. A VM of type %lu, and what it can do", type);
	kvm = must("/dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm = must("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, type));
	expect("KVM_CAP_GUEST_MEMFD", ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD), 1);
	expect("KVM_CAP_GUEST_MEMFD_FLAGS",
	       ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD_FLAGS),
	       GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
	caps = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_GMEM);
	expect("KVM_CAP_GMEM", caps,
	       KVM_GMEM_CAP_CONVERT | KVM_GMEM_CAP_RANGES | KVM_GMEM_CAP_ZERO_RANGE |
	       KVM_GMEM_CAP_SEEK | KVM_GMEM_CAP_MEMPOLICY | KVM_GMEM_CAP_LINK |
	       KVM_GMEM_CAP_CLONE | KVM_GMEM_CAP_SHARE);

	step("2. Memory: %lu KiB, and a mapping of it", SIZE >> 10);
	memory = must("KVM_CREATE_GUEST_MEMFD", ioctl(vm, KVM_CREATE_GUEST_MEMFD, &gm));
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (map == MAP_FAILED)
		surprise("mmap: %s", strerror(errno));
	evidence("descriptor %d, mapped at %p", memory, map);
	expect("the offset of the first page that is populated (-1: none)",
	       lseek(memory, 0, SEEK_DATA), -1ull);
}

static void place(void)
{
	step("3. Where it shall be: a policy of the memory, through the mapping");
	bind_to_node(0, HALF, 0);
	bind_to_node(HALF, HALF, 1);
	host_write(IN, 0x1000);
	host_write(OUT, 0);
	expect("the node of a page in the first half", node_of(IN), 0);
	expect("the node of a page in the second half", node_of(OUT), 1);
}

static void give_to_guest(void)
{
	struct kvm_userspace_memory_region2 slot = {
		.flags = KVM_MEM_GUEST_MEMFD,
		.memory_size = SIZE,
		.guest_memfd = memory,
	};
	int size;

	step("4. A slot at guest address 0, on the memory alone, and a vCPU");
	must("KVM_SET_USER_MEMORY_REGION2", ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &slot));
	vcpu = must("KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
	size = must("KVM_GET_VCPU_MMAP_SIZE", ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		surprise("mmap of the vCPU: %s", strerror(errno));
	evidence("slot 0: [0, %#lx), userspace_addr 0", SIZE);
}

static void shared_run(void)
{
	step("5. The guest and the host see the same pages while they are shared");
	guest_copies(IN, OUT);
	run_guest();
	expect("what the host reads", host_read(OUT), 0x1001);
}

static void private_run(void)
{
	struct kvm_gmem_range r[RUNS];
	struct iovec iov = { (void *)(map + OUT), 1 };
	int zero[2];

	step("6. All of it private: contents stay, the host is out");
	guest_copies(OUT, UNTOUCHED);
	to_private(0, SIZE);
	if (!bus_error(OUT) || !bus_error(CODE) || !bus_error(SIZE - 1))
		surprise("the host can read it through its mapping");
	evidence("reading it is SIGBUS: where there was a page, and where there was none");
	must("pipe", pipe(zero));
	if (writev(zero[1], &iov, 1) != -1 || errno != EFAULT)
		surprise("writev from it did not answer EFAULT");
	evidence("the kernel does not read it for us either: EFAULT");
	if (pread(memory, zero, 1, OUT) != -1)
		surprise("the descriptor can be read from");
	evidence("and the descriptor: %s", strerror(errno));
	expect("how many runs there are", ranges(r, RUNS, 0), 1);
	expect("the only one's flags", r[0].flags, KVM_GMEM_RANGE_PRIVATE);

	step("7. The guest runs in it, and populates another page");
	run_guest();

	step("8. Where that page came, though it was private when it was allocated");
	ranges(r, RUNS, KVM_GMEM_RANGES_BY_NODE);
	for (int i = 0; i < RUNS; i++) {
		if (r[i].offset <= UNTOUCHED && UNTOUCHED < r[i].offset + r[i].size) {
			expect("its node", r[i].node, 1);
			break;
		}
	}
}

static void back(void)
{
	struct kvm_gmem_range r[RUNS];

	step("9. A window of it shared again: what the guest wrote is there");
	to_shared(UNTOUCHED, PAGE, 0);
	expect("what the host reads", host_read(UNTOUCHED), 0x1002);
	expect("its node", node_of(UNTOUCHED), 1);
	if (!bus_error(UNTOUCHED - PAGE) || !bus_error(UNTOUCHED + PAGE))
		surprise("its neighbours can be read");
	evidence("its neighbours: SIGBUS");
	expect("how many runs there are", ranges(r, RUNS, 0), 3);
	expect("the flags of the one in the middle", r[1].flags, 0);

	step("10. The host writes there, it turns private, the guest reads it, all is shared");
	host_write(UNTOUCHED, 0x2000);
	to_private(UNTOUCHED, PAGE);
	to_shared(CODE, PAGE, 0);
	guest_copies(UNTOUCHED, OUT);
	to_private(CODE, PAGE);
	expect("how many runs there are", ranges(r, RUNS, 0), 1);
	run_guest();
	to_shared(0, SIZE, 0);
	expect("what the host reads", host_read(OUT), 0x2001);
	expect("what was never touched since the beginning", host_read(IN), 0x1000);
}

static void zero_and_busy(void)
{
	struct kvm_gmem_convert c = { .size = SIZE };
	struct iovec iov = { (void *)(map + OUT), PAGE };
	struct kvm_gmem_range r[RUNS];
	static char copy[PAGE];
	int pinned[2];

	step("11. To shared without the contents");
	to_private(OUT, PAGE);
	to_shared(OUT, PAGE, KVM_GMEM_CONVERT_ZERO);
	expect("what the host reads", host_read(OUT), 0);

	step("12. A page that somebody holds does not turn private, nor does any other");
	must("pipe", pipe(pinned));
	expect("bytes spliced into a pipe",
	       must("vmsplice", vmsplice(pinned[1], &iov, 1, 0)), PAGE);
	if (ioctl(memory, KVM_GMEM_CONVERT_PRIVATE, &c) != -1 || errno != EAGAIN)
		surprise("the conversion did not answer EAGAIN");
	expect("EAGAIN, and the offset in the way", c.error_offset, OUT);
	ranges(r, RUNS, 0);
	expect("the state of the first page", r[0].flags, 0);
	expect("bytes read from the pipe", must("read", read(pinned[0], copy, PAGE)), PAGE);
	to_private(0, SIZE);
}

int main(int argc, char **argv)
{
	struct sigaction bus = { .sa_handler = on_sigbus };
	bool protected = argc > 1 && !strcmp(argv[1], "protected");

	if (argc > 2 || (argc == 2 && !protected && strcmp(argv[1], "default"))) {
		fprintf(stderr, "usage: %s [default|protected]\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGBUS, &bus, NULL);

	create(protected ? KVM_X86_SW_PROTECTED_VM : KVM_X86_DEFAULT_VM);
	place();
	give_to_guest();
	shared_run();
	private_run();
	back();
	zero_and_busy();
	step("No surprise.");
	return 0;
}
