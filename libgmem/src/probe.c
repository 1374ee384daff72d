/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finding out what the kernel can do for a VM, by trying: numbers of capabilities have
 * moved, and some promise more than they hold.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static void has(struct gmem_vm *vm, uint64_t cap)
{
	vm->caps |= cap;
}

static void lacks(struct gmem_vm *vm, uint64_t cap, const char *why)
{
	vm->why_not[__builtin_ctzll(cap)] = why;
}

static int check(const struct gmem_vm *vm, int cap)
{
	int r = vm->sys->ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);

	return r < 0 ? 0 : r;
}

/* Failures that say nothing about what there is; all others are the answer 'no'. */
static int no(int r)
{
	switch (r) {
	case -ENOMEM:
	case -EINTR:
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
		return r;
	default:
		return 0;
	}
}

/* mbind() of 6.18 succeeds and does nothing: look through a second mapping. */
static int mbind_reaches(struct gmem_vm *vm, void *one, void *two, const char **ret_why)
{
	const struct gmem_sys *sys = vm->sys;
	unsigned long allowed[GMEM_NODE_WORDS] = {0}, node[GMEM_NODE_WORDS] = {0};
	int mode, r;
	size_t i;

	*ret_why = "mbind() has no effect on a guest_memfd (it has from Linux 6.19 on): "
		   "gmem_prealloc() can place its memory.";
	r = sys->get_mempolicy(NULL, allowed, GMEM_MAX_NODES, NULL, MPOL_F_MEMS_ALLOWED);
	if (r == -ENOSYS)
		*ret_why = "The kernel has no NUMA policies: it was built without CONFIG_NUMA.";
	if (r < 0)
		return no(r);
	for (i = 0; i < GMEM_NODE_WORDS && !allowed[i]; i++)
		;
	if (i == GMEM_NODE_WORDS)
		return 0;
	node[i] = allowed[i] & -allowed[i];
	r = sys->mbind(one, vm->page, MPOL_BIND, node, GMEM_MAX_NODES);
	if (r >= 0)
		r = sys->get_mempolicy(&mode, NULL, 0, two, MPOL_F_ADDR);
	return r < 0 ? no(r) : mode == MPOL_BIND;
}

/* An ioctl that is there refuses an empty range; one that is not is ENOTTY. */
static int converts(struct gmem_vm *vm, int fd)
{
	struct kvm_gmem_convert convert = {0};
	int r;

	r = vm->sys->ioctl(fd, KVM_GMEM_CONVERT_SHARED, &convert);
	if (r == -EINVAL)
		r = vm->sys->ioctl(fd, KVM_GMEM_CONVERT_PRIVATE, &convert);
	return r == -EINVAL ? 1 : no(r);
}

/*
 * The same of mainline's; but a VM whose type has no private memory answers that as well, and
 * so a page is converted, and back.
 */
static int converts_attributes(struct gmem_vm *vm, int fd, const char **ret_why)
{
	struct kvm_memory_attributes2 attributes = {0};
	int r;

	*ret_why = "The kernel does not convert by KVM_SET_MEMORY_ATTRIBUTES2: it is older than "
		   "Linux 7.4, or kvm's gmem_in_place_conversion is off.";
	r = vm->sys->ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &attributes);
	if (r != -EINVAL)
		return no(r);
	*ret_why = "VMs of this type have no private memory that KVM_SET_MEMORY_ATTRIBUTES2 could "
		   "convert: that takes SEV-SNP, TDX or KVM_X86_SW_PROTECTED_VM.";
	attributes.size = vm->page;
	attributes.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE;
	r = vm->sys->ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &attributes);
	if (r < 0)
		return no(r);
	attributes.attributes = 0;
	r = vm->sys->ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &attributes);
	return r < 0 ? no(r) : 1;
}

static int tells_ranges(struct gmem_vm *vm, int fd)
{
	struct kvm_gmem_range range;
	struct kvm_gmem_get_ranges get = {.size = vm->page, .ranges = (uintptr_t)&range, .nr = 1};
	int r = vm->sys->ioctl(fd, KVM_GMEM_GET_RANGES, &get);

	return r < 0 ? no(r) : 1;
}

