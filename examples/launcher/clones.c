/* SPDX-License-Identifier: MIT */
/* Many machines from one: what it was when it said so, with memory that they share. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "launch.h"

static struct machine *clone_new(struct machine *golden, const struct state *state,
				 unsigned int number)
{
	struct machine *m = machine_new(golden->kvm, golden->options, number);

	memory_connect(m);
	life_clone(m, golden);
	vcpu_create(m);
	state_restore(m, state);
	m->talking = golden->talking;
	return m;
}

void clones_run(struct machine *golden)
{
	const unsigned int n = golden->options->clones;
	struct machine **clones = calloc(n, sizeof(*clones));
	uint64_t begin, frozen;
	struct state *state;
	unsigned int i;

	if (!clones)
		die("no memory for %u clones", n);
	terminal_connect(NULL);
	begin = now_us();
	state = state_save(golden);
	/* KVM itself writes to the memory of a VM that has vCPUs. */
	vcpu_free(golden);
	life_freeze(golden);
	frozen = now_us();
	for (i = 0; i < n; i++)
		clones[i] = clone_new(golden, state, i + 1);
	fprintf(stderr,
		"gmem-launch: %" PRIu64 " KiB are frozen, in %" PRIu64 " us; %u clones, in %" PRIu64
		" us\n",
		memory_resident(golden) >> 10, frozen - begin, n, now_us() - frozen);
	state_free(state);
	for (i = 0; i < n; i++)
		vcpu_start(clones[i]);
	for (i = 0; i < n; i++) {
		const char *why =
			machine_wait(clones[i]) == RESET ? "reset itself" : "turned itself off";

		serial_flush(clones[i]);
		fprintf(stderr, "gmem-launch: %s %s\n", clones[i]->name, why);
	}
	for (i = 0; i < n; i++) {
		if (golden->options->stats)
			fprintf(stderr,
				"gmem-launch: %s: %" PRIu64 " of %" PRIu64 " KiB are its own\n",
				clones[i]->name, memory_resident(clones[i]) >> 10,
				golden->options->bytes >> 10);
		machine_free(clones[i]);
	}
	free(clones);
}
