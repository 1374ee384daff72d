/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Binding memory to the slots of a VM. */
#include <string.h>

#include "internal.h"

#define MAX_SLOT 65536 /* of KVM's first address space */

uint64_t gmem_gpa_of(const struct gmem *memory, uint64_t offset)
{
	const struct gmem_vm *vm = memory->vm;
	size_t i;

	for (i = 0; i < vm->nr_bindings; i++) {
		const struct binding *b = &vm->bindings[i];

		if (b->memory == memory && offset >= b->offset && offset - b->offset < b->bytes)
			return b->gpa + (offset - b->offset);
	}
	return GMEM_NOWHERE;
}

static int set_slot(struct gmem_vm *vm, const struct binding *b, uint64_t bytes)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = b->slot,
		.flags = bytes ? KVM_MEM_GUEST_MEMFD : 0,
		.guest_phys_addr = b->gpa,
		.memory_size = bytes,
		.guest_memfd = (uint32_t)b->memory->fd,
		.guest_memfd_offset = b->offset,
	};

	if (b->memory->map)
		region.userspace_addr = (uintptr_t)b->memory->map + b->offset;
	return vm->sys->ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region);
}

/*
 * In dual mode KVM has to be told of what is private, and of nothing when it
 * goes. What was private at these addresses before does not count.
 */
static int set_binding_attributes(struct gmem_vm *vm, const struct binding *b, bool clear)
{
	struct gmem *memory = b->memory;
	uint64_t first = b->offset / vm->page, end = first + b->bytes / vm->page;
	uint64_t start, stop;
	int r;

	if (memory->mode != GMEM_MODE_DUAL)
		return 0;
	r = gmem_set_attributes(vm, b->gpa, b->bytes, false);
	if (r < 0 || clear)
		return r;
	for (start = first; (start = gmem_bitmap_find(memory->private, start, end, true)) < end;
	     start = stop) {
		stop = gmem_bitmap_find(memory->private, start, end, false);
		r = gmem_set_attributes(vm, b->gpa + (start - first) * vm->page,
					(stop - start) * vm->page, true);
		if (r < 0) {
			gmem_set_attributes(vm, b->gpa, b->bytes, false);
			return r;
		}
	}
	return 0;
}

static bool overlap(uint64_t a, uint64_t b, uint64_t a_bytes, uint64_t b_bytes)
{
	return a <= b ? b - a < a_bytes : a - b < b_bytes;
}

static int check_free(const struct gmem_vm *vm, const struct binding *b, struct gmem_error *error)
{
	size_t i;

	for (i = 0; i < vm->nr_bindings; i++) {
		const struct binding *other = &vm->bindings[i];

		if (other->slot == b->slot)
			return gmem_fail(error, GMEM_STEP_BIND, -EEXIST, other->gpa, other->offset,
					 "Slot %u is bound already, at %#llx.", b->slot,
					 (unsigned long long)other->gpa);
		if (overlap(other->gpa, b->gpa, other->bytes, b->bytes))
			return gmem_fail(error, GMEM_STEP_BIND, -EEXIST,
					 other->gpa > b->gpa ? other->gpa : b->gpa, GMEM_NOWHERE,
					 "The range overlaps slot %u, at %#llx.", other->slot,
					 (unsigned long long)other->gpa);
		if (other->memory == b->memory &&
		    overlap(other->offset, b->offset, other->bytes, b->bytes))
			return gmem_fail(error, GMEM_STEP_BIND, -EEXIST, GMEM_NOWHERE,
					 other->offset > b->offset ? other->offset : b->offset,
					 "That part of the memory is bound already, by slot %u.",
					 other->slot);
	}
	return 0;
}

/* Room for one more, so that nothing has to be undone for the lack of it. */
static int reserve(struct gmem_vm *vm)
{
	struct binding *more;
	size_t max;

	if (vm->nr_bindings < vm->max_bindings)
		return 0;
	max = vm->max_bindings ? 2 * vm->max_bindings : 8;
	more = vm->sys->alloc(max, sizeof(*more));
	if (!more)
		return -ENOMEM;
	if (vm->nr_bindings)
		memcpy(more, vm->bindings, vm->nr_bindings * sizeof(*more));
	pthread_rwlock_wrlock(&vm->lock);
	vm->sys->release(vm->bindings);
	vm->bindings = more;
	vm->max_bindings = max;
	pthread_rwlock_unlock(&vm->lock);
	return 0;
}

static void insert(struct gmem_vm *vm, const struct binding *b)
{
	size_t i;

	pthread_rwlock_wrlock(&vm->lock);
	i = gmem_find_binding(vm, b->gpa);
	memmove(&vm->bindings[i + 1], &vm->bindings[i], (vm->nr_bindings - i) * sizeof(*b));
	vm->bindings[i] = *b;
	vm->nr_bindings++;
	b->memory->bound_bytes += b->bytes;
	pthread_rwlock_unlock(&vm->lock);
}