static int zeroes(struct gmem_vm *vm, int fd)
{
	int r = vm->sys->fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, vm->page);

	return r < 0 ? no(r) : 1;
}

/* A link of the memory, in this VM as in any other; or, once it is frozen, a clone. */
static int gives(struct gmem_vm *vm, unsigned long request, int fd)
{
	struct kvm_gmem_link from = {.fd = (uint32_t)fd};
	int r = vm->sys->ioctl(vm->fd, request, &from);

	if (r < 0)
		return no(r);
	vm->sys->close(r);
	return 1;
}

/* Freezes fd. */
static int clones(struct gmem_vm *vm, int fd)
{
	struct kvm_gmem_freeze freeze = {0};
	int r = vm->sys->ioctl(fd, KVM_GMEM_FREEZE, &freeze);

	return r < 0 ? no(r) : gives(vm, KVM_GMEM_CLONE, fd);
}

/* fd can be mapped, and is, twice. */
static int probe_mapped(struct gmem_vm *vm, int fd, void *one, void *two)
{
	int ranges, convert, attributes, policy, zero, link, clone;
	const char *no_policy, *no_attributes;

	if ((ranges = tells_ranges(vm, fd)) < 0)
		return ranges;
	if ((convert = converts(vm, fd)) < 0)
		return convert;
	if ((attributes = converts_attributes(vm, fd, &no_attributes)) < 0)
		return attributes;
	if ((policy = mbind_reaches(vm, one, two, &no_policy)) < 0)
		return policy;
	if ((zero = zeroes(vm, fd)) < 0)
		return zero;
	if ((link = gives(vm, KVM_GMEM_LINK, fd)) < 0)
		return link;
	if ((clone = clones(vm, fd)) < 0)
		return clone;

	if (ranges)
		has(vm, GMEM_CAP_RANGES);
	else
		lacks(vm, GMEM_CAP_RANGES,
		      "The kernel does not tell what is private: it has no KVM_GMEM_GET_RANGES.");
	if (!convert)
		lacks(vm, GMEM_CAP_INPLACE,
		      "The kernel cannot convert in place: it has no KVM_GMEM_CONVERT_PRIVATE.");
	else if (!ranges)
		lacks(vm, GMEM_CAP_INPLACE,
		      "The kernel converts in place, but does not tell what is private.");
	else
		has(vm, GMEM_CAP_INPLACE);
	if (attributes)
		has(vm, GMEM_CAP_ATTRIBUTES);
	else
		lacks(vm, GMEM_CAP_ATTRIBUTES, no_attributes);
	if (policy)
		has(vm, GMEM_CAP_POLICY);
	else
		lacks(vm, GMEM_CAP_POLICY, no_policy);
	if (zero)
		has(vm, GMEM_CAP_ZERO);
	else
		lacks(vm, GMEM_CAP_ZERO,
		      "The kernel cannot zero a guest_memfd in place (FALLOC_FL_ZERO_RANGE).");
	if (link)
		has(vm, GMEM_CAP_LINK);
	else
		lacks(vm, GMEM_CAP_LINK,
		      "The kernel cannot give memory to another VM (KVM_GMEM_LINK).");
	if (clone)
		has(vm, GMEM_CAP_CLONE);
	else
		lacks(vm, GMEM_CAP_CLONE,
		      "The kernel cannot clone memory (KVM_GMEM_FREEZE, KVM_GMEM_CLONE).");
	return 0;
}

/* Without a mapping there is none of this. */
static void lacks_mapped(struct gmem_vm *vm, const char *why)
{
	lacks(vm, GMEM_CAP_INPLACE, why);
	lacks(vm, GMEM_CAP_ATTRIBUTES, why);
	lacks(vm, GMEM_CAP_SHARED, why);
	lacks(vm, GMEM_CAP_RANGES, why);
	lacks(vm, GMEM_CAP_POLICY, why);
	lacks(vm, GMEM_CAP_ZERO, why);
	lacks(vm, GMEM_CAP_LINK, why);
	lacks(vm, GMEM_CAP_CLONE, why);
}

