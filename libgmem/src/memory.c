/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory objects: creation, reference counts, mappings. */
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"

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

/* In the order in which AUTO tries them. */
static const struct gmem_backend *const backends[] = {
	&gmem_inplace, &gmem_attributes, &gmem_dual, &gmem_shared, &gmem_plain,
};

#define NR_BACKENDS (sizeof(backends) / sizeof(backends[0]))

const struct gmem_backend *gmem_backend_of(uint32_t mode)
{
	size_t i;

	for (i = 0; i < NR_BACKENDS; i++)
		if (backends[i]->mode == mode)
			return backends[i];
	return NULL;
}

/* Memory that cannot be private is not what private memory, or a VM that is for it, gets. */
static bool suits(const struct gmem_vm *vm, const struct gmem_backend *backend, uint32_t initial,
		  bool huge)
{
	if (huge && !backend->huge_pages)
		return false;
	if (backend->convert || initial == GMEM_STATE_SHARED)
		return true;
	return !initial && !vm->for_private && !backend->only_asked_for;
}

const struct gmem_backend *gmem_auto_backend(const struct gmem_vm *vm, uint32_t initial, bool huge)
{
	size_t i;

	for (i = 0; i < NR_BACKENDS; i++)
		if (vm->caps & backends[i]->cap && suits(vm, backends[i], initial, huge))
			return backends[i];
	return NULL;
}

static int cannot(struct gmem_error *error, const char *why, const char *more)
{
	return gmem_fail(error, GMEM_STEP_CREATE, -EOPNOTSUPP, GMEM_NOWHERE, GMEM_NOWHERE, "%s%s",
			 why, more);
}

/* What AUTO found nothing for. */
static int cannot_auto(const struct gmem_vm *vm, const struct gmem_options *opt,
		       struct gmem_error *error)
{
	const bool private = opt->initial == GMEM_STATE_PRIVATE || vm->for_private;

	if (opt->huge_page)
		return cannot(error, "Memory of huge pages cannot be private.",
			      opt->initial ? "" : " Shared memory has to be asked for.");
	return cannot(error,
		      gmem_vm_why_not(vm, private || vm->caps & GMEM_CAP_SHARED ? GMEM_CAP_PRIVATE
										: GMEM_CAP_SHARED),
		      opt->initial ? "" : " Shared memory has to be asked for.");
}

static int choose(const struct gmem_vm *vm, struct gmem_options *opt,
		  const struct gmem_backend **ret_backend, struct gmem_error *error)
{
	const struct gmem_backend *backend = gmem_backend_of(opt->mode);

	if (opt->mode == GMEM_MODE_AUTO) {
		backend = gmem_auto_backend(vm, opt->initial, opt->huge_page);
		if (!backend)
			return cannot_auto(vm, opt, error);
	} else if (!backend) {
		return gmem_bad(error, "Mode %u does not exist.", opt->mode);
	} else if (!(vm->caps & backend->cap)) {
		return cannot(error, gmem_vm_why_not(vm, backend->cap), "");
	} else if (opt->huge_page && !backend->huge_pages) {
		return gmem_fail(error, GMEM_STEP_CREATE, -EOPNOTSUPP, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Memory in %s mode has no huge pages.", backend->name);
	} else if (!backend->convert && opt->initial == GMEM_STATE_PRIVATE) {
		return gmem_bad(error, "Memory cannot be private in %s mode.", backend->name);
	}
	if (!opt->initial)
		opt->initial = backend->convert ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED;
	*ret_backend = backend;
	return 0;
}

void gmem_release(struct gmem *memory)
{
	struct gmem_vm *vm = memory->vm;
	const struct gmem_sys *sys = vm->sys;
	const int cancel = gmem_begin_uncancelled();

	if (memory->map)
		sys->munmap(memory->map, memory->bytes);
	if (memory->shared_fd >= 0 && memory->shared_fd != memory->fd)
		sys->close(memory->shared_fd);
	if (memory->fd >= 0)
		sys->close(memory->fd);
	gmem_notes_release(memory);
	sys->release(memory);
	gmem_vm_put(vm);
	gmem_end_uncancelled(cancel);
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

	r = sys->mmap(memory->shared_fd, 0, memory->bytes, PROT_READ | PROT_WRITE, &memory->map);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_MAP, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 memory->page != memory->vm->page && r == -ENOMEM
					 ? "Cannot map %llu bytes for the slots (errno %d): the "
					   "kernel has not that many free huge pages."
					 : "Cannot map %llu bytes for the slots (errno %d).",
				 (unsigned long long)memory->bytes, -r);
	/* Whether guest memory is dumped and inherited is for gmem_map() to say. */
	r = advise(sys, memory->map, memory->bytes, GMEM_MAP_DONTDUMP | GMEM_MAP_DONTFORK);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_MAP, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot set MADV_DONTDUMP and MADV_DONTFORK (errno %d).", -r);
	return 0;
}

int gmem_create_guest_memfd(struct gmem *memory, uint64_t flags, struct gmem_error *error)
{
	int r = gmem_create_fd(memory->vm, memory->bytes, flags);

	if (r < 0)
		return gmem_fail(error, GMEM_STEP_CREATE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot create a guest_memfd of %llu bytes (errno %d).",
				 (unsigned long long)memory->bytes, -r);
	memory->fd = memory->shared_fd = r;
	return 0;
}

/* The flags of memfd_create() for pages of a size, which have its logarithm. */
static unsigned int huge_flags(uint64_t page)
{
	return MFD_HUGETLB | (unsigned int)__builtin_ctzll(page) << MFD_HUGE_SHIFT;
}

