/* SPDX-License-Identifier: MIT */
/* What a vCPU is, to make another that goes on where it was. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/kvm.h>

#include "launch.h"

#define MSR_TSC_DEADLINE 0x6e0

struct msr {
	struct kvm_msrs header;
	struct kvm_msr_entry entry;
};

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp_state;
	struct kvm_vcpu_events events;
	struct kvm_xsave *xsave;
	struct kvm_msr_entry *msrs;
	unsigned int nr_msrs;
	uint64_t tsc_deadline;
};

static void ask(const struct vcpu *v, unsigned long request, const char *name, void *arg)
{
	if (ioctl(v->fd, request, arg) < 0)
		die("vCPU %u: %s: %s", v->number, name, strerror(errno));
}
#define ASK(v, request, arg) ask(v, request, #request, arg)

static int has(const struct vcpu *v, unsigned long cap)
{
	return ioctl(v->machine->fd, KVM_CHECK_EXTENSION, cap);
}

/* One by one: KVM stops at the first that there is not in this VM. */
static bool get_msr(const struct vcpu *v, uint32_t index, uint64_t *ret_value)
{
	struct msr msr = {.header.nmsrs = 1, .entry.index = index};

	if (ioctl(v->fd, KVM_GET_MSRS, &msr) != 1)
		return false;
	*ret_value = msr.entry.data;
	return true;
}

/* Some can be read only: they are in the new vCPU what they were in the old. */
static void set_msr(const struct vcpu *v, uint32_t index, uint64_t value)
{
	struct msr msr = {.header.nmsrs = 1, .entry = {.index = index, .data = value}};

	ioctl(v->fd, KVM_SET_MSRS, &msr);
}

static void save_msrs(const struct vcpu *v, struct vcpu_state *state)
{
	struct kvm_msr_list count = {.nmsrs = 0}, *list;
	uint64_t value;
	unsigned int i;

	/* E2BIG, and how many there are */
	ioctl(v->machine->kvm, KVM_GET_MSR_INDEX_LIST, &count);
	list = malloc(sizeof(*list) + count.nmsrs * sizeof(list->indices[0]));
	state->msrs = calloc(count.nmsrs + 1, sizeof(*state->msrs));
	if (!list || !state->msrs)
		die("no memory for the machine's state");
	list->nmsrs = count.nmsrs;
	if (ioctl(v->machine->kvm, KVM_GET_MSR_INDEX_LIST, list) < 0)
		die("KVM_GET_MSR_INDEX_LIST: %s", strerror(errno));
	for (i = 0; i < list->nmsrs; i++) {
		if (!get_msr(v, list->indices[i], &value))
			continue;
		if (list->indices[i] == MSR_TSC_DEADLINE)
			state->tsc_deadline = value;
		else
			state->msrs[state->nr_msrs++] =
				(struct kvm_msr_entry){.index = list->indices[i], .data = value};
	}
	free(list);
}

/* It has left KVM_RUN, and with immediate_exit: its last instruction is done. */
struct vcpu_state *vcpu_state_save(const struct vcpu *v)
{
	struct vcpu_state *state = calloc(1, sizeof(*state));
	int size = has(v, KVM_CAP_XSAVE2);

	if (state)
		state->xsave = calloc(1, size > (int)sizeof(*state->xsave) ? (size_t)size
									   : sizeof(*state->xsave));
	if (!state || !state->xsave)
		die("no memory for the machine's state");
	/* First: what is pending in the local APIC becomes part of the others by this. */
	ASK(v, KVM_GET_MP_STATE, &state->mp_state);
	ASK(v, KVM_GET_REGS, &state->regs);
	ASK(v, KVM_GET_SREGS, &state->sregs);
	if (size > 0)
		ASK(v, KVM_GET_XSAVE2, state->xsave);
	else
		ASK(v, KVM_GET_XSAVE, state->xsave);
	if (has(v, KVM_CAP_XCRS) > 0)
		ASK(v, KVM_GET_XCRS, &state->xcrs);
	save_msrs(v, state);
	ASK(v, KVM_GET_LAPIC, &state->lapic);
	ASK(v, KVM_GET_VCPU_EVENTS, &state->events);
	ASK(v, KVM_GET_DEBUGREGS, &state->debugregs);
	return state;
}

/*
 * Of a vCPU that has its CPUID and has never run. The base of the local APIC is among the
 * SREGS, the TSC among the MSRs, what it is compared with is what the local APIC waits for.
 */
void vcpu_state_restore(const struct vcpu *v, const struct vcpu_state *state)
{
	unsigned int i;

	ASK(v, KVM_SET_SREGS, (void *)&state->sregs);
	ASK(v, KVM_SET_REGS, (void *)&state->regs);
	if (has(v, KVM_CAP_XCRS) > 0)
		ASK(v, KVM_SET_XCRS, (void *)&state->xcrs);
	ASK(v, KVM_SET_XSAVE, state->xsave);
	for (i = 0; i < state->nr_msrs; i++)
		set_msr(v, state->msrs[i].index, state->msrs[i].data);
	ASK(v, KVM_SET_LAPIC, (void *)&state->lapic);
	if (state->tsc_deadline)
		set_msr(v, MSR_TSC_DEADLINE, state->tsc_deadline);
	ASK(v, KVM_SET_VCPU_EVENTS, (void *)&state->events);
	ASK(v, KVM_SET_DEBUGREGS, (void *)&state->debugregs);
	ASK(v, KVM_SET_MP_STATE, (void *)&state->mp_state);
}

void vcpu_state_free(struct vcpu_state *state)
{
	if (!state)
		return;
	free(state->xsave);
	free(state->msrs);
	free(state);
}