/*
 * A guest_memfd of one page with those flags, or what a kernel says that does not know
 * them, or has no guest_memfd (ENOTTY). Any other errno is a failure, and no answer.
 */
static int scratch(struct gmem_vm *vm, uint64_t flags, int *ret_fd, struct gmem_error *error)
{
	int fd = gmem_create_fd(vm, vm->page, flags);

	if (fd == -EINVAL || fd == -ENOTTY || fd == -EOPNOTSUPP || fd == -ENODEV) {
		*ret_fd = fd;
		return 0;
	}
	if (fd < 0)
		return gmem_fail(error, GMEM_STEP_PROBE, fd, GMEM_NOWHERE, GMEM_NOWHERE,
				 fd == -EBADF
					 ? "The descriptor is not open."
					 : "Cannot make a guest_memfd to try things on (errno %d).",
				 -fd);
	*ret_fd = fd;
	return 0;
}

static const char *no_fd(int error)
{
	return error == -ENOTTY ? "The kernel has no guest_memfd: it was built without "
				  "CONFIG_KVM_GUEST_MEMFD (KVM_PRIVATE_MEM before Linux 6.18)."
				: "VMs of this type cannot have a guest_memfd.";
}

static int probe_dual(struct gmem_vm *vm, struct gmem_error *error)
{
	int r, fd;

	if (!(check(vm, KVM_CAP_MEMORY_ATTRIBUTES) & KVM_MEMORY_ATTRIBUTE_PRIVATE)) {
		lacks(vm, GMEM_CAP_DUAL,
		      vm->caps & GMEM_CAP_ATTRIBUTES
			      ? "While the kernel converts by KVM_SET_MEMORY_ATTRIBUTES2 there is "
				"no private memory beside shared memory."
			      : "VMs of this type have no private memory beside shared memory: "
				"that takes SEV-SNP, TDX or KVM_X86_SW_PROTECTED_VM.");
		return 0;
	}
	vm->for_private = true;
	r = scratch(vm, 0, &fd, error);
	if (r)
		return r;
	if (fd < 0) {
		lacks(vm, GMEM_CAP_DUAL, no_fd(fd));
		return 0;
	}
	vm->sys->close(fd);
	has(vm, GMEM_CAP_DUAL);
	return 0;
}

static int probe_file(struct gmem_vm *vm, int fd, struct gmem_error *error)
{
	void *one, *two;
	int r;

	r = vm->sys->mmap(fd, 0, vm->page, PROT_READ, &one);
	if (r >= 0) {
		r = vm->sys->mmap(fd, 0, vm->page, PROT_READ, &two);
		if (r >= 0) {
			r = probe_mapped(vm, fd, one, two);
			vm->sys->munmap(two, vm->page);
		}
		vm->sys->munmap(one, vm->page);
	}
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_PROBE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot find out what a guest_memfd can do (errno %d).", -r);
	return 0;
}

/* A file that can be mapped, and is private at first: all that it is good for is conversion. */
static int probe_private(struct gmem_vm *vm, int fd, struct gmem_error *error)
{
	static const char why[] =
		"A guest_memfd of this type of VM can be mapped, but cannot begin "
		"as shared (INIT_SHARED).";
	const char *unused;
	int r;

	r = converts_attributes(vm, fd, &unused);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_PROBE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Cannot find out what a guest_memfd can do (errno %d).", -r);
	if (!r) {
		lacks_mapped(vm, why);
		return 0;
	}
	lacks(vm, GMEM_CAP_SHARED, why);
	return probe_file(vm, fd, error);
}

/* There is none that can be mapped and begins as shared, for that reason: what is there? */
static int probe_unmapped(struct gmem_vm *vm, int reason, struct gmem_error *error)
{
	int r, fd;

	lacks_mapped(vm, no_fd(reason));
	if (reason == -ENOTTY)
		return 0;
	r = scratch(vm, GUEST_MEMFD_FLAG_MMAP, &fd, error);
	if (r)
		return r;
	if (fd >= 0) {
		r = probe_private(vm, fd, error);
	} else {
		r = scratch(vm, 0, &fd, error);
		if (fd >= 0)
			lacks_mapped(vm, "The kernel's guest_memfd cannot be mapped (Linux 6.18 or "
					 "gmem's series), or not for VMs of this type.");
	}
	if (fd >= 0)
		vm->sys->close(fd);
	return r;
}

