/* SPDX-License-Identifier: MIT */
/* vCPUs: what they are at first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <asm/kvm_para.h>

#include "launch.h"

#define MAX_CPUID 256

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

void vcpu_create(struct machine *m)
{
	int size = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	unsigned int i;

	for (i = 0; i < m->options->cpus; i++) {
		struct vcpu *v = &m->vcpus[i];

		v->machine = m;
		v->number = i;
		v->exit = (struct gmem_exit)GMEM_EXIT_INIT;
		v->fd = ioctl(m->fd, KVM_CREATE_VCPU, i);
		v->run = v->fd < 0 ? MAP_FAILED
				   : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
					  v->fd, 0);
		if (v->run == MAP_FAILED)
			die("vCPU %u: %s", i, strerror(errno));
		set_cpuid(m->kvm, v->fd, i);
	}
}

/* KVM keeps the VM for as long as one of them is open, or mapped. */
void vcpu_free(struct machine *m)
{
	size_t size = (size_t)ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	unsigned int i;

	for (i = 0; i < m->options->cpus; i++) {
		if (!m->vcpus[i].run)
			continue;
		munmap(m->vcpus[i].run, size);
		close(m->vcpus[i].fd);
		m->vcpus[i].run = NULL;
	}
}

void vcpu_boot(struct machine *m, uint64_t entry)
{
	set_boot_state(m->vcpus[0].fd, entry);
}
