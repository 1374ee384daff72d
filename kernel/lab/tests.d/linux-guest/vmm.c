// SPDX-License-Identifier: GPL-2.0-only
/*
 * Boots Linux, with ACPI, an IOAPIC and up to eight processors, in memory that is
 * private from the first instruction, and watches that it stays so. Raw ioctls and
 * the installed uapi headers, nothing else.
 *
 *	./lab test uapi		builds it and runs it in all the ways there are
 *	./lab run build/uapi/vmm build/kernel-lab/vmlinux build/uapi/init
 *
 * Options, before the two files:
 *	--protected	a software-protected VM instead of an ordinary one
 *	--cpus N	2
 *	--append ARGS	more for the guest's command line; loglevel=7 shows all it has to say
 *	--limit S	60: the seconds that it may take
 *	--break	WHAT	make it fail, to see that it can: 'shared' leaves one page
 *			shared, 'window' shares one while the guest runs, 'address' uses
 *			a host address that KVM should leave alone
 *
 * VMLINUX may be any kernel that has CONFIG_PVH, Debian's as well, once its source's
 * scripts/extract-vmlinux took it out of the vmlinuz.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/kvm_gmem.h>
#include <asm/kvm_para.h>

#include "vmm.h"

#define MAX_CPUS	8

#define COM1		0x3f8
#define COM_IER		1
#define COM_IIR		2
#define COM_LCR		3
#define COM_LSR		5
#define COM_MSR		6
#define LCR_DLAB	0x80
#define SLEEP_ENABLE	(1 << 13)

/* Pages of KVM's own, below the BIOS's end: only Intel needs them. */
#define IDENTITY_MAP	0xfeffc000ul
#define TSS_ADDR	0xfeffd000ul

/* The clock that KVM writes for each processor: no uapi header has it. */
struct pvclock {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad2[2];
};

static int kvm, vm;
static unsigned int cpus = 2, time_limit = 60;
static const char *defect = "";

static struct vcpu {
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	unsigned long exits;
} vcpus[MAX_CPUS];

static struct {
	char text[1 << 18];
	size_t len, line;
	uint8_t regs[8];
} console;

/* ACPI's PM1 enable register: nothing ever happens, but it reads as it was written. */
static uint16_t pm1_enable;

/* Where the guest told KVM to put its clock, its steal time and so on. */
static uint64_t clock_msr, steal_msr, eoi_msr, async_pf_msr;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool off;

/* --- watching the memory */

/* While the guest runs: pages here and there, and what the kernel says. */
static void *watch(void *looks)
{
	uint64_t x = 88172645463325252ull;

	for (;; usleep(10000)) {
		bool done;

		pthread_mutex_lock(&lock);
		done = off;
		pthread_mutex_unlock(&lock);
		if (done)
			return NULL;
		expect_private("while it runs");
		for (int i = 0; i < 16; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			if (readable(x % RAM_SIZE))
				fail("while it runs: the host can read %#llx", (unsigned long long)(x % RAM_SIZE));
			++*(unsigned long *)looks;
		}
	}
}

/* --- devices */

static void console_write(struct vcpu *v, char c)
{
	if (c == '\r' || console.len >= sizeof(console.text) - 1)
		return;
	if (!console.len || console.text[console.len - 1] == '\n') {
		console.line = console.len;
		printf("  | ");
	}
	putchar(c);
	console.text[console.len++] = c;
	/* Turning the machine off gives the clock back, so ask before. */
	if (c == '\n' && !clock_msr && strstr(console.text + console.line, "guest: processors")) {
		clock_msr = cpu_get_msr(v->fd, MSR_KVM_SYSTEM_TIME_NEW);
		steal_msr = cpu_get_msr(v->fd, MSR_KVM_STEAL_TIME);
		eoi_msr = cpu_get_msr(v->fd, MSR_KVM_PV_EOI_EN);
		async_pf_msr = cpu_get_msr(v->fd, MSR_KVM_ASYNC_PF_EN);
	}
}

static uint32_t port_read(uint16_t port)
{
	bool divisor = console.regs[COM_LCR] & LCR_DLAB;

	switch (port) {
	case COM1 + COM_IIR:
		return 0x01; /* no interrupt, no FIFO: a 16450 */
	case COM1 + COM_LSR:
		return 0x60; /* all sent */
	case COM1 + COM_MSR:
		return 0xb0;
	case COM1:
		return 0;
	case COM1 + COM_IER:
		return divisor ? 0 : console.regs[COM_IER] & 0x0f;
	case COM1 + 3: case COM1 + 4: case COM1 + 7:
		return console.regs[port - COM1];
	case 0x71:
		return 0; /* CMOS: no update in progress */
	case PM1_EVENT:
		return 0;
	case PM1_EVENT + 2:
		return pm1_enable;
	case PM1_CONTROL:
		return 1; /* SCI_EN: ACPI mode */
	case PM_TIMER:
		return seconds() * 3579545;
	}
	return ~0;
}

