/* SPDX-License-Identifier: MIT */
/* Memory that outlives its VM, and memory that others begin as: libgmem's part of it. */
#include "launch.h"

/* Before anything is booted: can it be done, when its time comes? */
void life_check(const struct machine *m)
{
	const struct memory *memory = &m->memory;
	const uint64_t caps[] = {m->options->reuse ? GMEM_CAP_LINK : 0,
				 m->options->reuse ? GMEM_CAP_ZERO : 0,
				 m->options->clones ? GMEM_CAP_CLONE : 0};
	const char *option = m->options->reuse ? "--reboot-reuse" : "--clones", *why;
	unsigned int i;

	for (i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		why = caps[i] ? gmem_vm_why_not(memory->vm, caps[i]) : NULL;
		if (why)
			die("%s: %s", option, why);
	}
	if ((m->options->reuse || m->options->clones) && memory->memory &&
	    gmem_mode(memory->memory) == GMEM_MODE_DUAL)
		die("%s: in dual mode half of the memory is state of its VM, and stays there",
		    option);
}

void life_link(struct machine *m, struct machine *old)
{
	struct gmem_error error = GMEM_ERROR_INIT;

	if (gmem_relink(old->memory.memory, m->memory.vm, &m->memory.memory, &error) < 0)
		die("%s", error.message);
}

/* Nothing is freed, and so nothing has to be allocated again. */
void life_zero(struct machine *m)
{
	struct gmem_error error = GMEM_ERROR_INIT;

	if (gmem_zero(m->memory.memory, 0, m->memory.bytes, &error) < 0)
		die("%s", error.message);
}

/* From here on whoever touches what this process had mapped of it would end it. */
void life_freeze(struct machine *m)
{
	struct memory *memory = &m->memory;
	struct gmem_error error = GMEM_ERROR_INIT;

	gmem_unmap(memory->map, memory->bytes);
	memory->map = NULL;
	if (gmem_freeze(memory->memory, &error) < 0)
		die("%s", error.message);
}

/* A clone has a policy of its own, which is none at first. */
void life_clone(struct machine *m, struct machine *golden)
{
	struct memory *memory = &m->memory;
	struct gmem_error error = GMEM_ERROR_INIT;
	void *address;

	if (gmem_clone(golden->memory.memory, memory->vm, &memory->memory, &error) < 0)
		die("%s", error.message);
	memory_place(m);
	memory_bind(m);
	if (gmem_map(memory->memory, 0, memory->bytes, 0, &address, &error) < 0)
		die("%s", error.message);
	memory->map = address;
}
