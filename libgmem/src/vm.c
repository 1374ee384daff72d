/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The context of a VM. */
#include <stdarg.h>
#include <stdio.h>

#include "backend.h"

PUBLIC void gmem_version(unsigned int *ret_major, unsigned int *ret_minor)
{
	if (ret_major)
		*ret_major = GMEM_VERSION_MAJOR;
	if (ret_minor)
		*ret_minor = GMEM_VERSION_MINOR;
}

/*
 * glibc's lock lets lookers in as long as there are some, and who wants to change something may
 * wait for ever. So whoever waits for the lookers keeps further ones out. No looker takes the
 * lock twice, as it would then wait for itself. Changers do not keep lookers out for ever:
 * there is one at a time, and only some of its work is under the lock.
 */
static int init_lock(struct gmem_vm *vm)
{
	pthread_rwlockattr_t attributes;
	int r;

	r = pthread_rwlockattr_init(&attributes);
	if (r)
		return r;
#ifdef __GLIBC__
	r = pthread_rwlockattr_setkind_np(&attributes,
					  PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
	if (!r)
		r = pthread_rwlock_init(&vm->lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	return r;
}

static int init_locks(struct gmem_vm *vm)
{
	int r;

	if (sem_init(&vm->change, 0, 1))
		return -errno;
	r = init_lock(vm);
	if (r)
		sem_destroy(&vm->change);
	return -r;
}

static int create(int vm_fd, const struct gmem_vm_options *opt, struct gmem_vm **ret_vm,
		  struct gmem_error *error, const struct gmem_sys *sys)
{
	struct gmem_vm *vm;
	int r;

	vm = sys->alloc(1, sizeof(*vm));
	if (!vm)
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Not enough memory for the context.");
	vm->sys = sys;
	vm->fd = vm_fd;
	atomic_init(&vm->refs, 1);
	r = init_locks(vm);
	if (r) {
		sys->release(vm);
		return gmem_fail(error, GMEM_STEP_RESERVE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot create the locks of the context.");
	}

	r = gmem_probe(vm, error);
	if (!r && opt->flags & GMEM_VM_MAP_GPA_RANGE) {
		struct kvm_enable_cap cap = {
			.cap = KVM_CAP_EXIT_HYPERCALL,
			.args = {UINT64_C(1) << 12 /* KVM_HC_MAP_GPA_RANGE */},
		};

		if (!(vm->caps & GMEM_CAP_MAP_GPA_RANGE))
			r = gmem_fail(error, GMEM_STEP_PROBE, -EOPNOTSUPP, GMEM_NOWHERE,
				      GMEM_NOWHERE, "%s",
				      gmem_vm_why_not(vm, GMEM_CAP_MAP_GPA_RANGE));
		else {
			r = sys->ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
			if (r < 0)
				gmem_fail(error, GMEM_STEP_PROBE, r, GMEM_NOWHERE, GMEM_NOWHERE,
					  "KVM cannot exit for the guest's requests (errno %d).",
					  -r);
		}
	}
	if (r < 0) {
		gmem_vm_put(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

int gmem_vm_new_sys(int vm_fd, const struct gmem_vm_options *options, struct gmem_vm **ret_vm,
		    struct gmem_error *error, const struct gmem_sys *sys)
{
	struct gmem_vm_options opt = GMEM_VM_OPTIONS_INIT;
	int cancel, r;

	if (!gmem_error_ok(error) || !ret_vm)
		return gmem_bad(error, "The pointer to the result is NULL.");
	if (vm_fd < 0)
		return gmem_bad(error, "%d is not a descriptor of a VM.", vm_fd);
	r = gmem_take_options(&opt, sizeof(opt), GMEM_VM_OPTIONS_1_0, options, error);
	if (r)
		return r;
	if (opt.flags & ~GMEM_VM_MAP_GPA_RANGE)
		return gmem_bad(error, "Unknown flags %#llx.", (unsigned long long)opt.flags);

	cancel = gmem_begin_uncancelled();
	r = create(vm_fd, &opt, ret_vm, error, sys);
	gmem_end_uncancelled(cancel);
	return r;
}

PUBLIC int gmem_vm_new(int vm_fd, const struct gmem_vm_options *options, struct gmem_vm **ret_vm,
		       struct gmem_error *error)
{
	return gmem_vm_new_sys(vm_fd, options, ret_vm, error, &gmem_sys_real);
}

void gmem_vm_put(struct gmem_vm *vm)
{
	const struct gmem_sys *sys = vm->sys;

	if (atomic_fetch_sub_explicit(&vm->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_rwlock_destroy(&vm->lock);
	sem_destroy(&vm->change);
	sys->release(vm);
}

/*
 * KVM goes through the address of a slot, whatever is mapped there: the slot goes before the
 * mapping does. If it does not go, the mapping stays.
 */
static void drop(struct gmem_vm *vm, const struct piece *b)
{
	struct gmem *memory = b->memory;

	if (memory->map && gmem_delete_slot(vm, b) < 0)
		memory->map = NULL;
	gmem_unref(memory);
}

PUBLIC void gmem_vm_free(struct gmem_vm *vm)
{
	struct gmem_listener *listener, *next;
	int cancel;
	size_t i;

	if (!vm)
		return;
	cancel = gmem_begin_uncancelled();
	for (listener = vm->first; listener; listener = next) {
		next = listener->next;
		vm->sys->release(listener);
	}
	vm->first = vm->last = NULL;
	for (i = 0; i < vm->nr_bindings; i++)
		drop(vm, &vm->bindings[i]);
	vm->nr_bindings = 0;
	vm->sys->release(vm->bindings);
	vm->bindings = NULL;
	gmem_vm_put(vm);
	gmem_end_uncancelled(cancel);
}

PUBLIC int gmem_vm_caps(const struct gmem_vm *vm, uint64_t *ret_caps)
{
	if (!vm || !ret_caps)
		return -EINVAL;
	*ret_caps = vm->caps;
	return 0;
}

PUBLIC const char *gmem_vm_why_not(const struct gmem_vm *vm, uint64_t cap)
{
	if (!vm || !cap || cap & (cap - 1) || cap >> GMEM_NR_CAPS || vm->caps & cap)
		return NULL;
	return vm->why_not[__builtin_ctzll(cap)];
}

PUBLIC int gmem_vm_mode(const struct gmem_vm *vm, uint32_t *ret_mode)
{
	const struct gmem_backend *backend;

	if (!vm || !ret_mode)
		return -EINVAL;
	backend = gmem_auto_backend(vm, 0, false);
	if (!backend)
		return -EOPNOTSUPP;
	*ret_mode = backend->mode;
	return 0;
}

PUBLIC int gmem_set_log(struct gmem_vm *vm, gmem_log_fn log, void *data)
{
	if (!vm)
		return -EINVAL;
	vm->log = log;
	vm->log_data = data;
	return 0;
}

void gmem_log(const struct gmem_vm *vm, const char *format, ...)
{
	char message[256];
	va_list args;
	int cancel;

	if (!vm->log)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	cancel = gmem_begin_uncancelled();
	vm->log(vm->log_data, message);
	gmem_end_uncancelled(cancel);
}

/* sem_wait() is a cancellation point, and no function of the library is one. */
void gmem_wait_for_change(struct gmem_vm *vm)
{
	const int cancel = gmem_begin_uncancelled();

	while (sem_wait(&vm->change))
		; /* a signal came */
	gmem_end_uncancelled(cancel);
}

int gmem_cannot_change(struct gmem_error *error)
{
	return gmem_fail(error, GMEM_STEP_ARGUMENTS, -EDEADLK, GMEM_NOWHERE, GMEM_NOWHERE,
			 "A callback of this VM must not change the VM or its memory.");
}
