/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is where: addresses of the guest, and the pieces of memories that are there. */
#include "internal.h"

uint64_t gmem_gpa_of(const struct gmem *memory, uint64_t offset)
{
	const struct gmem_vm *vm = memory->vm;
	size_t i;

	for (i = 0; i < vm->nr_bindings; i++) {
		const struct piece *b = &vm->bindings[i];

		if (b->memory == memory && offset >= b->offset && offset - b->offset < b->bytes)
			return b->gpa + (offset - b->offset);
	}
	return GMEM_NOWHERE;
}

uint64_t gmem_piece_gpa(const struct piece *p, uint64_t offset)
{
	if (p->gpa == GMEM_NOWHERE)
		return gmem_gpa_of(p->memory, offset);
	return p->gpa + (offset - p->offset);
}

PUBLIC int gmem_lookup(struct gmem_vm *vm, uint64_t gpa, struct gmem_location *ret_location)
{
	struct gmem_location location = GMEM_LOCATION_INIT;
	const struct piece *b;
	uint64_t in, run_end;
	int r = -ENOENT;
	size_t i;

	if (!vm || gmem_check_out(ret_location, GMEM_LOCATION_1_0))
		return -EINVAL;
	pthread_rwlock_rdlock(&vm->lock);
	i = gmem_find_binding(vm, gpa);
	if (i < vm->nr_bindings && vm->bindings[i].gpa <= gpa) {
		b = &vm->bindings[i];
		in = gpa - b->gpa;
		location.offset = b->offset + in;
		location.bytes = b->bytes - in;
		location.slot = b->slot;
		in = location.offset - location.offset % vm->page;
		r = gmem_run_at(b->memory, in, in + vm->page, &location.state, &run_end);
		if (!r)
			location.memory = gmem_ref(b->memory);
	}
	pthread_rwlock_unlock(&vm->lock);
	if (!r)
		gmem_copy_out(ret_location, &location, sizeof(location));
	return r;
}
