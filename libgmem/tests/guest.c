/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest runs in the memory: host and guest have to see the same pages, or, where they
 * should not, must not. The guest is a few instructions of real mode.
 */
#include "world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <fcntl.h>
#include <unistd.h>

#if defined(__x86_64__)

#define SIZE (256 * PAGE)
#define CODE 0x1000ul
#define IN 0x10000ul
#define OUT 0x20000ul

static struct gmem *memory;
static volatile uint8_t *map;
static struct kvm_run *run;
static struct gmem_exit ex;
static int vcpu;
static unsigned int converted;

static uint32_t *word(uint64_t offset)
{
	return (uint32_t *)(map + offset);
}

/*
 * mov eax, [from]; inc eax; mov [to], eax; hlt: through DS, whose limit is lifted.
 * In dual mode the code is on the shared side.
 */
static void guest_copies(uint32_t from, uint32_t to)
{
	const uint8_t code[] = {0x67,
				0x66,
				0xa1,
				(uint8_t)from,
				(uint8_t)(from >> 8),
				(uint8_t)(from >> 16),
				(uint8_t)(from >> 24),
				0x66,
				0x40,
				0x67,
				0x66,
				0xa3,
				(uint8_t)to,
				(uint8_t)(to >> 8),
				(uint8_t)(to >> 16),
				(uint8_t)(to >> 24),
				0xf4};

	memcpy((void *)(map + CODE), code, sizeof(code));
}

static void begin(void)
{
	struct kvm_sregs sregs;
	void *address;
	int kvm, size;

	world_begin();
	converted = 0;
	memory = memory_of(SIZE, GMEM_STATE_SHARED);
	ok(gmem_map(memory, 0, SIZE, 0, &address, &err));
	map = address;
	ok(gmem_bind(memory, 0, 0, 0, SIZE / 2, &err));
	ok(gmem_bind(memory, 1, SIZE / 2, SIZE / 2, SIZE / 2, &err));
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vcpu = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	ck_assert_int_ge(vcpu, 0);
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	close(kvm);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	ck_assert_ptr_ne(run, MAP_FAILED);
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	sregs.ds.limit = 0xffffffff;
	sregs.ds.g = 1;
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_SREGS, &sregs), 0);
	ex = (struct gmem_exit)GMEM_EXIT_INIT;
}

static void end(void)
{
	close(vcpu);
	ok(gmem_unmap((void *)map, SIZE));
	gmem_unref(memory);
	world_end();
}

/* To its HLT, with whatever conversions it asks for on the way. */
static void run_guest(void)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};

	ck_assert_int_eq(ioctl(vcpu, KVM_SET_REGS, &regs), 0);
	for (;;) {
		int r = ioctl(vcpu, KVM_RUN, 0) < 0 ? -errno : 0;

		if (r == -EINTR)
			continue;
		if (run->exit_reason == KVM_EXIT_HLT && !r)
			return;
		r = gmem_exit_handle(vm, run, r, &ex, NULL, &err);
		ck_assert_msg(r == 0, "exit %u: %d: %s", run->exit_reason, r, err.message);
		converted++;
	}
}

static sigjmp_buf out;

static void on_sigbus(int signal)
{
	(void)signal;
	siglongjmp(out, 1);
}

static bool bus_error(uint64_t offset)
{
	struct sigaction new = {.sa_handler = on_sigbus}, old;
	volatile bool hit = true;

	sigaction(SIGBUS, &new, &old);
	if (!sigsetjmp(out, 1)) {
		(void)*(volatile uint32_t *)word(offset);
		hit = false;
	}
	sigaction(SIGBUS, &old, NULL);
	return hit;
}

START_TEST(shared_is_the_same)
{
	*word(IN) = 0x1000;
	*word(OUT) = 0;
	guest_copies(IN, OUT);
	run_guest();
	ck_assert_uint_eq(*word(OUT), 0x1001);
	/* And in the second slot. */
	guest_copies(OUT, SIZE / 2 + OUT);
	run_guest();
	ck_assert_uint_eq(*word(SIZE / 2 + OUT), 0x1002);
	ck_assert_uint_eq(converted, 0);
}
END_TEST