static void port_write(struct vcpu *v, uint16_t port, uint32_t value)
{
	switch (port) {
	case COM1:
		if (!(console.regs[COM_LCR] & LCR_DLAB))
			console_write(v, value);
		break;
	case COM1 + COM_IER:
		if (console.regs[COM_LCR] & LCR_DLAB)
			break;
		/* fall through */
	case COM1 + 2 ... COM1 + 7:
		console.regs[port - COM1] = value;
		break;
	case PM1_EVENT + 2:
		pm1_enable = value;
		break;
	case PM1_CONTROL:
		if (value & SLEEP_ENABLE && (value >> 10 & 7) == SLEEP_TYPE_OFF)
			off = true;
		break;
	}
}

static void do_io(struct vcpu *v)
{
	uint8_t *p = (uint8_t *)v->run + v->run->io.data_offset;
	int size = v->run->io.size;

	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < v->run->io.count; i++, p += size) {
		uint32_t value = 0;

		if (v->run->io.direction == KVM_EXIT_IO_IN) {
			value = port_read(v->run->io.port);
			memcpy(p, &value, size);
		} else {
			memcpy(&value, p, size);
			port_write(v, v->run->io.port, value);
		}
	}
	if (off)
		pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* --- the machine */

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct kvm_run *run = v->run;

	for (;; v->exits++) {
		bool done;

		pthread_mutex_lock(&lock);
		done = off;
		pthread_mutex_unlock(&lock);
		if (done)
			return NULL;
		if (ioctl(v->fd, KVM_RUN, 0)) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			fail("vCPU %zd: KVM_RUN: %s, exit %u%s, gpa %#llx size %#llx flags %#llx", v - vcpus,
			     strerror(errno), run->exit_reason,
			     run->exit_reason == KVM_EXIT_MEMORY_FAULT ? ", memory fault" : "",
			     run->memory_fault.gpa, run->memory_fault.size, run->memory_fault.flags);
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			do_io(v);
			break;
		case KVM_EXIT_MMIO: /* nothing there */
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
			break;
		case KVM_EXIT_INTR:
			break;
		default:
			fail("vCPU %zd: exit %u", v - vcpus, run->exit_reason);
		}
	}
}

static void make_machine(bool protected)
{
	struct kvm_userspace_memory_region2 slot = { .flags = KVM_MEM_GUEST_MEMFD, .memory_size = RAM_SIZE };
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity_map = IDENTITY_MAP;
	int size;

	kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm = must(ioctl(kvm, KVM_CREATE_VM, protected ? KVM_X86_SW_PROTECTED_VM : KVM_X86_DEFAULT_VM));
	if (!(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_GMEM) & KVM_GMEM_CAP_CONVERT)) {
		printf("SKIP: this kernel cannot convert in place (KVM_CAP_GMEM)\n");
		exit(4);
	}
	memory_create(vm);
	slot.guest_memfd = memory;
	must(ioctl(vm, KVM_SET_TSS_ADDR, TSS_ADDR));
	must(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map));
	must(ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	must(ioctl(vm, KVM_CREATE_PIT2, &pit));
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &slot));

	size = must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	for (unsigned int i = 0; i < cpus; i++) {
		struct vcpu *v = &vcpus[i];

		v->fd = must(ioctl(vm, KVM_CREATE_VCPU, i));
		v->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
		if (v->run == MAP_FAILED)
			fail("mmap of a vCPU: %s", strerror(errno));
		cpu_set_cpuid(kvm, v->fd, i);
	}
}

/* Let it run until it turns itself off. */
static unsigned long run_machine(void)
{
	struct timespec limit;
	unsigned long looks = 0;
	pthread_t watcher;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += time_limit;
	for (unsigned int i = 0; i < cpus; i++)
		pthread_create(&vcpus[i].thread, NULL, run_vcpu, &vcpus[i]);
	pthread_create(&watcher, NULL, watch, &looks);
	if (!strcmp(defect, "window")) {
		sleep(1);
		convert(KVM_GMEM_CONVERT_SHARED, 128 << 20, PAGE);
	}

	pthread_mutex_lock(&lock);
	while (!off)
		if (pthread_cond_timedwait(&changed, &lock, &limit))
			fail("the guest did not turn itself off within %u s", time_limit);
	pthread_mutex_unlock(&lock);
	for (unsigned int i = 0; i < cpus; i++) {
		vcpus[i].run->immediate_exit = 1;
		pthread_kill(vcpus[i].thread, SIGUSR1);
		pthread_join(vcpus[i].thread, NULL);
	}
	pthread_join(watcher, NULL);
	return looks;
}

/* --- what it should have come to */

