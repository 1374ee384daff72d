/* SPDX-License-Identifier: MIT */
/* What a machine is, but for its memory and its processors: KVM's devices, and ours. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/kvm.h>

#include "launch.h"

#define NR_CHIPS 3 /* two PICs, one IOAPIC */

struct state {
	struct vcpu_state *vcpus[MAX_CPUS];
	struct kvm_irqchip chips[NR_CHIPS];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct serial serial;
	uint16_t pm1_enable;
};

static void ask(const struct machine *m, unsigned long request, const char *name, void *arg)
{
	if (ioctl(m->fd, request, arg) < 0)
		die("%s: %s", name, strerror(errno));
}
#define ASK(m, request, arg) ask(m, request, #request, arg)

/* Its vCPUs have stopped. */
struct state *state_save(struct machine *m)
{
	struct state *state = calloc(1, sizeof(*state));
	unsigned int i;

	if (!state)
		die("no memory for the machine's state");
	ASK(m, KVM_GET_CLOCK, &state->clock);
	for (i = 0; i < m->options->cpus; i++)
		state->vcpus[i] = vcpu_state_save(&m->vcpus[i]);
	for (i = 0; i < NR_CHIPS; i++) {
		state->chips[i].chip_id = i;
		ASK(m, KVM_GET_IRQCHIP, &state->chips[i]);
	}
	ASK(m, KVM_GET_PIT2, &state->pit);
	state->serial = m->serial;
	state->pm1_enable = m->pm1_enable;
	return state;
}

/*
 * Of a machine whose vCPUs have never run. They come first: what the interrupt controllers
 * deliver when they are set has to find its way.
 */
void state_restore(struct machine *m, const struct state *state)
{
	/* Without flags it goes on from then; no time has passed for the guest. */
	struct kvm_clock_data clock = {.clock = state->clock.clock};
	unsigned int i;

	ASK(m, KVM_SET_CLOCK, &clock);
	for (i = 0; i < m->options->cpus; i++)
		vcpu_state_restore(&m->vcpus[i], state->vcpus[i]);
	for (i = 0; i < NR_CHIPS; i++)
		ASK(m, KVM_SET_IRQCHIP, (void *)&state->chips[i]);
	ASK(m, KVM_SET_PIT2, (void *)&state->pit);
	serial_restore(m, &state->serial);
	m->pm1_enable = state->pm1_enable;
}

void state_free(struct state *state)
{
	unsigned int i;

	for (i = 0; i < MAX_CPUS; i++)
		vcpu_state_free(state->vcpus[i]);
	free(state);
}
