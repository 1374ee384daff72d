/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vCPU exits for conversions and memory faults. */
#include "backend.h"

/* From linux/kvm_para.h, of which only x86 has all. */
#define HC_MAP_GPA_RANGE 12
#define MAP_GPA_RANGE_ENCRYPTED (UINT64_C(1) << 4)

static bool is_request(const struct kvm_run *run, int run_result)
{
	return run->exit_reason == KVM_EXIT_HYPERCALL && !run_result &&
	       run->hypercall.nr == HC_MAP_GPA_RANGE;
}

static uint32_t classify_hypercall(const struct gmem_vm *vm, const struct kvm_run *run,
				   struct gmem_exit *e)
{
	const uint64_t gpa = run->hypercall.args[0], pages = run->hypercall.args[1];

	e->flags = GMEM_EXIT_HYPERCALL;
	/* The lower bits are a hint about the size of pages. */
	e->state = run->hypercall.args[2] & MAP_GPA_RANGE_ENCRYPTED ? GMEM_STATE_PRIVATE
								    : GMEM_STATE_SHARED;
	e->gpa = gpa;
	if (!pages || gpa & (vm->page - 1) || pages > (UINT64_MAX - gpa) / vm->page) {
		e->bytes = 0;
		return GMEM_EXIT_INVALID;
	}
	e->bytes = pages * vm->page;
	return GMEM_EXIT_CONVERT;
}

/* Whether all of the fault is backed, and in the state that was asked for. */
static int classify_fault(struct gmem_vm *vm, const struct kvm_run *run, int run_result,
			  struct gmem_exit *e)
{
	const uint64_t mask = vm->page - 1;
	const uint64_t gpa = run->memory_fault.gpa, last = gpa + run->memory_fault.size - 1;
	uint64_t run_end;
	const struct piece *b;
	uint32_t state;
	size_t i;
	int r;

	e->state = run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE ? GMEM_STATE_PRIVATE
									  : GMEM_STATE_SHARED;
	e->gpa = gpa & ~mask;
	e->bytes = (last & ~mask) - e->gpa + vm->page;
	if (!run->memory_fault.size || last < gpa || !e->bytes) {
		e->kind = GMEM_EXIT_INVALID;
		return 0;
	}
	if (run_result == -EHWPOISON) {
		e->kind = GMEM_EXIT_POISON;
		return 0;
	}
	pthread_rwlock_rdlock(&vm->lock);
	i = gmem_find_binding(vm, e->gpa);
	b = i < vm->nr_bindings ? &vm->bindings[i] : NULL;
	if (!b || b->gpa > e->gpa) {
		e->kind = GMEM_EXIT_UNBACKED;
		r = 0;
	} else if (!b->memory->backend->guest_accesses_ask) {
		/*
		 * The guest reaches such memory whatever its state is, and its accesses
		 * carry none: the flag means nothing. To follow it would let any fault
		 * that fails open private memory to the host.
		 */
		e->kind = GMEM_EXIT_AGAIN;
		r = 0;
	} else {
		const uint64_t in = e->gpa - b->gpa, offset = b->offset + in;
		const uint64_t end = offset + (e->bytes < b->bytes - in ? e->bytes : b->bytes - in);

		r = gmem_run_at(b->memory, offset, end, &state, &run_end);
		/* The flag says what was asked for, not what has to be done. */
		e->kind = state == e->state && run_end == end ? GMEM_EXIT_AGAIN : GMEM_EXIT_CONVERT;
	}
	pthread_rwlock_unlock(&vm->lock);
	return r;
}

/*
 * The same fault many times in a row, with nothing to be done about it.
 * Conversions are progress: two vCPUs may want a page in turn.
 */
static void guard(const struct gmem_exit *before, struct gmem_exit *e)
{
	if (e->kind != GMEM_EXIT_AGAIN)
		return;
	if (before->last_gpa == e->gpa && before->last_bytes == e->bytes &&
	    before->last_state == e->state)
		e->repeats = before->repeats + 1;
	e->last_gpa = e->gpa;
	e->last_bytes = e->bytes;
	e->last_state = e->state;
	if (e->repeats >= GMEM_EXIT_REPEATS)
		e->kind = GMEM_EXIT_STUCK;
}

PUBLIC int gmem_exit_decode(struct gmem_vm *vm, const struct kvm_run *run, int run_result,
			    struct gmem_exit *exit)
{
	struct gmem_exit before, e = GMEM_EXIT_INIT;
	int r;

