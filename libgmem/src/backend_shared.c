/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest_memfd all of which is shared, always. */
#include "backend.h"

int gmem_create_mappable(struct gmem *memory, uint32_t initial, struct gmem_error *error)
{
	uint64_t flags = GUEST_MEMFD_FLAG_MMAP;

	if (initial == GMEM_STATE_SHARED)
		flags |= GUEST_MEMFD_FLAG_INIT_SHARED;
	return gmem_create_guest_memfd(memory, flags, error);
}

const struct gmem_backend gmem_shared = {
	.mode = GMEM_MODE_SHARED,
	.cap = GMEM_CAP_SHARED,
	.name = "shared",
	.create = gmem_create_mappable,
	.map = gmem_map_for_slots,
	.nodes = gmem_kernel_runs,
};
