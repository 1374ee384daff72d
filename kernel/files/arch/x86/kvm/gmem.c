// SPDX-License-Identifier: GPL-2.0-only
/*
 * What x86 has to do itself for slots whose memory is a guest_memfd that
 * converts in place: steal time, and what to do where emulation cannot access
 * the memory.
 */

#include <linux/kvm_host.h>
#include <linux/pagemap.h>
#include <linux/sched.h>

#include "cpuid.h"
#include "trace.h"
#include "x86.h"

/**
 * kvm_gmem_record_steal_time - tell the guest how long it has not been running
 * @vcpu: the running vCPU
 * @slot: the slot of @gpa, which is gmem only
 * @gpa: where struct kvm_steal_time is
 *
 * Return: what the guest left in 'preempted', KVM_VCPU_* flags.
 */
u8 kvm_gmem_record_steal_time(struct kvm_vcpu *vcpu,
			      struct kvm_memory_slot *slot, gpa_t gpa)
{
	struct kvm_gmem_access access;
	struct kvm_steal_time *st;
	u8 preempted = 0;
	u32 version;
	void *kaddr;
	u64 delay;

	kaddr = kvm_gmem_access_begin(slot, gpa_to_gfn(gpa), true, &access);
	if (IS_ERR(kaddr))
		return 0;

	/* Aligned to its size, see KVM_STEAL_VALID_BITS: it is in one page. */
	st = kaddr + offset_in_page(gpa);

	/* Taking the flags is one step: the guest sets them meanwhile. */
	if (guest_pv_has(vcpu, KVM_FEATURE_PV_TLB_FLUSH)) {
		preempted = xchg(&st->preempted, 0);
		trace_kvm_pv_tlb_flush(vcpu->vcpu_id,
				       preempted & KVM_VCPU_FLUSH_TLB);
	} else {
		WRITE_ONCE(st->preempted, 0);
	}
	vcpu->arch.st.preempted = 0;

	/* Odd while it is being written; the first time it can be anything. */
	version = (READ_ONCE(st->version) + 1) | 1;
	WRITE_ONCE(st->version, version);
	/* The guest reads the version, the time and the version again. */
	smp_wmb();

	delay = current->sched_info.run_delay;
	WRITE_ONCE(st->steal, READ_ONCE(st->steal) + delay - vcpu->arch.st.last_steal);
	vcpu->arch.st.last_steal = delay;

	/* As above. */
	smp_wmb();
	WRITE_ONCE(st->version, version + 1);

	kvm_gmem_access_end(&access);

	return preempted;
}

/**
 * kvm_gmem_set_preempted - tell other vCPUs that this one is preempted
 * @vcpu: the vCPU that is being scheduled out
 * @slot: the slot of @gpa, which is gmem only
 * @gpa: where struct kvm_steal_time is
 *
 * Context: atomic.
 */
void kvm_gmem_set_preempted(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot,
			    gpa_t gpa)
{
	gpa += offsetof(struct kvm_steal_time, preempted);

	if (!kvm_gmem_write_byte_atomic(slot, gpa, KVM_VCPU_PREEMPTED))
		vcpu->arch.st.preempted = KVM_VCPU_PREEMPTED;
}

/**
 * kvm_gmem_note_failure - remember an access for the guest that failed
 * @vcpu: the vCPU for which something is emulated or its page tables are walked
 * @slot: the memslot of @gfn, looked up before the access; NULL if there was none
 * @gfn: the page
 * @write: the page was to be written to
 * @error: why that failed, as kvm_gmem_access_begin() says
 *
 * The emulator can only report a fault to the guest, or MMIO.  Neither is right
 * for memory that is frozen, poisoned or cannot be allocated: KVM_RUN has to
 * return a memory fault, as for an access by the guest itself.  So the failure is
 * stored here, and the caller of the emulator gets it by kvm_gmem_take_failure().
 *
 * Slots that are being deleted are treated like slots that do not exist.  So are
 * slots that came or went since @slot was looked up: what failed may have been an
 * access to no slot at all.
 *
 * Context: the caller holds kvm->srcu, since before it looked up @slot.
 * Return: true if @gfn is in a slot that is gmem only, and the emulation has to
 * be given up.
 */
bool kvm_gmem_note_failure(struct kvm_vcpu *vcpu,
			   const struct kvm_memory_slot *slot, gfn_t gfn,
			   bool write, int error)
{
	if (!kvm_slot_is_gmem_only(slot) || (slot->flags & KVM_MEMSLOT_INVALID) ||
	    slot != kvm_vcpu_gfn_to_memslot(vcpu, gfn))
		return false;

	vcpu->arch.gmem_failure.error = error;
	vcpu->arch.gmem_failure.write = write;
	vcpu->arch.gmem_failure.gfn = gfn;

	return true;
}

/**
 * kvm_gmem_take_failure - ask for a failure that was noted, and forget it
 * @vcpu: the vCPU
 *
 * Return: 0 if there was none; otherwise the error, to be returned by KVM_RUN,
 * with KVM_EXIT_MEMORY_FAULT filled in.
 */
int kvm_gmem_take_failure(struct kvm_vcpu *vcpu)
{
	int error = vcpu->arch.gmem_failure.error;

	if (!error)
		return 0;

	kvm_gmem_forget_failure(vcpu);
	kvm_prepare_memory_fault_exit(vcpu, gfn_to_gpa(vcpu->arch.gmem_failure.gfn),
				      PAGE_SIZE, vcpu->arch.gmem_failure.write,
				      false, false);

	return error;
}