static int probe_mappable(struct gmem_vm *vm, struct gmem_error *error)
{
	int r, fd;

	r = scratch(vm, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED, &fd, error);
	if (r)
		return r;
	if (fd < 0)
		return probe_unmapped(vm, fd, error);
	has(vm, GMEM_CAP_SHARED);
	r = probe_file(vm, fd, error);
	vm->sys->close(fd);
	return r;
}

/*
 * Is the type of this VM one that is for private memory, whether or not there is any? It has
 * one address space then, and others have a second one, for SMM. Where KVM is built without
 * SMM this is not known.
 */
static bool is_for_private(const struct gmem_vm *vm)
{
	return check(vm, KVM_CAP_MULTI_ADDRESS_SPACE) == 1;
}

int gmem_probe(struct gmem_vm *vm, struct gmem_error *error)
{
	int r;

	vm->page = (uint64_t)sysconf(_SC_PAGESIZE);
	r = vm->sys->ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_USER_MEMORY2);
	if (r == -EBADF || r == -ENOTTY || r == -EINVAL)
		return gmem_fail(error, GMEM_STEP_PROBE, -EINVAL, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Descriptor %d is not %s (errno %d).", vm->fd,
				 r == -EBADF ? "open" : "that of a VM", -r);
	if (r < 0)
		return gmem_fail(error, GMEM_STEP_PROBE, r, GMEM_NOWHERE, GMEM_NOWHERE,
				 r == -EIO ? "Another process created the VM (errno %d)."
					   : "The VM does not answer (errno %d).",
				 -r);
	/* /dev/kvm knows extensions too; but only it has a version. */
	if (vm->sys->ioctl(vm->fd, KVM_GET_API_VERSION, NULL) >= 0)
		return gmem_fail(error, GMEM_STEP_PROBE, -EINVAL, GMEM_NOWHERE, GMEM_NOWHERE,
				 "Descriptor %d is /dev/kvm, not that of a VM.", vm->fd);
	if (!r) {
		static const char old[] =
			"The kernel is too old: it has no KVM_SET_USER_MEMORY_REGION2 (Linux 6.8).";

		lacks_mapped(vm, old);
		lacks(vm, GMEM_CAP_DUAL, old);
	} else {
		vm->for_private = is_for_private(vm);
		r = probe_mappable(vm, error);
		if (!r)
			r = probe_dual(vm, error);
		if (r)
			return r;
	}
	if (vm->caps & (GMEM_CAP_INPLACE | GMEM_CAP_ATTRIBUTES | GMEM_CAP_DUAL))
		has(vm, GMEM_CAP_PRIVATE);
	else
		lacks(vm, GMEM_CAP_PRIVATE,
		      "Neither this kernel, in place, nor the type of this VM, with two kinds of "
		      "memory, has private memory.");
	if (check(vm, KVM_CAP_USER_MEMORY))
		has(vm, GMEM_CAP_PLAIN);
	else
		lacks(vm, GMEM_CAP_PLAIN,
		      "The kernel has no KVM_SET_USER_MEMORY_REGION (KVM_CAP_USER_MEMORY).");
	if (check(vm, KVM_CAP_MEMORY_FAULT_INFO))
		has(vm, GMEM_CAP_MEMORY_FAULT);
	else
		lacks(vm, GMEM_CAP_MEMORY_FAULT,
		      "The kernel does not say which memory a vCPU faulted on "
		      "(KVM_CAP_MEMORY_FAULT_INFO).");
	if (check(vm, KVM_CAP_EXIT_HYPERCALL) & (1 << 12))
		has(vm, GMEM_CAP_MAP_GPA_RANGE);
	else
		lacks(vm, GMEM_CAP_MAP_GPA_RANGE,
		      "The kernel does not hand out KVM_HC_MAP_GPA_RANGE "
		      "(KVM_CAP_EXIT_HYPERCALL).");
	return 0;
}
