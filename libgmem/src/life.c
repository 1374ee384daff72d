/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linking memory to another VM, freezing it, cloning it. */
#include "backend.h"

/* Can that be done with this memory at all? */
static int check_life(const struct gmem *memory, const struct gmem_vm *vm, uint64_t cap,
		      uint32_t step, struct gmem_error *error)
{
	const char *why = memory->backend->no_life;

	if (!why)
		why = gmem_vm_why_not(vm, cap);
	if (!why)
		return 0;
	return gmem_fail(error, step, -EOPNOTSUPP, GMEM_NOWHERE, GMEM_NOWHERE, "%s", why);
}

static const char *reason(int r, unsigned long request)
{
	switch (r) {
	case -EINVAL:
		return request == KVM_GMEM_CLONE
			       ? "it is not frozen, or the VMs are of different types"
			       : "the VMs are of different types";
	case -EPERM:
		return "its VM belongs to another process";
	default:
		return "the kernel failed";
	}
}

static int create(struct gmem *from, struct gmem_vm *vm, unsigned long request,
		  struct gmem **ret_memory, struct gmem_error *error)
{
	struct kvm_gmem_link args = {.fd = (uint32_t)from->fd};
	struct gmem *memory;
	int r;

	r = gmem_reserve(vm, from->bytes, from->backend, &memory, error);
	if (r)
		return r;
	r = gmem_ask_fd(vm, request, &args);
	if (r < 0) {
		gmem_fail(error, GMEM_STEP_CREATE, r, GMEM_NOWHERE, GMEM_NOWHERE,
			  "Cannot %s memory: %s (errno %d).",
			  request == KVM_GMEM_CLONE ? "clone" : "link", reason(r, request), -r);
	} else {
		memory->fd = memory->shared_fd = r;
		r = memory->backend->map ? memory->backend->map(memory, error) : 0;
	}
	if (r) {
		gmem_release(memory);
		return r;
	}
	*ret_memory = memory;
	return 0;
}

static int take_over(struct gmem *from, struct gmem_vm *vm, unsigned long request,
		     struct gmem **ret_memory, struct gmem_error *error)
{
	const int cancel = gmem_begin_uncancelled();
	int r = create(from, vm, request, ret_memory, error);

	gmem_end_uncancelled(cancel);
	return r;
}

PUBLIC int gmem_relink(struct gmem *memory, struct gmem_vm *vm, struct gmem **ret_memory,
		       struct gmem_error *error)
{
	int r;

	if (!memory || !vm || !ret_memory || !gmem_error_ok(error))
		return gmem_bad(error, "There is no memory, no VM, or no place for the result.");
	r = check_life(memory, vm, GMEM_CAP_LINK, GMEM_STEP_CREATE, error);
	if (!r)
		r = take_over(memory, vm, KVM_GMEM_LINK, ret_memory, error);
	if (!r)
		gmem_log(vm, "linked %llu bytes", (unsigned long long)memory->bytes);
	return r;
}

PUBLIC int gmem_freeze(struct gmem *memory, struct gmem_error *error)
{
	struct kvm_gmem_freeze args = {0};
	struct gmem_vm *vm;
	uint64_t gpa;
	int r;

	if (!memory || !gmem_error_ok(error))
		return gmem_bad(error, "The memory is NULL.");
	vm = memory->vm;
	r = check_life(memory, vm, GMEM_CAP_CLONE, GMEM_STEP_FREEZE, error);
	if (r)
		return r;
	r = gmem_begin_work(vm, error);
	if (r)
		return r;
	r = vm->sys->ioctl(memory->fd, KVM_GMEM_FREEZE, &args);
	if (r < 0) {
		gpa = gmem_gpa_of(memory, args.error_offset);
		gmem_fail(error, GMEM_STEP_FREEZE, r, gpa, args.error_offset,
			  r == -EOPNOTSUPP  ? "A clone cannot be frozen (errno %d)."
			  : r == -EAGAIN    ? "Cannot freeze memory that is in use (errno %d)."
			  : r == -EHWPOISON ? "Cannot freeze memory that is poisoned (errno %d)."
					    : "Cannot freeze the memory (errno %d).",
			  -r);
	}
	gmem_end_work(vm);
	if (r < 0)
		return r;
	gmem_log(vm, "froze %llu bytes", (unsigned long long)memory->bytes);
	return 0;
}

PUBLIC int gmem_clone(struct gmem *memory, struct gmem_vm *vm, struct gmem **ret_memory,
		      struct gmem_error *error)
{
	int r;

	if (!memory || !vm || !ret_memory || !gmem_error_ok(error))
		return gmem_bad(error, "There is no memory, no VM, or no place for the result.");
	r = check_life(memory, vm, GMEM_CAP_CLONE, GMEM_STEP_CREATE, error);
	if (!r)
		r = take_over(memory, vm, KVM_GMEM_CLONE, ret_memory, error);
	if (!r)
		gmem_log(vm, "cloned %llu bytes", (unsigned long long)memory->bytes);
	return r;
}
