/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Conversion in place by KVM_SET_MEMORY_ATTRIBUTES2 on the guest_memfd, which is announced
 * for Linux 7.4. The kernel keeps the states and tells nobody, so the library notes them.
 */
#include "backend.h"

static int convert(const struct piece *p, uint32_t to, uint64_t flags, uint64_t *bad)
{
	const struct gmem *memory = p->memory;
	struct kvm_memory_attributes2 attributes = {
		.offset = p->offset,
		.size = p->bytes,
		.attributes = to == GMEM_STATE_PRIVATE ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};
	int r;

	_Static_assert(sizeof(attributes) == 128, "as the number of the ioctl has it");
	(void)flags;
	r = memory->vm->sys->ioctl(memory->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attributes);
	/* For other failures it is not said to be anything. */
	*bad = r == -EAGAIN ? attributes.error_offset : p->offset;
	return r;
}

/* Where the kernel does not let it begin as shared, it is converted before anybody has it. */
static int create(struct gmem *memory, uint32_t initial, struct gmem_error *error)
{
	const struct piece all = {GMEM_NOWHERE, memory->bytes, 0, memory, 0};
	struct gmem_error first = GMEM_ERROR_INIT;
	uint64_t bad;
	int r;

	gmem_note_state(memory, 0, memory->bytes, initial);
	r = gmem_create_mappable(memory, initial, &first);
	if (r && (r != -EINVAL || initial != GMEM_STATE_SHARED))
		return gmem_pass_on(error, &first);
	if (!r)
		return 0;
	r = gmem_create_mappable(memory, GMEM_STATE_PRIVATE, error);
	if (r)
		return r;
	r = convert(&all, GMEM_STATE_SHARED, 0, &bad);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_CREATE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot make new memory shared (errno %d).", -r);
	return 0;
}

const struct gmem_backend gmem_attributes = {
	.mode = GMEM_MODE_ATTRIBUTES,
	.cap = GMEM_CAP_ATTRIBUTES,
	.name = "attributes",
	.create = create,
	/* KVM's own accesses to shared memory go through the address of the slot. */
	.map = gmem_map_for_slots,
	.convert = convert,
	.no_zero = "Memory in attributes mode cannot be zeroed in place: discard it.",
	.no_life = "In attributes mode memory cannot be linked, frozen or cloned: the kernel has "
		   "no such operation, and does not tell the states.",
};