int gmem_create_memfd(struct gmem *memory, struct gmem_error *error)
{
	const struct gmem_sys *sys = memory->vm->sys;
	const bool huge = memory->page != memory->vm->page;
	int r;

	memory->shared_fd = r = sys->memfd_create(
		"gmem-shared", MFD_ALLOW_SEALING | (huge ? huge_flags(memory->page) : 0));
	if (r >= 0)
		r = sys->ftruncate(memory->shared_fd, memory->bytes);
	/*
	 * Processes that are given the descriptor may be wrong, or hostile. One that shrinks
	 * the file would end the VMM by SIGBUS, and a seal against writing keeps pages from
	 * being freed.
	 */
	if (r >= 0)
		r = sys->add_seals(memory->shared_fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_CREATE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot create a memfd of %llu bytes in pages of %llu "
				 "(errno %d).",
				 (unsigned long long)memory->bytes,
				 (unsigned long long)memory->page, -r);
	return 0;
}

int gmem_reserve(struct gmem_vm *vm, uint64_t bytes, const struct gmem_backend *backend,
		 struct gmem **ret_memory, struct gmem_error *error)
{
	struct gmem *memory = vm->sys->alloc(1, sizeof(*memory));

	if (!memory)
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Not enough memory for a memory object.");
	memory->vm = vm;
	memory->bytes = bytes;
	memory->backend = backend;
	memory->page = vm->page;
	memory->fd = memory->shared_fd = -1;
	atomic_init(&memory->refs, 1);
	atomic_fetch_add_explicit(&vm->refs, 1, memory_order_relaxed);
	if (gmem_notes_reserve(memory)) {
		gmem_release(memory);
		return gmem_fail(error, GMEM_STEP_RESERVE, -ENOMEM, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Not enough memory for the maps of %llu bytes.",
				 (unsigned long long)bytes);
	}
	*ret_memory = memory;
	return 0;
}

static int create(struct gmem_vm *vm, uint64_t bytes, const struct gmem_backend *backend,
		  const struct gmem_options *opt, struct gmem **ret_memory,
		  struct gmem_error *error)
{
	struct gmem *memory;
	int r;

	r = gmem_reserve(vm, bytes, backend, &memory, error);
	if (r)
		return r;
	if (opt->huge_page)
		memory->page = opt->huge_page;
	r = backend->create(memory, opt->initial, error);
	if (!r && backend->map)
		r = backend->map(memory, error);
	if (r) {
		gmem_release(memory);
		return r;
	}
	gmem_log(vm, "created %llu bytes, %s mode, initially %s", (unsigned long long)bytes,
		 backend->name, opt->initial == GMEM_STATE_PRIVATE ? "private" : "shared");
	*ret_memory = memory;
	return 0;
}

PUBLIC int gmem_new(struct gmem_vm *vm, uint64_t bytes, const struct gmem_options *options,
		    struct gmem **ret_memory, struct gmem_error *error)
{
	struct gmem_options opt = GMEM_OPTIONS_INIT;
	const struct gmem_backend *backend = NULL;
	int cancel, r;

	if (!vm || !ret_memory || !gmem_error_ok(error))
		return gmem_bad(error, "The VM or the pointer to the result is NULL.");
	r = gmem_take_options(&opt, sizeof(opt), GMEM_OPTIONS_1_0, options, error);
	if (r)
		return r;
	if (opt.huge_page && (opt.huge_page < vm->page || opt.huge_page & (opt.huge_page - 1)))
		return gmem_bad(error, "%llu bytes are not the size of a page.",
				(unsigned long long)opt.huge_page);
	if (opt.flags)
		return gmem_bad(error, "Unknown flags %#llx.", (unsigned long long)opt.flags);
	if (opt.initial > GMEM_STATE_PRIVATE)
		return gmem_bad(error, "%u is not a valid initial state.", opt.initial);
	if (!bytes)
		return gmem_bad(error, "Memory of 0 bytes cannot be created.");
	if (bytes % (opt.huge_page ? opt.huge_page : vm->page))
		return gmem_bad(error, "%llu bytes are not a multiple of the page size, %llu.",
				(unsigned long long)bytes,
				(unsigned long long)(opt.huge_page ? opt.huge_page : vm->page));
	if (bytes > INT64_MAX)
		return gmem_bad(error, "%llu bytes are more than a file can have.",
				(unsigned long long)bytes);
	if ((size_t)bytes != bytes)
		return gmem_bad(error, "%llu bytes are more than a process can map.",
				(unsigned long long)bytes);
	r = choose(vm, &opt, &backend, error);
	if (r)
		return r;

	cancel = gmem_begin_uncancelled();
	r = create(vm, bytes, backend, &opt, ret_memory, error);
	gmem_end_uncancelled(cancel);
	return r;
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
	return memory ? memory->backend->mode : GMEM_MODE_AUTO;
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

int gmem_check_file_range(const struct gmem *memory, uint64_t offset, uint64_t bytes,
			  struct gmem_error *error)
{
	int r = gmem_check_range(memory, offset, bytes, error);

	if (!r && (offset | bytes) & (memory->page - 1))
		return gmem_bad(error,
				"%llu bytes at %#llx are not a range of pages of %llu bytes.",
				(unsigned long long)bytes, (unsigned long long)offset,
				(unsigned long long)memory->page);
	return r;
}

PUBLIC int gmem_map(struct gmem *memory, uint64_t offset, uint64_t bytes, uint64_t flags,
		    void **ret_address, struct gmem_error *error)
{
	int prot = PROT_READ | PROT_WRITE, r;
	const struct gmem_sys *sys;
	void *address;

	r = gmem_check_file_range(memory, offset, bytes, error);
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
