// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest exits at once when an interrupt was injected into it.
 *
 * The lab's processors are QEMU's TCG. Its VMRUN delivers an injected interrupt (type
 * INTR), but leaves the vector where an exception is kept until it is delivered
 * (helper_vmrun() and cs->exception_index, QEMU 7.2). When another thread then asks that
 * processor out of its loop and there is no interrupt to take, the vector is delivered a
 * second time, with the guest's interrupts off. Guests hang or shut down by that, now and
 * then where the processors run at once, and within minutes where they take turns.
 *
 * An exit clears it. An interrupt that is pending when the guest is entered makes for one,
 * and is looked at before that request is. KVM does the same where it wants an exit at
 * once. The tracepoint is met with interrupts off, and so is what follows, up to VMRUN.
 *
 * An exit takes back the PV EOI that was offered with the interrupt. With KVM_REQ_EVENT it
 * is offered again.
 */
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/tracepoint.h>
#include <trace/events/ipi.h>

DECLARE_TRACE(kvm_entry, TP_PROTO(struct kvm_vcpu *vcpu, bool force_immediate_exit),
	      TP_ARGS(vcpu, force_immediate_exit));

static void exit_at_once(void *data, struct kvm_vcpu *vcpu, bool force_immediate_exit)
{
	if (vcpu->arch.interrupt.injected && !vcpu->arch.interrupt.soft) {
		smp_send_reschedule(smp_processor_id());
		kvm_make_request(KVM_REQ_EVENT, vcpu);
	}
}

static int __init lab_tcg_init(void)
{
	return register_trace_kvm_entry(exit_at_once, NULL);
}

static void __exit lab_tcg_exit(void)
{
	unregister_trace_kvm_entry(exit_at_once, NULL);
	tracepoint_synchronize_unregister();
}

module_init(lab_tcg_init);
module_exit(lab_tcg_exit);
MODULE_DESCRIPTION("gmem's lab: an exit after each injected interrupt, for QEMU's TCG");
MODULE_LICENSE("GPL");