	if (!vm || !run || run_result > 0 || gmem_check_out(exit, GMEM_EXIT_1_0) ||
	    gmem_copy_in(&before, sizeof(before), GMEM_EXIT_1_0, exit))
		return -EINVAL;
	/* KVM leaves what it knows of a fault there for other errors too. */
	if (run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
	    (run_result == -EFAULT || run_result == -EHWPOISON)) {
		r = classify_fault(vm, run, run_result, &e);
		if (r < 0)
			return r;
		guard(&before, &e);
	} else if (is_request(run, run_result)) {
		e.kind = classify_hypercall(vm, run, &e);
	}
	gmem_copy_out(exit, &e, sizeof(e));
	return 0;
}

/*
 * What a guest is told: hypercalls have errors of their own, those of linux/kvm_para.h, which
 * is not on every architecture. They have the numbers of the errnos here.
 */
__attribute__((noinline)) static int guest_error(int result)
{
	switch (result) {
	case -EPERM:
	case -E2BIG:
	case -EFAULT:
	case -EINVAL:
	case -EOPNOTSUPP:
		return result;
	case -EHWPOISON:
		return -EFAULT;
	default:
		return -EPERM;
	}
}

static void complete(struct kvm_run *run, struct gmem_exit *exit, int result)
{
	exit->result = result;
	if (!(exit->flags & GMEM_EXIT_HYPERCALL))
		return;
	if (result)
		result = guest_error(result);
	run->hypercall.ret = (uint64_t)(int64_t)result;
}

PUBLIC int gmem_exit_complete(struct kvm_run *run, struct gmem_exit *exit, int result)
{
	if (!run || result > 0 || gmem_check_out(exit, GMEM_EXIT_1_0))
		return -EINVAL;
	complete(run, exit, result);
	return 0;
}

static int refuse(struct gmem_error *error, int r, const struct gmem_exit *exit, const char *why)
{
	return gmem_fail(error, GMEM_STEP_EXIT, r, exit->gpa, GMEM_NOWHERE, "%s at %#llx.", why,
			 (unsigned long long)exit->gpa);
}

/* What was decoded is a range of pages, and the guest chose the state and the addresses. */
static inline int convert(struct gmem_vm *vm, const struct gmem_exit *exit,
			  const struct gmem_convert_options *options, struct gmem_error *error)
{
	static const struct gmem_convert_options none = {sizeof(none), GMEM_CONVERT_BACKED, 0, 0,
							 0};
	const struct gmem_convert_options *opt = &none;
	struct gmem_convert_options copy;
	int r;

	if (options) {
		r = gmem_copy_options(&copy, options, error);
		if (r)
			return r;
		copy.flags |= GMEM_CONVERT_BACKED;
		if (exit->state == GMEM_STATE_PRIVATE)
			copy.flags &= ~GMEM_CONVERT_ZERO;
		opt = &copy;
	}
	return gmem_convert_range(vm, NULL, exit->gpa, exit->gpa + exit->bytes, exit->state, opt,
				  NULL, error);
}

PUBLIC int gmem_exit_handle(struct gmem_vm *vm, struct kvm_run *run, int run_result,
			    struct gmem_exit *exit, const struct gmem_convert_options *options,
			    struct gmem_error *error)
{
	int r;

	if (!gmem_error_ok(error))
		return -EINVAL;
	if (vm && run && exit && exit->size == sizeof(*exit) && is_request(run, run_result)) {
		/* The most frequent one, straight: no copies. */
		exit->last_bytes = 0; /* no fault that could repeat */
		exit->repeats = 0;
		exit->kind = classify_hypercall(vm, run, exit);
		r = 0;
	} else {
		r = gmem_exit_decode(vm, run, run_result, exit);
	}
	if (r == -EINVAL)
		return gmem_bad(
			error,
			"The VM, the run or the exit is NULL, the exit has an invalid size, or the "
			"result of KVM_RUN is positive.");
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_QUERY, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "The kernel does not report what is private (errno %d).", -r);
	switch (exit->kind) {
	case GMEM_EXIT_CONVERT:
		r = convert(vm, exit, options, error);
		break;
	case GMEM_EXIT_OTHER:
		return 1;
	case GMEM_EXIT_AGAIN:
		/* A conversion that is under way may be behind it: let that end. */
		if (exit->repeats && !gmem_begin_change(vm, NULL))
			gmem_end_change(vm);
		return 0;
	case GMEM_EXIT_UNBACKED:
		return refuse(error, -EFAULT, exit,
			      "The guest accessed an address without memory,");
	case GMEM_EXIT_POISON:
		return refuse(error, -EHWPOISON, exit, "The guest accessed a poisoned page,");
	case GMEM_EXIT_STUCK:
		return refuse(error, -ELOOP, exit, "The guest faults repeatedly without progress");
	default:
		r = refuse(error, -EINVAL, exit, "The guest requests an invalid range,");
	}
	complete(run, exit, r);
	/* A guest that asked has its answer; one that touched memory would do so
	 * again. */
	return exit->flags & GMEM_EXIT_HYPERCALL ? 0 : r;
}
