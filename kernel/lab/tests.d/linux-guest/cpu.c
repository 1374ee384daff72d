// SPDX-License-Identifier: GPL-2.0-only
/* What a vCPU is before it runs: CPUID, and the registers PVH asks for. */
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "vmm.h"

#define MAX_CPUID	256

/* CPUID 1 */
#define HTT		(1u << 28)	/* edx */
#define XSAVE		(1u << 26)	/* ecx */
#define AVX		(1u << 28)
#define HYPERVISOR	(1u << 31)

/*
 * What KVM can do, each processor a package of its own. Without XSAVE, since QEMU's
 * TCG (7.2) does not let KVM see XSETBV: the sizes in CPUID 0xd would stay those of
 * the initial XCR0, and the guest would complain.
 */
void cpu_set_cpuid(int kvm, int vcpu, unsigned int id)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[MAX_CPUID];
	} cpuid = { .head.nent = MAX_CPUID };

	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid));
	for (unsigned int i = 0; i < cpuid.head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid.entry[i];

		switch (e->function) {
		case 1:
			e->ebx = (e->ebx & 0xff00) | id << 24 | 1 << 16;
			e->edx &= ~HTT;
			e->ecx |= HYPERVISOR;
			e->ecx &= ~(XSAVE | AVX);
			break;
		case 0xb:
		case 0x1f:
			e->edx = id;
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
