/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory objects: creation, reference counts, mappings. */
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

int gmem_ask_fd(struct gmem_vm *vm, unsigned long request, void *arg)
{
	int fd, r;

	fd = vm->sys->ioctl(vm->fd, request, arg);
	if (fd < 0)
		return fd;
	/* The kernel makes it without. */
	r = vm->sys->set_cloexec(fd);
	if (r < 0) {
		vm->sys->close(fd);
		return r;
	}
	return fd;
}

int gmem_create_fd(struct gmem_vm *vm, uint64_t bytes, uint64_t flags)
{
	struct kvm_create_guest_memfd create = {.size = bytes, .flags = flags};

	return gmem_ask_fd(vm, KVM_CREATE_GUEST_MEMFD, &create);
}

static const struct {
	uint64_t cap;
	const char *name;
} modes[] = {
	[GMEM_MODE_INPLACE] = {GMEM_CAP_INPLACE, "in-place"},
	[GMEM_MODE_DUAL] = {GMEM_CAP_DUAL, "dual"},
	[GMEM_MODE_SHARED] = {GMEM_CAP_SHARED, "shared"},
};

static int choose_mode(const struct gmem_vm *vm, struct gmem_options *opt, struct gmem_error *error)
{
	if (opt->mode == GMEM_MODE_AUTO) {
		if (gmem_vm_mode(vm, &opt->mode))
			return gmem_fail(error, GMEM_STEP_CREATE, -EOPNOTSUPP, GMEM_NOWHERE,
					 GMEM_NOWHERE, "%s", vm->why_not[2]);
		/* Not shared where private was asked for: that would be to pretend. */
		if (opt->mode == GMEM_MODE_SHARED && opt->initial == GMEM_STATE_PRIVATE)
			return gmem_fail(error, GMEM_STEP_CREATE, -EOPNOTSUPP, GMEM_NOWHERE,
					 GMEM_NOWHERE, "%s", gmem_vm_why_not(vm, GMEM_CAP_PRIVATE));
	} else if (!(vm->caps & modes[opt->mode].cap)) {
		return gmem_fail(error, GMEM_STEP_CREATE, -EOPNOTSUPP, GMEM_NOWHERE, GMEM_NOWHERE,
				 "%s", gmem_vm_why_not(vm, modes[opt->mode].cap));
	} else if (opt->mode == GMEM_MODE_SHARED && opt->initial == GMEM_STATE_PRIVATE) {
		return gmem_bad(error, "Memory cannot be private in shared mode.");
	}
	if (!opt->initial)
		opt->initial =
			opt->mode == GMEM_MODE_SHARED ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE;
	return 0;
}

/* The maps that conversions need, so that these need not allocate. */
static int reserve_maps(struct gmem *memory)
{
	const struct gmem_sys *sys = memory->vm->sys;
	size_t words = gmem_bitmap_words(gmem_pages(memory));

	if (memory->mode == GMEM_MODE_SHARED)
		return 0;
	memory->plan = sys->alloc(words, sizeof(long));
	if (!memory->plan)
		return -ENOMEM;
	if (memory->mode != GMEM_MODE_DUAL)
		return 0;
	memory->private = sys->alloc(words, sizeof(long));
	memory->residue = sys->alloc(words, sizeof(long));
	return memory->private && memory->residue ? 0 : -ENOMEM;
}

void gmem_release(struct gmem *memory)
{
	struct gmem_vm *vm = memory->vm;
	const struct gmem_sys *sys = vm->sys;

	if (memory->map)
		sys->munmap(memory->map, memory->bytes);
	if (memory->shared_fd >= 0 && memory->shared_fd != memory->fd)
		sys->close(memory->shared_fd);
	if (memory->fd >= 0)
		sys->close(memory->fd);
	sys->release(memory->plan);
	sys->release(memory->private);
	sys->release(memory->residue);
	sys->release(memory);
	gmem_vm_put(vm);
}

static int advise(const struct gmem_sys *sys, void *address, size_t bytes, uint64_t flags)
{
	int r = 0;

	if (flags & GMEM_MAP_DONTDUMP)
		r = sys->madvise(address, bytes, MADV_DONTDUMP);
	if (r >= 0 && flags & GMEM_MAP_DONTFORK)
		r = sys->madvise(address, bytes, MADV_DONTFORK);
	return r;
}

