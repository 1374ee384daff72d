// SPDX-License-Identifier: GPL-2.0-only
/* What a vCPU is before it runs: CPUID, and the registers PVH asks for. */
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "vmm.h"

#define MAX_CPUID	256

void cpu_set_cpuid(int kvm, int vcpu, unsigned int id, unsigned int cpus)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[MAX_CPUID];
	} cpuid = { .head.nent = MAX_CPUID };
	unsigned int shift = cpus > 1 ? 32 - __builtin_clz(cpus - 1) : 0;

	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid));
	for (unsigned int i = 0; i < cpuid.head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid.entry[i];

		switch (e->function) {
		case 1:
			e->ebx = (e->ebx & 0xff00) | id << 24 | cpus << 16;
			e->edx &= ~(1 << 28);
			e->edx |= cpus > 1 ? 1 << 28 : 0;
			e->ecx |= 1u << 31;
			break;
		case 0xb: /* cores, no threads */
			e->eax = e->index == 1 ? shift : 0;
			e->ebx = e->index == 0 ? 1 : e->index == 1 ? cpus : 0;
			e->ecx = e->index | (e->index == 0 ? 1 << 8 : e->index == 1 ? 2 << 8 : 0);
			e->edx = id;
			break;
		case 0x80000008:
			e->ecx = shift << 12 | (cpus - 1);
			break;
		case 0x8000001e:
			e->eax = id;
			e->ebx = id;
			e->ecx = 0;
			break;
		}
	}
	must(ioctl(vcpu, KVM_SET_CPUID2, &cpuid));
}

/* Flat 32-bit protected mode without paging; ebx has the start info. */
void cpu_set_pvh_entry(int vcpu, uint32_t entry)
{
	struct kvm_segment code = { .limit = ~0, .selector = 8, .type = 0xb, .present = 1, .db = 1, .s = 1, .g = 1 };
	struct kvm_segment data = { .limit = ~0, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1 };
	struct kvm_segment task = { .limit = 0x67, .selector = 24, .type = 0xb, .present = 1 };
	struct kvm_regs regs = { .rip = entry, .rbx = START_INFO, .rflags = 2 };
	struct kvm_sregs sregs;

	must(ioctl(vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.tr = task;
	sregs.cr0 = 0x11; /* PE, ET */
	sregs.cr4 = 0;
	sregs.efer = 0;
	must(ioctl(vcpu, KVM_SET_SREGS, &sregs));
	must(ioctl(vcpu, KVM_SET_REGS, &regs));
}

uint64_t cpu_get_msr(int vcpu, uint32_t msr)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry.index = msr };

	if (must(ioctl(vcpu, KVM_GET_MSRS, &msrs)) != 1)
		fail("MSR %#x cannot be read", msr);
	return msrs.entry.data;
}
