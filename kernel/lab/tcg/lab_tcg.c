// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lab's processors are QEMU's TCG, which has two faults with nested guests.
 *
 * A guest exits at once when an interrupt was injected into it. VMRUN delivers an injected
 * interrupt (type INTR), but leaves the vector where an exception is kept until it is
 * delivered (helper_vmrun() and cs->exception_index, QEMU 7.2). When another thread then
 * asks that processor out of its loop and there is no interrupt to take, the vector is
 * delivered a second time, with the guest's interrupts off. Guests hang or shut down by
 * that, now and then where the processors run at once, and within minutes where they take
 * turns.
 *
 * An exit clears it. An interrupt that is pending when the guest is entered makes for one,
 * and is looked at before that request is. KVM does the same where it wants an exit at
 * once. The tracepoint is met with interrupts off, and so is what follows, up to VMRUN.
 *
 * An exit takes back the PV EOI that was offered with the interrupt. With KVM_REQ_EVENT it
 * is offered again.
 *
 * And a processor that misses its timer's interrupt is sent another one. An exit clears a bit
 * of the word in which interrupts are asked for without a lock (do_vmexit() and
 * cs->interrupt_request), while the thread that has the timers may set one in it. If that is
 * lost, the interrupt stays pending in the APIC, and nobody looks: where the processor halts
 * next, it does so until another one sends it an interrupt. Processors were seen to wait like
 * that, with RCU, work queues and timeouts waiting for them, and that this is the reason is
 * likely.
 */
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/smp.h>
#include <linux/timer.h>
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

static DEFINE_PER_CPU(struct timer_list, beat);
static DEFINE_PER_CPU(unsigned long, last_beat);

static void on_beat(struct timer_list *timer)
{
	int cpu, self = smp_processor_id();
	unsigned long late;

	WRITE_ONCE(per_cpu(last_beat, self), jiffies);
	for_each_online_cpu(cpu) {
		late = jiffies - READ_ONCE(per_cpu(last_beat, cpu));
		if (cpu == self || late < 3 * HZ)
			continue;
		pr_info("lab_tcg: CPU %d had no timer interrupt for %lu s\n", cpu, late / HZ);
		smp_send_reschedule(cpu);
	}
	mod_timer(timer, jiffies + HZ);
}

static void begin_beats(void)
{
	struct timer_list *timer;
	int cpu;

	for_each_online_cpu(cpu)
		per_cpu(last_beat, cpu) = jiffies;
	for_each_online_cpu(cpu) {
		timer = per_cpu_ptr(&beat, cpu);
		timer_setup(timer, on_beat, TIMER_PINNED);
		timer->expires = jiffies + HZ;
		add_timer_on(timer, cpu);
	}
}

static void end_beats(void)
{
	int cpu;

	for_each_online_cpu(cpu)
		timer_shutdown_sync(per_cpu_ptr(&beat, cpu));
}

static int __init lab_tcg_init(void)
{
	int r;

	r = register_trace_kvm_entry(exit_at_once, NULL);
	/* With one processor there is nobody to notice, and instructions are counted. */
	if (!r && num_online_cpus() > 1)
		begin_beats();
	return r;
}

static void __exit lab_tcg_exit(void)
{
	if (num_online_cpus() > 1)
		end_beats();
	unregister_trace_kvm_entry(exit_at_once, NULL);
	tracepoint_synchronize_unregister();
}

module_init(lab_tcg_init);
module_exit(lab_tcg_exit);
MODULE_DESCRIPTION("gmem's lab: works around faults of QEMU's TCG");
MODULE_LICENSE("GPL");
