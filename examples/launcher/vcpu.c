/* SPDX-License-Identifier: MIT */
/* vCPUs: what they are at first, and what they leave for. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <asm/kvm_para.h>

#include "launch.h"

#define MAX_CPUID 256
#define PM_TIMER_HZ 3579545
#define SLEEP_ENABLE (1 << 13)
#define RESET_PORT 0xcf9
#define KEYBOARD 0x64
#define KEYBOARD_RESET 0xfe

static struct vcpu {
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	struct gmem_exit exit;
} vcpus[MAX_CPUS];
static unsigned int nr_vcpus;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static const char *ended; /* why the machine is off */
static uint16_t pm1_enable;

/* What KVM can do, each processor a package of its own. */
static void set_cpuid(int kvm, int vcpu, unsigned int id)
{
	struct kvm_cpuid2 *cpuid;
	unsigned int i;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	if (!cpuid)
		die("no memory for the processors' features");
	cpuid->nent = MAX_CPUID;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		die("KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		switch (e->function) {
		case 1:
			e->ebx = (e->ebx & 0xff00) | id << 24 | 1 << 16;
			e->edx &= ~(1u << 28);
			e->ecx |= 1u << 31;
			/* QEMU's TCG (7.2) does not let KVM see XSETBV: without XSAVE, AVX. */
			e->ecx &= ~(1u << 26 | 1u << 28);
			break;
		case 0xb:
		case 0x1f:
			e->edx = id;
			break;
		case 0x40000001: /* KVM's own: the guest may ask for conversions */
			e->eax |= 1u << KVM_FEATURE_HC_MAP_GPA_RANGE;
			break;
		case 0x80000008:
			e->ecx = 0;
			break;
		case 0x8000001e:
			e->eax = e->ebx = id;
			e->ecx = 0;
			break;
		}
	}
	if (ioctl(vcpu, KVM_SET_CPUID2, cpuid) < 0)
		die("KVM_SET_CPUID2: %s", strerror(errno));
	free(cpuid);
}

/* 64-bit mode, paging on, as the boot protocol wants the first processor. */
static void set_boot_state(int vcpu, uint64_t entry)
{
	struct kvm_segment code = {
		.limit = ~0u, .selector = 0x10, .type = 0xb, .present = 1, .l = 1, .s = 1, .g = 1};
	struct kvm_segment data = {
		.limit = ~0u, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
	struct kvm_regs regs = {.rip = entry, .rsi = BOOT_PARAMS, .rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		die("KVM_GET_SREGS: %s", strerror(errno));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.gdt.base = BOOT_GDT;
	sregs.gdt.limit = 31;
	sregs.cr3 = BOOT_TABLES;
	sregs.cr4 = 1 << 5;	       /* PAE */
	sregs.cr0 = 1u << 31 | 1;      /* PG, PE */
	sregs.efer = 1 << 8 | 1 << 10; /* LME, LMA */
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		die("the first vCPU: %s", strerror(errno));
}

void vcpu_create(int kvm, int vm_fd, const struct options *options, uint64_t entry)
{
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	unsigned int i;

	nr_vcpus = options->cpus;
	for (i = 0; i < nr_vcpus; i++) {
		struct vcpu *v = &vcpus[i];

		v->exit = (struct gmem_exit)GMEM_EXIT_INIT;
		v->fd = ioctl(vm_fd, KVM_CREATE_VCPU, i);
		v->run = v->fd < 0 ? MAP_FAILED
				   : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
					  v->fd, 0);
		if (v->run == MAP_FAILED)
			die("vCPU %u: %s", i, strerror(errno));
		set_cpuid(kvm, v->fd, i);
	}
	set_boot_state(vcpus[0].fd, entry);
}

static void end(const char *why)
{
	pthread_mutex_lock(&lock);
	if (!ended)
		ended = why;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static uint32_t pm_timer(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint32_t)((uint64_t)now.tv_sec * PM_TIMER_HZ +
			  (uint64_t)now.tv_nsec * PM_TIMER_HZ / 1000000000);
}

static uint32_t port_read(uint16_t port)
{
	if (serial_port(port))
		return serial_read(port);
	switch (port) {
	case 0x71:
	case KEYBOARD:
	case PM1_EVENT:
		return 0;
	case PM1_EVENT + 2:
		return pm1_enable;
	case PM1_CONTROL:
		return 1;
	case PM_TIMER:
		return pm_timer();
	}
	return ~0u;
}

static void port_write(uint16_t port, uint32_t value)
{
	if (serial_port(port))
		serial_write(port, (uint8_t)value);
	else if (talk_port(port))
		talk_ring(value);
	else if (port == PM1_EVENT + 2)
		pm1_enable = (uint16_t)value;
	else if (port == PM1_CONTROL && value & SLEEP_ENABLE && (value >> 10 & 7) == SLEEP_TYPE_OFF)
		end("the guest turned itself off");
	else if ((port == KEYBOARD && value == KEYBOARD_RESET) || (port == RESET_PORT && value & 4))
		end("the guest reset itself");
}

static void do_io(struct kvm_run *run)
{
	uint8_t *p = (uint8_t *)run + run->io.data_offset;
	uint32_t i, value;

	for (i = 0; i < run->io.count; i++, p += run->io.size) {
		value = 0;
		if (run->io.direction == KVM_EXIT_IO_IN) {
			value = port_read(run->io.port);
			memcpy(p, &value, run->io.size);
		} else {
			memcpy(&value, p, run->io.size);
			port_write(run->io.port, value);
		}
	}
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct kvm_run *run = v->run;
	int r;

	while (!__atomic_load_n(&ended, __ATOMIC_ACQUIRE)) {
		r = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
		if (r == -EINTR || r == -EAGAIN)
			continue;
		/* Is it about memory? */
		if (!memory_exit(&v->exit, run, r))
			continue;
		if (r)
			die("vCPU %td: KVM_RUN: %s", v - vcpus, strerror(-r));
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			do_io(run);
			break;
		case KVM_EXIT_MMIO: /* nothing is there */
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
			break;
		case KVM_EXIT_HYPERCALL: /* none that is known */
			run->hypercall.ret = (uint64_t)-ENOSYS;
			break;
		case KVM_EXIT_SHUTDOWN:
			die("vCPU %td: triple fault", v - vcpus);
		case KVM_EXIT_INTERNAL_ERROR:
			die("vCPU %td: KVM cannot go on (%u)", v - vcpus, run->internal.suberror);
		default:
			die("vCPU %td: exit %u", v - vcpus, run->exit_reason);
		}
	}
	return NULL;
}

static void on_kick(int signal)
{
	(void)signal;
}

/* Until the guest is off; all vCPUs have stopped by then. */
int vcpu_run_all(void)
{
	struct sigaction kick = {.sa_handler = on_kick};
	unsigned int i;

	sigaction(SIGUSR1, &kick, NULL);
	for (i = 0; i < nr_vcpus; i++)
		if (pthread_create(&vcpus[i].thread, NULL, run_vcpu, &vcpus[i]))
			die("no thread for vCPU %u", i);
	pthread_mutex_lock(&lock);
	while (!ended)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	for (i = 0; i < nr_vcpus; i++) {
		vcpus[i].run->immediate_exit = 1;
		pthread_kill(vcpus[i].thread, SIGUSR1);
		pthread_join(vcpus[i].thread, NULL);
	}
	fprintf(stderr, "gmem-launch: %s\n", ended);
	return 0;
}