/* In place: the guest goes on in private memory, the host is out, contents stay. */
START_TEST(private_in_place)
{
	if (!in_place())
		return;
	*word(IN) = 0x2000;
	guest_copies(IN, OUT);
	ok(gmem_convert(vm, 0, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	ck_assert(bus_error(IN));
	ck_assert(bus_error(CODE));
	run_guest();
	ck_assert(bus_error(OUT));
	ok(gmem_convert(vm, OUT, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
	ck_assert_uint_eq(*word(OUT), 0x2001);
	ck_assert(bus_error(IN));
	*word(OUT) = 0x3000;
	ok(gmem_convert(vm, CODE, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
	guest_copies(OUT, IN);
	ok(gmem_convert(vm, 0, SIZE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	run_guest();
	ok(gmem_convert(vm, 0, SIZE, GMEM_STATE_SHARED, NULL, NULL, &err));
	ck_assert_uint_eq(*word(IN), 0x3001);
	ck_assert_uint_eq(converted, 0);
}
END_TEST

/* A page that is pinned stays shared, with its address, and all others with it. */
START_TEST(pinned_in_place)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct iovec iov = {(void *)(map + SIZE / 2 + OUT), PAGE};
	char copy[4096];
	int pipes[2];

	if (!in_place())
		return;
	*word(SIZE / 2 + OUT) = 1;
	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	ck_assert_int_eq(vmsplice(pipes[1], &iov, 1, 0), PAGE);
	fails(EAGAIN, gmem_convert(vm, 0, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	ck_assert_uint_eq(result.busy_gpa, SIZE / 2 + OUT);
	ck_assert_uint_eq(err.gpa, SIZE / 2 + OUT);
	/* The first slot is as it was. */
	ck_assert_uint_eq(state_at(0), GMEM_STATE_SHARED);
	ck_assert_uint_eq(state_at(SIZE / 2), GMEM_STATE_SHARED);
	ck_assert_int_eq(read(pipes[0], copy, PAGE), PAGE);
	ok(gmem_convert(vm, 0, SIZE, GMEM_STATE_PRIVATE, NULL, &result, &err));
	close(pipes[0]);
	close(pipes[1]);
}
END_TEST

/* Dual: private pages are others, and what the guest wrote there is not the host's. */
START_TEST(private_dual)
{
	struct gmem_stats stats = GMEM_STATS_INIT;

	if (world->mode != GMEM_MODE_DUAL)
		return;
	*word(IN) = 0x4000;
	guest_copies(IN, OUT);
	ok(gmem_convert(vm, OUT, PAGE, GMEM_STATE_PRIVATE, NULL, NULL, &err));
	run_guest();
	ck_assert_uint_eq(*word(OUT), 0);
	/* It is there for the guest. */
	guest_copies(OUT, IN);
	run_guest();
	ck_assert_uint_eq(*word(IN), 0x4002);
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.private_bytes, PAGE);
	ck_assert_uint_eq(stats.resident_guest, PAGE);
	/* Back, and it is gone from there. */
	ok(gmem_convert(vm, OUT, PAGE, GMEM_STATE_SHARED, NULL, NULL, &err));
	ok(gmem_stats(memory, &stats, &err));
	ck_assert_uint_eq(stats.resident_guest, 0);
	guest_copies(OUT, IN);
	run_guest();
	ck_assert_uint_eq(*word(IN), 1);
}
END_TEST

/* A window of private memory is shared while the guest is using it, and back. */
START_TEST(windows)
{
	if (!has_private())
		return;
	for (uint32_t i = 0; i < 20; i++) {
		*word(IN) = i * 16;
		ok(gmem_convert(vm, SIZE / 2 - 8 * PAGE, 16 * PAGE,
				i & 1 ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE, NULL, NULL, &err));
		guest_copies(IN, OUT);
		run_guest();
		ck_assert_uint_eq(*word(OUT), i * 16 + 1);
	}
}
END_TEST

/* The guest reaches for what is not there. */
START_TEST(unbacked)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};

	ok(gmem_unbind(vm, 1, &err));
	guest_copies(SIZE - PAGE, OUT);
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_REGS, &regs), 0);
	ck_assert_int_eq(ioctl(vcpu, KVM_RUN, 0), 0);
	/* That is a device as far as KVM knows. */
	ck_assert_uint_eq(run->exit_reason, KVM_EXIT_MMIO);
	ck_assert_int_eq(gmem_exit_handle(vm, run, 0, &ex, NULL, &err), 1);
}
END_TEST

static void on_alarm(int signal)
{
	(void)signal;
}

/* The guest asks by hypercall, and gets its answer. */
START_TEST(guest_asks)
{
	struct gmem_vm_options options = GMEM_VM_OPTIONS_INIT;
	/* mov eax, 12; mov ebx, IN; mov ecx, 1; mov edx, 16; vmmcall or vmcall; hlt */
	uint8_t code[] = {0xb8, 12, 0, 0,    0,	 0xbb, 0, 0, 1,	   0,	 0xb9, 1,
			  0,	0,  0, 0xba, 16, 0,    0, 0, 0x0f, 0x01, 0xd9, 0xf4};
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	struct sigaction alarm_action = {.sa_handler = on_alarm};
	struct kvm_sregs sregs;
	struct gmem_vm *same;
	uint64_t have;
	int r;

	/* Each vendor has its own. */
	__builtin_cpu_init();
	if (__builtin_cpu_is("intel"))
		code[sizeof(code) - 2] = 0xc1;
	ok(gmem_vm_caps(vm, &have));
	if (!(have & GMEM_CAP_MAP_GPA_RANGE)) {
		options.flags = GMEM_VM_MAP_GPA_RANGE;
		fails(EOPNOTSUPP, gmem_vm_new(vm_fd, &options, &same, &err));
		return;
	}
	options.flags = GMEM_VM_MAP_GPA_RANGE;
	ok(gmem_vm_new(vm_fd, &options, &same, &err));
	gmem_vm_free(same);
	/* In protected mode: where KVM emulates real mode, it does not get over a VMCALL. */
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cr0 |= 1;
	sregs.ds = (struct kvm_segment){.limit = 0xffffffff,
					.selector = 16,
					.type = 3,
					.present = 1,
					.db = 1,
					.s = 1,
					.g = 1};
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.cs = sregs.ds;
	sregs.cs.selector = 8;
	sregs.cs.type = 11;
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_SREGS, &sregs), 0);
	memcpy((void *)(map + CODE), code, sizeof(code));
	ck_assert_int_eq(ioctl(vcpu, KVM_SET_REGS, &regs), 0);
	sigaction(SIGALRM, &alarm_action, NULL);
	alarm(20);
	for (;;) {
		r = ioctl(vcpu, KVM_RUN, 0) < 0 ? -errno : 0;
		if (run->exit_reason == KVM_EXIT_HLT && !r)
			break;
		if (r == -EINTR) {
			/* Seen in a virtual machine on Intel, whatever the library does. */
			printf("# %s: skipped: KVM does not come back from a guest's VMCALL here\n",
			       world->name);
			return;
		}
		ck_assert_msg(run->exit_reason == KVM_EXIT_HYPERCALL, "exit %u", run->exit_reason);
		ck_assert_int_eq(gmem_exit_handle(vm, run, r, &ex, NULL, &err), 0);
		converted++;
	}
	ck_assert_int_eq(ioctl(vcpu, KVM_GET_REGS, &regs), 0);
	if (converted) {
		ck_assert_int_eq((int32_t)regs.rax, has_private() ? 0 : -EOPNOTSUPP);
		ck_assert_uint_eq(state_at(IN),
				  has_private() ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED);
	} else {
		printf("# %s: KVM answers the hypercall itself: %d\n", world->name, (int)regs.rax);
	}
}
END_TEST

Suite *suite_guest(void)
{
	Suite *suite = suite_create("guest");
	TCase *tcase = tcase_create(world->name);

	tcase_add_checked_fixture(tcase, begin, end);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, shared_is_the_same);
	tcase_add_test(tcase, private_in_place);
	tcase_add_test(tcase, pinned_in_place);
	tcase_add_test(tcase, private_dual);
	tcase_add_test(tcase, windows);
	tcase_add_test(tcase, unbacked);
	tcase_add_test(tcase, guest_asks);
	suite_add_tcase(suite, tcase);
	return suite;
}

#else

/* Guests of other architectures are still to be written. */
Suite *suite_guest(void)
{
	return suite_create("guest");
}

#endif