int gmem_map_for_slots(struct gmem *memory, struct gmem_error *error)
{
	const struct gmem_sys *sys = memory->vm->sys;
	int r;

	/* In place there is no address that slots could need. */
	if (memory->mode == GMEM_MODE_INPLACE)
		return 0;
	r = sys->mmap(memory->shared_fd, 0, memory->bytes, PROT_READ | PROT_WRITE, &memory->map);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_MAP, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot map %llu bytes for the slots (errno %d).",
				 (unsigned long long)memory->bytes, -r);
	/* Whether guest memory is dumped and inherited is for gmem_map() to say. */
	r = advise(sys, memory->map, memory->bytes, GMEM_MAP_DONTDUMP | GMEM_MAP_DONTFORK);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_MAP, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot set MADV_DONTDUMP and MADV_DONTFORK (errno %d).", -r);
	return 0;
}

static int create(struct gmem *memory, uint32_t initial, struct gmem_error *error)
{
	const struct gmem_sys *sys = memory->vm->sys;
	uint64_t flags = 0;
	int r;

	if (memory->mode != GMEM_MODE_DUAL) {
		flags = GUEST_MEMFD_FLAG_MMAP;
		if (initial == GMEM_STATE_SHARED)
			flags |= GUEST_MEMFD_FLAG_INIT_SHARED;
	}
	r = gmem_create_fd(memory->vm, memory->bytes, flags);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_CREATE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot create a guest_memfd of %llu bytes (errno %d).",
				 (unsigned long long)memory->bytes, -r);
	memory->fd = memory->shared_fd = r;
	if (memory->mode == GMEM_MODE_DUAL) {
		memory->shared_fd = r = sys->memfd_create("gmem-shared");
		if (r >= 0)
			r = sys->ftruncate(memory->shared_fd, memory->bytes);
		if (r < 0)
			return gmem_fail(error, GMEM_STEP_CREATE, r, GMEM_NOWHERE, GMEM_NOWHERE,
					 "Cannot create a memfd of %llu bytes (errno %d).",
					 (unsigned long long)memory->bytes, -r);
		if (initial == GMEM_STATE_PRIVATE)
			gmem_bitmap_fill(memory->private, 0, gmem_pages(memory), true);
	}
	return gmem_map_for_slots(memory, error);
}

int gmem_reserve(struct gmem_vm *vm, uint64_t bytes, uint32_t mode, struct gmem **ret_memory,
		 struct gmem_error *error)
{
	struct gmem *memory = vm->sys->alloc(1, sizeof(*memory));

	if (!memory)
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Not enough memory for a memory object.");
	memory->vm = vm;
	memory->bytes = bytes;
	memory->mode = mode;
	memory->fd = memory->shared_fd = -1;
	atomic_init(&memory->refs, 1);
	atomic_fetch_add_explicit(&vm->refs, 1, memory_order_relaxed);
	if (reserve_maps(memory)) {
		gmem_release(memory);
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Not enough memory for the maps of %llu bytes.",
				 (unsigned long long)bytes);
	}
	*ret_memory = memory;
	return 0;
}

PUBLIC int gmem_new(struct gmem_vm *vm, uint64_t bytes, const struct gmem_options *options,
		    struct gmem **ret_memory, struct gmem_error *error)
{
	struct gmem_options opt = GMEM_OPTIONS_INIT;
	struct gmem *memory;
	int r;

	if (!vm || !ret_memory || !gmem_error_ok(error))
		return gmem_bad(error, "The VM or the pointer to the result is NULL.");
	if (options) {
		r = gmem_copy_in(&opt, sizeof(opt), sizeof(opt), options);
		if (r)
			return gmem_fail(
				error, GMEM_STEP_ARGUMENTS, r, GMEM_NOWHERE, GMEM_NOWHERE,
				"The size of the options, or what follows them, is invalid.");
	}
	if (opt.flags)
		return gmem_bad(error, "Unknown flags %#llx.", (unsigned long long)opt.flags);
	if (opt.mode > GMEM_MODE_SHARED)
		return gmem_bad(error, "Mode %u does not exist.", opt.mode);
	if (opt.initial > GMEM_STATE_PRIVATE)
		return gmem_bad(error, "%u is not a valid initial state.", opt.initial);
	if (!bytes || bytes % vm->page || bytes > INT64_MAX || (size_t)bytes != bytes)
		return gmem_bad(error, "%llu bytes are not a multiple of the page size.",
				(unsigned long long)bytes);
	r = choose_mode(vm, &opt, error);
	if (r)
		return r;

