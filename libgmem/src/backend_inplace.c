/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Conversion in place by KVM_GMEM_CONVERT_...: the kernel keeps the states, and tells them. */
#include "backend.h"

static int convert(const struct piece *p, uint32_t to, uint64_t flags, uint64_t *bad)
{
	const struct gmem *memory = p->memory;
	struct kvm_gmem_convert convert = {
		.offset = p->offset,
		.size = p->bytes,
		.error_offset = p->offset,
		.flags = flags & GMEM_CONVERT_ZERO ? KVM_GMEM_CONVERT_ZERO : 0,
	};
	int r;

	r = memory->vm->sys->ioctl(memory->fd,
				   to == GMEM_STATE_PRIVATE ? KVM_GMEM_CONVERT_PRIVATE
							    : KVM_GMEM_CONVERT_SHARED,
				   &convert);
	*bad = convert.error_offset;
	return r;
}

int gmem_kernel_runs(const struct gmem *memory, uint64_t offset, uint64_t end, bool by_node,
		     struct kvm_gmem_range *runs, uint32_t nr)
{
	struct kvm_gmem_get_ranges get = {
		.offset = offset,
		.size = end - offset,
		.ranges = (uintptr_t)runs,
		.nr = nr,
		.flags = by_node ? KVM_GMEM_RANGES_BY_NODE : 0,
	};
	int r;

	do
		r = memory->vm->sys->ioctl(memory->fd, KVM_GMEM_GET_RANGES, &get);
	while (r == -EINTR);
	return r < 0 ? r : (int)get.nr;
}

const struct gmem_backend gmem_inplace = {
	.mode = GMEM_MODE_INPLACE,
	.cap = GMEM_CAP_INPLACE,
	.name = "in-place",
	.create = gmem_create_mappable,
	.convert = convert,
	.zeroes = true,
	.runs = gmem_kernel_runs,
	.nodes = gmem_kernel_runs,
};