static int bind_locked(struct gmem_vm *vm, const struct binding *b, struct gmem_error *error)
{
	int r;

	r = check_free(vm, b, error);
	if (r)
		return r;
	if (reserve(vm))
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, b->gpa, b->offset,
				 "Not enough memory to record slot %u.", b->slot);
	r = gmem_tell_binding(vm, b, true, NULL, error);
	if (r)
		return r;
	/* Before the slot, which no vCPU then sees in a wrong state. */
	r = set_binding_attributes(vm, b, false);
	if (r < 0) {
		gmem_fail(error, GMEM_STEP_BIND, r, b->gpa, b->offset,
			  "KVM cannot make the memory of slot %u private (errno %d).", b->slot, -r);
		gmem_rollback_binding(vm, b, true, NULL);
		return r;
	}
	r = set_slot(vm, b, b->bytes);
	if (r < 0) {
		gmem_fail(error, GMEM_STEP_BIND, r, b->gpa, b->offset,
			  r == -EEXIST ? "Slot %u overlaps a slot that KVM has already (errno %d)."
				       : "KVM cannot create slot %u (errno %d).",
			  b->slot, -r);
		set_binding_attributes(vm, b, true);
		gmem_rollback_binding(vm, b, true, NULL);
		return r;
	}
	gmem_ref(b->memory);
	insert(vm, b);
	gmem_commit_binding(vm, b, true, NULL);
	gmem_log(vm, "bound slot %u: %#llx bytes at %#llx", b->slot, (unsigned long long)b->bytes,
		 (unsigned long long)b->gpa);
	return 0;
}

PUBLIC int gmem_bind(struct gmem *memory, uint32_t slot, uint64_t gpa, uint64_t offset,
		     uint64_t bytes, struct gmem_error *error)
{
	const struct binding b = {gpa, bytes, offset, memory, slot};
	struct gmem_vm *vm;
	int r;

	r = gmem_check_range(memory, offset, bytes, error);
	if (r)
		return r;
	vm = memory->vm;
	if (slot >= MAX_SLOT)
		return gmem_bad(error, "Slot %u is not below %u.", slot, MAX_SLOT);
	if (gpa % vm->page || gpa + bytes < gpa)
		return gmem_bad(error, "Address %#llx is not page aligned, or the range wraps.",
				(unsigned long long)gpa);
	r = gmem_begin_change(vm, error);
	if (r)
		return r;
	r = bind_locked(vm, &b, error);
	gmem_end_change(vm);
	return r;
}

static int unbind_locked(struct gmem_vm *vm, size_t i, struct gmem_error *error)
{
	const struct binding b = vm->bindings[i];
	int r;

	r = gmem_tell_binding(vm, &b, false, NULL, error);
	if (r)
		return r;
	r = set_slot(vm, &b, 0);
	if (r < 0) {
		gmem_fail(error, GMEM_STEP_BIND, r, b.gpa, b.offset,
			  "KVM cannot delete slot %u (errno %d).", b.slot, -r);
		gmem_rollback_binding(vm, &b, false, NULL);
		return r;
	}
	/* Nobody runs there now; what cannot be cleared the next bind sets anew. */
	if (set_binding_attributes(vm, &b, true) < 0)
		gmem_log(vm, "the addresses of slot %u stay private after it was unbound", b.slot);
	pthread_rwlock_wrlock(&vm->lock);
	vm->nr_bindings--;
	memmove(&vm->bindings[i], &vm->bindings[i + 1],
		(vm->nr_bindings - i) * sizeof(*vm->bindings));
	b.memory->bound_bytes -= b.bytes;
	pthread_rwlock_unlock(&vm->lock);
	gmem_commit_binding(vm, &b, false, NULL);
	gmem_log(vm, "unbound slot %u", b.slot);
	gmem_unref(b.memory);
	return 0;
}

PUBLIC int gmem_unbind(struct gmem_vm *vm, uint32_t slot, struct gmem_error *error)
{
	size_t i;
	int r;

	if (!vm || !gmem_error_ok(error))
		return gmem_bad(error, "The VM is NULL.");
	r = gmem_begin_change(vm, error);
	if (r)
		return r;
	for (i = 0; i < vm->nr_bindings && vm->bindings[i].slot != slot; i++)
		;
	if (i < vm->nr_bindings)
		r = unbind_locked(vm, i, error);
	else
		r = gmem_fail(error, GMEM_STEP_BIND, -ENOENT, GMEM_NOWHERE, GMEM_NOWHERE,
			      "Slot %u is not bound by this library.", slot);
	gmem_end_change(vm);
	return r;
}

PUBLIC int gmem_lookup(struct gmem_vm *vm, uint64_t gpa, struct gmem_location *ret_location)
{
	struct gmem_location location = GMEM_LOCATION_INIT;
	const struct binding *b;
	uint64_t in, run_end;
	int r = -ENOENT;
	size_t i;

	if (!vm || gmem_check_out(ret_location, sizeof(location)))
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
