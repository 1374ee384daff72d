/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest_memfd beside a memfd: attributes of the VM say which of them a page is in, and the
 * library notes it.
 */
#include "backend.h"

static int create(struct gmem *memory, uint32_t initial, struct gmem_error *error)
{
	int r;

	r = gmem_create_guest_memfd(memory, 0, error);
	if (r < 0)
		return r;
	r = gmem_create_memfd(memory, error);
	if (r < 0)
		return r;
	gmem_note_state(memory, 0, memory->bytes, initial);
	return 0;
}

static int set_attributes(const struct piece *p, uint32_t state)
{
	const struct gmem_vm *vm = p->memory->vm;
	struct kvm_memory_attributes attributes = {
		.address = p->gpa,
		.size = p->bytes,
		.attributes = state == GMEM_STATE_PRIVATE ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};

	return vm->sys->ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &attributes);
}

static int unbind(const struct piece *p)
{
	return set_attributes(p, GMEM_STATE_SHARED);
}

/* What was private at these addresses before does not count. */
static int bind(const struct piece *p)
{
	const uint64_t end = p->offset + p->bytes;
	struct kvm_gmem_range run;
	struct piece part = *p;
	uint64_t at;
	int r;

	r = unbind(p);
	for (at = p->offset; r >= 0 && at < end; at = run.offset + run.size) {
		gmem_noted_runs(p->memory, at, end, false, &run, 1);
		if (gmem_run_state(&run) == GMEM_STATE_SHARED)
			continue;
		part.gpa = p->gpa + (run.offset - p->offset);
		part.bytes = run.size;
		r = set_attributes(&part, GMEM_STATE_PRIVATE);
		if (r < 0)
			unbind(p);
	}
	return r;
}

static int convert(const struct piece *p, uint32_t to, uint64_t flags, uint64_t *bad)
{
	(void)flags;
	*bad = p->offset;
	return set_attributes(p, to);
}

static int free_unused(const struct gmem *memory, uint64_t offset, uint64_t bytes, uint32_t state)
{
	return gmem_punch(memory, state == GMEM_STATE_PRIVATE ? memory->shared_fd : memory->fd,
			  offset, bytes);
}

const struct gmem_backend gmem_dual = {
	.mode = GMEM_MODE_DUAL,
	.cap = GMEM_CAP_DUAL,
	.name = "dual",
	.create = create,
	.map = gmem_map_for_slots,
	.bind = bind,
	.unbind = unbind,
	.convert = convert,
	.by_slot = true,
	.guest_accesses_ask = true,
	.free_unused = free_unused,
	.memfd_policy = true,
	.no_zero = "Memory in dual mode cannot be zeroed in place: discard it.",
	.no_life = "In dual mode memory cannot be linked, frozen or cloned: states belong to the "
		   "VM.",
};