	r = gmem_reserve(vm, bytes, opt.mode, &memory, error);
	if (r)
		return r;
	r = create(memory, opt.initial, error);
	if (r) {
		gmem_release(memory);
		return r;
	}
	gmem_log(vm, "created %llu bytes, %s mode, initially %s", (unsigned long long)bytes,
		 modes[memory->mode].name,
		 opt.initial == GMEM_STATE_PRIVATE ? "private" : "shared");
	*ret_memory = memory;
	return 0;
}

PUBLIC struct gmem *gmem_ref(struct gmem *memory)
{
	if (memory)
		atomic_fetch_add_explicit(&memory->refs, 1, memory_order_relaxed);
	return memory;
}

PUBLIC struct gmem *gmem_unref(struct gmem *memory)
{
	if (memory && atomic_fetch_sub_explicit(&memory->refs, 1, memory_order_acq_rel) == 1)
		gmem_release(memory);
	return NULL;
}

PUBLIC uint64_t gmem_size(const struct gmem *memory)
{
	return memory ? memory->bytes : 0;
}

PUBLIC uint32_t gmem_mode(const struct gmem *memory)
{
	return memory ? memory->mode : GMEM_MODE_AUTO;
}

PUBLIC int gmem_fd(const struct gmem *memory)
{
	return memory ? memory->fd : -EINVAL;
}

PUBLIC int gmem_shared_fd(const struct gmem *memory)
{
	return memory ? memory->shared_fd : -EINVAL;
}

uint64_t gmem_pages(const struct gmem *memory)
{
	return memory->bytes / memory->vm->page;
}

int gmem_check_range(const struct gmem *memory, uint64_t offset, uint64_t bytes,
		     struct gmem_error *error)
{
	if (!memory || !gmem_error_ok(error))
		return gmem_bad(error, "The memory is NULL.");
	if (!bytes || offset % memory->vm->page || bytes % memory->vm->page)
		return gmem_bad(error, "%llu bytes at %#llx are not a range of whole pages.",
				(unsigned long long)bytes, (unsigned long long)offset);
	if (offset > memory->bytes || bytes > memory->bytes - offset)
		return gmem_bad(error,
				"%#llx bytes at %#llx end beyond the memory, which has %#llx.",
				(unsigned long long)bytes, (unsigned long long)offset,
				(unsigned long long)memory->bytes);
	return 0;
}

PUBLIC int gmem_map(struct gmem *memory, uint64_t offset, uint64_t bytes, uint64_t flags,
		    void **ret_address, struct gmem_error *error)
{
	int prot = PROT_READ | PROT_WRITE, r;
	const struct gmem_sys *sys;
	void *address;

	r = gmem_check_range(memory, offset, bytes, error);
	if (r)
		return r;
	if (!ret_address)
		return gmem_bad(error, "The pointer to the address is NULL.");
	if (flags & ~(GMEM_MAP_READONLY | GMEM_MAP_DONTDUMP | GMEM_MAP_DONTFORK))
		return gmem_bad(error, "Unknown flags %#llx.", (unsigned long long)flags);
	sys = memory->vm->sys;
	if (flags & GMEM_MAP_READONLY)
		prot = PROT_READ;
	r = sys->mmap(memory->shared_fd, offset, bytes, prot, &address);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_MAP, r, GMEM_NOWHERE, offset,
				 "Cannot map %#llx bytes at %#llx (errno %d).",
				 (unsigned long long)bytes, (unsigned long long)offset, -r);
	r = advise(sys, address, bytes, flags);
	if (r < 0) {
		sys->munmap(address, bytes);
		return gmem_fail(error, GMEM_STEP_MAP, r, GMEM_NOWHERE, offset,
				 "Cannot set MADV_DONTDUMP or MADV_DONTFORK (errno %d).", -r);
	}
	*ret_address = address;
	return 0;
}

PUBLIC int gmem_unmap(void *address, uint64_t bytes)
{
	if (!address || !bytes || (size_t)bytes != bytes)
		return -EINVAL;
	return gmem_sys_real.munmap(address, bytes);
}
