/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Binding memory to the slots of a VM. */
#include <string.h>

#include "backend.h"

#define MAX_SLOT 65536 /* of KVM's first address space */

static int set_ordinary_slot(struct gmem_vm *vm, const struct piece *b, uint64_t bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = b->slot,
		.guest_phys_addr = b->gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)b->memory->map + b->offset,
	};

	return vm->sys->ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int set_slot(struct gmem_vm *vm, const struct piece *b, uint64_t bytes, int guest_memfd)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = b->slot,
		.flags = bytes ? KVM_MEM_GUEST_MEMFD : 0,
		.guest_phys_addr = b->gpa,
		.memory_size = bytes,
		.guest_memfd = (uint32_t)guest_memfd,
		.guest_memfd_offset = b->offset,
	};

	if (b->memory->backend->ordinary_slots)
		return set_ordinary_slot(vm, b, bytes);
	if (b->memory->map)
		region.userspace_addr = (uintptr_t)b->memory->map + b->offset;
	return vm->sys->ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region);
}

int gmem_delete_slot(struct gmem_vm *vm, const struct piece *b)
{
	const struct gmem_backend *backend = b->memory->backend;
	int r = set_slot(vm, b, 0, b->memory->fd);

	/* There is none: the VMM deleted it, and may have another at its addresses by now. */
	if (r == -EINVAL)
		return 0;
	/* Nobody runs there now; what cannot be cleared the next bind in this mode sets. */
	if (r >= 0 && backend->unbind && backend->unbind(b) < 0)
		gmem_log(vm, "the addresses of slot %u stay private after it was unbound", b->slot);
	return r;
}

/*
 * Would KVM make the slot? Asked with a descriptor that is none: KVM looks for the file after it
 * has looked for slots that are in the way, and then nothing has changed.
 */
static int try_slot(struct gmem_vm *vm, const struct piece *b)
{
	int r = set_slot(vm, b, b->bytes, -1);

	return r == -EBADF ? 0 : r;
}

static bool overlap(uint64_t a, uint64_t b, uint64_t a_bytes, uint64_t b_bytes)
{
	return a <= b ? b - a < a_bytes : a - b < b_bytes;
}

static int check_free(const struct gmem_vm *vm, const struct piece *b, struct gmem_error *error)
{
	size_t i;

	for (i = 0; i < vm->nr_bindings; i++) {
		const struct piece *other = &vm->bindings[i];

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
	struct piece *more;
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

static void insert(struct gmem_vm *vm, const struct piece *b)
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

static int cannot_create(const struct piece *b, int r, struct gmem_error *error)
{
	return gmem_fail(error, GMEM_STEP_BIND, r, b->gpa, b->offset,
			 r == -EEXIST ? "Slot %u overlaps a slot that KVM has already (errno %d)."
				      : "KVM cannot create slot %u (errno %d).",
			 b->slot, -r);
}

static int bind_locked(struct gmem_vm *vm, const struct piece *b, struct gmem_error *error)
{
	const struct news news = {vm, NULL, GMEM_STATE_UNBACKED, GMEM_STATE_SHARED};
	const struct gmem_backend *backend = b->memory->backend;
	int r;

	r = check_free(vm, b, error);
	if (r)
		return r;
	if (reserve(vm))
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, b->gpa, b->offset,
				 "Not enough memory to record slot %u.", b->slot);
	/* What the backend tells KVM must not be about memory that somebody else bound there. */
	r = backend->bind ? try_slot(vm, b) : 0;
	if (r < 0)
		return cannot_create(b, r, error);
	r = gmem_prepare_shared(&news, b, error);
	if (r)
		return r;
	/* Before the slot, which no vCPU then sees in a wrong state. */
	r = backend->bind ? backend->bind(b) : 0;
	if (r < 0) {
		gmem_fail(error, GMEM_STEP_BIND, r, b->gpa, b->offset,
			  "KVM cannot make the memory of slot %u private (errno %d).", b->slot, -r);
		gmem_roll_back(&news, b);
		return r;
	}
	r = set_slot(vm, b, b->bytes, b->memory->fd);
	if (r < 0) {
		cannot_create(b, r, error);
		if (backend->unbind)
			backend->unbind(b);
		gmem_roll_back(&news, b);
		return r;
	}
	gmem_ref(b->memory);
	insert(vm, b);
	gmem_commit(&news, b);
	gmem_log(vm, "bound slot %u: %#llx bytes at %#llx", b->slot, (unsigned long long)b->bytes,
		 (unsigned long long)b->gpa);
	return 0;
}

PUBLIC int gmem_bind(struct gmem *memory, uint32_t slot, uint64_t gpa, uint64_t offset,
		     uint64_t bytes, struct gmem_error *error)
{
	const struct piece b = {gpa, bytes, offset, memory, slot};
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
	r = gmem_begin_work(vm, error);
	if (r)
		return r;
	r = bind_locked(vm, &b, error);
	gmem_end_work(vm);
	return r;
}

static int unbind_locked(struct gmem_vm *vm, size_t i, struct gmem_error *error)
{
	const struct news news = {vm, NULL, GMEM_STATE_SHARED, GMEM_STATE_UNBACKED};
	const struct piece b = vm->bindings[i];
	int r;

	r = gmem_prepare_shared(&news, &b, error);
	if (r)
		return r;
	r = gmem_delete_slot(vm, &b);
	if (r < 0) {
		gmem_fail(error, GMEM_STEP_BIND, r, b.gpa, b.offset,
			  "KVM cannot delete slot %u (errno %d).", b.slot, -r);
		gmem_roll_back(&news, &b);
		return r;
	}
	pthread_rwlock_wrlock(&vm->lock);
	vm->nr_bindings--;
	memmove(&vm->bindings[i], &vm->bindings[i + 1],
		(vm->nr_bindings - i) * sizeof(*vm->bindings));
	b.memory->bound_bytes -= b.bytes;
	pthread_rwlock_unlock(&vm->lock);
	gmem_commit(&news, &b);
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
	r = gmem_begin_work(vm, error);
	if (r)
		return r;
	for (i = 0; i < vm->nr_bindings && vm->bindings[i].slot != slot; i++)
		;
	if (i < vm->nr_bindings)
		r = unbind_locked(vm, i, error);
	else
		r = gmem_fail(error, GMEM_STEP_BIND, -ENOENT, GMEM_NOWHERE, GMEM_NOWHERE,
			      "Slot %u is not bound by this library.", slot);
	gmem_end_work(vm);
	return r;
}