static void expect_said(const char *fmt, ...)
{
	char want[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(want, sizeof(want), fmt, ap);
	va_end(ap);
	if (!strstr(console.text, want))
		fail("the guest did not say '%.*s'", (int)strcspn(want, "\n"), want);
	say("the guest said '%.*s'", (int)strcspn(want, "\n"), want);
}

/*
 * The host may look now: did KVM put the boot processor's clock and steal time into
 * these pages, which were private when it did? Both have a version, which is even
 * when nobody is writing.
 */
static void expect_kvm_wrote(void)
{
	uint64_t clock = clock_msr & ~1ul, steal = steal_msr & ~63ul;
	const volatile struct pvclock *c;
	const volatile struct kvm_steal_time *s;

	if (!(clock_msr & 1) || !(steal_msr & 1) || clock >= RAM_SIZE || steal >= RAM_SIZE)
		fail("the guest did not turn on kvmclock and steal time: MSRs %#lx, %#lx", clock_msr, steal_msr);
	say("MSRs: kvmclock %#lx, steal time %#lx, EOI %#lx, asynchronous faults %#lx", clock_msr,
	    steal_msr, eoi_msr, async_pf_msr);
	if (!(eoi_msr & 1))
		fail("the guest did not turn on paravirtual EOI");
	convert(KVM_GMEM_CONVERT_SHARED, 0, RAM_SIZE);
	c = (const volatile void *)(ram + clock);
	s = (const volatile void *)(ram + steal);
	say("kvmclock at %#lx: version %u, tsc_to_system_mul %#x, system_time %llu", clock, c->version,
	    c->tsc_to_system_mul, (unsigned long long)c->system_time);
	say("steal time at %#lx: version %u, %llu ns", steal, s->version, (unsigned long long)s->steal);
	if (!c->version || c->version & 1 || !c->tsc_to_system_mul)
		fail("KVM did not write the clock");
	if (!s->version || s->version & 1)
		fail("KVM did not write the steal time");
}

static void on_signal(int sig)
{
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "protected", no_argument, NULL, 'p' },
		{ "cpus", required_argument, NULL, 'c' },
		{ "append", required_argument, NULL, 'a' },
		{ "limit", required_argument, NULL, 'l' },
		{ "break", required_argument, NULL, 'b' },
		{ }
	};
	struct sigaction kick = { .sa_handler = on_signal };
	static const char * const bad[] = { "WARNING: ", "BUG: ", "Oops: ", "Error", "INFO: " };
	const char *append = "";
	unsigned long looks;
	bool protected = false;
	char cmdline[1024];
	uint32_t entry;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'p': protected = true; break;
		case 'c': cpus = atoi(optarg); break;
		case 'a': append = optarg; break;
		case 'l': time_limit = atoi(optarg); break;
		case 'b': defect = optarg; break;
		default: return 2;
		}
	}
	if (argc - optind != 2 || !cpus || cpus > MAX_CPUS) {
		fprintf(stderr, "usage: %s [--protected] [--cpus N] [--append ARGS] [--limit S] [--break WHAT] VMLINUX INIT\n",
			argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGUSR1, &kick, NULL);

	seconds();
	make_machine(protected);
	snprintf(cmdline, sizeof(cmdline), "console=ttyS0 8250.nr_uarts=1 loglevel=5 panic=-1 reboot=t clocksource=kvm-clock "
		 "printk.devkmsg=on rdinit=/init %s", append);
	entry = load((uint8_t *)ram, argv[optind], argv[optind + 1], cmdline, acpi_write((uint8_t *)ram, cpus, NULL, 0));
	cpu_set_pvh_entry(vcpus[0].fd, entry);
	say("%s VM, %u processors, %s loaded, entry at %#x", protected ? "protected" : "default", cpus,
	    argv[optind], entry);

	convert(KVM_GMEM_CONVERT_PRIVATE, 0, RAM_SIZE);
	if (!strcmp(defect, "shared"))
		convert(KVM_GMEM_CONVERT_SHARED, 128 << 20, PAGE);
	expect_unreadable("before it runs");
	looks = run_machine();
	printf("\n");
	say("the guest turned itself off");
	for (unsigned int i = 0; i < cpus; i++)
		say("vCPU %u left for the VMM %lu times", i, vcpus[i].exits);
	say("while it ran: %lu looks at its memory, each of them SIGBUS", looks);
	if (!strcmp(defect, "address"))
		touch_bait();
	expect_unreadable("after it ran");
	expect_bait_untouched();

	expect_said("guest: processors online: %u\n", cpus);
	expect_said("guest: ACPI tables: FACP APIC\n");
	expect_said("IO-APIC");
	expect_said("2-edge");
	expect_said("guest: clocksource: kvm-clock\n");
	expect_said("guest: memory filled on each: as it was left\n");
	expect_said("guest: steal: cpu ");
	expect_said("guest: done\n");
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (strstr(console.text, bad[i]))
			fail("the guest's kernel complained: %s", bad[i]);
	if (!looks)
		fail("nobody looked while it ran");
	expect_kvm_wrote();
	say("passed");
	return 0;
}
